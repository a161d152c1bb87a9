"""The configuration as a whole: every section of the YAML file that belongs to no kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import unquote

import attrs

from proxyd.errors import OptionError
from proxyd.model.activity import ActivitySettings
from proxyd.model.auth import AnonymousAuthConfig, AuthConfig
from proxyd.model.patterns import PatternSpec
from proxyd.model.ports import PortsSettings
from proxyd.model.routes import RouteOptions
from proxyd.model.servers import ServerSpec
from proxyd.model.tls import ServerTlsSettings
from proxyd.option import (
    ByteCount,
    FilePath,
    Network,
    Port,
    Rate,
    RouteKey,
    Seconds,
    Secret,
    ServerName,
    UpstreamUrl,
    UrlPath,
    Workers,
    option,
    section,
)

_MALFORMED_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Limits of what everybody sends.
_FOR_ALL = (
    "request_line",
    "header_line",
    "headers",
    "header_count",
    "chunk_line",
    "rewrite_body",
    "api_body",
    "api_bulk_body",
    "route_path",
)


class ListenerConfig:
    """Marks the config class of each kind of listener."""


@attrs.frozen(kw_only=True)
class StoreConfig:
    """Marks the config class of each kind of route store."""


@attrs.frozen(kw_only=True)
class MemoryStoreConfig(StoreConfig):
    """Routes of the API live as long as the process."""


@attrs.frozen(kw_only=True)
class Timeouts:
    """Every wait has an end; `0s` means that this one has none."""

    header: Seconds = option(
        Seconds(10),
        help="From the first byte of a request to the end of its head: else 408. Bytes one by one (slowloris) do not "
        "prolong it: a head fits a few packets.",
    )
    body_idle: Seconds = option(
        Seconds(60),
        help="A body that makes no progress because the client sends or takes nothing: else 408. It runs anew with all "
        "that moves: a large body may take as long as its line needs.",
    )
    keep_alive: Seconds = option(
        Seconds(75),
        help="A client's connection between two requests. More than the 60 seconds of most load balancers: who sends "
        "the requests should be the one that closes.",
    )
    connect: Seconds = option(
        Seconds(5),
        help="Until an upstream accepts the connection: else 504. A packet that is lost is sent again after 1 and 3 "
        "seconds.",
    )
    response: Seconds = option(
        Seconds(300),
        help="Silence of an upstream before the head of its response, WebSocket verdicts included: else 504. The "
        "kernel of a notebook may need minutes to start.",
    )
    idle: Seconds = option(
        Seconds(0),
        help="Silence of an upstream in the middle of a response. Event streams may be silent for any time.",
    )
    client_idle: Seconds = option(
        Seconds(0),
        help="A client that neither sends nor takes anything: dropped without an answer. Those of the API are not.",
    )


@attrs.frozen(kw_only=True)
class Limits:
    """How much a client or an upstream may send; beyond, the answer says which limit it was."""

    request_line: ByteCount = option(
        ByteCount(8 * 1024), help="The first line of a request: else 414. Most upstreams take no longer one."
    )
    header_line: ByteCount = option(
        ByteCount(16 * 1024),
        help="One field of a head: else 431. Room for several cookies of 4 KiB, the most that a browser keeps in one.",
    )
    headers: ByteCount = option(
        ByteCount(64 * 1024),
        help="All fields of a head together: else 431, in a response 502. It is the memory that somebody gets of whom "
        "nothing is known yet.",
    )
    header_count: int = option(
        200, help="Fields in a head: else 431. Browsers send about 20; each of them costs time to look at."
    )
    body: ByteCount = option(
        ByteCount(0),
        help="The body of a request, 0 for any: else 413. Bodies pass in pieces, and a long one costs no more memory.",
    )
    chunk_line: ByteCount = option(
        ByteCount(4 * 1024),
        help="The line in front of a chunk: else 400. It holds a number; extensions are dropped, and a body may have "
        "1 KiB of them.",
    )
    trailers: ByteCount = option(
        ByteCount(8 * 1024),
        help="Trailer section of a chunked body: else 400. It is dropped, and read for its end only.",
    )
    rewrite_body: ByteCount = option(
        ByteCount(100 * 1024 * 1024), help="A response that `rewrite_response` changes, in memory: else 502."
    )
    interim_responses: int = option(
        16,
        help="1xx responses to one request: else 502. Upstreams send one or two; without a limit a client could wait "
        "for the real one for ever.",
    )
    api_body: ByteCount = option(
        ByteCount(16 * 1024 * 1024),
        help="The body of an API request: else 413. It is read as a whole, and only for those who have the token.",
    )
    api_bulk_body: ByteCount = option(
        ByteCount(256 * 1024 * 1024),
        help="The body of an API request that replaces all routes: else 413. A million routes of 250 bytes.",
    )
    route_path: ByteCount = option(
        ByteCount(4 * 1024),
        help="The path of a route in the API: else 414. With what is below it, it has to fit `request_line`.",
    )
    connections: int = option(
        0,
        help="Connections of all clients together, 0 for any: else 503 with Retry-After. An exchange takes two of the "
        "files that the process may open.",
    )
    connections_per_client: int = option(
        0,
        help="Connections from one address, 0 for any, trusted proxies excepted: else 429 with Retry-After. Behind one "
        "address there may be a whole office: only you know.",
    )
    requests_per_client: Rate = option(
        Rate(0, 1),
        help="Requests of one client, IPv6 by /64: beyond, 429 with Retry-After. A page of an application may ask for "
        "dozens of files at once: they have to fit.",
    )
    target: Literal["strict", "lenient"] = option(
        "strict",
        help="`strict` refuses request targets that hold a fragment, quotes or angle brackets, which servers read in "
        "different ways; `lenient` drops the fragment and passes the others.",
    )

    def __attrs_post_init__(self) -> None:
        """Refuse what would refuse everything; only where the help says so is 0 no limit.

        Raises `OptionError`.
        """
        for name in _FOR_ALL:
            if not getattr(self, name):
                raise OptionError("0 would let nothing through", name)


@attrs.frozen(kw_only=True)
class ErrorSettings:
    """Where the pages of the proxy's own errors come from."""

    directory: FilePath = option(
        FilePath(""), help="Directory of STATUS.html and error.html; read anew for each error."
    )
    target: UpstreamUrl = option(UpstreamUrl(""), help="URL that is asked for URL/STATUS?url=REQUEST-TARGET.")
    statuses: Literal["rfc", "chp"] = option(
        "rfc", help="`rfc` tells 502 from 504; `chp` answers 503 for every fault of an upstream."
    )


