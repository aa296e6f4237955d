"""The gallery of the docs is what its archive holds."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from aiida_liheal.cli.root import root

ROOT = Path(__file__).parents[2]
#: Archives, the number of their runs, and the process that each is of.
ARCHIVES = {'gallery': (12, 'liheal.campaign'), 'checks': (7, 'liheal.campaign'), 'classical': (8, 'liheal.campaign')}


@pytest.fixture(scope='module')
def drawn(make_page, tmp_path_factory):
    """Make the figures anew, without a profile; gives what was printed for each archive, and their folder."""
    folder = tmp_path_factory.mktemp('gallery')
    return {name: make_page('make_gallery.py', f'examples/{name}.aiida', folder) for name in ARCHIVES}, folder


@pytest.mark.parametrize('name', ARCHIVES)
def test_table_of_costs(drawn, name):
    printed, _ = drawn
    page = (ROOT / 'docs' / 'gallery.md').read_text(encoding='utf-8')
    lines = [line for line in printed[name].splitlines() if line.startswith('|')]
    assert len(lines) == ARCHIVES[name][0] + 2
    assert [line for line in lines if line not in page] == []


def test_figures(drawn):
    """Each figure that the page shows can be drawn, and is kept; pixels depend on versions and are not compared."""
    _, folder = drawn
    page = (ROOT / 'docs' / 'gallery.md').read_text(encoding='utf-8')
    names = re.findall(r'\(images/(gallery_\w+\.png)\)', page)
    assert sorted(names) == sorted(path.name for path in folder.glob('*.png'))
    for name in names:
        assert (ROOT / 'docs' / 'images' / name).is_file()


@pytest.mark.parametrize('name', ARCHIVES)
def test_archive_is_whole(name):
    path = ROOT / 'examples' / f'{name}.aiida'
    result = CliRunner().invoke(root, ['archive', 'check', str(path)])
    assert result.exit_code == 0, result.output
    assert f'root {ARCHIVES[name][1]}' in result.output
    assert path.stat().st_size < 10e6
