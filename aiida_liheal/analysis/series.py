"""The analysis of a run from its dumps: time series, profiles and snapshots in one pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ovito
from numpy.typing import NDArray

from .mobility import Mobility
from .phases import atoms_inside, averaged_positions, shares, structure_types
from .profiles import HeightProfile, film_height_A, temperature_K
from .results import QUANTITIES, AnalysisResult
from .settings import AnalysisSettings
from .trajectory import Frame, Trajectory
from .vacuum import atoms_in_flight, heights, open_at_vacuum
from .voids import healed_at_ps, measure_voids

#: Atoms this close to one of the surface do not begin «inside»: between the first two bcc shells, in lattice constants.
SURFACE_REACH = (3**0.5 / 2 + 1) / 2


def analyse_trajectory(
    paths: Sequence[str | Path],
    settings: AnalysisSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AnalysisResult:
    """Analyse a run.

    Memory holds one frame (`average_frames` of them if positions are averaged), whatever the length of the run.

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
    """
    settings = settings or AnalysisSettings()
    trajectory = Trajectory.index(paths)
    picked = sorted({*range(0, len(trajectory), settings.every), len(trajectory) - 1})
    # frames to read: each picked one and those that its positions are averaged with
    wanted = sorted({i for p in picked for i in range(max(0, p - settings.average_frames + 1), p + 1)})
    is_picked = set(picked)
    in_profile = set(picked[-settings.profile_frames :])

    run = _Run(settings, trajectory.frames[picked, 2] * (settings.timestep_fs / 1000))
    window: deque[Frame] = deque(maxlen=settings.average_frames)
    if progress is not None:
        progress(0, len(picked))
    for index, frame in zip(wanted, trajectory.read(wanted), strict=True):
        # a jump over frames that nobody wants begins a new window
        if window and index > 0 and trajectory.frames[index - 1, 2] != window[-1].step:
            window.clear()
        window.append(frame)
        if index in is_picked:
            run.add(list(window), in_profile=index in in_profile)
            if progress is not None:
                progress(len(run.rows), len(picked))
    return run.result(trajectory)


class _Run:
    """What is remembered from frame to frame."""

    def __init__(self, settings: AnalysisSettings, times_ps: NDArray) -> None:
        self.settings = settings
        self.times_ps = times_ps
        self.mobility: Mobility | None = None
        self.rows: list[dict[str, float]] = []
        self.profile = HeightProfile(settings.height_bin_A, settings.mass_u)
        self.snapshots: dict[str, NDArray] = {}
        self.inside_ids: NDArray = np.zeros(0, np.int64)
        self.fixed_ids: NDArray = np.zeros(0, np.int64)

    def add(self, window: Sequence[Frame], in_profile: bool) -> None:
        """Measure the last frame of `window`."""
        settings, frame = self.settings, window[-1]
        flying = atoms_in_flight(frame.data, settings.landing_distance_A, settings.flight_cluster_share)
        matter = ~flying
        opened = open_at_vacuum(frame.data, matter, settings.vacuum_gap_A)
        if not self.rows:
            self._begin(frame, matter, opened)
        mobile = matter & ~np.isin(frame.ids, self.fixed_ids)
        inside = np.isin(frame.ids, self.inside_ids)

        row: dict[str, float] = {
            'step': frame.step,
            'time_ps': frame.step * settings.timestep_fs / 1000,
            'n_atoms': len(frame),
            'atoms_in_flight': int(flying.sum()),
            'film_height_A': film_height_A(opened, matter, settings.lattice_constant_A),
        }
        if frame.energies is not None:
            row['potential_energy_eV'] = float(frame.energies.sum())
            row['potential_energy_eV_per_atom'] = float(frame.energies.mean())
        if frame.velocities is not None:
            row['temperature_K'] = temperature_K(frame.velocities[mobile], settings.mass_u)
        if settings.measure_voids:
            voids = measure_voids(opened, matter, settings.void_probe_radius_A)
            row.update(void_volume_A3=voids.volume_A3, void_regions=voids.regions)
        if self.mobility is not None and row['time_ps'] >= settings.mobility_from_ps:
            self.mobility.add(frame.positions, frame.cell, frame.pbc, flying)
        structures = structure_types(frame.data)
        row.update(_named_shares(structures, inside, ''))
        if settings.average_frames > 1:
            structures = structure_types(frame.data, averaged_positions(window))
            row.update(_named_shares(structures, inside, '_averaged'))
        self.rows.append(row)

        if in_profile:
            self.profile.add(opened, matter, frame.velocities, mobile)
        if len(self.rows) == 1:
            self.snapshots.update(_snapshot(frame, structures, 'first'))
        self.snapshots.update(_snapshot(frame, structures, 'last'))

    def _begin(self, frame: Frame, matter: NDArray, opened: Any) -> None:
        settings = self.settings
        is_fixed = np.zeros(len(frame), dtype=bool)
        if settings.fixed_below_A is not None:
            is_fixed = heights(opened) < settings.fixed_below_A
        reach = SURFACE_REACH * settings.lattice_constant_A
        is_inside = atoms_inside(opened, matter, settings.void_probe_radius_A, reach)
        self.fixed_ids = frame.ids[is_fixed]
        self.inside_ids = frame.ids[is_inside & ~is_fixed]
        if settings.measure_mobility:
            everywhere = np.ones(3, dtype=bool)
            along = np.array(opened.cell.pbc, dtype=bool)
            self.mobility = Mobility(
                self.times_ps[self.times_ps >= settings.mobility_from_ps],
                {'surface': matter & ~is_inside & ~is_fixed, 'bulk': is_inside & ~is_fixed},
                # a flat surface lies along the periodic directions; that of a void in a crystal, along all of them
                {'surface': along if along.any() else everywhere, 'bulk': everywhere},
                neighbour_A=3**0.5 / 2 * settings.lattice_constant_A,
                # fixed atoms hold the crystal: then nothing drifts
                reference=None if is_fixed.any() else matter,
                n_origins=settings.mobility_origins,
                fit=settings.mobility_fit,
            )

    def result(self, trajectory: Trajectory) -> AnalysisResult:
        names = [name for name in self.rows[0] if all(name in row for row in self.rows)]
        series = {name: np.array([row[name] for row in self.rows]) for name in names}
        # a quantity that no frame has, such as the height of a film without a surface, is absent
        series = {name: array for name, array in series.items() if not np.isnan(array.astype(float)).all()}
        profiles = self.profile.arrays()
        mobility = {} if self.mobility is None else self.mobility.arrays()
        summary = self._summary(trajectory, series, profiles)
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
            'atoms_inside': len(self.inside_ids),
            'atoms_fixed': len(self.fixed_ids),
            'healed_at_ps': healed,
            'start': {name: _plain(array[0]) for name, array in series.items()},
            'end': {name: _plain(array[-1]) for name, array in series.items()},
            'min': {name: _plain(np.nanmin(array)) for name, array in series.items()},
            'max': {name: _plain(np.nanmax(array)) for name, array in series.items()},
            'snapshot_structure_from': 'averaged positions' if settings.average_frames > 1 else 'single frames',
            'settings': settings.model_dump(mode='json'),
            'units': {name: QUANTITIES[name][0] for name in (*series, *profiles) if QUANTITIES[name][0]},
            'versions': {'ovito': ovito.version_string, 'numpy': np.__version__},
        }


def _named_shares(structures: NDArray, inside: NDArray, suffix: str) -> dict[str, float]:
    everywhere = {f'{name}_share{suffix}': share for name, share in shares(structures).items()}
    within = {f'{name}_share_inside{suffix}': share for name, share in shares(structures, inside).items()}
    return everywhere | within


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
