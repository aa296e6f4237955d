"""The ledger of labels: for a frame of a shard, who labelled it, by which settings, and which trainings used it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiida.common.links import LinkType
from aiida.orm import CalcFunctionNode, Dict, ProcessNode

from aiida_liheal.data.frames import FramesData
from aiida_liheal.report.tree import describe, pk_of

if TYPE_CHECKING:
    from aiida_liheal.structures.frames import Frames

__all__ = ('name_of', 'trace_frames', 'trace_in_words')


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
        the file it was `imported` from (`file`, `format`, `sha256`, `index`); `excluded`, by which process and for what
        cause the frame was left out of what was given on; and `trainings`, each with `pk`, the `shard` by which it took
        the frames, and `is_held_out` or numbers of frames.
    """
    frames = node.get_frames()
    told: dict[str, Any] = {'shard': node.pk, 'uuid': node.uuid, 'what': describe(node), 'index': index}
    if index is not None:
        energy = None if frames.energies is None else float(frames.energies[index])
        told['frame'] = {'n_atoms': int(frames.counts[index]), 'energy_eV': energy}
    told['origin'] = list(_origin(node, frames, index))
    told['trainings'] = list(_trainings(node, index, set()))
    told['excluded'] = [] if index is None else list(_exclusions(node, frames, index))
    return told


def _exclusions(node: FramesData, frames: Frames, index: int) -> Iterator[dict[str, Any]]:
    """The rules of quality by which a labelled frame was left out of what was given on."""
    in_batch = int(frames.extra['source_index'][index]) if 'source_index' in frames.extra else index
    for link in node.base.links.get_outgoing(link_type=LinkType.INPUT_CALC, link_label_filter='frames').all():
        job: Any = link.node
        if not isinstance(job, CalcFunctionNode) or 'excluded' not in job.outputs:
            continue
        for entry in job.outputs.excluded.get_dict().get('excluded', []):
            if entry['index'] == in_batch:
                yield {'name': name_of(job), 'pk': job.pk, 'cause': entry['cause']}


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
    source = creator.inputs.frames if 'frames' in creator.inputs else None
    before = None
    if index is not None and 'source_index' in frames.extra:
        before = int(frames.extra['source_index'][index])
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


def _trainings(node: FramesData, index: int | None, seen: set[int]) -> Iterator[dict[str, Any]]:
    """The trainings that took a shard, or what calcfunctions made of it, and whether one frame was held out."""
    from aiida_liheal.calculations.dp_settings import DpTrainSettings
    from aiida_liheal.calculations.dp_train import split_shard

    if pk_of(node) in seen:
        return
    seen.add(pk_of(node))
    for link in node.base.links.get_outgoing(link_type=LinkType.INPUT_CALC).all():
        job: Any = link.node
        if isinstance(job, CalcFunctionNode) and link.link_label == 'frames':
            yield from _trainings_of_parts(job, index, seen)
        if getattr(job, 'process_label', '') != 'DpTrainCalculation':
            continue
        # a shard given as `bulk` is linked as `frames__bulk`; the held-out share is drawn by that name
        name = link.link_label.removeprefix('frames__')
        settings = DpTrainSettings.model_validate(job.inputs.settings.get_dict())
        chosen, held = split_shard(name, len(node), settings)
        told = {
            'pk': job.pk,
            'uuid': job.uuid,
            'name': name_of(job),
            'as': name,
            'shard': node.pk,
            'seed': settings.seed,
            'state': f'exit code {job.exit_status}' if job.exit_status else job.process_state.value,
        }
        if index is None:
            yield {**told, 'n_trained_on': len(chosen), 'n_held_out': len(held)}
        else:
            yield {**told, 'index': index, 'is_held_out': bool(index in held)}


def _trainings_of_parts(job: CalcFunctionNode, index: int | None, seen: set[int]) -> Iterator[dict[str, Any]]:
    """The trainings of the labelled parts that a calcfunction made of a shard."""
    for link in job.base.links.get_outgoing(link_type=LinkType.CREATE).all():
        part = link.node
        if not isinstance(part, FramesData) or not part.is_labelled:
            continue
        if index is None:
            yield from _trainings(part, None, seen)
            continue
        places = part.get_frames().extra.get('source_index')
        for place in [] if places is None else (places == index).nonzero()[0]:
            yield from _trainings(part, int(place), seen)


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
    for exclusion in told['excluded']:
        yield f'left out by {exclusion["name"]}: {exclusion["cause"]}'
    if not told['trainings']:
        yield 'no training took it'
    for training in told['trainings']:
        if told['index'] is None:
            part = f'{training["n_trained_on"]} frames trained on, {training["n_held_out"]} held out'
        else:
            part = 'held out' if training['is_held_out'] else 'trained on'
        through = f' through FramesData<{training["shard"]}>' if training['shard'] != told['shard'] else ''
        yield (
            f'taken by {training["name"]} as {training["as"]}{through}: {part} '
            f'({training["state"]}, seed {training["seed"]})'
        )


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
