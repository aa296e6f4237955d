"""Dendrites that stand on a substrate: height, widths, form, tilt, branches and kinks, from one frame.

The definitions are ours but for the three forms, which the paper names without numbers (section 4, Figure 3):

* heights count from half a layer above the highest layer of the substrate, where the body of the substrate ends;
* a dendrite is a cluster of the atoms that lie more than `join_height_A` above that; below, islands lie;
* W(z) is the width of the slice at z: of a bar that has the same spread along x in a cell that is short along y, as the
  14 Å of the paper's, and the diameter of a disc that has the same spread along x and y in any other. The spread of all
  atoms of a slice hardly feels one that sits on the side, as their outermost ones do. Pieces of a slice that are
  apart, the arms, are measured one by one and summed up;
* D_bottom is W at 10 Å, for dendrites at least twice as high; D_top is the mean of W from 0.8 to 0.9 of the height H;
  O = (W_max - D_bottom) / D_bottom;
* mushroom: O >= 0.3 and the widest part above H/2, the middle of all slices that are as wide as the widest one to a
  lattice constant; else needle: H / D_bottom >= 1.5; else hemisphere. Dendrites lower than 20 Å or thinner than 8.8 Å
  have no form. Bodies drawn with atoms and thermal motion have a D_bottom to 1.3 Å (rms), 3.5 Å at most, of that drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from ovito.data import CutoffNeighborFinder, DataCollection
from ovito.modifiers import ClusterAnalysisModifier

from .results import DENDRITE_QUANTITIES, DEPOSIT_QUANTITIES
from .settings import DendriteAnalysisSettings

Form = Literal['needle', 'mushroom', 'hemisphere', 'none']

#: Forms in the order of their numbers in `dendrite_form`.
FORMS: tuple[Form, ...] = ('none', 'needle', 'mushroom', 'hemisphere')


@dataclass(frozen=True)
class Shape:
    """A form, why, and how far it is from the next one.

    `margin_A`: by how much the width or the height that decides would have to differ, in Å, for the form to be
    `next_form`; None if there is no form. `is_clear`: whether that is more than a row of atoms on each side, one
    lattice constant, would change.
    """

    form: Form
    reason: str
    margin_A: float | None = None
    next_form: Form | None = None
    is_clear: bool = False


@dataclass(frozen=True)
class Dendrite:
    """One dendrite; lengths in Å.

    `members`: indices of its atoms, those more than `join_height_A` above the substrate. `base_A`: height z of the
    highest layer of the substrate. `height_A`: H, from there to its tip. `is_quasi_2d`: whether widths are along x.
    `spans_cell`: whether it has met its own image along x.

    By slice, from the lowest up: `slice_heights_A`, middles above the substrate, `widths_A`, `arms`, and `centres_A`
    (n_slices, 2), mean x and y without the jumps of a periodic cell.

    `widest_at_A`: middle of the widest part. `bottom_A`, `top_A`, `overhang`, `axis`, `tilt_deg`: None where it is too
    low for them. `axis` (3,): the straight line along its centres; `tilt_deg`: its angle to the normal.
    `arms_side_by_side`: the most arms that two slices in succession have; `branches_from_A`: the lowest height of more
    than one. `kinks`: height and change of direction in degrees of each.
    """

    members: NDArray
    base_A: float
    height_A: float
    is_quasi_2d: bool
    spans_cell: bool
    slice_heights_A: NDArray
    widths_A: NDArray
    arms: NDArray
    centres_A: NDArray
    bottom_A: float | None
    top_A: float | None
    widest_A: float
    widest_at_A: float
    overhang: float | None
    shape: Shape
    axis: tuple[float, float, float] | None
    tilt_deg: float | None
    arms_side_by_side: int
    branches_from_A: float | None
    kinks: tuple[tuple[float, float], ...] = field(default=())

    @property
    def aspect(self) -> float | None:
        """H / D_bottom."""
        return None if self.bottom_A is None else self.height_A / self.bottom_A

    def summary(self) -> dict[str, Any]:
        """Plain numbers and texts for JSON; keys carry their units."""
        return {
            'form': self.shape.form,
            'form_reason': self.shape.reason,
            'form_margin_A': self.shape.margin_A,
            'form_next': self.shape.next_form,
            'form_is_clear': self.shape.is_clear,
            'atoms': len(self.members),
            'base_A': self.base_A,
            'height_A': self.height_A,
            'bottom_A': self.bottom_A,
            'top_A': self.top_A,
            'widest_A': self.widest_A,
            'widest_at_A': self.widest_at_A,
            'overhang': self.overhang,
            'aspect': self.aspect,
            'width_is': 'extent along x' if self.is_quasi_2d else 'equivalent diameter',
            'spans_cell': self.spans_cell,
            'tilt_deg': self.tilt_deg,
            'arms': self.arms_side_by_side,
            'branches_from_A': self.branches_from_A,
            'kinks': [{'at_A': at, 'angle_deg': angle} for at, angle in self.kinks],
            'profile_height_A': self.slice_heights_A.tolist(),
            'profile_width_A': self.widths_A.tolist(),
            'profile_arms': self.arms.tolist(),
        }


def classify(
    height_A: float, bottom_A: float, widest_A: float, widest_at_A: float, settings: DendriteAnalysisSettings
) -> Shape:
    """Form of a dendrite from four numbers.

    Parameters
    ----------
    height_A, bottom_A, widest_A, widest_at_A : float
        H, D_bottom, W_max and the middle of the widest part, in Å.
    settings : DendriteAnalysisSettings
        The limits of the forms, and below which size there is none.
    """
    if height_A < settings.form_from_height_A:
        return Shape('none', f'too small: {height_A:.1f} Å high, a form begins at {settings.form_from_height_A:g} Å')
    if bottom_A < settings.form_from_width_A:
        return Shape('none', f'too small: {bottom_A:.1f} Å wide, a form begins at {settings.form_from_width_A:g} Å')
    too_wide = widest_A - (1 + settings.mushroom_overhang) * bottom_A
    too_high = widest_at_A - settings.mushroom_widest_above * height_A
    slender = height_A / settings.needle_aspect - bottom_A
    stem: Form = 'needle' if slender >= 0 else 'hemisphere'
    overhang, aspect = widest_A / bottom_A - 1, height_A / bottom_A
    form: Form
    following: Form
    numbers = f'overhang {overhang:.2f} at {widest_at_A / height_A:.2f} of the height, height / bottom {aspect:.2f}'
    if too_wide >= 0 and too_high >= 0:
        form, following, margin = 'mushroom', stem, min(too_wide, too_high)
    else:
        form, following, margin = stem, 'needle' if stem == 'hemisphere' else 'hemisphere', abs(slender)
        # what is missing to a mushroom: the larger of both shortfalls
        to_mushroom = max(-too_wide, -too_high)
        if to_mushroom < margin:
            following, margin = 'mushroom', to_mushroom
    return Shape(form, numbers, margin, following, margin > settings.lattice_constant_A)


def ground_level_A(  # noqa: N802
    positions_A: NDArray, cell_A: NDArray, matter: NDArray, settings: DendriteAnalysisSettings
) -> float:
    """Height z in Å of the highest layer that covers all of the area but `bare_share`, as the surface of a substrate.

    Counted is what lies on the lowest atoms without a gap, so that the head of a mushroom hides no ground.

    Parameters
    ----------
    positions_A : (n, 3) float
        In Å; atoms on the substrate lie above it, with no jump through a periodic z.
    cell_A : (3, 3) float
        Vectors of an orthorhombic cell as rows, in Å.
    matter : (n,) bool
        Atoms that are not in flight.
    settings : DendriteAnalysisSettings
        With the share of the area.

    Raises
    ------
    ValueError
        If the cell is not orthorhombic or has no atoms.
    """
    points = positions_A[matter]
    tops = column_tops_A(points, _lengths(cell_A), settings)
    level = float(np.quantile(tops, settings.bare_share, method='higher'))
    z = points[:, 2]
    # the mean of the layer: the highest atoms of columns stand out of it by thermal motion
    return float(z[np.abs(z - level) < settings.lattice_constant_A / 4].mean())


def column_tops_A(points_A: NDArray, lengths_A: NDArray, settings: DendriteAnalysisSettings) -> NDArray:  # noqa: N802
    """Height z in Å up to which each column is filled from below without a gap; columns that are empty are left out.

    Columns are about 1.5 lattice constants wide, so that none misses the atoms of a layer.

    Parameters
    ----------
    points_A : (n, 3) float
        In Å.
    lengths_A : (3,) float
        Edges of the cell in Å.
    settings : DendriteAnalysisSettings
        With the distance in Å that is a gap.
    """
    if not len(points_A):
        raise ValueError('no atoms: a surface needs some that are not in flight')
    n_columns = np.maximum(1, (lengths_A[:2] / (1.5 * settings.lattice_constant_A)).astype(int))
    place = np.floor(points_A[:, :2] / lengths_A[:2] * n_columns).astype(int) % n_columns
    column = place[:, 0] * n_columns[1] + place[:, 1]
    order = np.lexsort((points_A[:, 2], column))
    column, z = column[order], points_A[order, 2]
    # the last atom of a column, and the last one below its first gap
    ends = np.append((np.diff(column) != 0) | (np.diff(z) > settings.cutoff_A), True)
    found, first = np.unique(column[ends], return_index=True)
    return z[ends][first] if len(found) else z[:0]


def find_dendrites(
    positions_A: NDArray,
    cell_A: NDArray,
    pbc: NDArray | Sequence[bool],
    matter: NDArray,
    surface_A: float | None = None,
    settings: DendriteAnalysisSettings | None = None,
) -> tuple[Dendrite, ...]:
    """Dendrites of a frame, that with the most atoms first.

    Parameters
    ----------
    positions_A : (n, 3) float
        In Å, wrapped along x and y or not; z without jumps, the substrate below.
    cell_A : (3, 3) float
        Vectors of an orthorhombic cell as rows, in Å.
    pbc : (3,) bool
        Periodic directions; z is taken as open.
    matter : (n,) bool
        Atoms that are not in flight.
    surface_A : float, optional
        Height z in Å of the highest layer of the bare substrate, as `ground_level_A` gives for the first frame of a
        run: then heights of all frames count from the same level, and a film that covers the substrate makes what
        stands on it one body that spans the cell. None given: the level that is covered in this frame.
    settings : DendriteAnalysisSettings, optional
        The defaults if not given.

    Raises
    ------
    ValueError
        If the cell is not orthorhombic or has no atoms.
    """
    settings = settings or DendriteAnalysisSettings()
    lengths = _lengths(cell_A)
    base = ground_level_A(positions_A, cell_A, matter, settings) if surface_A is None else surface_A
    # the body of the substrate ends half a layer above its highest atoms
    heights = positions_A[:, 2] - base - settings.lattice_constant_A / 4
    standing = np.flatnonzero(matter & (heights > settings.join_height_A))
    if not len(standing):
        return ()
    points = np.column_stack((positions_A[standing, :2], heights[standing]))
    clusters, unwrapped, crosses = _pieces(points, lengths, pbc, settings.cutoff_A)
    found = []
    for cluster, size in enumerate(np.bincount(clusters)):
        own = clusters == cluster
        # the tip is half a layer above its highest atom, as the surface is
        height = float(points[own, 2].max()) + settings.lattice_constant_A / 4
        if size < settings.min_atoms or height < settings.min_height_A:
            continue
        is_wall = bool(lengths[1] < settings.quasi_2d_below_A or crosses[cluster, 1])
        spans = bool(crosses[cluster, 0])
        found.append(
            _measure(standing[own], unwrapped[own], base, height, lengths, pbc, is_wall, spans, settings),
        )
    return tuple(sorted(found, key=lambda dendrite: -len(dendrite.members)))


def dendrite_row(dendrites: Sequence[Dendrite]) -> dict[str, float]:
    """A frame's numbers for a series, named as in `DENDRITE_QUANTITIES`; not a number where nothing stands."""
    row: dict[str, float] = dict.fromkeys(DENDRITE_QUANTITIES, math.nan) | {
        'dendrites': len(dendrites),
        'dendrite_atoms': 0,
        'dendrite_form': 0,
    }
    if dendrites:
        largest = dendrites[0]
        row |= {
            'dendrite_atoms': len(largest.members),
            'dendrite_height_A': largest.height_A,
            'dendrite_bottom_A': _or_nan(largest.bottom_A),
            'dendrite_top_A': _or_nan(largest.top_A),
            'dendrite_widest_A': largest.widest_A,
            'dendrite_overhang': _or_nan(largest.overhang),
            'dendrite_form': FORMS.index(largest.shape.form),
            'dendrite_tilt_deg': _or_nan(largest.tilt_deg),
            'dendrite_arms': largest.arms_side_by_side,
            'dendrite_kinks': len(largest.kinks),
        }
    return row


