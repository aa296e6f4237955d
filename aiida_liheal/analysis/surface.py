"""The surface of a slab seen from above: height map, roughness, correlation length, depth of defects along lines."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Directions of two edges of an orthogonal surface cell and of the normal of each facet, in the cubic axes.
_FACETS = {
    '100': ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    '110': ((0, 0, 1), (1, -1, 0), (1, 1, 0)),
    '111': ((1, -1, 0), (1, 1, -2), (1, 1, 1)),
}


@dataclass(frozen=True)
class HeightMap:
    """Heights of a surface over a grid that is periodic in both directions.

    Parameters
    ----------
    heights_A : (n_a, n_b) float
        Height in the middle of each cell of the grid in Å, along the normal of the plane.
    periods_A : (2, 2) float
        The two periods as rows, in Å, in axes of the plane: the first lies along the first period.
    bare_share : float
        Share of the grid under which there is no atom; its height is that of the lowest atom.
    """

    heights_A: NDArray
    periods_A: NDArray
    bare_share: float = 0.0

    @property
    def mean_A(self) -> float:  # noqa: N802
        """Mean height <h> in Å."""
        return float(self.heights_A.mean())

    @property
    def roughness_A(self) -> float:  # noqa: N802
        """Roughness w in Å, w^2 = <(h - <h>)^2>.

        The corrugation of the atoms is part of it: see `roughness_beyond_A`.
        """
        return float(self.heights_A.std())

    def roughness_beyond_A(self, baseline_A: float) -> float:  # noqa: N802
        """Roughness in Å less that of a flat surface, in squares, as the two are independent; 0 if it is smaller.

        Parameters
        ----------
        baseline_A : float
            Roughness of the flat surface in Å: `corrugation_A` of an ideal one, or that of a flat slab run at the same
            temperature, whose vibrations count as well.
        """
        return float(np.sqrt(max(0.0, self.roughness_A**2 - baseline_A**2)))

    def positions_A(self) -> NDArray:  # noqa: N802
        """Middles of the cells in the axes of the plane, (n_a, n_b, 2), in Å; the first cell begins at the origin."""
        n_a, n_b = self.heights_A.shape
        shares = np.stack(np.meshgrid((np.arange(n_a) + 0.5) / n_a, (np.arange(n_b) + 0.5) / n_b, indexing='ij'), -1)
        return shares @ self.periods_A

    def smoothed(self, sigma_A: float) -> HeightMap:
        """The map averaged with a Gaussian weight, to take the corrugation of the atoms out.

        A wave of length l keeps exp(-2 (π sigma / l)^2) of its amplitude: at 1.5 Å the rows of a (100) surface of
        lithium keep 3 %, waves of 50 Å 98 %.

        Parameters
        ----------
        sigma_A : float
            Standard deviation of the weight in Å; 0 changes nothing.
        """
        if sigma_A < 0:
            raise ValueError(f'sigma_A is {sigma_A} Å; a smoothing length is 0 or more')
        n_a, n_b = self.heights_A.shape
        waves = np.stack(np.meshgrid(np.fft.fftfreq(n_a, 1 / n_a), np.fft.rfftfreq(n_b, 1 / n_b), indexing='ij'), -1)
        squares = ((waves @ np.linalg.inv(self.periods_A).T) ** 2).sum(axis=-1)
        kept = np.exp(-2 * (np.pi * sigma_A) ** 2 * squares)
        return replace(self, heights_A=np.fft.irfft2(np.fft.rfft2(self.heights_A) * kept, s=(n_a, n_b)))

    def along(self, start_A: NDArray, direction_deg: float, distances_A: NDArray) -> NDArray:
        """Heights along a straight line, which goes on through the periodic images.

        Parameters
        ----------
        start_A : (2,) float
            A point of the line in the axes of the plane, in Å.
        direction_deg : float
            Angle to the first period in degrees.
        distances_A : (n,) float
            Distances from the point along the line in Å.

        Returns
        -------
        (n,) float
            Heights in Å, linear between the middles of the cells.
        """
        angle = np.deg2rad(direction_deg)
        points = np.asarray(start_A) + np.outer(distances_A, [np.cos(angle), np.sin(angle)])
        n = np.array(self.heights_A.shape)
        place = points @ np.linalg.inv(self.periods_A) * n - 0.5
        low = np.floor(place).astype(int)
        right = place - low
        found = np.zeros(len(points))
        for corner in itertools.product((0, 1), repeat=2):
            weight = np.where(corner, right, 1 - right).prod(axis=1)
            i, j = ((low + corner) % n).T
            found += weight * self.heights_A[i, j]
        return found

    def correlation_lengths_A(self) -> tuple[float, float]:  # noqa: N802
        """Lags in Å along the two periods at which the autocorrelation of the heights falls to 1/e.

        Smooth the map first: otherwise the corrugation of the atoms, which has its own short length, is part of it.
        Not a number where the autocorrelation does not fall that far within half a period, as along a groove, or where
        the surface is flat.
        """
        n_a, n_b = self.heights_A.shape
        power = np.abs(np.fft.rfft2(self.heights_A - self.mean_A)) ** 2
        correlation = np.fft.irfft2(power, s=(n_a, n_b))
        steps = np.linalg.norm(self.periods_A, axis=1) / (n_a, n_b)
        lines = (correlation[: n_a // 2 + 1, 0], correlation[0, : n_b // 2 + 1])
        first, second = (_falls_at(line, float(step)) for line, step in zip(lines, steps, strict=True))
        return first, second


def _falls_at(correlation: NDArray, step_A: float) -> float:
    """Lag at which a correlation function, from lag 0 on, falls to 1/e of its first value."""
    if correlation[0] <= 0:
        return float('nan')
    relative = correlation / correlation[0] - np.exp(-1)
    below = np.flatnonzero(relative < 0)
    if not below.size:
        return float('nan')
    i = below[0]
    return float(step_A * (i - relative[i] / (relative[i] - relative[i - 1])))


def height_map(
    positions_A: NDArray,
    cell_A: NDArray,
    matter: NDArray | None = None,
    spacing_A: float = 1.0,
    atom_radius_A: float = 1.5,
    probe_radius_A: float = 1.5,
) -> HeightMap:
    """Height of a surface as a ball finds it that is rolled over the atoms from above.

    Atoms are balls as well, and the height in the middle of a cell of the grid is the lowest that any part of the
    rolling ball comes to there, less the radius of an atom. So a flat surface lies at the centres of its topmost atoms
    and sinks between them by a fraction of an ångström. An overhang takes its top. That is an image by AFM with the
    width of the tip taken off again.

    The roughness of sines and saw-teeth cut out of a bcc crystal (amplitudes of 4-25 Å, wavelengths of 42-140 Å) comes
    out right to 0.7 Å, a fraction of a layer; that of vertical grooves, at least 4 lattice constants wide, to 8 %.

    Parameters
    ----------
    positions_A : (n, 3) float
        Positions in Å; they need not be wrapped along the first two vectors of the cell, and the surface must not be
        cut by the end of the third one (`vacuum.open_at_vacuum`).
    cell_A : (3, 3) float
        Cell vectors as rows, in Å. The first two span the plane of the map and are periodic; heights are along their
        normal.
    matter : (n,) bool, optional
        Atoms that count: those that are not in flight. All of them if not given.
    spacing_A : float
        Largest edge of a cell of the grid in Å.
    atom_radius_A : float
        Radius of an atom in Å: half the distance of nearest neighbours, 1.5 Å for lithium.
    probe_radius_A : float
        Radius of the rolling ball in Å. A smaller one sinks further between the atoms, a larger one does not reach the
        ground of narrow valleys. At 1.5 Å it touches atoms whose centres are 3.0 Å away, as the probe of voids does.

    Raises
    ------
    ValueError
        If there is no atom, a length is not above 0, or the grid is too coarse for the balls.
    """
    points = np.asarray(positions_A, dtype=float)
    points = points if matter is None else points[matter]
    if not len(points):
        raise ValueError('no atom counts for the surface: give positions of at least one that is not in flight')
    if not 0 < spacing_A <= min(atom_radius_A, probe_radius_A):
        raise ValueError(
            f'spacing_A is {spacing_A} Å, atom_radius_A {atom_radius_A} Å, probe_radius_A {probe_radius_A} Å; the '
            'spacing must be above 0 and not above either radius, or atoms fall between the points of the grid'
        )
    axes, periods = _plane(np.asarray(cell_A, dtype=float))
    shares = points @ axes[:2].T @ np.linalg.inv(periods) % 1.0
    z = points @ axes[2]
    floor = float(z.min())
    n = np.maximum(1, np.ceil(np.linalg.norm(periods, axis=1) / spacing_A)).astype(int)
    # lowest places of the ball's centre over each point of the grid
    contact = atom_radius_A + probe_radius_A
    lowest = np.full(n, -np.inf)
    # the topmost atoms of narrow columns first: they hide nearly all others of a thick slab
    is_top = _topmost(shares, z, periods, contact / 2)
    _lower(lowest, shares[is_top], z[is_top], periods, contact)
    may_touch = ~is_top & (z + contact > _lowest_around(lowest, shares, periods, contact))
    _lower(lowest, shares[may_touch], z[may_touch], periods, contact)
    is_bare = np.isinf(lowest)
    lowest = np.maximum(lowest, floor)
    # what the ball passes over when its centre is at those places
    surface = np.full(n, np.inf)
    for offset in _offsets(periods, n, probe_radius_A):
        square = float(((np.asarray(offset) / n @ periods) ** 2).sum())
        if square < probe_radius_A**2:
            passed = np.roll(lowest, offset, axis=(0, 1)) - np.sqrt(probe_radius_A**2 - square)
            np.minimum(surface, passed, out=surface)
    surface = np.maximum(surface - atom_radius_A, floor)
    return HeightMap(surface, periods, float(is_bare.mean()))


def _plane(cell_A: NDArray) -> tuple[NDArray, NDArray]:
    """Axes of the plane of the first two cell vectors, its normal as the third, as rows; and the two in those axes."""
    normal = np.cross(cell_A[0], cell_A[1])
    area = np.linalg.norm(normal)
    if not area > 0:
        raise ValueError(f'the first two cell vectors, {cell_A[0]} and {cell_A[1]} Å, span no area')
    first = cell_A[0] / np.linalg.norm(cell_A[0])
    axes = np.array([first, np.cross(normal / area, first), normal / area])
    return axes, cell_A[:2] @ axes[:2].T


def _offsets(periods: NDArray, n: NDArray, reach_A: float) -> list[tuple[int, int]]:
    """Steps over a grid of n cells that may lead no further than `reach_A` from a point of a cell to the middle."""
    edges = periods / n[:, None]
    most = np.ceil(reach_A * np.linalg.norm(np.linalg.inv(edges), axis=0) + 0.5).astype(int)
    half_diagonal = max(np.linalg.norm(edges[0] + sign * edges[1]) for sign in (1, -1)) / 2
    steps = np.array(list(itertools.product(range(-most[0], most[0] + 1), range(-most[1], most[1] + 1))))
    near = np.linalg.norm(steps @ edges, axis=1) < reach_A + half_diagonal
    return [(i, j) for i, j in steps[near].tolist()]


def _topmost(shares: NDArray, z: NDArray, periods: NDArray, edge_A: float) -> NDArray:
    """The topmost atom of each column of about this edge: (n,) bool."""
    n = np.maximum(1, np.round(np.linalg.norm(periods, axis=1) / edge_A)).astype(int)
    column = np.ravel_multi_index(tuple((shares * n).astype(int).T), tuple(n), mode='wrap')
    order = np.lexsort((z, column))
    is_top = np.zeros(len(z), dtype=bool)
    is_top[order[np.flatnonzero(np.diff(column[order], append=-1))]] = True
    return is_top


def _lower(lowest: NDArray, shares: NDArray, z: NDArray, periods: NDArray, radius_A: float) -> None:
    """Note in `lowest` where atoms hold a ball's centre, at this distance from their own, higher than it says."""
    n = np.array(lowest.shape)
    home = np.floor(shares * n).astype(int)
    for offset in _offsets(periods, n, radius_A):
        away = ((home + offset + 0.5) / n - shares) @ periods
        square = np.einsum('ij,ij->i', away, away)
        near = square < radius_A**2
        i, j = ((home[near] + offset) % n).T
        np.maximum.at(lowest, (i, j), z[near] + np.sqrt(radius_A**2 - square[near]))


