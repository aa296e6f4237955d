"""Label structures with GPAW: free energy, forces and virial of each frame, several frames side by side.

Stand-alone: it needs numpy, ASE and GPAW, nothing of this package. In the working folder it reads

- `frames.npz`: the arrays of `Frames.to_arrays` (structures/frames.py), read without pickle;
- `settings.json`: the keys of `GpawSettings` (engines/gpaw/calculation.py);
- `job.json`: `walltime_s` of the job, or null.

Each frame is computed in a process of its own, with one thread, and its record is written the moment it is done
(`labels/frame_00012.npz`), so that a killed job keeps what it finished. A record is taken over by a later run in the
same folder if its fingerprint says that structure, settings and PAW setups are the same. `labels.npz` (all converged
frames) and `status.json` (what became of every frame, versions, setups) are brought up to date as frames finish. A
frame is not begun if, by what others took, it would not end before the walltime; what still runs then is stopped.

Usage: python gpaw_label.py
"""

from __future__ import annotations

import os

if __name__ == '__main__':
    # One thread a process, before numpy loads its BLAS: more threads made one frame four times slower, and several
    # frames side by side use the cores better.
    for _name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
        os.environ[_name] = '1'

import hashlib
import json
import multiprocessing
import signal
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import kptdensity2monkhorstpack
from ase.stress import voigt_6_to_full_3x3_stress

#: What can become of a frame. `failed` ones are tried again by a later run in the same folder, the others are not.
CONVERGED, NOT_CONVERGED, FAILED = 'converged', 'not_converged', 'failed'
#: Longest time in s between two updates of `labels.npz` and `status.json` while frames finish.
COLLECT_EVERY_S = 10.0
#: Time in s after which a request to stop is noticed.
LOOK_EVERY_S = 0.5
#: Requests to stop: what is finished is collected first.
STOPPING = (signal.SIGTERM, signal.SIGINT)
#: Settings that say how frames are computed, not what comes out: no part of a record's fingerprint.
NOT_IN_FINGERPRINT = ('n_workers', 'min_distance_A', 'margin_s', 'max_frame_s')

Arrays = dict[str, Any]


class RunError(Exception):
    """Nothing can be labelled; `kind` is what the parser chooses its exit code by."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def vacuum_gap(atoms: Atoms, axis: int) -> float:
    """Widest empty layer in Å between planes parallel to the other two cell vectors, across the cell's edge too."""
    scaled = np.sort(atoms.cell.scaled_positions(atoms.positions)[:, axis] % 1.0)
    gap = np.diff(scaled, append=scaled[0] + 1.0).max()
    normal = np.cross(atoms.cell[axis - 2], atoms.cell[axis - 1])
    return float(gap * atoms.get_volume() / np.linalg.norm(normal))


def kpoint_mesh(atoms: Atoms, spacing_per_A: float, vacuum_gap_A: float) -> tuple[int, int, int]:
    """Monkhorst-Pack mesh whose points are at most `spacing_per_A` apart (1/Å, with the factor of 2 pi, as in VASP).

    A direction that is not periodic, or in which at least `vacuum_gap_A` Å are empty, gets one point.

    Raises
    ------
    ValueError
        If a direction is not periodic but has less vacuum: plane waves repeat the cell there, and the images touch.
    """
    mesh = kptdensity2monkhorstpack(atoms, kptdensity=1.0 / spacing_per_A, even=False)
    for axis, name in enumerate('abc'):
        gap = vacuum_gap(atoms, axis)
        if not atoms.pbc[axis] and gap < vacuum_gap_A:
            raise ValueError(
                f'the cell is not periodic along {name} but has only {gap:.2f} Å of vacuum there; plane waves repeat '
                f'it, so at least {vacuum_gap_A} Å (vacuum_gap_A) are needed'
            )
        if gap >= vacuum_gap_A:
            mesh[axis] = 1
    return (int(mesh[0]), int(mesh[1]), int(mesh[2]))


