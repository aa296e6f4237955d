"""Errors of labels against those of finer settings, and which settings are good enough."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.label_errors import Tolerances, errors_of, sentences, smallest_value, within


@pytest.fixture
def labelled():
    """Frames of 2 and 4 atoms with labels; call it with what is added to energies (eV/atom), forces and virials."""
    cell = bulk('Li', 'bcc', a=3.44, cubic=True)
    images = [cell, cell * (2, 1, 1)]

    def make(energy=(0.0, 0.0), force=0.0, virial=0.0, indices=(0, 1)):
        frames = Frames.from_atoms(images)
        counts = frames.counts
        frames = Frames.from_arrays(
            {
                **frames.to_arrays(),
                'energies': -1.9 * counts + np.array(energy) * counts,
                'forces': np.full((6, 3), 0.1) + force,
                'virials': np.ones((2, 3, 3)) + virial * counts[:, None, None],
            }
        ).select(np.array(indices))
        frames.extra['source_index'] = np.array(indices)
        return frames

    return make


def test_errors_are_the_largest_ones(labelled):
    found = errors_of(labelled(energy=(0.002, -0.001), force=0.003, virial=0.004), labelled())
    assert found['energy_meV_per_atom'] == pytest.approx(2.0)
    assert found['energy_difference_meV_per_atom'] == pytest.approx(3.0)
    assert found['force_meV_per_A'] == pytest.approx(3.0 * np.sqrt(3))
    assert found['force_rmse_meV_per_A'] == pytest.approx(3.0)
    assert found['virial_meV_per_atom'] == pytest.approx(4.0)


def test_frames_are_matched_by_their_index(labelled):
    """A shard whose frames are in another order, or fewer, is compared frame by frame."""
    ours = labelled(energy=(0.002, -0.001), indices=(1, 0))
    assert errors_of(ours, labelled())['energy_difference_meV_per_atom'] == pytest.approx(3.0)
    alone = errors_of(labelled(energy=(0.002, -0.001), indices=(1,)), labelled())
    assert alone['energy_meV_per_atom'] == pytest.approx(1.0)
    assert alone['energy_difference_meV_per_atom'] is None
    with pytest.raises(ValueError, match='no frame has labels in both'):
        errors_of(labelled(indices=(0,)), labelled(indices=(1,)))


def test_tolerances_decide_what_counts():
    errors = {'energy_meV_per_atom': 3.0, 'energy_difference_meV_per_atom': 0.5, 'force_meV_per_A': 4.0}
    assert not within(errors, Tolerances.read({}))
    assert within(errors, Tolerances.read({'energies': 'differences'}))
    assert within(errors, Tolerances.read({'energy_meV_per_atom': None}))
    assert not within(errors, Tolerances.read({'energies': 'differences', 'force_meV_per_A': 3.9}))
    # what is asked for and not known is not within
    assert not within(errors, Tolerances.read({'energies': 'differences', 'virial_meV_per_atom': 100.0}))
    with pytest.raises(ValueError, match='all tolerances are null'):
        Tolerances.read({'energy_meV_per_atom': None, 'force_meV_per_A': None})
    with pytest.raises(ValueError, match='force_meV_per_A = -1'):
        Tolerances.read({'force_meV_per_A': -1})


@pytest.mark.parametrize(
    ('verdicts', 'smallest'),
    [
        ([False, True, True, True], 1),
        ([True, False, True, True], 2),  # a value that is good by chance
        ([True, True, False, True], None),  # the finest agrees with itself only
        ([True, True], 0),
    ],
)
def test_smallest_value_and_all_finer_ones_are_within(verdicts, smallest):
    rows = [{'value': n, 'same': [], 'is_within': one} for n, one in enumerate(verdicts)]
    assert smallest_value(rows) == smallest


def test_of_values_that_are_one_mesh_the_finest_is_chosen():
    """0.55 and 0.48 are 4x4x4 for the frames of the test; another cell sees fewer points by 0.55."""
    rows = [
        {'value': 0.55, 'same': [0.5, 0.48], 'is_within': True, 'errors': {'force_meV_per_A': 1.0}},
        {'value': 0.3, 'same': [], 'is_within': True, 'errors': {}},
    ]
    assert smallest_value(rows) == 0.48
    scan = {'held': {}, 'unit': '1/Å', 'has_reference': True, 'smallest': 0.48, 'rows': rows}
    table = {'scans': {'spacing': scan}, 'tolerances': Tolerances.read({}).model_dump(), 'largest_force_eV_per_A': 1.0}
    said = ['Smallest within the tolerances: spacing 0.48 1/Å: force 1 meV/Å.']
    assert sentences(table) == [
        *said,
        'spacing: that rests on 0.3 alone; a value finer still would show whether it holds.',
    ]
    rows.insert(1, {'value': 0.4, 'same': [], 'is_within': True, 'errors': {}})
    assert sentences(table) == said


def test_forces_that_symmetry_hides_are_told():
    table = {
        'scans': {},
        'tolerances': Tolerances.read({}).model_dump(),
        'largest_force_eV_per_A': 1e-4,
    }
    assert 'symmetry may hide errors of forces' in sentences(table)[0]
    assert sentences({**table, 'largest_force_eV_per_A': 0.2}) == []
