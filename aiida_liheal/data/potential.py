"""An interatomic potential: one member of a committee, or a classical potential."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from aiida.orm import Data

__all__ = ('PotentialData', 'check_frozen_model')

#: Names that a frozen DeePMD-kit graph of the TensorFlow backend holds, as bytes in its protobuf.
_GRAPH_MARKS = (b'model_attr/tmap', b'model_attr/model_type', b'descrpt_attr/rcut')
_FILENAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]*')


def check_frozen_model(content: bytes, name: str = 'the file') -> None:
    """Raise ValueError unless `content` is a frozen DeePMD-kit model of the TensorFlow backend (`.pb`).

    A look at the bytes, not a run: the graph's first field and the names DeePMD-kit puts into every frozen model.
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


class PotentialData(Data):
    """One interatomic potential.

    Parameters
    ----------
    kind : str
        `deepmd`, or the LAMMPS pair style of a classical potential: `meam`, `snap`, `eam/fs`, …
    elements : sequence of str
        Chemical symbols in the order of the potential's types.
    files : dict of str to path or bytes
        What the potential consists of, by role. For `deepmd`: `frozen` (`.pb`), and if there are `compressed` (`.pb`,
        what LAMMPS runs) and `input` (the training input, JSON). For others: file names as `pair_coeff` names them.
    pair_coeff : str, optional
        For classical potentials: the arguments of `pair_coeff` with `{elements}` where the element list goes.

    Raises
    ------
    ValueError
        If a file is not what its role says.
    """

    def __init__(
        self,
        kind: str | None = None,
        elements: Any = None,
        files: dict[str, str | Path | bytes] | None = None,
        pair_coeff: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kind is None:
            return
        contents = {
            role: value if isinstance(value, bytes) else Path(value).read_bytes()
            for role, value in (files or {}).items()
        }
        if kind == 'deepmd':
            if 'frozen' not in contents:
                raise ValueError(f"a deepmd potential needs a file in the role 'frozen', got {sorted(contents)}")
            unknown = set(contents) - {'frozen', 'compressed', 'input'}
            if unknown:
                raise ValueError(f'roles are frozen, compressed and input, got {sorted(unknown)}')
            for role in ('frozen', 'compressed'):
                if role in contents:
                    check_frozen_model(contents[role], f'the {role} model')
            if 'input' in contents:
                json.loads(contents['input'])
        else:
            for role in contents:
                if not _FILENAME.fullmatch(role):
                    raise ValueError(f'file name {role!r}: allowed are letters, digits, dot, underscore and hyphen')
        names = {'frozen': 'frozen.pb', 'compressed': 'compressed.pb', 'input': 'input.json'}
        import io

        for role, content in contents.items():
            self.base.repository.put_object_from_filelike(io.BytesIO(content), names.get(role, role))
        self.base.attributes.set_many(
            {
                'kind': kind,
                'elements': list(elements or []),
                'files': {role: names.get(role, role) for role in sorted(contents)},
                'pair_coeff': pair_coeff,
            }
        )

    def _validate(self) -> bool:
        super()._validate()
        from aiida.common.exceptions import ValidationError

        if not self.base.attributes.get('kind', None):
            raise ValidationError('the potential has no kind: construct it with `PotentialData(kind=..., ...)`')
        if not self.elements:
            raise ValidationError('the potential names no elements')
        return True

    @property
    def kind(self) -> str:
        """`deepmd`, or the LAMMPS pair style of a classical potential."""
        return str(self.base.attributes.get('kind'))

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the potential's types."""
        return tuple(self.base.attributes.get('elements', []))

    @property
    def roles(self) -> dict[str, str]:
        """File name in the repository for each role."""
        return dict(self.base.attributes.get('files', {}))

    @property
    def pair_coeff(self) -> str | None:
        """Arguments of `pair_coeff` of a classical potential, with `{elements}` where the element list goes."""
        return self.base.attributes.get('pair_coeff', None)

    def read(self, role: str) -> bytes:
        """The content of one file. Raises KeyError if there is no such role."""
        with self.base.repository.open(self.roles[role], 'rb') as handle:
            return bytes(handle.read())

    @property
    def training_input(self) -> dict[str, Any] | None:
        """The DeePMD-kit input that the model was trained with, if it is known."""
        return json.loads(self.read('input')) if 'input' in self.roles else None
