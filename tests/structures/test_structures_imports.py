"""Trees of files: what is found, taken, and left out, each file once and under a name that can be shown."""

import bz2
import gzip
import hashlib
import lzma
import os
import subprocess
from contextlib import suppress
from dataclasses import replace

import ase.io
import dpdata
import numpy as np
import pytest
from vasp_text import make_run, outcar, vasprun

from aiida_liheal.structures.formats import write_deepmd_hdf5, write_deepmd_mixed, write_deepmd_npy, write_extxyz
from aiida_liheal.structures.frame_facts import doubts_in_words, find_doubts, find_duplicates, frame_facts
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.imports import printable, read_frames


def labelled(n_frames, symbols=('Li', 'Li'), seed=0, virials=True):
    rng = np.random.default_rng(seed)
    elements = tuple(sorted(set(symbols)))
    n_atoms = n_frames * len(symbols)
    return Frames(
        elements=elements,
        counts=np.full(n_frames, len(symbols), dtype=np.int32),
        types=np.array([elements.index(s) for s in symbols] * n_frames, dtype=np.int32),
        positions=rng.random((n_atoms, 3)),
        cells=np.tile(8.0 * np.eye(3), (n_frames, 1, 1)),
        pbc=np.ones((n_frames, 3), dtype=bool),
        energies=rng.normal(size=n_frames),
        forces=rng.normal(size=(n_atoms, 3)),
        virials=rng.normal(size=(n_frames, 3, 3)) if virials else None,
    )


@pytest.fixture
def tree(tmp_path):
    """Runs of VASP in folders: one good, one with an unconverged step, one cut off in its head, and other files."""
    root = tmp_path / 'runs'
    for name, text in (
        ('a/OUTCAR', outcar(make_run(seed=1))),
        ('b/deep/OUTCAR', outcar(make_run(('Li',), seed=2, n_electronic=(4, 8, 8)))),
        ('c/OUTCAR', outcar(make_run(seed=3))[:200]),
        ('c/INCAR', 'NELM = 8\n'),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_tree_of_runs(tree):
    found = read_frames(tree)
    (shard,) = found.shards
    assert [source['file'] for source in shard.sources] == ['runs/a/OUTCAR', 'runs/b/deep/OUTCAR']
    assert [source['n_frames'] for source in shard.sources] == [3, 1]
    assert shard.frames.counts.tolist() == [3, 3, 3, 1]
    assert shard.frames.extra['source_file'].tolist() == [0, 0, 0, 1]
    assert shard.frames.extra['source_index'].tolist() == [0, 1, 2, 0]
    assert [(entry['file'], entry['indices']) for entry in found.left_out] == [
        ('runs/b/deep/OUTCAR', [1, 2]),
        ('runs/c/OUTCAR', None),
    ]
    assert 'NELM = 8' in found.left_out[0]['cause']
    assert (found.n_frames, found.n_left_out) == (4, 3)
    digest = hashlib.sha256((tree / 'a' / 'OUTCAR').read_bytes()).hexdigest()
    assert shard.sources[0]['sha256'] == digest


def test_one_run_is_read_once(tree):
    """A vasprun.xml beside an OUTCAR is not read unless it is asked for, and links lead to no second copy or loop."""
    (tree / 'a' / 'vasprun.xml').write_text(vasprun(make_run(seed=1)))
    (tree / 'again').symlink_to(tree / 'a')
    (tree / 'b' / 'loop').symlink_to(tree)
    (tree / 'b' / 'OUTCAR').symlink_to(tree / 'a' / 'OUTCAR')
    found = read_frames(tree)
    assert found.n_frames == 4
    assert any('1 vasprun.xml beside an OUTCAR' in note for note in found.notes)
    assert read_frames(tree, 'vasprun').shards[0].sources[0]['format'] == 'vasprun'


def test_what_is_no_file(tree):
    """A pipe does not keep the import waiting, and a link that leads nowhere does not end it."""
    os.mkfifo(tree / 'a' / 'OUTCAR.1')
    (tree / 'a' / 'OUTCAR.2').symlink_to(tree / 'nowhere')
    found = read_frames(tree)
    assert found.n_frames == 4
    told = {entry['file'] for entry in found.left_out if 'it is no file' in entry['cause']}
    assert told == {'runs/a/OUTCAR.1', 'runs/a/OUTCAR.2'}
    with pytest.raises(ValueError, match='neither a file nor a folder'):
        read_frames(tree / 'a' / 'OUTCAR.1')


def test_with_and_without_stress(tree):
    """Two shards: no frame loses its virial, and none is left out."""
    (tree / 'a' / 'OUTCAR').write_text(outcar(make_run(isif=0)))
    with_virials, without = read_frames(tree).shards
    assert len(with_virials.frames) == 1
    assert with_virials.frames.virials is not None
    assert len(without.frames) == 3
    assert without.frames.virials is None


def test_names_that_harm_a_terminal(tmp_path):
    """Names with control characters or bytes that are no text are read and shown written out."""
    folder = os.fsencode(tmp_path) + b'/x\x1b[31m\n\xff'
    os.mkdir(folder)
    with open(folder + b'/OUTCAR', 'w') as handle:
        handle.write(outcar(make_run()))
    (shard,) = read_frames(tmp_path).shards
    name = shard.sources[0]['file']
    assert name.isprintable()
    assert name.endswith(r'x\x1b[31m\n\xff/OUTCAR')
    assert printable('Å/a b') == 'Å/a b'


@pytest.mark.parametrize('kind', [None, 'deepmd-npy'])
def test_systems_of_deepmd(tmp_path, kind):
    """Plain and mixed systems, in order; the SHA-256 of one is that of the list that `sha256sum` writes."""
    parts = [labelled(2), labelled(3, ('Li', 'Na'), seed=1)]
    write_deepmd_npy(parts[0], tmp_path / 'data' / 'plain')
    write_deepmd_mixed(parts[1], tmp_path / 'data' / 'mixed')
    (shard,) = read_frames(tmp_path / 'data', kind).shards
    assert [source['file'] for source in shard.sources] == ['data/mixed/2', 'data/plain/g000']
    assert np.array_equal(shard.frames.energies, np.concatenate([parts[1].energies, parts[0].energies]))
    assert shard.frames.types.dtype == np.uint8
    (mixed,) = read_frames(tmp_path / 'data', 'deepmd-mixed').shards
    assert len(mixed.frames) == 3
    folder = tmp_path / 'data' / 'plain' / 'g000'
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file())
    listing = subprocess.run(['sha256sum', *names], cwd=folder, capture_output=True, check=True).stdout
    assert shard.sources[1]['sha256'] == hashlib.sha256(listing).hexdigest()


