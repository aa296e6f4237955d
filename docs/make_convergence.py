"""Print the tables of `convergence.md` and draw its figure, from the archive of its run; runs nothing.

python docs/make_convergence.py examples/convergence.aiida [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from aiida import load_profile
from aiida.orm import QueryBuilder, WorkChainNode
from aiida.storage.sqlite_zip.backend import SqliteZipBackend

from aiida_liheal.report.convergence import draw, markdown

IMAGES = Path(__file__).parent / 'images'


def main(archive: str, folder: str | None = None) -> None:
    """Print the tables, draw the figure."""
    load_profile(SqliteZipBackend.create_profile(archive))
    query = QueryBuilder().append(WorkChainNode, filters={'process_type': {'like': '%liheal.convergence'}})
    ((node,),) = query.all()
    table = node.outputs.table.get_dict()
    print(markdown(table))
    draw(table, Path(folder or IMAGES) / 'convergence.png')


if __name__ == '__main__':
    main(*sys.argv[1:])
