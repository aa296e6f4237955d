import copy
import json
from pathlib import Path

import numpy as np
import pytest
from analysis_synthetic import A, crystal, cut_cube, dump_text, slab, write_dump
from pydantic import ValidationError

from aiida_liheal.analysis.results import QUANTITIES, load_result, save_result
from aiida_liheal.analysis.series import analyse_trajectory
from aiida_liheal.analysis.settings import AnalysisSettings
from aiida_liheal.analysis.trajectory import Trajectory, TrajectoryError


def frame(step, n_atoms=16):
    return dump_text(step, crystal(2)[:n_atoms])


def steps(*paths):
    trajectory = Trajectory.index(paths)
    return trajectory.frames[:, 2].tolist(), trajectory.replaced, trajectory.truncated


def test_segments_of_a_restarted_run(tmp_path):
    """What a restart writes again is taken from the later dump, and counted; a frame cut by a kill is no loss."""
    first = write_dump(tmp_path / '0.dump', frame(0), frame(100), frame(200), frame(300)[:-30])
    second = write_dump(tmp_path / '1.dump', frame(150), frame(250))
    third = write_dump(tmp_path / '2.dump', frame(250), frame(350))
    assert steps(first, second, third) == ([0, 100, 150, 250, 350], 2, (0,))
    read = list(Trajectory.index([first, second, third]).read(range(5)))
    assert [f.step for f in read] == [0, 100, 150, 250, 350]


def test_restart_written_into_the_same_dump(tmp_path):
    path = write_dump(tmp_path / '0.dump', *[frame(s) for s in (0, 100, 200, 100, 200, 300)])
    assert steps(path) == ([0, 100, 200, 300], 2, ())


@pytest.mark.parametrize('piece', [1, 7, 33, 64, 100, 4096])
def test_frames_are_found_in_pieces(tmp_path, monkeypatch, piece):
    """Headers across the border of two pieces are found, and found once."""
    monkeypatch.setattr('aiida_liheal.analysis.trajectory._PIECE', piece)
    written = [0, 5, 10, 123456789, 1234567890123]
    assert steps(write_dump(tmp_path / '0.dump', *[frame(s, 3) for s in written])) == (written, 0, ())


def test_a_dump_that_died_before_its_first_frame(tmp_path):
    first = write_dump(tmp_path / '0.dump', frame(0), frame(100))
    assert steps(first, write_dump(tmp_path / '1.dump', '')) == ([0, 100], 0, ())
    assert steps(first, write_dump(tmp_path / '2.dump', 'ITEM: TIM')) == ([0, 100], 0, (1,))


@pytest.mark.parametrize('cut', [1, 5, 200, len(frame(200)) - 20, len(frame(200)) - 40])
def test_truncated(tmp_path, cut):
    """Wherever the last frame is cut, even in its last number, the complete ones are read."""
    whole = frame(0) + frame(100) + frame(200)
    path = write_dump(tmp_path / '0.dump', whole[:-cut])
    assert steps(path) == ([0, 100], 0, (0,))
    summary = analyse_trajectory([path]).summary
    assert (summary['is_truncated'], summary['frames_truncated'], summary['frames']) == (True, 1, 2)


def test_whole_dump_is_not_truncated(tmp_path):
    path = write_dump(tmp_path / '0.dump', frame(0), frame(100, 7))
    assert steps(path) == ([0, 100], 0, ())


@pytest.mark.parametrize(
    ('text', 'cause'),
    [
        ('', 'empty'),
        (frame(0)[:-5], 'empty'),
        ('LAMMPS (22 Jul 2025)\n', 'damaged'),
        (frame(0)[:-40] + frame(100) + frame(200), 'damaged'),
        (frame(0).replace(' id ', ' c_id '), 'columns'),
    ],
)
def test_what_cannot_be_analysed(tmp_path, text, cause):
    path = write_dump(tmp_path / '0.dump', text)
    with pytest.raises(TrajectoryError, match=r'0\.dump') as caught:
        analyse_trajectory([path])
    assert caught.value.cause == cause


def test_missing(tmp_path):
    with pytest.raises(TrajectoryError, match='does not exist') as caught:
        analyse_trajectory([write_dump(tmp_path / '0.dump', frame(0)), tmp_path / 'nowhere.dump'])
    assert caught.value.cause == 'missing'
    with pytest.raises(TrajectoryError, match='no dump'):
        analyse_trajectory([])


