"""The one door: what it lets through to the upstream, what that uses, and what is given back."""

from __future__ import annotations

import gzip

from openai_relay.core.policy import ClientRules, QuotaRules, Rules
from openai_relay.core.settings import LimitSettings
from openai_relay.core.usage import Usage
from tests.admitting import JSON, USED, AdmissionCase, chat, post
from tests.relay_case import BOB, STREAM_HEAD, answer, chunk, request


class RuleTests(AdmissionCase):
    """Who may do what."""

    client_rules = {
        "alice": ClientRules(
            Rules(
                models=("gpt-5*", "o9"),
                paths=("/v1/chat/completions", "/v1/models", "/v1/audio", "/v1/batches"),
                methods=("GET", "POST"),
            )
        ),
        "bob": ClientRules(Rules(disabled=True)),
    }

    def test_disabled(self) -> None:
        """A client that is switched off may do nothing, not even ask about itself."""
        self.assertEqual(self.refused(post(chat()), BOB), (403, "client_disabled"))
        answered = self.answered(self.asked(request(target="/relay/v1/me"), BOB))
        self.assertEqual((answered.status, answered.error["code"]), (403, "client_disabled"))

    def test_paths_and_methods(self) -> None:
        """A client's own paths and methods narrow what the relay forwards."""
        self.assertEqual(self.refused(post(chat(), target="/v1/embeddings")), (403, "path_not_allowed"))
        answered = self.answered(self.asked(request("DELETE", "/v1/models/x")))
        self.assertEqual((answered.status, answered.error["code"]), (403, "method_not_allowed_for_client"))

    def test_models(self) -> None:
        """A model that is allowed goes through, by its name or a glob; another is refused, with those that are."""
        for model in ("gpt-5", "gpt-5-mini", "o9"):
            wire = self.ask(post(chat(model)))
            self.assertEqual(self.serve(wire), 200)
            self.assertEqual(self.closed[-1].model, model)
        answered = self.answered(self.asked(post(chat("gpt-4o"))), "POST")
        self.assertEqual((answered.status, answered.error["code"]), (403, "model_not_allowed"))
        self.assertIn("gpt-5*, o9", answered.error["message"])

    def test_hidden_model(self) -> None:
        """A body that hides its model, in whatever way, is refused and says that it does."""
        form = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n'
        for body, fields in (
            (chat(None), (JSON,)),
            (b"not json", (JSON,)),
            (b"", (JSON,)),
            (chat("gpt-5")[:-1], (JSON,)),
            (b'{"model":"gpt-5","model":"gpt-4o"}', (JSON,)),
            (b'{"model":"gpt-5","Model":"gpt-4o"}', (JSON,)),
            (chat("gpt-5"), (JSON, "Content-Encoding: secret")),
            (b"\x1f\x8b", (JSON, "Content-Encoding: gzip")),
            (form, ("Content-Type: multipart/form-data; boundary=b",)),
            (chat("gpt-5"), (JSON, "Content-Type: multipart/form-data; boundary=b")),
        ):
            with self.subTest(body=body, fields=fields):
                self.assertEqual(self.refused(post(body, *fields)), (400, "model_hidden"))

    def test_compressed(self) -> None:
        """A compressed body is looked into, and goes on as it came."""
        body = gzip.compress(chat("gpt-5"))
        wire = self.ask(post(body, JSON, "Content-Encoding: gzip"))
        self.assertTrue(self.upstream_wire().taken().endswith(body))
        self.assertEqual(self.serve(wire), 200)
        body = gzip.compress(chat("gpt-4o"))
        self.assertEqual(self.refused(post(body, JSON, "Content-Encoding: gzip")), (403, "model_not_allowed"))

    def test_form(self) -> None:
        """So is a form."""
        target, field = "/v1/audio/transcriptions", "Content-Type: multipart/form-data; boundary=b"
        form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n--b--\r\n'
        wire = self.ask(post(form % b"gpt-5-audio", field, target=target))
        self.assertEqual(self.serve(wire), 200)
        self.assertEqual(self.refused(post(form % b"whisper-1", field, target=target)), (403, "model_not_allowed"))

    def test_later_model(self) -> None:
        """What makes a model answer later is refused where it does not show which."""
        self.assertEqual(self.refused(post(b'{"input_file_id":"f"}', target="/v1/batches")), (400, "model_hidden"))

    def test_reading_needs_no_model(self) -> None:
        """What asks no model is not held to the rule."""
        wire = self.asked(request(target="/v1/models"))
        self.upstream_wire().receive(answer())
        self.assertEqual(self.answered(wire).status, 200)

    def test_second_model_behind_the_look(self) -> None:
        """A second model behind what was looked at ends the request before the upstream has all of it."""
        body = b'{"model":"gpt-5","messages":["' + b"x" * 1_100_000 + b'"],"model":"gpt-4o"}'
        asked = post(body)
        wire = self.ask(asked[:-20])
        self.assertGreater(len(self.upstream_wire().value()), 1_000_000)
        wire.receive(asked[-20:])
        self.assertNotIn(b"gpt-4o", self.upstream_wire().value())
        self.assertEqual(self.upstream_wire().ending, "aborted")
        answered = self.answered(wire, "POST")
        self.assertEqual((answered.status, answered.error["code"]), (400, "model_hidden"))

    def test_unreadable_behind_the_look(self) -> None:
        """Behind what was looked at, what cannot be read any more ends the request, too."""
        start = b'{"model":"gpt-5","messages":["' + b"x" * 1_100_000 + b'"],'
        for rest in (b'"n":1,' * 65 + b'"model":"gpt-4o"}', b'"a":1} {"model":"gpt-4o"}', b'"models":["gpt-4o"]}'):
            asked = post(start + rest)
            wire = self.ask(asked[: -len(rest)])
            self.assertGreater(len(self.upstream_wire().value()), 1_000_000)
            wire.receive(rest)
            self.assertNotIn(b"gpt-4o", self.upstream_wire().value())
            self.assertEqual(self.upstream_wire().ending, "aborted")
            self.assertEqual(self.answered(wire, "POST").error["code"], "model_hidden")

    def test_other_models_beside(self) -> None:
        """Lists of models, which some servers choose from, are as good as a second model."""
        for name in ("models", "fallbacks"):
            body = b'{"model":"gpt-5","%b":["gpt-4o"],"messages":[]}' % name.encode()
            self.assertEqual(self.refused(post(body)), (400, "model_hidden"))

    def test_another_type(self) -> None:
        """A body that says to be something else than JSON is not read as JSON."""
        body = b'{"model":"gpt-5","x":"&model=gpt-4o&"}'
        asked = post(body, "Content-Type: application/x-www-form-urlencoded")
        self.assertEqual(self.refused(asked), (400, "model_hidden"))

    def test_long_body(self) -> None:
        """A long body with one model goes through whole, whatever stands in its texts."""
        body = b'{"model":"gpt-5","messages":["' + b'\\"model\\":\\"gpt-4o\\"' * 100_000 + b'"]}'
        wire = self.ask(post(body))
        self.assertTrue(self.upstream_wire().value().endswith(body))
        self.assertEqual(self.serve(wire), 200)


