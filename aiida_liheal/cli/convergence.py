"""`launch convergence` tries finer and finer settings of an engine; `convergence` prints and draws what came out."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Any

import click
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import fail, load, with_profile
from aiida_liheal.cli.verbs import (
    ENGINES,
    Common,
    atoms_of_frames,
    checked_builder,
    code_of_engine,
    code_rows,
    common_options,
    engine_option,
    settings_rows,
    show_plan,
    start_process,
)

__all__ = ('convergence', 'launch_convergence')


@click.command('convergence')
@click.option(
    '--frames',
    metavar='PK',
    help='A few structures that stand for those to be labelled, atoms out of their places; two small cells of lithium '
    'if not given.',
)
@engine_option
@common_options([], optional_codes=ENGINES)
def launch_convergence(frames: str | None, engine: str, common: Common) -> None:
    """Test how far labels are from converged: a scan a setting, such as cut-off and k-points, the others held.

    Values are changed by, say, -s scans.cutoff_eV=[200,300,400,600]: from coarse to fine, the finest is the reference.
    The smallest ones within the tolerances are tried together in the end.
    """
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.workchains.convergence import ConvergenceWorkChain

    shard = load(frames, FramesData, 'frames') if frames else None
    code = code_of_engine(engine, common)
    builder = checked_builder(
        'convergence',
        lambda: ConvergenceWorkChain.get_builder_from_protocol(
            code, shard, common.protocol, common.overrides, common.options, engine
        ),
    )
    if common.dry_run:
        scans, points = ConvergenceWorkChain.plan(builder)
        n_more = 2 if builder.check_together.value and len(scans) > 1 else 0
        n_frames = len(builder.frames)
        plan = [
            *code_rows({engine: code}),
            ('jobs', str(len(points) + n_more), f'{n_more} of them for the smallest values together' if n_more else ''),
            ('labels', str((len(points) + n_more) * n_frames), f'{atoms_of_frames(builder.frames)} atoms a frame'),
            *(
                (
                    key,
                    str(len(scan['rows'])),
                    ', '.join(f'{row["value"]:g}' for row in scan['rows']) + '; the last one is the reference',
                )
                for key, scan in scans.items()
            ),
            *(
                (f'tolerance: {key}', 'not judged' if value is None else str(value), '')
                for key, value in builder.tolerances.get_dict().items()
            ),
            *settings_rows(builder.label[engine].settings),
        ]
        show_plan(plan, common)
        return
    node = start_process(builder, common)
    if not common.daemon:
        _show(node.outputs.table.get_dict(), node)


@click.command('convergence')
@click.argument('process', metavar='PK')
@click.option('--json', 'as_json', is_flag=True, help='Write the table as JSON to standard output.')
@click.option('--markdown', 'as_markdown', is_flag=True, help='Write it as Markdown.')
@click.option(
    '--plot', type=click.Path(dir_okay=False, path_type=Path), help='Draw the errors into this file: PNG, SVG or PDF.'
)
@with_profile
def convergence(process: str, as_json: bool, as_markdown: bool, plot: Path | None) -> None:
    """Print how labels converged: errors of each value against the finest, its cost, and the smallest that will do.

    PK is that of a process of `launch convergence`.
    """
    from aiida.orm import WorkChainNode

    from aiida_liheal.report.convergence import draw, markdown

    node: Any = load(process, WorkChainNode, 'convergence')
    if node.process_label != 'ConvergenceWorkChain' or 'table' not in node.outputs:
        fail(f'{node.process_label}<{node.pk}> has no table; give a process of `launch convergence` that came to one')
    table = node.outputs.table.get_dict()
    if plot is not None:
        try:
            draw(table, plot)
        except (ValueError, OSError) as error:
            fail(f'--plot: {error}')
    if as_json:
        echo.echo(json.dumps(table, indent=1, ensure_ascii=False))
    elif as_markdown:
        echo.echo(markdown(table))
    else:
        _show(table, node)
    if plot is not None and not (as_json or as_markdown):
        echo.echo_success(f'drawn into {plot}')


def _show(table: dict[str, Any], node: Any) -> None:
    """The tables, what came out, and the settings to take."""
    from aiida_liheal.engines import engine as find_engine
    from aiida_liheal.report.convergence import axis_title, causes_of_scan, meaning_of_heads, table_of_scan
    from aiida_liheal.structures.label_errors import held_text, sentences

    for key, scan in table['scans'].items():
        held = held_text(scan)
        echo.echo(axis_title(scan) + (f', with {held}' if held else ''))
        head, lines = table_of_scan(table, key)
        # units below the heads: mostly numbers are narrower
        head = [one.replace(' meV', '\nmeV').replace('frames see', 'frames\nsee') for one in head]
        echo.echo_tabulate(
            lines, headers=head, disable_numparse=True, colalign=('right',) * (len(head) - 1) + ('left',)
        )
        for number, cause in enumerate(causes_of_scan(scan), 1):
            echo.echo(f'({number}) {cause}')
        echo.echo('')
    echo.echo(meaning_of_heads(table))
    for sentence in sentences(table):
        echo.echo(sentence)
    if 'settings' in node.outputs:
        engine = node.inputs.label.engine.value
        changes = ' '.join(f'-s {engine}.settings.{key}={_text(value)}' for key, value in _changes(node, engine))
        echo.echo('')
        echo.echo(f'labels by these settings: aiida-liheal launch label --engine {engine} {changes} --frames PK')
        if further := [f'{engine}.{key}' for key in find_engine(engine).further]:
            echo.echo(f'and as for the test: {", ".join(further)}')


def _changes(node: Any, engine: str) -> list[tuple[str, Any]]:
    """The settings that came out, where they are not those that `launch label` takes by itself."""
    from aiida_liheal.report.tree import flatten
    from aiida_liheal.workchains.label import LabelWorkChain

    usual = dict(flatten(LabelWorkChain.get_protocol_inputs()[engine]['settings']))
    found = flatten(node.outputs.settings.get_dict())
    return [(key, value) for key, value in found if key not in usual or usual[key] != value]


def _text(value: Any) -> str:
    """A value as the option -s reads it, to its last digit."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    return shlex.quote(text.removesuffix('\n').removesuffix('\n...'))
