"""Readers for what DeePMD-kit writes: the learning curve, and the log of `dp test`."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ('last_error', 'parse_learning_curve', 'parse_test_log', 'pool_errors')

_SYSTEM = re.compile(r'# testing system : (\S+)')
_COUNT = re.compile(r'# number of test data : (\d+)')
_VALUE = re.compile(r'(Energy RMSE/Natoms|Force\s+RMSE|Virial RMSE/Natoms)\s*: ([-+0-9.eEnaif]+) eV')
_NAMES = {
    'Energy RMSE/Natoms': 'energy_rmse_meV_per_atom',
    'Force RMSE': 'force_rmse_meV_per_A',
    'Virial RMSE/Natoms': 'virial_rmse_meV_per_atom',
}


def parse_learning_curve(text: str) -> dict[str, NDArray]:
    """Columns of `lcurve.out` by name, each (n_points,) float; a last line that was cut off is left out.

    Empty if there is no header or no row.
    """
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith('\n'):
        # half a number looks like a whole one
        lines.pop()
    header = next((line[1:].split() for line in lines if line.startswith('#') and 'step' in line), None)
    if header is None:
        return {}
    rows: dict[int, list[float]] = {}
    for line in lines:
        if line.startswith('#'):
            continue
        try:
            values = [float(part) for part in line.split()]
        except ValueError:
            continue
        if len(values) == len(header):
            # a training that went on from a checkpoint writes the steps after it again
            rows[int(values[0])] = values
    if not rows:
        return {}
    table = np.array([rows[step] for step in sorted(rows)])
    return {name: table[:, index] for index, name in enumerate(header)}


def parse_test_log(text: str) -> dict[str, dict[str, float]]:
    """Errors for each system of a `dp test` log, by the path of the system.

    Each holds `n_frames`, `energy_rmse_meV_per_atom`, `force_rmse_meV_per_A` and, where there are virials,
    `virial_rmse_meV_per_atom`.
    """
    systems: dict[str, dict[str, float]] = {}
    current: dict[str, float] | None = None
    for line in text.splitlines():
        if match := _SYSTEM.search(line):
            current = systems.setdefault(match.group(1), {})
        elif 'weighted average of errors' in line:
            break
        elif current is not None:
            if match := _COUNT.search(line):
                current['n_frames'] = int(match.group(1))
            elif match := _VALUE.search(line):
                current[_NAMES[' '.join(match.group(1).split())]] = 1000.0 * float(match.group(2))
    return {name: values for name, values in systems.items() if 'force_rmse_meV_per_A' in values}


def pool_errors(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Errors over several systems: squares weighted by frames (energy, virial) and by force components (forces).

    Each part has `n_frames`, `n_atoms` (atoms a frame) and the RMSE keys of `parse_test_log`. Raises ValueError if
    there is no part.
    """
    if not parts:
        raise ValueError('no systems to pool')
    pooled: dict[str, Any] = {'n_frames': int(sum(p['n_frames'] for p in parts))}
    for key in _NAMES.values():
        having = [p for p in parts if key in p]
        if not having:
            continue
        weights = [p['n_frames'] * (p['n_atoms'] if key.startswith('force') else 1) for p in having]
        pooled[key] = math.sqrt(sum(w * p[key] ** 2 for w, p in zip(weights, having, strict=True)) / sum(weights))
    return pooled


def last_error(text: str) -> str:
    """The line of a Python traceback or log that says what went wrong; empty if there is none."""
    candidates = [
        line.strip()
        for line in text.splitlines()
        if re.match(r'^(\w+\.)*\w*(Error|Exception|Killed|Interrupt)\b', line.strip()) or ' ERROR ' in line
    ]
    return candidates[-1][:300] if candidates else ''
