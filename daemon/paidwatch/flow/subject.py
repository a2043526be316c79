"""Subject: what an activation is for is judged, looked at again and ended, whether it has a row or webhooks alone tell.

A payment's row is watched (`core.verdict`); money that only signed webhooks tell of is a story (`core.evidence`).
"""

from datetime import datetime

from paidwatch.core import evidence, verdict
from paidwatch.core.model import Outcome, Subject, Verdict
from paidwatch.errors import Unreadable
from paidwatch.flow.policy import Policy
from paidwatch.store import claims, watches
from paidwatch.store.pool import Session
from paidwatch.store.watches import Known


async def known(session: Session, subject: Subject, policy: Policy) -> tuple[datetime, Known, Verdict]:
    """Return the transaction's now, what is known, and the verdict on it. Raises Unreadable where nothing is."""
    if subject.payment_id is not None:
        at, found = await watches.facts_of(session, [subject.payment_id], policy.graces())
        return at, found[0], verdict.judge(found[0].facts, policy.rules, at)
    key = subject.story
    now, told = await claims.told_facts(session, [key])
    story = (await claims.facts(session, [key])).claims.get(key)
    if now is None or story is None:
        message = f"nothing is known of {subject} any more"
        raise Unreadable(message, remedy="See what its webhooks said: paidwatch webhooks list")
    return now, Known(facts=told[0], noticed_at=None), evidence.judge(story, policy.rules, now)


async def look_again(session: Session, subject: Subject, at: datetime) -> None:
    """Have it judged anew at that moment."""
    if subject.payment_id is not None:
        await watches.postpone(session, {subject.payment_id: at})
    else:
        await claims.postpone(session, {subject.story: at})


async def close(
    session: Session, subject: Subject, outcome: Outcome, at: datetime, *, quiet_until: datetime | None
) -> None:
    """End it, and what was told about it."""
    if subject.payment_id is not None:
        await watches.close_watches(session, {subject.payment_id: (outcome.value, at)}, quiet_until=quiet_until)
    else:
        await claims.close(session, {subject.story: outcome.value}, quiet_until=quiet_until)
