"""The chapter of a campaign: its table, and for each series what was found against the variables of its grid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiida.orm import ArrayData
from numpy.typing import NDArray

from aiida_liheal.report.facts import share_key
from aiida_liheal.report.figures import CURVES, Figure, curves, points_by_colour
from aiida_liheal.report.packed import diffusion_by_temperature
from aiida_liheal.report.tree import Step
from aiida_liheal.structures.label_errors import digits

__all__ = ('Row', 'SeriesTable', 'campaign_figures', 'campaign_tables')

#: Most points of a series that are drawn against time; more could not be told apart.
MAX_CURVES = 12


@dataclass(frozen=True)
class Row:
    """One point: its place in the grid, what it gave, and how it stands."""

    values: list[str]
    results: list[str]
    state: str
    remark: str
    run: str


@dataclass(frozen=True)
class SeriesTable:
    """The points of a series as a table."""

    name: str
    verb: str
    note: str
    source: str
    axes: list[str]
    columns: list[str]
    rows: list[Row]


def campaign_tables(step: Step) -> list[SeriesTable]:
    """A table for each series; nothing as long as the campaign is not over."""
    table = step.result('table')
    tables = []
    for name, series in table.get('series', {}).items():
        columns = list(series['columns'].values())
        rows = [
            Row(
                values=[_plain(row['grid'].get(axis)) for axis in series['axes']],
                results=[_plain(row['results'].get(column)) for column in columns],
                state=row['state'],
                remark=row['cause'] or ('from an earlier campaign, or an equal point' if row['taken_over'] else ''),
                run=row['run'],
            )
            for row in _rows(table, name)
        ]
        # what no point has says nothing
        kept = [k for k in range(len(columns)) if any(row.results[k] for row in rows)]
        rows = [Row(row.values, [row.results[k] for k in kept], row.state, row.remark, row.run) for row in rows]
        tables.append(
            SeriesTable(
                name,
                series['verb'],
                series['note'],
                series['source'],
                [axis.rsplit('.', 1)[-1] for axis in series['axes']],
                [columns[k] for k in kept],
                rows,
            )
        )
    return tables


def campaign_figures(step: Step) -> list[Figure]:
    """For each series its quantity against a variable of the grid, and its points against time."""
    table = step.result('table')
    figures: list[Figure] = []
    for name, series in table.get('series', {}).items():
        rows = _rows(table, name)
        if series['verb'] == 'diffuse':
            # a column of the table does not tell a bound from a value
            told = {_label(series['axes'], row): _temperatures(step, row['point']) for row in rows}
            told = {'' if len(rows) == 1 else label: known for label, known in told.items() if known}
            found = diffusion_by_temperature(told, f'{name}: ')
            figures += [found] if found else []
        elif series['figure'] is not None:
            drawn = _against_grid(name, series, rows)
            figures += [drawn] if drawn else []
        arrays = {row['point']: _series_of(step, row['point']) for row in rows}
        arrays = {point: values for point, values in arrays.items() if values}
        if not 1 < len(arrays) <= MAX_CURVES:
            continue
        labels = {row['point']: _label(series['axes'], row) for row in rows}
        for quantity in CURVES.get(series['verb'], ()):
            lines = []
            for point, values in arrays.items():
                key = share_key(values) if quantity == 'bcc_share' else quantity
                if key in values:
                    lines.append((labels[point], values['time_ps'], values[key]))
            if lines:
                figures.append(curves(f'{name}: ', quantity, lines))
    return figures


def _against_grid(name: str, series: dict[str, Any], rows: list[dict[str, Any]]) -> Figure | None:
    """A quantity against an axis of the grid or, where it is a list, against another list."""
    asked = series['figure']
    x, y, colour = asked['x'] or next(iter(series['axes']), None), asked['y'], asked['colour']
    if colour is None and x in series['axes']:
        colour = next((axis for axis in series['axes'] if axis != x), None)
    groups: dict[str, list[tuple[Any, Any]]] = {}
    for row in rows:
        label = '' if colour is None else f'{colour.rsplit(".", 1)[-1]} {_plain(row["grid"][colour])}'
        value = row['results'].get(y)
        if isinstance(value, list):
            groups.setdefault(row['point'], []).extend(zip(row['results'].get(x) or [], value, strict=False))
        elif value is not None and x in row['grid']:
            groups.setdefault(label, []).append((row['grid'][x], value))
    groups = {label: kept for label, pairs in groups.items() if (kept := [pair for pair in pairs if None not in pair])}
    if not groups:
        return None
    return points_by_colour(f'{name}: {y}', str(x).rsplit('.', 1)[-1], y, groups)


def _rows(table: dict[str, Any], series: str) -> list[dict[str, Any]]:
    return [row for row in table.get('rows', []) if row['series'] == series]


def _series_of(step: Step, point: str) -> dict[str, NDArray]:
    """Series of the analysis of a point, of the campaign's outputs."""
    node = step.outputs.get(f'points__{point}__analysis__series')
    if not isinstance(node, ArrayData):
        return {}
    return {name: np.asarray(node.get_array(name)) for name in node.get_arraynames()}


def _temperatures(step: Step, point: str) -> list[dict[str, Any]]:
    """What a point of `diffuse` measured at each of its temperatures."""
    return list(step.result(f'points__{point}__summary').get('temperatures', []))


def _label(axes: Iterable[str], row: dict[str, Any]) -> str:
    return '<br>'.join(f'{axis.rsplit(".", 1)[-1]} {_plain(row["grid"][axis])}' for axis in axes) or row['point']


def _plain(value: Any) -> str:
    """A value for people; a list by its length and ends."""
    if value is None:
        return ''
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int | float):
        return str(value) if isinstance(value, int) else digits(value)
    if isinstance(value, list) and value and all(isinstance(item, int | float) for item in value):
        return ', '.join(digits(float(item)) for item in value)
    return str(value)