def _lowest_around(lowest: NDArray, shares: NDArray, periods: NDArray, radius_A: float) -> NDArray:
    """Lowest place of the ball's centre over all points of the grid that each atom could hold it at: (n,) float."""
    n = np.array(lowest.shape)
    for axis, most in enumerate(np.max(_offsets(periods, n, radius_A), axis=0)):
        lowest = np.min([np.roll(lowest, k, axis=axis) for k in range(-most, most + 1)], axis=0)
    i, j = (np.floor(shares * n).astype(int) % n).T
    return lowest[i, j]


def corrugation_A(  # noqa: N802
    facet: Literal['100', '110', '111'],
    lattice_constant_A: float,
    atom_radius_A: float = 1.5,
    probe_radius_A: float = 1.5,
    spacing_A: float = 0.25,
) -> float:
    """Roughness in Å of an ideal flat bcc surface, in which every atom is on its site: the baseline of a map.

    Parameters
    ----------
    facet : str
        Miller indices of the surface: 100, 110 or 111.
    lattice_constant_A : float
        Cubic lattice constant in Å.
    atom_radius_A, probe_radius_A : float
        Those of the map whose baseline is wanted, in Å.
    spacing_A : float
        Spacing of the grid in Å. A map of 1 Å spacing differs by up to 0.15 Å, as its grid lies on the atoms.
    """
    if facet not in _FACETS:
        raise ValueError(f'facet is {facet!r}; a baseline is known for {", ".join(_FACETS)}')
    corners = np.array(list(itertools.product(range(-8, 9), repeat=3)), dtype=float)
    sites = np.concatenate([corners, corners + 0.5])
    directions = np.array(_FACETS[facet], dtype=float)
    edges = np.linalg.norm(directions, axis=1)
    placed = sites @ (directions / edges[:, None]).T
    margin = 1e-6
    inside = ((placed[:, :2] > -margin) & (placed[:, :2] < edges[:2] - margin)).all(axis=1)
    inside &= (placed[:, 2] < margin) & (placed[:, 2] > -3)
    cell = np.diag([edges[0], edges[1], 5.0]) * lattice_constant_A
    sites = placed[inside] * lattice_constant_A
    return height_map(sites, cell, None, spacing_A, atom_radius_A, probe_radius_A).roughness_A


