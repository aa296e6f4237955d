"""How labels change with the settings of the engine that made them, and the smallest settings that are good enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.settings import Settings

__all__ = (
    'ERRORS',
    'LARGEST',
    'Tolerances',
    'digits',
    'errors_of',
    'held_text',
    'sentences',
    'smallest_value',
    'within',
)

#: Errors by their keys, with what they are and their units.
ERRORS = {
    'energy_meV_per_atom': ('energy', 'meV/atom'),
    'energy_difference_meV_per_atom': ('energies between frames', 'meV/atom'),
    'force_meV_per_A': ('force', 'meV/Å'),
    'force_rmse_meV_per_A': ('force, RMS', 'meV/Å'),
    'virial_meV_per_atom': ('virial', 'meV/atom'),
}
#: Those that are the largest of all frames and atoms, and can be held against a tolerance.
LARGEST = ('energy_meV_per_atom', 'energy_difference_meV_per_atom', 'force_meV_per_A', 'virial_meV_per_atom')


class Tolerances(Settings):
    """How far labels may be from those of the finest settings. null: not asked for."""

    energy_meV_per_atom: float | None = Field(
        1.0, gt=0, description='Largest error of the energy of a frame in meV/atom.'
    )
    energies: Literal['absolute', 'differences'] = Field(
        'absolute',
        description='What energy_meV_per_atom is held against: energies as they are, or their differences between '
        'frames, in which an error that all frames share drops out. A potential that is trained on labels of one '
        'setting sees differences only; ask for virials as well then, whose errors do not drop out.',
    )
    force_meV_per_A: float | None = Field(
        5.0, gt=0, description='Largest error of the force on an atom, the length of the difference, in meV/Å.'
    )
    virial_meV_per_atom: float | None = Field(
        None, gt=0, description='Largest error of a component of the virial in meV/atom.'
    )

    @model_validator(mode='after')
    def _ask_for_something(self) -> Self:
        if not self.limits():
            raise ValueError('all tolerances are null: nothing is asked for, so anything would do; give at least one')
        return self

    def limits(self) -> dict[str, float]:
        """The errors that are held against something, by their keys."""
        energy = 'energy_meV_per_atom' if self.energies == 'absolute' else 'energy_difference_meV_per_atom'
        asked = {
            energy: self.energy_meV_per_atom,
            'force_meV_per_A': self.force_meV_per_A,
            'virial_meV_per_atom': self.virial_meV_per_atom,
        }
        return {key: limit for key, limit in asked.items() if limit is not None}


def _order(frames: Frames, indices: Sequence[int]) -> Frames:
    """The labelled frames whose `source_index` are these, in that order."""
    place = {int(source): number for number, source in enumerate(frames.extra['source_index'])}
    return frames.select(np.array([place[index] for index in indices]))


def errors_of(labels: Frames, reference: Frames) -> dict[str, float | None]:
    """Errors of labels against those of the finest settings, for the frames that both have.

    Parameters
    ----------
    labels, reference : Frames
        Labelled shards, whose `source_index` is the index of a frame in what was given to be labelled; energies in eV,
        forces (n_atoms, 3) in eV/Å, virials (n_frames, 3, 3) in eV.

    Returns
    -------
    dict
        By the keys of `ERRORS`: the largest errors, and the root mean square of the components of the forces. None
        where it cannot be told: energies between frames need two, virials may be missing.

    Raises
    ------
    ValueError
        If they have no frame in common, or no energies and forces.
    """
    common = sorted({*map(int, labels.extra['source_index'])} & {*map(int, reference.extra['source_index'])})
    if not common:
        raise ValueError('no frame has labels in both')
    ours, best = _order(labels, common), _order(reference, common)
    if ours.energies is None or best.energies is None or ours.forces is None or best.forces is None:
        raise ValueError('the frames have no energies and forces to compare')
    energy = 1000 * (ours.energies - best.energies) / ours.counts
    force = 1000 * (ours.forces - best.forces)
    virial: NDArray | None = None
    if ours.virials is not None and best.virials is not None:
        virial = 1000 * (ours.virials - best.virials) / ours.counts[:, None, None]
    return {
        'energy_meV_per_atom': float(np.abs(energy).max()),
        'energy_difference_meV_per_atom': float(np.ptp(energy)) if len(common) > 1 else None,
        'force_meV_per_A': float(np.linalg.norm(force, axis=1).max()),
        'force_rmse_meV_per_A': float(np.sqrt(np.mean(force**2))),
        'virial_meV_per_atom': None if virial is None else float(np.abs(virial).max()),
    }


def within(errors: Mapping[str, float | None], tolerances: Tolerances) -> bool:
    """Whether errors are within all tolerances; one that is asked for and not known is not."""
    known = ((errors.get(key), limit) for key, limit in tolerances.limits().items())
    return all(error is not None and error <= limit for error, limit in known)


def smallest_value(rows: Sequence[Mapping[str, Any]]) -> Any:
    """The coarsest value from which on all finer ones are within the tolerances too; None if only the finest is.

    Of values by which these frames see the same, the finest one: other cells may see what these do not.

    Parameters
    ----------
    rows : sequence of mapping
        From coarse to fine, the last one the reference; `value`, `same` and `is_within` of each.
    """
    chosen = None
    # the finest one is what the others are held against: that it agrees with itself shows nothing
    for row in reversed(rows[:-1]):
        if not row['is_within']:
            break
        chosen = [row['value'], *row['same']][-1]
    return chosen


def digits(value: float) -> str:
    """A number with three digits that count, or all those before the point; no powers of ten for large ones."""
    return f'{value:.0f}' if abs(value) >= 999.5 else f'{value:.3g}'


def held_text(scan: Mapping[str, Any]) -> str | None:
    """The values that were held while another setting was scanned, in words; None if there are none."""
    known = (f'{key} {value:g}' for key, value in scan['held'].items() if isinstance(value, (int, float)))
    return ', '.join(known) or None


def _with_unit(key: str, value: float, table: Mapping[str, Any]) -> str:
    unit = table['scans'][key]['unit']
    return f'{key} {value:g}{" " + unit if unit else ""}'


def _errors(errors: Mapping[str, float | None], limits: Mapping[str, float]) -> str:
    """The largest errors in words; those that nothing was asked of are set apart."""
    known = {key: value for key, value in errors.items() if value is not None and key in LARGEST}

    def told(is_asked: bool) -> str:
        return ', '.join(
            f'{ERRORS[key][0]} {digits(value)} {ERRORS[key][1]}'
            for key, value in known.items()
            if (key in limits) == is_asked
        )

    return '; without a tolerance, '.join(part for part in (told(True), told(False)) if part)


def sentences(table: Mapping[str, Any]) -> list[str]:
    """What came out, a sentence a scan, one for all of them together, and one if there were hardly any forces.

    Parameters
    ----------
    table : mapping
        `table` of `liheal.convergence`.
    """
    said = []
    limits = Tolerances.read(table['tolerances']).limits()
    for key, scan in table['scans'].items():
        told = held_text(scan)
        held = f' (with {told})' if told else ''
        if not scan['has_reference']:
            said.append(f'{key}: the finest value has no labels, so nothing can be told.')
        elif scan['smallest'] is None:
            said.append(f'{key}: no value but the finest is within the tolerances{held}.')
        else:
            row = next(row for row in scan['rows'] if scan['smallest'] in (row['value'], *row['same']))
            value = _with_unit(key, scan['smallest'], table)
            said.append(f'Smallest within the tolerances: {value}{held}: {_errors(row["errors"], limits)}.')
            if row is scan['rows'][-2]:
                finest = scan['rows'][-1]['value']
                said.append(f'{key}: that rests on {finest:g} alone; a value finer still would show whether it holds.')
    told = table.get('together')
    if told:
        chosen = ', '.join(_with_unit(key, value, table) for key, value in told['chosen'].items())
        verdict = 'within' if told['is_within'] else 'beyond'
        found = (
            f': {told["cause"]}' if told['cause'] else f', {verdict} the tolerances: {_errors(told["errors"], limits)}'
        )
        said.append(f'{chosen} together, against the finest of all{found}.')
    largest = table['largest_force_eV_per_A']
    asked = table['tolerances']['force_meV_per_A']
    if largest is not None and asked is not None and 1000 * largest < 2 * asked:
        said.append(
            f'The largest force is {digits(1000 * largest)} meV/Å: symmetry may hide errors of forces; give frames '
            'whose atoms are out of their places.'
        )
    return said
