import numpy as np
import pytest
from analysis_synthetic import A, as_data, crystal, cut_cube, everything, slab
from ase import Atoms
from ovito.modifiers import ConstructSurfaceModifier

from aiida_liheal.analysis.vacuum import atoms_in_flight, heights, open_at_vacuum, ready_for_mesh
from aiida_liheal.analysis.voids import healed_at_ps, measure_voids

ATOMIC_VOLUME = A**3 / 2


@pytest.mark.parametrize('noise', [1e-6, 0.1])
@pytest.mark.parametrize(('size', 'cells'), [(6, 2), (8, 3), (10, 4), (12, 6)])
def test_volume_of_cubes(size, cells, noise):
    """The edge reads high by at most half a lattice constant, as the documentation says."""
    atoms, taken = cut_cube(crystal(size), cells, (size - cells) // 2)
    assert taken == 2 * cells**3
    atoms.rattle(noise, seed=3)
    voids = measure_voids(as_data(atoms), everything(atoms), 3.0)
    assert voids.regions == 1
    excess = voids.volume_A3 ** (1 / 3) - (taken * ATOMIC_VOLUME) ** (1 / 3)
    assert 0 < excess < A / 2 + 2 * noise


def test_two_voids_and_none():
    atoms, _ = cut_cube(crystal(12), 2, 1)
    one = measure_voids(as_data(atoms), everything(atoms), 3.0)
    atoms, _ = cut_cube(atoms, 2, 7)
    two = measure_voids(as_data(atoms), everything(atoms), 3.0)
    assert two.regions == 2
    assert two.volume_A3 == pytest.approx(2 * one.volume_A3, rel=1e-3)
    perfect = crystal(6)
    perfect.rattle(0.3, seed=1)
    assert measure_voids(as_data(perfect), everything(perfect), 3.0).volume_A3 == 0


def by_regions(data, matter):
    """Volumes of the voids by OVITO's own regions, the largest first."""
    work, copies = ready_for_mesh(data, matter, 3.0)
    work.apply(ConstructSurfaceModifier(radius=3.0, only_selected=True, identify_regions=True, smoothing_level=0))
    regions = work.surfaces['surface'].regions
    empty = np.sort(np.asarray(regions['Volume'])[np.asarray(regions['Filled']) == 0])[::-1]
    return empty[0 if all(data.cell.pbc) else 1 :][::copies]


@pytest.mark.parametrize('seed', range(12))
def test_volumes_are_those_of_regions(seed):
    """Balls, boxes, tunnels and cracks, alone or cutting one another, in bulk and slabs, cold and hot."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 8))
    edge = n * A
    atoms = crystal(n) if seed % 3 == 0 else slab(n, 2 * n, pbc_z=seed % 3 == 1)
    for _ in range(3):
        away = atoms.positions - rng.uniform(0, edge, 3)
        away -= np.round(away / edge) * edge * np.array([1, 1, seed % 3 == 0])
        box = rng.uniform(2, 7, 3)
        # tunnels through the cell, and cracks
        box[rng.random(3) < 0.2] = edge
        ball = np.linalg.norm(away, axis=1) < rng.uniform(2.5, 7)
        taken = ball if rng.random() < 0.5 else (np.abs(away) < box).all(axis=1)
        if not taken.all():
            atoms = atoms[~taken]
    atoms.rattle(rng.choice([1e-6, 0.1, 0.25, 0.4]), seed=seed)
    matter = ~atoms_in_flight(as_data(atoms), 1.207 * A, 0.1)
    opened = open_at_vacuum(as_data(atoms), matter, 10.0)
    voids = measure_voids(opened, matter, 3.0)
    assert voids.volumes_A3 == pytest.approx(by_regions(opened, matter), rel=1e-6)
    assert (voids.regions, voids.volume_A3) == (len(voids.volumes_A3), pytest.approx(voids.volumes_A3.sum()))


@pytest.mark.parametrize('afloat', [False, True])
def test_outside_and_lining_of_a_slab(afloat):
    """Outside: the lowest and the topmost layer; with an island afloat in the void as well."""
    atoms, _ = cut_cube(slab(7, 14), 4 if afloat else 2, 1 if afloat else 2)
    if afloat:
        island = crystal(1)
        island.positions += 2.75 * A
        atoms += island
    voids = measure_voids(as_data(atoms), everything(atoms), 3.0)
    z = atoms.positions[:, 2]
    outermost = (z < 0.1) | (z > z.max() - 0.1)
    assert (voids.outside == outermost).all()
    assert voids.lining.any()
    assert not voids.lining[outermost].any()


@pytest.mark.parametrize('axes', [(1,), (0, 2), (1, 2)])
def test_tunnels_and_cracks(axes):
    """A void that goes through the periodic cell has the volume of its cross-section, as wide as a closed one's."""
    atoms = crystal(6)
    low, high = 1.9 * A, 3.9 * A
    across = [axis for axis in range(3) if axis not in axes]
    taken = ((atoms.positions > low) & (atoms.positions < high))[:, across].all(axis=1)
    atoms = atoms[~taken]
    voids = measure_voids(as_data(atoms), everything(atoms), 3.0)
    # from the last layer kept below to the first one above
    assert voids.volumes_A3 == pytest.approx([(6 * A) ** len(axes) * (2.5 * A) ** len(across)], rel=0.15)
    assert voids.volumes_A3 == pytest.approx(by_regions(as_data(atoms), everything(atoms)), rel=1e-6)


def test_an_island_in_a_void_takes_room():
    atoms, _ = cut_cube(crystal(10), 6, 2)
    empty = measure_voids(as_data(atoms), everything(atoms), 3.0)
    island = crystal(2)
    island.positions += 4.25 * A
    filled = atoms + island
    voids = measure_voids(as_data(filled), everything(filled), 3.0)
    assert voids.volumes_A3 == pytest.approx(by_regions(as_data(filled), everything(filled)), rel=1e-6)
    assert 0 < empty.volume_A3 - voids.volume_A3 < (2 * A) ** 3
    assert voids.lining[-len(island) :].any()
    assert not voids.outside.any()


def test_lining_of_a_void():
    """The atoms of the mesh in bulk are those that line the void, and only those."""
    atoms, _ = cut_cube(crystal(8), 3, 2)
    voids = measure_voids(as_data(atoms), everything(atoms), 3.0)
    assert not voids.outside.any()
    lining = voids.lining
    outside = np.maximum(np.abs(atoms.positions - 3.25 * A).max(axis=1) / A - 1.25, 0)
    assert 0 < lining.sum() < len(atoms)
    assert outside[lining].max() <= 1.0
    assert lining[outside < 0.6].mean() > 0.5


def test_small_cells_are_repeated():
    """A cell too small for the mesh gives the volume of a larger one that repeats it."""
    small = crystal(2)[1:]
    large = small * (2, 2, 2)
    expected = measure_voids(as_data(large), everything(large), 3.0)
    found = measure_voids(as_data(small), everything(small), 3.0)
    assert expected.regions == 8 * found.regions
    assert found.volume_A3 == pytest.approx(expected.volume_A3 / 8)
    assert found.volume_A3 > ATOMIC_VOLUME


def test_a_vacancy_just_shows():
    """The probe of 3.00 Å fits where an atom is missing, 3.04 Å from its neighbours: not healed."""
    atoms = crystal(6)[1:]
    assert measure_voids(as_data(atoms), everything(atoms), 3.0).volume_A3 > ATOMIC_VOLUME
    assert measure_voids(as_data(atoms), everything(atoms), 3.5).volume_A3 == 0


@pytest.mark.parametrize(
    ('pbc_z', 'shift'), [(True, 0.0), (True, -8.0), (True, 20.0), (True, 45.0), (False, 0.0), (False, 20.0)]
)
def test_vacuum_of_a_slab_is_no_void(pbc_z, shift):
    """A void in a slab reads as in bulk, wherever the slab is in its cell, and even if it crosses the boundary."""
    bulk, _ = cut_cube(crystal(8), 2, 3)
    expected = measure_voids(as_data(bulk), everything(bulk), 3.0).volume_A3
    atoms, _ = cut_cube(slab(8, 16, pbc_z=pbc_z), 2, 3)
    atoms.positions[:, 2] += shift
    if pbc_z:
        atoms.wrap()
    data = as_data(atoms)
    opened = open_at_vacuum(data, everything(atoms), 10.0)
    assert tuple(opened.cell.pbc) == (True, True, False)
    assert tuple(data.cell.pbc) == (True, True, pbc_z), 'the frame was changed'
    voids = measure_voids(opened, everything(atoms), 3.0)
    assert (voids.regions, voids.volume_A3) == (1, pytest.approx(expected, rel=1e-6))
    assert np.ptp(heights(opened)) == pytest.approx(7.5 * A)


def test_bulk_stays_periodic():
    atoms, _ = cut_cube(crystal(8), 3, 2)
    opened = open_at_vacuum(as_data(atoms), everything(atoms), 10.0)
    assert all(opened.cell.pbc)
    assert np.asarray(opened.particles.positions) == pytest.approx(atoms.positions)


def test_a_tilted_cell_opens_along_its_height():
    atoms = crystal(6)
    atoms.set_cell(atoms.cell.array + np.array([[0, 0, 0], [0, 0, 0], [9.0, 4.0, 30.0]]))
    opened = open_at_vacuum(as_data(atoms), everything(atoms), 10.0)
    assert tuple(opened.cell.pbc) == (True, True, False)
    assert np.ptp(heights(opened)) == pytest.approx(5.5 * A)


def test_atoms_in_flight_neither_fill_nor_close():
    """A cloud over a slab with a pit: in flight are the atoms farther than the cut-off, and clusters of them."""
    atoms = slab(6, 12)
    top = atoms.positions[:, 2].max()
    landed = Atoms('Li', [[5.0, 5.0, top + 3.0]])
    flying = Atoms('Li4', [[5.0, 5.0, top + 12], [12, 12, top + 20], [12, 14.5, top + 20], [12, 17, top + 20]])
    everyone = atoms + landed + flying
    found = atoms_in_flight(as_data(everyone), 1.207 * A, 0.1)
    assert np.flatnonzero(found).tolist() == [433, 434, 435, 436]
    # an atom inside a void is matter no more than one above the surface
    hollow, _ = cut_cube(crystal(10), 4, 3)
    expected = measure_voids(as_data(hollow), everything(hollow), 3.0)
    hollow.append('Li')
    hollow.positions[-1] = 4.75 * A
    found = atoms_in_flight(as_data(hollow), 1.207 * A, 0.1)
    assert found.sum() == 1
    assert measure_voids(as_data(hollow), ~found, 3.0).volume_A3 == pytest.approx(expected.volume_A3)


def test_no_atom_of_a_tiny_crystal_is_in_flight():
    assert not atoms_in_flight(as_data(crystal(1)), 1.207 * A, 0.1).any()


def test_healed_means_closed_and_staying_so():
    times = np.arange(6.0)
    closing = np.array([600.0, 200, 50, 10, 0, 0])
    assert healed_at_ps(times, closing, ATOMIC_VOLUME, 1.0) == 3.0
    assert healed_at_ps(times, closing, ATOMIC_VOLUME, 2.5) is None, 'too short a time to say that it stays so'
    assert healed_at_ps(times, closing[::-1], ATOMIC_VOLUME, 1.0) is None, 'opens'
    assert healed_at_ps(times, np.array([600.0, 0, 0, 40, 0, 0]), ATOMIC_VOLUME, 1.0) == 4.0, 'opened again'
    assert healed_at_ps(times, np.zeros(6), ATOMIC_VOLUME, 1.0) is None, 'there never was a void'
