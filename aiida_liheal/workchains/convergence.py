"""The verb `convergence`: labels of a few frames by ever finer settings, and the smallest ones that are good enough."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, calcfunction, if_, while_
from aiida.orm import AbstractCode, Bool, Dict, Float, Int, Str

from aiida_liheal.calculations.common import settings_validator
from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines import Engine, engines
from aiida_liheal.engines import engine as find_engine
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.label_errors import Tolerances, errors_of, smallest_value, within
from aiida_liheal.structures.perturb import PerturbSettings, perturbed_bulk
from aiida_liheal.workchains.label import LabelWorkChain, refuse_other_engines
from aiida_liheal.workchains.ports import add_max_at_once
from aiida_liheal.workchains.protocol import ProtocolMixin, fill, whole

__all__ = (
    'ConvergenceWorkChain',
    'choose_settings',
    'default_frames',
    'judge_points',
    'judge_together',
    'plan_points',
    'planned',
)

#: What `label` decides for many frames and is settled here: one batch a point, and what is left out does not end it.
_SETTLED = ('batch_size', 'allowed_failures', 'max_alone', 'max_at_once')


def default_frames() -> FramesData:
    """Two strained cells of two lithium atoms each, out of their places: forces that symmetry does not hide."""
    images = perturbed_bulk(2, seed=1, settings=PerturbSettings(vacancy_share=0.0), size=(1, 1, 1))
    return FramesData(Frames.from_atoms(images), domain='bulk')


def _dotted(values: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value


def _changed(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of settings with values laid over it by their dotted keys."""
    content = deepcopy(dict(settings))
    for key, value in values.items():
        *parts, last = key.split('.')
        place: Any = content
        for part in parts:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ValueError(f'{part} is {place!r} and has no settings of its own')
        place[last] = value
    return content


