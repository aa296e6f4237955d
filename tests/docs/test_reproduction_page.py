"""The page of the reproduction is what the protocol and the gallery's archive give."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_tables(tmp_path):
    """The checks, and how the campaign of the gallery comes out by them, made anew without a profile."""
    done = subprocess.run(
        [sys.executable, str(ROOT / 'docs' / 'make_reproduction.py'), str(ROOT / 'examples' / 'gallery.aiida')],
        env={**os.environ, 'AIIDA_PATH': str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (ROOT / 'docs' / 'reproduction.md').read_text(encoding='utf-8')
    for table in done.stdout.strip().split('\n\n'):
        assert table in page, f'run `python docs/make_reproduction.py examples/gallery.aiida`:\n{table}'
    assert done.stdout.count('\n| 10 ') == 2
