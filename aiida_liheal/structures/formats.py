"""Labelled frames from and to DeePMD-kit's systems, extended xyz and ASE databases; structures from files.

What is written is read again to the last bit. Runs of VASP are in `vasp.py`, trees of files in `imports.py`.
"""

from __future__ import annotations

import io
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from aiida_liheal.structures.checks import check_no_overlap
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.reading import (
    LeftOut,
    Reading,
    join_labelled,
    note_not_taken,
    opened,
    text_lines,
)

if TYPE_CHECKING:
    import dpdata

__all__ = (
    'LABEL_KEYS',
    'STRUCTURE_FORMATS',
    'group_by_composition',
    'read_ase_db',
    'read_deepmd_hdf5',
    'read_deepmd_npy',
    'read_deepmd_system',
    'read_extxyz',
    'read_structures',
    'to_labeled_system',
    'write_ase_db',
    'write_deepmd_hdf5',
    'write_deepmd_mixed',
    'write_deepmd_npy',
    'write_extxyz',
    'write_frames',
)

#: Formats of structure files by our names, with ASE's names for them.
STRUCTURE_FORMATS = {'xyz': 'extxyz', 'poscar': 'vasp', 'cif': 'cif', 'lammps-data': 'lammps-data'}


def group_by_composition(frames: Frames) -> list[NDArray]:
    """Indices of the frames that share one sequence of atom types, a list entry a group, in order of appearance.

    A DeePMD-kit system holds frames of one such group; it is periodic or not at all, so frames that are not periodic
    are groups of their own.
    """
    groups: dict[tuple[bytes, bool], list[int]] = {}
    offsets = frames.offsets
    types = np.ascontiguousarray(frames.types, dtype=np.int32)
    is_periodic = np.asarray(frames.pbc.any(axis=1)).tolist()
    for index in range(len(frames)):
        content = types[offsets[index] : offsets[index + 1]].tobytes()
        groups.setdefault((content, is_periodic[index]), []).append(index)
    return [np.array(indices, dtype=np.int64) for indices in groups.values()]


def _labels(frames: Frames) -> tuple[NDArray, NDArray]:
    """Energies and forces of frames; a ValueError without them."""
    if frames.energies is None or frames.forces is None:
        n = '1 frame has' if len(frames) == 1 else f'{len(frames)} frames have'
        raise ValueError(f'{n} no energies and forces; DeePMD-kit trains on labelled frames only')
    return frames.energies, frames.forces


def to_labeled_system(frames: Frames, type_map: tuple[str, ...] | None = None) -> dpdata.LabeledSystem:
    """Frames of one composition as a dpdata system.

    Raises ValueError if the frames have no energies and forces, if their compositions differ, or if an element is
    missing from `type_map`.
    """
    import dpdata

    energies, forces = _labels(frames)
    if len(group_by_composition(frames)) != 1:
        raise ValueError(
            'the frames differ in composition or in being periodic; split them with `group_by_composition` first'
        )
    names = tuple(type_map or frames.elements)
    missing = sorted(set(frames.elements) - set(names))
    if missing:
        raise ValueError(f'elements {", ".join(missing)} are not in the type map {", ".join(names)}')
    n_atoms = int(frames.counts[0])
    types = np.array([names.index(symbol) for symbol in frames.symbols(0)])
    data = {
        'atom_names': list(names),
        'atom_numbs': [int(np.sum(types == index)) for index in range(len(names))],
        'atom_types': types,
        'orig': np.zeros(3),
        'cells': frames.cells,
        'coords': frames.positions.reshape(len(frames), n_atoms, 3),
        'energies': energies,
        'forces': forces.reshape(len(frames), n_atoms, 3),
    }
    if frames.virials is not None:
        data['virials'] = frames.virials
    if not frames.pbc.all():
        data['nopbc'] = not frames.pbc.any()
    return dpdata.LabeledSystem(data=data)


def _precision(frames: Frames) -> type:
    """The shortest type that holds all numbers of these frames as they are."""
    arrays = [frames.positions, frames.cells, frames.energies, frames.forces, frames.virials]
    found = np.result_type(*[array for array in arrays if array is not None])
    return np.float32 if found == np.float32 else np.float64


