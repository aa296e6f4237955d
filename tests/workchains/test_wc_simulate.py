"""The verbs `deposit` and `heal`: their starts, what they refuse, and a deposition that is killed and goes on."""

import shutil

import numpy as np
import pytest
from aiida.common import LinkType
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.orm import Dict, InstalledCode, Int, RemoteData, Str, StructureData, WorkChainNode, to_aiida_type
from plumpy import ProcessState

from aiida_liheal.calculations.lammps import JobSettings, LammpsCalculation, check_runs
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData, committee_spec
from aiida_liheal.lammps.decks import check, validate
from aiida_liheal.structures.bcc import SlabSettings, VoidCrystalSettings, bcc_bulk
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.deposit import DepositWorkChain
from aiida_liheal.workchains.heal import HealWorkChain
from aiida_liheal.workchains.simulate import job_settings
from aiida_liheal.workchains.start import build_crystal, frames_from_structure, read_crystal

SLAB = {'size': [6, 4], 'n_layers': 6, 'n_fixed_layers': 2, 'height_above_A': 60.0}
VOID = {'size': [4, 4, 4], 'void_size': [2, 1, 1]}
#: 16 atoms, one every 250 steps, on 144: ten times the flux of the paper, so that a short run has many.
DEPOSIT = {
    'duration_ps': 4.0,
    'rate_Li_per_ps': 4.0,
    'near_A': 2.5,
    'fixed_below_A': SlabSettings.read(SLAB).fixed_below_A,
    'dump_every_ps': 0.25,
    'restart_every_ps': 0.5,
}
needs_lammps = pytest.mark.skipif(shutil.which('lmp') is None, reason='LAMMPS is not installed (extra `engines`)')


@pytest.fixture
def deposition(codes, meam_potential):
    """Inputs of a deposition, with changes to the inputs."""

    def make(**changes):
        inputs = {
            'crystal': Dict(SLAB),
            'settings': Dict(DEPOSIT),
            'seed': Int(3),
            'potentials': {'m0': meam_potential},
            'lammps': {'code': codes['lmp']},
        }
        return {**inputs, **{name: to_aiida_type(value) for name, value in changes.items()}}

    return make


def test_starts_are_built_from_their_settings():
    slab = build_crystal(Str('deposit'), Dict(SLAB))
    assert slab.domain == 'deposit'
    atoms = slab.get_atoms()
    assert len(atoms) == 144
    assert atoms.pbc.tolist() == [True, True, False]
    crystal = build_crystal(Str('heal'), Dict(VOID))
    assert len(crystal.get_atoms()) == 2 * (64 - 2)
    # the same settings give the same atoms
    assert np.array_equal(build_crystal(Str('deposit'), Dict(SLAB)).get_atoms().positions, atoms.positions)


def test_a_start_of_ones_own():
    given = StructureData(ase=VoidCrystalSettings.read(VOID).build())
    frames = frames_from_structure(given).get_frames()
    assert (len(frames), frames.counts.tolist()) == (1, [124])


def test_settings_of_the_job(meam_potential):
    """One run with a seed derived from that of the verb: what the job takes."""
    settings = job_settings(Str('deposit'), Dict(DEPOSIT), Int(3)).get_dict()
    job = JobSettings.read(settings)
    assert len(job.runs) == 1
    check_runs(job, build_crystal(Str('deposit'), Dict(SLAB)).get_frames(), committee_spec([meam_potential]))
    seeds = {
        job_settings(Str(kind), Dict(DEPOSIT), Int(seed))['runs'][0]['seed']
        for kind in ('deposit', 'heal')
        for seed in (3, 4)
    }
    assert len(seeds) == 4


def test_height_of_the_fixed_layers_follows_from_the_slab(codes, meam_potential):
    builder = DepositWorkChain.get_builder_from_protocol(codes, meam_potential, protocol='fast')
    assert builder.settings['fixed_below_A'] == SlabSettings.read(builder.crystal.get_dict()).fixed_below_A
    given = DepositWorkChain.get_builder_from_protocol(
        codes, meam_potential, protocol='fast', overrides={'settings': {'fixed_below_A': 1.0}}
    )
    assert given.settings['fixed_below_A'] == 1.0
    # of a slab of ones own nothing is known
    start = FramesData(Frames.from_atoms([SlabSettings.read(SLAB).build()]))
    with pytest.raises(ValueError, match='fixed_below_A: missing'):
        DepositWorkChain.get_builder_from_protocol(codes, meam_potential, start, protocol='fast')