@attrs.frozen(kw_only=True)
class Health:
    """Paths on the public side that tell a load balancer how things are."""

    live: UrlPath = option(UrlPath("/healthz"), help='Answers 200 while the process runs; "" for none.')
    ready: UrlPath = option(UrlPath("/readyz"), help='Answers 200, and 503 while draining; "" for none.')


@attrs.frozen(kw_only=True)
class PoolSettings:
    """Connections to upstreams that are kept open."""

    idle_per_upstream: int = option(64, help="Idle connections kept for each upstream.")
    idle_seconds: float = option(60.0, help="How long an idle connection is kept.")
    connections_per_upstream: int = option(
        0,
        help="Connections to one upstream, WebSockets excepted; 0 for any. Beyond, requests wait for as long as "
        "`timeouts.connect`, first come, first served: else 503.",
    )


@attrs.frozen(kw_only=True)
class LogSettings:
    """What is logged, and how."""

    format: Literal["text", "json", "chp"] = option("text", help="Form of the log lines.")
    level: Literal["debug", "info", "warn", "error"] = option("info", help="The least level that is logged.")
    access: Literal["combined", "json", "off"] = option(
        "combined", help="Form of the access log, one line for each exchange."
    )
    access_file: FilePath = option(
        FilePath(""),
        help="File of the access log, opened again on SIGUSR1; empty: standard output, with the other lines.",
    )
    stall_after: Seconds = option(
        Seconds(5), help="An event loop that stands still for so long is logged, with where it hangs."
    )


