"""`aiida-liheal film` and `aiida-liheal panel`: moving and still pictures of dumps, without AiiDA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import fail, load, with_profile

if TYPE_CHECKING:
    from aiida_liheal.report.panel import PanelSettings

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
    metavar='LABEL=DUMP',
    help='A run by its label and dump. May be given several times; dumps of one label are the parts of one run in the '
    'order of its restarts.',
)
@click.option(
    '--campaign',
    'process',
    metavar='PK',
    help='A campaign that is over, instead of runs: the first and last frames of its points as the database keeps '
    'them, with what was measured beside them. Needs a profile, and no trajectory.',
)
@click.option(
    '--series',
    multiple=True,
    metavar='NAME',
    help='A series of the campaign; may be given several times, each a part of the panel. Default: all of deposit, '
    'heal, valley and diffuse.',
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
@click.pass_context
def panel(
    context: click.Context,
    runs: tuple[str, ...],
    process: str | None,
    series: tuple[str, ...],
    output: Path,
    **values: Any,
) -> None:
    """Put snapshots of several runs in one labelled picture, all at one scale.

    With several times each run is a column and each time a row, as in Figure 1 of the paper; else the runs follow one
    another. That needs no AiiDA profile.

    Of a campaign (--campaign PK), a series of deposits over two variables is a matrix of last frames, as in Figure 3;
    other deposits and voids are first and last frames with what changed below, as in Figures 1 and 2; valleys and
    diffusion are plots. Deposits are coloured by energy and voids by structure, as in the paper, unless --colour is
    given.
    """
    from aiida_liheal.report.panel import PanelSettings, make_panel

    if bool(runs) == bool(process):
        fail('give either runs (--run LABEL=DUMP) or a campaign (--campaign PK)')
    if process:
        _of_campaign(context, process, series, output, values)
        return
    if series:
        fail('--series is of a campaign: give --campaign PK too')
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


def _of_campaign(
    context: click.Context, process: str, series: tuple[str, ...], output: Path, values: dict[str, Any]
) -> None:
    """A panel of a campaign from what the database holds."""
    from click.core import ParameterSource

    from aiida_liheal.report.panel import PanelSettings

    given = {name for name in values if context.get_parameter_source(name) == ParameterSource.COMMANDLINE}
    unfit = {'at_ps': '--at', 'columns': '--columns', 'average_frames': '--average', 'timestep_fs': '--timestep'}
    for name in sorted(given & set(unfit)):
        fail(
            f'{unfit[name]} is of dumps: the database keeps the first and last frame of each run, as they were analysed'
        )
    chosen = _read(PanelSettings, {name: value for name, value in values.items() if name not in unfit})
    if output.suffix != '.png':
        fail(f'{output}: a panel ends in .png')
    _look([], output)
    _draw_campaign(process, series, output, chosen, is_coloured='colour' in given)


@with_profile
def _draw_campaign(
    process: str, series: tuple[str, ...], output: Path, settings: PanelSettings, *, is_coloured: bool
) -> None:
    from aiida.orm import WorkChainNode

    from aiida_liheal.report.campaign_panel import campaign_panel
    from aiida_liheal.report.tree import read_tree

    node = load(process, WorkChainNode, 'panel')
    # a `reproduce` holds its campaign
    campaigns = read_tree(node).named('CampaignWorkChain')
    if not campaigns:
        fail(f'{process} is a {node.process_label}; a panel is made of a campaign, or of dumps (--run)')
    step = campaigns[0]
    if not step.result('table'):
        fail(f'the campaign {process} has no table yet: it is {step.state}')
    try:
        said = campaign_panel(step, series, output, settings, is_coloured=is_coloured)
    except (ValueError, RuntimeError) as error:
        _tell(error)
    echo.echo_success(f'wrote {output}: {"; ".join(said)}')


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
