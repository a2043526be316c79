"""What a measurement says: its own table, findings for the table at the end, and the machine it was made on."""

import os
import platform
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the table at the end."""

    what: str
    measured: str
    target: str = ""
    met: bool | None = None
    """None: there is no target, the number is for comparison."""
    known: bool = False
    """The target is missed, and the page says why; only what is worse than that is a failure of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What one program measured, and how."""

    title: str
    method: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    findings: Sequence[Finding]
    remarks: Sequence[str] = field(default=())


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def number(value: float) -> str:
    """Return a rate or count for people: three digits, thousands apart."""
    if value >= 100:
        digits = 10 ** max(len(str(int(value))) - 3, 0)
        return f"{round(value / digits) * digits:,}".replace(",", " ")
    return f"{value:.3g}"


def wrapped(text: str) -> str:
    """Return a paragraph in lines that a page can hold."""
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table that is Markdown and can be read as it is."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(cell.ljust(widths[n]) for n, cell in enumerate(line)) + " |" for line in lines)


def summary(sections: Sequence[Section]) -> str:
    """Return the table at the end: what was wanted, what was measured, whether it is met."""
    words = {True: "yes", False: "**no**", None: ""}
    rows = [
        (f.what, f.target, f.measured, "**no**, known" if f.known else words[f.met])
        for section in sections
        for f in section.findings
    ]
    return table(("measurement", "target", "measured", "met"), rows)


_ABOUT = """\
Written by `python -m bench --write`. Every number is a median of at least three rounds, beside a baseline that was
measured in the same run on the same server, in alternation with it. Ratios travel; absolute numbers do not."""


def document(sections: Sequence[Section], machine: Sequence[tuple[str, str]]) -> str:
    """Return docs/benchmarks.md."""
    parts = [
        "# Benchmarks",
        _ABOUT,
        "## The machine",
        table(("", ""), machine),
        "## Targets",
        summary(sections),
    ]
    for section in sections:
        parts += [f"## {section.title}", wrapped(section.method), table(section.header, section.rows), *section.remarks]
    return "\n\n".join(parts) + "\n"


def machine(postgres: str, data: Path, settings: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Describe what was measured on, without saying whose it is."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        ("processor", f"{_cpu()}, {os.cpu_count()} cores{_virtual()}"),
        ("memory", f"{memory:.0f} GiB"),
        ("disk", _disk(data)),
        ("system", f"{platform.system()} {platform.release()}"),
        ("PostgreSQL", postgres),
        ("Python", platform.python_version()),
        ("changed settings", ", ".join(f"{name} = {value}" for name, value in settings) or "none"),
        ("as shipped", "fsync, synchronous_commit, full_page_writes, autovacuum"),
    ]


def _cpu() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _virtual() -> str:
    flags = next((line for line in _lines("/proc/cpuinfo") if line.startswith("flags")), "")
    return " (virtual machine)" if " hypervisor" in flags else ""


def _disk(data: Path) -> str:
    """Return the kind of disk and file system that holds the cluster, as far as the kernel tells."""
    best = ("", "", "")
    for line in _lines("/proc/mounts"):
        device, mount, kind = line.split()[:3]
        if data.is_relative_to(mount) and len(mount) >= len(best[1]):
            best = (device, mount, kind)
    device, _, kind = best
    if not device.startswith("/dev/"):
        return kind
    name = Path(device).name
    block = Path("/sys/class/block", name).resolve()
    queue = next((p / "queue/rotational" for p in (block, block.parent) if (p / "queue/rotational").exists()), None)
    spins = queue is not None and queue.read_text(encoding="ascii").strip() == "1"
    medium = "virtual disk" if name.startswith(("vd", "xvd")) else "rotating disk" if spins else "solid state disk"
    return f"{medium}, {kind}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
