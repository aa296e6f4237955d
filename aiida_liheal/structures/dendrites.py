"""Ready-made dendrites on a slab: needles, mushrooms and hemispheres (paper, section 3, Figure 3), one or a pair.

The paper's dendrites grow in deposition and differ in size; these are simple bodies of the three forms, cut out of the
crystal that the slab goes on in, so that no boundary lies between dendrite and slab.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pydantic import Field, model_validator

from aiida_liheal.structures.bcc import TOLERANCE_A, LayeredSettings, with_room_above


class DendriteSettings(LayeredSettings):
    """A slab with one dendrite in its middle, or with a pair beside each other along x."""

    shape: Literal['dendrites'] = Field(default='dendrites', description='name of the shape')
    form: Literal['needle', 'mushroom', 'hemisphere'] = Field(
        description='a stem with a round tip; a stem with a ball on it; half a ball, or half an ellipsoid if height_A '
        'is given'
    )
    height_A: float | None = Field(
        default=None,
        gt=0,
        description='from the surface of the slab to the tip, in Å; half of diameter_A if not given '
        'for a hemisphere, needed for the others',
    )
    diameter_A: float = Field(
        gt=0, description='largest width, in Å: of a needle, of the head of a mushroom, of the foot of a hemisphere'
    )
    stem_diameter_A: float | None = Field(
        default=None, gt=0, description='width of the stem of a mushroom in Å; only for mushrooms, needed there'
    )
    n_dendrites: Literal[1, 2] = Field(default=1, description='one, or a pair')
    gap_A: float | None = Field(
        default=None, gt=0, description='between the widest parts of a pair, in Å; only for a pair, needed there'
    )
    quasi_2d: bool = Field(
        default=True,
        description='the same all along y, as in cells that are short along y, such as the 14 Å of the paper; else '
        'round, seen from above',
    )

    @model_validator(mode='after')
    def _fits(self) -> Self:
        self._check_form()
        if (self.gap_A is None) == (self.n_dendrites == 2):
            raise ValueError(
                f'gap_A = {self.gap_A} Å, n_dendrites = {self.n_dendrites}: a pair needs a gap, and only a pair has one'
            )
        a = self.lattice_constant_A
        if self.gap_A is not None and self.gap_A < a:
            raise ValueError(f'gap_A = {self.gap_A} Å: must be at least one lattice constant, {a} Å')
        width, length = self.n_dendrites * self.diameter_A + (self.gap_A or 0), self.lengths_A[0]
        if width > length - a:
            raise ValueError(
                f'diameter_A = {self.diameter_A} Å: dendrites and gap are {width:.3f} Å wide; they must leave one '
                f'lattice constant, {a} Å, of the {length:.3f} Å of the slab along x (size = {self.size} cells)'
            )
        if not self.quasi_2d and self.diameter_A > self.lengths_A[1] - a:
            raise ValueError(
                f'diameter_A = {self.diameter_A} Å: must leave one lattice constant, {a} Å, of the '
                f'{self.lengths_A[1]:.3f} Å of the slab along y (size = {self.size} cells), unless quasi_2d is true'
            )
        return self

    def _check_form(self) -> None:
        least = 2 * self.lattice_constant_A
        if self.diameter_A < least - TOLERANCE_A:
            raise ValueError(f'diameter_A = {self.diameter_A} Å: must be at least two lattice constants, {least} Å')
        if self.form != 'mushroom' and self.stem_diameter_A is not None:
            raise ValueError(f'stem_diameter_A = {self.stem_diameter_A} Å: only for mushrooms, but form is {self.form}')
        if self.form == 'hemisphere':
            if self._height < least / 2:
                raise ValueError(f'height_A = {self.height_A} Å: must be at least one lattice constant, {least / 2} Å')
            return
        if self.height_A is None:
            raise ValueError(f'height_A: missing; the height in Å of a {self.form}')
        if self.height_A < self.diameter_A:
            raise ValueError(
                f'height_A = {self.height_A} Å: a {self.form} must be at least as high as wide (diameter_A = '
                f'{self.diameter_A} Å)'
            )
        if self.form == 'mushroom':
            if self.stem_diameter_A is None:
                raise ValueError('stem_diameter_A: missing; the width in Å of the stem of a mushroom')
            if not least - TOLERANCE_A <= self.stem_diameter_A < self.diameter_A:
                raise ValueError(
                    f'stem_diameter_A = {self.stem_diameter_A} Å: must be from two lattice constants, {least} Å, to '
                    f'less than that of the head, diameter_A = {self.diameter_A} Å'
                )

    @property
    def _height(self) -> float:
        return self.diameter_A / 2 if self.height_A is None else self.height_A

    @property
    def middles_A(self) -> tuple[float, ...]:  # noqa: N802 (the unit)
        """The x of the axis of each dendrite in Å."""
        middle = self.lengths_A[0] / 2
        if self.gap_A is None:
            return (middle,)
        apart = self.diameter_A + self.gap_A
        return middle - apart / 2, middle + apart / 2

    @property
    def n_added(self) -> int:
        """Atoms of the dendrites, above the slab."""
        return len(self.build()) - len(self.crystal(self.n_layers))

    def build(self) -> Atoms:
        """The slab with its dendrites."""
        layers_above = math.floor(self._height / self.layer_spacing_A + TOLERANCE_A)
        crystal = self.crystal(self.n_layers + layers_above)
        x, y, z = crystal.positions.T
        above = z - self.top_A
        radius = self._radius(above)
        kept = above < TOLERANCE_A
        for middle in self.middles_A:
            across = np.abs(x - middle) if self.quasi_2d else np.hypot(x - middle, y - self.lengths_A[1] / 2)
            kept |= across <= radius + TOLERANCE_A
        return with_room_above(crystal[kept], self.height_above_A)

    def _radius(self, above: NDArray) -> NDArray:
        """Half the width of the body at each height above the slab, in Å; below 0 where there is none."""
        widest = self.diameter_A / 2
        if self.form == 'hemisphere':
            return widest * _circle(above / self._height)
        # the round tip of a needle and the head of a mushroom are the same ball
        from_ball = above - (self._height - widest)
        ball = widest * _circle(from_ball / widest)
        stem = (self.stem_diameter_A or self.diameter_A) / 2
        return np.maximum(ball, np.where(from_ball <= 0, stem, -1.0))


def _circle(share: NDArray) -> NDArray:
    """Half width of a unit circle at each height from its middle; -1 outside it."""
    return np.where(np.abs(share) <= 1 + TOLERANCE_A, np.sqrt(np.clip(1 - share**2, 0, None)), -1.0)
