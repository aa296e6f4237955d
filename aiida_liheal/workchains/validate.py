"""The verb `validate`: what a potential says of properties that are known, and whether it passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, calcfunction
from aiida.orm import AbstractCode, ArrayData, Dict, Float, Int, Str
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from aiida_liheal.analysis.liquid import (
    MOST_SOLID,
    U_PER_A3_IN_G_PER_CM3,
    RadialDistribution,
    block_mean,
    means_of_blocks,
)
from aiida_liheal.analysis.validation import (
    Measured,
    PropertyReference,
    Quantity,
    cubic_elastic_constants,
    displaced_crystal,
    elastic_strains,
    eos_of,
    humps,
    judge,
    largest_move,
    phonon_frequencies,
    quantity,
    surface_energy,
    vacancy_formation,
)
from aiida_liheal.calculations.common import settings_validator
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.lammps.decks import validate
from aiida_liheal.lammps.kinds import LiquidSettings, RelaxSettings
from aiida_liheal.parsers.common import array_data
from aiida_liheal.sampling.campaign import Cost
from aiida_liheal.sampling.seeds import derive_seed
from aiida_liheal.structures.bcc import bcc_bulk
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.reference import (
    ReferenceSettings,
    adatom_slab,
    facet_slab,
    isolated_atom,
    phase_cell,
    vacancy_path,
)
from aiida_liheal.workchains.melt import NEIGHBOUR_CUTOFF, MeltWorkChain
from aiida_liheal.workchains.packed import PackedWorkChain, Planned, Run, outputs_of, runs_of

__all__ = (
    'Task',
    'ValidateWorkChain',
    'fit_states',
    'measure_liquid',
    'plan_liquid',
    'plan_properties',
    'plan_states',
    'tasks',
    'tell_properties',
)

#: Kinds of potential whose zero of energy is that of atoms alone. The others are fitted to energies of DFT, among which
#: there is no atom alone.
MADE_FOR_ATOMS = ('meam',)

#: An atom that moves as far as this when it is relaxed, in Å, is told of: an eighth of the distance of neighbours.
FAR_A = 0.4

#: Quantities of a liquid and their units.
LIQUID = {
    'liquid_density_g_per_cm3': 'g/cm^3',
    'liquid_peak_A': 'Å',
    'liquid_peak_height': '',
    'liquid_minimum_A': 'Å',
    'liquid_coordination': '',
    'liquid_solid_share': '',
    'liquid_temperature_K': 'K',
}
#: Stands for what the run of the liquid gets of its own.
_ANY = {'seed': 1, 'neighbour_cutoff_A': 3.96}


@dataclass(frozen=True)
class Task:
    """A structure, and what is done with it: settings of a run of kind `relax`. `area_A2` is that of a surface."""

    name: str
    atoms: Atoms
    run: dict[str, Any]
    area_A2: float = 0.0


def _state_task(settings: ReferenceSettings) -> Task:
    cell = phase_cell(settings.element, 'bcc', settings.lattice_constant_A**3 / 2)
    return Task('states', cell, {'strains': [[float(s)] * 3 + [0.0] * 3 for s in settings.eos_scales]})


def _vacancy_places(settings: ReferenceSettings) -> dict[str, float]:
    """Share of its way that the jumping atom has gone, by name of the task; a path only if it has several places."""
    shares = np.linspace(0, 0.5, settings.path_points + 1)[1:]
    path = {f'vacancy_path_{number}': float(share) for number, share in enumerate(shares)} if len(shares) > 1 else {}
    return {'vacancy_start': 0.0, 'vacancy_middle': 0.5, **path}


def tasks(settings: ReferenceSettings, lattice_constant_A: float) -> list[Task]:
    """All structures at a lattice constant in Å, but for those of the equation of state."""
    element, a = settings.element, lattice_constant_A
    relaxed = {
        'minimise': 'atoms',
        'max_force_eV_per_A': settings.max_force_eV_per_A,
        'max_steps': settings.max_steps,
    }
    bcc = phase_cell(element, 'bcc', a**3 / 2)
    found = [Task('elastic', bcc, {**relaxed, 'strains': [list(s) for s in elastic_strains(settings.strain)]})]
    for phase in settings.phases:
        found.append(Task(f'phase_{phase}', phase_cell(element, phase, a**3 / 2), {**relaxed, 'minimise': 'cell'}))
    for facet in settings.facets:
        slab, area = facet_slab(element, a, facet, settings.slab_thickness_A, settings.vacuum_A)
        found.append(Task(f'surface_{facet}', slab, relaxed, area))
    for name, share in _vacancy_places(settings).items():
        crystal, anchors = vacancy_path(element, a, settings.vacancy_size, share)
        # the vacancy itself is free to relax; in the middle nothing pushes the crystal, so that one anchor is enough
        n_held = {'vacancy_start': 0, 'vacancy_middle': 1}.get(name, len(anchors))
        held = {'fixed_atoms': [*anchors[:n_held], len(crystal) - 1]} if n_held else {}
        found.append(Task(name, crystal, {**relaxed, **held}))
    for site in ('hollow', 'bridge'):
        slab, fixed = adatom_slab(element, a, settings.adatom_size, settings.adatom_layers, settings.vacuum_A, site)
        # on the bridge nothing draws the adatom aside, by symmetry
        held = {'fixed_atoms': fixed} | ({'upright_atoms': [len(slab) - 1]} if site == 'bridge' else {})
        found.append(Task(f'adatom_{site}', slab, {**relaxed, **held}))
    found.append(Task('phonons', displaced_crystal(bcc, settings.phonon_size, settings.displacement_A), {}))
    found.append(Task('atom', isolated_atom(element), {}))
    return found


def _planned(told: list[Task], seed: int) -> tuple[Frames, list[dict[str, Any]]]:
    runs = [
        {**task.run, 'structure': number, 'seed': derive_seed(seed, 'validate', task.name)}
        for number, task in enumerate(told)
    ]
    return Frames.from_atoms([task.atoms for task in told]), runs


def _plan(told: list[Task], seed: int) -> dict[str, Any]:
    frames, runs = _planned(told, seed)
    return {
        'structures': FramesData(frames, domain='validate'),
        'settings': Dict({'kind': 'relax', 'runs': runs}),
    }


@calcfunction
def plan_states(settings: Dict, seed: Int) -> dict[str, Any]:
    """The bcc cell, and the run that goes through the volumes of its equation of state."""
    return _plan([_state_task(ReferenceSettings.read(settings.get_dict()))], seed.value)


@calcfunction
def fit_states(settings: Dict, n_members: Int, **nodes: Any) -> Dict:
    """Equation of state by each member: `members`, lists of its numbers; or `cause`, why there is none."""
    reference = ReferenceSettings.read(settings.get_dict())
    (run,) = runs_of(nodes)
    if not run.is_finished:
        return Dict({'cause': run.fault, 'is_failed': True})
    try:
        found = Measured.from_values(run.record.get('values', {}), n_members.value, reference.n_eos)
        states = [
            eos_of(found.volume_A3[m], found.energy_eV[m], reference.eos_fit_span) for m in range(n_members.value)
        ]
    except ValueError as error:
        return Dict({'cause': str(error), 'is_failed': False})
    told: dict[str, Any] = {
        'volume_A3': found.volume_A3[0].tolist(),
        'energy_eV': found.energy_eV.tolist(),
        'members': [asdict(state) for state in states],
        'lattice_constant_A': [state.volume_A3 ** (1 / 3) for state in states],
    }
    return Dict(told)


@calcfunction
def plan_properties(settings: Dict, states: Dict, seed: Int) -> dict[str, Any]:
    """All other structures at the lattice constant of the member that drives, and their runs."""
    reference = ReferenceSettings.read(settings.get_dict())
    return _plan(tasks(reference, states['lattice_constant_A'][0]), seed.value)


def _planned_liquid(
    reference: ReferenceSettings, settings: Mapping[str, Any], lattice_constant_A: float, seed: int
) -> tuple[Frames, list[dict[str, Any]]]:
    validate('liquid', settings, _ANY)
    crystal = bcc_bulk(reference.element, lattice_constant_A, (reference.liquid_size,) * 3)
    run = {
        **settings,
        'structure': 0,
        'seed': derive_seed(seed, 'validate', 'liquid'),
        'neighbour_cutoff_A': round(NEIGHBOUR_CUTOFF * lattice_constant_A, 4),
    }
    return Frames.from_atoms([crystal]), [run]


@calcfunction
def plan_liquid(settings: Dict, liquid: Dict, states: Dict, seed: Int) -> dict[str, Any]:
    """The crystal that is melted, at the lattice constant of the member that drives, and the run of it."""
    reference = ReferenceSettings.read(settings.get_dict())
    frames, runs = _planned_liquid(reference, liquid.get_dict(), states['lattice_constant_A'][0], seed.value)
    return {
        'structures': FramesData(frames, domain='validate'),
        'settings': Dict({'kind': 'liquid', 'runs': runs}),
    }


def _with_error(name: str, blocks: NDArray, remark: str = '') -> Quantity:
    value, error = block_mean(blocks)
    return Quantity(LIQUID[name], value, remark=remark, error=error)


def _liquid_of(run: Run, mass_u: float) -> tuple[dict[str, Quantity], dict[str, NDArray]]:
    """Quantities of a liquid, and its radial distribution as arrays. Raises ValueError if it cannot be measured."""
    if not run.is_finished:
        raise ValueError(f'its run failed: {run.fault}')
    asked = cast(LiquidSettings, validate('liquid', {k: v for k, v in run.settings.items() if k != 'structure'}))
    times, from_ps = run.thermo['time_ps'], asked.measured_from_step * asked.timestep_ps
    n_atoms = float(run.thermo['n_atoms'][-1])

    def blocks(column: str) -> NDArray:
        return means_of_blocks(times, run.thermo[column], from_ps, asked.n_blocks)

    solid = blocks('solid_share')
    quantities = {
        'liquid_solid_share': _with_error('liquid_solid_share', solid, 'by bond order'),
        'liquid_temperature_K': _with_error('liquid_temperature_K', blocks('temperature_K')),
    }
    if solid.max() > MOST_SOLID:
        cause = f'no liquid: {solid.max():.0%} of the atoms are solid; melt it longer or hotter'
        return quantities | {
            name: Quantity(unit, remark=cause) for name, unit in LIQUID.items() if name not in quantities
        }, {}
    volumes = blocks('volume_A3')
    remark = f'at {asked.temperature_K:g} K and {asked.pressure_bar:g} bar, {n_atoms:.0f} atoms'
    quantities['liquid_density_g_per_cm3'] = _with_error(
        'liquid_density_g_per_cm3', n_atoms * mass_u / volumes * U_PER_A3_IN_G_PER_CM3, remark
    )
    found = RadialDistribution.from_values(
        run.record.get('values', {}), asked.rdf_reach_A, asked.n_bins, asked.n_blocks
    )
    others = (n_atoms - 1) / float(volumes.mean())
    arrays = {
        'radius_A': found.radii_A,
        'g': found.mean,
        'g_error': found.error,
        'outer_radius_A': found.edges_A[1:],
        'coordination': found.coordination(others),
    }
    try:
        shell = found.first_shell(others)
        by_block = found.shells_of_blocks(others)
    except ValueError as error:
        missing = {name: Quantity(unit, remark=str(error)) for name, unit in LIQUID.items() if name not in quantities}
        return quantities | missing, arrays
    for name, key in (
        ('liquid_peak_A', 'peak_A'),
        ('liquid_peak_height', 'peak_height'),
        ('liquid_minimum_A', 'minimum_A'),
        ('liquid_coordination', 'coordination'),
    ):
        values = np.array([getattr(one, key) for one in by_block])
        told = block_mean(values)[1] if len(values) > 1 else None
        remark = 'g(r) integrated up to its first minimum' if key == 'coordination' else ''
        quantities[name] = Quantity(LIQUID[name], getattr(shell, key), remark=remark, error=told)
    return quantities, arrays


@calcfunction
def measure_liquid(settings: Dict, **nodes: Any) -> dict[str, Any]:
    """Density and radial distribution of the liquid from the nodes of its job: `summary`, and `radial` if there is."""
    element = ReferenceSettings.read(settings.get_dict()).element
    (run,) = runs_of(nodes)
    arrays: dict[str, NDArray] = {}
    try:
        quantities, arrays = _liquid_of(run, float(atomic_masses[atomic_numbers[element]]))
    except ValueError as error:
        quantities = {name: Quantity(unit, remark=str(error)) for name, unit in LIQUID.items()}
    summary = Dict(
        {
            'status': run.record.get('status', 'missing'),
            'cause': '' if run.is_finished else run.fault,
            'quantities': {name: asdict(quantities[name]) for name in LIQUID},
        }
    )
    return {'summary': summary, **({'radial': array_data(arrays)} if arrays else {})}


def _melting(summary: Mapping[str, Any]) -> Quantity:
    """The melting point as `liheal.melt` found it."""
    size = f'{summary["n_atoms"]} atoms' + ('' if summary['is_large_enough_to_quote'] else ', too few to quote')
    if 'melting_point_K' in summary:
        remark = f'by coexistence: freezes at {summary["low_K"]:g} K, melts at {summary["high_K"]:g} K; {size}'
        return Quantity(
            'K',
            summary['melting_point_K'],
            remark=remark,
            error=summary['half_width_K'],
            is_too_small=not summary['is_large_enough_to_quote'],
        )
    ends = ['?' if summary[key] is None else f'{summary[key]:g}' for key in ('low_K', 'high_K')]
    return Quantity('K', remark=f'not bracketed: between {ends[0]} and {ends[1]} K after {summary["rounds"]} rounds')


class _Results:
    """What the runs of all tasks gave, by name of the task."""

    def __init__(self, told: list[Task], runs: list[Run], frames: list[Frames | None], n_members: int) -> None:
        self.tasks = {task.name: task for task in told}
        self.runs = dict(zip(self.tasks, runs, strict=True))
        self.frames = dict(zip(self.tasks, frames, strict=True))
        self.n_members = n_members
        self.failed = {name: run.fault for name, run in self.runs.items() if not run.is_finished}

    def measured(self, name: str) -> Measured:
        """Numbers of one task. Raises ValueError if its run failed."""
        if name in self.failed:
            raise ValueError(f'its run failed: {self.failed[name]}')
        n_strains = len(self.tasks[name].run.get('strains', [None]))
        return Measured.from_values(self.runs[name].record.get('values', {}), self.n_members, n_strains)

    def energy_eV(self, name: str) -> Any:  # noqa: N802 (the unit)
        """Energies by member."""
        return self.measured(name).energy_eV[:, 0]

    def moved(self, *names: str) -> str:
        """A remark if atoms moved far when they were relaxed; an adatom, placed by a guess, is left out."""
        told = []
        for name in names:
            frame, atoms = self.frames[name], self.tasks[name].atoms
            if frame is not None:
                n = len(atoms) - name.startswith('adatom')
                move = largest_move(atoms[:n], frame.positions[:n])
                told += [f'{move:.2f} Å ({name})'] if move > FAR_A else []
        return f'when relaxed, atoms moved by up to {", ".join(told)}' if told else ''

    def n_atoms(self, name: str) -> int:
        """Atoms of one task."""
        return len(self.tasks[name].atoms)

    def not_relaxed(self) -> list[str]:
        """Tasks of which some member is not relaxed."""
        found = []
        for name, run in self.runs.items():
            asked = validate('relax', {key: value for key, value in run.settings.items() if key != 'structure'})
            assert isinstance(asked, RelaxSettings)  # noqa: S101 (its kind says so)
            if name in self.failed or asked.minimise == 'none':
                continue
            numbers = self.measured(name)
            rough = (numbers.max_force_eV_per_A > asked.max_force_eV_per_A).any()
            pressed = asked.minimise == 'cell' and (np.abs(numbers.stress_GPa[..., :3]) > asked.max_pressure_GPa).any()
            if rough or pressed:
                found.append(name)
        return found


def _joined(*remarks: str) -> str:
    return '; '.join(filter(None, remarks))


def _crystal(states: Mapping[str, Any]) -> dict[str, Quantity]:
    members = states['members']
    return {
        'lattice_constant_A': quantity('Å', states['lattice_constant_A']),
        'bulk_modulus_GPa': quantity('GPa', [state['bulk_modulus_GPa'] for state in members]),
    }


def _elastic(found: _Results, settings: ReferenceSettings) -> dict[str, Quantity]:
    stress = found.measured('elastic').stress_GPa
    by_member = [cubic_elastic_constants(stress[m], settings.strain) for m in range(found.n_members)]
    constants = {name: quantity('GPa', [one[name] for one in by_member]) for name in by_member[0]}
    shear = [(one['C11_GPa'] - one['C12_GPa']) / 2 for one in by_member]
    bulk = [(one['C11_GPa'] + 2 * one['C12_GPa']) / 3 for one in by_member]
    constants['bulk_modulus_from_C_GPa'] = quantity(
        'GPa', bulk, '(C11 + 2 C12) / 3; the equation of state should agree'
    )
    return {**constants, 'C_prime_GPa': quantity('GPa', shear, '(C11 - C12) / 2')}


def _cohesion(
    found: _Results, states: Mapping[str, Any], kind: str, atom_energy_eV: float | None
) -> dict[str, Quantity]:
    bulk = np.array([state['energy_eV'] / 2 for state in states['members']])
    if atom_energy_eV is not None:
        told = quantity('eV', atom_energy_eV - bulk, f'against an atom of {atom_energy_eV:g} eV, as given')
    elif kind in MADE_FOR_ATOMS:
        told = quantity('eV', found.energy_eV('atom') - bulk)
    else:
        told = Quantity('eV', remark=f'no meaning for a {kind} potential, which has seen no atom alone')
    return {'cohesive_energy_eV': told}


def _phase(found: _Results, phase: str, states: Mapping[str, Any]) -> dict[str, Quantity]:
    name = f'phase_{phase}'
    numbers, n = found.measured(name), found.n_atoms(name)
    bulk = np.array([state['energy_eV'] / 2 for state in states['members']])
    above = quantity('meV/atom', 1000 * (numbers.energy_eV[:, 0] / n - bulk), 'above bcc, both at zero pressure')
    return {
        f'{name}_meV_per_atom': above,
        f'{name}_volume_A3_per_atom': quantity('Å^3/atom', numbers.volume_A3[:, 0] / n),
    }


def _surface(found: _Results, facet: str) -> dict[str, Quantity]:
    name = f'surface_{facet}'
    # at the same lattice constant, by the same member
    bulk = found.energy_eV('elastic') / found.n_atoms('elastic')
    energies = [
        surface_energy(float(e), found.n_atoms(name), float(b), found.tasks[name].area_A2)
        for e, b in zip(found.energy_eV(name), bulk, strict=True)
    ]
    return {f'{name}_J_per_m2': quantity('J/m^2', energies, found.moved(name))}


def _vacancy(found: _Results, settings: ReferenceSettings) -> dict[str, Quantity]:
    bulk = found.energy_eV('elastic') / found.n_atoms('elastic')
    start, middle = found.energy_eV('vacancy_start'), found.energy_eV('vacancy_middle')
    n = found.n_atoms('vacancy_start')
    formation = [vacancy_formation(float(e), n, float(b)) for e, b in zip(start, bulk, strict=True)]
    names = list(_vacancy_places(settings))
    # on the way more atoms are held: these energies are compared with each other only
    path = np.array([found.energy_eV(name) for name in names[2:]] or [middle])
    remark = 'the middle of the way is lower than points before it' if humps(path[:, 0].tolist()) else ''
    migration = middle - start + path.max(axis=0) - path[-1]
    return {
        'vacancy_formation_eV': quantity('eV', formation, _joined('at constant volume', found.moved(names[0]))),
        'vacancy_migration_eV': quantity('eV', migration, _joined(remark, found.moved(*names))),
    }


def _adatom(found: _Results) -> dict[str, Quantity]:
    barrier = found.energy_eV('adatom_bridge') - found.energy_eV('adatom_hollow')
    remark = _joined('over the bridge between two hollows', found.moved('adatom_hollow', 'adatom_bridge'))
    return {'adatom_hop_100_eV': quantity('eV', barrier, remark)}


def _phonons(found: _Results, settings: ReferenceSettings, lattice_constant_A: float) -> dict[str, Quantity]:
    found.measured('phonons')
    frame = found.frames['phonons']
    if frame is None or frame.forces is None:
        raise ValueError('its run gave no forces')
    cell = phase_cell(settings.element, 'bcc', lattice_constant_A**3 / 2)
    told = phonon_frequencies(cell, settings.phonon_size, settings.displacement_A, frame.forces)
    names = {'N': ('N_1', 'N_2', 'N_3'), 'H': ('H',), 'P': ('P',)}
    quantities: dict[str, Quantity] = {}
    for point, modes in names.items():
        # at H and P all three are the same
        values = told[point] if len(modes) == 3 else [float(np.mean(told[point]))]
        quantities |= {f'phonon_{m}_THz': Quantity('THz', v) for m, v in zip(modes, values, strict=True)}
    gamma = f'acoustic modes at Gamma: {", ".join(f"{f:.3f}" for f in told["Gamma"])} THz'
    quantities['phonon_lowest_THz'] = Quantity('THz', told['lowest'], remark=gamma)
    quantities['phonon_imaginary_share'] = Quantity('', told['imaginary_share'], remark='of all modes of the zone')
    return quantities


@calcfunction
def tell_properties(
    settings: Dict, references: Dict, states: Dict, driver: PotentialData, n_members: Int, **nodes: Any
) -> dict[str, Dict]:
    """Every property with its unit and spread, and the table that holds it against the references.

    Nodes are settings, results and last frames of the jobs; `atom_energy_eV` if it was given; `liquid` and `melting`,
    the summaries of these, if they were asked for, and `melting_fault`, why the search for the melting point failed.
    """
    reference, fits = ReferenceSettings.read(settings.get_dict()), states.get_dict()
    atom_energy, liquid, melting, fault = (
        nodes.pop(name, None) for name in ('atom_energy_eV', 'liquid', 'melting', 'melting_fault')
    )
    a = fits['lattice_constant_A'][0]
    found = _Results(tasks(reference, a), runs_of(nodes), _frames_of(nodes), n_members.value)
    failed = dict(found.failed)
    if liquid is not None and liquid['cause']:
        failed['liquid'] = liquid['cause']
    if fault is not None:
        failed['melting'] = fault.value
    quantities = _crystal(fits)
    groups: list[tuple[tuple[str, ...], str, Any]] = [
        (('C11_GPa', 'C12_GPa', 'C44_GPa', 'C_prime_GPa'), 'GPa', lambda: _elastic(found, reference)),
        (
            ('cohesive_energy_eV',),
            'eV',
            lambda: _cohesion(found, fits, driver.kind, None if atom_energy is None else atom_energy.value),
        ),
        *(
            ((f'phase_{phase}_meV_per_atom',), 'meV/atom', lambda phase=phase: _phase(found, phase, fits))
            for phase in reference.phases
        ),
        *(
            ((f'surface_{facet}_J_per_m2',), 'J/m^2', lambda facet=facet: _surface(found, facet))
            for facet in reference.facets
        ),
        (('vacancy_formation_eV', 'vacancy_migration_eV'), 'eV', lambda: _vacancy(found, reference)),
        (('adatom_hop_100_eV',), 'eV', lambda: _adatom(found)),
        (('phonon_lowest_THz', 'phonon_imaginary_share'), 'THz', lambda: _phonons(found, reference, a)),
    ]
    for names, unit, tell in groups:
        try:
            quantities |= tell()
        except ValueError as error:
            quantities |= {name: Quantity(unit, remark=str(error)) for name in names}
    if melting is not None:
        quantities['melting_point_K'] = _melting(melting.get_dict())
    else:
        cause = 'not asked for: give `melting`, overrides of `liheal.melt` ({} for its protocol); it costs hours'
        quantities['melting_point_K'] = Quantity('K', remark=failed.get('melting', cause))
    if liquid is not None:
        quantities |= {name: Quantity(**one) for name, one in liquid['quantities'].items()}
    else:
        cause = 'not asked for: give `liquid`, settings of a run of kind liquid'
        quantities['liquid_density_g_per_cm3'] = Quantity('g/cm^3', remark=cause)
    known = {name: PropertyReference.read(values) for name, values in references.get_dict().items()}
    rows = judge(quantities, known)
    verdicts = [row['verdict'] for row in rows]
    properties = {
        'quantities': {name: asdict(one) for name, one in quantities.items()},
        'failed': failed,
        'not_relaxed': found.not_relaxed(),
        'n_members': n_members.value,
        'potential': {'kind': driver.kind, 'uuid': str(driver.uuid), 'label': driver.label},
    }
    table = {'rows': rows, 'counts': {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}}
    return {'properties': Dict(properties), 'table': Dict(table)}


def _frames_of(nodes: Mapping[str, Any]) -> list[Frames | None]:
    """The last frame of every run in the order of `runs_of`; None where there is none."""
    found: list[Frames | None] = []
    for key in sorted(key for key in nodes if key.startswith('settings_')):
        last: list[Frames | None] = [None] * len(nodes[key]['runs'])
        shard = nodes.get(f'frames_{key.removeprefix("settings_")}')
        if shard is not None:
            frames = shard.get_frames()
            for index, run in enumerate(frames.extra['run']):
                last[int(run)] = frames.select([index])
        found += last
    return found


class ValidateWorkChain(PackedWorkChain):
    """Measure the properties of a potential that are known from elsewhere, each by every member of a committee."""

    _protocol_name = 'validate'

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        spec.input(
            'settings',
            valid_type=Dict,
            default=lambda: Dict({}),
            validator=settings_validator(ReferenceSettings),
            help='Sizes and deformations of the structures; keys carry their units (see `ReferenceSettings`).',
        )
        spec.input(
            'references',
            valid_type=Dict,
            validator=cls._validate_references,
            help='By property: values by PBE and experiment with their sources, and the limit (`PropertyReference`).',
        )
        spec.input(
            'atom_energy_eV',
            valid_type=Float,
            required=False,
            help='Energy of an atom alone in eV, by the method that the potential was fitted to.',
        )
        spec.input(
            'liquid',
            valid_type=Dict,
            required=False,
            help='Settings of the run of the liquid, without seed and neighbour_cutoff_A (kind `liquid`); without them '
            'the liquid is not measured.',
        )
        spec.expose_inputs(
            MeltWorkChain,
            namespace='melting',
            include=('crystal', 'search', 'settings', 'runs_per_job'),
            namespace_options={
                'required': False,
                'populate_defaults': False,
                'help': 'Inputs of `liheal.melt`; without them the melting point is not looked for.',
            },
        )
        spec.outline(cls.run_states, cls.run_properties, cls.results)
        spec.output('states', valid_type=Dict, required=False, help='Equation of state of bcc by each member.')
        spec.output('structures', valid_type=FramesData, required=False, help='Starts of all other runs.')
        spec.output(
            'properties',
            valid_type=Dict,
            required=False,
            help='`quantities`: value, unit, spread over the committee and remark; what failed or is not relaxed.',
        )
        spec.output(
            'table',
            valid_type=Dict,
            required=False,
            help='`rows`: each property by its references: pass, fail, undecided, not at this size, no limit or not '
            'measured; `counts` of these.',
        )
        spec.output(
            'liquid.summary',
            valid_type=Dict,
            required=False,
            help='`quantities` of the liquid with their errors by blocks of time; how its run ended.',
        )
        spec.output(
            'liquid.radial',
            valid_type=ArrayData,
            required=False,
            help='g(r) of the liquid: radius_A, g, g_error by shell; coordination up to outer_radius_A.',
        )
        spec.expose_outputs(
            MeltWorkChain,
            namespace='melting',
            include=('summary', 'courses'),
            namespace_options={'required': False},
        )
        spec.exit_code(
            320, 'ERROR_NO_MINIMUM', message='{cause}; give settings.lattice_constant_A or settings.eos_span in accord'
        )
        spec.exit_code(
            510,
            'ERROR_NOT_RELAXED',
            message='not relaxed after settings.max_steps steps: {names}; allow more. The outputs hold all numbers',
        )

    @staticmethod
    def _validate_references(node: Dict, _: Any) -> str | None:
        for name, values in node.get_dict().items():
            if not isinstance(values, dict):
                return f'{name}: {values!r} is no group of references; see `PropertyReference`'
            try:
                PropertyReference.read(values)
            except ValueError as error:
                return f'{name}: {error}'
        return None

    @classmethod
    def planned(cls, inputs: Mapping[str, Any]) -> Iterator[Planned]:
        """The equation of state, then everything at the lattice constant that is given, and the first melting runs."""
        yield from cls._planned_itself(inputs)
        if inputs.get('melting'):
            yield from MeltWorkChain.planned(inputs['melting'])

    @classmethod
    def _planned_itself(cls, inputs: Mapping[str, Any]) -> Iterator[Planned]:
        """All runs but those of the melting point."""
        settings = ReferenceSettings.read(inputs['settings'].get_dict())
        for told in ([_state_task(settings)], tasks(settings, settings.lattice_constant_A)):
            frames, runs = _planned(told, 1)
            yield Planned('relax', runs, frames)
        if 'liquid' in inputs:
            frames, runs = _planned_liquid(settings, inputs['liquid'].get_dict(), settings.lattice_constant_A, 1)
            yield Planned('liquid', runs, frames)

    @classmethod
    def _validate_inputs(cls, inputs: dict[str, Any], context: Any) -> str | None:
        """The checks of the jobs, and of the search for the melting point as it will be started."""
        said = super()._validate_inputs(inputs, context)
        if said is None and inputs.get('melting') and {'potentials', 'lammps'} <= set(inputs):
            said = MeltWorkChain._validate_inputs(cls._melting_inputs(inputs), None)
        return said

    @staticmethod
    def _melting_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs of the search for the melting point: its own, and the potentials, code and seed of this verb."""
        return {**inputs['melting'], **{name: inputs[name] for name in ('potentials', 'lammps', 'seed')}}

    @classmethod
    def cost(cls, builder: ProcessBuilder) -> Cost:
        """Atoms and steps of all runs at most: a search for the melting point may close in before its last round."""
        inputs = builder._inputs(prune=True)
        itself = cls.cost_of(cls._planned_itself(inputs))
        return itself + MeltWorkChain.cost(builder.melting) if inputs.get('melting') else itself

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, AbstractCode],
        potentials: Mapping[str, PotentialData] | PotentialData,
        seed: int = 0,
        protocol: str | None = None,
        overrides: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> ProcessBuilder:
        """A builder with the settings of a protocol; see `ProtocolMixin` for what all of them take.

        Parameters
        ----------
        codes : mapping of str to Code
            `lmp`.
        potentials : PotentialData or mapping of str to PotentialData
            One potential, or a committee m0, m1, …: its values are those of the first one, with the spread of all.
        seed : int
            Of the liquid and the melting runs; of no effect on anything else.
        overrides : dict, optional
            Laid over the protocol: `settings`, `references`, `atom_energy_eV`, `liquid` and `melting` (null for none),
            `runs_per_job`, `limits`. `melting` holds overrides of `liheal.melt`, laid over its protocol of the same
            name, or over that which its key `protocol` names.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        builder = cls._packed_builder(codes, potentials, inputs, seed, options)
        builder.settings = Dict(inputs['settings'])
        builder.references = Dict(inputs['references'])
        if inputs['atom_energy_eV'] is not None:
            builder.atom_energy_eV = Float(inputs['atom_energy_eV'])
        if inputs['liquid'] is not None:
            builder.liquid = Dict(inputs['liquid'])
        if inputs['melting'] is not None:
            theirs = {'protocol': protocol or cls.get_default_protocol(), **inputs['melting']}
            if 'limits' in theirs:
                raise ValueError('melting: limits: those of this verb hold there as well; give them beside it')
            melting = MeltWorkChain.get_protocol_inputs(theirs.pop('protocol'), theirs)
            for name in ('crystal', 'search', 'settings'):
                setattr(builder.melting, name, Dict(melting[name]))
            builder.melting.runs_per_job = Int(melting['runs_per_job'])
        return builder

    @classmethod
    def plan(cls, builder: ProcessBuilder) -> list[tuple[str, str, str]]:
        """What would be run, for a dry run: name, how many, remark."""
        settings = ReferenceSettings.read(builder.settings.get_dict())
        told = tasks(settings, settings.lattice_constant_A)
        size, counts = builder.runs_per_job.value, [len(task.atoms) for task in told]
        inputs = builder._inputs(prune=True)
        rows = [
            ('jobs', str(1 + -(-len(told) // size) + ('liquid' in inputs)), f'at most {size} runs each'),
            ('runs', str(1 + len(told)), f'{min(counts)} to {max(counts)} atoms, at most {settings.max_steps} steps'),
            ('volumes', str(settings.n_eos), 'of the equation of state, in one run'),
        ]
        if 'liquid' in inputs:
            n_steps = validate('liquid', builder.liquid.get_dict(), _ANY).n_steps
            rows.append(('liquid', '1', f'{2 * settings.liquid_size**3} atoms, {n_steps} steps'))
        if inputs.get('melting'):
            rows += [
                (f'melting: {name}', number, remark) for name, number, remark in MeltWorkChain.plan(builder.melting)
            ]
        return rows

    def _n_members(self) -> Int:
        return Int(len(self.inputs.potentials))

    def run_states(self) -> Any:
        """Go through the volumes of the equation of state."""
        plan = plan_states(self.inputs.settings, self.inputs.seed)
        return self.submit_runs('states', plan['structures'], plan['settings'])

    def run_properties(self) -> Any:
        """Build everything else at the lattice constant found, and run it."""
        states = fit_states(self.inputs.settings, self._n_members(), **outputs_of(dict(self.ctx.states)))
        self.ctx.fits = states
        cause = states.get_dict().get('cause')
        if cause is not None:
            self.attach_flags()
            if states['is_failed']:
                return self.exit_codes.ERROR_JOB_FAILED.format(causes=f'equation of state: {cause}')
            return self.exit_codes.ERROR_NO_MINIMUM.format(cause=cause)
        self.out('states', states)
        self.report(f'lattice constant {states["lattice_constant_A"][0]:.4f} Å')
        plan = plan_properties(self.inputs.settings, states, self.inputs.seed)
        self.out('structures', plan['structures'])
        awaited = self.submit_runs('properties', plan['structures'], plan['settings'])
        if 'liquid' in self.inputs:
            plan = plan_liquid(self.inputs.settings, self.inputs.liquid, states, self.inputs.seed)
            awaited |= self.submit_runs('liquid', plan['structures'], plan['settings'], goes_on=True)
        if self.inputs.get('melting'):
            search = self.submit(
                MeltWorkChain, **self._melting_inputs(self.inputs), metadata={'call_link_label': 'melting'}
            )
            self.report(f'melting point: {search.process_label}<{search.pk}>')
            awaited |= ToContext(melting=search)
        return awaited

    def results(self) -> ExitCode | None:
        """Tell the properties and hold them against the references."""
        self.attach_flags()
        jobs = dict(self.ctx.properties)
        nodes = outputs_of(jobs)
        nodes |= {
            f'frames_{name}': job.outputs.last_frames for name, job in jobs.items() if 'last_frames' in job.outputs
        }
        if 'atom_energy_eV' in self.inputs:
            nodes['atom_energy_eV'] = self.inputs.atom_energy_eV
        if 'liquid' in self.ctx:
            liquid = measure_liquid(self.inputs.settings, **outputs_of(dict(self.ctx.liquid)))
            nodes['liquid'] = liquid['summary']
            for name, node in liquid.items():
                self.out(f'liquid.{name}', node)
        if 'melting' in self.ctx:
            search = self.ctx.melting
            self.out_many(self.exposed_outputs(search, MeltWorkChain, namespace='melting'))
            if 'summary' in search.outputs:
                nodes['melting'] = search.outputs.summary
            if not search.is_finished_ok:
                nodes['melting_fault'] = Str(search.exit_message or f'{search.process_label}<{search.pk}> broke off')
        told = tell_properties(
            self.inputs.settings,
            self.inputs.references,
            self.ctx.fits,
            self.inputs.potentials[min(self.inputs.potentials, key=lambda name: (len(name), name))],
            self._n_members(),
            **nodes,
        )
        for name, node in told.items():
            self.out(name, node)
        properties = told['properties'].get_dict()
        if properties['failed']:
            causes = '; '.join(f'{name}: {cause}' for name, cause in properties['failed'].items())
            return self.exit_codes.ERROR_JOB_FAILED.format(causes=causes)
        if properties['not_relaxed']:
            return self.exit_codes.ERROR_NOT_RELAXED.format(names=', '.join(properties['not_relaxed']))
        return None
