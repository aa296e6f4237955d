"""Looking into folders of a computer from a step of a work chain, though the connection may fail for a while."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from aiida.engine import WorkChain
from aiida.engine.processes.calcjobs.tasks import MAX_ATTEMPTS_OPTION, RETRY_INTERVAL_OPTION
from aiida.engine.utils import exponential_backoff_retry
from aiida.manage.configuration import get_config_option
from aiida.orm import RemoteData
from aiida.transports import Transport

__all__ = ('NoConnectionError', 'names_in', 'names_of')


class NoConnectionError(Exception):
    """A computer did not answer, however often it was asked."""


async def names_of(transport: Transport, folder: RemoteData) -> list[str]:
    """Names of what is in a remote folder; none if it is not there, as a job that never began leaves none."""
    path = folder.get_remote_path()
    return list(await transport.listdir_async(path)) if await transport.isdir_async(path) else []


def names_in(process: WorkChain, folders: Iterable[RemoteData]) -> dict[str, list[str]]:
    """Names of what is in remote folders, looked at from a step of a process.

    It is done as AiiDA does the transfers of its jobs: through the connection that they share, with as many tries
    and as long between them as `transport.task_maximum_attempts` and `transport.task_retry_initial_interval` say; the
    other processes of the daemon go on meanwhile.

    Returns
    -------
    names : dict of str to list of str
        By path of the folder.

    Raises
    ------
    NoConnectionError
        With the cause of the last try, if all of them failed.
    """
    ordered = sorted(folders, key=lambda folder: folder.computer.pk)
    return {
        path: names
        for _, own in itertools.groupby(ordered, key=lambda folder: folder.computer.pk)
        for path, names in _on_one_computer(process, list(own)).items()
    }


def _on_one_computer(process: WorkChain, folders: list[RemoteData]) -> dict[str, list[str]]:
    async def look() -> dict[str, list[str]]:
        async with process.runner.transport.request_transport(folders[0].get_authinfo()) as request:
            transport: Any = await request
            return {folder.get_remote_path(): await names_of(transport, folder) for folder in folders}

    n_tries = get_config_option(MAX_ATTEMPTS_OPTION)
    tries = exponential_backoff_retry(look, get_config_option(RETRY_INTERVAL_OPTION), n_tries, process.node.logger)
    try:
        found: dict[str, list[str]] = process.runner.run_until_complete(tries)
    except Exception as error:  # a plugin of a transport raises what it likes; AiiDA's own tasks catch as much
        raise NoConnectionError(
            f'{folders[0].computer.label} could not be asked in {n_tries} tries: {type(error).__name__}: {error}'
        ) from error
    return found