@dataclass(frozen=True)
class DefectDepth:
    """Depth of one defect, the deepest, along lines through its ground.

    Parameters
    ----------
    depth_A : float
        Mean depth in Å over the lines that cross it; 0 if none does.
    by_line_A : tuple of float or None
        Depth along each line in Å; None where the line shows no minimum that deep, such as one that follows a groove.
    position_A : (2,) float
        Its deepest point in the axes of the plane of the map, in Å.
    """

    depth_A: float
    by_line_A: tuple[float | None, ...]
    position_A: NDArray


class LineDefect(NamedTuple):
    """A minimum on a line between two maxima, as indices, and its depth in Å."""

    left: int
    ground: int
    right: int
    depth_A: float


def defects_along(heights_A: NDArray, prominence_A: float) -> list[LineDefect]:
    """Defects on a line, as an AFM image is read: a local minimum, and its depth below the maxima beside it.

    The paper (section 3, surface healing experiments) takes the local maximum less the minimum near the defect; here
    it is the mean of the maxima on both sides, so that neither the higher nor the lower rim is preferred.

    Parameters
    ----------
    heights_A : (n,) float
        Heights along the line in Å, smooth enough that single atoms do not show.
    prominence_A : float
        Rise and fall in Å by which a maximum and a minimum must differ to count.

    Returns
    -------
    list of LineDefect
        Each minimum that lies between two maxima, in their order along the line.
    """
    if not prominence_A > 0:
        raise ValueError(f'prominence_A is {prominence_A} Å; it must be above 0')
    # turning points by turns, a maximum and a minimum; each is known once the line has left it by the prominence
    turns: list[tuple[int, bool]] = []
    low = high = 0
    for i, height in enumerate(heights_A):
        low = i if height < heights_A[low] else low
        high = i if height > heights_A[high] else high
        rises = turns[-1][1] is False if turns else None
        if rises is not False and heights_A[high] - height >= prominence_A:
            turns.append((high, True))
            low = i
        elif rises is not True and height - heights_A[low] >= prominence_A:
            turns.append((low, False))
            high = i
    if turns and not turns[-1][1]:
        turns.append((high, True))  # the line ends on a rise
    found = []
    for (left, is_top), (ground, _), (right, _) in zip(turns, turns[1:], turns[2:], strict=False):
        if is_top:
            depth = float((heights_A[left] + heights_A[right]) / 2 - heights_A[ground])
            found.append(LineDefect(left, ground, right, depth))
    return found


