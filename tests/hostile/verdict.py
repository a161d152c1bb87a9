"""What is wrong with the outcome of a case."""

from __future__ import annotations

from tests.hostile.cases import FAULTS, REFUSALS, Case, Seen
from tests.hostile.stage import SENTINEL_TARGET, Outcome, echo
from tests.hostile.strict import Request, Response
from tests.hostile.witnesses import disagreements


def problems_of(case: Case, outcome: Outcome, *, ours: bool = True) -> list[str]:
    """Everything that does not hold; `ours`: by the rules for proxyd, otherwise by what is safe for any proxy.

    Another proxy may refuse with other statuses, forward another form of a target, and send 1xx responses of its own.
    """
    problems = list(outcome.problems)
    problems += _upstream_problems(case, outcome, ours=ours)
    problems += _client_problems(case, outcome, ours=ours)
    return problems


def is_tolerable(case: Case, outcome: Outcome) -> bool:
    """Whether a proxy that takes what should be refused makes something of it that nobody can misunderstand.

    What the upstream got is well-formed and read alike by all witnesses; what the client got is well-formed and whole,
    and there is one answer for each request.
    """
    allowed = case.statuses[-1] if case.statuses else frozenset()
    if outcome.problems or case.is_cut or case.tunnel is not None or not allowed & (REFUSALS | FAULTS):
        return False
    if any(disagreements(stream) for stream in outcome.streams):
        return False
    finals = [each for each in outcome.responses if each.status >= 200]
    if outcome.rest or outcome.tunnelled or not finals or not all(each.is_complete for each in finals):
        return False
    passed = [each for each in finals if each.status == 200]
    if case.script:
        return len(finals) == len(case.statuses) + outcome.sentinel
    return [each.body for each in passed] == [echo(each) for each in outcome.requests if each.method != b"HEAD"]


def _upstream_problems(case: Case, outcome: Outcome, *, ours: bool) -> list[str]:
    problems = []
    requests = [request for request in outcome.requests if request.target != SENTINEL_TARGET]
    if case.script and len(requests) == 2 and requests[0] == requests[1]:
        del requests[1]  # repeated once, which `test_faults` has the rules of
    if len(requests) != len(case.forwarded):
        problems.append(
            f"the upstream got {len(requests)} requests in place of {len(case.forwarded)}: {outcome.streams!r:.600}"
        )
    else:
        for request, seen in zip(requests, case.forwarded, strict=True):
            problems += [f"the upstream got {problem}" for problem in _request_problems(request, seen, ours=ours)]
    if outcome.partial and not case.partial and not case.early:
        problems.append(f"the upstream got a part of a request: {outcome.partial!r:.300}")
    if case.tunnel is not None and outcome.tunnelled != case.tunnel[0]:
        problems.append(f"through the tunnel came {outcome.tunnelled!r:.200}")
    elif case.tunnel is None and outcome.tunnelled:
        problems.append(f"there was a tunnel, and in it {outcome.tunnelled!r:.200}")
    return problems


def _request_problems(request: Request, seen: Seen, *, ours: bool) -> list[str]:
    problems = []
    if request.method != seen.method:
        problems.append(f"method {request.method!r}")
    if request.target not in (seen.targets[:1] if ours else seen.targets):
        problems.append(f"target {request.target!r}")
    if request.body != seen.body:
        problems.append(f"body {request.body!r:.200}")
    if ours and seen.host is not None and request.values(b"host") != [seen.host]:
        problems.append(f"Host {request.values(b'host')!r}")
    for name, value in seen.has:
        if request.values(name) != [value]:
            problems.append(f"{name!r}: {request.values(name)!r}")
    for name in seen.lacks:
        if request.values(name):
            problems.append(f"{name!r}: {request.values(name)!r}")
    return problems


def _client_problems(case: Case, outcome: Outcome, *, ours: bool) -> list[str]:
    problems = []
    finals = [each for each in outcome.responses if each.status >= 200 or each.status == 101]
    if ours:
        interim = tuple(each.status for each in outcome.responses if each.status < 200 and each.status != 101)
        if interim != case.interim:
            problems.append(f"the client got the interim responses {interim}")
    if outcome.sentinel and (finals[len(case.statuses) :] or case.closes is False):
        problems += _sentinel_problems(finals[len(case.statuses) :])
        del finals[len(case.statuses) :]
    statuses = [each.status for each in finals]
    allowed = [status if ours else _alternatives(status) for status in case.statuses]
    if len(statuses) != len(allowed) or any(got not in may for got, may in zip(statuses, allowed, strict=True)):
        problems.append(f"the client got {statuses} in place of {[sorted(each) for each in case.statuses]}")
        return problems
    if outcome.rest and 101 not in statuses:
        problems.append(f"the client got something behind the responses: {outcome.rest!r:.100}")
    if case.tunnel is not None and outcome.rest != case.tunnel[1]:
        problems.append(f"the client got {outcome.rest!r:.200} out of the tunnel")
    if not finals:
        return problems
    if case.closes and not outcome.end:
        problems.append("the connection of the client stays open")
    problems += _body_problems(case, outcome, finals, ours=ours)
    if ours and case.closes and finals[-1].status >= 400 and finals[-1].values(b"connection") != [b"close"]:
        problems.append("the refusal does not say Connection: close")
    for name, value in case.has:
        if finals[-1].values(name) != [value]:
            problems.append(f"the client got {name!r}: {finals[-1].values(name)!r}")
    for name in case.lacks:
        if finals[-1].values(name):
            problems.append(f"the client got {name!r}: {finals[-1].values(name)!r}")
    return problems


def _body_problems(case: Case, outcome: Outcome, finals: list[Response], *, ours: bool) -> list[str]:
    last = finals[-1]
    if case.is_cut:
        looks_complete = last.is_complete and not (last.lasts_until_close and outcome.end == "reset")
        return ["the answer looks complete"] if looks_complete else []
    problems = []
    if not all(each.is_complete for each in finals if each.status != 101):
        problems.append("an answer is not complete")
    if case.body is not None:
        if last.body != case.body:
            problems.append(f"the client got the body {last.body!r:.200}")
    elif not case.script:
        expected = [b"" if each.method == b"HEAD" else echo(each) for each in outcome.requests]
        got = [each.body for each in finals if each.status == 200]
        if got != expected[: len(got)]:
            problems.append(f"the client got the answers {got!r:.300}")
    return problems


def _sentinel_problems(responses: list[Response]) -> list[str]:
    if len(responses) != 1:
        return [f"the next request got {len(responses)} answers"]
    answer = responses[0]
    if answer.status != 200 or answer.body != b"saw GET " + SENTINEL_TARGET or not answer.is_complete:
        return [f"the next request got {answer.status} {answer.body!r:.100}"]
    return []


def _alternatives(statuses: frozenset[int]) -> frozenset[int]:
    return (
        statuses | REFUSALS
        if statuses & REFUSALS
        else statuses | {500, 502, 503, 504}
        if statuses & {502, 504}
        else statuses
    )
