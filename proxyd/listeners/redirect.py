"""Kind `redirect`: sends everybody who comes in plain text to HTTPS."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from proxyd.core.target import split_target
from proxyd.http.streaming import StreamingResource
from proxyd.kinds import Kind
from proxyd.listeners.http import HttpConfig, HttpListener
from proxyd.model.settings import ListenerConfig
from proxyd.option import Port, option

if TYPE_CHECKING:
    from proxyd.http.request import Request
    from proxyd.listeners.http import SiteMaker
    from proxyd.net.reactor import DataPathReactor

_HTTPS_PORT = 443
_WITHOUT_HOST = b"This port redirects to HTTPS, and needs a Host field for that.\n"
_PORT_OF_HOST = re.compile(rb":[0-9]*\Z")


@attrs.frozen(kw_only=True)
class RedirectConfig(HttpConfig):
    """Redirects to the same URL with `https`."""

    port: Port = option(Port(8080), help="Port to listen on.")
    to_port: Port = option(Port(_HTTPS_PORT), help="Port of HTTPS that clients are sent to.")


def build(config: RedirectConfig, make_site: SiteMaker, reactor: DataPathReactor) -> HttpListener:
    """A listener that redirects."""

    def make_redirecting_site() -> Any:
        return make_site(RedirectResource(config.to_port))

    return RedirectListener(config, make_redirecting_site, reactor, _purpose(config))


def _purpose(config: RedirectConfig) -> str:
    return f"Redirecting to HTTPS on port {config.to_port} from"


class RedirectListener(HttpListener):
    """Hands clients to a site that redirects."""

    def prepare(self, config: object) -> Callable[[], None]:
        """Redirect to the port of other settings."""
        take_place = super().prepare(config)

        def take() -> None:
            take_place()
            if isinstance(config, RedirectConfig):
                self.site.resource = RedirectResource(config.to_port)
                self.purpose = _purpose(config)

        return take


class RedirectResource(StreamingResource):
    """Answers 301 to the same host, path and query, with `https` and port `to_port`."""

    def __init__(self, to_port: int) -> None:
        super().__init__()
        self._port = b"" if to_port == _HTTPS_PORT else b":%d" % to_port

    def render_streaming(self, request: Request) -> None:
        """Redirect a request whose head has come."""
        head = request.head
        if not head.host:
            request.answer(400, [b"Content-Type: text/plain"], _WITHOUT_HOST)
            return
        target = head.target
        if target[:1] != b"/":
            target = b"".join(split_target(target))
        host = _PORT_OF_HOST.sub(b"", head.host)
        request.answer(301, [b"Location: https://" + host + self._port + target])


KIND = Kind(ListenerConfig, "redirect", RedirectConfig, build)