def closing_void(folder: Path) -> Path:
    """A crystal with a cube of 54 atoms missing; after 4 frames it is perfect. Frames every 500 fs."""
    hollow, _ = cut_cube(crystal(8), 3, 2)
    texts = [dump_text(500 * i, hollow, energies=np.full(len(hollow), -1.6)) for i in range(4)]
    perfect = crystal(8)
    texts += [dump_text(500 * i, perfect, energies=np.full(len(perfect), -1.7)) for i in range(4, 8)]
    return write_dump(folder / 'void.dump', *texts)


def test_series_of_a_closing_void(tmp_path):
    done = []
    result = analyse_trajectory([closing_void(tmp_path)], progress=lambda *numbers: done.append(numbers))
    series, summary = result.series, result.summary
    assert done == [(i, 8) for i in range(9)]
    assert series['time_ps'].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert series['n_atoms'].tolist() == [970] * 4 + [1024] * 4
    assert series['void_regions'].tolist() == [1] * 4 + [0] * 4
    assert series['largest_void_volume_A3'].tolist() == series['void_volume_A3'].tolist()
    assert summary['void_volumes_A3'] == {'start': [series['void_volume_A3'][0]], 'end': []}
    assert series['void_volume_A3'][0] > 54 * A**3 / 2
    assert (series['void_volume_A3'][4:] == 0).all()
    assert series['bcc_share_inside'].tolist() == [1.0] * 8
    assert series['bcc_share'][0] < series['bcc_share'][-1] == 1.0
    assert series['potential_energy_eV'][0] == pytest.approx(-1.6 * 970)
    assert series['potential_energy_eV_per_atom'][-1] == pytest.approx(-1.7)
    assert summary['healed_at_ps'] == 2.0
    # what a bulk crystal without velocities does not have
    assert not {'film_height_A', 'temperature_K', 'bcc_share_averaged'} & set(series)
    assert set(series) | set(result.profiles) <= set(QUANTITIES)
    # the void was closed for 1.5 ps, not for 2
    late = analyse_trajectory([closing_void(tmp_path)], AnalysisSettings(healed_for_ps=2.0))
    assert late.summary['healed_at_ps'] is None


def test_stride_keeps_the_last_frame(tmp_path):
    result = analyse_trajectory([closing_void(tmp_path)], AnalysisSettings(every=3, measure_voids=False))
    assert result.series['step'].tolist() == [0, 1500, 3000, 3500]
    assert 'void_volume_A3' not in result.series
    assert result.summary['healed_at_ps'] is None


def test_stride_averages_over_the_frames_just_before(tmp_path):
    """With every third frame analysed, the window holds the frames between, and only those."""
    rng = np.random.default_rng(5)
    atoms = crystal(5)
    texts = []
    for step in range(31):
        moved = atoms.copy()
        moved.positions += rng.normal(scale=0.35, size=moved.positions.shape) + 0.2 * step
        moved.wrap()
        texts.append(dump_text(step, moved))
    path = write_dump(tmp_path / 'hot.dump', *texts)
    dense = analyse_trajectory([path], AnalysisSettings(average_frames=4, measure_voids=False)).series
    for every in (3, 10):
        settings = AnalysisSettings(every=every, average_frames=4, measure_voids=False)
        sparse = analyse_trajectory([path], settings).series
        assert sparse['bcc_share_averaged'].tolist() == dense['bcc_share_averaged'][::every].tolist()
    assert dense['bcc_share'].mean() < 0.6 < 0.9 < dense['bcc_share_averaged'][3:].mean()


def deposition(folder: Path) -> Path:
    """A slab that drifts and gains an atom in flight, then a layer; ids unsorted in the file."""
    rng = np.random.default_rng(2)
    base = slab(6, 12)
    layer = slab(6, 14)[432:432]
    for site in crystal(6, 6, 1):
        if site.position[2] < 0.1:
            layer.append('Li')
            layer.positions[-1] = site.position + np.array([0, 0, 6 * A])
    texts = []
    for step, extra in enumerate((0, 1, 36)):
        atoms = base + layer[:extra]
        if extra == 1:
            atoms.positions[-1, 2] += 15.0
        ids = np.arange(1, len(atoms) + 1)
        velocities = rng.normal(scale=6.0, size=(len(atoms), 3)) + np.array([3.0, 0.0, 0.0])
        velocities[atoms.positions[:, 2] < 3] = 0.0
        order = rng.permutation(len(atoms))
        atoms.positions[:, 2] += 0.2  # no layer on the edge of two slices
        texts.append(dump_text(1000 * step, atoms[order], ids[order], velocities[order]))
    return write_dump(folder / 'deposit.dump', *texts)