def deposit_row(
    positions_A: NDArray,
    cell_A: NDArray,
    pbc: NDArray | Sequence[bool],
    matter: NDArray,
    surface_A: float,
    settings: DendriteAnalysisSettings | None = None,
) -> dict[str, float]:
    """How high and how wide all is that lies on a substrate, named as in `DEPOSIT_QUANTITIES`.

    It has a number where dendrites are too small to have one: what stays below its source is narrow, and an even film
    is as wide as the cell. Parameters are those of `find_dendrites`.
    """
    settings = settings or DendriteAnalysisSettings()
    lengths = _lengths(cell_A)
    points = positions_A[matter]
    above = points[points[:, 2] > surface_A + settings.lattice_constant_A / 4, :2]
    row = dict.fromkeys(DEPOSIT_QUANTITIES, 0.0) | {'deposit_atoms': float(len(above)), 'deposit_width_A': math.nan}
    if not len(above):
        return row
    row['deposit_height_A'] = max(0.0, float(column_tops_A(points, lengths, settings).max()) - surface_A)
    n_across = 1 if lengths[1] < settings.quasi_2d_below_A else 2
    from_middle = np.zeros((len(above), n_across))
    for axis in range(n_across):
        x = above[:, axis]
        if pbc[axis]:
            turn = 2 * math.pi / lengths[axis]
            middle = float(np.angle(np.exp(1j * turn * x).mean())) / turn
            x = (x - middle + lengths[axis] / 2) % lengths[axis]
        from_middle[:, axis] = x - x.mean()
    widths = _widths(from_middle, np.zeros(len(above), dtype=int), settings)
    row['deposit_width_A'] = float(widths[0])
    return row


