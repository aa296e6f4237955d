"""Crystals are counted and measured."""

import numpy as np
import pytest

from aiida_liheal.structures.bcc import SlabSettings, VoidCrystalSettings, bcc_bulk, bcc_slab, cuboid_void
from aiida_liheal.structures.checks import shortest_distance


def test_bulk():
    atoms = bcc_bulk('Li', 3.51, (2, 3, 4))
    assert len(atoms) == 48
    assert atoms.pbc.all()
    assert atoms.cell.lengths() == pytest.approx([7.02, 10.53, 14.04])
    assert shortest_distance(atoms) == pytest.approx(3.51 * np.sqrt(3) / 2)


def test_slab_stands_on_zero_and_is_bcc():
    slab = bcc_slab('Li', 3.51, (80, 4), 18, 30.0)
    assert len(slab) == 5760  # the paper's cell
    assert slab.pbc.tolist() == [True, True, False]
    assert slab.cell.orthorhombic
    heights, counts = np.unique(slab.positions[:, 2].round(6), return_counts=True)
    assert heights == pytest.approx(np.arange(18) * 3.51 / 2)
    assert set(counts) == {320}
    assert slab.cell.lengths() == pytest.approx([280.8, 14.04, 17 * 3.51 / 2 + 30])
    assert shortest_distance(bcc_slab('Li', 3.51, (2, 2), 4, 30.0)) == pytest.approx(3.51 * np.sqrt(3) / 2)


def test_fixed_layers_lie_below_the_height():
    settings = SlabSettings(size=(2, 3), n_layers=5, n_fixed_layers=2, height_above_A=20)
    slab = settings.build()
    assert (slab.positions[:, 2] < settings.fixed_below_A).sum() == 2 * 6
    assert SlabSettings(size=(1, 1), n_layers=2, height_above_A=5).fixed_below_A == 0


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'element': 'Xx'}, r"element = 'Xx': 'Xx' is no chemical element"),
        ({'element': 'X'}, 'no chemical element'),
        ({'lattice_constant_A': -3.5}, r'lattice_constant_A = -3.5: .*greater than 0.5.*Å'),
        ({'size': (0, 2)}, r'size = \(0, 2\) cells: each must be 1 or more'),
        ({'n_fixed_layers': 4}, r'n_fixed_layers = 4 layers: must be smaller than n_layers = 4'),
        ({'height_above_A': 0}, r'height_above_A = 0: .*greater than 0.*Å'),
        ({'layers': 3}, 'layers: no such setting; known are .*element, .*n_layers'),
    ],
)
def test_bad_slabs_are_refused(changes, message):
    values = {'size': (2, 2), 'n_layers': 4, 'height_above_A': 20.0, **changes}
    with pytest.raises(ValueError, match=message):
        SlabSettings.read(values)


def test_missing_setting_is_named():
    with pytest.raises(ValueError, match=r'height_above_A: missing \[.*Å\]'):
        SlabSettings.read({'size': (2, 2), 'n_layers': 4})


@pytest.mark.parametrize(('size', 'void', 'removed'), [(10, 3, 54), (6, 2, 16), (6, 3, 54), (5, 1, 2), (5, 4, 128)])
def test_void_takes_two_atoms_a_cell(size, void, removed):
    crystal = VoidCrystalSettings(size=(size,) * 3, void_size=(void,) * 3).build()
    assert len(crystal) == 2 * size**3 - removed
    middle = size * 3.51 / 2
    assert (np.abs(crystal.positions - middle).max(axis=1) >= void * 3.51 / 2 - 1e-3).all()


def test_void_with_three_edges():
    crystal = VoidCrystalSettings(size=(6, 5, 4), void_size=(3, 2, 1)).build()
    assert len(crystal) == 2 * 6 * 5 * 4 - 2 * 3 * 2 * 1


@pytest.mark.parametrize('void', [(4, 2, 2), (5, 1, 1), (0, 1, 1), (-1, 1, 1)])
def test_void_must_be_smaller_than_the_crystal(void):
    with pytest.raises(
        ValueError, match=r'void_size = .* cells: along x it must be from 1 to 3 cells.*size = \(4, 4, 4\)'
    ):
        VoidCrystalSettings.read({'size': (4, 4, 4), 'void_size': void})


def test_void_in_angstrom():
    left, removed = cuboid_void(bcc_bulk(size=(4, 4, 4)), (7.02, 7.02, 7.02))
    assert removed == 16
    assert len(left) == 112
    with pytest.raises(ValueError, match=r'14.04.* Å: each edge must be greater than 0 and smaller than the cell'):
        cuboid_void(bcc_bulk(size=(4, 4, 4)), (14.04, 7, 7))
    with pytest.raises(ValueError, match='holds no atom'):
        cuboid_void(bcc_bulk(size=(4, 4, 3)), (0.2, 0.2, 0.2))
    skew = bcc_bulk(size=(2, 2, 2))
    skew.cell[0, 1] = 0.5
    with pytest.raises(ValueError, match='orthorhombic'):
        cuboid_void(skew, (3, 3, 3))
