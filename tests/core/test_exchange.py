"""The record of one exchange."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.errors import ClientGone, RateLimited, ShuttingDown, UpstreamTimeout
from openai_relay.core.exchange import Exchange


class ExchangeTests(SynchronousTestCase):
    """``Exchange``."""

    def test_begins_empty(self) -> None:
        """A new exchange has moved nothing, been answered nothing, and takes no time yet."""
        exchange = Exchange(100, "relay-1")
        self.assertEqual((exchange.status, exchange.bytes_in, exchange.bytes_out), (0, 0, 0))
        self.assertEqual((exchange.identity, exchange.upstream_status, exchange.first_byte_ns), (None, None, None))
        self.assertEqual(exchange.duration_ns, 0)

    @given(st.integers(0, 1 << 62), st.integers(0, 1 << 62))
    def test_duration(self, opened: int, length: int) -> None:
        """The duration is from opened to closed, to the nanosecond."""
        exchange = Exchange(opened, "relay-1")
        self.assertIs(exchange.close(opened + length), exchange)
        self.assertEqual(exchange.duration_ns, length)

    def test_closes_once(self) -> None:
        """Closing twice is a bug of ours, and the first time stands."""
        exchange = Exchange(100, "relay-1").close(150)
        self.assertRaises(AssertionError, exchange.close, 200)
        self.assertEqual(exchange.duration_ns, 50)

    def test_ends(self) -> None:
        """An exchange ends as its cause does, and well without one."""
        for error, end in (
            (None, "done"),
            (ClientGone(), "client_gone"),
            (RateLimited(1, "Too fast."), "limited"),
            (ShuttingDown(), "drained"),
            (UpstreamTimeout(), "timeout"),
        ):
            exchange = Exchange(100, "relay-1", error=error)
            self.assertEqual(exchange.end, end)

    def test_has_no_room_for_more(self) -> None:
        """A misspelled field is a mistake at once, not a value that nobody reads."""
        exchange = Exchange(100, "relay-1")
        with self.assertRaises(AttributeError):
            exchange.stauts = 200  # type: ignore[attr-defined]
