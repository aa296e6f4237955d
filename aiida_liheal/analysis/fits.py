"""Laws through few points, with honest intervals: Arrhenius, power law, healing times; means of correlated series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from .profiles import BOLTZMANN_EV_PER_K


@dataclass(frozen=True)
class Estimate:
    """A fitted number: `value`, its standard `error`, and the interval from `low` to `high`."""

    value: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class Fit:
    """A law fitted to the logarithms of some values.

    Parameters
    ----------
    parameters : dict of str to Estimate
        The numbers of the law by name; a name that has a unit ends in it.
    confidence : float
        Probability with which the intervals cover the truth.
    n_points : int
        Values that were fitted.
    n_bounds : int
        Points that are bounds only: they are counted and not fitted.
    n_bounds_violated : int
        Bounds on whose wrong side the whole interval of the law lies. Any shows that the law does not hold there.
    degrees_of_freedom : int
        Values less unknowns.
    chi2_per_degree : float or None
        Mean squared deviation in units of the given errors, by degree of freedom; well above 1, the errors are too
        small or the law is wrong. None if no errors were given.
    scatter : float
        Standard deviation of the logarithms about the law: 0.1 are about 10 % of the value.
    """

    parameters: dict[str, Estimate]
    confidence: float
    n_points: int
    n_bounds: int
    n_bounds_violated: int
    degrees_of_freedom: int
    chi2_per_degree: float | None
    scatter: float
    _columns: Callable[..., NDArray]
    _logs: NDArray
    _covariance: NDArray
    _widths: tuple[float, float]

    def at(self, *where: float) -> Estimate:
        """The law at a point, such as a temperature, or a size and a temperature, with its interval there."""
        row = self._columns(*(np.array([value], dtype=float) for value in where))[0]
        return _from_log(float(row @ self._logs), float(np.sqrt(row @ self._covariance @ row)), self._widths)


def _from_log(log: float, error: float, widths: tuple[float, float]) -> Estimate:
    """Estimate of exp(log); `widths` are the standard error and half the interval in units of `error`."""
    value = float(np.exp(log))
    half = widths[1] * error
    return Estimate(value, value * widths[0] * error, float(np.exp(log - half)), float(np.exp(log + half)))


def fit_arrhenius(
    temperatures_K: ArrayLike,
    values: ArrayLike,
    errors: ArrayLike | None = None,
    is_bound: ArrayLike | None = None,
    bounds: Literal['upper', 'lower'] = 'upper',
    confidence: float = 0.68,
) -> Fit:
    """Fit value = amplitude exp(-E / (k T)), by weighted least squares in the logarithm.

    Without errors, the scatter of the points gives the uncertainty, and intervals follow Student's t. With errors, they
    weigh the points and give the uncertainty, with normal intervals; where the points scatter more than the errors
    allow, both grow by sqrt(chi^2 / degrees of freedom), as in the Review of Particle Physics.

    A point that is only a bound, such as a D below the resolution of its run, has no place in least squares: it is left
    out, counted, and compared with the law afterwards. That favours points that happened to be resolved, so do not
    trust a law in a range where bounds outnumber values.

    Parameters
    ----------
    temperatures_K : (n,) float
        Temperatures in K.
    values : (n,) float
        Rates, diffusion coefficients, inverse times: what grows with temperature. Above 0, in any unit.
    errors : (n,) float, optional
        Standard errors in the same unit; those of bounds do not matter.
    is_bound : (n,) bool, optional
        Values that are bounds only.
    bounds : str
        `upper`: the truth lies below them; `lower`: above.
    confidence : float
        Probability of the intervals.

    Returns
    -------
    Fit
        With `activation_energy_eV` and `amplitude`, in the unit of the values; `at(temperature_K)`.

    Raises
    ------
    ValueError
        If lengths differ, numbers are not finite and above 0, there are fewer than 3 values that are no bounds, or all
        are at one temperature.
    """
    temperatures = _above_0('temperatures_K', temperatures_K)

    def columns(temperature_K: NDArray) -> NDArray:
        return np.stack([np.ones(len(temperature_K)), -1 / (BOLTZMANN_EV_PER_K * temperature_K)], axis=1)

    return _fit(
        columns, (temperatures,), ('amplitude', 'activation_energy_eV'), values, errors, is_bound, bounds, confidence
    )


def fit_power_law(
    x: ArrayLike,
    values: ArrayLike,
    errors: ArrayLike | None = None,
    is_bound: ArrayLike | None = None,
    bounds: Literal['upper', 'lower'] = 'upper',
    confidence: float = 0.68,
) -> Fit:
    """Fit value = amplitude x^exponent; as `fit_arrhenius` in all else.

    Returns
    -------
    Fit
        With `exponent` and `amplitude`, the value at x = 1; `at(x)`.
    """
    places = _above_0('x', x)

    def columns(place: NDArray) -> NDArray:
        return np.stack([np.ones(len(place)), np.log(place)], axis=1)

    return _fit(columns, (places,), ('amplitude', 'exponent'), values, errors, is_bound, bounds, confidence)


def fit_healing_times(
    sizes_A: ArrayLike,
    temperatures_K: ArrayLike,
    times_ps: ArrayLike,
    errors_ps: ArrayLike | None = None,
    is_bound: ArrayLike | None = None,
    confidence: float = 0.68,
) -> Fit:
    """Fit time = amplitude size^exponent exp(E / (k T)) to healing times of defects, as `fit_arrhenius` does.

    A run that ended before its defect had healed gives a bound: its length, which the healing time is above.

    Parameters
    ----------
    sizes_A, temperatures_K : (n,) float
        Size of the defect in Å, and temperature in K; both must vary, apart from each other.
    times_ps, errors_ps : (n,) float
        Healing times and their standard errors in ps.
    is_bound : (n,) bool, optional
        Runs that had not healed.
    confidence : float
        Probability of the intervals.

    Returns
    -------
    Fit
        With `exponent`, `activation_energy_eV` (above 0 where heat speeds healing up) and `amplitude_ps`, the time at
        1 Å and infinite temperature; `at(size_A, temperature_K)` in ps.
    """
    sizes, temperatures = _above_0('sizes_A', sizes_A), _above_0('temperatures_K', temperatures_K)

    def columns(size_A: NDArray, temperature_K: NDArray) -> NDArray:
        return np.stack([np.ones(len(size_A)), np.log(size_A), 1 / (BOLTZMANN_EV_PER_K * temperature_K)], axis=1)

    names = ('amplitude_ps', 'exponent', 'activation_energy_eV')
    return _fit(columns, (sizes, temperatures), names, times_ps, errors_ps, is_bound, 'lower', confidence)


def _above_0(name: str, values: ArrayLike) -> NDArray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not (np.isfinite(array) & (array > 0)).all():
        raise ValueError(f'{name} is {array.tolist()}; give a list of finite numbers above 0')
    return array


def _fit(
    columns: Callable[..., NDArray],
    where: tuple[NDArray, ...],
    names: tuple[str, ...],
    values: ArrayLike,
    errors: ArrayLike | None,
    is_bound: ArrayLike | None,
    bounds: Literal['upper', 'lower'],
    confidence: float,
) -> Fit:
    """Least squares in the logarithm; the first of `names` is the amplitude, whose logarithm is fitted."""
    if bounds not in ('upper', 'lower'):
        raise ValueError(f'bounds is {bounds!r}; it is upper or lower')
    if not 0 < confidence < 1:
        raise ValueError(f'confidence is {confidence}; it is a probability between 0 and 1, such as 0.68')
    y = _above_0('values', values)
    left_out = np.zeros(len(y), dtype=bool) if is_bound is None else np.asarray(is_bound, dtype=bool)
    lengths = [len(y), len(left_out), *(len(array) for array in where)]
    if errors is not None:
        lengths.append(len(np.asarray(errors)))
    if len(set(lengths)) > 1:
        raise ValueError(f'the lists have {", ".join(map(str, lengths))} entries; give one for each point')
    kept, bounded = [array[~left_out] for array in where], [array[left_out] for array in where]
    design, logs = columns(*kept), np.log(y[~left_out])
    free = len(logs) - len(names)
    if free < 1:
        raise ValueError(
            f'{len(logs)} values and {int(left_out.sum())} bounds for {len(names)} unknowns ({", ".join(names)}): '
            f'an uncertainty needs at least {len(names) + 1} values that are no bounds'
        )
    if np.linalg.matrix_rank(design / np.abs(design).max(axis=0), tol=1e-9) < len(names):
        raise ValueError(f'the points do not tell {", ".join(names)} apart: vary what they depend on, each by itself')
    relative = np.ones(len(logs))
    if errors is not None:
        relative = _above_0('errors', np.asarray(errors, dtype=float)[~left_out]) / y[~left_out]
    weighted = design / relative[:, None]
    solved, *_ = np.linalg.lstsq(weighted, logs / relative, rcond=None)
    covariance = np.linalg.inv(weighted.T @ weighted)
    rest = logs - design @ solved
    per_degree = float(((rest / relative) ** 2).sum() / free)
    if errors is None:
        widths = (np.sqrt(per_degree), np.sqrt(per_degree) * float(stats.t.ppf((1 + confidence) / 2, free)))
    else:
        grown = np.sqrt(max(1.0, per_degree))
        widths = (grown, grown * float(stats.norm.ppf((1 + confidence) / 2)))

    parameters = {}
    for name, value, error in zip(names, solved.tolist(), np.sqrt(np.diag(covariance)).tolist(), strict=True):
        half = float(widths[1] * error)
        parameters[name] = Estimate(value, float(widths[0] * error), value - half, value + half)
    parameters[names[0]] = _from_log(float(solved[0]), float(np.sqrt(covariance[0, 0])), widths)
    fit = Fit(
        parameters=parameters,
        confidence=confidence,
        n_points=len(logs),
        n_bounds=int(left_out.sum()),
        n_bounds_violated=0,
        degrees_of_freedom=free,
        chi2_per_degree=None if errors is None else per_degree,
        scatter=float(np.sqrt((rest**2).sum() / free)),
        _columns=columns,
        _logs=solved,
        _covariance=covariance,
        _widths=widths,
    )
    laws = [fit.at(*place) for place in zip(*bounded, strict=True)]
    limits = y[left_out]
    beyond = [
        law.low > limit if bounds == 'upper' else law.high < limit for law, limit in zip(laws, limits, strict=True)
    ]
    return replace(fit, n_bounds_violated=sum(beyond))


@dataclass(frozen=True)
class BlockMean:
    """Mean of a correlated series.

    Parameters
    ----------
    mean, error : float
        Mean and its standard error, from the means of blocks.
    block_length : int
        Frames in a block.
    n_blocks : int
        Blocks.
    is_resolved : bool
        Whether the blocks are long enough to be independent of each other. If not, the series is too short for an
        error, and this one is too small.
    """

    mean: float
    error: float
    block_length: int
    n_blocks: int
    is_resolved: bool

    def interval(self, confidence: float = 0.68) -> tuple[float, float]:
        """Interval by Student's t that covers the truth with this probability."""
        half = self.error * float(stats.t.ppf((1 + confidence) / 2, self.n_blocks - 1))
        return self.mean - half, self.mean + half


