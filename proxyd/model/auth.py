"""Who a client is, and what an authenticator says about a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import attrs

from proxyd.option import option


@attrs.frozen(kw_only=True)
class AuthConfig:
    """Marks the config class of each kind of authenticator."""

    asks_hub: ClassVar[bool] = False
    """Whether it is JupyterHub that says who may."""

    def check(self, environ: Mapping[str, str]) -> None:
        """Look whether `environ` has what the options leave to it.

        Raises `OptionError`.
        """


@attrs.frozen(kw_only=True)
class AnonymousAuthConfig(AuthConfig):
    """Everybody may."""

    remove_user_info: bool = option(
        False,
        help="Remove the field and the argument by which the kind `jupyterhub` tells who a visitor is: nobody has "
        "been asked, so they are forged.",
    )


@attrs.frozen
class Identity:
    """Who the client is; `name` is empty for somebody who is known by what they have, not by who they are."""

    name: str = ""
    kind: str = "anonymous"


@attrs.frozen(kw_only=True)
class Strip:
    """Names of what must not reach the upstream: cookies, fields, and arguments of the query, decoded.

    Those of fields and arguments are lower-case, and mean every spelling; in fields, `-` means `_` as well. A response
    of the upstream cannot set the cookies either.
    """

    cookies: frozenset[bytes] = frozenset()
    fields: frozenset[bytes] = frozenset()
    arguments: frozenset[bytes] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.cookies or self.fields or self.arguments)


NOTHING = Strip()


@attrs.frozen(kw_only=True)
class Admit:
    """The request may go on.

    `strip` is taken from it and `add`, names with values, put in its place before the upstream sees it; a field of
    such a name that the client sent is dropped. `add_arguments` come at the end of the query. `set_cookies` are values
    of Set-Cookie for the response, whoever makes it. `touch` is called whenever something happens in the exchange.
    """

    identity: Identity = Identity()
    strip: Strip = NOTHING
    add: tuple[tuple[bytes, bytes], ...] = ()
    add_arguments: tuple[tuple[bytes, bytes], ...] = ()
    set_cookies: tuple[bytes, ...] = ()
    touch: Callable[[], None] | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen
class Answer:
    """The request goes no further, and this is its answer.

    `fields` are lines without those that belong to the connection. Without a `body` it is the error page of `status`;
    `detail` is for the log, and never repeats what the client sent.
    """

    status: int
    fields: tuple[bytes, ...] = ()
    body: bytes | None = None
    detail: str = ""


Verdict = Admit | Answer
"""What an authenticator says."""

ANYBODY = Admit()
"""Nothing is asked, and nothing changed."""
