"""Asking providers about one payment: their documented answers, and whatever else a server may do to a client."""

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web
from pydantic import SecretStr

from paidwatch.core.answer import Answer, Trouble, Unanswered
from paidwatch.core.webhook import Status
from paidwatch.outbound import Limits, open_session
from paidwatch.providers.api import Api
from paidwatch.providers.api_coinbase_commerce import CoinbaseCommerceApi
from paidwatch.providers.api_nowpayments import NowPaymentsApi
from paidwatch.providers.api_stripe import StripeApi
from paidwatch.providers.apis import ASKABLE, build_api
from paidwatch.providers.settings import Kind
from tests.channels.fakes.http import Received, Service, serving

KEY = "c4nary-api-key"
SHORT = Limits(total=timedelta(milliseconds=300), connect=timedelta(milliseconds=200))
CHARGE = "f765421f-2ae0-4f8a-a3b3-1b9b1a9e5a1c"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as made:
        yield made


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async def nothing(_: Received) -> web.Response:
        return web.json_response({}, status=404)

    async with serving(Service(nothing)) as running:
        yield running


def api_of(kind: type[Api], service: Service, session: aiohttp.ClientSession, *, limits: Limits = SHORT) -> Api:
    return kind("shop", frozenset({"crypto"}), SecretStr(KEY), f"{service.base}/v1/", session, limits)


def nowpayments(status: str = "finished", **more: Any) -> dict[str, Any]:
    return {
        "payment_id": 5524759814,
        "invoice_id": None,
        "payment_status": status,
        "pay_address": "TNDFkiSmBQorNFacb3735q8MnT29sn8BLn",
        "price_amount": 14.99,
        "price_currency": "usd",
        "pay_amount": 15.1,
        "actually_paid": 15.1,
        "pay_currency": "usdttrc20",
        "order_id": "winu_sub_7_vip_elite_1700000000",
        "purchase_id": 4944856743,
        "created_at": "2026-11-23T11:58:00.516Z",
        "updated_at": "2026-11-23T12:02:00.516Z",
        **more,
    }


def charge(*timeline: str | tuple[str, str], **more: Any) -> dict[str, Any]:
    entries = [
        {"status": entry, "time": "2026-01-01T00:00:00Z"}
        if isinstance(entry, str)
        else {"status": entry[0], "context": entry[1], "time": "2026-01-01T00:00:00Z"}
        for entry in timeline
    ]
    made = {"id": CHARGE, "code": "66BEOV2A", "pricing": {"local": {"amount": "14.99", "currency": "USD"}}}
    return {"data": made | {"timeline": entries} | more}


def stripe(kind: str, **more: Any) -> dict[str, Any]:
    return {"id": f"{kind}_1", "currency": "usd", "amount_total": 1499, "amount_received": 1499, **more}


PAID = {"id": "ch_9", "status": "succeeded", "captured": True, "refunded": False, "disputed": False}

