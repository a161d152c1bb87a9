"""Resources in front of others: nothing gets behind them before an authenticator, or a rate, has said yes."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred

from proxyd.core.admission import admitted_fields, admitted_query
from proxyd.core.counting import CountsOneCall
from proxyd.errors import RequestError, too_many
from proxyd.http.holding import answer_failure, hold
from proxyd.http.streaming import StreamingResource
from proxyd.model.auth import ANYBODY, Admit, Answer, Verdict

if TYPE_CHECKING:
    from proxyd.http.request import Request
    from proxyd.model.routes import Route

# A form with a token, or what a login elsewhere sends back.
_MAX_BODY = 64 * 1024


class GuardedResource(StreamingResource):
    """Serves by `inner` what `authenticator` admits to `route`, and answers the rest itself.

    The paths of the authenticator's own are served here as well, if they are at the route.
    """

    def __init__(self, inner: StreamingResource, authenticator: Any, route: Route) -> None:
        super().__init__()
        self.inner = inner
        self._authenticate = authenticator.authenticate
        self._paths = authenticator.paths
        self._own = OwnPathsResource(authenticator)
        self._route = route

    def render_streaming(self, request: Request) -> None:
        """Ask the authenticator, and do what it says."""
        if request.path in self._paths:
            self._own.render_streaming(request)
            return
        verdict = self._authenticate(request.head, request.peer, self._route)
        if isinstance(verdict, Deferred):
            hold(request, verdict, self._obey_late)
        else:
            self._obey(request, verdict)

    def _obey_late(self, request: Request, verdict: Verdict) -> None:
        if not request.is_lost:
            self._obey(request, verdict)

    def _obey(self, request: Request, verdict: Verdict) -> None:
        if isinstance(verdict, Admit):
            if verdict is not ANYBODY:
                request.admission = verdict
                head = request.head
                head.fields = admitted_fields(head.fields, verdict)
                request.query = admitted_query(request.query, verdict)
                if verdict.touch is not None:
                    if self.inner.decides_activity:
                        request.admission = attrs.evolve(verdict, touch=None)
                        request.visitor_touch = verdict.touch
                    else:
                        verdict.touch()
            self.inner.render_streaming(request)
        else:
            give(request, verdict)


class OwnPathsResource(StreamingResource):
    """Serves the paths of `authenticator`'s own: its login, its callback."""

    def __init__(self, authenticator: Any) -> None:
        super().__init__()
        self._authenticator = authenticator

    def render_streaming(self, request: Request) -> None:
        """Answer a request whose head has come."""
        if request.path not in self._authenticator.paths:
            raise RequestError(404, "an authenticator has no such path")
        answer_failure(request, Deferred.fromCoroutine(self._serve(request)))

    async def _serve(self, request: Request) -> None:
        body = await request.read_body(_MAX_BODY)
        answer: Answer | Awaitable[Answer] = self._authenticator.serve(
            request.head, request.peer, request.path, request.query, body
        )
        give(request, answer if isinstance(answer, Answer) else await answer)


class RatedResource(StreamingResource):
    """Serves by `inner` as many requests as `bucket` lets through."""

    def __init__(self, inner: StreamingResource, bucket: CountsOneCall) -> None:
        super().__init__()
        self.inner = inner
        self._bucket = bucket

    def render_streaming(self, request: Request) -> None:
        """Pass a request on, or answer 429."""
        wait = self._bucket.take(request.channel.site.seconds())
        if wait:
            raise too_many(wait, "more requests than the rate of the route")
        self.inner.render_streaming(request)


def give(request: Request, answer: Answer) -> None:
    """Send the answer of an authenticator."""
    request.kind = "auth"
    if answer.body is None:
        request.fail(RequestError(answer.status, answer.detail, answer.fields))
    else:
        request.answer(answer.status, list(answer.fields), answer.body)