def test_analysis_knows_the_run(codes, meam_potential):
    """Time step, lattice, mass and fixed layers are taken from the run; without a Python nothing is analysed."""
    builder = DepositWorkChain.get_builder_from_protocol(
        codes, meam_potential, overrides={'settings': {'timestep_fs': 2.0}, 'analysis': {'every': 3}}
    )
    settings = builder.analyse.settings.get_dict()
    assert (settings['timestep_fs'], settings['lattice_constant_A'], settings['every']) == (2.0, 3.51, 3)
    assert settings['mass_u'] == pytest.approx(6.94)
    assert settings['fixed_below_A'] == builder.settings['fixed_below_A']
    without = {name: code for name, code in codes.items() if name != 'python'}
    builder = DepositWorkChain.get_builder_from_protocol(without, meam_potential)
    process = instantiate_process(get_manager().get_runner(), builder)
    assert 'analyse' not in process.inputs or 'code' not in process.inputs.analyse
    assert process.analyse() is None


def test_every_protocol_fits_its_crystal(meam_potential):
    """What the protocols say can be built and run: nothing is told by a validator only later."""
    potential = committee_spec([meam_potential])
    for process in (DepositWorkChain, HealWorkChain):
        kind = process._kind
        for name in process.get_available_protocols():
            inputs = process.get_protocol_inputs(name)
            crystal = read_crystal(kind, inputs['crystal'])
            settings = process._completed(inputs['settings'], crystal)
            check(kind, validate(kind, {**settings, 'seed': 1}), crystal.build(), potential)


@pytest.mark.parametrize(
    ('protocol', 'n_atoms', 'temperature_K', 'every_steps', 'n_insert'),
    [
        # 80 x 4 cells, 18 layers, of which eight-layer-deep defects take what lies in them
        ('paper', 5760, 300, 200, 15_000),
        ('paper_rectangular', 4544, 300, 200, 15_000),
        ('paper_triangular', 4352, 300, 200, 15_000),
        ('paper_inverted_triangular', 5056, 300, 200, 15_000),
        ('paper_two_sources', 5760, 100, 200, 15_000),
        ('paper_one_source', 5760, 300, 1000, 30_000),
    ],
)
def test_the_depositions_of_the_paper(protocol, n_atoms, temperature_K, every_steps, n_insert):
    inputs = DepositWorkChain.get_protocol_inputs(protocol)
    crystal = read_crystal('deposit', inputs['crystal'])
    settings = validate('deposit', {**DepositWorkChain._completed(inputs['settings'], crystal), 'seed': 1})
    atoms = crystal.build()
    assert len(atoms) == n_atoms
    assert atoms.cell.lengths() == pytest.approx([280.8, 14.04, 300.0])
    assert (atoms.positions[:, 2] < settings.fixed_below_A).sum() == 8 * 320
    assert (settings.temperature_K, settings.timestep_fs) == (temperature_K, 1)
    schedule = settings.schedule(28.08 * 1.404)
    assert (schedule.every_steps, schedule.n_insert) == (every_steps, n_insert)


def test_the_matrix_of_figure_3(codes, meam_potential):
    """Rates of 0.5, 1 and 5 Li/ps with speeds in proportion, up to 10 nm or to 6,000 atoms."""
    for rate, speed in ((0.5, 500), (1, 1000), (5, 5000)):
        builder = DepositWorkChain.get_builder_from_protocol(
            codes, meam_potential, protocol='paper_one_source', overrides={'settings': {'rate_Li_per_ps': rate}}
        )
        settings = validate('deposit', {**builder.settings.get_dict(), 'seed': 1})
        assert settings.speed(39.4) == pytest.approx(speed)
        assert settings.stop_at_height_A == 100
    counted = {'settings': {'stop_at_height_A': None, 'stop_after_atoms': 6000}}
    builder = DepositWorkChain.get_builder_from_protocol(
        codes, meam_potential, protocol='paper_one_source', overrides=counted
    )
    assert validate('deposit', {**builder.settings.get_dict(), 'seed': 1}).last_step(39.4) == 5_999_001


