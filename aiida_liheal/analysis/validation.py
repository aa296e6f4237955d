"""Properties of a potential from energies, stresses and forces of reference structures, held against references."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import ase.units
import numpy as np
from ase import Atoms
from ase.eos import EquationOfState
from ase.geometry import find_mic
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from pydantic import Field, model_validator

from aiida_liheal.structures.settings import Settings

__all__ = (
    'Eos',
    'Limit',
    'Measured',
    'PropertyReference',
    'Quantity',
    'ReferenceValue',
    'cubic_elastic_constants',
    'displaced_crystal',
    'elastic_strains',
    'eos_of',
    'humps',
    'judge',
    'largest_move',
    'phonon_frequencies',
    'quantity',
    'reference_text',
    'side_by_side',
    'surface_energy',
    'vacancy_formation',
)

#: Stresses in Voigt order, as the runs of kind `relax` print them.
VOIGT = ('xx', 'yy', 'zz', 'yz', 'xz', 'xy')
#: Points of the Brillouin zone of bcc in the reciprocal vectors of its primitive cell.
Q_POINTS = {'Gamma': (0.0, 0.0, 0.0), 'N': (0.0, 0.0, 0.5), 'H': (0.5, -0.5, 0.5), 'P': (0.25, 0.25, 0.25)}
#: Frequencies below this are imaginary, in THz; nearer to zero they are the acoustic modes at Gamma, as rounding leaves
#: them.
IMAGINARY_BELOW_THZ = -0.05


@dataclass(frozen=True)
class Measured:
    """What a run of kind `relax` printed.

    Parameters
    ----------
    energy_eV : (n_members, n_strains) float
        Potential energies.
    stress_GPa : (n_members, n_strains, 6) float
        Stresses in Voigt order, positive under tension.
    volume_A3, max_force_eV_per_A : (n_members, n_strains) float
        Volumes of the cell, and largest components of a force.
    """

    energy_eV: NDArray
    stress_GPa: NDArray
    volume_A3: NDArray
    max_force_eV_per_A: NDArray

    @classmethod
    def from_values(cls, values: Mapping[str, float], n_members: int, n_strains: int) -> Self:
        """From values by name, `m0_s0_energy_eV` and so on. Raises ValueError naming the first that is missing."""

        def read(name: str) -> NDArray:
            keys = [[f'm{m}_s{s}_{name}' for s in range(n_strains)] for m in range(n_members)]
            missing = [key for row in keys for key in row if values.get(key) is None]
            if missing:
                raise ValueError(f'the run printed no {missing[0]}')
            return np.array([[values[key] for key in row] for row in keys], dtype=float)

        return cls(
            energy_eV=read('energy_eV'),
            stress_GPa=np.stack([read(f'stress_{component}_GPa') for component in VOIGT], axis=-1),
            volume_A3=read('volume_A3'),
            max_force_eV_per_A=read('max_force_eV_per_A'),
        )


@dataclass(frozen=True)
class Eos:
    """Minimum of an equation of state.

    Parameters
    ----------
    volume_A3 : float
        Volume in Å^3.
    energy_eV : float
        Energy in eV.
    bulk_modulus_GPa : float
        Bulk modulus in GPa.
    residual_eV : float
        Root mean square of what the fit leaves, in eV.
    """

    volume_A3: float
    energy_eV: float
    bulk_modulus_GPa: float
    residual_eV: float


def eos_of(volumes_A3: NDArray, energies_eV: NDArray, span: float = 1.0) -> Eos:
    """Third-order Birch-Murnaghan equation of state (Birch, Phys. Rev. 71, 809, 1947), fitted by ASE.

    Parameters
    ----------
    volumes_A3, energies_eV : (n,) float
        Volumes, and energies of the same cell.
    span : float
        Share of its length by which a cell may differ from that of lowest energy to be fitted. A potential need not
        follow the equation far away, which would then show in the bulk modulus.

    Raises
    ------
    ValueError
        If the lowest energy lies at an end of the volumes, or the minimum of the fit beyond them.
    """
    order = np.argsort(volumes_A3)
    volumes, energies = volumes_A3[order], energies_eV[order]
    lowest = int(np.argmin(energies))
    low, high = volumes[0], volumes[-1]
    message = f'the energy has no minimum between {low:.4g} and {high:.4g} Å^3 a cell: move or widen the volumes'
    if lowest in (0, len(volumes) - 1):
        raise ValueError(message)
    near = np.abs((volumes / volumes[lowest]) ** (1 / 3) - 1) <= span + 1e-9
    volumes, energies = volumes[near], energies[near]
    state = EquationOfState(volumes, energies, eos='birchmurnaghan')
    try:
        volume, energy, modulus = state.fit(warn=False)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f'the equation of state could not be fitted: {error}') from error
    if not low < volume < high:
        raise ValueError(message)
    rest = energies - state.func(volumes, *state.eos_parameters)
    return Eos(float(volume), float(energy), float(modulus / ase.units.GPa), float(np.sqrt(np.mean(rest**2))))


def elastic_strains(strain: float) -> list[tuple[float, ...]]:
    """No strain, then xx and yz at -2, -1, 1 and 2 times `strain`: what `cubic_elastic_constants` takes, in order."""
    strains: list[tuple[float, ...]] = [(0.0,) * 6]
    for component in (0, 3):
        for factor in (-2, -1, 1, 2):
            strains.append(tuple(factor * strain if index == component else 0.0 for index in range(6)))
    return strains


def cubic_elastic_constants(stress_GPa: NDArray, strain: float) -> dict[str, float]:
    """C11, C12 and C44 of a cubic crystal from stresses, by central differences of fourth order.

    Parameters
    ----------
    stress_GPa : (9, 6) float
        Stresses at `elastic_strains(strain)`, atoms relaxed.
    strain : float
        The smaller strain.

    Returns
    -------
    dict
        `C11_GPa`, `C12_GPa`, `C44_GPa`.
    """

    def slope(stress: NDArray) -> NDArray:
        minus_2, minus_1, plus_1, plus_2 = stress
        return (8 * (plus_1 - minus_1) - (plus_2 - minus_2)) / (12 * strain)

    along, shear = slope(stress_GPa[1:5]), slope(stress_GPa[5:9])
    return {'C11_GPa': float(along[0]), 'C12_GPa': float(along[1:3].mean()), 'C44_GPa': float(shear[3])}


def surface_energy(energy_eV: float, n_atoms: int, bulk_eV: float, area_A2: float) -> float:
    """Energy of a surface in J/m^2, from a slab with two of them and the energy of an atom in the bulk.

    Parameters
    ----------
    energy_eV : float
        Energy of the slab.
    n_atoms : int
        Its atoms.
    bulk_eV : float
        Energy of an atom in the crystal at the same lattice constant.
    area_A2 : float
        Area of one surface.
    """
    return (energy_eV - n_atoms * bulk_eV) / (2 * area_A2) / (ase.units.J / ase.units.m**2)


def vacancy_formation(energy_eV: float, n_atoms: int, bulk_eV: float) -> float:
    """Energy in eV to make a vacancy at constant volume: the atom that is missing goes to the crystal.

    Parameters
    ----------
    energy_eV : float
        Energy of the crystal with the vacancy.
    n_atoms : int
        Its atoms, the one that is missing not counted.
    bulk_eV : float
        Energy of an atom in the crystal.
    """
    return energy_eV - n_atoms * bulk_eV


def _phonons(cell: Atoms, size: int, displacement_A: float) -> Phonopy:
    """Phonons of a cubic cell of bcc, its displacements made."""
    atoms = PhonopyAtoms(symbols=list(cell.symbols), scaled_positions=cell.get_scaled_positions(), cell=cell.cell.array)
    phonons = Phonopy(atoms, supercell_matrix=np.diag([size] * 3), primitive_matrix='I', log_level=0)
    phonons.generate_displacements(distance=displacement_A)
    return phonons


def displaced_crystal(cell: Atoms, size: int, displacement_A: float) -> Atoms:
    """A crystal in which one atom is displaced: all that the symmetry of bcc asks for.

    Parameters
    ----------
    cell : Atoms
        The cubic cell.
    size : int
        Cells along each edge.
    displacement_A : float
        In Å.

    Raises
    ------
    ValueError
        If the cell is not bcc, so that more displacements are needed.
    """
    crystals = _phonons(cell, size, displacement_A).supercells_with_displacements
    if crystals is None or len(crystals) != 1 or crystals[0] is None:
        raise ValueError('phonons: one displacement is enough for bcc, but this cell needs more')
    one = crystals[0]
    return Atoms(one.symbols, positions=one.positions, cell=one.cell, pbc=True)


def phonon_frequencies(cell: Atoms, size: int, displacement_A: float, forces_eV_per_A: NDArray) -> dict[str, Any]:
    """Frequencies of bcc by finite displacements (phonopy: Togo, J. Phys. Soc. Jpn. 92, 012001, 2023).

    Parameters
    ----------
    cell, size, displacement_A
        As given to `displaced_crystal`.
    forces_eV_per_A : (n_atoms, 3) float
        Forces in the displaced crystal, in its order of atoms.

    Returns
    -------
    dict
        Frequencies in THz, rising, by name of the point (`Gamma`, `N`, `H`, `P`), imaginary ones negative; `lowest`,
        the lowest of a mesh of 16 x 16 x 16 points that holds all of these, and `imaginary_share`, the share of its
        modes that are imaginary.
    """
    phonons = _phonons(cell, size, displacement_A)
    # what rounding and a net force leave would move the whole crystal
    phonons.forces = [forces_eV_per_A - forces_eV_per_A.mean(axis=0)]
    phonons.produce_force_constants()
    phonons.symmetrize_force_constants()
    phonons.run_qpoints(list(Q_POINTS.values()))
    frequencies = phonons.get_qpoints_dict()['frequencies']
    # with Gamma in it, the mesh holds N, H and P as well
    phonons.run_mesh([16, 16, 16], is_gamma_center=True)
    mesh: Any = phonons.get_mesh_dict()
    weights = np.repeat(mesh['weights'][:, None], mesh['frequencies'].shape[1], axis=1)
    imaginary = mesh['frequencies'] < IMAGINARY_BELOW_THZ
    return {
        **{name: [float(f) for f in row] for name, row in zip(Q_POINTS, frequencies, strict=True)},
        'lowest': float(mesh['frequencies'].min()),
        'imaginary_share': float(weights[imaginary].sum() / weights.sum()),
    }


@dataclass(frozen=True)
class Quantity:
    """A property: its value by the member that drives, its spread over the committee if there is one, and a remark.

    `error` is the uncertainty of a value that was measured in MD, or by bracketing. Without a value it was not
    measured, and the remark says why. `is_too_small` is true of one from a cell too small for a number to be quoted,
    whose error tells nothing of that.
    """

    unit: str
    value: float | None = None
    spread: float | None = None
    remark: str = ''
    error: float | None = None
    is_too_small: bool = False


def quantity(unit: str, by_member: Iterable[float], remark: str = '') -> Quantity:
    """A quantity from its values by member; the spread is the standard deviation over the members, as in DP-GEN."""
    values = np.array(list(by_member), dtype=float)
    spread = float(values.std()) if len(values) > 1 else None
    return Quantity(unit, float(values[0]), spread, remark)


class ReferenceValue(Settings):
    """A number from outside."""

    value: float | None = Field(default=None, description='the number, in the unit of the property')
    low: float | None = Field(default=None, description='or the lower end of several that are told')
    high: float | None = Field(default=None, description='and the upper one')
    error: float | None = Field(default=None, ge=0, description='its uncertainty, in the same unit')
    source: str = Field(min_length=1, description='where it was read, or what it was derived from; and conditions')

    @model_validator(mode='after')
    def _one_way(self) -> Self:
        is_range = self.low is not None and self.high is not None and self.low <= self.high
        if (self.value is None) != is_range or (self.value is not None and (self.low or self.high) is not None):
            raise ValueError(f'value = {self.value}, low = {self.low}, high = {self.high}: give value, or low and high')
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """Lower and upper end; both the value if it is one."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        assert self.value is not None  # noqa: S101 (the validator saw to it)
        return self.value, self.value


