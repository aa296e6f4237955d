"""The verb `label`: protocols, refusals, batches, restarts, and what it says when too much is missing."""

import json
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from aiida.common import LinkType
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.manage.caching import enable_caching
from aiida.orm import CalcJobNode, Dict, InstalledCode, Int, to_aiida_type
from ase.build import bulk
from plumpy import ProcessState

from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines.gpaw.calculation import GpawCalculation, GpawSettings
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.label import LabelWorkChain, allowed_number, split_frames

needs_gpaw = pytest.mark.skipif(find_spec('gpaw') is None, reason='GPAW is not installed (extra `engines`)')
COARSE = {'gpaw': {'settings': {'cutoff_eV': 200.0, 'kpoint_spacing_per_A': 0.95, 'n_workers': 1}}}
CODES = LabelWorkChain.exit_codes


@pytest.fixture
def python_code(aiida_localhost):
    return InstalledCode(
        label='python',
        computer=aiida_localhost,
        filepath_executable=sys.executable,
        default_calc_job_plugin='liheal.gpaw',
    ).store()


@pytest.fixture
def three_frames():
    images = []
    for seed in range(3):
        atoms = bulk('Li', 'bcc', a=3.44, cubic=True)
        atoms.rattle(0.1, seed=seed)
        images.append(atoms)
    return FramesData(Frames.from_atoms(images), domain='bulk')


@pytest.mark.parametrize('protocol', ['fast', 'balanced', 'paper'])
def test_protocols(python_code, three_frames, protocol):
    """Every protocol gives settings within their limits, at label quality in k-points."""
    builder = LabelWorkChain.get_builder_from_protocol(python_code, three_frames, protocol=protocol)
    settings = GpawSettings.read(builder.gpaw.settings.get_dict())
    assert settings.kpoint_spacing_per_A <= 0.16
    assert (settings.xc, settings.smearing_eV, settings.smearing_order) == ('PBE', 0.2, 1)
    assert settings.cutoff_eV == {'fast': 300.0, 'balanced': 340.0, 'paper': 380.0}[protocol]
    assert builder.gpaw.metadata.options.parser_name == 'liheal.gpaw'
    assert protocol in LabelWorkChain.get_available_protocols()


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'batchsize': 4}, 'batchsize'),
        ({'gpaw': {'setings': {}}}, 'gpaw.setings'),
        ({'gpaw': {'settings': {'cutof_eV': 300}}}, 'cutof_eV'),
        ({'gpaw': {'settings': {'cutoff_eV': -5}}}, 'cutoff_eV'),
    ],
)
def test_unknown_or_impossible_overrides_are_refused(python_code, three_frames, overrides, message):
    with pytest.raises(ValueError, match=message):
        LabelWorkChain.get_builder_from_protocol(python_code, three_frames, overrides=overrides)


def test_unknown_protocol_and_engine_are_refused(python_code, three_frames):
    with pytest.raises(ValueError, match='sloppy'):
        LabelWorkChain.get_builder_from_protocol(python_code, three_frames, protocol='sloppy')
    with pytest.raises(ValueError, match='siesta'):
        LabelWorkChain.get_builder_from_protocol(python_code, three_frames, engine='siesta')


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('batch_size', 0, 'batch_size is 0'),
        ('allowed_failures', 1.5, 'allowed_failures is 1.5'),
        ('max_iterations', 0, 'max_iterations is 0'),
        ('max_at_once', -1, 'max_at_once is -1'),
    ],
)
def test_inputs_out_of_range_are_refused(python_code, three_frames, name, value, message):
    builder = LabelWorkChain.get_builder_from_protocol(python_code, three_frames)
    with pytest.raises(ValueError, match=message):
        builder[name] = to_aiida_type(value)


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'vasp': {'settings': {'cutoff_eV': 340}}}, 'settings of vasp are given, but the engine is gpaw'),
        ({'batch_size': 2.5}, r'batch_size = 2\.5; allowed is a whole number'),
        ({'max_iterations': True}, 'max_iterations = True; allowed is a whole number'),
    ],
)
def test_what_would_be_ignored_or_cut_off_is_refused(python_code, three_frames, overrides, message):
    with pytest.raises(ValueError, match=message):
        LabelWorkChain.get_builder_from_protocol(python_code, three_frames, overrides=overrides)


def test_overlapping_atoms_are_refused(python_code):
    atoms = bulk('Li', 'bcc', a=3.44, cubic=True)
    atoms.positions[1] = [0.3, 0.0, 0.0]
    with pytest.raises(ValueError, match=r'frame 0: atom 0 .* 0\.300 Å'):
        LabelWorkChain.get_builder_from_protocol(python_code, FramesData(Frames.from_atoms([atoms])))


def test_engine_without_its_inputs_is_refused(three_frames):
    builder = LabelWorkChain.get_builder()
    builder.frames = three_frames
    with pytest.raises(ValueError, match=r'gpaw\.code and gpaw\.settings'):
        instantiate_process(get_manager().get_runner(), builder)


