"""An atom in a valley or on a ridge of any angle, and an atom on the slope of a valley (paper, section 2, Figure 1g).

The walls are two planes that meet in a line along y; the angle between them is measured in the vacuum and its bisector
points up: below 180° they form a groove, at 180° a flat surface, above it a ridge. They are cut into a slab that is
periodic along x and y: then no surface but the one that is looked at is free, the same fixed layers hold the crystal
for every angle, and the crystal below the line is equally thick. A groove ends in flat shoulders, a ridge in flat
floors; where the period is too short for that, the walls meet those of the next image.

The line lies where a continuous solid would end, half a layer above the highest of the `n_layers` layers, on a mirror
plane of the crystal: midway between two rows of atoms where there is such a plane, so that the atom finds a hollow on
the bisector. The paper shows its valleys without their making; with this choice, and six angles from 45° to 270° on
(100), each next angle leaves the atom fewer neighbours within 6 Å.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pydantic import Field, model_validator

from aiida_liheal.structures.bcc import TOLERANCE_A, LayeredSettings, surface_cell, with_room_above

# Places that are tried for the atom along one surface cell in y; it divides by 6, so that the places between atoms of
# all facets are among them.
_N_PLACES = 24


class _WalledSettings(LayeredSettings):
    """Two walls that meet in a line along y."""

    n_layers: int = Field(ge=1, description='atomic layers below the line in which the walls meet')
    depth_A: float = Field(gt=0, description='how far the walls rise above the line, or fall below it on a ridge, in Å')
    atom_distance_A: float | None = Field(
        default=None,
        gt=0,
        description='shortest distance of the atom from the others in Å, 0.9 to 1.5 of that of nearest neighbours, '
        'which is the default',
    )

    @model_validator(mode='after')
    def _room_for_walls(self) -> Self:
        least = 6 * self.lattice_constant_A
        if self.lengths_A[0] < least - TOLERANCE_A:
            raise ValueError(
                f'size = {self.size} cells: {self.lengths_A[0]:.3f} Å along x, must be at least {least:.3f} Å (6 '
                'lattice constants), so that the atom is far from the walls of the next image'
            )
        # the atom is not to sit on its own image
        least = 2 * self.lattice_constant_A
        if self.lengths_A[1] < least - TOLERANCE_A:
            raise ValueError(
                f'size = {self.size} cells: {self.lengths_A[1]:.3f} Å along y, must be at least {least:.3f} Å (2 '
                'lattice constants), so that the atom is far from its own image'
            )
        if self.depth_A < self.layer_spacing_A - TOLERANCE_A:
            raise ValueError(f'depth_A = {self.depth_A} Å: must be at least one layer, {self.layer_spacing_A:.3f} Å')
        low, high = 0.9 * self.neighbour_distance_A, 1.5 * self.neighbour_distance_A
        if self.atom_distance_A is not None and not low <= self.atom_distance_A <= high:
            raise ValueError(
                f'atom_distance_A = {self.atom_distance_A} Å: must be from {low:.3f} to {high:.3f} Å, 0.9 to 1.5 of '
                'the distance of nearest neighbours'
            )
        return self

    @property
    def _distance_A(self) -> float:  # noqa: N802 (the unit)
        return self.neighbour_distance_A if self.atom_distance_A is None else self.atom_distance_A

    @property
    def line_A(self) -> float:  # noqa: N802 (the unit)
        """Height of the line in which the walls meet, in Å."""
        return self.top_A + self.layer_spacing_A / 2

    def _walls(self, angle_deg: float) -> tuple[Atoms, float]:
        """The crystal below the walls, and the x of the line in Å."""
        rise = _cot_of_half(angle_deg)
        highest = self.line_A + max(0.0, min(self.depth_A, rise * self.lengths_A[0] / 2))
        crystal = self.crystal(1 + math.floor(highest / self.layer_spacing_A + TOLERANCE_A))
        x, _, z = crystal.positions.T
        line = self._mirror_plane(x[np.abs(z - self.top_A) < TOLERANCE_A])
        from_line = np.abs(self._nearest(x - line))
        surface = self.line_A + np.clip(rise * from_line, -self.depth_A, self.depth_A)
        return crystal[z <= surface + TOLERANCE_A], line

    def _mirror_plane(self, rows: NDArray) -> float:
        """Of the two mirror planes in the middle of the cell, the one farther from the rows of atoms at these x."""
        middle = self.lengths_A[0] / 2
        planes = [middle, middle + surface_cell(self.facet)[0] * self.lattice_constant_A / 2]
        return max(planes, key=lambda plane: float(np.abs(self._nearest(rows - plane)).min()))

    def _nearest(self, dx: NDArray) -> NDArray:
        """The distances along x to the nearest image."""
        length = self.lengths_A[0]
        return (dx + length / 2) % length - length / 2

    def _with_atom(self, walls: Atoms, x: float, z: float, direction: tuple[float, float]) -> Atoms:
        """Add the atom where it is nearest to (x, z), on the ray from there along `direction` in the xz plane.

        All places along y that differ are tried, and the one nearest to the walls is taken.
        """
        pitch = surface_cell(self.facet)[1] * self.lattice_constant_A
        ray = np.array([direction[0], 0.0, direction[1]])
        start = (self.size[1] // 2) * pitch
        origins = [np.array([x, start + n / _N_PLACES * pitch, z]) for n in range(_N_PLACES)]
        shifts = np.array([[i, j, 0] for i in (-1, 0, 1) for j in (-1, 0, 1)]) * [*self.lengths_A, 0]
        images = (walls.positions + shifts[:, None]).reshape(-1, 3)
        # the plane of the rays, which atoms farther away than the distance do not concern
        images = images[np.abs((images - origins[0]) @ [ray[2], 0, -ray[0]]) < self._distance_A]
        steps = [_first_free(images, origin, ray, self._distance_A) for origin in origins]
        best = int(np.argmin(np.round(steps, 6)))
        atom = Atoms(self.element, positions=[origins[best] + steps[best] * ray])
        return with_room_above(walls + atom, self.height_above_A)


class ValleySettings(_WalledSettings):
    """A valley, a flat surface or a ridge with an atom on the bisector; the atom is the last one."""

    shape: Literal['valley'] = Field(default='valley', description='name of the shape')
    angle_deg: float = Field(
        ge=45, le=270, description='angle between the walls in degrees, measured in the vacuum; above 180 it is a ridge'
    )

    @model_validator(mode='after')
    def _ridge_stands_on_free_layers(self) -> Self:
        if self.angle_deg > 180 and self.depth_A > self.free_height_A + TOLERANCE_A:
            raise ValueError(
                f'depth_A = {self.depth_A} Å: a ridge may fall by {self.free_height_A:.3f} Å at most, so that one '
                f'layer above the {self.n_fixed_layers} fixed of {self.n_layers} stays whole'
            )
        return self

    def build(self) -> Atoms:
        """The walls and, last, the atom on the bisector, at the lowest place where it is not too close to others."""
        walls, line = self._walls(self.angle_deg)
        # from inside the crystal upwards: no hole of a perfect crystal is wide enough for the atom
        start = max(0.0, self.top_A - self.layer_spacing_A)
        return self._with_atom(walls, line, start, (0.0, 1.0))


class SlopeSettings(_WalledSettings):
    """A valley with an atom on one of its slopes; the atom is the last one."""

    shape: Literal['slope'] = Field(default='slope', description='name of the shape')
    angle_deg: float = Field(
        ge=45, lt=180, description='angle between the walls of the valley in degrees, measured in the vacuum'
    )
    from_bottom_A: float = Field(
        gt=0, description='distance of the atom from the line of the bottom, along the slope, in Å'
    )

    @model_validator(mode='after')
    def _on_the_slope(self) -> Self:
        rise = _cot_of_half(self.angle_deg)
        width = min(self.lengths_A[0] / 2, self.depth_A / rise)
        longest = width / math.sin(math.radians(self.angle_deg) / 2)
        if not self.lattice_constant_A <= self.from_bottom_A <= longest:
            raise ValueError(
                f'from_bottom_A = {self.from_bottom_A} Å: must be from one lattice constant, '
                f'{self.lattice_constant_A} Å, to the length of the slope, {longest:.3f} Å'
            )
        return self

    def build(self) -> Atoms:
        """The walls and, last, the atom above the right slope, as near to it as it can be along its normal."""
        walls, line = self._walls(self.angle_deg)
        half = math.radians(self.angle_deg) / 2
        normal = (-math.cos(half), math.sin(half))
        x = line + self.from_bottom_A * math.sin(half) - self.layer_spacing_A * normal[0]
        z = self.line_A + self.from_bottom_A * math.cos(half) - self.layer_spacing_A * normal[1]
        return self._with_atom(walls, x, z, normal)


def _first_free(positions: NDArray, origin: NDArray, direction: NDArray, distance_A: float) -> float:
    """How far in Å to go from `origin` along the unit vector `direction` until no position is closer than this."""
    from_origin = positions - origin
    along = from_origin @ direction
    across = (from_origin**2).sum(axis=1) - along**2
    near = across < (distance_A - TOLERANCE_A) ** 2
    # each atom forbids a stretch of the ray; go up stretch by stretch until one does not begin below the place
    # reached: on a lattice site two just touch
    half = np.sqrt(distance_A**2 - across[near])
    begin, end = along[near] - half, along[near] + half
    step = 0.0
    for i in np.argsort(begin):
        if begin[i] > step - TOLERANCE_A:
            break
        step = max(step, float(end[i]))
    return step


def _cot_of_half(angle_deg: float) -> float:
    """Slope of the walls, height over width: 0 for a flat surface, negative for a ridge."""
    half = math.radians(angle_deg) / 2
    return 0.0 if angle_deg == 180 else math.cos(half) / math.sin(half)
