"""Where `aiida-liheal` begins: it settles PATH and AIIDA_PATH, which AiiDA reads while it is imported."""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ('cli', 'let_readers_go', 'own_configuration')


class _Pipe(io.FileIO):
    """A stream whose reader may go away, as `head` does: what is still written goes nowhere, and nothing stops."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(content)


def let_readers_go() -> None:
    """Let whoever reads our output stop reading. A signal would do, but end a process that runs here half way."""
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        if not stream.isatty():
            raw = _Pipe(stream.fileno(), 'w', closefd=False)
            wrapped = io.TextIOWrapper(
                io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=name == 'stderr'
            )
            setattr(sys, name, wrapped)


def own_configuration(arguments: list[str]) -> Path | None:
    """The AiiDA configuration folder that `quickstart` keeps for itself; None for other commands or with a profile.

    Parameters
    ----------
    arguments : list of str
        Of the command line, without the program's name.
    """
    if 'quickstart' not in arguments or {'-h', '--help'} & set(arguments):
        return None
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('-p', '--profile')
    parser.add_argument('-w', '--workdir', default='quickstart')
    known, _ = parser.parse_known_args(arguments)
    return None if known.profile else Path(known.workdir).expanduser().absolute() / '.aiida'


def cli() -> None:
    """Run the command line."""
    let_readers_go()
    # the daemon is started as `verdi`, which is beside this program also when its environment is not activated
    here = str(Path(sys.executable).parent)
    os.environ['PATH'] = os.pathsep.join([here, os.environ.get('PATH', os.defpath)])
    folder = own_configuration(sys.argv[1:])
    if folder is not None:
        # made here, for AiiDA would warn that it makes it
        folder.mkdir(parents=True, exist_ok=True)
        os.environ['AIIDA_PATH'] = str(folder)
    from aiida_liheal.cli.root import root

    root(prog_name='aiida-liheal')


if __name__ == '__main__':
    cli()
