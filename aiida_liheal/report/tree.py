"""What the database says of a process and everything it called: steps, outcome, versions, seeds, inputs.

Plain values come out; nothing here knows about HTML or terminals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from aiida.common.links import LinkType
from aiida.orm import AbstractCode, CalcJobNode, Dict, Int, Node, ProcessNode, RemoteData

__all__ = ('VERBS', 'Setting', 'Step', 'Tree', 'Version', 'describe', 'flatten', 'pk_of', 'read_tree')

#: What the processes of this package do, by their label.
VERBS: dict[str, str] = {
    'QuickstartWorkChain': 'quickstart',
    'LearnWorkChain': 'learn',
    'LabelWorkChain': 'label',
    'ConvergenceWorkChain': 'convergence',
    'TrainWorkChain': 'train',
    'ExploreWorkChain': 'explore',
    'DepositWorkChain': 'deposit',
    'HealWorkChain': 'heal',
    'PackWorkChain': 'pack',
    'ValleyWorkChain': 'valley',
    'DiffuseWorkChain': 'diffuse',
    'MeltWorkChain': 'melt',
    'ValidateWorkChain': 'validate',
    'CampaignWorkChain': 'campaign',
    'MdWorkChain': 'md',
    'DpTrainBaseWorkChain': 'train one member',
    'GpawCalculation': 'GPAW labels',
    'VaspBatchCalculation': 'VASP labels',
    'VaspAloneWorkChain': 'VASP, frame by frame',
    'AseCalculation': 'ASE labels',
    'DpTrainCalculation': 'DeePMD-kit training',
    'DpTestCalculation': 'DeePMD-kit test',
    'LammpsCalculation': 'LAMMPS',
    'AnalyseCalculation': 'analysis',
}

_CALLS = (LinkType.CALL_CALC, LinkType.CALL_WORK)
_INPUTS = (LinkType.INPUT_CALC, LinkType.INPUT_WORK)
_OUTPUTS = (LinkType.CREATE, LinkType.RETURN)


def pk_of(node: Node) -> int:
    """The primary key of a node that came out of the database."""
    assert node.pk is not None  # noqa: S101 (only unstored nodes have none)
    return node.pk


@dataclass(frozen=True)
class Step:
    """One process of a tree.

    Parameters
    ----------
    node : ProcessNode
        The process.
    link : str
        Label of the link that it was called by, such as `train_0`; empty for the root.
    depth : int
        0 for the root.
    path : tuple of str
        Link labels from the root down to this process.
    """

    node: ProcessNode
    link: str
    depth: int
    path: tuple[str, ...]

    @property
    def pk(self) -> int:
        """Primary key."""
        return pk_of(self.node)

    @property
    def name(self) -> str:
        """Label of the process, such as `HealWorkChain`, or the name of the function."""
        return self.node.process_label or self.node.__class__.__name__

    @property
    def verb(self) -> str:
        """What it does, in a word or two; the name itself if it is none of this package's."""
        return VERBS.get(self.name, self.name)

    @property
    def title(self) -> str:
        """The link it was called by if that says something, else what it does."""
        return self.link if self.link and not self.link.startswith(('CALL', 'iteration_')) else self.verb

    @property
    def is_job(self) -> bool:
        """Whether it is a job on a computer."""
        return isinstance(self.node, CalcJobNode)

    @property
    def state(self) -> str:
        """`created`, `waiting`, `running`, `finished`, `killed`, `excepted`; `failed` if it has an exit code."""
        state = self.node.process_state
        if state is None:
            return 'unknown'
        return 'failed' if state.value == 'finished' and self.node.exit_status else state.value

    @property
    def is_over(self) -> bool:
        """Whether it ended, well or not."""
        return bool(self.node.is_terminated)

    @property
    def message(self) -> str:
        """Exit message or exception; empty if it ended well."""
        if self.node.is_excepted:
            lines = (self.node.exception or '').strip().splitlines()
            return lines[-1] if lines else 'an exception'
        return self.node.exit_message or '' if self.node.exit_status else ''

    @property
    def is_cached(self) -> bool:
        """Whether its outputs were taken from an equal process before it."""
        return bool(self.node.base.caching.is_created_from_cache)

    @property
    def seconds(self) -> float | None:
        """From its creation to its end; None as long as it runs."""
        return (self.node.mtime - self.node.ctime).total_seconds() if self.is_over else None

    @property
    def started(self) -> datetime:
        """When it was created, in local time."""
        return self.node.ctime.astimezone()

    @cached_property
    def inputs(self) -> dict[str, Node]:
        """Its inputs by link label; namespaces are joined by two underscores."""
        links = self.node.base.links.get_incoming(link_type=_INPUTS).all()
        return {link.link_label: link.node for link in sorted(links, key=lambda link: link.link_label)}

    @cached_property
    def outputs(self) -> dict[str, Node]:
        """Its outputs by link label; namespaces are joined by two underscores."""
        links = self.node.base.links.get_outgoing(link_type=_OUTPUTS).all()
        return {link.link_label: link.node for link in sorted(links, key=lambda link: link.link_label)}

    def result(self, name: str) -> dict[str, Any]:
        """The content of an output `Dict`; empty if there is no such output."""
        node = self.outputs.get(name)
        return node.get_dict() if isinstance(node, Dict) else {}

    def settings(self, name: str = 'settings') -> dict[str, Any]:
        """The content of an input `Dict`; empty if there is no such input."""
        node = self.inputs.get(name)
        return node.get_dict() if isinstance(node, Dict) else {}


