"""Work on many numbers in processes that may die or hang, and end in time (floor 9).

Every process has a pipe of its own to this one, which gives it one number after the other: there is nothing that they could wait for together.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import monotonic
from typing import Any

# Every process computes by itself: libraries that would start a thread for each core leave that be. What the caller has set stays.
_VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "TILEWRIGHT_THREADS": "2",
    "TILEWRIGHT_CACHE": "0",  # no program comes twice
}
_END_SECONDS = 10.0  # a process in the middle of work on a GPU may take a while to go


class EndOfProcess(Exception):  # asks for something, like StopIteration
    """Raised by work to say that its process can do no more; another one goes on with the next number."""


class Loss(Enum):
    """Why a number has no result."""

    DIED = "the process died"
    HUNG = "the process was ended after the time limit of a number"


@dataclass(frozen=True)
class Lost:
    """A number whose process did not come back, and the exit code of the process where it has one."""

    loss: Loss
    exit_code: int | None = None


class _Message(Enum):
    RESULT = 0
    DONE = 1
    LAST = 2  # done, and the process ends
    DIED = 3  # what is read of a process that said nothing more


@dataclass(eq=False)
class _Worker:
    """One process.

    number        what it works on.
    has_answered  there is a result for the number.
    since         when it was given the number, or last gave a result.
    """

    process: BaseProcess
    pipe: Connection
    job: int
    number: int = -1
    has_answered: bool = False
    since: float = 0.0

    def receive(self) -> tuple[_Message, Any]:
        try:
            message: tuple[_Message, Any] = self.pipe.recv()
        except (EOFError, OSError):
            return _Message.DIED, None
        return message

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join(_END_SECONDS)


def spread(
    numbers: Iterable[int],
    jobs: int,
    work: Callable[[int, int], Iterable[Any]],
    *,
    time_limit_seconds: float | None = None,
    number_limit_seconds: float = 120.0,
) -> Iterator[tuple[int, Any]]:
    """What `work(job, number)` gives for each number, in `jobs` processes, with its number, as it comes.

    work                  is pickled: a function of a module. It may give several results for a number, each better than the one before; `job` is below `jobs`.
    time_limit_seconds    when all ends: numbers that have no result by then have none, and the processes are ended.
    number_limit_seconds  how long the first result of a number may take; ten times that each further one.

    A number whose process died, or took too long, before it gave a result has a Lost as its result.
    """
    deadline = monotonic() + (math.inf if time_limit_seconds is None else time_limit_seconds)
    waiting = iter(numbers)
    workers: list[_Worker] = []

    def give(worker: _Worker, *, is_ending: bool = False) -> None:
        """The next number to a worker, or to a fresh one for its job; where there is no number, it goes."""
        number = next(waiting, None)
        if number is None or is_ending:
            worker.end()
            workers.remove(worker)
        if number is not None:
            if is_ending:
                workers.append(worker := _start(work, worker.job))
            worker.number, worker.has_answered, worker.since = number, False, monotonic()
            with suppress(OSError):  # it died while it had nothing to do, which `wait` shows
                worker.pipe.send(number)

    try:
        workers += [_start(work, job) for job in range(jobs)]
        for worker in list(workers):
            give(worker)
        while workers and monotonic() < deadline:
            limits = [w.since + number_limit_seconds * (10 if w.has_answered else 1) for w in workers]
            pause_seconds = max(0.0, min(*limits, deadline) - monotonic())
            ready = wait([w.pipe for w in workers], pause_seconds)
            for worker, limit in zip(list(workers), limits, strict=True):
                number, has_answered = worker.number, worker.has_answered
                if worker.pipe in ready:
                    message, result = worker.receive()
                    if message is _Message.DONE:
                        give(worker)
                    elif message is _Message.RESULT:
                        worker.has_answered, worker.since = True, monotonic()
                        yield number, result
                    else:
                        give(worker, is_ending=True)
                        if message is _Message.DIED and not has_answered:
                            yield number, Lost(Loss.DIED, worker.process.exitcode)
                elif monotonic() > limit:
                    give(worker, is_ending=True)
                    if not has_answered:
                        yield number, Lost(Loss.HUNG)
    finally:
        for worker in workers:
            worker.process.kill()  # all of them before the first is waited for
        for worker in workers:
            worker.end()


def _start(work: Callable[[int, int], Iterable[Any]], job: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work, job), daemon=True)
    with _environment():
        process.start()
    theirs.close()
    return _Worker(process, ours, job)


def _serve(pipe: Connection, work: Callable[[int, int], Iterable[Any]], job: int) -> None:
    """What a process does."""
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            number = pipe.recv()
            try:
                for result in work(job, number):
                    pipe.send((_Message.RESULT, result))
            except EndOfProcess:
                pipe.send((_Message.LAST, None))
                return
            pipe.send((_Message.DONE, None))


@contextmanager
def _environment() -> Iterator[None]:
    """The variables that the processes inherit."""
    added = {name: value for name, value in _VARIABLES.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


__all__ = ["EndOfProcess", "Loss", "Lost", "spread"]
