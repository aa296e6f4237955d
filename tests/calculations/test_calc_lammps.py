"""The LAMMPS job: its files and commands, going on from an earlier job, and what it refuses before it is submitted."""

import io

import numpy as np
import pytest
from aiida.common.datastructures import CodeRunMode
from aiida.orm import Dict, RemoteData, SinglefileData
from ase.io import read

from aiida_liheal.calculations.lammps import LammpsCalculation, members_in_order, run_folder
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.structures.bcc import SlabSettings, VoidCrystalSettings, bcc_bulk
from aiida_liheal.structures.frames import Frames

SLAB = SlabSettings(size=(4, 4), n_layers=6, n_fixed_layers=2, height_above_A=60)
DEPOSIT = {'duration_ps': 2.0, 'fixed_below_A': SLAB.fixed_below_A, 'restart_every_ps': 0.5, 'seed': 7}
EXPLORE = {'duration_ps': 0.1, 'every_ps': 0.02, 'seed': 7}
TRUST = {'lower_eV_per_A': 0.05, 'upper_eV_per_A': 0.2}


def shard(*images, domain=None):
    return FramesData(Frames.from_atoms(images), domain=domain)


@pytest.fixture
def deposition(codes, meam_potential):
    """Inputs of a deposition; changes to its settings, or to the inputs themselves."""

    def make(images=None, inputs=None, **changes):
        settings = {key: value for key, value in {**DEPOSIT, **changes}.items() if value is not None}
        return {
            'code': codes['lmp'],
            'structures': shard(*(images or [SLAB.build()])),
            'potentials': {'m0': meam_potential},
            'settings': Dict({'kind': 'deposit', 'runs': [settings]}),
            **(inputs or {}),
        }

    return make


@pytest.fixture
def exploration(codes, tiny_committee):
    """Inputs of an exploration of two structures at two pressures."""

    def make(images=None, inputs=None, **changes):
        images = images or [bcc_bulk(), bcc_bulk(size=(2, 2, 1))]
        settings = {key: value for key, value in {**EXPLORE, **changes}.items() if value is not None}
        runs = [{**settings, 'structure': n, 'pressure_bar': p} for n in (0, 1) for p in (0.0, 1e4)]
        return {
            'code': codes['lmp'],
            'structures': shard(*images),
            'potentials': tiny_committee,
            'settings': Dict({'kind': 'explore', 'runs': runs, 'trust': TRUST}),
            **(inputs or {}),
        }

    return make


def text(folder, name):
    with folder.open(name) as handle:
        return handle.read()


def test_files_of_a_deposition(prepare, deposition):
    folder, calcinfo = prepare(LammpsCalculation, **deposition())
    assert sorted(folder.get_content_list()) == ['library.meam', 'run_000']
    assert sorted(folder.get_subfolder('run_000').get_content_list()) == ['in.lmp', 'start.data']
    deck = text(folder, 'run_000/in.lmp')
    for line in ('shell cd run_000', 'read_data start.data', 'pair_coeff * * ../library.meam Li NULL Li'):
        assert line in deck.splitlines()
    assert 'timer timeout' not in deck
    assert '96 atoms' in text(folder, 'run_000/start.data')
    (code,) = calcinfo.codes_info
    assert code.cmdline_params == ['-in', 'run_000/in.lmp', '-log', 'none']
    assert (code.stdout_name, code.stderr_name) == ('run_000/lmp.out', 'run_000/lmp.err')
    # the deck is kept in the database; the potential and the start are nodes already
    assert sorted(calcinfo.provenance_exclude_list) == ['library.meam', 'run_000/start.data']
    assert calcinfo.remote_copy_list == []


def test_the_trajectory_stays_where_it_was_made(prepare, deposition, exploration):
    """Only an exploration brings its frames back, for the parser to choose from, and they are not kept."""
    for inputs, retrieves in ((deposition(), False), (exploration(), True)):
        _, calcinfo = prepare(LammpsCalculation, **inputs)
        kept = [item[0] for item in calcinfo.retrieve_list]
        read = [item[0] for item in calcinfo.retrieve_temporary_list]
        assert not any('traj.dump' in name for name in kept)
        assert any('traj.dump' in name for name in read) == retrieves
        assert 'run_000/final.data' in read
        assert {'run_000/log.lammps', 'run_000/lmp.err'} <= set(kept)


