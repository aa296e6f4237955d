"""Distances count periodic images."""

import math

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from aiida_liheal.structures.bcc import bcc_bulk
from aiida_liheal.structures.checks import check_no_overlap, shortest_distance


def test_image_of_itself():
    assert shortest_distance(Atoms('Li', cell=[2.5, 20, 30], pbc=True)) == pytest.approx(2.5)
    assert shortest_distance(Atoms('Li', cell=[20, 20, 300], pbc=(False, False, True))) == pytest.approx(300)


def test_across_the_border():
    atoms = Atoms('Li2', positions=[[0.5, 5, 5], [9.5, 5, 5]], cell=[10, 10, 10], pbc=True)
    assert shortest_distance(atoms) == pytest.approx(1.0)
    atoms.pbc = False
    assert shortest_distance(atoms) == pytest.approx(9.0)


def test_far_apart_alone_and_none():
    assert shortest_distance(Atoms('Li2', positions=[[0, 0, 0], [0, 0, 5000]])) == pytest.approx(5000)
    assert shortest_distance(Atoms('Li')) == math.inf
    assert shortest_distance(Atoms()) == math.inf


def test_atoms_in_one_place():
    atoms = Atoms('Li2', positions=[[1, 1, 1], [1, 1, 1]], cell=[10, 10, 10], pbc=True)
    assert shortest_distance(atoms) == pytest.approx(0)


def test_overlap_names_atoms_distance_and_limit():
    atoms = bcc_bulk(size=(2, 2, 2))
    check_no_overlap(atoms, 2.0)
    atoms.positions[3] = atoms.positions[7] + [0.9, 0, 0]
    with pytest.raises(ValueError, match=r'atom 3 \(Li\) is 0.900 Å from atom 7 \(Li\): at least 2.0 Å is needed'):
        check_no_overlap(atoms, 2.0)
    with pytest.raises(ValueError, match='its own periodic image'):
        check_no_overlap(Atoms('Li', cell=[1, 9, 9], pbc=True), 2.0)


@pytest.mark.parametrize('seed', range(40))
def test_as_the_list_of_neighbours_has_it(seed):
    """Skewed cells shorter than the distance, atoms outside of them, any periodic directions."""
    rng = np.random.default_rng(seed)
    n_atoms = int(rng.integers(1, 8))
    cell = rng.normal(size=(3, 3)) + np.diag(rng.uniform(2, 6, 3))
    positions = rng.normal(size=(n_atoms, 3)) * 5
    atoms = Atoms(f'Li{n_atoms}', positions=positions, cell=cell, pbc=rng.random(3) < 0.7)
    distances = neighbor_list('d', atoms, 8.0)
    shortest = shortest_distance(atoms)
    assert min([*distances, 8.0]) == pytest.approx(min(shortest, 8.0), abs=1e-9)
