"""What a test of convergence shows: its table, figures for the page, and a plot as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Sheet

from aiida_liheal.report.campaign import Row, SeriesTable
from aiida_liheal.report.figures import PALETTE, Figure, add_line, empty_plot, to_csv
from aiida_liheal.report.tree import Step
from aiida_liheal.structures.label_errors import ERRORS, LARGEST, Tolerances, digits, held_text, sentences

__all__ = (
    'FORMATS',
    'axis_title',
    'causes_of_scan',
    'convergence_figures',
    'convergence_tables',
    'draw',
    'markdown',
    'meaning_of_heads',
    'table_of_scan',
)

#: Files that `draw` writes.
FORMATS = ('.png', '.svg', '.pdf')
#: Heads of the columns, short enough for a table to fit into a terminal.
_HEADS = {
    'energy_meV_per_atom': ('E', 'energy'),
    'energy_difference_meV_per_atom': ('ΔE', 'energies between frames'),
    'force_meV_per_A': ('F', 'force'),
    'force_rmse_meV_per_A': ('F rms', 'root mean square of the components of forces'),
    'virial_meV_per_atom': ('W', 'virial'),
}
_STYLES = (('o', '-'), ('s', '--'), ('^', '-.'), ('D', ':'))


def _number(value: float | None, places: str = '.3g') -> str:
    return '' if value is None else f'{value:{places}}'


def causes_of_scan(scan: Mapping[str, Any]) -> list[str]:
    """Why values have no labels or lack some, each cause once; tables refer to them by their number, from 1."""
    return list(dict.fromkeys(row['cause'] for row in scan['rows'] if row['cause']))


def _verdict(row: Mapping[str, Any]) -> str:
    if row['is_reference'] and row['errors']:
        return 'reference'
    if row['cause']:
        return 'failed'
    return 'within' if row['is_within'] else 'beyond' if row['errors'] else 'no reference'


def _columns(scan: Mapping[str, Any], limits: Mapping[str, float]) -> list[str]:
    """Errors that a table has: those that are asked for, and those that are known."""
    return [key for key in ERRORS if key in limits or any(row['errors'].get(key) is not None for row in scan['rows'])]


def table_of_scan(table: Mapping[str, Any], key: str) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table of one scan, for people.

    Parameters
    ----------
    table : mapping
        `table` of `liheal.convergence`.
    key : str
        The setting that was scanned.
    """
    scan = table['scans'][key]
    limits = Tolerances.read(table['tolerances']).limits()
    columns, causes = _columns(scan, limits), causes_of_scan(scan)
    head = [key, 'frames see', *(f'{_HEADS[one][0]} {ERRORS[one][1]}' for one in columns), 's/frame', 'verdict']
    lines = []
    for row in scan['rows']:
        cause = f' ({causes.index(row["cause"]) + 1})' if row['cause'] else ''
        value = ', '.join(f'{one:g}' for one in (row['value'], *row['same']))
        numbers = [row['errors'].get(one) for one in columns] + [row['seconds_per_frame']]
        told = ['' if number is None else digits(number) for number in numbers]
        lines.append([value, row['seen'], *told, _verdict(row) + cause])
    if not any(line[1] for line in lines):
        head.pop(1)
        lines = [[line[0], *line[2:]] for line in lines]
    return head, lines


def meaning_of_heads(table: Mapping[str, Any]) -> str:
    """What the short heads of all tables stand for, in a sentence."""
    limits = Tolerances.read(table['tolerances']).limits()
    known = {one for scan in table['scans'].values() for one in _columns(scan, limits)}
    told = ', '.join(f'{head}: {meaning}' for one, (head, meaning) in _HEADS.items() if one in known)
    return f'Largest errors of all frames against the finest value. {told}; s/frame: seconds a frame.'


def markdown(table: Mapping[str, Any]) -> str:
    """The tables of all scans and what came out, as Markdown.

    Parameters
    ----------
    table : mapping
        `table` of `liheal.convergence`.
    """
    parts = [meaning_of_heads(table)]
    for key, scan in table['scans'].items():
        head, lines = table_of_scan(table, key)
        rule = ['--:'] * (len(head) - 1) + ['---']
        parts.append('\n'.join(f'| {" | ".join(line)} |' for line in (head, rule, *lines)))
        if (held := held_text(scan)) is not None:
            parts[-1] = f'{axis_title(scan)}, with {held}:\n\n{parts[-1]}'
        parts += [f'({number}) {cause}' for number, cause in enumerate(causes_of_scan(scan), 1)]
    return '\n\n'.join([*parts, *sentences(table)])


def convergence_tables(step: Step) -> list[SeriesTable]:
    """A table for each scan; nothing as long as there is none."""
    table = step.result('table')
    tables = []
    for key, scan in table.get('scans', {}).items():
        head, lines = table_of_scan(table, key)
        held = held_text(scan)
        # the verdict is the state of its row, and a cause its remark
        rows = [
            Row([line[0]], line[1:-1], _verdict(row), row['cause'] or '', '')
            for line, row in zip(lines, scan['rows'], strict=True)
        ]
        note = ' '.join([f'Held: {held}.'] * bool(held) + [meaning_of_heads(table)])
        tables.append(SeriesTable(axis_title(scan), '', note, '', [key], head[1:-1], rows))
    return tables


