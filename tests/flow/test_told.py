"""Money that only signed webhooks tell of (scenario 12): activated where the provider confirms it, once by any name."""

import time
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from pydantic import SecretStr

from paidwatch.application.endpoint import build
from paidwatch.clock import SystemClock
from paidwatch.config.activation import ActivationHttp
from paidwatch.core.guards import Guard, Mode, Reason
from paidwatch.core.model import Subject
from paidwatch.core.render import render
from paidwatch.errors import Refused
from paidwatch.flow.call import Call
from paidwatch.flow.double import Double
from paidwatch.flow.grant import Ended, Result
from paidwatch.flow.manual import Manual, Wish
from paidwatch.flow.subject import known
from paidwatch.flow.tend import Person
from paidwatch.flow.undo import Undo
from paidwatch.log import Log
from paidwatch.store import calls, ledger, outbox, subjects
from paidwatch.store.pool import Session
from tests.flow.test_ask import CHAT, MINUTE, REFERENCE, Desk, desk, statements, usual
from tests.support import shop
from tests.support.admin import OWN, TOKEN, admin
from tests.support.watched import watched

__all__ = ["desk", "statements", "usual", "watched"]
TOLD = Subject(method="nowpayments", reference=REFERENCE)
SHAPES = pytest.mark.parametrize("shape", ["F", "L"])
ORDER = f"winu_sub_{{user}}_{{plan}}_{int(time.time())}"


@pytest.fixture
def shape() -> str:
    return "L"


@pytest.fixture
def machine(desk: Desk) -> Desk:
    """A desk that activates."""
    desk.policy = replace(desk.policy, mode=Mode.AUTO, require_corroboration=False)
    return desk


async def told(desk: Desk, user: Any, *, reference: str = REFERENCE, plan: str = "professional", **more: Any) -> str:
    """Log a signed webhook that says that `user` paid; return the order's id."""
    order = ORDER.format(user=user, plan=plan)
    data = {"payment_id": reference, "payment_status": "finished", "price_amount": 14.99, "price_currency": "usd"}
    await shop.add_webhook(desk.db, data=data | {"order_id": order} | more, method="nowpayments")
    return order


async def found(desk: Desk) -> None:
    """Let the grace pass, and judge."""
    await desk.inbox.drain(MINUTE, {})
    await desk.detect.run()
    await desk.pass_by(2 * MINUTE)
    await desk.detect.run()


async def orphaned(desk: Desk, **more: Any) -> Any:
    """Add a user whose money only a webhook tells of, found as a gap."""
    user = await shop.add_user(desk.db)
    await told(desk, user, **more)
    await found(desk)
    return user


async def answered(desk: Desk, **said: Any) -> list[Result]:
    """Let the provider answer; return what came of the activations that were claimed then."""
    desk.says(**said)
    assert await desk.ask.run_due() == 1
    await desk.detect.run()
    return await desk.fix()


async def confirmed(desk: Desk) -> Any:
    """Add a user who was activated for what a webhook and the provider say."""
    user = await orphaned(desk)
    assert await answered(desk) == [Result.DONE]
    return user


async def tier(desk: Desk, user: Any) -> Any:
    return (await shop.read(desk.db, "users", user))["subscription_tier"]


async def story(desk: Desk) -> Any:
    return await desk.db.fetchrow("SELECT * FROM paidwatch.claim WHERE reference = $1", REFERENCE)


async def notices(desk: Desk) -> list[Any]:
    """Take the messages that are due."""
    claim = partial(outbox.claim, channel=CHAT, lease="l", span=MINUTE, most=100)
    return [render(one.story, now=one.now) for one in await desk.pool.write(claim)]


async def by_hand(
    desk: Desk, user: Any, name: str | None, *, forced: frozenset[Guard] = frozenset()
) -> tuple[int, Ended]:
    """Do what `paidwatch activate USER --payment NAME` does."""
    wish = Wish(user_id=str(user), payment_id=name, plan_id=None, actor="cli:ann", reason="ticket 18", forced=forced)
    manual = Manual(database=desk.pool, policy=desk.policy, application=None, clock=SystemClock())
    seen = await manual.look(wish)
    if not seen.allowed:
        raise Refused(" ".join(seen.refusals))
    return await manual.carry_out(wish)


async def undo(desk: Desk) -> None:
    number = await desk.db.fetchval("SELECT activation_id FROM paidwatch.activation WHERE state = 'done'")
    await Undo(database=desk.pool, policy=desk.policy).carry_out(number, Person(name="ann", reason="ticket 18"))