def write_deepmd_npy(frames: Frames, folder: str | Path, type_map: tuple[str, ...] | None = None) -> list[Path]:
    """Write labelled frames as DeePMD-kit npy systems `folder/g000`, `folder/g001`, … and return their paths.

    Numbers are written in the precision of the frames, the longest if there are several. Raises as
    `to_labeled_system`.
    """
    _labels(frames)
    paths = []
    for number, indices in enumerate(group_by_composition(frames)):
        path = Path(folder) / f'g{number:03d}'
        system = to_labeled_system(frames.select(indices), type_map)
        system.to('deepmd/npy', str(path), set_size=len(indices), prec=_precision(frames))
        if (path / 'nopbc').exists():
            # dpdata keeps no cell then, and DeePMD-kit looks at none
            cells = frames.cells[indices].reshape(-1, 9).astype(_precision(frames))
            np.save(path / 'set.000' / 'box.npy', cells, allow_pickle=False)
        paths.append(path)
    return paths


def write_deepmd_mixed(frames: Frames, folder: str | Path) -> list[Path]:
    """Write labelled frames in DeePMD-kit's mixed-type layout, a system a number of atoms, and return their paths.

    The frames of a system keep their order whatever their compositions; those that are not periodic are systems of
    their own. Raises ValueError if they have no labels.
    """
    _labels(frames)
    paths = []
    is_periodic = np.asarray(frames.pbc.any(axis=1))
    for n_atoms, with_period in sorted(set(zip(frames.counts.tolist(), is_periodic.tolist(), strict=True))):
        part = frames.select(np.flatnonzero((frames.counts == n_atoms) & (is_periodic == with_period)))
        assert part.energies is not None  # noqa: S101  for mypy: checked above
        assert part.forces is not None  # noqa: S101
        path = Path(folder) / (f'{n_atoms}' if with_period else f'{n_atoms}_nopbc')
        (path / 'set.000').mkdir(parents=True)
        (path / 'type.raw').write_text('0\n' * n_atoms)
        (path / 'type_map.raw').write_text('\n'.join(frames.elements) + '\n')
        if not with_period:
            (path / 'nopbc').touch()
        arrays = {
            'coord': part.positions.reshape(len(part), -1),
            'box': part.cells.reshape(len(part), 9),
            'energy': part.energies,
            'force': part.forces.reshape(len(part), -1),
            'real_atom_types': part.types.astype(np.int32).reshape(len(part), -1),
        }
        if part.virials is not None:
            arrays['virial'] = part.virials.reshape(len(part), 9)
        for name, array in arrays.items():
            np.save(path / 'set.000' / f'{name}.npy', array, allow_pickle=False)
        paths.append(path)
    return paths


def write_deepmd_hdf5(frames: Frames, path: str | Path) -> None:
    """Write labelled frames as one HDF5 file of DeePMD-kit systems `g000`, `g001`, …. Raises as `to_labeled_system`."""
    import h5py

    _labels(frames)
    groups = group_by_composition(frames)
    systems = [to_labeled_system(frames.select(indices)) for indices in groups]
    with h5py.File(path, 'x') as file:
        for number, system in enumerate(systems):
            group = file.create_group(f'g{number:03d}')
            system.to('deepmd/hdf5', group, set_size=len(groups[number]), comp_prec=_precision(frames))
            if 'nopbc' in group:
                group['set.000/box.npy'] = frames.cells[groups[number]].reshape(-1, 9).astype(_precision(frames))


def _take_npy(path: Path) -> NDArray | None:
    """An array of numbers in a file, None if there is no file. Raises ValueError if it is none; pickles are refused."""
    if not path.is_file():
        return None
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError) as error:
        raise ValueError(f'{path.parent.name}/{path.name} cannot be read: {error}') from error


#: Arrays of a set that are read.
_SYSTEM_ARRAYS = {'box', 'coord', 'energy', 'force', 'virial', 'real_atom_types'}


