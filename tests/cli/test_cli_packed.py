"""`launch` of the verbs that pack many runs into few jobs: what their dry runs tell and refuse."""

import pytest


def rows(output):
    """The table of a dry run: how many, by what."""
    lines = [line for line in output.splitlines() if line and not line.startswith(('-', 'Success'))]
    return {words[0].strip(): words[1].strip() for line in lines if len(words := line.strip().split('  ', 1)) > 1}


def test_dry_run_of_valley(invoke, codes, potential, n_nodes):
    before = n_nodes()
    status, output = invoke('launch', 'valley', '--potential', potential.pk, '--protocol', 'fast', '-n')
    assert status == 0
    table = rows(output)
    assert table['valleys'].startswith('3 ')
    assert 'at most 2000 steps' in table['valleys']
    assert table['slides'].startswith('1 ')
    assert '5000 steps' in table['slides']
    assert table['jobs'].startswith('2 ')
    assert n_nodes() == before


def test_dry_run_of_diffuse(invoke, codes, potential, n_nodes):
    before = n_nodes()
    options = ['-s', 'temperatures_K=[50, 450]', '-o', 'max_wallclock_seconds=3600']
    status, output = invoke('launch', 'diffuse', '--potential', potential.pk, *options, '-n')
    assert status == 0
    table = rows(output)
    assert table['atoms'].startswith('1800 ')
    assert 'at 50, 450 K' in table['runs']
    assert table['jobs'].startswith('3 ')
    assert table['steps'].startswith('110000 ')
    assert table['max_wallclock_seconds'].startswith('3600')
    assert n_nodes() == before


def test_dry_run_of_melt(invoke, codes, potential, n_nodes):
    before = n_nodes()
    status, output = invoke('launch', 'melt', '--potential', potential.pk, '-s', 'search.n_seeds=2', '-n')
    assert status == 0
    table = rows(output)
    assert table['rounds'].startswith('≤ 6 ')
    assert table['runs'].startswith('≤ 26 ')
    assert 'to quote needs 4000' in table['atoms']
    assert n_nodes() == before


@pytest.mark.parametrize(
    ('verb', 'change', 'parts'),
    [
        ('melt', 'search.width_K=-1', ['width_K = -1', 'K']),
        ('diffuse', 'settings.duration_ps=12', ['leaves 4 frames', 'at least 10']),
        ('diffuse', 'temperatures_K=[-5]', ['temperature_K = -5', 'K']),
        ('valley', 'angles_deg=[10]', ['angle_deg = 10', 'degrees']),
        ('valley', 'settings.max_steps=0', ['max_steps = 0', 'greater than or equal to 1']),
        ('valley', 'angle=10', ['unknown override angle', 'angles_deg']),
    ],
)
def test_bad_settings_are_refused(invoke, codes, potential, n_nodes, verb, change, parts):
    before = n_nodes()
    status, output = invoke('launch', verb, '--potential', potential.pk, '-s', change, '-n')
    assert status != 0
    for part in parts:
        assert part in output
    assert n_nodes() == before
