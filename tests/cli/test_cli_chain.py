"""Commands that read a whole chain: what frames and potentials are, where they came from, and its stages."""

from __future__ import annotations

import pytest
from aiida.orm import CalcJobNode, Dict, QueryBuilder, WorkChainNode
from trees import code, localhost, process, quickstart, some_frames

from aiida_liheal.cli.watch import Watcher
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.structures.frames import Frames


@pytest.fixture(scope='module')
def whole_chain(aiida_profile):
    """The root of a finished quickstart, and its labelled shard."""
    return quickstart(localhost(), some_frames())


def test_info(invoke, whole_chain):
    root, shard = whole_chain
    status, output = invoke('data', 'info', shard.pk)
    assert status == 0
    words = dict(line.split('  ', 1) for line in output.splitlines() if '  ' in line)
    words = {key.strip(): value.strip() for key, value in words.items()}
    assert words['frames'] == '2'
    assert words['atoms a frame'] == '2 to 4'
    assert words['energy'].endswith('eV/atom')
    assert words['made by'].startswith('GpawCalculation<')
    # the newest is the chain's; other tests leave potentials of other kinds in the session's profile
    query = QueryBuilder().append(PotentialData, filters={'label': ''})
    potential = query.order_by({PotentialData: {'id': 'desc'}}).first(flat=True)
    status, output = invoke('data', 'info', potential.pk)
    assert status == 0
    assert 'deepmd' in output
    status, output = invoke('data', 'info', root.pk)
    assert status == 1
    assert 'needed is FramesData or PotentialData' in output


def test_trace_of_a_frame(invoke, whole_chain):
    """A frame leads to the job that labelled it, its settings and version, the frame before, and to the trainings."""
    _, shard = whole_chain
    status, output = invoke('data', 'trace', shard.pk, '--index', 0)
    assert status == 0
    assert 'labelled by GpawCalculation<' in output
    assert 'cutoff_eV = 340.0' in output
    assert 'gpaw 99.1.0' in output
    # the job gave its frames in the reverse order
    assert 'from frame 1 of FramesData<' in output
    assert 'made by make_structures<' in output
    trainings = [line for line in output.splitlines() if line.startswith('taken by DpTrainCalculation<')]
    assert len(trainings) == 2
    # one of the two frames is held out, the same one by both members
    parts = {line.split(': ')[1].split(' (')[0] for line in trainings}
    assert len(parts) == 1
    _, other = invoke('data', 'trace', shard.pk, '--index', 1)
    others = {line.split(': ')[1].split(' (')[0] for line in other.splitlines() if line.startswith('taken by')}
    assert parts | others == {'trained on', 'held out'}


def test_trace_of_a_deposition(invoke, whole_chain):
    """Which labels was the potential of this deposition trained on."""
    root, shard = whole_chain
    deposit = next(child for child in root.called if child.process_label == 'DepositWorkChain')
    status, output = invoke('data', 'trace', deposit.pk)
    assert status == 0
    assert output.count(f'on FramesData<{shard.pk}>: 2 labelled frames, bulk, labelled by GpawCalculation<') == 2
    assert 'builtin li m0' in output


@pytest.mark.parametrize('index', [-1, 2])
def test_trace_of_a_frame_that_is_not_there(invoke, whole_chain, index):
    status, output = invoke('data', 'trace', whole_chain[1].pk, '--index', index)
    assert status == 1
    assert 'frames 0 to 1' in output


def test_watcher_tells_the_stages(whole_chain):
    """Stages of a finished chain, with what each did; processes of others do not count."""
    root, _ = whole_chain
    process(WorkChainNode, 'TrainWorkChain', 'liheal.train', state='waiting')
    stages = {stage.name: stage for stage in Watcher(root.pk, 2).look()}
    assert list(stages) == [
        'label, round 1', 'train, round 1', 'explore, round 1',
        'label, round 2', 'train, round 2', 'explore, round 2', 'deposit', 'heal',
    ]  # fmt: skip
    assert [stage.state for stage in stages.values()] == ['done'] * 3 + ['not needed'] * 3 + ['done'] * 2
    assert stages['label, round 1'].count == '2/2 frames'
    assert stages['train, round 1'].count == '200/200 steps'
    assert stages['heal'].count == '2000/2000 steps'
    assert stages['heal'].seconds is not None


@pytest.mark.parametrize(
    ('job', 'files'),
    [
        ('GpawCalculation', {'labels/frame_00000.npz': ''}),
        ('VaspBatchCalculation', {'done/00000.json': '{}', 'done/00000.OUTCAR.gz': ''}),
        ('AseCalculation', {'status.json': '{"frames": [{}]}'}),
    ],
)
def test_watcher_counts_the_frames_of_any_engine(aiida_profile_clean, tmp_path, job, files):
    """What running jobs of each engine have done so far; two batches count together."""
    computer, all_frames = localhost(), FramesData(Frames.concatenate([some_frames()] * 2))
    root = process(WorkChainNode, 'QuickstartWorkChain', 'liheal.quickstart', state='waiting')
    verb = process(WorkChainNode, 'LabelWorkChain', 'liheal.label', root, 'label_0', {'frames': all_frames}, 'waiting')
    for number, state in enumerate(('finished', 'waiting')):
        inputs = {'code': code(computer), 'frames': FramesData(some_frames()), 'settings': Dict({})}
        node = process(CalcJobNode, job, 'liheal.x', verb, f'b{number:03d}', inputs, state)
        node.set_remote_workdir(str(tmp_path))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    stage = Watcher(root.pk, 1).look()[0]
    assert (stage.name, stage.count) == ('label, round 1', '3/4 frames')
