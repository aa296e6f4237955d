"""Train the committee that ships with the package, with `liheal.train`, on the public lithium data.

    python benchmarks/train_builtin.py PATH_TO_DATA --profile PROFILE --dp dp@localhost

`PATH_TO_DATA` holds `train/bulk/it.*/data.*` and `train/surf/it.*/data.*`, DeePMD-kit npy systems of the repository
msdlabpku/Li-datasets (the data of doi:10.1002/advs.202105574). A tenth of each system is held out by seed. The
settings are those of the protocol `balanced`.

A second stage goes on from the members of a first one, on the same frames and with the same ones held out:

    python benchmarks/train_builtin.py --start-from PK --settings second_stage.yaml

where the file holds what differs from the protocol.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import yaml
from aiida import load_profile, orm
from aiida.engine import run_get_node

from aiida_liheal.structures.formats import read_deepmd_npy


def main() -> None:
    """Import each system as one shard, and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', type=Path, nargs='?', help='the public data; not with --start-from')
    parser.add_argument('--start-from', default=None, metavar='PK', help='TrainWorkChain whose members to go on from')
    parser.add_argument('--settings', type=Path, default=None, help='YAML file of settings that differ')
    parser.add_argument('--profile', default=None)
    parser.add_argument('--dp', default='dp@localhost', help='label of the code of `dp`')
    parser.add_argument('--seed', type=int, default=2022)
    parser.add_argument('--members', type=int, default=4)
    parser.add_argument('--at-once', type=int, default=2, help='trainings side by side')
    parser.add_argument('--steps', type=int, default=None, help='training steps; those of the protocol if not given')
    arguments = parser.parse_args()
    if (arguments.data is None) == (arguments.start_from is None):
        parser.error('give either the folder of the data or --start-from')
    load_profile(arguments.profile)

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.workchains.train import TrainWorkChain

    shards = {}
    members = None
    if arguments.start_from:
        first = orm.load_node(arguments.start_from)
        shards = dict(first.inputs.frames)
        members = dict(list(first.outputs.potentials.items())[: arguments.members])
    for part, domain in (('bulk', 'bulk'), ('surf', 'surface')) if arguments.data else ():
        for folder in sorted((arguments.data / 'train' / part).glob('it.*/data.*')):
            name = re.sub(r'\W', '', f'{part}_{folder.parent.name}_{folder.name}')
            shards[name] = FramesData(read_deepmd_npy(folder), domain=domain).store()
            print(f'{name}: {len(shards[name])} frames', flush=True)
    overrides: dict = {'n_members': arguments.members, 'max_at_once': arguments.at_once}
    overrides['settings'] = yaml.safe_load(arguments.settings.read_text()) if arguments.settings else {}
    if arguments.steps:
        overrides['settings']['n_steps'] = arguments.steps
    builder = TrainWorkChain.get_builder_from_protocol(
        orm.load_code(arguments.dp),
        shards,
        seed=arguments.seed,
        start_from=members,
        protocol='balanced',
        overrides=overrides,
    )
    results, node = run_get_node(builder)
    print(f'{node.process_label}<{node.pk}>: {node.exit_status} {node.exit_message or ""}')
    if 'summary' in results:
        print(results['summary'].get_dict())


if __name__ == '__main__':
    main()
