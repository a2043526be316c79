"""Whether the work gets done: a daemon that leads, an inbox that empties, verdicts and messages that are in time."""

from datetime import timedelta
from typing import Final

from paidwatch.core.compare import in_words
from paidwatch.core.guards import Mode
from paidwatch.core.text import span
from paidwatch.ops.doctor import Check, Finding, Patient, ok, problem, warning
from paidwatch.store import ledger
from paidwatch.store.pool import Row

_MOST: Final = 10_001
"""Counting stops here."""
_SOME: Final = 0.1
_FULL: Final = 0.5
"""Share of the notification queue at which triggers stop ringing."""
_START: Final = "systemctl start paidwatch, or: paidwatch run"
_LOG: Final = "see the daemon's log: journalctl -u paidwatch"


async def daemons(patient: Patient) -> list[Finding]:
    """Does somebody watch?"""
    rows = await patient.session.rows("daemons")
    leading = [row for row in rows if row["granted"]]
    if not leading:
        return [problem("daemon", "none is running: nobody watches, payments wait in the inbox", _START)]
    since = leading[0]["backend_start"]
    place = f" from {leading[0]['client']}" if leading[0]["client"] else ""
    standing_by = f"; {len(rows) - len(leading)} standing by" if len(rows) > len(leading) else ""
    return [
        ok("daemon", f"one leads{place}" + (f" since {since:%Y-%m-%d %H:%M:%S} UTC" if since else "") + standing_by)
    ]


async def queue(patient: Patient) -> list[Finding]:
    """Is there room for notifications?"""
    used: float = await patient.session.value("notification_queue")
    remedy = "a listening session has been in one transaction for long: see the oldest xact_start in pg_stat_activity"
    if used >= _FULL:
        what = f"the server's notification queue is {used:.0%} full: triggers do not ring, so payments are noticed late"
        return [problem("notifications", what, remedy)]
    if used >= _SOME:
        return [warning("notifications", f"the server's notification queue is {used:.0%} full", remedy)]
    return [ok("notifications", f"the server's queue is {used:.0%} full")]


async def bell(patient: Patient) -> list[Finding]:
    """Does anybody keep the daemon from falling asleep?"""
    patience = patient.expected.limits.patience
    open_ones = [
        warning(
            "doorbell",
            f"a transaction of {row['role']} ({row['application'] or 'no name'}, {row['state']}) that changed a "
            f"payment or a user has been open for {span(row['age'])}: unseen so far, and it keeps the daemon awake",
            f"if it is stuck: SELECT pg_terminate_backend({row['who']})",
        )
        for row in await patient.session.rows("bell_holders", patience)
    ]
    prepared = [
        warning(
            "doorbell",
            f"a transaction of {row['role']} was prepared {span(row['age'])} ago and never ended",
            f"if nobody will: COMMIT PREPARED or ROLLBACK PREPARED '{row['gid']}'",
        )
        for row in await patient.session.rows("prepared_transactions", patience)
    ]
    return open_ones + prepared


async def work(patient: Patient) -> list[Finding]:
    """Is anything overdue, unreadable or left for a person?"""
    patience = patient.expected.limits.patience
    row = await patient.session.one("work", _MOST, patience)
    findings: list[Finding] = [_inbox(row, patience)]
    if row["overdue"]:
        late = span(row["now"] - row["overdue_oldest"])
        what = f"payments that should have been judged: {_count(row['overdue'])}, the oldest {late} ago"
        findings.append(problem("verdicts", what, f"is the daemon running? If it is, {_LOG}"))
    if row["unreadable"]:
        what = f"payments that cannot be read or judged, and are tried ever more rarely: {_count(row['unreadable'])}"
        findings.append(
            problem("verdicts", what, f"decide.poisoned in the daemon's log names payment and error: {_LOG}")
        )
    if row["activations"]:
        what = f"activations that should have been written: {_count(row['activations'])}"
        findings.append(problem("activation", what, f"is the daemon running? If it is, {_LOG}"))
    if row["failed_activations"]:
        what = f"activations that failed for good and wait for a person: {row['failed_activations']}"
        findings.append(problem("activation", what, "paidwatch check, then paidwatch activate USER --dry-run"))
    if not row["overdue"] and not row["unreadable"]:
        gaps = row["gaps"]
        findings.append(ok("verdicts", f"none overdue; {gaps} open {'gap' if gaps == 1 else 'gaps'}"))
    return findings


def _inbox(row: Row, patience: timedelta) -> Finding:
    if not row["inbox"]:
        return ok("inbox", "empty")
    age = row["now"] - row["inbox_oldest"]
    what = f"changes that are not taken in: {_count(row['inbox'])}, the oldest {span(age)} old"
    if age >= patience:
        return problem("inbox", what, f"is the daemon running? If it is, {_LOG}")
    return ok("inbox", what)


async def machine(patient: Patient) -> list[Finding]:
    """How does automatic activation stand?"""
    mode = patient.expected.mode
    record, stopped = await ledger.track_record(patient.session)
    said = f"automatic activation is {in_words(mode, record, stopped)}"
    if stopped is not None and mode is not Mode.OFF:
        return [problem("activation", said, "mend the cause, then: paidwatch activation resume")]
    return [ok("activation", said)]


async def deliveries(patient: Patient) -> list[Finding]:
    """Does every channel get what it is to be told?"""
    findings: list[Finding] = []
    for row in await patient.session.rows("undelivered"):
        name, why = row["channel"], f" ({row['error']})" if row["error"] else ""
        if row["dead"]:
            what = f"channel {name}: messages that were given up: {row['dead']}{why}"
            findings.append(problem("deliveries", what, f"mend the cause, then: paidwatch test-alert --channel {name}"))
        if row["waiting"] and name not in patient.expected.channels:
            what = f"messages for a channel {name}, which the configuration does not name: {row['waiting']}"
            findings.append(problem("deliveries", what, f"restore [channels.{name}]; without it nobody gets them"))
        elif row["waiting"] and row["now"] - row["oldest"] >= patient.expected.limits.patience:
            late = span(row["now"] - row["oldest"])
            what = f"channel {name}: messages that are late: {row['waiting']}, the oldest due for {late}{why}"
            findings.append(problem("deliveries", what, f"paidwatch test-alert --channel {name}"))
    return findings or [ok("deliveries", "nothing late, nothing given up")]


async def channels(patient: Patient) -> list[Finding]:
    """Is a channel broken until somebody repairs it?"""
    if not patient.expected.channels:
        return [
            problem(
                "channels", "there is none: nobody is told of anything", "add a [channels.NAME]; docs/configuration.md"
            )
        ]
    findings = [
        problem(
            "channels",
            f"{row['name']} has been broken for {span(row['now'] - row['down_since'])}: {row['down_reason']}",
            f"repair it, then: paidwatch test-alert --channel {row['name']}",
        )
        for row in await patient.session.rows("channels_down")
        if row["name"] in patient.expected.channels
    ]
    return findings or [ok("channels", f"{', '.join(patient.expected.channels)}: none is marked as broken")]


def _count(number: int) -> str:
    return f"more than {_MOST - 1}" if number >= _MOST else str(number)


CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("daemon", daemons),
    ("notifications", queue),
    ("doorbell", bell),
    ("inbox", work),
    ("activation", machine),
    ("deliveries", deliveries),
    ("channels", channels),
)