class Limit(Settings):
    """How far from a reference a potential may be."""

    against: Literal['pbe', 'experiment'] = Field(description='the reference that it is held against')
    absolute: float | None = Field(default=None, gt=0, description='largest deviation in the unit of the property')
    relative: float | None = Field(default=None, gt=0, description='or as a share of the reference')

    @model_validator(mode='after')
    def _one_of_both(self) -> Self:
        if (self.absolute is None) == (self.relative is None):
            raise ValueError(f'absolute = {self.absolute}, relative = {self.relative}: give one of them')
        return self

    def interval(self, reference: ReferenceValue) -> tuple[float, float]:
        """The values that pass."""
        low, high = reference.ends
        if self.absolute is not None:
            return low - self.absolute, high + self.absolute
        assert self.relative is not None  # noqa: S101 (the validator saw to it)
        return low - self.relative * abs(low), high + self.relative * abs(high)


class PropertyReference(Settings):
    """What is known of a property from outside, and the limit that a potential is held to."""

    pbe: ReferenceValue | None = Field(default=None, description='by density functional theory with PBE')
    experiment: ReferenceValue | None = Field(default=None, description='by experiment')
    limit: Limit | None = Field(default=None, description='what passes; without it nothing does and nothing fails')

    @model_validator(mode='after')
    def _limit_has_its_reference(self) -> Self:
        if self.limit is not None and getattr(self, self.limit.against) is None:
            raise ValueError(f'limit: against {self.limit.against}, of which no value is given')
        return self


