"""`launch`: dry runs tell what would be run; bad input is refused with one message and nothing stored."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from aiida.common.links import LinkType
from aiida.orm import CalcJobNode, InstalledCode, RemoteData, WorkChainNode
from ase.build import bulk
from trees import deep_potential, give, labelled, lennard_jones, process

from aiida_liheal.cli.params import read_overrides
from aiida_liheal.data.frames import FramesData
from aiida_liheal.structures.frames import Frames


@pytest.fixture
def crystals(aiida_profile_clean):
    """Four bcc cells of 16 atoms without labels."""
    cell = bulk('Li', 'bcc', a=3.44, cubic=True).repeat(2)
    return FramesData(Frames.from_atoms([cell] * 4), domain='bulk').store()


def rows(output):
    """The table of a dry run: how many, by what."""
    lines = [line for line in output.splitlines() if line and not line.startswith(('-', 'Success'))]
    return {words[0].strip(): words[1].strip() for line in lines if len(words := line.strip().split('  ', 1)) > 1}


def test_dry_run_of_heal(invoke, codes, potential, n_nodes):
    """Atoms, steps and frames of the protocol with a setting laid over it; nothing is stored."""
    before = n_nodes()
    status, output = invoke(
        'launch', 'heal', '--potential', potential.pk, '--protocol', 'fast', '-s', 'settings.duration_ps=4', '--dry-run'
    )
    assert status == 0
    table = rows(output)
    assert table['atoms'].startswith('416 ')
    assert table['steps'].startswith('4000 ')
    assert table['frames'].startswith('21 ')
    assert table['labels'] == '0'
    assert table['jobs'].startswith('2 ')
    assert 'nothing was stored or run' in output
    assert n_nodes() == before


def test_dry_run_with_the_shipped_committee(invoke, codes, n_nodes):
    """`builtin` is four members, which a dry run does not store."""
    before = n_nodes()
    status, output = invoke('launch', 'heal', '--potential', 'builtin', '--protocol', 'fast', '-n')
    assert status == 0
    assert rows(output)['potentials'].startswith('4 ')
    assert n_nodes() == before


def test_dry_run_of_deposit(invoke, codes, potential):
    """The paper's flux on 20 x 4 cells: an atom every 799 steps."""
    status, output = invoke('launch', 'deposit', '--potential', potential.pk, '-n')
    assert status == 0
    table = rows(output)
    assert table['atoms'].startswith('1440 ')
    assert table['atoms inserted'].startswith('126 ')
    assert 'one every 799 steps' in table['atoms inserted']


def test_dry_run_of_label(invoke, codes, crystals, n_nodes):
    before = n_nodes()
    status, output = invoke('launch', 'label', '--frames', crystals.pk, '-s', 'batch_size=3', '-n')
    assert status == 0
    table = rows(output)
    assert table['jobs'].startswith('2 ')
    assert table['labels'].startswith('4 ')
    assert n_nodes() == before


def test_dry_run_of_train(invoke, codes, crystals):
    """Frames trained on and held out, from a file of overrides and two shards that share a domain."""
    shards = [FramesData(labelled(crystals.get_frames()), domain='bulk').store() for _ in range(2)]
    status, output = invoke(
        'launch', 'train', *(f'--frames={shard.pk}' for shard in shards), '-n',
        '-s', 'n_members=3', '-s', 'settings.n_steps=123', '-s', 'settings.holdout_fraction=0.25',
    )  # fmt: skip
    assert status == 0
    table = rows(output)
    assert table['jobs'].startswith('3 ')
    assert table['steps'].startswith('123 ')
    assert table['frames'].startswith('6 ')
    assert '2 more are held out' in table['frames']


def test_dry_run_of_explore_and_learn(invoke, codes, crystals):
    """Runs and steps of a committee; rounds and most labels."""
    members = [deep_potential(number).store() for number in range(2)]
    given = [f'--potential={node.pk}' for node in members]
    stage = ['-s', 'stage.bulk={temperatures_K: [100, 200], pressures_bar: [1], duration_ps: 1, every_ps: 0.1}']
    status, output = invoke('launch', 'explore', '--structures', crystals.pk, *given, *stage, '-n')
    assert status == 0
    table = rows(output)
    # 4 structures at 2 temperatures, 500 steps of 2 fs, 11 frames
    assert table['runs of bulk'].startswith('8 ')
    assert '4000 steps, 88 frames' in table['runs of bulk']

    status, output = invoke(
        'launch', 'learn', '--structures', crystals.pk, '--to-label', crystals.pk, *given, '-n',
        '-s', 'n_rounds=3', '-s', 'explore.max_candidates=5', '-s', 'train.n_members=2',
    )  # fmt: skip
    assert status == 0
    table = rows(output)
    assert table['rounds'].startswith('≤ 3')
    assert table['labels'].startswith('≤ 14')
    assert table['trainings'].startswith('≤ 6')


