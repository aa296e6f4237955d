"""Figures of an analysis, from its arrays alone."""

import numpy as np

from aiida_liheal.report.figures import analysis_figures


def test_figures_of_an_analysis():
    """What is known is drawn: energies by place, the surface, shares by height; what is not a number is left out."""
    time = np.linspace(0, 2, 5)
    series = {
        'time_ps': time,
        'bcc_share': np.full(5, 0.6),
        'other_share': np.full(5, 0.4),
        'amorphous_share': np.full(5, 0.1),
        'roughness_A': np.linspace(4, 1, 5),
        'defect_depth_A': np.full(5, np.nan),
        'atoms_tips': np.full(5, 3),
        'potential_energy_tips_eV_per_atom': np.full(5, -1.4),
        'atoms_valleys': np.full(5, 5),
        'potential_energy_valleys_eV_per_atom': np.full(5, -1.8),
        'potential_energy_bulk_eV_per_atom': np.full(5, np.nan),
    }
    profiles = {
        'height_A': np.arange(3) * 3.5,
        'bcc_share': np.array([0.9, 0.8, np.nan]),
        'other_share': np.array([0.1, 0.2, np.nan]),
        'potential_energy_eV_per_atom': np.array([-1.9, -1.8, np.nan]),
    }
    figures = {figure.title: figure for figure in analysis_figures(series, profiles, ['void_volume_A3'])}
    assert set(figures) == {
        'Crystal structure',
        'Roughness of the surface',
        'Potential energy by place',
        'Potential energy by height',
        'Crystal structure by height',
    }
    places = figures['Potential energy by place']
    assert [line.name for line in places.plot.data] == ['tips', 'valleys']
    assert places.csv.splitlines()[0] == 'time (ps),tips (eV/atom),tips (atoms),valleys (eV/atom),valleys (atoms)'
    assert 'other, away<br>from surfaces' in [line.name for line in figures['Crystal structure'].plot.data]
    assert [line.name for line in figures['Crystal structure by height'].plot.data] == ['BCC', 'other']
    for figure in figures.values():
        looks = [(line.line.dash, line.marker.symbol) for line in figure.plot.data]
        assert len(set(looks)) == len(looks)
        assert figure.plot.layout.xaxis.title.text
        assert figure.plot.layout.yaxis.title.text
