"""Stories as the database would tell them, and messages made from them."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from paidwatch.core.model import GapKind, Notice, Outcome
from paidwatch.core.render import line_of, render
from paidwatch.core.routing import Severity
from paidwatch.core.story import (
    AUDIT,
    BASELINE,
    BREAKER,
    CHANNEL_DOWN,
    DAILY,
    DOUBLE,
    FORWARD,
    HELD,
    INCIDENT,
    MORNING,
    TEST,
    Incident,
    State,
    Story,
)
from paidwatch.ports import Message

LINK = "https://pay.example.org/act/WzEsImhlcmUiXQ.c2lnbmVk-_x"
"""As it is made in supervised mode, only shorter."""
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


class Reach:
    """What one service of Apprise takes."""

    def __init__(self, title_maxlen: int, body_maxlen: int) -> None:
        self.title_maxlen, self.body_maxlen = title_maxlen, body_maxlen

    def notify(self, **_: str) -> bool:
        raise NotImplementedError


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


def incident(*, stuck: int = 498, rescued: int = 12, otherwise: int = 2, **change: Any) -> Story:
    """Many gaps of one cause; `change` is of the story."""
    gathered = Incident(
        kind_of=GapKind.PAID_NOT_ACTIVE.value,
        method="nowpayments",
        started_at=OPENED,
        total=stuck + rescued + otherwise,
        open=stuck,
        rescued=rescued,
        otherwise=otherwise,
        money_at_risk={"USD": Decimal("7465.02"), "EUR": Decimal("29.99")} if stuck else {},
        oldest_paid_at=PAID if stuck else None,
        causes=(("no webhook was recorded for this payment", stuck + rescued + otherwise),),
    )
    return plain(**({"kind": INCIDENT, "opened_at": OPENED + timedelta(minutes=1), "incident": gathered} | change))


def acked(**change: Any) -> Story:
    """A story that somebody looks after."""
    facts = {"state": State.ACKED, "acked_by": "ann", "acked_until": OPENED + timedelta(hours=2), "announced": True}
    return story(**(facts | change))


def channel_down(**change: Any) -> Story:
    facts: dict[str, Any] = {
        "kind": CHANNEL_DOWN,
        "about_channel": "ops-slack",
        "cause": "Slack refused the message: no_service (404)",
        "waiting": 12,
    }
    return plain(**(facts | change))


LATER = OPENED + timedelta(hours=6)


def bundle(kind: str, number: int, **change: Any) -> Story:
    """Stories that waited, one line each as it is now."""
    shapes = (
        story(),
        story(announced=True, opened_at=OPENED + timedelta(hours=1)),
        acked(),
        resolved(),
        resolved(outcome=Outcome.FIXED, announced=False),
        resolved(outcome=Outcome.EXPIRED, resolved_at=LATER),
    )
    told = [
        replace(shapes[place % len(shapes)], alert_id=str(41 + place), user_id=str(7 + place))
        for place in range(number)
    ]
    return plain(
        **({"kind": kind, "state": State.RESOLVED, "members": tuple(line_of(one, now=LATER) for one in told)} | change)
    )


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
    "new_proposed": (story(proposed=True, link=LINK, activation=("paidwatch would activate professional",)), NOW),
    "resolved_proposed": (resolved(proposed=True, link=LINK), ENDED),
    "new_shadow": (
        story(
            activation=("Shadow mode: paidwatch would have activated professional until 2026-04-13 09:28 UTC.",),
            mode="shadow, would have been right 41 of 41",
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
    "new_low": (story(kind=GapKind.AMOUNT_MISMATCH.value, severity=Severity.LOW), NOW),
    "still_acked": (acked(revision=2), OPENED + timedelta(minutes=32)),
    "still_ack_over": (story(announced=True, revision=3, acked_by="ann"), OPENED + timedelta(hours=2, seconds=1)),
    "escalated": (story(escalated=True, escalations=1), OPENED + timedelta(hours=1)),
    "escalated_amount": (
        story(escalated=True, escalations=1, amount=Decimal("1499.00"), escalated_from=Decimal(500)),
        OPENED + timedelta(minutes=15),
    ),
    "dismissed": (
        resolved(outcome=Outcome.DISMISSED, ended_by="ann", ended_why="paid twice, refunded by hand"),
        ENDED,
    ),
    "expired": (
        resolved(outcome=Outcome.EXPIRED, resolved_at=OPENED + timedelta(days=30)),
        OPENED + timedelta(days=30, seconds=1),
    ),
    "incident_new": (incident(stuck=9, rescued=0, otherwise=0), OPENED + timedelta(minutes=1, seconds=1)),
    "incident_still": (incident(announced=True, revision=7), OPENED + timedelta(minutes=12)),
    "incident_acked": (
        incident(announced=True, state=State.ACKED, acked_by="ann", acked_until=OPENED + timedelta(hours=2)),
        OPENED + timedelta(minutes=14),
    ),
    "incident_escalated": (incident(escalated=True, escalations=1), OPENED + timedelta(hours=1)),
    "incident_resolved": (
        incident(
            stuck=0,
            rescued=502,
            otherwise=10,
            announced=True,
            state=State.RESOLVED,
            resolved_at=OPENED + timedelta(minutes=72),
        ),
        OPENED + timedelta(minutes=72, seconds=1),
    ),
    "incident_unheard": (
        incident(stuck=2, rescued=500, otherwise=10, state=State.RESOLVED, resolved_at=OPENED + timedelta(minutes=72)),
        LATER,
    ),
    "channel_down_new": (channel_down(), NOW),
    "channel_down_still": (channel_down(announced=True, waiting=31), OPENED + timedelta(hours=1)),
    "channel_down_resolved": (
        channel_down(announced=True, state=State.RESOLVED, resolved_at=OPENED + timedelta(hours=2), waiting=0),
        OPENED + timedelta(hours=2, seconds=1),
    ),
    "held": (bundle(HELD, 18, about_channel="ops-slack"), LATER),
    "held_many": (bundle(HELD, 40, about_channel="ops-slack", members_total=512), LATER),
    "morning": (bundle(MORNING, 3), LATER),
    "daily": (
        plain(
            kind=DAILY,
            state=State.RESOLVED,
            digest=(
                "Time: since 2026-03-13 09:00:00 UTC, that is 1 d",
                "Payments: 1204 payments seen, 1203 activated by the application",
                "Activation took: p50 1.2 s, p90 4.0 s, p99 41 s, longest 1 min 50 s",
                "Rescued: 2 (29.98 USD) activated by paidwatch",
                "Gaps: 3 (44.97 USD) opened, 2 (29.98 USD) closed, 1 still open",
                "Money at risk: 14.99 USD",
                "Lost: 0 given up as too old",
                "Dead letters: 0 new, 0 in all",
                "Listening: this daemon has been up for 12 d, and was listening all the time",
                "Automatic activation: shadow",
            ),
        ),
        NOW,
    ),
    "daily_empty": (
        plain(
            kind=DAILY,
            state=State.RESOLVED,
            digest=("Payments: no payments", "Lost: 0 given up as too old", "Dead letters: 0 new, 0 in all"),
        ),
        NOW,
    ),
    "audit": (
        plain(
            kind=AUDIT,
            state=State.RESOLVED,
            cause="what should have been told was not; it is queued again",
            digest=("alert 41 was not told to ops-mail", "the end of alert 12 was not told to ops-slack"),
        ),
        NOW,
    ),
    "audit_resolved": (
        plain(kind=AUDIT, announced=True, state=State.RESOLVED, resolved_at=OPENED + timedelta(hours=1)),
        OPENED + timedelta(hours=1, seconds=1),
    ),
    "breaker": (
        plain(
            kind=BREAKER,
            cause="a large share of recent payments became gaps, as after a broken deploy",
            digest=("12 of 14 payments within 1 h became gaps.",),
            mode="auto, in shadow mode right 41 of 41, stopped by the breaker (a large share of recent payments became"
            " gaps, as after a broken deploy)",
        ),
        NOW,
    ),
    "breaker_resumed": (
        plain(
            kind=BREAKER,
            cause="activations fail one after the other",
            announced=True,
            state=State.RESOLVED,
            outcome=Outcome.ENDED,
            resolved_at=OPENED + timedelta(hours=1),
            digest=("3 activations failed, and none was done in between.", "Resumed by cli:kim."),
            mode="auto",
        ),
        OPENED + timedelta(hours=1, seconds=1),
    ),
    "double": (
        plain(
            kind=DOUBLE,
            user_id="7",
            user_label="someone@example.org",
            plan_id="professional",
            amount=Decimal("14.99"),
            currency="USD",
            method="nowpayments",
            activation_id="3",
            cause="the application activated the payment as well, after paidwatch had done it",
            digest=(
                "Activation: 3, done at 2026-03-14 09:28:54 UTC",
                "Payment: 12",
                "Activated again: by event 88 (activated), 2026-03-14 11:02:10 UTC",
                "Paid for until: 2026-04-13 09:28:54 UTC",
                "Paid until now: 2026-04-13 11:02:10 UTC, 1 h 33 min more than was paid for",
                (
                    "To put right: set paid-until to 2026-04-13 09:28:54 UTC; paidwatch undo 3 refuses,"
                    " because the row changed since"
                ),
            ),
        ),
        NOW,
    ),
    "double_resolved": (
        plain(
            kind=DOUBLE,
            user_id="7",
            activation_id="3",
            announced=True,
            revision=2,
            state=State.RESOLVED,
            outcome=Outcome.ENDED,
            resolved_at=OPENED + timedelta(minutes=5),
        ),
        ENDED,
    ),
    "forward_dead": (
        plain(
            kind=FORWARD,
            method="nowpayments",
            cause="the application refused a webhook of nowpayments",
            digest=("the handler answered 422",),
            waiting=0,
            dead=2,
        ),
        NOW,
    ),
    "forward_away": (
        plain(
            kind=FORWARD,
            method="nowpayments",
            cause="the application takes no webhooks of nowpayments",
            digest=("no connection: refused",),
            waiting=31,
            dead=0,
            away_since=OPENED - timedelta(minutes=10),
        ),
        NOW,
    ),
    "forward_works": (
        plain(
            kind=FORWARD,
            method="nowpayments",
            cause="the application takes no webhooks of nowpayments",
            digest=("no connection: refused",),
            announced=True,
            revision=2,
            state=State.RESOLVED,
            outcome=Outcome.ENDED,
            resolved_at=OPENED + timedelta(minutes=5),
        ),
        ENDED,
    ),
    "test": (plain(kind=TEST, digest=("asked for on the command line",)), NOW),
}


def message(notice: Notice, *, key: str = "a.41.1", thread: str = "a.41", earlier: Mapping[str, str] = {}) -> Message:
    return Message(notice=notice, key=key, thread=thread, earlier=earlier)


def notice_of(case: str) -> Notice:
    told, now = CASES[case]
    return render(told, now=now)
