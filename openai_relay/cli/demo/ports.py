"""Which ports on 127.0.0.1 are free, and what to say when the wanted one is not."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Self

from openai_relay.cli.output import Failure

LOOPBACK: Final = "127.0.0.1"


class Ports:
    """Finds ports that differ from each other: each stays bound until ``released``, then a child may take it."""

    def __init__(self, new_socket: Callable[[], socket.socket] = socket.socket) -> None:
        self._new_socket = new_socket
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def take(self, port: int, instead: str) -> int:
        """
        This port, or any free one for 0.

        :param instead: what to type to get another one
        :raises Failure: it is taken, or not allowed.
        """
        found = self.try_take(port)
        if isinstance(found, int):
            return found
        if found.errno == errno.EADDRINUSE:
            raise Failure(
                f"{LOOPBACK}:{port}: Another program listens there already, perhaps an earlier demo. "
                f"Stop it, or choose another port: {instead}."
            )
        raise Failure(f"{LOOPBACK}:{port}: Cannot listen there ({_reason(found)}). Choose another port: {instead}.")

    def try_take(self, port: int) -> int | OSError:
        """This port, or any free one for 0; or why not."""
        try:
            held = self._held.enter_context(self._new_socket())
            # As the relay will: a port that is only in TIME_WAIT is free.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind((LOOPBACK, port))
        except OSError as error:
            return error
        number: int = held.getsockname()[1]
        return number


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
