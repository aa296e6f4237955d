"""What the CalcJobs share: settings checked by their models, and one thread unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiida.engine import CalcJobProcessSpec
from aiida.engine.processes.calcjobs.calcjob import validate_calc_job
from aiida.orm import Dict
from pydantic import BaseModel, ValidationError

from aiida_liheal.structures.settings import explain

__all__ = (
    'ONE_THREAD',
    'check_segments',
    'define_options',
    'job_validator',
    'named',
    'segments_in_order',
    'settings_validator',
)

#: Environment of a job that shares its machine: each process one thread. Override through `options`.
ONE_THREAD = {
    'OMP_NUM_THREADS': '1',
    'OPENBLAS_NUM_THREADS': '1',
    'TF_INTRA_OP_PARALLELISM_THREADS': '1',
    'TF_INTER_OP_PARALLELISM_THREADS': '1',
    'DP_INTRA_OP_PARALLELISM_THREADS': '1',
    'DP_INTER_OP_PARALLELISM_THREADS': '1',
    'TF_CPP_MIN_LOG_LEVEL': '2',
}


def settings_validator(model: type[BaseModel]) -> Callable[[Dict | None, Any], str | None]:
    """A port validator that checks a `Dict` node by a model of settings."""

    def validate(node: Dict | None, _: Any) -> str | None:
        if node is None:
            return None
        try:
            model.model_validate(node.get_dict())
        except ValidationError as error:
            return explain(error, model)
        return None

    return validate


def job_validator(own: Callable[[Any, Any], str | None]) -> Callable[[Any, Any], str | None]:
    """A validator of a job's inputs that asks ours, then AiiDA's own, which setting one would replace."""

    def validate(inputs: Any, port: Any) -> str | None:
        return own(inputs, port) or validate_calc_job(inputs, port)

    return validate


def define_options(spec: CalcJobProcessSpec, parser: str, withmpi: bool = False) -> None:
    """Give a job's options our defaults: its parser, one machine with one process, one thread."""
    options = spec.inputs['metadata']['options']
    options['parser_name'].default = parser
    options['withmpi'].default = withmpi
    options['resources'].default = lambda: {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
    options['environment_variables'].default = lambda: dict(ONE_THREAD)


def named(segments: Sequence[Any]) -> dict[str, Any]:
    """The segments of a run by their names: s000, s001, …, s999, s1000."""
    return {f's{number:03d}': segment for number, segment in enumerate(segments)}


def check_segments(what: str, names: Iterable[str]) -> str | None:
    """What is wrong with the names of the segments of a run, as a validator says it."""
    given = segments_in_order(names)
    expected = list(named(given))
    if given == expected:
        return None
    return f'{what} are called {", ".join(given)}; the order needs the names {", ".join(expected)}'


def segments_in_order(names: Iterable[str]) -> list[str]:
    """Names of segments in the order of the run: s1000 comes after s999."""
    return sorted(names, key=lambda name: (len(name), name))
