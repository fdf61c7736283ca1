"""A soak passes only when all that was counted agrees, and each thing that does not is named."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.soak.verdict import MIB, Books, Observed, findings


def good() -> Observed:
    """All that a soak sees when nothing is wrong."""
    ends = {"done": 90, "client_gone": 10}
    return Observed(
        seconds=600,
        books=[Books("the clients", ends), Books("the access log", dict(ends)), Books("the metrics", dict(ends))],
        requests=100,
        handshakes={"ok": 7},
        counted_handshakes={"ok": 7},
        rss_first=100.0 * MIB,
        rss_last=101.0 * MIB,
        descriptors_before=11,
        descriptors_after=11,
        left_open={"openai_relay_streams_active": 0},
        exit_code=0,
    )


class VerdictTests(SynchronousTestCase):
    def assertFound(self, change: Callable[[Observed], object], *wanted: str) -> None:
        """A soak that was good but for this is found to be so."""
        seen = good()
        change(seen)
        self.assertEqual(findings(seen), list(wanted))

    def test_good(self) -> None:
        """Where all agrees there is nothing to find."""
        self.assertEqual(findings(good()), [])

    def test_lost_exchange(self) -> None:
        """One good request that was not answered as it must be fails a soak, in words."""

        def change(seen: Observed) -> None:
            seen.failures, seen.told = 1, ["stream: corrupt"]

        self.assertFound(change, "1 exchanges were lost or corrupted, such as: stream: corrupt")

    def test_nothing_done(self) -> None:
        """A soak in which nothing happened proves nothing."""

        def change(seen: Observed) -> None:
            seen.books, seen.requests = [Books("the clients", {})], 0

        self.assertFound(change, "there was no exchange at all")

    def test_books(self) -> None:
        """One line too few, or one under another ending, is named with both counts."""
        self.assertFound(
            lambda seen: seen.books[1].ends.update(done=89, bug=1),
            "exchanges that ended as 'bug': the clients 0, the access log 1",
            "exchanges that ended as 'done': the clients 90, the access log 89",
        )

    def test_requests(self) -> None:
        """The requests by status must come to as many."""

        def change(seen: Observed) -> None:
            seen.requests = 99

        self.assertFound(change, "openai_relay_requests_total counts 99 exchanges, the clients 100")

    def test_handshakes(self) -> None:
        """A handshake that one side counted and the other did not is named."""
        self.assertFound(
            lambda seen: seen.counted_handshakes.update(refused=1),
            "handshakes that ended as 'refused': the clients 0, the relay 1",
        )

    def test_stale(self) -> None:
        """More 502 for closed connections than were closed are lost requests."""

        def change(seen: Observed) -> None:
            seen.stale_asked, seen.stale_met = 1, 2

        self.assertFound(
            change, "2 requests were answered 502 for a closed connection, of which the upstream closed only 1"
        )

    def test_memory(self) -> None:
        """Growth over two hundredths fails, unless the soak is too short to say or the growth too small to mean it."""

        def grow(first: float, by: float, seconds: float) -> list[str]:
            seen = good()
            seen.rss_first, seen.rss_last, seen.seconds = first * MIB, (first + by) * MIB, seconds
            return findings(seen)

        self.assertEqual(grow(200, 4.2, 600), ["memory grew by 4.2 MiB (2.1%) after the warm-up, from 200.0 to 204.2"])
        self.assertEqual(grow(200, 3.9, 600), [])
        self.assertEqual(grow(50, 1.9, 600), [])
        self.assertEqual(len(grow(50, 2.1, 600)), 1)
        self.assertEqual(grow(50, 30, 20), [])
        self.assertEqual(grow(50, -30, 600), [])

    def test_leaks(self) -> None:
        """A descriptor, a gauge or an exchange of the upstream that is left over fails a soak."""

        def change(seen: Observed) -> None:
            seen.descriptors_after = 12
            seen.left_open["openai_relay_streams_active"] = 2
            seen.upstream_open = 3

        self.assertFound(
            change,
            "descriptors leaked: 11 before the load, 12 after it",
            "openai_relay_streams_active is 2 when nobody asks any more",
            "3 exchanges are still open at the upstream",
        )

    def test_process(self) -> None:
        """What the relay said, lost or ended with is judged too."""

        def change(seen: Observed) -> None:
            seen.lines_dropped, seen.upstream_wrong_keys, seen.exit_code = 4, 5, None
            seen.complained, seen.complaints = 1, ["Traceback"]
            seen.workers_failed = 1

        self.assertFound(
            change,
            "1 processes of clients did not come to their end",
            "of the access log 4 lines were dropped and 0 are unreadable",
            "5 requests reached the upstream with a wrong key",
            "the relay complained 1 times, such as: Traceback",
            "the relay did not end after SIGTERM",
        )
        self.assertFound(
            lambda seen: setattr(seen, "exit_code", 1), "the relay ended with 1, and not with 0, after SIGTERM"
        )