DOCUMENTED = [
    (NowPaymentsApi, "5524759814", nowpayments(), Status.PAID, "finished"),
    (NowPaymentsApi, "5524759814", nowpayments("confirmed"), Status.SETTLING, "confirmed"),
    (NowPaymentsApi, "5524759814", nowpayments("partially_paid"), Status.UNDERPAID, "partially_paid"),
    (NowPaymentsApi, "5524759814", nowpayments("refunded"), Status.REVERSED, "refunded"),
    (NowPaymentsApi, "5524759814", nowpayments("expired"), Status.FAILED, "expired"),
    (NowPaymentsApi, "5524759814", nowpayments("wonderful"), Status.UNKNOWN, "wonderful"),
    (NowPaymentsApi, "5524759814", nowpayments(payment_id="5524759814"), Status.PAID, "finished"),
    (
        NowPaymentsApi,
        "5524759814",
        nowpayments(parent_payment_id=4),
        Status.UNKNOWN,
        "finished, a further deposit",
    ),
    (CoinbaseCommerceApi, CHARGE, charge("NEW", "PENDING", "COMPLETED"), Status.PAID, "COMPLETED"),
    (CoinbaseCommerceApi, "66BEOV2A", charge("NEW", "PENDING"), Status.SETTLING, "PENDING"),
    (CoinbaseCommerceApi, CHARGE, charge("NEW", ("UNRESOLVED", "UNDERPAID")), Status.UNDERPAID, "UNRESOLVED UNDERPAID"),
    (CoinbaseCommerceApi, CHARGE, charge("NEW", "COMPLETED", "REFUNDED"), Status.REVERSED, "REFUNDED"),
    (CoinbaseCommerceApi, CHARGE, charge("NEW", "RESOLVED"), Status.UNKNOWN, "RESOLVED"),
    (
        StripeApi,
        "cs_1",
        stripe("cs", payment_status="paid", payment_intent={"latest_charge": PAID}),
        Status.PAID,
        "paid",
    ),
    (StripeApi, "cs_1", stripe("cs", payment_status="unpaid", status="expired"), Status.FAILED, "unpaid expired"),
    (StripeApi, "cs_1", stripe("cs", payment_status="unpaid", status="complete"), Status.SETTLING, "unpaid complete"),
    (
        StripeApi,
        "cs_1",
        stripe("cs", payment_status="paid", payment_intent={"latest_charge": PAID | {"refunded": True}}),
        Status.REVERSED,
        "paid, refunded",
    ),
    (StripeApi, "pi_1", stripe("pi", status="succeeded", latest_charge=PAID), Status.PAID, "succeeded"),
    (
        StripeApi,
        "pi_1",
        stripe("pi", status="succeeded", latest_charge=PAID | {"disputed": True}),
        Status.UNKNOWN,
        "succeeded, disputed",
    ),
    (
        StripeApi,
        "pi_1",
        stripe("pi", status="succeeded", latest_charge=PAID | {"amount_refunded": 5}),
        Status.UNKNOWN,
        "succeeded, part of it was paid back",
    ),
    (StripeApi, "pi_1", stripe("pi", status="requires_capture"), Status.SETTLING, "requires_capture"),
    (StripeApi, "in_1", stripe("in", status="paid", amount_paid=1499), Status.PAID, "paid"),
    (StripeApi, "ch_1", stripe("ch", amount_captured=1499) | PAID | {"id": "ch_1"}, Status.PAID, "succeeded"),
    (
        StripeApi,
        "ch_1",
        stripe("ch", status="succeeded", captured=False, amount_captured=1499),
        Status.SETTLING,
        "succeeded, not captured",
    ),
]


@pytest.mark.parametrize(
    ("kind", "reference", "payload", "status", "said"),
    DOCUMENTED,
    ids=[f"{kind.__name__} {said}" for kind, _, _, _, said in DOCUMENTED],
)
async def test_what_a_provider_says_is_read(
    service: Service,
    session: aiohttp.ClientSession,
    kind: type[Api],
    reference: str,
    payload: dict[str, Any],
    status: Status,
    said: str,
) -> None:
    service.then(200, body=payload)
    answer = await api_of(kind, service, session).ask(reference)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.said) == (status, said)
    assert (answer.amount, answer.currency) == (Decimal("14.99"), "USD")


@pytest.mark.parametrize(
    ("kind", "reference", "path", "header"),
    [
        (NowPaymentsApi, "5524759814", "/v1/payment/5524759814", ("x-api-key", KEY)),
        (CoinbaseCommerceApi, "66BEOV2A", "/v1/charges/66BEOV2A", ("x-cc-api-key", KEY)),
        (StripeApi, "cs_1", "/v1/checkout/sessions/cs_1", ("authorization", f"Bearer {KEY}")),
        (StripeApi, "pi_1", "/v1/payment_intents/pi_1", ("authorization", f"Bearer {KEY}")),
        (StripeApi, "in_1", "/v1/invoices/in_1", ("authorization", f"Bearer {KEY}")),
        (StripeApi, "ch_1", "/v1/charges/ch_1", ("authorization", f"Bearer {KEY}")),
    ],
)
async def test_it_is_asked_where_and_how_the_provider_documents_it(
    service: Service,
    session: aiohttp.ClientSession,
    kind: type[Api],
    reference: str,
    path: str,
    header: tuple[str, str],
) -> None:
    await api_of(kind, service, session).ask(reference)
    (got,) = service.received
    assert (got.method, got.path, got.body) == ("GET", path, b"")
    assert got.headers[header[0]] == header[1]
    if reference == "cs_1":
        assert got.query == {"expand[]": "payment_intent.latest_charge"}


