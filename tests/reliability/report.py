"""
Writes what came of the cases as pages: ``docs/reliability.md``, and one page for each group beneath it.

Nothing in them depends on when or where they were made, so that making them
again changes nothing unless something has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.reliability.case import Group
from tests.reliability.verdict import Outcome

#: What stands for a promise that was not kept.
BROKEN: Final = "**no**"

_INTRODUCTION: Final = """\
# What happens to every request, and how each ends

The relay promises to pass on what is well-formed as if it were not there, to refuse what could be read in two ways,
and to end whatever goes wrong in one clear way. These pages show what it does, case by case. They are made by `make
reliability`, which fails, and marks the row, when a case is not as promised; the same cases run in `make test`. Do
not edit them by hand: the cases are in `tests/reliability/`.

## How it is tested

- **A real relay.** `twistd openai-relay` runs as a process of its own and is spoken to over mTLS with a client
  certificate. Nothing in it is replaced.
- **Bare ends.** The client is a TLS socket that sends the bytes of the case and reads what comes. The upstream is one
  too: it does what the case's script says, records every byte, and tells how its connection ended. Neither uses the
  relay's parser.
- **Faithful cases are made twice**, once directly between client and upstream and once through the relay, and
  compared byte for byte. Only what [headers.md](headers.md) and [http.md](http.md) promise may differ: hop-by-hop
  fields, `Host`, `Authorization`, `X-Client-Request-Id`, `x-relay-request-id`, `X-Accel-Buffering`, fields that are
  taken off, and where chunks begin and end.
- **After every case** the same connection, where it is to go on, and a new one each make a good request, which must
  get its own whole answer. What should not have reached the upstream would show there at the latest.
- **A cut** is a connection that ends without the end that HTTP and TLS ask for, so that no client takes what came for
  the whole. Into a plain event stream an error event is written before it.
- **Time-outs** are about a second where a case is about silence.

"The same" means the same bytes, as above. Otherwise the columns say which requests the upstream got, and which
status, error code and ending the client. Bytes are written with `\\r`, `\\n` and `\\x00`; `…` stands for the version
and the `Host` that all requests have, or for what a long text goes on with.
"""

_PAGE: Final = """\
# {title}

{promise}

{kept} [How this is tested](../reliability.md).

{head}
{rows}
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A group and what came of its cases."""

    group: Group
    outcomes: tuple[Outcome, ...]

    @property
    def unexplained(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.problems)

    @property
    def page(self) -> str:
        """The file name of its page."""
        return self.group.title.lower().replace(" ", "-") + ".md"


def write_pages(sections: list[Section], directory: Path) -> None:
    """Write ``reliability.md`` there, and ``reliability/`` with a page for each group and no other."""
    pages = directory / "reliability"
    pages.mkdir(parents=True, exist_ok=True)
    for old in pages.glob("*.md"):
        if old.name not in {section.page for section in sections}:
            old.unlink()
    (directory / "reliability.md").write_text(_INTRODUCTION + _summary(sections))
    for section in sections:
        (pages / section.page).write_text(page_of(section))


def _summary(sections: list[Section]) -> str:
    rows = [
        f"| [{each.group.title}](reliability/{each.page}) | {len(each.outcomes)} "
        f"| {len(each.outcomes) - len(each.unexplained)} | {len(each.unexplained)} |"
        for each in sections
    ]
    cases = sum(len(each.outcomes) for each in sections)
    broken = sum(len(each.unexplained) for each in sections)
    head = "\n## Summary\n\n| group | cases | as promised | unexplained |\n| --- | --- | --- | --- |\n"
    return f"{head}{chr(10).join(rows)}\n| **all** | **{cases}** | **{cases - broken}** | **{broken}** |\n"


def page_of(section: Section) -> str:
    """The page of one group."""
    unexplained = len(section.unexplained)
    kept = f"{len(section.outcomes)} cases, {unexplained or 'none'} unexplained."
    with_script = any(outcome.said != "answers" for outcome in section.outcomes)
    columns = ["case", "what was sent", "the upstream saw", "the client saw", "as promised"]
    if with_script:
        columns.insert(2, "what the upstream did")
    head = f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"
    rows = "\n".join(_row(outcome, with_script) for outcome in section.outcomes)
    return _PAGE.format(title=section.group.title, promise=section.group.promise, kept=kept, head=head, rows=rows)


def _row(outcome: Outcome, with_script: bool) -> str:
    verdict = "yes" if not outcome.problems else f"{BROKEN}: {_plain('; '.join(outcome.problems))}"
    cells = [_plain(outcome.case.name), _code(outcome.sent), _plain(outcome.upstream), _plain(outcome.client), verdict]
    if with_script:
        cells.insert(2, _code(outcome.said))
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Text in which nothing is markup."""
    return "".join(f"\\{sign}" if sign in "\\|`*_<>[]&#~" else sign for sign in text)


def _code(text: str) -> str:
    """Text as it is, in a cell; a fence of back quotes longer than any in it."""
    fence = "`"
    while fence in text:
        fence += "`"
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")
