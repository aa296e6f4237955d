"""The work chain `pack`: several depositions, or several healing runs, in one job, and each analysed by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, calcfunction
from aiida.orm import AbstractCode, Bool, Dict, Str

from aiida_liheal.calculations.lammps import LammpsCalculation, run_folder
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.parsers.common import array_data
from aiida_liheal.sampling.campaign import PACKED_VERBS
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.deposit import DepositWorkChain
from aiida_liheal.workchains.heal import HealWorkChain
from aiida_liheal.workchains.md import MdWorkChain
from aiida_liheal.workchains.points import KEY_EXTRA, PACK_EXTRA, check_inputs, failure_of, key_of, returned_by
from aiida_liheal.workchains.protocol import fill
from aiida_liheal.workchains.simulate import SimulationWorkChain, add_jobs, run_settings
from aiida_liheal.workchains.start import make_start

__all__ = ('PackWorkChain', 'join_starts', 'pack_settings', 'part_of_pack')

_VERBS: dict[str, type[SimulationWorkChain]] = {'deposit': DepositWorkChain, 'heal': HealWorkChain}
#: What differs between the points of a pack: inputs of the verb, and `analysis` for its `analyse.settings`.
_OWN = ('crystal', 'structure', 'settings', 'seed', 'earlier')

#: Arguments of the calcfunctions that points are given to by their names.
_TAKEN = ('kind', 'side_by_side', 'metadata')


@calcfunction
def join_starts(**starts: FramesData) -> FramesData:
    """The starts of all points in one shard, in the order of their names."""
    frames = [starts[name].get_frames().select([0]) for name in sorted(starts)]
    return FramesData(Frames.concatenate(frames), domain=next(iter(starts.values())).domain)


@calcfunction
def pack_settings(kind: Any, side_by_side: Any, **points: Any) -> Dict:
    """Settings of the job that does the run of every point, in the order of their names; each as if it were alone."""
    runs = []
    for number, name in enumerate(sorted(points)):
        run = run_settings(kind.value, points[name]['settings'].get_dict(), points[name]['seed'].value)
        runs.append({**run, 'structure': number})
    return Dict({'kind': kind.value, 'runs': runs, 'side_by_side': side_by_side.value})


@calcfunction
def part_of_pack(run: Str, **outputs: Any) -> dict[str, Any]:
    """What a pack gave for one of its runs, as if it had been alone.

    Parameters
    ----------
    run : Str
        Its folder, run_000, ….
    **outputs : Dict, ArrayData or FramesData
        `results`, `thermo`, `deviations`, `last_frames` and `flags` of all runs, such as there are.
    """
    number, alone = int(run.value.removeprefix('run_')), run_folder(0)
    results = outputs['results'].get_dict()
    part: dict[str, Any] = {'results': Dict({**results, 'runs': [results['runs'][number]]})}
    for name in ('thermo', 'deviations'):
        if name in outputs:
            prefix = f'{run.value}_'
            own = [key for key in outputs[name].get_arraynames() if key.startswith(prefix)]
            if own:
                arrays = {f'{alone}_{key.removeprefix(prefix)}': outputs[name].get_array(key) for key in own}
                part[name] = array_data(arrays)
    if 'last_frames' in outputs:
        frames = outputs['last_frames'].get_frames()
        places = np.flatnonzero(frames.extra['run'] == number)
        if len(places):
            own_frames = frames.select(places)
            extra = {**own_frames.extra, 'run': np.zeros(len(places), dtype=int)}
            part['last_frames'] = FramesData(replace(own_frames, extra=extra), domain=outputs['last_frames'].domain)
    if 'flags' in outputs and run.value in outputs['flags'].get_dict():
        part['flags'] = Dict({alone: outputs['flags'][run.value]})
    return part


class PackWorkChain(WorkChain):
    """Run several depositions, or several healing runs, in one job, side by side or one after another.

    Each of them is then a process of its verb, which takes over what the job gave for it and analyses it: a point has
    the same outputs as one that is run alone.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        spec.input(
            'verb',
            valid_type=Str,
            validator=lambda node, _: (
                None if node.value in _VERBS else f'verb = {node.value!r}: allowed are {", ".join(_VERBS)}'
            ),
            help=f'What each point is: {" or ".join(_VERBS)}.',
        )
        spec.input_namespace(
            'points',
            dynamic=True,
            required=True,
            help='By name of the point what the verb takes: crystal or structure, settings, seed and, to go on from an '
            'earlier run, earlier; and analysis, the settings of its analysis.',
        )
        spec.input(
            'side_by_side',
            valid_type=Bool,
            default=lambda: Bool(True),
            help='All runs at once, as for small runs on one GPU, or one after another.',
        )
        add_jobs(spec, 'code', 'metadata')
        spec.inputs.validator = cls._validate_inputs
        spec.outline(cls.build, cls.run_md, cls.run_points, cls.results)
        spec.output_namespace('points', dynamic=True, required=False, help='Outputs of each point, as of its verb.')
        spec.exit_code(320, 'ERROR_JOB_FAILED', message='nothing is known of the runs: {cause}; launch it again')
        spec.exit_code(
            330,
            'ERROR_POINTS_FAILED',
            message='{n_failed} of {n_points} points failed: {causes}; the outputs of the others are whole',
        )

    @classmethod
    def _inputs_of(cls, inputs: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Inputs of the process of one point."""
        point = inputs['points'][name]
        own = {key: point[key] for key in _OWN if key in point}
        analyse = inputs.get('analyse', {})
        if 'code' in analyse:
            settings = {'settings': point['analysis']} if 'analysis' in point else {}
            own['analyse'] = {**analyse, **settings}
        return {**own, 'potentials': dict(inputs['potentials']), 'lammps': dict(inputs['lammps'])}

    @classmethod
    def _validate_inputs(cls, inputs: Mapping[str, Any], _: Any) -> str | None:
        if not {'verb', 'points', 'potentials', 'lammps'} <= set(inputs):
            return None
        if not inputs['points']:
            return 'points: none given; give one or more by name'
        for name, point in inputs['points'].items():
            if name in _TAKEN:
                return f'points.{name}: this name is taken; allowed is any but {", ".join(_TAKEN)}'
            allowed = (*_OWN, 'analysis')
            given = list(point) if isinstance(point, Mapping) else [type(point).__name__]
            if strange := [key for key in given if key not in allowed]:
                return f'points.{name}: {strange[0]}: allowed are {", ".join(allowed)}'
            try:
                check_inputs(_VERBS[inputs['verb'].value], cls._inputs_of(inputs, name))
            except ValueError as error:
                return f'points.{name}: {error}'
        return None

    @classmethod
    def shared(cls, builder: ProcessBuilder) -> str:
        """What runs of one pack have in common, as text: verb, potentials, codes, limits and options of their job."""
        inputs = builder._inputs(prune=True)
        analyse = inputs.get('analyse', {})
        return json.dumps(
            {
                'verb': builder.process_class._kind,
                'potentials': {name: node.uuid for name, node in inputs['potentials'].items()},
                'codes': [part['code'].uuid for part in (inputs['lammps'], analyse) if 'code' in part],
                'limits': {name: node.get_dict() for name, node in inputs['lammps'].get('monitors', {}).items()},
                'metadata': [part.get('metadata', {}) for part in (inputs['lammps'], analyse)],
            },
            sort_keys=True,
            default=str,
        )

    @classmethod
    def get_builder_from_points(cls, points: Mapping[str, ProcessBuilder], side_by_side: bool = True) -> ProcessBuilder:
        """A builder that does all of these in one job.

        Parameters
        ----------
        points : mapping of str to ProcessBuilder
            Inputs of depositions, or of healing runs, by name.
        side_by_side : bool
            All at once, or one after another.

        Raises
        ------
        ValueError
            If they are of other verbs, or differ in what a job can have once only.
        """
        strange = [name for name, one in points.items() if one.process_class not in _VERBS.values()]
        if strange or not points:
            raise ValueError(f'{strange[0] if strange else "no point"}: only {", ".join(PACKED_VERBS)} are packed so')
        first = next(iter(points.values()))
        if differing := [name for name, one in points.items() if cls.shared(one) != cls.shared(first)]:
            raise ValueError(
                f'{differing[0]}: another verb, potential, code, limit or option than the first point; one job has one'
            )
        builder = cls.get_builder()
        builder.verb = Str(first.process_class._kind)
        builder.side_by_side = Bool(side_by_side)
        common = first._inputs(prune=True)
        builder.potentials = dict(common['potentials'])
        fill(builder.lammps, common['lammps'])
        fill(builder.analyse, common.get('analyse', {}), left_out=('settings',))
        own = {}
        for name, one in points.items():
            inputs = one._inputs(prune=True)
            own[name] = {key: inputs[key] for key in _OWN if key in inputs}
            if 'settings' in inputs.get('analyse', {}):
                own[name]['analysis'] = inputs['analyse']['settings']
        builder.points = own
        return builder

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, AbstractCode],
        potentials: Mapping[str, PotentialData] | PotentialData,
        points: Mapping[str, dict[str, Any]],
        verb: str = 'deposit',
        seed: int = 0,
        protocol: str | None = None,
        overrides: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        side_by_side: bool = True,
    ) -> ProcessBuilder:
        """A builder for points that differ in what is laid over a protocol of their verb.

        Parameters
        ----------
        codes, potentials, seed, protocol, overrides, options
            As of the verb.
        points : mapping of str to dict
            By name what is laid over the protocol, besides `overrides`.
        verb : str
            `deposit` or `heal`.
        side_by_side : bool
            All at once, or one after another.
        """
        from aiida_liheal.sampling.campaign import lay_over

        if verb not in _VERBS:
            raise ValueError(f'verb = {verb!r}: allowed are {", ".join(_VERBS)}')
        process = _VERBS[verb]
        built = {
            name: process.get_builder_from_protocol(
                codes,
                potentials,
                seed=seed,
                protocol=protocol,
                overrides=lay_over(overrides or {}, own),
                options=options,
            )
            for name, own in points.items()
        }
        return cls.get_builder_from_points(built, side_by_side)

    @property
    def _process(self) -> type[SimulationWorkChain]:
        return _VERBS[self.inputs.verb.value]

    def build(self) -> None:
        """Make all starts; note which points these are, for campaigns to find them."""
        self.ctx.names = sorted(self.inputs.points)
        self.ctx.starts = {name: make_start(self._process._kind, self.inputs.points[name]) for name in self.ctx.names}
        self.ctx.point_keys = {
            name: key_of(self._process, self._inputs_of(self.inputs, name)) for name in self.ctx.names
        }
        numbers = {self.ctx.point_keys[name]: number for number, name in enumerate(self.ctx.names)}
        self.node.base.extras.set(PACK_EXTRA, numbers)

    def run_md(self) -> Any:
        """Run all to their ends, over as many jobs as it takes."""
        points = self.inputs.points
        own = {name: {key: points[name][key] for key in ('settings', 'seed')} for name in self.ctx.names}
        inputs: dict[str, Any] = {
            'lammps': {
                **self.exposed_inputs(LammpsCalculation, 'lammps'),
                'structures': join_starts(**self.ctx.starts),
                'potentials': self.inputs.potentials,
                'settings': pack_settings(Str(self._process._kind), self.inputs.side_by_side, **own),
            },
            'metadata': {'call_link_label': 'md'},
        }
        earlier = {
            run_folder(number): dict(points[name]['earlier'])
            for number, name in enumerate(self.ctx.names)
            if points[name].get('earlier')
        }
        if earlier:
            inputs['earlier'] = earlier
        child = self.submit(MdWorkChain, **inputs)
        self.report(f'running {len(own)} x {self._process._kind}: {child.process_label}<{child.pk}>')
        return ToContext(md=child)

    def run_points(self) -> Any:
        """Give each point what the job gave for it, to look at and to analyse; also a point whose run failed."""
        md = self.ctx.md
        if 'results' not in md.outputs:
            return self.exit_codes.ERROR_JOB_FAILED.format(cause=md.exit_message or md.process_state.value)
        names = ('results', 'thermo', 'deviations', 'last_frames', 'flags')
        outputs = {name: md.outputs[name] for name in names if name in md.outputs}
        folders = dict(md.outputs.trajectories) if 'trajectories' in md.outputs else {}
        awaited = {}
        for number, name in enumerate(self.ctx.names):
            run = run_folder(number)
            packed = {**part_of_pack(Str(run), **outputs), 'start': self.ctx.starts[name]}
            if run in folders:
                packed['trajectories'] = dict(folders[run])
            inputs = {key: value for key, value in self._inputs_of(self.inputs, name).items() if key != 'earlier'}
            metadata = {'label': name, 'call_link_label': name}
            child = self.submit(self._process, **inputs, packed=packed, metadata=metadata)
            child.base.extras.set(KEY_EXTRA, self.ctx.point_keys[name])
            awaited[f'points.{name}'] = child
        return ToContext(**awaited)

    def results(self) -> ExitCode | None:
        """Attach what each point gave, and tell which failed."""
        failed = {}
        for name in self.ctx.names:
            child = self.ctx.points[name]
            for path, node in returned_by(child).items():
                self.out(f'points.{name}.{path}', node)
            if not child.is_finished_ok:
                failed[name] = failure_of(child)
        if not failed:
            return None
        return self.exit_codes.ERROR_POINTS_FAILED.format(
            n_failed=len(failed),
            n_points=len(self.ctx.names),
            causes='; '.join(f'{name} ({cause})' for name, cause in failed.items()),
        )
