"""Panels like the figures of the paper from a campaign that is over: snapshots, and what was measured beside them.

They are made of what the database holds: the first and last frame of each run, its series, its energies. Trajectories
are not needed.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from aiida.orm import ArrayData
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from numpy.typing import NDArray
from PIL import Image

from aiida_liheal.report.deposits import BOTTOM_ERROR_A
from aiida_liheal.report.facts import share_key
from aiida_liheal.report.figures import PALETTE
from aiida_liheal.report.panel import Cell, PanelSettings, lay_out, save
from aiida_liheal.report.scene import SceneSettings, shot_of_snapshot, time_text
from aiida_liheal.report.tree import Step

__all__ = ('DRAWN', 'campaign_panel', 'points_of_series')

#: Verbs whose points can be put into a panel.
DRAWN = ('deposit', 'heal', 'valley', 'diffuse')
#: Most snapshots side by side.
_MOST_COLUMNS = 6
#: Most snapshots of a panel.
_MOST_CELLS = 48
#: Height of a row of plots by its width.
_PLOT_SHAPE = 0.3
_LINES = ('-', '--', '-.', ':', (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))
_MARKERS = ('o', 's', '^', 'D', 'v', 'P')
#: Units of names that end so.
_UNITS = {
    '_K': ' K',
    '_ps': ' ps',
    '_A': ' Å',
    '_GPa': ' GPa',
    '_m_per_s': ' m/s',
    '_Li_per_ps': ' Li/ps',
    '_Li_per_ps_nm2': ' Li/ps/nm²',
    '_deg': '°',
}


@dataclass(frozen=True)
class Point:
    """One finished point of a series: its place in the grid, and what its run left."""

    name: str
    grid: dict[str, Any]
    step: Step

    def arrays(self, output: str) -> dict[str, NDArray]:
        """The arrays of an output, by its name in the run, such as `analysis__series`; empty if there is none."""
        node = self.step.outputs.get(f'points__{self.name}__{output}')
        return {key: node.get_array(key) for key in node.get_arraynames()} if isinstance(node, ArrayData) else {}

    def content(self, output: str) -> dict[str, Any]:
        """The content of an output that is a `Dict`."""
        return self.step.result(f'points__{self.name}__{output}')

    def label(self, axes: Sequence[str]) -> str:
        """Where it lies in the grid, in words with units."""
        return ', '.join(with_unit(axis, self.grid[axis]) for axis in axes)


def with_unit(axis: str, value: Any) -> str:
    """A value of an axis of a grid for people, such as «400 K» or «rate 5»."""
    name = axis.rsplit('.', 1)[-1]
    text = f'{value:g}' if isinstance(value, float) else str(value).replace('_', ' ')
    if value in ('none', None):
        return f'{name}: none'
    for ending in sorted(_UNITS, key=len, reverse=True):
        if name.endswith(ending):
            return f'{text}{_UNITS[ending]}'
    return text if isinstance(value, str) and not _is_number(value) else f'{name} {text}'


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def points_of_series(step: Step) -> dict[str, tuple[dict[str, Any], list[Point]]]:
    """The series of a campaign with their finished points, in the order of its file."""
    table = step.result('table')
    found = {}
    for name, series in table.get('series', {}).items():
        points = [
            Point(row['point'], row['grid'], step)
            for row in table['rows']
            if row['series'] == name and row['state'] == 'finished'
        ]
        found[name] = (series, points)
    return found


def campaign_panel(
    step: Step, names: Sequence[str], path: Path, settings: PanelSettings, *, is_coloured: bool = False
) -> list[str]:
    """Write a panel of some series of a campaign as PNG, one below the other.

    Parameters
    ----------
    step : Step
        A campaign that is over.
    names : sequence of str
        Its series, in the order in which they are drawn; all that can be drawn if there is none.
    path : Path
        The file to write, ending in `.png`; one that is there is replaced when the new one is whole.
    settings : PanelSettings
        How atoms are shown.
    is_coloured : bool
        Whether its colours hold for all; else deposits are coloured by energy and all else by structure, as in the
        paper.

    Returns
    -------
    list of str
        What each part shows.

    Raises
    ------
    ValueError
        If there is no such series, or nothing to draw.
    RuntimeError
        If there is no graphics to draw with.
    """
    known = points_of_series(step)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f'no series {", ".join(unknown)}; this campaign has {", ".join(known) or "none"}')
    chosen = list(names) or [name for name, (series, points) in known.items() if series['verb'] in DRAWN and points]
    parts: list[Image.Image] = []
    said = []
    waiting: list[Callable[[Axes], None]] = []
    for name in chosen:
        series, points = known[name]
        if series['verb'] not in DRAWN:
            raise ValueError(f'series {name} runs {series["verb"]}; a panel shows {", ".join(DRAWN)}')
        if not points:
            raise ValueError(f'series {name} has no finished point')
        plot = {'valley': _valleys, 'diffuse': _diffusion}.get(series['verb'])
        if plot is not None:
            waiting.append(functools.partial(plot, points=points, axes=list(series['axes'])))
            said.append(f'{name}: a plot')
            continue
        colour = settings.colour if is_coloured else 'energy' if series['verb'] == 'deposit' else 'structure'
        drawn = _part(series, points, settings.model_copy(update={'colour': colour}))
        if drawn is None:
            raise ValueError(f'series {name}: its runs have no analysis to draw')
        picture, seen, plots = drawn
        parts += [_plots(picture.width, waiting)] if waiting else []
        parts.append(picture)
        waiting = plots
        said.append(f'{name}: {seen}' + (f', plots: {len(plots)}' if plots else ''))
    if waiting:
        parts.append(_plots(parts[0].width if parts else settings.width_px, waiting))
    if not parts:
        raise ValueError(f'no finished series of {", ".join(DRAWN)}')
    gap = settings.width_px // 60
    whole = Image.new(
        'RGB',
        (max(part.width for part in parts), sum(part.height for part in parts) + gap * (len(parts) - 1)),
        (255, 255, 255),
    )
    y = 0
    for part in parts:
        whole.paste(part, (0, y))
        y += part.height + gap
    save(whole, path)
    return said


def _part(
    series: Mapping[str, Any], points: Sequence[Point], settings: PanelSettings
) -> tuple[Image.Image, str, list[Callable[[Axes], None]]] | None:
    """The snapshots of one series, what is seen of it, and what is to be plotted below them."""
    verb, axes = series['verb'], list(series['axes'])
    snapshots = {point.name: arrays for point in points if (arrays := point.arrays('analysis__snapshots'))}
    points = [point for point in points if point.name in snapshots]
    if not points:
        return None
    limits = _limits(snapshots.values(), settings)
    grid = [axis for axis in axes if not axis.endswith('seed')]
    if len(grid) == 2 and verb == 'deposit':
        # of runs that differ in their seeds the first one is shown; all count in the plots
        first = {tuple(point.grid[axis] for axis in grid): point for point in reversed(points)}
        cells, columns = _matrix(list(first.values()), grid, snapshots, settings, limits)
        seen = f'{len(cells) // columns} x {columns} last frames'
    else:
        cells, columns = _starts_and_ends(points, axes, snapshots, settings, limits)
        seen = f'first and last frames of {len(points)} runs'
    return lay_out(cells, columns, settings, limits), seen, _beside(verb, points, grid)


def _limits(snapshots: Any, settings: SceneSettings) -> tuple[float, float] | None:
    """Energies in eV at the ends of the colours of all these frames; None if structures are coloured."""
    if settings.colour != 'energy':
        return None
    if settings.energy_range_eV is not None:
        return settings.energy_range_eV
    key = 'potential_energy_eV'
    energies = [
        arrays[f'{frame}_{key}'] for arrays in snapshots for frame in ('first', 'last') if f'last_{key}' in arrays
    ]
    if not energies:
        raise ValueError('the snapshots have no energies of atoms, as the dump had no column c_pe: colour by structure')
    low, high = np.percentile(np.concatenate(energies), [1, 99])
    return float(low), float(max(high, low + 1e-3))


def _cell(
    point: Point,
    arrays: dict[str, NDArray],
    frame: Literal['first', 'last'],
    heading: str,
    settings: SceneSettings,
    limits: tuple[float, float] | None,
) -> Cell:
    summary = point.content('analysis__summary')
    told = summary.get({'first': 'start', 'last': 'end'}[frame], {})
    shot = shot_of_snapshot(arrays, frame, told.get('time_ps', 0.0), settings, limits)
    return Cell(f'{heading}{time_text(shot.time_ps)}', _remark(summary, told, frame), shot)


def _remark(summary: Mapping[str, Any], told: Mapping[str, Any], frame: str) -> str:
    """Form, roughness, variance of the current, or void: what was measured of a frame."""
    said = []
    dendrites = summary.get('dendrites') or []
    current = summary.get('local_current')
    if frame == 'last' and dendrites:
        one = dendrites[0]
        said.append(one['form'] if one['form'] != 'none' else 'no form')
        said.append(f'H {one["height_A"]:.0f} Å')
        if one.get('bottom_A') is not None:
            said.append(f'bottom {one["bottom_A"]:.0f} Å')
    if frame == 'last' and current:
        error = '' if current.get('vlcd_error') is None else f' ± {current["vlcd_error"]:.2f}'
        said.append(f'VLCD {current["vlcd"]:.2f}{error}')
    if told.get('roughness_A') is not None and not dendrites:
        said.append(f'w {told["roughness_A"]:.1f} Å')
    if told.get('void_volume_A3') and told.get('film_height_A') is None:
        said.append(f'void {told["void_volume_A3"]:.0f} Å³')
    return ', '.join(said)


def _rising(values: Any) -> list[Any]:
    """Different values in their order: of numbers that of size, else as they come."""
    found = list(dict.fromkeys(values))
    if all(_is_number(str(value)) for value in found):
        return sorted(found, key=float)
    return found


def _matrix(
    points: Sequence[Point],
    axes: Sequence[str],
    snapshots: Mapping[str, dict[str, NDArray]],
    settings: SceneSettings,
    limits: tuple[float, float] | None,
) -> tuple[list[Cell], int]:
    """A row for each value of the one axis, the highest above, and a column for each of the other, as in Figure 3."""
    # temperatures are the rows of the paper's Figure 3, rates its columns
    down = next((axis for axis in axes if axis.endswith('temperature_K')), axes[0])
    across = next(axis for axis in axes if axis != down)
    rows, columns = _rising(p.grid[down] for p in points)[::-1], _rising(p.grid[across] for p in points)
    if len(rows) * len(columns) > _MOST_CELLS:
        raise ValueError(f'{len(rows)} x {len(columns)} snapshots are too many for a panel, {_MOST_CELLS} at most')
    cells: list[Cell] = []
    for row in rows:
        for column in columns:
            found = [p for p in points if p.grid[down] == row and p.grid[across] == column]
            letter = f'{ascii_lowercase[len(cells)]}) ' if len(rows) * len(columns) <= len(ascii_lowercase) else ''
            if not found:
                raise ValueError(
                    f'the point {with_unit(down, row)}, {with_unit(across, column)} has not finished: run the campaign '
                    'on, or draw another series'
                )
            heading = f'{letter}{found[0].label((down, across))}, '
            cells.append(_cell(found[0], snapshots[found[0].name], 'last', heading, settings, limits))
    return cells, len(columns)


def _starts_and_ends(
    points: Sequence[Point],
    axes: Sequence[str],
    snapshots: Mapping[str, dict[str, NDArray]],
    settings: SceneSettings,
    limits: tuple[float, float] | None,
) -> tuple[list[Cell], int]:
    """A column a point, its first frame above its last one, as in Figure 1; more points make more pairs of rows."""
    if 2 * len(points) > _MOST_CELLS:
        raise ValueError(f'{len(points)} runs are too many for a panel, {_MOST_CELLS // 2} at most')
    columns = min(len(points), _MOST_COLUMNS)
    cells: list[Cell] = []
    for begin in range(0, len(points), columns):
        some = points[begin : begin + columns]
        for frame in ('first', 'last'):
            for k, point in enumerate(some):
                letter = f'{ascii_lowercase[begin + k]}) '
                label = point.label(axes)
                heading = f'{letter}{label}, ' if label and frame == 'first' else letter
                cells.append(_cell(point, snapshots[point.name], frame, heading, settings, limits))
        if len(some) < columns and begin:
            # the last pair of rows is laid out by itself: its cells must not move up
            short = len(some)
            first, last = cells[-2 * short : -short], cells[-short:]
            cells[-2 * short :] = _filled(first, columns) + last
    return cells, columns


def _filled(row: list[Cell], columns: int) -> list[Cell]:
    """A row with its last snapshot's place taken by empty ones."""
    empty = row[-1].shot
    none = type(empty)(empty.time_ps, empty.positions[:0], empty.colours[:0], empty.corners, empty.in_flight[:0])
    return row + [Cell('', '', none)] * (columns - len(row))


