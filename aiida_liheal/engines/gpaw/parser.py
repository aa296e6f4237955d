"""Parser of a batch of GPAW labels."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode

from aiida_liheal.engines.parser import PythonBatchParser

__all__ = ('GpawParser',)


class GpawParser(PythonBatchParser):
    """Parser of `GpawCalculation`."""

    def explain_error(self, error: Any) -> ExitCode:
        """GPAW or a setup of it is missing."""
        codes = self.exit_codes
        code = codes.ERROR_GPAW_MISSING if error['kind'] == 'gpaw_missing' else codes.ERROR_SETUP_MISSING
        return code.format(cause=error['message'])
