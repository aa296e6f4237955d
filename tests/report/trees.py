"""Small process trees as the engine leaves them in the database, without running anything."""

from __future__ import annotations

import json

import numpy as np
from aiida.common.links import LinkType
from aiida.orm import ArrayData, CalcFunctionNode, CalcJobNode, Dict, FolderData, InstalledCode, Int, WorkChainNode
from ase.build import bulk

from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.structures.bcc import VoidCrystalSettings
from aiida_liheal.structures.frames import Frames

KIND = {CalcJobNode: 'aiida.calculations', WorkChainNode: 'aiida.workflows'}


def process(kind, label, entry_point, caller=None, link='', inputs=None, state='finished', exit_status=0, message=None):
    """A stored process with its inputs; `finish` gives it outputs and seals it."""
    node = kind(computer=inputs['code'].computer) if kind is CalcJobNode and 'code' in (inputs or {}) else kind()
    node.process_type = f'{KIND[kind]}:{entry_point}' if kind in KIND else f'aiida_liheal.{entry_point}'
    node.set_process_label(label)
    node.base.attributes.set('version', {'core': '2.9.9', 'plugin': '0.0.7'})
    is_work = kind is WorkChainNode
    for name, value in (inputs or {}).items():
        value.store()
        node.base.links.add_incoming(value, LinkType.INPUT_WORK if is_work else LinkType.INPUT_CALC, name)
    if caller is not None:
        node.base.links.add_incoming(caller, LinkType.CALL_WORK if is_work else LinkType.CALL_CALC, link or 'CALL')
    node.set_process_state(state)
    if state == 'finished':
        node.set_exit_status(exit_status)
        if message:
            node.set_exit_message(message)
    return node.store()


def give(node, **outputs):
    """Attach outputs to a process."""
    for name, value in outputs.items():
        if isinstance(node, WorkChainNode):
            value.base.links.add_incoming(node, LinkType.RETURN, name)
        else:
            value.base.links.add_incoming(node, LinkType.CREATE, name)
            value.store()
    return node


def arrays(**values):
    """An ArrayData of these arrays."""
    node = ArrayData()
    for name, value in values.items():
        node.set_array(name, np.asarray(value))
    return node


def lennard_jones():
    """A classical potential, which needs no files."""
    return PotentialData(kind='generic', elements=['Li'], pair_style='lj/cut 6', pair_coeff=['* * 0.1 2.7'])


def deep_potential(number=0):
    """Bytes that look like a frozen model, with an input."""
    model = {
        'descriptor': {
            'type': 'se_e2_a',
            'type_one_side': True,
            'resnet_dt': False,
            'rcut': 5.0,
            'rcut_smth': 1.5,
            'sel': [80],
            'neuron': [4, 8],
            'axis_neuron': 4,
            'activation_function': 'tanh',
            'precision': 'float32',
        },
        'fitting_net': {'neuron': [16], 'resnet_dt': True},
    }
    names = b'model_attr/tmap model_attr/model_type descrpt_attr/rcut' + bytes([number])
    # the first and the last field of a graph: nodes and versions
    frozen = b'\x0a' + bytes([len(names)]) + names + b'\x22\x00'
    content = json.dumps({'model': model, 'training': {'numb_steps': 100}}).encode()
    return PotentialData(kind='deepmd', elements=['Li'], files={'frozen': frozen, 'input': content})


def localhost():
    """The computer `localhost`, made once."""
    from aiida.common.exceptions import NotExistent
    from aiida.orm import Computer, load_computer

    try:
        return load_computer('localhost')
    except NotExistent:
        return Computer(
            label='localhost',
            hostname='localhost',
            transport_type='core.local',
            scheduler_type='core.direct',
            workdir='/scratch/{username}',
        ).store()


def some_frames():
    """Two bcc frames of 2 and 4 atoms."""
    cell = bulk('Li', 'bcc', a=3.44, cubic=True)
    return Frames.from_atoms([cell, cell * (2, 1, 1)])


