"""`aiida-liheal status`: a process and what it called, with how far each job is and why something failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import load, with_profile

if TYPE_CHECKING:
    from aiida.orm import Data, ProcessNode

__all__ = ('status',)

_COLOURS = {
    'finished': 'green',
    'failed': 'red',
    'excepted': 'red',
    'killed': 'yellow',
    'running': 'blue',
    'waiting': 'blue',
    'created': 'blue',
}


@click.command('status')
@click.argument('process', metavar='PK')
@click.option('--all', 'show_all', is_flag=True, help='Show calcfunctions too.')
@with_profile
def status(process: str, show_all: bool) -> None:
    """Show a process with all that it called: states, times, steps done, causes of failure, and what came out."""
    from aiida.orm import CalcFunctionNode, CalcJobNode, ProcessNode

    from aiida_liheal.cli.progress import job_progress
    from aiida_liheal.report.facts import beyond_limits, conclusions, duration, next_step, outcome
    from aiida_liheal.report.tree import describe, read_tree

    tree = read_tree(load(process, ProcessNode, 'status'))
    for step in tree.steps:
        if isinstance(step.node, CalcFunctionNode) and not show_all and step.state == 'finished' and step.depth:
            continue
        words = [f'{step.name}<{step.pk}>']
        if step.title not in (step.name, step.verb):
            words.append(f'({step.title})')
        words.append(click.style(step.state, fg=_COLOURS.get(step.state), bold=True))
        if step.node.exit_status:
            words.append(f'[{step.node.exit_status}]')
        if step.is_cached:
            words.append('from cache')
        elif step.seconds is not None:
            words.append(duration(step.seconds))
        if isinstance(step.node, CalcJobNode) and not step.is_over:
            progress = job_progress(step.node)
            words.append(str(progress) if progress is not None else (step.node.process_status or ''))
        echo.echo('    ' * step.depth + ' '.join(word for word in words if word))
        if step.message and step.is_over:
            echo.echo('    ' * step.depth + '  ' + click.style(step.message, fg=_COLOURS.get(step.state)))
        if step.node.paused and not step.is_over:
            told = step.node.process_status or 'paused'
            hint = '' if 'process play' in told else f'; `verdi process play {step.pk}` goes on'
            echo.echo('    ' * step.depth + '  ' + click.style(f'{told}{hint}', fg='yellow'))
        # a job that was stopped at a limit has said so as it ended
        for text in [] if step.node.exit_status else beyond_limits(step):
            echo.echo('    ' * step.depth + '  ' + click.style(f'beyond a limit: {text}', fg='yellow'))
    for name, node in _made(tree.root.node):
        echo.echo(f'{name}: {type(node).__name__}<{node.pk}>, {describe(node)}')
    for sentence in conclusions(tree) if tree.root.is_over else ():
        echo.echo_report(sentence)
    if tree.root.state not in ('finished',):
        for text in (outcome(tree.root), next_step(tree)):
            if text:
                echo.echo_report(text)


def _made(node: ProcessNode) -> list[tuple[str, Data]]:
    """The frames and potentials that a process gave, by output: what other commands take."""
    from aiida.common.links import LinkType

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.data.potential import PotentialData

    links = node.base.links.get_outgoing(link_type=(LinkType.CREATE, LinkType.RETURN)).all()
    found = [(link.link_label.replace('__', '.'), link.node) for link in links]
    made = [(name, data) for name, data in found if isinstance(data, FramesData | PotentialData)]
    return sorted(made, key=lambda entry: entry[0])
