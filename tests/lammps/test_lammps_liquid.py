"""Runs of kind `liquid`: their parts by the step they begin with, what is refused, and one that is really run."""

import re

import pytest

from aiida_liheal.analysis.liquid import RadialDistribution
from aiida_liheal.lammps.decks import check, render, validate
from aiida_liheal.lammps.readers import read_log, read_values, restart_steps
from aiida_liheal.structures.bcc import bcc_bulk, bcc_slab

VALUES = {
    'seed': 3,
    'duration_ps': 5.02,
    'melting_ps': 1.0,
    'cooling_ps': 0.5,
    'measured_ps': 2.0,
    'rdf_reach_A': 6.5,
    'restart_every_ps': 0.5,
}
CRYSTAL = bcc_bulk('Li', 3.5, (4, 4, 4))


def runs(deck):
    """Steps that a deck runs to, and the blocks that it prints."""
    return re.findall(r'^run (\d+)', deck, re.M), re.findall(r'block_(\d)_samples (\d+)', deck)


def test_blocks_of_whole_samples():
    settings = validate('liquid', VALUES)
    assert (settings.n_steps, settings.n_bins) == (5000, 130)
    assert (settings.measured_from_step, settings.block_ends) == (3000, [3500, 4000, 4500, 5000])


@pytest.mark.parametrize(
    ('step', 'ends', 'blocks'),
    [
        (None, ['1000', '1500', '3000'], ['10', '10', '10', '10']),
        (500, ['1000', '1500', '3000'], ['10', '10', '10', '10']),
        (1000, ['1500', '3000'], ['10', '10', '10', '10']),
        (1500, ['3000'], ['10', '10', '10', '10']),
        # what is left of a block counts by its samples
        (3250, [], ['5', '10', '10', '10']),
        (4500, [], ['10']),
        (4990, [], ['1']),
    ],
)
def test_parts_that_are_left(step, ends, blocks, meam):
    deck = render('liquid', validate('liquid', VALUES), CRYSTAL, meam, restart_step=step)
    left = ['3500', '4000', '4500', '5000'][-len(blocks) :]
    assert runs(deck)[0] == ends + left
    assert [count for _, count in runs(deck)[1]] == blocks
    assert [int(block) for block, _ in runs(deck)[1]] == list(range(4 - len(blocks), 4))
    assert deck.count('velocity') == (step is None)
    assert 'comm_modify cutoff 8.501\n' in deck


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'measured_ps': 4.0}, r'duration_ps = 5.02 ps: must be longer than melting_ps = 1.0 ps'),
        ({'temperature_K': 1300.0}, r'melting_temperature_K = 1200.0 K: must be above temperature_K = 1300.0 K'),
        ({'sample_every_ps': 1.0}, r'measured_ps = 2.0 ps: 4 blocks with a sample each 1.0 ps need 4 ps or more'),
        ({'n_blocks': 1}, 'n_blocks = 1'),
    ],
)
def test_settings_that_do_not_go_together(changes, message):
    with pytest.raises(ValueError, match=message):
        validate('liquid', {**VALUES, **changes})


def test_settings_that_do_not_fit_the_structure(meam):
    with pytest.raises(ValueError, match=r'rdf_reach_A = 8.0 Å: must be at most half of the shortest edge .* 7.00 Å'):
        check('liquid', validate('liquid', {**VALUES, 'rdf_reach_A': 8.0}), CRYSTAL, meam)
    with pytest.raises(ValueError, match='periodic in all directions'):
        check('liquid', validate('liquid', VALUES), bcc_slab('Li', 3.5, (4, 4), 6, 10.0), meam)


@pytest.mark.engine
def test_a_liquid_is_made_and_measured(run_folder, lmp):
    settings = validate('liquid', {**VALUES, 'duration_ps': 3.0, 'melting_ps': 0.5, 'measured_ps': 1.0})
    # the walltime ends the first job early, in good order, and the second goes on to the end
    first = run_folder('first', 'liquid', validate('liquid', {**VALUES, 'duration_ps': 1000.0}), CRYSTAL, walltime_s=2)
    assert lmp(first).returncode == 0
    log = read_log(first / 'log.lammps')
    assert (log.errors, log.finished, log.walltime_reached) == ([], True, True)
    assert restart_steps(path.name for path in first.iterdir())
    assert not (first / 'values.txt').exists()
    whole = run_folder('whole', 'liquid', settings, CRYSTAL)
    assert lmp(whole).returncode == 0
    log = read_log(whole / 'log.lammps')
    assert (log.errors, log.warnings, log.last_step) == ([], [], 3000)
    thermo = log.thermo
    assert thermo['v_solid_share'][0] > 0.9
    assert thermo['v_solid_share'][-5:].max() < 0.1
    found = RadialDistribution.from_values(read_values(whole / 'values.txt'), 6.5, settings.n_bins, 4)
    assert found.samples.tolist() == [5, 5, 5, 5]
    assert found.mean[:35].max() == 0
    density = 127 / thermo['Volume'][thermo['Step'] > 2000].mean()
    shell = found.first_shell(density)
    assert 2.7 < shell.peak_A < 3.4
    assert 8 < shell.coordination < 16
