"""
Both roles against h11, in messages that hypothesis makes and cuts: read alike, or refused.

``tests/fuzz`` holds the grammar and the checks, and tries far more of them.
"""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import client_check, server_check
from tests.fuzz.client_check import METHODS, check_client, rule_no_length_of_nothing
from tests.fuzz.cutting import cut
from tests.fuzz.grammar import make
from tests.fuzz.mutation import mutate
from tests.fuzz.part_checks import check_chunked, check_head
from tests.fuzz.reading import read_response
from tests.fuzz.server_check import check_server, requests_of

randoms = st.randoms(use_true_random=False)
places = st.lists(st.integers(0, 2_000), max_size=6)


def damaged(role: str, random: Random) -> bytes:
    return mutate(make(role, random), [make(role, random)], random)


def cut_at(data: bytes, wanted: list[int]) -> list[bytes]:
    return cut(data, [place % (len(data) + 1) for place in wanted])


class ServerTests(SynchronousTestCase):
    @given(randoms)
    def test_nearly_good(self, random: Random) -> None:
        """Requests that keep nearly all rules reach the upstream as h11 reads them, or are refused and end it all."""
        check_server(make("server", random))

    @given(randoms)
    def test_damaged(self, random: Random) -> None:
        """So do requests with damage that no rule foresees."""
        check_server(damaged("server", random))

    @given(st.binary(max_size=80))
    def test_any_bytes(self, data: bytes) -> None:
        """So do bytes that are nothing at all."""
        check_server(data)

    @given(randoms, places, places)
    def test_any_cutting(self, random: Random, some: list[int], others: list[int]) -> None:
        """What becomes of requests does not depend on how they are cut into blocks."""
        data = make("server", random)
        expected = requests_of(data)
        self.assertEqual(
            server_check.serve(cut_at(data, some), expected), server_check.serve(cut_at(data, others), expected)
        )


class ClientTests(SynchronousTestCase):
    @given(randoms)
    def test_nearly_good(self, random: Random) -> None:
        """Answers that keep nearly all rules reach the client as h11 reads them, or as none that is complete."""
        check_client(make("client", random))

    @given(randoms)
    def test_damaged(self, random: Random) -> None:
        """So do answers with damage that no rule foresees."""
        check_client(damaged("client", random))

    @given(st.binary(max_size=80))
    def test_any_bytes(self, data: bytes) -> None:
        """So do bytes that are nothing at all, and what begins as an answer and goes on with them."""
        check_client(data)
        check_client(b"HTTP/1.1 200 OK\r\n" + data)
        check_client(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)

    @given(randoms, st.sampled_from(METHODS), places, places)
    def test_any_cutting(self, random: Random, method: bytes, some: list[int], others: list[int]) -> None:
        """What becomes of an answer does not depend on how it is cut into blocks."""
        data = make("client", random)
        expected = rule_no_length_of_nothing(read_response(data, method, closed=True))
        self.assertEqual(
            client_check.ask(method, cut_at(data, some), expected),
            client_check.ask(method, cut_at(data, others), expected),
        )


class PartTests(SynchronousTestCase):
    @given(randoms)
    def test_chunked(self, random: Random) -> None:
        """A chunked body is decoded as h11 decodes it, however it is cut, or refused; so is a damaged one."""
        check_chunked(make("chunked", random))
        check_chunked(damaged("chunked", random))

    @given(randoms)
    def test_heads(self, random: Random) -> None:
        """A head is parsed as h11 parses it, or refused; so is a damaged one."""
        check_head(make("head", random))
        check_head(damaged("head", random))
