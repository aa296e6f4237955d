"""Write the registry of VASP runs beside this file (`vasp_registry/`): small lithium cells labelled with GPAW.

Each run is a folder with what the package writes for VASP (`inp`) and files in VASP's formats (`out`), as `mock-vasp`
of aiida-vasp takes them. Energies, forces and stress are those of `runners/gpaw_label.label` for the same structure,
cut-off, k-points, functional and smearing; energies of the electronic steps and the Fermi level are from GPAW's log.

Usage: python make_vasp_registry.py [FOLDER]
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpaw
import numpy as np
from ase import Atoms
from ase.build import bcc100, bulk
from ase.units import GPa
from vasp_stand_in import Run, incar_tags, outcar_text, read_poscar, vasprun_text

from aiida_liheal.engines.gpaw.calculation import GpawSettings
from aiida_liheal.engines.vasp.settings import VaspSettings, incar_text, kpoints_text, mesh_and_shift, poscar_text
from aiida_liheal.runners.gpaw_label import CONVERGED, NOT_CONVERGED, label

#: kB in eV/Å^3
KILOBAR = 0.1 * GPa
#: Of all runs, so that they can be one batch. The slab needs more than 12 electronic steps, the others fewer.
SETTINGS = VaspSettings(cutoff_eV=300.0, kpoint_spacing_per_A=0.5, energy_tolerance_eV=1e-4, max_scf_steps=12)
#: Tolerances of GPAW that go with EDIFF of the settings for these cells.
TIGHT = {'energy_tolerance_eV': 5e-5, 'density_tolerance': 3e-4, 'eigenstates_tolerance_eV2': 1e-6}
#: With these GPAW ends long before it is self-consistent: numbers of a run that was not.
LOOSE = {'energy_tolerance_eV': 0.1, 'density_tolerance': 0.1, 'eigenstates_tolerance_eV2': 1e-2}


def tidy(atoms: Atoms) -> Atoms:
    """Positions as fractions of the cell with 6 decimals, none near 0.

    `mock-vasp` knows a run by a hash over what numpy prints of its input. So it is the same however it was written.
    """
    atoms.set_scaled_positions(np.round(atoms.get_scaled_positions(wrap=False) + 0.25, 6))
    return atoms


def cell(a: float, seed: int, strain: Any = 0.0) -> Atoms:
    """Two atoms of bcc lithium, displaced by about 0.1 Å, then strained."""
    atoms = bulk('Li', 'bcc', a=a, cubic=True)
    atoms.rattle(0.1, rng=np.random.default_rng(seed))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return tidy(atoms)


def vacancy() -> Atoms:
    """A cell of four atoms without one of them."""
    atoms = bulk('Li', 'bcc', a=3.44, cubic=True) * (2, 1, 1)
    atoms.rattle(0.1, rng=np.random.default_rng(3))
    del atoms[1]
    return tidy(atoms)


def slab() -> Atoms:
    """Three layers of (100) with 8 Å of vacuum."""
    atoms = bcc100('Li', (1, 1, 3), a=3.44, vacuum=4.0)
    atoms.rattle(0.05, rng=np.random.default_rng(9))
    return tidy(atoms)


def cut(text: str, after: str) -> str:
    """What a run has written that ended a moment after it wrote some words."""
    return text[: text.index(after) + len(after) + 40]


@dataclass(frozen=True)
class Case:
    """A run: its structure, what is done to its files, and what it is that was run if not that structure."""

    atoms: Atoms
    outcar: Callable[[str], str] = str
    vasprun: Callable[[str], str] = str
    ran: Callable[[Atoms], Atoms] = Atoms.copy
    has_stress: bool = True


SHEAR = np.array([[0.02, 0.03, 0.0], [0.03, -0.01, 0.01], [0.0, 0.01, -0.03]])
CASES = {
    'strained': Case(cell(3.30, 2, SHEAR)),
    'vacancy': Case(vacancy()),
    'unconverged': Case(slab()),
    'truncated_outcar': Case(cell(3.40, 4), outcar=lambda text: cut(text, 'TOTAL-FORCE (eV/Angst)')),
    'truncated_vasprun': Case(cell(3.42, 5), vasprun=lambda text: cut(text, '<varray name="forces" >')),
    'killed': Case(
        cell(3.44, 6),
        outcar=lambda text: cut(text, 'Iteration      1(   4)'),
        vasprun=lambda text: text[: text.index('<scstep>', text.index('</scstep>') + 1)],
    ),
    'no_stress': Case(cell(3.46, 7), has_stress=False),
    'wrong_atoms': Case(cell(3.48, 8), ran=lambda atoms: atoms[:1]),
}


def read_log(text: str) -> tuple[list[tuple[float, float, float]], float]:
    """Energies of each electronic step in a log of GPAW (free, without entropy, extrapolated), and the Fermi level.

    GPAW tells the extrapolated energy of each step and the entropy of the last one only: that is taken for all.
    """
    extrapolated = [float(found) for found in re.findall(r'\|iter: *\d+\| [\d:]+ \| *(-?[\d.]+)', text)]

    def last(name: str) -> float:
        return float(re.findall(rf'{name}: *(-?[\d.]+)', text)[-1])

    free, entropy, zero = last('Free energy'), last('Entropy'), last('Extrapolated')
    steps = [(e - zero + free, e - zero + free - entropy, e) for e in extrapolated]
    return steps, last('Fermi level')


def compute(atoms: Atoms, folder: Path) -> tuple[dict[str, Any], Run, bool]:
    """Labels of a structure, what else its run tells, and whether it became self-consistent."""
    same = ('cutoff_eV', 'kpoint_spacing_per_A', 'vacuum_gap_A', 'xc', 'smearing_eV', 'smearing_order', 'max_scf_steps')
    common = {name: getattr(SETTINGS, name) for name in same}
    log = folder / 'log.txt'
    record = label(atoms, GpawSettings(**common, **TIGHT).model_dump(), log)
    is_converged = record['status'] == CONVERGED
    steps, fermi = [], 0.0
    if not is_converged:
        assert record['status'] == NOT_CONVERGED, record['cause']
        unfinished = re.findall(r'\|iter: *\d+\| [\d:]+ \| *(-?[\d.]+)', log.read_text())
        record = label(atoms, GpawSettings(**common, **LOOSE).model_dump(), log)
    steps, fermi = read_log(log.read_text())
    if not is_converged:
        # the steps of the run that did not end, the labels of the one that ended too early
        free, without, zero = steps[-1]
        steps = [(e - zero + free, e - zero + without, e) for e in map(float, unfinished[:-1])] + [steps[-1]]
    last = steps[-1]
    steps[-1] = (record['energy'], last[1] - last[0] + record['energy'], last[2] - last[0] + record['energy'])
    mesh, shift = mesh_and_shift(atoms, SETTINGS)
    program = f'numbers of GPAW {gpaw.__version__} in the formats of VASP'
    return record, Run(program, steps, tuple(mesh), tuple(shift), fermi, 0), is_converged


def write(case: Case, folder: Path) -> dict[str, Any]:
    """Write one run; its labels as GPAW gave them."""
    for name in ('inp', 'out'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    given = {
        'POSCAR': poscar_text(case.atoms),
        'INCAR': incar_text(SETTINGS),
        'KPOINTS': kpoints_text(case.atoms, SETTINGS),
    }
    for name, text in given.items():
        (folder / 'inp' / name).write_text(text)
    ran = case.ran(case.atoms)
    with tempfile.TemporaryDirectory() as scratch:
        record, run, is_converged = compute(ran, Path(scratch))
    stress = (record['virial'] / KILOBAR / ran.get_volume()).tolist() if case.has_stress else None
    result = (record['energy'], record['forces'].tolist(), stress)
    common = (*read_poscar(poscar_text(ran)), incar_tags(given['INCAR']), len(run.steps), result)
    (folder / 'out' / 'vasprun.xml').write_text(case.vasprun(vasprun_text(*common, run=run)))
    (folder / 'out' / 'OUTCAR').write_text(case.outcar(outcar_text(*common, converged=is_converged, run=run)))
    (folder / 'out' / 'CONTCAR').write_text(given['POSCAR'])  # nothing moves
    print(f'{folder.name}: {len(ran)} atoms, {len(run.steps)} steps, {record["energy"]:.6f} eV', flush=True)
    labels = {name: np.asarray(record[name]).tolist() for name in ('energy', 'forces', 'virial')}
    return {'is_converged': is_converged, 'n_steps': len(run.steps), **labels}


def main() -> None:
    """Write all runs, and `labels.json`: what GPAW gave, in eV, eV/Å and eV, to the last digit."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / 'vasp_registry'
    labels = {name: write(case, folder / name) for name, case in CASES.items()}
    content = {'gpaw': gpaw.__version__, 'settings': SETTINGS.model_dump(exclude_unset=True), 'labels': labels}
    (folder / 'labels.json').write_text(json.dumps(content, indent=1) + '\n')


if __name__ == '__main__':
    main()
