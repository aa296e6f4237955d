"""The decks as LAMMPS runs them."""

import os
import shutil
import signal
import subprocess
import time

import ase.io
import numpy as np
import pytest

from aiida_liheal.lammps.decks import validate
from aiida_liheal.lammps.readers import atom_balance, iter_dump, lost_atoms, merge_thermo, read_log, restart_steps
from aiida_liheal.structures.bcc import VoidCrystalSettings, bcc_bulk

pytestmark = pytest.mark.engine


def balance(folder, settings, slab, log):
    final = ase.io.read(folder / 'final.data', format='lammps-data', units='metal', atom_style='atomic')
    schedule = settings.schedule(slab.cell[0, 0] * slab.cell[1, 1] / 100)
    return atom_balance(len(slab), schedule.inserted_at(log.last_step), lost_atoms(final.arrays['id']), len(final))


def test_deposition_as_it_should_be(run_folder, lmp, slab, deposit_settings):
    """The film grows by the schedule, nothing brakes the atoms in flight, and fixed ones stay where they are."""
    settings = deposit_settings(dump_every_ps=0.1, rate_Li_per_ps=1, near_A=6)
    folder = run_folder('whole', 'deposit', settings, slab)
    assert lmp(folder).returncode == 0
    log = read_log(folder / 'log.lammps')
    assert (log.finished, log.errors, log.warnings, log.last_step) == (True, [], [], 6000)
    assert balance(folder, settings, slab, log).n_final == 144 + 6
    schedule = settings.schedule(slab.cell[0, 0] * slab.cell[1, 1] / 100)
    assert log.thermo['v_inserted'].tolist() == [schedule.inserted_at(int(step)) for step in log.thermo['Step']]
    assert log.thermo['Atoms'] == pytest.approx(144 + log.thermo['v_inserted'])
    in_flight = []
    for frame in iter_dump(folder / 'traj.dump'):
        new = (frame.columns['id'] > 144) & (frame.columns['z'] > 25)
        in_flight += frame.velocities[new].tolist()
        # as read from the dump, which keeps six digits
        assert frame.positions[:48] == pytest.approx(slab.positions[:48], abs=1e-3)
    assert len(in_flight) > 100
    assert np.array(in_flight) == pytest.approx(np.tile([0, 0, -5.0], (len(in_flight), 1)))
    late = log.thermo['Time'] > 2
    assert log.thermo['c_substrate_temp'][late].mean() == pytest.approx(300, abs=40)


def test_killed_deposition_goes_on(run_folder, slab, deposit_settings, lmp):
    """Killed in the middle and gone on with, a deposition ends with the atoms of a whole one."""
    settings = deposit_settings()
    first = run_folder('first', 'deposit', settings, slab)
    process = subprocess.Popen(
        ['lmp', '-in', 'in.lmp'],
        cwd=first,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (first / 'restart.3000').exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    broken = read_log(first / 'log.lammps')
    assert not broken.finished
    # the newest file may have been cut off by the kill
    step = restart_steps(path.name for path in first.iterdir())[-2]
    second = run_folder('second', 'deposit', settings, slab, restart_step=step)
    shutil.copy(first / f'restart.{step}', second)
    assert lmp(second).returncode == 0
    log = read_log(second / 'log.lammps')
    assert (log.finished, log.warnings, log.last_step) == (True, [], 6000)
    assert balance(second, settings, slab, log).n_final == 144 + 24
    thermo = merge_thermo([broken.thermo, log.thermo])
    assert thermo['Step'].tolist() == list(range(0, 6001, 100))
    assert thermo['v_inserted'].tolist() == [-(-s // 250) for s in range(0, 6001, 100)]
    # a restart file that was cut off is refused, with the reason in the log
    third = run_folder('third', 'deposit', settings, slab, restart_step=step)
    (third / f'restart.{step}').write_bytes((first / f'restart.{step}').read_bytes()[:-100])
    assert lmp(third).returncode != 0
    assert 'Incomplete or corrupted' in read_log(third / 'log.lammps').errors[0]
    # the film and its thermostat are as they were
    assert log.thermo['v_ceiling'][0] == broken.thermo['v_ceiling'][broken.thermo['Step'] == step][0]
    assert log.thermo['PotEng'][0] == pytest.approx(broken.thermo['PotEng'][broken.thermo['Step'] == step][0])


def test_walltime_ends_in_good_order(run_folder, lmp, slab, deposit_settings):
    folder = run_folder('wall', 'deposit', deposit_settings(duration_ps=60, rate_Li_per_ps=0.5), slab, walltime_s=1)
    assert lmp(folder).returncode == 0
    log = read_log(folder / 'log.lammps')
    assert log.walltime_reached
    assert 0 < log.last_step < 60_000
    assert log.last_step in restart_steps(path.name for path in folder.iterdir())


@pytest.mark.parametrize('pressure_bar', [None, 0.0])
def test_heal_heats_and_goes_on(run_folder, lmp, pressure_bar):
    """From cold, linearly, with the same target after a restart; the cell moves under pressure only."""
    crystal = VoidCrystalSettings(size=(4, 4, 4), void_size=(1, 1, 1)).build()
    values = {'duration_ps': 3, 'heating_ps': 2, 'pressure_bar': pressure_bar, 'temperature_K': 200, 'seed': 1}
    settings = validate('heal', {**values, 'restart_every_ps': 1, 'dump_every_ps': 1})
    folder = run_folder('whole', 'heal', settings, crystal)
    assert lmp(folder).returncode == 0
    thermo = read_log(folder / 'log.lammps').thermo
    assert thermo['Temp'][0] == pytest.approx(10)
    assert thermo['v_target'][[0, 10, 20, 30]] == pytest.approx([10, 105, 200, 200])
    assert thermo['Temp'][-8:].mean() == pytest.approx(200, abs=40)
    assert (np.ptp(thermo['Lx']) > 0) == (pressure_bar is not None)
    if pressure_bar is None:
        return
    second = run_folder('second', 'heal', settings, crystal, restart_step=1000)
    shutil.copy(folder / 'restart.1000', second)
    assert lmp(second).returncode == 0
    log = read_log(second / 'log.lammps')
    assert log.thermo['v_target'][[0, -1]] == pytest.approx([105, 200])
    assert log.last_step == 3000


def test_run_folder_below_the_job(run_folder, lmp):
    """With a run folder, all files are in it and the potential is found one above."""
    settings = validate('heal', {'duration_ps': 0.02, 'heating_ps': 0, 'seed': 1})
    folder = run_folder('job', 'heal', settings, bcc_bulk(size=(2, 2, 2)), run_directory='run_000')
    (folder / 'run_000').mkdir()
    shutil.move(folder / 'start.data', folder / 'run_000')
    assert lmp(folder).returncode == 0
    assert {'log.lammps', 'traj.dump', 'restart.20', 'final.data'} <= {p.name for p in (folder / 'run_000').iterdir()}
    assert read_log(folder / 'run_000' / 'log.lammps').version.isdigit()