def test_runs_packed_in_one_job(prepare, exploration):
    folder, calcinfo = prepare(LammpsCalculation, **exploration())
    assert sorted(folder.get_content_list()) == ['m0.pb', 'm1.pb', 'run_000', 'run_001', 'run_002', 'run_003']
    assert calcinfo.codes_run_mode is CodeRunMode.SERIAL
    assert [code.cmdline_params[1] for code in calcinfo.codes_info] == [f'run_00{n}/in.lmp' for n in range(4)]
    for number, (atoms, pressure) in enumerate([(16, '0.0'), (16, '10000.0'), (8, '0.0'), (8, '10000.0')]):
        assert f'{atoms} atoms' in text(folder, f'run_00{number}/start.data')
        assert f'nph iso {pressure} {pressure}' in text(folder, f'run_00{number}/in.lmp')


def test_committee_runs_what_is_fastest(prepare, exploration, tiny_committee):
    """The compressed model of a member if it has one; the first member drives, in the order of the numbers."""
    folder, _ = prepare(LammpsCalculation, **exploration())
    for name, role in (('m0', 'compressed'), ('m1', 'frozen')):
        with folder.open(f'{name}.pb', 'rb') as handle:
            assert handle.read() == tiny_committee[name].read(role)
    deck = text(folder, 'run_000/in.lmp')
    # every 20 fs, with steps of 1 fs
    assert 'pair_style deepmd ../m0.pb ../m1.pb out_file model_devi.out out_freq 20' in deck
    assert members_in_order({'m10': 3, 'm2': 2, 'm0': 1}) == [1, 2, 3]
    assert run_folder(12) == 'run_012'


def test_walltime_is_shared_out_over_the_runs(prepare, deposition, exploration):
    """Each run stops in good order before its share of the walltime is over."""

    def clock(inputs, seconds):
        inputs['metadata'] = {'options': {'max_wallclock_seconds': seconds}}
        folder, _ = prepare(LammpsCalculation, **inputs)
        (line,) = [line for line in text(folder, 'run_000/in.lmp').splitlines() if line.startswith('timer')]
        return line.split()[2]

    assert clock(deposition(), 7200) == '1:54:00'
    assert clock(exploration(), 400) == '0:01:35'
    assert clock(deposition(), 1) == '0:00:01'


def test_going_on_copies_the_restart_file(prepare, deposition, aiida_localhost):
    remote = RemoteData(remote_path='/scratch/job/run_003', computer=aiida_localhost)
    folder, calcinfo = prepare(
        LammpsCalculation,
        **deposition(),
        parent_folders={'run_000': remote},
        restart_steps=Dict({'run_000': 1500}),
    )
    assert calcinfo.remote_copy_list == [
        (aiida_localhost.uuid, '/scratch/job/run_003/restart.1500', 'run_000/restart.1500')
    ]
    assert folder.get_subfolder('run_000').get_content_list() == ['in.lmp']
    deck = text(folder, 'run_000/in.lmp').splitlines()
    assert 'read_restart restart.1500' in deck
    assert 'run 2000 upto' in deck
    assert not any(line.startswith('velocity') for line in deck)
    # the potential is not in a restart file
    assert 'pair_coeff * * ../library.meam Li NULL Li' in deck
    assert calcinfo.provenance_exclude_list == ['library.meam']


def test_whatever_is_in_the_settings_no_line_of_theirs_reaches_a_deck(refusal, deposition):
    """Strings that a deck would take as commands are no numbers and no elements."""
    for changes in ({'element': 'Li\nshell rm -rf x'}, {'temperature_K': '300\nshell rm'}, {'seed': '1 shell'}):
        assert refusal(LammpsCalculation, **deposition(**changes))


@pytest.mark.parametrize(
    ('changes', 'parts'),
    [
        ({'rate_Li_per_ps': -1.0}, ['rate_Li_per_ps = -1.0', 'greater than 0', '1/ps']),
        ({'flux_Li_per_ps_nm2': 0.0}, ['flux_Li_per_ps_nm2 = 0.0', 'greater than 0', '1/ps/nm^2']),
        ({'flux_Li_per_ps_nm2': 0.1, 'rate_Li_per_ps': 1.0}, ['give one of them, not both']),
        ({'rate_Li_per_ps': 900.0}, ['900 atoms/ps', 'lower rate or a shorter time step']),
        ({'speed_m_per_s': -500.0}, ['speed_m_per_s = -500.0', 'greater than 0', 'm/s']),
        ({'temperature_K': 0.0}, ['temperature_K = 0.0', 'greater than 0', 'K']),
        ({'timestep_fs': 50.0}, ['timestep_fs = 50.0', 'less than or equal to 10', 'fs']),
        ({'duration_ps': None}, ['duration_ps: missing', 'ps']),
        ({'element': 'Lx'}, ["'Lx' is no chemical element"]),
        ({'element': 'Na'}, ["element = 'Na': the potential knows Li"]),
        ({'fixed_below_A': 500.0}, ['fixed_below_A = 500.0 Å fixes 96 of 96 atoms', 'fix some and leave some']),
        ({'clearance_A': 100.0}, ['the cell is', 'clearance_A = 100.0 Å']),
        ({'near_A': 60.0}, ['near_A = 60.0 Å', 'take at most']),
        ({'durationps': 2.0}, ['durationps: no such setting', 'duration_ps']),
        ({'structure': 1}, ['structure = 1', 'frames 0 to 0']),
        ({'structure': -1}, ['structure = -1', '0 or more']),
    ],
)
def test_depositions_that_make_no_sense_are_refused(refusal, deposition, changes, parts):
    message = refusal(LammpsCalculation, **deposition(**changes))
    for part in parts:
        assert part in message


