"""Parser of a batch of VASP runs: the labelled frames, and what became of the others."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from aiida.engine import ExitCode
from aiida.orm import Dict
from aiida.parsers import Parser

from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines.vasp.calculation import VaspBatchCalculation, frame_name
from aiida_liheal.engines.vasp.reading import Labels, RunError, read_run, vasp_version
from aiida_liheal.parsers.common import read_text
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.labels import label_frames, labels_to_arrays

__all__ = ('VaspBatchParser',)


def read_packed(path: Path) -> str | None:
    """Text of a packed file; of one that is cut off, what can be read; None if there is none."""
    if not path.is_file():
        return None
    pieces = []
    try:
        with gzip.open(path, 'rt', encoding='utf-8', errors='replace') as handle:
            while piece := handle.read(1 << 20):
                pieces.append(piece)
    except (EOFError, OSError, zlib.error):
        pass  # cut off: what is missing is found missing when the text is read
    return ''.join(pieces)


class VaspBatchParser(Parser):
    """Parser of `VaspBatchCalculation`."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Turn what each frame left into one shard; keep what an interrupted job finished."""
        codes = self.exit_codes
        try:
            status = json.loads(read_text(self.retrieved, VaspBatchCalculation.STATUS))
        except ValueError as error:
            return codes.ERROR_NO_OUTPUT.format(
                name=VaspBatchCalculation.STATUS, cause=self._last_line('label.err') or error
            )
        given = self.node.inputs.frames
        frames = given.get_frames()
        folder = Path(kwargs['retrieved_temporary_folder']) / VaspBatchCalculation.DONE
        labels, told, version = self._read(folder, frames)
        self.out('summary', Dict(self._summary(status, told, len(frames), version)))
        if labels:
            self.out('frames', FramesData(label_frames(frames, labels_to_arrays(labels), told), domain=given.domain))
        if status['error']:
            return codes.ERROR_VASP_DOES_NOT_START.format(cause=status['error'])
        if len(told) < len(frames):
            cause = status['stopped_by'] or 'it was killed'
            return codes.ERROR_INTERRUPTED.format(n_done=len(told), n_given=len(frames), cause=cause)
        if not labels:
            return codes.ERROR_NOTHING_CONVERGED.format(n_given=len(frames), cause=told[0]['cause'])
        return None

    @staticmethod
    def _read(folder: Path, frames: Frames) -> tuple[dict[int, Labels], list[dict[str, Any]], str | None]:
        """Labels by frame; what became of each frame that was tried; the version of VASP."""
        labels, told, version = {}, [], None
        for index, atoms in enumerate(frames):
            name = frame_name(index)
            try:
                record = json.loads((folder / f'{name}.json').read_text(encoding='utf-8'))
            except (OSError, ValueError):
                continue  # no record, or half a one: not done
            vasprun, outcar = (read_packed(folder / f'{name}.{kept}.gz') for kept in ('vasprun.xml', 'OUTCAR'))
            line: dict[str, Any] = {'index': index, 'status': 'converged', 'cause': '', 'seconds': record['seconds']}
            try:
                labels[index] = read_run(vasprun, outcar, atoms)
                line['scf_steps'] = labels[index].scf_steps
                version = version or vasp_version(vasprun or '')
            except RunError as problem:
                said = f'{problem}; {record["cause"]}' if record['cause'] else str(problem)
                line |= {'status': 'dropped', 'cause': said}
            told.append(line)
        return labels, told, version

    def _summary(
        self, status: dict[str, Any], told: list[dict[str, Any]], n_given: int, version: str | None
    ) -> dict[str, Any]:
        seconds = [line['seconds'] for line in told if line['status'] == 'converged']
        potentials = {
            symbol: {name: node.base.attributes.get(name, None) for name in ('full_name', 'title', 'sha512')}
            for symbol, node in sorted(self.node.inputs.potentials.items())
        }
        return {
            'engine': 'vasp',
            'n_given': n_given,
            'n_made': len(seconds),
            'n_dropped': len(told) - len(seconds),
            'n_not_tried': n_given - len(told),
            'dropped': [{'index': f['index'], 'cause': f['cause']} for f in told if f['status'] != 'converged'],
            'seconds_per_frame': float(np.mean(seconds)) if seconds else None,
            'wall_s': status['wall_s'],
            'versions': {'vasp': version, 'python': status['python'], 'potentials': potentials},
            'settings': self.node.inputs.settings.get_dict(),
        }

    def _last_line(self, name: str) -> str:
        """The last line of a retrieved file."""
        lines = read_text(self.retrieved, name).split('\n')
        return next((line.strip() for line in reversed(lines) if line.strip()), '')
