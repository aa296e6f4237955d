"""The monitor of LAMMPS jobs: looks at a run while it is running, and stops it beyond its limits."""

from __future__ import annotations

from typing import Any, Literal

from aiida.engine.processes.calcjobs.monitors import CalcJobMonitorResult
from aiida.orm import CalcJobNode, Dict
from aiida.schedulers import JobState
from aiida.transports import Transport

from aiida_liheal.calculations.lammps import LIMITS_MONITOR, JobSettings, run_folder
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
    """Stop a job of one run that is beyond a limit; limits as in `Limits`.

    The parser looks at the whole run again, ends the job with the exit code and the words, and flags what is only to be
    flagged: this only makes an end of it early.
    """
    if action == 'flag' or node.get_scheduler_state() is JobState.DONE:
        return None
    limits = Limits(
        max_temperature_K=max_temperature_K,
        max_lost_atoms=max_lost_atoms,
        max_deviation_eV_per_A=max_deviation_eV_per_A,
        action=action,
    )
    # the names of the columns are far above the last lines
    log = parse_log(_lines(node, transport, f"grep '^ *Step ' log.lammps | tail -n 1; tail -n {TAIL} log.lammps"))
    if log.errors or log.wall_time_s == log.wall_time_s:
        return None  # it is ending by itself; AiiDA's direct scheduler cannot kill what has ended
    deviations = parse_model_devi(_lines(node, transport, f'tail -n {TAIL} model_devi.out'))
    n_start = 0
    if max_lost_atoms is not None:
        structure, _ = JobSettings.read(node.inputs.settings.get_dict()).run(0)
        n_start = int(node.inputs.structures.get_frames().counts[structure])
    beyond = passed(limits, log.thermo, deviations, n_start)
    if not beyond:
        return None
    return CalcJobMonitorResult(message=str(beyond[0]), override_exit_code=False)


def _lines(node: CalcJobNode, transport: Transport, command: str) -> list[str]:
    """Lines that a command prints in the folder of the run; none while there is no such file."""
    workdir: Any = node.get_remote_workdir()
    _, output, _ = transport.exec_command_wait(f'({command}) 2>/dev/null', workdir=f'{workdir}/{run_folder(0)}')
    return output.splitlines(keepends=True)
