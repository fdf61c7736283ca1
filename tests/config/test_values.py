"""What may stand for a key."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.config.problems import Wrong, Wrongs
from openai_relay.config.values import (
    LONGEST_TIMEOUT,
    Rule,
    admin_address,
    api_path,
    header_word,
    https_url,
    listen_address,
    number,
    one_of,
    paths,
    seconds,
    tcp_address,
    text,
    unlimited_or,
    whole_number,
)

#: Everything that a TOML value can be, as Python has it.
ANYTHING = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.datetimes() | st.times(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
RULES: list[Rule] = [
    admin_address,
    api_path,
    header_word,
    https_url,
    listen_address,
    number(0.5, 2),
    one_of("json", "text"),
    paths(may_be_empty=False),
    paths(may_be_empty=True),
    seconds,
    tcp_address,
    text,
    unlimited_or(number(0, 9)),
    whole_number(0, 9),
]


class RuleCase(SynchronousTestCase):
    """Says yes and no to values."""

    def assertRefused(self, rule: Rule, value: object, *said: str) -> None:
        """The rule refuses the value, and its message holds what is said."""
        message = str(self.assertRaises((Wrong, Wrongs), rule, value))
        self.assertIn("; ", message)
        for words in said:
            self.assertIn(words, message)


class AnyValueTests(RuleCase):
    """All rules, over everything that TOML can hold."""

    @settings(deadline=None)
    @given(st.sampled_from(RULES), ANYTHING)
    def test_taken_or_explained(self, rule: Rule, value: object) -> None:
        """A value is taken, or refused in one printable line; nothing else happens."""
        said: list[object] = []
        try:
            rule(value)
        except Wrong as wrong:
            said = [wrong]
        except Wrongs as wrongs:
            said = [told for _, told in wrongs.findings]
            self.assertTrue(said)
        for told in said:
            self.assertIn("; ", str(told))
            self.assertTrue(str(told).isprintable())


class NumberTests(RuleCase):
    """Counts, rates and times."""

    def test_whole_number_bounds(self) -> None:
        """The bounds belong to the range."""
        rule = whole_number(1, 9)
        self.assertEqual([rule(1), rule(9)], [1, 9])
        self.assertRefused(rule, 0, "0 is out of range", "from 1 to 9")
        self.assertRefused(rule, 10, "10 is out of range")

    def test_other_types_are_no_whole_numbers(self) -> None:
        """A boolean, a fraction, text or a list is not taken for a whole number."""
        rule = whole_number(0, 9)
        self.assertRefused(rule, True, "this is true or false")
        self.assertRefused(rule, 2.0, "2.0 has a fraction")
        self.assertRefused(rule, "2", "this is text", "without quotes")
        self.assertRefused(rule, [2], "this is a list")

    def test_whole_numbers_are_numbers(self) -> None:
        """Where a fraction may stand, a whole number may too."""
        value = number(0.5, 100)(60)
        self.assertEqual(value, 60.0)
        self.assertIsInstance(value, float)
        self.assertRefused(number(0, 9), False, "this is true or false")

    def test_endless_numbers(self) -> None:
        """Infinity and NaN, which TOML can write, are out of every range."""
        for value in (math.inf, -math.inf, math.nan):
            self.assertRefused(number(-1e300, 1e300), value, "out of range")
            self.assertRefused(seconds, value, "no time-out")

    def test_seconds(self) -> None:
        """A time-out is more than nothing and at most a week."""
        self.assertEqual([seconds(1), seconds(0.25), seconds(LONGEST_TIMEOUT)], [1.0, 0.25, 604_800.0])
        for value in (0, -1, -0.5, LONGEST_TIMEOUT + 1):
            self.assertRefused(seconds, value, "no time-out", "more than 0")
        self.assertRefused(seconds, True, "number of seconds")
        self.assertRefused(seconds, "10s", "this is text")

    def test_unlimited(self) -> None:
        """A limit may be lifted by one word, which is told when another one is written."""
        rule = unlimited_or(whole_number(1, 9))
        self.assertEqual([rule("unlimited"), rule(3)], ["unlimited", 3])
        self.assertRefused(rule, "unlimitd", '"unlimitd" is no limit', 'or "unlimited"')
        self.assertRefused(rule, 10, "10 is out of range")


class WordTests(RuleCase):
    """Text of a few kinds."""

    def test_choice(self) -> None:
        """A word that is not among the choices is answered with the nearest, and with all of them."""
        rule = one_of("required", "optional")
        self.assertEqual(rule("optional"), "optional")
        self.assertRefused(rule, "optionl", 'did you mean "optional"?', '"required", "optional"')
        self.assertRefused(rule, "xyzzy", 'one of "required", "optional"')
        self.assertRefused(rule, 1, "must be text")

    def test_header_word(self) -> None:
        """Only what can be sent in a header field passes, and what does not is not repeated."""
        self.assertEqual(header_word("org-Abc_1"), "org-Abc_1")
        for value in ("", "a b", "a\nb", "ä", "a" * 257):
            self.assertRefused(header_word, value)
        self.assertNotIn("hidden", str(self.assertRaises(Wrong, header_word, "hidden word")))


class AddressTests(RuleCase):
    """Where to listen."""

    def test_good(self) -> None:
        """Names, both kinds of addresses, and port 0 are taken as they are."""
        for address in ("127.0.0.1:8443", "localhost:0", "[::]:8443", "[::1]:65535", "relay.example.org:443"):
            self.assertEqual(tcp_address(address), address)
            self.assertEqual(listen_address(address), address)
            self.assertEqual(admin_address(address), address)

    def test_bad(self) -> None:
        """A missing part, a bad port, a bad host and a bare IPv6 address each get their own advice."""
        self.assertRefused(tcp_address, "8443", "lacks a host or a port", "host:port")
        self.assertRefused(tcp_address, ":8443", "lacks a host", '"0.0.0.0:8443"')
        self.assertRefused(tcp_address, "localhost:", '"" is no port')
        self.assertRefused(tcp_address, "localhost:65536", "no port")
        self.assertRefused(tcp_address, "localhost:https", '"https" is no port')
        self.assertRefused(tcp_address, "localhost:٤٤٣", "no port")
        self.assertRefused(tcp_address, "::1:8443", "brackets")
        self.assertRefused(tcp_address, "[1.2.3.4]:8443", "no IPv6 address")
        self.assertRefused(tcp_address, "[::1:8443", "closing bracket")
        self.assertRefused(tcp_address, "1.2.3.256:8443", "no IPv4 address")
        self.assertRefused(tcp_address, "*:8443", "no host name")
        self.assertRefused(tcp_address, "my host:8443", "no host name")
        self.assertRefused(tcp_address, 8443, "must be text")

    def test_systemd(self) -> None:
        """A socket of systemd is named, and only clients come that way."""
        self.assertEqual(listen_address("systemd:https"), "systemd:https")
        for bad in ("systemd:", "systemd:a b", "systemd:a:b"):
            self.assertRefused(listen_address, bad, "FileDescriptorName")
        self.assertRefused(admin_address, "systemd:admin", "cannot be a systemd socket")

    def test_no_admin(self) -> None:
        """Empty or false switches the admin listener off."""
        self.assertIsNone(admin_address(""))
        self.assertIsNone(admin_address(False))
        self.assertRefused(admin_address, True, "must be text")


class UrlTests(RuleCase):
    """The upstream's URL."""

    def test_good(self) -> None:
        """Host and port are kept, in lower case; a lone slash is dropped."""
        for url, taken in (
            ("https://api.openai.com", "https://api.openai.com"),
            ("HTTPS://API.OpenAI.com/", "https://api.openai.com"),
            ("https://localhost:9443", "https://localhost:9443"),
            ("https://[::1]:9443", "https://[::1]:9443"),
            ("https://[2001:db8::1]", "https://[2001:db8::1]"),
            ("https://127.0.0.1:1", "https://127.0.0.1:1"),
        ):
            self.assertEqual(https_url(url), taken)

    def test_not_https(self) -> None:
        """Plain HTTP is refused even on this machine: the upstream is always verified."""
        for url in ("http://localhost:8000", "ftp://a", "HTTP://a"):
            self.assertRefused(https_url, url, "must begin with https://")
        self.assertRefused(https_url, "api.openai.com", 'write "https://"')

    def test_more_than_a_host(self) -> None:
        """A path, a query, a fragment and a password are refused, each by its name, and not repeated."""
        self.assertRefused(https_url, "https://api.openai.com/v1", "holds a path")
        self.assertRefused(https_url, "https://a?x=1", "holds a query")
        self.assertRefused(https_url, "https://a#x", "fragment")
        self.assertRefused(https_url, "https://me:hidden@a", "password", "api_key")
        self.assertNotIn("hidden", str(self.assertRaises(Wrong, https_url, "https://me:hidden@a")))

    def test_bad_host_or_port(self) -> None:
        """What is no host or no port is refused."""
        self.assertRefused(https_url, "https://", "no host name")
        self.assertRefused(https_url, "https://-a", "no host name")
        self.assertRefused(https_url, "https://a..b", "no host name")
        self.assertRefused(https_url, "https://[::g]", "no IPv6 address")
        self.assertRefused(https_url, "https://[::1]9", 'between "]" and the port')
        self.assertRefused(https_url, "https://[::1", "closing bracket")
        self.assertRefused(https_url, "https://a:0", "port 0")
        self.assertRefused(https_url, "https://a:", "no port")
        self.assertRefused(https_url, "https://a:b", "no port")
        self.assertRefused(https_url, "https://a:1:2", "no host name")
        self.assertRefused(https_url, "https://1.2.3", "no IPv4 address")
        for url in ("https://ä.example", "https://a b", "https://a\n", "https://a\\b"):
            self.assertRefused(https_url, url, "ASCII")


