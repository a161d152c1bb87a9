"""What another configuration changes in a proxy that runs, and what of it has to wait for a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from proxyd.errors import Problem
from proxyd.model.settings import Config, ListenerConfig


def _paths(options: Mapping[str, str]) -> frozenset[str]:
    """The paths of options that are given as words, by their sections."""
    return frozenset(
        f"{section}.{name}" if section else name for section, names in options.items() for name in names.split()
    )


# Every option is in one of these two; `.*` stands for all that is in a section. What is in neither needs a restart, and
# a test finds it.
APPLIED = _paths(
    {
        "": "allow_anonymous base_url default_url drain_delay_seconds drain_seconds host_routing jupyter_config "
        "patterns pid_file python_path root_server routes server_packages servers start_page state_directory "
        "trusted_proxies",
        "activity": "force_alive ignore interval server_name token url",
        "api": "open route_options tls tls.* token tokens",
        "auth": "*",
        "errors": "directory statuses target",
        "health": "live ready",
        "limits": "api_body api_bulk_body body chunk_line connections connections_per_client header_count header_line "
        "headers interim_responses request_line requests_per_client rewrite_body route_path target trailers",
        "log": "access access_file format level stall_after",
        "metrics": "address enabled names port socket",
        "pool": "connections_per_upstream idle_per_upstream idle_seconds",
        "ports": "allow allow_origin enabled hosts rewrite_response",
        "route_defaults": "*",
        "timeouts": "body_idle client_idle connect header idle keep_alive response",
    }
)
NEEDS_RESTART = _paths(
    {
        "": "api workers",
        "api": "address port socket",
        "store": "*",
    }
)

# The same for the options of listeners, of whatever kind.
LISTENER_APPLIED = _paths(
    {
        "": "backlog certificate_directories certificates ciphers client_ca client_certificates dhparam "
        "maximum_version minimum_version mode proxy_protocol to_port"
    }
)
LISTENER_NEEDS_RESTART = _paths({"": "address port socket"})

# Of more routes or servers than these the report says only that there are some.
_MAX_NAMED = 20


@attrs.frozen
class Plan:
    """What a reload comes down to.

    `config` is what runs once it is carried out: the other configuration, with the values that run where a restart is
    needed. Its listeners are those that run, in their order. `new_listeners` are those that only a restart opens.
    """

    config: Config
    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]
    new_listeners: tuple[ListenerConfig, ...]


@attrs.frozen
class Report:
    """How a reload ended: the paths of the options that changed, or the problems because of which nothing did."""

    applied: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether the file could be used."""
        return not self.problems

    def as_json(self) -> str:
        """The answer of the API."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """What `as_json` has written.

        Raises `ValueError`, `TypeError` or `KeyError` for anything else.
        """
        members = json.loads(text)
        problems = tuple(Problem(**problem) for problem in members["problems"])
        return cls(tuple(members["applied"]), tuple(members["needs_restart"]), problems)


def plan_reload(running: Config, wanted: Config) -> Plan:
    """What has to be done so that `wanted` runs in place of `running`."""
    comparison = _Comparison()
    wanted = comparison.keep_metrics_address(running, wanted)
    listeners = comparison.match(running.listeners, wanted.listeners)
    config = comparison.merge(attrs.evolve(running, listeners=()), attrs.evolve(wanted, listeners=()), "")
    return Plan(
        attrs.evolve(config, listeners=listeners),
        tuple(comparison.applied),
        tuple(comparison.needs_restart),
        tuple(comparison.new_listeners),
    )


class _Comparison:
    """Collects what is different."""

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.needs_restart: list[str] = []
        self.new_listeners: list[ListenerConfig] = []

    def keep_metrics_address(self, running: Config, wanted: Config) -> Config:
        """Another address for the same port has to wait: while we listen there, nobody else can, and nor can we."""
        old, new = running.metrics, wanted.metrics
        if not (old.is_shown_apart and new.is_shown_apart and new.port and old.port == new.port):
            return wanted
        if old.place == new.place:
            return wanted
        self.needs_restart.append("metrics.address")
        return attrs.evolve(wanted, metrics=attrs.evolve(new, address=old.address))

    def merge(self, old: Any, new: Any, path: str) -> Any:
        """The section that runs from now on, in place of `old`."""
        values = {}
        for field in attrs.fields(type(new)):
            name = f"{path}.{field.name}" if path else field.name
            values[field.name] = self._value(getattr(old, field.name), getattr(new, field.name), name)
        return attrs.evolve(new, **values)

    def _value(self, old: Any, new: Any, path: str) -> Any:
        if old == new:
            return new
        if path in ("routes", "servers"):
            self.applied += _changed_names(path, old, new)
            return new
        if f"{path}.*" in APPLIED and type(old) is type(new):
            self.applied += _changed_paths(old, new, path)
            return new
        if f"{path}.*" in APPLIED and path not in NEEDS_RESTART:  # a section of another kind
            self.applied.append(path)
            return new
        if path in APPLIED:
            self.applied.append(path)
            return new
        if type(old) is type(new) and attrs.has(type(new)) and f"{path}.*" not in NEEDS_RESTART:
            return self.merge(old, new, path)
        self.needs_restart.append(path)
        return old

    def match(
        self, running: tuple[ListenerConfig, ...], wanted: tuple[ListenerConfig, ...]
    ) -> tuple[ListenerConfig, ...]:
        """The sections of the listeners that run from now on.

        A listener is known by its kind and its place; of those that are left, the ones of a kind follow each other, and
        one has moved. What is left then is new, or gone.
        """
        pairs: dict[int, int] = {}
        for known_by in (_place, type):
            for index, section in enumerate(running):
                if index not in pairs:
                    free = (other for other in range(len(wanted)) if other not in pairs.values())
                    found = next((other for other in free if known_by(wanted[other]) == known_by(section)), None)
                    if found is not None:
                        pairs[index] = found
        for other, section in enumerate(wanted):
            if other not in pairs.values():
                self.needs_restart.append(f"listeners[{other}]")
                self.new_listeners.append(section)
        if len(pairs) < len(running):
            self.needs_restart.append("listeners")
        return tuple(
            self._listener(section, wanted[pairs[index]], f"listeners[{pairs[index]}]") if index in pairs else section
            for index, section in enumerate(running)
        )

    def _listener(self, old: Any, new: Any, path: str) -> Any:
        values = {}
        # Permissions are those of the socket that is there.
        waiting = set() if _place(old) == _place(new) else {"mode"}
        for field in attrs.fields(type(new)):
            before, after = getattr(old, field.name), getattr(new, field.name)
            if before == after:
                continue
            if field.name in LISTENER_APPLIED - waiting:
                self.applied.append(f"{path}.{field.name}")
            else:
                self.needs_restart.append(f"{path}.{field.name}")
                values[field.name] = before
        return attrs.evolve(new, **values)


def _place(section: object) -> tuple[object, ...]:
    names = ("address", "port", "socket")
    return type(section), *(getattr(section, name, None) for name in names)


def _changed_paths(old: Any, new: Any, path: str) -> Iterator[str]:
    """The paths of the options below `path` that are different."""
    for field in attrs.fields(type(new)):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            yield f"{path}.{field.name}"


def _changed_names(path: str, old: Mapping[Any, object], new: Mapping[Any, object]) -> list[str]:
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [f"{path}.{key}" for key in changed] if len(changed) <= _MAX_NAMED else [path]
