"""`aiida-liheal healing`."""

from __future__ import annotations

import json
import math

import pytest
from aiida.orm import Dict, WorkChainNode
from trees import give, process


def heal(temperature, healed, volume=2000.0, exit_status=0, **summary):
    """A run of `heal` with a void as it stands in the database."""
    node = process(
        WorkChainNode,
        'HealWorkChain',
        'liheal.heal',
        inputs={'settings': Dict({'temperature_K': temperature})},
        exit_status=exit_status,
    )
    told = {'start': {'void_volume_A3': volume}, 'end': {'time_ps': 50.0}, 'healed_at_ps': healed, **summary}
    give(node, analysis__summary=Dict(told).store())
    return node


@pytest.fixture
def runs(aiida_profile_clean):
    return [heal(100.0, None), heal(150.0, 20.0), heal(200.0, 11.0), heal(300.0, 6.5)]


def test_runs_with_their_law(invoke, runs):
    status, output = invoke('healing', *[node.pk for node in runs])
    assert status == 0, output
    lines = [line.split() for line in output.splitlines() if line.startswith('<')]
    assert [line[2:] for line in lines] == [['100', '>', '50'], ['150', '20'], ['200', '11'], ['300', '6.5']]
    assert {line[1] for line in lines} == {f'{(6 * 2000 / math.pi) ** (1 / 3):.1f}'}
    assert 'Arrhenius at 15.6 Å, 3 of 4 runs healed: activation_energy_eV = ' in output
    assert 'rate_at_infinite_temperature_per_ps' in output


def test_json_of_a_campaign(invoke, runs):
    empty, broken = heal(300.0, 1.0, volume=0.0), heal(300.0, None, exit_status=320)
    rows = [{'point': f'void_{number}', 'run': node.uuid} for number, node in enumerate([*runs, empty, broken])]
    campaign = process(WorkChainNode, 'CampaignWorkChain', 'liheal.campaign')
    give(campaign, table=Dict({'rows': rows}).store())
    status, output = invoke('healing', campaign.pk, runs[0].pk, '--json', '--confidence', 0.9)
    assert status == 0, output
    told = json.loads(output)
    assert [run['label'] for run in told['runs']] == [f'<{runs[0].pk}>', 'void_1', 'void_2', 'void_3']
    assert [run['is_bound'] for run in told['runs']] == [True, False, False, False]
    (law,) = told['laws']
    assert law['confidence'] == 0.9
    assert law['parameters']['activation_energy_eV']['value'] > 0
    assert told['left_out'] == {
        'void_4': 'there is no void at its start',
        'void_5': 'it ended with exit code 320 before its void had healed',
    }


def test_what_is_no_run_of_a_void_is_refused(invoke, aiida_profile_clean):
    other = process(WorkChainNode, 'MeltWorkChain', 'liheal.melt')
    status, output = invoke('healing', other.pk)
    assert status == 1
    assert 'give runs of heal, or campaigns that are over' in output
    status, output = invoke('healing', heal(300.0, 1.0, volume=0.0).pk)
    assert status == 1
    assert 'no void at its start' in output
    assert 'no run with a void' in output
