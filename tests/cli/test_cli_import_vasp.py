"""`data import` of a tree of VASP runs, some whole and some not."""

from pathlib import Path

import pytest
from aiida.orm import QueryBuilder

from aiida_liheal.data.frames import FramesData

REGISTRY = Path(__file__).parents[1] / 'engines' / 'vasp_registry'


@pytest.mark.parametrize(
    ('kind', 'causes'),
    [
        ('outcar', {'unconverged': 'did not converge', 'truncated_outcar': 'ends within', 'killed': 'ends within'}),
        ('vasprun', {'unconverged': 'did not converge', 'truncated_vasprun': 'ends within', 'killed': 'ends within'}),
    ],
)
def test_whole_runs_are_taken_and_the_others_told(invoke, aiida_profile_clean, kind, causes):
    status, output = invoke('data', 'import', kind, REGISTRY)
    assert status == 0, output
    shards = QueryBuilder().append(FramesData).all(flat=True)
    assert sorted(len(shard) for shard in shards) == [1, 4]  # one run without stress
    assert sum(len(shard.left_out) for shard in shards) == len(causes)
    for run, cause in causes.items():
        (line,) = (line for line in output.splitlines() if line.lstrip().startswith(f'vasp_registry/{run}/'))
        assert cause in line
