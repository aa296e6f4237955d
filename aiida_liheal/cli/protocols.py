"""`aiida-liheal launch valley`, and the other verbs that pack many runs into few jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from aiida_liheal.cli.launch import (
    _SIMULATION_JOBS,
    Common,
    _build,
    _code_rows,
    _common,
    _go,
    _needed,
    _potential,
    _rows,
    _seed,
)
from aiida_liheal.cli.params import load, load_potentials, options_of

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder

__all__ = ('diffuse', 'melt', 'valley')


@click.command('valley')
@_seed
@_potential
@_common(['lmp'])
def valley(seed: int, potentials: tuple[str, ...], common: Common) -> None:
    """Tell the energy of an atom in valleys of many angles, and let one slide down a slope."""
    from aiida_liheal.workchains.valley import ValleyWorkChain

    _launch_packed(
        'valley',
        lambda members: ValleyWorkChain.get_builder_from_protocol(
            common.codes, members, seed, common.protocol, common.overrides, common.options
        ),
        potentials,
        common,
    )


@click.command('diffuse')
@click.option('--structure', metavar='PK', help='The start: a shard of frames (its first) or a structure.')
@_seed
@_potential
@_common(['lmp', 'python'], _SIMULATION_JOBS)
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
        for job in _SIMULATION_JOBS:
            set_options(builder[job], options_of(common.options, job, _SIMULATION_JOBS))
        return builder

    _launch_packed('diffuse', make, potentials, common)


@click.command('melt')
@_seed
@_potential
@_common(['lmp'])
def melt(seed: int, potentials: tuple[str, ...], common: Common) -> None:
    """Find the melting point by coexistence of crystal and melt."""
    from aiida_liheal.workchains.melt import MeltWorkChain

    _launch_packed(
        'melt',
        lambda members: MeltWorkChain.get_builder_from_protocol(
            common.codes, members, seed, common.protocol, common.overrides, common.options
        ),
        potentials,
        common,
    )


def _launch_packed(
    verb: str, make: Callable[[dict[str, Any]], ProcessBuilder], potentials: tuple[str, ...], common: Common
) -> None:
    members = _needed(load_potentials(potentials))
    builder = _build(verb, lambda: make(members))
    plan = [
        *_code_rows(common.codes),
        *builder.process_class.plan(builder),
        ('labels', '0', ''),
        ('potentials', str(len(builder.potentials)), 'the first one drives'),
        *_rows(builder.settings.get_dict(), 'setting'),
    ]
    _go(builder, plan, common)
