"""Runs of VASP: what dpdata reads of them is what we read, and all that is left out is told."""

import gzip
import warnings
from pathlib import Path

import ase.io
import dpdata
import numpy as np
import pytest
from ase.stress import voigt_6_to_full_3x3_stress
from vasp_text import make_run, outcar, vasprun

from aiida_liheal.structures.vasp import read_outcar, read_vasprun, turn_to_lower_triangular

WRITERS = {'outcar': (outcar, read_outcar, 'vasp/outcar'), 'vasprun': (vasprun, read_vasprun, 'vasp/xml')}
RUNS = {
    'one element': make_run(('Li', 'Li')),
    'three types, two elements': make_run(('Li', 'O', 'O', 'Li')),
    'version 6': make_run(version=6),
    'no stress': make_run(isif=0),
    'cell is relaxed': make_run(isif=3),
    'triclinic': make_run(triclinic=True),
    'one step': make_run(n_steps=1),
    'dispersion told apart': make_run(vdw=True),
    'unconverged in the middle': make_run(n_electronic=(4, 8, 5)),
    'all unconverged but the last': make_run(n_electronic=(8, 8, 7)),
    'machine-learned steps between': make_run(learned=(0, 2), n_steps=4, n_electronic=(4,) * 4),
}


# machine-learned steps of a vasprun.xml dpdata takes for computed ones
@pytest.mark.parametrize(
    ('kind', 'name'),
    [(kind, name) for kind in WRITERS for name, run in RUNS.items() if kind == 'outcar' or not run.learned],
)
def test_as_dpdata_reads_it(tmp_path, kind, name):
    """Energies, forces, virials, cells and elements are those of dpdata."""
    run = RUNS[name]
    write, read, theirs = WRITERS[kind]
    path = tmp_path / 'file'
    path.write_text(write(run))
    frames = read(path).frames
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        data = dpdata.LabeledSystem(str(path), fmt=theirs).data
    assert len(frames) == len(data['energies']) > 0
    assert frames.energies.tolist() == data['energies'].tolist()
    assert np.allclose(frames.forces, data['forces'].reshape(-1, 3), rtol=0, atol=1e-12)
    assert np.allclose(frames.positions, data['coords'].reshape(-1, 3), rtol=0, atol=1e-12)
    assert np.allclose(frames.cells, data['cells'], rtol=0, atol=1e-12)
    assert (frames.virials is None) == ('virials' not in data)
    if frames.virials is not None:
        assert np.allclose(frames.virials, data['virials'], rtol=1e-12, atol=1e-12)
    assert frames.symbols(0) == [data['atom_names'][number] for number in data['atom_types']]


@pytest.mark.parametrize('kind', WRITERS)
def test_energy_unit_and_sign(tmp_path, kind):
    """The free energy, not the one at zero width; a virial of volume x pressure, positive under compression."""
    pressure_kB = 16.0
    run = make_run(n_steps=1, kilobar=np.eye(3)[None] * pressure_kB)
    path = tmp_path / 'file'
    path.write_text(WRITERS[kind][0](run))
    frames = WRITERS[kind][1](path).frames
    assert frames.energies.tolist() == run.free.tolist()
    # 1 kB = 0.1 GPa, 1 eV/Å^3 = 160.2176634 GPa
    expected = 6.0 * 7.0 * 8.5 * pressure_kB * 0.1 / 160.2176634
    assert np.allclose(frames.virials[0], np.eye(3) * expected, rtol=1e-7)
    atoms = frames.to_atoms(0)
    assert atoms.get_stress()[:3] == pytest.approx([-pressure_kB * 0.1 / 160.2176634] * 3, rel=1e-7)


def test_as_ase_reads_it(tmp_path):
    """ASE's reader, which shares no code with dpdata's, has the same free energy, forces and stress."""
    path = tmp_path / 'OUTCAR'
    path.write_text(outcar(make_run()))
    frames = read_outcar(path).frames
    for index, atoms in enumerate(ase.io.read(path, ':', format='vasp-out')):
        assert atoms.calc.results['free_energy'] == frames.energies[index]
        assert atoms.calc.results['energy'] == pytest.approx(frames.energies[index] + 0.01)
        assert np.allclose(atoms.get_forces(apply_constraint=False), frames.to_atoms(index).get_forces())
        full = voigt_6_to_full_3x3_stress(atoms.get_stress())
        assert np.allclose(-full * atoms.get_volume(), frames.virials[index], rtol=1e-6)


@pytest.mark.parametrize('kind', WRITERS)
def test_what_did_not_converge_is_told(tmp_path, kind):
    path = tmp_path / 'file'
    path.write_text(WRITERS[kind][0](make_run(n_electronic=(8, 4, 8))))
    reading = WRITERS[kind][1](path)
    assert reading.indices.tolist() == [1]
    assert [entry.index for entry in reading.left_out] == [0, 2]
    assert {entry.cause for entry in reading.left_out} == {
        'its electrons did not converge: NELM = 8 electronic steps were reached'
    }


