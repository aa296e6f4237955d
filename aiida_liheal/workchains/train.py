"""The verb `train`: a committee of Deep Potentials that differ by seed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiida.common import AttributeDict
from aiida.engine import (
    ExitCode,
    ProcessBuilder,
    ProcessHandlerReport,
    ProcessSpec,
    ToContext,
    WorkChain,
    calcfunction,
    process_handler,
    while_,
)
from aiida.orm import ArrayData, Code, Dict, Int

from aiida_liheal.calculations.dp_settings import DpTrainSettings, architecture_of
from aiida_liheal.calculations.dp_train import DpTrainCalculation, check_training
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.sampling.seeds import derive_seed
from aiida_liheal.workchains.ports import add_max_at_once, add_seed
from aiida_liheal.workchains.protocol import ProtocolMixin, set_options, whole
from aiida_liheal.workchains.restart import RestartWorkChain

__all__ = ('DpTrainBaseWorkChain', 'TrainWorkChain', 'check_committee', 'member_settings', 'summarise_committee')


@calcfunction
def member_settings(settings: Dict, seed: Int, member: Int) -> Dict:
    """Settings of one member: the committee's, with a seed of its own."""
    return Dict({**settings.get_dict(), 'seed': derive_seed(seed.value, 'member', member.value)})


@calcfunction
def summarise_committee(**summaries: Dict) -> Dict:
    """Held-out errors of the members by domain: each member's, their mean and the worst; meV/atom and meV/Å."""
    members = {name: node.get_dict() for name, node in sorted(summaries.items())}
    domains: dict[str, Any] = {}
    for domain in sorted({d for member in members.values() for d in member['holdout']}):
        having = {name: m['holdout'][domain] for name, m in members.items() if domain in m['holdout']}
        keys = sorted({key for values in having.values() for key in values if key != 'n_frames'})
        domains[domain] = {'n_frames': next(iter(having.values()))['n_frames']}
        for key in keys:
            values = [v[key] for v in having.values() if key in v]
            domains[domain][key] = {'members': values, 'mean': sum(values) / len(values), 'worst': max(values)}
    first = next(iter(members.values()))
    return Dict(
        {
            'n_members': len(members),
            'n_train': first['n_train'],
            'n_holdout': first['n_holdout'],
            'n_steps': first['n_steps'],
            'training_s': sum(m.get('training_s', 0.0) for m in members.values()),
            'holdout': domains,
        }
    )


def check_committee(
    settings: Dict, frames: Mapping[str, FramesData], start_from: Mapping[str, PotentialData], n_members: int
) -> str | None:
    """What is wrong with training so many members on these frames, each from its potential; None if nothing is."""
    checked = DpTrainSettings.model_validate({**settings.get_dict(), 'seed': 0})
    for name in start_from:
        if not re.fullmatch(r'm(0|[1-9]\d*)', name):
            return f'start_from.{name}: members are called m0, m1, …'
    beyond = sorted(name for name in start_from if int(name[1:]) >= n_members)
    if beyond:
        return (
            f'start_from names {", ".join(beyond)}, but n_members is {n_members} (m0 to m{n_members - 1}): give fewer '
            'potentials or raise n_members'
        )
    for name, potential in sorted(start_from.items()):
        if problem := check_training(checked, frames, potential):
            return f'{name}: {problem}'
    return check_training(checked, frames, None)