class PathTests(RuleCase):
    """What is forwarded."""

    def test_good(self) -> None:
        """Plain paths are taken as they are; a list becomes a tuple."""
        self.assertEqual(paths(may_be_empty=False)(["/v1/", "/"]), ("/v1/", "/"))
        self.assertEqual(paths(may_be_empty=True)([]), ())

    def test_bad_lists(self) -> None:
        """Nothing allowed, text in place of a list, and anything but text in it are refused."""
        self.assertRefused(paths(may_be_empty=False), [], "is empty", '["/v1/"]')
        self.assertRefused(paths(may_be_empty=False), "/v1/", "must be a list", '["/v1/"]')
        self.assertRefused(paths(may_be_empty=False), [1], "must be text")

    def test_bad_paths(self) -> None:
        """A path that could be read in two ways, or is none, is refused, and its place in the list is known."""
        self.assertRefused(api_path, "v1/", 'does not begin with "/"')
        for path in ("/v1/../", "/v1//a", "/v1/?a", "/v1/%61", "/v1/ä", "/v1/a b", "/v1/*", "/v1;a", "/a\\b"):
            self.assertRefused(api_path, path, "plain path")
        wrongs = self.assertRaises(Wrongs, paths(may_be_empty=False), ["/v1/", "v2", 3])
        self.assertEqual([way for way, _ in wrongs.findings], [(1,), (2,)])
