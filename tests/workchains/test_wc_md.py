"""One run over several jobs: where it goes on from, when it gives up, and what it keeps."""

import numpy as np
import pytest
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.orm import Dict, Int, RemoteData

from aiida_liheal.calculations.analyse import AnalyseCalculation
from aiida_liheal.calculations.common import named, segments_in_order
from aiida_liheal.calculations.lammps import LammpsCalculation
from aiida_liheal.data.frames import FramesData
from aiida_liheal.parsers.common import array_data
from aiida_liheal.structures.bcc import SlabSettings
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.md import MdWorkChain, join_series, latest_restart

SLAB = SlabSettings(size=(4, 4), n_layers=6, n_fixed_layers=2, height_above_A=60)
RUN = {'duration_ps': 2.0, 'fixed_below_A': SLAB.fixed_below_A, 'restart_every_ps': 0.5, 'seed': 7}
JOB = LammpsCalculation.exit_codes
CODES = MdWorkChain.exit_codes


@pytest.fixture
def folder(tmp_path, aiida_localhost):
    """The folder of a job with restart files at these steps, and its part of the trajectory if it came that far."""

    def make(name, *steps, dump=True):
        run = tmp_path / name / 'run_000'
        run.mkdir(parents=True)
        for step in steps:
            (run / f'restart.{step}').touch()
        if dump:
            (run / 'traj.dump').touch()
        return RemoteData(remote_path=str(tmp_path / name), computer=aiida_localhost).store()

    return make


@pytest.fixture
def run(codes, meam_potential):
    """The work chain at its start, maybe after an earlier run."""

    def make(**earlier):
        inputs = {
            'code': codes['lmp'],
            'structures': FramesData(Frames.from_atoms([SLAB.build()])),
            'potentials': {'m0': meam_potential},
            'settings': Dict({'kind': 'deposit', 'runs': [RUN]}),
        }
        process = instantiate_process(
            get_manager().get_runner(), MdWorkChain, lammps=inputs, **({'earlier': earlier} if earlier else {})
        )
        process.setup()
        process.ctx.children = []
        return process

    return make


@pytest.fixture
def ended(ended_job):
    """Let the job of an iteration end in this folder, with this status and thermo, and let it be looked at."""

    def make(process, remote, code=None, thermo=None, **inputs):
        copied = RemoteData(remote_path=remote.get_remote_path(), computer=remote.computer)
        outputs = {'remote_folder': copied}
        if thermo is not None:
            outputs['thermo'] = array_data({'run_000_step': thermo, 'run_000_n_atoms': thermo + 100})
        job = ended_job('liheal.lammps', inputs, outputs, exit_status=code.status if code else 0)
        process.ctx.children.append(job)
        process.ctx.iteration = len(process.ctx.children)
        process.node.base.extras.set(process._considered_handlers_extra, [[] for _ in range(process.ctx.iteration)])
        return job, process.inspect_process()

    return make


def paths(folders):
    return [folder.get_remote_path().rpartition('/')[2] for folder in folders]


def test_latest_restart(folder):
    remote = folder('job', 500, 1000, 1500, 20000)
    assert latest_restart(remote, Int(2000)).value == 1500
    assert latest_restart(remote, Int(1500)).value == 1000
    _, node = latest_restart.run_get_node(remote, Int(500))
    assert node.exit_status == 404
    assert 'no restart file before step 500' in node.exit_message


def test_no_restart_in_a_job_that_did_not_begin(tmp_path, aiida_localhost):
    (tmp_path / 'empty').mkdir()
    remote = RemoteData(remote_path=str(tmp_path / 'empty'), computer=aiida_localhost).store()
    _, node = latest_restart.run_get_node(remote, Int(500))
    assert node.exit_status == 404


def thermo(*steps, **more):
    steps = np.array(steps, dtype=float)
    return array_data({'run_000_step': steps, 'run_000_n_atoms': steps + 100, **more})


