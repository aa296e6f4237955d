"""Synthetic crystals and dumps whose analysis is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from numpy.typing import NDArray
from ovito.data import DataCollection
from ovito.io.ase import ase_to_ovito

A = 3.51


def crystal(nx: int, ny: int | None = None, nz: int | None = None) -> Atoms:
    """A bcc lithium crystal of nx x ny x nz cubic cells."""
    return bulk('Li', 'bcc', a=A, cubic=True) * (nx, ny or nx, nz or nx)


def slab(n: int, layers: int, vacuum: float = 30.0, pbc_z: bool = False) -> Atoms:
    """A (100) slab at the bottom of its cell with vacuum above."""
    atoms = crystal(n, n, layers // 2)
    atoms.cell[2, 2] += vacuum
    atoms.pbc = (True, True, pbc_z)
    return atoms


def cut_cube(atoms: Atoms, cells: int, first: int) -> tuple[Atoms, int]:
    """Take a cube of `cells`^3 unit cells out, from unit cell `first` on; returns the rest and the number taken."""
    low = (first - 0.1) * A
    taken = ((atoms.positions >= low) & (atoms.positions < low + cells * A)).all(axis=1)
    return atoms[~taken], int(taken.sum())


def as_data(atoms: Atoms) -> DataCollection:
    """The atoms as an OVITO data collection."""
    data = ase_to_ovito(atoms)
    data.cell_.pbc = tuple(bool(flag) for flag in atoms.pbc)
    return data


def everything(atoms: Atoms) -> NDArray:
    """All atoms are matter."""
    return np.ones(len(atoms), dtype=bool)


def dump_text(
    step: int,
    atoms: Atoms,
    ids: Sequence[int] | NDArray | None = None,
    velocities: NDArray | None = None,
    energies: NDArray | None = None,
) -> str:
    """One frame as LAMMPS writes it; velocities in Å/ps."""
    n = len(atoms)
    columns = {'id': np.arange(1, n + 1) if ids is None else np.asarray(ids), 'type': np.ones(n, int)}
    columns |= dict(zip('xyz', atoms.positions.T, strict=True))
    if velocities is not None:
        columns |= dict(zip(('vx', 'vy', 'vz'), velocities.T, strict=True))
    if energies is not None:
        columns['c_pe'] = energies
    flags = ' '.join('pp' if flag else 'ff' for flag in atoms.pbc)
    box = '\n'.join(f'0.0 {edge!r}' for edge in atoms.cell.lengths().tolist())
    rows = '\n'.join(' '.join(repr(v.item()) for v in row) for row in zip(*columns.values(), strict=True))
    return (
        f'ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n{n}\nITEM: BOX BOUNDS {flags}\n{box}\n'
        f'ITEM: ATOMS {" ".join(columns)}\n{rows}\n'
    )


def write_dump(path: Path, *frames: str) -> Path:
    """Write frames, given as texts, into a dump."""
    path.write_text(''.join(frames))
    return path
