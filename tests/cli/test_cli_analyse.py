"""`analyse`: the same numbers as OVITO called directly, JSON alone on standard output, plots, messages."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ovito.io import import_file
from ovito.modifiers import CommonNeighborAnalysisModifier, ConstructSurfaceModifier


@pytest.fixture(scope='module')
def hollow(tmp_path_factory):
    """A dump of two frames of a rattled bcc crystal with a void; the second has an atom less."""
    atoms = bulk('Li', 'bcc', a=3.51, cubic=True).repeat(6)
    atoms = atoms[np.linalg.norm(atoms.positions - 10.0, axis=1) > 4.5]
    text = ''
    for step in range(2):
        atoms.rattle(0.1, seed=step)
        lines = ['ITEM: TIMESTEP', 100 * step, 'ITEM: NUMBER OF ATOMS', len(atoms) - step]
        lines += ['ITEM: BOX BOUNDS pp pp pp', *['0.0 21.06'] * 3, 'ITEM: ATOMS id type x y z c_pe']
        rows = enumerate(atoms.positions[: len(atoms) - step], start=1)
        lines += [f'{i} 1 {x!r} {y!r} {z!r} -1.6' for i, (x, y, z) in ((i, p.tolist()) for i, p in rows)]
        text += '\n'.join(map(str, lines)) + '\n'
    path = tmp_path_factory.mktemp('dump') / 'hollow.dump'
    path.write_text(text)
    return path


def run(*arguments):
    """The command in a process of its own, where there is no AiiDA profile."""
    command = [str(Path(sys.executable).parent / 'aiida-liheal'), 'analyse', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_json_is_what_ovito_gives(hollow):
    """Standard output is one JSON document; shares and voids are those of OVITO's modifiers on the file."""
    done = run(hollow, '--json', '--workers', 2)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f'{name} is no JSON'))
    pipeline = import_file(hollow)
    pipeline.modifiers.append(CommonNeighborAnalysisModifier())
    pipeline.modifiers.append(ConstructSurfaceModifier(radius=3.0, identify_regions=True))
    series = content['series']
    for number in range(2):
        data = pipeline.compute(number)
        assert series['n_atoms'][number] == data.particles.count
        bcc = data.attributes['CommonNeighborAnalysis.counts.BCC'] / data.particles.count
        assert series['bcc_share'][number] == pytest.approx(bcc)
        assert series['void_volume_A3'][number] == pytest.approx(data.attributes['ConstructSurfaceMesh.void_volume'])
        assert series['void_regions'][number] == data.attributes['ConstructSurfaceMesh.void_region_count']
    # bulk has no outer surface: nothing to be the mean of
    assert 'potential_energy_tips_eV_per_atom' not in series
    assert content['summary']['start']['void_volume_A3'] == series['void_volume_A3'][0]
    assert content['summary']['units']['void_volume_A3'] == 'Å^3'


def test_plots(invoke, hollow, tmp_path):
    status, output = invoke('analyse', hollow, '--plots', tmp_path / 'new' / 'plots')
    assert status == 0, output
    folder = tmp_path / 'new' / 'plots'
    page = (folder / 'figures.html').read_text()
    assert page.count('class="plotly-graph-div"') == len(list(folder.glob('*.csv'))) > 2
    assert '<script src=' not in page
    with (folder / 'void_volume.csv').open() as file:
        head, *rows = csv.reader(file)
    assert head == ['time (ps)', 'volume of voids (Å³)']
    assert [float(row[0]) for row in rows] == [0.0, 0.1]
    assert float(rows[0][1]) > 100


def test_workers_are_given_once(invoke, hollow):
    status, output = invoke('analyse', hollow, '--workers', 2, '-s', 'n_workers=3')
    assert (status, 'give one of them' in output) == (1, True)
    status, output = invoke('analyse', hollow, '--workers', 0)
    assert status == 2


@pytest.mark.parametrize(
    ('change', 'part'),
    [
        (lambda text: text.replace(' id type', ' number type'), 'column id'),
        (lambda text: text[: len(text) // 4], 'no complete frame'),
        (lambda text: text.replace('0.0 21.06', '0.0 nothing'), 'bad.dump'),
        (lambda text: '', 'no complete frame'),
    ],
)
def test_bad_dumps_are_told_apart(invoke, hollow, tmp_path, change, part):
    path = tmp_path / 'bad.dump'
    path.write_text(change(hollow.read_text()))
    status, output = invoke('analyse', path)
    assert status == 1
    assert part in output
    assert 'Traceback' not in output


def test_mobility_that_cannot_be_measured(invoke, hollow):
    status, output = invoke('analyse', hollow, '-s', 'measure_mobility=true')
    assert status == 1
    assert '2 frames over 0.1 ps' in output
