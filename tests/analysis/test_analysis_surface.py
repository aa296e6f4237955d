"""Height maps of surfaces whose shape is known, cut out of crystals."""

import numpy as np
import pytest
from analysis_synthetic import A, crystal, dump_text, slab, write_dump
from ase import Atoms
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from aiida_liheal.analysis.results import QUANTITIES
from aiida_liheal.analysis.series import analyse_trajectory
from aiida_liheal.analysis.settings import AnalysisSettings
from aiida_liheal.analysis.surface import HeightMap, corrugation_A, defect_depth, defects_along, height_map
from aiida_liheal.structures.bcc import bcc_slab, surface_cell

FLAT_100 = corrugation_A('100', A)


def cut(shape, n, height):
    """Positions and cell of a crystal of n = (nx, ny) cells without what is above z = shape(x, y)."""
    atoms = crystal(*n, int(height / A) + 1)
    atoms = atoms[atoms.positions[:, 2] < shape(*atoms.positions[:, :2].T)]
    return atoms.positions, np.array(atoms.cell)


def groove(n, width, layers):
    """A slab of 14 cells with a groove along y, `width` cells wide and `layers` atomic layers deep."""
    atoms = crystal(*n, 14)
    x, _, z = atoms.positions.T
    # planes of atoms lie half a cell apart: so many are taken out
    return atoms[(x > (width - 0.25) * A) | (z < 14 * A - (layers + 0.5) * A / 2)]


def as_map(heights, period_A):
    return HeightMap(heights, np.diag([period_A, 20.0]))


@pytest.mark.parametrize('facet', ['100', '110', '111'])
@pytest.mark.parametrize('seed', range(4))
def test_flat_facets(facet, seed):
    """What a flat surface shows is the corrugation of its atoms, and no defect."""
    rng = np.random.default_rng(seed)
    a = rng.uniform(3.4, 3.6)
    layers = bcc_slab('Li', a, tuple(rng.integers(4, 8, 2)), 8, 30.0, facet)
    found = height_map(layers.positions, layers.cell, spacing_A=rng.uniform(0.5, 1.0))
    baseline = corrugation_A(facet, a)
    assert 0.1 < baseline < 0.5
    assert found.roughness_A == pytest.approx(baseline, abs=0.15)
    assert found.roughness_beyond_A(found.roughness_A) == 0
    top = layers.positions[:, 2].max()
    assert top - 1.0 < found.mean_A < top
    assert found.heights_A.max() <= top + 1e-9
    assert defect_depth(found).depth_A == 0
    assert found.bare_share == 0


def test_a_larger_ball_sinks_less():
    assert corrugation_A('100', A, 1.5, 1.2) > FLAT_100 > corrugation_A('100', A, 1.5, 4.0) > 0
    with pytest.raises(ValueError, match="facet is '210'; a baseline is known for 100, 110, 111"):
        corrugation_A('210', A)


def wave(rng, form):
    """A wave along x, its roughness, amplitude and wavelength."""
    n = int(rng.integers(12, 40)), int(rng.integers(3, 6))
    amplitude, phase, length = rng.uniform(4, 25), rng.uniform(), n[0] * A
    if form == 'sine':
        roughness = amplitude / np.sqrt(2)
        shape = lambda x, y: amplitude + 12 + amplitude * np.sin(2 * np.pi * (x / length + phase))  # noqa: E731
    else:
        roughness = amplitude / np.sqrt(3)
        shape = lambda x, y: amplitude + 12 + amplitude * (4 * np.abs((x / length + phase) % 1 - 0.5) - 1)  # noqa: E731
    positions, cell = cut(shape, n, 2 * amplitude + 20)
    return height_map(positions, cell), roughness, amplitude, length


@pytest.mark.parametrize('form', ['sine', 'sawtooth'])
def test_roughness_of_waves(form):
    """Each within 0.7 Å as stated, and no bias beyond a tenth of a layer."""
    rng = np.random.default_rng(7)
    errors = []
    for _ in range(16):
        found, roughness, _, _ = wave(rng, form)
        errors.append(found.roughness_beyond_A(FLAT_100) - roughness)
    assert np.abs(errors).max() < 0.7
    assert abs(np.mean(errors)) < 0.17