def code(computer, label='lmp', path='/bin/true'):
    """A code, made once."""
    from aiida.orm import QueryBuilder

    # other tests may have made several of one label
    query = QueryBuilder().append(InstalledCode, filters={'label': label})
    stored = query.first(flat=True)
    if stored is not None:
        return stored
    return InstalledCode(label=label, computer=computer, filepath_executable=path).store()


def analysis(n_frames=6):
    """Series, profiles, snapshots and summary of the analysis of a healed void."""
    time = np.linspace(0, 2.0, n_frames)
    bcc = np.linspace(0.85, 0.55, n_frames)
    void = np.linspace(584, 0, n_frames)
    series = {
        'step': (time * 1000).astype(int),
        'time_ps': time,
        'n_atoms': np.full(n_frames, 52),
        'potential_energy_eV_per_atom': np.linspace(-1.64, -1.70, n_frames),
        'temperature_K': np.linspace(1, 300, n_frames),
        'void_volume_A3': void,
        'film_height_A': np.linspace(17.0, 19.0, n_frames),
        'bcc_share': bcc,
        'other_share': 1 - bcc,
        'fcc_share': np.zeros(n_frames),
        'hcp_share': np.zeros(n_frames),
        'ico_share': np.zeros(n_frames),
        'bcc_share_inside': bcc + 0.1,
    }
    profiles = {
        'height_A': np.arange(4) * 3.5,
        'density_g_per_cm3': np.full(4, 0.5),
        'temperature_K': np.array([290.0, 300.0, 310.0, 305.0]),
        'atoms': np.full(4, 13.0),
    }
    atoms = VoidCrystalSettings(size=(3, 3, 3), void_size=(1, 1, 1)).build()
    n = len(atoms)
    snapshots = {}
    for frame, step in (('first', 0), ('last', 2000)):
        snapshots |= {
            f'{frame}_step': np.array(step),
            f'{frame}_id': np.arange(1, n + 1),
            f'{frame}_type': np.ones(n, np.int16),
            f'{frame}_position_A': atoms.positions.astype(np.float32),
            f'{frame}_structure': np.where(np.arange(n) % 3 == 0, 0, 3).astype(np.int8),
            f'{frame}_cell_A': atoms.cell.array,
            f'{frame}_origin_A': np.zeros(3),
            f'{frame}_pbc': np.ones(3, bool),
            f'{frame}_potential_energy_eV': np.linspace(-1.7, -1.5, n).astype(np.float32),
        }
    ends = {key: {name: array[k].item() for name, array in series.items()} for key, k in (('start', 0), ('end', -1))}
    summary = {**ends, 'healed_at_ps': 1.6, 'frames': n_frames, 'versions': {'ovito': '3.99.1', 'numpy': '2.0'}}
    return arrays(**series), arrays(**profiles), arrays(**snapshots), Dict(summary)


def simulation(computer, verb, caller=None, potentials=None, label='', exit_status=0, message=None):
    """A finished `deposit` or `heal` with one LAMMPS job and its analysis."""
    potentials = potentials or {'m0': lennard_jones()}
    inputs = {f'potentials__{name}': node for name, node in potentials.items()}
    settings = {'duration_ps': 2.0, 'timestep_fs': 1.0, 'dump_every_ps': 0.4, 'restart_every_ps': 1.0}
    root = process(
        WorkChainNode,
        f'{verb.capitalize()}WorkChain',
        f'liheal.{verb}',
        caller,
        verb,
        {**inputs, 'seed': Int(7), 'settings': Dict(settings)},
        exit_status=exit_status,
        message=message,
    )
    if label:
        root.label = label
    md = process(WorkChainNode, 'MdWorkChain', 'liheal.md', root, 'md')
    job = process(
        CalcJobNode,
        'LammpsCalculation',
        'liheal.lammps',
        md,
        'iteration_01',
        {
            **inputs,
            'code': code(computer),
            'settings': Dict({'kind': verb, 'runs': [{**settings, 'seed': 12345}]}),
        },
    )
    run = {
        'status': 'finished',
        'last_step': 2000,
        'n_steps': 2000,
        'katom_step_per_s': 31.5,
        'n_start': 52,
        'n_inserted': 5 if verb == 'deposit' else 0,
        'n_lost': 1 if verb == 'deposit' else 0,
        'n_final': 56 if verb == 'deposit' else 52,
    }
    results = Dict({'kind': verb, 'runs': [run], 'lammps_version': '20990101'})
    give(job, results=results)
    analyser = process(
        CalcJobNode, 'AnalyseCalculation', 'liheal.analyse', root, 'analyse', {'code': code(computer, 'python')}
    )
    series, profiles, snapshots, summary = analysis()
    give(analyser, series=series, profiles=profiles, snapshots=snapshots, summary=summary)
    give(
        root,
        results=results,
        analysis__series=series,
        analysis__profiles=profiles,
        analysis__snapshots=snapshots,
        analysis__summary=summary,
    )
    for node in (job, analyser, md, root):
        node.seal()
    return root


