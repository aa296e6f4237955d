"""Which candidates are labelled: at most so many, by seed, shared out over the runs they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiida_liheal.sampling.trust import Trust


@dataclass(frozen=True)
class Selection:
    """Frames chosen for labelling.

    Parameters
    ----------
    runs : (n_chosen,) int
        Run of each chosen frame.
    indices : (n_chosen,) int
        Frame within its run; sorted by run, then frame.
    n_candidates : int
        Candidates there were.
    """

    runs: NDArray[np.int64]
    indices: NDArray[np.int64]
    n_candidates: int

    @property
    def n_chosen(self) -> int:
        """Frames that will be labelled."""
        return len(self.indices)

    @property
    def n_dropped(self) -> int:
        """Candidates left out because there were more than asked for."""
        return self.n_candidates - self.n_chosen


def select_candidates(trust_by_run: Sequence[NDArray], n_max: int, seed: int) -> Selection:
    """Choose at most `n_max` candidates at random, one from each run in turn.

    A run that wandered off has many candidates that look alike; taking turns keeps it from filling the batch.

    Parameters
    ----------
    trust_by_run : sequence of (n_frames,) int
        `Trust` of the frames of each run.
    n_max : int
        Most frames to choose.
    seed : int
        The same arguments choose the same frames.

    Raises
    ------
    ValueError
        If `n_max` is negative.
    """
    if n_max < 0:
        raise ValueError(f'n_max = {n_max} frames: must be 0 or more')
    rng = np.random.default_rng(seed)
    turns: list[tuple[int, float, int, int]] = []
    for run, trust in enumerate(trust_by_run):
        candidates = rng.permutation(np.flatnonzero(np.asarray(trust) == Trust.CANDIDATE))
        # within a turn the runs come in random order, or the last turn would always favour the first runs
        turns += [(turn, rng.random(), run, int(frame)) for turn, frame in enumerate(candidates)]
    chosen = sorted((run, frame) for _, _, run, frame in sorted(turns)[:n_max])
    pairs = np.array(chosen, dtype=np.int64).reshape(-1, 2)
    return Selection(runs=pairs[:, 0], indices=pairs[:, 1], n_candidates=len(turns))
