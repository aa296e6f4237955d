"""A crystal that is melted, cooled, and looked at as a liquid: its density and radial distribution."""

from __future__ import annotations

from typing import Any, Self

from ase import Atoms
from pydantic import Field, model_validator

from aiida_liheal.lammps.kinds.base import BondOrderSettings, DeckKind
from aiida_liheal.lammps.potentials import PotentialSpec

#: Skin of the neighbour lists in Å, the default of LAMMPS in units metal, and a little more.
SKIN_A = 2.001


class LiquidSettings(BondOrderSettings):
    """A liquid at a temperature and a pressure.

    The crystal is melted and cooled to the temperature in the cell of the start, which keeps it from boiling; then the
    cell follows the pressure. The last part of the run is measured in blocks of time. The radial distribution of each
    comes back among the `values` of the run: `block_0_g_000`, … by shell, and `block_0_samples`. A block in which a run
    was gone on with holds what came after that.
    """

    temperature_K: float = Field(default=454.0, gt=0, le=10_000, description='temperature of the liquid in K')
    melting_temperature_K: float = Field(
        default=1200.0, gt=0, le=10_000, description='temperature at which the crystal is melted, in K'
    )
    melting_ps: float = Field(default=2.0, gt=0, description='time for melting it, in ps; part of duration_ps')
    cooling_ps: float = Field(
        default=1.0, gt=0, description='time for cooling the melt to temperature_K, in ps; part of duration_ps'
    )
    measured_ps: float = Field(default=10.0, gt=0, description='time at the end that is measured; part of duration_ps')
    n_blocks: int = Field(default=4, ge=2, le=50, description='blocks of time, from whose means the errors come')
    sample_every_ps: float = Field(
        default=0.05, gt=0, description='time between two samples of the radial distribution in ps'
    )
    pressure_bar: float = Field(default=0.0, description='pressure after cooling in bar; the cell stays cubic')
    pressure_damping_ps: float = Field(default=1.0, gt=0, description='damping time of the barostat in ps')
    rdf_reach_A: float = Field(
        default=8.0, gt=0, le=50, description='largest distance of the radial distribution in Å; at most half an edge'
    )
    rdf_bin_A: float = Field(
        default=0.05, ge=0.01, le=0.5, description='thickness of a shell of the radial distribution in Å, about'
    )

    @model_validator(mode='after')
    def _parts_fit(self) -> Self:
        before = self.melting_ps + self.cooling_ps
        if before + self.measured_ps >= self.duration_ps:
            raise ValueError(
                f'duration_ps = {self.duration_ps} ps: must be longer than melting_ps = {self.melting_ps} ps, '
                f'cooling_ps = {self.cooling_ps} ps and measured_ps = {self.measured_ps} ps together, so that the '
                'liquid comes to its pressure before it is measured'
            )
        if self.melting_temperature_K <= self.temperature_K:
            raise ValueError(
                f'melting_temperature_K = {self.melting_temperature_K} K: must be above temperature_K = '
                f'{self.temperature_K} K'
            )
        if self.measured_ps < self.n_blocks * self.sample_every_ps:
            raise ValueError(
                f'measured_ps = {self.measured_ps} ps: {self.n_blocks} blocks with a sample each '
                f'{self.sample_every_ps} ps need {self.n_blocks * self.sample_every_ps:g} ps or more'
            )
        return self

    @property
    def sample_steps(self) -> int:
        """Steps between two samples."""
        return self.steps(self.sample_every_ps)

    @property
    def n_steps(self) -> int:
        """Steps of the run, in whole samples."""
        return self.sample_steps * max(1, self.steps(self.duration_ps) // self.sample_steps)

    @property
    def block_ends(self) -> list[int]:
        """Last step of each block, rising; in between lie as many samples each."""
        block = self.sample_steps * max(1, self.steps(self.measured_ps) // (self.n_blocks * self.sample_steps))
        return [self.n_steps - block * left for left in reversed(range(self.n_blocks))]

    @property
    def measured_from_step(self) -> int:
        """Step after which the liquid is measured."""
        first, second = self.block_ends[:2]
        return first - (second - first)

    @property
    def n_bins(self) -> int:
        """Shells of the radial distribution."""
        return max(1, round(self.rdf_reach_A / self.rdf_bin_A))


def context(settings: LiquidSettings, atoms: Atoms, potential: PotentialSpec) -> dict[str, Any]:
    """What the template needs besides the settings."""
    if not (atoms.pbc.all() and atoms.cell.orthorhombic):
        raise ValueError(
            f'pbc = {atoms.pbc.tolist()}: a liquid is made from an orthorhombic crystal that is periodic in all '
            'directions'
        )
    shortest = float(atoms.cell.lengths().min())
    if settings.rdf_reach_A > shortest / 2:
        raise ValueError(
            f'rdf_reach_A = {settings.rdf_reach_A} Å: must be at most half of the shortest edge of the cell, '
            f'{shortest / 2:.2f} Å'
        )
    return {
        'melting_steps': settings.steps(settings.melting_ps),
        'cooling_steps': settings.steps(settings.melting_ps + settings.cooling_ps),
        'reach_of_ghosts_A': settings.rdf_reach_A + SKIN_A,
    }


KIND = DeckKind(LiquidSettings, context)
