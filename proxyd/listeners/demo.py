"""Kind `demo`: a small application behind a port of its own, for a first look at a route that leads somewhere."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import LoopingCall
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from proxyd.core.activity import timestamp
from proxyd.kinds import Kind
from proxyd.listeners.http import HttpConfig, HttpListener
from proxyd.model.settings import ListenerConfig
from proxyd.option import Port, option

if TYPE_CHECKING:
    from twisted.python.failure import Failure
    from twisted.web.server import Request

    from proxyd.listeners.http import SiteMaker
    from proxyd.net.reactor import DataPathReactor


@attrs.frozen(kw_only=True)
class DemoConfig(ListenerConfig):
    """A page that shows what of a request arrives behind the proxy, and a clock that ticks through it."""

    address: str = option("127.0.0.1", help="Address to listen on.")
    port: Port = option(Port(8010), help="Port to listen on.")


def build(config: DemoConfig, make_site: SiteMaker, reactor: DataPathReactor) -> HttpListener:
    """A listener that serves the demonstration."""

    def make_demo_site() -> Any:
        return make_site(DemoPage(reactor), logs_access=False)

    return HttpListener(
        HttpConfig(address=config.address, port=config.port), make_demo_site, reactor, "Demonstration at"
    )


class DemoPage(Resource):
    """The page, and below it `events`, the clock."""

    def __init__(self, clock: Any) -> None:
        super().__init__()
        self.putChild(b"", self)
        self.putChild(b"events", Clock(clock))

    def render_GET(self, request: Request) -> bytes:
        """Show the request as it arrived."""
        fields = "".join(
            f"<tr><th>{escape(name.decode('latin-1'))}</th><td>{escape(value.decode('latin-1'))}</td></tr>"
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
            if name.lower() not in {b"cookie", b"authorization"}
        )
        line = f"{request.method.decode()} {request.uri.decode('latin-1')}"
        request.setHeader(b"Content-Type", b"text/html; charset=utf-8")
        return _PAGE.replace("{line}", escape(line)).replace("{fields}", fields).encode()


class Clock(Resource):
    """Server-Sent Events: the time, once a second, for as long as somebody listens."""

    isLeaf = True

    def __init__(self, clock: Any) -> None:
        super().__init__()
        self._clock = clock

    def render_GET(self, request: Request) -> int:
        """Begin to tick."""
        request.setHeader(b"Content-Type", b"text/event-stream")
        request.setHeader(b"Cache-Control", b"no-store")
        ticks = LoopingCall(lambda: request.write(f"data: {timestamp(self._clock.wall_clock())}\n\n".encode()))
        ticks.clock = self._clock
        ticks.start(1.0)

        def stop(reason: Failure) -> None:
            ticks.stop()
            reason.trap(ConnectionDone, ConnectionLost)

        request.notifyFinish().addErrback(stop)
        return NOT_DONE_YET


KIND = Kind(ListenerConfig, "demo", DemoConfig, build)

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>proxyd works</title>
<style>
:root { color-scheme: light dark; --ink: #1d2733; --dim: #5b6876; --paper: #f6f7f9; --card: #fff; --line: #dfe4ea;
  --mark: #0f766e }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8edf2; --dim: #9aa7b4; --paper: #12171d; --card: #1a2129; --line: #2b3540; --mark: #2dd4bf }
}
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.6 system-ui, sans-serif }
main { width: 100%; max-width: 46rem; padding: 2rem; background: var(--card); border: 1px solid var(--line);
  border-top: 4px solid var(--mark); border-radius: .5rem }
h1 { margin: 0 0 .5rem; font-size: 1.5rem }
h2 { margin: 1.75rem 0 .5rem; font-size: 1rem }
p { margin: 0 0 1rem; color: var(--dim) }
table { width: 100%; border-collapse: collapse; font: .875rem/1.5 ui-monospace, monospace }
th, td { padding: .3rem .5rem; border-top: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: anywhere }
th { width: 14rem; color: var(--dim); font-weight: normal }
output { font: 1.25rem ui-monospace, monospace; color: var(--mark) }
</style>
</head>
<body>
<main>
<h1>proxyd works</h1>
<p>This page is an application of its own. It came to you through a route of proxyd.</p>
<h2>A clock behind the proxy, event by event</h2>
<output id="clock">waiting for the first tick</output>
<h2>What of your request arrived here</h2>
<table><tr><th>request line</th><td>{line}</td></tr>{fields}</table>
</main>
<script>
const base = location.pathname.endsWith("/") ? "" : location.pathname.split("/").pop() + "/";
new EventSource(base + "events").onmessage = (event) => { document.getElementById("clock").textContent = event.data };
</script>
</body>
</html>
"""
