"""Panels of a campaign: which snapshots lie where, what is written at them, and what is plotted beside them."""

import numpy as np
import pytest
import trees
from aiida.orm import Dict, WorkChainNode
from click.testing import CliRunner
from matplotlib.figure import Figure
from PIL import Image

from aiida_liheal.cli import film as commands
from aiida_liheal.report import campaign_panel as panels
from aiida_liheal.report.panel import PanelSettings
from aiida_liheal.report.tree import read_tree

T, R = 'settings.temperature_K', 'settings.rate_Li_per_ps'
SMALL = PanelSettings(width_px=240)


def point(series, grid, state='finished'):
    name = '_'.join([series, *(str(value).replace('.', 'p') for value in grid.values())])
    return {'point': name, 'series': series, 'grid': grid, 'state': state, 'results': {}}


def of_series(verb, axes):
    return {'verb': verb, 'axes': axes, 'columns': {}, 'figure': None, 'note': '', 'source': ''}


def simulated(one, **changes):
    """Outputs of the analysis of a point."""
    series, _, shots, summary = trees.analysis()
    told = Dict(summary.get_dict() | changes)
    prefix = f'points__{one["point"]}__analysis__'
    return {f'{prefix}series': series, f'{prefix}snapshots': shots, f'{prefix}summary': told}


def campaign(series, rows, outputs):
    root = trees.process(WorkChainNode, 'CampaignWorkChain', 'liheal.campaign')
    table = {'series': series, 'rows': rows, 'counts': {}}
    nodes = {'table': Dict(table), **outputs}
    trees.give(root, **{name: node.store() for name, node in nodes.items()})
    return read_tree(root.seal()).root


@pytest.fixture(scope='module')
def dendrites(aiida_profile):
    """Nine deposits over three temperatures and three rates, in no order."""
    rows = [point('matrix', {T: t, R: r}) for r in (5.0, 0.5, 1.0) for t in (300.0, 200.0, 400.0)]
    outputs = {}
    for one in rows:
        width = one['grid'][T] / 10
        dendrite = {'form': 'needle', 'height_A': 100.0, 'bottom_A': width}
        current = {'vlcd': 19.0, 'vlcd_error': 0.5}
        ends = {'end': {'time_ps': 5.0, 'dendrite_bottom_A': width}, 'dendrites': [dendrite], 'local_current': current}
        outputs |= simulated(one, **ends)
    return campaign({'matrix': of_series('deposit', [T, R])}, rows, outputs)


@pytest.fixture
def laid_out(monkeypatch):
    """What would be drawn: no graphics are needed to know."""
    seen = []

    def take(cells, columns, settings, limits):
        seen.append((cells, columns, settings, limits))
        return Image.new('RGB', (settings.width_px, 20), 'white')

    monkeypatch.setattr(panels, 'lay_out', take)
    return seen


def drawn_axes(monkeypatch):
    """The axes of the plots, as they are drawn."""
    axes = []
    add = Figure.add_subplot

    def keep(self, *args, **kwargs):
        axes.append(add(self, *args, **kwargs))
        return axes[-1]

    monkeypatch.setattr(Figure, 'add_subplot', keep)
    return axes


def test_matrix_of_dendrites(dendrites, laid_out, monkeypatch, tmp_path):
    """Rates from left to right, temperatures from above down, as in Figure 3 of the paper; widths with their error."""
    axes = drawn_axes(monkeypatch)
    said = panels.campaign_panel(dendrites, [], tmp_path / 'x.png', SMALL)
    assert said == ['matrix: 3 x 3 last frames, plots: 1']
    ((cells, columns, settings, limits),) = laid_out
    assert columns == 3
    assert [cell.heading for cell in cells] == [
        f'{letter}) {t} K, {r} Li/ps, 5.00 ps'
        for letter, (t, r) in zip('abcdefghi', [(t, r) for t in (400, 300, 200) for r in (0.5, 1, 5)], strict=True)
    ]
    assert cells[0].remark == 'needle, H 100 Å, bottom 40 Å, VLCD 19.00 ± 0.50'
    # deposits by energy, at one scale for all
    assert settings.colour == 'energy'
    assert limits == pytest.approx((-1.7, -1.5), abs=0.01)
    (ax,) = axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ('temperature (K)', 'width at the bottom (Å)')
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ['0.5 Li/ps', '1 Li/ps', '5 Li/ps']
    bars = ax.containers[0]
    assert bars.has_yerr
    assert bars.lines[0].get_ydata().tolist() == [20, 30, 40]
    with Image.open(tmp_path / 'x.png') as image:
        assert image.width == 240
        assert image.info['dpi'] == pytest.approx((300, 300), abs=1)


