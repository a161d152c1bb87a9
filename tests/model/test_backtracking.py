"""Tests of `proxyd.model.backtracking`: which expressions are refused, and that the others are fast."""

from __future__ import annotations

import re
from time import process_time

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import OptionError
from proxyd.model.backtracking import check_backtracking

LINEAR = (
    r"/ipython/(?P<port>[0-9]+)/api/kernels/(?P<rest>.*)",
    r"/ipython/([0-9]+)/.*",
    r"/u/(?P<user>[^/]+)/(?P<app>[^/]+)/(?P<port>[0-9]+)(/.*)?",
    r"/.*",
    r"/.*/last",
    r"/(?P<path>.*)\.html",
    r"/a(?:bc)*/x",
    r"/(?:ab|cd)/[a-z]{1,8}[a-z]{1,8}/.*",
    r"/(?:[^/]++/)*+end",
    r"/(?>.*/)(?>.*/)x.*",
    r"/[^a-y]+a[^/]*",
    r"/(?:x|[^/]*/)y",
    r"/(?=[^/]*x)y",
    r"/(?:[ab]{2}){2,3}/x",
    r"/(a)?(?(1)b|c)/x",
    r"/\d+/\w+/.*",
    r"/\s*x\W*y\S*",
    r"/[\d]+a",
    r"/(?i:abc)/x",
    r"/(x+)",
    r"/x+y[.,]*;",
    r"/[a-z0-9]+[0-9]+/x",
    r"/(?:.*a)*+(?:.*b)*+x",
)
SLOW = (
    r"/(a+)+x",
    r"/([a-z]*)*x",
    r"/(?:a|ab|b)*x",
    r"/(?:[^/]+/)*[^/]+/x",
    r"/.*a.*b/x",
    r"/.*.*.*x",
    r"/(.*)(.*)x",
    r"/(?:a+){2,9}x",
    r"/(?:a*){50}x",
    r"/(?:.*a.*b)*+x",
    r"/(?=.*a.*b)c",
    r"(?i)/[b-z]+A[b-z]+A/x",
    r"/(a)?(?(1).*b.*|c)/x",
    r"/\D+x\D+y/x",
)


class BacktrackingTests(SynchronousTestCase):
    """By the form of the expression."""

    def test_one_repeat_may_be_gone_back_into(self) -> None:
        """These pass, and take some 100 ms at most on long paths that do not match; others would take hours."""
        for pattern in LINEAR:
            check_backtracking(pattern.encode())
            match = re.compile(pattern.encode()).fullmatch
            for filling in (b"a", b"/", b"a/", b"0", b"ab", b"x", b"9/a"):
                for start in (b"/", b"/ipython/", b"/u/", b"/a"):
                    path = (start + filling * 8192)[:8191] + b"!"
                    began = process_time()
                    match(path)
                    self.assertLess(process_time() - began, 1, (pattern, filling))

    def test_more_is_refused(self) -> None:
        """With words that say what helps."""
        for pattern in SLOW:
            re.compile(pattern.encode())
            with self.assertRaises(OptionError, msg=pattern) as caught:
                check_backtracking(pattern.encode())
            self.assertIn("possessive", str(caught.exception))
