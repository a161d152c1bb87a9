"""What must not be published to everybody unless somebody has said so."""

from __future__ import annotations

from ipaddress import ip_address

from proxyd.errors import OptionError
from proxyd.model.settings import Config


def check_exposure(config: Config) -> None:
    """Refuse ports on a listener that anybody may reach: in Jupyter such things live behind a login.

    Raises `OptionError`.
    """
    if not config.ports.enabled or config.allow_anonymous:
        return
    for listener in config.listeners:
        address = getattr(listener, "address", "127.0.0.1")
        if not getattr(listener, "socket", "") and not _is_loopback(address):
            raise OptionError(
                f"the listener on {address or '*'} would let everybody use the ports of this machine; "
                "`allow_anonymous: true` does",
                "ports",
                "enabled",
            )


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return address == "localhost"
