"""Decides whether a soak has passed: from all that was counted and measured, what does not fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

MIB: Final = 1 << 20
#: Memory may grow by this share of itself after the warm-up,
DRIFT: Final = 0.02
#: or by so much: below it a number is the allocator's, since arenas come and go whole.
FLOOR: Final = 2 * MIB
#: Seconds below which memory says nothing: half the endpoints have not been met a second time.
SHORTEST: Final = 50.0


class Books(msgspec.Struct, frozen=True):
    """How many exchanges there were, by ending, as one of those who count them says it."""

    who: str
    ends: dict[str, int]


class Observed(msgspec.Struct):
    """All that a soak has counted and measured."""

    seconds: float = 0.0
    warm_up: float = 0.0
    #: The clients' first: what they saw is what the others must have.
    books: list[Books] = []
    requests: int = 0  #: the sum of ``openai_relay_requests_total``
    handshakes: dict[str, int] = {}  #: that the clients made
    counted_handshakes: dict[str, int] = {}  #: that the relay counted
    kinds: dict[str, int] = {}
    failures: int = 0
    told: list[str] = []
    stale_asked: int = 0
    stale_met: int = 0
    rss_first: float = 0.0
    rss_last: float = 0.0
    rss_most: float = 0.0
    descriptors_before: int = 0
    descriptors_after: int = 0
    descriptors_most: int = 0
    left_open: dict[str, float] = {}  #: gauges that must be 0 when nobody asks any more
    lines_dropped: int = 0
    lines_unreadable: int = 0
    upstream_open: int = 0
    upstream_wrong_keys: int = 0
    lag_most: float = 0.0
    processor_seconds: float = 0.0
    complained: int = 0
    complaints: list[str] = []
    exit_code: int | None = 0
    workers_failed: int = 0


def findings(seen: Observed) -> list[str]:
    """What is wrong, one sentence each; nothing when the soak has passed."""
    return [*_exchanges(seen), *_leaks(seen), *_process(seen)]


def _exchanges(seen: Observed) -> Iterator[str]:
    if seen.failures:
        yield f"{seen.failures} exchanges were lost or corrupted, such as: {'; '.join(seen.told[:5])}"
    if seen.workers_failed:
        yield f"{seen.workers_failed} processes of clients did not come to their end"
    clients, *others = seen.books
    if not sum(clients.ends.values()):
        yield "there was no exchange at all"
    for other in others:
        yield from _compared("exchanges", clients.who, clients.ends, other.who, other.ends)
    total = sum(clients.ends.values())
    if seen.requests != total:
        yield f"openai_relay_requests_total counts {seen.requests} exchanges, the clients {total}"
    yield from _compared("handshakes", clients.who, seen.handshakes, "the relay", seen.counted_handshakes)
    if seen.stale_met > seen.stale_asked:
        yield (
            f"{seen.stale_met} requests were answered 502 for a closed connection, "
            f"of which the upstream closed only {seen.stale_asked}"
        )


def _compared(what: str, who: str, wanted: Mapping[str, int], whose: str, found: Mapping[str, int]) -> Iterator[str]:
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key, 0) != found.get(key, 0):
            yield f"{what} that ended as {key!r}: {who} {wanted.get(key, 0)}, {whose} {found.get(key, 0)}"


def _leaks(seen: Observed) -> Iterator[str]:
    growth = seen.rss_last - seen.rss_first
    if seen.seconds >= SHORTEST and growth > max(DRIFT * seen.rss_first, FLOOR):
        yield (
            f"memory grew by {growth / MIB:.1f} MiB ({growth / seen.rss_first:.1%}) after the warm-up, "
            f"from {seen.rss_first / MIB:.1f} to {seen.rss_last / MIB:.1f}"
        )
    if seen.descriptors_after > seen.descriptors_before:
        yield f"descriptors leaked: {seen.descriptors_before} before the load, {seen.descriptors_after} after it"
    for gauge, value in seen.left_open.items():
        if value:
            yield f"{gauge} is {value:g} when nobody asks any more"
    if seen.upstream_open:
        yield f"{seen.upstream_open} exchanges are still open at the upstream"


def _process(seen: Observed) -> Iterator[str]:
    if seen.lines_dropped or seen.lines_unreadable:
        yield f"of the access log {seen.lines_dropped} lines were dropped and {seen.lines_unreadable} are unreadable"
    if seen.upstream_wrong_keys:
        yield f"{seen.upstream_wrong_keys} requests reached the upstream with a wrong key"
    if seen.complained:
        yield f"the relay complained {seen.complained} times, such as: {'; '.join(seen.complaints)}"
    if seen.exit_code != 0:
        how = "did not end" if seen.exit_code is None else f"ended with {seen.exit_code}, and not with 0,"
        yield f"the relay {how} after SIGTERM"
