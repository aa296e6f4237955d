"""The labels of one finished run of VASP, or why it has none. Needs no AiiDA."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.vasp import read_vasp_xml
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from aiida_liheal.engines.vasp.settings import order_by_element
from aiida_liheal.structures.quality import name_not_finite

__all__ = ('Labels', 'RunError', 'read_run', 'vasp_version')

#: Longest distance in Å between an atom as it was given and as VASP wrote it, with 8 decimals of the cell vectors.
SAME_A = 1e-4
CONVERGED = 'aborting loop because EDIFF is reached'
LAST_WORDS = 'General timing and accounting'


class RunError(ValueError):
    """A run that gives no labels; the message is the cause."""


@dataclass(frozen=True)
class Labels:
    """Labels of one frame: energy in eV, forces (n_atoms, 3) in eV/Å, virial (3, 3) in eV; electronic steps."""

    energy: float
    forces: NDArray
    virial: NDArray
    scf_steps: int


def vasp_version(vasprun: str) -> str | None:
    """The version that a vasprun.xml names."""
    found = re.search(r'<i name="version" type="string">\s*(\S+)', vasprun[:4096])
    return found[1] if found else None


def read_run(vasprun: str | None, outcar: str | None, given: Atoms) -> Labels:
    """The labels of a frame from what VASP wrote.

    The energy is the free energy (`e_fr_energy`, TOTEN), which the forces are the gradient of under smearing; not
    `e_0_energy`, which is extrapolated to none. The stress of VASP (kB, positive under compression) times the volume
    is the virial, positive under compression as well: 1 kB is 0.1 GPa, 6.2415e-4 eV/Å^3.

    Parameters
    ----------
    vasprun, outcar : str or None
        Texts of vasprun.xml and OUTCAR; None if there is none.
    given : Atoms
        The frame in its own order of atoms.

    Raises
    ------
    RunError
        If the run was cut off, did not converge, is of another structure, or holds numbers that are none.
    """
    if outcar is None or LAST_WORDS not in outcar:
        raise RunError('OUTCAR is cut off' if outcar else 'there is no OUTCAR')
    if vasprun is None:
        raise RunError('there is no vasprun.xml')
    if not vasprun.rstrip().endswith('</modeling>'):
        raise RunError('vasprun.xml is cut off')
    if '<!DOCTYPE' in vasprun[:4096]:
        raise RunError('vasprun.xml declares a type, which VASP does not')
    if CONVERGED not in outcar:
        raise RunError(f'not self-consistent after {vasprun.count("<scstep>")} steps (max_scf_steps)')
    try:
        found: Any = next(read_vasp_xml(io.StringIO(vasprun)))
    except Exception as error:
        # the reader takes a file as it should be for granted: one that is not may raise anything, also a NameError
        raise RunError(f'vasprun.xml cannot be read ({type(error).__name__}: {error})') from error
    order = order_by_element(given)
    check_same(given[order], found)
    results = found.calc.results if found.calc is not None else {}
    for name, text in (('free_energy', 'energy'), ('forces', 'forces'), ('stress', 'stress')):
        if results.get(name) is None:
            raise RunError(f'vasprun.xml holds no {text}')
    if np.shape(results['forces']) != (len(given), 3) or np.shape(results['stress']) != (6,):
        raise RunError('vasprun.xml holds forces or stress that are not whole')
    forces = np.empty((len(given), 3))
    forces[order] = results['forces']
    # ASE's stress is VASP's with the other sign, in eV/Å^3
    virial = -given.get_volume() * voigt_6_to_full_3x3_stress(results['stress'])
    problem = name_not_finite(results['free_energy'], forces, virial)
    if problem is not None:
        raise RunError(problem)
    return Labels(float(results['free_energy']), forces, virial, vasprun.count('<scstep>'))


def check_same(given: Atoms, found: Atoms) -> None:
    """Raise RunError if VASP ran another structure than it was given, in the same order of atoms."""
    if len(found) != len(given):
        raise RunError(f'vasprun.xml is of {len(found)} atoms, the frame has {len(given)}')
    if found.get_chemical_symbols() != given.get_chemical_symbols():
        raise RunError('vasprun.xml is of other elements than the frame')
    if np.abs(found.cell.array - given.cell.array).max() > SAME_A:
        raise RunError('vasprun.xml is of another cell than the frame')
    away = found.cell.scaled_positions(found.positions - given.positions)
    if np.abs((away - np.round(away)) @ found.cell.array).max() > SAME_A:
        raise RunError('vasprun.xml is of other positions than the frame')
