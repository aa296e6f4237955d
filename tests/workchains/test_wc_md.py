"""One run over several jobs: where it goes on from, when it gives up, and what it keeps."""

import numpy as np
import pytest
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.orm import Bool, Dict, Int, RemoteData

from aiida_liheal.calculations.analyse import AnalyseCalculation
from aiida_liheal.calculations.common import named, segments_in_order
from aiida_liheal.calculations.lammps import LammpsCalculation
from aiida_liheal.data.frames import FramesData
from aiida_liheal.parsers.common import array_data
from aiida_liheal.structures.bcc import SlabSettings
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.md import MdWorkChain, join_runs, join_series, latest_restarts

SLAB = SlabSettings(size=(4, 4), n_layers=6, n_fixed_layers=2, height_above_A=60)
RUN = {'duration_ps': 2.0, 'fixed_below_A': SLAB.fixed_below_A, 'restart_every_ps': 0.5, 'seed': 7}
JOB = LammpsCalculation.exit_codes
CODES = MdWorkChain.exit_codes
#: How a run ended, by the exit code of its job.
STATUS = {
    0: 'finished',
    JOB.ERROR_INTERRUPTED.status: 'interrupted',
    JOB.ERROR_WALLTIME.status: 'walltime',
    JOB.ERROR_NO_OUTPUT.status: 'missing',
    JOB.ERROR_RESTART_UNREADABLE.status: 'unreadable',
    JOB.ERROR_EXPLODED.status: 'exploded',
    JOB.ERROR_ATOM_BALANCE.status: 'unbalanced',
    JOB.ERROR_LAMMPS.status: 'failed',
}


@pytest.fixture
def folder(tmp_path, aiida_localhost):
    """The folder of a job with restart files at these steps, and its part of the trajectory if it came that far.

    Steps by run if there are several.
    """

    def make(name, *steps, dump=True, run=None, **by_run):
        for one, own in (by_run or {'run_000': steps}).items():
            place = tmp_path / name / one
            place.mkdir(parents=True)
            for step in own:
                (place / f'restart.{step}').touch()
            if dump:
                (place / 'traj.dump').touch()
        path = tmp_path / name / run if run else tmp_path / name
        return RemoteData(remote_path=str(path), computer=aiida_localhost).store()

    return make


@pytest.fixture
def run(codes, meam_potential):
    """The work chain at its start, maybe after an earlier run."""

    def make(n_runs=1, max_iterations=None, **earlier):
        inputs = {
            'code': codes['lmp'],
            'structures': FramesData(Frames.from_atoms([SLAB.build()])),
            'potentials': {'m0': meam_potential},
            'settings': Dict({'kind': 'deposit', 'runs': [{**RUN, 'seed': 7 + n} for n in range(n_runs)]}),
        }
        more = {'earlier': earlier} if earlier else {}
        if max_iterations is not None:
            more |= {'max_iterations': Int(max_iterations), 'pause_on_max_iterations': Bool(True)}
        process = instantiate_process(get_manager().get_runner(), MdWorkChain, lammps=inputs, **more)
        process.setup()
        process.look()
        process.begin()
        process.ctx.children = []
        return process

    return make


@pytest.fixture
def ended(ended_job):
    """Let the job of an iteration end in this folder, with this status and thermo, and let it be looked at.

    How each run ended follows from the code, unless it is told by run.
    """

    def make(process, remote, code=None, thermo=None, **by_run):
        copied = RemoteData(remote_path=remote.get_remote_path(), computer=remote.computer)
        steps = process._steps()
        status = STATUS[code.status if code else 0]
        records = []
        for run in process.ctx.runs:
            record = {'status': by_run.get(run, status) if run in steps else 'not_run', 'cause': 'told by a test'}
            records.append(record | ({'restart_step': steps[run]} if steps.get(run) is not None else {}))
        outputs = {'remote_folder': copied, 'results': Dict({'runs': records})}
        if thermo is not None:
            outputs['thermo'] = array_data({'run_000_step': thermo, 'run_000_n_atoms': thermo + 100})
        job = ended_job('liheal.lammps', {}, outputs, exit_status=code.status if code else 0)
        process.ctx.children.append(job)
        process.ctx.iteration += 1
        process.node.base.extras.set(process._considered_handlers_extra, [[] for _ in range(process.ctx.iteration)])
        process.note_outputs()
        process.look()
        return job, process.inspect_process()

    return make


def paths(folders):
    """Job and run of each folder; of run_000 the job only."""
    parts = [folder.get_remote_path().split('/')[-2:] for folder in folders]
    return [job if run == 'run_000' else f'{job}/{run}' for job, run in parts]


