"""What is matter and what is not: atoms in flight, and vacuum that makes a cell open."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from ovito.data import DataCollection
from ovito.modifiers import ClusterAnalysisModifier, ReplicateModifier


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


def ready_for_mesh(
    data: DataCollection,
    matter: NDArray,
    probe_radius_A: float,
) -> tuple[DataCollection, int]:
    """Put matter into a periodic cell that OVITO's surface mesh can take, and select it.

    Along each open direction the cell gets more vacuum than matter. OVITO (3.17, atoms near lattice sites) can take a
    void for exterior where some directions are periodic and some are not; in a periodic cell no side is special, and
    the exterior is the largest empty region. Cells too small for the probe are repeated.

    Parameters
    ----------
    data : DataCollection
        A frame, opened at vacuum; it is not changed.
    matter : (n,) bool
        Atoms that are not in flight.
    probe_radius_A : float
        Radius of the probe in Å.

    Returns
    -------
    DataCollection, int
        The atoms, their copies behind them, and the number of copies.
    """
    work = data.clone()
    work.particles_.create_property('Selection', data=matter.astype(np.int32))
    cell = np.array(data.cell[:, :3])
    origin = np.array(data.cell[:, 3])
    pbc = np.array(data.cell.pbc, dtype=bool)
    inverse = np.linalg.inv(cell)
    needed_A = 4 * probe_radius_A  # between opposite faces; the mesh fails at three radii
    reduced = (np.asarray(data.particles.positions)[matter] - origin) @ inverse.T
    for axis in np.flatnonzero(~pbc):
        low, high = reduced[:, axis].min(), reduced[:, axis].max()
        # as much vacuum as the matter and the old cell together, and never so little that the cell is repeated
        length = max(2 * (high - low) + 1.0, needed_A * np.linalg.norm(inverse[axis]))
        origin = origin + (low - length / 4) * cell[:, axis]
        cell[:, axis] *= length
    work.cell_[:, :3] = cell
    work.cell_[:, 3] = origin
    work.cell_.pbc = (True, True, True)
    copies = np.ceil(needed_A * np.linalg.norm(np.linalg.inv(cell), axis=1) - 1e-9).astype(int)
    if (copies > 1).any():
        work.apply(ReplicateModifier(num_x=int(copies[0]), num_y=int(copies[1]), num_z=int(copies[2])))
    return work, int(copies.prod())


def heights(data: DataCollection) -> NDArray:
    """Heights in Å along the normal of the first two cell vectors: (n,) float."""
    cell = np.array(data.cell[:, :3])
    normal = np.cross(cell[:, 0], cell[:, 1])
    return np.asarray(data.particles.positions) @ (normal / np.linalg.norm(normal))


def lateral_area_A2(data: DataCollection) -> float:  # noqa: N802
    """Area in Å^2 that the first two cell vectors span."""
    cell = np.array(data.cell[:, :3])
    return float(np.linalg.norm(np.cross(cell[:, 0], cell[:, 1])))
