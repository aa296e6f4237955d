"""What a file of labelled frames gave: its frames, and each thing that was left out, with its cause."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from aiida_liheal.structures.frames import Frames

__all__ = ('KILOBAR', 'LeftOut', 'Reading', 'join_labelled', 'note_not_taken', 'opened', 'text_lines')

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


#: How a file is unpacked, by the end of its name.
_UNPACK: Mapping[str, Callable[[Path], Any]] = {'.gz': gzip.open, '.bz2': bz2.open, '.xz': lzma.open}
#: What says that a packed file is damaged or cut off. An `OSError` of the system has a number, those of unpacking none.
_DAMAGED = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file of text, unpacked if its name ends in .gz, .bz2 or .xz.

    Raises ValueError if it cannot be read or is no text.
    """
    try:
        with _UNPACK.get(path.suffix, lambda plain: plain.open('rb'))(path) as handle:
            if b'\0' in handle.read(4096):
                raise ValueError('it is no text')
            handle.seek(0)
            yield cast('IO[bytes]', handle)
    except _DAMAGED as error:
        raise ValueError(f'it cannot be unpacked: {error}') from error
    except OSError as error:
        if path.suffix in _UNPACK and error.errno is None:
            raise ValueError(f'it cannot be unpacked: {error}') from error
        raise ValueError(f'it cannot be read: {error.strerror or error}') from error


def text_lines(handle: IO[bytes], encoding: str = 'ascii') -> Iterator[str]:
    """Lines of a file; one that was packed and cut off ends where it was cut."""
    try:
        for line in handle:
            yield line.decode(encoding, errors='replace')
    except EOFError:
        return


def note_not_taken(counts: Counter[str], n_frames: int) -> list[str]:
    """What is to be known of numbers that frames have beside structure and labels, and that no shard holds."""
    if not counts:
        return []
    told = ', '.join(f'{name} ({n} of {n_frames})' if n < n_frames else name for name, n in sorted(counts.items()))
    return [f'not taken beside structure and labels: {told}']


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
