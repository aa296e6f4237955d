"""`aiida-liheal launch convergence` and `aiida-liheal convergence`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from aiida.orm import Dict, Str, WorkChainNode
from trees import give, process

from aiida_liheal.data.frames import FramesData
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.convergence import default_frames, judge_points, plan_points

LJ = {'calculator': 'lj', 'parameters': {'sigma': 2.7, 'epsilon': 0.1, 'rc': 6.0}}


@pytest.fixture
def tested(aiida_profile_clean):
    """A test of convergence that is over, whose labels were made up."""
    frames = default_frames()
    plan = plan_points(frames, Str('ase'), Dict(LJ), Dict({'parameters': {'rc': [4.0, 6.0, 8.0]}}))
    labels = {}
    for number, energy in enumerate((-1.8, -1.8999, -1.9)):
        content = frames.get_frames()
        arrays = {**content.to_arrays(), 'energies': energy * content.counts, 'forces': np.full((4, 3), 0.1)}
        part = Frames.from_arrays(arrays)
        part.extra['source_index'] = np.arange(2)
        labels[f'p{number:03d}_frames'] = FramesData(part)
        labels[f'p{number:03d}_summary'] = Dict({'dropped': [], 'seconds_per_frame': 2.0})
    table = judge_points(frames, plan['plan'], Dict({}), Dict({}), **labels)
    node = process(
        WorkChainNode, 'ConvergenceWorkChain', 'liheal.convergence', inputs={'label__engine': Str('ase')}, exit_status=0
    )
    give(node, table=table, settings=Dict({**LJ, 'parameters': {**LJ['parameters'], 'rc': 6.0000001}}).store())
    return node


def test_what_would_be_run(invoke, codes, n_nodes):
    before = n_nodes()
    status, output = invoke('launch', 'convergence', '--protocol', 'fast', '-s', 'scans.cutoff_eV=[300,100]', '-n')
    assert status == 0, output
    lines = {line.split()[0]: line for line in reversed(output.splitlines()) if line.strip()}
    assert lines['cutoff_eV'].split(maxsplit=2)[1:] == ['2', '100, 300; the last one is the reference']
    assert lines['jobs'].split()[1] == '2'
    assert lines['labels'].split()[1] == '4'
    (virial,) = (line for line in output.splitlines() if 'tolerance: virial_meV_per_atom' in line)
    assert virial.endswith('not judged')
    assert n_nodes() == before


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('-s', 'scans.cutoff_eV=[300]'), 'scans.cutoff_eV: given 300; at least two values'),
        (('-s', 'scans.cutoff_eV=[20,300]'), 'cutoff_eV = 20'),
        (('-s', 'tolerances.force_meV_per_A=-1'), 'force_meV_per_A = -1'),
        (
            ('-s', 'tolerances.energy_meV_per_atom=null', '-s', 'tolerances.force_meV_per_A=null'),
            'all tolerances are null',
        ),
        (('-s', 'label.allowed_failures=0.5'), 'label.allowed_failures cannot be given'),
        (('-s', 'scan.cutoff_eV=[100,300]'), 'unknown override scan; allowed are'),
        (('--engine', 'ase'), 'there is no code ase@localhost'),
        (('--frames', '123456'), 'frames: there is no node'),
    ],
)
def test_refusals(invoke, codes, arguments, message):
    status, output = invoke('launch', 'convergence', '-n', *arguments)
    assert status == 1
    assert message in ' '.join(output.split())


def test_table(invoke, tested, tmp_path):
    status, output = invoke('convergence', tested.pk, '--plot', tmp_path / 'errors.svg')
    assert status == 0, output
    assert 'parameters.rc' in output
    assert 'E: energy, ΔE: energies between frames, F: force, F rms: root mean square' in output
    (heads,) = (line for line in output.splitlines() if line.startswith(' ') and 'ΔE' in line)
    assert len(heads) < 80
    assert 'Smallest within the tolerances: parameters.rc 6: energy 0.1 meV/atom' in output
    # all settings that `launch label` would not take by itself: without them it would label by another calculator
    (line,) = (line for line in output.splitlines() if 'launch label' in line)
    for change in ('calculator=lj', 'parameters.sigma=2.7', 'parameters.epsilon=0.1', 'parameters.rc=6.0000001'):
        assert f'-s ase.settings.{change} ' in line
    assert (tmp_path / 'errors.svg').is_file()
    status, output = invoke('convergence', tested.pk, '--json')
    assert json.loads(output)['scans']['parameters.rc']['smallest'] == 6.0


def test_what_has_no_table(invoke, tested, healed, tmp_path):
    status, output = invoke('convergence', healed.pk)
    assert status == 1
    assert f'HealWorkChain<{healed.pk}> has no table' in output
    status, output = invoke('convergence', tested.pk, '--plot', tmp_path / 'errors.txt')
    assert status == 1
    assert 'allowed are .png, .svg, .pdf' in output


def test_page(invoke, tested, tmp_path):
    status, output = invoke('report', tested.pk, '-o', tmp_path / 'page.html')
    assert status == 0, output
    page = (tmp_path / 'page.html').read_text()
    assert 'Convergence of labels' in page
    assert 'Smallest within the tolerances: parameters.rc 6' in page
