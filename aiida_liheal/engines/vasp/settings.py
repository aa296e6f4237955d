"""Settings of a VASP batch, and the files of VASP that follow from them and a frame. Needs neither AiiDA nor VASP."""

from __future__ import annotations

import io
import re
from typing import Annotated, Any, Literal

import numpy as np
from ase import Atoms
from ase.io.vasp import write_vasp
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from aiida_liheal.engines.settings import PlaneWaveSettings, check_plane_waves
from aiida_liheal.runners.gpaw_label import kpoint_mesh

__all__ = (
    'VaspSettings',
    'check_frame',
    'incar_tags',
    'incar_text',
    'kpoints_text',
    'mesh_and_shift',
    'order_by_element',
    'poscar_text',
    'relevant_tags',
)

#: Functionals by the names that people use, and as VASP's tag GGA knows them.
FUNCTIONALS = {'PBE': 'PE', 'RPBE': 'RP', 'revPBE': 'RE', 'PBEsol': 'PS'}
#: Tags that say how VASP shares its work, not what comes out.
PARALLEL_TAGS = ('KPAR', 'NCORE', 'NPAR', 'NSIM', 'LPLANE', 'LSCALAPACK')

_TAG = re.compile(r'[A-Z][A-Z0-9_]*')
_TEXT = re.compile(r'[A-Za-z0-9_.*+\- ]+')


def _tags(tags: dict[str, bool | int | float | str]) -> dict[str, bool | int | float | str]:
    """Refuse tags that are none, that follow from other settings, or whose text could begin another tag."""
    for name, value in tags.items():
        if not _TAG.fullmatch(name):
            raise ValueError(f'{name!r} is no tag of VASP; allowed are capitals, digits and _, such as ALGO')
        if name in OWN_TAGS:
            raise ValueError(f'{name} is not to be given ({OWN_TAGS[name]})')
        if name.startswith('ML_'):
            raise ValueError(f'{name}: labels are those of the electrons, not of a force field of VASP')
        if isinstance(value, str) and not _TEXT.fullmatch(value):
            raise ValueError(f'{name} = {value!r}; allowed are letters, digits, blanks and _.*+-')
    return tags


class VaspSettings(PlaneWaveSettings):
    """Settings of a VASP batch: PAW in plane waves, no spin, no symmetry, forces and stress of each frame."""

    cutoff_eV: float = Field(
        380.0, ge=50, le=2000, description='Kinetic energy cut-off of the plane waves in eV (ENCUT).'
    )
    xc: Literal['PBE', 'RPBE', 'revPBE', 'PBEsol'] = Field(
        'PBE', description='Exchange and correlation functional (GGA).'
    )
    energy_tolerance_eV: float = Field(
        1e-6,
        gt=0,
        le=0.1,
        description='Change of the energy of the cell, in eV, at which it is self-consistent (EDIFF). Forces are off '
        'to first order in what is left of the density, the energy to second, so it is tighter than energies need.',
    )
    max_scf_steps: int = Field(
        100, ge=1, le=1000, description='A frame that needs more electronic steps has not converged (NELM).'
    )
    algorithm: Literal['Normal', 'Fast', 'VeryFast', 'All', 'Damped'] = Field(
        'Normal', description='How the electrons are converged (ALGO).'
    )
    kpar: int = Field(1, ge=1, description='Groups of ranks that share the k-points of a frame (KPAR).')
    ncore: int = Field(1, ge=1, description='Ranks that work on one orbital (NCORE).')
    incar: Annotated[dict[str, bool | int | float | str], AfterValidator(_tags)] = Field(
        default_factory=dict,
        description='Further tags of the INCAR by name in capitals, such as LASPH: true. They may change what is said '
        'above: ISPIN: 2 turns on spin, ISYM: 2 symmetry.',
    )
    ranks_per_frame: int | None = Field(
        None, ge=1, description='MPI ranks of one frame; all of the job, shared by the frames side by side, if null.'
    )
    frames_at_once: int = Field(
        1,
        ge=1,
        le=4096,
        description='Frames side by side in the job. Several `mpirun` must not be bound to the same cores: give the '
        'option mpirun_extra_params, such as --bind-to none (Open MPI) or --exact (srun).',
    )
    python: str = Field(
        'python3',
        pattern=r'^[A-Za-z0-9_./+-]+$',
        description='The Python on the computer that runs the batch, 3.6 or later; it needs no packages.',
    )


