"""Drawn dendrites of known form, widths, tilt, arms and kinks are measured as drawn."""

import json
import math

import numpy as np
import pytest
from analysis_synthetic import A, crystal
from pydantic import ValidationError

from aiida_liheal.analysis.dendrites import (
    DENDRITE_QUANTITIES,
    DEPOSIT_QUANTITIES,
    FORMS,
    DendriteAnalysisSettings,
    classify,
    dendrite_row,
    deposit_row,
    find_dendrites,
    ground_level_A,
    slice_widths,
)
from aiida_liheal.structures.dendrites import DendriteSettings

SETTINGS = DendriteAnalysisSettings()
#: Thermal motion of the drawn atoms along each axis, in Å.
RATTLE = 0.2
PBC = (True, True, False)
#: Surface cells along x and y of each facet in lattice constants.
CELLS = {'100': (1, 1), '110': (1, 2**0.5), '111': (2**0.5, 6**0.5)}
TOP = 4.5 * A


def random_body(rng, form, *, quasi_2d):
    """A drawn dendrite of random size on a random facet."""
    if form == 'hemisphere':
        diameter = rng.uniform(14, 20) * A
        height = diameter * rng.uniform(0.4, 0.7)
    else:
        diameter = rng.uniform(4, 8) * A * (1.6 if form == 'mushroom' else 1)
        height = diameter * (rng.uniform(1.3, 2.2) if form == 'mushroom' else rng.uniform(2.0, 3.0))
    facet = str(rng.choice(list(CELLS)))
    n = math.ceil(diameter / A) + 6
    along = [int(n / edge) + 1 for edge in CELLS[facet]]
    return DendriteSettings(
        facet=facet,
        size=(along[0], 3 if quasi_2d else along[1]),
        n_layers=6,
        n_fixed_layers=2,
        height_above_A=20,
        form=form,
        height_A=max(height, 30),
        diameter_A=diameter,
        stem_diameter_A=diameter / rng.uniform(1.7, 2.2) if form == 'mushroom' else None,
        quasi_2d=quasi_2d,
    )


def warm(positions, lengths, rng):
    """Rattled, and moved to a random place of the periodic cell."""
    moved = positions + rng.normal(0, RATTLE, positions.shape)
    moved[:, :2] += rng.uniform(0, 1, 2) * lengths[:2]
    moved[:, :2] %= lengths[:2]
    return moved


def drawn_width(body, height):
    return 2 * float(body._radius(np.array([height]))[0])


def find(positions, cell, surface=None, settings=SETTINGS, matter=None):
    matter = np.ones(len(positions), bool) if matter is None else matter
    return find_dendrites(positions, np.asarray(cell), PBC, matter, surface, settings)


def cut(inside, rng, cells=(24, 4), height=60.0):
    """A crystal up to TOP and, above it, all where `inside(x, y, height above)`; warm, and the edges of its cell."""
    atoms = crystal(cells[0], cells[1], math.ceil((TOP + height) / A))
    x, y, z = atoms.positions.T
    lengths = atoms.cell.lengths()
    above = z - TOP
    kept = (above < 0.01) | inside(x - lengths[0] / 2, y - lengths[1] / 2, above)
    return warm(atoms.positions[kept], lengths, rng), np.diag(lengths)


@pytest.mark.parametrize('quasi_2d', [True, False])
@pytest.mark.parametrize('form', ['needle', 'mushroom', 'hemisphere'])
def test_form_and_widths_are_those_drawn(form, quasi_2d):
    """Heights and widths to one lattice constant; D_bottom of all of them to a tenth of it on average."""
    rng = np.random.default_rng(7)
    errors = []
    for _ in range(5):
        body = random_body(rng, form, quasi_2d=quasi_2d)
        atoms = body.build()
        (found,) = find(warm(atoms.positions, atoms.cell.lengths(), rng), atoms.cell)
        assert found.shape.form == form, found.summary()
        assert found.is_quasi_2d == quasi_2d
        assert not found.spans_cell
        assert found.base_A == pytest.approx(body.top_A, abs=0.5)
        assert -A < found.height_A - body.height_A < 0.5 + 2 * RATTLE
        assert found.bottom_A == pytest.approx(drawn_width(body, 10), abs=A)
        assert found.widest_A == pytest.approx(body.diameter_A, abs=A)
        at_top = np.linspace(0.8, 0.9, 11) * body.height_A
        # what lies a layer lower than drawn is steep there in a round tip
        assert found.top_A == pytest.approx(np.mean([drawn_width(body, z) for z in at_top]), abs=1.5 * A)
        assert found.tilt_deg < 5
        assert found.arms_side_by_side == 1
        assert found.branches_from_A is None
        assert found.kinks == ()
        errors.append(found.bottom_A - drawn_width(body, 10))
    assert abs(np.mean(errors)) < 1.3


