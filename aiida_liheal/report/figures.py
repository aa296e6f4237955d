"""The figures of the page, as plotly figures with their numbers in CSV.

Every line has its own dash and marker besides its colour (Okabe and Ito's palette, told apart by colour-blind people),
every axis its unit.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from aiida.orm import ArrayData
from numpy.typing import NDArray

from aiida_liheal.analysis.results import QUANTITIES
from aiida_liheal.report.colours import STRUCTURE_COLOURS
from aiida_liheal.report.facts import kind_of, share_key
from aiida_liheal.report.tree import Step, Tree

__all__ = (
    'AXIS',
    'CURVES',
    'PALETTE',
    'Figure',
    'add_band',
    'add_line',
    'analysis_figures',
    'arrays_of',
    'curves',
    'deviations',
    'empty_plot',
    'guide',
    'learning_curves',
    'look',
    'points_by_colour',
    'simulation_figures',
    'to_csv',
)

#: Colours of lines in their order.
PALETTE = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
_DASHES = ('solid', 'dash', 'dot', 'dashdot', 'longdash', 'longdashdot')
_MARKERS = ('circle', 'square', 'diamond', 'triangle-up', 'x', 'cross')
#: Most markers on a line: more would hide it.
_MARKS = 9


#: Look of an axis.
AXIS = {
    'showline': True,
    'linecolor': '#5c6670',
    'mirror': True,
    'ticks': 'outside',
    'tickcolor': '#5c6670',
    'gridcolor': '#e8ebee',
    'zeroline': False,
    'title_standoff': 8,
    'automargin': True,
}


@dataclass(frozen=True)
class Figure:
    """A figure with its words: a title, a caption that says what is seen, and its numbers as CSV."""

    title: str
    caption: str
    plot: go.Figure
    csv: str

    @property
    def json(self) -> str:
        """The figure for plotly.js; `<`, `>` and `/` are escaped, so that no text can end a script element."""
        return str(self.plot.to_json()).replace('<', '\\u003c').replace('>', '\\u003e').replace('/', '\\u002f')


def empty_plot(x_title: str, y_title: str, **layout: Any) -> go.Figure:
    """A plot without data; titles carry units."""
    return go.Figure(
        layout={
            'template': 'none',
            'font': {'family': 'system-ui, "Segoe UI", Helvetica, Arial, sans-serif', 'size': 13, 'color': '#1d2733'},
            'margin': {'l': 64, 'r': 14, 't': 16, 'b': 48},
            'height': 330,
            'paper_bgcolor': 'white',
            'plot_bgcolor': 'white',
            'hovermode': 'x unified',
            # beside the lines, in their order from the first
            'legend': {'x': 1.01, 'y': 1, 'xanchor': 'left', 'font': {'size': 12}},
            'xaxis': {**AXIS, 'title': {'text': x_title}},
            'yaxis': {**AXIS, 'title': {'text': y_title}},
            **layout,
        }
    )


def look(number: int) -> tuple[str, str]:
    """Dash and marker of a line: of the first 36 no two have both in common, whatever their colours."""
    again = number // len(_DASHES)
    return _DASHES[(number + again) % len(_DASHES)], _MARKERS[number % len(_MARKERS)]


def add_line(
    figure: go.Figure, x: NDArray, y: NDArray, name: str, number: int, colour: str | None = None, **extra: Any
) -> None:
    """A line with few markers, so that it is known without its colour."""
    colour = colour or PALETTE[number % len(PALETTE)]
    dash, symbol = look(number)
    step = max(1, len(x) // _MARKS)
    # markers of different lines do not fall on one another
    shown = (np.arange(len(x)) - number * step // 4) % step == 0
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            name=name,
            mode='lines+markers',
            line={'color': colour, 'dash': dash, 'width': 2},
            marker={
                'symbol': symbol,
                'size': np.where(shown, 8, 0),
                'color': 'white',
                'line': {'color': colour, 'width': np.where(shown, 1.6, 0)},
            },
            **extra,
        )
    )


def add_band(figure: go.Figure, x: NDArray, low: NDArray, high: NDArray, colour: str) -> None:
    """A band from `low` to `high`."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    figure.add_trace(
        go.Scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([high, low[::-1]]),
            fill='toself',
            fillcolor=f'rgba({red},{green},{blue},0.15)',
            line={'width': 0},
            hoverinfo='skip',
            showlegend=False,
            mode='lines',
        )
    )


