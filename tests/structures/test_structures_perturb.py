"""Perturbed frames are random by seed and within the settings."""

import numpy as np
import pytest

from aiida_liheal.structures.checks import shortest_distance
from aiida_liheal.structures.perturb import PerturbSettings, perturbed_bulk, perturbed_slab


def test_same_seed_same_frames():
    first, again, other = (perturbed_bulk(3, seed) for seed in (5, 5, 6))
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].cell.array, other[0].cell.array)


def test_bulk_is_within_the_settings():
    settings = PerturbSettings(vacancy_share=0.5, volume_scale=(0.9, 1.1), strain=0.02)
    frames = perturbed_bulk(60, 1, settings)
    assert len(frames) == 60
    assert {len(atoms) for atoms in frames} == {15, 16}
    assert 15 <= sum(len(atoms) == 15 for atoms in frames) <= 45
    scales = np.array([atoms.get_volume() for atoms in frames]) / (8 * 3.51**3)
    # three strains of 2 % each change the volume by 6 % at most
    assert (scales > 0.9 * 0.93).all()
    assert (scales < 1.1 * 1.07).all()
    assert scales.std() > 0.02
    assert min(shortest_distance(atoms) for atoms in frames) >= settings.min_distance_A


def test_nothing_to_perturb_gives_the_crystal():
    still = PerturbSettings(strain=0, displacement_A=0, volume_scale=(1, 1), vacancy_share=0)
    (atoms,) = perturbed_bulk(1, 1, still)
    assert atoms.cell.lengths() == pytest.approx([7.02] * 3)
    assert shortest_distance(atoms) == pytest.approx(3.51 * np.sqrt(3) / 2)


def test_slab_keeps_its_vacuum():
    frames = perturbed_slab(10, 2, PerturbSettings(vacancy_share=0), n_layers=8, vacuum_A=10)
    for atoms in frames:
        assert len(atoms) == 8
        assert atoms.pbc.all()
        assert atoms.cell[2] == pytest.approx([0, 0, 7 * 3.51 / 2 + 10])
        assert 8 < atoms.cell[2, 2] - np.ptp(atoms.positions[:, 2]) < 12
        assert 3 < atoms.positions[:, 2].min() < 7
    assert len({round(atoms.cell[0, 0], 6) for atoms in frames}) == 10


def test_impossible_settings_are_said():
    with pytest.raises(ValueError, match=r'min_distance_A = 3.4 Å at displacement_A = 0.5 Å'):
        perturbed_bulk(1, 1, PerturbSettings(min_distance_A=3.4, displacement_A=0.5))
    with pytest.raises(ValueError, match='volume_scale'):
        PerturbSettings.read({'volume_scale': (1.2, 0.8)})
    with pytest.raises(ValueError, match='n_frames = -1'):
        perturbed_bulk(-1, 1)
