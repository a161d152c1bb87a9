"""A git checkout that never loses what somebody has written (contract of jhsingle-native-proxy, rules of nbgitpuller).

Nothing is run here: `steps` yields what is to be done, one thing after the other, and is sent what came of it.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from enum import Enum

import attrs

from proxyd.errors import ProxydError

ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file",  # `ext::` would run a command
    "GIT_LITERAL_PATHSPECS": "1",
    "LC_ALL": "C",
    # No housekeeping: it would go on in the background, and nobody waits for it.
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "gc.auto",
    "GIT_CONFIG_VALUE_0": "0",
    "GIT_CONFIG_KEY_1": "maintenance.auto",
    "GIT_CONFIG_VALUE_1": "false",
}
"""What every git gets in its environment."""

_AUTHOR = ("-c", "user.name=proxyd", "-c", "user.email=proxyd@localhost", "-c", "commit.gpgsign=false")
_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s'\"]+@")
_TRANSPORT = re.compile(r"([A-Za-z0-9]+)::")
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git knows it without having it
_BRANCH = re.compile(r"(?!.*(?:\.\.|//|@\{|\.lock$|/$|\.$))[^\x00-\x20\x7f~^:?*\[\\-][^\x00-\x20\x7f~^:?*\[\\]*")


class CheckoutError(ProxydError):
    """What was asked for cannot be checked out; the text holds no credentials."""


class Found(Enum):
    """What is there before the checkout."""

    NOTHING = "nothing"  # or an empty folder
    REPOSITORY = "a repository"
    SOMETHING = "something"


@attrs.frozen
class Git:
    """Run git with these words, in the folder, or outside of it if `outside`.

    What comes back is what it printed, None if it failed and `may_fail`; otherwise a failure is the end.
    """

    words: tuple[str, ...]
    may_fail: bool = False
    outside: bool = False

    def __str__(self) -> str:
        return masked(" ".join(("git", *self.words)))


@attrs.frozen
class Free:
    """Take away a lock of the index that a git has left behind which was killed; a young one is an error."""


@attrs.frozen
class Rename:
    """Move a file of the folder aside, under a name that nobody has yet."""

    path: str


Step = Git | Free | Rename


@attrs.frozen
class Checkout:
    """What is wanted: `branch` empty for the one that the remote has as its own, `depth` 0 for the whole history."""

    url: str
    folder: str
    branch: str = ""
    depth: int = 1

    def __attrs_post_init__(self) -> None:
        """Refuse what git would take for something else.

        Raises `CheckoutError`.
        """
        for what, value in (("URL", self.url), ("folder", self.folder)):
            if not value or value.startswith("-") or any(char < " " or char == "\x7f" for char in value):
                raise CheckoutError(f"{masked(value)!r} is no {what} of a repository")
        if (match := _TRANSPORT.match(self.url)) is not None:
            raise CheckoutError(f"the transport {match[1]}:: is not allowed")
        if self.branch and not _BRANCH.fullmatch(self.branch):
            raise CheckoutError(f"{self.branch!r} is no name of a branch")

    def steps(self, found: Found) -> Generator[Step, str | None, None]:
        """What to do, with what is `found` in the folder.

        A step that has failed is thrown in, for what has to be put in order. Raises `CheckoutError`.
        """
        if found is Found.SOMETHING:
            raise CheckoutError(f"{self.folder} is neither empty nor a repository")
        if found is Found.NOTHING:
            words = ["clone"]
            words += ["--depth", str(self.depth)] if self.depth else []
            words += ["--branch", self.branch] if self.branch else []
            yield Git((*words, "--no-single-branch", "--", self.url, self.folder), outside=True)
            return
        # What is on none of the remote's branches is somebody's work.
        unpublished = yield Git(
            ("rev-list", "-n", "1", "HEAD", "--branches", "--not", "--remotes=origin"), may_fail=True
        )
        yield Git(("fetch", "origin"))
        branch = yield from self._branch()
        upstream = f"refs/remotes/origin/{branch}"
        yield Free()
        if (yield Git(("rev-parse", "--verify", "--quiet", "HEAD"), may_fail=True)) is None:
            # A clone that was cut off: there is everything but what it is for.
            yield from _move_aside(_EMPTY_TREE, upstream)
            yield Git(("checkout", "-B", branch, upstream, "--"))
            return
        yield from _move_aside("HEAD", upstream)
        for path in _lines((yield Git(("ls-files", "--deleted", "-z")))):
            # It may be gone from there as well.
            yield Git(("checkout", upstream, "--", path), may_fail=True)
        is_changed = bool((yield Git(("status", "--porcelain", "--untracked-files=no"))))
        if is_changed:
            message = "Keep local changes before an update"
            yield Git((*_AUTHOR, "commit", "--no-verify", "--allow-empty", "-a", "-m", message))
        try:
            if unpublished == "" and not is_changed:
                # Nothing is to be kept, so that the remote is followed wherever it goes, a rewritten history included.
                yield Git(("checkout", "-B", branch, upstream, "--"))
                return
            yield Git(("checkout", branch, "--"))
            yield from _merge(upstream)
        except ProxydError:
            # Everything of the user's is committed by now; what was written by half would be taken for it otherwise.
            yield Git(("reset", "--hard"), may_fail=True)
            raise

    def _branch(self) -> Generator[Step, str | None, str]:
        if self.branch:
            return self.branch
        yield Git(("remote", "set-head", "origin", "--auto"), may_fail=True)
        named = yield Git(("symbolic-ref", "--short", "refs/remotes/origin/HEAD"), may_fail=True)
        if not named:
            raise CheckoutError("the remote does not say which branch is its own: name one")
        return named.strip().removeprefix("origin/")


def _merge(upstream: str) -> Generator[Step, str | None, None]:
    """Merge; where that cannot be done, as with a file that is deleted there and changed here, ours stays."""
    merged = yield Git((*_AUTHOR, "merge", "--no-verify", "-Xours", "-m", "Merge an update", upstream), may_fail=True)
    if merged is not None:
        return
    unmerged = _lines((yield Git(("diff", "--name-only", "--diff-filter=U", "-z"))))
    if not unmerged:
        raise CheckoutError("the update could not be merged into what is there")
    yield Git(("add", "--all", "--", *unmerged))
    yield Git((*_AUTHOR, "commit", "--no-verify", "--no-edit"))


def _move_aside(own: str, upstream: str) -> Generator[Step, str | None, None]:
    """Rename what nobody has committed and an update from `own` would write over."""
    added = _lines((yield Git(("diff", "--name-only", "--diff-filter=A", "--no-renames", "-z", own, upstream))))
    # Those of .gitignore, too: git would not ask before it writes over them.
    untracked = set(_lines((yield Git(("ls-files", "--others", "-z")))))
    moved = {prefix for path in added for prefix in _prefixes(path) if prefix in untracked}
    for path in sorted(moved):
        yield Rename(path)


def _prefixes(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _lines(printed: str | None) -> list[str]:
    return [line for line in (printed or "").split("\0") if line]


def folder_of(url: str) -> str:
    """The folder that git itself would choose for a repository."""
    last = re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")
    return "repository" if last in ("", ".", "..") else last


def aside(path: str, stamp: str) -> str:
    """The name under which a file is kept: `stamp`, two underscores in front, before its extension."""
    folder, slash, name = path.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    kept = f"{stem}__{stamp}.{extension}" if dot and stem else f"{name}__{stamp}"
    return f"{folder}{slash}{kept}"


def masked(text: str) -> str:
    """`text` without user names and passwords in its URLs."""
    return _CREDENTIALS.sub(r"\1***@", text)
