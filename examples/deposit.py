"""Let lithium fall on a slab, and print how the film grew.

verdi run examples/deposit.py PK_OF_A_POTENTIAL [MORE_MEMBERS]
"""

import argparse
import sys

from aiida.engine import run_get_node
from aiida.orm import load_code

from aiida_liheal.cli.params import load_potentials
from aiida_liheal.workchains.deposit import DepositWorkChain

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('potentials', nargs='*', default=['builtin'], help='PKs, or `builtin`; the first one drives')
parser.add_argument('--lmp', default='lmp@localhost', help='LAMMPS with pair_style deepmd')
parser.add_argument('--python', default='python@localhost', help='a Python in which OVITO is installed')
parser.add_argument('--protocol', default='fast', choices=DepositWorkChain.get_available_protocols())
parser.add_argument('--duration-ps', type=float, help='length of the run in ps, instead of that of the protocol')
parser.add_argument('--dump-every-ps', type=float, help='time between two frames in ps, likewise')
parser.add_argument('--seed', type=int, default=1, help='of velocities, thermal noise and places')
args = parser.parse_args()

given = {'duration_ps': args.duration_ps, 'dump_every_ps': args.dump_every_ps}
builder = DepositWorkChain.get_builder_from_protocol(
    {'lmp': load_code(args.lmp), 'python': load_code(args.python)},
    load_potentials(args.potentials),
    seed=args.seed,
    protocol=args.protocol,
    overrides={'settings': {key: value for key, value in given.items() if value is not None}},
)
outputs, node = run_get_node(builder)
if not node.is_finished_ok:
    sys.exit(f'{node.process_label}<{node.pk}> ended with exit code {node.exit_status}: {node.exit_message}')

run = outputs['results']['runs'][0]
print(f'{run["n_start"]} atoms + {run["n_inserted"]} inserted - {run["n_lost"]} lost = {run["n_final"]}')
print(f'{run["last_step"]} steps, {run["katom_step_per_s"]:.1f} katom-step/s, LAMMPS {run["lammps_version"]}')
analysis = outputs['analysis']['summary'].get_dict()
for when in ('start', 'end'):
    frame = analysis[when]
    print(
        f'{when} ({frame["time_ps"]:.2f} ps): height {frame["film_height_A"]:.1f} Å, {frame["temperature_K"]:.0f} K, '
        f'{frame["potential_energy_eV_per_atom"]:.4f} eV/atom, BCC share {frame["bcc_share"]:.2f}'
    )
print(f'{node.process_label}<{node.pk}> finished')
