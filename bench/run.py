"""`make bench`: everything in one run on one server, one table at the end."""

import argparse
import signal
import sys
import time
from pathlib import Path

import anyio

from bench import (
    check_ten_million,
    doorbell_latency,
    grace_to_sink,
    memory_idle,
    old_snapshot,
    throughput,
    webhooks,
    writers,
)
from bench.ground import SETTINGS, Ground, ground, progress
from bench.report import Section, document, machine, summary, table, wrapped

PROGRAMS = {
    "writers": writers,
    "doorbell_latency": doorbell_latency,
    "grace_to_sink": grace_to_sink,
    "throughput": throughput,
    "webhooks": webhooks,
    "memory_idle": memory_idle,
    "old_snapshot": old_snapshot,
}
ON_REQUEST = "check_ten_million"
"""Takes gigabytes and minutes; `python -m bench check_ten_million`."""
DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def main() -> None:
    """Measure what was asked for; exit 1 if a target is missed that is not known to be out of reach."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure paidwatch beside a baseline.")
    parser.add_argument(
        "programs", nargs="*", metavar="PROGRAM", help=f"{', '.join(PROGRAMS)} (default: these), {ON_REQUEST}"
    )
    parser.add_argument("--quick", action="store_true", help="one short round of each: does it work?")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--base", type=Path, help="directory for the server's data; it should be on a real disk")
    asked = parser.parse_args()
    unknown = set(asked.programs) - {*PROGRAMS, ON_REQUEST}
    if unknown or (asked.write and (asked.quick or asked.programs)):
        parser.error(
            f"no such program: {', '.join(unknown)}" if unknown else "--write wants everything, at full length"
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers and daemons are ended then as well
    with ground(asked.base) as ours:
        sections = anyio.run(_measure, ours, asked.programs or list(PROGRAMS), asked.quick)
        described = anyio.run(_machine, ours)
    for section in sections:
        print(
            f"\n{section.title}\n{wrapped(section.method)}\n\n{table(section.header, section.rows)}",
            *section.remarks,
            sep="\n",
        )
    print(f"\n{table(('', ''), described)}\n\n{summary(sections)}")
    if asked.write:
        DOCUMENT.write_text(document(sections, described), encoding="utf-8")
    missed = sum(finding.met is False and not finding.known for section in sections for finding in section.findings)
    if missed and not asked.quick:
        sys.exit(f"{missed} targets were missed")


async def _measure(ours: Ground, names: list[str], quick: bool) -> list[Section]:
    sections = []
    for name in names:
        started = time.monotonic()
        progress(name)
        if name == ON_REQUEST:
            sections.append(await check_ten_million.measure(ours))
        else:
            sections.append(await PROGRAMS[name].measure(ours, quick=quick))
        progress(f"  done in {time.monotonic() - started:.0f} s")
    return sections


async def _machine(ours: Ground) -> list[tuple[str, str]]:
    async with ours.connected() as connection:
        version = await connection.fetchval("SELECT split_part(version(), ' ', 2)")
    return machine(version, ours.server.data, list(SETTINGS.items()))


if __name__ == "__main__":
    main()
