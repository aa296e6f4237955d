"""Rules that labelled frames have to keep to be trained on, the same for every engine. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike
from pydantic import AfterValidator, Field

from aiida_liheal.structures.checks import shortest_distance
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.settings import Settings

__all__ = ('Exclusion', 'QualityRules', 'find_exclusions', 'name_not_finite')


def _ordered(window: tuple[float, float] | None) -> tuple[float, float] | None:
    if window is not None and not window[0] < window[1]:
        raise ValueError('the lowest energy comes first, then the highest')
    return window


class QualityRules(Settings):
    """What a labelled frame may be; a frame outside is left out and told. null: no such rule.

    That the electrons converged and that all numbers are finite is asked of every frame by its engine.
    """

    max_force_eV_per_A: float | None = Field(
        20.0,
        gt=0,
        description='Largest force on an atom in eV/Å. The largest in the published lithium data is 2.9 eV/Å.',
    )
    min_distance_A: float | None = Field(1.2, gt=0, description='Shortest distance of two atoms in Å.')
    energy_window_eV_per_atom: Annotated[tuple[float, float] | None, AfterValidator(_ordered)] = Field(
        None,
        description='Lowest and highest energy in eV/atom. It depends on the potentials of the engine: the published '
        'lithium data lie between -1.86 and -0.78 eV/atom.',
    )


@dataclass(frozen=True)
class Exclusion:
    """A frame that breaks a rule: its index and the rule with the value, in words."""

    index: int
    cause: str


def name_not_finite(energy: ArrayLike, forces: ArrayLike, virial: ArrayLike) -> str | None:
    """The first of these labels that is not finite, in words; None if all are."""
    for name, value in (('energy', energy), ('forces', forces), ('virial', virial)):
        n = int(np.sum(~np.isfinite(np.asarray(value, dtype=float))))
        if n:
            return f'{n} numbers of the {name} are not finite'
    return None


def find_exclusions(frames: Frames, rules: QualityRules) -> list[Exclusion]:
    """The labelled frames that break a rule, each with the first rule it breaks.

    Raises
    ------
    ValueError
        If the frames have no labels.
    """
    if frames.energies is None or frames.forces is None:
        raise ValueError('the frames have no energies and forces to judge')
    per_atom = frames.energies / frames.counts
    offsets = frames.offsets
    found = []
    for index in range(len(frames)):
        largest = float(np.linalg.norm(frames.forces[offsets[index] : offsets[index + 1]], axis=1).max())
        if rules.max_force_eV_per_A is not None and largest > rules.max_force_eV_per_A:
            limit = rules.max_force_eV_per_A
            found.append(
                Exclusion(index, f'its largest force is {largest:.3f} eV/Å, above {limit} eV/Å (max_force_eV_per_A)')
            )
            continue
        window = rules.energy_window_eV_per_atom
        if window is not None and not window[0] <= per_atom[index] <= window[1]:
            cause = f'its energy is {per_atom[index]:.4f} eV/atom, outside {window[0]} to {window[1]} eV/atom'
            found.append(Exclusion(index, f'{cause} (energy_window_eV_per_atom)'))
            continue
        if rules.min_distance_A is not None:
            shortest = shortest_distance(frames.to_atoms(index))
            if shortest < rules.min_distance_A:
                cause = f'two atoms are {shortest:.3f} Å apart, below {rules.min_distance_A} Å (min_distance_A)'
                found.append(Exclusion(index, cause))
    return found
