"""An atom placed on a surface: relaxed there, its energy by each member of a committee."""

from __future__ import annotations

from typing import Any

from ase import Atoms
from pydantic import Field

from aiida_liheal.lammps.kinds.base import DeckKind, check_fixed
from aiida_liheal.lammps.potentials import PotentialSpec
from aiida_liheal.lammps.settings import RunSettings


class ValleyRunSettings(RunSettings):
    """Relaxation of all atoms above the fixed ones, by the member that drives; the last atom is the placed one."""

    fixed_below_A: float = Field(gt=0, description='atoms of the start below this height z never move, in Å')
    max_force_eV_per_A: float = Field(
        default=0.005, gt=0, le=1, description='largest component of a force that counts as relaxed, in eV/Å'
    )
    max_steps: int = Field(default=2000, ge=1, le=1_000_000, description='most steps of the relaxation')

    @property
    def n_steps(self) -> int:
        """Steps of the relaxation, at most."""
        return self.max_steps


def placed_context(fixed_below_A: float, atoms: Atoms) -> dict[str, Any]:
    """The placed atom and a check that it can move.

    Raises
    ------
    ValueError
        If no atom is fixed, or the placed one is.
    """
    check_fixed(fixed_below_A, atoms)
    height_A = atoms.positions[-1, 2]
    if height_A < fixed_below_A:
        raise ValueError(
            f'the placed atom, the last one, is at z = {height_A:.2f} Å, below fixed_below_A = {fixed_below_A} Å: '
            'it could not move'
        )
    # ids are numbered in the order of the structure
    return {'placed_id': len(atoms)}


def context(settings: ValleyRunSettings, atoms: Atoms, potential: PotentialSpec) -> dict[str, Any]:
    """What the template needs besides the settings."""
    return placed_context(settings.fixed_below_A, atoms)


KIND = DeckKind(ValleyRunSettings, context)
