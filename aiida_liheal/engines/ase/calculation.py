"""The job that labels a batch of frames with a calculator of ASE by name; for methods development."""

from __future__ import annotations

import io
import json
from importlib.resources import files
from typing import Any

from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida.orm import Dict
from ase.calculators.calculator import names as calculator_names
from pydantic import Field, field_validator

from aiida_liheal.calculations.common import define_options, job_validator
from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines.batch import define_batch
from aiida_liheal.structures.checks import check_no_overlap
from aiida_liheal.structures.settings import Settings

__all__ = ('AseCalculation', 'AseSettings')


class AseSettings(Settings):
    """Settings of a batch with a calculator of ASE."""

    calculator: str = Field('emt', description='Name of a calculator of ASE, such as emt or lj (Lennard-Jones).')
    parameters: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description='Keywords of the calculator, in the units of ASE (eV, Å).'
    )
    min_distance_A: float = Field(
        0.5, gt=0, description='Frames with atoms closer than this, in Å, are refused before anything is submitted.'
    )

    @field_validator('calculator')
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in calculator_names:
            raise ValueError(f'ASE has no such calculator; known are {", ".join(sorted(calculator_names))}')
        return name


class AseCalculation(CalcJob):
    """Label a batch of frames with a calculator of ASE by name, one after another."""

    _RUNNER = 'ase_label.py'
    STATUS = 'status.json'
    LABELS = 'labels.npz'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Inputs, outputs and exit codes."""
        super().define(spec)
        define_options(spec, 'liheal.ase')
        spec.inputs['code'].help = 'A Python in which ASE is installed, and what the calculator needs.'
        define_batch(spec, 'AseSettings')
        spec.inputs.validator = job_validator(cls._validate_inputs)
        spec.exit_code(
            301,
            'ERROR_CALCULATOR',
            message='the calculator cannot be made: {cause}; see its parameters, and what is installed in the Python',
            invalidates_cache=True,
        )

    @staticmethod
    def explain_batch(frames: FramesData, settings: Dict) -> str | None:
        """What is wrong with a batch and its settings; None if nothing is."""
        try:
            checked = AseSettings.read(settings.get_dict())
        except ValueError as error:
            return f'settings: {error}'
        if len(frames) == 0:
            return 'the shard holds no frames; there is nothing to label'
        for index, atoms in enumerate(frames.get_frames()):
            try:
                check_no_overlap(atoms, checked.min_distance_A)
            except ValueError as error:
                return f'frame {index}: {error}'
        return None

    @classmethod
    def _validate_inputs(cls, inputs: Any, _: Any) -> str | None:
        if 'settings' in inputs and 'frames' in inputs:  # a work chain that exposes them checks them itself
            return cls.explain_batch(inputs['frames'], inputs['settings'])
        return None

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the frames, the settings and the runner."""
        buffer = io.BytesIO()
        self.inputs.frames.get_frames().save(buffer)
        settings = AseSettings.read(self.inputs.settings.get_dict())
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
            calcinfo.remote_copy_list = [(parent.computer.uuid, f'{parent.get_remote_path()}/{self.LABELS}', '.')]
        calcinfo.retrieve_list = [self.STATUS, 'label.out', 'label.err']
        calcinfo.retrieve_temporary_list = [self.LABELS]
        # the frames are a node of their own
        calcinfo.provenance_exclude_list = ['frames.npz']
        return calcinfo
