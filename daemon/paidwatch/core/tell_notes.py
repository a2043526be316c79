"""What is no gap, told: a broken channel, digests, the proof of life, the audit, a test."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final

from paidwatch.core import phrases
from paidwatch.core.model import Line, Word
from paidwatch.core.said import (
    LONGEST,
    MOST_LINES,
    TOGETHER,
    UNSETTLED,
    Event,
    Said,
    attention,
    count,
    dismissal,
    lateness,
    left_out,
    moment,
    pasteable,
    person,
    quieten,
    several,
    short,
    standing,
    text,
    unlinked,
)
from paidwatch.core.story import (
    AUDIT,
    BASELINE,
    BREAKER,
    CHANNEL_DOWN,
    DAILY,
    DOUBLE,
    FORWARD,
    HELD,
    MORNING,
    TEST,
    State,
    Story,
)
from paidwatch.core.text import fit, masked, money, span

_OUTAGE: Final = Event(begun="the fault was noticed", over="the fault was over")
_OTHER: Final = Event(begun="it was noticed", over="it was over")
_NARROW: Final = 40
"""Length of a value that may stand beside another one."""
_LABELLED: Final = re.compile(r"([A-Z][A-Za-z0-9 ]{1,19}): (\S.*)")


def tell_note(story: Story, word: Word, now: datetime) -> Said:
    """Return what is said about a story that is no gap and no incident; an unknown kind is told by its cause."""
    return _TELLERS.get(story.kind, _tell_unknown)(story, word, now)


def _tell_test(story: Story, _: Word, now: datetime) -> Said:
    still = "It is over, as a gap would be." if story.state is State.RESOLVED else "It is still open."
    return Said(
        subject="test message",
        summary=f"This is a test of paidwatch; no payment is concerned. {still}",
        lines=(*_ends(story), Line(label="Sent", value=now), *several("Notes", story.digest)),
    )


def _tell_baseline(story: Story, _: Word, now: datetime) -> Said:
    return Said(
        subject="payments from before paidwatch was installed",
        summary="The payments that were there before are told once, here, and are followed no further.",
        lines=(*_ends(story), Line(label="Sent", value=now), *several("Found", story.digest)),
        command="paidwatch check",
    )


def _tell_daily(story: Story, _: Word, now: datetime) -> Said:
    """Tell that everything works: a day without this message is a day on which somebody should look."""
    return Said(
        subject="Proof of life",
        summary="paidwatch is running and its messages arrive. This is what it saw and did.",
        lines=(*_labelled(story.digest), Line(label="Sent", value=now)),
    )


def _tell_bundle(story: Story, _: Word, now: datetime) -> Said:
    """Tell several stories, each as it is now, in one line."""
    total = max(story.members_total, len(story.members))
    if story.kind == HELD:
        channel = f"the channel {short(story.about_channel)}" if story.about_channel else "this channel"
        subject = f"{count(total, 'alert')} that waited for {channel}"
        summary = (
            f"{channel[0].upper()}{channel[1:]} works again. What it was not told meanwhile stands here, as it is now."
        )
    else:
        subject = f"{count(total, 'alert')} of low severity from the quiet hours"
        summary = "What waited for the end of the quiet hours stands here, as it is now."
    return Said(
        subject=subject,
        summary=summary,
        lines=(*_members(story.members, total), *several("Notes", story.digest), Line(label="Sent", value=now)),
        command="paidwatch alerts",
    )


def _tell_channel_down(story: Story, word: Word, now: datetime) -> Said:
    """Tell on one channel that another takes nothing, and that it does again."""
    name = short(story.about_channel or "?")
    over = story.state is State.RESOLVED
    length = span((story.resolved_at or now) - story.opened_at)
    if not over:
        summary = (
            f"{standing(story, word, now)}The channel {name} takes no messages. They are kept, this channel is told "
            "instead, and a try follows every few minutes."
        )
    elif story.outcome in UNSETTLED:
        summary = f"The channel {name} took no messages for {length}. {phrases.ending(None, story.outcome)}"
    else:
        summary = f"The channel {name} takes messages again, after {length}. What waited for it is told there now."
    return Said(
        subject=f"channel {name} takes no messages",
        summary=summary,
        lines=tuple(_of_channel(story, word, now, over=over)),
        command="" if over else _try(story.about_channel),
    )


def _of_channel(story: Story, word: Word, now: datetime, *, over: bool) -> Iterator[Line]:
    yield from text("Channel", story.about_channel)
    yield Line(label="Since", value=story.opened_at)
    if over:
        yield from moment("Again since", story.resolved_at)
    yield Line(label="Sent", value=now)
    if story.waiting is not None and not over:
        yield Line(label="Waiting", value=count(story.waiting, "message"))
    yield from text("Reason", unlinked(story.cause), short=False)
    yield from text("Reported", unlinked(story.detail), short=False)
    yield from attention(story, word, now)
    yield from text("Delay", lateness(story, word, now, _OUTAGE), short=False)
    yield from dismissal(story)
    yield from several("Notes", [unlinked(line) for line in story.digest])
    yield from quieten(story, word)


def _try(channel: str | None) -> str:
    """Return the command that tries one channel, or all where its name cannot stand in a command."""
    name = pasteable(channel)
    return f"paidwatch test-alert --channel {name}" if name else "paidwatch test-alert"


def _tell_double(story: Story, word: Word, now: datetime) -> Said:
    """Tell that a payment was activated by paidwatch and by the application, and what undoes it."""
    who = f"user {short(story.user_id)}" if story.user_id else "a user"
    number = pasteable(story.activation_id)
    over = story.state is State.RESOLVED
    if not over:
        summary = (
            f"{standing(story, word, now)}paidwatch activated the payment, and later the application did as well, as a "
            "late webhook makes it. paidwatch changes nothing about that by itself."
        )
    elif story.outcome in UNSETTLED:
        summary = f"The payment was activated twice. {phrases.ending(None, story.outcome)}"
    else:
        summary = "The payment was activated twice. The user now has what was paid for, or the activation was undone."
    return Said(
        subject=f"{who} was activated twice for one payment",
        summary=summary,
        lines=(
            *text("Who", person(story.user_id, story.user_label)),
            *text("Plan", story.plan_id),
            *(text("Amount", money(story.amount, story.currency)) if story.amount is not None else ()),
            *text("Method", story.method),
            *_labelled(story.digest),
            *_ends(story),
            Line(label="Sent", value=now),
            *attention(story, word, now),
            *text("Delay", lateness(story, word, now, _OTHER), short=False),
            *dismissal(story),
            *quieten(story, word),
        ),
        command="" if over or number is None else f"paidwatch undo {number} --dry-run",
    )


def _tell_breaker(story: Story, word: Word, now: datetime) -> Said:
    """Tell that automatic activation is stopped until a person resumes it, or that somebody did."""
    over = story.state is State.RESOLVED
    cause = fit(masked(story.cause), LONGEST) or "something went wrong"
    if not over:
        summary = (
            f"{standing(story, word, now)}paidwatch activates nothing by itself any more, until a person resumes it: "
            f"{cause}. People can still activate by hand."
        )
    elif story.outcome in UNSETTLED:
        summary = f"Automatic activation was stopped: {cause}. {phrases.ending(None, story.outcome)}"
    else:
        summary = f"Automatic activation was stopped: {cause}. A person resumed it, and open gaps are looked at again."
    return Said(
        subject="automatic activation is stopped",
        summary=summary,
        lines=(
            *_ends(story),
            Line(label="Sent", value=now),
            *attention(story, word, now),
            *text("Delay", lateness(story, word, now, _OTHER), short=False),
            *dismissal(story),
            *several("Notes", story.digest),
            *quieten(story, word),
        ),
        command="" if over else "paidwatch activation resume",
    )


def _tell_forward(story: Story, word: Word, now: datetime) -> Said:
    """Tell that the application does not take a provider's webhooks, and that it does again."""
    provider = short(story.method or "") or "a provider"
    over = story.state is State.RESOLVED
    if not over:
        cause = fit(masked(story.cause), LONGEST) or f"the application does not take webhooks of {provider}"
        summary = (
            f"{standing(story, word, now)}{cause[0].upper()}{cause[1:]}. paidwatch keeps them all: what waits is "
            "passed on by itself once the handler works, a dead letter when a person says so."
        )
    elif story.outcome in UNSETTLED:
        summary = f"The application did not take webhooks of {provider}. {phrases.ending(None, story.outcome)}"
    else:
        length = span((story.resolved_at or now) - story.opened_at)
        summary = f"The application takes webhooks of {provider} again, after {length}; no dead letter is left."
    return Said(
        subject=f"the application does not take webhooks of {provider}",
        summary=summary,
        lines=(
            *text("Provider", provider),
            *_ends(story),
            *(() if over else _backlog(story)),
            Line(label="Sent", value=now),
            *several("Reported", [unlinked(line) for line in story.digest]),
            *attention(story, word, now),
            *text("Delay", lateness(story, word, now, _OUTAGE), short=False),
            *dismissal(story),
            *quieten(story, word),
        ),
        command="" if over else f"paidwatch webhooks list --forward {'dead' if story.dead else 'due'}",
    )


