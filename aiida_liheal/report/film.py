"""Films of LAMMPS dumps, one frame in memory: MP4 by the encoder that OVITO brings, GIF by Pillow.

OVITO writes GIF as well, but holds all pictures in memory until the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ovito.data import DataCollection
from ovito.pipeline import Pipeline, PipelineSourceInterface, PythonSource
from ovito.vis import PythonViewportOverlay, Viewport, ViewportOverlayInterface
from PIL import GifImagePlugin, Image
from pydantic import Field

from aiida_liheal.analysis.trajectory import Trajectory
from aiida_liheal.report.scene import (
    SceneSettings,
    Shot,
    energy_range,
    fill,
    new_viewport,
    picture,
    renderer,
    shots,
    strip,
    time_text,
    view_of,
)

__all__ = ('FORMATS', 'FilmSettings', 'make_film')

#: Endings of files that can be written.
FORMATS = ('.gif', '.mp4')


class FilmSettings(SceneSettings):
    """What a film shows and how fast."""

    every: int = Field(default=1, ge=1, description='show each n-th frame of the dump; the last one always')
    frames_per_s: int = Field(default=10, ge=1, le=50, description='frames of the film in a second')


class _Source(PipelineSourceInterface):
    """Hands frame after frame to OVITO; it asks for them in their order, and now and then for one twice."""

    def __init__(self, begin: Callable[[], Iterator[Shot]], n_frames: int) -> None:
        self._begin, self._n_frames = begin, n_frames
        self._shots = begin()
        self._number = -1
        self.shot: Shot

    def compute_trajectory_length(self, **_: Any) -> int:
        return self._n_frames

    def create(self, data: DataCollection, *, frame: int, **_: Any) -> None:
        if frame < self._number:
            self._shots, self._number = self._begin(), -1
        while self._number < frame:
            self.shot = next(self._shots)
            self._number += 1
        fill(data, self.shot)


class _Strip(ViewportOverlayInterface):
    """Draws the strip with the time of the frame that is shown."""

    def __init__(self, draw: Callable[[Shot], Image.Image], source: _Source, share: float) -> None:
        self._draw, self._source, self._share = draw, source, share

    def render(self, canvas: Any, **_: Any) -> None:
        from PySide6.QtGui import QImage

        image = self._draw(self._source.shot)
        pixels = image.tobytes()
        drawn = QImage(pixels, image.width, image.height, 3 * image.width, QImage.Format.Format_RGB888).copy()
        canvas.draw_image(drawn, pos=(0, 0), size=(1, self._share), anchor='south west')


def make_film(
    dumps: Sequence[str | Path],
    path: str | Path,
    settings: FilmSettings,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a film of a run.

    Parameters
    ----------
    dumps : sequence of path
        Its dumps in the order of its restarts.
    path : path
        The file to write, ending in one of `FORMATS`; one that is there is replaced when the film is whole.
    settings : FilmSettings
        What is shown.
    progress : callable, optional
        Told the number of each frame as it is read, and how many there are.

    Returns
    -------
    int
        Number of frames.

    Raises
    ------
    ValueError
        If the ending of the file is none of `FORMATS`.
    TrajectoryError
        If the dumps cannot be read, or lack the column that the colours need.
    RuntimeError
        If there is no graphics to draw with.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f'{path.name}: a film ends in {" or ".join(FORMATS)}')
    trajectory = Trajectory.index(dumps)
    wanted = sorted({*range(0, len(trajectory), settings.every), len(trajectory) - 1})
    limits = energy_range([trajectory], settings)
    view = view_of(shots(trajectory, sorted({wanted[0], wanted[-1]}), settings, limits), settings)
    width, row = settings.width_px // 2 * 2, max(26, settings.width_px // 24)
    # encoders want even numbers
    height = round(min(1.6, max(0.25, view.size_A[1] / view.size_A[0])) * width / 2) * 2 + 2 * row
    viewport, scale = new_viewport(view, settings, (width, height), 2 * row)

    def begin() -> Iterator[Shot]:
        for number, shot in enumerate(shots(trajectory, wanted, settings, limits)):
            if progress is not None:
                progress(number + 1, len(wanted))
            yield shot

    def below(shot: Shot) -> Image.Image:
        return strip(width, row, scale, time_text(shot.time_ps), limits)

    part = path.with_name(f'.{path.stem}.part{path.suffix}')
    try:
        if path.suffix == '.gif':
            pictures = (_whole(picture(viewport, shot, (width, height)), below(shot)) for shot in begin())
            _write_gif(pictures, part, settings.frames_per_s)
        else:
            _write_mp4(viewport, _Source(begin, len(wanted)), below, 2 * row / height, (width, height), part, settings)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return len(wanted)


def _whole(above: Image.Image, below: Image.Image) -> Image.Image:
    """A picture with its strip."""
    above.paste(below, (0, above.height - below.height))
    return above


def _write_gif(pictures: Iterator[Image.Image], path: Path, frames_per_s: int) -> None:
    """Write pictures as they come, each with its own colours; Pillow's `save` would keep them all."""
    with path.open('wb') as stream:
        for number, image in enumerate(pictures):
            reduced = image.quantize(256, dither=Image.Dither.NONE)
            if number == 0:
                header, _ = GifImagePlugin.getheader(reduced, info={'loop': 0})
                stream.writelines(header)
            # in hundredths of a second, as the format knows no other unit
            duration = round(100 / frames_per_s) * 10
            stream.writelines(GifImagePlugin.getdata(reduced, duration=duration, include_color_table=True))
        stream.write(b';')


def _write_mp4(
    viewport: Viewport,
    source: _Source,
    below: Callable[[Shot], Image.Image],
    share: float,
    size: tuple[int, int],
    path: Path,
    settings: FilmSettings,
) -> None:
    """Let OVITO write the film of a source, with a strip that takes a share of its height."""
    overlay = PythonViewportOverlay(delegate=_Strip(below, source, share))
    viewport.overlays.append(overlay)
    pipeline = Pipeline(source=PythonSource(delegate=source))
    pipeline.add_to_scene()
    try:
        viewport.render_anim(str(path), size=size, fps=settings.frames_per_s, background=(1, 1, 1), renderer=renderer())
    finally:
        pipeline.remove_from_scene()
