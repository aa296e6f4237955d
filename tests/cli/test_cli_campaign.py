"""`launch campaign`: a dry run tells what it would cost and what was done; what is wrong is told with its path."""

from __future__ import annotations

import pytest
import yaml
from aiida.orm import WorkChainNode
from plumpy import ProcessState
from trees import lennard_jones, process

from aiida_liheal.workchains.points import KEY_EXTRA, point_key, read_points

CONTENT = {
    'title': 'two temperatures',
    'potential': 'lj',
    'series': {
        'void': {
            'verb': 'heal',
            'protocol': 'fast',
            'source': 'Figure 2b',
            'overrides': {'settings': {'duration_ps': 4.0}},
            'grid': {'settings.temperature_K': [50, 300]},
        }
    },
}


@pytest.fixture
def campaign_file(tmp_path):
    path = tmp_path / 'campaign.yaml'
    path.write_text(yaml.safe_dump(CONTENT))
    return path


def row(output, name):
    """The words of the line of a point."""
    return next(line.split() for line in output.splitlines() if line.split()[:1] == [name])


def test_dry_run(invoke, codes, potential, campaign_file, n_nodes):
    """Atoms, steps, hours from the given speed, totals; nothing is stored."""
    before = n_nodes()
    command = ['launch', 'campaign', campaign_file, '--potential', potential.pk, '--katom-step-per-s', 10, '-n']
    status, output = invoke(*command)
    assert status == 0, output
    # 416 atoms, 4000 steps: 1.664e6 atom-steps, 166.4 s
    assert row(output, 'void_temperature_K_50')[1:5] == ['416', '4000', '1.66e+06', '0.0462']
    assert 'source: Figure 2b' in output
    assert 'lj: 8,000 steps, 3.33e+06 atom-steps, 0.0924 hours at 10 katom-step/s (given on the command line)' in output
    assert '2 points are left to run, in 2 jobs; at most 1 at once' in output
    assert 'nothing was stored or run' in output
    assert n_nodes() == before
    packed = {**CONTENT, 'series': {'void': {**CONTENT['series']['void'], 'runs_per_job': 3}}}
    campaign_file.write_text(yaml.safe_dump(packed))
    status, output = invoke(*command)
    assert status == 0, output
    assert '2 points are left to run, in 1 job; 2 of them share 1, at most 2 in each; at most 1 at once' in output


def test_dry_run_tells_what_is_done(invoke, codes, potential, campaign_file):
    """Finished points cost nothing more; without a speed no hours are made up."""
    built = read_points(CONTENT, codes, {'lj': {'m0': potential}})[1]
    keys = [point_key(builder) for _, builder in built.values()]
    done = process(WorkChainNode, 'HealWorkChain', 'liheal.heal')
    done.base.extras.set(KEY_EXTRA, keys[0])
    status, output = invoke('launch', 'campaign', campaign_file, f'--potential=lj={potential.pk}', '-n')
    assert status == 0
    assert f'finished, pk {done.pk}' in ' '.join(row(output, 'void_temperature_K_50'))
    assert row(output, 'void_temperature_K_300')[-2:] == ['to', 'run']
    assert 'hours are not known' in output
    other = process(WorkChainNode, 'HealWorkChain', 'liheal.heal', state=ProcessState.RUNNING.value)
    other.base.extras.set(KEY_EXTRA, keys[1])
    status, output = invoke('launch', 'campaign', campaign_file, f'--potential=lj={potential.pk}')
    assert status == 1
    assert f'void_temperature_K_300 is under way: HealWorkChain<{other.pk}>' in output


@pytest.mark.parametrize(
    ('changes', 'arguments', 'parts'),
    [
        ({}, [], ["no potential given for 'lj'", '--potential lj=PK']),
        ({}, ['--potential', 'meam=builtin'], ['potential meam: the campaign names lj']),
        ({}, ['--potential', 'builtin', '-s', 'series.void.grid.seed=[-1]'], ['series.void.grid.seed = [-1]']),
        ({}, ['--potential', 'builtin', '-s', 'max_at_once=0'], ['max_at_once = 0', 'greater than or equal to 1']),
        ({'series': {}}, [], ['series = {}']),
        (
            {'series': {'a': {'verb': 'heal', 'overrides': {'settings.temperature_K': -1}}, 'b': {'verb': 'bake'}}},
            ['--potential', 'builtin'],
            ['series.a: temperature_K = -1', 'in K', "series.b: verb = 'bake'", 'deposit'],
        ),
        ({}, ['--potential', 'builtin', '-o', 'queue=gpu'], ['option queue', 'queue_name']),
    ],
)
def test_what_is_wrong_is_told(invoke, codes, tmp_path, n_nodes, changes, arguments, parts):
    path = tmp_path / 'campaign.yaml'
    path.write_text(yaml.safe_dump({**CONTENT, **changes}))
    before = n_nodes()
    status, output = invoke('launch', 'campaign', path, *arguments)
    assert status == 1
    for part in parts:
        assert part in output
    assert n_nodes() == before


@pytest.mark.parametrize('text', ['- 1\n', 'a: [\n', '!!python/object/apply:os.system ["true"]\n'])
def test_files_that_hold_no_campaign(invoke, codes, tmp_path, text):
    path = tmp_path / 'campaign.yaml'
    path.write_text(text)
    status, output = invoke('launch', 'campaign', path)
    assert status == 1
    assert str(path) in output


def test_decks_to_read(invoke, codes, tmp_path, n_nodes):
    """Every run of the paper has a deck, with what the paper says of it; nothing is stored."""
    before = n_nodes()
    potential = lennard_jones().store()
    status, output = invoke('launch', 'campaign', 'paper', '--potential', potential.pk, '--decks', tmp_path / 'decks')
    assert status == 0, output
    decks = sorted((tmp_path / 'decks').glob('*/run_*/in.lmp'))
    assert f'inputs of {len(decks)} runs' in output
    assert {deck.parents[1].name for deck in decks} == {path.name for path in (tmp_path / 'decks').iterdir()}
    assert all((deck.parent / 'start.data').is_file() for deck in decks)
    texts = {deck.parents[1].name: deck.read_text(encoding='utf-8') for deck in decks}
    assert all('pair_style lj/cut 6' in text for text in texts.values())
    # «A time step of 1 fs was used in all the simulations»
    assert {line for text in texts.values() for line in text.splitlines() if line.startswith('timestep')} == {
        'timestep 0.001'
    }
    assert n_nodes() == before + 1


def test_shipped_campaigns_go_by_name(invoke, codes, n_nodes):
    """With the shipped committee, nothing else being said."""
    potential = lennard_jones().store()
    before = n_nodes()
    status, output = invoke('launch', 'campaign', 'laptop', '-n', '--potential', potential.pk)
    assert status == 0, output
    assert 'builtin: ' in output
    status, output = invoke('launch', 'campaign', 'gallery')
    assert status == 1
    assert 'classical, laptop, paper' in output
    assert n_nodes() == before
