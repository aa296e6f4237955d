"""VASP without a licence: `mock-vasp` of aiida-vasp replays `vasp_registry/`, whose numbers are GPAW's (its README)."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from aiida.engine import run_get_node
from aiida.orm import Dict, InstalledCode, Int, load_node
from ase.io import read
from ase.units import GPa

from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines.vasp.alone import VaspAloneWorkChain
from aiida_liheal.runners.gpaw_label import label
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.imports import read_frames
from aiida_liheal.workchains.label import LabelWorkChain

REGISTRY = Path(__file__).parent / 'vasp_registry'
KNOWN = json.loads((REGISTRY / 'labels.json').read_text())
GOOD = ['strained', 'vacancy']
CAUSES = {
    'unconverged': 'not self-consistent after 12 steps',
    'truncated_outcar': 'OUTCAR is cut off',
    'truncated_vasprun': 'vasprun.xml is cut off',
    'killed': 'OUTCAR is cut off',
    'no_stress': 'vasprun.xml holds no stress',
    'wrong_atoms': 'vasprun.xml is of 1 atoms, the frame has 2',
}


def given(*names):
    """The structures of runs, as one shard."""
    return FramesData(Frames.from_atoms([read(REGISTRY / name / 'inp' / 'POSCAR') for name in names]), domain='bulk')


def check_labels(frames, names):
    """The labels are GPAW's, to what VASP's formats print: 8 decimals in eV, eV/Å and kB."""
    assert len(frames) == len(names)
    for index, name in enumerate(names):
        atoms, known = frames.to_atoms(index), KNOWN['labels'][name]
        assert frames.energies[index] == pytest.approx(known['energy'], abs=6e-9, rel=0)
        assert np.abs(atoms.get_forces() - known['forces']).max() < 6e-9
        kilobar = (frames.virials[index] - known['virial']) / atoms.get_volume() / (0.1 * GPa)
        assert np.abs(kilobar).max() < 6e-9


@pytest.fixture
def mock_vasp(aiida_localhost, potential_family):
    """`mock-vasp` on the registry, as a code."""
    return InstalledCode(
        label='mock-vasp',
        computer=aiida_localhost,
        filepath_executable=str(Path(sys.executable).parent / 'mock-vasp'),
        prepend_text=f"export MOCK_VASP_REG_BASE='{REGISTRY}'",
        with_mpi=False,
    ).store()


def test_a_batch_replays_every_run(mock_vasp, potential_family):
    """Two good frames have the numbers of GPAW; each other one is left out with what is wrong with its files."""
    names = [*GOOD, *CAUSES]
    own = {'potential_family': potential_family, 'settings': {**KNOWN['settings'], 'frames_at_once': 2}}
    overrides = {'vasp': own, 'allowed_failures': 1.0, 'max_alone': 0}
    builder = LabelWorkChain.get_builder_from_protocol(
        mock_vasp,
        given(*names),
        protocol='paper',
        overrides=overrides,
        options={'withmpi': False, 'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 2}},
        engine='vasp',
    )
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    frames = outputs['frames']['b000'].get_frames()
    assert frames.extra['source_index'].tolist() == [0, 1]
    check_labels(frames, GOOD)
    told = {names[entry['index']]: entry for entry in outputs['summary']['dropped']}
    assert sorted(told) == sorted(CAUSES)
    for name, cause in CAUSES.items():
        assert cause in told[name]['cause'], name
        assert load_node(told[name]['job']).process_label == 'VaspBatchCalculation'


def test_single_frames_replay_the_same_runs(mock_vasp, potential_family):
    """`VaspWorkChain` asks for the same input, so the same runs are replayed; no stress is a cause."""
    builder = VaspAloneWorkChain.get_builder()
    builder.code, builder.frames = mock_vasp, given('unconverged', 'vacancy', 'no_stress')
    builder.summary = Dict({'dropped': [{'index': index, 'cause': 'its node failed'} for index in (1, 2)]})
    builder.settings, builder.max_frames, builder.max_at_once = Dict(KNOWN['settings']), Int(4), Int(1)
    builder.options = Dict({'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}, 'withmpi': False})
    builder.potential_family, builder.potential_mapping = potential_family, Dict({'Li': 'Li'})
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    first, second = sorted((c for c in node.called if c.process_label == 'VaspWorkChain'), key=lambda chain: chain.pk)
    assert second.ctime > first.called[0].ctime, 'one after the other (max_at_once)'
    frames = outputs['frames'].get_frames()
    assert frames.extra['source_index'].tolist() == [1]
    check_labels(frames, ['vacancy'])
    summary = outputs['summary'].get_dict()
    assert (summary['tried'], summary['n_made'], summary['n_dropped']) == ([1, 2], 1, 1)
    (dropped,) = summary['dropped']
    assert dropped['index'] == 2
    assert 'stress' in dropped['cause']
    assert load_node(dropped['job']).process_label == 'VaspWorkChain'


@pytest.mark.parametrize(
    ('kind', 'taken', 'causes'),
    [
        (
            'outcar',
            ['strained', 'vacancy', 'truncated_vasprun'],
            {
                'unconverged': 'did not converge: NELM = 12',
                'truncated_outcar': 'ends within it',
                'killed': 'after 4 electronic steps',
            },
        ),
        (
            'vasprun',
            ['strained', 'vacancy', 'truncated_outcar'],
            {
                'unconverged': 'did not converge: NELM = 12',
                'truncated_vasprun': 'ends within it',
                'killed': 'ends within it',
            },
        ),
    ],
)
def test_the_tree_is_imported(kind, taken, causes):
    """Whole runs are taken with GPAW's numbers, as the file prints them; what was cut off or unconverged is told."""
    content = read_frames(REGISTRY, kind)
    assert {Path(entry['file']).parts[1]: entry['cause'] for entry in content.left_out}.keys() == causes.keys()
    for entry in content.left_out:
        assert causes[Path(entry['file']).parts[1]] in entry['cause']
    with_stress, without = content.shards
    assert [Path(source['file']).parts[1] for source in without.sources] == ['no_stress']
    tolerances = (6e-9, 6e-7, 1e-5) if kind == 'outcar' else (6e-9, 6e-9, 1e-7)
    names = [Path(source['file']).parts[1] for source in with_stress.sources]
    # a run of another structure is a run: only a batch knows what it asked for
    assert set(names) == {*taken, 'wrong_atoms'}
    frames = with_stress.frames
    for index, name in enumerate(names):
        atoms, known = frames.to_atoms(index), KNOWN['labels'][name]
        assert abs(frames.energies[index] - known['energy']) < tolerances[0]
        assert np.trace(frames.virials[index]) == pytest.approx(np.trace(known['virial']), abs=tolerances[2])
        assert np.linalg.norm(atoms.get_forces()) == pytest.approx(np.linalg.norm(known['forces']), abs=tolerances[1])


@pytest.mark.skipif(find_spec('gpaw') is None, reason='GPAW is not installed (extra `engines`)')
@pytest.mark.engine
def test_the_numbers_are_those_of_gpaw():
    """A run labelled anew by the engine `gpaw` gives the numbers in the registry."""
    from make_vasp_registry import SETTINGS, TIGHT

    from aiida_liheal.engines.gpaw.calculation import GpawSettings

    common = {name: getattr(SETTINGS, name) for name in ('cutoff_eV', 'kpoint_spacing_per_A', 'max_scf_steps')}
    record = label(read(REGISTRY / 'strained' / 'inp' / 'POSCAR'), GpawSettings(**common, **TIGHT).model_dump())
    known = KNOWN['labels']['strained']
    assert record['energy'] == pytest.approx(known['energy'], abs=1e-4)
    assert np.abs(record['forces'] - known['forces']).max() < 1e-3
    assert np.abs(record['virial'] - known['virial']).max() < 1e-3


def test_no_potential_is_in_the_registry():
    names = {path.name for path in REGISTRY.rglob('*') if path.is_file()}
    assert names == {'POSCAR', 'INCAR', 'KPOINTS', 'OUTCAR', 'vasprun.xml', 'CONTCAR', 'labels.json', 'README.md'}