@dataclass(frozen=True)
class Version:
    """The version of one program or package, and where that is known from."""

    name: str
    version: str
    source: str
    pks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Setting:
    """One value of an input, named by the process and the key inside the input."""

    step: Step
    key: str
    value: Any
    pk: int


@dataclass(frozen=True)
class Tree:
    """A process with all that it called, in the order of creation, each below its caller."""

    steps: list[Step] = field(default_factory=list)

    @property
    def root(self) -> Step:
        """The process that was asked for."""
        return self.steps[0]

    def named(self, *names: str) -> list[Step]:
        """The steps with one of these labels."""
        return [step for step in self.steps if step.name in names]

    def below(self, step: Step) -> list[Step]:
        """A step and all that it called."""
        return [other for other in self.steps if other.path[: len(step.path)] == step.path]

    @property
    def jobs(self) -> list[Step]:
        """The jobs."""
        return [step for step in self.steps if step.is_job]

    def seeds(self) -> list[Setting]:
        """Every seed among the inputs: the inputs that are called so, and the keys of settings that are."""
        found: dict[tuple[int, str], Setting] = {}
        for step in self.steps:
            for label, node in step.inputs.items():
                pk = pk_of(node)
                if isinstance(node, Int) and 'seed' in label.lower():
                    found.setdefault((pk, ''), Setting(step, label.replace('__', '.'), node.value, pk))
                elif isinstance(node, Dict):
                    for key, value in flatten(node.get_dict()):
                        if 'seed' in key.rsplit('.', 1)[-1].lower():
                            name = f'{label.replace("__", ".")}.{key}'
                            found.setdefault((pk, key), Setting(step, name, value, pk))
        return list(found.values())

    def versions(self) -> list[Version]:
        """Versions that the nodes record: those of AiiDA and the plugin, and those that the programs wrote."""
        seen: dict[tuple[str, str, str], list[int]] = {}

        def note(name: str | None, version: Any, source: str, pk: int) -> None:
            if name and version:
                seen.setdefault((name, str(version), source), []).append(pk)

        for step in self.steps:
            recorded: dict[str, Any] = step.node.base.attributes.get('version', {})
            note('aiida-core', recorded.get('core'), 'the processes', step.pk)
            if step.name in VERBS:
                note('aiida-liheal', recorded.get('plugin'), 'the processes', step.pk)
            if not step.is_job:
                continue
            for label, node in step.outputs.items():
                if not isinstance(node, Dict):
                    continue
                content = node.get_dict()
                note('LAMMPS', content.get('lammps_version'), f'{label} of the jobs', step.pk)
                versions = content.get('versions')
                for name, version in flatten(versions if isinstance(versions, Mapping) else {}):
                    if name:
                        note(_PROGRAMS.get(name, name.replace('.', ' ')), version, f'{label} of the jobs', step.pk)
            if step.name == 'DpTrainCalculation':
                for name, version in _versions_of_training(step):
                    note(name, version, 'train.err of the jobs', step.pk)
        return [Version(*key, tuple(pks)) for key, pks in sorted(seen.items(), key=lambda item: item[0][0].lower())]

    def codes(self) -> list[tuple[AbstractCode, tuple[int, ...]]]:
        """The codes that the jobs ran, with the jobs."""
        found: dict[int, tuple[AbstractCode, list[int]]] = {}
        for step in self.jobs:
            for node in step.inputs.values():
                if isinstance(node, AbstractCode) and node.pk is not None:
                    found.setdefault(node.pk, (node, []))[1].append(step.pk)
        return [(code, tuple(pks)) for code, pks in found.values()]


