import numpy as np
import pytest
from analysis_synthetic import A, as_data, crystal, everything, slab
from ase.units import _e, _k

from aiida_liheal.analysis.profiles import (
    BOLTZMANN_EV_PER_K,
    U_A2_PER_PS2_IN_EV,
    HeightProfile,
    film_height_A,
    sum_slices,
    temperature_K,
)

MASS = 6.94


def maxwell(rng: np.random.Generator, kelvin: float, n: int):
    """Velocities of n atoms in Å/ps at a temperature."""
    return rng.normal(scale=np.sqrt(BOLTZMANN_EV_PER_K * kelvin / (MASS * U_A2_PER_PS2_IN_EV)), size=(n, 3))


def test_constants():
    """k against ASE's CODATA values; the other by the paper's fastest atoms: 5,000 m/s is 0.9 eV."""
    assert pytest.approx(_k / _e, rel=1e-5) == BOLTZMANN_EV_PER_K
    energy_eV = 0.5 * MASS * U_A2_PER_PS2_IN_EV * 50.0**2
    assert energy_eV == pytest.approx(0.90, abs=0.005)


@pytest.mark.parametrize('seed', range(4))
def test_drifting_slab_of_known_temperatures(seed):
    """Two halves at 300 and 800 K that drift apart: each slice shows its own temperature, and no drift."""
    rng = np.random.default_rng(seed)
    atoms = slab(8, 16)
    atoms.positions[:, 2] += 0.2
    top = atoms.positions[:, 2] > 7.6 * A / 2
    velocities = np.where(top[:, None], maxwell(rng, 800.0, len(atoms)), maxwell(rng, 300.0, len(atoms)))
    velocities += np.where(top[:, None], (0.0, 30.0, 5.0), (-20.0, 0.0, 5.0))
    profile = HeightProfile(A, MASS)
    profile.add(sum_slices(as_data(atoms), everything(atoms), A, MASS, velocities))
    found = profile.arrays()
    # each slice holds two layers, 128 atoms: standard error sqrt(2 / (3 * 127)) = 7 %
    assert found['atoms'] == pytest.approx(np.full(8, 128.0))
    error = 4 * np.sqrt(2 / (3 * 127))
    assert found['temperature_K'][:4] == pytest.approx(np.full(4, 300.0), rel=error)
    assert found['temperature_K'][4:] == pytest.approx(np.full(4, 800.0), rel=error)
    assert found['temperature_K'][:4].mean() == pytest.approx(300.0, rel=error / 2)
    assert found['density_g_per_cm3'] == pytest.approx(np.full(8, 2 * MASS / A**3 * 1.66053907), rel=1e-6)
    assert found['height_A'] == pytest.approx((np.arange(8) + 0.5) * A)


def test_fixed_atoms_and_atoms_in_flight_are_left_out():
    rng = np.random.default_rng(0)
    atoms = slab(8, 8)
    atoms.positions[:, 2] += 0.2
    atoms.append('Li')
    atoms.positions[-1] = (3.0, 3.0, 40.0)
    velocities = maxwell(rng, 300.0, len(atoms))
    fixed = atoms.positions[:, 2] < 2 * A - 0.1
    velocities[fixed] = 0.0
    velocities[-1] = (0, 0, -50.0)
    matter = everything(atoms)
    matter[-1] = False
    profile = HeightProfile(A, MASS)
    for _ in range(2):
        profile.add(sum_slices(as_data(atoms), matter, A, MASS, velocities, ~fixed))
    found = profile.arrays()
    assert len(found['height_A']) == 4, 'the atom in flight made slices'
    assert np.isnan(found['temperature_K'][:2]).all()
    assert found['temperature_K'][2:] == pytest.approx(np.full(2, 300.0), rel=0.3)
    assert found['atoms'] == pytest.approx(np.full(4, 128.0))


def test_profile_grows_with_the_film():
    profile = HeightProfile(A, MASS)
    low, high = slab(4, 4), slab(4, 8)
    low.positions[:, 2] += 0.2
    high.positions[:, 2] += 0.2 - 2 * A
    for atoms in (low, high):
        profile.add(sum_slices(as_data(atoms), everything(atoms), A, MASS))
    found = profile.arrays()
    assert found['height_A'] / A == pytest.approx([-1.5, -0.5, 0.5, 1.5])
    assert found['atoms'] == pytest.approx([16, 16, 32, 32])
    assert 'temperature_K' not in found


def test_energies_and_shares_by_height():
    """Each slice has the mean of its atoms over the frames that have any there; none where there is no atom."""
    atoms = slab(4, 8)
    atoms.positions[:, 2] += 0.2
    low = atoms.positions[:, 2] < 2 * A
    far = atoms.positions[:, 2] > 3 * A
    profile = HeightProfile(A, MASS)
    for shift in (0.0, 0.5):
        energies = np.where(low, -1.7, -1.5) + shift
        structures = {'bcc_share': low, 'other_share': ~low}
        matter = ~((atoms.positions[:, 2] > 2 * A) & ~far)
        profile.add(sum_slices(as_data(atoms), matter, A, MASS, energies=energies, structures=structures))
    found = profile.arrays()
    assert found['potential_energy_eV_per_atom'] == pytest.approx([-1.45, -1.45, np.nan, -1.25], nan_ok=True)
    assert found['bcc_share'] == pytest.approx([1, 1, np.nan, 0], nan_ok=True)
    assert found['other_share'] == pytest.approx([0, 0, np.nan, 1], nan_ok=True)


def test_temperature_of_one_common_motion_is_zero():
    velocities = np.tile([1.0, 2.0, 3.0], (10, 1))
    assert temperature_K(velocities, MASS) == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(temperature_K(velocities[:1], MASS))


def test_film_height():
    atoms = slab(6, 18)
    assert film_height_A(as_data(atoms), everything(atoms), A) == pytest.approx(17 * A / 2)
    # half of the columns one layer higher: layer 19 with half of its sites
    extra = crystal(6, 6, 1)[:72:2]
    extra.positions[:, 2] += 9 * A
    extra = extra[:18]
    higher = atoms + extra
    assert film_height_A(as_data(higher), everything(higher), A) == pytest.approx(17.5 * A / 2)
    assert np.isnan(film_height_A(as_data(crystal(4)), everything(crystal(4)), A))
