"""Tests of `proxyd.websocket.relay` and `proxyd.websocket.ends`, with both ends in memory."""

from __future__ import annotations

import zlib
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from proxyd.core.closing import Close
from proxyd.model.relay import RelaySettings
from proxyd.model.routes import RouteOptions
from proxyd.option import ByteCount, Seconds
from proxyd.testing.transports import MemoryTransport
from tests.http.support import DataPathTestCase
from tests.websocket.frames import (
    BINARY,
    CLOSE,
    COMPRESSED,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_frame,
    frame,
    read_close,
    read_frames,
)
from tests.websocket.test_tunnel import AGREED, HANDSHAKE

LIMIT = 100_000
_PIECES = st.one_of(
    st.binary(max_size=20),
    st.builds(
        frame,
        st.sampled_from([CONTINUATION, TEXT, BINARY, 3, CLOSE, PING, PONG]),
        st.binary(max_size=130) | st.sampled_from([b"", b"\x03\xe8", b"\x0f\xa0bye", "ö".encode()]),
        fin=st.booleans(),
        rsv=st.sampled_from([0, 0, 0, 1, COMPRESSED]),
        mask=st.booleans(),
    ),
)
DEFLATES = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"

_EVENTS = st.sampled_from(["message", "goodbye", "piece", "stall", "take", "close", "reset", "go_away", "wait"])


def packed(data: bytes) -> bytes:
    """The payload of a compressed message."""
    packing = zlib.compressobj(wbits=-15)
    return (packing.compress(data) + packing.flush(zlib.Z_SYNC_FLUSH))[:-4]


class RelayTestCase(DataPathTestCase):
    """A route whose WebSockets are relayed."""

    settings = RelaySettings(
        kind="relay",
        max_message_size=ByteCount(LIMIT),
        ping_interval=Seconds(30),
        ping_timeout=Seconds(20),
        close_timeout=Seconds(5),
    )

    def setUp(self) -> None:
        super().setUp()
        self.relay_with(self.settings)

    def relay_with(self, settings: RelaySettings) -> None:
        """Relay the WebSockets of the route with other settings."""
        self.proxy.add_route("/", "http://up.test:81", RouteOptions(websocket=settings))

    def relay(self, handshake: bytes = HANDSHAKE, agreed: bytes = AGREED) -> tuple[MemoryTransport, MemoryTransport]:
        """An open relay, both ends."""
        client, upstream = self.begin(handshake)
        upstream.send(agreed)
        self.proxy.advance()
        self.assert_status(101, client)
        upstream.pop()
        return client, upstream

    def assert_at_client(self, client: MemoryTransport, *expected: tuple[int, bytes]) -> None:
        """The client got these frames."""
        self.assertEqual(list(expected), read_frames(client.pop()))

    def assert_at_upstream(self, upstream: MemoryTransport, *expected: tuple[int, bytes]) -> None:
        """The upstream got these frames."""
        self.assertEqual(list(expected), read_frames(upstream.pop(), masked=True))

    def closes_at(self, client: MemoryTransport, upstream: MemoryTransport) -> tuple[int | None, int | None]:
        """The codes of the Closes that both sides got, as the only thing; 0 without one."""
        codes: list[int | None] = []
        for frames in (read_frames(client.pop()), read_frames(upstream.pop(), masked=True)):
            self.assertLessEqual(len(frames), 1)
            self.assertTrue(all(opcode == CLOSE for opcode, _ in frames), frames)
            codes.append(read_close(frames[0][1]).code if frames else 0)
        return codes[0], codes[1]


