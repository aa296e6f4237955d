"""The verb `learn`: how a round is judged, how the four ends are told apart, and what is refused at the start."""

import pytest
from aiida.common import LinkType
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.orm import Bool, Dict, Int, Str, WorkChainNode
from plumpy import ProcessState

from aiida_liheal.data.frames import FramesData
from aiida_liheal.sampling.convergence import RoundOutcome
from aiida_liheal.structures.bcc import bcc_bulk, bcc_slab
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.learn import LearnWorkChain, judge, round_seed, summarise_rounds

CODES = LearnWorkChain.exit_codes


def seen(accurate, candidate, failed, missing=0):
    return Dict({'n_accurate': accurate, 'n_candidate': candidate, 'n_failed': failed, 'n_missing': missing})


def shard(*images, domain='bulk'):
    return FramesData(Frames.from_atoms(images or [bcc_bulk(size=(1, 1, 1))]), domain=domain)


def learning_inputs(codes, **changes):
    """Inputs as the protocol has them, for one system to label and to explore."""
    builder = LearnWorkChain.get_builder_from_protocol(
        codes, {'bulk': shard()}, to_label={'bulk': shard()}, protocol='fast'
    )
    inputs = builder._inputs(prune=True)
    for path, value in changes.items():
        *parents, name = path.split('__')
        target = inputs
        for parent in parents:
            target = target[parent]
        if value is None:
            target.pop(name, None)
        else:
            target[name] = value
    return inputs


@pytest.fixture
def learning(codes):
    """The work chain at its start."""
    process = instantiate_process(get_manager().get_runner(), LearnWorkChain, **learning_inputs(codes))
    process.setup()
    return process


@pytest.fixture
def child():
    """A work chain that ended, with its outputs; those named `a__b` are in the namespace a."""

    def make(exit_status=0, **outputs):
        node = WorkChainNode(process_type='aiida.workflows:liheal.explore')
        node.set_process_label('Child')
        node.set_process_state(ProcessState.FINISHED)
        node.set_exit_status(exit_status)
        node.set_exit_message('told by a test' if exit_status else '')
        node.store()
        for label, value in outputs.items():
            value.store()
            value.base.links.add_incoming(node, link_type=LinkType.RETURN, link_label=label)
        return node

    return make


@pytest.mark.parametrize(
    ('counts', 'number', 'outcome'),
    [
        ((95, 4, 1), 0, RoundOutcome.CONVERGED),
        ((50, 45, 5), 0, RoundOutcome.GO_ON),
        ((50, 45, 5), 1, RoundOutcome.LAST_ROUND),
        ((80, 0, 20), 0, RoundOutcome.NOTHING_TO_CHOOSE),
        ((10, 10, 80), 0, RoundOutcome.EXPLODED),
        # frames that were never reached are as bad as lost ones
        ((10, 10, 0, 80), 0, RoundOutcome.EXPLODED),
        ((0, 0, 0), 0, RoundOutcome.EXPLODED),
        # a converged committee is converged in the last round too
        ((99, 1, 0), 1, RoundOutcome.CONVERGED),
    ],
)
def test_judgement(counts, number, outcome):
    judgement = judge(seen(*counts), Int(number), Int(2), Dict({})).get_dict()
    assert judgement == {'round': number, 'outcome': outcome.value}


def test_judgement_by_other_shares():
    strict = Dict({'converged_accurate_share': 1.0})
    assert judge(seen(99, 1, 0), Int(0), Int(2), strict)['outcome'] == RoundOutcome.GO_ON.value


@pytest.mark.parametrize(
    ('counts', 'number', 'expected', 'says'),
    [
        ((99, 1, 0), 0, None, ''),
        ((50, 45, 5), 1, 'STOPPED_AT_LAST_ROUND', 'the last of 2 rounds; raise n_rounds'),
        ((80, 0, 20), 0, 'NOTHING_LEFT_TO_CHOOSE', 'move the trust levels'),
        ((10, 10, 80), 0, 'EXPLORATION_EXPLODED', 'explore colder or shorter'),
    ],
)
def test_the_four_ends_are_told_apart(learning, child, tiny_committee, counts, number, expected, says):
    """By exit code, by a message that says what to do, and in the summary; the committee is there in each."""
    committee = {name: node.store() for name, node in tiny_committee.items()}
    learning.ctx.number = number
    learning.ctx.committee = committee
    learning.ctx.exploration = child(summary=seen(*counts))
    assert learning.inspect_explore() is None
    assert not learning.goes_on()
    code = learning.results()
    assert (code.status if code else 0) == (CODES[expected].status if expected else 0)
    if code:
        assert 500 < code.status < 600
        assert says in code.message
        assert '{' not in code.message
    assert learning.outputs['potentials'] == committee
    outcome = learning.outputs['summary']['outcome']
    assert outcome == judge(seen(*counts), Int(number), Int(2), Dict({}))['outcome']


def test_ends_have_codes_of_their_own():
    names = ('STOPPED_AT_LAST_ROUND', 'NOTHING_LEFT_TO_CHOOSE', 'EXPLORATION_EXPLODED')
    assert len({CODES[name].status for name in names}) == 3


def test_another_round_labels_what_was_chosen_and_goes_on_training(learning, child, tiny_committee):
    chosen = shard(bcc_bulk())
    learning.ctx.committee = learning.ctx.potentials = tiny_committee
    learning.ctx.exploration = child(summary=seen(50, 45, 5), candidates__bulk=chosen)
    learning.inspect_explore()
    assert learning.goes_on()
    assert learning.ctx.number == 1
    assert learning.ctx.to_label['bulk'].uuid == chosen.uuid


