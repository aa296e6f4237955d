"""The job that runs LAMMPS: one or several runs, each with its deck in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.common.datastructures import CalcInfo, CodeInfo, CodeRunMode
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from aiida.orm import ArrayData, Dict, RemoteData
from aiida_lammps.calculations.raw import LammpsRawCalculation
from ase import Atoms
from pydantic import Field

from aiida_liheal.calculations.common import define_options, job_validator
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData, committee_spec
from aiida_liheal.lammps.decks import check, render, validate, write_data
from aiida_liheal.lammps.kinds import RelaxSettings
from aiida_liheal.lammps.limits import Limits
from aiida_liheal.lammps.potentials import PotentialSpec
from aiida_liheal.lammps.settings import RestartableSettings, RunSettings
from aiida_liheal.sampling.trust import TrustLevels
from aiida_liheal.structures.checks import check_no_overlap
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.settings import Settings

__all__ = (
    'LIMITS_MONITOR',
    'JobSettings',
    'LammpsCalculation',
    'check_runs',
    'members_in_order',
    'read_limits',
    'run_folder',
    'runs_to_do',
)

#: Entry point of the monitor that holds a job to its limits.
LIMITS_MONITOR = 'liheal.limits'

#: LAMMPS is told to stop in good order when this share of the job's walltime has gone.
WALLTIME_SHARE = 0.95


class JobSettings(Settings):
    """What a LAMMPS job runs."""

    kind: str = Field(description='kind of run: explore, deposit, heal, valley, slide, diffuse, melt, liquid or relax')
    runs: list[dict[str, Any]] = Field(
        min_length=1,
        description='settings of each run, as its kind has them, and `structure`: index of the frame it starts from',
    )
    side_by_side: bool = Field(
        False,
        description='all runs at once, as many `lmp` on the resources of the job, such as small runs on one GPU, each '
        'with the whole walltime; else one after another, each with a share of it. Where `lmp` is started by MPI, its '
        'command must let several share the job (srun: --overlap)',
    )
    trust: TrustLevels | None = Field(None, description='trust levels by which the frames of the runs are sorted')
    min_distance_A: float = Field(
        1.5, gt=0, description='atoms closer than this at the start are refused, in Å (bcc Li: 3.0 Å)'
    )

    def run(self, number: int) -> tuple[int, RunSettings]:
        """Start frame and checked settings of one run. Raises ValueError saying what is wrong."""
        values = dict(self.runs[number])
        structure = values.pop('structure', 0)
        if not isinstance(structure, int) or structure < 0:
            raise ValueError(f'structure = {structure!r}: must be the index of a frame, 0 or more')
        return structure, validate(self.kind, values)


def run_folder(number: int) -> str:
    """Folder of one run inside the job."""
    return f'run_{number:03d}'


def members_in_order(potentials: dict[str, PotentialData]) -> list[PotentialData]:
    """Members of a committee, m0, m1, …, m10: the first one drives."""
    return [potentials[name] for name in sorted(potentials, key=lambda name: (len(name), name))]


def check_runs(settings: JobSettings, frames: Frames, potential: PotentialSpec) -> None:
    """Refuse runs that do not fit their starts or the potential, with a ValueError that says which and why."""
    if settings.trust is not None and settings.kind != 'explore':
        raise ValueError(f'trust levels belong to runs of kind explore, not to {settings.kind}')
    if settings.trust is not None and not potential.is_committee:
        raise ValueError('trust levels need a committee of two deepmd potentials or more to deviate')
    checked: dict[int, Atoms] = {}
    for number in range(len(settings.runs)):
        try:
            structure, run = settings.run(number)
            if structure >= len(frames):
                raise ValueError(f'structure = {structure}: the shard holds frames 0 to {len(frames) - 1}')
            if structure not in checked:
                checked[structure] = frames.to_atoms(structure)
                check_no_overlap(checked[structure], settings.min_distance_A)
            check(settings.kind, run, checked[structure], potential)
        except ValueError as error:
            raise ValueError(f'run {number}: {error}' if len(settings.runs) > 1 else str(error)) from error


def runs_to_do(settings: JobSettings, restart_steps: Mapping[str, Any] | None) -> dict[int, int | None]:
    """Numbers of the runs that a job does, with the step that each goes on from; None for those that begin.

    All of them begin without `restart_steps`. Raises ValueError saying what is wrong with those and what is allowed.
    """
    if restart_steps is None:
        return dict.fromkeys(range(len(settings.runs)))
    numbers = {run_folder(number): number for number in range(len(settings.runs))}
    if not restart_steps:
        raise ValueError('restart_steps names no run; give one or more, or leave it out to begin all of them')
    found: dict[int, int | None] = {}
    for name, step in sorted(restart_steps.items()):
        if name not in numbers:
            raise ValueError(f'restart_steps.{name}: no such run; there are {", ".join(numbers)}')
        run = settings.run(numbers[name])[1]
        if step is not None and not isinstance(run, RestartableSettings):
            raise ValueError(
                f'restart_steps.{name} = {step!r}: runs of kind {settings.kind} are not gone on with; allowed is null, '
                'to do it from its beginning'
            )
        if step is not None and (type(step) is not int or not 0 <= step < run.n_steps):
            raise ValueError(
                f'restart_steps.{name} = {step!r}: must be a step from 0 to {run.n_steps - 1}, as the run ends then, '
                'or null to begin'
            )
        found[numbers[name]] = step
    return dict(sorted(found.items()))


def read_limits(monitors: Mapping[str, Dict]) -> Limits | None:
    """The limits of a job, from its input `monitors`. Raises ValueError saying what is wrong with them."""
    for monitor in monitors.values():
        if monitor.get('entry_point', None) == LIMITS_MONITOR:
            return Limits.read(monitor.get('kwargs', {}))
    return None


def check_limits(limits: Limits, settings: JobSettings, potential: PotentialSpec) -> None:
    """Refuse limits that do not fit the runs, with a ValueError that says why."""
    runs = [settings.run(number)[1] for number in range(len(settings.runs))]
    # of a job that is stopped for one of its runs, `MdWorkChain` goes on with the others
    if limits.action == 'stop' and len(runs) > 1 and not all(isinstance(run, RestartableSettings) for run in runs):
        raise ValueError(
            f"action = 'stop': the {len(runs)} runs of this job would all be stopped for one of them, and runs of kind "
            f"{settings.kind} are not gone on with; allowed is 'flag', or a job for each run"
        )
    for run in runs:
        limits.check(run, potential.is_committee)


class LammpsCalculation(LammpsRawCalculation):
    """Run LAMMPS: decks made from settings, several runs packed in one job, restarts from an earlier job."""

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Inputs, outputs and exit codes."""
        super().define(spec)
        # decks are written from `settings`; ports of the raw calculation that would bypass their checks go
        for name in ('script', 'files', 'filenames'):
            del spec.inputs[name]
        define_options(spec, 'liheal.lammps')
        spec.input(
            'structures',
            valid_type=FramesData,
            validator=lambda node, _: 'the shard holds no frames to start from' if len(node) == 0 else None,
            help='The frames that the runs start from; positions in Å.',
        )
        spec.input_namespace(
            'potentials',
            valid_type=PotentialData,
            dynamic=True,
            required=True,
            help='One potential, or a committee m0, m1, …: the first one drives, the others tell the deviation.',
        )
        spec.input('settings', valid_type=Dict, help='What is run; keys carry their units (see `JobSettings`).')
        spec.input(
            'restart_steps',
            valid_type=Dict,
            required=False,
            help='The runs to do: by name (run_000, …) the step of the restart file that it goes on from, or null to '
            'begin. If not given, all of them begin.',
        )
        spec.input_namespace(
            'parent_folders',
            valid_type=RemoteData,
            dynamic=True,
            required=False,
            help='For each run that goes on, by its name, the folder of that run in an earlier job with the same '
            'settings.',
        )
        spec.inputs.validator = job_validator(cls._validate_inputs)
        spec.output(
            'results',
            valid_type=Dict,
            help='Status, steps, atom balance and speed of each run; status `not_run` of one that was not to be done.',
        )
        spec.output(
            'thermo', valid_type=ArrayData, required=False, help='Thermo columns `run_000_<column>`; LAMMPS metal.'
        )
        spec.output(
            'deviations',
            valid_type=ArrayData,
            required=False,
            help='Committee deviations `run_000_<column>`: forces in eV/Å, virials in eV.',
        )
        spec.output(
            'candidates',
            valid_type=FramesData,
            required=False,
            help='Frames between the trust levels; extra: run, step, max_devi_f in eV/Å.',
        )
        spec.output(
            'last_frames',
            valid_type=FramesData,
            required=False,
            help='Last frame of each run that ended, of kind `relax` with forces; extra: run.',
        )
        spec.exit_code(
            301,
            'ERROR_NO_OUTPUT',
            message='no run left a log: {cause}; see run_000/lmp.err of the job',
            # `MdWorkChain` does it again with the same inputs
            invalidates_cache=True,
        )
        spec.exit_code(
            310, 'ERROR_LAMMPS', message='{n_failed} of {n_runs} runs failed: {cause}; see log.lammps of the run'
        )
        spec.exit_code(
            311,
            'ERROR_ATOM_BALANCE',
            message='{cause}; nothing of this run should be believed: look at its last frame for atoms that overlap',
        )
        spec.exit_code(
            312,
            'ERROR_EXPLODED',
            message='the run blew up after step {step}: {cause}; take a smaller time step or a better potential',
        )
        spec.exit_code(
            313, 'ERROR_RESTART_UNREADABLE', message='restart.{step} cannot be read: {cause}; take an earlier one'
        )
        spec.exit_code(
            314,
            'ERROR_BEYOND_LIMIT',
            message='beyond a limit: {cause}; look at the run up to there, raise the limit, or only flag it (`action`)',
        )
        spec.exit_code(
            400,
            'ERROR_INTERRUPTED',
            message='the run broke off after step {step} of {wanted}: {cause}; go on with its folder in '
            '`parent_folders`',
            invalidates_cache=True,
        )
        spec.exit_code(
            401,
            'ERROR_WALLTIME',
            message='the walltime ended the run after step {step} of {wanted}; go on with its folder in '
            '`parent_folders`',
            invalidates_cache=True,
        )
        spec.exit_code(
            402,
            'ERROR_NO_SPACE',
            message='the disk was full, or could not be written to, after step {step} of {wanted}: {cause}; make room, '
            'then go on with its folder in `parent_folders`',
            invalidates_cache=True,
        )

    @classmethod
    def _validate_inputs(cls, inputs: dict[str, Any], _: Any) -> str | None:
        if not {'settings', 'structures', 'potentials'} <= set(inputs):
            return None  # a missing port is told by the port itself, or left out on purpose where it is exposed
        if not inputs['potentials']:
            return 'no potential given; one is needed, or a committee m0, m1, …'
        try:
            settings = JobSettings.read(inputs['settings'].get_dict())
            potential = committee_spec(members_in_order(inputs['potentials']))
            check_runs(settings, inputs['structures'].get_frames(), potential)
            steps = inputs['restart_steps'].get_dict() if 'restart_steps' in inputs else None
            going_on = {run_folder(n) for n, step in runs_to_do(settings, steps).items() if step is not None}
            if unmatched := sorted(going_on ^ set(inputs.get('parent_folders', {}))):
                return (
                    f'parent_folders and restart_steps belong together: {", ".join(unmatched)} has only one of them; '
                    'give both or neither'
                )
            limits = read_limits(inputs.get('monitors', {}))
            if limits is not None:
                check_limits(limits, settings, potential)
        except ValueError as error:
            return str(error)
        return None

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the potentials, and for each run its deck and start."""
        settings = JobSettings.read(self.inputs.settings.get_dict())
        members = members_in_order(self.inputs.potentials)
        potential = committee_spec(members)
        frames = self.inputs.structures.get_frames()
        calcinfo = CalcInfo()
        calcinfo.codes_info = []
        calcinfo.codes_run_mode = CodeRunMode.PARALLEL if settings.side_by_side else CodeRunMode.SERIAL
        calcinfo.retrieve_list = []
        calcinfo.retrieve_temporary_list = []
        calcinfo.remote_copy_list = []
        calcinfo.provenance_exclude_list = []
        for number, member in enumerate(members):
            roles = {f'm{number}.pb': member.model_role} if member.kind == 'deepmd' else member.roles
            for name, role in roles.items():
                with folder.open(name, 'wb') as handle:
                    handle.write(member.read(role))
                calcinfo.provenance_exclude_list.append(name)

        doing = runs_to_do(settings, self.inputs.restart_steps.get_dict() if 'restart_steps' in self.inputs else None)
        walltime = self.inputs.metadata.options.get('max_wallclock_seconds', None)
        sharing = 1 if settings.side_by_side else len(doing)
        for number, restart_step in doing.items():
            structure, run = settings.run(number)
            atoms = frames.to_atoms(structure)
            name = run_folder(number)
            subfolder = folder.get_subfolder(name, create=True)
            deck = render(
                settings.kind,
                run,
                atoms,
                potential,
                run_directory=name,
                restart_step=restart_step,
                walltime_s=None if walltime is None else max(1.0, WALLTIME_SHARE * walltime / sharing),
            )
            with subfolder.open('in.lmp', 'w', encoding='utf-8') as handle:
                handle.write(deck)
            if restart_step is None:
                write_data(atoms, subfolder.get_abs_path('start.data'), potential.elements)
                # the start is a node already
                calcinfo.provenance_exclude_list.append(f'{name}/start.data')
            else:
                parent = self.inputs.parent_folders[name]
                restart = f'restart.{restart_step}'
                calcinfo.remote_copy_list.append(
                    (parent.computer.uuid, f'{parent.get_remote_path()}/{restart}', f'{name}/{restart}')
                )
            codeinfo = CodeInfo()
            codeinfo.code_uuid = self.inputs.code.uuid
            codeinfo.cmdline_params = ['-in', f'{name}/in.lmp', '-log', 'none']
            codeinfo.stdout_name = f'{name}/lmp.out'
            codeinfo.stderr_name = f'{name}/lmp.err'
            calcinfo.codes_info.append(codeinfo)
            calcinfo.retrieve_list += [
                (f'{name}/{file}', '.', 2) for file in ('log.lammps', 'lmp.err', 'model_devi.out', 'values.txt')
            ]
            # read by the parser and left out of the database: `lmp.out` is the log once more, the trajectory stays
            # where it was made
            temporary = [
                'lmp.out',
                'final.data',
                *(['traj.dump'] if settings.trust is not None else []),
                *(['forces.dump'] if isinstance(run, RelaxSettings) else []),
            ]
            calcinfo.retrieve_temporary_list += [(f'{name}/{file}', '.', 2) for file in temporary]
        return calcinfo