class HandshakeTests(RelayTestCase):
    """Before the 101."""

    def test_fields_of_the_upstream(self) -> None:
        """Cookies, each on its own, and the subprotocol reach the client; extensions of the client stay here."""
        offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, foo\r\n\r\n"
        client, upstream = self.begin(HANDSHAKE[:-2] + offer)
        request = upstream.pop()
        self.assertEqual(1, request.count(b"Sec-WebSocket-Extensions"))
        self.assertIn(b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n", request)
        self.assertEqual(b"", client.pop())
        upstream.send(AGREED)
        answer = client.pop()
        for line in (b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"Sec-WebSocket-Protocol: b"):
            self.assertEqual(1, answer.count(b"\r\n" + line + b"\r\n"), line)
        self.assertIn(b"\r\nSec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12; ", answer)
        self.assertNotIn(b"foo", answer)

    def test_early_frames_are_not_lost(self) -> None:
        """Frames that stand behind either head, even in pieces, arrive."""
        early, late = frame(TEXT, b"early", mask=True), frame(TEXT, b"late")
        client, upstream = self.begin(HANDSHAKE + early[:4])
        upstream.pop()
        client.send(early[4:])
        upstream.send(AGREED + late)
        self.proxy.advance()
        self.assert_at_upstream(upstream, (TEXT, b"early"))
        self.assertEqual([(TEXT, b"late")], read_frames(client.pop().partition(b"\r\n\r\n")[2]))

    def test_other_versions(self) -> None:
        """The relay itself answers 426; the upstream is not asked."""
        client = self.proxy.client()
        client.send(HANDSHAKE.replace(b"Version: 13", b"Version: 8"))
        answer = self.assert_status(426, client)
        self.assertIn(b"\r\nSec-WebSocket-Version: 13\r\n", answer)
        self.assertIn(b"\r\nUpgrade: websocket\r\n", answer)
        self.assert_ended(client)
        self.assertEqual([], self.proxy.dialer.dials)

    def test_extensions_that_were_not_offered(self) -> None:
        """An upstream that agrees to them is 502."""
        for value in (b"foo", b"permessage-deflate; client_max_window_bits=9"):
            client, upstream = self.begin(HANDSHAKE)
            upstream.send(AGREED[:-2] + b"Sec-WebSocket-Extensions: " + value + b"\r\n\r\n")
            self.assert_status(502, client)
            self.assert_ended(client)
            self.assert_ended(upstream)


class MessageTests(RelayTestCase):
    """What passes."""

    def test_messages_both_ways(self) -> None:
        """Text stays text, bytes stay bytes, in order, whatever their length, cut anywhere."""
        client, upstream = self.relay()
        sizes = (0, 1, 125, 126, 65535, 65536, LIMIT)
        for opcode, byte in ((TEXT, b"x"), (BINARY, b"\xff")):
            for size in sizes:
                client.send(frame(opcode, byte * size, mask=True))
                self.assert_at_upstream(upstream, (opcode, byte * size))
                upstream.send(frame(opcode, byte * size))
                self.assert_at_client(client, (opcode, byte * size))
        client.send_slowly(frame(TEXT, "grün".encode(), mask=True) + frame(BINARY, b"\0", mask=True))
        self.assert_at_upstream(upstream, (TEXT, "grün".encode()), (BINARY, b"\0"))
        upstream.send(b"".join(frame(TEXT, b"%d" % number) for number in range(3000)))
        self.assert_at_client(client, *((TEXT, b"%d" % number) for number in range(3000)))

    def test_fragments(self) -> None:
        """They are joined; control frames between them go their own way."""
        client, upstream = self.relay()
        client.send(frame(TEXT, b"gr\xc3", fin=False, mask=True) + frame(PING, b"?", mask=True))
        self.assert_at_upstream(upstream, (PING, b"?"))
        self.assert_at_client(client, (PONG, b"?"))
        client.send(frame(CONTINUATION, mask=True, fin=False) + frame(CONTINUATION, b"\xbcn", mask=True))
        self.assert_at_upstream(upstream, (TEXT, "grün".encode()))

    def test_countless_fragments(self) -> None:
        """Of however many pieces, a message takes the memory of what is in it."""
        client, upstream = self.relay()
        upstream.send(frame(BINARY, fin=False))
        upstream.send(frame(CONTINUATION, fin=False) * 10_000)
        upstream.send(frame(CONTINUATION, b"ab", fin=False) * 10_000)
        end = upstream.protocol
        self.assertEqual((20_000, []), (len(end._message), end.message_data if hasattr(end, "message_data") else []))
        upstream.send(frame(CONTINUATION))
        self.assert_at_client(client, (BINARY, b"ab" * 10_000))

    def test_pings(self) -> None:
        """They are answered here and asked on the other side as well, whose answer ends here."""
        client, upstream = self.relay()
        client.send(frame(PING, b"x" * 125, mask=True) + frame(PING, mask=True))
        self.assert_at_client(client, (PONG, b"x" * 125), (PONG, b""))
        self.assert_at_upstream(upstream, (PING, b"x" * 125), (PING, b""))
        upstream.send(frame(PONG, b"x" * 125))
        upstream.send(frame(PING, b"up"))
        self.assert_at_client(client, (PING, b"up"))
        self.assert_at_upstream(upstream, (PONG, b"up"))

    def test_activity(self) -> None:
        """Messages in either direction count; pings and silence do not."""
        client, upstream = self.relay()
        entry = self.proxy.table.get("/")
        assert entry is not None
        for sender, mask in ((client, True), (upstream, False)):
            self.proxy.advance(10)
            before = entry.last_activity
            sender.send(frame(PING, mask=mask))
            self.assertEqual(before, entry.last_activity)
            sender.send(frame(TEXT, b"x", mask=mask))
            self.assertAlmostEqual(self.proxy.clock.seconds(), entry.last_activity)

    def test_access_line(self) -> None:
        """The line comes at the end, with what went to the client."""
        client, upstream = self.relay()
        self.assertEqual(1, len(self.proxy.site.tunnels))
        upstream.send(frame(BINARY, b"x" * 498))
        client.close()
        upstream.close()
        self.proxy.advance()
        (line,) = self.proxy.access.lines
        self.assertIn('"GET /ws HTTP/1.1" 101 502 ', line)
        self.assertEqual(set(), self.proxy.site.tunnels)


class CompressionTests(RelayTestCase):
    """permessage-deflate, with either side for itself."""

    OFFERING = HANDSHAKE[:-2] + DEFLATES
    AGREEING = AGREED[:-2] + DEFLATES

    def test_either_side_alone(self) -> None:
        """What came packed is unpacked for a side that did not agree to it, and the other way round."""
        text = b"all work and no play " * 100
        for handshake, agreed in (
            (HANDSHAKE, AGREED),
            (self.OFFERING, AGREED),
            (HANDSHAKE, self.AGREEING),
            (self.OFFERING, self.AGREEING),
        ):
            client, upstream = self.relay(handshake, agreed)
            client_packs, upstream_packs = handshake is self.OFFERING, agreed is self.AGREEING
            for _ in range(3):
                payload = packed(text) if client_packs else text
                client.send(frame(TEXT, payload, rsv=COMPRESSED if client_packs else 0, mask=True))
                payload = packed(text) if upstream_packs else text
                upstream.send(frame(TEXT, payload, rsv=COMPRESSED if upstream_packs else 0))
            for packs, data, masked in ((client_packs, client.pop(), False), (upstream_packs, upstream.pop(), True)):
                self.assertEqual(packs, len(data) < 300)
                self.assertEqual([(TEXT, text)] * 3, read_frames(data, masked=masked))

    def test_messages_that_are_not_compressed(self) -> None:
        """Whoever agreed to compress does not have to (RFC 7692 §6)."""
        client, upstream = self.relay(self.OFFERING)
        client.send(frame(TEXT, b"plain", mask=True))
        self.assert_at_upstream(upstream, (TEXT, b"plain"))

    def test_messages_that_grow(self) -> None:
        """A message of the largest size passes, even if packing makes it larger, here or where it came from."""
        noise = Random(1).randbytes(LIMIT)
        for handshake, payload, rsv in ((HANDSHAKE, noise, 0), (self.OFFERING, packed(noise), COMPRESSED)):
            client, upstream = self.relay(handshake, self.AGREEING)
            if rsv:
                self.assertGreater(len(payload), LIMIT)
            client.send(frame(BINARY, payload[:1000], rsv=rsv, fin=False, mask=True))
            client.send_slowly(frame(CONTINUATION, payload[1000:], mask=True)[:100])
            client.send(frame(CONTINUATION, payload[1000:], mask=True)[100:])
            self.assert_at_upstream(upstream, (BINARY, noise))

    def test_long_packed_frames(self) -> None:
        """`max_frame_size` is that of the frame as it comes."""
        self.relay_with(RelaySettings(kind="relay", max_frame_size=ByteCount(20)))
        client, upstream = self.relay(self.OFFERING)
        client.send(frame(TEXT, packed(b"x" * 1000), rsv=COMPRESSED, mask=True))
        self.assert_at_upstream(upstream, (TEXT, b"x" * 1000))
        client.send(frame(TEXT, packed(b"x" * 50_000), rsv=COMPRESSED, mask=True))
        self.assertEqual((1009, 1001), self.closes_at(client, upstream))

    def test_bombs(self) -> None:
        """What would unpack to more than the limit is never unpacked; 1009."""
        bomb = packed(bytes(50 * 1024 * 1024))
        self.assertLess(len(bomb), LIMIT)
        for pieces in (1, 7):
            client, upstream = self.relay(self.OFFERING)
            size = len(bomb) // pieces + 1
            for at in range(0, len(bomb), size):
                first, last = at == 0, at + size >= len(bomb)
                rsv = COMPRESSED if first else 0
                opcode = BINARY if first else CONTINUATION
                client.send(frame(opcode, bomb[at : at + size], fin=last, rsv=rsv, mask=True))
                self.assertLessEqual(len(client.protocol._message), LIMIT)
            self.assertEqual((1009, 1001), self.closes_at(client, upstream))

    def test_one_byte_too_much(self) -> None:
        """It is refused; a message is never cut to what is allowed."""
        for size in (LIMIT, LIMIT + 1):
            client, upstream = self.relay(self.OFFERING)
            client.send(frame(TEXT, packed(b"x" * size), rsv=COMPRESSED, mask=True))
            if size == LIMIT:
                self.assert_at_upstream(upstream, (TEXT, b"x" * LIMIT))
            else:
                self.assertEqual((1009, 1001), self.closes_at(client, upstream))

    def test_what_cannot_be_unpacked(self) -> None:
        """1007."""
        client, upstream = self.relay(self.OFFERING)
        client.send(frame(BINARY, b"\xff" * 10, rsv=COMPRESSED, mask=True))
        self.assertEqual((1007, 1001), self.closes_at(client, upstream))


class FaultTests(RelayTestCase):
    """Who breaks a rule hears which; the other side is not blamed."""

    def test_faults(self) -> None:
        """RFC 6455: 1002 for the protocol, 1007 for UTF-8, 1009 for sizes, whichever side it is."""
        good = frame(TEXT, b"good", mask=True)
        for code, name, (opcode, payload), options in (
            (1009, "a long message", (BINARY, b"x" * (LIMIT + 1)), {}),
            (1007, "no UTF-8", (TEXT, b"\xff"), {}),
            (1007, "half a character", (TEXT, b"\xc3"), {}),
            (1002, "a reserved bit", (TEXT, b""), {"rsv": 1}),
            (1002, "compression that was not agreed on", (TEXT, b""), {"rsv": COMPRESSED}),
            (1002, "a reserved opcode", (3, b""), {}),
            (1002, "a reserved control opcode", (11, b""), {}),
            (1002, "a long ping", (PING, b"x" * 126), {}),
            (1002, "a ping in fragments", (PING, b""), {"fin": False}),
            (1002, "a continuation of nothing", (CONTINUATION, b""), {}),
            (1002, "a close of one byte", (CLOSE, b"\x03"), {}),
            (1002, "a forbidden code", (CLOSE, b"\x03\xed"), {}),
            (1007, "a reason that is no UTF-8", (CLOSE, b"\x03\xe8\xff"), {}),
        ):
            for from_client in (True, False):
                ends = client, upstream = self.relay()
                sender, other = ends if from_client else ends[::-1]
                sender.send(frame(opcode, payload, mask=from_client, **options) + good)  # type: ignore[arg-type]
                expected = (code, 1001) if from_client else (1011, code)
                self.assertEqual(expected, self.closes_at(client, upstream), name)
                self.assert_ended(sender)
                sender.send(good)
                sender.close()
                other.send(close_frame(1000, mask=not from_client))
                other.close()
                self.proxy.advance()
                self.assertEqual(set(), self.proxy.site.tunnels, name)

    def test_fault_while_the_other_side_asks(self) -> None:
        """Whoever waits for an answer to its close gets its own words back."""
        client, upstream = self.relay()
        client.send(close_frame(4000, mask=True))
        upstream.pop()
        upstream.send(frame(TEXT, b"\xff"))
        self.assertEqual((4000, 0), self.closes_at(client, upstream))
        self.assert_ended(upstream)

    def test_masks(self) -> None:
        """A client has to mask, an upstream must not."""
        client, upstream = self.relay()
        client.send(frame(TEXT, b"x"))
        self.assertEqual((1002, 1001), self.closes_at(client, upstream))
        client, upstream = self.relay()
        upstream.send(frame(TEXT, b"x", mask=True))
        self.assertEqual((1011, 1002), self.closes_at(client, upstream))

    def test_long_fragments(self) -> None:
        """The limit is that of the whole message; it strikes at the head of the frame that goes beyond."""
        client, upstream = self.relay()
        client.send(frame(BINARY, b"x" * (LIMIT - 10), fin=False, mask=True))
        self.assertEqual((0, 0), self.closes_at(client, upstream))
        client.send(frame(CONTINUATION, b"x" * 11, mask=True)[:6])
        self.assertEqual((1009, 1001), self.closes_at(client, upstream))

    def test_frames_have_a_limit_of_their_own(self) -> None:
        """`max_frame_size`."""
        self.relay_with(RelaySettings(kind="relay", max_frame_size=ByteCount(10)))
        client, upstream = self.relay()
        client.send(frame(TEXT, b"x" * 10, fin=False, mask=True) + frame(CONTINUATION, b"x" * 10, mask=True))
        self.assert_at_upstream(upstream, (TEXT, b"x" * 20))
        client.send(frame(TEXT, b"x" * 11, mask=True))
        self.assertEqual((1009, 1001), self.closes_at(client, upstream))

    def test_a_side_that_does_not_leave(self) -> None:
        """It is cut after `close_timeout`, and so is the other one."""
        client, upstream = self.relay()
        client.send(frame(TEXT, b"\xff", mask=True))
        self.proxy.advance(4)
        self.assertTrue(client.connected and upstream.connected)
        self.proxy.advance(2)
        self.assertFalse(client.connected or upstream.connected)
        self.assertEqual(set(), self.proxy.site.tunnels)


class GarbageTests(RelayTestCase):
    """Whatever comes."""

    @settings(max_examples=60, deadline=None)
    @given(st.lists(_PIECES, max_size=8), st.lists(_PIECES, max_size=8), st.booleans())
    def test_anything(self, up: list[bytes], down: list[bytes], compresses: bool) -> None:
        """Both sides get whole frames only, at most one close, nothing behind it, and both end when one does."""
        self.setUp()
        deflates = (CompressionTests.OFFERING, CompressionTests.AGREEING) if compresses else ()
        client, upstream = self.relay(*deflates)
        for number in range(8):
            for sender, pieces in ((client, up), (upstream, down)):
                if number < len(pieces):
                    sender.send(pieces[number])
        for sender, masked in ((client, False), (upstream, True)):
            opcodes = [opcode for opcode, _ in read_frames(sender.received, masked=masked)]
            self.assertNotIn(CLOSE, opcodes[:-1])
        client.close()
        self.proxy.advance(12)
        self.assertFalse(client.connected or upstream.connected)
        self.assertEqual(set(), self.proxy.site.tunnels)
        self.assertEqual([], self.flushLoggedErrors())

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(_EVENTS, st.booleans()), max_size=12), _PIECES)
    def test_any_order(self, events: list[tuple[str, bool]], piece: bytes) -> None:
        """However the sides stall, close, vanish and go on, a relay ends once, and nothing of it stays."""
        self.setUp()
        ends = client, upstream = self.relay()
        for event, by_client in events:
            side = ends[0] if by_client else ends[1]
            if event == "go_away":
                for relay in list(self.proxy.site.tunnels):
                    relay.go_away()
            elif event == "wait":
                self.proxy.advance(6)
            elif event in ("stall", "take", "close", "reset"):
                getattr(side, event)()
                self.proxy.advance()
            elif side.connected:
                messages = {
                    "message": frame(BINARY, b"x" * LIMIT, mask=by_client),
                    "goodbye": frame(BINARY, b"x" * LIMIT, mask=by_client) + close_frame(4000, mask=by_client),
                    "piece": piece,
                }
                side.send(messages[event])
        for side in ends:
            side.close()
            side.take()
        self.proxy.advance(12)
        self.assertFalse(client.connected or upstream.connected)
        self.assertEqual(set(), self.proxy.site.tunnels)
        self.assertEqual(1, len(self.proxy.access.lines))
        self.assertEqual([], self.flushLoggedErrors())


