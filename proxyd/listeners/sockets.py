"""Listening sockets: opened at an address or a path, removed at the end."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

from proxyd.errors import ListenError

ALL_ADDRESSES = frozenset({"", "*", "0.0.0.0"})


def open_tcp(address: str, port: int, backlog: int) -> list[socket.socket]:
    """Listen on every address that `address` means: one, those of a name, or all, v4 and v6, for "" and "*".

    Raises `ListenError`; nothing stays open then.
    """
    if address in ("", "*"):
        try:
            return [_listen(socket.AF_INET6, ("::", port), backlog)]
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise ListenError(_where(address, port), _reason(error)) from None
            address = "0.0.0.0"  # a machine without IPv6
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ListenError(_where(address, port), _reason(error)) from None
    sockets: list[socket.socket] = []
    places = list(dict.fromkeys((family, place) for family, *_, place in found))
    for family, place in places:
        try:
            place = (place[0], sockets[0].getsockname()[1] if sockets else port, *place[2:])  # noqa: PLW2901  # port 0
            sockets.append(_listen(family, place, backlog))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and len(places) > 1:
                continue  # `localhost` is ::1 as well on machines that have no IPv6
            for opened in sockets:
                opened.close()
            raise ListenError(_where(address, port), _reason(error)) from None
    if not sockets:
        raise ListenError(_where(address, port), "no such address on this machine")
    return sockets


def open_unix(path: str, backlog: int, mode: int | None = None) -> socket.socket:
    """Listen on a unix socket, in place of a stale one on which nobody accepts.

    `mode` None leaves the permissions to the umask. Raises `ListenError`.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.setblocking(False)
        sock.bind(path)
        if mode is not None:
            set_mode(path, mode)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise ListenError(path, _reason(error)) from None
    return sock


def set_mode(path: str, mode: int | None) -> None:
    """Set the permissions of a unix socket; None: what the umask leaves.

    Raises `OSError`.
    """
    if mode is None:
        found = re.search(r"^Umask:\s*([0-7]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
        mode = 0o777 & ~int(found[1] if found is not None else "022", 8)  # to ask the system would change it
    os.chmod(path, mode)


def is_at(sock: socket.socket, address: str, port: int, path: str) -> bool:
    """Whether `sock` listens where one that is opened for `address` and `port`, or for `path`, would."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return bool(path) and isinstance(name, str) and os.path.abspath(path) == os.path.abspath(name)
    if path or name[1] != port:
        return False
    if address in ("", "*"):
        return name[0] in ("::", "0.0.0.0")
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False  # opening it will tell
    return any(name[:2] == place[:2] for *_, place in found)


def identity(path: str) -> tuple[int, int]:
    """What tells a file from another one that was put in its place."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def remove_unix(path: str, own: tuple[int, int]) -> None:
    """Remove the socket, if it is still the one whose `identity` is `own`."""
    try:
        if identity(path) == own:
            os.unlink(path)
    except FileNotFoundError:
        pass  # somebody was faster: JupyterHub removes the sockets of its proxy


def _listen(family: int, place: Sequence[object], backlog: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # on Linux, accepted sockets inherit it
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if place[0] == "::" else 1)
        sock.bind(tuple(place))
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, "there is a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _where(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address or '*'}:{port}"


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).lower()
