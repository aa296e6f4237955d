"""Properties of a potential from synthetic energies, stresses and forces whose answers are known."""

import numpy as np
import pytest
from ase import units
from ase.build import bulk

from aiida_liheal.analysis.validation import (
    Measured,
    PropertyReference,
    Quantity,
    cubic_elastic_constants,
    displaced_crystal,
    elastic_strains,
    eos_of,
    humps,
    judge,
    phonon_frequencies,
    quantity,
    side_by_side,
    surface_energy,
    vacancy_formation,
)

LITHIUM_U = 6.94


def birch_murnaghan(volume, e0, v0, b0_eV_per_A3, slope):
    x = (v0 / volume) ** (2 / 3)
    return e0 + 9 * v0 * b0_eV_per_A3 / 16 * ((x - 1) ** 3 * slope + (x - 1) ** 2 * (6 - 4 * x))


def test_equation_of_state_gives_back_what_made_it():
    volumes = 40.0 * np.linspace(0.9, 1.1, 9)
    state = eos_of(volumes[::-1], birch_murnaghan(volumes, -3.8, 40.7, 14.1 * units.GPa, 3.5)[::-1])
    assert state.volume_A3 == pytest.approx(40.7, abs=1e-6)
    assert state.energy_eV == pytest.approx(-3.8, abs=1e-9)
    assert state.bulk_modulus_GPa == pytest.approx(14.1, abs=1e-5)
    assert state.residual_eV < 1e-9


def test_what_is_far_from_the_minimum_does_not_count():
    """A wall of another form far away leaves the bulk modulus alone if it is not fitted."""
    volumes = 40.0 * np.linspace(0.8, 1.2, 41)
    energies = birch_murnaghan(volumes, -3.8, 40.2, 14.1 * units.GPa, 3.5)
    bent = energies + np.where(volumes < 35, 1e-2 * (35 - volumes) ** 2, 0.0)
    assert eos_of(volumes, bent, 0.03).bulk_modulus_GPa == pytest.approx(14.1, abs=1e-4)
    assert abs(eos_of(volumes, bent).bulk_modulus_GPa - 14.1) > 0.5


@pytest.mark.parametrize('v0', [30.0, 60.0])
def test_an_equation_of_state_without_a_minimum_is_refused(v0):
    volumes = 40.0 * np.linspace(0.9, 1.1, 9)
    with pytest.raises(ValueError, match='no minimum between 36 and 44'):
        eos_of(volumes, birch_murnaghan(volumes, -3.8, v0, 0.09, 3.5))


def test_elastic_constants_of_a_crystal_that_is_known():
    """Terms of second and third order in the strain, as a crystal has them, drop out."""
    c11, c12, c44 = 16.0, 13.0, 11.0
    stiffness = np.diag([c11 - c12] * 3 + [c44] * 3) + np.pad(np.full((3, 3), c12), (0, 3))
    strains = np.array(elastic_strains(0.01))
    stress = strains @ stiffness - 200 * strains**2 + 5e3 * strains**3
    found = cubic_elastic_constants(stress, 0.01)
    assert found == pytest.approx({'C11_GPa': c11, 'C12_GPa': c12, 'C44_GPa': c44}, abs=1e-9)


def test_surface_and_vacancy_from_energies():
    # 1 eV/Å^2 is 16.0218 J/m^2 (CODATA); two surfaces of 10 Å^2
    assert surface_energy(-19.4, 10, -2.0, 10.0) == pytest.approx(0.03 * 16.0218, rel=1e-5)
    assert vacancy_formation(-98.5, 50, -2.0) == pytest.approx(1.5)


def springs(atoms, k_first, k_second):
    """Forces of a bcc crystal whose two nearest shells are tied by springs along their bonds, harmonic."""
    from ase.neighborlist import neighbor_list

    a = 3.5
    at_rest = bulk('Li', 'bcc', a=a, cubic=True) * (4, 4, 4)
    scaled = atoms.get_scaled_positions()
    sites = at_rest.copy()
    # the order of atoms is the other crystal's
    order = [
        int(np.argmin(np.linalg.norm((at_rest.get_scaled_positions() - s + 0.5) % 1 - 0.5, axis=1))) for s in scaled
    ]
    sites = at_rest[order]
    moved = (atoms.get_scaled_positions() - sites.get_scaled_positions() + 0.5) % 1 - 0.5
    moved = moved @ atoms.cell.array
    i, j, d, vectors = neighbor_list('ijdD', sites, 1.1 * a)
    k = np.where(d < 0.95 * a, k_first, k_second)
    along = vectors / d[:, None]
    forces = np.zeros_like(moved)
    np.add.at(forces, i, k[:, None] * np.einsum('ij,ij->i', moved[j] - moved[i], along)[:, None] * along)
    return forces


def test_phonons_of_springs_are_those_of_the_textbook():
    """At H both sublattices move against each other and only the springs to first neighbours count."""
    cell = bulk('Li', 'bcc', a=3.5, cubic=True)
    crystal = displaced_crystal(cell, 4, 0.02)
    k = 0.5
    found = phonon_frequencies(cell, 4, 0.02, springs(crystal, k, 0.2))
    # m w^2 = 2 * 8 k / 3, the same for three modes
    omega = np.sqrt(16 * k / 3 * units._e / 1e-20 / (LITHIUM_U * units._amu))
    assert found['H'] == pytest.approx([omega / (2 * np.pi) / 1e12] * 3, rel=2e-3)
    assert found['Gamma'] == pytest.approx([0.0] * 3, abs=1e-3)
    assert found['imaginary_share'] == 0
    assert found['lowest'] > -0.01
    # springs that push to the second neighbours make bcc unstable
    unstable = phonon_frequencies(cell, 4, 0.02, springs(crystal, k, -0.2))
    assert unstable['lowest'] < -0.5
    assert 0 < unstable['imaginary_share'] < 1


