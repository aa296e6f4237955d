"""Readers of what LAMMPS writes: log, deviations, dump. They take whole, broken-off and damaged files alike."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from aiida_liheal.structures.frames import Frames

_VERSION = re.compile(r'^LAMMPS (?:version (\d+)|\((.+?)\))')
_PERFORMANCE = re.compile(r'([\d.eE+-]+) ([kMG]?)atom-step/s')
_LOOP = re.compile(r'^Loop time of ([\d.eE+-]+) on (\d+) procs? for (\d+) steps with (\d+) atoms')
_LOST = re.compile(r'Lost atoms: original (\d+) current (\d+)')
_WALL = re.compile(r'^Total wall time: (\d+):(\d\d):(\d\d)')
_HALT = re.compile(r'^Fix halt condition for fix-id (\S+) met on step')
_RESTART = re.compile(r'restart\.(\d+)')
_KATOM = {'': 1e-3, 'k': 1.0, 'M': 1e3, 'G': 1e6}


@dataclass(frozen=True)
class Log:
    """What a log says.

    Parameters
    ----------
    thermo : dict of str to (n_rows,) float
        Columns by their names in the log, of all runs in it one after another, each step once. Columns that only some
        runs have are left out. Numbers may be NaN if the run blew up.
    version : str
        Version of LAMMPS, such as 20250722; empty if the log does not get so far.
    finished : bool
        Whether LAMMPS came to the end of its input.
    walltime_reached : bool
        Whether the run was stopped in good order by `timer timeout`.
    halted_by : str
        Id of the `fix halt` that ended it in good order; empty if none did.
    errors : list of str
        Lines that begin with ERROR, and the line of input they name.
    warnings : list of str
        Lines that begin with WARNING, each once.
    n_lost : int
        Atoms lost, as far as the log says: LAMMPS warns of the first loss only.
    loop_time_s : float
        Time in the MD loops in s.
    n_steps_done : int
        Steps of loops that came to an end.
    katom_step_per_s : float
        Thousand atom-steps a second of the last loop; NaN if none came to an end.
    wall_time_s : float
        Time from start to end in s; NaN if it did not come to an end.
    """

    thermo: dict[str, NDArray] = field(default_factory=dict)
    version: str = ''
    finished: bool = False
    walltime_reached: bool = False
    halted_by: str = ''
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    n_lost: int = 0
    loop_time_s: float = 0.0
    n_steps_done: int = 0
    katom_step_per_s: float = float('nan')
    wall_time_s: float = float('nan')

    @property
    def last_step(self) -> int | None:
        """Last step with a line of thermo; None if there is no line."""
        steps = self.thermo.get('Step')
        return int(steps[-1]) if steps is not None and len(steps) else None


def read_log(path: str | Path) -> Log:
    """Read a log; see `parse_log`."""
    with open(path, errors='replace') as lines:
        return parse_log(lines)


def parse_log(lines: Iterable[str]) -> Log:
    """What the lines of a log say; whatever they are, a `Log` comes back with what could be made out.

    A last line without its end is left out: half a number looks like a whole one.
    """
    blocks: list[tuple[list[str], list[list[float]]]] = []
    values: dict = {'errors': [], 'warnings': []}
    in_block = after_error = False
    for line in lines:
        if not line.endswith('\n'):
            break
        words = line.split()
        if in_block and words and (row := _numbers(words, len(blocks[-1][0]))) is not None:
            blocks[-1][1].append(row)
        elif words[:1] == ['Step'] and all(re.fullmatch(r'[\w\[\]/]+', word) for word in words):
            blocks.append((words, []))
            in_block = True
        elif line.startswith('ERROR'):
            values['errors'].append(line.strip())
            after_error = True
            in_block = False
        elif after_error and line.startswith('Last input line:'):
            values['errors'].append(line.strip())
        elif line.startswith('WARNING'):
            if (text := line.strip()) not in values['warnings']:
                values['warnings'].append(text)
            if match := _LOST.search(line):
                values['n_lost'] = values.get('n_lost', 0) + int(match[1]) - int(match[2])
            if 'Wall time limit reached' in line:
                values['walltime_reached'] = True
        elif match := _HALT.match(line):
            values['halted_by'] = match[1]
        elif match := _LOOP.match(line):
            in_block = False
            values['loop_time_s'] = values.get('loop_time_s', 0.0) + float(match[1])
            values['n_steps_done'] = values.get('n_steps_done', 0) + int(match[3])
        elif line.startswith('Performance:') and (match := _PERFORMANCE.search(line)):
            values['katom_step_per_s'] = float(match[1]) * _KATOM[match[2]]
        elif match := _VERSION.match(line):
            values['version'] = match[1] or match[2]
        elif match := _WALL.match(line):
            values['finished'] = not values['errors']
            values['wall_time_s'] = 3600.0 * int(match[1]) + 60 * int(match[2]) + int(match[3])
    return Log(thermo=merge_thermo([_table(*block) for block in blocks]), **values)


def _table(names: list[str], rows: list[list[float]]) -> dict[str, NDArray]:
    return dict(zip(names, np.array(rows).reshape(-1, len(names)).T, strict=True))


def _numbers(words: list[str], expected: int) -> list[float] | None:
    """The numbers of a line of thermo, or None if it is none."""
    if len(words) != expected:
        return None
    try:
        return [float(word) for word in words]
    except ValueError:
        return None


def merge_thermo(tables: Sequence[dict[str, NDArray]]) -> dict[str, NDArray]:
    """Thermo of runs that go on from one another as one table: the columns that all of them have, each step once.

    What a run did after the step that the next one begins with is dropped: it was done again.
    """
    tables = [table for table in tables if len(table.get('Step', ()))]
    if not tables:
        return {}
    names = [name for name in tables[0] if all(name in other for other in tables)]
    begins = [table['Step'][0] for table in tables[1:]] + [np.inf]
    kept = [table['Step'] < min(begins[index:]) for index, table in enumerate(tables)]
    return {name: np.concatenate([t[name][k] for t, k in zip(tables, kept, strict=True)]) for name in names}


def restart_steps(names: Iterable[str]) -> list[int]:
    """Steps of the files named `restart.<step>` among `names`, rising.

    The last file may be incomplete if the run was killed while it wrote; LAMMPS then refuses it with an error.
    """
    matches = (_RESTART.fullmatch(name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def read_model_devi(path: str | Path) -> dict[str, NDArray]:
    """Read the deviations of a committee; see `parse_model_devi`."""
    with open(path, errors='replace') as lines:
        return parse_model_devi(lines, Path(path).name)


def parse_model_devi(lines: Iterable[str], name: str = 'model_devi.out') -> dict[str, NDArray]:
    """The deviations of a committee.

    Returns
    -------
    dict of str to (n_rows,) float
        `step`, `max_devi_v`, `min_devi_v`, `avg_devi_v` in eV, `max_devi_f`, `min_devi_f`, `avg_devi_f` in eV/Å. A last
        line that broke off is left out, and so is a line with other than numbers. No row for an empty file.

    Raises
    ------
    ValueError
        If the columns have no names, or not these.
    """
    expected = ['step', *(f'{kind}_devi_{what}' for what in 'vf' for kind in ('max', 'min', 'avg'))]
    rows = []
    names = expected
    for line in lines:
        if not line.endswith('\n'):
            break
        words = line.split()
        if line.startswith('#'):
            names = words[1:]
            if names[: len(expected)] != expected:
                raise ValueError(f'{name}: columns {names}, expected {expected}')
        elif (row := _numbers(words, len(names))) is not None:
            rows.append(row[: len(expected)])
    table = np.array(rows, dtype=float).reshape(-1, len(expected))
    return dict(zip(expected, table.T, strict=True))


def read_values(path: str | Path) -> dict[str, float]:
    """Numbers that a deck printed by name, a line each; the last one counts if a name comes twice.

    A line that is not a name and a number is left out, and so is a last line that broke off.
    """
    values: dict[str, float] = {}
    with open(path, errors='replace') as lines:
        for line in lines:
            name, _, number = line.strip().partition(' ')
            if line.endswith('\n') and (row := _numbers([number], 1)) is not None:
                values[name] = row[0]
    return values


@dataclass(frozen=True)
class DumpFrame:
    """One frame of a text dump.

    Parameters
    ----------
    step : int
        Step of the run.
    cell : (3, 3) float
        Cell vectors as rows, in Å.
    origin : (3,) float
        Corner of the cell in Å.
    pbc : (3,) bool
        Periodic directions.
    columns : dict of str to (n_atoms,) float
        Columns by name.
    """

    step: int
    cell: NDArray
    origin: NDArray
    pbc: NDArray
    columns: dict[str, NDArray]

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(next(iter(self.columns.values())))

    @property
    def positions(self) -> NDArray:
        """Positions in Å: (n_atoms, 3) float."""
        return np.column_stack([self.columns[axis] for axis in 'xyz'])

    @property
    def velocities(self) -> NDArray:
        """Velocities in Å/ps: (n_atoms, 3) float."""
        return np.column_stack([self.columns[f'v{axis}'] for axis in 'xyz'])

    @property
    def forces(self) -> NDArray:
        """Forces in eV/Å: (n_atoms, 3) float."""
        return np.column_stack([self.columns[f'f{axis}'] for axis in 'xyz'])


class DumpReader:
    """Iterate over the frames of a text dump, one in memory at a time.

    Afterwards `truncated` says whether the file ended in the middle of a frame, which is then left out.

    Raises
    ------
    ValueError
        While iterating, if something stands where a frame should be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.truncated = False

    def __iter__(self) -> Iterator[DumpFrame]:
        self.truncated = False
        with open(self.path, errors='replace') as file:
            while line := file.readline():
                if not line.endswith('\n'):
                    self.truncated = True
                    return
                if not line.strip():
                    continue
                if not line.startswith('ITEM: TIMESTEP'):
                    raise ValueError(f'{self.path.name}: {line.strip()[:60]!r} where a frame should begin')
                frame = self._frame(file)
                if frame is None:
                    self.truncated = True
                    return
                yield frame

    def _frame(self, file: TextIO) -> DumpFrame | None:
        """The frame whose first line was just read; None if the file ends in it."""
        header = [file.readline() for _ in range(8)]
        if not header[-1].endswith('\n'):
            return None
        step, n_atoms = int(header[0]), int(header[2])
        names = header[7].split()[2:]
        bounds = np.array([[float(word) for word in line.split()] for line in header[4:7]])
        flags = [word for word in header[3].split()[3:] if len(word) == 2 and word[0] in 'pfsm']
        lines = []
        for _ in range(n_atoms):
            line = file.readline()
            if not line.endswith('\n'):
                return None
            lines.append(line)
        table = np.array(' '.join(lines).split(), dtype=float)
        if table.size != n_atoms * len(names):
            raise ValueError(
                f'{self.path.name}: step {step} has {table.size} numbers, expected {n_atoms} x {len(names)}'
            )
        cell, origin = _cell(bounds)
        return DumpFrame(
            step=step,
            cell=cell,
            origin=origin,
            pbc=np.array([flag.startswith('p') for flag in flags]),
            columns=dict(zip(names, table.reshape(n_atoms, len(names)).T, strict=True)),
        )


