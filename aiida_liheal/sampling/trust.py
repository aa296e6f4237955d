"""Trust levels on the committee's force deviation: which frames it knows, which teach it, which are lost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from aiida_liheal.structures.settings import Settings


class Trust(IntEnum):
    """What the committee's deviation says about a frame."""

    ACCURATE = 0
    CANDIDATE = 1
    FAILED = 2


class TrustLevels(Settings):
    """Bounds on the largest force deviation in a frame.

    The defaults are those of the published settings for metals (Zhang et al., Phys. Rev. Materials 3, 023804, 2019).
    """

    lower_eV_per_A: float = Field(
        default=0.05, gt=0, description='up to this deviation a frame is known already, in eV/Å (max_devi_f)'
    )
    upper_eV_per_A: float = Field(
        default=0.20,
        gt=0,
        description='from this deviation on a frame is too far off to be labelled, in eV/Å (max_devi_f)',
    )

    @model_validator(mode='after')
    def _ordered(self) -> Self:
        if not self.lower_eV_per_A < self.upper_eV_per_A:
            raise ValueError(
                f'lower_eV_per_A = {self.lower_eV_per_A} eV/Å: must be smaller than '
                f'upper_eV_per_A = {self.upper_eV_per_A} eV/Å'
            )
        return self


@dataclass(frozen=True)
class TrustCounts:
    """Frames by trust; `missing` are frames that runs which broke off did not reach, and count as failed."""

    accurate: int
    candidate: int
    failed: int
    missing: int = 0

    @property
    def total(self) -> int:
        """All frames that were asked for."""
        return self.accurate + self.candidate + self.failed + self.missing

    def share(self, trust: Trust) -> float:
        """Share of the frames with this trust, 0 to 1; of no frames at all, everything is failed."""
        if self.total == 0:
            return float(trust is Trust.FAILED)
        by_trust = {
            Trust.ACCURATE: self.accurate,
            Trust.CANDIDATE: self.candidate,
            Trust.FAILED: self.failed + self.missing,
        }
        return by_trust[trust] / self.total


def classify(max_devi_f: ArrayLike, levels: TrustLevels) -> NDArray[np.int8]:
    """`Trust` of each frame: accurate up to and with the lower level, candidate below the upper one, else failed.

    Parameters
    ----------
    max_devi_f : (n_frames,) float
        Largest deviation of the force on an atom over the committee in eV/Å. NaN, left by a run that blew up, is
        failed.
    levels : TrustLevels
        The bounds.

    Returns
    -------
    (n_frames,) int8
        Values of `Trust`.
    """
    deviation = np.asarray(max_devi_f, dtype=float)
    trust = np.full(deviation.shape, Trust.FAILED, dtype=np.int8)
    trust[deviation < levels.upper_eV_per_A] = Trust.CANDIDATE
    trust[deviation <= levels.lower_eV_per_A] = Trust.ACCURATE
    return trust


def count(trust: ArrayLike, missing: int = 0) -> TrustCounts:
    """Frames by trust."""
    accurate, candidate, failed = np.bincount(np.asarray(trust, dtype=int), minlength=3).tolist()
    return TrustCounts(accurate, candidate, failed, missing)
