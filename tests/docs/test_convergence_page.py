"""The page on convergence is what the archive of its run gives."""

from pathlib import Path

from click.testing import CliRunner

from aiida_liheal.cli.root import root

ROOT = Path(__file__).parents[2]
ARCHIVE = 'examples/convergence.aiida'


def test_tables_and_figure(make_page, tmp_path):
    printed = make_page('make_convergence.py', ARCHIVE, tmp_path)
    page = (ROOT / 'docs' / 'convergence.md').read_text(encoding='utf-8')
    assert printed.strip() in page, f'run `python docs/make_convergence.py {ARCHIVE}`'
    assert printed.count('| reference |') == 2
    assert (tmp_path / 'convergence.png').stat().st_size > 10_000
    assert (ROOT / 'docs' / 'images' / 'convergence.png').is_file()


def test_archive_is_whole():
    result = CliRunner().invoke(root, ['archive', 'check', str(ROOT / ARCHIVE)])
    assert result.exit_code == 0, result.output
    assert 'root liheal.convergence' in result.output
