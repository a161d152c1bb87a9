"""The command lines of jhsingle-native-proxy and of `jupyter standaloneproxy`, word by word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.auth.hubsettings import HubAuthConfig
from proxyd.cli.wrap import read
from proxyd.compat.native import OriginHost, WrapSetup, WrapUsageError, split_foreign
from proxyd.core.checkout import Checkout
from proxyd.core.conda import CondaEnvironment
from proxyd.core.templates import names_at, render_pairs, render_words
from proxyd.hub.activity import Activity
from proxyd.listeners.http import HttpConfig, HttpsConfig
from proxyd.model.auth import AnonymousAuthConfig
from proxyd.model.routes import HeaderChanges
from proxyd.model.servers import Place, ServerSpec

TOKEN = "5ecre7"
HUB = {
    "JUPYTERHUB_API_TOKEN": TOKEN,
    "JPY_API_TOKEN": TOKEN,
    "JUPYTERHUB_API_URL": "http://127.0.0.1:8081/hub/api",
    "JUPYTERHUB_SERVICE_PREFIX": "/user/dan/",
    "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:24010/user/dan/",
    "JUPYTERHUB_USER": "dan",
    "JUPYTERHUB_SERVER_NAME": "second",
    "HOME": "/home/dan",
}


def setup_of(*words: str, **changed: str | None) -> WrapSetup:
    """What a command line comes down to under a Hub, whose variables are `changed`, None for one that is not set."""
    environ = {name: value for name, value in (HUB | changed).items() if value is not None}
    return read(list(words), environ, "/srv")


def server(setup: WrapSetup) -> ServerSpec:
    return setup.config.servers[setup.name]


def command(setup: WrapSetup, place: Place | None = None) -> tuple[str, ...]:
    """The words that are run."""
    return render_words(server(setup).command, names_at(place or Place(8501), "/ignored/"), "command")


def exit_status_of(call: Callable[[], object]) -> tuple[object, str]:
    """The status that `call` ends with, None if it does not, and what it prints."""
    printed = StringIO()
    try:
        with redirect_stderr(printed), redirect_stdout(printed):
            call()
    except SystemExit as error:
        return error.code, printed.getvalue()
    return None, printed.getvalue()


class WordTests(SynchronousTestCase):
    """Which words are ours, and which those of the command."""

    def test_options_and_words_may_be_mixed(self) -> None:
        """Until `--`; from there on everything is the command's."""
        for words, expected in (
            (("a", "--port", "8000", "b"), ("a", "b")),
            (("--port=8000", "a", "{--}server.port", "{port}", "--ip", "0.0.0.0"), ("a", "--server.port", "8501")),
            (("--port", "8000", "--", "a", "--ip", "x", "--nope"), ("a", "--ip", "x", "--nope")),
            (("a", "--port", "8000", "--", "--port", "9"), ("a", "--port", "9")),
            (("python", "{-}m", "x"), ("python", "-m", "x")),
            (("--port", "8000", "--", "--"), ("--",)),
        ):
            self.assertEqual(expected, command(setup_of(*words)), words)

    def test_options_of_other_programs_are_ignored(self) -> None:
        """With one warning; behind `--` they are the command's."""
        setup = setup_of(
            "--SingleUserNotebookApp.default_url=/lab", "a", "--ServerApp.x", "--ServerApp.x", "--", "--Voila.y=1"
        )
        self.assertEqual(("a", "--Voila.y=1"), command(setup))
        self.assertEqual(
            ("options of other programs are ignored: --SingleUserNotebookApp.default_url, --ServerApp.x",),
            setup.warnings,
        )
        self.assertEqual((), setup_of("--NotebookApp.allow_origin", "--no-NotebookApp.allow_origin", "a").warnings)
        self.assertEqual((["--lower.case=1", "a"], ["--A.b"]), split_foreign(["--lower.case=1", "--A.b", "a"]))

    def test_what_has_no_effect_is_accepted(self) -> None:
        """Command lines that work today go on working."""
        for word in (
            "--progressive",
            "--no-progressive",
            "--allow-root",
            "--no-allow-root",
            "--aiohttp-no-ssl-connector",
            "--aiohttp-request-timeout=5",
        ):
            self.assertEqual(setup_of("a").config.timeouts, setup_of(word, "a").config.timeouts)

    def test_misuse_is_status_2(self) -> None:
        """Said in words that name what is wrong."""
        for words, said in (
            ((), "command"),
            (("--nope", "a"), "--nope"),
            (("--notebook-dir=x", "a"), "--notebook-dir"),
            (("--port", "x", "a"), "--port"),
            (("--port", "70000", "a"), "--port"),
            (("--authtype", "OAUTH", "a"), "--authtype"),
            (("a", "{nope}"), "'{nope}'"),
            (("a", "{port.__class__}"), "{port.__class__}"),
            (("a", "{}"), "'{}'"),
            (("--ready-timeout", "0", "a"), "more than nothing"),
            (("--ready-timeout", "-1", "a"), "--ready-timeout"),
            (("--request-timeout", "inf", "a"), "--request-timeout"),
            (("--ready-check-path", "x", "a"), "--ready-check-path"),
            (("--websocket-max-message-size", "-1", "a"), "--websocket-max-message-size"),
            (("--repo=--upload-pack=x", "a"), "URL"),
            (("--repo=ext::sh", "a"), "ext::"),
            (("--repo=https://x/y", "--repobranch=-x", "a"), "-x"),
            (("--repo=https://x/y", "--repofolder=-x", "a"), "folder"),
            (("--repofolder=-x", "a"), "--repofolder"),
            (("--conda-env=-x", "a"), "--conda-env"),
            (("--activity-ignore", "(", "a"), "--activity-ignore"),
            (("--environment", "x", "a"), "--environment"),
            (("--environment", "{1: 2}", "a"), "--environment"),
            (("--environment", "{broken", "a"), "--environment"),
            (("--log-level", "loud", "a"), "--log-level"),
            (("--drop-header", "a b", "a"), "a b"),
            (("--frame-ancestors", "x", "a"), "--frame-ancestors"),
        ):
            status, printed = exit_status_of(lambda words=words: setup_of(*words))
            self.assertEqual(2, status, words)
            self.assertIn(said, printed)

    def test_help_and_version_are_no_misuse(self) -> None:
        """Both end with status 0."""
        for word in ("--help", "-h", "--version"):
            self.assertEqual(0, exit_status_of(lambda word=word: setup_of(word))[0])

    def test_without_a_hub_there_is_a_hint(self) -> None:
        """How it is meant to be started, and how to try it at home."""
        status, printed = exit_status_of(lambda: setup_of("a", JUPYTERHUB_API_TOKEN=None, JPY_API_TOKEN=None))
        self.assertEqual(2, status)
        self.assertIn("c.Spawner.cmd", printed)
        self.assertIn("--authtype none", printed)


