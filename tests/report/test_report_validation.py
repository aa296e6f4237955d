"""Figures of a validation: values with errors beside references with theirs, and g(r) with the peak of experiment."""

import csv
import io

import numpy as np
import pytest
import trees
from aiida.orm import Dict, WorkChainNode

from aiida_liheal.analysis.validation import Limit, PropertyReference, Quantity, ReferenceValue, judge
from aiida_liheal.report.packed import packed_chapters
from aiida_liheal.report.tree import read_tree

PBE = ReferenceValue(low=15.0, high=16.5, source='x')
MEASURED = ReferenceValue(value=17.3, error=1.0, source='y')
PEAK = ReferenceValue(value=3.15, error=0.05, source='neutrons')


@pytest.fixture
def figures(aiida_profile_clean):
    """Two elastic constants, of which one has references, one property of a kind of its own, and a liquid."""
    limit = Limit(against='pbe', relative=0.1)
    rows = judge(
        {
            'C11_GPa': Quantity('GPa', 15.85, 0.58),
            'C_prime_GPa': Quantity('GPa', 2.1),
            'C44_GPa': Quantity('GPa', 20.0, error=0.3),
            'vacancy_formation_eV': Quantity('eV', 0.5),
            'liquid_peak_A': Quantity('Å', 3.02, error=0.012),
        },
        {
            'C11_GPa': PropertyReference(pbe=PBE, experiment=MEASURED, limit=limit),
            'C44_GPa': PropertyReference(pbe=ReferenceValue(value=11.0, source='x'), limit=limit),
            'C12_GPa': PropertyReference(pbe=PBE),
            'liquid_peak_A': PropertyReference(experiment=PEAK),
        },
    )
    radius = np.linspace(0.1, 8.0, 80)
    radial = trees.arrays(
        radius_A=radius,
        g=1 + np.exp(-((radius - 3) ** 2)),
        g_error=np.full(80, 0.02),
        outer_radius_A=radius + 0.05,
        coordination=radius**3,
    )
    node = trees.process(WorkChainNode, 'ValidateWorkChain', 'liheal.validate')
    trees.give(node, table=Dict({'rows': rows, 'counts': {}}).store(), liquid__radial=radial.store())
    ((title, _, drawn),) = packed_chapters(read_tree(node.seal()))
    assert title == 'Validation'
    return {figure.title: figure for figure in drawn}


def test_beside_references(figures):
    """A row a property; a single one of its kind, and one that was not measured, are in the table only."""
    assert set(figures) == {'Elastic constants and bulk modulus', 'Radial distribution of the liquid'}
    figure = figures['Elastic constants and bulk modulus']
    axis = figure.plot.layout.yaxis
    names = dict(zip(axis.ticktext, axis.tickvals, strict=True))
    # said by signs too
    assert set(names) == {'✓ C11', 'C prime', '✗ C44'}
    assert figure.plot.layout.xaxis.title.text == 'value (GPa)'
    marks = {mark.name: mark for mark in figure.plot.data}
    ours = marks['this potential']
    spread = dict(zip(ours.x, ours.error_x.array, strict=True))
    # the spread of the committee, or the error of the run
    assert spread == {15.85: 0.58, 2.1: 0.0, 20.0: 0.3}
    bars = marks['PBE'].error_x
    pbe = {x: pair for x, *pair in zip(marks['PBE'].x, bars.arrayminus, bars.array, strict=True)}
    assert pbe == {15.75: [0.75, 0.75], 11.0: [0.0, 0.0]}
    assert (list(marks['experiment'].x), list(marks['experiment'].error_x.array)) == ([17.3], [1.0])
    # marks of a row lie beside each other and differ in more than colour
    assert len({mark.marker.symbol for mark in marks.values()}) == 3
    assert len({round(mark.y[-1] % 1, 2) for mark in marks.values()}) == 3
    bands = sorted((shape.x0, shape.x1) for shape in figure.plot.layout.shapes)
    assert bands == [pytest.approx((9.9, 12.1)), pytest.approx((13.5, 18.15))]
    header, *rows = csv.reader(io.StringIO(figure.csv))
    told = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert told['C44']['verdict'] == 'fail'
    assert told['C prime']['PBE (GPa)'] == ''


def test_radial_distribution(figures):
    """With its error, and where experiment has the first peak."""
    figure = figures['Radial distribution of the liquid']
    band, line = figure.plot.data
    assert band.y.max() - line.y.max() == pytest.approx(0.02)
    assert 'First peak at 3.02 ± 0.012 Å' in figure.caption
    assert 'by experiment, neutrons' in figure.caption
    notes = [note.text for note in figure.plot.layout.annotations]
    assert notes == ['no order', 'experiment:<br>3.15 Å']
    (grey,) = (shape for shape in figure.plot.layout.shapes if shape.type == 'rect')
    assert (grey.x0, grey.x1) == pytest.approx((3.1, 3.2))
    assert (figure.plot.layout.xaxis.title.text, figure.plot.layout.yaxis.title.text) == ('r (Å)', 'g(r)')


def test_nothing_to_draw(aiida_profile_clean):
    node = trees.process(WorkChainNode, 'ValidateWorkChain', 'liheal.validate', state='waiting')
    assert packed_chapters(read_tree(node)) == []