def _join_sets(
    take: Callable[[str, str], NDArray | None],
    sets: Mapping[str, set[str]],
    types: NDArray,
    named: Sequence[str] | None,
    elements: Sequence[str] | None,
    is_periodic: bool,
) -> Reading:
    """The frames of a DeePMD-kit system, mixed or not, whose arrays `take(set, name)` gives; `sets` has their names.

    `named` are the elements of its type map, `elements` those that are given for a system without one. Those that no
    atom has are left out. Raises ValueError, with the array, if one is missing or does not fit.
    """
    names = elements if named is None else named
    if names is None:
        n_types = len(np.unique(types))
        raise ValueError(
            f'it has no type_map.raw; give the elements of its types in order, such as --elements Li or Li,O (type.raw '
            f'has {n_types} type{"s" * (n_types != 1)})'
        )
    unknown = [name for name in names if name not in atomic_numbers or name == 'X']
    if unknown:
        raise ValueError(f'type_map.raw names {unknown[0]!r}, which is no chemical element')
    found: dict[str, list[NDArray]] = {}
    all_types, n_given = [], len(types)
    for name in sets:
        arrays = {key: take(name, key) for key in _SYSTEM_ARRAYS}
        lacking = [f'{key}.npy' for key in ('box', 'coord', 'energy', 'force') if arrays[key] is None]
        if lacking == ['box.npy'] and not is_periodic:
            raise ValueError(f'{name} is not periodic (nopbc) and keeps no cell (box.npy); frames need one')
        if lacking:
            raise ValueError(
                f'{", ".join(lacking)} is missing in {name}; frames need a cell, positions, energies and forces'
            )
        n_frames = len(arrays['coord']) if arrays['coord'] is not None and arrays['coord'].ndim else 0
        shapes = {'box': 9, 'coord': 3 * n_given, 'energy': 1, 'force': 3 * n_given, 'virial': 9}
        for key, width in shapes.items():
            array = arrays[key]
            if array is None:
                continue
            if array.size != n_frames * width or array.dtype.kind not in 'fiu':
                raise ValueError(
                    f'{name}/{key}.npy holds {array.size} numbers of type {array.dtype}; {n_frames} frames of '
                    f'{n_given} atoms need {n_frames * width}'
                )
            found.setdefault(key, []).append(array.reshape(n_frames, width))
        real = arrays['real_atom_types']
        if real is not None and (real.shape != (n_frames, n_given) or real.dtype.kind not in 'fiu'):
            raise ValueError(f'{name}/real_atom_types.npy has shape {real.shape}, needed is {(n_frames, n_given)}')
        all_types.append(np.tile(types, (n_frames, 1)) if real is None else real.astype(np.int64))
    joined = np.concatenate(all_types)
    if joined.size and not -1 <= joined.min() <= joined.max() < len(names):
        raise ValueError(f'types run from {joined.min()} to {joined.max()}, its elements are {", ".join(names)}')
    # atoms of type -1 only fill up the rows of the mixed layout
    real_atoms = joined >= 0
    lacking = [name for name, given in sets.items() if 'virial' not in given]
    notes = []
    if len(lacking) == len(sets):
        notes.append('there is no virial.npy: frames without virials')
    elif lacking:
        notes.append(
            f'{", ".join(lacking)} of {len(sets)} sets has no virial.npy; the virials of the others are left out'
        )
    if named is not None and elements is not None and list(named) != list(elements):
        notes.append(f'its type_map.raw says {", ".join(named)}: the elements that were given are not used')
    further = sorted({name for given in sets.values() for name in given} - _SYSTEM_ARRAYS)
    if further:
        notes.append(f'not taken beside structure and labels: {", ".join(f"{name}.npy" for name in further)}')
    joined_arrays = {key: np.concatenate(parts) for key, parts in found.items() if len(parts) == len(sets)}
    # a type map may name many elements that are not there: nobody is to be asked for their potentials
    used = np.unique(joined[real_atoms])
    numbers = np.zeros(len(names), dtype=np.int32)
    numbers[used] = np.arange(len(used))

    def per_atom(key: str) -> NDArray:
        return joined_arrays[key].reshape(*joined.shape, 3)[real_atoms]

    n_frames = len(joined)
    frames = Frames(
        elements=tuple(names[number] for number in used),
        counts=real_atoms.sum(axis=1).astype(np.int32),
        types=numbers[joined[real_atoms]],
        positions=per_atom('coord'),
        cells=joined_arrays['box'].reshape(n_frames, 3, 3),
        pbc=np.full((n_frames, 3), is_periodic),
        energies=joined_arrays['energy'].reshape(n_frames),
        forces=per_atom('force'),
        virials=joined_arrays['virial'].reshape(n_frames, 3, 3) if 'virial' in joined_arrays else None,
    )
    left_out = () if n_frames else (LeftOut(None, 'it holds no frame'),)
    return Reading(frames, np.arange(n_frames, dtype=np.int32), left_out, tuple(notes))


