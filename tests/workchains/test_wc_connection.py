"""A computer that does not answer for a while: nothing is lost, and no work chain ends with an exception."""

import asyncio
import shutil

import pytest
from aiida.engine import WorkChain, run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.orm import Dict, RemoteData
from aiida.transports.plugins.local import LocalTransport

from aiida_liheal.data.frames import FramesData
from aiida_liheal.structures.bcc import SlabSettings
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.connection import NoConnectionError, names_in
from aiida_liheal.workchains.md import MdWorkChain
from aiida_liheal.workchains.points import still_there

SLAB = SlabSettings(size=(4, 4), n_layers=6, n_fixed_layers=2, height_above_A=60)
RUN = {'duration_ps': 2.0, 'fixed_below_A': SLAB.fixed_below_A, 'restart_every_ps': 0.5, 'seed': 7}
N_TRIES = 3


@pytest.fixture
def line(monkeypatch):
    """The connection to the computer: how many times more it fails, and how many times it was opened in all."""

    class Line:
        fails, tried = 0, 0

    def opened(transport):
        Line.tried += 1
        if Line.fails:
            Line.fails -= 1
            raise ConnectionResetError('the line is down')
        return connect(transport)

    connect = LocalTransport.open
    options = {'transport.task_maximum_attempts': N_TRIES, 'transport.task_retry_initial_interval': 0.01}
    monkeypatch.setattr(LocalTransport, 'open', opened)
    monkeypatch.setattr('aiida_liheal.workchains.connection.get_config_option', options.__getitem__)
    return Line


@pytest.fixture
def folder(tmp_path, aiida_localhost):
    """A folder of a job whose one run left restart files at these steps."""

    def make(name, *steps):
        (tmp_path / name / 'run_000').mkdir(parents=True)
        for file in ('traj.dump', *(f'restart.{step}' for step in steps)):
            (tmp_path / name / 'run_000' / file).touch()
        return RemoteData(remote_path=str(tmp_path / name), computer=aiida_localhost)

    return make


@pytest.fixture
def process(codes, meam_potential, monkeypatch):
    """The work chain at its start; messages of its pauses are kept."""
    inputs = {
        'code': codes['lmp'],
        'structures': FramesData(Frames.from_atoms([SLAB.build()])),
        'potentials': {'m0': meam_potential},
        'settings': Dict({'kind': 'deposit', 'runs': [RUN]}),
    }
    made = instantiate_process(get_manager().get_runner(), MdWorkChain, lammps=inputs)
    made.setup()
    made.begin()
    made.ctx.children, made.pauses = [], []
    monkeypatch.setattr(made, 'pause', made.pauses.append)
    return made


def note(process, ended_job, remote, status):
    """Let a job end with this folder, and this status of its run."""
    outputs = {'remote_folder': remote, 'results': Dict({'runs': [{'status': status}]})}
    code = 0 if status == 'finished' else process.process_class.exit_codes.ERROR_WALLTIME.status
    process.ctx.children.append(ended_job('liheal.lammps', {}, outputs, code))
    process.ctx.iteration += 1
    process.node.base.extras.set(process._considered_handlers_extra, [[] for _ in process.ctx.children])
    process.note_outputs()


@pytest.mark.parametrize('n_fails', range(N_TRIES))
def test_a_short_failure_passes_unnoticed(line, process, ended_job, folder, n_fails):
    note(process, ended_job, folder('first', 500, 1000), 'walltime')
    line.tried, line.fails = 0, n_fails
    assert process.is_unseen()
    process.look()
    # one connection, however much there is to see
    assert (line.tried, process.pauses) == (n_fails + 1, [])
    assert not process.is_unseen()
    assert process.inspect_process().status == 0
    assert process.ctx.inputs.restart_steps.get_dict() == {'run_000': 1000}