def _beside(verb: str, points: Sequence[Point], axes: Sequence[str]) -> list[Callable[[Axes], None]]:
    """What is plotted below the snapshots of a series."""
    series = {point.label(axes) or point.name: point.arrays('analysis__series') for point in points}
    series = {label: arrays for label, arrays in series.items() if arrays}
    if verb == 'heal':
        quantities = [
            ('void_volume_A3', 'void volume (Å³)'),
            ('bcc_share', 'share of bcc'),
            ('potential_energy_eV_per_atom', 'potential energy (eV/atom)'),
        ]
    elif len(axes) == 2:
        return _widths(points, axes)
    else:
        quantities = [('roughness_A', 'roughness (Å)'), ('film_height_A', 'height of the film (Å)')]
    plots: list[Callable[[Axes], None]] = []
    for quantity, axis in quantities:
        lines = {}
        for label, arrays in series.items():
            key = share_key(arrays) if quantity == 'bcc_share' else quantity
            # a crystal without voids has none to close
            if key in arrays and np.isfinite(arrays[key]).any() and arrays[key].any():
                lines[label] = (arrays['time_ps'], arrays[key])
        if lines:
            plots.append(functools.partial(_courses, lines=lines, axis=axis))
    return plots


def _widths(points: Sequence[Point], axes: Sequence[str]) -> list[Callable[[Axes], None]]:
    """Widths at bottom and top, or of the whole deposit where it is too low for them, against one axis of the grid."""
    down = next((axis for axis in axes if axis.endswith('temperature_K')), axes[0])
    across = next(axis for axis in axes if axis != down)
    ends = {point.name: point.content('analysis__summary').get('end', {}) for point in points}
    plots: list[Callable[[Axes], None]] = []
    for key, title, error in (
        ('dendrite_bottom_A', 'width at the bottom (Å)', BOTTOM_ERROR_A),
        ('dendrite_top_A', 'width at the top (Å)', None),
        ('deposit_width_A', 'width of the deposit (Å)', None),
    ):
        known = [point for point in points if ends[point.name].get(key) is not None]
        if len(known) < 2 or (key == 'deposit_width_A' and plots):
            continue
        groups = {}
        for value in _rising(p.grid[across] for p in known):
            places = _rising(p.grid[down] for p in known if p.grid[across] == value)
            groups[with_unit(across, value)] = [
                (place, [ends[p.name][key] for p in known if (p.grid[across], p.grid[down]) == (value, place)])
                for place in places
            ]
        name = down.rsplit('.', 1)[-1]
        x = 'temperature (K)' if name == 'temperature_K' else name
        plots.append(functools.partial(_marks, groups=groups, x=x, y=title, error=error))
    return plots


