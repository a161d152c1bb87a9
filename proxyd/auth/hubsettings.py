"""Section `auth: {kind: jupyterhub}`: what it says, and what the Hub says in the environment for the rest of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import ClassVar, Literal
from urllib.parse import urlsplit

import attrs

from proxyd.core.hubcookies import CookieOptions
from proxyd.core.oauth import OAuthClient
from proxyd.core.visitors import Access
from proxyd.errors import OptionError
from proxyd.hub.asking import AskerTls
from proxyd.hub.client import HubPlace
from proxyd.model.auth import AuthConfig
from proxyd.model.upstream import can_be_asked
from proxyd.option import FilePath, Seconds, Secret, option

# RFC 6265 §4.1.1: a client id is the name of a cookie. With what an attempt to log in takes it has to fit into the 4096
# bytes that browsers keep; the name of a user with 100 letters that are not Latin has 600 in it.
_COOKIE_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,1000}")
_PREFIX = re.compile(r"/(?:[!-:<-~]*/)?")  # no `;`, which would end the Path of a cookie
_TOKEN = re.compile(r"[!-~]+")
_TRUE = frozenset({"1", "true", "yes", "on"})


# Without a repr, which would be in a traceback one day.
@attrs.frozen(kw_only=True, repr=False)
class HubAuthConfig(AuthConfig):
    """Whoever JupyterHub lets: people log in at the Hub, programs show a token of the Hub's.

    What is not given comes from the variables that a Hub sets for servers and services.
    """

    asks_hub: ClassVar[bool] = True

    api_url: str = option(
        "", help="The REST API of the Hub; default $JUPYTERHUB_API_URL.", example="http://127.0.0.1:8081/hub/api"
    )
    api_token: Secret = option(
        Secret(""), help="Our own token at the Hub, and secret of the OAuth client; default $JUPYTERHUB_API_TOKEN."
    )
    client_id: str = option(
        "", help="Who we are to the Hub; default $JUPYTERHUB_CLIENT_ID, else `service-` and the name of the service."
    )
    service_name: str = option(
        "", help="Our name, if we are a service of the Hub and not a server; default $JUPYTERHUB_SERVICE_NAME."
    )
    prefix: str = option(
        "",
        help="The path that a login is good for, with `/` at both ends; default $JUPYTERHUB_SERVICE_PREFIX, else the "
        "path of the route, or `base_url`.",
        example="/services/app/",
    )
    callback_url: str = option(
        "",
        help="Where browsers come back to, as the Hub knows it; default $JUPYTERHUB_OAUTH_CALLBACK_URL, else "
        "`oauth_callback` below the prefix.",
        example="/services/app/oauth_callback",
    )
    base_url: str = option(
        "", help="The path of the Hub, `/hub/` being below it; default $JUPYTERHUB_BASE_URL, else `/`."
    )
    host: str = option(
        "",
        help="Scheme and host of the Hub for browsers, if they are not ours; default $JUPYTERHUB_HOST.",
        example="https://hub.example.org",
    )
    public_url: str = option("", help="Our own URL for browsers; default $JUPYTERHUB_PUBLIC_URL.")
    access_scopes: tuple[str, ...] = option(
        (),
        help="Any of these scopes admits; default $JUPYTERHUB_OAUTH_ACCESS_SCOPES, else `access:services!service=` and "
        "the name of the service.",
    )
    user: str = option("", help="Who is admitted if there are no scopes; default $JUPYTERHUB_USER.")
    group: str = option("", help="Whose members are admitted if there are no scopes; default $JUPYTERHUB_GROUP.")
    anyone: bool | None = option(
        None, help="Admit everybody whom the Hub knows; default $JUPYTERHUB_ANYONE.", example=True
    )
    allow_token_in_url: bool | None = option(
        None,
        help="Take `?token=` of any request, not only of a WebSocket; default $JUPYTERHUB_ALLOW_TOKEN_IN_URL.",
        example=True,
    )
    allow_websocket_cookie_auth: bool | None = option(
        None,
        help="Let WebSockets in by the login of a browser; default $JUPYTERHUB_ALLOW_WEBSOCKET_COOKIE_AUTH, else true.",
        example=False,
    )
    forward_user_info: bool = option(
        False, help="Tell the application who the visitor is, as JSON in the field X-CDSDASHBOARDS-JH-USER."
    )
    query_user_info: bool = option(
        False, help="Tell the application who the visitor is, as JSON in the argument CDSDASHBOARDS_JH_USER."
    )
    cookie_host_prefix: bool | None = option(
        None,
        help="Give the names of cookies the prefix `__Host-`, for hosts that only one user's servers are on; default "
        "$JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED.",
        example=True,
    )
    cookie_same_site: Literal["default", "lax", "strict", "none"] = option(
        "default", help="SameSite of the cookies; default as in $JUPYTERHUB_COOKIE_OPTIONS, else `lax`."
    )
    cookie_secure: bool | None = option(
        None,
        help="Secure of the cookies; default as in $JUPYTERHUB_COOKIE_OPTIONS, else as the browser speaks https.",
        example=True,
    )
    cookie_lifetime: Seconds | None = option(
        None,
        help="How long a browser keeps a login; default as in $JUPYTERHUB_COOKIE_OPTIONS, else 30 days.",
        example="12h",
    )
    known_for: Seconds = option(
        Seconds(60), help="How long an answer of the Hub about a token is believed. A logout at the Hub counts at once."
    )
    timeout: Seconds = option(Seconds(10), help="How long the Hub may take for an answer: else 503.")
    ssl_key: FilePath = option(FilePath(""), help="Key of `ssl_certificate`; default $JUPYTERHUB_SSL_KEYFILE.")
    ssl_certificate: FilePath = option(
        FilePath(""), help="Certificate that is shown to the Hub; default $JUPYTERHUB_SSL_CERTFILE."
    )
    ssl_ca: FilePath = option(
        FilePath(""), help="CAs that the Hub is verified against; default $JUPYTERHUB_SSL_CLIENT_CA."
    )

    def __attrs_post_init__(self) -> None:
        """Refuse waits that would end at once, or never.

        Raises `OptionError`.
        """
        if self.timeout <= 0:
            raise OptionError("the Hub needs some time to answer", "timeout")
        if self.known_for < 0:
            raise OptionError("is a time", "known_for")

    def check(self, environ: Mapping[str, str]) -> None:
        """Look whether everything is there, here or in `environ`.

        Raises `OptionError`, which names the variable.
        """
        hub_settings(self, environ, "/")


@attrs.frozen(kw_only=True)
class HubSettings:
    """Everything, wherever it came from. `ignored` names attributes of cookies that are not taken."""

    place: HubPlace
    oauth: OAuthClient
    prefix: str
    access: Access
    public_url: str
    host_prefix: bool
    cookie_options: CookieOptions
    ignored: tuple[str, ...]
    allow_token_in_url: bool
    allow_websocket_cookie: bool


def hub_settings(config: HubAuthConfig, environ: Mapping[str, str], scope: str) -> HubSettings:
    """What `config` says, and `environ` of the rest; `scope` is the path that is guarded.

    Raises `OptionError`.
    """
    found = _Found(environ)
    prefix = config.prefix or found.text("SERVICE_PREFIX") or scope
    prefix = prefix.rstrip("/") + "/"
    if not _PREFIX.fullmatch(prefix):
        raise OptionError("is a path, with `/` at both ends", "prefix")
    service = config.service_name or found.text("SERVICE_NAME")
    client_id = config.client_id or found.text("CLIENT_ID") or (f"service-{service}" if service else "")
    client_id = client_id or found.missing("CLIENT_ID", "client_id")
    if not _COOKIE_NAME.fullmatch(client_id):
        raise OptionError("is too long, or has characters that the name of a cookie has not", "client_id")
    place = hub_place(config, environ)
    callback = config.callback_url or found.text("OAUTH_CALLBACK_URL") or f"{prefix}oauth_callback"
    if not urlsplit(callback).path.startswith(prefix):
        raise OptionError(f"has to be below {prefix}, where the cookies of a login are", "callback_url")
    base_url = (config.base_url or found.text("BASE_URL")).rstrip("/") + "/"
    host = (config.host or found.text("HOST")).rstrip("/")
    cookie_options, ignored = _cookie_options(config, found)
    access = Access(
        scopes=config.access_scopes
        or found.scopes("OAUTH_ACCESS_SCOPES")
        or found.scopes("OAUTH_SCOPES")
        or ((f"access:services!service={service}",) if service else ()),
        user=config.user or found.text("USER"),
        group=config.group or found.text("GROUP"),
        anyone=found.switch("ANYONE", config.anyone, default=False),
    )
    if not access:
        found.missing("OAUTH_ACCESS_SCOPES", "access_scopes")
    return HubSettings(
        place=place,
        oauth=OAuthClient(
            client_id=client_id,
            secret=place.token,
            authorize_url=f"{host}{base_url}hub/api/oauth2/authorize",
            redirect_uri=callback,
        ),
        prefix=prefix,
        access=access,
        public_url=config.public_url or found.text("PUBLIC_URL"),
        host_prefix=found.switch("COOKIE_HOST_PREFIX_ENABLED", config.cookie_host_prefix, default=False),
        cookie_options=cookie_options,
        ignored=tuple(ignored),
        allow_token_in_url=found.switch("ALLOW_TOKEN_IN_URL", config.allow_token_in_url, default=False),
        allow_websocket_cookie=found.switch(
            "ALLOW_WEBSOCKET_COOKIE_AUTH", config.allow_websocket_cookie_auth, default=True
        ),
    )


def hub_place(config: HubAuthConfig, environ: Mapping[str, str]) -> HubPlace:
    """Where the Hub is.

    The token in `environ` is for the Hub that has put it there, and goes to no other. Raises `OptionError`.
    """
    found = _Found(environ)
    usual = found.text("API_URL")
    url = config.api_url or usual or found.missing("API_URL", "api_url")
    if not can_be_asked(url):
        raise OptionError("is no URL with http, https or http+unix", "api_url")
    token = config.api_token
    if not token and url.rstrip("/") != usual.rstrip("/"):
        raise OptionError("is needed for an `api_url` that is not $JUPYTERHUB_API_URL", "api_token")
    token = token or Secret(
        found.text("API_TOKEN") or environ.get("JPY_API_TOKEN", "") or found.missing("API_TOKEN", "api_token")
    )
    if not _TOKEN.fullmatch(token):
        raise OptionError("has characters that no token has", "api_token")
    tls = AskerTls(
        config.ssl_key or found.text("SSL_KEYFILE"),
        config.ssl_certificate or found.text("SSL_CERTFILE"),
        config.ssl_ca or found.text("SSL_CLIENT_CA"),
    )
    return HubPlace(url=url, token=token, tls=tls, seconds=config.timeout)


def _cookie_options(config: HubAuthConfig, found: _Found) -> tuple[CookieOptions, list[str]]:
    options, ignored = CookieOptions.read(found.options("COOKIE_OPTIONS"))
    if config.cookie_same_site != "default":
        options = attrs.evolve(options, same_site=config.cookie_same_site.capitalize())
    if config.cookie_secure is not None:
        options = attrs.evolve(options, secure=config.cookie_secure)
    if config.cookie_lifetime is not None:
        options = attrs.evolve(options, max_age=int(config.cookie_lifetime) or None)
    return options, ignored


class _Found:
    """The variables of the Hub in an environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str:
        return self._environ.get(f"JUPYTERHUB_{name}", "")

    def missing(self, name: str, option_name: str) -> str:
        raise OptionError(f"is needed: JUPYTERHUB_{name} is not set in the environment either", option_name)

    def switch(self, name: str, option_value: bool | None, *, default: bool) -> bool:
        if option_value is not None:
            return option_value
        value = self.text(name)
        return value.lower() in _TRUE if value else default

    def scopes(self, name: str) -> tuple[str, ...]:
        value = self._json(name, "access_scopes", "[]")
        if not isinstance(value, list) or not all(isinstance(scope, str) for scope in value):
            raise OptionError(f"JUPYTERHUB_{name} is no list of scopes", "access_scopes")
        return tuple(value)

    def options(self, name: str) -> Mapping[str, object]:
        value = self._json(name, "cookie_same_site", "{}")
        if not isinstance(value, dict):
            raise OptionError(f"JUPYTERHUB_{name} is no object with attributes of cookies", "cookie_same_site")
        return value

    def _json(self, name: str, option_name: str, default: str) -> object:
        try:
            return json.loads(self.text(name) or default)
        except ValueError:
            raise OptionError(f"JUPYTERHUB_{name} is not JSON", option_name) from None