class CloseTests(RelayTestCase):
    """How the sides part."""

    def test_codes_pass(self) -> None:
        """Code and reason reach the other side as they are, and its answer comes back."""
        for code, answer in ((1000, 1000), (1001, 1001), (1014, 1000), (3000, 4999), (4999, 3000), (None, None)):
            for from_client in (True, False):
                ends = client, upstream = self.relay()
                first, second = ends if from_client else ends[::-1]
                reason = b"" if code is None else "schön".encode()
                first.send(close_frame(code, reason, mask=from_client))
                ((opcode, payload),) = read_frames(second.pop(), masked=from_client)
                self.assertEqual((CLOSE, Close(code, reason)), (opcode, read_close(payload)))
                self.assertEqual(b"", first.pop())
                second.send(close_frame(answer, mask=not from_client))
                ((opcode, payload),) = read_frames(first.pop(), masked=not from_client)
                self.assertEqual((CLOSE, Close(answer)), (opcode, read_close(payload)))
                self.proxy.advance()
                self.assertFalse(client.connected)  # a server ends the connection first
                self.assertTrue(upstream.connected)
                upstream.close()
                self.proxy.advance()
                self.assertEqual(set(), self.proxy.site.tunnels)

    def test_messages_before_a_close(self) -> None:
        """They arrive, also those that the other side sends until it answers; nothing behind a Close counts."""
        client, upstream = self.relay()
        client.send(frame(TEXT, b"a", mask=True) + close_frame(1000, mask=True) + frame(TEXT, b"b", mask=True))
        self.assert_at_upstream(upstream, (TEXT, b"a"), (CLOSE, b"\x03\xe8"))
        upstream.send(frame(TEXT, b"c") + close_frame(1000) + frame(TEXT, b"d"))
        self.assert_at_client(client, (TEXT, b"c"), (CLOSE, b"\x03\xe8"))

    def test_both_at_once(self) -> None:
        """Closes that cross are answers to each other."""
        client, upstream = self.relay()
        client.send(close_frame(4000, mask=True))
        upstream.send(close_frame(4001))
        self.assertEqual((4001, 4000), self.closes_at(client, upstream))

    def test_no_answer(self) -> None:
        """Whoever asked gets its own words back after `close_timeout`."""
        for from_client in (True, False):
            ends = self.relay()
            first, second = ends if from_client else ends[::-1]
            first.send(close_frame(4000, b"why", mask=from_client))
            second.pop()
            self.proxy.advance(6)
            self.assertFalse(second.connected)
            ((_, payload),) = read_frames(first.pop(), masked=not from_client)
            self.assertEqual(Close(4000, b"why"), read_close(payload))
            self.proxy.advance(6)
            self.assertFalse(first.connected)

    def test_slow_readers_get_everything(self) -> None:
        """`close_timeout` begins anew as long as a side takes something of what was there before the close."""
        client, upstream = self.relay()
        client.stall()
        upstream.send(frame(BINARY, b"x" * 60_000) + close_frame(1000))
        for _ in range(10):
            self.proxy.advance(4)
            client.take(6_000)
        self.assertTrue(client.connected and upstream.connected)
        client.take(100)
        self.assert_at_client(client, (BINARY, b"x" * 60_000), (CLOSE, b"\x03\xe8"))
        self.proxy.advance(11)
        self.assertFalse(client.connected)

    def test_an_end_instead_of_an_answer(self) -> None:
        """The same, at once."""
        client, upstream = self.relay()
        client.send(close_frame(4000, mask=True))
        upstream.close()
        self.proxy.advance()
        self.assert_at_client(client, (CLOSE, b"\x0f\xa0"))

    def test_upstream_is_lost(self) -> None:
        """The client hears 1011, after what came before, and does not think that all is well."""
        for how in ("close", "reset"):
            client, upstream = self.relay()
            upstream.send(frame(TEXT, b"last"))
            getattr(upstream, how)()
            self.proxy.advance()
            (text, (opcode, payload)) = read_frames(client.pop())
            self.assertEqual(((TEXT, b"last"), CLOSE, 1011), (text, opcode, read_close(payload).code))
            client.send(close_frame(1011, mask=True))
            self.proxy.advance()
            self.assertFalse(client.connected)
            self.assertEqual(set(), self.proxy.site.tunnels)

    def test_client_is_lost(self) -> None:
        """The upstream sees the end of the connection without a Close, as it would without a proxy."""
        for how in ("close", "reset"):
            client, upstream = self.relay()
            client.send(frame(TEXT, b"last", mask=True))
            getattr(client, how)()
            self.proxy.advance()
            self.assert_at_upstream(upstream, (TEXT, b"last"))
            self.assertFalse(upstream.connected)
            self.assertEqual(set(), self.proxy.site.tunnels)

    def test_going_away(self) -> None:
        """The end of the proxy is 1001 for both; they answer, or are cut."""
        for answers in (True, False):
            client, upstream = self.relay()
            for relay in list(self.proxy.site.tunnels):
                relay.go_away()
                relay.go_away()
            self.assertEqual((1001, 1001), self.closes_at(client, upstream))
            client.send(frame(TEXT, b"too late", mask=True))
            self.assertEqual(b"", upstream.pop())
            if answers:
                client.send(close_frame(1001, mask=True))
                upstream.send(close_frame(1001))
                upstream.close()
            self.proxy.advance(0 if answers else 6)
            self.assertFalse(client.connected or upstream.connected)
            self.assertEqual(set(), self.proxy.site.tunnels)