def test_correlation_length_of_sines():
    """cos(2 π r / l) = 1/e; along the crests nothing falls."""
    rng = np.random.default_rng(3)
    for _ in range(8):
        found, _, _, length = wave(rng, 'sine')
        along, across = found.smoothed(1.5).correlation_lengths_A()
        assert along == pytest.approx(length * np.arccos(np.exp(-1)) / (2 * np.pi), rel=0.02)
        assert np.isnan(across)


def test_depth_of_sines():
    """From crest to trough twice the amplitude, to 15 % or a layer."""
    rng = np.random.default_rng(4)
    for _ in range(10):
        found, _, amplitude, _ = wave(rng, 'sine')
        assert defect_depth(found).depth_A == pytest.approx(2 * amplitude, abs=max(A / 2, 0.3 * amplitude))


@pytest.mark.parametrize('seed', range(12))
def test_grooves(seed):
    rng = np.random.default_rng(seed)
    nx = int(rng.integers(14, 30))
    width, layers = int(rng.integers(4, nx - 6)), int(rng.integers(2, 16))
    atoms = groove((nx, int(rng.integers(3, 6))), width, layers)
    found = height_map(atoms.positions, atoms.cell)
    depth = layers * A / 2
    told = defect_depth(found)
    assert told.depth_A == pytest.approx(depth, abs=0.4)
    assert len(told.by_line_A) == 3
    assert told.by_line_A == pytest.approx([depth] * 3, abs=0.4)
    assert -A < told.position_A[0] < width * A
    share = width / nx
    assert found.roughness_beyond_A(FLAT_100) == pytest.approx(depth * np.sqrt(share * (1 - share)), rel=0.08)


def test_a_line_along_a_groove_does_not_count():
    atoms = groove((16, 4), 8, 6)
    told = defect_depth(height_map(atoms.positions, atoms.cell), directions_deg=(0, 90, 45))
    assert told.by_line_A[1] is None
    assert told.depth_A == pytest.approx(np.mean([told.by_line_A[0], told.by_line_A[2]]))
    assert told.depth_A == pytest.approx(3 * A, abs=0.4)
    # along the groove alone nothing is seen, and what is less deep than the prominence is no defect
    surface = height_map(atoms.positions, atoms.cell)
    assert defect_depth(surface, directions_deg=(90,)).depth_A == 0
    assert defect_depth(surface, prominence_A=12.0).depth_A == 0


@pytest.mark.parametrize('radius', [12.0, 17.0])
def test_a_pit(radius):
    """A spherical bowl, less deep by up to a layer as its ground is a few atoms wide."""
    middle = np.array([12.3, 11.2]) * A
    positions, cell = cut(
        lambda x, y: 40.0 - np.sqrt(np.maximum(0, radius**2 - (x - middle[0]) ** 2 - (y - middle[1]) ** 2)),
        (24, 24),
        42,
    )
    told = defect_depth(height_map(positions, cell))
    flat, _ = cut(lambda x, y: 40.0 + 0 * x, (2, 2), 42)
    assert told.depth_A == pytest.approx(flat[:, 2].max() - (40 - radius), abs=A)
    assert None not in told.by_line_A
    assert np.linalg.norm(told.position_A - middle) < 5


def test_heat_hardly_changes_the_depth():
    """Displacements of 0.35 Å a direction, those of lithium at 300 K."""
    rng = np.random.default_rng(0)
    atoms = groove((24, 6), 10, 10)
    atoms.positions += rng.normal(0, 0.35, atoms.positions.shape)
    assert defect_depth(height_map(atoms.positions, atoms.cell)).depth_A == pytest.approx(5 * A, abs=1.2)
    flat = crystal(20, 20, 4)
    flat.positions += rng.normal(0, 0.35, flat.positions.shape)
    found = height_map(flat.positions, flat.cell)
    assert defect_depth(found).depth_A == 0
    assert FLAT_100 < found.roughness_A < 0.6


def directly(positions, lengths, n, atom_radius, probe_radius):
    """Height map of a rectangular cell by the definition: every ball, every atom, the nearest image."""
    axes = [(np.arange(m) + 0.5) / m * length for m, length in zip(n, lengths, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing='ij'), -1)
    contact = atom_radius + probe_radius

    def squares(a, b):
        apart = np.abs(a - b)
        return (np.minimum(apart, lengths - apart) ** 2).sum(-1)

    floor = positions[:, 2].min()
    centres = np.full(n, floor)
    for place in np.ndindex(n):
        square = squares(positions[:, :2] % lengths, grid[place])
        near = square < contact**2
        centres[place] = max(floor, (positions[near, 2] + np.sqrt(contact**2 - square[near])).max(initial=-np.inf))
    surface = np.empty(n)
    for place in np.ndindex(n):
        square = squares(grid, grid[place])
        near = square < probe_radius**2
        surface[place] = (centres[near] - np.sqrt(probe_radius**2 - square[near])).min() - atom_radius
    return np.maximum(surface, floor)


