"""Tests of `proxyd.auth.environment`."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.auth.environment import AuthEnvironment, read_or_make_key


def environment(scope: str = "/", name: str = "") -> AuthEnvironment:
    """One in which nothing happens."""
    return AuthEnvironment(
        seconds=lambda: 0.0,
        wall_clock=lambda: 0.0,
        trusts=lambda _: False,
        cookie_key=lambda: b"",
        scope=scope,
        name=name,
    )


class KeyTests(SynchronousTestCase):
    """The secret of all cookies."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "state" / "cookie-key"

    def test_it_is_made_once(self) -> None:
        """For its owner's eyes only, random, and the same after a restart."""
        key = read_or_make_key(self.path)
        self.assertEqual(len(key), 32)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(read_or_make_key(self.path), key)
        self.assertEqual(os.listdir(self.path.parent), ["cookie-key"])
        self.assertNotEqual(read_or_make_key(self.path.with_name("other")), key)

    def test_of_two_processes_one_makes_it(self) -> None:
        """The other one takes what is there by then."""
        self.path.parent.mkdir(parents=True)
        link = os.link

        def too_late(fresh: Path, path: Path) -> None:
            self.patch(os, "link", link)
            self.key = read_or_make_key(path)
            link(fresh, path)

        self.patch(os, "link", too_late)
        self.assertEqual(read_or_make_key(self.path), self.key)
        self.assertEqual(os.listdir(self.path.parent), ["cookie-key"])

    def test_what_is_no_key_is_refused(self) -> None:
        """Nothing is guessed, and nothing overwritten."""
        self.path.parent.mkdir(parents=True)
        for text in ("", "abc", "00" * 31, "zz" * 32):
            self.path.write_text(text)
            self.path.chmod(0o600)
            error = self.assertRaises(OSError, read_or_make_key, self.path)
            self.assertIn("holds no key", str(error))
            self.assertEqual(self.path.read_text(), text)

    def test_a_place_that_cannot_be_used(self) -> None:
        """Is told, with the option that names another one."""
        self.path.parent.parent.mkdir(exist_ok=True)
        self.path.parent.write_text("no directory")
        error = self.assertRaises(OSError, read_or_make_key, self.path)
        self.assertEqual(
            f"the key of logins cannot be kept in {self.path}: Not a directory (`state_directory`)", str(error)
        )

    def test_a_key_that_others_can_read_is_refused(self) -> None:
        """They could make logins of their own."""
        read_or_make_key(self.path)
        for mode in (0o640, 0o604, 0o660):
            self.path.chmod(mode)
            self.assertRaises(PermissionError, read_or_make_key, self.path)


class PlaceTests(SynchronousTestCase):
    """Where an authenticator is."""

    def test_own_paths_are_below_the_scope(self) -> None:
        """Under a name that no route has."""
        self.assertEqual(environment().own_path, "/.proxyd/")
        self.assertEqual(environment("/base/").own_path, "/base/.proxyd/")
        self.assertEqual(environment("/app").own_path, "/app/.proxyd/")

    def test_each_has_a_cookie_of_its_own(self) -> None:
        """Two logins at one path do not end each other."""
        names = [environment(name=name).cookie_name for name in ("", "/a", "/b", "h/a")]
        self.assertEqual(len(set(names)), 4)
        for name in names:
            self.assertRegex(name, rb"\Aproxyd-login(-[0-9a-f]{12})?\Z")
