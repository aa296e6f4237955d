"""MD at constant energy after an equilibration, to see how far atoms come."""

from __future__ import annotations

from typing import Any, Self

from ase import Atoms
from pydantic import Field, model_validator

from aiida_liheal.lammps.kinds.base import DeckKind, check_fixed, open_sides
from aiida_liheal.lammps.potentials import PotentialSpec
from aiida_liheal.lammps.settings import TrajectorySettings

#: Frames after the equilibration, at least: fewer make no curve.
LEAST_FRAMES = 10


class DiffuseSettings(TrajectorySettings):
    """A crystal or slab in a cell that keeps its size: equilibrated with a thermostat, then left alone.

    A thermostat changes how atoms move; without one they move by the potential alone.
    """

    equilibration_ps: float = Field(
        default=5.0, ge=0, description='time at the start with a thermostat, in ps; part of duration_ps'
    )
    fixed_below_A: float | None = Field(
        default=None,
        gt=0,
        description='atoms of the start below this height z never move, in Å; without it all of them may',
    )

    @model_validator(mode='after')
    def _enough_frames(self) -> Self:
        frames = int((self.duration_ps - self.equilibration_ps) / self.dump_every_ps)
        if frames < LEAST_FRAMES:
            raise ValueError(
                f'duration_ps = {self.duration_ps} ps, equilibration_ps = {self.equilibration_ps} ps, dump_every_ps = '
                f'{self.dump_every_ps} ps: leaves {max(frames, 0)} frames after the equilibration; at least '
                f'{LEAST_FRAMES} are needed'
            )
        return self


def context(settings: DiffuseSettings, atoms: Atoms, potential: PotentialSpec) -> dict[str, Any]:
    """What the template needs besides the settings."""
    if settings.fixed_below_A is not None:
        check_fixed(settings.fixed_below_A, atoms)
    return {
        'dump_every': settings.steps(settings.dump_every_ps),
        'equilibration_steps': settings.steps(settings.equilibration_ps) if settings.equilibration_ps else 0,
        'open_sides': open_sides(atoms),
    }


KIND = DeckKind(DiffuseSettings, context)
