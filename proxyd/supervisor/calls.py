"""Callables of the user's own, run where they may block."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

_T = TypeVar("_T")

# As many as a reactor has: functions share one interpreter with the traffic, which must not wait for all of them.
_MAX_THREADS = 10


def in_thread(reactor: Any, function: Callable[[], _T]) -> Deferred[_T]:
    """Call `function` in a thread of its own; a cancel forgets its result, whenever it comes.

    No pool: what never returns would keep a place in it for ever, and the end of the process from coming.
    """
    done: Deferred[_T] = Deferred()

    def tell(result: _T | Failure) -> None:
        if not done.called:
            done.callback(result)

    def run() -> None:
        result: _T | Failure
        try:
            result = function()
        except BaseException:  # noqa: BLE001  # it is on its way to who waits
            result = Failure()
        with suppress(RuntimeError):  # the interpreter is at its end
            reactor.callFromThread(tell, result)

    threading.Thread(target=run, name="proxyd-callable", daemon=True).start()
    return done


class _Daemon(threading.Thread):
    """A thread that nobody waits for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, daemon=True)


def make_pool() -> ThreadPool:
    """Threads for what is called for each request.

    It need not be stopped: the process ends without them, whatever they do.
    """
    pool = ThreadPool(0, _MAX_THREADS, "proxyd-functions")
    pool.threadFactory = _Daemon
    pool.start()
    return pool
