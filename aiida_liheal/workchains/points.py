"""The points of a campaign as inputs of processes: what is to run, what ran before, and what it costs."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from typing import Any, NamedTuple

from aiida.common.links import LinkType
from aiida.engine import ProcessBuilder
from aiida.orm import (
    AbstractCode,
    CalcJobNode,
    Data,
    Dict,
    ProcessNode,
    QueryBuilder,
    RemoteData,
    Str,
    WorkChainNode,
)
from aiida.plugins import WorkflowFactory
from aiida.plugins.entry_point import get_entry_point_names

from aiida_liheal.calculations.common import named, segments_in_order
from aiida_liheal.calculations.lammps import run_folder
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.sampling.campaign import Campaign, Cost, Point, points, read_campaign
from aiida_liheal.workchains.md import folder_of_run, run_in

__all__ = (
    'KEY_EXTRA',
    'PACK_EXTRA',
    'Earlier',
    'build_point',
    'campaign_verbs',
    'check_inputs',
    'cost_of',
    'data_of',
    'earlier_runs',
    'failure_of',
    'folders_of',
    'key_of',
    'mark_as_point',
    'measured_speed',
    'packs_of',
    'point_key',
    'read_points',
    'returned_by',
    'shipped_campaigns',
    'still_there',
    'was_refused',
)

#: Extra of a process that tells which point of which campaign it ran: equal keys are equal runs.
KEY_EXTRA = 'liheal_point_key'
#: Extra of a process that does several points in one job: the number of the run by the key of its point.
PACK_EXTRA = 'liheal_pack_keys'


class Earlier(NamedTuple):
    """What earlier campaigns did for a key: the run that finished, those that failed or were killed, one under way."""

    finished: ProcessNode | None
    failed: list[ProcessNode]
    broken_off: list[ProcessNode]
    under_way: ProcessNode | None


@functools.cache
def campaign_verbs() -> dict[str, Any]:
    """Work chains that a campaign can run, by verb: a protocol, a potential and a seed are all that they need."""
    found = {}
    for name in get_entry_point_names('aiida.workflows'):
        # those that run campaigns themselves are left out
        if not name.startswith('liheal.') or name in ('liheal.campaign', 'liheal.reproduce'):
            continue
        process: Any = WorkflowFactory(name)
        if not hasattr(process, 'get_builder_from_protocol'):
            continue
        parameters = inspect.signature(process.get_builder_from_protocol).parameters
        needed = {key for key, value in parameters.items() if value.default is value.empty}
        if needed == {'codes', 'potentials'} and {'seed', 'protocol', 'overrides', 'options'} <= set(parameters):
            found[name.removeprefix('liheal.')] = process
    return found


def shipped_campaigns() -> dict[str, str]:
    """Names of the campaigns that ship with the package, and their text."""
    folder = files('aiida_liheal.protocols') / 'campaign'
    return {
        path.name.removesuffix('.yaml'): path.read_text(encoding='utf-8')
        for path in sorted(folder.iterdir(), key=lambda path: path.name)
        if path.name.endswith('.yaml')
    }


def build_point(
    point: Point, codes: Mapping[str, AbstractCode], potentials: Mapping[str, Mapping[str, PotentialData]]
) -> ProcessBuilder:
    """The inputs of one run.

    Raises
    ------
    ValueError
        Saying what is wrong with the verb, the potential, the protocol or the overrides.
    """
    verbs = campaign_verbs()
    if point.verb not in verbs:
        raise ValueError(f'verb = {point.verb!r}: a campaign can run {", ".join(sorted(verbs))}')
    if point.potential not in potentials:
        raise ValueError(f'potential = {point.potential!r}: there are {", ".join(potentials) or "none"}')
    builder = verbs[point.verb].get_builder_from_protocol(
        codes,
        dict(potentials[point.potential]),
        seed=point.seed,
        protocol=point.protocol,
        overrides=point.overrides,
        options=point.options or None,
    )
    assert isinstance(builder, ProcessBuilder)  # noqa: S101 (a verb's method gives one)
    return builder


def read_points(
    values: Mapping[str, Any],
    codes: Mapping[str, AbstractCode],
    potentials: Mapping[str, Mapping[str, PotentialData]],
) -> tuple[Campaign, dict[str, tuple[Point, ProcessBuilder]]]:
    """A campaign and the inputs of all its points by name, each checked as its process would; nothing is stored.

    Raises
    ------
    ValueError
        With a line for each fault: the path or the point, what was given, and what is allowed.
    """
    campaign = read_campaign(values)
    built: dict[str, tuple[Point, ProcessBuilder]] = {}
    faults: dict[str, list[str]] = {}
    for point in points(campaign):
        try:
            builder = build_point(point, codes, potentials)
            check_inputs(builder.process_class, builder._inputs(prune=True))
            built[point.name] = point, builder
        except (ValueError, TypeError) as error:
            for line in str(error).splitlines():
                faults.setdefault(f'series.{point.series}: {line}', []).append(point.name)
    if faults:
        # one fault is often that of all points of a series
        lines = []
        for line, names in faults.items():
            others = f' and {len(names) - 1} more' if len(names) > 1 else ''
            lines.append(f'{line} (point {names[0]}{others})')
        raise ValueError('\n'.join(lines))
    return campaign, built


def check_inputs(process: Any, inputs: Mapping[str, Any]) -> None:
    """Check inputs as their process would, without one. Raises ValueError saying which input is wrong, and why."""
    ports = process.spec().inputs
    problem = ports.validate(ports.pre_process(_thawed(inputs)))
    if problem is not None:
        where = (problem.port or '').removeprefix('inputs').lstrip('.')
        raise ValueError(f'{where}: {problem.message}' if where else str(problem.message))


def _thawed(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs with namespaces that can be filled with defaults; those of a process cannot."""
    return {
        name: _thawed(value) if isinstance(value, Mapping) and not isinstance(value, Data) else value
        for name, value in inputs.items()
    }


