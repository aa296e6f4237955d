"""The monitor of LAMMPS jobs: looks at a run while it is running, and stops it beyond its limits."""

from __future__ import annotations

from typing import Any, Literal

from aiida.engine.processes.calcjobs.monitors import CalcJobMonitorResult
from aiida.orm import CalcJobNode, Dict
from aiida.schedulers import JobState
from aiida.transports import Transport

from aiida_liheal.calculations.lammps import LIMITS_MONITOR, JobSettings, run_folder, runs_to_do
from aiida_liheal.lammps.limits import Limits, passed
from aiida_liheal.lammps.readers import parse_log, parse_model_devi

__all__ = ('check_limits', 'limits_monitor')

#: Lines at the end of a file that are looked at: what a run writes between two looks, and more.
TAIL = 500
#: Least time between two looks in s: each one costs the computer, which may be the one that runs the MD, two processes.
LOOK_EVERY_S = 10


def limits_monitor(limits: Limits) -> Dict:
    """What the input `monitors.limits` of a LAMMPS job takes."""
    return Dict(
        {
            'entry_point': LIMITS_MONITOR,
            'kwargs': limits.model_dump(exclude_none=True),
            'minimum_poll_interval': LOOK_EVERY_S,
        }
    )


def check_limits(
    node: CalcJobNode,
    transport: Transport,
    max_temperature_K: float | None = None,
    max_lost_atoms: int | None = None,
    max_deviation_eV_per_A: float | None = None,
    action: Literal['stop', 'flag'] = 'stop',
) -> CalcJobMonitorResult | None:
    """Stop a job of which a run is beyond a limit; limits as in `Limits`.

    The parser looks at the whole run again, ends the job with the exit code and the words, and flags what is only to be
    flagged: this only makes an end of it early. The other runs of the job can be gone on with.
    """
    if action == 'flag' or node.get_scheduler_state() is JobState.DONE:
        return None
    limits = Limits(
        max_temperature_K=max_temperature_K,
        max_lost_atoms=max_lost_atoms,
        max_deviation_eV_per_A=max_deviation_eV_per_A,
        action=action,
    )
    settings = JobSettings.read(node.inputs.settings.get_dict())
    steps = node.inputs.restart_steps.get_dict() if 'restart_steps' in node.inputs else None
    counts = node.inputs.structures.get_frames().counts if max_lost_atoms is not None else None
    for number in runs_to_do(settings, steps):
        folder = run_folder(number)
        # the names of the columns are far above the last lines
        log = parse_log(
            _lines(node, transport, folder, f"grep '^ *Step ' log.lammps | tail -n 1; tail -n {TAIL} log.lammps")
        )
        if log.errors or log.wall_time_s == log.wall_time_s:
            continue  # it is ending by itself; AiiDA's direct scheduler cannot kill what has ended
        deviations = parse_model_devi(_lines(node, transport, folder, f'tail -n {TAIL} model_devi.out'))
        n_start = 0 if counts is None else int(counts[settings.run(number)[0]])
        beyond = passed(limits, log.thermo, deviations, n_start)
        if beyond:
            which = f'{folder}: ' if len(settings.runs) > 1 else ''
            return CalcJobMonitorResult(message=f'{which}{beyond[0]}', override_exit_code=False)
    return None


def _lines(node: CalcJobNode, transport: Transport, folder: str, command: str) -> list[str]:
    """Lines that a command prints in the folder of a run; none while there is no such file."""
    workdir: Any = node.get_remote_workdir()
    _, output, _ = transport.exec_command_wait(f'({command}) 2>/dev/null', workdir=f'{workdir}/{folder}')
    return output.splitlines(keepends=True)
