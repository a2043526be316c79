"""The state machine of an alert, and what a look at one finds to do: by example, and by walking through days of it."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from paidwatch.core.lifecycle import Act, Choices, Look, Standing, after, look
from paidwatch.core.routing import About, Escalation, Routing, Severity
from paidwatch.core.story import INCIDENT, State
from tests.core.examples import NOW

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BOSS = Escalation(after=HOUR, channels=("boss",))
DEAR = Escalation(after=timedelta(), channels=("dear",), min_amount=Decimal(100))
AGES = (30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR)
CHOICES = Choices(
    routing=Routing(usual=("ops",), low=frozenset(), routes=(), escalations=(DEAR, BOSS)),
    reminders=AGES,
    expire=30 * DAY,
)
GAP = Standing(
    state=State.OPEN,
    about=About(kind="paid_not_active", severity=Severity.HIGH, method="nowpayments", amount=Decimal("14.99")),
    opened_at=NOW,
    is_gap=True,
    insists=True,
    remind_at=NOW + AGES[0],
)
ACKED = replace(GAP, state=State.ACKED, acked_until=NOW + 2 * HOUR, remind_at=None)
CROWD = replace(GAP, about=replace(GAP.about, kind=INCIDENT, amount=None), is_gap=False)


def test_every_arrow_of_the_diagram_and_no_other() -> None:
    arrows = {(state, act, after(state, act)) for state, act in product(State, Act) if after(state, act) is not None}
    assert {(state.value, act.value, end.value) for state, act, end in arrows if end and state is not end} == {
        ("open", "acked", "acked"),
        ("acked", "unacked", "open"),
        ("acked", "ack_expired", "open"),
        ("acked", "ack_broken", "open"),
        ("open", "resolved", "resolved"),
        ("acked", "resolved", "resolved"),
        ("open", "dismissed", "resolved"),
        ("acked", "dismissed", "resolved"),
        ("open", "expired", "resolved"),
    }
    assert all(after(State.RESOLVED, act) is None for act in Act)
    assert after(State.ACKED, Act.ACK) is State.ACKED
    assert after(State.OPEN, Act.UNACK) is None


def test_a_fresh_gap_has_nothing_due_and_keeps_its_reminder() -> None:
    found = look(GAP, CHOICES, NOW)
    assert found.acts == ()
    assert found.remind_at == GAP.remind_at
    assert found.escalations == 1, "the step that does not fit is behind"
    assert found.escalate_at == found.look_at == NOW + HOUR


def test_a_dear_gap_escalates_at_once_and_once() -> None:
    dear = replace(GAP, about=replace(GAP.about, amount=Decimal(100)))
    found = look(dear, CHOICES, NOW)
    assert (found.acts, found.further, found.escalations) == ((Act.ESCALATE,), ("dear",), 1)
    again = look(replace(dear, escalations=found.escalations), CHOICES, NOW)
    assert (again.acts, again.further) == ((), ())


def test_age_escalates() -> None:
    found = look(replace(GAP, escalations=1), CHOICES, NOW + HOUR)
    assert (found.acts, found.further, found.escalations) == ((Act.ESCALATE,), ("boss",), 2)
    assert found.escalate_at is None
    assert found.look_at == NOW + 30 * DAY


def test_an_ack_stops_reminders_and_escalations_until_it_ends() -> None:
    during = look(ACKED, CHOICES, NOW + HOUR)
    assert (during.acts, during.state, during.remind_at, during.look_at) == ((), State.ACKED, None, ACKED.acked_until)
    assert during.escalations == 0
    ended = look(ACKED, CHOICES, NOW + 2 * HOUR)
    assert (ended.acts, ended.state) == ((Act.ACK_ENDED, Act.ESCALATE), State.OPEN)
    assert ended.remind_at == NOW + 2 * HOUR, "the verdict is made anew, then it is told as STILL"
    assert not ended.says_more


def test_an_incident_is_reminded_by_the_look_itself() -> None:
    found = look(replace(CROWD, escalations=2), CHOICES, NOW + AGES[0])
    assert (found.acts, found.reminders, found.remind_at) == ((Act.REMIND,), 1, NOW + AGES[1])
    assert found.says_more
    assert found.look_at == NOW + AGES[1]
    missed = look(replace(CROWD, escalations=2), CHOICES, NOW + 3 * HOUR)
    assert (missed.reminders, missed.remind_at) == (3, NOW + AGES[3]), "one message stands for all that were missed"
    last = look(replace(CROWD, escalations=2, reminders=3, remind_at=NOW + AGES[3]), CHOICES, NOW + 4 * HOUR)
    assert (last.reminders, last.remind_at, last.look_at) == (4, None, None), "capped, and an incident never expires"


def test_an_incident_is_over_when_its_quiet_time_is() -> None:
    empty = replace(CROWD, over_at=NOW + MINUTE)
    assert look(empty, CHOICES, NOW).look_at == NOW + MINUTE
    for one in (empty, replace(empty, state=State.ACKED, acked_until=NOW + HOUR, remind_at=None)):
        assert look(one, CHOICES, NOW).look_at == NOW + MINUTE
        over = look(one, CHOICES, NOW + MINUTE)
        assert (over.acts, over.state, over.look_at) == ((Act.RESOLVE,), State.RESOLVED, None)
        assert over.says_more


def test_a_member_is_quiet() -> None:
    found = look(replace(GAP, spoken_for=True), CHOICES, NOW + 2 * HOUR)
    assert (found.acts, found.remind_at, found.escalate_at) == ((), None, None)
    assert found.look_at == NOW + 30 * DAY


def test_a_silence_begins_and_ends() -> None:
    begun = look(replace(GAP, silenced_until=NOW + 3 * HOUR), CHOICES, NOW)
    assert (begun.acts, begun.silenced, begun.remind_at) == ((Act.SILENCE,), True, None)
    assert begun.look_at == NOW + 3 * HOUR
    during = look(replace(GAP, silenced=True, silenced_until=NOW + 3 * HOUR, remind_at=None), CHOICES, NOW + HOUR)
    assert (during.acts, during.look_at) == ((), NOW + 3 * HOUR)
    ended = look(replace(GAP, silenced=True, silenced_until=None, remind_at=None), CHOICES, NOW + 3 * HOUR)
    assert (ended.acts, ended.silenced) == ((Act.SILENCE_ENDED, Act.ESCALATE), False)
    assert ended.says_more
    assert (ended.reminders, ended.remind_at) == (3, NOW + AGES[3])


def test_what_is_open_for_too_long_expires_but_not_while_somebody_looks_after_it() -> None:
    old = replace(GAP, escalations=2, reminders=4, remind_at=None)
    assert look(old, CHOICES, NOW + 30 * DAY - MINUTE).look_at == NOW + 30 * DAY
    found = look(old, CHOICES, NOW + 30 * DAY)
    assert (found.acts, found.state, found.says_more) == ((Act.EXPIRE,), State.RESOLVED, True)
    tended = replace(old, state=State.ACKED, acked_until=NOW + 31 * DAY)
    assert look(tended, CHOICES, NOW + 30 * DAY).acts == ()
    assert look(tended, CHOICES, NOW + 31 * DAY).acts == (Act.ACK_ENDED, Act.EXPIRE)


def test_what_does_not_insist_only_expires() -> None:
    found = look(replace(CROWD, about=replace(CROWD.about, kind="test"), insists=False), CHOICES, NOW + 5 * HOUR)
    assert (found.acts, found.remind_at, found.look_at) == ((), None, NOW + 30 * DAY)


def test_nothing_is_due_for_what_is_over() -> None:
    found = look(replace(GAP, state=State.RESOLVED), CHOICES, NOW + 40 * DAY)
    assert (found.acts, found.look_at, found.remind_at) == ((), None, None)


SPANS = st.timedeltas(timedelta(), 3 * DAY)
STANDINGS = st.builds(
    replace,
    st.sampled_from([GAP, CROWD]),
    reminders=st.integers(0, 5),
    escalations=st.integers(0, 3),
    silenced=st.booleans(),
    silenced_until=st.none() | st.builds(lambda span: NOW + span, SPANS),
    spoken_for=st.booleans(),
    insists=st.booleans(),
    remind_at=st.none() | st.builds(lambda span: NOW + span, SPANS),
) | st.builds(lambda span: replace(ACKED, acked_until=NOW + span), SPANS)


def stands(alert: Standing, found: Look) -> Standing:
    """What the database has after a look."""
    return replace(
        alert,
        state=found.state,
        acked_until=alert.acked_until if found.state is State.ACKED else None,
        silenced=found.silenced,
        silenced_until=alert.silenced_until if found.silenced else None,
        reminders=found.reminders,
        remind_at=found.remind_at,
        escalations=found.escalations,
    )


@given(STANDINGS, SPANS)
def test_nothing_is_done_twice_and_the_next_look_is_later(alert: Standing, span: timedelta) -> None:
    now = NOW + span
    found = look(alert, CHOICES, now)
    assert found.look_at is None or found.look_at > now, "or the alarm would never sleep"
    state: State | None = alert.state
    for act in found.acts:
        state = after(state, act) if state else None
    assert state is found.state, "every act is an arrow of the diagram"
    again = look(stands(alert, found), CHOICES, now)
    assert (again.acts, again.look_at) == ((), found.look_at)


@given(STANDINGS)
def test_a_life_ends_and_says_so_a_few_times(alert: Standing) -> None:
    """From look to look: reminders and escalations are counted, whatever comes in between."""
    acts, looks = list[Act](), 0
    now: datetime | None = NOW
    while now is not None:
        looks += 1
        assert looks < 30
        found = look(alert, CHOICES, now)
        acts += found.acts
        alert, now = stands(alert, found), found.look_at
        if now is not None and alert.silenced_until is not None and alert.silenced_until <= now:
            alert = replace(alert, silenced_until=None)
    assert acts.count(Act.REMIND) <= len(AGES) + 1
    assert acts.count(Act.ESCALATE) <= 2
    assert (alert.state is State.RESOLVED) == (alert.about.kind != INCIDENT)
