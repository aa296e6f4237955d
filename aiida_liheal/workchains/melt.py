"""The verb `melt`: the melting point by coexistence of crystal and melt, between temperatures that close in on it."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterator, Mapping
from typing import Any, cast

from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, calcfunction, while_
from aiida.orm import AbstractCode, ArrayData, Dict, Int
from pydantic import Field, model_validator

from aiida_liheal.analysis.melting import Bracket, bracket, judge, next_temperatures
from aiida_liheal.calculations.common import settings_validator
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.lammps.decks import validate
from aiida_liheal.lammps.kinds import MeltSettings
from aiida_liheal.parsers.common import array_data
from aiida_liheal.sampling.campaign import Cost
from aiida_liheal.sampling.seeds import derive_seed
from aiida_liheal.structures.bcc import LITHIUM_A, bcc_bulk
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.settings import Element, Settings
from aiida_liheal.workchains.packed import PackedWorkChain, Planned, outputs_of, runs_of

__all__ = ('CrystalSettings', 'MeltWorkChain', 'SearchSettings', 'build_crystal_to_melt', 'judge_round', 'plan_round')

#: Atoms from which a melting point may be quoted: with fewer, the two interfaces are most of the cell.
ATOMS_TO_QUOTE = 4000
#: Distance of neighbours within the two first shells of bcc, in lattice constants.
NEIGHBOUR_CUTOFF = 1.13
#: Stands for what each run has of its own where only the length of the runs is asked for.
_ANY = {'temperature_K': 1.0, 'seed': 1}


class CrystalSettings(Settings):
    """A perfect bcc crystal, longer along z than across."""

    element: Element = Field(default='Li', description='chemical symbol')
    lattice_constant_A: float = Field(default=LITHIUM_A, gt=0.5, lt=20, description='cubic lattice constant in Å')
    size: tuple[int, int, int] = Field(description='cubic cells along x, y and z, 2 atoms each; the halves lie along z')

    @model_validator(mode='after')
    def _positive(self) -> CrystalSettings:
        if min(self.size) < 1:
            raise ValueError(f'size = {self.size} cells: each must be 1 or more')
        return self


class SearchSettings(Settings):
    """How the melting point is searched."""

    temperatures_K: tuple[float, ...] = Field(min_length=1, description='temperatures of the first round, in K')
    n_seeds: int = Field(default=1, ge=1, le=20, description='runs at each temperature, which differ in their seeds')
    per_round: int = Field(default=1, ge=1, le=20, description='new temperatures in each later round; 1 is bisection')
    width_K: float = Field(default=10.0, gt=0, description='width in K at which the bracket is narrow enough')
    step_K: float = Field(
        default=50.0, gt=0, description='how far to go beyond the temperatures tried, in K, while all of them agree'
    )
    max_rounds: int = Field(default=6, ge=1, le=50, description='most rounds')
    least_change: float = Field(
        default=0.1, gt=0, lt=1, description='smallest drift of the solid share over a run by which it is judged'
    )

    @model_validator(mode='after')
    def _each_once(self) -> SearchSettings:
        if len(set(self.temperatures_K)) != len(self.temperatures_K) or min(self.temperatures_K) <= 0:
            raise ValueError(f'temperatures_K = {self.temperatures_K} K: each once and above 0')
        return self


def _found(history: Mapping[str, Any]) -> Bracket:
    return bracket([(run['temperature_K'], run['verdict']) for run in history['runs'] if 'verdict' in run])


def _temperatures(search: SearchSettings, history: Mapping[str, Any] | None) -> list[float]:
    """Temperatures of the next round in K."""
    if history is None:
        return sorted(search.temperatures_K)
    # half of the width is as fine as the bracket needs
    return next_temperatures(_found(history), search.per_round, search.step_K, search.width_K / 2)


@calcfunction
def build_crystal_to_melt(crystal: Dict) -> FramesData:
    """The perfect crystal."""
    settings = CrystalSettings.read(crystal.get_dict())
    atoms = bcc_bulk(settings.element, settings.lattice_constant_A, settings.size)
    return FramesData(Frames.from_atoms([atoms]), domain='melt')


def _run(crystal: CrystalSettings, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run with what follows from the crystal."""
    return {'neighbour_cutoff_A': round(NEIGHBOUR_CUTOFF * crystal.lattice_constant_A, 4), **settings}


@calcfunction
def plan_round(search: Dict, crystal: Dict, settings: Dict, seed: Int, **history: Dict) -> Dict:
    """Settings of the runs of a round: the first one, or that after `history`."""
    before = history['history'].get_dict() if 'history' in history else None
    how = SearchSettings.read(search.get_dict())
    told = [] if before is None else [run['temperature_K'] for run in before['runs']]
    runs = []
    for temperature in _temperatures(how, before):
        # one that is run again has another seed
        done = told.count(temperature)
        for number in range(done, done + how.n_seeds):
            run_seed = derive_seed(seed.value, 'melt', f'{temperature:.6f}', number)
            given = _run(CrystalSettings.read(crystal.get_dict()), settings.get_dict())
            runs.append({**given, 'temperature_K': temperature, 'seed': run_seed})
    return Dict({'kind': 'melt', 'runs': runs})


