"""Label structures with a calculator of ASE: energy, forces and virial of each frame, one after another.

Stand-alone: it needs numpy and ASE. In the working folder it reads `frames.npz` (arrays of `Frames.to_arrays`, read
without pickle), `settings.json` (keys of `AseSettings`), and `labels.npz` of an earlier job, if there is one, whose
frames it does not do again. It writes `labels.npz` and `status.json` as it goes.

Usage: python ase_label.py
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError, get_calculator_class
from ase.stress import voigt_6_to_full_3x3_stress

#: Longest time in s between two updates of the files.
COLLECT_EVERY_S = 10.0


class StopRequestedError(Exception):
    """The scheduler asks the job to end."""


def read_frames(arrays: dict[str, Any]) -> list[Atoms]:
    """The structures in the arrays of a shard."""
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


def label(atoms: Atoms, calculator: Any) -> dict[str, Any]:
    """Free energy in eV, forces in eV/Å and virial in eV (-volume x stress) of one structure, or why it has none."""
    atoms = atoms.copy()
    atoms.calc = calculator
    begin = time.perf_counter()
    try:
        energy = atoms.get_potential_energy(force_consistent=True)
    except PropertyNotImplementedError:
        energy = atoms.get_potential_energy()  # a calculator that knows one energy only
    forces = atoms.get_forces()
    virial = -atoms.get_volume() * voigt_6_to_full_3x3_stress(atoms.get_stress())
    if not all(np.isfinite(value).all() for value in (energy, forces, virial)):
        return {'cause': 'the calculator gave numbers that are not finite', 'seconds': time.perf_counter() - begin}
    return {'energy': energy, 'forces': forces, 'virial': virial, 'seconds': time.perf_counter() - begin}


def write(folder: Path, records: dict[int, dict[str, Any]], status: dict[str, Any], fingerprint: str) -> None:
    """Bring the files up to date; each is there whole or not at all."""
    done = [index for index, record in sorted(records.items()) if 'energy' in record]
    arrays = {
        'source_index': np.array(done, dtype=np.int64),
        'energies': np.array([records[i]['energy'] for i in done], dtype=float),
        'forces': np.concatenate([records[i]['forces'] for i in done] or [np.zeros((0, 3))]),
        'virials': np.array([records[i]['virial'] for i in done], dtype=float).reshape(-1, 3, 3),
        'seconds': np.array([records[i]['seconds'] for i in done], dtype=float),
        'fingerprint': np.array(fingerprint),
    }
    with (folder / '.labels.npz').open('wb') as handle:
        np.savez(handle, allow_pickle=False, **arrays)
    (folder / '.labels.npz').replace(folder / 'labels.npz')
    status['frames'] = [
        {
            'index': index,
            'status': 'converged' if 'energy' in record else 'failed',
            'cause': record.get('cause', ''),
            'seconds': record['seconds'],
        }
        for index, record in sorted(records.items())
    ]
    (folder / '.status.json').write_text(json.dumps(status), encoding='utf-8')
    (folder / '.status.json').replace(folder / 'status.json')


def take_over(folder: Path, fingerprint: str, counts: Any) -> dict[int, dict[str, Any]]:
    """What an earlier job finished of the same frames with the same settings."""
    if not (folder / 'labels.npz').is_file():
        return {}
    with np.load(folder / 'labels.npz', allow_pickle=False) as archive:
        if str(archive['fingerprint']) != fingerprint:
            return {}
        source, forces = archive['source_index'], archive['forces']
        stops = np.cumsum(counts[source])
        return {
            int(index): {
                'energy': archive['energies'][number],
                'forces': forces[stops[number] - counts[index] : stops[number]],
                'virial': archive['virials'][number],
                'seconds': archive['seconds'][number],
            }
            for number, index in enumerate(source)
        }


def ask_to_stop(signum: int, _: Any) -> None:
    """End what runs; frames that are done are kept."""
    raise StopRequestedError(f'signal {signum}')


def main(folder: Path) -> int:
    """Label the frames of a folder; 0 if every frame was tried, 1 if none can be, 2 if it was stopped."""
    import ase

    begin = collected = time.perf_counter()
    settings = json.loads((folder / 'settings.json').read_text(encoding='utf-8'))
    with np.load(folder / 'frames.npz', allow_pickle=False) as archive:
        arrays = dict(archive)
    images = read_frames(arrays)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in ('elements', 'counts', 'types', 'positions', 'cells', 'pbc'):
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    status: dict[str, Any] = {
        'n_given': len(images),
        'complete': False,
        'error': None,
        'stopped_by': None,
        'wall_s': 0.0,
    }
    status['versions'] = {'ase': ase.__version__, 'numpy': np.__version__, 'python': sys.version.split()[0]}
    records = take_over(folder, digest.hexdigest(), arrays['counts'])
    if records:
        print(f'{len(records)} of {len(images)} frames were labelled before', flush=True)
    code = 0
    signal.signal(signal.SIGTERM, ask_to_stop)
    try:
        make = get_calculator_class(settings['calculator'])
        calculator = make(**settings['parameters'])
        for index, atoms in enumerate(images):
            if index in records:
                continue
            try:
                records[index] = label(atoms, calculator)
            except StopRequestedError:
                raise
            # whatever goes wrong with one frame is written down as its cause, and the other frames go on
            except Exception as error:
                records[index] = {'cause': f'{type(error).__name__}: {error}', 'seconds': 0.0}
                calculator = make(**settings['parameters'])  # the old one may be left half way
            if time.perf_counter() - collected > COLLECT_EVERY_S:
                write(folder, records, status, digest.hexdigest())
                collected = time.perf_counter()
    except StopRequestedError as stop:
        status['stopped_by'] = str(stop)
        print(stop, flush=True)
        code = 2
    except Exception as error:
        # of whatever kind: the calculator cannot be made
        status['error'] = f'{settings["calculator"]}: {type(error).__name__}: {error}'
        print(status['error'], file=sys.stderr, flush=True)
        code = 1
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    status['complete'] = len(records) == len(images)
    status['wall_s'] = time.perf_counter() - begin
    write(folder, records, status, digest.hexdigest())
    return code


if __name__ == '__main__':
    sys.exit(main(Path()))
