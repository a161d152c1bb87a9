"""Tests of `proxyd.core.exposure`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.exposure import exposed
from proxyd.model.auth import AnonymousAuthConfig, AuthConfig


class ExposureTests(SynchronousTestCase):
    """Who could come in."""

    def test_addresses(self) -> None:
        """Loopback is private; everything else, and what nobody knows, is not."""
        private = ["127.0.0.1", "127.8.9.1", "::1", "localhost"]
        public = ["", "*", "0.0.0.0", "::", "192.0.2.1", "10.0.0.1", "fe80::1%eth0", "host.test", "localhost.test"]
        self.assertEqual(exposed([*private, *public], AnonymousAuthConfig()), ["*", *public[1:]])

    def test_a_login_in_front_is_enough(self) -> None:
        """Any kind but `anonymous`."""
        self.assertEqual(exposed(["*"], AuthConfig()), [])
