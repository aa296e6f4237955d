"""The GPAW job: what it refuses, what it writes, and its runner on real, tiny cells."""

import json
import subprocess
import sys
from importlib.resources import files
from importlib.util import find_spec

import numpy as np
import pytest
from aiida.common.exceptions import InputValidationError
from aiida.common.folders import SandboxFolder
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.orm import Dict, InstalledCode
from ase import Atoms
from ase.build import bcc100, bulk

from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines.gpaw.calculation import GpawCalculation, GpawSettings
from aiida_liheal.runners.gpaw_label import fingerprint, kpoint_mesh, label, vacuum_gap
from aiida_liheal.structures.frames import Frames

needs_gpaw = pytest.mark.skipif(find_spec('gpaw') is None, reason='GPAW is not installed (extra `engines`)')

#: Cheap: a cut-off and a mesh that are not converged.
COARSE = {'cutoff_eV': 200.0, 'kpoint_spacing_per_A': 0.5, 'n_workers': 2}


@pytest.fixture
def python_code(aiida_localhost):
    return InstalledCode(
        label='python',
        computer=aiida_localhost,
        filepath_executable=sys.executable,
        default_calc_job_plugin='liheal.gpaw',
    ).store()


@pytest.fixture
def builder(python_code, li_frames):
    builder = GpawCalculation.get_builder()
    builder.code = python_code
    builder.frames = FramesData(li_frames, domain='bulk')
    builder.settings = Dict(COARSE)
    return builder


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'cutoff_eV': -340.0}, 'cutoff_eV'),
        ({'cutoff_eV': 340.0, 'kpoint_spacing_per_A': 0}, 'kpoint_spacing_per_A'),
        ({'xc': 'B3LYP'}, 'B3LYP'),
        ({'cutoff': 340.0}, 'cutoff'),
        ({'n_workers': 0}, 'n_workers'),
    ],
)
def test_settings_out_of_range_are_refused(builder, settings, message):
    """A setting outside its limits or unknown is named before anything is submitted."""
    builder.settings = Dict(settings)
    with pytest.raises((InputValidationError, ValueError), match=message):
        run_get_node(builder)


def refused(builder, images):
    builder.frames = FramesData(Frames.from_atoms(images))
    with pytest.raises((InputValidationError, ValueError)) as caught:
        run_get_node(builder)
    return str(caught.value)


def test_overlapping_atoms_are_refused(builder):
    """The message names the frame, the atoms, their distance and what is allowed."""
    good = bulk('Li', 'bcc', a=3.44, cubic=True)
    bad = good.copy()
    bad.positions[1] = bad.positions[0] + [0.5, 0.0, 0.0]
    message = refused(builder, [good, bad])
    for part in ('frame 1', 'atom 0', '0.500 Å', '1.2 Å'):
        assert part in message


def test_open_cell_without_vacuum_is_refused(builder):
    """Plane waves repeat the cell: a direction that is not periodic needs vacuum."""
    cell = bulk('Li', 'bcc', a=3.44, cubic=True)
    cell.pbc = (True, True, False)
    message = refused(builder, [cell])
    for part in ('frame 0', 'along c', '1.72 Å', '7.0 Å'):
        assert part in message


def test_empty_shard_is_refused(builder, li_frames):
    builder.frames = FramesData(li_frames.select([]))
    with pytest.raises((InputValidationError, ValueError), match='no frames'):
        run_get_node(builder)


def test_mesh_follows_the_cell():
    """At one spacing, a cell twice as long gets half the points; vacuum gets one."""
    cell = bulk('Li', 'bcc', a=3.44, cubic=True)
    assert kpoint_mesh(cell, 0.16, 7.0) == (12, 12, 12)
    assert kpoint_mesh(cell * (2, 2, 4), 0.16, 7.0) == (6, 6, 3)
    slab = bcc100('Li', (2, 2, 2), a=3.44, vacuum=4.0)
    for pbc in ((True, True, True), (True, True, False)):
        slab.pbc = pbc
        assert kpoint_mesh(slab, 0.16, 7.0) == (6, 6, 1)
    # the largest distance of neighbouring points in 1/Å is what was asked for, or finer
    lengths = 2 * np.pi * np.linalg.norm(slab.cell.reciprocal(), axis=1)
    assert (lengths[:2] / 6 <= 0.16).all()


def test_vacuum_gap_of_a_slanted_cell():
    """The gap is measured along the normal of the layers, not along the cell vector, and across the edge."""
    atoms = Atoms('Li2', positions=[[0, 0, 9.0], [0, 0, 1.0]], cell=[[5, 0, 0], [0, 5, 0], [3, 0, 10]], pbc=True)
    assert vacuum_gap(atoms, 2) == pytest.approx(8.0)
    assert vacuum_gap(Atoms('Li', cell=[3, 4, 5], pbc=True), 1) == pytest.approx(4.0)