def _curves(scan: Mapping[str, Any]) -> dict[str, tuple[list[float], list[float]]]:
    """Values and errors by the keys of the errors, for those that can be drawn on a logarithmic axis."""
    found = {}
    for error in LARGEST:
        known = [
            (row['value'], row['errors'][error])
            for row in scan['rows']
            if row['errors'].get(error) and not row['is_reference']
        ]
        if known:
            values, errors = zip(*known, strict=True)
            found[error] = (list(values), list(errors))
    return found


def _is_downward(scan: Mapping[str, Any]) -> bool:
    """Whether finer values are smaller: the axis is turned round then, so that finer is to the right."""
    return bool(scan['rows'][-1]['value'] < scan['rows'][0]['value'])


def axis_title(scan: Mapping[str, Any]) -> str:
    """What was scanned, with its unit."""
    return f'{scan["title"]} ({scan["unit"]})' if scan['unit'] else str(scan['title'])


def _with_unit(scan: Mapping[str, Any], value: float) -> str:
    return f'{value:g} {scan["unit"]}'.rstrip()


def convergence_figures(step: Step) -> list[Figure]:
    """A figure for each scan: errors by the value, with the tolerances."""
    table = step.result('table')
    figures = []
    for scan in table.get('scans', {}).values():
        drawn = _curves(scan)
        if not drawn:
            continue
        limits = Tolerances.read(table['tolerances']).limits()
        plot = empty_plot(axis_title(scan), 'largest error', hovermode='closest', showlegend=True)
        plot.update_yaxes(type='log', exponentformat='power', dtick=1)
        plot.update_layout(
            height=400, legend={'orientation': 'h', 'x': 0, 'y': -0.22, 'xanchor': 'left', 'yanchor': 'top'}
        )
        if _is_downward(scan):
            plot.update_xaxes(autorange='reversed')
        columns: dict[str, Any] = {axis_title(scan): [row['value'] for row in scan['rows']]}
        for number, (key, (values, errors)) in enumerate(drawn.items()):
            name, unit = ERRORS[key]
            add_line(plot, np.array(values), np.array(errors), f'{name} ({unit})', number)
            if key in limits:
                plot.add_hline(y=limits[key], line={'color': PALETTE[number], 'width': 1.2, 'dash': 'dot'})
            columns[f'{name} ({unit})'] = [_number(row['errors'].get(key), '.6g') for row in scan['rows']]
        columns['s a frame'] = [_number(row['seconds_per_frame'], '.3g') for row in scan['rows']]
        chosen = ''
        if scan['smallest'] is not None:
            plot.add_vline(x=scan['smallest'], line={'color': '#5c6670', 'width': 1.2})
            chosen = f' Upright line: the smallest value within the tolerances, {_with_unit(scan, scan["smallest"])}.'
        finest = _with_unit(scan, scan['rows'][-1]['value'])
        figures.append(
            Figure(
                f'Convergence: {scan["title"]}',
                f'Against {finest}. Finer is to the right. Dotted: tolerances, in the colours of the lines.{chosen}',
                plot,
                to_csv(columns),
            )
        )
    return figures


def draw(table: Mapping[str, Any], path: Path) -> None:
    """Draw errors by value, a panel a scan, into a file (PNG, SVG or PDF), which is replaced when the new one is whole.

    Raises
    ------
    ValueError
        If the file has another ending, or there is nothing to draw.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f'{path.name} ends in {path.suffix or "nothing"!r}; allowed are {", ".join(FORMATS)}')
    scans = [scan for scan in table['scans'].values() if _curves(scan)]
    if not scans:
        raise ValueError('no value has errors that could be drawn')
    limits = Tolerances.read(table['tolerances']).limits()
    with mpl.rc_context({'font.size': 9, 'axes.grid': True, 'grid.color': '#e8ebee', 'svg.hashsalt': 'convergence'}):
        sheet = Sheet(figsize=(4.6 * len(scans), 3.9), layout='constrained')
        for number, scan in enumerate(scans, 1):
            _panel(sheet.add_subplot(1, len(scans), number), scan, limits)
        # all panels have the same errors, as long as each has some
        longest = max(sheet.axes, key=lambda axes: len(axes.get_lines()))
        columns = min(2 * len(scans), 4)  # one panel is as wide as two entries
        sheet.legend(*longest.get_legend_handles_labels(), loc='outside lower center', ncols=columns, fontsize=8)
        part = path.with_name(f'.{path.stem}.part{path.suffix}')
        try:
            sheet.savefig(part, dpi=200)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _panel(axes: Any, scan: Mapping[str, Any], limits: Mapping[str, float]) -> None:
    """One scan."""
    lines: Sequence[tuple[str, tuple[list[float], list[float]]]] = list(_curves(scan).items())
    for number, (key, (values, errors)) in enumerate(lines):
        marker, dash = _STYLES[number]
        name = f'{ERRORS[key][0]} ({ERRORS[key][1]})'
        axes.semilogy(values, errors, marker=marker, linestyle=dash, color=PALETTE[number], label=name)
        if key in limits:
            axes.axhline(limits[key], color=PALETTE[number], linewidth=0.8, linestyle=':')
    if scan['smallest'] is not None:
        axes.axvline(scan['smallest'], color='#5c6670', linewidth=0.8)
        axes.annotate(
            f'{scan["smallest"]:g}', (scan['smallest'], 1), xycoords=('data', 'axes fraction'), va='bottom', ha='center'
        )
    if _is_downward(scan):
        axes.invert_xaxis()
    axes.set_xlabel(axis_title(scan))
    axes.set_ylabel('largest error')
