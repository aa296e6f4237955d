"""`data`: frames and potentials in and out, and where they came from."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from aiida.orm import QueryBuilder
from trees import deep_potential, labelled

from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.structures.formats import read_deepmd_npy, write_deepmd_npy, write_frames

# runs of VASP written by ourselves live with the tests of their readers
sys.path.insert(0, str(Path(__file__).parents[1] / 'structures'))

from vasp_text import make_run, outcar


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
    """A folder without systems, or with bad ones only, is refused; nothing is stored, not even the good one."""
    (tmp_path / 'empty').mkdir()
    status, output = invoke('data', 'import', 'deepmd-npy', systems, tmp_path / 'empty')
    assert status == 1
    assert 'no DeePMD-kit npy system' in output
    for file in systems.glob('g00?/set.*/force.npy'):
        file.unlink()
    status, output = invoke('data', 'import', 'deepmd-npy', systems)
    assert status == 1
    assert 'force.npy' in output
    assert shards() == []


def test_import_of_a_tree_with_a_bad_file(invoke, systems):
    """An empty file among good ones is told; the good ones are stored."""
    (systems / 'empty.xyz').touch()
    status, output = invoke('data', 'import', 'frames', systems)
    assert status == 0, output
    assert 'systems/empty.xyz: it holds no frame' in output
    (shard,) = shards()
    assert (len(shard), [entry['file'] for entry in shard.left_out]) == (2, ['systems/empty.xyz'])


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


@pytest.fixture
def runs(tmp_path):
    """Two OUTCARs, one with a step that did not converge and one that is cut off."""
    texts = outcar(make_run(n_electronic=(4, 8, 4))), outcar(make_run(('Li',), seed=1))
    for name, text in zip('ab', (texts[0], texts[1][: texts[1].rindex('FREE ENERGIE')]), strict=True):
        (tmp_path / 'runs' / name).mkdir(parents=True)
        (tmp_path / 'runs' / name / 'OUTCAR').write_text(text)
    return tmp_path / 'runs'


def test_import_of_runs_of_vasp(invoke, runs):
    """A tree becomes one shard; what was left out is told with file, frame and cause, and kept with the shard."""
    status, output = invoke('data', 'import', 'outcar', runs, '--domain', 'bulk')
    assert status == 0
    (shard,) = shards()
    assert (len(shard), shard.domain) == (4, 'bulk')
    assert '2 left out, 4 taken' in output
    assert 'runs/a/OUTCAR, frame 1: its electrons did not converge: NELM = 8' in output
    assert 'runs/b/OUTCAR, frame 2: the file ends within it' in output
    assert [entry['file'] for entry in shard.left_out] == ['runs/a/OUTCAR', 'runs/b/OUTCAR']
    status, output = invoke('data', 'import', 'frames', runs, '--domain', 'bulk')
    assert f'is there already, pk {shard.pk}' in output
    assert len(shards()) == 1


def test_import_where_nothing_converged(invoke, tmp_path, runs):
    """It fails with the causes and stores nothing, also not what else was given."""
    (tmp_path / 'OUTCAR').write_text(outcar(make_run(n_electronic=(8, 8, 8))))
    status, output = invoke('data', 'import', 'outcar', runs, tmp_path / 'OUTCAR')
    assert status == 1
    assert 'nothing to import: OUTCAR, frames 0, 1, 2: its electrons did not converge' in output
    assert shards() == []


def test_trace_of_an_imported_frame(invoke, runs):
    """File, format, SHA-256 and the place in the file, in words and as JSON."""
    invoke('data', 'import', 'outcar', runs)
    (shard,) = shards()
    status, output = invoke('data', 'trace', shard.pk, '--index', 1)
    assert status == 0
    assert 'imported: frame 2 of runs/a/OUTCAR (outcar)' in output
    assert f'sha256 {shard.sources[0]["sha256"]}' in output
    assert 'no training took it' in output
    status, output = invoke('data', 'trace', shard.pk, '--index', 3, '--json')
    (step,) = json.loads(output)['origin']
    assert (step['imported']['file'], step['imported']['index']) == ('runs/b/OUTCAR', 1)
    status, output = invoke('data', 'trace', shard.pk)
    assert '2 files: outcar' in output


def test_labels_that_are_hardly_meant(invoke, tmp_path, li_frames):
    """Import and info name frames with huge forces and atoms too close, and a spread that is no heat; all are kept."""
    frames = labelled(li_frames.select([0, 0, 1]))
    forces, positions = frames.forces.copy(), frames.positions.copy()
    forces[0] = 0, 0, 35
    positions[3] = positions[2] + [0.5, 0, 0]
    frames = replace(frames, forces=forces, positions=positions, energies=np.array([-3.8, 1000, -7.6]))
    write_frames(frames, tmp_path / 'a.xyz', 'extxyz')
    status, output = invoke('data', 'import', 'frames', tmp_path / 'a.xyz')
    assert status == 0, output
    told = ('frame 0 has a force above 20.0 eV/Å', 'frame 1 has two atoms closer than 1.2 Å')
    for line in told:
        assert f'a.xyz: {line}' in output
    (shard,) = shards()
    assert len(shard) == 3
    status, output = invoke('data', 'info', shard.pk)
    for line in (*told, '0.500 Å, two atoms of frame 1', 'no heat, as the mean is 250.95 eV/atom above the lowest'):
        assert line in output
    (line,) = (line for line in output.splitlines() if line.startswith('Li4'))
    assert line.split() == ['Li4', '1', 'frame']
    status, output = invoke('data', 'info', shard.pk, '--json')
    facts = json.loads(output)
    assert (facts['too_strong'], facts['too_close'], facts['shortest_distance_frame']) == ([0], [1], 1)


def test_info_as_json(invoke, runs):
    """Units are in the keys; files and what was left out are there; the same numbers are in the table."""
    invoke('data', 'import', 'outcar', runs, '--label', 'mine')
    (shard,) = shards()
    status, output = invoke('data', 'info', shard.pk, '--json')
    assert status == 0
    facts = json.loads(output)
    assert (facts['n_frames'], facts['label'], facts['n_atoms_min'], facts['n_atoms_max']) == (4, 'mine', 1, 3)
    assert facts['compositions'].keys() == {'Li1', 'Li2O1'}
    assert facts['sources'][0]['file'] == 'runs/a/OUTCAR'
    assert len(facts['left_out']) == 2
    assert facts['duplicates'] == []
    status, output = invoke('data', 'info', shard.pk)
    energies = facts['energy_eV_per_atom']
    assert f'{energies["min"]:.4f} to {energies["max"]:.4f} eV/atom' in output
    assert 'repeated' in output
    assert '2 at import' in output
    node = deep_potential().store()
    status, output = invoke('data', 'info', node.pk, '--json')
    assert json.loads(output)['kind'] == 'deepmd'


@pytest.mark.parametrize(
    ('name', 'kind'),
    [('a', 'deepmd-npy'), ('b', 'deepmd-mixed'), ('c.h5', None), ('d.xyz', None), ('e.db', None), ('f', 'extxyz')],
)
def test_export_and_import_again(invoke, tmp_path, runs, name, kind):
    """All formats give back what was exported."""
    invoke('data', 'import', 'outcar', runs)
    (shard,) = shards()
    option = ('--format', kind) if kind else ()
    status, output = invoke('data', 'export', shard.pk, tmp_path / name, *option)
    assert status == 0, output
    command = kind or {'.h5': 'deepmd-hdf5', '.xyz': 'extxyz', '.db': 'ase-db'}[Path(name).suffix]
    status, output = invoke('data', 'import', command, tmp_path / name)
    assert status == 0, output
    (again,) = [node for node in shards() if node.pk != shard.pk]
    given, read = (node.get_frames() for node in (shard, again))
    given, read = (frames.select(np.argsort(frames.energies)) for frames in (given, read))
    for array in ('energies', 'forces', 'virials', 'positions', 'cells'):
        assert np.array_equal(getattr(given, array), getattr(read, array)), array
    status, output = invoke('data', 'export', shard.pk, tmp_path / 'x', '--format', 'files')
    assert status == 1
    assert 'deepmd-hdf5' in output


@pytest.mark.parametrize('name', ['out.foo', 'out.xyz.gz', 'OUTCAR.1', 'out.npz'])
def test_export_to_an_unknown_suffix(invoke, tmp_path, li_frames, name):
    """It is refused with the known ones and writes nothing; a folder of such a name takes its format."""
    shard = FramesData(labelled(li_frames)).store()
    status, output = invoke('data', 'export', shard.pk, tmp_path / name)
    assert status == 1
    for part in (Path(name).suffix, '.xyz (extxyz)', '.h5 (deepmd-hdf5)', '.db (ase-db)', 'without a suffix'):
        assert part in output
    assert not (tmp_path / name).exists()
    assert invoke('data', 'export', shard.pk, tmp_path / name, '--format', 'deepmd-npy')[0] == 0
    assert (tmp_path / name / 'g000').is_dir()


def test_export_of_a_potential_is_a_folder(invoke, tmp_path):
    node = deep_potential().store()
    status, output = invoke('data', 'export', node.pk, tmp_path / 'model.pb')
    assert status == 1
    assert 'whose name has no suffix' in output
    assert invoke('data', 'export', node.pk, tmp_path / 'model.pb', '--format', 'files')[0] == 0


def test_info_of_a_single_frame(invoke, li_frames):
    """One frame is no frames, and a size is told in a unit that shows it."""
    shard = FramesData(labelled(li_frames.select([0]))).store()
    status, output = invoke('data', 'info', shard.pk)
    assert status == 0
    assert '1 frames' not in output
    (line,) = (line for line in output.splitlines() if line.startswith('numbers'))
    assert line.split()[-1] == 'B'
    assert int(line.split()[-2]) > 100


def test_a_slab_in_a_format_that_knows_none(invoke, tmp_path, li_frames):
    """It is written as periodic, which is said."""
    arrays = labelled(li_frames).to_arrays()
    arrays['pbc'] = np.array([[True, True, False]] * 2)
    shard = FramesData(type(li_frames).from_arrays(arrays)).store()
    status, output = invoke('data', 'export', shard.pk, tmp_path / 'out')
    assert status == 0
    assert 'periodic in part: 2 of 2' in output


def test_what_a_format_does_not_hold_is_said(invoke, tmp_path, li_frames):
    """Velocities and numbers of single frames do not vanish without a word."""
    frames = labelled(li_frames)
    frames = replace(frames, velocities=np.ones_like(frames.positions), extra={'max_devi_f': np.array([0.1, 0.2])})
    shard = FramesData(frames).store()
    for path, said in (('out', 'max_devi_f, velocities of these'), ('out.xyz', 'max_devi_f of these')):
        status, output = invoke('data', 'export', shard.pk, tmp_path / path)
        assert status == 0
        assert said in output


def test_labels_under_names_of_their_own(invoke, tmp_path):
    """What to do is said, and doing so gives those labels and no others; unlabelled frames are led to their command."""
    path = tmp_path / 'a.xyz'
    frame = (
        '2\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:REF_forces:R:3{more} REF_energy=-3.5 '
        'REF_virial="1 0 0 0 2 0 0 0 3" stress="9 0 0 0 9 0 0 0 9" pbc="T T T"\n'
        'Li 0 0 0 0.1 0 0{rest}\nLi 0 0 3 -0.1 0 0{rest}\n'
    )
    path.write_text(frame.format(more='', rest='') * 2)
    options = '--energy-key REF_energy --forces-key REF_forces --virial-key REF_virial'
    status, output = invoke('data', 'import', 'extxyz', path)
    assert status == 1
    assert options in output
    # energy and forces of another calculator are there as well
    path.write_text(frame.format(more=':forces:R:3 energy=7.0', rest=' 5 5 5') * 2)
    status, output = invoke('data', 'import', 'frames', path, *options.split())
    assert status == 0, output
    (shard,) = shards()
    assert 'say `REF_energy` and no `free_energy`' in output
    frames = shard.get_frames()
    assert frames.energies.tolist() == [-3.5, -3.5]
    assert frames.forces[:, 0].tolist() == [0.1, -0.1] * 2
    assert np.diagonal(frames.virials[0]).tolist() == [1, 2, 3]
    status, output = invoke('data', 'import', 'extxyz', path, *options.split()[:4], '--label', 'bare')
    (bare,) = [node for node in shards() if node.label == 'bare']
    assert bare.get_frames().virials is None
    status, output = invoke('data', 'import', 'extxyz', path, '--energy-key', 'DFT_energy')
    assert status == 1
    assert "it has no 'DFT_energy' (--energy-key)" in output
    path.write_text('1\nLattice="9 0 0 0 9 0 0 0 9"\nLi 0 0 0\n')
    status, output = invoke('data', 'import', 'extxyz', path)
    assert status == 1
    assert '`data import structures`' in output


def test_import_of_the_folder_one_is_in(invoke, runs, monkeypatch):
    """The description names the folder; importing it by its name finds the same shard."""
    monkeypatch.chdir(runs)
    status, output = invoke('data', 'import', 'frames', '.')
    assert status == 0, output
    (shard,) = shards()
    assert shard.description == f'imported from {runs.name}'
    status, output = invoke('data', 'import', 'frames', runs)
    assert 'is there already' in output
