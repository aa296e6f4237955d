"""Judging the checks of the paper: what passes, fails, is too small, was not run, and why."""

import itertools

import numpy as np
import pytest
from scipy import stats

from aiida_liheal.analysis.judges import Reading, Run, follow
from aiida_liheal.analysis.reproduction import Check, judge_checks, markdown, paths_of, read_checks
from aiida_liheal.analysis.trends import P_BY_CHANCE, trend_of

#: What a trajectory of this size tells.
SIZE = {'analysis.summary': {'max': {'n_atoms': 2000}, 'end': {'time_ps': 50.0}}, 'start': {'cell_nm': [3.5, 3.5, 3.5]}}


def run(series='a', point=None, state='finished', cause='', verb='heal', grid=None, **results):
    grid = grid or {}
    name = point or '_'.join([series, *(f'{axis}_{value}' for axis, value in grid.items())])
    return Run(name, series, verb, grid, state, cause, {**SIZE, 'summary': results})


def judged(judge, runs, **part):
    """The only part of a check of these runs."""
    check = Check.read(
        {
            'title': 'T',
            'source': 'Figure 1',
            'parts': {'p': {'what': 'w', 'paper': '1', 'series': ['a'], 'judge': judge, **part}},
        }
    )
    table = judge_checks({'c': check}, runs)
    (row,) = table['checks']
    (told,) = row['parts']
    assert row['outcome'] == told['outcome']
    assert row['reason'] == told['reason'] != ''
    return told


WITHIN = {'kind': 'within', 'value': 'summary.x', 'low': 1.0, 'high': 2.0}


@pytest.mark.parametrize(('x', 'outcome'), [(1.0, 'pass'), (2.0, 'pass'), (0.99, 'fail'), (2.01, 'fail')])
def test_within(x, outcome):
    told = judged(WITHIN, [run(x=x)])
    assert (told['outcome'], told['value'], told['error']) == (outcome, x, None)
    assert 'one run, no uncertainty' in told['reason']
    assert told['size']['text'] == '2,000 atoms, 3.50 x 3.50 x 3.50 nm, 50 ps'
    assert told['points'] == ['a']


def test_uncertainty_is_that_of_seeds_or_the_one_told():
    """Three seeds: mean and standard error; one run: what it tells of itself."""
    seeds = [run(x=x, grid={'seed': number}) for number, x in enumerate((1.2, 1.5, 1.8))]
    told = judged(WITHIN, seeds)
    assert told['value'] == pytest.approx(1.5)
    assert told['error'] == pytest.approx(0.3 / 3**0.5)
    assert told['reason'] == 'passes 1 to 2'
    told = judged({**WITHIN, 'error': 'summary.dx'}, [run(x=1.9, dx=0.2)])
    assert (told['ours'], told['outcome']) == ('1.9 ± 0.2', 'pass')
    assert 'nearer to a limit than its uncertainty' in told['reason']


def test_every_place_of_the_grid_has_to_pass():
    runs = [run(x=x, grid={'settings.temperature_K': t}) for t, x in ((100.0, 1.5), (300.0, 3.0))]
    told = judged(WITHIN, runs)
    assert told['outcome'] == 'fail'
    assert told['reason'].startswith('temperature_K 300 not within 1 to 2')
    assert told['ours'] == 'temperature_K 100: 1.5; temperature_K 300: 3'
    assert judged(WITHIN, runs, where=[{'settings.temperature_K': 100}])['outcome'] == 'pass'


@pytest.mark.parametrize(
    ('runs', 'reason'),
    [
        ([], 'no run of a is among them'),
        ([run('other', x=1.5)], 'no run of a is among them'),
        ([run(x=1.5), run(point='bad', state='failed', cause='exit code 320: it exploded')], 'bad: exit code 320'),
        ([run(y=1.5)], 'a gave no summary.x'),
        ([run(x=None)], 'a gave no summary.x'),
        ([run(x=float('nan'))], 'a gave no summary.x'),
        ([run(x='1.5')], 'a gave no summary.x'),
        ([run(x=True)], 'a gave no summary.x'),
    ],
)
def test_not_run(runs, reason):
    """Nothing passes by what is not there: no run, one that failed, one that gave no such number."""
    told = judged(WITHIN, runs)
    assert (told['outcome'], told['value']) == ('not run', None)
    assert reason in told['reason']


