"""What is written in any format is read again to the last bit of what was stored, and dpdata and ASE read it too."""

import ase.io
import dpdata
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from aiida_liheal.structures.formats import (
    read_ase_db,
    read_deepmd_hdf5,
    read_extxyz,
    write_deepmd_hdf5,
    write_deepmd_mixed,
    write_frames,
)
from aiida_liheal.structures.frame_facts import find_duplicates, frame_facts
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.imports import read_frames

EXACT = ('energies', 'forces', 'virials', 'positions', 'cells')
SUFFIX = {'deepmd-npy': '', 'deepmd-mixed': '', 'deepmd-hdf5': '.h5', 'extxyz': '.xyz', 'ase-db': '.db'}


def frames_of(precision=np.float64, counts=(2, 3, 2, 3), seed=0, **changes):
    """Frames of two elements whose compositions alternate, with virials that are not symmetric."""
    rng = np.random.default_rng(seed)
    n_atoms, n_frames = sum(counts), len(counts)

    def numbers(*shape):
        return rng.normal(size=shape).astype(precision)

    arrays = {
        'elements': np.array(['Li', 'Na']),
        'counts': np.array(counts, dtype=np.int32),
        'types': rng.integers(0, 2, n_atoms).astype(np.int32),
        'positions': numbers(n_atoms, 3) * 5,
        'cells': numbers(n_frames, 3, 3) + 20 * np.eye(3, dtype=precision),
        'pbc': np.ones((n_frames, 3), dtype=bool),
        'energies': numbers(n_frames) * 100,
        'forces': numbers(n_atoms, 3),
        'virials': numbers(n_frames, 3, 3),
    }
    return Frames.from_arrays({name: array for name, array in {**arrays, **changes}.items() if array is not None})


def by_energy(frames):
    """Frames in an order that formats which sort by composition have too."""
    return frames.select(np.argsort(frames.energies, kind='stable'))


@pytest.mark.parametrize('precision', [np.float32, np.float64])
@pytest.mark.parametrize('kind', SUFFIX)
def test_there_and_back_to_the_last_bit_in_all_formats(tmp_path, kind, precision):
    frames = frames_of(precision)
    path = tmp_path / f'data{SUFFIX[kind]}'
    write_frames(frames, path, kind)
    (shard,) = read_frames(path).shards
    given, read = by_energy(frames), by_energy(shard.frames)
    for name in EXACT:
        assert getattr(read, name).dtype == precision, name
        assert np.array_equal(getattr(read, name), getattr(given, name)), name
    assert [read.symbols(index) for index in range(len(read))] == [given.symbols(index) for index in range(len(given))]
    assert read.pbc.all()


@pytest.mark.parametrize('kind', SUFFIX)
def test_energies_longer_than_positions(tmp_path, kind):
    """Mixed precisions lose nothing."""
    frames = frames_of(np.float32, energies=np.random.default_rng(5).normal(size=4))
    path = tmp_path / f'data{SUFFIX[kind]}'
    write_frames(frames, path, kind)
    (shard,) = read_frames(path).shards
    given, read = by_energy(frames), by_energy(shard.frames)
    for name in EXACT:
        assert np.array_equal(getattr(read, name), getattr(given, name)), name


@pytest.mark.parametrize('kind', SUFFIX)
def test_without_virials_there_and_back(tmp_path, kind):
    path = tmp_path / f'data{SUFFIX[kind]}'
    write_frames(frames_of(virials=None), path, kind)
    (shard,) = read_frames(path).shards
    assert shard.frames.virials is None


@pytest.mark.parametrize('kind', ['extxyz', 'ase-db'])
def test_slabs_and_velocities(tmp_path, kind):
    pbc = np.array([[True, True, False]] * 4)
    frames = frames_of(pbc=pbc, velocities=np.random.default_rng(1).normal(size=(10, 3)))
    path = tmp_path / f'data{SUFFIX[kind]}'
    write_frames(frames, path, kind)
    read = read_frames(path).shards[0].frames
    assert np.array_equal(read.pbc, pbc)
    assert np.array_equal(read.velocities, frames.velocities)


