"""Parser of a training: the potential, its learning curve, and its errors on the held-out frames."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiida.engine import ExitCode
from aiida.orm import Dict
from aiida.parsers import Parser
from numpy.typing import NDArray

from aiida_liheal.calculations.dp_settings import DpTrainSettings
from aiida_liheal.calculations.dp_train import ANY_DOMAIN, split_shard
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData, check_frozen_model
from aiida_liheal.parsers.common import array_data, read_text
from aiida_liheal.parsers.dp_log import last_error, parse_learning_curve, parse_test_log, pool_errors
from aiida_liheal.structures.formats import group_by_composition
from aiida_liheal.structures.frames import Frames

__all__ = ('DpTrainParser', 'atoms_of_groups', 'errors_by_shard', 'tested_errors')

_DIVERGED = re.compile(r'NaN detected at batch\s+(\d+)')


def errors_by_shard(log: str, prefix: str) -> dict[str, list[dict[str, Any]]]:
    """Errors of a `dp test` log by shard; `prefix` is the name of the folder that they lie in."""
    shards: dict[str, list[dict[str, Any]]] = {}
    for path, values in parse_test_log(log).items():
        parts = Path(path).parts
        if len(parts) >= 3 and parts[-3] == prefix:
            shards.setdefault(parts[-2], []).append({**values, 'system': parts[-1]})
    return shards


class DpTrainParser(Parser):
    """Parser of `DpTrainCalculation`."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Turn the retrieved files into outputs; say how far an interrupted training came."""
        settings = DpTrainSettings.model_validate(self.node.inputs.settings.get_dict())
        curve = parse_learning_curve(read_text(self.retrieved, 'lcurve.out'))
        if curve:
            self.out('learning_curve', array_data(curve))
        train_log = read_text(self.retrieved, 'train.err') + read_text(self.retrieved, 'train.out')
        done = int(curve['step'][-1]) if curve else 0
        if match := _DIVERGED.search(train_log):
            return self.exit_codes.ERROR_DIVERGED.format(step=match[1])
        if 'finished training' not in train_log:
            cause = last_error(train_log)
            if cause:
                return self.exit_codes.ERROR_TRAINING_FAILED.format(cause=cause)
            return self.exit_codes.ERROR_INTERRUPTED.format(done=done, wanted=settings.n_steps)
        if curve:
            # infinite numbers do not stop DeePMD-kit. The loss alone tells: the error of what the frames have no labels
            # of, such as virials, is always written as NaN
            finite = np.isfinite(curve['rmse_trn'])
            if not finite.all():
                return self.exit_codes.ERROR_DIVERGED.format(step=int(curve['step'][~finite][0]))

        temporary = Path(kwargs['retrieved_temporary_folder'])
        models: dict[str, str | Path | bytes] = {}
        for role in ('frozen', 'compressed'):
            path = temporary / f'{role}.pb'
            step = 'freeze' if role == 'frozen' else 'compress'
            if not path.is_file():
                cause = (
                    last_error(read_text(self.retrieved, f'{step}.err')) or f'{path.name} was not written by dp {step}'
                )
                return self.exit_codes.ERROR_NO_FROZEN_MODEL.format(cause=cause)
            try:
                check_frozen_model(path.read_bytes(), path.name)
            except ValueError as error:
                return self.exit_codes.ERROR_NO_FROZEN_MODEL.format(cause=str(error))
            models[role] = path
        content = self.node.base.repository.get_object_content('input.json', 'rb')
        models['input'] = content
        elements = json.loads(content)['model']['type_map']
        self.out('potential', PotentialData(kind='deepmd', elements=elements, files=models))

        summary, problem = self._summary(settings)
        summary['n_steps'] = settings.n_steps
        for line in train_log.splitlines():
            if 'wall time:' in line:
                summary['training_s'] = float(line.split('wall time:')[1].split()[0])
        self.out('summary', Dict(summary))
        if problem:
            cause = last_error(read_text(self.retrieved, 'test.err')) or problem
            return self.exit_codes.ERROR_NO_TEST.format(cause=cause)
        return None

    def _summary(self, settings: DpTrainSettings) -> tuple[dict[str, Any], str]:
        """Counts of frames, and errors on the held-out ones by shard and by domain; and what is wrong with the test."""
        held = {}
        n_train = n_holdout = 0
        for name, shard in self.node.inputs.frames.items():
            chosen, left_out = split_shard(name, len(shard), settings)
            n_train += len(chosen)
            n_holdout += len(left_out)
            held[name] = (shard, left_out)
        errors, problem = tested_errors(read_text(self.retrieved, 'test.log'), 'holdout', held)
        return {
            'n_train': n_train,
            'n_holdout': n_holdout,
            'holdout': errors['by_domain'],
            'holdout_by_shard': errors['by_shard'],
            'units': {'energy': 'meV/atom', 'force': 'meV/Å', 'virial': 'meV/atom', 'training_s': 's'},
        }, problem


def tested_errors(
    log: str, prefix: str, chosen: Mapping[str, tuple[FramesData, NDArray]]
) -> tuple[dict[str, dict[str, Any]], str]:
    """Errors by shard and by domain of a `dp test` log, and what is wrong with it: empty if nothing is.

    Parameters
    ----------
    log : str
        The log.
    prefix : str
        Name of the folder that the shards were written to.
    chosen : mapping of str to (FramesData, (n_tested,) int)
        Shards by name, with the indices of their frames that were tested.
    """
    tested = errors_by_shard(log, prefix)
    shards: dict[str, Any] = {}
    domains: dict[str, list[dict[str, Any]]] = {}
    problems = []
    for name, (shard, indices) in sorted(chosen.items()):
        if len(indices) == 0:
            continue
        sizes = atoms_of_groups(shard.get_frames(), indices)
        parts = [{**part, 'n_atoms': sizes[part['system']]} for part in tested.get(name, [])]
        n_told = sum(part['n_frames'] for part in parts)
        if n_told != len(indices):
            problems.append(f'test.log tells of {n_told} of {len(indices)} frames of shard {name!r}')
        elif not all(np.isfinite(value) for part in parts for key, value in part.items() if 'rmse' in key):
            problems.append(f'the errors of shard {name!r} are not finite')
        else:
            shards[name] = pool_errors(parts)
            domains.setdefault(shard.domain or ANY_DOMAIN, []).extend(parts)
    by_domain = {domain: pool_errors(parts) for domain, parts in domains.items()}
    return {'by_domain': by_domain, 'by_shard': shards}, '; '.join(problems)


def atoms_of_groups(frames: Frames, indices: NDArray) -> dict[str, int]:
    """Atoms a frame in each system that `write_deepmd_npy` makes of these frames, by the name of the system."""
    frames = frames.select(indices)
    return {f'g{n:03d}': int(frames.counts[group[0]]) for n, group in enumerate(group_by_composition(frames))}
