"""The verb `train`: seeds of the members, their common summary, what is refused, and how failures are dealt with."""

import numpy as np
import pytest
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.orm import ArrayData, Dict, Int, RemoteData, to_aiida_type

from aiida_liheal.calculations.dp_settings import architecture_of
from aiida_liheal.calculations.dp_train import DpTrainCalculation
from aiida_liheal.data.frames import FramesData
from aiida_liheal.workchains.train import (
    DpTrainBaseWorkChain,
    TrainWorkChain,
    member_settings,
    summarise_committee,
)

TINY = {
    'cutoff_A': 4.0,
    'smooth_A': 1.0,
    'max_neighbours': 40,
    'embedding': [2, 4],
    'axis': 2,
    'fitting': [6, 6],
    'n_steps': 20,
}
JOB_CODES = DpTrainCalculation.exit_codes


@pytest.fixture
def training(codes, labelled_shards):
    """Inputs of a committee, with changes to its settings."""

    def make(**changes):
        return {
            'dp': {'code': codes['dp']},
            'frames': labelled_shards,
            'settings': Dict({**TINY, **changes}),
            'seed': Int(1),
            'n_members': Int(2),
        }

    return make


@pytest.fixture
def base(training):
    """The work chain around one job, ready to look at what became of it."""
    inputs = training()
    dp = {**inputs['dp'], 'frames': inputs['frames'], 'settings': Dict({**TINY, 'seed': 1})}
    process = instantiate_process(get_manager().get_runner(), DpTrainBaseWorkChain, dp=dp)
    process.setup()
    process.ctx.iteration = 1
    process.node.base.extras.set(process._considered_handlers_extra, [[]])
    return process


@pytest.fixture
def trained(ended_job, aiida_localhost, tmp_path):
    """A job that trained, or tried to, in a folder with these files."""

    def make(exit_status, files=()):
        (tmp_path / 'job').mkdir(exist_ok=True)
        for name in files:
            (tmp_path / 'job' / name).touch()
        remote = RemoteData(remote_path=str(tmp_path / 'job'), computer=aiida_localhost)
        return ended_job('liheal.dp_train', outputs={'remote_folder': remote}, exit_status=exit_status)

    return make


def summary(domain='bulk', force=10.0, **more):
    errors = {'n_frames': 3, 'energy_rmse_meV_per_atom': 1.0, 'force_rmse_meV_per_A': force}
    return Dict({'n_train': 9, 'n_holdout': 3, 'n_steps': 20, 'training_s': 2.0, 'holdout': {domain: errors}, **more})


def test_members_differ_by_seed_only():
    settings = Dict(TINY)
    members = [member_settings(settings, Int(1), Int(number)).get_dict() for number in range(4)]
    assert len({member['seed'] for member in members}) == 4
    for member in members:
        assert {key: value for key, value in member.items() if key != 'seed'} == TINY
    assert member_settings(settings, Int(1), Int(2)).get_dict() == members[2]
    assert member_settings(settings, Int(2), Int(2)).get_dict()['seed'] != members[2]['seed']


def test_summary_of_a_committee():
    virial = summary(force=30.0, training_s=3.0)
    content = virial.get_dict()
    content['holdout']['bulk']['virial_rmse_meV_per_atom'] = 5.0
    result = summarise_committee(m0=summary(), m1=Dict(content), m2=summary('surface')).get_dict()
    assert (result['n_members'], result['n_train'], result['n_holdout'], result['n_steps']) == (3, 9, 3, 20)
    assert result['training_s'] == 7.0
    force = result['holdout']['bulk']['force_rmse_meV_per_A']
    assert force == {'members': [10.0, 30.0], 'mean': 20.0, 'worst': 30.0}
    assert result['holdout']['bulk']['virial_rmse_meV_per_atom']['members'] == [5.0]
    assert result['holdout']['surface']['n_frames'] == 3


def test_start_from_brings_its_architecture(codes, labelled_shards, tiny_committee):
    builder = TrainWorkChain.get_builder_from_protocol(
        codes['dp'], labelled_shards, start_from=tiny_committee, protocol='fast'
    )
    given = architecture_of(tiny_committee['m0'].training_input)
    settings = builder.settings.get_dict()
    assert {key: settings[key] for key in given} == given
    assert settings['n_steps'] == TrainWorkChain.get_protocol_inputs('fast')['settings']['n_steps']
    assert instantiate_process(get_manager().get_runner(), builder).inputs.start_from == tiny_committee


