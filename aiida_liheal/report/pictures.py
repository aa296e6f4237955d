"""Pictures of a simulation's start and end as data URIs, or the reason why there are none."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from aiida.orm import ArrayData
from numpy.typing import NDArray

from aiida_liheal.report import render
from aiida_liheal.report.colours import ENERGY_SCALE, STRUCTURE_COLOURS
from aiida_liheal.report.facts import analysis_of
from aiida_liheal.report.tree import Step

__all__ = ('Picture', 'Pictures', 'draw_pictures')

#: Longest time for the pictures of one simulation, in s.
TIMEOUT = 300


@dataclass(frozen=True)
class Picture:
    """One picture: what it shows, in words for those who do not see it, and its PNG as a data URI."""

    title: str
    description: str
    uri: str


@dataclass(frozen=True)
class Pictures:
    """The pictures of one simulation, or why there are none."""

    by_structure: list[Picture] = field(default_factory=list)
    by_energy: list[Picture] = field(default_factory=list)
    energy_range: tuple[float, float] | None = None
    trouble: str = ''


def draw_pictures(step: Step) -> Pictures | None:
    """Pictures of the first and last frame of a simulation; None if it has no snapshots."""
    prefix = '' if step.name == 'AnalyseCalculation' else 'analysis__'
    node = step.outputs.get(f'{prefix}snapshots')
    if not isinstance(node, ArrayData):
        return None
    # OVITO takes its time to import
    from aiida_liheal.analysis.phases import STRUCTURES

    arrays = {name: node.get_array(name) for name in node.get_arraynames()}
    palette = json.dumps({'structures': [STRUCTURE_COLOURS[name] for name in STRUCTURES], 'scale': ENERGY_SCALE})
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, 'arrays.npz')
        np.savez(source, allow_pickle=False, palette=np.array(palette), **arrays)
        try:
            done = subprocess.run(  # noqa: S603 (our own interpreter, fixed arguments)
                [sys.executable, '-m', render.__name__, str(source), folder],
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Pictures(trouble=f'Drawing took more than {TIMEOUT} s and was given up.')
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            cause = next((line for line in lines if 'ulkan' in line and not line.startswith('Failed')), '')
            cause = cause or (lines[-1] if lines else f'exit status {done.returncode}')
            return Pictures(trouble=f'{cause} {render.INSTALL}' if done.returncode == render.NO_GRAPHICS else cause)
        summary = analysis_of(step)
        time = {name: _when(name, arrays, summary) for name in ('first', 'last')}
        cut = ', cut through its middle' if arrays['first_pbc'].all() else ', from the side'
        pictures = {
            kind: [
                Picture(
                    time[name],
                    f'{len(arrays[f"{name}_id"])} atoms at {time[name]}{cut}, coloured by {meaning}',
                    'data:image/png;base64,' + base64.b64encode(path.read_bytes()).decode('ascii'),
                )
                for name in ('first', 'last')
                if (path := Path(folder, f'{name}_{kind}.png')).is_file()
            ]
            for kind, meaning in (('structure', 'crystal structure'), ('energy', 'potential energy'))
        }
    return Pictures(pictures['structure'], pictures['energy'], render.energy_range(arrays))


def _when(name: str, arrays: dict[str, NDArray], summary: dict[str, Any]) -> str:
    """Which frame it is, with its step and, if the analysis tells it, its time."""
    key = 'start' if name == 'first' else 'end'
    time = summary.get(key, {}).get('time_ps')
    return f'{key}, step {int(arrays[f"{name}_step"])}' + (f' ({time:.2f} ps)' if time is not None else '')
