"""Accept: whom a handshake lets in, who that is, and for how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from OpenSSL import SSL, crypto
from OpenSSL._util import lib

from openai_relay.core.errors import CertificateExpired, RelayError, TooManyConnections, Unauthenticated
from openai_relay.core.identity import Identity
from openai_relay.core.settings import ListenSettings, Secret
from openai_relay.listener import Listener
from openai_relay.tls.accepting import load, why_refused
from tests import certificates
from tests.certificates import DAY, NOW, Credential, authority, client, intermediate, revocation_list, server
from tests.doubles import TLSPeer, client_context, handshake
from tests.tls.test_accepting import DirectoryCase

HOUR = timedelta(hours=1)
#: What a relay made here by default calls its authority: another one of that name is easily mistaken for it.
NAMESAKE = authority(number=1)


class HandshakeCase(DirectoryCase):
    """Shows certificates to a listener."""

    now = NOW.timestamp()

    def listener(self, listen: ListenSettings, **identity: Any) -> Listener:
        return Listener(self.settings(listen, **identity), load(listen), lambda: self.now)

    def meet(self, listener: Listener, credential: Credential | None) -> tuple[TLSPeer, TLSPeer]:
        """The server's end and the client's, after a handshake."""
        return handshake(listener.context(), client_context(credential))

    def identify(self, credential: Credential, **identity: Any) -> Identity | RelayError:
        listener = self.listener(self.listen(), **identity)
        return listener.arrived(self.meet(listener, credential)[0].tls)

    def assertIdentity(self, arrived: Identity | RelayError | None) -> Identity:
        self.assertIsInstance(arrived, Identity)
        assert isinstance(arrived, Identity)
        return arrived

    def assertTold(self, arrived: Identity | RelayError, told: str) -> None:
        self.assertIsInstance(arrived, Unauthenticated)
        assert isinstance(arrived, Unauthenticated)
        self.assertEqual(arrived.told, told)


class RequiredTests(HandshakeCase):
    """``client_auth = "required"``: who is not let in does not get through the handshake."""

    def refusal(self, credential: Credential | None, crl: bytes | None = None) -> tuple[str, str]:
        """What the client reads, and what the log says."""
        listener = self.listener(self.listen(crl=crl))
        accepting, connecting = self.meet(listener, credential)
        self.assertFalse(accepting.handshaken)
        return str(connecting.error), why_refused(accepting.tls)

    def test_good(self) -> None:
        """A certificate of the trusted authority is let in, in TLS 1.3, and nothing was wrong with it."""
        listener = self.listener(self.listen(crl=revocation_list()))
        accepting, connecting = self.meet(listener, client())
        self.assertTrue(accepting.handshaken and connecting.handshaken)
        self.assertEqual(accepting.tls.get_protocol_version_name(), "TLSv1.3")
        self.assertIsNone(accepting.tls.get_app_data())

    def test_none(self) -> None:
        """Without a certificate the client reads that one is required."""
        alert, reason = self.refusal(None)
        self.assertIn("certificate required", alert)
        self.assertIn("there is none", reason)

    def test_reasons(self) -> None:
        """Each kind of bad certificate ends the handshake with its own alert, and its own reason in the log."""
        bad = client("bad")
        cases: list[tuple[Credential, bytes | None, str, str]] = [
            (client(issuer=authority("Other CA")), None, "unknown ca", "one that this relay trusts"),
            (client(issuer=NAMESAKE), None, "unknown ca", "one that this relay trusts"),
            (client(not_after=-HOUR), None, "certificate expired", "it has expired"),
            (client(not_before=HOUR), None, "bad certificate", "it is not valid yet"),
            (client(purpose="server"), None, "unsupported certificate", "it is not meant for clients"),
            (bad, revocation_list([bad]), "certificate revoked", "it has been revoked"),
            (
                client(),
                revocation_list(next_update=-HOUR),
                "certificate expired",
                "list of its authority is out of date",
            ),
            (client(), revocation_list(this_update=HOUR), "bad certificate", "is not in force yet"),
        ]
        for credential, crl, alert, reason in cases:
            told, logged = self.refusal(credential, crl)
            self.assertIn(alert, told)
            self.assertIn(reason, logged)

    def test_not_revoked(self) -> None:
        """That another certificate is revoked is nothing to this one."""
        listener = self.listener(self.listen(crl=revocation_list([client("bad")])))
        self.assertTrue(self.meet(listener, client())[0].handshaken)

    def test_without_purpose(self) -> None:
        """A certificate that says nothing about its purpose serves every one (RFC 5280 §4.2.1.12)."""
        self.assertIsInstance(self.identify(client(purpose=None)), Identity)

    def test_through_an_intermediate(self) -> None:
        """A client that sends its intermediate is let in; one that does not is told so."""
        credential = client("bob", intermediate())
        self.assertEqual(self.assertIdentity(self.identify(credential)).name, "bob")
        alert, reason = self.refusal(replace(credential, intermediates=()))
        self.assertIn("unknown ca", alert)
        self.assertIn("an intermediate certificate is missing", reason)

    def test_revoked_through_an_intermediate(self) -> None:
        """With a list of each authority, what an intermediate has revoked is refused, and the rest let in."""
        between = intermediate()
        bob, bad = client("bob", between), client("bad", between)
        listen = self.listen(crl=revocation_list() + revocation_list([bad], between))
        listen.client_ca.write_bytes(authority().pem + between.pem)
        listener = self.listener(listen)
        self.assertTrue(self.meet(listener, bob)[0].handshaken)
        self.assertFalse(self.meet(listener, bad)[0].handshaken)

    def test_revoked_intermediate(self) -> None:
        """With a list of each authority, everything under a revoked intermediate is refused."""
        between = intermediate()
        listen = self.listen(crl=revocation_list([between]) + revocation_list((), between))
        listen.client_ca.write_bytes(authority().pem + between.pem)
        listener = self.listener(listen)
        self.assertFalse(self.meet(listener, client("bob", between))[0].handshaken)

    def test_old_versions(self) -> None:
        """A client that offers nothing newer than TLS 1.1 is refused; TLS 1.2 is served."""
        listener = self.listener(self.listen())
        old, served = client_context(client()), client_context(client())
        old.set_max_proto_version(SSL.TLS1_1_VERSION)
        old.set_cipher_list(b"ALL:@SECLEVEL=0")
        served.set_max_proto_version(SSL.TLS1_2_VERSION)
        self.assertFalse(handshake(listener.context(), old)[0].handshaken)
        accepting, _ = handshake(listener.context(), served)
        self.assertEqual(accepting.tls.get_protocol_version_name(), "TLSv1.2")

    def test_weak_ciphers(self) -> None:
        """In TLS 1.2 nothing is served without forward secrecy and authenticated encryption."""
        listener = self.listener(self.listen())
        for ciphers, served in (
            (b"ECDHE-ECDSA-AES128-GCM-SHA256", True),
            (b"ECDHE-ECDSA-CHACHA20-POLY1305", True),
            (b"ECDHE-ECDSA-AES128-SHA256", False),
            (b"ECDHE-ECDSA-AES256-SHA", False),
        ):
            context = client_context(client())
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
            context.set_cipher_list(ciphers)
            self.assertEqual(handshake(listener.context(), context)[0].handshaken, served, ciphers)

    def test_no_resumption(self) -> None:
        """No session is resumed, whose certificate nobody would look at again."""
        listener = self.listener(self.listen())
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            context = client_context(client())
            context.set_max_proto_version(version)
            _, connecting = handshake(listener.context(), context)
            session = connecting.tls.get_session()
            again, accepting = TLSPeer(context), TLSPeer(listener.context(), is_client=False)
            assert session is not None
            again.tls.set_session(session)
            again.step()
            for _ in range(6):
                accepting.feed(again.take())
                again.feed(accepting.take())
            self.assertTrue(accepting.handshaken)
            self.assertFalse(lib.SSL_session_reused(accepting.tls._ssl))

    def test_protocols(self) -> None:
        """Whoever offers HTTP/1.1 among others gets it; with others alone no protocol is agreed upon."""
        listener = self.listener(self.listen())
        for offered, agreed in (([b"h2", b"http/1.1"], b"http/1.1"), ([b"h2"], b"")):
            context = client_context(client())
            context.set_alpn_protos(offered)
            accepting, _ = handshake(listener.context(), context)
            self.assertTrue(accepting.handshaken)
            self.assertEqual(accepting.tls.get_alpn_proto_negotiated(), agreed)

    def test_names_of_authorities(self) -> None:
        """Clients are told which authorities' certificates can help, so that browsers offer no others."""
        listen = self.listen()
        listen.client_ca.write_bytes(authority().pem + authority("Other CA").pem)
        _, connecting = self.meet(self.listener(listen), client())
        names = [str(name) for name in connecting.tls.get_client_ca_list()]
        self.assertEqual(names, ["<X509Name object '/CN=Test CA'>", "<X509Name object '/CN=Other CA'>"])

    def test_server_chain(self) -> None:
        """The server sends the intermediates that stand in its certificate's file."""
        credential = server(issuer=intermediate())
        listen = self.listen()
        listen.certificate.write_bytes(credential.chain_pem)
        listener = self.listener(replace(listen, key=Secret(credential.key_pem)))
        _, connecting = self.meet(listener, client())
        self.assertTrue(connecting.handshaken)