@attrs.frozen(kw_only=True)
class MetricsSettings:
    """Shown at `/metrics` of the API, behind its token, or on a listener of their own, without one."""

    enabled: bool = option(True, help="Count, and show the numbers.")
    port: Port | None = option(None, help="Port of a listener of their own.")
    address: str | None = option(
        None,
        help='Address of that listener, `127.0.0.1` unless it is given; "" or "*" for all.',
        example="127.0.0.1",
    )
    socket: FilePath = option(FilePath(""), help="Path of a unix socket to listen on instead.")
    names: Literal["native", "chp"] = option(
        "native",
        help="`chp`: those of configurable-http-proxy, which need a listener of their own.",
    )

    def __attrs_post_init__(self) -> None:
        """Check what belongs together.

        Raises `OptionError`.
        """
        if self.socket and (self.port is not None or self.address is not None):
            raise OptionError("either a socket or an address and a port", "socket")
        if self.address is not None and self.port is None:
            raise OptionError("an address needs a port", "address")
        if self.names == "chp" and self.enabled and not self.has_listener:
            raise OptionError("the names of configurable-http-proxy need a port or a socket", "names")

    @property
    def has_listener(self) -> bool:
        """Whether the numbers have a listener of their own."""
        return self.port is not None or bool(self.socket)

    @property
    def is_shown_apart(self) -> bool:
        """Whether they are shown there."""
        return self.enabled and self.has_listener

    @property
    def place(self) -> tuple[str, int, str]:
        """Where that listener is: address, port and socket."""
        return ("127.0.0.1" if self.address is None else self.address, self.port or 0, self.socket)


@attrs.frozen(kw_only=True)
class ApiSettings:
    """The REST API, on a port of its own."""

    address: str = option("127.0.0.1", help='Address to listen on; "" or "*" for all.')
    port: Port = option(Port(8001), help="Port to listen on.")
    socket: FilePath = option(FilePath(""), help="Path of a unix socket to listen on instead.")
    tls: ServerTlsSettings | None = option(None, help="Serve the API over TLS only.")
    token: Secret = option(
        Secret(""),
        help="Token that clients have to send; default $PROXYD_AUTH_TOKEN, else $CONFIGPROXY_AUTH_TOKEN, "
        "else one is made and kept in `state_directory`/token.",
    )
    tokens: tuple[Secret, ...] = option(
        (), help="Tokens that are accepted besides `token`: a new one and the old one, while clients change over."
    )
    open: bool = option(False, help="Serve the API without any token. Everyone who reaches it rules the proxy.")
    route_options: Literal["typed", "verbatim"] = option(
        "typed",
        help="`typed` reads options of a posted route as in this file; `verbatim` keeps them without effect, and the "
        "API is that of configurable-http-proxy and no more.",
    )

    def __attrs_post_init__(self) -> None:
        """Refuse tokens that nobody can send.

        Raises `OptionError`.
        """
        for index, token in enumerate(self.tokens):
            if not token:
                raise OptionError("an empty token would be none", "tokens", index)
        for path, token in ((("token",), self.token), *((("tokens", i), each) for i, each in enumerate(self.tokens))):
            if any(char.isspace() for char in token):
                raise OptionError("a token has no blanks", *path)


@attrs.frozen(kw_only=True)
class RouteSpec(RouteOptions):
    """A static route."""

    upstream: UpstreamUrl = attrs.field(
        metadata={"help": "Where it leads: http://, https:// or http+unix://%2Fpath%2Fto%2Fsocket."}
    )