#: Tags that are not a person's to give, and the setting that each one follows from.
OWN_TAGS = {
    'ENCUT': 'cutoff_eV',
    'GGA': 'xc',
    'ISMEAR': 'smearing_order',
    'SIGMA': 'smearing_eV',
    'EDIFF': 'energy_tolerance_eV',
    'NELM': 'max_scf_steps',
    'ALGO': 'algorithm',
    'KPAR': 'kpar',
    'NCORE': 'ncore',
    'KSPACING': 'kpoint_spacing_per_A',
    'KGAMMA': 'kpoint_spacing_per_A',
    **dict.fromkeys(('NSW', 'IBRION', 'ISIF', 'PSTRESS'), 'one energy, its forces and its stress for each frame'),
    **dict.fromkeys(('LWAVE', 'LCHARG'), 'what they write is not kept'),
    **dict.fromkeys(('ISTART', 'ICHARG'), 'each frame begins anew, and its density is made self-consistent'),
    'MAGMOM': 'it belongs to the atoms of one frame, and the tags are those of all',
}


def incar_tags(settings: VaspSettings) -> dict[str, bool | int | float | str]:
    """The tags of the INCAR, the same for each frame."""
    return {
        'PREC': 'Accurate',  # no wrap-around errors in the forces
        'ENCUT': settings.cutoff_eV,
        'GGA': FUNCTIONALS[settings.xc],
        'ISMEAR': settings.smearing_order,
        'SIGMA': settings.smearing_eV,
        'EDIFF': settings.energy_tolerance_eV,
        'NELM': settings.max_scf_steps,
        'NELMIN': min(4, settings.max_scf_steps),  # two small steps at the beginning are no convergence
        'ALGO': settings.algorithm,
        'ISPIN': 1,
        'ISYM': 0,  # a frame from a hot run has no symmetry worth looking for; k and -k still count once
        'LREAL': False,  # projection in reciprocal space: real-space projectors move energies by meV/atom
        'NSW': 0,
        'IBRION': -1,
        'ISIF': 2,  # forces and the whole stress
        'LWAVE': False,
        'LCHARG': False,
        'KPAR': settings.kpar,
        'NCORE': settings.ncore,
        **settings.incar,
    }


def relevant_tags(settings: VaspSettings) -> dict[str, bool | int | float | str]:
    """The tags that labels depend on."""
    return {name: value for name, value in incar_tags(settings).items() if name not in PARALLEL_TAGS}


def incar_text(settings: VaspSettings) -> str:
    """The INCAR."""

    def written(value: bool | int | float | str) -> str:
        if isinstance(value, bool):
            return '.TRUE.' if value else '.FALSE.'
        return str(value)

    return ''.join(f'{name} = {written(value)}\n' for name, value in incar_tags(settings).items())


def mesh_and_shift(atoms: Atoms, settings: VaspSettings) -> tuple[list[int], list[float]]:
    """Divisions of the k-point mesh and its shift from Γ in units of the spacing: the Monkhorst-Pack mesh.

    Monkhorst and Pack put an even mesh half a spacing off Γ and an odd one on it (doi:10.1103/PhysRevB.13.5188, eq. 3);
    written as a shift, the same mesh comes out of VASP whichever way it is asked for.
    """
    mesh = list(kpoint_mesh(atoms, settings.kpoint_spacing_per_A, settings.vacuum_gap_A))
    return mesh, [0.0 if n % 2 else 0.5 for n in mesh]


def kpoints_text(atoms: Atoms, settings: VaspSettings) -> str:
    """The KPOINTS of a frame."""
    mesh, shift = mesh_and_shift(atoms, settings)
    return '\n'.join(
        ('Monkhorst-Pack', '0', 'Gamma', ' '.join(map(str, mesh)), ' '.join(f'{part:.1f}' for part in shift), '')
    )


def order_by_element(atoms: Atoms) -> NDArray:
    """Indices that bring atoms of one element together, elements by symbol: (n_atoms,) int."""
    return np.argsort(np.array(atoms.get_chemical_symbols()), kind='stable')


def poscar_text(atoms: Atoms) -> str:
    """The POSCAR of a frame, its atoms in the order of `order_by_element`, to 16 decimals."""
    text = io.StringIO()
    write_vasp(text, atoms[order_by_element(atoms)], direct=False, sort=False, vasp5=True, ignore_constraints=True)
    return text.getvalue()


def check_frame(atoms: Atoms, settings: VaspSettings) -> None:
    """Raise ValueError with the cause if VASP cannot run a frame."""
    if np.linalg.det(atoms.cell.array) < 0:
        raise ValueError('its cell is left-handed, which VASP refuses; swap two of the cell vectors')
    check_plane_waves(atoms, settings)


def cost(atoms: Atoms, settings: VaspSettings) -> float:
    """What a frame costs beside others: about as (atoms)^2 x k-points."""
    mesh, _ = mesh_and_shift(atoms, settings)
    return float(len(atoms) ** 2 * np.prod(mesh))


def plan_frame(name: str, atoms: Atoms, settings: VaspSettings) -> dict[str, Any]:
    """What the runner needs to know of one frame, but its fingerprint."""
    return {
        'name': name,
        'poscar': poscar_text(atoms),
        'kpoints': kpoints_text(atoms, settings),
        'potcar': [f'POTCAR.{symbol}' for symbol in sorted(set(atoms.get_chemical_symbols()))],
        'cost': cost(atoms, settings),
    }
