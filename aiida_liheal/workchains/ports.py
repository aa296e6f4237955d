"""Ports that several verbs have, and the validator of whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiida.engine import ProcessSpec
from aiida.orm import Int

from aiida_liheal.data.potential import PotentialData

__all__ = ('add_max_at_once', 'add_potentials', 'add_seed', 'whole_number')


def whole_number(name: str, least: int = 1) -> Callable[[Int | None, Any], str | None]:
    """A port validator that refuses an `Int` below `least`; nothing given is fine."""

    def validate(node: Int | None, _: Any) -> str | None:
        if node is not None and node.value < least:
            return f'{name} is {node.value}; allowed is {least} or more'
        return None

    return validate


def add_seed(spec: ProcessSpec, text: str) -> None:
    """Add the input `seed`, with a help text that says of what."""
    spec.input('seed', valid_type=Int, validator=whole_number('seed', 0), help=text)


def add_potentials(spec: ProcessSpec, text: str) -> None:
    """Add the input `potentials`, a potential or a committee by member, with a help text that says what they do."""
    spec.input_namespace('potentials', valid_type=PotentialData, dynamic=True, required=True, help=text)


def add_max_at_once(spec: ProcessSpec, what: str) -> None:
    """Add the input `max_at_once`: how many of `what` run side by side."""
    spec.input(
        'max_at_once',
        valid_type=Int,
        required=False,
        validator=whole_number('max_at_once'),
        help=f'Most {what} that run side by side; all of them if not given.',
    )
