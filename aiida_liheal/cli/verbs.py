"""What the commands of `aiida-liheal launch` share: options, checks, the plan of a dry run, and the start."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import (
    fail,
    load_codes,
    load_potentials,
    read_options,
    read_overrides,
    settings_option,
    with_profile,
)

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode

__all__ = (
    'ENGINES',
    'SIMULATION_JOBS',
    'Common',
    'Plan',
    'atoms_of_frames',
    'check_builder',
    'checked_builder',
    'code_of_engine',
    'code_rows',
    'common_options',
    'engine_option',
    'launch_packed',
    'needed',
    'potential_option',
    'seed_option',
    'settings_rows',
    'show_or_start',
    'show_plan',
    'start_process',
)

#: Kinds of jobs of the verbs that simulate, by the names of their inputs.
SIMULATION_JOBS = ('lammps', 'analyse')
#: Names of the engines, those of other packages too; the engines themselves take long to import.
ENGINES = sorted({entry.name for entry in entry_points(group='aiida_liheal.engines')})

#: One line of a dry run: what, how many, remark.
Plan = list[tuple[str, str, str]]


@dataclass(frozen=True)
class Common:
    """What all verbs are given: protocol, overrides, codes, options of jobs, and what to do with it all."""

    protocol: str | None
    overrides: dict[str, Any]
    codes: dict[str, Any]
    options: dict[str, Any]
    label: str
    daemon: bool
    dry_run: bool


def common_options(
    codes: Sequence[str], jobs: Sequence[str] = (), has_protocol: bool = True, optional_codes: Sequence[str] = ()
) -> Callable[[Any], Any]:
    """The options that all verbs have, as one argument `common`, with the profile loaded.

    `jobs` are the kinds of jobs of the verb, if there are several, each of which may have options of its own. Of
    `optional_codes`, those that there are come with the others.
    """
    protocol_options = (
        click.option('--protocol', help='fast, balanced or paper; balanced if not given.'),
        click.option(
            '--override',
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help='A YAML file with settings to lay over those of the protocol.',
        ),
        settings_option,
    )
    kinds = f' {" or ".join(f"{job}.KEY" for job in jobs)} is for one kind of job.' if jobs else ''

    def decorate(function: Any) -> Any:
        @with_profile
        @functools.wraps(function)
        def command(**given: Any) -> None:
            common = Common(
                protocol=given.pop('protocol', None),
                overrides=read_overrides(given.pop('override', None), given.pop('changes', ())),
                codes=load_codes(given.pop('codes'), codes, optional_codes),
                options=read_options(given.pop('options_file'), given.pop('options'), jobs),
                label=given.pop('label'),
                daemon=given.pop('daemon'),
                dry_run=given.pop('dry_run'),
            )
            function(common=common, **given)

        for option in reversed(
            (
                *(protocol_options if has_protocol else ()),
                click.option(
                    '--code',
                    'codes',
                    multiple=True,
                    metavar='NAME=LABEL',
                    help=f'A code in place of NAME@localhost; NAME is {" or ".join((*codes, *optional_codes))}.',
                ),
                click.option(
                    '-o',
                    '--option',
                    'options',
                    multiple=True,
                    metavar='KEY=VALUE',
                    help='An option of the jobs for the scheduler, such as queue_name=gpu, account=me, '
                    'max_wallclock_seconds=43200 or resources.num_machines=1. May be given several times.' + kinds,
                ),
                click.option(
                    '--options',
                    'options_file',
                    type=click.Path(exists=True, dir_okay=False, path_type=Path),
                    help='A YAML file with options of the jobs; those given by -o are laid over them.',
                ),
                click.option('--label', default='', help='A label for the process.'),
                click.option(
                    '--daemon/--run',
                    'daemon',
                    default=True,
                    help='Submit to the daemon (default), or run here and wait.',
                ),
                click.option('--dry-run', '-n', is_flag=True, help='Show what would be run; store and run nothing.'),
            )
        ):
            command = option(command)
        return command

    return decorate


engine_option = click.option(
    '--engine', type=click.Choice(ENGINES), default='gpaw', show_default=True, help='What computes the labels.'
)
seed_option = click.option(
    '--seed', type=click.IntRange(min=0), default=0, show_default=True, help='Of everything random.'
)
potential_option = click.option(
    '--potential',
    'potentials',
    multiple=True,
    metavar='PK|builtin',
    help='A potential, or `builtin` for the shipped committee; several make a committee, the first one drives.',
)


def check_builder(builder: ProcessBuilder) -> None:
    """Check all inputs as the process would, with nothing stored; fails with the message of the first that is wrong."""
    ports = builder.process_class.spec().inputs
    problem = ports.validate(ports.pre_process(builder._inputs(prune=True)))
    if problem is not None:
        where = problem.port.removeprefix('inputs').lstrip('.') if problem.port else ''
        fail(f'{where}: {problem.message}' if where else str(problem.message))


def checked_builder(verb: str, make: Callable[[], ProcessBuilder]) -> Any:
    """A checked builder; what the settings object to becomes one message."""
    try:
        builder = make()
    except (ValueError, TypeError) as error:
        fail(f'{verb}: {error}')
    check_builder(builder)
    return builder


def show_or_start(builder: Any, plan: Plan, common: Common) -> None:
    """Show the plan, or run, or submit."""
    if common.dry_run:
        show_plan(plan, common)
    else:
        start_process(builder, common)


def show_plan(plan: Plan, common: Common) -> None:
    """Print the plan of a dry run."""
    if common.options:
        plan = [*plan, *_rows(common.options, 'option of the jobs')]
    echo.echo_tabulate(plan, headers=['what', 'how many', ''], disable_numparse=True)
    echo.echo('')
    echo.echo_success('the inputs are fine; nothing was stored or run')


def start_process(builder: Any, common: Common) -> ProcessNode:
    """Submit, or run and wait; fails if the daemon is not running, or the process did not end well."""
    from aiida.engine import run_get_node, submit
    from aiida.engine.daemon.client import get_daemon_client

    from aiida_liheal.report.facts import conclusions
    from aiida_liheal.report.tree import read_tree
    from aiida_liheal.workchains.points import mark_as_point

    builder.metadata.label = common.label
    if common.daemon:
        if not get_daemon_client().is_daemon_running:
            fail('the daemon is not running: start it with `verdi daemon start`, or run here and wait with --run')
        node = submit(builder)
        mark_as_point(node, builder)
        echo.echo_success(f'submitted {node.process_label}<{node.pk}>: see `aiida-liheal status {node.pk}`')
        return node
    _, node = run_get_node(builder)
    mark_as_point(node, builder)
    if not node.is_finished_ok:
        fail(f'{node.process_label}<{node.pk}> ended with exit code {node.exit_status}: {node.exit_message}')
    for sentence in conclusions(read_tree(node)):
        echo.echo_report(sentence)
    echo.echo_success(f'{node.process_label}<{node.pk}> finished')
    return node


def code_of_engine(engine: str, common: Common) -> Any:
    """The code of an engine; fails if there is none."""
    if engine not in common.codes:
        fail(f'there is no code {engine}@localhost; name the one of the engine with --code {engine}=LABEL')
    return common.codes[engine]


def atoms_of_frames(shard: Any) -> str:
    """How many atoms the frames of a shard have, for people."""
    low, high = shard.base.attributes.get('n_atoms_min'), shard.base.attributes.get('n_atoms_max')
    return str(low) if low == high else f'{low} to {high}'


def code_rows(codes: dict[str, Any]) -> Plan:
    """The codes with their versions; fails if the executable of one of them is missing."""
    from aiida.common.exceptions import ValidationError
    from aiida.orm import InstalledCode

    rows: Plan = []
    for name, code in codes.items():
        # one on another computer is looked at by the scheduler there: connecting to it may take a password
        if isinstance(code, InstalledCode) and code.computer.transport_type == 'core.local':
            try:
                code.validate_filepath_executable()
            except ValidationError:
                fail(
                    f'code {code.full_label} (pk {code.pk}): there is no executable {code.get_executable()}; see setup'
                )
        rows.append((f'code {name}', code.full_label, code.description))
    return rows


def needed(members: dict[str, Any]) -> dict[str, Any]:
    """Members of a potential; fails if there are none."""
    if not members:
        fail('no potential given: name one with --potential PK, or take the shipped ones with --potential builtin')
    return members


def launch_packed(
    verb: str, make: Callable[[dict[str, Any]], ProcessBuilder], potentials: tuple[str, ...], common: Common
) -> None:
    """Check, then show or start a verb that packs many runs into few jobs."""
    members = needed(load_potentials(potentials))
    builder = checked_builder(verb, lambda: make(members))
    plan = [
        *code_rows(common.codes),
        *builder.process_class.plan(builder),
        ('labels', '0', ''),
        ('potentials', str(len(builder.potentials)), 'the first one drives'),
        *settings_rows(builder.settings),
    ]
    show_or_start(builder, plan, common)


def settings_rows(node: Any) -> Plan:
    """Lines of a plan with the settings in a `Dict` node."""
    return _rows(node.get_dict(), 'setting')


def _rows(content: dict[str, Any], what: str) -> Plan:
    from aiida_liheal.report.tree import flatten

    # what was computed, such as a height, has digits that mean nothing
    shown = ((key, round(value, 9) if isinstance(value, float) else value) for key, value in flatten(content))
    return [('', '', ''), *((key, str(value), what) for key, value in shown)]
