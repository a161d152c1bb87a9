"""Exchanges at random on real sockets: clients, upstreams and whatever may happen between them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

import attrs

from proxyd.testing.harness import Harness
from tests.walks import Secure, Walk, WalkingCase, Wire

CLIENTS = 6
STEPS = 300
# Around what is held back, what is read at first, where splicing begins, and what a socket takes.
SIZES = (0, 1, 100, 16_383, 16_384, 16_385, 65_536, 200_000, 700_000)


@attrs.define
class Call:
    """A request, and what answers it."""

    number: int
    method: str
    up: bytes = attrs.field(repr=lambda value: str(len(value)))
    down: bytes = attrs.field(repr=lambda value: str(len(value)))
    up_is_chunked: bool
    framing: str
    closes: bool
    version: str
    expects: bool
    is_hinted: bool
    """Interim responses come before the response."""
    has_trailers: bool
    cut: float | None
    """Behind which part of the response the upstream ends the connection; 0: at once."""
    received: list[bytes] = attrs.field(factory=list, repr=lambda value: str(len(value)))
    """The bodies that the upstream got: more than one if it was asked again."""

    def request(self) -> bytes:
        """As the client sends it."""
        head = f"{self.method} /{self.number} HTTP/{self.version}\r\nHost: a.test\r\n"
        if self.version == "1.0":
            head += "Connection: keep-alive\r\n"
        if self.expects:
            head += "Expect: 100-continue\r\n"
        if self.method != "POST":
            return f"{head}\r\n".encode()
        return head.encode() + (chunked(self.up) if self.up_is_chunked else sized(self.up))

    def response(self) -> bytes:
        """As the upstream sends it."""
        head = f"HTTP/1.1 200 OK\r\nX-Number: {self.number}\r\n".encode()
        if self.is_hinted:
            head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + head
        if self.closes or self.framing == "close":
            head += b"Connection: close\r\n"
        if self.framing == "close":
            body = b"\r\n" + self.down
        else:
            trailers = b"X-Sum: 1\r\n" if self.has_trailers else b""
            body = chunked(self.down, trailers) if self.framing == "chunked" else sized(self.down)
        if self.method == "HEAD":
            body = body[: body.index(b"\r\n\r\n") + 4] if self.framing != "close" else b"\r\n"
        return head + body


def sized(body: bytes) -> bytes:
    """With a length."""
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def chunked(body: bytes, trailers: bytes = b"") -> bytes:
    """In chunks, and `trailers` behind them."""
    pieces = [body[start : start + 30_000] for start in range(0, len(body), 30_000)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + trailers + b"\r\n"


class Reader:
    """Reads messages; `told` gets the head and the body of each, `is_bodiless` says whether the next one has none."""

    def __init__(self, told: Callable[[bytes, bytes], None], is_bodiless: Callable[[], bool] = lambda: False) -> None:
        self.told = told
        self.is_bodiless = is_bodiless
        self.buffer = bytearray()
        self.head = b""
        self.body = bytearray()
        self.left: int | None = None  # of the body or chunk
        self.is_chunked = False
        self.is_last = False  # what comes are trailers

    def feed(self, data: bytes) -> None:
        """Something has come."""
        self.buffer += data
        while self.buffer and self._step():
            pass

    def end(self) -> None:
        """Nothing more comes: a body without a length is over."""
        if self.head and self.left is None and not self.is_chunked:
            self._tell()

    def _step(self) -> bool:
        if not self.head:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return False
            self.head = self._take(end + 4)
            if self.head.startswith(b"HTTP/1.1 1"):
                self.head = b""
                return True
            length = re.search(rb"(?i)\r\nContent-Length: *(\d+)", self.head)
            self.is_chunked = re.search(rb"(?i)\r\nTransfer-Encoding: *chunked", self.head) is not None
            is_request = not self.head.startswith(b"HTTP/")
            self.left = int(length[1]) if length else 0 if is_request and not self.is_chunked else None
            if self.is_bodiless() or self.left == 0:
                self._tell()
        elif self.is_last:
            end = self.buffer.find(b"\r\n")
            if end >= 0 and not self._take(end + 2)[2:]:
                self._tell()
            return end >= 0
        elif self.is_chunked and self.left is None:
            end = self.buffer.find(b"\r\n")
            if end < 0:
                return False
            size = int(self._take(end + 2), 16)
            self.is_last = not size
            self.left = size + 2 if size else None
        else:
            piece = self._take(len(self.buffer) if self.left is None else min(self.left, len(self.buffer)))
            self.body += piece
            if self.left is not None:
                self.left -= len(piece)
                if not self.left:
                    self._part_is_over()
        return True

    def _part_is_over(self) -> None:
        if self.is_chunked:
            del self.body[-2:]
            self.left = None
        else:
            self._tell()

    def _take(self, count: int) -> bytes:
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def _tell(self) -> None:
        head, body = self.head, bytes(self.body)
        self.head = b""
        self.body.clear()
        self.left = None
        self.is_chunked = self.is_last = False
        self.told(head, body)


class Peer:
    """One end of a connection of the proxy's: sends what it has, as far as it is taken."""

    def __init__(self, walk: ExchangeWalk, wire: Wire, reader: Reader) -> None:
        self.walk = walk
        self.wire = wire
        self.reader = reader
        self.unsent = bytearray()
        self.is_over = False
        self.closes_when_sent = False

    def send(self, most: int) -> None:
        """Send a piece."""
        if self.is_over:
            return
        if self.unsent:
            try:
                del self.unsent[: len(self.wire.send(bytes(self.unsent[:most])))]
            except OSError:
                self.unsent.clear()  # nobody takes it any more
        if self.closes_when_sent and not self.unsent and self.wire.say_goodbye():
            self.close()

    def take(self, most: int) -> None:
        """Take a piece."""
        if self.is_over:
            return
        data = self.wire.take(most)
        if data:
            self.reader.feed(data)
        elif data is not None:
            if not self.wire.was_reset:
                self.reader.end()
            self.close()

    def close(self) -> None:
        """End the connection."""
        self.is_over = True
        self.wire.close()


