"""VASP's files: what is written for a frame, and what is read of a run; without AiiDA and without VASP."""

import json
import re

import numpy as np
import pytest
import vasp_stand_in
from ase.build import bcc100, bulk
from ase.io.vasp import read_vasp

from aiida_liheal.engines.settings import explain_each
from aiida_liheal.engines.vasp.reading import RunError, read_run, vasp_version
from aiida_liheal.engines.vasp.settings import (
    VaspSettings,
    check_frame,
    incar_tags,
    incar_text,
    kpoints_text,
    mesh_and_shift,
    plan_frame,
    poscar_text,
    relevant_tags,
)
from aiida_liheal.structures.frames import Frames

SETTINGS = VaspSettings()


@pytest.fixture
def mixed():
    """Lithium and sodium atoms in turns, away from their sites."""
    atoms = bulk('Li', 'bcc', a=3.4, cubic=True) * (2, 1, 1)
    atoms.symbols = ['Na', 'Li', 'Na', 'Li']
    atoms.rattle(0.1, seed=3)
    return atoms


def run(atoms, **changes):
    """Texts of vasprun.xml and OUTCAR that the stand-in writes for a frame."""
    cell, symbols, scaled = vasp_stand_in.read_poscar(poscar_text(atoms))
    result = list(vasp_stand_in.morse(cell, scaled))
    converged = changes.pop('converged', True)
    if 'stress' in changes:
        result[2] = changes['stress']
    if 'force' in changes:
        result[1][0][0] = changes['force']
    n = changes.get('n_atoms', len(atoms))
    result[1] = result[1][:n]
    tags = vasp_stand_in.incar_tags(incar_text(SETTINGS))
    common = (cell, symbols[:n], scaled[:n], tags, 7 if converged else 100, tuple(result))
    return vasp_stand_in.vasprun_text(*common), vasp_stand_in.outcar_text(*common, converged=converged)


def test_poscar_holds_every_digit_and_each_element_once(tmp_path, mixed):
    (tmp_path / 'POSCAR').write_text(poscar_text(mixed))
    read = read_vasp(tmp_path / 'POSCAR')
    assert read.get_chemical_symbols() == ['Li', 'Li', 'Na', 'Na']
    assert np.abs(read.positions - mixed.positions[[1, 3, 0, 2]]).max() < 1e-14
    assert np.abs(read.cell.array - mixed.cell.array).max() < 1e-14
    assert (tmp_path / 'POSCAR').read_text().splitlines()[6].split() == ['2', '2']


def test_potentials_are_in_the_order_of_the_poscar(mixed):
    assert plan_frame('00000', mixed, SETTINGS)['potcar'] == ['POTCAR.Li', 'POTCAR.Na']
    assert plan_frame('00000', mixed[[0, 2]], SETTINGS)['potcar'] == ['POTCAR.Na']


def test_mesh_is_that_of_monkhorst_and_pack():
    """Points of the mesh, from Γ with a shift, are those of the formula of Monkhorst and Pack, even and odd."""
    cell = bulk('Li', 'bcc', a=3.44, cubic=True) * (1, 2, 3)
    mesh, shift = mesh_and_shift(cell, SETTINGS)
    assert (mesh, shift) == ([12, 6, 4], [0.5, 0.5, 0.5])
    slab = bcc100('Li', (2, 2, 2), a=3.44, vacuum=4.0)
    assert mesh_and_shift(slab, SETTINGS) == ([6, 6, 1], [0.5, 0.5, 0.0])
    assert kpoints_text(slab, SETTINGS).splitlines()[1:] == ['0', 'Gamma', '6 6 1', '0.5 0.5 0.0']
    for n in (5, 6):
        points = (np.arange(n) + (0.0 if n % 2 else 0.5)) / n
        formula = (2 * np.arange(1, n + 1) - n - 1) / (2 * n)
        assert np.allclose(np.sort((points + 0.5) % 1), np.sort((formula + 0.5) % 1))


def test_incar_of_the_paper():
    tags = incar_tags(SETTINGS)
    wanted = {'ENCUT': 380.0, 'GGA': 'PE', 'ISMEAR': 1, 'SIGMA': 0.2, 'ISPIN': 1, 'ISYM': 0, 'EDIFF': 1e-6}
    assert wanted.items() <= tags.items()
    assert {'PREC': 'Accurate', 'LREAL': False, 'LWAVE': False, 'LCHARG': False, 'NSW': 0}.items() <= tags.items()
    text = incar_text(VaspSettings(incar={'LASPH': True, 'AMIX': 0.2}))
    assert 'LASPH = .TRUE.\n' in text
    assert 'AMIX = 0.2\n' in text


def test_how_the_work_is_shared_changes_no_label():
    assert relevant_tags(VaspSettings(kpar=4, ncore=8)) == relevant_tags(SETTINGS)
    assert relevant_tags(VaspSettings(incar={'LASPH': True})) != relevant_tags(SETTINGS)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'cutoff_eV': 10}, 'cutoff_eV'),
        ({'incar': {'ENCUT': 500}}, 'ENCUT is not to be given .cutoff_eV'),
        ({'incar': {'ICHARG': 11}}, 'ICHARG is not to be given .each frame begins anew'),
        ({'incar': {'MAGMOM': '2*1.0'}}, 'MAGMOM is not to be given .it belongs to the atoms of one frame'),
        ({'incar': {'ML_LMLFF': True}}, 'ML_LMLFF: labels are those of the electrons'),
        ({'incar': {'nsw': 5}}, "'nsw' is no tag"),
        ({'incar': {'SYSTEM': 'x; NSW = 5'}}, 'SYSTEM'),
        ({'incar': {'SYSTEM': 'x\nNSW = 5'}}, 'SYSTEM'),
        ({'python': 'python3; rm'}, 'python'),
        ({'frames_at_once': 0}, 'frames_at_once'),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        VaspSettings.read(settings)


