"""Mean square displacement and diffusion of groups of atoms, frame by frame, with what a run can resolve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: 1 Å^2/ps in m^2/s.
A2_PER_PS_IN_M2_PER_S = 1e-8
#: Atoms that have come this far, in distances of nearest neighbours, have left their site.
HOP_SHARE = 0.6
#: Events that none of is seen in 5 % of the cases: the upper limit when nothing was seen, -ln(0.05).
UNSEEN_EVENTS = 2.996
#: Errors come from so many blocks of atoms, of four or more each.
BLOCKS = 8


class Mobility:
    """Mean square displacements of groups of atoms in a cell that keeps its size.

    Displacements are taken from several origins in the first part of the run, without the common motion, and averaged
    for each lag. D is the slope of their mean over the lags of the fit, by 2 d: that of 20-70 % of the run leaves the
    ballistic part out, and the noise of the longest lags. As the slope is linear in the displacements, each atom has
    its own, and the error of D is that of the mean over blocks of atoms that lie together: neighbours move together,
    and so do the times of one atom, which makes blocks of time of one run no independent ones.

    Memory holds a few positions for each atom, whatever the length of the run.

    Parameters
    ----------
    times_ps : (n_frames,) float
        Times of the frames that will be added, rising.
    groups : mapping of str to (n_atoms,) bool
        Members of each group.
    axes : mapping of str to (3,) bool
        Directions that count in each group; d is their number.
    neighbour_A : float
        Distance of nearest neighbours in Å, the length of a hop.
    reference : (n_atoms,) bool, optional
        Atoms whose mean displacement is the drift; none given: nothing drifts, as fixed atoms hold the crystal.
    n_origins : int
        Origins, at most.
    fit : (2,) float
        First and last lag of the fit, as shares of the run.

    Raises
    ------
    ValueError
        If there are too few frames for a fit.
    """

    def __init__(
        self,
        times_ps: NDArray,
        groups: Mapping[str, NDArray],
        axes: Mapping[str, NDArray],
        neighbour_A: float,
        reference: NDArray | None = None,
        n_origins: int = 10,
        fit: tuple[float, float] = (0.2, 0.7),
    ) -> None:
        self.times_ps = np.asarray(times_ps, dtype=float)
        self.groups = {name: np.asarray(members, dtype=bool) for name, members in groups.items()}
        self.axes = {name: np.asarray(axis, dtype=bool) for name, axis in axes.items()}
        self.neighbour_A = neighbour_A
        n_frames = len(self.times_ps)
        self.reference = reference
        length = float(self.times_ps[-1] - self.times_ps[0]) if n_frames else 0.0
        # from the last origin on, the run must be as long as the longest lag of the fit
        last_start = (1 - fit[1]) * length + 1e-9
        latest = int((self.times_ps - self.times_ps[0] <= last_start).sum()) if n_frames else 0
        self.origins = np.unique(np.linspace(0, max(0, latest - 1), n_origins).round().astype(int))
        pairs = [(o, f) for o in self.origins.tolist() for f in range(o, n_frames)]
        lags = np.array([round(self.times_ps[f] - self.times_ps[o], 6) for o, f in pairs])
        self.lags_ps, index = np.unique(lags, return_inverse=True)
        self.n_pairs = np.bincount(index)
        self._lag_of = dict(zip(pairs, index.tolist(), strict=True))
        margin = 1e-9 * max(length, 1.0)
        self.in_fit = (self.lags_ps >= fit[0] * length - margin) & (self.lags_ps <= fit[1] * length + margin)
        if self.in_fit.sum() < 3:
            raise ValueError(
                f'{n_frames} frames over {length:g} ps: {int(self.in_fit.sum())} lags lie in the fit, from {fit[0]:g} '
                f'to {fit[1]:g} of that time; 3 are needed: dump more often or run longer'
            )
        centred = self.lags_ps[self.in_fit] - self.lags_ps[self.in_fit].mean()
        self._weights = np.zeros(len(self.lags_ps))
        self._weights[self.in_fit] = centred / (centred @ centred)
        # positions averaged over a tenth of the run at both ends tell who has left its site, without the vibrations
        self._n_ends = max(1, n_frames // 10)
        self._n_added = 0
        n_atoms = len(next(iter(self.groups.values())))
        self._first: NDArray = np.zeros((n_atoms, 3))
        self._previous: NDArray = self._first
        self._images: NDArray = np.zeros((n_atoms, 3))
        self._flown: NDArray = np.zeros(n_atoms, dtype=bool)
        # displacements of the atoms at each origin, and their means at the ends of the run
        self._starts: dict[int, NDArray] = {}
        self._ends: NDArray = np.zeros((2, n_atoms, 3))
        self._slopes: NDArray = np.zeros((n_atoms, 3))
        self._sums: dict[str, NDArray] = {name: np.zeros(len(self.lags_ps)) for name in self.groups}
        self._counts: dict[str, NDArray] = {name: np.zeros(len(self.lags_ps), np.int64) for name in self.groups}

    def add(self, positions_A: NDArray, cell_A: NDArray, pbc: NDArray, in_flight: NDArray | None = None) -> None:
        """Add the next frame.

        Parameters
        ----------
        positions_A : (n_atoms, 3) float
            Wrapped or not, the atoms always in the same order. Between two frames no atom may come further than half
            a cell.
        cell_A : (3, 3) float
            Cell vectors as rows, in Å.
        pbc : (3,) bool
            Periodic directions.
        in_flight : (n_atoms,) bool, optional
            Atoms that left the surface: from now on they count in no group.
        """
        if len(positions_A) != len(self._first):
            raise ValueError(
                f'{len(self._first)} atoms at first, {len(positions_A)} in frame {self._n_added}: mobility needs the '
                'same atoms in every frame'
            )
        if self._n_added == 0:
            self._first = self._previous = positions_A.copy()
        number, self._n_added = self._n_added, self._n_added + 1
        # whole numbers of cells, so that rounding does not add up
        reduced = (positions_A - self._previous) @ np.linalg.inv(cell_A)
        self._images -= np.where(pbc, np.round(reduced), 0.0)
        self._previous = positions_A.copy()
        unwrapped = positions_A + self._images @ cell_A
        if in_flight is not None:
            self._flown |= in_flight
        moved = unwrapped - self._first
        if self.reference is not None and self.reference.any():
            moved -= moved[self.reference].mean(axis=0)
        if number < self._n_ends:
            self._ends[0] += moved / self._n_ends
        if number >= len(self.times_ps) - self._n_ends:
            self._ends[1] += moved / self._n_ends
        if number in self.origins:
            self._starts[number] = moved
        for origin, start in self._starts.items():
            self._add_pair(self._lag_of[origin, number], (moved - start) ** 2)

    def _add_pair(self, lag: int, squares: NDArray) -> None:
        """Add the squared displacements, (n_atoms, 3), from one origin to one frame."""
        if self._weights[lag]:
            self._slopes += self._weights[lag] / self.n_pairs[lag] * squares
        for name, members in self.groups.items():
            counted = members & ~self._flown
            self._sums[name][lag] += squares[counted][:, self.axes[name]].sum()
            self._counts[name][lag] += counted.sum()

    def arrays(self) -> dict[str, NDArray]:
        """`lag_ps`, `pairs` (origins and frames that make it) and `msd_<group>_A2` by lag; (n_lags,) each."""
        msd = {
            f'msd_{name}_A2': self._sums[name] / np.where(self._counts[name], self._counts[name], np.nan)
            for name in self.groups
        }
        return {'lag_ps': self.lags_ps, 'pairs': self.n_pairs, **msd}

    def summary(self) -> dict[str, dict[str, Any]]:
        """What each group shows.

        Returns
        -------
        dict of str to dict
            `n_atoms`, `n_left_surface` (left out), `n_moved` (atoms that left their site), `dimensions` d, `length_ps`;
            `D_m2_per_s` = MSD / (2 d t) and its standard error `D_error_m2_per_s`, None with fewer than 8 atoms;
            `is_resolved`: whether D is more than twice its error and any atom left its site; if not,
            `D_bound_m2_per_s`, which D is below with 95 % confidence: what that many unseen hops would make, or D with
            twice its error.
        """
        return {name: self._of_group(name) for name in self.groups}

    def _of_group(self, name: str) -> dict[str, Any]:
        members = np.flatnonzero(self.groups[name] & ~self._flown)
        d = int(self.axes[name].sum())
        length = float(self.times_ps[-1] - self.times_ps[0])
        told: dict[str, Any] = {
            'n_atoms': len(members),
            'n_left_surface': int((self.groups[name] & self._flown).sum()),
            'dimensions': d,
            'length_ps': length,
        }
        if not len(members):
            return told
        far = np.linalg.norm(self._ends[1] - self._ends[0], axis=1) > HOP_SHARE * self.neighbour_A
        n_moved = int(far[members].sum())
        each = self._slopes[members][:, self.axes[name]].sum(axis=1) / (2 * d) * A2_PER_PS_IN_M2_PER_S
        # blocks of neighbours: cut along the direction in which the group is longest
        places = self._first[members]
        order = np.argsort(places[:, np.argmax(np.ptp(places, axis=0))], kind='stable')
        blocks = np.array_split(each[order], max(1, min(BLOCKS, len(members) // 4)))
        diffusion = float(each.mean())
        error = None
        if len(blocks) > 1:
            means = np.array([block.mean() for block in blocks])
            error = float(means.std(ddof=1) / np.sqrt(len(blocks)))
        unseen = UNSEEN_EVENTS * self.neighbour_A**2 / (2 * d * len(members) * length) * A2_PER_PS_IN_M2_PER_S
        noise = diffusion + 2 * (error or 0.0) if n_moved else 0.0
        is_resolved = n_moved > 0 and error is not None and diffusion > 2 * error
        told |= {
            'n_moved': n_moved,
            'D_m2_per_s': diffusion,
            'D_error_m2_per_s': error,
            'is_resolved': is_resolved,
            'D_bound_m2_per_s': None if is_resolved else max(unseen, noise),
        }
        return told