def test_seeds_of_one_place(aiida_profile, laid_out, monkeypatch, tmp_path):
    """The first seed is shown; widths are means over the seeds with their scatter, a single one with its own error."""
    rows = [point('m', {T: t, R: r, 'seed': seed}) for t in (200.0, 400.0) for r in (1.0, 5.0) for seed in (3, 4)][:-1]
    outputs = {}
    for one in rows:
        end = {'time_ps': 5.0 + one['grid']['seed'], 'dendrite_bottom_A': one['grid'][T] / 10 + 4 * one['grid']['seed']}
        outputs |= simulated(one, end=end)
    axes = drawn_axes(monkeypatch)
    panels.campaign_panel(
        campaign({'m': of_series('deposit', [T, R, 'seed'])}, rows, outputs), [], tmp_path / 'x.png', SMALL
    )
    cells, columns = laid_out[0][:2]
    assert columns == 2
    assert [cell.heading for cell in cells] == [
        'a) 400 K, 1 Li/ps, 8.00 ps', 'b) 400 K, 5 Li/ps, 8.00 ps', 'c) 200 K, 1 Li/ps, 8.00 ps',
        'd) 200 K, 5 Li/ps, 8.00 ps',
    ]  # fmt: skip
    (ax,) = axes
    slow, fast = ax.containers
    assert slow.lines[0].get_ydata().tolist() == [34, 54]
    assert fast.lines[0].get_ydata().tolist() == [34, 52]
    (bars,) = fast.lines[2]
    halves = [(segment[1, 1] - segment[0, 1]) / 2 for segment in bars.get_segments()]
    assert halves == pytest.approx([8**0.5, 1.3])


def test_a_hole_in_the_matrix_is_told(aiida_profile, laid_out, tmp_path):
    rows = [point('m', {T: t, R: r}, 'failed' if t == r == 1.0 else 'finished') for t in (1.0, 2.0) for r in (1.0, 2.0)]
    outputs = {}
    for one in rows[1:]:
        outputs |= simulated(one)
    step = campaign({'m': of_series('deposit', [T, R])}, rows, outputs)
    with pytest.raises(ValueError, match='the point 1 K, 1 Li/ps has not finished'):
        panels.campaign_panel(step, ['m'], tmp_path / 'x.png', SMALL)
    assert not list(tmp_path.iterdir())


def test_voids_valleys_and_diffusion(aiida_profile, laid_out, monkeypatch, tmp_path):
    """First above last frames by structure; void, bcc and energy below; valleys with bars; bounds as arrows."""
    voids = [point('void', {T: t}) for t in (100.0, 300.0)]
    outputs = simulated(voids[0]) | simulated(voids[1])
    valley, mobility = point('v', {}), point('d', {})
    energies = {'mean_eV': [-1.7, None, -1.4], 'spread_eV': [0.01, None, 0.02]}
    outputs['points__v__summary'] = Dict({'angles_deg': [45, 90, 135], 'n_members': 4, 'atom_energy': energies})
    resolved = {'is_resolved': True, 'D_m2_per_s': 1e-9, 'D_error_m2_per_s': 1e-10, 'D_bound_m2_per_s': None}
    bound = {'is_resolved': False, 'D_m2_per_s': -1e-12, 'D_error_m2_per_s': 1e-11, 'D_bound_m2_per_s': 2e-11}
    rows = [{'asked_temperature_K': 450.0, 'surface': resolved, 'bulk': bound}]
    outputs['points__d__summary'] = Dict({'temperatures': rows})
    series = {
        'void': of_series('heal', [T]), 'v': of_series('valley', []), 'd': of_series('diffuse', []),
        'm': of_series('melt', []),
    }  # fmt: skip
    step = campaign(series, [*voids, valley, mobility], outputs)
    axes = drawn_axes(monkeypatch)
    said = panels.campaign_panel(step, [], tmp_path / 'x.png', SMALL)
    assert said == ['void: first and last frames of 2 runs, plots: 3', 'v: a plot', 'd: a plot']
    ((cells, columns, settings, limits),) = laid_out
    assert (columns, settings.colour, limits) == (2, 'structure', None)
    assert [cell.heading for cell in cells] == ['a) 100 K, 0.00 ps', 'b) 300 K, 0.00 ps', 'a) 2.00 ps', 'b) 2.00 ps']
    assert [ax.get_ylabel() for ax in axes] == [
        'void volume (Å³)', 'share of bcc', 'potential energy (eV/atom)', 'energy of the atom (eV)', 'D (m²/s)',
    ]  # fmt: skip
    looks = [(line.get_linestyle(), line.get_marker()) for line in axes[0].get_lines()]
    assert len(set(looks)) == 2
    # what has no energy is left out
    assert axes[3].containers[0].lines[0].get_xdata().tolist() == [45, 135]
    names = [text.get_text() for text in axes[4].get_legend().get_texts()]
    assert names == ['surface', 'bulk, at most']
    assert axes[4].containers[1].lines[0].get_ydata().tolist() == [2e-11]
    assert axes[4].containers[1].lines[0].get_markerfacecolor() == 'white'
    with pytest.raises(ValueError, match=r'no series w; this campaign has void, v, d, m'):
        panels.campaign_panel(step, ['w'], tmp_path / 'y.png', SMALL)
    with pytest.raises(ValueError, match=r'series m runs melt; a panel shows deposit, heal, valley, diffuse'):
        panels.campaign_panel(step, ['m'], tmp_path / 'y.png', SMALL)


