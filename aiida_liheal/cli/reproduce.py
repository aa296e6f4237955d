"""`launch reproduce` runs the checks of the paper; `reproduction` prints how they came out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import fail, load, load_named, load_potentials, with_profile
from aiida_liheal.cli.verbs import (
    Common,
    checked_builder,
    code_rows,
    common_options,
    needed,
    potential_option,
    seed_option,
    start_process,
)

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder

__all__ = ('reproduce', 'reproduction')


@click.command('reproduce')
@seed_option
@potential_option
@click.option(
    '--frames',
    multiple=True,
    metavar='[NAME=]PK',
    help='Labelled frames that the potential was not trained on, bulk and surface, to test it on; may be repeated. '
    'Those that it was trained on are refused, where its training is in the profile.',
)
@click.option('--test-summary', metavar='PK', help='In place of --frames: the errors that an earlier test told.')
@click.option(
    '--campaign',
    metavar='PK',
    help='A campaign that is over, such as `laptop`: it is judged, and nothing is run. With --potential, it has to '
    'have run with that one.',
)
@common_options([], optional_codes=['lmp', 'python', 'dp'])
def reproduce(
    seed: int,
    potentials: tuple[str, ...],
    frames: tuple[str, ...],
    test_summary: str | None,
    campaign: str | None,
    common: Common,
) -> None:
    """Run what the checks of the paper need, and judge them: pass, fail, not at this size, or not run.

    The protocol names the size: fast shows how it works, balanced is for a laptop, paper is the paper's. What finished
    before, also in a campaign, is taken over; so launch it again to go on.
    """
    from aiida.orm import Dict, WorkChainNode

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.workchains.reproduce import ReproduceWorkChain

    shards = load_named(frames, FramesData, 'frames')
    tested = load(test_summary, Dict, 'test-summary') if test_summary else None
    if campaign is not None:
        if shards or common.options or seed or 'campaign' in common.overrides:
            fail('--campaign runs nothing: give no frames, seed, options of jobs or settings of a campaign')
        node: Any = load(campaign, WorkChainNode, 'campaign')
        members = load_potentials(potentials)

        def make() -> ProcessBuilder:
            builder = ReproduceWorkChain.get_builder_from_campaign(node, common.protocol, common.overrides, members)
            return _with_test(builder, tested)
    else:
        members = needed(load_potentials(potentials))
        missing = [name for name in ('lmp', 'python', *(['dp'] if shards else [])) if name not in common.codes]
        if missing:
            fail(
                f'there is no code {missing[0]}@localhost: `aiida-liheal setup` makes it; or --code {missing[0]}=LABEL'
            )

        def make() -> ProcessBuilder:
            builder = ReproduceWorkChain.get_builder_from_protocol(
                common.codes, members, seed, common.protocol, common.overrides, common.options, shards or None
            )
            return _with_test(builder, tested)

    builder = checked_builder('reproduce', make)
    if common.dry_run:
        _show(builder, members, common)
        return
    node = start_process(builder, replace(common, label=common.label or _title(builder)))
    if not common.daemon:
        echo.echo(_text_of(node))


def _with_test(builder: ProcessBuilder, tested: Any) -> ProcessBuilder:
    if tested is not None:
        builder.test_summary = tested
    return builder


def _title(builder: Any) -> str:
    source = builder.get('campaign') or builder['table']
    return str(source['title'])


def _show(builder: Any, members: dict[str, Any], common: Common) -> None:
    """What would be run for which checks, and which of them cannot be judged by it."""
    from aiida_liheal.analysis.reproduction import read_checks
    from aiida_liheal.sampling.campaign import Cost
    from aiida_liheal.workchains.points import cost_of, earlier_runs, measured_speed, point_key, read_points
    from aiida_liheal.workchains.reproduce import TEST, TESTED

    checks = read_checks(builder.checks.get_dict())
    echo.echo(f'{_title(builder)}\n')
    if 'campaign' in builder and builder.campaign is not None:
        for line in code_rows({name: code for name, code in common.codes.items() if name in builder.codes}):
            echo.echo('  '.join(line))
        content, built = read_points(builder.campaign.get_dict(), builder.codes, {TESTED: members})
        before = earlier_runs([point_key(inputs) for _, inputs in built.values()])
        speed = measured_speed(common.codes['lmp'], members['m0'])
        rows, total = [], Cost(0, 0, 0.0)
        for name, about in content.series.items():
            inputs = [one for point, one in built.values() if point.series == name]
            left = [one for one in inputs if before[point_key(one)].finished is None]
            cost = Cost(0, 0, 0.0)
            for one in left:
                cost = cost + cost_of(one)
            total = total + cost
            needs = [
                str(number)
                for number, check in enumerate(checks.values(), 1)
                if any(name in _series_of(part) for part in check.parts.values())
            ]
            hours = f'{cost.hours(speed[0]):.3g}' if speed else '?'
            numbers = [str(len(inputs)), str(len(inputs) - len(left)), str(sum(map(_jobs_of, left)))]
            rows.append(
                [
                    *(name, about.verb, *numbers, f'{cost.atoms:,}', f'{cost.steps:,}', f'{cost.atom_steps:.3g}'),
                    *(hours, ', '.join(needs)),
                ]
            )
        head = ['series', 'verb', 'points', 'done', 'jobs', 'atoms', 'steps', 'atom-steps', 'hours', 'checks']
        echo.echo_tabulate(rows, headers=head, disable_numparse=True)
        told = f'{total.hours(speed[0]):.3g} hours at {speed[0]:.3g} katom-step/s ({speed[1]})' if speed else (
            'hours are not known: there is no earlier run with this potential'
        )  # fmt: skip
        echo.echo(f'\nleft to run: {total.steps:,} steps, {total.atom_steps:.3g} atom-steps; {told}')
        there = set(content.series)
    else:
        there = set(builder.table['series'])
    given = builder._inputs(prune=True)
    if 'frames' in given.get('test', {}) or 'test_summary' in given:
        there.add(TEST)
    echo.echo('')
    for number, (_, check) in enumerate(checks.items(), 1):
        missing = [part.what for part in check.parts.values() if not there & set(part.series)]
        share = f'{len(check.parts) - len(missing)} of {len(check.parts)} parts'
        echo.echo(f'{number}. {check.title}: {share}' + (f'; not run: {", ".join(missing)}' if missing else ''))
    echo.echo('')
    echo.echo_success('the inputs are fine; nothing was stored or run')


def _series_of(part: Any) -> set[str]:
    """Series that a part needs, those of its reference too."""
    references = (getattr(part.judge, name, None) for name in ('to', 'reference'))
    return {*part.series, *(name for one in references for name in getattr(one, 'series', ()))}


def _jobs_of(builder: Any) -> int:
    """Jobs that a point takes, if none is interrupted."""
    if hasattr(builder.process_class, 'plan'):
        plan = {what: number for what, number, _ in builder.process_class.plan(builder)}
        return int(plan['jobs']) if 'jobs' in plan else 1
    return 2


@click.command('reproduction')
@click.argument('process', metavar='PK')
@click.option('--json', 'as_json', is_flag=True, help='Write the table as JSON to standard output.')
@click.option('--markdown', 'as_markdown', is_flag=True, help='Write it as Markdown.')
@with_profile
def reproduction(process: str, as_json: bool, as_markdown: bool) -> None:
    """Print how the checks of the paper came out: its value, ours with uncertainty and size, outcome and reason.

    PK is that of a process of `launch reproduce`.
    """
    from aiida.orm import WorkChainNode

    from aiida_liheal.analysis.reproduction import markdown

    node: Any = load(process, WorkChainNode, 'reproduction')
    table = _table_of(node)
    if as_json:
        echo.echo(json.dumps(table, indent=1, ensure_ascii=False))
    elif as_markdown:
        echo.echo(markdown(table))
    else:
        echo.echo(_text_of(node))


def _table_of(node: Any) -> dict[str, Any]:
    if node.process_label == 'CampaignWorkChain':
        fail(f'{node.pk} is a campaign: judge it with `aiida-liheal launch reproduce --campaign {node.pk}`')
    if node.process_label != 'ReproduceWorkChain' or 'reproduction' not in node.outputs:
        fail(
            f'{node.process_label}<{node.pk}> has no table of checks; give a process of `launch reproduce` that is over'
        )
    return dict(node.outputs.reproduction.get_dict())


def _text_of(node: Any) -> str:
    from aiida_liheal.analysis.reproduction import plain_text

    table = _table_of(node)
    return f'{table["title"]}\n\n{plain_text(table)}'
