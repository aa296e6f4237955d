"""Films and panels of dumps: what is shown, at which scale, in which colours, with how little memory."""

import weakref
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from click.testing import CliRunner
from PIL import Image, ImageSequence

from aiida_liheal.analysis.trajectory import Trajectory, TrajectoryError
from aiida_liheal.cli import film as commands
from aiida_liheal.report import film as films
from aiida_liheal.report import scene
from aiida_liheal.report.colours import ENERGY_SCALE, STRUCTURE_COLOURS
from aiida_liheal.report.film import FilmSettings, make_film
from aiida_liheal.report.panel import PanelSettings, make_panel
from aiida_liheal.report.scene import (
    SceneSettings,
    Shot,
    View,
    energy_range,
    new_viewport,
    picture,
    shots,
    strip,
    view_of,
)


def rgb(colour):
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def write(path, positions, cell, energies=None, steps=(0,), pbc='pp pp pp'):
    """A dump whose frames all have the same atoms."""
    lines = []
    for step in steps:
        lines += ['ITEM: TIMESTEP', str(step), 'ITEM: NUMBER OF ATOMS', str(len(positions))]
        lines += [f'ITEM: BOX BOUNDS {pbc}', *(f'0.0 {edge!r}' for edge in cell)]
        lines += ['ITEM: ATOMS id type x y z' + (' c_pe' if energies is not None else '')]
        for number, place in enumerate(positions):
            row = [number + 1, 1, *map(float, place)]
            lines.append(' '.join(map(str, row if energies is None else [*row, energies[number]])))
    path.write_text('\n'.join(lines) + '\n')
    return path


@pytest.fixture
def crystal(tmp_path):
    """Six frames of a perfect crystal of 4 x 4 x 4 cells with energies from -1.9 to -1.4 eV."""
    atoms = bulk('Li', 'bcc', a=3.51, cubic=True) * (4, 4, 4)
    energies = np.linspace(-1.9, -1.4, len(atoms))
    cell = atoms.cell.lengths().tolist()
    return write(tmp_path / 'traj.dump', atoms.positions, cell, energies, steps=range(0, 600, 100))


@pytest.fixture(scope='session')
def graphics(tmp_path_factory):
    """Skip where there is nothing to draw with."""
    path = write(tmp_path_factory.mktemp('graphics') / 'one.dump', [[1, 1, 1]], [4.0, 4.0, 4.0])
    try:
        make_panel({'one': [path]}, path.with_suffix('.png'), PanelSettings(width_px=200))
    except RuntimeError as error:
        pytest.skip(f'no graphics driver here: {str(error)[:80]}')


def first(path, settings, limits=None):
    return next(shots(Trajectory.index([path]), [0], settings, limits))


def test_colours_of_structures(crystal):
    """A perfect crystal is blue; only the slice in its middle is shown, unless all is asked for."""
    shot = first(crystal, SceneSettings())
    assert np.allclose(shot.colours, rgb(STRUCTURE_COLOURS['bcc']))
    # in steps of 1.755 Å there are four or five layers within 7 Å
    assert np.ptp(shot.positions[:, 1]) <= 7.0
    assert len(shot.positions) in (64, 80)
    assert len(first(crystal, SceneSettings(slice_A=0)).positions) == 128
    thin = first(crystal, SceneSettings(slice_A=2.0, along='z'))
    assert len(np.unique(thin.positions[:, 2].round(3))) <= 2


def test_colours_of_energies(crystal):
    """The ends of the scale lie at the energies that were given, or at the percentiles of the frames."""
    settings = SceneSettings(colour='energy', energy_range_eV=(-1.9, -1.4), slice_A=0)
    trajectory = Trajectory.index([crystal])
    limits = energy_range([trajectory], settings)
    assert limits == (-1.9, -1.4)
    colours = first(crystal, settings, limits).colours
    assert np.allclose(colours[[0, -1]], [rgb(ENERGY_SCALE[0]), rgb(ENERGY_SCALE[-1])])
    found = energy_range([trajectory], SceneSettings(colour='energy'))
    assert found == pytest.approx((-1.895, -1.405), abs=2e-3)
    assert energy_range([trajectory], SceneSettings()) is None


def test_energies_that_the_dump_lacks(tmp_path):
    path = write(tmp_path / 'bare.dump', [[1, 1, 1]], [5.0, 5.0, 5.0])
    with pytest.raises(TrajectoryError, match='no column c_pe'):
        energy_range([Trajectory.index([path])], SceneSettings(colour='energy'))


