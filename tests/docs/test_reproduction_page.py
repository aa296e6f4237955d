"""The page of the reproduction is what the protocol and the archives of two campaigns give."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('name', ['gallery', 'checks'])
def test_tables(make_page, name):
    """The checks, and how a campaign comes out by them."""
    archive = f'examples/{name}.aiida'
    printed = make_page('make_reproduction.py', archive)
    page = (ROOT / 'docs' / 'reproduction.md').read_text(encoding='utf-8')
    for table in printed.strip().split('\n\n'):
        assert table in page, f'run `python docs/make_reproduction.py {archive}`:\n{table}'
    assert printed.count('\n| 10 ') == 2
