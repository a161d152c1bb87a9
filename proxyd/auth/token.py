"""Kind `token`: whoever has the token may.

People type it into a login page and get a sealed cookie; programs send it in a field. A cookie is sealed under a key
that is derived from the token it was got for: a token that is taken away takes its logins with it.
"""

from __future__ import annotations

import hmac
import math
import re
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

import attrs
from zope.interface import implementer

from proxyd.auth.anonymous import own_cookies
from proxyd.auth.environment import AuthEnvironment
from proxyd.auth.pages import FIELDS, login_page, logout_page
from proxyd.core.client import client_of
from proxyd.core.cookies import cookies_in, set_cookie
from proxyd.core.origin import SAFE_METHODS, is_foreign, is_navigation, is_secure, local_path
from proxyd.core.sealed import Sealer
from proxyd.errors import OptionError
from proxyd.interfaces import IAuthenticator
from proxyd.kinds import Kind
from proxyd.model.auth import Admit, Answer, AuthConfig, Identity, Strip, Verdict
from proxyd.option import Rate, Seconds, Secret, option

if TYPE_CHECKING:
    from proxyd.core.forward import Peer
    from proxyd.core.head import RequestHead
    from proxyd.model.routes import Route

_TOKEN = re.compile(r"[!-~]{8,1024}")
_CREDENTIALS = re.compile(rb"(?:bearer|token) +([!-~]+)", re.IGNORECASE)
# A person mistypes a few times; at ten guesses a minute, eight random characters last for longer than anybody waits.
_ATTEMPTS = Rate(10, 60)
# Cookies of one name that are tried: there are several if a page of a neighbour domain planted some.
_MAX_COOKIES = 16
# A longer one, escaped, might not fit a request line.
_MAX_NEXT = 4096
_HOLDER = Identity("", "token")
_CHALLENGE = b'WWW-Authenticate: Bearer realm="proxyd"'
_NOT_CACHED = b"Cache-Control: no-store"


# Without a repr, which would be in a traceback one day.
@attrs.frozen(kw_only=True, repr=False)
class TokenAuthConfig(AuthConfig):
    """Whoever knows the token, typed into a login page or sent as `Authorization: Bearer TOKEN`."""

    token: Secret = option(Secret(""), help="The token: 8 characters at least, without blanks. Better: 32 random ones.")
    tokens: tuple[Secret, ...] = option((), help="More of them, as while one is being replaced.")
    login_lifetime: Seconds = option(Seconds(30 * 86400), help="How long a login lasts in a browser.")

    def __attrs_post_init__(self) -> None:
        """Refuse what would let somebody in by accident.

        Raises `OptionError`.
        """
        if not self.all_tokens:
            raise OptionError("a token is needed", "token")
        for path, token in [(("token",), self.token), *((("tokens", i), token) for i, token in enumerate(self.tokens))]:
            if token and not _TOKEN.fullmatch(token):
                raise OptionError("a token has 8 ASCII characters at least, and no blanks", *path)
            if not token and path[0] == "tokens":
                raise OptionError("an empty token would be none", *path)
        if self.login_lifetime < 1:
            raise OptionError("a login has to last for a second at least", "login_lifetime")

    @property
    def all_tokens(self) -> tuple[str, ...]:
        """Every token that is good."""
        return tuple(filter(None, (self.token, *self.tokens)))


