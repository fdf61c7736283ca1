"""What a device keeps, and that nothing of it is lost or replaced by accident."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import Authority, utc_now
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.requests import read_request
from openai_relay.core.enrolment_code import Code
from openai_relay.enrolling import files
from openai_relay.enrolling.device import NotEnrolled, Relay
from openai_relay.enrolling.files import enrol, noted, read_leaf, renew
from tests.authority.directories import contents, new_directory
from tests.certificates import client

URL = "https://relay.example:8444"
CODE = Code(b"x" * 16, b"p" * 32)


class FilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.device = new_directory(self) / "device"
        self.authority = authority = Authority.create(new_directory(self) / "authority")
        self.problem: dict[str, str] = {}
        self.trusted: tuple[str, ...] = ("ca", "pin")
        self.asked: list[str] = []
        test = self

        class Here(Relay):
            """A relay whose authority is at hand."""

            def ask(self, operation: str, body: bytes | None = None, **_: Any) -> list[x509.Certificate]:
                test.asked.append(operation)
                known = "pin" if self.pin else "ca" if self.ca else "web"
                if known not in test.trusted or operation in test.problem:
                    raise NotEnrolled(test.problem.get(operation, "it is not trusted"))
                if operation == "cacerts":
                    return [authority.certificate]
                assert body is not None
                return [authority.sign_request(read_request(base64.b64decode(body), "it"), "phone").certificate]

        self.relay = Here
        self.patch(files, "Relay", Here)

    def enrol(self) -> files.Enrolled:
        return enrol(f"{URL}/", CODE, self.device)

    def test_enrolled(self) -> None:
        """There are a certificate, its key for nobody else, the authority, and where to renew."""
        enrolled = self.enrol()
        self.assertEqual(sorted(contents(self.device)), ["ca.pem", "phone.json", "phone.key", "phone.pem"])
        self.assertEqual(enrolled.key.stat().st_mode & 0o777, 0o600)
        key = load_pem_private_key(enrolled.key.read_bytes(), None)
        self.assertEqual(key.public_key(), read_leaf(enrolled.certificate).public_key())
        self.assertEqual(enrolled.ca.read_bytes(), self.authority.certificate.public_bytes(Encoding.PEM))
        self.assertLess(enrolled.leaf.not_valid_before_utc, enrolled.due)
        self.assertLess(enrolled.due, enrolled.leaf.not_valid_after_utc)

    def test_known_for_longer(self) -> None:
        """What is noted outlives the server's key where it can: its authority, the web's, and the pin at last."""
        for trusted, ca, pin in ((("pin", "ca", "web"), "ca.pem", None), (("pin", "web"), None, None)):
            self.trusted = trusted
            relay = noted(self.enrol().certificate)
            self.assertEqual((relay.url, relay.ca and relay.ca.name, relay.pin), (URL, ca, pin))
            self.device /= "another"
        self.trusted = ("pin",)
        self.assertEqual(noted(self.enrol().certificate).pin, CODE.pin)

    def test_refused(self) -> None:
        """When there is no certificate there is no file."""
        for operation in ("cacerts", "simpleenroll"):
            self.problem = {operation: "This code has been used."}
            self.assertRaises(NotEnrolled, self.enrol)
            self.assertEqual(contents(self.device), {})

    def test_no_room(self) -> None:
        """Where nothing can be written the code is not used up."""
        self.device.parent.mkdir(exist_ok=True)
        self.device.write_text("a file")
        self.assertRaises(AuthorityError, self.enrol)
        self.assertEqual([each for each in self.asked if each != "cacerts"], [])

    def test_other_authority(self) -> None:
        """The certificate of another authority is not replaced, and no code is used up for that."""
        self.device.mkdir()
        (self.device / "ca.pem").write_bytes(client().pem)
        error = self.assertRaises(AuthorityError, self.enrol)
        self.assertIn("--out", str(error))
        self.assertEqual(self.asked, ["cacerts"])

    def test_another_name(self) -> None:
        """Where files of that name are, they stay, and the new ones have its serial number in theirs."""
        first = self.enrol()
        before = contents(self.device)
        second = self.enrol()
        self.assertEqual(second.certificate.name, f"phone-{second.leaf.serial_number:x}.pem")
        self.assertNotEqual(first.leaf, second.leaf)
        self.assertEqual({name: contents(self.device)[name] for name in before}, before)

    def test_renewed(self) -> None:
        """Only the file of the certificate is another afterwards, and it fits the key."""
        enrolled = self.enrol()
        before = contents(self.device)
        renewed = renew(enrolled.certificate)
        after = contents(self.device)
        self.assertEqual([name for name in after if after[name] != before[name]], ["phone.pem"])
        self.assertEqual(read_leaf(enrolled.certificate), renewed.leaf)
        self.assertEqual(renewed.leaf.public_key(), enrolled.leaf.public_key())

    def test_not_renewed(self) -> None:
        """What fails changes nothing: refused, no such file, no key, or none that is one."""
        enrolled = self.enrol()
        self.problem = {"simplereenroll": "it has been revoked"}
        before = contents(self.device)
        self.assertRaises(NotEnrolled, renew, enrolled.certificate)
        self.assertRaises(NotEnrolled, renew, self.device / "lost.pem", enrolled.key, self.relay(URL, b"p" * 32))
        self.assertRaises(NotEnrolled, renew, enrolled.key, enrolled.key, self.relay(URL, b"p" * 32))
        self.assertRaises(AuthorityError, renew, enrolled.certificate, self.device / "lost.key")
        self.assertRaises(AuthorityError, renew, enrolled.certificate, enrolled.certificate)
        self.assertEqual(contents(self.device), before)

    def test_notes(self) -> None:
        """A note that is missing or damaged is told of with what to give instead."""
        certificate = self.enrol().certificate
        note = certificate.with_suffix(".json")
        for content in ("", "[]", "{}", "null", '{"url": "x", "pin": "no hex"}', '{"url": "x", "pin": 3}', "\0"):
            note.write_text(content)
            self.assertIn("give --url", str(self.assertRaises(NotEnrolled, noted, certificate)))
        note.write_text(json.dumps({"url": URL, "pin": None, "ca": "ca.pem"}))
        self.assertEqual(noted(certificate), self.relay(URL, None, self.device / "ca.pem"))
        note.unlink()
        self.assertRaises(NotEnrolled, noted, certificate)
        self.assertRaises(NotEnrolled, noted, Path("nowhere.pem"))

    def test_clock_of_the_due(self) -> None:
        """Two thirds of a life are over after two thirds of it."""
        leaf = client().certificate
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        self.assertEqual(files.due(leaf) - leaf.not_valid_before_utc, life * 2 / 3)
        self.assertLess(utc_now(), files.due(leaf))
