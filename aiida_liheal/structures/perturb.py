"""Seeded random structures around the crystal: first frames to label and starts for the exploration."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from pydantic import Field, model_validator

from aiida_liheal.structures.bcc import LITHIUM_A, bcc_bulk, bcc_slab
from aiida_liheal.structures.checks import shortest_distance
from aiida_liheal.structures.settings import Element, Settings

# Redraws of one frame before the settings are said to be impossible.
_MAX_DRAWS = 100


class PerturbSettings(Settings):
    """How far the frames go from the perfect crystal."""

    strain: float = Field(
        default=0.03, ge=0, lt=0.5, description='largest strain component, uniform in ± this, no unit'
    )
    displacement_A: float = Field(
        default=0.15,
        ge=0,
        lt=2,
        description='standard deviation of the displacement of each atom along each axis, in Å',
    )
    volume_scale: tuple[float, float] = Field(
        default=(0.9, 1.1), description='range of the volume over that of the crystal, no unit'
    )
    vacancy_share: float = Field(
        default=0.2, ge=0, le=1, description='share of the frames that miss one atom, between 0 and 1'
    )
    min_distance_A: float = Field(
        default=1.8, gt=0, description='frames with atoms closer than this are drawn again, in Å'
    )

    @model_validator(mode='after')
    def _ordered(self) -> PerturbSettings:
        low, high = self.volume_scale
        if not 0.2 <= low <= high <= 5:
            raise ValueError(f'volume_scale = {self.volume_scale}: needs 0.2 <= low <= high <= 5')
        return self


def perturbed_bulk(
    n_frames: int,
    seed: int,
    settings: PerturbSettings | None = None,
    element: Element = 'Li',
    lattice_constant_A: float = LITHIUM_A,
    size: tuple[int, int, int] = (2, 2, 2),
) -> list[Atoms]:
    """Periodic cells of `size` bcc cells (16 atoms for 2 x 2 x 2), each strained, scaled and shaken at random."""
    return perturb(bcc_bulk(element, lattice_constant_A, size), n_frames, seed, settings or PerturbSettings())


def perturbed_slab(
    n_frames: int,
    seed: int,
    settings: PerturbSettings | None = None,
    element: Element = 'Li',
    lattice_constant_A: float = LITHIUM_A,
    size: tuple[int, int] = (1, 1),
    n_layers: int = 8,
    vacuum_A: float = 10.0,
) -> list[Atoms]:
    """Thin (100) slabs with `vacuum_A` between periodic images, periodic along z too, as a plane-wave code sees them.

    Only the plane of the slab is strained and scaled: the vacuum keeps its height.
    """
    slab = bcc_slab(element, lattice_constant_A, size, n_layers, vacuum_A)
    slab.positions[:, 2] += vacuum_A / 2
    slab.pbc = True
    return perturb(slab, n_frames, seed, settings or PerturbSettings(), in_plane=True)


def perturb(
    atoms: Atoms, n_frames: int, seed: int, settings: PerturbSettings, *, in_plane: bool = False
) -> list[Atoms]:
    """Random variants of one structure; the same arguments give the same frames.

    Parameters
    ----------
    atoms : Atoms
        What the frames vary.
    n_frames : int
        Number of frames.
    seed : int
        Of the random numbers.
    settings : PerturbSettings
        Sizes of the variations.
    in_plane : bool
        Leave the third cell vector and everything along z unstrained.

    Raises
    ------
    ValueError
        If no frame can be drawn that keeps the least distance.
    """
    if n_frames < 0:
        raise ValueError(f'n_frames = {n_frames}: must be 0 or more')
    rng = np.random.default_rng(seed)
    return [_draw(atoms, rng, settings, in_plane) for _ in range(n_frames)]


def _draw(atoms: Atoms, rng: np.random.Generator, settings: PerturbSettings, in_plane: bool) -> Atoms:
    for _ in range(_MAX_DRAWS):
        frame = atoms.copy()
        strain = rng.uniform(-settings.strain, settings.strain, (3, 3))
        strain = (strain + strain.T) / 2
        scale = rng.uniform(*settings.volume_scale)
        if in_plane:
            strain[2], strain[:, 2] = 0, 0
            deformation = np.diag([scale**0.5, scale**0.5, 1.0]) @ (np.eye(3) + strain)
        else:
            deformation = scale ** (1 / 3) * (np.eye(3) + strain)
        frame.set_cell(frame.cell.array @ deformation.T, scale_atoms=True)
        frame.positions += rng.normal(scale=settings.displacement_A, size=frame.positions.shape)
        if rng.random() < settings.vacancy_share and len(frame) > 1:
            del frame[int(rng.integers(len(frame)))]
        if shortest_distance(frame) >= settings.min_distance_A:
            return frame
    raise ValueError(
        f'no frame in {_MAX_DRAWS} draws keeps min_distance_A = {settings.min_distance_A} Å at displacement_A = '
        f'{settings.displacement_A} Å, volume_scale = {settings.volume_scale}, strain = {settings.strain}: '
        'make the least distance or the variations smaller'
    )
