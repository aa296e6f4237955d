"""What is said of the verbs that pack many runs into few jobs."""

import numpy as np
import pytest
from aiida.orm import CalcFunctionNode, CalcJobNode, Dict, WorkChainNode
from trees import arrays, give, process

from aiida_liheal.analysis.validation import Limit, PropertyReference, Quantity, ReferenceValue, judge
from aiida_liheal.report.facts import beyond_limits, conclusions, facts, with_error
from aiida_liheal.report.figures import look
from aiida_liheal.report.packed import packed_chapters
from aiida_liheal.report.tree import read_tree


def said(name, summary):
    node = process(WorkChainNode, name, f'liheal.{name.removesuffix("WorkChain").lower()}')
    return conclusions(read_tree(give(node, summary=Dict(summary).store())))


def test_valleys(aiida_profile_clean):
    summary = {'angles_deg': [135.0, 45.0, 90.0], 'removal_energy': {'mean_eV': [-1.5, -2.0, None]}}
    told = 'Energy of an atom in a valley, less that without it: -2.000 eV at 45°, -1.500 eV at 135°.'
    assert said('ValleyWorkChain', summary) == [told]


def test_diffusion(aiida_profile_clean):
    surface = {'is_resolved': True, 'D_m2_per_s': 1.23e-9, 'D_error_m2_per_s': 1e-10, 'D_bound_m2_per_s': None}
    bulk = {'is_resolved': False, 'D_m2_per_s': 1e-13, 'D_error_m2_per_s': 1e-12, 'D_bound_m2_per_s': 4e-12}
    rows = [
        {'asked_temperature_K': 300.0, 'status': 'finished', 'surface': surface, 'bulk': bulk},
        {'asked_temperature_K': 450.0, 'status': 'exploded'},
    ]
    assert said('DiffuseWorkChain', {'temperatures': rows}) == [
        'Diffusion at 300 K: surface (1.23 ± 0.10)·10⁻⁹ m²/s, bulk below 4e-12 m²/s.',
        'Diffusion at 450 K: exploded.',
    ]


@pytest.mark.parametrize(
    ('summary', 'told'),
    [
        (
            {'outcome': 'bracketed', 'melting_point_K': 455.0, 'half_width_K': 5.0},
            'Melting point: 455 ± 5 K (4096 atoms).',
        ),
        (
            {'outcome': 'not bracketed', 'low_K': None, 'high_K': 400.0},
            'Melting point: not bracketed, between ? and 400 K (4096 atoms).',
        ),
    ],
)
def test_melting(aiida_profile_clean, summary, told):
    assert said('MeltWorkChain', {**summary, 'n_atoms': 4096}) == [told]


def test_validation(aiida_profile_clean):
    """Verdict, limits and references stand beside each value; what was not measured says so."""
    one = Quantity('GPa', 12.345678, 0.5, 'by strain')
    lattice = PropertyReference(
        pbe=ReferenceValue(low=3.439, high=3.442, source='x'),
        experiment=ReferenceValue(value=3.49, error=0.003, source='y'),
        limit=Limit(against='pbe', absolute=0.01),
    )
    rows = judge(
        {'lattice_constant_A': Quantity('Å', 3.46), 'C11_GPa': one}, {'lattice_constant_A': lattice, 'x': lattice}
    )
    table = {'rows': rows, 'counts': {'pass': 0, 'fail': 1, 'no limit': 1, 'not measured': 1}}
    node = process(WorkChainNode, 'ValidateWorkChain', 'liheal.validate')
    tree = read_tree(give(node, table=Dict(table).store()))
    assert [(fact.name, fact.value, fact.remark) for fact in facts(tree)] == [
        ('lattice_constant_A', '3.46 Å', 'fail; limits 3.429 to 3.452; PBE 3.439 to 3.442; experiment 3.49 ± 0.003'),
        ('C11_GPa', '12.35 ± 0.5 GPa', 'by strain'),
        ('x', 'not measured', 'PBE 3.439 to 3.442; experiment 3.49 ± 0.003; not part of this verb'),
    ]
    assert conclusions(tree) == ['Validation: 0 of 1 limits kept; 1 value without a limit, 1 not measured.']


