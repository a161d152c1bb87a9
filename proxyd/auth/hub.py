"""Kind `jupyterhub`: whoever the Hub lets (contract of JupyterHub, sections 2.2 to 2.8).

A browser logs in at the Hub and keeps the token that it got there in a sealed cookie. With every request the Hub is
asked whose the token is, unless it has said so a moment ago; only who is known *and* has the scope gets through.
"""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.auth.anonymous import USER_INFO, own_cookies
from proxyd.auth.environment import AuthEnvironment
from proxyd.auth.hubsettings import HubAuthConfig, hub_settings
from proxyd.auth.pages import FIELDS, message_page
from proxyd.core.cookies import cookies_in
from proxyd.core.hubcookies import SESSION_ID, HubCookies
from proxyd.core.oauth import ATTEMPT_SECONDS, Attempt, Exchange, GoOn, Refusal, call_back
from proxyd.core.origin import SAFE_METHODS, is_foreign, is_navigation, is_secure, local_path
from proxyd.core.regular import regular_target
from proxyd.core.remembered import Remembered
from proxyd.core.sealed import Sealer
from proxyd.core.visitors import ARGUMENT, FIELD, Visitor
from proxyd.errors import HubError
from proxyd.hub.client import HubClient
from proxyd.hub.visitors import Visitors
from proxyd.interfaces import IAuthenticator
from proxyd.kinds import Kind
from proxyd.model.auth import Admit, Answer, AuthConfig, Identity, Strip, Verdict
from proxyd.option import Rate

if TYPE_CHECKING:
    from proxyd.core.forward import Peer
    from proxyd.core.head import RequestHead
    from proxyd.model.routes import Route

HUB_VERSION = "6.1.1"
"""The version of JupyterHub that is spoken here; it is told to a Hub that has not told its own."""

# Cookies of one name that are tried.
_MAX_COOKIES = 8
# Within such a time a browser may ask once more without having got the answer.
_TOGETHER_SECONDS = 30.0
# A longer one would make a cookie that browsers do not keep.
_MAX_NEXT = 2048
_MAX_USED = 10_000
_VERSION_ATTEMPTS = 5
_NOT_CACHED = b"Cache-Control: no-store"
_RETRY = b"Retry-After: 5"
_TOKEN = re.compile(rb"[!-~]{1,1024}")
_CREDENTIALS = re.compile(rb"(?:bearer|token) +([!-~]{1,1024})", re.IGNORECASE)

_Cookies = list[tuple[bytes, bytes]]


@attrs.frozen
class _Credential:
    """A token, and where it was: `field`, `url` or `cookie`."""

    token: bytes = attrs.field(repr=False)
    place: str


_Found = tuple[_Credential, Visitor] | None


