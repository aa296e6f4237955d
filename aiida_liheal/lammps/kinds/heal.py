"""A crystal or a slab left to itself from a cold start."""

from __future__ import annotations

from typing import Any, Literal, Self

from ase import Atoms
from pydantic import Field, model_validator

from aiida_liheal.lammps.kinds.base import DeckKind, check_fixed, check_pressure, open_sides
from aiida_liheal.lammps.potentials import PotentialSpec
from aiida_liheal.lammps.settings import TrajectorySettings


class HealSettings(TrajectorySettings):
    """A crystal or a slab left to itself: cold start, heated linearly, then held at the temperature."""

    start_temperature_K: float = Field(default=10.0, gt=0, le=10_000, description='temperature of the first step in K')
    heating_ps: float = Field(default=2.0, ge=0, description='time from the start to the target temperature in ps')
    pressure_bar: float | None = Field(
        default=0.0,
        description='target pressure in bar; null keeps the cell (then a crystal that misses atoms cannot get perfect '
        'unless it has a surface). A slab, or fixed atoms, need null',
    )
    box: Literal['iso', 'aniso'] = Field(
        default='iso', description='under pressure: iso scales the cell as a whole, aniso each direction for itself'
    )
    pressure_damping_ps: float = Field(default=1.0, gt=0, description='damping time of the barostat in ps')
    fixed_below_A: float | None = Field(
        default=None,
        gt=0,
        description='atoms of the start below this height z never move, in Å; without it all of them may',
    )

    @model_validator(mode='after')
    def _heats(self) -> Self:
        if self.heating_ps > self.duration_ps:
            raise ValueError(
                f'heating_ps = {self.heating_ps} ps: must not be longer than duration_ps = {self.duration_ps} ps'
            )
        if self.fixed_below_A is not None and self.pressure_bar is not None:
            raise ValueError(
                f'fixed_below_A = {self.fixed_below_A} Å, pressure_bar = {self.pressure_bar} bar: a cell that moves '
                'would move the fixed atoms; give null for one of them'
            )
        return self


def context(settings: HealSettings, atoms: Atoms, potential: PotentialSpec) -> dict[str, Any]:
    """What the template needs besides the settings."""
    check_pressure(settings.pressure_bar, atoms)
    if settings.fixed_below_A is not None:
        check_fixed(settings.fixed_below_A, atoms)
    return {
        'dump_every': settings.steps(settings.dump_every_ps),
        'heating_steps': settings.steps(settings.heating_ps) if settings.heating_ps else 0,
        'open_sides': open_sides(atoms),
    }


KIND = DeckKind(HealSettings, context)
