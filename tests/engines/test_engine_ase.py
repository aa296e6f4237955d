"""Labels by calculators of ASE: numbers, causes, restarts, refusals."""

import json
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
from aiida.engine import run_get_node
from aiida.orm import Dict, InstalledCode
from ase.build import bulk
from ase.calculators.lj import LennardJones

from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines.ase.calculation import AseCalculation, AseSettings
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.label import LabelWorkChain

RUNNER = files('aiida_liheal.runners') / 'ase_label.py'
LJ = {'calculator': 'lj', 'parameters': {'sigma': 2.7, 'epsilon': 0.1, 'rc': 8.0}}


@pytest.fixture
def folder(tmp_path, cells):
    """A folder with three frames; call it with settings to label them."""
    Frames.from_atoms(cells(3)).save(tmp_path / 'frames.npz')

    def run(settings):
        (tmp_path / 'settings.json').write_text(json.dumps(AseSettings.read(settings).model_dump()))
        done = subprocess.run([sys.executable, str(RUNNER)], cwd=tmp_path, capture_output=True, text=True, check=False)
        return done, json.loads((tmp_path / 'status.json').read_text())

    return run


def test_through_the_verb(aiida_localhost, cells):
    """The numbers are those of the calculator; batches, rules and all else come from the verb."""
    code = InstalledCode(label='ase', computer=aiida_localhost, filepath_executable=sys.executable).store()
    images = cells(3)
    builder = LabelWorkChain.get_builder_from_protocol(
        code, FramesData(Frames.from_atoms(images), domain='bulk'), overrides={'ase': {'settings': LJ}}, engine='ase'
    )
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    frames = outputs['frames']['b000'].get_frames()
    atoms = images[2]
    atoms.calc = LennardJones(**LJ['parameters'])
    assert frames.energies[2] == pytest.approx(atoms.get_potential_energy())
    assert np.allclose(frames.forces[4:], atoms.get_forces())
    assert np.allclose(frames.virials[2], -atoms.get_volume() * atoms.get_stress(voigt=False))
    assert outputs['summary']['engine'] == 'ase'


def test_a_calculator_that_cannot_is_the_cause_of_each_frame(folder):
    """EMT knows no lithium."""
    done, status = folder({'calculator': 'emt'})
    assert done.returncode == 0
    assert status['complete']
    assert all('Li' in frame['cause'] for frame in status['frames'])


def test_a_calculator_that_cannot_be_made_ends_the_job(folder):
    done, status = folder({'calculator': 'tersoff'})
    assert done.returncode == 1
    assert 'parameters' in status['error']
    assert not status['complete']


def test_what_was_done_is_not_done_again(folder):
    folder(LJ)
    done, status = folder(LJ)
    assert '3 of 3 frames were labelled before' in done.stdout
    assert status['complete']
    other = {**LJ, 'parameters': {**LJ['parameters'], 'epsilon': 0.2}}
    done, _ = folder(other)
    assert 'before' not in done.stdout


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({}, 'calculator: missing'),
        ({'calculator': 'magic'}, 'no such calculator'),
        ({'calculator': 'lj', 'parameters': {'a': [1]}}, 'parameters'),
        ({'calculator': 'lj', 'parameters': {'sigmaa': 2.0}}, 'sigmaa: lj of ASE has no such keyword; it has epsilon'),
    ],
)
def test_refused_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        AseSettings.read(settings)


def test_overlapping_atoms_are_refused(cells):
    atoms = bulk('Li', 'bcc', a=3.44, cubic=True)
    atoms.positions[1] = [0.3, 0, 0]
    shard = FramesData(Frames.from_atoms([*cells(1), atoms]))
    assert 'frame 1' in AseCalculation.explain_batch(shard, Dict(LJ))


def test_what_the_scheduler_says_does_not_count_where_all_frames_were_tried(aiida_localhost, cells, monkeypatch):
    """Slurm says of a whole job that it ran out of memory if one frame of it did."""
    from aiida.schedulers.plugins.direct import DirectScheduler

    exit_code = AseCalculation.exit_codes.ERROR_SCHEDULER_OUT_OF_MEMORY
    monkeypatch.setattr(DirectScheduler, 'parse_output', lambda *_: exit_code)
    code = InstalledCode(label='ase', computer=aiida_localhost, filepath_executable=sys.executable).store()
    builder = LabelWorkChain.get_builder_from_protocol(
        code, FramesData(Frames.from_atoms(cells(1))), overrides={'ase': {'settings': LJ}}, engine='ase'
    )
    _, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
