import numpy as np
import pytest
from analysis_synthetic import A, as_data, crystal, dump_text, everything, slab, write_dump
from ase import Atoms

from aiida_liheal.analysis.phases import atoms_inside, neighbour_counts
from aiida_liheal.analysis.series import SURFACE_REACH, analyse_trajectory
from aiida_liheal.analysis.settings import AnalysisSettings
from aiida_liheal.analysis.sites import sites_of
from aiida_liheal.analysis.vacuum import open_at_vacuum
from aiida_liheal.analysis.voids import measure_voids


def sites(atoms):
    data = open_at_vacuum(as_data(atoms), everything(atoms), 10.0)
    voids = measure_voids(data, everything(atoms), 3.0)
    inside = atoms_inside(data, everything(atoms), voids.surface, SURFACE_REACH * A)
    return sites_of(neighbour_counts(data, 1.207 * A), voids.outside, inside)


def grooved(n=8, layers=12, steps=3):
    """A slab with a ridge and a groove along y whose flanks rise by a layer at each row: tip and valley are rows."""
    flat = slab(n, layers + 2 * steps)
    columns = np.round(flat.positions[:, 0] / (A / 2)).astype(int) % (2 * n)
    away = np.minimum(columns, 2 * n - columns)
    height = (layers - 1 + 2 * steps - np.minimum(away, 2 * steps)) * A / 2
    return flat[flat.positions[:, 2] <= height + 0.1]


def test_flat_surface_has_neither_tips_nor_valleys():
    found = sites(slab(6, 12))
    assert found['surface'].sum() == 2 * 36
    assert found['bulk'].sum() == 8 * 36
    assert not found['tips'].any()
    assert not found['valleys'].any()


@pytest.mark.parametrize(('rattle', 'most'), [(0.1, 0.0), (0.3, 0.15)])
def test_thermal_motion_makes_few_tips_and_valleys(rattle, most):
    atoms = slab(10, 12)
    atoms.rattle(rattle, seed=1)
    found = sites(atoms)
    blurred = found['tips'].sum() + found['valleys'].sum()
    assert blurred <= most * found['surface'].sum()


def test_an_atom_alone_is_a_tip():
    atoms = slab(6, 10)
    top = atoms.positions[:, 2].max()
    atoms += Atoms('Li', [[A / 2 + 2 * A, A / 2 + 2 * A, top + A / 2]])
    assert np.flatnonzero(sites(atoms)['tips']).tolist() == [len(atoms) - 1]


def test_ridge_and_groove():
    """The ridge is a row of tips, the row at the bottom of the groove one of valleys; both belong to the surface."""
    atoms = grooved()
    found = sites(atoms)
    z = atoms.positions[:, 2]
    tips, valleys = z[found['tips']], z[found['valleys']]
    assert tips == pytest.approx(np.full(8, z.max()))
    assert len(valleys) > 0
    assert valleys.max() < z.max() - 2 * A
    assert not (found['surface'] & found['bulk']).any()
    assert not ((found['tips'] | found['valleys']) & ~found['surface']).any()
    assert not (found['tips'] & found['valleys']).any()


def test_energies_of_sites(tmp_path):
    """Energies drawn by site come back as the means of each; fixed atoms at the bottom count for none."""
    atoms = grooved()
    found = sites(atoms)
    energies = np.full(len(atoms), -1.55)
    for name, energy in (('bulk', -1.65), ('surface', -1.45), ('tips', -1.3), ('valleys', -1.6)):
        energies[found[name]] = energy
    low = atoms.positions[:, 2] < 1.0
    energies[low] = 7.0
    path = write_dump(tmp_path / 'ridge.dump', dump_text(0, atoms, energies=energies))
    series = analyse_trajectory([path], AnalysisSettings(fixed_below_A=1.0)).series
    assert series['potential_energy_tips_eV_per_atom'] == pytest.approx([-1.3])
    assert series['potential_energy_valleys_eV_per_atom'] == pytest.approx([-1.6])
    assert series['potential_energy_bulk_eV_per_atom'] == pytest.approx([-1.65])
    top = found['surface'] & ~low
    assert series['atoms_surface'].tolist() == [top.sum()]
    assert series['potential_energy_surface_eV_per_atom'] == pytest.approx([energies[top].mean()])


def test_amorphous_share(tmp_path):
    """A crystal that is half shaken to pieces: the surfaces, which are no crystal to a-CNA either, do not count."""
    perfect = slab(6, 16)
    shaken = perfect.copy()
    half = shaken.positions[:, 2] > shaken.positions[:, 2].mean()
    shaken.positions[half] += np.random.default_rng(3).normal(scale=0.6, size=(half.sum(), 3))
    path = write_dump(tmp_path / 'melt.dump', dump_text(0, perfect), dump_text(1, shaken))
    result = analyse_trajectory([path], AnalysisSettings(profile_frames=1, height_bin_A=A))
    series, profiles = result.series, result.profiles
    assert series['other_share'][0] > series['amorphous_share'][0] == 0.0
    assert 0.3 < series['amorphous_share'][1] < 0.7
    # layers 4 and 5 of 16
    assert (profiles['bcc_share'][2], profiles['other_share'][2]) == (1.0, 0.0)
    assert profiles['other_share'][5] > 0.9


def test_bulk_alone_has_no_surface():
    found = sites(crystal(5))
    assert found['bulk'].all()
    assert not found['surface'].any()