class TemplateTests(SynchronousTestCase):
    """What the words in braces stand for."""

    def test_all_of_them(self) -> None:
        """The prefix without its slash, the presentation from where we are, the names of user and server."""
        words = (
            "{base_url}/",
            "{presentation_path}",
            "{presentation_dirname}",
            "{presentation_basename}",
            "{username}-{servername}",
            "{{{port}}}",
        )
        for spelling in ("--presentation-path", "--presentation_path"):
            setup = setup_of(*words, f"{spelling}=./talks/P.ipynb")
            self.assertEqual(
                ("/user/dan/", "/srv/talks/P.ipynb", "/srv/talks", "P.ipynb", "dan-second", "{8501}"), command(setup)
            )
        self.assertEqual(("x", ""), command(setup_of("x", "{presentation_dirname}")))
        self.assertEqual(("x", "-"), command(setup_of("x", "{base_url}-", JUPYTERHUB_SERVICE_PREFIX="/")))

    def test_braces_of_values_stay(self) -> None:
        """Nothing is looked up in what was put in."""
        self.assertEqual(("x", "{port}"), command(setup_of("x", "{username}", JUPYTERHUB_USER="{port}")))

    def test_the_public_host_is_known_or_waited_for(self) -> None:
        """That of the Hub first; else the start waits for somebody who was let in."""
        setup = setup_of("x", "{origin_host}", JUPYTERHUB_PUBLIC_URL="https://u@hub.example.org:8443/user/dan/")
        self.assertIsNone(setup.origin)
        self.assertEqual(("x", "hub.example.org:8443"), command(setup))
        setup = setup_of("x", "{origin_host}")
        self.assertFalse(setup.is_eager)
        assert setup.origin is not None
        for host in (None, b"", b"a b", b"a/b", b"a;b", b"x" * 256, b"\xc3\xa9"):
            self.assertFalse(setup.origin.offer(host), host)
        self.assertTrue(setup.origin.offer(b"[::1]:8000"))
        self.assertTrue(setup.origin.offer(b"other"))
        self.assertEqual(("x", "[::1]:8000"), command(setup))
        self.assertTrue(setup_of("x").is_eager)
        self.assertTrue(OriginHost("a").offer(None))

    def test_a_socket_instead_of_a_port(self) -> None:
        """Said by an option, or by the only place that the words ask for."""
        for words, socket in (
            (("x", "--destsocket", "auto"), True),
            (("x", "--unix-socket=True"), True),
            (("x", "--destsocket=/run/x.sock"), "/run/x.sock"),
            (("x", "{unix_socket}"), True),
            (("x", "{unix_socket}", "{port}"), False),
            (("x", "--unix-socket=None"), False),
            (("x",), False),
        ):
            self.assertEqual(socket, server(setup_of(*words)).unix_socket, words)
        self.assertEqual(("x", "/run/s"), command(setup_of("x", "{unix_socket}"), Place(0, "/run/s")))
        self.assertEqual(8505, server(setup_of("x", "--destport", "8505")).port)
        self.assertEqual(8505, server(setup_of("x", "--server-port", "8505")).port)

    def test_conda_runs_the_words(self) -> None:
        """Once its environment is known, whatever braces its path has."""
        setup = setup_of("--conda-env", "one", "x", "{port}")
        self.assertEqual("one", setup.conda_name)
        setup.conda.append(CondaEnvironment("/opt/{x}", "/env"))
        self.assertEqual(("bash", "-c", "source '/opt/{x}/bin/activate' /env && exec x 8501"), command(setup))

    def test_variables_fields_and_paths(self) -> None:
        """As pairs or as a dict of Python; names and values are templates, but not those of paths."""
        setup = setup_of(
            "--environment",
            "A={port}",
            "--environment={'B_{username}': '{base_url}', 'C': '{{'}",
            "--request-headers-override=X-Port=p={port}",
            "--mappath=/=/index.html?a={port}",
            "x",
        )
        names = names_at(Place(8501), "/ignored/")
        spec = server(setup)
        self.assertEqual({"A": "8501", "B_dan": "/user/dan", "C": "{"}, render_pairs(spec.environment, names, ""))
        self.assertEqual({"X-Port": "p=8501"}, render_pairs(spec.request_headers_override, names, ""))
        self.assertEqual({"/": "/index.html?a={port}"}, spec.mappath)


