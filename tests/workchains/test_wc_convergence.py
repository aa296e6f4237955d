"""The verb `convergence`: what is planned, refused, run with a cheap calculator, and said of what fails."""

import sys

import numpy as np
import pytest
from aiida.engine import run_get_node
from aiida.orm import CalcJobNode, Dict, InstalledCode, Str
from ase.calculators.lj import LennardJones

from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines import engine
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.perturb import perturbed_bulk
from aiida_liheal.workchains.convergence import (
    ConvergenceWorkChain,
    choose_settings,
    default_frames,
    judge_points,
    judge_together,
    plan_points,
    planned,
)

LJ = {'calculator': 'lj', 'parameters': {'sigma': 2.7, 'epsilon': 0.1, 'rc': 6.0}}


@pytest.fixture
def code(aiida_localhost):
    return InstalledCode(label='ase', computer=aiida_localhost, filepath_executable=sys.executable).store()


@pytest.fixture
def scan(code):
    """A builder that scans the cut-off of a Lennard-Jones potential; call it with the values."""

    def make(values, settings=LJ, frames=None, **overrides):
        return ConvergenceWorkChain.get_builder_from_protocol(
            code,
            frames,
            'fast',
            {'scans': {'parameters': {'rc': values}}, 'label': {'ase': {'settings': settings}}, **overrides},
            engine='ase',
        )

    return make


def test_two_scans_by_a_cheap_calculator(scan):
    """Errors are those that the calculator has; the coarsest values that are good enough are tried together."""
    scans = {'parameters': {'rc': [6.0, 16.0, 24.0], 'sigma': [2.0, 2.7, 2.7011]}}
    outputs, node = run_get_node(
        scan([], scans=scans, tolerances={'energy_meV_per_atom': 8.0, 'force_meV_per_A': 10.0}, max_at_once=1)
    )
    assert node.is_finished_ok, node.exit_message
    table = outputs['table'].get_dict()
    scanned = table['scans']['parameters.rc']

    def energies(rc):
        told = []
        for atoms in default_frames().get_frames():
            atoms.calc = LennardJones(**{**LJ['parameters'], 'rc': rc})
            told.append(1000 * atoms.get_potential_energy() / len(atoms))
        return np.array(told)

    for row, rc in zip(scanned['rows'], scans['parameters']['rc'], strict=True):
        assert row['value'] == rc
        assert row['is_reference'] == (rc == 24.0)
        assert row['seconds_per_frame'] >= 0
        error = np.abs(energies(rc) - energies(24.0)).max()
        assert row['errors']['energy_meV_per_atom'] == pytest.approx(error, abs=1e-6)
        assert row['is_within'] == (error <= 8.0)
    names = {key: [row['point'] for row in one['rows']] for key, one in table['scans'].items()}
    # rc 6 with the sigma that is held, and sigma 2.7 with the rc that is held, are one
    assert names['parameters.rc'][0] == names['parameters.sigma'][1]
    chosen = {key: one['smallest'] for key, one in table['scans'].items()}
    assert chosen == {'parameters.rc': 16.0, 'parameters.sigma': 2.7}
    together = table['together']
    assert together['is_within']
    assert together['chosen'] == chosen
    assert together['finest'] == {'parameters.rc': 24.0, 'parameters.sigma': 2.7011}
    assert together['errors']['energy_meV_per_atom'] > 0
    assert outputs['settings']['parameters'] == {**LJ['parameters'], 'rc': 16.0}
    # settings of the points come from a calcfunction, each point is one job
    points = {
        c.base.links.get_incoming().first().link_label: c for c in node.called if c.process_label == 'LabelWorkChain'
    }
    assert sorted(points) == ['finest', 'p000', 'p001', 'p002', 'p003', 'p004', 'settings']
    # one after another (max_at_once), those that are tried together too
    ends = {name: child.called[0].mtime for name, child in points.items()}
    assert points['finest'].ctime > ends['settings']
    assert points['p003'].inputs.ase.settings.creator.process_label == 'plan_points'
    assert points['finest'].inputs.ase.settings.creator.process_label == 'choose_settings'
    assert all(sum(isinstance(node, CalcJobNode) for node in child.called) == 1 for child in points.values())


