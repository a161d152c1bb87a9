"""Which idle connections are kept, and which one is used next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.pool import IdleConnections


class PoolTests(SynchronousTestCase):
    """Idle connections; here they are letters."""

    def test_last_in_is_first_out(self) -> None:
        """The connection that became idle last is the next one, and then it is no longer idle."""
        pool: IdleConnections[str] = IdleConnections(8)
        for connection in "abc":
            pool.put(connection)
        self.assertEqual([pool.take(), pool.take()], ["c", "b"])
        pool.put("d")
        self.assertEqual([pool.take(), pool.take(), pool.take()], ["d", "a", None])

    def test_surplus_is_kept_and_told(self) -> None:
        """Beyond the limit a connection is kept too, and `put` says that it is one too many."""
        pool: IdleConnections[str] = IdleConnections(2)
        self.assertEqual([pool.put(connection) for connection in "abcd"], [False, False, True, True])
        self.assertEqual(len(pool), 4)
        self.assertEqual([pool.take(), pool.take(), pool.take()], ["d", "c", "b"])
        self.assertEqual([pool.put("b"), pool.put("c")], [False, True])

    def test_nothing_is_kept_for_long_without_a_limit(self) -> None:
        """A limit of 0 makes every connection one too many."""
        pool: IdleConnections[str] = IdleConnections(0)
        self.assertTrue(pool.put("a"))
        self.assertEqual(pool.take(), "a")

    def test_discarded_connections_do_not_come_back(self) -> None:
        """A connection that ended while idle is forgotten; one that is not idle may be discarded as well."""
        pool: IdleConnections[str] = IdleConnections(8)
        for connection in "abc":
            pool.put(connection)
        for connection in "cax":
            pool.discard(connection)
        self.assertEqual([pool.take(), pool.take()], ["b", None])

    def test_clearing_gives_everything_back(self) -> None:
        """The owner gets all of them, to close them, and none is left."""
        pool: IdleConnections[str] = IdleConnections(1)
        for connection in "abc":
            pool.put(connection)
        self.assertEqual(pool.clear(), ["a", "b", "c"])
        self.assertEqual((len(pool), pool.take(), pool.clear()), (0, None, []))

    @given(st.lists(st.tuples(st.sampled_from(["put", "take", "discard", "clear"]), st.integers(0, 5)), max_size=30))
    def test_pool_is_a_stack(self, steps: list[tuple[str, int]]) -> None:
        """After any steps the pool holds what a list would hold."""
        pool: IdleConnections[int] = IdleConnections(3)
        stack: list[int] = []
        for step, connection in steps:
            if step == "put" and connection not in stack:
                stack.append(connection)
                self.assertEqual(pool.put(connection), len(stack) > 3, repr(steps))
            elif step == "take":
                self.assertEqual(pool.take(), stack.pop() if stack else None, repr(steps))
            elif step == "discard":
                pool.discard(connection)
                stack = [other for other in stack if other != connection]
            elif step == "clear":
                self.assertEqual(pool.clear(), stack, repr(steps))
                stack = []
            self.assertEqual(len(pool), len(stack), repr(steps))
