"""Parser of a LAMMPS job: status, atom balance, thermo, deviations and candidates of each run."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from aiida.engine import ExitCode
from aiida.orm import Dict
from aiida.parsers import Parser
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from aiida_liheal.calculations.lammps import JobSettings, members_in_order, read_limits, run_folder, runs_to_do
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import committee_spec
from aiida_liheal.lammps.kinds import DepositSettings, ExploreSettings, RelaxSettings
from aiida_liheal.lammps.limits import Limits, Passed, passed
from aiida_liheal.lammps.readers import (
    Log,
    atom_balance,
    dump_to_frames,
    lost_atoms,
    read_log,
    read_model_devi,
    read_values,
)
from aiida_liheal.lammps.settings import RestartableSettings, RunSettings
from aiida_liheal.parsers.common import array_data
from aiida_liheal.sampling.trust import Trust, TrustLevels, classify, count
from aiida_liheal.structures.frames import Frames

__all__ = ('LammpsParser',)

#: Names of thermo columns with their units, LAMMPS metal.
COLUMNS = {
    'Step': 'step',
    'Time': 'time_ps',
    'Temp': 'temperature_K',
    'PotEng': 'potential_energy_eV',
    'KinEng': 'kinetic_energy_eV',
    'TotEng': 'total_energy_eV',
    'Press': 'pressure_bar',
    'Volume': 'volume_A3',
    'Lx': 'lx_A',
    'Ly': 'ly_A',
    'Lz': 'lz_A',
    'Atoms': 'n_atoms',
    'c_substrate_temp': 'substrate_temperature_K',
    'c_mobile_temp': 'mobile_temperature_K',
    'v_ceiling': 'thermostat_ceiling_A',
    'v_inserted': 'n_inserted',
    'v_height': 'film_height_A',
    'v_target': 'target_temperature_K',
    'c_surface_temp': 'surface_temperature_K',
    'v_solid_share': 'solid_share',
    'v_placed_x': 'placed_x_A',
    'v_placed_y': 'placed_y_A',
    'v_placed_z': 'placed_z_A',
    'c_placed_pe': 'placed_energy_eV',
    'Fmax': 'max_force_eV_per_A',
}
#: Exit code by how a run ended, the most telling first; a run that finished has none.
_CODES = {
    'stopped': 'ERROR_BEYOND_LIMIT',
    'unbalanced': 'ERROR_ATOM_BALANCE',
    'failed': 'ERROR_LAMMPS',
    'exploded': 'ERROR_EXPLODED',
    'unreadable': 'ERROR_RESTART_UNREADABLE',
    'no_space': 'ERROR_NO_SPACE',
    'walltime': 'ERROR_WALLTIME',
    'interrupted': 'ERROR_INTERRUPTED',
    'missing': 'ERROR_NO_OUTPUT',
}
_NO_SPACE = re.compile('No space left on device|Disk quota exceeded|File too large|I/O error while writing')
# what programs and shells say when they end badly, but for what TensorFlow says of a missing GPU
_NOISE = re.compile(r'libcudart|^[IW]\d{4} |^WARNING: All log|^To enable the following')
_TROUBLE = re.compile(
    rf'^ERROR|{_NO_SPACE.pattern}|Killed|Segmentation fault|terminate called|what\(\)|'
    '[Oo]ut of memory|oom-kill|CANCELLED'
)


class LammpsParser(Parser):
    """Parser of `LammpsCalculation`."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Read every run, attach what can be saved, and tell the first trouble by exit code."""
        inputs = self.node.inputs
        self.settings = JobSettings.read(inputs.settings.get_dict())
        self.potential = committee_spec(members_in_order(dict(inputs.potentials)))
        self.doing = runs_to_do(self.settings, inputs.restart_steps.get_dict() if 'restart_steps' in inputs else None)
        self.limits = read_limits(inputs.monitors) if 'monitors' in inputs else None
        self.structures: Frames = inputs.structures.get_frames()
        self.temporary = Path(kwargs['retrieved_temporary_folder'])
        self.columns: dict[str, NDArray] = {}
        self.deviations: dict[str, NDArray] = {}
        self.candidates: list[Frames] = []
        self.last: list[Frames] = []
        # the readers work on files, as they do without AiiDA
        with self.retrieved.base.repository.as_path() as root:
            runs = [
                self._read_run(number, root) if number in self.doing else {'status': 'not_run'}
                for number in range(len(self.settings.runs))
            ]

        versions = sorted({r['lammps_version'] for r in runs if r.get('lammps_version')})
        results = {'kind': self.settings.kind, 'runs': runs, 'lammps_version': ', '.join(versions)}
        self.out('results', Dict(_finite(results)))
        for name, arrays in (('thermo', self.columns), ('deviations', self.deviations)):
            if arrays:
                self.out(name, array_data(arrays))
        for name, frames in (('candidates', self.candidates), ('last_frames', self.last)):
            if frames:
                self.out(name, FramesData(Frames.concatenate(frames), domain=inputs.structures.domain))
        return self._exit_code(runs)

    def _read_run(self, number: int, root: Path) -> dict[str, Any]:
        """The record of one run; what else it gave is put with that of the others."""
        name = run_folder(number)
        folder = root / name
        structure, run = self.settings.run(number)
        log = read_log(folder / 'log.lammps') if (folder / 'log.lammps').is_file() else None
        devi = read_model_devi(folder / 'model_devi.out') if (folder / 'model_devi.out').is_file() else {}
        if log is not None:
            self.columns |= {f'{name}_{COLUMNS.get(k, _plain(k))}': v for k, v in log.thermo.items()}
        self.deviations |= {f'{name}_{key}': values for key, values in devi.items()}
        scheduler = self.node.get_option('scheduler_stderr') or '_scheduler-stderr.txt'
        complaints = [self.temporary / name / 'lmp.out', folder / 'lmp.err', root / scheduler]
        record = self._status(log, run, self.doing[number], complaints)
        if log is not None and record['status'] == 'finished' and isinstance(run, RestartableSettings):
            record['ended_by'] = self._ended_by(log, run, structure)
        n_start = int(self.structures.counts[structure])
        if self.limits is not None and log is not None:
            record |= self._hold(self.limits, record, passed(self.limits, log.thermo, devi, n_start))
        if log is not None and log.finished:
            record |= self._last_frame(run, number, n_start, record)
        if (folder / 'values.txt').is_file():
            record['values'] = read_values(folder / 'values.txt')
        if self.settings.trust is not None and isinstance(run, ExploreSettings):
            record |= self._sort_frames(devi, self.settings.trust, run, number)
        return record

    def _status(
        self, log: Log | None, run: RunSettings, restart_step: int | None, complaints: list[Path]
    ) -> dict[str, Any]:
        """How a run ended: finished, walltime, interrupted, exploded, no_space, unreadable, failed or missing."""
        began: dict[str, Any] = {} if restart_step is None else {'restart_step': restart_step}
        if log is None:
            return {**began, 'status': 'missing', 'cause': _complaint(complaints, anything=True)}
        record: dict[str, Any] = {
            **began,
            'last_step': log.last_step or 0,
            'n_steps': run.n_steps,
            'lammps_version': log.version,
            'loop_time_s': log.loop_time_s,
            'wall_time_s': log.wall_time_s,
            'katom_step_per_s': log.katom_step_per_s,
            'n_steps_done': log.n_steps_done,
            'warnings': log.warnings[:20],
            'cause': '',
        }
        energy = log.thermo.get('PotEng', np.zeros(0))
        cause = ' '.join(log.errors)[:400]
        if not cause and not log.finished:
            # the log of a run on a full disk, or of one that crashed, may not have come that far
            cause = _complaint(complaints)
        if _NO_SPACE.search(cause):
            return {**record, 'status': 'no_space', 'cause': cause}
        if log.errors and restart_step is not None and 'estart' in cause and not log.last_step:
            return {**record, 'status': 'unreadable', 'cause': cause}
        if log.errors:
            lost = 'Lost atoms' in cause or 'Non-numeric' in cause
            return {**record, 'status': 'exploded' if lost else 'failed', 'cause': cause}
        if not np.isfinite(energy).all():
            step = int(log.thermo['Step'][np.flatnonzero(~np.isfinite(energy))[0]])
            return {**record, 'status': 'exploded', 'cause': f'the potential energy is not finite at step {step}'}
        if log.finished:
            return {**record, 'status': 'walltime' if log.walltime_reached else 'finished'}
        return {**record, 'status': 'interrupted', 'cause': cause}

    def _ended_by(self, log: Log, run: RestartableSettings, structure: int) -> str:
        """The rule that ended a run: time, one of those of a deposition, or that all is frozen or molten."""
        if not isinstance(run, DepositSettings):
            return log.halted_by or 'time'
        edges = self.structures.cells[structure]
        return run.ended_by(float(edges[0, 0] * edges[1, 1]) / 100, log.halted_by)

    def _hold(self, limits: Limits, record: dict[str, Any], beyond: list[Passed]) -> dict[str, Any]:
        """Flag the limits that a run went beyond; one that was to be stopped there ends with them."""
        flags = {'flags': [one.to_dict() for one in beyond]}
        if not beyond:
            return flags
        text = '; '.join(str(one) for one in beyond)
        self.logger.warning(f'beyond a limit: {text}')
        if limits.action == 'stop' and record['status'] in ('finished', 'walltime', 'interrupted'):
            return {**flags, 'status': 'stopped', 'cause': text}
        return flags

    def _last_frame(self, run: RunSettings, number: int, n_start: int, record: dict[str, Any]) -> dict[str, Any]:
        """Keep the last frame of a run that ended in good order, and count its atoms."""
        stopped = record['status'] == 'stopped'
        if record['status'] not in ('finished', 'walltime', 'stopped'):
            return {}
        try:
            atoms = _read_data(self.temporary / run_folder(number) / 'final.data', self.potential.elements)
        except ValueError as error:
            if stopped:
                return {}
            # as good as broken off: without its last frame there is no balance of atoms
            broken = isinstance(run, RestartableSettings)
            return {'cause': str(error), 'status': 'interrupted' if broken else record['status']}
        frame = _as_frame(atoms, number)
        if isinstance(run, RelaxSettings):
            frame = _with_forces(frame, self.temporary / run_folder(number) / 'forces.dump', self.potential.elements)
        self.last.append(frame)
        counts = self._balance(atoms, run, n_start, record['last_step'])
        return {**counts, 'status': 'stopped', 'cause': record['cause']} if stopped else counts

    def _balance(self, atoms: Atoms, run: RunSettings, n_start: int, step: int) -> dict[str, Any]:
        """The atom balance of the whole run up to its last step, earlier segments included."""
        n_inserted = 0
        if isinstance(run, DepositSettings):
            area_nm2 = float(np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1]))) / 100
            n_inserted = run.schedule(area_nm2).inserted_at(step)
        n_lost = lost_atoms(atoms.arrays['id'])
        counts = {'n_start': n_start, 'n_inserted': n_inserted, 'n_lost': n_lost, 'n_final': len(atoms)}
        try:
            atom_balance(**counts)
        except ValueError as error:
            return {**counts, 'status': 'unbalanced', 'cause': str(error)}
        return counts

    def _sort_frames(
        self, devi: dict[str, NDArray], levels: TrustLevels, run: ExploreSettings, number: int
    ) -> dict[str, Any]:
        """Count the frames of a run by trust, and keep the candidates."""
        deviation = dict(zip(devi['step'].astype(int).tolist(), devi['max_devi_f'], strict=True)) if devi else {}
        values = np.array(list(deviation.values()))
        trust = classify(values, levels)
        counts = count(trust, missing=max(0, run.n_frames - len(trust)))
        path = self.temporary / run_folder(number) / 'traj.dump'
        steps = {step for step, kind in zip(deviation, trust, strict=True) if kind == Trust.CANDIDATE}
        if steps and path.is_file():
            # one frame in memory at a time, but for those that are kept
            frames, _ = dump_to_frames(path, self.potential.elements, steps=steps)
            if frames is not None:
                extra = {
                    'step': frames.extra['step'],
                    'run': np.full(len(frames), number),
                    'max_devi_f': np.array([deviation[int(step)] for step in frames.extra['step']]),
                }
                self.candidates.append(replace(frames, velocities=None, extra=extra))
        return {
            'n_accurate': counts.accurate,
            'n_candidate': counts.candidate,
            'n_failed': counts.failed,
            'n_missing': counts.missing,
            'max_devi_f_eV_per_A': float(np.nanmax(values)) if len(trust) else None,
            'mean_max_devi_f_eV_per_A': float(np.nanmean(values)) if len(trust) else None,
        }

    def _exit_code(self, runs: list[dict[str, Any]]) -> ExitCode | None:
        """The exit code of the job: a pack is fine if one of its runs gave something, a single run must have ended."""
        by_status: dict[str, list[int]] = {}
        for number in self.doing:
            by_status.setdefault(runs[number]['status'], []).append(number)
        if self.settings.trust is not None and set(by_status) != {'missing'}:
            # exploration: runs that blew up are counted as failed frames; only a pack without any frame is an error
            done = [runs[number] for number in self.doing]
            if any(record['n_accurate'] + record['n_candidate'] + record['n_failed'] for record in done):
                return None
            return self._code('ERROR_LAMMPS', runs, list(self.doing))
        for status, code in _CODES.items():
            if status in by_status:
                return self._code(code, runs, by_status[status])
        return None

    def _code(self, name: str, runs: list[dict[str, Any]], numbers: list[int]) -> ExitCode:
        """An exit code told by the first of the runs that ended so."""
        silent = 'nothing was written' if name == 'ERROR_NO_OUTPUT' else 'nothing says why'
        cause = next((runs[number]['cause'] for number in numbers if runs[number].get('cause')), silent)
        first = runs[numbers[0]]
        if len(self.doing) > 1 and name != 'ERROR_LAMMPS':
            cause = f'{", ".join(map(run_folder, numbers))}: {cause}'
        return self.exit_codes[name].format(
            cause=cause,
            step=first['restart_step'] if name == 'ERROR_RESTART_UNREADABLE' else first.get('last_step'),
            wanted=first.get('n_steps'),
            n_failed=len(numbers),
            n_runs=len(self.doing),
        )


