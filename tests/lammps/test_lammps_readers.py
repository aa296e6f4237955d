"""Readers on kept real outputs, whole, broken off and failed."""

import math
import tracemalloc

import ase.io
import numpy as np
import pytest

from aiida_liheal.lammps.readers import (
    atom_balance,
    dump_to_frames,
    iter_dump,
    lost_atoms,
    merge_thermo,
    read_log,
    read_model_devi,
    restart_steps,
)


class TestLog:
    def test_whole(self, fixtures):
        log = read_log(fixtures / 'deposit_whole' / 'log.lammps')
        assert log.finished
        assert (log.errors, log.warnings, log.n_lost, log.walltime_reached) == ([], [], 0, False)
        assert log.version == '20250722'
        assert (log.last_step, log.n_steps_done) == (6000, 6000)
        assert log.thermo['Step'].tolist() == list(range(0, 6001, 100))
        assert log.thermo['Atoms'][[0, -1]].tolist() == [72, 84]
        assert log.thermo['c_substrate_temp'].shape == (61,)
        assert log.loop_time_s > 0
        assert log.katom_step_per_s > 10
        assert log.wall_time_s >= 1

    def test_killed(self, fixtures):
        log = read_log(fixtures / 'deposit_cut' / 'log.lammps')
        assert not log.finished
        assert log.errors == []
        assert log.last_step == 3500
        assert math.isnan(log.wall_time_s)
        assert math.isnan(log.katom_step_per_s)

    def test_walltime(self, fixtures):
        log = read_log(fixtures / 'deposit_walltime' / 'log.lammps')
        assert log.walltime_reached
        assert log.finished
        assert 0 < log.last_step < 100_000

    def test_lost(self, fixtures):
        log = read_log(fixtures / 'deposit_lost' / 'log.lammps')
        assert log.n_lost == 2
        assert log.warnings == ['WARNING: Lost atoms: original 73 current 71']

    @pytest.mark.parametrize(
        ('case', 'errors'),
        [
            ('heal_exploded', ['ERROR: Lost atoms: original 16 current 14']),
            (
                'heal_no_potential',
                ['ERROR: Cannot open MEAM library file', 'Last input line: pair_coeff * * library.meam Li NULL Li'],
            ),
            ('explore_no_model', ['ERROR on proc 0: DeePMD-kit C API Error']),
        ],
    )
    def test_failed(self, fixtures, case, errors):
        log = read_log(fixtures / case / 'log.lammps')
        assert not log.finished
        assert len(log.errors) == len(errors)
        for got, expected in zip(log.errors, errors, strict=True):
            assert got.startswith(expected)

    def test_cut_anywhere(self, fixtures, tmp_path):
        """However much of a log there is, what it says is a part of what the whole one says."""
        text = (fixtures / 'deposit_whole' / 'log.lammps').read_bytes()
        whole = read_log(fixtures / 'deposit_whole' / 'log.lammps').thermo
        for size in range(0, len(text), 97):
            (tmp_path / 'log').write_bytes(text[:size])
            log = read_log(tmp_path / 'log')
            assert not log.finished
            for name, column in log.thermo.items():
                assert np.array_equal(column, whole[name][: len(column)])

    def test_garbage(self, tmp_path):
        (tmp_path / 'log').write_bytes(
            bytes(range(256)) * 50 + b'\nStep Temp\n 0 nan\n 1 inf\nWARNING: odd\n 2 3 4\n 3 1\n'
        )
        log = read_log(tmp_path / 'log')
        assert log.thermo['Step'].tolist() == [0, 1, 3]
        assert np.isnan(log.thermo['Temp'][0])
        assert log.warnings == ['WARNING: odd']

    def test_two_runs_in_one_log(self, tmp_path):
        first = '   Step   Temp   Press\n 0 1 2\n 10 3 4\nLoop time of 1.5 on 1 procs for 10 steps with 5 atoms\n'
        second = '   Step   Temp   Lx\n 10 3 9\n 20 5 9\nLoop time of 2.5 on 1 procs for 10 steps with 5 atoms\n'
        (tmp_path / 'log').write_text(first + 'something else\n' + second)
        log = read_log(tmp_path / 'log')
        assert {name: column.tolist() for name, column in log.thermo.items()} == {
            'Step': [0, 10, 20],
            'Temp': [1, 3, 5],
        }
        assert (log.loop_time_s, log.n_steps_done) == (4.0, 20)


