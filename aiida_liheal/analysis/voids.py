"""Voids: their volume and number by an alpha shape, and when they have healed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ovito.data import DataCollection
from ovito.modifiers import ConstructSurfaceModifier

from .vacuum import ready_for_mesh


@dataclass(frozen=True)
class Voids:
    """Total volume in Å^3 and number of the empty regions that matter encloses on all sides."""

    volume_A3: float
    regions: int


def measure_voids(data: DataCollection, matter: NDArray, probe_radius_A: float) -> Voids:
    """Measure internal voids with OVITO's surface mesh (alpha shape; Stukowski, JOM 66, 399, 2014).

    The volume is the one between the centres of the atoms around a void. It reads high: for cubes cut out of a bcc
    crystal the edge of the volume is longer than the edge of the atoms taken out, by up to half a lattice constant.
    A single vacancy just shows with a probe of 3.0 Å. The vacuum along
    open directions is no void: open the cell at its vacuum first.

    Parameters
    ----------
    data : DataCollection
        A frame, opened at vacuum; it is not changed.
    matter : (n,) bool
        Atoms that are not in flight; the others neither fill nor close a void.
    probe_radius_A : float
        Radius of the probe in Å.
    """
    is_open = not all(data.cell.pbc)
    work, copies = ready_for_mesh(data, matter, probe_radius_A)
    work.apply(
        ConstructSurfaceModifier(
            method=ConstructSurfaceModifier.Method.AlphaShape,
            radius=probe_radius_A,
            only_selected=True,
            identify_regions=True,
            smoothing_level=0,  # the volume comes from the tessellation; smoothing changes the mesh for pictures only
        )
    )
    regions = work.surfaces['surface'].regions
    empty = np.sort(np.asarray(regions['Volume'])[np.asarray(regions['Filled']) == 0])
    voids = empty[:-1] if is_open else empty
    return Voids(volume_A3=float(voids.sum()) / copies, regions=-(-len(voids) // copies))


def healed_at_ps(
    times_ps: NDArray,
    volumes_A3: NDArray,
    atomic_volume_A3: float,
    healed_for_ps: float,
) -> float | None:
    """When the voids of a run had healed: the volume is below one atomic volume and stays so.

    Parameters
    ----------
    times_ps, volumes_A3 : (n,) float
        Times and void volumes of the frames.
    atomic_volume_A3 : float
        Volume of an atom in Å^3.
    healed_for_ps : float
        Time in ps from healing to the end of the run that is needed to say that it stays so.

    Returns
    -------
    float or None
        Time in ps; None if there is a void at the end, the void has closed too late to tell, or there never was one.
    """
    with_void = np.flatnonzero(volumes_A3 >= atomic_volume_A3)
    if not with_void.size or with_void[-1] + 1 == len(times_ps):
        return None
    healed = float(times_ps[with_void[-1] + 1])
    return healed if times_ps[-1] - healed >= healed_for_ps else None