def guide(plot: go.Figure, text: str, x: float | None = None, y: float | None = None, lower: int = 0) -> None:
    """A thin dotted line across the plot with its meaning, at one x or one y; `lower` lines down, away from others."""
    line = {'color': '#5c6670', 'width': 1, 'dash': 'dot'}
    if y is not None:
        plot.add_hline(y=y, line=line)
        place = {'x': 0.99, 'xref': 'x domain', 'xanchor': 'right', 'y': y, 'yanchor': 'bottom'}
    else:
        plot.add_vline(x=x, line=line)
        place = {'x': x, 'xanchor': 'left', 'xshift': 3, 'y': 0.99 - 0.17 * lower, 'yref': 'y domain', 'yanchor': 'top'}
    plot.add_annotation(
        text=text, showarrow=False, font={'size': 11, 'color': '#5c6670'}, bgcolor='rgba(255,255,255,0.75)', **place
    )


def to_csv(columns: Mapping[str, NDArray | Sequence[Any]]) -> str:
    """Columns of equal or different lengths as CSV, the shorter ones filled up with nothing."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    length = max((len(column) for column in columns.values()), default=0)
    for row in range(length):
        writer.writerow([column[row] if row < len(column) else '' for column in columns.values()])
    return buffer.getvalue()


def arrays_of(node: Any) -> dict[str, NDArray]:
    """The arrays of a node; nothing if it is no array node."""
    return {name: node.get_array(name) for name in node.get_arraynames()} if isinstance(node, ArrayData) else {}


def learning_curves(tree: Tree) -> list[Figure]:
    """Force and energy errors against steps, for each committee: mean over its members and their range."""
    figures = []
    committees = tree.named('TrainWorkChain') or tree.named('DpTrainCalculation')
    for committee in committees:
        curves = [
            curve
            for step in tree.below(committee)
            if step.name == 'DpTrainCalculation' and (curve := arrays_of(step.outputs.get('learning_curve')))
        ]
        if not curves:
            continue
        steps = min((curve['step'] for curve in curves), key=len)
        # an interrupted member has fewer points; all are drawn as far as all of them go
        curves = [{name: column[: len(steps)] for name, column in curve.items()} for curve in curves]
        if any(not np.array_equal(curve['step'], steps) for curve in curves):
            curves = curves[:1]
        stage = f' of {committee.title}' if committee.depth else ''
        for what, label, unit in (('f', 'force', 'meV/Å'), ('e', 'energy', 'meV/atom')):
            plot = empty_plot('training step', f'RMSE of {label} ({unit})', yaxis_type='log')
            columns: dict[str, Any] = {'step': steps}
            parts = [(f'rmse_{what}_trn', 'training<br>batches'), (f'rmse_{what}_val', 'held-out<br>frames')]
            if f'rmse_{what}_trn' not in curves[0]:
                parts = [(f'rmse_{what}', 'training<br>batches')]
            for number, (key, name) in enumerate(parts):
                if key not in curves[0]:
                    continue
                values = 1000 * np.array([curve[key] for curve in curves])
                if len(curves) > 1:
                    add_band(plot, steps, values.min(axis=0), values.max(axis=0), PALETTE[number])
                add_line(plot, steps, values.mean(axis=0), name, number)
                for member, row in enumerate(values):
                    columns[f'{name.replace("<br>", " ")}, member {member} ({unit})'] = row
            members = (
                f'Line: mean of {len(curves)} members; band: from the best to the worst.'
                if len(curves) > 1
                else 'One member.'
            )
            figures.append(
                Figure(
                    f'Learning curve{stage}: {label}',
                    f'{members} Errors of single batches, so they scatter; logarithmic axis.',
                    plot,
                    to_csv(columns),
                )
            )
    return figures


def deviations(tree: Tree) -> list[Figure]:
    """How often the committee deviates by how much, round by round, with the trust levels."""
    rounds: dict[str, NDArray] = {}
    levels: dict[str, float] = {}
    explorations = tree.named('ExploreWorkChain') or [
        step for step in tree.named('LammpsCalculation') if step.result('results').get('kind') == 'explore'
    ]
    for exploration in explorations:
        parts = [
            array
            for step in tree.below(exploration)
            for name, array in arrays_of(step.outputs.get('deviations')).items()
            if step.name == 'LammpsCalculation' and name.endswith('_max_devi_f')
        ]
        if parts:
            rounds[exploration.title if exploration.depth else 'explore'] = np.concatenate(parts)
            levels.update(exploration.settings('trust') or exploration.settings().get('trust') or {})
    finite = {name: values[np.isfinite(values) & (values > 0)] for name, values in rounds.items()}
    finite = {name: values for name, values in finite.items() if len(values)}
    if not finite:
        return []
    together = np.concatenate(list(finite.values()))
    low, high = together.min() / 1.1, together.max() * 1.1
    edges = np.geomspace(low, high, 31)
    plot = empty_plot('largest force deviation in a frame (eV/Å)', 'share of the frames', xaxis_type='log')
    columns: dict[str, Any] = {'from (eV/Å)': edges[:-1], 'to (eV/Å)': edges[1:]}
    top = 0.0
    for number, (name, values) in enumerate(finite.items()):
        counts = np.histogram(values, edges)[0] / len(rounds[name])
        top = max(top, float(counts.max()))
        # flat parts over each bin, down to nothing at both ends
        x = np.repeat(edges, 2)
        y = np.concatenate([[0], np.repeat(counts, 2), [0]])
        add_line(plot, x, y, f'{name}<br>({len(rounds[name])} frames)', number)
        columns[f'{name} (share of frames)'] = counts
    for key, name in (('lower_eV_per_A', 'known'), ('upper_eV_per_A', 'lost')):
        if key in levels:
            plot.add_vline(x=levels[key], line={'color': '#1d2733', 'width': 1, 'dash': 'dot'})
            plot.add_annotation(
                x=np.log10(levels[key]),
                y=top * 1.12,
                text=f'{"≤" if name == "known" else "≥"} {levels[key]:g}: {name}',
                showarrow=False,
                xanchor='right' if name == 'known' else 'left',
                xshift=-4 if name == 'known' else 4,
                font={'size': 11},
            )
    plot.update_yaxes(range=[0, 1.2 * top])
    odd = sum(len(values) for values in rounds.values()) - len(together)
    caption = 'Frames between the two trust levels are the ones to learn from. Logarithmic axis.'
    if odd:
        caption += f' {odd} frames without a finite deviation are not drawn, but count in the shares.'
    return [Figure('Committee deviation in exploration', caption, plot, to_csv(columns))]


def simulation_figures(step: Step) -> list[Figure]:
    """Figures of one simulation: phases, voids, energy and temperature against time, profiles by height."""
    verb = kind_of(step)
    prefix = '' if step.name == 'AnalyseCalculation' else 'analysis__'
    series = arrays_of(step.outputs.get(f'{prefix}series'))
    profiles = arrays_of(step.outputs.get(f'{prefix}profiles'))
    figures = [] if series else _thermo(arrays_of(step.outputs.get('thermo')))
    wanted = ['film_height_A', 'n_atoms'] if verb == 'deposit' else ['void_volume_A3']
    figures += analysis_figures(series, profiles, wanted)
    figures += _deviation_along(step)
    return figures


def analysis_figures(
    series: dict[str, NDArray], profiles: dict[str, NDArray], quantities: Sequence[str]
) -> list[Figure]:
    """Figures of an analysis: phases, some quantities, energy and temperature against time, and profiles by height."""
    figures = []
    if series:
        figures.append(_shares(series))
        wanted = [*quantities, 'roughness_A', 'defect_depth_A', 'potential_energy_eV_per_atom', 'temperature_K']
        # a crystal without a surface has no roughness, one without voids none to close
        known = [name for name in wanted if name in series and np.isfinite(series[name]).any()]
        figures += [_against_time(series, name) for name in known]
        by_site = _energies_by_site(series)
        figures += [by_site] if by_site else []
    figures += [
        _by_height(profiles, name)
        for name in ('density_g_per_cm3', 'temperature_K', 'potential_energy_eV_per_atom')
        if name in profiles and 'height_A' in profiles
    ]
    shares = _shares_by_height(profiles)
    return figures + ([shares] if shares else [])


#: Places of atoms, from high energy to low.
_SITES = ('tips', 'surface', 'valleys', 'bulk')
_TITLES = {
    'roughness_A': ('Roughness of the surface', 'roughness (Å)'),
    'defect_depth_A': ('Depth of the deepest defect', 'depth (Å)'),
    'film_height_A': ('Growth of the film', 'mean height of the surface (Å)'),
    'n_atoms': ('Atoms in the cell', 'atoms'),
    'void_volume_A3': ('Void volume', 'volume of voids (Å³)'),
    'potential_energy_eV_per_atom': ('Potential energy', 'potential energy (eV/atom)'),
    'temperature_K': ('Temperature', 'temperature (K)'),
    'density_g_per_cm3': ('Density by height', 'density (g/cm³)'),
}


def _meaning(name: str) -> str:
    meaning = QUANTITIES[name][1]
    return f'{meaning[:1].upper()}{meaning[1:]}.'


def _against_time(series: dict[str, NDArray], name: str) -> Figure:
    title, axis = _TITLES[name]
    plot = empty_plot('time (ps)', axis, showlegend=False)
    add_line(plot, series['time_ps'], series[name], axis, 0)
    caption = _meaning(name)
    if name == 'n_atoms' and np.ptp(series[name]) < 8:
        plot.update_yaxes(dtick=1)
    if name in ('roughness_A', 'defect_depth_A'):
        plot.update_yaxes(rangemode='tozero')
    if name == 'void_volume_A3':
        plot.update_yaxes(rangemode='tozero')
        caption += ' Measured by an alpha shape, which reads high.'
    return Figure(title, caption, plot, to_csv({'time (ps)': series['time_ps'], axis: series[name]}))


def _shares(series: dict[str, NDArray]) -> Figure:
    plot = empty_plot('time (ps)', 'share of the atoms', yaxis_range=[-0.03, 1.03])
    columns: dict[str, Any] = {'time (ps)': series['time_ps']}
    averaged = share_key(series).endswith('averaged')
    number = 0
    for structure, colour in STRUCTURE_COLOURS.items():
        key = share_key(series, structure)
        if key not in series:
            continue
        columns[structure] = series[key]
        if structure in ('bcc', 'other') or np.nanmax(series[key]) > 0.005:
            add_line(
                plot,
                series['time_ps'],
                series[key],
                structure.upper() if structure != 'other' else structure,
                number,
                colour,
            )
            number += 1
    inside = 'bcc_share_inside_averaged' if averaged else 'bcc_share_inside'
    if inside in series:
        columns['bcc, atoms that began inside'] = series[inside]
        add_line(plot, series['time_ps'], series[inside], 'BCC, began<br>inside', number, '#56b4e9')
        number += 1
    amorphous = 'amorphous_share_averaged' if averaged else 'amorphous_share'
    if amorphous in series and np.isfinite(series[amorphous]).any():
        columns['other, atoms away from surfaces'] = series[amorphous]
        add_line(plot, series['time_ps'], series[amorphous], 'other, away<br>from surfaces', number, '#1d2733')
    return Figure(
        'Crystal structure',
        'Adaptive common neighbour analysis'
        + (', positions averaged over some frames.' if averaged else ' of single frames.')
        + ' Atoms at surfaces lack neighbours and count as «other»; thermal motion lowers the share of BCC, in single '
        'frames of a perfect crystal at 300 K to about 0.5. «Began inside»: away from surfaces and voids at the start. '
        '«Away from surfaces»: at that time; «other» among these is amorphous.',
        plot,
        to_csv(columns),
    )


def _energies_by_site(series: dict[str, NDArray]) -> Figure | None:
    """Mean potential energy of the atoms at tips, at the surface, in valleys and in the bulk."""
    axis = 'potential energy (eV/atom)'
    plot = empty_plot('time (ps)', axis)
    columns: dict[str, Any] = {'time (ps)': series['time_ps']}
    for number, site in enumerate(_SITES):
        values = series.get(f'potential_energy_{site}_eV_per_atom')
        if values is not None and np.isfinite(values).any():
            add_line(plot, series['time_ps'], values, site, number)
            columns[f'{site} (eV/atom)'] = values
            columns[f'{site} (atoms)'] = series[f'atoms_{site}']
    if not plot.data:
        return None
    return Figure(
        'Potential energy by place',
        'Mean over the mobile atoms of each place; tips have 7 neighbours or fewer, valleys 11 or more, both are part '
        'of the surface. How a model shares energy out among atoms is a matter of gauge: compare differences.',
        plot,
        to_csv(columns),
    )


def _shares_by_height(profiles: dict[str, NDArray]) -> Figure | None:
    if 'height_A' not in profiles or share_key(profiles) not in profiles:
        return None
    plot = empty_plot('share of the atoms', 'height (Å)', xaxis_range=[-0.03, 1.03], hovermode='closest')
    columns: dict[str, Any] = {'height (Å)': profiles['height_A']}
    number = 0
    for structure, colour in STRUCTURE_COLOURS.items():
        values = profiles.get(share_key(profiles, structure))
        if values is None:
            continue
        columns[structure] = values
        if structure in ('bcc', 'other') or np.nanmax(values, initial=0) > 0.02:
            name = structure if structure == 'other' else structure.upper()
            add_line(plot, values, profiles['height_A'], name, number, colour)
            number += 1
    return Figure(
        'Crystal structure by height',
        'Slices along the height, averaged over the last analysed frames. Atoms at surfaces count as «other».',
        plot,
        to_csv(columns),
    )


def _by_height(profiles: dict[str, NDArray], name: str) -> Figure:
    title, axis = _TITLES[name]
    title = title if title.endswith('by height') else f'{title} by height'
    plot = empty_plot(axis, 'height (Å)', showlegend=False, hovermode='closest')
    add_line(plot, profiles[name], profiles['height_A'], axis, 0)
    return Figure(
        title,
        'Slices along the height, averaged over the last analysed frames.'
        + (
            ' Common motion of a slice, fixed atoms and atoms in flight are left out.'
            if name == 'temperature_K'
            else ''
        ),
        plot,
        to_csv({'height (Å)': profiles['height_A'], axis: profiles[name]}),
    )


#: What the points of a series of a campaign are drawn by, against time, for each verb.
CURVES: dict[str, tuple[str, ...]] = {
    'heal': ('void_volume_A3', 'bcc_share', 'potential_energy_eV_per_atom'),
    'deposit': ('film_height_A', 'bcc_share'),
}


def curves(prefix: str, quantity: str, lines: Sequence[tuple[str, NDArray, NDArray]]) -> Figure:
    """A quantity of several runs against time; a line is its name, times in ps, and values."""
    title, axis = _TITLES.get(quantity, ('Share of bcc', 'share of the atoms'))
    plot = empty_plot('time (ps)', axis)
    columns: dict[str, Any] = {}
    for number, (name, times, values) in enumerate(lines):
        add_line(plot, times, values, name, number)
        plain = name.replace('<br>', ' ')
        columns |= {f'{plain}: time (ps)': times, f'{plain}: {axis}': values}
    return Figure(f'{prefix}{title}', _meaning(quantity), plot, to_csv(columns))


def points_by_colour(title: str, x: str, y: str, groups: Mapping[str, Sequence[tuple[Any, Any]]]) -> Figure:
    """Results of the points of a grid: for each group of a name its pairs of x and y; names carry their units."""
    names = list(dict.fromkeys(str(pair[0]) for pairs in groups.values() for pair in pairs))
    is_number = all(isinstance(pair[0], int | float) for pairs in groups.values() for pair in pairs)
    # what is no number has no order but that of the file
    axis = {} if is_number else {'type': 'category', 'categoryorder': 'array', 'categoryarray': names}
    plot = empty_plot(x, y, showlegend=len(groups) > 1, hovermode='closest')
    plot.update_xaxes(**axis)
    columns: dict[str, Any] = {}
    for number, (name, pairs) in enumerate(groups.items()):
        pairs = sorted(pairs, key=lambda pair: pair[0]) if is_number else pairs
        xs = np.array([pair[0] if is_number else str(pair[0]) for pair in pairs])
        ys = np.array([pair[1] for pair in pairs], dtype=float)
        add_line(plot, xs, ys, name or y, number)
        columns |= {f'{name} {x}'.strip(): xs, f'{name} {y}'.strip(): ys}
    return Figure(title, 'One mark a point of the grid; names carry their units.', plot, to_csv(columns))


def _thermo(thermo: dict[str, NDArray]) -> list[Figure]:
    """What the log tells of a run that was not analysed."""
    runs = sorted({name.rsplit('_time_ps', 1)[0] for name in thermo if name.endswith('_time_ps')})
    figures = []
    for what, axis in (('temperature_K', 'temperature (K)'), ('potential_energy_eV', 'potential energy (eV)')):
        having = [run for run in runs if f'{run}_{what}' in thermo]
        if not having:
            continue
        plot = empty_plot('time (ps)', axis, showlegend=len(having) > 1)
        columns: dict[str, Any] = {}
        for number, run in enumerate(having):
            add_line(plot, thermo[f'{run}_time_ps'], thermo[f'{run}_{what}'], run, number)
            columns |= {f'{run} time (ps)': thermo[f'{run}_time_ps'], f'{run} {axis}': thermo[f'{run}_{what}']}
        title = 'Temperature in the log' if what == 'temperature_K' else 'Potential energy in the log'
        figures.append(Figure(title, 'From the log of LAMMPS, all atoms.', plot, to_csv(columns)))
    return figures


def _deviation_along(step: Step) -> list[Figure]:
    """The committee's deviation along a simulation, where one drove it."""
    devi = arrays_of(step.outputs.get('deviations'))
    if 'run_000_step' not in devi:
        return []
    timestep = step.settings().get('timestep_fs', 1.0)
    time = devi['run_000_step'] * timestep / 1000
    axis = 'deviation of forces (eV/Å)'
    plot = empty_plot('time (ps)', axis, yaxis_rangemode='tozero')
    for number, (key, name) in enumerate(
        (('max_devi_f', 'largest in<br>the frame'), ('avg_devi_f', 'mean of<br>the frame'))
    ):
        add_line(plot, time, devi[f'run_000_{key}'], name, number)
    return [
        Figure(
            'Committee deviation',
            'How far the members of the committee are apart along the run: where it is large, the potential is out of '
            'what it learned.',
            plot,
            to_csv(
                {'time (ps)': time, 'max (eV/Å)': devi['run_000_max_devi_f'], 'mean (eV/Å)': devi['run_000_avg_devi_f']}
            ),
        )
    ]
