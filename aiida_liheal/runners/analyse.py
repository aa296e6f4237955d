"""Analyse the dumps of a run beside them: time series, profiles, snapshots and a summary.

Carried by a job. It needs numpy, OVITO and pydantic, and the folder `aiida_liheal/analysis` beside it, which the job
carries too: neither this package nor AiiDA has to be installed on the computer.

In the working folder it reads `settings.json` (the keys of `AnalysisSettings`) and writes the files of
`analysis.results.save_result`. `status.json` says how far it is and, at the end, what became of it: `state` is one of
`running`, `finished`, `truncated` (results are there, the last dump ends within a frame) and `failed`, the last with
a `cause` and a `message`.

Usage: python analyse.py DUMP [DUMP ...]
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

#: Longest time in s between two updates of the status.
REPORT_EVERY_S = 5.0


class Status:
    """The file `status.json`, replaced in one step at each change, and lines on standard output."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start = time.monotonic()
        self.last = float('-inf')
        self.record: dict[str, Any] = {'state': 'running', 'frames_done': 0, 'frames_total': None}
        self.write()

    def write(self, **changes: Any) -> None:
        """Change the record and put it on disk."""
        self.record.update(changes, wall_time_s=round(time.monotonic() - self.start, 2))
        draft = self.path.with_suffix('.new')
        draft.write_text(json.dumps(self.record, indent=1), encoding='utf-8')
        draft.replace(self.path)

    def progress(self, done: int, total: int) -> None:
        """Note the frames done, at first, at the end and every few seconds."""
        if time.monotonic() - self.last >= REPORT_EVERY_S or done == total:
            self.last = time.monotonic()
            print(f'frame {done} of {total}', flush=True)
            self.write(frames_done=done, frames_total=total)

    def fail(self, cause: str, message: str) -> int:
        """Note a failure; returns the exit status of the script."""
        print(f'{cause}: {message}', file=sys.stderr)
        self.write(state='failed', cause=cause, message=message)
        return 1


def main(dumps: list[str]) -> int:
    """Analyse `dumps` with the settings in the working folder; returns the exit status: 0 finished, 2 truncated."""
    status = Status(Path('status.json'))
    # OVITO takes all cores it sees unless told; a job has those it asked for
    os.environ.setdefault('OVITO_THREAD_COUNT', os.environ.get('OMP_NUM_THREADS', '1'))
    try:
        from aiida_liheal.analysis.results import save_result
        from aiida_liheal.analysis.series import analyse_trajectory
        from aiida_liheal.analysis.settings import AnalysisSettings
        from aiida_liheal.analysis.trajectory import TrajectoryError
    except ImportError as error:
        return status.fail('packages', f'{sys.executable} cannot import what the analysis needs: {error}')
    try:
        settings = AnalysisSettings.model_validate_json(Path('settings.json').read_bytes())
        result = analyse_trajectory(dumps, settings, status.progress)
        save_result(result, Path())
    except TrajectoryError as error:
        return status.fail(error.cause, str(error))
    except Exception as error:  # the job has nobody to raise to: the cause goes into the status
        traceback.print_exc()
        return status.fail('error', f'{type(error).__name__}: {error}')
    is_truncated = bool(result.summary['is_truncated'])
    status.write(state='truncated' if is_truncated else 'finished')
    return 2 if is_truncated else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