def test_a_long_failure_pauses_and_is_gone_on_from(line, process, ended_job, folder):
    """As the jobs of AiiDA do; each time that it is played it looks again."""
    note(process, ended_job, folder('first', 500), 'walltime')
    line.fails = 2 * N_TRIES
    for number in (1, 2):
        process.look()
        assert process.is_unseen()
        assert len(process.pauses) == number
        assert f'verdi process play {process.node.pk}' in process.pauses[-1]
    process.look()
    assert process.inspect_process().status == 0
    assert process.ctx.inputs.restart_steps.get_dict() == {'run_000': 500}
    note(process, ended_job, folder('second', 1000), 'finished')
    line.fails = 100
    assert not process.is_unseen()
    assert process.inspect_process() is None
    process.results()
    # a run that came to its end needs no connection
    assert sorted(process.outputs['trajectories']['run_000']) == ['s000', 's001']
    assert line.fails == 100


def test_others_go_on_while_one_waits(line, process, folder):
    """The loop of the daemon runs on between the tries."""
    turns = []

    async def other():
        for _ in range(5):
            turns.append(line.tried)
            await asyncio.sleep(0.002)

    line.fails = N_TRIES - 1
    task = process.loop.create_task(other())
    names = names_in(process, [folder('first', 500)])
    assert next(iter(names.values())) == ['run_000']
    process.loop.run_until_complete(task)
    assert len(set(turns)) > 1
    line.fails = N_TRIES
    with pytest.raises(NoConnectionError, match=f'{N_TRIES} tries: ConnectionResetError: the line is down'):
        names_in(process, [folder('second')])


class Looker(WorkChain):
    """Looks into a folder in a step, as a process of its own."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input('folder', valid_type=RemoteData)
        spec.outline(cls.look)

    def look(self):
        names = names_in(self, [self.inputs.folder])
        self.node.base.extras.set('seen', next(iter(names.values())))


def test_within_a_process_that_runs(line, folder):
    """The loop runs already when the step waits."""
    line.fails = N_TRIES - 1
    _, node = run_get_node(Looker, folder=folder('first', 500))
    assert node.is_finished_ok, node.exception
    assert node.base.extras.get('seen') == ['run_000']
    assert line.fails == 0


@pytest.mark.engine
@pytest.mark.skipif(shutil.which('lmp') is None, reason='lmp is not installed')
def test_a_pause_is_played_and_the_run_ends(line, folder, codes, meam_potential):
    """A real run: the computer does not answer at its start, and does after a person has played it."""
    inputs = {
        'code': codes['lmp'],
        'structures': FramesData(Frames.from_atoms([SLAB.build()])),
        'potentials': {'m0': meam_potential},
        'settings': Dict({'kind': 'deposit', 'runs': [{**RUN, 'duration_ps': 0.1, 'restart_every_ps': 0.05}]}),
    }
    earlier = {'run_000': {'s000': folder('old').store()}}
    runner = get_manager().get_runner()
    process = instantiate_process(runner, MdWorkChain, lammps=inputs, earlier=earlier)
    line.fails = N_TRIES
    paused = []

    async def person():
        while not process.has_terminated():
            await asyncio.sleep(0.05)
            if process.paused:
                paused.append(process.node.process_status)
                process.play()

    task = process.loop.create_task(person())
    runner.run_until_complete(process.step_until_terminated())
    process.loop.run_until_complete(task)
    assert process.node.is_finished_ok, process.node.exit_message
    assert len(paused) == 1
    assert f'verdi process play {process.node.pk}' in paused[0]
    assert process.node.outputs.results['runs'][0]['status'] == 'finished'


def test_a_person_is_told_at_once(line, folder):
    folders = {'s000': folder('first'), 's001': folder('second')}
    folders['s002'] = RemoteData(
        remote_path=f'{folders["s000"].get_remote_path()}/none', computer=folders['s000'].computer
    )
    assert list(still_there(folders).values()) == [folders['s000'], folders['s001']]
    line.fails = 1
    with pytest.raises(ValueError, match=r'cannot be asked for .*first: the line is down; try again'):
        still_there(folders)
