"""Real `proxyd serve` processes for the tests of the data path, and the routes through them."""

from __future__ import annotations

import atexit
import json
import re
import shutil
import tempfile
from itertools import count
from pathlib import Path
from typing import ClassVar
from unittest import TestCase

from twisted.trial import unittest

from tests.support import Process, script
from tests.wire import ManualUpstream, ScriptedUpstream, Wire, connect

_BASE = """
listeners: [{kind: http, port: 0}]
api: {port: 0, open: true}
"""


class Proxy:
    """A running `proxyd serve` with the given settings in YAML, and an API without a token; `case` owns it.

    `descriptors` is how many it may have open, 0 for as many as the tests.
    """

    def __init__(self, case: TestCase, settings: str = "", *, descriptors: int = 0) -> None:
        directory = Path(tempfile.mkdtemp(prefix="proxyd-integration-"))
        case.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        config = directory / "proxyd.yaml"
        config.write_text(_BASE + settings)
        words: list[str | Path] = [script("proxyd"), "serve", "--config", config]
        if descriptors:
            words = ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh", *words]
        self.process = Process(case, *words, cwd=directory)
        self.port = self._announced("Proxying http")
        self.api_port = self._announced("Proxy API at http")

    def _announced(self, words: str) -> int:
        line = self.process.wait_for_log(words, 30)
        found = re.search(r":(\d+)", line[line.index(words) :])
        if found is None:
            raise AssertionError(f"there is no port in {line!r}")
        return int(found[1])

    @property
    def pid(self) -> int:
        """The process id of the proxy itself."""
        return self.process.pid

    def put_route(self, key: str, target: str, **options: object) -> None:
        """Create or replace a route."""
        body = json.dumps({"target": target, **options}).encode()
        self._ask_api(b"POST", key, body, 201)

    def delete_route(self, key: str) -> None:
        """Delete a route."""
        self._ask_api(b"DELETE", key, b"", 204)

    def _ask_api(self, method: bytes, key: str, body: bytes, expected: int) -> None:
        wire = connect(self.api_port)
        wire.send(
            b"%b /api/routes%b HTTP/1.1\r\nHost: api\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            % (method, key.encode(), len(body))
            + body
        )
        answer = wire.rest()
        wire.close()
        if not answer.startswith(b"HTTP/1.1 %d " % expected):
            raise AssertionError(f"the API answered {answer!r}")


class _Shared:
    """Proxies that several tests use, one for each settings, until the end of the process that runs the tests."""

    def __init__(self) -> None:
        self._owner = TestCase()
        self._proxies: dict[str, Proxy] = {}
        atexit.register(self._owner.doCleanups)

    def get(self, settings: str) -> Proxy:
        """The proxy with these settings; a new one if it has ended."""
        proxy = self._proxies.get(settings)
        if proxy is None or not proxy.process.is_running:
            proxy = self._proxies[settings] = Proxy(self._owner, settings)
        return proxy


class ProxyTestCase(unittest.SynchronousTestCase):
    """Tests of one proxy with `settings`, which they share; each has routes of its own.

    After each test the process is alive, and nothing has happened in it that it did not expect.
    """

    settings: ClassVar[str] = ""
    _shared: ClassVar[_Shared] = _Shared()

    def setUp(self) -> None:
        """Start the proxy if this is the first test."""
        self.use(self._shared.get(self.settings))

    def use(self, proxy: Proxy) -> None:
        """Drive `proxy` in this test."""
        self.proxy = proxy
        self._numbers = count(1)
        seen = len(proxy.process.log)

        def check() -> None:
            self.assertTrue(proxy.process.is_running, proxy.process.log[-5000:])
            said = proxy.process.log[seen:]
            self.assertNotIn("Traceback", said)
            self.assertNotIn("unexpected error", said)

        self.addCleanup(check)

    def route(self, upstream: ManualUpstream | ScriptedUpstream | str, **options: object) -> str:
        """Make a route to `upstream` that lasts as long as the test, and return its prefix."""
        key = f"/{self._testMethodName}/{next(self._numbers)}"
        url = upstream if isinstance(upstream, str) else upstream.url
        self.proxy.put_route(key, url, **options)
        self.addCleanup(self.proxy.delete_route, key)
        return key

    def client(self, *, receive_buffer: int = 0) -> Wire:
        """A connection to the proxy, which the end of the test closes."""
        wire = connect(self.proxy.port, receive_buffer=receive_buffer)
        self.addCleanup(wire.sock.close)
        return wire

    def begin(self, request: bytes, **options: object) -> tuple[Wire, Wire]:
        """Send `request`, whose target `%b` stands for, and return the client and the upstream that it came to."""
        upstream = ManualUpstream(self)
        request %= self.route(upstream, **options).encode()
        client = self.client()
        client.send(request)
        return client, upstream.accept()

    def ask(self, target: str, fields: str = "", *, client: Wire | None = None) -> tuple[bytes, bytes]:
        """GET `target` and return head and body; on a connection of its own unless `client` is given."""
        wire = self.client() if client is None else client
        wire.send(f"GET {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n".encode())
        return wire.message()

    def assert_status(self, status: int, message: bytes | tuple[bytes, bytes]) -> None:
        """The head of `message` has this status."""
        head = message if isinstance(message, bytes) else message[0]
        self.assertEqual(b"HTTP/1.1 %d " % status, head[:13], head)

    def assert_alive(self) -> None:
        """The proxy serves others."""
        self.assert_status(200, self.ask("/healthz"))