class OptionalTests(HandshakeCase):
    """``client_auth = "optional"``: the handshake lets everybody in, and each request is told why it is not served."""

    def told(self, credential: Credential | None, crl: bytes | None = None) -> str:
        listener = self.listener(self.listen(crl=crl, client_auth="optional"))
        accepting, connecting = self.meet(listener, credential)
        self.assertTrue(accepting.handshaken and connecting.handshaken)
        arrived = listener.arrived(accepting.tls)
        self.assertIsInstance(arrived, Unauthenticated)
        assert isinstance(arrived, Unauthenticated)
        self.assertIs(self.assertRaises(Unauthenticated, listener.check, arrived), arrived)
        return arrived.told

    def test_good(self) -> None:
        """A good certificate is an identity, as ever."""
        listener = self.listener(self.listen(client_auth="optional"))
        accepting, _ = self.meet(listener, client())
        self.assertEqual(self.assertIdentity(listener.arrived(accepting.tls)).name, "alice")

    def test_none(self) -> None:
        """Who sends no certificate is told that this is what the relay asks for."""
        self.assertEqual(
            self.told(None),
            "This relay knows its clients by certificate, and you sent none. "
            "Configure a client certificate and its key.",
        )

    def test_reasons(self) -> None:
        """Who sends a bad certificate is told what is wrong with it."""
        bad = client("bad")
        refused = "Your client certificate was refused: "
        untrusted = "its issuer is not one that this relay trusts, or an intermediate certificate is missing."
        cases: list[tuple[Credential, bytes | None, str]] = [
            (client(issuer=authority("Other CA")), None, untrusted),
            (replace(client("bob", intermediate()), intermediates=()), None, untrusted),
            (authority("Self"), None, "it is self-signed."),
            (client(not_after=-HOUR), None, "it has expired."),
            (client(not_before=HOUR), None, "it is not valid yet."),
            (client(purpose="server"), None, "it is not meant for clients (extended key usage clientAuth)."),
            (bad, revocation_list([bad]), "it has been revoked."),
            (client(), revocation_list(next_update=-HOUR), "the revocation list of its authority is out of date."),
            (client("bob", intermediate()), revocation_list(), "there is no revocation list of its authority."),
        ]
        for credential, crl, reason in cases:
            self.assertEqual(self.told(credential, crl), refused + reason)

    def test_certificate_that_cannot_be_read(self) -> None:
        """A certificate of a form that only OpenSSL puts up with is refused like others, not with an exception."""
        good = client().certificate
        date = good.not_valid_before_utc.strftime("%y%m%d%H%M%SZ").encode()
        der = good.public_bytes(serialization.Encoding.DER)
        path = self.directory / "bad.der"
        for bad in (der.replace(date, date[:-3] + b"99Z"), der.replace(b"\xa0\3\2\1\2", b"\xa0\3\2\1\7")):
            path.write_bytes(bad)
            context = client_context()
            context.use_certificate_file(str(path), crypto.FILETYPE_ASN1)
            context.use_privatekey(client().private_key)
            listener = self.listener(self.listen(client_auth="optional"))
            accepting, _ = handshake(listener.context(), context)
            self.assertTrue(accepting.handshaken)
            self.assertTold(
                listener.arrived(accepting.tls),
                "Your client certificate was refused: its signature is not its issuer's.",
            )

    def test_first_reason_counts(self) -> None:
        """Of several things that are wrong one is told, and none of them makes the certificate good."""
        told = self.told(client(issuer=authority("Other CA"), not_after=-HOUR, purpose="server"))
        self.assertTrue(told.startswith("Your client certificate was refused: "), told)


