"""`aiida-liheal analyse`: a dump analysed here and now, without AiiDA."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import fail, read_overrides, settings_option

if TYPE_CHECKING:
    from aiida_liheal.analysis.results import AnalysisResult
    from aiida_liheal.analysis.settings import AnalysisSettings

__all__ = ('analyse',)

#: Columns of the table and how they are written.
COLUMNS = {
    'time_ps': ('time (ps)', '.2f'),
    'n_atoms': ('atoms', 'd'),
    'temperature_K': ('T (K)', '.0f'),
    'potential_energy_eV_per_atom': ('E (eV/atom)', '.4f'),
    'void_volume_A3': ('voids (Å³)', '.0f'),
    'film_height_A': ('height (Å)', '.1f'),
    'bcc_share': ('BCC', '.3f'),
    'bcc_share_inside': ('BCC inside', '.3f'),
    'bcc_share_averaged': ('BCC averaged', '.3f'),
    'amorphous_share': ('amorphous', '.3f'),
}
#: What plots show besides phases, energy, temperature and profiles.
PLOTTED = ('void_volume_A3', 'film_height_A')


@click.command('analyse')
@click.argument('dumps', metavar='DUMP...', nargs=-1, required=True, type=click.Path(path_type=Path))
@settings_option
@click.option(
    '--workers',
    type=click.IntRange(min=1),
    metavar='N',
    help='Processes that analyse frames side by side; the numbers do not depend on it. Short for -s n_workers=N.',
)
@click.option(
    '--json',
    'as_json',
    is_flag=True,
    help='Write series, profiles, mobility and summary as JSON to standard output, and nothing else there.',
)
@click.option(
    '--plots',
    type=click.Path(file_okay=False, path_type=Path),
    metavar='FOLDER',
    help='Write the figures as figures.html, which needs no network, and their numbers as CSV into this folder.',
)
def analyse(
    dumps: tuple[Path, ...], changes: tuple[str, ...], workers: int | None, as_json: bool, plots: Path | None
) -> None:
    """Analyse the dumps of one run: phases, voids, temperature and energy against time.

    Text dumps with the columns id, x, y, z and, for temperatures and energies, vx, vy, vz and c_pe; several dumps are
    the parts of one run in the order of its restarts. Needs no AiiDA profile.
    """
    from aiida_liheal.analysis.series import analyse_trajectory

    missing = [str(path) for path in dumps if not path.is_file()]
    if missing:
        fail(f'there is no file {", ".join(missing)}')
    settings = _settings(changes, workers)
    try:
        # to standard error, and only where somebody looks
        with click.progressbar(length=1, label='frames', file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

            def progress(done: int, total: int) -> None:
                bar.length = total
                bar.update(done - bar.pos)

            result = analyse_trajectory(dumps, settings, progress)
    except (ValueError, RuntimeError) as error:
        fail(str(error))
    if plots is not None:
        _write_plots(result, plots)
    if as_json:
        content = {
            **{
                part: {name: array.tolist() for name, array in getattr(result, part).items()}
                for part in ('series', 'profiles', 'mobility')
            },
            'summary': result.summary,
        }
        # a quantity that a single frame does not have is NaN, which JSON does not know
        json.dump(_finite(content), sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
        sys.stdout.write('\n')
        return
    _print_table(result)


def _settings(changes: tuple[str, ...], workers: int | None) -> AnalysisSettings:
    from pydantic import ValidationError

    from aiida_liheal.analysis.settings import AnalysisSettings
    from aiida_liheal.structures.settings import explain

    given = read_overrides(None, changes)
    if workers is not None and given.setdefault('n_workers', workers) != workers:
        fail(f'--workers {workers} and n_workers={given["n_workers"]} differ: give one of them')
    try:
        return AnalysisSettings.model_validate(given)
    except ValidationError as error:
        fail(explain(error, AnalysisSettings))


def _print_table(result: AnalysisResult) -> None:
    shown = [name for name in COLUMNS if name in result.series]
    rows = [
        [format(value.item(), COLUMNS[name][1]) for name, value in zip(shown, values, strict=True)]
        for values in zip(*(result.series[name] for name in shown), strict=True)
    ]
    echo.echo_tabulate(rows, headers=[COLUMNS[name][0] for name in shown], stralign='right', disable_numparse=True)
    summary = result.summary
    echo.echo('')
    echo.echo_report(f'{summary["frames_analysed"]} of {summary["frames"]} frames of {summary["dumps"]} dumps analysed')
    if summary['healed_at_ps'] is not None:
        echo.echo_report(f'no void from {summary["healed_at_ps"]:.2f} ps on')
    if summary['is_truncated']:
        echo.echo_warning('the last dump breaks off within a frame; the complete frames are analysed')


def _write_plots(result: AnalysisResult, folder: Path) -> None:
    from aiida_liheal.report.deposits import deposit_figures
    from aiida_liheal.report.figures import analysis_figures

    figures = analysis_figures(result.series, result.profiles, PLOTTED)
    figures += deposit_figures(result.series, result.snapshots, result.summary)
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for number, figure in enumerate(figures):
        # the first one brings plotly.js for all
        body = figure.plot.to_html(full_html=False, include_plotlyjs=number == 0)
        parts.append(f'<h2>{figure.title}</h2>\n{body}\n<p>{figure.caption}</p>')
        name = figure.title.lower().replace(' ', '_')
        (folder / f'{name}.csv').write_text(figure.csv, encoding='utf-8')
    page = '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Analysis</title></head>\n<body>\n{}\n'
    (folder / 'figures.html').write_text(page.format('\n'.join(parts)) + '</body></html>\n', encoding='utf-8')


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