def test_structures_that_cannot_be_run_are_refused(refusal, deposition, exploration):
    slab = SLAB.build()
    overlapping = slab.copy()
    overlapping.positions[1] = overlapping.positions[0] + [0.4, 0, 0]
    message = refusal(LammpsCalculation, **deposition([overlapping]))
    for part in ('atom 0 (Li)', '0.400 Å', 'atom 1', 'at least 1.5 Å'):
        assert part in message
    sodium = slab.copy()
    sodium.symbols[3] = 'Na'
    message = refusal(LammpsCalculation, **deposition([sodium]))
    assert 'the structure holds Na; the potential knows Li only' in message
    periodic = slab.copy()
    periodic.pbc = True
    assert 'a deposition needs a slab' in refusal(LammpsCalculation, **deposition([periodic]))
    assert 'no frames to start from' in refusal(
        LammpsCalculation, **deposition(inputs={'structures': FramesData(Frames.from_atoms([slab]).select([]))})
    )
    # of a pack, the run is named
    message = refusal(LammpsCalculation, **exploration([bcc_bulk(), slab]))
    assert 'run 2: pressure_bar = 0.0 bar: needs a cell that is periodic in all directions' in message


def test_void_crystal_is_run_as_it_is_built(prepare, deposition):
    atoms = VoidCrystalSettings(size=(4, 4, 4), void_size=(2, 1, 1)).build()
    inputs = deposition([atoms])
    inputs['settings'] = Dict({'kind': 'heal', 'runs': [{'duration_ps': 3.0, 'seed': 1}]})
    folder, _ = prepare(LammpsCalculation, **inputs)
    assert '124 atoms' in text(folder, 'run_000/start.data')


@pytest.mark.parametrize(
    ('settings', 'parts'),
    [
        ({'kind': 'boil', 'runs': [EXPLORE]}, ["kind of run 'boil'", 'explore, deposit, heal']),
        ({'kind': 'deposit', 'runs': []}, ['runs = []', 'at least 1']),
        ({'runs': [EXPLORE]}, ['kind: missing']),
        ({'kind': 'explore', 'runs': [EXPLORE], 'trust': TRUST}, ['trust levels need a committee']),
        ({'kind': 'deposit', 'runs': [DEPOSIT], 'trust': TRUST}, ['trust levels belong to runs of kind explore']),
        (
            {'kind': 'explore', 'runs': [EXPLORE], 'trust': {'lower_eV_per_A': 0.3, 'upper_eV_per_A': 0.2}},
            ['lower_eV_per_A = 0.3 eV/Å', 'upper_eV_per_A = 0.2 eV/Å'],
        ),
        ({'kind': 'deposit', 'runs': [DEPOSIT], 'min_distance_A': 0.0}, ['min_distance_A = 0.0', 'greater than 0']),
        ({'kind': 'heal', 'runs': [{'duration_ps': 1.0, 'seed': 1}]}, ['heating_ps = 2.0 ps', 'duration_ps = 1.0 ps']),
    ],
)
def test_jobs_that_make_no_sense_are_refused(refusal, deposition, settings, parts):
    message = refusal(LammpsCalculation, **deposition(inputs={'settings': Dict(settings)}))
    for part in parts:
        assert part in message


def test_potentials_that_do_not_fit_are_refused(refusal, deposition, tiny_committee, meam_potential):
    def message(**potentials):
        return refusal(LammpsCalculation, **deposition(inputs={'potentials': potentials}))

    assert 'no potential given' in message()
    assert 'a committee needs deepmd potentials only, got meam, deepmd' in message(
        m0=meam_potential, m1=tiny_committee['m1']
    )
    # the same model with another symbol in its list of elements
    other = tiny_committee['m0'].read('frozen').replace(b'\x00B\x02Li', b'\x00B\x02Na')
    sodium = PotentialData(kind='deepmd', elements=['Na'], files={'frozen': other})
    assert 'differ in elements' in message(m0=tiny_committee['m0'], m1=sodium)


