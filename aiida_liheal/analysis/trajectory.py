"""Frames of LAMMPS text dumps, one in memory at a time, through OVITO; a restarted run has several dumps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from ovito.data import DataCollection
from ovito.io import import_file
from ovito.pipeline import FileSource

_BEGIN = b'ITEM: TIMESTEP\n'
#: Bytes that are searched at once for the beginnings of frames.
_PIECE = 1 << 20
_LONGEST_HEADER = 64
_HEADER = re.compile(rb'ITEM: TIMESTEP\n(\d+)\n')
#: From the step to the first atom; the box stands in between.
_ATOMS = re.compile(rb'ITEM: TIMESTEP\n\d+\nITEM: NUMBER OF ATOMS\n(\d+)\n.*?ITEM: ATOMS[^\n]*\n', re.DOTALL)


class TrajectoryError(ValueError):
    """A trajectory that cannot be analysed.

    Parameters
    ----------
    cause : str
        `missing`, `empty`, `damaged` or `columns`.
    message : str
        What is wrong with which file.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause

    def __reduce__(self) -> tuple[type[TrajectoryError], tuple[str, str]]:
        """Come back from a worker with the cause."""
        return TrajectoryError, (self.cause, str(self))


@dataclass(frozen=True)
class Frame:
    """One frame; atoms are sorted by their identifiers.

    `ids`, `types`: (n,) int; `positions`: (n, 3) in Å; `velocities`: (n, 3) in Å/ps or None; `energies`: (n,)
    potential energy in eV (column `c_pe`) or None; `cell`: (3, 3) vectors as rows in Å; `origin`: (3,) in Å;
    `pbc`: (3,) bool; `data`: the same as an OVITO data collection.
    """

    step: int
    ids: NDArray
    types: NDArray
    positions: NDArray
    velocities: NDArray | None
    energies: NDArray | None
    cell: NDArray
    origin: NDArray
    pbc: NDArray
    data: DataCollection

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Trajectory:
    """Where the frames of a run are.

    Parameters
    ----------
    paths : tuple of Path
        Dumps in the order in which they were written.
    frames : (n_frames, 3) int
        For each frame that counts: index of its dump, index in the dump, step.
    replaced : int
        Frames left out because a restart wrote them again.
    truncated : tuple of int
        Indices of the dumps whose last frame is incomplete and left out.
    """

    paths: tuple[Path, ...]
    frames: NDArray
    replaced: int
    truncated: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.frames)

    @classmethod
    def index(cls, paths: Sequence[str | Path]) -> Trajectory:
        """Find the frames of a run in its dumps without reading the atoms.

        A frame that a later one repeats or goes back behind is left out: a restart begins at the last restart file,
        and the frames dumped after that are written again.

        Raises
        ------
        TrajectoryError
            If no dump is given, or one is missing, damaged, or all are empty.
        """
        if not paths:
            raise TrajectoryError('missing', 'no dump was given; give at least one')
        found = tuple(Path(path) for path in paths)
        rows: list[tuple[int, int, int]] = []
        truncated = []
        for number, path in enumerate(found):
            steps, is_truncated = _scan(path)
            rows.extend((number, frame, step) for frame, step in enumerate(steps))
            if is_truncated:
                truncated.append(number)
        if not rows:
            raise TrajectoryError('empty', f'no complete frame in {", ".join(str(p) for p in found)}')
        frames = np.array(rows, dtype=np.int64)
        # smallest step of all later frames
        later = np.append(np.minimum.accumulate(frames[::-1, 2])[::-1][1:], np.iinfo(np.int64).max)
        counts = frames[:, 2] < later
        return cls(found, frames[counts], int((~counts).sum()), tuple(truncated))

    @staticmethod
    def steps(path: Path) -> list[int]:
        """Steps of the complete frames of one dump, in the order of the file, whatever they are.

        Raises
        ------
        TrajectoryError
            If it is missing or damaged.
        """
        return _scan(path)[0]

    def read(self, wanted: Iterable[int]) -> Iterator[Frame]:
        """Read the frames with these indices, in ascending order, one in memory at a time.

        Raises
        ------
        TrajectoryError
            If a frame cannot be read or has no column `id`.
        """
        reader = Reader(self)
        for index in wanted:
            yield reader.frame(index)


