"""Which of two phases grows, and the search for the temperature at which neither does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal['freezes', 'melts', 'undecided']

#: Blocks of time by whose means a drift is told from noise.
BLOCKS = 5


def judge(
    times_ps: NDArray, solid_share: NDArray, molten_below: float, frozen_above: float, least_change: float
) -> dict[str, Any]:
    """Whether a coexistence run froze, melted, or cannot be told.

    A phase that is gone decides. If both are left, the drift does: a line through the means of five blocks of time has
    to change by `least_change` or more, and by more than twice its standard error. The first block is left out, in
    which the interfaces and the cell come to rest.

    Parameters
    ----------
    times_ps : (n,) float
        Times of the coexistence.
    solid_share : (n,) float
        Share of solid atoms.
    molten_below, frozen_above : float
        Shares at which one phase is gone.
    least_change : float
        Smallest drift of the share over the run that counts.

    Returns
    -------
    dict
        `verdict`, `start` and `end` (shares), `change` and `change_error` of the line over the run, None if it is too
        short for one, `by`: `phase` or `drift`.
    """
    told: dict[str, Any] = {'verdict': 'undecided', 'by': None, 'change': None, 'change_error': None}
    if not len(times_ps):
        return {**told, 'start': None, 'end': None}
    told |= {'start': float(solid_share[0]), 'end': float(solid_share[-1])}
    if solid_share[-1] > frozen_above or solid_share[-1] < molten_below:
        return {**told, 'verdict': 'freezes' if solid_share[-1] > frozen_above else 'melts', 'by': 'phase'}
    if len(times_ps) < 2 * BLOCKS:
        return told
    blocks = [np.array_split(values, BLOCKS)[1:] for values in (times_ps, solid_share)]
    t, y = (np.array([block.mean() for block in part]) for part in blocks)
    centred = t - t.mean()
    slope = float(centred @ y / (centred @ centred))
    rest = y - y.mean() - slope * centred
    length = float(times_ps[-1] - times_ps[0])
    change = slope * length
    error = float(np.sqrt(rest @ rest / (len(t) - 2) / (centred @ centred))) * length
    told |= {'change': change, 'change_error': error}
    if abs(change) >= least_change and abs(change) > 2 * error:
        return {**told, 'verdict': 'freezes' if change > 0 else 'melts', 'by': 'drift'}
    return told


@dataclass(frozen=True)
class Bracket:
    """Temperatures in K between which the melting point lies; None where no run has shown the limit yet.

    `undecided_K` are those within, at which the runs do not agree. `is_consistent` is false if a run melted below
    another that froze: noise is then larger than the distance of the temperatures.
    """

    low_K: float | None
    high_K: float | None
    undecided_K: tuple[float, ...] = ()
    is_consistent: bool = True

    @property
    def width_K(self) -> float:  # noqa: N802 (the unit)
        """Width in K; infinite while a limit is missing."""
        if self.low_K is None or self.high_K is None:
            return float('inf')
        return self.high_K - self.low_K


def majority(verdicts: Sequence[Verdict]) -> Verdict:
    """What more of the runs at one temperature did; undecided if as many froze as melted."""
    balance = sum({'freezes': 1, 'melts': -1, 'undecided': 0}[verdict] for verdict in verdicts)
    return 'freezes' if balance > 0 else 'melts' if balance < 0 else 'undecided'


def bracket(runs: Sequence[tuple[float, Verdict]]) -> Bracket:
    """The bracket that runs (temperature in K, verdict) leave.

    If some melt below others that freeze, the limits are drawn back behind all of these: the lower one below the
    first that melts, the upper one above the last that freezes.
    """
    by_temperature: dict[float, list[Verdict]] = {}
    for temperature, verdict in runs:
        by_temperature.setdefault(temperature, []).append(verdict)
    told = {temperature: majority(verdicts) for temperature, verdicts in sorted(by_temperature.items())}
    froze = [temperature for temperature, verdict in told.items() if verdict == 'freezes']
    melted = [temperature for temperature, verdict in told.items() if verdict == 'melts']
    is_consistent = not (froze and melted and max(froze) > min(melted))
    low = max((t for t in froze if not melted or t < min(melted)), default=None)
    high = min((t for t in melted if not froze or t > max(froze)), default=None)
    inside = tuple(t for t in told if (low is None or t > low) and (high is None or t < high))
    return Bracket(low, high, inside, is_consistent)


def next_temperatures(found: Bracket, n: int, widest_step_K: float, finest_K: float) -> list[float]:
    """Temperatures in K of the next runs.

    Parameters
    ----------
    found : Bracket
        What is known.
    n : int
        Temperatures a round, at most, inside a bracket.
    widest_step_K : float
        How far to go beyond the temperatures that were tried, while a limit is missing.
    finest_K : float
        Temperatures nearer to each other than this are not told apart: rather the ones that are undecided are run
        again, with other seeds.

    Returns
    -------
    list of float
        Rising.
    """
    if found.low_K is None or found.high_K is None:
        known = [t for t in (found.low_K, *found.undecided_K, found.high_K) if t is not None]
        up, down = max(known) + widest_step_K, min(known) - widest_step_K
        beyond = ([up] if found.high_K is None else []) + ([down] if found.low_K is None else [])
        return sorted(t for t in beyond if t > 0)
    edges = [found.low_K, *found.undecided_K, found.high_K]
    # the widest gap first, cut in the middle, and so on
    new: list[float] = []
    while len(new) < n:
        gaps = np.diff(sorted(edges + new))
        widest = int(np.argmax(gaps))
        if gaps[widest] < 2 * finest_K:
            break
        new.append(float(sorted(edges + new)[widest] + gaps[widest] / 2))
    return sorted(new) if new else list(found.undecided_K)
