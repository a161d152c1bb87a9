"""Requests that are damaged at random: whatever of them reaches the upstream is read alike by everybody.

`PROXYD_MUTATIONS=100000` makes it a long run, `PROXYD_MUTATIONS_SEED` another one.
"""

from __future__ import annotations

import os
import re
from unittest import TestCase

from twisted.trial.unittest import SynchronousTestCase

from tests.hostile.cases import Case, End, Seen
from tests.hostile.mutations import SEEDS, mutants
from tests.hostile.proxies import HostileProxy
from tests.hostile.stage import Outcome
from tests.hostile.strict import Request, read_requests
from tests.hostile.witnesses import WITNESSES, disagreements

_COUNT = int(os.environ.get("PROXYD_MUTATIONS") or 600)
_SEED = int(os.environ.get("PROXYD_MUTATIONS_SEED") or 7)
# Stands behind each of them: where a reading goes wrong, this is not read as what it is.
_TAIL = b"GET /tail HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def case_of(mutant: bytes) -> tuple[Case, list[Request]]:
    """What is sent for a mutant, and the requests that a strict reader finds in it."""
    requests, rest = read_requests(mutant + _TAIL, from_client=True)
    # A client that has not come to an end says that nothing more will come.
    waits = rest == "incomplete" or (not rest and not any(request.target == b"/tail" for request in requests))
    sends = (mutant + _TAIL, End.FINISH) if waits else (mutant + _TAIL,)
    answered = tuple(Seen(method=request.method) for request in requests)
    return Case(name="mutant", sends=sends, closes=True, forwarded=answered), requests


def _is_same(forwarded: Request, meant: Request) -> bool:
    """Whether the upstream got what was meant; the form of a target may have changed."""
    if forwarded.method != meant.method or forwarded.body != meant.body:
        return False
    if re.search(rb"\A[^/]|/\.|%2e", meant.target, re.IGNORECASE):
        return True
    return forwarded.target == meant.target


def problems_of(outcome: Outcome, meant: list[Request]) -> list[str]:
    """Everything that does not hold."""
    problems = list(outcome.problems)
    for stream in outcome.streams:
        whole = stream
        for rest in outcome.partial:  # of a client that has left: nobody reads it as a whole request
            whole = whole.removesuffix(rest)
        if differences := disagreements(whole):
            problems.append("ambiguous: " + "\n".join([repr(stream), *differences]))
    position = 0
    for request in outcome.requests:
        while position < len(meant) and not _is_same(request, meant[position]):
            position += 1  # one that the proxy answered itself
        if position == len(meant):
            problems.append(f"nobody meant {request!r}")
            break
        position += 1
    return problems


class MutationTests(SynchronousTestCase):
    """Hundreds of them, with one process."""

    def test_nothing_ambiguous_is_forwarded(self) -> None:
        """All witnesses read the same, and it is what a strict reader finds in what the client sent."""
        owner = TestCase()
        self.addCleanup(owner.doCleanups)
        proxy = HostileProxy(owner)
        failures = []
        forwarded = refused = 0
        for number, mutant in enumerate(mutants(_SEED, _COUNT)):
            case, meant = case_of(mutant)
            outcome = proxy.stage.play(case, proxy.port)
            forwarded += len(outcome.requests)
            refused += any(response.status >= 400 for response in outcome.responses)
            failures += [f"{number}: {mutant!r}: {problem}" for problem in problems_of(outcome, meant)]
            if not proxy.process.is_running or len(failures) > 20:
                break
        if _COUNT >= 10_000:
            counts = f"{refused} refused, {forwarded} requests forwarded, {len(failures)} wrong"
            print(f"{number + 1} mutants, seed {_SEED}: {counts}")
        self.assertTrue(proxy.process.is_running, proxy.process.log[-5000:])
        self.assertEqual([], failures + proxy.trouble(), "\n" + "\n".join(failures))
        self.assertGreater(forwarded, _COUNT // 10)
        self.assertGreater(refused, _COUNT // 10)

    def test_the_seeds_are_good(self) -> None:
        """What is damaged was good before, or nothing would come through."""
        for seed in SEEDS:
            self.assertEqual("", read_requests(seed, from_client=True)[1], seed)
            self.assertEqual([], disagreements(seed), seed)


class WitnessTests(SynchronousTestCase):
    """The witnesses can tell: each of these is read in two ways by them."""

    def test_they_differ_about_what_is_ambiguous(self) -> None:
        """The classes of smuggling that are known."""
        post = b"POST / HTTP/1.1\r\nHost: a\r\n"
        chunks = b"\r\n5\r\nhello\r\n0\r\n\r\n"
        for stream in (
            post + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n" + chunks,
            post + b"Content-Length: 4\r\nContent-Length: 0\r\n\r\nokay",
            post + b"Content-Length: 4, 0\r\n\r\nokay",
            post + b"Content-Length: 1e1\r\n\r\n0123456789",
            post + b"Content-Length: 4294967300\r\n\r\nokay",
            post + b"Content-Length :4\r\n\r\nokay",
            post + b"Content-Length:\r\n 4\r\n\r\nokay",
            post + b"X: y\nContent-Length: 4\r\n\r\nokay",
            post + b"X: y\rContent-Length: 4\r\n\r\nokay",
            post + b"Content-Length: 4\x00\r\n\r\nokay",
            post + b"Transfer-Encoding: chunked, identity\r\n" + chunks,
            post + b"Transfer-Encoding: xchunked\r\n" + chunks,
            post + b"Transfer-Encoding: Chunked\r\n" + chunks,
            post + b"Transfer_Encoding: chunked\r\n" + chunks,
            post + b"Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
            post + b"Transfer-Encoding: chunked\r\n\r\n5;\n0\r\nhello\r\n0\r\n\r\n",
            post + b"Transfer-Encoding: chunked\r\n\r\n100000005\r\nhello\r\n0\r\n\r\n",
            post + b"Host: b\r\n\r\n",
            post + b"X: y\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ):
            self.assertNotEqual([], disagreements(stream), stream)

    def test_they_agree_about_the_rest(self) -> None:
        """What is clear is read alike, and as it was meant."""
        stream = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nokGET /y HTTP/1.1\r\nHost: b\r\n\r\n"
        self.assertEqual([], disagreements(stream))
        for witness in WITNESSES:
            readings, rest = witness.read(stream)
            self.assertEqual([(b"/x", b"a", b"ok"), (b"/y", b"b", b"")], [(r.target, r.host, r.body) for r in readings])
            self.assertEqual(b"", rest)
