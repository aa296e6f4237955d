"""How the checks of the paper are judged by numbers that runs gave: within limits, compared, rising, seen or not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from aiida_liheal.analysis.trends import P_BY_CHANCE, Trend, trend_of
from aiida_liheal.structures.settings import Settings

__all__ = (
    'OUTCOMES',
    'SIZES',
    'Coexistence',
    'Compared',
    'DipsAndRecovers',
    'ExpectedForm',
    'Faster',
    'Forms',
    'Happens',
    'MissingError',
    'Properties',
    'Reading',
    'Reference',
    'Rises',
    'Run',
    'Size',
    'Verdict',
    'Within',
    'follow',
    'joined',
    'matches',
    'places_of',
)

Outcome = Literal['pass', 'fail', 'not at this size', 'not run']
OUTCOMES: tuple[Outcome, ...] = ('pass', 'fail', 'not at this size', 'not run')
#: A difference of this many standard errors is one.
SIGMAS = 2.0
#: Most values that are told one by one.
MAX_TOLD = 9

_PART_OF_PATH = re.compile(r'[^.\[\]]+|\[[^\]]*\]')
_INDEX = re.compile(r'-?\d+')
_SELECTION = re.compile(r'\[(\w+)=([^\]]*)\]')


class Reading(Settings):
    """A number in what a run gave."""

    path: str = Field(min_length=1, description='dotted path: name of an output, then keys; list[key=value] selects')
    take: Literal['value', 'last', 'end', 'end_spread', 'top', 'bottom'] = Field(
        default='value',
        description='the value itself, the last of a list, the mean or the standard deviation of its last ones, or the '
        'mean of one end of a profile',
    )
    n_last: int = Field(default=5, ge=2, description='how many of a list are its last ones')
    by: str | None = Field(default=None, description='path of the heights in Å of a profile')
    weights: str | None = Field(default=None, description='path of the numbers of atoms by height of a profile')
    reach_A: float = Field(default=10.0, gt=0, description='how far an end of a profile reaches, in Å')

    @model_validator(mode='after')
    def _profile_is_whole(self) -> Self:
        if self.take in ('top', 'bottom') and (self.by is None or self.weights is None):
            raise ValueError(f'take = {self.take}: a profile needs by and weights')
        return self


Value = str | Reading


class Size(Settings):
    """Where the size of a run of some verb is told."""

    atoms: Value | None = None
    time_ps: Value | None = None
    cell_nm: Value | None = None
    frames: Value | None = None


_TRAJECTORY = Size(
    atoms='analysis.summary.max.n_atoms', time_ps='analysis.summary.end.time_ps', cell_nm='start.cell_nm'
)
#: By verb; `test` stands for the test of a potential on labelled frames.
SIZES: dict[str, Size] = {
    'deposit': _TRAJECTORY,
    'heal': _TRAJECTORY,
    'melt': Size(
        atoms='summary.n_atoms',
        time_ps=Reading(path='courses.r000.run_000_time_ps', take='last'),
        cell_nm='start.cell_nm',
    ),
    'valley': Size(atoms='structures.n_atoms', cell_nm='structures.cell_nm'),
    'diffuse': Size(atoms='start.n_atoms', time_ps='summary.temperatures.0.surface.length_ps', cell_nm='start.cell_nm'),
    'validate': Size(atoms='structures.n_atoms'),
    'test': Size(frames='summary.n_frames'),
}


class MissingError(ValueError):
    """A run gave no such number."""


@dataclass(frozen=True)
class Run:
    """A run of a series.

    Parameters
    ----------
    point : str
        Its name.
    series, verb : str
        What it belongs to, and what was run.
    grid : mapping
        Its place: value or name by axis.
    state : str
        `finished`, or `failed` for the reason `cause`.
    results : mapping
        What it gave, by the name of the output: nested mappings and lists.
    """

    point: str
    series: str
    verb: str
    grid: Mapping[str, Any] = field(default_factory=dict)
    state: str = 'finished'
    cause: str = ''
    results: Mapping[str, Any] = field(default_factory=dict)

    def find(self, value: Value | None) -> Any:
        """What is there; None if nothing is."""
        if value is None:
            return None
        reading = Reading(path=value) if isinstance(value, str) else value
        found = follow(self.results, reading.path)
        if found is None or reading.take == 'value':
            return found
        if reading.take == 'last':
            return found[-1] if len(found) else None
        if reading.take in ('end', 'end_spread'):
            return _at_the_end(found, reading)
        heights, weights = (follow(self.results, path or '') for path in (reading.by, reading.weights))
        return None if heights is None or weights is None else _end_of(found, heights, weights, reading)

    def denies(self, value: Value) -> bool:
        """Whether it says that there is nothing, as of what did not happen; not whether it says nothing."""
        outer, _, key = (value if isinstance(value, str) else value.path).rpartition('.')
        place = follow(self.results, outer) or self.results.get(outer)
        return isinstance(place, Mapping) and key in place and place[key] is None

    def number(self, value: Value) -> float:
        """A finite number. Raises MissingError naming the run and the path if there is none."""
        found = self.find(value)
        if isinstance(found, bool) or not isinstance(found, int | float | np.number) or not math.isfinite(found):
            path = value if isinstance(value, str) else value.path
            raise MissingError(f'{self.point} gave no {path}')
        return float(found)


def follow(results: Mapping[str, Any], path: str) -> Any:
    """What is at a dotted path, whose beginning is the name of an output, which may have dots; None if nothing is."""
    name = next((name for name in sorted(results, key=len, reverse=True) if path.startswith(f'{name}.')), None)
    if name is None:
        return None
    found: Any = results[name]
    for part in _PART_OF_PATH.findall(path[len(name) + 1 :]):
        selection = _SELECTION.fullmatch(part)
        if selection and isinstance(found, Sequence):
            key, wanted = selection.groups()
            found = next((item for item in found if str(item.get(key)) == wanted), None)
        elif isinstance(found, Mapping):
            found = found.get(part)
        elif isinstance(found, Sequence) and not isinstance(found, str) and _INDEX.fullmatch(part):
            index = int(part)
            found = found[index] if -len(found) <= index < len(found) else None
        else:
            return None
    return found


def _at_the_end(values: Any, reading: Reading) -> float | None:
    """Mean of the last values, or their standard deviation: one frame is a matter of chance.

    The deviation is not taken for that of as many values: frames that follow each other are alike.
    """
    last = np.array([math.nan if value is None else value for value in values[-reading.n_last :]], dtype=float)
    if len(last) < reading.n_last or not np.isfinite(last).all():
        return None
    return float(last.mean() if reading.take == 'end' else last.std(ddof=1))


def _end_of(values: Any, heights: Any, weights: Any, reading: Reading) -> float | None:
    """Mean over the slices within reach of the highest or lowest one that has a value, by their numbers of atoms."""
    y, z, n = (
        np.array([math.nan if v is None else v for v in array], dtype=float) for array in (values, heights, weights)
    )
    known = np.isfinite(y) & (n > 0)
    if not known.any():
        return None
    near = z > z[known].max() - reading.reach_A if reading.take == 'top' else z < z[known].min() + reading.reach_A
    return float(np.average(y[known & near], weights=n[known & near]))


@dataclass(frozen=True)
class Group:
    """The runs at one place of a grid, whatever their seeds: the mean of a number, and its standard error."""

    grid: Mapping[str, Any]
    mean: float
    error: float | None
    n: int

    @property
    def label(self) -> str:
        """Its place in the grid, for people."""
        return ', '.join(f'{axis.rsplit(".", 1)[-1]} {_plain(value)}' for axis, value in self.grid.items())


@dataclass(frozen=True)
class Verdict:
    """What a part comes to: `ours` for people; value and standard error if it is one number."""

    outcome: Outcome
    ours: str
    reason: str
    value: float | None = None
    error: float | None = None


def _time_of(run: Run) -> Value:
    time = SIZES.get(run.verb, Size()).time_ps
    if time is None:
        raise MissingError(f'{run.point}: runs of {run.verb} have no length in time')
    return time


def _groups(runs: Sequence[Run], value: Value, error: Value | None = None) -> list[Group]:
    """Means over seeds; the error is that of the mean, or the one that the only run tells."""
    by_place: dict[str, list[Run]] = {}
    for run in runs:
        by_place.setdefault(repr(_place(run.grid)), []).append(run)
    found = []
    for members in by_place.values():
        values = np.array([run.number(value) for run in members])
        told: float | None = None
        if len(values) > 1:
            told = float(values.std(ddof=1) / math.sqrt(len(values)))
        elif error is not None and members[0].find(error) is not None:
            told = members[0].number(error)
        found.append(Group(_place(members[0].grid), float(values.mean()), told, len(values)))
    return found


def _place(grid: Mapping[str, Any]) -> dict[str, Any]:
    return {axis: _plain(value) for axis, value in grid.items() if axis != 'seed'}


def places_of(runs: Sequence[Run]) -> set[str]:
    """Where in the grid there are runs, whatever their seeds."""
    return {repr(sorted(_place(run.grid).items())) for run in runs}


def _plain(value: Any) -> Any:
    """A value of an axis as it is compared: 5, 5.0 and «5», as names of values come back from a database, are one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return int(number) if number.is_integer() else number


