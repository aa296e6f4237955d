"""`status`, `report`, `archive` and `analyse`."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from aiida.orm import CalcFunctionNode, CalcJobNode, Dict, WorkChainNode
from ase.build import bulk
from trees import code, give, localhost, process, quickstart, some_frames

from aiida_liheal.cli import archive
from aiida_liheal.cli.progress import Progress, job_progress
from aiida_liheal.data.frames import FramesData


def dump(path, n_frames=2, cut=0):
    """A text dump of a bcc crystal of 3 x 3 x 3 cells; the last frame may lack some lines."""
    atoms = bulk('Li', 'bcc', a=3.51, cubic=True).repeat(3)
    edge = 3 * 3.51
    lines = []
    for frame in range(n_frames):
        lines += ['ITEM: TIMESTEP', str(frame * 100), 'ITEM: NUMBER OF ATOMS', str(len(atoms))]
        lines += ['ITEM: BOX BOUNDS pp pp pp', *[f'0.0 {edge}'] * 3, 'ITEM: ATOMS id type x y z vx vy vz c_pe']
        lines += [f'{i + 1} 1 {x} {y} {z} 0.1 -0.1 0.2 -1.6' for i, (x, y, z) in enumerate(atoms.positions)]
    path.write_text('\n'.join(lines[: len(lines) - cut]) + '\n')
    return path


def test_analyse_prints_a_table(invoke, tmp_path):
    status, output = invoke('analyse', dump(tmp_path / 'traj.dump'))
    assert status == 0
    header, _, *rows = output.splitlines()
    assert 'BCC' in header
    assert [row.split()[0] for row in rows[:2]] == ['0.00', '0.10']
    assert rows[0].split()[1] == '54'
    assert '2 of 2 frames of 1 dumps analysed' in output


def test_analyse_as_json(invoke, tmp_path):
    """Series, profiles and summary; a perfect crystal is all bcc and has no void."""
    status, output = invoke('analyse', dump(tmp_path / 'traj.dump'), '--json', '-s', 'measure_voids=true')
    assert status == 0
    content = json.loads(output)
    assert content['series']['bcc_share'] == [1.0, 1.0]
    assert content['series']['void_volume_A3'] == [0.0, 0.0]
    assert content['summary']['frames'] == 2


@pytest.mark.parametrize(
    ('make', 'change', 'part'),
    [
        (lambda path: path.write_text('hello\n'), 'every=1', 'not a LAMMPS dump'),
        (lambda path: None, 'every=1', 'there is no file'),
        (dump, 'every=0', 'every = 0'),
        (dump, 'colour=1', 'no such setting'),
    ],
)
def test_analyse_refuses(invoke, tmp_path, make, change, part):
    path = tmp_path / 'traj.dump'
    make(path)
    status, output = invoke('analyse', path, '-s', change)
    assert status == 1
    assert part in output


def test_status_of_a_paused_run(invoke, aiida_profile_clean):
    """After transfers that failed AiiDA waits for a person: which one, why, and what to type."""
    root = process(WorkChainNode, 'MdWorkChain', 'liheal.md', state='waiting')
    job = process(WorkChainNode, 'HealWorkChain', 'liheal.heal', root, 'inner', state='waiting')
    assert 'verdi process play' not in invoke('status', root.pk)[1]
    job.pause()
    job.set_process_status('Pausing after failed transport task: upload_calculation failed 5 times consecutively')
    status, output = invoke('status', root.pk)
    assert status == 0
    assert f'upload_calculation failed 5 times consecutively; `verdi process play {job.pk}` goes on' in output
    assert output.count('process play') == 1


def test_status_of_a_finished_run(invoke, healed):
    status, output = invoke('status', healed.pk)
    assert status == 0
    lines = output.splitlines()
    assert lines[0].startswith(f'HealWorkChain<{healed.pk}> finished')
    assert lines[1].startswith('    MdWorkChain<')
    assert lines[2].startswith('        LammpsCalculation<')


def test_status_tells_of_limits(invoke, aiida_profile_clean):
    """A job that ran on beyond a limit says so; one that was stopped there said it as it ended."""
    flag = {'limit': 'max_temperature_K', 'allowed': 800.0, 'step': 1200, 'value': 912.5, 'largest': 950.0}
    results = Dict({'kind': 'heal', 'runs': [{'status': 'finished', 'flags': [flag]}]})
    words = 'beyond a limit: temperature 912.5 K at step 1200, 950 K at most; allowed 800 K'
    node = give(process(CalcJobNode, 'LammpsCalculation', 'liheal.lammps'), results=results)
    status, output = invoke('status', node.pk)
    assert status == 0
    assert words in output
    stopped = process(CalcJobNode, 'LammpsCalculation', 'liheal.lammps', exit_status=330, message='beyond')
    status, output = invoke('status', give(stopped, results=results.clone()).pk)
    assert words not in output


def test_status_tells_what_was_left_out_of_labels(invoke, aiida_profile_clean):
    """Frames without labels by place and cause, as they are numbered in what was given, and where the labels are."""
    given = FramesData(some_frames()).store()
    root = process(WorkChainNode, 'LabelWorkChain', 'liheal.label', inputs={'frames': given})
    split = process(CalcFunctionNode, 'split_frames', 'split_frames', root, 'split', {'frames': given})
    batches = {}
    for number in range(2):
        frames = given.get_frames().select([number])
        frames.extra['source_index'] = np.array([number])
        batches[f'b{number:03d}'] = FramesData(frames)
    give(split, **batches)
    dropped = [{'batch': 'b001', 'index': 0, 'cause': 'largest force 29 eV/Å, allowed are 20 eV/Å'}]
    dropped += [{'batch': 'b000', 'index': 0, 'cause': f'cause {number}'} for number in range(6)]
    summary = {'n_given': 8, 'n_made': 1, 'n_dropped': 7, 'n_not_tried': 0, 'dropped': dropped}
    shard = FramesData(given.get_frames().select([0])).store()
    give(root, frames__b000=shard, summary=Dict(summary).store())
    status, output = invoke('status', root.pk)
    assert status == 0, output
    text = ' '.join(output.split())
    assert 'Labels dropped: 7.' in text
    place = f'frame 0 of b001 (--index 1 of pk {given.pk})'
    assert f'Left out: {place}: largest force 29 eV/Å, allowed are 20 eV/Å.' in text
    assert text.count('Left out: ') == 5
    assert 'Left out besides: 2 frames; `summary` has them all.' in text
    assert f'Labelled frames are in pk {shard.pk} (1 frame).' in text


def test_status_tells_why_and_how_far(invoke, aiida_profile_clean, aiida_localhost, tmp_path):
    """A failed job with its cause, and a running one with its steps."""
    root = process(WorkChainNode, 'HealWorkChain', 'liheal.heal', state='waiting')
    process(
        CalcJobNode,
        'LammpsCalculation',
        'liheal.lammps',
        root,
        'iteration_01',
        {'code': code(aiida_localhost)},
        exit_status=312,
        message='the run blew up after step 50',
    )
    job = running_job(aiida_localhost, tmp_path, root)
    (tmp_path / 'run_000').mkdir()
    (tmp_path / 'run_000' / 'log.lammps').write_text('Step Temp PotEng Atoms\n   0 1.0 -2.0 52\n 700 300.5 -2.1 52\n')
    status, output = invoke('status', root.pk)
    assert status == 0
    assert 'failed [312]' in output
    assert 'the run blew up after step 50' in output
    assert f'LammpsCalculation<{job.pk}>' in output
    assert '700/2000 steps' in output
    assert 'Not over yet' in output


def running_job(computer, folder, caller, label='LammpsCalculation', settings=None):
    """A job that runs in a folder of this machine."""
    runs = {'kind': 'heal', 'runs': [{'duration_ps': 2.0, 'seed': 3, 'heating_ps': 0.1}]}
    node = process(
        CalcJobNode,
        label,
        'liheal.lammps',
        caller,
        'iteration_02',
        {'code': code(computer), 'settings': Dict(settings or runs)},
        state='waiting',
    )
    node.set_remote_workdir(str(folder))
    return node


@pytest.mark.parametrize(
    ('label', 'settings', 'files', 'expected'),
    [
        ('LammpsCalculation', None, {}, Progress(0, 2000, 'steps')),
        # a line that is being written does not count
        ('LammpsCalculation', None, {'run_000/log.lammps': ' 100 1 2 3\n 200 1 2'}, Progress(100, 2000, 'steps')),
        ('LammpsCalculation', None, {'run_000/log.lammps': 'ERROR: no\n'}, Progress(0, 2000, 'steps')),
        ('DpTrainCalculation', {'n_steps': 500}, {}, Progress(0, 500, 'steps')),
        ('DpTrainCalculation', {'n_steps': 500}, {'lcurve.out': '# step rmse\n'}, Progress(0, 500, 'steps')),
        (
            'DpTrainCalculation',
            {'n_steps': 500},
            {'lcurve.out': '# s\n 0 1.0\n 60 0.5\n 80'},
            Progress(60, 500, 'steps'),
        ),
        (
            'AnalyseCalculation',
            {'every': 1},
            {'status.json': '{"state": "running", "frames_done": 3, "frames_total": 9}'},
            Progress(3, 9, 'frames'),
        ),
        ('AnalyseCalculation', {'every': 1}, {'status.json': '{"state": "ru'}, None),
        ('OtherCalculation', {'every': 1}, {}, None),
    ],
)
def test_progress_of_jobs(aiida_profile_clean, aiida_localhost, tmp_path, label, settings, files, expected):
    """What running jobs have written so far, also when it is cut in the middle of a line."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    node = running_job(
        aiida_localhost, tmp_path, process(WorkChainNode, 'X', 'liheal.x', state='waiting'), label, settings
    )
    assert job_progress(node) == expected