_PROGRAMS = {
    'deepmd': 'DeePMD-kit',
    'deepmd-kit': 'DeePMD-kit',
    'gpaw': 'GPAW',
    'lammps': 'LAMMPS',
    'ovito': 'OVITO',
    'vasp': 'VASP',
}


def _versions_of_training(step: Step) -> Iterator[tuple[str, str]]:
    """What `dp train` prints of itself at its start."""
    retrieved = step.outputs.get('retrieved')
    if retrieved is None or 'train.err' not in retrieved.base.repository.list_object_names():
        return
    with retrieved.base.repository.open('train.err', 'r') as handle:
        text = handle.read(200_000)
    for name, pattern in (('DeePMD-kit', r'Source: +v?(\S+)'), ('TensorFlow', r' TF Ver: +v?(\S+)')):
        if match := re.search(pattern, text):
            yield name, match[1]


def read_tree(root: ProcessNode) -> Tree:
    """A process and all that it called."""
    steps: list[Step] = []

    def walk(node: Any, link: str, path: tuple[str, ...]) -> None:
        steps.append(Step(node, link, len(path), path))
        called = node.base.links.get_outgoing(link_type=_CALLS).all()
        for entry in sorted(called, key=lambda entry: pk_of(entry.node)):
            # two calls may carry the same label; the pk keeps their paths apart
            walk(entry.node, entry.link_label, (*path, f'{entry.link_label}<{entry.node.pk}>'))

    walk(root, '', ())
    return Tree(steps)


def flatten(values: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Nested mappings and lists of mappings as dotted keys with plain values; other lists stay whole."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from flatten(value, f'{prefix}.{key}' if prefix else str(key))
    elif isinstance(values, list) and values and all(isinstance(value, Mapping) for value in values):
        for number, value in enumerate(values):
            yield from flatten(value, f'{prefix}.{number}' if prefix else str(number))
    else:
        yield prefix, values


def describe(node: Node) -> str:
    """A data node in a few words."""
    from aiida.orm import ArrayData, BaseType, StructureData

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.data.potential import PotentialData

    if isinstance(node, FramesData):
        domain = f', {node.domain}' if node.domain else ''
        return f'{len(node)} {"labelled " if node.is_labelled else ""}frame{"s" * (len(node) != 1)}{domain}'
    if isinstance(node, PotentialData):
        return f'{node.kind} potential, {"-".join(node.elements)}'
    if isinstance(node, AbstractCode):
        return f'code {node.full_label}'
    if isinstance(node, RemoteData):
        where = node.computer.label if node.computer is not None else 'no computer'
        return f'folder on {where}: {node.get_remote_path()}'
    if isinstance(node, StructureData):
        return f'structure {node.get_formula()}'
    if isinstance(node, Dict):
        return f'{len(node.get_dict())} keys'
    if isinstance(node, ArrayData):
        return f'arrays {", ".join(node.get_arraynames())}'
    if isinstance(node, BaseType):
        return str(node.value)
    return node.__class__.__name__
