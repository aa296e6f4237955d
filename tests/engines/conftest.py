"""A stand-in for VASP as a code, and a family of potentials whose numbers are none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from vasp_stand_in import POTCAR

STAND_IN = Path(__file__).parent / 'vasp_stand_in.py'


@pytest.fixture(scope='session')
def potential_family(tmp_path_factory):
    """The name of a family with a stand-in for the potentials of lithium and sodium."""
    potcar = pytest.importorskip('aiida_vasp.data.potcar', reason='aiida-vasp is not installed (extra `vasp`)')
    folder = tmp_path_factory.mktemp('potentials') / 'stand-ins'
    for symbol in ('Li', 'Na'):
        (folder / symbol).mkdir(parents=True)
        (folder / symbol / 'POTCAR').write_text(POTCAR.format(symbol=symbol))
    potcar.PotcarData.upload_potcar_family(folder, 'stand-ins', 'made by the tests', stop_if_existing=False)
    return 'stand-ins'


@pytest.fixture
def stand_in(tmp_path):
    """The command of the stand-in; called with faults by the name of the folder it runs in, it asks for them."""
    command, asked = tmp_path / 'vasp_std', tmp_path / 'faults.json'

    class StandIn:
        path = command

        @staticmethod
        def ask(**faults):
            asked.write_text(json.dumps({name.removeprefix('f'): fault for name, fault in faults.items()}))

    StandIn.ask()
    command.write_text(f'#!/bin/sh\nSTAND_IN_FAULTS={asked} exec {sys.executable} -S -E {STAND_IN} "$@"\n')
    command.chmod(0o755)
    return StandIn


@pytest.fixture
def vasp_code(aiida_localhost, stand_in):
    """The stand-in as a code."""
    from aiida.orm import InstalledCode

    # the computer has no mpirun of its own in tests
    return InstalledCode(
        label='vasp', computer=aiida_localhost, filepath_executable=str(stand_in.path), with_mpi=False
    ).store()


@pytest.fixture
def cells():
    """Distinct bcc lithium cells of 2 atoms: call it with how many."""

    def make(n):
        images = []
        for seed in range(n):
            atoms = bulk('Li', 'bcc', a=3.3 + 0.005 * seed, cubic=True)
            atoms.rattle(0.05, rng=np.random.default_rng(seed))
            images.append(atoms)
        return images

    return make
