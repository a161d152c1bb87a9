"""Tests of `proxyd.core.visitors`."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.visitors import Access, Visitor

ALICE = {
    "name": "alice",
    "groups": ["team"],
    "kind": "user",
    "admin": False,
    "user_info": None,
    "scopes": ["access:servers!server=alice/", "read:users:name!user=alice"],
}


def visitor(**changes: object) -> Visitor:
    """Alice, but for some members."""
    return Visitor.read(json.dumps({**ALICE, **changes}).encode())


class VisitorTests(SynchronousTestCase):
    """What the Hub says of somebody."""

    def test_models(self) -> None:
        """Those of users and services."""
        alice = visitor()
        self.assertEqual((alice.name, alice.kind, alice.groups), ("alice", "user", {"team"}))
        self.assertIn("access:servers!server=alice/", alice.scopes)
        service = Visitor.read(b'{"kind": "service", "name": "cull", "admin": true, "scopes": ["users"]}')
        self.assertEqual((service.kind, service.groups, service.scopes), ("service", frozenset(), {"users"}))
        bare = Visitor.read(b'{"name": "x"}')
        self.assertEqual((bare.kind, bare.scopes), ("user", frozenset()))

    def test_what_an_application_is_told(self) -> None:
        """Exactly four members, in this order, in ASCII; what is missing is null."""
        self.assertEqual(visitor().info, b'{"kind": "user", "name": "alice", "admin": false, "groups": ["team"]}')
        self.assertEqual(
            Visitor.read('{"kind": "service", "name": "jos\u00e9"}'.encode()).info,
            b'{"kind": "service", "name": "jos\\u00e9", "admin": null, "groups": null}',
        )

    def test_nonsense(self) -> None:
        """Is nobody."""
        for text in (b"", b"[]", b"null", b"{}", b'{"name": ""}', b'{"name": 1}', b"\xff", b'{"kind": "user"}'):
            self.assertRaises(ValueError, Visitor.read, text)
        odd = visitor(scopes={"a": 1}, groups="team")
        self.assertEqual((odd.scopes, odd.groups), (frozenset(), frozenset()))
        self.assertEqual(visitor(scopes=[1, "a"]).scopes, {"a"})


class AccessTests(SynchronousTestCase):
    """Whom a server is for."""

    def test_scopes_count_if_there_are_any(self) -> None:
        """And users and groups do not, then."""
        access = Access(scopes=("access:servers!server=alice/",), user="bob", group="team")
        self.assertTrue(access.admits(visitor()))
        self.assertFalse(access.admits(visitor(scopes=[])))
        self.assertFalse(access.admits(visitor(name="bob", scopes=["access:servers!user=bob"])))

    def test_users_and_groups(self) -> None:
        """As before JupyterHub 2; a service is no user of its name."""
        self.assertTrue(Access(user="alice").admits(visitor()))
        self.assertFalse(Access(user="bob").admits(visitor()))
        self.assertFalse(Access(user="alice").admits(visitor(kind="service")))
        self.assertTrue(Access(group="team").admits(visitor(name="bob")))
        self.assertFalse(Access(group="other").admits(visitor()))

    def test_anyone(self) -> None:
        """Whoever the Hub knows."""
        self.assertTrue(Access(scopes=("x",), anyone=True).admits(visitor(scopes=[])))

    def test_nobody(self) -> None:
        """Nothing admits nobody, and can be told from something."""
        self.assertFalse(Access())
        self.assertFalse(Access().admits(visitor(groups=[""])))
        for access in (Access(scopes=("x",)), Access(user="x"), Access(group="x"), Access(anyone=True)):
            self.assertTrue(access)