class Client(Peer):
    """Asks one thing after the other, without waiting for answers."""

    def __init__(self, walk: ExchangeWalk, wire: Wire) -> None:
        super().__init__(walk, wire, Reader(self.answered, self.is_head_next))
        self.waiting: deque[Call] = deque()
        self.has_left = False
        self.may_fail = False

    def is_head_next(self) -> bool:
        """Whether the next answer is to HEAD."""
        return self.waiting[0].method == "HEAD"

    def ask(self, call: Call) -> None:
        """Ask."""
        self.waiting.append(call)
        self.unsent += call.request()
        lasts_until_close = call.version == "1.0" and call.framing != "length"
        self.may_fail = self.may_fail or call.cut is not None or lasts_until_close

    def answered(self, head: bytes, body: bytes) -> None:
        """An answer is complete."""
        call = self.waiting.popleft()
        number = re.search(rb"\r\nX-Number: (\d+)", head)
        if number is None:
            self.walk.failures.append((call, head))
        elif self.waiting and call.version == "1.0" and call.framing != "length" and call.down.startswith(body):
            pass  # it says itself that it ends the connection: who sends more behind that may have it cut
        elif (int(number[1]), body) != (call.number, b"" if call.method == "HEAD" else call.down):
            self.walk.wrong.append(f"{len(body)} bytes for {call}: {head!r}")
        else:
            self.walk.answered.append(call)

    @property
    def is_done(self) -> bool:
        """Whether everything is answered that can be."""
        return self.has_left or (self.is_over if self.may_fail and self.waiting else not self.waiting)


class Upstream(Peer):
    """Answers each request when it has come."""

    def __init__(self, walk: ExchangeWalk, wire: Wire) -> None:
        super().__init__(walk, wire, Reader(self.asked))

    def asked(self, head: bytes, body: bytes) -> None:
        """A request is complete."""
        call = self.walk.calls[int(head.split(b" ")[1][1:])]
        call.received.append(body)
        response = call.response()
        if call.cut is not None:
            response = response[: int(len(response) * call.cut)]
        self.unsent += response
        self.closes_when_sent = call.cut is not None or call.closes or call.framing == "close"


