"""The command lines of jhsingle-native-proxy and of `jupyter standaloneproxy` (contract of JupyterHub, section 1)."""

from __future__ import annotations

import ast
import os.path
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

import attrs

from proxyd.auth.hubsettings import HubAuthConfig
from proxyd.compat.standalone import Traits
from proxyd.config.hub import EVERYBODY, hub_listener, service_prefix
from proxyd.core.calls import call_by_name
from proxyd.core.checkout import Checkout, CheckoutError, folder_of, masked
from proxyd.core.conda import CondaEnvironment
from proxyd.core.placeholders import fill, literal, names_in, template_of
from proxyd.errors import OptionError, TemplateError
from proxyd.listeners.http import HttpConfig, HttpsConfig
from proxyd.model.activity import ActivitySettings
from proxyd.model.auth import AnonymousAuthConfig, AuthConfig
from proxyd.model.relay import RelaySettings
from proxyd.model.routes import HeaderChanges, RouteOptions
from proxyd.model.servers import LauncherEntry, Readiness, RestartSettings, ServerSpec
from proxyd.model.settings import Config, Health, ListenerConfig, LogSettings, MetricsSettings, Timeouts
from proxyd.model.tls import Certificate
from proxyd.option import ByteCount, FilePath, Function, Network, Pattern, Port, Seconds, ServerName, UrlPath

_DEFAULT_PORT = 8888
_MAX_PORT = 65535
_FOREIGN = re.compile(r"--[A-Z][A-Za-z0-9]*\.[A-Za-z_][A-Za-z0-9_.]*(?:=.*)?", re.DOTALL)
_IGNORED = ("--NotebookApp.allow_origin",)
_ORIGIN_HOST = re.compile(r"[A-Za-z0-9.:_\[\]-]{1,255}")
_PRINTED = "".join(map(chr, range(ord("!"), ord("~") + 1)))  # what a path is written with, escapes included
_ALL_ADDRESSES = frozenset({"", "*", "0.0.0.0"})
TOKENS = ("JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN")
"""Variables that hold the Hub's token; the second one is its old name."""

_SECRETS = (*TOKENS, "JUPYTERHUB_SSL_KEYFILE")

# What a wrapped application may take before it ends, the 5 s before it is killed included: the Hub waits longer.
_DRAIN_SECONDS = 1.0

_FRAMING = {"self": "SAMEORIGIN", "none": "DENY"}
_LEVELS: dict[str, Literal["debug", "info", "warn", "error"]] = {
    "debug": "debug",
    "info": "info",
    "warn": "warn",
    "warning": "warn",
    "error": "error",
    "critical": "error",
    "0": "debug",
    "10": "debug",
    "20": "info",
    "30": "warn",
    "40": "error",
    "50": "error",
}

STANDALONE = "jupyter-standaloneproxy"
"""What `jupyter standaloneproxy` runs."""

_LATE = ("port", "unix_socket")  # known when the application is started
_NAMES = (
    *_LATE,
    "base_url",
    "presentation_path",
    "presentation_dirname",
    "presentation_basename",
    "origin_host",
    "username",
    "servername",
    "-",
    "--",
)

HINT = """\
proxyd wrap is started by a JupyterHub, as c.Spawner.cmd = ["proxyd", "wrap", "--", ...]; the Hub tells it by variables
such as JUPYTERHUB_SERVICE_URL and JUPYTERHUB_API_TOKEN where to listen and whom to let in. They are not set here.
To try a command without a Hub and without any login: proxyd wrap --authtype none -- COMMAND"""


class WrapUsageError(Exception):
    """The command line cannot be used; the text is what to print."""


