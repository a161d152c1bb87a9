"""Managed servers: what a user may say about one, and what can be told about one that runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote

import attrs

from proxyd.errors import OptionError
from proxyd.model.upstream import MAX_SOCKET_PATH, Parts, Upstream
from proxyd.option import (
    ByteCount,
    FilePath,
    Function,
    Pattern,
    Port,
    PortRange,
    Seconds,
    option,
    section,
)

READY_SECONDS = 60.0
"""How long a server may take to be ready when nobody says; imported definitions have less."""

StopSignal = Literal["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL"]
ServerState = Literal["stopped", "starting", "ready", "backing_off", "aborting", "stopping", "renewing", "failed"]


@attrs.frozen(kw_only=True)
class LauncherEntry:
    """How a server shows on the start page and in Jupyter's launcher."""

    enabled: bool = option(True, help="Whether there is a card at all.")
    title: str = option("", help="Title of the card; default: the name of the server.")
    path_info: str = option("", help="Where the card leads, below `base_url`; default: the name and a slash.")
    category: str = option("Notebook", help="The group that the card belongs to.")
    icon_path: FilePath = option(FilePath(""), help="File of an icon, SVG or any other image.")


@attrs.frozen(kw_only=True)
class Readiness:
    """When a server that was started is ready."""

    path: str = option("/", help="Path that is asked for.")
    statuses: Literal["any"] | tuple[int, ...] = option(
        "any", help="Statuses that mean that it is ready; `any`: it answers HTTP, whatever it says."
    )
    timeout: Seconds | None = option(
        None, help="How long it may take; default 60s. What is not ready then is killed, and those who wait get 503."
    )

    def __attrs_post_init__(self) -> None:
        """Refuse what can never be answered.

        Raises `OptionError`.
        """
        if not self.path.startswith("/") or not self.path.isascii() or any(char <= " " for char in self.path):
            raise OptionError("expected a path that begins with /", "path")
        if self.statuses == ():
            raise OptionError("there is no status that would do", "statuses")
        for index, status in enumerate(self.statuses if isinstance(self.statuses, tuple) else ()):
            if not 200 <= status <= 599:
                raise OptionError(f"{status} is not the status of a response", "statuses", index)
        if self.timeout is not None and not self.timeout:
            raise OptionError("has to be more than nothing", "timeout")


@attrs.frozen(kw_only=True)
class RestartSettings:
    """What happens when a server ends by itself, but not with exit status 0."""

    backoff: Seconds = option(
        Seconds(0.1), help="Pause before it is started again; twice as long each time, until it has lived for 10s."
    )
    backoff_max: Seconds = option(Seconds(30), help="The longest pause.")
    give_up_after: int = option(
        8, help="Starts in a row that came to nothing, after which only the next request starts it; 0: never give up."
    )


@attrs.frozen(kw_only=True)
class ProcessLimits:
    """Resource limits of the process and its children; 0 leaves what proxyd was started with."""

    open_files: int = option(0, help="Descriptors of each process.")
    memory: ByteCount = option(ByteCount(0), help="Address space of each process.")
    processes: int = option(0, help="Processes of its user.")


