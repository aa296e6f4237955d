"""`aiida-liheal analyse`: a dump analysed here and now, without AiiDA."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import click
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import fail, read_overrides, settings_option

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
    'other_share': ('other', '.3f'),
}


@click.command('analyse')
@click.argument('dumps', metavar='DUMP...', nargs=-1, required=True, type=click.Path(path_type=Path))
@settings_option
@click.option('--json', 'as_json', is_flag=True, help='Write series, profiles and summary as JSON to standard output.')
def analyse(dumps: tuple[Path, ...], changes: tuple[str, ...], as_json: bool) -> None:
    """Analyse the dumps of one run: phases, voids, temperature and energy against time.

    Text dumps with the columns id, x, y, z and, for temperatures and energies, vx, vy, vz and c_pe; several dumps are
    the parts of one run in the order of its restarts. Needs no AiiDA profile.
    """
    from pydantic import ValidationError

    from aiida_liheal.analysis.series import analyse_trajectory
    from aiida_liheal.analysis.settings import AnalysisSettings
    from aiida_liheal.analysis.trajectory import TrajectoryError
    from aiida_liheal.structures.settings import explain

    missing = [str(path) for path in dumps if not path.is_file()]
    if missing:
        fail(f'there is no file {", ".join(missing)}')
    try:
        settings = AnalysisSettings.model_validate(read_overrides(None, changes))
    except ValidationError as error:
        fail(explain(error, AnalysisSettings))
    try:
        result = analyse_trajectory(dumps, settings)
    except TrajectoryError as error:
        fail(str(error))
    if as_json:
        content = {
            'series': {name: array.tolist() for name, array in result.series.items()},
            'profiles': {name: array.tolist() for name, array in result.profiles.items()},
            'summary': result.summary,
        }
        # a quantity that a single frame does not have is NaN, which JSON does not know
        json.dump(_finite(content), sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
        sys.stdout.write('\n')
        return
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


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
