"""Parser of a LAMMPS job: status, atom balance, thermo, deviations and candidates of each run."""

from __future__ import annotations

import math
import re
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

from aiida_liheal.calculations.lammps import JobSettings, members_in_order, run_folder
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import committee_spec
from aiida_liheal.lammps.kinds import DepositSettings, ExploreSettings
from aiida_liheal.lammps.readers import (
    Log,
    atom_balance,
    dump_to_frames,
    lost_atoms,
    read_log,
    read_model_devi,
    read_values,
)
from aiida_liheal.lammps.settings import RunSettings, TrajectorySettings
from aiida_liheal.parsers.common import array_data
from aiida_liheal.sampling.trust import Trust, classify, count
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
    'v_target': 'target_temperature_K',
}


class LammpsParser(Parser):
    """Parser of `LammpsCalculation`."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Read every run, attach what can be saved, and tell the first trouble by exit code."""
        self.settings = JobSettings.read(self.node.inputs.settings.get_dict())
        self.potential = committee_spec(members_in_order(dict(self.node.inputs.potentials)))
        self.structures: Frames = self.node.inputs.structures.get_frames()
        self.temporary = Path(kwargs['retrieved_temporary_folder'])
        columns: dict[str, NDArray] = {}
        deviations: dict[str, NDArray] = {}
        candidates: list[Frames] = []
        last: list[Frames] = []
        runs: list[dict[str, Any]] = []
        # the readers work on files, as they do without AiiDA
        with self.retrieved.base.repository.as_path() as root:
            for number in range(len(self.settings.runs)):
                name = run_folder(number)
                structure, run = self.settings.run(number)
                log = read_log(root / name / 'log.lammps') if (root / name / 'log.lammps').is_file() else None
                record = self._status(log, run, root / name)
                if log is not None:
                    columns |= {f'{name}_{COLUMNS.get(k, _plain(k))}': v for k, v in log.thermo.items()}
                if record['status'] in ('finished', 'walltime'):
                    try:
                        atoms = _read_data(self.temporary / name / 'final.data', self.potential.elements)
                    except ValueError as error:
                        record['cause'] = str(error)
                        if isinstance(run, TrajectorySettings):
                            # as good as broken off: without its last frame there is no balance of atoms
                            record['status'] = 'interrupted'
                    else:
                        last.append(_as_frame(atoms, number))
                        n_start = int(self.structures.counts[structure])
                        record |= self._balance(atoms, run, n_start, record['last_step'])
                if (root / name / 'values.txt').is_file():
                    record['values'] = read_values(root / name / 'values.txt')
                if (root / name / 'model_devi.out').is_file():
                    devi = read_model_devi(root / name / 'model_devi.out')
                    deviations |= {f'{name}_{key}': values for key, values in devi.items()}
                else:
                    devi = {'step': np.zeros(0), 'max_devi_f': np.zeros(0)}
                if self.settings.trust is not None and isinstance(run, ExploreSettings):
                    record |= self._sort_frames(devi, run, number, candidates)
                runs.append(record)

        versions = sorted({r['lammps_version'] for r in runs if r.get('lammps_version')})
        results = {'kind': self.settings.kind, 'runs': runs, 'lammps_version': ', '.join(versions)}
        self.out('results', Dict(_finite(results)))
        if columns:
            self.out('thermo', array_data(columns))
        if deviations:
            self.out('deviations', array_data(deviations))
        if candidates:
            self.out(
                'candidates', FramesData(Frames.concatenate(candidates), domain=self.node.inputs.structures.domain)
            )
        if last:
            self.out('last_frames', FramesData(Frames.concatenate(last), domain=self.node.inputs.structures.domain))
        return self._exit_code(runs)

    def _status(self, log: Log | None, run: RunSettings, folder: Path) -> dict[str, Any]:
        """How a run ended: finished, walltime, interrupted, exploded, failed or missing."""
        if log is None:
            return {'status': 'missing', 'cause': _last_line(folder / 'lmp.err') or _last_line(folder / 'lmp.out')}
        record: dict[str, Any] = {
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
        if log.errors:
            lost = any('Lost atoms' in line or 'Non-numeric' in line for line in log.errors)
            record |= {'status': 'exploded' if lost else 'failed', 'cause': ' '.join(log.errors)[:400]}
        elif len(energy) and not np.isfinite(energy).all():
            record |= {'status': 'exploded', 'cause': 'the potential energy is not finite'}
        elif log.finished and not log.walltime_reached:
            record['status'] = 'finished'
        elif log.finished:
            record['status'] = 'walltime'
        else:
            record['status'] = 'interrupted'
        return record

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
        self, devi: dict[str, NDArray], run: ExploreSettings, number: int, candidates: list[Frames]
    ) -> dict[str, Any]:
        """Count the frames of a run by trust, and keep the candidates."""
        assert self.settings.trust is not None  # noqa: S101 (the caller looked)
        trust = classify(devi['max_devi_f'], self.settings.trust)
        counts = count(trust, missing=max(0, run.n_frames - len(trust)))
        path = self.temporary / run_folder(number) / 'traj.dump'
        steps = devi['step'][trust == Trust.CANDIDATE].astype(int)
        if len(steps) and path.is_file():
            frames, _ = dump_to_frames(path, self.potential.elements)
            if frames is not None:
                row = {int(step): index for index, step in enumerate(frames.extra['step'])}
                kept = [row[step] for step in steps.tolist() if step in row]
                value = dict(zip(devi['step'].astype(int).tolist(), devi['max_devi_f'], strict=True))
                if kept:
                    chosen = frames.select(kept)
                    chosen_steps = chosen.extra['step']
                    candidates.append(
                        Frames(
                            **{
                                n: getattr(chosen, n)
                                for n in ('elements', 'counts', 'types', 'positions', 'cells', 'pbc')
                            },
                            extra={
                                'step': chosen_steps,
                                'run': np.full(len(chosen), number),
                                'max_devi_f': np.array([value[int(s)] for s in chosen_steps]),
                            },
                        )
                    )
        return {
            'n_accurate': counts.accurate,
            'n_candidate': counts.candidate,
            'n_failed': counts.failed,
            'n_missing': counts.missing,
            'max_devi_f_eV_per_A': float(np.nanmax(devi['max_devi_f'])) if len(trust) else None,
            'mean_max_devi_f_eV_per_A': float(np.nanmean(devi['max_devi_f'])) if len(trust) else None,
        }

    def _exit_code(self, runs: list[dict[str, Any]]) -> ExitCode | None:
        """The exit code of the job: a pack is fine if one of its runs gave something, a single run must have ended."""
        codes = self.exit_codes
        by_status: dict[str, list[dict[str, Any]]] = {}
        for record in runs:
            by_status.setdefault(record['status'], []).append(record)
        if len(by_status.get('missing', [])) == len(runs):
            return codes.ERROR_NO_OUTPUT.format(cause=runs[0]['cause'] or 'nothing was written')
        if self.settings.trust is not None:
            # exploration: runs that blew up are counted as failed frames; only a pack without any frame is an error
            if any(
                record.get('n_accurate', 0) + record.get('n_candidate', 0) + record.get('n_failed', 0)
                for record in runs
            ):
                return None
            return codes.ERROR_LAMMPS.format(n_failed=len(runs), n_runs=len(runs), cause=_first_cause(runs))
        if 'unbalanced' in by_status:
            return codes.ERROR_ATOM_BALANCE.format(cause=by_status['unbalanced'][0]['cause'])
        if 'failed' in by_status:
            first = by_status['failed'][0]
            if 'restart_step' in self.node.inputs and not first['n_steps_done'] and 'estart' in first['cause']:
                step = self.node.inputs.restart_step.value
                return codes.ERROR_RESTART_UNREADABLE.format(step=step, cause=first['cause'])
            return codes.ERROR_LAMMPS.format(
                n_failed=len(by_status['failed']), n_runs=len(runs), cause=_first_cause(by_status['failed'])
            )
        if 'exploded' in by_status:
            first = by_status['exploded'][0]
            return codes.ERROR_EXPLODED.format(step=first['last_step'], cause=first['cause'])
        for status, code in (('walltime', codes.ERROR_WALLTIME), ('interrupted', codes.ERROR_INTERRUPTED)):
            if status in by_status:
                first = by_status[status][0]
                return code.format(step=first['last_step'], wanted=first['n_steps'])
        if 'missing' in by_status:
            return codes.ERROR_NO_OUTPUT.format(cause=by_status['missing'][0]['cause'] or 'nothing was written')
        return None


def _first_cause(records: list[dict[str, Any]]) -> str:
    return next((record['cause'] for record in records if record.get('cause')), 'no cause in the log')


def _last_line(path: Path) -> str:
    """Last line of a text file that says something; empty if there is no such file."""
    if not path.is_file():
        return ''
    lines = [line for line in path.read_text(errors='replace').splitlines() if line.strip() and 'libcudart' not in line]
    return lines[-1][:300] if lines else ''


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
    from dataclasses import replace

    from ase.units import fs

    frame = Frames.from_atoms([atoms], run=np.array([run]))
    return replace(frame, velocities=atoms.get_velocities() * 1000.0 * fs)
