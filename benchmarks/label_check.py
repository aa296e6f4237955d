"""Labels computed again by `liheal.label` against given ones, such as the public VASP labels.

    python benchmarks/label_check.py --bulk SYSTEM:INDEX --surface SYSTEM:INDEX

SYSTEM is the folder of a DeePMD-kit npy system, INDEX one of its frames. The frames are labelled in the loaded AiiDA
profile (`verdi presto` makes one), on its computer `localhost`, by the Python that runs this script. Ends with status
1 if a frame was not labelled or if its force RMSE is above the limit.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np
from aiida import load_profile
from aiida.common.exceptions import NotExistent
from aiida.engine import run_get_node
from aiida.orm import InstalledCode, load_code, load_computer

from aiida_liheal.data.frames import FramesData
from aiida_liheal.structures.formats import read_deepmd_npy
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.label import LabelWorkChain

#: Largest force RMSE in eV/Å against the VASP labels of the public lithium data.
LIMITS = {'bulk': 0.015, 'surface': 0.020}


def one_frame(text: str) -> Frames:
    """The frame that `SYSTEM:INDEX` names."""
    path, _, index = text.rpartition(':')
    if not path or not index.isdigit():
        raise argparse.ArgumentTypeError(f'{text!r} is not SYSTEM:INDEX, such as data/bulk/it.03:332')
    try:
        return read_deepmd_npy(path).select([int(index)])
    except (ValueError, IndexError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def python_code() -> InstalledCode:
    """The Python that runs this, on `localhost`; made once."""
    try:
        return load_code('label-check-python@localhost')
    except NotExistent:
        return InstalledCode(
            label='label-check-python',
            computer=load_computer('localhost'),
            filepath_executable=sys.executable,
            default_calc_job_plugin='liheal.gpaw',
        ).store()


def compare(given: Frames, computed: Frames) -> dict[str, Any]:
    """Differences of the labels of one frame: computed less given."""
    if given.energies is None or given.forces is None or computed.energies is None or computed.forces is None:
        raise ValueError('both frames need energies and forces')
    n_atoms = int(given.counts[0])
    forces = computed.forces - given.forces
    result = {
        'n_atoms': n_atoms,
        'rms_force_given_eV_per_A': float(np.sqrt(np.mean(given.forces**2))),
        'force_rmse_eV_per_A': float(np.sqrt(np.mean(forces**2))),
        'force_max_error_eV_per_A': float(np.abs(forces).max()),
        'energy_difference_meV_per_atom': 1000 * float(computed.energies[0] - given.energies[0]) / n_atoms,
    }
    if given.virials is not None and computed.virials is not None:
        virials = 1000 * (computed.virials[0] - given.virials[0].reshape(3, 3)) / n_atoms
        result['virial_diagonal_difference_meV_per_atom'] = [float(value) for value in np.diag(virials)]
        result['virial_rmse_meV_per_atom'] = float(np.sqrt(np.mean(virials**2)))
    return result


def main() -> int:
    """Label the frames and print how far they are from the given labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for domain, limit in LIMITS.items():
        parser.add_argument(
            f'--{domain}',
            type=one_frame,
            action='append',
            default=[],
            metavar='SYSTEM:INDEX',
            help=f'a {domain} frame; its force RMSE is to be at most {limit} eV/Å',
        )
    parser.add_argument('--protocol', default='balanced', choices=list(LabelWorkChain.get_available_protocols()))
    arguments = parser.parse_args()
    chosen = [(domain, frame) for domain in LIMITS for frame in getattr(arguments, domain)]
    if not chosen:
        parser.error('give at least one frame: --bulk SYSTEM:INDEX or --surface SYSTEM:INDEX')

    load_profile()
    given = Frames.concatenate([frame for _, frame in chosen])
    builder = LabelWorkChain.get_builder_from_protocol(
        python_code(), FramesData(given), protocol=arguments.protocol, overrides={'allowed_failures': 1.0}
    )
    outputs, node = run_get_node(builder)
    if not node.is_finished_ok:
        print(f'LabelWorkChain<{node.pk}>: {node.exit_message}', file=sys.stderr)
        return 1
    labelled = outputs['frames']['b000'].get_frames()
    dropped = {frame['index']: frame for frame in node.outputs.summary['dropped']}
    good = True
    for index, (domain, frame) in enumerate(chosen):
        place = np.flatnonzero(labelled.extra['source_index'] == index)
        result: dict[str, Any] = {'domain': domain, 'limit_eV_per_A': LIMITS[domain], **dropped.get(index, {})}
        if len(place):
            result |= {key: labelled.extra[key][place[0]].tolist() for key in ('scf_steps', 'seconds', 'kpoint_mesh')}
            result |= compare(frame, labelled.select(place))
        passed = result.get('force_rmse_eV_per_A', np.inf) <= LIMITS[domain]
        good = good and passed
        print(json.dumps({**result, 'passed': bool(passed)}, indent=1))
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
