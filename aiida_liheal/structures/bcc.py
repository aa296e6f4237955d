"""Body-centred cubic crystals: bulk, slabs that stand on z = 0, flat or with defects, and crystals with voids."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Literal, Self

import numpy as np
from ase import Atoms
from ase.build import bcc100, bcc110, bcc111, bulk
from numpy.typing import NDArray
from pydantic import Field, model_validator

from aiida_liheal.structures.settings import Element, Settings

#: Lattice constant of lithium in the paper's cells, in Å (28.07 nm are 80 of them).
LITHIUM_A = 3.51

#: Keeps an atom that lies on a border on one side of it, whatever the rounding, in Å.
TOLERANCE_A = 1e-4

Facet = Literal['100', '110', '111']

_SURFACES = {'100': bcc100, '110': bcc110, '111': bcc111}
# in lattice constants: height of a layer, and the edges of the orthogonal surface cell along x and y
_SPACING = {'100': 0.5, '110': math.sqrt(0.5), '111': math.sqrt(1 / 12)}
_CELL = {'100': (1.0, 1.0), '110': (1.0, math.sqrt(2)), '111': (math.sqrt(2), math.sqrt(6))}


def layer_spacing(facet: Facet) -> float:
    """Distance between two layers of a slab, in lattice constants."""
    return _SPACING[facet]


def surface_cell(facet: Facet) -> tuple[float, float]:
    """Edges of the orthogonal surface cell along x and y, in lattice constants."""
    return _CELL[facet]


class BccSettings(Settings):
    """A bcc metal."""

    element: Element = Field(default='Li', description='chemical symbol')
    lattice_constant_A: float = Field(default=LITHIUM_A, gt=0.5, lt=20, description='cubic lattice constant in Å')

    @property
    def neighbour_distance_A(self) -> float:  # noqa: N802 (the unit)
        """Distance of nearest neighbours in the crystal, in Å."""
        return self.lattice_constant_A * math.sqrt(3) / 2


class LayeredSettings(BccSettings):
    """Layers that stand on z = 0, the lowest of them fixed, with room above."""

    facet: Facet = Field(default='100', description='Miller indices of the surface')
    size: tuple[int, int] = Field(
        description='orthogonal surface cells along x and y; in lattice constants, one is 1 x 1 with 1 atom a layer '
        'for facet 100, 1 x √2 with 2 atoms for 110, √2 x √6 with 2 atoms for 111'
    )
    n_layers: int = Field(
        ge=1, description='atomic layers along z; they are a/2 apart for facet 100, a/√2 for 110, a/√12 for 111'
    )
    n_fixed_layers: int = Field(default=0, ge=0, description='lowest layers that are not to move')
    height_above_A: float = Field(gt=0, description='empty height of the cell above the highest atom, in Å')

    @model_validator(mode='after')
    def _consistent(self) -> Self:
        if min(self.size) < 1:
            raise ValueError(f'size = {self.size} cells: each must be 1 or more')
        if self.n_fixed_layers >= self.n_layers:
            raise ValueError(
                f'n_fixed_layers = {self.n_fixed_layers} layers: must be smaller than n_layers = {self.n_layers}'
            )
        return self

    @property
    def layer_spacing_A(self) -> float:  # noqa: N802 (the unit)
        """Distance between two layers in Å."""
        return layer_spacing(self.facet) * self.lattice_constant_A

    @property
    def lengths_A(self) -> tuple[float, float]:  # noqa: N802 (the unit)
        """Edges of the cell along x and y in Å."""
        width, depth = surface_cell(self.facet)
        return self.size[0] * width * self.lattice_constant_A, self.size[1] * depth * self.lattice_constant_A

    @property
    def top_A(self) -> float:  # noqa: N802 (the unit)
        """Height of the highest of the `n_layers` layers in Å."""
        return (self.n_layers - 1) * self.layer_spacing_A

    @property
    def fixed_below_A(self) -> float:  # noqa: N802 (the unit)
        """Height in Å that lies between the fixed layers and the others; 0 if none is fixed."""
        return max(0.0, (self.n_fixed_layers - 0.5) * self.layer_spacing_A)

    @property
    def free_height_A(self) -> float:  # noqa: N802 (the unit)
        """How far in Å the surface may be cut down so that one layer above the fixed ones stays whole."""
        return (self.n_layers - self.n_fixed_layers - 1) * self.layer_spacing_A

    def crystal(self, n_layers: int) -> Atoms:
        """A flat slab of this metal, facet and size with `n_layers` layers, and no room above."""
        return bcc_slab(self.element, self.lattice_constant_A, self.size, n_layers, 0.0, self.facet)


class SlabSettings(LayeredSettings):
    """A bcc slab with room above it, flat or with defects cut into its surface, the same all along y."""

    shape: Literal['slab'] = Field(default='slab', description='name of the shape')
    defect: Literal['none', 'rectangular', 'triangular', 'inverted_triangular'] = Field(
        default='none',
        description='what is cut into the surface: nothing; trenches; upright triangles, that is ridges that stand on '
        'the surface left by taking the rest away; or inverted triangles, that is V grooves',
    )
    defect_depth_A: float | None = Field(
        default=None, gt=0, description='from the flat surface down to the lowest point, in Å'
    )
    defect_width_A: float | None = Field(
        default=None,
        gt=0,
        description='width along x of a trench, of the foot of a ridge, of the mouth of a groove, in Å',
    )
    n_defects: int = Field(default=1, ge=1, description='number of defects along x, at equal distances')

    @model_validator(mode='after')
    def _fits(self) -> Self:
        depth, width = self.defect_depth_A, self.defect_width_A
        if self.defect == 'none':
            defaults = {key: type(self).model_fields[key].default for key in _OF_DEFECTS}
            given = [f'{key} = {getattr(self, key)}' for key in _OF_DEFECTS if getattr(self, key) != defaults[key]]
            if given:
                raise ValueError(f'{", ".join(given)}: only for a defect, but defect is none')
            return self
        if depth is None or width is None:
            raise ValueError(f'defect = {self.defect!r}: defect_depth_A and defect_width_A, in Å, must be given')
        if self.size[0] % self.n_defects:
            raise ValueError(
                f'n_defects = {self.n_defects}: must divide the {self.size[0]} cells of the slab along x, so that all '
                'are alike'
            )
        if not self.layer_spacing_A - TOLERANCE_A <= depth <= self.free_height_A + TOLERANCE_A:
            raise ValueError(
                f'defect_depth_A = {depth} Å: must be from {self.layer_spacing_A:.3f} Å, one layer, to '
                f'{self.free_height_A:.3f} Å, so that one layer above the {self.n_fixed_layers} fixed of '
                f'{self.n_layers} stays whole'
            )
        # narrower than two cells, the walls of a trench would touch
        least = 2 * surface_cell(self.facet)[0] * self.lattice_constant_A
        most = self.period_A - (least if self.defect == 'rectangular' else 0)
        if not least - TOLERANCE_A <= width <= most + TOLERANCE_A:
            raise ValueError(
                f'defect_width_A = {width} Å: must be from {least:.3f} to {most:.3f} Å for {self.n_defects} '
                f'{self.defect} defects on {self.lengths_A[0]:.3f} Å'
            )
        return self

    @property
    def period_A(self) -> float:  # noqa: N802 (the unit)
        """Distance between the middles of two defects in Å."""
        return self.lengths_A[0] / self.n_defects

    @property
    def n_removed(self) -> int:
        """Atoms that the defects take out of the flat slab."""
        return int((~self._kept(self.crystal(self.n_layers))).sum())

    def build(self) -> Atoms:
        """The slab."""
        slab = self.crystal(self.n_layers)
        return with_room_above(slab[self._kept(slab)], self.height_above_A)

    def _kept(self, slab: Atoms) -> NDArray:
        return slab.positions[:, 2] <= self.top_A - self._depth(slab.positions[:, 0]) + TOLERANCE_A

    def _depth(self, x: NDArray) -> NDArray:
        """How far the surface lies below the flat one at each `x`; 0 at the walls of a trench, which stay."""
        if self.defect_depth_A is None or self.defect_width_A is None:
            return np.zeros_like(x)
        from_middle = np.abs(x % self.period_A - self.period_A / 2)
        if self.defect == 'rectangular':
            return self.defect_depth_A * (from_middle < self.defect_width_A / 2 - TOLERANCE_A)
        share = np.minimum(1, from_middle / (self.defect_width_A / 2))
        return self.defect_depth_A * (share if self.defect == 'triangular' else 1 - share)


_OF_DEFECTS = ('defect_depth_A', 'defect_width_A', 'n_defects')

Fraction = Annotated[float, Field(ge=0, le=1)]


class VoidCrystalSettings(BccSettings):
    """A periodic bcc crystal with voids, cuboid or spherical; one in its middle if nothing else is said."""

    shape: Literal['void'] = Field(default='void', description='name of the shape')
    size: tuple[int, int, int] = Field(description='cubic cells along x, y and z')
    void: Literal['cuboid', 'sphere'] = Field(default='cuboid', description='form of the voids')
    void_size: tuple[int, int, int] | None = Field(
        default=None, description='cubic cells that a cuboid void takes along x, y and z; needed for cuboids'
    )
    diameter_A: float | None = Field(
        default=None, gt=0, description='diameter of a spherical void in Å; needed for spheres'
    )
    centres: tuple[tuple[Fraction, Fraction, Fraction], ...] = Field(
        default=((0.5, 0.5, 0.5),),
        min_length=1,
        description='middle of each void in fractions of the cell, from 0 to 1; the crystal is periodic',
    )

    @model_validator(mode='after')
    def _fits(self) -> Self:
        if min(self.size) < 1:
            raise ValueError(f'size = {self.size} cells: each must be 1 or more')
        if self.void == 'cuboid':
            self._check_cuboid()
        else:
            self._check_sphere()
        for (i, first), (j, second) in itertools.combinations(enumerate(self.centres), 2):
            apart = np.abs(np.subtract(first, second))
            apart = np.minimum(apart, 1 - apart) * self.size * self.lattice_constant_A
            if self.diameter_A is not None:
                overlap = float(np.linalg.norm(apart)) < self.diameter_A - TOLERANCE_A
            else:
                overlap = bool((apart < self._edges_A - TOLERANCE_A).all())
            if overlap:
                raise ValueError(
                    f'centres: voids {i} and {j} (counted from 0) overlap, {np.round(apart, 3).tolist()} Å apart along '
                    'x, y and z: move them or make them smaller'
                )
        return self

    def _check_cuboid(self) -> None:
        if self.void_size is None:
            raise ValueError('void_size: missing; three numbers of cubic cells for a cuboid void')
        if self.diameter_A is not None:
            raise ValueError(f'diameter_A = {self.diameter_A} Å: only for void = sphere, but void is cuboid')
        for axis, void, crystal in zip('xyz', self.void_size, self.size, strict=True):
            if not 1 <= void < crystal:
                raise ValueError(
                    f'void_size = {self.void_size} cells: along {axis} it must be from 1 to {crystal - 1} cells, '
                    f'smaller than the crystal (size = {self.size} cells)'
                )

    def _check_sphere(self) -> None:
        if self.diameter_A is None:
            raise ValueError('diameter_A: missing; the diameter in Å of a spherical void')
        if self.void_size is not None:
            raise ValueError(f'void_size = {self.void_size} cells: only for void = cuboid, but void is sphere')
        # the largest hole of a bcc crystal, the tetrahedral one, is √5/4 a from its four neighbours
        least, most = math.sqrt(5) / 2 * self.lattice_constant_A, min(self.size) * self.lattice_constant_A
        if not least < self.diameter_A < most:
            raise ValueError(
                f'diameter_A = {self.diameter_A} Å: must be greater than {least:.3f} Å, so that it holds an atom '
                f'wherever it lies, and smaller than the shortest edge of the crystal, {most:.3f} Å'
            )

    @property
    def _edges_A(self) -> NDArray:  # noqa: N802 (the unit)
        return np.asarray(self.void_size, dtype=float) * self.lattice_constant_A

    @property
    def n_removed(self) -> int:
        """Atoms that the voids take out of the crystal."""
        return 2 * math.prod(self.size) - len(self.build())

    def build(self) -> Atoms:
        """The crystal without the atoms of the voids: 2 for each cell of a cuboid void."""
        crystal = bcc_bulk(self.element, self.lattice_constant_A, self.size)
        for centre in self.centres:
            if self.diameter_A is None:
                x, y, z = self._edges_A
                crystal = cuboid_void(crystal, (x, y, z), centre)[0]
            else:
                crystal = spherical_void(crystal, self.diameter_A, centre)[0]
        return crystal


def bcc_bulk(
    element: str = 'Li', lattice_constant_A: float = LITHIUM_A, size: tuple[int, int, int] = (2, 2, 2)
) -> Atoms:
    """A periodic crystal of `size` cubic cells with 2 atoms each."""
    return bulk(element, 'bcc', a=lattice_constant_A, cubic=True).repeat(size)


def bcc_slab(
    element: str,
    lattice_constant_A: float,
    size: tuple[int, int],
    n_layers: int,
    height_above_A: float,
    facet: Facet = '100',
) -> Atoms:
    """A slab in an orthorhombic cell: lowest layer at z = 0, normal along z, periodic along x and y only.

    Along x and y lie [100] and [010] for (100), [001] and [1-10] for (110), [1-10] and [11-2] for (111), or
    directions equivalent to them.

    Parameters
    ----------
    element : str
        Chemical symbol.
    lattice_constant_A : float
        Cubic lattice constant in Å.
    size : (2,) int
        Orthogonal surface cells along x and y; one atom a cell and layer for (100), two for the others.
    n_layers : int
        Layers, `layer_spacing(facet)` lattice constants apart.
    height_above_A : float
        Empty height of the cell above the top layer in Å.
    facet : str
        Miller indices of the surface.
    """
    # ASE counts half an orthogonal cell along y for (110) and (111)
    repeat = (size[0], size[1] if facet == '100' else 2 * size[1], n_layers)
    slab = _SURFACES[facet](element, size=repeat, a=lattice_constant_A, orthogonal=True, periodic=False)
    # ASE tags layers and remembers adsorption sites; neither belongs to the structure
    slab = Atoms(slab.symbols, positions=slab.positions, cell=slab.cell)
    slab.positions[:, 2] -= slab.positions[:, 2].min()
    return with_room_above(slab, height_above_A)


def with_room_above(atoms: Atoms, height_above_A: float) -> Atoms:
    """The same atoms in a cell that ends `height_above_A` Å above the highest one, periodic along x and y only."""
    atoms = atoms.copy()
    atoms.cell[2] = [0, 0, atoms.positions[:, 2].max() + height_above_A]
    atoms.pbc = (True, True, False)
    return atoms


def cuboid_void(
    atoms: Atoms,
    void_size_A: tuple[float, float, float],
    centre: tuple[float, float, float] = (0.5, 0.5, 0.5),
) -> tuple[Atoms, int]:
    """Take the atoms out of a cuboid in an orthorhombic cell, which is taken to be periodic.

    Parameters
    ----------
    atoms : Atoms
        A crystal in an orthorhombic cell.
    void_size_A : (3,) float
        Edges of the cuboid in Å. The lower faces belong to the void and the upper ones do not, so that a void of
        whole cells takes exactly its atoms.
    centre : (3,) float
        Middle of the cuboid in fractions of the cell.

    Returns
    -------
    atoms : Atoms
        What is left.
    n_removed : int
        Atoms taken out.

    Raises
    ------
    ValueError
        If the cell is not orthorhombic, or the void is not smaller than the cell or takes no atom.
    """
    edges, void = _orthorhombic_edges(atoms), np.asarray(void_size_A, dtype=float)
    if (void <= 0).any() or (void >= edges).any():
        raise ValueError(
            f'void of {np.round(void, 3).tolist()} Å: each edge must be greater than 0 and smaller than the cell, '
            f'{np.round(edges, 3).tolist()} Å'
        )
    low = np.asarray(centre) * edges - void / 2 - TOLERANCE_A
    return _without(atoms, ((atoms.positions - low) % edges < void).all(axis=1), f'{np.round(void, 3).tolist()} Å')


def spherical_void(
    atoms: Atoms, diameter_A: float, centre: tuple[float, float, float] = (0.5, 0.5, 0.5)
) -> tuple[Atoms, int]:
    """Take the atoms out of a sphere in an orthorhombic cell, which is taken to be periodic.

    Parameters
    ----------
    atoms : Atoms
        A crystal in an orthorhombic cell.
    diameter_A : float
        Diameter in Å. Atoms on the sphere stay.
    centre : (3,) float
        Middle of the sphere in fractions of the cell.

    Returns
    -------
    atoms : Atoms
        What is left.
    n_removed : int
        Atoms taken out.

    Raises
    ------
    ValueError
        If the cell is not orthorhombic, or the void is not smaller than the cell or takes no atom.
    """
    edges = _orthorhombic_edges(atoms)
    if not 0 < diameter_A < edges.min():
        raise ValueError(
            f'void of {diameter_A} Å: must be greater than 0 and smaller than the shortest edge of the cell, '
            f'{edges.min():.3f} Å'
        )
    # from -1/2 to 1/2 of the cell, so that the nearest image of the middle counts
    apart = (atoms.positions - np.asarray(centre) * edges + edges / 2) % edges - edges / 2
    return _without(atoms, (apart**2).sum(axis=1) < (diameter_A / 2 - TOLERANCE_A) ** 2, f'{diameter_A} Å')


def _orthorhombic_edges(atoms: Atoms) -> NDArray:
    if not atoms.cell.orthorhombic:
        raise ValueError('a void needs an orthorhombic cell')
    return atoms.cell.lengths()


def _without(atoms: Atoms, inside: NDArray, what: str) -> tuple[Atoms, int]:
    if not inside.any():
        raise ValueError(f'void of {what} holds no atom: make it larger')
    return atoms[~inside], int(inside.sum())
