"""`aiida-liheal archive`: a process with all its provenance in one file for others, and a look into such a file."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import fail, load, with_profile
from aiida_liheal.cli.paths import replace_paths

__all__ = ('Contents', 'archive', 'make_archive', 'read_archive')

#: What a POTCAR holds and no output of VASP does, which repeats a POTCAR's header only.
_POTCAR_MARKS = (b'VRHFIN', b'End of Dataset')
#: Part of the type of the nodes of aiida-vasp that hold licensed text.
_POTCAR_TYPE = 'potcar_file'


class ArchiveError(Exception):
    """A file is no archive, or holds what must not be given away."""


@dataclass(frozen=True)
class Contents:
    """What an archive holds.

    Parameters
    ----------
    nodes : dict of str to int
        Number of nodes by the last part of their type.
    roots : list of str
        The processes of this package that nothing called, a line each.
    licensed : list of str
        Places that hold text of a POTCAR.
    aiida_version : str
        The version that wrote it.
    """

    nodes: dict[str, int]
    roots: list[str]
    licensed: list[str]
    aiida_version: str


def make_archive(nodes: Sequence[Any], path: Path, replaced_paths: Mapping[str, str] | None = None) -> Contents:
    """Write processes with their provenance; what is there is replaced when the new file is whole and was checked.

    With `replaced_paths`, beginnings of paths are written as others (see `replace_paths`).

    Raises
    ------
    ArchiveError
        If the archive would hold licensed text, or a path cannot be replaced; nothing is left behind then.
    """
    from aiida.tools.archive import create_archive

    part, other = (path.with_name(f'.{path.name}.{ending}') for ending in ('part', 'replaced'))
    try:
        with _quiet_export():
            create_archive(list(nodes), part, overwrite=True)
        if replaced_paths:
            try:
                replace_paths(part, other, replaced_paths)
            except ValueError as error:
                raise ArchiveError(f'not written: {error}') from error
            other.replace(part)
        contents = read_archive(part)
        if contents.licensed:
            raise ArchiveError(
                f'not written: it would hold licensed POTCAR text in {"; ".join(contents.licensed[:5])}. Unlink those '
                'nodes, or leave the POTCAR out of what is retrieved'
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
        other.unlink(missing_ok=True)
    return contents


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Without AiiDA's tables of traversal rules and counts, which name the unfinished file; warnings are kept."""
    logger = logging.getLogger('aiida.export')
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def read_archive(path: Path) -> Contents:
    """Open an archive and look through all of it.

    Raises
    ------
    ArchiveError
        If the file is no archive, is damaged, or is of a version that this AiiDA does not read.
    """
    from aiida.orm import Node, ProcessNode
    from aiida.tools.archive.abstract import get_format

    try:
        with get_format().open(path, 'r') as reader:
            metadata = reader.get_metadata()
            types = [str(name) for name in reader.querybuilder().append(Node, project=['node_type']).all(flat=True)]
            nodes = Counter(name.rstrip('.').rsplit('.', 1)[-1] for name in types)
            called = reader.querybuilder().append(ProcessNode, tag='caller')
            called.append(ProcessNode, with_incoming='caller', project=['id'])
            has_caller = set(called.all(flat=True))
            processes = reader.querybuilder().append(
                ProcessNode,
                filters={'process_type': {'like': 'aiida.%:liheal.%'}},
                project=['id', 'uuid', 'process_type', 'attributes.process_state', 'attributes.exit_status'],
            )
            roots = []
            for pk, uuid, process_type, state, exit_status in sorted(processes.all()):
                if pk not in has_caller:
                    ended = f' [{exit_status}]' if exit_status is not None else ''
                    roots.append(f'{process_type.rsplit(":", 1)[-1]} {uuid} {state}{ended}')
            licensed = [f'a node of type {name}' for name in types if _POTCAR_TYPE in name]
            licensed += _licensed_files(reader.get_backend().get_repository())
    except Exception as error:
        if isinstance(error, ArchiveError):
            raise
        # a damaged file fails in zipfile, SQLite or AiiDA, each with errors of its own
        raise ArchiveError(f'{path} cannot be read as an AiiDA archive: {type(error).__name__}: {error}') from error
    return Contents(dict(nodes.most_common()), roots, licensed, str(metadata.get('aiida_version', 'unknown')))


def _licensed_files(repository: Any) -> Iterator[str]:
    """Objects of a repository that hold all marks of a POTCAR."""
    for key in repository.list_objects():
        content = repository.get_object_content(key)
        if all(mark in content for mark in _POTCAR_MARKS):
            yield f'repository object {key[:12]}…'


@click.group('archive', cls=VerdiCommandGroup)
def archive() -> None:
    """Write and check archives of processes with their provenance."""


@archive.command('create')
@click.argument('processes', metavar='PK...', nargs=-1, required=True)
@click.option(
    '-o',
    '--output',
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    required=True,
    help='The file to write, by custom ending in .aiida; it must not exist yet, or give --force.',
)
@click.option('-f', '--force', is_flag=True, help='Replace the file if it is there, when the new one is whole.')
@click.option(
    '--replace-path',
    'replaced',
    multiple=True,
    metavar='OLD=NEW',
    help='Write paths that begin with OLD, such as your home folder, as beginning with NEW: for an archive that is '
    'published. May be given several times.',
)
@with_profile
def create(processes: tuple[str, ...], output: Path, force: bool, replaced: tuple[str, ...]) -> None:
    """Write processes with all that they took and made. Trajectories stay where they are."""
    from aiida.orm import ProcessNode

    nodes = [load(process, ProcessNode, 'archive') for process in processes]
    for node in nodes:
        if not node.is_sealed:
            fail(f'process {node.pk} is not over yet ({node.process_state}); an archive holds ended processes only')
    if (output.exists() or output.is_symlink()) and not force:
        fail(f'{output} is there already; give another file, or --force to replace it')
    if not output.absolute().parent.is_dir():
        fail(f'{output}: there is no folder {output.absolute().parent}')
    for pair in replaced:
        if '=' not in pair:
            fail(f'--replace-path {pair}: needed is OLD=NEW, two absolute paths')
    try:
        contents = make_archive(nodes, output, dict(pair.split('=', 1) for pair in replaced))
    except ArchiveError as error:
        fail(str(error))
    size = output.stat().st_size / 1e6
    echo.echo_success(f'wrote {output}: {sum(contents.nodes.values())} nodes, {size:.1f} MB')


@archive.command('check')
@click.argument('file', type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check(file: Path) -> None:
    """Open an archive, count what it holds, name its roots, and look for licensed POTCAR text.

    Needs no AiiDA profile.
    """
    try:
        contents = read_archive(file)
    except ArchiveError as error:
        fail(str(error))
    total = sum(contents.nodes.values())
    echo.echo_report(f'{file}: {file.stat().st_size / 1e6:.1f} MB, written by aiida-core {contents.aiida_version}')
    echo.echo_report(f'{total} nodes: ' + ', '.join(f'{count} {name}' for name, count in contents.nodes.items()))
    if contents.licensed:
        fail(f'it holds licensed POTCAR text: {"; ".join(contents.licensed[:5])}')
    if not contents.roots:
        fail('it holds no process of aiida-liheal')
    for root in contents.roots:
        echo.echo_report(f'root {root}')
    echo.echo_success('the archive is whole, and free of POTCAR text')