@pytest.mark.parametrize('go_on', [True, False])
def test_each_round_from_scratch_if_asked(codes, child, tiny_committee, go_on):
    inputs = learning_inputs(codes, go_on_training=Bool(go_on))
    process = instantiate_process(get_manager().get_runner(), LearnWorkChain, **inputs)
    process.setup()
    outputs = {f'potentials__{name}': node for name, node in tiny_committee.items()}
    process.ctx.training = child(summary=Dict({'n_train': 3}), **outputs)
    assert process.inspect_train() is None
    assert {name: node.uuid for name, node in process.ctx.committee.items()} == {
        name: node.uuid for name, node in tiny_committee.items()
    }
    assert sorted(process.ctx.potentials) == (['m0', 'm1'] if go_on else [])


def test_labels_add_up_over_rounds(learning, child, labelled_shards):
    """A shard that was labelled is an output, and part of every training after it."""
    learning.ctx.labels_0 = {
        'bulk': child(summary=Dict({'n_made': 9, 'n_dropped': 1}), frames__b000=labelled_shards['bulk'])
    }
    assert learning.inspect_label() is None
    assert list(learning.ctx.shards) == ['r0_bulk_b000']
    assert learning.outputs['frames']['r0_bulk_b000'].uuid == labelled_shards['bulk'].uuid


@pytest.mark.parametrize(
    ('step', 'code'),
    [('label', 'ERROR_LABEL_FAILED'), ('train', 'ERROR_TRAIN_FAILED'), ('explore', 'ERROR_EXPLORE_FAILED')],
)
def test_a_step_that_failed_ends_the_rounds(learning, child, tiny_committee, step, code):
    """What there is by then is kept: the last committee and the summary of the rounds."""
    learning.ctx.number = 1
    learning.ctx.committee = {name: node.store() for name, node in tiny_committee.items()}
    learning.ctx.records = {'r0_training': Dict({'n_train': 3}).store()}
    failed = child(310)
    learning.ctx.update({'labels_1': {'bulk': failed}, 'training': failed, 'exploration': failed})
    result = getattr(learning, f'inspect_{step}')()
    assert result.status == CODES[code].status
    assert f'in round 1: Child<{failed.pk}>: told by a test' in result.message
    assert sorted(learning.outputs['potentials']) == ['m0', 'm1']
    assert learning.outputs['summary']['n_rounds'] == 1


def test_summary_of_rounds():
    result = summarise_rounds(
        r0_label_bulk=Dict({'n_made': 5, 'n_dropped': 1}),
        r0_label_surface=Dict({'n_made': 4, 'n_dropped': 0}),
        r0_training=Dict({'n_train': 8}),
        r0_exploration=seen(50, 45, 5),
        r0_judgement=Dict({'round': 0, 'outcome': 'go on'}),
        r10_label_bulk=Dict({'n_made': 2, 'n_dropped': 2}),
        r2_judgement=Dict({'round': 2, 'outcome': 'converged'}),
    ).get_dict()
    assert [entry['round'] for entry in result['rounds']] == [0, 2, 10]
    assert (result['n_rounds'], result['n_labels_made'], result['n_labels_dropped']) == (3, 11, 3)
    assert result['outcome'] == 'converged'
    assert result['rounds'][0]['labels'] == {
        'bulk': {'n_made': 5, 'n_dropped': 1},
        'surface': {'n_made': 4, 'n_dropped': 0},
    }
    assert result['rounds'][0]['training'] == {'n_train': 8}


def test_no_two_steps_share_a_seed():
    seeds = {round_seed(Int(1), Str(verb), Int(n)).value for verb in ('train', 'explore') for n in (0, 1)}
    assert len(seeds) == 4


def test_learning_that_makes_no_sense_is_refused_at_the_start(
    refusal, codes, li_frames, meam_potential, tiny_committee
):
    """Also what only a later step would stumble on, after hours of labels."""

    def message(**changes):
        return refusal(LearnWorkChain, **learning_inputs(codes, **changes))

    assert 'neither frames nor to_label given' in message(to_label=None)
    assert 'frames: ' in message(frames={'new': FramesData(li_frames)})
    assert 'no energies and forces' in message(frames={'new': FramesData(li_frames)})
    close = bcc_bulk(size=(1, 1, 1))
    close.positions[1] = [0.3, 0, 0]
    overlapping = message(to_label={'bulk': shard(close)})
    assert 'to_label.bulk: ' in overlapping
    assert '0.300 Å' in overlapping
    assert 'train.n_members is 1; a committee that can disagree needs 2' in message(train__n_members=Int(1))
    assert 'n_rounds is 0' in message(n_rounds=Int(0))
    assert 'seed is -1' in message(seed=Int(-1))
    assert 'converged_failed_share' in message(convergence=Dict({'converged_failed_share': 2.0}))
    assert "train: m0: start_from is a potential of kind 'meam'" in message(start_from={'m0': meam_potential})
    assert 'train: start_from names m10, but n_members is' in message(start_from={'m10': tiny_committee['m0']})
    weights = Dict({'n_steps': 5, 'domain_weights': {'wire': 1.0}})
    assert 'train: domain_weights names wire' in message(train__settings=weights)
    assert 'explore: structures and stage must name the same systems; wire' in message(
        explore__structures={'bulk': shard(), 'wire': shard()}
    )
    slab = bcc_slab('Li', 3.51, (2, 2), 4, 8.0)
    assert 'explore: bulk: run 0: pressure_bar = 1.0 bar: needs a cell that is periodic' in message(
        explore__structures={'bulk': shard(slab)}
    )
    assert 'the structure holds Na; the potential knows Li only' in message(
        explore__structures={'bulk': shard(bcc_bulk('Na'))}
    )
