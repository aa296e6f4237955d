"""Train the committee that ships with the package, with `liheal.train`, on the public lithium data.

    python benchmarks/train_builtin.py PATH_TO_DATA --profile PROFILE --dp dp@localhost

`PATH_TO_DATA` holds `train/bulk/it.*/data.*` and `train/surf/it.*/data.*`, DeePMD-kit npy systems of the repository
msdlabpku/Li-datasets (the data of doi:10.1002/advs.202105574). A tenth of each system is held out by seed. The
settings are those of the protocol `balanced`.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from aiida import load_profile, orm
from aiida.engine import run_get_node

from aiida_liheal.structures.formats import read_deepmd_npy


def main() -> None:
    """Import each system as one shard, and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', type=Path)
    parser.add_argument('--profile', default=None)
    parser.add_argument('--dp', default='dp@localhost', help='label of the code of `dp`')
    parser.add_argument('--seed', type=int, default=2022)
    parser.add_argument('--members', type=int, default=4)
    parser.add_argument('--at-once', type=int, default=2, help='trainings side by side')
    parser.add_argument('--steps', type=int, default=None, help='training steps; those of the protocol if not given')
    arguments = parser.parse_args()
    load_profile(arguments.profile)

    from aiida_liheal.data.frames import FramesData
    from aiida_liheal.workchains.train import TrainWorkChain

    shards = {}
    for part, domain in (('bulk', 'bulk'), ('surf', 'surface')):
        for folder in sorted((arguments.data / 'train' / part).glob('it.*/data.*')):
            name = re.sub(r'\W', '', f'{part}_{folder.parent.name}_{folder.name}')
            shards[name] = FramesData(read_deepmd_npy(folder), domain=domain).store()
            print(f'{name}: {len(shards[name])} frames', flush=True)
    overrides: dict = {'n_members': arguments.members, 'max_at_once': arguments.at_once}
    if arguments.steps:
        overrides['settings'] = {'n_steps': arguments.steps}
    builder = TrainWorkChain.get_builder_from_protocol(
        orm.load_code(arguments.dp), shards, seed=arguments.seed, protocol='balanced', overrides=overrides
    )
    results, node = run_get_node(builder)
    print(f'{node.process_label}<{node.pk}>: {node.exit_status} {node.exit_message or ""}')
    if 'summary' in results:
        print(results['summary'].get_dict())


if __name__ == '__main__':
    main()