def packs_of(
    campaign: Campaign, built: Mapping[str, tuple[Point, ProcessBuilder]], names: Iterable[str]
) -> list[list[str]]:
    """Points by the job that does them: those of a series that can share one, as many as it says."""
    from aiida_liheal.workchains.pack import PackWorkChain

    jobs: list[list[str]] = []
    filling: dict[tuple[str, str], list[str]] = {}
    for name in names:
        point, builder = built[name]
        size = campaign.series[point.series].runs_per_job
        place = (point.series, PackWorkChain.shared(builder) if size > 1 else name)
        if len(filling.get(place, [])) in (0, size):
            filling[place] = []
            jobs.append(filling[place])
        filling[place].append(name)
    return jobs


def data_of(inputs: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Data]]:
    """Inputs that are data, by dotted path; neither codes nor metadata."""
    for name, value in inputs.items():
        path = f'{prefix}{name}'
        if name == 'metadata' or isinstance(value, AbstractCode):
            continue
        if isinstance(value, Mapping):
            yield from data_of(value, f'{path}.')
        elif isinstance(value, Data):
            yield path, value


def point_key(builder: ProcessBuilder) -> str:
    """What defines a run, as a hash: its verb and the content of its inputs, but no codes, labels or options."""
    return key_of(builder.process_class, builder._inputs(prune=True))


def key_of(process: Any, inputs: Mapping[str, Any]) -> str:
    """The same of a process and its inputs; an earlier run that it goes on from does not count."""
    described: dict[str, Any] = {'process': process.__name__}
    for path, node in data_of({name: value for name, value in inputs.items() if name != 'earlier'}):
        attributes = {key: value for key, value in node.base.attributes.all.items() if not key.startswith('_')}
        described[path] = {
            'type': type(node).__name__,
            'attributes': _canonical(attributes),
            'files': node.base.repository.hash(),
        }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


def mark_as_point(node: ProcessNode, builder: ProcessBuilder) -> None:
    """Note on a run that was launched alone what defines it, so that campaigns take it over as a point of theirs."""
    if builder.process_class in campaign_verbs().values():
        node.base.extras.set(KEY_EXTRA, point_key(builder))


def _canonical(value: Any) -> Any:
    """The same with 300 for 300.0, and tuples as lists: as a database gives numbers back."""
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f'{value:.12g}')
    return value


def earlier_runs(keys: list[str]) -> dict[str, Earlier]:
    """What there is for each key, among all processes of the profile."""
    query = QueryBuilder().append(
        WorkChainNode, filters={f'extras.{KEY_EXTRA}': {'in': keys}}, project=[f'extras.{KEY_EXTRA}', '*']
    )
    by_key: dict[str, list[WorkChainNode]] = {}
    for key, node in query.all() if keys else []:
        by_key.setdefault(key, []).append(node)
    packs = QueryBuilder().append(WorkChainNode, filters={'extras': {'has_key': PACK_EXTRA}})
    for (pack,) in packs.all() if keys else []:
        # what became of a point is told by its own process, as soon as the pack has begun it
        told = {child.base.extras.get(KEY_EXTRA, None) for child in pack.called}
        for key in set(pack.base.extras.get(PACK_EXTRA)) - told:
            by_key.setdefault(key, []).append(pack)
    found = {}
    for key in keys:
        nodes = sorted(by_key.get(key, []), key=lambda node: node.pk)
        found[key] = Earlier(
            finished=next((node for node in reversed(nodes) if node.is_finished_ok), None),
            failed=[node for node in nodes if node.is_failed or node.is_excepted],
            broken_off=[node for node in nodes if node.is_terminated and not node.is_finished_ok],
            under_way=next((node for node in reversed(nodes) if not node.is_terminated), None),
        )
    return found


def failure_of(node: ProcessNode) -> str:
    """Why a process did not finish well, in words."""
    if node.is_killed:
        return 'killed'
    if node.is_excepted:
        return (node.exception or 'an exception').strip().splitlines()[-1]
    return f'exit code {node.exit_status}: {node.exit_message}'


