"""The potentials that ship with the package: frozen models with their training inputs, licence and source."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from aiida_liheal.data.potential import PotentialData

__all__ = ('BUILTIN', 'builtin_card', 'builtin_committee', 'builtin_folder')

#: Committees by name.
BUILTIN = ('li',)


def builtin_folder(name: str) -> Any:
    """Where the files of a shipped committee lie. Raises ValueError if there is no such committee."""
    if name not in BUILTIN:
        raise ValueError(f'there is no shipped potential {name!r}; there are {", ".join(BUILTIN)}')
    return files('aiida_liheal.data.builtin') / name


def builtin_card(name: str = 'li') -> dict[str, Any]:
    """What is known of a shipped committee: elements, held-out errors, source of the data, licence, citation.

    Raises ValueError if there is no such committee.
    """
    return dict(json.loads((builtin_folder(name) / 'card.json').read_text(encoding='utf-8')))


def builtin_committee(name: str = 'li') -> dict[str, PotentialData]:
    """The members m0, m1, … as unstored nodes, with source and licence in their extras once stored.

    Raises ValueError if there is no such committee.
    """
    folder = builtin_folder(name)
    card = builtin_card(name)
    members = {}
    for member in card['members']:
        node = PotentialData(
            kind='deepmd',
            elements=card['elements'],
            files={
                'frozen': (folder / f'{member}.pb').read_bytes(),
                'input': (folder / f'{member}.input.json').read_bytes(),
            },
        )
        node.label = f'builtin {name} {member}'
        node.description = f'{card["title"]}; data: {card["source"]}; licence: {card["licence"]}'
        members[member] = node
    return members
