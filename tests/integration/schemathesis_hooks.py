"""What schemathesis has to be told of the REST API: what a target looks like, and a mistake of its own."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import strategies as st

_HOSTS = st.from_regex(r"[a-z0-9]{1,9}(\.[a-z]{1,9}){0,2}", fullmatch=True)

schemathesis.openapi.format(
    "upstream-url",
    st.builds(
        "{}://{}:{}{}".format,
        st.sampled_from(["http", "https", "HTTP"]),
        _HOSTS,
        st.integers(1, 65535),
        st.sampled_from(["", "/", "/a/b?c"]),
    ),
)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Make entity tags of each `0` that one of its phases takes for one."""
    for name in ("If-Match", "If-None-Match"):
        if case.headers and case.headers.get(name) == "0" and case.meta.generation.mode.is_positive:
            case.headers[name] = '"0"'