@attrs.frozen(kw_only=True)
class WrapOptions:
    """What was given on the command line; None: not given. Times are in seconds."""

    command: tuple[str, ...] = ()
    port: int | None = None
    ip: str | None = None
    base_url: str | None = None
    destport: int = 0
    destsocket: str = ""
    presentation_path: str = ""
    authtype: Literal["oauth", "none"] = "oauth"
    request_timeout: float = 300.0
    last_activity_interval: float | None = None
    force_alive: bool = True
    activity_ignore: tuple[str, ...] = ()
    ready_check_path: str = "/"
    ready_timeout: float = 10.0
    repo: str = ""
    repobranch: str = ""
    repofolder: str = ""
    conda_env: str = ""
    forward_user_info: bool = False
    query_user_info: bool = False
    websocket_max_message_size: int = 0
    environment: tuple[str, ...] = ()
    mappath: tuple[str, ...] = ()
    request_headers_override: tuple[str, ...] = ()
    drop_header: tuple[str, ...] = ()
    frame_ancestors: Literal["any", "self", "none"] = "any"
    absolute_url: bool = False
    raw_socket_proxy: bool = False
    rewrite_location: bool = False
    pass_hub_token: bool = False
    exit_with_app: bool = False
    use_default_url: bool = False
    debug: bool = False
    logs: bool = True
    log_level: str = ""
    traits: Traits = Traits()


class OriginHost:
    """The public host, taken from the first request that may tell it."""

    def __init__(self, host: str = "") -> None:
        self.host = host

    def offer(self, host: bytes | None) -> bool:
        """Take `host`, of a request that may pass, if there is none yet; True if there is one now."""
        if not self.host and host is not None and _ORIGIN_HOST.fullmatch(host.decode("latin-1")):
            self.host = host.decode("ascii")
        return bool(self.host)


@attrs.frozen(kw_only=True)
class WrapSetup:
    """What a command line comes down to.

    `origin` is None unless the start waits for it; `conda` is filled in before the start. `environ` is for the
    application, `prints` what to say at the start, and `warnings` is what was left out.
    """

    config: Config
    name: ServerName
    words: tuple[str, ...]
    checkout: Checkout | None
    conda_name: str
    conda: list[CondaEnvironment]
    origin: OriginHost | None
    environ: Mapping[str, str]
    exits_with_app: bool
    prints: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def is_eager(self) -> bool:
        """Whether the application starts by itself, rather than with the first request."""
        return self.origin is None


def split_foreign(words: list[str]) -> tuple[list[str], list[str]]:
    """The words that are for us, and the options of other programs among them, in front of `--`."""
    end = words.index("--") if "--" in words else len(words)
    foreign = [word for word in words[:end] if _FOREIGN.fullmatch(word) and word.partition("=")[0] not in _IGNORED]
    return [word for word in words[:end] if word not in foreign] + words[end:], foreign


def set_up(
    options: WrapOptions,
    environ: Mapping[str, str],
    cwd: str,
    foreign: list[str] | None = None,
) -> WrapSetup:
    """Turn a command line and the environment, seen from the directory `cwd`, into a configuration.

    `foreign` are options that were left out. Raises `WrapUsageError`.
    """
    if not options.command or not options.command[0]:
        raise WrapUsageError("there is no command to run: give one behind --")
    if options.authtype == "oauth" and not (environ.get("JUPYTERHUB_API_TOKEN") or environ.get("JPY_API_TOKEN")):
        raise WrapUsageError(HINT)
    try:
        return _set_up(options, environ, cwd, foreign or [])
    except OptionError as error:
        raise WrapUsageError(f"{'.'.join(map(str, error.path))}: {error}") from None
    except (TemplateError, CheckoutError) as error:
        raise WrapUsageError(str(error)) from None


