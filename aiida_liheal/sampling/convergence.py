"""What a round of learning came to, and so whether there is another."""

from __future__ import annotations

from enum import Enum
from typing import Self

from pydantic import Field, model_validator

from aiida_liheal.sampling.trust import Trust, TrustCounts
from aiida_liheal.structures.settings import Settings


class RoundOutcome(Enum):
    """Outcome of one round: only `GO_ON` leads to another."""

    GO_ON = 'go on'
    CONVERGED = 'converged'
    LAST_ROUND = 'stopped at the last round'
    NOTHING_TO_CHOOSE = 'nothing left to choose'
    EXPLODED = 'exploration exploded'


class ConvergenceSettings(Settings):
    """When learning is done and when it is hopeless."""

    converged_accurate_share: float = Field(
        default=0.95, gt=0, le=1, description='converged if at least this share of the frames is accurate, 0 to 1'
    )
    converged_failed_share: float = Field(
        default=0.01, ge=0, le=1, description='and at most this share failed or was never reached, 0 to 1'
    )
    exploded_failed_share: float = Field(
        default=0.7, gt=0, le=1, description='exploded if more than this share failed or was never reached, 0 to 1'
    )

    @model_validator(mode='after')
    def _ordered(self) -> Self:
        if self.converged_failed_share > self.exploded_failed_share:
            raise ValueError(
                f'converged_failed_share = {self.converged_failed_share}: must not be greater than '
                f'exploded_failed_share = {self.exploded_failed_share}'
            )
        return self


def judge_round(counts: TrustCounts, n_done: int, n_rounds: int, settings: ConvergenceSettings) -> RoundOutcome:
    """The outcome of the round that was just explored, by the first rule that holds.

    1. More than `exploded_failed_share` failed, or there is no frame at all: exploded.
    2. At least `converged_accurate_share` accurate and at most `converged_failed_share` failed: converged.
    3. No candidate: nothing left to choose. Known and lost frames, and none between them that could teach.
    4. This was round `n_rounds`: the last one.
    5. Else go on.

    Parameters
    ----------
    counts : TrustCounts
        Frames of this round's exploration by trust.
    n_done : int
        Rounds done, this one included: 1 or more.
    n_rounds : int
        Most rounds to do.
    settings : ConvergenceSettings
        The shares.

    Raises
    ------
    ValueError
        If the numbers of rounds make no sense.
    """
    if n_rounds < 1 or n_done < 1:
        raise ValueError(f'n_done = {n_done}, n_rounds = {n_rounds}: both must be 1 or more')
    failed = counts.share(Trust.FAILED)
    if counts.total == 0 or failed > settings.exploded_failed_share:
        return RoundOutcome.EXPLODED
    accurate = counts.share(Trust.ACCURATE)
    if accurate >= settings.converged_accurate_share and failed <= settings.converged_failed_share:
        return RoundOutcome.CONVERGED
    if counts.candidate == 0:
        return RoundOutcome.NOTHING_TO_CHOOSE
    return RoundOutcome.LAST_ROUND if n_done >= n_rounds else RoundOutcome.GO_ON
