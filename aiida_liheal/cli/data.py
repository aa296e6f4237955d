"""`aiida-liheal data`: frames and potentials in and out, what they are, and where they came from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.utils import echo

from aiida_liheal.cli.import_frames import import_commands, store, symbols_of, warn_of_doubts
from aiida_liheal.cli.params import fail, load, with_profile

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.data.potential import PotentialData

__all__ = ('data',)

#: Formats that frames are written in.
EXPORT_FORMATS = ('deepmd-npy', 'deepmd-mixed', 'deepmd-hdf5', 'extxyz', 'ase-db')
_SUFFIXES = {'.xyz': 'extxyz', '.extxyz': 'extxyz', '.h5': 'deepmd-hdf5', '.hdf5': 'deepmd-hdf5', '.db': 'ase-db'}
#: Most compositions that `info` lists one by one.
_MOST_ROWS = 12
#: Beyond this a spread of energies is hardly that of heat: metals boil below 6,000 K.
_MOST_SPREAD_K = 6000


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
        store(node, f'{member} of {name}')
    echo.echo_report(f'licence of these potentials: {card["licence"]}')


for _command in import_commands:
    import_.add_command(_command)


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
            for atoms in read_structures(path, kind, symbols_of(elements), directions, index, min_distance_A)
        ]
        frames = Frames.from_atoms(images)
        node = FramesData(frames, domain=domain)
    except ValueError as error:
        fail(str(error))
    node.label = label
    node.description = f'imported from {", ".join(map(str, paths))}'
    what = f'{len(paths)} file{"s" * (len(paths) > 1)}'
    store(node, what)
    warn_of_doubts(frames, what)


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

    symbols = symbols_of(elements) or ()
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
    store(node, str(files[0]))


def _load_ours(identifier: str) -> Any:
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.data.potential import PotentialData

    return load(identifier, (FramesData, PotentialData), 'data')


@data.command('info')
@click.argument('node', metavar='PK')
@click.option('--json', 'as_json', is_flag=True, help='Write JSON, with units in the keys.')
@with_profile
def info(node: str, as_json: bool) -> None:
    """Say what a shard of frames or a potential is.

    Of frames: counts, ranges of energy, force, volume and pressure, the shortest distance of two atoms, structures that
    are there more than once, and for each composition how far it reaches in energy, as the temperature at which a
    harmonic solid would have the mean energy above the lowest. Frames with a force above 20 eV/Å or atoms closer than
    1.2 Å, the default rules of quality, are named.
    """
    from aiida_liheal.data.frames import FramesData

    loaded = _load_ours(node)
    rows = [('pk', loaded.pk), ('uuid', loaded.uuid), ('label', loaded.label), ('description', loaded.description)]
    creator = loaded.creator
    made_by = f'{creator.process_label}<{creator.pk}>' if creator is not None else 'imported'
    doubts: list[str] = []
    if isinstance(loaded, FramesData):
        from aiida_liheal.structures.frame_facts import doubts_in_words, frame_facts

        facts = frame_facts(loaded.get_frames())
        if as_json:
            sources = {'sources': loaded.sources, 'left_out': loaded.left_out}
            content = {**dict(rows), 'domain': loaded.domain, 'made_by': made_by, **facts, **sources}
            echo.echo(json.dumps(content, indent=2))
            return
        rows += _frames_info(loaded, facts)
        doubts = doubts_in_words(facts) if len(loaded) else []
    elif as_json:
        content = {key.replace(' ', '_'): value for key, value in (*rows, *_potential_info(loaded))}
        echo.echo(json.dumps({**content, 'made_by': made_by}, indent=2))
        return
    else:
        rows += _potential_info(loaded)
    rows.append(('made by', made_by))
    echo.echo_tabulate([row for row in rows if row[1] not in ('', None)], tablefmt='plain', disable_numparse=True)
    for line in doubts:
        echo.echo_warning(f'{line}: see if that is meant to be trained on')


def _size(n_bytes: int) -> str:
    """A size in the unit that shows it."""
    if n_bytes < 1000:
        return f'{n_bytes} B'
    return f'{n_bytes / 1e3:.1f} kB' if n_bytes < 1e6 else f'{n_bytes / 1e6:.2f} MB'


def _frames_info(node: FramesData, facts: dict[str, Any]) -> list[tuple[str, Any]]:
    from aiida_liheal.structures.frame_facts import SAME_WITHIN_A

    smallest, largest = facts['n_atoms_min'], facts['n_atoms_max']
    rows: list[tuple[str, Any]] = [
        ('frames', facts['n_frames']),
        ('atoms a frame', smallest if smallest == largest else f'{smallest} to {largest}'),
        ('elements', ', '.join(node.elements)),
        ('domain', node.domain),
        ('labelled', 'yes' if node.is_labelled else 'no'),
        ('numbers', f'{facts["precision"]}, {_size(facts["n_bytes"])}'),
    ]
    for name, key, unit in (
        ('volume', 'volume_A3_per_atom', 'Å³/atom (cell, vacuum included)'),
        ('energy', 'energy_eV_per_atom', 'eV/atom'),
        ('largest force', 'largest_force_eV_per_A', 'eV/Å'),
        ('pressure', 'pressure_kB', 'kB'),
        ('temperature', 'kinetic_temperature_K', 'K (of the velocities)'),
    ):
        if key in facts:
            digits = 4 if name in ('energy', 'largest force') else 2
            rows.append((name, f'{facts[key]["min"]:.{digits}f} to {facts[key]["max"]:.{digits}f} {unit}'))
    if 'rms_force_eV_per_A' in facts:
        rows.append(('rms force', f'{facts["rms_force_eV_per_A"]:.4f} eV/Å a component'))
    if facts.get('shortest_distance_A') is not None:
        where = f'two atoms of frame {facts["shortest_distance_frame"]}'
        rows.append(('closest', f'{facts["shortest_distance_A"]:.3f} Å, {where}'))
    rows.append(('virials', 'yes' if facts['has_virials'] else 'no'))
    for formula, found in list(facts.get('compositions', {}).items())[:_MOST_ROWS]:
        n = found['n_frames']
        rows.append((formula, f'{n} frame{"s" * (n != 1)}{_spread(found)}'))
    if len(facts.get('compositions', {})) > _MOST_ROWS:
        rows.append(('…', f'{len(facts["compositions"]) - _MOST_ROWS} more compositions; --json has all'))
    groups = facts.get('duplicates', [])
    if groups:
        shown = '; '.join(' = '.join(map(str, group[:4])) for group in groups[:3])
        n = facts['n_duplicates']
        rows.append(('repeated', f'{n} frame{"s" * (n != 1)} within {SAME_WITHIN_A} Å of an earlier one: {shown}'))
        if facts.get('contradictions'):
            rows.append(('contradictions', f'{len(facts["contradictions"])} of these differ by over 1 meV/atom'))
    elif groups is not None and 'duplicates' in facts:
        rows.append(('repeated', f'none within {SAME_WITHIN_A} Å'))
    if node.sources:
        rows.append(('files', f'{len(node.sources)} ({", ".join(node.base.attributes.get("formats"))})'))
    if node.left_out:
        n_left_out = sum(len(entry['indices'] or [None]) for entry in node.left_out)
        rows.append(('left out', f'{n_left_out} at import; --json has files and causes'))
    rows.append(('further arrays', ', '.join(facts['extra'])))
    return rows


def _spread(found: dict[str, Any]) -> str:
    """How far frames of a composition reach in energy, in words; nothing for a single one."""
    if 'spread_K' not in found:
        return ''
    from ase.units import kB

    spread = found['spread_K']
    said = f', spread {spread:.0f} K (2 (mean - lowest energy) / 3 k_B)'
    if spread > _MOST_SPREAD_K:
        mean_eV = 1.5 * kB * spread
        return f'{said}: no heat, as the mean is {mean_eV:.2f} eV/atom above the lowest; look for labels that are wrong'
    return said


def _potential_info(node: PotentialData) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = [
        ('kind', node.kind),
        ('elements', ', '.join(node.elements)),
        *((f'file {role}', f'{name}, {_size(len(node.read(role)))}') for role, name in node.roles.items()),
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
            n = errors['n_frames']
            rows.append((f'held out, {domain}', f'{words} ({n} frame{"s" * (n != 1)})'))
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
    type=click.Choice([*EXPORT_FORMATS, 'files']),
    help='By PATH if not given: .xyz and .extxyz are extxyz, .h5 and .hdf5 deepmd-hdf5, .db ase-db; a name without a '
    'suffix becomes a folder deepmd-npy. files (a folder) is for potentials.',
)
@with_profile
def export(node: str, path: Path, kind: str | None) -> None:
    """Write frames or the files of a potential to PATH, which must not exist yet.

    All digits are written: an import gives the same numbers in the same precision. DeePMD-kit's formats hold labelled
    frames only and know no slabs: what is periodic in part becomes periodic. For DP-GEN write deepmd-npy. OUTCAR and
    vasprun.xml are what VASP writes of a run, and are not made here.
    """
    from aiida_liheal.data.frames import FramesData

    loaded = _load_ours(node)
    if path.exists() or path.is_symlink():
        fail(f'{path} is there already; give another PATH')
    if not path.absolute().parent.is_dir():
        fail(f'{path}: there is no folder {path.absolute().parent}')
    if not isinstance(loaded, FramesData):
        if kind not in (None, 'files'):
            fail(f'node {loaded.pk} is a potential: its format is files, not {kind}')
        if kind is None and path.suffix:
            fail(
                f'{path}: the files of a potential go into a folder, whose name has no suffix; for a folder of just '
                'that name add --format files'
            )
        # the names may come with an archive from somebody else
        if strange := [name for name in loaded.roles.values() if Path(name).name != name]:
            fail(f'node {loaded.pk} holds a file called {strange[0]!r}: that is no name of a file in a folder')
        path.mkdir()
        for role, name in loaded.roles.items():
            (path / name).write_bytes(loaded.read(role))
        echo.echo_success(f'wrote {", ".join(loaded.roles.values())} to {path}')
        return
    kind = kind or _format_of(path)
    if kind == 'files':
        fail(f'node {loaded.pk} is a shard of frames: its formats are {", ".join(EXPORT_FORMATS)}')
    frames = loaded.get_frames()
    if not len(frames):
        fail(f'node {loaded.pk} holds no frames')
    from aiida_liheal.structures.formats import write_frames

    try:
        write_frames(frames, path, kind)
    except ValueError as error:
        fail(str(error))
    echo.echo_success(f'wrote {len(frames)} frame{"s" * (len(frames) != 1)} to {path} ({kind})')
    is_partly = frames.pbc.any(axis=1) & ~frames.pbc.all(axis=1)
    if kind.startswith('deepmd') and is_partly.any():
        echo.echo_warning(
            f'frames that are periodic in part: {int(is_partly.sum())} of {len(frames)}; {kind} holds them as periodic'
        )
    left = [name for name in sorted(frames.extra) if name not in ('source_file', 'source_index')]
    left += ['velocities'] if frames.velocities is not None and kind.startswith('deepmd') else []
    if left:
        echo.echo_warning(f'{kind} holds structures and labels: {", ".join(left)} of these frames are not in it')


def _format_of(path: Path) -> str:
    """The format of frames that goes with a name; fails with a message if none does."""
    suffix = path.suffix.lower()
    if suffix and suffix not in _SUFFIXES:
        known = ', '.join(f'{end} ({kind})' for end, kind in _SUFFIXES.items())
        fail(
            f'{path}: no format has the suffix {path.suffix}; known are {known}. A folder of DeePMD-kit systems has a '
            'name without a suffix, such as systems; for any other name add --format'
        )
    return _SUFFIXES.get(suffix, 'deepmd-npy')


@data.command('trace')
@click.argument('node', metavar='PK')
@click.option('--index', type=int, help='One frame of the shard, by its number from 0.')
@click.option('--json', 'as_json', is_flag=True, help='For frames: write JSON.')
@with_profile
def trace(node: str, index: int | None, as_json: bool) -> None:
    """Say which job or file labels are from and which trainings took them, or what a potential was trained on.

    PK may be a shard of frames, a potential, or a process such as a deposition: then its potentials are traced. Of
    imported frames the file, its format and SHA-256, and the place in it are told.
    """
    from aiida.orm import ProcessNode

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.data.potential import PotentialData
    from aiida_liheal.report.ledger import trace_frames, trace_in_words

    loaded: Any = load(node, (FramesData, PotentialData, ProcessNode), 'trace')
    if isinstance(loaded, FramesData):
        if index is not None and not 0 <= index < len(loaded):
            fail(f'index is {index}; the shard holds frames 0 to {len(loaded) - 1}')
        told = trace_frames(loaded, index)
        lines = iter([json.dumps(told, indent=2)]) if as_json else trace_in_words(told)
    elif as_json:
        fail('--json is for shards of frames')
    elif index is not None:
        fail('--index is for shards of frames')
    elif isinstance(loaded, PotentialData):
        lines = _trace_potential(loaded)
    else:
        lines = _trace_process(loaded)
    for line in lines:
        echo.echo(line)


def _trace_potential(node: PotentialData, depth: int = 0, seen: set[int] | None = None) -> Iterator[str]:
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.data.potential import PotentialData
    from aiida_liheal.report.ledger import name_of
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
    yield f'{pad}  {"compressed" if is_compressed else "trained"} by {name_of(creator)}'
    for link in creator.base.links.get_incoming().all():
        if isinstance(link.node, FramesData):
            labeller: Any = link.node.creator
            by = f'labelled by {name_of(labeller)}' if labeller is not None else 'imported'
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
