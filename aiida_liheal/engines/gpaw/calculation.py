"""The job that labels a batch of frames with GPAW: free energy, forces and virial of each."""

from __future__ import annotations

from typing import Any, Literal

from aiida.engine import CalcJobProcessSpec
from ase import Atoms
from pydantic import Field

from aiida_liheal.engines.batch import PythonBatchCalculation
from aiida_liheal.engines.settings import PlaneWaveSettings, check_plane_waves

__all__ = ('GpawCalculation', 'GpawSettings')


class GpawSettings(PlaneWaveSettings):
    """Settings of `runners/gpaw_label.py`: plane waves, PAW, Methfessel-Paxton smearing, no point-group symmetry."""

    cutoff_eV: float = Field(340.0, ge=50, le=2000, description='Kinetic energy cut-off of the plane waves in eV.')
    xc: Literal['PBE', 'LDA', 'RPBE', 'revPBE'] = Field('PBE', description='Exchange and correlation functional.')
    eigensolver: Literal['rmm-diis', 'davidson', 'ppcg'] = Field('rmm-diis', description='Eigensolver of GPAW.')
    energy_tolerance_eV: float = Field(
        5e-4, gt=0, le=0.1, description='Change of the energy over three steps, in eV per valence electron.'
    )
    density_tolerance: float = Field(
        1e-3, gt=0, le=0.1, description='Change of the density, in electrons per valence electron.'
    )
    eigenstates_tolerance_eV2: float = Field(
        1e-5, gt=0, le=1e-2, description='Squared residual of the eigenstates, in eV^2 per valence electron.'
    )
    max_scf_steps: int = Field(60, ge=1, le=1000, description='A frame that needs more steps is recorded and left out.')
    n_workers: int | None = Field(
        None,
        ge=1,
        le=4096,
        description='Frames computed side by side; the cores available if null. Each is one process with one thread: '
        'with many frames to label, that uses cores better than several ranks or threads for one frame. The job gets '
        'its cores by the option resources.num_cores_per_mpiproc.',
    )


class GpawCalculation(PythonBatchCalculation):
    """Label a batch of frames with GPAW, several side by side, one thread each."""

    ENGINE = 'gpaw'
    SETTINGS = GpawSettings
    CODE = 'A Python in which GPAW is installed.'
    RUNNER = 'gpaw_label.py'
    KEPT = 'labels'
    RECORDS = 'labels/frame_*.npz'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Inputs, outputs and exit codes."""
        super().define(spec)
        spec.exit_code(
            301,
            'ERROR_GPAW_MISSING',
            message='GPAW is missing: {cause}; give a code whose Python has it (extra `engines`)',
            invalidates_cache=True,
        )
        spec.exit_code(
            303,
            'ERROR_SETUP_MISSING',
            message='a PAW setup is missing: {cause}; install it there or leave the element out',
            invalidates_cache=True,
        )

    @classmethod
    def check_frame(cls, atoms: Atoms, settings: Any) -> None:
        """Atoms are not too close, and there is vacuum where a cell is open."""
        check_plane_waves(atoms, settings)
