"""`aiida-liheal film` and `aiida-liheal panel`: moving and still pictures of dumps, without AiiDA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import fail

__all__ = ('film', 'panel')

#: Options of both, which are keys of `SceneSettings`.
_SCENE = (
    click.option(
        '--colour',
        type=click.Choice(['structure', 'energy']),
        default='structure',
        show_default=True,
        help='Colour atoms by crystal structure (a-CNA: BCC blue, FCC green, HCP red, others grey), or by potential '
        'energy (column c_pe).',
    ),
    click.option(
        '--energy-range',
        'energy_range_eV',
        type=float,
        nargs=2,
        metavar='LOW HIGH',
        help='Energies of an atom in eV at the two ends of the colours. In the paper surface atoms lie between -1.84 '
        '(valleys) and -1.43 eV (tips). Default: 1st to 99th percentile of the first and last frames.',
    ),
    click.option(
        '--along',
        type=click.Choice(['x', 'y', 'z']),
        default='y',
        show_default=True,
        help='Axis along which one looks; z is from above.',
    ),
    click.option(
        '--slice',
        'slice_A',
        type=float,
        metavar='A',
        help='Show a slice through the middle this thick, in Å; 0 for all. Default: 7 Å in crystals without a surface, '
        'all in others.',
    ),
    click.option(
        '--average',
        'average_frames',
        type=int,
        metavar='N',
        default=1,
        show_default=True,
        help='Average positions over N frames of the dump to find structures; thermal motion makes single frames grey.',
    ),
    click.option(
        '--timestep',
        'timestep_fs',
        type=float,
        metavar='FS',
        default=1.0,
        show_default=True,
        help='Time step of the MD in fs, which turns steps into times.',
    ),
)


def _scene(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that shows atoms."""
    for option in reversed(_SCENE):
        command = option(command)
    return command


def _output(kinds: str) -> Callable[..., Any]:
    return click.option(
        '-o',
        '--output',
        type=click.Path(dir_okay=False, writable=True, path_type=Path),
        required=True,
        help=f'The file to write, {kinds}; one that is there is replaced.',
    )


@click.command('film')
@click.argument('dumps', metavar='DUMP...', nargs=-1, required=True, type=click.Path(path_type=Path))
@_output('ending in .gif or .mp4')
@_scene
@click.option('--every', type=int, metavar='N', default=1, show_default=True, help='Show each N-th frame of the dump.')
@click.option(
    '--width', 'width_px', type=int, metavar='PX', default=640, show_default=True, help='Width in pixels, 200 to 4000.'
)
@click.option(
    '--fps',
    'frames_per_s',
    type=int,
    metavar='N',
    default=10,
    show_default=True,
    help='Frames of the film in a second, 1 to 50.',
)
def film(dumps: tuple[Path, ...], output: Path, **values: Any) -> None:
    """Make a film of a run from its dumps.

    Text dumps with the columns id, x, y, z and, for energies, c_pe; several dumps are the parts of one run in the
    order of its restarts. One frame is in memory at a time. Needs no AiiDA profile.
    """
    from aiida_liheal.report.film import FORMATS, FilmSettings, make_film

    settings = _read(FilmSettings, values)
    if output.suffix not in FORMATS:
        fail(f'{output}: a film ends in {" or ".join(FORMATS)}')
    _look(dumps, output)
    with click.progressbar(length=1, label='frames', hidden=not click.get_text_stream('stderr').isatty()) as bar:

        def progress(number: int, total: int) -> None:
            bar.length = total
            bar.update(number - bar.pos)

        try:
            n_frames = make_film(dumps, output, settings, progress)
        except (ValueError, RuntimeError) as error:
            _tell(error)
    echo.echo_success(f'wrote {output}: {n_frames} frames, {output.stat().st_size / 1e6:.1f} MB')


@click.command('panel')
@click.option(
    '-r',
    '--run',
    'runs',
    multiple=True,
    required=True,
    metavar='LABEL=DUMP',
    help='A run by its label and dump. May be given several times; dumps of one label are the parts of one run in the '
    'order of its restarts.',
)
@_output('ending in .png')
@click.option(
    '--at',
    'at_ps',
    type=float,
    multiple=True,
    metavar='PS',
    help='A time in ps, by steps of the dump: a row of the panel. May be given several times. Default: the last frame '
    'of each run.',
)
@click.option(
    '--columns', type=int, metavar='N', help='Snapshots side by side, where there is one of each run. Default: 3.'
)
@_scene
@click.option(
    '--width',
    'width_px',
    type=int,
    metavar='PX',
    default=2000,
    show_default=True,
    help='Width in pixels, 200 to 10000.',
)
def panel(runs: tuple[str, ...], output: Path, **values: Any) -> None:
    """Put snapshots of several runs in one labelled picture, all at one scale.

    With several times each run is a column and each time a row, as in Figure 1 of the paper; else the runs follow one
    another, as in Figure 3. Needs no AiiDA profile.
    """
    from aiida_liheal.report.panel import PanelSettings, make_panel

    settings = _read(PanelSettings, values)
    dumps: dict[str, list[Path]] = {}
    for run in runs:
        label, found, path = run.partition('=')
        if not (label and found and path):
            fail(f'--run {run}: give LABEL=DUMP')
        dumps.setdefault(label, []).append(Path(path))
    if output.suffix != '.png':
        fail(f'{output}: a panel ends in .png')
    _look([path for paths in dumps.values() for path in paths], output)
    try:
        rows, columns = make_panel(dumps, output, settings)
    except (ValueError, RuntimeError) as error:
        _tell(error)
    echo.echo_success(f'wrote {output}: {rows} x {columns} snapshots')


def _read(model: Any, values: dict[str, Any]) -> Any:
    """Settings of the options that were given."""
    try:
        return model.read({key: value for key, value in values.items() if value is not None})
    except ValueError as error:
        fail(str(error))


def _look(dumps: Any, output: Path) -> None:
    """End where there is no dump, or no folder to write into."""
    missing = [str(path) for path in dumps if not path.is_file()]
    if missing:
        fail(f'there is no file {", ".join(missing)}')
    if not output.absolute().parent.is_dir():
        fail(f'{output}: there is no folder {output.absolute().parent}')


def _tell(error: Exception) -> NoReturn:
    """End with what was wrong; where the graphics are missing, with how to get them."""
    from aiida_liheal.report.render import INSTALL

    fail(f'{error} {INSTALL}' if 'ulkan' in str(error) or 'graphics' in str(error).lower() else str(error))
