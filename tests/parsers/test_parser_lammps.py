"""The parser of LAMMPS jobs on kept outputs: whole, broken off, out of walltime, exploded, failed, packed."""

import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from aiida.orm import Dict

from aiida_liheal.calculations.lammps import LammpsCalculation
from aiida_liheal.calculations.monitors import limits_monitor
from aiida_liheal.data.frames import FramesData
from aiida_liheal.lammps.limits import Limits
from aiida_liheal.lammps.readers import iter_dump, read_log, read_model_devi
from aiida_liheal.structures.bcc import bcc_bulk, bcc_slab
from aiida_liheal.structures.frames import Frames

KEPT = Path(__file__).parent / 'fixtures' / 'lammps'
#: Outputs of single runs, outside of a job.
RUNS = Path(__file__).parents[1] / 'lammps' / 'fixtures'
CODES = LammpsCalculation.exit_codes
DEPOSIT = {
    'duration_ps': 6.0,
    'rate_Li_per_ps': 2.0,
    'near_A': 2.5,
    'fixed_below_A': 2.6325,
    'dump_every_ps': 0.5,
    'restart_every_ps': 1.0,
    'seed': 7,
}
HEAL = {'duration_ps': 2.0, 'seed': 7}
EXPLORE = {'pressure_bar': 0.0, 'duration_ps': 1.0, 'every_ps': 0.05, 'seed': 7}
#: Settings of each run of `RUNS`, as its deck has them.
SETTINGS = {
    'deposit_whole': DEPOSIT,
    'deposit_cut': DEPOSIT,
    'deposit_resumed': DEPOSIT,
    'deposit_walltime': {**DEPOSIT, 'duration_ps': 100.0, 'rate_Li_per_ps': 0.2},
    'deposit_lost': {**DEPOSIT, 'timestep_fs': 10.0, 'temperature_K': 6000.0, 'speed_m_per_s': 20000.0},
    'heal_exploded': {**HEAL, 'timestep_fs': 5.0},
    'heal_no_potential': HEAL,
    'explore_whole': EXPLORE,
    'explore_exploded': {**EXPLORE, 'timestep_fs': 10.0, 'temperature_K': 10000.0, 'damping_ps': 100.0},
    'explore_no_model': {**EXPLORE, 'timestep_fs': 10.0, 'temperature_K': 10000.0, 'damping_ps': 100.0},
}
STARTS = {
    'deposit': bcc_slab('Li', 3.51, (4, 3), 6, 60),
    'heal': bcc_bulk(size=(2, 2, 2)),
    'explore': bcc_bulk(size=(2, 2, 2))[:15],
}


@pytest.fixture
def parse(parse_job, meam_potential, tiny_committee):
    """Parse a folder as that of a job."""

    def run(folder, settings, start, *, committee=False, restart_steps=None, domain=None, limits=None):
        inputs = {
            'structures': FramesData(start if isinstance(start, Frames) else Frames.from_atoms([start]), domain=domain),
            'settings': Dict(settings),
        }
        members = tiny_committee if committee else {'m0': meam_potential}
        inputs |= {f'potentials__{name}': node for name, node in members.items()}
        if restart_steps is not None:
            inputs['restart_steps'] = Dict(restart_steps)
        if limits is not None:
            inputs['monitors__limits'] = limits_monitor(Limits(**limits))
        files = ['_scheduler-stderr.txt'] + [
            f'run_{number:03d}/{name}'
            for number in range(len(settings['runs']))
            for name in ('log.lammps', 'lmp.err', 'model_devi.out')
        ]
        return parse_job('liheal.lammps', folder, inputs, files)

    return run


@pytest.fixture
def job(tmp_path):
    """The folder and the settings of a job that is put together of kept runs."""

    def make(*cases, **settings):
        folder = tmp_path / f'{len(list(tmp_path.iterdir()))}_{"_".join(cases)}'
        for number, case in enumerate(cases):
            shutil.copytree(RUNS / case, folder / f'run_{number:03d}')
        return folder, {'kind': cases[0].split('_')[0], 'runs': [SETTINGS[case] for case in cases], **settings}

    return make


