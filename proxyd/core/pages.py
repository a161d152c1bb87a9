"""Answers of the proxy's own: which status, which words, HTML or JSON."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from http import HTTPStatus

import attrs

from proxyd.core.html import ICON_LINK
from proxyd.errors import RequestError, UpstreamError

REASONS: dict[int, bytes] = {status.value: status.phrase.encode() for status in HTTPStatus}
# RFC 9110 §15.5; up to Python 3.12 the library has older names.
REASONS[413] = b"Content Too Large"
REASONS[414] = b"URI Too Long"
REASONS[416] = b"Range Not Satisfiable"
REASONS[422] = b"Unprocessable Content"

# What the reader can do about it. Nothing here repeats what the client sent.
_MESSAGES = {
    400: "The request cannot be understood.",
    401: "This needs a token or a login.",
    403: "This is not allowed here.",
    404: "Nothing is published at this address.",
    405: "This method is not served here.",
    408: "The request did not arrive in time.",
    413: "The request is larger than this proxy lets through.",
    414: "The address is longer than this proxy lets through.",
    417: "The expectation in the request cannot be met.",
    429: "There were too many requests. Please wait a moment.",
    431: "The head of the request is larger than this proxy lets through.",
    500: "The proxy made a mistake; its log tells more.",
    502: "The application behind this address did not answer properly. It may be stopped or still starting.",
    503: "The application behind this address is not there. It may be stopped or still starting.",
    504: "The application behind this address took too long to answer.",
}
_CHP_TITLES = {404: "Not Found", 503: "Proxy Target Missing"}


@attrs.frozen
class Fault:
    """An error of the proxy's own: the `status` of its answer, a `title` for people, a `detail` for the log.

    `fields` are lines that the answer has besides; `retry_seconds` is after how long the client may try again, 0 if
    nobody knows.
    """

    status: int
    title: str
    detail: str
    fields: tuple[bytes, ...] = ()
    retry_seconds: int = 0

    @property
    def message(self) -> str:
        """What to tell the reader of the page."""
        return _MESSAGES.get(self.status, "The proxy could not serve this request.")


def fault_of(error: RequestError | UpstreamError, statuses: str) -> Fault:
    """The answer for an error. `statuses`: `rfc`, or `chp` for 503 whatever an upstream did wrong."""
    status = 503 if statuses == "chp" and isinstance(error, UpstreamError) else error.status
    title = _CHP_TITLES.get(status, "Proxy Error") if statuses == "chp" else reason_phrase(status).decode()
    if isinstance(error, UpstreamError):
        return Fault(status, title, str(error), retry_seconds=error.retry_seconds)
    return Fault(status, title, str(error), error.fields)


def reason_phrase(status: int) -> bytes:
    """The standard reason phrase of a status."""
    return REASONS.get(status, b"Unknown")


def prefers_json(accept: bytes | None) -> bool:
    """Whether an Accept field (RFC 9110 §12.5.1) asks for JSON rather than for HTML."""
    best = {"json": 0.0, "html": 0.0}
    for part in (accept or b"").decode("latin-1").lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        kind = "json" if media == "application/json" or media.endswith("+json") else "html" if "html" in media else ""
        if kind:
            quality = next((p.removeprefix("q=") for p in parameters if p.startswith("q=")), "1")
            try:
                best[kind] = max(best[kind], float(quality))
            except ValueError:
                continue
    return best["json"] > best["html"]


def json_page(fault: Fault, request_id: str) -> bytes:
    """The body of an answer for a program."""
    page = {"status": fault.status, "error": fault.title, "message": fault.message, "request_id": request_id}
    return json.dumps(page).encode() + b"\n"


def html_page(fault: Fault, request_id: str) -> bytes:
    """The body of an answer for a person; needs nothing from anywhere else."""
    return (
        _PAGE.replace("{status}", str(fault.status))
        .replace("{title}", fault.title)
        .replace("{message}", fault.message)
        .replace("{request_id}", request_id)
        .replace("{icon}", ICON_LINK)
        .replace("{style}", _STYLE)
        .encode()
    )


_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --dim: #5b6876; --paper: #f6f7f9; --card: #fff;
  --line: #dfe4ea; --mark: #c2410c }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8edf2; --dim: #9aa7b4; --paper: #12171d; --card: #1a2129; --line: #2b3540; --mark: #fb923c }
}
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.6 system-ui, sans-serif }
main { width: 100%; max-width: 34rem; padding: 2rem; background: var(--card); border: 1px solid var(--line);
  border-top: 4px solid var(--mark); border-radius: .5rem }
h1 { margin: 0 0 .75rem; font-size: 1.5rem; line-height: 1.3 }
p { margin: 0 0 1.25rem }
footer { border-top: 1px solid var(--line); padding-top: 1rem; color: var(--dim); font-size: .875rem }
code { font-family: ui-monospace, monospace; user-select: all }
"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
{icon}<title>{status}: {title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{status}: {title}</h1>
<p>{message}</p>
<footer>Request <code>{request_id}</code>. If you report this, please send the number along.</footer>
</main>
</body>
</html>
"""

NOT_SNIFFED = b"X-Content-Type-Options: nosniff"

PAGE_FIELDS = (
    b"Content-Type: text/html; charset=utf-8",
    b"Content-Security-Policy: default-src 'none'; style-src 'sha256-%b'; img-src data:; base-uri 'none'; "
    b"frame-ancestors 'self'" % b64encode(sha256(_STYLE.encode()).digest()),
    NOT_SNIFFED,
)
"""What `html_page` has to be sent with."""