class NameTests(HandshakeCase):
    """What a client is called."""

    def test_identity(self) -> None:
        """An identity is the certificate's name, fingerprint, serial number and end."""
        certificate = client().certificate
        self.assertEqual(
            self.identify(client()),
            Identity(
                "alice",
                certificate.fingerprint(hashes.SHA256()).hex(),
                f"{certificate.serial_number:x}",
                certificate.not_valid_after_utc.timestamp(),
            ),
        )

    def test_kinds(self) -> None:
        """The name is the common name, or the first alternative name of the configured kind."""
        credential = client(
            dns=("device-1.example", "device-2.example"),
            uris=("spiffe://example/alice", "spiffe://example/bob"),
            emails=("alice@example.org", "bob@example.org"),
        )
        for kind, name in (
            ("cn", "alice"),
            ("dns", "device-1.example"),
            ("uri", "spiffe://example/alice"),
            ("email", "alice@example.org"),
        ):
            self.assertEqual(self.assertIdentity(self.identify(credential, name=kind)).name, name)

    def test_none_of_that_kind(self) -> None:
        """A certificate without a name of the configured kind is told which is missing."""
        for kind, credential, what in (
            ("cn", client(common_names=(), dns=("device-1.example",)), "common name (CN)"),
            ("dns", client(), "DNS name (subjectAltName)"),
            ("dns", client(emails=("alice@example.org",)), "DNS name (subjectAltName)"),
            ("uri", client(dns=("device-1.example",)), "URI (subjectAltName)"),
            ("email", client(), "e-mail address (subjectAltName)"),
        ):
            self.assertTold(
                self.identify(credential, name=kind),
                f"Your client certificate has no {what}, by which this relay knows its clients.",
            )

    def test_several_common_names(self) -> None:
        """Two common names are one too many: which of them would it be?"""
        self.assertTold(
            self.identify(client(common_names=("alice", "bob"))),
            "Your client certificate has more than one common name (CN).",
        )

    def test_names_that_no_log_can_hold(self) -> None:
        """A name that would break a line, steer a terminal, hide itself or fill a page is refused."""
        for name in ("alice\nbob", "alice\x1b[2J", "alice\u202e", " alice", "alice ", "\u2028"):
            self.assertTold(
                self.identify(client(common_names=(name,))),
                "Your client certificate's common name (CN) is too long or not printable.",
            )
        self.assertTold(
            self.identify(client(uris=(f"https://example.org/{'x' * 300}",)), name="uri"),
            "Your client certificate's URI (subjectAltName) is too long or not printable.",
        )

    def test_names_in_other_scripts(self) -> None:
        """A printable name is taken in any script."""
        for name in ("Zoë Ångström", "小林", "alice@laptop (2)"):
            self.assertEqual(self.assertIdentity(self.identify(client(common_names=(name,)))).name, name)

    def test_extension_that_cannot_be_read(self) -> None:
        """A certificate whose alternative names are garbage is refused before anybody looks for a name in it."""
        for client_auth in ("required", "optional"):
            listener = self.listener(self.listen(client_auth=client_auth), name="dns")
            accepting, _ = self.meet(listener, certificates.garbled())
            self.assertEqual(accepting.handshaken, client_auth == "optional")
            self.assertIsInstance(listener.arrived(accepting.tls), Unauthenticated)

    def test_name_that_openssl_lets_pass(self) -> None:
        """A name that is DER and no text is refused as such, though OpenSSL does not mind it."""
        listener = self.listener(self.listen(), name="dns")
        accepting, _ = self.meet(listener, certificates.garbled(b"\x30\x04\x82\x02\xff\xfe"))
        arrived = listener.arrived(accepting.tls)
        assert isinstance(arrived, Unauthenticated)
        self.assertEqual(arrived.told, "Your client certificate is not well-formed (RFC 5280).")
        self.assertEqual(len(listener._open), 0)