def test_report_writes_a_page(invoke, healed, tmp_path):
    path = tmp_path / 'page.html'
    status, output = invoke('report', healed.pk, '-o', path, '--no-pictures')
    assert status == 0
    assert 'MB' in output
    assert path.read_text(encoding='utf-8').startswith('<!doctype html>')


def test_report_refuses(invoke, healed, tmp_path):
    for arguments, part in (
        (['987654', '-o', tmp_path / 'x.html'], "no node '987654'"),
        ([healed.inputs.seed.pk, '-o', tmp_path / 'x.html'], 'needed is ProcessNode'),
        ([healed.pk, '-o', tmp_path / 'nowhere' / 'x.html'], 'there is no folder'),
    ):
        status, output = invoke('report', *arguments)
        assert status == 1
        assert part in output
    assert list(tmp_path.iterdir()) == []


def test_archive_holds_the_root_and_its_provenance(invoke, aiida_profile_clean, tmp_path):
    """Written, checked, and imported into an empty profile, where the root leads to its labels again."""
    root, shard = quickstart(localhost(), some_frames())
    path = tmp_path / 'chain.aiida'
    status, output = invoke('archive', 'create', root.pk, '-o', path)
    assert status == 0
    assert 'MB' in output
    assert [file.name for file in tmp_path.iterdir()] == ['chain.aiida']
    status, output = invoke('archive', 'check', path)
    assert status == 0
    assert f'root liheal.quickstart {root.uuid} finished [0]' in output
    assert output.count('root liheal.') == 1

    from aiida.manage import get_manager
    from aiida.orm import load_node
    from aiida.tools.archive import import_archive

    uuid, n_frames = shard.uuid, len(shard)
    get_manager().get_profile_storage()._clear()
    get_manager().reset_profile()
    import_archive(path)
    assert len(load_node(uuid)) == n_frames