def read_deepmd_npy(folder: str | Path, elements: Sequence[str] | None = None) -> Frames:
    """The labelled frames of one DeePMD-kit npy system; parameters and errors as of `read_deepmd_system`."""
    reading = read_deepmd_system(folder, elements)
    assert reading.frames is not None  # noqa: S101  for mypy: a system always gives frames, if none
    return reading.frames


def read_deepmd_system(folder: str | Path, elements: Sequence[str] | None = None) -> Reading:
    """The labelled frames of one DeePMD-kit npy system, mixed or not, in order and in the precision they are stored in.

    Parameters
    ----------
    folder : str or Path
        A folder with type.raw and set.000, set.001, ….
    elements : sequence of str, optional
        The elements of its types, for a system without type_map.raw.

    Raises
    ------
    ValueError
        If there is no such system, it has no energies, forces or cell, or arrays that do not fit.
    """
    folder = Path(folder)
    found = sorted(path for path in folder.glob('set.*') if path.is_dir())
    sets = {path.name: {file.stem for file in path.glob('*.npy')} for path in found}
    if not (folder / 'type.raw').is_file() or not sets:
        raise ValueError(f'{folder} is no DeePMD-kit npy system: it needs type.raw and set.000, set.001, …')
    is_periodic = not (folder / 'nopbc').exists()
    type_map = folder / 'type_map.raw'
    try:
        types = np.loadtxt(folder / 'type.raw', dtype=np.int64, ndmin=1)
        named = type_map.read_text(encoding='utf-8').split() if type_map.is_file() else None
        return _join_sets(
            lambda name, key: _take_npy(folder / name / f'{key}.npy'), sets, types, named, elements, is_periodic
        )
    except ValueError as error:
        raise ValueError(f'{folder}: {error}') from error


def read_deepmd_hdf5(path: str | Path, elements: Sequence[str] | None = None) -> dict[str, Reading]:
    """The labelled frames of an HDF5 file of DeePMD-kit systems, by the path of each group in the file.

    Links out of the file, and arrays kept outside of it, are refused. Parameters and errors as of `read_deepmd_system`.
    """
    import h5py

    def take(group: h5py.Group, key: str) -> NDArray | None:
        if key not in group:
            return None
        dataset = group[key]
        if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
            raise ValueError(f'{dataset.name} is no array inside the file')
        return np.asarray(dataset[()])

    def system(group: h5py.Group) -> Reading:
        sets = {
            key: {name.removesuffix('.npy') for name in group[key]} for key in sorted(group) if key.startswith('set.')
        }
        if not sets:
            raise ValueError('it has no set.000')
        types, given = take(group, 'type.raw'), take(group, 'type_map.raw')
        named = None if given is None else [str(n, 'utf-8') if isinstance(n, bytes) else str(n) for n in given]
        return _join_sets(
            lambda name, key: take(group[name], f'{key}.npy'),
            sets,
            np.asarray(types, dtype=np.int64).ravel(),
            named,
            elements,
            'nopbc' not in group,
        )

    found: dict[str, Reading] = {}

    def walk(group: h5py.Group) -> None:
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ValueError(f'{group.name.rstrip("/")}/{key} is a link; only what the file itself holds is read')
        if 'type.raw' in group:
            try:
                found[group.name] = system(group)
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f'{group.name}: {error}') from error
            return
        for key in group:
            if isinstance(group[key], h5py.Group):
                walk(group[key])

    try:
        with h5py.File(path, 'r') as file:
            walk(file)
    except (OSError, MemoryError, RecursionError) as error:
        raise ValueError(f'{path}: it cannot be read as HDF5: {error}') from error
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    if not found:
        raise ValueError(f'{path}: no DeePMD-kit system there (a group with type.raw and set.000)')
    return found


#: Keys of our own in extended xyz and ASE databases: the type of the numbers, and velocities with their unit.
_PRECISION_KEY, _VELOCITIES_KEY = 'precision', 'velocities_A_per_ps'
#: What a frame of theirs may have that is taken, or that says what is taken anyway.
_TAKEN = {
    *('numbers', 'positions', 'energy', 'free_energy', 'forces', 'stress', 'virial', 'virials'),
    *(_PRECISION_KEY, _VELOCITIES_KEY),
}


