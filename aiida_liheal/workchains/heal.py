"""The verb `heal`: a crystal with a cuboid void, left to itself from a cold start."""

from __future__ import annotations

from aiida_liheal.workchains.simulate import SimulationWorkChain

__all__ = ('HealWorkChain',)


class HealWorkChain(SimulationWorkChain):
    """Heat a crystal with a void and watch whether the void closes."""

    _kind = 'heal'
    _protocol_name = 'heal'