class Reader:
    """Reads frames of a trajectory and keeps the dump of the last one open."""

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory
        self._dump = -1
        self._source: FileSource | None = None

    def frame(self, index: int) -> Frame:
        """Read the frame with this index.

        Raises
        ------
        TrajectoryError
            If it cannot be read or has no column `id`.
        """
        dump, number, step = (int(value) for value in self.trajectory.frames[index])
        path = self.trajectory.paths[dump]
        if self._source is None or dump != self._dump:
            self._source, self._dump = _open(path), dump
        try:
            data = self._source.compute(number)
        except RuntimeError as error:
            raise TrajectoryError('damaged', f'{path}, step {step}: {error}') from error
        return _frame(data, path, step)


def _scan(path: Path) -> tuple[list[int], bool]:
    """Steps of the complete frames of a dump, and whether an incomplete one follows them."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        target = f', a link to {path.readlink()},' if path.is_symlink() else ''
        raise TrajectoryError('missing', f'{path}{target} does not exist') from None
    if size == 0:
        return [], False
    with path.open('rb') as stream:
        if stream.read(len(_BEGIN)) != _BEGIN[:size]:
            raise TrajectoryError('damaged', f'{path} does not begin with «ITEM: TIMESTEP»: it is not a LAMMPS dump')
        headers = list(_headers(stream))
        if not headers:
            return [], True
        stream.seek(headers[-1][0])
        is_truncated = not _is_complete(stream.read())
    steps = [step for _, step in headers]
    return steps[:-1] if is_truncated else steps, is_truncated


def _headers(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    """Position and step of each frame of a dump, read piece by piece."""
    stream.seek(0)
    start, last, text = 0, -1, b''
    while piece := stream.read(_PIECE):
        # a header across the border of two pieces is found with the end of the former, others there a second time
        kept = text[-_LONGEST_HEADER:]
        start += len(text) - len(kept)
        text = kept + piece
        for match in _HEADER.finditer(text):
            if start + match.start() > last:
                last = start + match.start()
                yield last, int(match[1])


def _is_complete(frame: bytes) -> bool:
    """Whether the text of one frame has all the lines that its header promises, the last one ended."""
    match = _ATOMS.match(frame)
    return match is not None and frame.endswith(b'\n') and frame.count(b'\n', match.end()) == int(match[1])


def _open(path: Path) -> FileSource:
    try:
        # without being told that there are more, OVITO (3.17) finds but the first frame now and then, in a process that
        # drew a picture
        source = import_file(path, sort_particles=True, multiple_frames=True).source
    except RuntimeError as error:
        raise TrajectoryError('damaged', f'{path}: {error}') from error
    assert isinstance(source, FileSource)  # noqa: S101 - what `import_file` makes
    return source


def _frame(data: DataCollection, path: Path, step: int) -> Frame:
    read = int(data.attributes['Timestep'])
    if read != step:
        raise TrajectoryError('damaged', f'{path}: found step {read} in the place of step {step}')
    particles = data.particles
    if particles is None or 'Particle Identifier' not in particles or 'Position' not in particles:
        raise TrajectoryError('columns', f'{path} lacks the column id, or x, y and z; dump at least «id type x y z»')

    def column(name: str) -> NDArray | None:
        return np.array(particles[name]) if name in particles else None

    n_atoms = particles.count
    return Frame(
        step=step,
        ids=np.array(particles['Particle Identifier']),
        types=np.array(particles['Particle Type']) if 'Particle Type' in particles else np.ones(n_atoms, np.int32),
        positions=np.array(particles['Position']),
        velocities=column('Velocity'),
        energies=column('c_pe'),
        cell=np.array(data.cell[:, :3]).T,
        origin=np.array(data.cell[:, 3]),
        pbc=np.array(data.cell.pbc, dtype=bool),
        data=data,
    )