def test_a_clear_form_is_right():
    """Bodies of any size, many at the border of two forms: what is called clear is the form of the drawn numbers."""
    rng = np.random.default_rng(3)
    clear = 0
    for _ in range(30):
        height, width = rng.uniform(22, 45), rng.uniform(9, 30)
        head = width * rng.uniform(1, 2)
        head_from = rng.uniform(14, 0.8 * height)  # above the slices that D_bottom is measured in

        def inside(x, y, above, width=width, head=head, head_from=head_from, height=height):
            half = np.where(above < head_from, width, head) / 2
            return (np.abs(x) <= half) & (above <= height)

        (found,) = find(*cut(inside, rng, cells=(24, 3)))
        if found.shape.is_clear:
            clear += 1
            # slices at the foot of the head are as wide as it or not
            lowest, highest = ((head_from + more + height) / 2 for more in (-3.5, 3.5))
            allowed = {classify(height, width, head, middle, SETTINGS).form for middle in (lowest, highest)}
            assert found.shape.form in allowed, (height, width, head, head_from, found.summary())
    assert clear >= 12


@pytest.mark.parametrize(
    ('numbers', 'form', 'following', 'margin'),
    [
        ((60, 20, 21, 30), 'needle', 'mushroom', 5.0),
        ((45, 20, 21, 20), 'needle', 'mushroom', 5.0),
        ((31.5, 20, 15, 5), 'needle', 'hemisphere', 1.0),
        ((60, 20, 30, 50), 'mushroom', 'needle', 4.0),
        ((24, 20, 30, 14), 'mushroom', 'hemisphere', 2.0),
        ((60, 20, 40, 28), 'needle', 'mushroom', 2.0),
        ((30, 60, 60, 5), 'hemisphere', 'mushroom', 18.0),
        ((60, 46, 46, 5), 'hemisphere', 'needle', 6.0),
    ],
)
def test_distance_to_the_next_form(numbers, form, following, margin):
    shape = classify(*numbers, SETTINGS)
    assert (shape.form, shape.next_form) == (form, following)
    assert shape.margin_A == pytest.approx(margin)
    assert shape.is_clear == (margin > A)


def test_form_of_small_ones_is_not_told():
    low, thin = classify(19.9, 20, 20, 5, SETTINGS), classify(40, 8.7, 20, 30, SETTINGS)
    for shape, given in ((low, '19.9 Å high'), (thin, '8.7 Å wide')):
        assert shape.form == 'none'
        assert 'too small' in shape.reason
        assert given in shape.reason
        assert shape.next_form is None


@pytest.mark.parametrize('tilt', [-35, -15, 0, 10, 30, 40])
def test_tilt(tilt):
    """The axis to 3°; a tilted wall is wider along x than across."""
    rng = np.random.default_rng(abs(tilt))
    slope, width = math.tan(math.radians(tilt)), rng.uniform(14, 22)
    (found,) = find(*cut(lambda x, y, z: (np.abs(x - slope * z) <= width / 2) & (z <= 45), rng))
    assert found.tilt_deg == pytest.approx(abs(tilt), abs=3)
    if abs(tilt) > 5:
        assert np.sign(found.axis[0]) == np.sign(tilt)
    assert found.bottom_A == pytest.approx(width, abs=A)
    assert found.shape.form == 'needle'
    assert found.kinks == ()


def test_tilt_of_a_round_one_along_both_axes():
    rng = np.random.default_rng(5)
    (found,) = find(*cut(lambda x, y, z: (np.hypot(x - 0.3 * z, y - 0.4 * z) <= 9) & (z <= 42), rng, cells=(14, 15)))
    assert not found.is_quasi_2d
    assert found.tilt_deg == pytest.approx(math.degrees(math.atan(0.5)), abs=3)
    assert found.axis[1] / found.axis[0] == pytest.approx(4 / 3, abs=0.3)
    assert found.bottom_A == pytest.approx(18, abs=A)


@pytest.mark.parametrize('at', [24.0, 33.0])
@pytest.mark.parametrize('turn', [40, -60])
def test_kink(at, turn):
    """A stem that goes on at an angle: one kink, its height to two slices, the angle to 15°."""
    rng = np.random.default_rng(11)
    slope = math.tan(math.radians(turn))

    def inside(x, y, z):
        return (np.abs(x - slope * np.clip(z - at, 0, None)) <= 8) & (z <= 58)

    (found,) = find(*cut(inside, rng, cells=(36, 3)))
    ((height, angle),) = found.kinks
    assert height == pytest.approx(at, abs=2 * SETTINGS.slice_A)
    assert angle == pytest.approx(abs(turn), abs=15)