# The machine


@SHAPES
async def test_what_the_provider_confirms_is_activated_and_told_as_fixed(machine: Desk, shape: str) -> None:
    user = await orphaned(machine, plan="vip_elite", price_amount=29.99)
    assert await machine.db.fetchval("SELECT count(*) FROM paidwatch.activation") == 0, "nobody has confirmed it yet"
    assert await answered(machine, price=29.99) == [Result.DONE]
    person = await shop.read(machine.db, "users", user)
    assert (person["subscription_status"], person["subscription_tier"]) == ("active", "vip_elite")
    assert person["payment_due_date"] is not None
    entry = await machine.db.fetchrow("SELECT * FROM paidwatch.activation")
    assert entry is not None
    assert (entry["payment_id"], entry["method"], entry["reference"]) == (None, "nowpayments", REFERENCE)
    assert set(entry["names"]) == {REFERENCE, ORDER.format(user=user, plan="vip_elite")}
    event = await machine.db.fetchval("SELECT event_data::text FROM subscription_events WHERE user_id = $1", user)
    assert f'"payment_reference": "{REFERENCE}"' in event
    assert '"payment_id"' not in event
    audit = await machine.db.fetchrow("SELECT payment_id, detail FROM paidwatch.audit WHERE act = 'activate'")
    assert audit is not None
    assert audit["payment_id"] is None
    assert REFERENCE in str(audit["detail"])
    assert (await story(machine))["outcome"] == "fixed"
    (notice,) = await notices(machine)
    assert (notice.word, notice.kind) == ("FIXED", "orphan_webhook")
    assert "Activated by paidwatch (auto): vip_elite until" in str(notice.lines)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"status": "confirming"}, Reason.CONTRADICTED),
        ({"status": "refunded"}, Reason.CONTRADICTED),
        ({"price": 1.49}, Reason.CONTRADICTED),
        ({"price_currency": "eur"}, Reason.NOT_CONFIRMED),
        ({"status": "a word nobody knows"}, Reason.NOT_CONFIRMED),
    ],
)
async def test_what_the_provider_does_not_confirm_only_alerts(machine: Desk, said: Any, why: Reason) -> None:
    user = await orphaned(machine)
    assert await answered(machine, **said) == []
    assert await tier(machine, user) == "free"
    assert why.value in await machine.notes()
    (notice,) = await notices(machine)
    assert notice.command == f"paidwatch activate {user} --payment {REFERENCE} --dry-run"


async def test_without_a_word_of_the_provider_nobody_is_activated_whatever_the_configuration(machine: Desk) -> None:
    user = await orphaned(machine)
    assert await machine.fix() == []
    assert Reason.NOT_CONFIRMED.value in await machine.notes()
    assert await tier(machine, user) == "free"


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"parent_payment_id": "np-deposit"}, id="a repeated deposit"),
        pytest.param({"price_amount": 1.49}, id="too little"),
        pytest.param({"order_id": "winu_sub_1_professional_1700000000"}, id="an order of last year"),
        pytest.param({"order_id": "INV-77"}, id="nobody's order"),
        pytest.param({"order_id": "winu_sub_999999_professional_1700000000"}, id="an unknown user"),
        pytest.param({"order_id": "winu_sub_1_gold_1700000000"}, id="an unknown plan"),
    ],
)
async def test_what_is_not_plainly_somebodys_purchase_only_alerts(machine: Desk, more: Any) -> None:
    await orphaned(machine, **more)
    assert await answered(machine) == []
    assert await machine.db.fetchval("SELECT state FROM paidwatch.claim WHERE reference = $1", REFERENCE) == "gap"


async def test_signed_webhooks_that_name_two_users_activate_neither(machine: Desk) -> None:
    first, second = [await shop.add_user(machine.db) for _ in range(2)]
    await told(machine, first)
    await told(machine, second)
    await found(machine)
    assert await answered(machine) == []
    assert Reason.NO_USER.value in await machine.notes()
    assert [await tier(machine, first), await tier(machine, second)] == ["free", "free"]


