"""The ledger of labels: for a frame of a shard, who labelled it, by which settings, and which trainings used it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from aiida.common.links import LinkType
from aiida.orm import CalcFunctionNode, CalcJobNode, CalculationNode, Dict, ProcessNode, QueryBuilder

from aiida_liheal.data.frames import FramesData
from aiida_liheal.report.tree import describe, pk_of

if TYPE_CHECKING:
    from aiida_liheal.structures.frames import Frames

__all__ = ('name_of', 'trace_frames', 'trace_in_words')


#: Most batches of labels that are told in words.
_MOST_LABELS = 5
#: Most causes of one batch that are told in words.
_MOST_CAUSES = 3


def name_of(node: ProcessNode) -> str:
    """A process with the verb that called it."""
    caller = node.caller
    verb = f' of {caller.process_label}<{caller.pk}>' if caller is not None else ''
    return f'{node.process_label}<{node.pk}>{verb}'


def trace_frames(node: FramesData, index: int | None = None) -> dict[str, Any]:
    """Where a shard, or one frame of it, is from and what it was used for.

    Parameters
    ----------
    node : FramesData
        The shard.
    index : int, optional
        One frame of it, counted from 0.

    Returns
    -------
    dict
        `shard`, `index`, `frame` (atoms and energy in eV); `origin`, a list that begins with this shard and goes back
        as far as the links do, each with its `process` (`settings`, `versions`, and `job` where frames went alone) or
        the file it was `imported` from (`file`, `format`, `sha256`, `index`); `labels`, what jobs that were given these
        frames made of them, batch by batch: the labelled `shard` and `index`, or the `cause` of a frame that was
        dropped; `excluded`, the rules of quality by which labelled frames of the `shard` were left out of what was
        given on: the `index` in it and the `cause`, of a whole shard `n_frames` and the `causes`; and `trainings`, each
        with `pk`, the `shard` by which it took the frames, and `is_held_out` or numbers of frames.
    """
    frames = node.get_frames()
    told: dict[str, Any] = {'shard': node.pk, 'uuid': node.uuid, 'what': describe(node), 'index': index}
    if index is not None:
        energy = None if frames.energies is None else float(frames.energies[index])
        told['frame'] = {'n_atoms': int(frames.counts[index]), 'energy_eV': energy}
    told['origin'] = list(_origin(node, frames, index))
    forward = _Forward(node, index)
    told['labels'], told['trainings'] = forward.labels, forward.trainings
    told['excluded'] = forward.excluded
    return told


def _origin(node: FramesData, frames: Frames, index: int | None) -> Iterator[dict[str, Any]]:
    """The steps back from a shard."""
    step: dict[str, Any] = {'shard': node.pk, 'what': describe(node), 'index': index}
    creator: Any = node.creator
    if creator is None:
        yield {**step, 'imported': _imported(node, frames, index)}
        return
    process: dict[str, Any] = {
        'pk': creator.pk,
        'uuid': creator.uuid,
        'name': name_of(creator),
        'label': creator.process_label,
    }
    source, before = _source_of(node, creator, frames, index)
    summary = creator.outputs.summary.get_dict() if 'summary' in creator.outputs else {}
    jobs = summary.get('jobs') or {}
    # a function that only chose among labelled frames did not label them; one that collected single jobs names them
    step['is_labelled'] = node.is_labelled and (not isinstance(creator, CalcFunctionNode) or bool(jobs))
    if 'settings' in creator.inputs and isinstance(creator.inputs.settings, Dict) and step['is_labelled']:
        process['settings'] = creator.inputs.settings.get_dict()
    process['versions'] = summary.get('versions') or {}
    if str(before) in jobs:
        process['job'] = jobs[str(before)]
    step['process'] = process
    if index is not None and 'step' in frames.extra:
        found = sorted(key for key, values in frames.extra.items() if values.ndim == 1)
        step['found'] = {key: frames.extra[key][index].item() for key in found}
    if not isinstance(source, FramesData):
        yield step
        return
    yield {**step, 'from': {'shard': source.pk, 'what': describe(source), 'index': before}}
    yield from _origin(source, source.get_frames(), before)


def _source_of(
    node: FramesData, creator: Any, frames: Frames, index: int | None
) -> tuple[FramesData | None, int | None]:
    """The shard that a process made this one of, and the frame of it that a frame was made of."""
    if 'frames' in creator.inputs:
        before = frames.extra.get('source_index') if index is not None else None
        return creator.inputs.frames, None if before is None else int(before[index])
    if 'structures' in creator.inputs and 'run' in frames.extra and isinstance(creator.inputs.structures, FramesData):
        # found in MD: the structure that its run began with
        runs = creator.inputs.settings.get_dict().get('runs', []) if index is not None else []
        number = int(frames.extra['run'][index]) if index is not None else 0
        return creator.inputs.structures, runs[number].get('structure') if number < len(runs) else None
    # what was chosen of `candidates_bulk` is given as `candidates.bulk`
    link = node.base.links.get_incoming(link_type=LinkType.CREATE).one().link_label
    name = link.replace('__', '_')
    source = creator.inputs[name] if '__' in link and name in creator.inputs else None
    if not isinstance(source, FramesData) or index is None:
        return (source if isinstance(source, FramesData) else None), None
    keys = [
        key for key in ('run', 'step') if key in frames.extra and f'extra.{key}' in source.base.attributes.get('arrays')
    ]
    same = np.ones(len(source), dtype=bool)
    for key in keys:
        same &= source.get_array(f'extra.{key}') == frames.extra[key][index]
    return source, int(same.argmax()) if keys and same.sum() == 1 else None


class _Forward:
    """What became of frames: the jobs that labelled them, and the trainings that took them or what was made of them.

    All shards of a step forward are asked for at once, as there may be hundreds of batches.

    Parameters
    ----------
    node : FramesData
        Where to begin.
    index : int, optional
        One frame of it.
    """

    def __init__(self, node: FramesData, index: int | None) -> None:
        self.labels: list[dict[str, Any]] = []
        self.excluded: list[dict[str, Any]] = []
        self.trainings: list[dict[str, Any]] = []
        self._names: dict[int, str] = {}
        level, seen = {pk_of(node): (node, index)}, {pk_of(node)}
        while level:
            self._take_trainings(level)
            level = {pk: found for pk, found in self._step(level) if pk not in seen}
            seen |= set(level)

    def _name(self, jobs: Mapping[int, str]) -> None:
        """Find the names of jobs, given by pk and label, as of `name_of`."""
        missing = [pk for pk in jobs if pk not in self._names]
        query = QueryBuilder().append(ProcessNode, filters={'id': {'in': missing}}, tag='job', project='id')
        query.append(ProcessNode, with_outgoing='job', project=['id', 'attributes.process_label'])
        callers = {pk: f' of {label}<{caller}>' for pk, caller, label in query.iterall()} if missing else {}
        self._names |= {pk: f'{jobs[pk]}<{pk}>{callers.get(pk, "")}' for pk in missing}

    def _step(self, level: Mapping[int, tuple[FramesData, int | None]]) -> Iterator[tuple[int, Any]]:
        """The shards that processes made of those of a level, each with the place of the frame in it."""
        query = QueryBuilder().append(FramesData, filters={'id': {'in': list(level)}}, tag='given', project='id')
        query.append(CalculationNode, with_incoming='given', edge_filters={'label': 'frames'}, tag='job', project='*')
        query.order_by({'job': 'id'})
        found: list[tuple[int, Any]] = query.all()
        jobs = {job.pk: job.process_label for _, job in found}
        if not jobs:
            return
        self._name(jobs)
        made: dict[int, list[FramesData]] = {}
        query = QueryBuilder().append(CalculationNode, filters={'id': {'in': list(jobs)}}, tag='job', project='id')
        query.append(FramesData, with_incoming='job', project='*', tag='part').order_by({'part': 'id'})
        for pk, part in query.iterall():
            made.setdefault(pk, []).append(part)
        query = QueryBuilder().append(CalculationNode, filters={'id': {'in': list(jobs)}}, tag='job', project='id')
        query.append(Dict, with_incoming='job', edge_filters={'label': 'summary'}, project='attributes')
        summaries = dict(query.iterall())
        query = QueryBuilder().append(CalcFunctionNode, filters={'id': {'in': list(jobs)}}, tag='job', project='id')
        query.append(Dict, with_incoming='job', edge_filters={'label': 'excluded'}, project='attributes')
        excluded = dict(query.iterall())
        for given, job in found:
            index, summary = level[given][1], summaries.get(job.pk, {})
            # a function that only chose among frames did not label them; one that collected single jobs names them
            is_label = isinstance(job, CalcJobNode) or bool(summary.get('jobs'))
            told = {'pk': job.pk, 'uuid': job.uuid, 'name': self._names[job.pk]}
            self.excluded += _exclusions({**told, 'shard': given}, *level[given], excluded.get(job.pk, {}))
            dropped = {entry['index']: entry['cause'] for entry in summary.get('dropped', [])}
            for part in made.get(job.pk, []):
                place = None if index is None else _place(part, index)
                if index is not None and place is None:
                    continue
                if is_label:
                    where = (
                        {'index': place} if place is not None else {'n_frames': len(part), 'n_dropped': len(dropped)}
                    )
                    self.labels.append({**told, 'shard': part.pk, **where})
                yield pk_of(part), (part, place)
            if is_label and index in dropped:
                self.labels.append({**told, 'cause': dropped[index]})

    def _take_trainings(self, level: Mapping[int, tuple[FramesData, int | None]]) -> None:
        """Note the trainings that took shards of a level, and whether the frame was held out."""
        from aiida_liheal.calculations.dp_settings import DpTrainSettings
        from aiida_liheal.calculations.dp_train import split_shard

        is_training = {'attributes.process_label': 'DpTrainCalculation'}
        query = QueryBuilder().append(FramesData, filters={'id': {'in': list(level)}}, tag='taken', project='id')
        of_job = ['id', 'uuid', 'attributes.process_state', 'attributes.exit_status']
        query.append(
            CalcJobNode, with_incoming='taken', filters=is_training, tag='job', project=of_job, edge_project='label'
        )
        query.order_by({'job': 'id'})
        found = query.all()
        pks = sorted({row[1] for row in found})
        if not pks:
            return
        self._name(dict.fromkeys(pks, 'DpTrainCalculation'))
        query = QueryBuilder().append(CalcJobNode, filters={'id': {'in': pks}}, tag='job', project='id')
        query.append(Dict, with_outgoing='job', edge_filters={'label': 'settings'}, project='attributes')
        settings = {pk: DpTrainSettings.model_validate(content) for pk, content in query.iterall()}
        for shard, pk, uuid, state, exit_status, link in found:
            node, index = level[shard]
            # a shard given as `bulk` is linked as `frames__bulk`; the held-out share is drawn by that name
            name = link.removeprefix('frames__')
            chosen, held = split_shard(name, len(node), settings[pk])
            told = {
                'pk': pk,
                'uuid': uuid,
                'name': self._names[pk],
                'as': name,
                'shard': shard,
                'seed': settings[pk].seed,
                'state': f'exit code {exit_status}' if exit_status else state,
            }
            if index is None:
                self.trainings.append({**told, 'n_trained_on': len(chosen), 'n_held_out': len(held)})
            else:
                self.trainings.append({**told, 'index': index, 'is_held_out': bool(index in held)})


def _exclusions(
    told: dict[str, Any], part: FramesData, index: int | None, content: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """What rules of quality left out of a labelled shard, or that they left out this frame of it."""
    entries = content.get('excluded', [])
    if not entries:
        return
    if index is None:
        causes = list(dict.fromkeys(entry['cause'] for entry in entries))
        yield {**told, 'n_frames': len(entries), 'causes': causes}
        return
    # the rules tell the place in the batch that was given to the job, not that in the shard which it made
    source = part.get_array('extra.source_index')
    in_batch = index if source is None else int(source[index])
    yield from ({**told, 'index': index, 'cause': entry['cause']} for entry in entries if entry['index'] == in_batch)


def _place(part: FramesData, index: int) -> int | None:
    """Where a frame of the shard given to a process is in a shard that the process made; None if it is not."""
    places = part.get_array('extra.source_index')
    found = [] if places is None else np.flatnonzero(places == index).tolist()
    return found[0] if found else None


def _imported(node: FramesData, frames: Frames, index: int | None) -> dict[str, Any]:
    """The file of an imported frame, or how many files a shard is from."""
    sources = node.sources
    told: dict[str, Any] = {'description': node.description}
    if sources and index is not None and 'source_file' in frames.extra:
        source = sources[int(frames.extra['source_file'][index])]
        told |= {key: source[key] for key in ('file', 'format', 'sha256')}
        told['index'] = int(frames.extra['source_index'][index])
    elif sources:
        told |= {'n_files': len(sources), 'formats': sorted({source['format'] for source in sources})}
    return told


def trace_in_words(told: dict[str, Any]) -> Iterator[str]:
    """What `trace_frames` found, line by line."""
    yield f'FramesData<{told["shard"]}>: {told["what"]}'
    if told['index'] is not None:
        energy = told['frame']['energy_eV']
        yield f'frame {told["index"]}: {told["frame"]["n_atoms"]} atoms' + (
            f', {energy:.6f} eV' if energy is not None else ''
        )
    for depth, step in enumerate(told['origin']):
        yield from ('  ' * depth + line for line in _step_in_words(step))
    yield from _labels_in_words(told['labels'])
    yield from _exclusions_in_words(told['excluded'])
    if not told['trainings']:
        yield 'no training took it'
    # batches that were cut from one shard went to a training as a shard each
    by_job: dict[Any, list[dict[str, Any]]] = {}
    for training in told['trainings']:
        by_job.setdefault(training['pk'] if told['index'] is None else len(by_job), []).append(training)
    for taken in by_job.values():
        first, n = taken[0], len(taken)
        if told['index'] is None:
            n_trained_on, n_held_out = (sum(each[key] for each in taken) for key in ('n_trained_on', 'n_held_out'))
            part = f'{n_trained_on} frames trained on, {n_held_out} held out'
        else:
            part = 'held out' if first['is_held_out'] else 'trained on'
        through = f' through FramesData<{first["shard"]}>' if first['shard'] != told['shard'] else ''
        through = through if n == 1 else f' to {taken[-1]["as"]}, {n} shards'
        yield f'taken by {first["name"]} as {first["as"]}{through}: {part} ({first["state"]}, seed {first["seed"]})'


def _labels_in_words(labels: list[dict[str, Any]]) -> Iterator[str]:
    for label in labels[:_MOST_LABELS]:
        if 'cause' in label:
            yield f'dropped by {label["name"]}: {label["cause"]}'
        elif 'index' in label:
            yield f'labelled by {label["name"]}: frame {label["index"]} of FramesData<{label["shard"]}>'
        else:
            dropped = f', {label["n_dropped"]} dropped' if label['n_dropped'] else ''
            yield f'labelled by {label["name"]}: FramesData<{label["shard"]}>, {label["n_frames"]} frames{dropped}'
    if len(labels) > _MOST_LABELS:
        n = sum(label.get('n_frames', 0) for label in labels)
        yield f'… and {len(labels) - _MOST_LABELS} more batches, {n} labelled frames in all; --json has them'


def _exclusions_in_words(exclusions: list[dict[str, Any]]) -> Iterator[str]:
    for exclusion in exclusions[:_MOST_LABELS]:
        if 'cause' in exclusion:
            yield f'left out by {exclusion["name"]}: {exclusion["cause"]}'
        else:
            n, causes = exclusion['n_frames'], exclusion['causes']
            more = f'; {len(causes) - _MOST_CAUSES} more causes' if len(causes) > _MOST_CAUSES else ''
            yield (
                f'{n} labelled frame{"" if n == 1 else "s"} left out by {exclusion["name"]}: '
                f'{"; ".join(causes[:_MOST_CAUSES])}{more}'
            )
    if len(exclusions) > _MOST_LABELS:
        n = sum(exclusion.get('n_frames', 1) for exclusion in exclusions)
        yield f'… {n} labelled frames left out in all; --json has them'


def _step_in_words(step: dict[str, Any]) -> Iterator[str]:
    if 'imported' in step:
        imported = step['imported']
        if 'file' in imported:
            yield f'imported: frame {imported["index"]} of {imported["file"]} ({imported["format"]})'
            yield f'  sha256 {imported["sha256"]}'
        else:
            yield f'imported: {imported["description"] or "without a description"}'
            if 'n_files' in imported:
                yield f'  {imported["n_files"]} files: {", ".join(imported["formats"])}'
        return
    process = step['process']
    yield f'{"labelled" if step["is_labelled"] else "made"} by {process["name"]}'
    if 'job' in process:
        yield f'  its own job: {process["job"]}'
    if process.get('settings'):
        yield '  settings: ' + ', '.join(f'{key} = {value}' for key, value in process['settings'].items())
    if process.get('versions'):
        yield '  versions: ' + ', '.join(f'{name} {version}' for name, version in process['versions'].items())
    if 'found' in step:
        yield '  found in MD: ' + ', '.join(f'{key} {value:g}' for key, value in step['found'].items())
    if 'from' in step:
        before = step['from']
        which = f'frame {before["index"]} of ' if before['index'] is not None else ''
        yield f'  from {which}FramesData<{before["shard"]}>: {before["what"]}'
