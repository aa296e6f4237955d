"""Where the force errors of the shipped committee come from: each member's, their mean's, and how far they differ.

    python benchmarks/committee_errors.py PATH_TO_DATA [--frames 60] [--seed 1] [--models MODEL.pb ...]

`PATH_TO_DATA` holds DeePMD-kit npy systems `train/*/it.*/data.*`. What more steps, other seeds or a larger committee
can mend shows as a difference between the members; what is common to them all (reach of the cut-off, kind of
descriptor, noise of the labels) does not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from deepmd.infer import DeepPot

from aiida_liheal.data.builtin import builtin_card, builtin_folder
from aiida_liheal.structures.formats import read_deepmd_npy


def rms(values: np.ndarray) -> float:
    """Root mean square in meV/Å of forces in eV/Å."""
    return 1000 * float(np.sqrt(np.mean(values**2)))


def main() -> None:
    """Print a row a system."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', type=Path)
    parser.add_argument('--frames', type=int, default=60, help='frames of each system, drawn by seed')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--models', type=Path, nargs='+', help='frozen models in place of the shipped members')
    arguments = parser.parse_args()
    files = arguments.models or [builtin_folder('li') / f'{name}.pb' for name in builtin_card('li')['members']]
    members = [DeepPot(str(file)) for file in files]
    print(
        'system                     Å^3/atom      rms force   members      their mean   apart   (meV/Å)'
        '   energies off by (meV/atom)'
    )
    for folder in sorted(arguments.data.glob('train/*/it.*/data.*')):
        frames = read_deepmd_npy(folder)
        chosen = np.random.default_rng(arguments.seed).permutation(len(frames))[: arguments.frames]
        frames = frames.select(sorted(int(index) for index in chosen))
        n_atoms = int(frames.counts[0])
        given = frames.forces.reshape(len(frames), -1)
        results = [
            member.eval(frames.positions.reshape(len(frames), -1), frames.cells.reshape(-1, 9), [0] * n_atoms)
            for member in members
        ]
        computed = np.stack([forces for _, forces, _ in results]).reshape(len(members), *given.shape)
        off = 1000 * np.stack([energies.ravel() - frames.energies for energies, _, _ in results]) / n_atoms
        volumes = np.abs(np.linalg.det(frames.cells)) / n_atoms
        errors = [rms(forces - given) for forces in computed]
        print(
            f'{folder.relative_to(arguments.data / "train")!s:25s} {volumes.min():5.1f} to {volumes.max():5.1f}'
            f' {rms(given):9.0f}   {min(errors):5.1f} to {max(errors):5.1f} {rms(computed.mean(axis=0) - given):8.1f}'
            f' {rms(computed - computed.mean(axis=0)):9.1f}     {off.mean():+6.1f} +- {off.std():.1f}'
        )


if __name__ == '__main__':
    main()