def _in_order(key: str, values: Any, engine: Engine) -> list[int | float]:
    """The values of a scan from coarse to fine. Raises ValueError if they are no such thing."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f'scans.{key} = {values!r}; allowed is a list of numbers, such as [300, 400, 500]')
    wrong = [value for value in values if isinstance(value, bool) or not isinstance(value, (int, float))]
    wrong += [value for value in values if isinstance(value, float) and not math.isfinite(value)]
    if wrong:
        raise ValueError(f'scans.{key}: {wrong[0]!r} is no number; allowed are finite numbers')
    distinct = list(dict.fromkeys(values))
    known = engine.accuracy.get(key)
    return distinct if known is None else sorted(distinct, reverse=known.finer == 'smaller')


def planned(
    frames: Frames, engine: Engine, settings: Mapping[str, Any], scans: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """What a test of convergence runs.

    Parameters
    ----------
    frames : Frames
        The structures to label.
    engine : Engine
        What labels them.
    settings : mapping
        Its settings, those that a scan does not change.
    scans : mapping
        By the key of a setting, nested or dotted, the values to try. Settings that the engine knows as `accuracy` are
        put in order; others are taken from coarse to fine as they are given. The last one is the reference.

    Returns
    -------
    scans : dict of dict
        By dotted key `title`, `unit`, `held` (the values of the other keys, and of what else is `accuracy`) and `rows`
        from coarse to fine: `value`, `same` (further values by which the frames get the same labels), `seen` (what
        they see of it, as text) and `point`.
    points : dict of dict
        Settings of each point by its name; scans that meet share one.

    Raises
    ------
    ValueError
        If there is nothing to scan, a value is refused by the engine, or a scan has not two values that differ.
    """
    checked = engine.settings.read(settings)
    base = checked.model_dump(mode='json')
    asked = dict(_dotted(scans))
    keys = [key for key, _ in _dotted(scans)]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f'scans.{twice[0]} is given twice, nested and with dots; give it once')
    if not asked:
        raise ValueError(
            f'no scans given, and the engine {engine.name} has none of its own; give values from coarse to fine by the '
            'key of a setting, such as scans.parameters.rc=[4,6,8]'
        )
    told: dict[str, dict[str, Any]] = {}
    points: dict[str, dict[str, Any]] = {}
    now = dict(_dotted(base))
    for key, values in asked.items():
        about = engine.accuracy.get(key)
        rows: list[dict[str, Any]] = []
        seen_before: list[Any] = []
        for value in _in_order(key, values, engine):
            try:
                model = engine.settings.read(_changed(base, {key: value}))
            except ValueError as error:
                raise ValueError(f'scans.{key}, value {value!r}: {error}') from None
            seen = None
            if about is not None and about.resolve is not None:
                seen = tuple(about.resolve(atoms, model) for atoms in frames)
            if seen is not None and seen in seen_before:
                rows[seen_before.index(seen)]['same'].append(value)
                continue
            seen_before.append(seen)
            content = model.model_dump(mode='json')
            point = next((name for name, other in points.items() if other == content), f'p{len(points):03d}')
            points[point] = content
            text = ', '.join(dict.fromkeys('x'.join(map(str, one)) for one in seen or ()))
            rows.append({'value': value, 'same': [], 'seen': text, 'point': point})
        if len(rows) < 2:
            given = ', '.join(f'{value:g}' for value in _in_order(key, values, engine)) or 'none'
            alike = ', which all give the same labels' if rows and rows[0]['same'] else ''
            raise ValueError(
                f'scans.{key}: given {given}{alike}; at least two values that differ are needed, the finest is the '
                'reference'
            )
        told[key] = {
            'title': about.title if about else key,
            'unit': about.unit if about else '',
            # what the engine knows as a matter of accuracy is told even if nobody scans it
            'held': {other: now.get(other) for other in dict.fromkeys((*asked, *engine.accuracy)) if other != key},
            'rows': rows,
        }
    return told, points


@calcfunction
def plan_points(frames: FramesData, engine: Str, settings: Dict, scans: Dict) -> dict[str, Dict]:
    """The scans (`plan`) and the settings of every point (`p000`, …) that they need; see `planned`."""
    told, points = planned(frames.get_frames(), find_engine(engine.value), settings.get_dict(), scans.get_dict())
    return {'plan': Dict({'scans': told}), **{name: Dict(content) for name, content in points.items()}}


def _explain_tolerances(tolerances: Tolerances, n_frames: int) -> str | None:
    """What is asked that so many frames cannot show; None if nothing is."""
    if n_frames < 2 and tolerances.energy_meV_per_atom is not None and tolerances.energies == 'differences':
        return (
            "tolerances.energies = 'differences': there is one frame, and a difference needs two; give more frames, or "
            'tolerances.energies=absolute'
        )
    return None


def _cause(n_frames: int, shard: FramesData | None, summary: Dict | None, told: str | None) -> str | None:
    """Why a point has not the labels of all frames; None if it has."""
    if shard is not None and len(shard) == n_frames:
        return None
    dropped = summary.get_dict()['dropped'] if summary is not None else []
    if not dropped:
        return told or 'it gave no labels'
    return '; '.join(f'frame {entry["index"]}: {entry["cause"]}' for entry in dropped)


def _row(
    reference: FramesData | None,
    shard: FramesData | None,
    summary: Dict | None,
    told: str | None,
    n_frames: int,
    tolerances: Tolerances,
) -> dict[str, Any]:
    """Errors of one point, its cost, whether it is good enough, and why not if it has no labels."""
    cause = _cause(n_frames, shard, summary, told)
    errors = {}
    if reference is not None and shard is not None and cause is None:
        errors = errors_of(shard.get_frames(), reference.get_frames())
    return {
        'errors': errors,
        'seconds_per_frame': None if summary is None else summary.get_dict()['seconds_per_frame'],
        'cause': cause,
        'is_within': bool(errors) and within(errors, tolerances),
    }


@calcfunction
def judge_points(frames: FramesData, plan: Dict, tolerances: Dict, causes: Dict, **labels: FramesData | Dict) -> Dict:
    """The table of a test: errors of every value against the finest of its scan, and the smallest one that will do.

    Parameters
    ----------
    frames : FramesData
        What was given to be labelled.
    plan : Dict
        As `plan_points` makes it.
    tolerances : Dict
        See `Tolerances`.
    causes : Dict
        By the name of a point, why its work chain failed.
    labels : FramesData or Dict
        By the name of a point its labels (`p000_frames`) and what became of the frames (`p000_summary`).
    """
    import numpy as np

    limits = Tolerances.read(tolerances.get_dict())
    scans = plan.get_dict()['scans']
    largest = None
    for scan in scans.values():
        finest = scan['rows'][-1]['point']
        reference = labels.get(f'{finest}_frames')
        if reference is not None and len(reference) != len(frames):
            reference = None
        if reference is not None:
            forces = np.asarray(reference.get_frames().forces)
            largest = max(largest or 0.0, float(np.linalg.norm(forces, axis=1).max()))
        for row in scan['rows']:
            shard, summary = (labels.get(f'{row["point"]}_{what}') for what in ('frames', 'summary'))
            told = causes.get_dict().get(row['point'])
            row |= _row(reference, shard, summary, told, len(frames), limits)
            row['is_reference'] = row['point'] == finest
        scan['has_reference'] = reference is not None
        scan['smallest'] = smallest_value(scan['rows'])
    counts = [int(count) for count in frames.get_frames().counts]
    return Dict(
        {
            'n_frames': len(frames),
            'n_atoms': sorted(set(counts)),
            'largest_force_eV_per_A': largest,
            'tolerances': limits.model_dump(mode='json'),
            'scans': scans,
        }
    )


@calcfunction
def choose_settings(settings: Dict, table: Dict) -> dict[str, Dict]:
    """Settings with the smallest values of all scans (`settings`), and with the finest ones (`finest`)."""
    scans, base = table.get_dict()['scans'], settings.get_dict()
    return {
        'settings': Dict(_changed(base, {key: scan['smallest'] for key, scan in scans.items()})),
        'finest': Dict(_changed(base, {key: scan['rows'][-1]['value'] for key, scan in scans.items()})),
    }


@calcfunction
def judge_together(frames: FramesData, table: Dict, causes: Dict, **labels: FramesData | Dict) -> Dict:
    """The table with what the smallest values of all scans do together, against the finest of all.

    `labels` and `causes` are those of `judge_points`, for the points `settings` and `finest`.
    """
    content = table.get_dict()
    limits = Tolerances.read(content['tolerances'])
    told = causes.get_dict()
    reference = labels.get('finest_frames')
    lost = _cause(len(frames), reference, labels.get('finest_summary'), told.get('finest'))
    row = _row(
        None if lost else reference,
        labels.get('settings_frames'),
        labels.get('settings_summary'),
        told.get('settings'),
        len(frames),
        limits,
    )
    if lost:
        row['cause'] = f'no reference: {lost}'
    content['together'] = {
        'chosen': {key: scan['smallest'] for key, scan in content['scans'].items()},
        'finest': {key: scan['rows'][-1]['value'] for key, scan in content['scans'].items()},
        **row,
    }
    return Dict(content)


class ConvergenceWorkChain(ProtocolMixin, WorkChain):
    """Test how far labels are from converged: a scan a setting, the others held, the finest value as reference."""

    _protocol_name = 'convergence'

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        spec.expose_inputs(LabelWorkChain, namespace='label', exclude=('frames', *_SETTLED))
        # complete only with the frames: see the checks of all inputs
        spec.inputs['label'].validator = None
        spec.input(
            'frames',
            valid_type=FramesData,
            help='A few structures that stand for those that are to be labelled; out of their places, or there are no '
            'forces to judge.',
        )
        spec.input(
            'scans',
            valid_type=Dict,
            help='By the key of a setting of the engine, the values to try, in its unit; the finest one is the '
            'reference. Keys that the engine does not know as a matter of accuracy go from coarse to fine as given.',
        )
        spec.input(
            'tolerances',
            valid_type=Dict,
            default=lambda: Dict(Tolerances.read({}).model_dump(mode='json')),
            validator=settings_validator(Tolerances),
            help='How far labels may be from those of the finest value (see `Tolerances`).',
        )
        spec.input(
            'check_together',
            valid_type=Bool,
            default=lambda: Bool(True),
            help='Whether the smallest values of several scans are tried together, against the finest of all.',
        )
        add_max_at_once(spec, 'points')
        spec.inputs.validator = cls._validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.has_points_left)(cls.submit_points, cls.inspect_points),
            cls.judge,
            if_(cls.has_more_to_try)(
                while_(cls.has_points_left)(cls.submit_points, cls.inspect_points), cls.judge_again
            ),
            cls.results,
        )
        spec.output(
            'table',
            valid_type=Dict,
            required=False,
            help='By scan, from coarse to fine: value, errors against the finest one, seconds a frame, whether it is '
            'within the tolerances, and the smallest value that is; then how the smallest ones do together.',
        )
        spec.output(
            'settings',
            valid_type=Dict,
            required=False,
            help='The settings of the engine with the smallest values that are within the tolerances.',
        )
        spec.exit_code(
            330,
            'ERROR_NO_REFERENCE',
            message='the finest value has no labels: {causes}; mend that or leave it out, and launch again: with '
            'caching on, what was labelled is not labelled again',
        )
        spec.exit_code(
            500,
            'ERROR_NOT_CONVERGED',
            message='no value but the finest is within the tolerances: {keys}; give finer values, or wider tolerances; '
            'what there is is in `table`',
        )
        spec.exit_code(
            501,
            'ERROR_NOT_CONVERGED_TOGETHER',
            message='the smallest values are within the tolerances one by one, and not together: {cause}; take finer '
            'ones; what there is is in `table`',
        )

    @classmethod
    def _validate_inputs(cls, inputs: dict[str, Any], context: Any) -> str | None:
        if any(name not in inputs for name in ('label', 'frames', 'scans')):
            return None  # told by the port itself, or left out on purpose where it is exposed
        if len(inputs['frames']) == 0:
            return 'frames: the shard holds none; there is nothing to label'
        problem = LabelWorkChain._validate_inputs({**inputs['label'], 'frames': inputs['frames']}, context)
        if problem:
            return f'label: {problem}'
        engine = find_engine(inputs['label']['engine'].value)
        own = inputs['label'][engine.name]
        settings = own['settings'].get_dict()
        try:
            _, points = planned(inputs['frames'].get_frames(), engine, settings, inputs['scans'].get_dict())
        except ValueError as error:
            return str(error)
        for content in points.values():
            point = {**inputs['label'], engine.name: {**own, 'settings': Dict(content)}, 'frames': inputs['frames']}
            problem = LabelWorkChain._validate_inputs(point, context)
            if problem:
                return problem
        return _explain_tolerances(Tolerances.read(inputs['tolerances'].get_dict()), len(inputs['frames']))

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: AbstractCode,
        frames: FramesData | None = None,
        protocol: str | None = None,
        overrides: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        engine: str = 'gpaw',
    ) -> ProcessBuilder:
        """A builder with the settings of a protocol; see `ProtocolMixin` for what all of them take.

        Parameters
        ----------
        code : Code
            What runs the engine.
        frames : FramesData, optional
            A few structures that stand for those that are to be labelled; two small cells of lithium if not given.
        protocol : str, optional
            Settings that are held are those of `label` by the same protocol.
        overrides : dict, optional
            Laid over the protocol: `scans`, `tolerances`, `check_together`, `max_at_once`, and `label` as its
            overrides, but for those that are settled here (`batch_size`, `allowed_failures`, `max_alone`,
            `max_at_once`).
        engine : str
            What computes the labels.

        Raises
        ------
        ValueError
            As `label`; or for scans and tolerances that show nothing.
        """
        chosen = find_engine(engine)
        settled = [key for key in _SETTLED if key in ((overrides or {}).get('label') or {})]
        if settled:
            raise ValueError(
                f'label.{settled[0]} cannot be given: a point is one batch, and the table tells what is left out'
            )
        inputs = cls.get_protocol_inputs(protocol, overrides)
        protocol = protocol or cls.get_default_protocol()
        given = frames if frames is not None else default_frames()
        refuse_other_engines((overrides or {}).get('label'), engine)
        # the protocol has something to say to several engines
        own = {key: value for key, value in inputs['label'].items() if key == engine or key not in engines()}
        label = LabelWorkChain.get_builder_from_protocol(code, given, protocol, own, options, engine)
        scans = inputs['scans'] or chosen.protocol().get('scans', {}).get(protocol, {})
        planned(given.get_frames(), chosen, label[engine].settings.get_dict(), scans)
        tolerances = Tolerances.read(inputs['tolerances'])
        problem = _explain_tolerances(tolerances, len(given))
        if problem:
            raise ValueError(problem)
        builder = cls.get_builder()
        fill(builder.label, label._inputs(prune=True), ('frames', *_SETTLED))
        builder.frames = given
        builder.scans = Dict(scans)
        builder.tolerances = Dict(tolerances.model_dump(mode='json'))
        builder.check_together = Bool(inputs['check_together'])
        if inputs['max_at_once'] is not None:
            builder.max_at_once = whole(inputs, 'max_at_once')
        return builder

    @classmethod
    def plan(cls, builder: ProcessBuilder) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        """The scans and the points that a builder would run; see `planned`."""
        engine = find_engine(builder.label.engine.value)
        settings = builder.label[engine.name].settings.get_dict()
        return planned(builder.frames.get_frames(), engine, settings, builder.scans.get_dict())

    @property
    def engine(self) -> Engine:
        """The engine that labels."""
        return find_engine(self.inputs.label.engine.value)

    def setup(self) -> None:
        """Settle the points."""
        settings = self.inputs.label[self.engine.name].settings
        plan = dict(plan_points(self.inputs.frames, self.inputs.label.engine, settings, self.inputs.scans))
        self.ctx.plan = plan.pop('plan')
        self.ctx.settings = plan
        self.ctx.left = sorted(plan)
        self.ctx.labels = {}
        self.ctx.causes = {}

    def has_points_left(self) -> bool:
        """Whether points are still to be labelled."""
        return bool(self.ctx.left)

    def submit_points(self) -> Any:
        """Label the frames by as many settings as may run side by side."""
        at_once = self.inputs.max_at_once.value if 'max_at_once' in self.inputs else len(self.ctx.left)
        self.ctx.running, self.ctx.left = self.ctx.left[:at_once], self.ctx.left[at_once:]
        awaited = {}
        for name in self.ctx.running:
            inputs = AttributeDict(self.exposed_inputs(LabelWorkChain, 'label'))
            inputs.frames = self.inputs.frames
            # in one batch `source_index` is the index of the frame; whatever fails is told in the table
            inputs.batch_size = Int(len(self.inputs.frames))
            inputs.max_alone = Int(0)
            inputs.allowed_failures = Float(1.0)
            inputs[self.engine.name].settings = self.ctx.settings[name]
            inputs.metadata.call_link_label = name
            child = self.submit(LabelWorkChain, **inputs)
            self.report(f'{name}: {child.process_label}<{child.pk}>')
            awaited[f'points.{name}'] = child
        return ToContext(**awaited)

    def inspect_points(self) -> None:
        """Keep what the points gave; one that failed is told in the table."""
        for name in self.ctx.running:
            child = self.ctx.points[name]
            if not child.is_finished_ok:
                cause = f'{child.process_label}<{child.pk}>: {child.exit_message or child.process_state.value}'
                self.ctx.causes[name] = cause
                self.report(f'{name}: {cause}')
            if 'summary' in child.outputs:
                self.ctx.labels[f'{name}_summary'] = child.outputs.summary
            if 'frames' in child.outputs:
                self.ctx.labels[f'{name}_frames'] = child.outputs.frames.b000

    def judge(self) -> ExitCode | None:
        """Make the table; say if a reference is missing or a scan shows nothing."""
        table = judge_points(
            self.inputs.frames, self.ctx.plan, self.inputs.tolerances, Dict(self.ctx.causes), **self.ctx.labels
        )
        self.ctx.table = table
        scans = table.get_dict()['scans']
        lost = [f'{key}: {scan["rows"][-1]["cause"]}' for key, scan in scans.items() if not scan['has_reference']]
        missed = [key for key, scan in scans.items() if scan['smallest'] is None]
        for key, scan in scans.items():
            chosen = 'none but the finest' if scan['smallest'] is None else scan['smallest']
            self.report(f'{key}: smallest within the tolerances is {chosen}')
        if lost or missed:
            self.out('table', table)
        if lost:
            return self.exit_codes.ERROR_NO_REFERENCE.format(causes='; '.join(lost))
        return self.exit_codes.ERROR_NOT_CONVERGED.format(keys=', '.join(missed)) if missed else None

    def has_more_to_try(self) -> bool:
        """Choose the settings; whether they are tried together against the finest ones, as there are several."""
        settings = self.inputs.label[self.engine.name].settings
        self.ctx.settings = dict(choose_settings(settings, self.ctx.table))
        self.ctx.labels, self.ctx.causes = {}, {}
        self.ctx.left = ['settings', 'finest']
        return self.inputs.check_together.value and len(self.ctx.table.get_dict()['scans']) > 1

    def judge_again(self) -> None:
        """Put what the smallest values do together into the table."""
        self.ctx.table = judge_together(self.inputs.frames, self.ctx.table, Dict(self.ctx.causes), **self.ctx.labels)

    def results(self) -> ExitCode | None:
        """Attach the table and the settings."""
        self.out('table', self.ctx.table)
        told = self.ctx.table.get_dict().get('together')
        if told is not None and not told['is_within']:
            known = ', '.join(f'{key} {value:.3g}' for key, value in told['errors'].items() if value is not None)
            return self.exit_codes.ERROR_NOT_CONVERGED_TOGETHER.format(cause=told['cause'] or known)
        self.out('settings', self.ctx.settings['settings'])
        return None
