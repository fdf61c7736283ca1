"""What a request asks for, out of the beginning of its body."""

from __future__ import annotations

import gzip
import json
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.form_look import FormScan
from openai_relay.core.request_look import (
    MOST_TEXT,
    JsonScan,
    Model,
    RequestLook,
    ask_for_usage,
    look_at,
    look_at_coded,
    scan_for,
)
from tests.core.test_decoding import PLAIN, WAYS
from tests.core.transcripts import pieces

JSON = b"application/json"
FORM = b"multipart/form-data; boundary=edge"
CHAT = b'{"model": "gpt-4o", "messages": [{"role":"user","content":"say \\"model\\": {"}], "stream": true'
CHAT += b', "n": 2, "max_tokens": 5}'


def form(*fields: tuple[str, bytes]) -> bytes:
    parts = [b'--edge\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (n.encode(), v) for n, v in fields]
    return b"".join(parts) + b"--edge--\r\n"


class JsonTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """A body that is there says all."""
        look = look_at(JSON, CHAT, True)
        self.assertEqual(look, RequestLook(Model.KNOWN, "gpt-4o", True, None, 2, 5, 30))
        self.assertEqual(look.reserve(1000), 40)

    def test_head(self) -> None:
        """Of a body whose beginning is there, what stands in it is known, and its whole length counts."""
        for at in range(len(CHAT)):
            look = look_at(JSON, CHAT[:at], False, len(CHAT))
            known = at >= CHAT.index(b",")
            self.assertEqual(look.found, Model.KNOWN if known else Model.HIDDEN)
            self.assertEqual((look.model, look.input_tokens), ("gpt-4o" if known else None, 30))
            self.assertEqual(look.stream, at > CHAT.index(b"true") + 4)

    def test_output(self) -> None:
        """The largest bound counts, whatever its name; without one the default does; what is no count is none."""
        self.assertEqual(look_at(JSON, b'{"max_output_tokens":9,"max_completion_tokens":7}', True).most_output, 9)
        look = look_at(JSON, b'{"max_tokens":"9","n":-1,"best_of":true,"stream":1}', True)
        self.assertEqual((look.most_output, look.choices, look.stream), (None, 1, False))
        self.assertEqual(look.reserve(50), 50 + look.input_tokens)

    def test_include_usage(self) -> None:
        """Yes, no, and nothing said are three things."""
        for text, said in (("true", True), ("false", False), ("null", None), ("1", None)):
            body = b'{"stream_options":{"include_usage":%b}}' % text.encode()
            self.assertIs(look_at(JSON, body, True).include_usage, said)
        self.assertIsNone(look_at(JSON, b'{"stream_options":[]}', True).include_usage)

    def test_two_models(self) -> None:
        """Two models are ambiguous, however the second is spelled; the same one twice is not."""
        for second in ('"model":"b"', '"\\u006dodel":"b"', '"m\\u004Fdel":"b"', '"MODEL":"b"', '"model":null'):
            body = b'{"model":"a",%b}' % second.encode()
            self.assertEqual(look_at(JSON, body, True).found, Model.AMBIGUOUS, second)
            self.assertEqual(look_at(JSON, body[:-1] + b" ", False).found, Model.AMBIGUOUS, second)
        look = look_at(JSON, b'{"model":"a","x":{"model":"c"},"model":"a"}', True)
        self.assertEqual((look.found, look.model), (Model.KNOWN, "a"))

    def test_no_model(self) -> None:
        """A body without a model has none; one that cannot be read hides it."""
        self.assertEqual(look_at(JSON, b'{"input":"x"}', True).found, Model.ABSENT)
        self.assertEqual(look_at(JSON, b'{"model":null}', True).found, Model.ABSENT)
        deep = b'{"model":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        for body in (
            b"",
            b"[]",
            b'{"model":"a"',
            b'\xef\xbb\xbf{"model":"a"}',
            b'{"model":5}',
            b"\x28\xb5\x2f\xfd",
            deep,
        ):
            self.assertEqual(look_at(JSON, body, True).found, Model.HIDDEN, body[:20])
        self.assertEqual(look_at(JSON, b'{"model":"%b"}' % (b"x" * 600), True).found, Model.HIDDEN)
        self.assertEqual(look_at(JSON, b'{"model":"%b"}' % (b"x" * 600), False).found, Model.HIDDEN)

    @given(
        st.dictionaries(st.sampled_from(["model", "Model", "x", "n"]), st.sampled_from(["a", "b", None, 3]), max_size=4)
    )
    def test_both_ways_agree(self, members: dict[str, object]) -> None:
        """A body decoded at once and the same followed in blocks say the same model."""
        text = json.dumps(members).encode()
        look = look_at(JSON, text, True)
        scan = JsonScan()
        scan.feed(text)
        if None not in members.values():
            self.assertEqual(scan.found(True), (look.found, look.model))

    def test_media(self) -> None:
        """An image in the body counts as one, not by its length; nor does its part that was not seen."""
        body = b'{"url":"data:image/png;base64,%b","x":1}' % (b"iVBO" * 10_000)
        self.assertEqual(look_at(JSON, body, True).input_tokens, 1000 + 8)
        self.assertEqual(look_at(JSON, body[:500], False, len(body)).input_tokens, 1000 + 6)


