"""The start of a verb that runs one crystal: the inputs `crystal` and `structure`, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from aiida.engine import ProcessSpec, calcfunction
from aiida.orm import Dict, Str, StructureData
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from aiida_liheal.data.frames import FramesData
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.shapes import SHAPES, Shape, read_shape

__all__ = (
    'DEFAULT_SHAPES',
    'add_start',
    'build_crystal',
    'frames_from_structure',
    'known_of',
    'make_start',
    'of_its_shape',
    'read_crystal',
    'start_of',
    'with_fixed_height',
)

#: Shape that each kind of run starts from, where `crystal` names none.
DEFAULT_SHAPES = {'deposit': 'slab', 'heal': 'void', 'diffuse': 'slab'}


def read_crystal(kind: str, values: Mapping[str, Any]) -> Shape:
    """Settings of the start of a kind of run. Raises ValueError saying what is wrong and what is allowed."""
    return cast(Shape, read_shape(values, DEFAULT_SHAPES[kind]))


@calcfunction
def build_crystal(kind: Any, settings: Dict) -> FramesData:
    """The start of a run from its settings: a slab to deposit on, a crystal with a void to heal."""
    crystal = read_crystal(kind.value, settings.get_dict())
    return FramesData(Frames.from_atoms([crystal.build()]), domain=kind.value)


@calcfunction
def frames_from_structure(structure: StructureData) -> FramesData:
    """A shard of one frame from a structure."""
    return FramesData.from_structure(structure)


def add_start(spec: ProcessSpec, kind: str) -> None:
    """Add the inputs `crystal` and `structure`, of which one is given, and the output `start`."""

    def validate(node: Dict | None, _: Any) -> str | None:
        try:
            if node is not None:
                read_crystal(kind, node.get_dict())
        except ValueError as error:
            return str(error)
        return None

    spec.input(
        'crystal',
        valid_type=Dict,
        required=False,
        validator=validate,
        help='The start, built from settings; keys carry their units. `shape` says which settings: '
        f'{", ".join(SHAPES)}; `{DEFAULT_SHAPES[kind]}` if it is left out.',
    )
    spec.input(
        'structure',
        valid_type=(FramesData, StructureData),
        required=False,
        help='The start itself, in place of `crystal`; of a shard the first frame is taken.',
    )
    spec.output('start', valid_type=FramesData, help='The start.')


def start_of(kind: str, inputs: Mapping[str, Any]) -> Atoms:
    """The start as it follows from inputs, or from a builder.

    Raises
    ------
    ValueError
        If there is not exactly one of `crystal` and `structure`, or it is wrong.
    """
    given = [name for name in ('crystal', 'structure') if inputs.get(name) is not None]
    if len(given) != 1:
        raise ValueError(
            f'{" and ".join(given) or "neither crystal nor structure"} given; needed is exactly one of them'
        )
    if given == ['crystal']:
        return read_crystal(kind, inputs['crystal'].get_dict()).build()
    structure = inputs['structure']
    if isinstance(structure, StructureData):
        return structure.get_ase()
    if len(structure) == 0:
        raise ValueError('structure: the shard holds no frames to start from')
    return structure.get_atoms(0)


def make_start(kind: str, inputs: Mapping[str, Any]) -> FramesData:
    """The start as a node, with its provenance, from the inputs of a process."""
    if 'crystal' in inputs:
        return build_crystal(Str(kind), inputs['crystal'])
    structure = inputs['structure']
    return frames_from_structure(structure) if isinstance(structure, StructureData) else structure


def of_its_shape(kind: str, crystal: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a crystal of a protocol with those of its own shape only, and those that were asked for."""
    shape = crystal.get('shape', DEFAULT_SHAPES[kind])
    known: Any = SHAPES[shape].model_fields if isinstance(shape, str) and shape in SHAPES else crystal
    return {key: value for key, value in crystal.items() if key in known or key in asked}


def with_fixed_height(settings: Mapping[str, Any], crystal: Shape | None) -> dict[str, Any]:
    """Settings of a run with the height of the fixed layers of its crystal, unless it is given."""
    fixed_below_A = getattr(crystal, 'fixed_below_A', 0.0)
    return {**({'fixed_below_A': fixed_below_A} if fixed_below_A > 0 else {}), **settings}


def known_of(crystal: Shape | None) -> dict[str, Any]:
    """What an analysis is told of the crystal: lattice constant in Å and mass of an atom in u."""
    if crystal is None:
        return {}
    return {
        'lattice_constant_A': crystal.lattice_constant_A,
        'mass_u': float(atomic_masses[atomic_numbers[crystal.element]]),
    }