@pytest.mark.parametrize('seed', range(4))
def test_against_the_definition(seed):
    """Random gases, thin and dense: the atoms left out as hidden change nothing."""
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(10, 18, 2)
    positions = rng.uniform(-1, 2, ((9, 60, 300, 900)[seed], 3)) * [*lengths, 8.0]
    found = height_map(positions, np.diag([*lengths, 30.0]), None, 0.9, 1.3, 1.6)
    assert found.heights_A == pytest.approx(directly(positions, lengths, found.heights_A.shape, 1.3, 1.6))
    assert (found.bare_share > 0) == (seed < 2)


def test_tilted_slabs():
    """Turned with its cell, a slab is the same; heights are along the normal of the cell."""
    atoms = groove((16, 4), 7, 5)
    straight = height_map(atoms.positions, atoms.cell)
    turn = Rotation.random(rng=np.random.default_rng(1)).as_matrix()
    tilted = height_map(atoms.positions @ turn.T + [3.0, -2.0, 5.0] @ turn.T, np.array(atoms.cell) @ turn.T)
    assert tilted.roughness_A == pytest.approx(straight.roughness_A, abs=0.1)
    assert tilted.mean_A == pytest.approx(straight.mean_A + 5.0, abs=0.1)
    assert defect_depth(tilted).depth_A == pytest.approx(defect_depth(straight).depth_A, abs=0.1)


@pytest.mark.parametrize('steps', [1, 2])
def test_vicinal_surfaces(steps):
    """A miscut crystal in a cell tilted with it is flat but for its steps, a layer each: d / sqrt(12) a terrace."""
    n = 20
    cell = np.array([[n * A, 0, steps * A / 2], [0, 4 * A, 0], [0, 0, 60.0]])
    if steps % 2:  # half a cell up is a lattice vector only with half a cell along x and y
        cell[0] += [A / 2, A / 2, 0]
    atoms = crystal(n + 2, 8, 12)
    atoms.positions -= [A, 2 * A, 0]
    slope = cell[0, 2] / cell[0, 0]
    inside = atoms.positions @ np.linalg.inv(cell)
    keep = ((inside[:, :2] > -1e-6) & (inside[:, :2] < 1 - 1e-6)).all(axis=1)
    keep &= atoms.positions[:, 2] < 25.0 + slope * atoms.positions[:, 0]
    found = height_map(atoms.positions[keep], cell)
    assert found.roughness_beyond_A(FLAT_100) == pytest.approx(A / 2 / np.sqrt(12), rel=0.2)


def test_oblique_cells():
    """The primitive cell of (111), at 60 degrees, shows what the orthogonal one does."""
    edges = np.array(surface_cell('111')) * A
    layers = bcc_slab('Li', A, (6, 4), 12, 20.0, '111')
    rectangular = height_map(layers.positions, layers.cell, spacing_A=0.4)
    # the same crystal, periodic along a vector half a cell aside
    cell = np.array([[6 * edges[0], 0, 0], [2.5 * edges[0], 2.5 * edges[1], 0], [0, 0, 40.0]])
    wide = layers.repeat((3, 1, 1))
    inside = (wide.positions + np.array([0.01, 0.01, 0])) @ np.linalg.inv(cell)
    wide = wide[((inside[:, :2] >= 0) & (inside[:, :2] < 1)).all(axis=1)]
    assert len(wide) / len(layers) == pytest.approx(2.5 / 4)
    oblique = height_map(wide.positions, cell, spacing_A=0.4)
    assert oblique.roughness_A == pytest.approx(rectangular.roughness_A, abs=0.03)
    assert oblique.mean_A == pytest.approx(rectangular.mean_A, abs=0.03)
    smooth = oblique.smoothed(1.5)
    assert smooth.mean_A == pytest.approx(oblique.mean_A)
    assert smooth.roughness_A < 0.1 * oblique.roughness_A


