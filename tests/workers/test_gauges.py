"""Tests of the gauges of `proxyd.workers.datapath`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor  # noqa: TID251  # the data path hangs on a real one
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from zope.interface import implementer

from proxyd.builtins import KINDS
from proxyd.core.table import RouteTable
from proxyd.interfaces import IStreamingResource
from proxyd.listeners.http import HttpConfig
from proxyd.metrics.meters import Gauges, Meters
from proxyd.model.settings import Config
from proxyd.option import FilePath
from proxyd.testing.contracts import make_route
from proxyd.testing.transports import MemoryTransport
from proxyd.websocket.tunnel import Tunnel
from proxyd.workers.datapath import DataPath


@implementer(IStreamingResource)
class Slow(Resource):
    """Answers when the whole body has come."""

    def render_streaming(self, request: Any) -> None:
        request.read_body(100).addCallback(lambda _: request.answer(200, []))


class GaugesTests(SynchronousTestCase):
    """How things are."""

    def setUp(self) -> None:
        meters = self.meters = Meters()
        table = RouteTable()
        table.set_static([make_route("/a"), make_route("/b")], 0.0)
        self.data_path = DataPath(Config(), KINDS, table, reactor, meters=meters)
        self.addCleanup(self.data_path.close)

    def test_only_clients_count(self) -> None:
        """What the listeners of the API and of the metrics have is not traffic."""
        for site in (self.data_path.make_site(), self.data_path.make_site(logs_access=False)):
            transport = MemoryTransport(Clock())
            transport.connect(site.buildProtocol(None))
            tunnel = Tunnel(self.data_path.deadlines, lambda: None, lambda _: None)
            tunnel.to_client, tunnel.to_upstream = 5, 3
            site.tunnel_began(tunnel)
        self.assertEqual(
            Gauges(routes=2, connections=2, tunnels=1, idle_upstream_connections=0, received=3, sent=5),
            self.data_path.gauges(),
        )

    def test_an_exchange_counts_while_it_lasts(self) -> None:
        """The bytes that a request has brought so far, and no more once they are counted."""
        self.data_path.tree.mount(["slow"], Slow())
        transport = MemoryTransport(Clock())
        transport.connect(self.data_path.make_site().buildProtocol(None))
        transport.send(b"POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1234")
        self.assertEqual(4, self.data_path.gauges().received)
        transport.send(b"56")
        self.assertEqual((6, 0), (self.data_path.gauges().received, self.meters.received))
        transport.send(b"789")
        self.assertEqual((0, 9), (self.data_path.gauges().received, self.meters.received))


class ClosingTests(SynchronousTestCase):
    """The end."""

    def test_sockets_do_not_stay_on_disk(self) -> None:
        """Whoever closes at once, without `stop_listening`, leaves no socket behind either, and no timer."""
        path = Path(tempfile.mkdtemp(prefix="proxyd-")) / "s"
        self.addCleanup(shutil.rmtree, path.parent)
        config = Config(listeners=(HttpConfig(socket=FilePath(str(path))),))
        data_path = DataPath(config, KINDS, RouteTable(), reactor)
        data_path.open()
        self.assertTrue(path.exists())
        data_path.close()
        self.assertFalse(path.exists())
