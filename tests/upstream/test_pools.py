"""Tests of `proxyd.upstream.pools`."""

from __future__ import annotations

import gc

from proxyd.model.settings import Config, PoolSettings
from proxyd.model.upstream import Upstream
from tests.http.support import GET, OK, DataPathTestCase


class PoolTests(DataPathTestCase):
    """Idle connections, through exchanges."""

    config = Config(pool=PoolSettings(idle_per_upstream=2, idle_seconds=60))

    def test_a_surplus_is_kept_for_a_moment(self) -> None:
        """More than `idle_per_upstream` stay for a second, in case the burst comes again; the rest stays longer."""
        ends = []
        for _ in range(5):
            client = self.proxy.client()
            client.send(GET)
            ends.append(self.proxy.accept())
        for upstream in ends:
            upstream.send(OK)
        self.assertEqual(5, sum(upstream.connected for upstream in ends))
        self.proxy.advance(1.5)
        self.assertEqual(2, sum(upstream.connected for upstream in ends))
        self.proxy.advance(60)
        self.assertEqual(0, sum(upstream.connected for upstream in ends))

    def test_the_last_one_in_is_the_first_one_out(self) -> None:
        """A few connections do the work, so that the others age."""
        first, second = self.proxy.client(), self.proxy.client()
        first.send(GET)
        one = self.proxy.accept()
        second.send(GET)
        two = self.proxy.accept()
        one.send(OK)
        two.send(OK)
        for upstream in (one, two):
            upstream.pop()
        first.send(GET)
        self.assertEqual((b"", True), (one.pop(), two.pop().startswith(b"GET")))

    def test_one_pool_for_a_place(self) -> None:
        """The path of an upstream does not matter; scheme, host, port and socket do."""
        pools = self.proxy.pools
        one = pools.of(Upstream.parse("http://h:81/a"))
        self.assertIs(one, pools.of(Upstream.parse("http://H:81/b?c")))
        for url in ("http://h:82", "https://h:81", "http://i:81", "http+unix://%2Fh"):
            self.assertIsNot(one, pools.of(Upstream.parse(url)))

    def test_pools_of_nobody_vanish(self) -> None:
        """A pool that no route and no connection uses does not stay: users come and go."""
        pools = self.proxy.pools
        pools.of(Upstream.parse("http://gone.test"))
        gc.collect()
        self.assertEqual([], [pool for pool in pools._pools.values() if pool.upstream.host == "gone.test"])

    def test_close(self) -> None:
        """Idle connections are closed; those in use are not."""
        _, idle = self.begin()
        idle.send(OK)
        client = self.proxy.client()
        client.send(GET)
        other = self.proxy.client()
        other.send(GET)
        busy = self.proxy.accept()
        idle.send(OK)
        self.proxy.pools.close()
        self.proxy.advance()
        self.assertEqual((False, True), (idle.connected, busy.connected))
