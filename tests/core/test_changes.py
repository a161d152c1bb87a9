"""Changes of a route table."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.changes import replacements
from proxyd.testing.contracts import make_route


class ReplacementsTests(SynchronousTestCase):
    """From one set of routes to another."""

    def test_what_goes_before_what_comes(self) -> None:
        """Routes that are not wanted go, new and different ones come, and those that are the same do not change."""
        before = {route.key: route for route in (make_route("/kept"), make_route("/gone"), make_route("/other"))}
        other, new = make_route("/other", "http://new"), make_route("/new")
        before["/same"] = make_route("/same")
        self.assertEqual(
            [("/gone", None), ("/other", other), ("/new", new)],
            list(replacements(before, [make_route("/kept"), before["/same"], other, new])),
        )

    def test_the_last_one_of_a_key_counts(self) -> None:
        """A key that comes twice is the route that came last."""
        last = make_route("/a", "http://last")
        self.assertEqual([("/a", last)], list(replacements({}, [make_route("/a"), last])))
