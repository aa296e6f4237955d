"""Which crystal structure each atom is in: OVITO's adaptive common neighbour analysis, and positions to feed it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from ovito.data import DataCollection
from ovito.modifiers import (  # type: ignore[attr-defined]
    CommonNeighborAnalysisModifier,
    CoordinationAnalysisModifier,
    ExpandSelectionModifier,
)

from .trajectory import Frame

#: Names of the structures by OVITO's number of the type.
STRUCTURES = ('other', 'fcc', 'hcp', 'bcc', 'ico')


def structure_types(data: DataCollection, positions: NDArray | None = None) -> NDArray:
    """Structure of each atom by adaptive common neighbour analysis (Stukowski, MSMSE 20, 045021, 2012).

    Atoms at surfaces lack neighbours and count as «other».

    Parameters
    ----------
    data : DataCollection
        A frame; it is not changed.
    positions : (n, 3) float, optional
        Positions in Å in the place of the frame's own, such as averaged ones.

    Returns
    -------
    (n,) int8
        Indices into `STRUCTURES`.
    """
    work = data.clone()
    if positions is not None:
        work.particles_.positions_[...] = positions
    work.apply(CommonNeighborAnalysisModifier(mode=CommonNeighborAnalysisModifier.Mode.AdaptiveCutoff))
    return np.array(work.particles['Structure Type'], dtype=np.int8)


def shares(types: NDArray, members: NDArray | None = None) -> dict[str, float]:
    """Share of the atoms in each structure, by name from `STRUCTURES`.

    `members`, (n,) bool, restricts the count to some atoms; without any atom the shares are not a number.
    """
    chosen = types if members is None else types[members]
    counts = np.bincount(chosen, minlength=len(STRUCTURES))
    if not len(chosen):
        return dict.fromkeys(STRUCTURES, float('nan'))
    return {name: float(count / len(chosen)) for name, count in zip(STRUCTURES, counts, strict=True)}


def atoms_inside(data: DataCollection, matter: NDArray, surface: NDArray, reach_A: float) -> NDArray:
    """Atoms away from every surface, that of a void as well: those that could be counted as bcc.

    Parameters
    ----------
    data : DataCollection
        A frame, opened at vacuum; it is not changed.
    matter : (n,) bool
        Atoms that are not in flight.
    surface : (n,) bool
        Atoms of all surfaces, such as those that the surface mesh goes through.
    reach_A : float
        Atoms within this distance in Å of an atom of the surface are not inside. Between the first two bcc shells, no
        atom of a (100), (110) or (111) face that lacks one of its 14 neighbours is inside; on (110) one layer
        and on (111) three that have them all are left out as well.

    Returns
    -------
    (n,) bool
    """
    if not surface.any():
        return matter.copy()
    work = data.clone()
    work.particles_.create_property('Selection', data=surface.astype(np.int32))
    # the mesh's own distances of atoms cost atoms times triangles
    work.apply(ExpandSelectionModifier(mode=ExpandSelectionModifier.ExpansionMode.Cutoff, cutoff=reach_A))
    return matter & (np.asarray(work.particles['Selection']) == 0)


def neighbour_counts(data: DataCollection, cutoff_A: float) -> NDArray:
    """Neighbours of each atom within a distance in Å: (n,) int."""
    work = data.clone()
    work.apply(CoordinationAnalysisModifier(cutoff=cutoff_A))
    return np.array(work.particles['Coordination'])


def averaged_positions(frames: Sequence[Frame]) -> NDArray:
    """Positions of the atoms of the last frame averaged over all frames given.

    OVITO's own smoothing needs one file and a constant set of atoms; here an atom that is younger than the first
    frame is averaged over the frames it is in, and atoms may cross periodic boundaries.

    Returns
    -------
    (n, 3) float
        Positions in Å, for the atoms of `frames[-1]` in their order.
    """
    last = frames[-1]
    inverse = np.linalg.inv(last.cell)
    moved = np.zeros_like(last.positions)
    counts = np.ones(len(last))
    for frame in frames[:-1]:
        place = np.minimum(np.searchsorted(frame.ids, last.ids), len(frame) - 1)
        found = frame.ids[place] == last.ids
        reduced = (frame.positions[place[found]] - last.positions[found]) @ inverse
        reduced -= np.where(last.pbc, np.round(reduced), 0.0)
        moved[found] += reduced @ last.cell
        counts[found] += 1
    return last.positions + moved / counts[:, None]
