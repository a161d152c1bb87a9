"""Tests of `proxyd.api.tokens`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.api.tokens import api_tokens, read_or_make_token, state_directory
from proxyd.errors import OptionError
from proxyd.model.settings import ApiSettings
from proxyd.option import Secret


class ApiTokensTests(SynchronousTestCase):
    """Where the token comes from."""

    def test_order(self) -> None:
        """The configured one, else PROXYD_AUTH_TOKEN, else CONFIGPROXY_AUTH_TOKEN, else none if it is to be open."""
        environ = {"PROXYD_AUTH_TOKEN": "ours", "CONFIGPROXY_AUTH_TOKEN": "theirs"}
        state = Path(self.mktemp())
        self.assertEqual(("set",), api_tokens(ApiSettings(token=Secret("set")), state, environ))
        self.assertEqual(("ours",), api_tokens(ApiSettings(), state, environ))
        self.assertEqual(("theirs",), api_tokens(ApiSettings(open=True), state, {**environ, "PROXYD_AUTH_TOKEN": ""}))
        self.assertEqual((), api_tokens(ApiSettings(open=True), state, {}))
        self.assertEqual(("ours",), api_tokens(ApiSettings(), state, {**environ, "PROXYD_AUTH_TOKEN": "ours\n"}))
        self.assertEqual(("theirs",), api_tokens(ApiSettings(), state, {**environ, "PROXYD_AUTH_TOKEN": "\n"}))
        self.assertFalse(state.exists())

    def test_two_at_once(self) -> None:
        """All that are configured are accepted, and those of the environment are not."""
        both = ApiSettings(token=Secret("new"), tokens=(Secret("old"), Secret("older")))
        environ = {"PROXYD_AUTH_TOKEN": "ours"}
        self.assertEqual(("new", "old", "older"), api_tokens(both, Path(self.mktemp()), environ))
        self.assertEqual(("a",), api_tokens(ApiSettings(tokens=(Secret("a"),)), Path(self.mktemp()), environ))

    def test_senseless_ones_are_refused(self) -> None:
        """An empty one would open the API to whoever sends nothing; one with blanks could never be sent."""
        for settings, path in (
            ({"tokens": (Secret("a"), Secret(""))}, ("tokens", 1)),
            ({"tokens": (Secret("a b"),)}, ("tokens", 0)),
            ({"token": Secret("a\tb")}, ("token",)),
        ):
            with self.assertRaises(OptionError) as caught:
                ApiSettings(**settings)  # type: ignore[arg-type]
            self.assertEqual(path, caught.exception.path)

    def test_made(self) -> None:
        """Without any, one is made, for its owner's eyes only, and is the same after a restart."""
        state = Path(self.mktemp()) / "deep" / "down"
        (token,) = api_tokens(ApiSettings(), state, {})
        self.assertEqual(64, len(token))
        self.assertEqual((token,), api_tokens(ApiSettings(), state, {}))
        self.assertEqual(0o600, stat.S_IMODE(os.stat(state / "token").st_mode))
        (state / "token").write_text("\n")
        self.assertNotIn(read_or_make_token(state / "token"), ("", token))


class StateDirectoryTests(SynchronousTestCase):
    """`state_directory`."""

    def test_order(self) -> None:
        """Configured, systemd's, XDG's, home."""
        environ = {"STATE_DIRECTORY": "/s", "XDG_STATE_HOME": "/x", "HOME": "/h"}
        self.assertEqual(Path("/c"), state_directory("/c", environ))
        self.assertEqual(Path("/s"), state_directory("", environ))
        del environ["STATE_DIRECTORY"]
        self.assertEqual(Path("/x/proxyd"), state_directory("", environ))
        del environ["XDG_STATE_HOME"]
        self.assertEqual(Path("/h/.local/state/proxyd"), state_directory("", environ))
