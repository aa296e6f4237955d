"""When two dendrites touch, fuse and vanish in an even surface, frame by frame.

The paper (section 3, Figure 2a) tells of four states of two dendrites below two sources: they grow apart (300 ps),
encounter each other and leave a cavity between them (about 660 ps), the cavity disappears as they fuse to one larger
hemisphere (about 800 ps), which fuses with its periodic images to a smooth surface (about 2540 ps). It gives no measure
of them; these are ours:

* contact: from now on to the end, the atoms of both are of one cluster above the layers next to the substrate
  (`join_height_A` of `DendriteAnalysisSettings`), where islands lie;
* fused: from now on, the narrowest cross-section between their axes is at least `fused_share` of the smaller one of
  those at their axes. A cavity or a valley makes it small, so it tells that both are filled;
* met its image: from now on, what they have become meets itself through the side of the cell;
* flat: from now on, the roughness w is at most `flat_share` of its largest value before, or `flat_roughness_A`.

«To the end» needs frames for `stays_for_ps` after it; what happens later than that before the end is not told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dendrites import Dendrite, DendriteAnalysisSettings, column_tops_A, slice_widths
from .results import CONTACT_QUANTITIES
from .settings import ContactSettings


@dataclass(frozen=True)
class Partner:
    """One dendrite of the pair in the last frame in which they were apart; lengths in Å."""

    x_A: float
    y_A: float
    height_A: float
    bottom_A: float | None
    form: str
    atoms: int


@dataclass(frozen=True)
class ContactResult:
    """Times in ps of the states of a pair; None where one has not come, or too late to tell whether it stays.

    `touched_ps`: first time that both were of one cluster, be it that they came apart again. `pair`: both dendrites in
    the last frame in which they were apart; empty if there never was a pair.
    """

    pair: tuple[Partner, ...]
    touched_ps: float | None
    contact_ps: float | None
    fused_ps: float | None
    met_image_ps: float | None
    flat_ps: float | None

    def summary(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self) | {'pair': [asdict(partner) for partner in self.pair]}


class Contacts:
    """The two largest dendrites of a run, followed by their atoms until they are one, and what becomes of it.

    Atoms may come and go from frame to frame. Memory holds six numbers a frame and the identifiers of the pair's
    atoms.

    Parameters
    ----------
    settings : ContactSettings, optional
        The defaults if not given.
    dendrites : DendriteAnalysisSettings, optional
        Those that the dendrites were found with.
    """

    def __init__(
        self, settings: ContactSettings | None = None, dendrites: DendriteAnalysisSettings | None = None
    ) -> None:
        self.settings = settings or ContactSettings()
        self.dendrites = dendrites or DendriteAnalysisSettings()
        self._times: list[float] = []
        self._joined: list[bool] = []
        self._necks: list[float] = []
        self._gaps_A: list[float] = []
        self._necks_A: list[float] = []
        self._meets: list[bool] = []
        self._roughness: list[float] = []
        # of the last frame in which the two were apart
        self._partners: tuple[Partner, ...] = ()
        self._atoms: tuple[NDArray, ...] = ()

    def add(
        self,
        time_ps: float,
        ids: NDArray,
        positions_A: NDArray,
        cell_A: NDArray,
        pbc: NDArray | Sequence[bool],
        matter: NDArray,
        found: Sequence[Dendrite],
    ) -> None:
        """Add the next frame.

        Parameters
        ----------
        time_ps : float
            Its time in ps, later than that of the frame before.
        ids : (n,) int
            Identifiers of the atoms.
        positions_A, cell_A, pbc, matter
            As `find_dendrites` got them.
        found : sequence of Dendrite
            What `find_dendrites` gave for them.

        Raises
        ------
        ValueError
            If the time does not rise.
        """
        if self._times and time_ps <= self._times[-1]:
            raise ValueError(f'time {time_ps} ps after {self._times[-1]} ps: frames must come in the order of time')
        lengths = np.diagonal(cell_A)
        holders = [_holder(atoms, ids, found) for atoms in self._atoms]
        joined, neck, neck_A, gap_A = False, math.nan, math.nan, math.nan
        if holders and holders[0] == holders[1]:
            # both in one dendrite; or in none, after they were one: they have gone into a film
            joined = holders[0] is not None or self._joined[-1]
            neck = 1.0 if joined else math.nan
            gap_A = 0.0 if joined else math.nan
            if holders[0] is not None:
                neck, neck_A = self._neck(positions_A, lengths, pbc, found[holders[0]])
        if not joined:
            tall = [d for d in found if d.height_A >= self.settings.pair_min_height_A and not d.spans_cell]
            if len(tall) >= 2:
                pair = sorted(tall[:2], key=lambda dendrite: _place(dendrite, lengths)[0])
                self._partners = tuple(_partner(dendrite, lengths) for dendrite in pair)
                self._atoms = tuple(ids[dendrite.members] for dendrite in pair)
                gap_A = _gap_A(pair[0], pair[1], lengths, pbc)
        self._times.append(time_ps)
        self._joined.append(joined)
        self._necks.append(neck)
        self._gaps_A.append(gap_A)
        self._necks_A.append(neck_A)
        self._meets.append(bool(found and found[0].spans_cell))
        tops = column_tops_A(positions_A[matter], lengths, self.dendrites)
        self._roughness.append(float(tops.std()))

    def arrays(self) -> dict[str, NDArray]:
        """By frame, as in `CONTACT_QUANTITIES`: (n_frames,) each."""
        columns = (self._joined, self._necks, self._meets, self._roughness, self._gaps_A, self._necks_A)
        return {name: np.array(column, float) for name, column in zip(CONTACT_QUANTITIES, columns, strict=True)}

    def result(self) -> ContactResult:
        """When what happened."""
        settings, times = self.settings, np.array(self._times)
        joined, roughness = np.array(self._joined, dtype=bool), np.array(self._roughness)
        fused = joined & (np.array(self._necks) >= settings.fused_share)
        # what met its image and went into a film after that has not come apart from it
        meets = np.logical_or.accumulate(np.array(self._meets, dtype=bool)) & joined
        roughest = np.maximum.accumulate(roughness) if len(roughness) else roughness
        flat = joined & (roughness <= np.maximum(settings.flat_share * roughest, settings.flat_roughness_A))
        return ContactResult(
            pair=self._partners,
            touched_ps=float(times[np.argmax(joined)]) if joined.any() else None,
            contact_ps=stays_from_ps(times, joined, settings.stays_for_ps),
            fused_ps=stays_from_ps(times, fused, settings.stays_for_ps),
            met_image_ps=stays_from_ps(times, meets, settings.stays_for_ps),
            flat_ps=stays_from_ps(times, flat, settings.stays_for_ps),
        )

    def _neck(
        self, positions_A: NDArray, lengths: NDArray, pbc: NDArray | Sequence[bool], body: Dendrite
    ) -> tuple[float, float]:
        """Narrowest cross-section between the axes of the pair by the smaller one at an axis, and itself in Å.

        Dendrites in a periodic cell can meet on either side of each other: the wider neck counts.
        """
        one, other = self._partners
        apart = np.array([other.x_A - one.x_A, 0.0 if body.is_quasi_2d else other.y_A - one.y_A])
        periods = np.where(np.asarray(pbc)[:2], lengths[:2], np.inf)
        near = apart - np.where(np.isfinite(periods), np.round(apart / periods) * lengths[:2], 0.0)
        ways = [near]
        axis = int(np.argmax(np.abs(near)))
        if np.isfinite(periods[axis]):
            way = near.copy()
            way[axis] -= math.copysign(periods[axis], near[axis])
            ways.append(way)
        points = positions_A[body.members]
        return max(self._along(points, np.array([one.x_A, one.y_A]), way, lengths, pbc, body) for way in ways)

    def _along(
        self,
        points: NDArray,
        start: NDArray,
        way: NDArray,
        lengths: NDArray,
        pbc: NDArray | Sequence[bool],
        body: Dendrite,
    ) -> tuple[float, float]:
        """The same along one way (2,) in Å from one axis to the other."""
        distance = float(np.linalg.norm(way))
        step = self.dendrites.slice_A
        n = max(2, round(distance / step))
        along = way / distance
        offsets = points[:, :2] - (start + way / 2)
        for axis in range(2):
            if pbc[axis]:
                offsets[:, axis] -= np.round(offsets[:, axis] / lengths[axis]) * lengths[axis]
        # slice 0 lies around one axis, slice n around the other
        slices = np.round((offsets @ along / distance + 0.5) * n).astype(int)
        inside = (slices >= 0) & (slices <= n)
        across = points[inside, 2:]
        if not body.is_quasi_2d:
            across = np.column_stack((offsets[inside] @ np.array([-along[1], along[0]]), across))
        sizes, _ = slice_widths(
            across, slices[inside], n + 1, np.ones(across.shape[1]), np.zeros(across.shape[1], bool), self.dendrites
        )
        at_axes, narrowest = min(sizes[0], sizes[n]), float(sizes[1:n].min())
        return (narrowest / float(at_axes) if at_axes > 0 else 0.0), narrowest


def stays_from_ps(times_ps: NDArray, holds: NDArray, for_ps: float) -> float | None:
    """First time from which something holds in all frames to the end.

    Parameters
    ----------
    times_ps, holds : (n,) float and bool
        Times in ps and whether it holds.
    for_ps : float
        Time in ps to the end that is needed to say that it stays so.

    Returns
    -------
    float or None
        None if it does not hold at the end, or has begun too late to tell.
    """
    fails = np.flatnonzero(~holds)
    first = int(fails[-1]) + 1 if len(fails) else 0
    if first >= len(times_ps) or times_ps[-1] - times_ps[first] < for_ps:
        return None
    return float(times_ps[first])


def _holder(atoms: NDArray, ids: NDArray, found: Sequence[Dendrite]) -> int | None:
    """The dendrite that has more than half of these atoms; None if none has."""
    for number, dendrite in enumerate(found):
        if 2 * np.isin(atoms, ids[dendrite.members]).sum() > len(atoms):
            return number
    return None


def _gap_A(one: Dendrite, other: Dendrite, lengths: NDArray, pbc: NDArray | Sequence[bool]) -> float:  # noqa: N802
    """Narrowest distance in Å between the outlines of two dendrites, slice by slice of one height; 0 if they overlap.

    Outlines are as wide as the slices' widths W about their centres.
    """
    n = min(len(one.widths_A), len(other.widths_A))
    apart = other.centres_A[:n] - one.centres_A[:n]
    periodic = np.asarray(pbc)[:2]
    apart -= np.where(periodic, np.round(apart / lengths[:2]) * lengths[:2], 0.0)
    if one.is_quasi_2d:
        apart[:, 1] = 0.0
    free = np.linalg.norm(apart, axis=1) - (one.widths_A[:n] + other.widths_A[:n]) / 2
    return float(max(0.0, np.nanmin(free))) if np.isfinite(free).any() else math.nan


def _place(dendrite: Dendrite, lengths: NDArray) -> NDArray:
    """Mean x and y (2,) of a dendrite in Å, in the cell."""
    return np.nanmean(dendrite.centres_A, axis=0) % lengths[:2]


def _partner(dendrite: Dendrite, lengths: NDArray) -> Partner:
    x, y = _place(dendrite, lengths)
    return Partner(float(x), float(y), dendrite.height_A, dendrite.bottom_A, dendrite.shape.form, len(dendrite.members))