def test_thermo_of_segments_is_that_of_one_run():
    """What was done after the restart was done again: the second time counts, and each step is there once."""
    second = thermo(1000, 1500, 2000, run_000_extra=np.zeros(3))
    joined = join_series(s000=thermo(0, 500, 1000, 1500, 1900), s001=second, s002=thermo(1500, 2500))
    assert joined.get_array('run_000_step').tolist() == [0, 500, 1000, 1500, 2500]
    assert joined.get_array('run_000_n_atoms').tolist() == [100, 600, 1100, 1600, 2600]
    # a column that only one of them has would have holes
    assert 'run_000_extra' not in joined.get_arraynames()


def test_deviations_of_segments_are_those_of_one_run(run, folder, ended):
    """Each job brings those of its own part."""
    process = run()
    for name, steps, code in (('first', [0, 500, 1000], JOB.ERROR_WALLTIME), ('second', [500, 1000, 2000], None)):
        ended(process, folder(name, 500), code, thermo=np.array(steps, dtype=float))
        process.ctx.deviations.append(
            array_data({'run_000_step': np.array(steps, dtype=float), 'run_000_max_devi_f': np.array(steps) / 1e4})
        )
    process._attach_segments()
    joined = process.outputs['deviations']
    assert joined.get_array('run_000_step').tolist() == [0, 500, 1000, 2000]
    assert joined.get_array('run_000_max_devi_f').tolist() == [0, 0.05, 0.1, 0.2]


def test_more_than_a_thousand_segments_stay_in_order():
    segments = named(range(1002))
    assert list(segments)[998:] == ['s998', 's999', 's1000', 's1001']
    assert segments_in_order(reversed(segments)) == list(segments)
    assert AnalyseCalculation._validate_trajectories(segments, None) is None
    del segments['s1000']
    assert 's999, s1001' in AnalyseCalculation._validate_trajectories(segments, None)


def test_a_run_of_one_job(run, folder, ended):
    process = run()
    assert 'restart_step' not in process.ctx.inputs
    _, result = ended(process, folder('first', 500, 2000), thermo=np.array([0.0, 2000.0]))
    assert result is None
    assert process.ctx.is_finished
    process._attach_segments()
    assert paths(process.outputs['trajectories'].values()) == ['first']
    assert process.outputs['thermo'].get_array('run_000_step').tolist() == [0, 2000]


@pytest.mark.parametrize('code', ['ERROR_INTERRUPTED', 'ERROR_WALLTIME', 'ERROR_NO_OUTPUT'])
def test_a_job_that_broke_off_is_gone_on_with(run, folder, ended, code):
    process = run()
    job, result = ended(process, folder('first', 500, 1000), JOB[code], thermo=np.array([0.0, 500.0, 1000.0]))
    assert result.status == 0
    assert process.ctx.inputs.restart_step.value == 1000
    assert process.ctx.inputs.parent_folder.uuid == job.outputs.remote_folder.uuid
    assert not process.ctx.is_finished


def test_a_job_that_broke_off_after_its_last_step_does_not_begin_there(run, folder, ended):
    """From the restart file of the last step there is nothing to run; the one before gives the last frame."""
    process = run()
    ended(process, folder('first', 500, 1500, 2000), JOB.ERROR_INTERRUPTED)
    assert process.ctx.inputs.restart_step.value == 1500


def test_without_a_restart_file_it_begins_anew(run, folder, ended):
    process = run()
    _, result = ended(process, folder('first'), JOB.ERROR_INTERRUPTED, thermo=np.array([0.0, 100.0]))
    assert result.status == 0
    assert 'restart_step' not in process.ctx.inputs
    # what was done is done again from the start, so nothing of it stays
    assert (process.ctx.folders, process.ctx.thermos) == ([], [])


