"""Tests of what a command line of configurable-http-proxy comes down to."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.compat.chp import ChpOptions, ChpSetup, ChpUsageError, set_up
from proxyd.listeners.http import HttpConfig, HttpsConfig
from proxyd.listeners.redirect import RedirectConfig
from proxyd.model.routes import RouteOptions
from proxyd.model.settings import ApiSettings, MemoryStoreConfig, MetricsSettings
from proxyd.model.tls import UpstreamTlsSettings
from proxyd.model.upstream import Upstream
from proxyd.stores.storage import StorageClassConfig


class SetUpCase(SynchronousTestCase):
    """Sets up, and looks at the parts."""

    def set_up(self, environ: dict[str, str] | None = None, **options: Any) -> ChpSetup:
        return set_up(ChpOptions(**options), environ or {})

    def listener(self, **options: Any) -> HttpConfig:
        (listener,) = self.set_up(**options).config.listeners
        assert isinstance(listener, HttpConfig)
        return listener

    def api(self, environ: dict[str, str] | None = None, **options: Any) -> ApiSettings:
        api = self.set_up(environ, **options).config.api
        assert api is not None
        return api

    def route_options(self, **options: Any) -> RouteOptions:
        return self.set_up(**options).config.route_defaults

    def assert_misuse(self, words: str, **options: Any) -> None:
        with self.assertRaises(ChpUsageError) as caught:
            self.set_up(**options)
        self.assertIn(words, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))


class ListeningTests(SetUpCase):
    """Addresses and ports."""

    def test_all_interfaces_are_the_default(self) -> None:
        """Port 8000 of all addresses for clients, port 8001 of localhost for the REST API."""
        self.assertEqual((self.listener().address, self.listener().port), ("", 8000))
        self.assertEqual((self.api().address, self.api().port), ("localhost", 8001))

    def test_empty_and_star_mean_all_interfaces(self) -> None:
        """On both sides."""
        for address in ("", "*"):
            self.assertEqual(self.listener(ip=address).address, "")
            self.assertEqual(self.api(api_ip=address).address, "")
        self.assertEqual(self.listener(ip="192.0.2.1").address, "192.0.2.1")
        self.assertEqual(self.api(api_ip="::1").address, "::1")

    def test_a_star_is_warned_about(self) -> None:
        """The warning names it, and what to write instead; the other ways are not warned about."""
        (warning,) = self.set_up(ip="*").warnings
        for word in ("*", "0.0.0.0", "''"):
            self.assertIn(word, warning)
        for address in ("", "0.0.0.0", None):
            self.assertEqual(self.set_up(ip=address).warnings, ())

    def test_port_0_is_the_default(self) -> None:
        """Node takes it for not given; no free port is chosen."""
        self.assertEqual(self.listener(port=0).port, 8000)
        self.assertEqual(self.api(port=0, api_port=0).port, 8001)

    def test_the_api_is_on_the_next_port(self) -> None:
        """Unless it has one of its own."""
        self.assertEqual(self.api(port=9000).port, 9001)
        self.assertEqual(self.api(port=9000, api_port=7000).port, 7000)

    def test_sockets_take_the_place_of_ports(self) -> None:
        """On either side; the API then stays where it is."""
        self.assertEqual(self.listener(socket="/run/s").socket, "/run/s")
        self.assertEqual(self.api(socket="/run/s").port, 8001)
        self.assertEqual(self.api(api_socket="/run/a").socket, "/run/a")

    def test_a_socket_and_a_port_are_too_much(self) -> None:
        """Only what was given conflicts; the default does not."""
        for side, other in (("", "socket"), ("api_", "api_socket")):
            for place, value in ((f"{side}ip", "127.0.0.1"), (f"{side}ip", ""), (f"{side}port", 8000)):
                self.assert_misuse(f"--{other.replace('_', '-')}", **{other: "/run/s", place: value})

    def test_a_port_that_there_is_not_is_refused(self) -> None:
        """At once, and not when it is to be opened."""
        for port in (-1, 65536, 10**9):
            self.assert_misuse("--port", port=port)
            self.assert_misuse("--api-port", api_port=port)

    def test_the_last_port_has_no_next_one(self) -> None:
        """Then the API needs a port of its own."""
        self.assert_misuse("--api-port", port=65535)
        self.assertEqual(self.api(port=65535, api_port=65534).port, 65534)


class EnvironmentTests(SetUpCase):
    """The token."""

    def test_the_token_comes_from_the_environment(self) -> None:
        """And nothing is said about it."""
        setup = self.set_up({"CONFIGPROXY_AUTH_TOKEN": "hunter2"})
        assert setup.config.api is not None
        self.assertEqual((setup.config.api.token, setup.config.api.open), ("hunter2", False))
        self.assertEqual((setup.warnings, setup.notes), ((), ()))

    def test_without_a_token_the_api_is_open(self) -> None:
        """An empty one is none, and nobody makes one; the API itself warns of it."""
        for environ in ({}, {"CONFIGPROXY_AUTH_TOKEN": ""}):
            setup = self.set_up(environ)
            assert setup.config.api is not None
            self.assertEqual((setup.config.api.token, setup.config.api.open), ("", True))
            self.assertEqual(setup.warnings, ())

    def test_other_variables_are_none_of_its_business(self) -> None:
        """The native proxy's token does not close the API of the other one half-way."""
        self.assertTrue(self.api({"PROXYD_CONFIG": "x"}).open)