@pytest.fixture
def parse_runs(parse, job):
    """Parse kept runs as a job: gives the outputs, the process and the record of the first run."""

    def run(*cases, spoil=None, restart_steps=None, limits=None, **settings):
        folder, content = job(*cases, **settings)
        if spoil is not None:
            spoil(folder / 'run_000')
        outputs, process = parse(
            folder,
            content,
            STARTS[content['kind']],
            committee=content['kind'] == 'explore',
            restart_steps=restart_steps,
            limits=limits,
        )
        return outputs, process, outputs['results'].store().get_dict()['runs'][0]

    return run


def test_whole_deposition_with_a_committee(parse):
    folder = KEPT / 'deposit'
    settings = json.loads((folder / 'settings.json').read_text())
    outputs, process = parse(folder, settings, Frames.load(folder / 'structures.npz'), committee=True, domain='deposit')
    assert process.is_finished_ok, process.exit_message
    results = outputs['results'].store().get_dict()
    (record,) = results['runs']
    assert (results['kind'], results['lammps_version'], record['status']) == ('deposit', '20250722', 'finished')
    assert [record[key] for key in ('n_start', 'n_inserted', 'n_lost', 'n_final')] == [128, 1, 0, 129]
    assert (record['last_step'], record['n_steps'], record['cause']) == (1000, 1000, '')
    assert record['katom_step_per_s'] > 0
    thermo = outputs['thermo'].store()
    assert thermo.get_array('run_000_time_ps')[-1] == pytest.approx(1.0)
    assert thermo.get_array('run_000_n_inserted').tolist() == [0] + [1] * 10
    assert {'run_000_potential_energy_eV', 'run_000_substrate_temperature_K'} <= set(thermo.get_arraynames())
    deviations = outputs['deviations'].store()
    assert deviations.get_array('run_000_step').tolist() == [0, 200, 400, 600, 800, 1000]
    # deviations alone are no reason to sort frames
    assert 'candidates' not in outputs


def test_last_frame_is_that_of_the_run(parse):
    """Positions, cell and velocities (Å/ps) as LAMMPS wrote them, with the domain of the start."""
    folder = KEPT / 'deposit'
    settings = json.loads((folder / 'settings.json').read_text())
    outputs, _ = parse(folder, settings, Frames.load(folder / 'structures.npz'), committee=True, domain='deposit')
    shard = outputs['last_frames'].store()
    frames = shard.get_frames()
    assert (len(frames), shard.domain, frames.extra['run'].tolist()) == (1, 'deposit', [0])
    text = (folder / 'run_000' / 'final.data').read_text()
    rows = {row[0]: row[1:] for row in (line.split() for line in text.split('Velocities')[1].splitlines()) if row}
    given = np.array([rows[str(number)] for number in range(1, 130)], dtype=float)
    assert np.sort(frames.velocities, axis=0) == pytest.approx(np.sort(given, axis=0), abs=1e-9)
    order = ase.io.read(
        folder / 'run_000' / 'final.data', format='lammps-data', units='metal', atom_style='atomic'
    ).arrays['id']
    assert frames.velocities == pytest.approx(given[order - 1], abs=1e-9)


def test_whole_deposition_counts_its_atoms(parse_runs):
    outputs, process, record = parse_runs('deposit_whole')
    assert process.is_finished_ok, process.exit_message
    assert [record[key] for key in ('n_start', 'n_inserted', 'n_lost', 'n_final')] == [72, 12, 0, 84]
    assert outputs['last_frames'].get_frames().counts.tolist() == [84]
    assert 'deviations' not in outputs


def test_resumed_deposition_is_balanced_over_all_its_segments(parse_runs):
    """Counted from the very start, whatever this segment inserted."""
    outputs, process, record = parse_runs('deposit_resumed', restart_steps={'run_000': 3000})
    assert process.is_finished_ok, process.exit_message
    assert [record[key] for key in ('n_start', 'n_inserted', 'n_lost', 'n_final')] == [72, 12, 0, 84]
    assert outputs['thermo'].get_array('run_000_step')[0] == 3000