def _backlog(story: Story) -> Iterator[Line]:
    """Yield since when, how many wait, and how many wait for a person."""
    yield Line(label="Since", value=story.away_since or story.opened_at)
    if story.waiting is not None:
        yield Line(label="Waiting", value=count(story.waiting, "webhook"))
    if story.dead is not None:
        yield Line(label="Dead letters", value=str(story.dead))
    if story.dead:
        repaired = "once the handler is repaired, pass them on: paidwatch webhooks replay --dead"
        yield from text("Then", repaired, short=False)


def _tell_audit(story: Story, word: Word, now: datetime) -> Said:
    """Tell what the comparison of alerts with deliveries found missing, which is an error in paidwatch itself."""
    found = (*story.members, *story.digest)
    total = max(story.members_total, len(found))
    over = story.state is State.RESOLVED and story.announced
    cause = fit(masked(story.cause), LONGEST) or "what should have been told was not"
    said = ". It has been told since, or is over." if over else f": {cause}."
    return Said(
        subject="alerts that were not told",
        summary=f"{standing(story, word, now)}The audit compared alerts with deliveries{said}",
        lines=(
            *_listed("Not told", found, total),
            *_ends(story),
            Line(label="Sent", value=now),
            *attention(story, word, now),
            *quieten(story, word),
        ),
        command="" if over else "paidwatch deliveries",
    )


