"""Who has which token, as the Hub has said lately: each question is asked once at a time, and soon again."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from proxyd.core.remembered import Remembered
from proxyd.core.visitors import Visitor
from proxyd.errors import HubError

# One entry is about 2 KiB.
_CAPACITY = 10_000
# Whoever guesses tokens gets no further than this.
_MAX_QUESTIONS = 256
_UNKNOWN_SECONDS = 5.0

_Key = tuple[bytes, bytes]


class Visitors:
    """Knows whose a token is for `seconds`, and whose it is not for a moment; `ask` asks the Hub.

    The session of the browser at the Hub is part of every question: at a logout it ends, and what was known with it
    is not believed any more. Nothing is learnt from a Hub that does not answer.
    """

    def __init__(
        self,
        ask: Callable[[bytes], Deferred[Visitor | None]],
        clock: Callable[[], float],
        seconds: float,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._seconds = seconds
        self._known: Remembered[_Key, Visitor] = Remembered(_CAPACITY)
        # Apart, so that a flood of bad tokens does not drive the good ones out.
        self._unknown: Remembered[_Key, bool] = Remembered(_CAPACITY)
        self._waiting: dict[_Key, list[Deferred[Visitor | None]]] = {}

    def find(self, session: bytes, token: bytes) -> Visitor | Deferred[Visitor | None] | None:
        """The owner of `token`, None if there is none; a Deferred of it if the Hub has to be asked.

        That fails with `HubError`, and can be cancelled without harm to others who wait.
        """
        key = session, sha256(token).digest()
        now = self._clock()
        visitor = self._known.get(key, now)
        if visitor is not None:
            return visitor
        if self._unknown.get(key, now):
            return None
        return self._wait(key, token)

    def _wait(self, key: _Key, token: bytes) -> Deferred[Visitor | None]:
        waiting = self._waiting.get(key)
        if waiting is None and len(self._waiting) >= _MAX_QUESTIONS:
            return fail(HubError(503, "is asked for too many tokens at once"))
        is_first = waiting is None
        together = self._waiting.setdefault(key, [])
        answer: Deferred[Visitor | None] = Deferred(together.remove)
        together.append(answer)
        if is_first:
            self._ask(token).addCallbacks(self._answered, self._failed, (key,), {}, (key,))
        return answer

    def _answered(self, visitor: Visitor | None, key: _Key) -> None:
        now = self._clock()
        if visitor is not None:
            self._known.put(key, visitor, now + self._seconds)
        else:
            self._unknown.put(key, True, now + min(_UNKNOWN_SECONDS, self._seconds))
        for answer in self._waiting.pop(key):
            answer.callback(visitor)

    def _failed(self, failure: Failure, key: _Key) -> None:
        for answer in self._waiting.pop(key):
            answer.errback(failure)
