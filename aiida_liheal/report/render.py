"""Pictures of the first and last frame of a simulation, by OVITO; a script of its own: `python -m ... ARRAYS FOLDER`.

It runs in a process of its own, so that whatever the graphics driver does ends no report. It needs no AiiDA.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Width and height of a picture in pixels.
SIZE = (640, 520)
#: Exit status if there is no graphics to draw with.
NO_GRAPHICS = 3
#: What to do then.
INSTALL = (
    'Drawing needs Vulkan. On Debian and Ubuntu: apt-get install libvulkan1 mesa-vulkan-drivers (no graphics card '
    'needed), then do this again.'
)


def energy_range(arrays: dict[str, NDArray]) -> tuple[float, float] | None:
    """Range of the colours of potential energies in eV: 1st to 99th percentile of both frames together."""
    energies = [arrays[key] for key in ('first_potential_energy_eV', 'last_potential_energy_eV') if key in arrays]
    if len(energies) < 2:
        return None
    low, high = np.percentile(np.concatenate(energies), [1, 99])
    return float(low), float(max(high, low + 1e-6))


def colours_of_values(values: NDArray, low: float, high: float, scale: NDArray) -> NDArray:
    """(n, 3) colours by linear interpolation in a scale of (m, 3) colours."""
    place = np.clip((values.astype(float) - low) / (high - low), 0, 1)
    grid = np.linspace(0, 1, len(scale))
    return np.stack([np.interp(place, grid, scale[:, k]) for k in range(3)], axis=1)


def draw(arrays: dict[str, NDArray], frame: str, colours: NDArray, path: Path | None, fov: float | None) -> float:
    """Draw one frame: slabs from the side, crystals cut through their middle.

    Without a path nothing is drawn; what comes back is the height of the view, in Å, that shows all of the frame.
    """
    from ovito.data import DataCollection
    from ovito.pipeline import Pipeline, StaticSource
    from ovito.vis import TachyonRenderer, Viewport

    positions = arrays[f'{frame}_position_A'].astype(float)
    cell, origin = arrays[f'{frame}_cell_A'], arrays[f'{frame}_origin_A']
    pbc = arrays[f'{frame}_pbc'].astype(bool)
    inverse = np.linalg.inv(cell)
    reduced = (positions - origin) @ inverse
    reduced[:, pbc] %= 1.0
    positions = origin + reduced @ cell
    is_crystal = bool(pbc.all())
    if is_crystal:
        # the void is in the middle: without the front half it is seen
        shown = reduced[:, 1] >= 0.5
        positions, colours = positions[shown], colours[shown]

    data = DataCollection()
    matrix = np.zeros((3, 4))
    matrix[:, :3], matrix[:, 3] = cell.T, origin
    box = data.create_cell(matrix, pbc=(bool(pbc[0]), bool(pbc[1]), bool(pbc[2])))
    box.vis.line_width = 0.1
    box.vis.rendering_color = (0.55, 0.58, 0.62)
    particles = data.create_particles(count=len(positions))
    particles.create_property('Position', data=positions)
    particles.create_property('Color', data=colours)
    particles.create_property('Radius', data=np.full(len(positions), 1.25))
    pipeline = Pipeline(source=StaticSource(data=data))
    pipeline.add_to_scene()
    direction = (0.18, 1.0, -0.14) if is_crystal else (0.3, 1.0, -0.12)
    viewport = Viewport(type=Viewport.Type.Ortho, camera_dir=direction)
    viewport.zoom_all(size=SIZE)
    fitting = float(viewport.fov)
    if path is None:
        pipeline.remove_from_scene()
        return fitting
    viewport.fov = fov or fitting
    renderer = TachyonRenderer(
        shadows=False, ambient_occlusion=True, ambient_occlusion_samples=6, antialiasing_samples=6
    )
    viewport.render_image(filename=str(path), size=SIZE, background=(1, 1, 1), renderer=renderer)
    pipeline.remove_from_scene()
    return fitting


def main(source: str, folder: str) -> int:
    """Draw `first` and `last` by structure and by energy, as far as the arrays go; say why not on stderr."""
    with np.load(source, allow_pickle=False) as archive:
        arrays = dict(archive)
    # hexadecimal colours, given by the caller so that figures, pictures and legends agree
    palette = json.loads(str(arrays.pop('palette')))
    by_structure = np.array([_rgb(colour) for colour in palette['structures']])
    scale = np.array([_rgb(colour) for colour in palette['scale']])
    limits = energy_range(arrays)
    try:
        structures = {frame: by_structure[arrays[f'{frame}_structure']] for frame in ('first', 'last')}
        # one magnification for both, so that they can be compared
        fov = max(draw(arrays, frame, colours, None, None) for frame, colours in structures.items())
        for frame, colours in structures.items():
            draw(arrays, frame, colours, Path(folder, f'{frame}_structure.png'), fov)
            if limits is not None:
                colours = colours_of_values(arrays[f'{frame}_potential_energy_eV'], *limits, scale)
                draw(arrays, frame, colours, Path(folder, f'{frame}_energy.png'), fov)
    except RuntimeError as error:
        # what OVITO raises if there is no graphics driver; the report tells how to get one
        sys.stderr.write(f'{error}\n')
        return NO_GRAPHICS
    return 0


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:3]))