def write_extxyz(frames: Frames, path: str | Path) -> None:
    """Write extended xyz with all digits: energy (eV), forces (eV/Å), virial (eV, positive under compression), stress.

    `stress` (eV/Å^3, ASE's sign) says the same as `virial` for readers that know only one of them.
    """
    precision = np.dtype(_precision(frames)).name
    offsets = frames.offsets
    columns = [('pos', frames.positions), ('forces', frames.forces), (_VELOCITIES_KEY, frames.velocities)]
    given = [(name, array.astype(float)) for name, array in columns if array is not None]
    properties = 'species:S:1' + ''.join(f':{name}:R:3' for name, _ in given)

    def numbers(values: NDArray) -> str:
        return ' '.join(map(repr, values.astype(float).ravel().tolist()))

    with Path(path).open('x', encoding='utf-8') as file:
        for index in range(len(frames)):
            start, stop = offsets[index : index + 2]
            words = [f'Lattice="{numbers(frames.cells[index])}"', f'Properties={properties}']
            if frames.energies is not None:
                energy = float(frames.energies[index])
                words += [f'energy={energy!r}', f'free_energy={energy!r}']
            if frames.virials is not None:
                virial = frames.virials[index].astype(float)
                stress = -0.5 * (virial + virial.T) / frames.volumes[index]
                words += [f'virial="{numbers(virial.T)}"', f'stress="{numbers(stress.T)}"']
            words += [
                f'{_PRECISION_KEY}={precision}',
                'pbc="' + ' '.join('FT'[int(p)] for p in frames.pbc[index]) + '"',
            ]
            rows = np.hstack([array[start:stop] for _, array in given]).tolist()
            file.write(f'{stop - start}\n{" ".join(words)}\n')
            for symbol, row in zip(frames.symbols(index), rows, strict=True):
                file.write(f'{symbol} {" ".join(map(repr, row))}\n')


#: Labels of extended xyz that may have a name of their own.
LABEL_KEYS = ('energy', 'forces', 'virial', 'stress')


def _named_labels(atoms: Atoms, keys: Mapping[str, str]) -> tuple[dict[str, Any], Any]:
    """Results, and the virial if there is one, of ASE atoms whose labels go by other names; ValueError without them.

    Where names are given, a virial or stress is taken only under its own: it may be that of another calculator.
    """
    results: dict[str, Any] = atoms.calc.results if atoms.calc is not None else {}
    if not keys:
        return results, atoms.info.get('virial', atoms.info.get('virials'))
    everything = {**atoms.info, **atoms.arrays, **results}
    lacking = [f'{name!r} (--{label}-key)' for label, name in keys.items() if name not in everything]
    if lacking:
        raise ValueError(f'it has no {", ".join(lacking)}; it has {_in_words(everything)}')
    named = {'free_energy' if name == 'free_energy' else label: everything[name] for label, name in keys.items()}
    virial = named.pop('virial', None)
    defaults = () if 'energy' in keys else ('energy', 'free_energy')
    named.update({name: results[name] for name in (*defaults, 'forces') if name in results and name not in named})
    return named, virial


def _in_words(names: Iterable[str]) -> str:
    return ', '.join(sorted(set(names) - {'numbers', 'positions'})) or 'nothing else'


def _what_to_do(atoms: Atoms) -> str:
    """What helps with a frame of extended xyz without energy and forces under their usual names."""
    given = {*atoms.info, *atoms.arrays, *(atoms.calc.results if atoms.calc is not None else {})}
    options = []
    for label, ending in (('energy', 'energy'), ('forces', 'forces?'), ('virial', 'virials?'), ('stress', 'stress')):
        found = sorted(name for name in given if re.fullmatch(f'(.*[_-])?{ending}', name, re.IGNORECASE))
        if found:
            options.append(f'--{label}-key {found[0]}')
    if len(options) >= 2 and options[0].startswith('--energy') and options[1].startswith('--forces'):
        return f'say which are its labels, such as {" ".join(options)}'
    return 'structures without labels go in by `data import structures`'


