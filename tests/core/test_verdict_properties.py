"""What holds of every verdict, whatever the facts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from paidwatch.core.access import shortfalls
from paidwatch.core.cause import Cause
from paidwatch.core.model import Facts, Gap, GapKind, Outcome, Phase, Rules, Settled, Waiting
from paidwatch.core.verdict import judge
from tests.core.examples import NOW, told
from tests.core.strategies import FACTS, MOMENTS, NEAR, RULES

SPANS = st.integers(1, 60 * 24 * 90).map(lambda minutes: timedelta(minutes=minutes))


@given(FACTS, RULES, NEAR)
def test_total_and_deterministic(facts: Facts, rules: Rules, now: datetime) -> None:
    verdict = judge(facts, rules, now)
    assert verdict == judge(facts, rules, now)
    match verdict:
        case Waiting(until=until):
            assert until > now
        case Settled(at=at):
            assert at.tzinfo is UTC
        case Gap(cause=cause):
            assert cause in set(Cause)


@given(FACTS, RULES, SPANS)
def test_a_longer_grace_can_only_make_it_wait(facts: Facts, rules: Rules, span: timedelta) -> None:
    short = judge(facts, rules, NOW)
    patient = judge(replace(facts, grace_until=facts.grace_until + span), rules, NOW)
    assert patient == short or isinstance(patient, Waiting)


@given(FACTS, RULES, SPANS)
def test_no_gap_within_the_grace_unless_the_application_reported_it(
    facts: Facts, rules: Rules, span: timedelta
) -> None:
    verdict = judge(replace(facts, grace_until=NOW + span), rules, NOW)
    assert not isinstance(verdict, Gap) or verdict.kind is GapKind.ACTIVATION_FAILED


@given(FACTS, RULES)
def test_waiting_is_never_for_ever(facts: Facts, rules: Rules) -> None:
    assert not isinstance(judge(facts, rules, max(facts.grace_until, NOW)), Waiting)


@given(FACTS, RULES, NEAR)
def test_administrators_are_never_alerted_about(facts: Facts, rules: Rules, now: datetime) -> None:
    assume(facts.subscriber is not None)
    assert facts.subscriber is not None
    admin = replace(facts, subscriber=replace(facts.subscriber, admin=True))
    assert not isinstance(judge(admin, rules, now), Gap)


@given(FACTS, RULES, MOMENTS, st.sampled_from(Phase))
def test_a_reversal_wins_in_any_order(facts: Facts, rules: Rules, at: datetime, phase: Phase) -> None:
    assume(facts.payment is not None)
    assert facts.payment is not None
    first = replace(facts, evidence=replace(facts.evidence, reversed_at=at))
    last = replace(facts, payment=replace(facts.payment, phase=Phase.REVERSED))
    other = replace(first, payment=replace(facts.payment, phase=phase))
    verdicts = {told(judge(story, rules, NOW)) for story in (first, last, other)}
    assert len(verdicts) == 1
    assert verdicts <= {"waiting", "settled: reversed", "gap: reversed_but_active"}


@given(FACTS, RULES)
def test_activated_means_access_as_paid_or_a_period_that_is_over(facts: Facts, rules: Rules) -> None:
    verdict = judge(facts, rules, NOW)
    if isinstance(verdict, Settled) and verdict.outcome in {Outcome.ACTIVATED, Outcome.FIXED}:
        over = facts.plan is not None and (NOW - facts.paid_at >= max(facts.plan.duration, timedelta()))
        assert not shortfalls(facts, rules) or over
        assert (verdict.outcome is Outcome.FIXED) == (facts.evidence.ledger_at is not None)


@given(FACTS, RULES)
def test_a_gap_of_access_never_says_that_nothing_is_missing(facts: Facts, rules: Rules) -> None:
    verdict = judge(facts, rules, NOW)
    if isinstance(verdict, Gap) and verdict.kind is not GapKind.REVERSED_BUT_ACTIVE:
        assert shortfalls(facts, rules)


@given(FACTS, RULES, st.timedeltas(timedelta(days=-800), timedelta(days=800)))
def test_creation_time_changes_nothing(facts: Facts, rules: Rules, shift: timedelta) -> None:
    assume(facts.payment is not None)
    assert facts.payment is not None
    moved = replace(facts, payment=replace(facts.payment, created_at=NOW + shift))
    assert judge(moved, rules, NOW) == judge(facts, rules, NOW)
