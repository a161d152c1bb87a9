"""Other people's parsers as witnesses of what a message means: `httptools` (llhttp, strict) and `h11`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs
import h11
import httptools

from proxyd.core.head import CRLF


class RefusedError(Exception):
    """A witness does not take the bytes for HTTP."""


@attrs.define
class Message:
    """A message as a witness reads it. `start` is method and target, or the status; names are in lower case."""

    start: tuple[bytes, ...] = ()
    version: str = ""
    fields: list[tuple[bytes, bytes]] = attrs.Factory(list)
    body: bytes = b""
    is_complete: bool = False
    keep_alive: bool | None = None

    def values(self, name: bytes) -> list[bytes]:
        """The values of all fields called `name`."""
        return [value for key, value in self.fields if key == name]


class _Listener:
    """Collects what a parser of httptools tells."""

    parser: httptools.HttpRequestParser | httptools.HttpResponseParser

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._start: tuple[bytes, ...] = ()

    def on_message_begin(self) -> None:
        self.messages.append(Message())
        self._start = ()

    def on_url(self, url: bytes) -> None:
        self._start += (url,)

    def on_header(self, name: bytes, value: bytes) -> None:
        message = self.messages[-1]
        if not message.version:  # behind it these are trailers
            message.fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        message = self.messages[-1]
        message.version = self.parser.get_http_version()
        message.keep_alive = self.parser.should_keep_alive()
        if isinstance(self.parser, httptools.HttpRequestParser):
            message.start = (self.parser.get_method(), b"".join(self._start))
        else:
            message.start = (b"%d" % self.parser.get_status_code(),)

    def on_body(self, data: bytes) -> None:
        self.messages[-1].body += data

    def on_message_complete(self) -> None:
        self.messages[-1].is_complete = True


def _with_llhttp(kind: Callable[[_Listener], httptools.HttpRequestParser], stream: bytes) -> list[Message]:
    listener = _Listener()
    listener.parser = parser = kind(listener)
    try:
        parser.feed_data(stream)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise RefusedError(f"llhttp: {error}: {stream!r}") from error
    return listener.messages


def requests_by_llhttp(stream: bytes) -> list[Message]:
    """The requests in `stream`. What has to do with Upgrade must not be in it: llhttp stops there."""
    return _with_llhttp(httptools.HttpRequestParser, stream)


def responses_by_llhttp(stream: bytes) -> list[Message]:
    """The responses in `stream`, to methods other than HEAD."""
    return _with_llhttp(httptools.HttpResponseParser, stream)


def _next_by_h11(connection: h11.Connection, stream: bytes, *, closes: bool) -> tuple[Message, bytes]:
    message = Message()
    try:
        connection.receive_data(stream)
        if closes:
            connection.receive_data(b"")
        while not message.is_complete:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                message.start = (event.method, event.target)
            elif isinstance(event, (h11.Response, h11.InformationalResponse)):
                message.start = (b"%d" % event.status_code,)
            elif isinstance(event, h11.Data):
                message.body += event.data
                continue
            elif isinstance(event, h11.EndOfMessage):
                message.is_complete = True
                continue
            else:
                break
            message.version = event.http_version.decode()
            message.fields = list(event.headers)
            if isinstance(event, h11.InformationalResponse):
                message.is_complete = True
    except h11.RemoteProtocolError as error:
        raise RefusedError(f"h11: {error}: {stream!r}") from error
    return message, connection.trailing_data[0]


def requests_by_h11(stream: bytes) -> list[Message]:
    """The requests in `stream`."""
    messages = []
    while stream:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        message, stream = _next_by_h11(connection, stream, closes=False)
        messages.append(message)
        if not message.is_complete:
            break
    return messages


def responses_by_h11(stream: bytes, methods: Iterable[bytes]) -> list[Message]:
    """The responses in `stream` to requests with these methods; the connection closes behind them."""
    messages = []
    for method in methods:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
        connection.send(h11.EndOfMessage())
        message, stream = _next_by_h11(connection, stream, closes=True)
        messages.append(message)
    return messages


def chunked_by_h11(stream: bytes) -> tuple[bytes, bytes]:
    """Take the chunked coding off: the data, and what stands behind the body."""
    head = CRLF.join([b"POST / HTTP/1.1", b"Host: h", b"Transfer-Encoding: chunked", b"", b""])
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    message, rest = _next_by_h11(connection, head + stream, closes=True)
    return message.body, rest
