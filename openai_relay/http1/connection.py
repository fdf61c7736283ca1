"""What a request needs of the connection that it came on."""

from __future__ import annotations

from typing import Any, Protocol

from openai_relay.http1.gate import Gate


class Connection(Protocol):
    """As far as a request needs it; `ServerConnection` is one."""

    transport: Any
    gate: Gate
    client: Any
    client_address: str

    @property
    def closing(self) -> bool:
        """Whether it takes no further request."""

    @property
    def paused(self) -> bool:
        """Whether nothing is read from the client at present."""

    def close_after(self) -> None:
        """Take no further request after this one."""

    def pause(self) -> None:
        """Read nothing for a while."""

    def resume(self) -> None:
        """Read again."""

    def tunnel(self, request: Any) -> None:
        """Whatever comes from here on is the body of this request."""

    def exchange_over(self, request: Any) -> None:
        """The answer is complete."""

    def cut(self) -> None:
        """End so that the client sees that its answer is not complete."""

    def abort(self) -> None:
        """Reset."""
