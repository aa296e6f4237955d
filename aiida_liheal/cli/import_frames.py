"""`aiida-liheal data import` of labelled frames: one command a format, and one that goes by the names of the files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import fail, stored_twin, with_profile

if TYPE_CHECKING:
    from aiida_liheal.structures.frames import Frames
    from aiida_liheal.structures.imports import Import

__all__ = ('import_commands', 'store', 'symbols_of', 'warn_of_doubts')

#: Most lines about what was left out; the node holds all of them.
_MOST_LINES = 20

_HELP = {
    'frames': 'Import labelled frames of any known format, which goes by the names of the files.',
    'deepmd-npy': 'Import labelled frames from DeePMD-kit npy systems, of one composition or mixed.',
    'deepmd-mixed': 'Import labelled frames from DeePMD-kit npy systems of the mixed-type layout.',
    'deepmd-hdf5': 'Import labelled frames from HDF5 files of DeePMD-kit systems.',
    'extxyz': 'Import labelled frames from extended xyz: free_energy or energy, forces, and virial or stress.',
    'outcar': 'Import the converged ionic steps of OUTCARs of VASP, one or a tree of them.',
    'vasprun': 'Import the converged ionic steps of vasprun.xml of VASP, one or a tree of them.',
    'dpgen': 'Import the labelled data of working folders of DP-GEN: iter.*/02.fp and 00.train/data.init.',
    'ase-db': 'Import labelled frames from ASE databases (.db or .json).',
}
_KEYS = {
    'energy': 'the free energy in eV, such as REF_energy',
    'forces': 'the forces in eV/Å, such as REF_forces',
    'virial': 'the virial in eV, positive under compression; if any name is given, it is taken only under this one',
    'stress': "the stress in eV/Å³ with ASE's sign; if any name is given, it is taken only under this one",
}
_MORE = """
A PATH is a file or a folder with such files anywhere below it, and becomes one shard; two, if some files have a stress
and others have none. Energies in eV are free energies, forces in eV/Å, virials in eV and positive under compression.
What does not converge, is cut off or has no labels is left out and told with file, frame and cause.
"""


def store(node: Any, what: str) -> None:
    """Store a node unless there is one of the same content, and say which it is."""
    from aiida_liheal.report.tree import describe

    kept = stored_twin(node)
    if kept.is_stored:
        echo.echo_report(f'{what}: is there already, pk {kept.pk}')
    else:
        kept.store()
        echo.echo_success(f'{what}: {describe(kept)}, pk {kept.pk}')


def warn_of_doubts(frames: Frames, what: str) -> None:
    """Name frames beyond the default rules of quality; they are taken all the same."""
    from aiida_liheal.structures.frame_facts import doubts_in_words, find_doubts

    for line in doubts_in_words(find_doubts(frames)):
        echo.echo_warning(f'{what}: {line}: see if that is meant to be trained on; nothing was left out for it')


def symbols_of(elements: str | None) -> tuple[str, ...] | None:
    """Chemical symbols with commas between them; fails with a message if one is none."""
    from ase.data import atomic_numbers

    if elements is None:
        return None
    symbols = tuple(elements.split(','))
    unknown = [symbol for symbol in symbols if symbol == 'X' or symbol not in atomic_numbers]
    if unknown:
        fail(f'elements: {", ".join(map(repr, unknown))} is no chemical element; give symbols such as Li or Li,O')
    return symbols


def _import(
    kind: str | None,
    paths: tuple[Path, ...],
    elements: str | None,
    domain: str | None,
    label: str,
    keys: dict[str, str],
) -> None:
    """Read all paths, and only then store."""
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.structures.imports import printable, read_frames

    symbols = symbols_of(elements)
    found: list[tuple[str, Import]] = []
    for path in paths:
        try:
            content = read_frames(path, kind, symbols, keys)
        except (ValueError, OSError) as error:
            fail(str(error))
        # `.` says nothing about where frames are from
        name = printable(path if path.name not in ('', '..') else path.resolve().name)
        if not content.n_frames:
            causes = '; '.join(_left_out_in_words(content)) or 'no file there holds frames'
            fail(f'{name}: nothing to import: {causes}')
        found.append((name, content))
    for name, content in found:
        for number, shard in enumerate(content.shards):
            # what was left out belongs to the path as a whole
            left_out = content.left_out if number == 0 else []
            node = FramesData(shard.frames, domain=domain, sources=shard.sources, left_out=left_out)
            node.label = label
            node.description = f'imported from {name}'
            what = name if len(content.shards) == 1 else f'{name}, {"with" if number == 0 else "without"} virials'
            store(node, what)
            warn_of_doubts(shard.frames, what)
        for note in content.notes[:_MOST_LINES]:
            echo.echo_warning(note)
        if len(content.notes) > _MOST_LINES:
            echo.echo_warning(f'… and {len(content.notes) - _MOST_LINES} more notes of this kind')
        if content.left_out:
            echo.echo_warning(f'{name}: {content.n_left_out} left out, {content.n_frames} taken')
            totals: Counter[str] = Counter()
            for entry in content.left_out:
                totals[entry['cause']] += len(entry['indices'] or [None])
            if len(content.left_out) > len(totals):
                for cause, n in totals.most_common(_MOST_LINES):
                    echo.echo(f'  {n} times: {cause}')
            for line in _left_out_in_words(content):
                echo.echo(f'  {line}')


def _left_out_in_words(content: Import) -> list[str]:
    """What was not taken, a line a file and cause, no more than can be looked over."""
    lines = []
    for entry in content.left_out[:_MOST_LINES]:
        indices = entry['indices']
        where = ''
        if indices is not None:
            shown = ', '.join(map(str, indices[:8])) + (' …' if len(indices) > 8 else '')
            where = f', frame{"s" * (len(indices) > 1)} {shown}'
        lines.append(f'{entry["file"]}{where}: {entry["cause"]}')
    if len(content.left_out) > _MOST_LINES:
        lines.append(f'… and {len(content.left_out) - _MOST_LINES} more; `data info PK --json` has all')
    return lines


def _command(name: str) -> click.Command:
    """The command of one format; `frames` takes any."""
    options = [
        click.argument('paths', metavar='PATH...', nargs=-1, required=True, type=click.Path(path_type=Path)),
        click.option(
            '--domain',
            help='What kind of structures these are, such as bulk or surface; errors are told by domain.',
        ),
        click.option('--label', default='', help='A label for the nodes.'),
    ]
    if name == 'frames' or name.startswith('deepmd') or name == 'dpgen':
        options.append(
            click.option(
                '--elements',
                help='For systems without a type_map: chemical symbols in the order of the types, such as Li or Li,O.',
            )
        )

    if name in ('frames', 'extxyz'):
        options += [
            click.option(f'--{key}-key', help=f'In extended xyz: the name of {what}.') for key, what in _KEYS.items()
        ]

    def callback(
        paths: tuple[Path, ...], domain: str | None, label: str, elements: str | None = None, **named: str | None
    ) -> None:
        keys = {key.removesuffix('_key'): value for key, value in named.items() if value}
        _import(None if name == 'frames' else name, paths, elements, domain, label, keys)

    function: Any = with_profile(callback)
    for option in reversed(options):
        function = option(function)
    return click.command(name, help=f'{_HELP[name]}\n{_MORE}')(function)


#: One command a format.
import_commands = [_command(name) for name in _HELP]
