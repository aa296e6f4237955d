"""Figures of a deposit hold what the analysis found, with units, errors and looks that do not need colour."""

import csv
import io

import numpy as np
import pytest
import trees
from aiida.orm import Dict

from aiida_liheal.analysis.members import site_energies
from aiida_liheal.report.deposits import BOTTOM_ERROR_A, deposit_figures
from aiida_liheal.report.facts import facts
from aiida_liheal.report.figures import to_csv
from aiida_liheal.report.page import make_page
from aiida_liheal.report.tree import read_tree

TIME = np.linspace(0.0, 10.0, 6)
NAN = np.nan


def of(series=None, snapshots=None, summary=None):
    series = {'time_ps': TIME, **(series or {})}
    return {figure.title: figure for figure in deposit_figures(series, snapshots or {}, summary or {})}


def sheet(figure):
    header, *rows = csv.reader(io.StringIO(figure.csv))
    return {name: [row[k] for row in rows] for k, name in enumerate(header)}


def texts(figure):
    return [note.text for note in figure.plot.layout.annotations]


DENDRITE = {
    'dendrite_height_A': np.array([NAN, 10.0, 25.0, 30.0, 36.0, 40.0]),
    'dendrite_bottom_A': np.array([NAN, NAN, 20.0, 20.0, 20.0, 20.0]),
    'dendrite_top_A': np.array([NAN, 8.0, 15.0, 16.0, 17.0, 18.0]),
    'dendrite_overhang': np.array([NAN, NAN, 0.0, 0.1, 0.2, 0.4]),
    'dendrite_form': np.array([0.0, 0, 3, 1, 1, 2]),
    'deposit_height_A': TIME,
}
SETTINGS = {
    'dendrites': {
        'mushroom_overhang': 0.3, 'mushroom_widest_above': 0.5, 'needle_aspect': 1.5, 'bottom_at_A': 10.0,
        'top_range': [0.8, 0.9],
    },
    'contacts': {'fused_share': 0.8, 'flat_share': 0.2, 'flat_roughness_A': 1.0},
}  # fmt: skip


def test_nothing_measured_nothing_drawn():
    """An analysis that looked for no dendrites, of a crystal without a surface."""
    assert of({'void_volume_A3': TIME}, {'first_cell_A': np.eye(3)}, {'settings': {}}) == {}


def test_dendrite():
    """Sizes with the error of D_bottom, the numbers that decide with their limits, and a form a frame."""
    figures = of(DENDRITE, summary={'settings': SETTINGS})
    size = figures['Size of the dendrite']
    lines = {line.name: line for line in size.plot.data if line.name}
    # where something stands its height is told once
    assert list(lines) == ['height H', 'D<sub>bottom</sub>', 'D<sub>top</sub>']
    (band,) = (line for line in size.plot.data if line.fill == 'toself')
    assert (band.y.min(), band.y.max()) == (20 - BOTTOM_ERROR_A, 20 + BOTTOM_ERROR_A)
    assert np.isfinite(band.y).all()
    deciding = figures['What decides on the form']
    assert sheet(deciding)['height / D_bottom'][2:] == ['1.25', '1.5', '1.8', '2.0']
    assert texts(deciding) == ['O ≥ 0.3: mushroom', 'H/D ≥ 1.5: needle']
    form = figures['Form of the dendrite']
    assert {mark.name: list(mark.x) for mark in form.plot.data} == {
        'none or too small': [0, 2], 'hemisphere': [4], 'needle': [6, 8], 'mushroom': [10],
    }  # fmt: skip
    assert len({mark.marker.symbol for mark in form.plot.data}) == 4


def test_low_deposit():
    """Where nothing stands, how high and wide all of the deposit is."""
    figures = of({'dendrite_form': np.zeros(6), 'deposit_height_A': TIME, 'deposit_width_A': TIME + 5})
    assert list(figures) == ['Size of the dendrite']
    assert len(figures['Size of the dendrite'].plot.data) == 2
    assert 'all that has landed' in figures['Size of the dendrite'].caption


