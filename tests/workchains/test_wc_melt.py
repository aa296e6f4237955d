"""The verb `melt`: its rounds, what it concludes and refuses, and a short search that is really run."""

import shutil

import numpy as np
import pytest
from aiida.engine import run_get_node
from aiida.orm import ArrayData, Dict, Int, to_aiida_type

from aiida_liheal.calculations.lammps import JobSettings, check_runs
from aiida_liheal.data.potential import committee_spec
from aiida_liheal.lammps.decks import render, validate
from aiida_liheal.structures.bcc import bcc_bulk
from aiida_liheal.workchains.melt import (
    MeltWorkChain,
    build_crystal_to_melt,
    conclude_search,
    judge_round,
    plan_round,
)

CRYSTAL = {'size': [3, 3, 10]}
SEARCH = {'temperatures_K': [400.0, 500.0], 'n_seeds': 2, 'width_K': 60.0, 'max_rounds': 3}
SETTINGS = {'melting_ps': 0.5, 'cooling_ps': 0.3, 'duration_ps': 10.0, 'thermo_every_ps': 0.1}
needs_lammps = pytest.mark.skipif(shutil.which('lmp') is None, reason='LAMMPS is not installed (extra `engines`)')


@pytest.fixture
def melting(codes, meam_potential):
    """Inputs of the verb, with changes to them."""

    def make(**changes):
        inputs = {
            'crystal': Dict(CRYSTAL),
            'search': Dict(SEARCH),
            'settings': Dict(SETTINGS),
            'seed': Int(3),
            'potentials': {'m0': meam_potential},
            'lammps': {'code': codes['lmp']},
        }
        return {**inputs, **{name: to_aiida_type(value) for name, value in changes.items()}}

    return make


def plan(history=None, **changes):
    given = {} if history is None else {'history': Dict(history)}
    return plan_round(Dict({**SEARCH, **changes}), Dict(CRYSTAL), Dict(SETTINGS), Int(3), **given).get_dict()


def verdicts(*pairs):
    return {'rounds': 1, 'runs': [{'temperature_K': t, 'verdict': v, 'seed': 1} for t, v in pairs]}


def test_rounds_of_runs(meam_potential):
    """The first round as asked, the next in between, a temperature again with other seeds."""
    first = plan()
    job = JobSettings.read(first)
    check_runs(job, build_crystal_to_melt(Dict(CRYSTAL)).get_frames(), committee_spec([meam_potential]))
    assert [run['temperature_K'] for run in job.runs] == [400.0, 400.0, 500.0, 500.0]
    assert [run['neighbour_cutoff_A'] for run in job.runs] == pytest.approx([1.13 * 3.51] * 4, abs=1e-4)
    second = plan(verdicts((400.0, 'freezes'), (500.0, 'melts')))
    assert [run['temperature_K'] for run in second['runs']] == [450.0, 450.0]
    seen = [(400.0, 'freezes'), (450.0, 'undecided'), (450.0, 'undecided'), (470.0, 'melts')]
    again = plan(verdicts(*seen), width_K=60.0)
    assert [run['temperature_K'] for run in again['runs']] == [450.0, 450.0]
    seeds = [run['seed'] for part in (first, second, again) for run in part['runs']]
    assert len(set(seeds)) == len(seeds)
    assert plan() == first


def test_deck_holds_one_half_while_the_other_melts(meam_potential):
    atoms = bcc_bulk(size=(3, 3, 10))
    settings = validate('melt', {**SETTINGS, 'temperature_K': 400.0, 'seed': 1})
    deck = render('melt', settings, atoms, committee_spec([meam_potential])).splitlines()
    marks = ('velocity all set 0 0 0', 'fix hold crystal setforce', 'run 500', 'run 800 upto', 'unfix hold')
    marks += (
        'if "$(step) == 800" then "velocity crystal create 800.0',
        'fix move all nph',
        'fix frozen all halt',
        'run 10000 upto',
    )
    places = [next(number for number, line in enumerate(deck) if line.startswith(mark)) for mark in marks]
    assert places == sorted(places)
    later = render('melt', settings, atoms, committee_spec([meam_potential]), restart_step=600).splitlines()
    assert 'run 800 upto start 500 stop 800' in later
    assert not any(line.startswith(('run 500', 'velocity', 'group')) for line in later)
    both = render('melt', settings, atoms, committee_spec([meam_potential]), restart_step=801)
    assert 'velocity' not in both
    assert 'setforce' not in both
    (region,) = [line.split() for line in deck if line.startswith('region below')]
    assert int((atoms.positions[:, 2] < float(region[8])).sum()) == len(atoms) // 2