def steps_of(process):
    return process.ctx.inputs.restart_steps.get_dict()


def test_latest_restarts(folder):
    """Of each run its own, before its own step, in the last folder that has one."""
    folders = {
        'run_000': named([folder('a', run='run_000'), folder('b', run='run_000')]),
        'run_001': named([folder('c', run='run_000'), folder('d', run='run_000')]),
        'run_002': named([folder('e', run='run_000')]),
    }
    files = {
        'run_000': {'s000': [500, 1000], 's001': [1500, 20000]},
        'run_001': {'s000': [500], 's001': []},
        'run_002': {'s000': []},
    }
    below = {'run_000': 2000, 'run_001': 2000, 'run_002': 2000, 'run_003': 2000}
    found = latest_restarts(Dict(below), Dict(files), **folders)
    assert found['restart_steps'].get_dict() == {'run_000': 1500, 'run_001': 500, 'run_002': None, 'run_003': None}
    assert found['segments'].get_dict() == {'run_000': 's001', 'run_001': 's000', 'run_002': None, 'run_003': None}
    earlier = latest_restarts(Dict({'run_000': 1500}), Dict(files), **folders)
    assert (earlier['restart_steps'].get_dict(), earlier['segments'].get_dict()) == (
        {'run_000': 1000},
        {'run_000': 's000'},
    )


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
        process.ctx.parts_deviations[f's{process.ctx.n_jobs - 1:03d}'] = array_data(
            {'run_000_step': np.array(steps, dtype=float), 'run_000_max_devi_f': np.array(steps) / 1e4}
        ).store()
    process._attach()
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
    assert 'restart_steps' not in process.ctx.inputs
    _, result = ended(process, folder('first', 500, 2000), thermo=np.array([0.0, 2000.0]))
    assert result is None
    assert process.ctx.is_finished
    process._attach()
    assert paths(process.outputs['trajectories']['run_000'].values()) == ['first']
    assert process.outputs['thermo'].get_array('run_000_step').tolist() == [0, 2000]


@pytest.mark.parametrize('code', ['ERROR_INTERRUPTED', 'ERROR_WALLTIME', 'ERROR_NO_OUTPUT'])
def test_a_job_that_broke_off_is_gone_on_with(run, folder, ended, code):
    process = run()
    job, result = ended(process, folder('first', 500, 1000), JOB[code], thermo=np.array([0.0, 500.0, 1000.0]))
    assert result.status == 0
    assert steps_of(process) == {'run_000': 1000}
    parent = process.ctx.inputs.parent_folders['run_000']
    assert parent.get_remote_path() == f'{job.outputs.remote_folder.get_remote_path()}/run_000'
    assert not process.ctx.is_finished


def test_a_job_that_broke_off_after_its_last_step_does_not_begin_there(run, folder, ended):
    """From the restart file of the last step there is nothing to run; the one before gives the last frame."""
    process = run()
    ended(process, folder('first', 500, 1500, 2000), JOB.ERROR_INTERRUPTED)
    assert steps_of(process) == {'run_000': 1500}


def test_without_a_restart_file_it_begins_anew(run, folder, ended):
    process = run()
    _, result = ended(process, folder('first'), JOB.ERROR_INTERRUPTED, thermo=np.array([0.0, 100.0]))
    assert result.status == 0
    assert 'restart_steps' not in process.ctx.inputs
    # what was done is done again from the start, so nothing of it stays
    assert process.ctx.folders == {'run_000': []}


def test_a_restart_file_that_was_cut_off_gives_way_to_the_one_before(run, folder, ended):
    process = run()
    first, _ = ended(process, folder('first', 500, 1000, 1500), JOB.ERROR_INTERRUPTED)
    assert steps_of(process) == {'run_000': 1500}
    _, result = ended(
        process,
        folder('second', 1500, dump=False),
        JOB.ERROR_RESTART_UNREADABLE,
    )
    assert result.status == 0
    assert steps_of(process) == {'run_000': 1000}
    parent = process.ctx.inputs.parent_folders['run_000']
    assert parent.get_remote_path() == f'{first.outputs.remote_folder.get_remote_path()}/run_000'
    assert paths(process.ctx.folders['run_000']) == ['first']


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
    assert paths(process.outputs['trajectories']['run_000'].values()) == ['first']
    assert process.outputs['thermo'].get_array('run_000_step')[-1] == 1000