class MetricsTests(SetUpCase):
    """`--metrics-ip`, `--metrics-port` and `--metrics-socket`."""

    def test_there_are_none_without_a_port_or_a_socket(self) -> None:
        """Nothing listens, and nothing is counted."""
        for given in ({}, {"metrics_ip": "192.0.2.1"}, {"metrics_port": 0}, {"metrics_socket": ""}):
            self.assertEqual(self.set_up(**given).config.metrics, MetricsSettings(enabled=False), given)

    def test_a_port_is_on_all_interfaces(self) -> None:
        """Unless there is an address; the names are those of the original."""
        for ip, address in ((None, ""), ("", ""), ("*", ""), ("127.0.0.1", "127.0.0.1")):
            metrics = self.set_up(metrics_ip=ip, metrics_port=9200).config.metrics
            self.assertEqual((metrics.address, metrics.port, metrics.names), (address, 9200, "chp"))

    def test_a_socket_is_alone(self) -> None:
        """With an address or a port beside it, it is misuse."""
        metrics = self.set_up(metrics_socket="/run/m").config.metrics
        self.assertEqual((metrics.socket, metrics.port, metrics.names), ("/run/m", None, "chp"))
        self.assert_misuse("metrics-socket", metrics_socket="/run/m", metrics_port=9200)
        self.assert_misuse("metrics-socket", metrics_socket="/run/m", metrics_ip="")
        self.assert_misuse("--metrics-port", metrics_port=65536)


class RoutingTests(SetUpCase):
    """Routes and what they do."""

    def test_the_defaults_are_those_of_configurable_http_proxy(self) -> None:
        """The prefix stays, the target's path goes in front, X-Forwarded-* are appended, and Host stays."""
        options = self.route_options()
        self.assertEqual(
            (options.strip_prefix, options.prepend_path, options.x_forwarded, options.change_origin),
            (False, True, "append", False),
        )
        assert options.rewrite_location is not None
        self.assertEqual((options.rewrite_location.host, options.rewrite_location.scheme), (False, ""))
        self.assertFalse(self.set_up().config.host_routing)

    def test_every_switch_has_its_effect(self) -> None:
        """One by one."""
        self.assertTrue(self.route_options(include_prefix=False).strip_prefix)
        self.assertFalse(self.route_options(prepend_path=False).prepend_path)
        self.assertEqual(self.route_options(x_forward=False).x_forwarded, "off")
        self.assertTrue(self.route_options(change_origin=True).change_origin)
        self.assertTrue(self.set_up(host_routing=True).config.host_routing)
        rewrite = self.route_options(auto_rewrite=True, protocol_rewrite="https").rewrite_location
        assert rewrite is not None
        self.assertEqual((rewrite.host, rewrite.scheme), (True, "https"))

    def test_rewriting_is_noted(self) -> None:
        """In words that tools look for."""
        setup = self.set_up(auto_rewrite=True, protocol_rewrite="https", change_origin=True)
        for words in ("AutoRewrite", "ProtocolRewrite", "Change Origin"):
            self.assertIn(words, " ".join(setup.notes))

    def test_the_default_target_is_a_route(self) -> None:
        """It is in the table from the start, as if it had been posted."""
        (route,) = self.set_up(default_target="http://h:9000/p").routes
        self.assertEqual((route.key, route.segments, route.host), ("/", (), ""))
        self.assertEqual(route.upstream, Upstream.parse("http://h:9000/p"))
        self.assertEqual(route.members, "")
        self.assertEqual(self.set_up().routes, ())
        self.assertEqual(self.set_up(default_target="").routes, ())

    def test_a_target_that_nobody_can_reach_is_refused(self) -> None:
        """With the option's name."""
        for url in ("h:80", "ftp://h", "http://", "/path"):
            self.assert_misuse("--default-target", default_target=url)
            self.assert_misuse("--error-target", error_target=url)

    def test_routes_of_the_api_keep_all_members(self) -> None:
        """They are no options here: what is posted is stored and answered, and nothing else."""
        self.assertEqual(self.api().route_options, "verbatim")


