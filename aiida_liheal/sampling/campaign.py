"""What a campaign runs: series of points on grids, as data, and what they cost (`workchains.campaign` runs them)."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, model_validator

from aiida_liheal.structures.settings import Settings

__all__ = (
    'PACKED_VERBS',
    'Campaign',
    'Cost',
    'FigureSettings',
    'Point',
    'Series',
    'Throughput',
    'lay_over',
    'nested',
    'points',
    'read_campaign',
)

#: Axes of a grid that are no path into the settings.
RESERVED_AXES = ('seed', 'potential', 'protocol')
#: Verbs whose runs a campaign packs in jobs; others that do many runs pack their own.
PACKED_VERBS = ('deposit', 'heal')
#: More points than this are a mistake in a grid.
MAX_POINTS = 2000
_SERIES_NAME = re.compile(r'[a-z](_?[a-z0-9])*')
_PATH = re.compile(r'[A-Za-z]\w*(\.\w+)*')


class FigureSettings(Settings):
    """What is drawn of a series: a quantity against a variable of its grid, coloured by another."""

    y: str = Field(description='column of the table along the vertical axis')
    x: str | None = Field(
        None,
        description='axis of the grid along the horizontal axis, its first one if not given; or a column of the table, '
        'where that and y hold lists',
    )
    colour: str | None = Field(None, description='axis of the grid that lines and colours are for; the second one')


class Throughput(Settings):
    """A measured speed, for estimates of cost."""

    katom_step_per_s: float = Field(gt=0, description='thousands of atoms times steps in a second')
    potential: str | None = Field(None, description='name of the potential that it holds for; any if not given')
    measured_on: str = Field(min_length=1, description='machine, potential and number of atoms it was measured with')


class Series(Settings):
    """Runs of one verb: what they have in common, and the grid of what they differ in."""

    verb: str = Field(description='what is run: deposit, heal, or another verb whose runs take a potential and a seed')
    protocol: str | None = Field(None, description='protocol of the verb; its default if not given')
    potential: str | None = Field(None, description='name of the potential; that of the campaign if not given')
    seed: int | None = Field(None, ge=0, description='seed of every run; that of the campaign if not given')
    overrides: dict[str, Any] = Field(
        default_factory=dict, description='laid over the protocol; dots in a key lead into nested settings'
    )
    grid: dict[str, list[Any] | dict[str | float, Any]] = Field(
        default_factory=dict,
        description='axes: a dotted path into the settings, seed, potential or protocol with a list of values, or any '
        'name with what is laid over the settings by the name of each value',
    )
    runs_per_job: int = Field(
        1,
        ge=1,
        description=f'most runs that are packed in one job, in series of {" and ".join(PACKED_VERBS)}: a run that is '
        'too small for a GPU leaves room for others',
    )
    side_by_side: bool = Field(
        True, description='packed runs are all done at once; if not, one after another in their job'
    )
    columns: list[str] | None = Field(
        None,
        min_length=1,
        description='results in the table, as dotted paths of outputs, `*` for each item of a list; those of the verb '
        'if none',
    )
    figure: FigureSettings | None = Field(None, description='what is drawn of the series')
    options: dict[str, Any] = Field(default_factory=dict, description='options of the jobs for the scheduler')
    note: str = Field('', description='what the series is for')
    source: str = Field('', description='the sentence or figure that it comes from')

    @model_validator(mode='after')
    def _packing(self) -> Series:
        if self.runs_per_job > 1 and self.verb not in PACKED_VERBS:
            raise ValueError(
                f'runs_per_job = {self.runs_per_job}: allowed for {" and ".join(PACKED_VERBS)}; {self.verb!r} does '
                'each point in jobs of its own: see `runs_per_job` of its protocol, for `overrides`'
            )
        return self

    @model_validator(mode='after')
    def _axes(self) -> Series:
        seen: dict[str, str] = {}
        for axis, values in self.grid.items():
            if not values:
                raise ValueError(f'grid.{axis}: no value given; give one or more')
            if isinstance(values, list):
                self._check_list(axis, values)
            elif axis in RESERVED_AXES:
                raise ValueError(f'grid.{axis}: takes a list of values, not names')
            elif strange := [name for name, change in values.items() if not isinstance(change, dict | type(None))]:
                raise ValueError(f'grid.{axis}.{strange[0]} = {values[strange[0]]!r}: must hold settings by name')
            for path in sorted(changed_by(axis, values)):
                other = next((key for key in seen if _overlap(key, path)), None)
                if other is not None:
                    raise ValueError(f'grid: {seen[other]} and {axis} both change {path}; one axis may')
            seen |= dict.fromkeys(changed_by(axis, values), axis)
        if self.figure is not None:
            # a figure of columns that hold lists has one of them along x
            drawn = [path.rsplit('.', 1)[-1] for path in self.columns or ()]
            for key in ('x', 'colour'):
                axis = getattr(self.figure, key)
                if axis is not None and axis not in self.grid and (key == 'colour' or axis not in drawn):
                    raise ValueError(
                        f'figure.{key} = {axis!r}: no axis of the grid; they are {", ".join(self.grid) or "none"}'
                    )
        if (number := self.n_points) > MAX_POINTS:
            raise ValueError(f'grid: {number} points; allowed are {MAX_POINTS} in a series')
        return self

    @staticmethod
    def _check_list(axis: str, values: list[Any]) -> None:
        if not _PATH.fullmatch(axis):
            raise ValueError(f'grid.{axis}: no dotted path; write such as settings.temperature_K')
        if axis == 'seed' and not all(type(value) is int and value >= 0 for value in values):
            raise ValueError(f'grid.seed = {values}: whole numbers of 0 or more are allowed')
        if axis in ('potential', 'protocol') and not all(isinstance(value, str) for value in values):
            raise ValueError(f'grid.{axis} = {values}: names are allowed')
        if any(isinstance(value, dict) for value in values):
            raise ValueError(f'grid.{axis}: settings in a list have no name; write a name before each')
        slugs = [slug(value) for value in values]
        if twice := {name for name in slugs if slugs.count(name) > 1}:
            raise ValueError(f'grid.{axis} = {values}: {", ".join(sorted(twice))} is given twice')

    @property
    def n_points(self) -> int:
        """Number of points of the grid; 1 without axes."""
        return math.prod(len(values) for values in self.grid.values())


class Campaign(Settings):
    """Series of runs, with what they have in common."""

    title: str = Field(min_length=1, description='what the campaign is, in a line')
    description: str = Field('', description='what it shows and what it does not')
    potential: str | None = Field(None, description='name of the potential of all series that name no other')
    seed: int = Field(0, ge=0, description='seed of all series that give no other')
    max_at_once: int = Field(
        1, ge=1, description='most runs that are under way at once; those that are packed in a job count as one'
    )
    max_attempts: int = Field(2, ge=1, description='times that a point is tried in all, those of earlier campaigns too')
    throughput: Throughput | None = Field(None, description='a measured speed, for estimates of cost')
    options: dict[str, Any] = Field(default_factory=dict, description='options of all jobs for the scheduler')
    series: dict[str, Series] = Field(min_length=1, description='the series by name')


@dataclass(frozen=True)
class Point:
    """One run of a campaign.

    Parameters
    ----------
    name : str
        Stable: it says the series and the place in its grid, and does not change when the grid grows.
    series, verb, protocol, potential, seed
        As in `Series`; the potential is a name, the protocol may be None for the default of the verb.
    overrides : dict
        What is laid over the protocol, nested.
    values : dict
        Place in the grid: value or its name by axis.
    options : dict
        Options of the jobs.
    """

    name: str
    series: str
    verb: str
    protocol: str | None
    potential: str
    seed: int
    overrides: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What a run costs.

    Parameters
    ----------
    atoms : int
        At the start; of the largest run, if there are several.
    steps : int
        Steps of all runs; at most, where a run may end before.
    atom_steps : float
        Atoms times steps, with the mean number of atoms where it grows.
    """

    atoms: int
    steps: int
    atom_steps: float

    @classmethod
    def of_run(cls, atoms: int, steps: int, n_inserted: int = 0, every_steps: int = 0) -> Cost:
        """One run that atoms may be inserted in, at step 1 and every `every_steps` after it."""
        present = n_inserted * (steps - 1) - every_steps * n_inserted * (n_inserted - 1) / 2
        return cls(atoms, steps, atoms * steps + max(0.0, present))

    def __add__(self, other: Cost) -> Cost:
        return Cost(max(self.atoms, other.atoms), self.steps + other.steps, self.atom_steps + other.atom_steps)

    def hours(self, katom_step_per_s: float) -> float:
        """Time in hours at a speed in thousands of atoms times steps a second."""
        return self.atom_steps / (1000 * katom_step_per_s) / 3600


