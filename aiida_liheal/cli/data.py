"""`aiida-liheal data`: frames and potentials in and out, what they are, and where they came from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import fail, load, stored_twin, with_profile

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.data.potential import PotentialData

__all__ = ('data',)


@click.group('data', cls=VerdiCommandGroup)
def data() -> None:
    """Frames and potentials: import, export, look at them, trace them."""


@data.group('import')
def import_() -> None:
    """Bring frames and potentials into the profile. What is there already is not stored again."""


@import_.command('builtin')
@click.argument('name', default='li')
@with_profile
def import_builtin(name: str) -> None:
    """Import a committee that ships with the package: li."""
    from aiida_liheal.data.builtin import builtin_card, builtin_committee

    try:
        committee, card = builtin_committee(name), builtin_card(name)
    except ValueError as error:
        fail(str(error))
    for member, node in committee.items():
        _store(node, f'{member} of {name}')
    echo.echo_report(f'licence of these potentials: {card["licence"]}')


@import_.command('deepmd-npy')
@click.argument('paths', metavar='PATH...', nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option('--domain', help='What kind of structures these are, such as bulk or surface; errors are told by domain.')
@click.option('--label', default='', help='A label for the nodes.')
@with_profile
def import_deepmd(paths: tuple[Path, ...], domain: str | None, label: str) -> None:
    """Import labelled frames from DeePMD-kit npy systems, a shard a PATH.

    A PATH is one system (with type.raw and set.000) or a folder with systems anywhere below it, which become one
    shard. Energies in eV, forces in eV/Å, virials in eV.
    """
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.structures.formats import read_deepmd_npy
    from aiida_liheal.structures.frames import Frames

    shards = []
    for path in paths:
        systems = sorted(file.parent for file in path.rglob('type.raw')) if path.is_dir() else []
        if not systems:
            fail(f'{path}: no DeePMD-kit npy system there (a folder with type.raw and set.000)')
        try:
            frames = Frames.concatenate([read_deepmd_npy(system) for system in systems])
        except ValueError as error:
            fail(str(error))
        node = FramesData(frames, domain=domain)
        node.label = label
        node.description = f'imported from {path}'
        shards.append((path, node))
    for path, node in shards:
        _store(node, str(path))


@import_.command('structures')
@click.argument('paths', metavar='FILE...', nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    '--format',
    'kind',
    type=click.Choice(['xyz', 'poscar', 'cif', 'lammps-data']),
    help='By name and content of each FILE if not given; *.data and *.lmp are lammps-data.',
)
@click.option('--elements', help='For lammps-data: chemical symbols in the order of its types, such as Li or Li,O.')
@click.option('--pbc', metavar='TTF', help='Periodic (T) or not (F) along x, y and z, in place of what FILE says.')
@click.option(
    '--index', default=':', show_default=True, help='Which structures of a FILE: -1 the last, ::10 each tenth.'
)
@click.option(
    '--min-distance',
    'min_distance_A',
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help='Shortest distance between atoms that is allowed, in Å.',
)
@click.option('--domain', help='What kind of structures these are, such as bulk or surface; errors are told by domain.')
@click.option('--label', default='', help='A label for the node.')
@with_profile
def import_structures(
    paths: tuple[Path, ...],
    kind: str | None,
    elements: str | None,
    pbc: str | None,
    index: str,
    min_distance_A: float,
    domain: str | None,
    label: str,
) -> None:
    """Import the structures of all FILEs as one shard: to label, to explore from, to deposit on or to heal.

    Extended xyz, POSCAR, CIF, and data files of LAMMPS in units metal. A slab to deposit on is not periodic along z,
    which a POSCAR cannot say: --pbc TTF. Labels that a file has (energy, forces, stress) are kept if all structures
    have them.
    """
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.structures.formats import read_structures
    from aiida_liheal.structures.frames import Frames

    if pbc is not None and not re.fullmatch('[TF]{3}', pbc):
        fail(f'pbc is {pbc!r}; allowed are three letters T or F, such as TTF for a slab')
    if not re.fullmatch(r'-?\d+|(-?\d*:){1,2}-?\d*', index):
        fail(f'index is {index!r}; allowed are a number, such as -1, or a range, such as 10:20 or ::10')
    directions = (pbc[0] == 'T', pbc[1] == 'T', pbc[2] == 'T') if pbc else None
    try:
        images = [
            atoms
            for path in paths
            for atoms in read_structures(path, kind, _symbols(elements), directions, index, min_distance_A)
        ]
        node = FramesData(Frames.from_atoms(images), domain=domain)
    except ValueError as error:
        fail(str(error))
    node.label = label
    node.description = f'imported from {", ".join(map(str, paths))}'
    _store(node, f'{len(paths)} file{"s" * (len(paths) > 1)}')


def _symbols(elements: str | None) -> tuple[str, ...] | None:
    """Chemical symbols with commas between them."""
    from ase.data import atomic_numbers

    if elements is None:
        return None
    symbols = tuple(elements.split(','))
    unknown = [symbol for symbol in symbols if symbol == 'X' or symbol not in atomic_numbers]
    if unknown:
        fail(f'elements: {", ".join(map(repr, unknown))} is no chemical element; give symbols such as Li or Li,O')
    return symbols


@import_.command('potential')
@click.argument('files', metavar='FILE...', nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option('--kind', default='deepmd', show_default=True, help='deepmd (a frozen model, .pb), meam or snap.')
@click.option('--elements', required=True, help='Chemical symbols in the order of its types, such as Li or Li,O.')
@click.option(
    '--input',
    'training_input',
    type=click.Path(path_type=Path),
    help='For deepmd: the input (JSON) that the model was trained with; needed to train on from it.',
)
@click.option('--label', default='', help='A label for the node.')
@with_profile
def import_potential(
    files: tuple[Path, ...], kind: str, elements: str, training_input: Path | None, label: str
) -> None:
    """Import a potential from its FILEs: a frozen DeePMD-kit model, or the files of a classical potential."""
    from aiida_liheal.data.potential import PotentialData

    symbols = _symbols(elements) or ()
    missing = [str(path) for path in (*files, training_input) if path is not None and not path.is_file()]
    if missing:
        fail(f'there is no file {", ".join(missing)}')
    contents: dict[str, str | Path | bytes] = {path.name: path for path in files}
    if kind == 'deepmd':
        if len(files) != 1:
            fail(f'a deepmd potential is one frozen model, {len(files)} files were given')
        contents = {'frozen': files[0]}
        if training_input is not None:
            contents['input'] = training_input
    try:
        node = PotentialData(kind=kind, elements=symbols, files=contents)
    except ValueError as error:
        fail(f'{files[0]}: {error}')
    node.label = label
    node.description = f'imported from {files[0]}'
    _store(node, str(files[0]))


def _store(node: Any, what: str) -> None:
    """Store a node unless there is one of the same content, and say which it is."""
    from aiida_liheal.report.tree import describe

    kept = stored_twin(node)
    if kept.is_stored:
        echo.echo_report(f'{what}: is there already, pk {kept.pk}')
    else:
        kept.store()
        echo.echo_success(f'{what}: {describe(kept)}, pk {kept.pk}')


def _load_ours(identifier: str) -> Any:
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.data.potential import PotentialData

    return load(identifier, (FramesData, PotentialData), 'data')


@data.command('info')
@click.argument('node', metavar='PK')
@with_profile
def info(node: str) -> None:
    """Say what a shard of frames or a potential is."""
    from aiida_liheal.data.frames import FramesData

    loaded = _load_ours(node)
    rows = [('pk', loaded.pk), ('uuid', loaded.uuid), ('label', loaded.label), ('description', loaded.description)]
    rows += _frames_info(loaded) if isinstance(loaded, FramesData) else _potential_info(loaded)
    creator = loaded.creator
    rows.append(('made by', f'{creator.process_label}<{creator.pk}>' if creator is not None else 'imported'))
    echo.echo_tabulate([row for row in rows if row[1] not in ('', None)], tablefmt='plain', disable_numparse=True)


def _frames_info(node: FramesData) -> list[tuple[str, Any]]:
    import numpy as np

    frames = node.get_frames()
    smallest, largest = node.base.attributes.get('n_atoms_min'), node.base.attributes.get('n_atoms_max')
    rows: list[tuple[str, Any]] = [
        ('frames', len(node)),
        ('atoms a frame', smallest if smallest == largest else f'{smallest} to {largest}'),
        ('elements', ', '.join(node.elements)),
        ('domain', node.domain),
        ('labelled', 'yes' if node.is_labelled else 'no'),
    ]
    if len(frames):
        volumes = frames.volumes / frames.counts
        rows.append(('volume', f'{volumes.min():.2f} to {volumes.max():.2f} Å³/atom (cell, vacuum included)'))
    if frames.energies is not None and len(frames):
        energies = frames.energies / frames.counts
        rows.append(('energy', f'{energies.min():.4f} to {energies.max():.4f} eV/atom'))
    if frames.forces is not None and len(frames):
        norms = np.linalg.norm(frames.forces, axis=1)
        rms = float(np.sqrt(np.mean(frames.forces**2)))
        rows.append(('forces', f'rms {rms:.4f} eV/Å a component, largest {norms.max():.4f} eV/Å'))
    rows.append(('virials', 'yes' if frames.virials is not None else 'no'))
    rows.append(('further arrays', ', '.join(sorted(frames.extra))))
    return rows


def _potential_info(node: PotentialData) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = [
        ('kind', node.kind),
        ('elements', ', '.join(node.elements)),
        *((f'file {role}', f'{name}, {len(node.read(role)) / 1e6:.2f} MB') for role, name in node.roles.items()),
    ]
    content = node.training_input
    if content is not None:
        descriptor, fitting = content['model']['descriptor'], content['model']['fitting_net']
        rows += [
            ('cut-off', f'{descriptor["rcut"]} Å'),
            ('embedding', descriptor['neuron']),
            ('fitting', fitting['neuron']),
            ('steps', content['training']['numb_steps']),
        ]
    creator = node.creator
    if creator is not None and 'summary' in creator.outputs:
        for domain, errors in creator.outputs.summary.get_dict().get('holdout', {}).items():
            words = ', '.join(f'{value:.3g} {_unit(key)}' for key, value in errors.items() if key.endswith(_UNITS))
            rows.append((f'held out, {domain}', f'{words} ({errors["n_frames"]} frames)'))
    return rows


_UNITS = ('meV_per_atom', 'meV_per_A')


def _unit(key: str) -> str:
    name = key.split('_', 1)[0]
    return f'{"meV/atom" if key.endswith("per_atom") else "meV/Å"} ({name})'


@data.command('export')
@click.argument('node', metavar='PK')
@click.argument('path', type=click.Path(path_type=Path))
@click.option(
    '--format',
    'kind',
    type=click.Choice(['deepmd-npy', 'extxyz', 'files']),
    help='deepmd-npy (a folder) or extxyz for frames, files (a folder) for potentials; by PATH if not given.',
)
@with_profile
def export(node: str, path: Path, kind: str | None) -> None:
    """Write frames or the files of a potential to PATH, which must not exist yet."""
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.structures.formats import write_deepmd_npy

    loaded = _load_ours(node)
    if path.exists():
        fail(f'{path} is there already; give another PATH')
    if not path.absolute().parent.is_dir():
        fail(f'{path}: there is no folder {path.absolute().parent}')
    if not isinstance(loaded, FramesData):
        if kind not in (None, 'files'):
            fail(f'node {loaded.pk} is a potential: its format is files, not {kind}')
        path.mkdir()
        for role, name in loaded.roles.items():
            (path / name).write_bytes(loaded.read(role))
        echo.echo_success(f'wrote {", ".join(loaded.roles.values())} to {path}')
        return
    kind = kind or ('extxyz' if path.suffix in ('.xyz', '.extxyz') else 'deepmd-npy')
    if kind == 'files':
        fail(f'node {loaded.pk} is a shard of frames: its formats are deepmd-npy and extxyz')
    frames = loaded.get_frames()
    if kind == 'extxyz':
        import ase.io

        ase.io.write(path, list(frames), format='extxyz')
    else:
        try:
            write_deepmd_npy(frames, path)
        except ValueError as error:
            fail(str(error))
    echo.echo_success(f'wrote {len(frames)} frames to {path}')


@data.command('trace')
@click.argument('node', metavar='PK')
@click.option('--index', type=int, help='One frame of the shard, by its number from 0.')
@with_profile
def trace(node: str, index: int | None) -> None:
    """Say which job labelled frames and which trainings took them, or what a potential was trained on.

    PK may be a shard of frames, a potential, or a process such as a deposition: then its potentials are traced.
    """
    from aiida.orm import ProcessNode

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.data.potential import PotentialData

    loaded: Any = load(node, (FramesData, PotentialData, ProcessNode), 'trace')
    if isinstance(loaded, FramesData):
        if index is not None and not 0 <= index < len(loaded):
            fail(f'index is {index}; the shard holds frames 0 to {len(loaded) - 1}')
        lines = _trace_frames(loaded, index)
    elif index is not None:
        fail('--index is for shards of frames')
    elif isinstance(loaded, PotentialData):
        lines = _trace_potential(loaded)
    else:
        lines = _trace_process(loaded)
    for line in lines:
        echo.echo(line)


def _name(node: ProcessNode) -> str:
    """A process with the verb that called it."""
    caller = node.caller
    verb = f' of {caller.process_label}<{caller.pk}>' if caller is not None else ''
    return f'{node.process_label}<{node.pk}>{verb}'


def _trace_frames(node: FramesData, index: int | None) -> Iterator[str]:
    from aiida_liheal.report.tree import describe

    yield f'FramesData<{node.pk}>: {describe(node)}'
    if index is not None:
        frames = node.get_frames()
        energy = f', {frames.energies[index]:.6f} eV' if frames.energies is not None else ''
        yield f'frame {index}: {int(frames.counts[index])} atoms{energy}'
    yield from _origin(node, index)
    yield from _users(node, index)


def _origin(node: FramesData, index: int | None, depth: int = 0) -> Iterator[str]:
    """The job that made a shard, with its settings, and what it was made from, as far as the links go."""
    from aiida.orm import Dict

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.report.tree import describe

    pad = '  ' * depth
    creator: Any = node.creator
    if creator is None:
        yield f'{pad}imported: {node.description or "without a description"}'
        return
    verb = 'labelled' if node.is_labelled else 'made'
    yield f'{pad}{verb} by {_name(creator)}'
    if 'settings' in creator.inputs and isinstance(creator.inputs.settings, Dict) and node.is_labelled:
        settings = creator.inputs.settings.get_dict()
        yield f'{pad}  settings: ' + ', '.join(f'{key} = {value}' for key, value in settings.items())
    if 'summary' in creator.outputs:
        versions = creator.outputs.summary.get_dict().get('versions') or {}
        if versions:
            yield f'{pad}  versions: ' + ', '.join(f'{name} {version}' for name, version in versions.items())
    frames = node.get_frames()
    if index is not None and 'step' in frames.extra:
        found = ', '.join(
            f'{key} {frames.extra[key][index]:g}' for key in sorted(frames.extra) if frames.extra[key].ndim == 1
        )
        yield f'{pad}  found in MD: {found}'
    source = creator.inputs.frames if 'frames' in creator.inputs else None
    if not isinstance(source, FramesData):
        return
    before = None
    if index is not None and 'source_index' in frames.extra:
        before = int(frames.extra['source_index'][index])
        yield f'{pad}  from frame {before} of FramesData<{source.pk}>: {describe(source)}'
    else:
        yield f'{pad}  from FramesData<{source.pk}>: {describe(source)}'
    yield from _origin(source, before, depth + 1)


def _users(node: FramesData, index: int | None) -> Iterator[str]:
    """The trainings that took a shard, and whether one frame of it was trained on or held out."""
    from aiida.common.links import LinkType

    from aiida_liheal.calculations.dp_settings import DpTrainSettings
    from aiida_liheal.calculations.dp_train import split_shard

    links = node.base.links.get_outgoing(link_type=LinkType.INPUT_CALC).all()
    trainings = [link for link in links if getattr(link.node, 'process_label', '') == 'DpTrainCalculation']
    if not trainings:
        yield 'no training took it'
    for link in trainings:
        job: Any = link.node
        # a shard given as `bulk` is linked as `frames__bulk`; the held-out share is drawn by that name
        name = link.link_label.removeprefix('frames__')
        settings = DpTrainSettings.model_validate(job.inputs.settings.get_dict())
        chosen, held = split_shard(name, len(node), settings)
        if index is None:
            part = f'{len(chosen)} frames trained on, {len(held)} held out'
        else:
            part = 'held out' if index in held else 'trained on'
        state = f'exit code {job.exit_status}' if job.exit_status else job.process_state.value
        yield f'taken by {_name(job)} as {name}: {part} ({state}, seed {settings.seed})'


def _trace_potential(node: PotentialData, depth: int = 0, seen: set[int] | None = None) -> Iterator[str]:
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.data.potential import PotentialData
    from aiida_liheal.report.tree import describe, pk_of

    seen = set() if seen is None else seen
    pad = '  ' * depth
    label = f' ({node.label})' if node.label else ''
    yield f'{pad}PotentialData<{node.pk}>{label}: {describe(node)}'
    if pk_of(node) in seen:
        return
    seen.add(pk_of(node))
    creator: Any = node.creator
    if creator is None:
        yield f'{pad}  imported: {node.description or "without a description"}'
        return
    is_compressed = creator.process_label == 'DpCompressCalculation'
    yield f'{pad}  {"compressed" if is_compressed else "trained"} by {_name(creator)}'
    for link in creator.base.links.get_incoming().all():
        if isinstance(link.node, FramesData):
            labeller: Any = link.node.creator
            by = f'labelled by {_name(labeller)}' if labeller is not None else 'imported'
            yield f'{pad}  on FramesData<{link.node.pk}>: {describe(link.node)}, {by}'
        elif isinstance(link.node, PotentialData):
            yield f'{pad}  {"made" if is_compressed else "started"} from'
            yield from _trace_potential(link.node, depth + 2, seen)


def _trace_process(node: ProcessNode) -> Iterator[str]:
    from aiida_liheal.data.potential import PotentialData

    found = False
    seen: set[int] = set()
    for link in node.base.links.get_incoming().all():
        if isinstance(link.node, PotentialData):
            found = True
            yield f'{link.link_label.replace("__", ".")}:'
            yield from _trace_potential(link.node, 1, seen)
    if not found:
        yield f'{node.process_label}<{node.pk}> took no potential'
