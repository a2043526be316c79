"""What stands around paidwatch in a drill: the provider, the application's handler, and whom alerts reach."""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import aiohttp
import anyio
from aiohttp import web

from paidwatch.errors import Unreachable
from paidwatch.ops.demo_shop import Order
from paidwatch.ops.loopback import Loopback

PROVIDER: Final = "nowpayments"
"""Whose webhooks the drill sends, signed by other code than the one that checks them."""
_SIGNATURE: Final = "x-nowpayments-sig"
_PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One alert that arrived."""

    word: str
    kind: str
    payment: str
    subject: str


class Sink(Loopback):
    """Takes alerts and webhooks that are passed on, and keeps both."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__(web.post("/alerts", self._take_alert), web.post("/handler", self._take_webhook))
        self.told: list[Told] = []
        self.handled: list[bytes] = []
        """Bodies that the application's handler was passed, byte for byte."""

    @property
    def alerts(self) -> str:
        """Where alerts are to be sent."""
        return f"{self.url}/alerts"

    @property
    def handler(self) -> str:
        """Where webhooks are to be passed on."""
        return f"{self.url}/handler"

    def heard(self, word: str, kind: str, payment: int | None = None) -> bool:
        """Return whether such an alert arrived."""
        return any(
            told.word == word and told.kind == kind and (payment is None or told.payment == str(payment))
            for told in self.told
        )

    async def _take_alert(self, request: web.Request) -> web.Response:
        data: Mapping[str, Any] = (await request.json())["data"]
        self.told.append(
            Told(
                word=str(data["word"]),
                kind=str(data["kind"]),
                payment=str(data["facts"].get("payment_id", "")),
                subject=str(data["subject"]),
            )
        )
        return web.Response()

    async def _take_webhook(self, request: web.Request) -> web.Response:
        """Take it and do nothing: as a handler that believes to have done its work."""
        self.handled.append(await request.read())
        return web.Response()


class Sender:
    """The payment provider: tells by a webhook that a payment is finished."""

    def __init__(self, base: str, secret: str) -> None:
        """Take the daemon's address and the secret of the drill."""
        self._base = base
        self._secret = secret

    async def wait_until_served(self, limit: timedelta, *, alive: Callable[[], bool]) -> None:
        """Wait until the daemon answers, as long as it is `alive`. Raises Unreachable."""
        with anyio.move_on_after(limit.total_seconds()):
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PATIENCE)) as http:
                while alive():
                    try:
                        async with http.get(f"{self._base}/healthz"):
                            return
                    except (aiohttp.ClientError, TimeoutError):
                        await anyio.sleep(0.05)
        message = "the daemon of the drill does not answer over HTTP"
        raise Unreachable(message)

    async def send(self, order: Order, *, secret: str | None = None) -> tuple[int, bytes]:
        """Send the webhook, signed with the drill's secret or another one; return the answer's status and the body.

        Raises Unreachable where there is no answer.
        """
        body = body_of(order)
        signature = hmac.digest((secret or self._secret).encode(), body, hashlib.sha512).hex()
        headers = {_SIGNATURE: signature, "Content-Type": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PATIENCE)) as http,
                http.post(f"{self._base}/webhooks/{PROVIDER}", data=body, headers=headers) as answer,
            ):
                return answer.status, body
        except (aiohttp.ClientError, TimeoutError) as error:
            message = f"no answer to the webhook: {type(error).__name__}"
            raise Unreachable(message) from None


def body_of(order: Order) -> bytes:
    """Return what the provider says of a payment that is finished: keys sorted, compact, as it is signed."""
    said = {
        "order_id": f"winu_sub_{order.customer}_{order.plan}_{1_700_000_000 + order.payment}",
        "payment_id": order.reference,
        "payment_status": "finished",
        "price_amount": str(order.amount),
        "price_currency": "usd",
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
