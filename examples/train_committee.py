"""Train a committee of Deep Potentials on labelled shards, each member from a seed of its own.

verdi run examples/train_committee.py PK_OF_A_SHARD
"""

import argparse
import sys

from aiida.engine import run_get_node
from aiida.orm import load_code, load_node

from aiida_liheal.cli.params import load_potentials
from aiida_liheal.workchains.train import TrainWorkChain

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('frames', nargs='+', type=int, help='PKs of labelled shards')
parser.add_argument('--start-from', nargs='*', default=['builtin'], help='PKs, `builtin`, or nothing: at random')
parser.add_argument('--code', default='dp@localhost', help='DeePMD-kit')
parser.add_argument('--protocol', default='fast', choices=TrainWorkChain.get_available_protocols())
parser.add_argument('--members', type=int, help='number of members, instead of that of the protocol')
parser.add_argument('--steps', type=int, help='training steps of each member, instead of those of the protocol')
parser.add_argument('--seed', type=int, default=1, help='of the committee')
args = parser.parse_args()

overrides = {}
if args.members is not None:
    overrides['n_members'] = args.members
if args.steps is not None:
    overrides['settings'] = {'n_steps': args.steps}
builder = TrainWorkChain.get_builder_from_protocol(
    load_code(args.code),
    {f'shard_{number}': load_node(pk) for number, pk in enumerate(args.frames)},
    seed=args.seed,
    # no more potentials than members
    start_from=dict(list(load_potentials(args.start_from).items())[: args.members]),
    protocol=args.protocol,
    overrides=overrides,
)
outputs, node = run_get_node(builder)
if not node.is_finished_ok:
    sys.exit(f'{node.process_label}<{node.pk}> ended with exit code {node.exit_status}: {node.exit_message}')

summary = outputs['summary'].get_dict()
print(f'trained on {summary["n_train"]} frames, {summary["n_holdout"]} held out, {summary["n_steps"]} steps a member')
for domain, errors in summary['holdout'].items():
    energy, force = errors['energy_rmse_meV_per_atom'], errors['force_rmse_meV_per_A']
    print(f'held out, {domain}: {energy["mean"]:.1f} meV/atom, {force["mean"]:.1f} meV/Å (mean over the members)')
members = ' '.join(str(potential.pk) for _, potential in sorted(outputs['potentials'].items()))
print(f'{node.process_label}<{node.pk}> finished; potentials: {members}')
