"""Parser of a test of one Deep Potential."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.engine import ExitCode
from aiida.orm import Dict
from aiida.parsers import Parser

from aiida_liheal.calculations.dp_train import ANY_DOMAIN
from aiida_liheal.parsers.common import read_text
from aiida_liheal.parsers.dp_log import last_error, pool_errors
from aiida_liheal.parsers.dp_train import atoms_of_groups, errors_by_shard

__all__ = ('DpTestParser',)


class DpTestParser(Parser):
    """Parser of `DpTestCalculation`."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Errors by shard and by domain."""
        tested = errors_by_shard(read_text(self.retrieved, 'test.log'), 'test')
        shards: dict[str, Any] = {}
        domains: dict[str, list[dict[str, Any]]] = {}
        for name, shard in sorted(self.node.inputs.frames.items()):
            if name not in tested:
                cause = (
                    last_error(read_text(self.retrieved, 'test.err')) or f'test.log has no errors for shard {name!r}'
                )
                return self.exit_codes.ERROR_NO_TEST.format(cause=cause)
            sizes = atoms_of_groups(shard.get_frames(), np.arange(len(shard)))
            parts = [{**part, 'n_atoms': sizes[part['system']]} for part in tested[name]]
            shards[name] = pool_errors(parts)
            domains.setdefault(shard.domain or ANY_DOMAIN, []).extend(parts)
        self.out(
            'summary',
            Dict(
                {
                    'by_domain': {domain: pool_errors(parts) for domain, parts in domains.items()},
                    'by_shard': shards,
                    'units': {'energy': 'meV/atom', 'force': 'meV/Å', 'virial': 'meV/atom'},
                }
            ),
        )
        return None
