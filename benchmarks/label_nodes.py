"""Nodes and bytes that labels cost: what a profile holds after 100, 1,000 and 10,000 frames went through `label`.

    python benchmarks/label_nodes.py [--frames 100 1000 10000] [--batch-sizes 64 1000] [--repeat 2] [--detail]

Each line is an empty profile of its own (SQLite, in a folder of its own) in which one `LabelWorkChain` labels distinct
frames by the engine `ase` with a Lennard-Jones potential. Nodes, links and bytes are those that the work chain and the
frames it was given added. Bytes of the repository are those after packing (`verdi storage maintain --full`). They are
set against the raw numbers of the labels: positions, cell, energy, forces and virial of each frame. 1 is returned if
the nodes do not follow from the number of batches alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
SETTINGS = {'calculator': 'lj', 'parameters': {'sigma': 2.7, 'epsilon': 0.1, 'rc': 6.0}}
#: Numbers of a labelled frame that are its own: positions and forces by atom; cell, virial and energy.
RAW = ('positions', 'cells', 'energies', 'forces', 'virials')


def make_frames(n: int, repeat: int) -> Any:
    """Distinct bcc lithium cells of 2 x repeat^3 atoms."""
    import numpy as np
    from ase.build import bulk

    from aiida_liheal.structures.frames import Frames

    images = []
    for seed in range(n):
        atoms = bulk('Li', 'bcc', a=3.4, cubic=True) * (repeat, repeat, repeat)
        atoms.rattle(0.05, rng=np.random.default_rng(seed))
        images.append(atoms)
    return Frames.from_atoms(images)


def database_facts(home: Path) -> dict[str, int]:
    """Bytes of the database, of its JSON by what it belongs to, and numbers of rows."""
    (path,) = home.rglob('database.sqlite')
    with sqlite3.connect(path) as connection:
        # what is still in the journal belongs to it
        connection.execute('PRAGMA wal_checkpoint(TRUNCATE)')

        def number(query: str) -> int:
            return int(connection.execute(query).fetchone()[0] or 0)

        facts = {
            'nodes': number('SELECT COUNT(*) FROM db_dbnode'),
            'links': number('SELECT COUNT(*) FROM db_dblink'),
            'logs': number('SELECT COUNT(*) FROM db_dblog'),
        }
        kinds = connection.execute(
            'SELECT node_type, COUNT(*), SUM(LENGTH(attributes)), SUM(LENGTH(extras)), '
            'SUM(LENGTH(repository_metadata)) FROM db_dbnode GROUP BY node_type'
        ).fetchall()
        for kind, n, *lengths in kinds:
            name = kind.rstrip('.').rsplit('.', 1)[-1]
            facts[f'n.{name}'] = n
            for what, length in zip(('attributes', 'extras', 'files'), lengths, strict=True):
                facts[f'{what}.{name}'] = length or 0
    connection.close()
    return {**facts, 'database': path.stat().st_size}


def repository_bytes() -> int:
    """Bytes of the packed repository on the disk, with its index."""
    from aiida.manage import get_manager

    storage = get_manager().get_profile_storage()
    storage.maintain(full=True)
    folder = Path(get_manager().get_profile().storage_config['filepath'], 'container')
    return sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())


def label(n: int, batch_size: int, repeat: int) -> None:
    """Label frames in the profile of the environment, and print what that took as JSON."""
    from aiida import load_profile
    from aiida.engine import run_get_node
    from aiida.manage import get_manager
    from aiida.orm import InstalledCode, load_computer

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.workchains.label import LabelWorkChain

    load_profile()
    home = Path(os.environ['AIIDA_PATH'])
    code = InstalledCode(
        label='python', computer=load_computer('localhost'), filepath_executable=sys.executable, with_mpi=False
    ).store()
    empty = repository_bytes()
    before = database_facts(home)
    given = FramesData(make_frames(n, repeat), domain='bulk')
    builder = LabelWorkChain.get_builder_from_protocol(
        code,
        given,
        overrides={'batch_size': batch_size, 'max_at_once': 2, 'ase': {'settings': SETTINGS}},
        engine='ase',
    )
    begin = time.perf_counter()
    outputs, node = run_get_node(builder)
    seconds = time.perf_counter() - begin
    if not node.is_finished_ok:
        raise SystemExit(f'{node.process_label}<{node.pk}>: {node.exit_message}')
    shards = [shard.get_frames() for shard in outputs['frames'].values()]
    raw = sum(getattr(shard, name).nbytes for shard in shards for name in RAW)
    kinds = {
        'labelled': sum(array.nbytes for shard in shards for array in shard.to_arrays().values()),
        'given': sum(array.nbytes for array in given.get_frames().to_arrays().values()),
        'retrieved': sum(
            job.outputs.retrieved.base.repository.get_object_size(name)
            for job in node.called
            if job.process_label == 'AseCalculation'
            for name in job.outputs.retrieved.base.repository.list_object_names()
        ),
    }
    repository = repository_bytes() - empty
    get_manager().unload_profile()
    after = database_facts(home)
    print(
        json.dumps(
            {
                'frames': n,
                'batch_size': batch_size,
                'n_labelled': sum(map(len, shards)),
                'seconds': seconds,
                'raw': raw,
                'repository': repository,
                **kinds,
                **{key: value - before.get(key, 0) for key, value in after.items()},
            }
        )
    )


def in_its_own_profile(n: int, batch_size: int, repeat: int) -> dict[str, Any]:
    """What `label` prints, run in a fresh profile."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, 'AIIDA_PATH': home, 'OMP_NUM_THREADS': '1'}
        presto = [str(BIN / 'verdi'), 'presto', '--profile-name', 'bench']
        subprocess.run(presto, env=environment, check=True, capture_output=True)
        command = [sys.executable, __file__, '--one', str(n), str(batch_size), '--repeat', str(repeat)]
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> int:
    """Measure and print a table; 1 if nodes grow with frames."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--frames', type=int, nargs='+', default=[100, 1000, 10_000])
    parser.add_argument('--batch-sizes', type=int, nargs='+', default=[64, 1000])
    parser.add_argument('--repeat', type=int, default=2, help='a cell of 2 x repeat^3 atoms')
    parser.add_argument('--detail', action='store_true', help='all that was counted, as JSON')
    parser.add_argument('--one', type=int, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        label(*given.one, given.repeat)
        return 0
    print(
        '| batch size | frames | batches | nodes | links | database (kB) | a frame (B) | repository (kB) | raw (kB) '
        '| repository over raw | both over raw | seconds |'
    )
    print('|' + '---|' * 12)
    by_batches: dict[bool, set[float]] = {}
    for batch_size in given.batch_sizes:
        for n in given.frames:
            row = in_its_own_profile(n, batch_size, given.repeat)
            batches = -(-n // batch_size)
            print(
                f'| {batch_size} | {n:,} | {batches} | {row["nodes"]} | {row["links"]} | {row["database"] / 1e3:.0f} '
                f'| {row["database"] / n:.0f} | {row["repository"] / 1e3:.0f} | {row["raw"] / 1e3:.0f} '
                f'| {row["repository"] / row["raw"]:.2f} | {(row["repository"] + row["database"]) / row["raw"]:.2f} '
                f'| {row["seconds"]:.0f} |',
                flush=True,
            )
            if given.detail:
                print(json.dumps(row, indent=1), flush=True)
            # frames that are no more than a batch are not split: one node a batch and a function less
            by_batches.setdefault(batches > 1, set()).add((row['nodes'], batches))
    split = sorted(by_batches.get(True, set()), key=lambda pair: pair[1])
    slopes = {(b[0] - a[0]) / (b[1] - a[1]) for a, b in itertools.pairwise(split) if b[1] > a[1]}
    return 1 if len(slopes) > 1 or len(by_batches.get(False, set())) > 1 else 0


if __name__ == '__main__':
    sys.exit(main())
