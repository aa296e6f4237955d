"""What `valley`, `diffuse` and `melt` share: many runs of one kind, packed into few jobs."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiida.engine import ProcessBuilder, ProcessSpec, ToContext, WorkChain, calcfunction
from aiida.orm import AbstractCode, Dict, Int, Str
from numpy.typing import NDArray

from aiida_liheal.calculations.lammps import (
    JobSettings,
    LammpsCalculation,
    check_runs,
    members_in_order,
    read_limits,
    run_folder,
)
from aiida_liheal.calculations.monitors import limits_monitor
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData, committee_spec
from aiida_liheal.lammps.limits import Limits
from aiida_liheal.sampling.campaign import Cost
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.md import MdWorkChain
from aiida_liheal.workchains.ports import add_potentials, add_seed, whole_number
from aiida_liheal.workchains.protocol import ProtocolMixin, set_options, whole

__all__ = (
    'PackedWorkChain',
    'Planned',
    'Run',
    'join_packed_flags',
    'members',
    'outputs_of',
    'pack_runs',
    'runs_of',
)


@calcfunction
def pack_runs(settings: Dict, runs_per_job: Int) -> dict[str, Dict]:
    """Settings of the jobs j000, j001, … that do the runs of `settings`, at most `runs_per_job` each."""
    whole, size = settings.get_dict(), runs_per_job.value
    return {
        f'j{number:03d}': Dict({**whole, 'runs': whole['runs'][start : start + size]})
        for number, start in enumerate(range(0, len(whole['runs']), size))
    }


@calcfunction
def join_packed_flags(**nodes: Dict) -> Dict:
    """Limits that runs went beyond, by job and run, from `results` or `flags` of the jobs."""
    flags: dict[str, Any] = {}
    for job, node in sorted(nodes.items()):
        content = node.get_dict()
        if 'runs' in content:
            content = {run_folder(number): run.get('flags') for number, run in enumerate(content['runs'])}
        flags |= {f'{job}_{run}': found for run, found in content.items() if found}
    return Dict(flags)


class Planned(NamedTuple):
    """Runs that a verb is going to do: their kind, the settings of each, and the frames that they start from."""

    kind: str
    runs: list[dict[str, Any]]
    starts: Frames


@dataclass(frozen=True)
class Run:
    """One run of a pack: what it was told, what its job says of it, and its thermo by column."""

    settings: dict[str, Any]
    record: dict[str, Any]
    thermo: dict[str, NDArray] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end."""
        return self.record.get('status') == 'finished'

    @property
    def fault(self) -> str:
        """Why it did not come to its end, for people."""
        return f'{self.record.get("status", "missing")}: {self.record.get("cause") or "see its log.lammps"}'


