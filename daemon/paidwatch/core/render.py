"""From a story to what is said about it: the word, the subject, the sentences, the facts and the next command.

A message describes the present, never the moment it was queued for: a gap that closed before a channel could be told
is told once, as a gap that was, with its end. Nothing here knows a channel, and no name leaves unmasked.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final, assert_never

from paidwatch.core.model import GapKind, Line, Notice, Outcome, Word
from paidwatch.core.said import Said, short, text, unlinked
from paidwatch.core.story import AUDIT, DAILY, DIGESTS, INCIDENT, TEST, State, Story
from paidwatch.core.tell_gap import tell_gap
from paidwatch.core.tell_incident import tell_incident
from paidwatch.core.tell_notes import tell_note
from paidwatch.core.tell_webhook import WEBHOOK_KINDS, tell_webhook
from paidwatch.core.text import fit, masked, money, span, units

LONGEST_MEMBER: Final = 250
"""Length of a story's line in a bundle."""


def render(story: Story, *, now: datetime) -> Notice:
    """Return what is to be said about `story` at `now`, the database's clock."""
    word = choose_word(story)
    said = _tell(story, word, now)
    return Notice(
        word=word,
        kind=story.kind,
        alert_id=story.alert_id,
        subject=said.subject,
        summary=said.summary,
        lines=(*said.lines, *_machine(story)),
        command=said.command,
        link=story.link if story.state is not State.RESOLVED else "",
        open=story.state is not State.RESOLVED,
        at=now,
        extra=_extra(story),
    )


def choose_word(story: Story) -> Word:
    """Return the first word of the title.

    TEST or DIGEST for those kinds. Otherwise NEW the first time, ESCALATED where an escalation brought it here, STILL
    afterwards, and once it is over FIXED if paidwatch activated and RESOLVED otherwise, also where this channel never
    heard of it. What expired is over for paidwatch only, so it stays STILL; and an audit that was not told yet is NEW,
    because what it found missing is news even when it is over.
    """
    if story.kind == TEST:
        return Word.TEST
    if story.kind in DIGESTS:
        return Word.DIGEST
    if story.state is State.RESOLVED and (story.announced or story.kind != AUDIT):
        return _last_word(story.outcome)
    if story.announced:
        return Word.STILL
    return Word.ESCALATED if story.escalated else Word.NEW


def _last_word(outcome: Outcome | None) -> Word:
    match outcome:
        case Outcome.FIXED:
            return Word.FIXED
        case Outcome.EXPIRED:
            return Word.STILL
        case _:
            return Word.RESOLVED


def line_of(story: Story, *, now: datetime) -> str:
    """Return a story as one line of a bundle: `#41 NEW · user 7 paid …, not active · open for 3 h`."""
    word = choose_word(story)
    head, stands = f"#{short(story.alert_id)} {word} · ", _stands(story, now)
    subject = fit(masked(_tell(story, word, now).subject), LONGEST_MEMBER - units(head) - units(stands) - 3)
    return f"{head}{subject} · {stands}"


def _stands(story: Story, now: datetime) -> str:
    match story.state:
        case State.OPEN:
            return f"open for {span(now - story.opened_at)}"
        case State.ACKED:
            return f"acknowledged by {short(story.acked_by or '') or 'somebody'}"
        case State.RESOLVED:
            ended = {Outcome.EXPIRED: "expired", Outcome.DISMISSED: "dismissed"}
            over = "over" if story.outcome is None else ended.get(story.outcome, "over")
            return f"{over} after {span((story.resolved_at or now) - story.opened_at)}"
        case _ as unreachable:
            assert_never(unreachable)


def _tell(story: Story, word: Word, now: datetime) -> Said:
    """Return what the teller of its kind says."""
    if story.kind == INCIDENT and story.incident is not None:
        return tell_incident(story, story.incident, word, now)
    try:
        kind = GapKind(story.kind)
    except ValueError:
        return tell_note(story, word, now)
    return tell_webhook(story, kind, word, now) if kind in WEBHOOK_KINDS else tell_gap(story, kind, word, now)


def _machine(story: Story) -> Iterator[Line]:
    """Yield how automatic activation stands; the proof of life says it in its own words."""
    if story.kind != DAILY:
        yield from text("Automatic activation", story.mode, short=False)


def _extra(story: Story) -> dict[str, str]:
    """Return the facts for machines, exact and unmasked but for people's names, which are left out."""
    facts = {
        "payment_id": story.payment_id,
        "user_id": story.user_id,
        "plan_id": story.plan_id,
        "amount": None if story.amount is None else str(story.amount),
        "currency": story.currency,
        "method": story.method,
        "reference": story.reference,
        "status": story.status,
        "cause": unlinked(masked(story.cause)),
        "state": story.state,
        "severity": story.severity,
        "outcome": story.outcome,
        "paid_at": _iso(story.paid_at),
        "noticed_at": _iso(story.noticed_at),
        "due_at": _iso(story.due_at),
        "opened_at": _iso(story.opened_at),
        "acked_until": _iso(story.acked_until),
        "resolved_at": _iso(story.resolved_at),
        "revision": str(story.revision),
        "reminders": str(story.reminders),
        "escalations": str(story.escalations),
        "channel": story.about_channel,
        "waiting": None if story.waiting is None else str(story.waiting),
        "dead": None if story.dead is None else str(story.dead),
        "activation_id": story.activation_id,
    }
    return {name: str(fact) for name, fact in (facts | _of_incident(story)).items() if fact}


def _of_incident(story: Story) -> dict[str, str | None]:
    """Return an incident's numbers for machines."""
    incident = story.incident
    if incident is None:
        return {}
    return {
        "kind_of": incident.kind_of,
        "method": incident.method,
        "started_at": _iso(incident.started_at),
        "total": str(incident.total),
        "open": str(incident.open),
        "rescued": str(incident.rescued),
        "otherwise": str(incident.otherwise),
        "money_at_risk": ", ".join(
            money(amount, currency) for currency, amount in sorted(incident.money_at_risk.items())
        ),
        "oldest_paid_at": _iso(incident.oldest_paid_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
