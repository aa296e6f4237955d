"""The verb `explore`: what is run, which frames are chosen, what is refused and what is told of bad jobs."""

import numpy as np
import pytest
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.orm import Dict, Int, Str

from aiida_liheal.calculations.lammps import JobSettings, check_runs
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import committee_spec
from aiida_liheal.structures.bcc import bcc_bulk, bcc_slab
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.explore import ExploreWorkChain, plan_exploration, select_frames

STAGE = {
    'bulk': {'temperatures_K': [300.0, 600.0], 'pressures_bar': [0.0, 1e4], 'duration_ps': 0.2, 'every_ps': 0.02},
    'surface': {'temperatures_K': [300.0], 'duration_ps': 0.2, 'every_ps': 0.02, 'n_structures': 1},
}
TRUST = {'lower_eV_per_A': 0.05, 'upper_eV_per_A': 0.2}


def starts():
    slab = bcc_slab('Li', 3.51, (2, 2), 4, 8.0)
    slab.pbc = True
    images = {'bulk': [bcc_bulk(), bcc_bulk(size=(2, 2, 1))], 'surface': [slab, slab]}
    return {name: FramesData(Frames.from_atoms(frames), domain=name) for name, frames in images.items()}


@pytest.fixture
def exploration(codes, tiny_committee):
    """Inputs of an exploration of two systems, with changes to the inputs."""

    def make(**changes):
        return {
            'lammps': {'code': codes['lmp']},
            'structures': starts(),
            'potentials': tiny_committee,
            'stage': Dict(STAGE),
            'trust': Dict(TRUST),
            'max_candidates': Int(5),
            'seed': Int(1),
            **changes,
        }

    return make


def test_plan_is_every_structure_at_every_temperature_and_pressure(tiny_committee):
    shards = starts()
    plans = {
        name: plan_exploration(Dict(STAGE), Str(name), shards[name], Dict(TRUST), Int(1)).get_dict() for name in STAGE
    }
    assert len(plans['bulk']['runs']) == 2 * 2 * 2
    assert len(plans['surface']['runs']) == 1
    points = {(run['structure'], run['temperature_K'], run['pressure_bar']) for run in plans['bulk']['runs']}
    assert points == {(s, t, p) for s in (0, 1) for t in (300.0, 600.0) for p in (0.0, 1e4)}
    assert plans['surface']['runs'][0]['pressure_bar'] is None
    # no two runs of the exploration share a stream, and the same seed plans the same
    seeds = [run['seed'] for plan in plans.values() for run in plan['runs']]
    assert len(set(seeds)) == len(seeds)
    assert plan_exploration(Dict(STAGE), Str('bulk'), shards['bulk'], Dict(TRUST), Int(1)).get_dict() == plans['bulk']
    # what is planned is what a job takes
    for name, plan in plans.items():
        check_runs(JobSettings.read(plan), shards[name].get_frames(), committee_spec(list(tiny_committee.values())))


def candidates(counts, domain):
    """A shard of candidates, so many from each run; its step tells which."""
    runs = np.repeat(np.arange(len(counts)), counts)
    return FramesData(
        Frames.from_atoms([bcc_bulk(size=(1, 1, 1))] * len(runs), run=runs, step=np.arange(len(runs))), domain=domain
    )


def results(counts, **more):
    runs = [
        {
            'status': 'finished',
            'n_accurate': 3,
            'n_candidate': count,
            'n_failed': 1,
            'n_missing': 2,
            'max_devi_f_eV_per_A': 0.1 * (1 + number),
            'mean_max_devi_f_eV_per_A': 0.05,
            **more,
        }
        for number, count in enumerate(counts)
    ]
    return Dict({'runs': runs})


def test_choice_takes_turns_over_runs_and_systems():
    given = {
        'results_bulk': results([20, 1]),
        'results_surface': results([3]),
        'candidates_bulk': candidates([20, 1], 'bulk'),
        'candidates_surface': candidates([3], 'surface'),
    }
    chosen = select_frames(Int(6), Int(1), **given)
    summary = chosen['summary'].get_dict()
    assert (summary['n_chosen'], summary['n_left_out']) == (6, 18)
    # three runs in turn: one of each, then two of those that have more, then one of either
    assert {name: system['n_chosen'] for name, system in summary['systems'].items()} in (
        {'bulk': 3, 'surface': 3},
        {'bulk': 4, 'surface': 2},
    )
    for name, shard in chosen['candidates'].items():
        frames = shard.get_frames()
        assert shard.domain == name
        assert len(frames) == summary['systems'][name]['n_chosen']
        assert sorted(set(frames.extra['step'].tolist())) == frames.extra['step'].tolist()
    again = select_frames(Int(6), Int(1), **given)['candidates']['bulk'].get_frames()
    assert again.extra['step'].tolist() == chosen['candidates']['bulk'].get_frames().extra['step'].tolist()
    other = select_frames(Int(6), Int(2), **given)['candidates']['bulk'].get_frames()
    assert other.extra['step'].tolist() != again.extra['step'].tolist()


