"""Breaker: after a failed activation, and before anything is claimed, it is asked whether the machine must stop.

The question and its answer stand in the caller's transaction: with the claims, or with the failure that was the last
straw. It opens once and is told once; only a person arms it again (`store/breaker.py`).
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence

from paidwatch.core.breaker import FAILING, Recent, trip
from paidwatch.core.routing import About
from paidwatch.core.story import BREAKER
from paidwatch.core.text import span
from paidwatch.flow.policy import Policy
from paidwatch.log import Log
from paidwatch.store import breaker
from paidwatch.store.alerts import PAIDWATCH
from paidwatch.store.pool import Session


async def check(session: Session, policy: Policy, *, opening: Sequence[str] = ()) -> str | None:
    """Open the breaker if it must be; return why, None where it stays as it is or was open before.

    `opening` are payments that become gaps in this transaction.
    """
    rules = policy.breaker
    recent = await breaker.recent(session, window=rules.window, opening=opening, share=rules.share, least=rules.least)
    reason = trip(recent, rules)
    if reason is None:
        return None
    severity = policy.routing.severity(BREAKER)
    about = About(kind=BREAKER, severity=severity, method=None, amount=None)
    opened = await breaker.pause(
        session,
        PAIDWATCH,
        reason,
        channels=policy.routing.channels(about) or policy.channels,
        notes=list(_notes(recent, reason, policy)),
        severity=severity,
    )
    return reason if opened else None


def after_failure(policy: Callable[[], Policy], log: Log) -> Callable[[Session], Awaitable[None]]:
    """Return what is to follow a failed activation, in the transaction that records it."""

    async def look(session: Session) -> None:
        if reason := await check(session, policy()):
            say(log, reason)

    return look


def say(log: Log, reason: str) -> None:
    """Log that the breaker was opened."""
    log.error("breaker.opened", "automatic activation was stopped until a person resumes it", reason=reason)


def _notes(recent: Recent, reason: str, policy: Policy) -> Iterator[str]:
    if reason == FAILING:
        yield f"{recent.failures_in_row} activations failed, and none was done in between."
    else:
        yield f"{recent.gaps} of {recent.payments} payments within {span(policy.breaker.window)} became gaps."