def read_extxyz(path: str | Path, keys: Mapping[str, str] | None = None) -> Reading:
    """The labelled frames of an extended xyz file.

    The energy is `free_energy` if there is one, else `energy` (eV); forces in eV/Å; the virial is `virial` (eV,
    positive under compression) or -volume x `stress` (eV/Å^3, ASE's sign). `keys` has other names for any of
    `LABEL_KEYS`, such as REF_energy; a virial or stress is then taken only if it has one. Frames without energy, forces
    or cell, and one that is cut off, are left out. Raises ValueError if the file is no xyz.
    """
    import ase.io

    keys = keys or {}
    parts: list[tuple[int, Frames]] = []
    left_out: list[LeftOut] = []
    n_extrapolated = 0
    not_taken: Counter[str] = Counter()
    with opened(Path(path)) as file:
        for index, text in enumerate(_xyz_frames(text_lines(file, 'utf-8'))):
            try:
                if isinstance(text, LeftOut):
                    raise ValueError(text.cause)
                try:
                    atoms: Any = ase.io.read(io.StringIO(text), format='extxyz')
                except Exception as error:
                    # readers of broken files raise whatever they stumble over
                    raise ValueError(f'it cannot be read: {type(error).__name__}: {error}') from error
                results, virial = _named_labels(atoms, keys)
                if not _has_labels(results):
                    raise ValueError(f'{_lacks_labels(atoms, results)}; {_what_to_do(atoms)}')
                frame = _labelled(atoms, results, virial, atoms.info.get(_PRECISION_KEY))
                if _VELOCITIES_KEY in atoms.arrays:
                    frame = replace(frame, velocities=atoms.arrays[_VELOCITIES_KEY].astype(frame.positions.dtype))
                n_extrapolated += 'free_energy' not in results
                not_taken.update({*results, *atoms.info, *atoms.arrays} - _TAKEN - set(keys.values()))
                parts.append((index, frame))
            except ValueError as error:
                if not index and not isinstance(text, LeftOut) and 'cannot be read' in str(error):
                    raise
                left_out.append(LeftOut(index, str(error)))
    notes = [
        *_note_energy(n_extrapolated, len(parts), keys.get('energy', 'energy')),
        *note_not_taken(not_taken, len(parts)),
    ]
    return join_labelled(parts, left_out, notes)


def _note_energy(n: int, n_frames: int, name: str = 'energy') -> list[str]:
    """What is to be known if n frames say `energy`, or what goes by that name, only."""
    if not n:
        return []
    return [
        f'{n} of {n_frames} frames say `{name}` and no `free_energy`: with smearing, make sure that it is the free '
        'energy, which the forces belong to, and not the one extrapolated to zero width'
    ]


def _xyz_frames(lines: Iterator[str]) -> Iterator[str | LeftOut]:
    """The text of each frame of an xyz file, and why the last one is none."""
    index = 0
    while (line := next(lines, '')).strip():
        if not line.strip().isdigit():
            raise ValueError(f'frame {index}: a number of atoms is expected, found is {line[:40]!r}')
        rows = [next(lines, '')]
        for _ in range(int(line)):
            row = next(lines, '')
            if not row:
                yield LeftOut(index, f'the file ends within it, after {len(rows) - 1} of {int(line)} atoms')
                return
            rows.append(row)
        yield line + ''.join(rows)
        index += 1
    if not index:
        raise ValueError('it holds no frame')
    if any(rest.strip() for rest in lines):
        yield LeftOut(index, 'an empty line is where a number of atoms is expected; what comes after it was not read')


def _has_labels(results: Mapping[str, Any]) -> bool:
    return 'forces' in results and bool({'energy', 'free_energy'} & set(results))


def _lacks_labels(atoms: Atoms, results: Mapping[str, Any]) -> str:
    return f'it has no energy and forces; it has {_in_words({*results, *atoms.info, *atoms.arrays})}'


def _labelled(atoms: Atoms, results: dict[str, Any], virial: Any, precision: str | None) -> Frames:
    """One labelled frame of ASE atoms with results; raises ValueError with the cause if it is none."""
    if not _has_labels(results):
        raise ValueError(_lacks_labels(atoms, results))
    if atoms.cell.volume < 1e-6:
        raise ValueError('its cell has no volume')
    if (atoms.numbers == 0).any():
        raise ValueError("it has atoms of no chemical element ('X')")
    bare = atoms.copy()
    bare.calc = None
    frames = Frames.from_atoms([bare])
    virials = None
    volume = atoms.get_volume()
    if results.get('stress') is not None:
        stress = np.asarray(results['stress'], dtype=float).ravel()
        full = stress.reshape(3, 3) if stress.size == 9 else voigt_6_to_full_3x3_stress(stress)
        virials = -volume * full[None]
    if virial is not None:
        given = np.asarray(virial, dtype=float).reshape(1, 3, 3)
        if virials is not None and abs(np.trace(virials[0] - given[0])) > 1e-3 * (1 + np.abs(given).sum()):
            raise ValueError(
                f'its virial (trace {np.trace(given[0]):.4f} eV) and its stress (-volume x trace '
                f'{np.trace(virials[0]):.4f} eV) contradict each other'
            )
        virials = given
    kind = np.float32 if precision == 'float32' else np.float64
    return replace(
        frames,
        positions=frames.positions.astype(kind),
        cells=frames.cells.astype(kind),
        energies=np.array([results.get('free_energy', results.get('energy'))], dtype=kind),
        forces=np.asarray(results['forces'], dtype=kind),
        virials=None if virials is None else virials.astype(kind),
    )


