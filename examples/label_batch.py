"""Label two small lithium cells with GPAW, in one job.

verdi run examples/label_batch.py
"""

import argparse
import sys

from aiida.engine import run_get_node
from aiida.orm import load_code

from aiida_liheal.data.frames import FramesData
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.perturb import PerturbSettings, perturbed_bulk
from aiida_liheal.workchains.label import LabelWorkChain

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--code', default='gpaw@localhost', help='a Python in which GPAW is installed')
parser.add_argument('--protocol', default='fast', choices=LabelWorkChain.get_available_protocols())
parser.add_argument('--cutoff-eV', type=float, help='plane-wave cut-off in eV, instead of that of the protocol')
parser.add_argument('--kpoint-spacing-per-A', type=float, help='in 1/Å, instead of that of the protocol')
parser.add_argument('--seed', type=int, default=1, help='of the displacements')
args = parser.parse_args()

# Your own structures go in here: any list of ASE atoms, such as `ase.io.read('structures.xyz', ':')`.
shaken = PerturbSettings(displacement_A=0.1, vacancy_share=0.0)
images = perturbed_bulk(2, args.seed, shaken, lattice_constant_A=3.44, size=(1, 1, 1))
frames = FramesData(Frames.from_atoms(images), domain='bulk')

given = {'cutoff_eV': args.cutoff_eV, 'kpoint_spacing_per_A': args.kpoint_spacing_per_A}
builder = LabelWorkChain.get_builder_from_protocol(
    load_code(args.code),
    frames,
    protocol=args.protocol,
    overrides={'gpaw': {'settings': {key: value for key, value in given.items() if value is not None}}},
)
outputs, node = run_get_node(builder)
if not node.is_finished_ok:
    sys.exit(f'{node.process_label}<{node.pk}> ended with exit code {node.exit_status}: {node.exit_message}')

for name, shard in outputs['frames'].items():
    print(f'{name}: FramesData<{shard.pk}>, labelled by {shard.creator.process_label}<{shard.creator.pk}>')
    for index, atoms in enumerate(shard.get_frames()):
        force = abs(atoms.get_forces()).max()
        print(f'  frame {index}: {len(atoms)} atoms, {atoms.get_potential_energy():.4f} eV, largest {force:.3f} eV/Å')
dropped = outputs['summary']['n_dropped']
print(f'{node.process_label}<{node.pk}> finished; {dropped} of {len(frames)} frames did not converge and were left out')