def _tell_unknown(story: Story, word: Word, now: datetime) -> Said:
    """Tell a kind that this version does not know."""
    ended = phrases.ending(None, story.outcome) if story.state is State.RESOLVED and story.announced else ""
    what = fit(masked(story.cause), LONGEST) or "Something needs a look."
    return Said(
        subject=short(story.kind.replace("_", " ")),
        summary=f"{standing(story, word, now)}{ended or what}",
        lines=(
            *_ends(story),
            Line(label="Sent", value=now),
            *attention(story, word, now),
            *text("Delay", lateness(story, word, now, _OTHER), short=False),
            *text("Reported", story.detail, short=False),
            *dismissal(story),
            *several("Notes", story.digest),
            *quieten(story, word),
        ),
    )


def _ends(story: Story) -> Iterator[Line]:
    """Yield when it was over, where somebody was told that it had begun."""
    if story.state is State.RESOLVED and story.announced:
        yield from moment("Closed", story.resolved_at)


def _members(members: Sequence[str], total: int) -> Iterator[Line]:
    """Yield the lines of a bundle a few at a time, so that no service has to cut them, and how many are left out."""
    shown = members[:MOST_LINES]
    for start in range(0, len(shown), TOGETHER):
        some = shown[start : start + TOGETHER]
        numbers = str(start + 1) if len(some) == 1 else f"{start + 1} to {start + len(some)}"
        yield from several(numbers, some)
    yield from left_out(total - len(shown), label="" if shown else "Alerts", noun="alert")


def _listed(label: str, values: Sequence[str], total: int) -> Iterator[Line]:
    """Yield values under one label, and how many of `total` are left out."""
    shown = values[:MOST_LINES]
    yield from several(label, shown)
    yield from left_out(total - len(shown), label="" if shown else label)


def _labelled(lines: Sequence[str]) -> Iterator[Line]:
    """Yield `Label: value` as a fact of its own, and any other line under the one before."""
    for place, line in enumerate(lines[:MOST_LINES]):
        found = _LABELLED.fullmatch(masked(line))
        if found:
            yield from text(found[1], found[2], short=len(found[2]) <= _NARROW)
        else:
            yield from text("" if place else "Seen", line, short=False)
    yield from left_out(len(lines) - MOST_LINES)


_TELLERS: Final[Mapping[str, Callable[[Story, Word, datetime], Said]]] = MappingProxyType(
    {
        TEST: _tell_test,
        BASELINE: _tell_baseline,
        DAILY: _tell_daily,
        HELD: _tell_bundle,
        MORNING: _tell_bundle,
        CHANNEL_DOWN: _tell_channel_down,
        AUDIT: _tell_audit,
        BREAKER: _tell_breaker,
        DOUBLE: _tell_double,
        FORWARD: _tell_forward,
    }
)
