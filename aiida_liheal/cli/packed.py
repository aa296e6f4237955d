"""`aiida-liheal launch valley`, and the other verbs that pack many runs into few jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aiida_liheal.cli.params import load, options_of
from aiida_liheal.cli.verbs import (
    SIMULATION_JOBS,
    Common,
    common_options,
    launch_packed,
    potential_option,
    seed_option,
)

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder

__all__ = ('diffuse', 'melt', 'valley')


@click.command('valley')
@seed_option
@potential_option
@common_options(['lmp'])
def valley(seed: int, potentials: tuple[str, ...], common: Common) -> None:
    """Tell the energy of an atom in valleys of many angles, and let one slide down a slope."""
    from aiida_liheal.workchains.valley import ValleyWorkChain

    launch_packed(
        'valley',
        lambda members: ValleyWorkChain.get_builder_from_protocol(
            common.codes, members, seed, common.protocol, common.overrides, common.options
        ),
        potentials,
        common,
    )


@click.command('diffuse')
@click.option('--structure', metavar='PK', help='The start: a shard of frames (its first) or a structure.')
@seed_option
@potential_option
@common_options(['lmp', 'python'], SIMULATION_JOBS)
def diffuse(structure: str | None, seed: int, potentials: tuple[str, ...], common: Common) -> None:
    """Measure how far atoms of surface and bulk come at several temperatures."""
    from aiida.orm import StructureData

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.workchains.diffuse import DiffuseWorkChain
    from aiida_liheal.workchains.protocol import set_options

    start: Any = load(structure, (FramesData, StructureData), 'structure') if structure else None

    def make(members: dict[str, Any]) -> ProcessBuilder:
        builder = DiffuseWorkChain.get_builder_from_protocol(
            common.codes, members, start, seed, common.protocol, common.overrides
        )
        for job in SIMULATION_JOBS:
            set_options(builder[job], options_of(common.options, job, SIMULATION_JOBS))
        return builder

    launch_packed('diffuse', make, potentials, common)


@click.command('melt')
@seed_option
@potential_option
@common_options(['lmp'])
def melt(seed: int, potentials: tuple[str, ...], common: Common) -> None:
    """Find the melting point by coexistence of crystal and melt."""
    from aiida_liheal.workchains.melt import MeltWorkChain

    launch_packed(
        'melt',
        lambda members: MeltWorkChain.get_builder_from_protocol(
            common.codes, members, seed, common.protocol, common.overrides, common.options
        ),
        potentials,
        common,
    )
