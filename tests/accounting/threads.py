"""A reactor whose threads work when a test says so, in the test's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure

from tests.doubles import TurningReactor


class HandedReactor(TurningReactor):
    """
    Has no thread: what is given to one waits in ``given`` until `work`.

    :ivar given: in its order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Callable[[], None]] = []

    def getThreadPool(self) -> Any:
        return self

    def callInThreadWithCallback(
        self, told: Callable[[bool, Any], object], function: Callable[..., Any], *args: Any, **named: Any
    ) -> None:
        def work() -> None:
            try:
                result = function(*args, **named)
            except Exception:  # noqa: BLE001 - as a pool's thread does
                told(False, Failure())
            else:
                told(True, result)

        self.given.append(work)

    def callFromThread(self, function: Callable[..., Any], *args: Any, **named: Any) -> None:
        self.callLater(0, function, *args, **named)

    def work(self) -> None:
        """Do all that waits, and let the reactor hear of it."""
        given, self.given = self.given, []
        for each in given:
            each()
        self.settle()
