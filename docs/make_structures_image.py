"""Draw `docs/images/structures.png`: the ready-made shapes, seen along y."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
from drawing import draw_circles, save_small
from matplotlib.axes import Axes

from aiida_liheal.structures.shapes import read_shape

TARGET = Path(__file__).parent / 'images' / 'structures.png'
SLAB = {'size': (40, 4), 'n_layers': 18, 'n_fixed_layers': 8, 'height_above_A': 20.0}
DEFECT = {**SLAB, 'defect_depth_A': 14.04, 'defect_width_A': 49.14, 'n_defects': 2}
VALLEY = {'shape': 'valley', 'size': (12, 4), 'n_layers': 10, 'n_fixed_layers': 3, 'height_above_A': 20, 'depth_A': 10}
SEED = {'shape': 'dendrites', 'size': (40, 4), 'n_layers': 8, 'n_fixed_layers': 4, 'height_above_A': 20.0}
VOID = {'shape': 'void', 'size': (10, 10, 10)}
ROWS: list[dict[str, dict[str, Any]]] = [
    {name: {**DEFECT, 'defect': name} for name in ('rectangular', 'triangular', 'inverted_triangular')},
    {f'valley, {angle}°': {**VALLEY, 'angle_deg': angle} for angle in (45, 90, 135, 180, 225, 270)},
    {
        'needle': {**SEED, 'form': 'needle', 'height_A': 60, 'diameter_A': 20},
        'a pair of mushrooms': {
            **SEED,
            'form': 'mushroom',
            'height_A': 50,
            'diameter_A': 36,
            'stem_diameter_A': 15,
            'n_dendrites': 2,
            'gap_A': 20,
        },
        'a pair of hemispheres': {**SEED, 'form': 'hemisphere', 'diameter_A': 40, 'n_dendrites': 2, 'gap_A': 15},
    },
    {
        'slope, 90°': {**VALLEY, 'shape': 'slope', 'angle_deg': 90, 'from_bottom_A': 7},
        'ridges on (110)': {
            **DEFECT,
            'facet': '110',
            'size': (20, 3),
            'n_layers': 12,
            'n_fixed_layers': 4,
            'defect': 'triangular',
            'n_defects': 1,
        },
        'void, cuboid (cut)': {**VOID, 'void_size': (3, 3, 3)},
        'void, spheres (cut)': {
            **VOID,
            'void': 'sphere',
            'diameter_A': 14,
            'centres': ((0.3, 0.5, 0.3), (0.7, 0.5, 0.7)),
        },
    },
]


def draw(axes: Axes, title: str, values: dict[str, Any]) -> None:
    """One shape: fixed atoms grey, a placed atom red, the others lighter the nearer they are."""
    shape: Any = read_shape(values, 'slab')
    atoms = shape.build()
    x, y, z = atoms.positions.T
    colours = plt.get_cmap('Blues_r')(0.25 + 0.45 * (1 - y / y.max()))
    colours[z < getattr(shape, 'fixed_below_A', 0)] = (0.6, 0.6, 0.6, 1)
    if shape.shape in ('valley', 'slope'):
        colours[-1] = (0.85, 0.15, 0.1, 1)
    shown = y >= atoms.cell[1, 1] / 2 - 1e-3 if shape.shape == 'void' else np.full(len(y), fill_value=True)
    draw_circles(axes, atoms.positions[shown], colours[shown], line_width=0.15)
    axes.set(xlim=(-3, x.max() + 3), ylim=(-3, z.max() + 3), title=f'{title}: {len(atoms)} atoms')
    axes.title.set_fontsize(7)


def main() -> None:
    """Draw all shapes into one picture."""
    figure = plt.figure(figsize=(9, 7.2), layout='constrained')
    parts: Any = figure.subfigures(len(ROWS), 1, height_ratios=[1, 1.1, 1.6, 1.6])
    for part, row in zip(parts, ROWS, strict=True):
        for axes, (title, values) in zip(part.subplots(1, len(row)), row.items(), strict=True):
            draw(axes, title.replace('_', ' '), values)
    save_small(figure, TARGET, dpi=110)


if __name__ == '__main__':
    main()
