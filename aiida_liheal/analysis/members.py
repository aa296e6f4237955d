"""Energies of single atoms by each member of a committee, as a run leaves them beside its trajectory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .sites import SITES
from .trajectory import Frame, Reader, Trajectory

#: Name of the file beside a dump: for each of some steps a frame by each member, m0 first, with the column `c_pe`.
MEMBERS_FILE = 'members.dump'
#: Differences of sites that are told: of the first less the second.
DIFFERENCES = (('tips', 'valleys'), ('tips', 'bulk'), ('valleys', 'bulk'), ('surface', 'bulk'))


def member_frames(dumps: Sequence[Path]) -> Iterator[tuple[Frame, NDArray]]:
    """The first and the last step of a run that its members were asked about.

    Yields
    ------
    frame : Frame
        Of the first member.
    energies : (n_members, n_atoms) float
        Potential energies in eV; two members at least.

    Raises
    ------
    TrajectoryError
        If a file is damaged.
    """
    files = [path.resolve().with_name(MEMBERS_FILE) for path in dumps]
    by_step: dict[int, list[tuple[Path, int]]] = {}
    for path in dict.fromkeys(file for file in files if file.is_file()):
        # a restart does steps again: what is told later counts
        told: dict[int, list[tuple[Path, int]]] = {}
        for number, step in enumerate(Trajectory.steps(path)):
            told.setdefault(step, []).append((path, number))
        by_step |= told
    n_members = max((len(frames) for frames in by_step.values()), default=0)
    # a job that was killed meanwhile has not asked all of them
    whole = sorted(step for step, frames in by_step.items() if len(frames) == n_members > 1)
    for step in dict.fromkeys((whole[0], whole[-1]) if whole else ()):
        path = by_step[step][0][0]
        rows = np.array([(0, number, step) for _, number in by_step[step]])
        reader = Reader(Trajectory((path,), rows, 0, ()))
        first = reader.frame(0)
        energies = [first.energies, *(reader.frame(index).energies for index in range(1, n_members))]
        if all(one is not None for one in energies):
            yield first, np.array(energies)


def site_energies(
    energies: NDArray, sites: Mapping[str, NDArray], slices: NDArray, bin_A: float, counted: NDArray
) -> dict[str, Any]:
    """Energies of the kinds of sites by member, and their differences, which alone have a meaning.

    How a Deep Potential shares its energy out among the atoms is a matter of gauge: each member has its own. So a
    difference is taken within each member; mean and spread (the standard deviation over the members) are of those.

    Parameters
    ----------
    energies : (n_members, n_atoms) float
        Potential energies in eV.
    sites : mapping of str to (n_atoms,) bool
        Atoms of each kind of site, by name from `SITES`.
    slices : (n_atoms,) int
        Number of the slice along the height in which an atom lies.
    bin_A : float
        Thickness of a slice in Å.
    counted : (n_atoms,) bool
        Atoms that count: those that move and are not in flight.

    Returns
    -------
    dict
        `by_member_eV_per_atom`: means by site, a list of members each; `atoms` by site; `differences`, by names such as
        `tips_less_bulk`, each with `by_member_eV`, `mean_eV` and `spread_eV`; and `profile`, lists by slice:
        `height_A`, `atoms`, `above_bulk_eV_per_atom`, `spread_eV_per_atom`. There is no difference and no profile
        where one of the sites has no atom.
    """
    members = {name: sites[name] & counted for name in SITES}
    means = {name: energies[:, members[name]].mean(axis=1) for name in SITES if members[name].any()}
    told: dict[str, Any] = {
        'atoms': {name: int(members[name].sum()) for name in SITES},
        'by_member_eV_per_atom': {name: values.tolist() for name, values in means.items()},
        'differences': {},
        'profile': None,
    }
    for one, other in DIFFERENCES:
        if one in means and other in means:
            less = means[one] - means[other]
            told['differences'][f'{one}_less_{other}'] = {
                'by_member_eV': less.tolist(),
                'mean_eV': float(less.mean()),
                'spread_eV': float(less.std()),
            }
    if 'bulk' in means:
        here = np.unique(slices[counted])
        above = [energies[:, counted & (slices == number)].mean(axis=1) - means['bulk'] for number in here]
        told['profile'] = {
            'height_A': ((here + 0.5) * bin_A).tolist(),
            'atoms': [int((counted & (slices == number)).sum()) for number in here],
            'above_bulk_eV_per_atom': [float(less.mean()) for less in above],
            'spread_eV_per_atom': [float(less.std()) for less in above],
        }
    return told
