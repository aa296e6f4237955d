"""The lines of a deck that choose the interatomic potential."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ase.data import atomic_numbers

# What may stand in a deck from outside: no blank, quote, `$`, `&`, `#`, `;` or path that leaves the folder.
_FILE_NAME = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}')
_TOKEN = re.compile(r'[A-Za-z0-9_.+*/-]{1,128}')

#: Kinds of potential that `potential_spec` knows.
KINDS = ('deepmd', 'meam', 'snap', 'generic')


def check_file_name(name: str) -> str:
    """A plain file name, given back. Raises ValueError if it holds anything but letters, digits and `_ . + -`."""
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(
            f'file name {name!r}: only letters, digits and _ . + - are allowed, no folder, and no . + - at the start'
        )
    return name


@dataclass(frozen=True)
class PotentialSpec:
    """A potential as a deck sees it; made by `potential_spec`.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    elements : tuple of str
        Element of each LAMMPS atom type, in order.
    files : tuple of str
        Names of the files it reads.
    pair_style : tuple of str
        Words after `pair_style`; those that are names of files get the folder of the files.
    pair_coeff : tuple of tuple of str
        Words after each `pair_coeff`, likewise.
    """

    kind: str
    elements: tuple[str, ...]
    files: tuple[str, ...]
    pair_style: tuple[str, ...]
    pair_coeff: tuple[tuple[str, ...], ...]

    @property
    def is_committee(self) -> bool:
        """Whether it can give a deviation."""
        return self.kind == 'deepmd' and len(self.files) > 1

    @property
    def members(self) -> tuple[PotentialSpec, ...]:
        """Each member of a committee as a potential of its own; any other potential is its only member."""
        if not self.is_committee:
            return (self,)
        return tuple(potential_spec(self.kind, self.elements, [name]) for name in self.files)

    def lines(self, folder: str = '', deviation_every: int | None = None) -> list[str]:
        """The lines of the deck.

        Parameters
        ----------
        folder : str
            Put before the name of each file, such as `../`.
        deviation_every : int, optional
            Write the deviation of a committee to `model_devi.out` every so many steps.

        Raises
        ------
        ValueError
            If the deviation is asked of a single model.
        """
        style = [folder + word if word in self.files else word for word in self.pair_style]
        if deviation_every is not None:
            if not self.is_committee:
                raise ValueError(
                    f'a deviation needs a committee of two deepmd models or more, got {len(self.files)} file(s) of '
                    f'kind {self.kind}'
                )
            style += ['out_file', 'model_devi.out', 'out_freq', str(deviation_every)]
        coefficients = [
            ' '.join(folder + word if word in self.files else word for word in words) for words in self.pair_coeff
        ]
        return ['pair_style ' + ' '.join(style), *(f'pair_coeff {words}' for words in coefficients)]


def potential_spec(
    kind: str,
    elements: Sequence[str],
    files: Sequence[str],
    pair_style: str | None = None,
    pair_coeff: Sequence[str] = (),
) -> PotentialSpec:
    """A potential from its kind and the names of its files.

    Parameters
    ----------
    kind : str
        `deepmd`: one frozen model, or several for a committee whose first member drives.
        `meam`: a library, named `library*`, and a parameter file if there is one.
        `snap`: a `*.snapcoeff` and a `*.snapparam`.
        `generic`: whatever `pair_style` and `pair_coeff` say.
    elements : sequence of str
        Element of each LAMMPS atom type.
    files : sequence of str
        Names of the files, which lie in the folder of the job.
    pair_style, pair_coeff : str, sequence of str
        For `generic` only: what follows the commands of this name.

    Raises
    ------
    ValueError
        Naming what is unknown or missing.
    """
    names = tuple(check_file_name(name) for name in files)
    if len(set(names)) != len(names):
        raise ValueError(f'files {list(names)}: each needs a name of its own')
    symbols = tuple(elements)
    if not symbols or len(set(symbols)) != len(symbols):
        raise ValueError(f'elements {list(symbols)}: at least one, and each once')
    for symbol in symbols:
        if symbol == 'X' or symbol not in atomic_numbers:
            raise ValueError(f'{symbol!r} is no chemical element; give a symbol such as Li, Na or Fe')
    if kind != 'generic' and (pair_style is not None or pair_coeff):
        raise ValueError(f'pair_style and pair_coeff belong to kind generic, not to {kind}')
    style: tuple[str, ...]
    coefficients: tuple[tuple[str, ...], ...]
    if kind == 'deepmd':
        if not names:
            raise ValueError('kind deepmd: needs one frozen model or more')
        style, coefficients = ('deepmd', *names), (('*', '*', *symbols),)
    elif kind == 'meam':
        libraries = [name for name in names if name.startswith('library')]
        others = [name for name in names if name not in libraries]
        if len(libraries) != 1 or len(others) > 1:
            raise ValueError(
                f'kind meam: needs one file named library* and at most one parameter file, got {list(names)}'
            )
        style = ('meam',)
        coefficients = (('*', '*', libraries[0], *symbols, *(others or ['NULL']), *symbols),)
    elif kind == 'snap':
        by_suffix = {name.rpartition('.')[2]: name for name in names}
        if set(by_suffix) != {'snapcoeff', 'snapparam'} or len(names) != 2:
            raise ValueError(f'kind snap: needs one *.snapcoeff and one *.snapparam, got {list(names)}')
        style = ('snap',)
        coefficients = (('*', '*', by_suffix['snapcoeff'], by_suffix['snapparam'], *symbols),)
    elif kind == 'generic':
        if not pair_style or not pair_coeff:
            raise ValueError('kind generic: needs pair_style and at least one pair_coeff')
        style = _words(pair_style)
        coefficients = tuple(_words(text) for text in pair_coeff)
    else:
        raise ValueError(f'kind of potential {kind!r}: known are {", ".join(KINDS)}')
    return PotentialSpec(kind, symbols, names, style, coefficients)


def _words(text: str) -> tuple[str, ...]:
    if '\n' in text or '\r' in text:
        raise ValueError(f'{text!r}: one line only')
    words = tuple(text.split())
    for word in words:
        if not _TOKEN.fullmatch(word) or '..' in word or word.startswith('/'):
            raise ValueError(f'{word!r} in {text!r}: only letters, digits and _ . + * / - are allowed, no path upwards')
    return words
