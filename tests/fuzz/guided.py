"""One role under atheris, which looks for inputs that take new branches; a process of its own, for `tests.fuzz`."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from random import Random
from typing import Any


def main(role: str, seconds: int, seed: int, findings: Path, found: Path) -> None:
    """
    Look for so long; ends the process, with 1 when something broke.

    :param found: a directory for the inputs that took new branches.
    """
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["openai_relay.http1"]):
        campaign: Any = importlib.import_module("tests.fuzz.campaign")
    grammar: Any = importlib.import_module("tests.fuzz.grammar")
    mutation: Any = importlib.import_module("tests.fuzz.mutation")
    check = campaign.CHECKS[role]
    seeds = campaign.corpus(role)

    def try_one(data: bytes) -> None:
        finding = campaign.examine(role, check, data)
        if finding is not None:
            sys.stdout.write(finding.told(finding.save(findings)))
            sys.stdout.flush()
            os._exit(1)  # nothing of libFuzzer's own report is wanted

    def another(data: bytes, max_size: int, number: int) -> bytes:
        random = Random(number)
        kind = random.randrange(4)
        if kind == 0:
            made: bytes = grammar.make(role, random)
        elif kind == 1:
            made = mutation.mutate(data, seeds, random)
        else:
            made = atheris.Mutate(data, max_size)
        return made[:max_size]

    findings.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-seed={seed % (1 << 31) or 1}",
        f"-max_len={mutation.LONGEST}",
        f"-artifact_prefix={findings}/{role}-",  # for what libFuzzer itself stops: too slow, too large
        "-timeout=20",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(found), str(campaign.CORPUS / role)], try_one, custom_mutator=another)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5]))
