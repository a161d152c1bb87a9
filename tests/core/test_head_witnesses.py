"""Heads, compared with what other parsers read in them."""

from __future__ import annotations

import re

from hypothesis import assume, event, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.framing import LAST_CHUNK, chunk, response_length
from proxyd.core.head import (
    CHUNKED,
    CRLF,
    END_OF_HEAD,
    UNTIL_CLOSE,
    MalformedHeadError,
    RequestHead,
    ResponseHead,
    connection_options,
)
from proxyd.core.target import split_target
from proxyd.errors import RequestError
from tests.core.feeding import damaged_heads
from tests.core.heads import (
    GOOD_REQUESTS,
    GOOD_RESPONSES,
    REQUEST_LINES,
    RESPONSE_LINES,
    read_request,
    read_response,
)
from tests.core.oracles import (
    Message,
    requests_by_h11,
    requests_by_llhttp,
    responses_by_h11,
    responses_by_llhttp,
)

# The methods that llhttp knows, less CONNECT, whose target it reads in another way.
_METHODS_OF_LLHTTP = frozenset(
    b"DELETE GET HEAD POST PUT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND UNBIND "
    b"ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK UNLINK "
    b"SOURCE QUERY".split()
)
# What `fields` do not hold: it is dropped, or told in another way.
_OF_THE_HOP = frozenset(
    b"connection content-length transfer-encoding upgrade keep-alive proxy-connection te trailer".split()
)
_OURS = frozenset(b"host expect proxy".split())
_FORWARDED = frozenset(b"x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto".split())

_NEXT_REQUEST = b"GET /next HTTP/1.1\r\nHost: next" + END_OF_HEAD
_NEXT_RESPONSE = b"HTTP/1.1 499 next\r\nContent-Length: 0" + END_OF_HEAD
_LONGEST_BODY = 1000


def body_of(length: int) -> bytes:
    """Bytes that are a whole body of this length, and nothing else."""
    return chunk(b"chunk") + chunk(b"GET / HTTP/1.1\r\n\r\n") + LAST_CHUNK if length == CHUNKED else b"b" * length


def data_of(length: int) -> bytes:
    """The data in `body_of(length)`."""
    return b"chunkGET / HTTP/1.1\r\n\r\n" if length == CHUNKED else b"b" * length


def with_start(block: bytes, head: RequestHead, method: bytes) -> bytes:
    """The same head with another method, and with a target in ASCII: the witnesses want no other."""
    rest = block[len(head.method) + 1 + len(head.target) :]
    return method + b" " + re.sub(rb"[\x80-\xff]", b"x", head.target) + rest


def without_upgrade(stream: bytes) -> bytes:
    """The same bytes with no field Upgrade in them: llhttp stops reading there."""
    return re.sub(rb"(?i)(?<=\r\n)upgrade(?=:)", b"Xpgrade", stream)


def names_in(block: bytes) -> set[bytes]:
    """The lower-case names of the fields in a head."""
    return {line.partition(b":")[0].lower() for line in block.split(CRLF)[1:]}


class WitnessTests(SynchronousTestCase):
    """Others read everything that is accepted here, and read the same."""

    def assert_same_fields(self, head: RequestHead | ResponseHead, message: Message, dropped: frozenset[bytes]) -> None:
        """What goes on is what the witness read, less what is dropped."""
        options = connection_options(b",".join(message.values(b"connection")))
        if not options <= {b"", b"close", b"keep-alive"}:  # nobody has fields that are called so
            dropped |= options
        dropped |= {b"xpgrade"}
        pairs = (line.partition(b":") for line in head.fields)
        ours = [(name.lower(), value.strip(b" \t")) for name, _, value in pairs]
        theirs = [pair for pair in message.fields if pair[0] not in dropped]
        self.assertEqual(ours, theirs)

    @given(damaged_heads(GOOD_REQUESTS, REQUEST_LINES))
    def test_requests_mean_the_same_to_others(self, block: bytes) -> None:
        """Method, target, fields, length, persistence and the next request: llhttp and h11 agree with us."""
        try:
            head = read_request(block)
            if head.target != b"*":
                split_target(head.target)
        except RequestError:
            event("refused")
            return
        event("accepted")
        assume(head.body <= _LONGEST_BODY)
        rest = END_OF_HEAD + body_of(head.body) + (_NEXT_REQUEST if head.keep_alive else b"")
        known_method = head.method if head.method in _METHODS_OF_LLHTTP else b"POST"
        forged = {name for name in names_in(block) if name.replace(b"_", b"-") in _FORWARDED}
        for witness, start in (
            (requests_by_llhttp, without_upgrade(with_start(block, head, known_method))),
            (requests_by_h11, with_start(block, head, head.method)),
        ):
            message, *others = witness(start + rest)
            self.assertEqual(message.start, tuple(start.split(b" ", 2)[:2]), repr(block))
            self.assertEqual(message.version, f"1.{head.version}", repr(block))
            self.assertEqual(message.body, data_of(head.body), repr(block))
            self.assertTrue(message.is_complete, repr(block))
            self.assertEqual(message.values(b"host"), [] if head.host is None else [head.host], repr(block))
            if head.keep_alive:  # llhttp lets `keep-alive` win over `close` in HTTP/1.0, against RFC 9112 §9.3
                self.assertNotEqual(message.keep_alive, False, repr(block))
            self.assert_same_fields(head, message, _OF_THE_HOP | _OURS | _FORWARDED | forged)
            following = [(b"GET", b"/next")] if head.keep_alive else []
            self.assertEqual([other.start for other in others], following, repr(block))

    @given(damaged_heads(GOOD_RESPONSES, RESPONSE_LINES), st.sampled_from([b"GET", b"HEAD", b"POST"]))
    def test_responses_mean_the_same_to_others(self, block: bytes, method: bytes) -> None:
        """Status, fields, length and the next response: llhttp and h11 agree with us."""
        try:
            head = read_response(block)
        except MalformedHeadError:
            event("refused")
            return
        event("accepted")
        length = response_length(head, method)
        assume(length <= _LONGEST_BODY and head.status != 101)  # both stop at a 101
        lasts = length == UNTIL_CLOSE
        body = b"until close" if lasts else body_of(length)
        stream = block + END_OF_HEAD + body + (b"" if lasts else _NEXT_RESPONSE)
        readings = [responses_by_h11(stream, [method] if lasts else [method, b"GET"])]
        if method != b"HEAD" and (head.keep_alive or lasts):  # llhttp knows nothing of the request
            readings.append(responses_by_llhttp(without_upgrade(stream)))
        for message, *others in readings:
            self.assertEqual(message.start, (b"%d" % head.status,), repr(block))
            self.assertEqual(message.version, f"1.{head.version}", repr(block))
            self.assertEqual(message.body, body if lasts else data_of(length), repr(block))
            self.assert_same_fields(head, message, _OF_THE_HOP)
            self.assertEqual([other.start for other in others], [] if lasts else [(b"499",)], repr(block))
