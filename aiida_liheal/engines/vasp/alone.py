"""Frames that a VASP batch dropped, one by one through `VaspWorkChain` of aiida-vasp with its error handlers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida.common.exceptions import EntryPointError
from aiida.engine import ExitCode, ToContext, WorkChain, calcfunction, while_
from aiida.orm import AbstractCode, CalcJobNode, Dict, Int, KpointsData, Str, StructureData, WorkChainNode
from ase import Atoms
from ase.units import GPa

from aiida_liheal.data.frames import FramesData
from aiida_liheal.engines.vasp.calculation import frame_name
from aiida_liheal.engines.vasp.family import need_aiida_vasp
from aiida_liheal.engines.vasp.reading import Labels, RunError
from aiida_liheal.engines.vasp.settings import (
    VaspSettings,
    incar_tags,
    mesh_and_shift,
    order_by_element,
    relevant_tags,
)
from aiida_liheal.structures.labels import label_frames, labels_to_arrays
from aiida_liheal.structures.quality import name_not_finite

__all__ = ('VaspAloneWorkChain', 'collect_alone', 'explain_failure', 'family_of', 'labels_of', 'prepare_alone')

#: 1 kB in eV/Å^3, the one of ASE, which reads the batches.
KILOBAR = 0.1 * GPa
#: Tags that an error handler may change: they say how electrons get where they converge, not where that is. With any
#: other one changed, the labels would not fit to those of the batch.
FREE_TAGS = ('ALGO', 'NELM', 'NELMIN', 'AMIX', 'BMIX', 'AMIN', 'LWAVE', 'LCHARG')


@calcfunction
def prepare_alone(frames: FramesData, summary: Dict, settings: Dict, max_frames: Int) -> dict[str, Any]:
    """Structure and k-points of each frame that a batch dropped, at most `max_frames`, atoms sorted by element."""
    checked = VaspSettings.read(settings.get_dict())
    content = frames.get_frames()
    nodes: dict[str, Any] = {}
    for dropped in summary.get_dict()['dropped'][: max_frames.value]:
        atoms = content.to_atoms(dropped['index'])
        atoms = atoms[order_by_element(atoms)]
        atoms.calc = None
        mesh, shift = mesh_and_shift(atoms, checked)
        kpoints = KpointsData()
        kpoints.set_kpoints_mesh(mesh, offset=shift)
        name = frame_name(dropped['index'])
        nodes[f'f{name}_structure'] = StructureData(ase=atoms)
        nodes[f'f{name}_kpoints'] = kpoints
    return nodes


def labels_of(misc: Mapping[str, Any], atoms: Atoms) -> Labels:
    """The labels of a frame in the `misc` of its `VaspWorkChain`. Raises RunError with the cause if it has none."""
    order = order_by_element(atoms)
    try:
        energy = float(misc['total_energies']['energy_free'])
        given, kilobar = (np.array(misc[name], dtype=float) for name in ('forces', 'stress'))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f'its energy, forces or stress are missing or no numbers ({error})') from error
    if given.shape != (len(atoms), 3) or kilobar.shape != (3, 3):
        raise RunError(f'its forces are {given.shape}, its stress {kilobar.shape}; the frame has {len(atoms)} atoms')
    forces = np.empty_like(given)
    forces[order] = given
    virial = atoms.get_volume() * KILOBAR * kilobar
    problem = name_not_finite(energy, forces, virial)
    if problem is not None:
        raise RunError(problem)
    return Labels(energy, forces, virial, 0)


@calcfunction
def collect_alone(frames: FramesData, settings: Dict, outcome: Dict, **misc: Dict) -> dict[str, Any]:
    """The labels of the frames that went alone, as one shard and a summary.

    Parameters
    ----------
    frames : FramesData
        The frames of the batch.
    settings : Dict
        Settings of the batch.
    outcome : Dict
        For each frame that was tried, by its index as text: `job`, and `cause` if it failed.
    misc : Dict
        For each frame that did not fail, as `f00012`, the `misc` of its `VaspWorkChain`: free energy in eV, forces in
        eV/Å, stress in kB and positive under compression.
    """
    content = frames.get_frames()
    labels: dict[int, Labels] = {}
    dropped, version = [], None
    for key, told in sorted(outcome.get_dict().items(), key=lambda item: int(item[0])):
        index, cause = int(key), told.get('cause')
        if cause is None:
            found = misc[f'f{frame_name(index)}'].get_dict()
            try:
                labels[index] = labels_of(found, content.to_atoms(index))
                version = version or found.get('version')
            except RunError as problem:
                cause = f'alone: {problem}'
        if cause is not None:
            dropped.append({'index': index, 'cause': cause, 'job': told['job']})
    tried = sorted(int(key) for key in outcome.get_dict())
    nodes: dict[str, Any] = {
        'summary': Dict(
            {
                'engine': 'vasp',
                'n_given': len(tried),
                'n_made': len(labels),
                'n_dropped': len(dropped),
                'n_not_tried': 0,
                'tried': tried,
                'dropped': dropped,
                'jobs': {key: told['job'] for key, told in outcome.get_dict().items()},
                'seconds_per_frame': None,
                'versions': {'vasp': version},
                'settings': settings.get_dict(),
            }
        )
    }
    if labels:
        nodes['frames'] = FramesData(label_frames(content, labels_to_arrays(labels)), domain=frames.domain)
    return nodes


def family_of(inputs: Mapping[str, Any], frames: FramesData) -> dict[str, Any]:
    """The inputs of the work chain that the job has not: the family and the full name of each potential in it."""
    mapping = dict(inputs['potential_mapping'] or {})
    return {
        'potential_family': Str(inputs['potential_family']),
        'potential_mapping': Dict({symbol: mapping.get(symbol, symbol) for symbol in frames.elements}),
    }


def _explain_family(node: Str, _: Any) -> str | None:
    try:
        need_aiida_vasp()
    except ValueError as error:
        return str(error)
    from aiida_vasp.data.potcar import PotcarData

    if PotcarData.get_potcar_group(node.value) is None:
        return f'potential_family is {node.value!r}: there is no such family of potentials'
    return None


class VaspAloneWorkChain(WorkChain):
    """Label frames that a batch dropped one by one, each by a `VaspWorkChain` with the error handlers of aiida-vasp."""

    @classmethod
    def define(cls, spec: Any) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        spec.input('code', valid_type=AbstractCode, help='VASP.')
        spec.input('frames', valid_type=FramesData, help='The frames of the batch.')
        spec.input('summary', valid_type=Dict, help='The summary of the batch: those that it dropped are tried.')
        spec.input('settings', valid_type=Dict, help='Settings of the batch (see `VaspSettings`).')
        spec.input('max_frames', valid_type=Int, help='Most frames that are tried, in the order of the summary.')
        spec.input(
            'options', valid_type=Dict, help='`metadata.options` of the job of each frame: resources, walltime, queue.'
        )
        spec.input(
            'potential_family',
            valid_type=Str,
            validator=_explain_family,
            help='Family of potentials of aiida-vasp, the one of the batch.',
        )
        spec.input(
            'potential_mapping',
            valid_type=Dict,
            help='For each element the full name of its potential in the family, such as {Li: Li_sv}.',
        )
        spec.input(
            'max_iterations',
            valid_type=Int,
            default=lambda: Int(3),
            validator=lambda node, _: (
                None if node.value > 0 else f'max_iterations is {node.value}; allowed is 1 or more'
            ),
            help='Most jobs that the error handlers start for a frame.',
        )
        spec.input(
            'max_at_once',
            valid_type=Int,
            default=lambda: Int(20),
            validator=lambda node, _: None if node.value > 0 else f'max_at_once is {node.value}; allowed is 1 or more',
            help='Most frames side by side: each one takes two places of the daemon, which has 200 a worker.',
        )
        spec.outline(cls.prepare, while_(cls.has_frames_left)(cls.submit_frames), cls.results)
        spec.output('frames', valid_type=FramesData, required=False, help='The labelled frames.')
        spec.output('summary', valid_type=Dict, help='As that of the job, and `tried`: indices in the batch.')
        spec.exit_code(
            201,
            'ERROR_REFUSED',
            message='VaspWorkChain refuses its inputs: {cause}; see `options`, the code and the potentials',
        )
        spec.exit_code(500, 'ERROR_NOTHING_CONVERGED', message='none of the {n} frames gave labels alone either')

    def prepare(self) -> None:
        """Make the inputs of each frame."""
        nodes = prepare_alone(self.inputs.frames, self.inputs.summary, self.inputs.settings, self.inputs.max_frames)
        self.ctx.nodes = dict(nodes)
        self.ctx.names = sorted(name.removesuffix('_structure') for name in nodes if name.endswith('_structure'))
        self.ctx.left = list(self.ctx.names)

    def has_frames_left(self) -> bool:
        """Whether frames are still to be tried."""
        return bool(self.ctx.left)

    def submit_frames(self) -> Any:
        """Submit a `VaspWorkChain` for each frame, as many as may run side by side."""
        from aiida.plugins import WorkflowFactory

        settings = VaspSettings.read(self.inputs.settings.get_dict())
        tags = {name.lower(): value for name, value in incar_tags(settings).items()}
        n = self.inputs.max_at_once.value
        names, self.ctx.left = self.ctx.left[:n], self.ctx.left[n:]
        awaited = {}
        for name in names:
            inputs = {
                'code': self.inputs.code,
                'structure': self.ctx.nodes[f'{name}_structure'],
                'kpoints': self.ctx.nodes[f'{name}_kpoints'],
                'parameters': Dict({'incar': tags}),
                'potential_family': self.inputs.potential_family,
                'potential_mapping': self.inputs.potential_mapping,
                'max_iterations': self.inputs.max_iterations,
                # the energy that the forces are the gradient of. OUTCAR and vasprun.xml are kept: the parser of
                # aiida-vasp 5.1 does not find them where they are retrieved for a time only (ALWAYS_STORE false)
                'settings': Dict(
                    {
                        'skip_parameters_validation': True,
                        'parser_settings': {
                            'energy_type': ['energy_free'],
                            'required_quantity': ['run_status', 'run_stats', 'total_energies', 'forces', 'stress'],
                        },
                    }
                ),
                'calc': {'metadata': {'options': self.inputs.options.get_dict()}},
                'metadata': {'call_link_label': name},
            }
            try:
                awaited[name] = self.submit(WorkflowFactory('vasp.vasp'), **inputs)
            except (ValueError, TypeError, EntryPointError) as error:
                # all frames have the same inputs but for their atoms, so none was submitted
                return self.exit_codes.ERROR_REFUSED.format(cause=error)
            self.report(f'frame {int(name[1:])} alone: {awaited[name].process_label}<{awaited[name].pk}>')
        return ToContext(**awaited)

    def results(self) -> ExitCode | None:
        """Collect the labels, and the causes of those that failed again."""
        settings = VaspSettings.read(self.inputs.settings.get_dict())
        outcome: dict[str, dict[str, str]] = {}
        misc = {}
        for name in self.ctx.names:
            node = self.ctx[name]
            told = outcome[str(int(name[1:]))] = {'job': node.uuid}
            cause = explain_failure(node, settings)
            if cause is None:
                misc[name] = node.outputs.misc
            else:
                told['cause'] = f'alone, {node.process_label}<{node.pk}>: {cause}'
        found = collect_alone(self.inputs.frames, self.inputs.settings, Dict(outcome), **misc)
        for name, node in found.items():
            self.out(name, node)
        if 'frames' not in found:
            return self.exit_codes.ERROR_NOTHING_CONVERGED.format(n=len(outcome))
        return None


def explain_failure(node: WorkChainNode, settings: VaspSettings) -> str | None:
    """Why a `VaspWorkChain` gave no labels that fit to those of the batch with these settings; None if it did."""
    jobs = jobs_of(node)
    if not node.is_finished_ok:
        said = str(node.exit_message or node.process_state.value)
        # what it says is general; its last job knows what was wrong
        own = jobs[-1].exit_message if jobs else None
        return f'{said} {jobs[-1].process_label}<{jobs[-1].pk}>: {own}' if own else said
    used = jobs[-1].inputs.parameters.get_dict() if jobs else {}
    used = {name.upper(): value for name, value in used.items()}
    wanted = {name: value for name, value in relevant_tags(settings).items() if name not in FREE_TAGS}
    changed = [f'{name} to {used.get(name)}' for name in wanted if used.get(name) != wanted[name]]
    if changed:
        return f'its error handlers changed {", ".join(changed)}'
    misc = node.outputs.misc.get_dict() if 'misc' in node.outputs else {}
    missing = [name for name in ('run_status', 'total_energies', 'forces', 'stress') if not misc.get(name)]
    if missing:
        return f'it gave no {", ".join(missing)}'
    return None if misc['run_status'].get('electronic_converged') else 'not self-consistent'


def jobs_of(node: WorkChainNode) -> list[CalcJobNode]:
    """The jobs of a work chain in the order in which they began."""
    return sorted((child for child in node.called if isinstance(child, CalcJobNode)), key=lambda job: job.pk)