def test_arms():
    """Two arms that part at a known height: counted, and their widths added up."""
    rng = np.random.default_rng(12)

    def inside(x, y, z):
        apart = np.clip(z - 20, 0, None) * 0.6
        return (np.abs(np.abs(x) - apart) <= 7) & (z <= 52)

    (found,) = find(*cut(inside, rng, cells=(30, 3)))
    assert found.arms_side_by_side == 2
    assert '2 arms' in found.shape.reason
    # arms are apart where the gap between them is wider than the cut-off
    parted = 20 + (7 + SETTINGS.cutoff_A / 2) / 0.6
    assert found.branches_from_A == pytest.approx(parted, abs=2 * SETTINGS.slice_A)
    assert found.widths_A[np.searchsorted(found.slice_heights_A, 45)] == pytest.approx(28, abs=A)


def test_nothing_stands_on_a_warm_slab_with_islands():
    """Adatoms, an island of two layers and what is in flight are no dendrites."""
    rng = np.random.default_rng(1)
    positions, cell = cut(lambda x, y, z: (np.abs(x) < 12) & (z < 1.1 * A), rng)
    flying = rng.uniform((0, 0, TOP + 20), (24 * A, 4 * A, TOP + 23), (40, 3))
    everything = np.vstack((positions, flying))
    matter = np.arange(len(everything)) < len(positions)
    assert find(everything, cell, matter=matter) == ()
    row = dendrite_row(())
    assert row['dendrites'] == row['dendrite_form'] == 0
    assert math.isnan(row['dendrite_height_A'])
    assert set(row) == set(DENDRITE_QUANTITIES)


def test_a_low_one_is_found_but_has_no_form():
    rng = np.random.default_rng(2)
    (found,) = find(*cut(lambda x, y, z: (np.abs(x) < 9) & (z < 2.6 * A), rng))
    assert found.height_A == pytest.approx(2.5 * A, abs=1)
    assert found.shape.form == 'none'
    assert 'too small' in found.shape.reason
    assert (found.bottom_A, found.overhang, found.tilt_deg) == (None, None, None)
    assert dendrite_row([found])['dendrite_form'] == 0
    assert math.isnan(dendrite_row([found])['dendrite_bottom_A'])


@pytest.mark.parametrize(('cells', 'quasi_2d'), [((24, 3), True), ((16, 15), False)])
@pytest.mark.parametrize('layers', [1, 4])
def test_height_and_width_of_a_deposit_too_low_for_a_dendrite(layers, cells, quasi_2d):
    """Also across the side of the cell; none on a bare slab, and one as wide as the cell in an even film."""
    rng = np.random.default_rng(13)

    def row(inside):
        positions, cell = cut(inside, rng, cells=cells, height=12)
        matter = np.ones(len(positions), bool)
        return deposit_row(positions, cell, PBC, matter, TOP), cell[0, 0]

    height = layers * A / 2
    for width in (12.0, 22.0, 30.0):
        got, _ = row(lambda x, y, z, w=width: ((np.abs(x) if quasi_2d else np.hypot(x, y)) < w / 2) & (z < height + 1))
        # rows of one layer are a lattice constant apart
        assert got['deposit_width_A'] == pytest.approx(width, abs=A)
        assert got['deposit_height_A'] == pytest.approx(height, abs=1)
    film, length = row(lambda x, y, z: z < height + 1)
    disc = 2 * math.sqrt(cells[0] * cells[1] / math.pi) * A * (math.pi / 3) ** 0.5  # a square has a larger spread
    assert film['deposit_width_A'] == pytest.approx(length if quasi_2d else disc, rel=0.03)
    bare, _ = row(lambda x, y, z: z < 0)
    assert set(bare) == set(DEPOSIT_QUANTITIES)
    assert (bare['deposit_atoms'], bare['deposit_height_A']) == (0, 0)
    assert math.isnan(bare['deposit_width_A'])


@pytest.mark.parametrize('gap', [12.0, 40.0])
def test_a_pair_is_two(gap):
    rng = np.random.default_rng(4)
    body = DendriteSettings(
        form='mushroom', size=(44, 3), n_layers=6, height_A=50, diameter_A=36, stem_diameter_A=18, n_dendrites=2,
        gap_A=gap, height_above_A=10,
    )  # fmt: skip
    atoms = body.build()
    found = find(warm(atoms.positions, atoms.cell.lengths(), rng), atoms.cell)
    assert [dendrite.shape.form for dendrite in found] == ['mushroom', 'mushroom']
    assert not set(found[0].members) & set(found[1].members)
    places = [float(np.nanmean(dendrite.centres_A[:, 0])) for dendrite in found]
    apart = abs(places[0] - places[1]) % atoms.cell[0, 0]
    assert min(apart, atoms.cell[0, 0] - apart) == pytest.approx(min(36 + gap, atoms.cell[0, 0] - 36 - gap), abs=2)


