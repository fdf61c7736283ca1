"""The row of an exchange: what it takes over, and that nothing which comes from outside makes it unfit to be stored."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.errors import ClientGone
from openai_relay.core.exchange import Exchange
from openai_relay.core.ledger_row import LARGEST, LONGEST, LedgerRow, ledger_row
from openai_relay.core.usage import Usage
from tests.core.exchanges import ALICE, done, exchanges, nasty

NOW = 1_795_458_485_123_456_789

counts = st.integers(-(2**70), 2**70)
usages = st.builds(Usage, counts, counts, counts, counts, counts, counts, estimated=st.booleans())
accounted = st.fixed_dictionaries(
    {
        "model": st.none() | nasty | nasty.map(lambda text: text * 500),
        "usage": st.none() | usages,
        "cost_micro_usd": st.none() | counts,
        "fallback_price": st.booleans(),
        "queue_ns": st.integers(0, 10**13),
    }
)


class LedgerRowTests(SynchronousTestCase):
    def test_a_whole_row(self) -> None:
        """Every column is filled from the exchange."""
        exchange = done(path="/v1/files/file-secret/content")
        exchange.usage = Usage(100, 20, 3, 50, 10, 4, estimated=True)
        exchange.messages_in, exchange.messages_out, exchange.close_code = 5, 6, 1000
        exchange.model, exchange.cost_micro_usd, exchange.fallback_price = "gpt-5", 1_234, True
        exchange.queue_ns, exchange.stage = 2_500_999, "streamed"
        self.assertEqual(
            ledger_row(exchange, NOW),
            LedgerRow(
                ended_ms=1_795_458_485_123,
                relay_request_id="relay-1",
                client="alice",
                fingerprint=ALICE.fingerprint,
                endpoint="files/{id}/content",
                model="gpt-5",
                method="POST",
                status=200,
                upstream_status=200,
                ending="done",
                stage="streamed",
                error_code=None,
                input_tokens=100,
                cached_tokens=20,
                input_audio_tokens=3,
                output_tokens=50,
                reasoning_tokens=10,
                output_audio_tokens=4,
                estimated=True,
                cost_micro_usd=1_234,
                fallback_price=True,
                bytes_in=312,
                bytes_out=4_096,
                queue_ms=2.5,
                first_byte_ms=250.0,
                duration_ms=1_250.0,
                upstream_request_id="req_1",
                messages_in=5,
                messages_out=6,
                close_code=1000,
            ),
        )

    def test_what_is_not_known_is_none(self) -> None:
        """A stranger's request that was refused has neither client nor upstream, tokens nor cost."""
        row = ledger_row(done(None, upstream_status=None, error=ClientGone()), NOW)
        unknown = {name for name in row.__struct_fields__ if getattr(row, name) is None}
        tokens = {
            f"{kind}_tokens" for kind in ("input", "cached", "output", "reasoning", "input_audio", "output_audio")
        }
        self.assertEqual(
            unknown - tokens,
            {
                *("client", "fingerprint", "model", "upstream_status", "cost_micro_usd", "first_byte_ms"),
                *("upstream_request_id", "messages_in", "messages_out", "close_code"),
            },
        )
        self.assertLess(tokens, unknown)
        self.assertEqual((row.ending, row.stage, row.error_code), ("client_gone", "accepted", ClientGone.code))

    @given(exchanges(), accounted)
    def test_anything_can_be_stored(self, exchange: Exchange, accounted: dict[str, Any]) -> None:
        """Whatever was sent, text is printable and short, and numbers fit a column and a sum of millions of them."""
        row = ledger_row(dataclasses.replace(exchange, **accounted), NOW)
        for name in row.__struct_fields__:
            value = getattr(row, name)
            if isinstance(value, str):
                self.assertTrue(value.isprintable(), name)
                self.assertLessEqual(len(value), 10 * (LONGEST + 1))
            elif isinstance(value, int) and name != "ended_ms":
                self.assertTrue(0 <= value <= LARGEST, name)

    def test_long_text_is_clipped(self) -> None:
        """A name of any length costs a bounded number of characters, and shows that it was cut."""
        row = ledger_row(dataclasses.replace(done(), model="m" * 10_000), NOW)
        self.assertEqual(row.model, "m" * LONGEST + "…")

    def test_times_are_milliseconds(self) -> None:
        """Durations keep their microseconds."""
        self.assertEqual(ledger_row(done(seconds=0.001_234), NOW).duration_ms, 1.234)
