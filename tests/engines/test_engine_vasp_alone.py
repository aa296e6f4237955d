"""What is taken of a `VaspWorkChain`, and why not; with made-up ones, no VASP."""

import numpy as np
import pytest
from aiida.common import LinkType
from aiida.engine import run_get_node
from aiida.orm import CalcJobNode, Dict, Int, WorkChainNode
from ase.build import bulk

from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines.vasp.alone import VaspAloneWorkChain, explain_failure, labels_of
from aiida_liheal.engines.vasp.reading import RunError
from aiida_liheal.engines.vasp.settings import VaspSettings, incar_tags
from aiida_liheal.structures.frames import Frames

SETTINGS = VaspSettings(incar={'LASPH': True})
MISC = {
    'run_status': {'electronic_converged': True},
    'total_energies': {'energy_free': -3.5},
    'forces': [[0.1, 0.0, 0.0], [-0.1, 0.0, 0.0]],
    'stress': [[10.0, 0.0, 0.0], [0.0, 10.0, 0.0], [0.0, 0.0, 10.0]],
}


@pytest.fixture
def ended(aiida_localhost):
    """A `VaspWorkChain` with one job that ended, with these outputs and changes of its tags."""

    def make(misc=None, tags=None, exit_status=0, message=None):
        chain = WorkChainNode()
        chain.set_process_state('finished')
        chain.set_exit_status(exit_status)
        chain.set_exit_message('general words.' if exit_status else '')
        job = CalcJobNode(computer=aiida_localhost, process_type='aiida.calculations:vasp.vasp')
        job.set_process_label('VaspCalculation')
        job.set_exit_message(message)
        given = {name.lower(): value for name, value in {**incar_tags(SETTINGS), **(tags or {})}.items()}
        parameters = Dict(given).store()
        job.base.links.add_incoming(parameters, link_type=LinkType.INPUT_CALC, link_label='parameters')
        chain.store()
        job.base.links.add_incoming(chain, link_type=LinkType.CALL_CALC, link_label='iteration_01')
        job.store()
        if misc is not None:
            node = Dict(misc)
            node.base.links.add_incoming(job, link_type=LinkType.CREATE, link_label='misc')
            node.store()
            node.base.links.add_incoming(chain, link_type=LinkType.RETURN, link_label='misc')
        return chain

    return make


def without(name):
    return {key: value for key, value in MISC.items() if key != name}


@pytest.mark.parametrize(
    ('given', 'cause'),
    [
        ({'misc': MISC}, None),
        ({'misc': MISC, 'tags': {'ALGO': 'All', 'NELM': 300, 'AMIX': 0.1}}, None),
        ({'misc': MISC, 'tags': {'EDIFF': 1e-3}}, 'its error handlers changed EDIFF to 0.001'),
        ({'misc': MISC, 'tags': {'LASPH': False}}, 'its error handlers changed LASPH to False'),
        ({'misc': without('stress')}, 'it gave no stress'),
        ({'misc': {**MISC, 'forces': None}}, 'it gave no forces'),
        ({'misc': without('run_status')}, 'it gave no run_status'),
        ({}, 'it gave no run_status, total_energies, forces, stress'),
        ({'misc': {**MISC, 'run_status': {'electronic_converged': False}}}, 'not self-consistent'),
    ],
)
def test_cause(ended, given, cause):
    """Whatever a work chain leaves out, there is a cause, and the others are not lost by it."""
    assert explain_failure(ended(**given), SETTINGS) == cause


def test_the_last_job_knows_more_than_the_work_chain(ended):
    chain = ended(exit_status=500, message='the stress cannot be parsed')
    assert explain_failure(chain, SETTINGS).startswith('general words. VaspCalculation<')
    assert 'the stress cannot be parsed' in explain_failure(chain, SETTINGS)


def test_labels():
    """Forces come back into the order of the frame; the stress, positive under compression, times the volume."""
    atoms = bulk('Li', 'bcc', a=3.4, cubic=True)
    atoms.symbols = ['Na', 'Li']
    found = labels_of(MISC, atoms)
    assert found.energy == -3.5
    assert found.forces.tolist() == MISC['forces'][::-1]
    assert np.trace(found.virial) == pytest.approx(3 * 3.4**3 * 10 * 6.2415091e-4)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'forces': [[0.0, 0.0, 0.0]]}, 'the frame has 2 atoms'),
        ({'stress': [1.0, 2.0]}, 'stress'),
        ({'forces': [[0.0, 0.0, float('nan')]] * 2}, 'not finite'),
        ({'total_energies': {}}, 'energy_free'),
    ],
)
def test_what_is_no_label(change, message):
    with pytest.raises(RunError, match=message):
        labels_of({**MISC, **change}, bulk('Li', 'bcc', a=3.4, cubic=True))


def test_options_that_jobs_refuse(vasp_code, potential_family, cells):
    """They end it with an exit code that says what is wrong; it does not except."""
    builder = VaspAloneWorkChain.get_builder()
    builder.code, builder.frames = vasp_code, FramesData(Frames.from_atoms(cells(1)))
    builder.summary = Dict({'dropped': [{'index': 0, 'cause': 'killed'}]})
    builder.settings, builder.max_frames = Dict({'kpoint_spacing_per_A': 0.5}), Int(4)
    builder.options = Dict({'resources': {'num_machines': 1}, 'qeue_name': 'gpu'})
    builder.potential_family, builder.potential_mapping = potential_family, Dict({'Li': 'Li'})
    _, node = run_get_node(builder)
    assert node.exit_status == VaspAloneWorkChain.exit_codes.ERROR_REFUSED.status
    assert 'qeue_name' in node.exit_message
