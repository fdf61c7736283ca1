"""How a device asks, and whom; the answers of real servers are in ``tests/integration/test_enrolment.py``."""

from __future__ import annotations

import base64
import hashlib
import ssl
from http.client import BadStatusLine
from typing import Any, ClassVar

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.profile import new_key
from openai_relay.authority.requests import read_request
from openai_relay.core.enrolment_code import Code
from openai_relay.enrolling import device
from openai_relay.enrolling.device import NotEnrolled, Relay, pin_of, request_for
from openai_relay.enrolment.est import certificates_body
from tests.certificates import client, server

URL = "https://relay.example:8444"
PIN = pin_of(server().certificate.public_bytes(Encoding.DER))


class Connection:
    """What a device thinks is a connection; keeps what was sent, and answers as it is told to."""

    status = 200
    body = b""
    content_type: str | None = "text/plain; charset=utf-8"
    problem: Exception | None = None
    sent: ClassVar[list[tuple[Any, ...]]] = []
    made: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, *where: Any, context: ssl.SSLContext, **_: Any) -> None:
        self.made.append((*where, context.verify_mode, context.check_hostname))
        self.sock = self

    def connect(self) -> None:
        if self.problem is not None:
            raise self.problem

    def getpeercert(self, binary_form: bool) -> bytes:
        assert binary_form
        return server().certificate.public_bytes(Encoding.DER)

    def request(self, *words: Any) -> None:
        self.sent.append(words)

    def getresponse(self) -> Connection:
        return self

    def read(self, most: int) -> bytes:
        return self.body[:most]

    def getheader(self, name: str) -> str | None:
        assert name == "content-type"
        return self.content_type

    def close(self) -> None:
        pass


class AskingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(device, "HTTPSConnection", Connection)
        self.patch(Connection, "sent", [])
        self.patch(Connection, "made", [])
        self.patch(Connection, "body", certificates_body(client().certificate))

    def told(self, relay: Relay | None = None) -> str:
        """Why there is no certificate."""
        ask, code = (relay or Relay(URL)).ask, Code(b"x" * 16, None)
        return str(self.assertRaises(NotEnrolled, ask, "simpleenroll", b"request", code=code))

    def test_asked(self) -> None:
        """A request is sent as RFC 7030 has it, with the code as password, to a server that is verified."""
        code = Code(b"x" * 16, None)
        self.assertEqual(Relay(URL).ask("simpleenroll", b"request", code=code), [client().certificate])
        authorization = "Basic " + base64.b64encode(f":{code}".encode()).decode()
        fields = {"Content-Type": "application/pkcs10", "Authorization": authorization}
        self.assertEqual(Connection.sent, [("POST", "/.well-known/est/simpleenroll", b"request", fields)])
        self.assertEqual(Connection.made, [("relay.example", 8444, ssl.CERT_REQUIRED, True)])

    def test_pinned(self) -> None:
        """A server is known by its key alone where that is given, and another one is sent nothing."""
        Relay(URL, PIN).ask("cacerts")
        self.assertEqual(Connection.sent, [("GET", "/.well-known/est/cacerts", None, {})])
        self.assertIn("is not the relay that the code is for", self.told(Relay(URL, b"\0" * 32)))
        self.assertEqual(len(Connection.sent), 1)

    def test_addresses(self) -> None:
        """What is no address of a relay is refused before anything is asked."""
        for url in ("http://relay.example", "relay.example", "https://", f"{URL}/v1", ""):
            self.assertIn("is no address of a relay", self.told(Relay(url)))
        self.assertEqual(Connection.made, [])
        Relay("https://relay.example/").ask("cacerts")
        self.assertEqual(Connection.made[0][:2], ("relay.example", 443))

    def test_unreachable(self) -> None:
        """Who cannot be reached, or does not speak HTTP, is named, and what to check."""
        for problem in (
            ConnectionRefusedError(111, "Connection refused"),
            TimeoutError("timed out"),
            BadStatusLine(""),
        ):
            self.patch(Connection, "problem", problem)
            self.assertIn("check the address, and that the relay runs", self.told())

    def test_not_trusted(self) -> None:
        """A server whose certificate is not trusted is told of with what would make it so."""
        self.patch(Connection, "problem", ssl.SSLCertVerificationError("self-signed certificate"))
        self.assertIn("give --ca, or a code with a pin", self.told())

    def test_refused(self) -> None:
        """What the relay says in words is passed on; another's page is not."""
        self.patch(Connection, "status", 401)
        self.patch(Connection, "body", b"This code has been used.\n")
        self.assertEqual(self.told(), "This code has been used.")
        self.patch(Connection, "content_type", "text/html")
        self.assertEqual(self.told(), f"{URL} answered 401; is it a relay's enrolment?")

    def test_no_certificate(self) -> None:
        """An answer without a certificate is no success."""
        for body in (b"", b"<html>", b"aGVsbG8="):
            self.patch(Connection, "body", body)
            self.assertIn("is no EST server", self.told())


class FormTests(SynchronousTestCase):
    def test_pin(self) -> None:
        """A pin is the SHA-256 of the public key: the same for each certificate of one key."""
        spki = server().private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.assertEqual(PIN, hashlib.sha256(spki).digest())

    def test_request(self) -> None:
        """A request is one that an authority can read, however long the name."""
        key = new_key()
        request = read_request(base64.b64decode(request_for(key, "n" * 100)), "the request")
        self.assertEqual(request.public_key, key.public_key())
