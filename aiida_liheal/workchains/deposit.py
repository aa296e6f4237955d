"""The verb `deposit`: atoms fall on a bcc (100) slab whose lowest layers are fixed."""

from __future__ import annotations

from typing import Any

from aiida_liheal.structures.bcc import SlabSettings
from aiida_liheal.structures.settings import Settings
from aiida_liheal.workchains.simulate import SimulationWorkChain

__all__ = ('DepositWorkChain',)


class DepositWorkChain(SimulationWorkChain):
    """Deposit lithium on a slab and analyse how it grows."""

    _kind = 'deposit'
    _protocol_name = 'deposit'

    @classmethod
    def _completed(cls, settings: dict[str, Any], crystal: Settings | None) -> dict[str, Any]:
        """The height of the fixed layers follows from the slab, unless it is given."""
        if isinstance(crystal, SlabSettings) and 'fixed_below_A' not in settings:
            return {**settings, 'fixed_below_A': crystal.fixed_below_A}
        return settings
