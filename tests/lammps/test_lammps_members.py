"""The part of a deck that asks every member for the energies of the atoms, after the run."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from aiida_liheal.lammps.decks import render, validate, write_data
from aiida_liheal.lammps.potentials import potential_spec
from aiida_liheal.lammps.readers import iter_dump, read_log
from aiida_liheal.structures.bcc import SlabSettings

TINY = Path(__file__).parent.parent / 'parsers' / 'fixtures' / 'dp_train'
COMMITTEE = potential_spec('deepmd', ['Li'], ['m0.pb', 'm1.pb'])
SLAB = SlabSettings(size=(3, 3), n_layers=6, n_fixed_layers=2, height_above_A=60)
HEAL = {
    'duration_ps': 0.02,
    'heating_ps': 0.0,
    'pressure_bar': None,
    'dump_every_ps': 0.01,
    'thermo_every_ps': 0.005,
    'fixed_below_A': SLAB.fixed_below_A,
    'seed': 1,
}
DEPOSIT = {'duration_ps': 6, 'rate_Li_per_ps': 1, 'fixed_below_A': SLAB.fixed_below_A, 'near_A': 2.5, 'seed': 7}


def deck(kind, values, potential=COMMITTEE, **options):
    return render(kind, validate(kind, values), SLAB.build(), potential, run_directory='run_000', **options)


def test_the_run_is_saved_before_its_members_are_asked():
    text = deck('heal', HEAL)
    run, asked = text.split('label over')[0].split('write_data final.data nocoeff\n')
    assert 'members.dump' not in run
    assert [line for line in asked.splitlines() if line.startswith('pair_style deepmd')] == [
        'pair_style deepmd ../m0.pb',
        'pair_style deepmd ../m1.pb',
    ] * 2
    # not where the walltime ended the run; its log is as if nothing came after it
    assert asked.lstrip().splitlines()[2] == 'if "$(step) < 20" then "jump SELF over"'
    assert asked.index('log none') < asked.index('pair_style') < asked.index('log log.lammps append')
    assert asked.count('read_data start.data') == 1


def test_a_restart_has_no_start():
    text = deck('heal', HEAL, restart_step=10)
    assert text.count('members.dump') == 2
    assert 'clear' not in text


def test_a_deposition_that_a_height_ends():
    """It may end before its last step, and is over all the same."""
    assert 'jump SELF over' in deck('deposit', DEPOSIT)
    assert 'jump SELF over' not in deck('deposit', {**DEPOSIT, 'stop_at_height_A': 5.0})
    assert 'members.dump' in deck('deposit', {**DEPOSIT, 'stop_at_height_A': 5.0})


@pytest.mark.parametrize(('kind', 'values'), [('heal', HEAL), ('deposit', DEPOSIT)])
def test_a_single_potential_has_no_members(kind, values):
    text = deck(kind, values, potential_spec('deepmd', ['Li'], ['m0.pb']))
    assert text.endswith('write_data final.data nocoeff\n')


@pytest.mark.engine
def test_members_are_asked(tmp_path, lmp):
    """The energies of the first member are those of the run; the log and the course of the run do not know of it."""
    shutil.copy(TINY / 'whole' / 'frozen.pb', tmp_path / 'm0.pb')
    shutil.copy(TINY / 'no_virials' / 'frozen.pb', tmp_path / 'm1.pb')
    atoms = SLAB.build()
    write_data(atoms, tmp_path / 'start.data', COMMITTEE.elements)
    (tmp_path / 'in.lmp').write_text(render('heal', validate('heal', HEAL), atoms, COMMITTEE))
    done: subprocess.CompletedProcess = lmp(tmp_path)
    assert done.returncode == 0, done.stdout[-500:]
    log = read_log(tmp_path / 'log.lammps')
    assert (log.finished, log.errors, log.warnings, log.n_steps_done) == (True, [], [], 20)
    assert log.thermo['Step'].tolist() == [0, 5, 10, 15, 20]
    frames = list(iter_dump(tmp_path / 'members.dump'))
    assert [frame.step for frame in frames] == [20, 20, 0, 0]
    run = {frame.step: frame for frame in iter_dump(tmp_path / 'traj.dump')}
    assert sorted(run) == [0, 10, 20]
    for first, second in (frames[:2], frames[2:]):
        assert first.columns['c_pe'] == pytest.approx(run[first.step].columns['c_pe'], abs=2e-5)
        # the run has not come to a step at which atoms are put back into the cell
        moved = first.positions - run[first.step].positions
        edges = np.diag(first.cell)
        assert np.abs(moved - np.round(moved / edges) * edges).max() < 1e-3
        assert (first.columns['c_pe'] != second.columns['c_pe']).any()
