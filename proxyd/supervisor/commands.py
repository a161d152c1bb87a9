"""From a definition and a place to what is to be run."""

from __future__ import annotations

from proxyd.core.templates import names_at, render_pairs, render_words
from proxyd.model.servers import Place, ServerSpec
from proxyd.supervisor.process import Command, child_environment
from proxyd.supervisor.surroundings import Surroundings


def make_command(spec: ServerSpec, mark: str, place: Place, around: Surroundings) -> Command:
    """Put `place` into the templates of `spec`, and call its callables, which may block.

    `mark` is what all of its processes are known by.

    Raises `TemplateError`, and `OSError` for a user that there is not.
    """
    names = names_at(place, around.base_url)
    argv = render_words(spec.command, names, "command")
    added = render_pairs(spec.environment, names, "environment")
    return Command(
        argv=argv,
        environment=child_environment(around.environ, added, spec.user, mark),
        mark=mark,
        cwd=spec.cwd,
        limits=spec.limits,
        user=spec.user,
        open_files=around.open_files,
    )