def test_structures_of_averaged_positions(tmp_path):
    """Atoms that swing about their sites: grey in a single frame, blue in the mean of two opposite ones."""
    atoms = bulk('Li', 'bcc', a=3.51, cubic=True) * (4, 4, 4)
    swing = np.random.default_rng(1).normal(0, 0.35, (len(atoms), 3))
    cell = atoms.cell.lengths().tolist()
    text = ''
    for step, sign in enumerate((1, -1)):
        text += write(tmp_path / 'part', atoms.positions + sign * swing, cell, steps=[step]).read_text()
    path = tmp_path / 'traj.dump'
    path.write_text(text)
    trajectory = Trajectory.index([path])
    blue = {}
    for n in (1, 2):
        (shot,) = shots(trajectory, [1], SceneSettings(average_frames=n), None)
        blue[n] = np.isclose(shot.colours, rgb(STRUCTURE_COLOURS['bcc'])).all(axis=1).mean()
    assert blue[1] < 0.5
    assert blue[2] == 1.0


def test_frames_before_are_those_of_the_dump(crystal):
    """With every third frame shown, the mean is still over those dumped just before."""
    trajectory = Trajectory.index([crystal])
    read = [[frame.step for frame in frames] for frames in scene.read_frames(trajectory, [0, 3, 5], 2)]
    assert read == [[0], [200, 300], [400, 500]]


def test_view_holds_what_has_landed():
    """Atoms in flight do not widen the view; vacuum above is shown in part."""
    positions = np.array([[0, 0, 0], [20, 5, 10], [3, 3, 200]], dtype=float)
    corners = np.array([[0, 0, 0], [20, 5, 300]], dtype=float)
    shot = Shot(0.0, positions, np.zeros((3, 3)), corners, np.array([False, False, True]))
    view = view_of([shot], SceneSettings())
    assert view.low == pytest.approx([-1.25, -1.25])
    assert view.high == pytest.approx([21.25, 11.25 + 0.15 * 12.5])
    from_above = view_of([shot], SceneSettings(along='z'))
    assert from_above.size_A == pytest.approx([22.5, 7.5])


def test_scale_bar_is_as_long_as_it_says():
    """2 nm at 10 pixels an Å are 200 pixels."""
    image = np.asarray(strip(1200, 30, 10.0, '', None).convert('L'))
    row = image[15]
    dark = np.flatnonzero(row < 100)
    length = np.flatnonzero(np.diff(dark) > 1)[0] + 1
    assert length == 201
    assert np.asarray(strip(1200, 30, 10.0, '', (-1.9, -1.4))).shape == (60, 1200, 3)


@pytest.mark.parametrize('along', ['x', 'y', 'z'])
def test_pictures_are_to_scale(graphics, along):
    """Two balls lie as far apart, and where, as the scale says."""
    settings = SceneSettings(along=along)
    right, up, _ = settings.axes
    places = np.array([5 * right + 4 * up, 25 * right + 14 * up])
    shot = Shot(0.0, places, np.array([[1.0, 0, 0], [0, 0, 1.0]]), places, np.zeros(2, bool))
    viewport, scale = new_viewport(View(np.zeros(2), np.array([30.0, 18.0]), 0.0), settings, (300, 200), below_px=20)
    assert scale == pytest.approx(0.96 * 10)
    pixels = np.asarray(picture(viewport, shot, (300, 200))).astype(int)
    centres = []
    for channel in (0, 2):
        other = 2 - channel
        rows, columns = np.nonzero(pixels[..., channel] - pixels[..., other] > 60)
        centres.append((columns.mean(), rows.mean()))
    (x0, y0), (x1, y1) = centres
    assert (x1 - x0, y0 - y1) == pytest.approx((20 * scale, 10 * scale), abs=2)
    # the middle of the view is in the middle of what is above the strip
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((150, 90), abs=2)


@pytest.mark.parametrize('ending', ['gif', 'mp4'])
def test_film_is_whole_and_holds_one_frame(graphics, crystal, tmp_path, monkeypatch, ending):
    """Every second frame and the last one, in their order, with their times; only one is in memory."""
    living, most = [], []
    read = scene._shot

    def counted(frames, *arguments):
        living.extend(weakref.ref(frame) for frame in frames)
        most.append(sum(one() is not None for one in living))
        return read(frames, *arguments)

    texts = []
    monkeypatch.setattr(scene, '_shot', counted)
    monkeypatch.setattr(films, 'time_text', lambda time: texts.append(time) or f'{time} ps')
    path = tmp_path / f'film.{ending}'
    path.write_bytes(b'before')
    seen = []
    settings = FilmSettings(every=2, width_px=200, frames_per_s=5)
    assert make_film([crystal], path, settings, lambda *args: seen.append(args)) == 4
    assert texts == [0.0, 0.2, 0.4, 0.5]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    # a generator lets its frame go when the next one is asked for
    assert max(most) <= 2
    assert not list(tmp_path.glob('.*'))
    if ending == 'mp4':
        assert path.read_bytes()[4:8] == b'ftyp'
        return
    with Image.open(path) as film:
        assert film.format == 'GIF'
        frames = [np.asarray(frame.convert('RGB')) for frame in ImageSequence.Iterator(film)]
        assert film.info['duration'] == 200
    assert len(frames) == 4
    assert frames[0].shape[1] == 200
    # the blue of bcc and the white around it are there, up to the 256 colours of the format
    pixels = frames[-1].reshape(-1, 3).astype(int)
    assert (np.abs(pixels - np.array(rgb(STRUCTURE_COLOURS['bcc'])) * 255).max(axis=1) < 40).mean() > 0.1
    assert (pixels.min(axis=1) > 245).mean() > 0.1


