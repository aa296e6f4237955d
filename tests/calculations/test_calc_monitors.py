"""The monitor of LAMMPS jobs: on kept outputs as if they were being written, and on a real run."""

import shutil
from pathlib import Path

import pytest
from aiida.engine import run_get_node
from aiida.engine.processes.calcjobs.monitors import CalcJobMonitors
from aiida.orm import Dict
from aiida.schedulers import JobState

from aiida_liheal.calculations import monitors
from aiida_liheal.calculations.lammps import LammpsCalculation
from aiida_liheal.calculations.monitors import check_limits, limits_monitor
from aiida_liheal.data.frames import FramesData
from aiida_liheal.lammps.limits import Limits
from aiida_liheal.structures.bcc import bcc_bulk, bcc_slab
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.md import MdWorkChain

RUNS = Path(__file__).parents[1] / 'lammps' / 'fixtures'
HEAL = {'duration_ps': 4.0, 'seed': 7}


@pytest.fixture
def look(ended_job, aiida_localhost, tmp_path):
    """Look at a kept run as at one that is running, with limits; maybe at its first lines only."""

    def make(case, lines=None, state=JobState.RUNNING, run='run_000', restart_steps=None, **limits):
        folder = tmp_path / run
        shutil.copytree(RUNS / case, folder, dirs_exist_ok=True)
        if lines is not None:
            rows = (folder / 'log.lammps').read_text().splitlines(keepends=True)
            (folder / 'log.lammps').write_text(''.join(rows[:lines]))
        start = bcc_slab('Li', 3.51, (4, 3), 6, 60)
        settings = {'duration_ps': 6.0, 'rate_Li_per_ps': 2.0, 'near_A': 2.5, 'fixed_below_A': 2.6325, 'seed': 7}
        inputs = {
            'structures': FramesData(Frames.from_atoms([start])),
            'settings': Dict({'kind': 'deposit', 'runs': [settings] * (int(run[-1]) + 1)}),
        }
        (tmp_path / 'run_000').mkdir(exist_ok=True)
        if restart_steps is not None:
            inputs['restart_steps'] = Dict(restart_steps)
        node = ended_job('liheal.lammps', inputs)
        node.set_remote_workdir(str(tmp_path))
        node.set_scheduler_state(state)
        with aiida_localhost.get_transport() as transport:
            return check_limits(node, transport, **limits)

    return make


def test_a_run_beyond_its_temperature_is_stopped(look):
    result = look('deposit_cut', max_temperature_K=100.0)
    assert 'max_temperature_K' in result.message
    # the parser tells what became of it, in its own words and by its own exit code
    assert not result.override_exit_code
    assert look('deposit_cut', max_temperature_K=5000.0) is None


def test_each_run_of_a_job_is_looked_at(look):
    """It says which; runs that the job does not do are none of its business."""
    assert look('deposit_cut', run='run_001', max_temperature_K=100.0).message.startswith('run_001: max_temperature_K')
    assert look('deposit_cut', run='run_001', restart_steps={'run_000': None}, max_temperature_K=100.0) is None


def test_only_the_last_lines_are_looked_at(look, monkeypatch):
    """Far below the names of the columns, which are found nonetheless."""
    monkeypatch.setattr(monitors, 'TAIL', 2)
    step = int(look('deposit_cut', max_temperature_K=100.0).message.split('at step ')[1].split(',')[0])
    assert step > 500


def test_lost_atoms_are_found(look):
    lines = (RUNS / 'deposit_lost' / 'log.lammps').read_text().splitlines()
    running = next(number for number, line in enumerate(lines) if line.startswith('Loop time'))
    assert 'max_lost_atoms' in look('deposit_lost', lines=running, max_lost_atoms=0).message
    assert look('deposit_lost', lines=running, max_lost_atoms=100) is None


def test_deviations_are_found(look):
    lines = (RUNS / 'explore_exploded' / 'log.lammps').read_text().splitlines()
    running = next(number for number, line in enumerate(lines) if line.startswith('Loop time'))
    assert 'eV/Å at step' in look('explore_exploded', lines=running, max_deviation_eV_per_A=1.0).message
    assert look('explore_exploded', lines=running, max_deviation_eV_per_A=1e9) is None


