"""Composition root of `proxyd wrap`: one application at the prefix itself, for those whom a Hub lets in."""

from __future__ import annotations

import os
import secrets
from collections.abc import MutableMapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from proxyd.auth.hub import HUB_VERSION
from proxyd.compat.native import TOKENS, WrapSetup
from proxyd.core.landing import landing_path
from proxyd.errors import ServerStartError
from proxyd.http.streaming import StreamingResource
from proxyd.http.wrapped import DoorResource, HubProbe, PreparedResource
from proxyd.kinds import Kinds
from proxyd.model.auth import AnonymousAuthConfig
from proxyd.model.settings import Config
from proxyd.service import ProxyService
from proxyd.supervisor.preparation import Preparation
from proxyd.supervisor.process import Exit
from proxyd.supervisor.supervisor import Supervisor


class WrapService(ProxyService):
    """Runs what `setup` describes, on `reactor`; `status` is what to end the process with."""

    def __init__(
        self, setup: WrapSetup, kinds: Kinds, reactor: Any, *, environ: MutableMapping[str, str] = os.environ
    ) -> None:
        # The application has the same user as we, and could read a file; without one, a restart is a silent login.
        key = secrets.token_bytes(32)
        super().__init__(setup.config, kinds, reactor, environ=environ, front=self, cookie_key=key)
        self._setup = setup
        self._prefix = str(setup.config.base_url)
        self.status = 0
        self._is_ending = False
        self.preparation = Preparation(
            reactor,
            checkout=setup.checkout,
            conda_name=setup.conda_name,
            conda=setup.conda,
            environ=setup.environ,
            ready=self._start,
        )

    # What stands in front of the application.

    def behind(self, resource: StreamingResource) -> StreamingResource:
        """Behind the login: nobody else sees how far it is, or makes it start."""
        setup = self._setup
        return PreparedResource(
            resource, self.preparation, setup.origin, self._prefix, landing_path(self._prefix, setup.config.default_url)
        )

    def before(self, resource: StreamingResource) -> StreamingResource:
        """In front of the login, which does this itself if there is one."""
        if not isinstance(self._setup.config.auth, AnonymousAuthConfig):
            return resource
        return DoorResource(resource, self._prefix, HubProbe(lambda: HUB_VERSION), self._is_not_ready)

    def _is_not_ready(self) -> bool:
        statuses = () if self.supervisor is None else self.supervisor.status(self._setup.name)
        return not any(status.state == "ready" for status in statuses)

    # Life.

    def _make_supervisor(self, config: Config) -> Supervisor:
        supervisor = Supervisor(
            config.servers,
            self._reactor,
            base_url=config.base_url,
            environ=self._setup.environ,
            open_files=self.open_files_limit[0] if self.open_files_limit else 0,
            stderr_is_error=True,
            tells_command=True,
            secrets=tuple(filter(None, map(self._environ.get, TOKENS))),
        )
        supervisor.news.exit_watchers.append(self._app_exited)
        return supervisor

    def _begin_servers(self) -> None:
        if self._setup.checkout is not None or self._setup.conda_name:
            self.preparation.begin()
        else:
            self._start()

    def _start(self) -> None:
        if self.supervisor is not None and self._setup.is_eager:
            self.supervisor.start(self._setup.name).addErrback(self._start_failed)

    def _start_failed(self, failure: Failure) -> None:
        if not failure.check(ServerStartError):  # which the log has already
            self._log.failure("unexpected error at the start of the application", failure)

    def _app_exited(self, _: str, ended: Exit) -> None:
        if self._setup.exits_with_app and not self._is_ending:
            self._log.info("the application {reason}, and so does the proxy", reason=ended.reason)
            self.status = ended.status
            self.end()

    def end(self) -> None:
        """End everything, and the reactor."""
        if self._is_ending:
            if self.data_path is not None:
                self.data_path.hurry()
            return
        self._is_ending = True
        self.preparation.close()
        ending = self.stopService()
        if not isinstance(ending, Deferred):
            self._reactor.stop()
            return
        ending.addErrback(lambda failure: self._log.failure("unexpected error at the end", failure))
        ending.addCallback(lambda _: self._reactor.stop())