def judge(quantities: Mapping[str, Quantity], references: Mapping[str, PropertyReference]) -> list[dict[str, Any]]:
    """The table: a row for each quantity, then for each reference that nothing was measured for.

    The verdict is pass, fail, undecided, `not at this size`, `no limit` or `not measured`. Nothing passes that was not
    measured, or whose error is wider than its limit, as that of a melting point between runs far apart; what comes from
    a cell too small neither passes nor fails.
    """
    rows = []
    names = [*quantities, *(name for name in references if name not in quantities)]
    for name in names:
        found = quantities.get(name, Quantity('', remark='not part of this verb'))
        known = references.get(name, PropertyReference())
        row: dict[str, Any] = {
            'property': name,
            'value': found.value,
            'unit': found.unit,
            'spread': found.spread,
            'error': found.error,
            'remark': found.remark,
            **{
                origin: None if one is None else one.model_dump(exclude_none=True)
                for origin, one in (('pbe', known.pbe), ('experiment', known.experiment))
            },
            'passes_from': None,
            'passes_to': None,
        }
        if found.value is None:
            verdict = 'not measured'
        elif known.limit is None:
            verdict = 'no limit'
        else:
            row['passes_from'], row['passes_to'] = known.limit.interval(getattr(known, known.limit.against))
            verdict = 'pass' if row['passes_from'] <= found.value <= row['passes_to'] else 'fail'
            if (
                verdict == 'pass'
                and found.error is not None
                and 2 * found.error > row['passes_to'] - row['passes_from']
            ):
                verdict = 'undecided'
            if found.is_too_small:
                verdict = 'not at this size'
        rows.append({**row, 'verdict': verdict})
    return rows


