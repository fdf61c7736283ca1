"""Who may stay: held against revocations, the deny list and the authorities in force."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.deny import deny_list
from openai_relay.core.identity import Identity, Link
from openai_relay.core.standing import CertificateDenied, CertificateRevoked, CertificateUntrusted, Standing

ROOT = Link("CN=Root", 1, b"root")
ISSUING = Link("CN=Root", 7, b"issuing")
PHONE = Identity("phone", "a1" * 32, "2a", 0.0, (Link("CN=Issuing", 42, b"phone"), ISSUING, ROOT))


class StandingTests(SynchronousTestCase):
    """What is in force decides."""

    def why(self, standing: Standing) -> type | None:
        refusal = standing.refusal(PHONE)
        return None if refusal is None else type(refusal)

    def test_may_stay(self) -> None:
        """Whose chain ends at an authority that is trusted, and who is on no list, may stay."""
        revoked = {"CN=Issuing": frozenset({41}), "CN=Root": frozenset({42})}
        self.assertIsNone(self.why(Standing(revoked, frozenset({b"root"}), deny_list(["name:laptop"]))))

    def test_revoked(self) -> None:
        """Whose own certificate is revoked by its issuer, or whose issuer's by the one above, may not."""
        for revoked in ({"CN=Issuing": frozenset({42})}, {"CN=Root": frozenset({7})}):
            self.assertIs(self.why(Standing(revoked, frozenset({b"root"}))), CertificateRevoked)

    def test_untrusted(self) -> None:
        """Whose chain ends nowhere that is trusted any more may not; any certificate of the chain will do."""
        self.assertIs(self.why(Standing(anchors=frozenset({b"other"}))), CertificateUntrusted)
        self.assertIsNone(self.why(Standing(anchors=frozenset({b"issuing"}))))

    def test_denied(self) -> None:
        """Who is denied may not, whatever else holds."""
        self.assertIs(
            self.why(Standing(anchors=frozenset({b"root"}), deny=deny_list(["serial:2a"]))), CertificateDenied
        )

    @given(
        st.dictionaries(st.sampled_from(["CN=Issuing", "CN=Root", "CN=Other"]), st.frozensets(st.integers(0, 50))),
        st.frozensets(st.sampled_from([b"root", b"issuing", b"phone", b"other"])),
        st.sampled_from([[], ["name:phone"], ["name:other"], ["serial:2a"], ["serial:07"]]),
    )
    def test_never_more(self, revoked: dict[str, frozenset[int]], anchors: frozenset[bytes], denied: list[str]) -> None:
        """Nobody stays whom any of the three speaks against, and everybody else does."""
        standing = Standing(revoked, anchors, deny_list(denied))
        against = (
            42 in revoked.get("CN=Issuing", ())
            or bool({7, 1} & revoked.get("CN=Root", frozenset()))
            or not anchors & {b"root", b"issuing", b"phone"}
            or denied in (["name:phone"], ["serial:2a"])
        )
        self.assertEqual(standing.refusal(PHONE) is not None, against)
