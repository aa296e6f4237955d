"""Import of a folder of labelled frames: seconds, nodes and bytes, into an empty profile of its own.

    python benchmarks/data_import.py FOLDER [--each]

Every DeePMD-kit system, OUTCAR, … below FOLDER is imported by the command line as one shard, or with `--each` as a
shard a system. Bytes are those of the repository and of the database, against those of the arrays that were imported.
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

BIN = Path(sys.executable).parent

COUNT = """
import json
from pathlib import Path
from aiida import load_profile
profile = load_profile()
from aiida.orm import Node, QueryBuilder
from aiida_liheal.data.frames import FramesData
shards = QueryBuilder().append(FramesData).all(flat=True)
names = [(s, n) for s in shards for n in s.base.repository.list_object_names()]
print(json.dumps({
    'nodes': QueryBuilder().append(Node).count(),
    'frames': sum(map(len, shards)),
    'systems': sum(len(s.sources) for s in shards),
    'repository_bytes': sum(s.base.repository.get_object_size(n) for s, n in names),
}))
"""


def main() -> None:
    """Run the import and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--each', action='store_true', help='a shard a system')
    arguments = parser.parse_args()
    systems = sorted(file.parent for file in arguments.folder.rglob('type.raw'))
    paths = systems if arguments.each and systems else [arguments.folder]
    given = sum(file.stat().st_size for file in arguments.folder.rglob('set.*/*.npy'))
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, 'AIIDA_PATH': home, 'OMP_NUM_THREADS': '1'}
        subprocess.run(
            [BIN / 'verdi', 'presto', '--profile-name', 'bench'], env=environment, check=True, capture_output=True
        )

        def database_size() -> int:
            # with the journal, which SQLite writes back when it likes
            return sum(file.stat().st_size for file in Path(home).rglob('database.sqlite*'))

        before = database_size()
        start, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [BIN / 'aiida-liheal', 'data', 'import', 'frames', *map(str, paths)]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        counted = json.loads(
            subprocess.run(
                [sys.executable, '-c', COUNT], env=environment, check=True, capture_output=True, text=True
            ).stdout
        )
        database = database_size() - before
    print(
        json.dumps(
            {
                **counted,
                'seconds': round(seconds, 2),
                'cpu_seconds': round(after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime, 2),
                'database_bytes': database,
                'bytes_of_arrays': given or None,
                'ratio': round((counted['repository_bytes'] + database) / given, 4) if given else None,
            }
        )
    )


if __name__ == '__main__':
    main()
