"""Angles are recovered from the positions, and the atom sits where it should."""

import numpy as np
import pytest

from aiida_liheal.structures.checks import shortest_distance
from aiida_liheal.structures.shapes import read_shape
from aiida_liheal.structures.valleys import SlopeSettings, ValleySettings

A = 3.51
NEAREST = A * np.sqrt(3) / 2
VALLEY = {'size': (16, 4), 'n_layers': 14, 'n_fixed_layers': 4, 'height_above_A': 20.0, 'depth_A': 12.3}
ANGLES = [45, 90, 135, 180, 225, 270]


def neighbours(atoms):
    """Distances of the last atom from all others, the shortest first."""
    return np.sort(atoms.get_distances(-1, range(len(atoms) - 1), mic=True))


def measured_angle(atoms, line, top):
    """Opening angle in degrees from the outermost atom of each row of the right wall, by a line through them."""
    x, _, z = atoms.positions[:-1].T
    inside = (x > line) & (np.abs(z - top) > 1)
    heights = np.unique(z[inside].round(4))
    if z.max() > top + 1:  # a groove: the first atom of each layer above the line
        rows = [(x[inside & (np.abs(z - h) < 0.1)].min(), h) for h in heights if h > top]
    else:  # a ridge: the last atom of each layer below, above the floor
        floor = heights[[np.ptp(x[np.abs(z - h) < 0.1]) > 0.95 * atoms.cell[0, 0] for h in heights]].max()
        rows = [(x[inside & (np.abs(z - h) < 0.1)].max(), h) for h in heights if h > floor + 0.1]
    (slope, _), *_ = np.polyfit(*np.array(rows)[:, ::-1].T, 1, full=True)
    return 2 * np.degrees(np.arctan2(abs(slope), 1 if z.max() > top + 1 else -1)) % 360


@pytest.mark.parametrize('facet', ['100', '110', '111'])
@pytest.mark.parametrize('angle', [45, 60, 90, 120, 135, 225, 250, 270])
def test_angle_is_recovered_from_the_positions(angle, facet):
    values = {'facet': facet, 'n_fixed_layers': 1, 'height_above_A': 20, 'depth_A': 35, 'angle_deg': angle}
    n_layers = {'100': 24, '110': 18, '111': 40}[facet]
    settings = ValleySettings(size=(60, 2), n_layers=n_layers, **values)
    atoms = settings.build()
    assert measured_angle(atoms, atoms.positions[-1, 0], settings.top_A) == pytest.approx(angle, abs=4)


@pytest.mark.parametrize('facet', ['100', '110', '111'])
@pytest.mark.parametrize('angle', ANGLES)
def test_valleys_are_mirror_symmetric_and_the_atom_is_on_the_bisector(angle, facet):
    settings = ValleySettings.read({**VALLEY, 'angle_deg': angle, 'facet': facet, 'n_layers': 24})
    atoms = settings.build()
    length = settings.lengths_A[0]
    line = atoms.positions[-1, 0]
    shifted = atoms.positions - [line, 0, 0]
    keys = []
    for sign in (1, -1):
        p = shifted * [sign, 1, 1]
        p[:, 0] = (p[:, 0] + 1e-3) % length
        p = p.round(2)
        keys.append(p[np.lexsort(p.T)])
    assert np.abs(keys[0] - keys[1]).max() < 0.02


@pytest.mark.parametrize('angle', ANGLES)
def test_atom_is_at_the_distance_of_neighbours_and_held(angle):
    atoms = ValleySettings.read({**VALLEY, 'angle_deg': angle}).build()
    distances = neighbours(atoms)
    assert shortest_distance(atoms) == pytest.approx(NEAREST, abs=1e-3)
    assert distances[0] == pytest.approx(NEAREST, abs=1e-3)
    # a lattice site in a narrow groove, a hollow on the others, a bridge on the tip
    expected = {45: 8, 90: 4, 135: 4, 180: 4, 225: 4, 270: 2}[angle]
    assert (distances < 1.01 * NEAREST).sum() == expected


def test_surroundings_thin_out_with_the_angle():
    """What makes the energy rise with the angle in Figure 1g: fewer and fewer atoms in reach."""
    valleys = [ValleySettings.read({**VALLEY, 'angle_deg': angle}).build() for angle in ANGLES]
    for reach in (6.0, 8.0):
        counts = [(neighbours(valley) < reach).sum() for valley in valleys]
        assert all(np.diff(counts) < 0)


