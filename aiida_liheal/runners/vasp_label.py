"""Run VASP for every frame of a batch: one after another or several side by side, within the walltime.

Stand-alone: any Python from 3.6 on will do, nothing needs to be installed. In the working folder it reads `batch.json`

- `command`: what starts VASP for one frame, as a list of arguments; no shell sees it;
- `incar`: the INCAR of all frames;
- `frames`: for each one its `name`, `fingerprint`, `poscar`, `kpoints`, the files of which its POTCAR is put together
  (`potcar`, names of files in the working folder) and what it costs beside the others (`cost`), the costly ones first;
- `frames_at_once`, `walltime_s` (or null), `margin_s` (kept free before the walltime), `max_frame_s` (or null).

Each frame runs in a folder of its own. When it has ended, its vasprun.xml and OUTCAR are packed into `done/`, then its
record is put beside them (`done/<name>.json`), and its folder is removed: a frame with a record is finished, and a
killed job keeps what it finished. A record of an earlier job in the same folder counts if its fingerprint is the
frame's and VASP came to its end; what failed is tried again, after the others; a record with another fingerprint is
removed before anything else. `status.json` says how it ended.

Usage: python3 vasp_label.py
"""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional

#: VASP came to its end, or it did not.
ENDED, FAILED = 'ended', 'failed'
#: What VASP writes last, at the end of its OUTCAR.
LAST_WORDS = b'General timing and accounting'
#: What of each run is kept.
KEPT = ('vasprun.xml', 'OUTCAR')
#: Time in s between a request to stop and the kill.
GRACE_S = 5.0
#: Longest time in s between two looks at what runs.
LOOK_EVERY_S = 0.25


class Run:
    """VASP at work on one frame."""

    def __init__(self, frame: Dict[str, Any], folder: str, process: Any) -> None:
        self.frame = frame
        self.folder = folder
        self.process = process
        self.begin = time.time()
        self.too_long = False

    def stop(self, signum: int) -> None:
        """Send a signal to VASP and everything that it started."""
        try:
            os.killpg(self.process.pid, signum)
        except ProcessLookupError:
            pass


