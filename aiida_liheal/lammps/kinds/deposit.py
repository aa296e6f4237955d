"""Atoms falling on a slab whose lowest layers are fixed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ase import Atoms
from pydantic import Field, model_validator

from aiida_liheal.lammps.kinds.base import DeckKind
from aiida_liheal.lammps.potentials import PotentialSpec
from aiida_liheal.lammps.settings import TrajectorySettings
from aiida_liheal.structures.settings import Element

#: Flux of the paper's depositions: 5 Li/ps on 28.07 x 1.40 nm^2, in Li/ps/nm^2.
PAPER_FLUX = 0.127
# Insertions come every whole number of steps; a rate that this rounding changes by more is refused.
_RATE_TOLERANCE = 0.05
# Atoms that may lie within `near_A` below the source on average: random places are found up to about 0.5.
_MAX_CROWD = 0.4


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


def context(settings: DepositSettings, atoms: Atoms, potential: PotentialSpec) -> dict[str, Any]:
    """What the template needs besides the settings."""
    if atoms.pbc.tolist() != [True, True, False]:
        raise ValueError(
            f'pbc = {atoms.pbc.tolist()}: a deposition needs a slab, periodic along x and y and not along z'
        )
    if not atoms.cell.orthorhombic:
        raise ValueError('a deposition needs an orthorhombic cell')
    if settings.element not in potential.elements:
        raise ValueError(f'element = {settings.element!r}: the potential knows {", ".join(potential.elements)}')
    heights = atoms.positions[:, 2]
    width, depth, height = atoms.cell.lengths()
    n_fixed = int((heights < settings.fixed_below_A).sum())
    if not 0 < n_fixed < len(atoms):
        raise ValueError(
            f'fixed_below_A = {settings.fixed_below_A} Å fixes {n_fixed} of {len(atoms)} atoms, which lie from '
            f'{heights.min():.2f} to {heights.max():.2f} Å: it must fix some and leave some'
        )
    surface = float(heights.max())
    ceiling = surface - settings.thermostat_depth_A
    if not ((heights >= settings.fixed_below_A) & (heights < ceiling)).any():
        raise ValueError(
            f'thermostat_depth_A = {settings.thermostat_depth_A} Å below the surface at {surface:.2f} Å: no atom is '
            f'left between it and fixed_below_A = {settings.fixed_below_A} Å for the thermostat to act on'
        )
    schedule = settings.schedule(width * depth / 100)
    growth = schedule.n_insert * settings.atomic_volume_A3 / (width * depth)
    source_low = height - 2 * settings.source_margin_A
    if surface + growth + settings.clearance_A > source_low:
        needed = surface + growth + settings.clearance_A + 2 * settings.source_margin_A
        raise ValueError(
            f'the cell is {height:.1f} Å high; the slab ({surface:.1f} Å), {schedule.n_insert} atoms ({growth:.1f} Å), '
            f'clearance_A = {settings.clearance_A} Å and the source need {needed:.1f} Å'
        )
    return {
        'dump_every': settings.steps(settings.dump_every_ps),
        'schedule': schedule,
        'element_type': potential.elements.index(settings.element) + 1,
        'ceiling_A': round(ceiling, 6),
        'source_low_A': round(source_low, 6),
        'source_high_A': round(height - settings.source_margin_A, 6),
        'speed_A_per_ps': settings.speed_m_per_s / 100,
    }


KIND = DeckKind(DepositSettings, context)
