"""Money that only webhooks tell of: what each further name, row and word of a webhook changes."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from paidwatch import __version__
from paidwatch.clock import SystemClock
from paidwatch.core.guards import Guard, Mode, Reason
from paidwatch.core.model import Subject
from paidwatch.errors import Refused
from paidwatch.flow.double import Double
from paidwatch.flow.grant import Result
from paidwatch.flow.manual import Manual, Wish
from paidwatch.flow.subject import known
from paidwatch.log import Log
from paidwatch.store import ledger, subjects
from paidwatch.store.pool import Session
from tests.flow.test_ask import MINUTE, REFERENCE, Desk, desk, statements, usual
from tests.flow.test_told import (
    ORDER,
    TOLD,
    answered,
    by_hand,
    confirmed,
    found,
    machine,
    notices,
    orphaned,
    story,
    tier,
    told,
    undo,
)
from tests.flow.test_told_late import says_paid
from tests.support import shop
from tests.support.watched import watched

__all__ = ["desk", "machine", "statements", "usual", "watched"]
OTHER = "4400000003"
"""Another payment of the provider."""


@pytest.fixture
def shape() -> str:
    return "L"


async def forgotten(desk: Desk, user: Any) -> None:
    """The application has lost what it knew of the user's activation; the ledger alone knows."""
    await desk.db.execute("DELETE FROM subscription_events")
    await shop.update(desk.db, "users", user, {"subscription_status": "inactive", "subscription_tier": "free"})


async def notes_of(desk: Desk, reference: str) -> str:
    return str(await desk.db.fetchval("SELECT notes::text FROM paidwatch.alert WHERE reference = $1", reference))


async def test_signed_webhooks_that_name_two_plans_buy_neither(machine: Desk) -> None:
    user = await shop.add_user(machine.db)
    await told(machine, user, price_amount=29.99)
    await told(machine, user, plan="vip_elite", price_amount=29.99)
    await found(machine)
    assert await answered(machine, price=29.99) == []
    assert Reason.NO_PLAN.value in await machine.notes()
    assert await tier(machine, user) == "free"


async def test_money_that_went_back_under_the_id_beside_the_data_is_not_granted(machine: Desk) -> None:
    """The application filed the payment under an id of its own, by which the refund names it."""
    user = await shop.add_user(machine.db)
    order = ORDER.format(user=user, plan="professional")
    paid = {"payment_id": REFERENCE, "payment_status": "finished", "price_amount": 14.99, "price_currency": "usd"}
    await shop.add_webhook(machine.db, data=paid | {"order_id": order}, payment="4400000005")
    await shop.add_webhook(machine.db, data={"payment_id": "4400000005", "payment_status": "refunded"})
    await found(machine)
    assert await answered(machine) == []
    assert Reason.REVERSED.value in await machine.notes()
    assert await tier(machine, user) == "free"


async def test_money_that_went_back_needs_a_second_word(desk: Desk) -> None:
    """Who overrides that it went back has not yet said that a webhook which is followed by a refund is a witness."""
    user = await orphaned(desk)
    await told(desk, user, payment_status="refunded")
    await desk.inbox.drain(MINUTE, {})
    await desk.detect.run()
    with pytest.raises(Refused, match=Reason.NOT_CORROBORATED.value):
        await by_hand(desk, user, REFERENCE, forced=frozenset({Guard.NOT_REVERSED}))


async def test_what_refuses_after_the_claim_is_said_and_looked_at_again(machine: Desk) -> None:
    user = await orphaned(machine)
    machine.says()
    await machine.ask.run_due()
    await machine.detect.run()
    assert await notices(machine) == [], "its message waits for the activation"
    await shop.add_event(machine.db, user, "cancelled", {})
    await machine.db.execute("UPDATE paidwatch.claim SET due_at = NULL")
    assert await machine.fix() == [Result.REFUSED]
    assert (await story(machine))["due_at"] is not None
    (notice,) = await notices(machine)
    assert Reason.ADMIN_ACTED.value in str(notice.lines)
    assert await tier(machine, user) == "free"


async def test_an_unsigned_refund_takes_nothing_from_anybody(machine: Desk) -> None:
    user = await orphaned(machine)
    await shop.add_webhook(
        machine.db, data={"payment_id": REFERENCE, "payment_status": "refunded"}, valid=None, method="nowpayments"
    )
    await machine.inbox.drain(MINUTE, {})
    assert await answered(machine) == [Result.DONE]
    assert await tier(machine, user) == "professional"


async def test_another_payment_of_an_order_that_was_activated_says_so(machine: Desk) -> None:
    user = await confirmed(machine)
    await forgotten(machine, user)
    await told(machine, user, reference=OTHER)
    await found(machine)
    assert await answered(machine, reference=OTHER) == []
    assert Reason.DONE_HERE.value in await notes_of(machine, OTHER)


