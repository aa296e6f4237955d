"""Where `aiida-liheal` begins: it settles PATH and AIIDA_PATH, which AiiDA reads while it is imported."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

__all__ = ('cli', 'own_configuration')


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