@pytest.fixture
def three(deposition):
    """Three depositions in a job, after some of them broke off."""

    def make(steps, folders=None, **settings):
        inputs = deposition()
        run = inputs['settings']['runs'][0]
        inputs['settings'] = Dict({'kind': 'deposit', 'runs': [run] * 3, **settings})
        inputs['metadata'] = {'options': {'max_wallclock_seconds': 6000}}
        more = {'restart_steps': Dict(steps)} if steps is not None else {}
        return inputs | more | ({'parent_folders': folders} if folders else {})

    return make


def test_only_the_runs_that_are_named_are_done(prepare, three, aiida_localhost):
    remote = RemoteData(remote_path='/scratch/job/run_002', computer=aiida_localhost)
    folder, calcinfo = prepare(LammpsCalculation, **three({'run_002': 500, 'run_000': None}, {'run_002': remote}))
    assert [code.cmdline_params[1] for code in calcinfo.codes_info] == ['run_000/in.lmp', 'run_002/in.lmp']
    assert sorted(folder.get_content_list()) == ['library.meam', 'run_000', 'run_002']
    assert calcinfo.remote_copy_list == [
        (aiida_localhost.uuid, '/scratch/job/run_002/restart.500', 'run_002/restart.500')
    ]
    decks = [text(folder, f'{run}/in.lmp').splitlines() for run in ('run_000', 'run_002')]
    assert 'read_data start.data' in decks[0]
    assert 'read_restart restart.500' in decks[1]
    # the walltime is shared by the two that run
    assert all('timer timeout 0:47:30 every 100' in deck for deck in decks)
    assert not any('run_001' in item[0] for item in calcinfo.retrieve_list + calcinfo.retrieve_temporary_list)


def test_runs_side_by_side(prepare, three):
    """All at once, each with the whole walltime."""
    folder, calcinfo = prepare(LammpsCalculation, **three(None, side_by_side=True))
    assert calcinfo.codes_run_mode is CodeRunMode.PARALLEL
    for number in range(3):
        assert 'timer timeout 1:35:00 every 100' in text(folder, f'run_00{number}/in.lmp').splitlines()


def test_restarts_that_cannot_be_are_refused(refusal, deposition, exploration, three, aiida_localhost):
    remote = RemoteData(remote_path='/scratch/job/run_000', computer=aiida_localhost)
    own = {'run_000': remote}
    for inputs in (
        three(None, own),
        three({'run_000': 500}),
        three({'run_000': None}, own),
        three({'run_001': 5}, own),
    ):
        assert 'belong together' in refusal(LammpsCalculation, **inputs)
    for step in (-1, 2000, 500.5, '500', True):
        message = refusal(LammpsCalculation, **three({'run_000': step}, own))
        assert f'restart_steps.run_000 = {step!r}: must be a step from 0 to 1999' in message
    assert 'restart_steps.run_003: no such run; there are run_000, run_001, run_002' in refusal(
        LammpsCalculation, **three({'run_003': None})
    )
    assert 'restart_steps names no run' in refusal(LammpsCalculation, **three({}))
    message = refusal(LammpsCalculation, **exploration(), parent_folders=own, restart_steps=Dict({'run_000': 10}))
    assert 'kind explore are not gone on with' in message


def test_ports_of_the_base_that_bypass_the_checks_are_gone(refusal, deposition):
    script = SinglefileData(io.BytesIO(b'shell rm -rf x'))
    assert 'script' in refusal(LammpsCalculation, **deposition(), script=script)


def test_fixed_seed_fixed_deck(prepare, deposition):
    """The same inputs write the same deck; another seed changes its random numbers only."""
    decks = []
    for seed in (7, 7, 8):
        folder, _ = prepare(LammpsCalculation, **deposition(seed=seed))
        decks.append(text(folder, 'run_000/in.lmp').splitlines())
    assert decks[0] == decks[1]
    changed = [line.split()[0] for line, other in zip(decks[0], decks[2], strict=True) if line != other]
    assert changed == ['velocity', 'fix', 'fix']


def test_positions_reach_lammps_in_full(prepare, deposition):
    """Positions of a start are written with enough digits to be the same numbers."""
    rng = np.random.default_rng(0)
    atoms = SLAB.build()
    atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
    atoms.positions[:, 2] = np.abs(atoms.positions[:, 2])
    folder, _ = prepare(LammpsCalculation, **deposition([atoms]))
    written = read(folder.get_abs_path('run_000/start.data'), format='lammps-data', units='metal', atom_style='atomic')
    assert written.get_distances(0, range(1, 96), mic=True) == pytest.approx(
        atoms.get_distances(0, range(1, 96), mic=True), abs=1e-10
    )
