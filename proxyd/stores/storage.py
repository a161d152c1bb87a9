"""Kind `class`: routes in a storage class of the user's own (contract of configurable-http-proxy, section 11).

The routes are held in memory as well, and requests are served from there whatever becomes of the storage. Everything
that is asked of it happens one by one, in order, and within a deadline.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import deepcopy
from datetime import datetime
from inspect import isawaitable
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, TimeoutError  # noqa: A004  # Twisted's own
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.core.activity import parse_timestamp, timestamp
from proxyd.core.changes import Change, replacements
from proxyd.errors import OptionError, RequestError, StoreError
from proxyd.interfaces import IRouteStore
from proxyd.kinds import Kind
from proxyd.model.routes import Route
from proxyd.model.settings import StoreConfig
from proxyd.option import EXAMPLE, HELP, Seconds, option
from proxyd.stores.environment import StoreEnvironment
from proxyd.stores.memory import MemoryRouteStore

# A client of the API waits for it; JupyterHub tries again for up to 30 seconds.
DEADLINE_SECONDS = 10
# How often the last activity of a route is written back, at most.
ACTIVITY_SECONDS = 10
# So many routes are compared before the exchanges get their turn.
_ROUTES_A_TURN = 1000

_CLASS = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")
_METHODS = {"get": "get", "getAll": "get_all", "add": "add", "update": "update", "remove": "remove"}

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class StorageClassConfig(StoreConfig):
    """A Python class with the storage interface of configurable-http-proxy keeps the routes of the API."""

    path: str = attrs.field(
        metadata={
            HELP: "`package.module:Class`, found on sys.path or in the directory of the configuration file. Its "
            "methods run on the reactor's thread: unless they are `async`, nothing is served until they return.",
            EXAMPLE: "package.module:Class",
        }
    )
    poll: Seconds = option(
        Seconds(5), help="How often the class is asked for changes that somebody else made; `0s`: never."
    )
    options: Mapping[str, str] = option({}, help="What the class is constructed with.")

    def __attrs_post_init__(self) -> None:
        """Refuse what names no class.

        Raises `OptionError`.
        """
        if not _CLASS.fullmatch(self.path):
            raise OptionError("expected package.module:Class", "path")


@attrs.define
class _Stored:
    """What the storage is known to have: the `members` of a route, and when it was last active."""

    members: dict[str, Any]
    last_activity: float


@implementer(IRouteStore)
class StorageStore:
    """Keeps routes in `storage`, which people know as `name`; with `poll_seconds` 0 foreign changes are not seen."""

    _log = Logger()

    def __init__(self, storage: object, name: str, poll_seconds: float, environment: StoreEnvironment) -> None:
        self._storage = storage
        self._methods = _methods_of(storage, name)
        self._name = name
        self._poll_seconds = poll_seconds
        self._clock = environment.clock
        self._reader = environment.reader
        self._entry_of = environment.entry_of
        self._memory = MemoryRouteStore(environment.clock)
        self._stored: dict[str, _Stored] = {}
        self._skipped: dict[object, str] = {}
        self._failing: set[str] = set()
        self._lock = DeferredLock()
        self._loops: list[LoopingCall] = []
        self._is_closed = False

    def open(self) -> Deferred[None]:
        """Fetch the routes, and begin to look for changes and to write activity back."""
        return self._in_turn(self._fetch).addCallback(lambda _: self._begin())

    def close(self) -> None:
        """Ask the storage for nothing more by itself."""
        self._is_closed = True
        for loop in self._loops:
            if loop.running:
                loop.stop()
        self._loops.clear()

    def snapshot(self) -> Deferred[tuple[int, list[Route]]]:
        """All routes as they were known last."""
        return self._memory.snapshot()

    def watch(self, revision: int, changed: Callable[[Change], None]) -> Callable[[], None]:
        """Call `changed` for every change from now on, those included that somebody else made."""
        return self._memory.watch(revision, changed)

    def put(self, route: Route) -> Deferred[Change]:
        """Create or replace a route."""
        return self._in_turn(self._put, route)

    def delete(self, key: str) -> Deferred[Change | None]:
        """Delete a route."""
        return self._in_turn(self._delete, key)

    def replace(self, routes: Iterable[Route]) -> Deferred[list[Change]]:
        """Have exactly these routes; the storage takes one after the other, and if it fails between, what was before.

        If it fails again then, or does not answer at all, the next look at it tells what it has.
        """
        return self._in_turn(self._replace, routes)

    async def _replace(self, routes: Iterable[Route]) -> list[Change]:
        before = {route.key: route for route in (await self._memory.snapshot())[1]}
        after = {route.key: route for route in routes}
        wanted = [change for change in replacements(before, after) if change is not None]
        now = self._clock.seconds()
        done: list[str] = []
        try:
            for key, route in wanted:
                await (self._call("remove", key) if route is None else self._add(route, now))
                done.append(key)
        except StoreError:
            await self._undo(done)
            raise
        changes = [await (self._forget(key) if route is None else self._keep_ours(route, now)) for key, route in wanted]
        return [change for change in changes if change is not None]

    async def _undo(self, keys: list[str]) -> None:
        """Give the storage back what it had under these keys."""
        try:
            for key in reversed(keys):
                known = self._stored.get(key)
                if known is None:
                    await self._call("remove", key)
                else:
                    last_activity = timestamp(known.last_activity)
                    await self._call("add", key, {**deepcopy(known.members), "last_activity": last_activity})
        except StoreError as error:
            self._log.error("{error}; it has a part of what it was to have", error=str(error))

    async def _put(self, route: Route) -> Change:
        now = self._clock.seconds()
        await self._add(route, now)
        return await self._keep_ours(route, now)

    async def _add(self, route: Route, now: float) -> None:
        await self._call("add", route.key, {**_members_of(route), "last_activity": timestamp(now)})

    async def _keep_ours(self, route: Route, now: float) -> Change:
        return await self._keep(route, _members_of(route), now)

    async def _delete(self, key: str) -> Change | None:
        if key not in self._stored:
            data = await self._call("get", key)
            if not data:
                return None
            await self._adopt(key, data)  # by somebody else, just now
        await self._call("remove", key)
        return await self._forget(key)

    async def _forget(self, key: str) -> Change | None:
        self._stored.pop(key, None)
        return await self._memory.delete(key)

    async def _fetch(self) -> None:
        """Bring what the storage has into memory."""
        found = await self._call("getAll")
        if not isinstance(found, Mapping):
            raise StoreError(self._name, f"getAll gave a {type(found).__name__} in place of a dictionary")
        for index, (key, data) in enumerate(list(found.items())):
            if index and not index % _ROUTES_A_TURN:
                await deferLater(self._clock, 0)
            await self._adopt(key, data)
        for key in self._stored.keys() - found.keys():
            del self._stored[key]
            await self._memory.delete(key)
        self._skipped = {key: reason for key, reason in self._skipped.items() if key in found}

    async def _adopt(self, key: object, data: object) -> None:
        """Take a route over if it is new or different; what is no route is skipped, and leaves the one we know."""
        try:
            if not isinstance(key, str) or self._reader.key_of(key) != key:
                raise ValueError("its key does not begin with one slash, or ends with one")
            if not isinstance(data, Mapping):
                raise TypeError("it is not a dictionary")
            members = {name: value for name, value in data.items() if name != "last_activity"}
            known = self._stored.get(key)
            is_known = known is not None and members == known.members
            route = None if is_known else self._reader.read(key, members)
        except (RequestError, RecursionError, TypeError, ValueError) as error:
            self._skip(key, str(error))
            return
        self._skipped.pop(key, None)
        last_activity = _seconds(data.get("last_activity"))
        if route is not None:
            await self._keep(route, deepcopy(members), last_activity)
        elif known is not None and last_activity is not None and last_activity > known.last_activity:
            known.last_activity = last_activity
            entry = self._entry_of(key)
            if entry is not None:
                entry.last_activity = max(entry.last_activity, min(last_activity, self._clock.seconds()))

    def _skip(self, key: object, reason: str) -> None:
        if self._skipped.get(key) != reason:
            self._skipped[key] = reason
            self._log.warn(
                "store {store}: the route {prefix} is skipped: {reason}",
                store=self._name,
                prefix=repr(key)[:200],
                reason=reason,
            )

    async def _keep(self, route: Route, members: dict[str, Any], last_activity: float | None) -> Change:
        """Remember what the storage has, and tell the watchers."""
        self._stored[route.key] = _Stored(members, last_activity or 0)
        change = await self._memory.put(route)
        entry = self._entry_of(route.key)
        if entry is not None and last_activity is not None:
            entry.last_activity = min(last_activity, self._clock.seconds())
        return change

    # What goes on by itself.

    def _begin(self) -> None:
        if self._is_closed:
            return
        for seconds, work in ((self._poll_seconds, self._poll), (ACTIVITY_SECONDS, self._write_activity)):
            if seconds:
                loop = LoopingCall(lambda work=work: Deferred.fromCoroutine(self._warn_once(work)))
                loop.clock = self._clock
                loop.start(seconds, now=False).addErrback(self._unexpected)
                self._loops.append(loop)

    def _unexpected(self, failure: Failure) -> None:
        self._log.failure("unexpected error in a route store", failure=failure)

    async def _warn_once(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do what will be done again anyway; of failures in a row the first one is told, and the end of them."""
        name = work.__name__
        try:
            await work()
        except StoreError as error:
            if name not in self._failing:
                self._failing.add(name)
                self._log.warn("{error}; what is known is served", error=str(error))
        else:
            if name in self._failing:
                self._failing.remove(name)
                self._log.info("store {store}: works again", store=self._name)

    async def _poll(self) -> None:
        await self._in_turn(self._fetch)

    async def _write_activity(self) -> None:
        """Write back when something last happened, one route after the other: changes of the API go between."""
        for key, known in list(self._stored.items()):
            entry = self._entry_of(key)
            if entry is not None and entry.last_activity > known.last_activity:
                await self._in_turn(self._update, key, known, entry.last_activity)

    async def _update(self, key: str, known: _Stored, last_activity: float) -> None:
        if self._stored.get(key) is not known or self._is_closed:
            return  # deleted or replaced meanwhile
        if await self._call("get", key):  # or `update` might bring back a part of what somebody else deleted
            await self._call("update", key, {"last_activity": timestamp(last_activity)})
        known.last_activity = last_activity

    # Asking.

    def _in_turn(self, work: Callable[..., Awaitable[_T]], *arguments: object) -> Deferred[_T]:
        """Do `work` when everything before it is done; fails with `StoreError` if that is not soon enough."""
        has_to_wait = self._lock.locked

        async def do() -> _T:
            if has_to_wait:
                await deferLater(self._clock, 0)  # or a long queue would be one deep recursion
            return await work(*arguments)

        done: Deferred[_T] = self._lock.run(do)
        done.addTimeout(DEADLINE_SECONDS, self._clock)
        done.addErrback(self._too_late)
        return done

    def _too_late(self, failure: Failure) -> Failure:
        if failure.check(TimeoutError):
            raise StoreError(self._name, f"did not answer within {DEADLINE_SECONDS} seconds")
        if failure.check(CancelledError):
            raise StoreError(self._name, "was cancelled")
        return failure

    async def _call(self, method: str, *arguments: object) -> Any:
        """Call a method of the storage, and wait for what it promises."""
        try:
            result = getattr(self._storage, self._methods[method])(*arguments)
            return await _abandonable(result) if isawaitable(result) else result
        except CancelledError:
            raise
        except Exception as error:  # it may be anything: the code is not ours
            self._log.debug("{method} of {store} failed:\n{trace}", method=method, store=self._name, trace=Failure())
            raise StoreError(self._name, f"{method} failed: {_words(error)}") from error


