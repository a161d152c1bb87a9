"""Where people arrive."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.landing import landing_path


class LandingTests(SynchronousTestCase):
    """JUPYTERHUB_DEFAULT_URL below the prefix."""

    def test_it_is_a_path_below_the_prefix(self) -> None:
        """Whether it has the prefix or not; query and escapes stay."""
        for given, path in (
            ("/lab", "/user/a/lab"),
            ("/proxy/8080", "/user/a/proxy/8080"),
            ("/user/a/lab", "/user/a/lab"),
            ("/x%20y?a=1&b=%2F#c", "/user/a/x%20y?a=1&b=%2F#c"),
            ("/é", "/user/a/%C3%A9"),
        ):
            self.assertEqual(path, landing_path("/user/a/", given))
        self.assertEqual("/lab", landing_path("/", "/lab"))

    def test_nothing_leads_elsewhere(self) -> None:
        """To other hosts, to where one is already, or into a header."""
        for given in ("", "/user/a/", "lab", "//evil", "/\\evil", "https://evil", "/a\r\nX: y", "/a b", "/a\\b"):
            self.assertEqual("", landing_path("/user/a/", given), given)
        self.assertEqual("", landing_path("/", "/"))
