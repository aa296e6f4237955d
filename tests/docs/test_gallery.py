"""The gallery of the docs is what its archive holds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from aiida_liheal.cli.root import root

ROOT = Path(__file__).parents[2]
ARCHIVE = ROOT / 'examples' / 'gallery.aiida'


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Make the figures anew, without a profile; gives what was printed and the folder of the figures."""
    folder = tmp_path_factory.mktemp('gallery')
    done = subprocess.run(
        [sys.executable, str(ROOT / 'docs' / 'make_gallery.py'), str(ARCHIVE), str(folder)],
        env={**os.environ, 'AIIDA_PATH': str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, folder


def test_table_of_costs(drawn):
    printed, _ = drawn
    page = (ROOT / 'docs' / 'gallery.md').read_text(encoding='utf-8')
    lines = [line for line in printed.splitlines() if line.startswith('|')]
    assert len(lines) == 14
    assert [line for line in lines if line not in page] == []


def test_figures(drawn):
    """Each figure that the page shows can be drawn, and is kept; pixels depend on versions and are not compared."""
    _, folder = drawn
    page = (ROOT / 'docs' / 'gallery.md').read_text(encoding='utf-8')
    names = re.findall(r'\(images/(gallery_\w+\.png)\)', page)
    assert sorted(names) == sorted(path.name for path in folder.glob('*.png'))
    for name in names:
        assert (ROOT / 'docs' / 'images' / name).is_file()


def test_archive_is_whole():
    result = CliRunner().invoke(root, ['archive', 'check', str(ARCHIVE)])
    assert result.exit_code == 0, result.output
    assert 'root liheal.campaign' in result.output
    assert ARCHIVE.stat().st_size < 10e6
