"""Every case of every family, over plain text and over TLS, against one process that is alive after each of them."""

from __future__ import annotations

import atexit
from unittest import TestCase

from twisted.trial.unittest import SynchronousTestCase

from tests.hostile.cases import Case
from tests.hostile.families import ANSWERS, REQUESTS
from tests.hostile.proxies import HostileProxy


class _Shared:
    """The one process, until the end of the tests."""

    def __init__(self) -> None:
        self._owner = TestCase()
        self._proxy: HostileProxy | None = None
        atexit.register(self._owner.doCleanups)

    def get(self) -> HostileProxy:
        """The process; a new one if it has ended."""
        if self._proxy is None or not self._proxy.process.is_running:
            self._proxy = HostileProxy(self._owner)
        return self._proxy


_shared = _Shared()


class FamilyTestCase(SynchronousTestCase):
    """Plays families."""

    def play(self, family: tuple[Case, ...], *, tls: bool) -> None:
        """Play one, and name everything that does not hold."""
        proxy = _shared.get()
        cases = [case for case in family if case.tls or not tls]
        problems = proxy.problems(cases, tls=tls) + proxy.trouble()
        self.assertEqual([], problems, "\n" + "\n".join(problems))


def _tests_of(families: tuple[tuple[Case, ...], ...], what: str) -> type[FamilyTestCase]:
    """A test for each family and each kind of listener."""

    def test_of(family: tuple[Case, ...], tls: bool) -> tuple[str, object]:
        name = family[0].family
        spoken = "tls" if tls else "plain"

        def test(self: FamilyTestCase) -> None:
            self.play(family, tls=tls)

        test.__doc__ = f"{len(family)} cases of {name}, {spoken}."
        return f"test_{name.replace('-', '_')}_{spoken}", test

    members = dict(test_of(family, tls) for family in families for tls in (False, True))
    return type(
        what, (FamilyTestCase,), {"__doc__": f"{what}: a test for each family.", "__module__": __name__, **members}
    )


RequestTests = _tests_of(REQUESTS, "RequestTests")
AnswerTests = _tests_of(ANSWERS, "AnswerTests")


class CaseTests(SynchronousTestCase):
    """The cases themselves."""

    def test_names_are_unique(self) -> None:
        """A problem is found by the name of its case."""
        names = [f"{case.family}/{case.name}" for family in REQUESTS + ANSWERS for case in family]
        self.assertEqual(len(names), len(set(names)))
