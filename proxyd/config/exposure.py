"""What must not be published to everybody unless somebody has said so."""

from __future__ import annotations

from collections.abc import Iterator

from proxyd.core.exposure import exposed
from proxyd.errors import OptionError
from proxyd.model.settings import Config


def exposures(config: Config) -> Iterator[OptionError]:
    """An error for servers, and for ports, on a listener that anybody may reach: in Jupyter a login is before them."""
    if config.allow_anonymous:
        return
    public = (section for section in config.listeners if not getattr(section, "socket", ""))
    addresses = exposed(
        (getattr(section, "address", "127.0.0.1") for section in public), config.route_defaults.auth or config.auth
    )
    bring_servers = [name for name in ("servers", "server_packages", "jupyter_config") if getattr(config, name)]
    for is_there, what, path in (
        (bool(bring_servers), "the managed servers", tuple(bring_servers[:1])),
        (config.ports.enabled, "the ports of this machine", ("ports", "enabled")),
    ):
        if is_there and addresses:
            yield OptionError(
                f"the listener on {addresses[0]} would let everybody use {what}; `auth` asks who it is, and "
                "`allow_anonymous: true` lets everybody",
                *path,
            )