def test_atoms_in_flight_images_and_overhangs():
    atoms = crystal(8, 8, 4)
    reference = height_map(atoms.positions, atoms.cell)
    rng = np.random.default_rng(0)
    flying = np.append(atoms.positions, [[5.0, 5.0, 60.0]], axis=0)
    shifts = rng.integers(-2, 3, (len(atoms), 2)) * 8 * A
    unwrapped = atoms.positions + np.pad(shifts, ((0, 0), (0, 1)))
    assert height_map(flying, atoms.cell, np.arange(len(flying)) < len(atoms)).heights_A == pytest.approx(
        reference.heights_A
    )
    assert height_map(flying, atoms.cell).heights_A.max() == pytest.approx(60.0, abs=0.2)
    assert height_map(unwrapped, atoms.cell).heights_A == pytest.approx(reference.heights_A)
    # a hollow below the top layers is not seen
    x, y, z = atoms.positions.T
    hollow = (np.abs(x - 14) < 6) & (np.abs(y - 14) < 6) & (z > 2) & (z < 8)
    assert hollow.sum() > 20
    assert height_map(atoms.positions[~hollow], atoms.cell).heights_A == pytest.approx(reference.heights_A)


def test_an_atom_on_bare_ground():
    """An atom is a ball; where there is none, the height is that of the lowest one, and the share says so."""
    positions = np.array([[10.0, 10.0, 12.0], [10.0, 10.0, 2.0]])
    found = height_map(positions, np.diag([20.0, 20.0, 20.0]), spacing_A=0.25)
    assert found.heights_A.min() == pytest.approx(2.0)
    assert found.heights_A.max() == pytest.approx(12.0, abs=0.05)
    # bare is what no ball can touch it over
    assert found.bare_share == pytest.approx(1 - np.pi * 9 / 400, abs=0.01)
    assert (found.heights_A > 7).mean() == pytest.approx(np.pi * 1.5**2 / 400, rel=0.15)


def test_smoothing_keeps_waves_as_stated():
    x = (np.arange(100) + 0.5) * 0.5
    for cycles in (1, 3, 10):
        heights = np.repeat(np.sin(2 * np.pi * cycles * x / 50)[:, None], 40, axis=1)
        kept = as_map(heights, 50.0).smoothed(1.5).roughness_A / as_map(heights, 50.0).roughness_A
        assert kept == pytest.approx(np.exp(-2 * (np.pi * 1.5 * cycles / 50) ** 2))
    assert as_map(heights, 50.0).smoothed(0).heights_A == pytest.approx(heights)
    with pytest.raises(ValueError, match='sigma_A is -1'):
        as_map(heights, 50.0).smoothed(-1)


def test_lines_go_on_through_images():
    rng = np.random.default_rng(0)
    surface = HeightMap(rng.normal(size=(30, 20)), np.array([[30.0, 0], [7.0, 20.0]]))
    positions = surface.positions_A()
    assert surface.along(positions[4, 7], 33.0, np.array([0.0])) == pytest.approx(surface.heights_A[4, 7])
    # a period further along the first vector, and along the second
    second = np.linalg.norm(surface.periods_A[1])
    angle = np.rad2deg(np.arctan2(20, 7))
    there = surface.along(positions[4, 7], 0.0, np.array([-60.0, 30.0, 1.0]))
    assert there == pytest.approx([surface.heights_A[4, 7], surface.heights_A[4, 7], surface.heights_A[5, 7]])
    assert surface.along(positions[4, 7], angle, np.array([second]))[0] == pytest.approx(surface.heights_A[4, 7])


def test_defects_along_a_line():
    """Depths below the mean of both rims; ripples below the prominence and the ends do not count."""
    corners = {0: 3.0, 10: 10.0, 20: 2.0, 30: 8.0, 40: 7.0, 50: 8.5, 60: 1.0, 70: 9.0, 80: 0.0}
    line = np.interp(np.arange(81), list(corners), list(corners.values()))
    found = defects_along(line, 2.0)
    assert [(d.left, d.ground, d.right) for d in found] == [(10, 20, 50), (50, 60, 70)]
    assert [d.depth_A for d in found] == pytest.approx([9.25 - 2.0, 8.75 - 1.0])
    assert [d.ground for d in defects_along(line, 0.5)] == [20, 40, 60]
    assert defects_along(line, 9.5) == []
    assert defects_along(np.zeros(5), 1.0) == []
    # a line that ends on a rise ends on a rim
    assert [d.depth_A for d in defects_along(np.array([5.0, 1.0, 4.0]), 2.0)] == [3.5]
    with pytest.raises(ValueError, match='prominence_A is 0'):
        defects_along(line, 0)


