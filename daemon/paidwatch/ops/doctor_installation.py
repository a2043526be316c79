"""What `install` made, part by part: triggers, views, rights, indexes, and how well the mapping fits the tables."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final, cast

from paidwatch.core.guards import Mode
from paidwatch.core.text import span
from paidwatch.errors import DatabaseError, Unreachable
from paidwatch.ops.doctor import INSTALL, Check, Finding, Patient, ok, problem, warning
from paidwatch.store import installation
from paidwatch.store.connect import translated

_VIEWS: Final = ("payments", "subscribers", "plans", "events", "webhooks")
_AHEAD: Final = timedelta(minutes=5)
"""A payment further in the future than clocks differ."""

_NO_EVENTS: Final = (
    "an activation that the application reports as failed is not noticed, activations are known from the user's row "
    "alone, and paidwatch writes no event when it activates"
)
_NO_WEBHOOKS: Final = "causes are unknown, and no webhook can confirm a payment for automatic activation"

MEANING: Final[Mapping[str, str]] = MappingProxyType(
    {
        "payments.plan": "which plan was paid for is unknown: any tier above free counts as activated",
        "payments.method": "[grace.by_method] has no effect",
        "payments.reference": "events and webhooks are matched by the payment's key or the user only",
        "payments.completed_at": "after an outage the time of payment is read from the other times of the row",
        "payments.updated_at": "after an outage the time of payment is read from the other times of the row",
        "payments.created_at": "after an outage the time of payment is read from the other times of the row",
        "users.status": "access is judged by the tier, paid-until and revocation alone",
        "users.tier": "a lower tier than was paid for is not noticed",
        "users.plan": "an activation does not write it",
        "users.paid_until": "a renewal that was not applied is not noticed",
        "users.revoked_at": "access that was revoked is not noticed",
        "users.last_paid_at": "an activation does not write it",
        "users.touched_at": "an activation does not write it",
        "users.enabled": "banned users look like any others",
        "users.admin": "administrators are alerted about like anybody else",
        "users.label": "people are shown by their key or second name",
        "users.name": "people are shown by their key or e-mail",
        "plans": "prices are not compared, and every plan buys [plans] default_days",
        "plans.id": "prices are not compared, and every plan buys [plans] default_days",
        "plans.name": "plans are shown by their key",
        "plans.days": "every plan buys [plans] default_days",
        "events": _NO_EVENTS,
        "events.user": _NO_EVENTS,
        "events.type": _NO_EVENTS,
        "events.data": "an event is taken for the user's, whichever payment it was about",
        "events.external_id": "the application cannot see by it that paidwatch has activated a payment already",
        "events.processed": "an activation does not write it",
        "events.created_at": "events have no time, so none counts as evidence",
        "webhooks": _NO_WEBHOOKS,
        "webhooks.status": _NO_WEBHOOKS,
        "webhooks.created_at": _NO_WEBHOOKS,
        "webhooks.valid": "bad signatures are not noticed, and no webhook can confirm a payment",
        "webhooks.payment": "webhooks are matched by user only",
        "webhooks.user": "webhooks are matched by the provider's id only",
        "webhooks.error": "what the handler said is not shown",
    }
)
"""What follows from a table or column that the configuration names and the database does not have."""
_SINCE: Final = "somebody has activated a user (P7) or an administrator has acted (P6)"
_USERS: Final = 200
"""So many users with gaps, that wait, and of the newest alerts are looked at."""
_LINKS: Final = ("webhooks.payment", "webhooks.user")
"""A webhook log has to have one of them."""


async def triggers(patient: Patient) -> Iterator[Finding]:
    """Are all triggers there, enabled and as they were made?"""
    faults = await installation.trigger_faults(patient.session, patient.found)
    wanted = installation.expected_triggers(patient.found.not_watched)
    if not faults:
        return iter([ok("triggers", f"{len(wanted)} triggers in place")])
    return (
        problem("triggers", f"{fault}: what it tells of is found by the hourly search only", INSTALL)
        for fault in faults
    )


async def views(patient: Patient) -> list[Finding]:
    """Can every view be read?"""
    findings: list[Finding] = []
    for name in _VIEWS:
        try:
            with translated():
                await patient.session.rows(f"readable_{name}")
        except DatabaseError as error:
            if isinstance(error, Unreachable):
                raise
            findings.append(problem("views", f"paidwatch.{name} cannot be read: {error.message}", error.remedy))
    return findings or [ok("views", "all five can be read")]


async def not_watched(patient: Patient) -> list[Finding]:
    """What does the mapping name that the database does not have, and what follows from that?"""
    found = list(patient.found.not_watched)
    if not found:
        return [ok("mapping", "every table and column of the configuration is there")]
    said = {name: MEANING.get(name, "it is not looked at") for name in found}
    if set(_LINKS) <= set(found):
        said |= dict.fromkeys(_LINKS, f"no webhook can be matched to a payment: {_NO_WEBHOOKS}")
    return [_not_there(patient, name, what) for name, what in said.items()]


def _not_there(patient: Patient, name: str, what: str) -> Finding:
    section = patient.expected.mapping.get(name)
    if isinstance(section, dict) and cast("Mapping[str, object]", section).get("table") == "":
        return warning("mapping", f"[{name}] names no table: {what}", "right if the application has none")
    remedy = 'if it has another name, correct it in the configuration; "" says that there is none'
    return warning("mapping", f"{name} is not there: {what}", remedy)


async def rights(patient: Patient) -> list[Finding]:
    """Has the role of the daemon what it needs?"""
    role = patient.expected.runtime_role or patient.server.role
    if not await patient.session.value("role_exists", role):
        return [problem("rights", f"there is no role {role}", f"CREATE ROLE {role} LOGIN; then {INSTALL}")]
    missing = await patient.session.rows("missing_rights", role)
    findings: list[Finding] = []
    for row in missing:
        what = f"role {role} lacks {row['privilege']} on {row['object']}"
        if row["activation"] and not patient.expected.activates:
            findings.append(
                warning("rights", f"{what}: it cannot activate anybody", f"{INSTALL}, as the tables' owner")
            )
        else:
            findings.append(problem("rights", what, f"{INSTALL}, as the tables' owner, with [database] runtime_role"))
    return findings or [ok("rights", f"role {role} has what the daemon needs")]


async def indexes(patient: Patient) -> list[Finding]:
    """Is the index of recent payments there and valid, and does every lookup in a large table find one?"""
    findings: list[Finding] = []
    wanted = [row["statement"] for row in await patient.session.rows("recent_index")]
    if wanted:
        state = "invalid or outdated" if wanted[0].startswith("DROP") else "missing"
        what = (
            f"the index paidwatch_recent_paid is {state}: `check` and the search after an outage read the whole table"
        )
        findings.append(problem("indexes", what, INSTALL))
    findings += [
        warning(
            "indexes",
            f"{row['relation']}: about {row['tuples']} rows and no index on {row['col']}: each verdict reads it whole",
            row["statement"],
        )
        for row in await patient.session.rows("missing_indexes", patient.expected.limits.large)
    ]
    return findings or [ok("indexes", "those that installation makes are in place")]


async def event_columns(patient: Patient) -> list[Finding]:
    """Could an activation write its event?"""
    missing = await patient.session.value("event_columns")
    if not missing:
        return []
    names = ", ".join(missing)
    what = f"the events table has columns that must be filled and that paidwatch has no value for: {names}"
    remedy = "give them a default, or map them in [events]"
    return [(problem if patient.expected.activates else warning)("activation", what, remedy)]


async def event_times(patient: Patient) -> list[Finding]:
    """Can the guards tell what happened to a user since the payment?"""
    acting = patient.expected.mode is not Mode.OFF
    if {"events", "events.user", "events.type"} & set(patient.found.not_watched):
        what = f"without events only the user's row, and what paidwatch itself did, tells that {_SINCE}"
        return [warning("activation", what, "name the table in [events], or decide by shadow mode")] if acting else []
    say = problem if acting else warning
    if not await patient.session.value("event_times"):
        what = f"events have no time: no event tells that {_SINCE}"
        remedy = 'give [events] created_at a column with a date and time, or [activation] mode = "off"; then ' + INSTALL
        return [say("activation", what, remedy)]
    if await patient.session.rows("missing_indexes", patient.expected.limits.large):
        return []  # it would read a whole table, as `indexes` says
    undated: int = await patient.session.value("undated_events", _USERS)
    if not undated:
        return []
    what = f"events without a time, of users with gaps or alerts: {undated}; none of them tells that {_SINCE}"
    return [say("activation", what, "fill the column [events] created_at, and have a default always fill it")]


async def two_phase(patient: Patient) -> list[Finding]:
    """Do triggers ring, or does the daemon look by itself?"""
    if not patient.server.two_phase or patient.found.two_phase == "never":
        return []
    what = "the server allows prepared transactions, which cannot notify: the daemon looks every two seconds instead"
    remedy = f'if the application does not use PREPARE TRANSACTION: [database] two_phase = "never", then {INSTALL}'
    return [warning("doorbell", what, remedy)]


async def zones(patient: Patient) -> list[Finding]:
    """Are timestamps without zone read in the zone they were written in?"""
    row = await patient.session.one("zones")
    if row["newest"] is not None and row["newest"] > row["now"] + _AHEAD:
        ahead = span(row["newest"] - row["now"])
        what = f"the newest payment lies {ahead} in the future: timestamps are not in {row['configured']}"
        return [
            problem("time zone", what, f"set [database] time_zone to the zone the application writes, then {INSTALL}")
        ]
    if row["naive"] and row["differ"]:
        what = f"timestamps without zone are read as {row['configured']}, and the server's own zone is {row['server']}"
        remedy = "right if the application writes in the former; otherwise set [database] time_zone, then " + INSTALL
        return [warning("time zone", what, remedy)]
    return [ok("time zone", f"timestamps without zone are read as {row['configured']}")]


CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("triggers", triggers),
    ("views", views),
    ("mapping", not_watched),
    ("rights", rights),
    ("indexes", indexes),
    ("activation", event_columns),
    ("activation", event_times),
    ("doorbell", two_phase),
    ("time zone", zones),
)