def test_archive_replaces_nothing_unasked(invoke, healed, tmp_path):
    """A file that is there stays as it is, unless --force is given; AiiDA's own tables are left out."""
    path = tmp_path / 'chain.aiida'
    path.write_text('mine')
    status, output = invoke('archive', 'create', healed.pk, '-o', path)
    assert status == 1
    assert 'is there already; give another file, or --force to replace it' in ' '.join(output.split())
    assert path.read_text() == 'mine'
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger('aiida.export')
    before = logger.level
    logger.setLevel(logging.INFO)  # lets AiiDA's reports pass
    logger.addHandler(handler)
    try:
        status, output = invoke('archive', 'create', healed.pk, '-o', path, '--force')
        assert logger.level == logging.INFO
        assert [record for record in records if record.name == 'aiida.export'] == []
        logger.error('still heard')
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    assert len(records) == 1
    assert status == 0, output
    assert any(healed.uuid in root for root in archive.read_archive(path).roots)
    assert [file.name for file in tmp_path.iterdir()] == ['chain.aiida']


def test_paths_in_an_archive_are_replaced(invoke, aiida_profile_clean, aiida_localhost, tmp_path):
    """In the database and in files, which are found under their new keys; data that are no text stay as they were."""
    from aiida.manage import get_manager
    from aiida.orm import FolderData, load_node
    from aiida.tools.archive import import_archive

    root = process(WorkChainNode, 'LabelWorkChain', 'liheal.label')
    job = process(CalcJobNode, 'GpawCalculation', 'liheal.gpaw', root, 'b000', {'code': code(aiida_localhost)})
    retrieved, shard = FolderData(), FramesData(some_frames())
    retrieved.base.repository.put_object_from_bytes(b'#!/bin/bash\n/home/jane/bin/lmp < in.lmp\n', 'submit.sh')
    retrieved.base.attributes.set_many(
        {'where': '/home/jane/scratch/17', 'whose': '/home/janet/x', 'end': 'in /home/jane'}
    )
    give(job, retrieved=retrieved, frames=shard)
    job.seal()
    root.seal()
    path = tmp_path / 'chain.aiida'
    paths = ('--replace-path', '/home/jane=/home/user', '--replace-path', '/home/jane/scratch=/scratch')
    status, output = invoke('archive', 'create', root.pk, '-o', path, *paths)
    assert status == 0, output
    assert [file.name for file in tmp_path.iterdir()] == ['chain.aiida']
    status, output = invoke('archive', 'check', path)
    assert status == 0, output
    uuids, positions = (retrieved.uuid, shard.uuid), shard.get_frames().positions
    get_manager().get_profile_storage()._clear()
    get_manager().reset_profile()
    import_archive(path)
    retrieved, shard = (load_node(uuid) for uuid in uuids)
    where = [retrieved.base.attributes.get(key) for key in ('where', 'whose', 'end')]
    assert where == ['/scratch/17', '/home/janet/x', 'in /home/user']
    assert retrieved.base.repository.get_object_content('submit.sh') == '#!/bin/bash\n/home/user/bin/lmp < in.lmp\n'
    assert (shard.get_frames().positions == positions).all()