class DpTrainBaseWorkChain(RestartWorkChain):
    """One training, gone on with from its last checkpoint when it was interrupted."""

    _process_class = DpTrainCalculation

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs and outline."""
        super().define(spec)
        spec.expose_inputs(DpTrainCalculation, namespace='dp')
        spec.expose_outputs(DpTrainCalculation)
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),
            cls.results,
        )

    def setup(self) -> None:
        """Take the inputs of the job."""
        super().setup()
        self.ctx.inputs = AttributeDict(self.exposed_inputs(DpTrainCalculation, 'dp'))

    @process_handler(priority=100, exit_codes=[DpTrainCalculation.exit_codes.ERROR_INTERRUPTED])
    def go_on_from_checkpoint(self, calculation: Any) -> ProcessHandlerReport | None:
        """Take the last checkpoint of an interrupted training; begin anew if it never wrote one."""
        folder = calculation.outputs.remote_folder
        if any(name.startswith('model.ckpt') for name in folder.listdir()):
            self.ctx.inputs.parent_folder = folder
            self.report_action(calculation, 'going on from its last checkpoint')
        else:
            self.report_action(calculation, 'it has no checkpoint: beginning anew')
        return ProcessHandlerReport(True)


class TrainWorkChain(ProtocolMixin, WorkChain):
    """Train a committee of Deep Potentials on the same frames, each from its own seed."""

    _protocol_name = 'train'

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        spec.expose_inputs(DpTrainCalculation, namespace='dp', include=('code', 'metadata'))
        spec.inputs['dp']['code'].help = 'The `dp` executable of DeePMD-kit.'
        spec.input_namespace(
            'frames',
            valid_type=FramesData,
            dynamic=True,
            validator=DpTrainCalculation._validate_frames,
            help='Labelled shards by name; from each, the held-out share is kept out of training.',
        )
        spec.input(
            'settings',
            valid_type=Dict,
            validator=cls._validate_settings,
            help='Settings of each training (see `DpTrainSettings`), without its seed.',
        )
        add_seed(spec, 'Seed of the committee; those of the members are derived from it.')
        spec.input(
            'n_members',
            valid_type=Int,
            default=lambda: Int(4),
            validator=lambda node, _: (
                None
                if 1 <= node.value <= 64
                else f'n_members is {node.value}; allowed are 1 to 64 (3 or more to deviate)'
            ),
            help='Number of members.',
        )
        add_max_at_once(spec, 'trainings')
        spec.input_namespace(
            'start_from',
            valid_type=PotentialData,
            dynamic=True,
            required=False,
            help='Potentials of the same architecture to start from, m0, m1, …; members without one begin at random.',
        )
        spec.inputs.validator = cls._validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.has_members_left)(cls.train_members, cls.inspect_members),
            cls.results,
        )
        spec.output_namespace('potentials', valid_type=PotentialData, dynamic=True, help='The members m0, m1, …')
        spec.output_namespace('learning_curves', valid_type=ArrayData, dynamic=True, help='Their learning curves.')
        spec.output_namespace('summaries', valid_type=Dict, dynamic=True, help='Their summaries.')
        spec.output('summary', valid_type=Dict, help='Held-out errors over the committee: meV/atom, meV/Å.')
        spec.exit_code(
            310,
            'ERROR_MEMBER_FAILED',
            message='{n_failed} of {n_members} trainings failed: {causes}; the finished ones are in `potentials`',
        )

    @staticmethod
    def _validate_settings(node: Dict, _: Any) -> str | None:
        try:
            DpTrainSettings.read(node.get_dict(), {'seed': 0})
        except ValueError as error:
            return str(error)
        return None

    @classmethod
    def _validate_inputs(cls, inputs: dict[str, Any], _: Any) -> str | None:
        if not {'settings', 'frames', 'n_members'} <= set(inputs):
            return None  # told by the ports themselves, or left out where they are exposed
        return check_committee(
            inputs['settings'], inputs['frames'], inputs.get('start_from') or {}, inputs['n_members'].value
        )

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: Code,
        frames: Mapping[str, FramesData] | None = None,
        seed: int = 0,
        start_from: Mapping[str, PotentialData] | None = None,
        protocol: str | None = None,
        overrides: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> ProcessBuilder:
        """A builder with the settings of a protocol; see `ProtocolMixin` for what all of them take.

        Parameters
        ----------
        code : Code
            The `dp` executable.
        frames : mapping of str to FramesData, optional
            Labelled shards by name; set them on the builder later if not given.
        start_from : mapping of str to PotentialData, optional
            Potentials to start from, by member; the settings then take over their architecture.
        overrides : dict, optional
            Laid over the protocol: `settings` (see `DpTrainSettings`), `n_members`, `max_at_once`.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        settings = dict(inputs['settings'])
        if start_from:
            first = next(iter(start_from.values()))
            if first.training_input is not None:
                settings.update(architecture_of(first.training_input))
        DpTrainSettings.read(settings, {'seed': 0})
        builder = cls.get_builder()
        builder.dp.code = code
        if frames:
            builder.frames = dict(frames)
        builder.settings = Dict(settings)
        builder.seed = Int(seed)
        builder.n_members = whole(inputs, 'n_members')
        if inputs['max_at_once'] is not None:
            builder.max_at_once = whole(inputs, 'max_at_once')
        if start_from:
            builder.start_from = dict(start_from)
        set_options(builder.dp, options)
        return builder

    def setup(self) -> None:
        """Name the members."""
        self.ctx.left = [f'm{number}' for number in range(self.inputs.n_members.value)]
        self.ctx.running = []
        self.ctx.finished = {}
        self.ctx.failed = {}

    def has_members_left(self) -> bool:
        """Whether members are still to be trained."""
        return bool(self.ctx.left)

    def train_members(self) -> Any:
        """Submit as many trainings as may run side by side."""
        at_once = self.inputs.max_at_once.value if 'max_at_once' in self.inputs else len(self.ctx.left)
        self.ctx.running, self.ctx.left = self.ctx.left[:at_once], self.ctx.left[at_once:]
        awaited = {}
        for name in self.ctx.running:
            inputs: dict[str, Any] = {
                **self.exposed_inputs(DpTrainCalculation, 'dp'),
                'frames': self.inputs.frames,
                'settings': member_settings(self.inputs.settings, self.inputs.seed, Int(int(name[1:]))),
            }
            if name in self.inputs.get('start_from', {}):
                inputs['start_from'] = self.inputs.start_from[name]
            child = self.submit(DpTrainBaseWorkChain, dp=inputs, metadata={'call_link_label': name})
            self.report(f'training {name}: {child.process_label}<{child.pk}>')
            awaited[f'trainings.{name}'] = child
        return ToContext(**awaited)

    def inspect_members(self) -> None:
        """Sort the trainings that ended into finished and failed."""
        for name in self.ctx.running:
            child = self.ctx.trainings[name]
            if child.is_finished_ok:
                self.ctx.finished[name] = child
            else:
                self.ctx.failed[name] = child

    def results(self) -> ExitCode | None:
        """Attach the members and their common summary."""
        finished: dict[str, Any] = self.ctx.finished
        for name, child in finished.items():
            self.out(f'potentials.{name}', child.outputs.potential)
            self.out(f'learning_curves.{name}', child.outputs.learning_curve)
            self.out(f'summaries.{name}', child.outputs.summary)
        if finished:
            self.out(
                'summary', summarise_committee(**{name: child.outputs.summary for name, child in finished.items()})
            )
        if self.ctx.failed:
            causes = '; '.join(f'{name}<{c.pk}>: {c.exit_message}' for name, c in self.ctx.failed.items())
            return self.exit_codes.ERROR_MEMBER_FAILED.format(
                n_failed=len(self.ctx.failed), n_members=self.inputs.n_members.value, causes=causes
            )
        return None