def test_frames_that_vasp_cannot_run_are_refused():
    cell = bulk('Li', 'bcc', a=3.44, cubic=True)
    left = cell.copy()
    left.set_cell(cell.cell.array[[1, 0, 2]])
    close = cell.copy()
    close.positions[1] = [0.3, 0, 0]
    open_cell = cell.copy()
    open_cell.pbc = (True, True, False)
    for atoms, message in ((left, 'left-handed'), (close, '0.300 Å'), (open_cell, 'not periodic along c')):
        assert message in explain_each(Frames.from_atoms([cell, atoms]), lambda atoms: check_frame(atoms, SETTINGS))
    check_frame(cell, SETTINGS)


def test_labels_of_a_run(mixed):
    """Free energy, not the one extrapolated to no smearing; forces in the order of the frame."""
    vasprun, outcar = run(mixed)
    labels = read_run(vasprun, outcar, mixed)
    energy, forces, _ = vasp_stand_in.morse(mixed.cell.array.tolist(), mixed.get_scaled_positions().tolist())
    assert labels.energy == pytest.approx(energy, abs=1e-7)
    assert abs(labels.energy - float(outcar.split('energy(sigma->0) =')[1].split()[0])) > 0.01
    assert np.abs(labels.forces - forces).max() < 1e-7
    assert labels.scf_steps == 7
    assert vasp_version(vasprun) == '6.3.0'


def test_virial_is_the_gradient_of_the_energy_by_strain(mixed):
    """-dE/dstrain by central differences: compression makes it positive."""
    mixed.set_cell(0.9 * mixed.cell.array, scale_atoms=True)
    labels = read_run(*run(mixed), mixed)
    assert np.trace(labels.virial) > 0
    energies = []
    for strain in (-1e-4, 1e-4):
        deformation = np.eye(3)
        deformation[0, 1] = deformation[1, 0] = strain / 2
        deformation[2, 2] += strain
        strained = mixed.copy()
        strained.set_cell(mixed.cell.array @ deformation, scale_atoms=True)
        energies.append(vasp_stand_in.morse(strained.cell.array.tolist(), strained.get_scaled_positions().tolist())[0])
    slope = -(energies[1] - energies[0]) / 2e-4
    assert labels.virial[2, 2] + labels.virial[0, 1] == pytest.approx(slope, abs=1e-4)


def test_labels_are_those_that_dpdata_reads(tmp_path, mixed):
    """The same numbers from vasprun.xml here as by dpdata from both files; on real files of VASP 6.2 they agree too."""
    import dpdata

    ordered = mixed[[1, 3, 0, 2]]
    vasprun, outcar = run(mixed)
    labels = read_run(vasprun, outcar, ordered)
    for name, text, kind in (('vasprun.xml', vasprun, 'vasp/xml'), ('OUTCAR', outcar, 'vasp/outcar')):
        (tmp_path / name).write_text(text)
        system = dpdata.LabeledSystem(str(tmp_path / name), fmt=kind)
        assert system['energies'][0] == pytest.approx(labels.energy, abs=1e-7)
        assert np.abs(system['forces'][0] - labels.forces).max() < 1e-5
        assert np.abs(system['virials'][0] - labels.virial).max() < 1e-5


def test_what_gives_no_labels(mixed):
    """Each fault of a run has a cause that says it."""
    vasprun, outcar = run(mixed)
    moved = mixed.copy()
    moved.positions[2, 1] += 0.01
    stretched = mixed.copy()
    stretched.set_cell(1.001 * mixed.cell.array, scale_atoms=True)
    other = mixed.copy()
    other.symbols = ['Na', 'Li', 'Li', 'Li']
    cases = [
        ((vasprun, None), mixed, 'no OUTCAR'),
        ((vasprun, outcar[:3000]), mixed, 'OUTCAR is cut off'),
        ((None, outcar), mixed, 'no vasprun.xml'),
        ((vasprun[:-200], outcar), mixed, 'vasprun.xml is cut off'),
        ((vasprun.replace('</scstep>', '', 1), outcar), mixed, 'no energy'),
        ((re.sub(r'(name="forces" >\s*<v>)[^<]*', r'\1 ******** 0.1 0.1 ', vasprun), outcar), mixed, 'cannot be read'),
        (run(mixed, converged=False), mixed, 'not self-consistent after 100 steps'),
        (run(mixed, stress=None), mixed, 'no stress'),
        (run(mixed, force=float('nan')), mixed, '1 numbers of the forces are not finite'),
        (run(mixed, n_atoms=3), mixed, 'of 3 atoms, the frame has 4'),
        ((vasprun, outcar), mixed[:3], 'of 4 atoms, the frame has 3'),
        ((vasprun, outcar), moved, 'other positions'),
        ((vasprun, outcar), stretched, 'other cell'),
        ((vasprun, outcar), other, 'other elements'),
    ]
    for texts, atoms, message in cases:
        with pytest.raises(RunError, match=message):
            read_run(*texts, atoms)


def test_an_atom_across_the_edge_is_the_same_atom(mixed):
    texts = run(mixed)
    mixed.positions[0] += mixed.cell.array[0]
    assert np.isfinite(read_run(*texts, mixed).forces).all()


def test_plan_is_json(mixed):
    assert json.loads(json.dumps(plan_frame('00000', mixed, SETTINGS)))['cost'] > 0
