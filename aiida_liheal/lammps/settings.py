"""Typed settings of the three kinds of LAMMPS run; what they become is in `decks.py` and `templates/`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from aiida_liheal.structures.settings import Element, Seed, Settings

#: Flux of the paper's depositions: 5 Li/ps on 28.07 x 1.40 nm^2, in Li/ps/nm^2.
PAPER_FLUX = 0.127
# Insertions come every whole number of steps; a rate that this rounding changes by more is refused.
_RATE_TOLERANCE = 0.05
# Atoms that may lie within `near_A` below the source on average: random places are found up to about 0.5.
_MAX_CROWD = 0.4
# Steps between two checks of the wall clock and of which atoms are thermostatted.
CHECK_EVERY = 100


class MdSettings(Settings):
    """What every run has."""

    temperature_K: float = Field(default=300.0, gt=0, le=10_000, description='target temperature in K')
    duration_ps: float = Field(gt=0, le=1e6, description='length of the run in ps')
    timestep_fs: float = Field(default=1.0, gt=0, le=10, description='time step in fs')
    damping_ps: float = Field(default=0.1, gt=0, le=1000, description='damping time of the Langevin thermostat in ps')
    thermo_every_ps: float = Field(default=0.1, gt=0, description='time between two lines of the log in ps')
    seed: Seed = Field(description='of all random numbers of the run')

    def steps(self, time_ps: float) -> int:
        """Whole steps nearest to a time in ps, at least 1."""
        return max(1, round(time_ps * 1000 / self.timestep_fs))

    @property
    def n_steps(self) -> int:
        """Steps of the run."""
        return self.steps(self.duration_ps)

    @property
    def timestep_ps(self) -> float:
        """Time step in ps."""
        return self.timestep_fs / 1000


class ExploreSettings(MdSettings):
    """MD that looks for frames which the committee does not know; velocities begin at the target temperature."""

    pressure_bar: float | None = Field(default=None, description='target pressure in bar; without one the cell is kept')
    every_ps: float = Field(default=0.1, gt=0, description='time between two frames, and two deviations, in ps')

    @property
    def every_steps(self) -> int:
        """Steps between two frames."""
        return self.steps(self.every_ps)

    @property
    def n_frames(self) -> int:
        """Frames of a run that does not break off, the start included."""
        return self.n_steps // self.every_steps + 1


class TrajectorySettings(MdSettings):
    """A run that is looked at and that can be gone on with."""

    dump_every_ps: float = Field(default=1.0, gt=0, description='time between two frames of the trajectory in ps')
    restart_every_ps: float = Field(default=10.0, gt=0, description='time between two restart files in ps')


@dataclass(frozen=True)
class InsertionSchedule:
    """When atoms come: at step 1 and every `every_steps` after it, `n_insert` in all."""

    every_steps: int
    n_insert: int

    def inserted_at(self, step: int) -> int:
        """Atoms inserted up to and with a step."""
        return 0 if step < 1 else min(self.n_insert, (step - 1) // self.every_steps + 1)


class DepositSettings(TrajectorySettings):
    """Atoms falling on a slab whose lowest layers are fixed.

    The thermostat acts on atoms that are bound (`bond_cutoff_A`, `min_bonds`) and lie `thermostat_depth_A` or more
    below the surface of the film, which rises by `atomic_volume_A3` over the area for each atom that came: so it
    neither brakes falling atoms nor takes out the heat of impact where it is made.
    """

    element: Element = Field(default='Li', description='chemical symbol of the falling atoms')
    flux_Li_per_ps_nm2: float | None = Field(
        default=None, gt=0, description=f'atoms in 1/ps/nm^2; {PAPER_FLUX}, as in the paper, if no rate is given either'
    )
    rate_Li_per_ps: float | None = Field(
        default=None, gt=0, description='atoms in 1/ps on the whole surface, instead of a flux'
    )
    speed_m_per_s: float = Field(default=500.0, gt=0, le=50_000, description='falling speed in m/s')
    fixed_below_A: float = Field(gt=0, description='atoms of the start below this height z never move, in Å')
    thermostat_depth_A: float = Field(
        default=3.5,
        ge=0,
        description='atoms less deep than this below the surface of the film have no thermostat, in Å',
    )
    atomic_volume_A3: float = Field(default=21.6, gt=0, description='volume of an atom of the film in Å^3')
    bond_cutoff_A: float = Field(default=3.5, gt=0, description='atoms closer than this are neighbours, in Å')
    min_bonds: int = Field(default=4, ge=1, description='neighbours that an atom needs to be thermostatted')
    source_margin_A: float = Field(
        default=2.0, gt=0, description='distance of the source from the top of the cell, and its height, in Å'
    )
    clearance_A: float = Field(
        default=10.0, gt=0, description='least distance that must remain between the film and the source, in Å'
    )
    near_A: float = Field(
        default=6.0,
        gt=0,
        description='no atom starts closer than this to another, in Å; beyond the reach of the potential, atoms in '
        'flight never meet and keep their speed',
    )

    @model_validator(mode='before')
    @classmethod
    def _one_rate(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        flux, rate = values.get('flux_Li_per_ps_nm2'), values.get('rate_Li_per_ps')
        if flux is not None and rate is not None:
            raise ValueError(
                f'flux_Li_per_ps_nm2 = {flux} 1/ps/nm^2 and rate_Li_per_ps = {rate} 1/ps: give one of them, not both'
            )
        return {**values, 'flux_Li_per_ps_nm2': PAPER_FLUX} if flux is None and rate is None else values

    def rate(self, area_nm2: float) -> float:
        """Atoms in 1/ps on a surface of this area in nm^2."""
        if self.rate_Li_per_ps is not None:
            return self.rate_Li_per_ps
        assert self.flux_Li_per_ps_nm2 is not None  # noqa: S101 (the validator sees to it)
        return self.flux_Li_per_ps_nm2 * area_nm2

    def schedule(self, area_nm2: float) -> InsertionSchedule:
        """When atoms come on a surface of this area in nm^2.

        Raises
        ------
        ValueError
            If the rate is so high that whole steps cannot stand for it.
        """
        rate = self.rate(area_nm2)
        exact = 1 / (rate * self.timestep_ps)
        every = max(1, round(exact))
        if abs(exact / every - 1) > _RATE_TOLERANCE:
            raise ValueError(
                f'{rate:.4g} atoms/ps are one every {exact:.3f} steps of {self.timestep_fs} fs: with whole steps the '
                f'rate would be {1 / (every * self.timestep_ps):.4g} atoms/ps, more than {_RATE_TOLERANCE:.0%} off; '
                'take a lower rate or a shorter time step'
            )
        self._check_crowding(rate / area_nm2)
        return InsertionSchedule(every_steps=every, n_insert=math.floor((self.n_steps - 1) / every) + 1)

    def _check_crowding(self, flux: float) -> None:
        """Refuse a stream so dense that an atom finds no place at the source."""
        density = flux / (self.speed_m_per_s / 1000)
        crowd = density * 2 / 3 * math.pi * (self.near_A / 10) ** 3
        if crowd > _MAX_CROWD:
            largest = self.near_A * (_MAX_CROWD / crowd) ** (1 / 3)
            raise ValueError(
                f'near_A = {self.near_A} Å: at {flux:.3g} atoms/ps/nm^2 and {self.speed_m_per_s} m/s a new atom has '
                f'{crowd:.2g} others within this distance and may find no place; take at most {largest:.2f} Å, a lower '
                'rate, or a higher speed'
            )


class HealSettings(TrajectorySettings):
    """A crystal left to itself: cold start, heated linearly, then held at the temperature."""

    start_temperature_K: float = Field(default=10.0, gt=0, le=10_000, description='temperature of the first step in K')
    heating_ps: float = Field(default=2.0, ge=0, description='time from the start to the target temperature in ps')
    pressure_bar: float | None = Field(
        default=0.0,
        description='target pressure in bar; null keeps the cell (then a crystal that misses atoms cannot get perfect)',
    )
    box: Literal['iso', 'aniso'] = Field(
        default='iso', description='under pressure: iso scales the cell as a whole, aniso each direction for itself'
    )
    pressure_damping_ps: float = Field(default=1.0, gt=0, description='damping time of the barostat in ps')

    @model_validator(mode='after')
    def _heats(self) -> Self:
        if self.heating_ps > self.duration_ps:
            raise ValueError(
                f'heating_ps = {self.heating_ps} ps: must not be longer than duration_ps = {self.duration_ps} ps'
            )
        return self
