"""The base of work chains that run one job over and over until it is done."""

from __future__ import annotations

from typing import Any

from aiida.engine import BaseRestartWorkChain, ExitCode

__all__ = ('RestartWorkChain',)


class RestartWorkChain(BaseRestartWorkChain):
    """A `BaseRestartWorkChain` that ends with the exit code of its last job where nothing else can be done."""

    def inspect_process(self) -> Any:
        """Let the handlers look at the job; a failure that none of them knows is told in the job's own words.

        After a pause at `max_iterations` AiiDA counts its jobs from the first one again, but looks for the job of an
        iteration among all of them: those before the pause are put away.
        """
        result = super().inspect_process()
        if self.ctx.iteration == 0:
            self.ctx.children = []
        if result is not None and result == self.exit_codes.ERROR_UNHANDLED_FAILURE:
            job = self.ctx.children[-1]
            return ExitCode(job.exit_status, f'{job.process_label}<{job.pk}>: {job.exit_message}')
        return result

    def report_action(self, calculation: Any, action: str) -> None:
        """Say which failure was met and what is done about it."""
        self.report(f'{calculation.process_label}<{calculation.pk}>: {calculation.exit_message}; {action}')
