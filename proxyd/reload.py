"""Reloads, one after the other: read and try everything on a thread, and only then change something.

What changes is `core.reload`.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.core.reload import Report
from proxyd.errors import ConfigError, Problem, TlsError
from proxyd.garbage import collecting_later

T = TypeVar("T")

Take = Callable[[], "Report | Awaitable[Report]"]
"""Carries a reload out that was prepared; fails with `OSError`, and then nothing has changed."""


class Reloads:
    """Reloads what runs on `reactor`.

    `prepare` reads and tries everything, on a thread of its own, and gives back what carries it out. `began` and
    `done` are told of each reload. Before `begin` a reload waits, and after `end` it is refused.
    """

    _log = Logger()

    def __init__(
        self, prepare: Callable[[], Take], reactor: Any, began: Callable[[], None], done: Callable[[Report], None]
    ) -> None:
        self._prepare = prepare
        self._reactor = reactor
        self._began = began
        self._done = done
        self._turn = DeferredLock()
        self._turn.acquire()
        self._has_begun = False
        self._has_ended = False

    def begin(self) -> None:
        """Everything is there that can be reloaded."""
        if not self._has_begun:
            self._has_begun = True
            self._turn.release()

    def end(self) -> None:
        """Change nothing any more."""
        self._has_ended = True
        self.begin()

    def run(self) -> Deferred[Report]:
        """Reload, when those that were asked for before are over. Does not fail: problems are in the report.

        Who cancels it does not wait any more; the reload goes on.
        """
        asked: Deferred[Report] = Deferred()
        self._turn.run(lambda: Deferred.fromCoroutine(self._run())).chainDeferred(asked)
        return asked

    async def _run(self) -> Report:
        if self._has_ended:
            return self._ending()
        self._began()
        self._log.info("reading the configuration again")
        try:
            take = await in_thread(self._reactor, self._read)
            taken = self._ending() if self._has_ended else take()
            report = taken if isinstance(taken, Report) else await taken
        except ConfigError as error:
            report = Report(problems=error.problems)
        except TlsError as error:
            report = Report(problems=(Problem(f"TLS: {error.reason}", file=error.subject),))
        except OSError as error:
            report = Report(problems=(Problem(error.strerror or str(error), file=str(error.filename or "")),))
        except Exception:  # noqa: BLE001  # the top of a task
            self._log.failure("unexpected error in a reload")
            report = Report(problems=(Problem("unexpected error, see the log"),))
        self._tell(report)
        self._done(report)
        return report

    def _read(self) -> Take:
        """Prepare; a collection among the objects of a large file would stop all threads, for 0.6 s."""
        with collecting_later():
            return self._prepare()

    def _ending(self) -> Report:
        return Report(problems=(Problem("proxyd is ending"),))

    def _tell(self, report: Report) -> None:
        for problem in report.problems:
            self._log.error("{problem}", problem=str(problem))
        if report.problems:
            self._log.error("the configuration stays as it was")
            return
        if report.applied:
            self._log.info("applied: {paths}", paths=", ".join(report.applied))
        if report.needs_restart:
            self._log.warn("changed, but needs a restart: {paths}", paths=", ".join(report.needs_restart))
        if not report.applied and not report.needs_restart:
            self._log.info("the configuration says the same as before")


def in_thread(reactor: Any, function: Callable[[], T]) -> Deferred[T]:
    """What `function` returns or raises on a thread that does not keep the process from ending."""
    done: Deferred[T] = Deferred()

    def run() -> None:
        try:
            result: T | Failure = function()
        except Exception:  # noqa: BLE001  # it is for whoever waits
            result = Failure()
        except BaseException as error:  # noqa: BLE001  # a module that `!python` loads may call `sys.exit`
            result = Failure(RuntimeError(repr(error)))
        reactor.callFromThread(done.callback, result)  # a Failure makes it fail

    threading.Thread(target=run, name="proxyd-reload", daemon=True).start()
    return done