def write_ase_db(frames: Frames, path: str | Path) -> None:
    """Write an ASE database, a row a frame; the virial (eV, positive under compression) is kept in `data` as well."""
    import ase.db

    precision = np.dtype(_precision(frames)).name
    with ase.db.connect(str(path), append=True) as database:
        for index, atoms in enumerate(frames):
            data: dict[str, Any] = {_PRECISION_KEY: precision}
            if frames.virials is not None:
                data['virial'] = frames.virials[index].astype(float)
            if frames.velocities is not None:
                start, stop = frames.offsets[index : index + 2]
                data[_VELOCITIES_KEY] = frames.velocities[start:stop].astype(float)
            database.write(atoms, data=data)


#: What ASE keeps of atoms in a row beside what is taken; momenta are those of our own velocities where there are any.
_ROW_NUMBERS = ('magmoms', 'charges', 'dipole', 'stresses', 'magmom')


def read_ase_db(path: str | Path) -> Reading:
    """The labelled rows of an ASE database (.db of SQLite, or .json), in the order of their ids.

    Units and choice of the energy as in `read_extxyz`. It is read from a copy, so that the file is not touched. Raises
    ValueError if it is no database.
    """
    import ase.db

    path = Path(path)
    parts: list[tuple[int, Frames]] = []
    left_out: list[LeftOut] = []
    n_extrapolated = 0
    not_taken: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / ('copy.json' if path.suffix == '.json' else 'copy.db')
        shutil.copyfile(path, copy)
        try:
            rows = list(ase.db.connect(str(copy), use_lock_file=False).select(sort='id'))
        except Exception as error:
            # what is no database fails in as many ways as there are kinds of them
            raise ValueError(f'it cannot be read as an ASE database: {type(error).__name__}: {error}') from error
        for index, row in enumerate(rows):
            atoms = Atoms(numbers=row.numbers, positions=row.positions, cell=row.cell, pbc=row.pbc)
            names = ('energy', 'free_energy', 'forces', 'stress')
            results = {name: row[name] for name in names if name in row}
            data = row.data
            try:
                frame = _labelled(atoms, results, data.get('virial'), data.get(_PRECISION_KEY))
                if _VELOCITIES_KEY in data:
                    velocities = np.asarray(data[_VELOCITIES_KEY], dtype=frame.positions.dtype)
                    frame = replace(frame, velocities=velocities)
                n_extrapolated += 'free_energy' not in results
                others = {name for name in _ROW_NUMBERS if name in row} | set(row.key_value_pairs) | set(data)
                not_taken.update(others - _TAKEN)
                parts.append((index, frame))
            except (ValueError, TypeError) as error:
                left_out.append(LeftOut(index, str(error)))
    if not rows:
        left_out.append(LeftOut(None, 'it holds no row'))
    notes = [*_note_energy(n_extrapolated, len(parts)), *note_not_taken(not_taken, len(parts))]
    return join_labelled(parts, left_out, notes)


def write_frames(frames: Frames, path: str | Path, kind: str) -> None:
    """Write frames in one of the formats deepmd-npy, deepmd-mixed, deepmd-hdf5, extxyz, ase-db.

    Raises ValueError for another format, or where a format does not hold such frames.
    """
    writers: dict[str, Callable[..., Any]] = {
        'deepmd-npy': write_deepmd_npy,
        'deepmd-mixed': write_deepmd_mixed,
        'deepmd-hdf5': write_deepmd_hdf5,
        'extxyz': write_extxyz,
        'ase-db': write_ase_db,
    }
    if kind not in writers:
        raise ValueError(f'format is {kind!r}; allowed are {", ".join(writers)}')
    writers[kind](frames, path)