class StoreTests(SetUpCase):
    """`--storage-backend`."""

    def test_routes_are_kept_in_memory(self) -> None:
        """Unless a class is named."""
        for name in (None, ""):
            self.assertEqual(self.set_up(storage_backend=name).config.store, MemoryStoreConfig())

    def test_a_class_gets_the_options_that_were_given(self) -> None:
        """As text, under their names; never the token."""
        setup = self.set_up(
            {"CONFIGPROXY_AUTH_TOKEN": "hunter2"},
            storage_backend="p.m:C",
            port=9000,
            host_routing=True,
            include_prefix=False,
            custom_header=("A: b", "C: d"),
        )
        given = {
            "storage_backend": "p.m:C",
            "port": "9000",
            "host_routing": "true",
            "include_prefix": "false",
            "custom_header": "A: b\nC: d",
        }
        self.assertEqual(setup.config.store, StorageClassConfig(path="p.m:C", options=given))

    def test_what_names_no_class_is_refused(self) -> None:
        """Before anything is looked for."""
        self.assert_misuse("--storage-backend", storage_backend="redis")


class CustomHeaderTests(SetUpCase):
    """`--custom-header`."""

    def headers(self, *given: str) -> dict[str, str]:
        options = self.route_options(custom_header=given)
        assert options.request_headers is not None
        self.assertIsNone(options.response_headers)
        return dict(options.request_headers.set or {})

    def test_a_header_is_split_at_the_first_colon(self) -> None:
        """Both sides are trimmed; the value may be empty or hold colons."""
        for given, name, value in (
            ("X-A: b", "X-A", "b"),
            ("X-A:b", "X-A", "b"),
            ("  X-A  :  b c  ", "X-A", "b c"),
            ("X-A: http://h:80", "X-A", "http://h:80"),
            ("X-A:", "X-A", ""),
            ("X-A: ", "X-A", ""),
        ):
            self.assertEqual(self.headers(given), {name: value})

    def test_headers_add_up(self) -> None:
        """Of a name that comes again, in whatever case, the last one holds."""
        self.assertEqual(self.headers("A: 1", "B: 2"), {"A": "1", "B": "2"})
        self.assertEqual(self.headers("X-A: 1", "B: 2", "x-a: 3"), {"B": "2", "x-a": "3"})
        self.assertEqual(self.headers(), {})

    def test_a_header_has_a_colon_and_a_name(self) -> None:
        """The message says so."""
        for header in ("", "x", ": x", "  : x", ":"):
            self.assert_misuse("colon", custom_header=("A: b", header))

    def test_a_header_that_would_break_requests_is_refused(self) -> None:
        """Names that are none, framing, and control characters in values."""
        for header in ("X Y: a", "Transfer-Encoding: chunked", "Content-Length: 5", "X: a\r\nY: b", "X: \u20ac"):
            self.assert_misuse("--custom-header", custom_header=(header,))

    def test_forwarded_fields_and_host_may_be_replaced(self) -> None:
        """Operators of JupyterHub behind another proxy need that."""
        self.assertEqual(
            self.headers("X-Forwarded-Proto: https", "Host: h"), {"X-Forwarded-Proto": "https", "Host": "h"}
        )


