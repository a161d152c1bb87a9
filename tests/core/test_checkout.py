"""Git checkouts, decided without any git."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.checkout import Checkout, CheckoutError, Found, Free, Git, Rename, Step, aside, folder_of, masked
from proxyd.errors import ProxydError

URL = "https://example.org/team/app.git"
FAULT = "a fault"
DIFF, UNTRACKED, DELETED, STATUS = "diff", "ls-files --others", "ls-files --deleted", "status"
WORK = {"rev-list": "0123abc\n"}
"""Somebody has committed something here."""


def play(
    checkout: Checkout,
    found: Found,
    answers: Mapping[str, str | None] | None = None,
    taken: list[Step] | None = None,
) -> list[Step]:
    """All steps, when git prints the `answers` to the commands that begin so, and nothing to others.

    They are also in `taken`, for when there is an error.
    """
    steps = checkout.steps(found)
    taken = [] if taken is None else taken
    answer: str | None = None
    try:
        step = next(steps)
        while True:
            taken.append(step)
            said = " ".join(step.words) if isinstance(step, Git) else ""
            answer = next((text for words, text in (answers or {}).items() if said.startswith(words)), "")
            step = steps.throw(ProxydError(said)) if answer == FAULT else steps.send(answer)
    except StopIteration:
        return taken


def lines(steps: list[Step]) -> list[str]:
    """The steps, without who commits, as text."""
    words = [" ".join(step.words) if isinstance(step, Git) else str(step) for step in steps]
    return [
        word.replace("-c user.name=proxyd -c user.email=proxyd@localhost -c commit.gpgsign=false ", "")
        for word in words
    ]


class CloneTests(SynchronousTestCase):
    """There is nothing yet."""

    def test_one_command_clones(self) -> None:
        """Options first, then `--`, then what somebody has typed into a form."""
        for checkout, line in (
            (Checkout(URL, "app"), f"clone --depth 1 --no-single-branch -- {URL} app"),
            (Checkout(URL, "app", "dev", 0), f"clone --branch dev --no-single-branch -- {URL} app"),
        ):
            steps = play(checkout, Found.NOTHING)
            self.assertEqual([line], lines(steps))
            self.assertIsInstance(steps[0], Git)
            self.assertTrue(getattr(steps[0], "outside", False))

    def test_somebody_elses_folder_is_left_alone(self) -> None:
        """It is an error."""
        self.assertRaises(CheckoutError, play, Checkout(URL, "app"), Found.SOMETHING)


class UpdateTests(SynchronousTestCase):
    """There is a repository."""

    def test_the_order_of_things(self) -> None:
        """Fetch, lock, move aside, restore, commit, change the branch, merge: work of the user is never lost."""
        answers = {
            DIFF: "new.txt\0dir/deep/file\0other\0",
            UNTRACKED: "dir\0new.txt\0mine\0",
            DELETED: "gone.txt\0",
            STATUS: " M changed\n",
        }
        upstream = "refs/remotes/origin/dev"
        self.assertEqual(
            [
                "rev-list -n 1 HEAD --branches --not --remotes=origin",
                "fetch origin",
                "Free()",
                "rev-parse --verify --quiet HEAD",
                f"diff --name-only --diff-filter=A --no-renames -z HEAD {upstream}",
                "ls-files --others -z",
                "Rename(path='dir')",
                "Rename(path='new.txt')",
                "ls-files --deleted -z",
                f"checkout {upstream} -- gone.txt",
                "status --porcelain --untracked-files=no",
                "commit --no-verify --allow-empty -a -m Keep local changes before an update",
                "checkout dev --",
                f"merge --no-verify -Xours -m Merge an update {upstream}",
            ],
            lines(play(Checkout(URL, "app", "dev"), Found.REPOSITORY, answers)),
        )

    def test_a_clone_that_was_cut_off(self) -> None:
        """It is completed, and what lies in the way gets another name."""
        tree, upstream = "4b825dc642cb6eb9a060e54bf8d69288fbee4904", "refs/remotes/origin/dev"
        answers = {"rev-parse": None, "diff": "a\0", UNTRACKED: "a\0"}
        self.assertEqual(
            [
                f"diff --name-only --diff-filter=A --no-renames -z {tree} {upstream}",
                "ls-files --others -z",
                "Rename(path='a')",
                f"checkout -B dev {upstream} --",
            ],
            lines(play(Checkout(URL, "app", "dev"), Found.REPOSITORY, answers))[4:],
        )

    def test_the_remote_is_followed_where_nobody_has_worked(self) -> None:
        """Whatever has become of its history. What was committed or changed here is merged, and so is what may be."""
        follow, merge = "checkout -B dev refs/remotes/origin/dev --", "checkout dev --"
        for answers, expected in (
            ({}, follow),
            (WORK, merge),
            ({STATUS: " M a\n"}, merge),
            ({"rev-list": None}, merge),
        ):
            steps = lines(play(Checkout(URL, "app", "dev"), Found.REPOSITORY, answers))
            self.assertEqual([expected], [step for step in steps if step in (follow, merge)], answers)
        taken: list[Step] = []
        self.assertRaises(
            ProxydError, play, Checkout(URL, "app", "dev"), Found.REPOSITORY, {"checkout -B": FAULT}, taken
        )
        self.assertEqual("reset --hard", lines(taken)[-1])

    def test_a_merge_that_fails(self) -> None:
        """Ours stays where both sides have changed something; whatever else it is, nothing is left half written."""
        merge = "-c user.name=proxyd -c user.email=proxyd@localhost -c commit.gpgsign=false merge"
        checkout = Checkout(URL, "app", "dev")
        steps = lines(
            play(checkout, Found.REPOSITORY, {**WORK, merge: None, "diff --name-only --diff-filter=U": "a\0b\0"})
        )
        self.assertEqual(
            ["diff --name-only --diff-filter=U -z", "add --all -- a b", "commit --no-verify --no-edit"], steps[-3:]
        )
        for answers in ({merge: None}, {"checkout dev": FAULT}, {merge: FAULT}):
            taken: list[Step] = []
            self.assertRaises(ProxydError, play, checkout, Found.REPOSITORY, {**WORK, **answers}, taken)
            self.assertEqual("reset --hard", lines(taken)[-1], answers)

    def test_nothing_is_committed_when_nothing_was_changed(self) -> None:
        """There are no empty commits."""
        steps = play(Checkout(URL, "app", "dev"), Found.REPOSITORY)
        self.assertFalse([line for line in lines(steps) if "commit" in line.split()])
        self.assertIn(Free(), steps)
        self.assertFalse([step for step in steps if isinstance(step, Rename)])

    def test_without_a_branch_it_is_the_remotes_own(self) -> None:
        """Whatever it is called; who does not say it is asked to."""
        steps = lines(play(Checkout(URL, "app"), Found.REPOSITORY, {**WORK, "symbolic-ref": "origin/trunk\n"}))
        self.assertEqual(["remote set-head origin --auto", "symbolic-ref --short refs/remotes/origin/HEAD"], steps[2:4])
        self.assertIn("checkout trunk --", steps)
        self.assertRaises(CheckoutError, play, Checkout(URL, "app"), Found.REPOSITORY, {"symbolic-ref": None})


class SafetyTests(SynchronousTestCase):
    """URL, branch and folder come from forms."""

    def test_what_git_would_take_for_something_else_is_refused(self) -> None:
        """Options, transports that run commands, line ends."""
        for url, folder, branch in (
            ("--upload-pack=x", "app", ""),
            ("-x", "app", ""),
            ("", "app", ""),
            ("ext::sh -c x", "app", ""),
            ("https://x/\ny", "app", ""),
            (URL, "-app", ""),
            (URL, "", ""),
            (URL, "a\0b", ""),
            (URL, "app", "-b"),
            (URL, "app", "--orphan"),
            (URL, "app", "a..b"),
            (URL, "app", "a b"),
            (URL, "app", "a~1"),
            (URL, "app", "@{u}"),
            (URL, "app", "x.lock"),
        ):
            self.assertRaises(CheckoutError, Checkout, url, folder, branch)
        for branch in ("main", "feature/x-1", "v1.0", "käse"):
            self.assertEqual(branch, Checkout(URL, "app", branch).branch)

    def test_credentials_are_masked(self) -> None:
        """In commands, and in whatever git says."""
        secret = "https://dan:hunter2@example.org/app"
        self.assertEqual("git clone -- https://***@example.org/app x", str(Git(("clone", "--", secret, "x"))))
        self.assertEqual("fatal: 'https://***@example.org/app' x@y", masked(f"fatal: '{secret}' x@y"))
        self.assertEqual("https://***@h/x@y, ssh://***@h", masked("https://dan:p@ss@h/x@y, ssh://git@h"))
        error = self.assertRaises(CheckoutError, Checkout, secret + "\n", "app")
        self.assertNotIn("hunter2", str(error))

    def test_a_file_is_kept_under_another_name(self) -> None:
        """The time stands before its extension."""
        for path, kept in (
            ("a.txt", "a__T.txt"),
            ("d/a.tar.gz", "d/a.tar__T.gz"),
            ("d.x/noext", "d.x/noext__T"),
            (".hidden", ".hidden__T"),
        ):
            self.assertEqual(kept, aside(path, "T"))

    def test_the_folder_is_the_one_that_git_would_choose(self) -> None:
        """And never one outside."""
        for url, folder in (
            (URL, "app"),
            ("git@host:app.git", "app"),
            ("/srv/app/", "app"),
            ("https://x/..", "repository"),
            ("https://x/.git", "repository"),
        ):
            self.assertEqual(folder, folder_of(url))
