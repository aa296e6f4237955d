"""The quickstart in its smallest size, for real: stopped in the middle, gone on with, and asked for again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from aiida_liheal.cli.archive import read_archive

TIMEOUT_S = 900


def command(folder, home):
    """The command line, in an environment that knows of no configuration of AiiDA."""
    environment = {key: value for key, value in os.environ.items() if key != 'AIIDA_PATH'}
    environment |= {'HOME': str(home), 'PYTHONUNBUFFERED': '1'}
    arguments = [sys.executable, '-m', 'aiida_liheal.cli.main', 'quickstart', '-w', str(folder), '--protocol', 'tiny']
    return arguments, environment


def at_work_in(folder):
    """Processes that work in a folder or name it, such as jobs and the daemon."""
    found = []
    for process in psutil.process_iter(['pid', 'cmdline', 'cwd']):
        where = Path(process.info['cwd'] or '/')
        words = ' '.join(process.info['cmdline'] or [])
        if where == folder or folder in where.parents or str(folder) in words:
            found.append((process.info['pid'], words[:100]))
    return found


@pytest.mark.quickstart
@pytest.mark.timeout(3 * TIMEOUT_S)
def test_quickstart_stops_goes_on_and_is_not_done_twice(signals_as_in_a_terminal, tmp_path):
    """Ctrl-C leaves nothing running; the next call takes the labels from the cache; the third one is there at once."""
    folder, home, log = tmp_path / 'quickstart', tmp_path / 'home', tmp_path / 'log'
    home.mkdir()
    arguments, environment = command(folder, home)

    with log.open('w') as handle:
        first = subprocess.Popen(arguments, env=environment, stdout=handle, stderr=subprocess.STDOUT)
    until = time.monotonic() + TIMEOUT_S
    while not re.search(r'train, round 1: running', log.read_text()):
        assert first.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.5)
    first.send_signal(signal.SIGINT)
    assert first.wait(TIMEOUT_S) == 130, log.read_text()
    assert 'nothing is left running' in log.read_text()
    assert at_work_in(folder) == []
    assert not (folder / 'page.html').exists()

    second = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert second.returncode == 0, second.stdout + second.stderr
    assert re.search(r'label, round 1: done, 4/4 frames, from cache', second.stdout)
    assert at_work_in(folder) == []
    for wanted in ('labels made', 'held-out RMSE', 'atoms deposited', 'void volume', 'BCC share'):
        assert wanted in second.stdout
    page = (folder / 'page.html').read_text(encoding='utf-8')
    assert 'Learning curve of train_0: force' in page
    contents = read_archive(folder / 'quickstart.aiida')
    assert [root.split()[0] for root in contents.roots] == ['liheal.quickstart']
    assert contents.licensed == []

    began = time.monotonic()
    third = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert third.returncode == 0, third.stdout + third.stderr
    assert 'the same quickstart was run before' in third.stdout
    assert 'label, round 1' not in third.stdout
    assert time.monotonic() - began < TIMEOUT_S / 3
    # a user's own configuration was never there, and is not there now
    assert not (home / '.aiida').exists()
