"""The ledger: each frame leads to its job or file and to its trainings, by the command and by the query of the docs."""

import re
from pathlib import Path

import numpy as np
import pytest
from aiida.orm import CalcFunctionNode, CalcJobNode, Dict, Node, QueryBuilder
from trees import give, labelled, localhost, process, some_frames

from aiida_liheal.calculations.dp_settings import DpTrainSettings
from aiida_liheal.data.frames import FramesData
from aiida_liheal.report.ledger import trace_frames
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


def test_the_query_of_the_docs(ledger):
    """What the page says gives what the command gives."""
    _, jobs, shards, trainings = ledger
    text = HOW_TO.read_text(encoding='utf-8')
    (block,) = [b for b in re.findall(r'```python\n(.*?)```', text, re.DOTALL) if 'labelled_by' in b]
    found = {}
    source = block.replace('load_node(1234), 3', f'load_node({shards[1].pk}), 2')
    assert source != block
    exec(source, found)  # noqa: S102  our own page
    (row,) = found['labelled_by']
    assert row[:3] == [jobs[1].pk, 'GpawCalculation', {'cutoff_eV': 340.0}]
    assert found['in_batch'] == trace_frames(shards[1], 2)['origin'][0]['from']['index'] == 0
    assert found['trainings'] == [[trainings[1].pk, 0]]
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
