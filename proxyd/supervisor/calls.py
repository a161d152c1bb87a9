"""Callables of the user's own, run where they may block."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_T = TypeVar("_T")


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