def test_outline():
    """The width by height at the end, and why the form is what it is."""
    one = {
        'form': 'needle', 'form_reason': 'overhang 0.10 at 0.90 of the height, height / bottom 2.00',
        'form_margin_A': 2.25, 'form_next': 'mushroom', 'form_is_clear': False, 'height_A': 40.0,
        'width_is': 'extent along x', 'profile_height_A': [5.0, 10.0, 15.0], 'profile_width_A': [21.0, 20.0, 22.0],
    }  # fmt: skip
    outline = of(summary={'dendrites': [one], 'settings': SETTINGS})['Outline of the dendrites at the end']
    assert sheet(outline)['1: needle: width (Å)'] == ['21.0', '20.0', '22.0']
    assert (
        '1: needle, overhang 0.10 at 0.90 of the height, height / bottom 2.00; 2.2 Å from a mushroom' in outline.caption
    )
    assert 'less than a row of atoms' in outline.caption
    (grey,) = (shape for shape in outline.plot.layout.shapes if shape.type == 'rect')
    assert (grey.y0, grey.y1) == (32.0, 36.0)


def test_pair():
    """Gap, neck and roughness, with the times at which things happened."""
    series = {
        'pair_gap_A': np.array([NAN, 8.0, 4.0, 0, 0, 0]),
        'pair_neck_share': np.array([NAN, NAN, NAN, 0.3, 0.9, 1.0]),
        'pair_neck_A': np.array([NAN, NAN, NAN, 6.0, 18.0, 20.0]),
        'column_roughness_A': np.array([1.0, 5.0, 10.0, 8.0, 4.0, 1.5]),
    }
    times = {'contact_ps': 6.0, 'fused_ps': 8.0, 'met_image_ps': None, 'flat_ps': 10.0, 'pair': [{}, {}]}
    figures = of(series, summary={'contacts': times, 'settings': SETTINGS})
    assert texts(figures['Gap of the two dendrites']) == ['contact<br>6 ps']
    assert sheet(figures['Gap of the two dendrites'])['gap (Å)'] == ['8.0', '4.0', '0.0', '0.0', '0.0']
    assert texts(figures['Neck of the two dendrites']) == ['fused from 0.8 on', 'contact<br>6 ps', 'fused<br>8 ps']
    # a fifth of the largest
    assert texts(figures['Flattening of the two dendrites']) == ['flat below 2 Å', 'flat<br>10 ps']
    # a single dendrite has neither
    alone = of({'column_roughness_A': TIME}, summary={'contacts': {**times, 'pair': []}, 'settings': SETTINGS})
    assert alone == {}


def snapshots(heights, edges=(40.0, 20.0)):
    cell = np.diag([*edges, 30.0])
    return {
        f'{frame}_{key}': value
        for frame, values in zip(('first', 'last'), heights, strict=True)
        for key, value in (('surface_height_A', values), ('cell_A', cell))
    }


def test_maps():
    """Start and end at one scale, contours with numbers, heights above the mean at the start."""
    x = (np.arange(80) + 0.5) / 80
    wave = np.repeat(10 + 4 * np.sin(2 * np.pi * x)[:, None], 40, axis=1).astype(np.float32)
    figures = of(snapshots=snapshots([wave, np.full_like(wave, 15)]))
    seen = figures['Surface from above']
    start, end = seen.plot.data
    assert (start.zmin, start.zmax) == (end.zmin, end.zmax)
    assert start.contours.showlabels
    # a wave of 40 Å keeps all but 3 % of its height when rows of atoms are averaged out
    assert start.z.max() == pytest.approx(4, rel=0.05)
    assert np.allclose(end.z, 5)
    assert [axis.title.text for axis in (seen.plot.layout.xaxis2, seen.plot.layout.yaxis, seen.plot.layout.yaxis2)] == [
        'x (Å)', 'y (Å)', 'y (Å)',
    ]  # fmt: skip
    assert start.colorbar.title.text == 'height (Å)'
    # the darkest colour of the maps is light enough for black lines
    red, green, blue = (int(start.colorscale[0][1][k : k + 2], 16) for k in (1, 3, 5))
    assert 0.2126 * red + 0.7152 * green + 0.0722 * blue > 80
    side = sheet(figures['Surface from the side'])
    assert float(side['start: mean (Å)'][10]) == pytest.approx(4 * np.sin(2 * np.pi * x[10]), abs=1e-5)
    assert set(side['end: lowest (Å)']) == {'5.0'}


