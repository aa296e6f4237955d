"""`aiida-liheal launch valley`, and the other verbs that pack many runs into few jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aiida_liheal.cli.launch import (
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
from aiida_liheal.cli.params import load_potentials

if TYPE_CHECKING:
    from aiida_liheal.workchains.packed import PackedWorkChain

__all__ = ('valley',)


@click.command('valley')
@_seed
@_potential
@_common(['lmp'])
def valley(seed: int, potentials: tuple[str, ...], common: Common) -> None:
    """Tell the energy of an atom in valleys of many angles, and let one slide down a slope."""
    from aiida_liheal.workchains.valley import ValleyWorkChain

    _launch_packed(ValleyWorkChain, 'valley', potentials, seed, common)


def _launch_packed(
    process: type[PackedWorkChain], verb: str, potentials: tuple[str, ...], seed: int, common: Common
) -> None:
    given: Any = process
    members = _needed(load_potentials(potentials))
    builder = _build(
        verb,
        lambda: given.get_builder_from_protocol(
            common.codes, members, seed, common.protocol, common.overrides, common.options
        ),
    )
    settings = builder.settings.get_dict()
    plan = [
        *_code_rows(common.codes),
        *given.plan(builder),
        ('labels', '0', ''),
        ('potentials', str(len(builder.potentials)), 'the first one drives'),
        *_rows(settings, 'setting'),
    ]
    _go(builder, plan, common)
