"""What is installed in the database, and whether it is what this program and its configuration expect."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from paidwatch.errors import NotInstalled
from paidwatch.store.explain import INSTALL
from paidwatch.store.pool import Session

VERSION = 6
"""The newest migration this program knows."""

_PAYMENT = ("paidwatch_payment_inserted", "paidwatch_payment_updated", "paidwatch_payment_deleted")
_USER = ("paidwatch_user_updated", "paidwatch_user_deleted")
_EVENT = ("paidwatch_event_inserted",)
_WEBHOOK = ("paidwatch_webhook_inserted", "paidwatch_webhook_updated")

_FIRES = frozenset({"O", "A"})
"""tgenabled: fires for ordinary sessions; `R` and `D` do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Which server answers."""

    standby: bool
    version: str
    version_num: int
    system_identifier: str
    timeline: str
    two_phase: bool
    """Prepared transactions are possible: triggers do not ring then."""
    database: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The installation's own row."""

    installation_id: str
    same_mapping: bool
    installed_at: datetime
    baseline_at: datetime | None
    not_watched: Sequence[str]
    two_phase: str
    version: int
    newer_breaking: bool
    now: datetime


async def server(session: Session) -> Server:
    """Ask the server who it is."""
    row = await session.one("server")
    return Server(
        standby=row["standby"],
        version=row["version"],
        version_num=row["version_num"],
        system_identifier=row["system_identifier"],
        timeline=row["timeline"],
        two_phase=row["two_phase"],
        database=row["database"],
        role=row["role"],
    )


async def installed(session: Session, mapping: Mapping[str, object]) -> Installed:
    """Read the installation. Raises NotInstalled where there is none."""
    row = await session.row("installation", mapping_text(mapping))
    if row is None or row["version"] is None:
        message = "paidwatch is only half installed in this database"
        raise NotInstalled(message, remedy=INSTALL)
    return Installed(
        installation_id=row["installation_id"],
        same_mapping=row["same_mapping"],
        installed_at=row["installed_at"],
        baseline_at=row["baseline_at"],
        not_watched=row["not_watched"],
        two_phase=row["two_phase"],
        version=row["version"],
        newer_breaking=any(version > VERSION for version in row["breaking"]),
        now=row["now"],
    )


def refuse_unfit(found: Installed) -> None:
    """Raise NotInstalled where the daemon must not run: older or incompatible schema, or another mapping."""
    if found.version < VERSION:
        message = f"the schema is at version {found.version}, this program needs {VERSION}"
        raise NotInstalled(message, remedy=INSTALL)
    if found.newer_breaking:
        message = f"the schema is at version {found.version}, which this program does not understand"
        raise NotInstalled(message, remedy="Upgrade paidwatch on this machine.")
    if not found.same_mapping:
        message = "the tables, columns or words of the configuration are not the installed ones"
        raise NotInstalled(message, remedy=INSTALL)


async def trigger_faults(session: Session, found: Installed) -> list[str]:
    """Say which triggers are missing, disabled or not ours; an empty list is well."""
    present = {row["name"]: row for row in await session.rows("triggers")}
    faults: list[str] = []
    for name in expected_triggers(found.not_watched):
        row = present.get(name)
        if row is None:
            faults.append(f"trigger {name} is missing")
        elif row["enabled"] not in _FIRES:
            faults.append(f"trigger {name} on {row['relation']} is disabled")
        elif not row["definer"] or row["fingerprint"] is None:
            faults.append(f"trigger {name} on {row['relation']} was altered")
    return faults


def expected_triggers(not_watched: Sequence[str]) -> tuple[str, ...]:
    """Return the triggers an installation has, less those of tables that are not there."""
    absent = set(not_watched)
    events = () if absent & {"events", "events.user", "events.type"} else _EVENT
    webhooks = () if absent & {"webhooks", "webhooks.status"} else _WEBHOOK
    return (*_PAYMENT, *_USER, *events, *webhooks)


def mapping_text(mapping: Mapping[str, object]) -> str:
    """Return the mapping as the one JSON text that is installed and compared."""
    return json.dumps(mapping, ensure_ascii=False, separators=(",", ":"))
