"""The job that labels a batch of frames with GPAW: free energy, forces and virial of each."""

from __future__ import annotations

import io
import json
from importlib.resources import files
from typing import Any, Literal

from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida.engine.processes.calcjobs.calcjob import validate_calc_job
from aiida.orm import Dict
from ase.data import atomic_numbers
from pydantic import Field

from aiida_liheal.calculations.common import define_options
from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines.batch import define_batch
from aiida_liheal.runners.gpaw_label import kpoint_mesh
from aiida_liheal.structures.checks import check_no_overlap
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.settings import Settings

__all__ = ('GpawCalculation', 'GpawSettings', 'explain_frames')


class GpawSettings(Settings):
    """Settings of `runners/gpaw_label.py`: plane waves, PAW, Methfessel-Paxton smearing, no point-group symmetry."""

    cutoff_eV: float = Field(340.0, ge=100, le=2000, description='Kinetic energy cut-off of the plane waves in eV.')
    kpoint_spacing_per_A: float = Field(
        0.16,
        gt=0,
        le=2,
        description='Largest distance of k-points in 1/Å, with the factor of 2 pi (as KSPACING of VASP). The mesh '
        'follows the cell; directions with vacuum get one point. 0.16 or finer for labels.',
    )
    vacuum_gap_A: float = Field(
        7.0,
        gt=0,
        description='A direction in which at least so many Å are empty gets one k-point; one that is not periodic '
        'must have them.',
    )
    xc: Literal['PBE', 'LDA', 'RPBE', 'revPBE'] = Field('PBE', description='Exchange and correlation functional.')
    smearing_eV: float = Field(0.2, gt=0, le=2, description='Width of the smearing in eV.')
    smearing_order: int = Field(1, ge=0, le=4, description='Order of the Methfessel-Paxton smearing.')
    eigensolver: Literal['rmm-diis', 'davidson', 'ppcg'] = Field('rmm-diis', description='Eigensolver of GPAW.')
    energy_tolerance_eV: float = Field(
        5e-4, gt=0, le=0.1, description='Change of the energy over three steps, in eV per valence electron.'
    )
    density_tolerance: float = Field(
        1e-3, gt=0, le=0.1, description='Change of the density, in electrons per valence electron.'
    )
    eigenstates_tolerance_eV2: float = Field(
        1e-5, gt=0, le=1e-2, description='Squared residual of the eigenstates, in eV^2 per valence electron.'
    )
    max_scf_steps: int = Field(60, ge=1, le=1000, description='A frame that needs more steps is recorded and left out.')
    min_distance_A: float = Field(
        1.2, gt=0, description='Frames with atoms closer than this, in Å, are refused before anything is submitted.'
    )
    n_workers: int | None = Field(
        None, ge=1, le=4096, description='Frames computed side by side, one thread each; the cores available if null.'
    )


def explain_frames(frames: Frames, settings: GpawSettings) -> str | None:
    """What is wrong with frames that are to be labelled, naming the frame; None if nothing is."""
    if len(frames) == 0:
        return 'the shard holds no frames; there is nothing to label'
    unknown = sorted(symbol for symbol in frames.elements if atomic_numbers.get(symbol, 0) < 1)
    if unknown:
        return f'{", ".join(unknown)} is no element; allowed are chemical symbols'
    for index, atoms in enumerate(frames):
        try:
            check_no_overlap(atoms, settings.min_distance_A)
            kpoint_mesh(atoms, settings.kpoint_spacing_per_A, settings.vacuum_gap_A)
        except ValueError as error:
            return f'frame {index}: {error}'
    return None


class GpawCalculation(CalcJob):
    """Label a batch of frames with GPAW, several side by side, one thread each."""

    _RUNNER = 'gpaw_label.py'
    #: What the runner leaves behind.
    STATUS = 'status.json'
    LABELS = 'labels.npz'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Inputs, outputs and exit codes."""
        super().define(spec)
        define_options(spec, 'liheal.gpaw')
        spec.inputs['code'].help = 'A Python in which GPAW is installed.'
        define_batch(spec, 'GpawSettings')
        spec.inputs.validator = cls._validate_inputs
        spec.exit_code(
            301,
            'ERROR_GPAW_MISSING',
            message='GPAW is missing: {cause}; give a code whose Python has it (extra `engines`)',
            invalidates_cache=True,
        )
        spec.exit_code(
            303,
            'ERROR_SETUP_MISSING',
            message='a PAW setup is missing: {cause}; install it there or leave the element out',
            invalidates_cache=True,
        )

    @staticmethod
    def explain_batch(frames: FramesData, settings: Dict) -> str | None:
        """What is wrong with a batch and its settings; None if nothing is."""
        try:
            checked = GpawSettings.read(settings.get_dict())
        except ValueError as error:
            return f'settings: {error}'
        return explain_frames(frames.get_frames(), checked)

    @classmethod
    def _validate_inputs(cls, inputs: Any, port: Any) -> str | None:
        if 'settings' in inputs and 'frames' in inputs:  # a work chain that exposes them checks them itself
            problem = cls.explain_batch(inputs['frames'], inputs['settings'])
            if problem:
                return problem
        return validate_calc_job(inputs, port)

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the frames, the settings and the runner."""
        settings = GpawSettings.read(self.inputs.settings.get_dict())
        buffer = io.BytesIO()
        frames = self.inputs.frames.get_frames()
        frames.save(buffer)
        with folder.open('frames.npz', 'wb') as handle:
            handle.write(buffer.getvalue())
        with folder.open('settings.json', 'w', encoding='utf-8') as handle:
            json.dump(settings.model_dump(), handle, indent=1)
        with folder.open(self._RUNNER, 'wb') as handle:
            handle.write((files('aiida_liheal.runners') / self._RUNNER).read_bytes())

        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = [self._RUNNER]
        codeinfo.stdout_name = 'label.out'
        codeinfo.stderr_name = 'label.err'
        calcinfo = CalcInfo()
        calcinfo.codes_info = [codeinfo]
        if 'parent_folder' in self.inputs:
            parent = self.inputs.parent_folder
            calcinfo.remote_copy_list = [(parent.computer.uuid, f'{parent.get_remote_path()}/labels', '.')]
        calcinfo.retrieve_list = [self.STATUS, 'label.out', 'label.err']
        calcinfo.retrieve_temporary_list = [self.LABELS]
        # the frames are a node of their own
        calcinfo.provenance_exclude_list = ['frames.npz']
        return calcinfo
