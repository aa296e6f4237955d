"""Protocols: laid over one another, checked, and valid for every verb."""

from importlib.resources import files

import pytest
import yaml
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager

from aiida_liheal.calculations.common import ONE_THREAD
from aiida_liheal.data.frames import FramesData
from aiida_liheal.lammps.decks import validate
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.perturb import perturbed_bulk, perturbed_slab
from aiida_liheal.workchains.deposit import DepositWorkChain
from aiida_liheal.workchains.explore import ExploreWorkChain
from aiida_liheal.workchains.heal import HealWorkChain
from aiida_liheal.workchains.label import LabelWorkChain
from aiida_liheal.workchains.learn import LearnWorkChain
from aiida_liheal.workchains.protocol import fill, merge
from aiida_liheal.workchains.quickstart import QuickstartWorkChain
from aiida_liheal.workchains.train import TrainWorkChain

VERBS = (LabelWorkChain, TrainWorkChain, ExploreWorkChain, LearnWorkChain, DepositWorkChain, HealWorkChain)


@pytest.fixture
def systems():
    """Two starts a system, labelled by nothing."""
    images = {'bulk': perturbed_bulk(2, 1, size=(1, 1, 1)), 'surface': perturbed_slab(2, 1, n_layers=4)}
    return {name: FramesData(Frames.from_atoms(frames), domain=name) for name, frames in images.items()}


@pytest.fixture
def builder(codes, systems, labelled_shards, tiny_committee, meam_potential):
    """The builder of a verb from a protocol, with small inputs."""

    def make(verb, protocol=None, options=None, **overrides):
        if verb in (DepositWorkChain, HealWorkChain):
            given = (codes, meam_potential)
        else:
            given = {
                LabelWorkChain: (codes['gpaw'], systems['bulk']),
                TrainWorkChain: (codes['dp'], labelled_shards),
                ExploreWorkChain: (codes, systems, tiny_committee),
                LearnWorkChain: (codes, systems, systems),
            }[verb]
        return verb.get_builder_from_protocol(*given, protocol=protocol, overrides=overrides or None, options=options)

    return make


@pytest.mark.parametrize('verb', VERBS)
@pytest.mark.parametrize('protocol', ['fast', 'balanced', 'paper'])
def test_every_protocol_of_every_verb_is_accepted(builder, verb, protocol):
    """All inputs are there and pass every check of the process, as they do when it is submitted."""
    assert protocol in verb.get_available_protocols()
    process = instantiate_process(get_manager().get_runner(), builder(verb, protocol))
    assert process.inputs


@pytest.mark.parametrize('protocol', ['fast', 'tiny'])
def test_quickstart_is_accepted(codes, tiny_committee, protocol):
    process = instantiate_process(
        get_manager().get_runner(),
        QuickstartWorkChain.get_builder_from_protocol(codes, tiny_committee, protocol=protocol),
    )
    assert process.inputs


@pytest.mark.parametrize('verb', VERBS)
def test_default_protocol(builder, verb):
    assert verb.get_default_protocol() == 'balanced'
    assert verb.get_protocol_inputs() == verb.get_protocol_inputs('balanced')
    assert all(description for description in verb.get_available_protocols().values())


@pytest.mark.parametrize('verb', VERBS)
def test_unknown_protocols_and_overrides_are_refused(builder, verb):
    with pytest.raises(ValueError, match="unknown protocol 'sloppy'; there are fast, balanced, paper"):
        builder(verb, 'sloppy')
    with pytest.raises(ValueError, match=r'setings'):
        builder(verb, setings={})


@pytest.mark.parametrize(
    ('verb', 'overrides', 'message'),
    [
        (TrainWorkChain, {'settings': {'n_stepz': 5}}, 'n_stepz: no such setting'),
        (TrainWorkChain, {'settings': {'cutoff_A': -1.0}}, r'cutoff_A = -1\.0'),
        (ExploreWorkChain, {'stage': {'bulk': {'temperature_K': 5}}}, 'temperature_K: no such setting'),
        (ExploreWorkChain, {'trust': {'lower_eV_per_A': 3.0}}, r'lower_eV_per_A = 3\.0 eV/Å'),
        (ExploreWorkChain, {'max_candidates': 0}, 'max_candidates is 0; allowed is 1 or more'),
        (LearnWorkChain, {'train': {'n_membres': 3}}, 'unknown override n_membres'),
        (LearnWorkChain, {'label': {'batch_size': 0}}, 'batch_size is 0'),
        (LearnWorkChain, {'n_rounds': 0}, 'n_rounds is 0; allowed is 1 or more'),
        (LearnWorkChain, {'convergence': {'converged_accurate_share': 95}}, 'converged_accurate_share = 95'),
        (DepositWorkChain, {'settings': {'rate_Li_per_ps': -1.0}}, r'rate_Li_per_ps = -1\.0'),
        (DepositWorkChain, {'crystal': {'n_fixed_layers': 18}}, 'n_fixed_layers = 18 layers'),
        (DepositWorkChain, {'crystal': {'element': 'Lx'}}, "'Lx' is no chemical element"),
        (HealWorkChain, {'crystal': {'void_size': [3, 3, 11]}}, r'along z it must be from 1 to 9 cells'),
        (HealWorkChain, {'settings': {'heating_ps': -1.0}}, r'heating_ps = -1\.0'),
        (HealWorkChain, {'analysis': {'average': 4}}, 'average'),
    ],
)
def test_overrides_out_of_range_are_refused(builder, verb, overrides, message):
    """Before anything is submitted, with the key, the value and what is allowed."""
    with pytest.raises(ValueError, match=message):
        builder(verb, **overrides)


