"""Tests of `proxyd.http.channel`: what a client may send, when, and how much of it."""

from __future__ import annotations

from proxyd.model.settings import Config, ErrorSettings, Limits, Timeouts
from proxyd.option import ByteCount, Seconds

from .support import GET, OK, DataPathTestCase

MALFORMED = {
    "no version": b"GET /\r\nHost: a\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "lower-case version": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "a list of Hosts": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "user information in Host": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "a folded field": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "a bare CR": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "bare LFs": b"GET / HTTP/1.1\nHost: a\n\n",
    "one bare LF": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "a leading LF": b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a signed length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "a length and a coding": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "an unknown coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    "a coding in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a raw space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a control character in the target": b"GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a malformed escape": b"GET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "an escape that is not UTF-8": b"GET /a%ff HTTP/1.1\r\nHost: a\r\n\r\n",
    "a bad chunk size": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    "a handshake with a body": (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx"
    ),
}
# Those are about the request and not about where it ends: the connection may go on.
HARMLESS = {"a fragment", "a malformed escape", "an escape that is not UTF-8"}


class MalformedTests(DataPathTestCase):
    """Requests that are not strictly what RFC 9112 says."""

    def test_400_and_close(self) -> None:
        """Each is 400, nothing of it reaches an upstream, and what ends who knows where ends the connection."""
        for slowly in (False, True):
            for what, request in MALFORMED.items():
                if slowly and what == "a bad chunk size":
                    continue  # its head is good, and gone by the time the size comes
                client = self.proxy.client()
                for piece in [request[i : i + 1] for i in range(len(request))] if slowly else [request]:
                    if client.connected and not client.write_closed:
                        client.send(piece)
                answer = client.pop()
                self.assertTrue(answer.startswith(b"HTTP/1.1 400 Bad Request\r\n"), (what, answer[:80]))
                self.assertEqual(1, answer.count(b"HTTP/1.1"), what)
                if what not in HARMLESS:
                    self.assertIn(b"\r\nConnection: close\r\n", answer, what)
                    self.assert_ended(client)
        self.assertEqual([], self.proxy.dialer.dials)

    def test_hopeless_heads_are_not_awaited(self) -> None:
        """What can never become a head is refused before its end has come."""
        for start in (b"\x16\x03\x01", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nX: \x00", b"GET / HTTP/1.1\r\nX: a\rb"):
            client = self.proxy.client()
            client.send(start)
            self.assert_status(400, client)

    def test_no_body_for_head(self) -> None:
        """Whatever is wrong with a HEAD, a body would be read as the beginning of another answer."""
        for start in (b"HEAD / HTTP/1.1\r\n\r\n", b"HEAD / HTTP/1.1\r\nX\x00", b"HEAD /%b" % (b"a" * 10_000)):
            client = self.proxy.client()
            client.send(start)
            self.assertRegex(client.received, rb"^HTTP/1\.1 4(?s:.*)\r\n\r\n\Z")
            self.assertNotIn(b"html>", client.received)

    def test_the_good_one_before_is_served(self) -> None:
        """A malformed request behind a good one does not spoil the good one's answer."""
        client, upstream = self.begin(GET + MALFORMED["no Host"])
        upstream.send(OK)
        answers = client.pop()
        self.assertTrue(answers.startswith(b"HTTP/1.1 200 OK"))
        self.assertEqual(1, answers.count(b"HTTP/1.1 400 "))
        self.assert_ended(client)

    def test_expectation_that_cannot_be_met(self) -> None:
        """Any other expectation than 100-continue is 417."""
        client = self.proxy.client()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n")
        self.assert_status(417, client)

    def test_connect_is_refused(self) -> None:
        """CONNECT is for another kind of proxy: it leads to no upstream, whatever its target looks like."""
        for target in (b"a.test:443", b"/a", b"http://a.test/a"):
            client = self.proxy.client()
            client.send(b"CONNECT %b HTTP/1.1\r\nHost: a.test:443\r\n\r\n" % target)
            self.assert_status(405, client)
        self.assertEqual([], self.proxy.dialer.dials)

    def test_nothing_behind_an_error_is_a_request(self) -> None:
        """After 400, what comes is dropped: it may be the rest of what was refused."""
        client = self.proxy.client()
        client.send(MALFORMED["a length and a coding"] + GET)
        client.send(GET)
        self.proxy.advance(1)
        self.assertEqual(1, client.pop().count(b"HTTP/1.1"))
        self.assertEqual([], self.proxy.dialer.dials)


class LimitTests(DataPathTestCase):
    """Sizes of heads."""

    def refused(self, request: bytes) -> bytes:
        """The status line of the answer to `request`."""
        client = self.proxy.client()
        client.send(request)
        answer = client.pop()
        if answer:
            self.assert_ended(client)
        return answer.partition(b"\r\n")[0]

    def test_request_line(self) -> None:
        """A request line over 8 KiB is 414, complete or not."""
        for end in (b" HTTP/1.1\r\nHost: a\r\n\r\n", b""):
            self.assertIn(b" 414 ", self.refused(b"GET /" + b"x" * 8192 + end))

    def test_fields(self) -> None:
        """A field over 16 KiB, more than 64 KiB of fields, and more than 200 of them are 431."""
        start = b"GET / HTTP/1.1\r\nHost: a\r\n"
        for fields in (b"X: " + b"y" * 16384 + b"\r\n", (b"X: " + b"y" * 1000 + b"\r\n") * 70, b"X: y\r\n" * 200):
            self.assertIn(b" 431 ", self.refused(start + fields + b"\r\n"))
        self.assertIn(b" 431 ", self.refused(start + b"X: " + b"y" * 80_000))

    def test_what_must_pass(self) -> None:
        """Heads within the limits pass, byte by byte as well."""
        client = self.proxy.client()
        client.send(b"GET /" + b"x" * 8000 + b" HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100)
        client.send_slowly(b"Y: " + b"z" * 2000 + b"\r\n\r\n")
        self.assertIn(b"Y: zzz", self.proxy.accept().pop())


class ChpLimitTests(DataPathTestCase):
    """Sizes of heads as configurable-http-proxy has them."""

    config = Config(
        errors=ErrorSettings(statuses="chp"),
        limits=Limits(request_line=ByteCount(16384), headers=ByteCount(16384), target="lenient"),
    )

    def test_431_for_everything(self) -> None:
        """A request line that is too long is 431 there."""
        client = self.proxy.client()
        client.send(b"GET /" + b"x" * 20_000)
        self.assert_status(431, client)
        client = self.proxy.client()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n")
        self.assert_status(431, client)

    def test_fragments_are_dropped(self) -> None:
        """A fragment does not reach the upstream."""
        _, upstream = self.begin(b"GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(upstream.pop().startswith(b"GET /a?b HTTP/1.1\r\n"))


class PipeliningTests(DataPathTestCase):
    """Several requests on a connection."""

    def test_answers_come_in_order(self) -> None:
        """The second request waits until the first one is answered."""
        client, upstream = self.begin(GET.replace(b"/x", b"/1") + GET.replace(b"/x", b"/2"))
        self.assertEqual(1, upstream.pop().count(b"GET"))
        upstream.send(OK.replace(b"ok", b"11"))
        self.assertIn(b"GET /2 ", upstream.pop())
        upstream.send(OK.replace(b"ok", b"22"))
        self.assertLess((answers := client.pop()).index(b"11"), answers.index(b"22"))

    def test_only_one_is_read_ahead(self) -> None:
        """While a request is being served, no more is read than what came with it."""
        client, upstream = self.begin(GET + GET)
        self.assertFalse(client.is_reading)
        client.send(GET * 1000)
        self.assertEqual(1000, client.unread[0].count(b"GET") if client.unread else 0)
        upstream.send(OK)
        upstream.send(OK)
        self.proxy.advance()
        self.assertEqual(3, upstream.pop().count(b"GET"))

    def test_a_body_ends_where_it_says(self) -> None:
        """What stands behind a body is the next request."""
        post = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        client, upstream = self.begin(post + GET)
        self.assertTrue(upstream.pop().endswith(b"\r\n\r\nabc"))
        upstream.send(OK)
        self.assertIn(b"GET /x", upstream.pop())
        client, upstream = self.begin(post[:-1])
        upstream.pop()
        client.send(b"c" + GET)
        self.assertEqual(b"c", upstream.pop())
        upstream.send(OK)
        self.assertIn(b"GET /x", upstream.pop())

    def test_empty_lines_in_front_are_skipped(self) -> None:
        """RFC 9112 §2.2: a client may send CRLF before a request line."""
        client = self.proxy.client()
        client.send(b"\r\n\r\n")
        client.send_slowly(b"\r\n\r\n" + GET)
        self.assertIn(b"GET /x", self.proxy.accept().pop())

    def test_many_at_once_take_turns(self) -> None:
        """Requests that are answered at once do not keep the other connections waiting."""
        client = self.proxy.client()
        client.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        first = client.pop().count(b"200 OK")
        self.assertLess(first, 50)
        self.proxy.advance(0.5)
        self.assertEqual(100, first + client.pop().count(b"200 OK"))
        client.send(GET)
        self.assertIn(b"GET /x", self.proxy.accept().pop())


class DeadlineTests(DataPathTestCase):
    """How long a client may make us wait."""

    def test_nothing_comes(self) -> None:
        """A connection on which nothing comes is closed without a word."""
        client = self.proxy.client()
        self.proxy.advance(11)
        self.assertFalse(client.connected)
        self.assertEqual(b"", client.pop())

    def test_a_head_that_trickles(self) -> None:
        """The time for a head is absolute: single bytes do not extend it."""
        client = self.proxy.client()
        for byte in GET[:9]:
            client.send(bytes([byte]))
            self.proxy.advance(1)
        self.assertEqual(b"", client.pop())
        self.proxy.advance(2)
        self.assert_status(408, client)
        self.assert_ended(client)

    def test_between_requests(self) -> None:
        """An idle connection is closed after `timeouts.keep_alive`; empty lines do not extend it."""
        client, upstream = self.begin()
        upstream.send(OK)
        self.proxy.advance(74)
        client.send(b"\r\n")
        self.assertTrue(client.connected)
        self.proxy.advance(2)
        self.assertFalse(client.connected)

    def test_second_head_has_its_own_time(self) -> None:
        """The time for a head runs from its first byte."""
        client, upstream = self.begin()
        upstream.send(OK)
        client.pop()
        self.proxy.advance(60)
        client.send(GET[:10])
        self.proxy.advance(9)
        self.assertEqual(b"", client.pop())
        client.send(GET[10:])
        upstream_again = self.proxy.accept() if len(self.proxy.dialer.dials) > 1 else upstream
        upstream_again.send(OK)
        self.assert_status(200, client)

    def test_last_answer_that_is_taken_slowly(self) -> None:
        """`timeouts.keep_alive` does not cut an answer that is still on its way."""
        client, upstream = self.begin()
        client.stall()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000)
        for _ in range(6):
            self.proxy.advance(50)
            client.take(5_000)
        self.assertTrue(client.connected)
        self.proxy.advance(140)
        self.assertFalse(client.connected)

    def test_last_answer_before_the_end(self) -> None:
        """An answer after which the connection ends is delivered, but not for ever."""
        client, upstream = self.begin(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        client.stall()
        upstream.send(OK)
        self.proxy.advance(59)
        self.assertTrue(client.connected)
        self.proxy.advance(2)
        self.assertFalse(client.connected)

    def test_lingering_is_bounded(self) -> None:
        """After a refusal we drop what comes for two seconds or a MiB, whatever is sooner."""
        for endless in (False, True):
            client = self.proxy.client()
            client.send(b"GET\r\n\r\n")
            self.assertTrue(client.write_closed)
            if endless:
                client.send(b"x" * 600_000)
                client.send(b"x" * 600_000)
                self.proxy.advance()
            else:
                self.proxy.advance(2.2)
            self.assertFalse(client.connected)


class ClientIdleTests(DataPathTestCase):
    """`timeouts.client_idle`."""

    config = Config(timeouts=Timeouts(client_idle=Seconds(5)))

    def test_silent_client_is_dropped(self) -> None:
        """A client that neither sends nor takes anything is dropped, without an answer, whoever is to blame."""
        client, upstream = self.begin()
        self.proxy.advance(6)
        self.assertFalse(client.connected)
        self.assertEqual(b"", client.pop())
        self.assert_ended(upstream)

    def test_silence_in_a_body(self) -> None:
        """A client that sends no more of its body is dropped, without an answer, and so is one that takes no more."""
        client, upstream = self.begin(b"POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n1")
        for _ in range(4):
            self.proxy.advance(4)
            client.send(b"2")
        self.assertTrue(client.connected)
        self.proxy.advance(6)
        self.assertEqual((False, b""), (client.connected, client.pop()))
        self.assert_ended(upstream)
        client, upstream = self.begin()
        client.stall()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000)
        for _ in range(4):
            self.proxy.advance(4)
            client.take(5_000)
        self.assertTrue(client.connected)
        self.proxy.advance(11)
        self.assertFalse(client.connected)
        self.assert_ended(upstream)

    def test_taking_counts(self) -> None:
        """A client that gets something now and then is not silent."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _ in range(4):
            self.proxy.advance(4)
            upstream.send(b"x")
        self.assertTrue(client.connected)
        self.proxy.advance(6)
        self.assertFalse(client.connected)


class DrainTests(DataPathTestCase):
    """`Site.drain`."""

    def test_idle_ends_and_busy_finishes(self) -> None:
        """Idle connections are closed at once; an exchange is finished, and its connection ends then."""
        idle = self.proxy.client()
        half = self.proxy.client()
        half.send(GET[:5])
        client, upstream = self.begin()
        self.proxy.site.drain()
        self.assert_ended(idle)
        self.assert_ended(half)
        upstream.send(OK)
        self.assertIn(b"Connection: close", self.assert_status(200, client))
        self.assert_ended(client)
        self.proxy.advance(3)
        self.assertEqual(set(), self.proxy.site.channels)
