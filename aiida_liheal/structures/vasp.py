"""Labelled frames of runs of VASP: OUTCAR and vasprun.xml, versions 5 and 6, whole or cut off.

The energy is the free energy `TOTEN` (`e_fr_energy`), which the forces are the gradient of; never `energy(sigma->0)`.
The virial is the cell volume times the stress that VASP prints (kB, positive under compression) as eV. Cells are
turned to lower triangular form, and positions, forces and virials with them, as dpdata does and LAMMPS needs it.
Nothing of a POTCAR but the names of the elements is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.reading import KILOBAR, LeftOut, Reading, join_labelled, opened, text_lines

__all__ = ('read_outcar', 'read_vasprun', 'turn_to_lower_triangular')

#: Ionic and electronic step; the ionic one is `****` where it does not fit its column.
_ITERATION = re.compile(r'Iteration\s*(\d+|\*+)\(\s*(\d+)\)')
_PARAMETER = {name: re.compile(rf'\b{name}\s*=\s*(\d+)') for name in ('NELM', 'NIONS', 'ISIF')}
#: Rows of positions and forces, `3F13.5,3X,3F14.6`, whose numbers may touch.
_ROW = re.compile(r'\s*' + r'(-?\d+\.\d{5})\s*' * 3 + r'(-?\d+\.\d{6})\s*' * 3)
#: What a machine-learned step says of itself, once in a reading.
_MACHINE_LEARNED = 'its energy is of the machine-learned force field of VASP, not of an electronic calculation'


def turn_to_lower_triangular(
    cells: NDArray, positions: NDArray, forces: NDArray, virials: NDArray | None, counts: NDArray
) -> tuple[NDArray, NDArray, NDArray, NDArray | None]:
    """Turn frames so that each cell is lower triangular with a positive diagonal; those that are, are not touched.

    Parameters
    ----------
    cells, positions, forces, virials, counts : array
        As in `Frames`; Å, Å, eV/Å, eV.

    Returns
    -------
    cells, positions, forces, virials : array
        Copies. A left-handed cell cannot be turned so and stays as it is.
    """
    cells, positions, forces = cells.copy(), positions.copy(), forces.copy()
    virials = None if virials is None else virials.copy()
    offsets = np.concatenate([[0], np.cumsum(counts)])
    for index, cell in enumerate(cells):
        if np.array_equal(cell, np.tril(cell)) and (np.diagonal(cell) > 0).all():
            continue
        q, r = np.linalg.qr(cell.T)
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        if np.linalg.det(q) < 0:
            continue
        atoms = slice(offsets[index], offsets[index + 1])
        cells[index] = np.tril(cell @ q)
        positions[atoms] = positions[atoms] @ q
        forces[atoms] = forces[atoms] @ q
        if virials is not None:
            virials[index] = q.T @ virials[index] @ q
    return cells, positions, forces, virials


def _frame(
    symbols: Sequence[str], cell: NDArray, positions: NDArray, energy: float, forces: NDArray, kilobar: NDArray | None
) -> Frames:
    """One labelled frame; `kilobar` is the stress as VASP prints it, (3, 3) in kB."""
    virials = None if kilobar is None else (kilobar * KILOBAR * np.linalg.det(cell))[None]
    counts = np.array([len(symbols)], dtype=np.int32)
    cells, positions, forces, virials = turn_to_lower_triangular(cell[None], positions, forces, virials, counts)
    elements = tuple(sorted(set(symbols)))
    return Frames(
        elements=elements,
        counts=counts,
        types=np.array([elements.index(symbol) for symbol in symbols], dtype=np.int32),
        positions=positions,
        cells=cells,
        pbc=np.ones((1, 3), dtype=bool),
        energies=np.array([energy]),
        forces=forces,
        virials=virials,
    )


@dataclass
class _Step:
    """One ionic step of an OUTCAR as it is read."""

    n_electronic: int = 0
    cell: NDArray | None = None
    kilobar: NDArray | None = None
    rows: list[list[float]] | None = None
    problem: str | None = None


@dataclass
class _Header:
    """What an OUTCAR says of its run before the first step."""

    titles: list[str] = field(default_factory=list)
    potcars: list[str] = field(default_factory=list)
    valences: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)

    def take(self, line: str) -> None:
        """Keep what a line says."""
        words = line.split()
        if 'TITEL' in line and len(words) > 3:
            self.titles.append(_element(words[3]))
        elif 'POTCAR:' in line and len(words) > 2:
            self.potcars.append(_element(words[2]))
        elif 'VRHFIN' in line and '=' in line:
            self.valences.append(_element(line.split('=', 1)[1].split(':', maxsplit=1)[0].strip()))
        elif 'ions per type' in line and '=' in line:
            self.counts = [int(word) for word in line.split('=', 1)[1].split() if word.isdigit()]
        for name, pattern in _PARAMETER.items():
            if name in line and (found := pattern.search(line)):
                self.parameters[name] = int(found[1])

    def symbols(self) -> list[str]:
        """The element of each atom. Raises ValueError if the header does not say it."""
        if not self.counts:
            raise ValueError('it does not say how many ions of each type there are: no OUTCAR, or cut off in its head')
        n_types = len(self.counts)
        half = self.potcars[: len(self.potcars) // 2]
        named = [self.titles, half if half * 2 == self.potcars else [], self.potcars, self.valences]
        names = next((found for found in named if len(found) == n_types), None)
        if names is None:
            raise ValueError(
                f'it has {n_types} types of ions and names {len(self.titles) or len(half)} elements; read its '
                'vasprun.xml in its place'
            )
        unknown = [name for name in names if name not in atomic_numbers or name == 'X']
        if unknown:
            raise ValueError(f'{unknown[0]!r} is no chemical element')
        symbols = [name for name, count in zip(names, self.counts, strict=True) for _ in range(count)]
        n_ions = self.parameters.get('NIONS')
        if n_ions is not None and n_ions != len(symbols):
            raise ValueError(f'it says {n_ions} ions (NIONS), and {len(symbols)} by type')
        return symbols


def _element(name: str) -> str:
    """The element of a potential such as Li_sv or Li."""
    return name.split('_', maxsplit=1)[0].strip()


def _triples(lines: Iterator[str], n: int, decimals: int) -> NDArray:
    """The first three numbers of the next n lines, (n, 3), where they may touch. Raises ValueError if they lack."""
    rows = []
    for _ in range(n):
        found = re.findall(rf'-?\d+\.\d{{{decimals}}}', next(lines, ''))
        if len(found) < 3:
            raise ValueError('a row is not complete')
        rows.append([float(number) for number in found[:3]])
    return np.array(rows)


def _stress(lines: Iterator[str]) -> NDArray | None:
    """The stress in the table that begins here, (3, 3) in kB; None if it cannot be read."""
    for line in lines:
        if not line.strip():
            return None
        if line.split()[:2] == ['in', 'kB']:
            found = re.findall(r'-?\d+\.\d{5}', line)
            if len(found) != 6 or '*' in line:
                return None
            xx, yy, zz, xy, yz, zx = map(float, found)
            return np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]])
    return None


def _forces(lines: Iterator[str], n_atoms: int) -> list[list[float]]:
    """Rows of positions and forces, in Å and eV/Å. Raises ValueError with the cause if they are not n_atoms rows."""
    rows: list[list[float]] = []
    next(lines, '')
    for line in lines:
        if line.lstrip().startswith('--'):
            break
        words = line.split()
        try:
            row = [float(word) for word in words] if len(words) == 6 else []
        except ValueError:
            row = []
        if not row:
            found = _ROW.match(line)
            if found is None:
                if '*' in line:
                    raise ValueError(f'forces or positions of atom {len(rows)} do not fit their columns (****)')
                raise ValueError(f'its table of forces breaks off after {len(rows)} of {n_atoms} atoms')
            row = [float(word) for word in found.groups()]
        rows.append(row)
    if len(rows) != n_atoms:
        raise ValueError(f'its table of forces has {len(rows)} atoms, the run {n_atoms}')
    return rows


def read_outcar(path: str | Path) -> Reading:
    """All ionic steps of an OUTCAR (also packed: .gz, .bz2, .xz) that have converged electrons, energy and forces.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    Reading
        Frames in Å, eV, eV/Å, virials in eV; indices count the ionic steps that were computed. Steps whose electrons
        took all of NELM steps, those that were cut off, and those of a machine-learned force field are left out.

    Raises
    ------
    ValueError
        If the file cannot be read, or does not say its elements.
    """
    with opened(Path(path)) as handle:
        return _read_outcar(text_lines(handle))


def _read_outcar(lines: Iterator[str]) -> Reading:
    header, step = _Header(), _Step()
    symbols: list[str] | None = None
    parts: list[tuple[int, Frames]] = []
    left_out: list[LeftOut] = []
    index, n_learned, learned = 0, 0, False
    ionic: int | None = None
    finished, is_response, has_moved = 0, False, False
    for line in lines:
        if 'Iteration' in line and (found := _ITERATION.search(line)):
            number = int(found[1]) if found[1].isdigit() else finished + 1
            # what is iterated anew after a finished step is the response to a field or a displacement
            is_response = is_response or number <= finished
            if not is_response and ionic is not None and number > ionic > finished:
                left_out.append(LeftOut(index, f'ionic step {ionic} has no energy'))
                index, step = index + 1, _Step()
            ionic, step.n_electronic = number, int(found[2])
        elif 'free  energy ML TOTEN' in line:
            # a machine-learned step comes before the one that is computed for the same positions, if there is one
            n_learned += learned
            learned = True
        elif 'hard stop encountered' in line:
            step.problem = 'its electrons were stopped before they converged (hard stop)'
        elif 'EDIFF was not reached' in line:
            step.problem = 'its electrons did not converge (EDIFF was not reached)'
        elif 'FORCE on cell =-STRESS' in line and 'ML FORCE' not in line:
            step.kilobar = _stress(lines)
        elif 'VOLUME and BASIS' in line:
            has_moved = True
        elif 'direct lattice vectors' in line:
            # the cell stands in the head, and below `VOLUME and BASIS` of a step; others are of primitive cells
            if ionic is not None and not has_moved:
                continue
            has_moved = False
            try:
                step.cell = _triples(lines, 3, 9)
            except ValueError:
                step.cell, step.problem = None, 'its cell cannot be read'
        elif 'TOTAL-FORCE' in line and '(ML)' not in line:
            symbols = header.symbols() if symbols is None else symbols
            try:
                step.rows = _forces(lines, len(symbols))
            except ValueError as error:
                step.problem = str(error)
        elif 'free  energy   TOTEN' in line:
            symbols = header.symbols() if symbols is None else symbols
            try:
                parts.append((index, _finished(step, line, symbols, header)))
            except ValueError as error:
                left_out.append(LeftOut(index, str(error)))
            # where the cell is fixed it may be printed once
            fixed = step.cell if header.parameters.get('ISIF', 3) < 3 else None
            index, learned, is_response, step, finished = index + 1, False, False, _Step(cell=fixed), ionic or finished
        elif ionic is None:
            header.take(line)
    n_learned += learned
    if step.n_electronic and not is_response:
        left_out.append(LeftOut(index, f'the file ends within it, after {step.n_electronic} electronic steps'))
    if n_learned:
        left_out.append(LeftOut(None, f'{n_learned} steps: {_MACHINE_LEARNED}'))
    if not parts and not left_out:
        header.symbols()
        left_out.append(LeftOut(None, 'it holds no finished ionic step'))
    notes = []
    if header.parameters.get('ISIF') == 1:
        notes.append('ISIF = 1: VASP computes only the trace of the stress, so virials hold in their trace only')
    if 'NELM' not in header.parameters:
        notes.append('it does not say NELM: whether the electrons converged was not checked')
    return join_labelled(parts, left_out, notes)


def _finished(step: _Step, line: str, symbols: Sequence[str], header: _Header) -> Frames:
    """The frame of a step whose energy stands in this line. Raises ValueError with the cause if it is none."""
    n_most = header.parameters.get('NELM')
    if n_most is not None and step.n_electronic >= n_most:
        raise ValueError(f'its electrons did not converge: NELM = {n_most} electronic steps were reached')
    if step.problem is not None:
        raise ValueError(step.problem)
    if step.rows is None:
        raise ValueError('it has no forces')
    if step.cell is None:
        raise ValueError('it has no cell')
    found = re.search(r'TOTEN\s*=\s*(-?\d+\.\d+)', line)
    if found is None:
        raise ValueError(f'its energy cannot be read: {line.strip()!r}')
    table = np.array(step.rows)
    return _frame(symbols, step.cell, table[:, :3], float(found[1]), table[:, 3:], step.kilobar)


#: Codes of the XML parser that say no more than that a file ends too early: no element, an unclosed token.
_CUT_OFF = (3, 5)


def read_vasprun(path: str | Path) -> Reading:
    """All ionic steps of a vasprun.xml (also packed: .gz, .bz2, .xz) that have converged electrons, energy and forces.

    Parameters, returns and errors as those of `read_outcar`; the numbers have more digits than those of an OUTCAR.
    """
    with opened(Path(path)) as handle:
        head = handle.read(4096)
        handle.seek(0)
        prolog = re.sub(rb'<!--.*?-->', b'', head, flags=re.DOTALL)
        if b'<!' in prolog:
            raise ValueError('it declares a type or entities, which vasprun.xml does not')
        # a declaration can only stand before the first element: none may hide behind blanks
        if head and not re.search(rb'<\w', prolog):
            raise ValueError(f'no element begins within its first {len(head)} bytes')
        return _read_vasprun(handle)


def _read_vasprun(handle: IO[bytes]) -> Reading:
    symbols: list[str] = []
    parts: list[tuple[int, Frames]] = []
    left_out: list[LeftOut] = []
    parameters: dict[str, str] = {}
    index, is_open, n_learned, pressure_kB = 0, False, 0, 0.0
    try:
        for event, element in ElementTree.iterparse(handle, events=('start', 'end')):  # noqa: S314  see above
            if event == 'start':
                is_open = is_open or element.tag == 'calculation'
                continue
            if element.tag in ('parameters', 'incar'):
                # the first of a name counts: NELM stands there again for the response
                found = {i.get('name', ''): (i.text or '').strip() for i in reversed(list(element.iter('i')))}
                parameters.update(found)
            elif element.tag == 'atominfo':
                rows = element.findall("array[@name='atoms']/set/rc")
                symbols = [_element((row[0].text or '').strip()) for row in rows]
            elif element.tag == 'calculation':
                is_open = False
                if parameters.get('ML_LMLFF', 'F').startswith('T') and element.find('scstep') is None:
                    n_learned += 1
                else:
                    try:
                        # the file says it before the first step
                        pressure_kB = _number(parameters.get('PSTRESS')) or 0.0
                        parts.append((index, _calculation(element, symbols, parameters.get('NELM'), pressure_kB)))
                    except ValueError as error:
                        left_out.append(LeftOut(index, str(error)))
                index += 1
                element.clear()
    except (ElementTree.ParseError, EOFError) as error:
        if not index and not is_open:
            raise ValueError(f'it cannot be read as XML: {error}') from error
        if is_open:
            left_out.append(LeftOut(index, 'the file ends within it'))
        if isinstance(error, ElementTree.ParseError) and error.code not in _CUT_OFF:
            left_out.append(LeftOut(None, f'it is damaged, what comes after that was not read: {error}'))
    if n_learned:
        left_out.append(LeftOut(None, f'{n_learned} steps: {_MACHINE_LEARNED}'))
    if not parts and not left_out:
        left_out.append(LeftOut(None, 'it holds no ionic step'))
    notes = [] if 'NELM' in parameters else ['it does not say NELM: whether the electrons converged was not checked']
    if pressure_kB:
        notes.append(f'PSTRESS = {pressure_kB} kB: pressure x volume was taken off, which its energies hold')
    return join_labelled(parts, left_out, notes)


def _number(words: str | None) -> float | None:
    """A number in a file; None if there is none."""
    try:
        return float(words or '')
    except ValueError:
        return None


def _calculation(element: Any, symbols: Sequence[str], n_most: str | None, pressure_kB: float) -> Frames:
    """The frame of one ionic step. Raises ValueError with the cause if it is none."""
    if n_most is not None and len(element.findall('scstep')) >= int(n_most):
        raise ValueError(f'its electrons did not converge: NELM = {n_most} electronic steps were reached')
    unknown = [symbol for symbol in symbols if symbol not in atomic_numbers or symbol == 'X']
    if unknown or not symbols:
        raise ValueError(f'{unknown[0]!r} is no chemical element' if unknown else 'it names no atoms')

    def array(path: str, what: str, n: int | None = None) -> NDArray | None:
        rows = element.findall(f'{path}/v')
        if not rows:
            return None
        try:
            found = np.array([[float(word) for word in (row.text or '').split()] for row in rows])
        except ValueError:
            raise ValueError(f'its {what} cannot be read') from None
        if n is not None and found.shape != (n, 3):
            raise ValueError(f'its {what} are {len(found)}, its atoms {n}')
        return found

    cell = array("structure/crystal/varray[@name='basis']", 'cell', 3)
    scaled = array("structure/varray[@name='positions']", 'positions', len(symbols))
    forces = array("varray[@name='forces']", 'forces', len(symbols))
    kilobar = array("varray[@name='stress']", 'stress', 3)
    energy = element.find("energy/i[@name='e_fr_energy']")
    for what, value in (('cell', cell), ('positions', scaled), ('forces', forces), ('energy', energy)):
        if value is None:
            raise ValueError(f'it has no {what}')
    number = _number(energy.text)
    if number is None:
        raise ValueError(f'its energy cannot be read: {energy.text!r}')
    assert cell is not None  # noqa: S101  for mypy: checked above
    assert scaled is not None  # noqa: S101
    assert forces is not None  # noqa: S101
    electronic = _number(element.findtext("scstep[last()]/energy/i[@name='e_fr_energy']"))
    # under a pressure that is asked for, what stands here is an enthalpy, unlike that of an OUTCAR
    if pressure_kB and number != electronic:
        number -= pressure_kB * KILOBAR * abs(float(np.linalg.det(cell)))
    return _frame(symbols, cell, scaled @ cell, number, forces, kilobar)
