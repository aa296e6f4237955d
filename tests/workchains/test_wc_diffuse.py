"""The verb `diffuse`: its runs, its table, what it refuses, and a short one that is really run."""

import shutil

import numpy as np
import pytest
from aiida.engine import run_get_node
from aiida.orm import ArrayData, Dict, Int, List, Str, to_aiida_type

from aiida_liheal.calculations.lammps import JobSettings, check_runs
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import committee_spec
from aiida_liheal.lammps.decks import render, validate
from aiida_liheal.structures.bcc import SlabSettings, bcc_bulk
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.diffuse import DiffuseWorkChain, plan_diffusion, tabulate_diffusion
from aiida_liheal.workchains.start import build_crystal, start_of

SLAB = {'size': [3, 3], 'n_layers': 8, 'n_fixed_layers': 2, 'height_above_A': 12.0}
SETTINGS = {
    'equilibration_ps': 0.4,
    'duration_ps': 1.6,
    'dump_every_ps': 0.1,
    'fixed_below_A': SlabSettings.read(SLAB).fixed_below_A,
}
needs_lammps = pytest.mark.skipif(shutil.which('lmp') is None, reason='LAMMPS is not installed (extra `engines`)')


@pytest.fixture
def diffusion(codes, meam_potential):
    """Inputs of the verb, with changes to them; None leaves one out."""

    def make(**changes):
        inputs = {
            'crystal': Dict(SLAB),
            'temperatures_K': List([300.0, 400.0]),
            'settings': Dict(SETTINGS),
            'seed': Int(3),
            'potentials': {'m0': meam_potential},
            'lammps': {'code': codes['lmp']},
            'analyse': {'code': codes['python']},
            **{name: to_aiida_type(value) for name, value in changes.items() if value is not None},
        }
        return {name: value for name, value in inputs.items() if not (name in changes and changes[name] is None)}

    return make


def test_a_run_for_each_temperature(meam_potential):
    plan = plan_diffusion(List([50.0, 450.0]), Dict(SETTINGS), Int(3)).get_dict()
    job = JobSettings.read(plan)
    check_runs(job, build_crystal(Str('diffuse'), Dict(SLAB)).get_frames(), committee_spec([meam_potential]))
    assert [run['temperature_K'] for run in job.runs] == [50.0, 450.0]
    assert len({run['seed'] for run in job.runs}) == 2


def test_the_thermostat_goes_after_the_equilibration(meam_potential):
    """A run that goes on within the equilibration has its thermostat again, a later one has none."""
    atoms = SlabSettings.read(SLAB).build()
    settings = validate('diffuse', {**SETTINGS, 'temperature_K': 200.0, 'seed': 1})
    spec = committee_spec([meam_potential])
    deck = render('diffuse', settings, atoms, spec).splitlines()
    marks = ('fix thermostat', 'dump traj', 'run 400 upto', 'unfix thermostat', 'run 1600 upto')
    order = [next(number for number, line in enumerate(deck) if line.startswith(mark)) for mark in marks]
    assert order == sorted(order)
    assert 'velocity mobile create 400.0' in '\n'.join(deck)
    early = render('diffuse', settings, atoms, spec, restart_step=399)
    assert 'run 400 upto' in early
    assert 'velocity' not in early
    late = render('diffuse', settings, atoms, spec, restart_step=400)
    assert 'fix thermostat' not in late
    assert late.count('run 1600 upto') == 1
    # without fixed atoms everything moves, in a crystal without walls
    whole = validate('diffuse', {**SETTINGS, 'fixed_below_A': None, 'seed': 1})
    free = render('diffuse', whole, bcc_bulk(size=(3, 3, 3)), spec)
    assert 'fix move all nve' in free
    assert 'wall/reflect' not in free


def group(d, error, resolved, bound=None):
    return {
        'n_atoms': 9,
        'n_moved': 2,
        'D_m2_per_s': d,
        'D_error_m2_per_s': error,
        'is_resolved': resolved,
        'D_bound_m2_per_s': bound,
    }


