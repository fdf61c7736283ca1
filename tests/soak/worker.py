"""
A process of clients: several threads, each with a certificate of its own, that run the mix until the time is up.

Once a second it writes all its counts, as one JSON line, to standard output; the
last line says that it is the last.  Standard input's end ends it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Final

import msgspec

from tests.soak import refusing
from tests.soak.calling import Caller, Done, Lost, Met502, Shared
from tests.soak.kinds import KINDS

#: Requests per second of one client, and how many at once; the relay's limits are above it.
RATE: Final = 15.0
BURST: Final = 10.0


class Orders(msgspec.Struct, frozen=True):
    """What one process is to do."""

    directory: str
    port: int
    names: list[str]  #: of certificates; a thread for each
    greedy: str
    hasty: str
    concurrent: int
    seconds: float  #: 0: only look whether each certificate still has all its leases
    seed: int


class Told(msgspec.Struct):
    """All that the clients of one process, or of all, did."""

    kinds: dict[str, int] = {}
    ends: dict[str, int] = {}
    handshakes: dict[str, int] = {}
    stale_asked: int = 0
    stale_met: int = 0
    failures: int = 0
    told: list[str] = []
    last: bool = False


def told(done: Done, last: bool = False) -> Told:
    """The counts as they are now."""
    with done.lock:
        return Told(
            dict(done.kinds),
            dict(done.ends),
            dict(done.handshakes),
            done.stale_asked,
            done.stale_met,
            done.failures,
            list(done.told),
            last,
        )


def attempt(caller: Caller, name: str, do: Callable[[Caller], None]) -> None:
    """Do one thing, and count how it went."""
    failure = None
    try:
        do(caller)
    except Met502:
        caller.done.stale(met=1)
        caller.done.ended("upstream_error")
        caller.drop()
    except (Lost, OSError, HTTPException, ValueError, KeyError, EOFError) as error:
        failure = f"{type(error).__name__}: {error}"
        caller.drop()
    caller.done.went(name, failure)


def run_mix(caller: Caller, stop: threading.Event) -> None:
    """One thing after another, by weight, until it is time to stop."""
    weights = [kind.weight for kind in KINDS]
    while not stop.is_set():
        (kind,) = caller.rng.choices(KINDS, weights)
        caller.pace(RATE, BURST, stop)
        attempt(caller, kind.name, kind.do)
    caller.drop()


def _callers(orders: Orders, done: Done, stop: threading.Event) -> list[Caller]:
    shared = Shared(orders.greedy, orders.hasty, orders.concurrent, stop)
    directory = Path(orders.directory)
    return [
        Caller(orders.port, directory, name, random.Random(f"{orders.seed} {name}"), done, shared)
        for name in orders.names
    ]


def look_at_leases(orders: Orders, done: Done) -> None:
    """Each certificate holds as many exchanges as it may, one after the other."""
    (caller, *_) = _callers(orders, done, threading.Event())
    for name in (*orders.names, orders.greedy, orders.hasty):
        attempt(caller, "leases", partial(refusing.hold_all, name=name))
    caller.drop()


def main(text: str) -> None:
    """Follow the orders."""
    orders = msgspec.json.decode(text, type=Orders)
    done, stop = Done(), threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of whoever started all of us, who will end us in order

    def say(last: bool = False) -> None:
        sys.stdout.write(json.dumps(msgspec.to_builtins(told(done, last))) + "\n")
        sys.stdout.flush()

    if orders.seconds:
        threading.Thread(target=_watch_stdin, args=(stop,), daemon=True).start()
        threads = [threading.Thread(target=run_mix, args=(each, stop)) for each in _callers(orders, done, stop)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + orders.seconds
        while not stop.is_set() and (left := end - time.monotonic()) > 0:
            stop.wait(min(1.0, left))
            say()
        stop.set()
        for thread in threads:
            thread.join()
    else:
        look_at_leases(orders, done)
    say(last=True)


def _watch_stdin(stop: threading.Event) -> None:
    while os.read(0, 4_096):
        pass
    stop.set()


if __name__ == "__main__":
    main(sys.argv[1])