def test_slow_progress_is_progress(run, folder, ended):
    process = run()
    for number in range(6):
        _, result = ended(process, folder(f'job{number}', 100 * (number + 1)), JOB.ERROR_WALLTIME)
        assert result.status == 0
    assert process.ctx.times == 0
    assert steps_of(process) == {'run_000': 600}


@pytest.mark.parametrize('code', ['ERROR_EXPLODED', 'ERROR_ATOM_BALANCE', 'ERROR_LAMMPS'])
def test_what_cannot_be_mended_is_told_as_it_is(run, folder, ended, code):
    process = run()
    job, result = ended(process, folder('first', 500), JOB[code], thermo=np.array([0.0, 500.0]))
    assert result.status == JOB[code].status
    assert result.message == f'liheal.lammps<{job.pk}>: told by a test'
    assert paths(process.outputs['trajectories']['run_000'].values()) == ['first']
    assert process.outputs['thermo'].get_array('run_000_step').tolist() == [0, 500]


def test_an_earlier_run_is_gone_on_with(run, folder, ended):
    process = run(run_000=named([folder('old0', 500, run='run_000'), folder('old1', 500, 1000, run='run_000')]))
    assert steps_of(process) == {'run_000': 1000}
    assert paths(process.ctx.inputs.parent_folders.values()) == ['old1']
    _, result = ended(process, folder('new', 1000, 1500, 2000), thermo=np.array([1000.0, 2000.0]))
    assert result is None
    process._attach()
    assert paths(process.outputs['trajectories']['run_000'].values()) == ['old0', 'old1', 'new']


def test_an_earlier_run_whose_last_job_did_nothing(run, folder):
    """The job before it is gone on from; the empty one has no part in the trajectory."""
    process = run(run_000=named([folder('old0', 500, 1000, run='run_000'), folder('old1', dump=False, run='run_000')]))
    assert steps_of(process) == {'run_000': 1000}
    assert paths(process.ctx.folders['run_000']) == ['old0']


def test_each_of_several_runs_goes_on_by_itself(run, folder, ended):
    """One that ended is not run again; the others go on from their own files, one of them from its beginning."""
    process = run(4)
    first = folder('first', run_000=(500, 1000, 2000), run_001=(500,), run_002=(), run_003=(500, 1000))
    _, result = ended(process, first, JOB.ERROR_INTERRUPTED, run_000='finished', run_002='missing')
    assert result.status == 0
    assert steps_of(process) == {'run_001': 500, 'run_002': None, 'run_003': 1000}
    assert {run: paths([node]) for run, node in process.ctx.inputs.parent_folders.items()} == {
        'run_001': ['first/run_001'],
        'run_003': ['first/run_003'],
    }
    # cut off: of this run alone the one before; the others came further
    second = folder('second', run_001=(500, 1500), run_002=(500,), run_003=(1000,))
    _, result = ended(process, second, JOB.ERROR_INTERRUPTED, run_003='unreadable')
    assert result.status == 0
    assert steps_of(process) == {'run_001': 1500, 'run_002': 500, 'run_003': 500}
    assert {run: paths([node]) for run, node in process.ctx.inputs.parent_folders.items()} == {
        'run_001': ['second/run_001'],
        'run_002': ['second/run_002'],
        'run_003': ['first/run_003'],
    }
    third = folder('third', run_001=(1500, 2000), run_002=(500, 2000), run_003=(500, 2000))
    _, result = ended(process, third)
    assert result is None
    process.results()
    statuses = [record['status'] for record in process.outputs['results']['runs']]
    assert statuses == ['finished'] * 4
    assert {run: paths(folders.values()) for run, folders in process.outputs['trajectories'].items()} == {
        'run_000': ['first'],
        'run_001': ['first/run_001', 'second/run_001', 'third/run_001'],
        'run_002': ['second/run_002', 'third/run_002'],
        'run_003': ['first/run_003', 'third/run_003'],
    }


def test_a_run_that_fails_does_not_take_the_others_with_it(run, folder, ended):
    process = run(3)
    first = folder('first', run_000=(500,), run_001=(500,), run_002=(500,))
    _, result = ended(process, first, JOB.ERROR_EXPLODED, run_001='exploded', run_000='walltime', run_002='walltime')
    assert result.status == 0
    assert sorted(steps_of(process)) == ['run_000', 'run_002']
    _, result = ended(process, folder('second', run_000=(500, 2000), run_002=(500, 2000)))
    assert result.status == CODES.ERROR_RUNS_FAILED.status
    assert result.message.startswith('1 of 3 runs failed: run_001 (exploded: told by a test)')
    assert [record['status'] for record in process.outputs['results']['runs']] == ['finished', 'exploded', 'finished']
    assert sorted(process.outputs['trajectories']) == ['run_000', 'run_001', 'run_002']


