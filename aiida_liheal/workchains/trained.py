"""What a potential was made from, as far as its provenance tells: its model, and the frames that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from aiida.orm import CalcJobNode

from aiida_liheal.calculations.dp_settings import DpTrainSettings
from aiida_liheal.calculations.dp_train import split_shard
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.structures.frame_facts import frame_keys

__all__ = ('is_same_model', 'known_frames', 'trained_on')


_TRAIN, _COMPRESS = (f'aiida.calculations:liheal.dp_{name}' for name in ('train', 'compress'))


def _maker_of(potential: PotentialData) -> CalcJobNode | None:
    """The job that trained or compressed a potential; None if it was imported."""
    creator = potential.creator if potential.is_stored else None
    return creator if isinstance(creator, CalcJobNode) and creator.process_type in (_TRAIN, _COMPRESS) else None


def _models_of(potential: PotentialData) -> set[str]:
    """Content of a potential, and of the one that it was compressed from."""
    how = [potential.base.attributes.get(key) for key in ('kind', 'elements', 'pair_style', 'pair_coeff')]
    found = {f'{how} {potential.base.repository.hash()}'}
    maker = _maker_of(potential)
    if maker is not None and maker.process_type == _COMPRESS:
        found |= _models_of(maker.inputs.potential)
    return found


def is_same_model(one: PotentialData, other: PotentialData) -> bool:
    """Whether two potentials are one, or one of them the other one compressed; by content, however often imported."""
    return not _models_of(one).isdisjoint(_models_of(other))


def trained_on(potential: PotentialData) -> tuple[set[bytes], list[PotentialData]]:
    """Frames that a potential was trained on, those of the potentials that it began from too, held-out ones not.

    Returns
    -------
    keys : set of bytes
        As of `frame_keys`.
    unknown : list of PotentialData
        Those among them whose training is not in this profile.
    """
    keys: set[bytes] = set()
    unknown: list[PotentialData] = []
    seen: set[str] = set()
    left = [potential]
    while left:
        one = left.pop()
        if one.uuid in seen:
            continue
        seen.add(one.uuid)
        maker = _maker_of(one)
        if maker is None:
            unknown.append(one)
        elif maker.process_type == _COMPRESS:
            left.append(maker.inputs.potential)
        else:
            settings = DpTrainSettings.read(maker.inputs.settings.get_dict())
            for name, shard in maker.inputs.frames.items():
                own = frame_keys(shard.get_frames())
                keys |= {own[index] for index in split_shard(name, len(own), settings)[0]}
            if 'start_from' in maker.inputs:
                left.append(maker.inputs.start_from)
    return keys, unknown


def known_frames(potential: PotentialData, shards: Mapping[str, FramesData]) -> tuple[str, list[PotentialData]]:
    """Which of some labelled frames a potential was trained on, in words, and of what that is not known.

    Parameters
    ----------
    potential : PotentialData
        What is tested.
    shards : mapping of str to FramesData
        Frames to test it on, by name.
    """
    keys, unknown = trained_on(potential)
    counts = {
        name: int(np.sum([key in keys for key in frame_keys(shard.get_frames())])) for name, shard in shards.items()
    }
    told = [f'{count} of the {len(shards[name])} frames of {name!r}' for name, count in counts.items() if count]
    return ' and '.join(told), unknown
