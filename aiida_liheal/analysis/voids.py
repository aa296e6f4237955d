"""Voids: their volumes and number by an alpha shape, and when they have healed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ovito.data import DataCollection, SurfaceMesh
from ovito.modifiers import ConstructSurfaceModifier

from .vacuum import ready_for_mesh


@dataclass(frozen=True)
class Voids:
    """The empty regions that matter encloses on all sides, and the surfaces of matter.

    Parameters
    ----------
    volumes_A3 : (n,) float
        Volumes of the voids in Å^3, the largest first.
    lining : (n_atoms,) bool
        Atoms that the surface mesh goes through around voids.
    outside : (n_atoms,) bool
        Atoms that it goes through at the outside.
    """

    volumes_A3: NDArray
    lining: NDArray
    outside: NDArray

    @property
    def volume_A3(self) -> float:  # noqa: N802
        """Total volume in Å^3."""
        return float(self.volumes_A3.sum())

    @property
    def regions(self) -> int:
        """Number of voids."""
        return len(self.volumes_A3)

    @property
    def surface(self) -> NDArray:
        """Atoms of all surfaces: (n_atoms,) bool."""
        return self.lining | self.outside


def measure_voids(data: DataCollection, matter: NDArray, probe_radius_A: float) -> Voids:
    """Measure internal voids with OVITO's surface mesh (alpha shape; Stukowski, JOM 66, 399, 2014).

    The volume is the one between the centres of the atoms around a void. It reads high: for cubes cut out of a bcc
    crystal the edge of the volume is longer than the edge of the atoms taken out, by up to half a lattice constant.
    A single vacancy just shows with a probe of 3.0 Å. The vacuum along open directions is no void: open the cell at its
    vacuum first.

    OVITO's own regions take four to six times as long as the mesh alone. The volumes are those that the closed parts of
    the mesh enclose; where the parts alone do not tell what is void, as with matter afloat in one, OVITO's regions do.
    Both agree to 1e-6, but that in one of fifty drawn crystals OVITO's regions (3.17) add up to more than the cell, by
    up to 0.5 % of the void.

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
    mesh = _mesh(work, probe_radius_A, regions=False)
    if not mesh.faces.count:
        nothing = np.zeros(data.particles.count, dtype=bool)
        return Voids(np.zeros(0), lining=nothing, outside=nothing)
    found = _by_parts(mesh, is_open)
    if found is None:
        mesh = _mesh(work, probe_radius_A, regions=True)
        found = _by_regions(mesh, is_open)
    volumes, around_voids, around_matter = found
    faces = np.asarray(mesh.get_face_vertices())
    atoms = np.asarray(mesh.vertices['Particle Index']) % data.particles.count
    masks = []
    for chosen in (around_voids, around_matter):
        mask = np.zeros(data.particles.count, dtype=bool)
        mask[atoms[faces[chosen].ravel()]] = True
        masks.append(mask)
    # copies of a void have the same volume
    return Voids(np.sort(volumes)[::-1][::copies], lining=masks[0], outside=masks[1])


def _mesh(work: DataCollection, probe_radius_A: float, regions: bool) -> SurfaceMesh:
    work = work.clone()
    work.apply(
        ConstructSurfaceModifier(
            method=ConstructSurfaceModifier.Method.AlphaShape,
            radius=probe_radius_A,
            only_selected=True,
            identify_regions=regions,
            smoothing_level=0,  # the volume comes from the tessellation; smoothing changes the mesh for pictures only
        )
    )
    return work.surfaces['surface']


def _by_regions(mesh: SurfaceMesh, is_open: bool) -> tuple[NDArray, NDArray, NDArray]:
    """Volumes of the voids by OVITO's regions, and the faces around voids and around all matter: (n_faces,) bool each.

    The largest empty region is the outside of an open cell. With regions OVITO's mesh has each face on both sides.
    """
    volumes = np.asarray(mesh.regions['Volume'])
    empty = np.flatnonzero(np.asarray(mesh.regions['Filled']) == 0)
    empty = empty[np.argsort(volumes[empty])]
    voids = empty[:-1] if is_open else empty
    facing = np.asarray(mesh.faces['Region'])
    return volumes[voids], np.isin(facing, voids), np.isin(facing, empty[-1:] if is_open else [])


