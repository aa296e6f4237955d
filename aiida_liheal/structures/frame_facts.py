"""What labelled or unlabelled frames are, in numbers: counts, ranges, spread, and frames that are there twice."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from ase.units import fs, kB
from numpy.typing import NDArray

from aiida_liheal.structures.checks import shortest_distance, shortest_within
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.quality import QualityRules

__all__ = ('doubts_in_words', 'find_doubts', 'find_duplicates', 'frame_facts', 'frame_keys')

#: Positions and cells that agree when rounded to this, in Å, are the same: what an OUTCAR has is not finer.
SAME_WITHIN_A = 1e-4
#: Up to here, in Å, the shortest distance is searched for first; a longer reach takes more images of a cell.
_FIRST_REACH_A = 3.0
#: Most frames that are named in a message.
_MOST_NAMED = 8


def frame_keys(frames: Frames) -> list[bytes]:
    """A hash of each structure: elements in their order, cell and positions, rounded to 0.0001 Å.

    Labels are not looked at. Images of an atom in other cells count as other positions.
    """
    offsets = frames.offsets
    positions = np.round(frames.positions.astype(float) / SAME_WITHIN_A).astype(np.int64)
    cells = np.round(frames.cells.astype(float) / SAME_WITHIN_A).astype(np.int64)
    # numbers of elements, as shards may count theirs in another order
    known = np.array([atomic_numbers[element] for element in frames.elements], dtype=np.int32)
    types = known[frames.types] if len(known) else frames.types.astype(np.int32)
    keys = []
    for index in range(len(frames)):
        atoms = slice(offsets[index], offsets[index + 1])
        content = types[atoms].tobytes() + cells[index].tobytes() + positions[atoms].tobytes()
        keys.append(hashlib.sha256(content).digest())
    return keys


def find_duplicates(frames: Frames) -> list[list[int]]:
    """Groups of frames that are the same structure: elements in their order, and cell and positions within 0.0001 Å.

    Labels are not looked at. Images of an atom in other cells count as other positions. Numbers are compared, not
    rounded: those of an OUTCAR and of the vasprun.xml of the same step lie on two sides of a half too often.
    """
    by_types: dict[bytes, list[int]] = {}
    offsets = frames.offsets
    types = np.ascontiguousarray(frames.types, dtype=np.int32)
    for index in range(len(frames)):
        by_types.setdefault(types[offsets[index] : offsets[index + 1]].tobytes(), []).append(index)
    groups: list[list[int]] = []
    for found in by_types.values():
        if len(found) > 1:
            n_atoms = int(frames.counts[found[0]])
            atoms = offsets[found][:, None] + np.arange(n_atoms)
            positions = frames.positions[atoms].reshape(len(found), -1)
            cells = frames.cells[found].reshape(len(found), 9)
            groups += [[found[place] for place in group] for group in _same_rows(np.hstack([cells, positions]))]
    return sorted(groups)


def _same_rows(rows: NDArray) -> list[list[int]]:
    """Groups of rows whose numbers all agree with those of the first one within `SAME_WITHIN_A`."""
    # rows that agree do so in any weighted sum, within the sum of the weights: only neighbours in it are compared
    weights = np.random.default_rng(0).normal(size=rows.shape[1])
    keys = rows.astype(float) @ weights
    window = SAME_WITHIN_A * float(np.abs(weights).sum())
    groups: list[list[int]] = []
    begun: list[list[int]] = []
    for row in np.argsort(keys, kind='stable').tolist():
        begun = [group for group in begun if keys[row] - keys[group[0]] <= window]
        for group in begun:
            if np.abs(rows[row] - rows[group[0]]).max() <= SAME_WITHIN_A:
                group.append(row)
                break
        else:
            begun.append([row])
            groups.append(begun[-1])
    return [sorted(group) for group in groups if len(group) > 1]


def find_doubts(frames: Frames, rules: QualityRules | None = None) -> dict[str, Any]:
    """Frames that hardly anybody means to train on: huge forces, and atoms on top of each other.

    Parameters
    ----------
    frames : Frames
        With or without labels.
    rules : QualityRules, optional
        The defaults, if not given; an energy window is not looked at.

    Returns
    -------
    dict
        `shortest_distance_A` of two atoms of all frames, images included, and its `shortest_distance_frame` (None
        without a pair); `too_strong` and `too_close`: the frames beyond the rules `max_force_eV_per_A` and
        `min_distance_A`, which are there as well.
    """
    rules = rules or QualityRules.model_validate({})
    offsets = frames.offsets
    limit = 0.0 if rules.min_distance_A is None else rules.min_distance_A
    positions, cells = frames.positions.astype(float), frames.cells.astype(float)
    shortest, at = math.inf, None
    too_close = []
    for index in range(len(frames)):
        atoms = Atoms(
            positions=positions[offsets[index] : offsets[index + 1]], cell=cells[index], pbc=frames.pbc[index]
        )
        # what is neither the shortest of all nor too short need not be known
        distance = shortest_within(atoms, max(limit, min(shortest, _FIRST_REACH_A)))
        if distance == math.inf and shortest > _FIRST_REACH_A:
            distance = shortest_distance(atoms)
        if distance < limit:
            too_close.append(index)
        if distance < shortest:
            shortest, at = distance, index
    too_strong: list[int] = []
    if frames.forces is not None and rules.max_force_eV_per_A is not None and len(frames):
        norms = np.linalg.norm(frames.forces.astype(float), axis=1)
        largest = np.maximum.reduceat(norms, offsets[:-1])
        too_strong = np.flatnonzero(largest > rules.max_force_eV_per_A).tolist()
    return {
        'shortest_distance_A': None if at is None else shortest,
        'shortest_distance_frame': at,
        'max_force_eV_per_A': rules.max_force_eV_per_A,
        'too_strong': too_strong,
        'min_distance_A': rules.min_distance_A,
        'too_close': too_close,
    }


def doubts_in_words(doubts: dict[str, Any]) -> list[str]:
    """What `find_doubts` found, a line a rule, each with the numbers of the frames."""
    lines = []
    for key, what in (
        ('too_strong', f'a force above {doubts["max_force_eV_per_A"]} eV/Å'),
        ('too_close', f'two atoms closer than {doubts["min_distance_A"]} Å'),
    ):
        found = doubts[key]
        if found:
            named = ', '.join(map(str, found[:_MOST_NAMED])) + (' …' if len(found) > _MOST_NAMED else '')
            one = len(found) == 1
            lines.append(f'{"frame" if one else f"{len(found)} frames:"} {named} {"has" if one else "have"} {what}')
    return lines


def _formulas(frames: Frames) -> dict[str, list[int]]:
    """The frames of each composition."""
    numbers = np.zeros((len(frames), len(frames.elements)), dtype=np.int64)
    np.add.at(numbers, (np.repeat(np.arange(len(frames)), frames.counts), frames.types), 1)
    found, which = np.unique(numbers, axis=0, return_inverse=True)
    symbols = sorted(range(len(frames.elements)), key=frames.elements.__getitem__)
    names = [''.join(f'{frames.elements[i]}{row[i]}' for i in symbols if row[i]) for row in found.tolist()]
    return {name: np.flatnonzero(which.ravel() == number).tolist() for number, name in enumerate(names)}


def _range(values: NDArray) -> dict[str, float]:
    return {'min': float(values.min()), 'mean': float(values.mean()), 'max': float(values.max())}


def frame_facts(frames: Frames) -> dict[str, Any]:
    """Numbers that tell what these frames are.

    Parameters
    ----------
    frames : Frames
        With or without labels.

    Returns
    -------
    dict
        Counts; `min`, `mean` and `max` of `energy_eV_per_atom`, `volume_A3_per_atom` (the cell, vacuum included),
        `largest_force_eV_per_A` (of each frame), `pressure_kB` (a third of the trace of the virial over the volume);
        `rms_force_eV_per_A` of a component; `compositions`, each with its frames and `spread_K`: the temperature at
        which a harmonic solid has the mean energy that these frames have above the lowest of them,
        2 (mean - lowest) / (3 k_B) an atom, which is a measure of how far they reach and no temperature of a run
        (not of a single frame);
        `kinetic_temperature_K` where there are velocities; `duplicates` as of `find_duplicates`, and `contradictions`,
        the groups of them whose energies differ by more than 1 meV/atom; and what `find_doubts` gives.
    """
    n_frames = len(frames)
    facts: dict[str, Any] = {
        'n_frames': n_frames,
        'n_atoms': int(frames.counts.sum()),
        'n_atoms_min': int(frames.counts.min()) if n_frames else 0,
        'n_atoms_max': int(frames.counts.max()) if n_frames else 0,
        'elements': list(frames.elements),
        'is_labelled': frames.is_labelled,
        'has_virials': frames.virials is not None,
        'precision': frames.positions.dtype.name,
        'n_bytes': int(sum(array.nbytes for array in frames.to_arrays().values())),
        'extra': sorted(frames.extra),
    }
    if not n_frames:
        return facts
    starts = frames.offsets[:-1]
    facts.update(find_doubts(frames))
    facts['volume_A3_per_atom'] = _range(frames.volumes / frames.counts)
    formulas = _formulas(frames)
    facts['compositions'] = {formula: {'n_frames': len(found)} for formula, found in sorted(formulas.items())}
    if frames.energies is not None:
        energies = frames.energies.astype(float) / frames.counts
        facts['energy_eV_per_atom'] = _range(energies)
        for formula, found in formulas.items():
            if len(found) == 1:
                continue
            above = energies[found].mean() - energies[found].min()
            facts['compositions'][formula]['spread_K'] = float(2 * above / (3 * kB))
    if frames.forces is not None:
        norms = np.linalg.norm(frames.forces.astype(float), axis=1)
        facts['largest_force_eV_per_A'] = _range(np.maximum.reduceat(norms, starts))
        facts['rms_force_eV_per_A'] = float(np.sqrt(np.mean(frames.forces.astype(float) ** 2)))
    if frames.virials is not None:
        from aiida_liheal.structures.reading import KILOBAR

        facts['pressure_kB'] = _range(
            np.trace(frames.virials.astype(float), axis1=1, axis2=2) / 3 / frames.volumes / KILOBAR
        )
    if frames.velocities is not None:
        masses = np.array([atomic_masses[atomic_numbers[element]] for element in frames.elements])[frames.types]
        # Å/ps into ASE's unit of velocity
        squares = (frames.velocities.astype(float) / (1000 * fs)) ** 2
        kinetic = np.add.reduceat(0.5 * masses * squares.sum(axis=1), starts)
        facts['kinetic_temperature_K'] = _range(2 * kinetic / (3 * kB * frames.counts))
    groups = find_duplicates(frames)
    facts['duplicates'] = groups
    facts['n_duplicates'] = sum(len(group) - 1 for group in groups)
    if frames.energies is not None:
        facts['contradictions'] = [group for group in groups if float(np.ptp(energies[group])) > 1e-3]
    return facts
