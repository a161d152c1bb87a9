"""What an authenticator is given to work with."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs

from proxyd.core.counting import Counting

OWN_COOKIES = b"proxyd-login"
"""How the name of every cookie of ours begins."""

_KEY_BYTES = 32


@attrs.frozen(kw_only=True)
class AuthEnvironment:
    """What surrounds an authenticator.

    It answers for the public paths at and below `scope`, in the form that browsers use; a slash at its end does not
    matter. `name` is that of the only route it answers for, empty if it is for all that share one. `seconds` is a
    clock that only goes on, `wall_clock` the time since the epoch. `trusts` tells whether an address is a trusted
    proxy's. `cookie_key` is the secret that all processes share; asking for it raises `OSError` if there can be none.
    `reactor` is for authenticators that ask somebody else, `environ` for what the options leave to it. `touch_of` says
    what an admitted request for a raw path calls whenever something happens, None for nothing. `counting` makes what
    counts attempts. `cookies` are names
    that all authenticators keep from upstreams; each adds its own.
    """

    seconds: Callable[[], float]
    wall_clock: Callable[[], float]
    trusts: Callable[[str], bool]
    cookie_key: Callable[[], bytes]
    reactor: Any = None
    environ: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    touch_of: Callable[[bytes], Callable[[], None] | None] = lambda _: None
    counting: Counting = attrs.field(factory=Counting)
    cookies: set[bytes] = attrs.field(factory=set)
    scope: str = "/"
    name: str = ""
    below: str = ""

    @property
    def own_path(self) -> str:
        """Where its own paths are; `core.posted.RESERVED` keeps routes from taking their place."""
        return f"{self.scope.rstrip('/')}/.proxyd/{self.below}"

    @property
    def cookie_name(self) -> bytes:
        """A name that no other authenticator's cookie has."""
        if not self.name:
            return OWN_COOKIES
        return OWN_COOKIES + b"-" + sha256(self.name.encode()).hexdigest()[:12].encode()


def read_or_make_key(path: Path) -> bytes:
    """The key in the file at `path`, made when it is asked for first, for its owner's eyes only.

    Raises `OSError` if it cannot be kept, is no key, or is there for others to read.
    """
    try:
        return _read_or_make_key(path)
    except OSError as error:
        if error.strerror is None:  # one of ours
            raise
        raise OSError(f"the key of logins cannot be kept in {path}: {error.strerror} (`state_directory`)") from None


def _read_or_make_key(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        return _read_key(path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
        with suppress(FileExistsError):  # another process was faster: its key is everybody's
            os.link(fresh, path)
    finally:
        fresh.unlink()
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    with path.open() as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise PermissionError(f"{path} can be read by others: the logins of everybody depend on it")
        try:
            key = bytes.fromhex(file.read())
        except ValueError:
            key = b""
    if len(key) != _KEY_BYTES:
        raise OSError(f"{path} holds no key: remove it, and everybody has to log in again")
    return key
