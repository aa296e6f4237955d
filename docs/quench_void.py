"""What is left of a void that closed: the last frame of the gallery's run at 300 K, quenched, and its dislocations.

python docs/quench_void.py examples/gallery.aiida

Needs `lmp` with DeePMD-kit (extra `engines`); about a minute.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from aiida import load_profile
from aiida.storage.sqlite_zip.backend import SqliteZipBackend
from make_gallery import campaign_of, points_of
from ovito.io import import_file
from ovito.modifiers import CommonNeighborAnalysisModifier, DislocationAnalysisModifier

from aiida_liheal.lammps.decks import write_data

DECK = """units metal
atom_style atomic
read_data start.data
pair_style deepmd m0.pb
pair_coeff * * Li
min_style fire
minimize 0 1e-3 1500 3000
write_data quenched.data nocoeff
"""


def main(archive: str) -> None:
    """Print the share of bcc, and each dislocation with its Burgers vector and length."""
    load_profile(SqliteZipBackend.create_profile(archive))
    run = points_of(campaign_of())['void_temperature_K_300']
    lmp = shutil.which('lmp')
    if lmp is None:
        sys.exit('lmp is not on PATH: install the extra `engines`')
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / 'm0.pb').write_bytes(run.inputs.potentials.m0.read(run.inputs.potentials.m0.model_role))
        write_data(run.outputs.last_frames.get_frames().to_atoms(0), folder / 'start.data', ['Li'])
        (folder / 'in.lmp').write_text(DECK, encoding='utf-8')
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'TF_CPP_MIN_LOG_LEVEL': '3'}
        subprocess.run(  # noqa: S603 (no part of it is a user's)
            [lmp, '-in', 'in.lmp'], cwd=folder, env=environment, capture_output=True, check=True
        )
        pipeline = import_file(folder / 'quenched.data', atom_style='atomic')
        pipeline.modifiers.append(CommonNeighborAnalysisModifier())
        data = pipeline.compute()
        share = data.attributes['CommonNeighborAnalysis.counts.BCC'] / data.particles.count
        print(f'{data.particles.count} atoms, share of bcc {share:.3f}')
        pipeline.modifiers.append(
            DislocationAnalysisModifier(input_crystal_structure=DislocationAnalysisModifier.Lattice.BCC)
        )
        for line in pipeline.compute().dislocations.lines:
            print(f'Burgers vector {line.true_burgers_vector}, {line.length:.1f} Å long')


if __name__ == '__main__':
    main(*sys.argv[1:])