def test_not_run_where_nothing_is_at_the_place_judged():
    told = judged(WITHIN, [run(x=1.5, grid={'t': 100})], where=[{'t': 300}])
    assert told['outcome'] == 'not run'
    assert 'no run of a at the place' in told['reason']


@pytest.mark.parametrize('x', [1.5, 3.0])
@pytest.mark.parametrize(
    ('least', 'reason'),
    [
        ({'least_atoms': 4000}, '2,000 atoms, judged from 4,000 atoms on'),
        ({'least_ps': 60.0}, '50 ps, judged from 60 ps on'),
    ],
)
def test_not_at_this_size(x, least, reason):
    """Too small neither passes nor fails; what came out is told all the same."""
    told = judged(WITHIN, [run(x=x)], **least)
    assert (told['outcome'], told['reason'], told['value']) == ('not at this size', reason, x)
    assert judged(WITHIN, [run(x=1.5)], least_atoms=2000, least_ps=50.0)['outcome'] == 'pass'
    told = judged(WITHIN, [run(y=1)], **least)
    assert told['outcome'] == 'not at this size'
    assert 'a gave no summary.x' in told['reason']


def test_a_size_that_is_not_told_is_not_large_enough():
    runs = [Run('v', 'a', 'valley', results={'summary': {'x': 1.5}})]
    assert judged(WITHIN, runs, least_atoms=10)['outcome'] == 'not run'


def test_what_did_not_happen_fails():
    """None is an answer where it is asked for, unless the run is too small; no answer is none."""
    judge = {**WITHIN, 'none_fails': True}
    told = judged(judge, [run(x=None, grid={'t': 1}), run(x=1.5, grid={'t': 2})])
    assert (told['outcome'], told['ours'], told['reason']) == ('fail', '1.5; none in a_t_1', 'it did not happen')
    assert judged(judge, [run(x=None)], least_atoms=9000)['outcome'] == 'not at this size'
    assert judged(judge, [run(y=None)])['outcome'] == 'not run'


RATIO = {'kind': 'compared', 'value': 'summary.x', 'to': 'summary.y', 'high': 1.2}


def test_compared_within_a_run():
    assert judged(RATIO, [run(x=1.1, y=1.0)])['outcome'] == 'pass'
    assert judged(RATIO, [run(x=1.3, y=1.0)])['outcome'] == 'fail'
    assert judged(RATIO, [run(x=1.3, y=0.0)])['outcome'] == 'not run'
    told = judged({**RATIO, 'by': 'difference', 'low': 0.2, 'high': 0.4}, [run(x=-1.43, y=-1.72)])
    assert (told['outcome'], told['value']) == ('pass', pytest.approx(0.29))


def test_compared_with_another_place():
    """The flat surface is the measure of the others, and is not held against itself; errors of both count."""
    judge = {**RATIO, 'to': {'value': 'summary.x', 'where': [{'defect': 'none'}, {'protocol': 'paper'}]}}
    runs = [
        run(x=x, grid={'defect': name, 'seed': seed})
        for name, values in {'none': (1.0, 1.2), 'trench': (1.1, 1.3)}.items()
        for seed, x in enumerate(values)
    ]
    told = judged(judge, runs)
    assert told['outcome'] == 'pass'
    assert told['value'] == pytest.approx(1.2 / 1.1)
    assert told['error'] == pytest.approx(((0.1 / 1.1) ** 2 + (1.2 * 0.1 / 1.1**2) ** 2) ** 0.5)
    told = judged(judge, [run(x=1.5, grid={'defect': 'trench'})])
    assert told['outcome'] == 'not run'
    assert 'defect none or protocol paper' in told['reason']


