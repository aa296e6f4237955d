"""The verb `label`: energies, forces and virials of many frames from an electronic-structure engine, in batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode, ProcessBuilder, ToContext, WorkChain, calcfunction, if_, while_
from aiida.orm import CalcJobNode, Code, Dict, Float, Int, Str

from aiida_liheal.calculations.common import settings_validator
from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines import Engine, engines
from aiida_liheal.engines import engine as find_engine
from aiida_liheal.structures.quality import QualityRules, find_exclusions
from aiida_liheal.workchains.ports import add_max_at_once, whole_number
from aiida_liheal.workchains.protocol import ProtocolMixin, set_options, whole

__all__ = ('LabelWorkChain', 'leave_out', 'refuse_other_engines', 'split_frames', 'summarise_labels')


def allowed_number(share: float, n_given: int) -> int:
    """How many of `n_given` frames may be dropped: the share rounded up, so that a small batch may lose one."""
    return math.ceil(share * n_given - 1e-9)


def n_tried(job: CalcJobNode) -> int:
    """How many frames of its batch a job and those before it have tried; -1 if it left no summary."""
    return job.outputs.summary['n_made'] + job.outputs.summary['n_dropped'] if 'summary' in job.outputs else -1


def refuse_other_engines(overrides: Mapping[str, Any] | None, engine: str) -> None:
    """Raise ValueError if settings of another engine than the one chosen are given: they would change nothing."""
    others = sorted(set(overrides or {}) & (set(engines()) - {engine}))
    if others:
        raise ValueError(
            f'settings of {", ".join(others)} are given, but the engine is {engine}; choose that one as engine'
        )


@calcfunction
def split_frames(frames: FramesData, batch_size: Int) -> dict[str, FramesData]:
    """The frames in batches `b000`, `b001`, … of at most `batch_size`; `source_index` is the index in `frames`."""
    import numpy as np

    content = frames.get_frames()
    batches = {}
    for number, start in enumerate(range(0, len(content), batch_size.value)):
        indices = np.arange(start, min(start + batch_size.value, len(content)))
        part = content.select(indices)
        part.extra['source_index'] = indices
        batches[f'b{number:03d}'] = FramesData(part, domain=frames.domain)
    return batches


@calcfunction
def leave_out(frames: FramesData, quality: Dict) -> dict[str, FramesData | Dict]:
    """A labelled shard without the frames that break a rule.

    Returns
    -------
    dict
        `frames`: those that are left, if any; `source_index` is the index in the shard given here. `excluded`: `index`
        and `cause` of the others, the index that of the shard given to the job that labelled them.
    """
    import numpy as np

    content = frames.get_frames()
    found = find_exclusions(content, QualityRules.read(quality.get_dict()))
    source = content.extra['source_index']
    kept = np.setdiff1d(np.arange(len(content)), [exclusion.index for exclusion in found])
    told = [{'index': int(source[exclusion.index]), 'cause': exclusion.cause} for exclusion in found]
    nodes: dict[str, FramesData | Dict] = {'excluded': Dict({'excluded': told})}
    if len(kept):
        rest = content.select(kept)
        rest.extra['source_index'] = kept
        nodes['frames'] = FramesData(rest, domain=frames.domain)
    return nodes


@calcfunction
def summarise_labels(**parts: Dict) -> Dict:
    """What became of all frames: counts, each dropped frame with its batch, cause and job, seconds, versions.

    Parameters
    ----------
    parts : Dict
        By batch (`b000`) the summary of its job; `b000_alone` that of the frames of it that went alone; `b000_left_out`
        and `b000_alone_left_out` those that broke a rule.
    """
    contents = {name: node.get_dict() for name, node in parts.items()}
    batches = {name: contents[name] for name in sorted(contents) if '_' not in name}
    dropped, n_alone, seconds = [], 0, 0.0
    for name, batch in batches.items():
        job = parts[name].creator.uuid
        gone = {entry['index']: {**entry, 'job': job} for entry in batch['dropped']}
        alone = contents.get(f'{name}_alone')
        if alone is not None:
            again = {entry['index']: entry for entry in alone['dropped']}
            n_alone += len(alone['tried'])
            for index in alone['tried']:
                before = gone.pop(index)
                if index in again:
                    cause = f'{before["cause"]}; {again[index]["cause"]}'
                    gone[index] = {'index': index, 'cause': cause, 'job': again[index]['job']}
        jobs = dict.fromkeys((entry['index'] for entry in batch['dropped']), job)
        jobs |= {int(index): uuid for index, uuid in alone['jobs'].items()} if alone is not None else {}
        for part in ('left_out', 'alone_left_out'):
            for entry in contents.get(f'{name}_{part}', {'excluded': []})['excluded']:
                gone[entry['index']] = {**entry, 'job': jobs.get(entry['index'], job)}
        dropped += [{'batch': name, **gone[index]} for index in sorted(gone)]
        if batch['n_made']:
            seconds += batch['seconds_per_frame'] * batch['n_made']
    n_labelled = sum(batch['n_made'] for batch in batches.values())
    n_given, n_not_tried = (sum(batch[key] for batch in batches.values()) for key in ('n_given', 'n_not_tried'))
    first = next(iter(batches.values()))
    return Dict(
        {
            'engine': first['engine'],
            'n_given': n_given,
            'n_made': n_given - n_not_tried - len(dropped),
            'n_dropped': len(dropped),
            'n_not_tried': n_not_tried,
            'n_alone': n_alone,
            'dropped': dropped,
            'seconds_per_frame': seconds / n_labelled if n_labelled else None,
            'versions': first['versions'],
            'settings': first['settings'],
        }
    )


class LabelWorkChain(ProtocolMixin, WorkChain):
    """Label frames in batches, one job a batch, by the engine chosen.

    Interrupted batches go on where they ended. What a batch drops is tried alone, if the engine has a way to do that.
    What does not converge, or breaks a rule of quality, is left out and told with frame, cause and job.
    """

    _protocol_name = 'label'

    @classmethod
    def define(cls, spec: Any) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        for name, found in engines().items():
            spec.expose_inputs(
                found.job,
                namespace=name,
                exclude=('frames', 'parent_folder'),
                namespace_options={
                    'required': False,
                    'populate_defaults': False,
                    'help': f'Inputs of the {name} job: its code ({found.code}), settings and options.',
                },
            )
            if found.alone is not None:
                spec.expose_inputs(
                    found.alone,
                    namespace=f'{name}_alone',
                    exclude=('frames', 'summary', 'max_frames', 'metadata', *cls._shared_inputs(found)),
                    namespace_options={
                        'required': False,
                        'populate_defaults': False,
                        'help': f'Inputs of {name} for frames that go alone, beside those that its job has.',
                    },
                )
        spec.input('frames', valid_type=FramesData, help='The structures to label; labels that they have are ignored.')
        spec.input(
            'engine',
            valid_type=Str,
            default=lambda: Str('gpaw'),
            validator=lambda node, _: (
                None if node.value in engines() else f'engine is {node.value!r}; allowed are {", ".join(engines())}'
            ),
            help='What computes the labels: ' + '; '.join(f'{n} ({e.title})' for n, e in engines().items()) + '.',
        )
        spec.input(
            'batch_size',
            valid_type=Int,
            default=lambda: Int(64),
            validator=whole_number('batch_size'),
            help='Most frames of one job.',
        )
        add_max_at_once(spec, 'jobs')
        spec.input(
            'allowed_failures',
            valid_type=Float,
            default=lambda: Float(0.05),
            validator=lambda node, _: (
                None if 0 <= node.value <= 1 else f'allowed_failures is {node.value}; allowed are shares from 0 to 1'
            ),
            help='Share of the frames that may be dropped, their number rounded up; with more, the work chain fails.',
        )
        spec.input(
            'max_iterations',
            valid_type=Int,
            default=lambda: Int(5),
            validator=whole_number('max_iterations'),
            help='Most jobs that one batch gets, the first one included, when they are interrupted.',
        )
        spec.input(
            'max_alone',
            valid_type=Int,
            default=lambda: Int(0),
            validator=whole_number('max_alone', 0),
            help='Most frames of all batches together that go alone after their batch dropped them, with the error '
            'handlers of the engine, if it has any; 0: none.',
        )
        spec.input(
            'quality',
            valid_type=Dict,
            default=lambda: Dict(QualityRules.read({}).model_dump(mode='json')),
            validator=settings_validator(QualityRules),
            help='Rules that a labelled frame has to keep (see `QualityRules`); what breaks one is left out and told.',
        )
        spec.inputs.validator = cls._validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.has_batches_left)(cls.submit_batches, cls.inspect_batches),
            if_(cls.has_frames_to_try_alone)(cls.submit_alone),
            cls.results,
        )
        spec.output_namespace(
            'frames',
            valid_type=FramesData,
            dynamic=True,
            required=False,
            help='The labelled frames, a shard a batch: b000, b001, …, and b000_alone, … of those that went alone; '
            'energies eV, forces eV/Å, virials eV.',
        )
        spec.output(
            'summary',
            valid_type=Dict,
            required=False,
            help='Frames given, made, dropped (with batch, index in the batch, cause, UUID of the job) and not tried; '
            'seconds a frame.',
        )
        spec.exit_code(
            310,
            'ERROR_BATCH_FAILED',
            message='{n_failed} of {n_batches} batches failed: {causes}; labels of the others are in `frames`',
        )
        spec.exit_code(
            410,
            'ERROR_STILL_INTERRUPTED',
            message='{n_not_tried} of {n_given} frames were not tried after {max_iterations} jobs a batch; raise the '
            'walltime or max_iterations, or lower batch_size; what was labelled is in `frames`',
        )
        spec.exit_code(
            500, 'ERROR_NOTHING_CONVERGED', message='none of the {n_given} frames gave labels; see `summary` for causes'
        )
        spec.exit_code(
            501,
            'ERROR_TOO_MANY_DROPPED',
            message='{n_dropped} of {n_given} frames were dropped, {allowed} are allowed (allowed_failures {share}); '
            'see `summary` for causes; what was labelled is in `frames`',
        )

    @staticmethod
    def _shared_inputs(found: Engine) -> tuple[str, ...]:
        """Inputs that the job of an engine and its way for single frames both have."""
        if found.alone is None:
            return ()
        own = ('frames', 'metadata', 'parent_folder')
        return tuple(name for name in found.alone.spec().inputs if name in found.job.spec().inputs and name not in own)

    @staticmethod
    def _validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
        name = inputs['engine'].value if 'engine' in inputs else 'gpaw'
        if name not in engines() or 'frames' not in inputs:
            return None  # their own ports say so
        given = inputs.get(name) or {}
        missing = [port for port in ('code', 'settings') if port not in given]
        if missing:
            return f'engine is {name!r}, but {" and ".join(f"{name}.{port}" for port in missing)} is not given'
        alone = f'{name}_alone'
        if 'max_alone' in inputs and inputs['max_alone'].value and find_engine(name).alone and not inputs.get(alone):
            return (
                f'max_alone is {inputs["max_alone"].value}, but {alone} is not given; give its inputs, or max_alone 0'
            )
        # what the job itself would refuse, such as atoms too close or more ranks than it has: once it is submitted, it
        # is too late to say so
        ports = find_engine(name).job.spec().inputs
        told = ports.validator({**given, 'frames': inputs['frames']}, ports)
        return None if told is None else f'{name}: {told}'

    @classmethod
    def _load(cls) -> dict[str, Any]:
        """The protocols of the verb, with those of each engine laid in under its name."""
        content = super()._load()
        for name, found in engines().items():
            own = found.protocol()
            content['default_inputs'][name] = own['default_inputs']
            for protocol, changes in content['protocols'].items():
                changes[name] = own['protocols'].get(protocol, {})
        return content

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: Code,
        frames: FramesData,
        protocol: str | None = None,
        overrides: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        engine: str = 'gpaw',
    ) -> ProcessBuilder:
        """A builder with the settings of a protocol; see `ProtocolMixin` for what all of them take.

        Parameters
        ----------
        code : Code
            What runs the engine: for `gpaw` a Python in which GPAW is installed.
        frames : FramesData
            The structures to label.
        overrides : dict, optional
            Laid over the protocol: `batch_size`, `max_at_once`, `allowed_failures`, `max_iterations`, `max_alone`,
            `quality`, and by the name of the engine its `settings` and what else its part of the protocol has.
        engine : str
            What computes the labels.

        Raises
        ------
        ValueError
            Also for an unknown engine, settings of another one, or overlapping atoms.
        """
        chosen = find_engine(engine)
        refuse_other_engines(overrides, engine)
        inputs = cls.get_protocol_inputs(protocol, overrides)
        own = inputs[engine]
        allowed = ('settings', *chosen.further)
        unknown = sorted(set(own) - set(allowed))
        if unknown:
            raise ValueError(
                f'unknown override {", ".join(f"{engine}.{key}" for key in unknown)}; allowed are {", ".join(allowed)}'
            )
        settings = Dict(own['settings'])
        problem = chosen.explain_batch(frames, settings)
        if problem:
            raise ValueError(problem)
        builder = cls.get_builder()
        builder.frames = frames
        builder.engine = Str(engine)
        builder.batch_size = whole(inputs, 'batch_size')
        builder.allowed_failures = Float(inputs['allowed_failures'])
        builder.max_iterations = whole(inputs, 'max_iterations')
        if inputs['max_at_once'] is not None:
            builder.max_at_once = whole(inputs, 'max_at_once')
        builder[engine].code = code
        builder[engine].settings = settings
        for port, value in chosen.prepare(own, frames).items():
            builder[engine][port] = value
        set_options(builder[engine], options)
        builder.quality = Dict(QualityRules.read(inputs['quality']).model_dump(mode='json'))
        builder.max_alone = whole(inputs, 'max_alone') if chosen.alone is not None else Int(0)
        if chosen.alone is not None and inputs['max_alone']:
            resources = {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
            builder[f'{engine}_alone'].options = Dict({'resources': resources, **(options or {})})
            for port, value in chosen.prepare_alone(own, frames).items():
                builder[f'{engine}_alone'][port] = value
        return builder

    @property
    def engine(self) -> Engine:
        """The engine that labels."""
        return find_engine(self.inputs.engine.value)

    def setup(self) -> None:
        """Split the frames into batches."""
        frames = self.inputs.frames
        if len(frames) <= self.inputs.batch_size.value:
            self.ctx.shards = {'b000': frames}
        else:
            self.ctx.shards = dict(split_frames(frames, self.inputs.batch_size))
        self.ctx.left = sorted(self.ctx.shards)
        self.ctx.parents = {}
        self.ctx.n_jobs = dict.fromkeys(self.ctx.left, 0)
        self.ctx.ended = {}
        self.ctx.last = {}
        self.ctx.best = {}

    def has_batches_left(self) -> bool:
        """Whether batches are still to be labelled."""
        return bool(self.ctx.left)

    def submit_batches(self) -> Any:
        """Submit as many jobs as may run side by side."""
        at_once = self.inputs.max_at_once.value if 'max_at_once' in self.inputs else len(self.ctx.left)
        self.ctx.running, self.ctx.left = self.ctx.left[:at_once], self.ctx.left[at_once:]
        engine = self.engine
        awaited = {}
        for name in self.ctx.running:
            inputs: dict[str, Any] = {**self.exposed_inputs(engine.job, engine.name), 'frames': self.ctx.shards[name]}
            if name in self.ctx.parents:
                inputs['parent_folder'] = self.ctx.parents[name]
            inputs['metadata'] = {**inputs.get('metadata', {}), 'call_link_label': name}
            job = self.submit(engine.job, **inputs)
            self.ctx.n_jobs[name] += 1
            self.report(f'labelling {name} ({len(self.ctx.shards[name])} frames): {job.process_label}<{job.pk}>')
            awaited[f'jobs.{name}'] = job
        return ToContext(**awaited)

    def inspect_batches(self) -> None:
        """Keep the jobs that ended; submit interrupted ones again, without the frames that they finished."""
        interrupted = self.engine.job.exit_codes.ERROR_INTERRUPTED.status
        for name in self.ctx.running:
            job = self.ctx.jobs[name]
            self.ctx.last[name] = job
            # a job that ended before it was where the one before it had been does not take away what that one did
            if name not in self.ctx.best or n_tried(job) >= n_tried(self.ctx.best[name]):
                self.ctx.best[name] = job
            if job.exit_status == interrupted and self.ctx.n_jobs[name] < self.inputs.max_iterations.value:
                self.report(f'{name}: {job.exit_message}; submitting the rest again')
                if n_tried(self.ctx.best[name]):
                    self.ctx.parents[name] = self.ctx.best[name].outputs.remote_folder
                self.ctx.left.append(name)
            else:
                self.ctx.ended[name] = self.ctx.best[name]

    def has_frames_to_try_alone(self) -> bool:
        """Whether batches dropped frames, and the engine has a way to try them alone."""
        if self.engine.alone is None or not self.inputs.max_alone.value:
            return False
        return any(job.outputs.summary['n_dropped'] for job in self.ctx.ended.values() if 'summary' in job.outputs)

    def submit_alone(self) -> Any:
        """Submit the frames that batches dropped, a process a batch, at most `max_alone` frames in all."""
        engine, left = self.engine, self.inputs.max_alone.value
        assert engine.alone is not None  # noqa: S101  for mypy: the outline asked
        namespace = f'{engine.name}_alone'
        given = self.exposed_inputs(engine.job, engine.name)
        shared = {name: given[name] for name in self._shared_inputs(engine) if name in given}
        own = self.exposed_inputs(engine.alone, namespace, agglomerate=False)
        awaited = {}
        for name, job in sorted(self.ctx.ended.items()):
            n = min(left, job.outputs.summary['n_dropped']) if 'summary' in job.outputs else 0
            if not n:
                continue
            left -= n
            process = self.submit(
                engine.alone,
                **shared,
                **own,
                frames=self.ctx.shards[name],
                summary=job.outputs.summary,
                max_frames=Int(n),
                metadata={'call_link_label': f'{name}_alone'},
            )
            self.report(f'{name}: {n} frames that it dropped go alone: {process.process_label}<{process.pk}>')
            awaited[f'alone.{name}'] = process
        return ToContext(**awaited)

    def judge(self, name: str, shard: FramesData) -> dict[str, Dict]:
        """Attach a labelled shard without what breaks a rule; for `summarise_labels`, what was left out."""
        # nothing is copied where nothing is left out
        if not find_exclusions(shard.get_frames(), QualityRules.read(self.inputs.quality.get_dict())):
            self.out(f'frames.{name}', shard)
            return {}
        rest = leave_out(shard, self.inputs.quality)
        if 'frames' in rest:
            self.out(f'frames.{name}', rest['frames'])
        self.report(f'{name}: {len(rest["excluded"]["excluded"])} frames break a rule of quality and are left out')
        return {f'{name}_left_out': rest['excluded']}

    def results(self) -> ExitCode | None:
        """Attach the shards and the common summary; say if too much is missing."""
        codes = self.exit_codes
        jobs = {name: job for name, job in sorted(self.ctx.ended.items()) if 'summary' in job.outputs}
        alone = {f'{name}_alone': process for name, process in sorted(self.ctx.get('alone', {}).items())}
        parts = {}
        for name, process in {**jobs, **alone}.items():
            if 'summary' not in process.outputs:
                self.report(f'{name}: {process.process_label}<{process.pk}> left no summary: {process.exit_message}')
                continue
            parts[name] = process.outputs.summary
            if 'frames' in process.outputs:
                parts |= self.judge(name, process.outputs.frames)
        if parts:
            node = summarise_labels(**parts)
            self.out('summary', node)
        known = self.engine.job.exit_codes
        told = (0, known.ERROR_INTERRUPTED.status, known.ERROR_NOTHING_CONVERGED.status)
        failed = {name: job for name, job in sorted(self.ctx.last.items()) if job.exit_status not in told}
        if failed:
            causes = '; '.join(
                f'{name}<{job.pk}>: {job.exit_message or job.process_state.value}' for name, job in failed.items()
            )
            return codes.ERROR_BATCH_FAILED.format(n_failed=len(failed), n_batches=len(self.ctx.shards), causes=causes)
        summary = node.get_dict()
        n_given, n_dropped = summary['n_given'], summary['n_dropped']
        share = self.inputs.allowed_failures.value
        if summary['n_not_tried']:
            return codes.ERROR_STILL_INTERRUPTED.format(
                n_not_tried=summary['n_not_tried'], n_given=n_given, max_iterations=self.inputs.max_iterations.value
            )
        if not summary['n_made']:
            return codes.ERROR_NOTHING_CONVERGED.format(n_given=n_given)
        if n_dropped > allowed_number(share, n_given):
            return codes.ERROR_TOO_MANY_DROPPED.format(
                n_dropped=n_dropped, n_given=n_given, allowed=allowed_number(share, n_given), share=share
            )
        return None