def slice_widths(
    across_A: NDArray,
    slices: NDArray,
    n_slices: int,
    lengths_A: NDArray,
    pbc: NDArray | Sequence[bool],
    settings: DendriteAnalysisSettings,
) -> tuple[NDArray, NDArray]:
    """Width and number of arms of each slice of a body.

    Atoms of a slice that are more than the cut-off apart, seen along the direction of the slices, are in different
    pieces. The width of a piece along one direction is sqrt(12 <x^2>), that of a bar with its spread; the diameter of
    one in two is 4 (s_1 s_2)^(1/4), that of a disc with the area of the ellipse whose spreads s_1 and s_2 it has.
    Each atom adds the spread of its own share of space: n rows of atoms are n distances of rows wide.

    Parameters
    ----------
    across_A : (n, 1) or (n, 2) float
        Coordinates across the direction of the slices, in Å.
    slices : (n,) int
        Slice of each atom.
    n_slices : int
        Number of slices.
    lengths_A, pbc : (1,) or (2,) float and bool
        Period in Å along each coordinate, where there is one. A piece that has no end is as wide as the period.
    settings : DendriteAnalysisSettings
        With the cut-off and the least number of atoms of an arm.

    Returns
    -------
    widths_A, arms : (n_slices,) float and int
        The widths of all arms of a slice are added up; if all of its pieces are smaller than an arm, the largest counts
        alone and is no arm. 0 where nothing is.
    """
    widths, arms = np.zeros(n_slices), np.zeros(n_slices, dtype=int)
    if not len(across_A):
        return widths, arms
    n_across = across_A.shape[1]
    periods, periodic = np.asarray(lengths_A, dtype=float), np.asarray(pbc, dtype=bool)
    if n_across == 1:
        pieces, unwrapped, crosses = _runs(across_A[:, 0], slices, periods[0] if periodic[0] else None, settings)
    else:
        # all slices at once: far apart from each other along the third direction
        flat = np.column_stack((across_A, slices * 3 * settings.cutoff_A))
        pieces, unwrapped, crosses = _pieces(flat, periods, periodic, settings.cutoff_A)
    sizes = np.bincount(pieces)
    whole = crosses.any(axis=1)
    deviations = unwrapped[:, :n_across].copy()
    for axis in range(n_across):
        deviations[:, axis] -= (np.bincount(pieces, weights=deviations[:, axis]) / sizes)[pieces]
    each = _widths(deviations, pieces, settings)
    each[whole] = periods[0] if n_across == 1 else 2 * math.sqrt(periods[0] * periods[1] / math.pi)
    slice_of = np.zeros(len(sizes), dtype=int)
    slice_of[pieces] = slices
    is_arm = sizes >= settings.arm_atoms
    np.add.at(widths, slice_of[is_arm], each[is_arm])
    np.add.at(arms, slice_of[is_arm], 1)
    for piece in np.flatnonzero(~is_arm & (arms[slice_of] == 0)):
        widths[slice_of[piece]] = max(widths[slice_of[piece]], each[piece])
    return widths, arms


