"""Pairs that move, grow and are filled up at known times are found to touch, fuse and vanish at these times."""

import json

import numpy as np
import pytest
from analysis_synthetic import A, crystal
from pydantic import ValidationError

from aiida_liheal.analysis.contacts import CONTACT_QUANTITIES, Contacts, ContactSettings, stays_from_ps
from aiida_liheal.analysis.dendrites import DendriteAnalysisSettings, find_dendrites
from aiida_liheal.structures.dendrites import DendriteSettings

SHAPES = DendriteAnalysisSettings()
PBC = (True, True, False)
RATTLE = 0.2
TOP = 2.5 * A


def follow(frames, surface, settings=None):
    """The contacts of frames of (time, ids, positions, cell)."""
    contacts = Contacts(settings, SHAPES)
    for time, ids, positions, cell in frames:
        matter = np.ones(len(ids), bool)
        found = find_dendrites(positions, cell, PBC, matter, surface, SHAPES)
        contacts.add(time, ids, positions, cell, PBC, matter, found)
    return contacts


def pair(form, *, quasi_2d, gap=20.0):
    sizes = {'needle': (36, 15, None), 'mushroom': (40, 30, 14), 'hemisphere': (18, 36, None)}
    height, diameter, stem = sizes[form]
    return DendriteSettings(
        form=form, size=(32, 4 if quasi_2d else 14), n_layers=4, height_A=height, diameter_A=diameter,
        stem_diameter_A=stem, n_dendrites=2, gap_A=gap, height_above_A=10, quasi_2d=quasi_2d,
    )  # fmt: skip


def moving(body, shifts, shift, rng):
    """Frames in which the two bodies have come closer, each by one of `shifts` in Å; warm, atoms in any order."""
    atoms = body.build()
    cell = np.array(atoms.cell)
    x, z = atoms.positions[:, 0], atoms.positions[:, 2]
    is_body = z > body.top_A + 0.1
    toward = np.where(is_body, np.sign(cell[0, 0] / 2 - x), 0.0)
    for time, moved in enumerate(shifts):
        positions = atoms.positions + rng.normal(0, RATTLE, atoms.positions.shape)
        positions[:, 0] = (positions[:, 0] + toward * moved + shift) % cell[0, 0]
        order = rng.permutation(len(positions))
        yield float(time), order, positions[order], cell


def nearest(body, moved):
    """Distance in Å of the two bodies above what joins no dendrites, as drawn."""
    atoms = body.build()
    x, _, z = atoms.positions.T
    kept = z > body.top_A + A / 4 + SHAPES.join_height_A
    middle = atoms.cell[0, 0] / 2
    left, right = (atoms.positions[kept & side] for side in (x < middle, x > middle))
    apart = right[:, None] - left[None]
    apart[..., 0] -= 2 * moved
    apart[..., 1] -= np.round(apart[..., 1] / atoms.cell[1, 1]) * atoms.cell[1, 1]
    return np.linalg.norm(apart, axis=-1).min()


@pytest.mark.parametrize('shift', [0.0, 40.0])
@pytest.mark.parametrize(
    ('form', 'quasi_2d'), [('needle', True), ('mushroom', True), ('hemisphere', True), ('mushroom', False)]
)
def test_contact_of_a_moving_pair(form, quasi_2d, shift):
    """To a frame, in which the gap closes by 1 Å; also across the side of the cell."""
    rng = np.random.default_rng(1)
    body = pair(form, quasi_2d=quasi_2d, gap=16.0 if form == 'hemisphere' else 20.0)
    shifts = np.concatenate((np.arange(4, 10, 0.5), np.full(3, 10.0)))
    contacts = follow(moving(body, shifts, shift, rng), body.top_A)
    truth = next(time for time, moved in enumerate(shifts) if nearest(body, moved) <= SHAPES.cutoff_A)
    result = contacts.result()
    assert result.contact_ps == pytest.approx(truth, abs=1)
    assert result.touched_ps == result.contact_ps
    assert len(result.pair) == 2
    if form != 'hemisphere':
        assert {partner.form for partner in result.pair} == {form}
    apart = abs(result.pair[0].x_A - result.pair[1].x_A)
    last = shifts[int(result.contact_ps) - 1]
    assert min(apart, body.lengths_A[0] - apart) == pytest.approx(body.diameter_A + body.gap_A - 2 * last, abs=2)
    assert result.met_image_ps is None
    gaps = contacts.arrays()['pair_gap_A']
    before = int(result.contact_ps)
    # hemispheres are furthest apart where they are drawn widest, below what joins no dendrites
    drawn = body.gap_A - 2 * shifts[:before] + (3.5 if form == 'hemisphere' else 0.0)
    assert gaps[:before] == pytest.approx(drawn, abs=1.5)
    assert not gaps[before:].any()
    # needles that lie side by side are as thick between as at their axes; heads and feet leave a cavity or a valley
    assert (result.fused_ps is not None) == (form == 'needle')


def test_a_touch_that_does_not_last():
    rng = np.random.default_rng(2)
    body = pair('mushroom', quasi_2d=True)
    contacts = follow(moving(body, [6, 8, 10, 10, 8, 6, 4], 0.0, rng), body.top_A)
    result = contacts.result()
    assert result.touched_ps in (1.0, 2.0)
    assert result.contact_ps is None
    assert contacts.arrays()['pair_joined'].tolist()[-2:] == [0, 0]


def test_a_contact_too_late_to_tell():
    rng = np.random.default_rng(3)
    body = pair('needle', quasi_2d=True)
    frames = list(moving(body, [4, 6, 10, 10, 10], 0.0, rng))
    for frames_after, contact in ((2, 2.0), (1, None)):
        result = follow(frames[: 3 + frames_after], body.top_A, ContactSettings(stays_for_ps=2.0)).result()
        assert (result.touched_ps, result.contact_ps) == (2.0, contact)


