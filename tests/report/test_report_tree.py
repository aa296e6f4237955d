"""What the report reads from the database."""

from __future__ import annotations

from aiida.orm import WorkChainNode
from trees import process, simulation

from aiida_liheal.report.facts import conclusions, facts, next_step, outcome
from aiida_liheal.report.lineage import read_lineage
from aiida_liheal.report.tree import flatten, read_tree


def values(tree):
    return {(fact.stage, fact.name): fact.value for fact in facts(tree)}


def test_tree_of_a_simulation(healed):
    """The steps come in the order of their creation, each below its caller, with what they are."""
    tree = read_tree(healed)
    assert [(step.name, step.depth) for step in tree.steps] == [
        ('HealWorkChain', 0),
        ('MdWorkChain', 1),
        ('LammpsCalculation', 2),
        ('AnalyseCalculation', 1),
    ]
    assert [step.title for step in tree.steps] == ['heal', 'md', 'LAMMPS', 'analyse']
    assert [step.is_job for step in tree.steps] == [False, False, True, True]
    assert tree.below(tree.steps[1]) == tree.steps[1:3]


def test_seeds_are_found_in_inputs_and_settings(healed):
    """A seed that is an input of its own, and one deep in settings."""
    found = {(seed.step.name, seed.key): seed.value for seed in read_tree(healed).seeds()}
    assert found == {('HealWorkChain', 'seed'): 7, ('LammpsCalculation', 'settings.runs.0.seed'): 12345}


def test_versions_are_those_recorded(whole_chain):
    """Versions come from the nodes, not from what is installed."""
    found = {version.name: version.version for version in read_tree(whole_chain[0]).versions()}
    assert found == {
        'aiida-core': '2.9.9',
        'aiida-liheal': '0.0.7',
        'LAMMPS': '20990101',
        'OVITO': '3.99.1',
        'numpy': '2.0',
        'GPAW': '99.1.0',
        'DeePMD-kit': '9.8.7',
    }


def test_facts_of_a_whole_chain(whole_chain):
    """The short table has labels, errors, deviations, deposited atoms and the void."""
    tree = read_tree(whole_chain[0])
    found = values(tree)
    assert found['label', 'labels made'] == '2'
    assert found['label', 'labels dropped'] == '1'
    assert found['train_0', 'held-out RMSE, bulk'] == '2 meV/atom, 29 meV/Å'
    # members end at 20 and 21 meV in the last tenth of six points, which is one point
    assert found['train_0', 'training RMSE'] == '20.5 meV/atom, 20.5 meV/Å'
    assert found['explore_0', 'frames seen'] == '5'
    assert found['explore_0', 'deviation of forces, bulk'] == '0.100 eV/Å'
    assert found['learn', 'outcome'] == 'converged'
    assert found['deposit', 'atoms deposited'] == '4'
    assert found['deposit', 'height of the film'] == '17.0 → 19.0 Å'
    assert found['heal', 'void volume'] == '584 → 0 Å³'
    assert found['heal', 'BCC share'] == '0.85 → 0.55'
    said = ' '.join(conclusions(tree))
    assert (
        'The void: closed at 1.60 ps, and stayed so to the end at 2.00 ps (584 Å³ at the start, 0 Å³ at the end)'
        in said
    )
    assert 'Sent onto the slab: 5 atoms, 1 lost' in said
    assert outcome(tree.root) == next_step(tree) == ''


def test_a_failure_says_why_and_what_next(aiida_localhost):
    """Exit code, its range in words, and the message."""
    node = simulation(aiida_localhost, 'heal', exit_status=320, message='the run failed: the disk is full')
    tree = read_tree(node)
    assert tree.root.state == 'failed'
    assert outcome(tree.root) == 'Ended with exit code 320 (unrecoverable).'
    assert next_step(tree) == 'The run failed: the disk is full.'


def test_a_running_process_is_told_as_such():
    node = process(WorkChainNode, 'HealWorkChain', 'liheal.heal', state='waiting')
    tree = read_tree(node)
    assert outcome(tree.root) == 'Not over yet: waiting.'
    assert f'aiida-liheal status {node.pk}' in next_step(tree)
    assert facts(tree) == []
    assert tree.root.seconds is None


def test_flatten_keeps_plain_lists_whole():
    assert dict(flatten({'a': {'b': 1, 'c': [1, 2]}, 'runs': [{'x': 1}, {'x': 2}], 'none': {}})) == {
        'a.b': 1,
        'a.c': [1, 2],
        'runs.0.x': 1,
        'runs.1.x': 2,
        'none': {},
    }


def test_lineage_leads_from_labels_to_the_deposition(whole_chain):
    """The graph has the verbs, groups the committee, and its words name who made what was taken."""
    lineage = read_lineage(read_tree(whole_chain[0]))
    titles = [box.title for box in lineage.boxes]
    assert {'make structures', 'label_0_bulk', 'train_0', 'explore_0', 'deposit', 'heal'} <= set(titles)
    words = {name.split(' (pk')[0]: taken for name, taken in lineage.sentences}
    assert len(words['deposit']) == 1
    assert words['deposit'][0].startswith('committee of 2')
    assert 'from train_0' in words['deposit'][0]
    assert any('2 labelled frames, bulk' in item and 'label_0_bulk' in item for item in words['train_0'])
    assert any('Deep Potential: builtin li' in item and 'from outside' in item for item in words['train_0'])
    places = [(box.x, box.y) for box in lineage.boxes]
    width, height = lineage.box_size
    for number, (x, y) in enumerate(places):
        assert width / 2 <= x <= lineage.width - width / 2
        assert y <= lineage.height
        assert all(abs(x - a) >= width or abs(y - b) >= height for a, b in places[number + 1 :])
    height_of = dict(zip(titles, (y for _, y in places), strict=True))
    assert height_of['make structures'] < height_of['label_0_bulk'] < height_of['train_0'] < height_of['heal']


def test_lineage_of_a_part_reaches_beyond_its_tree(whole_chain):
    """Asked for the deposition alone, the labels of its potentials are still in the graph."""
    root, _ = whole_chain
    deposit = next(child for child in root.called if child.process_label == 'DepositWorkChain')
    titles = {box.title for box in read_lineage(read_tree(deposit)).boxes}
    assert 'label_0_bulk' in titles
    assert 'heal' not in titles