def _widths(deviations: NDArray, pieces: NDArray, settings: DendriteAnalysisSettings) -> NDArray:
    """Width in Å of each piece from the distances (n, 1) or (n, 2) of its atoms from its middle."""
    sizes = np.bincount(pieces)
    # a row of atoms takes half a lattice constant along x; seen along (100), each atom takes half of a cell's square
    own = settings.lattice_constant_A**2 / (48 if deviations.shape[1] == 1 else 24)
    xx = np.bincount(pieces, weights=deviations[:, 0] ** 2) / sizes + own
    if deviations.shape[1] == 1:
        return np.sqrt(12 * xx)
    yy = np.bincount(pieces, weights=deviations[:, 1] ** 2) / sizes + own
    xy = np.bincount(pieces, weights=deviations[:, 0] * deviations[:, 1]) / sizes
    return 4 * (xx * yy - xy**2) ** 0.25


def _measure(
    members: NDArray,
    points: NDArray,
    base_A: float,
    height_A: float,
    lengths: NDArray,
    pbc: NDArray | Sequence[bool],
    is_wall: bool,
    spans: bool,
    settings: DendriteAnalysisSettings,
) -> Dendrite:
    """Measure one cluster; `points` (n, 3) are unwrapped, their z the height above the substrate."""
    lowest = math.floor(settings.join_height_A / settings.slice_A)
    slices = np.floor(points[:, 2] / settings.slice_A).astype(int) - lowest
    n_slices = int(slices.max()) + 1
    middles = (np.arange(n_slices) + lowest + 0.5) * settings.slice_A
    n_across = 1 if is_wall else 2
    widths, arms = slice_widths(points[:, :n_across], slices, n_slices, lengths[:n_across], pbc, settings)
    counts = np.bincount(slices, minlength=n_slices)
    centres = np.full((n_slices, 2), np.nan)
    if not spans:
        for axis in range(n_across):
            sums = np.bincount(slices, weights=points[:, axis], minlength=n_slices)
            centres[:, axis] = sums / np.where(counts, counts, np.nan)
        if is_wall:
            centres[:, 1] = lengths[1] / 2

    def width_at(heights: Any) -> NDArray:
        return np.interp(heights, middles, widths)

    bottom = top = overhang = None
    widest = float(widths.max())
    # the middle of all that is as wide to a row of atoms on each side: a head or a stem has no single widest slice
    widest_at = float(middles[widths >= widest - settings.lattice_constant_A].mean())
    if height_A >= settings.form_from_height_A:
        bottom = float(width_at(settings.bottom_at_A))
        overhang = widest / bottom - 1
    first, last = (share * height_A for share in settings.top_range)
    if first >= middles[0]:
        top = float(width_at(np.linspace(first, last, 11)).mean())
    axis_found, tilt = _axis(middles, centres, counts, settings.kink_segment_A)
    pairs = np.minimum(arms[1:], arms[:-1])
    side_by_side = int(pairs.max()) if len(pairs) else int(arms.max())
    branched = np.flatnonzero(pairs > 1)
    if spans:
        shape = Shape('none', 'it has met its own image through the side of the cell')
    else:
        shape = classify(height_A, bottom or 0.0, widest, widest_at, settings)
        if side_by_side > 1:
            shape = replace(shape, reason=f'{shape.reason}; of up to {side_by_side} arms, widths added up')
    return Dendrite(
        members=members,
        base_A=base_A,
        height_A=height_A,
        is_quasi_2d=is_wall,
        spans_cell=spans,
        slice_heights_A=middles,
        widths_A=widths,
        arms=arms,
        centres_A=centres,
        bottom_A=bottom,
        top_A=top,
        widest_A=widest,
        widest_at_A=widest_at,
        overhang=overhang,
        shape=shape,
        axis=axis_found,
        tilt_deg=tilt,
        arms_side_by_side=side_by_side,
        branches_from_A=float(middles[branched[0]]) if len(branched) else None,
        kinks=_kinks(middles, centres, counts, settings),
    )


