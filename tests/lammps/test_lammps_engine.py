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
from aiida_liheal.structures.valleys import SlopeSettings

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


def in_flight(*folders):
    """Where atoms are that no one has met yet, by step and id: the last word of each step counts."""
    found = {}
    for folder in folders:
        for frame in iter_dump(folder / 'traj.dump'):
            new = (frame.columns['id'] > 144) & (frame.columns['z'] > 30)
            ids = frame.columns['id'][new].astype(int).tolist()
            found[frame.step] = dict(zip(ids, frame.positions[new].tolist(), strict=True))
    return found


def run_until(folder, step):
    """Run, and kill by SIGKILL once the log is at this step."""
    process = subprocess.Popen(
        ['lmp', '-in', 'in.lmp'],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None:
            assert time.monotonic() < deadline
            if (folder / 'log.lammps').exists() and (read_log(folder / 'log.lammps').last_step or 0) >= step:
                break
            time.sleep(0.01)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_killed_at_random_it_is_one_run(run_folder, lmp, slab, deposit_settings):
    """Killed at any steps, the segments are the whole run: each atom at its step, from its place, in every frame once.

    From three patches of different flux, over a substrate with a thermostat of its own.
    """
    patches = [
        {'x_A': [0, 5], 'relative_flux': 3},
        {'x_A': [8, 12], 'y_A': [2, 9]},
        {'x_A': [15, 21], 'relative_flux': 0.5},
    ]
    settings = deposit_settings(
        duration_ps=5,
        dump_every_ps=0.25,
        restart_every_ps=0.1,
        thermo_every_ps=0.05,
        # so fast and so far apart that they do not meet before they land
        speed_m_per_s=2000,
        near_A=4.4,
        source_patches=patches,
        thermostat='substrate',
    )
    whole = run_folder('whole', 'deposit', settings, slab)
    assert lmp(whole).returncode == 0
    kills = sorted(np.random.default_rng(20).integers(200, 4800, size=2).tolist())
    folders, step = [], None
    for number, kill in enumerate([*kills, None]):
        folder = run_folder(f's{number}', 'deposit', settings, slab, restart_step=step)
        if folders:
            shutil.copy(folders[-1] / f'restart.{step}', folder)
        folders.append(folder)
        if kill is None:
            assert lmp(folder).returncode == 0
        else:
            run_until(folder, kill)
            assert not read_log(folder / 'log.lammps').finished
            # the newest file may have been cut off by the kill
            step = restart_steps(path.name for path in folder.iterdir())[-2]
            assert step > 0
    one, logs = read_log(whole / 'log.lammps'), [read_log(folder / 'log.lammps') for folder in folders]
    thermo = merge_thermo([log.thermo for log in logs])
    for name in ('Step', 'Atoms', 'v_inserted'):
        assert thermo[name].tolist() == one.thermo[name].tolist()
    assert balance(folders[-1], settings, slab, logs[-1]) == balance(whole, settings, slab, one)
    assert balance(whole, settings, slab, one).n_inserted == 20
    given, got = in_flight(whole), in_flight(*folders)
    assert sorted(got) == sorted(given) == list(range(0, 5001, 250))
    assert sum(map(len, given.values())) > 80
    for time_step, atoms in given.items():
        assert got[time_step].keys() == atoms.keys()
        for number, place in atoms.items():
            assert got[time_step][number] == pytest.approx(place, abs=1e-3)


def test_atoms_fall_where_the_table_says(run_folder, lmp, slab, deposit_settings):
    """Nothing from a patch without flux; from the others in proportion to it."""
    settings = deposit_settings(
        duration_ps=5,
        rate_Li_per_ps=8,
        speed_m_per_s=2000,
        near_A=3.9,
        source_table=((1.0,), (0.0,), (3.0,)),
        dump_every_ps=0.5,
    )
    folder = run_folder('table', 'deposit', settings, slab)
    assert lmp(folder).returncode == 0
    places = {}
    for frame in iter_dump(folder / 'traj.dump'):
        fresh = (frame.columns['id'] > 144) & (frame.columns['z'] > 54)
        for number, x in zip(frame.columns['id'][fresh], frame.positions[fresh, 0], strict=True):
            places.setdefault(int(number), x)
    third = np.floor(np.array(list(places.values())) / (slab.cell[0, 0] / 3)).astype(int)
    assert len(third) == 40
    counts = np.bincount(third, minlength=3)
    assert counts[1] == 0
    # four standard deviations of a draw of 40
    assert counts[2] / 40 == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 40) ** 0.5)


