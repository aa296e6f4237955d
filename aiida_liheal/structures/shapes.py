"""Ready-made crystals by name: the settings a person writes, chosen by their key `shape`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ase import Atoms

from aiida_liheal.structures.bcc import SlabSettings, VoidCrystalSettings
from aiida_liheal.structures.dendrites import DendriteSettings
from aiida_liheal.structures.settings import Settings
from aiida_liheal.structures.valleys import SlopeSettings, ValleySettings


class Shape(Protocol):
    """What the settings of every shape have.

    Those that stand on fixed layers also have `fixed_below_A`: the height in Å below which no atom is to move, 0 if
    all may.
    """

    @property
    def element(self) -> str:
        """Chemical symbol."""

    @property
    def lattice_constant_A(self) -> float:  # noqa: N802 (the unit)
        """Cubic lattice constant in Å."""

    def build(self) -> Atoms:
        """The structure."""


#: Settings of each shape by its name.
SHAPES: dict[str, type[Settings]] = {
    'slab': SlabSettings,
    'void': VoidCrystalSettings,
    'valley': ValleySettings,
    'slope': SlopeSettings,
    'dendrites': DendriteSettings,
}


def read_shape(values: Mapping[str, Any], default: str) -> Settings:
    """Settings of the shape that `values['shape']` names.

    Parameters
    ----------
    values : Mapping
        Settings by key; without `shape`, they are those of the shape `default`.
    default : str
        Name of a shape.

    Raises
    ------
    ValueError
        If there is no such shape, or naming every setting that is wrong and what is allowed.
    """
    name = values.get('shape', default)
    if not isinstance(name, str) or name not in SHAPES:
        raise ValueError(f'shape = {name!r}: no such shape; known are {", ".join(sorted(SHAPES))}')
    return SHAPES[name].read(values)
