"""Pages of the docs are made anew from archives, by the scripts that made them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='session')
def make_page(tmp_path_factory):
    """What a script of the docs prints for an archive, without a profile; further arguments are passed on."""

    def make(script, archive, *arguments):
        done = subprocess.run(
            [sys.executable, str(ROOT / 'docs' / script), str(ROOT / archive), *map(str, arguments)],
            env={**os.environ, 'AIIDA_PATH': str(tmp_path_factory.mktemp('configuration'))},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return make
