"""Which relays and addresses ``connect`` takes, and what it says of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.connect_settings import ConnectSettings, Listen, host_name, joined, listen_address, relay_url


class RuleCase(SynchronousTestCase):
    def complaint(self, rule: Callable[..., object], text: str, **more: Any) -> str:
        return str(self.assertRaises(ValueError, rule, text, **more))


class RelayTests(RuleCase):
    def test_good(self) -> None:
        """A URL names host and port; the slash at its end is not part of it."""
        for text, wanted, place in (
            ("https://relay.example.org:8443", "https://relay.example.org:8443", "relay.example.org:8443"),
            ("https://relay.example.org/", "https://relay.example.org", "relay.example.org:443"),
            ("HTTPS://[2001:db8::1]:1", "https://[2001:db8::1]:1", "[2001:db8::1]:1"),
        ):
            url = relay_url(text)
            self.assertEqual(url, wanted)
            self.assertEqual(ConnectSettings(url, Path("c.pem"), "file:k").place, place)

    def test_bad(self) -> None:
        """Whatever else is given is refused with what to write instead."""
        for text, told in (
            ("http://relay.example.org", "write https:// in place of http://"),
            ("https://relay.example.org/v1", "write https://relay.example.org"),
            ("https://relay.example.org?a=b", "leave out what follows the host"),
            ("https://relay.example.org#a", "leave out what follows the host"),
            ("https://alice@relay.example.org", "leave out the name before the @"),
            ("relay.example.org:8443", "write https://HOST:PORT"),
            ("", "write https://HOST:PORT"),
            ("https://", "write https://HOST:PORT"),
            ("https://relay.example.org:port", "write https://HOST:PORT"),
            ("https://relay.example.org:65536", "write https://HOST:PORT"),
            ("https://[::1", "write https://HOST:PORT"),
            ("https://relay example", "write https://HOST:PORT"),
            ("https://größe.example", "write https://HOST:PORT"),
            ("https://relay.example.org:0", "0 is no port to connect to"),
        ):
            self.assertIn(told, self.complaint(relay_url, text))


class ListenTests(RuleCase):
    def test_good(self) -> None:
        """An address of this machine itself is taken, by number or as localhost."""
        for text, host, port in (
            ("127.0.0.1:8088", "127.0.0.1", 8_088),
            ("localhost:1", "127.0.0.1", 1),
            ("[::1]:0", "::1", 0),
            ("127.9.9.9:65535", "127.9.9.9", 65_535),
        ):
            self.assertEqual(listen_address(text, allow_remote=False), Listen(host, port))

    def test_remote(self) -> None:
        """One that others reach is taken only when that is allowed, and it is said what that means."""
        for text, host in (("0.0.0.0:8088", "0.0.0.0"), ("[::]:8088", "::"), ("192.0.2.7:8088", "192.0.2.7")):
            told = self.complaint(listen_address, text, allow_remote=False)
            self.assertIn(f"whoever reaches {joined(host, 8_088)} would use your certificate", told)
            self.assertIn("--allow-remote", told)
            listen = listen_address(text, allow_remote=True)
            self.assertEqual((listen, listen.loopback), (Listen(host, 8_088), False))

    def test_bad(self) -> None:
        """Whatever else is given is refused with what to write instead."""
        for text in ("8088", ":8088", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:8088", "", "localhost:http"):
            self.assertIn("write 127.0.0.1:8088", self.complaint(listen_address, text, allow_remote=True))
        for text in ("relay:8088", "[1.2]:8088", "127.1:8088"):
            self.assertIn("write for example 127.0.0.1:8088", self.complaint(listen_address, text, allow_remote=True))


class NameTests(RuleCase):
    def test_names(self) -> None:
        """A further host is a name alone."""
        self.assertEqual(host_name("host.docker.internal"), "host.docker.internal")
        for text in ("http://host", "host:8088", "", "*", ".host", "a b"):
            self.assertIn("write it alone", self.complaint(host_name, text))
