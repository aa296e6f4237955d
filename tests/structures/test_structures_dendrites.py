"""Dendrites are as high and wide as said, of one piece, and go on in the lattice of the slab."""

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from aiida_liheal.structures.checks import shortest_distance
from aiida_liheal.structures.dendrites import DendriteSettings

A = 3.51
SLAB = {'size': (40, 4), 'n_layers': 8, 'n_fixed_layers': 4, 'height_above_A': 30.0}
MUSHROOM = {**SLAB, 'form': 'mushroom', 'height_A': 50.0, 'diameter_A': 36.0, 'stem_diameter_A': 15.0}


def n_pieces(atoms):
    """Number of clusters of atoms within 1.1 lattice constants of each other."""
    tree = cKDTree(atoms.positions)
    return connected_components(tree.sparse_distance_matrix(tree, 1.1 * A))[0]


def widths(atoms, settings, low, high, axis=0):
    """Width in Å of the atoms between two heights above the slab."""
    above = atoms.positions[:, 2] - settings.top_A
    x = atoms.positions[(above > low) & (above <= high), axis]
    return float(np.ptp(x))


def random_settings(rng, form, *, quasi_2d, facet='100'):
    diameter = rng.uniform(2.5, 6) * A * (1.6 if form == 'mushroom' else 1)
    height = diameter * rng.uniform(1.2, 2.5) if form != 'hemisphere' else diameter * rng.uniform(0.4, 0.6)
    return DendriteSettings(
        facet=facet,
        size=(18, 4) if quasi_2d else (11, 11),
        n_layers=6,
        n_fixed_layers=2,
        height_above_A=20,
        form=form,
        height_A=height,
        diameter_A=diameter,
        stem_diameter_A=diameter / 1.8 if form == 'mushroom' else None,
        quasi_2d=quasi_2d,
    )


@pytest.mark.parametrize('quasi_2d', [True, False])
@pytest.mark.parametrize('form', ['needle', 'mushroom', 'hemisphere'])
def test_height_and_widths_are_those_given(form, quasi_2d):
    rng = np.random.default_rng(2)
    for _ in range(4):
        settings = random_settings(rng, form, quasi_2d=quasi_2d)
        atoms = settings.build()
        top = atoms.positions[:, 2].max() - settings.top_A
        assert settings.height_A - A < top <= settings.height_A + 1e-3
        assert atoms.cell[2, 2] == pytest.approx(settings.top_A + top + 20)
        # rows are half a lattice constant apart; one or two of them may be missing on each side
        widest = widths(atoms, settings, 0.1, settings.height_A)
        assert settings.diameter_A - 2 * A < widest <= settings.diameter_A + 1e-3
        if not quasi_2d:
            across = widths(atoms, settings, 0.1, settings.height_A, axis=1)
            assert settings.diameter_A - 2 * A < across <= settings.diameter_A + 1e-3
        if form == 'mushroom':
            stem = widths(atoms, settings, 0.1, settings.height_A - settings.diameter_A)
            assert settings.stem_diameter_A - 2 * A < stem <= settings.stem_diameter_A + 1e-3
        assert n_pieces(atoms) == 1
        assert cKDTree(atoms.positions).query(atoms.positions, 2)[0][:, 1].min() == pytest.approx(A * np.sqrt(3) / 2)


@pytest.mark.parametrize('facet', ['100', '110', '111'])
def test_volume_and_slab_on_every_facet(facet):
    """Quasi-2D: atoms a volume; below, the slab is whole."""
    rng = np.random.default_rng(4)
    settings = random_settings(rng, 'hemisphere', quasi_2d=True, facet=facet)
    atoms = settings.build()
    volume = np.pi / 4 * settings.diameter_A * settings.height_A * settings.lengths_A[1]
    surface = (settings.diameter_A + 2 * settings.height_A) * settings.lengths_A[1]
    assert settings.n_added == pytest.approx(volume * 2 / A**3, abs=0.5 * surface * 2 / A**2)
    slab = settings.crystal(settings.n_layers)
    assert (atoms.positions[:, 2] <= settings.top_A + 0.1).sum() == len(slab)
    assert len(atoms) == len(slab) + settings.n_added
    assert shortest_distance(atoms) == pytest.approx(A * np.sqrt(3) / 2)


