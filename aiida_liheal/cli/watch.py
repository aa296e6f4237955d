"""Looking on while the quickstart works: stages with done and total, as a live table or as plain lines."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiida.common.links import LinkType
from aiida.orm import CalcJobNode, ProcessNode, QueryBuilder
from rich.console import Console
from rich.live import Live
from rich.table import Table

from aiida_liheal.cli.progress import Progress, job_progress, job_total, label_jobs
from aiida_liheal.report.facts import duration

__all__ = ('LiveScreen', 'PlainScreen', 'Stage', 'Watcher', 'screen')

#: Jobs whose units are counted for each kind of stage but `label`, where it is those of the engines; others, such as an
#: analysis, only add to its time.
_COUNTED = {
    'train': 'DpTrainCalculation',
    'explore': 'LammpsCalculation',
    'deposit': 'LammpsCalculation',
    'heal': 'LammpsCalculation',
}
#: Verbs whose inputs tell how much there is to do.
_VERBS = ('LabelWorkChain', 'TrainWorkChain')
_LINK = re.compile(r'(label|train|explore)_(\d+)(?:_\w+)?')
#: Time in s between two lines on the same stage where there is no terminal.
_EVERY_S = 30.0


@dataclass
class Stage:
    """One stage of the quickstart.

    Parameters
    ----------
    name : str
        What is shown.
    kind : str
        `label`, `train`, `explore`, `deposit` or `heal`.
    state : str
        `to come`, `running`, `done`, `failed` or `not needed`.
    done, total : int
        In `unit`; the total is 0 as long as it is not known.
    began, ended : datetime, optional
        When.
    """

    name: str
    kind: str
    state: str = 'to come'
    done: int = 0
    total: int = 0
    unit: str = ''
    cached: int = 0
    began: datetime | None = None
    ended: datetime | None = None

    @property
    def seconds(self) -> float | None:
        """From its beginning to its end, or to now."""
        if self.began is None:
            return None
        return ((self.ended or datetime.now().astimezone()) - self.began).total_seconds()

    @property
    def count(self) -> str:
        """Done and total as text."""
        return f'{self.done}/{self.total} {self.unit}' if self.total else ''


@dataclass
class _Row:
    """What is known of one process of the tree."""

    pk: int
    label: str
    link: str
    stage: str | None
    parent: int | None
    state: str = ''
    exit_status: int | None = None
    began: datetime | None = None
    changed: datetime | None = None
    total: Progress | None = None
    is_cached: bool = False


@dataclass
class Watcher:
    """Follows one process with few questions to the database: one a look, and one for each process when it appears."""

    root: int
    n_rounds: int
    _rows: dict[int, _Row] = field(default_factory=dict)
    _strangers: set[int] = field(default_factory=set)

    def look(self) -> list[Stage]:
        """The stages as they are now."""
        from aiida.manage import get_manager

        storage: Any = get_manager().get_profile_storage()
        # what the daemon wrote since the last look is seen outside of the last transaction only
        storage.get_session().commit()
        query = QueryBuilder().append(
            ProcessNode,
            filters={'id': {'>=': self.root}},
            project=[
                'id',
                'attributes.process_label',
                'attributes.process_state',
                'attributes.exit_status',
                'ctime',
                'mtime',
            ],
        )
        for pk, label, state, exit_status, began, changed in query.order_by({ProcessNode: {'id': 'asc'}}).all():
            row = self._rows.get(pk) or self._meet(pk, label or '')
            if row is not None:
                row.state, row.exit_status, row.began, row.changed = state or '', exit_status, began, changed
        return self._stages()

    def _meet(self, pk: int, label: str) -> _Row | None:
        """Find the place of a process that is new; None if it belongs to something else."""
        if pk in self._strangers:
            return None
        if pk == self.root:
            self._rows[pk] = _Row(pk, label, '', None, None)
            return self._rows[pk]
        node = QueryBuilder().append(ProcessNode, filters={'id': pk}).one()[0]
        entry = node.base.links.get_incoming(link_type=(LinkType.CALL_CALC, LinkType.CALL_WORK)).first()
        parent = self._rows.get(entry.node.pk or 0) if entry is not None else None
        if entry is None or parent is None:
            self._strangers.add(pk)
            return None
        match = _LINK.fullmatch(entry.link_label)
        stage = parent.stage
        if stage is None and match is not None:
            stage = _stage_name(match[1], int(match[2]))
        elif stage is None and entry.link_label in ('deposit', 'heal'):
            stage = entry.link_label
        row = _Row(
            pk, label, entry.link_label, stage, parent.pk, is_cached=bool(node.base.caching.is_created_from_cache)
        )
        row.total = job_total(node) if isinstance(node, CalcJobNode) else _verb_total(node)
        self._rows[pk] = row
        return row

    def _stages(self) -> list[Stage]:
        stages: dict[str, Stage] = {}
        for number in range(self.n_rounds):
            for kind in ('label', 'train', 'explore'):
                stages[_stage_name(kind, number)] = Stage(_stage_name(kind, number), kind)
        for kind in ('deposit', 'heal'):
            stages[kind] = Stage(kind, kind)
        for row in self._rows.values():
            if row.stage is not None and row.stage in stages:
                self._add(stages[row.stage], row)
        self._count(stages)
        root = self._rows.get(self.root)
        over = root is not None and _is_over(root.state)
        simulating = any(stages[kind].began is not None for kind in ('deposit', 'heal'))
        for stage in stages.values():
            if stage.state == 'to come' and (over or (simulating and stage.kind not in ('deposit', 'heal'))):
                stage.state = 'not needed' if root is not None and not root.exit_status else 'not reached'
        return list(stages.values())

    def _add(self, stage: Stage, row: _Row) -> None:
        """Add what one process tells of a stage."""
        if row.began is not None and (stage.began is None or row.began < stage.began):
            stage.began = row.began
        parent = self._rows.get(row.parent or 0)
        if parent is not None and parent.stage is None:
            # the verb itself; there may be several, such as a label work chain a system
            failed = row.state in ('excepted', 'killed') or (row.state == 'finished' and row.exit_status)
            if failed:
                stage.state = 'failed'
            elif not _is_over(row.state):
                stage.state = 'running' if stage.state != 'failed' else stage.state
            elif stage.state == 'to come':
                stage.state = 'done'
            if _is_over(row.state) and row.changed is not None:
                stage.ended = max(stage.ended, row.changed) if stage.ended else row.changed
            if stage.state == 'running':
                stage.ended = None

    def _count(self, stages: dict[str, Stage]) -> None:
        """Add up what is done; jobs that go on with one another count once."""
        done: dict[tuple[str, int | None, str], int] = {}
        wanted: dict[tuple[str, int | None, str], int] = {}
        for row in self._rows.values():
            if row.stage not in stages or row.total is None:
                continue
            stage = stages[row.stage]
            if row.label in _VERBS:
                stage.total += row.total.total
                stage.unit = row.total.unit
            elif row.label in (label_jobs() if stage.kind == 'label' else (_COUNTED[stage.kind],)):
                stage.unit = row.total.unit
                stage.cached += row.is_cached
                key = (row.stage, row.parent, '' if row.link.startswith('iteration_') else row.link)
                done[key] = max(done.get(key, 0), self._done(row))
                wanted[key] = row.total.total
        for key, number in done.items():
            stages[key[0]].done += number
        for name, stage in stages.items():
            stage.total = stage.total or sum(total for key, total in wanted.items() if key[0] == name)
            stage.done = min(stage.done, stage.total)

    def _done(self, row: _Row) -> int:
        """How much one job has done: all of it if it ended well, else what its files say."""
        assert row.total is not None  # noqa: S101 (the caller looked)
        if row.state == 'finished' and not row.exit_status:
            return row.total.total
        progress = job_progress(QueryBuilder().append(CalcJobNode, filters={'id': row.pk}).one()[0])
        return progress.done if progress is not None else 0


def _verb_total(node: Any) -> Progress | None:
    """What a verb has to do in all its jobs, where its inputs tell before the jobs are there."""
    match node.process_label:
        case 'LabelWorkChain':
            return Progress(0, len(node.inputs.frames), 'frames')
        case 'TrainWorkChain':
            return Progress(0, node.inputs.n_members.value * node.inputs.settings.get_dict()['n_steps'], 'steps')
        case _:
            return None


def _is_over(state: str) -> bool:
    return state in ('finished', 'excepted', 'killed')


def _stage_name(kind: str, number: int) -> str:
    return f'{kind}, round {number + 1}'


class LiveScreen:
    """A table that is drawn again and again."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=2, transient=False)
        self._start = time.monotonic()

    def __enter__(self) -> LiveScreen:
        self._live.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self._live.__exit__(*details)

    def show(self, stages: list[Stage]) -> None:
        """Draw the stages."""
        from rich.progress_bar import ProgressBar

        table = Table(box=None, pad_edge=False, title_justify='left')
        for name in ('stage', '', 'done', 'time', ''):
            table.add_column(name, justify='right' if name in ('done', 'time') else 'left', no_wrap=True)
        styles = {'running': 'bold', 'failed': 'red', 'done': 'green'}
        for stage in stages:
            bar = ProgressBar(total=max(stage.total, 1), completed=stage.done, width=24)
            remark = stage.state + (', from cache' if stage.cached else '')
            table.add_row(
                stage.name,
                bar if stage.began is not None else '',
                stage.count,
                duration(stage.seconds) if stage.seconds is not None else '',
                f'[{styles.get(stage.state, "dim")}]{remark}[/]',
            )
        table.add_row('all', '', '', duration(time.monotonic() - self._start), '')
        self._live.update(table)


