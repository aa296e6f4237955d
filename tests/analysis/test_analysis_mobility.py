"""Diffusion: walkers of known D within the stated errors, crystals that only vibrate, drift, bounds."""

import numpy as np
import pytest
from analysis_synthetic import dump_text, slab, write_dump

from aiida_liheal.analysis.mobility import A2_PER_PS_IN_M2_PER_S, Mobility
from aiida_liheal.analysis.results import QUANTITIES, load_result, save_result
from aiida_liheal.analysis.series import analyse_trajectory
from aiida_liheal.analysis.settings import AnalysisSettings

CELL = np.diag([20.0, 25.0, 30.0])
PBC = np.array([True, True, True])
NEIGHBOUR = 3.04
ALL = np.ones(3, bool)


def measured(positions, times, groups=None, axes=None, reference=None, pbc=PBC, in_flight=None):
    """Mobility of a trajectory (n_frames, n_atoms, 3), wrapped into the cell first."""
    n = positions.shape[1]
    mobility = Mobility(
        times, groups or {'all': np.ones(n, bool)}, axes or {'all': ALL}, NEIGHBOUR, reference=reference
    )
    wrapped = np.where(pbc, positions % np.diag(CELL), positions)
    for number, frame in enumerate(wrapped):
        mobility.add(frame, CELL, pbc, None if in_flight is None else in_flight[number])
    return mobility


def walkers(rng, n_frames, n_atoms, d_A2_per_ps, step_ps):
    """Brownian walkers: in each direction a variance of 2 D t."""
    steps = rng.normal(0, np.sqrt(2 * d_A2_per_ps * step_ps), (n_frames, n_atoms, 3))
    steps[0] = rng.uniform(0, 20, (n_atoms, 3))
    return steps.cumsum(axis=0)


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('d_A2_per_ps', [0.05, 0.65])
def test_brownian_walkers_are_given_back(seed, d_A2_per_ps):
    """The lower value is that of a good jump diffuser, the upper that of liquid lithium at 470 K."""
    rng = np.random.default_rng(seed)
    times = np.arange(200) * 0.5
    told = measured(walkers(rng, 200, 400, d_A2_per_ps, 0.5), times).summary()['all']
    assert told['is_resolved']
    assert told['D_bound_m2_per_s'] is None
    # the error is itself known from eight blocks only
    assert abs(told['D_m2_per_s'] - d_A2_per_ps * 1e-8) < 3.5 * told['D_error_m2_per_s']
    assert told['D_error_m2_per_s'] < 0.2 * told['D_m2_per_s']
    assert told['n_moved'] > 200


def test_errors_are_as_large_as_the_scatter():
    """Over many runs, the scatter of D is the error that is stated, within what eight blocks can tell."""
    rng = np.random.default_rng(1)
    times = np.arange(60) * 1.0
    told = [measured(walkers(rng, 60, 64, 0.2, 1.0), times).summary()['all'] for _ in range(60)]
    scatter = np.std([t['D_m2_per_s'] for t in told], ddof=1)
    assert np.sqrt(np.mean([t['D_error_m2_per_s'] ** 2 for t in told])) == pytest.approx(scatter, rel=0.3)
    assert np.mean([t['D_m2_per_s'] for t in told]) == pytest.approx(0.2e-8, rel=0.1)


def test_the_curve_is_the_mean_square_displacement():
    """Without noise: an atom that moves on and one that stays."""
    times = np.arange(21.0)
    positions = np.zeros((21, 2, 3))
    positions[:, 0, 0] = times
    mobility = measured(positions, times)
    arrays = mobility.arrays()
    assert arrays['msd_all_A2'] == pytest.approx(arrays['lag_ps'] ** 2 / 2)
    # origins in the first 30 % of the run, each up to its end
    assert mobility.origins.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert arrays['pairs'][[0, 14, 20]].tolist() == [7, 7, 1]


