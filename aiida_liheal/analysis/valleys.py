"""What the energy of an atom in a valley, and its way down a slope, show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean_and_spread(energies_eV: NDArray) -> tuple[NDArray, NDArray]:
    """Mean and standard deviation over the members of a committee.

    The deviation is that of DP-GEN, over all members and not over one less.

    Parameters
    ----------
    energies_eV : (n_angles, n_members) float
        NaN where there is none.

    Returns
    -------
    mean, spread : (n_angles,) float
    """
    return energies_eV.mean(axis=1), energies_eV.std(axis=1)


def rise(angles_deg: NDArray, energies_eV: NDArray) -> NDArray:
    """Energies above that at the smallest angle, each member for itself, so that its own zero of energy drops out.

    Parameters
    ----------
    angles_deg : (n_angles,) float
        In any order.
    energies_eV : (n_angles, n_members) float
        NaN where there is none.

    Returns
    -------
    (n_angles, n_members) float
        In eV; NaN everywhere if there is no energy at all.
    """
    known = np.flatnonzero(np.isfinite(energies_eV).all(axis=1))
    if not len(known):
        return np.full_like(energies_eV, np.nan)
    return energies_eV - energies_eV[known[np.argmin(angles_deg[known])]]


def rank_correlation(x: NDArray, y: NDArray) -> float:
    """Spearman's rank correlation of numbers that all differ: 1 if `y` always rises with `x`.

    NaN with fewer than two pairs of finite numbers.
    """
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 2:
        return float('nan')
    ranks = [np.argsort(np.argsort(values[known])).astype(float) for values in (x, y)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def distance_to_line(positions_A: NDArray, bottom_A: tuple[float, float], period_A: float) -> NDArray:
    """Distances in the xz plane from a line along y.

    Parameters
    ----------
    positions_A : (n, 3) float
        In Å, unwrapped or not.
    bottom_A : (2,) float
        x and z of the line in Å.
    period_A : float
        Length of the cell along x in Å.

    Returns
    -------
    (n,) float
        In Å, to the nearest image of the line.
    """
    dx = (positions_A[:, 0] - bottom_A[0] + period_A / 2) % period_A - period_A / 2
    return np.hypot(dx, positions_A[:, 2] - bottom_A[1])


def arrival(times_ps: NDArray, distances_A: NDArray, reach_A: float) -> dict[str, float | bool | None]:
    """When an atom came to a line and whether it stayed.

    Parameters
    ----------
    times_ps, distances_A : (n,) float
        Times and distances from the line.
    reach_A : float
        An atom as near as this is there, in Å.

    Returns
    -------
    dict
        `reached_at_ps`: first time within reach, None if there is none; `stays`: whether it is within reach at all
        times from then on; `share_within`: share of these times at which it is.
    """
    within = distances_A <= reach_A
    if not within.any():
        return {'reached_at_ps': None, 'stays': False, 'share_within': 0.0}
    first = int(np.argmax(within))
    return {
        'reached_at_ps': float(times_ps[first]),
        'stays': bool(within[first:].all()),
        'share_within': float(within[first:].mean()),
    }