def round_nodes(settings, courses):
    """Nodes of the job of a round, with a course of the solid share for each run; None for one that failed."""
    thermo = ArrayData()
    for number, course in enumerate(courses):
        if course is not None:
            thermo.set_array(f'run_{number:03d}_time_ps', np.linspace(0, 10, len(course)))
            thermo.set_array(f'run_{number:03d}_solid_share', np.asarray(course))
    runs = [{'status': 'finished'} if c is not None else {'status': 'exploded', 'cause': 'lost'} for c in courses]
    return {'settings_j000': Dict(settings), 'results_j000': Dict({'runs': runs}), 'thermo_j000': thermo}


def test_every_run_is_judged_and_the_search_concluded():
    up, down = np.linspace(0.5, 0.95, 100), np.linspace(0.5, 0.05, 100)
    first = judge_round(Dict(SEARCH), **round_nodes(plan(), [up, up, down, None]))
    history = first['history'].get_dict()
    assert [run.get('verdict') for run in history['runs']] == ['freezes', 'freezes', 'melts', None]
    assert 'lost' in history['runs'][3]['cause']
    assert first['courses'].get_array('run_002_solid_share')[-1] == pytest.approx(0.05)
    start = build_crystal_to_melt(Dict(CRYSTAL))
    wide = conclude_search(Dict(SEARCH), start, first['history']).get_dict()
    assert (wide['outcome'], wide['low_K'], wide['high_K']) == ('not bracketed', 400.0, 500.0)
    assert 'melting_point_K' not in wide
    nodes = round_nodes(plan(history), [up, up])
    second = judge_round(Dict(SEARCH), history=first['history'], **nodes)
    assert second['history']['rounds'] == 2
    assert [run['round'] for run in second['history']['runs']] == [0, 0, 0, 0, 1, 1]
    narrow = conclude_search(Dict(SEARCH), start, second['history']).get_dict()
    assert (narrow['outcome'], narrow['melting_point_K'], narrow['half_width_K']) == ('bracketed', 475.0, 25.0)
    assert (narrow['n_atoms'], narrow['is_large_enough_to_quote']) == (180, False)


@pytest.mark.parametrize(
    ('changes', 'parts'),
    [
        ({'search': {**SEARCH, 'temperatures_K': [400.0, 400.0]}}, ['temperatures_K', 'each once']),
        ({'search': {**SEARCH, 'width_K': 0.0}}, ['width_K = 0.0', 'K']),
        ({'search': {**SEARCH, 'temperatures_K': [1300.0]}}, ['melting_temperature_K = 1200.0 K', 'above']),
        ({'settings': {**SETTINGS, 'duration_ps': 0.7}}, ['duration_ps = 0.7 ps', 'longer than', 'ps']),
        ({'crystal': {'size': [3, 3, 4]}}, ['14.0 Å long along z', 'at least 31.7 Å']),
        ({'settings': {**SETTINGS, 'seed': 1}}, ['seed', 'leave it out']),
    ],
)
def test_refused_before_anything_is_run(melting, refusal, changes, parts):
    message = refusal(MeltWorkChain, **melting(**changes))
    for part in parts:
        assert part in message


@pytest.mark.parametrize('protocol', ['fast', 'balanced', 'paper'])
def test_protocols_fit_what_they_describe(codes, meam_potential, protocol):
    builder = MeltWorkChain.get_builder_from_protocol(codes, meam_potential, protocol=protocol)
    assert MeltWorkChain._validate_inputs(builder._inputs(prune=True), None) is None
    rows = {row[0]: row for row in MeltWorkChain.plan(builder)}
    assert rows['atoms'][1] == {'fast': '320', 'balanced': '2048', 'paper': '8064'}[protocol]
    assert ('to quote needs 4000' in rows['atoms'][2]) == (protocol != 'paper')


@pytest.mark.engine
@needs_lammps
def test_a_search_as_it_is(melting):
    """One round with MEAM, whose crystal melts at 1,000 K at once; at 20 K nothing does in this time."""
    search = {'temperatures_K': [20.0, 1000.0], 'width_K': 10.0, 'max_rounds': 1}
    settings = {**SETTINGS, 'duration_ps': 2.8}
    outputs, node = run_get_node(MeltWorkChain, **melting(search=search, settings=settings))
    assert node.exit_status == 510, node.exit_message
    assert '1 rounds' in node.exit_message
    cold, hot = outputs['summary']['runs']
    assert (cold['temperature_K'], hot['temperature_K']) == (20.0, 1000.0)
    assert hot['verdict'] == 'melts'
    assert cold['verdict'] != 'melts'
    assert outputs['summary']['high_K'] == 1000.0
    courses = outputs['courses']['r000']
    for number in range(2):
        share = courses.get_array(f'run_00{number}_solid_share')
        # a whole crystal at first, half of it when the upper half is molten
        assert share[0] == 1.0
        assert share[courses.get_array(f'run_00{number}_time_ps') <= 0.8][-1] == pytest.approx(0.5, abs=0.15)
    # the hot run ends where the crystal is gone
    assert courses.get_array('run_001_time_ps')[-1] <= 2.8
    assert courses.get_array('run_001_solid_share')[-1] < 0.1 or hot['by'] == 'drift'
