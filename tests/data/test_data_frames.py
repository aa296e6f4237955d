"""A shard keeps its frames as they were given, at the size of the numbers, and can be traced and cached."""

import io

import numpy as np
import pytest
from aiida.common.exceptions import ModificationNotAllowed, ValidationError
from aiida.orm import QueryBuilder, StructureData, load_node
from ase.build import bulk

from aiida_liheal.data.frames import FramesData
from aiida_liheal.structures.frames import Frames


def random_frames(precision):
    """Three frames of two elements, 3 to 5 atoms, every optional array there, in one precision."""
    rng = np.random.default_rng(1)
    counts = np.array([3, 5, 4], dtype=np.int32)
    n_atoms = int(counts.sum())

    def numbers(*shape):
        return rng.normal(size=shape).astype(precision)

    return Frames(
        elements=('Li', 'Na'),
        counts=counts,
        types=rng.integers(0, 2, n_atoms).astype(np.int32),
        positions=numbers(n_atoms, 3) * 10,
        cells=numbers(3, 3, 3) + 10 * np.eye(3, dtype=precision),
        pbc=np.array([[True, True, False]] * 3),
        energies=numbers(3),
        forces=numbers(n_atoms, 3),
        virials=numbers(3, 3, 3),
        velocities=numbers(n_atoms, 3),
        extra={'source_index': np.array([2, 0, 1]), 'max_devi_f': numbers(3)},
    )


@pytest.mark.parametrize('precision', [np.float32, np.float64])
def test_there_and_back_to_the_last_bit(precision):
    frames = random_frames(precision)
    node = FramesData(frames, domain='surface').store()
    read = load_node(node.pk).get_frames()
    assert read.elements == frames.elements
    given, got = frames.to_arrays(), read.to_arrays()
    assert sorted(got) == sorted(given)
    for name, array in given.items():
        assert got[name].dtype == array.dtype, name
        assert got[name].tobytes() == array.tobytes(), name
    assert read.positions.dtype == precision


def test_what_is_told_without_reading_the_arrays():
    node = FramesData(random_frames(np.float64), domain='surface').store()
    assert len(node) == 3
    assert (node.domain, node.elements, node.is_labelled) == ('surface', ('Li', 'Na'), True)
    query = QueryBuilder().append(
        FramesData, filters={'id': node.pk, 'attributes.n_atoms_max': 5}, project='attributes.n_atoms_min'
    )
    assert query.all(flat=True) == [3]


def test_size_is_that_of_the_numbers():
    """A node costs the raw arrays and 128 bytes of header each, however many frames."""
    rng = np.random.default_rng(0)
    n_frames, n_atoms = 200, 16
    frames = Frames(
        elements=('Li',),
        counts=np.full(n_frames, n_atoms, dtype=np.int32),
        types=np.zeros(n_frames * n_atoms, dtype=np.int32),
        positions=rng.normal(size=(n_frames * n_atoms, 3)).astype(np.float32),
        cells=np.tile(np.eye(3, dtype=np.float32) * 10, (n_frames, 1, 1)),
        pbc=np.ones((n_frames, 3), dtype=bool),
    )
    node = FramesData(frames).store()
    names = node.base.repository.list_object_names()
    stored = sum(len(node.base.repository.get_object_content(name, 'rb')) for name in names)
    raw = sum(array.nbytes for array in frames.to_arrays().values())
    assert stored == raw + 128 * len(names)


def test_no_pickle_is_written_and_none_is_read(monkeypatch):
    node = FramesData(random_frames(np.float32))
    for name in node.base.repository.list_object_names():
        assert name.endswith('.npy')
        content = node.base.repository.get_object_content(name, 'rb')
        assert np.load(io.BytesIO(content), allow_pickle=False).size
    pickled = io.BytesIO()
    np.save(pickled, np.array([{'harm': 1}], dtype=object), allow_pickle=True)
    node.base.repository.put_object_from_filelike(io.BytesIO(pickled.getvalue()), 'positions.npy')
    with pytest.raises(ValueError, match='allow_pickle=False'):
        node.get_frames()


def test_a_stored_shard_cannot_be_changed():
    node = FramesData(random_frames(np.float32)).store()
    with pytest.raises(ModificationNotAllowed):
        node.base.repository.put_object_from_filelike(io.BytesIO(b'other'), 'positions.npy')
    with pytest.raises(ModificationNotAllowed):
        node.base.attributes.set('domain', 'bulk')


def test_without_frames_it_is_not_stored():
    with pytest.raises(ValidationError, match='holds no frames'):
        FramesData().store()


def test_empty_shard(li_frames):
    node = FramesData(li_frames.select([])).store()
    assert len(node) == 0
    assert len(node.get_frames()) == 0
    assert node.domain is None
    assert not node.is_labelled


def test_one_frame_as_atoms():
    frames = random_frames(np.float64)
    node = FramesData(frames)
    atoms = node.get_atoms(1)
    assert atoms.positions == pytest.approx(frames.positions[3:8])
    assert atoms.get_forces() == pytest.approx(frames.forces[3:8])
    assert atoms.pbc.tolist() == [True, True, False]
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f'0 to 2, got {index}'):
            node.get_atoms(index)


def test_from_structure():
    node = FramesData.from_structure(StructureData(ase=bulk('Li', 'bcc', a=3.44, cubic=True)), domain='bulk').store()
    assert (len(node), node.elements, node.is_labelled, node.domain) == (1, ('Li',), False, 'bulk')
    assert node.get_atoms().get_volume() == pytest.approx(3.44**3)


def test_the_same_frames_have_the_same_hash():
    """What caching goes by: the numbers and the domain, nothing else."""

    def hash_of(frames, domain):
        return FramesData(frames, domain=domain).store().base.caching.get_hash()

    frames = random_frames(np.float64)
    assert hash_of(frames, 'bulk') == hash_of(random_frames(np.float64), 'bulk')
    assert hash_of(frames, 'bulk') != hash_of(frames, 'surface')
    arrays = frames.to_arrays()
    nudged = {**arrays, 'positions': np.nextafter(arrays['positions'], np.inf)}
    assert hash_of(frames, 'bulk') != hash_of(Frames.from_arrays(nudged), 'bulk')
    assert hash_of(frames, 'bulk') != hash_of(random_frames(np.float32), 'bulk')