def test_what_excludes_a_setting_of_the_protocol_takes_its_place():
    given = {'current_density_A_per_cm2': 1e6, 'speed_per_rate_m_per_s_per_Li_per_ps': 1000.0}
    settings = DepositWorkChain.get_protocol_inputs('fast', {'settings': given})['settings']
    assert 'flux_Li_per_ps_nm2' not in settings
    assert 'speed_m_per_s' not in settings
    table = {'source_table': [[1.0], [2.0]]}
    settings = DepositWorkChain.get_protocol_inputs('paper_two_sources', {'settings': table})['settings']
    assert 'source_patches' not in settings
    # two at once are the fault of whoever gave them
    both = {'rate_Li_per_ps': 1.0, 'flux_Li_per_ps_nm2': 1.0}
    settings = DepositWorkChain.get_protocol_inputs('fast', {'settings': both})['settings']
    with pytest.raises(ValueError, match='give one of them, not both'):
        validate('deposit', {**settings, 'fixed_below_A': 3.0, 'seed': 1})


def test_starts_of_other_shapes(codes, meam_potential):
    """A dendrite on the protocol's slab, another facet, a slab that heals: what the shape does not know is left out."""
    shape = {'shape': 'dendrites', 'form': 'needle', 'height_A': 21.06, 'diameter_A': 10.53, 'height_above_A': 60}
    builder = DepositWorkChain.get_builder_from_protocol(
        codes, meam_potential, protocol='fast', overrides={'crystal': shape}
    )
    crystal = read_crystal('deposit', builder.crystal.get_dict())
    assert crystal.shape == 'dendrites'
    assert builder.settings['fixed_below_A'] == crystal.fixed_below_A
    slab = {'shape': 'slab', 'size': [4, 4], 'n_layers': 8, 'n_fixed_layers': 3, 'height_above_A': 20}
    builder = HealWorkChain.get_builder_from_protocol(
        codes, meam_potential, overrides={'crystal': slab, 'settings': {'pressure_bar': None}}
    )
    assert 'void_size' not in builder.crystal.get_dict()
    assert builder.settings['fixed_below_A'] == read_crystal('heal', slab).fixed_below_A
    with pytest.raises(ValueError, match=r'shape = .cube.: no such shape; known are .*slab'):
        DepositWorkChain.get_builder_from_protocol(codes, meam_potential, overrides={'crystal': {'shape': 'cube'}})


def test_another_metal_falls_on_itself(codes):
    sodium = PotentialData(
        kind='generic', elements=['Na'], files={}, pair_style='lj/cut 8.0', pair_coeff=['* * 0.1 3.0']
    )
    changes = {'crystal': {'element': 'Na', 'lattice_constant_A': 4.29}}
    builder = DepositWorkChain.get_builder_from_protocol(codes, sodium, protocol='balanced', overrides=changes)
    settings = builder.settings.get_dict()
    assert settings['element'] == 'Na'
    assert settings['atomic_volume_A3'] == pytest.approx(4.29**3 / 2, rel=2e-3)
    assert settings['bond_cutoff_A'] == pytest.approx(3.5 * 4.29 / 3.51, rel=1e-3)


