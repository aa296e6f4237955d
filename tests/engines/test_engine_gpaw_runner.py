"""The runner of a GPAW batch with labels that cost only time: walltime, longest time, kills, restarts; no GPAW."""

import json
import os
import signal
import time

import numpy as np
import pytest

from aiida_liheal.engines.gpaw.calculation import GpawSettings
from aiida_liheal.runners import gpaw_label
from aiida_liheal.structures.frames import Frames


@pytest.fixture
def batch(tmp_path, cells, monkeypatch):
    """A folder with frames; call it with the seconds that each frame takes (less than nothing: it is killed)."""
    before = {signum: signal.getsignal(signum) for signum in gpaw_label.STOPPING}

    def run(seconds, walltime_s=None, **settings):
        Frames.from_atoms(cells(len(seconds))).save(tmp_path / 'frames.npz')
        given = {'n_workers': 1, 'margin_s': 0.0, **settings}
        (tmp_path / 'settings.json').write_text(json.dumps(GpawSettings.read(given).model_dump()))
        (tmp_path / 'job.json').write_text(json.dumps({'walltime_s': walltime_s}))
        images = gpaw_label.read_frames(tmp_path / 'frames.npz')

        def label(atoms, settings, log):
            index = next(i for i, image in enumerate(images) if np.array_equal(image.positions, atoms.positions))
            with (tmp_path / 'tried').open('a') as handle:
                handle.write(f'{index}\n')
            if seconds[index] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(seconds[index])
            labels = {'energy': -1.0 - index, 'forces': atoms.positions, 'virial': np.eye(3)}
            return {'status': 'converged', 'cause': '', 'scf_steps': 9, 'seconds': seconds[index], **labels}

        def check_setups(self):
            self.versions = {'setups': {'Li': {'md5': 'the same'}}}

        monkeypatch.setattr(gpaw_label, 'label', label)
        monkeypatch.setattr(gpaw_label.Batch, 'check_setups', check_setups)
        (tmp_path / 'tried').write_text('')
        code = gpaw_label.main(tmp_path)
        tried = [int(line) for line in (tmp_path / 'tried').read_text().split()]
        return code, json.loads((tmp_path / 'status.json').read_text()), tried

    yield run
    for signum, handler in before.items():
        signal.signal(signum, handler)


def causes(status):
    return {frame['index']: frame['cause'] for frame in status['frames']}


def test_whole(batch, tmp_path):
    code, status, _ = batch([0.0] * 3, n_workers=2)
    assert (code, status['complete'], status['stopped_by']) == (0, True, None)
    with np.load(tmp_path / 'labels.npz') as labels:
        assert labels['energies'].tolist() == [-1.0, -2.0, -3.0]


def test_at_the_walltime_what_is_done_stays_and_the_rest_is_left(batch):
    """What runs then is stopped; the next job does it, and not again what was done."""
    code, status, _ = batch([0.0, 0.0, 60.0], walltime_s=3.0, margin_s=1.5, n_workers=3)
    assert (code, status['complete'], status['stopped_by']) == (2, False, 'walltime')
    assert sorted(causes(status)) == [0, 1]
    code, status, tried = batch([0.0, 0.0, 0.0])
    assert (code, status['complete'], tried) == (0, True, [2])


def test_what_cannot_end_in_time_is_not_begun(batch):
    """By the pace of the first; but a job of its own tries at least one, or it would never be done."""
    code, status, tried = batch([0.8] * 3, walltime_s=1.5)
    assert (code, status['stopped_by'], len(tried)) == (2, 'walltime', 1)
    code, status, tried = batch([0.0] * 3, walltime_s=0.5)
    assert code == 0, 'the pace of the first job would not have let it begin'
    assert tried == [2, 1]


def test_a_frame_that_takes_too_long_is_stopped_and_told(batch):
    code, status, _ = batch([0.0, 60.0, 0.0], max_frame_s=1.0)
    assert (code, status['complete']) == (0, True)
    assert 'max_frame_s' in causes(status)[1]
    assert causes(status)[0] == causes(status)[2] == ''


def test_a_frame_that_kills_its_process_is_told_and_comes_last_the_next_time(batch):
    code, status, _ = batch([-1.0, 0.0, 60.0], walltime_s=3.0)
    assert code == 2
    assert 'signal 9' in causes(status)[0]
    code, status, tried = batch([0.0, 0.0, 0.0])
    assert (code, status['complete'], tried) == (0, True, [2, 0])


def test_records_of_other_settings_do_not_count(batch):
    batch([0.0] * 2)
    _, _, tried = batch([0.0] * 2, max_frame_s=9.0)
    assert tried == []
    _, _, tried = batch([0.0] * 2, cutoff_eV=400.0)
    assert sorted(tried) == [0, 1]
