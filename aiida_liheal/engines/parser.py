"""Parsers of all engines: from what a runner left to one shard, one summary and an exit code."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from aiida.engine import ExitCode
from aiida.orm import Dict
from aiida.parsers import Parser
from numpy.typing import NDArray

from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines.batch import BatchCalculation, PythonBatchCalculation
from aiida_liheal.parsers.common import read_text
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.labels import label_frames, labels_to_arrays, summarise_batch

__all__ = ('BatchParser', 'PythonBatchParser')


class BatchParser(Parser):
    """Parser of a `BatchCalculation`; what an interrupted job finished is kept."""

    def read_labels(
        self, folder: Path, given: Frames, status: dict[str, Any]
    ) -> tuple[dict[str, NDArray], list[dict[str, Any]], dict[str, Any]]:
        """The labels, as `label_frames` takes them, a record for each frame that was tried, and versions.

        A record has `index`, `status` (`converged` or not), `cause`, `seconds` and what else is known.

        Raises
        ------
        OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile
            If they cannot be read.
        """
        raise NotImplementedError

    def explain_error(self, error: Any) -> ExitCode:
        """The exit code of what kept the runner from labelling anything, as it says it in its status."""
        raise NotImplementedError

    def parse(self, **kwargs: Any) -> ExitCode:
        """Turn the retrieved files into outputs."""
        codes = self.exit_codes
        given = self.node.inputs.frames
        frames = given.get_frames()
        name = BatchCalculation.STATUS
        try:
            status = json.loads(read_text(self.retrieved, name))
            error, stopped_by, wall_s = status['error'], status.get('stopped_by'), status['wall_s']
            if status.get('has_begun', True):
                name = 'labels'
                labels, records, versions = self.read_labels(Path(kwargs['retrieved_temporary_folder']), frames, status)
            elif self._last_words():
                raise ValueError('the runner did not begin')
            else:
                # killed before it began: what lies there is of another job
                labels, records, versions = labels_to_arrays({}), [], {}
            labelled = label_frames(frames, labels, records)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as problem:
            said = self._last_words() if name == BatchCalculation.STATUS else ''
            return codes.ERROR_NO_OUTPUT.format(name=name, cause=said or problem)
        engine = self.node.process_class.ENGINE
        settings = self.node.inputs.settings.get_dict()
        summary = summarise_batch(engine, len(frames), records, wall_s, versions, settings)
        self.out('summary', Dict(summary))
        if len(labelled):
            self.out('frames', FramesData(labelled, domain=given.domain))
        if error:
            return self.explain_error(error)
        if len(records) < len(frames):
            said = self._last_words()
            cause = stopped_by or 'it was killed' + (f'; the last that it said: {said}' if said else '')
            return codes.ERROR_INTERRUPTED.format(n_done=len(records), n_given=len(frames), cause=cause)
        if not len(labelled):
            return codes.ERROR_NOTHING_CONVERGED.format(n_given=len(frames), cause=summary['dropped'][0]['cause'])
        # not None: Slurm calls a job out of memory if it killed a single frame of it, and that would be the end of all
        return ExitCode(0)

    def _last_words(self) -> str:
        """The last line that the job wrote to its standard error."""
        lines = read_text(self.retrieved, 'label.err').split('\n')
        return next((line.strip() for line in reversed(lines) if line.strip()), '')


class PythonBatchParser(BatchParser):
    """Parser of a `PythonBatchCalculation`."""

    def read_labels(
        self, folder: Path, given: Frames, status: dict[str, Any]
    ) -> tuple[dict[str, NDArray], list[dict[str, Any]], dict[str, Any]]:
        """Those in `labels.npz`; the runner tells the records and versions in its status."""
        with np.load(folder / PythonBatchCalculation.LABELS, allow_pickle=False) as archive:
            return dict(archive), status['frames'], status['versions']
