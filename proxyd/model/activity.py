"""Section `activity` of the configuration."""

from __future__ import annotations

import attrs

from proxyd.errors import OptionError
from proxyd.model.upstream import can_be_asked
from proxyd.option import Pattern, Seconds, Secret, option


@attrs.frozen(kw_only=True)
class ActivitySettings:
    """Reports to JupyterHub of when somebody was last at work, by which it knows what is idle.

    There are reports if `url` is given, or if an `auth` is of the kind `jupyterhub` and the Hub has set the variable.
    """

    url: str = option(
        "",
        help="Where the Hub takes reports; default $JUPYTERHUB_ACTIVITY_URL.",
        example="http://127.0.0.1:8081/hub/api/users/alice/activity",
    )
    token: Secret = option(
        Secret(""), help="Our own token at the Hub; default that of `auth`, else $JUPYTERHUB_API_TOKEN."
    )
    server_name: str | None = option(
        None,
        help="The name of the server at the Hub, empty for the default one; default $JUPYTERHUB_SERVER_NAME.",
        example="second",
    )
    interval: Seconds | None = option(
        None,
        help="The time between two reports, `0s` for none at all; default $JUPYTERHUB_ACTIVITY_INTERVAL, else 300 s.",
        example="5m",
    )
    force_alive: bool = option(False, help="Report that somebody is at work all the time, so that nothing is culled.")
    ignore: tuple[Pattern, ...] = option(
        (),
        help="Requests whose whole path, as it came, matches one of these do not count: what a page asks all the time.",
    )

    def __attrs_post_init__(self) -> None:
        """Refuse what nobody can be told at.

        Raises `OptionError`.
        """
        if self.url and not can_be_asked(self.url):
            raise OptionError("is no URL with http, https or http+unix", "url")
