"""The verb `explore`: MD driven by a committee, in search of frames that its members disagree on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, calcfunction
from aiida.orm import AbstractCode, Dict, Int, Str

from aiida_liheal.calculations.common import settings_validator
from aiida_liheal.calculations.lammps import JobSettings, LammpsCalculation, check_runs, members_in_order
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData, committee_spec
from aiida_liheal.lammps.potentials import PotentialSpec
from aiida_liheal.sampling.seeds import derive_seed
from aiida_liheal.sampling.select import select_candidates
from aiida_liheal.sampling.stages import SystemStage, plan_runs
from aiida_liheal.sampling.trust import Trust, TrustLevels
from aiida_liheal.workchains.ports import add_potentials, add_seed, whole_number
from aiida_liheal.workchains.protocol import ProtocolMixin, set_options, whole

__all__ = ('ExploreWorkChain', 'check_systems', 'plan_exploration', 'select_frames')


@calcfunction
def plan_exploration(stage: Dict, system: Str, structures: FramesData, trust: Dict, seed: Int) -> Dict:
    """Settings of the LAMMPS job that explores one system."""
    runs = plan_runs(
        SystemStage.read(stage.get_dict()[system.value]), len(structures), derive_seed(seed.value, system.value)
    )
    return Dict({'kind': 'explore', 'runs': runs, 'trust': trust.get_dict()})


@calcfunction
def select_frames(n_max: Int, seed: Int, **nodes_by_system: Any) -> dict[str, Any]:
    """At most `n_max` candidates over all systems, and a summary of what was seen, chosen and left out.

    For each system there is `results_<system>` and, if it gave candidates, `candidates_<system>`.
    """
    results, candidates = (
        {key.removeprefix(part): node for key, node in nodes_by_system.items() if key.startswith(part)}
        for part in ('results_', 'candidates_')
    )
    systems = sorted(results)
    trust_by_run = []
    rows: list[tuple[str, Any]] = []
    content = {name: shard.get_frames() for name, shard in candidates.items()}
    for name in systems:
        for number in range(len(results[name].get_dict()['runs'])):
            indices = np.flatnonzero(content[name].extra['run'] == number) if name in content else np.zeros(0, int)
            rows.append((name, indices))
            trust_by_run.append(np.full(len(indices), Trust.CANDIDATE))
    selection = select_candidates(trust_by_run, n_max.value, seed.value)
    chosen: dict[str, list[int]] = {}
    for run, index in zip(selection.runs, selection.indices, strict=True):
        name, indices = rows[int(run)]
        chosen.setdefault(name, []).append(int(indices[int(index)]))

    summary: dict[str, Any] = {'n_chosen': selection.n_chosen, 'n_left_out': selection.n_dropped, 'systems': {}}
    for name in systems:
        runs = results[name].get_dict()['runs']
        counts = {
            key: sum(run.get(key, 0) for run in runs) for key in ('n_accurate', 'n_candidate', 'n_failed', 'n_missing')
        }
        largest = [run['max_devi_f_eV_per_A'] for run in runs if run.get('max_devi_f_eV_per_A') is not None]
        means = [run['mean_max_devi_f_eV_per_A'] for run in runs if run.get('mean_max_devi_f_eV_per_A') is not None]
        summary['systems'][name] = {
            **counts,
            'n_chosen': len(chosen.get(name, [])),
            'n_runs': len(runs),
            'n_runs_exploded': sum(run['status'] in ('exploded', 'failed', 'missing') for run in runs),
            'max_devi_f_eV_per_A': max(largest, default=None),
            'mean_max_devi_f_eV_per_A': float(np.mean(means)) if means else None,
        }
    for key in ('n_accurate', 'n_candidate', 'n_failed', 'n_missing'):
        summary[key] = sum(system[key] for system in summary['systems'].values())
    nodes: dict[str, Any] = {'summary': Dict(summary)}
    shards = {
        name: FramesData(content[name].select(sorted(indices)), domain=candidates[name].domain)
        for name, indices in chosen.items()
    }
    if shards:
        nodes['candidates'] = shards
    return nodes


def check_systems(stage: Dict, structures: Mapping[str, FramesData], trust: Dict, potential: PotentialSpec) -> None:
    """Refuse an exploration that cannot be run, with a ValueError that says which system and why."""
    unknown = sorted(set(structures) ^ set(stage.get_dict()))
    if unknown:
        raise ValueError(
            f'structures and stage must name the same systems; {", ".join(unknown)} is in one of them only'
        )
    for name, shard in structures.items():
        runs = plan_runs(SystemStage.read(stage.get_dict()[name]), len(shard), 0)
        try:
            if not runs:
                raise ValueError('the shard holds no frames to start from')
            check_runs(
                JobSettings.read({'kind': 'explore', 'runs': runs, 'trust': trust.get_dict()}),
                shard.get_frames(),
                potential,
            )
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from error


class ExploreWorkChain(ProtocolMixin, WorkChain):
    """Explore every system in one job, sort the frames by the committee's deviation, and choose what to label."""

    _protocol_name = 'explore'

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        spec.expose_inputs(LammpsCalculation, namespace='lammps', include=('code', 'metadata'))
        spec.input_namespace(
            'structures',
            valid_type=FramesData,
            dynamic=True,
            required=True,
            help='Starts of the runs, a shard a system.',
        )
        add_potentials(spec, 'The committee m0, m1, …; m0 drives.')
        spec.input(
            'stage',
            valid_type=Dict,
            validator=cls._validate_stage,
            help='For each system what is run (see `SystemStage`).',
        )
        spec.input(
            'trust',
            valid_type=Dict,
            validator=settings_validator(TrustLevels),
            help='Trust levels on the largest force deviation of a frame, in eV/Å (see `TrustLevels`).',
        )
        spec.input(
            'max_candidates',
            valid_type=Int,
            validator=whole_number('max_candidates'),
            help='Most frames that are chosen, over all systems.',
        )
        add_seed(spec, 'Seed of the runs and of the choice.')
        spec.inputs.validator = cls._validate_inputs
        spec.outline(cls.run_systems, cls.select)
        spec.output_namespace(
            'candidates',
            valid_type=FramesData,
            dynamic=True,
            required=False,
            help='Frames chosen for labelling, a shard a system; extra: run, step, max_devi_f in eV/Å.',
        )
        spec.output('summary', valid_type=Dict, help='Frames by trust, chosen and left out; deviations in eV/Å.')
        spec.exit_code(310, 'ERROR_JOB_FAILED', message='the exploration of {systems} gave no frame at all: {causes}')

    @staticmethod
    def _validate_stage(node: Dict, _: Any) -> str | None:
        for name, values in node.get_dict().items():
            try:
                SystemStage.read(values)
            except ValueError as error:
                return f'{name}: {error}'
        return None

    @classmethod
    def _validate_inputs(cls, inputs: dict[str, Any], context: Any) -> str | None:
        if not {'stage', 'structures', 'potentials', 'trust'} <= set(inputs):
            return None
        try:
            if not inputs['potentials']:
                raise ValueError('no potential given; a committee m0, m1, … is needed')
            committee = committee_spec(members_in_order(inputs['potentials']))
            check_systems(inputs['stage'], inputs['structures'], inputs['trust'], committee)
        except ValueError as error:
            return str(error)
        return None

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, AbstractCode],
        structures: Mapping[str, FramesData],
        potentials: Mapping[str, PotentialData],
        seed: int = 0,
        protocol: str | None = None,
        overrides: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> ProcessBuilder:
        """A builder with the settings of a protocol; see `ProtocolMixin` for what all of them take.

        Parameters
        ----------
        codes : mapping of str to Code
            `lmp`.
        structures : mapping of str to FramesData
            Starts by system; each name needs a stage in the protocol or the overrides (`bulk`, `surface`).
        potentials : mapping of str to PotentialData
            The committee m0, m1, ….
        overrides : dict, optional
            Laid over the protocol: `stage`, `trust`, `max_candidates`.

        Raises
        ------
        ValueError
            For an unknown protocol or override, or a system without a stage.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        missing = sorted(set(structures) - set(inputs['stage']))
        if missing:
            raise ValueError(f'no stage for {", ".join(missing)}; there are {", ".join(inputs["stage"])}')
        builder = cls.get_builder()
        builder.structures = dict(structures)
        builder.potentials = dict(potentials)
        builder.stage = Dict({name: inputs['stage'][name] for name in structures})
        builder.trust = Dict(inputs['trust'])
        builder.max_candidates = whole(inputs, 'max_candidates')
        builder.seed = Int(seed)
        builder.lammps.code = codes['lmp']
        set_options(builder.lammps, options)
        return builder

    def run_systems(self) -> Any:
        """One job a system, all its runs packed in it."""
        awaited = {}
        for name, shard in sorted(self.inputs.structures.items()):
            settings = plan_exploration(self.inputs.stage, Str(name), shard, self.inputs.trust, self.inputs.seed)
            inputs = self.exposed_inputs(LammpsCalculation, 'lammps')
            inputs['metadata'] = {**inputs.get('metadata', {}), 'call_link_label': name}
            job = self.submit(
                LammpsCalculation,
                **inputs,
                structures=shard,
                potentials=self.inputs.potentials,
                settings=settings,
            )
            self.report(f'exploring {name}: {len(settings["runs"])} runs in {job.process_label}<{job.pk}>')
            awaited[f'jobs.{name}'] = job
        return ToContext(**awaited)

    def select(self) -> ExitCode | None:
        """Sort and choose; a job that gave nothing at all is an error, runs that blew up are counted."""
        jobs = dict(self.ctx.jobs)
        results = {name: job.outputs.results for name, job in jobs.items() if 'results' in job.outputs}
        candidates = {name: job.outputs.candidates for name, job in jobs.items() if 'candidates' in job.outputs}
        failed = {name: job for name, job in jobs.items() if not job.is_finished_ok}
        if failed:
            causes = '; '.join(f'{name}<{job.pk}>: {job.exit_message}' for name, job in sorted(failed.items()))
            return self.exit_codes.ERROR_JOB_FAILED.format(systems=', '.join(sorted(failed)), causes=causes)
        nodes = {f'results_{name}': node for name, node in results.items()}
        nodes |= {f'candidates_{name}': node for name, node in candidates.items()}
        chosen = select_frames(self.inputs.max_candidates, self.inputs.seed, **nodes)
        self.out('summary', chosen['summary'])
        for name, shard in chosen.get('candidates', {}).items():
            self.out(f'candidates.{name}', shard)
        return None
