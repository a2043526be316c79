"""Stories as the database would tell them, and messages made from them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from paidwatch.core.model import GapKind, Notice, Outcome
from paidwatch.core.render import render
from paidwatch.core.story import BASELINE, TEST, State, Story
from paidwatch.ports import Message

PAID = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
GRACE = timedelta(minutes=2)
OPENED = PAID + GRACE
NOW = OPENED + timedelta(seconds=1)


class FixedClock:
    """The present does not move unless a test says so."""

    def __init__(self, moment: datetime = NOW) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> timedelta:
        return self.moment - PAID

    async def sleep(self, span: timedelta) -> None:
        self.moment += span


def story(**change: Any) -> Story:
    facts: dict[str, Any] = {
        "alert_id": "41",
        "kind": GapKind.PAID_NOT_ACTIVE.value,
        "state": State.OPEN,
        "revision": 1,
        "reminders": 0,
        "announced": False,
        "opened_at": OPENED,
        "payment_id": "12",
        "user_id": "7",
        "user_label": "someone@example.org",
        "plan_id": "professional",
        "amount": Decimal("14.99"),
        "currency": "USD",
        "method": "nowpayments",
        "reference": "5524759814",
        "status": "completed",
        "paid_at": PAID,
        "noticed_at": PAID + timedelta(milliseconds=4),
        "due_at": PAID + GRACE,
        "cause": "no webhook was recorded for this payment",
    }
    return Story(**(facts | change))


def resolved(**change: Any) -> Story:
    """A story that ended five minutes after it opened."""
    facts: dict[str, Any] = {
        "state": State.RESOLVED,
        "announced": True,
        "revision": 2,
        "outcome": Outcome.ACTIVATED,
        "resolved_at": OPENED + timedelta(minutes=5),
    }
    return story(**(facts | change))


def plain(**change: Any) -> Story:
    """A story without a payment."""
    nothing = dict.fromkeys(
        [
            "payment_id",
            "user_id",
            "user_label",
            "plan_id",
            "amount",
            "currency",
            "method",
            "reference",
            "status",
            "paid_at",
            "noticed_at",
            "due_at",
        ]
    )
    return story(**(nothing | {"cause": ""} | change))


ENDED = OPENED + timedelta(minutes=5, seconds=1)

CASES: Mapping[str, tuple[Story, datetime]] = {
    **{f"new_{kind}": (story(kind=kind.value), NOW) for kind in GapKind},
    "new_late": (
        story(
            opened_at=OPENED + timedelta(minutes=3),
            delay="the watcher was not listening for 3 min 42 s",
            cause="a webhook arrived and its handler failed",
            detail="KeyError: 'vip' for other@example.org\n  at <b>handler</b> & co",
            sharing=3,
            activation=("shadow mode: would activate professional until 2026-04-13",),
        ),
        OPENED + timedelta(minutes=3, seconds=1),
    ),
    "new_refused": (
        story(
            activation=(
                "auto mode refused:",
                "P4_period_open_and_recent: the payment is older than the allowed age",
                "P9_caps: the cap per hour is reached",
            )
        ),
        NOW,
    ),
    "still": (story(announced=True, revision=2, reminders=1), OPENED + timedelta(minutes=30, seconds=1)),
    "fixed": (resolved(outcome=Outcome.FIXED, activation=("activated professional until 2026-04-13",)), ENDED),
    "resolved": (resolved(), ENDED),
    "resolved_unheard": (resolved(announced=False), OPENED + timedelta(hours=6)),
    "digest": (
        plain(
            kind=BASELINE,
            state=State.RESOLVED,
            resolved_at=OPENED,
            outcome=Outcome.DISMISSED,
            digest=("214 payments looked at", "3 gaps: 2 paid_not_active, 1 tier_mismatch", "59.97 USD at stake"),
        ),
        NOW,
    ),
    "test": (plain(kind=TEST, digest=("asked for on the command line",)), NOW),
}


def message(notice: Notice, *, key: str = "a.41.1", thread: str = "a.41", earlier: Mapping[str, str] = {}) -> Message:
    return Message(notice=notice, key=key, thread=thread, earlier=earlier)


def notice_of(case: str) -> Notice:
    told, now = CASES[case]
    return render(told, now=now)
