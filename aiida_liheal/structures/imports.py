"""Labelled frames from files and trees of files: what is found there, what was taken, and what was left out and why."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aiida_liheal.structures.formats import read_ase_db, read_deepmd_hdf5, read_deepmd_system, read_extxyz
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.reading import LeftOut, Reading
from aiida_liheal.structures.vasp import read_outcar, read_vasprun

__all__ = ('FRAME_FORMATS', 'Import', 'Shard', 'printable', 'read_frames')

#: What labelled frames can be read from, in words.
FRAME_FORMATS = {
    'deepmd-npy': 'DeePMD-kit npy systems: folders with type.raw and set.000, of one composition or mixed',
    'deepmd-mixed': 'DeePMD-kit npy systems of the mixed-type layout',
    'deepmd-hdf5': 'HDF5 files of DeePMD-kit systems (.h5, .hdf5)',
    'extxyz': 'extended xyz files (.xyz, .extxyz), also packed (.gz, .bz2, .xz)',
    'outcar': 'OUTCARs of VASP, also packed (.gz, .bz2, .xz)',
    'vasprun': 'vasprun.xml of VASP, also packed (.gz, .bz2, .xz)',
    'dpgen': 'working folders of DP-GEN: the data of iter.*/02.fp and 00.train/data.init',
    'ase-db': 'ASE databases (.db; a .json if it is given itself)',
}

#: How files are known by their names; a file that is given itself may have any name.
_NAMES = {
    'outcar': re.compile(r'(.*[._-])?OUTCAR(\d*|[._-].*)'),
    'vasprun': re.compile(r'(.*[._-])?vasprun.*\.xml([._-].*)?'),
    'deepmd-hdf5': re.compile(r'.*\.(h5|hdf5)'),
    'extxyz': re.compile(r'.*\.(ext)?xyz(\.gz|\.bz2|\.xz)?'),
    'ase-db': re.compile(r'.*\.db'),
}
_READERS = {'outcar': read_outcar, 'vasprun': read_vasprun, 'ase-db': read_ase_db}


@dataclass(frozen=True)
class _Source:
    """A file or the folder of a system, and its name relative to what was given."""

    path: Path
    kind: str
    name: str


@dataclass(frozen=True)
class Shard:
    """Frames that go into one node, with where they are from.

    Parameters
    ----------
    frames : Frames
        With `extra.source_file`, the number of the file in `sources`, and `extra.source_index`, the frame in the file.
    sources : list of dict
        For each file its name relative to the folder above of what was given, `format`, `sha256` and `n_frames`.
    """

    frames: Frames
    sources: list[dict[str, Any]]


@dataclass(frozen=True)
class Import:
    """What was read from one path.

    Parameters
    ----------
    shards : list of Shard
        One; two if some files have a stress and others have none.
    left_out : list of dict
        `file`, `indices` (None for the file as a whole) and `cause` of all that was not taken, a dict a cause.
    notes : list of str
        What is to be known of what was taken.
    """

    shards: list[Shard]
    left_out: list[dict[str, Any]]
    notes: list[str]

    @property
    def n_frames(self) -> int:
        """How many frames were taken."""
        return sum(len(shard.frames) for shard in self.shards)

    @property
    def n_left_out(self) -> int:
        """How many frames, or files of which no frame is known, were not taken."""
        return sum(len(entry['indices'] or [None]) for entry in self.left_out)


def printable(name: str | Path) -> str:
    """A file name for people and JSON: control characters and bytes that are no text are written out."""
    text = os.fsencode(name).decode('utf-8', errors='backslashreplace')
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode('ascii') for c in text)


def read_frames(
    path: str | Path,
    kind: str | None = None,
    elements: Sequence[str] | None = None,
    keys: Mapping[str, str] | None = None,
) -> Import:
    """The labelled frames of a file, or of all files below a folder.

    Parameters
    ----------
    path : str or Path
        A file or a folder. Links are followed, each file is read once.
    kind : str, optional
        Key of `FRAME_FORMATS`; by the names of the files if not given, where a vasprun.xml beside an OUTCAR of the
        same run is not read (`OUTCAR.relax1` and `vasprun.xml.relax1.gz`).
    elements : sequence of str, optional
        Chemical symbols of the types of DeePMD-kit systems that do not name them.
    keys : mapping of str to str, optional
        Names of labels in extended xyz, as of `read_extxyz`.

    Returns
    -------
    Import
        Steps of VASP that did not converge or were cut off, frames without labels, and files and systems below a
        folder that cannot be read are left out and listed.

    Raises
    ------
    ValueError
        If there is nothing of that kind, a folder cannot be looked into, or `path` is itself a data set (any kind but
        runs of VASP) that cannot be read as a whole.
    """
    path = Path(path)
    if kind is not None and kind not in FRAME_FORMATS:
        raise ValueError(f'format is {kind!r}; allowed are {", ".join(FRAME_FORMATS)}')
    if not path.exists():
        raise ValueError(f'{printable(path)}: there is no such file or folder')
    readings: list[tuple[_Source, str, Reading]] = []
    left_out: list[dict[str, Any]] = []
    notes: list[str] = []
    n_sources = 0
    for source in _find(path, kind, left_out, notes):
        n_sources += 1
        try:
            digest = _digest(source.path)
            found = _read(source, elements, keys)
        except (ValueError, OSError) as error:
            cause = str(error).removeprefix(f'{source.path}: ')
            if source.path == path and source.kind not in ('outcar', 'vasprun'):
                raise ValueError(f'{printable(source.path)}: {cause}') from error
            left_out.append({'file': source.name, 'indices': None, 'cause': cause})
            continue
        for name, reading in found.items():
            part = _Source(source.path, source.kind, source.name + name)
            left_out += _by_cause(part.name, reading.left_out)
            notes += [f'{part.name}: {note}' for note in reading.notes]
            if len(reading):
                readings.append((part, digest, reading))
    if not n_sources:
        what = FRAME_FORMATS[kind] if kind else 'labelled frames of a known format'
        raise ValueError(f'{printable(path)}: no {what} there')
    groups = [
        [entry for entry in readings if entry[2].frames is not None and (entry[2].frames.virials is None) == lacking]
        for lacking in (False, True)
    ]
    return Import([_shard(group) for group in groups if group], left_out, notes)


def _read(source: _Source, elements: Sequence[str] | None, keys: Mapping[str, str] | None) -> dict[str, Reading]:
    """What is in a source, by the name of the part of the file."""
    if source.kind == 'deepmd-npy':
        return {'': read_deepmd_system(source.path, elements)}
    if source.kind == 'deepmd-hdf5':
        return {f'#{printable(name)}': part for name, part in read_deepmd_hdf5(source.path, elements).items()}
    if source.kind == 'extxyz':
        return {'': read_extxyz(source.path, keys)}
    return {'': _READERS[source.kind](source.path)}


def _by_cause(name: str, left_out: Sequence[LeftOut]) -> list[dict[str, Any]]:
    """What was left out of a file, one entry a cause."""
    causes: dict[str, list[int]] = {}
    entries: list[dict[str, Any]] = []
    for entry in left_out:
        if entry.index is None:
            entries.append({'file': name, 'indices': None, 'cause': entry.cause})
        else:
            causes.setdefault(entry.cause, []).append(entry.index)
    return entries + [{'file': name, 'indices': found, 'cause': cause} for cause, found in causes.items()]


def _shard(readings: Sequence[tuple[_Source, str, Reading]]) -> Shard:
    """One shard of the frames of these readings."""
    frames = Frames.concatenate([reading.frames for _, _, reading in readings if reading.frames is not None])
    counts = [len(reading) for _, _, reading in readings]
    # the narrowest integers: what atoms are and where frames are from should cost little beside the numbers
    frames = replace(frames, types=frames.types.astype(np.min_scalar_type(len(frames.elements))))
    frames.extra['source_file'] = np.repeat(np.arange(len(counts), dtype=np.min_scalar_type(len(counts))), counts)
    indices = np.concatenate([reading.indices for _, _, reading in readings])
    frames.extra['source_index'] = indices.astype(np.min_scalar_type(int(indices.max())))
    sources = [
        {'file': source.name, 'format': source.kind, 'sha256': digest, 'n_frames': len(reading)}
        for source, digest, reading in readings
    ]
    return Shard(frames, sources)


def _digest(path: Path) -> str:
    """The SHA-256 of a file; of a folder, of the lines `sha256  name` of its files, sorted, as `sha256sum` has them."""
    if path.is_file():
        with path.open('rb') as handle:
            return hashlib.file_digest(handle, 'sha256').hexdigest()
    files = sorted(file for file in (*path.glob('*.raw'), *path.glob('set.*/*.npy')) if file.is_file())
    lines = [f'{_digest(file)}  {file.relative_to(path).as_posix()}\n' for file in files]
    return hashlib.sha256(''.join(lines).encode('utf-8', errors='surrogateescape')).hexdigest()


def _name_of_run(name: str) -> str:
    """What names of an OUTCAR and a vasprun.xml of the same run have in common: `.relax1` of OUTCAR.relax1.gz."""
    unpacked = re.sub(r'\.(gz|bz2|xz)$', '', name)
    return re.sub(r'OUTCAR', '', unpacked) if 'OUTCAR' in unpacked else re.sub(r'vasprun|\.xml', '', unpacked)


def _is_system(folder: Path, names: Sequence[str]) -> bool:
    return 'type.raw' in names and any(name.startswith('set.') for name in os.listdir(folder))


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders from `root` down with the names of their files, through links, each folder once."""
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        # what cannot be looked into may hold frames: a part of a data set is not taken for the whole
        raise ValueError(f'{printable(error.filename)}: it cannot be read: {error.strerror}') from error

    for name, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        folder = Path(name)
        stat = folder.stat()
        if (stat.st_dev, stat.st_ino) in seen:
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders.sort()
        yield folder, sorted(files)
        if _is_system(folder, files):
            folders.clear()


