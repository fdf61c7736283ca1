"""Which header fields cross, each way."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.errors import Pair
from openai_relay.core.headers import (
    UpstreamFields,
    for_client,
    for_upstream,
    interim_for_client,
    trailers_for_client,
    trailers_for_upstream,
)
from openai_relay.core.settings import Authorization, Secret, UpstreamSettings

KEY = b"sk-canary-0123456789"
ID = b"relay-0001"

HOP_BY_HOP = [
    b"Connection",
    b"Keep-Alive",
    b"Proxy-Authenticate",
    b"Proxy-Authorization",
    b"Proxy-Connection",
    b"TE",
    b"Transfer-Encoding",
    b"Upgrade",
]
CLAIMS = [
    b"Cookie",
    b"Forwarded",
    b"Via",
    b"Proxy-Client-IP",
    b"X-Forwarded-For",
    b"X-Forwarded-Host",
    b"X-Forwarded-Proto",
    b"X-Forwarded-Client-Cert",
    b"X-Forwarded-Tls-Client-Cert",
    b"X-Forwarded-Tls-Client-Cert-Info",
    b"X-Real-IP",
    b"True-Client-IP",
    b"CF-Connecting-IP",
    b"CF-IPCountry",
    b"X-SSL-Cert",
    b"X-SSL-Client-CN",
    b"X-SSL-Client-Verify",
    b"SSL-Client-Cert",
    b"SSL-Client-S-DN",
    b"X-Client-Cert",
    b"X-Client-Certificate",
    b"X-Client-CN",
    b"X-Client-DN",
    b"X-Client-Verify",
    b"Client-Cert",
    b"Client-Cert-Chain",
    b"X-Amzn-Mtls-Clientcert",
    b"X-ARR-ClientCert",
    b"X-Relay-Request-Id",
    b"X-Relay-Client",
    b"X-Original-URL",
    b"X-Rewrite-URL",
]
PASSING = [
    b"Accept",
    b"Accept-Encoding",
    b"Content-Encoding",
    b"Content-Length",
    b"Content-Type",
    b"Expect",
    b"Idempotency-Key",
    b"OpenAI-Beta",
    b"Range",
    b"Trailer",
    b"User-Agent",
    b"X-Client-Name",
    b"X-Forward",
    b"X-Stainless-Retry-Count",
    b"X-Title",
    b"traceparent",
    b"x_plain_word",
]
ACCOUNT = [b"Authorization", b"api-key", b"OpenAI-Organization", b"OpenAI-Project"]


def policy(
    authorization: Authorization = "inject", organization: str | None = None, project: str | None = None
) -> UpstreamFields:
    """The usual upstream."""
    return UpstreamFields.of(
        UpstreamSettings(authorization=authorization, api_key=Secret(KEY), organization=organization, project=project)
    )


def names(fields: list[Pair]) -> list[bytes]:
    """The names, lower-case."""
    return [name.lower() for name, _ in fields]


def recased(name: bytes, seed: int) -> bytes:
    """The same name in another case of letters."""
    choice = random.Random(seed)
    return bytes(b ^ 0x20 if chr(b).isalpha() and choice.random() < 0.5 else b for b in name)


def is_subsequence(part: list[Pair], whole: list[Pair]) -> bool:
    """Whether ``part`` is ``whole`` with some left out."""
    rest = iter(whole)
    return all(any(pair == other for other in rest) for pair in part)


any_name = st.one_of(
    st.sampled_from([*HOP_BY_HOP, *CLAIMS, *PASSING, *ACCOUNT, b"Host", b"X-Client-Request-Id", b"X-Foo", b"X-Bar"]),
    st.from_regex(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}", fullmatch=True),
)
spelled = st.builds(recased, any_name, st.integers(0, 1 << 16))
value = st.from_regex(rb"[!-~]([ -~]{0,10}[!-~])?", fullmatch=True)
options = st.lists(
    st.one_of(
        st.sampled_from([b"close", b"keep-alive", b"X-Foo", b"Host", b"Content-Length", b"Authorization"]), spelled
    )
).map(b" ,\t".join)
field = st.one_of(st.tuples(spelled, value), st.tuples(st.just(b"Connection"), options))
any_fields = st.lists(field, max_size=12)


def named_in_connection(fields: list[Pair]) -> set[bytes]:
    """What the Connection fields name."""
    values = [value for name, value in fields if name.lower() == b"connection"]
    return {option.strip().lower() for value in values for option in value.split(b",")}


class ForUpstreamTests(SynchronousTestCase):
    """Requests: from the client to the upstream."""

    def crossing(self, *fields: Pair, policy: UpstreamFields | None = None) -> list[Pair]:
        """What crosses, without what the relay adds at the end."""
        crossed = for_upstream(list(fields), policy or self.policy, ID)
        self.assertEqual(crossed[0], (b"Host", b"api.openai.com"))
        self.assertEqual(crossed[-2:], [(b"Authorization", b"Bearer " + KEY), (b"X-Client-Request-Id", ID)])
        return crossed[1:-2]

    def setUp(self) -> None:
        self.policy = policy()

    def test_an_sdk_request(self) -> None:
        """An SDK's request crosses in its order and case, with host and key replaced where they stood."""
        self.assertEqual(
            for_upstream(
                [
                    (b"accept", b"application/json"),
                    (b"Host", b"relay.example:8443"),
                    (b"connection", b"keep-alive"),
                    (b"X-Stainless-Lang", b"python"),
                    (b"AUTHORIZATION", b"Bearer unused"),
                    (b"X-Custom", b"1"),
                    (b"x-custom", b"2"),
                    (b"content-length", b"12"),
                ],
                self.policy,
                ID,
            ),
            [
                (b"accept", b"application/json"),
                (b"Host", b"api.openai.com"),
                (b"X-Stainless-Lang", b"python"),
                (b"Authorization", b"Bearer " + KEY),
                (b"X-Custom", b"1"),
                (b"x-custom", b"2"),
                (b"content-length", b"12"),
                (b"X-Client-Request-Id", ID),
            ],
        )

    def test_nothing_sent(self) -> None:
        """A request without fields gets the relay's own, host first."""
        self.assertEqual(self.crossing(), [])

    def test_hop_by_hop(self) -> None:
        """What belongs to this connection alone stays on it (RFC 9110 §7.6.1)."""
        for name in HOP_BY_HOP:
            self.assertEqual(self.crossing((name, b"x"), (b"A", b"1")), [(b"A", b"1")], name)

    def test_named_in_connection(self) -> None:
        """What any Connection field names goes too, in any case, from any place and list form."""
        fields = [
            (b"X-Foo", b"1"),
            (b"Connection", b"close"),
            (b"x-bar", b"2"),
            (b"connection", b" x-foo ,,\tX-BAR"),
            (b"X-FOO", b"3"),
            (b"X-Baz", b"4"),
        ]
        self.assertEqual(self.crossing(*fields), [(b"X-Baz", b"4")])

    def test_connection_cannot_remove_what_matters(self) -> None:
        """No Connection option takes off the length, the host, the key or the identifiers."""
        named = b"host, content-length, authorization, openai-organization, openai-project, x-client-request-id"
        fields = [(b"Content-Length", b"5"), (b"Connection", named), (b"X-Client-Request-Id", b"mine")]
        crossed = for_upstream(fields, policy(organization="org-1", project="proj-1"), ID)
        self.assertEqual(
            crossed,
            [
                (b"Host", b"api.openai.com"),
                (b"Content-Length", b"5"),
                (b"X-Client-Request-Id", b"mine"),
                (b"Authorization", b"Bearer " + KEY),
                (b"OpenAI-Organization", b"org-1"),
                (b"OpenAI-Project", b"proj-1"),
            ],
        )

    def test_claims(self) -> None:
        """No claim about who is calling and from where gets through, spelled with ``-`` or ``_``, in any case."""
        for name in CLAIMS:
            for spelling in (name, name.lower(), name.upper(), name.replace(b"-", b"_"), name.replace(b"-", b"_", 1)):
                self.assertEqual(self.crossing((spelling, b"forged")), [], spelling)

    def test_what_passes(self) -> None:
        """What is not about connection, account or identity passes as it is, known or not."""
        for name in PASSING:
            self.assertEqual(self.crossing((name, b"1")), [(name, b"1")])

    def test_underscores_disguise_nothing(self) -> None:
        """What the relay removes, sets or frames by is taken off in the spelling with ``_``, too."""
        for name in (
            b"Transfer_Encoding",
            b"content_length",
            b"Proxy_Connection",
            b"OpenAI_Organization",
            b"openai_project",
            b"API_KEY",
            b"X_Client_Request_Id",
            b"X_Client-Request_Id",
        ):
            self.assertEqual(self.crossing((name, b"1")), [], name)

    def test_the_clients_account_is_replaced(self) -> None:
        """With the relay's key, nothing of the client's own account crosses, replaced or not."""
        self.assertEqual(self.crossing((b"OpenAI-Organization", b"theirs"), (b"api-key", b"theirs")), [])
        crossed = for_upstream([(b"openai-organization", b"theirs"), (b"A", b"1")], policy(organization="ours"), ID)
        self.assertEqual(crossed[1], (b"OpenAI-Organization", b"ours"))
        self.assertNotIn(b"theirs", [value for _, value in crossed])

    def test_many_of_one_become_one_of_ours(self) -> None:
        """However many hosts and keys come, one of ours goes out, in the first one's place."""
        fields = [(b"A", b"1"), (b"Authorization", b"x"), (b"Host", b"a"), (b"Authorization", b"y"), (b"Host", b"b")]
        self.assertEqual(names(for_upstream(fields, self.policy, ID))[:3], [b"a", b"authorization", b"host"])
        self.assertEqual(names(for_upstream(fields, self.policy, ID)).count(b"authorization"), 1)
        self.assertEqual(names(for_upstream(fields, self.policy, ID)).count(b"host"), 1)

    def test_passthrough(self) -> None:
        """With ``passthrough`` the client's key and account cross, and the relay's key stays at home."""
        fields = [
            (b"Host", b"x"),
            (b"authorization", b"Bearer theirs"),
            (b"api-key", b"k"),
            (b"OpenAI-Organization", b"o"),
            (b"OpenAI-Project", b"p"),
        ]
        crossed = for_upstream(fields, policy("passthrough"), ID)
        self.assertEqual(crossed, [(b"Host", b"api.openai.com"), *fields[1:], (b"X-Client-Request-Id", ID)])
        crossed = for_upstream(fields, policy("passthrough", organization="ours"), ID)
        self.assertEqual(crossed[3:5], [(b"OpenAI-Organization", b"ours"), (b"OpenAI-Project", b"p")])
        self.assertNotIn(b"authorization", names(for_upstream([], policy("passthrough"), ID)))

    def test_the_clients_request_id_is_kept(self) -> None:
        """A client's own ``X-Client-Request-Id`` passes unchanged, whatever it holds: the upstream judges it."""
        mine = (b"x-client-request-id", b"m" * 600)
        self.assertEqual(for_upstream([mine], self.policy, ID)[1:], [mine, (b"Authorization", b"Bearer " + KEY)])

    @given(any_fields)
    def test_whatever_is_sent(self, fields: list[Pair]) -> None:
        """For any request: ours once, nothing of the connection or of claims, the rest untouched and in order."""
        crossed = for_upstream(fields, self.policy, ID)
        self.assertEqual([value for name, value in crossed if name.lower() == b"host"], [b"api.openai.com"])
        self.assertEqual([value for name, value in crossed if name.lower() == b"authorization"], [b"Bearer " + KEY])
        self.assertIn(b"x-client-request-id", names(crossed))
        gone = {name.lower() for name in [*HOP_BY_HOP, *CLAIMS, b"api-key", b"openai-organization", b"openai-project"]}
        self.assertFalse(gone & {name.replace(b"_", b"-") for name in names(crossed)})
        theirs = [pair for pair in crossed if pair in fields]
        self.assertTrue(is_subsequence(theirs, fields))
        self.assertTrue(all(pair in fields or pair[1] in (b"api.openai.com", b"Bearer " + KEY, ID) for pair in crossed))

    @given(any_fields)
    def test_whatever_need_not_go_stays(self, fields: list[Pair]) -> None:
        """For any request: what is in no list, and not named in Connection, crosses, duplicates and all."""
        named = named_in_connection(fields)
        kept = [
            pair
            for pair in fields
            if pair[0].lower() in {name.lower() for name in [*PASSING, b"X-Foo", b"X-Bar"]}
            and (pair[0].lower() not in named or pair[0].lower() == b"content-length")
        ]
        self.assertTrue(is_subsequence(kept, for_upstream(fields, self.policy, ID)))


