"""The parser of GPAW labels on kept outputs of the runner: whole, interrupted, truncated, not converged, no GPAW."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from aiida.common import LinkType
from aiida.orm import CalcJobNode, Dict, FolderData

from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines.gpaw.calculation import GpawCalculation
from aiida_liheal.engines.gpaw.parser import GpawParser
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.labels import label_frames

FIXTURES = Path(__file__).parent / 'fixtures' / 'gpaw'
CODES = GpawCalculation.exit_codes


@pytest.fixture
def parse(aiida_localhost):
    """Parse a folder of outputs as a job's."""

    def run(folder: Path):
        node = CalcJobNode(computer=aiida_localhost, process_type='aiida.calculations:liheal.gpaw')
        node.set_options({'resources': {'num_machines': 1}})
        inputs = {
            'frames': FramesData(Frames.load(folder / 'frames.npz'), domain='bulk'),
            'settings': Dict(json.loads((folder / 'settings.json').read_text())),
        }
        for label, value in inputs.items():
            node.base.links.add_incoming(value.store(), link_type=LinkType.INPUT_CALC, link_label=label)
        node.store()
        retrieved = FolderData()
        for name in ('status.json', 'label.out', 'label.err'):
            if (folder / name).exists():
                retrieved.base.repository.put_object_from_file(str(folder / name), name)
        retrieved.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label='retrieved')
        retrieved.store()
        return GpawParser.parse_from_node(node, store_provenance=False, retrieved_temporary_folder=str(folder))

    return run


@pytest.fixture
def copied(tmp_path):
    """A case that a test may spoil."""

    def copy(case):
        return Path(shutil.copytree(FIXTURES / case, tmp_path / case))

    return copy


def test_whole(parse):
    outputs, process = parse(FIXTURES / 'whole')
    assert process.is_finished_ok, process.exit_message
    shard = outputs['frames']
    assert shard.is_labelled
    assert shard.domain == 'bulk'
    frames = shard.get_frames()
    given = Frames.load(FIXTURES / 'whole' / 'frames.npz')
    assert np.array_equal(frames.positions, given.positions)
    assert frames.extra['source_index'].tolist() == [0, 1, 2]
    with np.load(FIXTURES / 'whole' / 'labels.npz') as labels:
        assert np.array_equal(frames.energies, labels['energies'])
        assert np.array_equal(frames.forces, labels['forces'])
        assert np.array_equal(frames.virials, labels['virials'])
    # no net force on any frame, and the virial is symmetric
    assert np.abs(frames.forces.reshape(3, 2, 3).sum(axis=1)).max() < 1e-3
    assert np.abs(frames.virials - frames.virials.transpose(0, 2, 1)).max() < 1e-8
    summary = outputs['summary'].get_dict()
    assert (summary['n_given'], summary['n_made'], summary['n_dropped'], summary['n_not_tried']) == (3, 3, 0, 0)
    assert summary['versions']['gpaw'].startswith('26.')
    assert summary['seconds_per_frame'] > 0
    # numbers of single frames are arrays of the shard: in the database they would grow with the frames
    assert frames.extra['kpoint_mesh'].tolist() == [[2, 2, 2]] * 3
    assert float(frames.extra['seconds'].mean()) == pytest.approx(summary['seconds_per_frame'], rel=1e-6)
    assert (frames.extra['scf_steps'] > 0).all()
    assert 'frames' not in summary
    shard.store()


def test_interrupted_keeps_what_is_finished(parse):
    outputs, process = parse(FIXTURES / 'interrupted')
    assert process.exit_status == CODES.ERROR_INTERRUPTED.status
    assert 'after 1 of 3 frames' in process.exit_message
    assert outputs['frames'].get_frames().extra['source_index'].tolist() == [0]
    assert outputs['summary'].get_dict()['n_not_tried'] == 2


def test_not_converged_is_recorded_and_left_out(parse):
    outputs, process = parse(FIXTURES / 'not_converged')
    assert process.exit_status == CODES.ERROR_NOTHING_CONVERGED.status
    assert 'not self-consistent after 2 steps' in process.exit_message
    assert 'frames' not in outputs
    summary = outputs['summary'].get_dict()
    assert summary['n_dropped'] == 3
    assert [dropped['index'] for dropped in summary['dropped']] == [0, 1, 2]
    assert all('max_scf_steps' in dropped['cause'] for dropped in summary['dropped'])