def test_series_of_a_deposition(tmp_path):
    settings = AnalysisSettings(fixed_below_A=3.0, profile_frames=1, height_bin_A=A / 2)
    result = analyse_trajectory([deposition(tmp_path)], settings)
    series = result.series
    assert series['n_atoms'].tolist() == [432, 433, 468]
    assert series['atoms_in_flight'].tolist() == [0, 1, 0]
    assert series['film_height_A'] == pytest.approx([5.5 * A, 5.5 * A, 6 * A])
    assert (series['void_volume_A3'] == 0).all()
    assert result.summary['atoms_fixed'] == 72
    # layers 3 to 10 of 12 began inside; the two lowest of all are fixed
    assert result.summary['atoms_inside'] == 8 * 36
    # sigma 6 Å/ps is m sigma^2 / k = 300.5 K; some 360 atoms: standard error 4 %
    expected = 6.94 * 1.03642697e-4 * 36 / 8.617333262e-5
    assert series['temperature_K'] == pytest.approx(np.full(3, expected), rel=0.15)
    assert result.profiles['atoms'].tolist() == [36.0] * 13
    assert np.isnan(result.profiles['temperature_K'][:2]).all()
    snapshots = result.snapshots
    assert snapshots['last_id'].tolist() == list(range(1, 469))
    assert snapshots['last_position_A'].dtype == np.float32
    assert snapshots['last_position_A'][:432] == pytest.approx(snapshots['first_position_A'], abs=1e-4)
    assert (snapshots['first_step'], snapshots['last_step']) == (0, 2000)


def test_workers_give_the_same_bits(tmp_path):
    """Two processes give the arrays of one, to the last bit and in the same order."""
    rng = np.random.default_rng(8)
    hollow, _ = cut_cube(crystal(4), 2, 1)
    texts = []
    for step in range(7):
        hollow.positions += rng.normal(scale=0.1, size=hollow.positions.shape)
        velocities = rng.normal(scale=6.0, size=hollow.positions.shape)
        texts.append(dump_text(100 * step, hollow, None, velocities, rng.normal(-1.6, 0.1, len(hollow))))
    path = write_dump(tmp_path / 'hot.dump', *texts)
    done = []
    extra = {'average_frames': 2, 'measure_mobility': True}
    alone = analyse_trajectory([path], AnalysisSettings(**extra))
    together = analyse_trajectory(
        [path], AnalysisSettings(n_workers=2, **extra), progress=lambda *numbers: done.append(numbers)
    )
    total = len(alone.series['step'])
    assert done == [(i, total) for i in range(total + 1)]
    for name in ('series', 'profiles', 'snapshots', 'mobility'):
        one, two = getattr(alone, name), getattr(together, name)
        assert list(one) == list(two)
        for key in one:
            assert one[key].tobytes() == two[key].tobytes(), key
    assert (together.summary['settings'].pop('n_workers'), alone.summary['settings'].pop('n_workers')) == (2, 1)
    assert together.summary == alone.summary


def test_what_is_wrong_comes_back_from_a_worker():
    """Exceptions travel between processes as copies."""
    error = copy.copy(TrajectoryError('damaged', 'the words'))
    assert (error.cause, str(error)) == ('damaged', 'the words')


def pillars(folder: Path) -> Path:
    """Two walls on a substrate, 32 Å high, that a bridge joins in the third of five frames."""
    tall = slab(24, 24)[:]
    tall = tall[tall.positions[:, 1] < 4 * A]
    tall.cell[1, 1] = 4 * A
    x, z = tall.positions[:, 0] / A, tall.positions[:, 2] / A
    walls = ((x > 3.9) & (x < 8)) | ((x > 13.9) & (x < 18))
    bridge = (x >= 7.9) & (x < 14) & (z > 5)
    apart = tall[(z < 2.9) | walls]
    joined = tall[(z < 2.9) | walls | bridge]
    return write_dump(folder / 'walls.dump', *[dump_text(1000 * i, joined if i > 1 else apart) for i in range(5)])


