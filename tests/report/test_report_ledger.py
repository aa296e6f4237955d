"""The ledger: each frame leads to its job or file and to its trainings, by the command and by the query of the docs."""

import re
from pathlib import Path

import numpy as np
import pytest
from aiida.orm import CalcFunctionNode, CalcJobNode, Dict, Node, QueryBuilder
from trees import give, labelled, localhost, process, some_frames

from aiida_liheal.calculations.dp_settings import DpTrainSettings
from aiida_liheal.data.frames import FramesData
from aiida_liheal.report.ledger import trace_frames, trace_in_words
from aiida_liheal.structures.frames import Frames

HOW_TO = Path(__file__).parents[2] / 'docs' / 'how-to.md'


def many(n):
    return Frames.concatenate([some_frames()] * (n // 2))


def label(given, order):
    """A finished job that labelled these frames and gave them in another order."""
    job = process(
        CalcJobNode, 'GpawCalculation', 'liheal.gpaw',
        inputs={'frames': given, 'settings': Dict({'cutoff_eV': 340.0})},
    )  # fmt: skip
    frames = labelled(given.get_frames()).select(order)
    frames.extra['source_index'] = np.array(order)
    shard = FramesData(frames, domain='bulk')
    give(job, frames=shard)
    return job, shard


def train(shard):
    settings = Dict(DpTrainSettings(seed=1, n_steps=10).model_dump(mode='json'))
    return process(
        CalcJobNode, 'DpTrainCalculation', 'liheal.dp_train', inputs={'frames__bulk': shard, 'settings': settings}
    )


@pytest.fixture
def ledger(aiida_profile_clean):
    """A shard of 8 frames that was labelled in two batches of 4, each trained on."""
    localhost()
    given = FramesData(many(8)).store()
    split = process(CalcFunctionNode, 'split_frames', 'split_frames', inputs={'frames': given})
    batches = {}
    for number in range(2):
        part = given.get_frames().select(range(4 * number, 4 * number + 4))
        part.extra['source_index'] = np.arange(4 * number, 4 * number + 4)
        batches[f'b{number:03d}'] = FramesData(part)
    give(split, **batches)
    jobs, shards = zip(*(label(batch, [3, 1, 0]) for batch in batches.values()), strict=True)
    return given, jobs, shards, [train(shard) for shard in shards]


def test_every_frame_leads_back_and_forth(ledger):
    """To the job, the index in its batch and the frame of the first shard; and to the training of its shard only."""
    given, jobs, shards, trainings = ledger
    for number, (job, shard, training) in enumerate(zip(jobs, shards, trainings, strict=True)):
        parts = []
        for index, in_batch in enumerate([3, 1, 0]):
            told = trace_frames(shard, index)
            first, second, last = told['origin']
            assert first['process']['pk'] == job.pk
            assert first['process']['settings'] == {'cutoff_eV': 340.0}
            assert first['from']['index'] == in_batch
            assert second['process']['label'] == 'split_frames'
            assert second['from'] == {'shard': given.pk, 'what': second['from']['what'], 'index': 4 * number + in_batch}
            assert last['imported'] == {'description': ''}
            (taken,) = told['trainings']
            assert taken['pk'] == training.pk
            parts.append(taken['is_held_out'])
        whole = trace_frames(shard)['trainings'][0]
        assert (whole['n_trained_on'], whole['n_held_out']) == (parts.count(False), parts.count(True))


def test_trainings_of_what_was_cut_from_a_shard(ledger):
    """A training that took a labelled part, cut by a function, is found through it; one of another part is not."""
    _, _, shards, trainings = ledger
    cut = process(CalcFunctionNode, 'choose', 'choose', inputs={'frames': shards[0]})
    part = shards[0].get_frames().select([2, 1])
    part.extra['source_index'] = np.array([2, 1])
    chosen = FramesData(part)
    give(cut, chosen=chosen)
    other = train(chosen)
    assert {taken['pk'] for taken in trace_frames(shards[0], 2)['trainings']} == {trainings[0].pk, other.pk}
    assert {taken['pk'] for taken in trace_frames(shards[0], 0)['trainings']} == {trainings[0].pk}


def leave_out(shard, index):
    """What the rules of quality make of a labelled shard: the rest of it, and the cause."""
    job = process(CalcFunctionNode, 'leave_out', 'leave_out', inputs={'frames': shard})
    kept = [number for number in range(len(shard)) if number != index]
    rest = shard.get_frames().select(kept)
    in_batch = int(shard.get_frames().extra['source_index'][index])
    rest.extra['source_index'] = np.array(kept)
    chosen = FramesData(rest)
    give(job, frames=chosen, excluded=Dict({'excluded': [{'index': in_batch, 'cause': 'largest force 99 eV/Å'}]}))
    return chosen


def test_what_a_rule_left_out(ledger):
    """A frame that was left out says by whom and why; those that stayed lead through the rule to their job."""
    _, jobs, shards, _ = ledger
    chosen = leave_out(shards[0], 1)
    (exclusion,) = trace_frames(shards[0], 1)['excluded']
    assert exclusion['cause'] == 'largest force 99 eV/Å'
    assert trace_frames(shards[0], 0)['excluded'] == []
    first, second = trace_frames(chosen, 1)['origin'][:2]
    assert not first['is_labelled']
    assert second['is_labelled']
    assert (second['process']['pk'], second['index'], second['from']['index']) == (jobs[0].pk, 2, 0)
    words = list(trace_in_words(trace_frames(chosen, 1)))
    assert any(line.strip().startswith('made by leave_out<') for line in words)
    assert any(line.strip().startswith('labelled by GpawCalculation<') for line in words)


def test_what_a_rule_left_out_of_the_frames_as_given(ledger):
    """Asked for the frame that was given, as it stood before it was labelled, the cause is told too."""
    given, jobs, shards, _ = ledger
    leave_out(shards[1], 2)  # frame 0 of its batch, 4 of what was given
    (exclusion,) = trace_frames(given, 4)['excluded']
    assert (exclusion['shard'], exclusion['index']) == (shards[1].pk, 2)
    words = list(trace_in_words(trace_frames(given, 4)))
    labelled_by = next(
        n for n, line in enumerate(words) if line.startswith(f'labelled by GpawCalculation<{jobs[1].pk}>')
    )
    assert words[labelled_by + 1].startswith('left out by leave_out<')
    assert words[labelled_by + 1].endswith(': largest force 99 eV/Å')
    for kept in (0, 5, 7):
        assert trace_frames(given, kept)['excluded'] == []
    (whole,) = trace_frames(given)['excluded']
    assert (whole['n_frames'], whole['causes']) == (1, ['largest force 99 eV/Å'])
    assert any(
        line.startswith('1 labelled frame left out by leave_out<') for line in trace_in_words(trace_frames(given))
    )


def test_frames_that_went_alone(aiida_profile_clean):
    """A function that collected single jobs names the one of the frame."""
    given = FramesData(many(4)).store()
    job = process(
        CalcFunctionNode,
        'collect_alone',
        'collect_alone',
        inputs={'frames': given, 'settings': Dict({'cutoff_eV': 380})},
    )
    frames = labelled(given.get_frames()).select([2, 3])
    frames.extra['source_index'] = np.array([2, 3])
    shard = FramesData(frames)
    give(job, frames=shard, summary=Dict({'jobs': {'2': 'uuid-two', '3': 'uuid-three'}, 'versions': {'vasp': '6.4.2'}}))
    told = trace_frames(shard, 1)
    assert told['origin'][0]['process']['job'] == 'uuid-three'
    assert '  its own job: uuid-three' in list(trace_in_words(told))
    assert 'labelled by collect_alone' in ' '.join(trace_in_words(told))


@pytest.mark.parametrize('through_a_rule', [False, True])
def test_the_query_of_the_docs(ledger, through_a_rule):
    """What the page says gives what the command gives, also where a function chose among the labels."""
    _, jobs, shards, trainings = ledger
    shard, index = (leave_out(shards[1], 0), 1) if through_a_rule else (shards[1], 2)
    text = HOW_TO.read_text(encoding='utf-8')
    (block,) = [b for b in re.findall(r'```python\n(.*?)```', text, re.DOTALL) if 'source_file' in b]
    found = {}
    source = block.replace('load_node(1234), 3', f'load_node({shard.pk}), {index}')
    assert source != block
    exec(source, found)  # noqa: S102  our own page
    assert found['job'].pk == jobs[1].pk
    labelled_by = next(step for step in trace_frames(shard, index)['origin'] if step['is_labelled'])
    assert found['place'] == labelled_by['from']['index'] == 0
    assert found['batch'].pk == labelled_by['from']['shard']
    assert found['trainings'] == ([] if through_a_rule else [[trainings[1].pk, 0]])
    assert found['imported_from'] is None


def test_nodes_grow_with_batches_not_with_frames(aiida_profile_clean):
    """Ten times the frames in as many batches are as many nodes."""
    localhost()
    counts = []
    for n_frames in (4, 40):
        before = QueryBuilder().append(Node).count()
        for _ in range(2):
            label(FramesData(many(n_frames)).store(), range(n_frames))
        counts.append(QueryBuilder().append(Node).count() - before)
    assert counts[0] == counts[1]


def test_frames_lead_forward_to_their_labels(ledger):
    """A frame without labels says who labelled it, or dropped it, and which training took it, batch by batch."""
    given, jobs, shards, trainings = ledger
    give(jobs[1], summary=Dict({'dropped': [{'index': 2, 'cause': 'not self-consistent'}]}))
    told = trace_frames(given, 5)
    assert [(label['pk'], label['shard'], label['index']) for label in told['labels']] == [
        (jobs[1].pk, shards[1].pk, 1)
    ]
    assert [(taken['pk'], taken['index']) for taken in told['trainings']] == [(trainings[1].pk, 1)]
    (dropped,) = trace_frames(given, 6)['labels']
    assert (dropped['pk'], dropped['cause']) == (jobs[1].pk, 'not self-consistent')
    words = list(trace_in_words(trace_frames(given, 6)))
    assert f'dropped by GpawCalculation<{jobs[1].pk}>: not self-consistent' in words
    assert 'no training took it' in words
    whole = trace_frames(given)
    assert [(label['n_frames'], label['n_dropped']) for label in whole['labels']] == [(3, 0), (3, 1)]
    assert [taken['pk'] for taken in whole['trainings']] == [training.pk for training in trainings]
    assert sum(taken['n_trained_on'] + taken['n_held_out'] for taken in whole['trainings']) == 6


def test_a_training_on_many_batches_is_told_once(ledger):
    given, _, shards, _ = ledger
    settings = Dict(DpTrainSettings(seed=3, n_steps=10).model_dump(mode='json'))
    inputs = {'frames__b000': shards[0], 'frames__b001': shards[1], 'settings': settings}
    job = process(CalcJobNode, 'DpTrainCalculation', 'liheal.dp_train', inputs=inputs)
    (line,) = [line for line in trace_in_words(trace_frames(given)) if f'DpTrainCalculation<{job.pk}>' in line]
    assert 'as b000 to b001, 2 shards: ' in line


def test_frames_found_in_md_lead_back_to_their_run(aiida_profile_clean):
    """From the label through the choice of candidates and the run that found the frame to where the run began."""
    localhost()
    starts = FramesData(many(2)).store()
    runs = {'kind': 'explore', 'runs': [{'structure': 1}, {'structure': 0}]}
    explored = process(
        CalcJobNode, 'LammpsCalculation', 'liheal.lammps', inputs={'structures': starts, 'settings': Dict(runs)}
    )
    found = many(4)
    found.extra.update(run=np.array([0, 0, 1, 1]), step=np.array([10, 20, 10, 30]), max_devi_f=np.full(4, 0.1))
    candidates = FramesData(found)
    give(explored, candidates=candidates)
    chosen = process(CalcFunctionNode, 'select_frames', 'select_frames', inputs={'candidates_bulk': candidates})
    given = FramesData(found.select([1, 2]))
    give(chosen, candidates__bulk=given)
    _, shard = label(given, [1, 0])
    steps = trace_frames(shard, 0)['origin']
    assert [step['index'] for step in steps] == [0, 1, 2, 0]
    assert [step['shard'] for step in steps] == [shard.pk, given.pk, candidates.pk, starts.pk]
    assert steps[2]['process']['pk'] == explored.pk
    assert steps[2]['found']['step'] == 10
    assert not steps[1]['is_labelled']


def test_frames_of_two_files_that_trainings_took(aiida_profile_clean):
    """Imported frames lead to their file, and from there to no job but to the trainings."""
    frames = labelled(many(4))
    frames.extra.update(source_file=np.array([0, 0, 1, 1]), source_index=np.array([4, 5, 0, 7]))
    sources = [
        {'file': name, 'format': 'outcar', 'sha256': name * 8, 'n_frames': 2} for name in ('a/OUTCAR', 'b/OUTCAR')
    ]
    shard = FramesData(frames, sources=sources).store()
    training = train(shard)
    told = trace_frames(shard, 3)
    assert told['origin'][0]['imported'] | {'description': ''} == {
        'description': '', 'file': 'b/OUTCAR', 'format': 'outcar', 'sha256': 'b/OUTCAR' * 8, 'index': 7,
    }  # fmt: skip
    assert [taken['pk'] for taken in told['trainings']] == [training.pk]
    assert told['labels'] == []