class CheckTests(HandshakeCase):
    """Before each request."""

    def test_expiry(self) -> None:
        """A certificate that was good at the handshake is refused from the very second in which it ends."""
        listener = self.listener(self.listen())
        arrived = listener.arrived(self.meet(listener, client(not_after=DAY))[0].tls)
        self.now = (NOW + DAY).timestamp() - 0.001
        self.assertIs(listener.check(arrived), arrived)
        self.now += 0.001
        error = self.assertRaises(CertificateExpired, listener.check, arrived)
        self.assertEqual((error.status, error.told), (401, "The client certificate has expired."))

    def test_nobody(self) -> None:
        """A connection about whose client nothing is known is served nothing."""
        listener = self.listener(self.listen())
        self.assertEqual(self.assertRaises(Unauthenticated, listener.check, None).status, 401)

    def test_refusals_keep_nothing(self) -> None:
        """However often the same refusal is raised, it does not collect the frames that raised it."""
        listener = self.listener(self.listen(client_auth="optional"))
        arrived = listener.arrived(self.meet(listener, None)[0].tls)
        assert isinstance(arrived, RelayError)
        depths = set()
        for _ in range(3):
            self.assertRaises(Unauthenticated, listener.check, arrived)
            depth, frame = 0, arrived.__traceback__
            while frame is not None:
                depth, frame = depth + 1, frame.tb_next
            depths.add(depth)
        self.assertEqual(len(depths), 1)