@pytest.mark.parametrize(
    ('pair', 'part'),
    [('/home/jane', 'needed is OLD=NEW'), ('jane=/x', "'jane': needed is an"), ('/=/x', "'/': needed is an")],
)
def test_replacing_what_is_no_path(invoke, healed, tmp_path, pair, part):
    status, output = invoke('archive', 'create', healed.pk, '-o', tmp_path / 'x.aiida', '--replace-path', pair)
    assert status == 1
    assert part in output
    assert list(tmp_path.iterdir()) == []


def test_archive_of_a_running_process_is_refused(invoke, aiida_profile_clean, tmp_path):
    node = process(WorkChainNode, 'HealWorkChain', 'liheal.heal', state='waiting')
    status, output = invoke('archive', 'create', node.pk, '-o', tmp_path / 'x.aiida')
    assert status == 1
    assert 'not over yet' in output


@pytest.mark.parametrize('content', [b'', b'hello', b'PK\x03\x04 and then nothing'])
def test_check_of_a_damaged_file(invoke, tmp_path, content):
    path = tmp_path / 'x.aiida'
    path.write_bytes(content)
    status, output = invoke('archive', 'check', path)
    assert status == 1
    assert 'cannot be read as an AiiDA archive' in output


def test_several_processes_in_one_archive(invoke, aiida_profile_clean, tmp_path):
    nodes = [process(WorkChainNode, 'HealWorkChain', 'liheal.heal') for _ in range(2)]
    for node in nodes:
        node.seal()
    status, output = invoke('archive', 'create', nodes[0].pk, nodes[1].pk, '-o', tmp_path / 'x.aiida')
    assert status == 0, output
    roots = archive.read_archive(tmp_path / 'x.aiida').roots
    assert all(any(node.uuid in root for root in roots) for node in nodes)


def test_check_of_a_cut_archive(invoke, healed, tmp_path):
    """Half of an archive is not taken for a whole one."""
    path = tmp_path / 'x.aiida'
    archive.make_archive([healed], path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    status, _ = invoke('archive', 'check', path)
    assert status == 1


def test_licensed_text_is_found(invoke, aiida_profile_clean, aiida_localhost, tmp_path):
    """A retrieved POTCAR keeps an archive from being written; an OUTCAR, with its header only, does not."""
    from aiida.orm import FolderData

    header = b'  PAW_PBE Li 17Jan2003\n   VRHFIN =Li: s1p0\n   LPAW   =    T    paw PP\n'
    for name, content, is_licensed in (
        ('OUTCAR', header, False),
        ('POTCAR', header + b' PAW radial sets\n End of Dataset\n', True),
    ):
        root = process(WorkChainNode, 'LabelWorkChain', 'liheal.label')
        job = process(CalcJobNode, 'GpawCalculation', 'liheal.gpaw', root, 'b000', {'code': code(aiida_localhost)})
        retrieved = FolderData()
        retrieved.base.repository.put_object_from_bytes(content, name)
        give(job, retrieved=retrieved)
        job.seal()
        root.seal()
        status, output = invoke('archive', 'create', root.pk, '-o', tmp_path / f'{name}.aiida')
        assert status == int(is_licensed), output
        assert (tmp_path / f'{name}.aiida').exists() != is_licensed
    assert sorted(file.name for file in tmp_path.iterdir()) == ['OUTCAR.aiida']


def test_archive_without_our_processes(invoke, aiida_profile_clean, tmp_path):
    node = process(WorkChainNode, 'OtherWorkChain', 'other.chain')
    node.seal()
    archive.make_archive([node], tmp_path / 'x.aiida')
    status, output = invoke('archive', 'check', tmp_path / 'x.aiida')
    assert status == 1
    assert 'no process of aiida-liheal' in output


def test_numbers_of_a_dump_are_what_was_written(tmp_path):
    """The helper's dump is what it says: 54 atoms at bcc sites."""
    text = dump(tmp_path / 'x').read_text().splitlines()
    assert text[3] == '54'
    assert np.isclose(float(text[9].split()[2]), 0.0)