@pytest.mark.parametrize(('n_dropped', 'is_valid'), [(0, True), (1, False)])
def test_a_batch_that_dropped_frames_is_no_cache(aiida_localhost, n_dropped, is_valid):
    """Why one was dropped, such as too little memory, may be gone the next time."""
    node = CalcJobNode(computer=aiida_localhost, process_type='aiida.calculations:liheal.gpaw')
    node.set_options({'resources': {'num_machines': 1}})
    node.store()
    node.set_exit_status(0)
    node.set_process_state('finished')
    summary = Dict({'n_dropped': n_dropped})
    summary.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label='summary')
    summary.store()
    node.seal()
    assert node.base.caching.is_valid_cache is is_valid


def test_gpaw_missing(parse):
    _, process = parse(FIXTURES / 'gpaw_missing')
    assert process.exit_status == CODES.ERROR_GPAW_MISSING.status
    assert 'cannot import gpaw' in process.exit_message


@pytest.mark.parametrize('said', ['', 'python3: command not found\n'])
def test_killed_before_it_began(parse, copied, said):
    """It is interrupted, not failed, and nothing of another job is taken for its own; unless something was said."""
    folder = copied('whole')
    content = {'has_begun': False, 'error': None, 'stopped_by': None, 'wall_s': 0.0, 'frames': []}
    (folder / 'status.json').write_text(json.dumps(content))
    (folder / 'label.err').write_text(said)
    outputs, process = parse(folder)
    assert 'frames' not in outputs
    if said:
        assert process.exit_status == CODES.ERROR_NO_OUTPUT.status
        assert said.strip() in process.exit_message
    else:
        assert process.exit_status == CODES.ERROR_INTERRUPTED.status
        assert 'after 0 of 3 frames (it was killed)' in process.exit_message
        assert outputs['summary'].get_dict()['n_not_tried'] == 3


def test_truncated_status(parse, copied):
    """A status that is no JSON gives an exit code with the last line of standard error, and no outputs."""
    folder = copied('whole')
    content = (folder / 'status.json').read_text()
    (folder / 'status.json').write_text(content[: len(content) // 2])
    (folder / 'label.err').write_text('Traceback\nMemoryError: no space\n\n')
    outputs, process = parse(folder)
    assert process.exit_status == CODES.ERROR_NO_OUTPUT.status
    assert 'MemoryError: no space' in process.exit_message
    assert not outputs


@pytest.mark.parametrize('left', [0.0, 0.5, None])
def test_truncated_labels(parse, copied, left):
    """Labels that are empty, cut or missing give an exit code, and no counts that no labels stand for."""
    folder = copied('whole')
    path = folder / 'labels.npz'
    if left is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    outputs, process = parse(folder)
    assert process.exit_status == CODES.ERROR_NO_OUTPUT.status
    assert 'no readable labels' in process.exit_message
    assert not outputs


def test_pickled_labels_are_refused(parse, copied):
    """An npz that holds Python objects is never unpickled."""
    folder = copied('whole')
    with np.load(folder / 'labels.npz') as archive:
        arrays = dict(archive)
    arrays['energies'] = np.array([{'a': 1}, None, 3], dtype=object)
    np.savez(folder / 'labels.npz', **arrays)
    outputs, process = parse(folder)
    assert process.exit_status == CODES.ERROR_NO_OUTPUT.status
    assert 'frames' not in outputs


def test_labels_of_other_frames_are_refused():
    """Labels that do not fit the frames, in index or in number of atoms, are not attached to them."""
    given = Frames.load(FIXTURES / 'whole' / 'frames.npz')
    with np.load(FIXTURES / 'whole' / 'labels.npz') as archive:
        labels = dict(archive)
    with pytest.raises(ValueError, match='given 2 frames'):
        label_frames(given.select([0, 1]), labels)
    with pytest.raises(ValueError, match='forces has shape'):
        label_frames(given, {**labels, 'forces': labels['forces'][:-1]})
    spoiled = labels['energies'].copy()
    spoiled[1] = np.nan
    with pytest.raises(ValueError, match='not finite'):
        label_frames(given, {**labels, 'energies': spoiled})
