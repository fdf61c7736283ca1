"""What openai-python makes of the errors that the relay itself answers: documented in ``docs/errors.md``."""

from __future__ import annotations

from typing import ClassVar

import httpx2
from openai import DefaultHttpxClient, InternalServerError, OpenAI
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.errors import (
    RelayBug,
    RelayError,
    ShuttingDown,
    UpgradeRefused,
    UpstreamClosed,
    UpstreamConnectTimeout,
    UpstreamMalformed,
    UpstreamTimeout,
    UpstreamUnreachable,
    UpstreamUntrusted,
    error_body,
)
from tests.reliability.bench import Bench
from tests.reliability.case import Do, Script, Through, Tls
from tests.reliability.messages import WITHIN
from tests.reliability.scripted import Play

_CLOSES: Script = (Do.READ_REQUEST, Do.CLOSE)
_IS_SILENT: Script = (Do.READ_REQUEST, Do.SILENCE)


def ask(client: OpenAI) -> None:
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello."}])


class ErrorTests(SynchronousTestCase):
    """Each error as the relay writes it, told to the SDK."""

    def told(self, error: RelayError, max_retries: int) -> tuple[InternalServerError, int]:
        """What the SDK raises, and how often it asked."""
        asked: list[str] = []

        def answer(request: httpx2.Request) -> httpx2.Response:
            asked.append(request.headers["x-stainless-retry-count"])
            fields = [(b"content-type", b"application/json"), *error.headers()]
            return httpx2.Response(error.status, headers=fields, content=error_body(error))

        transport = httpx2.MockTransport(answer)
        with OpenAI(
            base_url="https://relay.example/v1",
            api_key="unused",
            max_retries=max_retries,
            http_client=DefaultHttpxClient(transport=transport),
        ) as client:
            raised = self.assertRaises(InternalServerError, ask, client)
        self.assertEqual(asked, [str(number) for number in range(len(asked))])
        return raised, len(asked)

    def test_error_object(self) -> None:
        """Every error from 500 on is an `InternalServerError` with the relay's code, type and message."""
        causes = (
            *(RelayBug, ShuttingDown, UpgradeRefused, UpstreamClosed, UpstreamConnectTimeout),
            *(UpstreamMalformed, UpstreamTimeout, UpstreamUnreachable, UpstreamUntrusted),
        )
        for cause in causes:
            raised, asked = self.told(cause(), max_retries=0)
            self.assertEqual(asked, 1)
            self.assertEqual((raised.status_code, raised.code, raised.type), (cause.status, cause.code, cause.type))
            self.assertEqual(
                raised.body, {"message": cause.told, "type": cause.type, "param": None, "code": cause.code}
            )

    def test_repeated(self) -> None:
        """502, 503 and 504 are asked again, as often as ``max_retries`` says."""
        for cause in (UpstreamUnreachable, ShuttingDown, UpstreamTimeout):
            raised, asked = self.told(cause(), max_retries=1)
            self.assertEqual((raised.code, asked), (cause.code, 2))

    def test_not_repeated(self) -> None:
        """What says that asking again is in vain is not asked again."""
        raised, asked = self.told(UpgradeRefused(), max_retries=5)
        self.assertEqual((raised.code, asked), ("upgrade_not_supported", 1))


class RelayTests(SynchronousTestCase):
    """The SDK with a certificate, a real relay, and an upstream that fails."""

    bench: ClassVar[Bench]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.bench = Bench()
        cls.addClassCleanup(cls.bench.close)

    def raised(
        self, *scripts: Script, through: Through = Through.PATIENT, tls: Tls = Tls.GOOD, max_retries: int = 1
    ) -> tuple[int, str | None, int, int]:
        """Status and code of what is raised; how many answers there were; how many requests reached the upstream."""
        relay = self.bench.relay(through)
        play = self.bench.upstream.play = Play(scripts, tls)
        answers: list[httpx2.Response] = []
        with OpenAI(
            base_url=f"https://localhost:{relay.port}/v1",
            api_key="unused",
            max_retries=max_retries,
            timeout=WITHIN,
            http_client=DefaultHttpxClient(
                verify=self.bench.site.client_tls(), event_hooks={"response": [answers.append]}
            ),
        ) as client:
            error = self.assertRaises(InternalServerError, ask, client)
        return error.status_code, error.code, len(answers), len(play.seen)

    def test_unreachable(self) -> None:
        """An upstream that refuses connections is a 502, repeated by the SDK."""
        self.assertEqual(self.raised(through=Through.REFUSED), (502, "upstream_unreachable", 2, 0))

    def test_untrusted(self) -> None:
        """An upstream with a wrong certificate is a 502, and sees no request however often the SDK asks."""
        found = self.raised(through=Through.BRISK, tls=Tls.WRONG_NAME)
        self.assertEqual(found, (502, "upstream_certificate_invalid", 2, 0))

    def test_silent(self) -> None:
        """A silent upstream is a 504; it is the SDK that asks twice, and the relay that sends each once."""
        found = self.raised(_IS_SILENT, _IS_SILENT, through=Through.BRISK)
        self.assertEqual(found, (504, "upstream_timeout", 2, 2))

    def test_closed(self) -> None:
        """An upstream that closes is a 502; with ``max_retries=0`` it is asked once, and once only."""
        self.assertEqual(self.raised(_CLOSES, max_retries=0), (502, "upstream_closed", 1, 1))
        self.assertEqual(self.raised(_CLOSES, _CLOSES), (502, "upstream_closed", 2, 2))

    def test_recovered(self) -> None:
        """When the second try is answered, the program that uses the SDK sees no error."""
        relay = self.bench.relay(Through.PATIENT)
        said = b'{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"o"}]}'
        good = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said)
        play = self.bench.upstream.play = Play(
            ((Do.READ_REQUEST, b"nonsense\r\n\r\n"), (Do.READ_REQUEST, good)), Tls.GOOD
        )
        with OpenAI(
            base_url=f"https://localhost:{relay.port}/v1",
            api_key="unused",
            max_retries=1,
            timeout=WITHIN,
            http_client=DefaultHttpxClient(verify=self.bench.site.client_tls()),
        ) as client:
            self.assertEqual([model.id for model in client.models.list()], ["m"])
        self.assertEqual(len(play.seen), 2)
