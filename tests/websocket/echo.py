"""A WebSocket server for tests that answers frame by frame, in order: what it says depends on nothing but what it got.

It sends each message back in one frame, answers pings, and ends by the rules of RFC 6455 and RFC 7692. It shares no
code with proxyd or with any library.
"""

from __future__ import annotations

import codecs
import re
import socket
import zlib
from base64 import b64encode
from functools import partial
from hashlib import sha1
from unittest import TestCase

from tests.websocket.frames import BINARY, CLOSE, COMPRESSED, CONTINUATION, PING, PONG, TEXT, close_frame, frame
from tests.wire import ScriptedUpstream, Wire

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# RFC 6455 §7.4.1 and the registry of IANA.
_CODES = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
_MOST = 16 * 1024 * 1024


class _EndError(Exception):
    """The conversation is over; `close` is the last frame."""

    def __init__(self, close: bytes) -> None:
        super().__init__(close)
        self.close = close


def _fault(code: int) -> _EndError:
    return _EndError(close_frame(code))


class Packing:
    """permessage-deflate of one side; `offer` is what the client asks for."""

    def __init__(self, offer: bytes) -> None:
        bits = re.search(rb"server_max_window_bits=(\d+)", offer)
        self._window = -int(bits[1]) if bits else -15
        self._keeps = b"server_no_context_takeover" not in offer
        flags = re.findall(rb"(?:server|client)_no_context_takeover|server_max_window_bits=\d+", offer)
        self.answer = b"; ".join([b"permessage-deflate", *flags])
        self._packing = zlib.compressobj(wbits=self._window)
        self._unpacking = zlib.decompressobj(-15)

    def pack(self, data: bytes) -> bytes:
        """The payload of a message."""
        if not self._keeps:
            self._packing = zlib.compressobj(wbits=self._window)
        return (self._packing.compress(data) + self._packing.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def unpack(self, payload: bytes) -> bytes:
        """What a message says."""
        try:
            data = self._unpacking.decompress(payload + b"\x00\x00\xff\xff")
        except zlib.error:
            raise _fault(1007) from None
        if self._unpacking.eof:  # RFC 7692 §7.2.3.4: a last block; whoever packs begins anew behind it
            self._unpacking = zlib.decompressobj(-15)
        return data


class _Conversation:
    """The server's side of one WebSocket."""

    def __init__(self, wire: Wire, packing: Packing | None, *, resets: bool) -> None:
        self._wire = wire
        self._resets = resets
        self._packing = packing
        self._opcode = CONTINUATION  # of the message under way, if it is not this one
        self._is_packed = False
        self._pieces: list[bytes] = []
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    def run(self) -> None:
        """Answer until the end."""
        try:
            while True:
                self._next()
        except _EndError as end:
            self._wire.send(end.close)
            if self._resets:
                self._wire.reset()
                return
            self._wire.finish()
            self._wire.rest()

    def _exactly(self, count: int) -> bytes:
        data = self._wire.exactly(count)
        if len(data) < count:
            raise ConnectionResetError("the client has left")
        return data

    def _next(self) -> None:
        """Take one frame."""
        first, second = self._exactly(2)
        is_last, rsv, opcode = first >> 7, first >> 4 & 7, first & 15
        may_be_packed = self._packing is not None and opcode in (TEXT, BINARY)
        if rsv & ~(COMPRESSED if may_be_packed else 0) or 3 <= opcode <= 7 or opcode > PONG or not second >> 7:
            raise _fault(1002)
        length = second & 127
        if opcode >= CLOSE:
            if not is_last or length > 125:
                raise _fault(1002)
        elif (opcode == CONTINUATION) == (self._opcode == CONTINUATION):
            raise _fault(1002)
        if length > 125:
            length = int.from_bytes(self._exactly(2 if length == 126 else 8), "big")
        if length > _MOST:
            raise _fault(1002 if length >> 63 else 1009)
        mask = self._exactly(4)
        if opcode >= CLOSE:
            self._control(opcode, _unmasked(self._exactly(length), mask))
            return
        if opcode != CONTINUATION:
            self._opcode, self._is_packed = opcode, bool(rsv)
            self._pieces = []
            self._utf8.reset()
        self._payload(length, mask)
        if is_last:
            self._message()

    def _payload(self, length: int, mask: bytes) -> None:
        """Take the payload of a data frame; text that cannot be UTF-8 any more is a fault at once."""
        at = 0
        while at < length:
            data = self._wire.some(length - at)
            if not data:
                raise ConnectionResetError("the client has left")
            turn = at % 4
            piece = _unmasked(data, mask[turn:] + mask[:turn])
            at += len(data)
            if self._opcode == TEXT and not self._is_packed:
                self._decode(piece)
            self._pieces.append(piece)

    def _decode(self, piece: bytes, *, final: bool = False) -> None:
        try:
            self._utf8.decode(piece, final)
        except UnicodeDecodeError:
            raise _fault(1007) from None

    def _message(self) -> None:
        """A message is complete: send it back."""
        opcode, self._opcode = self._opcode, CONTINUATION
        data = b"".join(self._pieces)
        if self._is_packed and self._packing is not None:
            data = self._packing.unpack(data)
        if opcode == TEXT:
            self._decode(data if self._is_packed else b"", final=True)
        if self._packing is None:
            self._wire.send(frame(opcode, data))
        else:
            self._wire.send(frame(opcode, self._packing.pack(data), rsv=COMPRESSED))

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._wire.send(frame(PONG, payload))
        elif opcode == CLOSE:
            if len(payload) == 1 or (payload and int.from_bytes(payload[:2], "big") not in _CODES):
                raise _fault(1002)
            try:
                payload[2:].decode()
            except UnicodeDecodeError:
                raise _fault(1007) from None
            raise _EndError(frame(CLOSE, payload))


def _unmasked(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    pad = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


def converse(wire: Wire, *, resets: bool = False) -> None:
    """A script for `ScriptedUpstream`: take a handshake, and echo; `resets`: behind the Close comes a reset."""
    wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is held back would be lost by a reset
    head = wire.head()
    if not head:
        return
    key = re.search(rb"(?i)\r\nsec-websocket-key: *([^\r]+)", head)
    assert key is not None, head
    offer = re.search(rb"(?i)\r\nsec-websocket-extensions: *(permessage-deflate[^,\r]*)", head)
    packing = Packing(offer[1]) if offer else None
    accept = b64encode(sha1(key[1] + _GUID).digest())
    agreed = b"Sec-WebSocket-Extensions: %b\r\n" % packing.answer if packing else b""
    wire.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, agreed)
    )
    _Conversation(wire, packing, resets=resets).run()


def echo_server(case: TestCase, *, resets: bool = False) -> ScriptedUpstream:
    """A server that echoes, until the end of the test."""
    return ScriptedUpstream(case, partial(converse, resets=resets))
