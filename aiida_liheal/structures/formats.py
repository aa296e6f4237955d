"""Frames from and to DeePMD-kit's npy systems, through dpdata; structures from files, through ASE."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from aiida_liheal.structures.checks import check_no_overlap
from aiida_liheal.structures.frames import Frames

if TYPE_CHECKING:
    import dpdata

__all__ = (
    'STRUCTURE_FORMATS',
    'group_by_composition',
    'read_deepmd_npy',
    'read_structures',
    'to_labeled_system',
    'write_deepmd_npy',
)

#: Formats of structure files by our names, with ASE's names for them.
STRUCTURE_FORMATS = {'xyz': 'extxyz', 'poscar': 'vasp', 'cif': 'cif', 'lammps-data': 'lammps-data'}


def group_by_composition(frames: Frames) -> list[NDArray]:
    """Indices of the frames that share one sequence of atom types, a list entry a group, in order of appearance.

    A DeePMD-kit system holds frames of one such group.
    """
    groups: dict[bytes, list[int]] = {}
    offsets = frames.offsets
    types = np.ascontiguousarray(frames.types, dtype=np.int32)
    for index in range(len(frames)):
        groups.setdefault(types[offsets[index] : offsets[index + 1]].tobytes(), []).append(index)
    return [np.array(indices, dtype=np.int64) for indices in groups.values()]


def to_labeled_system(frames: Frames, type_map: tuple[str, ...] | None = None) -> dpdata.LabeledSystem:
    """Frames of one composition as a dpdata system.

    Raises ValueError if the frames have no energies and forces, if their compositions differ, or if an element is
    missing from `type_map`.
    """
    import dpdata

    if frames.energies is None or frames.forces is None:
        raise ValueError(f'{len(frames)} frames have no energies and forces; DeePMD-kit trains on labelled frames only')
    if len(group_by_composition(frames)) != 1:
        raise ValueError('the frames differ in composition; split them with `group_by_composition` first')
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
        'energies': frames.energies,
        'forces': frames.forces.reshape(len(frames), n_atoms, 3),
    }
    if frames.virials is not None:
        data['virials'] = frames.virials
    if not frames.pbc.all():
        data['nopbc'] = not frames.pbc.any()
    return dpdata.LabeledSystem(data=data)


def write_deepmd_npy(frames: Frames, folder: str | Path, type_map: tuple[str, ...] | None = None) -> list[Path]:
    """Write labelled frames as DeePMD-kit npy systems `folder/g000`, `folder/g001`, … and return their paths.

    Numbers are written in the precision of the positions. Raises as `to_labeled_system`.
    """
    paths = []
    precision = np.float32 if frames.positions.dtype == np.float32 else np.float64
    for number, indices in enumerate(group_by_composition(frames)):
        path = Path(folder) / f'g{number:03d}'
        system = to_labeled_system(frames.select(indices), type_map)
        system.to('deepmd/npy', str(path), set_size=len(indices), prec=precision)
        paths.append(path)
    return paths


def read_deepmd_npy(folder: str | Path) -> Frames:
    """The labelled frames of one DeePMD-kit npy system, in the precision they are stored in.

    Raises ValueError if there is no such system, it has no energies or forces, or no cell (`nopbc`).
    """
    import dpdata

    folder = Path(folder)
    sets = sorted(folder.glob('set.*'))
    if not (folder / 'type.raw').is_file() or not sets:
        raise ValueError(f'{folder} is no DeePMD-kit npy system: it needs type.raw and set.000, set.001, …')
    for name in ('energy.npy', 'force.npy'):
        lacking = [s.name for s in sets if not (s / name).is_file()]
        if lacking:
            raise ValueError(f'{folder}: {name} is missing in {", ".join(lacking)}; frames need energies and forces')
    if (folder / 'nopbc').exists():
        raise ValueError(f'{folder} is not periodic (nopbc) and keeps no cell; frames need one')
    data = dpdata.LabeledSystem(str(folder), fmt='deepmd/npy').data
    n_frames, n_atoms = data['coords'].shape[:2]
    # dpdata sorts atoms by type only when asked to; names without a type map are TYPE_0, which no element is called
    return Frames(
        elements=tuple(data['atom_names']),
        counts=np.full(n_frames, n_atoms, dtype=np.int32),
        types=np.tile(np.asarray(data['atom_types'], dtype=np.int32), n_frames),
        positions=data['coords'].reshape(-1, 3),
        cells=data['cells'],
        pbc=np.ones((n_frames, 3), dtype=bool),
        energies=data['energies'],
        forces=data['forces'].reshape(-1, 3),
        virials=data.get('virials'),
    )


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
    from ase.data import atomic_numbers
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
            raise ValueError(f'{path}: data files of LAMMPS name no elements; give the symbols of its types in order')
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
