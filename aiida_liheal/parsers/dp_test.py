"""Parser of a test of one Deep Potential."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.engine import ExitCode
from aiida.orm import Dict
from aiida.parsers import Parser

from aiida_liheal.parsers.common import read_text
from aiida_liheal.parsers.dp_log import last_error
from aiida_liheal.parsers.dp_train import tested_errors

__all__ = ('DpTestParser',)


class DpTestParser(Parser):
    """Parser of `DpTestCalculation`."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Errors by shard and by domain."""
        frames = {name: (shard, np.arange(len(shard))) for name, shard in self.node.inputs.frames.items()}
        errors, problem = tested_errors(read_text(self.retrieved, 'test.log'), 'test', frames)
        if problem:
            cause = last_error(read_text(self.retrieved, 'test.err')) or problem
            return self.exit_codes.ERROR_NO_TEST.format(cause=cause)
        units = {'energy': 'meV/atom', 'force': 'meV/Å', 'virial': 'meV/atom'}
        self.out('summary', Dict({**errors, 'units': units}))
        return None
