"""One structure: its energy, stress and forces by each member of a potential, as it is, strained, or relaxed."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from ase import Atoms
from ase.calculators.lammps import Prism
from numpy.typing import NDArray
from pydantic import Field, model_validator

from aiida_liheal.lammps.kinds.base import DeckKind
from aiida_liheal.lammps.potentials import PotentialSpec
from aiida_liheal.lammps.settings import RunSettings

#: Engineering strains e1 … e6 in Voigt order: xx, yy, zz, yz, xz, xy.
Strain = tuple[float, float, float, float, float, float]

#: Strains beyond this, either way, are refused.
LARGEST_STRAIN = 0.3

NO_STRAIN: Strain = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class RelaxSettings(RunSettings):
    """Energy, stress and largest force of a structure at each strain, by each member of a committee for itself.

    The members take their turns one after another, and each goes through all strains. So a number comes with that of
    every member, relaxed by itself. `final.data` and the forces are those of the first member at the last strain.
    """

    minimise: Literal['none', 'atoms', 'cell'] = Field(
        default='none',
        description='none: the structure as it is; atoms: relax the atoms in the cell; cell: relax the edges of the '
        'cell to zero pressure as well, each for itself, its angles stay',
    )
    max_force_eV_per_A: float = Field(
        default=0.001, gt=0, le=1, description='largest component of a force that counts as relaxed, in eV/Å'
    )
    max_pressure_GPa: float = Field(
        default=0.01, gt=0, le=10, description='largest of the three pressures that counts as relaxed, in GPa; for cell'
    )
    max_steps: int = Field(default=2000, ge=1, le=1_000_000, description='most steps of a relaxation')
    strains: tuple[Strain, ...] = Field(
        default=(NO_STRAIN,),
        min_length=1,
        description='engineering strains (xx, yy, zz, yz, xz, xy) of the cell of the start, one after another; each '
        'from -0.3 to 0.3, no unit',
    )
    fixed_atoms: tuple[int, ...] = Field(
        default=(), description='atoms that do not move in a relaxation, counted from 0'
    )
    upright_atoms: tuple[int, ...] = Field(default=(), description='atoms that move along z only, counted from 0')

    @model_validator(mode='after')
    def _consistent(self) -> Self:
        if any(abs(component) > LARGEST_STRAIN for strain in self.strains for component in strain):
            raise ValueError(f'strains: each component must be from {-LARGEST_STRAIN} to {LARGEST_STRAIN}')
        held = (*self.fixed_atoms, *self.upright_atoms)
        if min(held, default=0) < 0:
            raise ValueError('fixed_atoms and upright_atoms: atoms are counted from 0, none is negative')
        if len(set(held)) != len(held):
            raise ValueError('fixed_atoms and upright_atoms: an atom is named twice')
        if held and self.minimise != 'atoms':
            raise ValueError(f'fixed_atoms, upright_atoms: only for minimise = atoms, not for {self.minimise}')
        if self.minimise == 'cell' and len(self.strains) > 1:
            raise ValueError(f'strains: {len(self.strains)} of them, but minimise = cell takes any strain back')
        return self

    @property
    def n_steps(self) -> int:
        """Steps of one relaxation, at most; 0 if nothing is relaxed."""
        return 0 if self.minimise == 'none' else self.max_steps


def strained_cell(cell: NDArray, strain: Strain) -> NDArray:
    """A cell whose vectors are strained, in the form that LAMMPS takes.

    The deformation is written as a lower triangle, so that a lies along x and b in the xy plane as before. It differs
    from the symmetric one by a rotation of the order of the strain, which changes a stress in second order only.

    Parameters
    ----------
    cell : (3, 3) float
        Vectors as rows, lower triangular, in Å.
    strain : (6,) float
        Engineering strains in Voigt order.

    Returns
    -------
    (3, 3) float
        In Å, lower triangular.
    """
    xx, yy, zz, yz, xz, xy = strain
    return cell @ np.array([[1 + xx, 0, 0], [xy, 1 + yy, 0], [xz, yz, 1 + zz]])


def context(settings: RelaxSettings, atoms: Atoms, potential: PotentialSpec) -> dict[str, Any]:
    """What the template needs besides the settings."""
    is_strained = any(strain != NO_STRAIN for strain in settings.strains)
    if (is_strained or settings.minimise == 'cell') and not atoms.pbc.all():
        what = 'minimise = cell' if settings.minimise == 'cell' else 'strains'
        raise ValueError(f'{what}: needs a cell that is periodic in all directions, got pbc = {atoms.pbc.tolist()}')
    for name in ('fixed_atoms', 'upright_atoms'):
        beyond = [index for index in getattr(settings, name) if index >= len(atoms)]
        if beyond:
            raise ValueError(f'{name}: {beyond}: the structure has atoms 0 to {len(atoms) - 1}')
    if len(settings.fixed_atoms) == len(atoms):
        raise ValueError(f'fixed_atoms: all {len(atoms)} atoms are fixed: none is left to relax; take minimise = none')
    # as the data file is written: a along x, b in the xy plane
    cell = Prism(atoms.cell.array, atoms.pbc).lammps_cell
    cells = [strained_cell(cell, strain) for strain in settings.strains] if is_strained else []
    return {
        'cells': [
            {'x': c[0, 0], 'y': c[1, 1], 'z': c[2, 2], 'xy': c[1, 0], 'xz': c[2, 0], 'yz': c[2, 1]} for c in cells
        ],
        # a skewed start is read as such; a right-angled one has to become what it may turn into
        'turns_skewed': atoms.cell.orthorhombic and any(strain[3:] != (0, 0, 0) for strain in settings.strains),
        'is_skewed': not atoms.cell.orthorhombic or any(strain[3:] != (0, 0, 0) for strain in settings.strains),
        # ids are numbered from 1 in the order of the structure
        'fixed_ids': [index + 1 for index in settings.fixed_atoms],
        'upright_ids': [index + 1 for index in settings.upright_atoms],
    }


KIND = DeckKind(RelaxSettings, context)