def test_a_wall_through_the_cell_has_no_form():
    """What meets its image through the side of the cell is as wide as the cell and has no form."""
    rng = np.random.default_rng(6)
    positions, cell = cut(lambda x, y, z: z < 25, rng, cells=(12, 3))
    (found,) = find(positions, cell, surface=TOP)
    assert found.spans_cell
    assert found.widest_A == pytest.approx(cell[0, 0])
    assert found.shape.form == 'none'
    assert 'image' in found.shape.reason
    assert found.tilt_deg is None
    # without the level of the bare substrate, it is a substrate itself
    assert find(positions, cell) == ()


@pytest.mark.parametrize('facet', ['100', '110', '111'])
def test_ground_level_is_the_highest_layer_of_the_substrate(facet):
    """Also below the heads of mushrooms, and with dendrites on most of it."""
    rng = np.random.default_rng(9)
    cells = (22, 3) if facet != '111' else (16, 2)
    slab = DendriteSettings(
        facet=facet, size=cells, n_layers=7, form='mushroom', height_A=40, diameter_A=36, stem_diameter_A=12,
        height_above_A=9,
    )  # fmt: skip
    atoms = slab.build()
    positions = warm(atoms.positions, atoms.cell.lengths(), rng)
    level = ground_level_A(positions, np.array(atoms.cell), np.ones(len(atoms), bool), SETTINGS)
    assert level == pytest.approx(slab.top_A, abs=0.5)


def test_widths_of_rows_and_discs():
    """n rows are n distances wide, through the side of the cell or not; a disc has its diameter."""
    rows = np.repeat(np.arange(7) * A / 2, 3)[:, None]
    for shift in (0, -6, 30):
        widths, arms = slice_widths((rows + shift) % 40.0, np.zeros(21, int), 2, np.array([40.0]), [True], SETTINGS)
        assert widths == pytest.approx([7 * A / 2, 0])
        assert arms.tolist() == [1, 0]
    x, y = np.meshgrid(*[np.arange(-20, 20) * A / 2**0.5] * 2)
    disc = np.hypot(x, y) < 25
    across = np.column_stack((x[disc], y[disc]))
    widths, arms = slice_widths(across, np.zeros(len(across), int), 1, np.array([90.0, 90]), PBC[:2], SETTINGS)
    assert widths[0] == pytest.approx(50, abs=1)
    assert arms.tolist() == [1]


def test_a_row_of_numbers_and_a_summary_for_json():
    rng = np.random.default_rng(8)
    (found,) = find(*cut(lambda x, y, z: (np.abs(x) < 9) & (z < 40), rng))
    row = dendrite_row([found])
    assert FORMS[int(row['dendrite_form'])] == 'needle'
    assert row['dendrite_atoms'] == len(found.members)
    assert all(math.isfinite(value) for value in row.values())
    told = json.loads(json.dumps(found.summary(), allow_nan=False))
    assert told['width_is'] == 'extent along x'
    assert told['aspect'] == pytest.approx(found.height_A / found.bottom_A)
    assert len(told['profile_height_A']) == len(told['profile_width_A'])


@pytest.mark.parametrize(
    ('wrong', 'word'),
    [
        ({'top_range': (0.9, 0.8)}, 'top_range'),
        ({'cluster_cutoff_A': 2.0}, 'nearest'),
        ({'min_height_A': 3.0}, 'join_height_A'),
        ({'form_from_height_A': 9.0}, 'bottom_at_A'),
        ({'bottom_at_A': 2.0}, 'bottom_at_A'),
        ({'kink_segment_A': 5.0}, 'kink_segment_A'),
        ({'mushroom': 1}, 'mushroom'),
        ({'slice_A': 0.0}, 'slice_A'),
    ],
)
def test_settings_that_make_no_sense(wrong, word):
    with pytest.raises(ValidationError, match=word):
        DendriteAnalysisSettings(**wrong)


def test_cells_and_frames_that_cannot_be_measured():
    positions, cell = cut(lambda x, y, z: z < 0, np.random.default_rng(0), cells=(5, 3))
    skewed = cell.copy()
    skewed[1, 0] = 3
    with pytest.raises(ValueError, match='orthorhombic'):
        find(positions, skewed)
    with pytest.raises(ValueError, match='no atoms'):
        find(positions, cell, matter=np.zeros(len(positions), bool))
