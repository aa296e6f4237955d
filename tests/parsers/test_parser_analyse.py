"""The parser of the analysis on kept outputs of the runner: a run that ended, was cut, was missing, was killed."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from aiida.common import LinkType
from aiida.orm import CalcJobNode, FolderData

from aiida_liheal.calculations.analyse import AnalyseCalculation
from aiida_liheal.parsers.analyse import AnalyseParser

FIXTURES = Path(__file__).parent / 'fixtures' / 'analyse'
RESULTS = ('series.npz', 'profiles.npz', 'snapshots.npz', 'summary.json')
CODES = AnalyseCalculation.exit_codes


@pytest.fixture
def parse(aiida_localhost):
    """Parse a folder of outputs as a job's."""

    def run(folder: Path):
        node = CalcJobNode(computer=aiida_localhost, process_type='aiida.calculations:liheal.analyse')
        node.set_options({'resources': {'num_machines': 1}})
        node.store()
        retrieved = FolderData()
        if (folder / 'status.json').exists():
            retrieved.base.repository.put_object_from_file(str(folder / 'status.json'), 'status.json')
        retrieved.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label='retrieved')
        retrieved.store()
        return AnalyseParser.parse_from_node(node, store_provenance=False, retrieved_temporary_folder=str(folder))

    return run


def test_finished(parse):
    """A deposition by a real run: 432 atoms, 40 more, 21 frames."""
    outputs, process = parse(FIXTURES / 'finished')
    assert process.is_finished_ok, process.exit_message
    series = outputs['series']
    assert series.get_array('n_atoms').tolist() == list(range(432, 473, 2))
    assert series.get_array('time_ps')[-1] == pytest.approx(2.0)
    names = {'bcc_share', 'bcc_share_inside_averaged', 'void_volume_A3', 'film_height_A', 'temperature_K'}
    assert names <= set(series.get_arraynames())
    assert 'height_A' in outputs['profiles'].get_arraynames()
    assert outputs['snapshots'].get_array('last_position_A').shape == (472, 3)
    summary = outputs['summary'].get_dict()
    assert summary['frames_analysed'] == 21
    assert summary['atoms_fixed'] == 144
    assert summary['end']['bcc_share'] == series.get_array('bcc_share')[-1]
    assert summary['units']['void_volume_A3'] == 'Å^3'
    assert summary['wall_time_s'] > 0
    for node in outputs.values():
        node.store()
    assert np.isnan(outputs['profiles'].get_array('temperature_K')).any(), 'fixed layers have no temperature'


def test_truncated_gives_results_and_an_exit_code(parse):
    outputs, process = parse(FIXTURES / 'truncated')
    assert process.exit_status == CODES.ERROR_TRAJECTORY_TRUNCATED.status == 410
    assert outputs['series'].get_array('n_atoms').tolist() == list(range(432, 463, 2))
    assert outputs['summary']['is_truncated']


def test_missing_names_the_dump(parse):
    outputs, process = parse(FIXTURES / 'missing')
    assert process.exit_status == CODES.ERROR_NO_TRAJECTORY.status
    assert '/scratch/run_000/traj.dump' in process.exit_message
    assert not outputs


def test_killed_says_how_far_it_was(parse):
    _, process = parse(FIXTURES / 'stopped')
    assert process.exit_status == CODES.ERROR_STOPPED.status
    assert 'of 30 frames' in process.exit_message
    assert 'max_wallclock_seconds' in process.exit_message


def test_no_status(parse, tmp_path):
    assert parse(tmp_path)[1].exit_status == CODES.ERROR_NO_STATUS.status
    (tmp_path / 'status.json').write_text('{"state": "fin')
    assert parse(tmp_path)[1].exit_status == CODES.ERROR_NO_STATUS.status


@pytest.mark.parametrize('name', RESULTS)
@pytest.mark.parametrize('damage', ['missing', 'cut'])
def test_unreadable_results(parse, tmp_path, name, damage):
    shutil.copytree(FIXTURES / 'finished', tmp_path, dirs_exist_ok=True)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    if damage == 'cut':
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    outputs, process = parse(tmp_path)
    assert process.exit_status == CODES.ERROR_RESULTS_UNREADABLE.status
    assert not outputs
