"""The runner of a VASP batch with a stand-in: frames side by side, faults, kills, the walltime; no AiiDA."""

import ast
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from importlib.resources import files

import pytest

from aiida_liheal.engines.vasp.settings import VaspSettings, incar_text, plan_frame

RUNNER = files('aiida_liheal.runners') / 'vasp_label.py'


@pytest.fixture
def batch(tmp_path, stand_in, cells):
    """A folder with a batch of frames; call it to run it, with what differs in the plan."""
    folder = tmp_path / 'job'
    folder.mkdir()
    settings = VaspSettings(kpoint_spacing_per_A=0.5)

    class Job:
        path = folder

        @staticmethod
        def write(n=4, **changes):
            frames = [plan_frame(f'{i:05d}', atoms, settings) for i, atoms in enumerate(cells(n))]
            for frame in frames:
                frame['fingerprint'] = frame['poscar']
            plan = {'command': [str(stand_in.path)], 'incar': incar_text(settings), 'frames': frames}
            plan |= {'frames_at_once': 2, 'walltime_s': None, 'margin_s': 0.0, 'max_frame_s': None} | changes
            (folder / 'batch.json').write_text(json.dumps(plan))
            (folder / 'POTCAR.Li').write_text('none')

        @staticmethod
        def start():
            with (folder / 'label.out').open('w') as output:
                return subprocess.Popen([sys.executable, str(RUNNER)], cwd=folder, stdout=output)

        @classmethod
        def run(cls):
            return cls.start().wait(timeout=120)

        @staticmethod
        def records():
            return {p.stem: json.loads(p.read_text()) for p in sorted((folder / 'done').glob('*.json'))}

        @staticmethod
        def status():
            return json.loads((folder / 'status.json').read_text())

    Job.write()
    return Job


def test_old_pythons_of_clusters_take_it():
    ast.parse(RUNNER.read_text(), feature_version=(3, 6))
    imported = {line.split()[1].split('.')[0] for line in RUNNER.read_text().splitlines() if line.startswith('import ')}
    assert imported <= sys.stdlib_module_names


def test_whole_batch(batch):
    assert batch.run() == 0
    assert batch.status()['complete']
    assert {record['state'] for record in batch.records().values()} == {'ended'}
    assert len(batch.records()) == 4
    for kept in ('vasprun.xml', 'OUTCAR'):
        with gzip.open(batch.path / 'done' / f'00003.{kept}.gz', 'rt') as handle:
            assert handle.read().strip()
    assert list((batch.path / 'frames').iterdir()) == []  # and with them every copy of a POTCAR


def test_faults_are_recorded_and_the_others_go_on(batch, stand_in):
    stand_in.ask(f00001='killed', f00002='status', f00003='truncated_outcar')
    assert batch.run() == 0
    records = batch.records()
    assert [records[name]['state'] for name in sorted(records)] == ['ended', 'failed', 'ended', 'failed']
    assert 'signal 9' in records['00001']['cause']
    assert 'status 0' in records['00003']['cause']


def test_vasp_that_does_not_start_ends_the_batch(batch, stand_in):
    stand_in.ask(**{'*': 'nothing'})
    batch.write(20, frames_at_once=1)
    assert batch.run() == 1
    assert len(batch.records()) == 1
    assert 'shared libraries' in batch.status()['error']
    batch.write(command=['/nowhere/vasp_std'])
    assert batch.run() == 1
    assert '/nowhere/vasp_std' in batch.status()['error']


def test_a_frame_that_hangs_is_stopped(batch, stand_in):
    stand_in.ask(f00001='sleep:60')
    batch.write(max_frame_s=1.0)
    begin = time.monotonic()
    assert batch.run() == 0
    assert time.monotonic() - begin < 50
    assert 'max_frame_s' in batch.records()['00001']['cause']
    assert len(batch.records()) == 4


