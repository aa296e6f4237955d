"""DeePMD-kit's format: what is written is read again to the last bit of what was stored. Files of structures."""

import ase.io
import dpdata
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_liheal.structures.formats import (
    group_by_composition,
    read_deepmd_npy,
    read_structures,
    to_labeled_system,
    write_deepmd_hdf5,
    write_deepmd_mixed,
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


def test_a_cluster_without_a_cell(tmp_path):
    """What we write of clusters keeps their cell; systems of others without one are refused."""
    frames = labelled(['Li', 'Li'], 2, np.float64, pbc=False)
    (path,) = write_deepmd_npy(frames, tmp_path)
    read = read_deepmd_npy(path)
    assert not read.pbc.any()
    assert np.array_equal(read.cells, frames.cells)
    assert dpdata.LabeledSystem(str(path), fmt='deepmd/npy').nopbc
    (path / 'set.000' / 'box.npy').unlink()
    with pytest.raises(ValueError, match=r'set\.000 is not periodic \(nopbc\) and keeps no cell \(box\.npy\)'):
        read_deepmd_npy(path)


def test_elements_that_no_atom_has(tmp_path):
    """A type map of many elements does not make a shard of many elements; types keep their atoms."""
    frames = labelled(['Na', 'Li'], 2, np.float64)
    (path,) = write_deepmd_npy(frames, tmp_path, ('H', 'Na', 'O', 'Li'))
    read = read_deepmd_npy(path)
    assert read.elements == ('Na', 'Li')
    assert read.symbols(1) == ['Na', 'Li']


def test_a_slab_counts_as_periodic(tmp_path):
    """DeePMD-kit knows all directions or none; vacuum in the cell does the rest."""
    frames = labelled(['Li', 'Li'], 1, np.float64)
    slab = Frames.from_arrays({**frames.to_arrays(), 'pbc': np.array([[True, True, False]])})
    (path,) = write_deepmd_npy(slab, tmp_path)
    assert not (path / 'nopbc').exists()
    assert read_deepmd_npy(path).pbc.all()


def test_unlabelled_and_mixed_frames_are_refused():
    bare = Frames.from_atoms([Atoms('Li2', positions=[[0, 0, 0], [0, 0, 3]], cell=[9, 9, 9], pbc=True)])
    with pytest.raises(ValueError, match='1 frame has no energies and forces'):
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


@pytest.fixture
def crystal():
    """Four cells of lithium with one atom moved, in a box that does not begin at 0 for LAMMPS."""
    atoms = bulk('Li', 'bcc', a=3.44, cubic=True) * (2, 2, 1)
    atoms.positions[0] += [0.1, 0.2, 0.3]
    return atoms


@pytest.mark.parametrize(
    ('name', 'kind', 'elements'),
    [
        ('a.xyz', None, None),
        ('a.extxyz', None, None),
        ('POSCAR', None, None),
        ('start.txt', 'poscar', None),
        ('a.cif', None, None),
        ('a.data', None, ('Li',)),
        ('final.out', 'lammps-data', ('Li',)),
    ],
)
def test_structures_from_files(tmp_path, crystal, name, kind, elements):
    """Elements, cell, pbc and positions come back whatever the format."""
    path = tmp_path / name
    written = {None: {'xyz': 'extxyz', 'data': 'lammps-data'}.get(name.split('.')[-1]), 'poscar': 'vasp'}.get(
        kind, kind
    )
    ase.io.write(path, crystal, format=written)
    (atoms,) = read_structures(path, kind, elements)
    assert set(atoms.symbols) == {'Li'}
    assert atoms.pbc.all()
    assert np.allclose(atoms.cell.array, crystal.cell.array, atol=1e-5)
    shift = crystal.get_scaled_positions() - atoms.get_scaled_positions()
    assert np.allclose(shift - np.round(shift), 0, atol=1e-5)


def test_a_box_of_lammps_begins_anywhere(tmp_path):
    """Heights are counted from the bottom of the box."""
    path = tmp_path / 'a.data'
    path.write_text(
        '# shifted\n\n1 atoms\n1 atom types\n5 15 xlo xhi\n-3 7 ylo yhi\n2 12 zlo zhi\n\n'
        'Atoms # atomic\n\n1 1 6.0 0.0 4.5\n'
    )
    (atoms,) = read_structures(path, elements=('Li',), pbc=(True, True, False))
    assert np.allclose(atoms.positions, [[1.0, 3.0, 2.5]])
    assert atoms.pbc.tolist() == [True, True, False]
    assert Frames.from_atoms([atoms]).cells[0].tolist() == [[10, 0, 0], [0, 10, 0], [0, 0, 10]]


def test_labels_and_indices_of_a_file(tmp_path, crystal):
    images = []
    for number in range(5):
        atoms = crystal.copy()
        atoms.calc = SinglePointCalculator(atoms, energy=float(number), forces=np.full((len(atoms), 3), 0.5))
        images.append(atoms)
    ase.io.write(tmp_path / 'a.xyz', images, format='extxyz')
    frames = Frames.from_atoms(read_structures(tmp_path / 'a.xyz', index='1::2'))
    assert frames.energies.tolist() == [1.0, 3.0]
    assert frames.is_labelled


BAD = {
    'overlap.xyz': ('2\nLattice="5 0 0 0 5 0 0 0 5"\nLi 0 0 0\nLi 0 0 4.7\n', ['structure 0', '0.300 Å', '1.0 Å']),
    'molecule.xyz': ('1\n\nLi 0 0 0\n', ['structure 0', 'no volume', 'Lattice=']),
    'unknown.xyz': ('1\nLattice="5 0 0 0 5 0 0 0 5"\nQq 0 0 0\n', ['cannot be read as extxyz', 'Qq']),
    'dummy.xyz': ('1\nLattice="5 0 0 0 5 0 0 0 5"\nX 0 0 0\n', ['atom 0', 'no chemical element']),
    'cut.xyz': ('3\nLattice="5 0 0 0 5 0 0 0 5"\nLi 0 0 0\n', ['cannot be read as extxyz']),
    'nan.xyz': ('1\nLattice="5 0 0 0 5 0 0 0 5"\nLi 0 0 nan\n', ['not finite']),
    'empty.xyz': ('', ['empty.xyz']),
    'POSCAR': ('Li\n1.0\n5 0 0\n', ['cannot be read as vasp']),
    'noise.txt': ('hello\n', ['noise.txt', 'xyz, poscar, cif, lammps-data']),
    'run.py': ('print(1)\n', ['run.py', 'xyz, poscar, cif, lammps-data']),
    'a.data': ('# x\n\n1 atoms\n', ['name no elements', '--elements Li']),
    'part.cif': (
        'data_x\n_cell_length_a 4\n_cell_length_b 4\n_cell_length_c 4\n_cell_angle_alpha 90\n_cell_angle_beta 90\n'
        "_cell_angle_gamma 90\n_space_group_name_H-M_alt 'P 1'\nloop_\n_atom_site_label\n_atom_site_type_symbol\n"
        '_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n_atom_site_occupancy\nLi1 Li 0 0 0 0.5\n',
        ['occupied in part', '0.5'],
    ),
}


@pytest.mark.parametrize('name', BAD)
def test_structures_that_cannot_be_computed_with(tmp_path, name):
    content, parts = BAD[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=name) as caught:
        read_structures(tmp_path / name)
    for part in parts:
        assert part in str(caught.value)


def test_a_file_that_is_not_there():
    with pytest.raises(ValueError, match='there is no such file'):
        read_structures('nowhere.xyz')


@pytest.mark.parametrize('write', [write_deepmd_npy, write_deepmd_mixed, write_deepmd_hdf5])
def test_how_many_frames_have_no_labels(tmp_path, write):
    """All are counted, of whatever composition, and nothing is written."""
    bare = Frames.from_atoms([Atoms(symbols, cell=[9] * 3, pbc=True) for symbols in ('Li', 'Li', 'LiO', 'LiO2')])
    with pytest.raises(ValueError, match=r'^4 frames have no energies and forces'):
        write(bare, tmp_path / 'out')
    with pytest.raises(ValueError, match=r'^1 frame has no energies and forces'):
        write(bare.select([0]), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