def _plots(width_px: int, plots: Sequence[Callable[[Axes], None]]) -> Image.Image:
    """Plots side by side as a picture of this width, with type of 8 points at the width of a page, 17 cm."""
    inches = 6.7
    n_columns = max(2, min(3, len(plots)))
    n_rows = -(-len(plots) // n_columns)
    style: dict[Any, Any] = {
        'font.size': 8, 'axes.spines.top': False, 'axes.spines.right': False, 'legend.frameon': False,
        'legend.fontsize': 7, 'lines.linewidth': 1.3, 'lines.markersize': 4,
    }  # fmt: skip
    with mpl.rc_context(style):
        sheet = Sheet(
            figsize=(inches, n_rows * inches * _PLOT_SHAPE * (1.3 if n_columns == 2 else 1.0)), layout='constrained'
        )
        for number, draw in enumerate(plots):
            draw(sheet.add_subplot(n_rows, n_columns, number + 1))
        buffer = io.BytesIO()
        sheet.savefig(buffer, format='png', dpi=width_px / inches)
    with Image.open(buffer) as image:
        drawn = image.convert('RGB')
    # a pixel may be lost in rounding
    whole = Image.new('RGB', (width_px, drawn.height), (255, 255, 255))
    whole.paste(drawn, (0, 0))
    return whole


def _legend(ax: Axes) -> None:
    """Above the plot, where it hides nothing."""
    ax.legend(loc='lower left', bbox_to_anchor=(-0.02, 1.0), ncols=2, columnspacing=1.0, borderaxespad=0.2)


def _courses(ax: Axes, lines: Mapping[str, tuple[NDArray, NDArray]], axis: str) -> None:
    for number, (label, (time, values)) in enumerate(lines.items()):
        ax.plot(
            time,
            values,
            linestyle=_LINES[number % len(_LINES)],
            marker=_MARKERS[number % len(_MARKERS)],
            markevery=(number * 3 % 7, max(1, len(time) // 8)),
            markerfacecolor='white',
            color=PALETTE[number % len(PALETTE)],
            label=label,
        )
    ax.set(xlabel='time (ps)', ylabel=axis)
    if len(lines) > 1:
        _legend(ax)


def _marks(
    ax: Axes, groups: Mapping[str, Sequence[tuple[float, Sequence[float]]]], x: str, y: str, error: float | None
) -> None:
    """Values by place, of each group; bars: standard deviation over runs of one place, else the error of one value."""
    for number, (label, told) in enumerate(groups.items()):
        spreads = [float(np.std(values, ddof=1)) if len(values) > 1 else error or 0.0 for _, values in told]
        ax.errorbar(
            [place for place, _ in told],
            [float(np.mean(values)) for _, values in told],
            yerr=spreads if any(spreads) else None,
            capsize=2,
            linestyle=_LINES[number % len(_LINES)],
            marker=_MARKERS[number % len(_MARKERS)],
            markerfacecolor='white',
            color=PALETTE[number % len(PALETTE)],
            label=label,
        )
    ax.set(xlabel=x, ylabel=y)
    if len(groups) > 1:
        _legend(ax)


def _valleys(ax: Axes, *, points: Sequence[Point], axes: Sequence[str]) -> None:
    """Energy of the atom against the angle of its valley; bars: standard deviation over the committee."""
    for number, point in enumerate(points):
        summary = point.content('summary')
        told = summary['atom_energy']
        rows = sorted(
            (angle, mean, spread or 0.0)
            for angle, mean, spread in zip(summary['angles_deg'], told['mean_eV'], told['spread_eV'], strict=True)
            if mean is not None
        )
        angles, means, spreads = np.array(rows).T
        n = summary['n_members']
        # small ones would hide behind their marks
        ax.errorbar(
            angles,
            means,
            yerr=spreads if n > 1 else None,
            capsize=3,
            linestyle=_LINES[number % len(_LINES)],
            marker=_MARKERS[number % len(_MARKERS)],
            markerfacecolor='white',
            color=PALETTE[number % len(PALETTE)],
            label=f'{point.label(axes)} mean of {n} potentials'.lstrip()
            if n > 1
            else point.label(axes) or 'one potential',
        )
    ax.set(xlabel='angle of the valley (°)', ylabel='energy of the atom (eV)', xticks=range(45, 271, 45))
    _legend(ax)


def _diffusion(ax: Axes, *, points: Sequence[Point], axes: Sequence[str]) -> None:
    """D against temperature with its error; open marks with arrows: only a bound is known."""
    number = 0
    for point in points:
        rows = point.content('summary').get('temperatures', [])
        for group in ('surface', 'bulk'):
            colour, marker = PALETTE[number % len(PALETTE)], _MARKERS[number % len(_MARKERS)]
            number += 1
            name = f'{point.label(axes)} {group}'.strip()
            told = [(row.get('temperature_K', row['asked_temperature_K']), row.get(group, {})) for row in rows]
            known = [(t, one['D_m2_per_s'], one['D_error_m2_per_s']) for t, one in told if one.get('is_resolved')]
            bounds = [(t, b) for t, one in told if (b := one.get('D_bound_m2_per_s')) is not None]
            if known:
                t, d, error = np.array(known).T
                ax.errorbar(t, d, yerr=error, fmt=marker, capsize=3, color=colour, label=name)
            if bounds:
                t, bound = np.array(bounds).T
                # arrows of a quarter of a decade
                ax.errorbar(
                    t, bound, yerr=bound * (1 - 10**-0.25), uplims=True, fmt=marker, color=colour, mfc='white',
                    label=f'{name}, at most',
                )  # fmt: skip
    ax.set(xlabel='temperature (K)', ylabel='D (m²/s)', yscale='log')
    _legend(ax)
