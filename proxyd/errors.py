"""One tree of exceptions: who made the mistake, and the facts of it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs


class ProxydError(Exception):
    """Base of everything that proxyd raises on purpose."""


@attrs.frozen
class Problem:
    """One thing that is wrong with a configuration.

    `line` and `column` count from 1; 0 means that the place is not known (a command line, the environment).
    `path` is the dotted path of the option, as a user would write it.
    """

    message: str
    path: str = ""
    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place += f":{self.line}:{self.column}"
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ConfigError(ProxydError):
    """A configuration cannot be used; carries every problem at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class OptionError(ProxydError, ValueError):
    """The value of one option is wrong in itself or beside another one.

    `path` names the option inside the section that raises, as keys and indices.
    """

    def __init__(self, message: str, *path: str | int) -> None:
        self.message = message
        self.path = path
        super().__init__(message)

    def __str__(self) -> str:
        return self.message


class ListenError(ProxydError):
    """A listener cannot be opened."""

    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        self.reason = reason
        super().__init__(where, reason)

    def __str__(self) -> str:
        return f"cannot listen on {self.where}: {self.reason}"


class StoreError(ProxydError):
    """A route store cannot be used, or does not do what it was asked for.

    `told` is what of it clients of the API may know: what a class of the user's own says may hold a secret.
    """

    def __init__(self, store: str, detail: str, told: str = "") -> None:
        self.store = store
        self.detail = detail
        self.told = told
        super().__init__(store, detail)

    def __str__(self) -> str:
        return " ".join(f"store {self.store}: {self.detail}".split())


class RequestError(ProxydError):
    """The client's request cannot be served as it is; `status` is the answer it deserves.

    `detail` is for the log and for people; it never repeats what the client sent. `fields` are lines that the answer
    has besides.
    """

    def __init__(self, status: int, detail: str, fields: tuple[bytes, ...] = ()) -> None:
        self.status = status
        self.detail = detail
        self.fields = fields
        super().__init__(status, detail)

    def __str__(self) -> str:
        return self.detail


def too_many(wait_seconds: float, detail: str) -> RequestError:
    """The error of a client that asks too often (RFC 6585 §4), and may do so again in `wait_seconds`."""
    return RequestError(429, detail, (b"Retry-After: %d" % max(1, math.ceil(wait_seconds)),))


class UpstreamError(ProxydError):
    """An upstream did not do its part; `status` is the gateway status of RFC 9110 §15.6."""

    status = 502
    retry_seconds = 0  # after how long another attempt may go better; 0: nobody knows

    def __init__(self, upstream: str, detail: str = "") -> None:
        self.upstream = upstream
        self.detail = detail
        super().__init__(upstream, detail)

    def __str__(self) -> str:
        text = f"upstream {self.upstream} {self.what}"
        return f"{text}: {self.detail}" if self.detail else text

    what = "failed"


class ConnectError(UpstreamError):
    """No connection: refused, unreachable, no such socket, no such host."""

    what = "cannot be reached"


class ForbiddenAddressError(UpstreamError):
    """The name of the upstream means an address that it may not mean."""

    status = 403
    what = "may not be connected to"


class ConnectTimeoutError(UpstreamError):
    """No connection within `timeouts.connect`."""

    status = 504
    what = "did not accept a connection in time"


class UpstreamBusyError(UpstreamError):
    """All of `pool.connections_per_upstream` were in use for as long as a client waits for a connection."""

    status = 503
    what = "has no connection to spare"
    retry_seconds = 1


class ResponseTimeoutError(UpstreamError):
    """Connected, but silent for longer than `timeouts.response` or `timeouts.idle`."""

    status = 504
    what = "did not answer in time"


class ConnectionCutError(UpstreamError):
    """The connection ended before the message did."""

    what = "closed the connection too early"


class MalformedResponseError(UpstreamError):
    """What came is not HTTP/1.x as RFC 9112 has it."""

    what = "sent a malformed response"


class TlsError(ProxydError):
    """What TLS needs cannot be used: a certificate, a key, a bundle, a list of ciphers."""

    def __init__(self, subject: str, reason: str) -> None:
        self.subject = subject
        self.reason = reason
        super().__init__(subject, reason)

    def __str__(self) -> str:
        return f"TLS: {self.subject}: {self.reason}"


class ServerError(ProxydError):
    """A managed server cannot be had."""

    def __init__(self, server: str) -> None:
        self.server = server
        super().__init__(server)


class UnknownServerError(ServerError):
    """There is no server of that name, or no such instance of it."""

    def __str__(self) -> str:
        return f"there is no server {self.server}"


class ServerStartError(ServerError):
    """A managed server is not ready, and will not be for those who wait.

    `lines` are the last ones that it printed, for those who may see them; they are no part of the text. `summary` is
    what of the `reason` everybody may know: no paths, no words of the user's code, no exit status. `retry_seconds` is
    after how long another attempt may go better.
    """

    status = 503

    def __init__(
        self,
        server: str,
        reason: str,
        lines: Iterable[str] = (),
        retry_seconds: float = 1.0,
        summary: str = "did not start",
    ) -> None:
        self.reason = reason
        self.summary = summary
        self.lines = tuple(lines)
        self.retry_seconds = retry_seconds
        super().__init__(server)

    @property
    def facts(self) -> tuple[str, str, tuple[str, ...], float, str]:
        """What it is made of, in plain values."""
        return self.server, self.reason, self.lines, self.retry_seconds, self.summary

    def __str__(self) -> str:
        return f"server {self.server} {self.reason}"


class TemplateError(ProxydError):
    """A template or a callable of the configuration does not give what is needed."""


class HubError(ProxydError):
    """JupyterHub does not say who somebody is, or does not do what it was asked for; nobody gets in by that.

    `status` is the answer for a client that waits for it.
    """

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(status, detail)

    def __str__(self) -> str:
        return f"the Hub {self.detail}"


class LinkError(ProxydError):
    """The link between the controller and a worker."""


class LinkLostError(LinkError):
    """The other process is gone."""

    def __str__(self) -> str:
        return "the other process is gone"


class LinkRefusedError(LinkError):
    """The other process could not do what it was asked for; `facts` are what it says of that, plain values."""

    def __init__(self, facts: object) -> None:
        self.facts = facts
        super().__init__(facts)

    def __str__(self) -> str:
        return f"the other process refused: {self.facts}"


class WorkerError(ProxydError):
    """A worker ended before all of them served."""

    def __init__(self, worker: int, reason: str) -> None:
        self.worker = worker
        self.reason = reason
        super().__init__(worker, reason)

    def __str__(self) -> str:
        return f"before it served, worker {self.worker} {self.reason}"