@pytest.mark.parametrize('kind', WRITERS)
def test_machine_learned_steps_are_no_labels(tmp_path, kind):
    run = make_run(learned=(0, 2), n_steps=4, n_electronic=(4,) * 4)
    path = tmp_path / 'file'
    path.write_text(WRITERS[kind][0](run))
    reading = WRITERS[kind][1](path)
    assert reading.frames.energies.tolist() == run.free[[1, 3]].tolist()
    assert np.array_equal(reading.frames.forces, run.forces[[1, 3]].reshape(-1, 3))
    (entry,) = reading.left_out
    assert entry.cause.startswith('2 steps: its energy is of the machine-learned force field')


@pytest.mark.parametrize('kind', WRITERS)
def test_cut_off_anywhere(tmp_path, kind):
    """However a file is cut, whole frames are kept and are right, and a begun one is told."""
    run = make_run(('Li', 'Li'))
    text = WRITERS[kind][0](run)
    path = tmp_path / 'file'
    ends = [position for position, character in enumerate(text) if character == '\n']
    seen = set()
    for end in ends[::2]:
        path.write_text(text[: end - 3])
        try:
            reading = WRITERS[kind][1](path)
        except ValueError:
            # cut off before it said what it is of
            seen.add(-1)
            continue
        n = len(reading)
        seen.add(n)
        if n:
            assert reading.frames.energies.tolist() == run.free[:n].tolist()
            assert np.array_equal(reading.frames.forces, run.forces[:n].reshape(-1, 3))
        else:
            assert reading.left_out
        for entry in reading.left_out:
            assert 'the file ends within it' in entry.cause or 'holds no' in entry.cause
            assert entry.index in (None, n)
    assert seen == {-1, 0, 1, 2, 3}


def changed(old, new, count=1):
    text = outcar(make_run(('Li', 'Li'), n_steps=2))
    assert old in text
    return text.replace(old, new, count)


def row(step, atom):
    """The line of an atom in the table of forces."""
    text = outcar(make_run(('Li', 'Li'), n_steps=2))
    return text.split('TOTAL-FORCE (eV/Angst)\n')[step + 1].splitlines()[atom + 1] + '\n'


FAULTS = {
    'an atom is missing': (row(0, 1), '', 'has 1 atoms, the run 2'),
    'a number is cut': (row(0, 1), row(0, 1)[:-12] + '\n', 'breaks off after 1 of 2 atoms'),
    'forces do not fit': (row(0, 1)[-15:-1], '*' * 14, r'do not fit their columns \(\*\*\*\*\)'),
    'no forces': ('TOTAL-FORCE (eV/Angst)', '', 'it has no forces'),
    'energy does not fit': ('free  energy   TOTEN  =', 'free  energy   TOTEN  = *******', 'its energy cannot be read'),
    'EDIFF': (
        'aborting loop because EDIFF is reached',
        'aborting loop EDIFF was not reached (unconverged)',
        r'EDIFF was not reached',
    ),
    'hard stop': ('aborting loop because EDIFF is reached', 'hard stop encountered!  aborting job', 'hard stop'),
}


@pytest.mark.parametrize('name', FAULTS)
def test_a_damaged_step_is_left_out_alone(tmp_path, name):
    old, new, cause = FAULTS[name]
    path = tmp_path / 'OUTCAR'
    path.write_text(changed(old, new))
    reading = read_outcar(path)
    assert reading.indices.tolist() == [1]
    (entry,) = reading.left_out
    assert entry.index == 0
    with pytest.raises(AssertionError, match=cause):
        raise AssertionError(entry.cause)


def test_numbers_that_touch(tmp_path):
    """Wide numbers fill their columns without a space."""
    run = make_run(('Li', 'Li'), n_steps=1, kilobar=np.full((1, 3, 3), -12345.12345))
    forces = run.forces.copy()
    forces[0, 1] = [-123456.123456, -123456.654321, 1.0]
    run = run.with_(forces=forces)
    path = tmp_path / 'OUTCAR'
    path.write_text(outcar(run))
    assert '-123456.123456-123456.654321' in path.read_text()
    assert '-12345.12345-12345.12345' in path.read_text()
    frames = read_outcar(path).frames
    assert np.array_equal(frames.forces, run.forces[0])
    assert np.trace(frames.virials[0]) < 0