@pytest.mark.parametrize('form', ['needle', 'mushroom', 'hemisphere'])
def test_pair_is_two_apart_by_the_gap_and_alike(form):
    settings = DendriteSettings.read(
        {
            **SLAB,
            'form': form,
            'height_A': 40,
            'diameter_A': 30,
            'n_dendrites': 2,
            'gap_A': 22,
            'stem_diameter_A': 14 if form == 'mushroom' else None,
        }
    )
    atoms = settings.build()
    x, _, z = atoms.positions.T
    rows = x[z > settings.top_A + 0.1]
    gap = np.diff(np.unique(rows.round(4))).max()
    assert gap + 1e-3 >= 22
    assert gap < 22 + A
    middle = settings.lengths_A[0] / 2
    assert (rows < middle).sum() == (rows > middle).sum() == settings.n_added / 2
    assert np.sort(2 * middle - rows) == pytest.approx(np.sort(rows))
    assert n_pieces(atoms[z > settings.top_A + 0.1]) == 2


def test_forms_are_those_of_the_proposed_classes():
    """Height over foot, and overhang, of the three forms (as an analysis of shapes would have them)."""
    foot = {}
    for form, stem in (('needle', None), ('mushroom', 15.0), ('hemisphere', None)):
        height = None if form == 'hemisphere' else 50.0
        settings = DendriteSettings.read(
            {**MUSHROOM, 'form': form, 'stem_diameter_A': stem, 'height_A': height, 'diameter_A': 30.0}
        )
        atoms = settings.build()
        top = 15 if height is None else height
        foot[form] = widths(atoms, settings, 5, 10) / widths(atoms, settings, 0, top), top / 30
    assert foot['needle'][0] == pytest.approx(1, abs=0.15)
    assert foot['mushroom'][0] < 1 / 1.3
    assert foot['hemisphere'][1] == 0.5


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'form': 'tree'}, r"form = 'tree': .*'needle', 'mushroom' or 'hemisphere'"),
        ({'height_A': None}, 'height_A: missing; the height in Å of a mushroom'),
        ({'height_A': 30.0}, r'height_A = 30.0 Å: a mushroom must be at least as high as wide \(diameter_A = 36.0 Å\)'),
        ({'form': 'needle'}, r'stem_diameter_A = 15.0 Å: only for mushrooms, but form is needle'),
        ({'stem_diameter_A': None}, 'stem_diameter_A: missing'),
        (
            {'stem_diameter_A': 36.0},
            r'stem_diameter_A = 36.0 Å: must be from .*, 7.02 Å, to less than that',
        ),
        ({'stem_diameter_A': 5.0}, r'stem_diameter_A = 5.0 Å: must be from two lattice constants, 7.02 Å'),
        ({'diameter_A': 6.0}, r'diameter_A = 6.0 Å: must be at least two lattice constants, 7.02 Å'),
        ({'n_dendrites': 2}, r'gap_A = None Å, n_dendrites = 2: a pair needs a gap'),
        ({'gap_A': 10.0}, r'gap_A = 10.0 Å, n_dendrites = 1: .*only a pair has one'),
        ({'n_dendrites': 2, 'gap_A': 2.0}, r'gap_A = 2.0 Å: must be at least one lattice constant, 3.51 Å'),
        ({'n_dendrites': 2, 'gap_A': 70.0}, r'are 142.000 Å wide; .* 140.400 Å of the slab along x'),
        ({'n_dendrites': 3, 'gap_A': 5.0}, 'n_dendrites = 3: Input should be 1 or 2'),
        ({'quasi_2d': False}, r'diameter_A = 36.0 Å: must leave .* 14.040 Å of the slab along y .*unless quasi_2d'),
    ],
)
def test_bad_dendrites_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DendriteSettings.read({**MUSHROOM, **changes})


def test_flat_hemisphere_is_refused():
    with pytest.raises(ValueError, match=r'height_A = 2.0 Å: must be at least one lattice constant, 3.51 Å'):
        DendriteSettings.read({**SLAB, 'form': 'hemisphere', 'height_A': 2.0, 'diameter_A': 30.0})
