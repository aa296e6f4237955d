"""What the pictures of the docs share: atoms as circles, and small files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

#: About the distance of neighbours in lithium, so that atoms touch.
DIAMETER_A = 2.9


def draw_circles(axes: Axes, positions_A: NDArray, colours: NDArray, line_width: float = 0.2) -> None:
    """Atoms seen along y, the nearer ones over those behind.

    Parameters
    ----------
    positions_A : (n, 3) float
        Positions in Å.
    colours : (n, 3) or (n, 4) float
        RGB or RGBA of each atom.
    line_width : float
        Width of their edges in points.
    """
    x, y, z = positions_A.T
    order = np.argsort(-y)
    width = np.full(len(order), DIAMETER_A)
    circles = EllipseCollection(
        width,
        width,
        np.zeros(len(order)),
        units='xy',
        offsets=np.column_stack([x, z])[order],
        offset_transform=axes.transData,
        facecolors=colours[order],
        edgecolors='black',
        linewidths=line_width,
    )
    axes.add_collection(circles)
    axes.set_aspect('equal')
    axes.axis('off')


def save_small(figure: Figure, path: Path, dpi: int = 130) -> None:
    """Write a figure as PNG with a palette, which makes it much smaller."""
    figure.savefig(path, dpi=dpi, metadata={'Software': None})
    with Image.open(path) as picture:
        picture.convert('RGB').quantize(128, Image.Quantize.FASTOCTREE).save(path, optimize=True)
