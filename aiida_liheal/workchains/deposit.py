"""The verb `deposit`: atoms fall on a bcc slab whose lowest layers are fixed."""

from __future__ import annotations

from typing import Any

from aiida_liheal.structures.bcc import LITHIUM_A
from aiida_liheal.structures.shapes import Shape
from aiida_liheal.workchains.simulate import SimulationWorkChain

__all__ = ('DepositWorkChain',)


class DepositWorkChain(SimulationWorkChain):
    """Deposit metal on a slab and analyse how it grows."""

    _kind = 'deposit'
    _protocol_name = 'deposit'

    @classmethod
    def _completed(cls, settings: dict[str, Any], crystal: Shape | None) -> dict[str, Any]:
        """Of another metal than lithium, what falls, its volume and the reach of its bonds follow from the crystal."""
        settings = super()._completed(settings, crystal)
        if crystal is None or crystal.element == 'Li':
            return settings
        a = crystal.lattice_constant_A
        scaled = {'atomic_volume_A3': 21.6 * (a / LITHIUM_A) ** 3, 'bond_cutoff_A': 3.5 * a / LITHIUM_A}
        return {'element': crystal.element, **{key: round(value, 3) for key, value in scaled.items()}, **settings}
