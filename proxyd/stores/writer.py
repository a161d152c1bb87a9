"""The one thread that has the database, and the queue in front of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.core.changes import Change
from proxyd.errors import StoreError
from proxyd.stores.database import Database, Row, Work

# So many are committed together at most: their answers come in one turn of the reactor.
_JOBS_A_COMMIT = 500


@attrs.frozen(eq=False)
class Job:
    """Something to do, and who waits for it."""

    work: Work
    done: Deferred[list[Change]]


class Writer:
    """Does what is asked of it on a thread of its own, in order; what waits meanwhile shares the next commit.

    `told` is called with all changes on the thread of `reactor`, which has `callFromThread`, and has ended before they
    are answered and it is called again: also with those that nobody waits for any more.
    """

    _log = Logger()

    def __init__(self, path: Path, reactor: Any, told: Callable[[list[Change]], Awaitable[None]]) -> None:
        self._path = path
        self._reactor = reactor
        self._told = told
        self._jobs: deque[Job] = deque()
        self._done: deque[tuple[Job, list[Change] | StoreError]] = deque()
        self._is_delivering = False
        self._condition = threading.Condition()
        self._is_closing = False
        # A disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="proxyd-store", daemon=True)
        self._opened: Deferred[tuple[int, list[Row]]] = Deferred()

    def open(self) -> Deferred[tuple[int, list[Row]]]:
        """Begin; fires with the revision, and all that is stored."""
        self._thread.start()
        return self._opened

    def ask(self, work: Work) -> Deferred[list[Change]]:
        """Do `work` when everything before it is done. To cancel it gives it up, or the waiting if it has begun."""
        job = Job(work, Deferred(lambda _: self._give_up(job)))
        with self._condition:
            self._jobs.append(job)
            self._condition.notify()
        return job.done

    def close(self, seconds: float) -> bool:
        """Finish everything, and give the database up; False if that takes longer than `seconds`."""
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _give_up(self, job: Job) -> None:
        with self._condition:
            try:
                self._jobs.remove(job)
                words = "it is not done"
            except ValueError:
                words = "it may still be done"
        job.done.errback(StoreError(str(self._path), f"took too long; {words}", f"it took too long; {words}"))

    # On the thread.

    def _run(self) -> None:
        try:
            with closing(Database(self._path)) as database:
                self._reactor.callFromThread(self._answer, self._opened, (database.revision, database.rows()))
                while jobs := self._take():
                    self._reactor.callFromThread(self._deliver, jobs, self._commit(database, jobs))
        except Exception:  # noqa: BLE001  # whoever waits must know
            self._reactor.callFromThread(self._end, Failure())

    def _take(self) -> list[Job]:
        """What is to be committed next; nothing at the end."""
        with self._condition:
            self._condition.wait_for(lambda: self._jobs or self._is_closing)
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), _JOBS_A_COMMIT))]

    def _commit(self, database: Database, jobs: list[Job]) -> list[list[Change] | StoreError]:
        try:
            return database.commit([job.work for job in jobs])
        except Exception:  # noqa: BLE001  # the next jobs have to be done all the same
            self._reactor.callFromThread(self._log.failure, "unexpected error in a route store", Failure())
            return [StoreError(str(self._path), "unexpected error, see the log")] * len(jobs)

    # Back on the reactor's thread.

    def _end(self, failure: Failure) -> None:
        if self._opened.called:
            self._log.failure("a route store has ended", failure=failure)
        else:
            self._opened.callback(failure)

    def _answer(self, done: Deferred[Any], result: object) -> None:
        if not done.called:
            done.callback(result)

    def _deliver(self, jobs: list[Job], results: list[list[Change] | StoreError]) -> None:
        self._done += zip(jobs, results, strict=True)
        if not self._is_delivering:
            Deferred.fromCoroutine(self._deliver_all())

    async def _deliver_all(self) -> None:
        self._is_delivering = True
        while self._done:
            job, result = self._done.popleft()
            if isinstance(result, StoreError):
                self._answer(job.done, Failure(result))
                continue
            try:
                await self._told(result)
            except Exception:  # noqa: BLE001  # the others have to be told, too
                self._log.failure("unexpected error in a watcher of routes")
            self._answer(job.done, result)
        self._is_delivering = False
