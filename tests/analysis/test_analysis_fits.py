"""Fits and means whose truth is known, and how often their intervals cover it."""

import numpy as np
import pytest
from scipy.signal import lfilter

from aiida_liheal.analysis.fits import block_mean, fit_arrhenius, fit_healing_times, fit_power_law

K_EV = 8.617333262e-5


def arrhenius(t, amplitude=1e-7, energy=0.12):
    return amplitude * np.exp(-energy / (K_EV * np.asarray(t)))


def test_exact_laws():
    temperatures = np.array([250.0, 300, 350, 400])
    fit = fit_arrhenius(temperatures, arrhenius(temperatures))
    assert fit.parameters['activation_energy_eV'].value == pytest.approx(0.12)
    assert fit.parameters['amplitude'].value == pytest.approx(1e-7)
    assert fit.parameters['activation_energy_eV'].error < 1e-10
    assert fit.at(500.0).value == pytest.approx(arrhenius(500.0))
    assert (fit.n_points, fit.n_bounds, fit.degrees_of_freedom, fit.chi2_per_degree) == (4, 0, 2, None)
    x = np.array([10.0, 20, 50])
    fit = fit_power_law(x, 3 * x**2.5)
    assert fit.parameters['exponent'].value == pytest.approx(2.5)
    assert fit.parameters['amplitude'].value == pytest.approx(3)
    sizes, temperatures = np.meshgrid([10.0, 20, 40], [200.0, 300])
    sizes, temperatures = sizes.ravel(), temperatures.ravel()
    fit = fit_healing_times(sizes, temperatures, 0.02 * sizes**3 * np.exp(0.05 / (K_EV * temperatures)))
    assert fit.parameters['exponent'].value == pytest.approx(3)
    assert fit.parameters['activation_energy_eV'].value == pytest.approx(0.05)
    assert fit.parameters['amplitude_ps'].value == pytest.approx(0.02)
    assert fit.at(30.0, 250.0).value == pytest.approx(0.02 * 30**3 * np.exp(0.05 / (K_EV * 250)))


@pytest.mark.parametrize('n', [4, 6, 12])
@pytest.mark.parametrize('case', ['no errors', 'right errors', 'errors too small'])
def test_intervals_cover(n, case):
    """68 % intervals cover the truth in 55-80 % of 300 runs."""
    rng = np.random.default_rng(n)
    x = np.geomspace(10, 100, n)
    covered = 0
    for _ in range(300):
        spread = np.full(n, 0.1) if case == 'no errors' else rng.uniform(0.05, 0.2, n)
        y = 2 * x**1.7 * np.exp(rng.normal(0, spread))
        told = {'no errors': None, 'right errors': spread * y, 'errors too small': spread * y / 3}[case]
        exponent = fit_power_law(x, y, told).parameters['exponent']
        covered += exponent.low < 1.7 < exponent.high
    # two degrees of freedom cannot tell how much too small errors are: short of the promise, but not lost
    least = 0.45 if case == 'errors too small' and n == 4 else 0.55
    assert least < covered / 300 < 0.8


def test_wide_intervals_cover():
    """95 % intervals of four points without errors cover the truth in 91-99 % of 300 runs."""
    rng = np.random.default_rng(0)
    x = np.geomspace(10, 100, 4)
    covered = 0
    for _ in range(300):
        exponent = fit_power_law(x, 2 * x**1.7 * np.exp(rng.normal(0, 0.1, 4)), confidence=0.95).parameters['exponent']
        covered += exponent.low < 1.7 < exponent.high
    assert 0.91 < covered / 300 < 0.99


def test_intervals_of_all_parameters_and_predictions_cover():
    rng = np.random.default_rng(0)
    temperatures = np.array([250.0, 280, 320, 360, 400])
    sizes, heats = (a.ravel() for a in np.meshgrid([10.0, 20, 40], [200.0, 300, 400]))
    hits = np.zeros(5)
    for _ in range(300):
        y = arrhenius(temperatures) * np.exp(rng.normal(0, 0.15, 5))
        fit = fit_arrhenius(temperatures, y)
        energy, amplitude, there = *(fit.parameters[p] for p in ('activation_energy_eV', 'amplitude')), fit.at(450.0)
        hits[0] += energy.low < 0.12 < energy.high
        hits[1] += amplitude.low < 1e-7 < amplitude.high
        hits[2] += there.low < arrhenius(450.0) < there.high
        times = 0.02 * sizes**3 * np.exp(0.05 / (K_EV * heats)) * np.exp(rng.normal(0, 0.2, 9))
        fit = fit_healing_times(sizes, heats, times, 0.2 * times)
        exponent, energy = fit.parameters['exponent'], fit.parameters['activation_energy_eV']
        hits[3] += exponent.low < 3 < exponent.high
        hits[4] += energy.low < 0.05 < energy.high
    assert ((hits > 0.55 * 300) & (hits < 0.8 * 300)).all()


