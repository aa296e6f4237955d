"""The job that labels a batch of frames with a calculator of ASE by name; for methods development."""

from __future__ import annotations

from typing import Any

from aiida.engine import CalcJobProcessSpec
from ase import Atoms
from ase.calculators.calculator import get_calculator_class
from ase.calculators.calculator import names as calculator_names
from pydantic import Field, field_validator, model_validator

from aiida_liheal.engines.batch import PythonBatchCalculation
from aiida_liheal.structures.checks import check_no_overlap
from aiida_liheal.structures.settings import Settings

__all__ = ('AseCalculation', 'AseSettings')

#: Calculators that are Python in ASE itself and take a keyword that they do not know without a word.
_OWN = ('emt', 'lj', 'morse')


class AseSettings(Settings):
    """Settings of a batch with a calculator of ASE."""

    # there is none that would do for any element
    calculator: str = Field(description='Name of a calculator of ASE, such as lj (Lennard-Jones) or morse.')
    parameters: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description='Keywords of the calculator, in the units of ASE (eV, Å).'
    )
    min_distance_A: float = Field(
        0.5, gt=0, description='Frames with atoms closer than this, in Å, are refused before anything is submitted.'
    )

    @field_validator('calculator')
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in calculator_names:
            raise ValueError(f'ASE has no such calculator; known are {", ".join(sorted(calculator_names))}')
        return name

    @model_validator(mode='after')
    def _known_parameters(self) -> AseSettings:
        if self.calculator in _OWN:
            known = get_calculator_class(self.calculator).default_parameters
            unknown = sorted(set(self.parameters) - set(known))
            if unknown:
                raise ValueError(
                    f'parameters.{unknown[0]}: {self.calculator} of ASE has no such keyword; it has {", ".join(known)}'
                )
        return self


class AseCalculation(PythonBatchCalculation):
    """Label a batch of frames with a calculator of ASE by name, one after another."""

    ENGINE = 'ase'
    SETTINGS = AseSettings
    CODE = 'A Python in which ASE is installed, and what the calculator needs.'
    RUNNER = 'ase_label.py'
    KEPT = PythonBatchCalculation.LABELS

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Inputs, outputs and exit codes."""
        super().define(spec)
        spec.exit_code(
            301,
            'ERROR_CALCULATOR',
            message='the calculator cannot be made: {cause}; see its parameters, and what is installed in the Python',
            invalidates_cache=True,
        )

    @classmethod
    def check_frame(cls, atoms: Atoms, settings: Any) -> None:
        """Atoms are not too close."""
        check_no_overlap(atoms, settings.min_distance_A)