def figures_of(node):
    """The chapters of a page by their title, each a mapping of figures by theirs."""
    chapters = packed_chapters(read_tree(node))
    return {title: {figure.title: figure for figure in figures} for title, _, figures in chapters}


@pytest.fixture
def valley(aiida_profile_clean):
    angles = np.array([135.0, 45.0, 90.0])
    energies = np.array([[-1.4, -1.5], [-2.0, -2.0], [-1.8, -1.7]])
    rises = energies - energies[1]
    table = {'angle_deg': angles}
    for key in ('atom_energy', 'removal_energy'):
        table |= {f'{key}_eV': energies, f'{key}_rise_mean_eV': rises.mean(1), f'{key}_rise_spread_eV': rises.std(1)}
    told = {
        'mean_eV': energies.mean(1).tolist(),
        'rise_mean_eV': rises.mean(1).tolist(),
        'rise_spread_eV': rises.std(1).tolist(),
        'rank_correlation_with_angle': 1.0,
    }
    time = np.linspace(0, 2, 21)
    slide = {'reach_A': 1.755, 'reached_at_ps': 1.0, 'stays': True, 'start_A': 7.0, 'end_A': 0.5, 'duration_ps': 2.0}
    node = process(WorkChainNode, 'ValleyWorkChain', 'liheal.valley')
    summary = {'angles_deg': angles.tolist(), 'n_members': 2, 'removal_energy': told, 'not_relaxed_deg': [135.0]}
    return give(
        node,
        energies=arrays(**table).store(),
        summary=Dict(summary).store(),
        slide__course=arrays(time_ps=time, distance_A=7 - 3.25 * time, position_A=np.zeros((21, 3))).store(),
        slide__summary=Dict(slide).store(),
    )


def test_valley_figures(valley):
    """Rising angles with the spread of the committee as bars; the way down with the place it ends at."""
    figures = figures_of(valley)['Energy in valleys']
    by_angle = figures['Energy of an atom in a valley']
    for line in by_angle.plot.data:
        assert line.x.tolist() == [45, 90, 135]
        assert line.y == pytest.approx([0, 0.25, 0.55])
        assert line.error_y.array == pytest.approx([0, 0.05, 0.05])
    assert '45° (eV)' in by_angle.plot.layout.yaxis.title.text
    assert 'standard deviation over the 2 members' in by_angle.caption
    assert by_angle.csv.splitlines()[0].count('member') == 4
    slide = figures['Way of an atom down a slope'].plot
    assert {shape.y0 for shape in slide.layout.shapes} >= {1.755}
    assert {shape.x0 for shape in slide.layout.shapes} >= {1.0}
    found = {(fact.stage, fact.name): fact.value for fact in facts(read_tree(valley))}
    assert found['valley', 'energy at 135° above 45°'] == '0.550 ± 0.050 eV'
    assert found['valley', 'angles not relaxed'] == '135°'
    assert found['slide', 'bottom of the valley'] == 'reached at 1.00 ps; stayed'


@pytest.fixture
def diffuse(aiida_profile_clean):
    lag = np.linspace(0, 10, 101)
    far = {'is_resolved': True, 'D_m2_per_s': 2e-9, 'D_error_m2_per_s': 1e-10, 'D_bound_m2_per_s': None}
    near = {'is_resolved': False, 'D_m2_per_s': 1e-13, 'D_error_m2_per_s': 1e-12, 'D_bound_m2_per_s': 4e-12}
    counts = {'n_atoms': 72, 'n_moved': 9, 'length_ps': 10.0}
    rows = [
        {'asked_temperature_K': 300.0, 'temperature_K': 305.0, 'surface': near | counts, 'bulk': near | counts},
        {'asked_temperature_K': 450.0, 'temperature_K': 440.0, 'surface': far | counts, 'bulk': near | counts},
        {'asked_temperature_K': 600.0, 'status': 'exploded'},
    ]
    node = process(
        WorkChainNode,
        'DiffuseWorkChain',
        'liheal.diffuse',
        inputs={'analyse__settings': Dict({'mobility_fit': [0.1, 0.5]})},
    )
    mobility = {
        f'mobility__t{k:03d}': arrays(lag_ps=lag, msd_surface_A2=(k + 1) * lag, msd_bulk_A2=0.1 * lag).store()
        for k in range(2)
    }
    return give(node, summary=Dict({'temperatures': rows}).store(), **mobility)