def read_campaign(values: Mapping[str, Any]) -> Campaign:
    """A campaign from plain values, as they come out of a YAML file.

    Raises
    ------
    ValueError
        With a line for each fault: its path, what was given, and what is allowed.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f'a campaign is a mapping with title and series, not a {type(values).__name__}')
    faults: list[str] = []
    given = values.get('series')
    series: dict[str, Series] = {}
    if isinstance(given, Mapping):
        for name, content in given.items():
            if not isinstance(name, str) or not _SERIES_NAME.fullmatch(name):
                faults.append(f'series.{name}: a name is of small letters, digits and single _, a letter first')
                continue
            if not isinstance(content, Mapping):
                faults.append(f'series.{name}: must be a mapping with verb and grid, not {content!r}')
                continue
            try:
                series[name] = Series.read(content)
            except ValueError as error:
                faults += [f'series.{name}.{line}' for line in str(error).splitlines()]
    try:
        # faults of the series are told above, each under its name
        content = series if isinstance(given, Mapping) and (series or given) else given
        rest = {key: value for key, value in values.items() if key != 'series'}
        campaign = Campaign.read({**rest, **({'series': content} if 'series' in values else {})})
    except ValueError as error:
        lines = str(error).splitlines()
        faults += [line for line in lines if series or not given or not line.startswith('series = ')]
        campaign = None
    if campaign is not None and not faults:
        for name, one in campaign.series.items():
            if one.potential is None and campaign.potential is None and 'potential' not in one.grid:
                faults.append(f'series.{name}.potential: missing; name one here, in the grid, or for the campaign')
        if not faults:
            names = [point.name for point in points(campaign)]
            faults += [f'two points are called {name}; rename a series' for name in names if names.count(name) > 1]
    if faults or campaign is None:
        raise ValueError('\n'.join(dict.fromkeys(faults)))
    return campaign


def points(campaign: Campaign) -> Iterator[Point]:
    """The points of all series in their order, the last axis of a grid running fastest."""
    for name, series in campaign.series.items():
        for chosen in itertools.product(*(_choices(axis, values) for axis, values in series.grid.items())):
            overrides = nested(series.overrides)
            special: dict[str, Any] = {
                'seed': campaign.seed if series.seed is None else series.seed,
                'potential': series.potential or campaign.potential,
                'protocol': series.protocol,
            }
            for axis, (value, changes) in zip(series.grid, chosen, strict=True):
                if axis in RESERVED_AXES:
                    special[axis] = value
                else:
                    overrides = lay_over(overrides, changes)
            values = {axis: value for axis, (value, _) in zip(series.grid, chosen, strict=True)}
            parts = [name, *(f'{slug(axis.rsplit(".", 1)[-1])}_{slug(value)}' for axis, value in values.items())]
            yield Point(
                name=re.sub('_+', '_', '_'.join(parts)).strip('_'),
                series=name,
                verb=series.verb,
                overrides=overrides,
                values=values,
                options=lay_over(campaign.options, series.options),
                **special,
            )


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings: {'a.b': 1} is {'a': {'b': 1}}."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        *outer, last = str(key).split('.')
        change: dict[str, Any] = {last: nested(value) if isinstance(value, Mapping) else value}
        for part in reversed(outer):
            change = {part: change}
        result = lay_over(result, change)
    return result


def lay_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mappings key by key; neither is changed."""
    merged = dict(base)
    for key, value in changes.items():
        before = merged.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            value = lay_over(before, value)
        merged[key] = value
    return merged


