"""`aiida-liheal launch validate` as a dry run, and `compare`: tables of validations side by side."""

import json

import pytest
from aiida.common import LinkType
from aiida.orm import Dict, WorkChainNode

from aiida_liheal.analysis.validation import PropertyReference, Quantity, judge

KNOWN = {
    'C44_GPa': PropertyReference.read(
        {'pbe': {'value': 11.0, 'source': 'x'}, 'limit': {'against': 'pbe', 'relative': 0.1}}
    )
}


@pytest.fixture
def validation():
    """A stored validation that came to a table with one value of C44 in GPa."""

    def make(label, value):
        node = WorkChainNode(label=label, process_type='aiida.workflows:liheal.validate')
        node.set_process_label('ValidateWorkChain')
        node.store()
        table = Dict({'rows': judge({'C44_GPa': Quantity('GPa', value)}, KNOWN)}).store()
        table.base.links.add_incoming(node, link_type=LinkType.RETURN, link_label='table')
        return node

    return make


def test_tables_side_by_side(invoke, validation):
    one, two = validation('ONE', 11.5), validation('', 13.0)
    code, output = invoke('compare', one.pk, f'TWO={two.pk}')
    lines = output.splitlines()
    assert code == 0
    assert lines[0] == '| property | unit | ONE | TWO | PBE | experiment | passes |'
    assert lines[2] == '| `C44_GPa` | GPa | 11.5 pass | 13 **FAIL** | 11 |  | 9.9 to 12.1 |'
    rows = json.loads(invoke('compare', '--json', one.pk)[1])
    assert rows['ONE'][0]['verdict'] == 'pass'


def test_what_is_no_validation_is_refused(invoke):
    other = WorkChainNode()
    other.set_process_label('MeltWorkChain')
    other.store()
    code, output = invoke('compare', other.pk)
    assert code == 1
    assert f'MeltWorkChain<{other.pk}> has no table' in output


def test_dry_run_tells_the_runs(invoke, codes, potential, n_nodes):
    before = n_nodes()
    code, output = invoke('launch', 'validate', '--potential', potential.pk, '--protocol', 'fast', '--dry-run')
    assert code == 0, output
    # equation of state; then elastic constants, 3 phases, 3 facets, 2 of a vacancy, 2 adatoms, phonons, an atom
    assert 'runs                14 ' in output
    assert n_nodes() == before
