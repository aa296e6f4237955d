"""Say which labels the potentials of a deposition (or any other run) were trained on: (job, index) for each frame.

verdi run examples/query_labels.py PK_OF_A_DEPOSITION
"""

import argparse

from aiida.orm import ProcessNode, QueryBuilder

from aiida_liheal.calculations.dp_settings import DpTrainSettings
from aiida_liheal.calculations.dp_train import DpTrainCalculation, split_shard
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('process', type=int, help='PK of a process that took potentials')
args = parser.parse_args()


def taken_by(pk, what, which=ProcessNode):
    """The nodes of one kind that a process took, and the names of the links."""
    query = QueryBuilder().append(which, filters={'id': pk}, tag='process')
    query.append(what, with_outgoing='process', project='*', edge_project='label')
    return query.all()


potentials = [potential for potential, _ in taken_by(args.process, PotentialData)]
seen = set()
while potentials:
    potential = potentials.pop(0)
    if potential.uuid in seen:
        continue
    seen.add(potential.uuid)
    creator = potential.creator
    if creator is None:
        print(f'PotentialData<{potential.pk}> was imported: {potential.label} {potential.description}')
        continue
    print(f'PotentialData<{potential.pk}> was made by {creator.process_label}<{creator.pk}>')
    # its weights may come from another potential: from there the question goes on
    potentials += [earlier for earlier, _ in taken_by(creator.pk, PotentialData)]
    for shard, link in taken_by(creator.pk, FramesData, DpTrainCalculation):
        settings = DpTrainSettings.read(creator.inputs.settings.get_dict())
        trained_on, _ = split_shard(link.removeprefix('frames__'), len(shard), settings)
        job = shard.creator
        if job is None:
            print(f'  {len(trained_on)} imported labels of FramesData<{shard.pk}> {shard.description}')
            continue
        indices = shard.get_frames().extra['source_index'][trained_on]
        labels = ', '.join(f'({job.pk}, {index})' for index in indices)
        print(f'  {len(indices)} labels of FramesData<{shard.pk}> by {job.process_label}, as (job, index): {labels}')
