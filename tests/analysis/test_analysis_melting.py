"""Melting: which phase grows, and a search that closes in on a temperature known beforehand."""

import numpy as np
import pytest

from aiida_liheal.analysis.melting import Bracket, bracket, judge, majority, next_temperatures

TIMES = np.arange(0, 50, 0.1)
LIMITS = (0.1, 0.9, 0.1)


def noisy(course, seed=0):
    return course + np.random.default_rng(seed).normal(0, 0.02, len(course))


@pytest.mark.parametrize(
    ('course', 'verdict', 'by'),
    [
        (0.5 + 0.45 * TIMES / 50, 'freezes', 'phase'),
        (0.5 - 0.45 * TIMES / 50, 'melts', 'phase'),
        (0.45 + 0.3 * TIMES / 50, 'freezes', 'drift'),
        (0.55 - 0.3 * TIMES / 50, 'melts', 'drift'),
        (0.5 + 0.03 * TIMES / 50, 'undecided', None),
        # up and down again: the line rises or falls within its own error
        (0.5 + 0.15 * np.sin(2 * np.pi * TIMES / 20), 'undecided', None),
        # what happens while cell and interfaces come to rest does not count
        (np.where(TIMES < 5, 0.8 - 0.06 * TIMES, 0.5), 'undecided', None),
    ],
)
def test_the_phase_that_grows(course, verdict, by):
    told = judge(TIMES, noisy(course), *LIMITS)
    assert (told['verdict'], told['by']) == (verdict, by)
    assert told['start'] == pytest.approx(course[0], abs=0.1)


def test_drift_and_its_error():
    told = judge(TIMES, 0.4 + 0.2 * TIMES / TIMES[-1], *LIMITS)
    assert told['change'] == pytest.approx(0.2)
    assert told['change_error'] == pytest.approx(0, abs=1e-9)
    errors = [judge(TIMES, noisy(0.5 + 0.0 * TIMES, seed), *LIMITS) for seed in range(40)]
    assert {told['verdict'] for told in errors} == {'undecided'}


@pytest.mark.parametrize('n', [0, 3])
def test_a_run_too_short_to_judge_is_undecided(n):
    told = judge(TIMES[:n], np.full(n, 0.5), *LIMITS)
    assert told['verdict'] == 'undecided'
    assert told['change'] is None


def test_majority():
    assert majority(['freezes', 'melts', 'melts']) == 'melts'
    assert majority(['freezes', 'undecided']) == 'freezes'
    assert majority(['freezes', 'melts', 'undecided']) == 'undecided'
    assert majority(['undecided']) == 'undecided'


def test_bracket_of_runs():
    runs = [(400, 'freezes'), (500, 'melts'), (450, 'undecided'), (350, 'freezes')]
    assert bracket(runs) == Bracket(400, 500, (450,), True)
    assert bracket(runs).width_K == 100
    assert bracket(runs[:1]) == Bracket(400, None, (), True)
    assert bracket(runs[:1]).width_K == float('inf')
    assert bracket([]) == Bracket(None, None, (), True)


def test_runs_that_contradict_each_other_draw_the_bracket_back():
    runs = [(400, 'freezes'), (430, 'melts'), (440, 'freezes'), (500, 'melts')]
    assert bracket(runs) == Bracket(400, 500, (430, 440), False)
    # a second pair of seeds at 430 K settles it
    settled = bracket([*runs, (430, 'freezes'), (430, 'freezes')])
    assert settled == Bracket(440, 500, (), True)


def test_next_temperatures():
    assert next_temperatures(Bracket(400, 500), 1, 50, 5) == [450]
    assert next_temperatures(Bracket(400, 500), 3, 50, 5) == [425, 450, 475]
    # all froze, all melted, nothing decided: further out
    assert next_temperatures(Bracket(500, None), 1, 50, 5) == [550]
    assert next_temperatures(Bracket(None, 400), 1, 50, 5) == [350]
    assert next_temperatures(Bracket(None, None, (400, 450)), 1, 50, 5) == [350, 500]
    # never to 0 K or below
    assert next_temperatures(Bracket(None, 40), 1, 50, 5) == []
    # one that is undecided is a limit as well; too near to tell apart, it is run again
    assert next_temperatures(Bracket(400, 440, (420,)), 2, 50, 5) == [410, 430]
    assert next_temperatures(Bracket(440, 452, (446,)), 2, 50, 5) == [446]


@pytest.mark.parametrize('seed', range(20))
@pytest.mark.parametrize('per_round', [1, 3])
def test_search_closes_in_on_a_melting_point(seed, per_round):
    """Runs within 8 K of the melting point are undecided or even wrong: it still ends, near the point."""
    rng = np.random.default_rng(seed)
    melting_point = rng.uniform(300, 600)
    runs, temperatures = [], [400.0, 500.0]
    for _ in range(40):
        for temperature in temperatures:
            for _ in range(2):
                distance = temperature - melting_point
                is_clear = abs(distance) > 8 or rng.random() < 0.8
                verdict = ('melts' if distance > 0 else 'freezes') if is_clear else 'undecided'
                runs.append((temperature, verdict))
        found = bracket(runs)
        if found.width_K <= 10 and found.is_consistent:
            break
        temperatures = next_temperatures(found, per_round, 50, 5)
    assert found.width_K <= 10
    assert found.low_K <= melting_point <= found.high_K
    assert len(runs) < 120