def read_frames(path: Path) -> list[Atoms]:
    """The structures of a `frames.npz`; labels in it are ignored."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in ('elements', 'counts', 'types', 'positions', 'cells', 'pbc')}
    stops = np.cumsum(arrays['counts'])
    images = []
    for index, (stop, count) in enumerate(zip(stops, arrays['counts'], strict=True)):
        atoms = slice(stop - count, stop)
        images.append(
            Atoms(
                symbols=arrays['elements'][arrays['types'][atoms]].tolist(),
                positions=arrays['positions'][atoms].astype(float),
                cell=arrays['cells'][index].astype(float),
                pbc=arrays['pbc'][index],
            )
        )
    return images


def fingerprint(atoms: Atoms, settings: dict[str, Any], setups: dict[str, Any] | None = None) -> str:
    """SHA-256 over a structure, and the settings and PAW setups that its labels depend on."""
    relevant = {key: value for key, value in settings.items() if key not in NOT_IN_FINGERPRINT}
    known = {symbol: setup['md5'] for symbol, setup in (setups or {}).items()}
    digest = hashlib.sha256(json.dumps([relevant, known], sort_keys=True).encode())
    for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def calculator_parameters(atoms: Atoms, settings: dict[str, Any]) -> dict[str, Any]:
    """Keywords of the GPAW calculator for one structure."""
    return {
        'mode': {'name': 'pw', 'ecut': settings['cutoff_eV']},
        'xc': settings['xc'],
        'kpts': {'size': kpoint_mesh(atoms, settings['kpoint_spacing_per_A'], settings['vacuum_gap_A'])},
        'occupations': {
            'name': 'methfessel-paxton',
            'width': settings['smearing_eV'],
            'order': settings['smearing_order'],
        },
        'eigensolver': {'name': settings['eigensolver']},
        'convergence': {
            'energy': settings['energy_tolerance_eV'],
            'density': settings['density_tolerance'],
            'eigenstates': settings['eigenstates_tolerance_eV2'],
        },
        'maxiter': settings['max_scf_steps'],
        # a frame from a hot run has no symmetry worth looking for; k and -k still count once
        'symmetry': {'point_group': False, 'time_reversal': True},
    }


def label(atoms: Atoms, settings: dict[str, Any], log: str | Path | None = None) -> Arrays:
    """Free energy, forces and virial of one structure.

    Returns
    -------
    dict
        `status` and `cause`; and if converged `energy` (eV, the free energy, whose gradient the forces are), `forces`
        (n_atoms, 3) in eV/Å, `virial` (3, 3) in eV: -volume x stress, positive under compression; always
        `kpoint_mesh`, `scf_steps`, `seconds`.
    """
    from gpaw import GPAW, KohnShamConvergenceError

    begin = time.perf_counter()
    parameters = calculator_parameters(atoms, settings)
    record: Arrays = {'status': CONVERGED, 'cause': '', 'kpoint_mesh': parameters['kpts']['size'], 'scf_steps': 0}
    atoms = atoms.copy()
    atoms.pbc = True  # plane waves; `kpoint_mesh` has made sure of vacuum where the structure is not periodic
    atoms.calc = GPAW(**parameters, txt=None if log is None else str(log))
    try:
        energy = atoms.get_potential_energy(force_consistent=True)
        forces = atoms.get_forces()
        stress = voigt_6_to_full_3x3_stress(atoms.get_stress())
    except KohnShamConvergenceError:
        record['status'] = NOT_CONVERGED
        record['cause'] = f'not self-consistent after {settings["max_scf_steps"]} steps (max_scf_steps)'
    else:
        record |= {'energy': energy, 'forces': forces, 'virial': -atoms.get_volume() * stress}
        if not all(np.isfinite(record[name]).all() for name in ('energy', 'forces', 'virial')):
            record = {k: v for k, v in record.items() if k not in ('energy', 'forces', 'virial')}
            record |= {'status': FAILED, 'cause': 'GPAW gave numbers that are not finite'}
    record['scf_steps'] = atoms.calc.dft.scf_loop.niter
    record['seconds'] = time.perf_counter() - begin
    return record


def write_atomically(path: Path, write: Any) -> None:
    """Write a file under another name and move it into place: it is there whole or not at all."""
    partial = path.with_name(f'.{path.name}')
    with partial.open('wb') as handle:
        write(handle)
    partial.replace(path)


def write_record(path: Path, record: Arrays) -> None:
    """Write the record of one frame."""
    write_atomically(path, lambda handle: np.savez(handle, allow_pickle=False, **record))


def read_record(path: Path) -> Arrays:
    """Read the record of one frame."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] if archive[name].ndim else archive[name].item() for name in archive.files}