def test_errors_weigh_and_grow():
    x = np.array([1.0, 2, 4, 8])
    y = x**2 * [1, 1, 1, 3]
    exponent = fit_power_law(x, y, y * [0.01, 0.01, 0.01, 2]).parameters['exponent']
    assert exponent.value == pytest.approx(2, abs=0.01)
    tight = fit_power_law(x, y, y * 0.01)
    assert tight.chi2_per_degree > 100
    # errors all too small by one factor change nothing
    assert tight.parameters['exponent'].error == pytest.approx(
        fit_power_law(x, y, y * 0.02).parameters['exponent'].error
    )
    assert fit_power_law(x, y).scatter == pytest.approx(tight.scatter)


def test_bounds_are_counted_and_compared():
    temperatures = np.array([200.0, 250, 300, 350, 400])
    y = arrhenius(temperatures)
    is_bound = np.array([True, True, False, False, False])
    y[0] *= 50  # nothing seen in a short run: it says little
    y[1] *= 2
    errors = np.where(is_bound, np.nan, 0.05 * y)
    fit = fit_arrhenius(temperatures, y, errors, is_bound)
    assert (fit.n_points, fit.n_bounds, fit.n_bounds_violated) == (3, 2, 0)
    assert fit.parameters['activation_energy_eV'].value == pytest.approx(0.12)
    y[1] /= 20
    assert fit_arrhenius(temperatures, y, errors, is_bound).n_bounds_violated == 1
    assert fit_arrhenius(temperatures, y, errors, is_bound, bounds='lower').n_bounds_violated == 1
    # a defect that had not healed after twice the time that the law gives
    sizes = np.array([10.0, 20, 40, 40, 80])
    heat = np.array([300.0, 200, 300, 200, 300])
    times = sizes**2 * np.exp(0.05 / (K_EV * heat))
    times[4] *= 2
    fit = fit_healing_times(sizes, heat, times, is_bound=[False] * 4 + [True])
    assert (fit.n_points, fit.n_bounds, fit.n_bounds_violated) == (4, 1, 1)


def test_what_cannot_be_fitted():
    t = np.array([300.0, 350, 400])
    with pytest.raises(ValueError, match=r'2 values and 1 bounds for 2 unknowns .* at least 3 values'):
        fit_arrhenius(t, arrhenius(t), is_bound=[True, False, False])
    with pytest.raises(ValueError, match='do not tell amplitude, activation_energy_eV apart'):
        fit_arrhenius([300.0] * 4, [1.0, 2, 3, 4])
    with pytest.raises(ValueError, match='do not tell'):
        fit_healing_times([10.0, 20, 30, 40], [300.0] * 4, [1.0, 2, 3, 4])
    with pytest.raises(ValueError, match=r'values is \[1.0, 0.0, 2.0\]; give a list of finite numbers above 0'):
        fit_arrhenius(t, [1.0, 0.0, 2.0])
    with pytest.raises(ValueError, match='x is'):
        fit_power_law([1.0, np.nan, 2], [1.0, 2, 3])
    with pytest.raises(ValueError, match='errors is'):
        fit_power_law(t, t, [1.0, 0, 1])
    with pytest.raises(ValueError, match='have 3, 3, 4 entries'):
        fit_power_law([1.0, 2, 3, 4], t)
    with pytest.raises(ValueError, match='confidence is 68'):
        fit_power_law(t, t, confidence=68)
    with pytest.raises(ValueError, match="bounds is 'above'"):
        fit_power_law(t, t, bounds='above')


def correlated(rng, n, memory):
    """A series of mean 5 and variance 1 whose correlation falls by `memory` each step."""
    noise = rng.normal(0, np.sqrt(1 - memory**2), n + 500)
    return 5 + lfilter([1], [1, -memory], noise)[500:]


@pytest.mark.parametrize(('memory', 'n'), [(0.0, 200), (0.8, 3000), (0.9, 8000)])
def test_block_errors(memory, n):
    """The error is that of n (1 - memory) / (1 + memory) independent values; 68 % intervals cover 55-80 %."""
    rng = np.random.default_rng(1)
    truth = np.sqrt((1 + memory) / (1 - memory) / n)
    found = [block_mean(correlated(rng, n, memory)) for _ in range(200)]
    assert np.mean([f.is_resolved for f in found]) > 0.9
    assert np.mean([f.error for f in found]) == pytest.approx(truth, rel=0.15)
    covered = np.mean([low < 5 < high for low, high in (f.interval() for f in found)])
    assert 0.55 < covered < 0.8


def test_series_too_short_for_a_block_error():
    rng = np.random.default_rng(0)
    found = block_mean(correlated(rng, 60, 0.98))
    assert not found.is_resolved
    assert found.n_blocks >= 8
    assert block_mean(np.ones(20)).error == 0
    with pytest.raises(ValueError, match='5 values for 8 blocks'):
        block_mean(np.ones(5))
    with pytest.raises(ValueError, match='not finite'):
        block_mean([np.nan] * 10)