def defect_depth(
    surface: HeightMap,
    prominence_A: float = 2.0,
    smoothing_A: float = 1.5,
    directions_deg: Sequence[float] = (0.0, 60.0, 120.0),
) -> DefectDepth:
    """Depth of the deepest defect of a surface, along three lines as AFM images are read.

    Each line goes through the lowest point of the smoothed map, over twice the longer period to both sides: far
    enough to reach the next rim at 60 degrees to a groove's normal. Vertical grooves of at least 4 lattice constants
    come out right to 0.4 Å.

    Parameters
    ----------
    surface : HeightMap
        The surface.
    prominence_A : float
        What is less deep in Å is no defect; at least a layer.
    smoothing_A : float
        Standard deviation in Å of the Gaussian that takes the corrugation of the atoms out of the map first. Grooves
        narrower than eight times this length read shallow, and so do sharp tips and valleys.
    directions_deg : sequence of float
        Angles of the lines to the first period of the map, in degrees.
    """
    smooth = surface.smoothed(smoothing_A)
    lowest = np.unravel_index(np.argmin(smooth.heights_A), smooth.heights_A.shape)
    ground = smooth.positions_A()[lowest]
    step = float((np.linalg.norm(smooth.periods_A, axis=1) / smooth.heights_A.shape).min())
    half = int(np.ceil(2 * np.linalg.norm(smooth.periods_A, axis=1).max() / step))
    distances = np.arange(-half, half + 1) * step
    by_line: list[float | None] = []
    for direction in directions_deg:
        found = defects_along(smooth.along(ground, direction, distances), prominence_A)
        by_line.append(next((defect.depth_A for defect in found if defect.left < half < defect.right), None))
    crossed = [depth for depth in by_line if depth is not None]
    return DefectDepth(float(np.mean(crossed)) if crossed else 0.0, tuple(by_line), ground)
