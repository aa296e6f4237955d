"""Numbers that a deck prints by name, and a committee taken apart."""

from aiida_liheal.lammps.decks import render, validate
from aiida_liheal.lammps.potentials import potential_spec
from aiida_liheal.lammps.readers import read_values


def test_values_are_read_by_name(tmp_path):
    path = tmp_path / 'values.txt'
    path.write_text('m0_atom_eV -1.75\nnot a number\nsteps 20\nm0_atom_eV -1.76\ncut_off 1.2')
    assert read_values(path) == {'m0_atom_eV': -1.76, 'steps': 20.0}


def test_members_are_evaluated_one_after_another(slab):
    """The style is dropped before each member: told the same one again, LAMMPS keeps the model that it has."""
    spec = potential_spec('deepmd', ['Li'], ['m0.pb', 'm1.pb'])
    settings = validate('valley', {'fixed_below_A': 1.0, 'seed': 1})
    lines = render('valley', settings, slab, spec, run_directory='run_000').splitlines()
    styles = [line for line in lines if line.startswith('pair_style')]
    evaluations = ['pair_style none', 'pair_style deepmd ../m0.pb', 'pair_style none', 'pair_style deepmd ../m1.pb']
    # the first member relaxes, then all are asked with the atom, then all without it
    assert styles == ['pair_style deepmd ../m0.pb', *evaluations, *evaluations]
    assert f'group placed id {len(slab)}' in lines


def test_members_of_what_is_no_committee(meam):
    assert meam.members == (meam,)
    single = potential_spec('deepmd', ['Li'], ['m0.pb'])
    assert single.members == (single,)