@pytest.mark.engine
def test_by_gpaw(codes):
    """Lithium at 200 eV is within a few meV/atom of 300 eV, and at 50 eV it is not."""
    frames = FramesData(default_frames().get_frames().select(np.array([0])), domain='bulk')
    builder = ConvergenceWorkChain.get_builder_from_protocol(
        codes['gpaw'],
        frames,
        'fast',
        {
            'scans': {'cutoff_eV': [50, 200, 300]},
            'label': {'gpaw': {'settings': {'kpoint_spacing_per_A': 0.5}}},
            'tolerances': {'energies': 'absolute', 'energy_meV_per_atom': 3.0},
        },
    )
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    (scan,) = outputs['table']['scans'].values()
    errors = [row['errors']['energy_meV_per_atom'] for row in scan['rows']]
    assert errors[0] > 30 > 3 > errors[1] > errors[2] == 0
    assert outputs['settings']['cutoff_eV'] == 200
    assert outputs['table']['largest_force_eV_per_A'] > 0.05


def test_no_value_but_the_finest(scan):
    _, node = run_get_node(scan([4.0, 5.0], tolerances={'energy_meV_per_atom': 0.01}))
    assert node.exit_status == 500
    assert 'parameters.rc' in node.exit_message
    assert 'finer values' in node.exit_message
    assert node.outputs.table['scans']['parameters.rc']['smallest'] is None
    assert 'settings' not in node.outputs


def test_points_that_fail_are_told(scan):
    """ASE knows no EMT for lithium: the reference is missing, and the table says why."""
    emt = {'calculator': 'emt', 'parameters': {}}
    builder = scan([], settings=emt, scans={'min_distance_A': [0.5, 0.4]})
    _, node = run_get_node(builder)
    assert node.exit_status == 330
    assert 'min_distance_A' in node.exit_message
    rows = node.outputs.table['scans']['min_distance_A']['rows']
    assert all('frame 0' in row['cause'] for row in rows)
    assert not node.outputs.table['scans']['min_distance_A']['has_reference']


@pytest.fixture
def judged():
    """The table of a scan over four values; call it with energies in eV/atom by point, None for one that failed."""

    def make(*energies, causes=None, n_lost=0):
        frames = default_frames()
        plan = plan_points(frames, Str('ase'), Dict(LJ), Dict({'parameters': {'rc': [4.0, 6.0, 8.0, 10.0]}}))
        labels = {}
        for number, energy in enumerate(energies):
            if energy is None:
                continue
            content = frames.get_frames()
            kept = np.arange(len(content) - (n_lost if number == 0 else 0))
            arrays = {**content.to_arrays(), 'energies': energy * content.counts, 'forces': np.zeros((4, 3))}
            part = Frames.from_arrays(arrays).select(kept)
            part.extra['source_index'] = kept
            labels[f'p{number:03d}_frames'] = FramesData(part)
            dropped = [{'index': 1, 'cause': 'not self-consistent'}][: n_lost if number == 0 else 0]
            labels[f'p{number:03d}_summary'] = Dict({'dropped': dropped, 'seconds_per_frame': 2.0})
        nodes = (frames, plan['plan'], Dict({}), Dict(causes or {}))
        return judge_points(*nodes, **labels), nodes

    return make


def test_a_frame_that_is_missing_is_not_within(judged):
    table, _ = judged(-1.9, -1.9, -1.9, -1.9, n_lost=1)
    rows = table['scans']['parameters.rc']['rows']
    assert rows[0]['cause'] == 'frame 1: not self-consistent'
    assert [row['is_within'] for row in rows] == [False, True, True, True]
    assert table['scans']['parameters.rc']['smallest'] == 6.0


def test_a_work_chain_that_failed_is_told_by_its_cause(judged):
    table, _ = judged(-1.9, None, -1.9, -1.9, causes={'p001': 'LabelWorkChain<7>: the queue is gone'})
    scan = table['scans']['parameters.rc']
    assert scan['rows'][1]['cause'] == 'LabelWorkChain<7>: the queue is gone'
    assert scan['smallest'] == 8.0


def test_together_without_a_reference(judged):
    table, nodes = judged(-1.9, -1.9, -1.9, -1.9)
    told = judge_together(nodes[0], table, Dict({'finest': 'killed'}))['together']
    assert told['cause'] == 'no reference: killed'
    assert not told['is_within']
    chosen = choose_settings(Dict(LJ), table)
    assert chosen['settings']['parameters']['rc'] == 4.0
    assert chosen['finest']['parameters']['rc'] == 10.0


