"""The page of the reproduction is what the protocol and the archives of two campaigns give."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('name', ['gallery', 'checks'])
def test_tables(tmp_path, name):
    """The checks, and how a campaign comes out by them, made anew without a profile."""
    archive = f'examples/{name}.aiida'
    done = subprocess.run(
        [sys.executable, str(ROOT / 'docs' / 'make_reproduction.py'), str(ROOT / archive)],
        env={**os.environ, 'AIIDA_PATH': str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (ROOT / 'docs' / 'reproduction.md').read_text(encoding='utf-8')
    for table in done.stdout.strip().split('\n\n'):
        assert table in page, f'run `python docs/make_reproduction.py {archive}`:\n{table}'
    assert done.stdout.count('\n| 10 ') == 2
