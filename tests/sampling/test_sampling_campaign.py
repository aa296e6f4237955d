"""Campaigns as data: grids, stable names, what is refused, and what a run costs."""

import pytest
import yaml

from aiida_liheal.sampling.campaign import Cost, nested, points, read_campaign, slug

TEXT = """
title: dendrites
potential: dp
seed: 3
options: {queue_name: gpu}
series:
  tips:
    verb: deposit
    protocol: fast
    overrides: {crystal.size: [6, 4], settings: {duration_ps: 2.0}}
    grid:
      settings.temperature_K: [200, 300.5]
      rate:
        0.5: {settings: {rate_Li_per_ps: 0.5, speed_m_per_s: 500}}
        5: {settings.rate_Li_per_ps: 5, settings.speed_m_per_s: 5000}
      seed: [1, 2]
    figure: {x: rate, y: film_height_A, colour: settings.temperature_K}
"""


@pytest.fixture
def content():
    return yaml.safe_load(TEXT)


def test_grid(content):
    """Every combination once, the last axis fastest; values of an axis with names move together."""
    found = list(points(read_campaign(content)))
    assert len(found) == 2 * 2 * 2
    first, last = found[0], found[-1]
    assert first.name == 'tips_temperature_K_200_rate_0p5_seed_1'
    assert first.overrides == {
        'crystal': {'size': [6, 4]},
        'settings': {'duration_ps': 2.0, 'temperature_K': 200, 'rate_Li_per_ps': 0.5, 'speed_m_per_s': 500},
    }
    assert (first.seed, first.potential, first.protocol, first.verb) == (1, 'dp', 'fast', 'deposit')
    assert first.options == {'queue_name': 'gpu'}
    assert last.values == {'settings.temperature_K': 300.5, 'rate': 5.0, 'seed': 2}
    assert last.overrides['settings']['speed_m_per_s'] == 5000


def test_names_stay_when_the_grid_grows(content):
    before = {point.name: point for point in points(read_campaign(content))}
    content['series']['tips']['grid']['settings.temperature_K'].insert(0, 100)
    content['series']['more'] = {'verb': 'heal'}
    after = {point.name: point for point in points(read_campaign(content))}
    assert len(after) == 13
    assert {name: after[name] for name in before} == before
    assert after['more'].seed == 3


def test_potential_and_protocol_are_axes(content):
    content['series'] = {'x': {'verb': 'heal', 'grid': {'potential': ['dp', 'meam'], 'protocol': ['fast', 'paper']}}}
    found = [(point.potential, point.protocol) for point in points(read_campaign(content))]
    assert found == [('dp', 'fast'), ('dp', 'paper'), ('meam', 'fast'), ('meam', 'paper')]


@pytest.mark.parametrize(
    ('path', 'value', 'parts'),
    [
        ('title', None, ['title: missing']),
        ('series', None, ['series: missing']),
        ('series', [], ['series = []']),
        ('series', {}, ['series = {}', 'at least 1']),
        ('potential', None, ['series.tips.potential: missing', 'for the campaign']),
        ('max_at_once', 0, ['max_at_once = 0', 'greater than or equal to 1', 'under way at once']),
        ('colour', 'red', ['colour: no such setting', 'max_at_once']),
        ('series.Tips', {}, ['series.Tips', 'small letters']),
        ('series.tips', 7, ['series.tips: must be a mapping', '7']),
        ('series.tips.verb', None, ['series.tips.verb: missing', 'what is run']),
        ('series.tips.verbs', 'heal', ['series.tips.verbs: no such setting; known are', 'verb']),
        ('series.tips.runs_per_job', 0, ['runs_per_job = 0', 'greater than or equal to 1']),
        (
            'series.tips',
            {'verb': 'valley', 'runs_per_job': 3},
            [
                'series.tips.runs_per_job = 3: allowed for deposit and heal',
                "'valley' does each point in jobs",
            ],
        ),
        ('series.tips.seed', -1, ['series.tips.seed = -1', 'greater than or equal to 0']),
        ('series.tips.grid.seed', [1.5], ['grid.seed = [1.5]', 'whole numbers']),
        ('series.tips.grid.seed', [1, 1], ['1 is given twice']),
        ('series.tips.grid.seed', [], ['grid.seed: no value given']),
        ('series.tips.grid.seed', list(range(600)), ['2400 points', 'allowed are 2000']),
        ('series.tips.grid.potential', {'a': {}}, ['grid.potential: takes a list']),
        ('series.tips.grid.settings temperature', [1], ['no dotted path']),
        ('series.tips.grid.settings', [{'duration_ps': 1}], ['have no name']),
        ('series.tips.grid.rate', {'high': 5}, ['grid.rate.high = 5', 'by name']),
        ('series.tips.grid.settings@rate_Li_per_ps', [5], ['rate and settings.rate_Li_per_ps both change']),
        ('series.tips.figure', {'y': 'a', 'x': 'flux'}, ["figure.x = 'flux'", 'settings.temperature_K, rate, seed']),
        ('throughput', {'katom_step_per_s': -1, 'measured_on': 'x'}, ['throughput.katom_step_per_s = -1']),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_path(content, path, value, parts):
    *outer, last = path.split('.')
    place = content
    for part in outer:
        place = place[part]
    last = last.replace('@', '.')
    if value is None:
        del place[last]
    else:
        place[last] = value
    with pytest.raises(ValueError, match=r'\S') as caught:
        read_campaign(content)
    for part in parts:
        assert part in str(caught.value)


def test_all_faults_are_told_at_once(content):
    content |= {'max_at_once': 0, 'seed': -1}
    content['series'] |= {'other': {'verb': 'heal', 'seed': -2}, 'third': {}}
    with pytest.raises(ValueError, match=r'\S') as caught:
        read_campaign(content)
    paths = sorted(line.split(' ')[0].rstrip(':') for line in str(caught.value).splitlines())
    assert paths == ['max_at_once', 'seed', 'series.other.seed', 'series.third.verb']


def test_two_points_of_one_name_are_refused(content):
    content['series'] = {
        'a': {'verb': 'heal', 'grid': {'b.c': [1]}},
        'a_c': {'verb': 'heal', 'grid': {'': {'1': {}}}},
        'a_c_1': {'verb': 'heal'},
    }
    with pytest.raises(ValueError, match='two points are called a_c_1'):
        read_campaign(content)


def test_dotted_keys():
    assert nested({'a.b': 1, 'a': {'c.d': 2}, 'e': [3]}) == {'a': {'b': 1, 'c': {'d': 2}}, 'e': [3]}


@pytest.mark.parametrize(
    ('value', 'name'), [(0.5, '0p5'), (-1, 'm1'), (1e-7, '1em07'), ([6, 4], '6x4'), ('a  b', 'a_b'), (300.0, '300')]
)
def test_values_in_names(value, name):
    assert slug(value) == name


def test_cost_of_a_run_that_grows():
    """By counting the atoms of every step."""
    steps, every, inserted, start = 1000, 100, 10, 50
    counted = sum(start + min(inserted, (step - 1) // every + 1) for step in range(1, steps + 1))
    cost = Cost.of_run(start, steps, inserted, every)
    # an atom that comes at a step is there from the next one on
    assert cost.atom_steps == counted - inserted
    assert Cost.of_run(start, steps).atom_steps == 50_000
    assert (cost + Cost.of_run(60, 10)) == Cost(60, 1010, cost.atom_steps + 600)
    assert Cost.of_run(1000, 3_600_000).hours(100.0) == pytest.approx(10.0)
