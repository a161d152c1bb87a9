"""Tests of `proxyd.websocket.deflate`."""

from __future__ import annotations

import zlib
from random import Random

from autobahn.exception import PayloadCorruptError, PayloadExceededError
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.deflate import Deflate
from proxyd.websocket.deflate import RelayDeflate


def packed(data: bytes, mode: int = zlib.Z_SYNC_FLUSH) -> bytes:
    packing = zlib.compressobj(wbits=-15)
    data = packing.compress(data) + packing.flush(mode)
    return data[:-4] if mode == zlib.Z_SYNC_FLUSH else data


class UnpackingTests(SynchronousTestCase):
    """What a side packed."""

    def setUp(self) -> None:
        self.limit(0)

    def limit(self, limit: int) -> None:
        self.deflate = RelayDeflate(Deflate(), limit, is_server=True)

    def unpack(self, *pieces: bytes) -> bytes:
        self.deflate.start_decompress_message()
        unpacked = b"".join(self.deflate.decompress_message_data(piece, 1) for piece in pieces)
        self.deflate.end_decompress_message()
        return unpacked

    def test_the_limit_is_exact(self) -> None:
        """A message as long as it may be is whole, and one of a single byte more is refused: none is cut."""
        self.assertEqual(b"x" * 1_000_000, self.unpack(packed(b"x" * 1_000_000)))
        noise = Random(1).randbytes(100_000)
        for size in (1, 258, 100_000):
            for data in (b"x" * size, noise[:size]):
                self.limit(size)
                self.assertEqual(data, self.unpack(packed(data)))
                for more in (1, 2, 100, 258, 259, 100_000):
                    self.limit(size)
                    self.assertRaises(PayloadExceededError, self.unpack, packed(data + b"x" * more))

    def test_pieces(self) -> None:
        """It may come byte by byte."""
        data = packed(b"all work and no play " * 100)
        self.limit(2100)
        self.assertEqual(2100, len(self.unpack(*(data[at : at + 1] for at in range(len(data))))))

    def test_last_blocks(self) -> None:
        """A block may say that it is the last one (RFC 7692 §7.2.3.4); the next message comes all the same."""
        for tail in (b"", b"\x00"):
            for _ in range(2):
                self.assertEqual(b"Hello", self.unpack(packed(b"Hello", zlib.Z_FINISH) + tail))
        self.assertEqual(b"Hello", self.unpack(b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"))

    def test_what_cannot_be_unpacked(self) -> None:
        """Nothing is made up, and nothing is dropped."""
        for data in (b"\xff" * 10, packed(b"Hello", zlib.Z_FINISH) + b"more", b"\xf3\x48\xcd"):
            self.assertRaises(PayloadCorruptError, self.unpack, data)
            self.setUp()
