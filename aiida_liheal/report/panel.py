"""Snapshots of several runs in one labelled picture, all at one scale, as in Figures 1 to 3 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from aiida_liheal.analysis.trajectory import Trajectory
from aiida_liheal.report.scene import (
    SceneSettings,
    Shot,
    energy_range,
    new_viewport,
    picture,
    shots,
    strip,
    time_text,
    typeface,
    view_of,
)

__all__ = ('DPI', 'Cell', 'PanelSettings', 'lay_out', 'make_panel', 'save')

#: Pixels of an inch that are noted in the file, so that a picture 2,000 pixels wide prints 17 cm wide.
DPI = 300
_INK = '#1d2733'
#: Pixels between two snapshots.
_GAP = 12


class PanelSettings(SceneSettings):
    """What a panel shows and how it is laid out."""

    width_px: int = Field(default=2000, ge=200, le=10_000, description='width of the picture in pixels')
    at_ps: tuple[float, ...] = Field(
        default=(),
        description='times in ps, a row each, one run a column; of each run the frame next to it. If not given, the '
        'last frame of each run',
    )
    columns: int | None = Field(
        default=None, ge=1, le=20, description='snapshots side by side, where there is one of each run; 3 if not given'
    )


def _nearest(label: str, trajectory: Trajectory, time_ps: float, timestep_fs: float) -> int:
    """Index of the frame next to a time; a ValueError if the run was never there."""
    times = trajectory.frames[:, 2] * timestep_fs / 1000
    index = int(np.argmin(np.abs(times - time_ps)))
    # half of the largest distance between two frames
    slack = np.diff(times).max() / 2 if len(times) > 1 else 0.0
    if not times[0] - slack - 1e-9 <= time_ps <= times[-1] + slack + 1e-9:
        raise ValueError(f'at_ps = {time_ps:g} ps: {label!r} has frames from {times[0]:g} to {times[-1]:g} ps')
    return index


def make_panel(runs: Mapping[str, Sequence[str | Path]], path: str | Path, settings: PanelSettings) -> tuple[int, int]:
    """Write a panel as PNG.

    Parameters
    ----------
    runs : mapping of str to sequence of path
        Label of each run, and its dumps in the order of its restarts.
    path : path
        The file to write, ending in `.png`; one that is there is replaced when the new one is whole.
    settings : PanelSettings
        What is shown.

    Returns
    -------
    (int, int)
        Rows and columns.

    Raises
    ------
    ValueError
        If no run is given, the ending is not `.png`, or a run was never at a time that is asked for.
    TrajectoryError
        If a dump cannot be read, or lacks the column that the colours need.
    RuntimeError
        If there is no graphics to draw with.
    """
    path = Path(path)
    if path.suffix != '.png':
        raise ValueError(f'{path.name}: a panel ends in .png')
    if not runs:
        raise ValueError('no run given; one is needed')
    trajectories = {label: Trajectory.index(dumps) for label, dumps in runs.items()}
    wanted = {
        label: [_nearest(label, one, time, settings.timestep_fs) for time in settings.at_ps] or [len(one) - 1]
        for label, one in trajectories.items()
    }
    limits = energy_range(trajectories.values(), settings)
    taken: dict[str, dict[int, Shot]] = {}
    for label, trajectory in trajectories.items():
        indices = sorted(set(wanted[label]))
        taken[label] = dict(zip(indices, shots(trajectory, indices, settings, limits), strict=True))
    n_rows = len(settings.at_ps) or 1
    shown = [(label, taken[label][wanted[label][row]]) for row in range(n_rows) for label in runs]
    columns = min(settings.columns or 3, len(runs)) if n_rows == 1 else len(runs)
    # of several times the runs have the letters, as in Figure 1 of the paper; of one time the snapshots, as in Figure 3
    letters = [
        f'{ascii_lowercase[k % columns if n_rows > 1 else k]}) ' if len(runs) <= 26 else '' for k in range(len(shown))
    ]
    cells = [
        Cell(f'{letters[k]}{label}, {time_text(shot.time_ps)}' if k < len(runs) else time_text(shot.time_ps), '', shot)
        for k, (label, shot) in enumerate(shown)
    ]
    save(lay_out(cells, columns, settings, limits), path)
    return -(-len(cells) // columns), columns


@dataclass(frozen=True)
class Cell:
    """A snapshot of a panel with its heading and a second line, empty if there is nothing to say."""

    heading: str
    remark: str
    shot: Shot


def lay_out(
    cells: Sequence[Cell], columns: int, settings: SceneSettings, limits: tuple[float, float] | None
) -> Image.Image:
    """Snapshots side by side, all at one scale, with a scale bar and the meaning of the colours below.

    Raises
    ------
    RuntimeError
        If there is no graphics to draw with.
    """
    rows = -(-len(cells) // columns)
    view = view_of([cell.shot for cell in cells], settings)
    width = (settings.width_px - (columns - 1) * _GAP) // columns
    height = round(min(2.0, max(0.1, view.size_A[1] / view.size_A[0])) * width)
    line = max(24, settings.width_px // 42)
    head = line + (round(0.8 * line) if any(cell.remark for cell in cells) else 0)
    viewport, scale = new_viewport(view, settings, (width, height))
    whole = (columns * width + (columns - 1) * _GAP, rows * (head + height))
    below = strip(whole[0], round(1.15 * line), scale, '', limits)
    image = Image.new('RGB', (whole[0], whole[1] + below.height), 'white')
    draw = ImageDraw.Draw(image)
    for number, cell in enumerate(cells):
        x, y = number % columns * (width + _GAP), number // columns * (head + height)
        for text, size, middle in ((cell.heading, 0.62, line // 2), (cell.remark, 0.5, round(1.3 * line))):
            draw.text((x + 4, y + middle), text, fill=_INK, font=_fitting(text, round(size * line), width), anchor='lm')
        image.paste(picture(viewport, cell.shot, (width, height)), (x, y + head))
    image.paste(below, (0, whole[1]))
    return image


def _fitting(text: str, size_px: int, width_px: int) -> Any:
    """A font of this size, or as much smaller as the text needs to fit, down to a half."""
    font = typeface(size_px)
    if text and (length := font.getlength(text)) > width_px - 8:
        font = typeface(max(size_px // 2, int(size_px * (width_px - 8) / length)))
    return font


def save(image: Image.Image, path: Path) -> None:
    """Write a picture as PNG; one that is there is replaced when the new one is whole."""
    part = path.with_name(f'.{path.stem}.part.png')
    try:
        image.save(part, dpi=(DPI, DPI))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
