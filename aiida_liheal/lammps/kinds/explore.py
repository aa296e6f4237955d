"""MD that looks for frames which a committee does not know."""

from __future__ import annotations

from typing import Any

from ase import Atoms
from pydantic import Field

from aiida_liheal.lammps.kinds.base import DeckKind, check_pressure
from aiida_liheal.lammps.potentials import PotentialSpec
from aiida_liheal.lammps.settings import MdSettings


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


def context(settings: ExploreSettings, atoms: Atoms, potential: PotentialSpec) -> dict[str, Any]:
    """What the template needs besides the settings."""
    check_pressure(settings.pressure_bar, atoms)
    # these frames may be labelled: keep them exact
    return {'dump_every': settings.every_steps, 'dump_format': '%.12g'}


KIND = DeckKind(ExploreSettings, context)