def test_counts_add_up_over_systems():
    chosen = select_frames(
        Int(5),
        Int(1),
        results_bulk=results([2, 0]),
        results_surface=results([0], status='exploded', max_devi_f_eV_per_A=None, mean_max_devi_f_eV_per_A=None),
        candidates_bulk=candidates([2, 0], 'bulk'),
    )
    summary = chosen['summary'].get_dict()
    assert [summary[f'n_{kind}'] for kind in ('accurate', 'candidate', 'failed', 'missing')] == [9, 2, 3, 6]
    assert (summary['n_chosen'], summary['n_left_out']) == (2, 0)
    bulk, surface = summary['systems']['bulk'], summary['systems']['surface']
    assert (bulk['n_runs'], bulk['n_runs_exploded'], bulk['max_devi_f_eV_per_A']) == (2, 0, 0.2)
    assert (surface['n_runs_exploded'], surface['max_devi_f_eV_per_A'], surface['n_chosen']) == (1, None, 0)
    assert list(chosen['candidates']) == ['bulk']


def test_nothing_to_choose_gives_no_shard():
    chosen = select_frames(Int(5), Int(1), results_bulk=results([0]))
    assert 'candidates' not in chosen
    assert chosen['summary']['n_chosen'] == 0


@pytest.mark.parametrize(
    ('stage', 'parts'),
    [
        ({'bulk': STAGE['bulk']}, ['surface is in one of them only']),
        ({**STAGE, 'wire': STAGE['bulk']}, ['wire is in one of them only']),
        ({**STAGE, 'surface': {**STAGE['surface'], 'duration_ps': -1.0}}, ['surface', 'duration_ps = -1.0', 'ps']),
        ({**STAGE, 'surface': {**STAGE['surface'], 'every_ps': 1.0}}, ['every_ps = 1.0 ps', 'duration_ps = 0.2 ps']),
        ({**STAGE, 'bulk': {**STAGE['bulk'], 'temperatures_K': [0.0]}}, ['bulk', 'temperatures_K = [0.0] K']),
        ({**STAGE, 'bulk': {**STAGE['bulk'], 'pressures_bar': []}}, ['bulk', 'at least one pressure in bar, or null']),
    ],
)
def test_stages_that_make_no_sense_are_refused(refusal, exploration, stage, parts):
    message = refusal(ExploreWorkChain, **exploration(stage=Dict(stage)))
    for part in parts:
        assert part in message


def test_other_inputs_that_make_no_sense_are_refused(refusal, exploration, tiny_committee, meam_potential):
    def message(**changes):
        return refusal(ExploreWorkChain, **exploration(**changes))

    assert 'bulk: trust levels need a committee' in message(potentials={'m0': tiny_committee['m0']})
    assert 'a committee needs deepmd potentials only' in message(
        potentials={'m0': tiny_committee['m0'], 'm1': meam_potential}
    )
    assert 'no potential given' in message(potentials={})
    assert 'upper_eV_per_A = 0.01' in message(trust=Dict({'lower_eV_per_A': 0.05, 'upper_eV_per_A': 0.01}))
    assert 'max_candidates is 0; allowed is 1 or more' in message(max_candidates=Int(0))
    assert 'seed is -2; allowed is 0 or more' in message(seed=Int(-2))
    slab = bcc_slab('Li', 3.51, (2, 2), 4, 8.0)
    shards = {**starts(), 'bulk': FramesData(Frames.from_atoms([slab, slab]))}
    assert 'bulk: run 0: pressure_bar = 0.0 bar: needs a cell that is periodic' in message(structures=shards)
    sodium = {**starts(), 'bulk': FramesData(Frames.from_atoms([bcc_bulk('Na')]))}
    assert 'the structure holds Na; the potential knows Li only' in message(structures=sodium)
    empty = {**starts(), 'bulk': FramesData(starts()['bulk'].get_frames().select([]))}
    assert 'bulk: the shard holds no frames to start from' in message(structures=empty)


def test_system_without_a_stage_is_refused(codes, tiny_committee):
    shards = {**starts(), 'wire': starts()['bulk']}
    with pytest.raises(ValueError, match='no stage for wire; there are bulk, surface'):
        ExploreWorkChain.get_builder_from_protocol(codes, shards, tiny_committee)
    builder = ExploreWorkChain.get_builder_from_protocol(
        codes, shards, tiny_committee, overrides={'stage': {'wire': STAGE['bulk']}}
    )
    assert sorted(builder.stage.get_dict()) == ['bulk', 'surface', 'wire']


@pytest.fixture
def ended(exploration, ended_job):
    """An exploration whose two jobs ended."""

    def make(bulk, surface):
        process = instantiate_process(get_manager().get_runner(), ExploreWorkChain, **exploration())
        process.ctx.jobs = {
            name: ended_job('liheal.lammps', outputs=outputs, exit_status=status)
            for name, (outputs, status) in {'bulk': bulk, 'surface': surface}.items()
        }
        return process

    return make


def test_results_of_two_jobs(ended):
    process = ended(
        ({'results': results([4]), 'candidates': candidates([4], 'bulk')}, 0),
        ({'results': results([4]), 'candidates': candidates([4], 'surface')}, 0),
    )
    assert process.select() is None
    assert process.outputs['summary']['n_chosen'] == 5
    assert sum(len(shard) for shard in process.outputs['candidates'].values()) == 5


def test_a_job_without_any_frame_fails_the_exploration(ended):
    process = ended(({'results': results([4]), 'candidates': candidates([4], 'bulk')}, 0), ({}, 301))
    code = process.select()
    assert code.status == ExploreWorkChain.exit_codes.ERROR_JOB_FAILED.status
    assert 'the exploration of surface gave no frame at all' in code.message
    assert 'told by a test' in code.message