def test_maps_are_bounded():
    """However large the surface, a page grows by no more than this."""
    rng = np.random.default_rng(0)
    figures = of(snapshots=snapshots([rng.normal(size=(700, 300)).astype(np.float32)] * 2, (700.0, 300.0)))
    assert sum(len(figure.json) + len(figure.csv) for figure in figures.values()) < 450_000


@pytest.mark.parametrize('flat', [True, False])
def test_current(flat):
    """Patches with the error of their counts; VLCD with its error, without the shot noise."""
    counts = np.array([[10], [30], [20], [20]]) if flat else np.array([[10, 30], [20, 0]])
    one = 5.0e7
    current = {
        'atoms_landed': int(counts.sum()), 'duration_ps': 10.0, 'density_A_per_cm2': (counts * one).tolist(),
        'mean_A_per_cm2': float(counts.mean() * one), 'vlcd': 0.08, 'vlcd_error': 0.031,
    }  # fmt: skip
    figures = of(snapshots={'first_cell_A': np.diag([80.0, 40.0, 30.0])}, summary={'local_current': current})
    (figure,) = figures.values()
    assert 'VLCD): 0.080 ± 0.031, shot noise taken off' in figure.caption
    numbers = sheet(figure)
    assert [float(value) for value in numbers['current density (A/cm²)']] == (counts.ravel() * one).tolist()
    # where none landed one could have
    expected = np.sqrt(np.maximum(counts.ravel(), 1)) * one
    assert [float(value) for value in numbers['standard error (A/cm²)']] == pytest.approx(expected.tolist())
    (drawn,) = (trace for trace in figure.plot.data)
    if flat:
        assert list(drawn.error_y.array) == pytest.approx(expected.tolist())
        assert list(drawn.x) == [10, 30, 50, 70]
        assert figure.plot.layout.yaxis.title.text == 'current density (A/cm²)'
    else:
        assert drawn.text[1][0] == '2.00<br>±0.37'
        assert drawn.colorbar.title.text == 'current density (A/cm²)'


def test_figures_have_looks_and_titles():
    """Every figure has titles of its axes; lines of one figure differ in dash or marker."""
    for figure in of(DENDRITE, summary={'settings': SETTINGS}).values():
        assert figure.plot.layout.xaxis.title.text
        assert figure.plot.layout.yaxis.title.text
        looks = [(line.line.dash, line.marker.symbol) for line in figure.plot.data if line.mode == 'lines+markers']
        assert len(set(looks)) == len(looks)
    assert to_csv({}) == '\r\n'


