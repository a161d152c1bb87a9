"""What a JupyterHub tells those that it starts, in their environment (contract of JupyterHub, section 2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from proxyd.errors import OptionError

EVERYBODY = ("0.0.0.0/0", "::/0", "unix")
"""All peers, as proxies that are trusted."""

_TLS = ("JUPYTERHUB_SSL_KEYFILE", "JUPYTERHUB_SSL_CERTFILE", "JUPYTERHUB_SSL_CLIENT_CA")


def is_under_hub(environ: Mapping[str, str]) -> bool:
    """Whether a Hub has started us; the prefix alone is also set by hand, for packages that read it."""
    signs = ("JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN", "JUPYTERHUB_API_URL", "JUPYTERHUB_SERVICE_URL")
    return bool(environ.get("JUPYTERHUB_SERVICE_PREFIX")) and any(environ.get(sign) for sign in signs)


def service_prefix(environ: Mapping[str, str]) -> str:
    """The path that the Hub sends to us, with a slash at both ends."""
    path = environ.get("JUPYTERHUB_SERVICE_PREFIX", "").strip("/")
    return f"/{path}/" if path else "/"


def hub_listener(environ: Mapping[str, str], default_port: int) -> dict[str, Any]:
    """The options of the listener that the Hub expects; without a Hub, at `default_port` of the loopback interface.

    With internal TLS it takes clients that show a certificate of the Hub's own authority, and nobody else. Raises
    `OptionError` for a URL that cannot be read.
    """
    url = environ.get("JUPYTERHUB_SERVICE_URL", "")
    listener: dict[str, Any] = {"kind": "http", "address": "127.0.0.1", "port": default_port}
    if url:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise OptionError("is no URL", "JUPYTERHUB_SERVICE_URL") from None
        if parts.scheme.endswith("+unix"):
            listener = {"kind": "http", "socket": unquote(parts.netloc)}
        else:
            # Who says no host means all of them.
            listener["address"] = parts.hostname or ""
            listener["port"] = port or (443 if parts.scheme == "https" else 80)
    key, certificate, authority = (environ.get(name, "") for name in _TLS)
    if key and certificate and authority:
        listener |= {
            "kind": "https",
            "certificates": [{"certificate": certificate, "key": key}],
            "client_ca": authority,
            "client_certificates": "required",
        }
    return listener


def under_hub(document: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """`document`, the options of a file, with what the Hub says about those that it leaves open.

    Raises `OptionError`.
    """
    if not is_under_hub(environ):
        return dict(document)
    told: dict[str, Any] = {"base_url": service_prefix(environ)}
    defaults = document.get("route_defaults")
    if not isinstance(defaults, Mapping) or not defaults.get("auth"):  # which would hold in its place
        told["auth"] = {"kind": "jupyterhub"}
    if environ.get("JUPYTERHUB_SERVICE_URL"):
        told["listeners"] = [hub_listener(environ, 0)]
        if document.get("listeners") is None:
            # There only the proxy of the Hub reaches us, from another machine perhaps, and it says who the client is.
            told["trusted_proxies"] = list(EVERYBODY)
    if environ.get("JUPYTERHUB_DEFAULT_URL"):
        told["default_url"] = environ["JUPYTERHUB_DEFAULT_URL"]
    # Every user of the machine has one of us, and they would quarrel for its port.
    told["api"] = "off"
    return told | {name: value for name, value in document.items() if value is not None}
