"""VASP batches through AiiDA with a stand-in: labels, causes, restarts, refusals, and no potential in an archive."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import vasp_stand_in
from aiida.engine import run_get_node
from aiida.orm import CalcJobNode, Dict, InstalledCode, Int, QueryBuilder, load_node

from aiida_liheal.cli.archive import make_archive
from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines import engine
from aiida_liheal.engines.vasp.calculation import VaspBatchCalculation
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.label import LabelWorkChain

CHEAP = {'kpoint_spacing_per_A': 0.5}


@pytest.fixture
def label(vasp_code, potential_family, cells):
    """A builder of `liheal.label` for n frames; further settings of the engine and overrides by name."""

    def make(n, settings=None, code=None, **overrides):
        own = {'potential_family': potential_family, 'settings': {**CHEAP, **(settings or {})}}
        images = n if isinstance(n, list) else cells(n)
        return LabelWorkChain.get_builder_from_protocol(
            code or vasp_code,
            FramesData(Frames.from_atoms(images), domain='bulk'),
            protocol='paper',
            overrides={'vasp': own, **overrides},
            options={'withmpi': False},
            engine='vasp',
        )

    return make


@pytest.fixture
def job(label):
    """A builder of one job."""

    def make(n, settings=None):
        inputs = label(n, settings)
        builder = VaspBatchCalculation.get_builder()
        for name in ('code', 'settings', 'potentials'):
            builder[name] = inputs.vasp[name]
        builder.frames = inputs.frames
        builder.metadata.options.withmpi = False
        return builder

    return make


def test_batch_with_every_fault(job, cells, stand_in):
    """What went well is one shard; each other frame has its cause."""
    faults = {
        'f00001': ('unconverged', 'not self-consistent after 100 steps'),
        'f00002': ('truncated_xml', 'vasprun.xml is cut off'),
        'f00003': ('truncated_outcar', 'OUTCAR is cut off'),
        'f00004': ('killed', 'signal 9'),
        'f00005': ('no_stress', 'no stress'),
        'f00006': ('wrong_atoms', 'of 1 atoms, the frame has 2'),
        'f00007': ('not_finite', 'not finite'),
    }
    stand_in.ask(**{name: fault for name, (fault, _) in faults.items()})
    outputs, node = run_get_node(job(9))
    assert node.is_finished_ok, node.exit_message
    shard = outputs['frames']
    frames = shard.get_frames()
    assert shard.domain == 'bulk'
    assert frames.extra['source_index'].tolist() == [0, 8]
    last = cells(9)[8]
    energy, forces, stress = vasp_stand_in.morse(last.cell.array.tolist(), last.get_scaled_positions().tolist())
    assert frames.energies[1] == pytest.approx(energy, abs=1e-7)
    assert np.abs(frames.forces[2:] - forces).max() < 1e-7
    kilobar = 6.241509e-4  # eV/Å^3
    assert np.abs(frames.virials[1] - last.get_volume() * kilobar * np.array(stress)).max() < 1e-5
    summary = outputs['summary'].get_dict()
    assert (summary['n_given'], summary['n_made'], summary['n_dropped'], summary['n_not_tried']) == (9, 2, 7, 0)
    causes = {dropped['index']: dropped['cause'] for dropped in summary['dropped']}
    for name, (_, cause) in faults.items():
        assert cause in causes[int(name[1:])]
    assert summary['versions']['vasp'] == '6.3.0'
    assert summary['versions']['potentials']['Li']['full_name'] == 'Li'


def test_no_potential_leaves_the_computer(job, tmp_path):
    """Not in the node, not in what was retrieved, not in an exported archive; but VASP had it."""
    from aiida.tools.archive import create_archive

    _, node = run_get_node(job(1))
    assert node.is_finished_ok, node.exit_message
    remote = Path(node.outputs.remote_folder.get_remote_path())
    assert vasp_stand_in.SECRET in (remote / 'POTCAR.Li').read_text()
    for repository in (node.base.repository, node.outputs.retrieved.base.repository):
        for _, _, names in repository.walk():
            assert not any(name.startswith('POTCAR') for name in names)
    archive = tmp_path / 'all.aiida'
    create_archive([node, *node.inputs.potentials.values()], filename=archive)
    with zipfile.ZipFile(archive) as content:
        assert any(name.startswith('repo/') for name in content.namelist())
        for name in content.namelist():
            assert vasp_stand_in.SECRET.encode() not in content.read(name), name


def test_killed_at_a_random_moment_and_submitted_again(label, stand_in, tmp_path):
    """No frame is lost and none comes twice, wherever the kill hits."""
    stand_in.ask(**{'*': 'sleep:0.2'})
    after = float(np.random.default_rng().uniform(0.0, 3.0))
    python, been = tmp_path / 'python_once_killed', tmp_path / 'been'
    python.write_text(
        f'#!/bin/sh\nif [ -e {been} ]; then exec {sys.executable} "$@"; fi\ntouch {been}\n'
        # the shell itself says nothing, as where a scheduler kills
        f'{sys.executable} "$@" & runner=$!\nexec 2> /dev/null\nsleep {after}\nkill -9 $runner\nwait $runner\n'
    )
    python.chmod(0o755)
    outputs, node = run_get_node(label(20, {'python': str(python)}))
    assert node.is_finished_ok, (after, node.exit_message)
    shards = [shard.get_frames() for shard in outputs['frames'].values()]
    assert sorted(index for shard in shards for index in shard.extra['source_index']) == list(range(20)), after
    jobs = sorted((child for child in node.called if isinstance(child, CalcJobNode)), key=lambda job: job.pk)
    assert [job.exit_status for job in jobs] == [400, 0], after
    n_kept = jobs[0].outputs.summary['n_made']
    said = jobs[1].outputs.retrieved.get_object_content('label.out')
    assert (f'{n_kept} of 20 frames were done before' in said) == bool(n_kept), after


def test_at_the_walltime_the_rest_is_submitted_again(label, stand_in):
    stand_in.ask(f00001='first:sleep:30')
    builder = label(3, {'margin_s': 1.0})
    builder.vasp.metadata.options.max_wallclock_seconds = 8
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    first, second = sorted((c for c in node.called if isinstance(c, CalcJobNode)), key=lambda job: job.pk)
    assert first.exit_status == 400
    assert 'walltime' in first.exit_message
    assert second.outputs.summary['n_made'] == 3
    assert outputs['frames']['b000'].get_frames().extra['source_index'].tolist() == [0, 1, 2]


def test_nodes_grow_with_batches_not_frames(job):
    counts = []
    for n in (1, 8):
        before = QueryBuilder().append(CalcJobNode).count(), QueryBuilder().append(FramesData).count()
        run_get_node(job(n))
        after = QueryBuilder().append(CalcJobNode).count(), QueryBuilder().append(FramesData).count()
        counts.append((after[0] - before[0], after[1] - before[1]))
    assert counts[0] == counts[1] == (1, 2)


def test_frames_that_fail_go_alone(label, stand_in, cells, tmp_path):
    """A frame that its batch drops is labelled by `VaspWorkChain`, the same as the batch would have.

    An archive of it all, batch and single frames, holds no potential.
    """
    stand_in.ask(f00001='unconverged')
    outputs, node = run_get_node(label(3))
    assert node.is_finished_ok, node.exit_message
    assert outputs['frames']['b000'].get_frames().extra['source_index'].tolist() == [0, 2]
    alone = outputs['frames']['b000_alone'].get_frames()
    assert alone.extra['source_index'].tolist() == [1]
    atoms = cells(3)[1]
    energy, forces, stress = vasp_stand_in.morse(atoms.cell.array.tolist(), atoms.get_scaled_positions().tolist())
    assert alone.energies[0] == pytest.approx(energy, abs=1e-6)
    assert np.abs(alone.forces - forces).max() < 1e-6
    assert np.abs(alone.virials[0] - atoms.get_volume() * 6.241509e-4 * np.array(stress)).max() < 1e-5
    summary = outputs['summary'].get_dict()
    assert (summary['n_made'], summary['n_dropped'], summary['n_alone']) == (3, 0, 1)
    for child in node.called_descendants:
        if isinstance(child, CalcJobNode):
            assert 'POTCAR' not in child.outputs.retrieved.base.repository.list_object_names()
    archive = tmp_path / 'all.aiida'
    make_archive([node], archive)
    with zipfile.ZipFile(archive) as content:
        assert len(content.namelist()) > 20
        for name in content.namelist():
            assert vasp_stand_in.SECRET.encode() not in content.read(name), name


def test_what_fails_alone_too_is_told_and_left_out(label, stand_in):
    """With both causes and the job that failed last; more than `max_alone` frames are not tried."""
    stand_in.ask(f00000='', **{'*': 'killed'})
    overrides = {'max_alone': 1, 'allowed_failures': 1.0}
    builder = label(3, **overrides)
    builder.vasp_alone.max_iterations = Int(1)
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    assert list(outputs['frames']) == ['b000']
    summary = outputs['summary'].get_dict()
    assert (summary['n_made'], summary['n_dropped'], summary['n_alone']) == (1, 2, 1)
    first, second = summary['dropped']
    assert (first['index'], second['index']) == (1, 2)
    assert 'signal 9' in first['cause']
    assert 'alone, VaspWorkChain' in first['cause']
    assert load_node(first['job']).process_label == 'VaspWorkChain'
    assert load_node(second['job']).process_label == 'VaspBatchCalculation'


def test_frames_that_break_a_rule_are_left_out(label, cells):
    """They stay in the shard of the job, are not in the output, and are told with rule and job."""
    images = cells(3)
    images[1].positions[1] = images[1].positions[0] + [1.3, 0, 0]
    builder = label(images, quality={'max_force_eV_per_A': 5.0})
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    assert len(outputs['frames']['b000']) == 2
    (job,) = (child for child in node.called if isinstance(child, CalcJobNode))
    assert len(job.outputs.frames) == 3
    summary = outputs['summary'].get_dict()
    assert (summary['n_given'], summary['n_made'], summary['n_dropped']) == (3, 2, 1)
    (dropped,) = summary['dropped']
    assert dropped['index'] == 1
    assert dropped['job'] == job.uuid
    assert 'max_force_eV_per_A' in dropped['cause']


def test_vasp_that_does_not_start(label, aiida_localhost, tmp_path):
    executable = tmp_path / 'no_vasp'
    executable.write_text('#!/bin/sh\necho no license for this node\nexit 3\n')
    executable.chmod(0o755)
    code = InstalledCode(label='no-vasp', computer=aiida_localhost, filepath_executable=str(executable)).store()
    _, node = run_get_node(label(2, code=code))
    assert node.exit_status == LabelWorkChain.exit_codes.ERROR_BATCH_FAILED.status
    assert 'no license for this node' in node.exit_message


def test_command_has_the_ranks_of_a_frame(job, prepare, aiida_localhost, stand_in):
    """mpirun of the computer with the ranks of one frame; AiiDA itself starts only the runner."""
    code = InstalledCode(label='mpi', computer=aiida_localhost, filepath_executable=str(stand_in.path)).store()
    aiida_localhost.set_mpirun_command(['srun', '-n', '{tot_num_mpiprocs}', '-N', '{num_machines}'])
    inputs = dict(job(2, {'frames_at_once': 2, 'ranks_per_frame': 12}))
    inputs['code'] = code
    inputs['metadata'] = {
        'options': {
            'withmpi': True,
            'resources': {'num_machines': 3, 'num_mpiprocs_per_machine': 8},
            'mpirun_extra_params': ['--exact'],
        }
    }
    folder, calcinfo = prepare(VaspBatchCalculation, **inputs)
    with folder.open('batch.json') as handle:
        plan = json.load(handle)
    assert plan['command'] == ['srun', '-n', '12', '-N', '2', '--exact', str(stand_in.path)]
    assert calcinfo.codes_info == []
    assert set(calcinfo.provenance_exclude_list) == {'batch.json', 'POTCAR.Li', 'status.json'}
    assert not any('POTCAR' in str(name) for name in calcinfo.retrieve_list + calcinfo.retrieve_temporary_list)


@pytest.mark.parametrize(
    ('own', 'message'),
    [
        ({'potential_family': None}, 'potential_family is not given'),
        ({'potential_family': 'nowhere'}, "'nowhere': there is no such family"),
        ({'potential_mapping': {'Li': 'Li_sv'}}, 'Li_sv'),
        ({'settings': {'frames_at_once': 0}}, 'frames_at_once'),
        ({'family': 'PBE'}, 'vasp.family'),
    ],
)
def test_refusals_of_the_protocol(vasp_code, potential_family, li_frames, own, message):
    own = {'potential_family': potential_family, **own}
    with pytest.raises(ValueError, match=message):
        LabelWorkChain.get_builder_from_protocol(
            vasp_code, FramesData(li_frames), overrides={'vasp': own}, engine='vasp'
        )


def test_refusals_of_the_job(job, refusal, potential_family):
    good = dict(job(1))
    assert 'none of Li' in refusal(VaspBatchCalculation, **{**good, 'potentials': {}})
    assert 'allowed is PotcarData' in refusal(VaspBatchCalculation, **{**good, 'potentials': {'Li': Dict({})}})
    swapped = {'Li': engine('vasp').prepare(
        {'potential_family': potential_family, 'potential_mapping': {'Li': 'Na'}}, good['frames']
    )['potentials']['Li']}  # fmt: skip
    assert 'Li is a potential of Na' in refusal(VaspBatchCalculation, **{**good, 'potentials': swapped})


@pytest.mark.parametrize(
    ('settings', 'with_mpi', 'message'),
    [
        ({'frames_at_once': 4}, True, 'need 4 ranks; the job has 2'),
        ({'frames_at_once': 2, 'kpar': 2}, True, 'kpar 2 and ncore 1: a frame has 1 ranks'),
        ({'kpar': 2, 'ncore': 2}, True, 'not fewer than kpar x ncore'),
        ({'ncore': 2}, False, 'a frame has 1 ranks'),
        ({'kpar': 2}, True, None),
        # without mpirun there are no ranks to run out of
        ({'frames_at_once': 4}, False, None),
    ],
)
def test_ranks_of_the_job(job, refusal, settings, with_mpi, message):
    builder = job(1, settings)
    builder.metadata.options.withmpi = with_mpi
    builder.metadata.options.resources = {'num_machines': 1, 'num_mpiprocs_per_machine': 2}
    inputs = builder._inputs(prune=True)
    if message is None:
        assert VaspBatchCalculation.explain_inputs(inputs, None) is None
    else:
        assert message in refusal(VaspBatchCalculation, **inputs)


def test_what_a_job_refuses_is_refused_by_the_verb(label, refusal):
    """Before anything is submitted, not by an exception on the way."""
    builder = label(1, {'margin_s': 900.0})
    builder.vasp.metadata.options.max_wallclock_seconds = 600
    told = refusal(LabelWorkChain, **builder._inputs(prune=True))
    assert 'vasp: max_wallclock_seconds is 600, not above margin_s (900.0 s)' in told


def test_without_aiida_vasp_the_package_imports_and_says_what_to_install():
    code = (
        "import sys; sys.modules['aiida_vasp'] = None\n"
        'from aiida_liheal.engines import engine\n'
        'from aiida_liheal.workchains.label import LabelWorkChain\n'
        'try:\n'
        "    engine('vasp').prepare({'potential_family': 'PBE', 'potential_mapping': {}}, None)\n"
        'except ValueError as error:\n'
        "    assert 'aiida-liheal[vasp]' in str(error), error\n"
        'else:\n'
        "    raise AssertionError('not refused')\n"
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