async def test_what_was_undone_stays_undone_under_another_payment_of_its_order(machine: Desk) -> None:
    user = await confirmed(machine)
    await undo(machine)
    await forgotten(machine, user)
    await told(machine, user, reference=OTHER)
    await found(machine)
    assert await answered(machine, reference=OTHER) == []
    assert Reason.UNDONE.value in await notes_of(machine, OTHER)
    assert await tier(machine, user) == "free"


async def test_who_comes_later_is_told_who_was_faster_under_whichever_name(machine: Desk) -> None:
    user = await confirmed(machine)
    order = ORDER.format(user=user, plan="professional")
    wish = Wish(user_id=str(user), payment_id=order, plan_id=None, actor="cli:ann", reason="")
    manual = Manual(database=machine.pool, policy=machine.policy, application=None, clock=SystemClock())
    with pytest.raises(Refused, match=r"auto activated it \(activation 1, "):
        await manual.carry_out(wish)


async def test_what_the_machine_did_itself_says_nothing_for_its_shadow(machine: Desk) -> None:
    machine.policy = replace(machine.policy, mode=Mode.SHADOW)
    user = await orphaned(machine)
    assert await answered(machine) == []
    machine.policy = replace(machine.policy, mode=Mode.AUTO)
    await machine.db.execute("UPDATE paidwatch.claim SET due_at = now() WHERE state = 'gap'")
    await machine.detect.run()
    assert await machine.fix() == [Result.DONE]
    assert await tier(machine, user) == "professional"
    shadow = await machine.db.fetchrow("SELECT was_right, comparison FROM paidwatch.activation WHERE state = 'shadow'")
    assert shadow is not None
    assert (shadow["was_right"], shadow["comparison"]) == (None, "paidwatch activated it by itself")


async def test_an_unsigned_webhook_gives_a_person_no_payment(desk: Desk) -> None:
    thief = await shop.add_user(desk.db)
    order = ORDER.format(user=thief, plan="professional")
    forged = {"payment_id": REFERENCE, "payment_status": "finished", "order_id": order}
    await shop.add_webhook(desk.db, data=forged, valid=None, method="nowpayments")
    await orphaned(desk)
    with pytest.raises(Refused, match=f"there is no payment {REFERENCE}"):
        await by_hand(desk, thief, REFERENCE)


async def test_a_part_of_the_money_is_no_payment_to_a_person(desk: Desk) -> None:
    user = await orphaned(desk, payment_status="partially_paid")
    with pytest.raises(Refused, match=f"there is no payment {REFERENCE}"):
        await by_hand(desk, user, REFERENCE)


async def test_a_period_that_counts_from_the_order_is_not_given_twice(machine: Desk) -> None:
    """The webhook came days after the order, and somebody had made it good without a word in the events."""
    at = await shop.now(machine.db)
    ordered_at = at - timedelta(days=3)
    until = ordered_at + timedelta(days=30)
    user = await shop.add_user(machine.db, status="active", tier="professional", paid_until=until)
    await told(machine, user, order_id=f"winu_sub_{user}_professional_{int(ordered_at.timestamp())}")
    machine.policy = replace(machine.policy, max_age=timedelta(days=7))
    await found(machine)
    assert await answered(machine) == []
    assert Reason.AS_PAID.value in await machine.notes()
    assert (await shop.read(machine.db, "users", user))["payment_due_date"] == until.replace(tzinfo=None)


@pytest.mark.parametrize("by", ["the provider's id", "the order's id"])
async def test_an_event_of_long_ago_that_names_it_is_its_activation(machine: Desk, by: str) -> None:
    user = await shop.add_user(machine.db)
    order = await told(machine, user)
    name = REFERENCE if by == "the provider's id" else order
    at = await shop.now(machine.db)
    await shop.add_event(machine.db, user, "activated", {"payment_reference": name}, at=at - timedelta(days=40))
    await machine.inbox.drain(MINUTE, {})
    await machine.detect.run()
    _, its, _ = await machine.pool.read(lambda session: known(session, TOLD, machine.policy))
    assert its.facts.evidence.activated_at is not None


async def test_the_event_of_an_undo_names_the_providers_id(machine: Desk) -> None:
    user = await confirmed(machine)
    await undo(machine)
    event = await machine.db.fetchval(
        "SELECT event_data::text FROM subscription_events WHERE user_id = $1 AND event_type = 'activation_reverted'",
        user,
    )
    assert f'"payment_reference": "{REFERENCE}"' in event
    assert '"payment_id"' not in event