def block_mean(values: ArrayLike, least_blocks: int = 8) -> BlockMean:
    """Mean of a series and its block error (Flyvbjerg and Petersen, J. Chem. Phys. 91, 461, 1989).

    Blocks grow by doubling until their length B satisfies B^3 > 2 n (s_B / s_1)^4, s_B being the error from blocks of
    that length (Lee et al., Phys. Rev. E 83, 066706, 2011): then what correlation is left costs less than the noise of
    longer blocks.

    Parameters
    ----------
    values : (n,) float
        Values at equal intervals of time, without the equilibration. What does not fill a block is left out at the
        start.
    least_blocks : int
        Blocks, at least; with fewer, an error says little.

    Raises
    ------
    ValueError
        If there are fewer values than blocks, or one is not finite.
    """
    series = np.asarray(values, dtype=float)
    if least_blocks < 2 or series.ndim != 1 or len(series) < least_blocks:
        raise ValueError(
            f'{series.size} values for {least_blocks} blocks; give at least one for each block, and 2 blocks'
        )
    if not np.isfinite(series).all():
        raise ValueError('the series has values that are not finite; leave them out only if they are no gaps in time')
    single = float(series.std(ddof=1) / np.sqrt(len(series)))
    best = BlockMean(float(series.mean()), single, 1, len(series), single == 0)
    length = 1
    while not best.is_resolved and len(series) // length >= least_blocks:
        n_blocks = len(series) // length
        means = series[len(series) - n_blocks * length :].reshape(n_blocks, length).mean(axis=1)
        error = float(means.std(ddof=1) / np.sqrt(n_blocks))
        is_resolved = length**3 > 2 * len(series) * (error / single) ** 4
        if is_resolved or error >= best.error:
            best = BlockMean(best.mean, error, length, n_blocks, bool(is_resolved))
        length *= 2
    return best