@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        (NowPaymentsApi, "../../v1/balance"),
        (NowPaymentsApi, "np-17"),
        (NowPaymentsApi, "\u0661\u0662"),
        (StripeApi, "cus_1"),
        (StripeApi, "pi_1/refunds"),
        (CoinbaseCommerceApi, "66BEOV2A?x=1"),
    ],
)
async def test_what_is_no_id_of_the_provider_is_not_asked_for(
    service: Service, session: aiohttp.ClientSession, kind: type[Api], reference: str
) -> None:
    assert await api_of(kind, service, session).ask(reference) == Unanswered(trouble=Trouble.FORM)
    assert service.received == []


FAULTS = [
    (401, {"message": f"bad key {KEY}"}, {}, Trouble.REFUSED, None),
    (403, {}, {}, Trouble.REFUSED, None),
    (404, {"message": "Payment not found"}, {}, Trouble.MISSING, None),
    (429, {}, {"Retry-After": "7"}, Trouble.BUSY, timedelta(seconds=7)),
    (429, {}, {}, Trouble.BUSY, None),
    (500, "<html>", {}, Trouble.FAILING, None),
    (503, {}, {"Retry-After": "2"}, Trouble.FAILING, timedelta(seconds=2)),
    (302, "", {"Location": "/v1/elsewhere"}, Trouble.ODD, None),
    (200, "<html>moved</html>", {}, Trouble.UNREADABLE, None),
    (200, "[]", {}, Trouble.UNREADABLE, None),
    (200, '{"payment_id": 5524759814, "payment_id": 2, "payment_status": "finished"}', {}, Trouble.UNREADABLE, None),
    (200, {"result": "ok"}, {}, Trouble.UNREADABLE, None),
    (200, nowpayments(padding="x" * 100_000), {}, Trouble.UNREADABLE, None),
    (200, nowpayments(payment_id=5524759815), {}, Trouble.OTHER, None),
]


@pytest.mark.parametrize(("status", "body", "headers", "trouble", "wait"), FAULTS)
async def test_everything_else_is_no_answer_and_no_redirect_is_followed(
    service: Service,
    session: aiohttp.ClientSession,
    status: int,
    body: Any,
    headers: dict[str, str],
    trouble: Trouble,
    wait: timedelta | None,
) -> None:
    service.then(status, body=body, headers=headers)
    said = await api_of(NowPaymentsApi, service, session).ask("5524759814")
    assert said == Unanswered(trouble=trouble, retry_after=wait)
    assert len(service.received) == 1


async def test_an_amount_that_cannot_be_read_has_no_currency_either(
    service: Service, session: aiohttp.ClientSession
) -> None:
    service.then(200, body=nowpayments(price_amount="much"))
    answer = await api_of(NowPaymentsApi, service, session).ask("5524759814")
    assert isinstance(answer, Answer)
    assert (answer.amount, answer.currency) == (None, None)


async def test_one_that_hangs_or_is_not_there_ends_in_time(session: aiohttp.ClientSession) -> None:
    async def hang(_: Received) -> web.Response:
        await anyio.sleep_forever()
        raise AssertionError

    async with serving(Service(hang)) as hanging:
        api = api_of(NowPaymentsApi, hanging, session)
        with anyio.fail_after(10):
            assert await api.ask("1") == Unanswered(trouble=Trouble.TIMEOUT)
    with anyio.fail_after(10):
        assert await api.ask("1") == Unanswered(trouble=Trouble.UNREACHABLE)


async def test_the_key_is_in_the_request_and_nowhere_else(
    service: Service, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    api = api_of(NowPaymentsApi, service, session)
    said: list[object] = [api, vars(api)]
    for status, body, headers, _trouble, _wait in FAULTS:
        service.then(status, body=body, headers=headers)
        said.append(await api.ask("5524759814"))
    assert all(KEY in got.headers["x-api-key"] for got in service.received)
    assert KEY not in repr(said) + caplog.text


async def test_who_can_be_asked(session: aiohttp.ClientSession) -> None:
    def built(kind: Kind, key: str = KEY) -> Api | None:
        return build_api("crypto-shop", kind, methods=frozenset(), key=SecretStr(key), url="", session=session)

    assert {kind for kind in Kind if built(kind)} == set(ASKABLE)
    made = built(Kind.NOWPAYMENTS)
    assert made is not None
    assert (made.name, set(made.methods)) == ("crypto-shop", {"crypto-shop"})
    assert built(Kind.NOWPAYMENTS, " ") is None