class KeepaliveTests(RelayTestCase):
    """Our own pings."""

    def test_silence_is_asked(self) -> None:
        """Each side gets a ping after `ping_interval`; whoever answers stays, and that is no activity."""
        client, upstream = self.relay()
        entry = self.proxy.table.get("/")
        assert entry is not None
        before = entry.last_activity
        for _ in range(5):
            self.proxy.advance(29)
            self.assertEqual((b"", b""), (client.pop(), upstream.pop()))
            self.proxy.advance(1.5)
            self.assert_at_client(client, (PING, b""))
            self.assert_at_upstream(upstream, (PING, b""))
            client.send(frame(PONG, mask=True))
            upstream.send(frame(PONG))
        self.assertEqual(before, entry.last_activity)

    def test_no_answer(self) -> None:
        """A side that stays silent for `ping_timeout` is lost."""
        for silent_client in (True, False):
            ends = client, upstream = self.relay()
            silent, other = ends if silent_client else ends[::-1]
            self.proxy.advance(31)
            other.send(frame(PONG, mask=not silent_client))
            self.proxy.advance(15)
            self.assertTrue(silent.connected)
            other.pop()
            self.proxy.advance(6)
            self.assertFalse(silent.connected)
            if silent_client:
                self.assertFalse(upstream.connected)
            else:
                ((opcode, payload),) = read_frames(client.pop())
                self.assertEqual((CLOSE, 1011), (opcode, read_close(payload).code))

    def test_anything_is_an_answer(self) -> None:
        """Data that comes in place of the pong will do."""
        client, upstream = self.relay()
        self.proxy.advance(31)
        client.send(frame(TEXT, b"x", mask=True))
        upstream.send(frame(TEXT, b"x"))
        self.proxy.advance(25)
        self.assertTrue(client.connected and upstream.connected)

    def test_off(self) -> None:
        """`ping_interval: 0`: a WebSocket may be silent for days."""
        self.relay_with(RelaySettings(kind="relay", ping_interval=Seconds(0)))
        client, upstream = self.relay()
        self.proxy.advance(1000)
        self.assertEqual((b"", b""), (client.pop(), upstream.pop()))
        self.assertTrue(client.connected and upstream.connected)

    def test_slow_sides_are_not_lost(self) -> None:
        """A side that is not read, or that takes nothing for the moment, is not held to answer."""
        client, upstream = self.relay()
        upstream.stall()
        client.send(frame(BINARY, b"x" * LIMIT, mask=True))
        self.assertFalse(client.is_reading)
        self.proxy.advance(200)
        self.assertTrue(client.connected and upstream.connected)
        upstream.take()
        self.assertTrue(client.is_reading)
        self.assert_at_upstream(upstream, (BINARY, b"x" * LIMIT))