@pytest.mark.parametrize('name', ['gpaw', 'vasp'])
def test_spacings_of_one_mesh_are_one_point(name):
    """Values are put in order, and a mesh is labelled once."""
    found = engine(name)
    frames = Frames.from_atoms(perturbed_bulk(2, seed=1, size=(1, 1, 1)))
    scans, points = planned(
        frames, found, {}, {'kpoint_spacing_per_A': [0.2, 0.5, 0.49, 0.3], 'cutoff_eV': [300, 50, 800]}
    )
    spacings = scans['kpoint_spacing_per_A']
    assert [row['value'] for row in spacings['rows']] == [0.5, 0.3, 0.2]
    assert spacings['rows'][0]['same'] == [0.49]
    assert all('x' in row['seen'] for row in spacings['rows'])
    assert spacings['held'] == {'cutoff_eV': found.settings.read({}).cutoff_eV}
    assert [row['value'] for row in scans['cutoff_eV']['rows']] == [50, 300, 800]
    assert len(points) == 6
    # what else decides how accurate labels are is told, also if it is not scanned
    alone, _ = planned(frames, found, {}, {'cutoff_eV': [50, 300]})
    held = alone['cutoff_eV']['held']
    assert held == {'kpoint_spacing_per_A': found.settings.read({}).kpoint_spacing_per_A}


@pytest.mark.parametrize('protocol', ['fast', 'balanced', 'paper'])
@pytest.mark.parametrize('name', ['gpaw', 'vasp'])
def test_scans_of_the_engines(name, protocol):
    """Each goes from coarse to fine over the paper's range of cut-offs, by values that the engine takes."""
    found = engine(name)
    frames = Frames.from_atoms(perturbed_bulk(1, seed=1, size=(1, 1, 1)))
    scans, points = planned(frames, found, found.protocol()['protocols'][protocol].get('settings', {}),
                            found.protocol()['scans'][protocol])  # fmt: skip
    assert set(scans) == set(found.accuracy)
    cutoffs = [row['value'] for row in scans['cutoff_eV']['rows']]
    assert cutoffs[0] == 50
    assert cutoffs[-1] == (600 if protocol == 'fast' else 800)
    assert points


@pytest.mark.parametrize(
    ('scans', 'message'),
    [
        ({}, 'no scans given'),
        ({'parameters.rc': [6.0]}, r'given 6; at least two values that differ'),
        ({'parameters.rc': [6.0, 6.0]}, 'at least two values that differ'),
        ({'parameters.rc': 6.0}, r'scans\.parameters\.rc = 6\.0; allowed is a list of numbers'),
        ({'parameters.rc': [6.0, 'far']}, "'far' is no number"),
        ({'parameters.rc': [6.0, float('nan')]}, 'nan is no number'),
        ({'rc': [6.0, 8.0]}, r'scans\.rc, value 6\.0: .*no such setting'),
        ({'calculator.rc': [6.0, 8.0]}, r"scans\.calculator\.rc, value 6\.0: calculator is 'lj' and has no settings"),
        ({'parameters.rc': [4.0, 6.0], 'parameters': {'rc': [8.0, 9.0]}}, r'scans\.parameters\.rc is given twice'),
    ],
)
def test_scans_that_are_refused(scans, message):
    frames = default_frames().get_frames()
    with pytest.raises(ValueError, match=message):
        planned(frames, engine('ase'), LJ, scans)


def test_one_mesh_only_is_refused():
    with pytest.raises(ValueError, match=r'given 0.5, 0.49, which all give the same labels; at least two'):
        planned(default_frames().get_frames(), engine('gpaw'), {}, {'kpoint_spacing_per_A': [0.5, 0.49]})


def test_inputs_that_are_refused(scan, refusal, code):
    """By the process too, whoever made its inputs."""
    builder = scan([4.0, 6.0])
    given = builder._inputs(prune=True)
    scans = Dict({'parameters': {'rc': [6.0]}})
    assert 'at least two values' in refusal(ConvergenceWorkChain, **{**given, 'scans': scans})
    told = refusal(ConvergenceWorkChain, **{**given, 'tolerances': Dict({'force_meV_per_A': 0.0})})
    assert 'force_meV_per_A = 0.0' in told
    one = FramesData(default_frames().get_frames().select(np.array([0])))
    assert 'a difference needs two' in refusal(ConvergenceWorkChain, **{**given, 'frames': one})
    with pytest.raises(ValueError, match='a difference needs two'):
        scan([4.0, 6.0], frames=one)
    with pytest.raises(ValueError, match=r'label\.max_alone cannot be given'):
        ConvergenceWorkChain.get_builder_from_protocol(code, overrides={'label': {'max_alone': 3}}, engine='ase')
    with pytest.raises(ValueError, match='settings of vasp are given, but the engine is ase'):
        scan([4.0, 6.0], label={'vasp': {'settings': {'cutoff_eV': 400}}})
    with pytest.raises(ValueError, match='unknown override scan'):
        scan([4.0, 6.0], scan={})
    with pytest.raises(ValueError, match=r'scans\.cutoff_eV, value 20: .*cutoff_eV = 20'):
        ConvergenceWorkChain.get_builder_from_protocol(code, overrides={'scans': {'cutoff_eV': [20, 300]}})
