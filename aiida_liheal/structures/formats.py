"""Frames from and to DeePMD-kit's npy systems, through dpdata."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aiida_liheal.structures.frames import Frames

if TYPE_CHECKING:
    import dpdata

__all__ = ('group_by_composition', 'read_deepmd_npy', 'to_labeled_system', 'write_deepmd_npy')


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