def test_nothing_but_the_reference_is_no_pass():
    judge = {**RATIO, 'to': {'value': 'summary.x', 'where': [{'defect': 'none'}]}}
    told = judged(judge, [run(x=1.0, grid={'defect': 'none'})])
    assert (told['outcome'], told['reason']) == ('not run', 'there is nothing but what it is held against')


def test_an_uncertainty_wider_than_the_limits_is_no_pass():
    judge = {**WITHIN, 'error': 'summary.half_width'}
    assert judged(judge, [run(x=1.5, half_width=0.4)])['outcome'] == 'pass'
    told = judged(judge, [run(x=1.5, half_width=60.0)])
    assert (told['outcome'], told['value'], told['error']) == ('not at this size', 1.5, 60.0)
    assert judged(judge, [run(x=2.5, half_width=60.0)])['outcome'] == 'fail'


def test_too_few_places():
    """Seeds are no places of their own."""
    runs = [run(x=1.5, grid={'t': t, 'seed': seed}) for t in (100, 300) for seed in (0, 1)]
    assert judged(WITHIN, runs, least_places=2)['outcome'] == 'pass'
    told = judged(WITHIN, runs[:2], least_places=2)
    assert (told['outcome'], told['reason']) == ('not at this size', '1 of at least 2 places')


HAPPENS = {'kind': 'happens', 'at_ps': 'summary.at', 'may_fail_from_ps': 45.0}


def test_happens():
    """Seen is seen; not seen says something only of a run that was long enough."""
    assert judged(HAPPENS, [run(at=2.75)])['outcome'] == 'pass'
    assert judged(HAPPENS, [run(at=None)])['outcome'] == 'fail'
    told = judged({**HAPPENS, 'may_fail_from_ps': 60.0}, [run(at=None, grid={'t': 1}), run(at=3.0, grid={'t': 2})])
    assert (told['outcome'], told['ours']) == ('not at this size', 't 1: not in 50 ps; t 2: 3 ps')


def rising(values, errors=()):
    """Runs at two temperatures and two rates; with `errors`, two seeds that lie this far from the mean."""
    places = itertools.product((200, 400), ('1', '5'))
    for (t, rate), x in zip(places, values, strict=True):
        for seed, sign in enumerate((-1, 1) if errors else (0,)):
            yield run(x=x + sign * (errors or (0,))[0], grid={'t': t, 'rate': rate, 'seed': seed})


@pytest.mark.parametrize(
    ('values', 'errors', 'outcome', 'part_of_reason'),
    [
        ((10, 20, 15, 30), (), 'pass', 'one run each, no uncertainty'),
        ((10, 20, 15, 14), (), 'fail', 'falls: rate 5'),
        ((10, 20, 15, 21), (), 'not at this size', 'no change that can be told: rate 5'),
        ((10, 20, 15, 30), (0.5,), 'pass', 'rises everywhere'),
        ((10, 20, 15, 30), (4.0,), 'not at this size', 'no change that can be told: rate 1'),
        ((10, 20, 30, 10), (1.0,), 'fail', 'falls: rate 5'),
    ],
)
def test_rises_with_an_axis(values, errors, outcome, part_of_reason):
    judge = {'kind': 'rises', 'value': 'summary.x', 'axis': 't', 'least_change': 3.0}
    told = judged(judge, list(rising(values, errors)))
    assert told['outcome'] == outcome
    assert part_of_reason in told['reason']


