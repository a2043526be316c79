"""What many gaps, a broken channel, a bundle, the proof of life and the audit are told as."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from paidwatch.core.model import GapKind, Notice, Outcome
from paidwatch.core.phrases import wrong
from paidwatch.core.render import LONGEST_MEMBER, line_of, render
from paidwatch.core.said import LONGEST, MOST_LINES
from paidwatch.core.story import AUDIT, DAILY, HELD, MORNING, Incident, State, Story
from tests.channels.stories import NOW, OPENED, PAID, acked, bundle, channel_down, incident, plain, resolved, story


def shown(notice: Notice) -> dict[str, str | datetime]:
    return {line.label: line.value for line in notice.lines}


def told(story: Story, minutes: int) -> Notice:
    return render(story, now=OPENED + timedelta(minutes=minutes))


def gathered(**change: object) -> Story:
    base = incident().incident
    assert base is not None
    return incident(incident=replace(base, **change))  # type: ignore[arg-type]


def test_an_incident_says_how_many_how_much_how_old_and_why() -> None:
    notice = told(incident(announced=True), 14)

    assert notice.subject == "512 payments by nowpayments: paid, not active"
    assert notice.summary == (
        "Open for 13 min. The payments are complete, their grace period is over, and the users are not active. "
        "498 of 512 are still open, the oldest paid 16 min ago."
    )
    facts = shown(notice)
    assert (facts["Affected"], facts["Open now"], facts["Rescued"], facts["Ended otherwise"]) == (
        "512 payments",
        "498",
        "12",
        "2",
    )
    assert facts["At risk"] == "29.99 EUR, 7465.02 USD"
    assert (facts["Since"], facts["Oldest paid"]) == (OPENED, PAID)
    assert facts["Causes"] == "512 times: no webhook was recorded for this payment"
    assert notice.command == "paidwatch check"
    assert facts["Each of them"] == "paidwatch alerts list --members"
    assert facts["Take over"] == "paidwatch alerts ack 41 --for 2h"


def test_an_incident_of_which_all_are_open() -> None:
    notice = told(incident(stuck=9, rescued=0, otherwise=0), 1)

    assert notice.summary.endswith("All of them are open, the oldest paid 3 min ago.")


def test_an_incident_that_waits_for_more_says_that_none_is_open() -> None:
    notice = told(incident(stuck=0, rescued=512, otherwise=0, announced=True), 14)

    assert notice.open
    assert notice.summary.endswith("None of them is open any more; it ends when no more follow.")
    assert "At risk" not in shown(notice)
    assert "Oldest paid" not in shown(notice)


def test_the_end_of_an_incident_says_how_long_how_many_and_what_is_left() -> None:
    end = OPENED + timedelta(minutes=72)
    over = incident(stuck=0, rescued=502, otherwise=10, announced=True, state=State.RESOLVED, resolved_at=end)
    notice = render(over, now=end)

    assert not notice.open
    assert notice.summary == "It lasted 1 h 12 min: 502 of 512 payments rescued, 10 ended otherwise, none still stuck."
    assert shown(notice)["Closed"] == end
    assert notice.command == ""


def test_an_incident_that_ends_with_some_still_stuck_says_so() -> None:
    over = incident(state=State.RESOLVED, outcome=Outcome.EXPIRED, resolved_at=OPENED + timedelta(days=30))
    notice = render(over, now=OPENED + timedelta(days=30))

    assert "498 still stuck" in notice.summary
    assert notice.summary.endswith("paidwatch follows it no further.")
    assert wrong(GapKind.PAID_NOT_ACTIVE).many_now not in notice.summary
    assert notice.command == "paidwatch check"


def test_many_currencies_stand_one_below_the_other_and_unknown_ones_are_sums_too() -> None:
    notice = told(gathered(money_at_risk={name: Decimal(1) for name in ["", "A", "B", "C"]}), 14)
    place = next(place for place, line in enumerate(notice.lines) if line.label == "At risk")

    assert [line.value for line in notice.lines[place : place + 4]] == ["1", "1 A", "1 B", "1 C"]
    assert [line.label for line in notice.lines[place + 1 : place + 4]] == ["", "", ""]


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        ({"method": None}, "512 payments: paid, not active"),
        ({"total": 1}, "1 payment by nowpayments: paid, not active"),
        ({"kind_of": "reversed_but_active"}, "512 payments by nowpayments: reversed, users still have access"),
        ({"kind_of": "bad_signature"}, "512 alerts by nowpayments: bad signature"),
    ],
)
def test_the_subject_of_an_incident(change: dict[str, object], subject: str) -> None:
    assert told(gathered(**change), 1).subject == subject


@pytest.mark.parametrize("kind", GapKind)
def test_every_kind_of_gap_has_words_for_many(kind: GapKind) -> None:
    open_, over = told(gathered(kind_of=kind.value), 1), replace(gathered(kind_of=kind.value), state=State.RESOLVED)

    assert wrong(kind).many in open_.subject
    assert wrong(kind).many_now in open_.summary
    assert wrong(kind).many_then in told(over, 90).summary
    assert wrong(kind).many_now not in told(over, 90).summary


def test_an_incident_told_late_says_so() -> None:
    assert shown(told(incident(), 60))["Delay"] == "this channel was reached 59 min after the incident was noticed"
    assert "Delay" not in shown(told(incident(announced=True), 60))


def test_an_incident_for_machines() -> None:
    extra = told(incident(), 1).extra

    assert (extra["total"], extra["open"], extra["rescued"], extra["otherwise"]) == ("512", "498", "12", "2")
    assert extra["money_at_risk"] == "29.99 EUR, 7465.02 USD"
    assert extra["kind_of"] == "paid_not_active"


def test_an_incident_without_its_numbers_is_still_told() -> None:
    assert told(incident(incident=None), 1).subject == "incident"


def test_a_broken_channel_says_which_since_when_why_and_what_waits() -> None:
    notice = render(channel_down(), now=NOW)

    assert notice.subject == "channel ops-slack takes no messages"
    facts = shown(notice)
    assert (facts["Channel"], facts["Since"], facts["Waiting"]) == ("ops-slack", OPENED, "12 messages")
    assert facts["Reason"] == "Slack refused the message: no_service (404)"
    assert notice.command == "paidwatch test-alert --channel ops-slack"


def test_a_repaired_channel_says_for_how_long_it_was_broken() -> None:
    end = OPENED + timedelta(hours=2)
    notice = render(channel_down(announced=True, state=State.RESOLVED, resolved_at=end), now=end)

    assert notice.summary.startswith("The channel ops-slack takes messages again, after 2 h.")
    assert shown(notice)["Again since"] == end
    assert (notice.command, notice.open) == ("", False)


@pytest.mark.parametrize("field", ["cause", "detail", "digest"])
def test_the_reason_of_a_broken_channel_holds_no_address(field: str) -> None:
    said = "no answer from https://hooks.example.org/services/T0/secret: 404 (www.example.org/secret)"
    notice = render(channel_down(**{field: (said,) if field == "digest" else said}), now=NOW)

    assert "secret" not in str(notice)
    assert "hooks" not in str(notice)
    assert "no answer from (address) 404" in str(notice)


@pytest.mark.parametrize("text", ["a" * 1_000_000, "www." * 200_000, "://" * 200_000, "a " * 400_000])
def test_the_reason_of_a_broken_channel_may_be_a_megabyte(text: str) -> None:
    notice = render(channel_down(cause=text, detail=text), now=NOW)

    assert all(len(str(line.value)) <= LONGEST for line in notice.lines)


@pytest.mark.parametrize("name", [None, "", "a b", "$(x)"])
def test_a_channel_whose_name_cannot_stand_in_a_command(name: str | None) -> None:
    assert render(channel_down(about_channel=name), now=NOW).command == "paidwatch test-alert"


@pytest.mark.parametrize(
    ("one", "line"),
    [
        (story(), "#41 NEW · user 7 paid 14.99 USD (professional), not active · open for 3 h"),
        (acked(), "#41 STILL · user 7 paid 14.99 USD (professional), not active · acknowledged by ann"),
        (resolved(), "#41 RESOLVED · user 7 paid 14.99 USD (professional), not active · over after 5 min"),
        (
            resolved(outcome=Outcome.FIXED, announced=False),
            "#41 FIXED · user 7 paid 14.99 USD (professional), not active · over after 5 min",
        ),
        (
            resolved(outcome=Outcome.EXPIRED),
            "#41 STILL · user 7 paid 14.99 USD (professional), not active · expired after 5 min",
        ),
        (
            resolved(outcome=Outcome.DISMISSED),
            "#41 RESOLVED · user 7 paid 14.99 USD (professional), not active · dismissed after 5 min",
        ),
        (incident(), "#41 NEW · 512 payments by nowpayments: paid, not active · open for 2 h 59 min"),
        (channel_down(), "#41 NEW · channel ops-slack takes no messages · open for 3 h"),
    ],
)
def test_a_story_as_one_line_of_a_bundle(one: Story, line: str) -> None:
    assert line_of(one, now=OPENED + timedelta(hours=3)) == line


def test_a_line_of_a_bundle_has_a_bound_and_keeps_its_end() -> None:
    long = story(**dict.fromkeys(["user_id", "plan_id", "currency"], "x" * 300))

    line = line_of(long, now=NOW)

    assert LONGEST_MEMBER - 20 < len(line) <= LONGEST_MEMBER
    assert line.endswith("· open for 1 s")


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        (HELD, "18 alerts that waited for the channel ops-slack"),
        (MORNING, "18 alerts of low severity from the quiet hours"),
    ],
)
def test_a_bundle_tells_each_story_once(kind: str, subject: str) -> None:
    said = bundle(kind, 18, about_channel="ops-slack")
    notice = render(said, now=NOW)

    assert notice.subject == subject
    assert notice.command == "paidwatch alerts"
    assert [line.value for line in notice.lines if line.value in said.members] == list(said.members)
    assert [line.label for line in notice.lines if line.label] == ["1 to 8", "9 to 16", "17 to 18", "Sent"]


@pytest.mark.parametrize(("lines", "total"), [(40, 512), (60, 0), (60, 512), (0, 7)])
def test_a_bundle_says_how_many_it_left_out(lines: int, total: int) -> None:
    said = bundle(HELD, lines, members_total=total)
    notice = render(said, now=NOW)
    kept = sum(1 for line in notice.lines if line.value in said.members)
    number = max(lines, total)

    assert kept == min(lines, MOST_LINES)
    assert f"({number - kept} more alerts)…" in [line.value for line in notice.lines]
    assert notice.subject == f"{number} alerts that waited for this channel"


def test_one_story_in_a_bundle() -> None:
    notice = render(bundle(MORNING, 1), now=NOW)

    assert notice.subject == "1 alert of low severity from the quiet hours"
    assert [line.label for line in notice.lines] == ["1", "Sent"]


def test_the_proof_of_life_shows_labelled_lines_as_facts() -> None:
    digest = (
        "Payments: 0",
        "a sentence",
        "Money at risk: none",
        "this: is no label",
        "A label that is far too long: x",
    )
    notice = render(plain(kind=DAILY, state=State.RESOLVED, digest=digest), now=NOW)

    assert notice.subject == "Proof of life"
    assert [(line.label, line.value) for line in notice.lines[:-1]] == [
        ("Payments", "0"),
        ("", "a sentence"),
        ("Money at risk", "none"),
        ("", "this: is no label"),
        ("", "A label that is far too long: x"),
    ]


def test_a_proof_of_life_that_is_too_long_says_how_much_is_missing() -> None:
    notice = render(plain(kind=DAILY, digest=tuple(f"L: {number}" for number in range(100))), now=NOW)

    assert notice.lines[-2].value == f"({100 - MOST_LINES} more lines)…"


def test_the_audit_says_what_was_not_told_to_whom() -> None:
    missing = tuple(f"alert {number} was not told to ops-mail" for number in range(60))
    notice = render(plain(kind=AUDIT, digest=missing, members_total=100), now=NOW)
    values = [line.value for line in notice.lines]

    assert values[:MOST_LINES] == list(missing[:MOST_LINES])
    assert values[MOST_LINES] == f"({100 - MOST_LINES} more lines)…"
    assert notice.command == "paidwatch deliveries"
    assert notice.summary == "The audit compared alerts with deliveries: what should have been told was not."
    queued = render(plain(kind=AUDIT, state=State.RESOLVED, cause="two were; they are queued"), now=NOW)
    assert queued.summary == "The audit compared alerts with deliveries: two were; they are queued."


def test_the_end_of_an_audit() -> None:
    notice = render(plain(kind=AUDIT, announced=True, state=State.RESOLVED, resolved_at=NOW), now=NOW)

    assert notice.summary.endswith("It has been told since, or is over.")
    assert notice.command == ""


def test_incident_is_made_of_numbers_that_add_up() -> None:
    base = incident().incident
    assert isinstance(base, Incident)
    assert base.open + base.rescued + base.otherwise == base.total
