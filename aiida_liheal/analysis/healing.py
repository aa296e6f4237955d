"""How long voids take to heal, against their size and the temperature, with the laws that the times allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .fits import Estimate, Fit, fit_arrhenius, fit_healing_times, fit_power_law

__all__ = ('HealingTime', 'equivalent_diameter', 'fit_laws')

#: Sizes that differ by less than this share, and temperatures that do, count as one.
SAME = 0.01


@dataclass(frozen=True)
class HealingTime:
    """One run with a void.

    Parameters
    ----------
    size_A : float
        Diameter of the sphere with the volume of the void at the start, in Å.
    temperature_K : float
        Temperature of the run in K.
    time_ps : float
        When the void had healed for good; of one that had not, the length of the run.
    is_bound : bool
        Whether it had not: healing takes longer than `time_ps`.
    label : str
        The run, for people.
    """

    size_A: float
    temperature_K: float
    time_ps: float
    is_bound: bool
    label: str = ''


def equivalent_diameter(volume_A3: float) -> float:
    """Diameter in Å of the sphere with this volume in Å³."""
    return float((6 * volume_A3 / math.pi) ** (1 / 3))


def fit_laws(times: Sequence[HealingTime], confidence: float = 0.68) -> list[dict[str, Any]]:
    """The laws that the times allow, each with its numbers and their intervals, or why there is none.

    Three laws: time^-1 = A exp(-E / (k T)) at each size that has several temperatures, time = A size^n at each
    temperature that has several sizes, and both at once. Runs that had not healed are bounds: they are counted, not
    fitted (see `fits`).

    Parameters
    ----------
    times : list of HealingTime
        One for each run; runs that differ in their seeds are points of their own.
    confidence : float
        Probability of the intervals.

    Returns
    -------
    list of dict
        `law`; `size_A` or `temperature_K` where it holds at one; `runs`, `healed`; and either `parameters` (value,
        error, low, high by name) with `confidence`, `scatter` and `bounds_violated`, or `cause`.
    """
    found = []
    for size in _groups(time.size_A for time in times):
        here = [time for time in times if _is_same(time.size_A, size)]
        if len(_groups(time.temperature_K for time in here)) > 1:
            found.append({'law': 'Arrhenius', 'size_A': size, **_fitted(_arrhenius, here, confidence)})
    for temperature in _groups(time.temperature_K for time in times):
        here = [time for time in times if _is_same(time.temperature_K, temperature)]
        if len(_groups(time.size_A for time in here)) > 1:
            found.append({'law': 'power law', 'temperature_K': temperature, **_fitted(_power_law, here, confidence)})
    if len(_groups(t.size_A for t in times)) > 1 and len(_groups(t.temperature_K for t in times)) > 1:
        found.append({'law': 'both', **_fitted(_both, times, confidence)})
    return found


def _is_same(one: float, other: float) -> bool:
    return abs(one - other) <= SAME * other


def _groups(values: Iterable[float]) -> list[float]:
    """The values that differ, in rising order, each the first of those that count as one."""
    found: list[float] = []
    for value in sorted(values):
        if not found or not _is_same(value, found[-1]):
            found.append(value)
    return found


def _columns(times: Sequence[HealingTime]) -> tuple[list[float], list[float], list[float], list[bool]]:
    return (
        [time.size_A for time in times],
        [time.temperature_K for time in times],
        [time.time_ps for time in times],
        [time.is_bound for time in times],
    )


def _arrhenius(times: Sequence[HealingTime], confidence: float) -> Fit:
    _, temperatures, durations, is_bound = _columns(times)
    # the rate of a run that had not healed is below that of its length
    rates = 1 / np.array(durations)
    return fit_arrhenius(temperatures, rates, is_bound=is_bound, bounds='upper', confidence=confidence)


def _power_law(times: Sequence[HealingTime], confidence: float) -> Fit:
    sizes, _, durations, is_bound = _columns(times)
    return fit_power_law(sizes, durations, is_bound=is_bound, bounds='lower', confidence=confidence)


def _both(times: Sequence[HealingTime], confidence: float) -> Fit:
    sizes, temperatures, durations, is_bound = _columns(times)
    return fit_healing_times(sizes, temperatures, durations, is_bound=is_bound, confidence=confidence)


#: Names that say what the amplitude of a law is, with its unit.
_AMPLITUDES = {_arrhenius: 'rate_at_infinite_temperature_per_ps', _power_law: 'time_at_1_A_ps'}


def _fitted(law: Any, times: Sequence[HealingTime], confidence: float) -> dict[str, Any]:
    counts = {'runs': len(times), 'healed': sum(not time.is_bound for time in times)}
    try:
        fit: Fit = law(times, confidence)
    except ValueError as error:
        return {**counts, 'cause': str(error)}
    parameters: dict[str, Estimate] = dict(fit.parameters)
    if 'amplitude' in parameters:
        parameters[_AMPLITUDES[law]] = parameters.pop('amplitude')
    return {
        **counts,
        'parameters': {name: asdict(estimate) for name, estimate in parameters.items()},
        'confidence': confidence,
        'scatter': fit.scatter,
        'bounds_violated': int(fit.n_bounds_violated),
    }