class ExchangeWalk(Walk):
    """What happens to some clients of a proxy with one upstream."""

    def __init__(self, seed: int, secure: Secure, *, compiled: bool) -> None:
        super().__init__(seed, secure, compiled=compiled)
        self.proxy = Harness()
        self.calls: list[Call] = []
        self.clients: list[Client] = []
        self.upstreams: list[Upstream] = []
        self.dialed = 0
        self.answered: list[Call] = []
        self.failures: list[tuple[Call, bytes]] = []
        self.wrong: list[str] = []
        for _ in range(CLIENTS):
            self.open()

    def open(self) -> None:
        """One more client comes."""
        protocol = self.proxy.site.buildProtocol(None)
        transport, wire = self.connect(protocol)
        protocol.makeConnection(transport)
        self.clients.append(Client(self, wire))

    def accept(self) -> None:
        """The upstream takes the connections that the proxy has asked for."""
        dials = self.proxy.dialer.dials
        while self.dialed < len(dials):
            dial = dials[self.dialed]
            self.dialed += 1
            if not dial.is_cancelled:
                protocol = dial.build(dial.result.callback)
                transport, wire = self.connect(protocol)
                transport.watches_peer = False
                protocol.makeConnection(transport)
                self.upstreams.append(Upstream(self, wire))

    def invent(self) -> Call:
        """A call that is none of the others."""
        choice = self.random
        sizes = [choice.choice(SIZES) for _ in range(2)]
        call = Call(
            number=len(self.calls),
            method=choice.choice(("GET", "GET", "POST", "HEAD")),
            up=choice.randbytes(sizes[0]),
            down=choice.randbytes(sizes[1]),
            up_is_chunked=choice.random() < 0.3,
            version=choice.choice(("1.1", "1.1", "1.1", "1.0")),
            expects=False,
            is_hinted=choice.random() < 0.1,
            has_trailers=choice.random() < 0.5,
            framing=choice.choice(("length", "length", "length", "chunked", "close")),
            closes=choice.random() < 0.1,
            cut=choice.choice((0, 0.001, 0.5, 0.999)) if choice.random() < 0.04 else None,
        )
        if call.framing == "close":
            call.cut = None  # that would look like its end
        if call.version == "1.0":
            call.up_is_chunked = False
        call.expects = call.method == "POST" and choice.random() < 0.2
        self.calls.append(call)
        return call

    def step(self) -> None:
        clients = [client for client in self.clients if not client.is_over]
        for _ in range(CLIENTS - len(clients)):
            self.open()
        for client in self.random.sample(clients, min(len(clients), 3)):
            choice = self.random.random()
            if choice < 0.2 and len(client.waiting) < 4:
                client.ask(self.invent())
            elif choice < 0.99:
                client.send(self.random.choice(SIZES[1:]))
                client.take(self.random.choice(SIZES[1:]))
            else:
                client.has_left = True
                client.close()
        for upstream in self.random.sample(self.upstreams, min(len(self.upstreams), 4)):
            upstream.send(self.random.choice(SIZES[1:]))
            upstream.take(self.random.choice(SIZES[1:]))
        self.turn()

    def turn(self) -> None:
        super().turn()
        self.proxy.advance()
        self.accept()
        self.upstreams = [upstream for upstream in self.upstreams if not upstream.is_over]

    def is_at_rest(self) -> bool:
        self.turn()
        for peer in [*self.clients, *self.upstreams]:
            peer.send(1 << 20)
            peer.take(1 << 20)
        return all(client.is_done for client in self.clients)


class RandomTests(WalkingCase):
    """Each client gets the answers to its requests, whole, in their order."""

    def test_walks(self) -> None:
        """What an upstream did not cut off is answered; the upstream got what was sent, and never what was not."""
        for walk in self.walks(ExchangeWalk, steps=STEPS, count=6):
            self.assertEqual([], self.flushLoggedErrors(), f"seed {walk.seed}")
            self.assertEqual([], walk.wrong, f"seed {walk.seed}")
            for call, head in walk.failures:
                self.assertIsNotNone(call.cut, (walk.seed, head))
                self.assertRegex(head, rb"^HTTP/1.1 502 ")
            self.assertGreater(len(walk.answered), STEPS // 20)
            for call in walk.answered:
                size = 0 if call.method == "HEAD" else len(call.down)
                lines = [line for line in walk.proxy.access.lines if f" /{call.number} HTTP/" in line]
                self.assertEqual(1, len(lines), lines)
                self.assertIn(f'" 200 {size} ', lines[0])
            for call in walk.calls:
                expected = call.up if call.method == "POST" else b""
                self.assertEqual(
                    {expected} if call.received else set(), set(call.received), f"seed {walk.seed}: {call.number}"
                )
                if call.method == "POST":
                    self.assertLessEqual(len(call.received), 1, f"seed {walk.seed}: {call.number}")


class RandomInPythonTests(RandomTests):
    """The same where there was no compiler."""

    compiled = False
