"""A crystal, one half of which is molten, at a temperature that tells which half grows."""

from __future__ import annotations

from typing import Any, Self

from ase import Atoms
from pydantic import Field, model_validator

from aiida_liheal.lammps.kinds.base import BondOrderSettings, DeckKind
from aiida_liheal.lammps.potentials import PotentialSpec


class MeltSettings(BondOrderSettings):
    """Half crystal, half liquid under constant pressure; the run ends early once one of them is gone.

    The upper half along z is melted while the lower one is held, then cooled to the temperature; then all atoms move.
    An atom is solid by its bond order: it has `solid_bonds` neighbours or more whose q6 points like its own.
    """

    melting_temperature_K: float = Field(
        default=1200.0, gt=0, le=10_000, description='temperature at which the upper half is melted, in K'
    )
    melting_ps: float = Field(default=3.0, gt=0, description='time for melting it, in ps; part of duration_ps')
    cooling_ps: float = Field(
        default=1.0, gt=0, description='time for cooling the melt to temperature_K, in ps; part of duration_ps'
    )
    pressure_bar: float = Field(default=0.0, description='pressure after that in bar; x and y of the cell move alike')
    pressure_damping_ps: float = Field(default=1.0, gt=0, description='damping time of the barostat in ps')
    molten_below: float = Field(default=0.1, gt=0, lt=0.5, description='share of solid atoms at which all is molten')
    frozen_above: float = Field(default=0.9, gt=0.5, lt=1, description='share of solid atoms at which all is frozen')

    @model_validator(mode='after')
    def _coexists(self) -> Self:
        if self.coexistence_from_ps >= self.duration_ps:
            raise ValueError(
                f'duration_ps = {self.duration_ps} ps: must be longer than melting_ps = {self.melting_ps} ps and '
                f'cooling_ps = {self.cooling_ps} ps together'
            )
        if self.melting_temperature_K <= self.temperature_K:
            raise ValueError(
                f'melting_temperature_K = {self.melting_temperature_K} K: must be above temperature_K = '
                f'{self.temperature_K} K'
            )
        return self

    @property
    def coexistence_from_ps(self) -> float:
        """Time at which crystal and melt are left to each other, in ps."""
        return self.melting_ps + self.cooling_ps


def context(settings: MeltSettings, atoms: Atoms, potential: PotentialSpec) -> dict[str, Any]:
    """What the template needs besides the settings."""
    if not (atoms.pbc.all() and atoms.cell.orthorhombic):
        raise ValueError(
            f'pbc = {atoms.pbc.tolist()}: coexistence needs an orthorhombic crystal that is periodic in all directions'
        )
    length = atoms.cell.lengths()[2]
    if length < 8 * settings.neighbour_cutoff_A:
        raise ValueError(
            f'the cell is {length:.1f} Å long along z; two halves with two interfaces need at least '
            f'{8 * settings.neighbour_cutoff_A:.1f} Å, 8 neighbour_cutoff_A'
        )
    return {
        # between two layers
        'half_A': round(float(length) / 2 - 1e-3, 6),
        'melting_steps': settings.steps(settings.melting_ps),
        'cooling_steps': settings.steps(settings.coexistence_from_ps),
    }


KIND = DeckKind(MeltSettings, context)
