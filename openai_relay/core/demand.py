"""
Decide what of a request is looked at, which model it means, and what is to be set aside for it.

Endpoints are those of ``endpoint.py``.  What none of them stands for is taken
for one that may name a model and may cost: a path nobody knows must not be a
way around a rule.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qs

import msgspec

from openai_relay.core.budgets import Cost
from openai_relay.core.endpoint import OTHER, endpoint
from openai_relay.core.errors import ModelHidden, RelayError
from openai_relay.core.paths import readings
from openai_relay.core.policy import Policy
from openai_relay.core.prices import PriceTable
from openai_relay.core.request_look import Model, RequestLook
from openai_relay.core.usage import Usage

#: Bytes of a body that are looked at before it goes on.  SDKs write a chat's messages before its model.
LOOK: Final = 1 << 20
#: As many where memory is short, and nothing depends on it.
SHORT_LOOK: Final = 1 << 16

_CHATS: Final = frozenset({"chat/completions", "completions"})
_WRITING: Final = _CHATS | {
    "responses",
    "responses/compact",
    "audio/transcriptions",
    "audio/translations",
    "images/generations",
    "images/edits",
    "images/variations",
}
#: What uses tokens; of those that write nothing, only what comes in.
_COSTING: Final = _WRITING | {"embeddings", "audio/speech", OTHER}
#: What a model answers, now or later: with a rule about models, none of these goes up without one.
_OF_A_MODEL: Final = _COSTING | {
    "assistants",
    "assistants/{id}",
    "batches",
    "chatkit/sessions",
    "evals/{id}/runs",
    "fine_tuning/alpha/graders/run",
    "fine_tuning/jobs",
    "realtime",
    "realtime/calls",
    "realtime/calls/{id}/accept",
    "realtime/client_secrets",
    "realtime/sessions",
    "realtime/transcription_sessions",
    "responses/input_tokens",
    "threads/runs",
    "threads/{id}/runs",
    "videos",
    "videos/{id}/remix",
}
#: What names its model where nobody looks: in a file, in a session, in a grader.
_ELSEWHERE: Final = frozenset(
    {
        "batches",
        "chatkit/sessions",
        "evals",
        "evals/{id}/runs",
        "fine_tuning/alpha/graders/run",
        "fine_tuning/alpha/graders/validate",
        "realtime/calls",
        "realtime/client_secrets",
    }
)
#: What leads to tokens that nobody here counts, now or later: a spent budget stops it, and knows no more of it.
_LEADS_TO_COSTS: Final = (_OF_A_MODEL | _ELSEWHERE | {"threads/{id}/runs/{id}/submit_tool_outputs"}) - {
    "responses/input_tokens"
}
_NOTHING: Final = RequestLook(Model.ABSENT)


_RANKS: Final = (_WRITING, _COSTING - {OTHER}, _ELSEWHERE, _OF_A_MODEL - {OTHER}, {OTHER})
#: A path that every server reads alike: no escapes, no empty or dot segments, no small capitals.
_PLAIN: Final = re.compile(r"(?:/[a-z0-9_~:-][a-z0-9._~:-]*)+")


def endpoint_asked(path: str) -> str:
    """
    The endpoint that a path asks for, out of `endpoint.ENDPOINTS`.

    Of all that some server may take it for, the one that costs the most: an escape must not be a way around a limit.
    """
    name = endpoint(path)
    if _PLAIN.fullmatch(path):
        return name
    names = {name}
    try:
        for reading in readings(path.encode("ascii")):
            text = reading.decode().lower()
            names.add(endpoint(text.rstrip("/")))
    except RelayError:  # it is refused, or would have been
        names.add(OTHER)
    for rank in _RANKS:
        if found := names & rank:
            return name if name in found else min(found)
    return name


class Asked(msgspec.Struct, frozen=True, gc=False):
    """What is asked of the relay, as far as its head tells."""

    endpoint: str
    method: bytes
    target: bytes
    upgrades: bool = False

    @property
    def costs(self) -> bool:
        """Whether it may use tokens."""
        return self.upgrades or (self.method == b"POST" and self.endpoint in _COSTING)

    @property
    def leads_to_costs(self) -> bool:
        """Whether it uses tokens, or makes others use them: a job, a run, a key for somewhere else."""
        return self.upgrades or (self.method == b"POST" and self.endpoint in _LEADS_TO_COSTS)

    def is_looked_at(self, policy: Policy) -> bool:
        """Whether anything in its body matters."""
        looked_at = _OF_A_MODEL if policy.has_model_rule else _COSTING
        return self.method == b"POST" and not self.upgrades and self.endpoint in looked_at

    def waits_for_its_body(self, policy: Policy, include_usage: bool) -> bool:
        """
        Whether it stays until its body has come: something is decided by that, or may be put into it.

        :param include_usage: whether the usage of chat streams may be asked for.
        """
        decided = policy.has_model_rule or bool(policy.budgets) or policy.limits.own.tokens is not None
        return decided or (include_usage and self.endpoint in _CHATS)

    def may_ask_for_usage(self, look: RequestLook) -> bool:
        """Whether it is a stream whose usage the upstream tells when it is asked to, and was not."""
        return look.stream and look.include_usage is not True and self.endpoint in _CHATS


class Demand(msgspec.Struct, frozen=True, gc=False):
    """What an exchange may come to use."""

    model: str | None = None
    input_tokens: int = 0  #: estimated
    output_tokens: int = 0  #: at most, or as many as are expected
    images: int = 0
    background: bool = False  #: what it uses is told to nobody here

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.input_tokens + self.output_tokens

    def most(self, prices: PriceTable) -> Cost:
        """What it may cost."""
        price = prices.quote(self.model).price
        micro = price.estimate(self.input_tokens, self.output_tokens) + price.cost(Usage(), self.images)
        return Cost(self.tokens, micro)


def demand(asked: Asked, look: RequestLook | None, policy: Policy, expected_output: int) -> Demand:
    """
    What a request is to be let in for.

    :param look: at its body; ``None``: it has none, or nothing in it matters.
    :param expected_output: tokens of an answer whose request sets no bound.
    :raises ModelHidden: a rule about models applies, and the request does not show which one it means.
    :raises ModelNotAllowed:
    """
    if look is None:
        look = _of_target(asked.target) if asked.upgrades and asked.endpoint == "realtime" else _NOTHING
    if policy.has_model_rule and asked.method == b"POST" and asked.endpoint in _ELSEWHERE:
        raise ModelHidden(
            told="This request names its model where the relay does not look, "
            "and this client may use certain ones only."
        )
    if look.found is Model.AMBIGUOUS and policy.has_model_rule:
        raise ModelHidden(told="This request names more than one model, and this client may use certain ones only.")
    if look.model is not None or asked.upgrades or (asked.method == b"POST" and asked.endpoint in _OF_A_MODEL):
        policy.check_model(look.model if look.found is Model.KNOWN else None)
    if not asked.costs:
        return Demand(look.model)
    output = 0
    if asked.upgrades:
        output = expected_output
    elif asked.endpoint in _WRITING or asked.endpoint == OTHER:
        output = look.reserve(expected_output) - look.input_tokens
    images = look.choices if asked.endpoint.startswith("images/") else 0
    return Demand(look.model, look.input_tokens, output, images, look.background)


def cost_of(usage: Usage, asked: Demand, prices: PriceTable) -> tuple[int, bool]:
    """
    What an exchange cost in micro-dollars, and whether the price of unknown models stood in.

    Images whose usage nobody told cost by the piece.
    """
    quote = prices.quote(asked.model)
    images = asked.images if usage.estimated else 0
    return quote.price.cost(usage, images, round(usage.seconds * 1_000)), not quote.known


def _of_target(target: bytes) -> RequestLook:
    """The model that the address of a WebSocket names."""
    query = target.partition(b"?")[2].decode("ascii", "replace")
    names = parse_qs(query, keep_blank_values=True).get("model", [])
    if len(set(names)) > 1:
        return RequestLook(Model.AMBIGUOUS)
    return RequestLook(Model.KNOWN, names[0]) if names and names[0] else RequestLook(Model.HIDDEN)
