"""Note in an exchange's record what its request, its answer and its usage tell."""

from __future__ import annotations

from openai_relay.admission import Admitted
from openai_relay.core.decoding import join_codings
from openai_relay.core.errors import RelayError, UpstreamError, UpstreamTimeout
from openai_relay.core.exchange import Exchange
from openai_relay.core.identity import Identity
from openai_relay.core.metering import no_answer
from openai_relay.core.standing import Refused
from openai_relay.core.usage import Usage
from openai_relay.http1.request import Request
from openai_relay.http1.response import Response
from openai_relay.streaming import ResponseRelay


def note_request(exchange: Exchange, request: Request) -> None:
    """What its head says, and who sent it."""
    exchange.method = request.method.decode("ascii")
    exchange.path = request.target.partition(b"?")[0].decode("ascii")
    exchange.http_version = request.version.decode("ascii")
    exchange.client_address = request.connection.client_address
    client = request.connection.client
    if isinstance(client, Identity):
        exchange.identity = client
    elif isinstance(client, Refused):
        exchange.identity = client.identity


def note_response(exchange: Exchange, response: Response) -> tuple[bytes, bytes]:
    """
    What the head of its answer says.

    :returns: as `kind_of`.
    """
    exchange.status = exchange.upstream_status = response.code
    for value in [value for name, value in response.fields if len(name) == 12 and name.lower() == b"x-request-id"]:
        exchange.upstream_request_id = value.decode("latin-1")
    return kind_of(response)


def note_usage(exchange: Exchange, admitted: Admitted, answer: ResponseRelay | None, *, sent: bool) -> None:
    """What it has used, as far as anybody knows."""
    admitted.learn(exchange)
    if answer is not None:
        answer.account(exchange, admitted.demand.input_tokens)
        if admitted.demand.background and exchange.usage is not None and exchange.usage.estimated:
            # What is fetched later is told to nobody here: it counts as what was set aside for it.
            exchange.usage = Usage(
                admitted.demand.input_tokens, output_tokens=admitted.demand.output_tokens, estimated=True
            )
    elif sent and not _was_never_worked_on(exchange.error):
        exchange.usage = no_answer(admitted.asked.endpoint, admitted.asked.method, admitted.demand.input_tokens)


def _was_never_worked_on(error: RelayError | None) -> bool:
    """Whether an upstream that gave no answer cannot have done anything for it, either."""
    return isinstance(error, UpstreamError) and not isinstance(error, UpstreamTimeout)


def kind_of(response: Response) -> tuple[bytes, bytes]:
    """The media type and the content coding of an answer, in lower case."""
    media_type = coding = b""
    for name, value in response.fields:
        size = len(name)
        if size == 12 and name.lower() == b"content-type":
            media_type = value.split(b";", 1)[0].strip().lower()
        elif size == 16 and name.lower() == b"content-encoding":
            coding = join_codings(coding, value)
    return media_type, coding


def is_plain_stream(media_type: bytes, coding: bytes) -> bool:
    """Whether events can be taken out of, and written into, this body."""
    return media_type == b"text/event-stream" and coding in (b"", b"identity")
