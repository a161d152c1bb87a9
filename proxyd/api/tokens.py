"""The token of the API: given, found, or made."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

from proxyd.model.settings import ApiSettings

_log = Logger()

_VARIABLES = ("PROXYD_AUTH_TOKEN", "CONFIGPROXY_AUTH_TOKEN")


def api_tokens(api: ApiSettings, state: Path, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The tokens that the API accepts; none, if it is to be open.

    Without configured ones, that of the environment is taken; without that, one is made and kept in `state`.
    Raises `OSError` if it cannot be kept.
    """
    configured = tuple(filter(None, (api.token, *api.tokens)))
    if configured:
        return configured
    token = configured_token(api, environ)
    if token:
        return (token,)
    if api.open:
        _log.warn("REST API is not authenticated: whoever reaches it can change every route")
        return ()
    path = state / "token"
    token = read_or_make_token(path)
    _log.info("the token of the API is in {path}", path=str(path))
    return (token,)


def configured_token(api: ApiSettings, environ: Mapping[str, str]) -> str:
    """The token that somebody chose, in the configuration or in the environment; "" if nobody did."""
    # What is read from a file into a variable has the end of its line, often enough.
    chosen = (api.token, *api.tokens, *(environ.get(name, "").strip() for name in _VARIABLES))
    return next(filter(None, chosen), "")


def known_token(api: ApiSettings, state: Path, environ: Mapping[str, str]) -> str:
    """A token that the API accepts, for who asks it; "" if it is open, or the token is not ours to see."""
    token = configured_token(api, environ)
    if not token and not api.open:
        with suppress(OSError):
            token = (state / "token").read_text().strip()
    return token


def read_or_make_token(path: Path) -> str:
    """The token in the file at `path`, made at the first start, for its owner's eyes only."""
    with suppress(FileNotFoundError):
        token = path.read_text().strip()
        if token:
            return token
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    token = secrets.token_hex(32)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(token + "\n")
    return token


def state_directory(configured: str, environ: Mapping[str, str]) -> Path:
    """Where state is kept: as configured, or where systemd or the XDG directories say."""
    if configured or environ.get("STATE_DIRECTORY"):
        return Path(configured or environ["STATE_DIRECTORY"])
    home = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME", "/")) / ".local/state"
    return Path(home) / "proxyd"