def test_diffusion_figures(diffuse):
    """MSD on logarithmic axes with the lags of the fit; D with its error, or its bound with an arrow."""
    figures = figures_of(diffuse)['Diffusion']
    surface = figures['Mean square displacement: surface'].plot
    assert [line.name for line in surface.data] == ['300 K', '450 K']
    assert surface.layout.xaxis.type == surface.layout.yaxis.type == 'log'
    assert all((line.x > 0).all() for line in surface.data)
    assert (surface.layout.shapes[0].x0, surface.layout.shapes[0].x1) == (1.0, 5.0)
    marks = {mark.name: mark for mark in figures['Diffusion against temperature'].plot.data}
    assert marks['surface'].x.tolist() == [440.0]
    assert marks['surface'].error_y.array.tolist() == [1e-10]
    # open, with an arrow down from each
    assert marks['bulk:<br>at most'].marker.color == 'white'
    arrows = figures['Diffusion against temperature'].plot.layout.annotations
    bounds = [bound for name, mark in marks.items() if name.endswith('at most') for bound in mark.y]
    assert [10**arrow.y for arrow in arrows] == pytest.approx(bounds, rel=1e-9, abs=0)
    assert all(arrow.ay < 0 and arrow.yshift < arrow.ay for arrow in arrows)
    assert marks['bulk:<br>at most'].y.tolist() == [4e-12, 4e-12]
    assert 'bulk' not in marks
    fact = next(fact for fact in facts(read_tree(diffuse)) if fact.name == 'D of the surface, 450 K')
    assert (fact.value, fact.remark) == ('(2.00 ± 0.10)·10⁻⁹ m²/s', '9 of 72 atoms left their site in 10 ps')


def melt(history, outputs=('summary',)):
    settings = Dict({'melting_ps': 1.5, 'cooling_ps': 0.5})
    node = process(WorkChainNode, 'MeltWorkChain', 'liheal.melt', inputs={'settings': settings})
    time = np.linspace(0, 10, 11)
    courses = {
        f'run_{k:03d}_{what}': values
        for k in range(2)
        for what, values in (('time_ps', time), ('solid_share', np.linspace(0.5, k, 11)))
    }
    give(node, courses__r000=arrays(**courses).store())
    judged = process(CalcFunctionNode, 'judge_round', 'workchains.melt.judge_round', node)
    give(judged, history=Dict({key: history[key] for key in ('rounds', 'runs')}))
    return give(node, summary=Dict(history).store()) if 'summary' in outputs else node


HISTORY = {
    'rounds': 1,
    'runs': [
        {'round': 0, 'temperature_K': 500.0, 'seed': 1, 'status': 'finished', 'verdict': 'melts', 'end': 0.0},
        {'round': 0, 'temperature_K': 400.0, 'seed': 2, 'status': 'finished', 'verdict': 'freezes', 'end': 1.0},
        {'round': 0, 'temperature_K': 400.0, 'seed': 3, 'status': 'exploded', 'cause': 'lost'},
    ],
    'outcome': 'bracketed',
    'low_K': 400.0,
    'high_K': 500.0,
    'melting_point_K': 450.0,
    'half_width_K': 50.0,
    'n_atoms': 320,
    'is_large_enough_to_quote': False,
}


