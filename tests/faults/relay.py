"""A relay in front of an upstream that delays, trickles, cuts or resets what passes through it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from unittest import TestCase

import attrs

from tests.wire import Wire, connect


@attrs.frozen
class Fault:
    """What happens to the bytes of one direction of one connection.

    After `after` bytes (None: never) the connection ends on both sides, by RST if it `resets`, else by FIN. Each
    piece is late by `delay_seconds`, and has at most `piece` bytes.
    """

    after: int | None = None
    resets: bool = False
    delay_seconds: float = 0.0
    piece: int = 65536


NO_FAULT = Fault()


class FaultRelay:
    """Listens on `port` and passes on to `upstream_port`.

    The faults of `up` and `down` are those of connections that are made from then on.
    """

    def __init__(self, case: TestCase, upstream_port: int) -> None:
        self.up = self.down = NO_FAULT
        self.connections = 0
        self._upstream_port = upstream_port
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        case.addCleanup(self._stop)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = Wire(self._listening.accept()[0])
                self.connections += 1
                upstream = connect(self._upstream_port)
                ends = (client, upstream)
                for ways, fault in ((ends, self.up), (ends[::-1], self.down)):
                    threading.Thread(target=_pass_on, args=(*ways, fault), daemon=True).start()

    def _stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def _pass_on(source: Wire, sink: Wire, fault: Fault) -> None:
    passed = 0
    with contextlib.suppress(OSError):
        while passed != fault.after:
            most = fault.piece if fault.after is None else min(fault.piece, fault.after - passed)
            data = source.sock.recv(most)
            if not data:
                sink.finish()
                return
            if fault.delay_seconds:
                time.sleep(fault.delay_seconds)
            sink.send(data)
            passed += len(data)
        for end in (source, sink):
            if fault.resets:
                end.abort()
            else:
                end.sock.shutdown(socket.SHUT_RDWR)
