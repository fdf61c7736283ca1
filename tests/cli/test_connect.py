"""The command line of ``connect``: what is refused before anything listens."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import Authority
from tests.authority.directories import new_directory
from tests.cli.commands import typed

RELAY = "https://relay.example.org:8443"


class ConnectTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self) / "ca"
        issued = Authority.create(self.directory).issue_client("phone")
        self.certificate, self.key = issued.certificate, issued.key

    def refused(self, *words: object) -> str:
        result = typed("connect", *words)
        self.assertIsInstance(result.exception, SystemExit)
        self.assertEqual((result.exit_code, result.stdout), (2, ""))
        return " ".join(result.stderr.split())

    def words(self, *more: object, certificate: Path | None = None, key: str = "") -> tuple[object, ...]:
        return (
            RELAY,
            *("--certificate", certificate or self.certificate, "--key", key or f"file:{self.key}"),
            *("--listen", "127.0.0.1:0", *more),
        )

    def test_required(self) -> None:
        """Relay, certificate and key have to be named."""
        self.assertIn("https://HOST:PORT", self.refused())
        self.assertIn("--certificate", self.refused(RELAY))
        self.assertIn("--key", self.refused(RELAY, "--certificate", self.certificate))

    def test_relay(self) -> None:
        """What is no relay's URL is refused with what to write."""
        _, *rest = self.words()
        self.assertIn("write https:// in place of http://", self.refused("http://relay.example.org", *rest))

    def test_listen(self) -> None:
        """An address that others reach has to be allowed."""
        self.assertIn("--allow-remote", self.refused(*self.words("--listen", "0.0.0.0:8088")))
        self.assertIn("write it alone", self.refused(*self.words("--allow-host", "a:1")))

    def test_key_is_named_not_given(self) -> None:
        """A key in place of where it is gets refused, and is not repeated."""
        said = self.refused(*self.words(key="-----BEGIN PRIVATE KEY-----canary"))
        self.assertIn("--key", said)
        self.assertNotIn("canary", said)

    def test_files(self) -> None:
        """A file that is missing or not what it should be is named with its option."""
        missing = self.directory / "missing.pem"
        for words, option, told in (
            (self.words(certificate=missing), "--certificate", "missing.pem"),
            (self.words(key=f"file:{missing}"), "--key", "does not exist"),
            (self.words("--ca", missing), "--ca", "does not exist"),
            (self.words("--ca", self.key), "--ca", "holds no certificate"),
            (self.words(key=f"file:{self.directory / 'ca.key'}"), "--key", "does not belong to the certificate"),
        ):
            said = self.refused(*words)
            self.assertIn(option, said)
            self.assertIn(told, said)
