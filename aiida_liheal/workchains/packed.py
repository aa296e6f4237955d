"""What `valley`, `diffuse` and `melt` share: many runs of one kind, packed into few jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiida.engine import ProcessSpec, ToContext, WorkChain, calcfunction
from aiida.orm import Dict, Int
from numpy.typing import NDArray

from aiida_liheal.calculations.lammps import LammpsCalculation, run_folder
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.workchains.md import MdWorkChain
from aiida_liheal.workchains.ports import add_seed, whole_number
from aiida_liheal.workchains.protocol import ProtocolMixin

__all__ = ('PackedWorkChain', 'Run', 'members', 'outputs_of', 'pack_runs', 'runs_of')


@calcfunction
def pack_runs(settings: Dict, runs_per_job: Int) -> dict[str, Dict]:
    """Settings of the jobs j000, j001, … that do the runs of `settings`, at most `runs_per_job` each."""
    whole, size = settings.get_dict(), runs_per_job.value
    return {
        f'j{number:03d}': Dict({**whole, 'runs': whole['runs'][start : start + size]})
        for number, start in enumerate(range(0, len(whole['runs']), size))
    }


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
    """Many runs, few jobs. The subclasses say which runs and what they show."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs and exit codes."""
        super().define(spec)
        spec.expose_inputs(LammpsCalculation, namespace='lammps', include=('code', 'metadata'))
        spec.input_namespace(
            'potentials',
            valid_type=PotentialData,
            dynamic=True,
            required=True,
            help='One potential, classical or not, or a committee m0, m1, …: the first one drives.',
        )
        add_seed(spec, 'Seed of velocities and thermal noise of all runs, derived from it.')
        spec.input(
            'runs_per_job',
            valid_type=Int,
            default=lambda: Int(100),
            validator=whole_number('runs_per_job'),
            help='Most runs that one job does, one after another. With 1, a run that is interrupted goes on by itself.',
        )
        spec.exit_code(310, 'ERROR_JOB_FAILED', message='{causes}; the outputs hold what there is')

    @staticmethod
    def packed_settings(job: Any) -> Dict:
        """Settings of a job, or of a work chain that runs one until it is done."""
        return job.inputs.settings if 'settings' in job.inputs else job.inputs.lammps.settings

    @staticmethod
    def trajectories_of(job: Any) -> dict[str, Any]:
        """Folders with the trajectory of a job, or of a work chain that ran several in turn."""
        return dict(job.outputs.trajectories) if 'trajectories' in job.outputs else {'s000': job.outputs.remote_folder}

    def submit_runs(self, key: str, structures: FramesData, settings: Dict, goes_on: bool = False) -> Any:
        """Submit the jobs that do the runs of `settings`; they come to `ctx.<key>`.

        With `goes_on` and one run a job, each is a work chain that goes on with it after an interruption.
        """
        awaited = {}
        for name, pack in sorted(pack_runs(settings, self.inputs.runs_per_job).items()):
            inputs = self.exposed_inputs(LammpsCalculation, 'lammps')
            inputs['metadata'] = {**inputs.get('metadata', {}), 'call_link_label': f'{key}_{name}'}
            inputs |= {'structures': structures, 'potentials': self.inputs.potentials, 'settings': pack}
            if goes_on and self.inputs.runs_per_job.value == 1:
                metadata = {'call_link_label': inputs['metadata'].pop('call_link_label')}
                job = self.submit(MdWorkChain, lammps=inputs, metadata=metadata)
            else:
                job = self.submit(LammpsCalculation, **inputs)
            self.report(f'{key}: {len(pack["runs"])} runs in {job.process_label}<{job.pk}>')
            awaited[f'{key}.{name}'] = job
        return ToContext(**awaited)