def _cell(bounds: NDArray) -> tuple[NDArray, NDArray]:
    """Cell and corner from the lines of BOX BOUNDS; of a tilted box they bound the hull (LAMMPS, Howto_triclinic)."""
    low, high = bounds[:, 0].copy(), bounds[:, 1].copy()
    xy, xz, yz = bounds[:, 2] if bounds.shape[1] == 3 else (0.0, 0.0, 0.0)
    low[0] -= min(0.0, xy, xz, xy + xz)
    high[0] -= max(0.0, xy, xz, xy + xz)
    low[1] -= min(0.0, yz)
    high[1] -= max(0.0, yz)
    cell = np.diag(high - low)
    cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
    return cell, low


def iter_dump(path: str | Path) -> DumpReader:
    """The frames of a text dump, one after another; see `DumpReader`."""
    return DumpReader(path)


def dump_to_frames(
    path: str | Path,
    elements: Sequence[str],
    indices: Sequence[int] | None = None,
    steps: Collection[int] | None = None,
) -> tuple[Frames | None, bool]:
    """Frames of a dump, the corner of the cell moved to the origin, with `extra['step']`.

    Parameters
    ----------
    path : str or Path
        A dump with columns `type x y z` and, to keep velocities and forces, `vx vy vz` and `fx fy fz`.
    elements : sequence of str
        Element of each LAMMPS atom type, in order.
    indices : sequence of int, optional
        Frames to keep, counted from 0; all without it. One that is not there is left out.
    steps : collection of int, optional
        Steps to keep the frames of, likewise.

    Returns
    -------
    frames : Frames or None
        None if there is no frame.
    truncated : bool
        Whether a last frame broke off and was left out.
    """
    wanted = None if indices is None else set(indices)
    reader = iter_dump(path)
    kept = [
        frame
        for index, frame in enumerate(reader)
        if (wanted is None or index in wanted) and (steps is None or frame.step in steps)
    ]
    if not kept:
        return None, reader.truncated
    has_velocities = all({'vx', 'vy', 'vz'} <= set(frame.columns) for frame in kept)
    has_forces = all({'fx', 'fy', 'fz'} <= set(frame.columns) for frame in kept)
    frames = Frames(
        elements=tuple(elements),
        counts=np.array([frame.n_atoms for frame in kept], dtype=np.int32),
        types=np.concatenate([frame.columns['type'] for frame in kept]).astype(np.int32) - 1,
        positions=np.concatenate([frame.positions - frame.origin for frame in kept]),
        cells=np.array([frame.cell for frame in kept]),
        pbc=np.array([frame.pbc for frame in kept]),
        forces=np.concatenate([frame.forces for frame in kept]) if has_forces else None,
        velocities=np.concatenate([frame.velocities for frame in kept]) if has_velocities else None,
        extra={'step': np.array([frame.step for frame in kept], dtype=np.int64)},
    )
    return frames, reader.truncated