def growing(keep, times, shift, rng, cells=(40, 3), height=50.0):
    """Frames of a crystal of which there is, above TOP, where `keep(x, above, time)`; x from the middle."""
    atoms = crystal(cells[0], cells[1], int(np.ceil((TOP + height) / A)))
    x, _, z = atoms.positions.T
    lengths = atoms.cell.lengths()
    for time in times:
        ids = np.flatnonzero((z < TOP + 0.01) | keep(x - lengths[0] / 2, z - TOP, time))
        positions = atoms.positions[ids] + rng.normal(0, RATTLE, (len(ids), 3))
        positions[:, 0] = (positions[:, 0] + shift) % lengths[0]
        yield float(time), ids, positions, np.diag(lengths)


def test_two_hemispheres_become_an_even_surface():
    """Half discs grow, meet across the side, the valley between them is filled, then all: each at its known time."""
    apart = 56.0

    def keep(x, above, time):
        radius = min(16 + time, 40)
        discs = np.hypot(np.abs(x) - apart / 2, above) <= radius
        # from 24 ps on at 2 Å/ps between them, from 50 ps on at 5 Å/ps everywhere
        between = (np.abs(x) < apart / 2) & (above <= min(2 * (time - 24), 40))
        return discs | between | (above <= min(5 * (time - 50), 41))

    rng = np.random.default_rng(4)
    contacts = follow(growing(keep, range(6, 64), 75.0, rng), TOP)
    result = contacts.result()
    # above what joins nothing, discs are a chord wide; they are one when only the cut-off is between the chords,
    # whose ends lie on rows half a lattice constant apart
    low = A / 4 + SHAPES.join_height_A
    radius = np.hypot((apart - SHAPES.cutoff_A) / 2, low)
    assert result.contact_ps == pytest.approx(radius - 16, abs=1 + A / 2)
    # above the same height, the valley is filled to 0.8 of the 40 Å at the axes
    filled = low + 0.8 * (40 - low)
    assert result.fused_ps == pytest.approx(24 + filled / 2, abs=1.5)
    # the surface between the outer sides rises: it meets its image when all is filled above what joins nothing
    assert result.met_image_ps == pytest.approx(50 + low / 5, abs=1.5)
    assert result.flat_ps == pytest.approx(58, abs=1.5)
    assert result.pair[0].form == result.pair[1].form == 'hemisphere'
    arrays = contacts.arrays()
    assert set(arrays) == set(CONTACT_QUANTITIES)
    assert all(array.shape == (58,) for array in arrays.values())
    assert arrays['column_roughness_A'][-1] < 1.0 < arrays['column_roughness_A'][0]
    told = json.loads(json.dumps(result.summary(), allow_nan=False))
    assert told['contact_ps'] == result.contact_ps
    assert told['pair'][0]['atoms'] == result.pair[0].atoms


def test_fused_when_the_cavity_is_gone():
    """Mushrooms whose heads are one from the start of contact on, and the cavity below shrinks from the ground up."""

    def keep(x, above, time):
        head = (np.abs(x) <= 55) & (np.abs(x) >= max(0, 18 - 2 * time)) & (above >= 28) & (above <= 42)
        stems = (np.abs(np.abs(x) - 30) <= 8) & (above <= 42)
        heap = (np.abs(x) <= 30) & (above <= 2 * (time - 14))
        return head | stems | heap

    rng = np.random.default_rng(5)
    contacts = follow(growing(keep, range(0, 36), 10.0, rng), TOP)
    result = contacts.result()
    # the heads alone at first, to a row of atoms
    assert contacts.arrays()['pair_neck_A'][int(result.contact_ps) + 1] == pytest.approx(42 - 28, abs=A)
    # heads are 36 Å apart at first and come closer by 4 Å/ps
    assert result.contact_ps == pytest.approx((36 - SHAPES.cutoff_A) / 4, abs=1.5)
    low = A / 4 + SHAPES.join_height_A
    # head and heap together have 0.8 of what stands above `low` at the axes
    heap = 0.8 * (42 - low) - (42 - 28)
    # a lattice constant of height is 1.8 ps
    assert result.fused_ps == pytest.approx(14 + (low + heap) / 2, abs=3)
    assert result.met_image_ps is None
    assert result.flat_ps is None
    assert {partner.form for partner in result.pair} == {'mushroom'}


def test_a_single_one_has_no_contacts():
    rng = np.random.default_rng(6)
    frames = growing(lambda x, above, time: (np.abs(x) < 10) & (above < 10 + 3 * time), range(6), 0.0, rng, (20, 3))
    result = follow(frames, TOP).result()
    assert result.pair == ()
    assert (result.touched_ps, result.contact_ps, result.fused_ps, result.flat_ps) == (None,) * 4
    assert Contacts().result().contact_ps is None


def test_frames_come_in_order():
    rng = np.random.default_rng(7)
    frames = list(growing(lambda x, above, time: above < 0, range(2), 0.0, rng, (6, 3)))
    with pytest.raises(ValueError, match='order of time'):
        follow(frames[::-1], TOP)


def test_stays_from():
    times = np.arange(5.0)
    holds = np.array([True, False, True, True, True])
    assert stays_from_ps(times, holds, 2.0) == 2.0
    assert stays_from_ps(times, holds, 2.5) is None
    assert stays_from_ps(times, ~holds, 0.0) is None
    assert stays_from_ps(times, holds | True, 1.0) == 0.0


@pytest.mark.parametrize('wrong', [{'fused_share': 1.2}, {'stays_for_ps': -1}, {'flat_share': 0}, {'share': 1}])
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ContactSettings(**wrong)