class TestSegments:
    def test_killed_and_resumed(self, fixtures):
        """A killed run and its continuation make one table, the steps done twice only once."""
        cut, resumed, whole = (
            read_log(fixtures / f'deposit_{case}' / 'log.lammps').thermo for case in ('cut', 'resumed', 'whole')
        )
        assert cut['Step'][-1] > resumed['Step'][0]
        joined = merge_thermo([cut, resumed])
        assert joined['Step'].tolist() == whole['Step'].tolist()
        assert joined['v_inserted'].tolist() == whole['v_inserted'].tolist()
        assert joined['PotEng'][-1] == resumed['PotEng'][-1]

    def test_three_segments_of_which_one_went_back(self):
        tables = [
            {'Step': np.array(steps), 'x': np.full(len(steps), i)}
            for i, steps in enumerate([[0, 1, 2, 3], [2, 3, 4], [1, 2]])
        ]
        joined = merge_thermo(tables)
        assert joined['Step'].tolist() == [0, 1, 2]
        assert joined['x'].tolist() == [0, 2, 2]
        assert merge_thermo([{}, {'Step': np.array([])}]) == {}

    def test_restart_steps(self):
        assert restart_steps(['restart.200', 'restart.1000', 'restart.x', 'log.lammps', 'restart.10.tmp']) == [
            200,
            1000,
        ]


class TestModelDevi:
    def test_whole(self, fixtures):
        deviation = read_model_devi(fixtures / 'explore_whole' / 'model_devi.out')
        assert list(deviation) == [
            'step', 'max_devi_v', 'min_devi_v', 'avg_devi_v', 'max_devi_f', 'min_devi_f', 'avg_devi_f',
        ]  # fmt: skip
        frames, _ = dump_to_frames(fixtures / 'explore_whole' / 'traj.dump', ['Li'])
        assert deviation['step'].tolist() == frames.extra['step'].tolist() == list(range(0, 1001, 50))
        assert (deviation['max_devi_f'] >= deviation['avg_devi_f']).all()
        assert (deviation['avg_devi_f'] >= deviation['min_devi_f']).all()
        assert deviation['max_devi_f'][-1] == pytest.approx(5.730559e-02)

    def test_cut_anywhere(self, fixtures, tmp_path):
        text = (fixtures / 'explore_whole' / 'model_devi.out').read_bytes()
        whole = read_model_devi(fixtures / 'explore_whole' / 'model_devi.out')
        for size in range(0, len(text), 31):
            (tmp_path / 'devi').write_bytes(text[:size])
            deviation = read_model_devi(tmp_path / 'devi')
            n = len(deviation['step'])
            assert n == max(0, text[:size].count(b'\n') - 1)
            assert all(np.array_equal(deviation[name], whole[name][:n]) for name in whole)

    def test_nan_is_kept_and_other_columns_refused(self, tmp_path):
        header = '#  step max_devi_v min_devi_v avg_devi_v max_devi_f min_devi_f avg_devi_f\n'
        (tmp_path / 'devi').write_text(header + '0 1 1 1 -nan 0 1\n')
        assert np.isnan(read_model_devi(tmp_path / 'devi')['max_devi_f'][0])
        (tmp_path / 'devi').write_text('# step energy\n0 1\n')
        with pytest.raises(ValueError, match=r"columns \['step', 'energy'\], expected"):
            read_model_devi(tmp_path / 'devi')


