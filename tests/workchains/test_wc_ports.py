"""Ports that several verbs have."""

import pytest
from aiida.orm import Int
from aiida.plugins import WorkflowFactory

VERBS = ('label', 'train', 'explore', 'learn', 'deposit', 'heal', 'valley', 'diffuse', 'melt', 'campaign', 'quickstart')
LEAST = {
    'runs_per_job': 1, 'max_attempts': 1,
    'seed': 0, 'max_at_once': 1, 'batch_size': 1, 'max_iterations': 1, 'max_candidates': 1, 'n_rounds': 1
}  # fmt: skip


@pytest.mark.parametrize('verb', VERBS)
def test_numbers_below_the_least_are_refused_by_name(verb):
    """Wherever a verb has one of these inputs, its name, its value and what is allowed are told."""
    inputs = WorkflowFactory(f'liheal.{verb}').spec().inputs
    checked = 0
    for name, least in LEAST.items():
        if name not in inputs or (name == 'max_iterations' and verb != 'label'):
            continue
        assert inputs[name].validate(Int(least)) is None
        problem = inputs[name].validate(Int(least - 1))
        assert f'{name} is {least - 1}; allowed is {least} or more' in problem.message
        checked += 1
    assert checked


@pytest.mark.parametrize(('verb', 'what'), [('label', 'jobs'), ('train', 'trainings')])
def test_side_by_side(verb, what):
    port = WorkflowFactory(f'liheal.{verb}').spec().inputs['max_at_once']
    assert not port.required
    assert f'Most {what} that run side by side' in port.help
