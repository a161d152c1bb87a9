"""Host names to addresses, on threads of its own, with a cache.

The reactor's own pool is small and shared; one slow name server would hold up everything that needs a thread. The
threads are daemons, so that a look-up that hangs does not keep the process from ending.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

# How long an answer is used. Container platforms move names to other addresses within seconds.
_FRESH_SECONDS = 10.0
_NEGATIVE_SECONDS = 1.0
_CAPACITY = 4096
_THREADS = 8

Addresses = tuple[str, ...]
GetAddrInfo = Callable[..., list[tuple[Any, Any, Any, Any, Any]]]


class Resolver:
    """Looks names up; `clock` is a reactor with `seconds` and `callFromThread`."""

    def __init__(self, clock: Any, getaddrinfo: GetAddrInfo = socket.getaddrinfo) -> None:
        self._clock = clock
        self._getaddrinfo = getaddrinfo
        self._cache: dict[str, tuple[float, Addresses | OSError]] = {}
        self._waiting: dict[str, list[Deferred[Addresses]]] = {}
        self._queue: SimpleQueue[str] = SimpleQueue()
        self._threads = 0

    def resolve(self, host: str) -> Deferred[Addresses]:
        """The addresses of `host` in the order in which to try them (RFC 6724).

        Fails with `OSError` if there are none.
        """
        cached = self._cache.get(host)
        if cached is not None and cached[0] > self._clock.seconds():
            answer = cached[1]
            return fail(answer) if isinstance(answer, OSError) else succeed(answer)
        waiting: Deferred[Addresses] = Deferred()
        if host in self._waiting:
            self._waiting[host].append(waiting)
            return waiting
        self._waiting[host] = [waiting]
        self._queue.put(host)
        if self._threads < min(_THREADS, len(self._waiting)):
            self._threads += 1
            threading.Thread(target=self._work, name="proxyd-resolver", daemon=True).start()
        return waiting

    def _work(self) -> None:
        while True:
            host = self._queue.get()
            answer: Addresses | OSError
            try:
                found = self._getaddrinfo(host, None, type=socket.SOCK_STREAM)
                answer = tuple(dict.fromkeys(str(address[0]) for *_, address in found))
            except OSError as error:
                answer = error
            except UnicodeError as error:
                answer = OSError(str(error))
            self._clock.callFromThread(self._answered, host, answer)

    def _answered(self, host: str, answer: Addresses | OSError) -> None:
        lifetime = _NEGATIVE_SECONDS if isinstance(answer, OSError) else _FRESH_SECONDS
        if len(self._cache) >= _CAPACITY:
            self._cache.clear()
        self._cache[host] = (self._clock.seconds() + lifetime, answer)
        for waiting in self._waiting.pop(host):
            if isinstance(answer, OSError):
                waiting.errback(Failure(answer))
            else:
                waiting.callback(answer)