@calcfunction
def judge_round(search: Dict, **nodes: Any) -> dict[str, Any]:
    """What every run so far did, and the shares of solid atoms of this round against time.

    There are the nodes of the jobs of this round, and the `history` up to it.
    """
    how = SearchSettings.read(search.get_dict())
    history: Dict | None = nodes.pop('history', None)
    before: dict[str, Any] = {'rounds': 0, 'runs': []} if history is None else history.get_dict()
    courses = {}
    told = []
    for number, run in enumerate(runs_of(nodes)):
        settings = cast(MeltSettings, validate('melt', run.settings))
        row: dict[str, Any] = {
            'round': before['rounds'],
            'temperature_K': settings.temperature_K,
            'seed': settings.seed,
            'status': run.record.get('status', 'missing'),
        }
        if 'solid_share' in run.thermo:
            times, share = run.thermo['time_ps'], run.thermo['solid_share']
            courses[f'run_{number:03d}_time_ps'] = times
            courses[f'run_{number:03d}_solid_share'] = share
            if run.is_finished:
                both = times > settings.coexistence_from_ps
                limits = (settings.molten_below, settings.frozen_above, how.least_change)
                row |= judge(times[both], share[both], *limits)
        if not run.is_finished:
            row['cause'] = run.fault
        told.append(row)
    outputs: dict[str, Any] = {'history': Dict({'rounds': before['rounds'] + 1, 'runs': before['runs'] + told})}
    if courses:
        outputs['courses'] = array_data(courses)
    return outputs


@calcfunction
def conclude_search(search: Dict, structure: FramesData, history: Dict) -> Dict:
    """The melting point with half the width of its bracket, or the bracket as far as it is known."""
    found, width = _found(history.get_dict()), SearchSettings.read(search.get_dict()).width_K
    n_atoms = int(structure.get_frames().counts[0])
    is_bracketed = found.width_K <= width and found.is_consistent
    told: dict[str, Any] = {
        'outcome': 'bracketed' if is_bracketed else 'not bracketed',
        'low_K': found.low_K,
        'high_K': found.high_K,
        'undecided_K': list(found.undecided_K),
        'is_consistent': found.is_consistent,
        'n_atoms': n_atoms,
        'is_large_enough_to_quote': n_atoms >= ATOMS_TO_QUOTE,
        **history.get_dict(),
    }
    if is_bracketed:
        assert found.low_K is not None  # noqa: S101 (a bracket of finite width has both)
        assert found.high_K is not None  # noqa: S101
        told |= {'melting_point_K': (found.low_K + found.high_K) / 2, 'half_width_K': found.width_K / 2}
    return Dict(told)