class ErrorTests(SetUpCase):
    """Error pages."""

    def test_pages_come_from_a_directory_or_a_target(self) -> None:
        """Every fault of an upstream is a 503."""
        self.assertEqual(self.set_up(error_path="/pages").config.errors.directory, "/pages")
        self.assertEqual(self.set_up(error_target="http://h/e").config.errors.target, "http://h/e")
        self.assertEqual(self.set_up().config.errors.statuses, "chp")

    def test_both_are_one_too_many(self) -> None:
        """An error that names both."""
        self.assert_misuse("error-target and error-path", error_path="/pages", error_target="http://h")


class TimeTests(SetUpCase):
    """Times, in milliseconds."""

    def test_silence_has_no_limit_by_default(self) -> None:
        """Only connections between two requests have: five seconds."""
        timeouts = self.set_up().config.timeouts
        self.assertEqual((timeouts.client_idle, timeouts.response, timeouts.idle, timeouts.keep_alive), (0, 0, 0, 5))
        self.assertGreater(timeouts.connect, 0)

    def test_times_are_milliseconds(self) -> None:
        """Each option has its wait."""
        timeouts = self.set_up(timeout=1500, proxy_timeout=2500, keep_alive_timeout=500).config.timeouts
        self.assertEqual(timeouts.client_idle, 1.5)
        self.assertEqual((timeouts.connect, timeouts.response, timeouts.idle), (2.5, 2.5, 2.5))
        self.assertEqual(timeouts.keep_alive, 0.5)

    def test_0_is_the_default(self) -> None:
        """As in the original: no limit, but for connections between two requests."""
        self.assertEqual(
            self.set_up(timeout=0, proxy_timeout=0, keep_alive_timeout=0).config.timeouts, self.set_up().config.timeouts
        )

    def test_pauses_are_long(self) -> None:
        """Whoever pauses a download, or an upload, for some minutes goes on with it."""
        self.assertGreaterEqual(self.set_up().config.timeouts.body_idle, 3600)

    def test_time_does_not_run_backwards(self) -> None:
        """A negative time is refused."""
        for name in ("timeout", "proxy_timeout", "keep_alive_timeout"):
            self.assert_misuse(f"--{name.replace('_', '-')}: ", **{name: -1})


class ProcessTests(SetUpCase):
    """The process and its log."""

    def test_levels_are_known_in_any_case(self) -> None:
        """debug, info, warn and error; info is the default."""
        self.assertEqual(self.set_up().config.log.level, "info")
        for level in ("debug", "info", "warn", "error"):
            for word in (level, level.upper(), level.title()):
                self.assertEqual(self.set_up(log_level=word).config.log.level, level)

    def test_an_unknown_level_is_refused(self) -> None:
        """It would silence everything in the original."""
        for level in ("loud", "", "warning", "5"):
            self.assert_misuse("--log-level", log_level=level)

    def test_the_log_is_that_of_configurable_http_proxy(self) -> None:
        """Its form, and no line for each request."""
        log = self.set_up().config.log
        self.assertEqual((log.format, log.access), ("chp", "off"))

    def test_the_pid_file_is_passed_on(self) -> None:
        """As it was written: it counts from the working directory."""
        self.assertEqual(self.set_up(pid_file="p.pid").config.pid_file, "p.pid")
        self.assertEqual(self.set_up().config.pid_file, "")

    def test_there_is_one_health_check(self) -> None:
        """`/_chp_healthz`, and no readiness."""
        health = self.set_up().config.health
        self.assertEqual((health.live, health.ready), ("/_chp_healthz", ""))

    def test_the_end_does_not_wait(self) -> None:
        """JupyterHub kills its proxy one second later."""
        self.assertEqual(self.set_up().config.drain_seconds, 0)


