"""What a test of convergence shows: tables with causes, figures with numbers, a plot that can be opened."""

import csv
import io

import numpy as np
import pytest
from matplotlib.image import imread

from aiida_liheal.report.convergence import (
    causes_of_scan,
    convergence_figures,
    convergence_tables,
    draw,
    markdown,
    table_of_scan,
)
from aiida_liheal.structures.label_errors import Tolerances, digits, sentences


def row(value, energy, is_within, **changes):
    errors = {'energy_meV_per_atom': energy, 'force_meV_per_A': 2 * energy} if energy is not None else {}
    return {
        'value': value,
        'same': [],
        'seen': '',
        'errors': errors,
        'seconds_per_frame': 3.25,
        'cause': None,
        'is_within': is_within,
        'is_reference': False,
        **changes,
    }


@pytest.fixture
def table():
    """A scan of a cut-off, in which 200 eV failed, and one of spacings, two of which are one mesh."""
    cutoffs = [
        row(100, 30.0, False),
        row(200, None, False, cause='frame 0: not self-consistent after 60 steps'),
        row(300, 0.4, True),
        row(400, 0.0, True, is_reference=True),
    ]
    spacings = [
        row(0.4, 12.0, False, seen='5x5x5', same=[0.39]),
        row(0.2, 0.0, True, seen='10x10x10', is_reference=True),
    ]
    return {
        'n_frames': 2,
        'n_atoms': [2],
        'largest_force_eV_per_A': 0.3,
        'tolerances': Tolerances.read({}).model_dump(),
        'scans': {
            'cutoff_eV': {
                'title': 'cut-off',
                'unit': 'eV',
                'held': {'kpoint_spacing_per_A': 0.16},
                'rows': cutoffs,
                'has_reference': True,
                'smallest': 300,
            },
            'kpoint_spacing_per_A': {
                'title': 'distance of k-points',
                'unit': '1/Å',
                'held': {'cutoff_eV': 340.0},
                'rows': spacings,
                'has_reference': True,
                'smallest': None,
            },
        },
    }


class Told:
    """A step of a tree with this table."""

    def __init__(self, table):
        self.table = table

    def result(self, name):
        return self.table if name == 'table' else {}


def test_tables_for_people(table):
    head, lines = table_of_scan(table, 'cutoff_eV')
    assert head == ['cutoff_eV', 'E meV/atom', 'F meV/Å', 's/frame', 'verdict']
    assert lines[0] == ['100', '30', '60', '3.25', 'beyond']
    assert lines[1] == ['200', '', '', '3.25', 'failed (1)']
    assert causes_of_scan(table['scans']['cutoff_eV']) == ['frame 0: not self-consistent after 60 steps']
    assert [line[-1] for line in lines[2:]] == ['within', 'reference']
    head, lines = table_of_scan(table, 'kpoint_spacing_per_A')
    assert lines[0][:2] == ['0.4, 0.39', '5x5x5']
    cutoffs, spacings = convergence_tables(Told(table))
    assert cutoffs.rows[1].state == 'failed'
    assert cutoffs.rows[1].remark.startswith('frame 0')
    assert cutoffs.note.startswith('Held: kpoint_spacing_per_A 0.16. Largest errors of all frames')
    assert 'E: energy, F: force; s/frame: seconds a frame' in cutoffs.note
    assert len(spacings.rows) == 2


def test_numbers_and_causes_fit_into_a_terminal(table):
    """No powers of ten, milliseconds are seen, and a cause that two values share is told once."""
    rows = table['scans']['cutoff_eV']['rows']
    rows[0] = row(100, 720.4, False, seconds_per_frame=0.00412)
    rows[2] = row(300, None, False, cause=rows[1]['cause'], seconds_per_frame=None)
    _, lines = table_of_scan(table, 'cutoff_eV')
    assert lines[0] == ['100', '720', '1441', '0.00412', 'beyond']
    assert [line[-1] for line in lines[1:3]] == ['failed (1)', 'failed (1)']
    assert markdown(table).count('not self-consistent') == 1
    assert [one.remark != '' for one in convergence_tables(Told(table))[0].rows] == [False, True, True, False]
    assert (digits(999.7), digits(0.0123456), digits(-1440.0)) == ('1000', '0.0123', '-1440')


def test_markdown(table):
    text = markdown(table)
    assert text.startswith('Largest errors of all frames against the finest value. E: energy, F: force; ')
    assert '\n\ncut-off (eV), with kpoint_spacing_per_A 0.16:\n\n| cutoff_eV | E meV/atom |' in text
    assert '| 300 | 0.4 | 0.8 | 3.25 | within |' in text
    assert 'within |\n| 400 | 0 | 0 | 3.25 | reference |\n\n(1) frame 0: not self-consistent' in text
    assert text.endswith(sentences(table)[-1])


def test_sentences(table):
    first, rests, second = sentences(table)
    assert rests == 'cutoff_eV: that rests on 400 alone; a value finer still would show whether it holds.'
    assert 'cutoff_eV 300 eV (with kpoint_spacing_per_A 0.16): energy 0.4 meV/atom, force 0.8 meV/Å' in first
    assert second.startswith('kpoint_spacing_per_A: no value but the finest')
    table['together'] = {
        'chosen': {'cutoff_eV': 300},
        'errors': {'energy_meV_per_atom': 1.5},
        'cause': None,
        'is_within': False,
    }
    assert sentences(table)[3] == (
        'cutoff_eV 300 eV together, against the finest of all, beyond the tolerances: energy 1.5 meV/atom.'
    )


def test_figures(table):
    cutoffs, spacings = convergence_figures(Told(table))
    assert 'the smallest value within the tolerances, 300 eV' in cutoffs.caption
    assert cutoffs.caption.startswith('Against 400 eV. Finer')
    table['scans']['cutoff_eV']['unit'] = ''
    caption = convergence_figures(Told(table))[0].caption
    assert caption.startswith('Against 400. Finer')
    assert caption.endswith('the smallest value within the tolerances, 300.')
    assert spacings.plot.layout.xaxis.autorange == 'reversed'
    lines = list(csv.reader(io.StringIO(cutoffs.csv)))
    assert lines[0] == ['cut-off (eV)', 'energy (meV/atom)', 'force (meV/Å)', 's a frame']
    assert lines[2][:2] == ['200', '']
    assert np.array_equal(cutoffs.plot.data[0].x, [100, 300])
    assert convergence_figures(Told({})) == []
    assert convergence_tables(Told({})) == []


def test_plot(table, tmp_path):
    draw(table, tmp_path / 'errors.png')
    picture = imread(tmp_path / 'errors.png')
    assert picture.shape[1] > picture.shape[0] > 300
    assert picture[..., :3].std() > 0.05
    draw(table, tmp_path / 'errors.svg')
    assert 'cut-off (eV)' in (tmp_path / 'errors.svg').read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['errors.png', 'errors.svg']
    with pytest.raises(ValueError, match=r"ends in '\.txt'; allowed are \.png, \.svg, \.pdf"):
        draw(table, tmp_path / 'errors.txt')
    for scan in table['scans'].values():
        for one in scan['rows']:
            one['errors'] = {}
    with pytest.raises(ValueError, match='no value has errors'):
        draw(table, tmp_path / 'errors.png')
