"""What a story is told as: the word, the sentences, the facts and the next command."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paidwatch.core.model import GapKind, Notice, Outcome, Word
from paidwatch.core.phrases import ending, wrong
from paidwatch.core.render import line_of, render
from paidwatch.core.routing import Severity
from paidwatch.core.said import LONGEST, MOST_LINES
from paidwatch.core.story import (
    AUDIT,
    BASELINE,
    BREAKER,
    CHANNEL_DOWN,
    DAILY,
    DOUBLE,
    HELD,
    INCIDENT,
    MORNING,
    TEST,
    State,
    Story,
)
from paidwatch.core.tell_webhook import MONEY_KINDS, WEBHOOK_KINDS
from tests.channels.stories import NOW, OPENED, acked, channel_down, incident, plain, resolved, story

KINDS = (AUDIT, BASELINE, BREAKER, CHANNEL_DOWN, DAILY, DOUBLE, HELD, INCIDENT, MORNING, TEST)


def shown(notice: Notice) -> dict[str, str | datetime]:
    return {line.label: line.value for line in notice.lines}


def everything(notice: Notice) -> str:
    """All that a person could read."""
    lines = " ".join(f"{line.label} {line.value}" for line in notice.lines)
    return f"{notice.subject} {notice.summary} {lines} {notice.command}"


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (story(), Word.NEW),
        (story(reminders=2), Word.NEW),
        (story(announced=True), Word.STILL),
        (story(announced=True, reminders=1), Word.STILL),
        (resolved(), Word.RESOLVED),
        (resolved(outcome=Outcome.FIXED), Word.FIXED),
        (resolved(outcome=Outcome.FIXED, announced=False), Word.FIXED),
        (resolved(outcome=Outcome.REVERSED), Word.RESOLVED),
        (plain(kind=BASELINE), Word.DIGEST),
        (plain(kind=BASELINE, state=State.RESOLVED, outcome=Outcome.DISMISSED), Word.DIGEST),
        (plain(kind=TEST), Word.TEST),
        (plain(kind=TEST, state=State.RESOLVED, announced=True), Word.TEST),
        (story(escalated=True), Word.ESCALATED),
        (story(escalated=True, announced=True), Word.STILL),
        (acked(announced=False), Word.NEW),
        (acked(announced=False, escalated=True), Word.ESCALATED),
        (acked(), Word.STILL),
        (resolved(escalated=True, announced=False), Word.RESOLVED),
        (resolved(outcome=Outcome.DISMISSED), Word.RESOLVED),
        (resolved(outcome=Outcome.EXPIRED), Word.STILL),
        (resolved(outcome=Outcome.EXPIRED, announced=False), Word.STILL),
        (incident(), Word.NEW),
        (incident(announced=True), Word.STILL),
        (incident(escalated=True), Word.ESCALATED),
        (incident(announced=True, state=State.RESOLVED), Word.RESOLVED),
        (channel_down(), Word.NEW),
        (channel_down(announced=True), Word.STILL),
        (channel_down(announced=True, state=State.RESOLVED), Word.RESOLVED),
        (plain(kind=HELD, state=State.RESOLVED), Word.DIGEST),
        (plain(kind=MORNING), Word.DIGEST),
        (plain(kind=DAILY, state=State.RESOLVED, outcome=Outcome.DISMISSED), Word.DIGEST),
        (plain(kind=AUDIT), Word.NEW),
        (plain(kind=AUDIT, state=State.RESOLVED), Word.NEW),
        (plain(kind=AUDIT, announced=True, state=State.RESOLVED), Word.RESOLVED),
        (plain(kind="of_a_later_version"), Word.NEW),
    ],
)
def test_the_word(told: Story, word: Word) -> None:
    assert render(told, now=NOW).word is word


@pytest.mark.parametrize("kind", GapKind)
def test_the_subject_is_the_same_through_the_whole_story(kind: GapKind) -> None:
    parts = [story(kind=kind.value), story(kind=kind.value, announced=True, reminders=3), resolved(kind=kind.value)]

    subjects = {render(told, now=NOW + timedelta(hours=place)).subject for place, told in enumerate(parts)}

    assert len(subjects) == 1
    assert ("nowpayments" if kind in WEBHOOK_KINDS - MONEY_KINDS else "user 7") in subjects.pop()


def test_the_subject_of_the_ordinary_gap() -> None:
    assert render(story(), now=NOW).subject == "user 7 paid 14.99 USD (professional), not active"


def test_a_subject_without_a_user_names_the_payment() -> None:
    told = story(user_id=None, user_label=None, plan_id=None, amount=None, currency=None)

    assert render(told, now=NOW).subject == "payment 12 paid an unknown amount, not active"


def test_an_open_gap_that_a_channel_knows_says_for_how_long() -> None:
    notice = render(story(announced=True), now=OPENED + timedelta(minutes=32))

    assert notice.summary.startswith("Open for 32 min. The payment is complete")
    assert notice.open


def test_a_gap_that_closed_before_it_could_be_told_is_one_truthful_message() -> None:
    notice = render(resolved(announced=False), now=OPENED + timedelta(hours=6))

    assert notice.word is Word.RESOLVED
    assert not notice.open
    assert notice.command == ""
    assert notice.summary == (
        "There was a gap for 5 min, and it is closed. The payment was complete, the grace period was over, and "
        "the user was not active. The user now has what was paid for."
    )
    facts = shown(notice)
    assert facts["Gap since"] == OPENED
    assert facts["Closed"] == OPENED + timedelta(minutes=5)
    assert facts["Delay"] == (
        "the gap was closed before this channel was told of it; "
        "this channel was reached 5 h 55 min after the gap was closed"
    )


def test_nothing_closed_is_said_in_the_present() -> None:
    for kind, outcome, announced in product(GapKind, Outcome, [True, False]):
        notice = render(resolved(kind=kind.value, outcome=outcome, announced=announced), now=NOW)
        assert wrong(kind).now not in notice.summary
        assert notice.summary.endswith(ending(kind, outcome))
        assert (notice.command == "") is (outcome is not Outcome.EXPIRED)
        assert not notice.open


def test_every_kind_and_every_outcome_has_words_of_its_own() -> None:
    words = [wrong(kind) for kind in GapKind]
    assert len({word.brief for word in words}) == len({word.many for word in words}) == len(GapKind)
    sentences = {said for word in words for said in (word.now, word.then, word.many_now, word.many_then)}
    assert len(sentences) == 4 * len(GapKind)
    assert len({ending(None, outcome) for outcome in [*Outcome, None]}) == len(Outcome) + 1


def test_taking_access_back_is_no_debt() -> None:
    notice = render(resolved(kind=GapKind.REVERSED_BUT_ACTIVE.value, outcome=Outcome.REVERSED), now=NOW)

    assert notice.summary == "Nothing of the access is left to take back."


def test_what_expired_is_not_called_closed() -> None:
    ended = OPENED + timedelta(days=30)
    known = render(resolved(outcome=Outcome.EXPIRED, resolved_at=ended), now=ended)
    unheard = render(resolved(outcome=Outcome.EXPIRED, resolved_at=ended, announced=False), now=ended)

    assert known.summary == "Nobody closed it for so long that paidwatch follows it no further."
    assert unheard.summary == (
        "An alert was open for 30 d. The payment was complete, the grace period was over, and the user was not "
        f"active. {known.summary}"
    )
    for notice in (known, unheard):
        facts = shown(notice)
        assert facts["Expired"] == ended
        assert "Closed" not in facts
        assert "closed before" not in str(facts.get("Delay"))
        assert notice.command == "paidwatch activate 7 --payment 12 --dry-run"


def test_a_dismissal_names_its_author_and_the_reason() -> None:
    notice = render(resolved(outcome=Outcome.DISMISSED, ended_by="ann", ended_why="paid twice"), now=NOW)

    assert notice.summary == "A person dismissed it as no gap."
    assert shown(notice)["Dismissed"] == "by ann: paid twice"
    assert "Dismissed" not in shown(render(resolved(outcome=Outcome.DISMISSED), now=NOW))
    assert "Dismissed" not in shown(render(resolved(ended_by="ann"), now=NOW))


def test_who_looks_after_it_is_said_and_until_when() -> None:
    until = OPENED + timedelta(hours=2)
    notice = render(acked(), now=OPENED + timedelta(minutes=32))

    assert notice.open
    assert notice.summary == (
        "Open for 32 min, acknowledged by ann until 2026-03-14 11:28:53 UTC; reminders are stopped. "
        "The payment is complete, the grace period is over, and the user is not active."
    )
    assert shown(notice)["Quiet until"] == until
    assert notice.command == "paidwatch activate 7 --payment 12 --dry-run"
    first = render(acked(announced=False), now=NOW).summary
    assert first.startswith("Acknowledged by ann until 2026-03-14 11:28:53 UTC; reminders are stopped. The payment")


def test_an_acknowledgement_that_is_over_is_said_to_be_over() -> None:
    notice = render(story(announced=True, acked_by="ann"), now=OPENED + timedelta(hours=2))

    assert notice.summary.startswith("Open for 2 h; the acknowledgement by ann is over. The payment")
    assert "Quiet until" not in shown(notice)


@pytest.mark.parametrize(
    ("change", "after", "why"),
    [
        ({}, 60, "it came here because it is open for 1 h"),
        (
            {"escalated_from": Decimal("500.00")},
            15,
            "it came here because it is open for 15 min, and 500.00 or more is at stake",
        ),
    ],
)
def test_an_escalation_says_why_it_came_here(change: dict[str, Any], after: int, why: str) -> None:
    notice = render(story(escalated=True, **change), now=OPENED + timedelta(minutes=after))

    assert shown(notice)["Escalated"] == why
    assert "nobody has acknowledged it" in notice.summary
    assert "Escalated" not in shown(render(story(escalated=True, announced=True), now=NOW))


def test_how_to_take_over_is_said_once_there_were_reminders() -> None:
    command = "paidwatch alerts ack 41 --for 2h"

    assert shown(render(story(announced=True), now=NOW))["Take over"] == command
    assert shown(render(story(escalated=True), now=NOW))["Take over"] == command
    for told in (
        story(),
        acked(),
        resolved(),
        resolved(outcome=Outcome.EXPIRED),
        story(announced=True, alert_id="$(x)"),
    ):
        assert "Take over" not in shown(render(told, now=NOW))


def test_low_severity_is_said() -> None:
    assert shown(render(story(severity=Severity.LOW), now=NOW))["Severity"] == "low"
    assert "Severity" not in shown(render(story(), now=NOW))


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        (GapKind.PAID_NOT_ACTIVE, "paidwatch activate 7 --payment 12 --dry-run"),
        (GapKind.TIER_MISMATCH, "paidwatch activate 7 --payment 12 --dry-run"),
        (GapKind.RENEWAL_NOT_APPLIED, "paidwatch activate 7 --payment 12 --dry-run"),
        (GapKind.PAID_BUT_REVOKED, "paidwatch activate 7 --payment 12 --dry-run"),
        (GapKind.ACTIVATION_FAILED, "paidwatch activate 7 --payment 12 --dry-run"),
        (GapKind.AMOUNT_MISMATCH, "paidwatch user 7"),
        (GapKind.REVERSED_BUT_ACTIVE, "paidwatch user 7"),
        (GapKind.USER_MISSING_OR_DISABLED, "paidwatch user 7"),
    ],
)
def test_the_next_command(kind: GapKind, command: str) -> None:
    assert render(story(kind=kind.value), now=NOW).command == command


@pytest.mark.parametrize(
    "user", [None, "", "someone@example.org", "7; rm -rf /", "$(reboot)", "-x", "a b", "`id`", "x" * 200, "7\n8"]
)
def test_a_command_never_holds_what_a_shell_or_a_reader_could_misread(user: str | None) -> None:
    assert render(story(user_id=user), now=NOW).command == "paidwatch check"


def test_a_payment_that_cannot_stand_in_a_command_is_left_out() -> None:
    assert render(story(payment_id="a b"), now=NOW).command == "paidwatch activate 7 --dry-run"


def test_the_times_of_an_ordinary_alert_need_no_excuse() -> None:
    facts = shown(render(story(), now=NOW))

    assert (facts["Paid"], facts["Sent"], facts["Age"]) == (story().paid_at, NOW, "2 min 1 s")
    assert "Delay" not in facts


@pytest.mark.parametrize(
    ("told", "after", "delay"),
    [
        (story(delay="the watcher was not listening for 42 s"), 1, "the watcher was not listening for 42 s"),
        (
            story(due_at=OPENED - timedelta(minutes=3)),
            1,
            "the gap was found 3 min after the grace period ended",
        ),
        (story(), 7200, "this channel was reached 2 h after the gap was found"),
        (
            story(delay="the watcher was not listening for 42 s"),
            7200,
            "the watcher was not listening for 42 s; this channel was reached 2 h after the gap was found",
        ),
        (resolved(), 7500, "this channel was reached 2 h after the gap was closed"),
    ],
)
def test_the_reason_of_a_delay(told: Story, after: int, delay: str) -> None:
    assert shown(render(told, now=OPENED + timedelta(seconds=after)))["Delay"] == delay


@pytest.mark.parametrize("told", [story(announced=True, delay="x"), plain(kind=TEST), plain(kind=BASELINE)])
def test_a_reminder_and_a_digest_are_not_late(told: Story) -> None:
    assert "Delay" not in shown(render(told, now=OPENED + timedelta(days=1)))


def test_names_are_masked_wherever_they_stand() -> None:
    address = "someone@example.org"
    told = story(
        detail=f"could not write to <{address}>",
        cause=f"for {address}",
        activation=(f"would set {address}",),
        digest=(address,),
        members=(address,),
        about_channel=address,
        acked_by=address,
        ended_by=address,
        ended_why=address,
        delay=f"waited for {address}",
        status=address,
        plan_id=address,
        method=address,
        reference=address,
        payment_id=address,
        user_id=address,
    )

    gathered = incident().incident
    assert gathered is not None
    hostile = replace(
        gathered, kind_of=address, method=address, causes=((address, 1),), money_at_risk={address: Decimal(1)}
    )
    shapes = [
        replace(
            told,
            kind=kind,
            incident=hostile,
            announced=announced,
            state=state,
            outcome=Outcome.DISMISSED if state is State.RESOLVED else None,
        )
        for kind, announced, state in product([*GapKind, *KINDS, "other"], [True, False], State)
    ]
    for shape in shapes:
        assert "xample" not in line_of(shape, now=NOW)
        notice = render(shape, now=NOW)
        assert "omeone" not in everything(notice)
        assert "xample" not in everything(notice)


def test_facts_for_machines_are_exact_and_hold_no_name() -> None:
    extra = render(story(), now=NOW).extra

    assert extra["amount"] == "14.99"
    assert extra["paid_at"] == "2026-03-14T09:26:53+00:00"
    assert "resolved_at" not in extra
    assert "someone" not in str(extra)


def test_what_is_not_known_is_not_said() -> None:
    facts = shown(render(plain(), now=NOW))

    assert set(facts) == {"Sent"}


def test_how_many_share_a_cause() -> None:
    assert shown(render(story(sharing=1), now=NOW))["Shared by"] == "1 other open gap has the same cause"
    assert shown(render(story(sharing=3), now=NOW))["Shared by"] == "3 other open gaps have the same cause"
    assert "Shared by" not in shown(render(resolved(sharing=3), now=NOW))


def test_a_long_digest_says_how_much_is_missing() -> None:
    notice = render(plain(kind=BASELINE, digest=tuple(f"line {number}" for number in range(100))), now=NOW)
    values = [line.value for line in notice.lines if line.label in {"", "Found"}]

    assert len(values) == MOST_LINES + 1
    assert values[-1] == f"({100 - MOST_LINES} more lines)…"


@given(st.text(max_size=3000), st.text(max_size=80), st.text(max_size=80))
def test_any_text_of_the_application_stays_one_line_of_bounded_length(detail: str, name: str, key: str) -> None:
    notice = render(story(detail=detail, user_label=name, user_id=key, plan_id=key, reference=detail), now=NOW)

    for line in notice.lines:
        if isinstance(line.value, str):
            assert len(line.value) <= LONGEST
            assert line.value.isprintable() or "\u200d" in line.value
    assert "\n" not in notice.subject
    assert len(notice.subject) < 400
    assert re.fullmatch(r"paidwatch (check|activate [\w.:-]+ --payment 12 --dry-run)", notice.command)
