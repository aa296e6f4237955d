"""Parser of a batch of GPAW labels: the labelled frames, and what became of the others."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from aiida.engine import ExitCode
from aiida.orm import Dict
from aiida.parsers import Parser

from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines.gpaw.calculation import GpawCalculation
from aiida_liheal.parsers.common import read_text
from aiida_liheal.structures.labels import label_frames, summarise_batch

__all__ = ('GpawParser',)


class GpawParser(Parser):
    """Parser of `GpawCalculation`."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Turn the retrieved files into outputs; keep what an interrupted job finished."""
        codes = self.exit_codes
        try:
            status = json.loads(read_text(self.retrieved, GpawCalculation.STATUS))
            summary = summarise_batch('gpaw', status, self.node.inputs.settings.get_dict())
        except (ValueError, KeyError) as error:
            return codes.ERROR_NO_OUTPUT.format(name=GpawCalculation.STATUS, cause=self._last_line() or error)
        self.out('summary', Dict(summary))
        if status['error']:
            missing_gpaw = status['error']['kind'] == 'gpaw_missing'
            code = codes.ERROR_GPAW_MISSING if missing_gpaw else codes.ERROR_SETUP_MISSING
            return code.format(cause=status['error']['message'])

        path = Path(kwargs['retrieved_temporary_folder']) / GpawCalculation.LABELS
        given = self.node.inputs.frames
        try:
            with np.load(path, allow_pickle=False) as archive:
                labelled = label_frames(given.get_frames(), dict(archive), status['frames'])
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            return codes.ERROR_NO_OUTPUT.format(name=GpawCalculation.LABELS, cause=error)
        if len(labelled):
            self.out('frames', FramesData(labelled, domain=given.domain))
        if not status['complete']:
            return codes.ERROR_INTERRUPTED.format(n_done=len(status['frames']), n_given=status['n_given'])
        if not len(labelled):
            return codes.ERROR_NOTHING_CONVERGED.format(n_given=status['n_given'], cause=summary['dropped'][0]['cause'])
        return None

    def _last_line(self) -> str:
        """The last line that the job wrote to its standard error."""
        lines = read_text(self.retrieved, 'label.err').split('\n')
        return next((line.strip() for line in reversed(lines) if line.strip()), '')
