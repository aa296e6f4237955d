"""Whether runs show what the paper tells: checks as data, each judged by numbers that runs gave; nothing is run here.

A check has parts. A part names the series of runs that it needs, the numbers in what they gave, how these are judged,
and the least size at which they may be. Its outcome is one of four, and each has a reason:

* pass, fail: judged by runs that came to their end, large and long enough;
* not at this size: there are runs, too small, too short or too few to tell;
* not run: there is no run, one of them failed, or it gave no such number. Nothing passes that was not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from aiida_liheal.analysis.judges import (
    OUTCOMES,
    SIZES,
    Coexistence,
    Compared,
    DipsAndRecovers,
    Faster,
    Forms,
    Happens,
    MissingError,
    Properties,
    Reading,
    Rises,
    Run,
    Size,
    Verdict,
    Within,
    joined,
    matches,
    places_of,
)
from aiida_liheal.structures.settings import Settings

__all__ = ('Check', 'Part', 'counts_text', 'judge_checks', 'markdown', 'paths_of', 'plain_text', 'read_checks')

JudgeKind = Annotated[
    Within | Compared | Happens | Rises | DipsAndRecovers | Forms | Properties | Coexistence | Faster,
    Field(discriminator='kind'),
]


class Part(Settings):
    """One number of a check, or one trend."""

    what: str = Field(min_length=1, description='what is judged, in words')
    paper: str = Field(min_length=1, description='what the paper has, with its unit')
    unit: str = Field(default='', description='unit of the numbers')
    series: tuple[str, ...] = Field(min_length=1, description='names that the series of runs may have')
    where: tuple[dict[str, Any], ...] = Field(
        default=(), description='places in the grid, by axis, one of which the runs have; all of them if none is given'
    )
    judge: JudgeKind = Field(description='how it is judged')
    least_atoms: int | None = Field(default=None, ge=1, description='runs of fewer atoms say nothing')
    least_ps: float | None = Field(default=None, gt=0, description='shorter runs, in ps, say nothing')
    least_frames: int | None = Field(default=None, ge=1, description='fewer labelled frames say nothing')
    least_places: int = Field(default=1, ge=1, description='runs at fewer places of the grid, seeds aside, say nothing')


class Check(Settings):
    """Something that the paper tells, in parts."""

    title: str = Field(min_length=1, description='what the paper tells, in a line')
    quote: str = Field(default='', description='in its words')
    source: str = Field(min_length=1, description='section or figure')
    note: str = Field(default='', description='what of the limits and sizes is ours')
    parts: dict[str, Part] = Field(min_length=1, description='what is judged, by name')


def read_checks(values: Mapping[str, Any]) -> dict[str, Check]:
    """Checks by name from plain values. Raises ValueError with a line for each fault, its path first."""
    faults, found = [], {}
    for name, content in values.items():
        if not isinstance(content, Mapping):
            faults.append(f'{name}: {content!r} is no check; give title, source and parts')
            continue
        try:
            found[name] = Check.read(content)
        except ValueError as error:
            faults += [f'{name}.{line}' for line in str(error).splitlines()]
    if faults:
        raise ValueError('\n'.join(faults))
    return found


def paths_of(checks: Mapping[str, Check]) -> set[str]:
    """All paths at which numbers are looked for, sizes too."""

    def values(item: Any) -> Iterator[str]:
        if isinstance(item, Reading):
            yield from (path for path in (item.path, item.by, item.weights) if path)
        elif isinstance(item, Settings):
            for name in type(item).model_fields:
                if name not in _TEXTS:
                    yield from values(getattr(item, name))
        elif isinstance(item, str) and '.' in item:
            yield item

    judges = [part.judge for check in checks.values() for part in check.parts.values()]
    return {path for item in (*judges, *SIZES.values()) for path in values(item)}


#: Fields of judges that are texts but no paths.
_TEXTS = ('kind', 'axis', 'by', 'take', 'series', 'where', 'names', 'against', 'expected')


def _size_of(runs: Sequence[Run]) -> dict[str, Any]:
    """Atoms, cell and time of runs as ranges, and as a text."""
    found: dict[str, list[Any]] = {}
    for run in runs:
        size = SIZES.get(run.verb, Size())
        for name in Size.model_fields:
            value = run.find(getattr(size, name))
            if value is not None:
                found.setdefault(name, []).append(value)
    told: dict[str, Any] = {'runs': len(runs)}
    texts = []
    for name, unit in (('atoms', 'atoms'), ('frames', 'frames'), ('time_ps', 'ps')):
        if values := found.get(name):
            low, high = min(values), max(values)
            told |= {f'least_{name}': low, f'most_{name}': high}
            texts.append((f'{low:,.6g}' if low == high else f'{low:,.6g} to {high:,.6g}') + f' {unit}')
    if cells := found.get('cell_nm'):
        told['cell_nm'] = cells[0]
        same = all(np.allclose(cell, cells[0], atol=0.005) for cell in cells)
        texts.insert(1, ' x '.join(f'{length:.2f}' for length in cells[0]) + (' nm' if same else ' nm and others'))
    if len(runs) > 1:
        texts.append(f'{len(runs)} runs')
    return {**told, 'text': ', '.join(texts)}


def _too_small(part: Part, runs: Sequence[Run], size: Mapping[str, Any]) -> str:
    """Why the part may not be judged at this size; nothing if it may."""
    faults = []
    for key, least, unit in (
        ('atoms', part.least_atoms, 'atoms'),
        ('time_ps', part.least_ps, 'ps'),
        ('frames', part.least_frames, 'frames'),
    ):
        if least is None:
            continue
        have = size.get(f'least_{key}')
        if have is None:
            raise MissingError(f'{runs[0].point} does not tell its {unit}')
        if have < least:
            faults.append(f'{have:,.6g} {unit}, judged from {least:,.6g} {unit} on')
    if (n_places := len(places_of(runs))) < part.least_places:
        faults.append(f'{n_places} of at least {part.least_places} places')
    return '; '.join(faults)


def _judge_part(
    part: Part, runs: Sequence[Run], absent: Mapping[str, str], remarks: Mapping[str, str]
) -> dict[str, Any]:
    mine = [run for run in runs if run.series in part.series and matches(run.grid, part.where)]
    told: dict[str, Any] = {
        **part.model_dump(include={'what', 'paper', 'unit'}),
        'limit': part.judge.limit,
        'points': [run.point for run in mine],
        'size': {'runs': 0, 'text': ''},
    }

    def say(verdict: Verdict) -> dict[str, Any]:
        return {
            **told,
            'ours': verdict.ours,
            'value': verdict.value,
            'error': verdict.error,
            'outcome': verdict.outcome,
            'reason': verdict.reason,
        }

    if not mine:
        names = ' or '.join(part.series)
        why = next((absent[name] for name in part.series if name in absent), f'no run of {names} is among them')
        if any(run.series in part.series for run in runs):
            why = f'no run of {names} at the place that is judged'
        return say(Verdict('not run', '', why))
    if failed := [run for run in mine if run.state != 'finished']:
        causes = '; '.join(f'{run.point}: {run.cause or run.state}' for run in failed)
        return say(Verdict('not run', '', causes))
    told['size'] = _size_of(mine)
    try:
        too_small = _too_small(part, mine, told['size'])
        verdict = part.judge.judge(mine, [run for run in runs if run.state == 'finished'])
    except MissingError as error:
        try:
            too_small = _too_small(part, mine, told['size'])
        except MissingError:
            too_small = ''
        return say(Verdict('not at this size' if too_small else 'not run', '', joined(too_small, str(error))))
    if too_small:
        verdict = Verdict('not at this size', verdict.ours, too_small, verdict.value, verdict.error)
    remark = joined(*(remarks[name] for name in part.series if name in remarks))
    return say(replace(verdict, reason=joined(verdict.reason, remark)))


def judge_checks(
    checks: Mapping[str, Check],
    runs: Sequence[Run],
    absent: Mapping[str, str] | None = None,
    remarks: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The reproduction table.

    Parameters
    ----------
    checks : mapping of str to Check
        What is judged.
    runs : sequence of Run
        All runs that there are, failed ones too.
    absent : mapping of str to str, optional
        Why there is no run of a series, where that is known.
    remarks : mapping of str to str, optional
        What is to be said of all that is judged by the runs of a series.

    Returns
    -------
    dict
        `checks`: for each its name, number, title, quote, source, note, outcome, reason, and `parts` with `what`,
        `paper`, `limit`, `ours`, `value`, `error`, `unit`, `size`, `points`, `outcome`, `reason`. A check passes if all
        of its parts do. `counts` of checks and `part_counts` of parts by outcome.
    """
    rows = []
    for number, (name, check) in enumerate(checks.items(), 1):
        parts = [
            {'name': part_name, **_judge_part(part, runs, absent or {}, remarks or {})}
            for part_name, part in check.parts.items()
        ]
        found = [part['outcome'] for part in parts]
        outcome = next(one for one in ('fail', 'not run', 'not at this size', 'pass') if one in found)
        of = {one: [part['what'] for part in parts if part['outcome'] == one] for one in OUTCOMES}
        reason = '; '.join(f'{one}: {", ".join(names)}' for one, names in of.items() if names)
        rows.append(
            {
                'number': number,
                'name': name,
                **check.model_dump(include={'title', 'quote', 'source', 'note'}),
                'outcome': outcome,
                'reason': parts[0]['reason'] if len(parts) == 1 else reason,
                'parts': parts,
            }
        )
    all_parts = [part['outcome'] for row in rows for part in row['parts']]
    return {
        'checks': rows,
        'counts': {one: sum(row['outcome'] == one for row in rows) for one in OUTCOMES},
        'part_counts': {one: all_parts.count(one) for one in OUTCOMES},
    }


