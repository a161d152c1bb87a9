"""What can be opened."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.launcher import route_cards, server_cards, servers_info
from proxyd.model.auth import AnonymousAuthConfig, AuthConfig
from proxyd.model.routes import Route, RouteOptions, place_of
from proxyd.model.servers import LauncherEntry, ServerSpec, ServerStatus
from proxyd.model.upstream import Upstream
from proxyd.option import FilePath, Port


def spec(*command: str, port: int = 0, **entry: Any) -> ServerSpec:
    return ServerSpec(command=command, port=Port(port), launcher_entry=LauncherEntry(**entry))


SPECS = {
    "plain": spec("run"),
    "grp/ä app": spec(port=9000, title="Group", category="Other", icon_path=FilePath("icon.svg")),
    "hidden": spec("run", enabled=False, icon_path=FilePath("x.png")),
    "elsewhere": ServerSpec(
        command=("run",), new_browser_tab=False, launcher_entry=LauncherEntry(path_info="x/index.html?a=1")
    ),
    "nowhere": spec(),
}


class InfoTests(SynchronousTestCase):
    """`server-proxy/servers-info`."""

    def test_exactly_these_keys(self) -> None:
        """All servers are listed, those included that lead nowhere; nothing tells of commands and ports."""
        listed = servers_info(SPECS, "/b/")["server_processes"]
        self.assertEqual(list(SPECS), [entry["name"] for entry in listed])
        self.assertEqual(
            {
                "name": "plain",
                "new_browser_tab": True,
                "launcher_entry": {
                    "enabled": True,
                    "title": "plain",
                    "path_info": "plain/",
                    "category": "Notebook",
                },
            },
            listed[0],
        )
        self.assertEqual(
            {
                "enabled": True,
                "title": "Group",
                "path_info": "grp/%C3%A4%20app/",
                "category": "Other",
                "icon_url": "/b/server-proxy/icon/grp/%C3%A4%20app",
            },
            listed[1]["launcher_entry"],
        )
        self.assertEqual("/b/server-proxy/icon/hidden", listed[2]["launcher_entry"]["icon_url"])
        self.assertEqual(
            (False, "x/index.html?a=1"), (listed[3]["new_browser_tab"], listed[3]["launcher_entry"]["path_info"])
        )


class CardTests(SynchronousTestCase):
    """Cards of the start page."""

    def test_who_has_a_card(self) -> None:
        """Whoever wants one and leads somewhere."""
        cards = server_cards(SPECS, {}, "/b/")
        self.assertEqual(["plain", "Group", "elsewhere"], [card.title for card in cards])
        self.assertEqual(["/b/plain/", "/b/grp/%C3%A4%20app/", "/b/x/index.html?a=1"], [card.url for card in cards])
        self.assertEqual([True, True, False], [card.new_tab for card in cards])
        self.assertEqual(["", "/b/server-proxy/icon/grp/%C3%A4%20app", ""], [card.icon for card in cards])

    def test_a_card_never_leads_to_another_host(self) -> None:
        """Some packages begin `path_info` with a slash."""
        for path_info in ("/lab/x", "//lab/x"):
            spec = ServerSpec(port=Port(1), launcher_entry=LauncherEntry(path_info=path_info))
            self.assertEqual(["/lab/x"], [card.url for card in server_cards({"a": spec}, {}, "/")])

    def test_the_state_is_that_of_the_best_instance(self) -> None:
        """What proxyd does not manage has none."""
        statuses = {
            "plain": [ServerStatus(server="plain", instance=n, state=s) for n, s in enumerate(("failed", "starting"))],
            "grp/ä app": [ServerStatus(server="grp/ä app", instance=0, state="stopped")],
        }
        cards = server_cards(SPECS, statuses, "/")
        self.assertEqual([("plain", "starting"), ("", ""), ("", "")], [(card.name, card.state) for card in cards])


def route(key: str, auth: AuthConfig | None = None, members: str = "") -> Route:
    host, segments = place_of(key)
    return Route(key, Upstream.parse("http://secret@up.test"), segments, host, RouteOptions(auth=auth), members)


class RouteCardTests(SynchronousTestCase):
    """Routes on the start page."""

    def test_only_what_everybody_can_open(self) -> None:
        """Below the page, for any host, without a login of its own, and nobody's own."""
        routes = [
            route("/b/x y/z", AnonymousAuthConfig()),
            route("/b/a"),
            route("/b"),
            route("/c"),
            route("h.test/b/d"),
            route("/b/e", AuthConfig()),
            route("/b/user/ann", members='{"jupyterhub": true}'),
        ]
        cards = route_cards(routes, ("b",))
        self.assertEqual([("a", "/b/a/"), ("x y/z", "/b/x%20y/z/")], [(card.title, card.url) for card in cards])
        self.assertNotIn("up.test", str(cards))
