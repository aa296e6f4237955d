"""The chapter of a campaign: a table with a row a point, a figure against the grid, curves of its points."""

import csv
import io
import json

import pytest
from aiida.orm import Dict, WorkChainNode
from trees import analysis, give, process

from aiida_liheal.report.campaign import campaign_figures, campaign_tables
from aiida_liheal.report.facts import conclusions
from aiida_liheal.report.page import make_page
from aiida_liheal.report.tree import read_tree


def row(series, grid, results, state='finished', **changes):
    name = '_'.join([series, *(str(value).replace('.', 'p') for value in grid.values())])
    taken = {'taken_over': False, 'cause': '', 'run': '0123456789abcdef', 'potential': 'dp', 'seed': 0, 'attempts': 1}
    return {'point': name, 'series': series, 'grid': grid, 'results': results, 'state': state, **taken, **changes}


@pytest.fixture
def campaign(aiida_profile_clean):
    """A campaign that ended with a failed point, and the analysis of two of its points."""
    axes = ['settings.temperature_K', 'rate']
    void = {
        'verb': 'heal',
        'note': 'a <b>note</b>',
        'source': 'Figure 2b',
        'axes': axes,
        'columns': {'analysis.summary.healed_at_ps': 'healed_at_ps', 'results.nothing': 'nothing'},
        'figure': {'x': 'settings.temperature_K', 'y': 'healed_at_ps', 'colour': None},
    }
    valley = {
        **void,
        'verb': 'valley',
        'axes': [],
        'columns': {'summary.angles_deg': 'angles_deg', 'summary.mean_eV': 'mean_eV'},
        'figure': {'x': 'angles_deg', 'y': 'mean_eV', 'colour': None},
    }
    rows = [
        row('void', {axes[0]: 300.0, 'rate': 'low'}, {'healed_at_ps': 2.0, 'nothing': None}),
        row('void', {axes[0]: 100.0, 'rate': 'low'}, {'healed_at_ps': 5.25, 'nothing': None}, taken_over=True),
        row('void', {axes[0]: 100.0, 'rate': 'high'}, {'healed_at_ps': None}, 'failed', cause='exit code 320: broke'),
        row('valley', {}, {'angles_deg': [45.0, 90.0, 135.0], 'mean_eV': [-1.8, -1.7, None]}),
    ]
    table = {
        'title': 'c',
        'series': {'void': void, 'valley': valley},
        'rows': rows,
        'counts': {'points': 4, 'finished': 3, 'failed': 1},
    }
    root = process(WorkChainNode, 'CampaignWorkChain', 'liheal.campaign', exit_status=430, message='1 of 4 failed')
    outputs = {'table': Dict(table)}
    for one in rows[:2]:
        outputs[f'points__{one["point"]}__analysis__series'] = analysis()[0]
    give(root, **{name: node.store() for name, node in outputs.items()})
    return read_tree(root.seal())


def test_tables(campaign):
    """What no point has is left out; a failed point says why."""
    void, valley = campaign_tables(campaign.root)
    assert (void.axes, void.columns) == (['temperature_K', 'rate'], ['healed_at_ps'])
    assert [one.values for one in void.rows] == [['300', 'low'], ['100', 'low'], ['100', 'high']]
    assert [one.results for one in void.rows] == [['2'], ['5.25'], ['']]
    assert [one.remark for one in void.rows] == [
        '',
        'from an earlier campaign, or an equal point',
        'exit code 320: broke',
    ]
    assert valley.rows[0].results[0] == '45, 90, 135'


def test_figures(campaign):
    """Numbers are in order along the axis, lists are drawn against lists, and what is missing is left out."""
    figures = {figure.title: figure for figure in campaign_figures(campaign.root)}
    table = list(csv.reader(io.StringIO(figures['void: healed_at_ps'].csv)))
    assert table == [['rate low temperature_K', 'rate low healed_at_ps'], ['100.0', '5.25'], ['300.0', '2.0']]
    table = list(csv.reader(io.StringIO(figures['valley: mean_eV'].csv)))
    assert table[1:] == [['45.0', '-1.8'], ['90.0', '-1.7']]
    curves = json.loads(figures['void: Void volume'].json)['data']
    assert [line['name'] for line in curves] == ['temperature_K 300<br>rate low', 'temperature_K 100<br>rate low']


def test_diffusion_is_drawn_from_what_its_runs_say(aiida_profile_clean):
    """A number that the run did not resolve is drawn at its bound, never as a value, be it negative."""
    columns = {'summary.temperatures.*.surface.D_m2_per_s': 'surface.D_m2_per_s'}
    series = {
        'verb': 'diffuse', 'note': '', 'source': '', 'axes': ['potential'], 'columns': columns,
        'figure': {'x': 'asked_temperature_K', 'y': 'surface.D_m2_per_s', 'colour': None},
    }  # fmt: skip
    unresolved = {'D_m2_per_s': -4e-12, 'D_error_m2_per_s': 1e-11, 'is_resolved': False, 'D_bound_m2_per_s': 4e-11}
    resolved = {'D_m2_per_s': 2e-9, 'D_error_m2_per_s': 3e-10, 'is_resolved': True, 'D_bound_m2_per_s': None}
    rows = [row('d', {'potential': name}, {'surface.D_m2_per_s': [-4e-12, 2e-9]}) for name in ('one', 'two')]
    outputs = {
        f'points__{one["point"]}__summary': Dict(
            {
                'temperatures': [
                    {'asked_temperature_K': 300.0, 'surface': unresolved},
                    {'asked_temperature_K': 450.0, 'temperature_K': 446.0, 'surface': resolved},
                ]
            }
        )
        for one in rows
    }
    outputs['table'] = Dict({'series': {'d': series}, 'rows': rows, 'counts': {'points': 2, 'finished': 2}})
    root = process(WorkChainNode, 'CampaignWorkChain', 'liheal.campaign')
    give(root, **{name: node.store() for name, node in outputs.items()})
    (figure,) = campaign_figures(read_tree(root.seal()).root)
    assert figure.title == 'd: Diffusion against temperature'
    marks = {mark.name: mark for mark in figure.plot.data}
    assert set(marks) == {
        f'potential {name}<br>surface{end}' for name in ('one', 'two') for end in ('', ':<br>at most')
    }
    value, bound = marks['potential one<br>surface'], marks['potential one<br>surface:<br>at most']
    assert (list(value.x), list(value.y), list(value.error_y.array)) == ([446], [2e-9], [3e-10])
    assert (list(bound.x), list(bound.y), bound.marker.color) == ([300], [4e-11], 'white')
    assert len({mark.marker.symbol for mark in marks.values()}) == 2
    assert len(figure.plot.layout.annotations) == 2


def test_page(campaign):
    """Its table is on the page, with what a user wrote told as text; one sentence says how it ended."""
    assert conclusions(campaign) == ['Campaign: 3 of 4 points finished, 1 failed.']
    page = make_page(campaign.root.node, pictures=False)
    assert 'Points of the campaign' in page
    assert 'exit code 320: broke' in page
    assert 'a &lt;b&gt;note&lt;/b&gt;' in page


def test_a_campaign_under_way_has_no_table_yet(aiida_profile_clean):
    tree = read_tree(process(WorkChainNode, 'CampaignWorkChain', 'liheal.campaign', state='waiting'))
    assert campaign_tables(tree.root) == campaign_figures(tree.root) == conclusions(tree) == []