def test_broken_off_deposition(parse_runs):
    outputs, process, record = parse_runs('deposit_cut')
    assert process.exit_status == CODES.ERROR_INTERRUPTED.status
    assert f'after step {record["last_step"]} of 6000' in process.exit_message
    assert 'parent_folder' in process.exit_message
    assert record['status'] == 'interrupted'
    assert 0 < record['last_step'] < 6000
    assert outputs['thermo'].get_array('run_000_step')[-1] == record['last_step']
    assert 'last_frames' not in outputs


def test_deposition_out_of_walltime(parse_runs):
    outputs, process, record = parse_runs('deposit_walltime')
    assert process.exit_status == CODES.ERROR_WALLTIME.status
    assert f'after step {record["last_step"]} of 100000' in process.exit_message
    assert record['status'] == 'walltime'
    assert record['n_inserted'] == (record['last_step'] - 1) // 5000 + 1
    assert record['n_final'] == 72 + record['n_inserted']
    assert outputs['last_frames'].get_frames().counts.tolist() == [record['n_final']]


def test_lost_atoms_are_counted(parse_runs):
    """From the numbers of the atoms: the log tells of the first loss only."""
    _, process, record = parse_runs('deposit_lost')
    n_final = len(ase.io.read(RUNS / 'deposit_lost' / 'final.data', format='lammps-data', atom_style='atomic'))
    assert record['n_final'] == n_final
    assert read_log(RUNS / 'deposit_lost' / 'log.lammps').n_lost < 72 + 12 - n_final
    if process.is_finished_ok:
        assert record['n_lost'] == 72 + 12 - n_final
    else:
        # the last atom that came was lost as well and left no gap: the balance finds it
        assert process.exit_status == CODES.ERROR_ATOM_BALANCE.status


def without_last_atom(folder):
    """Take the atom with the highest number out of a data file: no gap in the numbers tells of it."""
    path = folder / 'final.data'
    text = path.read_text().replace('84 atoms', '83 atoms')
    path.write_text(''.join(line for line in text.splitlines(keepends=True) if not line.startswith('84 ')))


def test_atoms_that_do_not_add_up_are_told(parse_runs):
    outputs, process, record = parse_runs('deposit_whole', spoil=without_last_atom)
    assert process.exit_status == CODES.ERROR_ATOM_BALANCE.status
    assert '72 at the start + 12 inserted - 0 lost = 84, but 83 at the end' in process.exit_message
    assert record['status'] == 'unbalanced'
    assert 'last_frames' in outputs


@pytest.mark.parametrize('share', [None, 0.0, 0.01, 0.3, 0.6, 0.9])
def test_last_frame_that_is_missing_or_cut_off(parse_runs, share):
    """Without it nothing can be said of the atoms, so the run is to be gone on with from its last restart file."""

    def cut(folder):
        content = (folder / 'final.data').read_bytes()
        (folder / 'final.data').unlink()
        if share is not None:
            (folder / 'final.data').write_bytes(content[: int(share * len(content))])

    outputs, process, record = parse_runs('deposit_whole', spoil=cut)
    assert process.exit_status == CODES.ERROR_INTERRUPTED.status
    assert 'final.data' in record['cause']
    assert 'last_frames' not in outputs


def test_exploded_run(parse_runs):
    _, process, record = parse_runs('heal_exploded')
    assert process.exit_status == CODES.ERROR_EXPLODED.status
    assert 'Lost atoms' in process.exit_message
    assert 'smaller time step' in process.exit_message
    assert record['status'] == 'exploded'


def with_nan(folder):
    path = folder / 'log.lammps'
    rows = path.read_text().splitlines()
    index = next(n for n, row in enumerate(rows) if row.split()[:1] == ['6000'])
    words = rows[index].split()
    rows[index] = ' '.join([*words[:3], 'nan', *words[4:]])
    path.write_text('\n'.join(rows) + '\n')


def test_energy_that_is_no_number(parse_runs):
    outputs, process, record = parse_runs('deposit_whole', spoil=with_nan)
    assert process.exit_status == CODES.ERROR_EXPLODED.status
    assert 'not finite' in record['cause']
    outputs['thermo'].store()