class ConnectionsTests(HandshakeCase):
    """How many connections one identity may have."""

    def setUp(self) -> None:
        super().setUp()
        self.met = self.listener(self.listen(max_connections_per_identity=2))

    def arrive(self, credential: Credential) -> Identity | RelayError:
        return self.met.arrived(self.meet(self.met, credential)[0].tls)

    def test_one_too_many(self) -> None:
        """The third of two is refused, request by request, with a 429 that says what to do."""
        for _ in range(2):
            self.assertIdentity(self.arrive(client()))
        third = self.arrive(client())
        error = self.assertRaises(TooManyConnections, self.met.check, third)
        self.assertEqual(error.status, 429)
        self.assertEqual(
            error.told, "Connection limit reached: 2 open at once for this client. Close idle ones, or reuse them."
        )

    def test_others_have_their_own(self) -> None:
        """Each certificate has its own count."""
        for _ in range(2):
            self.arrive(client())
        self.assertIdentity(self.arrive(client("bob")))

    def test_given_back(self) -> None:
        """A connection that is gone makes room for the next, as often as they come and go."""
        for _ in range(5):
            pair = [self.assertIdentity(self.arrive(client())) for _ in range(2)]
            refused = self.arrive(client())
            assert isinstance(refused, TooManyConnections)
            self.met.left(refused)
            for identity in pair:
                self.met.left(identity)
        self.assertEqual(len(self.met._open), 0)

    def test_far_too_many(self) -> None:
        """As many again are kept to be told; what comes beyond them is not to be heard, until some have left."""
        arrived = [self.arrive(client()) for _ in range(6)]
        refused = [one for one in arrived if isinstance(one, TooManyConnections)]
        self.assertEqual([one.heard for one in refused], [True, True, False, False])
        for one in refused[1:]:
            self.met.left(one)
        again = self.arrive(client())
        assert isinstance(again, TooManyConnections)
        self.assertTrue(again.heard)

    def test_counted_by_name(self) -> None:
        """Where limits go by name, all certificates of a name share their count."""
        self.met = self.listener(self.listen(max_connections_per_identity=1), limit_by="name")
        self.assertIdentity(self.arrive(client()))
        self.assertIsInstance(self.arrive(client(not_after=100 * DAY)), TooManyConnections)