class SpellingTests(AdmissionCase):
    """A rule about models, and nothing else."""

    client_rules = {"alice": ClientRules(Rules(models=("gpt-5*",)))}

    def test_escaped_path(self) -> None:
        """No spelling of a path is a way around the rule."""
        body = b'{"model":"gpt-4o","input":"x"}'
        for target in ("/v1/chat/%63ompletions", "/v1/chat/completions/", "/v1//chat/completions"):
            self.assertEqual(self.refused(post(body, target=target)), (403, "model_not_allowed"), target)
        for target in ("/v1/responses/compac%74", "/v1/threads/run%73", "/v1/chat/completions/."):
            self.assertEqual(self.refused(post(body, target=target)), (403, "model_not_allowed"), target)


class ExpiryTests(AdmissionCase):
    client_rules = {"alice": ClientRules(Rules(not_after=10.0))}

    def test_ended_by_the_operator(self) -> None:
        """A client whose access has ended is told so, though its certificate holds longer."""
        self.assertEqual(self.refused(post(chat())), (401, "client_certificate_expired"))


class ModelLimitTests(AdmissionCase):
    client_rules = {
        "alice": ClientRules(Rules(model_limits=(("gpt-5*", QuotaRules(requests_per_minute=60, burst=2)),)))
    }

    def test_shared_by_the_glob(self) -> None:
        """All models of one glob share its limit; others are not held to it."""
        for model in ("gpt-5", "gpt-5-mini"):
            self.assertEqual(self.serve(self.ask(post(chat(model)))), 200)
        self.assertEqual(self.refused(post(chat("gpt-5-nano"))), (429, "rate_limit_exceeded"))
        self.assertEqual(self.serve(self.ask(post(chat("o3")))), 200)


