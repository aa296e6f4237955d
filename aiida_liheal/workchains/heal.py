"""The verb `heal`: a crystal with a void, or a slab with a rough surface, left to itself from a cold start."""

from __future__ import annotations

from aiida_liheal.workchains.simulate import SimulationWorkChain

__all__ = ('HealWorkChain',)


class HealWorkChain(SimulationWorkChain):
    """Heat a crystal with a void or a rough surface, and watch whether it closes or smooths."""

    _kind = 'heal'
    _protocol_name = 'heal'