class TestDump:
    def test_atoms_come(self, fixtures):
        reader = iter_dump(fixtures / 'deposit_whole' / 'traj.dump')
        frames = list(reader)
        assert not reader.truncated
        assert [frame.step for frame in frames] == list(range(0, 6001, 500))
        assert [frame.n_atoms for frame in frames] == [72, *range(73, 85)]
        assert frames[0].pbc.tolist() == [True, True, False]
        assert frames[0].cell == pytest.approx(np.diag([14.04, 10.53, 68.775]))
        assert list(frames[0].columns) == ['id', 'type', 'x', 'y', 'z', 'vx', 'vy', 'vz', 'c_pe']
        assert frames[-1].columns['id'].tolist() == list(range(1, 85))

    def test_cut_in_a_frame(self, fixtures):
        reader = iter_dump(fixtures / 'deposit_cut' / 'traj.dump')
        assert [frame.step for frame in reader] == list(range(0, 3001, 500))
        assert reader.truncated
        frames, truncated = dump_to_frames(fixtures / 'deposit_cut' / 'traj.dump', ['Li'])
        assert truncated
        assert len(frames) == 7

    def test_cut_anywhere(self, fixtures, tmp_path):
        text = (fixtures / 'deposit_whole' / 'traj.dump').read_bytes()
        ends = [i for i in range(len(text)) if text.startswith(b'ITEM: TIMESTEP', i)] + [len(text)]
        for size in [*range(0, len(text), 1511), *ends]:
            (tmp_path / 'dump').write_bytes(text[:size])
            reader = iter_dump(tmp_path / 'dump')
            assert len(list(reader)) == sum(end <= size for end in ends[1:])
            assert reader.truncated == (size not in ends)

    def test_frames(self, fixtures):
        frames, truncated = dump_to_frames(fixtures / 'explore_whole' / 'traj.dump', ['Li'], indices=[0, 3, 99])
        assert not truncated
        assert frames.extra['step'].tolist() == [0, 150]
        assert frames.elements == ('Li',)
        assert frames.velocities.shape == (30, 3)
        # the tilted cell is the one LAMMPS reports the volume of
        volumes = read_log(fixtures / 'explore_whole' / 'log.lammps').thermo['Volume']
        assert frames.volumes[0] == pytest.approx(volumes[0], rel=1e-6)
        temperature = frames.to_atoms(0).get_temperature() * 15 / 14
        assert temperature == pytest.approx(300, rel=1e-3)

    def test_nothing_there(self, tmp_path):
        (tmp_path / 'dump').write_text('')
        assert dump_to_frames(tmp_path / 'dump', ['Li']) == (None, False)
        (tmp_path / 'dump').write_text('no dump at all\n')
        with pytest.raises(ValueError, match='where a frame should begin'):
            list(iter_dump(tmp_path / 'dump'))

    def test_memory_is_flat(self, fixtures, tmp_path):
        text = (fixtures / 'deposit_whole' / 'traj.dump').read_text()
        peaks = []
        for copies in (2, 40):
            (tmp_path / 'dump').write_text(text * copies)
            tracemalloc.start()
            assert sum(1 for _ in iter_dump(tmp_path / 'dump')) == 13 * copies
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < 1.2 * peaks[0]


class TestBalance:
    def test_lost_atoms_are_all_counted(self, fixtures):
        """The log warns of 2 lost atoms; the ids tell of all 47."""
        final = ase.io.read(
            fixtures / 'deposit_lost' / 'final.data', format='lammps-data', units='metal', atom_style='atomic'
        )
        ids = final.arrays['id']
        balance = atom_balance(72, 12, lost_atoms(ids), len(final))
        assert (balance.n_lost, balance.n_final) == (47, 37)

    def test_a_broken_balance_is_refused(self):
        with pytest.raises(ValueError, match=r'72 at the start \+ 12 inserted - 1 lost = 83, but 84 at the end'):
            atom_balance(72, 12, 1, 84)

    def test_no_atom_at_all(self):
        assert lost_atoms(np.array([])) == 0


def test_memory_does_not_grow_with_the_trajectory(fixtures, tmp_path):
    """Of a long dump only the frames that are asked for are kept: its 1,260 frames alone would take 1.4 MB."""
    kept = (fixtures / 'explore_whole' / 'traj.dump').read_text()
    with open(tmp_path / 'dump', 'w') as file:
        for copy in range(60):
            file.write(kept.replace('ITEM: TIMESTEP\n', f'ITEM: TIMESTEP\n{f"{copy}0000" if copy else ""}'))
    tracemalloc.start()
    frames, truncated = dump_to_frames(tmp_path / 'dump', ['Li'], steps={50, 100, 17})
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (frames.extra['step'].tolist(), truncated) == ([50, 100], False)
    assert highest < 400_000
