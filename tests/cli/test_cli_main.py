"""Where the command line begins."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import os, sys
from aiida_liheal.cli.main import let_readers_go
let_readers_go()
for number in range(3):
    print("x" * 100_000, flush=True)
    print("y", file=sys.stderr)
os.write(int(sys.argv[1]), b"came to its end")
"""


def test_a_reader_that_goes_away():
    """As in `aiida-liheal … | head -1`: the command comes to its end, and nothing is said of the broken pipe."""
    told, tell = os.pipe()
    for merged in (False, True):
        gone, out = os.pipe()
        os.close(gone)
        done = subprocess.run(
            [sys.executable, '-c', SCRIPT, str(tell)],
            stdout=out,
            stderr=out if merged else subprocess.PIPE,
            pass_fds=[tell],
            check=False,
        )
        os.close(out)
        assert done.returncode == 0
        assert done.stderr == (None if merged else b'y\n' * 3)
        assert os.read(told, 100) == b'came to its end'


def test_without_a_profile(tmp_path):
    """A newcomer is told what makes one."""
    done = subprocess.run(
        [sys.executable, '-m', 'aiida_liheal.cli.main', 'data', 'import', 'builtin'],
        capture_output=True,
        text=True,
        env={**os.environ, 'AIIDA_PATH': str(tmp_path)},
        check=False,
    )
    assert done.returncode == 1
    assert 'there is no AiiDA profile yet: `verdi presto` makes one' in done.stderr
    assert 'Traceback' not in done.stderr
