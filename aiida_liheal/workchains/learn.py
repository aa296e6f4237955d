"""The verb `learn`: label, train, explore, choose, label again, until the committee agrees or the rounds are over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, calcfunction, while_
from aiida.orm import AbstractCode, Bool, Dict, Int, Str

from aiida_liheal.calculations.common import settings_validator
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.lammps.potentials import potential_spec
from aiida_liheal.sampling.convergence import ConvergenceSettings, RoundOutcome, judge_round
from aiida_liheal.sampling.seeds import derive_seed
from aiida_liheal.sampling.trust import TrustCounts
from aiida_liheal.workchains.explore import ExploreWorkChain, check_systems
from aiida_liheal.workchains.label import LabelWorkChain
from aiida_liheal.workchains.ports import add_seed, whole_number
from aiida_liheal.workchains.protocol import ProtocolMixin, fill, whole
from aiida_liheal.workchains.train import TrainWorkChain, check_committee

__all__ = ('LearnWorkChain', 'judge', 'round_seed')


@calcfunction
def round_seed(seed: Int, verb: Str, number: Int) -> Int:
    """Seed of one verb in one round."""
    return Int(derive_seed(seed.value, verb.value, number.value))


@calcfunction
def judge(exploration: Dict, number: Int, n_rounds: Int, convergence: Dict) -> Dict:
    """What a round came to; `outcome` is a value of `RoundOutcome`."""
    seen = exploration.get_dict()
    counts = TrustCounts(seen['n_accurate'], seen['n_candidate'], seen['n_failed'], seen['n_missing'])
    outcome = judge_round(counts, number.value + 1, n_rounds.value, ConvergenceSettings.read(convergence.get_dict()))
    return Dict({'round': number.value, 'outcome': outcome.value})


@calcfunction
def summarise_rounds(**rounds: Dict) -> Dict:
    """All rounds in one place: what was labelled, trained, seen and concluded in each."""
    table: dict[int, dict[str, Any]] = {}
    for key, node in rounds.items():
        number, _, verb = key.removeprefix('r').partition('_')
        entry = table.setdefault(int(number), {'labels': {}})
        if verb.startswith('label'):
            entry['labels'][verb.removeprefix('label_')] = node.get_dict()
        else:
            entry[verb] = node.get_dict()
    listed = [{'round': number, **table[number]} for number in sorted(table)]
    made = sum(label['n_made'] for entry in listed for label in entry['labels'].values())
    dropped = sum(label['n_dropped'] for entry in listed for label in entry['labels'].values())
    last = next((entry['judgement']['outcome'] for entry in reversed(listed) if 'judgement' in entry), None)
    return Dict(
        {'outcome': last, 'n_rounds': len(listed), 'n_labels_made': made, 'n_labels_dropped': dropped, 'rounds': listed}
    )


class LearnWorkChain(ProtocolMixin, WorkChain):
    """Active learning with a committee, in rounds."""

    _protocol_name = 'learn'

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        spec.expose_inputs(LabelWorkChain, namespace='label', exclude=('frames',))
        spec.expose_inputs(TrainWorkChain, namespace='train', exclude=('frames', 'start_from', 'seed'))
        spec.expose_inputs(ExploreWorkChain, namespace='explore', exclude=('potentials', 'seed'))
        for verb in ('label', 'train', 'explore'):
            # the verbs check themselves when they are submitted; without frames or potentials there is nothing to check
            spec.inputs[verb].validator = None
        spec.input_namespace(
            'frames',
            valid_type=FramesData,
            dynamic=True,
            required=False,
            help='Labelled shards to train on from the start.',
        )
        spec.input_namespace(
            'to_label',
            valid_type=FramesData,
            dynamic=True,
            required=False,
            help='Structures that are labelled in the first round, a shard a system.',
        )
        spec.input_namespace(
            'start_from',
            valid_type=PotentialData,
            dynamic=True,
            required=False,
            help='Potentials m0, m1, … that the trainings of the first round start from.',
        )
        spec.input(
            'n_rounds',
            valid_type=Int,
            validator=whole_number('n_rounds'),
            help='Most rounds.',
        )
        spec.input(
            'convergence',
            valid_type=Dict,
            default=lambda: Dict({}),
            validator=settings_validator(ConvergenceSettings),
            help='When learning is done and when it is hopeless: shares of frames (see `ConvergenceSettings`).',
        )
        spec.input(
            'go_on_training',
            valid_type=Bool,
            default=lambda: Bool(True),
            help='Whether a round starts from the potentials of the one before; else each begins anew.',
        )
        add_seed(spec, 'Seed of everything random in all rounds.')
        spec.inputs.validator = cls._validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.goes_on)(
                cls.label, cls.inspect_label, cls.train, cls.inspect_train, cls.explore, cls.inspect_explore
            ),
            cls.results,
        )
        spec.output_namespace(
            'potentials', valid_type=PotentialData, dynamic=True, required=False, help='The last committee, m0, m1, ….'
        )
        spec.output_namespace(
            'frames', valid_type=FramesData, dynamic=True, required=False, help='Every shard that was labelled here.'
        )
        spec.output(
            'summary', valid_type=Dict, required=False, help='Labels, trainings, explorations and outcome by round.'
        )
        spec.exit_code(330, 'ERROR_LABEL_FAILED', message='labelling failed in round {number}: {cause}')
        spec.exit_code(331, 'ERROR_TRAIN_FAILED', message='training failed in round {number}: {cause}')
        spec.exit_code(332, 'ERROR_EXPLORE_FAILED', message='exploration failed in round {number}: {cause}')
        spec.exit_code(
            510,
            'STOPPED_AT_LAST_ROUND',
            message='the committee still disagrees after the last of {n_rounds} rounds; raise n_rounds and go on from '
            '`potentials` and `frames`',
        )
        spec.exit_code(
            511,
            'NOTHING_LEFT_TO_CHOOSE',
            message='no frame lies between the trust levels, yet not enough are accurate: move the trust levels or '
            'explore other structures',
        )
        spec.exit_code(
            512,
            'EXPLORATION_EXPLODED',
            message='most of the exploration is beyond the upper trust level: explore colder or shorter, or label more '
            'of the start',
        )

    @classmethod
    def _validate_inputs(cls, inputs: dict[str, Any], context: Any) -> str | None:
        if not inputs.get('frames') and not inputs.get('to_label'):
            return 'neither frames nor to_label given: there is nothing to train on'
        for name, shard in (inputs.get('to_label') or {}).items():
            problem = LabelWorkChain._validate_inputs({**inputs['label'], 'frames': shard}, context)
            if problem:
                return f'to_label.{name}: {problem}'
        if inputs.get('frames'):
            problem = TrainWorkChain.spec().inputs['frames'].validator(inputs['frames'], context)
            if problem:
                return f'frames: {problem}'
        given = {
            f'{port}.{name}': shard
            for port in ('frames', 'to_label')
            for name, shard in (inputs.get(port) or {}).items()
        }
        start_from = inputs.get('start_from') or {}
        n_members = inputs['train']['n_members'].value
        if problem := check_committee(inputs['train']['settings'], given, start_from, n_members):
            return f'train: {problem}'
        if n_members < 2:
            return f'train.n_members is {n_members}; a committee that can disagree needs 2, better 4'
        # the committee is yet to be trained; what can be said of it is its elements
        elements = {element for shard in given.values() for element in shard.elements}
        first = next(iter(start_from.values()), None)
        try:
            committee = potential_spec(
                'deepmd', first.elements if first else sorted(elements), [f'm{n}.pb' for n in range(n_members)]
            )
            explore = inputs['explore']
            check_systems(explore['stage'], explore['structures'], explore['trust'], committee)
        except ValueError as error:
            return f'explore: {error}'
        return None

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, AbstractCode],
        structures: Mapping[str, FramesData],
        to_label: Mapping[str, FramesData] | None = None,
        frames: Mapping[str, FramesData] | None = None,
        start_from: Mapping[str, PotentialData] | None = None,
        seed: int = 0,
        protocol: str | None = None,
        overrides: dict[str, Any] | None = None,
        options: dict[str, dict[str, Any]] | None = None,
        engine: str = 'gpaw',
    ) -> ProcessBuilder:
        """A builder with the settings of a protocol; see `ProtocolMixin` for what all of them take.

        Parameters
        ----------
        codes : mapping of str to Code
            `dp`, `lmp`, and that of the engine by its name, such as `gpaw`.
        structures : mapping of str to FramesData
            Starts of the exploration by system.
        to_label : mapping of str to FramesData, optional
            Structures that are labelled first, by system.
        frames : mapping of str to FramesData, optional
            Labelled shards to train on from the start.
        start_from : mapping of str to PotentialData, optional
            Potentials to start from, by member.
        protocol : str, optional
            `fast`, `balanced` or `paper`; the same for the verbs inside.
        overrides : dict, optional
            Laid over the protocol: `n_rounds`, `convergence`, `go_on_training`, and `label`, `train`, `explore` as
            the overrides of those verbs.
        options : dict of dict, optional
            `metadata.options` of the jobs of `label`, `train` and `explore`.
        engine : str
            What computes the labels.

        Raises
        ------
        ValueError
            As the verbs inside; or if neither `to_label` nor `frames` is given.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        protocol = protocol or cls.get_default_protocol()
        options = options or {}
        if not to_label and not frames:
            raise ValueError('neither to_label nor frames given: there is nothing to train on')
        some = next(iter((to_label or frames or {}).values()))
        label = LabelWorkChain.get_builder_from_protocol(
            codes[engine],
            some,
            protocol=protocol,
            overrides=inputs['label'],
            options=options.get('label'),
            engine=engine,
        )
        train = TrainWorkChain.get_builder_from_protocol(
            codes['dp'],
            frames,
            start_from=start_from,
            protocol=protocol,
            overrides=inputs['train'],
            options=options.get('train'),
        )
        explore = ExploreWorkChain.get_builder_from_protocol(
            codes,
            structures,
            start_from or {},
            protocol=protocol,
            overrides=inputs['explore'],
            options=options.get('explore'),
        )
        builder = cls.get_builder()
        for verb, inner, left_out in (
            ('label', label, ('frames',)),
            ('train', train, ('frames', 'start_from', 'seed')),
            ('explore', explore, ('potentials', 'seed')),
        ):
            fill(builder[verb], inner._inputs(prune=True), left_out)
        builder.n_rounds = whole(inputs, 'n_rounds')
        builder.convergence = Dict(inputs['convergence'])
        builder.go_on_training = Bool(inputs['go_on_training'])
        builder.seed = Int(seed)
        for name, value in (('to_label', to_label), ('frames', frames), ('start_from', start_from)):
            if value:
                builder[name] = dict(value)
        return builder

    def setup(self) -> None:
        """Begin with round 0."""
        self.ctx.number = 0
        self.ctx.outcome = None
        self.ctx.shards = dict(self.inputs.get('frames', {}))
        self.ctx.to_label = dict(self.inputs.get('to_label', {}))
        self.ctx.potentials = dict(self.inputs.get('start_from', {}))
        self.ctx.records = {}

    def goes_on(self) -> bool:
        """Whether there is another round."""
        return self.ctx.outcome in (None, RoundOutcome.GO_ON.value)

    def label(self) -> Any:
        """Label what was given or chosen, a work chain a system."""
        awaited = {}
        for name, shard in sorted(self.ctx.to_label.items()):
            inputs = AttributeDict(self.exposed_inputs(LabelWorkChain, 'label'))
            inputs.frames = shard
            inputs.metadata.call_link_label = f'label_{self.ctx.number}_{name}'
            child = self.submit(LabelWorkChain, **inputs)
            self.report(
                f'round {self.ctx.number}: labelling {len(shard)} frames of {name}: {child.process_label}<{child.pk}>'
            )
            awaited[f'labels_{self.ctx.number}.{name}'] = child
        return ToContext(**awaited) if awaited else None

    def inspect_label(self) -> ExitCode | None:
        """Take the labelled shards; frames that were dropped are counted, a failed work chain ends the loop."""
        number = self.ctx.number
        for name in sorted(self.ctx.to_label):
            child = self.ctx[f'labels_{number}'][name]
            if 'summary' in child.outputs:
                self.ctx.records[f'r{number}_label_{name}'] = child.outputs.summary
            for batch, shard in (dict(child.outputs.frames) if 'frames' in child.outputs else {}).items():
                self.ctx.shards[f'r{number}_{name}_{batch}'] = shard
                self.out(f'frames.r{number}_{name}_{batch}', shard)
            if not child.is_finished_ok:
                self._attach()
                return self.exit_codes.ERROR_LABEL_FAILED.format(number=number, cause=_cause(child))
        return None

    def train(self) -> Any:
        """Train a committee on all frames there are."""
        inputs = AttributeDict(self.exposed_inputs(TrainWorkChain, 'train'))
        inputs.frames = self.ctx.shards
        inputs.seed = round_seed(self.inputs.seed, Str('train'), Int(self.ctx.number))
        if self.ctx.potentials:
            inputs.start_from = self.ctx.potentials
        inputs.metadata.call_link_label = f'train_{self.ctx.number}'
        child = self.submit(TrainWorkChain, **inputs)
        frames = sum(len(shard) for shard in self.ctx.shards.values())
        self.report(f'round {self.ctx.number}: training on {frames} frames: {child.process_label}<{child.pk}>')
        return ToContext(training=child)

    def inspect_train(self) -> ExitCode | None:
        """Take the committee."""
        child = self.ctx.training
        if 'summary' in child.outputs:
            self.ctx.records[f'r{self.ctx.number}_training'] = child.outputs.summary
        if not child.is_finished_ok:
            self._attach()
            return self.exit_codes.ERROR_TRAIN_FAILED.format(number=self.ctx.number, cause=_cause(child))
        self.ctx.committee = dict(child.outputs.potentials)
        self.ctx.potentials = self.ctx.committee if self.inputs.go_on_training.value else {}
        return None

    def explore(self) -> Any:
        """Explore with the new committee."""
        inputs = AttributeDict(self.exposed_inputs(ExploreWorkChain, 'explore'))
        inputs.potentials = self.ctx.committee
        inputs.seed = round_seed(self.inputs.seed, Str('explore'), Int(self.ctx.number))
        inputs.metadata.call_link_label = f'explore_{self.ctx.number}'
        child = self.submit(ExploreWorkChain, **inputs)
        self.report(f'round {self.ctx.number}: exploring: {child.process_label}<{child.pk}>')
        return ToContext(exploration=child)

    def inspect_explore(self) -> ExitCode | None:
        """Judge the round, and take what was chosen into the next one."""
        child = self.ctx.exploration
        number = self.ctx.number
        if not child.is_finished_ok:
            self._attach()
            return self.exit_codes.ERROR_EXPLORE_FAILED.format(number=number, cause=_cause(child))
        self.ctx.records[f'r{number}_exploration'] = child.outputs.summary
        judgement = judge(child.outputs.summary, Int(number), self.inputs.n_rounds, self.inputs.convergence)
        self.ctx.records[f'r{number}_judgement'] = judgement
        self.ctx.outcome = judgement['outcome']
        self.report(f'round {number}: {self.ctx.outcome}')
        self.ctx.to_label = dict(child.outputs.candidates) if 'candidates' in child.outputs else {}
        self.ctx.number += 1
        return None

    def _attach(self) -> None:
        """Attach the last committee and the summary of the rounds so far."""
        for name, potential in self.ctx.get('committee', {}).items():
            self.out(f'potentials.{name}', potential)
        if self.ctx.records:
            self.out('summary', summarise_rounds(**self.ctx.records))

    def results(self) -> ExitCode | None:
        """Attach the outputs and say how it ended."""
        self._attach()
        codes = self.exit_codes
        return {
            RoundOutcome.CONVERGED.value: None,
            RoundOutcome.LAST_ROUND.value: codes.STOPPED_AT_LAST_ROUND.format(n_rounds=self.inputs.n_rounds.value),
            RoundOutcome.NOTHING_TO_CHOOSE.value: codes.NOTHING_LEFT_TO_CHOOSE,
            RoundOutcome.EXPLODED.value: codes.EXPLORATION_EXPLODED,
        }[self.ctx.outcome]


def _cause(child: Any) -> str:
    return f'{child.process_label}<{child.pk}>: {child.exit_message or child.process_state.value}'
