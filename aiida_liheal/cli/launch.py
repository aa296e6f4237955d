"""`aiida-liheal launch VERB`: inputs from a protocol, checked before anything is stored; then run, or only shown."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import (
    fail,
    load,
    load_codes,
    load_named,
    load_potentials,
    options_of,
    read_options,
    read_overrides,
    settings_option,
    with_profile,
)

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode

    from aiida_liheal.data.potential import PotentialData

__all__ = ('Plan', 'check_builder', 'launch')

#: Kinds of jobs of the verbs that have several, by the names of their inputs.
_LEARN_JOBS = ('label', 'train', 'explore')
_SIMULATION_JOBS = ('lammps', 'analyse')

#: One line of a dry run: what, how many, remark.
Plan = list[tuple[str, str, str]]


@click.group('launch', cls=VerdiCommandGroup)
def launch() -> None:
    """Launch a verb.

    Settings come from a protocol and may be overridden. Everything is checked before anything is stored or submitted;
    --dry-run shows what would be run and runs nothing.
    """


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


def _common(codes: Sequence[str], jobs: Sequence[str] = (), has_protocol: bool = True) -> Callable[[Any], Any]:
    """The options that all verbs have, as one argument `common`, with the profile loaded.

    `jobs` are the kinds of jobs of the verb, if there are several, each of which may have options of its own.
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
                codes=load_codes(given.pop('codes'), codes),
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
                    help=f'A code in place of NAME@localhost; NAME is {" or ".join(codes)}.',
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