def test_table_says_what_is_resolved():
    thermo = ArrayData()
    for number, temperature in enumerate((310.0, 410.0)):
        thermo.set_array(f'run_00{number}_time_ps', np.array([0.0, 0.4, 0.8]))
        thermo.set_array(f'run_00{number}_mobile_temperature_K', np.array([900.0, temperature - 5, temperature + 5]))
    settings = plan_diffusion(List([300.0, 400.0, 500.0]), Dict(SETTINGS), Int(3)).get_dict()
    nodes = {
        'settings_j000': Dict(settings),
        'results_j000': Dict({'runs': [{'status': 'finished'}, {'status': 'finished'}, {'status': 'exploded'}]}),
        'thermo_j000': thermo,
        'summary_t000': Dict(
            {'mobility': {'surface': group(2e-9, 1e-10, True), 'bulk': group(0.0, 0.0, False, 1e-11)}}
        ),
        'summary_t001': Dict({'mobility': {'surface': group(4e-9, 1e-10, True), 'bulk': group(1e-9, 1e-10, True)}}),
    }
    told = tabulate_diffusion(**nodes)
    rows = told['summary']['temperatures']
    # the temperature is that of the time without a thermostat
    assert [row.get('temperature_K') for row in rows] == [310.0, 410.0, None]
    assert rows[0]['surface_over_bulk_at_least'] == pytest.approx(200)
    assert rows[1]['surface_over_bulk'] == pytest.approx(4)
    assert rows[2] == {'asked_temperature_K': 500.0, 'status': 'exploded'}
    diffusion = told['diffusion']
    assert diffusion.get_array('surface_D_m2_per_s')[:2].tolist() == [2e-9, 4e-9]
    assert np.isnan(diffusion.get_array('bulk_D_bound_m2_per_s')).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ('changes', 'parts'),
    [
        ({'temperatures_K': []}, ['temperatures_K = []', 'at least one temperature in K']),
        ({'temperatures_K': [0.0]}, ['temperature_K = 0.0', 'K']),
        ({'settings': {**SETTINGS, 'dump_every_ps': 0.5}}, ['leaves 2 frames', 'at least 10', 'ps']),
        ({'settings': {**SETTINGS, 'fixed_below_A': 1000.0}}, ['fixes 72 of 72 atoms', 'Å']),
        ({'settings': {**SETTINGS, 'temperature_K': 300.0}}, ['temperature_K', 'leave it out']),
        ({'crystal': None}, ['neither crystal nor structure', 'exactly one']),
        ({'crystal': {**SLAB, 'shape': 'ball'}}, ["shape = 'ball'", 'slab']),
    ],
)
def test_refused_before_anything_is_run(diffusion, refusal, changes, parts):
    message = refusal(DiffuseWorkChain, **diffusion(**changes))
    for part in parts:
        assert part in message


@pytest.mark.parametrize('protocol', ['fast', 'balanced', 'paper'])
def test_protocols_fit_what_they_describe(codes, meam_potential, protocol):
    builder = DiffuseWorkChain.get_builder_from_protocol(codes, meam_potential, protocol=protocol)
    assert DiffuseWorkChain._validate_inputs(builder._inputs(prune=True), None) is None
    rows = {row[0]: row[1] for row in DiffuseWorkChain.plan(builder)}
    assert rows['runs'] == {'fast': '2', 'balanced': '4', 'paper': '9'}[protocol]
    assert rows['atoms'] == {'fast': '360', 'balanced': '1800', 'paper': '14112'}[protocol]
    analysis = builder.analyse.settings.get_dict()
    assert analysis['mobility_from_ps'] == builder.settings['equilibration_ps']
    assert analysis['fixed_below_A'] == builder.settings['fixed_below_A']


def test_exactly_one_start(diffusion, refusal):
    given = FramesData(Frames.from_atoms([SlabSettings.read(SLAB).build()]))
    both = {**diffusion(), 'structure': given}
    assert 'crystal and structure given; needed is exactly one' in refusal(DiffuseWorkChain, **both)
    without = diffusion(crystal=None)
    empty = FramesData(given.get_frames().select([]))
    assert 'the shard holds no frames' in refusal(DiffuseWorkChain, **without, structure=empty)
    assert len(start_of('diffuse', {**without, 'structure': given})) == 72


def test_another_shape_than_that_of_the_protocol(codes, meam_potential):
    """What the protocol says of a slab is left out; what a person says of it is refused."""
    crystal = {'shape': 'void', 'size': [6, 6, 6], 'void_size': [2, 2, 2]}
    builder = DiffuseWorkChain.get_builder_from_protocol(codes, meam_potential, overrides={'crystal': crystal})
    assert DiffuseWorkChain._validate_inputs(builder._inputs(prune=True), None) is None
    assert 'n_layers' not in builder.crystal.get_dict()
    with pytest.raises(ValueError, match='n_layers: no such setting'):
        DiffuseWorkChain.get_builder_from_protocol(
            codes, meam_potential, overrides={'crystal': {**crystal, 'n_layers': 3}}
        )


@pytest.mark.engine
@needs_lammps
def test_two_temperatures_as_they_are(codes, meam_potential):
    """A real job of two runs with MEAM, each analysed beside its trajectory: energy is kept, groups are right."""
    overrides = {
        'crystal': SLAB,
        # the surface relaxes and gives off heat, which a short equilibration has to take
        'settings': {**SETTINGS, 'thermo_every_ps': 0.05, 'damping_ps': 0.05},
        'temperatures_K': [100.0, 300.0],
    }
    builder = DiffuseWorkChain.get_builder_from_protocol(codes, meam_potential, protocol='fast', overrides=overrides)
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    rows = outputs['summary']['temperatures']
    assert [row['temperature_K'] for row in rows] == pytest.approx([100, 300], abs=70)
    for row in rows:
        # two of eight layers are fixed, the two upper ones lack neighbours
        assert (row['surface']['n_atoms'], row['bulk']['n_atoms']) == (18, 36)
        assert row['surface']['dimensions'] == 2
        assert row['bulk']['length_ps'] == pytest.approx(1.2)
    msd = outputs['mobility']['t001'].get_array('msd_bulk_A2')
    assert msd[0] == 0
    assert 0 < msd[-1] < 3
    job = next(child for child in node.called_descendants if child.process_label == 'LammpsCalculation')
    time = job.outputs.thermo.get_array('run_001_time_ps')
    energy = job.outputs.thermo.get_array('run_001_total_energy_eV')[time > 0.41]
    assert np.ptp(energy) < 0.02 * 72 * 0.026
