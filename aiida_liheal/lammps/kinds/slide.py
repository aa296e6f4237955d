"""An atom placed on a slope and left to itself."""

from __future__ import annotations

from typing import Any

from ase import Atoms
from pydantic import Field

from aiida_liheal.lammps.kinds.base import DeckKind
from aiida_liheal.lammps.kinds.valley import placed_context
from aiida_liheal.lammps.potentials import PotentialSpec
from aiida_liheal.lammps.settings import TrajectorySettings


class SlideSettings(TrajectorySettings):
    """MD of an atom on a slope, the last one; the surface is thermostatted and the atom itself is not.

    A thermostat on the atom would brake it: what it loses on its way down, it loses to the surface.
    """

    fixed_below_A: float = Field(gt=0, description='atoms of the start below this height z never move, in Å')


def context(settings: SlideSettings, atoms: Atoms, potential: PotentialSpec) -> dict[str, Any]:
    """What the template needs besides the settings."""
    return {
        'dump_every': settings.steps(settings.dump_every_ps),
        **placed_context(settings.fixed_below_A, atoms),
    }


KIND = DeckKind(SlideSettings, context)