class UpstreamFieldsTests(SynchronousTestCase):
    """``UpstreamFields``."""

    def host(self, url: str) -> bytes:
        """The Host that a URL's requests carry."""
        return for_upstream([], UpstreamFields.of(UpstreamSettings(url=url, api_key=Secret(KEY))), ID)[0][1]

    def test_hosts(self) -> None:
        """Host is the URL's own, with its port where that is not the scheme's."""
        for url, host in (
            ("https://api.openai.com", b"api.openai.com"),
            ("https://api.openai.com:443", b"api.openai.com"),
            ("https://API.example:8443/", b"api.example:8443"),
            ("http://127.0.0.1:80", b"127.0.0.1"),
            ("http://127.0.0.1:443", b"127.0.0.1:443"),
            ("https://[::1]:9000", b"[::1]:9000"),
            ("https://[::1]", b"[::1]"),
        ):
            self.assertEqual(self.host(url), host)

    def test_the_key_does_not_show(self) -> None:
        """The key is in no text form of the fields."""
        fields = policy(organization="org-1")
        for text in (repr(fields), str(fields), f"{fields}"):
            self.assertNotIn(KEY.decode(), text)

    def test_settings_that_cannot_be_sent(self) -> None:
        """Settings that make no header field are refused by name, and the key is not repeated."""
        for settings, said in (
            (UpstreamSettings(), "there is no api_key"),
            (UpstreamSettings(api_key=Secret(b"sk-\r\nX: 1")), "api_key must be printable ASCII"),
            (UpstreamSettings(api_key=Secret(b"sk-1\n")), "api_key must be printable ASCII"),
            (UpstreamSettings(api_key=Secret(b"")), "api_key must be printable ASCII"),
            (UpstreamSettings(api_key=Secret(b"sk-\xff")), "api_key must be printable ASCII"),
            (UpstreamSettings(api_key=Secret(KEY), organization="é"), "organization must be printable ASCII"),
            (UpstreamSettings(api_key=Secret(KEY), project=" p"), "project must be printable ASCII"),
            (UpstreamSettings(api_key=Secret(KEY), url="https:///v1"), "names no host"),
            (UpstreamSettings(api_key=Secret(KEY), url="https://bücher.example"), "names no host in ASCII"),
        ):
            error = self.assertRaises(ValueError, UpstreamFields.of, settings)
            self.assertIn(said, str(error))
            self.assertNotIn("sk-", str(error))


