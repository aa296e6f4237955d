"""Figures of what lies on a substrate: dendrites, their contact, the surface from above, where the current lands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from aiida_liheal.analysis.results import QUANTITIES
from aiida_liheal.analysis.surface import HeightMap
from aiida_liheal.report.colours import ENERGY_SCALE
from aiida_liheal.report.facts import why
from aiida_liheal.report.figures import AXIS, PALETTE, Figure, add_band, add_line, empty_plot, guide, look, to_csv
from aiida_liheal.report.sites import site_figures

__all__ = ('BOTTOM_ERROR_A', 'deposit_figures')

#: Error of D_bottom in Å, rms, of dendrites drawn with atoms and thermal motion; see `analysis.dendrites`.
BOTTOM_ERROR_A = 1.3
#: Forms in the order of their numbers in `dendrite_form`; see `analysis.dendrites.FORMS`, which needs OVITO.
_FORMS = ('none or too small', 'needle', 'mushroom', 'hemisphere')
#: Most cells of a height map that are drawn along its two periods; a finer one is averaged over its cells.
_MAP_CELLS = (100, 50)
#: Standard deviation in Å of the Gaussian that takes the rows of atoms out of a map; see `HeightMap.smoothed`.
_SMOOTHING_A = 1.5
#: Most patches of a current whose numbers are written into them.
_WRITTEN_PATCHES = 40
#: Most dendrites whose outlines are drawn.
_MAX_OUTLINES = 4
#: Colours of maps, low to high: that part of the scale on which black lines and letters are seen.
_MAP_SCALE = ENERGY_SCALE[2:]
_INK = '#1d2733'


def deposit_figures(
    series: Mapping[str, NDArray], snapshots: Mapping[str, NDArray], summary: Mapping[str, Any]
) -> list[Figure]:
    """Figures of the deposit in the results of an analysis, and of its sites; none of what was not measured.

    Parameters
    ----------
    series, snapshots : mapping of str to array
        Those of an `AnalysisResult`.
    summary : mapping
        Its summary.
    """
    figures = [
        _sizes(series),
        _deciding(series, summary),
        _form(series),
        _outlines(summary),
        _gap(series, summary),
        _neck(series, summary),
        _flattening(series, summary),
        _maps(snapshots),
        _cut(snapshots),
        _current(snapshots, summary),
    ]
    return [*(figure for figure in figures if figure is not None), *site_figures(summary)]


def _known(series: Mapping[str, NDArray], *names: str) -> list[str]:
    """Those of the names that have a number."""
    return [name for name in names if name in series and np.isfinite(series[name].astype(float)).any()]


def _sizes(series: Mapping[str, NDArray]) -> Figure | None:
    """Height and widths of the largest dendrite, or of all that lies on the substrate where nothing stands out."""
    names = {
        'dendrite_height_A': 'height H',
        'dendrite_bottom_A': 'D<sub>bottom</sub>',
        'dendrite_top_A': 'D<sub>top</sub>',
        'dendrite_widest_A': 'widest',
        'deposit_height_A': 'deposit,<br>height',
        'deposit_width_A': 'deposit,<br>width',
    }
    known = _known(series, *names)
    standing = np.isfinite(series['dendrite_height_A']).mean() if 'dendrite_height_A' in known else 0.0
    # where something stands most of the time the height is told once
    known = [name for name in known if name.startswith('dendrite' if standing > 0.5 else 'deposit')]
    if not known:
        return None
    plot = empty_plot('time (ps)', 'length (Å)', yaxis_rangemode='tozero')
    columns: dict[str, Any] = {'time (ps)': series['time_ps']}
    for name in known:
        number = list(names).index(name)
        if name == 'dendrite_bottom_A':
            measured = np.isfinite(series[name])
            middle = series[name][measured]
            add_band(
                plot, series['time_ps'][measured], middle - BOTTOM_ERROR_A, middle + BOTTOM_ERROR_A, PALETTE[number]
            )
        add_line(plot, series['time_ps'], series[name], names[name], number)
        columns[f'{QUANTITIES[name][1]} (Å)'] = series[name]
    plot.update_layout(showlegend=True)
    return Figure(
        'Size of the dendrite',
        'Of the dendrite with the most atoms. D_bottom: width at 1 nm, from a height of 2 nm on; D_top: mean width '
        f'from 0.8 to 0.9 of the height. Band: error of D_bottom, ±{BOTTOM_ERROR_A} Å (rms, of bodies of known size).'
        + (' Deposit: all that has landed above the substrate.' if known[0].startswith('deposit') else ''),
        plot,
        to_csv(columns),
    )


def _deciding(series: Mapping[str, NDArray], summary: Mapping[str, Any]) -> Figure | None:
    """The two numbers that decide on a form, with their limits."""
    if not _known(series, 'dendrite_overhang'):
        return None
    limits = summary.get('settings', {}).get('dendrites', {})
    plot = empty_plot('time (ps)', 'overhang, slenderness', showlegend=True)
    bottom = series['dendrite_bottom_A']
    aspect = series['dendrite_height_A'] / np.where(bottom > 0, bottom, np.nan)
    overhang = series['dendrite_overhang']
    # both have D_bottom below the line
    overhang_error = (1 + overhang) * BOTTOM_ERROR_A / bottom
    for number, (name, values, error) in enumerate(
        (
            ('overhang<br>O', overhang, overhang_error),
            ('H / D<sub>bottom</sub>', aspect, aspect * BOTTOM_ERROR_A / bottom),
        )
    ):
        measured = np.isfinite(values)
        add_band(
            plot,
            series['time_ps'][measured],
            (values - error)[measured],
            (values + error)[measured],
            PALETTE[number],
        )
        add_line(plot, series['time_ps'], values, name, number)
    if 'mushroom_overhang' in limits:
        guide(plot, f'O ≥ {limits["mushroom_overhang"]:g}: mushroom', y=limits['mushroom_overhang'])
    if 'needle_aspect' in limits:
        guide(plot, f'H/D ≥ {limits["needle_aspect"]:g}: needle', y=limits['needle_aspect'])
    above = limits.get('mushroom_widest_above')
    return Figure(
        'What decides on the form',
        'Overhang O = (largest width - D_bottom) / D_bottom. A mushroom has at least that of its '
        'line'
        + ('' if above is None else f', with its widest part above {above:g} of the height')
        + '; else a needle is at least as slender as its line says; the rest are hemispheres. Bands: from the error of '
        f'D_bottom, {BOTTOM_ERROR_A} Å.',
        plot,
        to_csv({'time (ps)': series['time_ps'], 'overhang': overhang, 'height / D_bottom': aspect}),
    )


def _form(series: Mapping[str, NDArray]) -> Figure | None:
    """The form frame by frame, a row each."""
    if not _known(series, 'dendrite_form') or not series['dendrite_form'].any():
        return None
    numbers = series['dendrite_form'].astype(int)
    plot = empty_plot('time (ps)', '', showlegend=False, hovermode='closest')
    for number, form in enumerate(_FORMS):
        times = series['time_ps'][numbers == number]
        _, symbol = look(number)
        mark = {'symbol': symbol, 'size': 7, 'color': 'white', 'line': {'color': PALETTE[number], 'width': 1.5}}
        plot.add_trace(go.Scatter(x=times, y=[form] * len(times), name=form, mode='markers', marker=mark))
    plot.update_yaxes(
        type='category', categoryorder='array', categoryarray=_FORMS, range=[-0.5, 3.5], title_text='form'
    )
    return Figure(
        'Form of the dendrite',
        'Of the dendrite with the most atoms, in each analysed frame; how near it is to another form is told among the '
        'numbers of the page.',
        plot,
        to_csv({'time (ps)': series['time_ps'], 'form': [_FORMS[number] for number in numbers]}),
    )


def _outlines(summary: Mapping[str, Any]) -> Figure | None:
    """Width by height of the dendrites at the end."""
    dendrites = (summary.get('dendrites') or [])[:_MAX_OUTLINES]
    if not dendrites:
        return None
    plot = empty_plot('width W (Å)', 'height above the substrate (Å)', hovermode='closest', xaxis_rangemode='tozero')
    columns: dict[str, Any] = {}
    for number, one in enumerate(dendrites):
        name = f'{number + 1}: {one["form"] if one["form"] != "none" else "no form"}'
        width, height = (np.array(one[f'profile_{what}_A'], float) for what in ('width', 'height'))
        add_line(plot, width, height, name, number)
        columns |= {f'{name}: height (Å)': height, f'{name}: width (Å)': width}
    settings = summary.get('settings', {}).get('dendrites', {})
    if 'bottom_at_A' in settings:
        guide(plot, 'D<sub>bottom</sub>', y=settings['bottom_at_A'])
    if 'top_range' in settings:
        low, high = (share * dendrites[0]['height_A'] for share in settings['top_range'])
        plot.add_hrect(y0=low, y1=high, fillcolor='#8a959e', opacity=0.13, line_width=0, layer='below')
    plot.update_layout(showlegend=True)
    told = ' '.join(f'{number + 1}: {one["form"]}, {why(one)}.' for number, one in enumerate(dendrites))
    return Figure(
        'Outline of the dendrites at the end',
        f'{told} Width of a slice: {dendrites[0]["width_is"]}. Grey: where D_top of the first is taken.',
        plot,
        to_csv(columns),
    )


def _moments(plot: go.Figure, summary: Mapping[str, Any], *keys: str) -> None:
    """Lines at the times of a pair that are known."""
    names = {'contact_ps': 'contact', 'fused_ps': 'fused', 'met_image_ps': 'met image', 'flat_ps': 'flat'}
    contacts = summary.get('contacts') or {}
    for number, key in enumerate(keys):
        if contacts.get(key) is not None:
            guide(plot, f'{names[key]}<br>{contacts[key]:.4g} ps', x=contacts[key], lower=number)


def _gap(series: Mapping[str, NDArray], summary: Mapping[str, Any]) -> Figure | None:
    if not _known(series, 'pair_gap_A'):
        return None
    plot = empty_plot('time (ps)', 'gap (Å)', showlegend=False)
    measured = np.isfinite(series['pair_gap_A'])
    time, gap = series['time_ps'][measured], series['pair_gap_A'][measured]
    add_line(plot, time, gap, 'gap (Å)', 0)
    plot.update_yaxes(range=[-0.05 * max(gap.max(), 1.0), 1.15 * max(gap.max(), 1.0)])
    _moments(plot, summary, 'contact_ps')
    return Figure(
        'Gap of the two dendrites',
        'Narrowest distance between their outlines, slice by slice; right to about 1.5 Å in bodies of known size. '
        'Contact: from then on they are one piece above the layers next to the substrate.',
        plot,
        to_csv({'time (ps)': time, 'gap (Å)': gap}),
    )


def _neck(series: Mapping[str, NDArray], summary: Mapping[str, Any]) -> Figure | None:
    if not _known(series, 'pair_neck_share'):
        return None
    plot = empty_plot('time (ps)', 'neck / cross-section at an axis', showlegend=False)
    add_line(plot, series['time_ps'], series['pair_neck_share'], 'neck', 0)
    plot.update_yaxes(range=[0, 1.4 * max(1.0, float(np.nanmax(series['pair_neck_share'])))])
    share = summary.get('settings', {}).get('contacts', {}).get('fused_share')
    if share is not None:
        guide(plot, f'fused from {share:g} on', y=share)
    _moments(plot, summary, 'contact_ps', 'fused_ps')
    columns = {'time (ps)': series['time_ps'], 'neck / cross-section at an axis': series['pair_neck_share']}
    if 'pair_neck_A' in series:
        columns['neck (Å)'] = series['pair_neck_A']
    return Figure(
        'Neck of the two dendrites',
        'Narrowest cross-section between the axes of the two, by the smaller of those at the axes. A cavity or a '
        'valley between them makes it small; 1 where both have gone into an even film.',
        plot,
        to_csv(columns),
    )


def _flattening(series: Mapping[str, NDArray], summary: Mapping[str, Any]) -> Figure | None:
    if not (summary.get('contacts') or {}).get('pair') or not _known(series, 'column_roughness_A'):
        return None
    roughness = series['column_roughness_A']
    plot = empty_plot('time (ps)', 'roughness of columns (Å)', showlegend=False)
    add_line(plot, series['time_ps'], roughness, 'roughness', 0)
    plot.update_yaxes(range=[0, 1.4 * float(np.nanmax(roughness))])
    settings = summary.get('settings', {}).get('contacts', {})
    if 'flat_share' in settings:
        limit = max(settings['flat_share'] * float(np.nanmax(roughness)), settings['flat_roughness_A'])
        guide(plot, f'flat below {limit:.2g} Å', y=limit)
    _moments(plot, summary, 'met_image_ps', 'flat_ps')
    return Figure(
        'Flattening of the two dendrites',
        'Standard deviation of the heights to which columns are filled from below without a gap. Flat: from then on '
        'below a share of the largest value before.',
        plot,
        to_csv({'time (ps)': series['time_ps'], 'roughness of columns (Å)': roughness}),
    )


def _heights(snapshots: Mapping[str, NDArray], smoothing_A: float) -> dict[str, tuple[NDArray, NDArray, NDArray]]:
    """Places along the two periods (n_a,) and (n_b,) and heights (n_a, n_b) above the mean at the start, in Å."""
    keys = {'start': 'first', 'end': 'last'}
    maps = {name: snapshots.get(f'{frame}_surface_height_A') for name, frame in keys.items()}
    found = {name: np.asarray(heights, float) for name, heights in maps.items() if heights is not None}
    zero = float(found['start'].mean()) if 'start' in found else 0.0
    placed = {}
    for name, heights in found.items():
        cell = snapshots[f'{keys[name]}_cell_A']
        a, b = (float(np.linalg.norm(edge)) for edge in cell[:2])
        along = float(cell[0] @ cell[1]) / a
        periods = np.array([[a, 0.0], [along, np.sqrt(b**2 - along**2)]])
        coarse = _coarser(HeightMap(heights - zero, periods).smoothed(smoothing_A).heights_A)
        n_a, n_b = coarse.shape
        placed[name] = ((np.arange(n_a) + 0.5) * a / n_a, (np.arange(n_b) + 0.5) * b / n_b, coarse)
    return placed


def _coarser(values: NDArray) -> NDArray:
    """A map of no more cells than are drawn, each the mean of those that lie in it."""
    for axis, most in enumerate(_MAP_CELLS):
        parts = np.array_split(values, min(most, values.shape[axis]), axis=axis)
        values = np.stack([part.mean(axis=axis) for part in parts], axis=axis)
    return values


def _maps(snapshots: Mapping[str, NDArray]) -> Figure | None:
    """Heights of the surface from above at start and end, by colour and by contours with numbers."""
    placed = _heights(snapshots, _SMOOTHING_A)
    if not placed:
        return None
    everything = np.concatenate([heights.ravel() for _, _, heights in placed.values()])
    low, high = float(everything.min()), float(everything.max())
    step = _round_step((high - low) / 5)
    plot = make_subplots(
        rows=len(placed),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.14,
        figure=empty_plot('', '', hovermode='closest'),
        subplot_titles=list(placed),
    )
    columns: dict[str, Any] = {}
    for row, (name, (x, y, heights)) in enumerate(placed.items(), start=1):
        # along y a single cell has no contour: it is drawn twice
        ys, drawn = (y, heights.T) if len(y) > 1 else (np.array([0.0, 2 * y[0]]), np.repeat(heights.T, 2, axis=0))
        plot.add_trace(
            go.Contour(
                x=x.round(2),
                y=ys.round(2),
                z=drawn.round(2).astype(np.float32),
                zmin=low,
                zmax=max(high, low + 0.1),
                autocontour=False,
                contours={
                    'coloring': 'heatmap',
                    # between round heights: the start is at 0
                    'start': (np.ceil(low / step - 0.5) + 0.5) * step,
                    'end': high,
                    'size': step,
                    'showlabels': True,
                    'labelfont': {'size': 10, 'color': 'black'},
                },
                line={'color': 'black', 'width': 0.8},
                colorscale=[[k / (len(_MAP_SCALE) - 1), colour] for k, colour in enumerate(_MAP_SCALE)],
                showscale=row == 1,
                colorbar={'title': {'text': 'height (Å)', 'side': 'right'}, 'thickness': 14, 'len': 1.0},
                name=name,
            ),
            row=row,
            col=1,
        )
        plot.update_yaxes(**AXIS, title_text='y (Å)', row=row, col=1)
        grid_x, grid_y = np.meshgrid(x, y, indexing='ij')
        columns |= {
            f'{name}: x (Å)': grid_x.ravel().round(2),
            f'{name}: y (Å)': grid_y.ravel().round(2),
            f'{name}: height (Å)': heights.ravel().round(2),
        }
    plot.update_xaxes(**AXIS)
    plot.update_xaxes(title_text='x (Å)', row=len(placed), col=1)
    return Figure(
        'Surface from above',
        f'Height of the surface over the first two edges of the cell, above its mean at the start; contours every '
        f'{step:g} Å carry their number, all maps have one scale; x and y need not be drawn at one. As a ball '
        f'as large as an atom finds it, averaged with a Gaussian of {_SMOOTHING_A} Å; an overhang takes its top.',
        plot,
        to_csv(columns),
    )


def _cut(snapshots: Mapping[str, NDArray]) -> Figure | None:
    """Height along x at start and end: mean over y, and from the lowest to the highest."""
    placed = _heights(snapshots, 0.0)
    if not placed:
        return None
    plot = empty_plot('x (Å)', 'height (Å)', showlegend=True)
    columns: dict[str, Any] = {}
    for number, (name, (x, _, heights)) in enumerate(placed.items()):
        low, mean, high = heights.min(axis=1), heights.mean(axis=1), heights.max(axis=1)
        add_band(plot, x, low, high, PALETTE[number])
        add_line(plot, x, mean, name, number)
        columns |= {
            f'{name}: x (Å)': x,
            f'{name}: mean (Å)': mean,
            f'{name}: lowest (Å)': low,
            f'{name}: highest (Å)': high,
        }
    return Figure(
        'Surface from the side',
        'Line: height above the mean at the start, averaged along y; band: from the lowest to the highest place.',
        plot,
        to_csv(columns),
    )


def _round_step(value: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `value`."""
    power = 10.0 ** np.floor(np.log10(max(value, 0.05)))
    return float(next((n * power for n in (1, 2, 5) if n * power >= value), 10 * power))