def test_height_ends_a_run(run_folder, lmp, slab, deposit_settings):
    """The film is as high as asked for: a run that ended well, told apart from one whose walltime was over."""
    settings = deposit_settings(
        duration_ps=50,
        rate_Li_per_ps=10,
        speed_m_per_s=2000,
        near_A=4.4,
        stop_at_height_A=2.5,
        dump_every_ps=5,
        thermo_every_ps=0.5,
    )
    folder = run_folder('height', 'deposit', settings, slab, walltime_s=3000)
    assert lmp(folder).returncode == 0
    log = read_log(folder / 'log.lammps')
    assert (log.finished, log.walltime_reached, log.halted_by, log.errors) == (True, False, 'height', [])
    assert log.last_step % 1000 == 0
    assert log.last_step < 50_000
    # the film counts and not what falls from 56 Å above it; at the steps that are looked at, it was lower before
    looked_at = log.thermo['Step'] % 1000 == 0
    assert 2.5 <= log.thermo['v_height'][-1] < 15
    assert (log.thermo['v_height'][looked_at][1:-1] < 2.5).all()
    assert balance(folder, settings, slab, log).n_lost == 0
    assert settings.ended_by(3.0, log.halted_by) == 'height'


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


def test_a_surface_relaxes_on_fixed_layers(run_folder, lmp, slab):
    values = {'duration_ps': 1, 'heating_ps': 0.5, 'pressure_bar': None, 'temperature_K': 300, 'seed': 1}
    settings = validate('heal', {**values, 'fixed_below_A': 2.63, 'dump_every_ps': 0.5, 'restart_every_ps': 0.5})
    folder = run_folder('whole', 'heal', settings, slab)
    assert lmp(folder).returncode == 0
    log = read_log(folder / 'log.lammps')
    assert (log.finished, log.errors, log.thermo['Atoms'][-1]) == (True, [], 144)
    assert log.thermo['c_mobile_temp'][-4:].mean() == pytest.approx(300, abs=100)
    second = run_folder('second', 'heal', settings, slab, restart_step=500)
    shutil.copy(folder / 'restart.500', second)
    assert lmp(second).returncode == 0
    for frame in (*iter_dump(folder / 'traj.dump'), *iter_dump(second / 'traj.dump')):
        assert frame.positions[:48] == pytest.approx(slab.positions[:48], abs=1e-3)
        assert frame.step == 0 or not np.allclose(frame.positions[48:], slab.positions[48:], atol=1e-2)


def test_run_folder_below_the_job(run_folder, lmp):
    """With a run folder, all files are in it and the potential is found one above."""
    settings = validate('heal', {'duration_ps': 0.02, 'heating_ps': 0, 'seed': 1})
    folder = run_folder('job', 'heal', settings, bcc_bulk(size=(2, 2, 2)), run_directory='run_000')
    (folder / 'run_000').mkdir()
    shutil.move(folder / 'start.data', folder / 'run_000')
    assert lmp(folder).returncode == 0
    assert {'log.lammps', 'traj.dump', 'restart.20', 'final.data'} <= {p.name for p in (folder / 'run_000').iterdir()}
    assert read_log(folder / 'run_000' / 'log.lammps').version.isdigit()