def read_structures(
    path: str | Path,
    kind: str | None = None,
    elements: tuple[str, ...] | None = None,
    pbc: tuple[bool, bool, bool] | None = None,
    index: str = ':',
    min_distance_A: float = 1.0,
) -> list[Atoms]:
    """Structures of a file that can be computed with: known elements, a cell, no atoms on top of each other.

    Parameters
    ----------
    path : str or Path
        An (extended) xyz file, a POSCAR, a CIF, or a data file of LAMMPS (units metal).
    kind : str, optional
        Key of `STRUCTURE_FORMATS`; by name and content of the file if not given.
    elements : tuple of str, optional
        For LAMMPS, whose files name none: the chemical symbols of its types in their order.
    pbc : (3,) bool, optional
        Periodic directions, in place of those of the file.
    index : str
        Which structures of the file, as in ASE: `:` for all, `-1` for the last, `::10` for every tenth.
    min_distance_A : float
        Shortest distance between atoms that is allowed, in Å.

    Raises
    ------
    ValueError
        If the file cannot be read as that, or holds what cannot be computed with; the message names the file and the
        structure, counted from 0 among those that were taken.
    """
    import ase.io
    from ase.io.formats import UnknownFileTypeError, filetype

    path = Path(path)
    known = ', '.join(STRUCTURE_FORMATS)
    if not path.is_file():
        raise ValueError(f'{path}: there is no such file')
    name = STRUCTURE_FORMATS.get(kind or '')
    if name is None:
        try:
            name = 'lammps-data' if path.suffix in ('.data', '.lmp') else filetype(str(path))
        except (UnknownFileTypeError, UnicodeDecodeError):
            raise ValueError(f'{path}: its format is not known by name or content; say which of {known}') from None
        name = 'extxyz' if name == 'xyz' else name
    if name not in STRUCTURE_FORMATS.values():
        raise ValueError(f'{path}: its format is {name}; allowed are {known}')
    options: dict[str, Any] = {}
    if name == 'lammps-data':
        if not elements:
            raise ValueError(
                f'{path}: data files of LAMMPS name no elements; give the symbols of its types in order, '
                'such as --elements Li or Li,O'
            )
        options['Z_of_type'] = {number: atomic_numbers[symbol] for number, symbol in enumerate(elements, 1)}
    elif elements:
        raise ValueError(f'{path}: elements are for lammps-data only, the format of this file is {name}')
    try:
        images = ase.io.read(path, index=index, format=name, **options)
    except Exception as error:
        # readers of broken files raise whatever they stumble over
        raise ValueError(f'{path} cannot be read as {name}: {type(error).__name__}: {error}') from error
    images = [images] if isinstance(images, Atoms) else list(images)
    if not images:
        raise ValueError(f'{path}: there is no structure at index {index}')
    for number, atoms in enumerate(images):
        if name == 'lammps-data':
            atoms.positions -= _box_origin(path.read_text(encoding='utf-8'))
        if pbc is not None:
            atoms.pbc = pbc
        try:
            _check_structure(atoms, min_distance_A)
        except ValueError as error:
            raise ValueError(f'{path}, structure {number}: {error}') from error
    return images


def _box_origin(content: str) -> NDArray:
    """Where the box of a LAMMPS data file begins, (3,) in Å. ASE leaves it out, and our cells begin at 0."""
    found = (re.search(rf'^\s*(\S+)\s+\S+\s+{axis}lo\s+{axis}hi\b', content, re.MULTILINE) for axis in 'xyz')
    # what LAMMPS takes where a file says nothing
    return np.array([float(match[1]) if match else -0.5 for match in found])


def _check_structure(atoms: Atoms, min_distance_A: float) -> None:
    """Refuse, with a ValueError, what cannot be computed with."""
    if len(atoms) == 0:
        raise ValueError('it has no atoms')
    if (atoms.numbers == 0).any():
        raise ValueError(f"atom {int(np.argmin(atoms.numbers))} is of no chemical element ('X')")
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise ValueError('positions or cell hold numbers that are not finite')
    if atoms.cell.volume < 1e-6:
        raise ValueError(
            f'its cell has no volume (lengths {np.round(atoms.cell.lengths(), 3).tolist()} Å); all three vectors are '
            'needed, also where it is not periodic: in xyz as Lattice="…" in the second line'
        )
    partly = [site for site in atoms.info.get('occupancy', {}).values() if min(site.values()) < 1]
    if partly:
        raise ValueError(f'{len(partly)} sites are occupied in part, such as {partly[0]}; write each atom out')
    check_no_overlap(atoms, min_distance_A)