_seed = click.option('--seed', type=click.IntRange(min=0), default=0, show_default=True, help='Of everything random.')
_potential = click.option(
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


def _build(verb: str, make: Callable[[], ProcessBuilder]) -> Any:
    """A checked builder; what the settings object to becomes one message."""
    try:
        builder = make()
    except (ValueError, TypeError) as error:
        fail(f'{verb}: {error}')
    check_builder(builder)
    return builder


def _go(builder: Any, plan: Plan, common: Common) -> None:
    """Show the plan, or run, or submit."""
    if common.dry_run:
        _show(plan, common)
    else:
        _start(builder, common)


def _show(plan: Plan, common: Common) -> None:
    """Print the plan of a dry run."""
    if common.options:
        plan = [*plan, *_rows(common.options, 'option of the jobs')]
    echo.echo_tabulate(plan, headers=['what', 'how many', ''], disable_numparse=True)
    echo.echo('')
    echo.echo_success('the inputs are fine; nothing was stored or run')


def _start(builder: Any, common: Common) -> ProcessNode:
    """Submit, or run and wait; fails if the daemon is not running, or the process did not end well."""
    from aiida.engine import run_get_node, submit
    from aiida.engine.daemon.client import get_daemon_client

    from aiida_liheal.report.facts import conclusions
    from aiida_liheal.report.tree import read_tree

    builder.metadata.label = common.label
    if common.daemon:
        if not get_daemon_client().is_daemon_running:
            fail('the daemon is not running: start it with `verdi daemon start`, or run here and wait with --run')
        node = submit(builder)
        echo.echo_success(f'submitted {node.process_label}<{node.pk}>: see `aiida-liheal status {node.pk}`')
        return node
    _, node = run_get_node(builder)
    if not node.is_finished_ok:
        fail(f'{node.process_label}<{node.pk}> ended with exit code {node.exit_status}: {node.exit_message}')
    for sentence in conclusions(read_tree(node)):
        echo.echo_report(sentence)
    echo.echo_success(f'{node.process_label}<{node.pk}> finished')
    return node


def _code_rows(codes: dict[str, Any]) -> Plan:
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


@launch.command('label')
@click.option('--frames', required=True, metavar='PK', help='The structures to label: a shard of frames.')
@_common(['gpaw'])
def label(
    frames: str,
    common: Common,
) -> None:
    """Label frames: energies, forces and virials by DFT."""
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.workchains.label import LabelWorkChain

    shard = load(frames, FramesData, 'frames')
    builder = _build(
        'label',
        lambda: LabelWorkChain.get_builder_from_protocol(
            common.codes['gpaw'], shard, common.protocol, common.overrides, common.options
        ),
    )
    n_jobs = math.ceil(len(shard) / builder.batch_size.value)
    plan = [
        *_code_rows(common.codes),
        ('jobs', str(n_jobs), f'at most {builder.batch_size.value} frames each'),
        ('labels', str(len(shard)), f'{_atoms(shard)} atoms a frame'),
        *_settings_rows(builder.gpaw.settings),
    ]
    _go(builder, plan, common)


@launch.command('train')
@click.option('--frames', multiple=True, required=True, metavar='[NAME=]PK', help='Labelled frames; may be repeated.')
@_seed
@_potential
@_common(['dp'])
def train(
    frames: tuple[str, ...],
    seed: int,
    potentials: tuple[str, ...],
    common: Common,
) -> None:
    """Train a committee, from given potentials if there are any."""
    from aiida_liheal.calculations.dp_settings import DpTrainSettings
    from aiida_liheal.calculations.dp_train import split_shard
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.workchains.train import TrainWorkChain

    shards = load_named(frames, FramesData, 'frames')
    members = load_potentials(potentials)
    builder = _build(
        'train',
        lambda: TrainWorkChain.get_builder_from_protocol(
            common.codes['dp'], shards, seed, members or None, common.protocol, common.overrides, common.options
        ),
    )
    settings = DpTrainSettings.read({**builder.settings.get_dict(), 'seed': 0})
    splits = [split_shard(name, len(shard), settings) for name, shard in shards.items()]
    n_train, n_held = (sum(len(split[k]) for split in splits) for k in (0, 1))
    plan = [
        *_code_rows(common.codes),
        ('jobs', str(builder.n_members.value), 'one a member'),
        ('steps', str(settings.n_steps), 'each'),
        ('frames', str(n_train), f'{n_held} more are held out'),
        ('start', str(len(members)), 'members from given potentials, the others at random'),
        *_settings_rows(builder.settings),
    ]
    _go(builder, plan, common)


@launch.command('compress')
@_potential
@click.option(
    '--table-from',
    'table_from_A',
    type=float,
    metavar='DISTANCE',
    help='Smallest distance of atoms that the tables of the models resolve, in Å; that of trainings if not given.',
)
@_common(['dp'], has_protocol=False)
def compress(potentials: tuple[str, ...], table_from_A: float | None, common: Common) -> None:
    """Compress potentials, which makes MD with them faster; their energies stay the same.

    What `train` makes is compressed already; the shipped committee is not, and gains about 15 % of speed on one core.
    Wider nets gain more. Each job gives a new potential, linked to the one that it was made from.
    """
    from aiida.orm import Float

    from aiida_liheal.calculations.dp_compress import DpCompressCalculation
    from aiida_liheal.workchains.protocol import set_options

    def make(potential: PotentialData) -> ProcessBuilder:
        if potential.model_role == 'compressed':
            raise ValueError(f'potential {potential.pk} has a compressed model already')
        builder = DpCompressCalculation.get_builder()
        builder.code = common.codes['dp']
        builder.potential = potential
        if table_from_A is not None:
            builder.table_from_A = Float(table_from_A)
        set_options(builder, common.options)
        return builder

    members = _needed(load_potentials(potentials))
    builders = [_build('compress', functools.partial(make, potential)) for potential in members.values()]
    if common.dry_run:
        names = [(node.label or name, f'pk {node.pk}' if node.is_stored else 'new') for name, node in members.items()]
        plan = [*_code_rows(common.codes), ('jobs', str(len(builders)), 'one a potential')]
        _show([*plan, *(('potential', *name) for name in names)], common)
        return
    nodes = [_start(builder, common) for builder in builders]
    if not common.daemon:
        echo.echo_report(f'take them with {" ".join(f"--potential {node.outputs.potential.pk}" for node in nodes)}')


@launch.command('explore')
@click.option('--structures', multiple=True, required=True, metavar='[NAME=]PK', help='Starts, a shard a system.')
@_seed
@_potential
@_common(['lmp'])
def explore(
    structures: tuple[str, ...],
    seed: int,
    potentials: tuple[str, ...],
    common: Common,
) -> None:
    """Explore with a committee, in search of frames that its members disagree on."""
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.workchains.explore import ExploreWorkChain

    shards = load_named(structures, FramesData, 'structures')
    members = _needed(load_potentials(potentials))
    builder = _build(
        'explore',
        lambda: ExploreWorkChain.get_builder_from_protocol(
            common.codes, shards, members, seed, common.protocol, common.overrides, common.options
        ),
    )
    plan = [*_code_rows(common.codes), *_explore_rows(builder, shards)]
    plan.append(('labels', f'≤ {builder.max_candidates.value}', 'frames are chosen for'))
    _go(builder, plan, common)


@launch.command('learn')
@click.option('--structures', multiple=True, required=True, metavar='[NAME=]PK', help='Starts of the exploration.')
@click.option('--to-label', multiple=True, metavar='[NAME=]PK', help='Frames that are labelled first.')
@click.option('--frames', multiple=True, metavar='[NAME=]PK', help='Labelled frames to train on from the start.')
@_seed
@_potential
@_common(['gpaw', 'dp', 'lmp'], _LEARN_JOBS)
def learn(
    structures: tuple[str, ...],
    to_label: tuple[str, ...],
    frames: tuple[str, ...],
    seed: int,
    potentials: tuple[str, ...],
    common: Common,
) -> None:
    """Learn actively: label, train, explore, choose, label again."""
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.workchains.learn import LearnWorkChain

    starts = load_named(structures, FramesData, 'structures')
    first = load_named(to_label, FramesData, 'to-label')
    shards = load_named(frames, FramesData, 'frames')
    members = load_potentials(potentials)
    builder = _build(
        'learn',
        lambda: LearnWorkChain.get_builder_from_protocol(
            common.codes,
            starts,
            first or None,
            shards or None,
            members or None,
            seed,
            common.protocol,
            common.overrides,
            {job: options_of(common.options, job, _LEARN_JOBS) for job in _LEARN_JOBS},
        ),
    )
    n_rounds = builder.n_rounds.value
    per_round = builder.explore.max_candidates.value
    n_first = sum(len(shard) for shard in first.values())
    n_members = builder.train.n_members.value
    steps = builder.train.settings.get_dict()['n_steps']
    plan = [
        *_code_rows(common.codes),
        ('rounds', f'≤ {n_rounds}', 'fewer if the committee agrees before'),
        ('labels', f'≤ {n_first + (n_rounds - 1) * per_round}', f'{n_first} first, then at most {per_round} a round'),
        ('trainings', f'≤ {n_rounds * n_members}', f'{n_members} members a round, {steps} steps each'),
        *((f'a round: {what}', number, remark) for what, number, remark in _explore_rows(builder.explore, starts)),
    ]
    _go(builder, plan, common)


def _needed(members: dict[str, Any]) -> dict[str, Any]:
    if not members:
        fail('no potential given: name one with --potential PK, or take the shipped ones with --potential builtin')
    return members


def _simulation(function: Any) -> Any:
    """The options of `deposit` and `heal`, which take the same."""
    for option in reversed(
        (
            click.option('--structure', metavar='PK', help='The start: a shard of frames (its first) or a structure.'),
            _seed,
            _potential,
            click.option('--restart', metavar='PK', help='An earlier run that broke off, to go on with.'),
            _common(['lmp', 'python'], _SIMULATION_JOBS),
        )
    ):
        function = option(function)
    return function


@launch.command('deposit')
@_simulation
def deposit(**given: Any) -> None:
    """Deposit atoms on a slab, and analyse how the film grows."""
    _launch_simulation('deposit', **given)


@launch.command('heal')
@_simulation
def heal(**given: Any) -> None:
    """Heat a crystal with a void, and see whether it closes."""
    _launch_simulation('heal', **given)


def _launch_simulation(
    verb: str,
    structure: str | None,
    seed: int,
    potentials: tuple[str, ...],
    restart: str | None,
    common: Common,
) -> None:
    from aiida.orm import StructureData, WorkChainNode

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.lammps.decks import validate
    from aiida_liheal.lammps.kinds import DepositSettings
    from aiida_liheal.lammps.settings import TrajectorySettings
    from aiida_liheal.workchains.deposit import DepositWorkChain
    from aiida_liheal.workchains.heal import HealWorkChain
    from aiida_liheal.workchains.start import start_of

    process = {'deposit': DepositWorkChain, 'heal': HealWorkChain}[verb]
    earlier: dict[str, Any] = {}
    if restart is not None:
        if structure or potentials or common.overrides or common.protocol or seed:
            fail('--restart takes all inputs from the earlier run; give only codes, options and label besides')
        node: Any = load(restart, WorkChainNode, 'restart')
        builder = _build(verb, lambda: _with_options(_restarted(process, node, common.codes), common.options))
        earlier = builder.earlier
    else:
        members = _needed(load_potentials(potentials))
        start: Any = load(structure, (FramesData, StructureData), 'structure') if structure else None
        builder = _build(
            verb,
            lambda: _with_options(
                process.get_builder_from_protocol(
                    common.codes, members, start, seed, common.protocol, common.overrides
                ),
                common.options,
            ),
        )
    atoms = start_of(verb, builder)
    settings = validate(verb, {**builder.settings.get_dict(), 'seed': 1})
    assert isinstance(settings, TrajectorySettings)  # noqa: S101 (both verbs have such settings)
    lengths = ' x '.join(f'{length / 10:.2f}' for length in atoms.cell.lengths())
    plan: Plan = [
        *_code_rows(common.codes),
        ('jobs', '2', 'LAMMPS (more if it is interrupted) and the analysis'),
        ('atoms', str(len(atoms)), f'cell {lengths} nm'),
    ]
    n_steps, until = settings.n_steps, ''
    if isinstance(settings, DepositSettings):
        area = atoms.cell.lengths()[0] * atoms.cell.lengths()[1] / 100
        schedule = settings.schedule(area)
        remark = f'one every {schedule.every_steps} steps: {settings.rate(area):.3g} atoms/ps on {area:.2f} nm²'
        plan.append(('atoms inserted', str(schedule.n_insert), remark))
        n_steps = settings.last_step(area)
        if settings.stop_at_height_A is not None:
            until = f', or until the film is {settings.stop_at_height_A:g} Å high'
    duration = f'{n_steps * settings.timestep_ps:g} ps in steps of {settings.timestep_fs:g} fs{until}'
    plan += [
        ('steps', str(n_steps), duration),
        ('frames', str(n_steps // settings.steps(settings.dump_every_ps) + 1), 'of the trajectory'),
        ('labels', '0', ''),
        ('potentials', str(len(builder.potentials)), 'the first one drives'),
        *_settings_rows(builder.settings),
    ]
    if earlier:
        plan.append(('goes on from', str(len(earlier)), 'folders of the earlier run'))
    _go(builder, plan, common)


def _with_options(builder: ProcessBuilder, options: dict[str, Any]) -> ProcessBuilder:
    """A builder of `deposit` or `heal` with options set on its jobs."""
    from aiida_liheal.workchains.protocol import set_options

    for job in _SIMULATION_JOBS:
        # an earlier run may have been without an analysis
        if 'code' in builder[job]:
            set_options(builder[job], options_of(options, job, _SIMULATION_JOBS))
    return builder


def _restarted(process: Any, node: Any, codes: dict[str, Any]) -> ProcessBuilder:
    """A builder with the inputs of an earlier run of the same verb, to go on from where its jobs came to."""
    if node.process_label != process.__name__:
        raise ValueError(f'node {node.pk} is a {node.process_label}; --restart of this verb needs a {process.__name__}')
    if not node.is_terminated:
        raise ValueError(f'process {node.pk} is not over yet; `verdi process kill {node.pk}` ends it')
    if node.is_finished_ok:
        raise ValueError(f'process {node.pk} came to its end: there is nothing to go on with')
    # a run that was killed left no outputs of its own: its jobs have the folders
    folders = [
        child.outputs.remote_folder
        for child in sorted(node.called_descendants, key=lambda child: child.pk)
        if child.process_label == 'LammpsCalculation' and 'remote_folder' in child.outputs
    ]
    before = node.inputs.earlier if 'earlier' in node.inputs else {}
    folders = [before[name] for name in sorted(before)] + folders
    if not folders:
        raise ValueError(f'process {node.pk} left no folder of a job to go on from; launch it anew')
    builder = node.get_builder_restart()
    builder.lammps.code = codes['lmp']
    if 'python' in codes and 'analyse' in node.inputs:
        builder.analyse.code = codes['python']
    builder.earlier = {f's{number:03d}': folder for number, folder in enumerate(folders)}
    return builder


def _atoms(shard: Any) -> str:
    low, high = shard.base.attributes.get('n_atoms_min'), shard.base.attributes.get('n_atoms_max')
    return str(low) if low == high else f'{low} to {high}'


def _explore_rows(builder: Any, shards: dict[str, Any]) -> Plan:
    """What an exploration runs, a line a system."""
    from aiida_liheal.lammps.decks import validate
    from aiida_liheal.lammps.kinds import ExploreSettings
    from aiida_liheal.sampling.stages import SystemStage, plan_runs

    rows: Plan = [('jobs', str(len(shards)), 'one a system')]
    for name, values in builder.stage.get_dict().items():
        runs = plan_runs(SystemStage.read(values), len(shards[name]), 0)
        steps = frames = 0
        for run in runs:
            settings = validate('explore', {key: value for key, value in run.items() if key != 'structure'})
            assert isinstance(settings, ExploreSettings)  # noqa: S101 (its kind says so)
            steps += settings.n_steps
            frames += settings.n_frames
        rows.append(
            (f'runs of {name}', str(len(runs)), f'{_atoms(shards[name])} atoms, {steps} steps, {frames} frames')
        )
    return rows


def _settings_rows(node: Any) -> Plan:
    return _rows(node.get_dict(), 'setting')


def _rows(content: dict[str, Any], what: str) -> Plan:
    from aiida_liheal.report.tree import flatten

    # what was computed, such as a height, has digits that mean nothing
    shown = ((key, round(value, 9) if isinstance(value, float) else value) for key, value in flatten(content))
    return [('', '', ''), *((key, str(value), what) for key, value in shown)]