def _find(path: Path, kind: str | None, left_out: list[dict[str, Any]], notes: list[str]) -> Iterator[_Source]:
    """The sources of a kind at a path, each once, in the order of their names."""
    above = Path(os.path.abspath(path)).parent

    def source(found: Path, of: str) -> _Source:
        return _Source(found, of, printable(os.path.relpath(os.path.abspath(found), above)))

    if path.is_file():
        by_name = next((of for of, pattern in _NAMES.items() if pattern.fullmatch(path.name)), None)
        if kind is None and by_name is None:
            raise ValueError(
                f'{printable(path)}: its format is not known by its name; say which: {", ".join(FRAME_FORMATS)}'
            )
        if kind in ('deepmd-npy', 'deepmd-mixed', 'dpgen'):
            raise ValueError(f'{printable(path)} is a file; {FRAME_FORMATS[kind]} are folders')
        yield source(path, kind or by_name or '')
        return
    if not path.is_dir():
        raise ValueError(f'{printable(path)} is neither a file nor a folder, but a pipe or a device')
    is_dpgen = any(folder.is_dir() for folder in path.glob('iter.*/02.fp'))
    if kind == 'dpgen' and not is_dpgen:
        raise ValueError(f'{printable(path)} is no working folder of DP-GEN: it has no iter.*/02.fp')
    seen: set[Path] = set()
    if is_dpgen and kind in (None, 'dpgen'):
        found = _find_dpgen(path, left_out, source)
    else:
        found = _find_below(path, kind, left_out, notes, source)
    for each in found:
        real = each.path.resolve()
        if real not in seen:
            seen.add(real)
            yield each