def test_ase_reads_our_xyz_and_db(tmp_path):
    """Stress in ASE's unit and sign beside the virial; the order of the frames is kept."""
    frames = frames_of()
    write_frames(frames, tmp_path / 'a.xyz', 'extxyz')
    write_frames(frames, tmp_path / 'a.db', 'ase-db')
    for images in (
        ase.io.read(tmp_path / 'a.xyz', ':'),
        [row.toatoms() for row in connect(tmp_path / 'a.db').select()],
    ):
        for index, atoms in enumerate(images):
            assert atoms.get_potential_energy() == frames.energies[index]
            assert np.allclose(atoms.get_stress(), frames.to_atoms(index).get_stress(), rtol=1e-12)


def test_dpdata_reads_our_mixed_and_hdf5(tmp_path):
    frames = frames_of()
    write_deepmd_mixed(frames, tmp_path / 'mixed')
    write_deepmd_hdf5(frames, tmp_path / 'a.h5')
    mixed = dpdata.MultiSystems().load_systems_from_file(str(tmp_path / 'mixed' / '2'), fmt='deepmd/npy/mixed')
    energies = sorted(energy for system in mixed for energy in system['energies'])
    assert energies == sorted(frames.select([0, 2]).energies.tolist())
    with h5py.File(tmp_path / 'a.h5') as file:
        groups = list(file)
    systems = [dpdata.LabeledSystem(f'{tmp_path / "a.h5"}#/{name}', fmt='deepmd/hdf5') for name in groups]
    assert sorted(e for system in systems for e in system['energies']) == sorted(frames.energies.tolist())


def test_we_read_the_mixed_systems_of_dpdata(tmp_path):
    """Also those that are filled up with atoms of no type."""
    parts = [frames_of(counts=(n,) * 2, seed=n, types=np.zeros(2 * n, dtype=np.int32)) for n in (2, 3)]
    systems = dpdata.MultiSystems()
    for number, part in enumerate(parts):
        write_frames(part, tmp_path / f'part{number}', 'deepmd-npy')
        systems.append(dpdata.LabeledSystem(str(tmp_path / f'part{number}' / 'g000'), fmt='deepmd/npy'))
    systems.to('deepmd/npy/mixed', str(tmp_path / 'mixed'), atom_numb_pad=4, prec=np.float64)
    read = read_frames(tmp_path / 'mixed').shards[0].frames
    assert sorted(read.counts.tolist()) == [2, 2, 3, 3]
    assert np.array_equal(np.sort(read.energies), np.sort(np.concatenate([part.energies for part in parts])))
    assert np.array_equal(
        np.sort(np.abs(read.forces).sum(axis=1)), np.sort(np.concatenate([np.abs(p.forces).sum(axis=1) for p in parts]))
    )


def test_hdf5_that_leads_out_of_its_file(tmp_path):
    write_deepmd_hdf5(frames_of(), tmp_path / 'a.h5')
    for name, change in (
        ('link', lambda file: file.__setitem__('x', h5py.ExternalLink('/etc/hostname', '/'))),
        ('soft', lambda file: file.__setitem__('x', h5py.SoftLink('/g000'))),
        (
            'outside',
            lambda file: (
                file['g000/set.000'].pop('energy.npy'),
                file['g000/set.000'].create_dataset(
                    'energy.npy', (1,), dtype='f8', external=[(str(tmp_path / 'a.h5'), 0, 8)]
                ),
            ),
        ),
    ):
        path = tmp_path / f'{name}.h5'
        path.write_bytes((tmp_path / 'a.h5').read_bytes())
        with h5py.File(path, 'a') as file:
            change(file)
        with pytest.raises(ValueError, match=r'is a link|no array inside the file'):
            read_deepmd_hdf5(path)
    (tmp_path / 'b.h5').write_text('hello')
    with pytest.raises(ValueError, match='cannot be read as HDF5'):
        read_deepmd_hdf5(tmp_path / 'b.h5')


