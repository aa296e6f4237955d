"""Speed and memory of the analysis of a dump, beside OVITO's reader, a-CNA and surface mesh called by hand.

    python benchmarks/analysis_speed.py [--atoms 3456] [--frames 30] [--repeat 3] [--memory-frames 10 1000]

Both sides read the same dump: a bcc lithium slab (100) with vacuum, a void in it, and thermal displacements. By hand
means what a user would write: `import_file`, a-CNA and the alpha-shape surface mesh with its regions in one pipeline,
then a loop over the frames. Our side is `aiida-liheal analyse` with its defaults. Each measurement is a process of its
own, in turn, the best of `--repeat`; on one core the time is that of the processor, on all cores that of the clock,
and the import of OVITO is left out on both sides. On a loaded machine compare ratios, not absolute numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

#: Displacements of lithium at about 300 K, in Å.
RATTLE_A = 0.25


def write_dump(path: Path, n_atoms: int, n_frames: int) -> int:
    """Write a dump of about `n_atoms` atoms a frame; returns their number."""
    from aiida_liheal.structures.bcc import bcc_slab

    # as many layers as the edge is long
    edge = max(4, round((n_atoms / 2) ** (1 / 3)))
    slab = bcc_slab('Li', 3.51, (edge, edge), 2 * edge, 30.0)
    middle = slab.positions.mean(axis=0)
    slab = slab[np.linalg.norm(slab.positions - middle, axis=1) > 7.0]
    rng = np.random.default_rng(7)
    lengths = slab.cell.lengths()
    with path.open('w', encoding='utf-8') as file:
        for step in range(n_frames):
            columns = np.column_stack(
                [
                    np.arange(1, len(slab) + 1),
                    np.ones(len(slab)),
                    slab.positions + rng.normal(scale=RATTLE_A, size=(len(slab), 3)),
                    rng.normal(scale=6.0, size=(len(slab), 3)),
                    rng.normal(-1.6, 0.05, len(slab)),
                ]
            )
            file.write(f'ITEM: TIMESTEP\n{100 * step}\nITEM: NUMBER OF ATOMS\n{len(slab)}\nITEM: BOX BOUNDS pp pp ff\n')
            file.writelines(f'0.0 {length}\n' for length in lengths)
            file.write('ITEM: ATOMS id type x y z vx vy vz c_pe\n')
            np.savetxt(file, columns, fmt='%d %d' + 7 * ' %.6g')
    return len(slab)


def by_hand(dump: str, _: int) -> float:
    """A-CNA and void volume of each frame, as in OVITO's manual; returns the time and the memory of the imports."""
    from ovito.io import import_file
    from ovito.modifiers import CommonNeighborAnalysisModifier, ConstructSurfaceModifier

    loaded = _used_MiB()
    pipeline = import_file(dump)
    pipeline.modifiers.append(CommonNeighborAnalysisModifier())
    pipeline.modifiers.append(ConstructSurfaceModifier(radius=3.0, identify_regions=True))
    rows = []
    for number in range(pipeline.num_frames):
        data = pipeline.compute(number)
        regions = data.surfaces['surface'].regions
        empty = np.asarray(regions['Volume'])[np.asarray(regions['Filled']) == 0]
        rows.append((data.attributes['CommonNeighborAnalysis.counts.BCC'], empty.sum() - empty.max()))
    assert len(rows) == pipeline.num_frames
    return loaded


def ours(dump: str, workers: int) -> float:
    """The whole analysis with its defaults."""
    from aiida_liheal.analysis.series import analyse_trajectory
    from aiida_liheal.analysis.settings import AnalysisSettings

    loaded = _used_MiB()
    analyse_trajectory([dump], AnalysisSettings(n_workers=workers))
    return loaded


def _used_MiB() -> float:  # noqa: N802
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(side: str, dump: str, workers: int) -> None:
    """Run one side in this process and print what it took."""
    import ovito.io
    import ovito.modifiers  # noqa: F401 - what both sides import first is not measured

    clock, processor = time.perf_counter(), time.process_time()
    loaded = {'by hand': by_hand, 'ours': ours}[side](dump, workers)
    taken = {'clock_s': time.perf_counter() - clock, 'processor_s': time.process_time() - processor}
    helpers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps({**taken, 'loaded_MiB': loaded, 'peak_MiB': _used_MiB(), 'worker_peak_MiB': helpers}))


def run(side: str, dump: Path, workers: int, threads: int) -> dict[str, float]:
    """One measurement in a process of its own."""
    environment = {**os.environ, 'OVITO_THREAD_COUNT': str(threads), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, __file__, '--measure', side, str(dump), str(workers)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure both sides and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--atoms', type=int, default=3456)
    parser.add_argument('--frames', type=int, default=30)
    parser.add_argument('--repeat', type=int, default=3)
    parser.add_argument('--memory-frames', type=int, nargs='*', default=[10, 1000])
    parser.add_argument('--memory-atoms', type=int, default=1024)
    parser.add_argument('--measure', nargs=3, metavar=('SIDE', 'DUMP', 'WORKERS'), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        side, dump, workers = options.measure
        measure(side, dump, int(workers))
        return
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'speed.dump'
        n_atoms = write_dump(path, options.atoms, options.frames)
        # ours: one thread in each worker; by hand: OVITO's own threads
        cases = {
            ('one core', 'processor_s'): {'by hand': (1, 1), 'ours': (1, 1)},
            (f'all {cores} cores', 'clock_s'): {'by hand': (1, cores), 'ours': (cores, 1)},
        }
        for (name, key), sides in cases.items():
            best: dict[str, float] = {}
            for _ in range(options.repeat):
                for side, (workers, threads) in sides.items():
                    taken = run(side, path, workers, threads)[key]
                    best[side] = min(taken, best.get(side, taken))
            rates = {side: n_atoms * options.frames / 1000 / taken for side, taken in best.items()}
            print(
                f'{name}, {n_atoms} atoms, {options.frames} frames: ours {rates["ours"]:.1f} thousand atoms/s, '
                f'by hand {rates["by hand"]:.1f}; ours takes {best["ours"] / best["by hand"]:.2f} of its time',
                flush=True,
            )
        for n_frames in options.memory_frames:
            path = Path(folder) / 'memory.dump'
            n_atoms = write_dump(path, options.memory_atoms, n_frames)
            for side, workers in (('by hand', 1), ('ours', 1), ('ours', cores)):
                found = run(side, path, workers, 1)
                print(
                    f'memory, {n_atoms} atoms, {n_frames} frames, {side}, {workers} processes: '
                    f'{found["peak_MiB"]:.0f} MiB at its peak, {found["loaded_MiB"]:.0f} MiB of it before the first '
                    f'frame' + (f'; {found["worker_peak_MiB"]:.0f} MiB a worker' if workers > 1 else ''),
                    flush=True,
                )


if __name__ == '__main__':
    main()
