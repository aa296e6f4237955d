"""Several depositions in one job: what is refused, what a point gets of it, and real runs of MEAM that are killed."""

import shutil

import numpy as np
import pytest
from aiida.engine import run_get_node
from aiida.orm import Dict, InstalledCode, Str

from aiida_liheal.calculations.lammps import LammpsCalculation
from aiida_liheal.data.frames import FramesData
from aiida_liheal.parsers.common import array_data
from aiida_liheal.structures.bcc import bcc_slab
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.deposit import DepositWorkChain
from aiida_liheal.workchains.heal import HealWorkChain
from aiida_liheal.workchains.pack import PackWorkChain, join_starts, pack_settings, part_of_pack
from aiida_liheal.workchains.points import KEY_EXTRA, PACK_EXTRA, check_inputs, earlier_runs, folders_of, point_key

needs_lammps = pytest.mark.skipif(shutil.which('lmp') is None, reason='LAMMPS is not installed (extra `engines`)')

#: A slab of 4 x 3 cells on which two atoms a picosecond fall.
OVERRIDES = {
    'crystal': {'size': [4, 3], 'n_layers': 6, 'n_fixed_layers': 2, 'height_above_A': 60.0},
    'settings': {
        'rate_Li_per_ps': 2.0,
        'near_A': 2.5,
        'dump_every_ps': 0.25,
        'restart_every_ps': 0.5,
        'thermo_every_ps': 0.25,
    },
}
#: Picoseconds by point: one ends before the kill, two after it.
LENGTHS = {'long': 4.0, 'middle': 3.0, 'short': 1.0}


@pytest.fixture
def builders(codes, meam_potential):
    """A deposition of each length, each with a seed of its own."""

    def make(code=None, **overrides):
        potential = meam_potential.store()
        return {
            name: DepositWorkChain.get_builder_from_protocol(
                {'lmp': code or codes['lmp']},
                potential,
                seed=seed,
                protocol='fast',
                overrides={**OVERRIDES, 'settings': {**OVERRIDES['settings'], 'duration_ps': length}, **overrides},
            )
            for seed, (name, length) in enumerate(LENGTHS.items())
        }

    return make


def test_points_are_those_of_the_verb(builders, codes, meam_potential):
    """A pack is of the same inputs as its points, and its points have the keys that they have alone."""
    own = builders()
    pack = PackWorkChain.get_builder_from_points(own)
    inputs = pack._inputs(prune=True)
    check_inputs(PackWorkChain, inputs)
    assert (pack.verb.value, pack.side_by_side.value) == ('deposit', True)
    for name, builder in own.items():
        point = PackWorkChain._inputs_of(inputs, name)
        check_inputs(DepositWorkChain, point)
        assert point['settings'].get_dict() == builder.settings.get_dict()
        from aiida_liheal.workchains.points import key_of

        assert key_of(DepositWorkChain, point) == point_key(builder)
    other = PackWorkChain.get_builder_from_protocol(
        codes, meam_potential, {'a': {}, 'b': {'settings': {'temperature_K': 100.0}}}, verb='heal', protocol='fast'
    )
    assert other.points['b']['settings']['temperature_K'] == 100.0
    assert set(other.points['a']) == {'crystal', 'settings', 'seed', 'analysis'}


def test_packs_that_make_no_sense_are_refused(builders, codes, meam_potential, refusal):
    own = builders()
    healing = HealWorkChain.get_builder_from_protocol(codes, meam_potential, protocol='fast')
    with pytest.raises(ValueError, match='void: another verb, potential, code, limit or option'):
        PackWorkChain.get_builder_from_points({**own, 'void': healing})
    warmer = builders(limits={'max_temperature_K': 900.0})['long']
    with pytest.raises(ValueError, match='warmer: another verb'):
        PackWorkChain.get_builder_from_points({**own, 'warmer': warmer})
    with pytest.raises(ValueError, match='no point: only deposit, heal'):
        PackWorkChain.get_builder_from_points({})
    with pytest.raises(ValueError, match="verb = 'melt': allowed are deposit, heal"):
        PackWorkChain.get_builder_from_protocol(codes, meam_potential, {'a': {}}, verb='melt')
    inputs = PackWorkChain.get_builder_from_points(own)._inputs(prune=True)
    points = {name: dict(point) for name, point in inputs['points'].items()}
    points['long']['settings'] = Dict({**points['long']['settings'].get_dict(), 'temperature_K': -5.0})
    message = refusal(PackWorkChain, **{**inputs, 'points': points})
    assert 'points.long: settings: temperature_K = -5.0' in message
    points['long'] = {**inputs['points']['long'], 'colour': Str('red')}
    assert 'points.long: colour: allowed are crystal' in refusal(PackWorkChain, **{**inputs, 'points': points})
    points = {**inputs['points'], 'kind': inputs['points']['long']}
    assert 'points.kind: this name is taken' in refusal(PackWorkChain, **{**inputs, 'points': points})
    assert "verb = 'melt': allowed are deposit, heal" in refusal(PackWorkChain, **{**inputs, 'verb': Str('melt')})