def _axis(
    heights: NDArray, centres: NDArray, counts: NDArray, least_A: float
) -> tuple[tuple[float, float, float] | None, float | None]:
    """Direction of the straight line along the centres, and its angle to the normal in degrees.

    None if the centres lie over less than `least_A`: those of low, wide ones follow single atoms at the tip.
    """
    known = np.isfinite(centres).all(axis=1)
    if not known.any() or np.ptp(heights[known]) < least_A:
        return None, None
    direction = _direction(heights[known], centres[known], counts[known])
    tilt = math.degrees(math.acos(min(1.0, float(direction[2]))))
    return (float(direction[0]), float(direction[1]), float(direction[2])), tilt


def _direction(heights: NDArray, centres: NDArray, counts: NDArray) -> NDArray:
    """Unit vector (3,) of the line of least squares of the centres by height, each slice as often as it has atoms."""
    h = heights - np.average(heights, weights=counts)
    slopes = (counts * h) @ (centres - np.average(centres, axis=0, weights=counts)) / ((counts * h) @ h)
    vector = np.array([slopes[0], slopes[1], 1.0])
    return vector / np.linalg.norm(vector)


def _kinks(
    heights: NDArray, centres: NDArray, counts: NDArray, settings: DendriteAnalysisSettings
) -> tuple[tuple[float, float], ...]:
    """Height in Å and angle in degrees of each kink: the largest change of direction within a segment."""
    n = round(settings.kink_segment_A / settings.slice_A)
    known = np.isfinite(centres).all(axis=1)
    heights, centres, counts = heights[known], centres[known], counts[known]
    angles = np.zeros(len(heights))
    for i in range(n, len(heights) - n):
        pieces = slice(i - n, i + 1), slice(i, i + n + 1)
        below, above = (_direction(heights[piece], centres[piece], counts[piece]) for piece in pieces)
        angles[i] = math.degrees(math.acos(min(1.0, float(below @ above))))
    kinks = []
    while len(angles) and angles.max() >= settings.kink_angle_deg:
        i = int(np.argmax(angles))
        kinks.append((float(heights[i]), float(angles[i])))
        angles[max(0, i - n) : i + n + 1] = 0.0
    return tuple(sorted(kinks))


