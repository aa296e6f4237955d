"""Local current density and its variance, from fluxes whose density is known."""

import numpy as np
import pytest

from aiida_liheal.analysis.flux import Landings, LocalCurrent, local_current

CELL = np.diag([280.7, 14.04, 300.0])


def shares_of_strip(n, wide):
    """A source over the first `wide` of n patches."""
    return np.where(np.arange(n) < wide, 1 / wide, 0.0)


def drawn(rng, shares, n_atoms):
    """A run: counts of atoms that fall independently, in all a Poisson number."""
    return LocalCurrent(rng.poisson(n_atoms * shares)[:, None], 100.0, 10.0)


def test_units():
    """The paper's 5 Li/ps on 28.07 x 1.40 nm^2 are 0.127 Li/ps/nm^2 = 2.04e6 A/cm^2."""
    rng = np.random.default_rng(0)
    found = local_current(rng.uniform(0, 1, (5000, 3)) @ CELL, CELL, (8, 1), 1000.0)
    assert found.counts.sum() == 5000
    assert found.mean_A_per_cm2 == pytest.approx(2.04e6, rel=0.01)
    assert found.density_A_per_cm2.shape == (8, 1)
    assert found.density_A_per_cm2[3, 0] == pytest.approx(
        1.602176634e-19 * found.counts[3, 0] / (280.7 * 14.04 / 8 * 1e-16 * 1000e-12)
    )
    half = local_current(rng.uniform(0, 1, (5000, 3)) @ CELL, CELL, (8, 1), 1000.0, charge_e=0.5)
    assert half.mean_A_per_cm2 == pytest.approx(found.mean_A_per_cm2 / 2)


@pytest.mark.parametrize('n_atoms', [20, 200, 5000])
def test_uniform_sources_have_none(n_atoms):
    """Without bias, however few atoms there are, and with a scatter that is the stated error."""
    rng = np.random.default_rng(n_atoms)
    runs = [drawn(rng, np.full(16, 1 / 16), n_atoms) for _ in range(400)]
    values = np.array([run.vlcd for run in runs])
    assert abs(values.mean()) < 3.5 * values.std() / 20
    assert np.mean([run.raw_vlcd for run in runs]) == pytest.approx(16 / n_atoms, rel=0.2)
    assert np.mean([run.vlcd_error for run in runs]) == pytest.approx(values.std(), rel=0.3)


@pytest.mark.parametrize('seed', range(4))
def test_known_densities(seed):
    """Strips, cosines and random patches: right on average, and the error covers what it should."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 30))
    wide = int(rng.integers(1, n))
    cosine = 1 + rng.uniform(0.2, 1) * np.cos(2 * np.pi * np.arange(n) / n)
    for shares in (shares_of_strip(n, wide), cosine / n, rng.dirichlet(np.ones(n))):
        truth = n * (shares**2).sum() - 1
        n_atoms = int(rng.integers(100, 2000))
        runs = [drawn(rng, shares, n_atoms) for _ in range(300)]
        values = np.array([run.vlcd for run in runs])
        errors = np.array([run.vlcd_error for run in runs])
        assert values.mean() == pytest.approx(truth, abs=3.5 * values.std() / np.sqrt(300) + 1e-12)
        if values.std() > 0:
            assert 0.8 < np.mean(errors) / values.std() < 2.0
            covered = np.mean(np.abs(values - truth) < errors)
            assert covered > 0.55
            # on a strip the error is too large, see its docstring; elsewhere it is not
            assert covered < 0.85 or len(np.unique(shares)) == 2
            assert np.mean(np.abs(values - truth) < 2 * errors) > 0.9


def test_one_strip():
    """L/w - 1, from positions: a strip of a quarter and one of a tenth of the length; wrapped or not."""
    rng = np.random.default_rng(2)
    for share, truth in ((0.25, 3.0), (0.1, 9.0)):
        places = rng.uniform(0, 1, (4000, 3))
        places[:, 0] *= share
        found = local_current((places + rng.integers(-2, 3, (4000, 3))) @ CELL, CELL, (20, 2), 100.0)
        assert found.vlcd == pytest.approx(truth, abs=3 * found.vlcd_error)
        assert found.vlcd_error < 0.05 * truth


def test_oblique_cells_and_origin():
    """Patches follow the cell; the height does not count, nor does the third vector."""
    rng = np.random.default_rng(3)
    cell = np.array([[40.0, 0, 0], [20.0, 35.0, 0], [7.0, -4.0, 50.0]])
    lateral = np.array([cell[0], cell[1], [0, 0, 30.0]])
    shares = rng.uniform(0, 1, (600, 3))
    origin = np.array([3.0, 5.0, -10.0])
    found = local_current(origin + shares @ lateral, cell, (4, 3), 1.0, origin_A=origin)
    expected = np.histogram2d(shares[:, 0], shares[:, 1], bins=(4, 3), range=((0, 1), (0, 1)))[0]
    assert found.counts.tolist() == expected.tolist()
    assert found.patch_area_A2 == pytest.approx(40 * 35 / 12)


def test_too_few_atoms_and_bad_inputs():
    none = local_current(np.zeros((0, 3)), CELL, (4, 1), 1.0)
    assert none.counts.tolist() == [[0]] * 4
    assert np.isnan([none.vlcd, none.vlcd_error, none.raw_vlcd]).all()
    assert none.mean_A_per_cm2 == 0
    for patches in ((0, 1), (2.5, 1), (3,)):
        with pytest.raises(ValueError, match='patches is'):
            local_current(np.zeros((1, 3)), CELL, patches, 1.0)
    with pytest.raises(ValueError, match='duration_ps is 0'):
        local_current(np.zeros((1, 3)), CELL, (1, 1), 0)
    with pytest.raises(ValueError, match='span no area'):
        local_current(np.zeros((1, 3)), np.ones((3, 3)), (1, 1), 1.0)


def test_landings():
    """Inserted high up, in flight for some frames, landed; one leaves again and comes back, which counts once."""
    landings = Landings()
    slab = np.arange(1, 5)
    places = np.arange(30.0).reshape(10, 3)

    def frame(time_ps, ids, flying):
        ids = np.array(ids)
        return landings.add(time_ps, ids, places[ids], np.isin(ids, flying))

    assert frame(0.0, [*slab, 5], [5]) == 0
    assert frame(1.0, [*slab, 5, 6], [5, 6]) == 0
    assert frame(2.0, [*slab, 5, 6], [6]) == 1
    assert frame(3.0, [*slab, 5, 6, 7], [5]) == 2
    assert frame(4.0, [*slab, 5, 6, 7], []) == 0
    found = landings.arrays()
    assert found['id'].tolist() == [5, 6, 7]
    assert found['time_ps'].tolist() == [2.0, 3.0, 3.0]
    assert found['position_A'].tolist() == places[[5, 6, 7]].tolist()
    assert Landings().arrays()['position_A'].shape == (0, 3)