class Worker:
    """A process that labels one frame."""

    def __init__(self, index: int, process: Any) -> None:
        self.index = index
        self.process = process
        self.begin = time.perf_counter()
        self.is_too_long = False

    @property
    def seconds(self) -> float:
        """How long it has been at work."""
        return time.perf_counter() - self.begin


class Batch:
    """The frames of one folder and their records.

    Parameters
    ----------
    folder : Path
        The working folder, with `frames.npz`, `settings.json` and `job.json`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.begin = time.perf_counter()
        self.settings: dict[str, Any] = json.loads((folder / 'settings.json').read_text(encoding='utf-8'))
        self.walltime_s: float | None = json.loads((folder / 'job.json').read_text(encoding='utf-8'))['walltime_s']
        self.images = read_frames(folder / 'frames.npz')
        # cost grows about as (atoms in the cell)^2 x k-points, and k-points go as 1/volume
        self.costs = [len(atoms) ** 2 / atoms.get_volume() for atoms in self.images]
        self.seconds_per_cost = 0.0
        self.fingerprints: list[str] = []
        self.failed_before: set[int] = set()
        self.records: dict[int, Arrays] = {}
        self.n_taken_over = 0
        self.versions: dict[str, Any] = {}
        self.error: dict[str, str] | None = None
        self.collected = 0.0
        self.stopped_by: str | None = None
        for name in ('labels', 'logs'):
            (folder / name).mkdir(exist_ok=True)

    def record_path(self, index: int) -> Path:
        """Where the record of a frame lies."""
        return self.folder / 'labels' / f'frame_{index:05d}.npz'

    def take_over(self) -> None:
        """Take over records of an earlier run that belong to these frames, settings and setups."""
        setups = self.versions['setups']
        self.fingerprints = [fingerprint(atoms, self.settings, setups) for atoms in self.images]
        for index, wanted in enumerate(self.fingerprints):
            path = self.record_path(index)
            if not path.is_file():
                continue
            record = read_record(path)
            if record['fingerprint'] == wanted:
                if record['status'] == FAILED:
                    self.failed_before.add(index)
                else:
                    self.records[index] = record
                    self.learn_pace(index, record['seconds'])
        self.n_taken_over = len(self.records)
        if self.records:
            print(f'{len(self.records)} of {len(self.images)} frames were labelled before', flush=True)

    def check_setups(self) -> None:
        """Find the PAW setup of every element, before hours are spent.

        Raises
        ------
        RunError
            If GPAW is not installed, or has no setup for an element.
        """
        try:
            import gpaw
            from gpaw.setup_data import SetupData
        except ImportError as error:
            raise RunError('gpaw_missing', f'{sys.executable} cannot import gpaw ({error})') from error
        import ase

        setups: dict[str, Any] = {}
        for symbol in sorted({symbol for atoms in self.images for symbol in atoms.symbols}):
            try:
                data = SetupData(symbol, self.settings['xc'])
            except FileNotFoundError as error:
                raise RunError(
                    'setup_missing', f'GPAW has no {self.settings["xc"]} setup for {symbol} in {gpaw.setup_paths}'
                ) from error
            setups[symbol] = {
                'file': Path(data.filename).name if data.filename else f'{symbol}.{self.settings["xc"]}',
                'valence_electrons': int(data.Nv or 0),
                'md5': data.fingerprint,
            }
        self.versions = {
            'gpaw': gpaw.__version__,
            'ase': ase.__version__,
            'numpy': np.__version__,
            'python': '.'.join(str(part) for part in sys.version_info[:3]),
            'setups': setups,
        }

    def run_one(self, index: int) -> None:
        """Label one frame and write its record: the body of a worker process."""
        for signum in STOPPING:
            signal.signal(signum, signal.SIG_DFL)
        try:
            record = label(self.images[index], self.settings, self.folder / 'logs' / f'frame_{index:05d}.txt')
        # whatever goes wrong with one frame is written down as its cause, and the other frames go on
        except Exception as error:
            record = {'status': FAILED, 'cause': f'{type(error).__name__}: {error}', 'scf_steps': 0, 'seconds': 0.0}
        write_record(self.record_path(index), {**record, 'fingerprint': self.fingerprints[index]})

    def learn_pace(self, index: int, seconds: float) -> None:
        """Keep how slow the slowest frame was for what it costs."""
        self.seconds_per_cost = max(self.seconds_per_cost, seconds / self.costs[index])

    def seconds_left(self) -> float:
        """Time until the job should be over."""
        if self.walltime_s is None:
            return float('inf')
        return self.walltime_s - float(self.settings['margin_s']) - (time.perf_counter() - self.begin)

    def next_to_start(self, waiting: list[int], is_first: bool) -> int | None:
        """The first frame that will come to its end in the time left; what would not is left to the next job.

        A job that has done nothing yet tries at least the cheapest: else it would go on like that for ever.
        """
        left = self.seconds_left()
        fitting = (index for index in waiting if self.seconds_per_cost * self.costs[index] <= left)
        cheapest = min(waiting, key=self.costs.__getitem__) if waiting and is_first else None
        return next(fitting, cheapest)

    def run(self) -> None:
        """Label what is not labelled yet, `n_workers` frames side by side."""
        n_workers = self.settings['n_workers'] or len(os.sched_getaffinity(0))
        # the costly ones first, so that no worker is left alone with one at the end; what failed before comes last, so
        # that it does not keep the others waiting again
        waiting = [index for index in range(len(self.images)) if index not in self.records]
        waiting.sort(key=lambda index: (index in self.failed_before, -self.costs[index]))
        # forked, not spawned: importing GPAW takes seconds, and no threads are about
        context = multiprocessing.get_context('fork')
        running: dict[Any, Worker] = {}
        # a handler that raised could do so inside a fork, where Python drops exceptions; so it sets a flag
        for signum in STOPPING:
            signal.signal(signum, self.ask_to_stop)
        try:
            while (waiting or running) and self.stopped_by is None:
                while len(running) < n_workers:
                    index = self.next_to_start(waiting, not running and len(self.records) == self.n_taken_over)
                    if index is None:
                        break
                    waiting.remove(index)
                    self.record_path(index).unlink(missing_ok=True)
                    process = context.Process(target=self.run_one, args=(index,))
                    process.start()
                    running[process.sentinel] = Worker(index, process)
                if self.seconds_left() <= 0 or not running:
                    self.stopped_by = 'walltime'
                    break
                for sentinel in wait(list(running), timeout=LOOK_EVERY_S):
                    self.finish(running.pop(sentinel))
                for worker in running.values():
                    if self.settings['max_frame_s'] is not None and worker.seconds > self.settings['max_frame_s']:
                        worker.is_too_long = True
                        worker.process.kill()
        finally:
            for worker in running.values():
                worker.process.kill()
                worker.process.join()

    def ask_to_stop(self, signum: int, _: Any) -> None:
        """Stop at the next look when the scheduler (SIGTERM) or a person (Ctrl-C) asks for it."""
        self.stopped_by = f'signal {signum}'

    def finish(self, worker: Worker) -> None:
        """Take in the record of a frame whose process ended."""
        worker.process.join()
        index, seconds, exitcode = worker.index, worker.seconds, int(worker.process.exitcode or 0)
        path = self.record_path(index)
        if path.is_file():
            record = read_record(path)
        else:
            if worker.is_too_long:
                cause = f'it was stopped after {seconds:.0f} s (max_frame_s)'
            elif exitcode < 0:
                cause = f'its process was ended by signal {-exitcode} (out of memory?)'
            else:
                cause = f'its process ended with status {exitcode}'
            record = {'status': FAILED, 'cause': cause, 'seconds': seconds, 'scf_steps': 0}
            record |= {'fingerprint': self.fingerprints[index]}
            write_record(path, record)
        if len(self.records) == self.n_taken_over:
            self.seconds_per_cost = 0.0  # what it was in another job, perhaps on another machine
        self.records[index] = record
        self.learn_pace(index, seconds)
        print(
            f'{len(self.records)}/{len(self.images)} frame {index} ({len(self.images[index])} atoms): '
            f'{record["status"]} {record["cause"]} after {record["scf_steps"]} steps, {record["seconds"]:.1f} s',
            flush=True,
        )
        if time.perf_counter() - self.collected > COLLECT_EVERY_S:
            self.collect()

    def collect(self) -> None:
        """Bring `labels.npz` and `status.json` up to date."""
        done = [i for i, record in sorted(self.records.items()) if record['status'] == CONVERGED]
        arrays = {
            'source_index': np.array(done, dtype=np.int64),
            'energies': np.array([self.records[i]['energy'] for i in done], dtype=float),
            'forces': np.concatenate([self.records[i]['forces'] for i in done] or [np.zeros((0, 3))]),
            'virials': np.array([self.records[i]['virial'] for i in done], dtype=float).reshape(-1, 3, 3),
        }
        write_atomically(self.folder / 'labels.npz', lambda handle: np.savez(handle, allow_pickle=False, **arrays))
        shown = ('status', 'cause', 'scf_steps', 'seconds', 'kpoint_mesh')
        frames = []
        for index, record in sorted(self.records.items()):
            line = {'index': index, **{name: record[name] for name in shown if name in record}}
            if 'kpoint_mesh' in line:
                line['kpoint_mesh'] = [int(n) for n in line['kpoint_mesh']]
            frames.append(line)
        status = {
            'complete': self.error is None and len(self.records) == len(self.images),
            'error': self.error,
            'stopped_by': self.stopped_by,
            'n_given': len(self.images),
            'frames': frames,
            'wall_s': time.perf_counter() - self.begin,
            'versions': self.versions,
        }
        content = json.dumps(status, indent=1).encode()
        write_atomically(self.folder / 'status.json', lambda handle: handle.write(content))
        self.collected = time.perf_counter()


def main(folder: Path) -> int:
    """Label the frames of a folder; 0 if every frame was tried, 1 if none can be, 2 if it was stopped before."""
    batch = Batch(folder)
    try:
        batch.check_setups()
        batch.take_over()
        batch.collect()
        batch.run()
    except RunError as error:
        batch.error = {'kind': error.kind, 'message': str(error)}
        print(error, file=sys.stderr, flush=True)
    finally:
        batch.collect()
    n_converged = sum(record['status'] == CONVERGED for record in batch.records.values())
    print(f'{n_converged} of {len(batch.images)} frames labelled', flush=True)
    if batch.error is not None:
        return 1
    return 0 if batch.stopped_by is None else 2


if __name__ == '__main__':
    sys.exit(main(Path()))