def test_protocol_files_hold_what_they_promise():
    """Each protocol changes keys that the defaults have, so that a slip of the pen does not pass."""
    for path in files('aiida_liheal.protocols').iterdir():
        if not path.name.endswith('.yaml'):
            continue
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        assert content['default_protocol'] in content['protocols'], path.name
        for name, changes in content['protocols'].items():
            assert changes['description'], (path.name, name)
            assert set(changes) - {'description'} <= set(content['default_inputs']), (path.name, name)


def test_paper_is_the_paper(builder):
    """Figures of the paper's text: 5 Li/ps on 28.07 nm x 1.40 nm, 500 m/s, 300 K, 3 ns, 300 Å, 5,760 atoms."""
    inputs = builder(DepositWorkChain, 'paper')
    settings = validate('deposit', {**inputs.settings.get_dict(), 'seed': 1})
    area_nm2 = 28.08 * 1.404
    assert settings.rate(area_nm2) == pytest.approx(5, rel=0.01)
    assert settings.schedule(area_nm2).every_steps == 200
    assert (settings.speed_m_per_s, settings.temperature_K, settings.timestep_fs) == (500.0, 300.0, 1.0)
    assert settings.duration_ps == 3000.0
    crystal = inputs.crystal.get_dict()
    assert crystal['size'][0] * crystal['size'][1] * crystal['n_layers'] == 5760
    assert crystal['size'][0] * crystal['lattice_constant_A'] / 10 == pytest.approx(28.07, abs=0.02)
    height = (crystal['n_layers'] - 1) * crystal['lattice_constant_A'] / 2 + crystal['height_above_A']
    assert height == pytest.approx(300.0)


def test_merge_lays_key_by_key():
    base = {'a': {'b': 1, 'c': [1, 2]}, 'd': 3}
    merged = merge(base, {'a': {'c': [5], 'e': None}, 'd': {'f': 1}})
    assert merged == {'a': {'b': 1, 'c': [5], 'e': None}, 'd': {'f': 1}}
    assert base == {'a': {'b': 1, 'c': [1, 2]}, 'd': 3}
    # what was merged shares nothing with what it was made of
    changes = {'a': {'c': [5]}}
    merged = merge(base, changes)
    merged['a']['c'].append(6)
    merged['a']['b'] = 0
    assert changes == {'a': {'c': [5]}}
    assert base['a']['b'] == 1


def test_protocols_do_not_share_what_is_overridden():
    before = TrainWorkChain.get_protocol_inputs('fast')
    changed = TrainWorkChain.get_protocol_inputs('fast', {'settings': {'n_steps': 7}})
    changed['settings']['embedding'].append(1000)
    assert changed['settings']['n_steps'] == 7
    assert TrainWorkChain.get_protocol_inputs('fast') == before


def test_fill_sets_port_by_port(codes, labelled_shards):
    """Inner namespaces keep their defaults, dynamic ones are taken as a whole, and ports can be left out."""
    train = TrainWorkChain.get_builder_from_protocol(codes['dp'], labelled_shards, seed=5)
    train.dp.metadata.options.max_wallclock_seconds = 60
    learn = LearnWorkChain.get_builder()
    fill(learn.train, train._inputs(prune=True), ('frames', 'start_from', 'seed'))
    assert learn.train.settings.get_dict() == train.settings.get_dict()
    assert learn.train.dp.metadata.options.max_wallclock_seconds == 60
    assert 'seed' not in learn.train._inputs(prune=True)
    target = TrainWorkChain.get_builder()
    fill(target, {'frames': labelled_shards})
    assert dict(target.frames) == labelled_shards


@pytest.mark.parametrize(
    ('verb', 'job'),
    [
        (LabelWorkChain, ('gpaw',)),
        (TrainWorkChain, ('dp',)),
        (ExploreWorkChain, ('lammps',)),
        (DepositWorkChain, ('lammps',)),
        (HealWorkChain, ('lammps',)),
        (LearnWorkChain, ('train', 'dp')),
    ],
)
def test_options_reach_the_jobs(builder, verb, job):
    """Options are laid over the defaults: one thread stays one thread unless it is said otherwise."""
    options = {'max_wallclock_seconds': 3600, 'environment_variables': {'OMP_NUM_THREADS': '4'}}
    process = instantiate_process(
        get_manager().get_runner(), builder(verb, options={'train': options} if verb is LearnWorkChain else options)
    )
    inputs = process.inputs
    for name in job:
        inputs = inputs[name]
    given = inputs['metadata']['options']
    assert given['max_wallclock_seconds'] == 3600
    assert given['environment_variables'] == {**ONE_THREAD, 'OMP_NUM_THREADS': '4'}
    assert given['resources'] == {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
    assert given['parser_name'].startswith('liheal.')


def test_options_that_are_none_are_refused(builder):
    with pytest.raises(ValueError, match=r'unknown option walltime; allowed are .*max_wallclock_seconds'):
        builder(DepositWorkChain, options={'walltime': 60})
    with pytest.raises(ValueError, match='max_wallclock_seconds'):
        builder(DepositWorkChain, options={'max_wallclock_seconds': 'an hour'})
