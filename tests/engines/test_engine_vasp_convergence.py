"""The verb `convergence` with VASP: the tags of each point are those of its value."""

from __future__ import annotations

import pytest
from aiida.engine import run_get_node

from aiida_liheal.data.frames import FramesData
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.convergence import ConvergenceWorkChain

pytest.importorskip('aiida_vasp', reason='aiida-vasp is not installed (extra `vasp`)')


def test_cut_off(vasp_code, potential_family, cells):
    """What stands in for VASP knows no cut-off: two values give the same labels, so the coarser one will do."""
    builder = ConvergenceWorkChain.get_builder_from_protocol(
        vasp_code,
        FramesData(Frames.from_atoms(cells(1))),
        'paper',
        {'scans': {'cutoff_eV': [400, 380]}, 'label': {'vasp': {'potential_family': potential_family}}},
        {'withmpi': False},
        engine='vasp',
    )
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    (scan,) = outputs['table']['scans'].values()
    assert [row['value'] for row in scan['rows']] == [380, 400]
    assert scan['smallest'] == 380
    points = {
        link.link_label: link.node
        for link in node.base.links.get_outgoing().all()
        if getattr(link.node, 'process_label', '') == 'LabelWorkChain'
    }
    assert {name: point.inputs.vasp.settings['cutoff_eV'] for name, point in points.items()} == {
        'p000': 380.0,
        'p001': 400.0,
    }
    # nothing goes alone: what fails is a line of the table
    assert all(point.inputs.max_alone.value == 0 for point in points.values())