def test_flat_valley_is_a_slab_with_an_atom_in_a_hollow():
    atoms = ValleySettings.read({**VALLEY, 'angle_deg': 180}).build()
    assert len(atoms) == 16 * 4 * 14 + 1
    assert atoms.positions[-1, 2] == pytest.approx(14 * A / 2)
    assert atoms.cell.lengths()[2] == pytest.approx(14 * A / 2 + 20)


@pytest.mark.parametrize('angle', ANGLES)
def test_crystal_below_the_line_is_whole_and_fixed_alike(angle):
    settings = ValleySettings.read({**VALLEY, 'angle_deg': angle})
    atoms = settings.build()
    z = atoms.positions[:, 2]
    assert z.min() == 0
    assert (z < settings.fixed_below_A).sum() == 4 * 16 * 4
    reach = settings.line_A if angle <= 180 else settings.line_A - VALLEY['depth_A']
    layers = np.floor(reach / (A / 2)) + 1
    assert (z <= reach).sum() == layers * 16 * 4
    if angle < 180:
        assert z.max() <= settings.line_A + VALLEY['depth_A']
    assert atoms.pbc.tolist() == [True, True, False]


def test_random_valleys_and_slopes_never_overlap():
    rng = np.random.default_rng(23)
    for _ in range(12):
        facet = str(rng.choice(['100', '110', '111']))
        values = {
            'facet': facet,
            'size': (int(rng.integers(8, 14)), int(rng.integers(2, 4))),
            'lattice_constant_A': rng.uniform(2.8, 5.3),
            'n_layers': int(rng.integers(18, 24)),
            'n_fixed_layers': 4,
            'height_above_A': 15.0,
        }
        a = values['lattice_constant_A']
        values['depth_A'] = rng.uniform(1.5, 4) * a
        angle = rng.uniform(45, 270)
        near = rng.uniform(0.9, 1.2) * a * np.sqrt(3) / 2
        shape = {'shape': 'valley', 'angle_deg': angle, 'atom_distance_A': near}
        if angle < 150:
            shape |= {'shape': 'slope', 'from_bottom_A': 1.2 * a}
        atoms = read_shape({**values, **shape}, 'slab').build()
        distances = neighbours(atoms)
        assert distances[0] == pytest.approx(near, abs=2e-3)
        assert distances[1] < 1.4 * near
        assert (atoms.positions[:, 2] <= atoms.cell[2, 2]).all()


@pytest.mark.parametrize('angle', [60, 90, 120, 150])
def test_atom_on_the_slope_lies_above_the_slope_where_said(angle):
    settings = SlopeSettings.read({**VALLEY, 'shape': 'slope', 'angle_deg': angle, 'from_bottom_A': 7.0})
    atoms = settings.build()
    bottom = ValleySettings.read({**VALLEY, 'angle_deg': angle}).build()
    assert atoms.positions[:-1] == pytest.approx(bottom.positions[:-1])
    half = np.radians(angle) / 2
    offset = atoms.positions[-1, [0, 2]] - [bottom.positions[-1, 0], settings.line_A]
    assert offset @ [np.sin(half), np.cos(half)] == pytest.approx(7.0)
    assert -A / 2 < offset @ [-np.cos(half), np.sin(half)] < NEAREST
    assert atoms.positions[-1, 2] > bottom.positions[-1, 2]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'angle_deg': 30}, r'angle_deg = 30: .*greater than or equal to 45.*degrees'),
        ({'angle_deg': 271}, r'angle_deg = 271: .*less than or equal to 270.*degrees'),
        ({'size': (5, 4)}, r'17.550 Å along x, must be at least 21.060 Å'),
        ({'size': (8, 1)}, r'3.510 Å along y, must be at least 7.020 Å'),
        ({'depth_A': 1.0}, r'depth_A = 1.0 Å: must be at least one layer, 1.755 Å'),
        (
            {'angle_deg': 200, 'depth_A': 16.0},
            r'depth_A = 16.0 Å: a ridge may fall by 15.795 Å at most.* 4 fixed',
        ),
        ({'atom_distance_A': 2.5}, r'atom_distance_A = 2.5 Å: must be from 2.736 to 4.560 Å'),
        ({'shape': 'slope', 'angle_deg': 180, 'from_bottom_A': 6}, 'angle_deg = 180: .*less than 180'),
        ({'shape': 'slope', 'from_bottom_A': 20}, r'from_bottom_A = 20.0 Å: .* 3.51 Å, to the length of .*, 17.395 Å'),
        ({'shape': 'slope', 'from_bottom_A': 2}, r'from_bottom_A = 2.0 Å: must be from one lattice constant'),
    ],
)
def test_bad_valleys_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        read_shape({**VALLEY, 'angle_deg': 90, **changes}, 'valley')
