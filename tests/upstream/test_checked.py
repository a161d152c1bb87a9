"""Tests of `proxyd.upstream.checked`, with dials on real sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from proxyd.core.ports import PortRules
from proxyd.errors import ConnectError, ForbiddenAddressError
from proxyd.model.ports import PortsSettings
from proxyd.model.settings import Limits, PoolSettings
from proxyd.model.upstream import Upstream
from proxyd.option import HostName
from proxyd.upstream.checked import CheckedNames
from proxyd.upstream.connection import UpstreamConnection
from proxyd.upstream.dialing import Dialer
from proxyd.upstream.pools import Pools
from tests.support import free_port

from .test_dialing import DialingCase


class Answers:
    """A name service that gives one answer after the other."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def resolve(self, host: str) -> Deferred[tuple[str, ...]]:
        """The next one."""
        self.asked.append(host)
        answer = self.answers.pop(0)
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)


class CheckedNamesTests(DialingCase):
    """Names whose addresses may not be connected to."""

    def checked(self, names: Answers, *hosts: str) -> CheckedNames:
        """These names, with these hosts on the list."""
        settings = PortsSettings(hosts=tuple(map(HostName, hosts or ("db.test",))))
        return CheckedNames(names, PortRules(settings, "/").permits)

    def connect(self, url: str, names: Answers, *hosts: str) -> Deferred[UpstreamConnection]:
        """Dial `url`."""
        dialer = Dialer(self.reactor, self.checked(names, *hosts))
        return Pools(dialer, self.deadlines, PoolSettings(), Limits()).of(Upstream.parse(url)).connect(3)

    async def test_forbidden_addresses(self) -> None:
        """A name that means this machine or a metadata service is refused, however that is written."""
        port = self.listen("127.0.0.1")
        for addresses in (
            ("127.0.0.1",),
            ("169.254.169.254",),
            ("::1", "0.0.0.0"),
            ("::ffff:127.0.0.1",),
            ("fe80::1",),
        ):
            with self.assertRaises(ForbiddenAddressError) as caught:
                await self.connect(f"http://db.test:{port}", Answers(addresses))
            self.assertEqual(403, caught.exception.status)
            self.assertIn(addresses[0], str(caught.exception))

    async def test_only_the_others_are_tried(self) -> None:
        """Of several addresses."""
        names = self.checked(Answers(("169.254.169.254", "10.0.0.1", "::1")))
        self.assertEqual(("10.0.0.1",), await names.resolve("db.test"))

    async def test_an_address_on_the_list_is_good(self) -> None:
        """The name may mean it then; each dial looks anew, and connects to what it looked at."""
        port = self.listen("127.0.0.1")
        names = Answers(("127.0.0.1",), ("127.0.0.2",))
        connection = await self.connect(f"http://db.test:{port}", names, "db.test", "127.0.0.1")
        self.assertEqual("127.0.0.1", connection.transport.getPeer().host)
        with self.assertRaises(ForbiddenAddressError):
            await self.connect(f"http://db.test:{port}", names, "db.test", "127.0.0.1")
        self.assertEqual(["db.test", "db.test"], names.asked)

    async def test_localhost_is_both_families(self) -> None:
        """Whatever name servers say: they are not asked."""
        names = Answers()
        for address in ("127.0.0.1", "::1"):
            port = self.listen(address)
            connection = await self.connect(f"http://localhost:{port}", names)
            self.assertEqual(address, connection.transport.getPeer().host)
        with self.assertRaises(ConnectError):
            await self.connect(f"http://localhost:{free_port()}", names)
        self.assertEqual([], names.asked)

    async def test_unknown_names(self) -> None:
        """They stay unknown."""
        with self.assertRaises(ConnectError):
            await self.connect("http://db.test", Answers(OSError("not known")))
