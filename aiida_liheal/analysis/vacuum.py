"""What is matter and what is not: atoms in flight, and vacuum that makes a cell open."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from ovito.data import DataCollection
from ovito.modifiers import ClusterAnalysisModifier


def atoms_in_flight(data: DataCollection, cutoff_A: float, cluster_share: float) -> NDArray:
    """Atoms that have not landed or have left: those in clusters much smaller than the largest one.

    The limit is relative because atoms in the vacuum can meet and travel on as clusters themselves.

    Parameters
    ----------
    data : DataCollection
        A frame; it is not changed.
    cutoff_A : float
        Atoms this close in Å are of one cluster.
    cluster_share : float
        Clusters with less than this share of the largest cluster's atoms are in flight.

    Returns
    -------
    (n,) bool
    """
    work = data.clone()
    work.apply(ClusterAnalysisModifier(cutoff=cutoff_A))
    clusters = np.asarray(work.particles['Cluster'])
    sizes = np.bincount(clusters)
    return (sizes < cluster_share * sizes.max())[clusters]


def open_at_vacuum(data: DataCollection, matter: NDArray, gap_A: float) -> DataCollection:
    """Open the cell along each periodic direction in which an empty layer crosses it.

    A slab in a cell that is periodic along its normal has vacuum around it, not a void in it. Positions are wrapped
    so that the slab is in one piece; a slab that does not cross the boundary stays where it is.

    Parameters
    ----------
    data : DataCollection
        A frame; it is not changed.
    matter : (n,) bool
        Atoms that make a layer not empty: those not in flight.
    gap_A : float
        Smallest thickness in Å of an empty layer that counts as vacuum.

    Returns
    -------
    DataCollection
        The same atoms; the cell is not periodic along directions with vacuum.
    """
    cell = np.array(data.cell[:, :3])
    origin = np.array(data.cell[:, 3])
    pbc = np.array(data.cell.pbc, dtype=bool)
    inverse = np.linalg.inv(cell)
    spacings = 1 / np.linalg.norm(inverse, axis=1)  # between opposite faces
    reduced = (np.asarray(data.particles.positions) - origin) @ inverse.T
    for axis in np.flatnonzero(pbc & (spacings > gap_A)):
        inside = np.sort(reduced[matter, axis] % 1.0)
        gaps = np.diff(inside, append=inside[0] + 1.0)
        widest = int(np.argmax(gaps))
        if gaps[widest] * spacings[axis] < gap_A:
            continue
        pbc[axis] = False
        middle = inside[widest] + gaps[widest] / 2
        # atoms end up between middle - 1 and middle: a slab below its vacuum keeps its place
        middle -= middle > 1.0
        reduced[:, axis] = middle - (middle - reduced[:, axis]) % 1.0
    work = data.clone()
    work.particles_.positions_[...] = origin + reduced @ cell.T
    work.cell_.pbc = (bool(pbc[0]), bool(pbc[1]), bool(pbc[2]))
    return work


def heights(data: DataCollection) -> NDArray:
    """Heights in Å along the normal of the first two cell vectors: (n,) float."""
    cell = np.array(data.cell[:, :3])
    normal = np.cross(cell[:, 0], cell[:, 1])
    return np.asarray(data.particles.positions) @ (normal / np.linalg.norm(normal))


def lateral_area_A2(data: DataCollection) -> float:  # noqa: N802
    """Area in Å^2 that the first two cell vectors span."""
    cell = np.array(data.cell[:, :3])
    return float(np.linalg.norm(np.cross(cell[:, 0], cell[:, 1])))