class TokenTests(AdmissionCase):
    """60 tokens a second, 1,200 at once; an answer is expected to take 1,000."""

    limit_settings = LimitSettings(tokens_per_minute=3_600, token_burst=1_200)

    def test_settled_with_what_was_used(self) -> None:
        """What was set aside is settled with what the upstream tells: the next is not held to the estimate."""
        for _ in range(4):
            self.assertEqual(self.serve(self.ask(post(chat()))), 200)
        self.assertEqual(self.closed[-1].usage, Usage(30, output_tokens=20))

    def test_too_much_at_once(self) -> None:
        """What might not fit beside another that is open is refused with its wait, and takes nothing."""
        first = self.ask(post(chat()))
        answered = self.answered(self.ask(post(chat())), "POST")
        self.assertEqual((answered.status, answered.error["type"]), (429, "tokens"))
        self.assertGreater(int(answered.fields["retry-after-ms"]), 10_000)
        self.assertEqual(self.serve(first), 200)
        self.assertEqual(self.serve(self.ask(post(chat()))), 200)

    def test_bound_of_the_request(self) -> None:
        """A request that sets a bound for its answer is let in for that."""
        first = self.ask(post(chat(max_tokens=100)))
        second = self.ask(post(chat(max_completion_tokens=200)))
        self.upstream_wire(0).receive(answer(USED))
        self.assertEqual(self.answered(first, "POST").status, 200)
        self.assertEqual(self.serve(second), 200)

    def test_refused_by_the_upstream(self) -> None:
        """An exchange that the upstream refused used nothing."""
        for _ in range(5):
            wire = self.ask(post(chat()))
            self.upstream_wire().receive(answer(b'{"error":{}}', "400 Bad Request"))
            self.assertEqual(self.answered(wire, "POST").status, 400)
        self.assertEqual([each.usage for each in self.closed], [None] * 5)

    def test_hang_up(self) -> None:
        """A client that hangs up in the midst of a stream pays for about what was sent, and the upstream is left."""
        body = chat(stream=True, stream_options={"include_usage": True})
        wire = self.ask(post(body))
        upstream = self.upstream_wire()
        upstream.receive(STREAM_HEAD)
        for number in range(10):
            upstream.receive(chunk(b'data: {"choices":[{"index":0,"delta":{"content":" river"}}]}\n\n'))
            self.assertEqual(self.took(wire).count(b"river"), 1, number)
        wire.lose()
        self.assertEqual(upstream.ending, "aborted")
        exchange = self.closed[-1]
        assert exchange.usage is not None
        self.assertTrue(exchange.usage.estimated)
        self.assertTrue(8 <= exchange.usage.output_tokens <= 12, exchange.usage)
        self.assertEqual((exchange.end, exchange.stage, exchange.events), ("client_gone", "streamed", 10))

    def test_background(self) -> None:
        """An answer that is fetched later, and told to nobody here, counts as what was set aside for it."""
        wire = self.ask(post(chat(background=True, max_output_tokens=500), target="/v1/responses"))
        self.assertEqual(self.serve(wire, b'{"id":"resp_1","status":"queued","usage":null}'), 200)
        usage = self.closed[-1].usage
        assert usage is not None
        self.assertEqual((usage.output_tokens, usage.estimated), (500, True))

    def test_odd_counts(self) -> None:
        """Whatever numbers an upstream writes, the exchange is accounted, and gives back what it held."""
        wire = self.ask(post(chat()))
        odd = b'{"usage":{"total_tokens":1%b,"completion_tokens":1.5}}' % (b"0" * 400)
        self.assertEqual(self.serve(wire, odd), 200)
        self.assertRecorded(200, "done")

    def test_no_answer(self) -> None:
        """What went up and was never answered counts as estimated; what never went up counts nothing."""
        wire = self.ask(post(chat()))
        wire.lose()
        assert self.closed[-1].usage is not None
        self.assertTrue(self.closed[-1].usage.estimated)
        self.far_end.failure = OSError("no route")
        self.assertEqual(self.answered(self.ask(post(chat())), "POST").status, 502)
        self.assertIsNone(self.closed[-1].usage)
