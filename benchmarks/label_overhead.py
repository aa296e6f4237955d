"""What AiiDA and the batches add to a label: seconds a frame beside those of the program that computes it.

    python benchmarks/label_overhead.py --profile PROFILE [--frames 64] [--alone 3] [--ase-frames 256]

In the given profile, on its computer `localhost`: frames through a VASP batch, a few of them through one
`VaspWorkChain` each, and frames through the engine `ase` with a Lennard-Jones potential. VASP is the stand-in of the
tests (`tests/engines/vasp_stand_in.py`), with potentials whose numbers are none; it takes a fraction of a second. The
overhead is the time from the start of the work chain to its end, less the seconds in which the program itself ran.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from aiida import load_profile
from aiida.engine import run_get_node
from aiida.orm import Dict, InstalledCode, Int, load_computer
from ase.build import bulk

from aiida_liheal.data.frames import FramesData
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.label import LabelWorkChain

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / 'tests' / 'engines'))

#: Goals in seconds a frame.
GOALS = {'vasp': 0.5, 'ase': 0.1}


def shard(n: int, repeat: int = 1) -> FramesData:
    """Distinct bcc lithium cells of 2 x repeat^3 atoms."""
    images = []
    for seed in range(n):
        atoms = bulk('Li', 'bcc', a=3.4, cubic=True) * (repeat, repeat, repeat)
        atoms.rattle(0.05, rng=np.random.default_rng(seed))
        images.append(atoms)
    return FramesData(Frames.from_atoms(images), domain='bulk')


def timed(builder: Any) -> tuple[float, Any, Any]:
    """Seconds that a process took, its outputs and its node."""
    begin = time.perf_counter()
    outputs, node = run_get_node(builder)
    seconds = time.perf_counter() - begin
    if not node.is_finished_ok:
        raise SystemExit(f'{node.process_label}<{node.pk}>: {node.exit_message}')
    return seconds, outputs, node


def potentials(folder: Path) -> str:
    """A family of stand-ins for potentials; its name."""
    from aiida_vasp.data.potcar import PotcarData
    from vasp_stand_in import POTCAR

    name = 'label-overhead'
    (folder / name / 'Li').mkdir(parents=True)
    (folder / name / 'Li' / 'POTCAR').write_text(POTCAR.format(symbol='Li'))
    PotcarData.upload_potcar_family(folder / name, name, 'stand-ins of a benchmark', stop_if_existing=False)
    return name


def through_batches(code: InstalledCode, n: int, family: str) -> dict[str, float]:
    """Frames through VASP batches of all of them, one after another."""
    builder = LabelWorkChain.get_builder_from_protocol(
        code,
        shard(n),
        overrides={'batch_size': n, 'max_alone': 0, 'vasp': {'potential_family': family}},
        options={'withmpi': False},
        engine='vasp',
    )
    seconds, _, node = timed(builder)
    (job,) = (child for child in node.called if child.process_label == 'VaspBatchCalculation')
    own = float(job.outputs.frames.get_frames().extra['seconds'].sum())
    return {'frames': n, 'wall_s': seconds, 'program_s': own, 'overhead_s_per_frame': (seconds - own) / n}


def one_by_one(code: InstalledCode, n: int, family: str, program_s: float) -> dict[str, float]:
    """Frames through a `VaspWorkChain` each, one after another; `program_s` is what the program takes for one."""
    from aiida_liheal.engines.vasp.alone import VaspAloneWorkChain

    frames = shard(n)
    total = 0.0
    for index in range(n):
        builder = VaspAloneWorkChain.get_builder()
        builder.code, builder.frames = code, frames
        builder.summary = Dict({'dropped': [{'index': index, 'cause': 'benchmark'}]})
        builder.settings = Dict({})
        builder.max_frames = Int(1)
        builder.options = Dict({'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}, 'withmpi': False})
        builder.potential_family = family
        builder.potential_mapping = Dict({'Li': 'Li'})
        _, _, node = timed(builder)
        (inner,) = (child for child in node.called if child.process_label == 'VaspWorkChain')
        total += (inner.mtime - inner.ctime).total_seconds()
    own = n * program_s
    return {'frames': n, 'wall_s': total, 'program_s': own, 'overhead_s_per_frame': (total - own) / n}


def through_ase(code: InstalledCode, n: int) -> dict[str, float]:
    """Frames through the engine `ase` with a Lennard-Jones potential."""
    settings = {'calculator': 'lj', 'parameters': {'sigma': 2.7, 'epsilon': 0.1, 'rc': 6.0}}
    builder = LabelWorkChain.get_builder_from_protocol(
        code, shard(n), overrides={'batch_size': n, 'ase': {'settings': settings}}, engine='ase'
    )
    seconds, _, node = timed(builder)
    (job,) = (child for child in node.called if child.process_label == 'AseCalculation')
    own = float(job.outputs.frames.get_frames().extra['seconds'].sum())
    return {'frames': n, 'wall_s': seconds, 'program_s': own, 'overhead_s_per_frame': (seconds - own) / n}


def main() -> int:
    """Measure and print; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--profile', default=None)
    parser.add_argument('--frames', type=int, default=64, help='through the VASP batch')
    parser.add_argument('--alone', type=int, default=3, help='through one VaspWorkChain each')
    parser.add_argument('--ase-frames', type=int, default=256, help='through the engine ase')
    given = parser.parse_args()
    load_profile(given.profile)
    computer = load_computer('localhost')
    with tempfile.TemporaryDirectory() as scratch:
        vasp = Path(scratch, 'vasp_std')
        vasp.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {ROOT}/tests/engines/vasp_stand_in.py\n')
        vasp.chmod(0o755)
        stamp = str(time.time_ns())
        codes = {
            name: InstalledCode(
                label=f'{name}-{stamp}', computer=computer, filepath_executable=str(path), with_mpi=False
            ).store()
            for name, path in (('vasp', vasp), ('python', Path(sys.executable)))
        }
        family = potentials(Path(scratch))
        batch = through_batches(codes['vasp'], given.frames, family)
        ase = through_ase(codes['python'], given.ase_frames)
        alone = one_by_one(codes['vasp'], given.alone, family, batch['program_s'] / batch['frames'])
    print('| way | frames | whole (s) | program (s) | overhead (s a frame) |\n|---|---|---|---|---|')
    for name, row in (('VASP batch', batch), ('engine ase', ase), ('a VaspWorkChain a frame', alone)):
        print(
            f'| {name} | {row["frames"]} | {row["wall_s"]:.1f} | {row["program_s"]:.1f} '
            f'| {row["overhead_s_per_frame"]:.2f} |'
        )
    hours = 16_000 * alone['overhead_s_per_frame'] / 3600, 16_000 * batch['overhead_s_per_frame'] / 3600
    print(f'16,000 frames at these rates, not run: {hours[0]:.0f} h one by one, {hours[1]:.1f} h in batches')
    missed = [n for n, row in (('vasp', batch), ('ase', ase)) if row['overhead_s_per_frame'] > GOALS[n]]
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
