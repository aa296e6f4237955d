"""Healing times against size and temperature."""

import math

import numpy as np
import pytest

from aiida_liheal.analysis.healing import HealingTime, equivalent_diameter, fit_laws
from aiida_liheal.analysis.profiles import BOLTZMANN_EV_PER_K


def times(sizes, temperatures, exponent=2.0, energy_eV=0.05, not_healed=()):
    """Runs by the law t = 0.01 ps (d / Å)^n exp(E / (k T)) with a scatter of 2 %."""
    rng = np.random.default_rng(5)
    found = []
    for size in sizes:
        for temperature in temperatures:
            law = 0.01 * size**exponent * math.exp(energy_eV / (BOLTZMANN_EV_PER_K * temperature))
            time = law * math.exp(0.02 * rng.normal())
            is_bound = (size, temperature) in not_healed
            found.append(HealingTime(size, temperature, time / 2 if is_bound else time, is_bound))
    return found


def test_diameter_of_a_sphere():
    assert equivalent_diameter(4 / 3 * math.pi * 5**3) == pytest.approx(10.0)


def test_laws_are_found_again():
    laws = fit_laws(times([10.0, 15.0, 20.0, 25.0], [100.0, 150.0, 200.0, 300.0]), confidence=0.95)
    assert [law['law'] for law in laws] == ['Arrhenius'] * 4 + ['power law'] * 4 + ['both']
    for law in laws:
        for name, truth in (('activation_energy_eV', 0.05), ('exponent', 2.0)):
            if name in law['parameters']:
                one = law['parameters'][name]
                assert one['value'] == pytest.approx(truth, rel=0.1)
    for name, truth in (('activation_energy_eV', 0.05), ('exponent', 2.0)):
        one = laws[-1]['parameters'][name]
        assert one['low'] <= truth <= one['high']
        assert one['high'] - one['low'] < 0.1 * truth
    # rates and times at the ends of the laws, by name and unit
    assert laws[0]['parameters']['rate_at_infinite_temperature_per_ps']['value'] == pytest.approx(1.0, rel=0.3)
    assert laws[4]['parameters']['time_at_1_A_ps']['value'] == pytest.approx(0.01 * math.exp(0.05 / 8.617e-3), rel=0.5)
    assert laws[-1]['parameters']['amplitude_ps']['value'] == pytest.approx(0.01, rel=0.3)


def test_runs_that_had_not_healed_are_bounds():
    cold = {(20.0, 100.0)}
    laws = fit_laws(times([10.0, 20.0], [100.0, 150.0, 200.0, 300.0], not_healed=cold))
    small, large = (law for law in laws if law['law'] == 'Arrhenius')
    assert (small['runs'], small['healed'], large['runs'], large['healed']) == (4, 4, 4, 3)
    assert large['bounds_violated'] == 0
    # a run that should have healed long before its end contradicts the law
    wrong = [time for time in times([10.0], [100.0, 150.0, 200.0, 300.0])] + [HealingTime(10.0, 250.0, 1e6, True)]
    assert fit_laws(wrong)[0]['bounds_violated'] == 1


def test_too_few_runs_tell_why_there_is_no_law():
    laws = fit_laws(times([10.0, 20.0], [300.0, 100.0]))
    assert len(laws) == 5
    assert all('parameters' not in law and 'at least 3 values' in law['cause'] for law in laws[:4])
    assert 'at least 4 values' not in laws[4].get('cause', '')
    # seeds and sizes that hardly differ are no axis
    assert fit_laws(times([10.0, 10.05], [300.0])) == []
    assert fit_laws([]) == []