def _find_below(
    path: Path, kind: str | None, left_out: list[dict[str, Any]], notes: list[str], source: Any
) -> Iterator[_Source]:
    """Systems and files of a kind, or of any kind, below a folder."""
    n_beside = 0
    for folder, files in _walk(path):
        if _is_system(folder, files):
            is_mixed = any(folder.glob('set.*/real_atom_types.npy'))
            if kind in (None, 'deepmd-npy') or (kind == 'deepmd-mixed' and is_mixed):
                yield source(folder, 'deepmd-npy')
            continue
        for of, pattern in _NAMES.items():
            if kind not in (None, of):
                continue
            matching = [name for name in files if pattern.fullmatch(name)]
            if kind is None and of == 'vasprun':
                runs = {_name_of_run(name) for name in files if _NAMES['outcar'].fullmatch(name)}
                n_beside += sum(_name_of_run(name) in runs for name in matching)
                matching = [name for name in matching if _name_of_run(name) not in runs]
            for name in matching:
                each = source(folder / name, of)
                if each.path.is_file():
                    yield each
                else:
                    # a pipe or a device would keep a reader waiting for ever
                    cause = 'it is no file, but a link that leads nowhere, a pipe or a device'
                    left_out.append({'file': each.name, 'indices': None, 'cause': cause})
    if n_beside:
        notes.append(
            f'{n_beside} vasprun.xml beside an OUTCAR of the same name are taken for the same runs and were not read'
        )


def _find_dpgen(path: Path, left_out: list[dict[str, Any]], source: Any) -> Iterator[_Source]:
    """The labelled data of a DP-GEN run: what it began with, and what it added in each iteration."""
    data = ('deepmd-npy', 'deepmd-hdf5')
    for iteration in sorted(path.glob('iter.*')):
        for folder, _, names in os.walk(iteration / '00.train' / 'data.init'):
            for link in sorted(Path(folder, name) for name in names):
                if not link.exists():
                    cause = 'the link leads nowhere; were the data moved?'
                    left_out.append({'file': source(link, '').name, 'indices': None, 'cause': cause})
        folders = [iteration / '00.train' / 'data.init', iteration / '02.fp']
        for root in folders:
            if not root.is_dir():
                continue
            found = [each for of in data for each in _find_below(root, of, left_out, [], source)]
            if not found and root.name == '02.fp':
                # labelled, but not yet collected
                runs = (list(_find_below(root, of, left_out, [], source)) for of in ('outcar', 'vasprun'))
                found = next((each for each in runs if each), [])
            yield from found