class Batch:
    """The frames of one job."""

    def __init__(self) -> None:
        self.begin = time.time()
        with open('batch.json', encoding='utf-8') as handle:
            self.plan = json.load(handle)  # type: Dict[str, Any]
        self.records = {}  # type: Dict[str, Dict[str, Any]]
        self.n_taken_over = 0
        self.failed_before = []  # type: List[str]
        self.runs = []  # type: List[Run]
        self.stopped_by = None  # type: Optional[str]
        self.error = None  # type: Optional[str]
        self.vasp_starts = False
        self.seconds_per_cost = 0.0
        if not os.path.isdir('done'):
            os.mkdir('done')

    def seconds_left(self) -> float:
        """Time until the job should be over."""
        walltime = self.plan['walltime_s']
        if walltime is None:
            return float('inf')
        return float(walltime - self.plan['margin_s'] - (time.time() - self.begin))

    def take_over(self) -> None:
        """Take over what an earlier job finished of the same frames; remove what is of others."""
        known = {}
        for frame in self.plan['frames']:
            try:
                with open(os.path.join('done', frame['name'] + '.json'), encoding='utf-8') as handle:
                    record = json.load(handle)
                if record['fingerprint'] == frame['fingerprint']:
                    known[frame['name']] = (frame, record)
            except (OSError, ValueError, KeyError):
                continue  # none, or none that is whole: the frame is not done
        for name in os.listdir('done'):
            if name.split('.')[0] not in known:
                os.remove(os.path.join('done', name))
        for name, (frame, record) in known.items():
            if record['state'] == ENDED:
                self.records[name] = record
                self.learn_pace(frame, record['seconds'])
            else:
                self.failed_before.append(name)
        self.n_taken_over = len(self.records)
        if self.records:
            print('%d of %d frames were done before' % (len(self.records), len(self.plan['frames'])), flush=True)

    def learn_pace(self, frame: Dict[str, Any], seconds: float) -> None:
        """Keep how slow the slowest frame was for what it costs."""
        self.seconds_per_cost = max(self.seconds_per_cost, seconds / frame['cost'])

    def next_to_start(self, waiting: List[Dict[str, Any]], is_first: bool) -> Optional[Dict[str, Any]]:
        """The first frame that will come to its end in the time left; what would not is left to the next job.

        A job that has done nothing yet tries at least the cheapest: else it would go on like that for ever.
        """
        left = self.seconds_left()
        cheapest = min(waiting, key=lambda frame: float(frame['cost'])) if waiting and is_first else None
        return next((frame for frame in waiting if self.seconds_per_cost * frame['cost'] <= left), cheapest)

    def start(self, frame: Dict[str, Any]) -> None:
        """Write the files of a frame and start VASP; that it does not start is the error of the batch."""
        folder = os.path.join('frames', frame['name'])
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        for suffix in ('.json', *('.' + name + '.gz' for name in KEPT)):
            path = os.path.join('done', frame['name'] + suffix)
            if os.path.exists(path):
                os.remove(path)
        for name, text in (('POSCAR', frame['poscar']), ('KPOINTS', frame['kpoints']), ('INCAR', self.plan['incar'])):
            with open(os.path.join(folder, name), 'w', encoding='utf-8') as handle:
                handle.write(text)
        with open(os.path.join(folder, 'POTCAR'), 'wb') as potcar:
            for name in frame['potcar']:
                with open(name, 'rb') as part:
                    shutil.copyfileobj(part, potcar)
        with open(os.path.join(folder, 'vasp.out'), 'wb') as output:
            try:
                process = subprocess.Popen(
                    self.plan['command'],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                self.error = '%s: %s' % (self.plan['command'][0], error)
                return
        self.runs.append(Run(frame, folder, process))

    def finish(self, run: Run, status: int) -> None:
        """Pack what a frame left, write its record, remove its folder."""
        outcar = os.path.join(run.folder, 'OUTCAR')
        has_outcar = os.path.isfile(outcar) and os.path.getsize(outcar) > 0
        self.vasp_starts = self.vasp_starts or has_outcar
        state = ENDED if has_outcar and LAST_WORDS in tail(outcar) else FAILED
        seconds = time.time() - run.begin
        if run.too_long:
            cause = 'it was stopped after %.0f s (max_frame_s)' % seconds
        elif status < 0:
            cause = 'VASP was ended by signal %d' % -status
        else:
            cause = 'VASP ended with status %d' % status
        said = last_line(os.path.join(run.folder, 'vasp.out'))
        name = run.frame['name']
        for kept in KEPT:
            path = os.path.join(run.folder, kept)
            if os.path.isfile(path):
                packed = os.path.join('done', name + '.' + kept + '.gz')
                with open(path, 'rb') as source, gzip.open(packed, 'wb', compresslevel=1) as target:
                    shutil.copyfileobj(source, target)
        record = {
            'fingerprint': run.frame['fingerprint'],
            'state': state,
            'status': status,
            'cause': '' if state == ENDED else cause + (': ' + said if said else ''),
            'seconds': seconds,
        }
        write_json(os.path.join('done', name + '.json'), record)
        shutil.rmtree(run.folder, ignore_errors=True)
        if len(self.records) == self.n_taken_over:
            self.seconds_per_cost = 0.0  # what it was in another job, perhaps on another machine
        self.records[name] = record
        self.learn_pace(run.frame, seconds)
        n_done, n_all = len(self.records), len(self.plan['frames'])
        print('%d/%d frame %s: %s %s (%.1f s)' % (n_done, n_all, name, state, record['cause'], seconds), flush=True)
        if not self.vasp_starts:
            self.error = 'the first frame left no OUTCAR; %s' % (record['cause'] or cause)

    def look(self) -> None:
        """Finish what has ended, and stop what takes too long."""
        for run in list(self.runs):
            status = run.process.poll()
            if status is not None:
                # a signal to the whole job may reach VASP first: that frame is then not done, not failed
                if status != 0 and not run.too_long and self.stopped_by is None:
                    time.sleep(LOOK_EVERY_S)
                if self.stopped_by is not None:
                    return
                self.runs.remove(run)
                run.stop(signal.SIGKILL)  # ranks that a dead mpirun left behind
                self.finish(run, status)
            elif self.plan['max_frame_s'] is not None and time.time() - run.begin > self.plan['max_frame_s']:
                run.too_long = True
                run.stop(signal.SIGKILL)

    def work(self) -> None:
        """Run what is not done yet, as long as there is time."""
        waiting = [frame for frame in self.plan['frames'] if frame['name'] not in self.records]
        # the costly ones stay first, but what failed before does not keep the others waiting again
        waiting.sort(key=lambda frame: frame['name'] in self.failed_before)
        pause = 0.01
        while (waiting or self.runs) and self.stopped_by is None and self.error is None:
            n_before = len(self.records)
            while self.error is None and len(self.runs) < self.plan['frames_at_once']:
                frame = self.next_to_start(waiting, not self.runs and len(self.records) == self.n_taken_over)
                if frame is None:
                    break
                waiting.remove(frame)
                self.start(frame)
            if self.seconds_left() <= 0 or (waiting and not self.runs and self.error is None):
                self.stopped_by = 'walltime'
                break
            time.sleep(pause)
            self.look()
            pause = 0.01 if len(self.records) > n_before else min(2 * pause, LOOK_EVERY_S)

    def stop_all(self) -> None:
        """End what still runs; it is not done, and its folder goes."""
        for run in self.runs:
            run.stop(signal.SIGTERM)
        until = time.time() + GRACE_S
        while time.time() < until and any(run.process.poll() is None for run in self.runs):
            time.sleep(0.05)
        for run in self.runs:
            run.stop(signal.SIGKILL)
            run.process.wait()
            shutil.rmtree(run.folder, ignore_errors=True)
        del self.runs[:]

    def ask_to_stop(self, signum: int, _: Any) -> None:
        """Stop at the next look: the scheduler (SIGTERM) or a person (Ctrl-C) asks for it."""
        self.stopped_by = 'signal %d' % signum

    def write_status(self) -> None:
        """Say how it stands."""
        write_json(
            'status.json',
            {
                'complete': self.error is None and len(self.records) == len(self.plan['frames']),
                'error': self.error,
                'stopped_by': self.stopped_by,
                'n_done': len(self.records),
                'wall_s': time.time() - self.begin,
                'python': '.'.join(str(part) for part in sys.version_info[:3]),
            },
        )


def tail(path: str, length: int = 8192) -> bytes:
    """The last bytes of a file."""
    with open(path, 'rb') as handle:
        handle.seek(max(0, os.path.getsize(path) - length))
        return handle.read()


def last_line(path: str) -> str:
    """The last line with a word in it that VASP or what started it printed, its frame of bars taken off."""
    lines = tail(path).decode('utf-8', 'replace').splitlines()
    words = [line.strip(' |\t') for line in lines]
    return next((line[:200] for line in reversed(words) if any(c.isalpha() for c in line)), '')


def write_json(path: str, content: Dict[str, Any]) -> None:
    """Write a file under another name and move it into place: it is there whole or not at all."""
    with open(path + '.part', 'w', encoding='utf-8') as handle:
        json.dump(content, handle, indent=1)
    os.replace(path + '.part', path)


def main() -> int:
    """Work on the batch in this folder; 0 if every frame was tried, 1 if VASP does not start, 2 if time ran out."""
    batch = Batch()
    # a handler that raised could do so anywhere; so it sets a flag
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, batch.ask_to_stop)
    batch.take_over()
    batch.write_status()
    try:
        batch.work()
    finally:
        batch.stop_all()
        batch.write_status()
    print('%d of %d frames done' % (len(batch.records), len(batch.plan['frames'])), flush=True)
    if batch.error is not None:
        print(batch.error, file=sys.stderr, flush=True)
        return 1
    return 0 if batch.stopped_by is None else 2


if __name__ == '__main__':
    sys.exit(main())
