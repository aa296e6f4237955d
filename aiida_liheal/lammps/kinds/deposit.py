"""Atoms falling on a slab whose lowest layers are fixed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from ase import Atoms, units
from pydantic import Field, model_validator

from aiida_liheal.lammps.kinds.base import DeckKind, check_fixed
from aiida_liheal.lammps.potentials import PotentialSpec
from aiida_liheal.lammps.settings import TrajectorySettings
from aiida_liheal.lammps.sources import (
    Patch,
    SourcePatch,
    Table,
    check_table,
    highest_flux,
    lay_out,
    region_lines,
)
from aiida_liheal.structures.settings import Element

#: Flux of the paper's depositions: 5 Li/ps on 28.07 x 1.40 nm^2, in Li/ps/nm^2.
PAPER_FLUX = 0.127
#: Falling speed of the paper's homogeneous depositions in m/s.
PAPER_SPEED = 500.0
# 1/ps/nm^2 in one A/cm^2, with one charge an atom
_FLUX_OF_CURRENT = 1 / units._e * 1e-12 * 1e-14
# Insertions come every whole number of steps; a rate that this rounding changes by more is refused.
_RATE_TOLERANCE = 0.05
# Atoms that may lie within `near_A` below the source on average: random places are found up to about 0.5.
_MAX_CROWD = 0.4
_MAX_SPEED = 50_000.0


@dataclass(frozen=True)
class InsertionSchedule:
    """When atoms come: at step 1 and every `every_steps` after it, `n_insert` in all."""

    every_steps: int
    n_insert: int

    def inserted_at(self, step: int) -> int:
        """Atoms inserted up to and with a step."""
        return 0 if step < 1 else min(self.n_insert, (step - 1) // self.every_steps + 1)

    def step_of(self, number: int) -> int:
        """Step at which the atom of this number comes, counted from 1."""
        return (number - 1) * self.every_steps + 1


class DepositSettings(TrajectorySettings):
    """Atoms falling on a slab whose lowest layers are fixed.

    A thermostat never acts on atoms in flight. `film`: it acts on atoms that are bound (`bond_cutoff_A`, `min_bonds`)
    and lie `thermostat_depth_A` or more below the level of the film, which rises by `atomic_volume_A3` over the area
    for each atom that came. `substrate`: on the atoms of the start that may move and began that deep, and on no other.
    `all`: on every bound atom.
    """

    #: Keys of which one at most is given.
    ALTERNATIVES: ClassVar[tuple[tuple[str, ...], ...]] = (
        ('flux_Li_per_ps_nm2', 'rate_Li_per_ps', 'current_density_A_per_cm2'),
        ('speed_m_per_s', 'speed_per_rate_m_per_s_per_Li_per_ps'),
        ('source_patches', 'source_table'),
    )

    element: Element = Field(default='Li', description='chemical symbol of the falling atoms')
    flux_Li_per_ps_nm2: float | None = Field(
        default=None, gt=0, description=f'atoms in 1/ps/nm^2; {PAPER_FLUX}, as in the paper, if no rate is given either'
    )
    rate_Li_per_ps: float | None = Field(
        default=None, gt=0, description='atoms in 1/ps on the whole surface, instead of a flux'
    )
    current_density_A_per_cm2: float | None = Field(
        default=None, gt=0, description='instead of a flux: current density in A/cm^2, one charge an atom'
    )
    source_patches: tuple[SourcePatch, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description='rectangles that atoms fall from, x_A and y_A from and to in Å, with a relative_flux each; all of '
        'the rate comes from them. Without them it comes from the whole surface',
    )
    source_table: Table | None = Field(
        default=None,
        description='instead of patches: relative fluxes on a grid of equal patches over the whole surface, a row for '
        'each place along x, in it a number for each place along y',
    )
    speed_m_per_s: float | None = Field(
        default=None,
        gt=0,
        le=_MAX_SPEED,
        description=f'falling speed in m/s; {PAPER_SPEED:g}, as in the paper, if none is given',
    )
    speed_per_rate_m_per_s_per_Li_per_ps: float | None = Field(
        default=None,
        gt=0,
        description='instead of a speed: falling speed in m/s for each atom in 1/ps on the whole surface, which keeps '
        'the distance between two falling atoms the same at every rate (1000 in the paper)',
    )
    fixed_below_A: float = Field(gt=0, description='atoms of the start below this height z never move, in Å')
    thermostat: Literal['film', 'substrate', 'all'] = Field(
        default='film',
        description='what has the temperature held: the film below its surface, the substrate only, or all bound '
        'atoms; never those in flight',
    )
    thermostat_depth_A: float = Field(
        default=3.5,
        ge=0,
        description='atoms less deep than this below the surface of the film have no thermostat, in Å; that of the '
        'start for the substrate; not used for all',
    )
    atomic_volume_A3: float = Field(default=21.6, gt=0, description='volume of an atom of the film in Å^3')
    bond_cutoff_A: float = Field(default=3.5, gt=0, description='atoms closer than this are neighbours, in Å')
    min_bonds: int = Field(default=4, ge=1, description='neighbours that an atom needs to count as bound')
    stop_after_atoms: int | None = Field(
        default=None,
        ge=1,
        description='no more atoms come after this many, and the run ends settle_ps later, or at duration_ps',
    )
    settle_ps: float = Field(
        default=0.0, ge=0, description='time that the run goes on after the last atom of stop_after_atoms came, in ps'
    )
    stop_at_height_A: float | None = Field(
        default=None,
        gt=0,
        description='the run ends once the film, all that is bound to the substrate, is this high above the surface of '
        'the start, in Å, or at duration_ps',
    )
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
    def _one_of_each(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = dict(values)
        for keys in cls.ALTERNATIVES:
            given = {key: values[key] for key in keys if values.get(key) is not None}
            if len(given) > 1:
                # lists of patches would drown the message
                listed = ' and '.join(
                    key if isinstance(value, list | tuple) else f'{key} = {value}{_UNITS.get(key, "")}'
                    for key, value in given.items()
                )
                raise ValueError(f'{listed}: give one of them, not {"both" if len(given) == 2 else "all"}')
            if not given and keys[0] in _DEFAULTS:
                values[keys[0]] = _DEFAULTS[keys[0]]
        return values

    @model_validator(mode='after')
    def _consistent(self) -> Self:
        if self.source_table is not None:
            try:
                check_table(self.source_table)
            except ValueError as error:
                raise ValueError(f'source_table: {error}') from error
        if self.settle_ps and self.stop_after_atoms is None:
            raise ValueError(f'settle_ps = {self.settle_ps} ps: belongs to stop_after_atoms, which is not given')
        return self

    def rate(self, area_nm2: float) -> float:
        """Atoms in 1/ps on a surface of this area in nm^2."""
        if self.rate_Li_per_ps is not None:
            return self.rate_Li_per_ps
        if self.current_density_A_per_cm2 is not None:
            return self.current_density_A_per_cm2 * _FLUX_OF_CURRENT * area_nm2
        assert self.flux_Li_per_ps_nm2 is not None  # noqa: S101 (the validator sees to it)
        return self.flux_Li_per_ps_nm2 * area_nm2

    def speed(self, area_nm2: float) -> float:
        """Falling speed in m/s on a surface of this area in nm^2. Raises ValueError if it is out of all limits."""
        if self.speed_m_per_s is not None:
            return self.speed_m_per_s
        assert self.speed_per_rate_m_per_s_per_Li_per_ps is not None  # noqa: S101 (the validator sees to it)
        speed = self.speed_per_rate_m_per_s_per_Li_per_ps * self.rate(area_nm2)
        if speed > _MAX_SPEED:
            raise ValueError(
                f'speed_per_rate_m_per_s_per_Li_per_ps = {self.speed_per_rate_m_per_s_per_Li_per_ps}: at '
                f'{self.rate(area_nm2):.4g} atoms/ps atoms would fall at {speed:.0f} m/s; at most {_MAX_SPEED:.0f} m/s '
                'is allowed'
            )
        return speed

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
        n_insert = math.floor((self.n_steps - 1) / every) + 1
        return InsertionSchedule(every, min(n_insert, self.stop_after_atoms or n_insert))

    def last_step(self, area_nm2: float) -> int:
        """Last step of the run on a surface of this area in nm^2, if no height ends it before."""
        if self.stop_after_atoms is None:
            return self.n_steps
        settle = self.steps(self.settle_ps) if self.settle_ps else 0
        return min(self.n_steps, self.schedule(area_nm2).step_of(self.stop_after_atoms) + settle)

    def ended_by(self, area_nm2: float, halted_by: str) -> str:
        """Which rule ended a run that came to its end: time, atoms, height or clearance.

        `halted_by` is the id of the `fix halt` that the log names, empty if it names none.
        """
        if halted_by:
            return halted_by
        return 'atoms' if self.last_step(area_nm2) < self.n_steps else 'time'

    def patches(self, lengths_A: tuple[float, float]) -> tuple[Patch, ...]:
        """What atoms fall from above a cell with these edges along x and y in Å."""
        return lay_out(self.source_patches, self.source_table, lengths_A)

    def check_crowding(self, flux: float, speed_m_per_s: float) -> None:
        """Refuse a stream so dense that an atom finds no place; flux is that of the densest patch in 1/ps/nm^2."""
        density = flux / (speed_m_per_s / 1000)
        crowd = density * 2 / 3 * math.pi * (self.near_A / 10) ** 3
        if crowd > _MAX_CROWD:
            largest = self.near_A * (_MAX_CROWD / crowd) ** (1 / 3)
            raise ValueError(
                f'near_A = {self.near_A} Å: at {flux:.3g} atoms/ps/nm^2 and {speed_m_per_s} m/s a new atom has '
                f'{crowd:.2g} others within this distance and may find no place; take at most {largest:.2f} Å, a lower '
                'rate, a higher speed, or a larger source'
            )


_DEFAULTS = {'flux_Li_per_ps_nm2': PAPER_FLUX, 'speed_m_per_s': PAPER_SPEED}
_UNITS = {
    'flux_Li_per_ps_nm2': ' 1/ps/nm^2',
    'rate_Li_per_ps': ' 1/ps',
    'current_density_A_per_cm2': ' A/cm^2',
    'speed_m_per_s': ' m/s',
}


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
    width, depth, height = (float(length) for length in atoms.cell.lengths())
    area_nm2 = width * depth / 100
    check_fixed(settings.fixed_below_A, atoms)
    # of a surface that is not flat, what it would be if its atoms were spread out evenly
    surface = min(float(heights.max()), float(heights.min()) + len(atoms) * settings.atomic_volume_A3 / (width * depth))
    ceiling = surface - settings.thermostat_depth_A
    is_below = (heights >= settings.fixed_below_A) & (heights < ceiling)
    if settings.thermostat != 'all' and not is_below.any():
        raise ValueError(
            f'thermostat_depth_A = {settings.thermostat_depth_A} Å below the surface at {surface:.2f} Å: no atom is '
            f'left between it and fixed_below_A = {settings.fixed_below_A} Å for the thermostat to act on'
        )
    patches = settings.patches((width, depth))
    speed = settings.speed(area_nm2)
    schedule = settings.schedule(area_nm2)
    settings.check_crowding(highest_flux(patches, settings.rate(area_nm2)), speed)
    growth = schedule.n_insert * settings.atomic_volume_A3 / (width * depth)
    source_low = height - 2 * settings.source_margin_A
    peak = float(heights.max())
    halt: tuple[str, float] | None = None
    room = source_low - settings.clearance_A - surface
    if settings.stop_at_height_A is not None:
        if settings.stop_at_height_A > room:
            raise ValueError(
                f'stop_at_height_A = {settings.stop_at_height_A} Å above the surface at {surface:.1f} Å: the source '
                f'is {source_low:.1f} Å high, less clearance_A = {settings.clearance_A} Å; make the cell '
                f'{settings.stop_at_height_A - room:.1f} Å higher'
            )
        halt = ('height', settings.stop_at_height_A)
        growth = min(growth, settings.stop_at_height_A)
    elif len(patches) > 1 or patches[0].area_nm2 < 0.999 * area_nm2:
        # what grows below a patch may reach the source before an even film would
        halt = ('clearance', round(room, 6))
    if max(peak, surface + growth) + settings.clearance_A > source_low:
        needed = max(peak, surface + growth) + settings.clearance_A + 2 * settings.source_margin_A
        raise ValueError(
            f'the cell is {height:.1f} Å high; the slab ({peak:.1f} Å), {schedule.n_insert} atoms ({growth:.1f} Å), '
            f'clearance_A = {settings.clearance_A} Å and the source need {needed:.1f} Å'
        )
    return {
        'dump_every': settings.steps(settings.dump_every_ps),
        'end_step': settings.last_step(area_nm2),
        'schedule': schedule,
        'element_type': potential.elements.index(settings.element) + 1,
        'surface_A': round(surface, 6),
        'ceiling_A': round(ceiling, 6),
        'source_lines': region_lines(patches, (width, depth), round(source_low, 6), settings.source_margin_A),
        'speed_A_per_ps': speed / 100,
        'halt': halt,
        'needs_bonds': settings.thermostat != 'substrate',
    }


KIND = DeckKind(DepositSettings, context)
