"""A shard of frames: many structures, labelled or not, in one immutable node."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from aiida.orm import Data, StructureData
from ase import Atoms
from numpy.typing import NDArray

from aiida_liheal.structures.frames import Frames

__all__ = ('FramesData',)


class FramesData(Data):
    """One immutable shard of frames, an uncompressed `.npy` file an array in the repository.

    A shard is one node however many frames it holds. A frame is named by (shard, index). Where a job labelled the
    frames, the job is the creator of the shard and `extra.source_index` says which frame of its input each one was.

    Parameters
    ----------
    frames : Frames
        The structures; Å, eV, eV/Å, virials in eV.
    domain : str, optional
        What kind of structures these are, such as `bulk` or `surface`; errors are reported by domain.
    sources : list of dict, optional
        For imported frames the files they are from, each with `file`, `format`, `sha256` and `n_frames`;
        `extra.source_file` of a frame is the number of its file here, `extra.source_index` its place in the file.
    left_out : list of dict, optional
        What an import did not take, each with `file`, `indices` (None for the whole) and `cause`.
    """

    _SUFFIX = '.npy'
    _SOURCES = 'sources.json'

    def __init__(
        self,
        frames: Frames | None = None,
        domain: str | None = None,
        sources: Sequence[dict[str, Any]] | None = None,
        left_out: Sequence[dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if frames is not None:
            self._set_frames(frames)
        if sources is not None:
            # a file, not attributes: a tree of runs has as many files as frames
            content = json.dumps({'sources': list(sources), 'left_out': list(left_out or [])})
            self.base.repository.put_object_from_filelike(io.BytesIO(content.encode()), self._SOURCES)
            self.base.attributes.set('n_sources', len(sources))
            self.base.attributes.set('formats', sorted({source['format'] for source in sources}))
        if domain is not None:
            self.base.attributes.set('domain', domain)

    def _set_frames(self, frames: Frames) -> None:
        arrays = frames.to_arrays()
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            buffer.seek(0)
            self.base.repository.put_object_from_filelike(buffer, name + self._SUFFIX)
        empty = len(frames) == 0
        self.base.attributes.set_many(
            {
                'n_frames': len(frames),
                'n_atoms_min': 0 if empty else int(frames.counts.min()),
                'n_atoms_max': 0 if empty else int(frames.counts.max()),
                'elements': list(frames.elements),
                'is_labelled': frames.is_labelled,
                'arrays': sorted(arrays),
            }
        )

    def _validate(self) -> bool:
        super()._validate()
        from aiida.common.exceptions import ValidationError

        if 'n_frames' not in self.base.attributes.all:
            raise ValidationError('the shard holds no frames: construct it with `FramesData(frames=...)`')
        return True

    def __len__(self) -> int:
        return int(self.base.attributes.get('n_frames'))

    @property
    def domain(self) -> str | None:
        """What kind of structures these are, or None."""
        return self.base.attributes.get('domain', None)

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols that the types of the frames refer to."""
        return tuple(self.base.attributes.get('elements'))

    @property
    def is_labelled(self) -> bool:
        """Whether every frame has an energy and forces."""
        return bool(self.base.attributes.get('is_labelled'))

    def get_frames(self) -> Frames:
        """All frames, in the precision they were stored in."""
        arrays = {name: self.get_array(name) for name in self.base.attributes.get('arrays')}
        return Frames.from_arrays({name: array for name, array in arrays.items() if array is not None})

    def get_array(self, name: str) -> NDArray | None:
        """One array of `Frames.to_arrays`, such as `extra.source_index`, without the others; None if there is none."""
        if name not in self.base.attributes.get('arrays'):
            return None
        with self.base.repository.open(name + self._SUFFIX, 'rb') as handle:
            array: NDArray = np.load(io.BytesIO(handle.read()), allow_pickle=False)
        return array

    @property
    def sources(self) -> list[dict[str, Any]]:
        """The files that imported frames are from, each with `file`, `format`, `sha256` and `n_frames`; or none."""
        return self._get_sources()['sources']

    @property
    def left_out(self) -> list[dict[str, Any]]:
        """What the import did not take, each with `file`, `indices` (None for the whole) and `cause`."""
        return self._get_sources()['left_out']

    def _get_sources(self) -> dict[str, list[dict[str, Any]]]:
        if self._SOURCES not in self.base.repository.list_object_names():
            return {'sources': [], 'left_out': []}
        content: dict[str, list[dict[str, Any]]] = json.loads(self.base.repository.get_object_content(self._SOURCES))
        return content

    def get_atoms(self, index: int = 0) -> Atoms:
        """One frame as ASE atoms, with its labels in a calculator. Raises IndexError if there is no such frame."""
        if not 0 <= index < len(self):
            raise IndexError(f'frames run from 0 to {len(self) - 1}, got {index}')
        return self.get_frames().to_atoms(index)

    @classmethod
    def from_structure(cls, structure: StructureData, domain: str | None = None) -> FramesData:
        """An unstored shard of one frame."""
        return cls(Frames.from_atoms([structure.get_ase()]), domain=domain)