@dataclass(frozen=True)
class AtomBalance:
    """Atoms at the start, inserted, lost and at the end: N = N0 + inserted - lost."""

    n_start: int
    n_inserted: int
    n_lost: int
    n_final: int


def atom_balance(n_start: int, n_inserted: int, n_lost: int, n_final: int) -> AtomBalance:
    """Check that no atom is missing or too many.

    Parameters
    ----------
    n_start, n_final : int
        Atoms at the start and the end.
    n_inserted : int
        From the schedule (`InsertionSchedule.inserted_at`): counted from neither atoms nor ids.
    n_lost : int
        From the ids (`lost_atoms`) or the log.

    Raises
    ------
    ValueError
        If N_final is not N_start + inserted - lost.
    """
    if n_final != n_start + n_inserted - n_lost:
        raise ValueError(
            f'the atoms do not add up: {n_start} at the start + {n_inserted} inserted - {n_lost} lost = '
            f'{n_start + n_inserted - n_lost}, but {n_final} at the end'
        )
    return AtomBalance(n_start, n_inserted, n_lost, n_final)


def lost_atoms(ids: NDArray) -> int:
    """Atoms lost, from the ids at the end: fix deposit numbers on and on, so a gap is an atom that is gone.

    An atom lost after the last insertion, and itself the last one inserted, leaves no gap; the balance finds it.
    """
    return int(ids.max()) - len(ids) if len(ids) else 0
