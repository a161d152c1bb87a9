"""Tests of `proxyd.http.exchange`, with the channel and the upstream connection around it."""

from __future__ import annotations

import gc
import weakref

from proxyd.errors import ConnectError, ConnectTimeoutError
from proxyd.model.routes import RouteOptions, RouteTimeouts
from proxyd.model.settings import Config, ErrorSettings, Limits, Timeouts
from proxyd.option import ByteCount, Seconds
from proxyd.testing.harness import Harness

from .support import GET, OK, DataPathTestCase

POST = b"POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n"
CHUNKED_POST = b"POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD_ONLY = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nDate: now\r\n\r\n"


class KeptTests(DataPathTestCase):
    """What is left of an exchange that is over."""

    def test_an_idle_connection_keeps_nothing_of_it(self) -> None:
        """Neither the request nor its client, whose connection may have ended since."""
        client, upstream = self.begin()
        requests = [weakref.ref(client.protocol.request), weakref.ref(client.protocol)]
        upstream.send(OK)
        client.close()
        self.proxy.advance()
        del client
        gc.collect()
        self.assertEqual(1, self.proxy.pools.idle)
        self.assertEqual([None, None], [reference() for reference in requests])

    def test_an_idle_client_keeps_nothing_of_it(self) -> None:
        """Nor does it keep what stood behind the body and was skipped."""
        client, upstream = self.begin(POST)
        client.send(b"0123456789" + b"\r\n" * 50_000)
        upstream.send(OK)
        self.proxy.advance()
        rest = [each for each in gc.get_referents(client.protocol.__dict__) if hasattr(each, "rest")]
        self.assertEqual([b""], [each.rest for each in rest])


