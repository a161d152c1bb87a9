"""The login page, the logout page, and what else people are told; nothing in them has to be got from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --dim: #5b6876; --paper: #f6f7f9; --card: #fff;
  --line: #c5ccd4; --mark: #0f766e; --alarm: #b91c1c; --on-mark: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8edf2; --dim: #9aa7b4; --paper: #12171d; --card: #1a2129; --line: #46525f; --mark: #2dd4bf;
    --alarm: #f87171; --on-mark: #12171d }
}
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.6 system-ui, sans-serif }
main { width: 100%; max-width: 24rem; padding: 2rem; background: var(--card); border: 1px solid var(--line);
  border-top: 4px solid var(--mark); border-radius: .5rem }
h1 { margin: 0 0 .75rem; font-size: 1.5rem; line-height: 1.3 }
p { margin: 0 0 1.25rem; color: var(--dim) }
p[role=alert] { color: var(--alarm) }
label { display: block; margin-bottom: .25rem }
input, button { width: 100%; padding: .6rem .75rem; font: inherit; border-radius: .375rem }
input { margin-bottom: 1rem; border: 1px solid var(--line); background: var(--paper); color: var(--ink) }
button { border: 0; background: var(--mark); color: var(--on-mark); font-weight: 600; cursor: pointer }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px }
"""
_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest())

FIELDS = (
    b"Content-Type: text/html; charset=utf-8",
    b"Cache-Control: no-store",
    # No form-action: browsers apply it to every redirect behind the form, and an application may have some of its own.
    b"Content-Security-Policy: default-src 'none'; style-src 'sha256-%b'; base-uri 'none'; frame-ancestors 'none'"
    % _STYLE_HASH,
    b"X-Frame-Options: DENY",
    b"X-Content-Type-Options: nosniff",
    # Not `no-referrer`, which would have browsers post the form with `Origin: null`.
    b"Referrer-Policy: same-origin",
)
"""What every page is sent with."""


def login_page(message: str = "") -> bytes:
    """The page with the form; `message` says what was wrong with the last attempt.

    The form goes to the address of the page, so that the page need not repeat it.
    """
    alert = f'<p role="alert">{message}</p>' if message else "<p>This page asks for a token.</p>"
    return _page(
        "Log in",
        f"""{alert}
<form method="post">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button>
</form>""",
    )


def logout_page() -> bytes:
    """The page that asks once more, because a GET must not change anything."""
    return _page("Log out", '<form method="post">\n<button>Log out</button>\n</form>')


def message_page(title: str, words: str, target: str = "", link: str = "") -> bytes:
    """A page that says what is the matter, and leads on to the path `target` if there is one."""
    more = f'\n<p><a href="{escape(target)}">{escape(link)}</a></p>' if target else ""
    return _page(title, f'<p role="alert">{escape(words)}</p>{more}')


def _page(title: str, content: str) -> bytes:
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="robots" content="noindex">\n<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n<h1>{title}</h1>\n{content}\n</main>\n</body>\n</html>\n"
    ).encode()
