"""The lines of the access log: what they say, and that nobody can forge them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core import errors
from openai_relay.core.exchange import Exchange
from openai_relay.core.identity import Identity
from openai_relay.core.log_line import (
    LONGEST,
    LONGEST_NAME,
    combined_line,
    json_line,
    line_format,
    resolve,
    text_line,
)
from openai_relay.core.usage import Usage
from tests.core.exchanges import ALICE, CAUSES, done, exchanges, nasty, used

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "logs.md"

#: 2026-11-23 18:28:05.123456789 UTC
NOW = 1_795_458_485_123_456_789
times = st.integers(0, 10**10 * 1_000_000_000)

COMBINED = re.compile(
    r'(\S+) - (\S+) \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000)\] "((?:[^"\\]|\\.)*)" (\d{3}) (\d+|-) "-" "-" '
    r'model=(-|"(?:[^"\\]|\\.)*") stage=([a-z]+) input_tokens=(\d+|-) cached_tokens=(\d+|-) output_tokens=(\d+|-) '
    r"reasoning_tokens=(\d+|-) estimated=(true|false|-) cost_usd=(\d+\.\d{6}|-) queue_ms=(\d+\.\d{3}) "
    r"ttfe_ms=(\d+\.\d{3}|-) events=(\d+|-)"
)


def parsed(line: bytes) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(line)
    return said


class ChoiceTests(SynchronousTestCase):
    def test_auto(self) -> None:
        """``auto`` is text for a person at a terminal, and JSON for everything else."""
        self.assertEqual(resolve("auto", terminal=True), "text")
        self.assertEqual(resolve("auto", terminal=False), "json")

    def test_chosen(self) -> None:
        """A format that was chosen stays, terminal or not."""
        self.assertEqual(resolve("json", terminal=True), "json")
        self.assertEqual(resolve("off", terminal=True), "off")

    def test_formats(self) -> None:
        """Each format has its function, and ``off`` has none."""
        self.assertIs(line_format("json"), json_line)
        self.assertIs(line_format("combined"), combined_line)
        self.assertIs(line_format("text"), text_line)
        self.assertIsNone(line_format("off"))


class JsonLineTests(SynchronousTestCase):
    def test_done(self) -> None:
        """An exchange that went well says who, what, how long, how much, and both request ids, in this order."""
        self.assertEqual(
            json_line(done(), NOW),
            b'{"ts":"2026-11-23T18:28:05.123Z","level":"info","msg":"exchange","client":"alice",'
            b'"cert_serial":"1f3c9e","method":"POST","path":"/v1/chat/completions","status":200,"dur_ms":1250.0,'
            b'"ttfb_ms":250.0,"bytes_in":312,"bytes_out":4096,"upstream_status":200,"request_id":"req_1",'
            b'"relay_request_id":"relay-1","client_ip":"192.0.2.7","http_version":"1.1","end":"done",'
            b'"error":null,"detail":null,"messages_in":null,"messages_out":null,"close_code":null,"stage":"accepted",'
            b'"model":null,"input_tokens":null,"cached_tokens":null,"output_tokens":null,"reasoning_tokens":null,'
            b'"estimated":null,"cost_usd":null,"queue_ms":0.0,"ttfe_ms":null,"events":null}\n',
        )

    def test_used(self) -> None:
        """What an exchange used is told, with its price and the times of its stream."""
        said = parsed(json_line(used(estimated=True), NOW))
        self.assertEqual(
            {name: said[name] for name in list(said)[list(said).index("stage") :]},
            {
                "stage": "streamed",
                "model": "gpt-5",
                "input_tokens": 100,
                "cached_tokens": 20,
                "output_tokens": 50,
                "reasoning_tokens": 10,
                "estimated": True,
                "cost_usd": 0.00125,
                "queue_ms": 100.0,
                "ttfe_ms": 300.0,
                "events": 12,
            },
        )

    def test_documented(self) -> None:
        """Every member and every way to end is in the page that operators read."""
        page = PAGE.read_text()
        ends = {error.end for error in CAUSES} | {"done"}
        for name in (*parsed(json_line(done(), NOW)), *ends):
            self.assertRegex(page, rf"(?m)^\| .*`{name}`")

    def test_refused(self) -> None:
        """A refusal has its code, and what never was is null."""
        error = errors.RateLimited(1, "Too many requests.")
        said = parsed(json_line(done(None, status=429, upstream_status=None, error=error), NOW))
        self.assertEqual((said["end"], said["error"], said["level"]), ("limited", "rate_limit_exceeded", "info"))
        for name in ("client", "cert_serial", "ttfb_ms", "upstream_status", "request_id", "detail"):
            self.assertIsNone(said[name], name)

    def test_detail(self) -> None:
        """What we know beyond the code, and do not tell the client, is in the line."""
        error = errors.UpstreamUnreachable("api.openai.com:443: connection refused")
        said = parsed(json_line(done(status=502, upstream_status=None, error=error), NOW))
        self.assertEqual(said["detail"], "api.openai.com:443: connection refused")
        self.assertEqual((said["error"], said["level"]), ("upstream_unreachable", "warning"))

    def test_no_detail(self) -> None:
        """What the client was told, in its own words or those of its kind, is not repeated as a detail."""
        for error in (errors.PathNotAllowed(), errors.PathNotAllowed(told="Only /v1/ is forwarded.")):
            self.assertIsNone(parsed(json_line(done(status=403, error=error), NOW))["detail"])

    def test_bug_is_an_error(self) -> None:
        """A bug of ours is logged at the level that wakes people."""
        self.assertEqual(parsed(json_line(done(status=500, error=errors.RelayBug("x")), NOW))["level"], "error")

    def test_readable_beyond_ascii(self) -> None:
        """Letters of any script stay as they are; what a terminal would obey does not."""
        name = "Zoë 李 \x9b31m \u202e \x7f \U000e0001"
        line = json_line(done(Identity(name, "f" * 64, "1", 0.0)), NOW)
        self.assertEqual(parsed(line)["client"], name)
        self.assertIn("Zoë 李 ".encode(), line)
        self.assertTrue(line.decode().rstrip("\n").isprintable())

    def test_delete_is_escaped(self) -> None:
        """The one control character that neither ASCII nor JSON tells apart from a letter is escaped as well."""
        line = json_line(done(Identity("a\x7fb", "f" * 64, "1", 0.0)), NOW)
        self.assertIn(b'"client":"a\\u007fb"', line)

    def test_no_query(self) -> None:
        """A query is not logged, even when somebody forgot to cut it off."""
        for make in (json_line, combined_line, text_line):
            line = make(done(path="/v1/files?key=sk-secret"), NOW)
            self.assertNotIn(b"sk-secret", line)
            self.assertIn(b"/v1/files", line)

    @given(exchanges(), times)
    def test_one_line_one_object(self, exchange: Exchange, now: int) -> None:
        """Whatever a client or an upstream sent, the line is one line, one JSON object, and all of it printable."""
        line = json_line(exchange, now)
        self.assertTrue(line.endswith(b"\n"))
        text = line.decode()[:-1]
        self.assertEqual(len(text.splitlines()), 1)
        self.assertTrue(text.isprintable())
        said = json.loads(text)
        self.assertEqual(len(said), 34)
        self.assertEqual(said["status"], exchange.status)
        self.assertEqual(said["end"], exchange.end)

    @given(nasty.filter(lambda text: text.encode(errors="ignore").decode() == text))
    def test_values_come_back(self, name: str) -> None:
        """A reader of JSON gets back the very value, however odd."""
        said = parsed(json_line(done(Identity(name, "f" * 64, "1", 0.0)), NOW))
        self.assertEqual(said["client"], name)

    @given(exchanges(), times)
    def test_bounded(self, exchange: Exchange, now: int) -> None:
        """No exchange makes a line longer than a pipe takes at once on any sane system: 64 KiB."""
        for make in (json_line, combined_line, text_line):
            self.assertLess(len(make(exchange, now)), 65_536)

    def test_clipped(self) -> None:
        """What is too long is cut, visibly."""
        said = parsed(json_line(done(path="/v1/" + "x" * 60_000), NOW))
        self.assertEqual(len(said["path"]), LONGEST + 1)
        self.assertTrue(said["path"].endswith("x…"))
        said = parsed(json_line(done(Identity("n" * 300, "f" * 64, "1", 0.0)), NOW))
        self.assertEqual(said["client"], "n" * LONGEST_NAME + "…")
        self.assertEqual(parsed(json_line(used(model="m" * 500), NOW))["model"], "m" * LONGEST_NAME + "…")


class CombinedLineTests(SynchronousTestCase):
    def test_done(self) -> None:
        """The client's name is the user, and the time is that of the request."""
        self.assertEqual(
            combined_line(done(), NOW),
            b'192.0.2.7 - alice [23/Nov/2026:18:28:03 +0000] "POST /v1/chat/completions HTTP/1.1" 200 4096 "-" "-" '
            b"model=- stage=accepted input_tokens=- cached_tokens=- output_tokens=- reasoning_tokens=- estimated=- "
            b"cost_usd=- queue_ms=0.000 ttfe_ms=- events=-\n",
        )

    def test_used(self) -> None:
        """What Apache has no place for comes behind its fields, each with its name."""
        self.assertTrue(
            combined_line(used(), NOW).endswith(
                b'200 4096 "-" "-" model="gpt-5" stage=streamed input_tokens=100 cached_tokens=20 output_tokens=50 '
                b"reasoning_tokens=10 estimated=false cost_usd=0.001250 queue_ms=100.000 ttfe_ms=300.000 events=12\n"
            )
        )

    def test_model_is_escaped(self) -> None:
        """A model's name does not end its own quotes."""
        line = combined_line(used(model='m" stage=done\n'), NOW)
        self.assertIn(b' model="m\\" stage=done\\x0a" stage=streamed ', line)

    def test_nothing_known(self) -> None:
        """A request that could not be read leaves dashes."""
        exchange = Exchange(0, "relay-1", error=errors.BadRequest("no method")).close(1)
        self.assertTrue(
            combined_line(exchange, NOW).startswith(b'- - - [23/Nov/2026:18:28:05 +0000] "-" 000 - "-" "-" model=- ')
        )

    def test_escapes(self) -> None:
        """A name with spaces stays one field, and quotes do not end the request."""
        line = combined_line(done(Identity("Zoë the \\ 1st", "f" * 64, "1", 0.0), path='/v1/"\n'), NOW)
        self.assertIn(b" - Zo\\xc3\\xab\\x20the\\x20\\\\\\x201st [", line)
        self.assertIn(b'"POST /v1/\\"\\x0a HTTP/1.1"', line)

    @given(exchanges(), times)
    def test_always_parses(self, exchange: Exchange, now: int) -> None:
        """Whatever a client or an upstream sent, the line has the fields of the format and is printable ASCII."""
        text = combined_line(exchange, now).decode("ascii")
        self.assertTrue(text[:-1].isprintable())
        match = COMBINED.fullmatch(text, endpos=len(text) - 1)
        assert match is not None, text
        self.assertEqual(int(match[5]), exchange.status)


