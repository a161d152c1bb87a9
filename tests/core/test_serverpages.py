"""Pages about managed servers."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import get_args

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.launcher import Card
from proxyd.core.serverpages import failed_page, preparing_page, start_page, unprepared_page, waiting_page
from proxyd.model.servers import ServerState

EVIL = "<b onclick='x()'>&\"</b>"


class ServerPageTests(SynchronousTestCase):
    """One that starts, one that failed, and all of them."""

    def test_names_and_lines_are_text(self) -> None:
        """Whatever a server prints, and whatever it is called."""
        for page in (
            waiting_page(EVIL, 1.25, 60, EVIL, [EVIL]),
            failed_page(EVIL, EVIL, [EVIL], EVIL),
            preparing_page(EVIL, [EVIL]),
            unprepared_page(EVIL, [EVIL]),
            start_page(
                [Card(title=EVIL, url=EVIL, category=EVIL, detail=EVIL, icon=EVIL, name=EVIL)],
                base_url=EVIL,
                has_ports=True,
            ),
        ):
            body = page.body.decode()
            self.assertNotIn("<b ", body)
            self.assertIn("&lt;b onclick=&#x27;x()&#x27;&gt;&amp;&quot;&lt;/b&gt;", body)

    def test_what_comes_before_a_start(self) -> None:
        """The page asks again, or says why that is in vain; with what was said, for those who may read it."""
        for page, refreshes in (
            (preparing_page("Pulling", ["one"]), True),
            (unprepared_page("git failed", ["one"]), False),
        ):
            body = page.body.decode()
            self.assertEqual(refreshes, 'http-equiv="refresh"' in body)
            self.assertIn("<pre>one\n</pre>", body)
        for page in (preparing_page("Pulling", None), unprepared_page("git failed", None)):
            self.assertNotIn("<pre>", page.body.decode())

    def test_who_waits_sees_the_log(self) -> None:
        """And for how long; without scripts the page comes again by itself."""
        body = waiting_page("app", 12.34, 300, "/b/server-proxy/events/app", ["one", "two"]).body.decode()
        for words in (
            '<span id="clock">12 seconds</span> ago',
            "for which it has 5 minutes.",
            'data-seconds="12.3"',
            'data-events="/b/server-proxy/events/app"',
            ">one\ntwo\n</pre>",
            '<noscript><meta http-equiv="refresh"',
        ):
            self.assertIn(words, body)
        self.assertIn(">1 second</span>", waiting_page("app", 1.9, 60, "/e", []).body.decode())

    def test_who_may_not_read_the_log_has_none(self) -> None:
        """But the time, and what becomes of it."""
        body = waiting_page("app", 0, 60, "/e", None).body.decode()
        self.assertNotIn("<pre", body)
        self.assertIn('data-events="/e"', body)
        self.assertIn("<script>", body)

    def test_a_failure_tells_what_the_reader_may_know(self) -> None:
        """Its reason; and the last lines, unless they are not for the reader, or there are none."""
        body = failed_page("app", "ended with exit status 3", ["boom"], "abc").body.decode()
        self.assertIn("app ended with exit status 3.", body)
        self.assertIn("boom\n</pre>", body)
        self.assertIn('<main class="alarm">', body)
        self.assertNotIn("<pre", failed_page("app", "x", None, "abc").body.decode())
        self.assertIn("The log of the proxy tells why", failed_page("app", "x", None, "abc").body.decode())
        self.assertNotIn("<p>app", failed_page("app", "did not start", None, "abc").body.decode())
        self.assertIn("It has printed nothing", failed_page("app", "x", [], "abc").body.decode())

    def test_cards_stand_in_their_categories(self) -> None:
        """In order, each with what it leads to; those with a state change with it."""
        cards = [
            Card(title="zeta", url="/z/", category="B", name="zeta", state="backing_off", new_tab=True),
            Card(title="alpha", url="/a/", category="A", detail="http://127.0.0.1:1"),
            Card(title="beta", url="/b/", category="A", icon="/icon"),
        ]
        body = start_page(cards, base_url="/", has_ports=False).body.decode()
        self.assertEqual(["A", "B"], re.findall("<h2>(.*?)</h2>", body))
        self.assertEqual(["/a/", "/b/", "/z/"], re.findall('<a href="(.*?)"', body))
        self.assertIn('href="/z/" target="_blank"', body)
        self.assertIn('data-server="zeta">starting again</small>', body)
        self.assertIn("<small>http://127.0.0.1:1</small>", body)
        self.assertIn('<img src="/icon" alt="">', body)
        self.assertNotIn("<form", body)
        self.assertIn("<script>", body)

    def test_every_state_has_a_word(self) -> None:
        """For the page as it comes, and for what changes in it."""
        body = start_page([], base_url="/b/", has_ports=False).body.decode()
        (words,) = re.findall('data-words="(.*?)"', body)
        self.assertEqual(set(get_args(ServerState)), set(json.loads(unescape(words))))
        self.assertIn('data-events="/b/server-proxy/events"', body)

    def test_an_empty_page_says_so(self) -> None:
        """And nothing runs in it; with ports there is a field for one."""
        body = start_page([], base_url="/", has_ports=False).body.decode()
        self.assertIn("Nothing is published here yet", body)
        self.assertNotIn("<script>", body)
        body = start_page([], base_url="/b/", has_ports=True).body.decode()
        self.assertIn('<form action="/b/server-proxy/port" method="get">', body)
