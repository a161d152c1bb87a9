"""Kind `anonymous`: everybody may."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import attrs
from zope.interface import implementer

from proxyd.auth.environment import OWN_COOKIES, AuthEnvironment
from proxyd.core.cookies import cookies_in
from proxyd.core.visitors import ARGUMENT, FIELD
from proxyd.interfaces import IAuthenticator
from proxyd.kinds import Kind
from proxyd.model.auth import ANYBODY, NOTHING, Admit, AnonymousAuthConfig, Answer, AuthConfig, Strip

if TYPE_CHECKING:
    from proxyd.core.forward import Peer
    from proxyd.core.head import RequestHead
    from proxyd.model.routes import Route


USER_INFO = Strip(fields=frozenset({FIELD.lower()}), arguments=frozenset({ARGUMENT.lower()}))
"""By which an application is told who a visitor is: nobody else may say it."""


@implementer(IAuthenticator)
class AnonymousAuthenticator:
    """Asks nothing; but the cookies of other authenticators do not get past it."""

    paths: frozenset[bytes] = frozenset()

    def __init__(self, config: AnonymousAuthConfig, environment: AuthEnvironment) -> None:
        self._hidden = USER_INFO if config.remove_user_info else NOTHING
        self._environment = environment

    def authenticate(self, head: RequestHead, peer: Peer, route: Route) -> Admit:
        """Let everybody in."""
        names = own_cookies(cookies_in(head.get_all(b"cookie")), self._environment.cookies)
        touch = self._environment.touch_of(head.target.partition(b"?")[0])
        if touch is None and not names and not self._hidden:
            return ANYBODY
        return Admit(strip=attrs.evolve(self._hidden, cookies=names), touch=touch)

    def serve(self, head: RequestHead, peer: Peer, path: bytes, query: bytes, body: bytes) -> Answer:
        """There is no path of its own."""
        return Answer(404)


def own_cookies(cookies: list[tuple[bytes, bytes]], names: Collection[bytes]) -> frozenset[bytes]:
    """The names among `cookies` that are those of an authenticator, whichever it is; `names` are some of them."""
    return frozenset(name for name, _ in cookies if name in names or name.startswith(OWN_COOKIES))


KIND = Kind(AuthConfig, "anonymous", AnonymousAuthConfig, AnonymousAuthenticator)
