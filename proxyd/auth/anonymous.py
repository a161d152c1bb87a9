"""Kind `anonymous`: everybody may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from proxyd.auth.environment import OWN_COOKIES
from proxyd.core.cookies import cookies_in
from proxyd.interfaces import IAuthenticator
from proxyd.kinds import Kind
from proxyd.model.auth import ANYBODY, Admit, AnonymousAuthConfig, Answer, AuthConfig, Strip

if TYPE_CHECKING:
    from proxyd.core.forward import Peer
    from proxyd.core.head import RequestHead
    from proxyd.model.routes import Route


@implementer(IAuthenticator)
class AnonymousAuthenticator:
    """Asks nothing; but the cookies of other authenticators do not get past it."""

    paths: frozenset[bytes] = frozenset()

    def authenticate(self, head: RequestHead, peer: Peer, route: Route) -> Admit:
        """Let everybody in."""
        names = own_cookies(cookies_in(head.get_all(b"cookie")))
        return Admit(strip=Strip(cookies=names)) if names else ANYBODY

    def serve(self, head: RequestHead, peer: Peer, path: bytes, query: bytes, body: bytes) -> Answer:
        """There is no path of its own."""
        return Answer(404)


def own_cookies(cookies: list[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The names among `cookies` that are those of an authenticator, whichever it is."""
    return frozenset(name for name, _ in cookies if name.startswith(OWN_COOKIES))


KIND = Kind(AuthConfig, "anonymous", AnonymousAuthConfig, lambda _config, _environment: AnonymousAuthenticator())