def test_xyz_cut_off_and_without_labels(tmp_path):
    """Whole frames are kept; what was begun, and what has no labels, is told."""
    path = tmp_path / 'a.xyz'
    write_frames(frames_of(), path, 'extxyz')
    text = path.read_text()
    path.write_text('1\nLattice="5 0 0 0 5 0 0 0 5" note=x\nLi 0 0 0\n' + text[: text.rindex('\n', 0, -1)] + '\n')
    reading = read_extxyz(path)
    assert reading.indices.tolist() == [1, 2, 3]
    assert [(entry.index, entry.cause) for entry in reading.left_out] == [
        (
            0,
            'it has no energy and forces; it has note; structures without labels go in by `data import structures`',
        ),
        (4, 'the file ends within it, after 2 of 3 atoms'),
    ]
    for content in ('', 'hello\n', f'{10**12}\n'):
        path.write_text(content)
        if content.startswith('1'):
            assert 'ends within it' in read_extxyz(path).left_out[0].cause
        else:
            with pytest.raises(ValueError, match=r'holds no frame|number of atoms is expected'):
                read_extxyz(path)


def test_which_energy_and_which_virial(tmp_path):
    """The free energy goes before; a virial that contradicts the stress is refused; energy alone is noted."""
    head = '1\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:forces:R:3 '
    atom = '\nLi 0 0 0 0.5 0 0\n'
    virial = 'virial="1 0 0 0 1 0 0 0 1" stress="{0} 0 0 0 {0} 0 0 0 {0}"'
    path = tmp_path / 'a.xyz'
    path.write_text(
        head + 'energy=-1 free_energy=-2' + atom
        + head + 'energy=-1 ' + virial.format(-1 / 125) + atom
        + head + 'energy=-1 ' + virial.format(1 / 125) + atom
    )  # fmt: skip
    reading = read_extxyz(path)
    assert reading.frames.energies.tolist() == [-2.0, -1.0]
    assert 'contradict each other' in reading.left_out[0].cause
    assert any('1 of 2 frames say `energy` and no `free_energy`' in note for note in reading.notes)


def test_rows_of_a_database(tmp_path):
    """Rows without labels are left out; the file is not touched; what is no database is refused."""
    path = tmp_path / 'a.db'
    atoms = Atoms('Li', cell=[5, 5, 5], pbc=True)
    with connect(path) as database:
        database.write(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=[[0.0, 0.0, 0.5]], stress=[0.1] * 3 + [0.0] * 3)
        database.write(atoms)
    before = path.read_bytes()
    reading = read_ase_db(path)
    assert path.read_bytes() == before
    assert reading.indices.tolist() == [1]
    assert np.trace(reading.frames.virials[0]) == pytest.approx(-0.3 * 125)
    path.write_text('hello' * 1000)
    with pytest.raises(ValueError, match='cannot be read as an ASE database'):
        read_ase_db(path)


def test_facts_of_frames():
    """Ranges and spread by hand, and frames that are there twice."""
    frames = frames_of()
    doubled = Frames.concatenate([frames, frames.select([1])])
    other = doubled.to_arrays()
    other['energies'] = other['energies'] + np.array([0, 0, 0, 0, 1.0])
    facts = frame_facts(Frames.from_arrays(other))
    assert (facts['n_frames'], facts['n_atoms'], facts['n_atoms_min'], facts['n_atoms_max']) == (5, 13, 2, 3)
    assert facts['duplicates'] == [[1, 4]]
    assert facts['contradictions'] == [[1, 4]]
    assert facts['energy_eV_per_atom']['max'] == (other['energies'] / other['counts']).max()
    assert facts['largest_force_eV_per_A']['max'] == np.linalg.norm(frames.forces, axis=1).max()
    pressure = np.trace(frames.virials[0]) / 3 / frames.volumes[0] * 1602.176634
    assert facts['pressure_kB']['min'] <= pressure <= facts['pressure_kB']['max']
    # 3/2 k_B T an atom above the lowest
    li = frames_of(counts=(2, 2), types=np.zeros(4, dtype=np.int32), energies=np.array([-4.0, -4.0 + 4 * 1.5 * 0.1]))
    assert frame_facts(li)['compositions']['Li2']['spread_K'] == pytest.approx(0.1 / 8.617333e-5, rel=1e-6)


