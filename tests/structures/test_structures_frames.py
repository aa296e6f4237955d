"""Frames keep what they are given."""

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_liheal.structures.bcc import bcc_bulk
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.perturb import perturbed_bulk, perturbed_slab


@pytest.fixture
def labelled():
    images = perturbed_bulk(2, 1) + perturbed_slab(2, 2)
    rng = np.random.default_rng(0)
    for atoms in images:
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=-1.9 * len(atoms),
            free_energy=-1.91 * len(atoms),
            forces=rng.normal(size=(len(atoms), 3)),
            stress=rng.normal(size=6) * 0.01,
        )
    return images


def test_there_and_back(labelled, tmp_path):
    frames = Frames.from_atoms(labelled, source_index=np.arange(4))
    frames.save(tmp_path / 'frames.npz')
    read = Frames.load(tmp_path / 'frames.npz')
    assert len(read) == 4
    assert read.is_labelled
    assert read.extra['source_index'].tolist() == [0, 1, 2, 3]
    for before, after in zip(labelled, read, strict=True):
        assert after.positions == pytest.approx(before.positions)
        assert after.get_forces() == pytest.approx(before.get_forces())
        assert after.get_stress() == pytest.approx(before.get_stress())
        # the energy kept is the free energy
        assert after.get_potential_energy() == pytest.approx(-1.91 * len(before))


def test_select_and_concatenate(labelled):
    frames = Frames.from_atoms(labelled)
    joined = Frames.concatenate([frames.select([3, 0]), frames.select([1])])
    assert joined.counts.tolist() == [len(labelled[i]) for i in (3, 0, 1)]
    assert joined.to_atoms(2).positions == pytest.approx(labelled[1].positions)
    assert len(frames.select([])) == 0
    with pytest.raises(IndexError, match='0 to 3'):
        frames.select([4])


def test_elements_are_joined():
    joined = Frames.concatenate([Frames.from_atoms([bcc_bulk('Na')]), Frames.from_atoms([bcc_bulk('Li')])])
    assert joined.elements == ('Li', 'Na')
    assert set(joined.symbols(0)) == {'Na'}
    assert set(joined.symbols(1)) == {'Li'}


def test_bad_arrays_are_refused(labelled):
    frames = Frames.from_atoms(labelled)
    arrays = frames.to_arrays()
    bad = arrays['positions'].copy()
    bad[0] = np.nan
    with pytest.raises(ValueError, match='positions holds 3 numbers that are not finite'):
        Frames.from_arrays({**arrays, 'positions': bad})
    with pytest.raises(ValueError, match='forces has shape'):
        Frames.from_arrays({**arrays, 'forces': arrays['forces'][1:]})
    with pytest.raises(ValueError, match='no structure'):
        Frames.from_atoms([])


def test_velocities_are_per_ps(labelled):
    frames = Frames.from_atoms([bcc_bulk(size=(1, 1, 1))])
    moving = Frames.from_arrays({**frames.to_arrays(), 'velocities': np.full((2, 3), 5.0)})
    atoms = moving.to_atoms(0)
    mass_kg, metre_per_s = 6.94 * 1.66053907e-27, 500.0
    assert atoms.get_kinetic_energy() == pytest.approx(
        2 * 3 * 0.5 * mass_kg * metre_per_s**2 / 1.602176634e-19, rel=1e-4
    )