@pytest.mark.parametrize(
    ('changes', 'parts'),
    [
        ({'settings': {**DEPOSIT, 'source_patches': [{'x_A': [10.0, 30.0]}]}}, ['source_patches[0].x_A', '21.060 Å']),
        ({'settings': {**DEPOSIT, 'thermostat': 'top'}}, ['thermostat', 'film', 'substrate']),
        ({'settings': {**DEPOSIT, 'stop_at_height_A': 90.0}}, ['stop_at_height_A = 90.0 Å', 'higher']),
        ({'crystal': {**SLAB, 'shape': 'cube'}}, ['shape', 'cube', 'known are']),
        ({'crystal': {**VOID, 'shape': 'void'}}, ['a deposition needs a slab']),
        ({'settings': {**DEPOSIT, 'rate_Li_per_ps': -4.0}}, ['rate_Li_per_ps = -4.0', 'greater than 0', '1/ps']),
        ({'settings': {**DEPOSIT, 'seed': 5}}, ['seed: leave it out of the settings']),
        ({'settings': {**DEPOSIT, 'near_A': 50.0}}, ['near_A = 50.0 Å']),
        ({'settings': {**DEPOSIT, 'duration_ps': 1000.0}}, ['the cell is', 'need']),
        ({'crystal': {**SLAB, 'element': 'Lx'}}, ["'Lx' is no chemical element"]),
        ({'crystal': {**SLAB, 'element': 'Na'}}, ['the structure holds Na; the potential knows Li only']),
        ({'crystal': {**SLAB, 'n_fixed_layers': 6}}, ['n_fixed_layers = 6 layers', 'n_layers = 6']),
        ({'crystal': {**SLAB, 'lattice_constant_A': 1.0}}, ['Å from', 'at least 1.5 Å is needed']),
        ({'seed': -3}, ['seed is -3; allowed is 0 or more']),
    ],
)
def test_depositions_that_make_no_sense_are_refused(refusal, deposition, changes, parts):
    message = refusal(DepositWorkChain, **deposition(**changes))
    for part in parts:
        assert part in message


def test_a_void_larger_than_the_crystal_is_refused(refusal, deposition):
    inputs = deposition(settings={'duration_ps': 3.0}, crystal={**VOID, 'void_size': [2, 5, 1]})
    message = refusal(HealWorkChain, **inputs)
    assert 'void_size = (2, 5, 1) cells: along y it must be from 1 to 3 cells' in message


def test_one_start_and_not_two(refusal, deposition):
    start = FramesData(Frames.from_atoms([SlabSettings.read(SLAB).build()]))
    assert 'crystal and structure given; needed is exactly one' in refusal(
        DepositWorkChain, **deposition(), structure=start
    )
    neither = deposition()
    del neither['crystal']
    assert 'neither crystal nor structure given' in refusal(DepositWorkChain, **neither)
    assert 'pbc = [True, True, True]: a deposition needs a slab' in refusal(
        DepositWorkChain, **neither, structure=StructureData(ase=bcc_bulk())
    )
    assert 'no potential given' in refusal(DepositWorkChain, **{**deposition(), 'potentials': {}})


@pytest.fixture
def run_that_ended():
    """A work chain `md` that ended, with its outputs; those named `a__b` are in the namespace a."""

    def make(exit_status=0, **outputs):
        node = WorkChainNode(process_type='aiida_liheal.workchains.md.MdWorkChain')
        node.set_process_label('MdWorkChain')
        node.set_process_state(ProcessState.FINISHED)
        node.set_exit_status(exit_status)
        node.set_exit_message('told by a test' if exit_status else '')
        node.store()
        for label, value in outputs.items():
            value.store()
            value.base.links.add_incoming(node, link_type=LinkType.RETURN, link_label=label)
        return node

    return make


def test_a_run_that_failed_keeps_what_there_is(deposition, run_that_ended):
    process = instantiate_process(get_manager().get_runner(), DepositWorkChain, **deposition())
    process.build()
    process.ctx.md = run_that_ended(312, results=Dict({'runs': [{'status': 'exploded'}]}))
    code = process.inspect_md()
    assert code.status == DepositWorkChain.exit_codes.ERROR_RUN_FAILED.status
    assert code.message == 'the run failed: told by a test; `trajectories` holds what there is'
    assert process.outputs['results']['runs'][0]['status'] == 'exploded'
    assert len(process.outputs['start'].get_atoms()) == 144


