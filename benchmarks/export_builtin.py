"""Write a finished training of `train_builtin.py` as package data: models, inputs, learning curves and their card.

A training that went on from an earlier one is written with all its stages.

python benchmarks/export_builtin.py PK [--profile PROFILE]
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from aiida import load_profile, orm

TARGET = Path(__file__).parent.parent / 'aiida_liheal' / 'data' / 'builtin' / 'li'


def stages_of(node: orm.WorkChainNode) -> list[orm.WorkChainNode]:
    """The trainings that led to the members of a committee, the first one first."""
    stages = [node]
    while 'start_from' in stages[0].inputs:
        # potential <- job <- restarts of the job <- training of the committee
        job = next(iter(stages[0].inputs.start_from.values())).creator
        if job is None:
            raise SystemExit(f'TrainWorkChain<{stages[0].pk}> started from potentials that were not trained here')
        stages.insert(0, job.caller.caller)
    return stages


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pk', help='PK or UUID of the TrainWorkChain')
    parser.add_argument('--profile', default=None)
    arguments = parser.parse_args()
    load_profile(arguments.profile)
    node = orm.load_node(arguments.pk)
    outputs = node.outputs
    stages = stages_of(node)
    TARGET.mkdir(parents=True, exist_ok=True)
    members = sorted(outputs.potentials)
    held_out = {}
    for name in members:
        potential = outputs.potentials[name]
        (TARGET / f'{name}.pb').write_bytes(potential.read('frozen'))
        (TARGET / f'{name}.input.json').write_bytes(potential.read('input'))
        curves = [stage.outputs.learning_curves[name] for stage in stages]
        columns = sorted(curves[-1].get_arraynames(), key=lambda key: (key != 'step', key))
        table = np.vstack(
            [
                np.column_stack([np.full(len(curve.get_array('step')), number), *map(curve.get_array, columns)])
                for number, curve in enumerate(curves, 1)
            ]
        )
        np.savetxt(
            TARGET / f'{name}.learning_curve.csv',
            table,
            delimiter=',',
            header=','.join(['stage', *columns]),
            fmt='%.6g',
            comments='',
        )
        summary = outputs.summaries[name].get_dict()
        held_out[name] = {'holdout': summary['holdout'], 'holdout_by_shard': summary['holdout_by_shard']}
    first = outputs.summaries[members[0]].get_dict()
    card = {
        'title': 'Deep Potential committee for lithium, bulk and surface',
        'elements': list(outputs.potentials[members[0]].elements),
        'members': members,
        'held_out': held_out,
        'n_train': first['n_train'],
        'n_holdout': first['n_holdout'],
        'units': first['units'],
        'stages': [stage.inputs.settings.get_dict() for stage in stages],
        'seed': node.inputs.seed.value,
        'split': 'a tenth of each system is held out by seed (holdout_seed and the name of the system)',
        'trained_with': f'liheal.train of aiida-liheal {version("aiida-liheal")}, DeePMD-kit {version("deepmd-kit")}',
        'source': 'https://github.com/msdlabpku/Li-datasets (VASP, PBE), training part',
        'licence': 'GPL-3.0-or-later',
        'citation': 'Jiao et al., Adv. Sci. 2022, doi:10.1002/advs.202105574',
    }
    (TARGET / 'card.json').write_text(json.dumps(card, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')
    total = sum(path.stat().st_size for path in TARGET.iterdir())
    print(f'{len(members)} members, {total / 1e6:.2f} MB in {TARGET.name}/')


if __name__ == '__main__':
    main()