class PlaceTests(SynchronousTestCase):
    """Where it listens."""

    def test_the_address(self) -> None:
        """What is given, else what the Hub says, else the loopback interface; never more than that by itself."""
        rows: tuple[tuple[tuple[str, ...], dict[str, Any], tuple[str, int, str]], ...] = (
            ((), {}, ("127.0.0.1", 24010, "")),
            (("--port", "8000"), {}, ("127.0.0.1", 8000, "")),
            (("--ip", "10.0.0.1"), {}, ("10.0.0.1", 24010, "")),
            (("--address", "10.0.0.1"), {}, ("10.0.0.1", 24010, "")),
            (("--ip", "0.0.0.0"), {}, ("", 24010, "")),
            (("--ip", ""), {}, ("", 24010, "")),
            (("--ip=*",), {}, ("", 24010, "")),
            ((), {"JUPYTERHUB_SERVICE_URL": "http://:8080/x/"}, ("", 8080, "")),
            ((), {"JUPYTERHUB_SERVICE_URL": "http://h/x/"}, ("h", 80, "")),
            ((), {"JUPYTERHUB_SERVICE_URL": "https://h/x/"}, ("h", 443, "")),
            ((), {"JUPYTERHUB_SERVICE_URL": "http://[::1]:99/x/"}, ("::1", 99, "")),
            ((), {"JUPYTERHUB_SERVICE_URL": None}, ("127.0.0.1", 8888, "")),
            ((), {"JUPYTERHUB_SERVICE_URL": "http+unix://%2Frun%2Fx.sock/y/"}, ("127.0.0.1", 8000, "/run/x.sock")),
            (
                ("--port", "8000"),
                {"JUPYTERHUB_SERVICE_URL": "http+unix://%2Frun%2Fx.sock/y/"},
                ("127.0.0.1", 8000, ""),
            ),
        )
        for words, changed, (address, port, socket) in rows:
            (listener,) = setup_of(*words, "a", **changed).config.listeners
            assert isinstance(listener, HttpConfig)
            self.assertEqual((address, port, socket), (listener.address, listener.port, listener.socket), words)
        status, printed = exit_status_of(lambda: setup_of("a", JUPYTERHUB_SERVICE_URL="http://h:x/"))
        self.assertEqual(2, status)
        self.assertIn("JUPYTERHUB_SERVICE_URL", printed)

    def test_the_prefix(self) -> None:
        """With or without a slash at its end; an option wins."""
        for words, changed, prefix in (
            ((), {}, "/user/dan/"),
            ((), {"JUPYTERHUB_SERVICE_PREFIX": "/user/dan"}, "/user/dan/"),
            ((), {"JUPYTERHUB_SERVICE_PREFIX": None}, "/"),
            (("--base-url", "/x"), {}, "/x/"),
            (("--base-url", ""), {}, "/"),
            (("--base-url", "/ü x%20"), {}, "/%C3%BC%20x%20/"),
            ((), {"JUPYTERHUB_SERVICE_PREFIX": "/user/ü"}, "/user/%C3%BC/"),
        ):
            self.assertEqual(prefix, setup_of(*words, "a", **changed).config.base_url)  # type: ignore[arg-type]

    def test_internal_tls(self) -> None:
        """All three files: TLS, for clients with a certificate of the Hub's only."""
        files = {"JUPYTERHUB_SSL_KEYFILE": "k", "JUPYTERHUB_SSL_CERTFILE": "c", "JUPYTERHUB_SSL_CLIENT_CA": "ca"}
        (listener,) = setup_of("a", **files).config.listeners
        assert isinstance(listener, HttpsConfig)
        self.assertEqual("required", listener.client_certificates)
        self.assertEqual(("c", "k"), (listener.certificates[0].certificate, listener.certificates[0].key))
        self.assertEqual("ca", listener.client_ca)