def markdown(table: Mapping[str, Any]) -> str:
    """A table of `judge_checks` as Markdown: a row a part, and one line with the counts."""
    lines = ['| check | what | paper | ours | size | outcome | reason |', '|' + ' --- |' * 7]
    marks = {'pass': 'pass', 'fail': '**FAIL**'}
    for row in table['checks']:
        for number, part in enumerate(row['parts']):
            unit = f' {part["unit"]}' if part['unit'] and part['ours'] else ''
            cells = [
                f'{row["number"]} {row["title"]}' if number == 0 else '',
                part['what'],
                f'{part["paper"]} ({row["source"]})' if number == 0 else part['paper'],
                f'{part["ours"]}{unit}',
                part['size']['text'],
                marks.get(part['outcome'], part['outcome']),
                part['reason'],
            ]
            lines.append('| ' + ' | '.join(cell.replace('|', '/') for cell in cells) + ' |')
    return '\n'.join([*lines, '', counts_text(table)])


def plain_text(table: Mapping[str, Any]) -> str:
    """A table of `judge_checks` to be read in a terminal."""
    lines = []
    for row in table['checks']:
        lines.append(f'{row["number"]}. {row["title"]} ({row["source"]}): {row["outcome"].upper()}')
        for part in row['parts']:
            unit = f' {part["unit"]}' if part['unit'] else ''
            size = f' [{part["size"]["text"]}]' if part['size']['text'] else ''
            lines += [f'   - {part["what"]}: {part["outcome"]}', f'       paper: {part["paper"]}']
            lines += [f'       ours:  {part["ours"]}{unit}{size}'] if part['ours'] else [f'       ours:  none{size}']
            lines.append(f'       {part["reason"]}')
    return '\n'.join([*lines, '', counts_text(table)])


def counts_text(table: Mapping[str, Any]) -> str:
    """How many checks, and parts of them, came to what."""

    def counted(counts: Mapping[str, int]) -> str:
        return ', '.join(f'{counts[one]} {one}' for one in OUTCOMES)

    n_parts = sum(table['part_counts'].values())
    return (
        f'{len(table["checks"])} checks: {counted(table["counts"])}. '
        f'{n_parts} parts: {counted(table["part_counts"])}. A check passes if all of its parts do.'
    )
