"""`aiida-liheal quickstart`: the whole chain in a small size, from labels to a page, with a profile of its own."""

from __future__ import annotations

import fcntl
import hashlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.params import options, types
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import content_hash, fail, stored_twin

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode
    from rich.console import Console

__all__ = ('quickstart',)

#: Name of the profile in the quickstart's own configuration.
PROFILE = 'quickstart'
#: What is taken from the cache: the jobs. Work chains run again, and take seconds.
CACHED = 'aiida.calculations:liheal.*'
#: Extra of a root that tells its inputs.
FINGERPRINT = 'liheal_quickstart'
#: Longest times in s for the daemon to start, and for a process to be killed.
DAEMON_TIMEOUT, KILL_TIMEOUT = 120, 90
_LOOK_EVERY_S = 2.0


class Interrupted(BaseException):
    """The user, or the system, asks to stop. No `Exception`: nothing that mends errors may swallow it."""


class Signals:
    """Requests to stop: raised at once, or kept back while something must not be cut in half."""

    def __init__(self) -> None:
        self._held = 0
        self._pending = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # what is ignored already, as by `nohup`, stays ignored
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, *_: Any) -> None:
        if self._held:
            self._pending = True
        else:
            raise Interrupted

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep requests back until the end of the block."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._pending and not self._held:
            self._pending = False
            raise Interrupted

    def ignore(self) -> None:
        """From now on nothing interrupts: what is left to do is to stop."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)


@click.command('quickstart')
@click.option(
    '-w',
    '--workdir',
    type=click.Path(file_okay=False, path_type=Path),
    default=Path('quickstart'),
    show_default=True,
    help='Folder for the profile, the page and the archive.',
)
@options.PROFILE(
    type=types.ProfileParamType(load_profile=True),
    default=None,
    expose_value=False,
    help='A profile of yours to run in. If not given, the quickstart keeps its own in WORKDIR/.aiida.',
)
@click.option('--protocol', default='fast', show_default=True, help='fast, or tiny for a test of the chain.')
@click.option('--seed', type=click.IntRange(min=0), default=2022, show_default=True, help='Of everything random.')
def quickstart(workdir: Path, protocol: str, seed: int) -> None:
    """Run the whole chain in a small size: labels, training, active learning, deposition, healing, report.

    It makes its own AiiDA profile and never touches another one. Ctrl-C stops everything; the next call goes on from
    the jobs that were finished.
    """
    from rich.console import Console

    workdir = workdir.expanduser().absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / '.lock').open('w') as lock, Signals() as signals:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            fail(f'another quickstart is at work in {workdir}; wait for it, or choose another --workdir')
        try:
            # a log has no width: lines need not be folded there
            console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
            root = _Run(workdir, signals, console).run(protocol, seed)
        except Interrupted:
            echo.echo_report(
                'stopped; nothing is left running. The next call goes on from the jobs that were finished.'
            )
            sys.exit(130)
    if not root.is_finished_ok:
        fail(
            f'{root.process_label}<{root.pk}> ended with exit code {root.exit_status}: '
            f'{root.exit_message or root.process_state.value}'
        )


class _Run:
    """One call of the quickstart."""

    def __init__(self, workdir: Path, signals: Signals, console: Console) -> None:
        from aiida.manage import get_profile

        self.workdir = workdir
        self.signals = signals
        self.console = console
        self.is_own = get_profile() is None
        self.root: Any = None
        self.started_daemon = False

    def run(self, protocol: str, seed: int) -> Any:
        """From an empty folder to the page and the archive; whatever happens, nothing stays running."""
        began = time.monotonic()
        try:
            with self.signals.held():
                self._load_profile()
            builder = self._builder(self._set_up(), protocol, seed)
            print_ = fingerprint(builder)
            self.root = self._earlier(print_)
            if self.root is not None and self.root.is_terminated:
                echo.echo_report(
                    f'the same quickstart was run before: taking {self.root.process_label}<{self.root.pk}> of '
                    f'{self.root.ctime.astimezone():%Y-%m-%d %H:%M}'
                )
            else:
                self._start_daemon()
                self._end_others()
                self._submit(builder, print_)
                self._follow(builder)
            self._stop()
        except Interrupted:
            self.signals.ignore()
            echo.echo_report('stopping …')
            self._stop()
            raise
        except BaseException:
            self.signals.ignore()
            self._stop()
            raise
        self._tell(began)
        return self.root

    def _load_profile(self) -> None:
        """Load the quickstart's own profile, made if it is not there, unless the user gave one."""
        from aiida.manage import get_config, get_profile, load_profile
        from aiida.manage.configuration import create_profile
        from aiida.plugins import BrokerFactory

        config = get_config(create=True)
        if self.is_own:
            if PROFILE not in config.profile_names:
                echo.echo_report(f'making the profile {PROFILE!r} in {config.dirpath}')
                create_profile(
                    config,
                    name=PROFILE,
                    email='quickstart@localhost',
                    storage_backend='core.sqlite_dos',
                    storage_config={},
                    broker_backend='core.zeromq',
                    broker_config=BrokerFactory('core.zeromq').get_default_config(),
                )
                config.set_option('runner.poll.interval', 1, scope=PROFILE)
                config.set_default_profile(PROFILE, overwrite=True)
                config.store()
            load_profile(PROFILE, allow_switch=True)
        profile = get_profile()
        assert profile is not None  # noqa: S101 (it was just loaded)
        enabled = config.get_option('caching.enabled_for', scope=profile.name) or []
        if CACHED not in enabled:
            config.set_option('caching.enabled_for', [*enabled, CACHED], scope=profile.name)
            config.store()

    def _set_up(self) -> dict[str, Any]:
        """The codes of this machine."""
        from aiida.orm import load_code

        from aiida_liheal.cli.setup import CODES, SetupError, prepare

        # of a clone that was moved the executables are elsewhere now
        try:
            lines = prepare({'gpaw': Path(sys.executable), 'python': Path(sys.executable)}, replace=self.is_own)
        except SetupError as error:
            fail(str(error))
        for line in lines:
            echo.echo_report(line)
        return {name: load_code(f'{name}@localhost') for name in CODES}

    def _builder(self, codes: dict[str, Any], protocol: str, seed: int) -> ProcessBuilder:
        """The checked inputs of the root, with the shipped committee to start from."""
        from aiida_liheal.cli.verbs import check_builder
        from aiida_liheal.data.builtin import builtin_committee
        from aiida_liheal.workchains.quickstart import QuickstartWorkChain

        committee = {}
        for name, node in builtin_committee().items():
            twin = stored_twin(node)
            committee[name] = twin if twin.is_stored else twin.store()
        try:
            builder = QuickstartWorkChain.get_builder_from_protocol(codes, committee, seed=seed, protocol=protocol)
        except ValueError as error:
            fail(str(error))
        check_builder(builder)
        return builder

    def _earlier(self, print_: str) -> Any:
        """A root with the same inputs that finished well, or one that is still at work; None if there is neither."""
        from aiida.orm import QueryBuilder, WorkChainNode

        query = QueryBuilder().append(WorkChainNode, filters={f'extras.{FINGERPRINT}': print_})
        roots = query.order_by({WorkChainNode: {'id': 'desc'}}).all(flat=True)
        return next((root for root in roots if root.is_finished_ok), None) or next(
            (root for root in roots if not root.is_terminated), None
        )

    def _start_daemon(self) -> None:
        """Start the daemon with one worker, unless it is running."""
        from aiida.engine.daemon.client import DaemonException, get_daemon_client
        from aiida.manage import get_manager

        client = get_daemon_client()
        if client.is_daemon_running:
            return
        echo.echo_report('starting the daemon')
        # from here on it is stopped in the end, also if the start is broken off
        self.started_daemon = True
        with self.signals.held():
            try:
                client.start_daemon(number_workers=1, timeout=DAEMON_TIMEOUT)
            except DaemonException as error:
                fail(f'the daemon does not start: {error}')
        # the broker starts with it, and on a machine that is busy takes longer than AiiDA waits
        until = time.monotonic() + DAEMON_TIMEOUT
        while True:
            try:
                get_manager().get_communicator()
                return
            except ConnectionError as error:
                if time.monotonic() > until:
                    fail(f'the message broker does not start: {error}')

    def _end_others(self) -> None:
        """In the quickstart's own profile, kill what calls with other settings left behind when they were cut off."""
        from aiida.engine.processes.control import get_active_processes, kill_processes

        if not self.is_own:
            return
        others: list[Any] = [
            node
            for node in get_active_processes()
            if node.caller is None and (self.root is None or node.pk != self.root.pk)
        ]
        if others:
            echo.echo_report(f'ending what an earlier call left behind: {", ".join(str(node.pk) for node in others)}')
            kill_processes(others, msg_text='left behind by an earlier quickstart', timeout=KILL_TIMEOUT)

    def _submit(self, builder: ProcessBuilder, print_: str) -> None:
        """Submit the root; one that is still at work, left behind by a call that was cut off, goes on."""
        from aiida.engine import submit

        if self.root is not None:
            echo.echo_report(
                f'going on with {self.root.process_label}<{self.root.pk}>, which a call before left behind'
            )
            return
        with self.signals.held():
            self.root = submit(builder)
            self.root.base.extras.set(FINGERPRINT, print_)
        echo.echo_report(
            f'submitted {self.root.process_label}<{self.root.pk}>; jobs that an earlier call finished are not run again'
        )

    def _follow(self, builder: Any) -> None:
        """Show how far it is until it is over."""
        from aiida_liheal.cli.watch import Watcher, screen

        watcher = Watcher(self.root.pk, builder.learn.n_rounds.value)
        with screen(self.console) as display:
            while True:
                display.show(watcher.look())
                if self.root.is_terminated:
                    break
                time.sleep(_LOOK_EVERY_S)
            display.show(watcher.look())

    def _stop(self) -> None:
        """Kill what is at work, and stop the daemon that this call started; then look whether jobs stayed behind."""
        from aiida.common.log import override_log_level
        from aiida.engine.daemon.client import DaemonException, get_daemon_client
        from aiida.engine.processes.control import kill_processes
        from aiida.manage import get_profile

        if get_profile() is None:
            return
        client = get_daemon_client()
        active = self.root is not None and not self.root.is_terminated
        if active and client.is_daemon_running:
            until = time.monotonic() + KILL_TIMEOUT
            while not self.root.is_terminated and time.monotonic() < until:
                # a worker that is busy does not answer at once: it is asked again
                with override_log_level():
                    kill_processes([self.root], msg_text='stopped by the user', timeout=15)
                again = time.monotonic() + 10
                while not self.root.is_terminated and time.monotonic() < again:
                    time.sleep(0.5)
        if self.started_daemon or self.is_own:
            until = time.monotonic() + DAEMON_TIMEOUT
            while client.is_daemon_running and time.monotonic() < until:
                try:
                    client.stop_daemon(wait=True, timeout=DAEMON_TIMEOUT)
                except DaemonException as error:
                    echo.echo_warning(f'the daemon does not stop: {error}')
                time.sleep(0.5)
        if self.root is not None and active:
            for pid in end_jobs(self.root):
                echo.echo_report(f'ended process {pid} of a job')

    def _tell(self, began: float) -> None:
        """The page, the archive, the short table, and where they are."""
        from rich.table import Table

        from aiida_liheal.cli.archive import ArchiveError, make_archive
        from aiida_liheal.report.facts import conclusions, duration, facts
        from aiida_liheal.report.page import write_page
        from aiida_liheal.report.tree import read_tree

        page, archive = self.workdir / 'page.html', self.workdir / 'quickstart.aiida'
        echo.echo_report('writing the page and the archive')
        write_page(self.root, page)
        try:
            make_archive([self.root], archive)
        except ArchiveError as error:
            fail(str(error))
        tree = read_tree(self.root)
        table = Table('stage', 'quantity', 'value', 'remark', box=None, pad_edge=False)
        before = ''
        for fact in facts(tree):
            table.add_row(fact.stage if fact.stage != before else '', fact.name, fact.value, fact.remark)
            before = fact.stage
        self.console.print()
        self.console.print(table)
        self.console.print()
        for sentence in conclusions(tree):
            echo.echo_report(sentence)
        rows = [('page', str(page)), ('archive', str(archive))]
        if self.is_own:
            rows.append(('look closer with', f'AIIDA_PATH={self.workdir} verdi process show {self.root.pk}'))
        for name, value in rows:
            self.console.print(f'{name:17s}{value}', soft_wrap=True)
        (echo.echo_success if self.root.is_finished_ok else echo.echo_warning)(
            f'over after {duration(time.monotonic() - began)}'
        )


