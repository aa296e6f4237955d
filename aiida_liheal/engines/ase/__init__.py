"""Any calculator of ASE by name: thin, for methods development; what its numbers mean is up to the calculator."""

from __future__ import annotations

from aiida_liheal.engines.ase.calculation import AseCalculation, AseSettings
from aiida_liheal.engines.contract import Engine

__all__ = ('ENGINE',)

ENGINE = Engine(
    name='ase',
    title='any calculator of ASE by name, for methods development',
    package=__name__,
    job=AseCalculation,
    settings=AseSettings,
    explain_batch=AseCalculation.explain_batch,
    code='a Python in which ASE is installed, and what the calculator needs',
)