def _complaint(paths: list[Path], anything: bool = False) -> str:
    """The last line that tells of trouble, in the first file that has one; with `anything`, or else any last line."""
    lines = [
        [line.strip() for line in path.read_text(errors='replace').splitlines() if line.strip()]
        for path in paths
        if path.is_file()
    ]
    troubles = [line for group in lines for line in reversed(group) if _TROUBLE.search(line)]
    if not troubles and anything:
        troubles = [line for group in lines for line in reversed(group) if not _NOISE.search(line)]
    return troubles[0][:300] if troubles else ''


def _plain(name: str) -> str:
    """A thermo column's name in the letters that an array may be named with."""
    return re.sub(r'\W', '_', name)


def _finite(value: Any) -> Any:
    """The same without NaN, which a database cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _read_data(path: Path, elements: tuple[str, ...]) -> Atoms:
    """A data file with its ids in `arrays['id']`; types are numbered in the order of `elements`.

    Raises ValueError if it is not there or cannot be read.
    """
    try:
        atoms = ase.io.read(
            path,
            format='lammps-data',
            units='metal',
            atom_style='atomic',
            Z_of_type={number + 1: atomic_numbers[symbol] for number, symbol in enumerate(elements)},
        )
    except FileNotFoundError:
        raise ValueError(f'{path.name} was not written') from None
    except Exception as error:  # half a file can make ASE raise anything, such as UnboundLocalError
        raise ValueError(f'{path.name} cannot be read: {error}') from error
    assert isinstance(atoms, Atoms)  # noqa: S101 (one index, one structure)
    if len(atoms) == 0 or not atoms.has('momenta'):
        raise ValueError(f'{path.name} is not whole: {len(atoms)} atoms, velocities: {atoms.has("momenta")}')
    return atoms


def _as_frame(atoms: Atoms, run: int) -> Frames:
    """The last frame of a run, with velocities in Å/ps."""
    from ase.units import fs

    frame = Frames.from_atoms([atoms], run=np.array([run]))
    return replace(frame, velocities=atoms.get_velocities() * 1000.0 * fs)


def _with_forces(frame: Frames, path: Path, elements: tuple[str, ...]) -> Frames:
    """A frame with the forces of a dump of the same atoms, sorted by id like it; as it is if there is no whole one."""
    found = dump_to_frames(path, elements)[0] if path.is_file() else None
    return frame if found is None or found.forces is None else replace(frame, forces=found.forces)
