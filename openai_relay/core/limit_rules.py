"""What limits are: the values that ``limits.py`` and ``waiting.py`` hold a client to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from openai_relay.core.buckets import Rate
from openai_relay.core.globs import GlobTable


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What each certificate may do; ``None`` is unlimited."""

    requests_per_minute: float | None = None
    burst: int | None = None  #: how many requests at once; default: a minute's worth, at least 1
    concurrent: int | None = None
    tokens_per_minute: float | None = None
    token_burst: int | None = None  #: how many tokens at once; default: a minute's worth
    max_wait: float = 0.0  #: seconds that a request may wait for its turn; 0: it is refused at once
    max_queue: int = 0  #: how many requests of one certificate may wait
    shadow: bool = False  #: count what would be refused, and refuse nothing
    expected_output: int = 1_000  #: tokens set aside for an answer whose request sets no bound of its own


@dataclass(frozen=True, slots=True)
class Quota:
    """What one account may do; ``None`` is unlimited."""

    requests: Rate | None = None
    tokens: Rate | None = None
    concurrent: int | None = None

    @classmethod
    def of(
        cls,
        *,
        requests_per_minute: float | None = None,
        burst: int | None = None,
        tokens_per_minute: float | None = None,
        token_burst: int | None = None,
        concurrent: int | None = None,
    ) -> Self:
        """
        The quota of these settings.

        :raises ValueError: when a setting can never let anything pass; the text names it.
        """
        if concurrent is not None and concurrent < 1:
            raise ValueError(f"concurrent must be at least 1, not {concurrent}")
        requests = tokens = None
        if requests_per_minute is not None:
            requests = Rate.of(requests_per_minute, burst, "requests_per_minute", "burst")
        if tokens_per_minute is not None:
            tokens = Rate.of(tokens_per_minute, token_burst, "tokens_per_minute", "token_burst")
        return cls(requests, tokens, concurrent)

    def __bool__(self) -> bool:
        """Whether anything is limited."""
        return not (self.requests is None and self.tokens is None and self.concurrent is None)


def _no_models() -> GlobTable[Quota]:
    return GlobTable(())


@dataclass(frozen=True, slots=True, eq=False)
class KeyLimits:
    """
    All that one key is held to: its own quota, and one for each group of models.

    All models that one glob stands for share that glob's quota: a client that
    writes a model's name in ten ways has no more of it.
    """

    own: Quota = Quota()
    models: GlobTable[Quota] = field(default_factory=_no_models)
    shadow: bool = False  #: count what would be refused, and refuse nothing
    max_wait_ns: int = 0  #: how long a request may wait for its turn; 0: it is refused at once
    max_queue: int = 0  #: how many requests of the key may wait

    @classmethod
    def of(cls, settings: LimitSettings, models: Iterable[tuple[str, Quota]] = ()) -> Self:
        """
        The limits of a table of settings.

        :raises ValueError: as ``Quota.of`` does.
        """
        own = Quota.of(
            requests_per_minute=settings.requests_per_minute,
            burst=settings.burst,
            tokens_per_minute=settings.tokens_per_minute,
            token_burst=settings.token_burst,
            concurrent=settings.concurrent,
        )
        wait_ns = int(settings.max_wait * 1_000_000_000)
        return cls(own, GlobTable(models), settings.shadow, wait_ns, settings.max_queue)

    def for_model(self, model: str | None) -> tuple[str, Quota] | None:
        """The glob and quota that a model falls under."""
        return self.models.find(model) if model is not None and self.models else None