def test_dendrites_of_a_run(tmp_path):
    """Off by default; on, a pair is measured, followed, and seen to touch in the third frame."""
    path = pillars(tmp_path)
    plain = analyse_trajectory([path])
    assert not any('dendrite' in name or 'pair' in name for name in (*plain.series, *plain.summary))
    result = analyse_trajectory([path], AnalysisSettings(measure_dendrites=True))
    series, summary = result.series, result.summary
    assert series['dendrites'].tolist() == [2, 2, 1, 1, 1]
    # from the substrate at 2.5 to the top at 11.5 lattice constants
    assert series['dendrite_height_A'] == pytest.approx(np.full(5, 9 * A), abs=0.1)
    assert series['dendrite_bottom_A'][:2] == pytest.approx(np.full(2, 4 * A), abs=0.3 * A)
    assert series['pair_joined'].tolist() == [0, 0, 1, 1, 1]
    assert series['deposit_height_A'] == pytest.approx(np.full(5, 9 * A), abs=0.1)
    assert summary['contacts']['contact_ps'] == 2.0
    assert len(summary['contacts']['pair']) == 2
    assert [one['atoms'] for one in summary['dendrites']] == [series['dendrite_atoms'][-1]]
    assert set(series) <= set(QUANTITIES)
    assert summary['units']['dendrite_height_A'] == 'Å'
    json.dumps(summary, allow_nan=False)


def test_dendrites_need_an_orthorhombic_cell(tmp_path):
    text = dump_text(0, slab(4, 8)).replace('BOX BOUNDS pp pp ff', 'BOX BOUNDS xy xz yz pp pp ff')
    text = text.replace('0.0 14.04\n0.0 14.04', '0.0 17.04 3.0\n0.0 14.04 0.0', 1)
    head, tail = text.split('ITEM: ATOMS')
    path = write_dump(tmp_path / 'tilted.dump', head.rstrip('\n') + ' 0.0\nITEM: ATOMS' + tail)
    with pytest.raises(ValueError, match='orthorhombic'):
        analyse_trajectory([path], AnalysisSettings(measure_dendrites=True))


def test_roughness_has_its_baseline(tmp_path):
    """An ideal flat (100) slab is as rough as the baseline of its facet says, to the coarseness of a fine grid."""
    path = write_dump(tmp_path / 'flat.dump', dump_text(0, slab(6, 8)))
    result = analyse_trajectory([path], AnalysisSettings(surface_spacing_A=0.2))
    assert result.series['roughness_A'] == pytest.approx([result.summary['roughness_baseline_A']['100']], rel=0.1)
    assert result.series['defect_depth_A'].tolist() == [0.0]
    bulk = analyse_trajectory([write_dump(tmp_path / 'bulk.dump', dump_text(0, crystal(4)))])
    assert 'roughness_A' not in bulk.series
    assert bulk.summary['roughness_baseline_A'] == {}


def test_result_files(tmp_path):
    result = analyse_trajectory([deposition(tmp_path)])
    save_result(result, tmp_path)
    loaded = load_result(tmp_path)
    for name in ('series', 'profiles', 'snapshots'):
        before, after = getattr(result, name), getattr(loaded, name)
        assert list(before) == list(after)
        for key in before:
            np.testing.assert_array_equal(before[key], after[key])
    assert loaded.summary == result.summary
    np.savez(tmp_path / 'series.npz', evil=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match='allow_pickle'):
        load_result(tmp_path)
    (tmp_path / 'series.npz').unlink()
    with pytest.raises(FileNotFoundError):
        load_result(tmp_path)


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        ({'void_probe_radius_A': 1.9}, 'void_probe_radius_A is 1.9 Å'),
        ({'vacuum_gap_A': 5.0}, 'vacuum_gap_A is 5.0 Å'),
        ({'every': 0}, 'every'),
        ({'mass_u': -1}, 'mass_u'),
        ({'probe': 3.0}, 'probe'),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(ValidationError, match=words):
        AnalysisSettings(**settings)


def test_dendrites_are_of_the_same_crystal():
    """What is not said of dendrites is that of the crystal; what is said holds, and comes back from JSON."""
    settings = AnalysisSettings(lattice_constant_A=3.44, dendrites={'slice_A': 4.0})
    assert (settings.dendrites.lattice_constant_A, settings.dendrites.slice_A) == (3.44, 4.0)
    settings = AnalysisSettings(lattice_constant_A=3.44, flight_cutoff_A=4.5, dendrites={'lattice_constant_A': 3.5})
    assert (settings.dendrites.lattice_constant_A, settings.dendrites.cluster_cutoff_A) == (3.5, 4.5)
    assert AnalysisSettings.model_validate_json(json.dumps(settings.model_dump())) == settings
    with pytest.raises(ValidationError, match=r'min_height_A is 2\.0 Å'):
        AnalysisSettings(dendrites={'min_height_A': 2.0})


def test_settings_are_json():
    settings = AnalysisSettings(fixed_below_A=14.0)
    assert AnalysisSettings.model_validate_json(json.dumps(settings.model_dump())) == settings