@pytest.mark.parametrize(
    ('verb', 'change', 'parts'),
    [
        ('deposit', 'settings.flux_Li_per_ps_nm2=-0.5', ['flux_Li_per_ps_nm2 = -0.5', 'greater than 0', '1/ps/nm^2']),
        ('heal', 'crystal.void_size=[11, 3, 3]', ['void_size = (11, 3, 3) cells', 'from 1 to 9 cells']),
        ('heal', 'crystal.element=Xq', ["element = 'Xq'", 'no chemical element', 'Li']),
        ('heal', 'settings.temperature_K=-5', ['temperature_K = -5', 'greater than 0', 'in K']),
        ('heal', 'settings.colour=red', ['colour', 'no such setting', 'temperature_K']),
        ('heal', 'color=red', ['unknown override color', 'crystal']),
        ('heal', 'settings', ["setting 'settings'", 'NAME=VALUE']),
        ('deposit', 'crystal.size=[20, 4', ['setting crystal.size', 'cannot be read']),
    ],
)
def test_bad_settings_are_refused(invoke, codes, potential, n_nodes, verb, change, parts):
    """The message names what was given, its unit and what is allowed; nothing is stored, also when it was to run."""
    before = n_nodes()
    status, output = invoke('launch', verb, '--potential', potential.pk, '--run', '-s', change)
    assert status == 1
    for part in parts:
        assert part in output
    assert len(output.strip().splitlines()) == 1
    assert n_nodes() == before


def test_bad_nodes_are_refused(invoke, codes, potential, crystals, n_nodes):
    """Missing nodes, nodes of another kind, frames without forces, overlapping atoms, classical committees."""
    atoms = bulk('Li', 'bcc', a=3.44, cubic=True).repeat(2)
    atoms.positions[1] = atoms.positions[0] + [0.3, 0, 0]
    overlapping = FramesData(Frames.from_atoms([atoms])).store()
    other = lennard_jones().store()
    before = n_nodes()
    for arguments, parts in (
        (['heal', '--potential', '987654'], ["no node '987654'"]),
        (['heal', '--potential', crystals.pk], ['FramesData', 'PotentialData']),
        (['heal'], ['no potential given']),
        (['heal', f'--potential={potential.pk}', f'--potential={other.pk}'], ['deepmd potentials only']),
        (['heal', f'--potential={potential.pk}', f'--potential={potential.pk}'], [f'pk {potential.pk}', 'twice']),
        (['train', '--frames', crystals.pk], ['4 frames', 'no energies and forces', 'liheal.label']),
        (['label', '--frames', overlapping.pk], ['frame 0', '0.3', 'Å']),
        (['heal', f'--potential={potential.pk}', f'--structure={overlapping.pk}'], ['0.3', 'Å']),
        (['heal', '--potential', potential.pk, '--protocol', 'quick'], ["unknown protocol 'quick'", 'balanced']),
        (['heal', '--potential', potential.pk, '--code', 'lmp=none@nowhere'], ['none@nowhere', 'setup']),
        (['heal', '--potential', potential.pk, '--code', 'vasp=x'], ['code vasp', 'lmp, python']),
    ):
        status, output = invoke('launch', *arguments)
        assert status == 1, arguments
        for part in parts:
            assert part in output, (arguments, part, output)
    assert n_nodes() == before


def test_a_missing_executable_is_refused(invoke, codes, potential, n_nodes):
    """The code is there, its executable is not."""
    gone = InstalledCode(label='gone', computer=codes['lmp'].computer, filepath_executable='/nonexistent/lmp').store()
    before = n_nodes()
    status, output = invoke('launch', 'heal', '--potential', potential.pk, '--code', f'lmp={gone.full_label}')
    assert status == 1
    assert '/nonexistent/lmp' in output
    assert n_nodes() == before