def test_melting_goes_on_where_it_was(run_folder, lmp):
    """From a restart file within the cooling, and from that of the very step at which all atoms begin to move."""
    atoms = bcc_bulk(size=(3, 3, 10))
    values = {'temperature_K': 400.0, 'melting_ps': 0.3, 'cooling_ps': 0.2, 'duration_ps': 0.8, 'seed': 5}
    settings = validate('melt', {**values, 'restart_every_ps': 0.1, 'thermo_every_ps': 0.05})
    whole = run_folder('whole', 'melt', settings, atoms)
    assert lmp(whole).returncode == 0
    expected = read_log(whole / 'log.lammps')
    assert (expected.finished, expected.errors) == (True, [])
    assert restart_steps(path.name for path in whole.iterdir()) == list(range(100, 801, 100))
    for step in (400, 500):
        folder = run_folder(f'from_{step}', 'melt', settings, atoms, restart_step=step)
        shutil.copy(whole / f'restart.{step}', folder)
        assert lmp(folder).returncode == 0
        log = read_log(folder / 'log.lammps')
        assert (log.finished, log.errors, log.last_step) == (True, [], 800)
        at = {name: expected.thermo[name][expected.thermo['Step'] == step][0] for name in ('PotEng', 'Temp', 'Lz')}
        assert {name: log.thermo[name][0] for name in at} == pytest.approx(at)
        # half of the atoms were at 1,200 K
        assert log.thermo['Temp'][-1] == pytest.approx(400, abs=100)


def test_a_walltime_in_the_melting_leaves_the_crystal_held(run_folder, lmp):
    """The restart file is that of the step: atoms of the crystal have no velocities yet, those of the melt have."""
    atoms = bcc_bulk(size=(3, 3, 10))
    values = {'temperature_K': 400.0, 'melting_ps': 100.0, 'duration_ps': 200.0, 'seed': 5}
    folder = run_folder('stopped', 'melt', validate('melt', values), atoms, walltime_s=1)
    assert lmp(folder).returncode == 0
    log = read_log(folder / 'log.lammps')
    assert (log.finished, log.walltime_reached) == (True, True)
    assert 0 < log.last_step < 100_000
    assert restart_steps(path.name for path in folder.iterdir())[-1] == log.last_step
    final = ase.io.read(folder / 'final.data', format='lammps-data', units='metal', atom_style='atomic')
    order = np.argsort(final.arrays['id'])
    speed = np.linalg.norm(final.get_velocities()[order], axis=1)
    is_crystal = atoms.positions[:, 2] < atoms.cell[2, 2] / 2 - 1e-3
    assert (speed[is_crystal] == 0).all()
    assert (speed[~is_crystal] > 0).all()


def test_a_slide_goes_on(run_folder, lmp):
    """Groups, thermostat and the unwrapped place of the atom are those of the whole run."""
    slope = {'size': [6, 2], 'n_layers': 5, 'n_fixed_layers': 2, 'depth_A': 3.51, 'height_above_A': 10.0}
    shape = SlopeSettings.read({**slope, 'angle_deg': 90.0, 'from_bottom_A': 4.0})
    values = {'duration_ps': 0.4, 'restart_every_ps': 0.2, 'thermo_every_ps': 0.02, 'temperature_K': 50.0, 'seed': 5}
    settings = validate('slide', {**values, 'fixed_below_A': shape.fixed_below_A})
    whole = run_folder('whole', 'slide', settings, shape.build())
    assert lmp(whole).returncode == 0
    folder = run_folder('second', 'slide', settings, shape.build(), restart_step=200)
    shutil.copy(whole / 'restart.200', folder)
    assert lmp(folder).returncode == 0
    first, log = read_log(whole / 'log.lammps').thermo, read_log(folder / 'log.lammps').thermo
    assert log['Step'].tolist() == list(range(200, 401, 20))
    names = ('PotEng', 'c_surface_temp', 'v_placed_x', 'v_placed_y', 'v_placed_z')
    assert {name: log[name][0] for name in names} == pytest.approx({name: first[name][10] for name in names}, abs=1e-5)
    # another noise from there on, the same motion
    assert log['v_placed_z'][-1] == pytest.approx(first['v_placed_z'][-1], abs=0.5)