def _abandonable(awaitable: Awaitable[_T]) -> Deferred[_T]:
    """What `awaitable` promises; to cancel it ends the waiting, even if the code that is waited for goes on."""

    async def wait() -> _T:
        return await awaitable

    def pass_on(result: Any) -> None:
        if not waiting.called:
            waiting.callback(result)

    working = Deferred.fromCoroutine(wait())
    waiting: Deferred[_T] = Deferred(lambda _: working.cancel())
    working.addBoth(pass_on)
    return waiting


def _members_of(route: Route) -> dict[str, Any]:
    """What was posted; a fresh object each time, because the storage may keep what it gets."""
    members: dict[str, Any] = json.loads(route.members) if route.members else {"target": route.upstream.url}
    return members


def _methods_of(storage: object, name: str) -> dict[str, str]:
    """What the methods are called in this storage, by their names in the contract."""
    methods = {}
    for method, alias in _METHODS.items():
        found = next((word for word in (method, alias) if callable(getattr(storage, word, None))), None)
        if found is None:
            raise StoreError(name, f"the class has no method {method}")
        methods[method] = found
    return methods


def load_class(path: str, directory: Path) -> Callable[[dict[str, str]], object]:
    """The class that `module:name` is, from `sys.path` or else from `directory`, which is added to it.

    Raises `StoreError`.
    """
    module, _, name = path.partition(":")
    place = str(directory.resolve())
    if place not in sys.path:
        sys.path.append(place)
    try:
        found = getattr(importlib.import_module(module), name)
    except AttributeError as error:
        detail = f"{module} has no {name}" if error.name == name else f"cannot be imported: {_words(error)}"
        raise StoreError(path, detail) from None
    except Exception as error:
        raise StoreError(path, f"cannot be imported: {_words(error)}") from error
    if not callable(found):
        raise StoreError(path, "is not a class")
    return found  # type: ignore[no-any-return]


def build(config: StorageClassConfig, environment: StoreEnvironment) -> StorageStore:
    """Make the storage, and the store around it.

    Raises `StoreError`.
    """
    storage_class = load_class(config.path, environment.directory)
    try:
        storage = storage_class(dict(config.options))
    except Exception as error:
        raise StoreError(config.path, f"cannot be made: {_words(error)}") from error
    return StorageStore(storage, config.path, config.poll, environment)


def _seconds(stored: object) -> float | None:
    """When something last happened, as a storage tells it; None if that says nothing."""
    try:
        if isinstance(stored, datetime):
            return stored.timestamp()
        return parse_timestamp(stored) if isinstance(stored, str) else None
    except (OverflowError, ValueError):
        return None


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


KIND = Kind(StoreConfig, "class", StorageClassConfig, build)