def test_a_restart_file_that_was_cut_off_gives_way_to_the_one_before(run, folder, ended):
    process = run()
    first, _ = ended(process, folder('first', 500, 1000, 1500), JOB.ERROR_INTERRUPTED)
    assert process.ctx.inputs.restart_step.value == 1500
    _, result = ended(
        process,
        folder('second', 1500, dump=False),
        JOB.ERROR_RESTART_UNREADABLE,
        restart_step=process.ctx.inputs.restart_step,
        parent_folder=process.ctx.inputs.parent_folder,
    )
    assert result.status == 0
    assert process.ctx.inputs.restart_step.value == 1000
    assert process.ctx.inputs.parent_folder.uuid == first.outputs.remote_folder.uuid
    assert paths(process.ctx.folders) == ['first']


def test_it_gives_up_where_it_does_not_get_on(run, folder, ended):
    """Three jobs in a row that come no further: something is wrong that another job will not mend."""
    process = run()
    ended(process, folder('first', 500, 1000), JOB.ERROR_INTERRUPTED, thermo=np.array([0.0, 500.0, 1000.0]))
    for name in ('second', 'third'):
        _, result = ended(process, folder(name, 1000, dump=False), JOB.ERROR_NO_OUTPUT)
        assert result.status == 0
    _, result = ended(process, folder('fourth', 1000, dump=False), JOB.ERROR_NO_OUTPUT)
    assert result.status == CODES.ERROR_NO_PROGRESS.status
    assert 'broke off 3 times at step 1000' in result.message
    assert 'at last: told by a test' in result.message
    # what there is can be gone on with later: the jobs that came no further have no part in it
    assert paths(process.outputs['trajectories'].values()) == ['first']
    assert process.outputs['thermo'].get_array('run_000_step')[-1] == 1000


def test_slow_progress_is_progress(run, folder, ended):
    process = run()
    for number in range(6):
        _, result = ended(process, folder(f'job{number}', 100 * (number + 1)), JOB.ERROR_WALLTIME)
        assert result.status == 0
    assert process.ctx.times == 0
    assert process.ctx.inputs.restart_step.value == 600


@pytest.mark.parametrize('code', ['ERROR_EXPLODED', 'ERROR_ATOM_BALANCE', 'ERROR_LAMMPS'])
def test_what_cannot_be_mended_is_told_as_it_is(run, folder, ended, code):
    process = run()
    job, result = ended(process, folder('first', 500), JOB[code], thermo=np.array([0.0, 500.0]))
    assert result.status == JOB[code].status
    assert result.message == f'liheal.lammps<{job.pk}>: told by a test'
    assert paths(process.outputs['trajectories'].values()) == ['first']
    assert process.outputs['thermo'].get_array('run_000_step').tolist() == [0, 500]


def test_an_earlier_run_is_gone_on_with(run, folder, ended):
    process = run(s000=folder('old0', 500), s001=folder('old1', 500, 1000))
    assert process.ctx.inputs.restart_step.value == 1000
    assert paths([process.ctx.inputs.parent_folder]) == ['old1']
    _, result = ended(process, folder('new', 1000, 1500, 2000), thermo=np.array([1000.0, 2000.0]))
    assert result is None
    process._attach_segments()
    assert paths(process.outputs['trajectories'].values()) == ['old0', 'old1', 'new']


def test_an_earlier_run_whose_last_job_did_nothing(run, folder):
    """The job before it is gone on from; the empty one has no part in the trajectory."""
    process = run(s000=folder('old0', 500, 1000), s001=folder('old1', dump=False))
    assert process.ctx.inputs.restart_step.value == 1000
    assert paths(process.ctx.folders) == ['old0']


def test_several_runs_are_refused(refusal, codes, meam_potential):
    inputs = {
        'code': codes['lmp'],
        'structures': FramesData(Frames.from_atoms([SLAB.build()])),
        'potentials': {'m0': meam_potential},
        'settings': Dict({'kind': 'deposit', 'runs': [RUN, RUN]}),
    }
    assert 'settings.runs holds 2 runs; allowed is 1' in refusal(MdWorkChain, lammps=inputs)
    inputs['settings'] = Dict({'kind': 'deposit', 'runs': [{**RUN, 'speed_m_per_s': -500.0}]})
    assert 'speed_m_per_s = -500.0' in refusal(MdWorkChain, lammps=inputs)
