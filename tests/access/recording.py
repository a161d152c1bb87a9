"""An upstream that keeps every byte which reaches it, and says so."""

from __future__ import annotations

import threading
from unittest import TestCase

from tests.wire import ScriptedUpstream, Wire


class RecordingUpstream(ScriptedUpstream):
    """Answers each read with a response, whatever was read; `seen` has the bytes of all connections."""

    def __init__(self, case: TestCase) -> None:
        self._pieces: list[bytes] = []
        self._lock = threading.Lock()
        super().__init__(case, self._record)

    def _record(self, wire: Wire) -> None:
        while data := wire.some(65536):
            with self._lock:
                self._pieces.append(data)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nrecorded")

    @property
    def seen(self) -> bytes:
        """Every byte so far."""
        with self._lock:
            return b"".join(self._pieces)
