"""GPAW: PAW in plane waves, without a licence; several frames side by side, one thread each."""

from __future__ import annotations

from aiida_liheal.engines.contract import Engine
from aiida_liheal.engines.gpaw.calculation import GpawCalculation, GpawSettings
from aiida_liheal.engines.settings import PLANE_WAVES

__all__ = ('ENGINE',)

ENGINE = Engine(
    name='gpaw',
    title='GPAW: PAW in plane waves',
    package=__name__,
    job=GpawCalculation,
    settings=GpawSettings,
    explain_batch=GpawCalculation.explain_batch,
    code='a Python in which GPAW is installed',
    accuracy=PLANE_WAVES,
)