async def test_an_unsigned_webhook_names_nobody(machine: Desk) -> None:
    """A forged one that came first must not say whose the money is, nor by what else it is known."""
    thief, user = [await shop.add_user(machine.db) for _ in range(2)]
    order = ORDER.format(user=thief, plan="vip_elite")
    forged = {"payment_id": REFERENCE, "payment_status": "finished", "order_id": order}
    await shop.add_webhook(machine.db, data=forged, valid=None, method="nowpayments")
    await told(machine, user)
    await found(machine)
    assert await answered(machine) == [Result.DONE]
    assert [await tier(machine, thief), await tier(machine, user)] == ["free", "professional"]
    names = await machine.db.fetchval("SELECT names FROM paidwatch.activation")
    assert order not in names


async def test_an_administrators_act_since_stands(machine: Desk) -> None:
    user = await shop.add_user(machine.db)
    await told(machine, user)
    await shop.add_event(machine.db, user, "cancelled", {})
    await found(machine)
    assert await answered(machine) == []
    assert Reason.ADMIN_ACTED.value in await machine.notes()


async def test_money_that_went_back_between_claim_and_grant_is_not_granted(machine: Desk) -> None:
    user = await orphaned(machine)
    machine.says()
    await machine.ask.run_due()
    await machine.detect.run()
    await told(machine, user, payment_status="refunded")
    await machine.inbox.drain(MINUTE, {})
    await machine.detect.run()
    assert await machine.fix() == [Result.REFUSED]
    assert await tier(machine, user) == "free"


async def test_the_newer_of_two_is_granted_and_the_older_told(machine: Desk) -> None:
    user = await shop.add_user(machine.db)
    await told(machine, user, reference="4400000001")
    await machine.inbox.drain(MINUTE, {})
    await machine.detect.run()
    await machine.db.execute("UPDATE paidwatch.reading SET at = at - interval '1 hour'")
    await told(machine, user, plan="vip_elite", price_amount=29.99)
    await found(machine)
    machine.says(reference="4400000001")
    machine.says(price=29.99)
    await machine.db.execute(
        "UPDATE paidwatch.answer SET ask_at = now() + interval '1 hour' WHERE reference = $1", REFERENCE
    )
    assert await machine.ask.run_due() == 1
    await machine.db.execute("UPDATE paidwatch.answer SET ask_at = now() WHERE reference = $1", REFERENCE)
    assert await machine.ask.run_due() == 1
    await machine.detect.run()
    assert await machine.fix() == [Result.DONE]
    assert await tier(machine, user) == "vip_elite"
    older = await machine.db.fetchval("SELECT notes::text FROM paidwatch.alert WHERE reference = '4400000001'")
    assert Reason.NEWER_PAID.value in older


async def test_the_caps_count_it_and_the_breaker_stops_it(machine: Desk) -> None:
    await confirmed(machine)
    machine.policy = replace(machine.policy, max_per_hour=1)
    user = await orphaned(machine, reference="4400000002")
    assert await answered(machine, reference="4400000002") == []
    assert await tier(machine, user) == "free"
    machine.policy = replace(machine.policy, max_per_hour=10)
    await machine.db.execute("UPDATE paidwatch.breaker SET opened_at = now(), opened_by = 'ann', reason = 'a drill'")
    await machine.db.execute("UPDATE paidwatch.claim SET due_at = now() WHERE state = 'gap'")
    await machine.detect.run()
    assert await machine.fix() == []


# Once, under all its names


@SHAPES
@pytest.mark.parametrize("by", ["the provider's id", "the order's id"])
async def test_a_row_that_is_written_later_has_been_activated(machine: Desk, shape: str, by: str) -> None:
    user = await confirmed(machine)
    until = (await shop.read(machine.db, "users", user))["payment_due_date"]
    # Whatever was told of it, the ledger alone must know.
    await machine.db.execute("DELETE FROM subscription_events")
    await shop.update(machine.db, "users", user, {"subscription_status": "inactive", "subscription_tier": "free"})
    name = REFERENCE if by == "the provider's id" else ORDER.format(user=user, plan="professional")
    payment = await machine.paid(reference=name, owner=user)

    async def ask(session: Session) -> tuple[Any, int | None]:
        _, its, _ = await known(session, Subject(payment_id=payment), machine.policy)
        await subjects.lock(session, Subject(payment_id=payment))
        number = await ledger.claim(
            session, subject=Subject(payment_id=payment), user_id=str(user), actor="cli:ann", reason="", guards=()
        )
        return its.facts.evidence.ledger_at, number

    at, number = await machine.pool.write(ask)
    assert at is not None
    assert number is None, "and nobody can claim it, whatever they force"
    with pytest.raises(Refused, match=Reason.DONE_HERE.value):
        await by_hand(machine, user, payment, forced=frozenset(Guard))
    assert (await shop.read(machine.db, "users", user))["payment_due_date"] == until


