"""The structures by which a potential is validated: phases, slabs of any facet, vacancies, adatoms, an atom alone."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
from ase import Atoms
from ase.build import bulk, surface
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from aiida_liheal.structures.bcc import bcc_bulk, bcc_slab
from aiida_liheal.structures.settings import Element, Settings

Phase = Literal['bcc', 'fcc', 'hcp', '9R']
Site = Literal['hollow', 'bridge']
Facet = Annotated[str, Field(pattern='^[0-9]{3}$')]

#: Order of the close-packed layers of 9R, the phase of lithium at low temperature (Overhauser, Phys. Rev. Lett. 53,
#: 64, 1984).
STACKING_9R = 'ABCBCACAB'

#: Atoms beyond this share of the largest distance from the way of a vacancy hold the crystal in its place.
FAR_SHARE = 0.85


class ReferenceSettings(Settings):
    """Sizes of the structures and deformations by which a potential is validated."""

    element: Element = Field(default='Li', description='chemical symbol')
    lattice_constant_A: float = Field(
        default=3.46, gt=0.5, lt=20, description='cubic lattice constant in Å about which the equation of state is laid'
    )
    eos_span: float = Field(
        default=0.06, gt=0, le=0.2, description='largest change of length in the equation of state, as a share'
    )
    n_eos: int = Field(default=25, ge=7, le=201, description='volumes of the equation of state')
    eos_fit_span: float = Field(
        default=0.025,
        gt=0,
        le=0.2,
        description='largest change of length, as a share, from the volume of lowest energy to those that are fitted',
    )
    strain: float = Field(
        default=0.005, gt=0, le=0.03, description='smaller of the two strains of the elastic constants, as a share'
    )
    phases: tuple[Literal['fcc', 'hcp', '9R'], ...] = Field(
        default=('fcc', 'hcp', '9R'), description='phases whose energy is compared with that of bcc'
    )
    facets: tuple[Facet, ...] = Field(
        default=('100', '110', '111', '210', '211', '221', '310', '311'),
        description='Miller indices of the surfaces, a digit each',
    )
    slab_thickness_A: float = Field(default=25.0, gt=5, le=500, description='least thickness of a slab in Å')
    vacuum_A: float = Field(default=15.0, gt=5, le=200, description='empty height on either side of a slab in Å')
    vacancy_size: int = Field(
        default=4, ge=3, le=20, description='cubic cells along each edge of the crystal with a vacancy'
    )
    path_points: int = Field(
        default=4, ge=1, le=20, description='places of the jumping atom from the start up to the middle of its way'
    )
    adatom_size: tuple[int, int] = Field(default=(4, 4), description='surface cells of the slab below an adatom')
    adatom_layers: int = Field(default=10, ge=4, le=100, description='layers of the slab below an adatom')
    phonon_size: int = Field(
        default=4, ge=2, le=10, description='cubic cells along each edge of the crystal for phonons; even'
    )
    displacement_A: float = Field(default=0.02, gt=0, le=0.2, description='displacement for phonons in Å')
    liquid_size: int = Field(
        default=6, ge=4, le=50, description='cubic cells along each edge of the crystal that is melted to a liquid'
    )
    max_force_eV_per_A: float = Field(
        default=0.001, gt=0, le=0.1, description='largest component of a force that counts as relaxed, in eV/Å'
    )
    max_steps: int = Field(default=2000, ge=1, le=1_000_000, description='most steps of a relaxation')

    @field_validator('facets')
    @classmethod
    def _a_plane_each(cls, facets: tuple[str, ...]) -> tuple[str, ...]:
        if '000' in facets or len(set(facets)) != len(facets):
            raise ValueError('each facet once, and 000 is none')
        return facets

    @field_validator('phonon_size')
    @classmethod
    def _even(cls, size: int) -> int:
        if size % 2:
            raise ValueError(f'phonon_size = {size} cells: must be even, so that N and P are exact')
        return size

    @field_validator('adatom_size')
    @classmethod
    def _wide_enough(cls, size: tuple[int, int]) -> tuple[int, int]:
        if min(size) < 3:
            raise ValueError(f'adatom_size = {size} cells: each must be 3 or more, or the adatom meets its image')
        return size

    @model_validator(mode='after')
    def _enough_to_fit(self) -> Self:
        step = 2 * self.eos_span / (self.n_eos - 1)
        n_fitted = 2 * int(self.eos_fit_span / step + 1e-9) + 1
        if n_fitted < 5:
            raise ValueError(
                f'eos_fit_span = {self.eos_fit_span}: holds {n_fitted} of the volumes, which are {step:.4f} apart; the '
                'fit needs 5, so that it has to be wider, eos_span smaller, or n_eos larger'
            )
        return self

    @property
    def eos_scales(self) -> NDArray:
        """Changes of length of the equation of state, as shares: (n_eos,) float."""
        return np.linspace(-self.eos_span, self.eos_span, self.n_eos)


def phase_cell(element: str, phase: Phase, volume_A3: float) -> Atoms:
    """A periodic cell of a phase with ideal axes; hcp and 9R in hexagonal cells of 2 and 9 atoms.

    Parameters
    ----------
    element : str
        Chemical symbol.
    phase : str
        bcc (2 atoms), fcc (4), hcp (2) or 9R (9).
    volume_A3 : float
        Volume of an atom in Å^3.
    """
    if phase == 'bcc':
        return bulk(element, 'bcc', a=(2 * volume_A3) ** (1 / 3), cubic=True)
    if phase == 'fcc':
        return bulk(element, 'fcc', a=(4 * volume_A3) ** (1 / 3), cubic=True)
    # distance of neighbours in a close packing: volume = a^3 / sqrt(2)
    a = (math.sqrt(2) * volume_A3) ** (1 / 3)
    height = a * math.sqrt(2 / 3)
    if phase == 'hcp':
        return bulk(element, 'hcp', a=a, c=2 * height)
    places = {'A': (0.0, 0.0), 'B': (1 / 3, 2 / 3), 'C': (2 / 3, 1 / 3)}
    n = len(STACKING_9R)
    cell = [[a, 0, 0], [-a / 2, a * math.sqrt(3) / 2, 0], [0, 0, n * height]]
    scaled = [(*places[layer], number / n) for number, layer in enumerate(STACKING_9R)]
    return Atoms([element] * n, scaled_positions=scaled, cell=cell, pbc=True)


def facet_slab(
    element: str, lattice_constant_A: float, facet: str, thickness_A: float, vacuum_A: float
) -> tuple[Atoms, float]:
    """A bcc slab of any facet with two equal surfaces, periodic along x and y only.

    Parameters
    ----------
    element : str
        Chemical symbol.
    lattice_constant_A : float
        Cubic lattice constant in Å.
    facet : str
        Miller indices, a digit each, such as 310.
    thickness_A : float
        Least distance of the outermost layers in Å.
    vacuum_A : float
        Empty height on either side in Å.

    Returns
    -------
    slab : Atoms
    area_A2 : float
        Area of one of the two surfaces in Å^2.
    """
    crystal = bulk(element, 'bcc', a=lattice_constant_A, cubic=True)
    indices = tuple(int(digit) for digit in facet)
    n_layers = 1
    while True:
        slab = surface(crystal, indices, n_layers, vacuum=vacuum_A)
        thickness = float(np.ptp(slab.positions[:, 2]))
        if thickness >= thickness_A:
            break
        # each layer of `surface` is as thick as the first; one more for what rounding takes
        n_layers += max(1, int((thickness_A - thickness) / (thickness / n_layers + lattice_constant_A)))
    slab = Atoms(slab.symbols, positions=slab.positions, cell=slab.cell, pbc=(True, True, False))
    return slab, float(np.linalg.norm(np.cross(slab.cell[0], slab.cell[1])))


def vacancy_path(element: str, lattice_constant_A: float, size: int, share: float) -> tuple[Atoms, list[int]]:
    """A crystal with a vacancy and a neighbour of it on its straight way there, along a body diagonal.

    The way has a threefold axis, so that nothing draws the jumping atom off it, and a centre of inversion in its
    middle: the saddle, if there is but one.

    Parameters
    ----------
    element : str
        Chemical symbol.
    lattice_constant_A : float
        Cubic lattice constant in Å.
    size : int
        Cubic cells along each edge.
    share : float
        Share of its way that the atom has gone: 0 at its site, 0.5 in the middle.

    Returns
    -------
    atoms : Atoms
        The jumping atom is the last one.
    anchors : list of int
        The atoms farthest from the middle of the way, the very farthest first. A jumping atom that is held off the
        middle pushes the whole crystal; held, they keep it from following.
    """
    crystal = bcc_bulk(element, lattice_constant_A, (size, size, size))
    start, end = np.zeros(3), np.full(3, lattice_constant_A / 2)
    jumping, vacant = (int(np.argmin(np.linalg.norm(crystal.positions - place, axis=1))) for place in (start, end))
    rest = [index for index in range(len(crystal)) if index not in (jumping, vacant)]
    atoms = crystal[[*rest, jumping]]
    assert isinstance(atoms, Atoms)  # noqa: S101 (several indices, several atoms)
    atoms.positions[-1] = start + share * (end - start)
    middle = atoms.copy()
    middle.positions[-1] = (start + end) / 2
    away = middle.get_distances(-1, range(len(middle) - 1), mic=True)
    farthest = np.argsort(-np.round(away, 6), kind='stable')
    return atoms, [int(index) for index in farthest if away[index] > FAR_SHARE * away.max()]


def adatom_slab(
    element: str, lattice_constant_A: float, size: tuple[int, int], n_layers: int, vacuum_A: float, site: Site
) -> tuple[Atoms, list[int]]:
    """A (100) slab with an adatom in a hollow, or on the bridge between two hollows.

    Parameters
    ----------
    element : str
        Chemical symbol.
    lattice_constant_A : float
        Cubic lattice constant in Å.
    size : (2,) int
        Surface cells along x and y.
    n_layers : int
        Layers of the slab.
    vacuum_A : float
        Empty height above in Å.
    site : str
        hollow or bridge.

    Returns
    -------
    atoms : Atoms
        The adatom is the last one.
    fixed : list of int
        Atoms of the two lowest layers.
    """
    a = lattice_constant_A
    atoms = bcc_slab(element, a, size, n_layers, vacuum_A)
    fixed = [int(index) for index in np.flatnonzero(atoms.positions[:, 2] < 0.75 * a)]
    top = atoms.positions[np.argmax(atoms.positions[:, 2])]
    # above the middle of four atoms of the top layer, or of two of them
    x, y, z = top + (np.array([a / 2, a / 2, a / 2]) if site == 'hollow' else np.array([a / 2, 0.0, 0.6 * a]))
    atoms.append(element)
    atoms.positions[-1] = (x, y, z)
    atoms.wrap(pbc=(True, True, False))
    return atoms, fixed


def isolated_atom(element: str, edge_A: float = 30.0) -> Atoms:
    """An atom alone in the middle of a cell that is not periodic."""
    return Atoms(element, positions=[[edge_A / 2] * 3], cell=[edge_A] * 3, pbc=False)