def fingerprint(builder: Any) -> str:
    """A hash of all inputs of a root and of the package's version."""
    from aiida.orm import Node

    from aiida_liheal import __version__

    def walk(values: Any, path: str) -> Iterator[tuple[str, str]]:
        for key, value in values.items():
            if isinstance(value, Node):
                yield f'{path}.{key}', content_hash(value)
            elif hasattr(value, 'items') and key != 'metadata':
                yield from walk(value, f'{path}.{key}')

    content = [__version__, builder.process_class.__name__, *sorted(walk(builder._inputs(prune=True), ''))]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def end_jobs(root: ProcessNode) -> list[int]:
    """End processes that still work in the folders of a root's jobs on this machine; their ids.

    A job that its scheduler could not kill, or whose daemon was gone, is found by where it works.
    """
    import psutil
    from aiida.orm import CalcJobNode

    folders = [
        Path(folder).resolve()
        for node in root.called_descendants
        if isinstance(node, CalcJobNode) and node.computer is not None and node.computer.transport_type == 'core.local'
        if (folder := node.get_remote_workdir())
    ]
    found = []
    for process in psutil.process_iter():
        try:
            # a job has no terminal; somebody's shell in its folder has one, and is left alone
            if process.uids().real != psutil.Process().uids().real or process.terminal() is not None:
                continue
            cwd = Path(process.cwd())
        except (psutil.Error, OSError):
            continue
        if process.pid != psutil.Process().pid and any(cwd == folder or folder in cwd.parents for folder in folders):
            found.append(process)
    for process in found:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(found, timeout=10)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=10)
    return [process.pid for process in found]
