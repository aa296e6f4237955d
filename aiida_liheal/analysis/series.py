"""The analysis of a run from its dumps: time series, profiles and snapshots in one pass."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ovito
from numpy.typing import NDArray
from ovito.data import DataCollection

from .contacts import Contacts
from .dendrites import Dendrite, dendrite_row, deposit_row, find_dendrites, ground_level_A
from .flux import Landings, local_current
from .members import member_frames, site_energies
from .mobility import Mobility
from .phases import STRUCTURES, atoms_inside, averaged_positions, neighbour_counts, shares, structure_types
from .profiles import HeightProfile, Slices, film_height_A, sum_slices, temperature_K
from .results import QUANTITIES, AnalysisResult
from .settings import AnalysisSettings
from .sites import sites_of
from .surface import HeightMap, corrugation_A, defect_depth, height_map
from .trajectory import Frame, Reader, Trajectory
from .vacuum import atoms_in_flight, heights, open_at_vacuum
from .voids import Voids, healed_at_ps, measure_voids

#: Facets whose ideal surface is a baseline of the roughness.
_FACETS: tuple[Literal['100', '110', '111'], ...] = ('100', '110', '111')
#: Atoms this close to one of a surface are not «inside»: between the first two bcc shells, in lattice constants.
SURFACE_REACH = (3**0.5 / 2 + 1) / 2


def analyse_trajectory(
    paths: Sequence[str | Path],
    settings: AnalysisSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AnalysisResult:
    """Analyse a run.

    Memory holds one frame (`average_frames` of them if positions are averaged), whatever the length of the run; with
    `n_workers` each of them holds that much. The numbers do not depend on their number. Workers are new processes that
    import the module that was started: a script that asks for them keeps its work under `if __name__ == '__main__':`.

    Parameters
    ----------
    paths : sequence of paths
        The dumps of the run in the order in which they were written, one for each (re)start. Text format with the
        columns `id`, `x`, `y`, `z` and, for temperatures and energies, `vx`, `vy`, `vz` and `c_pe`.
    settings : AnalysisSettings, optional
        The defaults if not given.
    progress : callable, optional
        Called with the frames done and their total number, at the start and after each frame.

    Raises
    ------
    TrajectoryError
        If a dump is missing, damaged or without the columns, or no dump has a complete frame.
    ValueError
        If mobility was asked for, and the run has too few frames or not the same atoms in each.
    RuntimeError
        If a worker was killed.
    """
    settings = settings or AnalysisSettings()
    trajectory = Trajectory.index(paths)
    picked = sorted({*range(0, len(trajectory), settings.every), len(trajectory) - 1})
    reader = Reader(trajectory)
    run = _Run(settings, trajectory, picked, reader.frame(picked[0]))
    if progress is not None:
        progress(0, len(picked))
    n_workers = min(settings.n_workers, len(picked))
    measured = _in_workers(run.plan, picked, n_workers) if n_workers > 1 else _measure_all(run.plan, reader, picked)
    for frame in measured:
        run.add(frame)
        if progress is not None:
            progress(len(run.rows), len(picked))
    return run.result(trajectory)


@dataclass(frozen=True)
class _Plan:
    """What has to be known to measure a frame: the start of the run, and the picked frames that give more."""

    settings: AnalysisSettings
    trajectory: Trajectory
    inside_ids: NDArray
    fixed_ids: NDArray
    #: Atoms that were there, those in flight apart.
    start_ids: NDArray
    first: int
    last: int
    profile_from: int
    #: Height z in Å of the highest layer that dendrites stand on; None: they are not looked for.
    ground_A: float | None


@dataclass(frozen=True)
class _Measured:
    """What one frame gives."""

    row: dict[str, float]
    void_volumes_A3: NDArray | None
    slices: Slices | None
    snapshot: dict[str, NDArray]
    #: Identifiers and positions of the atoms that landed since the start.
    landed: tuple[NDArray, NDArray]
    #: Positions, cell, periodic directions and atoms in flight, for mobility.
    places: tuple[NDArray, NDArray, NDArray, NDArray] | None
    dendrites: _Standing | None


@dataclass(frozen=True)
class _Standing:
    """The dendrites of a frame, and what they were found in."""

    ids: NDArray
    positions: NDArray
    cell: NDArray
    pbc: NDArray
    matter: NDArray
    found: tuple[Dendrite, ...]

    @classmethod
    def of(cls, frame: Frame, opened: DataCollection, matter: NDArray, plan: _Plan) -> _Standing:
        positions = np.array(opened.particles.positions)
        pbc = np.array(opened.cell.pbc, dtype=bool)
        found = find_dendrites(positions, frame.cell, pbc, matter, plan.ground_A, plan.settings.dendrites)
        return cls(frame.ids, positions, frame.cell, pbc, matter, found)


@dataclass(frozen=True)
class _Surfaces:
    """Where matter ends: its voids, and the atoms away from all surfaces."""

    voids: Voids
    inside: NDArray

    @classmethod
    def of(cls, opened: DataCollection, matter: NDArray, settings: AnalysisSettings) -> _Surfaces:
        voids = measure_voids(opened, matter, settings.void_probe_radius_A)
        reach_A = SURFACE_REACH * settings.lattice_constant_A
        return cls(voids, atoms_inside(opened, matter, voids.surface, reach_A))


def _matter_of(frame: Frame, settings: AnalysisSettings) -> tuple[NDArray, DataCollection]:
    """Atoms that are not in flight, and the frame opened at vacuum."""
    matter = ~atoms_in_flight(frame.data, settings.landing_distance_A, settings.flight_cluster_share)
    return matter, open_at_vacuum(frame.data, matter, settings.vacuum_gap_A)


def _measure_all(plan: _Plan, reader: Reader, picks: Sequence[int]) -> Iterator[_Measured]:
    """Measure some of the picked frames, with those before them that their positions are averaged with."""
    n = plan.settings.average_frames
    frames = plan.trajectory.frames
    is_picked = set(picks)
    window: deque[Frame] = deque(maxlen=n)
    for index in sorted({i for pick in picks for i in range(max(0, pick - n + 1), pick + 1)}):
        # a jump over frames that nobody wants begins a new window
        if window and index > 0 and frames[index - 1, 2] != window[-1].step:
            window.clear()
        window.append(reader.frame(index))
        if index in is_picked:
            yield _measure(plan, index, list(window))


def _measure(plan: _Plan, index: int, window: Sequence[Frame]) -> _Measured:
    """Measure the last frame of `window`."""
    settings, frame = plan.settings, window[-1]
    matter, opened = _matter_of(frame, settings)
    mobile = matter & ~np.isin(frame.ids, plan.fixed_ids)
    groups: dict[str, NDArray | None] = {'_share': None, '_share_inside': np.isin(frame.ids, plan.inside_ids)}

    time_ps = frame.step * settings.timestep_fs / 1000
    row: dict[str, float] = {
        'step': frame.step,
        'time_ps': time_ps,
        'n_atoms': len(frame),
        'atoms_in_flight': int((~matter).sum()),
        'film_height_A': film_height_A(opened, matter, settings.lattice_constant_A),
    }
    top = _top_of(opened, matter, settings)
    row['roughness_A'] = float('nan') if top is None else top.roughness_A
    row['defect_depth_A'] = (
        float('nan')
        if top is None
        else defect_depth(top, settings.defect_prominence_A, settings.defect_smoothing_A).depth_A
    )
    if frame.energies is not None:
        row['potential_energy_eV'] = float(frame.energies.sum())
        row['potential_energy_eV_per_atom'] = float(frame.energies.mean())
    if frame.velocities is not None:
        row['temperature_K'] = temperature_K(frame.velocities[mobile], settings.mass_u)
    surfaces = _Surfaces.of(opened, matter, settings) if settings.measure_voids else None
    if surfaces is not None:
        voids = surfaces.voids
        row['void_volume_A3'] = voids.volume_A3
        row['void_regions'] = voids.regions
        row['largest_void_volume_A3'] = float(voids.volumes_A3.max(initial=0.0))
        neighbours = neighbour_counts(opened, settings.neighbour_reach_A)
        for name, members in sites_of(neighbours, voids.outside, surfaces.inside).items():
            row[f'atoms_{name}'] = int((members & mobile).sum())
            if frame.energies is not None:
                row[f'potential_energy_{name}_eV_per_atom'] = _mean(frame.energies[members & mobile])

    of_slices: dict[str, NDArray] = {}
    sets = {'': structure_types(frame.data)}
    if settings.average_frames > 1:
        sets['_averaged'] = structure_types(frame.data, averaged_positions(window))
    for suffix, structures in sets.items():
        for group, of_group in groups.items():
            row |= {f'{name}{group}{suffix}': share for name, share in shares(structures, of_group).items()}
        if surfaces is not None:
            row[f'amorphous_share{suffix}'] = shares(structures, surfaces.inside)['other']
        of_slices |= {f'{name}_share{suffix}': structures == number for number, name in enumerate(STRUCTURES)}

    slices = None
    if index >= plan.profile_from:
        slices = sum_slices(
            opened,
            matter,
            settings.height_bin_A,
            settings.mass_u,
            frame.velocities,
            mobile,
            frame.energies,
            of_slices,
        )
    snapshot: dict[str, NDArray] = {}
    for name, number in (('first', plan.first), ('last', plan.last)):
        if index == number:
            snapshot |= _snapshot(frame, structures, name)
            if top is not None:
                snapshot[f'{name}_surface_height_A'] = top.heights_A.astype(np.float32)
    places = None
    if settings.measure_mobility and time_ps >= settings.mobility_from_ps:
        places = (frame.positions, frame.cell, frame.pbc, ~matter)
    volumes = None if surfaces is None else surfaces.voids.volumes_A3
    standing = None
    if plan.ground_A is not None:
        standing = _Standing.of(frame, opened, matter, plan)
        where = (standing.positions, standing.cell, standing.pbc, standing.matter)
        row |= dendrite_row(standing.found) | deposit_row(*where, plan.ground_A, settings.dendrites)
    landed = matter & ~np.isin(frame.ids, plan.start_ids)
    come = (frame.ids[landed], frame.positions[landed])
    return _Measured(row, volumes, slices, snapshot, come, places, standing)


def _top_of(opened: DataCollection, matter: NDArray, settings: AnalysisSettings) -> HeightMap | None:
    """The height map of a slab; None if the cell is not open along its third vector."""
    if opened.cell.pbc[2]:
        return None
    return height_map(
        np.asarray(opened.particles.positions) - np.array(opened.cell[:, 3]),
        np.array(opened.cell[:, :3]).T,
        matter,
        settings.surface_spacing_A,
        settings.atom_radius_A,
        settings.atom_radius_A,
    )


def _in_workers(plan: _Plan, picked: Sequence[int], n_workers: int) -> Iterator[_Measured]:
    """The same in several processes, in the order of the frames."""
    # frames that share their windows go together
    size = 1 if plan.settings.average_frames == 1 else 4 * plan.settings.average_frames
    blocks = [picked[i : i + size] for i in range(0, len(picked), size)]
    # OVITO reads this when it is imported: the cores are taken by the workers
    threads = os.environ.get('OVITO_THREAD_COUNT')
    os.environ['OVITO_THREAD_COUNT'] = '1'
    # a fork would copy locks of OVITO's threads
    pool = ProcessPoolExecutor(n_workers, multiprocessing.get_context('spawn'), _begin_worker, (plan,))
    waiting: deque[Future[list[_Measured]]] = deque()
    try:
        for block in blocks:
            waiting.append(pool.submit(_work, block))
            # what waits to be taken is bounded as well
            if len(waiting) >= 2 * n_workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            f'one of {n_workers} workers was killed, as happens when memory runs out: take fewer (n_workers)'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
        if threads is None:
            del os.environ['OVITO_THREAD_COUNT']
        else:
            os.environ['OVITO_THREAD_COUNT'] = threads


#: Of a worker: what it was told at its start.
_of_worker: list[tuple[_Plan, Reader]] = []


def _begin_worker(plan: _Plan) -> None:
    _of_worker[:] = [(plan, Reader(plan.trajectory))]


def _work(picks: Sequence[int]) -> list[_Measured]:
    plan, reader = _of_worker[0]
    return list(_measure_all(plan, reader, picks))


class _Run:
    """What is remembered from frame to frame."""

    def __init__(self, settings: AnalysisSettings, trajectory: Trajectory, picked: Sequence[int], start: Frame) -> None:
        self.settings = settings
        self.rows: list[dict[str, float]] = []
        self.profile = HeightProfile(settings.height_bin_A, settings.mass_u)
        self.snapshots: dict[str, NDArray] = {}
        #: Of the first and the last frame.
        self.void_volumes_A3: list[NDArray] = []
        matter, opened = _matter_of(start, settings)
        inside = _Surfaces.of(opened, matter, settings).inside
        is_fixed = np.zeros(len(start), dtype=bool)
        if settings.fixed_below_A is not None:
            is_fixed = heights(opened) < settings.fixed_below_A
        ground = None
        self.contacts: Contacts | None = None
        if settings.measure_dendrites:
            self.contacts = Contacts(settings.contacts, settings.dendrites)
            ground = ground_level_A(np.array(opened.particles.positions), start.cell, matter, settings.dendrites)
        self.plan = _Plan(
            settings,
            trajectory,
            inside_ids=start.ids[inside & ~is_fixed],
            fixed_ids=start.ids[is_fixed],
            start_ids=start.ids[matter],
            first=picked[0],
            last=picked[-1],
            profile_from=picked[-settings.profile_frames :][0],
            ground_A=ground,
        )
        self.dendrites: list[dict[str, Any]] = []
        self.site_energies = _site_energies(self.plan)
        self.landings = Landings()
        self.cell, self.origin = start.cell, start.origin
        self.mobility: Mobility | None = None
        if settings.measure_mobility:
            times_ps = trajectory.frames[picked, 2] * (settings.timestep_fs / 1000)
            everywhere = np.ones(3, dtype=bool)
            along = np.array(opened.cell.pbc, dtype=bool)
            self.mobility = Mobility(
                times_ps[times_ps >= settings.mobility_from_ps],
                {'surface': matter & ~inside & ~is_fixed, 'bulk': inside & ~is_fixed},
                # a flat surface lies along the periodic directions; that of a void in a crystal, along all of them
                {'surface': along if along.any() else everywhere, 'bulk': everywhere},
                neighbour_A=3**0.5 / 2 * settings.lattice_constant_A,
                # fixed atoms hold the crystal: then nothing drifts
                reference=None if is_fixed.any() else matter,
                n_origins=settings.mobility_origins,
                fit=settings.mobility_fit,
            )

    def add(self, frame: _Measured) -> None:
        """Take the next frame."""
        self.rows.append(frame.row)
        if frame.void_volumes_A3 is not None:
            self.void_volumes_A3[1:] = [frame.void_volumes_A3]
        if frame.slices is not None:
            self.profile.add(frame.slices)
        if self.mobility is not None and frame.places is not None:
            self.mobility.add(*frame.places)
        if self.contacts is not None and (there := frame.dendrites) is not None:
            where = (there.positions, there.cell, there.pbc, there.matter)
            self.contacts.add(frame.row['time_ps'], there.ids, *where, there.found)
            self.dendrites = [dendrite.summary() for dendrite in there.found]
        self.snapshots |= frame.snapshot
        ids, places = frame.landed
        self.landings.add(frame.row['time_ps'], ids, places, np.zeros(len(ids), dtype=bool))

    def result(self, trajectory: Trajectory) -> AnalysisResult:
        names = [name for name in self.rows[0] if all(name in row for row in self.rows)]
        series = {name: np.array([row[name] for row in self.rows]) for name in names}
        if self.contacts is not None:
            series |= self.contacts.arrays()
        # a quantity that no frame has, such as the height of a film without a surface, is absent
        series = {name: array for name, array in series.items() if not np.isnan(array.astype(float)).all()}
        profiles = self.profile.arrays()
        mobility = {} if self.mobility is None else self.mobility.arrays()
        summary = self._summary(trajectory, series, profiles)
        if self.contacts is not None:
            summary['dendrites'] = self.dendrites
            summary['contacts'] = self.contacts.result().summary()
        if self.mobility is not None:
            summary['mobility'] = self.mobility.summary()
            summary['units'] |= {name: QUANTITIES[name][0] for name in mobility if QUANTITIES[name][0]}
        return AnalysisResult(series, profiles, self.snapshots, summary, mobility)

    def _summary(
        self, trajectory: Trajectory, series: dict[str, NDArray], profiles: dict[str, NDArray]
    ) -> dict[str, Any]:
        settings = self.settings
        healed = None
        if 'void_volume_A3' in series:
            healed = healed_at_ps(
                series['time_ps'], series['void_volume_A3'], settings.atomic_volume_A3, settings.healed_for_ps
            )
        return {
            'dumps': len(trajectory.paths),
            'frames': len(trajectory),
            'frames_analysed': len(self.rows),
            'frames_replaced_by_restart': trajectory.replaced,
            'frames_truncated': len(trajectory.truncated),
            # what is cut off before a restart is written again after it
            'is_truncated': len(trajectory.paths) - 1 in trajectory.truncated,
            'atoms_inside': len(self.plan.inside_ids),
            'atoms_fixed': len(self.plan.fixed_ids),
            'healed_at_ps': healed,
            'roughness_baseline_A': {
                facet: corrugation_A(facet, settings.lattice_constant_A, *2 * [settings.atom_radius_A])
                for facet in _FACETS
                if 'roughness_A' in series
            },
            'local_current': self._local_current(),
            'site_energies': self.site_energies,
            'void_volumes_A3': {
                name: self.void_volumes_A3[number].tolist()
                for name, number in (('start', 0), ('end', -1))
                if self.void_volumes_A3
            },
            'start': {name: _plain(array[0]) for name, array in series.items()},
            'end': {name: _plain(array[-1]) for name, array in series.items()},
            'min': {name: _plain(np.nanmin(array)) for name, array in series.items()},
            'max': {name: _plain(np.nanmax(array)) for name, array in series.items()},
            'snapshot_structure_from': 'averaged positions' if settings.average_frames > 1 else 'single frames',
            'settings': settings.model_dump(mode='json'),
            'units': {name: QUANTITIES[name][0] for name in (*series, *profiles) if QUANTITIES[name][0]},
            'versions': {'ovito': ovito.version_string, 'numpy': np.__version__},
        }

    def _local_current(self) -> dict[str, Any] | None:
        """Where the atoms landed that came since the start, as a current; None without two of them."""
        places = self.landings.arrays()['position_A']
        duration_ps = self.rows[-1]['time_ps'] - self.rows[0]['time_ps']
        if len(places) < 2:
            return None
        n = [max(1, round(float(np.linalg.norm(edge)) / self.settings.current_patch_A)) for edge in self.cell[:2]]
        current = local_current(places, self.cell, (n[0], n[1]), duration_ps, origin_A=self.origin)
        return {
            'atoms_landed': len(places),
            'duration_ps': duration_ps,
            'density_A_per_cm2': current.density_A_per_cm2.tolist(),
            'mean_A_per_cm2': current.mean_A_per_cm2,
            'vlcd': current.vlcd,
            'vlcd_error': _plain(np.float64(current.vlcd_error)),
        }


def _site_energies(plan: _Plan) -> list[dict[str, Any]] | None:
    """Energies of tips, valleys, surface and bulk by each member of a committee, at the start and at the end.

    None if the run did not tell them, as with a single potential, or if surfaces are not followed.
    """
    settings = plan.settings
    if not settings.measure_voids:
        return None
    told = []
    for frame, energies in member_frames(plan.trajectory.paths):
        matter, opened = _matter_of(frame, settings)
        surfaces = _Surfaces.of(opened, matter, settings)
        sites = sites_of(neighbour_counts(opened, settings.neighbour_reach_A), surfaces.voids.outside, surfaces.inside)
        slices = np.floor(heights(opened) / settings.height_bin_A).astype(int)
        counted = matter & ~np.isin(frame.ids, plan.fixed_ids)
        told.append(
            {
                'step': frame.step,
                'time_ps': frame.step * settings.timestep_fs / 1000,
                'members': len(energies),
                **site_energies(energies, sites, slices, settings.height_bin_A, counted),
            }
        )
    return told or None


def _mean(values: NDArray) -> float:
    """Their mean, not a number where there is none."""
    return float(values.mean()) if len(values) else float('nan')


def _snapshot(frame: Frame, structures: NDArray, name: str) -> dict[str, NDArray]:
    arrays: dict[str, NDArray] = {
        'step': np.array(frame.step),
        'id': frame.ids.astype(np.int64 if frame.ids.max() > np.iinfo(np.int32).max else np.int32),
        'type': frame.types.astype(np.int16),
        'position_A': frame.positions.astype(np.float32),
        'structure': structures,
        'cell_A': frame.cell,
        'origin_A': frame.origin,
        'pbc': frame.pbc,
    }
    if frame.energies is not None:
        arrays['potential_energy_eV'] = frame.energies.astype(np.float32)
    return {f'{name}_{key}': array for key, array in arrays.items()}


def _plain(value: np.generic) -> float | int | None:
    """A number that JSON knows; None where it is not finite."""
    number = value.item()
    return number if np.isfinite(number) else None
