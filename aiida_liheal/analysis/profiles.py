"""Temperature, density, energy and structure in slices along the height, and the height of a film."""

from __future__ import annotations

from collections.abc import Mapping
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


@dataclass(frozen=True)
class Slices:
    """Sums over the atoms of one frame in slices of fixed heights.

    Parameters
    ----------
    first : int
        Number of the lowest slice; slice i begins at i times its thickness.
    sums : dict of str to (n_slices,) float
        `atoms`, `density_per_A3`; with velocities `kinetic_eV` and `freedoms`; with energies `energy_eV`; and for each
        structure that atoms were said to be in, their number, under its name, such as `bcc_share`.
    """

    first: int
    sums: dict[str, NDArray]


def sum_slices(
    data: DataCollection,
    matter: NDArray,
    bin_A: float,
    mass_u: float,
    velocities: NDArray | None = None,
    mobile: NDArray | None = None,
    energies: NDArray | None = None,
    structures: Mapping[str, NDArray] | None = None,
) -> Slices:
    """Sum up a frame by height.

    Parameters
    ----------
    data : DataCollection
        A frame, opened at vacuum.
    matter : (n,) bool
        Atoms that are not in flight: they count for density, energies and shares.
    bin_A : float
        Thickness of a slice in Å.
    mass_u : float
        Mass of an atom in u.
    velocities : (n, 3) float, optional
        Velocities in Å/ps.
    mobile : (n,) bool, optional
        Atoms that count for the temperature; all of `matter` if not given.
    energies : (n,) float, optional
        Potential energies in eV.
    structures : mapping of str to (n,) bool, optional
        Atoms of each structure.
    """
    slices = np.floor(heights(data) / bin_A).astype(np.int64)
    first = int(slices[matter].min())
    n = int(slices[matter].max()) - first + 1
    slices -= first
    counts = np.bincount(slices[matter], minlength=n).astype(float)
    sums = {'atoms': counts, 'density_per_A3': counts / (lateral_area_A2(data) * bin_A)}
    if velocities is not None:
        moving = matter if mobile is None else matter & mobile
        kinetic, freedoms = _thermal_energies(velocities[moving], mass_u, slices[moving], n)
        sums |= {'kinetic_eV': kinetic, 'freedoms': freedoms}
    if energies is not None:
        sums['energy_eV'] = np.bincount(slices[matter], weights=energies[matter], minlength=n)
    for name, members in (structures or {}).items():
        sums[name] = np.bincount(slices[matter & members], minlength=n).astype(float)
    return Slices(first, sums)


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
    _sums: dict[str, NDArray] = field(default_factory=dict)

    def add(self, frame: Slices) -> None:
        """Add the sums of a frame by `sum_slices`, with the thickness of this profile."""
        before, after = 0, 0
        if self._sums:
            before = max(0, self._first - frame.first)
            n_old, n_new = (len(sums['atoms']) for sums in (self._sums, frame.sums))
            after = max(0, frame.first + n_new - self._first - n_old)
            self._sums = {name: np.pad(sums, (before, after)) for name, sums in self._sums.items()}
            self._first -= before
        else:
            self._first = frame.first
        for name, sums in frame.sums.items():
            total = self._sums.setdefault(name, np.zeros(len(self._sums.get('atoms', sums))))
            at = frame.first - self._first
            total[at : at + len(sums)] += sums
        self.n_frames += 1

    def arrays(self) -> dict[str, NDArray]:
        """Means over the frames, one entry a slice.

        `height_A` (the middle of the slice), `atoms`, `density_g_per_cm3`; with velocities `temperature_K`, which is
        not a number where fewer than two atoms moved; with energies `potential_energy_eV_per_atom`, and for each
        structure its share, as `bcc_share`: not a number where no atom was. A cell without vacuum fills its lowest and
        highest slice in part only.
        """
        sums = dict(self._sums)
        counts, densities = sums.pop('atoms'), sums.pop('density_per_A3')
        some = np.where(counts > 0, counts, np.nan)
        profiles = {
            'height_A': (self._first + np.arange(len(counts)) + 0.5) * self.bin_A,
            'atoms': counts / self.n_frames,
            'density_g_per_cm3': densities / self.n_frames * self.mass_u * U_PER_A3_IN_G_PER_CM3,
        }
        kinetic, freedoms = sums.pop('kinetic_eV', None), sums.pop('freedoms', None)
        if kinetic is not None and freedoms is not None and freedoms.any():
            profiles['temperature_K'] = _temperature_K(kinetic, freedoms)
        if 'energy_eV' in sums:
            profiles['potential_energy_eV_per_atom'] = sums.pop('energy_eV') / some
        profiles |= {name: members / some for name, members in sums.items()}
        return profiles