def test_split(three_frames):
    """Batches keep order, domain and the way back to the frame that was given."""
    batches = split_frames(three_frames.store(), Int(2))
    assert {name: len(batch) for name, batch in batches.items()} == {'b000': 2, 'b001': 1}
    assert batches['b001'].domain == 'bulk'
    assert batches['b001'].get_frames().extra['source_index'].tolist() == [2]
    given = three_frames.get_frames()
    joined = Frames.concatenate([batches[name].get_frames() for name in ('b000', 'b001')])
    assert np.array_equal(joined.positions, given.positions)


@pytest.mark.parametrize(
    ('share', 'n_given', 'allowed'), [(0.05, 8, 1), (0.05, 60, 3), (0.05, 61, 4), (0.0, 8, 0), (1.0, 8, 8)]
)
def test_allowed_number(share, n_given, allowed):
    assert allowed_number(share, n_given) == allowed


@pytest.fixture
def ended_job(aiida_localhost):
    """A job that ended with an exit status, and its summary."""

    def make(status, n_given, n_made, n_not_tried=0):
        node = CalcJobNode(computer=aiida_localhost, process_type='aiida.calculations:liheal.gpaw')
        node.set_options({'resources': {'num_machines': 1}})
        node.set_process_state(ProcessState.FINISHED)
        node.set_exit_status(status)
        node.store()
        n_dropped = n_given - n_made - n_not_tried
        summary = Dict(
            {
                'engine': 'gpaw',
                'n_given': n_given,
                'n_made': n_made,
                'n_dropped': n_dropped,
                'n_not_tried': n_not_tried,
                'dropped': [{'index': index, 'cause': 'not self-consistent'} for index in range(n_dropped)],
                'seconds_per_frame': 2.0 if n_made else None,
                'versions': {},
                'settings': {},
            }
        )
        summary.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label='summary')
        summary.store()
        return node

    return make


@pytest.mark.parametrize(
    ('jobs', 'expected'),
    [
        ([(0, 20, 19, 0), (0, 20, 20, 0)], None),
        ([(0, 20, 17, 0), (0, 20, 20, 0)], 'ERROR_TOO_MANY_DROPPED'),
        ([(500, 2, 0, 0), (0, 38, 38, 0)], None),
        ([(500, 2, 0, 0)], 'ERROR_NOTHING_CONVERGED'),
        ([(400, 20, 5, 15)], 'ERROR_STILL_INTERRUPTED'),
        ([(301, 20, 0, 20), (0, 20, 20, 0)], 'ERROR_BATCH_FAILED'),
    ],
)
def test_results(python_code, three_frames, ended_job, jobs, expected):
    """Each way of ending has an exit code of its own, and the summary adds up over the batches."""
    builder = LabelWorkChain.get_builder_from_protocol(python_code, three_frames)
    process = instantiate_process(get_manager().get_runner(), builder)
    process.setup()
    process.ctx.ended = {f'b{number:03d}': ended_job(*job) for number, job in enumerate(jobs)}
    process.ctx.last = process.ctx.ended
    process.ctx.shards = dict.fromkeys(process.ctx.ended)
    code = process.results()
    assert (code.status if code else 0) == (CODES[expected].status if expected else 0)
    summary = process.outputs['summary'].get_dict()
    assert summary['n_given'] == sum(job[1] for job in jobs)
    assert summary['n_made'] == sum(job[2] for job in jobs)
    assert len(summary['dropped']) == summary['n_dropped']
    if code:
        assert '{' not in code.message


def test_interrupted_batches_are_submitted_again_until_the_limit(python_code, three_frames, ended_job):
    """An interrupted batch goes on from its folder; after `max_iterations` jobs it is left as it is."""
    from aiida.orm import RemoteData

    builder = LabelWorkChain.get_builder_from_protocol(python_code, three_frames, overrides={'max_iterations': 2})
    process = instantiate_process(get_manager().get_runner(), builder)
    process.setup()
    # killed before it began: there is nothing in its folder to go on from
    process.ctx.running, process.ctx.left = ['b000'], []
    process.ctx.jobs, process.ctx.n_jobs = {'b000': ended_job(400, 3, 0, 3)}, {'b000': 1}
    process.inspect_batches()
    assert process.ctx.left == ['b000']
    assert process.ctx.parents == {}
    job = ended_job(400, 3, 1, 2)
    remote = RemoteData(computer=job.computer, remote_path='/tmp/somewhere')  # noqa: S108  (never opened)
    remote.base.links.add_incoming(job, link_type=LinkType.CREATE, link_label='remote_folder')
    remote.store()
    process.ctx.running, process.ctx.left = ['b000'], []
    process.ctx.jobs = {'b000': job}
    process.ctx.n_jobs = {'b000': 1}
    process.inspect_batches()
    assert process.ctx.left == ['b000']
    assert process.ctx.parents['b000'].uuid == remote.uuid
    process.ctx.left, process.ctx.n_jobs = [], {'b000': 2}
    process.inspect_batches()
    assert not process.has_batches_left()
    assert process.ctx.ended['b000'].uuid == job.uuid
    # a last job that comes to nothing: the batch has failed, and what the first one finished is kept
    lost = ended_job(302, 3, 0, 3)
    process.ctx.jobs = {'b000': lost}
    process.inspect_batches()
    assert process.ctx.ended['b000'].uuid == job.uuid
    code = process.results()
    assert code.status == CODES['ERROR_BATCH_FAILED'].status
    assert f'b000<{lost.pk}>' in code.message
    assert process.outputs['summary']['n_made'] == 1


