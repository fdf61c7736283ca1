"""Try inputs on the wire floor: ``python -m tests.fuzz [--seconds N] [--role ROLE] [--seed N] [--replay FILE]``."""

from __future__ import annotations

import argparse
import importlib.util
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TextIO

from tests.fuzz.campaign import CHECKS, Check, examine, explore

ROOT: Final = Path(__file__).resolve().parent.parent.parent
#: What starting a process, and ending it, may take beside its time.
_GRACE: Final = 60


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description="Look for bytes that break the wire floor.")
    parser.add_argument("--seconds", type=int, default=60, help="for all roles together (60)")
    parser.add_argument("--role", choices=[*CHECKS, "all"], default="all", help="what is tried (all)")
    parser.add_argument("--seed", type=int, default=None, help="the same seed tries the same inputs (a new one)")
    parser.add_argument("--inputs", type=int, default=None, help="so many for each role, instead of for a time")
    parser.add_argument("--plain", action="store_true", help="do not use atheris, even if it is installed")
    parser.add_argument("--findings", type=Path, default=ROOT / "reports" / "fuzz", help="where what breaks is kept")
    parser.add_argument("--replay", type=Path, default=None, metavar="FILE", help="try this file, and nothing else")
    return parser


def main(arguments: Sequence[str], out: TextIO, checks: Mapping[str, Check] = CHECKS) -> int:
    """
    Run; returns 0, or 1 when something broke.

    :param checks: what is tried, where atheris is not used.
    """
    options = _parser().parse_args(arguments)
    roles = list(CHECKS) if options.role == "all" else [options.role]
    if options.replay is not None:
        return _replay(roles, options.replay, checks, out)
    seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    guided = not options.plain and options.inputs is None and importlib.util.find_spec("atheris") is not None
    out.write(f"seed {seed}, {'guided by atheris' if guided else 'grammar and mutation'}\n")
    share = max(options.seconds // len(roles), 1)
    for role in roles:
        out.flush()
        if not (
            _guided(role, share, seed, options, out)
            if guided
            else _plain(role, share, seed, options, checks[role], out)
        ):
            return 1
    return 0


def _plain(role: str, seconds: int, seed: int, options: argparse.Namespace, check: Check, out: TextIO) -> bool:
    end = time.monotonic() + seconds
    wanted = options.inputs
    explored = explore(
        role, seed, lambda count: count >= wanted if wanted is not None else time.monotonic() >= end, check
    )
    out.write(explored.told() + "\n")
    if explored.finding is None:
        return True
    out.write(explored.finding.told(explored.finding.save(options.findings)))
    out.write(f"The whole campaign again: python -m tests.fuzz --plain --role {role} --seed {seed}\n")
    return False


def _guided(role: str, seconds: int, seed: int, options: argparse.Namespace, out: TextIO) -> bool:
    with tempfile.TemporaryDirectory() as found:
        ended = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.guided", role, str(seconds), str(seed), str(options.findings), found],
            cwd=ROOT,
            timeout=seconds + _GRACE,
            check=False,
            capture_output=True,
            text=True,
        )
    out.write(ended.stdout)
    if ended.returncode:
        # Without a finding it was libFuzzer that stopped it, and says why.
        out.write(f"{role}: broken\n" if ended.stdout else ended.stderr[-4_000:])
        return False
    units = re.search(r"number_of_executed_units: *([0-9]+)", ended.stderr)
    new = re.search(r"new_units_added: *([0-9]+)", ended.stderr)
    out.write(f"{role}: {units and units[1]} inputs, {new and new[1]} of them took a new branch\n")
    return True


def _replay(roles: list[str], path: Path, checks: Mapping[str, Check], out: TextIO) -> int:
    named = [role for role in roles if path.name.startswith(f"{role}-")] or roles
    data = path.read_bytes()
    broken = 0
    for role in named:
        finding = examine(role, checks[role], data)
        if finding is None:
            out.write(f"{role}: {checks[role](data)}\n")
        else:
            out.write(f"{role}:\n{finding.trace}")
            if finding.data != data:
                out.write(f"the smallest part that breaks it:\n  {finding.data!r}\n")
            broken = 1
    return broken


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout))
