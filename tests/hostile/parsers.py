"""What the readers of heads and chunks must never do, whatever they get: the oracle of the fuzzer."""

from __future__ import annotations

from proxyd.core.forward import Peer
from proxyd.core.framing import ChunkedDecoder, FramingError
from proxyd.core.head import CHUNKED, END_OF_HEAD, HeadLimits, MalformedHeadError, RequestReader, ResponseReader
from proxyd.core.target import decode_path, split_target
from proxyd.errors import RequestError
from tests.core.test_forward import make_plan
from tests.hostile.strict import MalformedError, read_chunked, read_request, read_response
from tests.hostile.witnesses import disagreements

_REQUESTS, _RESPONSES = RequestReader(HeadLimits()), ResponseReader()
_PLAN = make_plan()
_PEER = Peer(b"192.0.2.1", secure=False, trusted=False)


class FindingError(Exception):
    """A reader has done what it must not do."""


def check_request_head(block: bytes) -> None:
    """What is accepted is accepted by a strict reader, and what goes on is read alike by everybody."""
    block = block.partition(END_OF_HEAD)[0]
    try:
        head = _REQUESTS.read(block)
        path, query = split_target(head.target)
        decode_path(path)
    except RequestError:
        return
    body = b"0\r\n\r\n" if head.body == CHUNKED else b"b" * min(head.body, 1000)
    if head.body <= 1000:
        try:
            if read_request(block + END_OF_HEAD + body) is None:
                raise FindingError(f"a strict reader waits for more: {block!r}")
        except MalformedError as error:
            raise FindingError(f"a strict reader refuses it: {error}: {block!r}") from error
    forwarded = _PLAN.request_head(head, path, query, _PEER)
    if head.body <= 1000 and (differences := disagreements(forwarded + body)):
        raise FindingError(f"{forwarded!r} is ambiguous: {differences}")


def check_response_head(block: bytes) -> None:
    """What is accepted is accepted by a strict reader."""
    block = block.partition(END_OF_HEAD)[0]
    try:
        head = _RESPONSES.read(block)
    except MalformedHeadError:
        return
    try:
        found = read_response(block + END_OF_HEAD, b"HEAD", at_end=True)
    except MalformedError as error:
        raise FindingError(f"a strict reader refuses it: {error}: {block!r}") from error
    if found is None or found[0].status != head.status:
        raise FindingError(f"a strict reader finds {found}: {block!r}")


def check_chunks(body: bytes) -> None:
    """Whole and byte by byte, the same is read; and a strict reader reads it, too."""
    whole = _decode([body])
    if whole != _decode([body[index : index + 1] for index in range(len(body))]):
        raise FindingError(f"it matters how it comes: {body!r}")
    data, rest, is_good = whole
    if not is_good:
        return
    try:
        expected, stop = read_chunked(body)
    except MalformedError as error:
        if rest is None:
            return  # a line that cannot become good: we tell when it is whole
        raise FindingError(f"a strict reader refuses it: {error}: {body!r}") from error
    if expected != data or (rest is None) != (stop is None) or (stop is not None and body[stop:] != rest):
        raise FindingError(f"a strict reader finds {expected!r} up to {stop}: {body!r}")


def _decode(pieces: list[bytes]) -> tuple[bytes, bytes | None, bool]:
    """The data, what is behind the end (None before it), and whether all was well."""
    decoder = ChunkedDecoder()
    data = rest = b""
    try:
        for piece in pieces:
            if decoder.complete:
                rest += piece
            else:
                data += decoder.feed(piece)
    except FramingError:
        return b"", None, False
    return data, decoder.rest + rest if decoder.complete else None, True


CHECKS = {"request": check_request_head, "response": check_response_head, "chunks": check_chunks}
