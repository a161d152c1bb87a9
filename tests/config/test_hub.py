"""What a Hub says in the environment, and that the file wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.auth.hubsettings import HubAuthConfig
from proxyd.builtins import KINDS
from proxyd.config.hub import hub_listener, is_under_hub, under_hub
from proxyd.config.loader import load, parse
from proxyd.config.startup import load_or_exit
from proxyd.errors import ConfigError, OptionError
from proxyd.listeners.http import HttpConfig
from proxyd.model.auth import AnonymousAuthConfig
from proxyd.model.settings import ApiSettings

HUB = {
    "JUPYTERHUB_SERVICE_PREFIX": "/user/dan/",
    "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:24010/user/dan/",
    "JUPYTERHUB_API_TOKEN": "t0ken",
    "JUPYTERHUB_API_URL": "http://127.0.0.1:8081/hub/api",
    "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-dan",
    "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers!server=dan/"]',
}


class DocumentTests(SynchronousTestCase):
    """Options of a file, under a Hub."""

    def test_the_hub_says_what_the_file_does_not(self) -> None:
        """Prefix, listener and login, and that its proxy knows the client; there is no REST API.

        All users of a machine would want its port.
        """
        self.assertEqual(
            {
                "base_url": "/user/dan/",
                "listeners": [{"kind": "http", "address": "127.0.0.1", "port": 24010}],
                "trusted_proxies": ["0.0.0.0/0", "::/0", "unix"],
                "auth": {"kind": "jupyterhub"},
                "api": "off",
            },
            under_hub({}, HUB),
        )

    def test_the_file_wins(self) -> None:
        """Whatever it says, the defaults among them; an option without a value says nothing."""
        document: dict[str, Any] = {
            "base_url": "/",
            "listeners": [{"kind": "http", "port": 8000}],
            "auth": {"kind": "anonymous"},
            "api": {},
            "default_url": "/mine",
            "routes": {"/x": "http://localhost:1"},
        }
        self.assertEqual(document, under_hub(document, HUB | {"JUPYTERHUB_DEFAULT_URL": "/lab"}))
        self.assertEqual("/user/dan/", under_hub({"base_url": None}, HUB)["base_url"])
        self.assertEqual([], under_hub({"trusted_proxies": []}, HUB)["trusted_proxies"])
        self.assertNotIn("auth", under_hub({"route_defaults": {"auth": {"kind": "anonymous"}}}, HUB))
        self.assertIn("auth", under_hub({"route_defaults": {}}, HUB))

    def test_the_landing_page_and_internal_tls(self) -> None:
        """Both are told only when an administrator has configured them."""
        told = under_hub({}, HUB | {"JUPYTERHUB_DEFAULT_URL": "/proxy/8080"})
        self.assertEqual("/proxy/8080", told["default_url"])
        files = {"JUPYTERHUB_SSL_KEYFILE": "k", "JUPYTERHUB_SSL_CERTFILE": "c", "JUPYTERHUB_SSL_CLIENT_CA": "ca"}
        (listener,) = under_hub({}, HUB | files)["listeners"]
        self.assertEqual("https", listener["kind"])
        self.assertEqual([{"certificate": "c", "key": "k"}], listener["certificates"])
        self.assertEqual(("ca", "required"), (listener["client_ca"], listener["client_certificates"]))
        self.assertEqual("http", hub_listener(HUB | {"JUPYTERHUB_SSL_KEYFILE": "k"}, 0)["kind"])

    def test_without_a_hub_nothing_changes(self) -> None:
        """A prefix alone is none: packages that read it want it to be set by hand."""
        for environ in ({}, {"JUPYTERHUB_SERVICE_PREFIX": "/user/dan/"}, {"JUPYTERHUB_API_TOKEN": "x"}):
            self.assertFalse(is_under_hub(environ))
            self.assertEqual({"start_page": False}, under_hub({"start_page": False}, environ))
        self.assertEqual(
            {"base_url", "auth", "api"}, set(under_hub({}, HUB | {"JUPYTERHUB_SERVICE_URL": ""})), "no listener"
        )

    def test_a_url_that_is_none_is_refused(self) -> None:
        """And the variable is named."""
        environ = HUB | {"JUPYTERHUB_SERVICE_URL": "http://h:port/"}
        error = self.assertRaises(OptionError, under_hub, {}, environ)
        self.assertEqual(("JUPYTERHUB_SERVICE_URL",), error.path)
        errors = self.assertRaises(ConfigError, parse, "", KINDS, environ)
        self.assertIn("JUPYTERHUB_SERVICE_URL", str(errors))


class ConfigTests(SynchronousTestCase):
    """The whole way."""

    def test_no_file_at_all(self) -> None:
        """It serves what the Hub wants."""
        self.patch(Path, "is_file", lambda _: False)
        file, config = load_or_exit("", KINDS, HUB)
        self.assertIsNone(file)
        self.assertEqual("/user/dan/", config.base_url)
        self.assertEqual(HubAuthConfig(), config.auth)
        self.assertEqual((HttpConfig(port=24010),), config.listeners)  # type: ignore[arg-type]
        self.assertIsNone(config.api)
        self.assertEqual(("0.0.0.0/0", "::/0", "unix"), config.trusted_proxies)

    def test_a_file(self) -> None:
        """Its options come on top."""
        path = Path(self.mktemp())
        path.write_text("ports: {enabled: true}\napi: {port: 0}\n")
        config = load(path, KINDS, HUB)
        self.assertTrue(config.ports.enabled)
        self.assertEqual(ApiSettings(port=0), config.api)  # type: ignore[arg-type]
        self.assertEqual("/user/dan/", config.base_url)
        path.write_text("auth: {kind: anonymous}\n")
        self.assertEqual(AnonymousAuthConfig(), load(path, KINDS, HUB).auth)
