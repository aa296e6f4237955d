"""Parser of a batch of labels by a calculator of ASE."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode

from aiida_liheal.engines.parser import PythonBatchParser

__all__ = ('AseParser',)


class AseParser(PythonBatchParser):
    """Parser of `AseCalculation`."""

    def explain_error(self, error: Any) -> ExitCode:
        """The calculator cannot be made."""
        return self.exit_codes.ERROR_CALCULATOR.format(cause=error)
