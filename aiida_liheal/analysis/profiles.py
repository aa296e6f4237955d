"""Temperature and density in slices along the height, and the height of a film."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from ovito.data import DataCollection

from .vacuum import heights, lateral_area_A2

# CODATA 2018, exact but for the atomic mass constant
_U_KG = 1.66053906660e-27
_E_C = 1.602176634e-19
#: Boltzmann constant in eV/K.
BOLTZMANN_EV_PER_K = 1.380649e-23 / _E_C
#: 1 u (Å/ps)^2 in eV.
U_A2_PER_PS2_IN_EV = _U_KG * 1e4 / _E_C
#: 1 u/Å^3 in g/cm^3.
U_PER_A3_IN_G_PER_CM3 = _U_KG * 1e3 * 1e24


def _thermal_energies(
    velocities: NDArray,
    mass_u: float,
    slices: NDArray,
    n_slices: int,
) -> tuple[NDArray, NDArray]:
    """Kinetic energy in eV relative to the slice's own motion, and degrees of freedom, by slice: (n_slices,) each."""
    counts = np.bincount(slices, minlength=n_slices)
    squares = np.bincount(slices, weights=np.einsum('ij,ij->i', velocities, velocities), minlength=n_slices)
    sums = np.stack([np.bincount(slices, weights=v, minlength=n_slices) for v in velocities.T], axis=1)
    own = np.einsum('ij,ij->i', sums, sums) / np.maximum(counts, 1)
    kinetic = 0.5 * mass_u * U_A2_PER_PS2_IN_EV * (squares - own)
    return kinetic, 3.0 * np.maximum(counts - 1, 0)


def _temperature_K(kinetic_eV: NDArray, freedoms: NDArray) -> NDArray:  # noqa: N802
    """T = 2 E_kin / (k n), not a number without a degree of freedom."""
    n = np.where(freedoms > 0, freedoms, np.nan)
    return 2.0 * kinetic_eV / (BOLTZMANN_EV_PER_K * n)


def temperature_K(velocities: NDArray, mass_u: float) -> float:  # noqa: N802
    """Temperature in K of some atoms without their common motion, which takes three degrees of freedom.

    Parameters
    ----------
    velocities : (n, 3) float
        Velocities in Å/ps.
    mass_u : float
        Mass of an atom in u.
    """
    kinetic, freedoms = _thermal_energies(velocities, mass_u, np.zeros(len(velocities), np.int64), 1)
    return float(_temperature_K(kinetic, freedoms)[0])


def film_height_A(data: DataCollection, matter: NDArray, step_A: float) -> float:  # noqa: N802
    """Mean height of the topmost atoms in Å above the lowest atom, over columns of about `step_A` Å edge.

    Parameters
    ----------
    data : DataCollection
        A frame, opened at vacuum. Not a number if it has no surface along its third vector.
    matter : (n,) bool
        Atoms that are not in flight.
    step_A : float
        Edge of the columns in Å; one lattice constant holds an atom of each (100) layer.
    """
    if data.cell.pbc[2]:
        return float('nan')
    cell = np.array(data.cell[:, :3])
    n_columns = np.maximum(1, np.round(np.linalg.norm(cell[:, :2], axis=0) / step_A).astype(int))
    reduced = (np.asarray(data.particles.positions)[matter] - np.array(data.cell[:, 3])) @ np.linalg.inv(cell).T
    column = np.floor(reduced[:, :2] * n_columns).astype(int) % n_columns
    z = heights(data)[matter]
    tops = np.full(n_columns, -np.inf)
    np.maximum.at(tops, (column[:, 0], column[:, 1]), z)
    return float(tops[np.isfinite(tops)].mean() - z.min())


@dataclass
class HeightProfile:
    """Sums over frames for profiles along the height; slices have fixed heights, multiples of `bin_A` in Å.

    Parameters
    ----------
    bin_A : float
        Thickness of a slice in Å.
    mass_u : float
        Mass of an atom in u.
    """

    bin_A: float
    mass_u: float
    n_frames: int = 0
    _first: int = 0
    _sums: NDArray = field(default_factory=lambda: np.zeros((4, 0)))

    def add(
        self,
        data: DataCollection,
        matter: NDArray,
        velocities: NDArray | None = None,
        mobile: NDArray | None = None,
    ) -> None:
        """Add a frame.

        Parameters
        ----------
        data : DataCollection
            A frame, opened at vacuum.
        matter : (n,) bool
            Atoms that are not in flight: they count for the density.
        velocities : (n, 3) float, optional
            Velocities in Å/ps.
        mobile : (n,) bool, optional
            Atoms that count for the temperature; all of `matter` if not given.
        """
        slices = np.floor(heights(data) / self.bin_A).astype(np.int64)
        self._cover(int(slices[matter].min()), int(slices[matter].max()))
        slices = slices - self._first
        n = self._sums.shape[1]
        counts = np.bincount(slices[matter], minlength=n)
        self._sums[0] += counts
        self._sums[1] += counts / (lateral_area_A2(data) * self.bin_A)
        if velocities is not None:
            moving = matter if mobile is None else matter & mobile
            self._sums[2:] += _thermal_energies(velocities[moving], self.mass_u, slices[moving], n)
        self.n_frames += 1

    def _cover(self, first: int, last: int) -> None:
        if self._sums.shape[1] == 0:
            self._first, self._sums = first, np.zeros((4, last - first + 1))
            return
        before = max(0, self._first - first)
        after = max(0, last - (self._first + self._sums.shape[1] - 1))
        self._sums = np.pad(self._sums, ((0, 0), (before, after)))
        self._first -= before

    def arrays(self) -> dict[str, NDArray]:
        """Means over the frames, one entry a slice.

        `height_A` (the middle of the slice), `atoms`, `density_g_per_cm3` and, if velocities were given,
        `temperature_K`; that is not a number where fewer than two atoms moved. A cell without vacuum fills its
        lowest and highest slice in part only.
        """
        counts, densities, kinetic, freedoms = self._sums
        profiles = {
            'height_A': (self._first + np.arange(len(counts)) + 0.5) * self.bin_A,
            'atoms': counts / self.n_frames,
            'density_g_per_cm3': densities / self.n_frames * self.mass_u * U_PER_A3_IN_G_PER_CM3,
        }
        if freedoms.any():
            profiles['temperature_K'] = _temperature_K(kinetic, freedoms)
        return profiles
