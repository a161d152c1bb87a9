"""The tests. Properties run a few hundred examples, the same ones each time.

`PROXYD_FUZZ_EXAMPLES=100000` makes it a long run instead: so many examples per property, new ones each time.
"""

import os
import signal

from hypothesis import HealthCheck, settings

_FUZZ_EXAMPLES = int(os.environ.get("PROXYD_FUZZ_EXAMPLES") or 0)

settings.register_profile(
    "proxyd",
    database=None,
    deadline=None,
    derandomize=not _FUZZ_EXAMPLES,
    max_examples=_FUZZ_EXAMPLES or 200,
    print_blob=bool(_FUZZ_EXAMPLES),
    # A slow machine is no reason to fail, and trial runs tests its own way.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
settings.load_profile("proxyd")

# Children have ignored what we ignore, and whoever runs the tests in the background, or below nohup, has made us so.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL)
