"""`aiida-liheal launch validate`, and `aiida-liheal compare`: the tables of several validations side by side."""

from __future__ import annotations

import json
from typing import Any

import click
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import fail, load, with_profile
from aiida_liheal.cli.verbs import Common, common_options, launch_packed, potential_option, seed_option

__all__ = ('compare', 'validate')


@click.command('validate')
@seed_option
@potential_option
@common_options(['lmp'])
def validate(seed: int, potentials: tuple[str, ...], common: Common) -> None:
    """Measure properties of a potential that are known from elsewhere, and hold them to limits.

    Several potentials make a committee: the values are those of the first one, with the spread of all.
    """
    from aiida_liheal.workchains.validate import ValidateWorkChain

    launch_packed(
        'validate',
        lambda members: ValidateWorkChain.get_builder_from_protocol(
            common.codes, members, seed, common.protocol, common.overrides, common.options
        ),
        potentials,
        common,
    )


@click.command('compare')
@click.argument('processes', nargs=-1, required=True, metavar='[NAME=]PK...')
@click.option('--json', 'as_json', is_flag=True, help='Write the rows as JSON to standard output.')
@with_profile
def compare(processes: tuple[str, ...], as_json: bool) -> None:
    """Put the tables of validations side by side, as Markdown.

    A value is marked with its verdict: pass, FAIL, or nothing where there is no limit. NAME heads its column; without
    it, the label of the process does.
    """
    from aiida.orm import WorkChainNode

    from aiida_liheal.analysis.validation import side_by_side

    tables: dict[str, Any] = {}
    for text in processes:
        name, _, identifier = text.rpartition('=')
        node: Any = load(identifier, WorkChainNode, 'validation')
        if node.process_label != 'ValidateWorkChain' or 'table' not in node.outputs:
            fail(f'{node.process_label}<{node.pk}> has no table; give validations that came to one')
        name = name or node.label or f'<{node.pk}>'
        if name in tables:
            fail(f'the name {name!r} is given twice')
        tables[name] = node.outputs.table['rows']
    if as_json:
        echo.echo(json.dumps(tables, indent=1, ensure_ascii=False))
    else:
        echo.echo(side_by_side(tables))
