"""Relays on real sockets at random: messages arrive whole and in their order, whatever happens in between."""

from __future__ import annotations

from proxyd.core.closing import Close
from proxyd.model.relay import DEFAULT_RELAY
from proxyd.net.deadlines import Deadlines
from proxyd.websocket.relay import Relay, RelayPlan
from tests.walks import Secure, Walk, WalkingCase, Wire
from tests.websocket.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame, take_frames

RELAYS = 5
STEPS = 200
# Around the lengths of a frame's head, what is held back, what is read at first, and what a socket takes.
SIZES = (0, 1, 125, 126, 16_383, 16_384, 65_535, 65_536, 400_000)
CODES = (1000, 1001, 1011, 3000, 4999)


class Speaker:
    """A peer of a relay: what it has said, and heard. What it says is masked if it is the client."""

    def __init__(self, wire: Wire, *, is_client: bool) -> None:
        self.wire = wire
        self.is_client = is_client
        self.unsent = bytearray()
        self.said: list[tuple[int, bytes]] = []
        self.heard: list[tuple[int, bytes]] = []
        self.pinged: list[bytes] = []
        self.ponged: list[bytes] = []
        self.closed: Close | None = None  # what it said
        self.was_told: Close | None = None
        self.is_over = False
        self._buffer = b""

    def say(self, opcode: int, payload: bytes, cuts: list[int]) -> None:
        """Say a message in frames that end at `cuts`, with a ping between two of them."""
        if self.closed is not None:
            return
        self.said.append((opcode, payload))
        ends = sorted({*cuts, len(payload)})
        begins = [0, *ends[:-1]]
        for index, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            kind = CONTINUATION if index else opcode
            self.unsent += frame(kind, payload[begin:end], fin=end == len(payload), mask=self.is_client)
            if end != len(payload):
                self.ping(b"%d" % end)

    def ping(self, payload: bytes) -> None:
        """Ask whether somebody is there."""
        self.pinged.append(payload)
        self.unsent += frame(PING, payload, mask=self.is_client)

    def close(self, code: int) -> None:
        """Say that nothing more comes."""
        if self.closed is None:
            self.closed = Close(code)
            self.unsent += close_frame(code, mask=self.is_client)

    def leave(self) -> None:
        """End the connection."""
        self.is_over = True
        self.wire.close()

    def send(self, most: int) -> None:
        """Send a piece."""
        if self.is_over:
            return
        if self.unsent:
            try:
                del self.unsent[: len(self.wire.send(bytes(self.unsent[:most])))]
            except OSError:
                self.unsent.clear()
        elif not self.is_client and self.closed and self.was_told and self.wire.say_goodbye():
            self.leave()  # it is for the server to do so (§7.1.1)

    def take(self, most: int) -> None:
        """Hear a piece, and answer a Close."""
        data = None if self.is_over else self.wire.take(most)
        if data is None:
            return
        if not data:
            self.leave()
            return
        frames, self._buffer = take_frames(self._buffer + data, masked=not self.is_client)
        for opcode, payload in frames:
            if opcode == PONG:
                self.ponged.append(payload)
            elif opcode == PING:
                if self.closed is None:
                    self.unsent += frame(PONG, payload, mask=self.is_client)
            elif opcode == CLOSE:
                self.was_told = Close(int.from_bytes(payload[:2], "big"))
                self.close(self.was_told.code or 1000)
            else:
                self.heard.append((opcode, payload))


class Related:
    """A relay, and its two peers."""

    def __init__(self, walk: RelayWalk) -> None:
        self.has_ended = False
        self.is_cut = False
        self.relay = Relay(walk.plan, walk.deadlines, lambda: None, self._ended)
        connections = [walk.connect(None) for _ in range(2)]
        for transport, _ in connections:
            transport.pauseProducing()
        self.client, self.upstream = (
            Speaker(wire, is_client=index == 0) for index, (_, wire) in enumerate(connections)
        )
        self.peers = (self.client, self.upstream)
        self.relay.join(*(transport for transport, _ in connections), b"", b"", (None, None))

    def _ended(self, relay: Relay) -> None:
        if self.has_ended:
            raise AssertionError("it ends twice")
        self.has_ended = True

    @property
    def is_done(self) -> bool:
        """Whether everything has arrived, and whoever said goodbye has been answered."""
        if self.is_cut:
            return self.has_ended and all(peer.is_over for peer in self.peers)
        if any(peer.closed for peer in self.peers):
            return self.has_ended and all(peer.is_over and peer.was_told for peer in self.peers)
        return (
            self.client.said == self.upstream.heard
            and self.upstream.said == self.client.heard
            and all(peer.ponged[-1:] == peer.pinged[-1:] for peer in self.peers)
        )


class RelayWalk(Walk):
    """What happens to some relays."""

    def __init__(self, seed: int, secure: Secure, *, compiled: bool) -> None:
        super().__init__(seed, secure, compiled=compiled)
        self.deadlines = Deadlines(self.main)
        self.plan = RelayPlan(DEFAULT_RELAY)
        self.every = [Related(self) for _ in range(RELAYS)]

    def step(self) -> None:
        alive = [related for related in self.every if not any(peer.is_over for peer in related.peers)]
        self.every += [Related(self) for _ in range(RELAYS - len(alive))]
        for related in self.random.sample(alive, min(len(alive), 3)):
            peer = self.random.choice(related.peers)
            choice = self.random.random()
            if choice < 0.3 and len(peer.unsent) < 1_000_000:
                size = self.random.choice(SIZES)
                text = self.random.random() < 0.5
                payload = b"x" * size if text else self.random.randbytes(size)
                cuts = [self.random.randrange(size + 1) for _ in range(self.random.choice((0, 0, 0, 1, 3)))]
                peer.say(TEXT if text else BINARY, payload, cuts)
            elif choice < 0.97:
                peer.send(self.random.choice(SIZES[1:]))
                peer.take(self.random.choice(SIZES[1:]))
            elif choice < 0.99:
                peer.close(self.random.choice(CODES))
            else:
                related.is_cut = True
                peer.leave()
        self.turn()

    def is_at_rest(self) -> bool:
        self.turn()
        for related in self.every:
            for peer in related.peers:
                peer.send(1 << 20)
                peer.take(1 << 20)
        return all(related.is_done for related in self.every)


class RandomTests(WalkingCase):
    """Nothing is lost, doubled or mixed up."""

    def test_walks(self) -> None:
        """What is said before a Close arrives, and the Close behind it; pings are answered."""
        for walk in self.walks(RelayWalk, steps=STEPS, count=5):
            self.assertEqual([], self.flushLoggedErrors(), f"seed {walk.seed}")
            self.assertGreater(len(walk.every), RELAYS)
            for number, related in enumerate(walk.every):
                words = f"seed {walk.seed}, relay {number}"
                for speaker, listener in (related.peers, related.peers[::-1]):
                    self.assertTrue(speaker.said[: len(listener.heard)] == listener.heard, words)
                    self.assertLessEqual(set(speaker.ponged), set(speaker.pinged), words)
                    if not related.is_cut and speaker.closed is not None:
                        self.assertIn(speaker.was_told, (speaker.closed, listener.closed), words)


class RandomInPythonTests(RandomTests):
    """The same where there was no compiler."""

    compiled = False