def test_fingerprint_follows_structure_and_settings():
    """Records are taken over for the same structure and settings only; the number of workers changes nothing."""
    settings = GpawSettings().model_dump()
    cell = bulk('Li', 'bcc', a=3.44, cubic=True)
    same = fingerprint(cell, settings)
    assert fingerprint(cell.copy(), {**settings, 'n_workers': 7}) == same
    assert fingerprint(cell, {**settings, 'margin_s': 7.0, 'max_frame_s': 7.0}) == same
    assert fingerprint(cell, {**settings, 'cutoff_eV': 341.0}) != same
    assert fingerprint(cell, settings, {'Li': {'md5': 'other'}}) != same
    moved = cell.copy()
    moved.positions[0, 0] += 1e-9
    assert fingerprint(moved, settings) != same


def test_files_of_the_job(builder, tmp_path):
    """The job gets the frames, all settings with their defaults, and the runner; and no shell text from the user."""
    folder = SandboxFolder(tmp_path)
    calcinfo = instantiate_process(get_manager().get_runner(), builder).prepare_for_submission(folder)
    assert sorted(folder.get_content_list()) == [
        'frames.npz',
        'gpaw_label.py',
        'job.json',
        'settings.json',
        'status.json',
    ]
    with folder.open('settings.json') as handle:
        assert json.load(handle) == GpawSettings(**COARSE).model_dump()
    with folder.open('frames.npz', 'rb') as handle:
        written = Frames.load(handle)
    assert np.array_equal(written.positions, builder.frames.get_frames().positions)
    assert calcinfo.codes_info[0].cmdline_params == ['gpaw_label.py']
    assert calcinfo.provenance_exclude_list == ['status.json', 'frames.npz']


def test_mpirun_is_refused(builder):
    """It would start the batch several times in one folder."""
    builder.metadata.options.withmpi = True
    with pytest.raises((InputValidationError, ValueError), match='withmpi is True'):
        run_get_node(builder)


def test_runner_without_gpaw_says_so(tmp_path, li_frames):
    """Where GPAW is missing, the status says it and nothing is tried."""
    li_frames.save(tmp_path / 'frames.npz')
    (tmp_path / 'settings.json').write_text(json.dumps(GpawSettings().model_dump()))
    (tmp_path / 'job.json').write_text('{"walltime_s": null}')
    runner = files('aiida_liheal.runners') / 'gpaw_label.py'
    code = f"import sys, runpy; sys.modules['gpaw'] = None; runpy.run_path({str(runner)!r}, run_name='__main__')"
    run = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    status = json.loads((tmp_path / 'status.json').read_text())
    assert status['error']['kind'] == 'gpaw_missing'
    assert not status['complete']
    assert status['frames'] == []


@needs_gpaw
@pytest.mark.engine
def test_forces_and_virial_are_gradients_of_the_energy():
    """By central differences: F = -dE/dx, and the virial -dE/dstrain, which compression makes positive."""
    settings = GpawSettings(
        cutoff_eV=300.0,
        # 4x4x4: on 3x3x3 Methfessel-Paxton occupations of this cell have two Fermi levels 1.1 eV apart, and the energy
        # jumps by 4 meV from one to the other
        kpoint_spacing_per_A=0.55,
        eigenstates_tolerance_eV2=1e-8,
        density_tolerance=1e-6,
    ).model_dump()
    cell = bulk('Li', 'bcc', a=3.1, cubic=True)  # well below 3.44 Å
    cell.positions[1] += [0.2, 0.1, 0.0]
    at_rest = label(cell, settings)
    assert at_rest['status'] == 'converged'
    assert np.trace(at_rest['virial']) > 0

    energies = []
    for step in (-0.01, 0.01):
        moved = cell.copy()
        moved.positions[1, 0] += step
        energies.append(label(moved, settings)['energy'])
    assert at_rest['forces'][1, 0] == pytest.approx(-(energies[1] - energies[0]) / 0.02, abs=2e-3)

    energies = []
    for strain in (-0.01, 0.01):
        strained = cell.copy()
        strained.set_cell(cell.cell.array @ np.diag([1 + strain, 1, 1]), scale_atoms=True)
        energies.append(label(strained, settings)['energy'])
    # at a fixed cut-off the basis changes with the cell; 0.03 eV is what 300 eV leaves of that
    assert at_rest['virial'][0, 0] == pytest.approx(-(energies[1] - energies[0]) / 0.02, abs=0.03)


@needs_gpaw
@pytest.mark.engine
def test_real_batch(builder):
    """A real job: labels with their source, domain kept, a summary a person can read."""
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    frames = outputs['frames'].get_frames()
    assert outputs['frames'].domain == 'bulk'
    assert frames.extra['source_index'].tolist() == [0, 1]
    assert frames.virials.shape == (2, 3, 3)
    # the second cell is the first one twice, on a mesh of the same points: 2x4x4 and 4x4x4
    assert frames.energies[1] / 4 == pytest.approx(frames.energies[0] / 2, abs=1e-3)
    assert np.abs(frames.forces).max() < 1e-3
    summary = outputs['summary'].get_dict()
    assert (summary['n_given'], summary['n_made'], summary['n_dropped']) == (2, 2, 0)
    assert summary['versions']['setups']['Li']['valence_electrons'] == 1
    assert summary['settings']['cutoff_eV'] == 200.0
