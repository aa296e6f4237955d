"""The work chain `md`: one LAMMPS run over as many jobs as it takes, as one continuous trajectory."""

from __future__ import annotations

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
from aiida.orm import ArrayData, Dict, Int, RemoteData

from aiida_liheal.calculations.analyse import DUMP
from aiida_liheal.calculations.common import named, segments_in_order
from aiida_liheal.calculations.lammps import JobSettings, LammpsCalculation, run_folder
from aiida_liheal.lammps.readers import merge_thermo, restart_steps
from aiida_liheal.parsers.common import array_data
from aiida_liheal.workchains.restart import RestartWorkChain

__all__ = ('MdWorkChain', 'join_series', 'latest_restart')

_CODES: Any = LammpsCalculation.exit_codes


@calcfunction
def latest_restart(folder: RemoteData, below: Int) -> Int | ExitCode:
    """Step of the latest restart file in a job's folder before the step `below`."""
    name = run_folder(0)
    files = folder.listdir(name) if name in folder.listdir() else []
    steps = [step for step in restart_steps(files) if step < below.value]
    return Int(steps[-1]) if steps else ExitCode(404, f'no restart file before step {below.value}')


@calcfunction
def join_series(**segments: ArrayData) -> ArrayData:
    """Thermo or deviations of all segments as one: from each, the steps before the next one began.

    Columns that all of them have are kept.
    """
    prefix = f'{run_folder(0)}_'
    tables = []
    for name in segments_in_order(segments):
        arrays = {key: segments[name].get_array(key) for key in segments[name].get_arraynames()}
        # the reader calls the steps as LAMMPS does
        tables.append({'Step' if key == f'{prefix}step' else key: array for key, array in arrays.items()})
    joined = merge_thermo(tables)
    return array_data({f'{prefix}step' if key == 'Step' else key: array for key, array in joined.items()})


@calcfunction
def join_flags(**segments: Dict) -> Dict:
    """Limits that a run went beyond in any of its segments, from the `results` of those."""
    runs = [run for name in segments_in_order(segments) for run in segments[name]['runs']]
    return Dict({'flags': [flag for run in runs for flag in run.get('flags', [])]})


