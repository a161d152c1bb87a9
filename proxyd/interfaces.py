"""The seams: where code of ours meets code that does not know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.web.resource import IResource
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from twisted.internet.defer import Deferred

    from proxyd.core.changes import Change
    from proxyd.core.forward import Peer
    from proxyd.core.head import RequestHead
    from proxyd.model.auth import Answer, Verdict
    from proxyd.model.routes import Route
    from proxyd.model.servers import ServerSpec, ServerStatus
    from proxyd.option import ServerName


class IStreamingResource(IResource):
    """A resource that takes a request at the end of its head, while its body is still to come."""

    def render_streaming(request: Any) -> None:  # noqa: N805  # zope interfaces have no self
        """Serve a `proxyd.http.request.Request`; whatever happens later is up to the resource."""


class IListener(Interface):
    """A socket that takes traffic."""

    where = Attribute("The URL or path of the socket, for people.")
    purpose = Attribute("What is there for a client, as a word in front of `where`.")

    def inherit(sockets: Any) -> None:  # noqa: N805  # zope interfaces have no self
        """Take what was opened for it before the start out of `proxyd.system.activation.InheritedSockets`.

        Comes before `open`, which then listens on that.
        """

    def adopt(sockets: Any) -> None:  # noqa: N805
        """Listen on these sockets, which other processes listen on as well; comes before `open`."""

    def bind() -> None:
        """Listen in place of `open`, and leave the clients to other processes, which adopt the `sockets`.

        Raises `ListenError` and `TlsError`.
        """

    sockets = Attribute("The sockets that are listened on, while they are.")

    def open() -> None:
        """Listen, and take clients.

        Raises `ListenError` and `TlsError`.
        """

    def refresh() -> None:
        """Read again what was read from files and has changed; what cannot be used is logged, and changes nothing."""

    def certificates() -> list[tuple[str, float]]:
        """The names that are served over TLS, and when the certificate of each ends, in seconds since the epoch."""

    def prepare(config: Any) -> Callable[[], None]:  # noqa: N805
        """Read what other settings of the same place need; what is returned takes them, and does not fail.

        Nothing has changed before that is called. Works on any thread. Raises `TlsError`.
        """

    def close() -> Deferred[None]:
        """Take no new connections, and remove what lies on disk."""


class IAuthenticator(Interface):
    """Says who a client is, and whether it may go on.

    What raises or fails lets nobody through. A Deferred fires or fails within a bounded time; it is cancelled when
    the client is gone.
    """

    paths = Attribute("The raw paths of its own that `serve` answers, such as those of a login: a frozenset of bytes.")

    def authenticate(head: RequestHead, peer: Peer, route: Route) -> Verdict | Deferred[Verdict]:  # noqa: N805
        """Admit a request to `route`, a WebSocket handshake among them, or answer it in place of the route.

        Nothing of the request has reached anybody yet, and its body may still be to come.
        """

    def serve(
        head: RequestHead,  # noqa: N805
        peer: Peer,
        path: bytes,
        query: bytes,
        body: bytes,
    ) -> Answer | Deferred[Answer]:
        """Answer a request for one of `paths`; `query` has its `?`."""


class IRouteStore(Interface):
    """The truth about the routes of the API.

    What cannot be done fails with `StoreError`, soon enough for a client that waits for it; nothing has changed then.
    What took too long may still be done after it has failed: the watchers are told of it when it is.
    """

    def open() -> Deferred[None]:
        """Get ready; fires once every watcher has been told of the routes that are there."""

    def close() -> None:
        """End what goes on by itself."""

    def snapshot() -> Deferred[tuple[int, list[Route]]]:
        """All routes as they were at the revision that comes with them."""

    def watch(revision: int, changed: Callable[[Change], None]) -> Callable[[], None]:  # noqa: N805
        """Call `changed` for every change after `revision`, in order; what is returned stops that."""

    def put(route: Route) -> Deferred[Change]:  # noqa: N805
        """Create or replace a route; fires once every watcher has been told."""

    def delete(key: str) -> Deferred[Change | None]:  # noqa: N805
        """Delete a route; fires once every watcher has been told, with None if there was none."""

    def replace(routes: Iterable[Route]) -> Deferred[list[Change]]:  # noqa: N805
        """Have exactly these routes, all at once or not at all.

        Fires with the changes that it took, once every watcher has been told of all of them; very many take some turns
        of the reactor, and who wants to have them at one moment holds them back (`TableFeed`). A route that stays as it
        is does not change.
        """


class ILease(Interface):
    """The right to use a managed server that is ready: it is not stopped for idleness until `release`."""

    upstream = Attribute("The `Upstream` to connect to.")
    place = Attribute("The `Place`: the port and socket of templates and rewriters.")
    spec = Attribute("The `ServerSpec` of what runs there; a reload may have brought another one for the next lease.")
    instance = Attribute("Which of the `instances` it is, from 0.")

    def touch() -> None:
        """Something happened that counts as activity."""

    def release() -> None:
        """The exchange or tunnel has ended; a second call does nothing."""


class IServerSupervisor(Interface):
    """Starts managed servers when they are needed, keeps them going, and stops them.

    Every method that names a server raises or fails with `UnknownServerError` if there is none of that name.
    """

    def lease(name: str, instance: int | None = None, *, counts: bool = True) -> Deferred[ILease]:  # noqa: N805
        """A lease of the server, as soon as it is ready.

        Without `instance`, the one with the fewest leases. `counts` tells whether the beginning and the end of the
        lease are activity. One start is shared by all who wait, and they fail together, with `ServerStartError`.
        Cancel the Deferred when the client leaves; the start goes on.
        """

    def specs() -> Mapping[str, ServerSpec]:
        """What the servers are, by their names."""

    def status(name: str) -> tuple[ServerStatus, ...]:  # noqa: N805
        """How the instances of a server are."""

    def start(name: str) -> Deferred[None]:  # noqa: N805
        """Start all instances that do not run; fires once they are ready, fails with `ServerStartError`."""

    def stop(name: str) -> Deferred[None]:  # noqa: N805
        """End all instances, whatever they do; fires once they are gone. The next lease starts the server again."""

    def restart(name: str) -> Deferred[None]:  # noqa: N805
        """Stop and start; fires and fails as `start` does."""

    def subscribe(name: str, printed: Callable[[int, str], None]) -> Callable[[], None]:  # noqa: N805
        """Call `printed` with the instance and each line that the server prints; what is returned stops that."""

    def watch(changed: Callable[[str], None]) -> Callable[[], None]:  # noqa: N805
        """Call `changed` with the name of each server that gets into another state; what is returned stops that.

        It must not ask for anything but states then.
        """

    def lines(name: str, count: int) -> tuple[tuple[str, ...], ...]:  # noqa: N805
        """The last lines that each instance of a server has printed, the oldest first."""

    def replace(specs: Mapping[ServerName, ServerSpec], base_url: str | None = None) -> None:  # noqa: N805
        """From now on these are the servers, and `base_url`, if it is given, is what templates put in.

        One that is not among them any more takes no new leases and is stopped when its last lease ends; one that has
        changed is stopped then, too, and what comes after that is the new one.
        """

    def shutdown(number: int = 15) -> Deferred[None]:  # noqa: N805
        """Stop everything; fires once nothing is left. `number` is the signal that ended proxyd."""
