"""`proxyd serve`: twistd, in the foreground, ending with status 0 when it was told to end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.scripts import _twistd_unix

from twisted.plugins.proxyd_plugin import proxyd as _plugin


class _Options(_twistd_unix.ServerOptions):
    """The options of twistd, with our plugin only: it would look for all that are installed, and load them."""

    @property
    def subCommands(self) -> Iterator[tuple[str, None, Any, str]]:
        self.loadedPlugins = {_plugin.tapname: _plugin}
        yield _plugin.tapname, None, _plugin.options, _plugin.description


def run(config: str) -> None:
    """Run the twistd plugin in this process, until a signal ends it."""
    options: Any = _Options()
    options.parseOptions(["-n", "--pidfile=", _plugin.tapname, *(["--config", config] if config else [])])
    # `twistd` itself would end by the signal that asked for the end, and be reported as killed.
    _twistd_unix.UnixApplicationRunner(options).run()