class MeltWorkChain(PackedWorkChain):
    """Rounds of coexistence runs, all of a round in one job, until the bracket of the melting point is narrow."""

    _protocol_name = 'melt'

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        spec.input(
            'crystal',
            valid_type=Dict,
            validator=settings_validator(CrystalSettings),
            help='The crystal, one half of which is melted; keys carry their units (see `CrystalSettings`).',
        )
        spec.input(
            'search',
            valid_type=Dict,
            validator=settings_validator(SearchSettings),
            help='Temperatures, seeds, rounds and the width asked for (see `SearchSettings`).',
        )
        spec.input(
            'settings',
            valid_type=Dict,
            help='Settings of the runs, without seed and temperature_K; keys carry their units (kind `melt`).',
        )
        spec.outline(cls.setup, while_(cls.should_go_on)(cls.run_round, cls.inspect_round), cls.results)
        spec.output('start', valid_type=FramesData, help='The crystal.')
        spec.output(
            'summary',
            valid_type=Dict,
            required=False,
            help='Outcome, melting_point_K and half_width_K, the bracket, and what each run did.',
        )
        spec.output_namespace(
            'courses',
            valid_type=ArrayData,
            dynamic=True,
            required=False,
            help='Share of solid atoms against time, r000, … by round: run_000_time_ps, run_000_solid_share, ….',
        )
        spec.exit_code(
            510,
            'ERROR_NOT_BRACKETED',
            message='after {rounds} rounds the melting point lies between {low} and {high} K, wider than {width} K: '
            'allow more rounds, longer runs, more seeds or a larger crystal',
        )

    @classmethod
    def planned(cls, inputs: Mapping[str, Any]) -> Iterator[Planned]:
        """The runs of the first round."""
        crystal = CrystalSettings.read(inputs['crystal'].get_dict())
        search = SearchSettings.read(inputs['search'].get_dict())
        given = _run(crystal, inputs['settings'].get_dict())
        validate('melt', given, {'temperature_K': min(search.temperatures_K), 'seed': 1})
        runs = [{**given, 'temperature_K': temperature, 'seed': 1} for temperature in search.temperatures_K]
        atoms = bcc_bulk(crystal.element, crystal.lattice_constant_A, crystal.size)
        yield Planned('melt', runs, Frames.from_atoms([atoms]))

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
            Laid over the protocol: `crystal`, `search`, `settings`, `runs_per_job`, `limits` (null for none).
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        builder = cls._packed_builder(codes, potentials, inputs, seed, options)
        builder.crystal = Dict(inputs['crystal'])
        builder.search = Dict(inputs['search'])
        builder.settings = Dict(inputs['settings'])
        return builder

    @classmethod
    def cost(cls, builder: ProcessBuilder) -> Cost:
        """Atoms and steps of all runs at most: a search may close in before its last round."""
        search = SearchSettings.read(builder.search.get_dict())
        n_temperatures = len(search.temperatures_K) + (search.max_rounds - 1) * search.per_round
        settings = builder.settings.get_dict()
        size = CrystalSettings.read(builder.crystal.get_dict()).size
        run = Cost.of_run(2 * math.prod(size), validate('melt', settings, _ANY).n_steps)
        return functools.reduce(operator.add, [run] * n_temperatures * search.n_seeds)

    @classmethod
    def plan(cls, builder: ProcessBuilder) -> list[tuple[str, str, str]]:
        """What would be run, for a dry run: name, how many, remark."""
        search = SearchSettings.read(builder.search.get_dict())
        crystal = CrystalSettings.read(builder.crystal.get_dict())
        steps = validate('melt', builder.settings.get_dict(), _ANY).n_steps
        first = len(search.temperatures_K) * search.n_seeds
        later = search.per_round * search.n_seeds
        n_atoms = 2 * math.prod(crystal.size)
        quote = '' if n_atoms >= ATOMS_TO_QUOTE else f'; a value to quote needs {ATOMS_TO_QUOTE}'
        return [
            ('rounds', f'≤ {search.max_rounds}', f'until the bracket is at most {search.width_K:g} K wide'),
            ('runs', f'≤ {first + (search.max_rounds - 1) * later}', f'{first} in the first round, then {later} each'),
            ('atoms', str(n_atoms), f'half of them molten{quote}'),
            ('steps', f'≤ {steps}', 'a run; it ends where one phase is gone'),
        ]

    def setup(self) -> None:
        """Build the crystal."""
        self.ctx.start = build_crystal_to_melt(self.inputs.crystal)
        self.ctx.round = 0
        self.ctx.history = {}
        self.out('start', self.ctx.start)

    def should_go_on(self) -> bool:
        """Whether another round is needed, allowed, and of use."""
        if not self.ctx.history:
            return True
        search = SearchSettings.read(self.inputs.search.get_dict())
        history = self.ctx.history['history'].get_dict()
        if self.ctx.round >= search.max_rounds or not any('verdict' in run for run in history['runs']):
            return False
        found = _found(history)
        if found.width_K <= search.width_K and found.is_consistent:
            return False
        return bool(_temperatures(search, history))

    def run_round(self) -> Any:
        """Run all temperatures and seeds of a round."""
        plan = plan_round(
            self.inputs.search, self.inputs.crystal, self.inputs.settings, self.inputs.seed, **self.ctx.history
        )
        temperatures = sorted({run['temperature_K'] for run in plan['runs']})
        self.report(f'round {self.ctx.round}: {", ".join(f"{t:g}" for t in temperatures)} K')
        return self.submit_runs(f'round_{self.ctx.round}', self.ctx.start, plan, goes_on=True)

    def inspect_round(self) -> None:
        """Judge every run of the round."""
        jobs = dict(self.ctx[f'round_{self.ctx.round}'])
        told = judge_round(self.inputs.search, **self.ctx.history, **outputs_of(jobs))
        if 'courses' in told:
            self.out(f'courses.r{self.ctx.round:03d}', told['courses'])
        self.ctx.history = {'history': told['history']}
        self.ctx.round += 1
        found = _found(told['history'].get_dict())
        self.report(f'freezes at {found.low_K} K, melts at {found.high_K} K, undecided at {list(found.undecided_K)} K')

    def results(self) -> ExitCode | None:
        """The melting point, or why there is none."""
        history = self.ctx.history['history']
        summary = conclude_search(self.inputs.search, self.ctx.start, history)
        self.out('summary', summary)
        self.attach_flags()
        if not any('verdict' in run for run in history['runs']):
            causes = sorted({run['cause'] for run in history['runs']})
            return self.exit_codes.ERROR_JOB_FAILED.format(causes='; '.join(causes))
        if summary['outcome'] != 'bracketed':
            low, high = (('?' if summary[key] is None else f'{summary[key]:g}') for key in ('low_K', 'high_K'))
            width = SearchSettings.read(self.inputs.search.get_dict()).width_K
            return self.exit_codes.ERROR_NOT_BRACKETED.format(
                rounds=summary['rounds'], low=low, high=high, width=f'{width:g}'
            )
        return None
