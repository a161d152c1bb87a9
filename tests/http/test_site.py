"""Tests of `proxyd.http.site`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ConnectError
from proxyd.http.errorpages import ErrorPages
from proxyd.http.site import SiteSettings, TrustedProxies
from proxyd.model.settings import Config, ErrorSettings, Limits, Timeouts
from proxyd.option import ByteCount, Network, Seconds

from .support import GET, OK, DataPathTestCase


class TrustTests(SynchronousTestCase):
    """`TrustedProxies`."""

    def test_networks_addresses_and_unix(self) -> None:
        """A peer is trusted if its address is in a network of the list; one on a unix socket if `unix` is."""
        trusted = TrustedProxies(("10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "unix"))
        for address in ("10.1.2.3", "192.0.2.7", "2001:db8::1", ""):
            self.assertTrue(trusted.trusts(address), address)
        for address in ("11.1.2.3", "192.0.2.8", "2001:db9::1", "::ffff:1.2.3.4"):
            self.assertFalse(trusted.trusts(address), address)
        self.assertFalse(TrustedProxies(()).trusts(""))


class ForwardedTests(DataPathTestCase):
    """X-Forwarded-* by who the peer is."""

    config = Config(trusted_proxies=(Network("10.0.0.0/8"), Network("unix")))

    def forwarded(self, address: str) -> dict[bytes, bytes]:
        """What the upstream is told about a client that claims to forward."""
        self.proxy.pools.close()
        client = self.proxy.client(address)
        client.send(
            b"GET / HTTP/1.1\r\nHost: h.test:81\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n"
            b"X-Forwarded-Host: public.test\r\n\r\n"
        )
        lines = self.proxy.accept().pop().split(b"\r\n")
        return dict(line.split(b": ", 1) for line in lines if line.startswith(b"X-Forwarded"))  # type: ignore[misc]

    def test_strangers_are_not_believed(self) -> None:
        """What a client says of itself is replaced."""
        self.assertEqual(
            {
                b"X-Forwarded-For": b"192.0.2.1",
                b"X-Forwarded-Port": b"81",
                b"X-Forwarded-Proto": b"http",
                b"X-Forwarded-Host": b"h.test:81",
            },
            self.forwarded("192.0.2.1"),
        )

    def test_trusted_proxies_are(self) -> None:
        """A trusted proxy's word about its client stands, and its own address is added."""
        for address, chain in (
            ("10.0.0.1", b"1.1.1.1,10.0.0.1"),
            ("::ffff:10.0.0.1", b"1.1.1.1,10.0.0.1"),
            ("", b"1.1.1.1"),
        ):
            told = self.forwarded(address)
            self.assertEqual(chain, told[b"X-Forwarded-For"], address)
            self.assertEqual(b"https", told[b"X-Forwarded-Proto"])
            self.assertEqual(b"public.test", told[b"X-Forwarded-Host"])

    def test_lines_follow_the_host(self) -> None:
        """Two requests on a connection with different hosts are told apart."""
        client, upstream = self.begin(GET)
        self.assertIn(b"X-Forwarded-Host: a.test\r\n", upstream.pop())
        upstream.send(OK)
        client.send(GET.replace(b"a.test", b"b.test"))
        self.assertIn(b"X-Forwarded-Host: b.test\r\n", upstream.pop())


class DateTests(DataPathTestCase):
    """`Site.date`."""

    def test_follows_the_clock(self) -> None:
        """The date is made anew with each second."""
        self.assertEqual(b"Thu, 01 Jan 1970 00:00:00 GMT", self.proxy.site.date())
        self.proxy.advance(61.5)
        self.assertEqual(b"Thu, 01 Jan 1970 00:01:01 GMT", self.proxy.site.date())


class SettingsTests(DataPathTestCase):
    """Settings that are replaced while clients are there."""

    def replace(self, config: Config) -> None:
        """Serve with another configuration from now on."""
        self.proxy.site.settings = SiteSettings.make(
            config.timeouts,
            config.limits,
            trusted=TrustedProxies(config.trusted_proxies),
            error_pages=ErrorPages(statuses=config.errors.statuses),
        )

    def test_a_request_goes_on_with_what_it_had(self) -> None:
        """The next one on its connection has the new settings."""
        client = self.proxy.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\n\r\nabc")
        upstream = self.proxy.accept()
        self.replace(
            Config(
                limits=Limits(body=ByteCount(4), header_count=2),
                timeouts=Timeouts(keep_alive=Seconds(3)),
                trusted_proxies=(Network("192.0.2.0/24"),),
            )
        )
        client.send(b"def")
        self.assertTrue(upstream.pop().endswith(b"abcdef"))
        upstream.send(OK)
        self.assert_status(200, client)
        client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n")
        self.assertIn(b"\r\nX-Forwarded-For: 1.1.1.1,192.0.2.1\r\n", upstream.pop())
        upstream.send(OK)
        self.assert_status(200, client)
        self.proxy.advance(3.5)
        self.assert_ended(client)
        client = self.proxy.client()
        client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\nA: b\r\nC: d\r\n\r\n")
        self.assert_status(431, client)

    def test_the_page_of_an_error_is_that_of_its_request(self) -> None:
        """Whatever came since."""
        client, upstream = self.begin()
        self.replace(Config(errors=ErrorSettings(statuses="chp")))
        upstream.close()
        self.proxy.advance()
        self.assert_status(502, client)
        client.send(GET)
        self.proxy.dialer.dials[-1].fail(ConnectError("up.test:81", "refused"))
        self.assert_status(503, client)
