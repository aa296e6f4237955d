"""What makes a kind of run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_liheal.lammps.potentials import PotentialSpec
from aiida_liheal.lammps.settings import RestartableSettings, RunSettings


class BondOrderSettings(RestartableSettings):
    """A run that follows which atoms are solid.

    An atom is solid by the bond order of ten Wolde, Ruiz-Montero and Frenkel (Faraday Discuss. 104, 93, 1996): it has
    `solid_bonds` neighbours or more whose q6 points like its own, which counts alike whatever way the crystal lies and
    is not disturbed by thermal motion as the common neighbour analysis of single frames is.
    """

    neighbour_cutoff_A: float = Field(
        default=3.96,
        gt=0,
        description='atoms closer than this are neighbours, in Å; 1.13 lattice constants take in the two first shells '
        'of bcc, and must lie within the reach of the potential',
    )
    bond_order: float = Field(
        default=0.5, gt=0, lt=1, description='normalised product of the q6 of two neighbours from which they are bonded'
    )
    solid_bonds: int = Field(default=8, ge=1, le=14, description='bonds of the 14 of bcc that make an atom solid')


def check_pressure(pressure_bar: float | None, atoms: Atoms) -> None:
    """Refuse a barostat on a cell with open sides, with a ValueError that says what to give instead."""
    if pressure_bar is not None and not atoms.pbc.all():
        raise ValueError(
            f'pressure_bar = {pressure_bar} bar: needs a cell that is periodic in all directions, got pbc = '
            f'{atoms.pbc.tolist()}; give null to keep the cell'
        )


def check_fixed(fixed_below_A: float, atoms: Atoms) -> None:
    """Refuse a height in Å below which none or all atoms are fixed, with a ValueError that says where they lie."""
    heights = atoms.positions[:, 2]
    n_fixed = int(np.count_nonzero(heights < fixed_below_A))
    if not 0 < n_fixed < len(atoms):
        raise ValueError(
            f'fixed_below_A = {fixed_below_A} Å fixes {n_fixed} of {len(atoms)} atoms, which lie from '
            f'{heights.min():.2f} to {heights.max():.2f} Å: it must fix some and leave some'
        )


def open_sides(atoms: Atoms) -> list[str]:
    """Axes along which the cell is not periodic: walls keep the atoms in there."""
    return [axis for axis, periodic in zip('xyz', atoms.pbc, strict=True) if not periodic]


class DeckKind(NamedTuple):
    """A kind of run: its settings, and what its template needs besides them.

    The function raises ValueError if the settings do not fit the start.
    """

    settings: type[RunSettings]
    context: Callable[[Any, Atoms, PotentialSpec], dict[str, Any]]