def test_a_system_without_elements(tmp_path):
    write_deepmd_npy(labelled(2), tmp_path / 'data')
    (tmp_path / 'data' / 'g000' / 'type_map.raw').unlink()
    with pytest.raises(ValueError, match=r'no type_map\.raw.*--elements'):
        read_frames(tmp_path / 'data' / 'g000')
    (shard,) = read_frames(tmp_path / 'data', elements=('Na',)).shards
    assert shard.frames.elements == ('Na',)
    write_deepmd_hdf5(labelled(2), tmp_path / 'data' / 'named.h5')
    found = read_frames(tmp_path / 'data', elements=('Na',))
    assert found.shards[0].frames.elements == ('Li', 'Na')
    assert found.notes == [
        'data/named.h5#/g000: its type_map.raw says Li: the elements that were given are not used',
    ]


def test_a_broken_data_set_is_not_taken_in_part(tmp_path):
    """A system with an array of another length, or with pickles, is left out as a whole; refused if given itself."""
    for name, array in (('energy', np.zeros(7)), ('energy', np.array([{}, {}], dtype=object))):
        folder = tmp_path / str(array.dtype)
        write_deepmd_npy(labelled(2), folder)
        np.save(folder / 'g000' / 'set.000' / f'{name}.npy', array, allow_pickle=True)
        with pytest.raises(ValueError, match=r'g000: .*set.000/energy.npy'):
            read_frames(folder / 'g000')
        found = read_frames(folder)
        assert found.n_frames == 0
        (entry,) = found.left_out
        assert entry['file'] == f'{folder.name}/g000'
        assert entry['cause'].startswith('set.000/energy.npy')


@pytest.mark.parametrize('name', ['a.xyz', 'a.h5', 'a.db', 'a.extxyz.gz'])
@pytest.mark.parametrize('content', [b'', b'no data at all', bytes(range(256))])
def test_one_bad_file_does_not_stop_a_tree(tmp_path, name, content):
    """Whatever its format, it is left out and told with its cause; given itself, there is nothing to take."""
    root = tmp_path / 'tree'
    write_deepmd_npy(labelled(2), root / 'good')
    write_extxyz(labelled(3, seed=1), root / 'good.xyz')
    (root / name).write_bytes(content)
    found = read_frames(root)
    assert found.n_frames == 5
    (entry,) = found.left_out
    assert (entry['file'], entry['indices']) == (f'tree/{name}', None)
    assert entry['cause']
    assert str(root) not in entry['cause']
    with suppress(ValueError):
        assert read_frames(root / name).n_frames == 0


