"""Protocols: the settings of each verb at three levels of cost, from YAML, with overrides that are checked."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from importlib.resources import files
from typing import Any

import yaml
from aiida.engine.processes.builder import ProcessBuilderNamespace
from aiida.orm import Int

from aiida_liheal.calculations.common import ONE_THREAD

__all__ = ('ProtocolMixin', 'fill', 'merge', 'set_options', 'whole')


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of `base` with `changes` laid over it, mappings key by key."""
    merged = deepcopy(base)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = deepcopy(value)
    return merged


def whole(inputs: Mapping[str, Any], name: str) -> Int:
    """A whole number among the inputs of a protocol. Raises ValueError for any other value: `Int` would cut it off."""
    value = inputs[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise ValueError(f'{name} = {value!r}; allowed is a whole number')
    return Int(int(value))


class ProtocolMixin:
    """Reads `protocols/<name>.yaml` for a verb.

    The file holds `default_protocol`, `default_inputs`, and `protocols` with a `description` for each and what it
    changes. Builders (`get_builder_from_protocol`) take of the following what their verb needs; each says what else it
    takes, and what it means by codes and overrides.

    Parameters
    ----------
    codes : mapping of str to Code
        What is run, by its name.
    potentials : PotentialData or mapping of str to PotentialData
        One potential, or a committee m0, m1, …: the first one drives.
    seed : int
        Seed of all that is random.
    protocol : str, optional
        One of `get_available_protocols`, mostly `fast`, `balanced` and `paper`; that of `get_default_protocol` if not
        given.
    overrides : dict, optional
        Laid over the protocol, key by key.
    options : dict, optional
        `metadata.options` of the jobs.

    Raises
    ------
    ValueError
        For an unknown protocol or override, or settings outside their limits.
    """

    _protocol_name: str

    @classmethod
    def _load(cls) -> dict[str, Any]:
        path = files('aiida_liheal.protocols') / f'{cls._protocol_name}.yaml'
        return dict(yaml.safe_load(path.read_text(encoding='utf-8')))

    @classmethod
    def get_available_protocols(cls) -> dict[str, str]:
        """Name and description of each protocol."""
        return {name: str(value['description']) for name, value in cls._load()['protocols'].items()}

    @classmethod
    def get_default_protocol(cls) -> str:
        """Name of the protocol taken when none is given."""
        return str(cls._load()['default_protocol'])

    @classmethod
    def get_protocol_inputs(
        cls, protocol: str | None = None, overrides: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Settings of one protocol with overrides laid over them.

        Raises ValueError for an unknown protocol or an override whose top-level key the protocol does not know.
        """
        content = cls._load()
        protocol = protocol or content['default_protocol']
        if protocol not in content['protocols']:
            raise ValueError(f'unknown protocol {protocol!r}; there are {", ".join(content["protocols"])}')
        changes = {k: v for k, v in content['protocols'][protocol].items() if k != 'description'}
        inputs = merge(content['default_inputs'], changes)
        overrides = overrides or {}
        unknown = sorted(set(overrides) - set(inputs))
        if unknown:
            raise ValueError(f'unknown override {", ".join(unknown)}; allowed are {", ".join(sorted(inputs))}')
        return merge(inputs, overrides)


def fill(target: ProcessBuilderNamespace, content: Mapping[str, Any], left_out: tuple[str, ...] = ()) -> None:
    """Set the inputs of a builder's namespace from those of another builder, port by port.

    A namespace set as a whole is checked before its defaults are in; `metadata.options.resources` would be missing.

    Parameters
    ----------
    target : ProcessBuilderNamespace
        Namespace to set.
    content : mapping
        Inputs, such as `builder._inputs(prune=True)`.
    left_out : tuple of str
        Ports at the top of `content` that `target` does not have.
    """
    for name, value in content.items():
        if name in left_out:
            continue
        inner = getattr(target, name, None)
        # a namespace without ports of its own takes whatever keys there are, as a whole
        if isinstance(value, Mapping) and isinstance(inner, ProcessBuilderNamespace) and len(inner._port_namespace):
            fill(inner, value)
        else:
            setattr(target, name, value)


def set_options(job: ProcessBuilderNamespace, options: Mapping[str, Any] | None) -> None:
    """Set options of a job, port by port, so that the defaults of the others stay.

    `environment_variables` are laid over our own, which give each process one thread.

    Parameters
    ----------
    job : ProcessBuilderNamespace
        Inputs of the job.
    options : mapping, optional
        Values by option of `metadata.options`.

    Raises
    ------
    ValueError
        If there is no such option, or its value is refused.
    """
    target = job.metadata.options
    unknown = sorted(set(options or {}) - set(target._port_namespace))
    if unknown:
        raise ValueError(
            f'unknown option {", ".join(unknown)}; allowed are {", ".join(sorted(target._port_namespace))}'
        )
    for name, value in (options or {}).items():
        setattr(target, name, {**ONE_THREAD, **value} if name == 'environment_variables' else value)