def vibrations(rng, n_frames, n_atoms, amplitude=0.35):
    """Atoms of a crystal at 300 K about their sites, with a slow part that goes on for a fifth of the run."""
    sites = rng.uniform(0, 20, (n_atoms, 3))
    slow = np.zeros((n_frames, n_atoms, 3))
    for frame in range(1, n_frames):
        slow[frame] = 0.97 * slow[frame - 1] + rng.normal(0, 0.03, (n_atoms, 3))
    return sites + slow + rng.normal(0, amplitude, (n_frames, n_atoms, 3))


@pytest.mark.parametrize('seed', range(4))
def test_vibrations_are_below_the_resolution(seed):
    rng = np.random.default_rng(seed)
    told = measured(vibrations(rng, 200, 500), np.arange(200) * 0.5).summary()['all']
    assert not told['is_resolved']
    assert told['n_moved'] == 0
    # what 3 hops of 3.04 Å of 500 atoms in 99.5 ps would make
    assert told['D_bound_m2_per_s'] == pytest.approx(2.996 * 3.04**2 / (6 * 500 * 99.5) * A2_PER_PS_IN_M2_PER_S)


def test_a_few_hops_are_seen_and_their_error_is_large():
    """Two of 500 atoms hop: more than nothing, but no diffusion constant; the bound says what it may be."""
    rng = np.random.default_rng(5)
    positions = vibrations(rng, 200, 500)
    positions[80:, 7] += [NEIGHBOUR, 0, 0]
    positions[120:, 250] += [0, NEIGHBOUR, 0]
    told = measured(positions, np.arange(200) * 0.5).summary()['all']
    assert told['n_moved'] == 2
    if not told['is_resolved']:
        assert told['D_bound_m2_per_s'] > told['D_m2_per_s']
    assert told['D_error_m2_per_s'] > 0.3 * told['D_m2_per_s']


def test_common_motion_does_not_count():
    rng = np.random.default_rng(2)
    still = walkers(rng, 100, 100, 0.05, 1.0)
    drifting = still + np.arange(100)[:, None, None] * np.array([0.4, -0.3, 0.2])
    times, everyone = np.arange(100.0), np.ones(100, bool)
    first = measured(still, times, reference=everyone)
    second = measured(drifting, times, reference=everyone)
    assert second.summary()['all']['D_m2_per_s'] == pytest.approx(first.summary()['all']['D_m2_per_s'])
    assert second.arrays()['msd_all_A2'] == pytest.approx(first.arrays()['msd_all_A2'])
    # without a reference it does
    assert measured(drifting, times).summary()['all']['D_m2_per_s'] > 5 * first.summary()['all']['D_m2_per_s']


def test_groups_have_their_own_dimensions():
    """A surface diffuses in its plane; that its atoms also leave it along z does not count."""
    rng = np.random.default_rng(3)
    positions = walkers(rng, 200, 600, 0.1, 0.5)
    positions[:, 300:] = positions[0, 300:] + rng.normal(0, 0.3, (200, 300, 3))
    positions[:, :300, 2] = 3 * (positions[:, :300, 2] - positions[0, :300, 2])
    groups = {'surface': np.arange(600) < 300, 'bulk': np.arange(600) >= 300}
    axes = {'surface': np.array([True, True, False]), 'bulk': ALL}
    told = measured(positions, np.arange(200) * 0.5, groups, axes, pbc=np.array([True, True, False])).summary()
    assert told['surface']['dimensions'] == 2
    assert abs(told['surface']['D_m2_per_s'] - 0.1e-8) < 3.5 * told['surface']['D_error_m2_per_s']
    assert told['surface']['is_resolved']
    assert not told['bulk']['is_resolved']


def test_atoms_that_fly_off_do_not_count():
    rng = np.random.default_rng(4)
    positions = vibrations(rng, 100, 60, amplitude=0.2)
    positions[40:, 3, 2] += 5.0 * np.arange(60)
    in_flight = np.zeros((100, 60), bool)
    in_flight[40:, 3] = True
    told = measured(positions, np.arange(100.0), pbc=np.array([True, True, False]), in_flight=in_flight)
    assert told.summary()['all']['n_left_surface'] == 1
    assert told.summary()['all']['n_atoms'] == 59
    assert not told.summary()['all']['is_resolved']
    assert np.nanmax(told.arrays()['msd_all_A2']) < 1.5


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match=r'3 frames over 2 ps: 1 lags lie in the fit.*dump more often or run longer'):
        Mobility(np.arange(3.0), {'all': np.ones(1, bool)}, {'all': ALL}, NEIGHBOUR)
    with pytest.raises(ValueError, match='0 frames'):
        Mobility(np.zeros(0), {'all': np.ones(1, bool)}, {'all': ALL}, NEIGHBOUR)


