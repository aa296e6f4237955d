"""An interatomic potential: one member of a committee, or a classical potential."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiida.common.exceptions import ValidationError
from aiida.orm import Data

from aiida_liheal.lammps.potentials import PotentialSpec, potential_spec

__all__ = ('PotentialData', 'check_elements', 'check_frozen_model', 'committee_spec', 'type_map')

#: Names that a frozen DeePMD-kit graph of the TensorFlow backend holds, as bytes in its protobuf.
_GRAPH_MARKS = (b'model_attr/tmap', b'model_attr/model_type', b'descrpt_attr/rcut')
_ROLES = ('frozen', 'compressed', 'input')


def check_frozen_model(content: bytes, name: str = 'the file') -> None:
    """Raise ValueError unless `content` is a frozen DeePMD-kit model of the TensorFlow backend (`.pb`), whole.

    A look at the bytes, not a run: the fields of the graph up to its end, and the names that DeePMD-kit puts into every
    frozen model.
    """
    if not content.startswith(b'\x0a'):
        kind = 'a zip archive (a PyTorch model?)' if content.startswith(b'PK') else f'starting with {content[:8]!r}'
        raise ValueError(
            f'{name} is not a frozen DeePMD-kit model: {kind}; allowed is a TensorFlow graph made by `dp --tf freeze`'
        )
    missing = [mark.decode() for mark in _GRAPH_MARKS if mark not in content]
    if missing:
        raise ValueError(
            f'{name} is a protobuf file of {len(content)} bytes but no DeePMD-kit model: it lacks '
            f'{", ".join(missing)}; '
            'allowed is a TensorFlow graph made by `dp --tf freeze`, whole'
        )
    if not _is_whole_graph(content):
        raise ValueError(
            f'{name} was cut off or damaged: its {len(content)} bytes do not end with the end of a TensorFlow graph; '
            'copy or freeze it again'
        )


def type_map(content: bytes) -> tuple[str, ...] | None:
    """Elements that a frozen model knows, in the order of its types; None if they are not where they should be."""
    # the node `tmap` of the graph: a constant string, the symbols with blanks between them
    found = re.search(rb'model_attr/tmap\x12\x05Const.{0,40}?\x08\x07\x12\x00B(.)', content, re.DOTALL)
    if found is None:
        return None
    return tuple(content[found.end() : found.end() + found[1][0]].decode(errors='replace').split())


def check_elements(content: bytes, elements: Sequence[str], name: str = 'the file') -> None:
    """Raise ValueError if a frozen model does not know an element.

    LAMMPS finds this out for the member of a committee that drives, and not for the others.
    """
    known = type_map(content)
    if known is None:
        return
    strange = [element for element in elements if element not in known]
    if strange:
        raise ValueError(f'{name} knows {", ".join(known)}, not {", ".join(strange)}: elements = {list(elements)}')


def _is_whole_graph(content: bytes) -> bool:
    """Whether the bytes are the fields of a TensorFlow GraphDef from the first to the last, its versions included.

    Fields as in tensorflow/core/framework/graph.proto, each one a message: node = 1, library = 2, versions = 4.
    """

    def varint(position: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = content[position]
            value |= (byte & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if byte < 0x80:
                return value, position

    position, seen = 0, set()
    try:
        while position < len(content):
            tag, position = varint(position)
            length, position = varint(position)
            if tag not in (0x0A, 0x12, 0x22):
                return False
            seen.add(tag)
            position += length
    except IndexError:
        return False
    return position == len(content) and {0x0A, 0x22} <= seen


class PotentialData(Data):
    """One interatomic potential.

    Parameters
    ----------
    kind : str
        `deepmd`, or a classical potential: `meam`, `snap`, or `generic` (any pair style, spelled out).
    elements : sequence of str
        Chemical symbols in the order of the potential's types.
    files : dict of str to path or bytes
        What the potential consists of. For `deepmd` by role: `frozen` (`.pb`), and if there are `compressed` (`.pb`,
        what LAMMPS runs) and `input` (the training input, JSON). For others by file name.
    pair_style : str, optional
        For `generic` only: what follows `pair_style` in a deck.
    pair_coeff : sequence of str, optional
        For `generic` only: what follows each `pair_coeff`.

    Raises
    ------
    ValueError
        If a file is not what its role says, or the parts do not make a potential.
    """

    def __init__(
        self,
        kind: str | None = None,
        elements: Sequence[str] = (),
        files: Mapping[str, str | Path | bytes] | None = None,
        pair_style: str | None = None,
        pair_coeff: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kind is None:
            return
        contents = {
            role: value if isinstance(value, bytes) else Path(value).read_bytes()
            for role, value in (files or {}).items()
        }
        names = {role: role for role in contents}
        if kind == 'deepmd':
            if 'frozen' not in contents or not set(contents) <= set(_ROLES):
                raise ValueError(
                    f'files of a deepmd potential: {sorted(contents)}; needed is frozen, allowed are {_ROLES}'
                )
            for role in ('frozen', 'compressed'):
                if role in contents:
                    check_frozen_model(contents[role], f'the {role} model')
            if 'input' in contents:
                try:
                    json.loads(contents['input'])
                except ValueError as error:
                    raise ValueError(f'the training input is no JSON: {error}') from error
            names = {role: 'input.json' if role == 'input' else f'{role}.pb' for role in contents}
        for role, content in contents.items():
            self.base.repository.put_object_from_filelike(io.BytesIO(content), names[role])
        self.base.attributes.set_many(
            {
                'kind': kind,
                'elements': list(elements),
                'files': names,
                'pair_style': pair_style,
                'pair_coeff': list(pair_coeff),
            }
        )
        # elements, names of files and the parts of a classical potential, as a deck needs them
        committee_spec([self])
        if kind == 'deepmd':
            for role in {'frozen', 'compressed'} & set(contents):
                check_elements(contents[role], elements, f'the {role} model')

    def _validate(self) -> bool:
        super()._validate()
        if not self.base.attributes.get('kind', None) or not self.elements:
            raise ValidationError('no potential: construct it with `PotentialData(kind=..., elements=..., files=...)`')
        return True

    @property
    def kind(self) -> str:
        """`deepmd`, `meam`, `snap` or `generic`."""
        return str(self.base.attributes.get('kind'))

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the potential's types."""
        return tuple(self.base.attributes.get('elements', []))

    @property
    def roles(self) -> dict[str, str]:
        """File name in the repository for each role."""
        return dict(self.base.attributes.get('files', {}))

    def read(self, role: str) -> bytes:
        """The content of one file. Raises KeyError if there is no such role."""
        with self.base.repository.open(self.roles[role], 'rb') as handle:
            return bytes(handle.read())

    @property
    def model_role(self) -> str:
        """The role of the model that is run: compressed if there is one, else frozen."""
        return 'compressed' if 'compressed' in self.roles else 'frozen'

    @property
    def training_input(self) -> dict[str, Any] | None:
        """The DeePMD-kit input that the model was trained with, if it is known."""
        return json.loads(self.read('input')) if 'input' in self.roles else None


def committee_spec(members: Sequence[PotentialData]) -> PotentialSpec:
    """What a deck says of one potential or of a committee, whose members are called `m0.pb`, `m1.pb`, ….

    Raises ValueError if the members are no committee: several classical potentials, or different elements.
    """
    first = members[0]
    if len(members) > 1 and any(member.kind != 'deepmd' for member in members):
        kinds = ', '.join(member.kind for member in members)
        raise ValueError(f'a committee needs deepmd potentials only, got {kinds}')
    if any(member.elements != first.elements for member in members):
        raise ValueError(f'the members differ in elements: {[list(member.elements) for member in members]}')
    if first.kind == 'deepmd':
        return potential_spec('deepmd', first.elements, [f'm{number}.pb' for number in range(len(members))])
    attributes = first.base.attributes
    return potential_spec(
        first.kind, first.elements, list(first.roles), attributes.get('pair_style'), attributes.get('pair_coeff')
    )