def test_melting_figures(aiida_profile_clean):
    """A line each run by its temperature; marks by verdict and the bracket shaded."""
    node = melt(HISTORY)
    figures = figures_of(node)['Melting point']
    shares = figures['Solid share'].plot
    assert [(line.name, line.y[-1]) for line in shares.data] == [('400 K', 1.0), ('500 K', 0.0)]
    assert {shape.x0 for shape in shares.layout.shapes} >= {2.0}
    search = figures['Search for the melting point']
    assert {mark.name: mark.x.tolist() for mark in search.plot.data} == {'freezes': [400.0], 'melts': [500.0]}
    band = search.plot.layout.shapes[0]
    assert (band.x0, band.x1) == (400.0, 500.0)
    assert 'did not come to an end: 400 K' in search.caption
    found = {fact.name: (fact.value, fact.remark) for fact in facts(read_tree(node))}
    assert found['runs'] == ('3', '1 round: 1 froze, 1 melted, 1 failed')
    assert found['bracket'] == ('400 to 500 K', '320 atoms; too small a crystal for a value to quote')
    assert found['melting point'][0] == '450 ± 50 K'


def test_melting_figures_of_a_search_that_goes_on(aiida_profile_clean):
    """Before there is a summary, what the rounds so far showed is drawn."""
    figures = figures_of(melt(HISTORY, outputs=()))['Melting point']
    assert set(figures) == {'Solid share', 'Search for the melting point'}
    assert 'No bracket yet' in figures['Search for the melting point'].caption


def test_many_temperatures_are_drawn_by_round(aiida_profile_clean):
    """More temperatures than can be told apart: a figure each round."""
    runs = [{**HISTORY['runs'][0], 'round': k % 2, 'temperature_K': 400.0 + k} for k in range(14)]
    figures = figures_of(melt({**HISTORY, 'runs': runs}))['Melting point']
    assert set(figures) == {'Solid share, round 1', 'Search for the melting point'}


@pytest.mark.parametrize(
    ('value', 'error', 'text'),
    [
        (1.234e-9, 1e-10, '(1.23 ± 0.10)·10⁻⁹'),
        (6.6e-10, 1.1e-10, '(6.6 ± 1.1)·10⁻¹⁰'),
        (3.2e-12, 1.5e-11, '(3 ± 15)·10⁻¹²'),
        (0.0, 0.5, '(0.00 ± 0.50)·10⁰'),
        (2.0, 0.0, '(2.00 ± 0.00)·10⁰'),
    ],
)
def test_numbers_with_errors(value, error, text):
    assert with_error(value, error) == text


def test_looks_differ():
    """Lines are told apart by dash and marker together, as far as anyone would draw them."""
    assert len({look(number) for number in range(36)}) == 36


@pytest.mark.parametrize(
    ('flags', 'value', 'told'),
    [
        ([], 'kept', None),
        (
            [{'limit': 'max_temperature_K', 'allowed': 800.0, 'step': 1200, 'value': 912.5, 'largest': 950.0}],
            '1 limit passed',
            'temperature 912.5 K at step 1200, 950 K at most; allowed 800 K',
        ),
        (
            [{'limit': 'max_lost_atoms', 'allowed': 0, 'step': 10, 'value': None, 'largest': None}],
            '1 limit passed',
            'atoms lost not a number at step 10; allowed 0',
        ),
    ],
)
def test_limits_in_words(aiida_profile_clean, flags, value, told):
    """What a job went beyond, in the table of numbers and above it."""
    node = process(CalcJobNode, 'LammpsCalculation', 'liheal.lammps')
    give(node, results=Dict({'kind': 'heal', 'runs': [{'status': 'finished', 'flags': flags}]}))
    tree = read_tree(node)
    assert beyond_limits(tree.root) == ([told] if told else [])
    (fact,) = facts(tree)
    assert (fact.value, fact.remark) == (value, told or 'by 1 job')
    assert any(said.startswith('Beyond its limits: 1 job') for said in conclusions(tree)) == bool(told)