@pytest.mark.parametrize(
    ('values', 'scatter', 'outcome', 'part_of_reason'),
    [
        # not only the ends count: a fall on the way is no rise
        ((10, 40, 15), 0.5, 'fail', 'falls: from 300 to 400'),
        ((40, 10, 45), 0.5, 'fail', 'falls: from 200 to 300'),
        ((10, 12, 30), 0.5, 'pass', 'rises everywhere; p '),
        # a step that falls by chance does not stop it
        ((10, 30, 29), 1.0, 'pass', 'rises everywhere; p '),
        ((10, 9, 14), 3.0, 'not at this size', 'no change that can be told'),
        ((30, 20, 10), 0.5, 'fail', 'falls: from 200 to 300, from 300 to 400'),
        # single values: what a least change of 3 makes of them
        ((10, 12, 16), 0.0, 'pass', 'one run each, no uncertainty'),
        ((10, 6, 16), 0.0, 'fail', 'falls: from 200 to 300'),
        ((10, 11, 12), 0.0, 'not at this size', 'no change'),
    ],
)
def test_a_trend_over_several_places(values, scatter, outcome, part_of_reason):
    seeds = (-1, 0, 1) if scatter else (0,)
    runs = [
        run(x=x + sign * scatter, grid={'t': t, 'seed': sign})
        for t, x in zip((200, 300, 400), values, strict=True)
        for sign in seeds
    ]
    told = judged({'kind': 'rises', 'value': 'summary.x', 'axis': 't', 'least_change': 3.0}, runs)
    assert told['outcome'] == outcome, told
    assert part_of_reason in told['reason']
    assert told['ours'].count('→') == 2


@pytest.mark.parametrize('slope', [0.0, 0.05, -0.05])
def test_a_trend_by_chance_is_as_rare_as_it_says(slope):
    """Straight lines with noise: what is told as rising without a rise is 2 % of all, and most true trends are told."""
    generator = np.random.default_rng(5)
    x, n = [100.0, 200.0, 300.0, 400.0], 3
    rises, changes = [], []
    for _ in range(2000):
        y = slope * np.array(x) + generator.normal(0.0, 3.0, (n, 4))
        trend = trend_of(x, y.mean(axis=0), y.std(axis=0, ddof=1) / n**0.5, [n] * 4)
        rises.append(trend.change > 0 and trend.p < P_BY_CHANCE)
        changes.append(trend.change)
    assert np.mean(changes) == pytest.approx(300 * slope, abs=0.2)
    assert np.mean(rises) == pytest.approx({0.0: P_BY_CHANCE, 0.05: 1.0, -0.05: 0.0}[slope], abs=0.01)


def test_a_trend_is_that_of_a_weighted_line():
    """Against scipy where all places count alike; three single values have one degree of freedom."""
    x, y = [1.0, 2.0, 4.0], [10.0, 14.0, 25.0]
    line, trend = stats.linregress(x, y), trend_of(x, y, [None] * 3, [1] * 3)
    assert trend.change == pytest.approx(3 * line.slope)
    assert trend.error == pytest.approx(3 * line.stderr)
    assert trend.p == pytest.approx(line.pvalue / 2)
    assert trend_of(x[:2], y[:2], [None] * 2, [1] * 2).p is None


def test_the_end_is_the_mean_of_the_last_frames():
    """With its spread as the uncertainty; a run of fewer frames, or without a surface, tells none."""
    end, spread = ({'path': 'summary.w', 'take': take, 'n_last': 3} for take in ('end', 'end_spread'))
    judge = {'kind': 'compared', 'value': end, 'error': spread, 'to': 'summary.w.0', 'high': 0.9}
    told = judged(judge, [run(w=[10.0, 9.0, 8.0, 6.0, 7.0])])
    assert (told['outcome'], told['value'], told['error']) == ('pass', pytest.approx(0.7), pytest.approx(0.1))
    assert 'no uncertainty' not in told['reason']
    for w in ([10.0, 9.0], [10.0, 9.0, None, 6.0]):
        told = judged(judge, [run(w=w)])
        assert (told['outcome'], told['reason']) == ('not run', 'a gave no summary.w')
    wide = judged({**judge, 'low': 0.6, 'high': 0.75}, [run(w=[10.0, 9.0, 8.0, 6.0, 7.0])])
    assert wide['outcome'] == 'not at this size'