class TlsTests(SetUpCase):
    """TLS of the listeners, and towards targets."""

    def tls(self, environ: dict[str, str] | None = None, **options: Any) -> HttpsConfig:
        """The public listener."""
        (listener,) = self.set_up(environ, **{"ssl_key": "k", "ssl_cert": "c", **options}).config.listeners
        assert isinstance(listener, HttpsConfig)
        return listener

    def test_a_key_or_a_certificate_makes_it_https(self) -> None:
        """Each file may hold both."""
        for given, expected in (
            ({"ssl_key": "k"}, ("k", "k")),
            ({"ssl_cert": "c"}, ("c", "c")),
            ({"ssl_key": "k", "ssl_cert": "c"}, ("c", "k")),
        ):
            listener = self.listener(**given)
            assert isinstance(listener, HttpsConfig)
            (certificate,) = listener.certificates
            self.assertEqual((certificate.certificate, certificate.key), expected)
        self.assertNotIsInstance(self.listener(ssl_ca="ca", ssl_request_cert=True), HttpsConfig)

    def test_addresses_are_the_same_with_tls(self) -> None:
        """Port 8000, not that of an https listener of the native configuration."""
        self.assertEqual((self.tls().address, self.tls().port), ("", 8000))
        self.assertEqual(self.tls(socket="/run/s").socket, "/run/s")

    def test_asking_means_requiring(self) -> None:
        """With and without --ssl-reject-unauthorized, which alone does nothing."""
        self.assertEqual(self.tls().client_certificates, "none")
        self.assertEqual(self.tls(ssl_reject_unauthorized=True).client_certificates, "none")
        for options in ({}, {"ssl_reject_unauthorized": True}):
            listener = self.tls(ssl_request_cert=True, ssl_ca="ca", **options)
            self.assertEqual((listener.client_certificates, listener.client_ca), ("required", "ca"))

    def test_protocols(self) -> None:
        """Exactly the one that is named; `TLS` is any that is safe, as is none."""
        for name, expected in (
            (None, ("TLSv1.2", "TLSv1.3")),
            ("TLS", ("TLSv1.2", "TLSv1.3")),
            ("TLSv1_1", ("TLSv1.1", "TLSv1.1")),
            ("TLSv1_2", ("TLSv1.2", "TLSv1.2")),
            ("TLSv1_2_method", ("TLSv1.2", "TLSv1.2")),
            ("TLSv1_3", ("TLSv1.3", "TLSv1.3")),
        ):
            listener = self.tls(ssl_protocol=name)
            self.assertEqual((listener.minimum_version, listener.maximum_version), expected, name)
        self.assert_misuse("--ssl-protocol", ssl_key="k", ssl_protocol="SSLv3")

    def test_protocol_ciphers_and_parameters_are_for_both_listeners(self) -> None:
        """The public one and the REST API."""
        options = {"ssl_protocol": "TLSv1_2", "ssl_ciphers": "HIGH", "ssl_dhparam": "dh"}
        for side in (self.tls(**options), self.api(api_ssl_key="k", **options).tls):
            assert side is not None
            self.assertEqual((side.minimum_version, side.ciphers, side.dhparam), ("TLSv1.2", "HIGH", "dh"))

    def test_the_default_ciphers_work(self) -> None:
        """OpenSSL knows them, prefers those with forward secrecy, and takes none without encryption."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers(self.tls().ciphers)
        names = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
        self.assertTrue(names[0].startswith("ECDHE-"))
        self.assertIn("AES256-SHA", names)
        self.assertFalse([name for name in names if re.search("NULL|RC4|DES|MD5|EXP|PSK|SRP|CAMELLIA|ADH", name)])

    def test_the_rest_api(self) -> None:
        """It has files of its own."""
        self.assertIsNone(self.api(ssl_key="k").tls)
        tls = self.api(api_ssl_cert="c", api_ssl_key="k", api_ssl_ca="ca", api_ssl_request_cert=True).tls
        assert tls is not None
        self.assertEqual((tls.client_certificates, tls.client_ca), ("required", "ca"))
        self.assertEqual([(item.certificate, item.key) for item in tls.certificates], [("c", "k")])

    def test_passphrases_come_from_the_environment(self) -> None:
        """One for each listener."""
        environ = {"CONFIGPROXY_SSL_KEY_PASSPHRASE": "one", "CONFIGPROXY_API_SSL_KEY_PASSPHRASE": "two"}
        self.assertEqual(self.tls(environ).certificates[0].passphrase, "one")
        tls = self.api(environ, api_ssl_key="k").tls
        assert tls is not None
        self.assertEqual(tls.certificates[0].passphrase, "two")

    def test_targets(self) -> None:
        """They are verified, against the system's authorities or those that are named, unless nothing is."""
        tls = self.route_options().upstream_tls
        self.assertEqual(tls, UpstreamTlsSettings(verify=True))
        tls = self.route_options(client_ssl_key="k", client_ssl_cert="c", client_ssl_ca="ca").upstream_tls
        assert tls is not None
        self.assertEqual((tls.key, tls.certificate, tls.ca, tls.verify), ("k", "c", "ca", True))
        tls = self.route_options(insecure=True, client_ssl_reject_unauthorized=True).upstream_tls
        assert tls is not None
        self.assertFalse(tls.verify)

    def test_half_an_identity_is_none(self) -> None:
        """A certificate without a key is not shown, nor a key without one, and a warning says so."""
        certificate, key = "-----BEGIN CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----\n"
        file = Path(self.mktemp())
        for name in ("client_ssl_cert", "client_ssl_key"):
            for content, is_used in ((certificate, False), (key, False), (certificate + key, True), ("x", True)):
                file.write_text(content)
                setup = self.set_up(**{name: str(file)})
                tls = setup.config.route_defaults.upstream_tls
                assert tls is not None
                self.assertEqual((tls.certificate or tls.key) == str(file), is_used, content)
                self.assertEqual(len(setup.warnings), not is_used)
        self.assertEqual(self.set_up(client_ssl_cert="none", client_ssl_key=str(file)).warnings, ())