async def test_what_was_activated_by_its_row_is_not_claimed_by_its_webhook(machine: Desk) -> None:
    user = await orphaned(machine)
    payment = await machine.paid(reference=REFERENCE)

    async def both(session: Session) -> list[int | None]:
        row = Subject(payment_id=payment)
        arguments: dict[str, Any] = {"user_id": str(user), "actor": "cli:ann", "reason": "", "guards": ()}
        return [await ledger.claim(session, subject=it, **arguments) for it in (row, TOLD, row)]

    first, second, third = await machine.pool.write(both)
    assert first is not None
    assert (second, third) == (None, None)


async def test_another_payment_of_the_same_order_is_a_persons_business(machine: Desk) -> None:
    user = await confirmed(machine)
    until = (await shop.read(machine.db, "users", user))["payment_due_date"]
    await told(machine, user, reference="4400000003")
    await found(machine)
    await machine.detect.run()
    assert await machine.fix() == []
    assert (await shop.read(machine.db, "users", user))["payment_due_date"] == until


@SHAPES
async def test_the_application_that_activates_it_as_well_is_told(machine: Desk, shape: str) -> None:
    user = await confirmed(machine)
    await shop.add_event(machine.db, user, "activated", {"payment_reference": REFERENCE})
    await machine.inbox.drain(MINUTE, {})
    assert (await Double(database=machine.pool, policy=lambda: machine.policy, log=Log()).run()).told
    alert = await machine.db.fetchrow("SELECT * FROM paidwatch.alert WHERE kind = 'double_activation'")
    assert alert is not None
    assert (alert["user_id"], alert["method"], str(alert["amount"])) == (user, "nowpayments", "14.99")
    assert f"Payment: nowpayments {REFERENCE}" in alert["notes"]


async def test_over_http_it_is_asked_for_by_the_providers_id_and_read_back(machine: Desk) -> None:
    machine.policy = replace(machine.policy, strategy="http")
    user = await orphaned(machine)
    assert await answered(machine) == [], "what is asked for over HTTP is nobody's here"
    contract = OWN | {"payment": "{payment_id}", "reference": "{reference}"}
    async with admin(machine.db, contract) as endpoint:
        headers = {"Authorization": SecretStr(f"Bearer {TOKEN}")}
        http = ActivationHttp.model_validate({"url": endpoint.url, "body": contract, "headers": headers})
        built = build(http, machine.session)
        call = Call(database=machine.pool, policy=lambda: machine.policy, application=lambda: built)
        (number,) = await machine.pool.read(lambda session: calls.due(session, 10, apart_from=[]))
        end = await call.advance(number)
    assert isinstance(end, Ended)
    assert end.result is Result.DONE
    (asked,) = endpoint.asked
    assert (str(asked["payment"]), str(asked["reference"])) == (REFERENCE, REFERENCE)
    assert await tier(machine, user) == "professional"
    assert (await story(machine))["outcome"] == "fixed"


# Modes


async def test_shadow_mode_records_it_once_and_is_held_against_what_happened(machine: Desk) -> None:
    machine.policy = replace(machine.policy, mode=Mode.SHADOW)
    user = await orphaned(machine)
    assert await answered(machine) == []
    for _ in range(2):
        await machine.db.execute("UPDATE paidwatch.claim SET due_at = now() WHERE state = 'gap'")
        await machine.detect.run()
    assert "Shadow mode: paidwatch would have activated professional until" in await machine.notes()
    entry = await machine.db.fetchrow("SELECT * FROM paidwatch.activation")
    assert entry is not None
    assert (entry["state"], entry["reference"], entry["was_right"]) == ("shadow", REFERENCE, None)
    assert await tier(machine, user) == "free"
    await shop.activate(machine.db, user)
    await shop.add_event(machine.db, user, "activated", {"payment_reference": REFERENCE})
    await machine.db.execute("UPDATE paidwatch.claim SET due_at = now() WHERE state = 'gap'")
    await machine.detect.run()
    assert (await story(machine))["outcome"] == "activated"
    assert await machine.db.fetchval("SELECT was_right FROM paidwatch.activation")