def test_few_frames_say_nothing():
    tested = Run('test', 'a', 'test', {'domain': 'bulk'}, results={'summary': {'n_frames': 9, 'x': 1.5}})
    told = judged(WITHIN, [tested], least_frames=50)
    assert (told['outcome'], told['reason']) == ('not at this size', '9 frames, judged from 50 frames on')
    assert judged(WITHIN, [tested], least_frames=9)['outcome'] == 'pass'


def test_remarks_stand_beside_what_is_judged():
    check = {'title': 'T', 'source': 'S', 'parts': {'p': {'what': 'w', 'paper': '1', 'series': ['a'], 'judge': WITHIN}}}
    table = judge_checks({'c': Check.read(check)}, [run(x=1.5)], None, {'a': 'by hearsay', 'b': 'not this'})
    assert table['checks'][0]['reason'] == 'passes 1 to 2; one run, no uncertainty; by hearsay'


def test_a_trend_needs_two_places():
    told = judged({'kind': 'rises', 'value': 'summary.x', 'axis': 't'}, [run(x=1.0, grid={'t': 200})])
    assert (told['outcome'], told['reason']) == ('not run', 'one value of t only')


@pytest.mark.parametrize(
    ('y', 'outcome'),
    [
        ([3.0, 1.0, 2.0], 'pass'),
        ([3.0, 2.0, 2.5], 'pass'),
        ([2.0, 1.0, 3.0], 'fail'),
        ([[3.0, 3.1], [1.0, 1.1], [2.0, 2.1]], 'pass'),
        ([[3.0, 1.9], [1.0, 1.1], [2.0, 2.1]], 'not at this size'),
        ([[1.5, 1.6], [1.0, 1.1], [2.0, 2.1]], 'fail'),
        ([3.0, None, 2.0], 'not run'),
        ([3.0, 2.0], 'not run'),
    ],
)
def test_rises_along_a_list(y, outcome):
    """Angles come in any order; of a committee, every member has to agree."""
    judge = {'kind': 'rises', 'value': 'summary.y', 'along': 'summary.x'}
    assert judged(judge, [run(x=[270.0, 45.0, 90.0], y=y)])['outcome'] == outcome


DIP = {
    'kind': 'dips_and_recovers',
    'start': 'summary.start',
    'least': 'summary.least',
    'end': 'summary.end',
    'least_dip': 0.02,
    'reference': {'value': 'summary.end', 'series': ['perfect']},
    'recovers_to': 0.95,
}


@pytest.mark.parametrize(
    ('least', 'end', 'outcome', 'reason'),
    [
        (0.8, 0.93, 'pass', 'falls and comes back'),
        (0.8, 0.85, 'fail', 'does not come back'),
        (0.92, 0.93, 'fail', 'no dip'),
        # no more than the perfect crystal does
        (0.905, 0.94, 'fail', 'no dip'),
        # as the reference, but never lower: it went there and stayed
        (0.89, 0.912, 'fail', 'does not come back'),
    ],
)
def test_dips_and_recovers(least, end, outcome, reason):
    """The perfect crystal at the same temperature is the measure, not the cold start."""
    perfect = [run('perfect', least=x - 0.01, end=x, grid={'t': t}) for t, x in ((100, 1.0), (300, 0.96))]
    told = judged(DIP, [run(start=0.93, least=least, end=end, grid={'t': 300}), *perfect])
    assert told['outcome'] == outcome
    assert reason in told['reason']


def test_no_recovery_without_its_measure():
    told = judged(DIP, [run(start=0.93, least=0.8, end=0.93, grid={'t': 300})])
    assert told['outcome'] == 'not run'
    assert 'no run to hold t 300 against: perfect' in told['reason']


FORMS = {
    'kind': 'forms',
    'form': 'dendrites.0.form',
    'expected': [
        {'where': {'t': 200, 'rate': 0.5}, 'form': 'needle'},
        {'where': {'t': 400, 'rate': 5}, 'form': 'hemisphere'},
    ],
}


