"""The parsers of trainings and tests on kept outputs of DeePMD-kit: whole, interrupted, diverged, failed, cut off."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from aiida.orm import Dict

from aiida_liheal.calculations.dp_test import DpTestCalculation
from aiida_liheal.calculations.dp_train import DpTrainCalculation
from aiida_liheal.data.frames import FramesData
from aiida_liheal.parsers.dp_log import last_error, parse_learning_curve, parse_test_log, pool_errors

FIXTURES = Path(__file__).parent / 'fixtures'
TRAIN = FIXTURES / 'dp_train'
CODES = DpTrainCalculation.exit_codes
SETTINGS = json.loads((TRAIN / 'settings.json').read_text())


@pytest.fixture
def parse_train(parse_job, labelled_shards):
    """Parse a folder as that of a training on the kept shards."""

    def parse(folder, shards=None, **changes):
        inputs = {f'frames__{name}': shard for name, shard in (shards or labelled_shards).items()}
        inputs['settings'] = Dict({**SETTINGS, **changes})
        logs = [f'{step}.{end}' for step in ('train', 'freeze', 'compress', 'test') for end in ('out', 'err')]
        return parse_job(
            'liheal.dp_train',
            folder,
            inputs,
            ['lcurve.out', 'test.log', *logs],
            files={'input.json': folder / 'input.json'},
        )

    return parse


@pytest.fixture
def parse_test(parse_job, labelled_shards, tiny_committee):
    """Parse a folder as that of a test on the kept shards."""

    def parse(folder):
        inputs = {f'frames__{name}': shard for name, shard in labelled_shards.items()}
        inputs['potential'] = tiny_committee['m0']
        return parse_job('liheal.dp_test', folder, inputs, ['test.log', 'test.out', 'test.err'])

    return parse


@pytest.fixture
def copied(tmp_path):
    """A case that a test may spoil."""

    def copy(case):
        return Path(shutil.copytree(FIXTURES / case, tmp_path / Path(case).name))

    return copy


def test_whole_training(parse_train):
    outputs, process = parse_train(TRAIN / 'whole')
    assert process.is_finished_ok, process.exit_message
    potential = outputs['potential'].store()
    assert (potential.kind, potential.elements, potential.model_role) == ('deepmd', ('Li',), 'compressed')
    assert potential.read('frozen') == (TRAIN / 'whole' / 'frozen.pb').read_bytes()
    assert potential.read('compressed') == (TRAIN / 'whole' / 'compressed.pb').read_bytes()
    assert potential.training_input['training']['numb_steps'] == 20
    curve = outputs['learning_curve'].store()
    assert curve.get_array('step').tolist() == [0, 5, 10, 15, 20]
    assert curve.get_array('rmse_f_trn').tolist() == [3.22, 3.53, 4.11, 3.42, 0.0731]
    assert curve.get_array('lr')[0] == 1e-3
    summary = outputs['summary'].store().get_dict()
    assert (summary['n_train'], summary['n_holdout'], summary['n_steps']) == (9, 5, 20)
    assert summary['training_s'] == pytest.approx(32.035)
    assert summary['holdout_by_shard']['slab'] == summary['holdout']['surface']
    # one system of two frames, so what dp test says is what is told
    assert summary['holdout']['surface'] == pytest.approx(
        {
            'n_frames': 2,
            'energy_rmse_meV_per_atom': 1135.133,
            'force_rmse_meV_per_A': 193.3515,
            'virial_rmse_meV_per_atom': 611.5491,
        }
    )


def test_errors_of_several_systems_are_pooled_by_what_was_counted(parse_train):
    """The held-out bulk frames are two systems, of 2 and of 4 atoms; the forces weigh by their components."""
    systems = parse_test_log((TRAIN / 'whole' / 'test.log').read_text())
    first, second = (systems[f'data/holdout/bulk/g00{number}'] for number in (0, 1))
    summary = parse_train(TRAIN / 'whole')[0]['summary'].get_dict()['holdout']['bulk']
    frames = first['n_frames'] + second['n_frames']
    assert summary['n_frames'] == frames == 3
    atoms = 2 * first['n_frames'] + 4 * second['n_frames']
    squares = (
        2 * first['n_frames'] * first['force_rmse_meV_per_A'] ** 2
        + 4 * second['n_frames'] * second['force_rmse_meV_per_A'] ** 2
    )
    assert summary['force_rmse_meV_per_A'] == pytest.approx(math.sqrt(squares / atoms))
    energies = (
        first['n_frames'] * first['energy_rmse_meV_per_atom'] ** 2
        + second['n_frames'] * second['energy_rmse_meV_per_atom'] ** 2
    )
    assert summary['energy_rmse_meV_per_atom'] == pytest.approx(math.sqrt(energies / frames))


def test_interrupted_training_says_how_far_it_came(parse_train):
    outputs, process = parse_train(TRAIN / 'interrupted', n_steps=100_000)
    assert process.exit_status == CODES.ERROR_INTERRUPTED.status
    assert 'after 25 of 100000 steps' in process.exit_message
    assert 'parent_folder' in process.exit_message
    assert outputs['learning_curve'].get_array('step')[-1] == 25
    assert 'potential' not in outputs


def test_killed_before_its_first_step(parse_train, copied):
    folder = copied('dp_train/interrupted')
    (folder / 'lcurve.out').unlink()
    (folder / 'train.err').unlink()
    outputs, process = parse_train(folder)
    assert process.exit_status == CODES.ERROR_INTERRUPTED.status
    assert 'after 0 of 20 steps' in process.exit_message
    assert 'learning_curve' not in outputs


def test_diverged_training(parse_train):
    _, process = parse_train(TRAIN / 'diverged')
    assert process.exit_status == CODES.ERROR_DIVERGED.status
    assert 'from step 5' in process.exit_message
    assert 'learning_rate_start' in process.exit_message


def test_loss_that_runs_to_infinity(parse_train, copied):
    """DeePMD-kit stops at NaN, not at infinity."""
    folder = copied('dp_train/whole')
    curve = folder / 'lcurve.out'
    curve.write_text(curve.read_text().replace('9.63e+00', '     inf'))
    _, process = parse_train(folder)
    assert process.exit_status == CODES.ERROR_DIVERGED.status
    assert 'from step 15' in process.exit_message


def test_frames_without_virials_are_no_divergence(parse_train, copied, labelled_shards):
    """Without virials their error is NaN at every step; the training is fine."""
    folder = copied('dp_train/no_virials')
    shutil.copy(TRAIN / 'whole' / 'compressed.pb', folder)
    shards = {
        name: FramesData(replace(shard.get_frames(), virials=None), domain=shard.domain)
        for name, shard in labelled_shards.items()
    }
    outputs, process = parse_train(folder, shards)
    assert process.is_finished_ok, process.exit_message
    assert np.isnan(outputs['learning_curve'].store().get_array('rmse_v_trn')).all()
    for errors in outputs['summary'].store().get_dict()['holdout'].values():
        assert set(errors) == {'n_frames', 'energy_rmse_meV_per_atom', 'force_rmse_meV_per_A'}


def test_failed_training_tells_the_cause(parse_train):
    _, process = parse_train(TRAIN / 'failed')
    assert process.exit_status == CODES.ERROR_TRAINING_FAILED.status
    assert 'tanhh is not a valid activation function' in process.exit_message


@pytest.mark.parametrize(
    ('name', 'share', 'cause'),
    [
        ('frozen.pb', None, 'frozen.pb was not written by dp freeze'),
        ('compressed.pb', None, 'compressed.pb was not written by dp compress'),
        ('frozen.pb', 0.5, 'frozen.pb was cut off'),
        ('compressed.pb', 0.9, 'compressed.pb was cut off'),
    ],
)
def test_models_that_are_missing_or_cut_off(parse_train, copied, name, share, cause):
    folder = copied('dp_train/whole')
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if share is not None:
        (folder / name).write_bytes(content[: int(share * len(content))])
    outputs, process = parse_train(folder)
    assert process.exit_status == CODES.ERROR_NO_FROZEN_MODEL.status
    assert cause in process.exit_message
    assert outputs['learning_curve'].get_array('step')[-1] == 20
    assert 'potential' not in outputs


@pytest.mark.parametrize(
    ('last_line', 'message'),
    [
        (0, "0 of 3 frames of shard 'bulk'; test.log tells of 0 of 2 frames of shard 'slab'"),
        (40, "of shard 'slab'"),
    ],
)
def test_a_test_that_broke_off_is_told(parse_train, copied, last_line, message):
    """Errors over a part of the held-out frames must not stand for all of them."""
    folder = copied('dp_train/whole')
    log = (folder / 'test.log').read_text().splitlines(keepends=True)
    (folder / 'test.log').write_text(''.join(log[:last_line]))
    (folder / 'test.err').write_text('')
    outputs, process = parse_train(folder)
    assert process.exit_status == CODES.ERROR_NO_TEST.status
    assert message in process.exit_message
    # the potential and the counts are there all the same
    assert {'potential', 'summary', 'learning_curve'} <= set(outputs)
    assert outputs['summary'].get_dict()['n_holdout'] == 5


def test_errors_that_are_not_finite_are_told(parse_train, copied):
    folder = copied('dp_train/whole')
    log = (folder / 'test.log').read_text()
    (folder / 'test.log').write_text(log.replace('Force  RMSE        : 1.933515e-01', 'Force  RMSE        : nan'))
    (folder / 'test.err').write_text('')
    outputs, process = parse_train(folder)
    assert process.exit_status == CODES.ERROR_NO_TEST.status
    assert "shard 'slab' are not finite" in process.exit_message
    outputs['summary'].store()


def test_nothing_held_out(parse_train, copied):
    folder = copied('dp_train/whole')
    (folder / 'test.log').unlink()
    outputs, process = parse_train(folder, holdout_fraction=0.0)
    assert process.is_finished_ok, process.exit_message
    summary = outputs['summary'].get_dict()
    assert (summary['n_train'], summary['n_holdout'], summary['holdout']) == (14, 0, {})


def test_curve_cut_anywhere_holds_no_wrong_number():
    """Whatever is left of the file, its rows are the first rows of the whole one."""
    text = (TRAIN / 'whole' / 'lcurve.out').read_text()
    whole = parse_learning_curve(text)
    seen = set()
    for end in range(len(text)):
        part = parse_learning_curve(text[:end])
        if not part:
            continue
        n_rows = len(part['step'])
        seen.add(n_rows)
        for name, column in part.items():
            assert np.array_equal(column, whole[name][:n_rows])
    assert seen == {1, 2, 3, 4}
    assert parse_learning_curve('') == {}


def test_curve_of_a_training_that_went_on():
    """Steps after the checkpoint are written again: the second time counts."""
    lines = (TRAIN / 'whole' / 'lcurve.out').read_text().splitlines(keepends=True)
    again = lines[-2].replace('9.63e+00', '9.00e+00')
    curve = parse_learning_curve(''.join([*lines[:-1], again, lines[-1]]))
    assert curve['step'].tolist() == [0, 5, 10, 15, 20]
    assert curve['rmse_trn'].tolist() == [102.0, 47.5, 23.9, 9.0, 1.36]


def test_nothing_to_pool():
    with pytest.raises(ValueError, match='no systems to pool'):
        pool_errors([])


def test_last_error():
    assert last_error((TRAIN / 'interrupted' / 'train.err').read_text()) == ''
    assert last_error((TRAIN / 'failed' / 'freeze.err').read_text()).startswith('AttributeError')
    assert last_error('[2026] DEEPMD ERROR   no such file\n') == '[2026] DEEPMD ERROR   no such file'


def test_whole_test(parse_test):
    outputs, process = parse_test(FIXTURES / 'dp_test' / 'whole')
    assert process.is_finished_ok, process.exit_message
    summary = outputs['summary'].store().get_dict()
    assert {name: errors['n_frames'] for name, errors in summary['by_shard'].items()} == {'bulk': 9, 'slab': 5}
    assert summary['by_domain'] == {'bulk': summary['by_shard']['bulk'], 'surface': summary['by_shard']['slab']}
    log = parse_test_log((FIXTURES / 'dp_test' / 'whole' / 'test.log').read_text())
    for key, value in log['data/test/slab/g000'].items():
        assert summary['by_shard']['slab'][key] == pytest.approx(value)


def test_failed_test(parse_test):
    outputs, process = parse_test(FIXTURES / 'dp_test' / 'failed')
    assert process.exit_status == DpTestCalculation.exit_codes.ERROR_NO_TEST.status
    assert 'DecodeError' in process.exit_message
    assert 'summary' not in outputs


def test_test_that_broke_off(parse_test, copied):
    folder = copied('dp_test/whole')
    lines = (folder / 'test.log').read_text().splitlines(keepends=True)
    (folder / 'test.log').write_text(''.join(lines[:25]))
    (folder / 'test.err').unlink()
    _, process = parse_test(folder)
    assert process.exit_status == DpTestCalculation.exit_codes.ERROR_NO_TEST.status
    assert 'test.log tells of' in process.exit_message
