"""VASP through aiida-vasp: batches in one allocation; what fails there goes alone through `VaspWorkChain`."""

from __future__ import annotations

from aiida_liheal.engines.contract import Accuracy, Engine
from aiida_liheal.engines.vasp.alone import VaspAloneWorkChain, family_of
from aiida_liheal.engines.vasp.calculation import VaspBatchCalculation
from aiida_liheal.engines.vasp.family import FURTHER, potentials_of
from aiida_liheal.engines.vasp.settings import VaspSettings, mesh_and_shift

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
    accuracy={
        'cutoff_eV': Accuracy('cut-off of the plane waves', 'eV', 'larger'),
        'kpoint_spacing_per_A': Accuracy(
            'largest distance of k-points',
            '1/Å',
            'smaller',
            lambda atoms, settings: tuple(mesh_and_shift(atoms, settings)[0]),
        ),
    },
)