def test_failed_run_tells_the_line(parse_runs):
    _, process, record = parse_runs('heal_no_potential')
    assert process.exit_status == CODES.ERROR_LAMMPS.status
    assert '1 of 1 runs failed' in process.exit_message
    assert 'Cannot open MEAM library file' in process.exit_message
    assert 'pair_coeff * * library.meam Li NULL Li' in record['cause']


def test_restart_file_that_cannot_be_read(parse):
    folder = KEPT / 'restart_unreadable'
    settings = json.loads((KEPT / 'deposit' / 'settings.json').read_text())
    start = Frames.load(KEPT / 'deposit' / 'structures.npz')
    _, process = parse(folder, settings, start, committee=True, restart_steps={'run_000': 500})
    assert process.exit_status == CODES.ERROR_RESTART_UNREADABLE.status
    assert 'restart.500 cannot be read' in process.exit_message
    assert 'Incomplete or corrupted' in process.exit_message


def test_executable_that_is_not_there(parse, tmp_path):
    settings = {'kind': 'deposit', 'runs': [DEPOSIT]}
    _, process = parse(KEPT / 'missing', settings, STARTS['deposit'])
    assert process.exit_status == CODES.ERROR_NO_OUTPUT.status
    assert '/opt/lammps/lmp: No such file or directory' in process.exit_message
    _, process = parse(tmp_path, settings, STARTS['deposit'])
    assert process.exit_status == CODES.ERROR_NO_OUTPUT.status
    assert 'nothing was written' in process.exit_message


def test_pack_of_good_and_bad_runs(parse_runs):
    """What a run gave counts, what it did not reach is missing, and one good run makes the job."""
    trust = {'lower_eV_per_A': 0.1, 'upper_eV_per_A': 1.0}
    outputs, process, _ = parse_runs('explore_whole', 'explore_exploded', 'explore_no_model', trust=trust)
    assert process.is_finished_ok, process.exit_message
    runs = outputs['results'].get_dict()['runs']
    assert [run['status'] for run in runs] == ['finished', 'finished', 'failed']
    for case, run in zip(('explore_whole', 'explore_exploded'), runs, strict=False):
        devi = read_model_devi(RUNS / case / 'model_devi.out')['max_devi_f']
        assert run['n_accurate'] == (devi <= 0.1).sum()
        assert run['n_candidate'] == ((devi > 0.1) & (devi < 1.0)).sum()
        assert run['n_failed'] == (devi >= 1.0).sum()
        assert run['n_missing'] == 0
        assert run['max_devi_f_eV_per_A'] == pytest.approx(devi.max())
    # the run that never began is not forgotten: 1 ps in steps of 0.05 ps and the start
    assert [runs[2][key] for key in ('n_accurate', 'n_candidate', 'n_failed', 'n_missing')] == [0, 0, 0, 21]
    assert 'incompatible model' in runs[2]['cause']


def test_exploration_of_which_a_part_is_to_be_done(parse_runs):
    trust = {'lower_eV_per_A': 0.1, 'upper_eV_per_A': 1.0}
    outputs, process, first = parse_runs(
        'explore_whole', 'explore_exploded', trust=trust, restart_steps={'run_001': None}
    )
    assert process.is_finished_ok, process.exit_message
    assert first == {'status': 'not_run'}
    assert outputs['results'].get_dict()['runs'][1]['n_missing'] >= 0


def test_candidates_are_the_frames_of_the_trajectory(parse_runs):
    trust = {'lower_eV_per_A': 0.1, 'upper_eV_per_A': 1.0}
    outputs, _, _ = parse_runs('explore_whole', 'explore_exploded', trust=trust)
    frames = outputs['candidates'].store().get_frames()
    runs = outputs['results'].get_dict()['runs']
    assert len(frames) == sum(run['n_candidate'] for run in runs) > 0
    dumps = [
        {frame.step: frame for frame in iter_dump(RUNS / case / 'traj.dump')}
        for case in ('explore_whole', 'explore_exploded')
    ]
    for index, atoms in enumerate(frames):
        frame = dumps[frames.extra['run'][index]][frames.extra['step'][index]]
        assert np.array_equal(atoms.positions, frame.positions - frame.origin)
        assert np.array_equal(atoms.cell, frame.cell)
        assert 0.1 < frames.extra['max_devi_f'][index] < 1.0
    assert not frames.is_labelled
    assert frames.velocities is None


