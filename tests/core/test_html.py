"""Pages of our own."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.html import Page


def source(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


class PageTests(SynchronousTestCase):
    """A page and its fields."""

    def policy(self, page: Page) -> str:
        lines = [line for line in page.fields if line.startswith(b"Content-Security-Policy: ")]
        self.assertEqual(1, len(lines))
        return lines[0].decode()

    def test_titles_are_text(self) -> None:
        """Whatever they say."""
        body = Page(title="<script>&", content="<p>x</p>").body.decode()
        self.assertIn("<title>&lt;script&gt;&amp;</title>", body)
        self.assertIn("<main>\n<p>x</p>\n</main>", body)
        self.assertNotIn("<script>", body)

    def test_the_policy_lets_in_what_the_page_has(self) -> None:
        """By its hash: its style, its script, and what that may ask; nothing else."""
        page = Page(title="x", content="", style="p { color: red }", script="go()", connects=True, alarm=True)
        body = page.body.decode()
        policy = self.policy(page)
        (style,) = re.findall("<style>(.*?)</style>", body, re.DOTALL)
        (script,) = re.findall("<script>(.*?)</script>", body, re.DOTALL)
        self.assertIn("p { color: red }", style)
        for word in ("default-src 'none'", f"style-src {source(style)}", f"script-src {source(script)}"):
            self.assertIn(word, policy)
        self.assertIn("connect-src 'self'", policy)
        self.assertIn('<main class="alarm">', body)
        plain = self.policy(Page(title="x", content=""))
        self.assertTrue("script-src" not in plain and "connect-src" not in plain, plain)

    def test_the_icon_is_in_the_page(self) -> None:
        """A browser asks nobody for one; the policy lets it in, and no other images unless they come from here."""
        for connects, source in ((False, "img-src data:;"), (True, "img-src 'self' data:;")):
            page = Page(title="x", content="", connects=connects)
            self.assertEqual(1, page.body.count(b'<link rel="icon" href="data:image/svg+xml,'))
            self.assertIn(source, self.policy(page))

    def test_pages_are_not_kept_and_not_guessed_at(self) -> None:
        """By the fields that every one of them is sent with."""
        fields = Page(title="x", content="").fields
        for field in (b"Cache-Control: no-store", b"X-Content-Type-Options: nosniff"):
            self.assertIn(field, fields)
