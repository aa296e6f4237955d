"""What a file of labelled frames gave: its frames, and each thing that was left out, with its cause."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aiida_liheal.structures.frames import Frames

__all__ = ('KILOBAR', 'LeftOut', 'Reading', 'join_labelled')

#: 1 kB in eV/Å^3, with the digits that dpdata takes for it, so that virials agree to the last bit.
KILOBAR = 1e3 / 1.602176621e6


@dataclass(frozen=True)
class LeftOut:
    """Something that was not taken.

    Parameters
    ----------
    index : int, optional
        The frame, counted from 0 in its file; None for the file as a whole or its rest.
    cause : str
        Why, in words.
    """

    index: int | None
    cause: str


@dataclass(frozen=True)
class Reading:
    """What one file gave.

    Parameters
    ----------
    frames : Frames, optional
        The labelled frames; None if there are none.
    indices : (n_frames,) int
        Where each frame stands in the file, counted from 0.
    left_out : tuple of LeftOut
        What was not taken.
    notes : tuple of str
        What is to be known of what was taken.
    """

    frames: Frames | None
    indices: NDArray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return 0 if self.frames is None else len(self.frames)


def join_labelled(parts: list[tuple[int, Frames]], left_out: list[LeftOut], notes: list[str]) -> Reading:
    """A reading of single frames with their index in the file.

    If some have no virial, no frame of the reading keeps one, and a note says so.
    """
    if not parts:
        return Reading(None, left_out=tuple(left_out), notes=tuple(notes))
    frames = Frames.concatenate([part for _, part in parts])
    lacking = sum(part.virials is None for _, part in parts)
    if 0 < lacking < len(parts):
        notes = [*notes, f'{lacking} of {len(parts)} frames have no stress; the virials of the others are left out']
    elif lacking:
        notes = [*notes, 'there is no stress: frames without virials']
    indices = np.array([index for index, _ in parts], dtype=np.int32)
    return Reading(frames, indices, tuple(left_out), tuple(notes))