@implementer(IAuthenticator)
class TokenAuthenticator:
    """Lets in whoever has one of the tokens of `config`."""

    def __init__(self, config: TokenAuthConfig, environment: AuthEnvironment) -> None:
        tokens = [token.encode("ascii") for token in config.all_tokens]
        key = environment.cookie_key()
        self._digests = [sha256(token).digest() for token in tokens]
        self._sealers = [Sealer(key, b"token login", environment.name.encode(), token) for token in tokens]
        self._lifetime = config.login_lifetime
        self._environment = environment
        self._name = environment.cookie_name
        self._scope = environment.scope.encode()
        self._cookie_path = self._scope.rstrip(b"/") or b"/"
        self._login = environment.own_path.encode() + b"login"
        self._logout = environment.own_path.encode() + b"logout"
        self._attempts = environment.counting.buckets(_ATTEMPTS, b"attempts:" + environment.name.encode())
        self.paths = frozenset({self._login, self._logout})

    # Requests to routes.

    def authenticate(self, head: RequestHead, peer: Peer, route: Route) -> Verdict:
        """Admit who shows a token or a cookie; send people to the login page, and tell programs no."""
        cookies = cookies_in(head.get_all(b"cookie"))
        names = own_cookies(cookies, self._environment.cookies) | {self._name}
        token = _token_in(head)
        wait = self._wait(head, peer) if token is not None else 0.0
        if token is not None and not wait and self._which(token) is not None:
            return self._admit(head, Strip(cookies=names, fields=frozenset({b"authorization"})))
        if self._has_login(cookies):
            if (head.upgrade or head.method not in SAFE_METHODS) and is_foreign(head, peer):
                return Answer(403, detail="a page of another origin asks with the cookie of somebody who is logged in")
            return self._admit(head, Strip(cookies=names))
        if wait:
            return _too_many(wait)
        if token is not None:
            self._count_attempt(head, peer)
        fields: tuple[bytes, ...] = (_NOT_CACHED,)
        if any(name == self._name for name, _ in cookies):
            fields += (self._deletion(head, peer),)
        if b"websocket" in head.upgrade:
            return Answer(403, fields, detail="a WebSocket needs a login")
        if is_navigation(head):
            target = quote(local_path(head.target, self._scope), safe="/").encode()
            location = self._login if len(target) > _MAX_NEXT else self._login + b"?next=" + target
            return Answer(302, (*fields, b"Location: " + location), b"")
        return Answer(401, (*fields, _CHALLENGE), detail="neither a token nor a login")

    def _admit(self, head: RequestHead, strip: Strip) -> Admit:
        return Admit(identity=_HOLDER, strip=strip, touch=self._environment.touch_of(head.target.partition(b"?")[0]))

    def _which(self, token: bytes) -> int | None:
        """Which of the tokens it is; takes as long for a wrong one as for a right one."""
        digest = sha256(token).digest()
        matches = [hmac.compare_digest(digest, own) for own in self._digests]
        return matches.index(True) if any(matches) else None

    def _has_login(self, cookies: list[tuple[bytes, bytes]]) -> bool:
        now = self._environment.wall_clock()
        values = [value for name, value in cookies if name == self._name][:_MAX_COOKIES]
        return any(sealer.unseal(value, now) is not None for value in values for sealer in self._sealers)

    def _client(self, head: RequestHead, peer: Peer) -> bytes:
        return client_of(peer, head, self._environment.trusts)

    def _wait(self, head: RequestHead, peer: Peer) -> float:
        return self._attempts.wait(self._client(head, peer), self._environment.seconds())

    def _count_attempt(self, head: RequestHead, peer: Peer) -> None:
        self._attempts.take(self._client(head, peer), self._environment.seconds())

    # Its own paths.

    def serve(self, head: RequestHead, peer: Peer, path: bytes, query: bytes, body: bytes) -> Answer:
        """The login page and its form, and the way out."""
        if head.method not in (b"GET", b"HEAD", b"POST"):
            return Answer(405, (b"Allow: GET, HEAD, POST",), detail="a form is got and posted")
        if head.method == b"POST" and is_foreign(head, peer):
            return Answer(403, detail="a page of another origin posts the form")
        if path == self._logout:
            return self._serve_logout(head, peer)
        target = self._next(query)
        if head.method == b"POST":
            return self._log_in(head, peer, target, body)
        if self._has_login(cookies_in(head.get_all(b"cookie"))):
            return _go_to(target)
        return Answer(200, FIELDS, login_page())

    def _log_in(self, head: RequestHead, peer: Peer, target: bytes, body: bytes) -> Answer:
        wait = self._wait(head, peer)
        if wait:
            seconds = math.ceil(wait)
            return Answer(
                429, (*FIELDS, b"Retry-After: %d" % seconds), login_page(f"Too many attempts: wait {seconds} s.")
            )
        which = self._which(_posted_token(body))
        if which is None:
            self._count_attempt(head, peer)
            return Answer(403, FIELDS, login_page("That is not the token."))
        now = self._environment.wall_clock()
        value = self._sealers[which].seal(b"", now + self._lifetime)
        return _go_to(target, self._set_cookie(head, peer, value, int(self._lifetime)))

    def _serve_logout(self, head: RequestHead, peer: Peer) -> Answer:
        if head.method != b"POST":
            return Answer(200, FIELDS, logout_page())
        return _go_to(self._login, self._deletion(head, peer))

    def _next(self, query: bytes) -> bytes:
        """Where to go after the login: a path of ours, whatever the query says, and not the way out again."""
        values = _form(query[1:]).get("next", [])
        target = local_path(values[-1].encode("latin-1", "replace"), self._scope) if values else self._scope
        return self._scope if target.partition(b"?")[0] in self.paths else target

    def _set_cookie(self, head: RequestHead, peer: Peer, value: bytes, max_age: int) -> bytes:
        secure = is_secure(head, peer)
        return b"Set-Cookie: " + set_cookie(self._name, value, self._cookie_path, secure=secure, max_age=max_age)

    def _deletion(self, head: RequestHead, peer: Peer) -> bytes:
        return self._set_cookie(head, peer, b"", 0)


def _token_in(head: RequestHead) -> bytes | None:
    """The token in Authorization, if there is one of that form; of two fields, nobody knows which is meant."""
    values = head.get_all(b"authorization")
    match = _CREDENTIALS.fullmatch(values[0]) if len(values) == 1 else None
    return match[1] if match else None


def _form(encoded: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(encoded.decode("ascii"), max_num_fields=16, encoding="latin-1")
    except ValueError:  # not ASCII, or too many
        return {}


def _posted_token(body: bytes) -> bytes:
    values = _form(body).get("token", [""])
    return values[-1].strip().encode("latin-1", "replace")


def _go_to(path: bytes, *fields: bytes) -> Answer:
    return Answer(303, (b"Location: " + path, _NOT_CACHED, *fields), b"")


def _too_many(wait: float) -> Answer:
    return Answer(429, (b"Retry-After: %d" % math.ceil(wait),), detail="too many attempts to guess the token")


KIND = Kind(AuthConfig, "token", TokenAuthConfig, TokenAuthenticator)
