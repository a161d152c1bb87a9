"""Kinds `http` and `https`: clients over TCP or a unix socket, in plain text or over TLS."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred, DeferredList
from zope.interface import implementer

from proxyd.errors import OptionError
from proxyd.interfaces import IListener
from proxyd.kinds import Kind
from proxyd.listeners.sockets import identity, is_at, open_tcp, open_unix, remove_unix, set_mode
from proxyd.model.settings import ListenerConfig
from proxyd.model.tls import ServerTlsSettings
from proxyd.net.certificates import ServerTls
from proxyd.net.proxied import ProxiedPort
from proxyd.net.tcp import DataPathPort
from proxyd.net.tls import DataPathTlsPort
from proxyd.option import FileMode, FilePath, Port, option

if TYPE_CHECKING:
    import socket

    from proxyd.net.reactor import DataPathReactor
    from proxyd.system.activation import InheritedSockets

SiteMaker = Callable[..., Any]
"""Makes a site around a resource, or around the routes if there is none: `DataPath.make_site`."""


@attrs.frozen(kw_only=True)
class HttpConfig(ListenerConfig):
    """HTTP over plain TCP or a unix socket."""

    address: str = option("127.0.0.1", help='Address to listen on; "" or "*" for all, IPv4 and IPv6.')
    port: Port = option(Port(8000), help="Port to listen on.")
    socket: FilePath = option(FilePath(""), help="Path of a unix socket to listen on instead.")
    mode: FileMode | None = option(None, help="Permissions of the socket; default: what the umask leaves.")
    backlog: int = option(1024, help="How many connections may wait to be accepted.")
    proxy_protocol: bool = option(
        False,
        help="Every connection begins with a header of the PROXY protocol, version 1 or 2, which tells the client's "
        "address. Only those from `trusted_proxies` are taken.",
    )

    def __attrs_post_init__(self) -> None:
        """Check what belongs together.

        Raises `OptionError`.
        """
        if self.mode is not None and not self.socket:
            raise OptionError("only a socket has a mode", "mode")


@attrs.frozen(kw_only=True)
class HttpsConfig(HttpConfig, ServerTlsSettings):
    """HTTP over TLS, on TCP or a unix socket."""

    port: Port = option(Port(8443), help="Port to listen on.")

    def __attrs_post_init__(self) -> None:
        """Check what belongs together.

        Raises `OptionError`.
        """
        HttpConfig.__attrs_post_init__(self)
        ServerTlsSettings.__attrs_post_init__(self)


@implementer(IListener)
class HttpListener:
    """Hands clients to a site that `make_site` makes, over TLS if there are settings for it."""

    def __init__(
        self,
        config: HttpConfig,
        make_site: SiteMaker,
        reactor: DataPathReactor,
        purpose: str = "Proxying",
        tls: ServerTlsSettings | None = None,
    ) -> None:
        self.purpose = purpose
        self.tls = None if tls is None else ServerTls(tls)
        self.scheme = "http" if tls is None else "https"
        self._config = config
        self.site = make_site()
        self._reactor = reactor
        self._ports: list[DataPathPort] = []
        self._inherited: list[socket.socket] = []
        self.sockets: list[socket.socket] = []
        self._has_rivals = False
        self._identity: tuple[int, int] | None = None
        self.port = int(config.port)

    @property
    def where(self) -> str:
        """The URL or path, as an operator may use it."""
        config = self._config
        if config.socket:
            return str(config.socket)
        host = config.address or "*"
        return f"{self.scheme}://[{host}]:{self.port}" if ":" in host else f"{self.scheme}://{host}:{self.port}"

    def inherit(self, sockets: InheritedSockets) -> None:
        """Listen on those that are at its address or path, if there are any, instead of opening its own."""
        config = self._config
        self._inherited = sockets.take(lambda sock: is_at(sock, config.address, config.port, config.socket))

    def adopt(self, sockets: list[socket.socket]) -> None:
        """Listen on these, as other processes do, too."""
        self._inherited = sockets
        self._has_rivals = True

    def bind(self) -> None:
        """Listen, but leave the clients to wait, or to other processes.

        Raises `ListenError` and `TlsError`.
        """
        config = self._config
        if self.tls is not None:
            self.tls.load()
        if self._inherited:
            self.sockets = self._inherited
        elif config.socket:
            self.sockets = [open_unix(config.socket, config.backlog, config.mode)]
            self._identity = identity(config.socket)
        else:
            self.sockets = open_tcp(config.address, config.port, config.backlog)
        if not config.socket:
            self.port = self.sockets[0].getsockname()[1]

    def open(self) -> None:
        """Listen, and take clients.

        Raises `ListenError` and `TlsError`.
        """
        self.bind()
        self._ports = [self._make_port(sock) for sock in self.sockets]
        for port in self._ports:
            port.is_shared = bool(self._inherited)
            port.has_rivals = self._has_rivals
            port.startListening()
        self._inherited = []

    def _make_port(self, sock: socket.socket) -> DataPathPort:
        site = self.site
        if self.tls is None:
            port = DataPathPort(sock, site, self._reactor)
        else:
            port = DataPathTlsPort(sock, site, self._reactor, self.tls)
        if self._config.proxy_protocol:
            return ProxiedPort(
                port,
                self._reactor,
                site.deadlines,
                lambda: site.settings.timeouts.header,
                lambda address: site.settings.trusted.trusts(address),  # noqa: PLW0108  # a reload may change whom
            )
        return port

    def prepare(self, config: object) -> Callable[[], None]:
        """Read certificates and keys again, those of other settings if `config` has some.

        `config` is another section for the same place, or other settings of TLS, None for no TLS any more.
        """
        loaded = ServerTls(config) if isinstance(config, ServerTlsSettings) else None
        if loaded is not None:
            loaded.load()

        def take() -> None:
            other = config if isinstance(config, HttpConfig) else self._config
            before, self._config = self._config, other
            has_tls, self.scheme = self.scheme == "https", "http" if loaded is None else "https"
            if self.tls is None or loaded is None:
                self.tls = loaded
            else:
                self.tls.take(loaded)
            if (has_tls, before.proxy_protocol) != (loaded is not None, other.proxy_protocol):
                self._replace_ports()
            if before.backlog != other.backlog:
                for port in self._ports:
                    port.set_backlog(other.backlog)
                for sock in () if self._ports else self.sockets:
                    sock.listen(other.backlog)
            if before.mode != other.mode and self._identity is not None:
                with suppress(OSError):  # somebody has removed it
                    set_mode(other.socket, other.mode)

        return take

    def _replace_ports(self) -> None:
        """Serve those who come from now on in another way; who comes in between waits in the same queue."""
        self._ports, before = [], self._ports
        for old in before:
            port = self._make_port(old.hand_on())
            port.is_shared, port.has_rivals = old.is_shared, old.has_rivals
            self._ports.append(port)
            port.startListening()

    def refresh(self) -> None:
        """Read the certificates again if they have changed."""
        if self.tls is not None:
            self.tls.refresh()

    def certificates(self) -> list[tuple[str, float]]:
        """The names that are served over TLS, and when the certificate of each ends, in seconds since the epoch."""
        served = () if self.tls is None else self.tls.served
        return [(name, about.ends.timestamp()) for about in served for name in about.names]

    def close(self) -> Deferred[None]:
        """Take no new clients."""
        closing = [port.stopListening() for port in self._ports]
        for sock in () if self._ports else self.sockets:
            sock.close()
        self._ports, self.sockets = [], []
        if self._identity is not None:
            remove_unix(self._config.socket, self._identity)
            self._identity = None
        return DeferredList([done for done in closing if done is not None]).addCallback(lambda _: None)


def build_https(config: HttpsConfig, make_site: SiteMaker, reactor: DataPathReactor) -> HttpListener:
    """A listener whose TLS is in its own section."""
    return HttpListener(config, make_site, reactor, tls=config)


KINDS = (
    Kind(ListenerConfig, "http", HttpConfig, HttpListener),
    Kind(ListenerConfig, "https", HttpsConfig, build_https),
)
