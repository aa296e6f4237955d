"""The page on convergence is what the archive of its run gives."""

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from aiida_liheal.cli.root import root

ROOT = Path(__file__).parents[2]
ARCHIVE = ROOT / 'examples' / 'convergence.aiida'


def test_tables_and_figure(tmp_path):
    """Made anew without a profile."""
    done = subprocess.run(
        [sys.executable, str(ROOT / 'docs' / 'make_convergence.py'), str(ARCHIVE), str(tmp_path)],
        env={**os.environ, 'AIIDA_PATH': str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (ROOT / 'docs' / 'convergence.md').read_text(encoding='utf-8')
    assert done.stdout.strip() in page, 'run `python docs/make_convergence.py examples/convergence.aiida`'
    assert done.stdout.count('reference') == 2
    assert (tmp_path / 'convergence.png').stat().st_size > 10_000
    assert (ROOT / 'docs' / 'images' / 'convergence.png').is_file()


def test_archive_is_whole():
    result = CliRunner().invoke(root, ['archive', 'check', str(ARCHIVE)])
    assert result.exit_code == 0, result.output
    assert 'root liheal.convergence' in result.output