def _set_up(options: WrapOptions, environ: Mapping[str, str], cwd: str, foreign: list[str]) -> WrapSetup:
    prefix = _prefix(options, environ)
    values = _values(options, environ, cwd, prefix)
    used = frozenset().union(*(names_in(word, _NAMES) for word in options.command))
    origin = OriginHost(_public_host(environ))
    checkout = _checkout(options, environ)
    conda: list[CondaEnvironment] = []
    is_late = "origin_host" in used and not origin.host
    name = _name(options.command[0])
    spec = options.traits.spec
    server = ServerSpec(
        command=Function(name, _command(options.command, values, origin, conda)),
        environment=_pairs_or(_templates("--environment", options.environment, values), spec.environment, values),
        mappath=_pairs("--mappath", options.mappath) or spec.mappath,
        request_headers_override=_pairs_or(
            _templates("--request-headers-override", options.request_headers_override, values),
            spec.request_headers_override,
            values,
        ),
        rewrite_response=spec.rewrite_response,
        update_last_activity=spec.update_last_activity,
        progressive=spec.progressive,
        absolute_url=options.absolute_url,
        rewrite_location=options.rewrite_location,
        raw_socket_proxy=options.raw_socket_proxy,
        port=Port(_port("--destport", options.destport)),
        unix_socket=_socket(options.destsocket, implied="unix_socket" in used and "port" not in used),
        launcher_entry=LauncherEntry(enabled=False),
        # The login looks at the origin as well, but for who shows a token, which no page of another origin has.
        allow_origin=() if options.authtype == "none" else ("*",),
        cwd=FilePath(_directory(options, environ, cwd, checkout)),
        ready=Readiness(
            path=_ready_path(options.ready_check_path), timeout=_seconds("--ready-timeout", options.ready_timeout)
        ),
        restart=RestartSettings(backoff=Seconds(1), backoff_max=Seconds(30)),
    )
    listener = _listener(options, environ)
    auth = AnonymousAuthConfig(remove_user_info=True) if options.authtype == "none" else _hub_auth(options)
    level = _level(options, environ)
    timeout = _seconds("--request-timeout", options.request_timeout)
    config = Config(
        listeners=(listener,),
        api=None,
        metrics=MetricsSettings(enabled=False),
        base_url=UrlPath(prefix),
        servers={name: server},
        root_server=name,
        default_url=environ.get("JUPYTERHUB_DEFAULT_URL", "") if options.use_default_url else "",
        auth=auth,
        activity=_activity(options, prefix),
        allow_anonymous=options.authtype == "none",
        health=Health(live=UrlPath(""), ready=UrlPath("")),
        timeouts=Timeouts(response=timeout, idle=timeout),
        route_defaults=_route_defaults(options, environ),
        # Only the proxy of the Hub reaches us, and it says who the client is; nobody's identity depends on it.
        trusted_proxies=tuple(map(Network, EVERYBODY)),
        log=LogSettings(level=level, access="combined" if level in {"debug", "info"} else "off"),
        drain_seconds=_DRAIN_SECONDS,
    )
    tokens = [environ[name] for name in TOKENS if environ.get(name)]
    return WrapSetup(
        config=config,
        name=name,
        words=options.command,
        checkout=checkout,
        conda_name=_conda_name(options.conda_env),
        conda=conda,
        origin=origin if is_late else None,
        environ=environ if options.pass_hub_token else {k: v for k, v in environ.items() if k not in _SECRETS},
        exits_with_app=options.exit_with_app,
        prints=_prints(options, listener, prefix, tokens, reports=bool(environ.get("JUPYTERHUB_ACTIVITY_URL"))),
        warnings=_warnings(foreign),
    )


def _prefix(options: WrapOptions, environ: Mapping[str, str]) -> str:
    """The path that is served, with a slash at both ends, and with escapes for what has to have them."""
    given = options.base_url
    path = service_prefix(environ).strip("/") if given is None else given.strip("/")
    return quote(f"/{path}/", safe=_PRINTED, errors="surrogateescape") if path else "/"


def _values(options: WrapOptions, environ: Mapping[str, str], cwd: str, prefix: str) -> dict[str, str]:
    path = os.path.normpath(os.path.join(cwd, options.presentation_path)) if options.presentation_path else ""
    return {
        "base_url": prefix.rstrip("/"),
        "presentation_path": path,
        "presentation_dirname": os.path.dirname(path),
        "presentation_basename": os.path.basename(path),
        "username": environ.get("JUPYTERHUB_USER", ""),
        "servername": environ.get("JUPYTERHUB_SERVER_NAME", ""),
        "-": "-",
        "--": "--",
    }


def _command(
    words: tuple[str, ...], values: Mapping[str, str], origin: OriginHost, conda: list[CondaEnvironment]
) -> Callable[..., list[str]]:
    """What makes the command once a place, the public host and the environment of conda are known."""

    def command(port: int, unix_socket: str) -> list[str]:
        late = {"port": str(port), "unix_socket": unix_socket, "origin_host": origin.host}
        filled = [fill(word, {**values, **late}) for word in words]
        made = conda[0].command(filled) if conda else filled
        return [literal(word) for word in made]

    return command


