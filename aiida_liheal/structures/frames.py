"""Many atomic structures in a few arrays, with or without labels.

`Frames` is what flows between the pure layers, the runners and the data nodes: ragged arrays, so that bulk cells and
slabs of different sizes share one shard, at the size of the raw numbers and in the precision they came in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

#: Arrays with one row an atom; all other arrays of `Frames` but `elements` have one row a frame.
PER_ATOM = ('types', 'positions', 'forces', 'velocities')
#: Arrays that may be missing.
OPTIONAL = ('energies', 'forces', 'virials', 'velocities')


@dataclass(frozen=True)
class Frames:
    """A list of structures as arrays.

    Parameters
    ----------
    elements : tuple of str
        Chemical symbols; `types` are indices into it.
    counts : (n_frames,) int
        Atoms in each frame.
    types : (n_atoms_total,) int
        Index into `elements` for each atom, frame after frame.
    positions : (n_atoms_total, 3) float
        Cartesian positions in Å.
    cells : (n_frames, 3, 3) float
        Cell vectors as rows, in Å.
    pbc : (n_frames, 3) bool
        Periodic directions.
    energies : (n_frames,) float, optional
        Free energy in eV: the energy that the forces are the gradient of.
    forces : (n_atoms_total, 3) float, optional
        Forces in eV/Å.
    virials : (n_frames, 3, 3) float, optional
        Virial in eV, -volume x stress: positive under compression, as DeePMD-kit takes it.
    velocities : (n_atoms_total, 3) float, optional
        Velocities in Å/ps.
    extra : dict of str to (n_frames, ...) array
        Further numbers for each frame, such as the index of the frame that was labelled (`source_index`).

    Raises
    ------
    ValueError
        If shapes disagree, numbers are not finite, or a cell has no volume.
    """

    elements: tuple[str, ...]
    counts: NDArray
    types: NDArray
    positions: NDArray
    cells: NDArray
    pbc: NDArray
    energies: NDArray | None = None
    forces: NDArray | None = None
    virials: NDArray | None = None
    velocities: NDArray | None = None
    extra: dict[str, NDArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n_frames = len(self.counts)
        n_atoms = int(np.sum(self.counts))
        if n_frames and int(np.min(self.counts)) < 1:
            raise ValueError('every frame needs at least one atom')
        shapes: dict[str, tuple[int, ...]] = {
            'types': (n_atoms,),
            'positions': (n_atoms, 3),
            'cells': (n_frames, 3, 3),
            'pbc': (n_frames, 3),
            'energies': (n_frames,),
            'forces': (n_atoms, 3),
            'virials': (n_frames, 3, 3),
            'velocities': (n_atoms, 3),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array is None:
                continue
            if array.shape != shape:
                raise ValueError(f'{name} has shape {array.shape}, expected {shape}')
            if array.dtype.kind == 'f' and not np.isfinite(array).all():
                raise ValueError(f'{name} holds {np.sum(~np.isfinite(array))} numbers that are not finite')
        for name, array in self.extra.items():
            if len(array) != n_frames:
                raise ValueError(f'extra array {name!r} has {len(array)} rows, expected {n_frames}')
        if n_atoms and not 0 <= int(self.types.min()) <= int(self.types.max()) < len(self.elements):
            raise ValueError(f'types run from {self.types.min()} to {self.types.max()}, elements are {self.elements}')
        if n_frames and not (np.abs(np.linalg.det(self.cells.astype(float))) > 0).all():
            raise ValueError('a cell has no volume')

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def is_labelled(self) -> bool:
        """Whether every frame has an energy and forces."""
        return self.energies is not None and self.forces is not None

    @property
    def offsets(self) -> NDArray:
        """First atom of each frame and, last, the number of atoms: (n_frames + 1,) int."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    @property
    def volumes(self) -> NDArray:
        """Cell volumes in Å^3: (n_frames,) float."""
        return np.abs(np.linalg.det(self.cells.astype(float)))

    def symbols(self, index: int) -> list[str]:
        """Chemical symbols of the atoms of one frame."""
        start, stop = self.offsets[index : index + 2]
        return [self.elements[t] for t in self.types[start:stop]]

    def to_atoms(self, index: int) -> Atoms:
        """One frame as ASE atoms; labels go into a `SinglePointCalculator` (energy eV, forces eV/Å, stress eV/Å^3)."""
        start, stop = self.offsets[index : index + 2]
        atoms = Atoms(
            symbols=self.symbols(index),
            positions=self.positions[start:stop].astype(float),
            cell=self.cells[index].astype(float),
            pbc=self.pbc[index],
        )
        results: dict[str, float | NDArray] = {}
        if self.energies is not None:
            results['energy'] = results['free_energy'] = float(self.energies[index])
        if self.forces is not None:
            results['forces'] = self.forces[start:stop].astype(float)
        if self.virials is not None:
            stress = -self.virials[index].astype(float) / atoms.get_volume()
            results['stress'] = 0.5 * (stress + stress.T)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        if results:
            atoms.calc = SinglePointCalculator(atoms, **results)
        if self.velocities is not None:
            # ASE's unit of velocity is Å per sqrt(u Å^2/eV); 1 Å/ps = 1e-3 Å/fs
            from ase.units import fs

            atoms.set_velocities(self.velocities[start:stop].astype(float) / (1000.0 * fs))
        return atoms

    def __iter__(self) -> Iterator[Atoms]:
        return (self.to_atoms(index) for index in range(len(self)))

    @classmethod
    def from_atoms(cls, images: Iterable[Atoms], **extra: NDArray) -> Frames:
        """Frames from ASE atoms; labels are kept if every image has them in its calculator.

        Velocities are not taken over. Raises ValueError if there is no image.
        """
        images = list(images)
        if not images:
            raise ValueError('no structure given')
        elements = tuple(sorted({symbol for atoms in images for symbol in atoms.symbols}))
        index_of = {symbol: index for index, symbol in enumerate(elements)}
        labels: dict[str, NDArray] = {}
        results = [atoms.calc.results if atoms.calc is not None else {} for atoms in images]
        if all(('free_energy' in r or 'energy' in r) for r in results):
            labels['energies'] = np.array([r.get('free_energy', r.get('energy')) for r in results], dtype=float)
        if all('forces' in r for r in results):
            labels['forces'] = np.concatenate([np.asarray(r['forces'], dtype=float) for r in results])
        if all('stress' in r for r in results):
            from ase.stress import voigt_6_to_full_3x3_stress

            labels['virials'] = np.array(
                [
                    -atoms.get_volume() * voigt_6_to_full_3x3_stress(np.asarray(r['stress']).reshape(-1))
                    for atoms, r in zip(images, results, strict=True)
                ]
            )
        return cls(
            elements=elements,
            counts=np.array([len(atoms) for atoms in images], dtype=np.int32),
            types=np.concatenate([[index_of[s] for s in atoms.symbols] for atoms in images]).astype(np.int32),
            positions=np.concatenate([atoms.positions for atoms in images]),
            cells=np.array([atoms.cell.array for atoms in images]),
            pbc=np.array([atoms.pbc for atoms in images], dtype=bool),
            extra=dict(extra),
            **labels,
        )

    def select(self, indices: Sequence[int] | NDArray) -> Frames:
        """The frames with these indices, in this order. Raises IndexError if one is out of range."""
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not (0 <= indices.min() <= indices.max() < len(self)):
            raise IndexError(f'frames run from 0 to {len(self) - 1}, got {indices.min()} to {indices.max()}')
        offsets = self.offsets
        atoms = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in indices] or [np.zeros(0, np.int64)])
        changes = {
            name: getattr(self, name)[atoms if name in PER_ATOM else indices]
            for name in ('counts', 'types', 'positions', 'cells', 'pbc', *OPTIONAL)
            if getattr(self, name) is not None
        }
        return replace(self, **changes, extra={name: array[indices] for name, array in self.extra.items()})

    @staticmethod
    def concatenate(parts: Sequence[Frames]) -> Frames:
        """All frames of `parts`, in order.

        A label or extra array is kept if every part has it. Raises ValueError if there is no part.
        """
        if not parts:
            raise ValueError('no frames given')
        elements = tuple(sorted({e for part in parts for e in part.elements}))
        types = [np.array([elements.index(e) for e in p.elements], dtype=p.types.dtype)[p.types] for p in parts]
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ('counts', 'positions', 'cells', 'pbc', *OPTIONAL)
            if all(getattr(part, name) is not None for part in parts)
        }
        common = set.intersection(*[set(part.extra) for part in parts])
        extra = {name: np.concatenate([part.extra[name] for part in parts]) for name in sorted(common)}
        return Frames(elements=elements, types=np.concatenate(types), extra=extra, **arrays)

    def to_arrays(self) -> dict[str, NDArray]:
        """All arrays by name, ready for npz; extra arrays are called `extra.<name>`."""
        arrays = {'elements': np.array(self.elements, dtype='U2')}
        for name in ('counts', 'types', 'positions', 'cells', 'pbc', *OPTIONAL):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        arrays.update({f'extra.{name}': array for name, array in self.extra.items()})
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray]) -> Frames:
        """The inverse of `to_arrays`."""
        fields = {name: array for name, array in arrays.items() if not name.startswith('extra.')}
        elements = tuple(str(e) for e in fields.pop('elements'))
        extra = {name.removeprefix('extra.'): array for name, array in arrays.items() if name.startswith('extra.')}
        return cls(elements=elements, extra=extra, **fields)

    def save(self, path: str | Path) -> None:
        """Write an uncompressed npz file."""
        np.savez(path, allow_pickle=False, **self.to_arrays())

    @classmethod
    def load(cls, path: str | Path) -> Frames:
        """Read an npz file written by `save`; pickled objects are refused."""
        with np.load(path, allow_pickle=False) as archive:
            return cls.from_arrays(dict(archive))
