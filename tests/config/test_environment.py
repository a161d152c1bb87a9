"""Tests of `proxyd.config.environment`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.errors import ConfigError

HUB = "{kind: jupyterhub}"
ENVIRON = {
    "JUPYTERHUB_API_URL": "http://127.0.0.1:8081/hub/api",
    "JUPYTERHUB_API_TOKEN": "token",
    "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-alice",
    "JUPYTERHUB_SERVICE_PREFIX": "/user/alice/",
    "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers!server=alice/"]',
}


class EnvironmentTests(SynchronousTestCase):
    """A section that leaves something to the environment."""

    PLACES = (
        (f"auth: {HUB}", "1:7: auth"),
        (f"route_defaults: {{auth: {HUB}}}", "1:24: route_defaults.auth"),
        (f"routes: {{/a: {{upstream: 'http://a', auth: {HUB}}}}}", "1:43: routes./a.auth"),
        (f"patterns: [{{pattern: /a, upstream: 'http://a', auth: {HUB}}}]", "patterns[0].auth"),
    )

    def test_it_is_there(self) -> None:
        """Wherever the section is."""
        for text, _ in self.PLACES:
            parse(text, KINDS, ENVIRON)

    def test_it_is_missing(self) -> None:
        """The problem names the variable, and where the section is."""
        for text, place in self.PLACES:
            for name in ("API_URL", "API_TOKEN", "CLIENT_ID", "OAUTH_ACCESS_SCOPES"):
                environ = {key: value for key, value in ENVIRON.items() if not key.endswith(name)}
                error = self.assertRaises(ConfigError, parse, text, KINDS, environ)
                self.assertIn(place, str(error))
                self.assertIn(f"JUPYTERHUB_{name} is not set in the environment", str(error))