def test_dpgen(tmp_path):
    """What a run of DP-GEN began with and added; data of a round that is not collected are read from its tasks."""
    root = tmp_path / 'run'
    init = tmp_path / 'init'
    write_deepmd_npy(labelled(2, seed=1), init / 'sys')
    for number in range(3):
        folder = root / f'iter.{number:06d}'
        (folder / '00.train' / 'data.init').mkdir(parents=True)
        (folder / '00.train' / 'data.init' / 'first').symlink_to(init)
        (folder / '02.fp').mkdir()
        if number:
            (folder / '00.train' / 'data.iters').mkdir()
            (folder / '00.train' / 'data.iters' / 'last').symlink_to(root / f'iter.{number - 1:06d}' / '02.fp')
        task = folder / '02.fp' / 'task.000.000000'
        task.mkdir()
        (task / 'OUTCAR').write_text(outcar(make_run(('Li', 'Li'), n_steps=1, seed=number)))
    for number in range(2):
        (system,) = write_deepmd_npy(labelled(3, seed=10 + number), root / f'iter.{number:06d}' / '02.fp' / 'tmp')
        system.rename(root / f'iter.{number:06d}' / '02.fp' / 'data.000')
    (root / 'iter.000002' / '00.train' / 'data.init' / 'moved').symlink_to(tmp_path / 'nowhere')
    for kind in (None, 'dpgen'):
        found = read_frames(root, kind)
        (shard,) = found.shards
        assert [source['file'].split('/', 2)[-1] for source in shard.sources] == [
            '00.train/data.init/first/sys/g000', '02.fp/data.000', '02.fp/data.000', '02.fp/task.000.000000/OUTCAR',
        ]  # fmt: skip
        assert [source['n_frames'] for source in shard.sources] == [2, 3, 3, 1]
        (entry,) = found.left_out
        assert 'leads nowhere' in entry['cause']
    with pytest.raises(ValueError, match=r'no working folder of DP-GEN: it has no iter.\*/02.fp'):
        read_frames(tmp_path / 'init', 'dpgen')


def test_files_by_name_and_by_format(tmp_path):
    frames = labelled(2)
    write_extxyz(frames, tmp_path / 'frames.xyz')
    write_deepmd_hdf5(frames, tmp_path / 'frames.h5')
    for name, kind, shown in (('frames.xyz', 'extxyz', 'frames.xyz'), ('frames.h5', 'deepmd-hdf5', 'frames.h5#/g000')):
        (shard,) = read_frames(tmp_path / name).shards
        assert (shard.sources[0]['file'], shard.sources[0]['format']) == (shown, kind)
        assert np.array_equal(shard.frames.forces, frames.forces)
    assert read_frames(tmp_path).n_frames == 4
    (tmp_path / 'other').write_bytes((tmp_path / 'frames.xyz').read_bytes())
    with pytest.raises(ValueError, match='its format is not known by its name'):
        read_frames(tmp_path / 'other')
    assert read_frames(tmp_path / 'other', 'extxyz').n_frames == 2


def test_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match='there is no such file or folder'):
        read_frames(tmp_path / 'nowhere')
    with pytest.raises(ValueError, match='no labelled frames of a known format there'):
        read_frames(tmp_path)
    with pytest.raises(ValueError, match="format is 'zip'; allowed are deepmd-npy"):
        read_frames(tmp_path, 'zip')
    (tmp_path / 'a.txt').write_text('x')
    with pytest.raises(ValueError, match=r'is a file; .* are folders'):
        read_frames(tmp_path / 'a.txt', 'deepmd-npy')


def test_dpdata_reads_what_ase_and_we_say(tmp_path):
    """An OUTCAR through us into DeePMD-kit's format is what dpdata makes of it."""
    (tmp_path / 'OUTCAR').write_text(outcar(make_run(('Li', 'O'), triclinic=True)))
    (shard,) = read_frames(tmp_path / 'OUTCAR').shards
    (path,) = write_deepmd_npy(shard.frames, tmp_path / 'ours')
    ours = dpdata.LabeledSystem(str(path), fmt='deepmd/npy')
    theirs = dpdata.LabeledSystem(str(tmp_path / 'OUTCAR'), fmt='vasp/outcar')
    for name in ('energies', 'forces', 'virials', 'cells', 'coords'):
        assert np.allclose(ours.data[name], theirs.data[name], rtol=1e-12, atol=1e-12), name
    volumes = [atoms.get_volume() for atoms in ase.io.read(tmp_path / 'OUTCAR', ':', format='vasp-out')]
    assert np.allclose(shard.frames.volumes, volumes)


