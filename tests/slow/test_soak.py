"""Mixed traffic for as long as PROXYD_SOAK_SECONDS says: nothing grows.

PROXYD_SOAK_SECONDS=1800 .venv/bin/python -m twisted.trial tests.slow.test_soak
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

import attrs

from tests.faults.scripts import breaking
from tests.faults.traffic import COUNTING, Traffic, count_types
from tests.integration.test_tls import TlsCase
from tests.support import Process, free_port
from tests.wire import ScriptedUpstream, get, open_descriptors, resident_bytes

SECONDS = float(os.environ.get("PROXYD_SOAK_SECONDS", "45"))
# Of each kind of traffic a second; about 17 kinds.
RATE = float(os.environ.get("PROXYD_SOAK_RATE", "2"))
# The memory of a fresh process grows until its arenas and caches have the size that this traffic needs.
_WARM_UP_SECONDS = max(15.0, SECONDS / 6)
# What the interpreter and the allocator may keep, once for all, on top of 5 %.
_SLACK_BYTES = 1024 * 1024
# A type grows that has so many more objects in both halves.
_MANY = 25
_SETTINGS = """
api: {{port: 0, open: true}}
pool: {{idle_seconds: 0.5}}
log: {{access_file: access.log}}
timeouts: {{header: 10s, keep_alive: 10s, response: {response}s}}
routes:
  /: {upstream}
  /relay: {{upstream: "{upstream}", websocket: {{kind: relay}}}}
  /refused: http://127.0.0.1:{nobody}
"""


@attrs.frozen
class Counts:
    """What a process holds."""

    descriptors: int
    threads: int
    resident: int
    types: Counter[str]

    def line(self) -> str:
        """In words."""
        objects = sum(self.types.values())
        waiting = self.types["twisted.internet.defer.Deferred"]
        return (
            f"{self.descriptors} descriptors, {self.threads} threads, {waiting} Deferreds, {objects} objects, "
            f"{self.resident / 1024:.0f} KiB resident"
        )


class SoakTests(TlsCase):
    """One process, all kinds of traffic."""

    def test_nothing_grows(self) -> None:
        """After the traffic a process holds what it held before: descriptors, memory, objects of each type."""
        upstream = ScriptedUpstream(self, breaking)
        settings = {"upstream": upstream.url, "nobody": free_port()}
        config = self.directory / "proxyd.yaml"
        numbers = cycle((30, 31, 32))
        listeners = self.listener().replace("[", "[{kind: http, port: 0}, ", 1)

        def write() -> None:
            config.write_text(listeners + _SETTINGS.format(response=next(numbers), **settings))

        def reload() -> None:
            write()
            process.send(signal.SIGHUP)

        write()
        words = (sys.executable, "-c", COUNTING, "serve", "--config", config)
        types = self.directory / "types.json"
        process = Process(self, *words, cwd=self.directory, env={"TYPES": str(types)})
        ports = [self.port_of(process, words) for words in ("Proxying http", "Proxying https", "Proxy API at http")]
        traffic = Traffic(ports[0], ports[1], ports[2], upstream.url, reload)
        seen = []
        with process.log_on_failure():
            for seconds in (_WARM_UP_SECONDS, SECONDS / 2, SECONDS / 2):
                began = time.monotonic()
                traffic.run(seconds, RATE)
                seen.append(self.count(process, ports[2], types))
                print(f"{time.monotonic() - began:.0f} s: {seen[-1].line()}")
            print(f"{sum(traffic.done.values())} in all: {dict(traffic.done)}")
            self.assertEqual([], traffic.errors)
            before, middle, after = seen
            self.assertLessEqual(after.descriptors, before.descriptors)
            self.assertLessEqual(after.threads, before.threads)
            grown = {
                name: (before.types[name], middle.types[name], number)
                for name, number in after.types.items()
                if number - middle.types[name] > _MANY and middle.types[name] - before.types[name] > _MANY
            }
            self.assertEqual({}, grown)
            self.assertEqual(
                before.types["twisted.internet.defer.Deferred"], after.types["twisted.internet.defer.Deferred"]
            )
            self.assertLess(after.resident, before.resident * 1.05 + _SLACK_BYTES)
            self.assertEqual(0, process.log.count("Traceback"))
            self.assertNotIn("unexpected error", process.log)
            process.send(signal.SIGTERM)
            self.assertEqual(0, process.wait(60))

    def count(self, process: Process, api_port: int, types: Path) -> Counts:
        """What is held once nothing is served any more, idle connections, tunnels and waits included."""
        gauges = (b"proxyd_open_connections", b"proxyd_open_tunnels", b"proxyd_upstream_idle_connections")

        def is_at_rest() -> bool:
            metrics = get(api_port, "/metrics")[1]
            return all(b"\n%b 0.0\n" % name in metrics for name in gauges)

        process.wait_for(is_at_rest, "rest", 60, 0.5)
        seen = [-1]

        def descriptors() -> int:
            last, seen[0] = seen[0], open_descriptors(process.pid)
            return seen[0] if last == seen[0] else 0

        held = process.wait_for(descriptors, "descriptors", 60, 1.0)
        counted = count_types(process, types)
        threads = len(os.listdir(f"/proc/{process.pid}/task"))
        return Counts(held, threads, resident_bytes(process.pid), counted)