def cut_deviations(folder):
    path = folder / 'model_devi.out'
    path.write_text(path.read_text()[: path.stat().st_size // 2])


def test_exploration_that_broke_off(parse_runs):
    """Frames that were never reached are counted as missing, which makes them failed."""
    trust = {'lower_eV_per_A': 0.1, 'upper_eV_per_A': 1.0}
    _, process, record = parse_runs('explore_whole', spoil=cut_deviations, trust=trust)
    assert process.is_finished_ok
    reached = record['n_accurate'] + record['n_candidate'] + record['n_failed']
    assert 0 < reached < 21
    assert record['n_missing'] == 21 - reached


def test_pack_without_any_frame(parse_runs):
    _, process, _ = parse_runs(
        'explore_no_model', 'explore_no_model', trust={'lower_eV_per_A': 0.1, 'upper_eV_per_A': 1.0}
    )
    assert process.exit_status == CODES.ERROR_LAMMPS.status
    assert '2 of 2 runs failed' in process.exit_message
    assert 'incompatible model' in process.exit_message


@pytest.mark.parametrize('share', [0.0, 0.02, 0.2, 0.9, 0.999])
def test_log_cut_anywhere_is_parsed(parse_runs, share):
    """Wherever a job dies, its parser does not."""

    def cut(folder):
        content = (folder / 'log.lammps').read_bytes()
        (folder / 'log.lammps').write_bytes(content[: int(share * len(content))])
        (folder / 'final.data').unlink()

    _, process, record = parse_runs('deposit_whole', spoil=cut)
    assert process.exit_status == CODES.ERROR_INTERRUPTED.status
    assert record['status'] == 'interrupted'
    assert record['last_step'] <= 6000


def test_a_run_within_its_limits_has_no_flags(parse_runs):
    _, process, record = parse_runs('deposit_whole', limits={'max_temperature_K': 2000.0, 'max_lost_atoms': 0})
    assert process.is_finished_ok, process.exit_message
    assert record['flags'] == []
    assert 'flags' not in parse_runs('deposit_whole')[2]


@pytest.mark.parametrize('case', ['deposit_whole', 'deposit_cut', 'deposit_walltime'])
def test_a_run_beyond_a_limit_that_stops(parse_runs, case):
    """Whether the monitor stopped it or it came to its end before: the limit, the value and the step are told."""
    outputs, process, record = parse_runs(case, limits={'max_temperature_K': 150.0})
    assert process.exit_status == CODES.ERROR_BEYOND_LIMIT.status
    log = read_log(RUNS / case / 'log.lammps').thermo
    first = np.flatnonzero(log['Temp'] > 150.0)[0]
    told = f'max_temperature_K: {log["Temp"][first]:.6g} K at step {int(log["Step"][first])}, allowed 150'
    assert told in process.exit_message
    assert (record['status'], record['cause']) == ('stopped', told)
    # what the run made until then is kept
    assert outputs['thermo'].get_array('run_000_step').tolist() == log['Step'].tolist()
    assert ('last_frames' in outputs) == (case != 'deposit_cut')
    (flag,) = record['flags']
    assert flag['largest'] == log['Temp'].max()


def test_a_run_beyond_a_limit_that_flags(parse_runs):
    """It ends as it would have without, and its results say what it passed."""
    limits = {'max_temperature_K': 150.0, 'action': 'flag'}
    outputs, process, record = parse_runs('deposit_whole', limits=limits)
    assert process.is_finished_ok, process.exit_message
    assert (record['status'], record['cause'], record['n_final']) == ('finished', '', 84)
    (flag,) = record['flags']
    assert (flag['limit'], flag['allowed']) == ('max_temperature_K', 150.0)
    assert flag['value'] > 150.0
    outputs['results'].store()
    _, process, record = parse_runs('deposit_cut', limits=limits)
    assert process.exit_status == CODES.ERROR_INTERRUPTED.status
    assert record['flags']


def test_lost_atoms_beyond_a_limit(parse_runs):
    _, process, record = parse_runs('deposit_lost', limits={'max_lost_atoms': 2})
    assert process.exit_status == CODES.ERROR_BEYOND_LIMIT.status
    assert 'max_lost_atoms' in process.exit_message
    assert record['n_final'] < 84


def test_deviations_beyond_a_limit(parse_runs):
    """Of several runs each is flagged for itself."""
    limits = {'max_deviation_eV_per_A': 1.0, 'action': 'flag'}
    outputs, process, whole = parse_runs('explore_whole', 'explore_exploded', limits=limits)
    assert process.is_finished_ok, process.exit_message
    exploded = outputs['results'].get_dict()['runs'][1]
    devi = read_model_devi(RUNS / 'explore_exploded' / 'model_devi.out')
    (flag,) = exploded['flags']
    assert flag['step'] == devi['step'][devi['max_devi_f'] > 1.0][0]
    largest = read_model_devi(RUNS / 'explore_whole' / 'model_devi.out')['max_devi_f'].max()
    assert len(whole['flags']) == int(largest > 1.0)


def test_a_run_that_blew_up_is_told_so_whatever_its_limits(parse_runs):
    _, process, record = parse_runs('heal_exploded', limits={'max_temperature_K': 1.0, 'action': 'stop'})
    assert process.exit_status == CODES.ERROR_EXPLODED.status
    assert record['flags'][0]['limit'] == 'max_temperature_K'


@pytest.mark.parametrize(
    ('case', 'step', 'words'),
    [
        ('disk_full_dump', 3000, 'Error writing dump traj: No space left on device'),
        ('disk_full_restart', 3000, 'I/O error while writing restart'),
    ],
)
def test_full_disk(parse, case, step, words):
    """What was written before is kept; another job at once would fail alike."""
    outputs, process = parse(KEPT / case, {'kind': 'deposit', 'runs': [DEPOSIT]}, STARTS['deposit'])
    assert process.exit_status == CODES.ERROR_NO_SPACE.status
    assert words in process.exit_message
    assert f'after step {step} of 6000' in process.exit_message
    assert 'make room' in process.exit_message
    record = outputs['results'].store().get_dict()['runs'][0]
    assert (record['status'], record['last_step']) == ('no_space', step)
    assert outputs['thermo'].get_array('run_000_step')[-1] == step


def test_full_disk_that_only_the_output_tells_of(parse_runs):
    """On a full disk the log may not take the error any more: the shell's or LAMMPS' own output may."""

    def spoil(folder):
        (folder / 'lmp.err').write_text('bash: line 9: echo: write error: No space left on device\n')

    _, process, _ = parse_runs('deposit_cut', spoil=spoil)
    assert process.exit_status == CODES.ERROR_NO_SPACE.status
    assert 'write error: No space left on device' in process.exit_message


def test_killed_run_says_so(parse_runs):
    """By SIGKILL the run itself has no chance to say a word; the shell that it ran in does."""

    def spoil(folder):
        line = "_aiidasubmit.sh: line 20:  4242 Killed                  '/opt/venv/bin/lmp' '-in' 'run_000/in.lmp'\n"
        (folder.parent / '_scheduler-stderr.txt').write_text(line)

    _, process, record = parse_runs('deposit_cut', spoil=spoil)
    assert process.exit_status == CODES.ERROR_INTERRUPTED.status
    assert 'Killed' in record['cause']
    assert 'Killed' in process.exit_message
    assert 'nothing says why' in parse_runs('deposit_cut')[1].exit_message


@pytest.mark.parametrize(
    ('case', 'words'),
    [
        ('model_missing', 'Failed to open file: ../m1.pb'),
        ('model_cut', 'o_atom_energy:0'),
        ('model_element', 'element Li not found in the model'),
    ],
)
def test_model_that_does_not_load(parse, case, words):
    settings = {'kind': 'heal', 'runs': [{'duration_ps': 0.05, 'heating_ps': 0.0, 'dump_every_ps': 0.01, 'seed': 7}]}
    outputs, process = parse(KEPT / case, settings, STARTS['heal'], committee=True)
    assert process.exit_status == CODES.ERROR_LAMMPS.status
    assert words in process.exit_message
    assert outputs['results'].store().get_dict()['runs'][0]['status'] == 'failed'
    assert 'thermo' not in outputs
