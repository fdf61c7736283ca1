"""Exchanges to count and to log: a plain one, and every one that could be."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from openai_relay.core import errors
from openai_relay.core.exchange import Exchange, Stage
from openai_relay.core.identity import Identity
from openai_relay.core.usage import Usage

SECOND = 1_000_000_000

ALICE = Identity(name="alice", fingerprint="a1" * 32, serial="1f3c9e", not_after=1_900_000_000.0)
BOB = Identity(name="bob", fingerprint="b2" * 32, serial="2e", not_after=1_950_000_000.0)

CAUSES: list[errors.RelayError] = [
    errors.RelayBug("KeyError: 'x'"),
    errors.BadRequest('a NUL in "Host"'),
    errors.PathNotAllowed(),
    errors.RateLimited(SECOND, "Too many requests."),
    errors.TokensLimited(SECOND, "Too many tokens."),
    errors.TooManyConcurrent(SECOND, "Too many at once."),
    errors.TooManyConnections(SECOND, "Too many connections."),
    errors.BudgetSpent(),
    errors.ClientDisabled(),
    errors.ModelNotAllowed(),
    errors.ModelHidden(),
    errors.MethodRefused(),
    errors.ShuttingDown(),
    errors.ClientGone("after 3 events"),
    errors.UpstreamUnreachable("api.openai.com:443 refused the connection"),
    errors.UpstreamTimeout("silent for 600 s"),
]


def done(
    identity: Identity | None = ALICE,
    *,
    path: str = "/v1/chat/completions",
    status: int = 200,
    upstream_status: int | None = 200,
    error: errors.RelayError | None = None,
    seconds: float = 1.25,
) -> Exchange:
    """An exchange that is over: 312 bytes in, 4,096 out, first byte after 0.25 s if the upstream answered."""
    exchange = Exchange(
        opened_ns=10 * SECOND,
        relay_request_id="relay-1",
        method="POST",
        path=path,
        client_address="192.0.2.7",
        identity=identity,
        status=status,
        bytes_in=312,
        bytes_out=4_096,
        first_byte_ns=None if upstream_status is None else 10 * SECOND + SECOND // 4,
        upstream_request_id=None if upstream_status is None else "req_1",
        upstream_status=upstream_status,
        error=error,
    )
    return exchange.close(10 * SECOND + round(seconds * SECOND))


def used(
    identity: Identity = ALICE, *, model: str | None = "gpt-5", estimated: bool = False, **course: Any
) -> Exchange:
    """An exchange as `done`, a stream: 100 tokens in, 20 of them cached, 50 out; it waited 0.1 s and cost 1,250 µ$."""
    exchange = done(identity, **course)
    exchange.stage = "streamed"
    exchange.queue_ns = SECOND // 10
    exchange.model = model
    exchange.usage = Usage(100, 20, 3, 50, 10, 4, estimated=estimated)
    exchange.cost_micro_usd = 1_250
    exchange.events = 12
    exchange.first_event_ns = exchange.opened_ns + SECOND * 3 // 10
    return exchange


#: Text as bad as it gets: controls, quotes, line ends of all kinds, bidi marks, bytes that were not UTF-8.
#: Joined of pieces, as an alphabet is merged into ranges in which the bad ones are too rare to be met.
_BAD = '"\\\n\r\t\x00\x1b\x7f\x85\x9b\u2028\u2029\u202e\ud800\udcff\U0001f980\U000e0001 ?,{}[]'
nasty = st.lists(st.sampled_from(_BAD) | st.text(max_size=4), max_size=12).map("".join)


usages = st.builds(Usage, *[st.integers(0, 10**15)] * 6, estimated=st.booleans())


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    """Any exchange that is over."""
    opened_ns = draw(st.integers(0, 10**18))
    waited_ns = draw(st.none() | st.integers(0, 10**13))
    identities = st.builds(
        Identity,
        name=nasty,
        fingerprint=st.just("c3" * 32),
        serial=nasty,
        not_after=st.floats(0, 1e11),
    )
    exchange = Exchange(
        opened_ns=opened_ns,
        relay_request_id=draw(nasty),
        method=draw(nasty),
        path=draw(nasty | nasty.map(lambda text: text * 5_000)),
        http_version=draw(nasty),
        client_address=draw(nasty),
        identity=draw(st.none() | identities),
        status=draw(st.integers(0, 999)),
        bytes_in=draw(st.integers(0, 10**15)),
        bytes_out=draw(st.integers(0, 10**15)),
        first_byte_ns=None if waited_ns is None else opened_ns + waited_ns,
        upstream_request_id=draw(st.none() | nasty),
        upstream_status=draw(st.none() | st.integers(100, 999)),
        error=draw(st.none() | st.sampled_from(CAUSES) | nasty.map(errors.UpstreamError)),
        stage=draw(st.sampled_from(get_args(Stage))),
        queue_ns=draw(st.integers(0, 10**13)),
        model=draw(st.none() | nasty | nasty.map(lambda text: text * 500)),
        usage=draw(st.none() | usages),
        cost_micro_usd=draw(st.none() | st.integers(0, 10**15)),
        events=draw(st.integers(0, 10**9)),
        first_event_ns=None if waited_ns is None else draw(st.none() | st.just(opened_ns + waited_ns)),
    )
    return exchange.close(opened_ns + (waited_ns or 0) + draw(st.integers(0, 10**13)))