def test_a_group_without_atoms_says_so():
    positions = np.zeros((20, 2, 3))
    groups = {'all': np.ones(2, bool), 'none': np.zeros(2, bool)}
    told = measured(positions, np.arange(20.0), groups, {'all': ALL, 'none': ALL}).summary()
    assert told['none'] == {'n_atoms': 0, 'n_left_surface': 0, 'dimensions': 3, 'length_ps': 19.0}
    assert told['all']['D_error_m2_per_s'] is None
    assert not told['all']['is_resolved']


def test_groups_of_a_slab_come_from_its_first_frame(tmp_path):
    """The surface walks along itself and is measured there; what is inside vibrates; equilibration does not count."""
    atoms = slab(4, 10)
    z = atoms.positions[:, 2]
    low, top = z < 1.5 * 3.51 / 2, z > z.max() - 0.1
    rng = np.random.default_rng(0)
    walk = rng.normal(0, np.sqrt(2 * 0.2 * 0.5), (60, top.sum(), 2)).cumsum(axis=0)
    texts = []
    for number in range(70):
        image = atoms.copy()
        image.positions[~low] += rng.normal(0, 0.1, ((~low).sum(), 3))
        if number >= 10:
            image.positions[top, :2] += walk[number - 10]
        image.wrap()
        texts.append(dump_text(500 * number, image))
    settings = {'measure_mobility': True, 'mobility_from_ps': 5.0, 'fixed_below_A': 2.0, 'measure_voids': False}
    result = analyse_trajectory([write_dump(tmp_path / 'a.dump', *texts)], AnalysisSettings(**settings))
    told = result.summary['mobility']
    # two layers lack neighbours; of them, one walks, at half of 2 D t in the mean
    assert (told['surface']['n_atoms'], told['surface']['dimensions']) == (32, 2)
    assert told['surface']['length_ps'] == 29.5
    assert told['bulk']['n_atoms'] == 160 - 32 - low.sum()
    assert told['surface']['is_resolved']
    assert abs(told['surface']['D_m2_per_s'] - 0.1e-8) < 3.5 * told['surface']['D_error_m2_per_s']
    assert not told['bulk']['is_resolved']
    assert set(result.mobility) == {'lag_ps', 'pairs', 'msd_surface_A2', 'msd_bulk_A2'} <= set(QUANTITIES)
    assert result.summary['units']['msd_bulk_A2'] == 'Å^2'
    save_result(result, tmp_path)
    assert load_result(tmp_path).mobility['msd_bulk_A2'] == pytest.approx(result.mobility['msd_bulk_A2'])
    # with nothing asked for there is nothing of it
    plain = analyse_trajectory([tmp_path / 'a.dump'], AnalysisSettings(measure_voids=False, every=30))
    assert 'mobility' not in plain.summary
    (tmp_path / 'plain').mkdir()
    save_result(plain, tmp_path / 'plain')
    assert load_result(tmp_path / 'plain').mobility == {}


def test_atoms_that_come_or_go_are_refused(tmp_path):
    texts = [dump_text(500 * number, slab(4, 6)[: 96 - (number > 4)]) for number in range(8)]
    path = write_dump(tmp_path / 'a.dump', *texts)
    with pytest.raises(ValueError, match=r'96 atoms at first, 95 in frame 5.*same atoms'):
        analyse_trajectory([path], AnalysisSettings(measure_mobility=True, measure_voids=False))


def test_fit_must_be_a_range():
    with pytest.raises(ValueError, match='two rising shares'):
        AnalysisSettings(mobility_fit=(0.7, 0.2))