def outputs_of(jobs: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, results and thermo of jobs as arguments of a calcfunction, for `runs_of` to read there."""
    nodes = {}
    for name, job in jobs.items():
        nodes[f'settings_{name}'] = PackedWorkChain.packed_settings(job)
        for output in ('results', 'thermo'):
            if output in job.outputs:
                nodes[f'{output}_{name}'] = job.outputs[output]
    return nodes


def runs_of(nodes: Mapping[str, Any]) -> list[Run]:
    """Every run of some jobs in the order of the jobs; those without results count as missing."""
    runs = []
    for key in sorted(key for key in nodes if key.startswith('settings_')):
        name = key.removeprefix('settings_')
        settings = nodes[key].get_dict()['runs']
        records = nodes[f'results_{name}'].get_dict()['runs'] if f'results_{name}' in nodes else [{}] * len(settings)
        thermo = nodes.get(f'thermo_{name}')
        for number, (given, record) in enumerate(zip(settings, records, strict=True)):
            prefix = f'{run_folder(number)}_'
            columns = {} if thermo is None else {n: thermo.get_array(n) for n in thermo.get_arraynames()}
            own = {n.removeprefix(prefix): array for n, array in columns.items() if n.startswith(prefix)}
            runs.append(Run(given, record, own))
    return runs


def members(potentials: Mapping[str, PotentialData] | PotentialData) -> dict[str, PotentialData]:
    """One potential as a committee of one; a committee as it is."""
    return {'m0': potentials} if isinstance(potentials, PotentialData) else dict(potentials)


class PackedWorkChain(ProtocolMixin, WorkChain):
    """Many runs, few jobs. The subclasses say which runs (`planned`) and what they show."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs and exit codes."""
        super().define(spec)
        spec.expose_inputs(LammpsCalculation, namespace='lammps', include=('code', 'metadata', 'monitors'))
        add_potentials(spec, 'One potential, classical or not, or a committee m0, m1, …: the first one drives.')
        add_seed(spec, 'Seed of velocities and thermal noise of all runs, derived from it.')
        spec.input(
            'runs_per_job',
            valid_type=Int,
            default=lambda: Int(100),
            validator=whole_number('runs_per_job'),
            help='Most runs that one job does, one after another. MD goes on by itself after an interruption.',
        )
        spec.inputs.validator = cls._validate_inputs
        spec.output(
            'flags',
            valid_type=Dict,
            required=False,
            help='Limits that runs went beyond, by job and run; there is none if all of them kept them.',
        )
        spec.exit_code(310, 'ERROR_JOB_FAILED', message='{causes}; the outputs hold what there is')

    @classmethod
    def planned(cls, inputs: Mapping[str, Any]) -> Iterator[Planned]:
        """All runs that follow from complete inputs, with any seeds. Raises ValueError saying what is wrong."""
        raise NotImplementedError

    @classmethod
    def _validate_inputs(cls, inputs: dict[str, Any], _: Any) -> str | None:
        """The checks of the jobs themselves, before anything is built or submitted."""
        if any(port.required and name not in inputs for name, port in cls.spec().inputs.items()):
            return None  # told by the port itself, or left out on purpose where it is exposed
        try:
            if not inputs['potentials']:
                raise ValueError('no potential given; one is needed, or a committee m0, m1, …')
            potential = committee_spec(members_in_order(inputs['potentials']))
            limits = read_limits(inputs['lammps'].get('monitors', {}))
            size = inputs['runs_per_job'].value
            if limits is not None and limits.action == 'stop' and size > 1:
                raise ValueError(
                    f"action = 'stop': all of up to {size} runs of a job would be stopped for one of them; allowed is "
                    "'flag', or runs_per_job = 1"
                )
            for kind, runs, starts in cls.planned(inputs):
                job = JobSettings.read({'kind': kind, 'runs': runs})
                check_runs(job, starts, potential)
                if limits is not None:
                    for number in range(len(runs)):
                        limits.check(job.run(number)[1], potential.is_committee)
        except ValueError as error:
            return str(error)
        return None

    @classmethod
    def cost(cls, builder: ProcessBuilder) -> Cost:
        """Atoms and steps of all runs, before they are run; at most, where one may end before.

        Raises ValueError if the inputs are wrong.
        """
        return cls.cost_of(cls.planned(builder._inputs(prune=True)))

    @staticmethod
    def cost_of(planned: Iterable[Planned]) -> Cost:
        """Atoms and steps of some planned runs. Raises ValueError if one of them is wrong."""
        costs = []
        for kind, runs, starts in planned:
            job = JobSettings.read({'kind': kind, 'runs': runs})
            for structure, run in map(job.run, range(len(runs))):
                costs.append(Cost.of_run(int(starts.counts[structure]), run.n_steps))
        return functools.reduce(operator.add, costs)

    @classmethod
    def _packed_builder(
        cls,
        codes: Mapping[str, AbstractCode],
        potentials: Mapping[str, PotentialData] | PotentialData,
        inputs: Mapping[str, Any],
        seed: int,
        options: dict[str, Any] | None,
    ) -> ProcessBuilder:
        """A builder with what packed verbs take alike; of `inputs` it reads `runs_per_job` and `limits` (or None)."""
        builder = cls.get_builder()
        builder.runs_per_job = whole(inputs, 'runs_per_job')
        builder.seed = Int(seed)
        builder.potentials = members(potentials)
        builder.lammps.code = codes['lmp']
        set_options(builder.lammps, options)
        if inputs['limits']:
            builder.lammps.monitors = {'limits': limits_monitor(Limits.read(inputs['limits']))}
        return builder

    @staticmethod
    def packed_settings(job: Any) -> Dict:
        """Settings of a job, or of a work chain that runs one until it is done."""
        return job.inputs.settings if 'settings' in job.inputs else job.inputs.lammps.settings

    @staticmethod
    def trajectory_of(job: Any, number: int) -> dict[str, Any]:
        """Inputs of an analysis of one run of a job, or of a work chain that ran several jobs in turn."""
        run = run_folder(number)
        if 'trajectories' in job.outputs:
            return {'trajectories': dict(job.outputs.trajectories[run]), 'run': Str('.')}
        return {'trajectories': {'s000': job.outputs.remote_folder}, 'run': Str(run)}

    def submit_runs(self, key: str, structures: FramesData, settings: Dict, goes_on: bool = False) -> Any:
        """Submit the jobs that do the runs of `settings`; they come to `ctx.<key>`.

        With `goes_on`, each is a work chain that goes on with its runs after an interruption.
        """
        awaited = {}
        for name, pack in sorted(pack_runs(settings, self.inputs.runs_per_job).items()):
            inputs = self.exposed_inputs(LammpsCalculation, 'lammps')
            inputs['metadata'] = {**inputs.get('metadata', {}), 'call_link_label': f'{key}_{name}'}
            inputs |= {'structures': structures, 'potentials': self.inputs.potentials, 'settings': pack}
            if goes_on:
                metadata = {'call_link_label': inputs['metadata'].pop('call_link_label')}
                job = self.submit(MdWorkChain, lammps=inputs, metadata=metadata)
            else:
                job = self.submit(LammpsCalculation, **inputs)
            self.report(f'{key}: {len(pack["runs"])} runs in {job.process_label}<{job.pk}>')
            awaited[f'{key}.{name}'] = job
        self.ctx.packs = [*self.ctx.get('packs', []), key]
        return ToContext(**awaited)

    def attach_flags(self) -> None:
        """Attach what limits the runs of all jobs so far went beyond, if there is anything."""
        told = {}
        for key in self.ctx.get('packs', []):
            for name, job in dict(self.ctx[key]).items():
                if 'flags' in job.outputs:
                    told[f'{key}_{name}'] = job.outputs.flags
                elif 'results' in job.outputs and any(run.get('flags') for run in job.outputs.results.get('runs', [])):
                    told[f'{key}_{name}'] = job.outputs.results
        if told:
            self.out('flags', join_packed_flags(**told))
