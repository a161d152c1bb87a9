"""Tests of `proxyd.net.resolver`."""

from __future__ import annotations

import socket
import threading
from typing import Any

from twisted.internet import reactor as installed  # noqa: TID251  # the threads report to a real one
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from proxyd.net.resolver import Resolver

reactor: Any = installed


class Clock:
    """The real reactor, with a time that the test sets."""

    now = 0.0
    callFromThread = staticmethod(reactor.callFromThread)

    def seconds(self) -> float:
        """The time."""
        return self.now


class ResolverTests(TestCase):
    """Look-ups with a name service that the test plays."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.resolver = Resolver(self.clock, self.getaddrinfo)

    def getaddrinfo(self, host: str, port: None, type: int) -> list[Any]:  # noqa: A002
        """Answer for the name service."""
        self.asked.append(host)
        self.gate.wait(5)
        if host == "missing.test":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        if host == "odd.test":
            raise UnicodeError("label too long")
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
        ]

    async def test_addresses_in_order(self) -> None:
        """All addresses come, each once, in the order of the system."""
        self.assertEqual(("2001:db8::1", "192.0.2.1"), await self.resolver.resolve("a.test"))

    async def test_answers_are_kept_for_a_while(self) -> None:
        """An answer is used again for ten seconds, a failure for one."""
        for host, seconds in (("a.test", 10), ("missing.test", 1)):
            self.asked.clear()
            for pause, count in ((0, 1), (seconds - 0.5, 1), (1, 2)):
                self.clock.now += pause
                await self.resolver.resolve(host).addErrback(lambda failure: failure.trap(OSError))
                self.assertEqual(count, len(self.asked), (host, pause))

    async def test_failures(self) -> None:
        """A name without an address, and one that cannot be a name, fail with `OSError`, kept or not."""
        for host in ("missing.test", "odd.test"):
            for _ in range(2):
                with self.assertRaises(OSError):
                    await self.resolver.resolve(host)

    async def test_one_question_at_a_time(self) -> None:
        """Those who ask for the same name at the same time share the answer."""
        self.gate.clear()
        waiting = [self.resolver.resolve("a.test") for _ in range(5)]
        self.gate.set()
        await gatherResults(waiting)
        self.assertEqual(["a.test"], self.asked)

    async def test_slow_names_do_not_hold_up_others(self) -> None:
        """There are several threads, and no more than eight."""
        self.gate.clear()
        before = threading.active_count()
        waiting = [self.resolver.resolve(f"host{number}.test") for number in range(20)]
        self.assertLessEqual(threading.active_count() - before, 8)
        self.gate.set()
        await gatherResults(waiting)
        self.assertEqual(20, len(set(self.asked)))

    async def test_memory_is_bounded(self) -> None:
        """The cache is emptied when it grows too large."""
        self.patch(__import__("proxyd.net.resolver").net.resolver, "_CAPACITY", 3)
        for number in range(10):
            await self.resolver.resolve(f"host{number}.test")
        self.assertLessEqual(len(self.resolver._cache), 3)

    async def test_the_real_one(self) -> None:
        """`localhost` is on this machine."""
        addresses = await Resolver(reactor).resolve("localhost")
        self.assertTrue({"127.0.0.1", "::1"} & set(addresses))
