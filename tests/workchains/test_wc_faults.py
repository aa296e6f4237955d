"""Runs in trouble: stopped beyond a limit, flagged in one of their jobs, broken off by a full disk."""

import shutil
from pathlib import Path

import pytest
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.orm import Dict, RemoteData

from aiida_liheal.calculations.lammps import LammpsCalculation, read_limits
from aiida_liheal.data.frames import FramesData
from aiida_liheal.lammps.limits import Limits
from aiida_liheal.structures.bcc import bcc_slab
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.deposit import DepositWorkChain
from aiida_liheal.workchains.heal import HealWorkChain
from aiida_liheal.workchains.md import MdWorkChain

FULL = Path(__file__).parents[1] / 'parsers' / 'fixtures' / 'lammps' / 'disk_full_restart'
JOB = LammpsCalculation.exit_codes
STATUS = {
    None: 'finished',
    JOB.ERROR_WALLTIME: 'walltime',
    JOB.ERROR_BEYOND_LIMIT: 'stopped',
    JOB.ERROR_NO_SPACE: 'no_space',
}
#: The run of which `FULL` is the first part.
DEPOSIT = {
    'duration_ps': 6.0,
    'rate_Li_per_ps': 2.0,
    'near_A': 2.5,
    'fixed_below_A': 2.6325,
    'dump_every_ps': 6.0,
    'restart_every_ps': 0.5,
    'seed': 7,
}


@pytest.fixture
def deposition(codes, meam_potential):
    return {
        'code': codes['lmp'],
        'structures': FramesData(Frames.from_atoms([bcc_slab('Li', 3.51, (4, 3), 6, 60)])),
        'potentials': {'m0': meam_potential},
        'settings': Dict({'kind': 'deposit', 'runs': [DEPOSIT]}),
    }


@pytest.fixture
def ended(ended_job, deposition, tmp_path, aiida_localhost):
    """Let the jobs of a run end one after another, with these exit codes and flags: the process and the last result."""

    def make(*jobs):
        process = instantiate_process(get_manager().get_runner(), MdWorkChain, lammps=deposition)
        process.setup()
        process.ctx.children = []
        for number, (code, flags) in enumerate(jobs, 1):
            folder = tmp_path / f'job{number}' / 'run_000'
            folder.mkdir(parents=True)
            (folder / f'restart.{500 * number}').touch()
            (folder / 'traj.dump').touch()
            outputs = {
                'remote_folder': RemoteData(remote_path=str(folder.parent), computer=aiida_localhost),
                'results': Dict(
                    {'runs': [{'status': STATUS[code], **({'flags': flags} if flags is not None else {})}]}
                ),
            }
            process.ctx.children.append(ended_job('liheal.lammps', {}, outputs, code.status if code else 0))
            process.ctx.iteration = number
            process.node.base.extras.set(process._considered_handlers_extra, [[] for _ in range(number)])
            process.note_outputs()
            process.look()
            result = process.inspect_process()
        return process, result

    return make


@pytest.mark.parametrize('code', ['ERROR_BEYOND_LIMIT', 'ERROR_NO_SPACE'])
def test_what_another_job_would_not_mend_is_not_begun_again(ended, code):
    """It ends in the words of its job, with what that gave."""
    flag = {'limit': 'max_temperature_K', 'step': 300}
    process, result = ended((JOB.ERROR_WALLTIME, []), (JOB[code], [flag]))
    assert result.status == JOB[code].status
    assert 'told by a test' in result.message
    assert process.outputs['results']['runs'][0]['flags'] == [flag]
    assert process.outputs['flags'].get_dict() == {'run_000': [flag]}
    assert sorted(process.outputs['trajectories']['run_000']) == ['s000', 's001']


def test_flags_of_every_job_are_kept(ended):
    """The results of a run are those of its last job; what the others passed is not lost with theirs."""
    first, second = {'limit': 'max_temperature_K', 'step': 300}, {'limit': 'max_lost_atoms', 'step': 1200}
    process, result = ended((JOB.ERROR_WALLTIME, [first]), (JOB.ERROR_WALLTIME, []), (None, [second]))
    assert result is None
    process._attach()
    assert process.outputs['flags'].get_dict() == {'run_000': [first, second]}


def test_no_flags_no_output(ended):
    process, _ = ended((JOB.ERROR_WALLTIME, []), (None, None))
    process._attach()
    assert 'flags' not in process.outputs


@pytest.mark.parametrize('verb', [DepositWorkChain, HealWorkChain])
def test_protocols_hold_a_run_to_limits(verb, codes, meam_potential, refusal):
    def builder(**overrides):
        return verb.get_builder_from_protocol(codes, meam_potential, protocol='fast', overrides=overrides)

    assert read_limits(builder().lammps.monitors) == Limits(max_temperature_K=2000.0)
    flagged = builder(limits={'max_lost_atoms': 3, 'action': 'flag'})
    assert read_limits(flagged.lammps.monitors).action == 'flag'
    assert not builder(limits=None).lammps.monitors
    with pytest.raises(ValueError, match='max_temperature_K = -5'):
        builder(limits={'max_temperature_K': -5})
    hot = builder(limits={'max_temperature_K': 300.0})
    assert 'max_temperature_K = 300.0 K: must be above temperature_K = 300.0 K' in refusal(
        verb, **hot._inputs(prune=True)
    )
    alone = builder(limits={'max_deviation_eV_per_A': 0.5})
    assert 'needs a committee' in refusal(verb, **alone._inputs(prune=True))


@pytest.mark.engine
@pytest.mark.skipif(shutil.which('lmp') is None, reason='lmp is not installed')
def test_after_a_full_disk_the_last_good_restart_file_is_found(deposition, tmp_path, aiida_localhost):
    """The newest one was cut off by the full disk: the one before it is taken, and no atom is lost or comes twice."""
    shutil.copytree(FULL, tmp_path / 'full')
    earlier = RemoteData(remote_path=str(tmp_path / 'full' / 'run_000'), computer=aiida_localhost).store()
    results, node = run_get_node(MdWorkChain, lammps=deposition, earlier={'run_000': {'s000': earlier}})
    assert node.is_finished_ok, node.exit_message
    jobs = [child for child in node.called if child.process_class is LammpsCalculation]
    assert [(job.inputs.restart_steps['run_000'], job.exit_status) for job in jobs] == [
        (3000, JOB.ERROR_RESTART_UNREADABLE.status),
        (2500, 0),
    ]
    record = results['results']['runs'][0]
    assert [record[key] for key in ('n_start', 'n_inserted', 'n_lost', 'n_final')] == [72, 12, 0, 84]
    assert sorted(results['trajectories']['run_000']) == ['s000', 's001']
