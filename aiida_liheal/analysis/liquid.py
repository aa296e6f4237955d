"""A liquid as a run measured it: density, radial distribution and its first shell, with errors from blocks of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

#: 1 u/Å^3 in g/cm^3 (CODATA 2018).
U_PER_A3_IN_G_PER_CM3 = 1.66053906660
#: Share of solid atoms above which something is no liquid: that at which a coexistence counts as all molten.
MOST_SOLID = 0.1
#: The first peak lies within this many times its own distance; behind it is the second one.
BEFORE_SECOND_PEAK = 1.7
#: Degree of the polynomials that smooth g(r) about its extrema: a parabola would flatten a peak by some per cent.
_DEGREE = 4
#: Half of the width in Å of the pieces of g(r) by which its peak and its minimum are found.
PEAK_REACH_A, MINIMUM_REACH_A = 0.3, 0.5


def block_mean(blocks: NDArray) -> tuple[float, float]:
    """Mean of some blocks of time, and its standard error, from at least two blocks, (n_blocks,) float."""
    return float(blocks.mean()), float(blocks.std(ddof=1) / np.sqrt(len(blocks)))


def means_of_blocks(times_ps: NDArray, values: NDArray, from_ps: float, n_blocks: int) -> NDArray:
    """Means over blocks of time of the same length: (n_blocks,) float.

    Parameters
    ----------
    times_ps, values : (n,) float
        Times and values of a quantity.
    from_ps : float
        What comes up to this time in ps is left out.
    n_blocks : int
        Blocks.

    Raises
    ------
    ValueError
        If there are fewer values than blocks.
    """
    kept = values[times_ps > from_ps]
    if len(kept) < n_blocks:
        raise ValueError(f'{len(kept)} values after {from_ps:g} ps: too few for {n_blocks} blocks; write more often')
    return np.array([block.mean() for block in np.array_split(kept, n_blocks)])


@dataclass(frozen=True)
class FirstShell:
    """The first peak of g(r), the minimum behind it, and the neighbours up to there."""

    peak_A: float
    peak_height: float
    minimum_A: float
    coordination: float


@dataclass(frozen=True)
class RadialDistribution:
    """g(r) by blocks of time.

    Parameters
    ----------
    edges_A : (n_bins + 1,) float
        Distances in Å between which the shells lie.
    blocks : (n_blocks, n_bins) float
        g in each block.
    samples : (n_blocks,) float
        Samples in each block.
    """

    edges_A: NDArray
    blocks: NDArray
    samples: NDArray

    @classmethod
    def from_values(cls, values: Mapping[str, float], reach_A: float, n_bins: int, n_blocks: int) -> Self:
        """From what a run of kind `liquid` printed; a block that was not come to is left out.

        Raises ValueError if there is none, or one has not all its shells.
        """
        there = [block for block in range(n_blocks) if f'block_{block}_samples' in values]
        names = [[f'block_{block}_g_{number:03d}' for number in range(n_bins)] for block in there]
        missing = [name for row in names for name in row if values.get(name) is None]
        if missing or not there:
            raise ValueError(f'the run printed no {missing[0] if missing else "block of its radial distribution"}')
        return cls(
            np.linspace(0.0, reach_A, n_bins + 1),
            np.array([[values[name] for name in row] for row in names]),
            np.array([values[f'block_{block}_samples'] for block in there]),
        )

    @property
    def radii_A(self) -> NDArray:  # noqa: N802 (the unit)
        """Middles of the shells in Å: (n_bins,) float."""
        return (self.edges_A[1:] + self.edges_A[:-1]) / 2

    @property
    def mean(self) -> NDArray:
        """Of all samples: (n_bins,) float."""
        return np.average(self.blocks, axis=0, weights=self.samples)

    @property
    def error(self) -> NDArray:
        """Standard error of the mean by the blocks, (n_bins,) float; not a number if there is but one."""
        n = len(self.blocks)
        return self.blocks.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(self.blocks.shape[1], np.nan)

    def coordination(self, density_per_A3: float, g: NDArray | None = None) -> NDArray:
        """Neighbours of an atom up to the outer edge of each shell: (n_bins,) float.

        Parameters
        ----------
        density_per_A3 : float
            Neighbours by volume, (n - 1) / V, in 1/Å^3.
        g : (n_bins,) float, optional
            The mean if not given.
        """
        volumes = 4 / 3 * np.pi * np.diff(self.edges_A**3)
        return np.cumsum((self.mean if g is None else g) * volumes) * density_per_A3

    def first_shell(self, density_per_A3: float, g: NDArray | None = None) -> FirstShell:
        """The first shell of g(r).

        Peak and minimum are those of polynomials through the piece around the highest and the lowest shell. The
        coordination is the integral up to the minimum.

        Parameters
        ----------
        density_per_A3 : float
            Neighbours by volume in 1/Å^3.
        g : (n_bins,) float, optional
            The mean if not given.

        Raises
        ------
        ValueError
            If there is no peak, or no minimum behind it within reach.
        """
        g = self.mean if g is None else g
        radii = self.radii_A
        highest = int(np.argmax(g))
        peak, height = _extremum(radii, g, highest, PEAK_REACH_A)
        beyond = np.flatnonzero((radii > peak) & (radii < BEFORE_SECOND_PEAK * peak))
        # a liquid's peak is well above the 1 of atoms that do not know of each other
        if height < 1.2 or not len(beyond) or radii[-1] < BEFORE_SECOND_PEAK * peak:
            raise ValueError(
                f'g(r) is highest at {radii[highest]:.2f} Å with {g[highest]:.2f}: no first shell of a liquid within '
                f'{self.edges_A[-1]:g} Å'
            )
        lowest = int(beyond[np.argmin(g[beyond])])
        minimum, _ = _extremum(radii, g, lowest, MINIMUM_REACH_A)
        counts = np.concatenate([[0.0], self.coordination(density_per_A3, g)])
        return FirstShell(peak, height, minimum, float(np.interp(minimum, self.edges_A, counts)))

    def shells_of_blocks(self, density_per_A3: float) -> list[FirstShell]:
        """The first shell by each block."""
        return [self.first_shell(density_per_A3, g) for g in self.blocks]


def _extremum(radii: NDArray, g: NDArray, index: int, reach_A: float) -> tuple[float, float]:
    """Place and value of the extremum of a smooth piece about a shell; the shell itself if there is none near it."""
    near = np.abs(radii - radii[index]) <= reach_A
    if near.sum() > 2 * _DEGREE:
        curve = np.polynomial.Polynomial.fit(radii[near], g[near], _DEGREE)
        places = curve.deriv().roots()
        places = places[np.isreal(places)].real
        if len(places) and np.abs(places - radii[index]).min() <= reach_A / 2:
            place = float(places[np.argmin(np.abs(places - radii[index]))])
            return place, float(curve(place))
    return float(radii[index]), float(g[index])
