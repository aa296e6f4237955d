"""What every LAMMPS run is told; the settings of each kind of run are in `kinds/`."""

from __future__ import annotations

from pydantic import Field

from aiida_liheal.structures.settings import Seed, Settings

# Steps between two checks of the wall clock and of which atoms are thermostatted.
CHECK_EVERY = 100


class RunSettings(Settings):
    """What every run has, MD or not."""

    seed: Seed = Field(description='of all random numbers of the run')
    timestep_fs: float = Field(default=1.0, gt=0, le=10, description='time step in fs')

    @property
    def n_steps(self) -> int:
        """Steps of the run; at most, where it may end before."""
        raise NotImplementedError

    @property
    def timestep_ps(self) -> float:
        """Time step in ps."""
        return self.timestep_fs / 1000


class MdSettings(RunSettings):
    """What every MD run has."""

    temperature_K: float = Field(default=300.0, gt=0, le=10_000, description='target temperature in K')
    duration_ps: float = Field(gt=0, le=1e6, description='length of the run in ps')
    damping_ps: float = Field(default=0.1, gt=0, le=1000, description='damping time of the Langevin thermostat in ps')
    thermo_every_ps: float = Field(default=0.1, gt=0, description='time between two lines of the log in ps')

    def steps(self, time_ps: float) -> int:
        """Whole steps nearest to a time in ps, at least 1."""
        return max(1, round(time_ps * 1000 / self.timestep_fs))

    @property
    def n_steps(self) -> int:
        """Steps of the run."""
        return self.steps(self.duration_ps)


class RestartableSettings(MdSettings):
    """A run that can be gone on with after an interruption."""

    restart_every_ps: float = Field(default=10.0, gt=0, description='time between two restart files in ps')


class TrajectorySettings(RestartableSettings):
    """A run that is looked at, too."""

    dump_every_ps: float = Field(default=1.0, gt=0, description='time between two frames of the trajectory in ps')
