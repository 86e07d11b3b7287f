"""Cutting the photos of a plan: several at a time, reported on stderr, each file whole or absent."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bgclient._files import write_atomically, write_whole
from bgclient._many import ordered
from bgclient.cli._console import Status, Stop, say, status_of
from bgclient.cli._plan import Job, Plan
from bgclient.client import Client
from bgclient.errors import BgError, CallCancelled, InternalError, SourceError, TargetError
from bgclient.options import Where
from bgclient.results import Cutout

if TYPE_CHECKING:
    from bgimage.options import Options

LOOK = 0.8
"""Expected IoU below which a photo is named at the end of a run: one in seven of the test photos."""
SHOWN = 20
"""Of those, so that a long run's last lines can be read; the most doubtful come first."""

LOOK_EVERY_S = 1.0
"""Seconds between two looks into a watched folder."""


@dataclass(frozen=True)
class Done:
    """How one job ended."""

    job: Job
    cutout: Cutout | None = None
    error: BgError | None = None
    skipped: bool = False

    def to_json(self) -> str:
        """One line for machines."""
        target = None if self.job.target is None else str(self.job.target)
        fields: dict[str, Any] = {"photo": self.job.source, "output": target}
        if self.error is not None:
            fields |= {"status": "failed", "error": {"code": self.error.code, "message": str(self.error)}}
        elif self.cutout is not None:
            timings = {
                name: round(value, 1) if isinstance(value, float) else value
                for name, value in dataclasses.asdict(self.cutout.timings).items()
            }
            fields |= {
                "status": "cut",
                "box": self.cutout.box,
                "expected_iou": round(self.cutout.expected_iou, 4),
                "dropped": self.cutout.dropped,
                "looks": self.cutout.looks,
                "timings": timings,
            }
        else:
            fields["status"] = "skipped"
        return json.dumps(fields)


class JobRunner:
    """Cuts a job and writes its file; used by several threads at once."""

    def __init__(self, client: Client, where: Where, options: Options, *, force: bool, skip: bool) -> None:
        self._cut_photo = partial(client.cut, options=options, where=where)
        self._force = force
        self._skip = skip

    def __call__(self, job: Job) -> Done:
        """Cut one; never raises for what is wrong with one photo or one file."""
        if self._skip and not self._force and job.target is not None and job.target.exists():
            return Done(job, skipped=True)
        try:
            cutout = self._cut(job)
            data = cutout.encode()
            if job.target is None:
                write_whole(sys.stdout.buffer, data)
            else:
                job.target.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(job.target, data, overwrite=self._force)
            return Done(job, cutout)
        except BgError as error:
            return Done(job, error=error)
        except BrokenPipeError:
            raise
        except OSError as error:
            if isinstance(error, FileExistsError) and job.target is not None and job.target.exists():
                return Done(job, skipped=True)  # another run was faster
            return Done(job, error=TargetError.of(error.filename or job.target or "stdout", error))
        except Exception as error:  # one photo loses no other
            if os.environ.get("BGCLIENT_DEBUG"):
                traceback.print_exc()
            return Done(job, error=InternalError.of(error))

    def _cut(self, job: Job) -> Cutout:
        if job.source == "-":
            return self._cut_photo(sys.stdin.buffer)
        if not self._skip and stat.S_ISFIFO(_mode(job.source)):  # the one photo may come through a pipe
            with open(job.source, "rb") as pipe:
                return self._cut_photo(pipe)
        return self._cut_photo(job.source)


def _mode(source: str) -> int:
    try:
        return os.stat(source).st_mode
    except OSError:
        return 0


@dataclass
class RunSummary:
    """How a run went."""

    cut: int = 0
    empty: int = 0
    """Of those that were cut: photos in which no person was found."""
    skipped: int = 0
    doubtful: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    """Expected IoU and photo of cut-outs that should be checked (below ``LOOK``)."""
    failures: list[Done] = dataclasses.field(default_factory=list)
    stopped: bool = False
    gave_up: BgError | None = None
    """The server is gone, or nothing can be written: not the photos' fault, so the run ended."""

    def count(self, done: Done) -> None:
        """One more."""
        if done.error is not None:
            self.failures.append(done)
        elif done.skipped:
            self.skipped += 1
        else:
            self.cut += 1
            assert done.cutout is not None
            self.empty += done.cutout.box is None
            if done.cutout.box is not None and done.cutout.expected_iou < LOOK:
                self.doubtful.append((done.cutout.expected_iou, done.job.source))

    @property
    def status(self) -> Status:
        """How the command ends."""
        if self.stopped:
            return Status.STOPPED
        if self.gave_up is not None:
            return status_of(self.gave_up)
        return Status.FAILED if self.failures else Status.WELL


