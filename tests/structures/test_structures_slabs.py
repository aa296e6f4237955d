"""Slabs of every facet and with every defect are counted and measured, and spheres taken out of crystals."""

import itertools

import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from aiida_liheal.structures.bcc import SlabSettings, VoidCrystalSettings, bcc_bulk, spherical_void
from aiida_liheal.structures.checks import shortest_distance

A = 3.51
NEAREST = A * np.sqrt(3) / 2
#: Per facet: area of one atom in a layer and distance of the layers, in units of a² and a.
FACETS = {'100': (1, 1 / 2), '110': (1 / np.sqrt(2), 1 / np.sqrt(2)), '111': (np.sqrt(3), 1 / np.sqrt(12))}
SLAB = {'size': (24, 3), 'n_layers': 12, 'n_fixed_layers': 3, 'height_above_A': 20.0}
TRENCH = {**SLAB, 'defect': 'rectangular', 'defect_depth_A': 7.02, 'defect_width_A': 21.06}


def same_positions(atoms, moved, shift_A=0.0):
    """Whether `moved`, shifted along x, are the positions of the atoms but for their order and cell vectors."""
    moved = np.array(moved)
    moved[:, 0] += shift_A
    lengths = atoms.cell.lengths()
    lengths[2] = 1e6
    folded = [np.round((p + 1e-3) % lengths, 2) for p in (atoms.positions, moved)]
    first, second = (p[np.lexsort(p.T)] for p in folded)
    return first.shape == second.shape and np.abs(first - second).max() < 0.02


@pytest.mark.parametrize('facet', FACETS)
def test_facets_have_their_area_spacing_and_neighbours(facet):
    area, spacing = FACETS[facet]
    rng = np.random.default_rng(7)
    for _ in range(5):
        size, n_layers, a = tuple(rng.integers(2, 6, 2)), int(rng.integers(3, 12)), rng.uniform(2.8, 4.3)
        fixed = int(rng.integers(0, n_layers))
        settings = SlabSettings(
            element='Na',
            lattice_constant_A=a,
            facet=facet,
            size=size,
            n_layers=n_layers,
            n_fixed_layers=fixed,
            height_above_A=11,
        )
        slab = settings.build()
        lengths = slab.cell.lengths()
        assert slab.cell.orthorhombic
        assert slab.pbc.tolist() == [True, True, False]
        heights, counts = np.unique(slab.positions[:, 2].round(5), return_counts=True)
        assert heights == pytest.approx(np.arange(n_layers) * spacing * a, abs=1e-4)
        assert lengths[0] * lengths[1] / counts == pytest.approx(area * a**2)
        assert lengths[:2] == pytest.approx(settings.lengths_A)
        assert lengths[2] == pytest.approx(heights[-1] + 11, abs=1e-4)
        assert (slab.positions[:, 2] < settings.fixed_below_A).sum() == fixed * counts[0]
        assert shortest_distance(slab) == pytest.approx(a * np.sqrt(3) / 2)
        # the density of the crystal: two atoms in a^3
        assert area * a**2 * spacing * a == pytest.approx(a**3 / 2)


@pytest.mark.parametrize('facet', FACETS)
def test_inner_atoms_of_every_facet_have_eight_neighbours_and_six_more(facet):
    slab = SlabSettings(facet=facet, size=(4, 4), n_layers=20, height_above_A=20).build()
    i, distances = neighbor_list('id', slab, 1.2 * A)
    middle = np.abs(slab.positions[:, 2] - slab.positions[:, 2].mean()) < 1
    for atom in np.flatnonzero(middle):
        assert np.sort(distances[i == atom]) == pytest.approx([NEAREST] * 8 + [A] * 6)


