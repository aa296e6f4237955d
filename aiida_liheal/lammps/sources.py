"""Where falling atoms come from: the whole surface, patches of it, or a table of relative fluxes.

All of a source is one LAMMPS region and one `fix deposit`, which draws places evenly over the volume of its region. A
patch is a block whose height stands for its flux, so that each atom falls on a patch with a chance in proportion to
area times flux. The atoms of all patches come from one stream of random numbers and at one rate: how many have come by
a step is known beforehand, and a restart file keeps the stream.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from aiida_liheal.structures.settings import Settings

#: Patches of a table; each is a region of the deck.
MAX_PATCHES = 2500
#: Greatest ratio of the fluxes of two patches: the lower block of the two must still have a height.
MAX_RATIO = 1e6
# An edge of a patch this near to that of the cell is the same, in Å.
_TOLERANCE_A = 1e-3

Table = tuple[tuple[float, ...], ...]


class SourcePatch(Settings):
    """A rectangle above the surface that atoms fall from; a strip if only one of its ranges is given."""

    x_A: tuple[float, float] | None = Field(
        default=None, description='from and to along x in Å; the whole cell if not given'
    )
    y_A: tuple[float, float] | None = Field(
        default=None, description='from and to along y in Å; the whole cell if not given'
    )
    relative_flux: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description='flux in proportion to that of the other patches'
    )


@dataclass(frozen=True)
class Patch:
    """A rectangle with the flux that falls from it, in proportion to that of the others; edges in Å."""

    low: tuple[float, float]
    high: tuple[float, float]
    flux: float

    @property
    def area_nm2(self) -> float:
        """Area in nm^2."""
        return (self.high[0] - self.low[0]) * (self.high[1] - self.low[1]) / 100

    def overlaps(self, other: Patch) -> bool:
        """Whether the two have more than an edge in common."""
        return all(
            min(self.high[axis], other.high[axis]) - max(self.low[axis], other.low[axis]) > _TOLERANCE_A
            for axis in (0, 1)
        )


def check_table(table: Table) -> None:
    """Refuse a table of relative fluxes that is none, with a ValueError that says why."""
    lengths = {len(row) for row in table}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f'rows of {sorted(lengths)} numbers: all need the same number, at least one')
    if sum(map(len, table)) > MAX_PATCHES:
        raise ValueError(f'{len(table)} x {lengths.pop()} patches: at most {MAX_PATCHES} are allowed')
    strange = [flux for row in table for flux in row if not (math.isfinite(flux) and flux >= 0)]
    if strange:
        raise ValueError(f'{strange[0]}: a flux must be finite, and 0 or more')
    if not any(flux > 0 for row in table for flux in row):
        raise ValueError('no flux is greater than 0')


def lay_out(
    patches: Sequence[SourcePatch] | None, table: Table | None, lengths_A: tuple[float, float]
) -> tuple[Patch, ...]:
    """The patches of a source above a cell.

    Parameters
    ----------
    patches : sequence of SourcePatch, optional
        Patches as a person gives them.
    table : (nx, ny) float, optional
        Relative fluxes on equal patches, row by row along x; what has none, or less than one in `MAX_RATIO` of the
        highest, is left out.
    lengths_A : (2,) float
        Edges of the cell along x and y in Å.

    Returns
    -------
    tuple of Patch
        One patch over the whole cell if neither is given.

    Raises
    ------
    ValueError
        If a patch does not lie in the cell, or overlaps another.
    """
    if table is not None:
        width, depth = lengths_A[0] / len(table), lengths_A[1] / len(table[0])
        least = max(map(max, table)) / MAX_RATIO
        return tuple(
            Patch((i * width, j * depth), ((i + 1) * width, (j + 1) * depth), flux)
            for i, row in enumerate(table)
            for j, flux in enumerate(row)
            if flux > least
        )
    if patches is None:
        return (Patch((0.0, 0.0), lengths_A, 1.0),)
    laid = []
    for number, patch in enumerate(patches):
        ranges = []
        for axis, given, length in zip('xy', (patch.x_A, patch.y_A), lengths_A, strict=True):
            low, high = given if given is not None else (0.0, length)
            if not -_TOLERANCE_A <= low < high <= length + _TOLERANCE_A:
                raise ValueError(
                    f'source_patches[{number}].{axis}_A = [{low}, {high}] Å: must rise and lie in the cell, from 0 to '
                    f'{length:.3f} Å; give one that crosses the border of the cell as two'
                )
            ranges.append((low, high))
        laid.append(Patch((ranges[0][0], ranges[1][0]), (ranges[0][1], ranges[1][1]), patch.relative_flux))
    for (i, one), (j, other) in itertools.combinations(enumerate(laid), 2):
        if one.overlaps(other):
            raise ValueError(
                f'source_patches {i} and {j}, counted from 0, overlap: x from {one.low[0]:g} to {one.high[0]:g} and '
                f'from {other.low[0]:g} to {other.high[0]:g} Å, y from {one.low[1]:g} to {one.high[1]:g} and from '
                f'{other.low[1]:g} to {other.high[1]:g} Å; make one of them smaller'
            )
    fluxes = [patch.flux for patch in laid]
    if max(fluxes) > MAX_RATIO * min(fluxes):
        raise ValueError(
            f'source_patches: relative_flux is from {min(fluxes):g} to {max(fluxes):g}; at most {MAX_RATIO:g} times '
            'the least is allowed: leave out what gets nothing'
        )
    return tuple(laid)


def highest_flux(patches: Sequence[Patch], rate_per_ps: float) -> float:
    """Flux of the patch that has most, in 1/ps/nm^2, if `rate_per_ps` atoms come in 1 ps from all of them."""
    total = sum(patch.flux * patch.area_nm2 for patch in patches)
    return rate_per_ps * max(patch.flux for patch in patches) / total


def flux_variance(patches: Sequence[Patch], area_nm2: float) -> float:
    """Variance of the local flux over the square of its mean: 0 for an even source, L/w - 1 for a strip w of L.

    With one charge an atom it is that of the local current density, without the noise of single atoms.
    """
    mean = sum(patch.flux * patch.area_nm2 for patch in patches) / area_nm2
    return sum(patch.flux**2 * patch.area_nm2 for patch in patches) / area_nm2 / mean**2 - 1


def region_lines(
    patches: Sequence[Patch], lengths_A: tuple[float, float], bottom_A: float, height_A: float
) -> list[str]:
    """The lines of a deck that define the region `source`: blocks that stand on `bottom_A`, as high as their flux.

    The patch with the highest flux is `height_A` high.
    """
    most = max(patch.flux for patch in patches)
    blocks = []
    for patch in patches:
        words = []
        for low, high, length in zip(patch.low, patch.high, lengths_A, strict=True):
            words.append('EDGE' if low < _TOLERANCE_A else f'{low:.6f}')
            words.append('EDGE' if high > length - _TOLERANCE_A else f'{high:.6f}')
        # more digits than of a length: a height is a chance here
        top = round(bottom_A + height_A * patch.flux / most, 9)
        blocks.append(f'block {" ".join(words)} {round(bottom_A, 6)} {top} units box')
    if len(blocks) == 1:
        return [f'region source {blocks[0]}']
    names = [f'source_{number}' for number in range(len(blocks))]
    return [
        *(f'region {name} {block}' for name, block in zip(names, blocks, strict=True)),
        f'region source union {len(names)} {" ".join(names)}',
    ]
