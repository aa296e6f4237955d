"""Where the data came from: jobs and data as a graph, laid out in layers for the page to draw.

Jobs are grouped by the verb that ran them, data by who made and who took them: so a committee of four is one box.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import networkx as nx
from aiida.common.links import LinkType
from aiida.orm import CalcFunctionNode, Data, ProcessNode, StructureData

from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.report.tree import Step, Tree, pk_of

__all__ = ('Box', 'Lineage', 'read_lineage')

#: Verbs that stand for all the jobs below them.
UNITS = (
    'LabelWorkChain',
    'TrainWorkChain',
    'ExploreWorkChain',
    'DepositWorkChain',
    'HealWorkChain',
    'ValleyWorkChain',
    'DiffuseWorkChain',
    'MeltWorkChain',
    'ValidateWorkChain',
)
#: Most verbs and functions that are followed upwards; a database may hold years of work.
MAX_UNITS = 200

_INPUTS = (LinkType.INPUT_CALC, LinkType.INPUT_WORK)
_CALLS = (LinkType.CALL_CALC, LinkType.CALL_WORK)
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 214, 46, 24, 40


@dataclass
class Box:
    """One box of the graph: a process or some data."""

    kind: str
    title: str
    subtitle: str
    pks: list[int] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True)
class Lineage:
    """Boxes with places, lines between them as SVG paths, the size of all, and the same in words."""

    boxes: list[Box]
    lines: list[str]
    width: float
    height: float
    sentences: list[tuple[str, list[str]]]
    is_cut: bool = False

    @property
    def box_size(self) -> tuple[int, int]:
        """Width and height of a box."""
        return _WIDTH, _HEIGHT


def _caller(node: ProcessNode) -> tuple[Any, str] | None:
    entry = node.base.links.get_incoming(link_type=_CALLS).first()
    return (entry.node, entry.link_label) if entry is not None else None


def _unit(node: ProcessNode) -> tuple[ProcessNode, str]:
    """The verb that a process belongs to, or the process itself if there is none; with its call link."""
    here: ProcessNode = node
    own = ''
    first = True
    while True:
        called = _caller(here)
        if first and called is not None:
            own = called[1]
        first = False
        if here.process_label in UNITS:
            return here, called[1] if called is not None else ''
        if called is None:
            return node, own
        here = called[0]


def _is_shown(node: Any) -> bool:
    return isinstance(node, FramesData | PotentialData | StructureData)


def read_lineage(tree: Tree) -> Lineage | None:
    """The graph of a tree with all that its data came from; None if no frames or potentials flow in it."""
    units: dict[int, tuple[ProcessNode, str]] = {}
    takers: dict[int, set[int]] = defaultdict(set)
    makers: dict[int, int] = {}
    data: dict[int, Data] = {}
    queue: list[tuple[ProcessNode, str]] = []
    is_cut = False

    def add(node: ProcessNode) -> int | None:
        nonlocal is_cut
        unit, link = _unit(node)
        pk = pk_of(unit)
        if pk not in units:
            if len(units) >= MAX_UNITS:
                is_cut = True
                return None
            units[pk] = (unit, link)
            queue.append(units[pk])
        return pk

    for step in _starts(tree):
        add(step.node)
    while queue:
        unit, _ = queue.pop(0)
        for entry in unit.base.links.get_incoming(link_type=_INPUTS).all():
            node: Any = entry.node
            if not _is_shown(node):
                continue
            takers[node.pk].add(pk_of(unit))
            if node.pk in data:
                continue
            data[node.pk] = node
            if node.creator is not None and (maker := add(node.creator)) is not None:
                makers[node.pk] = maker
    # what came out at the end and nobody took yet
    for step in tree.steps:
        for node in step.outputs.values():
            is_result = isinstance(node, PotentialData) or (isinstance(node, FramesData) and node.is_labelled)
            if is_result and node.pk not in data and node.creator is not None:
                maker = add(node.creator)
                if maker is not None:
                    data[pk_of(node)] = node
                    makers[pk_of(node)] = maker
    if not data:
        return None

    graph = nx.DiGraph()
    boxes: dict[Any, Box] = {}
    for pk, (unit, link) in units.items():
        boxes[pk] = _process_box(unit, link)
        graph.add_node(pk)
    groups: dict[Any, list[Data]] = defaultdict(list)
    for pk, node in sorted(data.items()):
        maker = makers.get(pk)
        if maker is not None and takers[pk] == {maker}:
            continue  # it never leaves its verb
        groups[(maker, tuple(sorted(takers[pk] - {maker or 0})), type(node).__name__, _domain(node))].append(node)
    for key, nodes in groups.items():
        maker, taking = key[0], key[1]
        boxes[key] = _data_box(nodes, is_given=maker is None)
        graph.add_node(key)
        if maker is not None:
            graph.add_edge(maker, key)
        graph.add_edges_from((key, taker) for taker in taking)
    graph.remove_nodes_from([node for node in list(nx.isolates(graph)) if len(graph) > 1])
    lines, width, height = _lay_out(graph, boxes)
    return Lineage([boxes[node] for node in graph], lines, width, height, _in_words(graph, boxes, units), is_cut)


def _starts(tree: Tree) -> list[Step]:
    """The verbs of a tree; without any, its jobs."""
    return tree.named(*UNITS) or tree.jobs or [tree.root]


def _domain(node: Data) -> str:
    return node.domain or '' if isinstance(node, FramesData) else ''


def _process_box(node: ProcessNode, link: str) -> Box:
    step = Step(node, link, 0, ())
    title = step.verb.replace('_', ' ')
    if link and not link.startswith(('CALL', 'iteration_')):
        # `train_0` says that it is a training
        title = link if link.startswith(title) else f'{title}: {link}'
    state = step.state + (', cached' if step.is_cached else '')
    kind = 'function' if isinstance(node, CalcFunctionNode) else 'process'
    return Box(kind, title, f'{state} · pk {node.pk}', [pk_of(node)])


def _data_box(nodes: list[Data], is_given: bool) -> Box:
    first = nodes[0]
    if isinstance(first, FramesData):
        total = sum(len(node) for node in nodes if isinstance(node, FramesData))
        labelled = 'labelled ' if first.is_labelled else ''
        title = f'{total} {labelled}frame{"s" * (total != 1)}' + (f', {first.domain}' if first.domain else '')
    elif isinstance(first, PotentialData):
        kind = 'Deep Potential' if first.kind == 'deepmd' else f'{first.kind} potential'
        title = f'{kind}' if len(nodes) == 1 else f'committee of {len(nodes)}'
        # `builtin li m0`, `builtin li m1`, … are all `builtin li`
        names = {re.sub(r'[\s_-]*m\d+$', '', node.label) for node in nodes}
        if len(names) == 1 and names != {''}:
            title += f': {names.pop()}'
    else:
        title = 'structure' if len(nodes) == 1 else f'{len(nodes)} structures'
    pks = sorted(pk_of(node) for node in nodes)
    return Box('given' if is_given else 'data', title, ('given · ' if is_given else '') + _pks(pks), pks)


def _pks(pks: list[int]) -> str:
    """Numbers as a short list."""
    if len(pks) <= 4:
        return 'pk ' + ', '.join(map(str, pks))
    return f'pk {pks[0]} … {pks[-1]} ({len(pks)})'


def _lay_out(graph: nx.DiGraph, boxes: dict[Any, Box]) -> tuple[list[str], float, float]:
    """Places in layers, top to bottom, few crossings: lines over several layers pass through dummies of their own.

    Layers by longest path; order within a layer by the mean place of the neighbours (Sugiyama, Tagawa and Toda, IEEE
    Trans. Syst. Man Cybern. 11, 109, 1981), eight sweeps.
    """
    layer = {node: number for number, nodes in enumerate(nx.topological_generations(graph)) for node in nodes}
    # sources stand right above what takes them
    for node in reversed(list(nx.topological_sort(graph))):
        if graph.in_degree(node) == 0 and graph.out_degree(node):
            layer[node] = min(layer[after] for after in graph.successors(node)) - 1
    layered = nx.DiGraph()
    layered.add_nodes_from(graph)
    chains = {}
    for start, end in graph.edges:
        chain = [start, *(('dummy', start, end, n) for n in range(layer[start] + 1, layer[end])), end]
        for number, node in enumerate(chain):
            layer.setdefault(node, layer[start] + number)
        nx.add_path(layered, chain)
        chains[start, end] = chain
    rows: dict[int, list[Any]] = defaultdict(list)
    for node in layered:
        rows[layer[node]].append(node)
    place = {node: float(number) for row in rows.values() for number, node in enumerate(row)}

    def centre(node: Any, neighbours: Any) -> float:
        near = [place[other] for other in neighbours(node)]
        return sum(near) / len(near) if near else place[node]

    for sweep in range(8):
        down = sweep % 2 == 0
        for number in sorted(rows, reverse=not down):
            neighbours = layered.predecessors if down else layered.successors
            rows[number].sort(key=lambda node: centre(node, neighbours))
            for index, node in enumerate(rows[number]):
                place[node] = index - (len(rows[number]) - 1) / 2

    x = _spread(rows, layered, {node: float(_WIDTH + _GAP_X if node in boxes else 40) for node in layered})
    left = min(x[node] for node in graph) - _WIDTH / 2 - 2
    x = {node: value - left for node, value in x.items()}
    width = max(x[node] for node in graph) + _WIDTH / 2 + 2
    top = min(rows)
    y = {node: (layer[node] - top) * (_HEIGHT + _GAP_Y) + _HEIGHT / 2 + 2 for node in layered}
    for node in graph:
        boxes[node].x, boxes[node].y = x[node], y[node]
    lines = []
    for chain in chains.values():
        points = [(x[chain[0]], y[chain[0]] + _HEIGHT / 2)]
        for node in chain[1:-1]:
            points += [(x[node], y[node] - _HEIGHT / 2), (x[node], y[node] + _HEIGHT / 2)]
        points.append((x[chain[-1]], y[chain[-1]] - _HEIGHT / 2 - 5))
        path = f'M{points[0][0]:.1f},{points[0][1]:.1f}'
        for (x0, y0), (x1, y1) in pairwise(points):
            middle = (y0 + y1) / 2
            path += f' C{x0:.1f},{middle:.1f} {x1:.1f},{middle:.1f} {x1:.1f},{y1:.1f}'
        lines.append(path)
    height = (max(rows) - top) * (_HEIGHT + _GAP_Y) + _HEIGHT + 4
    return lines, width, height


def _spread(rows: dict[int, list[Any]], graph: nx.DiGraph, size: dict[Any, float]) -> dict[Any, float]:
    """Places from left to right: each as near as its row allows to the mean of those it is joined to."""
    x: dict[Any, float] = {}
    for row in rows.values():
        at = -sum(size[node] for node in row) / 2
        for node in row:
            x[node] = at + size[node] / 2
            at += size[node]
    for sweep in range(24):
        for number in sorted(rows, reverse=sweep % 2 == 1):
            row = rows[number]
            near = [[*graph.predecessors(node), *graph.successors(node)] for node in row]
            wanted = [sum(x[o] for o in n) / len(n) if n else x[node] for node, n in zip(row, near, strict=True)]
            # pushed apart once to the right and once to the left; the mean of both keeps the distances
            rightward, leftward = list(wanted), list(wanted)
            for i in range(1, len(row)):
                rightward[i] = max(wanted[i], rightward[i - 1] + (size[row[i - 1]] + size[row[i]]) / 2)
            for i in range(len(row) - 2, -1, -1):
                leftward[i] = min(wanted[i], leftward[i + 1] - (size[row[i + 1]] + size[row[i]]) / 2)
            for node, right, left in zip(row, rightward, leftward, strict=True):
                x[node] = (right + left) / 2
    return x


def _in_words(
    graph: nx.DiGraph, boxes: dict[Any, Box], units: dict[int, tuple[ProcessNode, str]]
) -> list[tuple[str, list[str]]]:
    """For each verb, in the order they began, what it took and from whom."""
    said = []
    for pk in sorted(units):
        if pk not in graph:
            continue
        taken = []
        for before in graph.predecessors(pk):
            makers = [f'{boxes[maker].title} (pk {maker})' for maker in graph.predecessors(before)]
            box = boxes[before]
            taken.append(f'{box.title} [{_pks(box.pks)}] from {makers[0] if makers else "outside"}')
        said.append((f'{boxes[pk].title} (pk {pk})', taken))
    return said
