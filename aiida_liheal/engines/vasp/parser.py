"""Parser of a batch of VASP runs: the labelled frames, and what became of the others."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from aiida.engine import ExitCode
from numpy.typing import NDArray

from aiida_liheal.engines.parser import BatchParser
from aiida_liheal.engines.vasp.calculation import VaspBatchCalculation, frame_name
from aiida_liheal.engines.vasp.reading import RunError, read_run, vasp_version
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.labels import labels_to_arrays

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


class VaspBatchParser(BatchParser):
    """Parser of `VaspBatchCalculation`."""

    def read_labels(
        self, folder: Path, given: Frames, status: dict[str, Any]
    ) -> tuple[dict[str, NDArray], list[dict[str, Any]], dict[str, Any]]:
        """Those in what VASP left of each frame."""
        labels, told, version = {}, [], None
        done = folder / VaspBatchCalculation.KEPT
        for index, atoms in enumerate(given):
            name = frame_name(index)
            try:
                record = json.loads((done / f'{name}.json').read_text(encoding='utf-8'))
            except (OSError, ValueError):
                continue  # no record, or half a one: not done
            vasprun, outcar = (read_packed(done / f'{name}.{kept}.gz') for kept in ('vasprun.xml', 'OUTCAR'))
            line: dict[str, Any] = {'index': index, 'status': 'converged', 'cause': '', 'seconds': record['seconds']}
            try:
                labels[index] = read_run(vasprun, outcar, atoms)
                line['scf_steps'] = labels[index].scf_steps
                version = version or vasp_version(vasprun or '')
            except RunError as problem:
                said = f'{problem}; {record["cause"]}' if record['cause'] else str(problem)
                line |= {'status': 'dropped', 'cause': said}
            told.append(line)
        potentials = {
            symbol: {name: node.base.attributes.get(name, None) for name in ('full_name', 'title', 'sha512')}
            for symbol, node in sorted(self.node.inputs.potentials.items())
        }
        return labels_to_arrays(labels), told, {'vasp': version, 'python': status['python'], 'potentials': potentials}

    def explain_error(self, error: Any) -> ExitCode:
        """VASP does not start."""
        return self.exit_codes.ERROR_VASP_DOES_NOT_START.format(cause=error)