class ForClientTests(SynchronousTestCase):
    """Answers: from the upstream to the client."""

    own: tuple[Pair, ...] = (
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"59"),
        (b"x-ratelimit-reset-requests", b"1s"),
    )

    def crossing(self, *fields: Pair) -> list[Pair]:
        """What crosses, without the relay's own identifier at the end."""
        crossed = for_client(fields, ID)
        self.assertEqual(crossed[-1], (b"x-relay-request-id", ID))
        return crossed[:-1]

    def test_an_answer(self) -> None:
        """An answer crosses as it is, but for what is the connection's or speaks for the upstream's host."""
        self.assertEqual(
            self.crossing(
                (b"Date", b"Mon, 23 Nov 2026 10:00:00 GMT"),
                (b"content-type", b"application/json"),
                (b"Connection", b"keep-alive"),
                (b"Transfer-Encoding", b"chunked"),
                (b"x-request-id", b"req_1"),
                (b"OpenAI-Processing-MS", b"12"),
                (b"Set-Cookie", b"__cf_bm=1"),
                (b"set-cookie", b"_cfuvid=2"),
                (b"Strict-Transport-Security", b"max-age=31536000"),
                (b"alt-svc", b'h3=":443"'),
                (b"X-Dup", b"1"),
                (b"X-Dup", b"2"),
                (b"Content-Encoding", b"gzip"),
                (b"X-Relay-Request-Id", b"forged"),
                (b"CF-RAY", b"1"),
                (b"retry-after", b"7"),
            ),
            [
                (b"Date", b"Mon, 23 Nov 2026 10:00:00 GMT"),
                (b"content-type", b"application/json"),
                (b"x-request-id", b"req_1"),
                (b"OpenAI-Processing-MS", b"12"),
                (b"X-Dup", b"1"),
                (b"X-Dup", b"2"),
                (b"Content-Encoding", b"gzip"),
                (b"CF-RAY", b"1"),
                (b"retry-after", b"7"),
            ],
        )

    def test_hop_by_hop(self) -> None:
        """What belongs to the upstream's connection stays on it, with what its Connection fields name."""
        for name in HOP_BY_HOP:
            self.assertEqual(self.crossing((name, b"x"), (b"A", b"1")), [(b"A", b"1")], name)
        self.assertEqual(
            self.crossing((b"X-Foo", b"1"), (b"Connection", b"keep-alive, x-foo"), (b"A", b"1")), [(b"A", b"1")]
        )

    def test_connection_cannot_remove_the_length(self) -> None:
        """The length stays, whatever Connection names, and what the relay adds is added after."""
        named = (b"Connection", b"content-length, x-relay-request-id, x-ratelimit-limit-requests")
        crossed = for_client([(b"Content-Length", b"5"), named], ID, self.own)
        self.assertEqual(crossed, [(b"Content-Length", b"5"), *self.own, (b"x-relay-request-id", ID)])

    def test_event_streams_are_not_to_be_buffered(self) -> None:
        """An event stream tells proxies in front not to gather it, in whatever way its type is written."""
        for media_type in (
            b"text/event-stream",
            b"text/event-stream; charset=utf-8",
            b"Text/Event-Stream;charset=utf-8",
            b"text/event-stream ; x=1",
        ):
            content_type = (b"Content-Type", media_type)
            self.assertEqual(self.crossing(content_type), [content_type, (b"X-Accel-Buffering", b"no")])

    def test_other_answers_may_be_buffered(self) -> None:
        """Nothing is said about gathering where no events are."""
        for media_type in (b"application/json", b"text/event-streams", b"text/event", b"a; text/event-stream", b""):
            content_type = (b"Content-Type", media_type)
            self.assertEqual(self.crossing(content_type), [content_type])
        self.assertEqual(self.crossing(), [])

    def test_the_upstreams_word_on_buffering_stands(self) -> None:
        """What the upstream itself says about gathering passes unchanged, before or after the type."""
        for fields in (
            [(b"x-accel-buffering", b"yes"), (b"Content-Type", b"text/event-stream")],
            [(b"Content-Type", b"text/event-stream"), (b"x-accel-buffering", b"yes")],
        ):
            self.assertEqual(self.crossing(*fields), fields)

    def test_the_accounts_limits_pass_where_the_relay_has_none(self) -> None:
        """Without limits of its own, the relay passes the account's."""
        fields = [(name, b"9") for name, _ in self.own] + [(b"x-ratelimit-remaining-tokens", b"9")]
        self.assertEqual(self.crossing(*fields), fields)

    def test_the_relays_limits_replace_those_of_the_same_name(self) -> None:
        """The relay's own limits take the place of the account's; limits that it does not have pass."""
        fields = [
            (b"X-RateLimit-Limit-Requests", b"9"),
            (b"x-ratelimit-remaining-requests", b"9"),
            (b"x-ratelimit-reset-requests", b"9s"),
            (b"x-ratelimit-remaining-tokens", b"9"),
        ]
        self.assertEqual(for_client(fields, ID, self.own), [fields[3], *self.own, (b"x-relay-request-id", ID)])

    @given(any_fields)
    def test_whatever_is_answered(self, fields: list[Pair]) -> None:
        """For any answer: what crosses is untouched and in order, and only what has to go is missing."""
        crossed = self.crossing(*fields)
        crossed = [pair for pair in crossed if pair[0] != b"X-Accel-Buffering"]
        self.assertTrue(is_subsequence(crossed, fields))
        gone = {name.lower() for name in [*HOP_BY_HOP, b"X-Relay-Request-Id"]}
        gone |= named_in_connection(fields) - {
            *(b"content-length", b"host", b"authorization", b"api-key", b"openai-organization", b"openai-project"),
            *(b"x-client-request-id", b"x-accel-buffering"),
        }
        self.assertEqual(crossed, [pair for pair in fields if pair[0].lower() not in gone])


