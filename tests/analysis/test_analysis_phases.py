import numpy as np
import pytest
from analysis_synthetic import A, as_data, crystal, cut_cube, dump_text, everything, slab, write_dump
from ase.build import bcc110, bcc111, bulk

from aiida_liheal.analysis.phases import STRUCTURES, atoms_inside, averaged_positions, shares, structure_types
from aiida_liheal.analysis.series import SURFACE_REACH
from aiida_liheal.analysis.trajectory import Trajectory
from aiida_liheal.analysis.voids import measure_voids

REACH = SURFACE_REACH * A


def inside_of(data, atoms):
    """Atoms away from the surfaces that the mesh with a probe of 3.0 Å shows."""
    matter = everything(atoms)
    return atoms_inside(data, matter, measure_voids(data, matter, 3.0).surface, REACH)


@pytest.mark.parametrize(
    ('atoms', 'name'),
    [
        (bulk('Li', 'bcc', a=3.51, cubic=True) * (4, 4, 4), 'bcc'),
        (bulk('Li', 'fcc', a=4.40, cubic=True) * (4, 4, 4), 'fcc'),
        (bulk('Li', 'hcp', a=3.11, c=5.09, orthorhombic=True) * (5, 4, 4), 'hcp'),
    ],
)
def test_ideal_crystals(atoms, name):
    found = shares(structure_types(as_data(atoms)))
    assert found == {other: float(other == name) for other in STRUCTURES}


def test_slab_surfaces_are_other():
    """The two outermost layers on either side of a (100) slab lack neighbours; 12 of 16 layers are bcc."""
    atoms = slab(6, 16)
    data = as_data(atoms)
    types = structure_types(data)
    assert shares(types)['bcc'] == 12 / 16
    inside = inside_of(data, atoms)
    assert inside.sum() == 12 * 36
    assert shares(types, inside) == {name: float(name == 'bcc') for name in STRUCTURES}
    assert set(data.particles.keys()) == {'Particle Type', 'Position'}, 'the frame was changed'


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('face', [bcc110, bcc111])
def test_inside_is_what_could_be_bcc(face, seed):
    """On other faces, too, and with atoms off their sites, no atom inside lacks a neighbour of the ideal crystal."""
    atoms = face('Li', (6, 6, 24), a=A, vacuum=15.0, orthogonal=True)
    atoms.pbc = (True, True, False)
    ideal = structure_types(as_data(atoms)) == STRUCTURES.index('bcc')
    atoms.rattle(0.05, seed=seed)
    inside = inside_of(as_data(atoms), atoms)
    assert not (inside & ~ideal).any()
    assert inside.sum() >= 0.6 * ideal.sum()


def test_atoms_around_a_void_are_not_inside():
    atoms, _ = cut_cube(crystal(8), 3, 2)
    inside = inside_of(as_data(atoms), atoms)
    ideal = structure_types(as_data(atoms)) == STRUCTURES.index('bcc')
    assert inside.sum() < len(atoms)
    assert not (inside & ~ideal).any()


def test_everything_is_inside_without_a_surface():
    atoms = crystal(6)
    assert inside_of(as_data(atoms), atoms).all()


def test_no_members_have_no_share():
    assert np.isnan(shares(np.array([3, 3, 0]), np.zeros(3, dtype=bool))['bcc'])


def test_averaging_recovers_a_hot_crystal(tmp_path):
    """Random displacements of 0.35 Å hide the crystal in one frame, not in the mean of 20; atoms cross the boundary."""
    rng = np.random.default_rng(1)
    atoms = crystal(6)
    texts = []
    for step in range(20):
        moved = atoms.copy()
        moved.positions += rng.normal(scale=0.35, size=moved.positions.shape)
        moved.wrap()
        texts.append(dump_text(step, moved))
    trajectory = Trajectory.index([write_dump(tmp_path / 'hot.dump', *texts)])
    frames = list(trajectory.read(range(20)))
    assert shares(structure_types(frames[-1].data))['bcc'] < 0.6
    mean = averaged_positions(frames)
    assert shares(structure_types(frames[-1].data, mean))['bcc'] == 1.0
    # the mean is the site to the standard error, 0.35 / sqrt(20), give or take five of them
    off = (mean - atoms.positions) / A / 6
    off = (off - np.round(off)) * 6 * A
    assert np.abs(off).max() < 5 * 0.35 / np.sqrt(20)


def test_averaging_follows_atoms_by_their_ids(tmp_path):
    """Atoms come and go between frames; a young atom is averaged over the frames that have it."""
    atoms = crystal(2)
    ids = np.arange(1, 17)
    first = atoms[:15]
    second = atoms[1:].copy()
    second.positions += (0.2, 0.0, 0.0)
    path = write_dump(tmp_path / 'a.dump', dump_text(0, first, ids[:15]), dump_text(1, second, ids[1:]))
    mean = averaged_positions(list(Trajectory.index([path]).read([0, 1])))
    assert mean[:14] == pytest.approx(atoms.positions[1:15] + np.array([0.1, 0, 0]))
    assert mean[14] == pytest.approx(atoms.positions[15] + (0.2, 0, 0))
