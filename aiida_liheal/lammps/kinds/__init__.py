"""Every kind of LAMMPS run: its settings in one module here, its deck in `templates/KIND.in.j2`."""

from aiida_liheal.lammps.kinds import deposit, diffuse, explore, heal, liquid, melt, relax, slide, valley
from aiida_liheal.lammps.kinds.base import DeckKind
from aiida_liheal.lammps.kinds.deposit import DepositSettings, InsertionSchedule
from aiida_liheal.lammps.kinds.diffuse import DiffuseSettings
from aiida_liheal.lammps.kinds.explore import ExploreSettings
from aiida_liheal.lammps.kinds.heal import HealSettings
from aiida_liheal.lammps.kinds.liquid import LiquidSettings
from aiida_liheal.lammps.kinds.melt import MeltSettings
from aiida_liheal.lammps.kinds.relax import RelaxSettings
from aiida_liheal.lammps.kinds.slide import SlideSettings
from aiida_liheal.lammps.kinds.valley import ValleyRunSettings

__all__ = (
    'DECKS',
    'DeckKind',
    'DepositSettings',
    'DiffuseSettings',
    'ExploreSettings',
    'HealSettings',
    'InsertionSchedule',
    'LiquidSettings',
    'MeltSettings',
    'RelaxSettings',
    'SlideSettings',
    'ValleyRunSettings',
)

#: Every kind of run by name.
DECKS: dict[str, DeckKind] = {
    'explore': explore.KIND,
    'deposit': deposit.KIND,
    'heal': heal.KIND,
    'valley': valley.KIND,
    'slide': slide.KIND,
    'diffuse': diffuse.KIND,
    'melt': melt.KIND,
    'relax': relax.KIND,
    'liquid': liquid.KIND,
}