async def test_money_is_as_old_as_the_oldest_order_that_names_it(machine: Desk) -> None:
    user = await shop.add_user(machine.db)
    await told(machine, user, order_id=f"winu_sub_{user}_professional_1700000000")
    await told(machine, user)
    await found(machine)
    assert await answered(machine) == []
    assert Reason.PERIOD_OVER.value in await machine.notes()


async def test_only_a_webhook_that_says_paid_says_how_much(machine: Desk) -> None:
    user = await shop.add_user(machine.db)
    await told(machine, user, price_amount=1.49)
    await told(machine, user, payment_status="confirming")
    await found(machine)
    assert await answered(machine, price=14.99) == []
    assert Reason.UNDERPAID.value in await machine.notes()


async def test_of_two_amounts_the_newer_counts(machine: Desk) -> None:
    user = await shop.add_user(machine.db)
    await told(machine, user, price_amount=1.49)
    await told(machine, user)
    await found(machine)
    assert await answered(machine) == [Result.DONE]
    assert await tier(machine, user) == "professional"


async def test_its_own_late_row_does_not_explain_a_second_activation(machine: Desk) -> None:
    user = await confirmed(machine)
    await shop.add_payment(machine.db, user, status="completed", reference=REFERENCE)
    await shop.add_event(machine.db, user, "activated", {})
    await machine.inbox.drain(MINUTE, {})
    assert (await Double(database=machine.pool, policy=lambda: machine.policy, log=Log()).run()).told


async def test_a_part_of_the_money_stands_for_no_payment(desk: Desk) -> None:
    await orphaned(desk, payment_status="partially_paid")
    _, its, _ = await desk.pool.read(lambda session: known(session, TOLD, desk.policy))
    assert its.facts.payment is None


async def test_an_activation_that_was_committed_late_is_a_second_one(machine: Desk) -> None:
    """The application's event is older than the activation, and younger than the webhook."""
    user = await orphaned(machine)
    await machine.pass_by(20 * MINUTE)
    assert await answered(machine) == [Result.DONE]
    at = await shop.now(machine.db)
    await shop.add_event(machine.db, user, "activated", {}, at=at - 10 * MINUTE)
    await machine.inbox.drain(MINUTE, {})
    assert (await Double(database=machine.pool, policy=lambda: machine.policy, log=Log()).run()).told


@pytest.mark.parametrize(
    ("change", "results"),
    [
        pytest.param("paid_at = now()", [], id="newer"),
        pytest.param("paid_at = now(), reversed_at = now()", [Result.DONE], id="newer, and went back"),
        pytest.param("paid_at = now() - interval '1 hour'", [Result.DONE], id="older"),
    ],
)
async def test_a_newer_row_of_the_user_comes_first(machine: Desk, change: str, results: list[Result]) -> None:
    user = await orphaned(machine)
    payment = await machine.paid(reference=OTHER, owner=user)
    await machine.db.execute(f"UPDATE paidwatch.watch SET {change} WHERE payment_id::text = $1", payment)
    assert await answered(machine) == results
    assert await tier(machine, user) == ("professional" if results else "free")
    if not results:
        assert Reason.NEWER_PAID.value in await notes_of(machine, REFERENCE)


@pytest.mark.parametrize("newer", ["unsigned", "not paid yet", "went back"])
async def test_what_is_no_newer_money_stands_in_nobodys_way(machine: Desk, newer: str) -> None:
    user = await orphaned(machine)
    order = f"winu_sub_{user}_vip_elite_{int((await shop.now(machine.db)).timestamp())}"
    words = {"unsigned": ["finished"], "not paid yet": ["confirming"], "went back": ["finished", "refunded"]}[newer]
    for word in words:
        said = {"payment_id": OTHER, "order_id": order, "payment_status": word, "price_amount": 29.99}
        valid = None if newer == "unsigned" else True
        await shop.add_webhook(machine.db, data=said | {"price_currency": "usd"}, valid=valid)
    await machine.inbox.drain(MINUTE, {})
    assert await answered(machine) == [Result.DONE]
    assert await tier(machine, user) == "professional"


async def test_another_payment_of_the_same_order_is_no_newer_one(machine: Desk) -> None:
    user = await orphaned(machine)
    await told(machine, user, reference=OTHER)
    await machine.inbox.drain(MINUTE, {})
    assert await answered(machine) == [Result.DONE]
    assert await tier(machine, user) == "professional"


async def test_another_providers_word_about_the_same_id_confirms_nothing(machine: Desk) -> None:
    user = await orphaned(machine)
    await says_paid(machine, "stripe", REFERENCE)
    await machine.db.execute("UPDATE paidwatch.claim SET due_at = now() WHERE state = 'gap'")
    await machine.detect.run()
    assert await machine.fix() == []
    assert Reason.NOT_CONFIRMED.value in await machine.notes()
    assert await tier(machine, user) == "free"


