"""The application's endpoint: templates filled as the owner wrote them, nothing of what was sent in what comes back."""

import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import anyio.to_thread
import pytest
import trustme
from aiohttp import web
from pydantic import SecretStr

from paidwatch.application.endpoint import Endpoint, build, fill, fill_body
from paidwatch.config.activation import ActivationHttp
from paidwatch.errors import ConfigError
from paidwatch.outbound import open_session
from paidwatch.ports import Ask
from tests.channels.fakes.http import Received, Service, serving
from tests.channels.fakes.wire import Manner, misbehaving

SECRET = "a-token-nobody-may-see"
ASK = Ask(
    activation_id=5,
    user_id="7",
    plan_id="vip_elite",
    days=30,
    reason="paid [paidwatch:1f2e3d4c:5]",
    payment_id="12",
    reference="np/1 2?&é",
)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as opened:
        yield opened


def endpoint(url: str, session: aiohttp.ClientSession, **settings: Any) -> Endpoint:
    values = {"url": url, "body": {"why": "{reason}"}, "headers": {"X-Key": SecretStr(SECRET)}, **settings}
    built = build(ActivationHttp.model_validate(values), session)
    assert built is not None
    return built


async def taken(_: Received) -> Any:
    return web.json_response({"success": True, "echo": SECRET})


async def test_path_headers_and_body_are_filled(session: aiohttp.ClientSession) -> None:
    async with serving(Service(handler=taken)) as service:
        body = {
            "user": "{user_id}",
            "days": "{days}",
            "plan": "{plan_id}",
            "nested": {"list": ["{activation_id}", "no {activation_id}", 1, True, None, Decimal("1.5"), Decimal(2)]},
            "reason": "{reason}",
            "reference": "{reference}",
        }
        headers = {
            "Authorization": SecretStr(f"Bearer {SECRET}"),
            "Idempotency-Key": SecretStr("{payment_id}-{reference}"),
        }
        asked = endpoint(
            service.base + "/users/{user_id}/{reference}?of={reference}",
            session,
            method="PUT",
            body=body,
            headers=headers,
        )
        reply = await asked.activate(ASK)
        (got,) = service.received
    assert (reply.code, reply.said, reply.retry_after) == ("200", "answered 200", None)
    assert (got.method, got.path, got.query) == ("PUT", "/users/7/np/1 2?&é", {"of": "np/1 2?&é"})
    assert got.headers["authorization"] == f"Bearer {SECRET}"
    assert got.headers["idempotency-key"] == "12-np/1 2?&%C3%A9"
    assert got.headers["content-type"] == "application/json"
    assert json.loads(got.body) == {
        "user": 7,
        "days": 30,
        "plan": "vip_elite",
        "nested": {"list": [5, "no 5", 1, True, None, 1.5, 2]},
        "reason": "paid [paidwatch:1f2e3d4c:5]",
        "reference": "np/1 2?&é",
    }


@pytest.mark.parametrize(
    ("template", "value", "expected"),
    [
        ("{user_id}", "7", 7),
        ("{user_id}", "007", "007"),
        ("{user_id}", "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
        ("{user_id}", "12345678901234567890", "12345678901234567890"),
        ("{user_id}", "\u0667", "\u0667"),
        ("u{user_id}", "7", "u7"),
        ("{plan_id}", "7", "7"),
        ("{reference}", "7", "7"),
    ],
)
def test_what_is_a_number(template: str, value: str, expected: object) -> None:
    names = ("user_id", "plan_id", "reference")
    filled = fill_body(template, dict.fromkeys(names, value))
    assert (filled, type(filled)) == (expected, type(expected))


def test_a_value_is_not_a_template() -> None:
    assert fill("{reference} {user_id} {other}", {"reference": "{user_id}", "user_id": "7"}) == "{user_id} 7 {other}"


async def test_a_value_cannot_add_a_header(session: aiohttp.ClientSession) -> None:
    async with serving(Service(handler=taken)) as service:
        asked = endpoint(service.base, session, headers={"X-Plan": SecretStr("{plan_id}")})
        await asked.activate(replace(ASK, plan_id="a\r\nX-Admin: yes\x00"))
        (got,) = service.received
    assert "x-admin" not in got.headers
    assert got.headers["x-plan"] == "a%0D%0AX-Admin: yes%00"


@pytest.mark.parametrize("manner", [Manner.HANGS, Manner.TRICKLES, Manner.LEAVES_AFTERWARDS, Manner.BABBLES])
async def test_no_complete_answer_in_time_is_a_reply_without_secrets(
    session: aiohttp.ClientSession, manner: Manner
) -> None:
    async with misbehaving(manner, greeting=b"HTTP/1.1 200 OK\r\n\r\n") as port:
        asked = endpoint(f"http://127.0.0.1:{port}/{SECRET}", session, timeout="200ms")
        reply = await asked.activate(ASK)
    assert reply.code in {"timeout", "network"}
    assert reply.reached
    assert SECRET not in repr(reply)


async def test_an_answer_without_end_is_cut(session: aiohttp.ClientSession) -> None:
    async with misbehaving(Manner.FLOODS, greeting=b"HTTP/1.1 200 OK\r\n\r\n") as port:
        reply = await endpoint(f"http://127.0.0.1:{port}/", session).activate(ASK)
    assert reply.code == "200"


async def test_a_redirect_is_an_answer(session: aiohttp.ClientSession) -> None:
    async with serving(Service(handler=taken)) as service:
        service.then(307, headers={"Location": service.base + "/elsewhere"})
        reply = await endpoint(service.base, session).activate(ASK)
    assert (reply.code, len(service.received)) == ("307", 1)


async def test_the_answers_own_words_do_not_get_through(session: aiohttp.ClientSession) -> None:
    async with serving(Service(handler=taken)) as service:
        service.then(429, body={"detail": SECRET}, headers={"Retry-After": "90"})
        reply = await endpoint(service.base, session).activate(ASK)
    assert (reply.code, reply.retry_after) == ("429", timedelta(seconds=90))
    assert SECRET not in repr(reply)


async def test_certificates_are_verified(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(trusted)
    async with serving(Service(handler=taken), tls=tls) as service:
        refused = await endpoint(service.base, session).activate(ASK)
        other = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(other)
        for known, expected in ((other, "tls"), (trusted, "200")):
            asked = await in_thread(service.base, session, str(known))
            assert (await asked.activate(ASK)).code == expected
    assert (refused.code, refused.reached) == ("tls", False)
    assert len(service.received) == 1


async def in_thread(url: str, session: aiohttp.ClientSession, ca_file: str) -> Endpoint:
    """Reading a file blocks: whoever builds an endpoint does it in a thread."""
    return await anyio.to_thread.run_sync(lambda: endpoint(url, session, ca_file=ca_file))


async def test_what_cannot_be_built(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    assert build(ActivationHttp(), session) is None
    empty = tmp_path / "empty.pem"
    empty.touch()
    for file in (tmp_path / "none.pem", empty):
        with pytest.raises(ConfigError, match=r"activation\.http\.ca_file cannot be read"):
            await in_thread("http://localhost/", session, str(file))
