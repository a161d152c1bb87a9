"""Tunnels on real sockets at random: what one peer sends, the other one gets, whatever happens in between."""

from __future__ import annotations

import contextlib

from proxyd.net.deadlines import Deadlines
from proxyd.websocket.tunnel import Tunnel
from tests.walks import Secure, Walk, WalkingCase, Wire

TUNNELS = 6
STEPS = 120
# Around what is held back, what is read at first, where splicing begins, and what a socket takes.
SIZES = (1, 125, 16_383, 16_384, 16_385, 65_536, 200_000, 1_000_000)


class Outer:
    """A peer of a tunnel. What it has sent, and got."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.sent = self.got = b""
        self.has_closed = False
        self.sees_end = False

    def send(self, data: bytes) -> None:
        """Send as much as is taken."""
        if self.has_closed:
            return
        with contextlib.suppress(OSError):
            self.sent += self.wire.send(data)

    def take(self, most: int) -> None:
        """Take what is there, once."""
        data = self.wire.take(most)
        if data is not None:
            self.got += data
            self.sees_end = not data

    def close(self) -> None:
        """Say that nothing more comes."""
        self.has_closed = True
        self.wire.shut()


class Joined:
    """A tunnel, and its two peers."""

    def __init__(self, walk: TunnelWalk) -> None:
        self.has_ended = False
        self.is_cut = False  # what is on its way may be lost
        self.tunnel = Tunnel(walk.deadlines, lambda: None, self._ended)
        self.peers = []
        transports = []
        for _ in range(2):
            transport, wire = walk.connect(None)
            self.peers.append(Outer(wire))
            transport.pauseProducing()
            transports.append(transport)
        self.client, self.upstream = self.peers
        self.tunnel.join(*transports, b"")

    @property
    def has_all(self) -> bool:
        """Whether each peer has what the other one has sent, and the end if there is one; else it is on its way."""
        client, upstream = self.client, self.upstream
        if self.is_cut:
            return True
        return all(
            receiver.got == sender.sent or (self.has_ended and receiver.has_closed)
            for sender, receiver in ((client, upstream), (upstream, client))
        ) and (not self.has_ended or (client.sees_end and upstream.sees_end))

    def _ended(self, tunnel: Tunnel) -> None:
        if self.has_ended:
            raise AssertionError("it ends twice")
        self.has_ended = True


class TunnelWalk(Walk):
    """What happens to some tunnels."""

    def __init__(self, seed: int, secure: Secure, *, compiled: bool) -> None:
        super().__init__(seed, secure, compiled=compiled)
        self.deadlines = Deadlines(self.main)
        self.every: list[Joined] = []
        for _ in range(TUNNELS):
            self.open()

    def open(self) -> None:
        """Begin one more."""
        self.every.append(Joined(self))

    @property
    def alive(self) -> list[Joined]:
        """Those that have not ended."""
        return [joined for joined in self.every if not joined.has_ended]

    def step(self) -> None:
        for joined in self.random.sample(self.alive, 3):
            peer = self.random.choice(joined.peers)
            choice = self.random.random()
            if choice < 0.5:
                peer.send(self.random.randbytes(self.random.choice(SIZES)))
            elif choice < 0.95:
                peer.take(self.random.choice(SIZES))
            elif choice < 0.98:
                peer.close()
                joined.is_cut = joined.is_cut or peer.wire.is_secure  # for lack of a goodbye
            elif choice < 0.99:
                joined.is_cut = True
                peer.wire.close()
            else:
                joined.is_cut = True
                joined.tunnel.go_away()
        self.turn()
        while len(self.alive) < TUNNELS:
            self.open()

    def is_at_rest(self) -> bool:
        self.turn()
        for joined in self.every:
            for peer in joined.peers:
                peer.take(1 << 20)
        return all(joined.has_all for joined in self.every)


class RandomTests(WalkingCase):
    """Nothing is lost, doubled or mixed up."""

    def test_walks(self) -> None:
        """All that is sent arrives, and is counted; up to the end, if there is one."""
        for walk in self.walks(TunnelWalk, steps=STEPS, count=8):
            alive = walk.alive
            self.assertGreater(len(walk.every), TUNNELS)
            self.assertTrue(alive)
            for joined in walk.every:
                words = f"seed {walk.seed}, tunnel {walk.every.index(joined)}"
                client, upstream, tunnel = joined.client, joined.upstream, joined.tunnel
                for sender, receiver, count in (
                    (client, upstream, tunnel.to_upstream),
                    (upstream, client, tunnel.to_client),
                ):
                    self.assertTrue(sender.sent.startswith(receiver.got), words)
                    self.assertLessEqual(len(receiver.got), count, words)
                    self.assertLessEqual(count, len(sender.sent), words)
                    if not joined.is_cut and (joined in alive or not receiver.has_closed):
                        self.assertEqual(len(sender.sent), count, words)


class RandomInPythonTests(RandomTests):
    """The same where there was no compiler."""

    compiled = False
