"""The base of every settings model: typed, immutable, unknown keys refused, messages a person can act on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Self, get_args

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
    def read(cls, values: Mapping[str, Any], filled: Mapping[str, Any] | None = None) -> Self:
        """Settings from plain values.

        Parameters
        ----------
        values : mapping
            What a person gives.
        filled : mapping, optional
            Settings that follow from something else: refused in `values`, and not named among those that are known.

        Raises
        ------
        ValueError
            Naming every key that is wrong, what was given, and what is allowed.
        """
        filled = filled or {}
        for key in filled:
            if key in values:
                raise ValueError(f'{key}: leave it out of the settings; it follows from the inputs')
        try:
            return cls.model_validate({**values, **filled})
        except ValidationError as error:
            raise ValueError(explain(error, cls, filled)) from error


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _model_at(model: type[BaseModel], path: Collection[str | int]) -> type[BaseModel]:
    """The model that the keys at this path belong to; numbers in lists and keys of mappings lead no deeper."""
    for part in path:
        field = model.model_fields.get(str(part))
        inner = next(_models_in(field.annotation), None) if field is not None else None
        model = inner or model
    return model


def explain(error: ValidationError, model: type[BaseModel], filled: Collection[str] = ()) -> str:
    """One line for each fault: key, value given, what is allowed, what the key means and its unit.

    Settings in `filled` are not a person's to give: they are not named as known.
    """
    lines = []
    for fault in error.errors():
        key = '.'.join(str(part) for part in fault['loc'])
        field = model.model_fields.get(str(fault['loc'][0])) if fault['loc'] else None
        meaning = f' [{field.description}]' if field is not None and field.description else ''
        text = fault['msg'].removeprefix('Value error, ')
        if fault['type'] == 'extra_forbidden':
            where = _model_at(model, fault['loc'][:-1])
            known = ', '.join(sorted(set(where.model_fields) - (set(filled) if where is model else set())))
            lines.append(f'{key}: no such setting; known are {known}')
        elif fault['type'] == 'missing':
            lines.append(f'{key}: missing{meaning}')
        elif not key:
            lines.append(text)
        else:
            lines.append(f'{key} = {fault["input"]!r}: {text}{meaning}')
    return '\n'.join(lines)
