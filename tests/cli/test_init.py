"""Setting up a relay."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from click.testing import Result
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import Authority
from openai_relay.authority.reading import read_key
from openai_relay.config.read import load
from tests.authority.directories import contents, new_directory
from tests.cli.commands import typed


class InitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self) / "relay"

    def init(self, *words: object) -> Result:
        return typed("init", self.directory, *words)

    def test_makes_everything(self) -> None:
        """Afterwards a relay can start: authority, list, server certificate, and a configuration that loads."""
        result = self.init()
        self.assertEqual(result.exit_code, 0, result.output)
        names = {".lock", "ca.key", "ca.pem", "crl.pem", "index.jsonl", "relay.toml", "server.key", "server.pem"}
        self.assertEqual(set(contents(self.directory)), names)
        settings = load(self.directory / "relay.toml", {"OPENAI_API_KEY": "sk-test"})
        self.assertEqual(settings.listen.certificate, self.directory / "server.pem")
        self.assertEqual(settings.listen.crl, self.directory / "crl.pem")
        (server,) = Authority.open(self.directory).issued()
        self.assertEqual(server.names, ("DNS:localhost", "IP:127.0.0.1", "IP:::1"))

    def test_keys_are_private(self) -> None:
        """Nobody else reads a key; everybody may read certificates, list and configuration."""
        self.init()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in self.directory.iterdir()}
        self.assertEqual({modes["ca.key"], modes["server.key"], modes["index.jsonl"]}, {0o600})
        self.assertEqual({modes[name] for name in ("ca.pem", "crl.pem", "server.pem", "relay.toml")}, {0o644})

    def test_says_what_to_do_next(self) -> None:
        """Each next step is a line to paste, with the paths in it."""
        said = self.init().stdout
        for line in (
            "export OPENAI_API_KEY=...",
            f"openai-relay cert issue alice --dir {self.directory}",
            f"openai-relay check-config {self.directory}/relay.toml",
            f"twistd -n --pidfile= openai-relay --config {self.directory}/relay.toml",
        ):
            self.assertIn(f"\n     {line}\n", said)

    def test_server_names(self) -> None:
        """The server certificate carries the names that were given, and no others."""
        result = self.init("--server-name", "relay.example.org", "--server-name", "10.0.0.1", "--json")
        document = json.loads(result.stdout)
        self.assertEqual(document["server_names"], ["relay.example.org", "10.0.0.1"])
        (server,) = Authority.open(self.directory).issued()
        self.assertEqual(server.names, ("DNS:relay.example.org", "IP:10.0.0.1"))

    def test_json(self) -> None:
        """Programs get the paths of all files and the dates at which they end."""
        document = json.loads(self.init("--json", "--days", 100, "--server-days", 10).stdout)
        self.assertEqual(
            set(document),
            {
                *("directory", "ca_file", "crl_file", "certificate_file", "key_file", "configuration_file"),
                *("server_names", "ca_not_after", "certificate_not_after", "ca_key_encrypted"),
            },
        )
        self.assertFalse(document["ca_key_encrypted"])
        for name, value in document.items():
            if name.endswith("_file"):
                self.assertTrue(Path(value).is_file(), name)
        self.assertLess(document["certificate_not_after"], document["ca_not_after"])

    def test_encrypted_key(self) -> None:
        """The authority's key is encrypted with the passphrase that is named, and people are told."""
        result = typed("init", self.directory, "--ca-passphrase-from", "env:PASS", environment={"PASS": "secret"})
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("ca.key       its private key, encrypted", result.stdout)
        self.assertNotIn("secret", result.output)
        self.assertIn(b"BEGIN ENCRYPTED PRIVATE KEY", (self.directory / "ca.key").read_bytes())
        self.assertIn(b"BEGIN PRIVATE KEY", (self.directory / "server.key").read_bytes())
        self.assertEqual(
            read_key(self.directory / "ca.key", "", lambda: b"secret").public_key(),
            Authority.open(self.directory).certificate.public_key(),
        )

    def test_passphrase_that_cannot_be_had(self) -> None:
        """Without a terminal or a place to find it, there is no passphrase, and nothing is made."""
        for words, code, reason in (
            (("--encrypt-key",), 1, "there is no terminal to ask for it"),
            (("--ca-passphrase-from", "env:NO"), 2, "NO is not set"),
        ):
            result = self.init(*words)
            self.assertEqual(result.exit_code, code)
            self.assertIn(reason, result.stderr)
            self.assertFalse(self.directory.exists())

    def test_never_overwrites(self) -> None:
        """A second time, or in a directory where any of its files is, nothing is touched."""
        self.init()
        for left in ("relay.toml", "server.pem", "server.key", "ca.pem", "ca.key", "index.jsonl", "crl.pem"):
            before = contents(self.directory)
            result = self.init()
            self.assertEqual(result.exit_code, 1)
            self.assertIn("already exists and is not overwritten", result.stderr)
            self.assertEqual(contents(self.directory), before)
            (self.directory / left).unlink()

    def test_bad_input(self) -> None:
        """What cannot stand in a certificate is refused before anything is made."""
        for words, reason in (
            (("--server-name", "https://x"), "not a host name"),
            (("--name", "a/b"), "path separator"),
        ):
            result = self.init(*words)
            self.assertEqual(result.exit_code, 1)
            self.assertIn(reason, result.stderr)
            self.assertFalse(self.directory.exists())

    def test_bad_days(self) -> None:
        """A duration that is none, or too long, is refused before anything is made."""
        for option in ("--days", "--server-days"):
            for days in ("0", "36501", "x"):
                result = self.init(option, days)
                self.assertEqual(result.exit_code, 2)
                self.assertIn(days, result.stderr)
                self.assertFalse(self.directory.exists())

    def test_file_in_the_way(self) -> None:
        """A file where the directory should be is a usage error."""
        self.directory.write_text("")
        self.assertEqual(self.init().exit_code, 2)