PACK = {'.gz': gzip.compress, '.bz2': bz2.compress, '.xz': lzma.compress}


@pytest.mark.parametrize('ending', PACK)
def test_packed_files_of_a_tree(tmp_path, ending):
    """As VASP's users keep their runs; one cut off gives what is whole, one that is no packed file is told."""
    run = make_run(n_steps=30, n_electronic=(4,) * 30)
    write_extxyz(labelled(3), tmp_path / 'plain.xyz')
    contents = {
        'a/OUTCAR': outcar(run), 'b/vasprun.xml': vasprun(run), 'c/x.extxyz': (tmp_path / 'plain.xyz').read_text(),
    }  # fmt: skip
    (tmp_path / 'plain.xyz').unlink()
    for name, text in contents.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / (name + ending)).write_bytes(PACK[ending](text.encode()))
    found = read_frames(tmp_path)
    assert [source['n_frames'] for source in found.shards[0].sources] == [30, 30, 3]
    whole = (tmp_path / f'a/OUTCAR{ending}').read_bytes()
    (tmp_path / f'a/OUTCAR{ending}').write_bytes(whole[: len(whole) // 2])
    (tmp_path / f'b/vasprun.xml{ending}').write_bytes(b'nothing of the kind')
    found = read_frames(tmp_path)
    told = {entry['file'].split('/', 1)[1]: entry['cause'] for entry in found.left_out}
    # one block of bzip2 holds all of so small a file
    assert (found.n_frames > 3) == (ending != '.bz2')
    assert 'cannot be unpacked' in told[f'b/vasprun.xml{ending}']
    assert 'within it' in told.get(f'a/OUTCAR{ending}', '') or 'unpacked' in told[f'a/OUTCAR{ending}']


def test_runs_of_several_steps_in_one_folder(tmp_path):
    """Files of the same run by their names, each run once; one that has no OUTCAR is read from its vasprun.xml."""
    for number, name in enumerate(('OUTCAR.relax1.gz', 'OUTCAR_2', 'OUTCAR3')):
        text = outcar(make_run(n_steps=1, seed=number)).encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith('.gz') else text)
    for number, name in enumerate(('vasprun.xml.relax1', 'vasprun_2.xml', 'vasprun.xml.static')):
        (tmp_path / name).write_text(vasprun(make_run(n_steps=2, seed=number)))
    found = read_frames(tmp_path)
    taken = {source['file'].split('/')[-1]: source['n_frames'] for source in found.shards[0].sources}
    assert taken == {'OUTCAR.relax1.gz': 1, 'OUTCAR_2': 1, 'OUTCAR3': 1, 'vasprun.xml.static': 2}
    assert found.notes == [
        '2 vasprun.xml beside an OUTCAR of the same name are taken for the same runs and were not read'
    ]


def test_type_maps_in_other_orders(tmp_path):
    """What type 0 is differs from system to system; each atom keeps its element."""
    first, second = labelled(2, ('Li', 'Na')), labelled(2, ('Na', 'Li', 'O'), seed=1)
    write_deepmd_npy(first, tmp_path / 'data' / 'a', ('Na', 'K', 'Li'))
    write_deepmd_npy(second, tmp_path / 'data' / 'b', ('O', 'Li', 'Na'))
    write_deepmd_hdf5(first, tmp_path / 'data' / 'c.h5')
    frames = read_frames(tmp_path / 'data').shards[0].frames
    assert frames.elements == ('Li', 'Na', 'O')
    assert [frames.symbols(index) for index in (0, 2, 4)] == [['Li', 'Na'], ['Li', 'Na'], ['Na', 'Li', 'O']]


def test_further_arrays_of_systems_are_told(tmp_path):
    """Parameters of frames, energies of atoms, a set without virials: taken without them, which is said."""
    write_deepmd_npy(labelled(3), tmp_path / 'data')
    assert read_frames(tmp_path / 'data').notes == []
    (tmp_path / 'data' / 'g000' / 'set.000' / 'fparam.npy').write_bytes(b'')
    np.save(tmp_path / 'data' / 'g000' / 'set.000' / 'atom_ener.npy', np.zeros((3, 2)))
    other = write_deepmd_npy(labelled(2, seed=1), tmp_path / 'other')[0]
    (other / 'set.000' / 'virial.npy').unlink()
    (other / 'set.000').rename(tmp_path / 'data' / 'g000' / 'set.001')
    found = read_frames(tmp_path / 'data')
    assert found.n_frames == 5
    assert found.shards[0].frames.virials is None
    said = ' '.join(found.notes)
    assert 'atom_ener.npy, fparam.npy' in said
    assert 'set.001 of 2 sets has no virial.npy' in said
    for name in ('box', 'coord', 'energy', 'force'):
        np.save(tmp_path / 'data' / 'g000' / 'set.001' / f'{name}.npy', np.zeros((0, 9)))
    empty = tmp_path / 'empty'
    (tmp_path / 'data' / 'g000').rename(empty)
    for file in (empty / 'set.000').iterdir():
        file.unlink()
    (empty / 'set.000').rmdir()
    found = read_frames(empty)
    assert found.n_frames == 0
    assert found.left_out == [{'file': 'empty', 'indices': None, 'cause': 'it holds no frame'}]


def test_names_relative_and_absolute(tree, monkeypatch):
    """What a file is called does not depend on how its folder was named."""
    absolute = read_frames(tree).shards[0].sources
    for folder, name in ((tree.parent, 'runs'), (tree, '.'), (tree / 'a', '..')):
        monkeypatch.chdir(folder)
        assert read_frames(name).shards[0].sources == absolute
    monkeypatch.chdir(tree / 'a')
    assert read_frames('OUTCAR').shards[0].sources[0]['file'] == 'OUTCAR'


def test_a_folder_that_cannot_be_looked_into(tree, monkeypatch):
    """A part of a tree is not taken for the whole."""
    scan = os.scandir

    def refuse(path):
        if str(path).endswith('deep'):
            raise PermissionError(13, 'Permission denied', str(path))
        return scan(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(ValueError, match=r'deep: it cannot be read: Permission denied'):
        read_frames(tree)


def test_the_same_run_from_two_kinds_of_files(tmp_path):
    """Duplicates across files are found, though their digits differ, and none where there are none."""
    run = make_run(n_steps=5, n_electronic=(4,) * 5)
    others = {'a/OUTCAR': outcar(run), 'b/vasprun.xml': vasprun(run), 'c/OUTCAR': outcar(make_run(seed=8))}
    for name, text in others.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    frames = read_frames(tmp_path).shards[0].frames
    assert not np.array_equal(frames.positions[:15], frames.positions[15:30])
    assert find_duplicates(frames) == [[number, number + 5] for number in range(5)]


def test_frames_that_are_hardly_meant():
    """Forces and distances beyond the default rules are named by frame, images of a cell included."""
    frames = labelled(4)
    forces = frames.forces.copy()
    forces[4] = 20.1, 0, 0  # frame 2
    positions = np.array([[0, 0, 0], [3, 0, 0], [0, 0, 0], [7.0, 0, 0], [0, 0, 0], [0, 1.3, 0], [0, 0, 0], [0, 0, 4.0]])
    frames = replace(frames, forces=forces, positions=positions)
    doubts = find_doubts(frames)
    assert doubts['shortest_distance_A'] == pytest.approx(1.0)
    assert doubts['shortest_distance_frame'] == 1
    assert (doubts['too_strong'], doubts['too_close']) == ([2], [1])
    assert doubts_in_words(doubts) == [
        'frame 2 has a force above 20.0 eV/Å', 'frame 1 has two atoms closer than 1.2 Å',
    ]  # fmt: skip
    # at first nothing is near: a lone atom without periods, then one whose image is 40 Å away, then a pair at 8 Å
    sparse = labelled(3)
    sparse = replace(
        sparse,
        positions=np.array([[0, 0, 0], [30.0, 0, 0], [0, 0, 0], [20, 20, 20], [0, 0, 0], [8, 0, 0]]),
        cells=40 * sparse.cells / 8,
        pbc=np.array([[False] * 3, [True] * 3, [True] * 3]),
    )
    assert find_doubts(sparse)['shortest_distance_A'] == pytest.approx(8)
    assert find_doubts(sparse)['shortest_distance_frame'] == 2
    assert doubts_in_words(find_doubts(sparse)) == []
    alone = replace(labelled(1, ('Li',)), pbc=np.zeros((1, 3), dtype=bool))
    assert find_doubts(alone)['shortest_distance_A'] is None


def test_no_spread_of_a_single_frame():
    facts = frame_facts(Frames.concatenate([labelled(1, ('Li',)), labelled(2)]))
    assert [sorted(found) for found in facts['compositions'].values()] == [['n_frames'], ['n_frames', 'spread_K']]
