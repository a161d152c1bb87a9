"""Pages of our own: one look, nothing from anywhere else, and fields that let nothing else in."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape

import attrs

ICON_LINK = (
    '<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns=%27http://www.w3.org/2000/svg%27 viewBox=%270 0 16 16%27%3E'
    "%3Crect width=%2716%27 height=%2716%27 rx=%273%27 fill=%27%230f766e%27/%3E"
    '%3Cpath d=%27M4 8h8M9 5l3 3-3 3%27 fill=%27none%27 stroke=%27%23fff%27 stroke-width=%272%27/%3E%3C/svg%3E">\n'
)
"""The icon of our pages, in the page itself: a browser would ask for `/favicon.ico`, which belongs to somebody else."""

_LOOK = """
:root { color-scheme: light dark; --ink: #1d2733; --dim: #5b6876; --paper: #f6f7f9; --card: #fff; --line: #dfe4ea;
  --mark: #0f766e; --alarm: #c2410c; --on-mark: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8edf2; --dim: #9aa7b4; --paper: #12171d; --card: #1a2129; --line: #2b3540; --mark: #2dd4bf;
    --alarm: #fb923c; --on-mark: #12171d }
}
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.6 system-ui, sans-serif }
main { width: 100%; max-width: var(--width, 34rem); padding: 2rem; background: var(--card);
  border: 1px solid var(--line); border-top: 4px solid var(--mark); border-radius: .5rem }
main.alarm { border-top-color: var(--alarm) }
h1 { margin: 0 0 .75rem; font-size: 1.5rem; line-height: 1.3; overflow-wrap: anywhere }
p { margin: 0 0 1.25rem }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px }
"""


@attrs.frozen(kw_only=True)
class Page:
    """A whole page: `content` is HTML that stands in its `main`; `title` is text.

    `style` comes on top of the common look, `script` runs at the end. `head` is HTML for the head of the document,
    `alarm` gives the page the colour of a failure. With `connects` the script may ask its own origin, and images
    may come from there.
    """

    title: str
    content: str
    style: str = ""
    script: str = ""
    head: str = ""
    alarm: bool = False
    connects: bool = False

    @property
    def body(self) -> bytes:
        """The document."""
        main = '<main class="alarm">' if self.alarm else "<main>"
        script = f"<script>{self.script}</script>\n" if self.script else ""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta name="robots" content="noindex">\n{ICON_LINK}{self.head}<title>{escape(self.title)}</title>\n'
            f"<style>{_LOOK}{self.style}</style>\n</head>\n"
            f"<body>\n{main}\n{self.content}\n</main>\n{script}</body>\n</html>\n"
        ).encode("utf-8", "replace")

    @property
    def fields(self) -> list[bytes]:
        """The fields that the page has to be sent with."""
        policy = ["default-src 'none'", f"style-src {_source(_LOOK + self.style)}"]
        if self.script:
            policy.append(f"script-src {_source(self.script)}")
        if self.connects:
            policy += ["connect-src 'self'", "form-action 'self'"]
        policy.append("img-src 'self' data:" if self.connects else "img-src data:")
        policy += ["base-uri 'none'", "frame-ancestors 'self'"]
        return [
            b"Content-Type: text/html; charset=utf-8",
            b"Cache-Control: no-store",
            b"Content-Security-Policy: " + "; ".join(policy).encode(),
            b"X-Content-Type-Options: nosniff",
            b"Referrer-Policy: same-origin",
        ]


def _source(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
