"""The forms in which EST puts requests and certificates."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.enrolment.est import BadBody, certificates_body, certificates_of, password_of, request_bytes
from tests.authority.csrs import csr
from tests.certificates import authority, client

REQUEST = csr("phone", encoding=Encoding.DER)


class FormTests(SynchronousTestCase):
    def test_requests(self) -> None:
        """A request is found in base64 with line ends and without, and as the DER or PEM that tools write."""
        for body in (base64.b64encode(REQUEST), base64.encodebytes(REQUEST), REQUEST):
            self.assertEqual(request_bytes(body), REQUEST)
        pem = csr("phone", encoding=Encoding.PEM)
        self.assertEqual(request_bytes(pem), pem)

    @given(st.binary(max_size=100))
    def test_any_body(self, body: bytes) -> None:
        """Whatever comes is some bytes, or refused in words."""
        try:
            self.assertTrue(request_bytes(body))
        except BadBody as bad:
            self.assertIn("PKCS #10", str(bad))

    def test_certificates(self) -> None:
        """Certificates come back out of the body that they were put into; other bodies hold none."""
        both = [client().certificate, authority().certificate]
        self.assertCountEqual(certificates_of(certificates_body(*both)), both)
        for body in (b"", b"!", b"aGVsbG8=", base64.b64encode(REQUEST)):
            self.assertRaises(BadBody, certificates_of, body)

    @given(st.text(), st.text())
    def test_passwords(self, user: str, password: str) -> None:
        """User and password are read as they were meant; a colon belongs to the password."""
        user = user.replace(":", "")
        encoded = base64.b64encode(f"{user}:{password}".encode("utf-8", "replace")).decode()
        meant = (user.encode("utf-8", "replace").decode(), password.encode("utf-8", "replace").decode())
        self.assertEqual(password_of(f"Basic {encoded}"), meant)

    def test_no_password(self) -> None:
        """What is no such field says nothing."""
        for field in (
            None,
            "",
            "Bearer x",
            "Basic",
            "Basic !",
            "Basic " + base64.b64encode(b"\xff:").decode(),
            "Basic eA==",
        ):
            self.assertIsNone(password_of(field))
