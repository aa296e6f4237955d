"""The base of every settings model: typed, immutable, unknown keys refused, messages a person can act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from ase.data import atomic_numbers
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

#: A seed that LAMMPS, DeePMD-kit and numpy all take.
MAX_SEED = 900_000_000
Seed = Annotated[int, Field(ge=1, le=MAX_SEED)]


def _known_element(symbol: str) -> str:
    # 'X' is ASE's ghost atom: in the table, but nothing that has a mass or a potential
    if symbol == 'X' or symbol not in atomic_numbers:
        raise ValueError(f'{symbol!r} is no chemical element; give a symbol such as Li, Na or Fe')
    return symbol


#: A chemical symbol of the periodic table.
Element = Annotated[str, AfterValidator(_known_element)]


class Settings(BaseModel):
    """Settings of one thing; make them with `read` to get messages for people."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Settings from plain values.

        Raises
        ------
        ValueError
            Naming every key that is wrong, what was given, and what is allowed.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ValueError(explain(error, cls)) from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for each fault: key, value given, what is allowed, what the key means and its unit."""
    lines = []
    for fault in error.errors():
        key = '.'.join(str(part) for part in fault['loc'])
        field = model.model_fields.get(str(fault['loc'][0])) if fault['loc'] else None
        meaning = f' [{field.description}]' if field is not None and field.description else ''
        text = fault['msg'].removeprefix('Value error, ')
        if fault['type'] == 'extra_forbidden':
            known = ', '.join(sorted(model.model_fields))
            lines.append(f'{key}: no such setting; known are {known}')
        elif fault['type'] == 'missing':
            lines.append(f'{key}: missing{meaning}')
        elif not key:
            lines.append(text)
        else:
            lines.append(f'{key} = {fault["input"]!r}: {text}{meaning}')
    return '\n'.join(lines)
