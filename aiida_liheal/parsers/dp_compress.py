"""Parser of the job that compresses a Deep Potential."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiida.engine import ExitCode
from aiida.parsers import Parser

from aiida_liheal.data.potential import PotentialData
from aiida_liheal.parsers.common import read_text
from aiida_liheal.parsers.dp_log import last_error

__all__ = ('DpCompressParser',)


class DpCompressParser(Parser):
    """Parser of `DpCompressCalculation`."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """The potential with both its models."""
        path = Path(kwargs['retrieved_temporary_folder']) / 'compressed.pb'
        if not path.is_file():
            cause = last_error(read_text(self.retrieved, 'compress.err')) or 'compressed.pb was not written'
            return self.exit_codes.ERROR_NO_MODEL.format(cause=cause)
        given = self.node.inputs.potential
        try:
            potential = PotentialData(
                kind='deepmd',
                elements=given.elements,
                files={'frozen': given.read('frozen'), 'input': given.read('input'), 'compressed': path},
            )
        except ValueError as error:
            return self.exit_codes.ERROR_NO_MODEL.format(cause=str(error))
        potential.label = given.label
        self.out('potential', potential)
        return None