def test_what_has_ended_is_left_alone(look):
    """AiiDA's direct scheduler cannot kill what is not there, and would pause the job."""
    assert look('deposit_whole', max_temperature_K=100.0) is None
    assert look('heal_exploded', max_temperature_K=1.0) is None
    assert look('deposit_cut', max_temperature_K=100.0, state=JobState.DONE) is None


def test_flagged_runs_are_left_alone(look):
    assert look('deposit_cut', max_temperature_K=100.0, action='flag') is None


def test_before_anything_is_written(look):
    assert look('deposit_cut', lines=0, max_temperature_K=100.0, max_lost_atoms=0, max_deviation_eV_per_A=0.1) is None


def test_aiida_takes_the_monitor():
    """By its entry point, with its keywords and their values."""
    limits = Limits(max_temperature_K=900.0, action='flag')
    loaded = CalcJobMonitors({'limits': limits_monitor(limits)}).monitors['limits']
    assert loaded.load_entry_point() is check_limits
    assert Limits(**loaded.kwargs) == limits
    assert set(Limits.model_fields) <= set(check_limits.__code__.co_varnames[: check_limits.__code__.co_argcount])


@pytest.fixture
def heal(codes, meam_potential):
    """Inputs of a job that lets a crystal be, with limits as they are given."""

    def make(n_runs=1, limits=None, **changes):
        return {
            'code': codes['lmp'],
            'structures': FramesData(Frames.from_atoms([bcc_bulk(size=(2, 2, 2))])),
            'potentials': {'m0': meam_potential},
            'settings': Dict({'kind': 'heal', 'runs': [{**HEAL, **changes}] * n_runs}),
            'monitors': {'limits': Dict({'entry_point': 'liheal.limits', 'kwargs': limits})},
        }

    return make


@pytest.mark.parametrize(
    ('limits', 'n_runs', 'parts'),
    [
        ({}, 1, ['no limit given']),
        ({'max_temperature_K': 200.0}, 1, ['max_temperature_K = 200.0 K', 'temperature_K = 300.0 K']),
        ({'max_temperature_K': '2000; ls'}, 1, ["max_temperature_K = '2000; ls'", 'a valid number']),
        ({'max_deviation_eV_per_A': 0.2}, 1, ['needs a committee']),
        ({'max_temperature': 2000.0}, 1, ['max_temperature']),
    ],
)
def test_limits_that_make_no_sense_are_refused(refusal, heal, limits, n_runs, parts):
    message = refusal(LammpsCalculation, **heal(n_runs, limits))
    for part in parts:
        assert part in message


@pytest.mark.engine
@pytest.mark.skipif(shutil.which('lmp') is None, reason='lmp is not installed')
def test_a_real_run_is_stopped_and_not_begun_again(heal):
    """Hot from the start, to run for hours: ended within seconds by the limit, with what it did until then."""
    inputs = heal(
        duration_ps=50_000.0,
        start_temperature_K=900.0,
        temperature_K=900.0,
        timestep_fs=0.5,
        thermo_every_ps=0.01,
        restart_every_ps=1.0,
        limits={'max_temperature_K': 901.0},
    )
    results, node = run_get_node(MdWorkChain, lammps=inputs)
    assert node.exit_status == LammpsCalculation.exit_codes.ERROR_BEYOND_LIMIT.status
    (job,) = [child for child in node.called if child.process_class is LammpsCalculation]
    assert 'max_temperature_K' in job.exit_message
    (flag,) = results['flags']['run_000']
    record = results['results']['runs'][0]
    assert record['status'] == 'stopped'
    assert record['flags'] == [flag]
    assert 0 <= flag['step'] <= record['last_step'] < record['n_steps']
    temperature = results['thermo'].get_array('run_000_temperature_K')
    assert (temperature[results['thermo'].get_array('run_000_step') < flag['step']] <= 901.0).all()
    assert f'{flag["value"]:.6g} K at step {flag["step"]}' in node.exit_message
    assert list(results['trajectories']['run_000']) == ['s000']