def test_part_of_a_pack_is_as_if_it_had_been_alone():
    def steps(*values):
        return np.array(values, dtype=float)

    slabs = [bcc_slab('Li', 3.51, (2, 2), n, 20) for n in (3, 4)]
    frames = Frames.concatenate(
        [Frames.from_atoms([slab], run=np.array([run])) for slab, run in zip(slabs, (0, 2), strict=True)]
    )
    records = [{'status': 'finished'}, {'status': 'exploded'}, {'status': 'finished', 'n_final': 16}]
    outputs = {
        'results': Dict({'kind': 'deposit', 'runs': records}),
        'thermo': array_data({'run_000_step': steps(0, 1), 'run_001_step': steps(0), 'run_002_step': steps(0, 5)}),
        'last_frames': FramesData(frames, domain='deposit'),
        'flags': Dict({'run_002': [{'step': 1}]}),
    }
    part = part_of_pack(Str('run_002'), **outputs)
    assert part['results'].get_dict() == {'kind': 'deposit', 'runs': [records[2]]}
    assert part['thermo'].get_arraynames() == ['run_000_step']
    assert part['thermo'].get_array('run_000_step').tolist() == [0, 5]
    assert part['last_frames'].get_frames().counts.tolist() == [16]
    assert part['last_frames'].get_frames().extra['run'].tolist() == [0]
    assert part['flags'].get_dict() == {'run_000': [{'step': 1}]}
    # a run that failed has no last frame
    assert set(part_of_pack(Str('run_001'), **outputs)) == {'results', 'thermo'}


def test_starts_and_settings_go_by_name(builders):
    own = builders()
    starts = {
        'b': FramesData(Frames.from_atoms([bcc_slab('Li', 3.51, (2, 2), 3, 20)]), domain='deposit'),
        'a': FramesData(Frames.from_atoms([bcc_slab('Li', 3.51, (2, 2), 4, 20)] * 2), domain='deposit'),
    }
    assert join_starts(**starts).get_frames().counts.tolist() == [16, 12]
    points = {name: {'settings': one.settings, 'seed': one.seed} for name, one in own.items()}
    from aiida.orm import Bool

    settings = pack_settings(Str('deposit'), Bool(False), **points).get_dict()
    assert [run['duration_ps'] for run in settings['runs']] == [4.0, 3.0, 1.0]
    assert [run['structure'] for run in settings['runs']] == [0, 1, 2]
    assert settings['side_by_side'] is False


@pytest.fixture
def killed_lmp(aiida_localhost, tmp_path):
    """The code of a real `lmp`; the longest of the first job's runs, and all others, are killed in its middle."""
    script = tmp_path / 'lmp'
    script.write_text(
        '#!/bin/bash\n'
        'set -m\n'
        f'if [ ! -e {tmp_path}/killed ]; then\n'
        f'  {shutil.which("lmp")} "$@" & lmp=$!\n'
        # the first run alone says when, and each kills its own
        f'  while kill -0 $lmp 2>/dev/null; do\n'
        f'    if [ "$2" = run_000/in.lmp ] && [ -s run_000/restart.2000 ]; then touch {tmp_path}/killed; fi\n'
        f'    if [ -e {tmp_path}/killed ]; then kill -KILL -- -$lmp; wait $lmp; exit 137; fi\n'
        '    sleep 0.02\n'
        '  done\n'
        '  wait $lmp; exit $?\n'
        'fi\n'
        f'exec {shutil.which("lmp")} "$@"\n'
    )
    script.chmod(0o755)
    return InstalledCode(label='killed', computer=aiida_localhost, filepath_executable=str(script)).store()


COUNTS = ('status', 'last_step', 'n_start', 'n_inserted', 'n_lost', 'n_final', 'ended_by')


@needs_lammps
@pytest.mark.engine
def test_a_pack_that_is_killed_gives_what_each_gives_alone(builders, killed_lmp):
    """By SIGKILL, all of them at once: every run has the insertions, balance and thermo steps of one done alone."""
    code = killed_lmp
    outputs, node = run_get_node(PackWorkChain.get_builder_from_points(builders(code)))
    assert node.is_finished_ok, node.exit_message
    jobs = sorted(
        (child for child in node.called_descendants if child.process_class is LammpsCalculation), key=lambda job: job.pk
    )
    first, *_, last = jobs
    assert first.exit_status == LammpsCalculation.exit_codes.ERROR_INTERRUPTED.status
    assert last.inputs.restart_steps['run_000'] >= 1500
    # the short one may have ended before; then it is not run again
    ended = [run['status'] for run in first.outputs.results['runs']]
    assert ended[0] == 'interrupted'
    assert set(last.inputs.restart_steps.get_dict()) <= {f'run_00{n}' for n in range(3) if ended[n] != 'finished'}
    keys = node.base.extras.get(PACK_EXTRA)
    for number, (name, builder) in enumerate(sorted(builders(code).items())):
        alone, run = run_get_node(builder)
        assert run.is_finished_ok, run.exit_message
        packed = outputs['points'][name]
        assert set(packed) == set(alone)
        records = [one['results']['runs'][0] for one in (alone, packed)]
        assert [records[1][key] for key in COUNTS] == [records[0][key] for key in COUNTS]
        assert records[1]['n_inserted'] == 2 * LENGTHS[name] * 2 / 2
        for column in ('step', 'n_atoms', 'n_inserted'):
            array = f'run_000_{column}'
            assert np.array_equal(packed['thermo'].get_array(array), alone['thermo'].get_array(array)), (name, column)
        assert packed['last_frames'].get_frames().counts.tolist() == alone['last_frames'].get_frames().counts.tolist()
        assert keys[point_key(builder)] == number
        child = next(one for one in node.called if one.base.extras.get(KEY_EXTRA, None) == point_key(builder))
        assert earlier_runs([point_key(builder)])[point_key(builder)].finished.pk == child.pk
        assert len(folders_of(child, point_key(builder))) == len(packed['trajectories'])
