"""Limits that a run must not pass, and where it passed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from aiida_liheal.lammps.settings import RunSettings
from aiida_liheal.structures.settings import Settings

_UNITS = {'max_temperature_K': 'K', 'max_lost_atoms': 'atoms', 'max_deviation_eV_per_A': 'eV/Å'}


class Limits(Settings):
    """What a run must not go beyond, and what is done with one that does.

    A temperature or an energy that is not a number is beyond any limit.
    """

    max_temperature_K: float | None = Field(
        default=None, gt=0, description='highest temperature of all atoms together, in K'
    )
    max_lost_atoms: int | None = Field(default=None, ge=0, description='most atoms that may leave the cell')
    max_deviation_eV_per_A: float | None = Field(
        default=None, gt=0, description='largest deviation of the force on an atom over the committee, in eV/Å'
    )
    action: Literal['stop', 'flag'] = Field(
        default='stop', description='stop: the job is ended early; flag: it runs on, and `results` say what it passed'
    )

    @model_validator(mode='after')
    def _some(self) -> Self:
        if all(getattr(self, name) is None for name in _UNITS):
            raise ValueError(f'no limit given; give one or more of {", ".join(_UNITS)}')
        return self

    def check(self, run: RunSettings, is_committee: bool) -> None:
        """Refuse limits that a run passes as a matter of course, or never can, with a ValueError that says why."""
        if self.max_temperature_K is not None:
            for key, value in run.model_dump().items():
                if key.endswith('temperature_K') and value is not None and value >= self.max_temperature_K:
                    raise ValueError(
                        f'max_temperature_K = {self.max_temperature_K} K: must be above {key} = {value} K of the run'
                    )
        if self.max_deviation_eV_per_A is not None and not is_committee:
            raise ValueError(
                f'max_deviation_eV_per_A = {self.max_deviation_eV_per_A} eV/Å: needs a committee of two deepmd '
                'potentials or more to deviate'
            )


@dataclass(frozen=True)
class Passed:
    """A limit that a run went beyond.

    Parameters
    ----------
    limit : str
        Name of the limit, a key of `Limits`.
    allowed : float
        The limit.
    step : int
        First step beyond it, of those that were written.
    value : float
        Value at this step.
    largest : float
        Largest value of the run; NaN if one is not a number.
    """

    limit: str
    allowed: float
    step: int
    value: float
    largest: float

    def __str__(self) -> str:
        return f'{self.limit}: {self.value:.6g} {_UNITS[self.limit]} at step {self.step}, allowed {self.allowed:g}'

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return dict(vars(self))


def passed(
    limits: Limits, thermo: Mapping[str, NDArray], deviations: Mapping[str, NDArray], n_start: int
) -> list[Passed]:
    """The limits that a run went beyond, the first one first.

    Parameters
    ----------
    limits : Limits
        The limits.
    thermo : mapping of str to (n_rows,) float
        Columns as LAMMPS calls them, from `readers.read_log`.
    deviations : mapping of str to (n_rows,) float
        Columns from `readers.read_model_devi`; empty if there is no committee.
    n_start : int
        Atoms at the very start of the run, before anything was inserted.
    """
    found = []
    steps = thermo.get('Step', np.zeros(0))
    # by the ids, as the deck counts them; a run that inserts nothing has no such column
    lost = n_start + thermo.get('v_inserted', 0.0) - thermo.get('Atoms', np.full(len(steps), float(n_start)))
    for limit, at, values in (
        ('max_temperature_K', steps, thermo.get('Temp', np.zeros(len(steps)))),
        ('max_lost_atoms', steps, lost),
        ('max_deviation_eV_per_A', deviations.get('step', np.zeros(0)), deviations.get('max_devi_f', np.zeros(0))),
    ):
        allowed = getattr(limits, limit)
        if allowed is None:
            continue
        # NaN is beyond: what is not within
        beyond = np.flatnonzero(~(values <= allowed))
        if len(beyond):
            first = beyond[0]
            found.append(Passed(limit, allowed, int(at[first]), float(values[first]), float(np.max(values))))
    return sorted(found, key=lambda one: one.step)
