"""The verb `diffuse`: mean square displacement and D of surface and bulk atoms at several temperatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, calcfunction
from aiida.orm import AbstractCode, ArrayData, Dict, Int, List, StructureData

from aiida_liheal.calculations.analyse import AnalyseCalculation
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.lammps.decks import validate
from aiida_liheal.lammps.kinds import DiffuseSettings
from aiida_liheal.parsers.common import array_data
from aiida_liheal.sampling.seeds import derive_seed
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.packed import PackedWorkChain, Planned, outputs_of, runs_of
from aiida_liheal.workchains.start import (
    add_start,
    known_of,
    make_start,
    of_its_shape,
    read_crystal,
    start_of,
    with_fixed_height,
)

__all__ = ('DiffuseWorkChain', 'plan_diffusion', 'tabulate_diffusion')


#: Stands for what each run has of its own where the others of its settings are looked at.
_ANY = {'temperature_K': 300.0, 'seed': 1}


def _runs(temperatures_K: list[float], settings: Mapping[str, Any], seed: int) -> list[dict[str, Any]]:
    if not temperatures_K or len(set(temperatures_K)) != len(temperatures_K):
        raise ValueError(f'temperatures_K = {temperatures_K}: needs at least one temperature in K, each once')
    return [
        {**settings, 'temperature_K': temperature, 'seed': derive_seed(seed, 'diffuse', number)}
        for number, temperature in enumerate(temperatures_K)
    ]


@calcfunction
def plan_diffusion(temperatures_K: List, settings: Dict, seed: Int) -> Dict:
    """Settings of the runs, one a temperature."""
    return Dict({'kind': 'diffuse', 'runs': _runs(temperatures_K.get_list(), settings.get_dict(), seed.value)})


@calcfunction
def tabulate_diffusion(**nodes: Any) -> dict[str, Any]:
    """D of each group at each temperature, with its error or bound; `summary_t000`, … are of the analyses."""
    runs = runs_of(nodes)
    table = []
    for number, run in enumerate(runs):
        row: dict[str, Any] = {'asked_temperature_K': run.settings['temperature_K'], 'status': run.record.get('status')}
        if 'mobile_temperature_K' in run.thermo:
            # without the thermostat the temperature is what it comes to
            measured = run.thermo['time_ps'] >= run.settings.get('equilibration_ps', 5.0)
            if measured.any():
                row['temperature_K'] = float(run.thermo['mobile_temperature_K'][measured].mean())
        if f'summary_t{number:03d}' in nodes:
            groups = nodes[f'summary_t{number:03d}'].get_dict()['mobility']
            row |= groups
            surface, bulk = groups['surface'], groups['bulk']
            if surface.get('is_resolved') and 'n_moved' in bulk:
                known = bulk['D_m2_per_s'] if bulk['is_resolved'] else bulk['D_bound_m2_per_s']
                name = 'surface_over_bulk' if bulk['is_resolved'] else 'surface_over_bulk_at_least'
                row[name] = surface['D_m2_per_s'] / known
        table.append(row)

    def column(group: str, key: str) -> np.ndarray:
        values = [row.get(group, {}).get(key) for row in table]
        return np.array([np.nan if value is None else float(value) for value in values])

    arrays = {
        f'{group}_{key}': column(group, key)
        for group in ('surface', 'bulk')
        for key in ('D_m2_per_s', 'D_error_m2_per_s', 'D_bound_m2_per_s', 'n_atoms', 'n_moved')
    }
    arrays['temperature_K'] = np.array([row.get('temperature_K', np.nan) for row in table])
    arrays['asked_temperature_K'] = np.array([row['asked_temperature_K'] for row in table])
    return {'diffusion': array_data(arrays), 'summary': Dict({'temperatures': table})}


class DiffuseWorkChain(PackedWorkChain):
    """Run one crystal at several temperatures, and measure how its surface and its inside move."""

    _protocol_name = 'diffuse'

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        add_start(spec, 'diffuse')
        spec.input('temperatures_K', valid_type=List, help='Temperatures in K, a run each.')
        spec.input(
            'settings',
            valid_type=Dict,
            help='Settings of the runs, without seed and temperature_K; keys carry their units (kind `diffuse`).',
        )
        spec.expose_inputs(AnalyseCalculation, namespace='analyse', include=('code', 'settings', 'metadata'))
        spec.outline(cls.run_md, cls.analyse, cls.results)
        spec.output(
            'diffusion',
            valid_type=ArrayData,
            required=False,
            help='By temperature: D, its error, its bound in m^2/s for surface and bulk; NaN where there is none.',
        )
        spec.output('summary', valid_type=Dict, required=False, help='The same as plain numbers, with the groups.')
        spec.output_namespace(
            'mobility', valid_type=ArrayData, dynamic=True, required=False, help='MSD by lag, t000, … by temperature.'
        )
        spec.exit_code(321, 'ERROR_ANALYSIS_FAILED', message='{causes}; run liheal.analyse again')

    @classmethod
    def get_protocol_inputs(
        cls, protocol: str | None = None, overrides: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Settings of one protocol with overrides laid over them.

        What the protocol says of a crystal of another shape is left out where this one has no such setting.

        Raises ValueError for an unknown protocol or override.
        """
        inputs = super().get_protocol_inputs(protocol, overrides)
        inputs['crystal'] = of_its_shape('diffuse', inputs['crystal'], (overrides or {}).get('crystal', {}))
        return inputs

    @classmethod
    def planned(cls, inputs: Mapping[str, Any]) -> Iterator[Planned]:
        """A run at each temperature."""
        settings = inputs['settings'].get_dict()
        validate('diffuse', settings, _ANY)
        yield Planned(
            'diffuse',
            _runs(inputs['temperatures_K'].get_list(), settings, 0),
            Frames.from_atoms([start_of('diffuse', inputs)]),
        )

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, AbstractCode],
        potentials: Mapping[str, PotentialData] | PotentialData,
        structure: FramesData | StructureData | None = None,
        seed: int = 0,
        protocol: str | None = None,
        overrides: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> ProcessBuilder:
        """A builder with the settings of a protocol; see `ProtocolMixin` for what all of them take.

        Parameters
        ----------
        codes : mapping of str to Code
            `lmp`, and `python` with OVITO for the analysis.
        structure : FramesData or StructureData, optional
            The start; built from the protocol's `crystal` if not given.
        overrides : dict, optional
            Laid over the protocol: `crystal`, `temperatures_K`, `settings`, `analysis`, `runs_per_job`, `limits` (null
            for none).
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        builder = cls._packed_builder(codes, potentials, inputs, seed, options)
        crystal = None
        if structure is None:
            crystal = read_crystal('diffuse', inputs['crystal'])
            builder.crystal = Dict(inputs['crystal'])
        else:
            builder.structure = structure
        settings = with_fixed_height(inputs['settings'], crystal)
        run = cast(DiffuseSettings, validate('diffuse', settings, _ANY))
        builder.temperatures_K = List(inputs['temperatures_K'])
        builder.settings = Dict(settings)
        builder.analyse.code = codes['python']
        analysis = {
            **known_of(crystal),
            'timestep_fs': run.timestep_fs,
            'fixed_below_A': run.fixed_below_A,
            'measure_mobility': True,
            'mobility_from_ps': run.equilibration_ps,
            **inputs['analysis'],
        }
        builder.analyse.settings = Dict(analysis)
        return builder

    @classmethod
    def plan(cls, builder: ProcessBuilder) -> list[tuple[str, str, str]]:
        """What would be run, for a dry run: name, how many, remark."""
        run = cast(DiffuseSettings, validate('diffuse', builder.settings.get_dict(), _ANY))
        atoms = len(start_of('diffuse', builder))
        temperatures = builder.temperatures_K.get_list()
        jobs = -(-len(temperatures) // builder.runs_per_job.value)
        frames = run.n_steps // run.steps(run.dump_every_ps) + 1
        return [
            ('jobs', str(jobs + len(temperatures)), f'{jobs} of LAMMPS, and an analysis a run'),
            ('runs', str(len(temperatures)), f'at {", ".join(f"{t:g}" for t in temperatures)} K'),
            ('atoms', str(atoms), 'each'),
            ('steps', str(run.n_steps), f'each, {run.equilibration_ps:g} of {run.duration_ps:g} ps with a thermostat'),
            ('frames', str(frames), 'of each trajectory'),
        ]

    def run_md(self) -> Any:
        """Run all temperatures."""
        start = make_start('diffuse', self.inputs)
        self.out('start', start)
        plan = plan_diffusion(self.inputs.temperatures_K, self.inputs.settings, self.inputs.seed)
        return self.submit_runs('runs', start, plan, goes_on=True)

    def analyse(self) -> Any:
        """Analyse the trajectory of each run that came to its end, where it lies."""
        awaited = {}
        number = 0
        for name, job in sorted(dict(self.ctx.runs).items()):
            n_runs = len(self.packed_settings(job)['runs'])
            records = job.outputs.results.get_dict()['runs'] if 'results' in job.outputs else [{}] * n_runs
            for place, record in enumerate(records):
                key, number = f't{number:03d}', number + 1
                if record.get('status') != 'finished':
                    continue
                inputs = self.exposed_inputs(AnalyseCalculation, 'analyse')
                inputs |= self.trajectory_of(job, place)
                inputs['metadata'] = {**inputs.get('metadata', {}), 'call_link_label': f'analyse_{key}'}
                awaited[f'analyses.{key}'] = self.submit(AnalyseCalculation, **inputs)
            self.report(f'{name}: {sum(record.get("status") == "finished" for record in records)} runs to analyse')
        return ToContext(**awaited)

    def results(self) -> ExitCode | None:
        """Tabulate what the analyses found, whatever became of some of the runs."""
        self.attach_flags()
        jobs, analyses = dict(self.ctx.runs), dict(self.ctx.get('analyses', {}))
        done = {key: job for key, job in analyses.items() if job.is_finished_ok}
        for key, job in done.items():
            self.out(f'mobility.{key}', job.outputs.mobility)
        summaries = {f'summary_{key}': job.outputs.summary for key, job in done.items()}
        told = tabulate_diffusion(**outputs_of(jobs), **summaries)
        for name, node in told.items():
            self.out(name, node)
        failed = [
            f'{row["asked_temperature_K"]:g} K: {row["status"] or "missing"}'
            for row in told['summary']['temperatures']
            if row['status'] != 'finished'
        ]
        if failed:
            causes = '; '.join(f'{job.process_label}<{job.pk}>: {job.exit_message}' for job in jobs.values())
            return self.exit_codes.ERROR_JOB_FAILED.format(causes=f'{", ".join(failed)} ({causes})')
        bad = [f'{key}<{job.pk}>: {job.exit_message}' for key, job in analyses.items() if key not in done]
        if bad:
            return self.exit_codes.ERROR_ANALYSIS_FAILED.format(causes='; '.join(bad))
        return None
