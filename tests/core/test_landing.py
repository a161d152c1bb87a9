"""Where people arrive."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.landing import landing_path, with_query


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
            ("lab", "/user/a/lab"),
            ("/lab/tree/Getting Started.ipynb", "/user/a/lab/tree/Getting%20Started.ipynb"),
        ):
            self.assertEqual(path, landing_path("/user/a/", given))
        self.assertEqual("/lab", landing_path("/", "/lab"))

    def test_nothing_leads_elsewhere(self) -> None:
        """To other hosts, to where one is already, or into a header."""
        for given in ("", "/user/a/", "//evil", "/\\evil", "https://evil", "/a\r\nX: y", "/a\tb", "/a\\b"):
            self.assertEqual("", landing_path("/user/a/", given), given)
        self.assertEqual("", landing_path("/", "/"))

    def test_nothing_leads_in_a_circle(self) -> None:
        """As a query or a fragment of the prefix itself would."""
        for given in ("/?a=1", "?a=1", "/#/home", "/user/a/?a=1#b"):
            self.assertEqual("", landing_path("/user/a/", given), given)

    def test_the_query_of_the_request_comes_along(self) -> None:
        """Behind that of the landing, and in front of its fragment."""
        for landing, query, expected in (
            (b"/lab", b"", b"/lab"),
            (b"/lab", b"?x=1", b"/lab?x=1"),
            (b"/lab?a=1#c", b"?x=1", b"/lab?a=1&x=1#c"),
            (b"/lab?a=1", b"", b"/lab?a=1"),
            (b"/lab#c", b"?x=1", b"/lab?x=1#c"),
        ):
            self.assertEqual(expected, with_query(landing, query))
