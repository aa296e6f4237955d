"""GPAW: PAW in plane waves, without a licence; several frames side by side, one thread each."""

from __future__ import annotations

from aiida_liheal.engines.contract import Accuracy, Engine
from aiida_liheal.engines.gpaw.calculation import GpawCalculation, GpawSettings
from aiida_liheal.runners.gpaw_label import kpoint_mesh

__all__ = ('ENGINE',)

ENGINE = Engine(
    name='gpaw',
    title='GPAW: PAW in plane waves',
    package=__name__,
    job=GpawCalculation,
    settings=GpawSettings,
    explain_batch=GpawCalculation.explain_batch,
    code='a Python in which GPAW is installed',
    accuracy={
        'cutoff_eV': Accuracy('cut-off of the plane waves', 'eV', 'larger'),
        'kpoint_spacing_per_A': Accuracy(
            'largest distance of k-points',
            '1/Å',
            'smaller',
            lambda atoms, settings: kpoint_mesh(atoms, settings.kpoint_spacing_per_A, settings.vacuum_gap_A),
        ),
    },
)
