"""Body-centred cubic crystals: bulk, (100) slabs that stand on z = 0, and crystals with a cuboid void."""

from __future__ import annotations

from typing import Literal

import numpy as np
from ase import Atoms
from ase.build import bcc100, bulk
from pydantic import Field, model_validator

from aiida_liheal.structures.settings import Element, Settings

#: Lattice constant of lithium in the paper's cells, in Å (28.07 nm are 80 of them).
LITHIUM_A = 3.51

# Keeps an atom that lies on the border of the void on one side of it, whatever the rounding, in Å.
_TOLERANCE_A = 1e-4


class SlabSettings(Settings):
    """A bcc (100) slab with room above it."""

    shape: Literal['slab'] = Field(default='slab', description='name of the shape')
    element: Element = Field(default='Li', description='chemical symbol')
    lattice_constant_A: float = Field(default=LITHIUM_A, gt=0.5, lt=20, description='cubic lattice constant in Å')
    size: tuple[int, int] = Field(description='cubic cells along x and y')
    n_layers: int = Field(ge=1, description='atomic layers along z, half a lattice constant apart')
    n_fixed_layers: int = Field(default=0, ge=0, description='lowest layers that are not to move')
    height_above_A: float = Field(gt=0, description='empty height of the cell above the top layer, in Å')

    @model_validator(mode='after')
    def _consistent(self) -> SlabSettings:
        if min(self.size) < 1:
            raise ValueError(f'size = {self.size} cells: each must be 1 or more')
        if self.n_fixed_layers >= self.n_layers:
            raise ValueError(
                f'n_fixed_layers = {self.n_fixed_layers} layers: must be smaller than n_layers = {self.n_layers}'
            )
        return self

    @property
    def fixed_below_A(self) -> float:  # noqa: N802 (the unit)
        """Height in Å that lies between the fixed layers and the others; 0 if none is fixed."""
        return max(0.0, (self.n_fixed_layers - 0.5) * self.lattice_constant_A / 2)

    def build(self) -> Atoms:
        """The slab."""
        return bcc_slab(self.element, self.lattice_constant_A, self.size, self.n_layers, self.height_above_A)


class VoidCrystalSettings(Settings):
    """A periodic bcc crystal with a cuboid void in its middle."""

    shape: Literal['void'] = Field(default='void', description='name of the shape')
    element: Element = Field(default='Li', description='chemical symbol')
    lattice_constant_A: float = Field(default=LITHIUM_A, gt=0.5, lt=20, description='cubic lattice constant in Å')
    size: tuple[int, int, int] = Field(description='cubic cells along x, y and z')
    void_size: tuple[int, int, int] = Field(description='cubic cells that the void takes along x, y and z')

    @model_validator(mode='after')
    def _fits(self) -> VoidCrystalSettings:
        if min(self.size) < 1:
            raise ValueError(f'size = {self.size} cells: each must be 1 or more')
        for axis, void, crystal in zip('xyz', self.void_size, self.size, strict=True):
            if not 1 <= void < crystal:
                raise ValueError(
                    f'void_size = {self.void_size} cells: along {axis} it must be from 1 to {crystal - 1} cells, '
                    f'smaller than the crystal (size = {self.size} cells)'
                )
        return self

    def build(self) -> Atoms:
        """The crystal without the atoms of the void: 2 for each cell of the void."""
        crystal = bcc_bulk(self.element, self.lattice_constant_A, self.size)
        void_A = [n * self.lattice_constant_A for n in self.void_size]
        return cuboid_void(crystal, (void_A[0], void_A[1], void_A[2]))[0]


def bcc_bulk(
    element: str = 'Li', lattice_constant_A: float = LITHIUM_A, size: tuple[int, int, int] = (2, 2, 2)
) -> Atoms:
    """A periodic crystal of `size` cubic cells with 2 atoms each."""
    return bulk(element, 'bcc', a=lattice_constant_A, cubic=True).repeat(size)


def bcc_slab(
    element: str, lattice_constant_A: float, size: tuple[int, int], n_layers: int, height_above_A: float
) -> Atoms:
    """A (100) slab: lowest layer at z = 0, normal along z, periodic along x and y only.

    Parameters
    ----------
    element : str
        Chemical symbol.
    lattice_constant_A : float
        Cubic lattice constant in Å.
    size : (2,) int
        Cubic cells along x and y; one atom a cell and layer.
    n_layers : int
        Layers, half a lattice constant apart.
    height_above_A : float
        Empty height of the cell above the top layer in Å.
    """
    slab = bcc100(element, size=(*size, n_layers), a=lattice_constant_A, orthogonal=True, periodic=False)
    # ASE tags layers and remembers adsorption sites; neither belongs to the structure
    slab = Atoms(slab.symbols, positions=slab.positions, cell=slab.cell)
    slab.positions[:, 2] -= slab.positions[:, 2].min()
    slab.cell[2] = [0, 0, slab.positions[:, 2].max() + height_above_A]
    slab.pbc = (True, True, False)
    return slab


def cuboid_void(atoms: Atoms, void_size_A: tuple[float, float, float]) -> tuple[Atoms, int]:
    """Take the atoms out of a cuboid in the middle of an orthorhombic cell.

    Parameters
    ----------
    atoms : Atoms
        A crystal in an orthorhombic cell.
    void_size_A : (3,) float
        Edges of the cuboid in Å. The lower faces belong to the void and the upper ones do not, so that a void of
        whole cells takes exactly its atoms.

    Returns
    -------
    atoms : Atoms
        What is left.
    n_removed : int
        Atoms taken out.

    Raises
    ------
    ValueError
        If the cell is not orthorhombic, or the void is not smaller than the cell or takes no atom.
    """
    if not atoms.cell.orthorhombic:
        raise ValueError('a cuboid void needs an orthorhombic cell')
    edges, void = atoms.cell.lengths(), np.asarray(void_size_A, dtype=float)
    if (void <= 0).any() or (void >= edges).any():
        raise ValueError(
            f'void of {np.round(void, 3).tolist()} Å: each edge must be greater than 0 and smaller than the cell, '
            f'{np.round(edges, 3).tolist()} Å'
        )
    low = (edges - void) / 2 - _TOLERANCE_A
    inside = ((atoms.positions >= low) & (atoms.positions < low + void)).all(axis=1)
    if not inside.any():
        raise ValueError(f'void of {np.round(void, 3).tolist()} Å holds no atom: make it larger')
    return atoms[~inside], int(inside.sum())