def dendrites(needles, hemispheres):
    return [
        Run(
            f'{t}{n}',
            'a',
            'deposit',
            {'t': t, 'rate': rate, 'seed': n},
            results={**SIZE, 'dendrites': {'0': {'form': form}}},
        )
        for t, rate, forms in ((200, '0.5', needles), (400, '5', hemispheres))
        for n, form in enumerate(forms)
    ]


def test_forms():
    """Most of three or more seeds; rates come back from a database as texts."""
    n, h, m = 'needle', 'hemisphere', 'mushroom'
    told = judged(FORMS, dendrites([n, n, m], [h, h, h]))
    assert told['outcome'] == 'pass'
    assert (
        told['ours'] == 't 200, rate 0.5: needle, needle, mushroom; t 400, rate 5: hemisphere, hemisphere, hemisphere'
    )
    told = judged(FORMS, dendrites([n, m, m], [h, h, h]))
    assert (told['outcome'], told['reason']) == ('fail', 't 200, rate 0.5: expected needle')
    assert judged(FORMS, dendrites([n, n], [h, h, h]))['outcome'] == 'not at this size'
    assert judged(FORMS, dendrites([n, None, None], [h, h, h]))['outcome'] == 'fail'
    assert judged(FORMS, dendrites([n, n, n], []))['outcome'] == 'not run'


def validation(**verdicts):
    rows = [
        {
            'property': name,
            'value': None if verdict == 'not measured' else 13.0,
            'spread': 0.5,
            'remark': 'it broke off',
            'passes_from': None if verdict in ('no limit', 'not measured') else 12.0,
            'passes_to': 14.0,
            'verdict': verdict,
        }
        for name, verdict in verdicts.items()
    ]
    return [Run('v', 'a', 'validate', results={'table': {'rows': rows}, 'structures': {'n_atoms': 250}})]


def test_properties():
    judge = {'kind': 'properties', 'names': ['C11_GPa', 'C12_GPa']}
    told = judged(judge, validation(C11_GPa='pass', C12_GPa='pass', other='fail'))
    assert (told['outcome'], told['ours']) == ('pass', 'C11_GPa 13 ± 0.5; C12_GPa 13 ± 0.5')
    assert judged(judge, validation(C11_GPa='pass', C12_GPa='fail'))['outcome'] == 'fail'
    told = judged(judge, validation(C11_GPa='pass', C12_GPa='not measured'))
    assert (told['outcome'], told['reason']) == ('not run', 'v measured no C12_GPa: it broke off')
    for other in ({'C12_GPa': 'no limit'}, {}):
        assert judged(judge, validation(C11_GPa='pass', **other))['outcome'] == 'not run'
    told = judged(judge, validation(C11_GPa='pass', C12_GPa='undecided'))
    assert (told['outcome'], told['reason']) == ('not at this size', '1 of 2 pass; C12_GPa is undecided: it broke off')
    value = {**WITHIN, 'value': 'table.rows[property=C12_GPa].value', 'low': 12.0, 'high': 14.0}
    assert judged(value, validation(C11_GPa='pass', C12_GPa='fail'))['value'] == 13.0


@pytest.mark.parametrize(
    ('within', 'reference', 'error', 'outcome'),
    [
        (0.15, {'value': 12.0}, None, 'pass'),
        (0.05, {'value': 12.0}, None, 'fail'),
        # a range of references is widened at both ends
        (0.05, {'low': 10.0, 'high': 12.5}, None, 'pass'),
        (0.05, {'low': 13.8, 'high': 15.0}, None, 'fail'),
        (0.15, {'value': 12.0}, 2.0, 'not at this size'),
        (0.15, None, None, 'not run'),
    ],
)
def test_properties_are_judged_by_the_share_that_is_named(within, reference, error, outcome):
    """Whatever the limits of the validation are."""
    for verdict in ('pass', 'fail'):
        (v,) = validation(C11_GPa=verdict)
        v.results['table']['rows'][0] |= {'pbe': reference, 'error': error, 'remark': ''}
        told = judged({'kind': 'properties', 'names': ['C11_GPa'], 'within': within}, [v])
        assert told['outcome'] == outcome
        assert told['limit'] == f'within {100 * within:g} % of PBE'


