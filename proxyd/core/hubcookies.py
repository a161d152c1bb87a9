"""The cookies between a browser, JupyterHub and us: names and attributes (contract of JupyterHub, 2.4 and 2.8)."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

SESSION_ID = b"jupyterhub-session-id"
"""The Hub sets it for all servers, and takes it away at the logout."""

_HOST = b"__Host-"
_DAY = 86400
_LIFETIME_DAYS = 30
# Of the Hub itself, on the path of all servers; with `__Host-`, which has no path, its login comes along as well.
_OF_THE_HUB = frozenset(
    prefix + name for prefix in (b"", _HOST) for name in (SESSION_ID, b"jupyterhub-hub-login", b"jupyterhub-services")
)
# And so do those of everybody's servers, and of services.
_OF_SERVERS = (b"jupyterhub-user-", _HOST + b"jupyterhub-user-", _HOST + b"service-")
_LETTERS = string.ascii_letters.encode()
# Attempts to log in that a browser may have at once, one in each tab; a Hub takes 64 KiB of fields, others less.
_MAX_ATTEMPTS = 24
_MAX_ATTEMPT_BYTES = 8 * 1024


class HubCookies:
    """The names for the OAuth client `client_id`; `host_prefix`: browsers hold them to https and to one host.

    `ours` are those that we set, in either form.
    """

    def __init__(self, client_id: bytes, *, host_prefix: bool) -> None:
        self.session = _HOST + client_id if host_prefix else client_id
        self.state = self.session + b"-oauth-state"
        self._states = tuple(name + b"-oauth-state" for name in (client_id, _HOST + client_id))
        self.ours = frozenset({client_id, _HOST + client_id, *self._states})
        self._always = self.ours | _OF_THE_HUB
        self._more = (*self._states, *_OF_SERVERS)

    def is_state(self, name: bytes) -> bool:
        """Whether a cookie holds an attempt to log in."""
        return name == self.state or name.startswith(self.state + b"-")

    def fresh_state(self, names: Iterable[bytes], random: Callable[[int], bytes], *, may_be_plain: bool) -> bytes:
        """The name for another attempt, beside those that came in cookies called `names`.

        `may_be_plain`: no other one was begun just now, which the browser may not have got the cookie of yet.
        """
        if may_be_plain and self.state not in names:
            return self.state
        return self.state + b"-" + bytes(_LETTERS[byte % len(_LETTERS)] for byte in random(8))

    def surplus(self, attempts: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """The names of those `attempts` that have to go for another one; browsers send the oldest cookies first."""
        kept, room = 0, _MAX_ATTEMPT_BYTES
        for name, value in reversed(attempts):
            room -= len(name) + len(value)
            if kept >= _MAX_ATTEMPTS - 1 or room < 0:
                break
            kept += 1
        return [name for name, _ in attempts[: len(attempts) - kept]]

    def hidden(self, names: Iterable[bytes]) -> frozenset[bytes]:
        """What no application gets and sets: what is ours or the Hub's, and of `names` the logins elsewhere."""
        more = {name for name in names if name.startswith(self._more)}
        return self._always | more if more else self._always


@attrs.frozen(kw_only=True)
class CookieOptions:
    """Attributes of the cookies that can be chosen; `max_age` None lets them end with the browser's session."""

    same_site: str = "Lax"
    secure: bool | None = None
    http_only: bool = True
    max_age: int | None = _LIFETIME_DAYS * _DAY

    @classmethod
    def read(cls, options: Mapping[str, object]) -> tuple[CookieOptions, list[str]]:
        """The attributes as in JUPYTERHUB_COOKIE_OPTIONS, and the names of those that are not taken.

        Domain and Path are not: who else gets the cookie is not a matter of taste.
        """
        made, ignored = cls(), []
        for name, value in options.items():
            match name.lower():
                case "samesite" if str(value).capitalize() in ("Lax", "Strict", "None"):
                    made = attrs.evolve(made, same_site=str(value).capitalize())
                case "secure":
                    made = attrs.evolve(made, secure=bool(value))
                case "httponly":
                    made = attrs.evolve(made, http_only=bool(value))
                case "max_age" if isinstance(value, int):
                    made = attrs.evolve(made, max_age=value)
                case "expires_days" if value is None or isinstance(value, int | float):
                    made = attrs.evolve(made, max_age=None if value is None else int(value * _DAY))
                case _:
                    ignored.append(name)
        return made, ignored

    def line(self, name: bytes, value: bytes, path: bytes, *, secure: bool, max_age: int | None) -> bytes:
        """The Set-Cookie field; `max_age` 0 deletes the cookie, and browsers want `secure` as it was set."""
        secure = name.startswith(_HOST) or (secure if self.secure is None else self.secure)
        parts = [b"Set-Cookie: %b=%b" % (name, value), b"Path=" + path]
        if max_age is not None:
            parts.append(b"Max-Age=%d" % max_age)
        if self.http_only:
            parts.append(b"HttpOnly")
        parts.append(b"SameSite=" + self.same_site.encode())
        if secure:
            parts.append(b"Secure")
        return b"; ".join(parts)