class SettingTests(SynchronousTestCase):
    """Everything else that an option changes."""

    def test_who_may_come_in(self) -> None:
        """Whom the Hub lets, unless nobody is asked; then forged information about visitors is removed as well."""
        self.assertEqual(HubAuthConfig(), setup_of("a").config.auth)
        auth = setup_of("--forward-user-info", "--query-user-info", "a").config.auth
        self.assertEqual(HubAuthConfig(forward_user_info=True, query_user_info=True), auth)
        self.assertEqual(("*",), server(setup_of("a")).allow_origin)  # the login looks at it
        for word in ("--authtype=none", "--no-authentication"):
            setup = setup_of(word, "a", JUPYTERHUB_API_TOKEN=None, JPY_API_TOKEN=None)
            self.assertEqual(AnonymousAuthConfig(remove_user_info=True), setup.config.auth)
            self.assertTrue(setup.config.allow_anonymous)
            self.assertEqual((), server(setup).allow_origin)

    def test_activity(self) -> None:
        """Forced by default; both names of each option."""
        activity = setup_of("a").config.activity
        self.assertEqual((None, True), (activity.interval, activity.force_alive))
        for words, force in (
            (("--force-alive",), True),
            (("--no-force-alive",), False),
            (("--force-keep-alive",), True),
            (("--no-force-keep-alive",), False),
            (("--no-force-alive", "--force-keep-alive"), True),
        ):
            self.assertEqual(force, setup_of(*words, "a").config.activity.force_alive, words)
        for word in ("--last-activity-interval=60", "--activity-interval=60"):
            self.assertEqual(60, setup_of(word, "a").config.activity.interval)

    def test_what_is_no_activity(self) -> None:
        """The patterns are for the beginning of the path, with the prefix or as the application sees it."""
        words = ("--activity-ignore=.*/poll$", "--activity-ignore", "/_stcore/health", "a", "--activity-ignore=/user/x")
        for prefix, inside in (("/user/dan/", "/user/dan"), ("/user/d.n+x@e.org/", "/user/d.n+x@e.org"), ("/", "")):
            ignored = setup_of(*words, JUPYTERHUB_SERVICE_PREFIX=prefix).config.activity.ignore
            activity = Activity(lambda: 1.0, ignored)
            for path, counts in (
                ("/_stcore/health", False),
                ("/_stcore/healthy", False),
                ("/a/b/poll", False),
                ("/a/b/polls", True),
                ("/x/_stcore/health", True),
                ("/", True),
            ):
                self.assertEqual(counts, activity.touch_of(f"{inside}{path}".encode()) is not None, (prefix, path))
        self.assertIsNotNone(activity.touch_of(b"/user/dan/_stcore/health"))
        self.assertIsNone(activity.touch_of(b"/user/x/y"))
        listed = setup_of(
            "--exclude-last-activity-patterns=['/a', '/b']", "--activity-ignore=[cd]", "a"
        ).config.activity
        self.assertEqual(["/a", "/b", "[cd]"], [pattern.split("(?:")[2][:-3] for pattern in listed.ignore])

    def test_waits_and_sizes(self) -> None:
        """The limits of requests, of the start, and of messages."""
        setup = setup_of("a")
        self.assertEqual((300, 300), (setup.config.timeouts.response, setup.config.timeouts.idle))
        self.assertEqual((10, "/"), (server(setup).ready_seconds, server(setup).ready.path))
        self.assertIsNone(setup.config.route_defaults.websocket)
        setup = setup_of(
            "--request-timeout=5",
            "--ready-timeout=20.5",
            "--ready-check-path=/ok",
            "--websocket-max-message-size=9",
            "a",
        )
        self.assertEqual((5, 5), (setup.config.timeouts.response, setup.config.timeouts.idle))
        self.assertEqual((20.5, "/ok"), (server(setup).ready_seconds, server(setup).ready.path))
        websocket: Any = setup.config.route_defaults.websocket
        self.assertEqual(9, websocket.max_message_size)
        self.assertEqual(3, server(setup_of("--timeout=3", "a")).ready_seconds)

    def test_who_the_client_is(self) -> None:
        """The proxy of the Hub has said so, and it stays; without a Hub, we say it."""
        self.assertEqual("off", setup_of("a").config.route_defaults.x_forwarded)
        self.assertIsNone(setup_of("a", JUPYTERHUB_SERVICE_URL=None).config.route_defaults.x_forwarded)

    def test_fields_and_frames(self) -> None:
        """What the application does not get, and who may frame its pages."""
        defaults = setup_of("a").config.route_defaults
        self.assertEqual((None, None), (defaults.request_headers, defaults.response_headers))
        for value, field in (("self", "SAMEORIGIN"), ("none", "DENY")):
            words = ("--drop-header=X-Forwarded-For", "--drop-header=X-B", f"--frame-ancestors={value}", "a")
            defaults = setup_of(*words).config.route_defaults
            self.assertEqual(HeaderChanges(remove=("X-Forwarded-For", "X-B")), defaults.request_headers)
            self.assertEqual(HeaderChanges(set={"X-Frame-Options": field}), defaults.response_headers)

    def test_logs(self) -> None:
        """Switches, a level by name or number, and the Hub's own wish."""
        for words, changed, level in (
            ((), {}, "info"),
            (("--debug",), {}, "debug"),
            (("--no-logs",), {}, "warn"),
            ((), {"JUPYTERHUB_DEBUG": "1"}, "debug"),
            (("--log-level=30",), {}, "warn"),
            (("--log-level=ERROR",), {}, "error"),
        ):
            log = setup_of(*words, "a", **changed).config.log  # type: ignore[arg-type]
            self.assertEqual(level, log.level)
            self.assertEqual("off" if level in {"warn", "error"} else "combined", log.access)

    def test_the_checkout(self) -> None:
        """What is checked out, and that the command runs there; a folder alone is where it runs."""
        self.assertIsNone(setup_of("a").checkout)
        self.assertEqual("/srv", server(setup_of("a")).cwd)
        setup = setup_of("--repo=https://x/app.git", "a")
        self.assertEqual(Checkout("https://x/app.git", "app", "", 1), setup.checkout)
        self.assertEqual("/srv/app", server(setup).cwd)
        setup = setup_of("--repo=/r", "--repobranch=b", "--repofolder=/f", "a", NBGITPULLER_DEPTH="-1")
        self.assertEqual(Checkout("/r", "/f", "b", 0), setup.checkout)
        self.assertEqual("/f", server(setup).cwd)
        setup = setup_of("--repofolder=sub", "a")
        self.assertIsNone(setup.checkout)
        self.assertEqual("/srv/sub", server(setup).cwd)
        self.assertEqual(2, exit_status_of(lambda: setup_of("--repo=/r", "a", NBGITPULLER_DEPTH="x"))[0])

    def test_the_folder_of_the_hub(self) -> None:
        """It is where the command runs when nothing else is said."""
        self.assertEqual("/home/dan/n", server(setup_of("a", JUPYTERHUB_ROOT_DIR="~/n")).cwd)
        self.assertEqual("/srv/n", server(setup_of("a", JUPYTERHUB_ROOT_DIR="n")).cwd)

    def test_the_token_is_nobody_elses(self) -> None:
        """It is not in the environment of the command, and nowhere printed; names of user and server are there."""
        setup = setup_of("--repo", "https://dan:hunter2@x/app", "--", "a", TOKEN, "https://u:p4ss@y/")
        for name in ("JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN", "JUPYTERHUB_SSL_KEYFILE"):
            self.assertNotIn(name, setup_of("a", JUPYTERHUB_SSL_KEYFILE="k").environ)
        self.assertEqual(("dan", "second"), _names(setup.environ))
        printed = "\n".join(setup.prints)
        for secret in (TOKEN, "hunter2", "p4ss"):
            self.assertNotIn(secret, printed)
        for fact in ("127.0.0.1", "24010", "/user/dan/", "oauth", "a ***"):
            self.assertIn(fact, printed)
        self.assertEqual(TOKEN, setup_of("--pass-hub-token", "a").environ["JUPYTERHUB_API_TOKEN"])

    def test_forced_activity_is_told(self) -> None:
        """It keeps the Hub from culling a server that nobody uses, which surprises people; no service is told of."""
        url = "http://127.0.0.1:8081/hub/api/users/dan/activity"
        for word in ("--force-alive", "--authtype=none"):
            said = "\n".join(setup_of(word, "a", JUPYTERHUB_ACTIVITY_URL=url).prints)
            self.assertIn("--no-force-alive", said)
            self.assertNotIn("--no-force-alive", "\n".join(setup_of(word, "a").prints))
        for word in ("--no-force-alive", "--last-activity-interval=0"):
            said = "\n".join(setup_of(word, "a", JUPYTERHUB_ACTIVITY_URL=url).prints)
            self.assertNotIn("--no-force-alive", said)

    def test_the_landing_page(self) -> None:
        """Only who asks for it is redirected."""
        self.assertEqual("", setup_of("a", JUPYTERHUB_DEFAULT_URL="/lab").config.default_url)
        self.assertEqual("/lab", setup_of("--use-default-url", "a", JUPYTERHUB_DEFAULT_URL="/lab").config.default_url)

    def test_nothing_else_is_served(self) -> None:
        """No REST API, no health checks, no pages beside the application, whose name is that of its program."""
        setup = setup_of("/usr/bin/voila", "x")
        config = setup.config
        self.assertEqual("voila", config.root_server)
        self.assertIsNone(config.api)
        self.assertEqual(("", ""), (config.health.live, config.health.ready))
        self.assertEqual("application", setup_of("../..").name)

    def test_an_empty_command_is_an_error(self) -> None:
        """Not a crash."""
        self.assertEqual(2, exit_status_of(lambda: setup_of("--", ""))[0])
        self.assertTrue(issubclass(WrapUsageError, Exception))


def _names(environ: Mapping[str, str]) -> tuple[str, str]:
    return environ["JUPYTERHUB_USER"], environ["JUPYTERHUB_SERVER_NAME"]