class PlainScreen:
    """Lines for a log: when a stage begins, ends, and now and then between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()
        self._said: dict[str, tuple[str, str]] = {}
        self._when: dict[str, float] = {}

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(self, *details: Any) -> None:
        pass

    def show(self, stages: list[Stage]) -> None:
        """Write what is new."""
        now = time.monotonic()
        for stage in stages:
            state, count = self._said.get(stage.name, ('to come', ''))
            is_new = stage.state != state
            is_due = stage.count != count and now - self._when.get(stage.name, self._start) > _EVERY_S
            if not is_new and not (is_due and stage.state == 'running'):
                continue
            self._said[stage.name] = (stage.state, stage.count)
            self._when[stage.name] = now
            words = [stage.state, stage.count, 'from cache' if stage.cached else '']
            if stage.ended is not None:
                words.append(duration(stage.seconds))
            elapsed = f'{int(now - self._start) // 60:3d}:{int(now - self._start) % 60:02d}'
            self._console.print(f'{elapsed}  {stage.name}: ' + ', '.join(w for w in words if w), highlight=False)


@contextmanager
def screen(console: Console) -> Iterator[LiveScreen | PlainScreen]:
    """A live table on a terminal, plain lines elsewhere."""
    with LiveScreen(console) if console.is_terminal else PlainScreen(console) as chosen:
        yield chosen