def _templates(option: str, given: tuple[str, ...], values: Mapping[str, str]) -> dict[str, str]:
    pairs = _pairs(option, given)
    return {template_of(name, values, _LATE): template_of(value, values, _LATE) for name, value in pairs.items()}


def _pairs_or(
    given: dict[str, str], default: Mapping[str, str] | Function, values: Mapping[str, str]
) -> Mapping[str, str] | Function:
    """What was given as options, else what the traits say; a function of the user's gets `values` by name, too."""
    if given:
        return given
    if isinstance(default, Function):
        return Function(default.name, partial(_call, default, values))
    return {template_of(name, values, _LATE): template_of(value, values, _LATE) for name, value in default.items()}


def _call(function: Function, values: Mapping[str, str], port: int, unix_socket: str) -> Any:
    return call_by_name(function.call, {**values, "port": port, "unix_socket": unix_socket})


def _pairs(option: str, given: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE`, or a dict of Python with several of them, as Jupyter's command lines have it."""
    pairs: dict[str, str] = {}
    for text in given:
        if text.lstrip().startswith("{"):
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                value = None
            if not isinstance(value, dict) or not all(isinstance(item, str) for pair in value.items() for item in pair):
                raise WrapUsageError(f"{option}: {text!r} is no dict of texts")
            pairs |= value
        else:
            name, equals, rest = text.partition("=")
            if not equals or not name:
                raise WrapUsageError(f"{option}: {text!r} is not of the form NAME=VALUE")
            pairs[name] = rest
    return pairs


def _checkout(options: WrapOptions, environ: Mapping[str, str]) -> Checkout | None:
    if not options.repo:
        return None
    depth = environ.get("NBGITPULLER_DEPTH", "") or "1"
    try:
        number = max(int(depth), 0)
    except ValueError:
        raise WrapUsageError(f"$NBGITPULLER_DEPTH: {depth!r} is not a number") from None
    return Checkout(options.repo, options.repofolder or folder_of(options.repo), options.repobranch, number)


def _directory(options: WrapOptions, environ: Mapping[str, str], cwd: str, checkout: Checkout | None) -> str:
    """Where the application runs: in the checkout, the folder that was given alone, or where the Hub says."""
    if checkout is not None:
        return os.path.join(cwd, checkout.folder)
    if options.repofolder:
        if options.repofolder.startswith("-") or "\0" in options.repofolder:
            raise WrapUsageError(f"--repofolder: {options.repofolder!r} is no folder")
        return os.path.join(cwd, options.repofolder)
    root = environ.get("JUPYTERHUB_ROOT_DIR", "")
    if root == "~" or root.startswith("~/"):
        root = environ.get("HOME", "~") + root[1:]
    return os.path.join(cwd, root) if root else cwd


def _socket(given: str, *, implied: bool) -> bool | FilePath:
    if not given or given.lower() in {"none", "false", "0"}:
        return implied
    return True if given.lower() in {"auto", "true", "1"} else FilePath(given)


def _conda_name(name: str) -> str:
    if name.startswith("-") or "\0" in name:
        raise WrapUsageError(f"--conda-env: {name!r} is no name of an environment")
    return name


def _pattern(text: str, prefix: str) -> Pattern:
    """`text` is for the beginning of the path, as the application sees it or, as JSP has it, as the client does."""
    try:
        re.compile(text)
    except re.error as error:
        raise WrapUsageError(f"--activity-ignore: {text!r} is no regular expression: {error}") from None
    return Pattern(f"(?:{re.escape(prefix.rstrip('/'))})?(?:{text}).*")


def _listener(options: WrapOptions, environ: Mapping[str, str]) -> ListenerConfig:
    given: dict[str, Any] = hub_listener(environ, _DEFAULT_PORT)
    if options.ip is not None or options.port is not None:
        given.pop("socket", None)
    if options.ip is not None:
        given["address"] = options.ip
    if options.port is not None:
        given["port"] = _port("--port", options.port)
    if given.get("address") in _ALL_ADDRESSES:
        given["address"] = ""
    kind = given.pop("kind")
    if kind == "http":
        return HttpConfig(**given)
    return HttpsConfig(**given | {"certificates": tuple(Certificate(**pair) for pair in given["certificates"])})


def _hub_auth(options: WrapOptions) -> AuthConfig:
    return HubAuthConfig(forward_user_info=options.forward_user_info, query_user_info=options.query_user_info)


def _activity(options: WrapOptions, prefix: str) -> ActivitySettings:
    given = options.last_activity_interval
    return ActivitySettings(
        interval=None if given is None else _seconds("--last-activity-interval", given),
        force_alive=options.force_alive,
        ignore=tuple(_pattern(text, prefix) for given in options.activity_ignore for text in _listed(given)),
    )


def _route_defaults(options: WrapOptions, environ: Mapping[str, str]) -> RouteOptions:
    size = options.websocket_max_message_size
    if size < 0:
        raise WrapUsageError(f"--websocket-max-message-size: {size} is not a size")
    framing = _FRAMING.get(options.frame_ancestors)
    # Not Content-Security-Policy: that of the application would have to go.
    return RouteOptions(
        # The proxy of the Hub has said who the client is; applications read the last address, and ours is no client's.
        x_forwarded="off" if environ.get("JUPYTERHUB_SERVICE_URL") else None,
        websocket=RelaySettings(kind="relay", max_message_size=ByteCount(size)) if size else None,
        request_headers=HeaderChanges(remove=options.drop_header) if options.drop_header else None,
        response_headers=HeaderChanges(set={"X-Frame-Options": framing}) if framing else None,
    )


def _listed(text: str) -> list[str]:
    """A list of Python, as Jupyter's command lines may have it, or one text."""
    try:
        value = ast.literal_eval(text) if text.startswith("[") else None
    except (ValueError, SyntaxError):
        value = None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else [text]


def _public_host(environ: Mapping[str, str]) -> str:
    """The host of this server's own public URL, if the Hub knows one."""
    host = urlsplit(environ.get("JUPYTERHUB_PUBLIC_URL", "")).netloc.rpartition("@")[2]
    return host if _ORIGIN_HOST.fullmatch(host) else ""


def _level(options: WrapOptions, environ: Mapping[str, str]) -> Literal["debug", "info", "warn", "error"]:
    if options.debug or environ.get("JUPYTERHUB_DEBUG") == "1":
        return "debug"
    if options.log_level:
        level = _LEVELS.get(options.log_level.lower())
        if level is None:
            raise WrapUsageError(f"--log-level: {options.log_level!r} is none of debug, info, warn, error")
        return level
    return "info" if options.logs else "warn"


def _ready_path(path: str) -> str:
    try:
        return Readiness(path=path).path
    except OptionError as error:
        raise WrapUsageError(f"--ready-check-path: {error}, not {path!r}") from None


def _port(option: str, port: int) -> int:
    if not 0 <= port <= _MAX_PORT:
        raise WrapUsageError(f"{option}: {port} is not a port")
    return port


def _seconds(option: str, seconds: float) -> Seconds:
    if not 0 <= seconds < float("inf"):
        raise WrapUsageError(f"{option}: {seconds:g} is no time")
    return Seconds(seconds)


def _name(program: str) -> ServerName:
    """What the application is called in the log and on its pages."""
    return ServerName(re.sub(r"[^A-Za-z0-9._-]", "", os.path.basename(program)).strip(".") or "application")


def _prints(options: WrapOptions, listener: Any, prefix: str, tokens: list[str], *, reports: bool) -> tuple[str, ...]:
    """What to say at the start; `reports`: the Hub wants to be told of activity, which it does not of services."""
    where = listener.socket or f"address {listener.address or '*'}, port {listener.port}"
    command = masked(" ".join(options.command))
    for token in tokens:
        command = command.replace(token, "***")
    lines = [f"{where}, prefix {unquote(prefix)}, authtype {options.authtype}, command: {command}"]
    if options.authtype == "none":
        lines.append("nobody is asked for a login (--authtype none)")
    if reports and options.force_alive and options.last_activity_interval != 0:
        lines.append(
            "the Hub is told that this server is in use even while nobody uses it, and does not cull it "
            "(--no-force-alive reports real use only)"
        )
    return tuple(lines)


def _warnings(foreign: list[str]) -> tuple[str, ...]:
    names = ", ".join(dict.fromkeys(word.partition("=")[0] for word in foreign))
    return (f"options of other programs are ignored: {names}",) if foreign else ()
