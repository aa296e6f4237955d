"""How far jobs are, from what they write on this machine while they run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiida.engine import CalcJob
from aiida.orm import CalcJobNode, Dict

from aiida_liheal.engines import engines
from aiida_liheal.engines.batch import BatchCalculation

__all__ = ('Progress', 'job_progress', 'job_total', 'label_jobs')

#: Bytes read from the end of a log: more than one line of any of them.
_TAIL = 8192


@dataclass(frozen=True)
class Progress:
    """Something done out of a total; the unit is a plural, such as `steps`."""

    done: int
    total: int
    unit: str

    def __str__(self) -> str:
        return f'{self.done}/{self.total} {self.unit}'


@cache
def label_jobs() -> dict[str, type[CalcJob]]:
    """The jobs that label frames, of all engines that are installed, by the label of their processes."""
    return {engine.job.__name__: engine.job for engine in engines().values()}


def job_progress(node: CalcJobNode) -> Progress | None:
    """How far a job is; None if its folder is on another machine, or it has written nothing yet."""
    if node.computer is None or node.computer.transport_type != 'core.local':
        return None
    workdir = node.get_remote_workdir()
    if not workdir or not Path(workdir).is_dir():
        return None
    settings = node.inputs.settings.get_dict() if isinstance(node.inputs.settings, Dict) else {}
    label = node.process_label or ''
    reader = _READERS.get(label) or (_labels if label in label_jobs() else None)
    try:
        return reader(Path(workdir), settings, node) if reader is not None else None
    except (OSError, ValueError, KeyError):
        # a file that is being written, or is not there yet: the next look will tell
        return None


def job_total(node: CalcJobNode) -> Progress | None:
    """How much a job has to do, with nothing done; None if its kind is not known or its settings are not right."""
    settings = node.inputs.settings.get_dict() if 'settings' in node.inputs else {}
    try:
        match node.process_label:
            case 'DpTrainCalculation':
                return Progress(0, int(settings['n_steps']), 'steps')
            case 'LammpsCalculation':
                return Progress(0, sum(_steps_of_runs(settings, node).values()), 'steps')
            case label if label in label_jobs():
                return Progress(0, len(node.inputs.frames), 'frames')
            case _:
                return None
    except (ValueError, KeyError):
        return None


def _training(folder: Path, settings: dict, _: CalcJobNode) -> Progress:
    path = folder / 'lcurve.out'
    done = int(float(_last_words(path)[0])) if path.is_file() else 0
    return Progress(done, int(settings['n_steps']), 'steps')


def _steps_of_runs(settings: dict, node: CalcJobNode) -> dict[int, int]:
    """Steps of each run that a LAMMPS job does, by its number."""
    from aiida_liheal.calculations.lammps import JobSettings, runs_to_do

    job = JobSettings.read(settings)
    steps = node.inputs.restart_steps.get_dict() if 'restart_steps' in node.inputs else None
    return {number: job.run(number)[1].n_steps for number in runs_to_do(job, steps)}


def _lammps(folder: Path, settings: dict, node: CalcJobNode) -> Progress:
    """Steps over all runs that the job does."""
    steps = _steps_of_runs(settings, node)
    done = 0
    for number, wanted in steps.items():
        log = folder / f'run_{number:03d}' / 'log.lammps'
        if log.is_file():
            done += min(_last_step(log), wanted)
    return Progress(done, sum(steps.values()), 'steps')


def _labels(folder: Path, _: dict, node: CalcJobNode) -> Progress | None:
    job = label_jobs()[node.process_label]
    if not issubclass(job, BatchCalculation):
        return None  # of another package, and made otherwise
    return Progress(min(job.count_done(folder), len(node.inputs.frames)), len(node.inputs.frames), 'frames')


def _analysis(folder: Path, _: dict, __: CalcJobNode) -> Progress:
    status = json.loads((folder / 'status.json').read_text(encoding='utf-8'))
    return Progress(int(status['frames_done']), int(status['frames_total']), 'frames')


_READERS = {
    'DpTrainCalculation': _training,
    'LammpsCalculation': _lammps,
    'AnalyseCalculation': _analysis,
}


def _tail(path: Path) -> list[str]:
    """The last whole lines of a file."""
    with path.open('rb') as handle:
        handle.seek(0, 2)
        handle.seek(max(0, handle.tell() - _TAIL))
        text = handle.read().decode('utf-8', 'replace')
    lines = text.split('\n')[:-1]
    return [line for line in lines if line.strip()]


def _last_words(path: Path) -> list[str]:
    """Words of the last line that is no comment; a zero if there is none yet."""
    return next((line.split() for line in reversed(_tail(path)) if not line.lstrip().startswith('#')), ['0'])


def _last_step(log: Path) -> int:
    """Step of the last line of thermo of a LAMMPS log; 0 if there is none."""
    for line in reversed(_tail(log)):
        words = line.split()
        # a line of thermo is numbers alone, the first one whole
        if len(words) > 3 and words[0].isdigit():
            try:
                [float(word) for word in words]
            except ValueError:
                continue
            return int(words[0])
    return 0