class MdWorkChain(RestartWorkChain):
    """Run one deposition or healing run to its end, whatever interrupts its jobs."""

    _process_class = LammpsCalculation

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        spec.expose_inputs(LammpsCalculation, namespace='lammps', exclude=('parent_folder', 'restart_step'))
        spec.inputs['lammps'].validator = cls._validate_lammps
        spec.input_namespace(
            'earlier',
            valid_type=RemoteData,
            dynamic=True,
            required=False,
            help='Folders of the jobs of an earlier run with the same inputs that broke off, s000, s001, …: '
            'it goes on from the last restart file in the last of them.',
        )
        spec.inputs['max_iterations'].default = lambda: Int(1000)
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),
            cls.results,
        )
        spec.output_namespace(
            'trajectories',
            valid_type=RemoteData,
            dynamic=True,
            required=False,
            help='Folders of the jobs, s000, s001, …; each holds its part of the trajectory.',
        )
        spec.output(
            'thermo', valid_type=ArrayData, required=False, help='Thermo of the whole run; arrays run_000_time_ps, ….'
        )
        spec.output(
            'deviations',
            valid_type=ArrayData,
            required=False,
            help='Committee deviations of the whole run; arrays run_000_max_devi_f in eV/Å, ….',
        )
        spec.output(
            'flags',
            valid_type=Dict,
            required=False,
            help='`flags` of all jobs: limits that the run went beyond; there is none if it kept them all.',
        )
        spec.expose_outputs(
            LammpsCalculation,
            exclude=('thermo', 'deviations', 'remote_folder', 'retrieved', 'remote_stash', 'candidates'),
        )
        spec.exit_code(
            320,
            'ERROR_NO_PROGRESS',
            message='the run broke off {times} times at step {step} without a new restart file, at last: {cause}; mend '
            'that, or make restart_every_ps shorter than what a job gets done in its walltime',
        )

    @staticmethod
    def _validate_lammps(inputs: Mapping[str, Any], context: Any) -> str | None:
        settings: Dict | None = inputs.get('settings')
        if settings is not None and len(settings.get_dict().get('runs', [])) != 1:
            return (
                f'settings.runs holds {len(settings.get_dict().get("runs", []))} runs; allowed is 1, see liheal.explore'
            )
        return LammpsCalculation._validate_inputs(dict(inputs), context)

    def setup(self) -> None:
        """Take the inputs of the job; go on from an earlier run if one is given."""
        super().setup()
        self.ctx.inputs = AttributeDict(self.exposed_inputs(LammpsCalculation, 'lammps'))
        self.ctx.folders = [self.inputs.earlier[name] for name in segments_in_order(self.inputs.get('earlier', {}))]
        self.ctx.thermos = []
        self.ctx.deviations = []
        self.ctx.flagged = []
        self.ctx.last_step = None
        self.ctx.times = 0
        if self.ctx.folders:
            self._go_on()

    def _go_on(self, below: int | None = None) -> str:
        """Let the next job go on from the latest restart file before the step `below`, or else begin anew; say which.

        The folders are looked through from the last one on: a job that died early may have left nothing to go on from.
        """
        for name in ('parent_folder', 'restart_step'):
            self.ctx.inputs.pop(name, None)
        # a run that broke off after its last step does that step again, and ends as it should
        n_steps = JobSettings.read(self.ctx.inputs.settings.get_dict()).run(0)[1].n_steps
        limit = Int(n_steps if below is None else min(below, n_steps))
        while self.ctx.folders:
            step, node = latest_restart.run_get_node(self.ctx.folders[-1], limit)
            if node.is_finished_ok:
                self.ctx.inputs.parent_folder = self.ctx.folders[-1]
                self.ctx.inputs.restart_step = step
                return f'going on from step {step.value}'
            self.ctx.folders.pop()
        self.ctx.thermos.clear()
        self.ctx.deviations.clear()
        return 'there is no restart file: beginning anew'

    def inspect_process(self) -> Any:
        """Note the segment, then look at how it ended; what there is of a run that failed is kept."""
        calculation = self.ctx.children[-1]
        if 'remote_folder' in calculation.outputs:
            self.ctx.folders.append(calculation.outputs.remote_folder)
        if 'thermo' in calculation.outputs:
            self.ctx.thermos.append(calculation.outputs.thermo)
        if 'deviations' in calculation.outputs:
            self.ctx.deviations.append(calculation.outputs.deviations)
        if 'results' in calculation.outputs:
            results = calculation.outputs.results
            if any(run.get('flags') for run in results.get('runs', [])):
                self.ctx.flagged.append(results)
        result = super().inspect_process()
        if result is not None and result.status:
            self.out_many(self.exposed_outputs(calculation, LammpsCalculation))
            self._attach_segments()
        return result

    @process_handler(priority=200, exit_codes=[_CODES.ERROR_INTERRUPTED, _CODES.ERROR_WALLTIME, _CODES.ERROR_NO_OUTPUT])
    def go_on(self, calculation: Any) -> ProcessHandlerReport | None:
        """Go on from the latest restart file of a job that broke off or ran out of walltime."""
        began = self._restart_step()
        action = self._go_on()
        self.ctx.times = self.ctx.times + 1 if self._restart_step() == began else 0
        if self.ctx.times > 2:
            return ProcessHandlerReport(
                True,
                self.exit_codes.ERROR_NO_PROGRESS.format(
                    times=self.ctx.times, step=began or 0, cause=calculation.exit_message
                ),
            )
        self.report_action(calculation, action)
        return ProcessHandlerReport(True)

    @process_handler(priority=210, exit_codes=[_CODES.ERROR_RESTART_UNREADABLE])
    def take_earlier_restart(self, calculation: Any) -> ProcessHandlerReport | None:
        """A restart file was cut off while it was written: take the one before it."""
        # this job wrote nothing; the files are in the folder it was started from
        self.ctx.folders.pop()
        action = self._go_on(below=calculation.inputs.restart_step.value)
        self.report_action(calculation, action)
        return ProcessHandlerReport(True)

    def _restart_step(self) -> int | None:
        """Step that the next job goes on from; None if it begins at the start."""
        return self.ctx.inputs.restart_step.value if 'restart_step' in self.ctx.inputs else None

    def results(self) -> ExitCode | None:
        """Attach the outputs of the last job, the thermo of all and the folders of all segments."""
        exit_code = super().results()
        self._attach_segments()
        return exit_code

    def _attach_segments(self) -> None:
        """Attach the thermo of all jobs as one, and the folders that hold a part of the trajectory.

        A job that was killed before its first frame was due has none, and the one before it covers its steps.
        """
        name = run_folder(0)
        having = [f for f in self.ctx.folders if name in f.listdir() and DUMP in f.listdir(name)]
        for name, folder in named(having).items():
            self.out(f'trajectories.{name}', folder)
        if self.ctx.flagged:
            self.out('flags', join_flags(**named(self.ctx.flagged)))
        for output, series in (('thermo', self.ctx.thermos), ('deviations', self.ctx.deviations)):
            if series:
                self.out(output, series[0] if len(series) == 1 else join_series(**named(series)))