def test_an_analysis_that_failed_is_told(deposition, ended_job):
    process = instantiate_process(get_manager().get_runner(), DepositWorkChain, **deposition())
    process.ctx.analysis = ended_job('liheal.analyse', outputs={'summary': Dict({'n_frames': 3})}, exit_status=410)
    code = process.results()
    assert code.status == DepositWorkChain.exit_codes.ERROR_ANALYSIS_FAILED.status
    assert 'the run ended, its analysis failed: told by a test' in code.message
    assert process.outputs['analysis']['summary']['n_frames'] == 3


@pytest.fixture
def troubled_lmp(aiida_localhost, tmp_path):
    """The code of a real `lmp` whose first job is killed by SIGKILL, by the system as it were, in its middle.

    The second one finds its potential gone if `then` says so.
    """

    def make(then='exec'):
        script = tmp_path / 'lmp'
        script.write_text(
            '#!/bin/bash\n'
            # with job control lmp and all that it starts are one group
            'set -m\n'
            f'if mkdir {tmp_path}/killed 2>/dev/null; then\n'
            f'  {shutil.which("lmp")} "$@" & lmp=$!\n'
            '  until [ -s run_000/restart.2000 ]; do kill -0 $lmp || exit 1; sleep 0.02; done\n'
            '  kill -KILL -- -$lmp\n'
            '  wait $lmp\n'
            '  exit 137\n'
            'fi\n' + ('rm library.meam\n' if then == 'no potential' else '') + f'exec {shutil.which("lmp")} "$@"\n'
        )
        script.chmod(0o755)
        return InstalledCode(label='troubled', computer=aiida_localhost, filepath_executable=str(script)).store()

    return make


def jobs_of(node):
    """The LAMMPS jobs of a work chain, in order."""
    jobs = [child for child in node.called_descendants if child.process_class is LammpsCalculation]
    return sorted(jobs, key=lambda job: job.pk)


def columns(outputs):
    thermo = outputs['thermo']
    return {name: thermo.get_array(f'run_000_{name}') for name in ('step', 'n_atoms', 'n_inserted')}


COUNTS = ('status', 'last_step', 'n_start', 'n_inserted', 'n_lost', 'n_final')


@needs_lammps
@pytest.mark.engine
def test_killed_deposition_goes_on_by_itself(codes, deposition, troubled_lmp):
    """Killed by SIGKILL in the middle, it ends with exactly the atoms, insertions and balance of a whole run."""
    whole, node = run_get_node(DepositWorkChain, **deposition())
    assert node.is_finished_ok, node.exit_message
    assert len(jobs_of(node)) == 1

    analysis = {'code': codes['python'], 'settings': Dict({'timestep_fs': 1.0, 'lattice_constant_A': 3.51})}
    inputs = {**deposition(), 'lammps': {'code': troubled_lmp()}, 'analyse': analysis}
    killed, node = run_get_node(DepositWorkChain, **inputs)
    assert node.is_finished_ok, node.exit_message
    first, *_, last = jobs_of(node)
    assert first.exit_status == LammpsCalculation.exit_codes.ERROR_INTERRUPTED.status
    assert 'restart_steps' not in first.inputs
    # the newest file may have been cut off by the kill; then there is a job that finds it so
    assert last.inputs.restart_steps['run_000'] >= 1500

    record, other = (outputs['results']['runs'][0] for outputs in (whole, killed))
    assert [other[key] for key in COUNTS] == [record[key] for key in COUNTS]
    assert [record[key] for key in COUNTS] == ['finished', 4000, 144, 16, 0, 160]
    assert record['ended_by'] == other['ended_by'] == 'time'
    given, got = columns(whole), columns(killed)
    for name, column in given.items():
        assert np.array_equal(got[name], column), name
    assert killed['last_frames'].get_frames().counts.tolist() == [160]
    # the analysis reads both parts as one run, each frame once
    assert sorted(killed['trajectories']) == ['s000', 's001']
    times = killed['analysis']['series'].get_array('time_ps')
    assert times == pytest.approx(np.arange(17) * 0.25)
    assert killed['analysis']['summary']['frames'] == 17


