"""Frames of LAMMPS dumps as pictures: what is shown, from where, in which colours, with time, scale bar and legend.

Needs no AiiDA and no display. `film` and `panel` put these pictures together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from ovito.data import DataCollection
from ovito.pipeline import Pipeline, StaticSource
from ovito.vis import StandardRenderer, Viewport
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field, model_validator

from aiida_liheal.analysis.phases import STRUCTURES, averaged_positions, structure_types
from aiida_liheal.analysis.settings import AnalysisSettings
from aiida_liheal.analysis.trajectory import Frame, Trajectory, TrajectoryError
from aiida_liheal.analysis.vacuum import atoms_in_flight
from aiida_liheal.report.colours import ENERGY_SCALE, STRUCTURE_COLOURS
from aiida_liheal.report.render import colours_of_values
from aiida_liheal.structures.settings import Settings

__all__ = (
    'SceneSettings',
    'Shot',
    'View',
    'energy_range',
    'fill',
    'new_viewport',
    'picture',
    'renderer',
    'shot_of_snapshot',
    'shots',
    'strip',
    'time_text',
    'typeface',
    'view_of',
)

#: Right, up and the direction of the eye for each axis along which it looks.
_AXES = {
    'x': ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (-1.0, 0.0, 0.0)),
    'y': ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)),
    'z': ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
}
#: Radius of a ball in Å.
RADIUS_A = 1.25
#: Two lattice constants of lithium in Å: four layers of (100), as thick as no void in a crystal worth a picture.
_SLICE_A = 7.0
#: Vacuum that is shown above the atoms, as a share of their height.
_HEADROOM = 0.15
_INK, _SOFT = '#1d2733', '#5c6670'


class SceneSettings(Settings):
    """What a picture shows and how."""

    colour: Literal['structure', 'energy'] = Field(
        default='structure',
        description='structure: adaptive common neighbour analysis; energy: potential energy of an atom (column c_pe)',
    )
    along: Literal['x', 'y', 'z'] = Field(default='y', description='axis of the cell along which one looks')
    slice_A: float | None = Field(
        default=None,
        ge=0,
        description='thickness in Å of the slice through the middle that is shown, 0 for all; if not given, 7 Å in '
        'cells without a surface, where a void is seen only so, and all in others',
    )
    width_px: int = Field(default=640, ge=200, le=4000, description='width of the picture in pixels')
    energy_range_eV: tuple[float, float] | None = Field(
        default=None,
        description='energies of an atom in eV at the two ends of the colours; if not given, the 1st to 99th '
        'percentile of the first and the last frame',
    )
    timestep_fs: float = Field(
        default=1.0, gt=0, le=10, description='time step of the MD in fs; turns steps into times'
    )
    average_frames: int = Field(
        default=1,
        ge=1,
        le=100,
        description='frames of the dump, the one that is shown and those before it, over which positions are averaged '
        'to find structures; thermal motion makes single frames grey',
    )

    @model_validator(mode='after')
    def _rising(self) -> Self:
        given = self.energy_range_eV
        if given is not None and given[0] >= given[1]:
            raise ValueError(f'energy_range_eV = {given} eV: the first must be below the second')
        return self

    @property
    def axes(self) -> NDArray:
        """Right, up and the direction of the eye as rows, (3, 3)."""
        return np.array(_AXES[self.along])


@dataclass(frozen=True)
class Shot:
    """One frame, ready to be drawn.

    `positions`: (n, 3) in Å; `colours`: (n, 3) from 0 to 1; `corners`: (8, 3) of the cell in Å; `in_flight`: (n,) bool.
    """

    time_ps: float
    positions: NDArray
    colours: NDArray
    corners: NDArray
    in_flight: NDArray


@dataclass(frozen=True)
class View:
    """The rectangle that is seen, in Å along right and up, and the depth of its middle.

    `low`, `high`: (2,) float.
    """

    low: NDArray
    high: NDArray
    depth_A: float

    @property
    def size_A(self) -> NDArray:  # noqa: N802 (the unit)
        """Width and height in Å."""
        return self.high - self.low


def read_frames(trajectory: Trajectory, wanted: Sequence[int], n_before: int = 1) -> Iterator[list[Frame]]:
    """The wanted frames, each with those just before it, `n_before` in all at most; no more are in memory."""
    chosen = sorted(set(wanted))
    needed = sorted({k for index in chosen for k in range(max(0, index - n_before + 1), index + 1)})
    held: deque[tuple[int, Frame]] = deque(maxlen=n_before)
    for index, frame in zip(needed, trajectory.read(needed), strict=True):
        held.append((index, frame))
        if index in chosen:
            yield [one for k, one in held if k > index - n_before]


def energies_of(frame: Frame) -> NDArray:
    """Potential energy of each atom in eV.

    Raises
    ------
    TrajectoryError
        If the dump does not tell it.
    """
    if frame.energies is None:
        raise TrajectoryError(
            'columns', 'the dump has no column c_pe: dump it (compute pe all pe/atom), or colour by structure'
        )
    return frame.energies


def energy_range(trajectories: Iterable[Trajectory], settings: SceneSettings) -> tuple[float, float] | None:
    """Energies in eV at the ends of the colours; None if structures are coloured."""
    if settings.colour != 'energy':
        return None
    if settings.energy_range_eV is not None:
        return settings.energy_range_eV
    seen = [energies_of(frame) for one in trajectories for frame in one.read(sorted({0, len(one) - 1}))]
    low, high = np.percentile(np.concatenate(seen), [1, 99])
    return float(low), float(max(high, low + 1e-3))


def shots(
    trajectory: Trajectory, wanted: Sequence[int], settings: SceneSettings, limits: tuple[float, float] | None
) -> Iterator[Shot]:
    """The wanted frames as pictures to draw, one after another.

    Parameters
    ----------
    trajectory : Trajectory
        The run.
    wanted : sequence of int
        Indices of frames, rising.
    settings : SceneSettings
        How they are shown.
    limits : (2,) float, optional
        Energies in eV at the ends of the colours, from `energy_range`.
    """
    n_before = settings.average_frames if settings.colour == 'structure' else 1
    for frames in read_frames(trajectory, wanted, n_before):
        yield _shot(frames, settings, limits)


def _shot(frames: Sequence[Frame], settings: SceneSettings, limits: tuple[float, float] | None) -> Shot:
    frame = frames[-1]
    if limits is None:
        averaged = averaged_positions(frames) if len(frames) > 1 else None
        palette = np.array([_rgb(STRUCTURE_COLOURS[name]) for name in STRUCTURES])
        colours = palette[structure_types(frame.data, averaged)]
    else:
        colours = colours_of_values(energies_of(frame), *limits, np.array([_rgb(colour) for colour in ENERGY_SCALE]))
    time_ps = frame.step * settings.timestep_fs / 1000
    return _seen(time_ps, frame.positions, colours, frame.data, settings)


def shot_of_snapshot(
    arrays: Mapping[str, NDArray],
    frame: Literal['first', 'last'],
    time_ps: float,
    settings: SceneSettings,
    limits: tuple[float, float] | None,
) -> Shot:
    """The first or last frame of a run as its analysis keeps it, ready to be drawn.

    Parameters
    ----------
    arrays : mapping of str to array
        `snapshots` of an `AnalysisResult`: positions in Å, structures, energies in eV.
    frame : str
        Which of both.
    time_ps : float
        Its time in ps.
    settings : SceneSettings
        How it is shown.
    limits : (2,) float, optional
        Energies in eV at the ends of the colours; without them structures are coloured.

    Raises
    ------
    ValueError
        If energies are to be coloured and the snapshot has none.
    """
    if limits is None:
        palette = np.array([_rgb(STRUCTURE_COLOURS[name]) for name in STRUCTURES])
        colours = palette[arrays[f'{frame}_structure']]
    elif f'{frame}_potential_energy_eV' not in arrays:
        raise ValueError('the snapshots have no energies of atoms, as the dump had no column c_pe: colour by structure')
    else:
        energies = arrays[f'{frame}_potential_energy_eV']
        colours = colours_of_values(energies, *limits, np.array([_rgb(colour) for colour in ENERGY_SCALE]))
    positions = arrays[f'{frame}_position_A'].astype(float)
    data = DataCollection()
    matrix = np.zeros((3, 4))
    matrix[:, :3], matrix[:, 3] = arrays[f'{frame}_cell_A'].T, arrays[f'{frame}_origin_A']
    pbc = arrays[f'{frame}_pbc'].astype(bool)
    data.create_cell(matrix, pbc=(bool(pbc[0]), bool(pbc[1]), bool(pbc[2])))
    data.create_particles(count=len(positions)).create_property('Position', data=positions)
    return _seen(time_ps, positions, colours, data, settings)


def _seen(time_ps: float, positions: NDArray, colours: NDArray, data: DataCollection, settings: SceneSettings) -> Shot:
    """What is shown of the atoms of a frame, (n, 3) positions in Å and (n, 3) colours, wrapped into their cell."""
    cell, origin, pbc = np.array(data.cell[:, :3]).T, np.array(data.cell[:, 3]), np.array(data.cell.pbc, dtype=bool)
    reduced = (positions - origin) @ np.linalg.inv(cell)
    reduced[:, pbc] %= 1.0
    positions = origin + reduced @ cell
    # the sizes of lithium do for any metal: what flies is not considered in the choice of the view, and no more
    defaults = AnalysisSettings()
    cutoff = 1.207 * defaults.lattice_constant_A
    flying = atoms_in_flight(data, cutoff, defaults.flight_cluster_share)
    thickness = (_SLICE_A if pbc.all() else 0.0) if settings.slice_A is None else settings.slice_A
    if thickness:
        depth = positions @ settings.axes[2]
        shown = np.abs(depth - (depth.min() + depth.max()) / 2) <= thickness / 2
        positions, colours, flying = positions[shown], colours[shown], flying[shown]
    ends = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    corners = origin + ends @ cell
    return Shot(time_ps, positions, colours, corners, flying)


def view_of(pictured: Iterable[Shot], settings: SceneSettings) -> View:
    """The view that shows the landed atoms of all these shots, and some of the vacuum above if there is any."""
    lows, highs, tops, depths = [], [], [], []
    axes = settings.axes
    for shot in pictured:
        landed = shot.positions[~shot.in_flight] @ axes.T
        lows.append(landed[:, :2].min(axis=0) - RADIUS_A)
        highs.append(landed[:, :2].max(axis=0) + RADIUS_A)
        tops.append((shot.corners @ axes[1]).max())
        depths.append(landed[:, 2].mean())
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    room = min(max(tops) - high[1], _HEADROOM * (high[1] - low[1]))
    return View(low, high + np.array([0.0, max(0.0, room)]), float(np.mean(depths)))


def fill(data: DataCollection, shot: Shot) -> None:
    """Put the atoms of a shot into an empty data collection."""
    particles = data.create_particles(count=len(shot.positions))
    particles.create_property('Position', data=shot.positions)
    particles.create_property('Color', data=shot.colours)
    particles.vis.radius = RADIUS_A


def new_viewport(
    view: View, settings: SceneSettings, size: tuple[int, int], below_px: int = 0
) -> tuple[Viewport, float]:
    """A viewport whose picture has the view above a free strip, and its scale.

    Parameters
    ----------
    view : View
        What is seen.
    settings : SceneSettings
        From where.
    size : (2,) int
        Width and height of the picture in pixels, with the strip.
    below_px : int
        Height of the strip in pixels.

    Returns
    -------
    Viewport, float
        And the pixels of an Å.
    """
    right, up, direction = settings.axes
    scale = 0.96 * min(size[0] / view.size_A[0], (size[1] - below_px) / view.size_A[1])
    middle = (view.low + view.high) / 2
    height = middle[1] - below_px / 2 / scale
    viewport = Viewport(type=Viewport.Type.Ortho, camera_dir=tuple(direction), camera_up=tuple(up))
    viewport.camera_pos = tuple(middle[0] * right + height * up + view.depth_A * direction)
    # half the height of the picture in Å
    viewport.fov = size[1] / 2 / scale
    return viewport, float(scale)


def renderer() -> StandardRenderer:
    """What draws; it needs Vulkan, which a machine without graphics card can have in software."""
    return StandardRenderer()


def picture(viewport: Viewport, shot: Shot, size: tuple[int, int]) -> Image.Image:
    """A shot through a viewport, width and height in pixels.

    Raises
    ------
    RuntimeError
        If there is no graphics to draw with.
    """
    data = DataCollection()
    fill(data, shot)
    pipeline = Pipeline(source=StaticSource(data=data))
    pipeline.add_to_scene()
    try:
        drawn = viewport.render_image(size=size, background=(1, 1, 1), renderer=renderer())
    finally:
        pipeline.remove_from_scene()
    drawn = drawn.convertToFormat(drawn.Format.Format_RGB888)
    pixels = np.frombuffer(drawn.constBits(), np.uint8).reshape(drawn.height(), drawn.bytesPerLine())
    return Image.fromarray(pixels[:, : 3 * drawn.width()].reshape(drawn.height(), drawn.width(), 3).copy())


def strip(width_px: int, row: int, px_per_A: float, text: str, limits: tuple[float, float] | None) -> Image.Image:
    """The strip below a picture: scale bar and text in the upper row, the meaning of the colours in the lower one.

    Parameters
    ----------
    width_px, row : int
        Width, and height of one of the two rows, in pixels.
    px_per_A : float
        Pixels of an Å.
    text : str
        What is said at the right.
    limits : (2,) float, optional
        Energies in eV at the ends of the colours; without them the colours are those of structures.
    """
    image = Image.new('RGB', (width_px, 2 * row), 'white')
    draw = ImageDraw.Draw(image)
    font, pad = typeface(round(0.58 * row)), round(0.4 * row)
    length_nm = _nice(min(width_px / 5, 8 * row) / px_per_A / 10)
    length = round(10 * length_nm * px_per_A)
    thick = max(2, row // 8)
    draw.rectangle((pad, row // 2 - thick // 2, pad + length, row // 2 - thick // 2 + thick - 1), fill=_INK)
    draw.text((pad + length + pad // 2, row // 2), f'{length_nm:g} nm', fill=_INK, font=font, anchor='lm')
    draw.text((width_px - pad, row // 2), text, fill=_INK, font=font, anchor='rm')
    middle = row + row // 2
    if limits is None:
        x = float(pad)
        radius = round(0.3 * row)
        for name, colour in STRUCTURE_COLOURS.items():
            draw.ellipse((x, middle - radius, x + 2 * radius, middle + radius), fill=colour)
            x += 2 * radius + pad // 2
            word = name if name == 'other' else name.upper()
            draw.text((x, middle), word, fill=_INK, font=font, anchor='lm')
            x += draw.textlength(word, font=font) + 1.6 * pad
    else:
        low, high = (f'{value:.2f}' for value in limits)
        draw.text((pad, middle), low, fill=_INK, font=font, anchor='lm')
        x = pad + draw.textlength(low, font=font) + pad // 2
        wide = min(round(0.3 * width_px), 12 * row)
        values = np.broadcast_to(np.linspace(0, 1, wide), (round(0.6 * row), wide))
        scale = np.array([_rgb(colour) for colour in ENERGY_SCALE])
        ramp = (255 * colours_of_values(values.ravel(), 0.0, 1.0, scale)).round().astype(np.uint8)
        image.paste(Image.fromarray(ramp.reshape(*values.shape, 3)), (round(x), middle - values.shape[0] // 2))
        words = f'{high} eV, potential energy of an atom'
        draw.text((x + wide + pad // 2, middle), words, fill=_INK, font=font, anchor='lm')
    return image


def typeface(size_px: int) -> Any:
    """A font of this size: that of the system where there is one with all letters, else the one that Pillow brings."""
    try:
        return ImageFont.truetype('DejaVuSans.ttf', size_px)
    except OSError:
        return ImageFont.load_default(size_px)


def time_text(time_ps: float) -> str:
    """A time for people."""
    return f'{time_ps / 1000:.3f} ns' if time_ps >= 1000 else f'{time_ps:.2f} ps'


def _nice(value: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above `value`."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(max(step for step in (1, 2, 5) if step * power <= value * (1 + 1e-9)) * power)


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue
