"""`aiida-liheal launch VERB`: inputs from a protocol, checked before anything is stored; then run, or only shown."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import (
    fail,
    load,
    load_named,
    load_potentials,
    options_of,
)
from aiida_liheal.cli.verbs import (
    ENGINES,
    SIMULATION_JOBS,
    Common,
    Plan,
    atoms_of_frames,
    checked_builder,
    code_of_engine,
    code_rows,
    common_options,
    engine_option,
    needed,
    potential_option,
    seed_option,
    settings_rows,
    show_or_start,
    show_plan,
    start_process,
)

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder

    from aiida_liheal.data.potential import PotentialData

__all__ = ('launch',)

#: Kinds of jobs of `learn`, by the names of their inputs.
_LEARN_JOBS = ('label', 'train', 'explore')


@click.group('launch', cls=VerdiCommandGroup)
def launch() -> None:
    """Launch a verb.

    Settings come from a protocol and may be overridden. Everything is checked before anything is stored or submitted;
    --dry-run shows what would be run and runs nothing.
    """


@launch.command('label')
@click.option('--frames', required=True, metavar='PK', help='The structures to label: a shard of frames.')
@engine_option
@common_options([], optional_codes=ENGINES)
def label(
    frames: str,
    engine: str,
    common: Common,
) -> None:
    """Label frames: energies, forces and virials by DFT, in batches.

    The code is that of the engine: gpaw@localhost, or --code vasp=LABEL for --engine vasp.
    """
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.workchains.label import LabelWorkChain

    shard = load(frames, FramesData, 'frames')
    builder = checked_builder(
        'label',
        lambda: LabelWorkChain.get_builder_from_protocol(
            code_of_engine(engine, common), shard, common.protocol, common.overrides, common.options, engine
        ),
    )
    n_jobs = math.ceil(len(shard) / builder.batch_size.value)
    plan = [
        *code_rows({engine: code_of_engine(engine, common)}),
        ('jobs', str(n_jobs), f'at most {builder.batch_size.value} frames each'),
        ('labels', str(len(shard)), f'{atoms_of_frames(shard)} atoms a frame'),
        *settings_rows(builder[engine].settings),
    ]
    show_or_start(builder, plan, common)


@launch.command('train')
@click.option('--frames', multiple=True, required=True, metavar='[NAME=]PK', help='Labelled frames; may be repeated.')
@seed_option
@potential_option
@common_options(['dp'])
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
    builder = checked_builder(
        'train',
        lambda: TrainWorkChain.get_builder_from_protocol(
            common.codes['dp'], shards, seed, members or None, common.protocol, common.overrides, common.options
        ),
    )
    settings = DpTrainSettings.read(builder.settings.get_dict(), {'seed': 0})
    splits = [split_shard(name, len(shard), settings) for name, shard in shards.items()]
    n_train, n_held = (sum(len(split[k]) for split in splits) for k in (0, 1))
    plan = [
        *code_rows(common.codes),
        ('jobs', str(builder.n_members.value), 'one a member'),
        ('steps', str(settings.n_steps), 'each'),
        ('frames', str(n_train), f'{n_held} more are held out'),
        ('start', str(len(members)), 'members from given potentials, the others at random'),
        *settings_rows(builder.settings),
    ]
    show_or_start(builder, plan, common)


@launch.command('compress')
@potential_option
@click.option(
    '--table-from',
    'table_from_A',
    type=float,
    metavar='DISTANCE',
    help='Smallest distance of atoms that the tables of the models resolve, in Å; that of trainings if not given.',
)
@common_options(['dp'], has_protocol=False)
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

    members = needed(load_potentials(potentials))
    builders = [checked_builder('compress', functools.partial(make, potential)) for potential in members.values()]
    if common.dry_run:
        names = [(node.label or name, f'pk {node.pk}' if node.is_stored else 'new') for name, node in members.items()]
        plan = [*code_rows(common.codes), ('jobs', str(len(builders)), 'one a potential')]
        show_plan([*plan, *(('potential', *name) for name in names)], common)
        return
    nodes = [start_process(builder, common) for builder in builders]
    if not common.daemon:
        echo.echo_report(f'take them with {" ".join(f"--potential {node.outputs.potential.pk}" for node in nodes)}')


@launch.command('explore')
@click.option('--structures', multiple=True, required=True, metavar='[NAME=]PK', help='Starts, a shard a system.')
@seed_option
@potential_option
@common_options(['lmp'])
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
    members = needed(load_potentials(potentials))
    builder = checked_builder(
        'explore',
        lambda: ExploreWorkChain.get_builder_from_protocol(
            common.codes, shards, members, seed, common.protocol, common.overrides, common.options
        ),
    )
    plan = [*code_rows(common.codes), *_explore_rows(builder, shards)]
    plan.append(('labels', f'≤ {builder.max_candidates.value}', 'frames are chosen for'))
    show_or_start(builder, plan, common)


@launch.command('learn')
@click.option('--structures', multiple=True, required=True, metavar='[NAME=]PK', help='Starts of the exploration.')
@click.option('--to-label', multiple=True, metavar='[NAME=]PK', help='Frames that are labelled first.')
@click.option('--frames', multiple=True, metavar='[NAME=]PK', help='Labelled frames to train on from the start.')
@seed_option
@potential_option
@engine_option
@common_options(['dp', 'lmp'], _LEARN_JOBS, optional_codes=ENGINES)
def learn(
    structures: tuple[str, ...],
    to_label: tuple[str, ...],
    frames: tuple[str, ...],
    seed: int,
    potentials: tuple[str, ...],
    engine: str,
    common: Common,
) -> None:
    """Learn actively: label, train, explore, choose, label again."""
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.workchains.learn import LearnWorkChain

    starts = load_named(structures, FramesData, 'structures')
    first = load_named(to_label, FramesData, 'to-label')
    shards = load_named(frames, FramesData, 'frames')
    members = load_potentials(potentials)
    codes = {**{name: common.codes[name] for name in ('dp', 'lmp')}, engine: code_of_engine(engine, common)}
    builder = checked_builder(
        'learn',
        lambda: LearnWorkChain.get_builder_from_protocol(
            codes,
            starts,
            first or None,
            shards or None,
            members or None,
            seed,
            common.protocol,
            common.overrides,
            {job: options_of(common.options, job, _LEARN_JOBS) for job in _LEARN_JOBS},
            engine,
        ),
    )
    n_rounds = builder.n_rounds.value
    per_round = builder.explore.max_candidates.value
    n_first = sum(len(shard) for shard in first.values())
    n_members = builder.train.n_members.value
    steps = builder.train.settings.get_dict()['n_steps']
    plan = [
        *code_rows(codes),
        ('rounds', f'≤ {n_rounds}', 'fewer if the committee agrees before'),
        ('labels', f'≤ {n_first + (n_rounds - 1) * per_round}', f'{n_first} first, then at most {per_round} a round'),
        ('trainings', f'≤ {n_rounds * n_members}', f'{n_members} members a round, {steps} steps each'),
        *((f'a round: {what}', number, remark) for what, number, remark in _explore_rows(builder.explore, starts)),
    ]
    show_or_start(builder, plan, common)


def _simulation(function: Any) -> Any:
    """The options of `deposit` and `heal`, which take the same."""
    for option in reversed(
        (
            click.option('--structure', metavar='PK', help='The start: a shard of frames (its first) or a structure.'),
            seed_option,
            potential_option,
            click.option('--restart', metavar='PK', help='An earlier run that broke off, to go on with.'),
            common_options(['lmp', 'python'], SIMULATION_JOBS),
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
        builder = checked_builder(
            verb, lambda: _with_options(_restarted(process, node, common.codes, common.dry_run), common.options)
        )
        earlier = builder.earlier
    else:
        members = needed(load_potentials(potentials))
        start: Any = load(structure, (FramesData, StructureData), 'structure') if structure else None
        builder = checked_builder(
            verb,
            lambda: _with_options(
                process.get_builder_from_protocol(
                    common.codes, members, start, seed, common.protocol, common.overrides
                ),
                common.options,
            ),
        )
    atoms = start_of(verb, builder)
    settings = validate(verb, builder.settings.get_dict(), {'seed': 1})
    assert isinstance(settings, TrajectorySettings)  # noqa: S101 (both verbs have such settings)
    lengths = ' x '.join(f'{length / 10:.2f}' for length in atoms.cell.lengths())
    plan: Plan = [
        *code_rows(common.codes),
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
        *settings_rows(builder.settings),
    ]
    if earlier:
        plan.append(('goes on from', str(len(earlier)), 'folders of the earlier run'))
    show_or_start(builder, plan, common)


def _with_options(builder: ProcessBuilder, options: dict[str, Any]) -> ProcessBuilder:
    """A builder of `deposit` or `heal` with options set on its jobs."""
    from aiida_liheal.workchains.protocol import set_options

    for job in SIMULATION_JOBS:
        # an earlier run may have been without an analysis
        if 'code' in builder[job]:
            set_options(builder[job], options_of(options, job, SIMULATION_JOBS))
    return builder


def _restarted(process: Any, node: Any, codes: dict[str, Any], dry_run: bool) -> ProcessBuilder:
    """A builder with the inputs of an earlier run of the same verb, to go on from where its jobs came to."""
    from aiida_liheal.workchains.points import folders_of, still_there, was_refused

    if node.process_label != process.__name__:
        raise ValueError(f'node {node.pk} is a {node.process_label}; --restart of this verb needs a {process.__name__}')
    if not node.is_terminated:
        raise ValueError(f'process {node.pk} is not over yet; `verdi process kill {node.pk}` ends it')
    if node.is_finished_ok:
        raise ValueError(f'process {node.pk} came to its end: there is nothing to go on with')
    if was_refused(node):
        cause = '; '.join(run.get('cause') or run['status'] for run in node.outputs.results['runs'])
        raise ValueError(
            f'process {node.pk} ended beyond a limit, or with atoms too many or too few ({cause}): its last restart '
            'file may be from after that, and what follows would hide it; launch it anew, with other settings or limits'
        )
    if 'flags' in node.outputs:
        echo.echo_warning(
            f'process {node.pk} went beyond limits that only flag it; `flags` of what goes on tells of its own part'
        )
    # a run that was killed left no outputs of its own: its jobs have the folders
    folders = still_there(folders_of(node, store=not dry_run))
    if not folders:
        raise ValueError(f'process {node.pk} left no folder of a job to go on from; launch it anew')
    builder = node.get_builder_restart()
    if 'packed' in node.inputs:
        # what a pack gave for it is gone on from, not taken over
        del builder.packed
    builder.lammps.code = codes['lmp']
    if 'python' in codes and 'analyse' in node.inputs:
        builder.analyse.code = codes['python']
    builder.earlier = folders
    return builder


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
            (
                f'runs of {name}',
                str(len(runs)),
                f'{atoms_of_frames(shards[name])} atoms, {steps} steps, {frames} frames',
            )
        )
    return rows
