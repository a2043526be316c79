"""What a webhook says, in canonical words: what paid means for each provider, and that nothing else does."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from paidwatch.core.webhook import Reading, Status
from paidwatch.providers import Fields, Kind, ProviderSettings, build, parse, reader
from tests.providers.signers import KEY, NOW, ORDER, PAID, provider

ORDERED = datetime.fromtimestamp(1773480413, UTC)


def read(kind: Kind, payload: object) -> Reading:
    """The reading of a payload that went through JSON, as one does that came over the net."""
    return provider(kind, KEY).read(parse(json.dumps(payload).encode()))


@pytest.mark.parametrize("kind", PAID)
def test_a_paid_webhook_is_read_in_full(kind: Kind) -> None:
    reading = provider(kind, KEY).read(parse(PAID[kind].body))
    assert (reading.status, reading.problem, reading.repeated) == (Status.PAID, "", False)
    assert (reading.user_id, reading.plan_id, reading.order_id) == ("7", "vip_elite", ORDER)
    assert reading.amount == Decimal("29.99")
    expected = {
        Kind.NOWPAYMENTS: ("5524759814", "USD", None),
        Kind.STRIPE: ("pi_1", "USD", "evt_1"),
        Kind.COINBASE_COMMERCE: ("charge-1", "USD", "24934862"),
        Kind.COINBASE_BUSINESS: ("checkout-1", "USDC", None),
        Kind.STANDARD_WEBHOOKS: ("pay_1", "USD", None),
        Kind.BINANCE_PAY: (ORDER, "USDT", None),
    }
    assert (reading.reference, reading.currency, reading.event_id) == expected[kind]
    assert ORDER in (*reading.also, reading.reference)
    assert reading.at in {None, ORDERED}


@pytest.mark.parametrize("kind", PAID)
@pytest.mark.parametrize("change", [b"x%s", b"%s\\u200b", b"%s ", b"", b"UPPER"])
def test_a_word_that_is_not_exactly_the_one_is_not_paid(kind: Kind, change: bytes) -> None:
    paid = PAID[kind]
    word = paid.word.strip(b'"')
    other = word.swapcase() if change == b"UPPER" else change.replace(b"%s", word)
    changed = paid.body.replace(paid.word, paid.word.replace(word, other))
    assert changed != paid.body
    reading = provider(kind, KEY).read(parse(changed))
    assert reading.status in {Status.UNKNOWN, Status.SETTLING}


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("waiting", Status.PENDING),
        ("confirming", Status.SETTLING),
        ("confirmed", Status.SETTLING),
        ("sending", Status.SETTLING),
        ("partially_paid", Status.UNDERPAID),
        ("finished", Status.PAID),
        ("failed", Status.FAILED),
        ("expired", Status.FAILED),
        ("refunded", Status.REVERSED),
        ("completed", Status.UNKNOWN),
        (True, Status.UNKNOWN),
        (["finished"], Status.UNKNOWN),
        (None, Status.UNKNOWN),
    ],
)
def test_nowpayments(word: object, status: Status) -> None:
    reading = read(Kind.NOWPAYMENTS, {"payment_id": 5524759814, "payment_status": word})
    assert reading.status is status
    assert (reading.problem != "") == (status is Status.UNKNOWN)


@pytest.mark.parametrize("parent", [5524759813, "5524759813", 0, "", {}, [], False])
def test_a_repeated_deposit_is_one_whatever_names_its_parent(parent: object) -> None:
    body = {"payment_id": 5524759814, "payment_status": "finished", "parent_payment_id": parent}
    assert read(Kind.NOWPAYMENTS, body).repeated
    assert not read(Kind.NOWPAYMENTS, {**body, "parent_payment_id": None}).repeated


def stripe(kind: str, **about: object) -> Reading:
    return read(Kind.STRIPE, {"id": "evt_1", "type": kind, "data": {"object": {"id": "x_1", **about}}})


@pytest.mark.parametrize(
    ("kind", "about", "status"),
    [
        ("checkout.session.completed", {"payment_status": "paid"}, Status.PAID),
        ("checkout.session.completed", {"payment_status": "no_payment_required"}, Status.PAID),
        ("checkout.session.completed", {"payment_status": "no_payment_required", "mode": "setup"}, Status.UNKNOWN),
        ("checkout.session.completed", {"payment_status": "unpaid"}, Status.SETTLING),
        ("checkout.session.completed", {}, Status.UNKNOWN),
        ("checkout.session.async_payment_succeeded", {"payment_status": "paid"}, Status.PAID),
        ("checkout.session.async_payment_failed", {"payment_status": "unpaid"}, Status.FAILED),
        ("checkout.session.expired", {}, Status.FAILED),
        ("invoice.paid", {}, Status.PAID),
        ("invoice.payment_failed", {}, Status.FAILED),
        ("payment_intent.succeeded", {}, Status.PAID),
        ("payment_intent.processing", {}, Status.SETTLING),
        ("payment_intent.payment_failed", {}, Status.FAILED),
        ("charge.succeeded", {"paid": True}, Status.SETTLING),
        ("charge.refunded", {"refunded": True}, Status.REVERSED),
        ("charge.refunded", {"refunded": False}, Status.UNKNOWN),
        ("charge.dispute.created", {"status": "needs_response"}, Status.REVERSED),
        ("charge.dispute.created", {"status": "warning_needs_response"}, Status.UNKNOWN),
        ("charge.dispute.closed", {"status": "lost"}, Status.REVERSED),
        ("charge.dispute.closed", {"status": "won"}, Status.UNKNOWN),
        ("charge.dispute.closed", {"status": "warning_closed"}, Status.UNKNOWN),
        ("customer.created", {}, Status.UNKNOWN),
        ("payment_intent.succeeded.x", {}, Status.UNKNOWN),
    ],
)
def test_stripe(kind: str, about: Mapping[str, object], status: Status) -> None:
    assert stripe(kind, **about).status is status


def test_an_event_about_something_else_is_no_problem() -> None:
    reading = stripe("customer.created")
    assert (reading.reference, reading.problem, reading.event_id) == (None, "", "evt_1")


def test_the_events_of_one_stripe_payment_share_a_reference() -> None:
    intent = read(Kind.STRIPE, {"type": "payment_intent.succeeded", "data": {"object": {"id": "pi_1"}}})
    session = stripe("checkout.session.completed", payment_status="paid", payment_intent="pi_1")
    invoice = stripe("invoice.paid", payment_intent={"id": "pi_1"})
    newer = stripe("invoice.paid", payments={"data": [{"payment": {"payment_intent": "pi_1"}}]})
    charge = stripe("charge.refunded", refunded=True, payment_intent="pi_1")
    dispute = stripe("charge.dispute.created", status="lost", payment_intent="pi_1", charge="ch_1")
    assert {it.reference for it in (intent, session, invoice, newer, charge, dispute)} == {"pi_1"}
    assert ("x_1" in session.also, "ch_1" in dispute.also, "x_1" in dispute.also) == (True, True, False)


@pytest.mark.parametrize(
    ("units", "currency", "amount"),
    [
        (2999, "usd", Decimal("29.99")),
        (2999, "jpy", Decimal(2999)),
        (29990, "kwd", Decimal("29.990")),
        (1.5, "usd", None),
        (-1, "usd", None),
        (2999, None, None),
        (2999, "u$", None),
        ("2999", "usd", Decimal("29.99")),
    ],
)
def test_stripe_counts_in_the_smallest_unit(units: object, currency: object, amount: Decimal | None) -> None:
    assert stripe("invoice.paid", total=units, currency=currency).amount == amount


def test_who_paid_stands_in_the_metadata_too() -> None:
    reading = stripe("invoice.paid", parent={"subscription_details": {"metadata": {"user_id": 7, "plan_id": "pro"}}})
    assert (reading.user_id, reading.plan_id) == ("7", "pro")
    both = stripe("invoice.paid", client_reference_id=ORDER, metadata={"user_id": "8"})
    assert (both.user_id, both.problem) == ("7", "its order id and its metadata name different users")
    assert stripe("invoice.paid", client_reference_id="order-1").problem == "its order id has another form"


def commerce(kind: str, *timeline: object, nested: bool = True) -> Reading:
    event = {"type": kind, "data": {"id": "c", "timeline": timeline}}
    return read(Kind.COINBASE_COMMERCE, {"event": event} if nested else event)


@pytest.mark.parametrize(
    ("kind", "timeline", "status"),
    [
        ("charge:created", [], Status.PENDING),
        ("charge:pending", [{"status": "PENDING"}], Status.SETTLING),
        ("charge:confirmed", [], Status.PAID),
        ("charge:confirmed", [{"status": "NEW"}, {"status": "COMPLETED"}], Status.PAID),
        ("charge:confirmed", [{"status": "NEW"}], Status.SETTLING),
        ("charge:confirmed", [{"status": "COMPLETED"}, {"status": "REFUNDED"}], Status.REVERSED),
        ("charge:failed", [{"status": "EXPIRED"}], Status.FAILED),
        ("charge:failed", [{"status": "UNRESOLVED", "context": "UNDERPAID"}], Status.UNDERPAID),
        ("charge:delayed", [{"status": "UNRESOLVED", "context": "DELAYED"}], Status.SETTLING),
        ("charge:resolved", [{"status": "RESOLVED"}], Status.SETTLING),
        ("charge:thought_about", [], Status.UNKNOWN),
        ("COMPLETED", [{"status": "COMPLETED"}], Status.UNKNOWN),
    ],
)
def test_coinbase_commerce(kind: str, timeline: list[object], status: Status) -> None:
    assert commerce(kind, *timeline).status is status
    assert commerce(kind, *timeline, nested=False).status is status, "as the application logged it"


def test_coinbase_commerce_is_not_read_at_the_wrong_level() -> None:
    outer = {
        "type": "charge:confirmed",
        "data": {"id": "wrong"},
        "event": {"type": "charge:pending", "data": {"id": "c"}},
    }
    reading = read(Kind.COINBASE_COMMERCE, outer)
    assert (reading.status, reading.reference) == (Status.SETTLING, "c")


@pytest.mark.parametrize(
    ("kind", "state", "status"),
    [
        ("checkout.payment.success", "COMPLETED", Status.PAID),
        ("checkout.payment.success", "FAILED", Status.UNKNOWN),
        ("checkout.payment.failed", "FAILED", Status.FAILED),
        ("checkout.payment.expired", "EXPIRED", Status.FAILED),
        ("checkout.refund.success", "REFUNDED", Status.REVERSED),
        ("checkout.refund.success", "PARTIALLY_REFUNDED", Status.UNKNOWN),
        ("checkout.refund.failed", "COMPLETED", Status.UNKNOWN),
        ("checkout.payment.imagined", "COMPLETED", Status.UNKNOWN),
    ],
)
def test_coinbase_business(kind: str, state: str, status: Status) -> None:
    body = {"id": "c", "eventType": kind, "status": state, "fiatAmount": "27.50", "fiatCurrency": "EUR", "amount": "30"}
    reading = read(Kind.COINBASE_BUSINESS, body)
    assert (reading.status, reading.amount, reading.currency) == (status, Decimal("27.50"), "EUR")


@pytest.mark.parametrize(
    ("kind", "data", "status", "reference"),
    [
        ("order.paid", {"id": "ord_1", "checkout_id": "co_1"}, Status.PAID, "ord_1"),
        ("order.created", {"id": "ord_1"}, Status.PENDING, "ord_1"),
        ("order.refunded", {"id": "ord_1", "status": "refunded"}, Status.REVERSED, "ord_1"),
        ("order.refunded", {"id": "ord_1", "status": "partially_refunded"}, Status.UNKNOWN, "ord_1"),
        ("payment.succeeded", {"payment_id": "pay_1"}, Status.PAID, "pay_1"),
        ("payment.processing", {"payment_id": "pay_1"}, Status.SETTLING, "pay_1"),
        ("refund.succeeded", {"payment_id": "pay_1", "refund_id": "r"}, Status.REVERSED, "pay_1"),
        ("refund.succeeded", {"payment_id": "pay_1", "is_partial": True}, Status.UNKNOWN, "pay_1"),
        ("dispute.opened", {"payment_id": "pay_1"}, Status.REVERSED, "pay_1"),
        ("dispute.won", {"payment_id": "pay_1"}, Status.UNKNOWN, "pay_1"),
        ("subscription.active", {"id": "sub_1"}, Status.UNKNOWN, None),
    ],
)
def test_standard_webhooks(kind: str, data: Mapping[str, object], status: Status, reference: str | None) -> None:
    reading = read(Kind.STANDARD_WEBHOOKS, {"type": kind, "data": data})
    assert (reading.status, reading.reference) == (status, reference)


def test_the_id_of_a_standard_webhook_stands_in_its_header() -> None:
    ours = provider(Kind.STANDARD_WEBHOOKS, KEY)
    reading = ours.read({}, {"webhook-id": "msg_1", "webhook-signature": "v1,x"})
    assert (reading.event_id, ours.dedupe_key(reading, b"{}")) == ("msg_1", "event msg_1")
    assert ours.dedupe_key(ours.read({}), b"{}") == ours.dedupe_key(ours.read({}), b"{}")


def binance(kind: str, status: str, data: object) -> Reading:
    return read(Kind.BINANCE_PAY, {"bizType": kind, "bizIdStr": "29", "bizId": 29, "bizStatus": status, "data": data})


@pytest.mark.parametrize(
    ("kind", "said", "data", "status"),
    [
        ("PAY", "PAY_SUCCESS", '{"merchantTradeNo":"m1"}', Status.PAID),
        ("PAY", "PAY_CLOSED", '{"merchantTradeNo":"m1"}', Status.FAILED),
        ("PAY_REFUND", "REFUND_SUCCESS", '{"totalFee":10,"refundInfo":{"refundAmount":"10"}}', Status.REVERSED),
        ("PAY_REFUND", "REFUND_SUCCESS", '{"totalFee":10,"refundInfo":{"refundAmount":"4"}}', Status.UNKNOWN),
        ("PAY_REFUND", "REFUND_SUCCESS", "{}", Status.REVERSED),
        ("PAY_REFUND", "REFUND_REJECTED", "{}", Status.UNKNOWN),
        ("PAYOUT", "SUCCESS", "{}", Status.UNKNOWN),
        ("TRANSFER", "PAY_SUCCESS", "{}", Status.UNKNOWN),
        ("PAY", "PAY_PENDING", "{}", Status.UNKNOWN),
    ],
)
def test_binance_pay(kind: str, said: str, data: str, status: Status) -> None:
    assert binance(kind, said, data).status is status
    assert binance(kind, said, json.loads(data)).status is status, "as an application may log it"


@pytest.mark.parametrize("data", ["", "{", "[]", '{"a":1,"a":2}', "\ud800", None, 5, ["x"], "[" * 99])
def test_binance_data_that_cannot_be_read_is_said(data: object) -> None:
    reading = binance("PAY", "PAY_SUCCESS", data)
    assert (reading.reference, reading.problem) == ("29", "its data cannot be read")


FIELDS = Fields(
    status="data.items.0.state",
    reference="data.id",
    event="id",
    order="data.order",
    user="data.user",
    plan="data.plan",
    amount="data.price.0",
    currency="data.price.1",
    words={"ok": Status.PAID, "true": Status.SETTLING, "7": Status.REVERSED},
)


@pytest.mark.parametrize("kind", [Kind.GENERIC, Kind.STANDARD_WEBHOOKS])
@pytest.mark.parametrize(
    ("state", "status"),
    [("ok", Status.PAID), (True, Status.SETTLING), (7, Status.REVERSED), ("OK", Status.UNKNOWN), ({}, Status.UNKNOWN)],
)
def test_a_configured_webhook_is_read_where_the_configuration_says(kind: Kind, state: object, status: Status) -> None:
    ours = build("shop", ProviderSettings(kind=kind, fields=FIELDS))
    data = {"id": 5, "items": [{"state": state}], "user": 7, "plan": "pro", "price": ["9.90", "eur"], "order": "x"}
    reading = ours.read(parse(json.dumps({"id": "e1", "data": data}).encode()))
    assert (reading.status, reading.reference, reading.event_id) == (status, "5", "e1")
    assert (reading.user_id, reading.plan_id, reading.order_id) == ("7", "pro", "x")
    assert (reading.amount, reading.currency) == (Decimal("9.90"), "EUR")


def test_without_words_nothing_is_paid() -> None:
    ours = build("shop", ProviderSettings(kind=Kind.GENERIC, fields=Fields(status="status", reference="id")))
    for word in ("paid", "completed", "finished", "succeeded", "", None, True):
        assert ours.read({"status": word, "id": "1"}).status is Status.UNKNOWN


# --- Rows that the application logged itself


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("nowpayments", Kind.NOWPAYMENTS),
        ("NOWPayments", Kind.NOWPAYMENTS),
        ("stripe", Kind.STRIPE),
        ("coinbase", Kind.COINBASE_COMMERCE),
        ("coinbase", Kind.COINBASE_BUSINESS),
        ("coinbase-commerce", Kind.COINBASE_COMMERCE),
        ("binance_pay", Kind.BINANCE_PAY),
        ("Binance Pay", Kind.BINANCE_PAY),
        ("dodo", Kind.STANDARD_WEBHOOKS),
    ],
)
def test_a_row_is_read_by_the_shops_word_for_the_method(method: str, kind: Kind) -> None:
    reading = reader(method, {})(parse(PAID[kind].body))
    assert (reading.status, reading.user_id) == (Status.PAID, "7")
    assert reading == reader(method, {})(json.loads(PAID[kind].body)), "also after another JSON reader"


def test_a_configured_method_is_read_by_its_provider() -> None:
    ours = build("np", ProviderSettings(kind=Kind.NOWPAYMENTS, methods=("crypto",), order_pattern=r"(\d+)-(.+)-(\d+)"))
    payload = {"payment_id": 1, "payment_status": "finished", "order_id": "7-pro-1773480413"}
    assert reader("Crypto", {"np": ours})(payload).plan_id == "pro"
    assert reader("np", {"np": ours})(payload).status is Status.UNKNOWN, "it has other methods"


@pytest.mark.parametrize("method", ["", "crypto", "paypal", "nowpayments2"])
@pytest.mark.parametrize("kind", PAID)
def test_what_nobody_knows_is_never_paid(method: str, kind: Kind) -> None:
    assert reader(method, {})(parse(PAID[kind].body)).status is Status.UNKNOWN


def test_one_message_has_one_key_and_another_has_another() -> None:
    for kind, paid in PAID.items():
        ours = provider(kind, KEY)
        key = ours.dedupe_key(ours.read(parse(paid.body)), paid.body)
        assert key == ours.dedupe_key(ours.read(parse(paid.body)), paid.body)
        other = paid.body.replace(b"evt_1", b"evt_2").replace(b"24934862", b"24934863").replace(b"29.99", b"29.98")
        other = other.replace(b"2999", b"2998") if kind is Kind.STANDARD_WEBHOOKS else other
        assert key != ours.dedupe_key(ours.read(parse(other)), other), kind
        assert len(key) < 1000, "an index takes it"


def test_the_moment_is_aware() -> None:
    assert read(Kind.COINBASE_BUSINESS, {"updatedAt": "2026-03-14T11:26:53+02:00"}).at == NOW
    assert read(Kind.COINBASE_BUSINESS, {"updatedAt": "2026-03-14T09:26:53"}).at == NOW
    refused: tuple[object, ...] = (
        "1-1-1",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59",
        "2026-03-14",
        1e300,
        -1,
        True,
        [],
    )
    for nonsense in refused:
        assert read(Kind.COINBASE_BUSINESS, {"updatedAt": nonsense}).at is None