def slug(value: Any) -> str:
    """A value in letters, digits and `_`, as names of points have them: 0.5 is `0p5`, -1 is `m1`, [6, 4] is `6x4`."""
    if isinstance(value, list | tuple):
        return 'x'.join(slug(item) for item in value)
    if isinstance(value, float):
        value = f'{value:g}'
    text = str(value).replace('.', 'p').replace('-', 'm').replace('+', '')
    return re.sub('_+', '_', re.sub(r'[^A-Za-z0-9]', '_', text)).strip('_') or 'empty'


def changed_by(axis: str, values: list[Any] | dict[str | float, Any]) -> set[str]:
    """Dotted paths that an axis changes."""
    if isinstance(values, list):
        return {axis}
    return {path for change in values.values() for path in _leaves(nested(change or {}))}


def _choices(axis: str, values: list[Any] | dict[str | float, Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Value or its name, and what it lays over the settings, for each value of an axis."""
    if isinstance(values, list):
        return [(value, nested({axis: value})) for value in values]
    return [(name, nested(change or {})) for name, change in values.items()]


def _leaves(values: Mapping[str, Any], prefix: str = '') -> Iterator[str]:
    for key, value in values.items():
        path = f'{prefix}{key}'
        if isinstance(value, Mapping):
            yield from _leaves(value, f'{path}.')
        else:
            yield path


def _overlap(one: str, other: str) -> bool:
    """Whether one dotted path is the other or leads to it."""
    return one == other or one.startswith(f'{other}.') or other.startswith(f'{one}.')
