"""Kind `forward`: another service is asked about each request, as Traefik's ForwardAuth and nginx's auth_request do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from proxyd.auth.anonymous import own_cookies
from proxyd.auth.environment import AuthEnvironment
from proxyd.core.cookies import cookies_in
from proxyd.core.forward import x_forwarded
from proxyd.core.target import split_target
from proxyd.errors import OptionError, RequestError
from proxyd.hub.asking import Asker, AskError, AskerTls, Reply
from proxyd.interfaces import IAuthenticator
from proxyd.kinds import Kind
from proxyd.model.auth import Admit, Answer, AuthConfig, Identity, Strip, Verdict
from proxyd.model.routes import check_field
from proxyd.model.upstream import can_be_asked
from proxyd.option import FilePath, Seconds, option

if TYPE_CHECKING:
    from proxyd.core.forward import Peer
    from proxyd.core.head import RequestHead
    from proxyd.model.routes import Route

# What only we may say to the service; `_` is as good as `-` to many. Some believe the names that others have for it.
_OURS = frozenset(b"x-forwarded-" + name for name in (b"for", b"host", b"method", b"port", b"proto", b"uri")) | {
    b"x-original-method",
    b"x-original-uri",
    b"x-original-url",
    b"x-rewrite-url",
}
# What upstreams are told by us, beside what a connection needs.
_SAID = frozenset({b"host", *(b"x-forwarded-" + name for name in (b"for", b"host", b"port", b"proto"))})
# What concerns a connection, or a body that is not sent.
_NOT_ASKED = _OURS | {
    b"accept-encoding",
    b"content-encoding",
    b"expect",
    b"sec-websocket-extensions",
    b"sec-websocket-key",
    b"sec-websocket-version",
}
_NOT_ANSWERED = frozenset({
    b"connection",
    b"content-encoding",
    b"content-length",
    b"date",
    b"keep-alive",
    b"proxy-connection",
    b"server",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
})  # fmt: skip
_NAMES_OF_USERS = (b"remote-user", b"x-forwarded-user", b"x-auth-request-user")
_SCHEMES = {b"ws": b"http", b"wss": b"https"}


@attrs.frozen(kw_only=True)
class ForwardAuthConfig(AuthConfig):
    """Whoever another service lets: it is asked about each request, and answers 2xx, or what the client gets."""

    url: str = option("", help="What is asked, with GET.", example="http://127.0.0.1:9091/api/authz/forward-auth")
    timeout: Seconds = option(Seconds(10), help="How long the service may take for an answer: else 503.")
    response_headers: tuple[str, ...] = option(
        (),
        help="Fields of a 2xx that the upstream gets, such as Remote-User. What clients send under these names never "
        "gets there.",
    )
    hidden_cookies: tuple[str, ...] = option((), help="Names of cookies, such as that of the login, that stay here.")
    set_cookies: bool = option(True, help="Pass the cookies of a 2xx on to the client.")
    ssl_key: FilePath = option(FilePath(""), help="Key of `ssl_certificate`.")
    ssl_certificate: FilePath = option(FilePath(""), help="Certificate that is shown to the service.")
    ssl_ca: FilePath = option(FilePath(""), help="CAs that the service is verified against; default: the usual ones.")

    def __attrs_post_init__(self) -> None:
        """Refuse what can be no question.

        Raises `OptionError`.
        """
        if not self.url:
            raise OptionError("is required", "url")
        if not can_be_asked(self.url):
            raise OptionError("is no URL with http, https or http+unix", "url")
        if self.timeout <= 0:
            raise OptionError("the service needs some time to answer", "timeout")
        for index, name in enumerate(self.response_headers):
            check_field(name, "", "response_headers", index)
            if name.lower().encode() in _SAID:
                raise OptionError("it is proxyd that says that to the upstream", "response_headers", index)


@implementer(IAuthenticator)
class ForwardAuthenticator:
    """Lets in whom the service of `config` lets in."""

    paths: frozenset[bytes] = frozenset()

    def __init__(self, config: ForwardAuthConfig, environment: AuthEnvironment) -> None:
        self._environment = environment
        tls = AskerTls(config.ssl_key, config.ssl_certificate, config.ssl_ca)
        self._asker = Asker(environment.reactor, config.url, config.timeout, tls)
        self._passed = {name.lower().encode(): name.encode() for name in config.response_headers}
        self._hidden = frozenset(name.encode() for name in config.hidden_cookies)
        environment.cookies.update(self._hidden)
        self._fields = frozenset(name.replace(b"_", b"-") for name in self._passed)
        self._sets_cookies = config.set_cookies

    def authenticate(self, head: RequestHead, peer: Peer, route: Route) -> Deferred[Verdict]:
        """Ask, and do what the service says."""
        return Deferred.fromCoroutine(self._authenticate(head, peer))

    async def _authenticate(self, head: RequestHead, peer: Peer) -> Verdict:
        try:
            reply = await self._asker.ask("GET", fields=_question(head, peer))
        except AskError as error:
            raise RequestError(503, f"the service of auth {error}") from None
        if reply.status // 100 == 2:
            return self._admit(head, reply)
        if reply.status < 300:
            raise RequestError(502, f"the service of auth answers with status {reply.status}")
        fields = tuple(b"%b: %b" % pair for pair in reply.fields if pair[0].lower() not in _NOT_ANSWERED)
        return Answer(reply.status, fields, reply.body, "the service of auth does not admit it")

    def _admit(self, head: RequestHead, reply: Reply) -> Admit:
        cookies = cookies_in(head.get_all(b"cookie"))
        told = [(self._passed[name.lower()], value) for name, value in reply.fields if name.lower() in self._passed]
        users = (reply.get(name) for name in _NAMES_OF_USERS)
        name = next((value.decode("utf-8", "replace") for value in users if value), "")
        return Admit(
            identity=Identity(name, "forward"),
            strip=Strip(cookies=self._hidden | own_cookies(cookies, self._environment.cookies), fields=self._fields),
            add=tuple(told),
            set_cookies=tuple(value for own, value in reply.fields if own.lower() == b"set-cookie")
            if self._sets_cookies
            else (),
            touch=self._environment.touch_of(head.target.partition(b"?")[0]),
        )

    def serve(self, head: RequestHead, peer: Peer, path: bytes, query: bytes, body: bytes) -> Answer:
        """There is no path of its own."""
        return Answer(404)


def _question(head: RequestHead, peer: Peer) -> list[tuple[bytes, bytes]]:
    """The fields of the request, without its body, and what it was (as Traefik has it)."""
    fields = []
    for line in head.fields:
        name, _, value = line.partition(b":")
        if name.lower().replace(b"_", b"-") not in _NOT_ASKED:
            fields.append((name, value.strip(b" \t")))
    for line in x_forwarded(head, peer, "auto", frozenset()):
        name, _, value = line.partition(b": ")
        fields.append((name, _SCHEMES.get(value, value) if name == b"X-Forwarded-Proto" else value))
    # What the upstream would get, and not what came: they must not disagree on what is asked for. It has been read
    # before, leniently or not.
    target = b"".join(split_target(head.target, lenient=True))
    return [*fields, (b"X-Forwarded-Method", head.method), (b"X-Forwarded-Uri", target)]


KIND = Kind(AuthConfig, "forward", ForwardAuthConfig, ForwardAuthenticator)
