"""Frames kept out of the training, by seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def split_holdout(n_frames: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices for training and for testing, both sorted.

    The number held out is `fraction * n_frames`, rounded; but at least 1 if the fraction is not 0 and there are 2
    frames or more, and never all of them: a single frame trains.

    Parameters
    ----------
    n_frames : int
        Frames to split.
    fraction : float
        Share to hold out, 0 up to but not including 1.
    seed : int
        The same arguments give the same split.

    Returns
    -------
    training : (n_training,) int
    holdout : (n_holdout,) int

    Raises
    ------
    ValueError
        If the fraction or the number of frames is out of range.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f'fraction = {fraction}: must be from 0 up to, not including, 1 (a share, no unit)')
    if n_frames < 0:
        raise ValueError(f'n_frames = {n_frames}: must be 0 or more')
    n_holdout = round(fraction * n_frames)
    if fraction > 0 and n_frames >= 2:
        n_holdout = max(1, n_holdout)
    n_holdout = max(0, min(n_holdout, n_frames - 1))
    order = np.random.default_rng(seed).permutation(n_frames).astype(np.int64)
    return np.sort(order[n_holdout:]), np.sort(order[:n_holdout])