async def test_supervised_mode_proposes_the_command(machine: Desk) -> None:
    machine.policy = replace(machine.policy, mode=Mode.SUPERVISED)
    user = await orphaned(machine)
    assert await answered(machine) == []
    (notice,) = await notices(machine)
    assert notice.command == f"paidwatch activate {user} --payment {REFERENCE}"
    assert "Proposed: professional until" in str(notice.lines)


# People


@pytest.mark.parametrize("by", ["the provider's id", "the order's id", "nothing"])
async def test_a_person_is_the_second_witness_and_names_it_as_they_like(desk: Desk, by: str) -> None:
    user = await orphaned(desk)
    name = {"the provider's id": REFERENCE, "nothing": None}.get(by, ORDER.format(user=user, plan="professional"))
    _number, ended = await by_hand(desk, user, name)
    assert ended.result is Result.DONE
    assert await tier(desk, user) == "professional"
    assert (await story(desk))["outcome"] == "fixed"
    with pytest.raises(Refused, match=Reason.DONE_HERE.value if name else "has no paid payment"):
        await by_hand(desk, user, name)


async def test_of_two_one_must_be_named(desk: Desk) -> None:
    user = await orphaned(desk)
    await told(desk, user, reference="4400000004")
    await found(desk)
    with pytest.raises(
        Refused, match=f"several payments may be meant: nowpayments 4400000004; nowpayments {REFERENCE}"
    ):
        await by_hand(desk, user, None)


async def test_money_of_somebody_else_is_nobody_elses(desk: Desk) -> None:
    await orphaned(desk)
    with pytest.raises(Refused, match=f"there is no payment {REFERENCE}"):
        await by_hand(desk, await shop.add_user(desk.db), REFERENCE)


async def test_a_provider_that_denies_it_outweighs_the_person(desk: Desk) -> None:
    user = await orphaned(desk)
    desk.says(status="refunded")
    await desk.ask.run_due()
    with pytest.raises(Refused, match=Reason.CONTRADICTED.value):
        await by_hand(desk, user, REFERENCE)


async def test_a_name_that_a_row_bears_means_the_row(desk: Desk) -> None:
    user = await orphaned(desk)
    payment = await desk.paid(reference=REFERENCE, owner=user)
    await by_hand(desk, user, REFERENCE)
    assert await desk.db.fetchval("SELECT payment_id::text FROM paidwatch.activation") == payment


@SHAPES
async def test_what_a_person_undid_stays_undone(machine: Desk, shape: str) -> None:
    user = await confirmed(machine)
    await undo(machine)
    assert await tier(machine, user) == "free"
    assert (await story(machine))["outcome"] == "ended"
    alert = await machine.db.fetchrow("SELECT outcome, notes FROM paidwatch.alert WHERE reference = $1", REFERENCE)
    assert alert is not None
    assert alert["outcome"] == "ended"
    assert "was undone by ann" in " ".join(alert["notes"])
    await told(machine, user)
    await found(machine)
    assert await machine.fix() == []
    assert await tier(machine, user) == "free"
    with pytest.raises(Refused, match=Reason.UNDONE.value):
        await by_hand(machine, user, REFERENCE)
    _number, ended = await by_hand(machine, user, REFERENCE, forced=frozenset({Guard.NOT_DONE}))
    assert ended.result is Result.DONE
    assert await tier(machine, user) == "professional"


async def test_time_that_passed_makes_an_answer_stale(machine: Desk) -> None:
    user = await orphaned(machine)
    machine.says()
    await machine.ask.run_due()
    await machine.db.execute("UPDATE paidwatch.answer SET answered_at = now() - $1::interval", timedelta(hours=2))
    await machine.detect.run()
    assert await machine.fix() == []
    assert await tier(machine, user) == "free"


async def test_an_event_without_a_time_that_names_it_is_its_activation(machine: Desk) -> None:
    user = await shop.add_user(machine.db)
    await told(machine, user)
    await shop.add_event(machine.db, user, "activated", {"payment_reference": REFERENCE})
    await machine.db.execute("ALTER TABLE subscription_events ALTER COLUMN created_at DROP NOT NULL")
    await machine.db.execute("UPDATE subscription_events SET created_at = NULL")

    async def ask(session: Session) -> Any:
        await machine.inbox.drain(MINUTE, {})
        await machine.detect.run()
        _, its, _ = await known(session, TOLD, machine.policy)
        return its.facts.evidence.activated_at

    assert await machine.pool.write(ask) is not None
