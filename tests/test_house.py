"""The house keeps its shape: import layers, names of entry points, science without AiiDA."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_import_layers():
    """The import-linter contracts of `pyproject.toml` hold."""
    run = subprocess.run(
        [str(Path(sys.executable).parent / 'lint-imports'), '--config', str(ROOT / 'pyproject.toml')],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize('layer', ['structures', 'lammps', 'sampling', 'analysis'])
def test_science_needs_no_aiida(layer):
    """The four pure folders import where AiiDA does not exist."""
    code = (
        "import sys; sys.modules['aiida'] = None; import importlib, pkgutil; "
        f"package = importlib.import_module('aiida_liheal.{layer}'); "
        '[importlib.import_module(m.name) for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]'
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_entry_points_are_named_and_load():
    """Every entry point of the package begins with `liheal.` and can be loaded."""
    ours = [
        e
        for group in ('aiida.data', 'aiida.calculations', 'aiida.parsers', 'aiida.workflows')
        for e in entry_points(group=group)
        if e.value.startswith('aiida_liheal.')
    ]
    assert len(ours) >= 18
    for entry_point in ours:
        assert entry_point.name.startswith('liheal.')
        entry_point.load()