def test_many_runs_are_laid_out_in_pairs_of_rows(aiida_profile, laid_out, tmp_path):
    """Eight runs: six above, two below them, each with its end under its start."""
    rows = [point('s', {'defect': f'd{k}'}) for k in range(8)]
    outputs = {}
    for one in rows:
        outputs |= simulated(one)
    panels.campaign_panel(
        campaign({'s': of_series('deposit', ['defect'])}, rows, outputs), [], tmp_path / 'x.png', SMALL
    )
    cells, columns = laid_out[0][:2]
    assert (len(cells), columns) == (20, 6)
    assert [cell.heading for cell in cells[12:14]] == ['g) d6, 0.00 ps', 'h) d7, 0.00 ps']
    assert all(not cell.heading and not len(cell.shot.positions) for cell in cells[14:18])
    assert [cell.heading for cell in cells[18:]] == ['g) 2.00 ps', 'h) 2.00 ps']


@pytest.mark.parametrize(
    ('axis', 'value', 'text'),
    [
        (T, 400.0, '400 K'),
        (R, 0.5, '0.5 Li/ps'),
        ('settings.flux_Li_per_ps_nm2', 0.127, '0.127 Li/ps/nm²'),
        ('defect', 'inverted_triangular', 'inverted triangular'),
        ('defect', 'none', 'defect: none'),
        ('rate', '5', 'rate 5'),
    ],
)
def test_places_in_a_grid_have_units(axis, value, text):
    assert panels.with_unit(axis, value) == text


def test_drawn(dendrites, tmp_path):
    """The whole of it, where there is something to draw with."""
    path = tmp_path / 'x.png'
    try:
        panels.campaign_panel(dendrites, ['matrix'], path, SMALL)
    except RuntimeError as error:
        pytest.skip(f'no graphics driver here: {str(error)[:80]}')
    with Image.open(path) as image:
        colours = np.asarray(image.convert('RGB')).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 50


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ([], 'give either runs'),
        (['-r', 'a=b', '--campaign', '1'], 'give either runs'),
        (['-r', 'a=b', '--series', 's'], '--series is of a campaign'),
        (['--campaign', '1', '--at', '3'], '--at is of dumps'),
        (['--campaign', 'PK', '--series', 'other'], 'no series other; this campaign has matrix'),
        (['--campaign', 'OTHER'], 'is a HealWorkChain; a panel is made of a campaign'),
        (['--campaign', 'PK', '-o', 'x.jpg'], 'a panel ends in .png'),
    ],
)
def test_what_does_not_fit(dendrites, tmp_path, given, message):
    given = [str(dendrites.pk) if text == 'PK' else text for text in given]
    if 'OTHER' in given:
        other = trees.process(WorkChainNode, 'HealWorkChain', 'liheal.heal').seal()
        given = [str(other.pk) if text == 'OTHER' else text for text in given]
    given = given if '-o' in given else [*given, '-o', str(tmp_path / 'x.png')]
    result = CliRunner().invoke(commands.panel, given)
    assert result.exit_code == 1
    assert message in result.output