def test_nodes_and_database_grow_with_batches_not_with_frames(aiida_localhost):
    """Ten times the frames in a batch: as many nodes and links, and no more in their attributes."""
    code = InstalledCode(label='ase', computer=aiida_localhost, filepath_executable=sys.executable).store()
    settings = {'calculator': 'lj', 'parameters': {'sigma': 2.7, 'epsilon': 0.1, 'rc': 4.0}}
    found = []
    for n_frames in (2, 20):
        images = []
        for seed in range(n_frames):
            atoms = bulk('Li', 'bcc', a=3.44, cubic=True)
            atoms.rattle(0.1, seed=seed)
            images.append(atoms)
        builder = LabelWorkChain.get_builder_from_protocol(
            code,
            FramesData(Frames.from_atoms(images)),
            overrides={'batch_size': n_frames, 'ase': {'settings': settings}},
            engine='ase',
        )
        outputs, node = run_get_node(builder)
        assert node.is_finished_ok, node.exit_message
        assert sum(map(len, outputs['frames'].values())) == n_frames
        assert all((shard.get_frames().extra['seconds'] > 0).all() for shard in outputs['frames'].values())
        processes = [node, *node.called_descendants]
        nodes = {process.pk: process for process in processes}
        nodes |= {link.node.pk: link.node for each in processes for link in each.base.links.get_outgoing().all()}
        links = sum(len(each.base.links.get_incoming().all()) for each in nodes.values())
        size = sum(len(json.dumps(each.base.attributes.all)) for each in nodes.values())
        found.append((len(nodes), links, size))
    (nodes, links, size), (more_nodes, more_links, more_size) = found
    assert (nodes, links) == (more_nodes, more_links)
    # numbers may have some digits more
    assert more_size - size < 100


@needs_gpaw
@pytest.mark.engine
def test_interrupted_real_run_goes_on_and_is_cached(aiida_localhost, three_frames, tmp_path):
    """A batch stopped after its first frame is finished by a second job, which does not label that frame again."""
    stopped = tmp_path / 'stopped'
    wrapper = tmp_path / 'python'
    wrapper.write_text(
        '#!/bin/bash\n'
        # both batches begin at once: only the one of two frames is stopped
        f"""n=$({sys.executable} -c "import numpy; print(len(numpy.load('frames.npz')['counts']))")\n"""
        f'if [ $n != 2 ] || [ -e {stopped} ]; then exec {sys.executable} "$@"; fi\n'
        f'touch {stopped}\n'
        # the log of the other frame is a pipe that nobody reads: that frame cannot end before the batch is stopped
        'mkdir -p logs && mkfifo logs/frame_00001.txt\n'
        f'{sys.executable} "$@" & runner=$!\n'
        'while ! grep -q "frame 0" label.out; do sleep 0.1; done\n'
        'kill -TERM $runner; wait $runner\n'
        'rm logs/frame_00001.txt\n'
    )
    wrapper.chmod(0o755)
    code = InstalledCode(label='stopping', computer=aiida_localhost, filepath_executable=str(wrapper)).store()
    builder = LabelWorkChain.get_builder_from_protocol(
        code, three_frames, protocol='fast', overrides={**COARSE, 'batch_size': 2}
    )
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    jobs = [child for child in node.called if child.process_class is GpawCalculation]
    assert [job.exit_status for job in sorted(jobs, key=lambda job: job.pk)] == [400, 0, 0]
    again = next(job for job in jobs if 'parent_folder' in job.inputs)
    assert '1 of 2 frames were labelled before' in again.outputs.retrieved.get_object_content('label.out')
    assert sorted(outputs['frames']) == ['b000', 'b001']
    labelled = [outputs['frames'][name].get_frames() for name in ('b000', 'b001')]
    assert [part.extra['source_index'].tolist() for part in labelled] == [[0, 1], [0]]
    summary = outputs['summary'].get_dict()
    assert (summary['n_given'], summary['n_made'], summary['n_not_tried']) == (3, 3, 0)

    with enable_caching(identifier='aiida.calculations:liheal.gpaw'):
        repeated, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    cached = [
        child
        for child in node.called
        if child.process_class is GpawCalculation and child.base.caching.is_created_from_cache
    ]
    # the batch that was whole at its first job is taken from the cache; the one that had to be resumed is the second
    # job's, which had another input, so it is computed again
    assert [len(job.inputs.frames) for job in cached] == [1]
    assert np.array_equal(repeated['frames']['b001'].get_frames().forces, labelled[1].forces)