class TrailerTests(SynchronousTestCase):
    """Trailer fields, both ways."""

    def test_what_says_something_about_the_body_passes(self) -> None:
        """Checksums, signatures and what is not known pass, in order and case."""
        trailers = [(b"Digest", b"sha-256=x"), (b"X-Checksum", b"1"), (b"x-checksum", b"2"), (b"Server-Timing", b"t")]
        self.assertEqual(trailers_for_upstream(trailers, policy()), trailers)
        self.assertEqual(trailers_for_client(trailers), trailers)

    def test_nothing_comes_in_by_the_back_door(self) -> None:
        """What no head may carry to the upstream, no trailer carries either, in any spelling and either mode."""
        for name in [*HOP_BY_HOP, *CLAIMS, *ACCOUNT, b"Host", b"Content-Length", b"X-Client-Request-Id"]:
            for spelling in (name, name.lower(), name.upper()):
                for fields in (policy(), policy("passthrough", organization="ours", project="ours")):
                    self.assertEqual(trailers_for_upstream([(spelling, b"forged")], fields), [], spelling)
        for name in [*CLAIMS, b"OpenAI-Organization", b"api-key"]:
            self.assertEqual(trailers_for_upstream([(name.replace(b"-", b"_"), b"forged")], policy()), [], name)

    def test_nothing_goes_out_by_the_back_door(self) -> None:
        """What is removed or set in the head of an answer is not in its trailers."""
        for name in [*HOP_BY_HOP, b"Set-Cookie", b"alt-svc", b"X-Relay-Request-Id", b"x-ratelimit-limit-requests"]:
            self.assertEqual(trailers_for_client([(name, b"x"), (b"A", b"1")]), [(b"A", b"1")], name)


class InterimTests(SynchronousTestCase):
    """What of an interim answer reaches the client."""

    def test_early_hints_pass_and_nothing_else_does(self) -> None:
        """Hints pass in their order; what is hop-by-hop, named by Connection, or the account's own does not."""
        hints = [(b"Link", b"</a>; rel=preload"), (b"X-Hint", b"1"), (b"link", b"</b>")]
        others = [
            (b"Connection", b"x-secret, close"),
            (b"X-Secret", b"1"),
            (b"Set-Cookie", b"a=b"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Keep-Alive", b"timeout=5"),
            (b"x-relay-request-id", b"forged"),
        ]
        self.assertEqual(interim_for_client([*others[:3], *hints, *others[3:]]), hints)