def test_bad_inputs():
    positions, cell = np.zeros((1, 3)), np.eye(3) * 10
    with pytest.raises(ValueError, match='no atom counts'):
        height_map(positions, cell, np.zeros(1, bool))
    with pytest.raises(ValueError, match=r'spacing_A is 4.0 Å, atom_radius_A 1.5 Å, probe_radius_A 1.5 Å'):
        height_map(positions, cell, spacing_A=4.0)
    with pytest.raises(ValueError, match='span no area'):
        height_map(positions, np.array([[1.0, 0, 0], [2.0, 0, 0], [0, 0, 1.0]]))
    flat = height_map(positions, np.diag([4.0, 4.0, 10.0]))
    assert flat.bare_share == 0
    still = HeightMap(np.ones((4, 4)), np.eye(2) * 4)
    assert np.isnan(still.correlation_lengths_A()).all()
    assert still.roughness_A == 0


def test_series_of_a_surface_that_heals(tmp_path):
    """Roughness and depth by frame, the map with the snapshots; atoms in flight do not count."""
    frames = []
    for number, layers in enumerate((6, 3, 0)):
        atoms = groove((16, 4), 8, layers)
        atoms.cell[2, 2] += 40
        atoms.pbc = (True, True, number % 2 == 1)  # with vacuum, periodic or not, all the same
        frames.append(dump_text(1000 * number, atoms + Atoms('Li', [[5.0, 5.0, 80.0]])))
    result = analyse_trajectory([write_dump(tmp_path / '0.dump', *frames)])
    series = result.series
    assert series['defect_depth_A'] == pytest.approx([3 * A, 1.5 * A, 0], abs=0.4)
    assert series['roughness_A'][:2] == pytest.approx([1.5 * A, 0.75 * A], rel=0.08)
    assert series['roughness_A'][2] == pytest.approx(FLAT_100, abs=0.15)
    assert set(series) <= set(QUANTITIES)
    assert result.snapshots['first_surface_height_A'].shape == (57, 15)
    top = 13.5 * A
    assert result.snapshots['last_surface_height_A'].mean() == pytest.approx(top, abs=0.8)
    assert np.ptp(result.snapshots['first_surface_height_A']) == pytest.approx(3 * A, abs=1.5)


def test_a_crystal_without_surface_has_none(tmp_path):
    result = analyse_trajectory([write_dump(tmp_path / '0.dump', dump_text(0, crystal(4)))])
    assert 'roughness_A' not in result.series
    assert 'defect_depth_A' not in result.series
    assert not [name for name in result.snapshots if 'surface' in name]
    assert result.summary['local_current'] is None
    with pytest.raises(ValidationError, match=r'surface_spacing_A is 2.0 Å; it must be at most 1.520 Å'):
        AnalysisSettings(surface_spacing_A=2.0)


def test_local_current_of_a_deposition(tmp_path):
    """Atoms that land on one half of a slab of four patches: the VLCD of a strip, 1, and the current that was sent."""
    rng = np.random.default_rng(0)
    base = slab(16, 4, vacuum=60.0)
    edge = 16 * A
    n = 120
    landed = np.column_stack([rng.uniform(0, edge / 2, n), rng.uniform(0, edge, n), np.full(n, 2 * A)])
    frames = [dump_text(0, base)]
    for number, count in enumerate((60, 120), 1):
        flying = Atoms('Li', [[0.75 * edge, 20.0, 50.0]])
        frames.append(dump_text(5000 * number, base + flying + Atoms(f'Li{count}', landed[:count])))
    settings = AnalysisSettings(measure_voids=False, current_patch_A=28.0)
    found = analyse_trajectory([write_dump(tmp_path / '0.dump', *frames)], settings).summary['local_current']
    assert found['atoms_landed'] == n
    assert found['duration_ps'] == 10.0
    assert found['mean_A_per_cm2'] == pytest.approx(1.602176634e-19 * n / (edge**2 * 1e-16 * 10e-12))
    assert np.array(found['density_A_per_cm2']).shape == (2, 2)
    assert found['density_A_per_cm2'][1] == [0.0, 0.0]
    assert found['vlcd'] == pytest.approx(1.0, abs=3 * found['vlcd_error'])
    assert 0 < found['vlcd_error'] < 0.1