def test_heads_that_say_too_little(tmp_path):
    path = tmp_path / 'OUTCAR'
    for old, new, count, message in (
        ('NIONS =      2', 'NIONS =      3', 1, r'3 ions \(NIONS\), and 2 by type'),
        ('PAW_PBE Li_sv', 'PAW_PBE Zz_sv', -1, "'Zz' is no chemical element"),
        ('ions per type', 'ions', 1, 'how many ions of each type'),
        ('PAW_PBE', '', -1, 'no chemical element|names 0 elements'),
    ):
        path.write_text(changed(old, new, count))
        with pytest.raises(ValueError, match=message):
            read_outcar(path)
    path.write_bytes(b'\x00\x01binary')
    with pytest.raises(ValueError, match='it is no text'):
        read_outcar(path)
    path.write_text('hello\n')
    with pytest.raises(ValueError, match='no OUTCAR'):
        read_outcar(path)


def test_notes(tmp_path):
    """A trace is no stress, and what cannot be checked is said."""
    path = tmp_path / 'OUTCAR'
    path.write_text(outcar(make_run(isif=1)))
    assert 'only the trace' in ' '.join(read_outcar(path).notes)
    path.write_text(changed('NELM   =', 'MLEN   ='))
    assert 'was not checked' in ' '.join(read_outcar(path).notes)
    for old, new in (('in kB', 'in kB ***'), ('  in kB', '\n  stress')):
        path.write_text(changed(old, new))
        assert '1 of 2 frames have no stress' in ' '.join(read_outcar(path).notes)


def test_an_enthalpy_is_no_energy(tmp_path):
    """Under PSTRESS a vasprun.xml tells the free energy and pressure x volume; the forces belong to the energy."""
    run = make_run(n_steps=2, isif=3)
    pressure_kB = 20.0
    enthalpy = run.free + pressure_kB * np.abs(np.linalg.det(run.cells)) / 1602.176634
    parameter = f'<parameters><i name="PSTRESS"> {pressure_kB} </i>'
    text = vasprun(run.with_(free=enthalpy)).replace('<parameters>', parameter)
    path = tmp_path / 'vasprun.xml'
    path.write_text(text)
    reading = read_vasprun(path)
    assert np.allclose(reading.frames.energies, run.free, rtol=0, atol=1e-6)
    assert 'PSTRESS = 20.0 kB' in ' '.join(reading.notes)
    # no term where the last electronic step says the same
    path.write_text(vasprun(run).replace('<parameters>', parameter).replace('>1.0</i>', f'>{run.free[0]:.8f}</i>'))
    assert read_vasprun(path).frames.energies[0] == run.free[0]


#: Runs of VASP among the files for ASE's own tests, which come with it.
REAL = Path(ase.__file__).parent / 'test' / 'testdata' / 'vasp'


@pytest.mark.skipif(not REAL.is_dir(), reason='ASE came without the files of its tests')
@pytest.mark.parametrize('name', ['OUTCAR_example_1', 'vasprun_dfpt.xml', 'vasprun_pstress.xml'])
def test_runs_of_others(name):
    """Real files: energies as ASE reads them, forces and virials as dpdata does."""
    is_xml = name.endswith('.xml')
    frames = (read_vasprun if is_xml else read_outcar)(REAL / name).frames
    atoms = ase.io.read(REAL / name, format='vasp-xml' if is_xml else 'vasp-out')
    data = dpdata.LabeledSystem(str(REAL / name), fmt='vasp/xml' if is_xml else 'vasp/outcar').data
    assert frames.energies[-1] == pytest.approx(atoms.get_potential_energy(force_consistent=True), abs=2e-8)
    assert np.allclose(frames.forces, data['forces'].reshape(-1, 3), rtol=0, atol=1e-12)
    assert np.allclose(frames.virials, data['virials'], rtol=1e-12, atol=1e-12)
    assert frames.symbols(0) == list(atoms.symbols)


