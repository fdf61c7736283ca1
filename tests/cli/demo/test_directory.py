"""What lies in a demo's directory: made, reused or renewed, and never somebody else's."""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import Authority
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.reading import read_certificate, read_key
from openai_relay.cli.demo.directory import Addresses, DemoDirectory
from openai_relay.config.read import load
from tests.authority.directories import SetClock, contents, new_directory

ADDRESSES = Addresses(relay=8443, admin=9464, standin=9443)
PAIRS = ("server", "standin", "client")
#: The names that the README and the Makefile rely on.
PROMISED = {"ca.pem", "client.pem", "client.key", "server.pem", "server.key", "crl.pem", "relay.toml"}


class DemoDirectoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = SetClock()
        self.demo = DemoDirectory(new_directory(self) / ".demo")

    def prepare(self, addresses: Addresses = ADDRESSES) -> dict[str, bytes]:
        self.demo.prepare(addresses, self.clock)
        return contents(self.demo.path)

    def authority(self) -> Authority:
        return Authority.open(self.demo.path, self.clock)

    def assertGood(self) -> None:
        """Each certificate fits its key, is from the authority, is not revoked, and is good for a week."""
        authority = self.authority()
        states = {each.serial: each for each in authority.issued()}
        for stem in PAIRS:
            certificate = read_certificate(self.demo.certificate(stem), "")
            self.assertTrue(authority.has_issued(certificate))
            self.assertEqual(read_key(self.demo.key(stem), "").public_key(), certificate.public_key())
            issued = states[f"{certificate.serial_number:x}"]
            self.assertEqual(issued.state(self.clock()), "valid")
            self.assertGreater(issued.not_after - self.clock(), timedelta(days=7))
        self.assertGreater(authority.crl().next_update - self.clock(), timedelta(days=7))

    def test_everything_is_there(self) -> None:
        """All promised files are made at once, and keys are private."""
        self.assertLessEqual(PROMISED, set(self.prepare()))
        self.assertGood()
        for name in ("ca.key", "client.key", "server.key", "standin.key", "api.key"):
            self.assertEqual(stat.S_IMODE((self.demo.path / name).stat().st_mode), 0o600, name)

    def test_configuration_for_the_standin(self) -> None:
        """Without an API key the relay goes to the stand-in, whom it trusts by the demo's authority."""
        self.prepare()
        settings = load(self.demo.configuration, {})
        self.assertEqual(settings.listen.address, "127.0.0.1:8443")
        self.assertEqual(settings.listen.client_ca, self.demo.path / "ca.pem")
        self.assertEqual(settings.listen.crl, self.demo.path / "crl.pem")
        self.assertEqual(settings.upstream.url, "https://localhost:9443")
        self.assertEqual(settings.upstream.ca, self.demo.path / "ca.pem")
        self.assertEqual(settings.admin.address, "127.0.0.1:9464")
        assert settings.upstream.api_key is not None
        self.assertEqual(settings.upstream.api_key.reveal(), self.demo.api_key.read_bytes().strip())

    def test_configuration_for_the_real_api(self) -> None:
        """With an API key the relay goes to the real API, and the key itself is in no file."""
        files = self.prepare(Addresses(9443, 9465, None))
        settings = load(self.demo.configuration, {"OPENAI_API_KEY": "sk-canary"})
        self.assertEqual((settings.upstream.url, settings.upstream.ca), ("https://api.openai.com", None))
        self.assertIn(b'api_key = "env:OPENAI_API_KEY"', files["relay.toml"])
        self.assertEqual(settings.listen.address, "127.0.0.1:9443")

    def test_reused(self) -> None:
        """A second start keeps keys and certificates, writes a new revocation list, and takes new ports."""
        first = self.prepare()
        second = self.prepare(Addresses(9443, 9465, 9999))
        changed = {name for name in first | second if first.get(name) != second.get(name)}
        self.assertEqual(changed, {"crl.pem", "relay.toml"})

    def test_renewed_in_time(self) -> None:
        """What ends within a week is renewed; the authority stays, so clients that trust it go on."""
        first = self.prepare()
        self.clock.advance(days=84)
        second = self.prepare()
        self.assertEqual(second["ca.pem"], first["ca.pem"])
        self.assertGood()
        for stem in PAIRS:
            self.assertNotEqual(second[f"{stem}.pem"], first[f"{stem}.pem"])

    def test_everything_expired(self) -> None:
        """After ten years away all of it is made anew, the authority first."""
        first = self.prepare()
        self.clock.advance(days=3_650)
        self.assertNotEqual(self.prepare()["ca.pem"], first["ca.pem"])
        self.assertGood()

    def test_revoked(self) -> None:
        """A client that was revoked to see what happens gets a new certificate at the next start."""
        first = self.prepare()
        self.authority().revoke("demo")
        second = self.prepare()
        self.assertNotEqual(second["client.pem"], first["client.pem"])
        self.assertEqual(second["server.pem"], first["server.pem"])
        self.assertEqual(self.authority().crl().revoked, 1)
        self.assertGood()

    def test_damaged(self) -> None:
        """Whatever is missing, damaged or mixed up is made anew."""

        def swap(path: Path) -> None:
            path.write_bytes(self.demo.key("standin").read_bytes())

        damages: tuple[Callable[[Path], object], ...] = (Path.unlink, lambda path: path.write_bytes(b"noise"))
        names = ("ca.pem", "ca.key", "index.jsonl", "crl.pem", "client.pem", "client.key", "server.key", "standin.pem")
        for name in names:
            for damage in damages:
                self.prepare()
                damage(self.demo.path / name)
                self.prepare()
                self.assertGood()
        swap(self.demo.key("server"))
        self.prepare()
        self.assertGood()

    def test_another_directory(self) -> None:
        """A directory with other things in it is not touched, an authority that somebody relies on least of all."""
        authority = Authority.create(self.demo.path)
        authority.issue_client("alice")
        before = contents(self.demo.path)
        error = self.assertRaises(AuthorityError, self.demo.prepare, ADDRESSES, self.clock)
        self.assertIn("holds something else than a demo. Name another one with --dir", str(error))
        self.assertEqual(contents(self.demo.path), before)

    def test_empty_directory(self) -> None:
        """An empty directory may become a demo's."""
        self.demo.path.mkdir()
        self.prepare()
        self.assertGood()

    def test_cannot_renew(self) -> None:
        """What cannot be removed to be made anew is named, with the way out."""
        self.prepare()
        self.demo.certificate("client").unlink()
        self.demo.certificate("client").mkdir()
        error = self.assertRaises(AuthorityError, self.demo.prepare, ADDRESSES, self.clock)
        self.assertIn(f"{self.demo.path}/client.pem: Cannot renew it", str(error))
        self.assertIn("Delete the directory.", str(error))