def test_values_of_a_run_by_member_and_strain():
    names = [
        'energy_eV',
        'max_force_eV_per_A',
        'volume_A3',
        *(f'stress_{c}_GPa' for c in ('xx', 'yy', 'zz', 'yz', 'xz', 'xy')),
    ]
    values = {
        f'm{m}_s{s}_{name}': 100 * m + 10 * s + n for m in range(2) for s in range(3) for n, name in enumerate(names)
    }
    found = Measured.from_values(values, 2, 3)
    assert found.energy_eV.tolist() == [[0, 10, 20], [100, 110, 120]]
    assert found.stress_GPa.shape == (2, 3, 6)
    assert found.stress_GPa[1, 2].tolist() == [123, 124, 125, 126, 127, 128]
    del values['m1_s2_volume_A3']
    with pytest.raises(ValueError, match='no m1_s2_volume_A3'):
        Measured.from_values(values, 2, 3)


def test_spread_over_a_committee():
    assert quantity('eV', [1.0, 3.0]) == Quantity('eV', 1.0, 1.0)
    assert quantity('eV', [1.0]).spread is None


def test_nothing_passes_that_was_not_measured():
    references = {
        name: PropertyReference.read(
            {'pbe': {'low': 3.439, 'high': 3.442, 'source': 'a'}, 'limit': {'against': 'pbe', 'absolute': 0.01}}
        )
        for name in ('inside', 'outside', 'vague', 'small', 'small_and_off', 'missing', 'unknown')
    }
    references['unlimited'] = PropertyReference.read({'experiment': {'value': 1.0, 'error': 0.1, 'source': 'b'}})
    found = {
        'inside': Quantity('Å', 3.4515),
        'outside': Quantity('Å', 3.4525),
        'vague': Quantity('Å', 3.4405, error=0.5),
        'small': Quantity('Å', 3.4405, error=0.005, is_too_small=True),
        'small_and_off': Quantity('Å', 3.5, is_too_small=True),
        'missing': Quantity('Å', None, remark='why'),
        'unlimited': Quantity('Å', 7.0),
        'alone': Quantity('Å', 7.0),
    }
    rows = {row['property']: row for row in judge(found, references)}
    assert {name: row['verdict'] for name, row in rows.items()} == {
        'inside': 'pass',
        'outside': 'fail',
        'vague': 'undecided',
        'small': 'not at this size',
        'small_and_off': 'not at this size',
        'missing': 'not measured',
        'unknown': 'not measured',
        'unlimited': 'no limit',
        'alone': 'no limit',
    }
    assert rows['inside']['passes_to'] == pytest.approx(3.452)
    assert rows['unlimited']['experiment'] == {'value': 1.0, 'error': 0.1, 'source': 'b'}


def test_a_relative_limit_counts_from_both_ends():
    known = PropertyReference.read(
        {'pbe': {'low': 10, 'high': 20, 'source': 'a'}, 'limit': {'against': 'pbe', 'relative': 0.1}}
    )
    assert known.limit.interval(known.pbe) == pytest.approx((9, 22))


@pytest.mark.parametrize(
    ('values', 'told'),
    [
        ({'limit': {'against': 'pbe', 'absolute': 1}}, 'no value is given'),
        ({'pbe': {'value': 1, 'source': 'a'}, 'limit': {'against': 'pbe'}}, 'give one of them'),
        ({'pbe': {'source': 'a'}}, 'give value, or low and high'),
        ({'pbe': {'value': 1, 'low': 0, 'high': 2, 'source': 'a'}}, 'give value, or low and high'),
        ({'pbe': {'value': 1}}, 'source'),
    ],
)
def test_references_that_say_too_little(values, told):
    with pytest.raises(ValueError, match=told):
        PropertyReference.read(values)


def test_a_saddle_split_in_two_is_told():
    assert not humps([0.0, 0.02, 0.05, 0.06])
    assert humps([0.0, 0.02, 0.07, 0.06])


def test_tables_side_by_side():
    known = {
        'a': PropertyReference.read(
            {'pbe': {'value': 2.0, 'source': 's'}, 'limit': {'against': 'pbe', 'absolute': 0.1}}
        )
    }
    one = judge({'a': Quantity('Å', 2.0, 0.01)}, known)
    two = judge({'a': Quantity('Å', 3.0), 'b': Quantity('eV', remark='no meaning')}, known)
    lines = side_by_side({'ONE': one, 'TWO': two}).splitlines()
    assert lines[0] == '| property | unit | ONE | TWO | PBE | experiment | passes |'
    assert lines[2] == '| `a` | Å | 2 ± 0.01 pass | 3 **FAIL** | 2 |  | 1.9 to 2.1 |'
    assert lines[3] == '| `b` | eV | not measured | not measured |  |  |  |'
    assert lines[-1] == '- `b`: no meaning (TWO)'