def returned_by(node: ProcessNode) -> dict[str, Data]:
    """Outputs of a work chain by dotted path."""
    links = node.base.links.get_outgoing(link_type=LinkType.RETURN).all()
    return {link.link_label.replace('__', '.'): link.node for link in links}


def was_refused(node: ProcessNode) -> bool:
    """Whether a run ended beyond a limit, or with atoms too many or too few.

    Its last restart file may be from after that: a run that goes on from there would end well and hide it.
    """
    runs = node.outputs.results.get_dict().get('runs', []) if 'results' in node.outputs else []
    return any(run.get('status') in ('stopped', 'unbalanced') for run in runs)


def folders_of(node: ProcessNode, key: str = '', store: bool = True) -> dict[str, RemoteData]:
    """Folders of a run that broke off, as its verb takes them to go on from.

    No computer is asked for it, so that a step of a process cannot fail here: `liheal.md` looks into them, and begins
    anew where they were cleaned since.

    Parameters
    ----------
    node : ProcessNode
        The process that ran it, alone or with others.
    key : str
        Of its point, if it may have run with others.
    store : bool
        Whether the folders of runs become nodes, each linked to the folder of its job.
    """
    number = 0
    inputs: Any = node.inputs
    if PACK_EXTRA in node.base.extras.all:
        number = node.base.extras.get(PACK_EXTRA)[key]
        inputs = node.inputs.points[sorted(node.inputs.points)[number]]
    found = [inputs['earlier'][name] for name in segments_in_order(inputs['earlier'])] if 'earlier' in inputs else []
    if 'packed' in inputs:
        packed = inputs['packed'].get('trajectories', {})
        found += [packed[name] for name in segments_in_order(packed)]
    run = run_folder(number)
    jobs = [child for child in node.called_descendants if child.process_label == 'LammpsCalculation']
    for job in sorted(jobs, key=lambda job: job.pk):
        # a job that went on with some of its runs did not do the others
        if 'remote_folder' in job.outputs and ('restart_steps' not in job.inputs or run in job.inputs.restart_steps):
            folder = job.outputs.remote_folder
            found.append(folder_of_run(folder, Str(run)) if store else run_in(folder, run))
    return named(found)


def still_there(folders: Mapping[str, RemoteData]) -> dict[str, RemoteData]:
    """Those of some folders that hold anything, for a person who waits for the answer.

    Raises
    ------
    ValueError
        If a computer could not be asked.
    """
    found = []
    for name in segments_in_order(folders):
        try:
            with folders[name].get_authinfo().get_transport() as transport:
                path = folders[name].get_remote_path()
                found += [folders[name]] if transport.isdir(path) and transport.listdir(path) else []
        except Exception as error:
            computer = folders[name].computer.label
            raise ValueError(
                f'{computer} cannot be asked for {folders[name].get_remote_path()}: {error}; try again'
            ) from error
    return named(found)


def cost_of(builder: ProcessBuilder) -> Cost:
    """Atoms and steps of all runs of a point, before they are run, as its verb tells them."""
    process: Any = builder.process_class
    return process.cost(builder)


def measured_speed(code: AbstractCode, potential: PotentialData) -> tuple[float, str] | None:
    """Speed of earlier runs with this code and driving potential: thousands of atoms times steps a second.

    Large and long runs count by their atoms times steps, as they will in an estimate.

    Returns
    -------
    speed : float
        In katom-step/s.
    source : str
        What it was measured on, in words.
    None if there is no such run in the profile.
    """
    if not (code.is_stored and potential.is_stored):
        return None
    query = QueryBuilder()
    query.append(PotentialData, filters={'uuid': potential.uuid}, tag='potential')
    query.append(
        CalcJobNode,
        filters={'process_type': 'aiida.calculations:liheal.lammps'},
        with_incoming='potential',
        edge_filters={'label': 'potentials__m0'},
        tag='job',
    )
    query.append(AbstractCode, filters={'uuid': code.uuid}, with_outgoing='job')
    query.append(Dict, with_outgoing='job', edge_filters={'label': 'settings'}, project='attributes.side_by_side')
    query.append(Dict, with_incoming='job', edge_filters={'label': 'results'}, project='attributes.runs')
    work = seconds = 0.0
    n_runs = 0
    for side_by_side, runs in query.iterall():
        # runs that shared a GPU, or cores, say nothing of one that has it for itself
        for run in [] if side_by_side else runs or []:
            speed, steps, atoms = (run.get(key) for key in ('katom_step_per_s', 'n_steps_done', 'n_start'))
            if speed and steps and atoms:
                n_runs += 1
                work += atoms * steps
                seconds += atoms * steps / speed
    if not seconds:
        return None
    return work / seconds, f'{n_runs} earlier runs of {code.full_label} with potential {potential.pk}'
