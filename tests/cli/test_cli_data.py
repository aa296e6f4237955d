"""`data`: frames and potentials in and out, and where they came from."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from aiida.orm import QueryBuilder
from trees import deep_potential, labelled

from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.structures.formats import read_deepmd_npy, write_deepmd_npy


@pytest.fixture(autouse=True)
def _empty(aiida_profile_clean):
    """Begin with an empty profile: what is there already is not imported again."""


@pytest.fixture
def systems(tmp_path, li_frames):
    """A folder with two DeePMD-kit systems, of 2 and of 4 atoms."""
    folder = tmp_path / 'systems'
    write_deepmd_npy(labelled(li_frames), folder)
    return folder


def shards():
    return QueryBuilder().append(FramesData).all(flat=True)


def test_import_of_a_folder_makes_one_shard(invoke, systems, li_frames):
    """All systems below become one shard with its domain; a second import stores nothing."""
    status, output = invoke('data', 'import', 'deepmd-npy', systems, '--domain', 'bulk', '--label', 'mine')
    assert status == 0
    (shard,) = shards()
    assert (len(shard), shard.domain, shard.label, shard.is_labelled) == (2, 'bulk', 'mine', True)
    assert sorted(shard.get_frames().counts.tolist()) == sorted(li_frames.counts.tolist())
    assert f'pk {shard.pk}' in output
    status, output = invoke('data', 'import', 'deepmd-npy', systems, '--domain', 'bulk')
    assert status == 0
    assert f'is there already, pk {shard.pk}' in output
    assert len(shards()) == 1


def test_import_of_what_is_no_system(invoke, tmp_path, systems):
    """A folder without systems, and frames without forces, are refused; nothing is stored, not even the good one."""
    (tmp_path / 'empty').mkdir()
    status, output = invoke('data', 'import', 'deepmd-npy', systems, tmp_path / 'empty')
    assert status == 1
    assert 'no DeePMD-kit npy system' in output
    next(systems.glob('g000/set.*/force.npy')).unlink()
    status, output = invoke('data', 'import', 'deepmd-npy', systems)
    assert status == 1
    assert 'force.npy' in output
    assert shards() == []


def test_export_gives_back_what_was_imported(invoke, tmp_path, li_frames):
    """As DeePMD-kit systems and as extended xyz; an existing path is not overwritten."""
    shard = FramesData(labelled(li_frames)).store()
    status, _ = invoke('data', 'export', shard.pk, tmp_path / 'out')
    assert status == 0
    written = read_deepmd_npy(tmp_path / 'out' / 'g001')
    assert np.allclose(written.forces, shard.get_frames().select([1]).forces)
    status, _ = invoke('data', 'export', shard.pk, tmp_path / 'out.xyz')
    assert status == 0
    images = ase.io.read(tmp_path / 'out.xyz', ':')
    assert [len(image) for image in images] == [2, 4]
    assert images[1].get_potential_energy() == pytest.approx(-7.6)
    for path in (tmp_path / 'out', tmp_path / 'out.xyz'):
        status, output = invoke('data', 'export', shard.pk, path)
        assert status == 1
        assert 'is there already' in output


def test_export_of_a_potential(invoke, tmp_path):
    node = deep_potential().store()
    status, _ = invoke('data', 'export', node.pk, tmp_path / 'model')
    assert status == 0
    assert (tmp_path / 'model' / 'frozen.pb').read_bytes() == node.read('frozen')
    status, output = invoke('data', 'export', node.pk, tmp_path / 'x', '--format', 'extxyz')
    assert status == 1
    assert 'is a potential' in output


def test_import_of_the_shipped_committee(invoke):
    """Four members with their source and licence, once."""
    status, output = invoke('data', 'import', 'builtin')
    assert status == 0
    assert 'GPL-3.0-or-later' in output
    members = QueryBuilder().append(PotentialData).all(flat=True)
    assert sorted(node.label for node in members) == [f'builtin li m{number}' for number in range(4)]
    assert all('GPL-3.0-or-later' in node.description for node in members)
    status, output = invoke('data', 'import', 'builtin')
    assert output.count('is there already') == 4
    assert QueryBuilder().append(PotentialData).count() == 4
    status, output = invoke('data', 'import', 'builtin', 'na')
    assert status == 1
    assert "no shipped potential 'na'" in output


def test_import_of_a_model(invoke, tmp_path, n_nodes):
    """A frozen model is taken; what is none, is refused with a reason and stored nowhere."""
    model = tmp_path / 'model.pb'
    model.write_bytes(deep_potential(3).read('frozen'))
    status, output = invoke('data', 'import', 'potential', model, '--elements', 'Li', '--label', 'mine')
    assert status == 0
    assert QueryBuilder().append(PotentialData, filters={'label': 'mine'}).count() == 1
    before = n_nodes()
    for content, part in (
        (b'PK\x03\x04zip', 'PyTorch'),
        (b'hello', 'not a frozen DeePMD-kit model'),
        (b'\x0a\x00', 'lacks'),
    ):
        model.write_bytes(content)
        status, output = invoke('data', 'import', 'potential', model, '--elements', 'Li')
        assert status == 1
        assert str(model) in output
        assert part in output
    status, output = invoke('data', 'import', 'potential', model, '--elements', 'Li,Qq')
    assert status == 1
    assert "'Qq' is no chemical element" in output
    assert n_nodes() == before


def test_import_of_structures(invoke, tmp_path, li_frames, n_nodes):
    """Files of several formats become one shard, for a slab not periodic along z; bad ones are refused."""
    for name, atoms, kind in zip(('POSCAR', 'b.xyz'), li_frames, ('vasp', 'extxyz'), strict=True):
        ase.io.write(tmp_path / name, atoms, format=kind)
    files = [tmp_path / 'POSCAR', tmp_path / 'b.xyz']
    status, output = invoke('data', 'import', 'structures', *files, '--domain', 'surface', '--pbc', 'TTF')
    assert status == 0
    (shard,) = shards()
    assert f'2 frames, surface, pk {shard.pk}' in output
    frames = shard.get_frames()
    assert frames.counts.tolist() == [2, 4]
    assert frames.pbc.tolist() == [[True, True, False]] * 2
    assert not shard.is_labelled
    before = n_nodes()
    for arguments, part in (
        ([*files, tmp_path / 'none.xyz'], 'none.xyz: there is no such file'),
        ([*files, '--min-distance', '3.2'], 'POSCAR, structure 0: atom 0 (Li) is 2.979 Å'),
        ([*files, '--pbc', 'xy'], "pbc is 'xy'"),
        ([*files, '--index', 'a'], "index is 'a'"),
        ([*files, '--index', '7'], 'cannot be read'),
        ([*files, '--elements', 'Li,Qq'], "'Qq' is no chemical element"),
        ([*files, '--elements', 'Li'], 'lammps-data only'),
    ):
        status, output = invoke('data', 'import', 'structures', *arguments)
        assert status == 1, arguments
        assert part in output
        assert len(output.strip().splitlines()) == 1
    assert n_nodes() == before
