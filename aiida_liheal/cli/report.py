"""`aiida-liheal report`: the page of a process."""

from __future__ import annotations

from pathlib import Path

import click
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import fail, load, with_profile

__all__ = ('report',)


@click.command('report')
@click.argument('process', metavar='PK')
@click.option(
    '-o',
    '--output',
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    required=True,
    help='The HTML file to write; one that is there is replaced.',
)
@click.option('--no-pictures', is_flag=True, help='Leave out the pictures of start and end.')
@with_profile
def report(process: str, output: Path, no_pictures: bool) -> None:
    """Write a page of a process: numbers, figures, pictures, provenance, versions and seeds.

    The file is whole in itself and loads nothing from anywhere.
    """
    from aiida.orm import ProcessNode

    from aiida_liheal.report.page import write_page

    node = load(process, ProcessNode, 'report')
    if not output.absolute().parent.is_dir():
        fail(f'{output}: there is no folder {output.absolute().parent}')
    write_page(node, output, pictures=not no_pictures)
    echo.echo_success(f'wrote {output} ({output.stat().st_size / 1e6:.1f} MB)')