def run_many(
    client: Client,
    runner: JobRunner,
    planned: Plan,
    *,
    in_flight: int,
    as_json: bool,
    quiet: bool,
    command: str,
) -> RunSummary:
    """Cut every job; the first Ctrl-C finishes those in flight, the second cancels them."""
    summary = RunSummary()
    jobs = planned.jobs
    for error in planned.unreadable:
        said = SourceError(f"{error.strerror or error}; its photos are left out")
        summary.count(Done(Job(str(error.filename), None), error=said))
    began = time.monotonic()
    with (
        Stop("finishing the photos in flight; Ctrl-C again to drop them") as stop,
        _bar(len(jobs), quiet) as show,
    ):

        def offered() -> Iterator[Job]:
            for job in jobs:
                if stop.asked or summary.gave_up is not None:
                    return
                yield job

        def done(one: Done) -> None:
            hopeless = isinstance(one.error, TargetError) and one.error.hopeless
            if one.error is not None and (hopeless or status_of(one.error) is Status.NO_SERVER):
                summary.gave_up = summary.gave_up or one.error
                return
            if isinstance(one.error, CallCancelled):
                return
            summary.count(one)
            show(summary)
            if as_json:
                print(one.to_json(), flush=True)

        try:
            for _ in ordered(
                runner,
                offered(),
                in_flight=in_flight,
                on_done=done,
                on_stop=partial(_drop, stop, client),
            ):
                pass
        except KeyboardInterrupt:
            pass  # stop has said so, and the summary will
        summary.stopped = stop.asked
    _tell(summary, planned, time.monotonic() - began, command, quiet=quiet)
    return summary


def _drop(stop: Stop, client: Client) -> None:
    """Cancel what is in flight, if that was asked for."""
    if stop.insisted:
        client.close()


def _tell(summary: RunSummary, planned: Plan, seconds: float, command: str, *, quiet: bool) -> None:
    total = len(planned.jobs) + len(planned.unreadable)
    if not quiet:
        parts = [f"{summary.cut} cut"]
        if summary.empty:
            parts.append(f"no people found in {summary.empty} of them")
        if summary.skipped:
            parts.append(f"{summary.skipped} were there already (--force cuts them again)")
        if planned.left_out:
            parts.append(f"{planned.left_out} cut-outs next to their photos left out")
        if summary.failures:
            parts.append(f"{len(summary.failures)} failed")
        say(f"{', '.join(parts)}, {seconds:.1f} s; cut-outs are in {planned.target}")
        for expected, photo in sorted(summary.doubtful)[:SHOWN]:
            say(f"look at: {photo}: expected IoU {expected:.2f}")
        if len(summary.doubtful) > SHOWN:
            say(
                f"and at {len(summary.doubtful) - SHOWN} more below {LOOK:g}; --json has the figure of every photo"
            )
    for failure in summary.failures:
        assert failure.error is not None
        say(f"failed: {failure.job.source}: {failure.error.message()}")
    left = total - summary.cut - summary.skipped - len(summary.failures)
    if summary.gave_up is not None:
        say(f"bgclient: {summary.gave_up.message()}")
    if left and (summary.stopped or summary.gave_up is not None):
        say(f"{left} of {total} photos are left; the same command goes on from here:\n  {command}")


@contextmanager
def _bar(total: int, quiet: bool) -> Iterator[Callable[[RunSummary], None]]:
    """A progress bar on stderr, where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda summary: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, failed="")

        def show(summary: RunSummary) -> None:
            failed = len(summary.failures)
            progress.update(
                task,
                completed=summary.cut + summary.skipped + failed,
                failed=f"[red]{failed} failed" if failed else "",
            )

        yield show


def watch(
    client: Client,
    runner: JobRunner,
    list_jobs: Callable[[], Iterable[Job]],
    *,
    in_flight: int,
    as_json: bool,
) -> RunSummary:
    """Cut what lies in a folder and whatever comes into it, until Ctrl-C.

    A photo is cut once its size and time have not changed between two looks; one that failed, when it changes.
    """
    summary = RunSummary()
    seen: dict[str, tuple[int, int]] = {}
    finished: dict[str, tuple[int, int]] = {}
    pause = threading.Event()
    with Stop("finishing the photos in flight; Ctrl-C again to drop them") as stop:
        while not stop.asked:
            now = {job.source: (job, mark) for job in list_jobs() if (mark := _mark(job.source)) is not None}
            still = [
                job for source, (job, mark) in now.items() if seen.get(source) == mark != finished.get(source)
            ]
            seen = {source: mark for source, (_, mark) in now.items()}

            def done(one: Done) -> None:
                finished[one.job.source] = seen[one.job.source]  # noqa: B023 - used before the next look
                if one.error is None:  # a file that was still being copied may have failed before
                    summary.failures = [f for f in summary.failures if f.job.source != one.job.source]
                summary.count(one)
                if one.error is not None:
                    say(f"failed: {one.job.source}: {one.error.message()}")
                if as_json:
                    print(one.to_json(), flush=True)
                elif one.cutout is not None:
                    say(f"{one.job.source} -> {one.job.target}")

            offered = (job for job in still if not stop.asked)
            for _ in ordered(
                runner,
                offered,
                in_flight=in_flight,
                on_done=done,
                on_stop=partial(_drop, stop, client),
            ):
                pass
            pause.wait(0 if stop.asked else LOOK_EVERY_S)
    return summary


def _mark(path: str) -> tuple[int, int] | None:
    """What changes when a file is written to; None where it is gone."""
    try:
        found = os.stat(path)
    except OSError:  # a link that leads nowhere is tried once, and said to fail
        return (-1, 0) if os.path.lexists(path) else None
    return found.st_size, found.st_mtime_ns