def test_restart_takes_the_folders_of_the_earlier_run(invoke, codes, potential, monkeypatch, tmp_path, n_nodes):
    """Inputs are those of the run that broke off; its jobs' folders are gone on from, in their order."""
    from aiida.engine import launch as engine
    from aiida.orm import Dict, Int

    computer = codes['lmp'].computer
    inputs = {
        'potentials__m0': potential,
        'seed': Int(5),
        'crystal': Dict({'size': [4, 4, 4], 'void_size': [1, 1, 1]}),
        'settings': Dict({'duration_ps': 1.0, 'heating_ps': 0.2}),
        'lammps__code': codes['lmp'],
    }
    root = process(WorkChainNode, 'HealWorkChain', 'liheal.heal', inputs=inputs, state='killed')
    md = process(WorkChainNode, 'MdWorkChain', 'liheal.md', root, 'md', state='killed')
    folders = []
    for number in (1, 2):
        job = process(
            CalcJobNode,
            'LammpsCalculation',
            'liheal.lammps',
            md,
            f'iteration_0{number}',
            {'code': codes['lmp']},
            state='killed',
        )
        (tmp_path / str(number) / 'run_000').mkdir(parents=True)
        (tmp_path / str(number) / 'run_000' / 'in.lmp').touch()
        give(job, remote_folder=RemoteData(computer=computer, remote_path=str(tmp_path / str(number))))
        folders.append(str(tmp_path / str(number) / 'run_000'))
    give(root, flags=Dict({'run_000': [{'limit': 'max_temperature_K', 'step': 300}]}).store())
    root.seal()

    before = n_nodes()
    status, output = invoke('launch', 'heal', '--restart', root.pk, '--dry-run')
    assert status == 0, output
    assert rows(output)['goes on from'].startswith('2 ')
    assert 'went beyond limits that only flag it' in output
    assert n_nodes() == before

    taken = {}

    def run_get_node(builder):
        taken.update(builder._inputs(prune=True))
        return {}, process(WorkChainNode, 'HealWorkChain', 'liheal.heal')

    monkeypatch.setattr(engine, 'run_get_node', run_get_node)
    monkeypatch.setattr('aiida.engine.run_get_node', run_get_node)
    status, output = invoke('launch', 'heal', '--restart', root.pk, '--run')
    assert status == 0, output
    assert [node.get_remote_path() for _, node in sorted(taken['earlier'].items())] == folders
    assert taken['seed'].value == 5
    assert taken['potentials']['m0'].pk == potential.pk


def test_restart_is_refused_for_what_cannot_go_on(invoke, codes, healed):
    """A run that came to its end, one of another verb, and settings besides."""
    for arguments, part in (
        (['heal', '--restart', healed.pk], 'nothing to go on with'),
        (['deposit', '--restart', healed.pk], 'is a HealWorkChain'),
        (['heal', '--restart', healed.pk, '--seed', '4'], 'takes all inputs from the earlier run'),
    ):
        status, output = invoke('launch', *arguments)
        assert status == 1
        assert part in output


def test_restart_is_refused_after_a_limit(invoke, codes):
    """A monitor stopped it: what follows its last restart file would end well, and hide why."""
    from aiida.orm import Dict

    for status, refused in (('stopped', True), ('unbalanced', True), ('walltime', False)):
        node = process(WorkChainNode, 'HealWorkChain', 'liheal.heal', state='finished', exit_status=320)
        record = {'status': status, 'cause': 'max_temperature_K = 900.0 K passed at step 300'}
        give(node, results=Dict({'runs': [record]}).store())
        code, output = invoke('launch', 'heal', '--restart', node.pk)
        assert code == 1
        assert ('ended beyond a limit' in output) == refused
        assert ('max_temperature_K = 900.0 K passed at step 300' in output) == refused
        assert ('launch it anew' in output) or not refused


def test_without_a_daemon_nothing_is_submitted(invoke, codes, potential, n_nodes):
    before = n_nodes()
    status, output = invoke('launch', 'heal', '--potential', potential.pk, '--protocol', 'fast')
    assert status == 1
    assert 'verdi daemon start' in output
    assert n_nodes() == before


