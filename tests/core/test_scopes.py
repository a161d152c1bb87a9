"""Scopes of JupyterHub."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.scopes import admits

OWN = ["access:servers!server=alice/", "access:servers!user=alice"]


class ScopeTests(SynchronousTestCase):
    """One of the required ones is enough."""

    def test_what_admits(self) -> None:
        """For the default server of alice, as the Hub's own checker has it."""
        for held, expected in (
            ("access:servers", True),
            ("access:servers!user=alice", True),
            ("access:servers!server=alice/", True),
            ("access:servers!server=alice/second", False),
            ("access:servers!server=alice", False),
            ("access:servers!user=bob", False),
            ("access:servers!group=team", False),
            ("access:services", False),
            ("users", False),
            ("", False),
        ):
            self.assertEqual(expected, admits(OWN, [held]), held)
        self.assertFalse(admits(OWN, []))
        self.assertTrue(admits(OWN, ["users", "access:servers!user=alice"]))

    def test_a_user_covers_the_users_servers(self) -> None:
        """Even if nothing but the server is required; it is the owner that counts, not the beginning of the name."""
        for required, held, expected in (
            ("access:servers!server=alice/second", "access:servers!user=alice", True),
            ("access:servers!server=alice2/", "access:servers!user=alice", False),
            ("access:servers!server=alice", "access:servers!user=alice", False),
            ("access:services!service=app", "access:services", True),
            ("access:services!service=app", "access:services!service=app", True),
            ("access:services!service=app", "access:services!service=other", False),
            ("access:services!service=app/", "access:services!user=app", False),
        ):
            self.assertEqual(expected, admits([required], [held]), (required, held))

    def test_no_filter_wants_no_filter(self) -> None:
        """What is required of everybody is not covered by what is for one."""
        self.assertTrue(admits(["access:servers"], ["access:servers"]))
        self.assertFalse(admits(["access:servers"], ["access:servers!user=alice"]))
        self.assertFalse(admits([], ["access:servers"]))
