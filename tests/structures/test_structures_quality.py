"""Quality rules: what they leave out, why, and what they are not asked."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.quality import QualityRules, find_exclusions, name_not_finite


@pytest.fixture
def labelled():
    """Four frames of two atoms: fine, a large force, two atoms close by, a high energy."""
    images = [bulk('Li', 'bcc', a=3.44, cubic=True) for _ in range(4)]
    images[2].positions[1] = [0.9, 0, 0]
    frames = Frames.from_atoms(images)
    forces = np.zeros((8, 3))
    forces[3] = [3.0, 4.0, 12.0]  # 13 eV/Å
    return Frames(
        **{name: getattr(frames, name) for name in ('elements', 'counts', 'types', 'positions', 'cells', 'pbc')},
        energies=np.array([-3.8, -3.8, -3.8, -1.0]),
        forces=forces,
        virials=np.zeros((4, 3, 3)),
    )


def test_each_rule_names_its_value_unit_and_key(labelled):
    rules = QualityRules(max_force_eV_per_A=12.9, min_distance_A=1.2, energy_window_eV_per_atom=(-2.0, -0.6))
    found = {exclusion.index: exclusion.cause for exclusion in find_exclusions(labelled, rules)}
    assert sorted(found) == [1, 2, 3]
    assert '13.000 eV/Å' in found[1]
    assert 'max_force_eV_per_A' in found[1]
    assert '0.900 Å' in found[2]
    assert '-0.5000 eV/atom' in found[3]


def test_at_a_limit_a_frame_stays(labelled):
    rules = QualityRules(max_force_eV_per_A=13.0, min_distance_A=0.9, energy_window_eV_per_atom=(-1.9, -0.5))
    assert find_exclusions(labelled, rules) == []


def test_no_rules_leave_nothing_out(labelled):
    assert find_exclusions(labelled, QualityRules(max_force_eV_per_A=None, min_distance_A=None)) == []


def test_frames_without_labels_cannot_be_judged(li_frames):
    with pytest.raises(ValueError, match='no energies and forces'):
        find_exclusions(li_frames, QualityRules())


@pytest.mark.parametrize(
    ('rules', 'message'),
    [
        ({'max_force_eV_per_A': -1}, 'max_force_eV_per_A'),
        ({'energy_window_eV_per_atom': [-1.0, -2.0]}, 'lowest energy comes first'),
        ({'max_force': 1}, 'max_force'),
    ],
)
def test_rules_out_of_range_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        QualityRules.read(rules)


def test_what_is_not_finite_is_named():
    assert name_not_finite(-1.0, np.zeros((2, 3)), np.eye(3)) is None
    assert name_not_finite(-1.0, [[0, np.nan, np.inf]], np.eye(3)) == '2 numbers of the forces are not finite'