def test_numbers_of_the_page(aiida_profile, monkeypatch):
    """Current with its variance, forms with their reasons, and what became of the pair; then the figures."""
    made = trees.analysis
    content = made()[3].get_dict() | {
        'local_current': {
            'atoms_landed': 40, 'duration_ps': 10.0, 'density_A_per_cm2': [[1e9], [3e9]], 'mean_A_per_cm2': 2e9,
            'vlcd': 0.25, 'vlcd_error': None,
        },
        'dendrites': [{'form': 'none', 'form_reason': 'too small: 9.0 Å high', 'profile_height_A': [5.0],
                       'profile_width_A': [9.0], 'height_A': 9.0, 'width_is': 'extent along x'}],
        'site_energies': [
            {'time_ps': 4.0, 'members': 4, 'profile': None, 'differences': {
                'tips_less_valleys': {'mean_eV': 0.313, 'spread_eV': 0.021, 'by_member_eV': [0.3, 0.3, 0.3, 0.35]}}},
        ],
        'contacts': {'pair': [{}, {}], 'contact_ps': 6.25, 'fused_ps': None, 'flat_ps': None},
    }  # fmt: skip
    monkeypatch.setattr(trees, 'analysis', lambda: (*made()[:3], Dict(content)))
    node = trees.simulation(trees.localhost(), 'deposit')
    told = {fact.name: (fact.value, fact.remark) for fact in facts(read_tree(node))}
    assert told['mean current density'] == ('2e+09 A/cm²', '40 atoms in 10 ps')
    assert told['VLCD'][0] == '0.250'
    assert told['VLCD'][1].endswith('2 patches')
    assert told['tips less valleys at 4 ps, by the committee'] == (
        '0.313 ± 0.021 eV',
        'standard deviation over 4 members',
    )
    assert told['form of dendrite 1'] == ('no form', 'too small: 9.0 Å high')
    assert told['contact of the pair'][0] == '6.25 ps'
    assert told['the pair fused'][0] == 'not seen'
    page = make_page(node, pictures=False)
    assert 'Local current density' in page
    assert 'Outline of the dendrites at the end' in page
    # on one patch nothing can vary: 0 would be taken for a finding
    content['local_current'] |= {'density_A_per_cm2': [[2e9]], 'vlcd': 0.0, 'vlcd_error': 0.0}
    small = trees.simulation(trees.localhost(), 'deposit')
    told = {fact.name: fact.value for fact in facts(read_tree(small))}
    assert told['mean current density'] == '2e+09 A/cm²'
    assert 'VLCD' not in told
    assert 'Local current density' not in make_page(small, pictures=False)


def test_sites_by_the_committee():
    """Differences with the spread of the members and each of them; a profile with bars; nothing without a committee."""
    sites = {name: np.arange(6) // 2 == k for k, name in enumerate(('surface', 'valleys', 'bulk'))}
    sites['tips'] = np.zeros(6, bool)
    # the second member has another zero, and differs by 0.2 eV in valleys
    one = np.array([-1.4, -1.4, -1.7, -1.7, -1.9, -1.9])
    two = one + 5.0 + 0.2 * sites['valleys']
    told = site_energies(np.array([one, two]), sites, np.array([2, 2, 1, 1, 0, 0]), 3.5, np.ones(6, bool))
    frames = [{'step': step, 'time_ps': step / 1000, 'members': 2, **told} for step in (0, 4000)]
    figures = of(summary={'site_energies': frames})
    figure = figures['Energies of sites, by the committee']
    assert list(figure.plot.layout.xaxis.ticktext) == ['surface - bulk', 'valleys - bulk']
    marks = {mark.name: mark for mark in figure.plot.data}
    assert list(marks['4 ps'].y) == pytest.approx([0.5, 0.3])
    assert list(marks['4 ps'].error_y.array) == pytest.approx([0.0, 0.1])
    assert list(marks['0 ps,<br>each member'].y) == pytest.approx([0.5, 0.5, 0.2, 0.4])
    assert marks['0 ps'].marker.symbol != marks['4 ps'].marker.symbol
    assert [float(value) for value in sheet(figure)['4 ps: member 1 (eV)']] == pytest.approx([0.5, 0.4])
    profile = figures['Energy by height, by the committee']
    assert list(profile.plot.data[0].x) == pytest.approx([0.0, 0.3, 0.5])
    assert list(profile.plot.data[0].error_x.array) == pytest.approx([0.0, 0.1, 0.0])
    assert of(summary={'site_energies': None}) == {}