class BackPressureTests(RelayTestCase):
    """Neither side is read faster than the other one takes it."""

    def test_a_side_that_takes_nothing(self) -> None:
        """The other one is not read, and what has been read already waits unpacked as little as can be."""
        client, upstream = self.relay(CompressionTests.OFFERING)
        bomb = frame(BINARY, packed(bytes(LIMIT)), rsv=COMPRESSED, mask=True)
        upstream.stall()
        client.send(bomb * 300)
        self.assertFalse(client.is_reading)
        waiting = upstream.unsent
        self.assertLess(waiting, 6 * 1024 * 1024)
        for _ in range(5):
            self.proxy.advance(1)
            self.assertEqual(waiting, upstream.unsent)
        rounds = 0
        while upstream.unsent:
            upstream.take(upstream.unsent)
            self.assertLess(upstream.unsent, 6 * 1024 * 1024)
            rounds += 1
        self.assertGreater(rounds, 5)
        self.assertTrue(client.is_reading)
        self.assertEqual(300 * (LIMIT + 14), len(upstream.pop()))

    def test_pings_that_are_not_awaited(self) -> None:
        """Pongs for a side that takes nothing do not pile up; the last one is sent in the end (§5.5.3)."""
        client, upstream = self.relay()
        client.stall()
        upstream.send(frame(BINARY, b"x" * LIMIT))
        waiting = client.unsent
        for number in range(10_000):
            client.send(frame(PING, b"%d" % number, mask=True))
        self.assertEqual(waiting, client.unsent)
        client.take()
        self.assert_at_client(client, (BINARY, b"x" * LIMIT), (PONG, b"9999"))

    def test_a_close_behind_a_message_that_is_not_taken(self) -> None:
        """It is answered when the slow side is lost before it heard of it; so is a fault."""
        for last, code in ((close_frame(4000, mask=True), 4000), (frame(TEXT, b"\xff", mask=True), 1007)):
            client, upstream = self.relay()
            upstream.stall()
            client.send(frame(BINARY, b"x" * LIMIT, mask=True) + last)
            self.assertFalse(client.is_reading)
            upstream.reset()
            self.proxy.advance()
            ((opcode, payload),) = read_frames(client.pop())
            self.assertEqual((CLOSE, code), (opcode, read_close(payload).code))
            client.close()
            self.proxy.advance(6)
            self.assertFalse(client.connected)
            self.assertEqual(set(), self.proxy.site.tunnels)

    def test_the_end_of_a_slow_side(self) -> None:
        """Nobody stays paused for a side that is gone."""
        client, upstream = self.relay()
        upstream.stall()
        client.send(frame(BINARY, b"x" * LIMIT, mask=True))
        self.assertFalse(client.is_reading)
        upstream.reset()
        self.proxy.advance()
        ((_, payload),) = read_frames(client.pop())
        self.assertEqual(1011, read_close(payload).code)
        client.send(close_frame(1011, mask=True))
        self.proxy.advance()
        self.assertFalse(client.connected)
