"""VASP through aiida-vasp: batches in one allocation; what fails there goes alone through `VaspWorkChain`."""

from __future__ import annotations

from aiida_liheal.engines.contract import Engine
from aiida_liheal.engines.settings import PLANE_WAVES
from aiida_liheal.engines.vasp.alone import VaspAloneWorkChain, family_of
from aiida_liheal.engines.vasp.calculation import VaspBatchCalculation
from aiida_liheal.engines.vasp.family import FURTHER, potentials_of
from aiida_liheal.engines.vasp.settings import VaspSettings

__all__ = ('ENGINE',)

ENGINE = Engine(
    name='vasp',
    title='VASP: PAW in plane waves, licensed',
    package=__name__,
    job=VaspBatchCalculation,
    settings=VaspSettings,
    explain_batch=VaspBatchCalculation.explain_batch,
    code='VASP, as for aiida-vasp',
    further=FURTHER,
    prepare=potentials_of,
    alone=VaspAloneWorkChain,
    prepare_alone=family_of,
    accuracy=PLANE_WAVES,
)
