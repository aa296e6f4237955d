"""The work chain `campaign`: all runs of a campaign, a few at once, without doing again what was done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, calcfunction, while_
from aiida.orm import AbstractCode, Data, Dict, Int, Str, load_node

from aiida_liheal.data.potential import PotentialData
from aiida_liheal.sampling.campaign import Campaign, Point, lay_over, points, read_campaign
from aiida_liheal.workchains.pack import PackWorkChain
from aiida_liheal.workchains.points import (
    KEY_EXTRA,
    PACK_EXTRA,
    build_point,
    data_of,
    earlier_runs,
    failure_of,
    folders_of,
    packs_of,
    point_key,
    read_points,
    returned_by,
    shipped_campaigns,
    was_refused,
)
from aiida_liheal.workchains.ports import whole_number

__all__ = ('CampaignWorkChain', 'point_inputs', 'short_names', 'tabulate')

#: Results in the table, as dotted paths of outputs, where a series names none.
COLUMNS: dict[str, tuple[str, ...]] = {
    'deposit': (
        'results.runs.0.n_start',
        'results.runs.0.n_inserted',
        'results.runs.0.n_lost',
        'results.runs.0.last_step',
        'results.runs.0.katom_step_per_s',
        'analysis.summary.end.time_ps',
        'analysis.summary.start.film_height_A',
        'analysis.summary.end.film_height_A',
        'analysis.summary.end.bcc_share',
        'analysis.summary.end.temperature_K',
    ),
    'heal': (
        'results.runs.0.n_start',
        'results.runs.0.last_step',
        'results.runs.0.katom_step_per_s',
        'analysis.summary.end.time_ps',
        'analysis.summary.start.void_volume_A3',
        'analysis.summary.end.void_volume_A3',
        'analysis.summary.healed_at_ps',
        'analysis.summary.end.bcc_share',
        'analysis.summary.end.potential_energy_eV_per_atom',
    ),
}
#: Columns of other verbs: numbers of these outputs, but not what they were asked for.
_TOLD = ('results', 'summary', 'analysis.summary')
_NOT_TOLD = ('settings', 'versions', 'units', 'options', 'seed')
MAX_COLUMNS = 16


@calcfunction
def point_inputs(campaign: Dict, point: Str, **given: Any) -> dict[str, Any]:
    """Settings of one run as they follow from the campaign: the inputs of its process besides those given.

    `given` holds the namespaces `codes` and `potentials` of the campaign.
    """
    one = next(item for item in points(read_campaign(campaign.get_dict())) if item.name == point.value)
    made: dict[str, Any] = {}
    for path, node in data_of(build_point(one, given['codes'], given['potentials'])._inputs(prune=True)):
        if not node.is_stored:
            made[path.replace('.', '__')] = node
    return made


@calcfunction
def tabulate(campaign: Dict, states: Dict, **outputs: Any) -> Dict:
    """One table of a campaign: a row a point with its place in the grid, its state, and its main results.

    Parameters
    ----------
    campaign : Dict
        What was run.
    states : Dict
        By point: state, run, cause, attempts.
    **outputs : Dict
        Outputs of each point, in a namespace of its name.
    """
    content = read_campaign(campaign.get_dict())
    rows: list[dict[str, Any]] = []
    found: dict[str, list[str]] = {}
    for point in points(content):
        results = {path: node.get_dict() for path, node in _dicts(outputs.get(point.name, {}))}
        paths = content.series[point.series].columns or COLUMNS.get(point.verb) or _numbers_in(results)
        values = {path: _lookup(results, path) for path in paths}
        columns = found.setdefault(point.series, [])
        columns += [path for path in paths if path not in columns]
        rows.append(
            {
                'point': point.name,
                'series': point.series,
                'potential': point.potential,
                'seed': point.seed,
                'grid': point.values,
                **states.get_dict()[point.name],
                'results': values,
            }
        )
    series = {}
    for name, one in content.series.items():
        names = short_names(found[name])
        series[name] = {
            **one.model_dump(include={'verb', 'note', 'source'}),
            'axes': list(one.grid),
            'columns': names,
            'figure': None if one.figure is None else one.figure.model_dump(),
        }
    for row in rows:
        names = series[row['series']]['columns']
        row['results'] = {names[path]: value for path, value in row['results'].items()}
    counts = {state: sum(row['state'] == state for row in rows) for state in ('finished', 'failed')}
    return Dict({'title': content.title, 'series': series, 'rows': rows, 'counts': {**counts, 'points': len(rows)}})


def _dicts(outputs: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Dict]]:
    for name, value in outputs.items():
        path = f'{prefix}{name}'
        if isinstance(value, Mapping) and not isinstance(value, Data):
            yield from _dicts(value, f'{path}.')
        elif isinstance(value, Dict):
            yield path, value


def _lookup(results: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, whose beginning is the name of an output; None if there is none.

    A `*` stands for each item of a list, and gives a list.
    """
    output = next((name for name in sorted(results, key=len, reverse=True) if path.startswith(f'{name}.')), None)
    if output is None:
        return None
    return _follow(results[output], path.removeprefix(f'{output}.').split('.'))


