"""The work chain `md`: one or several LAMMPS runs over as many jobs as it takes, each as one continuous trajectory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiida.common import AttributeDict
from aiida.engine import (
    ExitCode,
    ProcessHandlerReport,
    ProcessSpec,
    calcfunction,
    process_handler,
    while_,
)
from aiida.orm import ArrayData, Dict, Int, RemoteData, Str

from aiida_liheal.calculations.analyse import DUMP
from aiida_liheal.calculations.common import check_segments, named, segments_in_order
from aiida_liheal.calculations.lammps import JobSettings, LammpsCalculation, run_folder
from aiida_liheal.data.frames import FramesData
from aiida_liheal.lammps.readers import merge_thermo, restart_steps
from aiida_liheal.parsers.common import array_data
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.connection import NoConnectionError, names_in
from aiida_liheal.workchains.restart import RestartWorkChain

__all__ = ('MdWorkChain', 'folder_of_run', 'join_flags', 'join_runs', 'join_series', 'latest_restarts')

#: How a run may end that another job can go on with; see `parsers.lammps`.
_GO_ON = ('walltime', 'interrupted', 'missing', 'unreadable')
_COLUMN = re.compile(r'(run_\d+)_(.+)')


@calcfunction
def folder_of_run(folder: RemoteData, run: Str) -> RemoteData:
    """The folder of one run, run_000, …, in the folder of a job."""
    return run_in(folder, run.value)


def run_in(folder: RemoteData, run: str) -> RemoteData:
    """The same, not stored."""
    return RemoteData(computer=folder.computer, remote_path=f'{folder.get_remote_path()}/{run}')


@calcfunction
def latest_restarts(below: Dict, found: Dict, **folders: Any) -> dict[str, Dict]:
    """Where runs go on from: for each the latest restart file before a step, and the folder that holds it.

    The folders are gone through from the last one on: a job that died early may have left nothing to go on from.

    Parameters
    ----------
    below : Dict
        By run the step that its restart file must be before.
    found : Dict
        By run and name of its folder the steps of the restart files that were seen there.
    **folders : dict of str to RemoteData
        By run its folders in the jobs so far, s000, s001, ….

    Returns
    -------
    restart_steps : Dict
        By run the step; None if there is no such file.
    segments : Dict
        By run the name of the folder; None likewise.
    """
    steps: dict[str, int | None] = {}
    segments: dict[str, str | None] = {}
    for run, limit in below.get_dict().items():
        steps[run] = segments[run] = None
        for segment in reversed(segments_in_order(folders.get(run, {}))):
            there = [step for step in found[run][segment] if step < limit]
            if there:
                steps[run], segments[run] = max(there), segment
                break
    return {'restart_steps': Dict(steps), 'segments': Dict(segments)}


@calcfunction
def join_series(**segments: ArrayData) -> ArrayData:
    """Thermo or deviations of all jobs as one, run by run: from each, the steps before the next one began.

    Columns that all parts of a run have are kept.
    """
    tables: dict[str, list[dict[str, Any]]] = {}
    for name in segments_in_order(segments):
        parts: dict[str, dict[str, Any]] = {}
        for key in segments[name].get_arraynames():
            match = _COLUMN.fullmatch(key)
            assert match is not None  # noqa: S101 (the parser names them so)
            # the reader calls the steps as LAMMPS does
            column = 'Step' if match[2] == 'step' else match[2]
            parts.setdefault(match[1], {})[column] = segments[name].get_array(key)
        for run, table in parts.items():
            tables.setdefault(run, []).append(table)
    joined = {}
    for run, own in sorted(tables.items()):
        for column, array in merge_thermo(own).items():
            joined[f'{run}_{"step" if column == "Step" else column}'] = array
    return array_data(joined)


@calcfunction
def join_flags(**segments: Dict) -> Dict:
    """Limits that each run went beyond in any of its jobs, by run, from the `results` of those."""
    flags: dict[str, list[Any]] = {}
    for name in segments_in_order(segments):
        for number, run in enumerate(segments[name]['runs']):
            if run.get('flags'):
                flags.setdefault(run_folder(number), []).extend(run['flags'])
    return Dict(flags)


@calcfunction
def join_runs(**outputs: Any) -> dict[str, Any]:
    """What became of each run in the last job that did it: its record, and its last frame if it has one.

    Parameters
    ----------
    **outputs : dict of str to Dict, FramesData
        `results` and `last_frames` of the jobs, s000, s001, …; a job may have no last frames.
    """
    results, last_frames = outputs['results'], outputs.get('last_frames', {})
    jobs = segments_in_order(results)
    records = [results[job]['runs'] for job in jobs]
    did = [max(k for k in range(len(jobs)) if records[k][n]['status'] != 'not_run') for n in range(len(records[0]))]
    joined: dict[str, Any] = {
        'results': Dict({**results[jobs[-1]].get_dict(), 'runs': [records[job][n] for n, job in enumerate(did)]})
    }
    kept = []
    for number, job in enumerate(did):
        frames = last_frames[jobs[job]].get_frames() if jobs[job] in last_frames else None
        if frames is not None:
            places = [place for place, run in enumerate(frames.extra['run']) if run == number]
            kept += [frames.select(places)] if places else []
    if kept:
        joined['last_frames'] = FramesData(Frames.concatenate(kept), domain=next(iter(last_frames.values())).domain)
    return joined


class MdWorkChain(RestartWorkChain):
    """Do the runs of a job to their ends, whatever interrupts it.

    Runs that broke off go on in another job, each from its own latest restart file; those that ended, well or badly,
    are not run again.
    """

    _process_class = LammpsCalculation

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        spec.expose_inputs(LammpsCalculation, namespace='lammps', exclude=('parent_folders', 'restart_steps'))
        spec.input_namespace(
            'earlier',
            valid_type=RemoteData,
            dynamic=True,
            required=False,
            validator=cls._validate_earlier,
            help='For each run that goes on, run_000, …, its folders in the jobs of an earlier run with the same '
            'inputs that broke off, s000, s001, …: it goes on from the last restart file in the last of them.',
        )
        spec.inputs['max_iterations'].default = lambda: Int(1000)
        spec.inputs.validator = cls._validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.is_unseen)(cls.look),
            cls.begin,
            while_(cls.should_run_process)(
                cls.run_process,
                cls.note_outputs,
                while_(cls.is_unseen)(cls.look),
                cls.inspect_process,
            ),
            cls.results,
        )
        spec.output_namespace(
            'trajectories',
            valid_type=RemoteData,
            dynamic=True,
            required=False,
            help='For each run, run_000, …, its folders in the jobs, s000, s001, …; each holds a part of its '
            'trajectory.',
        )
        spec.output(
            'thermo',
            valid_type=ArrayData,
            required=False,
            help='Thermo of the runs over all jobs of this process, not of `earlier`; arrays run_000_time_ps, ….',
        )
        spec.output(
            'deviations',
            valid_type=ArrayData,
            required=False,
            help='Committee deviations, as `thermo`; arrays run_000_max_devi_f in eV/Å, ….',
        )
        spec.output(
            'flags',
            valid_type=Dict,
            required=False,
            help='Limits that runs went beyond in any job of this process, by run; none if they kept them all. '
            'What was flagged before a run was gone on with by `earlier` stays with the process that broke off.',
        )
        spec.expose_outputs(
            LammpsCalculation,
            exclude=('thermo', 'deviations', 'remote_folder', 'retrieved', 'remote_stash', 'candidates'),
        )
        spec.exit_code(
            320,
            'ERROR_NO_PROGRESS',
            message='what is left broke off {times} times at step {step} without a new restart file, at last: {cause}; '
            'mend that, or make restart_every_ps shorter than what a job gets done in its walltime',
        )
        spec.exit_code(
            330,
            'ERROR_RUNS_FAILED',
            message='{n_failed} of {n_runs} runs failed: {causes}; the others came to their ends',
        )

    @staticmethod
    def _validate_earlier(earlier: Mapping[str, Any] | None, _: Any) -> str | None:
        strange = [name for name, folders in (earlier or {}).items() if not isinstance(folders, Mapping)]
        if strange:
            return f'earlier.{strange[0]}: must be a namespace of folders by run, such as earlier.run_000.s000'
        faults = (check_segments(f'folders of earlier.{run}', folders) for run, folders in (earlier or {}).items())
        return next((fault for fault in faults if fault), None)

    @staticmethod
    def _validate_inputs(inputs: Mapping[str, Any], _: Any) -> str | None:
        if 'settings' not in inputs.get('lammps', {}):
            return None  # told by the port itself
        runs = [run_folder(number) for number in range(len(inputs['lammps']['settings'].get_dict().get('runs', [])))]
        strange = [run for run in inputs.get('earlier', {}) if run not in runs]
        if strange:
            return f'earlier.{strange[0]}: there is no such run in settings; allowed are {", ".join(runs)}'
        return None

    def setup(self) -> None:
        """Take the inputs of the job, and the folders of earlier runs if they are given."""
        super().setup()
        self.ctx.inputs = AttributeDict(self.exposed_inputs(LammpsCalculation, 'lammps'))
        settings = JobSettings.read(self.ctx.inputs.settings.get_dict())
        self.ctx.runs = [run_folder(number) for number in range(len(settings.runs))]
        earlier = self.inputs.get('earlier', {})
        self.ctx.folders = {
            run: [earlier[run][name] for name in segments_in_order(earlier.get(run, {}))] for run in self.ctx.runs
        }
        self.ctx.left = list(self.ctx.runs)
        for name in ('results', 'last_frames', 'thermo', 'deviations'):
            self.ctx[f'parts_{name}'] = {}
        self.ctx.times = 0
        self.ctx.n_jobs = 0
        #: Of each folder that was looked at, by its path: steps of its restart files, and whether it holds a dump.
        self.ctx.seen = {}

    def is_unseen(self) -> bool:
        """Whether there is a folder that was not looked at."""
        return bool(self._unseen())

    def _unseen(self) -> list[RemoteData]:
        folders = [folder for own in self.ctx.folders.values() for folder in own]
        return [folder for folder in folders if folder.get_remote_path() not in self.ctx.seen]

    def look(self) -> None:
        """See what earlier jobs left to go on from; pause if the computer does not answer, as a job of AiiDA does."""
        try:
            found = names_in(self, self._unseen())
        except NoConnectionError as error:
            self.report(
                f'{error}; pausing: nothing is lost. `verdi process play {self.node.pk}` looks again, when the '
                'computer can be reached'
            )
            self.pause(f'paused, no connection: `verdi process play {self.node.pk}` when the computer can be reached')
            return
        seen = {path: {'steps': restart_steps(names), 'has_dump': DUMP in names} for path, names in found.items()}
        self.ctx.seen = {**self.ctx.seen, **seen}

    def begin(self) -> None:
        """Go on from earlier runs, if there are any."""
        if any(self.ctx.folders.values()):
            self._go_on({})

    def _go_on(self, unreadable: Mapping[str, int]) -> str:
        """Let the next job do what is left, each run from its latest restart file or anew; say which.

        Parameters
        ----------
        unreadable : mapping of str to int
            By run the step of a restart file that cannot be read.
        """
        for name in ('parent_folders', 'restart_steps'):
            self.ctx.inputs.pop(name, None)
        settings = JobSettings.read(self.ctx.inputs.settings.get_dict())
        # a run that broke off after its last step does that step again, and ends as it should
        last = {run: settings.run(number)[1].n_steps for number, run in enumerate(self.ctx.runs)}
        below = {run: min(unreadable.get(run, last[run]), last[run]) for run in self.ctx.left}
        folders = {run: named(self.ctx.folders[run]) for run in self.ctx.left if self.ctx.folders[run]}
        files = {
            run: {name: self.ctx.seen[folder.get_remote_path()]['steps'] for name, folder in own.items()}
            for run, own in folders.items()
        }
        found = latest_restarts(Dict(below), Dict(files), **folders)
        steps, segments = found['restart_steps'].get_dict(), found['segments'].get_dict()
        parents = {}
        for run in self.ctx.left:
            # what came after the file that is gone on from is done again
            names = list(folders.get(run, {}))
            kept = names.index(segments[run]) + 1 if steps[run] is not None else 0
            self.ctx.folders[run] = self.ctx.folders[run][:kept]
            if kept:
                parents[run] = self.ctx.folders[run][-1]
        if parents:
            self.ctx.inputs.parent_folders = parents
        if parents or len(self.ctx.left) < len(self.ctx.runs):
            self.ctx.inputs.restart_steps = found['restart_steps']
        if len(self.ctx.runs) == 1:
            (step,) = steps.values()
            return 'there is no restart file: beginning anew' if step is None else f'going on from step {step}'
        told = ', '.join(f'{run} {"anew" if steps[run] is None else f"from step {steps[run]}"}' for run in steps)
        return f'going on with {told}'

    def _steps(self) -> dict[str, int | None]:
        """Step that each run of the next job goes on from; None if it begins."""
        if 'restart_steps' in self.ctx.inputs:
            return dict(self.ctx.inputs.restart_steps.get_dict())
        return dict.fromkeys(self.ctx.runs)

    def note_outputs(self) -> None:
        """Note what the job gave."""
        calculation = self.ctx.children[-1]
        segment = f's{self.ctx.n_jobs:03d}'
        self.ctx.n_jobs += 1
        for name in ('results', 'last_frames', 'thermo', 'deviations'):
            if name in calculation.outputs:
                self.ctx[f'parts_{name}'][segment] = calculation.outputs[name]
        if 'remote_folder' in calculation.outputs:
            records = self._records(calculation)
            for run in self.ctx.left:
                status = records.get(run, {}).get('status')
                # a run that could not read its restart file wrote nothing, and the file is in the folder before
                if status != 'unreadable':
                    folder = folder_of_run(calculation.outputs.remote_folder, Str(run))
                    self.ctx.folders[run] = [*self.ctx.folders[run], folder]
                    if status == 'finished':
                        # it has its part of the trajectory, and is not gone on with: no need for a connection
                        known = {folder.get_remote_path(): {'steps': [], 'has_dump': True}}
                        self.ctx.seen = {**self.ctx.seen, **known}

    def inspect_process(self) -> Any:
        """Look at how the job ended; what there is of runs that failed is kept."""
        result = super().inspect_process()
        if result is not None and result.status:
            self._attach()
        return result

    def _records(self, calculation: Any) -> dict[str, dict[str, Any]]:
        """By run what a job says of it; nothing if it could not be judged."""
        if 'results' not in calculation.outputs:
            return {}
        return dict(zip(self.ctx.runs, calculation.outputs.results['runs'], strict=True))

    @process_handler(priority=200)
    def sort_runs(self, calculation: Any) -> ProcessHandlerReport | None:
        """Let the runs that broke off go on, each from its latest restart file, or the one before if that was cut off.

        Those that ended, well or badly, are not run again. A single run that failed is told in the words of its job.
        """
        if 'results' not in calculation.outputs:
            return None  # nothing is known of its runs: it is told in its own words
        records = {run: record for run, record in self._records(calculation).items() if run in self.ctx.left}
        left = [run for run, record in records.items() if record['status'] in _GO_ON]
        if not left:
            # `on_unhandled_failure` may do the same once more
            if len(self.ctx.runs) > 1 and (failed := self._failed()):
                return ProcessHandlerReport(True, failed)
            return None
        began, before = self._steps(), self.ctx.left
        self.ctx.left = left
        unreadable = {run: records[run]['restart_step'] for run in left if records[run]['status'] == 'unreadable'}
        action = self._go_on(unreadable)
        came_further = len(left) < len(before) or any(self._steps()[run] != began[run] for run in left)
        self.ctx.times = 0 if came_further else self.ctx.times + 1
        if self.ctx.times > 2:
            told = ', '.join(f'{began[run] or 0}' + (f' ({run})' if len(began) > 1 else '') for run in left)
            return ProcessHandlerReport(
                True,
                self.exit_codes.ERROR_NO_PROGRESS.format(
                    times=self.ctx.times, step=told, cause=calculation.exit_message
                ),
            )
        self.report_action(calculation, action)
        return ProcessHandlerReport(True)

    def _failed(self) -> ExitCode | None:
        """The exit code that tells which of several runs failed, and how; None if all came to their ends."""
        last: dict[str, dict[str, Any]] = {}
        for results in self.ctx.parts_results.values():
            records = zip(self.ctx.runs, results['runs'], strict=True)
            last |= {run: record for run, record in records if record['status'] != 'not_run'}
        bad = {run: record for run, record in last.items() if record['status'] != 'finished'}
        if not bad:
            return None
        causes = [f'{run} ({record["status"]}: {record.get("cause") or "see its log"})' for run, record in bad.items()]
        return self.exit_codes.ERROR_RUNS_FAILED.format(
            n_failed=len(bad), n_runs=len(self.ctx.runs), causes='; '.join(causes)
        )

    def results(self) -> ExitCode | None:
        """Attach what the jobs gave, as if each run had been done in one."""
        self.report(f'work chain completed after {self.ctx.iteration} iterations')
        self._attach()
        return None

    def _attach(self) -> None:
        """Attach outputs of all jobs as one, and the folders that hold a part of a trajectory.

        A job that was killed before its first frame was due has none, and the one before it covers its steps.
        """
        for run, folders in self.ctx.folders.items():
            with_dump = [folder for folder in folders if self.ctx.seen[folder.get_remote_path()]['has_dump']]
            for name, folder in named(with_dump).items():
                self.out(f'trajectories.{run}.{name}', folder)
        results, frames = dict(self.ctx.parts_results), dict(self.ctx.parts_last_frames)
        if results and (len(results) == 1 or len(self.ctx.runs) == 1):
            last = list(results)[-1]
            self.out('results', results[last])
            if last in frames:
                self.out('last_frames', frames[last])
        elif results:
            self.out_many(join_runs(results=results, last_frames=frames))
        if any(run.get('flags') for node in results.values() for run in node.get('runs', [])):
            self.out('flags', join_flags(**results))
        for output in ('thermo', 'deviations'):
            parts = dict(self.ctx[f'parts_{output}'])
            if parts:
                self.out(output, next(iter(parts.values())) if len(parts) == 1 else join_series(**parts))
