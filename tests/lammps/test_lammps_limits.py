"""Limits of runs: where a run goes beyond them, and limits that make no sense."""

import numpy as np
import pytest

from aiida_liheal.lammps.decks import validate
from aiida_liheal.lammps.limits import Limits, passed
from aiida_liheal.lammps.readers import read_log, read_model_devi

STEPS = np.array([0.0, 100.0, 200.0, 300.0])


def thermo(**columns):
    return {'Step': STEPS, 'Temp': np.full(4, 300.0), 'Atoms': np.full(4, 16.0), **columns}


def test_a_run_within_its_limits():
    limits = Limits(max_temperature_K=300.0, max_lost_atoms=0, max_deviation_eV_per_A=0.1)
    devi = {'step': STEPS, 'max_devi_f': np.full(4, 0.1)}
    assert passed(limits, thermo(), devi, 16) == []
    assert passed(limits, {}, {}, 16) == []


def test_first_step_beyond_each_limit():
    """The first step, the value there and the largest one; the limit that was passed first comes first."""
    limits = Limits(max_temperature_K=500.0, max_lost_atoms=1, max_deviation_eV_per_A=0.2)
    columns = thermo(Temp=np.array([300.0, 400.0, 600.0, 900.0]), Atoms=np.array([16.0, 16.0, 15.0, 13.0]))
    devi = {'step': STEPS[:2], 'max_devi_f': np.array([0.1, 0.7])}
    deviation, temperature, lost = passed(limits, columns, devi, 16)
    assert (deviation.limit, deviation.step, deviation.value) == ('max_deviation_eV_per_A', 100, 0.7)
    assert (temperature.step, temperature.value, temperature.largest) == (200, 600.0, 900.0)
    assert (lost.step, lost.value, lost.allowed) == (300, 3.0, 1)
    assert str(temperature) == 'max_temperature_K: 600 K at step 200, allowed 500'


def test_inserted_atoms_are_not_lost_ones():
    """A deposition has more atoms than its start: what is missing is counted from those that came."""
    columns = thermo(v_inserted=np.array([0.0, 1.0, 2.0, 3.0]), Atoms=np.array([16.0, 17.0, 18.0, 18.0]))
    (lost,) = passed(Limits(max_lost_atoms=0), columns, {}, 16)
    assert (lost.step, lost.value) == (300, 1.0)


def test_what_is_no_number_is_beyond():
    (one,) = passed(Limits(max_temperature_K=500.0), thermo(Temp=np.array([300.0, np.nan, np.nan, 300.0])), {}, 16)
    assert one.step == 100


def test_kept_runs(fixtures):
    """Atoms that left a real deposition, and the deviations of a real exploration."""
    log = read_log(fixtures / 'deposit_lost' / 'log.lammps')
    (lost,) = passed(Limits(max_lost_atoms=3), log.thermo, {}, 72)
    assert lost.value > 3
    assert log.thermo['Atoms'][log.thermo['Step'] == lost.step] < 72 + log.thermo['v_inserted'][-1]
    assert passed(Limits(max_lost_atoms=0), read_log(fixtures / 'deposit_whole' / 'log.lammps').thermo, {}, 72) == []
    devi = read_model_devi(fixtures / 'explore_exploded' / 'model_devi.out')
    (beyond,) = passed(Limits(max_deviation_eV_per_A=1.0), {}, devi, 15)
    assert beyond.largest == devi['max_devi_f'].max()


@pytest.mark.parametrize(
    ('values', 'parts'),
    [
        ({}, ['no limit given', 'max_temperature_K, max_lost_atoms, max_deviation_eV_per_A']),
        ({'max_temperature_K': -1.0}, ['max_temperature_K = -1.0', 'greater than 0', 'in K']),
        ({'max_lost_atoms': -1}, ['max_lost_atoms = -1', 'greater than or equal to 0']),
        ({'max_lost_atoms': 0.5}, ['max_lost_atoms = 0.5', 'integer']),
        ({'max_deviation_eV_per_A': 0.0}, ['max_deviation_eV_per_A = 0.0', 'greater than 0', 'eV/Å']),
        ({'max_temperature_K': 900.0, 'action': 'kill'}, ["action = 'kill'", "'stop' or 'flag'"]),
        ({'max_temperature': 900.0}, ['max_temperature: no such setting', 'max_temperature_K']),
    ],
)
def test_limits_that_make_no_sense_are_refused(values, parts):
    with pytest.raises(ValueError, match=parts[0].split(' = ')[0]) as caught:
        Limits.read(values)
    for part in parts:
        assert part in str(caught.value)


def test_limits_that_do_not_fit_the_run_are_refused():
    run = validate('heal', {'duration_ps': 2.0, 'temperature_K': 300.0, 'seed': 1})
    Limits(max_temperature_K=301.0).check(run, is_committee=False)
    with pytest.raises(ValueError, match=r'max_temperature_K = 300.0 K: must be above temperature_K = 300.0 K'):
        Limits(max_temperature_K=300.0).check(run, is_committee=False)
    with pytest.raises(ValueError, match=r'max_deviation_eV_per_A = 0.2 eV/Å: needs a committee'):
        Limits(max_deviation_eV_per_A=0.2).check(run, is_committee=False)