@attrs.frozen(kw_only=True)
class Config:
    """Everything that the file says."""

    listeners: tuple[ListenerConfig, ...] = option((), help="Sockets that take traffic.")
    api: ApiSettings | None = attrs.field(
        factory=ApiSettings, metadata={"help": "The REST API; `off` for none.", "section": True}
    )
    metrics: MetricsSettings = section(MetricsSettings, help="Numbers for Prometheus.")
    host_routing: bool = option(
        False, help="The first segment of an API route's path is its host, as in configurable-http-proxy."
    )
    workers: Workers = option(
        Workers(1), help="Processes that serve traffic; beyond 1, one more rules them. `auto`: one for each core."
    )
    store: StoreConfig = attrs.field(
        factory=MemoryStoreConfig, metadata={"help": "Where the routes of the API are kept.", "section": True}
    )
    route_defaults: RouteOptions = section(RouteOptions, help="Options for every route.")
    routes: Mapping[RouteKey, RouteSpec] = option(
        {},
        help="Static routes. Routes of the API come on top and win. A key that does not begin with `/` begins "
        "with a host; `*.example.org/` matches one label.",
    )
    auth: AuthConfig = attrs.field(
        factory=AnonymousAuthConfig,
        metadata={"help": "Who may use the routes, unless a route has an `auth` of its own.", "section": True},
    )
    activity: ActivitySettings = section(ActivitySettings, help="Reports of activity to JupyterHub.")
    allow_anonymous: bool = option(
        False,
        help="Let everybody use servers and ports, even on a listener that is neither on loopback nor a socket.",
    )
    patterns: tuple[PatternSpec, ...] = option(
        (),
        help="Routes by regular expression, asked in this order when no longer prefix than `/` answers.",
    )
    ports: PortsSettings = section(PortsSettings, help="Ports of this machine, and of others, below `base_url`.")
    base_url: UrlPath = option(
        UrlPath("/"), help="Servers, ports and the start page live below it; it begins and ends with `/`."
    )
    default_url: str = option(
        "",
        help="Path below `base_url` to which `base_url` itself redirects, in place of a page; default under a Hub "
        "$JUPYTERHUB_DEFAULT_URL.",
        example="/proxy/8080",
    )
    start_page: bool = option(True, help="Whether there is a page at exactly `base_url`, and while a server starts.")
    servers: Mapping[ServerName, ServerSpec] = option(
        {}, help="Servers, by their names: what is below `base_url` and the name belongs to them."
    )
    root_server: str = option(
        "", help="The name of the server that is at `base_url` itself, with all that is below it; default: none."
    )
    server_packages: tuple[str, ...] | Literal["*"] = option(
        (),
        help="Names of servers that installed packages bring, as entry points `jupyter_serverproxy_servers`; "
        '`"*"`: all of them.',
    )
    jupyter_config: tuple[FilePath, ...] | Literal["auto"] = option(
        (),
        help="Configuration files of Jupyter whose `c.ServerProxy` counts, all else is ignored; `auto`: those in "
        "Jupyter's configuration directories.",
    )
    python_path: tuple[FilePath, ...] = option((), help="Directories in which `!python` looks, too.")
    trusted_proxies: tuple[Network, ...] = option(
        (Network("127.0.0.0/8"), Network("::1"), Network("unix")),
        help="Peers whose X-Forwarded-* and PROXY headers are believed.",
    )
    errors: ErrorSettings = section(ErrorSettings, help="Error pages.")
    health: Health = section(Health, help="Health checks.")
    timeouts: Timeouts = section(Timeouts, help="Waits.")
    limits: Limits = section(Limits, help="Sizes.")
    pool: PoolSettings = section(PoolSettings, help="Idle connections to upstreams.")
    log: LogSettings = section(LogSettings, help="Logs.")
    state_directory: FilePath = option(
        FilePath(""),
        help="Where state is kept; default $STATE_DIRECTORY, else $XDG_STATE_HOME/proxyd, else ~/.local/state/proxyd.",
    )
    pid_file: FilePath = option(FilePath(""), help="File that holds the process id while proxyd runs.")
    drain_seconds: float = option(30.0, help="How long requests may go on after SIGTERM.")
    drain_delay_seconds: float = option(
        0.0,
        help="How long new clients are still served after SIGTERM, before `drain_seconds` begin, while `health.ready` "
        "already answers 503: the time that load balancers take to notice.",
    )

    def __attrs_post_init__(self) -> None:
        """Check what a path below which others live has to be.

        Raises `OptionError`.
        """
        segments = self.base_url.split("/")
        if len(segments) < 2 or segments[0] or segments[-1]:
            raise OptionError("has to begin and to end with /", "base_url")
        if any(segment in ("", ".", "..") for segment in segments[1:-1]):
            raise OptionError("has no empty segments, and no dots in place of one", "base_url")
        try:
            unquote(_MALFORMED_ESCAPE.sub("%ff", self.base_url), errors="strict")
        except UnicodeDecodeError:
            raise OptionError("has a malformed percent escape, or one that is not UTF-8", "base_url") from None
        if not set("?#{}").isdisjoint(self.base_url):
            raise OptionError("is a path: without query, fragment and braces", "base_url")
        may_be_imported = self.server_packages or self.jupyter_config
        if self.root_server and self.root_server not in self.servers and not may_be_imported:
            raise OptionError(f"there is no server {self.root_server}", "root_server")