def test_kinetic_temperature_of_frames():
    """A Maxwell distribution of 300 K is told as one."""
    rng = np.random.default_rng(2)
    counts = (3000,)
    sigma = np.sqrt(1.380649e-23 * 300 / (6.94 * 1.66053907e-27)) / 100  # m/s in Å/ps
    frames = frames_of(
        counts=counts, types=np.zeros(3000, dtype=np.int32), velocities=rng.normal(size=(3000, 3)) * sigma
    )
    assert frame_facts(frames)['kinetic_temperature_K']['mean'] == pytest.approx(300, rel=0.05)


def test_duplicates_are_by_structure():
    frames = frames_of(counts=(2, 2), types=np.array([0, 1, 0, 1], dtype=np.int32))
    arrays = frames.to_arrays()
    same = {**arrays, 'positions': np.tile(arrays['positions'][:2], (2, 1)), 'cells': arrays['cells'][[0, 0]]}
    assert find_duplicates(Frames.from_arrays(same)) == [[0, 1]]
    assert find_duplicates(Frames.from_arrays({**same, 'types': np.array([0, 1, 1, 0], dtype=np.int32)})) == []
    moved = same['positions'] + np.array([[0.0], [0.0], [0.01], [0.0]])
    assert find_duplicates(Frames.from_arrays({**same, 'positions': moved})) == []


@pytest.mark.parametrize('kind', SUFFIX)
def test_clusters_and_crystals_in_one_shard(tmp_path, kind):
    """Frames without periods keep that, and their cell, in all formats, also beside periodic ones."""
    pbc = np.array([[True] * 3, [False] * 3, [False] * 3, [True] * 3])
    frames = frames_of(pbc=pbc, types=np.zeros(10, dtype=np.int32))
    path = tmp_path / f'data{SUFFIX[kind]}'
    write_frames(frames, path, kind)
    (shard,) = read_frames(path).shards
    given, read = by_energy(frames), by_energy(shard.frames)
    for name in (*EXACT, 'pbc'):
        assert np.array_equal(getattr(read, name), getattr(given, name)), name


def test_further_columns_are_told(tmp_path):
    """What others keep beside structure and labels is not taken, and that is said with its name."""
    atoms = Atoms('Li', cell=[5, 5, 5], pbc=True, info={'config_type': 'bulk'})
    calculator = SinglePointCalculator(
        atoms, energy=-1.0, free_energy=-1.0, forces=[[0.0, 0.0, 0.5]], magmoms=np.array([0.5])
    )
    atoms.calc = calculator
    ase.io.write(tmp_path / 'a.xyz', [atoms, Atoms('Li', cell=[5, 5, 6], pbc=True, calculator=calculator)])
    said = ' '.join(read_extxyz(tmp_path / 'a.xyz').notes)
    assert 'not taken beside structure and labels: config_type' in said
    with connect(tmp_path / 'a.db') as database:
        database.write(atoms, project='x')
    assert 'magmoms, project' in ' '.join(read_ase_db(tmp_path / 'a.db').notes)
    path = tmp_path / 'b.xyz'
    write_frames(frames_of(), path, 'extxyz')
    assert read_extxyz(path).notes == ()
    text = path.read_text()
    path.write_text(text + '\n' + text)
    reading = read_extxyz(path)
    assert len(reading) == 4
    assert 'what comes after it was not read' in reading.left_out[0].cause