@pytest.mark.parametrize(
    ('verdicts', 'outcome'),
    [
        ({400.0: 'freezes', 520.0: 'melts'}, 'pass'),
        ({350.0: 'freezes', 400.0: 'freezes', 450.0: 'melts', 520.0: 'melts'}, 'pass'),
        ({400.0: 'melts', 520.0: 'melts'}, 'fail'),
        ({400.0: 'undecided', 520.0: 'melts'}, 'not at this size'),
        ({400.0: 'freezes', 520.0: None}, 'not at this size'),
        ({400.0: 'freezes', 450.0: 'melts'}, 'not run'),
    ],
)
def test_coexistence(verdicts, outcome):
    runs = [{'temperature_K': t, 'status': 'finished', **({'verdict': v} if v else {})} for t, v in verdicts.items()]
    judge = {'kind': 'coexistence', 'freezes_at_K': 400.0, 'melts_at_K': 520.0}
    melting = Run('m', 'a', 'melt', results={'summary': {'runs': runs, 'n_atoms': 2048}})
    assert judged(judge, [melting], least_atoms=2000)['outcome'] == outcome


def moving(**row):
    groups = {name: {'D_bound_m2_per_s': bound} for name, bound in (('surface', 4e-10), ('bulk', 1e-11))}
    rows = [{'asked_temperature_K': 450.0, 'status': 'finished', **groups, **row}]
    return [Run('d', 'a', 'diffuse', results={'summary': {'temperatures': rows}})]


@pytest.mark.parametrize(
    ('row', 'outcome', 'ours'),
    [
        ({'surface_over_bulk': 300.0}, 'pass', '450 K: 300'),
        ({'surface_over_bulk': 30.0}, 'fail', '450 K: 30'),
        ({'surface_over_bulk_at_least': 150.0}, 'pass', '450 K: at least 150, bulk below 1.0e-11 m²/s'),
        ({'surface_over_bulk_at_least': 15.0}, 'not at this size', '450 K: at least 15, bulk below 1.0e-11 m²/s'),
        ({}, 'not at this size', '450 K: below resolution: surface below 4.0e-10 m²/s, bulk below 1.0e-11 m²/s'),
        ({'surface': {}, 'status': 'failed'}, 'not at this size', '450 K: not measured (failed)'),
    ],
)
def test_faster(row, outcome, ours):
    """A bound passes if it is high enough, and fails nothing."""
    told = judged({'kind': 'faster', 'low': 100.0}, moving(**row))
    assert (told['outcome'], told['ours']) == (outcome, ours)


def test_ends_of_a_profile():
    """The mean of the highest nanometre by numbers of atoms, empty slices left out."""
    profile = {
        'T': [300.0, 310.0, 500.0, 700.0, None],
        'z': [2.0, 12.0, 22.0, 30.0, 40.0],
        'n': [9.0, 9.0, 3.0, 1.0, 0.0],
    }
    runs = run(**profile)
    names = {'path': 'summary.T', 'by': 'summary.z', 'weights': 'summary.n'}
    assert runs.find(Reading(take='top', **names)) == pytest.approx((3 * 500 + 700) / 4)
    assert runs.find(Reading(take='bottom', reach_A=1.0, **names)) == 300.0
    assert runs.find(Reading(path='summary.z', take='last')) == 40.0
    assert run(**{**profile, 'T': [None] * 5}).find(Reading(take='top', **names)) is None


