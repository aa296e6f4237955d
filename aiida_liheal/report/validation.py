"""Figures of a validation: properties beside their references, a figure a kind, and g(r) of the liquid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from aiida_liheal.report.figures import PALETTE, Figure, add_band, add_line, arrays_of, empty_plot, guide, to_csv
from aiida_liheal.report.tree import Step

__all__ = ('validation_figures',)

#: What properties of a unit are called, for those that are drawn; lengths, say, have nothing in common but their unit.
_KINDS = {
    'GPa': 'Elastic constants and bulk modulus',
    'J/m^2': 'Surface energies',
    'eV': 'Energies of defects',
    'meV/atom': 'Phases above bcc',
    'THz': 'Phonons',
}
_UNITS = {'J/m^2': 'J/m²'}
#: Places of the three marks of a row, from its middle: they do not hide one another.
_SHIFTS = {'ours': 0.0, 'pbe': 0.22, 'experiment': -0.22}


def validation_figures(step: Step) -> list[Figure]:
    """Figures of one `validate`; none as long as it has no table."""
    rows = step.result('table').get('rows', [])
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row['value'] is not None and row['unit'] in _KINDS:
            groups.setdefault(row['unit'], []).append(row)
    figures = [_beside_references(unit, group) for unit, group in groups.items() if len(group) > 1]
    radial = arrays_of(step.outputs.get('liquid__radial'))
    return figures + ([_radial(radial, rows)] if radial else [])


def _ends(reference: Mapping[str, Any]) -> tuple[float, float, float]:
    """Middle and half widths below and above of a reference: its error, or its range."""
    if 'value' in reference:
        error = reference.get('error') or 0.0
        return reference['value'], error, error
    middle = (reference['low'] + reference['high']) / 2
    return middle, middle - reference['low'], reference['high'] - middle


def _beside_references(unit: str, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """A row for each property: ours with its error, PBE and experiment, and what passes."""
    rows = rows[::-1]
    shown = _UNITS.get(unit, unit)
    names = [_plain(row['property']) for row in rows]
    plot = empty_plot(f'({shown})', '', hovermode='closest', showlegend=True)
    plot.update_xaxes(title_text=f'value ({shown})')
    for place, row in enumerate(rows):
        if row['passes_from'] is not None:
            plot.add_shape(
                type='rect',
                x0=row['passes_from'],
                x1=row['passes_to'],
                y0=place - 0.36,
                y1=place + 0.36,
                fillcolor='#8a959e',
                opacity=0.2,
                line={'width': 0},
                layer='below',
            )
    columns: dict[str, Any] = {'property': names}
    # tables of before had no error
    errors = [row.get('error') if row['spread'] is None else row['spread'] for row in rows]
    ours = [(row['value'], error or 0.0, error or 0.0) for row, error in zip(rows, errors, strict=True)]
    for key, name, symbol, told in (
        ('ours', 'this potential', 'circle', ours),
        ('pbe', 'PBE', 'square', [None if row['pbe'] is None else _ends(row['pbe']) for row in rows]),
        (
            'experiment',
            'experiment',
            'diamond',
            [None if row['experiment'] is None else _ends(row['experiment']) for row in rows],
        ),
    ):
        known = [(place, one) for place, one in enumerate(told) if one is not None]
        columns |= {
            f'{name} ({shown})': ['' if one is None else one[0] for one in told],
            f'{name}, below ({shown})': ['' if one is None else one[1] for one in told],
            f'{name}, above ({shown})': ['' if one is None else one[2] for one in told],
        }
        if known:
            colour = PALETTE[tuple(_SHIFTS).index(key)]
            plot.add_trace(_marks(name, symbol, colour, known, _SHIFTS[key], is_filled=key == 'ours'))
    columns |= {
        f'passes from ({shown})': ['' if row['passes_from'] is None else row['passes_from'] for row in rows],
        f'passes to ({shown})': ['' if row['passes_to'] is None else row['passes_to'] for row in rows],
        'verdict': [row['verdict'] for row in rows],
    }
    marks = {'pass': '✓ ', 'fail': '✗ '}
    labels = [f'{marks.get(row["verdict"], "")}{name}' for row, name in zip(rows, names, strict=True)]
    plot.update_yaxes(tickvals=list(range(len(rows))), ticktext=labels, range=[-0.6, len(rows) - 0.4], showgrid=False)
    plot.update_yaxes(title_text='property')
    return Figure(
        _KINDS[unit],
        'Filled: this potential, with the standard deviation over its committee or the error by blocks of time, where '
        'there is one. Open: PBE and experiment, with their error or range. Grey: what passes; ✓ and ✗ say what did. '
        'Sources of the references are in the inputs.',
        plot,
        to_csv(columns),
    )


def _marks(
    name: str,
    symbol: str,
    colour: str,
    known: Sequence[tuple[int, tuple[float, float, float]]],
    shift: float,
    *,
    is_filled: bool,
) -> go.Scatter:
    values, below, above = np.array([one for _, one in known]).T
    return go.Scatter(
        x=values,
        y=[place + shift for place, _ in known],
        name=name,
        mode='markers',
        marker={
            'symbol': symbol,
            'size': 9,
            'color': colour if is_filled else 'white',
            'line': {'color': colour, 'width': 1.8},
        },
        error_x={
            'type': 'data',
            'symmetric': False,
            'array': above,
            'arrayminus': below,
            'thickness': 1.5,
            'width': 4,
            'color': colour,
        },
    )


def _plain(name: str) -> str:
    """A property without its unit, such as «surface 100»."""
    for ending in ('_J_per_m2', '_meV_per_atom', '_GPa', '_THz', '_eV'):
        name = name.removesuffix(ending)
    return name.replace('_', ' ')


def _radial(radial: Mapping[str, NDArray], rows: Sequence[Mapping[str, Any]]) -> Figure:
    """g(r) of the liquid with its error, its first peak, and where experiment has it."""
    radius, g = radial['radius_A'], radial['g']
    error = np.nan_to_num(radial['g_error'])
    plot = empty_plot('r (Å)', 'g(r)', showlegend=True)
    add_band(plot, radius, g - error, g + error, PALETTE[0])
    add_line(plot, radius, g, 'g(r)', 0)
    guide(plot, 'no order', y=1.0)
    caption = 'Band: standard error over blocks of time.'
    peak = next((row for row in rows if row['property'] == 'liquid_peak_A'), None)
    if peak is not None and peak['value'] is not None:
        spread = '' if peak.get('error') is None else f' ± {peak["error"]:.2g}'
        caption += f' First peak at {peak["value"]:.3g}{spread} Å.'
    if peak is not None and peak['experiment'] is not None:
        middle, below, above = _ends(peak['experiment'])
        if below or above:
            plot.add_vrect(
                x0=middle - below, x1=middle + above, fillcolor='#8a959e', opacity=0.2, line_width=0, layer='below'
            )
        guide(plot, f'experiment:<br>{middle:g} Å', x=middle)
        caption += f' Dotted: first peak by experiment, {peak["experiment"].get("source", "source in the inputs")}.'
    columns = {'r (Å)': radius, 'g(r)': g, 'standard error': radial['g_error']}
    if 'coordination' in radial:
        columns |= {'up to (Å)': radial['outer_radius_A'], 'neighbours up to there': radial['coordination']}
    return Figure('Radial distribution of the liquid', caption, plot, to_csv(columns))
