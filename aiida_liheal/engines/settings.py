"""Settings and checks that engines have in common. Needs no AiiDA."""

from __future__ import annotations

from collections.abc import Callable

from ase import Atoms
from ase.data import atomic_numbers
from pydantic import Field

from aiida_liheal.engines.contract import Accuracy
from aiida_liheal.runners.gpaw_label import kpoint_mesh
from aiida_liheal.structures.checks import check_no_overlap
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.settings import Settings

__all__ = ('PLANE_WAVES', 'PlaneWaveSettings', 'check_plane_waves', 'explain_each')


class PlaneWaveSettings(Settings):
    """Settings of an engine with plane waves, Methfessel-Paxton smearing and explicit meshes of k-points."""

    kpoint_spacing_per_A: float = Field(
        0.16,
        gt=0,
        le=2,
        description='Largest distance of k-points in 1/Å, with the factor of 2 pi (as KSPACING of VASP). An explicit '
        'mesh that follows each cell; directions with vacuum get one point. 0.16 or finer for labels.',
    )
    vacuum_gap_A: float = Field(
        7.0,
        gt=0,
        description='A direction in which at least so many Å are empty gets one k-point; one that is not periodic '
        'must have them.',
    )
    smearing_eV: float = Field(0.2, gt=0, le=2, description='Width of the smearing in eV.')
    smearing_order: int = Field(1, ge=0, le=4, description='Order of the Methfessel-Paxton smearing.')
    min_distance_A: float = Field(
        1.2, gt=0, description='Frames with atoms closer than this, in Å, are refused before anything is submitted.'
    )
    margin_s: float = Field(
        60.0, ge=0, description='Time in s before the walltime of the job at which what still runs is stopped.'
    )
    max_frame_s: float | None = Field(
        None, gt=0, description='Longest time of one frame in s; a frame that takes longer is stopped and dropped.'
    )


#: What decides about the accuracy of an engine with `PlaneWaveSettings` and a cut-off.
PLANE_WAVES = {
    'cutoff_eV': Accuracy('cut-off of the plane waves', 'eV', 'larger'),
    'kpoint_spacing_per_A': Accuracy(
        'largest distance of k-points',
        '1/Å',
        'smaller',
        lambda atoms, settings: kpoint_mesh(atoms, settings.kpoint_spacing_per_A, settings.vacuum_gap_A),
    ),
}


def check_plane_waves(atoms: Atoms, settings: PlaneWaveSettings) -> None:
    """Raise ValueError with the cause if a frame overlaps, or is open where it has no vacuum."""
    check_no_overlap(atoms, settings.min_distance_A)
    kpoint_mesh(atoms, settings.kpoint_spacing_per_A, settings.vacuum_gap_A)


def explain_each(frames: Frames, check: Callable[[Atoms], None]) -> str | None:
    """What is wrong with frames that are to be labelled, naming the frame that `check` refuses; None if nothing is."""
    if len(frames) == 0:
        return 'the shard holds no frames; there is nothing to label'
    unknown = sorted(symbol for symbol in frames.elements if atomic_numbers.get(symbol, 0) < 1)
    if unknown:
        return f'{", ".join(unknown)} is no element; allowed are chemical symbols'
    for index, atoms in enumerate(frames):
        try:
            check(atoms)
        except ValueError as error:
            return f'frame {index}: {error}'
    return None
