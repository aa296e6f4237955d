"""The structures by which a potential is validated: counts, distances, symmetry."""

import numpy as np
import pytest
from ase.geometry import get_layers

from aiida_liheal.structures.checks import shortest_distance
from aiida_liheal.structures.reference import (
    ReferenceSettings,
    adatom_slab,
    facet_slab,
    isolated_atom,
    phase_cell,
    vacancy_path,
)

A = 3.44
#: Interplanar distance in lattice constants: 1 / sqrt(h^2 + k^2 + l^2), half of it if h + k + l is odd.
SPACING = {'100': 1 / 2, '110': 1 / np.sqrt(2), '111': 1 / np.sqrt(12), '310': 1 / np.sqrt(10), '221': 1 / 6}


@pytest.mark.parametrize(('phase', 'n', 'neighbours'), [('bcc', 2, 8), ('fcc', 4, 12), ('hcp', 2, 12), ('9R', 9, 12)])
def test_phases_have_their_volume_and_neighbours(phase, n, neighbours):
    cell = phase_cell('Li', phase, 20.0)
    assert len(cell) == n
    assert cell.get_volume() / n == pytest.approx(20.0)
    crystal = cell * (4, 4, 3)
    reach = 1.05 * shortest_distance(cell)
    distances = crystal.get_all_distances(mic=True)
    assert set(((distances > 0) & (distances < reach)).sum(axis=1)) == {neighbours}


def test_9r_is_two_thirds_hexagonal():
    """Of three layers of 9R two have the same layer above and below, and one has not."""
    heights = np.array(phase_cell('Li', '9R', 20.0).get_scaled_positions())
    in_plane = heights[np.argsort(heights[:, 2])][:, :2].round(6)
    same = [np.allclose(in_plane[i - 1], in_plane[(i + 1) % 9]) for i in range(9)]
    assert sum(same) == 6


@pytest.mark.parametrize('facet', SPACING)
def test_slabs_of_any_facet(facet):
    slab, area = facet_slab('Li', A, facet, 15.0, 10.0)
    assert slab.pbc.tolist() == [True, True, False]
    _, heights = get_layers(slab, (0, 0, 1), tolerance=0.01)
    spacing = SPACING[facet] * A
    assert np.diff(heights) == pytest.approx(spacing, abs=1e-6)
    assert 15.0 <= np.ptp(heights) < 15.0 + A + spacing
    # as dense as the crystal, and with the same room on either side
    assert len(slab) * A**3 / 2 == pytest.approx(area * spacing * len(heights))
    assert slab.positions[:, 2].min() == pytest.approx(10.0)
    assert slab.cell[2, 2] - slab.positions[:, 2].max() == pytest.approx(10.0)


def test_the_middle_of_the_way_is_a_centre_of_inversion():
    atoms, anchors = vacancy_path('Li', A, 4, 0.5)
    assert len(atoms) == 127
    middle = atoms.positions[-1]
    assert middle == pytest.approx([A / 4] * 3)
    inverted = atoms.copy()
    inverted.positions = 2 * middle - atoms.positions
    inverted.wrap()
    atoms.wrap()
    shifted = (inverted.positions[:, None] - atoms.positions[None]) / (4 * A)
    apart = np.linalg.norm((shifted - np.round(shifted)) * 4 * A, axis=-1)
    assert apart.min(axis=1).max() < 1e-6
    away = atoms.get_distances(-1, anchors, mic=True)
    assert 4 < len(anchors) < 40
    assert away.max() == pytest.approx(away[0])
    assert away.min() > 0.85 * away[0] > 2 * A


def test_at_its_start_the_jumping_atom_is_on_its_site():
    atoms, _ = vacancy_path('Li', A, 3, 0.0)
    assert len(atoms) == 53
    assert shortest_distance(atoms) == pytest.approx(A * np.sqrt(3) / 2)


@pytest.mark.parametrize(('site', 'n_near'), [('hollow', 4), ('bridge', 2)])
def test_adatoms_lie_between_the_atoms_of_the_top_layer(site, n_near):
    atoms, fixed = adatom_slab('Li', A, (4, 4), 8, 12.0, site)
    assert len(atoms) == 129
    assert len(fixed) == 32
    top = np.flatnonzero(np.isclose(atoms.positions[:, 2], 3.5 * A))
    distances = atoms.get_distances(-1, top, mic=True)
    assert np.sum(distances < distances.min() + 1e-6) == n_near
    assert shortest_distance(atoms) > 2.4


def test_an_atom_alone():
    atom = isolated_atom('Li')
    assert len(atom) == 1
    assert not atom.pbc.any()


@pytest.mark.parametrize(
    ('values', 'told'),
    [
        ({'facets': ['10']}, 'facets'),
        ({'n_eos': 7}, 'holds 3 of the volumes'),
        ({'facets': ['000']}, '000 is none'),
        ({'facets': ['100', '100']}, 'each facet once'),
        ({'phonon_size': 3}, 'must be even'),
        ({'adatom_size': [2, 4]}, '3 or more'),
        ({'phases': ['bcc']}, 'phases'),
    ],
)
def test_settings_that_make_no_sense(values, told):
    with pytest.raises(ValueError, match=told):
        ReferenceSettings.read(values)
