"""Labels put on frames: what every engine that labels a batch needs, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aiida_liheal.structures.frames import Frames

__all__ = ('HasLabels', 'label_frames', 'labels_to_arrays', 'summarise_batch')


class HasLabels(Protocol):
    """Labels of one frame: energy in eV, forces (n_atoms, 3) in eV/Å, virial (3, 3) in eV."""

    @property
    def energy(self) -> float: ...  # noqa: D102
    @property
    def forces(self) -> NDArray: ...  # noqa: D102
    @property
    def virial(self) -> NDArray: ...  # noqa: D102


def labels_to_arrays(labels: Mapping[int, HasLabels]) -> dict[str, NDArray]:
    """Labels by index of their frame as the arrays that `label_frames` takes, frames in order."""
    done = sorted(labels)
    return {
        'source_index': np.array(done, dtype=np.int64),
        'energies': np.array([labels[index].energy for index in done], dtype=float),
        'forces': np.concatenate([labels[index].forces for index in done] or [np.zeros((0, 3))]),
        'virials': np.array([labels[index].virial for index in done], dtype=float).reshape(-1, 3, 3),
    }


#: What is kept of the record of a labelled frame, as extra arrays of its shard.
_KEPT = ('seconds', 'scf_steps', 'kpoint_mesh')


def label_frames(
    given: Frames, labels: Mapping[str, NDArray], records: Sequence[Mapping[str, Any]] | None = None
) -> Frames:
    """The frames that were labelled, with their labels and `source_index`.

    Velocities and labels that `given` has are not taken over; other extra arrays are.

    Parameters
    ----------
    given : Frames
        The frames of the batch.
    labels : mapping
        Arrays as of `labels_to_arrays`.
    records : sequence of mapping, optional
        What became of each frame that was tried, with its `index`. `seconds`, `scf_steps` and `kpoint_mesh` become
        extra arrays, if all labelled frames have them: a few bytes a frame in the repository, where a list of
        dictionaries in the database has a hundred.

    Raises
    ------
    ValueError
        If the labels do not belong to these frames, or hold numbers that are not finite.
    """
    source = labels['source_index']
    if source.size and not 0 <= source.min() <= source.max() < len(given):
        raise ValueError(f'labels of frames {source.min()} to {source.max()}, the job was given {len(given)} frames')
    chosen = given.select(source)
    by_index = {record['index']: record for record in records or []}
    told = [by_index.get(int(index), {}) for index in source]
    kept = {key: [record[key] for record in told] for key in _KEPT if told and all(key in record for record in told)}
    numbers = {
        key: np.array(values, dtype=np.float32 if key == 'seconds' else np.int32) for key, values in kept.items()
    }
    return Frames(
        elements=chosen.elements,
        counts=chosen.counts,
        types=chosen.types,
        positions=chosen.positions,
        cells=chosen.cells,
        pbc=chosen.pbc,
        energies=labels['energies'],
        forces=labels['forces'],
        virials=labels['virials'],
        extra={**chosen.extra, **numbers, 'source_index': source},
    )


def summarise_batch(
    engine: str,
    n_given: int,
    records: Sequence[Mapping[str, Any]],
    wall_s: float,
    versions: Mapping[str, Any],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """The summary of a batch; what is known of single labelled frames goes with them.

    Parameters
    ----------
    engine : str
        Name of the engine.
    n_given : int
        Frames that the job was given.
    records : sequence of mapping
        For each frame that was tried its `index`, `status` (`converged` or not), `cause` and `seconds`.
    wall_s : float
        How long the job ran, in s.
    versions : mapping
        Of all programs that took part.
    settings : dict
        Those of the job.
    """
    seconds = [record['seconds'] for record in records if record['status'] == 'converged']
    return {
        'engine': engine,
        'n_given': n_given,
        'n_made': len(seconds),
        'n_dropped': len(records) - len(seconds),
        'n_not_tried': n_given - len(records),
        'dropped': [{'index': r['index'], 'cause': r['cause']} for r in records if r['status'] != 'converged'],
        'seconds_per_frame': float(np.mean(seconds)) if seconds else None,
        'wall_s': wall_s,
        'versions': dict(versions),
        'settings': settings,
    }