class FormTests(SynchronousTestCase):
    def test_where_the_model_does_not_matter(self) -> None:
        """Where no rule hangs on the model, one that is named twice is taken as a parser takes it: the last."""
        twice = b'{"model":"a","MODEL":"c","model":"b"}'
        self.assertEqual(look_at(b"application/json", twice, True).found, Model.AMBIGUOUS)
        look = look_at(b"application/json", twice, True, strict=False)
        self.assertEqual((look.found, look.model), (Model.KNOWN, "b"))

    def test_fields(self) -> None:
        """A form says its model and whether it streams."""
        body = form(("model", b"whisper-1"), ("stream", b"true"), ("file", b"x" * 5000))
        look = look_at(FORM, body, True)
        self.assertEqual((look.found, look.model, look.stream), (Model.KNOWN, "whisper-1", True))
        self.assertEqual(look_at(FORM, body[:300], False, len(body)).model, "whisper-1")

    def test_hidden_behind_a_file(self) -> None:
        """A model behind what was seen is hidden until who follows the body comes to it."""
        body = form(("file", b"x" * 5000), ("model", b"whisper-1"))
        self.assertEqual(look_at(FORM, body[:1000], False).found, Model.HIDDEN)
        scan = scan_for(FORM)
        for at in range(0, len(body), 100):
            scan.feed(body[at : at + 100])
        self.assertEqual(scan.found(True), (Model.KNOWN, "whisper-1"))

    def test_bad_forms(self) -> None:
        """Two models are ambiguous; a long one, no text, and what is no form are hidden."""
        self.assertEqual(look_at(FORM, form(("model", b"a"), ("Model", b"b")), True).found, Model.AMBIGUOUS)
        self.assertEqual(look_at(FORM, form(("x", b"a")), True).found, Model.ABSENT)
        for body in (form(("model", b"x" * 600)), form(("model", b"\xff")), b"--edge\r\nno head", b"{}" * 9000):
            self.assertEqual(look_at(FORM, body + b"\r\n" * 4, True).found, Model.HIDDEN, body[:20])

    def test_values_that_are_no_text(self) -> None:
        """A decoded value that is nested too deep, or no text, is none."""
        for value in (b'"\xff"', b"tru", b"[" * 2000 + b"]" * 2000):
            look = look_at(JSON, b'{"model":%b,' % value, False)
            self.assertEqual((look.found, look.model), (Model.HIDDEN, None))

    def test_boundaries(self) -> None:
        """A form without a boundary, with two, or with one that cannot be, hides its model."""
        body = form(("model", b"a"))
        for parameters in (
            b"",
            b"; boundary",
            b"; boundary=",
            b'; boundary=""',
            b"; boundary=other; boundary=edge",
            b"; boundary=edge; Boundary = other",
            b"; boundary=edge; boundary*=utf-8''other",
            b"; boundary*0=ed; boundary*1=ge",
            b'; boundary="\n"',
            b"; boundary=edge,other",
            b'; boundary="edge other"',
            b"; x=boundary; boundary=edge",
        ):
            look = look_at(b"multipart/form-data" + parameters, body, True)
            self.assertEqual((look.found, look.model), (Model.HIDDEN, None), parameters)
        for parameters in (b";boundary=edge", b'; BOUNDARY="edge"'):
            self.assertEqual(look_at(b"Multipart/Form-Data" + parameters, body, True).model, "a", parameters)

    def test_tokens(self) -> None:
        """A form counts as a file, whose bytes are no text; and its images are as many as it asks for."""
        look = look_at(FORM, form(("n", b"3"), ("image", b"x" * 8000)), True)
        self.assertEqual((look.choices, look.input_tokens), (3, 1010))
        self.assertEqual(look_at(FORM, form(("n", b"3")), False, 80_000).input_tokens, 1100)
        for count in (b"0", b"-1", b"x", b"\xb2", b"9" * 5000, b""):
            self.assertEqual(look_at(FORM, form(("n", count)), True).choices, 1, count)

    def test_many_models(self) -> None:
        """However often a form names a model, little of it is kept."""
        scan = FormScan("edge")
        scan.feed(form(*[("model", b"%d" % number) for number in range(1000)]))
        self.assertEqual(scan.found(True), (Model.AMBIGUOUS, None))
        self.assertEqual(len(scan._values), 2)

    @given(st.lists(st.integers(0, 1 << 16), max_size=6))
    def test_any_cutting(self, where: list[int]) -> None:
        """However a form is cut, it says the same."""
        scan = FormScan("edge")
        for block in pieces(form(("file", b"\r\n--edg" * 9), ("model", b"m"), ("stream", b"1")), where):
            scan.feed(block)
        self.assertEqual((scan.found(True), scan.stream), ((Model.KNOWN, "m"), True))


class CodedTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """A compressed body that is there says all, in every coding, as it would by itself."""
        for coding, encode in WAYS:
            coded = encode(CHAT)
            look = look_at_coded(JSON, coding, coded, True, len(coded))
            self.assertEqual(look, look_at(JSON, CHAT, True), coding)
            body = form(("file", b"x" * 900), ("model", b"m"))
            self.assertEqual(look_at_coded(FORM, coding, encode(body), True, None).model, "m", coding)
        for coding in (b"", b"identity"):
            self.assertEqual(look_at_coded(JSON, coding, CHAT, True, len(CHAT)), look_at(JSON, CHAT, True))

    def test_head(self) -> None:
        """A model that was seen at the beginning is told, and not known: what comes behind cannot be followed."""
        body = CHAT[:-1] + b',"x":"%b"}' % Random(1).randbytes(500_000).hex().encode()
        for coding, encode in PLAIN:
            coded = encode(body)
            look = look_at_coded(JSON, coding, coded[: len(coded) // 2], False, len(coded))
            self.assertEqual((look.found, look.model, look.stream), (Model.HIDDEN, "gpt-4o", True), coding)
            # What is left is taken to be as dense.
            self.assertTrue(0.7 < look.input_tokens / (len(body) / 4) < 1.4, (coding, look.input_tokens))

    def test_broken_off(self) -> None:
        """Nor is it known in a body that claims to be whole, and is not, or is followed by something else."""
        for coding, encode in PLAIN:
            coded = encode(CHAT)
            for text in (coded[:-1], coded[: len(coded) // 2], coded + b"junk", b""):
                look = look_at_coded(JSON, coding, text, True, len(text))
                self.assertEqual(look.found, Model.HIDDEN, (coding, text))

    def test_two_models(self) -> None:
        """Two models are as ambiguous in a compressed body, be the second in a member of its own."""
        coded = gzip.compress(b'{"model":"a",') + gzip.compress(b'"model":"b"}')
        self.assertEqual(look_at_coded(JSON, b"gzip", coded, True, None).found, Model.AMBIGUOUS)
        self.assertEqual(look_at_coded(JSON, b"gzip", coded[:-9], True, None).found, Model.AMBIGUOUS)

    def test_unknown_coding(self) -> None:
        """A body in a coding that nobody knows hides all, and its length is what it may cost."""
        for coding in (b"compress", b"gzip, foo", b"\xff"):
            self.assertEqual(look_at_coded(JSON, coding, CHAT, True, None), RequestLook(input_tokens=30))
            self.assertEqual(look_at_coded(JSON, coding, CHAT, False, 4000), RequestLook(input_tokens=1000))

    def test_long(self) -> None:
        """A body that is long when it is decoded is read to a bound, in steps; behind that its model is not known."""
        for size, found in ((MOST_TEXT - 200, Model.KNOWN), (2 * MOST_TEXT, Model.HIDDEN)):
            numbers = b",".join(b"%d" % number for number in range(700_000))
            body = b'{"model":"m","x":"%b"}' % (numbers * 3)[:size]
            coded = gzip.compress(body, 1)
            look = look_at_coded(JSON, b"gzip", coded, True, len(coded))
            self.assertEqual((look.found, look.model), (found, "m"))
            self.assertTrue(0.9 < look.input_tokens / (len(body) / 4) < 1.1, look.input_tokens)

    def test_bomb(self) -> None:
        """A few bytes that stand for very many are given up, and hide all."""
        for coding, encode in PLAIN:
            bomb = encode(b'{"model":"m","x":"' + bytes(1 << 26))
            self.assertEqual(look_at_coded(JSON, coding, bomb, True, None).found, Model.HIDDEN, coding)


class AnyRequestTests(SynchronousTestCase):
    @given(
        st.sampled_from([JSON, FORM, b"", b"multipart/form-data", b"multipart/x; boundary=\xff"])
        | st.binary(max_size=30),
        st.sampled_from([b"", b"gzip", b"br", b"zstd, deflate", b"x"]) | st.binary(max_size=9),
        st.binary(max_size=120)
        | st.lists(
            st.sampled_from([CHAT, b"--edge", b"\r\n", b"--", b"{", b'"model":', b'"a"', b"}", b",", b"\x1f\x8b"])
        ).map(b"".join),
        st.booleans(),
        st.none() | st.integers(0, 1 << 40),
    )
    def test_any_bytes(self, content_type: bytes, coding: bytes, head: bytes, whole: bool, length: int | None) -> None:
        """Whatever a client sends, looking at it raises nothing, and what it may cost is not below nothing."""
        look = look_at_coded(content_type, coding, head, whole, length)
        self.assertGreaterEqual(look.input_tokens, 0)
        self.assertGreaterEqual(look.reserve(5), look.input_tokens)
        ask_for_usage(head)
        scan = scan_for(content_type)
        for at in range(0, len(head), 5):
            scan.feed(head[at : at + 5])
        scan.found(whole)


class FollowTests(SynchronousTestCase):
    def test_late_second_model(self) -> None:
        """A second model far behind the first is noticed before the body is over."""
        scan = scan_for(JSON)
        scan.feed(b'{"model":"cheap","x":"')
        for _ in range(100):
            scan.feed(b'\\" model' * 1000)
        self.assertEqual(scan.found(False), (Model.KNOWN, "cheap"))
        scan.feed(b'","model":"dear"')
        self.assertEqual(scan.found(False), (Model.AMBIGUOUS, None))


class AskTests(SynchronousTestCase):
    def test_asked(self) -> None:
        """The question is put in, and all other bytes stay as they are."""
        ask = b'"stream_options":{"include_usage":true}'
        for before, after in (
            (b' {"stream":true}', b" {" + ask + b',"stream":true}'),
            (b"{ }", b"{" + ask + b" }"),
            (b'{"x":{"stream_options":{}}}', b"{" + ask + b',"x":{"stream_options":{}}}'),
            (b'{"stream_options" : null }', b'{"stream_options" : {"include_usage":true} }'),
            (b'{"stream_options": { }, "n":1}', b'{"stream_options": {"include_usage":true }, "n":1}'),
            (
                b'{"stream_options":{"a":{"include_usage":1}}}',
                b'{"stream_options":{"include_usage":true,"a":{"include_usage":1}}}',
            ),
            (b'{"stream_options":{"a":1,"include_usage": false}}', b'{"stream_options":{"a":1,"include_usage": true}}'),
            (b'{"stream_options":{"include_usage":null}}', b"{" + ask + b"}"),
        ):
            self.assertEqual(ask_for_usage(before), after)
            self.assertIs(look_at(JSON, after, True).include_usage, True)

    def test_left_alone(self) -> None:
        """Where it is asked already, or nobody can tell, nothing is changed."""
        twice = b'{"stream_options":{},"stream_options":{"include_usage":false}}'
        for body in (
            b'{"stream_options":{"include_usage":true}}',
            b'{"stream_options":{"include_usage":0}}',
            b'{"stream_options":[]}',
            b'{"stream_options":"%b"}' % (b"x" * 9999),
            twice,
            b'{"stream_options":{},"Stream_Options":{}}',
            b'{"stream_options":{}',
            b"[]",
        ):
            self.assertIsNone(ask_for_usage(body), body[:60])
