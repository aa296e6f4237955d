"""The job that labels a batch of frames with VASP in one allocation: free energy, forces and virial of each."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from typing import Any

from aiida.common.datastructures import CalcInfo
from aiida.common.escaping import escape_for_bash
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from aiida.orm import Data
from ase import Atoms

from aiida_liheal.engines.batch import BatchCalculation
from aiida_liheal.engines.vasp.settings import (
    VaspSettings,
    check_frame,
    incar_text,
    plan_frame,
    relevant_tags,
)

__all__ = ('VaspBatchCalculation', 'frame_name')

#: Node type of `PotcarData` of aiida-vasp, which is optional and therefore not imported.
POTCAR_TYPE = 'data.vasp.potcar.PotcarData.'


def frame_name(index: int) -> str:
    """The name of a frame of a batch in the files of the job."""
    return f'{index:05d}'


class VaspBatchCalculation(BatchCalculation):
    """Label a batch of frames with VASP in one allocation, one after another or several side by side.

    Potentials (POTCAR) come from `PotcarData` of aiida-vasp. Their text goes to the working folder on the computer
    and nowhere else: it is in no input of the node, is not retrieved, and is in no exported archive.
    """

    ENGINE = 'vasp'
    SETTINGS = VaspSettings
    CODE = 'VASP, as for aiida-vasp: vasp_std, with what has to be loaded in its prepend text.'
    RUNNER = 'vasp_label.py'
    #: A folder with what each frame that is done left.
    KEPT = 'done'
    RECORDS = 'done/*.json'
    WITH_MPI = True

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Inputs, outputs and exit codes."""
        super().define(spec)
        spec.input_namespace(
            'potentials',
            valid_type=Data,
            dynamic=True,
            validator=cls._validate_potentials,
            help='The potential of each element by its symbol: `PotcarData` of aiida-vasp.',
        )
        spec.exit_code(
            301,
            'ERROR_VASP_DOES_NOT_START',
            message='VASP does not start: {cause}; see the code, its prepend text and mpirun of the computer',
            invalidates_cache=True,
        )

    @classmethod
    def check_frame(cls, atoms: Atoms, settings: Any) -> None:
        """Atoms are not too close, the cell is right-handed, and there is vacuum where it is open."""
        check_frame(atoms, settings)

    @staticmethod
    def _validate_potentials(potentials: Any, _: Any) -> str | None:
        for symbol, node in (potentials or {}).items():
            if node.node_type != POTCAR_TYPE:
                return f'{symbol} is {type(node).__name__}; allowed is PotcarData of aiida-vasp'
            element = node.base.attributes.get('element', None)
            if element != symbol:
                return f'{symbol} is a potential of {element}; the name has to be the symbol of its element'
        return None

    @classmethod
    def explain_inputs(cls, inputs: Any, port: Any) -> str | None:
        """What is wrong with the inputs of the job; None if nothing is."""
        problem = super().explain_inputs(inputs, port)
        if problem:
            return problem
        if 'frames' in inputs:
            missing = sorted(set(inputs['frames'].elements) - set(inputs.get('potentials') or {}))
            if missing:
                return f'potentials: none of {", ".join(missing)}, which the frames have; give a PotcarData for each'
        return cls._explain_ranks(inputs) if 'settings' in inputs else None

    @staticmethod
    def _explain_ranks(inputs: Any) -> str | None:
        settings = VaspSettings.read(inputs['settings'].get_dict())
        options = inputs.get('metadata', {}).get('options', {})
        each: int | None = settings.ranks_per_frame
        if not options.get('withmpi', True):
            each = 1  # VASP is started as it is
        else:
            resources = options.get('resources') or {}
            per_machine = resources.get('num_mpiprocs_per_machine')
            n_ranks = resources.get('tot_num_mpiprocs')
            if n_ranks is None and per_machine is not None:
                n_ranks = resources.get('num_machines', 1) * per_machine
            if n_ranks is not None:  # else only the scheduler knows
                wanted = settings.frames_at_once * (each or 1)
                if wanted > n_ranks:
                    return (
                        f'{settings.frames_at_once} frames side by side (frames_at_once) of {each or 1} ranks '
                        f'(ranks_per_frame) need {wanted} ranks; the job has {n_ranks} (metadata.options.resources)'
                    )
                each = each or n_ranks // settings.frames_at_once
        if each is not None and (each % settings.kpar or settings.kpar * settings.ncore > each):
            return (
                f'kpar {settings.kpar} and ncore {settings.ncore}: a frame has {each} ranks, which have to be a '
                'multiple of kpar, and not fewer than kpar x ncore'
            )
        return None

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the plan of the batch, the potentials and the runner."""
        settings: VaspSettings = self.read_settings()
        images = list(self.inputs.frames.get_frames())
        symbols = sorted({symbol for atoms in images for symbol in atoms.symbols})
        potentials = {symbol: self.inputs.potentials[symbol] for symbol in symbols}
        hashes = {symbol: node.sha512 for symbol, node in potentials.items()}
        frames = [plan_frame(frame_name(index), atoms, settings) for index, atoms in enumerate(images)]
        relevant = json.dumps([relevant_tags(settings), hashes], sort_keys=True)
        for frame in frames:
            text = '\0'.join((frame['poscar'], frame['kpoints'], relevant))
            frame['fingerprint'] = hashlib.sha256(text.encode()).hexdigest()
        frames.sort(key=lambda frame: -frame['cost'])
        plan = {
            'command': self._command(settings),
            'incar': incar_text(settings),
            'frames': frames,
            'frames_at_once': settings.frames_at_once,
            'walltime_s': self.node.get_option('max_wallclock_seconds'),
            'margin_s': settings.margin_s,
            'max_frame_s': settings.max_frame_s,
        }
        with folder.open('batch.json', 'w', encoding='utf-8') as handle:
            json.dump(plan, handle)
        for symbol, node in potentials.items():
            with folder.open(f'POTCAR.{symbol}', 'wb') as handle:
                handle.write(node.get_content())

        calcinfo = self.make_calcinfo(folder)
        # AiiDA would start VASP itself for a code named here, once; the runner starts it for each frame. The prepend
        # text of the code is in the script all the same, as the code is an input
        calcinfo.codes_info = []
        calcinfo.append_text = f'{escape_for_bash(settings.python)} {self.RUNNER} > label.out 2> label.err'
        calcinfo.retrieve_temporary_list = [self.KEPT]
        # the frames are a node of their own, and the potentials are licensed
        calcinfo.provenance_exclude_list += ['batch.json', *(f'POTCAR.{symbol}' for symbol in symbols)]
        return calcinfo

    def _command(self, settings: VaspSettings) -> list[str]:
        """What starts VASP for one frame: mpirun of the computer with the ranks of a frame, container, executable."""
        code, computer = self.inputs.code, self.node.computer
        assert computer is not None  # noqa: S101 (a job has one)
        prepend: list[str]
        if self.node.get_option('withmpi'):
            scheduler = computer.get_scheduler()
            resources = dict(self.node.get_option('resources') or {})
            scheduler.preprocess_resources(resources, computer.get_default_mpiprocs_per_machine())
            job = scheduler.create_job_resource(**resources)
            ranks = settings.ranks_per_frame or max(1, job.get_tot_num_mpiprocs() // settings.frames_at_once)
            per_machine = min(ranks, job.get('num_mpiprocs_per_machine') or ranks)
            known = {
                **job,
                'tot_num_mpiprocs': ranks,
                'num_mpiprocs_per_machine': per_machine,
                'num_machines': math.ceil(ranks / per_machine),
            }
            mpirun = [part.format(**known) for part in computer.get_mpirun_command()]
            prepend = code.get_prepend_cmdline_params(mpirun, self.node.get_option('mpirun_extra_params'))
        else:
            prepend = code.get_prepend_cmdline_params()
        executable = [str(part) for part in code.get_executable_cmdline_params([])]
        return [*prepend, *([shlex.join(executable)] if code.wrap_cmdline_params else executable)]