@pytest.mark.parametrize('facet', FACETS)
@pytest.mark.parametrize('defect', ['rectangular', 'triangular', 'inverted_triangular'])
def test_defects_take_their_volume_and_are_mirror_symmetric(facet, defect):
    """Over random sizes: what is removed is the volume but for at most half a row at each wall of each layer."""
    rng = np.random.default_rng(11)
    spacing = FACETS[facet][1] * A
    for _ in range(4):
        n_defects, n_layers = int(rng.integers(1, 4)), int(rng.integers(14, 30))
        flat = SlabSettings(
            facet=facet, size=(12 * n_defects, 2), n_layers=n_layers, n_fixed_layers=3, height_above_A=20
        )
        period = flat.lengths_A[0] / n_defects
        depth, width = rng.uniform(2 * spacing, (n_layers - 4) * spacing), rng.uniform(3, 8) * A
        settings = SlabSettings(
            **flat.model_dump(exclude={'defect', 'defect_depth_A', 'defect_width_A', 'n_defects'}),
            defect=defect,
            defect_depth_A=depth,
            defect_width_A=width,
            n_defects=n_defects,
        )
        slab = settings.build()
        assert len(slab) == len(flat.build()) - settings.n_removed
        assert slab.cell.lengths() == pytest.approx(flat.build().cell.lengths())

        # exact area in xz of one defect: whole layers are taken, so the depth counts in layers at every x
        x = (np.arange(20_000) + 0.5) / 20_000 * period
        share = np.clip(np.abs(x - period / 2) / (width / 2), 0, 1)
        profile = {
            'rectangular': depth * (share < 1),
            'triangular': depth * share,
            'inverted_triangular': depth * (1 - share),
        }[defect]
        layers = np.ceil(profile / spacing - 1e-6)
        expected = layers.mean() * period * n_defects * flat.lengths_A[1] * 2 / A**3 * spacing
        rows = 2 * layers.max() * n_defects * flat.lengths_A[1] * 2 / A**3 * spacing * A
        assert abs(settings.n_removed - expected) <= rows / 2
        assert settings.n_removed > 0

        # one layer above the fixed ones is whole, and the top is where it was
        whole = SlabSettings(facet=facet, size=flat.size, n_layers=4, height_above_A=20).build()
        assert (slab.positions[:, 2] < 3.5 * spacing).sum() == len(whole)
        assert slab.positions[:, 2].max() == pytest.approx((n_layers - 1) * spacing)

        mirrored = slab.positions * [-1, 1, 1]
        assert same_positions(slab, mirrored)
        assert same_positions(slab, slab.positions, period)


def test_trench_is_as_deep_and_wide_as_said():
    slab = SlabSettings.read(TRENCH).build()
    x, _, z = slab.positions.T
    top = 11 * A / 2
    floor = z[np.abs(x - 12 * A) < A].max()
    assert top - floor == pytest.approx(7.02)
    walls = x[z > top - 7.02 + 0.1]
    assert np.diff(np.unique(walls.round(4))).max() == pytest.approx(21.06, abs=A / 2)
    assert SlabSettings.read(TRENCH).n_removed == len(SlabSettings.read(SLAB).build()) - len(slab)


def test_ridge_and_groove_of_a_whole_period_are_each_other_shifted():
    """With the foot as wide as the period both are the same saw."""
    saw = {**SLAB, 'size': (36, 2), 'defect_depth_A': 10.53, 'defect_width_A': 18 * A, 'n_defects': 2}
    ridge = SlabSettings.read({**saw, 'defect': 'triangular'}).build()
    groove = SlabSettings.read({**saw, 'defect': 'inverted_triangular'}).build()
    assert same_positions(ridge, groove.positions, 9 * A)


def test_ridge_has_its_tip_and_groove_its_bottom_in_the_middle():
    for defect, height in (('triangular', 11 * A / 2), ('inverted_triangular', 11 * A / 2 - 7.02)):
        slab = SlabSettings.read({**TRENCH, 'defect': defect, 'n_defects': 2}).build()
        x, _, z = slab.positions.T
        for middle in (6 * A, 18 * A):
            assert z[np.abs(x - middle) < 0.6 * A].max() == pytest.approx(height, abs=A / 2)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'facet': '112'}, r"facet = '112': .*'100', '110' or '111'"),
        ({'defect': 'round'}, r"defect = 'round': .*'inverted_triangular'"),
        ({'defect': 'none'}, r'defect_depth_A = 7.02, defect_width_A = 21.06: only for a defect, but defect is none'),
        ({'defect_depth_A': None}, 'defect_depth_A and defect_width_A, in Å, must be given'),
        ({'defect_depth_A': 15.8}, r'defect_depth_A = 15.8 Å: must be from 1.755 Å, one layer, to 14.040 Å.* 3 fixed'),
        ({'defect_depth_A': 1.0}, r'defect_depth_A = 1.0 Å: must be from 1.755 Å'),
        ({'defect_width_A': 80.0}, r'defect_width_A = 80.0 Å: must be from 7.020 to 77.220 Å for 1 rectangular'),
        ({'defect_width_A': 43.0, 'n_defects': 2, 'defect': 'triangular'}, r'from 7.020 to 42.120 Å for 2 triangular'),
        ({'n_defects': 5}, 'n_defects = 5: must divide the 24 cells'),
    ],
)
def test_defects_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SlabSettings.read({**TRENCH, **changes})