def _pieces(
    points: NDArray, lengths: NDArray, pbc: NDArray | Sequence[bool], cutoff_A: float
) -> tuple[NDArray, NDArray, NDArray]:
    """Clusters of points, by OVITO.

    Returns
    -------
    labels : (n,) int
        From 0 on.
    unwrapped : (n, 3) float
        Each cluster in one piece.
    crosses : (n_clusters, 2) bool
        Whether a cluster meets its own image along x and y.
    """
    data = DataCollection()
    low, high = points[:, 2].min(), points[:, 2].max()
    matrix = np.zeros((3, 4))
    matrix[:2, :2] = np.diag(lengths[:2])
    matrix[2, 2], matrix[2, 3] = high - low + 1.0, low - 0.5
    data.create_cell(matrix, pbc=(bool(pbc[0]), bool(pbc[1]), False))
    data.create_particles(count=len(points)).create_property('Position', data=points)
    data.apply(ClusterAnalysisModifier(cutoff=cutoff_A, unwrap_particles=True))
    _, labels = np.unique(np.asarray(data.particles['Cluster']), return_inverse=True)
    unwrapped = np.array(data.particles.positions)
    # bonds that are longer than in the unwrapped cluster go through a side and come back to it
    pairs, bonds = CutoffNeighborFinder(cutoff_A, data).find_all()
    crosses = np.zeros((labels.max() + 1, 2), dtype=bool)
    if len(pairs):
        jumps = np.abs(unwrapped[pairs[:, 1]] - unwrapped[pairs[:, 0]] - bonds)[:, :2] > 0.1
        for axis in range(2):
            crosses[labels[pairs[jumps[:, axis], 0]], axis] = True
    return labels, unwrapped, crosses


