"""A short campaign, the same one each time, finds nothing; one that finds something says how to see it again."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.__main__ import main
from tests.fuzz.campaign import CHECKS, CORPUS, corpus, examine, explore, smaller

#: How many inputs fit into a second or two, and what must become of some of them.
SHORT = {
    "server": (900, {"complete", "open", "refused"}),
    "client": (500, {"complete", "declined", "refused"}),
    "chunked": (4_000, {"complete", "open", "refused"}),
    "head": (4_000, {"request", "response", "refused"}),
}


def no_nul(data: bytes) -> str:
    """A check that NUL breaks."""
    assert b"\0" not in data, "there is a NUL"
    return "fine"


class Listed:
    """A check that finds nothing, and remembers what it was given."""

    def __init__(self) -> None:
        self.inputs: list[bytes] = []

    def __call__(self, data: bytes) -> str:
        self.inputs.append(data)
        return "fine"


class CampaignTests(SynchronousTestCase):
    def assertClean(self, role: str) -> None:
        count, words = SHORT[role]
        explored = explore(role, 1, lambda tried: tried >= count)
        if explored.finding is not None:
            self.fail(explored.finding.told(Path("a-file-with-these-bytes")))
        self.assertEqual(explored.inputs, count)
        self.assertEqual(set(explored.words), words)
        # Neither is nearly everything refused nor nearly everything good: the inputs go deep.
        self.assertGreater(min(explored.words.most_common(2), key=lambda pair: pair[1])[1], count // 5)

    def test_server(self) -> None:
        """Whatever a client sends, the relay reads what h11 reads, or refuses it."""
        self.assertClean("server")

    def test_client(self) -> None:
        """Whatever an upstream answers, the client reads what h11 reads, or no complete answer."""
        self.assertClean("client")

    def test_chunked(self) -> None:
        """Whatever stands in a chunked body, it is decoded as h11 decodes it, or refused."""
        self.assertClean("chunked")

    def test_head(self) -> None:
        """Whatever stands in a head, it is parsed as h11 parses it, or refused."""
        self.assertClean("head")

    def test_same_again(self) -> None:
        """One seed tries the same inputs each time, another seed others."""
        tried = [Listed(), Listed(), Listed()]
        for seed, check in zip((1, 1, 2), tried, strict=True):
            explore("head", seed, lambda count: count >= 60, check)
        self.assertEqual(tried[0].inputs, tried[1].inputs)
        self.assertNotEqual(tried[0].inputs, tried[2].inputs)

    def test_corpus(self) -> None:
        """Each role has inputs to begin with, and they are tried first."""
        self.assertEqual(sorted(path.name for path in CORPUS.iterdir()), sorted(CHECKS))
        for role in CHECKS:
            check = Listed()
            explore(role, 1, lambda count: count >= 60, check)
            self.assertEqual(check.inputs[: len(corpus(role))], corpus(role))

    def test_smaller(self) -> None:
        """What breaks a check is cut down to the part that does."""
        self.assertEqual(smaller(no_nul, b"GET / HTTP/1.1\r\nX-A: \0\r\n\r\n"), b"\0")
        finding = examine("head", no_nul, b"a\0b")
        assert finding is not None
        self.assertEqual(finding.data, b"\0")
        self.assertIsNone(examine("head", no_nul, b"ab"))


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.checks = dict.fromkeys(CHECKS, no_nul)

    def run_main(self, *arguments: str, broken: bool = False) -> tuple[int, str]:
        out = io.StringIO()
        code = main(["--findings", str(self.directory), *arguments], out, self.checks if broken else CHECKS)
        return code, out.getvalue()

    def test_clean(self) -> None:
        """A campaign that finds nothing counts what it has tried, role by role, and ends with 0."""
        code, said = self.run_main("--plain", "--seed", "5", "--inputs", "40")
        self.assertEqual(code, 0)
        self.assertIn("seed 5", said)
        for role in CHECKS:
            self.assertIn(f"{role}: 40 inputs", said)
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_finding(self) -> None:
        """A finding ends a campaign with 1, is kept in a file, and is told with bytes, seed and how to see it again."""
        code, said = self.run_main("--plain", "--role", "head", "--seed", "5", "--inputs", "5000", broken=True)
        self.assertEqual(code, 1)
        (path,) = self.directory.iterdir()
        self.assertEqual(path.read_bytes(), b"\0")
        for part in ("there is a NUL", repr(b"\0"), f"--role head --replay {path}", "--plain --role head --seed 5"):
            self.assertIn(part, said)
        code, said = self.run_main("--replay", str(path), broken=True)
        self.assertEqual(code, 1)
        self.assertIn("there is a NUL", said)
        self.assertNotIn("chunked", said)

    def test_replay_of_what_is_mended(self) -> None:
        """A file that breaks nothing is told what becomes of it, by the check that its name names, or by all."""
        path = self.directory / "chunked-0000"
        path.write_bytes(b"2\r\nok\r\n0\r\n\r\n")
        self.assertEqual(self.run_main("--replay", str(path)), (0, "chunked: complete\n"))
        other = path.rename(self.directory / "other")
        code, said = self.run_main("--replay", str(other))
        self.assertEqual((code, len(said.splitlines())), (0, len(CHECKS)))