@needs_lammps
@pytest.mark.engine
def test_a_run_that_failed_is_gone_on_with_when_asked(deposition, troubled_lmp):
    """Killed, and then without its potential: it fails. What it did is gone on with by another run."""
    broken, node = run_get_node(DepositWorkChain, **{**deposition(), 'lammps': {'code': troubled_lmp('no potential')}})
    assert node.exit_status == DepositWorkChain.exit_codes.ERROR_RUN_FAILED.status
    assert 'Cannot open MEAM library file' in node.exit_message
    statuses = [job.exit_status for job in jobs_of(node)]
    assert (statuses[0], statuses[-1]) == (400, 310)
    assert list(broken['trajectories']) == ['s000']

    outputs, node = run_get_node(DepositWorkChain, **deposition(), earlier=broken['trajectories'])
    assert node.is_finished_ok, node.exit_message
    (job,) = jobs_of(node)
    assert job.inputs.restart_steps['run_000'] >= 1500
    record = outputs['results']['runs'][0]
    assert [record[key] for key in COUNTS] == ['finished', 4000, 144, 16, 0, 160]
    assert sorted(outputs['trajectories']) == ['s000', 's001']


@needs_lammps
@pytest.mark.engine
def test_walltime_makes_several_jobs(deposition):
    """Jobs that end in good order before their walltime, and together one run; its last atom ends it, as it should."""
    inputs = deposition(settings={**DEPOSIT, 'duration_ps': 8.0, 'rate_Li_per_ps': 2.0, 'stop_after_atoms': 14})
    inputs['lammps']['metadata'] = {'options': {'max_wallclock_seconds': 2}}
    outputs, node = run_get_node(DepositWorkChain, **inputs)
    assert node.is_finished_ok, node.exit_message
    *stopped, last = jobs_of(node)
    assert len(stopped) >= 1
    assert {job.exit_status for job in stopped} == {LammpsCalculation.exit_codes.ERROR_WALLTIME.status}
    record = outputs['results']['runs'][0]
    assert [record[key] for key in COUNTS] == ['finished', 6501, 144, 14, 0, 158]
    assert record['ended_by'] == 'atoms'
    assert all('ended_by' not in job.outputs.results['runs'][0] for job in stopped)
    # it went on from the very step that it was stopped at
    ends = [job.outputs.results['runs'][0]['last_step'] for job in stopped]
    assert [job.inputs.restart_steps['run_000'] for job in (*stopped[1:], last)] == ends
    assert columns(outputs)['n_inserted'].max() == 14


def test_parts_of_a_pack_that_make_no_sense_are_refused(refusal, deposition, aiida_localhost, tmp_path):
    """What is taken over has to be whole: one run with its status, its start, its folders in order."""
    folder = RemoteData(computer=aiida_localhost, remote_path=str(tmp_path))
    part = {
        'start': FramesData(Frames.from_atoms([read_crystal('deposit', SLAB).build()])),
        'results': Dict({'runs': [{'status': 'finished'}]}),
        'trajectories': {'s000': folder},
    }

    def told(**changes):
        packed = {name: value for name, value in {**part, **changes}.items() if value is not None}
        return refusal(DepositWorkChain, **deposition(), packed=packed)

    assert 'packed.thermos: allowed are start, results' in told(thermos=Dict({}))
    assert 'packed.start: is missing' in told(start=None)
    assert 'packed.start: is a Dict; needed is FramesData' in told(start=Dict({}))
    assert 'exactly one run' in told(results=Dict({'runs': [{'status': 'finished'}] * 2}))
    assert 'exactly one run' in told(results=Dict({'runs': [{}]}))
    assert 'packed.trajectories.s000: is a Int; needed is RemoteData' in told(trajectories={'s000': Int(1)})
    assert 'needs the names s000, s001' in told(trajectories={'s000': folder, 's002': folder})
    assert 'packed and earlier given' in refusal(
        DepositWorkChain, **deposition(), packed=part, earlier={'s000': folder}
    )
    assert 'the order needs the names s000' in refusal(DepositWorkChain, **deposition(), earlier={'run_000': folder})
    process = instantiate_process(get_manager().get_runner(), DepositWorkChain, **deposition(), packed=part)
    assert set(process.inputs.packed) == set(part)
