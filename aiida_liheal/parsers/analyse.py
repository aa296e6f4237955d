"""Parser of the analysis of a trajectory."""

from __future__ import annotations

import json
import zipfile
from typing import Any

from aiida.engine import ExitCode
from aiida.orm import Dict
from aiida.parsers import Parser

from aiida_liheal.analysis.results import load_result
from aiida_liheal.parsers.common import array_data, read_text

__all__ = ('AnalyseParser',)

#: Exit code by the cause that the runner notes.
CAUSES = {
    'missing': 'ERROR_NO_TRAJECTORY',
    'empty': 'ERROR_NO_FRAMES',
    'damaged': 'ERROR_TRAJECTORY_DAMAGED',
    'columns': 'ERROR_COLUMNS_MISSING',
    'packages': 'ERROR_PACKAGES_MISSING',
}


class AnalyseParser(Parser):
    """Parser of `AnalyseCalculation`."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Turn the result files into nodes; a truncated trajectory gives results and an exit code."""
        try:
            status = json.loads(read_text(self.retrieved, 'status.json'))
        except json.JSONDecodeError:
            return self.exit_codes.ERROR_NO_STATUS
        state = status['state']
        if state == 'running':
            return self.exit_codes.ERROR_STOPPED.format(done=status['frames_done'], total=status['frames_total'])
        if state == 'failed':
            label = CAUSES.get(status['cause'], 'ERROR_ANALYSIS_FAILED')
            return getattr(self.exit_codes, label).format(message=status['message'].rstrip('.'))
        try:
            result = load_result(kwargs['retrieved_temporary_folder'])
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            return self.exit_codes.ERROR_RESULTS_UNREADABLE.format(message=error)
        self.out('series', array_data(result.series))
        self.out('profiles', array_data(result.profiles))
        self.out('snapshots', array_data(result.snapshots))
        if result.mobility:
            self.out('mobility', array_data(result.mobility))
        self.out('summary', Dict(result.summary | {'wall_time_s': status['wall_time_s']}))
        return self.exit_codes.ERROR_TRAJECTORY_TRUNCATED if state == 'truncated' else None
