"""What an engine is, and where the installed ones are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import yaml

from aiida_liheal.structures.settings import Settings

if TYPE_CHECKING:
    from aiida.engine import CalcJob, WorkChain
    from ase import Atoms

    from aiida_liheal.data.frames import FramesData

__all__ = ('GROUP', 'Accuracy', 'Engine', 'engine', 'engines')

#: Group of entry points by which engines are found; the name of an entry point is that of its engine.
GROUP = 'aiida_liheal.engines'


def _no_further_inputs(_: Mapping[str, Any], __: FramesData) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Accuracy:
    """A setting that trades cost for accuracy; `liheal.convergence` knows by it which of two values is the finer one.

    Parameters
    ----------
    title : str
        What it is, for people.
    unit : str
        Its unit.
    finer : {'larger', 'smaller'}
        Which values are finer.
    resolve : callable, optional
        `resolve(atoms, settings)`: what a structure sees of it, such as the mesh of k-points, as a tuple of whole
        numbers. Values that are alike in it give the same labels.
    """

    title: str
    unit: str
    finer: Literal['larger', 'smaller']
    resolve: Callable[[Atoms, Any], tuple[int, ...]] | None = None


@dataclass(frozen=True)
class Engine:
    """One engine: a job that labels a batch of frames, and what the verb `label` needs to know of it.

    Parameters
    ----------
    name : str
        Name of the engine, of its namespace in the inputs of `liheal.label` and of its code.
    title : str
        What it is, for people.
    package : str
        Its folder as a module, in which `protocol.yaml` lies: `default_inputs` and `protocols` with `fast`,
        `balanced` and `paper`, each with `settings` and the keys named in `further`; and by protocol `scans`, the
        values of the settings in `accuracy` that a test of convergence tries.
    job : type of CalcJob
        Labels one batch. It takes `code`, `frames` (`FramesData`), `settings` (`Dict`), optionally `parent_folder`
        (`RemoteData`: what an interrupted job finished there is not done again), and whatever else is its own. It
        gives `frames` (the converged ones, with `source_index`, the index in the `frames` it was given; energies in
        eV are those that the forces in eV/Å are the gradient of, virials in eV are -volume x stress) and `summary`
        (`engine`, `n_given`, `n_made`, `n_dropped`, `n_not_tried`, `dropped` with `index` and `cause`,
        `seconds_per_frame`, `versions`, `settings`). It ends with `ERROR_INTERRUPTED` (400) if frames were not tried
        and with `ERROR_NOTHING_CONVERGED` (500) if none was labelled.
    settings : type of Settings
        Model of `settings`.
    explain_batch : callable
        `explain_batch(frames, settings)`: what is wrong with frames and their settings (nodes), or None. The job
        refuses the same by the validator of its inputs, and what else it cannot run.
    code : str
        What its code has to be.
    further : mapping of str to str
        Keys beside `settings` that its part of the protocol and of the overrides has, and what each one means.
    prepare : callable
        `prepare(inputs, frames)`: the inputs of the job that follow from the `further` keys. Raises ValueError.
    alone : type of WorkChain, optional
        Labels, one by one and with more care, frames that a batch dropped. It takes `frames` (those of the batch),
        `summary` (of the batch), `max_frames` (`Int`), `options` (`Dict`: `metadata.options` of its jobs), of `code`,
        `settings` and the job's other inputs those that it has, by the same names, and whatever else is its own,
        which `prepare_alone(inputs, frames)` makes. It gives `frames` and `summary` as the job does, of the frames
        that it tried; their indices are in `tried` of the summary, and each one dropped has its `job` (UUID).
    prepare_alone : callable
        `prepare_alone(inputs, frames)`: the inputs of `alone` that the job has not.
    accuracy : mapping of str to Accuracy
        The settings that a test of convergence goes through by themselves, by their names.
    """

    name: str
    title: str
    package: str
    job: type[CalcJob]
    settings: type[Settings]
    explain_batch: Callable[[Any, Any], str | None]
    code: str
    further: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Mapping[str, Any], FramesData], dict[str, Any]] = _no_further_inputs
    alone: type[WorkChain] | None = None
    prepare_alone: Callable[[Mapping[str, Any], FramesData], dict[str, Any]] = _no_further_inputs
    accuracy: Mapping[str, Accuracy] = field(default_factory=dict)

    def protocol(self) -> dict[str, Any]:
        """Its part of the protocols of `label`, as `protocol.yaml` has it."""
        path = files(self.package) / 'protocol.yaml'
        return dict(yaml.safe_load(path.read_text(encoding='utf-8')))


@cache
def engines() -> dict[str, Engine]:
    """The installed engines by name.

    Raises
    ------
    TypeError
        If an entry point of the group is no `Engine`, or has another name than its engine.
    """
    found = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        loaded = entry.load()
        if not isinstance(loaded, Engine) or loaded.name != entry.name:
            raise TypeError(f'entry point {entry.name} = {entry.value} of {GROUP} is no Engine named {entry.name!r}')
        found[entry.name] = loaded
    return found


def engine(name: str) -> Engine:
    """The engine of a name. Raises ValueError, naming those that there are."""
    try:
        return engines()[name]
    except KeyError:
        raise ValueError(f'engine is {name!r}; allowed are {", ".join(engines())}') from None
