"""Figures of the energies of sites by the members of a committee, whose differences alone have a meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from aiida_liheal.report.figures import PALETTE, Figure, add_line, empty_plot, to_csv

__all__ = ('site_figures',)

_NAMES = {
    'tips_less_valleys': 'tips - valleys',
    'tips_less_bulk': 'tips - bulk',
    'surface_less_bulk': 'surface - bulk',
    'valleys_less_bulk': 'valleys - bulk',
}
_SYMBOLS = ('circle', 'square')
#: A mark and its members' lie beside each other.
_BESIDE = 0.16


def site_figures(summary: Mapping[str, Any]) -> list[Figure]:
    """Differences of sites, and energy by height, each with the spread over the members; none without a committee.

    Parameters
    ----------
    summary : mapping
        That of an analysis; `site_energies` holds what `analysis.members.site_energies` gives, at the start and end.
    """
    frames = summary.get('site_energies') or []
    return [figure for figure in (_differences(frames), _profile(frames)) if figure is not None]


def _moment(frame: Mapping[str, Any]) -> str:
    return f'{frame["time_ps"]:.4g} ps'


def _differences(frames: list[dict[str, Any]]) -> Figure | None:
    names = [name for name in _NAMES if any(name in frame['differences'] for frame in frames)]
    if not names:
        return None
    plot = empty_plot('', 'difference of energy (eV/atom)', hovermode='closest', showlegend=True)
    columns: dict[str, Any] = {'difference': [_NAMES[name] for name in names]}
    for number, frame in enumerate(frames):
        known = [(k, frame['differences'][name]) for k, name in enumerate(names) if name in frame['differences']]
        colour, symbol = PALETTE[number % len(PALETTE)], _SYMBOLS[number % len(_SYMBOLS)]
        shift = (number - (len(frames) - 1) / 2) * 2.5 * _BESIDE
        plot.add_trace(
            go.Scatter(
                x=[k + shift for k, _ in known],
                y=[one['mean_eV'] for _, one in known],
                name=_moment(frame),
                mode='markers',
                marker={'symbol': symbol, 'size': 10, 'color': colour, 'line': {'color': colour, 'width': 1.5}},
                error_y={
                    'type': 'data',
                    'array': [one['spread_eV'] for _, one in known],
                    'thickness': 1.6,
                    'width': 6,
                    'color': colour,
                },
            )
        )
        members = [(k, value) for k, one in known for value in one['by_member_eV']]
        plot.add_trace(
            go.Scatter(
                x=[k + shift + _BESIDE for k, _ in members],
                y=[value for _, value in members],
                name=f'{_moment(frame)},<br>each member',
                mode='markers',
                marker={'symbol': f'{symbol}-open', 'size': 5, 'color': colour},
            )
        )
        for key in ('mean_eV', 'spread_eV'):
            columns[f'{_moment(frame)}: {key.removesuffix("_eV")} (eV)'] = [
                frame['differences'].get(name, {}).get(key, '') for name in names
            ]
        for member in range(frame['members']):
            columns[f'{_moment(frame)}: member {member} (eV)'] = [
                frame['differences'][name]['by_member_eV'][member] if name in frame['differences'] else ''
                for name in names
            ]
    labels = [_NAMES[name] for name in names]
    plot.update_xaxes(tickvals=list(range(len(names))), ticktext=labels, title_text='sites', showgrid=False)
    return Figure(
        'Energies of sites, by the committee',
        f'Filled: mean over the {frames[0]["members"]} members, bars their standard deviation; open: each member. A '
        'difference is taken within each member, as how it shares its energy out among atoms is its own. Tips have 7 '
        'neighbours or fewer, valleys 11 or more.',
        plot,
        to_csv(columns),
    )


def _profile(frames: list[dict[str, Any]]) -> Figure | None:
    frames = [frame for frame in frames if frame['profile']]
    if not frames:
        return None
    plot = empty_plot('energy above the bulk (eV/atom)', 'height (Å)', hovermode='closest', showlegend=True)
    columns: dict[str, Any] = {}
    for number, frame in enumerate(frames):
        profile = frame['profile']
        height, energy, spread = (
            np.array(profile[key], float) for key in ('height_A', 'above_bulk_eV_per_atom', 'spread_eV_per_atom')
        )
        add_line(
            plot,
            energy,
            height,
            _moment(frame),
            number,
            error_x={'type': 'data', 'array': spread, 'thickness': 1.2, 'width': 3, 'color': PALETTE[number]},
        )
        columns |= {
            f'{_moment(frame)}: height (Å)': height,
            f'{_moment(frame)}: energy above the bulk (eV/atom)': energy,
            f'{_moment(frame)}: spread (eV/atom)': spread,
            f'{_moment(frame)}: atoms': profile['atoms'],
        }
    return Figure(
        'Energy by height, by the committee',
        'Mean over the atoms of a slice less that of the bulk, taken within each member; bars: standard deviation over '
        'the members.',
        plot,
        to_csv(columns),
    )
