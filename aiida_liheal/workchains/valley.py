"""The verb `valley`: the energy of an atom in valleys of many angles, and the way of an atom down a slope."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, calcfunction
from aiida.orm import AbstractCode, ArrayData, Dict, Float, Int, List

from aiida_liheal.analysis.valleys import arrival, distance_to_line, mean_and_spread, rank_correlation, rise
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.lammps.decks import validate
from aiida_liheal.parsers.common import array_data
from aiida_liheal.sampling.seeds import derive_seed
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.valleys import SlopeSettings, ValleySettings
from aiida_liheal.workchains.packed import PackedWorkChain, Planned, outputs_of, runs_of
from aiida_liheal.workchains.ports import whole_number
from aiida_liheal.workchains.protocol import whole

__all__ = ('ValleyWorkChain', 'follow_slides', 'plan_slides', 'plan_valleys', 'tabulate_valleys')

#: Energies that a run prints for each member.
_ENERGIES = ('atom', 'with', 'without')
#: Stands for what each run has of its own where the others of its settings are looked at.
_ANY = {'seed': 1}


def _valleys(crystal: Mapping[str, Any], angles_deg: list[float]) -> list[ValleySettings]:
    if not angles_deg or len(set(angles_deg)) != len(angles_deg):
        raise ValueError(f'angles_deg = {angles_deg}: needs at least one angle in degrees, each once')
    return [ValleySettings.read({**crystal, 'angle_deg': angle}) for angle in angles_deg]


def _bottom_A(slope: SlopeSettings) -> tuple[float, float]:  # noqa: N802 (the unit)
    """Place x, z of an atom that lies at the bottom: where one is put in the same valley."""
    values = {key: value for key, value in slope.model_dump().items() if key not in ('shape', 'from_bottom_A')}
    x, _, z = ValleySettings.read(values).build().positions[-1]
    return float(x), float(z)


@calcfunction
def plan_valleys(crystal: Dict, angles_deg: List, settings: Dict, seed: Int) -> dict[str, Any]:
    """The structures, one an angle, and the settings of the runs that relax them."""
    shapes = _valleys(crystal.get_dict(), angles_deg.get_list())
    frames = Frames.from_atoms(
        [shape.build() for shape in shapes], angle_deg=np.array([shape.angle_deg for shape in shapes])
    )
    runs = [
        {
            'fixed_below_A': shape.fixed_below_A,
            **settings.get_dict(),
            'structure': number,
            'seed': derive_seed(seed.value, 'valley', number),
        }
        for number, shape in enumerate(shapes)
    ]
    return {'structures': FramesData(frames, domain='valley'), 'settings': Dict({'kind': 'valley', 'runs': runs})}


@calcfunction
def plan_slides(crystal: Dict, settings: Dict, n_slides: Int, seed: Int) -> dict[str, Any]:
    """The slope with its atom, and the settings of the runs that begin there, each with a seed of its own."""
    shape = SlopeSettings.read(crystal.get_dict())
    runs = [
        {
            'fixed_below_A': shape.fixed_below_A,
            **settings.get_dict(),
            'structure': 0,
            'seed': derive_seed(seed.value, 'slide', number),
        }
        for number in range(n_slides.value)
    ]
    return {
        'structures': FramesData(Frames.from_atoms([shape.build()]), domain='slope'),
        'settings': Dict({'kind': 'slide', 'runs': runs}),
    }


@calcfunction
def tabulate_valleys(structures: FramesData, n_members: Int, **nodes: Any) -> dict[str, Any]:
    """Energies by angle and member with mean and spread, and what they show.

    `atom_energy_eV` is the potential energy that the model gives to the atom, as in the paper; how a Deep Potential
    shares its energy out among atoms is a matter of gauge. `removal_energy_eV` is not: the energy of the relaxed
    structure less that of the same structure without the atom, which is not relaxed again. So every member sees the
    same two structures, and what the surface would do without the atom is left out.
    """
    angles = structures.get_frames().extra['angle_deg']
    runs = runs_of(nodes)
    values = [run.record.get('values', {}) if run.is_finished else {} for run in runs]
    table = {
        name: np.array([[v.get(f'm{m}_{name}_eV', np.nan) for m in range(n_members.value)] for v in values])
        for name in _ENERGIES
    }
    force = np.array([v.get('max_force_eV_per_A', np.nan) for v in values])
    asked = np.array([run.settings.get('max_force_eV_per_A', np.nan) for run in runs])
    energies = {'atom_energy': table['atom'], 'removal_energy': table['with'] - table['without']}
    arrays = {'angle_deg': angles, 'max_force_eV_per_A': force}
    summary: dict[str, Any] = {
        'angles_deg': angles.tolist(),
        'n_members': n_members.value,
        'failed': {f'{angle:g}': run.fault for angle, run in zip(angles, runs, strict=True) if not run.is_finished},
        'not_relaxed_deg': angles[force > asked].tolist(),
    }
    for name, energy in energies.items():
        mean, spread = mean_and_spread(energy)
        above = rise(angles, energy)
        rise_mean, rise_spread = mean_and_spread(above)
        arrays |= {
            f'{name}_eV': energy,
            f'{name}_mean_eV': mean,
            f'{name}_spread_eV': spread,
            f'{name}_rise_mean_eV': rise_mean,
            f'{name}_rise_spread_eV': rise_spread,
        }
        summary[name] = {
            'mean_eV': _plain(mean),
            'spread_eV': _plain(spread),
            'rise_mean_eV': _plain(rise_mean),
            'rise_spread_eV': _plain(rise_spread),
            # 1: the energy rises from each angle to the next
            'rank_correlation_with_angle': _plain([rank_correlation(angles, mean)])[0],
        }
    return {'energies': array_data(arrays), 'summary': Dict(summary)}


@calcfunction
def follow_slides(crystal: Dict, reach_A: Float, **nodes: Any) -> dict[str, Any]:
    """Position of the atom against time in each slide, its distance from the bottom, whether it came there and stayed.

    A slide that broke off is followed as far as it came; what is missing of it is NaN.
    """
    shape = SlopeSettings.read(crystal.get_dict())
    bottom, period = _bottom_A(shape), shape.lengths_A[0]
    slides: list[dict[str, Any]] = []
    courses = []
    for run in runs_of(nodes):
        slide: dict[str, Any] = {'status': run.record.get('status', 'missing')}
        if not run.is_finished:
            slide['cause'] = run.fault
        if 'placed_x_A' in run.thermo:
            positions = np.column_stack([run.thermo[f'placed_{axis}_A'] for axis in 'xyz'])
            distances = distance_to_line(positions, bottom, period)
            times = run.thermo['time_ps']
            slide |= {
                **arrival(times, distances, reach_A.value),
                'start_A': float(distances[0]),
                'closest_A': float(distances.min()),
                'end_A': float(distances[-1]),
                'duration_ps': float(times[-1]),
            }
            courses.append((len(slides), times, positions, distances))
        slides.append(slide)
    summary: dict[str, Any] = {
        'reach_A': reach_A.value,
        'n_slides': len(slides),
        'n_finished': sum(slide['status'] == 'finished' for slide in slides),
        'n_reached': sum(slide.get('reached_at_ps') is not None for slide in slides),
        'n_stay': sum(slide.get('stays', False) for slide in slides),
        'slides': slides,
    }
    if not courses:
        return {'summary': Dict(summary)}
    longest = max((times for _, times, _, _ in courses), key=len)
    position = np.full((len(slides), len(longest), 3), np.nan)
    distance = np.full((len(slides), len(longest)), np.nan)
    for number, times, positions, distances in courses:
        position[number, : len(times)] = positions
        distance[number, : len(times)] = distances
    course = {'time_ps': longest, 'position_A': position, 'distance_A': distance}
    return {'course': array_data(course), 'summary': Dict(summary)}


def _plain(values: Any) -> list[float | None]:
    """Numbers as JSON knows them; None where they are not finite."""
    return [float(value) if np.isfinite(value) else None for value in values]


class ValleyWorkChain(PackedWorkChain):
    """Relax an atom in valleys from narrow to beyond flat, and tell its energy by each member of the committee."""

    _protocol_name = 'valley'

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        spec.input(
            'crystal',
            valid_type=Dict,
            help='The valley without its angle; keys carry their units (see `ValleySettings` of the structures).',
        )
        spec.input('angles_deg', valid_type=List, help='Angles between the walls, in degrees, 45 to 270.')
        spec.input(
            'settings',
            valid_type=Dict,
            default=lambda: Dict({}),
            help='Settings of the relaxation, without seed and fixed_below_A (kind `valley`).',
        )
        spec.input(
            'slope', valid_type=Dict, required=False, help='A valley with an atom on its slope (see `SlopeSettings`).'
        )
        spec.input(
            'slide',
            valid_type=Dict,
            required=False,
            help='Settings of the runs that begin there, without seed and fixed_below_A (kind `slide`).',
        )
        spec.input(
            'n_slides',
            valid_type=Int,
            default=lambda: Int(1),
            validator=whole_number('n_slides'),
            help='Number of these runs, which differ in their seeds: heat decides which way one atom goes.',
        )
        spec.input(
            'reach_A',
            valid_type=Float,
            default=lambda: Float(1.755),
            validator=lambda node, _: (
                f'reach_A is {node.value} Å; allowed is more than 0 Å' if node.value <= 0 else None
            ),
            help='An atom this near to its place at the bottom, in Å, is there; half a lattice constant of lithium.',
        )
        spec.outline(cls.run_valleys, cls.results)
        spec.output('structures', valid_type=FramesData, help='The starts, one an angle; extra: angle_deg.')
        spec.output(
            'energies',
            valid_type=ArrayData,
            help='By angle: energy of the atom by each member, (n_angles, n_members), mean and spread, in eV.',
        )
        spec.output('summary', valid_type=Dict, help='The same as plain numbers, and what failed or is not relaxed.')
        spec.output(
            'slide.course',
            valid_type=ArrayData,
            required=False,
            help='Of the atom on the slope: time_ps (n,), position_A (n_slides, n, 3), distance_A from the bottom '
            '(n_slides, n).',
        )
        spec.output(
            'slide.summary',
            valid_type=Dict,
            required=False,
            help='How many slides came to the bottom and how many stayed there; `slides`: each of them.',
        )
        spec.exit_code(
            510,
            'ERROR_NOT_RELAXED',
            message='at {angles}° forces remain above max_force_eV_per_A after max_steps steps; allow more steps',
        )

    @classmethod
    def planned(cls, inputs: Mapping[str, Any]) -> Iterator[Planned]:
        """A relaxation at each angle, and the slides."""
        if ('slope' in inputs) != ('slide' in inputs):
            raise ValueError('slope and slide belong together: give both or neither')
        shapes = _valleys(inputs['crystal'].get_dict(), inputs['angles_deg'].get_list())
        yield cls._runs('valley', inputs['settings'], shapes)
        if 'slope' in inputs:
            slope = SlopeSettings.read(inputs['slope'].get_dict())
            one = cls._runs('slide', inputs['slide'], [slope])
            yield one._replace(runs=one.runs * inputs['n_slides'].value)

    @staticmethod
    def _runs(kind: str, settings: Dict, shapes: list[Any]) -> Planned:
        runs = []
        for number, shape in enumerate(shapes):
            values = {'fixed_below_A': shape.fixed_below_A, **settings.get_dict()}
            validate(kind, values, _ANY)
            runs.append({**values, **_ANY, 'structure': number})
        return Planned(kind, runs, Frames.from_atoms([shape.build() for shape in shapes]))

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, AbstractCode],
        potentials: Mapping[str, PotentialData] | PotentialData,
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
        overrides : dict, optional
            Laid over the protocol: `crystal`, `angles_deg`, `settings`, `slope` and `slide` (null for none),
            `n_slides`, `reach_A`, `runs_per_job`, `limits` (null for none).
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        builder = cls._packed_builder(codes, potentials, inputs, seed, options)
        builder.crystal = Dict(inputs['crystal'])
        builder.angles_deg = List(inputs['angles_deg'])
        builder.settings = Dict(inputs['settings'])
        if inputs['slope'] is not None and inputs['slide'] is not None:
            builder.slope = Dict(inputs['slope'])
            builder.slide = Dict(inputs['slide'])
        builder.n_slides = whole(inputs, 'n_slides')
        builder.reach_A = Float(inputs['reach_A'])
        return builder

    @classmethod
    def plan(cls, builder: ProcessBuilder) -> list[tuple[str, str, str]]:
        """What would be run, for a dry run: name, how many, remark."""
        shapes = _valleys(builder.crystal.get_dict(), builder.angles_deg.get_list())
        counts = [len(shape.build()) for shape in shapes]
        steps = validate('valley', {'fixed_below_A': 1.0, **builder.settings.get_dict()}, _ANY).n_steps
        has_slide = 'slope' in builder
        n_slides, size = builder.n_slides.value, builder.runs_per_job.value
        jobs = -(-len(shapes) // size) + has_slide * -(-n_slides // size)
        rows = [
            ('jobs', str(jobs), f'at most {size} runs each'),
            ('valleys', str(len(shapes)), f'{min(counts)} to {max(counts)} atoms, at most {steps} steps each'),
        ]
        if has_slide:
            atoms = len(SlopeSettings.read(builder.slope.get_dict()).build())
            steps = validate('slide', {'fixed_below_A': 1.0, **builder.slide.get_dict()}, _ANY).n_steps
            rows.append(('slides', str(n_slides), f'{atoms} atoms, {steps} steps each'))
        return rows

    def run_valleys(self) -> Any:
        """Relax all valleys, packed in one job, and let the atom on the slope go."""
        plan = plan_valleys(self.inputs.crystal, self.inputs.angles_deg, self.inputs.settings, self.inputs.seed)
        self.out('structures', plan['structures'])
        awaited = self.submit_runs('valleys', plan['structures'], plan['settings'])
        if 'slope' in self.inputs:
            slide = plan_slides(self.inputs.slope, self.inputs.slide, self.inputs.n_slides, self.inputs.seed)
            awaited |= self.submit_runs('slide', slide['structures'], slide['settings'], goes_on=True)
        return awaited

    def results(self) -> ExitCode | None:
        """Tabulate the energies, and follow the atom down the slope in each slide."""
        self.attach_flags()
        jobs = dict(self.ctx.valleys)
        structures = next(iter(jobs.values())).inputs.structures
        told = tabulate_valleys(structures, Int(len(self.inputs.potentials)), **outputs_of(jobs))
        self.out('energies', told['energies'])
        self.out('summary', told['summary'])
        failed = [f'valley of {angle}°: {cause}' for angle, cause in told['summary']['failed'].items()]
        if 'slide' in self.ctx:
            slide = follow_slides(self.inputs.slope, self.inputs.reach_A, **outputs_of(dict(self.ctx.slide)))
            for name, node in slide.items():
                self.out(f'slide.{name}', node)
            for number, one in enumerate(slide['summary']['slides']):
                if 'cause' in one:
                    failed.append(f'slide {number}: {one["cause"]}')
        if failed:
            return self.exit_codes.ERROR_JOB_FAILED.format(causes='; '.join(failed))
        if told['summary']['not_relaxed_deg']:
            angles = ', '.join(f'{angle:g}' for angle in told['summary']['not_relaxed_deg'])
            return self.exit_codes.ERROR_NOT_RELAXED.format(angles=angles)
        return None
