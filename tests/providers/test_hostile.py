"""Whatever is sent to the address of a provider: it is never accepted by mistake, and never ends in an exception."""

import json
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paidwatch.core.webhook import Signature, Status
from paidwatch.providers import Kind, Unreadable, parse, reader, storable
from paidwatch.providers.parsing import Number
from tests.providers.signers import KEY, NOW, PAID, SIGNERS, body_of, provider

EVERY = pytest.mark.parametrize("kind", list(Kind))
GENUINE = {kind: SIGNERS[kind](KEY, body_of(kind), NOW) for kind in Kind}
OURS = {kind: provider(kind, KEY) for kind in Kind}
BY_NAME = {kind.value: ours for kind, ours in OURS.items()}
BYTES = st.integers(0, 255)
WEIRD = (
    st.text(max_size=40)
    | st.text(st.characters(), max_size=20)
    | st.text(st.sampled_from("tv10=,. whsec_AZ+/\udcff\ud800\0é"))
)


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    """The body with a few bytes changed, put in or left out: never the same."""
    body = bytearray(original)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body) - 1))
        match draw(st.sampled_from(["change", "insert", "delete", "cut", "repeat"])):
            case "change":
                body[at] ^= draw(st.integers(1, 255))
            case "insert":
                body.insert(at, draw(BYTES))
            case "delete" if len(body) > 1:
                del body[at]
            case "cut" if at:
                del body[at:]
            case _:
                body[at:at] = body[at : at + draw(st.integers(1, 40))]
    return bytes(body)


def means_the_same(kind: Kind, body: bytes) -> bool:
    """Whether a body says at its top level what the genuine one says: NOWPayments signs values, not bytes."""
    if kind is not Kind.NOWPAYMENTS:
        return body == body_of(kind)
    try:
        document, genuine = parse(body), parse(body_of(kind))
    except Unreadable:
        return False
    ours = OURS[kind]
    return isinstance(document, dict) and document == genuine and ours.read(document) == ours.read(genuine)


@EVERY
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_changed_body_is_never_accepted(kind: Kind, data: st.DataObject) -> None:
    body = data.draw(mutated(body_of(kind)))
    verdict = OURS[kind].verify(GENUINE[kind], body, NOW)
    assert verdict is (Signature.VALID if means_the_same(kind, body) else Signature.WRONG)


@EVERY
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_changed_headers_are_never_accepted(kind: Kind, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(GENUINE[kind])))
    value = data.draw(
        WEIRD | mutated(GENUINE[kind][name].encode()).map(lambda it: it.decode("utf-8", "surrogateescape"))
    )
    headers = {**GENUINE[kind], name: value}
    verdict = OURS[kind].verify(headers, body_of(kind), NOW)
    assert isinstance(verdict, Signature)
    if verdict is Signature.VALID:
        assert core_of(kind, name, value) == core_of(kind, name, GENUINE[kind][name])


def core_of(kind: Kind, name: str, value: str) -> object:
    """What of a header may not change: the code and what it covers, not the case of digits or the blanks around."""
    if name == "binancepay-certificate-sn":
        return None  # every configured key is tried
    match kind:
        case Kind.STRIPE | Kind.COINBASE_BUSINESS if "signature" in name:
            parts = [part.strip().partition("=") for part in value.split(",")]
            return {(key, text.lower()) for key, _, text in parts if key in {"t", "v1"} and len(text) in {10, 64}}
        case Kind.STANDARD_WEBHOOKS if name == "webhook-signature":
            return {part for part in value.split() if part.startswith("v1,") and len(part) == 47}
        case _:
            return value.strip().lower() if name not in {"webhook-id", "binancepay-signature"} else value.strip()


@EVERY
@given(
    headers=st.dictionaries(
        st.sampled_from(sorted({name for kind in Kind for name in OURS[kind].kept_headers})) | st.text(max_size=5),
        WEIRD,
        max_size=8,
    ),
    body=st.binary(max_size=60) | st.sampled_from([b"", b"{}", b"[" * 5000, b'{"a":1,"a":2}', b"\xff\xfe"]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_sent_has_a_verdict(kind: Kind, headers: dict[str, str], body: bytes) -> None:
    assert OURS[kind].verify(headers, body, NOW) not in {Signature.VALID, Signature.NO_SECRET}
    assert provider(kind).verify(headers, body, NOW) is Signature.NO_SECRET


@given(body=st.binary(max_size=200) | mutated(PAID[Kind.NOWPAYMENTS].body) | mutated(PAID[Kind.BINANCE_PAY].body))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_document_or_are_refused(body: bytes) -> None:
    try:
        payload = parse(body)
    except Unreadable:
        return
    assert json.loads(storable(payload)) == json.loads(storable(json.loads(body)))


KEYS = st.sampled_from(
    [
        *("id", "type", "data", "object", "event", "status", "metadata", "timeline", "payment_status", "payment_id"),
        *(
            "order_id",
            "parent_payment_id",
            "price_amount",
            "price_currency",
            "updated_at",
            "created",
            "currency",
            "total",
        ),
        *("amount", "payment_intent", "eventType", "bizType", "bizStatus", "bizIdStr", "refundInfo", "created_at"),
        *(
            "client_reference_id",
            "pricing",
            "local",
            "code",
            "total_amount",
            "transactTime",
            "merchantTradeNo",
            "refunded",
        ),
    ]
)
TELLING = st.sampled_from(
    [
        *(
            "finished",
            "checkout.session.completed",
            "paid",
            "charge:confirmed",
            "checkout.payment.success",
            "COMPLETED",
        ),
        *("order.paid", "PAY", "PAY_SUCCESS", "charge.refunded", "charge.dispute.closed", "winu_sub_7_pro_1773480413"),
        *(
            '{"merchantTradeNo":"\\ud800"}',
            "winu_sub_7_pro_99999999999999999999",
            "9" * 5000,
            "\0",
            "\ud800",
            "NaN",
            "1e9",
        ),
    ]
)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.decimals()
    | st.sampled_from(["-0", "1e-400", "1e400", "1773480413000"]).map(Number)
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TELLING | st.text(max_size=10) | st.binary(max_size=3) | st.just(10**4000),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=6),
    max_leaves=20,
)


@EVERY
@given(payload=ANYTHING)
@settings(max_examples=80, deadline=None)
def test_anything_can_be_read(kind: Kind, payload: object) -> None:
    reading = OURS[kind].read(payload)
    assert reading.status in Status
    assert OURS[kind].dedupe_key(reading, b"{}").encode()
    for text in (reading.said, reading.problem, *filter(None, (reading.reference, reading.order_id, *reading.also))):
        assert text.isprintable()
        assert len(text.encode()) < 2000
    assert reading.amount is None or (reading.amount >= 0 and reading.amount.is_finite())
    assert reading.at is None or reading.at.utcoffset() == timedelta()
    if reading.status is not Status.UNKNOWN:
        assert reading.reference or reading.problem


@given(method=st.text(max_size=12) | st.sampled_from(["coinbase", "stripe", "crypto"]), payload=ANYTHING)
@settings(max_examples=80, deadline=None)
def test_any_logged_row_can_be_read(method: str, payload: object) -> None:
    assert reader(method, BY_NAME)(payload).status in Status
    assert reader(method, {})(payload).status in Status