@attrs.frozen(kw_only=True)
class ServerSpec:
    """A server below `base_url`: one that proxyd starts when it is needed, or, without `command`, one that runs."""

    command: tuple[str, ...] | Function = option(
        (), help="Program and arguments, no shell. `{port}`, `{unix_socket}` and `{base_url}` are put in."
    )
    timeout: Seconds | None = option(None, help="The same as `ready.timeout`, as jupyter-server-proxy calls it.")
    environment: Mapping[str, str] | Function = option(
        {}, help="Variables added to the environment of proxyd; names and values are templates, too."
    )
    absolute_url: bool = option(False, help="The server sees the whole path, with `base_url` and its name.")
    rewrite_location: bool = option(
        True, help="Redirects to a path get `base_url` and the name in front, unless `absolute_url` is true."
    )
    port: Port = option(
        Port(0), help="The port that the server listens on; 0: one is chosen when it is first started, and kept."
    )
    unix_socket: bool | FilePath = option(
        False, help="`true`: a unix socket in a private directory instead of a port; or the path of one."
    )
    mappath: Mapping[str, str] | Function = option({}, help="Paths that are replaced by others, for HTTP only.")
    launcher_entry: LauncherEntry = section(LauncherEntry, help="The card on the start page.")
    new_browser_tab: bool = option(True, help="Whether the start page opens it in a new tab.")
    request_headers_override: Mapping[str, str] | Function = option(
        {}, help="Fields that are set in each request; names and values are templates."
    )
    rewrite_response: tuple[Function, ...] | Function = option(
        (), help="Functions that change a response, from left to right."
    )
    update_last_activity: bool | Function = option(
        True, help="Whether requests count as activity, or a function that decides for each."
    )
    exclude_last_activity_patterns: tuple[Pattern, ...] = option(
        (), help="Requests whose path begins with one of these are no activity."
    )
    raw_socket_proxy: bool = option(False, help="WebSockets lead to a bare TCP or unix stream.")
    progressive: bool | Function | None = option(
        None, help="Whether a response is passed on as it comes; default: always, unless a function rewrites it."
    )
    cwd: FilePath = option(FilePath(""), help="Directory in which it runs; default: that of proxyd.")
    start: Literal["lazy", "eager"] = option("lazy", help="`eager` starts it with proxyd, `lazy` when it is needed.")
    ready: Readiness = section(Readiness, help="When it is ready.")
    restart: RestartSettings = section(RestartSettings, help="When it has ended by itself.")
    idle_timeout: Seconds = option(Seconds(0), help="Stop it after so long without request, WebSocket or activity.")
    max_lifetime: Seconds = option(
        Seconds(0), help="Stop it at the first moment without request or WebSocket after so long."
    )
    stop_signal: StopSignal = option("SIGTERM", help="The signal that asks it to end.")
    stop_grace: Seconds = option(Seconds(5), help="How long it may take to end before it is killed.")
    instances: int = option(1, help="How many of it run side by side; a request goes to the one with the least to do.")
    port_range: PortRange = option(PortRange(""), help="Ports of which one is chosen; default: any free one.")
    allow_origin: tuple[str, ...] = option((), help="Origins of WebSockets besides our own; `*` for all.")
    limits: ProcessLimits = section(ProcessLimits, help="Resource limits.")
    user: str = option("", help="The user that it runs as, when proxyd is root; default: that of proxyd.")

    def __attrs_post_init__(self) -> None:
        """Check what belongs together.

        Raises `OptionError`.
        """
        if self.timeout is not None and self.ready.timeout is not None:
            raise OptionError("is the same as ready.timeout: give one of them", "timeout")
        if self.timeout is not None and not self.timeout:
            raise OptionError("has to be more than nothing", "timeout")
        if isinstance(self.command, tuple) and self.command and not self.command[0]:
            raise OptionError("the program has no name", "command", 0)
        if isinstance(self.unix_socket, str) and len(self.unix_socket.encode()) > MAX_SOCKET_PATH:
            raise OptionError(f"the path of a socket has at most {MAX_SOCKET_PATH} bytes", "unix_socket")
        if self.unix_socket is True and not self.command:
            raise OptionError("a server that proxyd does not start needs the path of its socket", "unix_socket")
        if self.instances < 1:
            raise OptionError("there has to be one at least", "instances")
        if self.instances > 1 and (self.port or isinstance(self.unix_socket, str)) and self.command:
            raise OptionError("several of it cannot share a port or socket: leave it to proxyd", "instances")
        if self.port_range and (self.port or self.unix_socket):
            raise OptionError("there is no port to choose with a port or socket given", "port_range")
        if self.port_range and self.instances > len(self.ports):
            raise OptionError(f"has only {len(self.ports)} ports for {self.instances} instances", "port_range")

    @property
    def is_managed(self) -> bool:
        """Whether proxyd starts it."""
        return bool(self.command)

    @property
    def is_reachable(self) -> bool:
        """Whether requests can lead anywhere: there is a command, a port or a socket."""
        return bool(self.command or self.port or self.unix_socket)

    @property
    def ready_seconds(self) -> float:
        """How long it may take to be ready."""
        given = self.ready.timeout if self.timeout is None else self.timeout
        return READY_SECONDS if given is None else given

    @property
    def rewriters(self) -> tuple[Function, ...]:
        """The functions that change a response, in order."""
        return (self.rewrite_response,) if isinstance(self.rewrite_response, Function) else self.rewrite_response

    @property
    def ports(self) -> range:
        """The ports of `port_range`; none if any will do."""
        first, _, last = self.port_range.partition("-")
        return range(int(first), int(last) + 1) if last else range(0)


@attrs.frozen
class Place:
    """Where a server listens: a port of `localhost`, or a unix socket, and then `port` is 0.

    Connections are kept by `upstream`, so there is one of it for each place.
    """

    port: int
    socket: str = ""
    upstream: Upstream = attrs.field(init=False, eq=False, repr=False)

    @upstream.default
    def _make_upstream(self) -> Upstream:
        if self.socket:
            return Upstream(f"http+unix://{quote(self.socket, safe='')}", Parts(False, "localhost", 0, self.socket))
        return Upstream(f"http://localhost:{self.port}", Parts(False, "localhost", self.port))

    def __str__(self) -> str:
        return self.socket or f"port {self.port}"


@attrs.frozen(kw_only=True)
class ServerStatus:
    """What can be told about one instance of a server.

    Times are seconds since the epoch; 0 means never. `lines` are the last ones that it printed.
    """

    server: str
    instance: int
    state: ServerState
    pid: int = 0
    place: Place | None = None
    since: float = 0.0
    starts: int = 0
    exit_reason: str = ""
    lines: tuple[str, ...] = ()
    leases: int = 0
    waiting: int = 0
    last_activity: float = 0.0
