"""Where a current lands: local current density in patches of a surface, and its variance without shot noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_E_C = 1.602176634e-19
#: One elementary charge per Å^2 and ps, in A/cm^2.
E_PER_A2_PS_IN_A_PER_CM2 = _E_C / (1e-16 * 1e-12)


@dataclass(frozen=True)
class LocalCurrent:
    """Local current densities of the patches of a surface over some time.

    Parameters
    ----------
    counts : (n_a, n_b) int
        Atoms that landed in each patch, along the first and the second period.
    patch_area_A2 : float
        Area of a patch in Å^2.
    duration_ps : float
        Time in ps over which they landed.
    charge_e : float
        Charge that each atom took up, in elementary charges.
    """

    counts: NDArray
    patch_area_A2: float
    duration_ps: float
    charge_e: float = 1.0

    @property
    def density_A_per_cm2(self) -> NDArray:  # noqa: N802
        """j_k = e N_k / (A_k dt) in A/cm^2: (n_a, n_b) float."""
        per_atom = self.charge_e * E_PER_A2_PS_IN_A_PER_CM2 / (self.patch_area_A2 * self.duration_ps)
        return self.counts * per_atom

    @property
    def mean_A_per_cm2(self) -> float:  # noqa: N802
        """Current density <j> of the whole surface in A/cm^2."""
        return float(self.density_A_per_cm2.mean())

    @property
    def raw_vlcd(self) -> float:
        """Var(j_k) / <j>^2 with the shot noise in it, which is 1/<N_k> for a uniform source; nan without atoms."""
        mean = float(self.counts.mean())
        return float(self.counts.var()) / mean**2 if mean else float('nan')

    @property
    def vlcd(self) -> float:
        """Variance of the local current density, Var(j_k) / <j>^2, without the shot noise.

        The shot noise, 1/<N_k>, is taken off in the form that has no bias however few atoms there are: with K patches
        and N atoms, K sum(N_k (N_k - 1)) / (N (N - 1)) - 1, an index of dispersion (Morisita, Mem. Fac. Sci. Kyushu
        Univ. E 2, 215, 1959) less 1. It differs from Var(j_k)/<j>^2 - 1/<N_k> in N - 1 for N. A uniform source gives 0
        on average, and may give less; a strip of width w on a length L that whole patches make up gives L/w - 1. Not a
        number with fewer than two atoms.
        """
        n = int(self.counts.sum())
        if n < 2:
            return float('nan')
        return float(self.counts.size * _pairs(self.counts) / (n * (n - 1.0)) - 1)

    @property
    def vlcd_error(self) -> float:
        """Standard error of `vlcd` if the atoms landed independently of each other.

        The variance of a U-statistic of pairs (Hoeffding, Ann. Math. Stat. 19, 293, 1948), its terms estimated from the
        counts. For a uniform source it is sqrt(2 (K - 1) / (N (N - 1))); for one that is uniform within a strip, chance
        makes it read up to twice too large. Not a number with fewer than three atoms.
        """
        n, k = float(self.counts.sum()), self.counts.size
        if n < 3:
            return float('nan')
        # sums of p^2 and p^3 over the patches, p being the share of the current that goes to each
        square = _pairs(self.counts) / (n * (n - 1))
        cube = float((self.counts * (self.counts - 1.0) * (self.counts - 2.0)).sum()) / (n * (n - 1) * (n - 2))
        of_one = max(0.0, k**2 * (cube - square**2))
        # a uniform source has the smallest variance of pairs; counts by chance may say less
        square = max(square, 1 / k)
        of_pair = k**2 * square * (1 - square)
        return float(np.sqrt((4 * (n - 2) * of_one + 2 * of_pair) / (n * (n - 1))))


def _pairs(counts: NDArray) -> float:
    return float((counts * (counts - 1.0)).sum())


def local_current(
    positions_A: NDArray,
    cell_A: NDArray,
    patches: tuple[int, int],
    duration_ps: float,
    charge_e: float = 1.0,
    origin_A: NDArray | None = None,
) -> LocalCurrent:
    """Local current density from the places where atoms landed, or were inserted.

    Patches must not be smaller than the variation that is asked for, or chance hides it: the error of the VLCD of a
    uniform source is about sqrt(2 K)/N. Larger ones average it out.

    Parameters
    ----------
    positions_A : (n, 3) float
        Places in Å, of the atoms that landed in `duration_ps`; images along the first two cell vectors count as one.
    cell_A : (3, 3) float
        Cell vectors as rows, in Å; the first two span the surface and are periodic.
    patches : (2,) int
        Numbers of patches along the first and the second vector.
    duration_ps : float
        Time in ps.
    charge_e : float
        Charge that each atom takes up, in elementary charges.
    origin_A : (3,) float, optional
        Where the first patch begins, in Å; zero if not given.

    Raises
    ------
    ValueError
        If there is no patch, no time, or the two vectors span no area.
    """
    n = np.array(patches)
    if n.shape != (2,) or n.dtype.kind != 'i' or (n < 1).any():
        raise ValueError(f'patches is {patches}; give two whole numbers of at least 1')
    if not duration_ps > 0:
        raise ValueError(f'duration_ps is {duration_ps} ps; it must be above 0')
    cell = np.asarray(cell_A, dtype=float)
    normal = np.cross(cell[0], cell[1])
    area = float(np.linalg.norm(normal))
    if not area > 0:
        raise ValueError(f'the first two cell vectors, {cell[0]} and {cell[1]} Å, span no area')
    points = np.asarray(positions_A, dtype=float).reshape(-1, 3) - (0.0 if origin_A is None else np.asarray(origin_A))
    # along the normal nothing counts, whatever the third vector
    shares = (points @ np.linalg.inv(np.array([cell[0], cell[1], normal])))[:, :2] % 1.0
    i, j = np.minimum((shares * n).astype(int), n - 1).T
    counts = np.bincount(i * n[1] + j, minlength=n.prod()).reshape(n)
    return LocalCurrent(counts, area / int(n.prod()), duration_ps, charge_e)


class Landings:
    """Where and when atoms landed, from frames of a run to which atoms are added.

    An atom lands in the first frame in which it is not in flight; those of the first frame that are matter were there.
    Its place is that in this frame: frames must follow fast enough that it has not gone far. Memory holds what has
    landed, not the frames.
    """

    def __init__(self) -> None:
        self._known: NDArray = np.zeros(0, np.int64)
        self._ids: list[NDArray] = []
        self._places: list[NDArray] = []
        self._times: list[NDArray] = []
        self._is_first = True

    def add(self, time_ps: float, ids: NDArray, positions_A: NDArray, in_flight: NDArray) -> int:
        """Add the next frame.

        Parameters
        ----------
        time_ps : float
            Its time in ps.
        ids : (n,) int
            Identifiers of its atoms, each atom keeping its own.
        positions_A : (n, 3) float
            Positions in Å.
        in_flight : (n,) bool
            Atoms in flight.

        Returns
        -------
        int
            Atoms that landed since the last frame.
        """
        new = ~in_flight & ~np.isin(ids, self._known)
        self._known = np.union1d(self._known, ids[new])
        if self._is_first:
            self._is_first = False
            return 0
        self._ids.append(ids[new])
        self._places.append(positions_A[new])
        self._times.append(np.full(int(new.sum()), time_ps))
        return int(new.sum())

    def arrays(self) -> dict[str, NDArray]:
        """`id` (n,), `time_ps` (n,) and `position_A` (n, 3) of the atoms that landed, in the order of their times."""
        return {
            'id': np.concatenate([np.zeros(0, np.int64), *self._ids]),
            'time_ps': np.concatenate([np.zeros(0), *self._times]),
            'position_A': np.concatenate([np.zeros((0, 3)), *self._places]),
        }