class TextLineTests(SynchronousTestCase):
    def test_done(self) -> None:
        """A person reads when, who, what, how it went, how long and how much."""
        self.assertEqual(
            text_line(done(), NOW),
            b"18:28:05.123 alice POST /v1/chat/completions 200 in 1.25 s (first byte 250 ms), 312 B up, 4.1 kB down\n",
        )

    def test_failed(self) -> None:
        """A failure adds how it ended, its code, and what we know of it."""
        error = errors.UpstreamUnreachable("api.openai.com:443: connection refused")
        self.assertEqual(
            text_line(done(status=502, upstream_status=None, error=error, seconds=0.004), NOW),
            b"18:28:05.123 alice POST /v1/chat/completions 502 in 4.0 ms, 312 B up, 4.1 kB down; "
            b"upstream_error when accepted: upstream_unreachable: api.openai.com:443: connection refused\n",
        )

    def test_nothing_known(self) -> None:
        """Who is not known is nobody, and a code that says all stands alone."""
        exchange = Exchange(0, "relay-1", error=errors.ClientGone()).close(0)
        self.assertEqual(
            text_line(exchange, NOW),
            b"18:28:05.123 (nobody) - - unanswered in 0.0 ms, 0 B up, 0 B down; "
            b"client_gone when accepted: client_gone\n",
        )

    def test_used(self) -> None:
        """A person reads which model it was, what it used and cost, and how long it waited for what."""
        self.assertEqual(
            text_line(used(), NOW),
            b"18:28:05.123 alice POST /v1/chat/completions 200 in 1.25 s (queued 100 ms, first byte 250 ms, "
            b"first event 300 ms), 312 B up, 4.1 kB down in 12 events, "
            b"gpt-5: 100 tokens in (20 cached), 50 out (10 reasoning), $0.00125\n",
        )

    def test_part_of_it(self) -> None:
        """What there was not is left out, and an estimate is told as one."""
        exchange = done()
        exchange.usage = Usage(1_200, output_tokens=5, estimated=True)
        self.assertTrue(text_line(exchange, NOW).endswith(b" 4.1 kB down, about 1,200 tokens in, 5 out\n"))
        exchange.usage, exchange.model = None, "gpt-5"
        self.assertTrue(text_line(exchange, NOW).endswith(b" 4.1 kB down, gpt-5\n"))

    def test_odd_model_is_quoted(self) -> None:
        """A model's name cannot read as the fields after it."""
        self.assertIn(
            b" down in 12 events, 'x: 1 tokens in': 100 tokens in ", text_line(used(model="x: 1 tokens in"), NOW)
        )
        self.assertIn(
            b" events, ft:gpt-5:acme::a/b-1: 100 tokens in ", text_line(used(model="ft:gpt-5:acme::a/b-1"), NOW)
        )

    def test_name_with_spaces_is_quoted(self) -> None:
        """A name cannot read as the fields after it."""
        line = text_line(done(Identity("bob POST /v1/x 200", "f" * 64, "1", 0.0)), NOW)
        self.assertIn(b" 'bob POST /v1/x 200' POST /v1/chat/completions 200 ", line)

    def test_sizes(self) -> None:
        """Sizes are rounded to what a person can take in."""
        exchange = done(ALICE)
        for count, said in ((999, "999 B"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (3 * 10**12, "3.0 TB")):
            exchange.bytes_in = count
            self.assertIn(f" {said} up,".encode(), text_line(exchange, NOW))

    @given(exchanges(), times)
    def test_one_printable_line(self, exchange: Exchange, now: int) -> None:
        """Whatever a client or an upstream sent, the terminal sees one line, and obeys nothing in it."""
        text = text_line(exchange, now).decode()
        self.assertTrue(text.endswith("\n"))
        self.assertTrue(text[:-1].isprintable())
