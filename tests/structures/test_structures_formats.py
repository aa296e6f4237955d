"""DeePMD-kit's format: what is written is read again to the last bit of what was stored."""

import numpy as np
import pytest
from ase import Atoms

from aiida_liheal.structures.formats import (
    group_by_composition,
    read_deepmd_npy,
    to_labeled_system,
    write_deepmd_npy,
)
from aiida_liheal.structures.frames import Frames


def labelled(symbols, n_frames, precision, seed=0, pbc=True):
    rng = np.random.default_rng(seed)
    n_atoms = n_frames * len(symbols)
    elements = tuple(sorted(set(symbols)))

    def numbers(*shape):
        return rng.normal(size=shape).astype(precision)

    return Frames(
        elements=elements,
        counts=np.full(n_frames, len(symbols), dtype=np.int32),
        types=np.array([elements.index(s) for s in symbols] * n_frames, dtype=np.int32),
        positions=numbers(n_atoms, 3) * 5,
        cells=numbers(n_frames, 3, 3) + 20 * np.eye(3, dtype=precision),
        pbc=np.full((n_frames, 3), pbc),
        energies=numbers(n_frames) * 100,
        forces=numbers(n_atoms, 3),
        virials=numbers(n_frames, 3, 3),
    )


@pytest.mark.parametrize('precision', [np.float32, np.float64])
def test_there_and_back_to_the_last_bit(tmp_path, precision):
    frames = labelled(['Li', 'Li', 'Na'], 4, precision)
    (path,) = write_deepmd_npy(frames, tmp_path)
    read = read_deepmd_npy(path)
    assert read.elements == frames.elements
    for name in ('counts', 'types', 'positions', 'cells', 'pbc', 'energies', 'forces', 'virials'):
        assert getattr(read, name).dtype == getattr(frames, name).dtype, name
        assert np.array_equal(getattr(read, name), getattr(frames, name)), name


def test_frames_of_different_compositions_become_systems(tmp_path):
    """One system a sequence of types, frames in the order they came in."""
    parts = [labelled(['Li'] * 2, 2, np.float64, 1), labelled(['Li'] * 3, 1, np.float64, 2)]
    frames = Frames.concatenate([parts[0].select([0]), parts[1], parts[0].select([1])])
    assert [group.tolist() for group in group_by_composition(frames)] == [[0, 2], [1]]
    paths = write_deepmd_npy(frames, tmp_path)
    assert [path.name for path in paths] == ['g000', 'g001']
    first, second = (read_deepmd_npy(path) for path in paths)
    assert np.array_equal(first.energies, frames.energies[[0, 2]])
    assert np.array_equal(second.forces, frames.forces[2:5])


def test_order_of_the_atoms_is_kept_and_part_of_the_composition(tmp_path):
    """Na Li and Li Na are two systems: DeePMD-kit has one list of types a system."""
    frames = Frames.concatenate([labelled(['Na', 'Li'], 1, np.float64, 1), labelled(['Li', 'Na'], 1, np.float64, 2)])
    paths = write_deepmd_npy(frames, tmp_path)
    assert len(paths) == 2
    assert [read_deepmd_npy(path).symbols(0) for path in paths] == [['Na', 'Li'], ['Li', 'Na']]


def test_type_map_of_the_model(tmp_path):
    """The types are numbered as the model has them, also where the frames lack an element."""
    frames = labelled(['Na', 'Na'], 1, np.float64)
    (path,) = write_deepmd_npy(frames, tmp_path, ('Li', 'Na', 'K'))
    assert (path / 'type.raw').read_text().split() == ['1', '1']
    assert (path / 'type_map.raw').read_text().split() == ['Li', 'Na', 'K']
    assert read_deepmd_npy(path).symbols(0) == ['Na', 'Na']
    with pytest.raises(ValueError, match='elements Na are not in the type map Li, K'):
        write_deepmd_npy(frames, tmp_path / 'other', ('Li', 'K'))


def test_without_virials(tmp_path):
    arrays = labelled(['Li', 'Li'], 2, np.float64).to_arrays()
    del arrays['virials']
    (path,) = write_deepmd_npy(Frames.from_arrays(arrays), tmp_path)
    assert not list(path.glob('set.*/virial.npy'))
    assert read_deepmd_npy(path).virials is None


def test_a_cluster_is_written_and_not_read(tmp_path):
    """The format keeps no cell for what has no period."""
    (path,) = write_deepmd_npy(labelled(['Li', 'Li'], 2, np.float64, pbc=False), tmp_path)
    with pytest.raises(ValueError, match='not periodic'):
        read_deepmd_npy(path)


def test_a_slab_counts_as_periodic(tmp_path):
    """DeePMD-kit knows all directions or none; vacuum in the cell does the rest."""
    frames = labelled(['Li', 'Li'], 1, np.float64)
    slab = Frames.from_arrays({**frames.to_arrays(), 'pbc': np.array([[True, True, False]])})
    (path,) = write_deepmd_npy(slab, tmp_path)
    assert not (path / 'nopbc').exists()
    assert read_deepmd_npy(path).pbc.all()


def test_unlabelled_and_mixed_frames_are_refused():
    bare = Frames.from_atoms([Atoms('Li2', positions=[[0, 0, 0], [0, 0, 3]], cell=[9, 9, 9], pbc=True)])
    with pytest.raises(ValueError, match='1 frames have no energies and forces'):
        to_labeled_system(bare)
    mixed = Frames.concatenate([labelled(['Li'], 1, np.float64), labelled(['Li', 'Li'], 1, np.float64)])
    with pytest.raises(ValueError, match='differ in composition'):
        to_labeled_system(mixed)


def test_what_is_no_system_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'needs type\.raw and set\.000'):
        read_deepmd_npy(tmp_path)
    (path,) = write_deepmd_npy(labelled(['Li', 'Li'], 1, np.float64), tmp_path)
    (path / 'set.000' / 'force.npy').unlink()
    with pytest.raises(ValueError, match=r'force\.npy is missing in set\.000'):
        read_deepmd_npy(path)