@implementer(IAuthenticator)
class HubAuthenticator:
    """Lets in whom the Hub knows and says may come in."""

    _log = Logger()

    def __init__(self, config: HubAuthConfig, environment: AuthEnvironment) -> None:
        settings = self._settings = hub_settings(config, environment.environ, environment.scope)
        self._environment = environment
        self._client = HubClient(environment.reactor, settings.place)
        self._visitors = Visitors(self._client.user, environment.seconds, config.known_for)
        self._cookies = HubCookies(settings.oauth.client_id.encode(), host_prefix=settings.host_prefix)
        environment.cookies.update(self._cookies.ours)
        key, client_id = environment.cookie_key(), settings.oauth.client_id.encode()
        self._logins = Sealer(key, b"hub login", client_id)
        self._attempts = Sealer(key, b"hub attempt", client_id)
        # A state that was taken is used up, whichever process took it.
        self._used = environment.counting.buckets(Rate(1, ATTEMPT_SECONDS), b"hub attempt:")
        # Of attempts whose cookies were taken away when another tab was quicker.
        self._next_urls: Remembered[str, str] = Remembered(_MAX_USED)
        self._begun_at = float("-inf")
        self._prefix = settings.prefix.encode()
        self._cookie_path = b"/" if settings.host_prefix else self._prefix
        self._callback = urlsplit(settings.oauth.redirect_uri).path.encode()
        public = urlsplit(settings.public_url)
        self._public_host = public.netloc.encode()
        self._is_public_secure = public.scheme == "https"
        self._tells_field = config.forward_user_info
        self._tells_argument = config.query_user_info
        self._version = HUB_VERSION
        self.paths = frozenset({self._callback})
        for name in settings.ignored:
            self._log.warn("the attribute {name} in JUPYTERHUB_COOKIE_OPTIONS is ignored", name=name)
        # Not now: a reload makes authenticators on a thread.
        environment.reactor.callFromThread(self._learn_version)

    # Requests to routes.

    def authenticate(self, head: RequestHead, peer: Peer, route: Route) -> Verdict | Deferred[Verdict]:
        """Admit whom the Hub knows and lets; send people to the Hub's login page, and tell programs no."""
        path = head.target.partition(b"?")[0]
        cookies = cookies_in(head.get_all(b"cookie"))
        credentials = self._credentials(head, cookies)
        if head.method in (b"GET", b"HEAD") and not head.upgrade:
            if not credentials and path == self._prefix + b"api":
                return self._answer_probe()
            target = regular_target(head.target, self._prefix)
            if target is not None:
                # A cookie for the regular path is not sent for another spelling: the login would never end.
                regular = target.partition(b"?")[0]
                status = 302 if regular == path + b"/" else 301
                # The Hub itself has another spelling for some names, and looks for its version in this answer then.
                told = (self._version_field(),) if regular == self._prefix + b"api" else ()
                return Answer(status, (b"Location: " + target, *told), b"")
        found = self._identify(credentials, _session(cookies))
        if not isinstance(found, Deferred):
            return self._decide(found, head, peer, path, cookies)
        deciding: Deferred[Verdict] = found.addCallback(self._decide, head, peer, path, cookies)
        return deciding.addErrback(_not_known, head)

    def _credentials(self, head: RequestHead, cookies: _Cookies) -> list[_Credential]:
        """What the client shows, in the order in which it counts."""
        found = []
        # Whatever else asks for an upgrade is served as an ordinary request.
        is_websocket = head.upgrade == b"websocket" and head.method == b"GET"
        if is_websocket or self._settings.allow_token_in_url:
            token = _token_in_query(head.target.partition(b"?")[2])
            if token:
                found.append(_Credential(token, "url"))
        token = _token_in_field(head)
        if token:
            found.append(_Credential(token, "field"))
        if not is_websocket or self._settings.allow_websocket_cookie:
            found += self._logins_in(cookies)
        return found

    def _logins_in(self, cookies: _Cookies) -> list[_Credential]:
        now = self._environment.wall_clock()
        values = [value for name, value in cookies if name == self._cookies.session][:_MAX_COOKIES]
        tokens = (self._logins.unseal(value, now) for value in values)
        return [_Credential(token, "cookie") for token in tokens if token]

    def _identify(self, credentials: list[_Credential], session: bytes) -> _Found | Deferred[_Found]:
        """The first credential that the Hub knows, with its owner."""
        for index, credential in enumerate(credentials):
            visitor = self._visitors.find(session, credential.token)
            if isinstance(visitor, Deferred):
                return Deferred.fromCoroutine(self._identify_later(visitor, credentials[index:], session))
            if visitor is not None:
                return credential, visitor
        return None

    async def _identify_later(
        self, asked: Deferred[Visitor | None], credentials: list[_Credential], session: bytes
    ) -> _Found:
        visitor = await asked
        if visitor is not None:
            return credentials[0], visitor
        found = self._identify(credentials[1:], session)
        return await found if isinstance(found, Deferred) else found

    def _decide(self, found: _Found, head: RequestHead, peer: Peer, path: bytes, cookies: _Cookies) -> Verdict:
        if found is None:
            return self._ask_to_log_in(head, peer, path, cookies)
        credential, visitor = found
        if not self._settings.access.admits(visitor):
            page = message_page("Not allowed", f"{visitor.name} is logged in, but may not use this server.")
            return Answer(403, FIELDS, page, "the visitor has none of the scopes")
        if (
            credential.place == "cookie"
            and (head.upgrade or head.method not in SAFE_METHODS)
            and is_foreign(head, peer, self._public_host)
        ):
            return Answer(403, detail="a page of another origin asks with the cookie of somebody who is logged in")
        hidden = self._cookies.hidden(name for name, _ in cookies)
        fields, arguments = _shown(credential, head)
        return Admit(
            identity=Identity(visitor.name, visitor.kind),
            strip=Strip(
                cookies=hidden | own_cookies(cookies, self._environment.cookies), fields=fields, arguments=arguments
            ),
            add=((FIELD, visitor.info),) if self._tells_field else (),
            add_arguments=((ARGUMENT, visitor.info),) if self._tells_argument else (),
            touch=self._environment.touch_of(path),
        )

    def _ask_to_log_in(self, head: RequestHead, peer: Peer, path: bytes, cookies: _Cookies) -> Answer:
        """Nobody knows who it is."""
        fields: tuple[bytes, ...] = (_NOT_CACHED,)
        names = [name for name, _ in cookies]
        if self._cookies.session in names and (not head.upgrade or self._settings.allow_websocket_cookie):
            fields += (self._deletion(self._cookies.session, head, peer),)
        # What a login elsewhere than below the prefix leads to would not be found there.
        if head.upgrade or not is_navigation(head, b"*/*") or not path.startswith(self._prefix):
            return Answer(403, fields, detail="nobody whom the Hub knows")
        surplus = self._cookies.surplus([pair for pair in cookies if self._cookies.is_state(pair[0])])
        fields += tuple(self._deletion(name, head, peer) for name in dict.fromkeys(surplus))
        now, begun_at = self._environment.seconds(), self._begun_at
        self._begun_at = now
        name = self._cookies.fresh_state(names, os.urandom, may_be_plain=now - begun_at > _TOGETHER_SECONDS)
        attempt = Attempt.begin(self._next(head.target).decode("latin-1"), os.urandom)
        value = self._attempts.seal(attempt.content, self._environment.wall_clock() + ATTEMPT_SECONDS)
        fields += (
            self._line(name, value, ATTEMPT_SECONDS, head, peer),
            b"Location: " + attempt.location(self._settings.oauth).encode(),
        )
        return Answer(302, fields, b"")

    def _next(self, target: bytes) -> bytes:
        """Where a login leads: a path of ours, whatever was asked for."""
        path = local_path(target, self._prefix)
        return self._prefix if len(path) > _MAX_NEXT or path.partition(b"?")[0] in self.paths else path

    def _line(self, name: bytes, value: bytes, max_age: int | None, head: RequestHead, peer: Peer) -> bytes:
        secure = self._is_public_secure or is_secure(head, peer)
        return self._settings.cookie_options.line(name, value, self._cookie_path, secure=secure, max_age=max_age)

    def _deletion(self, name: bytes, head: RequestHead, peer: Peer) -> bytes:
        return self._line(name, b"", 0, head, peer)

    # What the Hub itself wants.

    def _answer_probe(self) -> Answer:
        """The Hub waits for this answer to its own start of us, so it cannot be asked anything."""
        fields = (
            b"Content-Type: application/json",
            self._version_field(),
            _NOT_CACHED,
        )
        return Answer(200, fields, b'{"version": "%b"}' % self._version.encode())

    def _version_field(self) -> bytes:
        return b"X-JupyterHub-Version: " + self._version.encode()

    def _learn_version(self) -> None:
        learning = Deferred.fromCoroutine(self._ask_version())
        learning.addErrback(lambda failure: self._log.failure("unexpected error in a look at the Hub", failure=failure))

    async def _ask_version(self) -> None:
        """Nothing depends on it; but somebody who looks for a mistake wants to know."""
        for attempt in range(_VERSION_ATTEMPTS):
            try:
                version = await self._client.version()
            except HubError as error:
                self._log.warn("{error}", error=error)
                await deferLater(self._environment.reactor, 2**attempt)
                continue
            if version.partition(".")[0] not in ("", HUB_VERSION.partition(".")[0]):
                self._log.warn(
                    "the Hub is JupyterHub {version}; this was written for {own}", version=version, own=HUB_VERSION
                )
            self._version = version or HUB_VERSION
            return

    # The callback of a login.

    def serve(self, head: RequestHead, peer: Peer, path: bytes, query: bytes, body: bytes) -> Answer | Deferred[Answer]:
        """A browser comes back from the Hub."""
        if head.method != b"GET":
            return Answer(405, (b"Allow: GET",), detail="a browser comes back with GET")
        return Deferred.fromCoroutine(self._call_back(head, peer, query[1:], cookies_in(head.get_all(b"cookie"))))

    async def _call_back(self, head: RequestHead, peer: Peer, query: bytes, cookies: _Cookies) -> Answer:
        now = self._environment.wall_clock()
        states = {name: value for name, value in cookies if self._cookies.is_state(name)}
        contents = (self._attempts.unseal(value, now) for value in states.values())
        attempts = [Attempt.from_content(content) for content in contents if content is not None]
        own = [attempt for attempt in attempts if attempt is not None and not self._is_used(attempt)]
        step = call_back(query, own, is_logged_in=False)
        if isinstance(step, Refusal) and step.status == 403 and await self._is_logged_in(cookies):
            known = [attempt for attempt in attempts if attempt is not None]
            step = call_back(query, known, is_logged_in=True, next_of=partial(self._next_urls.get, now=now))
            if isinstance(step, Exchange):
                step = GoOn(step.attempt.next_url)
        if isinstance(step, Refusal):
            return self._refuse(step)
        if isinstance(step, GoOn):
            return self._go_to(step.next_url)
        deletions = tuple(self._deletion(name, head, peer) for name in states)
        self._used.take(step.attempt.state.encode(), self._environment.seconds())
        try:
            token = await self._exchange(step, _session(cookies))
        except HubError as error:
            self._log.warn("a login failed: {error}", error=error)
            page = message_page("The login failed", _sentence(str(error)), self._settings.prefix, "Log in again")
            return Answer(error.status, (*FIELDS, *deletions), page, str(error))
        for attempt in own:
            self._next_urls.put(attempt.state, attempt.next_url, now + ATTEMPT_SECONDS)
        lifetime = self._settings.cookie_options.max_age
        value = self._logins.seal(token, now + (lifetime or 30 * 86400))
        return self._go_to(
            step.attempt.next_url, *deletions, self._line(self._cookies.session, value, lifetime, head, peer)
        )

    def _is_used(self, attempt: Attempt) -> bool:
        return self._used.wait(attempt.state.encode(), self._environment.seconds()) > 0

    async def _exchange(self, step: Exchange, session: bytes) -> bytes:
        token = await self._client.exchange(step.form(self._settings.oauth))
        found = self._visitors.find(session, token)
        if (await found if isinstance(found, Deferred) else found) is None:
            raise HubError(500, "does not know the token that it has just given out")
        return token

    async def _is_logged_in(self, cookies: _Cookies) -> bool:
        try:
            found = self._identify(self._logins_in(cookies), _session(cookies))
            return (await found if isinstance(found, Deferred) else found) is not None
        except HubError:
            return False

    def _refuse(self, refusal: Refusal) -> Answer:
        words = refusal.description or _sentence(refusal.detail)
        if refusal.status == 403:
            words += " It was begun in another browser, or too long ago."
        page = message_page("The login failed", words, self._settings.prefix, "Log in again")
        return Answer(refusal.status, FIELDS, page, refusal.detail)

    def _go_to(self, next_url: str, *fields: bytes) -> Answer:
        return Answer(302, (b"Location: " + self._next(next_url.encode("latin-1")), _NOT_CACHED, *fields), b"")


