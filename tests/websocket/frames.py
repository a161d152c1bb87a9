"""Frames of RFC 6455 §5.2 as tests write and read them, independent of any library."""

from __future__ import annotations

import zlib

from proxyd.core.closing import Close

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
COMPRESSED = 4

_MASK = b"\x01\x20\x03\x40"


def _masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    pad = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = False) -> bytes:
    """One frame."""
    size = len(payload)
    length = size if size < 126 else 126 if size < 65536 else 127
    extended = b"" if size < 126 else size.to_bytes(2 if size < 65536 else 8, "big")
    head = bytes([fin << 7 | rsv << 4 | opcode, mask << 7 | length]) + extended
    return head + (_MASK + _masked(payload, _MASK) if mask else payload)


def close_frame(code: int | None, reason: bytes = b"", *, mask: bool = False) -> bytes:
    """A Close."""
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason, mask=mask)


def take_frames(data: bytes, *, masked: bool = False) -> tuple[tuple[tuple[int, bytes], ...], bytes]:
    """The opcodes and payloads of the whole frames that `data` begins with, and what is behind them.

    A frame is final, and `masked` as a client has to; anything else is behind them. RSV1 is unpacked.
    """
    frames = []
    unpack = zlib.decompressobj(-15)
    view = memoryview(data)
    while len(view) >= 2 and view[0] & 0xB0 == 0x80 and view[1] >> 7 == masked:
        opcode, length, at = view[0] & 15, view[1] & 127, 2
        if length >= 126:
            at = 4 if length == 126 else 10
            length = int.from_bytes(view[2:at], "big")
        mask = bytes(view[at : at + 4]) if masked else bytes(4)
        at += 4 if masked else 0
        if len(view) < at + length:
            break
        payload = bytes(view[at : at + length])
        payload = _masked(payload, mask) if masked else payload
        if view[0] & 0x40:
            payload = unpack.decompress(payload + b"\x00\x00\xff\xff")
        frames.append((opcode, payload))
        view = view[at + length :]
    return tuple(frames), bytes(view)


def read_frames(data: bytes, *, masked: bool = False) -> list[tuple[int, bytes]]:
    """The opcodes and payloads in `data`, all of it frames as `take_frames` takes them."""
    frames, behind = take_frames(data, masked=masked)
    assert not behind, behind[:20]
    return list(frames)


def read_close(payload: bytes) -> Close:
    """What a Close says."""
    return Close(int.from_bytes(payload[:2], "big"), payload[2:]) if payload else Close()
