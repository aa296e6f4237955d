"""Checks of a structure before anything is computed with it."""

from __future__ import annotations

import math

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from scipy.spatial import KDTree


def shortest_within(atoms: Atoms, reach_A: float) -> float:
    """Shortest distance of two atoms in Å if it is below `reach_A`, else infinite.

    ASE's lists of neighbours take 2 to 10 ms whatever they find, which thousands of frames feel.
    """
    cell = atoms.cell.complete()
    # as far as the reach goes in units of the distance of two faces of the cell
    margins = np.where(atoms.pbc, reach_A * np.linalg.norm(np.linalg.inv(cell.array), axis=0), 0.0)
    points = atoms.get_scaled_positions(wrap=True)
    n_atoms = len(points)
    for axis, margin in enumerate(margins):
        shifts = [shift for shift in range(-math.ceil(margin), math.ceil(margin) + 1) if shift]
        images = [points]
        for shift in shifts:
            moved = points[:, axis] + shift
            chosen = points[(moved >= -margin) & (moved <= 1 + margin)]
            chosen[:, axis] += shift
            images.append(chosen)
        points = np.concatenate(images)
    points = points @ cell.array
    # the nearest point of an atom is the atom
    distances, _ = KDTree(points).query(points[:n_atoms], k=2, distance_upper_bound=reach_A)
    return float(distances[:, 1].min())


def shortest_distance(atoms: Atoms) -> float:
    """Shortest distance between two atoms in Å, periodic images of an atom itself included.

    Infinite for one atom alone.
    """
    if len(atoms) == 0 or (len(atoms) == 1 and not atoms.pbc.any()):
        return math.inf
    # the search costs what its reach costs: begin short and double until a pair is found
    longest = 2 * (math.sqrt((atoms.cell.lengths() ** 2).sum()) + math.sqrt((atoms.positions.std(axis=0) ** 2).sum()))
    cutoff = 2.0
    while True:
        shortest = shortest_within(atoms, cutoff)
        if shortest < math.inf:
            return shortest
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
    if len(atoms) == 0 or shortest_within(atoms, 1.001 * min_distance_A) >= min_distance_A:
        return
    first, second, distances = neighbor_list('ijd', atoms, min_distance_A)
    if len(distances):
        worst = int(distances.argmin())
        i, j = int(first[worst]), int(second[worst])
        other = 'its own periodic image' if i == j else f'atom {j} ({atoms.symbols[j]})'
        raise ValueError(
            f'atom {i} ({atoms.symbols[i]}) is {distances[worst]:.3f} Å from {other}: at least {min_distance_A} Å '
            f'is needed ({len(distances) // 2} pairs are closer)'
        )
