"""The job that trains one Deep Potential: train, freeze, compress and test on the held-out frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiida.common.datastructures import CalcInfo, CodeInfo, CodeRunMode
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida.orm import ArrayData, Dict, RemoteData

from aiida_liheal.calculations.common import define_options, job_validator, settings_validator
from aiida_liheal.calculations.dp_settings import DpTrainSettings, architecture_of, training_input
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData, type_map
from aiida_liheal.sampling.holdout import split_holdout
from aiida_liheal.sampling.seeds import derive_seed
from aiida_liheal.structures.formats import write_deepmd_npy
from aiida_liheal.structures.frames import Frames

__all__ = ('DpTrainCalculation', 'split_shard', 'write_compress_input')

#: Domain of shards that name none.
ANY_DOMAIN = 'frames'


def split_shard(name: str, n_frames: int, settings: DpTrainSettings) -> tuple[Any, Any]:
    """Indices of the training and the held-out frames of one shard: the same for every member of a committee."""
    return split_holdout(n_frames, settings.holdout_fraction, derive_seed(settings.holdout_seed, name))


def check_training(
    settings: DpTrainSettings, frames: Mapping[str, FramesData], start_from: PotentialData | None
) -> str | None:
    """What is wrong with training on these frames from this potential; None if nothing is."""
    domains = sorted({shard.domain or ANY_DOMAIN for shard in frames.values()})
    unknown = sorted(set(settings.domain_weights) - set(domains))
    if unknown:
        return f'domain_weights names {", ".join(unknown)}; the frames have the domains {", ".join(domains)}'
    if not any(settings.domain_weights.get(domain, 1.0) for domain in domains):
        return f'domain_weights is {settings.domain_weights}; allowed is at least one domain above 0'
    if start_from is None:
        return None
    if start_from.kind != 'deepmd':
        return f'start_from is a potential of kind {start_from.kind!r}; allowed is deepmd'
    for name, shard in sorted(frames.items()):
        strange = sorted(set(shard.elements) - set(start_from.elements))
        if strange:
            return f'shard {name!r} holds {", ".join(strange)}; start_from knows {", ".join(start_from.elements)} only'
    known = type_map(start_from.read('frozen'))
    # weights are taken over type by type, whatever the types are called
    if known is not None and known != start_from.elements:
        return (
            f'the types of the model of start_from are {", ".join(known)}, its elements are '
            f'{", ".join(start_from.elements)}; to train on from it they must be the same in the same order'
        )
    if start_from.training_input is None:
        return None
    try:
        given = architecture_of(start_from.training_input)
    except ValueError as error:
        return f'start_from: {error}'
    for key, value in given.items():
        wanted = getattr(settings, key)
        if (tuple(value) if isinstance(value, list) else value) != wanted:
            return (
                f'start_from was trained with {key} = {value}, the settings say {wanted}; weights can only be taken '
                'over between equal architectures'
            )
    return None


class DpTrainCalculation(CalcJob):
    """Train one Deep Potential with DeePMD-kit (TensorFlow backend), freeze, compress and test it."""

    _TEST_OUTPUT = 'test.log'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Inputs, outputs and exit codes."""
        super().define(spec)
        define_options(spec, 'liheal.dp_train')
        spec.input_namespace(
            'frames',
            valid_type=FramesData,
            dynamic=True,
            required=True,
            validator=cls._validate_frames,
            help='Labelled shards by name. From each, the held-out share is left out of training.',
        )
        spec.input(
            'settings',
            valid_type=Dict,
            validator=settings_validator(DpTrainSettings),
            help='Settings of the training; keys carry their units (see `DpTrainSettings`).',
        )
        spec.input(
            'start_from',
            valid_type=PotentialData,
            required=False,
            help='A potential of the same architecture whose weights the training starts from.',
        )
        spec.input(
            'parent_folder',
            valid_type=RemoteData,
            required=False,
            help='Folder of an interrupted training with the same inputs, to go on from its last checkpoint.',
        )
        spec.inputs.validator = job_validator(cls._validate_inputs)
        spec.output('potential', valid_type=PotentialData, help='The frozen and the compressed model, and its input.')
        spec.output(
            'learning_curve', valid_type=ArrayData, help='Columns of the learning curve, each of (n_points,); eV, eV/Å.'
        )
        spec.output(
            'summary',
            valid_type=Dict,
            help='Frames trained on and held out, held-out errors by shard and domain (meV/atom, meV/Å), time in s.',
        )
        spec.exit_code(
            301,
            'ERROR_NO_FROZEN_MODEL',
            message='the training ended but there is no frozen model: {cause}; see freeze.err of the job',
        )
        spec.exit_code(
            302,
            'ERROR_TRAINING_FAILED',
            message='dp train stopped with an error: {cause}; mend the inputs, see train.err of the job',
        )
        spec.exit_code(
            303, 'ERROR_NO_TEST', message='the held-out frames could not be tested: {cause}; see test.err of the job'
        )
        spec.exit_code(
            400,
            'ERROR_INTERRUPTED',
            message='the training stopped after {done} of {wanted} steps; go on with its folder as `parent_folder`',
            invalidates_cache=True,
        )
        spec.exit_code(
            501,
            'ERROR_DIVERGED',
            message='the learning curve holds numbers that are not finite from step {step}; lower learning_rate_start',
        )

    @staticmethod
    def _validate_frames(frames: dict[str, FramesData], _: Any) -> str | None:
        if not frames:
            return 'no frames given; a training needs at least one labelled shard'
        for name, shard in frames.items():
            if not shard.is_labelled:
                return f'shard {name!r} ({len(shard)} frames) has no energies and forces; label it with `liheal.label`'
            if len(shard) == 0:
                return f'shard {name!r} holds no frames'
        return None

    @classmethod
    def _validate_inputs(cls, inputs: dict[str, Any], _: Any) -> str | None:
        if not {'settings', 'frames'} <= set(inputs):
            return None  # told by the ports themselves, or left out where they are exposed
        return check_training(
            DpTrainSettings.model_validate(inputs['settings'].get_dict()), inputs['frames'], inputs.get('start_from')
        )

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the systems, the input, and the commands that run one after another."""
        settings = DpTrainSettings.model_validate(self.inputs.settings.get_dict())
        elements = self._elements()
        training: dict[str, list[str]] = {}
        holdout: list[str] = []
        n_frames: dict[str, int] = {}
        for name, shard in sorted(self.inputs.frames.items()):
            frames = shard.get_frames()
            chosen = dict(zip(('train', 'holdout'), split_shard(name, len(frames), settings), strict=True))
            for part, indices in chosen.items():
                if len(indices) == 0:
                    continue
                subset = frames.select(indices)
                for path in write_deepmd_npy(subset, folder.get_abs_path(f'data/{part}/{name}'), elements):
                    relative = path.relative_to(folder.abspath).as_posix()
                    if part == 'train':
                        training.setdefault(shard.domain or ANY_DOMAIN, []).append(relative)
                        n_frames[relative] = len(_energies(path))
                    else:
                        holdout.append(relative)
        content = training_input(settings, elements, training, holdout, n_frames)
        with folder.open('input.json', 'w', encoding='utf-8') as handle:
            json.dump(content, handle, indent=2)
        write_compress_input(folder, content, settings.table_from_A)

        train = ['--tf', 'train', '--skip-neighbor-stat', 'input.json']
        remote_copy_list = []
        if 'parent_folder' in self.inputs:
            parent = self.inputs.parent_folder
            base = parent.get_remote_path()
            remote_copy_list = [
                (parent.computer.uuid, f'{base}/{name}', '.') for name in ('model.ckpt*', 'checkpoint', 'lcurve.out')
            ]
            train += ['--restart', 'model.ckpt']
        elif 'start_from' in self.inputs:
            with folder.open('start.pb', 'wb') as handle:
                handle.write(self.inputs.start_from.read('frozen'))
            train += ['--init-frz-model', 'start.pb']
        commands = {
            'train': train,
            'freeze': ['--tf', 'freeze', '-o', 'frozen.pb'],
            'compress': ['--tf', 'compress', '-i', 'frozen.pb', '-o', 'compressed.pb', '-t', 'compress.json'],
        }
        if holdout:
            commands['test'] = ['--tf', 'test', '-m', 'compressed.pb', '-s', 'data/holdout', '-l', self._TEST_OUTPUT]

        calcinfo = CalcInfo()
        calcinfo.codes_info = []
        calcinfo.retrieve_list = ['lcurve.out', self._TEST_OUTPUT]
        for name, parameters in commands.items():
            codeinfo = CodeInfo()
            codeinfo.code_uuid = self.inputs.code.uuid
            codeinfo.cmdline_params = parameters
            codeinfo.stdout_name = f'{name}.out'
            codeinfo.stderr_name = f'{name}.err'
            calcinfo.codes_info.append(codeinfo)
            calcinfo.retrieve_list += [f'{name}.out', f'{name}.err']
        calcinfo.codes_run_mode = CodeRunMode.SERIAL
        calcinfo.remote_copy_list = remote_copy_list
        calcinfo.retrieve_temporary_list = ['frozen.pb', 'compressed.pb']
        # the systems can be made again from the shards and the settings; the start model is a node already
        calcinfo.provenance_exclude_list = ['start.pb', *_files_below(Path(folder.abspath), 'data')]
        return calcinfo

    def _elements(self) -> tuple[str, ...]:
        """The type map: that of the start model, else every element of the shards."""
        if 'start_from' in self.inputs:
            return tuple(self.inputs.start_from.elements)
        return tuple(sorted({symbol for shard in self.inputs.frames.values() for symbol in shard.elements}))


def write_compress_input(folder: Folder, content: dict[str, Any], table_from_A: float) -> None:
    """Write `compress.json` and the data it names.

    `dp compress` takes the smallest distance of its table from the data of the training. Walking through all frames
    for it takes minutes; a system of two atoms at the chosen distance says the same.

    Parameters
    ----------
    folder : Folder
        Folder of the job.
    content : dict
        The training input of the model.
    table_from_A : float
        Smallest distance that the table resolves, in Å.
    """
    elements = tuple(content['model']['type_map'])
    write_deepmd_npy(_closest_pair(table_from_A, elements[0]), folder.get_abs_path('data/closest'), elements)
    training = {key: value for key, value in content['training'].items() if key != 'validation_data'}
    training['training_data'] = {'systems': ['data/closest/g000'], 'batch_size': 1}
    with folder.open('compress.json', 'w', encoding='utf-8') as handle:
        json.dump({**content, 'training': training}, handle, indent=2)


def _closest_pair(distance_A: float, element: str) -> Frames:
    """One frame of two atoms at a distance, in a box much larger than any cut-off; its labels are never used."""
    return Frames(
        elements=(element,),
        counts=np.array([2], dtype=np.int32),
        types=np.zeros(2, dtype=np.int32),
        positions=np.array([[0.0, 0.0, 0.0], [distance_A, 0.0, 0.0]]),
        cells=np.array([np.eye(3) * 60.0]),
        pbc=np.ones((1, 3), dtype=bool),
        energies=np.zeros(1),
        forces=np.zeros((2, 3)),
    )


def _energies(system: Path) -> Any:
    return np.load(system / 'set.000' / 'energy.npy', allow_pickle=False)


def _files_below(root: Path, folder: str) -> list[str]:
    return [path.relative_to(root).as_posix() for path in (root / folder).rglob('*') if path.is_file()]