class RedirectTests(SetUpCase):
    """`--redirect-port`."""

    def redirect(self, **options: Any) -> RedirectConfig | None:
        """The listener that redirects."""
        listeners = self.set_up(ssl_key="k", **options).config.listeners
        return next((listener for listener in listeners if isinstance(listener, RedirectConfig)), None)

    def test_to_the_public_port(self) -> None:
        """On all interfaces, whatever the public address is; or to the port that is named."""
        redirect = self.redirect(redirect_port=8080, port=8443, ip="127.0.0.1")
        assert redirect is not None
        self.assertEqual((redirect.address, redirect.port, redirect.to_port), ("", 8080, 8443))
        redirect = self.redirect(redirect_port=8080, redirect_to=443)
        assert redirect is not None
        self.assertEqual(redirect.to_port, 443)
        self.assertIsNone(self.redirect(redirect_to=443))

    def test_it_needs_tls(self) -> None:
        """There has to be something to redirect to."""
        self.assert_misuse("--ssl-key", redirect_port=8080)

    def test_where_it_would_be_in_the_way(self) -> None:
        """Not with a public socket, nor when the public port is that of HTTP."""
        self.assertIsNone(self.redirect(redirect_port=8080, socket="/run/s"))
        self.assertIsNone(self.redirect(redirect_port=8080, port=80))

    def test_it_is_said(self) -> None:
        """In the words that tools know."""
        notes = self.set_up(ssl_key="k", redirect_port=8080, port=8443).notes
        self.assertIn("Added HTTP to HTTPS redirection from 8080 to 8443", notes)


class TokenTests(SetUpCase):
    """Where the token comes from."""

    def test_a_file_of_containers(self) -> None:
        """Its blanks do not count; the variable itself wins, and a file that is not there is an error."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("hunter2\n")
        environ = {"CONFIGPROXY_AUTH_TOKEN_FILE": path}
        self.assertEqual(self.api(environ).token, "hunter2")
        self.assertFalse(self.api(environ).open)
        self.assertEqual(self.api({**environ, "CONFIGPROXY_AUTH_TOKEN": "own"}).token, "own")
        with self.assertRaises(ChpUsageError):
            self.set_up({"CONFIGPROXY_AUTH_TOKEN_FILE": f"{path}x"})

    def test_blanks(self) -> None:
        """The end of a line behind it does not count; a token that no client can send is an error, and no traceback."""
        self.assertEqual(self.api({"CONFIGPROXY_AUTH_TOKEN": "hunter2\n"}).token, "hunter2")
        for token, reason in (("hunter 2", "a token has no blanks"), (" \n", "there is no token in it")):
            with self.assertRaises(ChpUsageError) as caught:
                self.set_up({"CONFIGPROXY_AUTH_TOKEN": token})
            self.assertEqual(f"CONFIGPROXY_AUTH_TOKEN: {reason}", str(caught.exception))

    def test_an_empty_file_opens_nothing(self) -> None:
        """Who names a file for the token does not mean the API to be for everybody."""
        path = self.mktemp()
        for text in ("", "\n"):
            with open(path, "w") as file:
                file.write(text)
            with self.assertRaises(ChpUsageError) as caught:
                self.set_up({"CONFIGPROXY_AUTH_TOKEN_FILE": path})
            self.assertEqual("CONFIGPROXY_AUTH_TOKEN_FILE: there is no token in it", str(caught.exception))