def _by_parts(mesh: SurfaceMesh, is_open: bool) -> tuple[NDArray, NDArray, NDArray] | None:
    """The same by the connected parts of the mesh; None if they do not tell.

    A part that is closed up to repetition along at most one direction has a volume: the flux of F = k (k.x), k a unit
    vector across that direction, through it. It is that of a void where the normals point inward. Layers that repeat
    along two directions are the two sides of a slab.
    """
    faces = np.asarray(mesh.get_face_vertices())
    cell = np.array(mesh.domain[:, :3])  # type: ignore[index]
    positions = np.asarray(mesh.vertices['Position'])
    # to the next corner of each face: edges are shorter than two radii, cells are four wide
    ahead = positions[np.roll(faces, -1, axis=1)] - positions[faces]
    images = -np.round(ahead @ np.linalg.inv(cell).T).astype(np.int64)
    ahead = ahead + images @ cell.T
    parts, shifts, wraps = _connect(
        len(positions), faces.ravel(), np.roll(faces, -1, axis=1).ravel(), images.reshape(-1, 3)
    )
    part = parts[faces[:, 0]]
    normals = np.cross(ahead[:, 0], ahead[:, 1]) / 2
    centres = positions[faces[:, 0]] + shifts[faces[:, 0]] @ cell.T + (2 * ahead[:, 0] + ahead[:, 1]) / 3
    signed = {}
    layers = 0
    for number in np.unique(part).tolist():
        members = part == number
        along = wraps[number] @ cell.T if number in wraps else np.zeros((1, 3))
        rank = int(np.linalg.matrix_rank(along, tol=1e-3))
        if rank == 3:
            return None
        if rank == 2:
            layers += 1
            continue
        # the last right-hand singular vector lies across all of `along`
        across = np.linalg.svd(along)[2][-1]
        signed[number] = float((centres[members] @ across) @ (normals[members] @ across))
    outsides = 1 if is_open and not layers else 0
    if layers > (2 if is_open else 0) or sum(volume > 0 for volume in signed.values()) != outsides:
        return None
    voids = {number: -volume for number, volume in signed.items() if volume < 0}
    around_voids = np.isin(part, list(voids))
    return np.array(list(voids.values())), around_voids, ~around_voids


def _connect(n: int, first: NDArray, second: NDArray, images: NDArray) -> tuple[NDArray, NDArray, dict[int, NDArray]]:
    """Connected parts of a periodic graph, in which the edge `first[i]`-`second[i]` crosses `images[i]` cells.

    Returns
    -------
    (n,) int, (n, 3) int, dict of int to (m, 3) int
        The part that each vertex is in, the image of it that makes the part connected, and the ways, in cells, in
        which a part meets its own images.
    """
    parts = np.arange(n)
    shifts = np.zeros((n, 3), np.int64)
    while True:
        one, other = parts[first], parts[second]
        jumps = shifts[first] + images - shifts[second]
        apart = one != other
        if not apart.any():
            break
        one, other, jumps = one[apart], other[apart], jumps[apart]
        # each part hangs on one of its neighbours with a lower number
        swapped = one > other
        low, high = np.where(swapped, other, one), np.where(swapped, one, other)
        parents = np.arange(n)
        offsets = np.zeros((n, 3), np.int64)
        high, chosen = np.unique(high, return_index=True)
        parents[high] = low[chosen]
        offsets[high] = np.where(swapped, -1, 1)[chosen, None] * jumps[chosen]
        while (parents[parents] != parents).any():
            offsets = offsets + offsets[parents]
            parents = parents[parents]
        shifts += offsets[parts]
        parts = parents[parts]
    around = jumps.any(axis=1)
    wraps = {int(part): np.unique(jumps[around & (one == part)], axis=0) for part in np.unique(one[around])}
    return parts, shifts, wraps


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
