"""What a request asks for, out of the beginning of its body."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.request_look import FormScan, JsonScan, Model, RequestLook, ask_for_usage, look_at, scan_for
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

    @given(st.lists(st.integers(0, 1 << 16), max_size=6))
    def test_any_cutting(self, where: list[int]) -> None:
        """However a form is cut, it says the same."""
        scan = FormScan("edge")
        for block in pieces(form(("file", b"\r\n--edg" * 9), ("model", b"m"), ("stream", b"1")), where):
            scan.feed(block)
        self.assertEqual((scan.found(True), scan.stream), ((Model.KNOWN, "m"), True))


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
