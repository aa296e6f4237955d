"""What makes a kind of run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ase import Atoms

from aiida_liheal.lammps.potentials import PotentialSpec
from aiida_liheal.lammps.settings import RunSettings


class DeckKind(NamedTuple):
    """A kind of run: its settings, and what its template needs besides them.

    The function raises ValueError if the settings do not fit the start.
    """

    settings: type[RunSettings]
    context: Callable[[Any, Atoms, PotentialSpec], dict[str, Any]]
