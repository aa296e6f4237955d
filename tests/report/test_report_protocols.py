"""What is said of the verbs that pack many runs into few jobs."""

import pytest
from aiida.orm import Dict, WorkChainNode
from trees import give, process

from aiida_liheal.report.facts import conclusions
from aiida_liheal.report.tree import read_tree


def said(name, summary):
    node = process(WorkChainNode, name, f'liheal.{name.removesuffix("WorkChain").lower()}')
    return conclusions(read_tree(give(node, summary=Dict(summary).store())))


def test_valleys(aiida_profile_clean):
    summary = {'angles_deg': [135.0, 45.0, 90.0], 'removal_energy': {'mean_eV': [-1.5, -2.0, None]}}
    told = 'Energy of an atom in a valley, less that without it: -2.000 eV at 45°, -1.500 eV at 135°.'
    assert said('ValleyWorkChain', summary) == [told]


def test_diffusion(aiida_profile_clean):
    surface = {'is_resolved': True, 'D_m2_per_s': 1.23e-9, 'D_error_m2_per_s': 1e-10, 'D_bound_m2_per_s': None}
    bulk = {'is_resolved': False, 'D_m2_per_s': 1e-13, 'D_error_m2_per_s': 1e-12, 'D_bound_m2_per_s': 4e-12}
    rows = [
        {'asked_temperature_K': 300.0, 'status': 'finished', 'surface': surface, 'bulk': bulk},
        {'asked_temperature_K': 450.0, 'status': 'exploded'},
    ]
    assert said('DiffuseWorkChain', {'temperatures': rows}) == [
        'Diffusion at 300 K: surface 1.2e-09 ± 1e-10 m²/s, bulk below 4e-12 m²/s.',
        'Diffusion at 450 K: exploded.',
    ]


@pytest.mark.parametrize(
    ('summary', 'told'),
    [
        (
            {'outcome': 'bracketed', 'melting_point_K': 455.0, 'half_width_K': 5.0},
            'Melting point: 455 ± 5 K (4096 atoms).',
        ),
        (
            {'outcome': 'not bracketed', 'low_K': None, 'high_K': 400.0},
            'Melting point: not bracketed, between ? and 400 K (4096 atoms).',
        ),
    ],
)
def test_melting(aiida_profile_clean, summary, told):
    assert said('MeltWorkChain', {**summary, 'n_atoms': 4096}) == [told]
