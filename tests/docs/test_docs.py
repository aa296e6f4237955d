"""The docs say what is so: the reference is made from the code as it is, links lead somewhere, commands exist."""

import ast
import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import click
import pytest
from aiida.cmdline.commands.cmd_verdi import verdi

from aiida_liheal.cli.root import root

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob('*.md')), *sorted((ROOT / 'docs').glob('*.md'))]
FENCE = re.compile(r'^```(\w+)\n(.*?)^```', re.MULTILINE | re.DOTALL)


def blocks(language):
    return [
        pytest.param(text, id=f'{page.name}-{number}')
        for page in PAGES
        for number, (kind, text) in enumerate(FENCE.findall(page.read_text(encoding='utf-8')))
        if kind == language
    ]


def test_reference_is_up_to_date():
    """`docs/reference.md` is what `docs/make_reference.py` makes now."""
    spec = importlib.util.spec_from_file_location('make_reference', ROOT / 'docs' / 'make_reference.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kept = (ROOT / 'docs' / 'reference.md').read_text(encoding='utf-8')
    assert module.make_reference() == kept, 'run `python docs/make_reference.py`'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Files that are linked to exist, and so do headings."""
    text = FENCE.sub('', page.read_text(encoding='utf-8'))
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if target.startswith(('https://', 'http://')):
            continue
        name, _, heading = target.partition('#')
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f'{page.name} links to {target}'
        if heading:
            headings = re.findall(r'^#+ (.+)$', FENCE.sub('', file.read_text(encoding='utf-8')), re.MULTILINE)
            anchors = {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in headings}
            assert heading in anchors, f'{page.name} links to {target}'


@pytest.mark.parametrize('text', blocks('python'))
def test_python_blocks(text):
    """Python is Python, and what it imports is there."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name), f'{node.module} has no {name.name}'


@pytest.mark.parametrize('text', blocks('sh'))
def test_commands_exist(text):
    """Commands of `aiida-liheal` and `verdi` exist, with the options that they are given."""
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[0] not in ('aiida-liheal', 'verdi'):
            continue
        command = root if words[0] == 'aiida-liheal' else verdi
        context = click.Context(command, info_name=words[0])
        arguments = words[1:]
        while isinstance(command, click.Group):
            assert arguments, f'{line}: a command is missing'
            inner = command.get_command(context, arguments[0])
            assert inner is not None, f'{line}: there is no command {arguments[0]}'
            command, arguments = inner, arguments[1:]
            context = click.Context(command, info_name=command.name, parent=context)
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        given = [word.partition('=')[0] for word in arguments if re.match(r'--?[a-z]', word)]
        assert set(given) <= known, f'{line}: {sorted(set(given) - known)}'