class SmallExchangeTests(DataPathTestCase):
    """A request and a response that come in one piece each."""

    def test_both_go_through(self) -> None:
        """The upstream gets the request, the client the response, each in one write."""
        client, upstream = self.begin()
        self.assertEqual(
            b"GET /x HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Port: 80\r\n"
            b"X-Forwarded-Proto: http\r\nX-Forwarded-Host: a.test\r\n\r\n",
            upstream.pop(),
        )
        upstream.send(OK)
        self.assertEqual(b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n\r\nok", client.pop())
        self.assertTrue(client.connected)

    def test_nothing_is_left_to_the_garbage_collector(self) -> None:
        """What an exchange was made of is gone with it: no cycle keeps it until somebody looks."""
        client, upstream = self.begin()
        upstream.send(OK)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for _ in range(20):
            client.send(GET)
            upstream.send(OK)
        self.assertEqual(gc.collect(), 0)

    def test_both_go_through_byte_by_byte(self) -> None:
        """It does not matter how the bytes of either head are cut into packets."""
        client = self.proxy.client()
        client.send_slowly(GET)
        upstream = self.proxy.accept()
        upstream.send_slowly(OK)
        self.assertEqual(b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n\r\nok", client.pop())

    def test_connections_are_used_again(self) -> None:
        """A second request takes the connection of the first one, on both sides."""
        client, upstream = self.begin()
        upstream.send(OK)
        client.send(GET)
        upstream.send(OK)
        self.assertEqual(2, client.pop().count(b"200 OK"))
        self.assertEqual(1, len(self.proxy.dialer.dials))

    def test_date_is_added_if_missing(self) -> None:
        """A response without Date gets one (RFC 9110 §6.6.1)."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.assertIn(b"\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n", client.pop())

    def test_client_that_closes_is_told_so(self) -> None:
        """After `Connection: close` the answer says it, too, and the connection ends."""
        client, upstream = self.begin(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        self.assertNotIn(b"Connection", upstream.pop())
        upstream.send(OK)
        self.assertIn(b"\r\nConnection: close\r\n", client.pop())
        self.assert_ended(client)

    def test_upstream_that_closes_does_not_close_the_client(self) -> None:
        """The client's connection is kept alive whatever the upstream does with its own."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nKeep-Alive: timeout=5\r\n\r\nok")
        answer = client.pop()
        self.assertNotIn(b"close", answer)
        self.assertNotIn(b"Keep-Alive", answer)
        self.assert_ended(upstream)
        client.send(GET)
        self.assertEqual(2, len(self.proxy.dialer.dials))

    def test_http_1_0(self) -> None:
        """An HTTP/1.0 client gets no chunks, and its connection is closed unless it asked to keep it."""
        for request, keeps in (
            (b"GET / HTTP/1.0\r\n\r\n", False),
            (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        ):
            client, upstream = self.begin(request)
            self.assertIn(b"GET / HTTP/1.1\r\nHost: up.test:81\r\n", upstream.pop())
            upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
            answer = client.pop()
            self.assertTrue(answer.endswith(b"\r\n\r\nok"), answer)
            self.assertNotIn(b"chunked", answer)
            self.assert_ended(client)
            client, upstream = self.begin(request)
            upstream.send(OK)
            self.assertEqual(keeps, b"Connection: keep-alive" in client.pop())
            self.proxy.advance()
            self.assertEqual(keeps, client.connected)

    def test_bodiless_responses(self) -> None:
        """HEAD, 204 and 304 have no body, whatever their fields say, and the connection stays usable."""
        cases = (
            (b"HEAD", b"200 OK\r\nContent-Length: 7", b"Content-Length: 7"),
            (b"HEAD", b"200 OK\r\nTransfer-Encoding: chunked", b""),
            (b"HEAD", b"200 OK", b""),
            (b"GET", b"204 No Content", b""),
            (b"GET", b"204 No Content\r\nContent-Length: 0", b""),
            (b"GET", b"304 Not Modified\r\nContent-Length: 7", b"Content-Length: 7"),
            (b"GET", b"304 Not Modified", b""),
        )
        for method, status, told in cases:
            client = self.proxy.client()
            client.send(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
            if not self.proxy.dialer.dials[0].result.called:
                upstream = self.proxy.accept()
            upstream.send(b"HTTP/1.1 " + status + b"\r\nDate: now\r\n\r\n")
            answer = client.pop()
            lines = answer.split(b"\r\n")
            self.assertEqual(
                [told] if told else [], [line for line in lines if b"Length" in line or b"Tran" in line], answer
            )
            self.assertTrue(answer.endswith(b"\r\n\r\n"))
            client.send(GET)
            upstream.send(OK)
            self.assertTrue(client.pop().endswith(b"\r\n\r\nok"))

    def test_expect_is_met_by_us(self) -> None:
        """A client that waits for 100 gets it once the upstream is there; the upstream never hears of it."""
        client = self.proxy.client()
        client.send(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        self.assertEqual(b"", client.pop())
        upstream = self.proxy.accept()
        self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", client.pop())
        self.assertNotIn(b"Expect", upstream.pop())
        client.send(b"0123456789")
        self.assertEqual(b"0123456789", upstream.pop())
        upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
        self.assert_status(200, client)

    def test_expect_is_not_met_if_there_is_nobody(self) -> None:
        """Without an upstream the client is not asked for its body; it gets the error, and the connection ends."""
        client = self.proxy.client()
        client.send(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        self.proxy.dialer.dials[-1].fail(ConnectError("up.test:81", "refused"))
        self.assertIn(b"Connection: close", self.assert_status(502, client))
        self.assert_ended(client)

    def test_interim_responses(self) -> None:
        """1xx never end the exchange; all but 100 are passed on to HTTP/1.1 clients (RFC 9110 §15.2)."""
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        for version, passed in ((b"1", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), (b"0", b"")):
            client, upstream = self.begin(b"GET / HTTP/1." + version + b"\r\nHost: a\r\n\r\n")
            upstream.send(interim)
            self.assertEqual(passed, client.pop())
            upstream.send_slowly(interim)
            self.assertEqual(passed, client.pop())
            upstream.send(OK)
            self.assert_status(200, client)

    def test_access_line(self) -> None:
        """Each exchange is one line, without the query, with status, size and time."""
        _client, upstream = self.begin(
            b"GET /x?token=geheim HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\nReferer: http://r/?t=geheim\r\n\r\n"
        )
        self.proxy.advance(0.5)
        upstream.send(OK)
        (line,) = self.proxy.access.lines
        self.assertRegex(line, r'^192\.0\.2\.1 - - \[.*\] "GET /x HTTP/1\.1" 200 2 "http://r/" "me" 0\.5000 -\n$')
        self.assertNotIn("geheim", line)


class BodyTests(DataPathTestCase):
    """Bodies that take their time."""

    def test_upload_streams(self) -> None:
        """Pieces of a body go on as they come; the length stays the client's."""
        client, upstream = self.begin(POST)
        self.assertIn(b"\r\nContent-Length: 10\r\n", upstream.pop())
        client.send(b"01234")
        self.assertEqual(b"01234", upstream.pop())
        client.send(b"56789")
        self.assertEqual(b"56789", upstream.pop())
        upstream.send(OK)
        self.assert_status(200, client)
        client.send(GET)
        self.assertIn(b"GET /x", upstream.pop())

    def test_upload_in_one_packet_is_one_write(self) -> None:
        """A small body that came with its head leaves with its head."""
        client = self.proxy.client()
        client.send(POST + b"0123456789")
        upstream = self.proxy.accept()
        self.assertTrue(upstream.pop().endswith(b"\r\n\r\n0123456789"))

    def test_chunked_upload(self) -> None:
        """A chunked body arrives chunked, its extensions and trailers dropped."""
        client, upstream = self.begin(CHUNKED_POST)
        self.assertIn(b"\r\nTransfer-Encoding: chunked\r\n", upstream.pop())
        client.send(b"5;ext=1\r\n01234\r\n")
        self.assertEqual(b"5\r\n01234\r\n", upstream.pop())
        client.send(b"0\r\nX-Trailer: a\r\n\r\n")
        self.assertEqual(b"0\r\n\r\n", upstream.pop())

    def test_chunked_upload_byte_by_byte(self) -> None:
        """It does not matter how a chunked body is cut into packets."""
        client, upstream = self.begin(CHUNKED_POST)
        upstream.pop()
        client.send_slowly(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        self.assertEqual(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n1\r\nd\r\n1\r\ne\r\n0\r\n\r\n", upstream.pop())

    def test_chunked_upload_in_one_packet(self) -> None:
        """A whole chunked body that came with its head leaves with it."""
        client = self.proxy.client()
        client.send(CHUNKED_POST + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        upstream = self.proxy.accept()
        self.assertTrue(upstream.pop().endswith(b"\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"))

    def test_empty_chunked_upload(self) -> None:
        """A chunked body of nothing is announced and ended alike."""
        client = self.proxy.client()
        client.send(b"DELETE /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        upstream = self.proxy.accept()
        got = upstream.pop()
        self.assertIn(b"\r\nTransfer-Encoding: chunked\r\n", got)
        self.assertTrue(got.endswith(b"\r\n\r\n0\r\n\r\n"), got)

    def test_download_streams(self) -> None:
        """The head and each piece of a body are passed on at once."""
        client, upstream = self.begin()
        upstream.send(HEAD_ONLY)
        self.assertIn(b"200 OK", client.pop())
        upstream.send(b"01234")
        self.assertEqual(b"01234", client.pop())
        upstream.send(b"56789")
        self.assertEqual(b"56789", client.pop())
        client.send(GET)
        upstream.send(OK)
        self.assert_status(200, client)

    def test_chunked_download(self) -> None:
        """Chunks are passed on one by one, without extensions and trailers."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n")
        self.assertIn(b"Transfer-Encoding: chunked\r\n", head := client.pop())
        self.assertNotIn(b"Trailer", head)
        upstream.send(b"5;a=b\r\n01234\r\n")
        self.assertEqual(b"5\r\n01234\r\n", client.pop())
        upstream.send(b"0\r\nX: y\r\n\r\n")
        self.assertEqual(b"0\r\n\r\n", client.pop())
        self.assertTrue(client.connected)

    def test_download_until_close(self) -> None:
        """A body that lasts until the upstream closes is chunked for the client, whose connection stays."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.0 200 OK\r\n\r\nabc")
        self.assertTrue(client.pop().endswith(b"\r\n\r\n3\r\nabc\r\n"))
        upstream.close()
        self.proxy.advance()
        self.assertEqual(b"0\r\n\r\n", client.pop())
        self.assertTrue(client.connected)

    def test_slow_client_slows_the_upstream(self) -> None:
        """While the client takes nothing, no more is read from the upstream than one buffer."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        client.stall()
        upstream.send(b"x" * 100_000)
        self.assertFalse(upstream.is_reading)
        client.take()
        self.assertTrue(upstream.is_reading)
        upstream.send(b"x" * 900_000)
        self.assertEqual(1_000_000, client.pop().count(b"x"))

    def test_client_that_is_slow_at_the_end_slows_nobody_else(self) -> None:
        """The last piece is not taken yet, but read: the connection serves the next request of another client."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        client.stall()
        upstream.send(b"x" * 100_000)
        other = self.proxy.client()
        other.send(GET)
        self.assertEqual(2, upstream.pop().count(b"GET /x "))
        upstream.send(OK)
        self.assert_status(200, other)
        self.assertEqual(1, len(self.proxy.dialer.dials))
        client.take()
        self.assertEqual(100_000, client.pop().count(b"x"))

    def test_slow_upstream_slows_the_client(self) -> None:
        """While the upstream takes nothing, no more is read from the client than one buffer."""
        client, upstream = self.begin(POST.replace(b"10", b"1000000"))
        upstream.stall()
        client.send(b"x" * 100_000)
        self.assertFalse(client.is_reading)
        upstream.take()
        self.assertTrue(client.is_reading)
        client.send(b"x" * 900_000)
        self.assertEqual(1_000_000, len(upstream.pop().partition(b"\r\n\r\n")[2]))

    def test_body_waits_for_the_upstream(self) -> None:
        """While the connection is being made, the rest of a body is not read, and nothing is lost."""
        client = self.proxy.client()
        client.send(POST + b"01")
        self.assertFalse(client.is_reading)
        client.send(b"23456789")
        upstream = self.proxy.accept()
        self.proxy.advance()
        self.assertTrue(upstream.pop().endswith(b"\r\n\r\n0123456789"))

    def test_early_answer(self) -> None:
        """An answer before the end of the upload is passed on, and both connections end."""
        client, upstream = self.begin(POST + b"012")
        upstream.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        self.assertIn(b"Connection: close", self.assert_status(413, client))
        self.assertTrue(client.write_closed)
        client.send(b"3456789")
        self.assertEqual(b"", client.pop())
        self.assert_ended(upstream)
        self.proxy.advance(3)
        self.assertFalse(client.connected)

    def test_answer_while_the_upload_goes_on(self) -> None:
        """Both directions may flow at the same time."""
        client, upstream = self.begin(CHUNKED_POST)
        upstream.pop()
        upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.pop()
        for piece in (b"a", b"b"):
            client.send(b"1\r\n" + piece + b"\r\n")
            self.assertEqual(b"1\r\n" + piece + b"\r\n", upstream.pop())
            upstream.send(b"1\r\n" + piece + b"\r\n")
            self.assertEqual(b"1\r\n" + piece + b"\r\n", client.pop())
        client.send(b"0\r\n\r\n")
        upstream.send(b"0\r\n\r\n")
        self.assertEqual(b"0\r\n\r\n", client.pop())
        self.assertTrue(upstream.connected)


class BodyLimitTests(DataPathTestCase):
    """`limits.body`."""

    config = Config(limits=Limits(body=ByteCount(10)))

    def test_announced_length(self) -> None:
        """A body that is announced as too long is refused before anybody is called."""
        client = self.proxy.client()
        client.send(POST.replace(b"10", b"11"))
        self.assert_status(413, client)
        self.assert_ended(client)
        self.assertEqual([], self.proxy.dialer.dials)

    def test_chunked_length(self) -> None:
        """A chunked body is cut off when it grows too long."""
        client, upstream = self.begin(CHUNKED_POST)
        client.send(b"b\r\n01234567890\r\n")
        self.assert_status(413, client)
        self.assert_ended(client)
        self.assert_ended(upstream)


class FaultTests(DataPathTestCase):
    """What goes wrong, and what the client learns of it."""

    def test_refused(self) -> None:
        """An upstream that cannot be reached is 502, and the connection stays."""
        client = self.proxy.client()
        client.send(GET)
        self.proxy.dialer.dials[-1].fail(ConnectError("up.test:81", "refused"))
        answer = self.assert_status(502, client)
        self.assertNotIn(b"up.test", answer)
        self.assertTrue(client.connected)
        self.assertIn(" 502 ", self.proxy.access.lines[0])

    def test_too_slow_to_connect(self) -> None:
        """An upstream that does not accept in time is 504."""
        client = self.proxy.client()
        client.send(GET)
        self.assertEqual(5, self.proxy.dialer.dials[-1].seconds)
        self.proxy.dialer.dials[-1].fail(ConnectTimeoutError("up.test:81"))
        self.assert_status(504, client)

    def test_silent(self) -> None:
        """An upstream that does not answer within `timeouts.response` is 504, and its connection ends."""
        client, upstream = self.begin()
        self.proxy.advance(299)
        self.assertEqual(b"", client.pop())
        self.proxy.advance(2)
        self.assert_status(504, client)
        self.assert_ended(upstream)

    def test_a_slow_head_is_not_silence(self) -> None:
        """Interim responses and pieces of a head show that the upstream is at work; between them it may be silent."""
        client, upstream = self.begin()
        for piece in (b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n", OK[:9], OK[9:20]):
            self.proxy.advance(299)
            upstream.send(piece)
        self.proxy.advance(299)
        client.pop()
        upstream.send(OK[20:])
        self.assert_status(200, client)
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        client.pop()
        self.proxy.advance(301)
        self.assert_status(504, client)
        self.assert_ended(upstream)

    def test_a_slow_upload_is_not_silence(self) -> None:
        """The upstream's time runs from the end of the upload, not from its beginning."""
        client, _upstream = self.begin(POST)
        for byte in b"012345678":
            self.proxy.advance(50)
            client.send(bytes([byte]))
        self.proxy.advance(50)
        client.send(b"9")
        self.proxy.advance(299)
        self.assertEqual(b"", client.pop())
        self.proxy.advance(2)
        self.assert_status(504, client)

    def test_upload_that_is_not_taken(self) -> None:
        """An upstream that takes no more of an upload is silent, too."""
        client, upstream = self.begin(POST.replace(b"10", b"1000000"))
        upstream.stall()
        client.send(b"x" * 100_000)
        self.proxy.advance(301)
        self.assert_status(504, client)
        self.assert_ended(client)

    def test_garbage(self) -> None:
        """What is not HTTP is 502."""
        for garbage in (
            b"SSH-2.0-x\r\n",
            b"HTTP/1.1 999 X\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA b\r\n\r\n",
            b"\r\n\r\n",
            b"<html>",
        ):
            client, upstream = self.begin()
            upstream.send(garbage)
            self.assert_status(502, client)
            self.assert_ended(upstream)

    def test_illegal_framing_of_a_response(self) -> None:
        """A response that could be read in two ways is 502, and nothing of it is passed on."""
        for fields in (
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
            b"Content-Length: 5\r\nContent-Length: 5",
            b"Content-Length: +5",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: gzip",
        ):
            client, upstream = self.begin()
            upstream.send(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n12345")
            self.assertNotIn(b"12345", self.assert_status(502, client), fields)

    def test_endless_head(self) -> None:
        """A head without an end is given up at `limits.headers`."""
        client, upstream = self.begin()
        for _ in range(70):
            upstream.send(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 1000 + b"\r\n" if not client.received else b"")
        self.assert_status(502, client)

    def test_interim_storm(self) -> None:
        """More 1xx than `limits.interim_responses` are a fault."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 17)
        self.assert_status(502, client)

    def test_cut_before_the_head_is_complete(self) -> None:
        """A connection that ends inside the head is 502."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Le")
        upstream.close()
        self.proxy.advance()
        self.assert_status(502, client)

    def test_cut_in_the_body(self) -> None:
        """A response that is cut is never complete for the client: its connection ends, without a last chunk."""
        for head, body in (
            (b"Content-Length: 10", b"abc"),
            (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n"),
            (b"Transfer-Encoding: chunked", b"3\r\nab"),
        ):
            for end in ("close", "reset"):
                client, upstream = self.begin()
                upstream.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body)
                getattr(upstream, end)()
                self.proxy.advance()
                self.assert_ended(client)
                self.assertFalse(client.pop().endswith(b"0\r\n\r\n"))

    def test_reset_of_a_body_until_close(self) -> None:
        """A body whose end is the end of the connection is complete after FIN only; an old client sees a reset."""
        client, upstream = self.begin(b"GET / HTTP/1.0\r\n\r\n")
        upstream.send(b"HTTP/1.0 200 OK\r\n\r\nabc")
        upstream.reset()
        self.proxy.advance()
        self.assertEqual("ConnectionAborted", client.ended_by.__name__)
        client, upstream = self.begin(b"GET / HTTP/1.0\r\n\r\n")
        upstream.send(b"HTTP/1.0 200 OK\r\n\r\nabc")
        upstream.close()
        self.proxy.advance()
        self.assertEqual("ConnectionDone", client.ended_by.__name__)

    def test_broken_chunks(self) -> None:
        """Chunks that break their framing cut the response."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        upstream.send(b"xyz\r\n")
        self.assert_ended(client)
        self.assertFalse(client.pop().endswith(b"0\r\n\r\n"))
        self.assert_ended(upstream)

    def test_more_than_the_length(self) -> None:
        """Bytes behind a response are nobody's: they are dropped with the connection they came on."""
        client, upstream = self.begin()
        upstream.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        self.assertTrue(client.pop().endswith(b"ok"))
        self.assert_ended(upstream)

    def test_unexpected_101(self) -> None:
        """A 101 that nobody asked for is a fault."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
        self.assert_status(502, client)
        self.assert_ended(upstream)

    def test_malformed_chunks_of_the_client(self) -> None:
        """A broken upload is 400, and the upstream's request is cut."""
        client, upstream = self.begin(CHUNKED_POST)
        client.send(b"0x5\r\nabcde\r\n")
        self.assert_status(400, client)
        self.assert_ended(client)
        self.assert_ended(upstream)

    def test_stuck_upload(self) -> None:
        """A client that stops in the middle of its body gets 408."""
        client, upstream = self.begin(POST + b"012")
        self.proxy.advance(61)
        self.assert_status(408, client)
        self.assert_ended(client)
        self.assert_ended(upstream)

    def test_stuck_download(self) -> None:
        """A client that takes nothing for `timeouts.body_idle` is cut, and the upstream with it."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        client.stall()
        upstream.send(b"x" * 200_000)
        self.proxy.advance(61)
        self.assertFalse(client.connected)
        self.assert_ended(upstream)

    def test_slow_download_is_not_stuck(self) -> None:
        """A client that takes a little now and then is served."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n")
        client.stall()
        upstream.send(b"x" * 200_000)
        for _ in range(5):
            self.proxy.advance(50)
            client.take(10_000)
        self.assertTrue(client.connected)
        client.take()
        self.assertEqual(200_000, client.pop().count(b"x"))


class IdleUpstreamTests(DataPathTestCase):
    """`timeouts.idle`, and those of a route."""

    config = Config(timeouts=Timeouts(idle=Seconds(10)))

    def test_silence_in_a_body(self) -> None:
        """An upstream that falls silent in the middle of a body is cut."""
        client, upstream = self.begin()
        upstream.send(HEAD_ONLY)
        self.proxy.advance(9)
        upstream.send(b"0")
        self.proxy.advance(9)
        self.assertTrue(client.connected)
        self.proxy.advance(2)
        self.assert_ended(client)
        self.assert_ended(upstream)

    def test_slow_client_is_not_the_upstreams_silence(self) -> None:
        """Time in which the client takes nothing does not count."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n")
        client.stall()
        upstream.send(b"x" * 100_000)
        self.proxy.advance(30)
        client.take()
        upstream.send(b"x" * 200_000)
        self.assertEqual(300_000, client.pop().count(b"x"))

    def test_a_route_has_its_own(self) -> None:
        """The waits of a route come before the global ones."""
        waits = RouteTimeouts(connect=Seconds(1), response=Seconds(2))
        self.proxy.add_route("/", "http://up.test:81", RouteOptions(timeouts=waits))
        client, _ = self.begin()
        self.assertEqual(1, self.proxy.dialer.dials[-1].seconds)
        self.proxy.advance(2.5)
        self.assert_status(504, client)


class ChpStatusTests(DataPathTestCase):
    """`errors.statuses: chp`."""

    config = Config(errors=ErrorSettings(statuses="chp"))

    def test_every_fault_of_an_upstream_is_503(self) -> None:
        """configurable-http-proxy knows no other gateway status."""
        client = self.proxy.client()
        client.send(GET)
        self.proxy.dialer.dials[-1].fail(ConnectError("up.test:81", "refused"))
        self.assertIn(b"503: Proxy Target Missing", self.assert_status(503, client))
        client, _upstream = self.begin()
        self.proxy.advance(301)
        self.assert_status(503, client)


class ReuseTests(DataPathTestCase):
    """Connections that were kept."""

    def idle(self) -> tuple[object, object]:
        """A client, and an idle connection to the upstream."""
        client, upstream = self.begin()
        upstream.send(OK)
        client.pop()
        upstream.pop()
        return client, upstream

    def test_closed_while_idle(self) -> None:
        """A connection that the upstream closed is not used again."""
        client, upstream = self.idle()
        upstream.close()
        self.proxy.advance()
        client.send(GET)
        self.assertEqual(2, len(self.proxy.dialer.dials))

    def test_closed_at_the_moment_of_reuse(self) -> None:
        """An idempotent request without a body is repeated on a fresh connection, once."""
        client, upstream = self.idle()
        client.send(GET)
        upstream.close()
        self.proxy.advance()
        fresh = self.proxy.accept()
        self.assertIn(b"GET /x HTTP/1.1", fresh.pop())
        fresh.send(OK)
        self.assert_status(200, client)

    def test_repeated_only_once(self) -> None:
        """A fresh connection that ends is a fault, not a reason to try for ever."""
        client, upstream = self.idle()
        client.send(GET)
        upstream.close()
        self.proxy.advance()
        self.proxy.accept().close()
        self.proxy.advance()
        self.assert_status(502, client)
        self.assertEqual(2, len(self.proxy.dialer.dials))

    def test_not_repeated_after_the_first_byte(self) -> None:
        """Once some of an answer came, an interim one included, the request has been acted upon."""
        for came in (b"HTTP/1.1 200", b"HTTP/1.1 100 Continue\r\n\r\n"):
            client, upstream = self.idle()
            client.send(GET)
            upstream.send(came)
            upstream.close()
            self.proxy.advance()
            self.assert_status(502, client)

    def test_post_is_never_repeated(self) -> None:
        """A POST is delivered at most once."""
        for body in (b"0123456789", b""):
            client, upstream = self.idle()
            client.send(POST.replace(b"10", b"%d" % len(body)) + body)
            upstream.close()
            self.proxy.advance()
            self.assert_status(502, client)

    def test_post_avoids_a_connection_that_is_gone(self) -> None:
        """What cannot be repeated is not sent where the end has come already, though it is not read yet."""
        client, upstream = self.idle()
        upstream.is_reading = False
        upstream.close()
        client.send(POST + b"0123456789")
        self.assertEqual(b"", upstream.pop())
        self.assertIn(b"POST", self.proxy.accept().pop())

    def test_unasked_bytes_end_an_idle_connection(self) -> None:
        """What an upstream says without being asked is no answer to the next request."""
        client, upstream = self.idle()
        upstream.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        self.assert_ended(upstream)
        client.send(GET)
        self.assertEqual(2, len(self.proxy.dialer.dials))

    def test_idle_for_too_long(self) -> None:
        """An idle connection is closed after `pool.idle_seconds`."""
        _, upstream = self.idle()
        self.proxy.advance(59)
        self.assertTrue(upstream.connected)
        self.proxy.advance(2)
        self.assertFalse(upstream.connected)

    def test_not_kept_when_the_upstream_says_so(self) -> None:
        """`Connection: close` and HTTP/1.0 end the connection after the response."""
        for response in (
            OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
            OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
        ):
            _client, upstream = self.begin()
            upstream.send(response)
            self.assert_ended(upstream)


class ClientGoneTests(DataPathTestCase):
    """A client that disappears ends the upstream's request at once, however it goes."""

    def test_in_each_phase(self) -> None:
        """Before the answer, in the download, in the upload; by FIN and by RST."""
        for end in ("close", "reset"):
            for request, response in (
                (GET, b""),
                (GET, HEAD_ONLY + b"01"),
                (POST + b"01", b""),
                (CHUNKED_POST, HEAD_ONLY),
            ):
                client, upstream = self.begin(request)
                upstream.send(response) if response else None
                getattr(client, end)()
                self.proxy.advance()
                self.assertFalse(upstream.connected, (end, request, response))

    def test_while_connecting(self) -> None:
        """The attempt to connect is given up."""
        client = self.proxy.client()
        client.send(GET)
        client.close()
        self.proxy.advance()
        self.assertTrue(self.proxy.dialer.dials[-1].is_cancelled)
        self.assertIn(" 499 ", self.proxy.access.lines[0])

    def test_while_not_read(self) -> None:
        """It is noticed although nothing is read: the upstream is slow, or a next request came."""
        client, upstream = self.begin(POST.replace(b"10", b"1000000"))
        upstream.stall()
        client.send(b"x" * 100_000)
        self.assertFalse(client.is_reading)
        client.close()
        self.proxy.advance()
        self.assertFalse(upstream.connected)
        client, upstream = self.begin(GET)
        client.send(GET)
        self.assertFalse(client.is_reading)
        client.close()
        self.proxy.advance()
        self.assertFalse(upstream.connected)


class ActivityTests(DataPathTestCase):
    """`last_activity` (contract of configurable-http-proxy, section 10)."""

    def active(self) -> float:
        """When something last happened on the route."""
        entry = self.proxy.table.get("/")
        assert entry is not None
        return entry.last_activity

    def test_what_counts(self) -> None:
        """The end of a successful response, pieces of it, and pieces of a request's body; nothing else."""
        client, upstream = self.begin(POST)
        self.proxy.advance(10)
        client.send(b"01234")
        self.assertAlmostEqual(10, self.active())
        self.proxy.advance(10)
        client.send(b"56789")
        self.assertAlmostEqual(20, self.active())
        self.proxy.advance(10)
        upstream.send(HEAD_ONLY)
        self.assertAlmostEqual(30, self.active())
        self.proxy.advance(10)
        upstream.send(b"01234")
        self.assertAlmostEqual(40, self.active())
        self.proxy.advance(10)
        upstream.send(b"56789")
        self.assertAlmostEqual(50, self.active())

    def test_what_does_not_count(self) -> None:
        """3xx, 4xx, 5xx and errors of the proxy leave the time as it was."""
        for status in (b"302 Found", b"404 Not Found", b"500 Error"):
            self.proxy.advance(10)
            client, upstream = self.begin()
            upstream.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n")
            upstream.send(b"no")
            upstream.close()
            self.proxy.advance()
            self.assertEqual(0, self.active())
        client = self.proxy.client()
        client.send(GET)
        self.proxy.dialer.dials[-1].fail(ConnectError("up.test:81", "refused"))
        client.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(0, self.active())

    def test_deleted_route(self) -> None:
        """Activity of a route that is gone is nobody's, and harmless."""
        client, upstream = self.begin()
        self.proxy.delete_route("/")
        upstream.send(OK)
        self.assert_status(200, client)


class ErrorTargetTests(DataPathTestCase):
    """`errors.target`."""

    config = Config(errors=ErrorSettings(target="http://pages.test/errors"))  # type: ignore[arg-type]

    def setUp(self) -> None:
        self.proxy = Harness(routes={"/known": "http://up.test:81"}, config=self.config)

    def test_page_of_the_target(self) -> None:
        """The target is asked without anything of the client; its body goes out under the status of the error."""
        client = self.proxy.client()
        client.send(b"GET /a%20b?c=d&e HTTP/1.1\r\nHost: a\r\nCookie: secret\r\nAuthorization: secret\r\n\r\n")
        target = self.proxy.accept()
        self.assertEqual(
            b"GET /errors/404?url=%2Fa%2520b%3Fc%3Dd%26e HTTP/1.1\r\nHost: pages.test\r\n\r\n", target.pop()
        )
        target.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Encoding: gzip\r\nSet-Cookie: no\r\n"
            b"Content-Length: 4\r\n\r\npage"
        )
        answer = self.assert_status(404, client)
        self.assertIn(b"Content-Type: text/x\r\nContent-Encoding: gzip\r\n", answer)
        self.assertNotIn(b"Set-Cookie", answer)
        self.assertTrue(answer.endswith(b"\r\n\r\npage"))
        self.assertTrue(client.connected)
        client.send(GET)
        self.assertIn(b"/errors/404?url=%2Fx ", target.pop())

    def test_streamed_page(self) -> None:
        """A page of unknown length goes out in chunks."""
        client = self.proxy.client()
        client.send(GET)
        target = self.proxy.accept()
        target.send(b"HTTP/1.1 200 OK\r\n\r\npa")
        target.send(b"ge")
        target.close()
        self.proxy.advance()
        self.assertTrue(self.assert_status(404, client).endswith(b"\r\n\r\n2\r\npa\r\n2\r\nge\r\n0\r\n\r\n"))

    def test_head(self) -> None:
        """A HEAD gets the head of the page, and the connection stays usable."""
        client = self.proxy.client()
        client.send(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n")
        target = self.proxy.accept()
        self.assertIn(b"GET /errors/404", target.pop())
        target.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage")
        answer = self.assert_status(404, client)
        self.assertIn(b"Content-Length: 4", answer)
        self.assertTrue(answer.endswith(b"\r\n\r\n"))
        self.assertTrue(client.connected)

    def test_dead_target(self) -> None:
        """If the target fails before it answers, the built-in page takes its place, with the status of the error."""
        client = self.proxy.client()
        client.send(GET)
        self.proxy.dialer.dials[-1].fail(ConnectError("pages.test:80", "refused"))
        self.assertIn(b"404: Not Found", self.assert_status(404, client))
        client.send(GET)
        self.proxy.accept().send(b"garbage")
        self.assert_status(404, client)
        client.send(GET)
        self.proxy.accept()
        self.proxy.advance(11)
        self.assert_status(404, client)

    def test_target_on_a_kept_connection(self) -> None:
        """A kept connection that ends is replaced; a target that stays silent on it is not asked a second time."""
        client = self.proxy.client()
        client.send(GET)
        target = self.proxy.accept()
        target.send(OK)
        self.assert_status(404, client)
        client.send(GET)
        target.close()
        self.proxy.advance()
        target = self.proxy.accept()
        target.send(OK)
        self.assert_status(404, client)
        client.send(GET)
        self.proxy.advance(11)
        self.assertIn(b"404: Not Found", self.assert_status(404, client))
        self.assertEqual(2, len(self.proxy.dialer.dials))

    def test_cut_page(self) -> None:
        """A page that is cut is never complete."""
        client = self.proxy.client()
        client.send(GET)
        target = self.proxy.accept()
        target.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npage")
        target.close()
        self.proxy.advance()
        self.assert_ended(client)
        client = self.proxy.client()
        client.send(GET)
        target = self.proxy.accept()
        target.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npage")
        self.proxy.advance(11)
        self.assert_ended(client)

    def test_client_that_takes_no_more(self) -> None:
        """A page is not fetched faster than it is taken, and a client that stops taking it is given up."""
        client = self.proxy.client()
        client.send(GET)
        target = self.proxy.accept()
        client.stall()
        target.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000)
        for _ in range(3):
            self.proxy.advance(40)
            client.take(50_000)
        self.assertTrue(client.connected)
        self.proxy.advance(121)
        self.assertFalse(client.connected)
        self.assert_ended(target)

    def test_client_gone(self) -> None:
        """Nobody waits for the page any more: it is not fetched to its end."""
        client = self.proxy.client()
        client.send(GET)
        target = self.proxy.accept()
        client.close()
        self.proxy.advance()
        self.assertFalse(target.connected)

    def test_websocket_gets_no_page(self) -> None:
        """A handshake is refused with a bare status; nobody is asked for a page."""
        client = self.proxy.client()
        client.send(
            b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"
        )
        self.assertIn(b"Content-Length: 0\r\n", self.assert_status(404, client))
        self.assertEqual([], self.proxy.dialer.dials)
        self.assert_ended(client)

    def test_upstream_errors_are_the_upstreams(self) -> None:
        """A 404 or 500 that an upstream answers itself is passed on."""
        client = self.proxy.client()
        client.send(b"GET /known HTTP/1.1\r\nHost: a\r\n\r\n")
        self.proxy.accept().send(b"HTTP/1.1 500 Mine\r\nContent-Length: 4\r\n\r\nmine")
        self.assertTrue(client.pop().endswith(b"mine"))
        self.assertEqual(1, len(self.proxy.dialer.dials))

    def test_upload_is_not_awaited(self) -> None:
        """An error for a request whose body is still coming ends the connection after the page."""
        client = self.proxy.client()
        client.send(POST)
        self.proxy.accept().send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage")
        self.assertIn(b"Connection: close", self.assert_status(404, client))
        self.assert_ended(client)
