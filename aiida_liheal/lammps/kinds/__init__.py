"""Every kind of LAMMPS run: its settings in one module here, its deck in `templates/KIND.in.j2`."""

from aiida_liheal.lammps.kinds import deposit, explore, heal
from aiida_liheal.lammps.kinds.base import DeckKind
from aiida_liheal.lammps.kinds.deposit import DepositSettings, InsertionSchedule
from aiida_liheal.lammps.kinds.explore import ExploreSettings
from aiida_liheal.lammps.kinds.heal import HealSettings

__all__ = ('DECKS', 'DeckKind', 'DepositSettings', 'ExploreSettings', 'HealSettings', 'InsertionSchedule')

#: Every kind of run by name.
DECKS: dict[str, DeckKind] = {'explore': explore.KIND, 'deposit': deposit.KIND, 'heal': heal.KIND}
