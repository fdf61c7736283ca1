"""``python -m tests.soak``: runs a soak, prints how it goes, writes its report, and exits with 1 when it failed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from tests.soak.run import Plan, Soak, report
from tests.soak.verdict import MIB, Observed, findings


@click.command()
@click.option("--seconds", type=click.FloatRange(1), default=600, show_default=True, help="How long the clients work.")
@click.option("--processes", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes of clients.")
@click.option("--threads", type=click.IntRange(1, 64), default=6, show_default=True, help="Clients in each.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the mix.")
@click.option("--every", type=click.FloatRange(1), default=30, show_default=True, help="Seconds between two lines.")
@click.option("--report", "into", type=click.Path(path_type=Path), help="Where the report goes, as JSON.")
def main(seconds: float, processes: int, threads: int, seed: int, every: float, into: Path | None) -> None:
    """Load a relay with a mix of all that clients and upstreams do, and look whether anything is lost or leaks."""
    plan = Plan(seconds, processes, threads, seed, every)
    click.echo(f"{processes * threads} clients for {seconds:g} s, seed {seed}; memory counts after {plan.warm_up:g} s")
    soak = Soak(plan, click.echo)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: soak.stop.set())  # once more of it is not needed: every wait has an end
    seen = soak.run()
    wrong = findings(seen)
    if into is not None:
        into.parent.mkdir(parents=True, exist_ok=True)
        into.write_text(report(seen, wrong))
    click.echo(table(seen))
    for each in wrong:
        click.echo(f"FAILED: {each}")
    if wrong:
        click.echo("\n".join(["The relay said last:", *soak.tail()]))
        sys.exit(1)
    click.echo("passed: nothing lost, nothing leaked, all counts equal")


def table(seen: Observed) -> str:
    """What was done and seen, for a person."""
    total = sum(seen.books[0].ends.values())
    rows: list[tuple[str, object]] = [("kind", "times"), *sorted(seen.kinds.items())]
    lines = ["", *(f"  {name:<24} {count:>10}" for name, count in rows), ""]
    lines.append(f"  {'ended as':<24}" + "".join(f" {each.who.removeprefix('the '):>16}" for each in seen.books))
    for end in sorted({end for each in seen.books for end in each.ends}):
        lines.append(f"  {end:<24}" + "".join(f" {each.ends.get(end, 0):>16}" for each in seen.books))
    lines.append(f"  {'all':<24}" + "".join(f" {sum(each.ends.values()):>16}" for each in seen.books))
    drift = seen.rss_last - seen.rss_first
    share = f" ({drift / seen.rss_first:+.2%})" if seen.rss_first else ""
    lines += [
        "",
        f"  exchanges a second       {total / max(seen.seconds, 1):.1f}",
        f"  handshakes               {seen.handshakes}, counted {seen.counted_handshakes}",
        f"  502 for a stale one      {seen.stale_met} of {seen.stale_asked} closings",
        f"  memory                   {seen.rss_first / MIB:.1f} -> {seen.rss_last / MIB:.1f} MiB{share}, "
        f"most {seen.rss_most / MIB:.1f}",
        f"  descriptors              {seen.descriptors_before} -> {seen.descriptors_after}, "
        f"most {seen.descriptors_most}",
        f"  processor of the relay   {seen.processor_seconds:.1f} s",
        f"  longest event loop lag   {seen.lag_most * 1_000:.0f} ms",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
