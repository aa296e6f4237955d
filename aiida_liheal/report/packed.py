"""Figures and numbers of the verbs that pack many runs into few jobs: `valley`, `diffuse`, `melt` and `validate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from aiida_liheal.lammps.kinds import MeltSettings
from aiida_liheal.report.figures import PALETTE, Figure, add_line, arrays_of, empty_plot, guide, to_csv
from aiida_liheal.report.tree import Step, Tree
from aiida_liheal.report.validation import validation_figures

__all__ = ('diffusion_by_temperature', 'diffusion_figures', 'melting_figures', 'packed_chapters', 'valley_figures')

_INK = '#1d2733'
_SOFT = '#5c6670'
#: Most temperatures whose courses are drawn in one figure.
_MAX_TEMPERATURES = 12


def packed_chapters(tree: Tree) -> list[tuple[str, Step, list[Figure]]]:
    """Title, step and figures of every verb of many runs that has something to show."""
    drawn = (
        ('Energy in valleys', 'ValleyWorkChain', valley_figures),
        ('Diffusion', 'DiffuseWorkChain', diffusion_figures),
        ('Melting point', 'MeltWorkChain', lambda step: melting_figures(tree, step)),
        ('Validation', 'ValidateWorkChain', validation_figures),
    )
    chapters = [(title, step, figures(step)) for title, name, figures in drawn for step in tree.named(name)]
    return [chapter for chapter in chapters if chapter[2]]


def _marks(
    plot: go.Figure,
    x: NDArray,
    y: NDArray,
    name: str,
    colour: str,
    symbol: str,
    fill: str,
    error: NDArray | None = None,
) -> None:
    """Points with error bars, without a line."""
    bars = None if error is None else {'type': 'data', 'array': error, 'thickness': 1.5, 'width': 5, 'color': colour}
    look = {'symbol': symbol, 'size': 11, 'color': fill, 'line': {'color': colour, 'width': 1.8}}
    plot.add_trace(go.Scatter(x=x, y=y, name=name, mode='markers', error_y=bars, marker=look))


def valley_figures(step: Step) -> list[Figure]:
    """Energy of the atom by angle with the spread of the committee, and the way of the atom down the slope."""
    figures = []
    table = arrays_of(step.outputs.get('energies'))
    if table:
        figures.append(_energy_by_angle(table))
    course = arrays_of(step.outputs.get('slide__course'))
    if course:
        figures.append(_slide(course, step.result('slide__summary')))
    return figures


def _energy_by_angle(table: dict[str, NDArray]) -> Figure:
    order = np.argsort(table['angle_deg'])
    angles = table['angle_deg'][order]
    known = np.isfinite(table['removal_energy_rise_mean_eV'][order])
    first = angles[known][0] if known.any() else angles[0]
    n_members = table['removal_energy_eV'].shape[1]
    plot = empty_plot('angle between the walls of the valley (°)', f'energy above that at {first:g}° (eV)')
    plot.update_xaxes(dtick=45)
    columns: dict[str, Any] = {'angle (°)': angles}
    # both begin at zero; side by side their bars can be told apart
    for number, (key, name) in enumerate(
        (('atom_energy', "atom's share<br>of the energy"), ('removal_energy', 'with the atom<br>less without'))
    ):
        mean, spread = (table[f'{key}_rise_{what}_eV'][order] for what in ('mean', 'spread'))
        add_line(plot, angles, mean, name, number)
        if n_members > 1:
            bars = {
                'type': 'data',
                'array': spread,
                'thickness': 1.5,
                'width': 7 - 3 * number,
                'color': PALETTE[number],
            }
            plot.data[-1].error_y = bars
        plain = name.replace('<br>', ' ')
        columns |= {f'{plain}, rise (eV)': mean, f'{plain}, spread of the rise (eV)': spread}
        columns |= {
            f'{plain}, member {member} (eV)': values for member, values in enumerate(table[f'{key}_eV'][order].T)
        }
    spread_of = (
        f'Bars: standard deviation over the {n_members} members of the committee, each from its own zero. '
        if n_members > 1
        else 'One potential: no spread is known. '
    )
    return Figure(
        'Energy of an atom in a valley',
        f"Relaxed. {spread_of}The atom's share of the potential energy is what the paper shows (Figure 1g), but how a "
        'model shares energy out among atoms is a matter of gauge; the energy with the atom less that without it is '
        'not.',
        plot,
        to_csv(columns),
    )


def _slide(course: dict[str, NDArray], summary: dict[str, Any]) -> Figure:
    axis = 'distance from the bottom (Å)'
    # a node made when there was one slide only holds it without the first axis
    distances = np.atleast_2d(course['distance_A'])
    positions = course['position_A'].reshape(*distances.shape, 3)
    plot = empty_plot('time (ps)', axis, showlegend=len(distances) > 1, yaxis_rangemode='tozero')
    columns: dict[str, NDArray] = {'time (ps)': course['time_ps']}
    for number, (distance, position) in enumerate(zip(distances, positions, strict=True)):
        name = f'slide {number}' if len(distances) > 1 else axis
        add_line(plot, course['time_ps'], distance, name, number)
        prefix = f'slide {number}: ' if len(distances) > 1 else ''
        columns[f'{prefix}{axis}'] = distance
        columns |= {f'{prefix}{key} (Å)': values for key, values in zip('xyz', position.T, strict=True)}
    reach = summary.get('reach_A')
    if reach is not None:
        guide(plot, f'{reach:g} Å: is there', y=reach)
    slides = summary.get('slides', [summary])
    if len(slides) == 1 and slides[0].get('reached_at_ps') is not None:
        guide(plot, f'{slides[0]["reached_at_ps"]:.2f} ps', x=slides[0]['reached_at_ps'])
    return Figure(
        'Way of an atom down a slope',
        'Distance in the plane across the valley from the place of an atom that lies at its bottom'
        + ('; the slides differ in their seeds.' if len(slides) > 1 else '.'),
        plot,
        to_csv(columns),
    )


def diffusion_figures(step: Step) -> list[Figure]:
    """MSD against lag of surface and bulk at each temperature, and D against temperature."""
    rows = step.result('summary').get('temperatures', [])
    fit = step.settings('analyse__settings').get('mobility_fit', [0.2, 0.7])
    curves = {
        row['asked_temperature_K']: arrays_of(step.outputs.get(f'mobility__t{number:03d}'))
        for number, row in enumerate(rows)
    }
    curves = {temperature: arrays for temperature, arrays in sorted(curves.items()) if arrays}
    figures = [
        figure for group in ('surface', 'bulk') if curves and (figure := _msd(curves, group, tuple(fit))) is not None
    ]
    told = diffusion_by_temperature({'': rows})
    return figures + ([told] if told else [])


def _msd(curves: dict[float, dict[str, NDArray]], group: str, fit: tuple[float, float]) -> Figure | None:
    axis = 'mean square displacement (Å²)'
    plot = empty_plot('lag (ps)', axis, xaxis_type='log', yaxis_type='log')
    columns: dict[str, Any] = {}
    ends = []
    for number, (temperature, arrays) in enumerate(curves.items()):
        lag, msd = arrays['lag_ps'], arrays[f'msd_{group}_A2']
        shown = (lag > 0) & (msd > 0)
        if not shown.any():
            continue
        # evenly spread on a logarithmic axis, where most lags would fall on one another
        places = np.unique(np.geomspace(1, shown.sum(), 60).round().astype(int) - 1)
        add_line(plot, lag[shown][places], msd[shown][places], f'{temperature:g} K', number)
        columns |= {f'{temperature:g} K: lag (ps)': lag, f'{temperature:g} K: MSD (Å²)': msd}
        ends.append(float(lag[-1]))
    if not ends:
        return None
    low, high = (share * max(ends) for share in fit)
    plot.add_vrect(x0=low, x1=high, fillcolor='#8a959e', opacity=0.13, line_width=0, layer='below')
    plot.update_xaxes(exponentformat='none')
    plot.update_yaxes(exponentformat='power')
    where = 'Along the surface, atoms that began there.' if group == 'surface' else 'Atoms that began inside.'
    return Figure(
        f'Mean square displacement: {group}',
        f'{where} Averaged over origins; both axes logarithmic. Grey: lags from which D is taken, {low:.3g} to '
        f'{high:.3g} ps. Atoms that only vibrate stay level; those that diffuse rise in proportion to the lag.',
        plot,
        to_csv(columns),
    )


def diffusion_by_temperature(points: Mapping[str, Sequence[dict[str, Any]]], title: str = '') -> Figure | None:
    """D of surface and bulk against temperature, with errors; what is a bound only as an arrow that points down.

    Parameters
    ----------
    points : mapping of str to sequence of dict
        Name of each run, empty if there is one, and its `temperatures` in the summary of `diffuse`.
    title : str
        What goes before the title.
    """
    plot = empty_plot('temperature (K)', 'D (m²/s)', yaxis_type='log', hovermode='closest', showlegend=True)
    columns: dict[str, Any] = {}
    symbols = iter(cycle(('circle', 'square', 'diamond', 'triangle-up', 'pentagon', 'star')))
    colours = iter(cycle(PALETTE))
    for point, rows in points.items():
        for group in ('surface', 'bulk'):
            name = f'{point}<br>{group}' if point else group
            colour, symbol = next(colours), next(symbols)
            told = [(row.get('temperature_K', row['asked_temperature_K']), row.get(group, {})) for row in rows]
            resolved = [(t, one['D_m2_per_s'], one['D_error_m2_per_s']) for t, one in told if one.get('is_resolved')]
            bounds = [(t, one['D_bound_m2_per_s']) for t, one in told if one.get('D_bound_m2_per_s') is not None]
            if resolved:
                t, d, error = np.array(resolved).T
                _marks(plot, t, d, name, colour, symbol, colour, error)
            if bounds:
                t, bound = np.array(bounds).T
                _bounds(plot, t, bound, f'{name}:<br>at most', colour, symbol)
            known = {
                'D (m²/s)': [one['D_m2_per_s'] if one.get('is_resolved') else '' for _, one in told],
                'standard error (m²/s)': [one['D_error_m2_per_s'] if one.get('is_resolved') else '' for _, one in told],
                'bound (m²/s)': ['' if (b := one.get('D_bound_m2_per_s')) is None else b for _, one in told],
            }
            plain = name.replace('<br>', ' ')
            columns[f'{plain}: temperature (K)'] = [t for t, _ in told]
            columns |= {f'{plain}: {what}': values for what, values in known.items()}
    if not plot.data:
        return None
    plot.update_yaxes(exponentformat='power', dtick=1)
    return Figure(
        f'{title}Diffusion against temperature',
        'Filled, with bars: D and its standard error over blocks of neighbouring atoms. Open, with an arrow down: not '
        'resolved by the run; D is smaller than that with 95 % confidence. Logarithmic axis. The temperature is that '
        'of the mobile atoms during the measurement.',
        plot,
        to_csv(columns),
    )


def _bounds(plot: go.Figure, x: NDArray, y: NDArray, name: str, colour: str, symbol: str) -> None:
    """Upper bounds: open marks from which arrows point down."""
    look = {'symbol': symbol, 'size': 11, 'color': 'white', 'line': {'color': colour, 'width': 1.8}}
    plot.add_trace(go.Scatter(x=x, y=y, name=name, mode='markers', marker=look))
    logarithmic = plot.layout.yaxis.type == 'log'
    for place, bound in zip(x.tolist(), y.tolist(), strict=True):
        plot.add_annotation(
            x=place,
            # annotations of a logarithmic axis are placed by the exponent
            y=float(np.log10(bound)) if logarithmic else bound,
            ax=0,
            # from the mark down: the tail is where the mark is
            ay=-26,
            yshift=-32,
            text='',
            showarrow=True,
            arrowhead=2,
            arrowwidth=1.6,
            arrowcolor=colour,
        )


def melting_figures(tree: Tree, step: Step) -> list[Figure]:
    """Share of solid atoms against time in each run, and how the runs enclose the melting point."""
    history = step.result('summary')
    if not history:
        # not over yet: what the rounds so far showed
        judged = [other.result('history') for other in tree.below(step) if other.name == 'judge_round']
        history = next((found for found in reversed(judged) if found), {})
    runs = history.get('runs', [])
    if not runs:
        return []
    settings = MeltSettings.model_fields
    given = step.settings()
    limits = {name: given.get(name, settings[name].default) for name in ('molten_below', 'frozen_above')}
    begins = sum(given.get(name, settings[name].default) for name in ('melting_ps', 'cooling_ps'))
    groups = _by_figure(runs)
    figures = [_solid_shares(step, title, group, limits, begins) for title, group in groups.items()]
    found = [figure for figure in figures if figure is not None]
    return [*found, _bracket(runs, history)]


def _by_figure(runs: Sequence[dict[str, Any]]) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """Runs with their number in their round, for one figure, or for one of each round where there are too many."""
    places: dict[int, int] = {}
    numbered = []
    for run in runs:
        numbered.append((places.get(run['round'], 0), run))
        places[run['round']] = numbered[-1][0] + 1
    if len({run['temperature_K'] for run in runs}) <= _MAX_TEMPERATURES:
        return {'Solid share': numbered}
    rounds: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for number, run in numbered:
        rounds.setdefault(f'Solid share, round {run["round"] + 1}', []).append((number, run))
    return rounds


def _solid_shares(
    step: Step, title: str, runs: Sequence[tuple[int, dict[str, Any]]], limits: dict[str, float], begins: float
) -> Figure | None:
    axis = 'share of solid atoms'
    plot = empty_plot('time (ps)', axis, yaxis_range=[-0.03, 1.03])
    columns: dict[str, Any] = {}
    temperatures = sorted({run['temperature_K'] for _, run in runs})
    named: set[float] = set()
    for number, run in sorted(runs, key=lambda item: item[1]['temperature_K']):
        arrays = arrays_of(step.outputs.get(f'courses__r{run["round"]:03d}'))
        times, share = (arrays.get(f'run_{number:03d}_{what}') for what in ('time_ps', 'solid_share'))
        if times is None or share is None:
            continue
        temperature = run['temperature_K']
        is_first = temperature not in named
        named.add(temperature)
        # one look for each temperature; its runs differ in their seeds
        look = temperatures.index(temperature)
        add_line(plot, times, share, f'{temperature:g} K', look, legendgroup=str(look), showlegend=is_first)
        name = f'{temperature:g} K, round {run["round"] + 1}, seed {run["seed"]}'
        columns |= {f'{name}: time (ps)': times, f'{name}: share': share}
    if not columns:
        return None
    plot.update_layout(showlegend=True)
    guide(plot, 'frozen', y=limits['frozen_above'])
    guide(plot, 'molten', y=limits['molten_below'])
    guide(plot, 'both left<br>to each other', x=begins)
    several = len(runs) > len(temperatures)
    return Figure(
        title,
        'Solid by bond order. One half is melted first and cooled; then both halves are left to each other. A run ends '
        'where one of them is gone.'
        + (' Runs of one temperature look alike and differ in their seeds.' if several else ''),
        plot,
        to_csv(columns),
    )


_VERDICTS = {
    'freezes': (PALETTE[0], 'square', PALETTE[0]),
    'melts': (PALETTE[1], 'circle', 'rgba(0,0,0,0)'),
    'undecided': (_SOFT, 'x-thin', _SOFT),
}


def _bracket(runs: Sequence[dict[str, Any]], history: dict[str, Any]) -> Figure:
    axis = 'share of solid atoms at the end'
    plot = empty_plot('temperature (K)', axis, yaxis_range=[-0.05, 1.05], hovermode='closest', showlegend=True)
    for verdict, (colour, symbol, fill) in _VERDICTS.items():
        kept = [run for run in runs if run.get('verdict') == verdict and run.get('end') is not None]
        if kept:
            x, y = (np.array([run[key] for run in kept]) for key in ('temperature_K', 'end'))
            _marks(plot, x, y, verdict, colour, symbol, fill)
    low, high = history.get('low_K'), history.get('high_K')
    if low is not None and high is not None:
        plot.add_vrect(x0=low, x1=high, fillcolor='#e69f00', opacity=0.18, line_width=0, layer='below')
    caption = 'One mark a run. Frozen and molten at the end, or which phase grew by more than its scatter.'
    if history.get('outcome') == 'bracketed':
        point, half = history['melting_point_K'], history['half_width_K']
        guide(plot, f'{point:g} ± {half:g} K', x=point)
        caption += f' Shaded: the bracket, {low:g} to {high:g} K.'
    elif low is not None and high is not None:
        caption += f' Shaded: the bracket so far, {low:g} to {high:g} K, wider than asked for.'
    else:
        caption += ' No bracket yet: all runs that could be told agree.'
    failed = [f'{run["temperature_K"]:g} K' for run in runs if 'verdict' not in run]
    if failed:
        caption += f' Not shown, as they did not come to an end: {", ".join(failed)}.'
    keys = ('round', 'temperature_K', 'seed', 'status', 'verdict', 'by', 'start', 'end', 'change', 'change_error')
    rows = {key: ['' if run.get(key) is None else run[key] for run in runs] for key in keys}
    return Figure('Search for the melting point', caption, plot, to_csv(rows))
