"""Shapes are found by name and refused in words."""

import pytest

from aiida_liheal.structures.shapes import SHAPES, read_shape

SLAB = {'size': (2, 2), 'n_layers': 4, 'height_above_A': 20.0}


def test_shape_is_read_by_its_name_or_the_default():
    assert read_shape(SLAB, 'slab') == read_shape({'shape': 'slab', **SLAB}, 'void')
    void = read_shape({'shape': 'void', 'size': (3, 3, 3), 'void_size': (1, 1, 1)}, 'slab')
    assert len(void.build()) == 52


def test_every_shape_knows_its_name_and_its_metal():
    for name, settings in SHAPES.items():
        assert settings.model_fields['shape'].default == name
        assert {'element', 'lattice_constant_A'} <= set(settings.model_fields)


@pytest.mark.parametrize('name', ['cube', 3, None, ['slab']])
def test_unknown_shapes_are_refused(name):
    with pytest.raises(ValueError, match=r'shape = .*: no such shape; known are .*slab, .*void'):
        read_shape({'shape': name, **SLAB}, 'slab')


def test_wrong_settings_of_a_shape_are_named():
    with pytest.raises(ValueError, match=r'n_layers = 0: .*greater than or equal to 1'):
        read_shape({**SLAB, 'n_layers': 0}, 'slab')
    with pytest.raises(ValueError, match='void_size: missing'):
        read_shape({'shape': 'void', 'size': (3, 3, 3)}, 'slab')
