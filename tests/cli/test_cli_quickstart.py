"""What `quickstart` is made of: its own configuration, signals, looking on, and leaving nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from aiida.orm import CalcJobNode, WorkChainNode
from rich.console import Console
from trees import code, labelled, process

from aiida_liheal.cli import main
from aiida_liheal.cli.quickstart import Interrupted, Signals, end_jobs, fingerprint
from aiida_liheal.cli.watch import LiveScreen, PlainScreen, Stage, Watcher, screen


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (['quickstart'], 'quickstart/.aiida'),
        (['quickstart', '--workdir', 'here'], 'here/.aiida'),
        (['quickstart', '-w', 'here', '--protocol', 'tiny'], 'here/.aiida'),
        (['quickstart', '-p', 'mine'], None),
        (['-p', 'mine', 'quickstart'], None),
        (['--profile=mine', 'quickstart'], None),
        (['quickstart', '--help'], None),
        (['status', '5'], None),
    ],
)
def test_quickstart_has_its_own_configuration(tmp_path, monkeypatch, arguments, expected):
    """Unless a profile is given, AiiDA's configuration is in the work folder."""
    monkeypatch.chdir(tmp_path)
    assert main.own_configuration(arguments) == (None if expected is None else tmp_path / expected)


def test_a_users_configuration_is_not_touched(tmp_path):
    """With a home of its own and no AIIDA_PATH, a quickstart that is refused has made nothing in it."""
    environment = {key: value for key, value in os.environ.items() if key != 'AIIDA_PATH'} | {'HOME': str(tmp_path)}
    work = tmp_path / 'work'
    done = subprocess.run(
        [sys.executable, '-m', 'aiida_liheal.cli.main', 'quickstart', '-w', str(work), '--seed', '-1'],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert 'seed' in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ['work']


def send(number, seconds):
    """Send this process a signal and give it time to come."""
    os.kill(os.getpid(), number)
    time.sleep(seconds)


def test_signals_are_raised_or_held(signals_as_in_a_terminal):
    """A request to stop interrupts at once, but not in the middle of what must not be cut; then right after it."""
    reached = []
    with Signals() as signals:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with pytest.raises(Interrupted):
                send(number, 5)

        def critical():
            with signals.held():
                send(signal.SIGTERM, 0.2)
                reached.append(True)

        with pytest.raises(Interrupted):
            critical()
        assert reached
        signals.ignore()
        send(signal.SIGTERM, 0.2)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_end_jobs_finds_them_by_where_they_work(aiida_profile_clean, aiida_localhost, tmp_path):
    """A process in the folder of a job is ended, with one that does not listen to SIGTERM; another one stays."""
    root = process(WorkChainNode, 'QuickstartWorkChain', 'liheal.quickstart', state='killed')
    job = process(
        CalcJobNode, 'LammpsCalculation', 'liheal.lammps', root, 'x', {'code': code(aiida_localhost)}, state='killed'
    )
    folder = tmp_path / 'job'
    (folder / 'run_000').mkdir(parents=True)
    job.set_remote_workdir(str(folder))
    inside = subprocess.Popen(['sleep', '600'], cwd=folder / 'run_000', start_new_session=True)
    outside = subprocess.Popen(['sleep', '600'], cwd=tmp_path, start_new_session=True)
    try:
        assert end_jobs(root) == [inside.pid]
        assert not psutil.pid_exists(inside.pid) or psutil.Process(inside.pid).status() == psutil.STATUS_ZOMBIE
        assert outside.poll() is None
    finally:
        for child in (inside, outside):
            child.kill()
            child.wait()


def test_watcher_of_a_chain_that_has_just_begun(aiida_profile_clean):
    root = process(WorkChainNode, 'QuickstartWorkChain', 'liheal.quickstart', state='waiting')
    stages = Watcher(root.pk, 1).look()
    assert {stage.state for stage in stages} == {'to come'}


def test_plain_lines_tell_what_is_new(capsys):
    """One line when a stage begins and ends, none while nothing changes."""
    console = Console(force_terminal=False, width=200)
    with screen(console) as display:
        assert isinstance(display, PlainScreen)
        stage = Stage('label, round 1', 'label')
        display.show([stage])
        stage.state, stage.done, stage.total, stage.unit = 'running', 0, 4, 'frames'
        display.show([stage])
        stage.done = 1
        display.show([stage])
        stage.state, stage.done = 'done', 4
        display.show([stage])
        display.show([stage])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split('  ', 1)[1].strip() for line in lines] == [
        '0:00  label, round 1: running, 0/4 frames',
        '0:00  label, round 1: done, 4/4 frames',
    ]


def test_live_table(capsys):
    """On a terminal the stages are a table with bars."""
    console = Console(force_terminal=True, width=120)
    with screen(console) as display:
        assert isinstance(display, LiveScreen)
        display.show([Stage('heal', 'heal', state='running', done=5, total=10, unit='steps')])
    assert '5/10 steps' in capsys.readouterr().out


def test_fingerprint_tells_inputs_apart(aiida_profile_clean, aiida_localhost, li_frames):
    """Equal inputs in other nodes have one fingerprint; another seed has another."""
    from aiida.orm import Int

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.workchains.train import TrainWorkChain

    def builder(seed):
        built = TrainWorkChain.get_builder()
        built.frames = {'bulk': FramesData(labelled(li_frames))}
        built.seed = Int(seed)
        built.dp.code = code(aiida_localhost, 'dp')
        return built

    assert fingerprint(builder(1)) == fingerprint(builder(1))
    assert fingerprint(builder(1)) != fingerprint(builder(2))
    stored = builder(1)
    stored.frames['bulk'].store()
    assert fingerprint(stored) == fingerprint(builder(1))
