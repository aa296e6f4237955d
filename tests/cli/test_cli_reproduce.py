"""`launch reproduce` and `reproduction`: what would be run for which check, a campaign judged, its table printed."""

from __future__ import annotations

import json

import pytest
from aiida.orm import CalcFunctionNode, Dict, WorkChainNode
from trees import give, process

from aiida_liheal.report.page import make_page


@pytest.fixture
def finished_campaign(aiida_profile_clean):
    """A campaign of a void that closed at two temperatures."""
    summary = {'healed_at_ps': 2.5, 'max': {'n_atoms': 1946}, 'end': {'time_ps': 15.0}}
    row = {'series': 'void', 'state': 'finished', 'cause': '', 'results': {}}
    rows = [{**row, 'point': f'void_{t}', 'grid': {'settings.temperature_K': float(t)}} for t in (100, 300)]
    table = {'title': 'a void', 'series': {'void': {'verb': 'heal'}}, 'rows': rows}
    node = process(WorkChainNode, 'CampaignWorkChain', 'liheal.campaign')
    outputs = {f'points__{row["point"]}__analysis__summary': Dict(summary).store() for row in rows}
    return give(node, table=Dict(table).store(), **outputs)


def test_dry_run(invoke, codes, potential, n_nodes):
    """Points, jobs, atoms, steps and checks of each series; nothing is stored."""
    before = n_nodes()
    status, output = invoke('launch', 'reproduce', '--potential', potential.pk, '--protocol', 'fast', '-n')
    assert status == 0, output
    line = next(line.split() for line in output.splitlines() if line.startswith('void'))
    assert line == ['void', 'heal', '1', '0', '2', '416', '8,000', '3.33e+06', '?', '6']
    assert '1. The potential is as accurate as its DFT: 0 of 4 parts' in output
    assert '7. Two dendrites meet and fuse: 0 of 3 parts; not run: contact, fused, flat' in output
    assert '10. ' in output
    assert 'nothing was stored or run' in output
    assert n_nodes() == before


def test_a_campaign_is_judged_and_printed(invoke, finished_campaign):
    """Without codes or potentials; the table for people, as Markdown and as JSON."""
    status, output = invoke('launch', 'reproduce', '--campaign', finished_campaign.pk, '-n')
    assert status == 0, output
    assert '6. A void in the crystal closes: 2 of 3 parts; not run: share of bcc dips and recovers' in output
    status, output = invoke('launch', 'reproduce', '--campaign', finished_campaign.pk, '--run')
    assert status == 0, output
    assert '6. A void in the crystal closes (Section 3, Figure 2b-d): NOT RUN' in output
    assert 'temperature_K 100: 2.5 ps; temperature_K 300: 2.5 ps [1,946 atoms, 15 ps, 2 runs]' in output
    judged = WorkChainNode.collection.find({'attributes.process_label': 'ReproduceWorkChain'})[0]
    assert CalcFunctionNode.collection.find()[0].process_label == 'judge_points'
    status, output = invoke('reproduction', judged.pk, '--json')
    assert status == 0
    table = json.loads(output)
    assert [row['number'] for row in table['checks']] == list(range(1, 11))
    assert table['counts'] == {'pass': 0, 'fail': 0, 'not at this size': 0, 'not run': 10}
    assert table['part_counts']['pass'] == 1
    status, output = invoke('reproduction', judged.pk, '--markdown')
    assert status == 0
    assert output.startswith('| check | what | paper | ours | size | outcome | reason |')
    assert '| the void closes at every temperature | closes at 50-300 K' in output
    status, plain = invoke('reproduction', judged.pk)
    assert status == 0
    assert '10 checks: 0 pass, 0 fail, 0 not at this size, 10 not run' in plain
    page = make_page(judged, pictures=False)
    assert '<h3>6. A void in the crystal closes: not run</h3>' in page
    assert '10 checks: 0 pass, 0 fail, 0 not at this size, 10 not run' in page
    assert '<span class="badge pass">pass</span>' in page
    assert 'no labelled frames given to test the potential on' in page


def test_what_is_wrong_is_told(invoke, codes, potential, finished_campaign, healed):
    for arguments, parts in (
        (('launch', 'reproduce'), ['no potential given']),
        (('launch', 'reproduce', '--campaign', finished_campaign.pk, '--seed', '4'), ['runs nothing']),
        (('launch', 'reproduce', '--campaign', healed.pk), [f'HealWorkChain<{healed.pk}> has no table']),
        (('launch', 'reproduce', '--potential', potential.pk, '--protocol', 'huge'), ["'huge'", 'fast, balanced']),
        (('launch', 'reproduce', '--potential', potential.pk, '-s', 'check.x=1'), ['unknown override check', 'checks']),
        (
            ('launch', 'reproduce', '--potential', potential.pk, '-s', 'campaign.series.void.from=laptop.hole'),
            ["campaign.series.void.from = 'laptop.hole'", 'NAME.SERIES', 'classical, laptop, paper'],
        ),
        (
            ('launch', 'reproduce', '--potential', potential.pk, '-s', 'checks.void.parts.time.least_atoms=0'),
            ['void.parts.time.least_atoms = 0', 'greater than or equal to 1'],
        ),
        (('reproduction', finished_campaign.pk), [f'--campaign {finished_campaign.pk}']),
        (('reproduction', healed.pk), ['has no table of checks']),
        (('launch', 'reproduce', '--campaign', 123456), ['campaign: there is no node']),
        (('launch', 'reproduce', '--code', 'gpaw=x', '--potential', potential.pk), ['this verb runs lmp, python, dp']),
    ):
        status, output = invoke(*arguments)
        assert status == 1, arguments
        for part in parts:
            assert part in output, (arguments, output)


@pytest.mark.usefixtures('aiida_profile_clean')
def test_codes_are_needed_to_run(invoke, potential):
    status, output = invoke('launch', 'reproduce', '--potential', potential.pk)
    assert status == 1
    assert 'there is no code lmp@localhost' in output