# What goes no further: what was shown, and what only we may say.
_FIELDS = USER_INFO.fields
_ARGUMENTS = USER_INFO.arguments
_FIELDS_WITH_TOKEN = _FIELDS | {b"authorization"}
_ARGUMENTS_WITH_TOKEN = _ARGUMENTS | {b"token"}


def _shown(credential: _Credential, head: RequestHead) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """The fields and arguments that hold `credential`; some programs show it in both ways at once."""
    if credential.place == "cookie":
        return _FIELDS, _ARGUMENTS
    in_field = credential.place == "field" or _token_in_field(head) == credential.token
    in_query = credential.place == "url" or credential.token in _tokens_in_query(head.target.partition(b"?")[2])
    return _FIELDS_WITH_TOKEN if in_field else _FIELDS, _ARGUMENTS_WITH_TOKEN if in_query else _ARGUMENTS


def _token_in_field(head: RequestHead) -> bytes:
    """The token in Authorization; of two fields, nobody knows which is meant."""
    values = head.get_all(b"authorization")
    match = _CREDENTIALS.fullmatch(values[0]) if len(values) == 1 else None
    return match[1] if match else b""


def _token_in_query(query: bytes) -> bytes:
    """The argument `token`, if there is one that could be a token."""
    values = _tokens_in_query(query)
    return values[0] if len(values) == 1 and _TOKEN.fullmatch(values[0]) else b""


def _tokens_in_query(query: bytes) -> list[bytes]:
    if b"token=" not in query:
        return []
    arguments = (part.partition(b"=") for part in query.split(b"&"))
    return [unquote_to_bytes(value) for name, _, value in arguments if name == b"token"]


def _session(cookies: _Cookies) -> bytes:
    """What tells sessions of browsers at the Hub apart."""
    return b";".join(value for name, value in cookies if name == SESSION_ID)


def _not_known(failure: Failure, head: RequestHead) -> Verdict:
    """Nobody gets in while the Hub does not say who it is; people are told that it is not the application."""
    error = failure.value
    if not isinstance(error, HubError):
        return failure  # type: ignore[return-value]  # it goes on failing
    if not is_navigation(head):
        return Answer(error.status, (_NOT_CACHED, _RETRY), detail=str(error))
    words = f"{_sentence(str(error))} It knows who may use this server. Load the page again in a moment."
    return Answer(error.status, (*FIELDS, _RETRY), message_page("JupyterHub does not answer", words), str(error))


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


KIND = Kind(AuthConfig, "jupyterhub", HubAuthConfig, HubAuthenticator)