OPTIONS = """
queue_name: gpu
resources: {num_machines: 1, num_mpiprocs_per_machine: 1}
custom_scheduler_commands: |
  #SBATCH --gres=gpu:1
  #SBATCH --mem=4G
analyse: {queue_name: cpu, max_wallclock_seconds: 600}
"""


@pytest.fixture
def launched(monkeypatch, invoke):
    """The inputs that a command would run with."""

    def launch(*arguments):
        taken = {}

        def run_get_node(builder):
            taken.update(builder._inputs(prune=True))
            node = process(WorkChainNode, 'HealWorkChain', 'liheal.heal')
            return {}, give(node, potential=taken['potential'].store()) if 'potential' in taken else node

        monkeypatch.setattr('aiida.engine.run_get_node', run_get_node)
        status, output = invoke('launch', *arguments, '--run')
        assert status == 0, output
        return taken

    return launch


def test_options_reach_the_jobs(invoke, launched, codes, potential, tmp_path):
    """Those of a file with those of the line over them; a kind of job may have its own. A dry run shows them."""
    path = tmp_path / 'options.yaml'
    path.write_text(OPTIONS)
    given = [
        'heal', '--potential', potential.pk, '--protocol', 'fast', '--options', path, '-o', 'account=12345',
        '-o', 'max_wallclock_seconds=12:00:00', '-o', 'lammps.environment_variables.OMP_NUM_THREADS=8',
    ]  # fmt: skip
    inputs = launched(*given)
    md, analysis = (inputs[job]['metadata']['options'] for job in ('lammps', 'analyse'))
    for options in (md, analysis):
        # an account may look like a number
        assert options['account'] == '12345'
        assert options['custom_scheduler_commands'] == '#SBATCH --gres=gpu:1\n#SBATCH --mem=4G\n'
        assert options['resources'] == {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
    assert (md['queue_name'], md['max_wallclock_seconds']) == ('gpu', 12 * 3600)
    assert (analysis['queue_name'], analysis['max_wallclock_seconds']) == ('cpu', 600)
    assert md['environment_variables']['OMP_NUM_THREADS'] == '8'
    assert md['environment_variables']['TF_INTRA_OP_PARALLELISM_THREADS'] == '1'
    # not given: the default of its port
    assert 'environment_variables' not in analysis
    status, output = invoke('launch', *given, '-n')
    assert status == 0
    table = rows(output)
    assert table['analyse.queue_name'].startswith('cpu ')
    assert table['account'].startswith('12345 ')


def test_options_of_every_verb(launched, codes, crystals):
    """label, train, explore and learn give them to their jobs."""
    shard = FramesData(labelled(crystals.get_frames()), domain='bulk').store()
    members = [f'--potential={deep_potential(number).store().pk}' for number in range(2)]
    stage = '{temperatures_K: [100], pressures_bar: [1], duration_ps: 1, every_ps: 0.1}'
    for verb, arguments in {
        'label': ['--frames', crystals.pk],
        'train': ['--frames', shard.pk, '-s', 'n_members=2'],
        'explore': ['--structures', crystals.pk, *members, '-s', f'stage.bulk={stage}'],
        'learn': ['--structures', crystals.pk, '--frames', shard.pk, *members, '-s', 'train.n_members=2',
                  '-s', f'explore.stage.bulk={stage}', '-o', 'train.queue_name=gpu'],
    }.items():  # fmt: skip
        inputs = launched(verb, *arguments, '-o', 'queue_name=cpu', '-o', 'max_wallclock_seconds=3600')
        jobs = {
            'label': lambda inputs: {'gpaw': inputs['gpaw']},
            'train': lambda inputs: {'dp': inputs['dp']},
            'explore': lambda inputs: {'lammps': inputs['lammps']},
            'learn': lambda inputs: {
                'gpaw': inputs['label']['gpaw'], 'dp': inputs['train']['dp'], 'lammps': inputs['explore']['lammps']
            },
        }[verb](inputs)  # fmt: skip
        for name, job in jobs.items():
            options = job['metadata']['options']
            assert options['max_wallclock_seconds'] == 3600, (verb, name)
            assert options['queue_name'] == ('gpu' if (verb, name) == ('learn', 'dp') else 'cpu'), (verb, name)


def test_compress(invoke, launched, codes, potential, tiny_committee, n_nodes):
    """A job a potential, with its table and options; what cannot be compressed is refused, and nothing stored."""
    whole, frozen = (tiny_committee[name].store() for name in ('m0', 'm1'))
    before = n_nodes()
    status, output = invoke('launch', 'compress', f'--potential={frozen.pk}', '--potential=builtin', '--dry-run')
    assert status == 0
    assert rows(output)['jobs'].startswith('5 ')
    for arguments, part in (
        ([f'--potential={whole.pk}'], 'has a compressed model already'),
        ([f'--potential={potential.pk}'], 'only deepmd potentials can be compressed'),
        ([f'--potential={frozen.pk}', '--table-from=7'], 'table_from_A is 7.0 Å'),
        ([], 'no potential given'),
    ):
        status, output = invoke('launch', 'compress', *arguments, '--run')
        assert status == 1
        assert part in output
    assert n_nodes() == before
    inputs = launched('compress', f'--potential={frozen.pk}', '--table-from=1.5', '-o', 'account=me')
    assert inputs['potential'].pk == frozen.pk
    assert inputs['table_from_A'].value == 1.5
    assert inputs['code'].pk == codes['dp'].pk
    assert inputs['metadata']['options']['account'] == 'me'


@pytest.mark.parametrize(
    ('option', 'parts'),
    [
        ('walltime=3', ['option walltime', 'no such option', 'max_wallclock_seconds', 'lammps.NAME or analyse.NAME']),
        ('parser_name=mine', ['option parser_name', 'no such option']),
        ('max_wallclock_seconds=3h', ["max_wallclock_seconds = '3h'", 'type str', 'allowed is int']),
        ('max_wallclock_seconds=0', ['max_wallclock_seconds = 0 s', '1 s or more']),
        ('withmpi=yes please', ["withmpi = 'yes please'", 'allowed is bool']),
        ('lammps=3', ['option lammps', 'lammps.NAME=VALUE']),
        ('lammps.queue=a', ['option lammps.queue', 'queue_name']),
        ('resources.num_machine=3', ['num_machine', 'DirectScheduler']),
        ('resources.num_machines=-1', ['num_machines', 'greater than']),
        ('queue_name', ["option 'queue_name'", 'NAME=VALUE']),
    ],
)
def test_bad_options_are_refused(invoke, codes, potential, n_nodes, option, parts):
    """Unknown ones, values of another type, resources that the scheduler does not know; nothing is stored."""
    before = n_nodes()
    status, output = invoke('launch', 'heal', '--potential', potential.pk, '--protocol', 'fast', '--run', '-o', option)
    assert status == 1
    for part in parts:
        assert part in output
    assert len(output.strip().splitlines()) == 1
    assert n_nodes() == before


def test_overrides_from_file_and_settings(tmp_path):
    """Single settings lie over the file; values are YAML, numbers may be written as 1e-3."""
    path = tmp_path / 'overrides.yaml'
    path.write_text(yaml.safe_dump({'settings': {'duration_ps': 5.0, 'temperature_K': 100.0}}))
    assert read_overrides(path, ['settings.duration_ps=1e-3', 'crystal.size=[2, 2, 2]', 'label.x=text']) == {
        'settings': {'duration_ps': 0.001, 'temperature_K': 100.0},
        'crystal': {'size': [2, 2, 2]},
        'label': {'x': 'text'},
    }


@pytest.mark.parametrize('content', ['- a\n- b\n', 'a: [1\n', '!!python/object/apply:os.system ["true"]\n'])
def test_a_file_that_holds_no_settings_is_refused(invoke, codes, potential, tmp_path, content):
    """Lists, broken YAML, and YAML that wants to run something."""
    path = tmp_path / 'overrides.yaml'
    path.write_text(content)
    status, output = invoke('launch', 'heal', '--potential', potential.pk, '--override', path)
    assert status == 1
    assert str(path) in output


def test_links_of_trees_are_as_the_engine_makes_them(healed):
    """The made-up trees have the links that a real run has."""
    calls = healed.base.links.get_outgoing(link_type=(LinkType.CALL_WORK, LinkType.CALL_CALC)).all()
    assert sorted(link.link_label for link in calls) == ['analyse', 'md']
    assert np.isclose(healed.outputs.analysis.summary.get_dict()['healed_at_ps'], 1.6)