def test_several_runs_that_do_not_get_on(run, folder, ended):
    """As long as one comes further it is not given up."""
    process = run(2)
    for number, step in enumerate((500, 1000, 1500)):
        job = folder(f'job{number}', run_000=(step,), run_001=())
        _, result = ended(process, job, JOB.ERROR_INTERRUPTED, run_001='missing')
        assert (result.status, process.ctx.times) == (0, 0)
    for number in range(3):
        job = folder(f'stuck{number}', run_000=(1500,), run_001=(), dump=False)
        _, result = ended(process, job, JOB.ERROR_INTERRUPTED)
    assert result.status == CODES.ERROR_NO_PROGRESS.status
    assert 'at step 1500 (run_000), 0 (run_001)' in result.message


def test_runs_are_joined_from_the_jobs_that_did_them_last():
    def frames(*numbers):
        return FramesData(
            Frames.concatenate([Frames.from_atoms([SLAB.build()], run=np.array([n])) for n in numbers]),
            domain='deposit',
        )

    def results(*statuses):
        return Dict({'kind': 'deposit', 'runs': [{'status': status} for status in statuses]})

    joined = join_runs(
        results={
            's000': results('finished', 'walltime', 'exploded'),
            's001': results('not_run', 'finished', 'not_run'),
        },
        last_frames={'s000': frames(0, 1), 's001': frames(1)},
    )
    assert [run['status'] for run in joined['results']['runs']] == ['finished', 'finished', 'exploded']
    assert joined['last_frames'].get_frames().extra['run'].tolist() == [0, 1]
    assert joined['last_frames'].domain == 'deposit'


def test_series_are_joined_run_by_run():
    def table(**steps):
        return array_data({f'{run}_step': np.array(values, dtype=float) for run, values in steps.items()})

    joined = join_series(s000=table(run_000=[0, 500], run_001=[0, 500, 1000]), s001=table(run_001=[500, 2000]))
    assert joined.get_array('run_000_step').tolist() == [0, 500]
    assert joined.get_array('run_001_step').tolist() == [0, 500, 2000]


def test_inputs_that_make_no_sense_are_refused(refusal, codes, meam_potential, folder):
    inputs = {
        'code': codes['lmp'],
        'structures': FramesData(Frames.from_atoms([SLAB.build()])),
        'potentials': {'m0': meam_potential},
        'settings': Dict({'kind': 'deposit', 'runs': [RUN]}),
    }
    assert 'earlier.s000: must be a namespace' in refusal(MdWorkChain, lammps=inputs, earlier={'s000': folder('old')})
    told = refusal(MdWorkChain, lammps=inputs, earlier={'run_099': {'s000': folder('other')}})
    assert 'earlier.run_099: there is no such run in settings; allowed are run_000' in told
    told = refusal(MdWorkChain, lammps=inputs, earlier={'run_000': {'s001': folder('later')}})
    assert 'folders of earlier.run_000 are called s001; the order needs the names s000' in told
    inputs['settings'] = Dict({'kind': 'deposit', 'runs': [RUN, {**RUN, 'speed_m_per_s': -500.0}]})
    assert 'run 1: speed_m_per_s = -500.0' in refusal(MdWorkChain, lammps=inputs)


def test_jobs_are_numbered_on_after_a_pause(run, folder, ended, monkeypatch):
    """A pause at the largest number of jobs makes AiiDA count anew; what came before stays, and is not looked at."""
    process = run(max_iterations=2)
    monkeypatch.setattr(process, 'pause', lambda message: None)
    for number in range(4):
        _, result = ended(process, folder(f'job{number}', 300 * (number + 1)), JOB.ERROR_WALLTIME, np.array([number]))
        assert result is None if number % 2 else result.status == 0
        assert process.ctx.iteration == (number + 1) % 2
        assert steps_of(process) == {'run_000': 300 * (number + 1)}
    assert not process.ctx.is_finished
    _, result = ended(process, folder('last', 2000), thermo=np.array([4.0]))
    process.results()
    assert list(process.ctx.parts_results) == ['s000', 's001', 's002', 's003', 's004']
    assert process.outputs['thermo'].get_array('run_000_step').tolist() == [0, 1, 2, 3, 4]
    assert paths(process.outputs['trajectories']['run_000'].values()) == ['job0', 'job1', 'job2', 'job3', 'last']