def test_follow():
    """The longest name of an output that a path begins with; keys may hold dots in a selection."""
    results = {'a': {'b': 1}, 'a.b': {'c': [{'k': 'x.y', 'v': 2}]}}
    assert follow(results, 'a.b') == 1
    assert follow(results, 'a.b.c[k=x.y].v') == 2
    assert follow(results, 'a.b.c.0.v') == 2
    assert follow(results, 'a.b.c.-1.v') == 2
    for path in ('a.b.c.1.v', 'a.b.c.-2.v', 'a.b.c[k=z].v', 'a.x', 'b.c', 'a.b.c.0.v.w'):
        assert follow(results, path) is None


def test_a_check_passes_if_all_parts_do():
    """Of the others the worst: a part that fails, one that was not run, one that is too small."""
    part = {'what': 'w', 'paper': '1', 'series': ['a'], 'judge': WITHIN}
    parts = {
        'good': part,
        'bad': {**part, 'judge': {**WITHIN, 'high': 1.2}},
        'small': {**part, 'least_atoms': 9000},
        'absent': {**part, 'series': ['b']},
    }
    outcomes = {}
    for names in (['good'], ['good', 'small'], ['good', 'small', 'absent'], list(parts)):
        check = Check.read({'title': 'T', 'source': 'S', 'parts': {name: parts[name] for name in names}})
        table = judge_checks({'c': check}, [run(x=1.5)], {'b': 'nobody asked for b'})
        outcomes[len(names)] = table['checks'][0]['outcome']
    assert outcomes == {1: 'pass', 2: 'not at this size', 3: 'not run', 4: 'fail'}
    assert table['counts'] == {'pass': 0, 'fail': 1, 'not at this size': 0, 'not run': 0}
    assert set(table['part_counts'].values()) == {1}
    text = markdown(table)
    assert text.count('\n| ') == 5
    assert '**FAIL**' in text
    assert 'nobody asked for b' in text
    assert '4 parts: 1 pass, 1 fail, 1 not at this size, 1 not run' in text


@pytest.mark.parametrize(
    ('changes', 'parts'),
    [
        ({'judge': {'kind': 'guess'}}, ["'guess'", 'within', 'compared']),
        ({'judge': {'kind': 'within', 'value': 'a.b'}}, ['neither low nor high']),
        ({'judge': {**WITHIN, 'low': 3.0}}, ['low = 3.0 is above high = 2.0']),
        ({'judge': {'kind': 'rises', 'value': 'a.b'}}, ['axis = None, along = None']),
        ({'judge': {**WITHIN, 'value': {'path': 'a.b', 'take': 'top'}}}, ['by and weights']),
        ({'least_atoms': 0}, ['least_atoms', '0']),
        ({'paper': ''}, ['paper']),
        ({'words': 1}, ['words: no such setting']),
    ],
)
def test_checks_that_make_no_sense_are_refused(changes, parts):
    part = {'what': 'w', 'paper': '1', 'series': ['a'], 'judge': WITHIN, **changes}
    with pytest.raises(ValueError, match=r'c\.parts') as caught:
        read_checks({'c': {'title': 'T', 'source': 'S', 'parts': {'p': part}}, 'd': {}})
    for text in [*parts, 'd.title: missing']:
        assert text in str(caught.value)


def test_paths():
    """All that may be looked into, also in references and sizes; names of axes and series are none."""
    top = {'path': 'p.T', 'take': 'top', 'by': 'p.z', 'weights': 'p.n'}
    judges = {'d': DIP, 't': {**WITHIN, 'value': top}, 'r': {'kind': 'rises', 'value': 'q.x', 'axis': 'settings.t'}}
    parts = {name: {'what': 'w', 'paper': '1', 'series': ['a.b'], 'judge': one} for name, one in judges.items()}
    found = paths_of(read_checks({'c': {'title': 'T', 'source': 'S', 'parts': parts}}))
    assert {'summary.start', 'summary.least', 'summary.end', 'p.T', 'p.z', 'p.n', 'q.x', 'start.cell_nm'} <= found
    assert not {'settings.t', 'a.b', 'perfect'} & found