def test_source_goes_back_and_repeats():
    """OVITO may ask for a frame twice, or for an earlier one."""
    from ovito.data import DataCollection

    def begin():
        return iter(Shot(float(k), np.zeros((k + 1, 3)), np.zeros((k + 1, 3)), None, None) for k in range(4))

    source = films._Source(begin, 4)
    for frame in (0, 0, 2, 3, 1):
        data = DataCollection()
        source.create(data, frame=frame)
        assert (data.particles.count, source.shot.time_ps) == (frame + 1, frame)


def test_panel_of_runs_and_times(graphics, crystal, tmp_path):
    """A column each run and a row each time; all at one scale, so that the larger one is larger."""
    atoms = bulk('Li', 'bcc', a=3.51, cubic=True) * (2, 4, 2)
    small = write(tmp_path / 'small.dump', atoms.positions, atoms.cell.lengths().tolist(), steps=(0, 500))
    path = tmp_path / 'panel.png'
    settings = PanelSettings(width_px=600, at_ps=(0, 0.5))
    assert make_panel({'large': [crystal], 'small': [small]}, path, settings) == (2, 2)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert('RGB')).astype(int)
        assert image.info['dpi'] == pytest.approx((300, 300), abs=1)
    blue = pixels[..., 2] - pixels[..., 0] > 60
    widths = [np.ptp(np.flatnonzero(part[: len(part) // 2].any(axis=0))) for part in (blue[:, :290], blue[:, 310:])]
    assert widths[0] > 1.5 * widths[1]
    assert make_panel({'large': [crystal], 'small': [small]}, path, PanelSettings(width_px=300, columns=1)) == (2, 1)


def test_panel_refuses_times_that_no_run_has(crystal, tmp_path):
    with pytest.raises(ValueError, match=r"at_ps = 3 ps: 'a' has frames from 0 to 0\.5 ps"):
        make_panel({'a': [crystal]}, tmp_path / 'x.png', PanelSettings(at_ps=(3.0,)))


@pytest.mark.parametrize(
    ('command', 'arguments', 'told'),
    [
        ('film', ['DUMP', '-o', 'x.avi'], 'a film ends in .gif or .mp4'),
        ('film', ['none.dump', '-o', 'x.gif'], 'there is no file none.dump'),
        ('film', ['DUMP', '-o', 'none/x.gif'], 'there is no folder'),
        ('film', ['DUMP', '-o', 'x.gif', '--width', '10', '--fps', '0'], 'width_px = 10'),
        ('film', ['DUMP', '-o', 'x.gif', '--energy-range', '-1', '-2'], 'the first must be below the second'),
        ('film', ['DUMP', '-o', 'x.gif', '--every', '0'], 'every = 0'),
        ('panel', ['-r', 'DUMP', '-o', 'x.png'], 'give LABEL=DUMP'),
        ('panel', ['-r', 'a=DUMP', '-o', 'x.jpg'], 'a panel ends in .png'),
        ('panel', ['-r', 'a=DUMP', '-o', 'x.png', '--at', '9'], 'has frames from 0 to 0.5 ps'),
    ],
)
def test_commands_say_what_is_wrong(crystal, tmp_path, monkeypatch, command, arguments, told):
    monkeypatch.chdir(tmp_path)
    arguments = [argument.replace('DUMP', crystal.name) for argument in arguments]
    done = CliRunner().invoke(getattr(commands, command), arguments)
    assert done.exit_code == 1
    assert told in done.output
    assert not Path('x.gif').exists()


def test_commands_write(graphics, crystal, tmp_path):
    """Both commands with their options, on a dump that AiiDA never saw."""
    film, panel = tmp_path / 'film.gif', tmp_path / 'panel.png'
    done = CliRunner().invoke(
        commands.film, [str(crystal), '-o', str(film), '--every', '5', '--width', '200', '--along', 'z', '--slice', '0']
    )
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(
        commands.panel, ['-r', f'a={crystal}', '-o', str(panel), '--colour', 'energy', '--width', '300']
    )
    assert done.exit_code == 0, done.output
    assert film.stat().st_size > 1000
    assert panel.stat().st_size > 1000
