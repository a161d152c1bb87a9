"""How a stream may come: whole, byte by byte, split anywhere; and how it may be damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hypothesis import strategies as st

FRAGMENTS = [bytes([byte]) for byte in b" \t\r\n\0\x01\x0b\x0c\x1f\x7f\x80\xff:;,_-+%#?/\\\"'<>()[]{}@0aAxfF"] + [
    b"\r\n",
    b"\n\n",
    b"\r\n ",
    b"\r\n\t",
    b"  ",
    b"0x",
    b", ",
    b"1_0",
    b"chunked",
    b"close",
    b"\xc3\xa9",
]


def ways_to_come(data: bytes) -> Iterator[list[bytes]]:
    """Give `data` whole, byte by byte, and split in two at every point."""
    yield [data]
    yield [data[index : index + 1] for index in range(len(data))]
    for index in range(1, len(data)):
        yield [data[:index], data[index:]]


@st.composite
def pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` split at a few places; a piece may be empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@st.composite
def damaged(draw: st.DrawFn, data: bytes, most: int = 3) -> bytes:
    """`data` with bytes inserted, deleted or replaced at up to `most` places."""
    for _ in range(draw(st.integers(0, most))):
        position = draw(st.integers(0, len(data)))
        removed = draw(st.integers(0, 2))
        added = draw(st.sampled_from(FRAGMENTS)) if draw(st.booleans()) else b""
        data = data[:position] + added + data[position + removed :]
    return data


@st.composite
def damaged_heads(draw: st.DrawFn, good: Sequence[bytes], lines: Sequence[bytes]) -> bytes:
    """A head out of `good`, with lines repeated, moved, removed or added out of `lines`, and with damaged bytes."""
    head = draw(st.sampled_from(good)).split(b"\r\n")
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(1, len(head)))
        if draw(st.booleans()):
            head.insert(position, draw(st.sampled_from(lines)))
        elif len(head) > 1:
            line = head.pop(draw(st.integers(1, len(head) - 1)))
            for place in draw(st.lists(st.integers(1, len(head)), max_size=2)):
                head.insert(place, line)
    return draw(damaged(b"\r\n".join(head), 2))
