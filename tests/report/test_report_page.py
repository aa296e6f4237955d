"""The page is whole in itself, escapes what comes from the database, and says what is missing."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from aiida.orm import WorkChainNode
from trees import process

from aiida_liheal.report import pictures, render
from aiida_liheal.report.facts import duration
from aiida_liheal.report.page import make_page, write_page
from aiida_liheal.report.tree import read_tree


class Reader(HTMLParser):
    """Collects elements, their attributes, texts of headings and the content of scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.scripts = []
        self.texts = []
        self.open = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ('meta', 'img', 'br', 'path', 'rect', 'link'):
            self.open.append(tag)
        if tag == 'script':
            self.scripts.append((dict(attrs), ''))

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if self.open and self.open[-1] == 'script':
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)
        elif data.strip():
            self.texts.append(data.strip())

    def of(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture
def page(healed):
    return Reader(make_page(healed, pictures=False))


def test_nothing_is_loaded_from_anywhere(page):
    """No element names a resource but data URIs and places in the page, and the page forbids the rest."""
    for tag, attrs in page.elements:
        for name in ('src', 'href', 'data', 'action', 'srcset', 'poster'):
            if attrs.get(name) is not None:
                assert attrs[name].startswith(('data:', '#')), (tag, name, attrs[name][:80])
    assert not page.of('link')
    assert not page.of('iframe')
    policy = next(attrs['content'] for attrs in page.of('meta') if attrs.get('http-equiv') == 'Content-Security-Policy')
    assert "default-src 'none'" in policy
    assert 'http' not in policy


def test_texts_from_the_database_are_escaped(healed, page):
    """A label that is a script is shown and not run; scripts are ours: the figures, plotly, and what draws them."""
    assert healed.label == '<script>alert(1)</script>'
    assert healed.label in page.texts
    n_figures = sum(attrs.get('type') == 'application/json' for attrs, _ in page.scripts)
    assert len(page.scripts) == n_figures + 2
    assert not any(text.strip() == 'alert(1)' for _, text in page.scripts)


def test_a_hostile_trace_name_cannot_end_a_script(page):
    """Figures are JSON that holds no `<`."""
    figures = [(attrs, text) for attrs, text in page.scripts if attrs.get('type') == 'application/json']
    assert len(figures) >= 6
    targets = {attrs.get('id') for attrs in page.of('div')}
    for attrs, text in figures:
        assert '<' not in text
        layout = json.loads(text)['layout']
        assert attrs['data-for'] in targets
        for axis in ('xaxis', 'yaxis'):
            assert layout[axis]['title']['text']


def test_figures_have_words_units_and_numbers(page):
    """Each figure has a label for those who do not see it; axes have units; the numbers come as CSV."""
    plots = [attrs for attrs in page.of('div') if attrs.get('class') == 'plot']
    assert all(attrs['role'] == 'img' and len(attrs['aria-label']) > 20 for attrs in plots)
    links = [attrs for attrs in page.of('a') if attrs.get('download')]
    assert len(links) == len(plots)
    sheets = {a['download']: base64.b64decode(a['href'].split(',', 1)[1]).decode() for a in links}
    lines = sheets['void-volume.csv'].splitlines()
    assert lines[0] == 'time (ps),volume of voids (Å³)'
    assert lines[1] == '0.0,584.0'
    assert len(lines) == 7


def test_lines_are_told_apart_without_colour(healed):
    """In a figure with several lines every one has its own dash and marker."""
    reader = Reader(make_page(healed, pictures=False))
    for attrs, text in reader.scripts:
        if attrs.get('type') != 'application/json':
            continue
        lines = [trace for trace in json.loads(text)['data'] if trace.get('mode') == 'lines+markers']
        looks = [(trace['line']['dash'], trace['marker']['symbol']) for trace in lines]
        assert len(set(looks)) == len(looks)


def test_page_of_a_whole_chain(whole_chain):
    """All chapters are there, with curves, histogram, versions, seeds and the settings of each job."""
    reader = Reader(make_page(whole_chain[0], pictures=False))
    texts = ' | '.join(reader.texts)
    for wanted in (
        'Learning curve of train_0: force',
        'Committee deviation in exploration',
        'Growth of the film',
        'Void volume',
        'Density by height',
        '9.8.7',
        '99.1.0',
        'not converged after 60 steps',
        'settings.cutoff_eV',
        'settings.runs.0.seed',
    ):
        assert wanted in texts, wanted
    assert len(reader.of('details')) >= len(read_tree(whole_chain[0]).jobs)


def test_page_of_a_process_without_results(tmp_path):
    """A process that was just created gives a page too; it replaces what was there and leaves nothing beside it."""
    node = process(WorkChainNode, 'LearnWorkChain', 'liheal.learn', state='created')
    path = tmp_path / 'page.html'
    path.write_text('before')
    write_page(node, path)
    assert [file.name for file in tmp_path.iterdir()] == ['page.html']
    assert (
        'Not over yet: created.' in Reader(path.read_text(encoding='utf-8')).texts[-1]
        or 'Not over yet' in path.read_text()
    )


def test_pictures_are_drawn(healed):
    """Start and end by structure and by energy, as PNG, with words."""
    drawn = pictures.draw_pictures(read_tree(healed).root)
    if drawn.trouble:
        assert 'libvulkan1 mesa-vulkan-drivers' in drawn.trouble
        pytest.skip('no graphics driver here')
    for kind in (drawn.by_structure, drawn.by_energy):
        assert [picture.title for picture in kind] == ['start, step 0 (0.00 ps)', 'end, step 2000 (2.00 ps)']
        for picture in kind:
            assert base64.b64decode(picture.uri.split(',', 1)[1]).startswith(b'\x89PNG')
            assert '52 atoms' in picture.description
    low, high = drawn.energy_range
    assert -1.7 < low < high < -1.5


def test_without_graphics_the_page_says_what_to_install(healed, monkeypatch):
    """Vulkan without a driver: a notice in the place of the pictures, and the rest of the page."""
    monkeypatch.setenv('VK_DRIVER_FILES', '/nonexistent')
    monkeypatch.setenv('VK_ICD_FILENAMES', '/nonexistent')
    reader = Reader(make_page(healed))
    texts = ' '.join(reader.texts)
    assert 'apt-get install libvulkan1 mesa-vulkan-drivers' in texts
    assert not reader.of('img')
    assert 'Void volume' in texts


def test_a_drawing_that_dies_is_told(healed, monkeypatch):
    """A graphics driver that takes its process with it does not end the report."""

    def die(command, **_):
        return subprocess.CompletedProcess(command, -11, '', '')

    monkeypatch.setattr(pictures.subprocess, 'run', die)
    assert pictures.draw_pictures(read_tree(healed).root).trouble == 'exit status -11'


def test_colours_of_values():
    import numpy as np

    scale = np.array([[0.0, 0, 0], [1.0, 1, 1]])
    colours = render.colours_of_values(np.array([-2.0, -1.0, 0.0, 5.0]), -2.0, 0.0, scale)
    assert np.allclose(colours[:, 0], [0, 0.5, 1, 1])


@pytest.mark.parametrize(
    ('seconds', 'text'), [(None, ''), (3.21, '3.2 s'), (59.97, '60.0 s'), (61, '1 min 01 s'), (7260, '2 h 01 min')]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.skipif(shutil.which('chromium') is None, reason='needs chromium')
@pytest.mark.engine
def test_a_browser_draws_every_figure(whole_chain, tmp_path):
    """In a browser the page has all its plots, without an error."""
    page = tmp_path / 'page.html'
    write_page(whole_chain[0], page, pictures=False)
    command = ['chromium', '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-quic']
    command += [
        '--disable-background-networking',
        f'--user-data-dir={tmp_path / "profile"}',
        '--virtual-time-budget=20000',
    ]
    done = subprocess.run(
        [*command, '--dump-dom', page.as_uri()], capture_output=True, text=True, timeout=300, check=True
    )
    reader = Reader(done.stdout)
    plots = [attrs for attrs in reader.of('div') if 'plot' in (attrs.get('class') or '').split()]
    drawn = [attrs for attrs in plots if 'js-plotly-plot' in attrs['class']]
    assert len(drawn) == len(plots) > 10
