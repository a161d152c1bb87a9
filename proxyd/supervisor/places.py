"""Where managed servers listen: ports that are free, and unix sockets in private directories."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from proxyd.errors import ProxydError
from proxyd.model.servers import Place, ServerSpec
from proxyd.model.upstream import MAX_SOCKET_PATH
from proxyd.supervisor.watcher import Watcher

if TYPE_CHECKING:
    from proxyd.supervisor.instance import Instance

_MAX_ATTEMPTS = 100  # ports of the system's choice that others of ours have


class PlaceError(ProxydError):
    """A server cannot listen where it should, or there is no place for it."""


class Places:
    """Chooses places, no two alike, and takes the directories away that it made.

    `tenants` are those whose processes are there, by the place as text.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._ports: set[int] = set()
        self.tenants: dict[str, Instance] = {}
        self._directories: dict[str, str] = {}
        self._owners: dict[str, int] = {}  # of the directories

    def choose(self, spec: ServerSpec) -> Place:
        """A place for one instance of `spec`; what is chosen freely belongs to it until `release`.

        Raises `PlaceError`.
        """
        if spec.unix_socket is True:
            return self._private_socket(spec.user)
        if spec.unix_socket:
            return Place(0, spec.unix_socket)
        if spec.port:
            return Place(spec.port)
        port = _first_free(spec.ports, self._ports) if spec.ports else self._any_port()
        self._ports.add(port)
        return Place(port)

    def check(self, place: Place) -> None:
        """Make sure that nobody listens there; a socket file that nobody listens on is removed.

        Raises `PlaceError`, also when a directory that was made for it is gone: what tidies up takes those away that
        nobody has used for some days.
        """
        if place.socket:
            self._check_directory(place.socket)
            _check_socket(place.socket)
        elif not _is_free(place.port):
            raise PlaceError(f"port {place.port} is taken by another program")

    def release(self, place: Place) -> None:
        """The place is not needed any more."""
        self._ports.discard(place.port)
        directory = self._directories.pop(place.socket, None)
        if directory is not None:
            self._owners.pop(directory, None)
            shutil.rmtree(directory, ignore_errors=True)
            self._watcher.remove_directory(directory)

    def close(self) -> None:
        """Remove all directories that are left."""
        for path in list(self._directories):
            self.release(Place(0, path))

    def _private_socket(self, user: str) -> Place:
        try:
            directory = tempfile.mkdtemp(prefix="proxyd-")
        except OSError as error:
            raise PlaceError(f"there is no directory for its socket: {error}") from None
        path = os.path.join(directory, "socket")
        self._directories[path] = directory
        self._watcher.add_directory(directory)
        try:
            if len(path.encode()) > MAX_SOCKET_PATH:
                raise PlaceError(f"{path} is too long for a socket: it has more than {MAX_SOCKET_PATH} bytes")
            if user and os.geteuid() == 0:
                owner = pwd.getpwnam(user)
                os.chown(directory, owner.pw_uid, owner.pw_gid)
            self._owners[directory] = os.lstat(directory).st_uid
        except (PlaceError, KeyError, OSError) as error:
            self.release(Place(0, path))
            raise error if isinstance(error, PlaceError) else PlaceError(f"there is no user {user}") from None
        return Place(0, path)

    def _check_directory(self, socket_path: str) -> None:
        directory = self._directories.get(socket_path)
        if directory is None:
            return
        try:
            status = os.lstat(directory)
        except OSError as error:
            raise PlaceError(f"{directory}: {error.strerror}") from None
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != self._owners[directory]:
            raise PlaceError(f"{directory} is not the one that was made")

    def _any_port(self) -> int:
        for _ in range(_MAX_ATTEMPTS):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in self._ports and _is_free(port):
                return port
        raise PlaceError("there is no free port")


def _first_free(ports: range, taken: Iterable[int]) -> int:
    for port in ports:
        if port not in taken and _is_free(port):
            return port
    raise PlaceError(f"all ports from {ports[0]} to {ports[-1]} are taken")


def _is_free(port: int) -> bool:
    """Whether somebody could listen on all addresses; what cannot be tried, because it takes root, counts as free."""
    for family, address in ((socket.AF_INET, ""), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family) as probe:
                # As servers do: connections of a former life that are still closing do not matter.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
    return True


def _check_socket(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise PlaceError(f"{path}: {error.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise PlaceError(f"{path} is there, and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            raise PlaceError(f"{path}: {error.strerror}") from None
    raise PlaceError(f"{path} is taken by another program")
