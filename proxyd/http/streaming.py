"""What the resources of our own channel have in common."""

from __future__ import annotations

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from proxyd.http.request import Request
from proxyd.interfaces import IStreamingResource


@implementer(IStreamingResource)
class StreamingResource(Resource):
    """A leaf that serves requests whose body is still to come, and only those of `proxyd.http.site.Site`."""

    isLeaf = True
    decides_activity = False
    """Whether it knows itself what counts as activity of who was let in; else all requests do."""

    def render_streaming(self, request: Request) -> None:
        """Serve a request whose head has come."""
        raise NotImplementedError

    def render(self, request: object) -> int:
        """Serve a request that was found by a stock walk; raises `TypeError` for one of a stock channel."""
        if not isinstance(request, Request):
            raise TypeError(f"a {type(self).__name__} serves requests of proxyd.http.site.Site only")
        self.render_streaming(request)
        return NOT_DONE_YET