def largest_move(start: Atoms, positions_A: NDArray) -> float:
    """Largest distance in Å by which an atom moved, the mean of all taken off, to the nearest image.

    Parameters
    ----------
    start : Atoms
        Where the atoms were, and the cell.
    positions_A : (n_atoms, 3) float
        Where they are.
    """
    moved, _ = find_mic(positions_A - start.positions, start.cell, start.pbc)
    return float(np.linalg.norm(moved - moved.mean(axis=0), axis=1).max())


def humps(energies_eV: Sequence[float]) -> bool:
    """Whether a way that is symmetric about its last point is lower there than before: a saddle split in two."""
    return bool(max(energies_eV[:-1], default=-np.inf) > energies_eV[-1])


def reference_text(reference: Mapping[str, Any] | None) -> str:
    """A reference value of a row of `judge` with its error, or its range; nothing if there is none."""
    if reference is None:
        return ''
    if 'value' not in reference:
        return f'{reference["low"]:g} to {reference["high"]:g}'
    return f'{reference["value"]:g}' + (f' ± {reference["error"]:g}' if 'error' in reference else '')


def _value_text(row: Mapping[str, Any] | None) -> str:
    if row is None or row['value'] is None:
        return 'not measured'
    # tables of before had no error
    uncertainty = row.get('error') if row['spread'] is None else row['spread']
    spread = '' if uncertainty is None else f' ± {uncertainty:.2g}'
    said = {'pass': 'pass', 'fail': '**FAIL**', 'undecided': 'undecided', 'not at this size': 'not at this size'}
    mark = f' {said[row["verdict"]]}' if row['verdict'] in said else ''
    return f'{row["value"]:.4g}{spread}{mark}'


def side_by_side(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Tables of `judge` by name as one table in Markdown, with the remarks below it.

    Limits are those of the first table that has one; what passes is decided in each table by its own.
    """
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, table_rows in tables.items():
        for row in table_rows:
            rows.setdefault(row['property'], {})[name] = row
    lines = [
        '| property | unit | ' + ' | '.join(tables) + ' | PBE | experiment | passes |',
        '|' + ' --- |' * (len(tables) + 5),
    ]
    remarks: dict[str, list[str]] = {}
    for name, by_table in rows.items():
        known = list(by_table.values())
        limited = next((row for row in known if row['passes_from'] is not None), None)
        cells = [
            f'`{name}`',
            next((row['unit'] for row in known if row['unit']), ''),
            *(_value_text(by_table.get(table)) for table in tables),
            reference_text(known[0].get('pbe')),
            reference_text(known[0].get('experiment')),
            '' if limited is None else f'{limited["passes_from"]:.4g} to {limited["passes_to"]:.4g}',
        ]
        lines.append(f'| {" | ".join(cells)} |')
        for table, row in by_table.items():
            if row['remark']:
                remarks.setdefault(f'`{name}`: {row["remark"]}', []).append(table)
    told = [
        f'- {remark}' + ('' if len(where) == len(tables) else f' ({", ".join(where)})')
        for remark, where in remarks.items()
    ]
    return '\n'.join([*lines, '', *told])
