"""Potentials of a family of aiida-vasp, which is optional: imported where it is needed, and missed with a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida_liheal.data.frames import FramesData

__all__ = ('FURTHER', 'need_aiida_vasp', 'potentials_of')

#: Keys beside `settings` in the protocol of this engine.
FURTHER = {
    'potential_family': 'name of an uploaded family of potentials (`aiida-vasp potcar uploadfamily`)',
    'potential_mapping': 'for each element the full name of its potential, such as {Li: Li_sv}; if empty, its symbol',
}


def need_aiida_vasp() -> None:
    """Raise ValueError with what to install if aiida-vasp is missing."""
    try:
        import aiida_vasp  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f'aiida-vasp cannot be imported ({error}); install it with the extra: pip install "aiida-liheal[vasp]"'
        ) from error


def potentials_of(inputs: Mapping[str, Any], frames: FramesData) -> dict[str, Any]:
    """The input `potentials`: a `PotcarData` for each element of the frames, from a family.

    Raises
    ------
    ValueError
        If no family is named, there is no such family or potential, or aiida-vasp is not installed.
    """
    need_aiida_vasp()
    from aiida.common.exceptions import NotExistent
    from aiida_vasp.data.potcar import PotcarData

    family, mapping = inputs['potential_family'], dict(inputs['potential_mapping'] or {})
    if not family:
        raise ValueError(
            'vasp.potential_family is not given: name a family of potentials; `aiida-vasp potcar listfamilies` shows '
            'those that there are, `aiida-vasp potcar uploadfamily` makes one of your POTCAR files'
        )
    wanted = {symbol: mapping.get(symbol, symbol) for symbol in frames.elements}
    if PotcarData.get_potcar_group(family) is None:
        raise ValueError(f'vasp.potential_family is {family!r}: there is no such family of potentials')
    try:
        return {'potentials': PotcarData.get_potcars_dict(list(wanted), family, mapping=wanted)}
    except NotExistent as error:
        raise ValueError(f'vasp.potential_mapping: {error}') from error
