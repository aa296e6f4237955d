"""Runs of kind `relax`: what the deck does with strains, members and held atoms, and what is refused."""

import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_liheal.lammps.decks import check, render, validate
from aiida_liheal.lammps.kinds.relax import NO_STRAIN, strained_cell
from aiida_liheal.lammps.potentials import potential_spec
from aiida_liheal.lammps.readers import dump_to_frames


def deck(atoms, spec, **settings):
    return render('relax', validate('relax', {'seed': 1, **settings}), atoms, spec, run_directory='run_000')


def test_every_member_goes_through_all_strains():
    spec = potential_spec('deepmd', ['Li'], ['m0.pb', 'm1.pb'])
    cell = bulk('Li', 'bcc', a=3.5, cubic=True)
    text = deck(cell, spec, strains=[NO_STRAIN, (0, 0, 0, 0.01, 0, 0)], minimise='atoms')
    lines = text.splitlines()
    printed = re.findall(r'print "(m\d_s\d)_energy_eV', text)
    assert printed == ['m0_s0', 'm0_s1', 'm1_s0', 'm1_s1']
    # dropped first: told the same style again, LAMMPS keeps the model that it has
    styles = [line for line in lines if line.startswith('pair_style')]
    assert styles == ['pair_style deepmd ../m0.pb', 'pair_style none', 'pair_style deepmd ../m1.pb']
    assert lines.count('change_box all triclinic') == 1
    boxes = [line for line in lines if line.startswith('change_box all x')]
    assert boxes[0] == boxes[2]
    assert 'yz final 0.035' in boxes[1]
    # the last frame and its forces are those of the first member
    assert text.index('write_data') < text.index('pair_style none')


def test_strains_in_voigt_order():
    cell = np.diag([2.0, 4.0, 8.0])
    strained = strained_cell(cell, (0.1, 0.2, 0.25, 0.05, 0.02, 0.01))
    assert strained == pytest.approx(np.array([[2.2, 0, 0], [0.04, 4.8, 0], [0.16, 0.4, 10.0]]))


def test_held_atoms_are_named_by_their_ids(meam):
    text = deck(bulk('Li', cubic=True) * (2, 1, 1), meam, minimise='atoms', fixed_atoms=[0], upright_atoms=[3])
    assert 'group fixed id 1\n' in text
    assert 'group upright id 4\n' in text
    assert 'fix guide upright setforce 0 0 NULL' in text
    assert 'change_box' not in text


@pytest.mark.parametrize(
    ('settings', 'told'),
    [
        ({'minimise': 'cell', 'strains': [NO_STRAIN, NO_STRAIN]}, 'takes any strain back'),
        ({'minimise': 'none', 'fixed_atoms': [0]}, 'only for minimise = atoms'),
        ({'minimise': 'atoms', 'fixed_atoms': [0], 'upright_atoms': [0]}, 'named twice'),
        ({'strains': [(0.5, 0, 0, 0, 0, 0)]}, 'from -0.3 to 0.3'),
        ({'strains': []}, 'at least 1 item'),
        ({'minimise': 'all'}, 'none'),
    ],
)
def test_settings_that_do_not_go_together(settings, told):
    with pytest.raises(ValueError, match=told):
        validate('relax', {'seed': 1, **settings})


@pytest.mark.parametrize(
    ('settings', 'told'),
    [
        ({'minimise': 'cell'}, 'periodic in all directions'),
        ({'strains': [(0.01, 0, 0, 0, 0, 0)]}, 'periodic in all directions'),
        ({'minimise': 'atoms', 'fixed_atoms': [7]}, 'atoms 0 to 1'),
        ({'minimise': 'atoms', 'fixed_atoms': [0, 1]}, 'all 2 atoms are fixed'),
    ],
)
def test_settings_that_do_not_fit_the_structure(settings, told, meam):
    slab = Atoms('Li2', positions=[[0, 0, 1], [0, 0, 4]], cell=[3, 3, 9], pbc=(True, True, False))
    with pytest.raises(ValueError, match=told):
        check('relax', validate('relax', {'seed': 1, **settings}), slab, meam)


def test_forces_come_with_a_dump(tmp_path):
    path = tmp_path / 'forces.dump'
    head = 'ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 3\n0 3\n0 3\n'
    path.write_text(head + 'ITEM: ATOMS id type x y z fx fy fz\n1 1 0 0 0 0.1 0.2 0.3\n2 1 1 1 1 -0.1 -0.2 -0.3\n')
    frames, truncated = dump_to_frames(path, ['Li'])
    assert frames.forces == pytest.approx(np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]]))
    assert frames.velocities is None
    assert not truncated