def _current(snapshots: Mapping[str, NDArray], summary: Mapping[str, Any]) -> Figure | None:
    """Local current density by patch with its error, and its variance without the shot noise."""
    current = summary.get('local_current')
    cell = snapshots.get('first_cell_A')
    if not current or cell is None:
        return None
    density = np.array(current['density_A_per_cm2'], float)
    if density.size < 2:
        return None  # one patch has nothing to be compared with
    mean = current['mean_A_per_cm2']
    # what counts are is told by their sum
    counts = density / density.sum() * current['atoms_landed']
    one = mean * density.size / current['atoms_landed']
    # of a patch where none landed the error is that of one atom
    errors = np.sqrt(np.maximum(counts, 1)) * one
    edges = [float(np.linalg.norm(edge)) for edge in cell[:2]]
    x, y = ((np.arange(n) + 0.5) * edge / n for n, edge in zip(density.shape, edges, strict=True))
    error = current.get('vlcd_error')
    vlcd = f'{current["vlcd"]:.3f}' + ('' if error is None else f' ± {error:.3f}')
    raw = float(density.var()) / mean**2
    caption = (
        f'{current["atoms_landed"]} atoms in {current["duration_ps"]:.4g} ps on {density.size} patches; errors: square '
        f'root of the number of atoms. Mean {mean:.3g} A/cm². Variance of the local current density, divided by the '
        f'square of the mean (VLCD): {vlcd}, shot noise taken off (with it {raw:.3f}). An even source gives 0.'
    )
    columns: dict[str, Any] = {
        'x (Å)': np.repeat(x, len(y)).round(2),
        'y (Å)': np.tile(y, len(x)).round(2),
        'current density (A/cm²)': density.ravel(),
        'standard error (A/cm²)': errors.ravel(),
    }
    if 1 in density.shape:
        along = 0 if density.shape[1] == 1 else 1
        chance = one * float(np.sqrt(current['atoms_landed'] / density.size))
        plot = _current_along(('x', 'y')[along], (x, y)[along], density.ravel(), errors.ravel(), (mean, chance))
        caption += ' Dotted: the mean; band: what chance makes of an even current.'
    else:
        plot = _current_map(x, y, density, errors)
        if density.size <= _WRITTEN_PATCHES:
            caption += ' In each patch its number in units of the mean, with its error.'
    return Figure('Local current density', caption, plot, to_csv(columns))


