"""Checks of a structure before anything is computed with it."""

from __future__ import annotations

import math

from ase import Atoms
from ase.neighborlist import neighbor_list


def shortest_distance(atoms: Atoms) -> float:
    """Shortest distance between two atoms in Å, periodic images of an atom itself included.

    Infinite for one atom alone.
    """
    if len(atoms) == 0 or (len(atoms) == 1 and not atoms.pbc.any()):
        return math.inf
    # the neighbour list costs what its cut-off costs: begin short and double until a pair is found
    longest = 2 * (math.sqrt((atoms.cell.lengths() ** 2).sum()) + math.sqrt((atoms.positions.std(axis=0) ** 2).sum()))
    cutoff = 2.0
    while True:
        distances = neighbor_list('d', atoms, cutoff)
        if len(distances):
            return float(distances.min())
        if cutoff > longest * len(atoms):
            return math.inf
        cutoff *= 2


def check_no_overlap(atoms: Atoms, min_distance_A: float) -> None:
    """Refuse a structure whose atoms are too close.

    Raises
    ------
    ValueError
        Naming the two closest atoms (counted from 0), their distance and the shortest one allowed, in Å.
    """
    first, second, distances = neighbor_list('ijd', atoms, min_distance_A)
    if len(distances):
        worst = int(distances.argmin())
        i, j = int(first[worst]), int(second[worst])
        other = 'its own periodic image' if i == j else f'atom {j} ({atoms.symbols[j]})'
        raise ValueError(
            f'atom {i} ({atoms.symbols[i]}) is {distances[worst]:.3f} Å from {other}: at least {min_distance_A} Å '
            f'is needed ({len(distances) // 2} pairs are closer)'
        )