@pytest.mark.parametrize('kind', WRITERS)
def test_packed(tmp_path, kind):
    """Packed files are read; one that is cut off gives its whole frames."""
    run = make_run(n_steps=40, n_electronic=(4,) * 40)
    packed = gzip.compress(WRITERS[kind][0](run).encode())
    path = tmp_path / 'file.gz'
    path.write_bytes(packed)
    assert len(WRITERS[kind][1](path)) == 40
    path.write_bytes(packed[: len(packed) // 2])
    reading = WRITERS[kind][1](path)
    assert 0 < len(reading) < 40
    assert reading.frames.energies.tolist() == run.free[: len(reading)].tolist()
    # no gzip; cut off in its head; damaged: no block of deflate begins like this
    for content in (b'no gzip', packed[:5], packed[:10] + b'\xff' * 40):
        path.write_bytes(content)
        with pytest.raises(ValueError, match='cannot be unpacked'):
            WRITERS[kind][1](path)


def test_xml_that_is_none(tmp_path):
    path = tmp_path / 'vasprun.xml'
    bomb = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb">]><modeling>&b;</modeling>'
    hidden = bomb.replace('?><', '?>' + 5000 * ' ' + '<')
    for text, message in (
        (bomb, 'declares a type or entities'),
        (hidden, 'no element begins within'),
        ('hello', 'no element begins within'),
        ('<hello', 'cannot be read as XML'),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_vasprun(path)
    text = vasprun(make_run(n_steps=2))
    for old, cause in (
        ('name="e_fr_energy">-', 'its energy cannot be read'),
        ('<varray name="forces">', 'it has no forces'),
    ):
        first = text.index('<calculation>')
        path.write_text(
            text[:first]
            + text[first:].replace(old, old[:-1] + 'x' + old[-1] if '"e' in old else '<varray name="f">', 1)
        )
        reading = read_vasprun(path)
        assert reading.indices.tolist() == [1]
        assert reading.left_out[0].cause.startswith(cause)


def test_turning_keeps_what_is_physical():
    """Lengths, the work done by forces, and virials in the frame of the cell stay; left-handed cells are not turned."""
    rng = np.random.default_rng(3)
    cells, positions = rng.normal(size=(2, 3, 3)) + 3 * np.eye(3), rng.normal(size=(5, 3))
    cells[1] = cells[1][[1, 0, 2]]
    assert np.linalg.det(cells[0]) > 0 > np.linalg.det(cells[1])
    forces, virials, counts = rng.normal(size=(5, 3)), rng.normal(size=(2, 3, 3)), np.array([3, 2])
    new = turn_to_lower_triangular(cells, positions, forces, virials, counts)
    assert np.array_equal(new[0][0], np.tril(new[0][0]))
    assert (np.diagonal(new[0][0]) > 0).all()
    for before, after in ((cells[0], new[0][0]), (positions[:3], new[1][:3]), (forces[:3], new[2][:3])):
        assert np.allclose(before @ before.T, after @ after.T)
    assert np.allclose(positions[:3] @ forces[:3].T, new[1][:3] @ new[2][:3].T)
    assert np.allclose(cells[0] @ virials[0] @ cells[0].T, new[0][0] @ new[3][0] @ new[0][0].T)
    assert np.array_equal(cells[1], new[0][1])
    assert np.array_equal(positions[3:], new[1][3:])


def test_as_dpdata_reads_what_else_runs_write(tmp_path):
    """Magnetization, a thermostat, an enthalpy, lines of Windows, selective dynamics: the labels are the same."""
    run = make_run()
    spin = (
        '  number of electron  3.0000000 magnetization  1.0000000\n magnetization (x)\n    1   0.5   0.0   0.0   0.5\n'
    )
    enthalpy = '  enthalpy is  TOTEN    =       -14.00000000 eV   P V=        0.70000000\n\n'
    thermostat = '% ion-electron   TOTEN  =       -15.000000  see above\n  kinetic energy EKIN   =         0.100000\n'
    text = outcar(run)
    variants = [
        text.replace('  FREE ENERGIE OF', spin + '  FREE ENERGIE OF'),
        text.replace('  energy  without', enthalpy + '  energy  without'),
        text.replace(' General timing', thermostat + ' General timing'),
        text.replace('\n', '\r\n'),
    ]
    rows = '<varray name="selective">' + '<v type="logical"> T  T  F </v>' * 3 + '</varray></structure>'
    xml = vasprun(run)
    variants += [xml.replace('</structure>', rows), xml.replace('\n', '\r\n')]
    for number, variant in enumerate(variants):
        is_xml = variant.startswith('<?xml')
        assert variant not in (text, xml)
        path = tmp_path / f'file{number}'
        path.write_text(variant, newline='')
        frames = (read_vasprun if is_xml else read_outcar)(path).frames
        data = dpdata.LabeledSystem(str(path), fmt='vasp/xml' if is_xml else 'vasp/outcar').data
        assert frames.energies.tolist() == data['energies'].tolist() == run.free.tolist()
        assert np.allclose(frames.forces, data['forces'].reshape(-1, 3), rtol=0, atol=1e-12)
        assert np.allclose(frames.virials, data['virials'], rtol=1e-12, atol=1e-12)


def test_xml_that_ends_early_or_goes_on(tmp_path):
    """What is whole is kept without its end; what follows the end is told."""
    path = tmp_path / 'vasprun.xml'
    text = vasprun(make_run())
    path.write_text(text.replace('</modeling>', ''))
    reading = read_vasprun(path)
    assert (len(reading), reading.left_out) == (3, ())
    path.write_text(text + text)
    reading = read_vasprun(path)
    assert len(reading) == 3
    assert 'it is damaged' in reading.left_out[0].cause