def _current_along(
    name: str, places: NDArray, density: NDArray, errors: NDArray, even: tuple[float, float]
) -> go.Figure:
    """Bars along one direction; `even`: mean and scatter by chance of an even current."""
    plot = empty_plot(f'{name} (Å)', 'current density (A/cm²)', showlegend=False, yaxis_rangemode='tozero')
    half, (mean, chance) = places[0], even
    plot.add_hrect(y0=mean - chance, y1=mean + chance, fillcolor='#8a959e', opacity=0.3, line_width=0, layer='above')
    plot.add_trace(
        go.Bar(
            x=places,
            y=density,
            width=2 * half,
            marker={
                'color': 'white',
                'line': {'color': PALETTE[0], 'width': 1.8},
                'pattern': {'shape': '/', 'fgcolor': PALETTE[0], 'size': 9},
            },
            error_y={'type': 'data', 'array': errors, 'thickness': 1.5, 'width': 6, 'color': _INK},
            name='current density',
        )
    )
    plot.update_yaxes(exponentformat='power')
    guide(plot, 'mean', y=mean)
    return plot


def _current_map(x: NDArray, y: NDArray, density: NDArray, errors: NDArray) -> go.Figure:
    plot = empty_plot('x (Å)', 'y (Å)', hovermode='closest')
    mean = density.mean()
    written: Sequence[Any] | None = None
    if density.size <= _WRITTEN_PATCHES:
        written = [
            [f'{value / mean:.2f}<br>±{error / mean:.2f}' for value, error in zip(row, of_row, strict=True)]
            for row, of_row in zip(density.T, errors.T, strict=True)
        ]
    plot.add_trace(
        go.Heatmap(
            x=x,
            y=y,
            z=density.T,
            text=written,
            texttemplate='%{text}' if written is not None else None,
            textfont={'color': 'black', 'size': 11},
            xgap=1,
            ygap=1,
            colorscale=[[k / (len(_MAP_SCALE) - 1), colour] for k, colour in enumerate(_MAP_SCALE)],
            colorbar={
                'title': {'text': 'current density (A/cm²)', 'side': 'right'},
                'thickness': 14,
                'exponentformat': 'power',
            },
        )
    )
    return plot
