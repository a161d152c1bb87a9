"""The command line of configurable-http-proxy (contract of configurable-http-proxy, section 1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from proxyd.errors import OptionError
from proxyd.listeners.http import HttpConfig, HttpsConfig
from proxyd.listeners.redirect import RedirectConfig
from proxyd.model.routes import HeaderChanges, RewriteLocation, Route, RouteOptions
from proxyd.model.settings import (
    ApiSettings,
    Config,
    ErrorSettings,
    Health,
    Limits,
    ListenerConfig,
    LogSettings,
    MemoryStoreConfig,
    MetricsSettings,
    PoolSettings,
    StoreConfig,
    Timeouts,
)
from proxyd.model.tls import Certificate, ServerTlsSettings, UpstreamTlsSettings, Version
from proxyd.model.upstream import Upstream
from proxyd.option import ByteCount, FilePath, Port, Seconds, Secret, UpstreamUrl, UrlPath
from proxyd.stores.storage import StorageClassConfig

_DEFAULT_PORT = 8000
_HTTP_PORT = 80
_MAX_PORT = 65535
_KEEP_ALIVE_MILLISECONDS = 5000
# Node gives heads this long, and 16 KiB for them, request line included.
_HEADER_SECONDS = 60
_HEADER_BYTES = 16 * 1024
# Node leaves this to the kernel, which gives up after two minutes; long enough for a busy node of a cluster.
_CONNECT_SECONDS = 30
# CHP waits for ever for a client that takes no more of a response: people pause downloads, and programs think between
# two pieces. After an hour without a byte nobody is there any more.
_BODY_SECONDS = 3600

# Modern ones first, then what CHP takes as well.
_CIPHERS = (
    "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:HIGH:"
    "!RC4:!aNULL:!eNULL:!EXPORT:!DES:!3DES:!MD5:!PSK:!SRP:!CAMELLIA"
)
_PROTOCOLS: dict[str, tuple[Version, Version]] = {
    "TLS": ("TLSv1.2", "TLSv1.3"),
    "SSLv23": ("TLSv1.2", "TLSv1.3"),
    "TLSv1": ("TLSv1", "TLSv1"),
    "TLSv1_1": ("TLSv1.1", "TLSv1.1"),
    "TLSv1_2": ("TLSv1.2", "TLSv1.2"),
    "TLSv1_3": ("TLSv1.3", "TLSv1.3"),
}

_BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_BEGIN_KEY = b"PRIVATE KEY-----"

_LEVELS: dict[str, Literal["debug", "info", "warn", "error"]] = {
    "debug": "debug",
    "info": "info",
    "warn": "warn",
    "error": "error",
}


class ChpUsageError(Exception):
    """The command line cannot be used; the text is the line to print."""


@attrs.frozen(kw_only=True)
class ChpOptions:
    """What was given on the command line; None: not given. Times are in milliseconds."""

    ip: str | None = None
    port: int | None = None
    socket: str | None = None
    api_ip: str | None = None
    api_port: int | None = None
    api_socket: str | None = None
    ssl_key: str | None = None
    ssl_cert: str | None = None
    ssl_ca: str | None = None
    ssl_request_cert: bool = False
    ssl_reject_unauthorized: bool = False
    ssl_protocol: str | None = None
    ssl_ciphers: str | None = None
    ssl_allow_rc4: bool = False
    ssl_dhparam: str | None = None
    api_ssl_key: str | None = None
    api_ssl_cert: str | None = None
    api_ssl_ca: str | None = None
    api_ssl_request_cert: bool = False
    api_ssl_reject_unauthorized: bool = False
    client_ssl_key: str | None = None
    client_ssl_cert: str | None = None
    client_ssl_ca: str | None = None
    client_ssl_request_cert: bool = False
    client_ssl_reject_unauthorized: bool = False
    insecure: bool = False
    redirect_port: int | None = None
    redirect_to: int | None = None
    metrics_ip: str | None = None
    metrics_port: int | None = None
    metrics_socket: str | None = None
    default_target: str | None = None
    error_target: str | None = None
    error_path: str | None = None
    host_routing: bool = False
    include_prefix: bool = True
    prepend_path: bool = True
    x_forward: bool = True
    change_origin: bool = False
    auto_rewrite: bool = False
    protocol_rewrite: str | None = None
    custom_header: tuple[str, ...] = ()
    timeout: int | None = None
    proxy_timeout: int | None = None
    keep_alive_timeout: int | None = None
    storage_backend: str | None = None
    pid_file: str | None = None
    log_level: str = "info"


@attrs.frozen
class ChpSetup:
    """What a command line comes down to: a configuration, routes from the start, and what to say before it starts."""

    config: Config
    routes: tuple[Route, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def set_up(options: ChpOptions, environ: Mapping[str, str]) -> ChpSetup:
    """Turn a command line and the environment into a configuration.

    Raises `ChpUsageError`.
    """
    if options.error_target and options.error_path:
        raise ChpUsageError("Cannot specify both error-target and error-path. Pick one.")
    level = _LEVELS.get(options.log_level.lower())
    if level is None:
        raise ChpUsageError(f"--log-level has to be one of {', '.join(_LEVELS)}, not {options.log_level!r}")
    _refuse_conflicts(options)
    token = _token(environ)
    port = 0 if options.socket else _port("--port", options.port) or _DEFAULT_PORT
    api_port = _port("--api-port", options.api_port) or (port or _DEFAULT_PORT) + 1
    if api_port > _MAX_PORT:
        raise ChpUsageError(f"--api-port has to be given, because there is no port after {port}")
    config = Config(
        listeners=_listeners(options, port, environ),
        api=ApiSettings(
            address="localhost" if options.api_ip is None else _address(options.api_ip),
            port=Port(api_port),
            socket=FilePath(options.api_socket or ""),
            tls=_server_tls(options, "api_", environ.get("CONFIGPROXY_API_SSL_KEY_PASSPHRASE", "")),
            token=Secret(token),
            open=not token,
            route_options="verbatim",
        ),
        metrics=_metrics(options),
        start_page=False,
        host_routing=options.host_routing,
        store=_store(options),
        route_defaults=_route_options(options),
        errors=ErrorSettings(
            target=UpstreamUrl(_url("--error-target", options.error_target)),
            directory=FilePath(options.error_path or ""),
            statuses="chp",
        ),
        health=Health(live=UrlPath("/_chp_healthz"), ready=UrlPath("")),
        timeouts=_timeouts(options),
        limits=Limits(
            request_line=ByteCount(_HEADER_BYTES),
            header_line=ByteCount(_HEADER_BYTES),
            headers=ByteCount(_HEADER_BYTES),
            header_count=1000,
            target="lenient",
        ),
        pool=PoolSettings(idle_per_upstream=256),
        log=LogSettings(format="chp", level=level, access="off"),
        pid_file=FilePath(options.pid_file or ""),
        drain_seconds=0,
    )
    return ChpSetup(config, _routes(options), _notes(options, config.listeners), _warnings(options))


def _refuse_conflicts(options: ChpOptions) -> None:
    if options.socket is not None:
        _refuse_beside(options, "socket", "ip", "port")
    if options.api_socket is not None:
        _refuse_beside(options, "api_socket", "api_ip", "api_port")
    if options.metrics_socket:
        _refuse_beside(options, "metrics_socket", "metrics_ip", "metrics_port")
    if options.redirect_port is not None and not (options.ssl_key or options.ssl_cert):
        raise ChpUsageError("HTTPS redirection specified but certificates not provided: --ssl-key and --ssl-cert.")


def _refuse_beside(options: ChpOptions, socket: str, *places: str) -> None:
    for place in places:
        if getattr(options, place) is not None:
            names = [name.replace("_", "-") for name in (socket, place)]
            raise ChpUsageError(f"Cannot specify both --{names[0]} and --{names[1]}. Pick one.")


def _token(environ: Mapping[str, str]) -> str:
    """The token of the environment, or of the file that the environment names, as containers have it.

    Raises `ChpUsageError` for a file that cannot be read.
    """
    name = "CONFIGPROXY_AUTH_TOKEN"
    given = environ.get(name, "")
    file = environ.get(f"{name}_FILE", "")
    if file and not given:
        name = f"{name}_FILE"
        try:
            given = Path(file).read_text(encoding="utf-8") or "\n"
        except (OSError, UnicodeDecodeError) as error:
            raise ChpUsageError(f"{name}: {error}") from None
    token = given.strip()
    if given and not token:  # nobody has meant the API to be open
        raise ChpUsageError(f"{name}: there is no token in it")
    if any(char.isspace() for char in token):
        raise ChpUsageError(f"{name}: a token has no blanks")
    return token


def _listeners(options: ChpOptions, port: int, environ: Mapping[str, str]) -> tuple[ListenerConfig, ...]:
    """The public listener, and the one that redirects to it unless it would be in its way."""
    tls = _server_tls(options, "", environ.get("CONFIGPROXY_SSL_KEY_PASSPHRASE", ""))
    place: dict[str, Any] = {
        "address": _address(options.ip),
        "port": Port(port),
        "socket": FilePath(options.socket or ""),
    }
    public = HttpConfig(**place) if tls is None else HttpsConfig(**place, **attrs.asdict(tls, recurse=False))
    redirect_port = _port("--redirect-port", options.redirect_port)
    to_port = _port("--redirect-to", options.redirect_to) or port
    if not redirect_port or options.socket or port == _HTTP_PORT:
        return (public,)
    return (public, RedirectConfig(address="", port=Port(redirect_port), to_port=Port(to_port)))


def _server_tls(options: ChpOptions, prefix: str, passphrase: str) -> ServerTlsSettings | None:
    """TLS of the listener whose options begin with `prefix`; None: plain text."""

    def given(name: str) -> Any:
        return getattr(options, f"{prefix}ssl_{name}")

    key, certificate = given("key"), given("cert")
    if not key and not certificate:
        return None
    least, most = _versions(options.ssl_protocol)
    own = Certificate(
        certificate=FilePath(certificate or key), key=FilePath(key or certificate), passphrase=Secret(passphrase)
    )
    return ServerTlsSettings(
        certificates=(own,),
        client_ca=FilePath(given("ca") or "" if given("request_cert") else ""),
        # Asking means requiring, as in CHP, whatever --ssl-reject-unauthorized says.
        client_certificates="required" if given("request_cert") else "none",
        minimum_version=least,
        maximum_version=most,
        ciphers=options.ssl_ciphers or _CIPHERS,
        dhparam=FilePath(options.ssl_dhparam or ""),
    )


def _versions(protocol: str | None) -> tuple[Version, Version]:
    if not protocol:
        return "TLSv1.2", "TLSv1.3"
    versions = _PROTOCOLS.get(protocol.removesuffix("_method"))
    if versions is None:
        raise ChpUsageError(f"--ssl-protocol has to be one of {', '.join(_PROTOCOLS)}, not {protocol!r}")
    return versions


def _upstream_tls(options: ChpOptions) -> UpstreamTlsSettings:
    has_identity = not _has_half_an_identity(options)
    return UpstreamTlsSettings(
        ca=_path(options.client_ssl_ca),
        certificate=_path(options.client_ssl_cert) if has_identity else None,
        key=_path(options.client_ssl_key) if has_identity else None,
        verify=not options.insecure,
    )


def _has_half_an_identity(options: ChpOptions) -> bool:
    """Whether there is a certificate for targets without a key, or a key without one; CHP shows none then."""
    files = [file for file in (options.client_ssl_cert, options.client_ssl_key) if file]
    if len(files) != 1:
        return False
    try:
        content = Path(files[0]).read_bytes()
    except OSError:  # whoever loads it tells
        return False
    return (_BEGIN_CERTIFICATE in content) != (_BEGIN_KEY in content)


def _path(path: str | None) -> FilePath | None:
    return FilePath(path) if path else None


def _metrics(options: ChpOptions) -> MetricsSettings:
    """There is a listener only if a port or a socket is given; without one nothing is counted."""
    port = _port("--metrics-port", options.metrics_port)
    if options.metrics_socket:
        return MetricsSettings(socket=FilePath(options.metrics_socket), names="chp")
    if port:
        return MetricsSettings(address=_address(options.metrics_ip), port=Port(port), names="chp")
    return MetricsSettings(enabled=False)


def _address(ip: str | None) -> str:
    return "" if ip in (None, "*") else str(ip)


def _port(name: str, port: int | None) -> int:
    if port is not None and not 0 <= port <= _MAX_PORT:
        raise ChpUsageError(f"{name}: {port} is not a port")
    return port or 0


def _seconds(name: str, milliseconds: int | None) -> Seconds:
    if milliseconds is not None and milliseconds < 0:
        raise ChpUsageError(f"{name}: a negative time makes no sense")
    return Seconds((milliseconds or 0) / 1000)


def _url(name: str, url: str | None) -> str:
    if url:
        try:
            Upstream.parse(url)
        except OptionError as error:
            raise ChpUsageError(f"{name}: {error}") from None
    return url or ""


def _store(options: ChpOptions) -> StoreConfig:
    """The store; a class is made with the options that were given, as text."""
    if not options.storage_backend:
        return MemoryStoreConfig()
    given = {
        field.name: _as_text(getattr(options, field.name))
        for field in attrs.fields(ChpOptions)
        if getattr(options, field.name) != field.default
    }
    try:
        return StorageClassConfig(path=options.storage_backend, options=given)
    except OptionError as error:
        raise ChpUsageError(f"--storage-backend: {error}, not {options.storage_backend!r}") from None


def _as_text(value: object) -> str:
    if isinstance(value, tuple):
        return "\n".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _route_options(options: ChpOptions) -> RouteOptions:
    headers: dict[str, str] = {}
    for header in options.custom_header:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise ChpUsageError("A colon was expected in custom header: --custom-header 'Name: value'")
        headers = {known: text for known, text in headers.items() if known.lower() != name.strip().lower()}
        headers[name.strip()] = value.strip()
    try:
        changes = HeaderChanges(set=headers)
    except OptionError as error:
        raise ChpUsageError(f"--custom-header: {error}") from None
    try:
        rewrite = RewriteLocation(host=options.auto_rewrite, scheme=(options.protocol_rewrite or "").removesuffix(":"))
    except OptionError as error:
        raise ChpUsageError(f"--protocol-rewrite: {error}") from None
    return RouteOptions(
        strip_prefix=not options.include_prefix,
        prepend_path=options.prepend_path,
        change_origin=options.change_origin,
        x_forwarded="append" if options.x_forward else "off",
        rewrite_location=rewrite,
        request_headers=changes,
        upstream_tls=_upstream_tls(options),
    )


def _timeouts(options: ChpOptions) -> Timeouts:
    # 0 is the default, as it is for ports.
    keep_alive = options.keep_alive_timeout or _KEEP_ALIVE_MILLISECONDS
    silence = _seconds("--proxy-timeout", options.proxy_timeout)
    return Timeouts(
        header=Seconds(_HEADER_SECONDS),
        body_idle=Seconds(_BODY_SECONDS),
        keep_alive=_seconds("--keep-alive-timeout", keep_alive),
        connect=Seconds(silence or _CONNECT_SECONDS),
        response=silence,
        idle=silence,
        client_idle=_seconds("--timeout", options.timeout),
    )


def _routes(options: ChpOptions) -> tuple[Route, ...]:
    if not options.default_target:
        return ()
    upstream = Upstream.parse(_url("--default-target", options.default_target))
    return (Route("/", upstream, ()),)


def _notes(options: ChpOptions, listeners: tuple[ListenerConfig, ...]) -> tuple[str, ...]:
    notes = []
    if options.auto_rewrite:
        notes.append("AutoRewrite of Location headers enabled")
    if options.protocol_rewrite:
        notes.append(f"ProtocolRewrite enabled. Rewriting to {options.protocol_rewrite}")
    if options.change_origin:
        notes.append("Change Origin of host headers enabled")
    notes += [
        f"Added HTTP to HTTPS redirection from {listener.port} to {listener.to_port}"
        for listener in listeners
        if isinstance(listener, RedirectConfig)
    ]
    return tuple(notes)


def _warnings(options: ChpOptions) -> tuple[str, ...]:
    warnings = []
    if options.ip == "*":
        warnings.append("--ip '*' means all interfaces; write --ip 0.0.0.0 or --ip '' for that")
    if _has_half_an_identity(options):
        warnings.append("--client-ssl-cert needs --client-ssl-key, and the other way round: targets are shown neither")
    return tuple(warnings)
