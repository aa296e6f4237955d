"""Whether a number rises with another one: a straight line through means over seeds, and what it could be by chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ('P_BY_CHANCE', 'Trend', 'trend_of')

#: What has a smaller chance in one direction is no chance: that beyond two standard errors.
P_BY_CHANCE = float(stats.norm.sf(2.0))


@dataclass(frozen=True)
class Trend:
    """A straight line through means at several places, weighted by how well each is known.

    Parameters
    ----------
    change : float
        Rise over the whole range.
    error : float or None
        Its standard error; None if two single values are all that there is.
    p : float or None
        Chance of at least such a change, in its direction, if there were none.
    errors : tuple of float or None
        Standard errors of the means.
    dof : float
        Degrees of freedom that the errors come from.
    """

    change: float
    error: float | None
    p: float | None
    errors: tuple[float, ...] | None
    dof: float

    def falls_at(self, y: Sequence[float], least_change: float) -> list[int]:
        """Steps at which `y` falls by more than can be chance, and by more than the least change."""
        steps = np.diff(np.asarray(y, dtype=float))
        limits = np.full(len(steps), least_change)
        if self.errors is not None:
            of_steps = np.hypot(self.errors[:-1], self.errors[1:])
            limits = np.maximum(limits, stats.t.isf(P_BY_CHANCE, self.dof) * of_steps)
        return [int(k) for k in np.flatnonzero(-steps > limits)]


def trend_of(
    x: Sequence[float],
    y: Sequence[float],
    errors: Sequence[float | None],
    counts: Sequence[int],
    resolution: float = 0.0,
) -> Trend:
    """The trend of means over seeds (weighted least squares: Bevington & Robinson, Data Reduction, chapter 6).

    The scatter of single values is that of all places taken together, as a few seeds at one place tell it poorly; a
    chance follows from Student's t. Where no place has several, it is what makes a change of `resolution` between two
    single values twice its standard error; without that, what the line leaves of three or more values.

    Parameters
    ----------
    x, y : (n,) sequence of float
        Places, two or more, and means there.
    errors : (n,) sequence of float or None
        Standard errors of the means; None of a single value.
    counts : (n,) sequence of int
        Values at each place.
    resolution : float
        The least change that says anything.
    """
    places, means = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    n = np.asarray(counts, dtype=float)
    known = np.array([error is not None and count > 1 for error, count in zip(errors, counts, strict=True)])
    weights = n
    off = places - np.average(places, weights=weights)
    across = float((weights * off**2).sum())
    slope = float((weights * off * means).sum()) / across
    change = slope * float(np.ptp(places))
    scatter: float | None
    if known.any():
        squares = np.array([0.0 if error is None else error**2 for error in errors])
        dof = float((n[known] - 1).sum())
        # the variance of single values, from those of the means
        scatter = math.sqrt(float(((n - 1) * n * squares)[known].sum()) / dof)
    elif resolution > 0:
        scatter, dof = resolution / (2 * math.sqrt(2)), math.inf
    elif len(means) > 2:
        left = means - np.average(means, weights=weights) - slope * off
        dof = len(means) - 2.0
        scatter = math.sqrt(float((weights * left**2).sum()) / dof)
    else:
        return Trend(change, None, None, None, math.inf)
    error = scatter / math.sqrt(across) * float(np.ptp(places))
    p = float(stats.t.sf(abs(change) / error, dof)) if error > 0 else 0.0
    return Trend(change, error, p, tuple(float(one) for one in scatter / np.sqrt(n)), dof)
