"""What the verbs with many runs share: limits that their runs are held to, seeds and potentials."""

import pytest
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.orm import Dict

from aiida_liheal.calculations.lammps import LammpsCalculation
from aiida_liheal.lammps.limits import Limits
from aiida_liheal.workchains.deposit import DepositWorkChain
from aiida_liheal.workchains.diffuse import DiffuseWorkChain
from aiida_liheal.workchains.melt import MeltWorkChain
from aiida_liheal.workchains.packed import join_packed_flags
from aiida_liheal.workchains.valley import ValleyWorkChain

VERBS = [ValleyWorkChain, DiffuseWorkChain, MeltWorkChain]


def built(verb, codes, potential, **overrides):
    return verb.get_builder_from_protocol(
        codes, potential, seed=7, protocol='fast', overrides=overrides, options={'max_wallclock_seconds': 60}
    )


def problem(builder):
    return builder.process_class._validate_inputs(builder._inputs(prune=True), None)


@pytest.mark.parametrize('verb', VERBS)
def test_what_all_of_them_take_alike(verb, codes, meam_potential):
    builder = built(verb, codes, meam_potential, runs_per_job=3)
    assert (builder.seed.value, builder.runs_per_job.value) == (7, 3)
    assert dict(builder.potentials) == {'m0': meam_potential}
    assert builder.lammps.code == codes['lmp']
    assert builder.lammps.metadata.options.max_wallclock_seconds == 60
    assert 'limits' not in builder.lammps.monitors
    none = {**builder._inputs(prune=True), 'potentials': {}}
    assert 'no potential given' in verb._validate_inputs(none, None)


@pytest.mark.parametrize('verb', VERBS)
def test_runs_are_held_to_limits(verb, codes, meam_potential):
    """A limit that stops a job needs a job a run; one that every run passes by itself is refused."""
    flagged = built(verb, codes, meam_potential, limits={'max_temperature_K': 2000.0, 'action': 'flag'})
    assert Limits.read(flagged.lammps.monitors['limits']['kwargs']).action == 'flag'
    assert problem(flagged) is None
    limits = {'max_temperature_K': 2000.0, 'action': 'stop'}
    message = problem(built(verb, codes, meam_potential, limits=limits))
    assert "action = 'stop': all of up to 100 runs" in message
    assert 'runs_per_job = 1' in message
    alone = built(verb, codes, meam_potential, limits=limits, runs_per_job=1)
    assert problem(alone) is None
    process = instantiate_process(get_manager().get_runner(), alone)
    assert 'limits' in process.exposed_inputs(LammpsCalculation, 'lammps')['monitors']
    low = {'max_temperature_K': 100.0, 'action': 'flag'}
    assert 'max_temperature_K = 100.0 K: must be above' in problem(built(verb, codes, meam_potential, limits=low))
    with pytest.raises(ValueError, match='no limit given'):
        built(verb, codes, meam_potential, limits={'action': 'flag'})


def test_flags_are_told_by_job_and_run(codes, meam_potential, ended_job):
    """Of a job with several runs, of a work chain that ran several jobs in turn, and none where all kept them."""
    beyond = {'limit': 'max_temperature_K', 'allowed': 2000.0, 'step': 5, 'value': 2500.0, 'largest': 2600.0}
    results = Dict({'runs': [{'status': 'finished'}, {'status': 'finished', 'flags': [beyond]}]})
    told = join_packed_flags(runs_j000=results, runs_j001=Dict({'run_000': [beyond, beyond]})).get_dict()
    assert told == {'runs_j000_run_001': [beyond], 'runs_j001_run_000': [beyond, beyond]}

    builder = built(DiffuseWorkChain, codes, meam_potential)
    process = instantiate_process(get_manager().get_runner(), builder)
    kept = ended_job('liheal.lammps', outputs={'results': Dict({'runs': [{'status': 'finished'}]})})
    process.ctx.packs = ['runs']
    process.ctx.runs = {'j000': kept}
    process.attach_flags()
    assert 'flags' not in process.outputs
    passed = ended_job('liheal.lammps', outputs={'results': results})
    process.ctx.runs = {'j000': kept, 'j001': passed}
    process.attach_flags()
    assert process.outputs['flags'].get_dict() == {'runs_j001_run_001': [beyond]}


@pytest.mark.parametrize('verb', [*VERBS, DepositWorkChain])
def test_settings_that_follow_from_the_inputs_are_neither_taken_nor_named(verb, codes, meam_potential):
    """Where a setting is not known, those that are name none that is refused."""
    builder = built(verb, codes, meam_potential)
    filled = ['seed'] if verb in (ValleyWorkChain, DepositWorkChain) else ['seed', 'temperature_K']
    settings = builder.settings.get_dict()

    def message(**more):
        ports = verb.spec().inputs
        inputs = {**builder._inputs(prune=True), 'settings': Dict({**settings, **more})}
        return str(ports.validate(ports.pre_process(inputs)))

    for key in filled:
        assert f'{key}: leave it out of the settings' in message(**{key: 1})
    told = message(colour='red')
    known = told[told.index('colour: no such setting; known are ') :].splitlines()[0]
    assert 'fixed_below_A' in known or 'melting_ps' in known
    assert not any(key in known.replace('melting_temperature_K', '') for key in filled)