@pytest.mark.parametrize(
    ('changes', 'parts'),
    [
        ({'settings': {**TINY, 'seed': 3}}, ['seed: leave it out of the settings']),
        ({'settings': {**TINY, 'n_steps': -5}}, ['n_steps = -5']),
        ({'settings': {**TINY, 'domain_weights': {'slab': 2.0}}}, ['domain_weights names slab']),
        ({'seed': -1}, ['seed is -1; allowed is 0 or more']),
        ({'n_members': 0}, ['n_members is 0; allowed are 1 to 64']),
        ({'n_members': 65}, ['n_members is 65']),
        ({'max_at_once': 0}, ['max_at_once is 0; allowed is 1 or more']),
    ],
)
def test_inputs_out_of_range_are_refused(refusal, training, changes, parts):
    given = {name: to_aiida_type(value) for name, value in changes.items()}
    message = refusal(TrainWorkChain, **{**training(), **given})
    for part in parts:
        assert part in message


def test_no_frames_are_refused(refusal, training):
    assert 'no frames given' in refusal(TrainWorkChain, **{**training(), 'frames': {}})


def test_potentials_to_start_from_are_checked_before_any_is_trained(
    refusal, training, tiny_committee, meam_potential, li_frames
):
    """A committee with one member that does not fit, or that would not be trained, is refused as a whole."""
    message = refusal(TrainWorkChain, **training(), start_from={'m0': tiny_committee['m0'], 'm1': meam_potential})
    assert "m1: start_from is a potential of kind 'meam'" in message
    message = refusal(TrainWorkChain, **training(axis=3), start_from=tiny_committee)
    assert 'm0: start_from was trained with axis = 2, the settings say 3' in message
    message = refusal(TrainWorkChain, **training(), start_from={'best': tiny_committee['m0']})
    assert 'start_from.best: members are called m0, m1' in message
    message = refusal(TrainWorkChain, **{**training(), 'n_members': Int(1)}, start_from=tiny_committee)
    assert 'start_from names m1, but n_members is 1 (m0 to m0): give fewer potentials or raise n_members' in message
    inputs = {**training(), 'frames': {'new': FramesData(li_frames)}}
    assert "shard 'new' (2 frames) has no energies and forces" in refusal(TrainWorkChain, **inputs)


def test_interrupted_training_goes_on_from_its_checkpoint(base, trained):
    job = trained(JOB_CODES.ERROR_INTERRUPTED.status, ['checkpoint', 'model.ckpt.index'])
    report = base.go_on_from_checkpoint(job)
    assert report.do_break
    assert report.exit_code.status == 0
    assert base.ctx.inputs.parent_folder.uuid == job.outputs.remote_folder.uuid


def test_interrupted_before_its_first_checkpoint_begins_anew(base, trained):
    report = base.go_on_from_checkpoint(trained(JOB_CODES.ERROR_INTERRUPTED.status, ['lcurve.out']))
    assert report.exit_code.status == 0
    assert 'parent_folder' not in base.ctx.inputs


def test_other_failures_are_not_tried_again_and_told_as_they_are(base, trained):
    job = trained(JOB_CODES.ERROR_TRAINING_FAILED.status)
    assert base.go_on_from_checkpoint(job) is None
    base.ctx.children = [job]
    code = base.inspect_process()
    assert code.status == JOB_CODES.ERROR_TRAINING_FAILED.status
    assert f'liheal.dp_train<{job.pk}>: told by a test' in code.message
    assert not base.ctx.is_finished


def test_trainings_run_as_many_at_once_as_allowed(training):
    process = instantiate_process(
        get_manager().get_runner(), TrainWorkChain, **{**training(), 'n_members': Int(3), 'max_at_once': Int(2)}
    )
    process.setup()
    assert process.has_members_left()
    submitted = []
    process.submit = lambda _, **inputs: submitted.append(inputs) or process.node
    process.train_members()
    assert [inputs['metadata']['call_link_label'] for inputs in submitted] == ['m0', 'm1']
    assert process.ctx.left == ['m2']
    process.train_members()
    assert not process.has_members_left()
    seeds = [inputs['dp']['settings']['seed'] for inputs in submitted]
    assert len(set(seeds)) == 3


def test_members_that_finished_are_kept_when_another_failed(training, ended_job, tiny_committee):
    process = instantiate_process(get_manager().get_runner(), TrainWorkChain, **training())
    process.setup()
    curve = ArrayData(np.arange(3.0))
    finished = ended_job(
        'liheal.dp_train',
        outputs={'potential': tiny_committee['m0'], 'learning_curve': curve, 'summary': summary()},
        exit_status=0,
    )
    failed = ended_job('liheal.dp_train', exit_status=302)
    process.ctx.running = ['m0', 'm1']
    process.ctx.trainings = {'m0': finished, 'm1': failed}
    process.inspect_members()
    code = process.results()
    assert code.status == TrainWorkChain.exit_codes.ERROR_MEMBER_FAILED.status
    assert f'1 of 2 trainings failed: m1<{failed.pk}>: told by a test' in code.message
    assert list(process.outputs['potentials']) == ['m0']
    assert process.outputs['summary'].get_dict()['n_members'] == 1