def matches(grid: Mapping[str, Any], where: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a place is one of those named; any is if none is named."""
    return not where or any(
        all(axis in grid and _plain(grid[axis]) == _plain(value) for axis, value in one.items()) for one in where
    )


def _text(mean: float, error: float | None = None) -> str:
    return f'{mean:.4g}' + ('' if error is None else f' ± {error:.2g}')


def _tell(groups: Sequence[Group]) -> str:
    """Values with their places, or the range of many."""
    if len(groups) == 1:
        return _text(groups[0].mean, groups[0].error)
    if len(groups) > MAX_TOLD:
        means = [group.mean for group in groups]
        return f'{min(means):.4g} to {max(means):.4g} in {len(groups)} places'
    return '; '.join(f'{group.label}: {_text(group.mean, group.error)}' for group in groups)


def _about_errors(groups: Sequence[Group]) -> str:
    """A remark if there is no uncertainty."""
    bare = [group for group in groups if group.error is None]
    if not bare:
        return ''
    return 'one run, no uncertainty' if len(groups) == 1 else 'one run each, no uncertainty'


def joined(*texts: str) -> str:
    """Those that are not empty, as one text."""
    return '; '.join(text for text in texts if text)


def _range_text(low: float | None, high: float | None) -> str:
    if low is None:
        return f'at most {high:g}'
    return f'at least {low:g}' if high is None else f'{low:g} to {high:g}'


class _Judge(Settings):
    """How a part is judged."""

    def judge(self, runs: Sequence[Run], others: Sequence[Run]) -> Verdict:
        """Judge runs that came to their end; `others` are all such runs. Raises MissingError for a missing number."""
        raise NotImplementedError

    @property
    def limit(self) -> str:
        """What passes, for people."""
        raise NotImplementedError


class _Limits(_Judge):
    low: float | None = Field(default=None, description='lowest value that passes, in the unit of the part')
    high: float | None = Field(default=None, description='highest value that passes, in the unit of the part')

    @model_validator(mode='after')
    def _some_limit(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError('neither low nor high given: give one or both')
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f'low = {self.low} is above high = {self.high}')
        return self

    @property
    def limit(self) -> str:
        """What passes, for people."""
        return _range_text(self.low, self.high)

    def _holds(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def _is_wider_than_limits(self, error: float | None) -> bool:
        return error is not None and None not in (self.low, self.high) and 2 * error > self.high - self.low  # type: ignore[operator]

    def _verdict(self, groups: Sequence[Group]) -> Verdict:
        """Every group has to be within the limits. Raises MissingError if there is none."""
        if not groups:
            raise MissingError('there is nothing but what it is held against')
        bad = [group for group in groups if not self._holds(group.mean)]
        near = [
            group
            for group in groups
            if group.error is not None
            and any(end is not None and abs(group.mean - end) <= group.error for end in (self.low, self.high))
        ]
        reason = f'all within the limits, {self.limit}' if len(groups) > 1 else f'passes {self.limit}'
        if bad:
            where = ', '.join(group.label or _text(group.mean) for group in bad)
            reason = f'{where} not within {self.limit}' if len(groups) > 1 else f'passes only {self.limit}'
        only = groups[0] if len(groups) == 1 else None
        # one that could as well lie on either side of both limits says nothing by lying between them
        coarse = [group for group in groups if self._is_wider_than_limits(group.error)]
        if coarse and not bad:
            where = ', '.join(group.label or _text(group.mean, group.error) for group in coarse)
            return Verdict(
                'not at this size',
                _tell(groups),
                f'uncertainty wider than {self.limit}: {where}',
                None if only is None else only.mean,
                None if only is None else only.error,
            )
        return Verdict(
            'fail' if bad else 'pass',
            _tell(groups),
            joined(reason, 'nearer to a limit than its uncertainty' if near else '', _about_errors(groups)),
            None if only is None else only.mean,
            None if only is None else only.error,
        )


class Within(_Limits):
    """A number lies between limits, at each place of the grid."""

    kind: Literal['within'] = 'within'
    value: Value = Field(description='the number')
    error: Value | None = Field(default=None, description='its uncertainty where there is one run')
    none_fails: bool = Field(
        default=False, description='a run that tells none, as the time of what did not happen, fails'
    )

    def judge(self, runs: Sequence[Run], others: Sequence[Run]) -> Verdict:
        """Judge every place."""
        never = [run.point for run in runs if run.denies(self.value)] if self.none_fails else []
        if never:
            known = [run for run in runs if run.point not in never]
            told = _tell(_groups(known, self.value, self.error)) if known else ''
            return Verdict('fail', joined(told, f'none in {", ".join(never)}'), 'it did not happen')
        return self._verdict(_groups(runs, self.value, self.error))


class Reference(Settings):
    """The runs that a number is held against."""

    value: Value = Field(description='the number there')
    error: Value | None = Field(default=None, description='its uncertainty where there is one run')
    series: tuple[str, ...] = Field(default=(), description='series of these runs; those of the part if none is given')
    where: tuple[dict[str, Any], ...] = Field(default=(), description='places, one of which they have')

    def of(self, groups: Sequence[Group], runs: Sequence[Run], others: Sequence[Run]) -> list[Group]:
        """For each group the reference that has the same place, as far as both have the same axes."""
        mine = [run for run in (others if self.series else runs) if not self.series or run.series in self.series]
        mine = [run for run in mine if matches(run.grid, self.where)]
        fixed = {axis for one in self.where for axis in one}
        known = _groups(mine, self.value, self.error)
        found = []
        for group in groups:
            same = [
                one
                for one in known
                if all(one.grid[axis] == group.grid[axis] for axis in set(one.grid) & set(group.grid) - fixed)
            ]
            if not same:
                raise MissingError(f'no run to hold {group.label or "it"} against: {self._name}')
            found.append(same[0])
        return found

    @property
    def _name(self) -> str:
        places = ' or '.join(', '.join(f'{axis} {value}' for axis, value in one.items()) for one in self.where)
        return joined(' or '.join(self.series), places) or 'none named'


class Compared(_Limits):
    """A number by or less another one, of the same run or of a reference, lies between limits."""

    kind: Literal['compared'] = 'compared'
    value: Value = Field(description='the number')
    error: Value | None = Field(default=None, description='its uncertainty where there is one run')
    to: Value | Reference = Field(description='the other one: of the same run, or of other runs')
    by: Literal['ratio', 'difference'] = Field(default='ratio', description='how they are compared')

    def judge(self, runs: Sequence[Run], others: Sequence[Run]) -> Verdict:
        """Judge every place but the reference's own."""
        if isinstance(self.to, Reference):
            own = [run for run in runs if self.to.series or not matches(run.grid, self.to.where)]
            groups = _groups(own, self.value, self.error)
            return self._verdict(
                [self._of(a, b) for a, b in zip(groups, self.to.of(groups, runs, others), strict=True)]
            )
        # another number of one run, as that at its start, is what it is
        to = [replace(b, error=b.error or 0.0) for b in _groups(runs, self.to)]
        return self._verdict([self._of(a, b) for a, b in zip(_groups(runs, self.value, self.error), to, strict=True)])

    def _of(self, a: Group, b: Group) -> Group:
        n = min(a.n, b.n)
        errors = None if a.error is None or b.error is None else (a.error, b.error)
        if self.by == 'difference':
            return Group(a.grid, a.mean - b.mean, None if errors is None else math.hypot(*errors), n)
        if b.mean == 0:
            raise MissingError(f'{a.label or "the number"} cannot be told by a reference of 0')
        ratio = a.mean / b.mean
        error = None
        if errors is not None:
            error = math.hypot(errors[0] / b.mean, ratio * errors[1] / b.mean)
        return Group(a.grid, ratio, error, n)


class Happens(_Judge):
    """Something happens in every run; one that is too short for it says nothing."""

    kind: Literal['happens'] = 'happens'
    at_ps: Value = Field(description='when it happened, in ps; none if it did not')
    may_fail_from_ps: float = Field(gt=0, description='a run of this length in ps in which it did not happen fails')

    @property
    def limit(self) -> str:
        """What passes, for people."""
        return f'in every run; one of {self.may_fail_from_ps:g} ps in which it does not happen fails'

    def judge(self, runs: Sequence[Run], others: Sequence[Run]) -> Verdict:
        """Judge every run."""
        told: list[str] = []
        never: list[str] = []
        short: list[str] = []
        for run in runs:
            at, length = run.find(self.at_ps), run.number(_time_of(run))
            name = Group(_place(run.grid), 0.0, None, 1).label or run.point
            told.append(f'{name}: ' + (f'not in {length:g} ps' if at is None else f'{at:.4g} ps'))
            if at is None:
                (never if length >= self.may_fail_from_ps else short).append(name)
        ours = '; '.join(told)
        if never:
            return Verdict('fail', ours, f'not in {", ".join(never)}')
        if short:
            needed = f'{self.may_fail_from_ps:g} ps are needed to say that it does not happen'
            return Verdict('not at this size', ours, f'not yet in {", ".join(short)}; {needed}')
        return Verdict('pass', ours, 'in every run')


class Rises(_Judge):
    """A number rises with an axis of the grid, whatever the others; or along a list, in each member of a committee."""

    kind: Literal['rises'] = 'rises'
    value: Value = Field(description='the number; or the list, which may hold a list of the members at each place')
    axis: str | None = Field(default=None, description='axis of the grid, along which a trend is looked for')
    along: Value | None = Field(default=None, description='or the list that it rises along, at every step')
    least_change: float = Field(default=0.0, ge=0, description='a smaller change says nothing, in the unit of the part')

    @model_validator(mode='after')
    def _one_way(self) -> Self:
        if (self.axis is None) == (self.along is None):
            raise ValueError(f'axis = {self.axis}, along = {self.along}: give one of them')
        return self

    @property
    def limit(self) -> str:
        """What passes, for people."""
        beyond = f' by more than {self.least_change:g}' if self.least_change else ''
        if self.axis is None:
            return f'rises at every step{beyond}, in each member of a committee'
        axis = self.axis.rsplit('.', 1)[-1]
        return f'rises with {axis}{beyond} and, of several seeds, with p < {P_BY_CHANCE:.2g}; falls at no step'

    def judge(self, runs: Sequence[Run], others: Sequence[Run]) -> Verdict:
        """Judge every line of the grid, or every list."""
        return self._over_axis(runs) if self.axis else self._along_lists(runs)

    def _over_axis(self, runs: Sequence[Run]) -> Verdict:
        groups = _groups(runs, self.value)
        lines: dict[str, list[Group]] = {}
        for group in groups:
            rest = {axis: value for axis, value in group.grid.items() if axis != self.axis}
            lines.setdefault(Group(rest, 0.0, None, 1).label, []).append(group)
        told, signs, chances = [], [], []
        for label, line in lines.items():
            if len(line) < 2 or self.axis not in line[0].grid:
                raise MissingError(f'one value of {self.axis} only{f" at {label}" if label else ""}')
            line.sort(key=lambda group: float(group.grid[str(self.axis)]))
            told.append((f'{label}: ' if label else '') + ' → '.join(_text(one.mean, one.error) for one in line))
            x, y = [float(one.grid[str(self.axis)]) for one in line], [one.mean for one in line]
            trend = trend_of(x, y, [one.error for one in line], [one.n for one in line], self.least_change)
            falls = trend.falls_at(y, self.least_change)
            steps = [f'{label + " " if label else ""}from {x[k]:g} to {x[k + 1]:g}' for k in falls]
            signs += [(step, -1) for step in steps] or [(label or 'it', self._sign(trend))]
            if trend.p is not None and any(one.error is not None for one in line):
                chances.append(trend.p)
        chance = f'p {"at most " if len(chances) > 1 else ""}{max(chances):.2g}' if chances else ''
        return self._verdict(signs, '; '.join(told), joined(chance, _about_errors(groups)))

    def _along_lists(self, runs: Sequence[Run]) -> Verdict:
        steps, told = [], []
        for run in runs:
            x, y = (run.find(value) for value in (self.along or '', self.value))
            if not x or not y or len(x) != len(y):
                raise MissingError(f'{run.point} gave no whole list of {self._path}')
            order = np.argsort(np.array(x, dtype=float))
            by_member = np.array(y, dtype=float).reshape(len(x), -1)[order]
            if not np.isfinite(by_member).all():
                raise MissingError(f'{run.point} gave no whole list of {self._path}')
            for k, changes in enumerate(np.diff(by_member, axis=0)):
                rises, falls = ((sign * changes > self.least_change).all() for sign in (1, -1))
                label = f'{float(x[order[k]]):g} to {float(x[order[k + 1]]):g}'
                steps.append((label, 1 if rises else -1 if falls else 0))
            spread = by_member.std(axis=1) if by_member.shape[1] > 1 else [None] * len(x)
            told.append(', '.join(_text(m, e) for m, e in zip(by_member.mean(axis=1), spread, strict=True)))
        n = by_member.shape[1]
        return self._verdict(
            steps, '; '.join(told), f'in each of {n} members' if n > 1 else 'one member, no uncertainty'
        )

    @property
    def _path(self) -> str:
        return self.value if isinstance(self.value, str) else self.value.path

    def _sign(self, trend: Trend) -> int:
        """1 if it rises, -1 if it falls, 0 if that cannot be told."""
        if abs(trend.change) <= self.least_change or (trend.p is not None and trend.p > P_BY_CHANCE):
            return 0
        return 1 if trend.change > 0 else -1

    def _verdict(self, steps: Sequence[tuple[str, int]], ours: str, remark: str) -> Verdict:
        falls, unclear = ([label for label, sign in steps if sign == one] for one in (-1, 0))
        if falls:
            return Verdict('fail', ours, joined(f'falls: {", ".join(falls)}', remark))
        if unclear:
            reason = f'no change that can be told: {", ".join(unclear)}'
            return Verdict('not at this size', ours, joined(reason, remark))
        return Verdict('pass', ours, joined('rises everywhere', remark))


class DipsAndRecovers(_Judge):
    """A number falls, rises again, and comes back to that of a reference."""

    kind: Literal['dips_and_recovers'] = 'dips_and_recovers'
    start: Value = Field(description='at the start')
    least: Value = Field(description='its least value')
    end: Value = Field(description='at the end')
    least_dip: float = Field(
        gt=0,
        description='by how much more than the reference it has to fall, and to rise again, in the unit of the part',
    )
    reference: Reference = Field(description='what it comes back to: the perfect crystal at the same temperature')
    recovers_to: float = Field(gt=0, le=1, description='share of the reference that it has to come back to')

    @property
    def limit(self) -> str:
        """What passes, for people."""
        return (
            f'falls by {self.least_dip:g} more than the reference does, rises by as much, comes back to '
            f'{self.recovers_to:g} of the reference'
        )

    def judge(self, runs: Sequence[Run], others: Sequence[Run]) -> Verdict:
        """Judge every place."""
        start, least, end = (_groups(runs, value) for value in (self.start, self.least, self.end))
        bad, told = [], []
        calm = self.reference.of(end, runs, others)
        lowest = self.reference.model_copy(update={'value': self.least}).of(end, runs, others)
        for a, low, b, perfect, noise in zip(start, least, end, calm, lowest, strict=True):
            # the least of many frames of a crystal in which nothing happens is below its mean as well
            needed = self.least_dip + max(0.0, perfect.mean - noise.mean)
            share = b.mean / perfect.mean
            told.append(joined(f'{a.label or "share"}: {a.mean:.3g} → {low.mean:.3g} → {b.mean:.3g} ({share:.2f} of '
                                f'{perfect.mean:.3g})'))  # fmt: skip
            if a.mean - low.mean < needed:
                bad.append(f'{a.label or "it"}: no dip')
            # thermal motion alone takes the share of an ideal start down to that of the reference, where it stays
            elif share < self.recovers_to or b.mean - low.mean < needed:
                bad.append(f'{a.label or "it"}: does not come back')
        reason = '; '.join(bad) or 'falls and comes back'
        return Verdict('fail' if bad else 'pass', '; '.join(told), joined(reason, _about_errors(end)))


class ExpectedForm(Settings):
    """The form of a dendrite at a place of the grid."""

    where: dict[str, Any] = Field(min_length=1, description='value by axis')
    form: str = Field(min_length=1, description='its name')


class Forms(_Judge):
    """Most dendrites at a place have the form expected there."""

    kind: Literal['forms'] = 'forms'
    form: Value = Field(description='name of the form')
    expected: tuple[ExpectedForm, ...] = Field(min_length=1, description='what is expected where')
    least_runs: int = Field(default=3, ge=1, description='fewer runs at a place, by seeds, say nothing')

    @property
    def limit(self) -> str:
        """What passes, for people."""
        return '; '.join(f'{one.form} at {Group(one.where, 0.0, None, 1).label}' for one in self.expected)

    def judge(self, runs: Sequence[Run], others: Sequence[Run]) -> Verdict:
        """Judge every place that a form is expected at."""
        told, bad, few = [], [], []
        for one in self.expected:
            label = Group(one.where, 0.0, None, 1).label
            forms = [run.find(self.form) for run in runs if matches(run.grid, [one.where])]
            if not forms:
                raise MissingError(f'no run at {label}')
            told.append(f'{label}: ' + ', '.join('none' if form is None else str(form) for form in forms))
            if len(forms) < self.least_runs:
                few.append(label)
            if 2 * forms.count(one.form) <= len(forms):
                bad.append(f'{label}: expected {one.form}')
        ours = '; '.join(told)
        if few:
            return Verdict('not at this size', ours, f'{self.least_runs} seeds are needed at {", ".join(few)}')
        return Verdict('fail' if bad else 'pass', ours, '; '.join(bad) or 'as expected')


class Properties(_Judge):
    """Properties of a validation are near its references, or keep the limits that it holds them to."""

    kind: Literal['properties'] = 'properties'
    rows: Value = Field(default='table.rows', description='the table of a validation')
    names: tuple[str, ...] = Field(min_length=1, description='properties, all of which have to pass')
    within: float | None = Field(
        default=None,
        gt=0,
        description='share of the reference that they may be off; the limits of the validation if none',
    )
    against: Literal['pbe', 'experiment'] = Field(default='pbe', description='the reference')

    @property
    def limit(self) -> str:
        """What passes, for people."""
        if self.within is None:
            return 'limits of the validation'
        return f'within {100 * self.within:g} % of {"PBE" if self.against == "pbe" else "experiment"}'

    def _passes(self, row: Mapping[str, Any], point: str) -> tuple[float, float, str]:
        """From where to where a property passes, and what it comes to: pass, fail, or undecided.

        Raises MissingError if there is nothing to hold it against.
        """
        if self.within is None:
            if row['passes_from'] is None:
                raise MissingError(f'{point} has no limit for {row["property"]}')
            return row['passes_from'], row['passes_to'], row['verdict']
        reference = row.get(self.against)
        if reference is None:
            raise MissingError(f'{point} has no reference for {row["property"]} ({self.against})')
        ends = (reference.get(end, reference.get('value')) for end in ('low', 'high'))
        low, high = (end + sign * self.within * abs(end) for sign, end in zip((-1, 1), ends, strict=True))
        if not low <= row['value'] <= high:
            return low, high, 'fail'
        return low, high, 'undecided' if 2 * (row.get('error') or 0.0) > high - low else 'pass'

    def judge(self, runs: Sequence[Run], others: Sequence[Run]) -> Verdict:
        """Judge every property of every run."""
        told, bad, unclear = [], [], []
        for run in runs:
            table = {row['property']: row for row in run.find(self.rows) or []}
            for name in self.names:
                row = table.get(name, {'value': None, 'remark': ''})
                if row['value'] is None:
                    raise MissingError(f'{run.point} measured no {name}{": " if row["remark"] else ""}{row["remark"]}')
                low, high, verdict = self._passes(row, run.point)
                told.append(f'{name} {_text(row["value"], row["spread"])}')
                if verdict == 'fail':
                    bad.append(f'{name} passes from {low:.4g} to {high:.4g}')
                elif verdict != 'pass':
                    unclear.append(f'{name} is {verdict}: {row["remark"] or "its error is wider than the limits"}')
        n = len(self.names) * len(runs)
        outcome: Outcome = 'fail' if bad else 'not at this size' if unclear else 'pass'
        reason = joined(f'{n - len(bad) - len(unclear)} of {n} pass', *bad, *unclear)
        return Verdict(outcome, '; '.join(told), reason)


class Coexistence(_Judge):
    """Crystal and melt side by side freeze at one temperature and below, and melt at another and above."""

    kind: Literal['coexistence'] = 'coexistence'
    runs: Value = Field(default='summary.runs', description='the runs of a search: temperature_K and verdict')
    freezes_at_K: float = Field(gt=0, description='in K')
    melts_at_K: float = Field(gt=0, description='in K')

    @property
    def limit(self) -> str:
        """What passes, for people."""
        return f'freezes at {self.freezes_at_K:g} K, melts at {self.melts_at_K:g} K'

    def judge(self, runs: Sequence[Run], others: Sequence[Run]) -> Verdict:
        """Judge every coexistence run at these temperatures, and beyond them."""
        told, bad, unclear = [], [], []
        seen: set[str] = set()
        for run in runs:
            found = run.find(self.runs)
            if not found:
                raise MissingError(f'{run.point} gave no {self.runs}')
            for one in sorted(found, key=lambda item: item['temperature_K']):
                at, verdict = one['temperature_K'], one.get('verdict')
                told.append(f'{at:g} K: {verdict or one.get("status", "missing")}')
                wanted = 'freezes' if at <= self.freezes_at_K else 'melts' if at >= self.melts_at_K else None
                if wanted is None:
                    continue
                seen.add(wanted)
                if verdict in (None, 'undecided'):
                    unclear.append(f'{at:g} K')
                elif verdict != wanted:
                    bad.append(f'{at:g} K: {verdict}')
        if missing := [wanted for wanted in ('freezes', 'melts') if wanted not in seen]:
            raise MissingError(f'no run at a temperature at which it {" or ".join(missing)}')
        ours = '; '.join(told)
        if bad:
            return Verdict('fail', ours, '; '.join(bad))
        if unclear:
            return Verdict(
                'not at this size', ours, f'undecided at {", ".join(unclear)}: longer runs, a larger crystal'
            )
        return Verdict('pass', ours, f'{self.limit}; {len(told)} runs')


class Faster(_Judge):
    """D of the surface is a multiple of that of the bulk, at every temperature at which both can be told."""

    kind: Literal['faster'] = 'faster'
    temperatures: Value = Field(default='summary.temperatures', description='rows of a diffusion')
    low: float = Field(gt=0, description='least ratio that passes')

    @property
    def limit(self) -> str:
        """What passes, for people."""
        return f'D of the surface at least {self.low:g} of the bulk'

    def judge(self, runs: Sequence[Run], others: Sequence[Run]) -> Verdict:
        """Judge by the ratios that are resolved, or by their lower bounds."""
        told: list[str] = []
        bad: list[str] = []
        good: list[str] = []
        for run in runs:
            rows = run.find(self.temperatures)
            if not rows:
                raise MissingError(f'{run.point} gave no {self.temperatures}')
            for row in rows:
                label = f'{row["asked_temperature_K"]:g} K'
                ratio, least = row.get('surface_over_bulk'), row.get('surface_over_bulk_at_least')
                if ratio is not None:
                    told.append(f'{label}: {ratio:.3g}')
                    (good if ratio >= self.low else bad).append(label)
                elif least is not None:
                    told.append(f'{label}: at least {least:.3g}, bulk below {row["bulk"]["D_bound_m2_per_s"]:.1e} m²/s')
                    if least >= self.low:
                        good.append(label)
                else:
                    told.append(f'{label}: {_unresolved(row)}')
        ours = '; '.join(told)
        if bad:
            return Verdict('fail', ours, f'less at {", ".join(bad)}')
        if not good:
            return Verdict('not at this size', ours, 'below the resolution of these runs: longer ones, more atoms')
        return Verdict('pass', ours, f'at {", ".join(good)}')


def _unresolved(row: Mapping[str, Any]) -> str:
    bounds = {name: row.get(name, {}).get('D_bound_m2_per_s') for name in ('surface', 'bulk')}
    if bounds['surface'] is None:
        return f'not measured ({row.get("status") or "missing"})'
    bulk = 'resolved' if bounds['bulk'] is None else f'below {bounds["bulk"]:.1e} m²/s'
    return f'below resolution: surface below {bounds["surface"]:.1e} m²/s, bulk {bulk}'
