"""The jobs of DeePMD-kit: what they write and ask for, what they refuse, and both on a tiny real training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from aiida.common.datastructures import CodeRunMode
from aiida.engine import run_get_node
from aiida.orm import Dict, RemoteData

from aiida_liheal.calculations.dp_settings import DpTrainSettings, architecture_of, training_input
from aiida_liheal.calculations.dp_test import DpTestCalculation
from aiida_liheal.calculations.dp_train import DpTrainCalculation, split_shard
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.structures.formats import read_deepmd_npy
from aiida_liheal.structures.frames import Frames

#: What the kept potentials were trained with.
TINY = {
    'cutoff_A': 4.0,
    'smooth_A': 1.0,
    'max_neighbours': 40,
    'embedding': [2, 4],
    'axis': 2,
    'fitting': [6, 6],
    'n_steps': 20,
    'report_steps': 5,
    'learning_rate_start': 1e-3,
    'table_from_A': 2.0,
    'seed': 1,
    'holdout_fraction': 0.3,
}


@pytest.fixture
def training(codes, labelled_shards):
    """Inputs of a training, with changes to its settings."""

    def make(frames=None, **changes):
        settings = {key: value for key, value in {**TINY, **changes}.items() if value is not None}
        return {'code': codes['dp'], 'frames': frames or labelled_shards, 'settings': Dict(settings)}

    return make


def files_in(folder):
    root = Path(folder.abspath)
    return {path.relative_to(root).as_posix() for path in root.rglob('*') if path.is_file()}


def elements(frames, symbols):
    """The same frames of other elements."""
    return Frames.from_arrays({**frames.to_arrays(), 'elements': np.array(symbols)})


def test_files_of_a_training(prepare, training, labelled_shards):
    folder, _ = prepare(DpTrainCalculation, **training())
    assert {'input.json', 'compress.json', 'data'} == set(folder.get_content_list())
    with folder.open('input.json') as handle:
        content = json.load(handle)
    data = content['training']['training_data']
    assert data['systems'] == ['data/train/bulk/g000', 'data/train/bulk/g001', 'data/train/slab/g000']
    assert data['auto_prob'] == 'prob_sys_size'
    held_out = content['training']['validation_data']['systems']
    assert held_out == ['data/holdout/bulk/g000', 'data/holdout/bulk/g001', 'data/holdout/slab/g000']
    # every frame is on one side or the other, as the parser counts them
    settings = DpTrainSettings.read(TINY)
    for part, number in (('train', 0), ('holdout', 1)):
        for name, shard in labelled_shards.items():
            energies = np.concatenate(
                [
                    read_deepmd_npy(folder.get_abs_path(path)).energies
                    for path in data['systems'] + held_out
                    if path.startswith(f'data/{part}/{name}/')
                ]
            )
            chosen = split_shard(name, len(shard), settings)[number]
            assert sorted(energies) == sorted(shard.get_frames().energies[chosen])
    with folder.open('compress.json') as handle:
        compress = json.load(handle)
    # the table of the compressed model begins at the distance that was asked for
    (closest,) = compress['training']['training_data']['systems']
    positions = read_deepmd_npy(folder.get_abs_path(closest)).positions
    assert np.linalg.norm(positions[1] - positions[0]) == pytest.approx(2.0)
    assert compress['model'] == content['model']


def test_commands_of_a_training(prepare, training):
    _, calcinfo = prepare(DpTrainCalculation, **training())
    assert calcinfo.codes_run_mode is CodeRunMode.SERIAL
    assert [code.cmdline_params for code in calcinfo.codes_info] == [
        ['--tf', 'train', '--skip-neighbor-stat', 'input.json'],
        ['--tf', 'freeze', '-o', 'frozen.pb'],
        ['--tf', 'compress', '-i', 'frozen.pb', '-o', 'compressed.pb', '-t', 'compress.json'],
        ['--tf', 'test', '-m', 'compressed.pb', '-s', 'data/holdout', '-l', 'test.log'],
    ]
    assert [code.stderr_name for code in calcinfo.codes_info] == [
        'train.err',
        'freeze.err',
        'compress.err',
        'test.err',
    ]
    assert {'lcurve.out', 'test.log', 'train.err'} <= set(calcinfo.retrieve_list)
    assert calcinfo.retrieve_temporary_list == ['frozen.pb', 'compressed.pb']
    assert calcinfo.remote_copy_list == []


def test_the_database_keeps_no_second_copy_of_the_frames(prepare, training):
    folder, calcinfo = prepare(DpTrainCalculation, **training())
    assert files_in(folder) - set(calcinfo.provenance_exclude_list) == {'input.json', 'compress.json'}


def test_training_from_a_potential(prepare, training, tiny_committee):
    folder, calcinfo = prepare(DpTrainCalculation, **training(), start_from=tiny_committee['m0'])
    assert calcinfo.codes_info[0].cmdline_params[-2:] == ['--init-frz-model', 'start.pb']
    with folder.open('start.pb', 'rb') as handle:
        assert handle.read() == tiny_committee['m0'].read('frozen')
    assert 'start.pb' in calcinfo.provenance_exclude_list


def test_training_from_a_model_of_other_types_is_refused(refusal, training, tiny_committee):
    """Weights are taken over type by type: LAMMPS asks for names, the training does not."""
    sodium = b'\x00B\x02Na'
    frozen = tiny_committee['m0'].read('frozen').replace(b'\x00B\x02Li', sodium)
    start = PotentialData(kind='deepmd', elements=['Na'], files={'frozen': frozen})
    start.base.attributes.set('elements', ['Li'])
    message = refusal(DpTrainCalculation, **training(), start_from=start)
    assert 'the types of the model of start_from are Na, its elements are Li' in message


def test_training_that_goes_on(prepare, training, tiny_committee, aiida_localhost):
    """The last checkpoint is copied, and it wins over the potential that the training began from."""
    remote = RemoteData(remote_path='/scratch/job', computer=aiida_localhost)
    folder, calcinfo = prepare(DpTrainCalculation, **training(), start_from=tiny_committee['m0'], parent_folder=remote)
    assert calcinfo.codes_info[0].cmdline_params[-2:] == ['--restart', 'model.ckpt']
    assert calcinfo.remote_copy_list == [
        (aiida_localhost.uuid, f'/scratch/job/{name}', '.') for name in ('model.ckpt*', 'checkpoint', 'lcurve.out')
    ]
    assert 'start.pb' not in folder.get_content_list()


def test_nothing_held_out_is_not_tested(prepare, training):
    folder, calcinfo = prepare(DpTrainCalculation, **training(holdout_fraction=0.0))
    assert [code.stderr_name for code in calcinfo.codes_info] == ['train.err', 'freeze.err', 'compress.err']
    with folder.open('input.json') as handle:
        assert 'validation_data' not in json.load(handle)['training']


def test_weights_of_domains(prepare, training):
    """A domain is drawn as often as its weight says, its systems by their frames."""
    folder, _ = prepare(DpTrainCalculation, **training(domain_weights={'surface': 3.0}))
    with folder.open('input.json') as handle:
        data = json.load(handle)['training']['training_data']
    assert 'auto_prob' not in data
    shares = dict(zip(data['systems'], data['sys_probs'], strict=True))
    assert shares['data/train/slab/g000'] == pytest.approx(0.75)
    assert sum(shares.values()) == pytest.approx(1)
    bulk = [read_deepmd_npy(folder.get_abs_path(f'data/train/bulk/g00{n}')).energies.size for n in (0, 1)]
    ratio = shares['data/train/bulk/g000'] / shares['data/train/bulk/g001']
    assert ratio == pytest.approx(bulk[0] / bulk[1])


def test_single_precision_stays_single(prepare, training, labelled_shards):
    arrays = labelled_shards['bulk'].get_frames().to_arrays()
    single = Frames.from_arrays({k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in arrays.items()})
    folder, _ = prepare(DpTrainCalculation, **training({'bulk': FramesData(single)}))
    coordinates = np.load(folder.get_abs_path('data/train/bulk/g000/set.000/coord.npy'))
    assert coordinates.dtype == np.float32


def test_seeds_of_nets_and_order_differ(training):
    """Two members share no stream, and within one the descriptor, the fitting net and the order have their own."""
    seeds = set()
    for seed in range(5):
        content = training_input(DpTrainSettings.read({**TINY, 'seed': seed}), ('Li',), {'a': ['x']}, [], {'x': 1})
        seeds |= {
            content['model']['descriptor']['seed'],
            content['model']['fitting_net']['seed'],
            content['training']['seed'],
        }
    assert len(seeds) == 15


def test_architecture_goes_into_the_input_and_comes_back():
    settings = DpTrainSettings.read(TINY)
    content = training_input(settings, ('Li',), {'a': ['x']}, [], {'x': 1})
    given = architecture_of(content)
    assert DpTrainSettings.read({**TINY, **given}) == settings
    content['model']['descriptor']['type'] = 'se_a_ebd'
    with pytest.raises(ValueError, match=r'descriptor\.type = se_a_ebd'):
        architecture_of(content)


@pytest.mark.parametrize(
    ('changes', 'parts'),
    [
        ({'n_steps': 0}, ['n_steps = 0', 'greater than or equal to 1']),
        ({'n_steps': None}, ['n_steps: missing', 'Training steps']),
        ({'cutoff_A': -6.0}, ['cutoff_A = -6.0', 'greater than 1', 'Å']),
        ({'smooth_A': 4.0}, ['smooth_A is 4.0 Å', 'less than cutoff_A, 4.0 Å']),
        ({'learning_rate_stop': 0.1}, ['learning_rate_stop is 0.1', 'at most learning_rate_start, 0.001']),
        ({'axis': 5}, ['axis is 5', 'at most the last embedding width, 4']),
        ({'precision': 'float16'}, ['precision', 'float16']),
        ({'activation': 'tanh; rm -rf'}, ['activation', 'tanh; rm -rf']),
        ({'force_weight': [-1.0, 1.0]}, ['force_weight is (-1.0, 1.0)', 'from 0 upwards']),
        ({'batch_size': 'lots'}, ["batch_size is 'lots'", '`auto:N`']),
        ({'batch_size': 0}, ['batch_size is 0', '1 or more']),
        ({'holdout_fraction': 1.0}, ['holdout_fraction = 1.0', 'less than 1']),
        ({'domain_weights': {'bulk': -1.0}}, ['domain_weights: bulk is -1.0', 'from 0 upwards']),
        ({'domain_weights': {'bulk': 0, 'surface': 0}}, ['domain_weights', 'at least one domain above 0']),
        ({'domain_weights': {'slab': 1.0}}, ['domain_weights names slab', 'the domains bulk, surface']),
        ({'cut_off': 6.0}, ['cut_off: no such setting', 'cutoff_A']),
        ({'seed': -1}, ['seed = -1', 'greater than or equal to 0']),
    ],
)
def test_settings_out_of_range_are_refused(refusal, training, changes, parts):
    message = refusal(DpTrainCalculation, **training(**changes))
    for part in parts:
        assert part in message


def test_frames_that_cannot_be_trained_on_are_refused(refusal, training, labelled_shards, li_frames):
    unlabelled = FramesData(li_frames)
    message = refusal(DpTrainCalculation, **training({**labelled_shards, 'new': unlabelled}))
    for part in ("'new'", '2 frames', 'no energies and forces', 'liheal.label'):
        assert part in message
    empty = FramesData(labelled_shards['bulk'].get_frames().select([]))
    assert "shard 'bulk' holds no frames" in refusal(DpTrainCalculation, **training({'bulk': empty}))
    inputs = training()
    inputs['frames'] = {}
    assert 'no frames given' in refusal(DpTrainCalculation, **inputs)


def test_potentials_that_cannot_be_started_from_are_refused(
    refusal, training, labelled_shards, tiny_committee, meam_potential
):
    message = refusal(DpTrainCalculation, **training(), start_from=meam_potential)
    assert "start_from is a potential of kind 'meam'; allowed is deepmd" in message
    message = refusal(DpTrainCalculation, **training(cutoff_A=5.0), start_from=tiny_committee['m0'])
    assert 'trained with cutoff_A = 4.0, the settings say 5.0' in message
    message = refusal(DpTrainCalculation, **training(fitting=[6, 6, 6]), start_from=tiny_committee['m0'])
    assert 'fitting = [6, 6], the settings say (6, 6, 6)' in message
    sodium = {'na': FramesData(elements(labelled_shards['bulk'].get_frames(), ['Na']))}
    message = refusal(DpTrainCalculation, **training(sodium), start_from=tiny_committee['m0'])
    assert "shard 'na' holds Na; start_from knows Li only" in message
    odd = tiny_committee['m0'].training_input
    odd['model']['descriptor']['resnet_dt'] = True
    other = PotentialData(
        kind='deepmd',
        elements=['Li'],
        files={'frozen': tiny_committee['m0'].read('frozen'), 'input': json.dumps(odd).encode()},
    )
    assert 'descriptor.resnet_dt = True' in refusal(DpTrainCalculation, **training(), start_from=other)


def test_files_of_a_test(prepare, codes, labelled_shards, tiny_committee):
    folder, calcinfo = prepare(
        DpTestCalculation, code=codes['dp'], potential=tiny_committee['m0'], frames=labelled_shards
    )
    # what is run is what LAMMPS runs
    with folder.open('model.pb', 'rb') as handle:
        assert handle.read() == tiny_committee['m0'].read('compressed')
    (code,) = calcinfo.codes_info
    assert code.cmdline_params == ['--tf', 'test', '-m', 'model.pb', '-s', 'data/test', '-l', 'test.log']
    assert read_deepmd_npy(folder.get_abs_path('data/test/slab/g000')).energies.size == 5
    assert files_in(folder) == set(calcinfo.provenance_exclude_list)


def test_frozen_model_is_tested_where_there_is_no_other(prepare, codes, labelled_shards, tiny_committee):
    folder, _ = prepare(DpTestCalculation, code=codes['dp'], potential=tiny_committee['m1'], frames=labelled_shards)
    with folder.open('model.pb', 'rb') as handle:
        assert handle.read() == tiny_committee['m1'].read('frozen')


def test_what_cannot_be_tested_is_refused(refusal, codes, labelled_shards, li_frames, tiny_committee, meam_potential):
    def message(potential=tiny_committee['m0'], **frames):
        return refusal(DpTestCalculation, code=codes['dp'], potential=potential, frames=frames)

    assert "kind 'meam'; dp test runs deepmd" in message(meam_potential, **labelled_shards)
    assert "shard 'new' (2 frames) has no energies and forces" in message(new=FramesData(li_frames))
    sodium = FramesData(elements(labelled_shards['bulk'].get_frames(), ['Na']))
    assert "shard 'na' holds Na; the potential knows Li only" in message(na=sodium)
    assert 'no frames given' in message()


@pytest.mark.engine
@pytest.mark.skipif(shutil.which('dp') is None, reason='DeePMD-kit is not installed (extra `engines`)')
def test_real_training_from_a_real_training(training, codes, labelled_shards):
    """Train, start again from what came out, and test: the second training begins where the first one ended."""
    outputs, node = run_get_node(DpTrainCalculation, **training(n_steps=40, learning_rate_stop=1e-3))
    assert node.is_finished_ok, node.exit_message
    potential = outputs['potential']
    assert potential.roles == {'frozen': 'frozen.pb', 'compressed': 'compressed.pb', 'input': 'input.json'}
    first = outputs['learning_curve']
    assert first.get_array('step')[-1] == 40

    again, node = run_get_node(
        DpTrainCalculation,
        **training(n_steps=5, seed=2, learning_rate_start=1e-8, learning_rate_stop=1e-8),
        start_from=potential,
    )
    assert node.is_finished_ok, node.exit_message
    # at this learning rate nothing moves: both are the same function, on the same held-out frames
    for domain, errors in outputs['summary'].get_dict()['holdout'].items():
        assert again['summary'].get_dict()['holdout'][domain] == pytest.approx(errors, rel=1e-2)

    tested, node = run_get_node(
        DpTestCalculation, code=codes['dp'], potential=potential, frames={'slab': labelled_shards['slab']}
    )
    assert node.is_finished_ok, node.exit_message
    errors = tested['summary'].get_dict()['by_domain']['surface']
    assert errors['n_frames'] == 5
    assert 0 < errors['force_rmse_meV_per_A'] < 5000
