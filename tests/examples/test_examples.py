"""The examples as a user runs them, by `verdi run`, each with what the one before it made."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from aiida.cmdline.commands.cmd_run import run as verdi_run
from aiida.orm import load_node
from click.testing import CliRunner

from aiida_liheal.cli.archive import make_archive

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / 'examples'

pytestmark = pytest.mark.engine


@pytest.fixture
def code(aiida_code_installed, monkeypatch):
    """Make a code of an executable and say its full label."""
    monkeypatch.setenv('OMP_NUM_THREADS', '1')

    def make(name):
        executable = sys.executable if name in ('gpaw', 'python') else shutil.which(name)
        assert executable, f'{name} is not on PATH'
        return aiida_code_installed(label=f'examples-{name}', filepath_executable=executable).full_label

    return make


@pytest.fixture
def example():
    """Run one example and give what it printed."""

    def call(name, *arguments):
        result = CliRunner().invoke(verdi_run, ['--', str(EXAMPLES / f'{name}.py'), *arguments])
        assert result.exit_code == 0, result.output
        print(result.output)
        return result.output

    return call


@pytest.fixture
def elsewhere(tmp_path):
    """Run `verdi` as another user would, with a fresh profile, and give what it printed."""
    program = str(Path(sys.executable).parent / 'verdi')
    environment = {**os.environ, 'AIIDA_PATH': str(tmp_path)}

    def call(*arguments):
        done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call(
        'profile', 'setup', 'core.sqlite_dos', '--non-interactive', '--profile-name', 'other', '--email', 'a@b.example'
    )
    return call


def readme_query():
    """The query that the README gives."""
    blocks = re.findall(r'^```python\n(.*?)^```', (ROOT / 'README.md').read_text(encoding='utf-8'), re.M | re.S)
    return next(block for block in blocks if 'QueryBuilder' in block)


def test_from_labels_to_deposition_and_back(code, example, elsewhere, tmp_path):
    """Label, train on the labels, deposit with the committee; the queries lead back to the very labels."""
    labelled = example(
        'label_batch', '--code', code('gpaw'), '--cutoff-eV', '200', '--kpoint-spacing-per-A', '0.5', '--seed', '3'
    )
    assert '0 of 2 frames did not converge' in labelled
    shard, job = re.search(r'FramesData<(\d+)>, labelled by GpawCalculation<(\d+)>', labelled).groups()

    trained = example('train_committee', shard, '--code', code('dp'), '--members', '2', '--steps', '10')
    assert 'trained on 1 frames, 1 held out, 10 steps a member' in trained
    members = re.search(r'potentials: (.+)', trained).group(1).split()
    assert len(members) == 2

    lmp, python = code('lmp'), code('python')
    deposited = example(
        'deposit',
        *members,
        *('--lmp', lmp, '--python', python),
        *('--duration-ps', '0.2', '--dump-every-ps', '0.1'),
    )
    start, end = re.search(r'^(\d+) atoms \+ 1 inserted - 0 lost = (\d+)$', deposited, re.MULTILINE).groups()
    assert int(end) == int(start) + 1
    assert 'end (0.20 ps)' in deposited
    deposition = re.search(r'DepositWorkChain<(\d+)> finished', deposited).group(1)

    answer = example('query_labels', deposition)
    for member in members:
        assert f'PotentialData<{member}> was made by DpTrainCalculation' in answer
    # of two frames one was held out, the same for both members
    line = rf'  1 labels of FramesData<{shard}> by GpawCalculation, as \(job, index\): \((\d+), (\d)\)'
    told = re.findall(line, answer)
    assert len(told) == 2
    assert told[0] == told[1]
    assert told[0][0] == job
    assert 'was imported: builtin li m0' in answer

    # the README's query answers in another profile that imported the archive
    node = load_node(int(deposition))
    make_archive([node], tmp_path / 'deposition.aiida')
    elsewhere('archive', 'import', str(tmp_path / 'deposition.aiida'))
    (tmp_path / 'query.py').write_text(readme_query(), encoding='utf-8')
    lines = elsewhere('run', str(tmp_path / 'query.py')).splitlines()
    pattern = r'deposition \d+: frame (\d) of the structures that job \d+ labelled'
    assert sorted(re.fullmatch(pattern, line).group(1) for line in lines) == ['0', '1']


def test_heal(code, example):
    """A crystal with a void, for a moment with a classical potential."""
    healed = example(
        'heal',
        *('--potential', 'meam', '--lmp', code('lmp'), '--python', code('python')),
        *('--duration-ps', '0.4', '--heating-ps', '0.2'),
    )
    volume = float(re.search(r'start \(0\.00 ps\): voids (\d+) Å³', healed).group(1))
    assert volume > 21.6, 'the void is no larger than an atom'
    assert 'end (0.40 ps)' in healed
    assert re.search(r'HealWorkChain<\d+> finished', healed)
