"""What an exploration runs: structures x temperatures x pressures, as data, and the list of runs made of it."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from aiida_liheal.sampling.seeds import derive_seed
from aiida_liheal.structures.settings import Settings

__all__ = ('SystemStage', 'plan_runs')


class SystemStage(Settings):
    """How the structures of one system are explored: each at every temperature and every pressure."""

    temperatures_K: list[float] = Field(min_length=1, description='temperatures of the runs in K')
    pressures_bar: list[float] | None = Field(
        None, description='pressures of the runs in bar; null keeps the cells, as slabs with vacuum need'
    )
    duration_ps: float = Field(gt=0, description='length of each run in ps')
    every_ps: float = Field(gt=0, description='time between two frames, and two deviations, in ps')
    timestep_fs: float = Field(2.0, gt=0, le=10, description='time step in fs')
    damping_ps: float = Field(0.1, gt=0, description='damping time of the Langevin thermostat in ps')
    n_structures: int | None = Field(None, ge=1, description='how many structures to start from; all if not given')

    @model_validator(mode='after')
    def _allowed(self) -> Self:
        if min(self.temperatures_K) <= 0:
            raise ValueError(f'temperatures_K = {self.temperatures_K} K: each must be greater than 0')
        if self.pressures_bar is not None and not self.pressures_bar:
            raise ValueError('pressures_bar = []: give at least one pressure in bar, or null to keep the cells')
        if self.every_ps > self.duration_ps:
            raise ValueError(
                f'every_ps = {self.every_ps} ps: must not be longer than duration_ps = {self.duration_ps} ps'
            )
        return self


def plan_runs(stage: SystemStage, n_structures: int, seed: int) -> list[dict[str, Any]]:
    """The runs of one system, each with a seed of its own.

    Parameters
    ----------
    stage : SystemStage
        What is run.
    n_structures : int
        Structures there are; the first `stage.n_structures` of them are taken.
    seed : int
        Seed of the exploration of this system.

    Returns
    -------
    list of dict
        Settings of kind `explore` with `structure`, the index of the start.
    """
    number = min(n_structures, stage.n_structures or n_structures)
    runs: list[dict[str, Any]] = []
    pressures: list[float | None] = [None] if stage.pressures_bar is None else list(stage.pressures_bar)
    for structure in range(number):
        for temperature in stage.temperatures_K:
            for pressure in pressures:
                runs.append(
                    {
                        'structure': structure,
                        'temperature_K': temperature,
                        'pressure_bar': pressure,
                        'duration_ps': stage.duration_ps,
                        'every_ps': stage.every_ps,
                        'timestep_fs': stage.timestep_fs,
                        'damping_ps': stage.damping_ps,
                        'seed': derive_seed(seed, 'run', len(runs)),
                    }
                )
    return runs