def test_largest_defects_that_are_allowed_can_be_built():
    deepest = SlabSettings.read({**TRENCH, 'defect_depth_A': 8 * A / 2, 'defect_width_A': 22 * A})
    assert deepest.n_removed > 0
    assert shortest_distance(deepest.build()) == pytest.approx(NEAREST)


def test_sphere_takes_its_volume_wherever_it_lies():
    rng = np.random.default_rng(3)
    for _ in range(10):
        diameter, centre = rng.uniform(12, 30), tuple(rng.uniform(0, 1, 3))
        settings = VoidCrystalSettings(size=(10, 9, 11), void='sphere', diameter_A=diameter, centres=(centre,))
        crystal = settings.build()
        assert len(crystal) == 2 * 10 * 9 * 11 - settings.n_removed
        expected = 2 / A**3 * np.pi / 6 * diameter**3
        # the number of lattice points in a sphere is off by a few in a layer of atoms at its surface
        assert settings.n_removed == pytest.approx(expected, abs=0.15 * np.pi * diameter**2 * 2 / A**2)
        middle = np.array(centre) * crystal.cell.lengths()
        images = [crystal.positions + crystal.cell.lengths() * s for s in itertools.product((-1, 0, 1), repeat=3)]
        distances = np.linalg.norm(np.concatenate(images) - middle, axis=1)
        assert diameter / 2 - 1e-3 <= distances.min() <= diameter / 2 + A / 2


def test_sphere_in_the_middle_is_symmetric_and_counted_by_hand():
    # about an atom: itself, 8 nearest, 6 next
    atom = VoidCrystalSettings(size=(4, 4, 4), void='sphere', diameter_A=2.1 * A)
    assert atom.n_removed == 15
    left, removed = spherical_void(bcc_bulk(size=(4, 4, 4)), 2.1 * A)
    assert removed == 15
    assert len(left) == len(atom.build())


def test_several_voids_take_the_sum_and_may_touch_the_border():
    two = VoidCrystalSettings(size=(6, 6, 6), void_size=(2, 1, 2), centres=((0, 0, 0), (0.5, 0.5, 0.5)))
    assert two.n_removed == 2 * 2 * 4
    spheres = VoidCrystalSettings(
        size=(9, 6, 6), void='sphere', diameter_A=2.1 * A, centres=((0, 0.5, 0.5), (1 / 3, 0.5, 0.5), (2 / 3, 0.5, 0.5))
    )
    assert spheres.n_removed == 3 * 15


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'diameter_A': 50.0}, r'diameter_A = 50.0 Å: must be greater than 3.924 Å.*smaller than .*21.060 Å'),
        ({'diameter_A': 3.9}, r'diameter_A = 3.9 Å: must be greater than 3.924 Å'),
        ({'diameter_A': None}, 'diameter_A: missing'),
        ({'void_size': (1, 1, 1)}, r'void_size = \(1, 1, 1\) cells: only for void = cuboid'),
        ({'void': 'cuboid'}, 'void_size: missing'),
        ({'void': 'cuboid', 'void_size': (1, 1, 1)}, r'diameter_A = 10.0 Å: only for void = sphere'),
        ({'void': 'cone'}, r"void = 'cone': .*'cuboid' or 'sphere'"),
        ({'centres': [(0.5, 0.5, 1.2)]}, r'centres.0.2 = 1.2: .*less than or equal to 1'),
        ({'centres': []}, r'centres = \[\]: .*at least 1'),
        ({'centres': [(0.1, 0.5, 0.5), (0.9, 0.5, 0.5)]}, r'centres: voids 0 and 1 .* overlap, \[4.212, 0.0, 0.0\] Å'),
    ],
)
def test_bad_voids_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        VoidCrystalSettings.read({'size': (6, 6, 6), 'void': 'sphere', 'diameter_A': 10.0, **changes})


def test_smallest_sphere_allowed_holds_an_atom_wherever_it_lies():
    rng = np.random.default_rng(5)
    for centre in [(1 / 8, 1 / 16, 0), *rng.uniform(0, 1, (50, 3))]:
        crystal = VoidCrystalSettings(size=(4, 4, 4), void='sphere', diameter_A=3.93, centres=(tuple(centre),))
        assert crystal.n_removed >= 1