def labelled(frames):
    """Frames with made-up labels."""
    n_atoms = int(frames.counts.sum())
    return Frames(
        elements=frames.elements,
        counts=frames.counts,
        types=frames.types,
        positions=frames.positions,
        cells=frames.cells,
        pbc=frames.pbc,
        energies=-1.9 * frames.counts,
        forces=np.linspace(-0.1, 0.1, 3 * n_atoms).reshape(n_atoms, 3),
        extra={'source_index': np.arange(len(frames))[::-1].copy()},
    )


def learning(computer, frames, caller=None):
    """A finished `learn` of one round: structures made, labelled, trained on by two members, explored."""
    maker = process(CalcFunctionNode, 'make_structures', 'workchains.quickstart.make_structures', caller)
    given = FramesData(frames, domain='bulk')
    give(maker, result=given)
    root = process(
        WorkChainNode, 'LearnWorkChain', 'liheal.learn', caller, 'learn', {'to_label__bulk': given, 'seed': Int(3)}
    )
    label = process(WorkChainNode, 'LabelWorkChain', 'liheal.label', root, 'label_0_bulk', {'frames': given})
    job = process(
        CalcJobNode,
        'GpawCalculation',
        'liheal.gpaw',
        label,
        'b000',
        {'frames': given, 'settings': Dict({'xc': 'PBE', 'cutoff_eV': 340.0}), 'code': code(computer, 'gpaw')},
    )
    shard = FramesData(labelled(frames), domain='bulk')
    summary = Dict(
        {
            'n_given': 3,
            'n_made': 2,
            'n_dropped': 1,
            'n_not_tried': 0,
            'dropped': [{'index': 2, 'cause': 'not converged after 60 steps'}],
            'seconds_per_frame': 12.0,
            'versions': {'gpaw': '99.1.0'},
        }
    )
    give(job, frames=shard, summary=summary)
    give(label, frames__b000=shard, summary=summary)
    started = deep_potential(9)
    started.label = 'builtin li m0'
    training = process(
        WorkChainNode,
        'TrainWorkChain',
        'liheal.train',
        root,
        'train_0',
        {
            'frames__r0_bulk_b000': shard,
            'start_from__m0': started,
            'seed': Int(4),
            'n_members': Int(2),
            'settings': Dict({'n_steps': 100}),
        },
    )
    potentials = {}
    for number in range(2):
        base = process(WorkChainNode, 'DpTrainBaseWorkChain', 'liheal.none', training, f'm{number}')
        inputs = {
            'frames__r0_bulk_b000': shard,
            'settings': Dict({'n_steps': 100, 'seed': 40 + number, 'holdout_fraction': 0.5}),
            'code': code(computer, 'dp'),
        }
        if number == 0:
            inputs['start_from'] = started
        train = process(CalcJobNode, 'DpTrainCalculation', 'liheal.dp_train', base, 'iteration_01', inputs)
        retrieved = FolderData()
        retrieved.base.repository.put_object_from_bytes(b'DEEPMD INFO  Source:      v9.8.7\n', 'train.err')
        steps = np.arange(0, 101, 20)
        curve = {f'rmse_{w}_{p}': np.linspace(0.2, 0.02 + 0.001 * number, 6) for w in 'ef' for p in ('trn', 'val')}
        errors = {'n_frames': 1, 'energy_rmse_meV_per_atom': 1.5 + number, 'force_rmse_meV_per_A': 29.0}
        potentials[f'm{number}'] = deep_potential(number)
        give(
            train,
            potential=potentials[f'm{number}'],
            learning_curve=arrays(step=steps, **curve),
            retrieved=retrieved,
            summary=Dict({'n_train': 1, 'n_holdout': 1, 'n_steps': 100, 'holdout': {'bulk': errors}}),
        )
        train.seal()
        base.seal()
    mean = {
        'n_frames': 1,
        'energy_rmse_meV_per_atom': {'members': [1.5, 2.5], 'mean': 2.0, 'worst': 2.5},
        'force_rmse_meV_per_A': {'members': [29.0, 29.0], 'mean': 29.0, 'worst': 29.0},
    }
    committee = Dict({'n_members': 2, 'n_train': 1, 'n_holdout': 1, 'n_steps': 100, 'holdout': {'bulk': mean}})
    summariser = process(CalcFunctionNode, 'summarise_committee', 'workchains.train.summarise_committee', training)
    give(summariser, result=committee)
    give(training, summary=committee, **{f'potentials__{name}': node for name, node in potentials.items()})

    trust = Dict({'lower_eV_per_A': 0.05, 'upper_eV_per_A': 0.2})
    inputs = {f'potentials__{name}': node for name, node in potentials.items()}
    exploration = process(
        WorkChainNode,
        'ExploreWorkChain',
        'liheal.explore',
        root,
        'explore_0',
        {**inputs, 'trust': trust, 'seed': Int(5)},
    )
    explorer = process(
        CalcJobNode,
        'LammpsCalculation',
        'liheal.lammps',
        exploration,
        'bulk',
        {**inputs, 'structures': given, 'code': code(computer), 'settings': Dict({'kind': 'explore', 'runs': []})},
    )
    give(
        explorer,
        results=Dict({'kind': 'explore', 'runs': [], 'lammps_version': '20990101'}),
        deviations=arrays(run_000_step=np.arange(5), run_000_max_devi_f=[0.01, 0.03, 0.08, 0.3, np.nan]),
    )
    seen = {'n_accurate': 2, 'n_candidate': 1, 'n_failed': 2, 'n_missing': 0}
    system = {**seen, 'max_devi_f_eV_per_A': 0.3, 'mean_max_devi_f_eV_per_A': 0.1}
    chooser = process(CalcFunctionNode, 'select_frames', 'workchains.explore.select_frames', exploration)
    explored = Dict({**seen, 'n_chosen': 1, 'n_left_out': 0, 'systems': {'bulk': system}})
    give(chooser, summary=explored)
    give(exploration, summary=explored)
    rounds = Dict({'outcome': 'converged', 'n_rounds': 1, 'n_labels_made': 2, 'n_labels_dropped': 1})
    counter = process(CalcFunctionNode, 'summarise_rounds', 'workchains.learn.summarise_rounds', root)
    give(counter, result=rounds)
    give(root, summary=rounds, **{f'potentials__{name}': node for name, node in potentials.items()})
    for node in (maker, job, label, summariser, training, explorer, chooser, exploration, counter, root):
        node.seal()
    return root, potentials, shard


def quickstart(computer, frames):
    """A finished quickstart: learn, then deposit and heal with what was learned."""
    root = process(WorkChainNode, 'QuickstartWorkChain', 'liheal.quickstart', inputs={'seed': Int(2022)})
    _, potentials, shard = learning(computer, frames, root)
    for verb in ('deposit', 'heal'):
        simulation(computer, verb, root, potentials)
    root.seal()
    return root, shard
