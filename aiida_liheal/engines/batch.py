"""The jobs of all engines: what they take and give alike, which the verb `label` counts on."""

from __future__ import annotations

import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida.orm import Dict, ProcessNode, RemoteData
from ase import Atoms

from aiida_liheal.calculations.common import define_options, job_validator
from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines.settings import explain_each
from aiida_liheal.structures.settings import Settings

__all__ = ('BatchCalculation', 'PythonBatchCalculation')


class BatchCalculation(CalcJob):
    """A job that labels a batch of frames. Each engine has its own, which says what is special about it."""

    #: Name of the engine; the entry points of job and parser are `liheal.` and this.
    ENGINE: ClassVar[str]
    #: Model of its settings.
    SETTINGS: ClassVar[type[Settings]]
    #: What its code has to be.
    CODE: ClassVar[str]
    #: Its script in `aiida_liheal.runners`.
    RUNNER: ClassVar[str]
    #: What of the folder of an interrupted job the next one needs, to go on.
    KEPT: ClassVar[str]
    #: Pattern of the files of which the runner leaves one for each frame that is done; if empty, its status has them.
    RECORDS: ClassVar[str] = ''
    #: Whether its program is started by mpirun.
    WITH_MPI: ClassVar[bool] = False
    #: Where the runner says how it ended.
    STATUS = 'status.json'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Inputs, outputs and exit codes."""
        super().define(spec)
        define_options(spec, f'liheal.{cls.ENGINE}', withmpi=cls.WITH_MPI)
        spec.inputs['code'].help = cls.CODE
        spec.inputs.validator = job_validator(cls.explain_inputs)
        spec.input('frames', valid_type=FramesData, help='The structures to label; labels that they have are ignored.')
        spec.input(
            'settings', valid_type=Dict, help=f'Settings; keys carry their units (see `{cls.SETTINGS.__name__}`).'
        )
        spec.input(
            'parent_folder',
            valid_type=RemoteData,
            required=False,
            help='Folder of an interrupted job; what it finished of the same frames and settings is not done again.',
        )
        spec.output(
            'frames',
            valid_type=FramesData,
            required=False,
            help='The converged frames: energies in eV, those that the forces in eV/Å are the gradient of (free '
            'energies), virials in eV; `source_index` says which frame of the input each one was.',
        )
        spec.output(
            'summary',
            valid_type=Dict,
            help='Frames given, made and dropped with their causes; seconds a frame; versions. What is known of each '
            'labelled frame (`seconds`, `scf_steps`) is in `extra` of `frames`.',
        )
        spec.exit_code(
            302,
            'ERROR_NO_OUTPUT',
            message='the job left no readable {name} ({cause}); see label.err and the scheduler output of the job',
            invalidates_cache=True,
        )
        spec.exit_code(
            400,
            'ERROR_INTERRUPTED',
            message='the job ended after {n_done} of {n_given} frames ({cause}); the finished ones are in `frames`, '
            'and with its folder as `parent_folder` the next job does the others',
            invalidates_cache=True,
        )
        spec.exit_code(
            500,
            'ERROR_NOTHING_CONVERGED',
            message='none of the {n_given} frames gave labels; the first cause: {cause}',
            invalidates_cache=True,
        )

    @classmethod
    def check_frame(cls, atoms: Atoms, settings: Any) -> None:
        """Raise ValueError with the cause if a frame cannot be labelled with these settings."""
        raise NotImplementedError

    @classmethod
    def explain_batch(cls, frames: FramesData, settings: Dict) -> str | None:
        """What is wrong with a batch and its settings; None if nothing is."""
        try:
            checked = cls.SETTINGS.read(settings.get_dict())
        except ValueError as error:
            return f'settings: {error}'
        return explain_each(frames.get_frames(), lambda atoms: cls.check_frame(atoms, checked))

    @classmethod
    def explain_inputs(cls, inputs: Any, _: Any) -> str | None:
        """What is wrong with the inputs of the job; None if nothing is."""
        if 'settings' not in inputs or 'frames' not in inputs:  # a work chain that exposes them checks them itself
            return None
        problem = cls.explain_batch(inputs['frames'], inputs['settings'])
        if problem:
            return problem
        margin = getattr(cls.SETTINGS.read(inputs['settings'].get_dict()), 'margin_s', 0.0)
        walltime = inputs.get('metadata', {}).get('options', {}).get('max_wallclock_seconds')
        if walltime is not None and walltime <= margin:
            return f'max_wallclock_seconds is {walltime}, not above margin_s ({margin} s)'
        return None

    @classmethod
    def is_valid_cache(cls, node: ProcessNode) -> bool:
        """Only a batch that dropped nothing is taken from the cache: why one was dropped may be gone the next time.

        A frame that ran out of memory or time, say, is tried again with its batch.
        """
        summary = node.base.links.get_outgoing(link_label_filter='summary').first()
        return super().is_valid_cache(node) and summary is not None and summary.node.get_dict()['n_dropped'] == 0

    @classmethod
    def count_done(cls, folder: Path) -> int:
        """How many frames a job has done, from its folder on this machine. Raises OSError, ValueError or KeyError."""
        if cls.RECORDS:
            return sum(1 for _ in folder.glob(cls.RECORDS))
        return len(json.loads((folder / cls.STATUS).read_text(encoding='utf-8'))['frames'])

    def read_settings(self) -> Any:
        """The settings, checked."""
        return self.SETTINGS.read(self.inputs.settings.get_dict())

    def make_calcinfo(self, folder: Folder) -> CalcInfo:
        """Write the runner; bring what an interrupted job finished, and take back how the runner ended.

        A status is there from the beginning: of a job that was killed before its runner began it says so.
        """
        with folder.open(self.STATUS, 'w', encoding='utf-8') as handle:
            json.dump({'has_begun': False, 'error': None, 'stopped_by': None, 'wall_s': 0.0, 'frames': []}, handle)
        with folder.open(self.RUNNER, 'wb') as handle:
            handle.write((files('aiida_liheal.runners') / self.RUNNER).read_bytes())
        calcinfo = CalcInfo()
        if 'parent_folder' in self.inputs:
            parent = self.inputs.parent_folder
            calcinfo.remote_copy_list = [(parent.computer.uuid, f'{parent.get_remote_path()}/{self.KEPT}', '.')]
        calcinfo.retrieve_list = [self.STATUS, 'label.out', 'label.err']
        calcinfo.provenance_exclude_list = [self.STATUS]
        return calcinfo


class PythonBatchCalculation(BatchCalculation):
    """A batch whose code is a Python, which runs the runner: `frames.npz` in, `labels.npz` out."""

    #: The labels that the runner leaves.
    LABELS = 'labels.npz'

    @classmethod
    def explain_inputs(cls, inputs: Any, port: Any) -> str | None:
        """What is wrong with the inputs of the job; None if nothing is."""
        if inputs.get('metadata', {}).get('options', {}).get('withmpi'):
            return 'withmpi is True; allowed is False: mpirun would start the whole batch once for each rank'
        return super().explain_inputs(inputs, port)

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the frames, the settings, what the job is allowed, and the runner."""
        buffer = io.BytesIO()
        self.inputs.frames.get_frames().save(buffer)
        with folder.open('frames.npz', 'wb') as handle:
            handle.write(buffer.getvalue())
        for name, content in (
            ('settings.json', self.read_settings().model_dump()),
            ('job.json', {'walltime_s': self.node.get_option('max_wallclock_seconds')}),
        ):
            with folder.open(name, 'w', encoding='utf-8') as handle:
                json.dump(content, handle, indent=1)
        calcinfo = self.make_calcinfo(folder)
        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = [self.RUNNER]
        codeinfo.stdout_name = 'label.out'
        codeinfo.stderr_name = 'label.err'
        calcinfo.codes_info = [codeinfo]
        calcinfo.retrieve_temporary_list = [self.LABELS]
        # the frames are a node of their own
        calcinfo.provenance_exclude_list += ['frames.npz']
        return calcinfo