def _follow(value: Any, parts: list[str]) -> Any:
    for number, part in enumerate(parts):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part == '*':
            return [_follow(item, parts[number + 1 :]) for item in value]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _numbers_in(results: Mapping[str, Any]) -> list[str]:
    """Dotted paths of the numbers in what a run tells, the first ones."""

    def walk(value: Any, path: str) -> Iterator[str]:
        if isinstance(value, Mapping):
            for key, item in value.items():
                if key not in _NOT_TOLD:
                    yield from walk(item, f'{path}.{key}')
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield path

    found = [path for name in _TOLD if name in results for path in walk(results[name], name)]
    return found[:MAX_COLUMNS]


def short_names(paths: list[str]) -> dict[str, str]:
    """Names of columns by path: the last parts, as many as tell them apart; `start` and `end` are kept."""
    names = {}
    for path in paths:
        parts = path.split('.')
        length = 2 if len(parts) > 1 and parts[-2] in ('start', 'end') else 1
        while length < len(parts) and sum(other.split('.')[-length:] == parts[-length:] for other in paths) > 1:
            length += 1
        names[path] = '.'.join(parts[-length:])
    return names


class CampaignWorkChain(WorkChain):
    """Run the points of a campaign, a few at once; take over those that an earlier campaign finished."""

    _awaitables: list[Any]

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        spec.input(
            'campaign',
            valid_type=Dict,
            validator=cls._validate_campaign,
            help='Series of runs with their grids, as in a campaign file (see `Campaign`).',
        )
        spec.input_namespace(
            'codes',
            valid_type=AbstractCode,
            dynamic=True,
            required=True,
            help='What the verbs run: `lmp`, and `python` with OVITO for their analysis.',
        )
        spec.input_namespace(
            'potentials',
            valid_type=PotentialData,
            dynamic=True,
            required=True,
            help='For each name of a potential in the campaign its members m0, m1, …; the first one drives.',
        )
        for name, meaning in (
            (
                'max_at_once',
                'Most runs, or packs of runs, that are under way at once; that of the campaign if not given.',
            ),
            ('max_attempts', 'Times that a point is tried in all, earlier campaigns included; that of the campaign.'),
        ):
            spec.input(
                name,
                valid_type=Int,
                required=False,
                validator=whole_number(name),
                help=meaning,
            )
        spec.inputs.validator = cls._validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.is_work_left)(cls.start_points, cls.look_at_points),
            cls.results,
            cls.conclude,
        )
        spec.output('table', valid_type=Dict, help='A row a point: its place in the grid, its state, main results.')
        spec.output_namespace(
            'points',
            dynamic=True,
            required=False,
            help='All outputs of the run of each point, also of those that were taken over from earlier campaigns.',
        )
        spec.exit_code(
            330, 'ERROR_NO_POINT', message='none of {n_points} points finished: {causes}; mend that and launch it again'
        )
        spec.exit_code(
            430,
            'ERROR_POINTS_FAILED',
            message='{n_failed} of {n_points} points failed: {causes}; mend that and launch the campaign again with a '
            'higher max_attempts: it does only those',
        )

    @staticmethod
    def _validate_campaign(node: Dict, _: Any) -> str | None:
        try:
            read_campaign(node.get_dict())
        except ValueError as error:
            return str(error)
        return None

    @staticmethod
    def _validate_inputs(inputs: Mapping[str, Any], _: Any) -> str | None:
        if not {'campaign', 'codes', 'potentials'} <= set(inputs):
            return None
        try:
            read_points(inputs['campaign'].get_dict(), inputs['codes'], inputs['potentials'])
        except ValueError as error:
            return str(error)
        return None

    @classmethod
    def get_available_protocols(cls) -> dict[str, str]:
        """Name and title of each campaign that ships with the package."""
        return {name: str(yaml.safe_load(text)['title']) for name, text in shipped_campaigns().items()}

    @classmethod
    def get_default_protocol(cls) -> str:
        """Name of the campaign taken when none is given."""
        return 'laptop'

    @classmethod
    def get_protocol_inputs(
        cls, protocol: str | None = None, overrides: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """A shipped campaign with overrides laid over it. Raises ValueError if there is none of this name."""
        shipped = shipped_campaigns()
        name = protocol or cls.get_default_protocol()
        if name not in shipped:
            raise ValueError(f'unknown protocol {name!r}; there are {", ".join(shipped)}')
        return lay_over(yaml.safe_load(shipped[name]), overrides or {})

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, AbstractCode],
        potentials: Mapping[str, Mapping[str, PotentialData]],
        protocol: str | None = None,
        overrides: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> ProcessBuilder:
        """A builder for one of the campaigns that ship with the package.

        Parameters
        ----------
        codes : mapping of str to Code
            `lmp`, and `python` with OVITO for the analysis.
        potentials : mapping of str to mapping of str to PotentialData
            Members m0, m1, … by the name that the campaign has for the potential.
        protocol : str, optional
            `laptop` or `paper`.
        overrides : dict, optional
            Laid over the campaign.
        options : dict, optional
            `metadata.options` of all jobs.

        Raises
        ------
        ValueError
            Naming everything in the campaign that is wrong.
        """
        content = cls.get_protocol_inputs(protocol, overrides)
        return cls.get_builder_from_campaign(codes, potentials, content, options)

    @classmethod
    def get_builder_from_campaign(
        cls,
        codes: Mapping[str, AbstractCode],
        potentials: Mapping[str, Mapping[str, PotentialData]],
        campaign: Mapping[str, Any],
        options: dict[str, Any] | None = None,
    ) -> ProcessBuilder:
        """A builder for a campaign of one's own, as it stands in its file; parameters as above."""
        content = lay_over(campaign, {'options': options}) if options else dict(campaign)
        read_campaign(content)
        builder = cls.get_builder()
        builder.campaign = Dict(content)
        builder.codes = dict(codes)
        builder.potentials = {name: dict(members) for name, members in potentials.items()}
        return builder

    def setup(self) -> None:
        """Make the inputs of all points, and look for those that were run before."""
        campaign, built = self._read()
        self.ctx.max_at_once = self._limit('max_at_once', campaign.max_at_once)
        self.ctx.max_attempts = self._limit('max_attempts', campaign.max_attempts)
        keys = {name: point_key(builder) for name, (_, builder) in built.items()}
        before = earlier_runs(list(keys.values()))
        # points with the same inputs are one run: the first of them makes it
        first: dict[str, str] = {}
        self.ctx.point_keys = keys
        self.ctx.same = {name: first.setdefault(key, name) for name, key in keys.items()}
        to_run = []
        self.ctx.queue = []
        self.ctx.packs = {}
        self.ctx.running = {}
        self.ctx.runs = {}
        self.ctx.attempts = {}
        self.ctx.taken_over = []
        for name in first.values():
            known = before[keys[name]]
            self.ctx.attempts[name] = len(known.failed)
            if known.finished is not None:
                self.ctx.runs[name] = known.finished.pk
                self.ctx.taken_over.append(name)
            elif len(known.failed) >= self.ctx.max_attempts:
                self.ctx.runs[name] = known.failed[-1].pk
                self.report(f'{name}: failed {len(known.failed)} times before; not tried again')
            else:
                to_run.append(name)
        for names in packs_of(campaign, built, to_run):
            self._queue(names)
        n_same = len(keys) - len(first)
        self.report(
            f'{len(keys)} points: {len(self.ctx.taken_over)} finished before, {n_same} the same as another one, '
            f'{len(to_run)} to run in {len(self.ctx.queue)} jobs, at most {self.ctx.max_at_once} at once'
        )

    def _queue(self, names: list[str]) -> None:
        """Put points that are done in one job at the end of the queue, by the name of the first of them."""
        self.ctx.queue.append(names[0])
        if len(names) > 1:
            self.ctx.packs[names[0]] = names

    def _read(self) -> tuple[Campaign, dict[str, tuple[Point, ProcessBuilder]]]:
        return read_points(self.inputs.campaign.get_dict(), self.inputs.codes, self.inputs.potentials)

    def _limit(self, name: str, default: int) -> int:
        return int(self.inputs[name].value) if name in self.inputs else default

    def is_work_left(self) -> bool:
        """Whether there is a point to run or under way."""
        return bool(self.ctx.queue or self.ctx.running)

    def start_points(self) -> Any:
        """Start as many points as may run at once, and wait until one of those under way is over."""
        while self.ctx.queue and len(self.ctx.running) < self.ctx.max_at_once:
            name = self.ctx.queue.pop(0)
            child = self._start(name)
            self.ctx.running[name] = child.pk
        return ToContext(**{f'under_way.{name}': load_node(pk) for name, pk in self.ctx.running.items()})

    def _start(self, name: str) -> Any:
        """Submit a point, or a pack of points by the name of its first one."""
        names = self.ctx.packs.get(name, [name])
        campaign = read_campaign(self.inputs.campaign.get_dict())
        by_name = {point.name: point for point in points(campaign)}
        before = earlier_runs([self.ctx.point_keys[one] for one in names])
        builders = {one: self._builder_of(by_name[one], before[self.ctx.point_keys[one]].broken_off) for one in names}
        if len(names) == 1:
            builder = builders[name]
        else:
            builder = PackWorkChain.get_builder_from_points(
                builders, campaign.series[by_name[name].series].side_by_side
            )
        builder.metadata.label = ', '.join(names)[:250]
        builder.metadata.call_link_label = name
        child = self.submit(builder)
        if len(names) == 1:
            child.base.extras.set(KEY_EXTRA, self.ctx.point_keys[name])
        after = [f'{one.process_label}<{one.pk}>' for key in before for one in before[key].broken_off[-1:]]
        told = f', after {", ".join(dict.fromkeys(after))} did not finish' if after else ''
        self.report(f'{", ".join(names)}: {child.process_label}<{child.pk}>{told}; {len(self.ctx.queue)} wait')
        return child

    def _builder_of(self, point: Point, broken_off: list[Any]) -> ProcessBuilder:
        """Inputs of one point, made by a calcfunction, going on from where an earlier run of it broke off."""
        builder = build_point(point, self.inputs.codes, self.inputs.potentials)
        made = point_inputs(
            self.inputs.campaign,
            Str(point.name),
            codes=dict(self.inputs.codes),
            potentials=dict(self.inputs.potentials),
        )
        for path, node in made.items():
            *outer, last = path.split('__')
            place: Any = builder
            for part in outer:
                place = place[part]
            place[last] = node
        can_go_on = broken_off and 'earlier' in builder.process_class.spec().inputs
        if can_go_on and not was_refused(broken_off[-1]):
            folders = folders_of(broken_off[-1], self.ctx.point_keys[point.name])
            if folders:
                builder.earlier = folders
        return builder

    def _on_awaitable_finished(self, awaitable: Any) -> None:
        """Go on as soon as one of the children is over; AiiDA waits for all of them, and slots would stand empty.

        AiiDA has no public way to wait for any of several children (its issue 5596; aiida-workgraph has an engine of
        its own for that): a step can only name those that all have to end (`ToContext`, `append_`), batches would wait
        for their slowest run, and `pause` and `play` are lost when a daemon restarts. A test holds it to this method.
        """
        # a child that was waited for in an earlier step calls once more: it was looked at
        if awaitable in self._awaitables:
            self._awaitables = [awaitable]
            super()._on_awaitable_finished(awaitable)

    def look_at_points(self) -> None:
        """Note the points that are over; one that failed is tried again at the end of the queue, up to a limit."""
        for first, pk in list(self.ctx.running.items()):
            child: Any = load_node(pk)
            if not child.is_terminated:
                continue
            del self.ctx.running[first]
            again = []
            packs = self.ctx.get('packs', {})
            for name in packs.pop(first, [first]):
                run = self._run_of(child, name)
                self.ctx.runs[name] = run.pk
                if run.is_finished_ok:
                    continue
                # one that a person killed did not fail, and is not wanted now
                self.ctx.attempts[name] += not run.is_killed
                wanted = self.ctx.attempts[name] < self.ctx.max_attempts and not run.is_killed
                again += [name] if wanted else []
                self.report(
                    f'{name}: {run.process_label}<{run.pk}> did not finish ({failure_of(run)}); '
                    + ('it is tried again' if wanted else 'it is left')
                )
            if again:
                self._queue(again)

    def _run_of(self, child: Any, name: str) -> Any:
        """The process that tells of a point: of a pack the one that it began for the point, if it came so far."""
        if PACK_EXTRA not in child.base.extras.all:
            return child
        keyed = {one.base.extras.get(KEY_EXTRA, None): one for one in child.called}
        return keyed.get(self.ctx.point_keys[name], child)

    def results(self) -> None:
        """Attach what each point gave, and one table of all."""
        states: dict[str, Any] = {}
        outputs: dict[str, dict[str, Any]] = {}
        for name, first in self.ctx.same.items():
            run: Any = load_node(self.ctx.runs[first])
            is_ours = first == name and first not in self.ctx.taken_over
            states[name] = {
                'state': 'finished' if run.is_finished_ok else 'failed',
                'cause': '' if run.is_finished_ok else failure_of(run),
                'attempts': self.ctx.attempts[first] + (1 if run.is_finished_ok else 0),
                'taken_over': not is_ours,
                'key': self.ctx.point_keys[name],
                'run': run.uuid,
            }
            # a pack that came to nothing has no outputs of its points
            for path, node in ({} if PACK_EXTRA in run.base.extras.all else returned_by(run)).items():
                self.out(f'points.{name}.{path}', node)
                if isinstance(node, Dict):
                    place = outputs.setdefault(name, {})
                    *outer, last = path.split('.')
                    for part in outer:
                        place = place.setdefault(part, {})
                    place[last] = node
        self.ctx.states = states
        self.out('table', tabulate(self.inputs.campaign, Dict(states), **outputs))

    def conclude(self) -> ExitCode | None:
        """Tell how many points failed, and why."""
        states = dict(self.ctx.states)
        failed = {name: state for name, state in states.items() if state['state'] == 'failed'}
        if not failed:
            return None
        shown = [f'{name} ({state["cause"]})' for name, state in list(failed.items())[:3]]
        more = f'; and {len(failed) - len(shown)} more' if len(failed) > len(shown) else ''
        told = {'n_failed': len(failed), 'n_points': len(states), 'causes': '; '.join(shown) + more}
        codes = self.exit_codes
        code = codes.ERROR_NO_POINT if len(failed) == len(states) else codes.ERROR_POINTS_FAILED
        return code.format(**told)
