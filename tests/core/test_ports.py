"""Tests of `proxyd.core.ports`: the URL space and the list of hosts (contract of managed servers, sections 1 and 9)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.ports import PortPlace, PortRules, is_localhost
from proxyd.core.target import decode_path, key_of, split_target
from proxyd.errors import RequestError
from proxyd.model.ports import PortsSettings
from proxyd.option import Function


def rules(base_url: str = "/", **settings: Any) -> PortRules:
    """The rules of these settings."""
    return PortRules(PortsSettings(**settings), base_url)


def place(target: str, base_url: str = "/", **settings: Any) -> PortPlace | int:
    """Where a request target leads, or the status of the refusal."""
    path, _ = split_target(target.encode())
    try:
        return rules(base_url, **settings).place(key_of(decode_path(path)))
    except RequestError as error:
        return error.status


class PlaceTests(SynchronousTestCase):
    """From a path to a host and a port."""

    def test_forms(self) -> None:
        """A port, or a host with one; absolute or not; whatever stands behind it."""
        cases = {
            "/proxy/8080": ("localhost", 8080, False, 2),
            "/proxy/8080/": ("localhost", 8080, False, 2),
            "/proxy/8080/a/b?q": ("localhost", 8080, False, 2),
            "/proxy/absolute/8080/a": ("localhost", 8080, True, 3),
            "/proxy/localhost:80/": ("localhost", 80, False, 2),
            "/proxy/127.0.0.1:65535": ("127.0.0.1", 65535, False, 2),
            "/proxy/absolute/127.0.0.1:1/x": ("127.0.0.1", 1, True, 3),
            "/proxy/LocalHost:80/": ("localhost", 80, False, 2),
            "/proxy/%6cocalhost:80/": ("localhost", 80, False, 2),
            "/proxy/localhost%3A80/": ("localhost", 80, False, 2),
            "/proxy/00080/": ("localhost", 80, False, 2),
            "//proxy/8080": ("localhost", 8080, False, 2),
            "/proxy/x/../8080": ("localhost", 8080, False, 2),
        }
        for target, expected in cases.items():
            self.assertEqual(PortPlace(*expected), place(target), target)
        for base_url, target in (("/user/u1/", "/user/u1/proxy/1/x"), ("/user/caf%C3%A9/", "/user/café/proxy/1")):
            self.assertEqual(PortPlace("localhost", 1, False, 4), place(target, base_url))

    def test_other_forms_are_not_found(self) -> None:
        """No number, no host before the colon, IPv6 literals, user information, a slash in disguise."""
        targets = (
            "/proxy", "/proxy/", "/proxy/absolute", "/proxy/absolute/", "/proxy/absolute/absolute/80", "/proxy/x",
            "/proxy/8080x", "/proxy/-1", "/proxy/+80", "/proxy/8_0", "/proxy/80.0", "/proxy/0x50", "/proxy/%D9%A8",
            "/proxy/:80/", "/proxy/localhost:/", "/proxy/localhost:x/", "/proxy/localhost:80:81/", "/proxy/[::1]:80/",
            "/proxy/::1:80/", "/proxy/%5B::1%5D:80/", "/proxy/user@localhost:80/", "/proxy/u%40127.0.0.1:80/",
            "/proxy/u:p@localhost:80/", "/proxy//8080", "/proxy/127.0.0.1%2F:80/", "/proxy/8080%20/", "/proxy/8080;x/",
        )  # fmt: skip
        for target in targets:
            self.assertEqual(404, place(target), target)

    def test_ports_that_cannot_be(self) -> None:
        """Port 0 and what is beyond 65535, however long."""
        for port in ("0", "000", "65536", "99999", "100000", "9" * 5000):
            self.assertEqual(400, place(f"/proxy/{port}/"), port[:10])
            self.assertEqual(400, place(f"/proxy/localhost:{port}/"), port[:10])
            self.assertEqual(400, place(f"/proxy/evil.test:{port}/"), port[:10])

    def test_ports_that_are_not_allowed(self) -> None:
        """Numbers and ranges of them, in every form of the path."""
        for target in ("/proxy/{}", "/proxy/absolute/{}/", "/proxy/localhost:{}", "/proxy/127.0.0.1:{}/x"):
            for port, allowed in ((79, False), (80, True), (81, False), (8000, True), (8999, True), (9000, False)):
                answer = place(target.format(port), allow="80,8000-8999")
                self.assertEqual(allowed, answer != 403, (target, port))

    def test_hosts_that_are_not_listed(self) -> None:
        """Another spelling is another host: nothing that only resolves to a listed one passes."""
        hosts = (
            "evil.test", "127.1", "127.0.0.01", "0127.0.0.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "0",
            "0.0.0.0", "127.0.0.2", "localhost.", "127.0.0.1.", "localhost.evil.test", "evil.localhost", "localhost%00",
            "localhost%00.evil.test", "127.0.0.1%23", "127.0.0.1%23.evil.test", "127.0.0.1%3F", "localhost%20",
            "%20localhost", "localhost%0d%0a", "localhost%5C", "localhost%25", "%6cocalhost%252e", "169.254.169.254",
            "local%E2%80%8Bhost.test", "lo%C3%A7alhost", "*", "a" * 64, "..",
        )  # fmt: skip
        for host in hosts:
            self.assertEqual(403, place(f"/proxy/{host}:80/"), host)
            self.assertEqual(403, place(f"/proxy/absolute/{host}:80/"), host)
        self.assertEqual(403, place("/proxy/localhost:80/", hosts=("10.0.0.1",)))

    def test_the_list_is_not_for_bare_ports(self) -> None:
        """`proxy/PORT` is this machine, whatever the list says."""
        self.assertEqual(PortPlace("localhost", 80, False, 2), place("/proxy/80", hosts=("10.0.0.1",)))

    def test_listed_hosts_compare_in_one_spelling(self) -> None:
        """Lower case and IDNA on both sides; a final dot and a short form count only if they are listed."""
        cases = {
            ("Grün.Test", "gr%C3%BCn.test"): "xn--grn-ioa.test",
            ("xn--grn-ioa.test", "GR%C3%9CN.test"): "xn--grn-ioa.test",
            ("db.test.", "db.test."): "db.test.",
            ("127.1", "127.1"): "127.1",
        }
        for (listed, asked), host in cases.items():
            self.assertEqual(PortPlace(host, 80, False, 2), place(f"/proxy/{asked}:80/", hosts=(listed,)), asked)

    def test_a_function_may_decide(self) -> None:
        """On the spelling that counts; only True is a yes, and a function that raises has said no."""
        asked: list[tuple[object, str]] = []

        def decide(handler: object, host: str) -> object:
            asked.append((handler, host))
            return {"yes.test": True, "truthy.test": 1, "no.test": False}[host]

        own = rules(hosts=Function("m:f", decide))
        for host, status in (("YES.test", None), ("truthy.test", 403), ("no.test", 403), ("other.test", 403)):
            place = own.place(("proxy", f"{host}:80"))
            self.assertTrue(own.asks(place))
            try:
                self.assertIs(place, own.decide(place, "handler"))
                self.assertIsNone(status)
            except RequestError as error:
                self.assertEqual(status, error.status, host)
        self.assertEqual(("handler", "yes.test"), asked[0])
        asked.clear()
        self.assertFalse(own.asks(own.place(("proxy", "80"))))
        for host in ("a%00", "a b", ""):
            self.assertRaises(RequestError, own.place, ("proxy", f"{host}:80"))
        self.assertEqual([], asked)
        self.assertFalse(own.permits("127.0.0.1"))
        listed = rules()
        place = listed.place(("proxy", "localhost:80"))
        self.assertFalse(listed.asks(place))
        self.assertIs(place, listed.decide(place, None))

    def test_context(self) -> None:
        """The prefix that applications are told: without a slash, without `localhost`, in one spelling."""
        cases = {
            "/proxy/8080/x": "/proxy/8080",
            "/proxy/localhost:080/": "/proxy/80",
            "/proxy/127.0.0.1:80/": "/proxy/127.0.0.1:80",
        }
        for target, context in cases.items():
            found = place(target)
            assert isinstance(found, PortPlace)
            self.assertEqual(context, rules().context(found))
            self.assertEqual("/user/u%401" + context, rules("/user/u%401/").context(found))

    def test_upstream(self) -> None:
        """Plain http to host and port."""
        upstream = PortPlace("localhost", 80, False, 2).upstream
        self.assertEqual((False, "localhost", 80, b"localhost"), (
            upstream.secure, upstream.host, upstream.port, upstream.authority,
        ))  # fmt: skip


class AddressTests(SynchronousTestCase):
    """What a name of the list may mean."""

    def test_this_machine_and_links_are_out_of_reach(self) -> None:
        """Loopback, link-local (with metadata services), unspecified, multicast, reserved; in disguise."""
        refused = (
            "127.0.0.1", "127.0.1.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1",
            "240.0.0.1", "255.255.255.255", "100.100.100.200", "192.0.0.192", "::", "::1", "fe80::1", "fe80::1%eth0",
            "ff02::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::127.0.0.1",
            "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1",
        )  # fmt: skip
        own = rules(hosts=("db.test",))
        for address in refused:
            self.assertFalse(own.permits(address), address)

    def test_other_machines_are_within_reach(self) -> None:
        """Private networks too: that is where such hosts are."""
        for address in ("10.1.2.3", "192.168.1.1", "172.16.0.1", "192.0.2.1", "8.8.8.8", "2001:db8::1", "fd00::1",
                        "::ffff:10.0.0.1", "64:ff9b::808:808"):  # fmt: skip
            self.assertTrue(rules(hosts=("db.test",)).permits(address), address)

    def test_the_list_may_have_the_address_itself(self) -> None:
        """Then it may be reached by its number anyway."""
        own = rules(hosts=("db.test", "127.0.1.1", "::1"))
        for address in ("127.0.1.1", "::1", "::ffff:127.0.1.1"):
            self.assertTrue(own.permits(address), address)
        self.assertFalse(own.permits("127.0.0.1"))

    def test_localhost_is_this_machine_by_definition(self) -> None:
        """With or without a final dot, and what is below it; nothing else is."""
        for host in ("localhost", "localhost.", "app.localhost", "app.localhost."):
            self.assertTrue(is_localhost(host), host)
        for host in ("localhost.test", "mylocalhost", "local", ""):
            self.assertFalse(is_localhost(host), host)