def test_at_the_walltime_what_is_done_stays_and_the_rest_is_left(batch, stand_in):
    """What runs is stopped and its folder goes, so that the next job begins it anew."""
    stand_in.ask(f00002='sleep:60', f00003='sleep:60')
    batch.write(walltime_s=6.0, margin_s=1.0)
    assert batch.run() == 2
    assert batch.status()['stopped_by'] == 'walltime'
    assert sorted(batch.records()) == ['00000', '00001']
    assert list((batch.path / 'frames').iterdir()) == []
    stand_in.ask()
    before = {name: record['seconds'] for name, record in batch.records().items()}
    batch.write()
    assert batch.run() == 0
    assert sorted(batch.records()) == ['00000', '00001', '00002', '00003']
    assert {name: batch.records()[name]['seconds'] for name in before} == before  # not done again


def test_what_cannot_end_in_time_is_not_begun(batch):
    """By the pace of the others; but a job of its own tries at least one, or it would never be done."""
    batch.write(3)
    plan = json.loads((batch.path / 'batch.json').read_text())
    big = dict(plan['frames'][0], name='00009', fingerprint='another', cost=1e9)
    plan |= {'frames': [*plan['frames'], big], 'walltime_s': 100.0, 'frames_at_once': 1}
    (batch.path / 'batch.json').write_text(json.dumps(plan))
    begin = time.monotonic()
    assert batch.run() == 2
    assert time.monotonic() - begin < 60
    assert sorted(batch.records()) == ['00000', '00001', '00002']
    assert batch.run() == 0
    assert '00009' in batch.records()


def test_what_failed_comes_after_the_others_the_next_time(batch, stand_in):
    stand_in.ask(f00000='killed', f00002='sleep:60')
    batch.write(3, walltime_s=5.0, frames_at_once=1)
    assert batch.run() == 2
    stand_in.ask()
    batch.write(3, frames_at_once=1)
    assert batch.run() == 0
    said = (batch.path / 'label.out').read_text()
    assert said.index('frame 00002') < said.index('frame 00000')


def test_what_is_of_other_frames_is_removed_at_once(batch):
    """A job that is killed as it begins must not leave what another one did, with other settings, as its own."""
    assert batch.run() == 0
    plan = json.loads((batch.path / 'batch.json').read_text())
    plan['frames'] = [dict(frame, fingerprint='another cut-off') for frame in plan['frames'][:1]]
    plan['command'] = ['/nowhere/vasp_std']
    (batch.path / 'batch.json').write_text(json.dumps(plan))
    (batch.path / 'done' / '00001.json').write_text('{"fingerprint"')
    assert batch.run() == 1
    assert list((batch.path / 'done').iterdir()) == []


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGKILL])
def test_killed_and_run_again_no_frame_is_lost_or_done_twice(batch, stand_in, signum):
    """Killed after its second record, wherever the others are then."""
    stand_in.ask(**{'*': 'sleep:0.3'})
    batch.write(8)
    job = batch.start()
    while len(batch.records() if (batch.path / 'done').is_dir() else ()) < 2:
        time.sleep(0.02)
    os.kill(job.pid, signum)
    job.wait(timeout=60)
    kept = {path.name: path.stat().st_mtime_ns for path in (batch.path / 'done').glob('*.json')}
    assert 2 <= len(kept) < 8
    assert not batch.status()['complete']
    assert batch.run() == 0
    assert sorted(batch.records()) == [f'{i:05d}' for i in range(8)]
    assert {name: (batch.path / 'done' / name).stat().st_mtime_ns for name in kept} == kept


def test_records_of_other_frames_and_settings_do_not_count(batch):
    assert batch.run() == 0
    before = (batch.path / 'done' / '00000.json').stat().st_mtime_ns
    plan = json.loads((batch.path / 'batch.json').read_text())
    plan['frames'][0]['fingerprint'] = 'another cut-off'
    (batch.path / 'batch.json').write_text(json.dumps(plan))
    assert batch.run() == 0
    assert '3 of 4 frames were done before' in (batch.path / 'label.out').read_text()
    assert (batch.path / 'done' / '00000.json').stat().st_mtime_ns > before
