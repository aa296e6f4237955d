"""The group of all commands, made with AiiDA's own so that it feels like `verdi`."""

from __future__ import annotations

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params import options, types

from aiida_liheal import __version__
from aiida_liheal.cli.analyse import analyse
from aiida_liheal.cli.archive import archive
from aiida_liheal.cli.campaign import campaign
from aiida_liheal.cli.convergence import convergence, launch_convergence
from aiida_liheal.cli.data import data
from aiida_liheal.cli.film import film, panel
from aiida_liheal.cli.healing import healing
from aiida_liheal.cli.launch import launch
from aiida_liheal.cli.packed import diffuse, melt, valley
from aiida_liheal.cli.quickstart import quickstart
from aiida_liheal.cli.report import report
from aiida_liheal.cli.reproduce import reproduce, reproduction
from aiida_liheal.cli.setup import setup
from aiida_liheal.cli.status import status
from aiida_liheal.cli.validate import compare, validate

__all__ = ('root',)


# without a default, as some commands need no profile; the others load the default one when they begin
@click.group('aiida-liheal', cls=VerdiCommandGroup, context_settings={'help_option_names': ['--help', '-h']})
@options.PROFILE(type=types.ProfileParamType(load_profile=True), default=None, expose_value=False)
@options.VERBOSITY()
@click.version_option(__version__, package_name='aiida-liheal', message='aiida-liheal %(version)s')
def root() -> None:
    """Lithium metal from DFT labels to dendrites, with full provenance.

    `aiida-liheal quickstart` runs the whole chain in a small size; `aiida-liheal setup` prepares your own profile.
    """


launch.add_command(launch_convergence)
launch.add_command(campaign)
launch.add_command(valley)
launch.add_command(diffuse)
launch.add_command(melt)
launch.add_command(validate)
launch.add_command(reproduce)
for command in (
    quickstart,
    setup,
    data,
    launch,
    analyse,
    film,
    panel,
    status,
    report,
    convergence,
    compare,
    healing,
    reproduction,
    archive,
):
    root.add_command(command)