async def test_a_row_that_was_activated_stays_so_whatever_the_application_forgot(machine: Desk) -> None:
    user = await shop.add_user(machine.db)
    payment = await machine.paid(owner=user)
    _number, ended = await by_hand(machine, user, payment)
    assert ended.result is Result.DONE
    await forgotten(machine, user)
    with pytest.raises(Refused, match=Reason.DONE_HERE.value):
        await by_hand(machine, user, payment, forced=frozenset(Guard))


async def test_ledger_and_audit_say_who_it_was_and_which_version(desk: Desk) -> None:
    user = await orphaned(desk)
    await by_hand(desk, user, REFERENCE)
    entry = await desk.db.fetchrow("SELECT actor, reason, version FROM paidwatch.activation")
    audit = await desk.db.fetchrow("SELECT actor, detail, version FROM paidwatch.audit WHERE act = 'activate'")
    assert entry is not None
    assert audit is not None
    assert tuple(entry) == ("cli:ann", "ticket 18", __version__)
    assert (audit["actor"], audit["version"]) == ("cli:ann", __version__)
    assert "ticket 18" in str(audit["detail"])


async def test_what_is_purged_leaves_the_ledger(machine: Desk) -> None:
    user = await confirmed(machine)
    await machine.paid(reference=OTHER)
    await machine.db.execute(
        "UPDATE paidwatch.watch SET state = 'closed', outcome = 'fixed', closed_at = now(), due_at = NULL"
    )
    await machine.db.execute("UPDATE paidwatch.alert SET resolved_at = now() - interval '1 year'")
    await machine.pass_by(MINUTE)

    async def purge(session: Session) -> list[Any]:
        kept = timedelta(days=-1)
        purges = ("purge_closed", "purge_attempts", "purge_webhooks", "purge_claims", "purge_answers", "purge_readings")
        return [await session.rows(statement, kept, 100) for statement in purges]

    await machine.pool.write(purge)
    assert await story(machine) is None
    assert await machine.db.fetchval("SELECT count(*) FROM paidwatch.reading") == 0
    await forgotten(machine, user)
    payment = await machine.paid(reference=REFERENCE, owner=user)
    with pytest.raises(Refused, match=Reason.DONE_HERE.value):
        await by_hand(machine, user, payment, forced=frozenset(Guard))


@pytest.mark.parametrize("by", ["the provider's id", "the order's id"])
async def test_what_was_undone_stays_undone_when_its_row_is_written_later(machine: Desk, by: str) -> None:
    user = await confirmed(machine)
    await undo(machine)
    await forgotten(machine, user)
    name = REFERENCE if by == "the provider's id" else ORDER.format(user=user, plan="professional")
    payment = await machine.paid(reference=name, owner=user)
    with pytest.raises(Refused, match=Reason.UNDONE.value):
        await by_hand(machine, user, payment)
    await machine.decide.tick()
    assert await machine.fix() == []
    assert await tier(machine, user) == "free"


async def test_a_providers_id_that_looks_like_the_key_of_another_users_payment_means_its_own(desk: Desk) -> None:
    key = await desk.paid(reference=OTHER)
    user = await shop.add_user(desk.db)
    await told(desk, user, reference=key)
    await found(desk)
    _number, ended = await by_hand(desk, user, key)
    assert ended.result is Result.DONE
    assert await desk.db.fetchval("SELECT reference FROM paidwatch.activation") == key
    assert await tier(desk, user) == "professional"


async def test_what_failed_over_http_for_its_row_is_not_asked_for_again_by_its_webhook(machine: Desk) -> None:
    user = await orphaned(machine)
    row = Subject(payment_id=await machine.paid(reference=REFERENCE, owner=user))

    async def claim(session: Session, subject: Subject) -> int | None:
        await subjects.lock(session, subject)
        return await ledger.claim(
            session, subject=subject, user_id=str(user), actor="auto", reason="", guards=(), strategy="http"
        )

    assert await machine.pool.write(lambda session: claim(session, row)) is not None
    await machine.db.execute("UPDATE paidwatch.activation SET state = 'failed', done_at = now(), due_at = NULL")
    assert await machine.pool.write(lambda session: claim(session, TOLD)) is None


async def test_a_webhook_that_is_repeated_after_the_activation_is_no_gap(machine: Desk) -> None:
    user = await confirmed(machine)
    await forgotten(machine, user)
    await told(machine, user, updated_at=5)
    await found(machine)
    assert (await story(machine))["outcome"] == "activated"