def _runs(
    x: NDArray, slices: NDArray, period: float | None, settings: DendriteAnalysisSettings
) -> tuple[NDArray, NDArray, NDArray]:
    """Pieces of each slice along one coordinate, as those of `_pieces`: labels, (n, 1) unwrapped, (n_pieces, 1)."""
    x = x if period is None else x % period
    order = np.lexsort((x, slices))
    starts = np.append(True, (np.diff(slices[order]) != 0) | (np.diff(x[order]) > settings.cutoff_A))
    labels, unwrapped = np.empty(len(x), dtype=int), x.copy()
    labels[order] = np.cumsum(starts) - 1
    crosses = np.zeros((labels.max() + 1, 1), dtype=bool)
    if period is not None:
        first = np.flatnonzero(starts)
        last = np.append(first[1:], len(x)) - 1
        in_slice = slices[order][first]
        for number in np.unique(in_slice):
            own = np.flatnonzero(in_slice == number)
            low, high = own[0], own[-1]
            if x[order[first[low]]] + period - x[order[last[high]]] > settings.cutoff_A:
                continue
            crosses[low] = low == high
            if low != high:  # the last piece goes on in the first one, a period before
                unwrapped[labels == high] -= period
                labels[labels == high] = low
        kept, labels = np.unique(labels, return_inverse=True)
        crosses = crosses[kept]
    return labels, unwrapped[:, None], crosses


def _lengths(cell_A: NDArray) -> NDArray:
    """Edges of an orthorhombic cell."""
    lengths = np.diagonal(cell_A).copy()
    if np.abs(cell_A - np.diag(lengths)).max() > 1e-6 * np.abs(lengths).max():
        raise ValueError('the cell is not orthorhombic along x, y and z: dendrites are measured in such cells only')
    return lengths


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
