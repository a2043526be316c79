"""The two variants of a drill: a payment whose webhook is right, and one whose webhook is not.

1. Test payment, webhook with a valid signature, row in the log, passed on to the handler (which does nothing), the
   user activated, alert FIXED, `check` without gaps.
2. Test payment, webhook with a wrong signature, row in the log, not passed on; alerts NEW about the payment and about
   the signature, no activation, `check` with the gap; the application activates late, alert RESOLVED.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, cast

import anyio

from paidwatch.errors import PaidwatchError
from paidwatch.ops.demo_program import Ended
from paidwatch.ops.demo_shop import Order, Shop
from paidwatch.ops.drill_sink import Sender, Sink

_LOOK: Final = 0.03
"""Seconds between two looks at what can be seen in the database only."""
_ACCEPTED: Final = 200
_REFUSED: Final = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, done or failed."""

    variant: str
    """`place`, `works` or `fails`."""
    name: str
    ok: bool
    what: str
    """What was seen; of a failed step, what was expected too."""
    at: timedelta
    """Since the drill began."""
    took: timedelta


class Failed(PaidwatchError):
    """A step did not come true; those after it build upon it."""

    exit_code = 1


class Steps:
    """Everything that was done so far, with its times."""

    def __init__(self, show: Callable[[Step], None]) -> None:
        """Show each step as soon as it is over."""
        self.done: list[Step] = []
        self._show = show
        self._began = anyio.current_time()

    async def run(self, variant: str, name: str, body: Callable[[], Awaitable[str]]) -> None:
        """Do one step; `body` returns what was seen. Raises Failed."""
        began = anyio.current_time()
        try:
            what, ok = await body(), True
        except PaidwatchError as error:
            what, ok = error.message, False
        over = anyio.current_time()
        step = Step(
            variant=variant,
            name=name,
            ok=ok,
            what=what,
            at=timedelta(seconds=over - self._began),
            took=timedelta(seconds=over - began),
        )
        self.done.append(step)
        self._show(step)
        if not ok:
            raise Failed(what)

    def overrun(self, limit: timedelta) -> None:
        """Note that the time is up; whatever was under way has no end."""
        at = timedelta(seconds=anyio.current_time() - self._began)
        what = f"it was not over within {limit.seconds} s"
        self.done.append(Step(variant="place", name="limit", ok=False, what=what, at=at, took=limit))
        self._show(self.done[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Everybody who takes part."""

    shop: Shop
    sink: Sink
    sender: Sender
    check: Callable[[], Awaitable[Ended]]
    """`paidwatch check --json`."""
    daemon_lives: Callable[[], bool]
    patience: timedelta
    """How long anything may take, the grace included."""
    wrong_secret: str


class Story:
    """Plays both variants."""

    def __init__(self, cast: Cast, steps: Steps) -> None:
        """Bind everybody."""
        self._cast = cast
        self._steps = steps

    async def play(self) -> None:
        """Play them one after the other. Raises Failed at the first step that does not come true."""
        await self._play_what_works()
        await self._play_what_fails()

    async def _play_what_works(self) -> None:
        shop, sink = self._cast.shop, self._cast.sink
        order = await self._pay("works", "drill1", "professional")
        body = await self._send("works", order, expect=_ACCEPTED)
        await self._await(
            "works", "passed on", "the application's handler got it byte for byte", lambda: _true(body in sink.handled)
        )
        await self._await(
            "works",
            "logged",
            "webhook_logs: signature valid, completed",
            lambda: _equal(shop.logged(order), (True, "completed")),
        )
        await self._await(
            "works",
            "activation",
            f"customer {order.customer} is active/{order.plan}, by paidwatch",
            lambda: _equal(shop.access(order), ("active", order.plan)),
        )
        await self._await(
            "works", "alert", "FIXED arrived", lambda: _true(sink.heard("FIXED", "paid_not_active", order.payment))
        )
        await self._await(
            "works", "end", "paidwatch follows no payment any more", lambda: _equal(shop.unfinished([order]), 0)
        )
        await self._check("works", [])

    async def _play_what_fails(self) -> None:
        shop, sink = self._cast.shop, self._cast.sink
        before = len(sink.handled)
        order = await self._pay("fails", "drill2", "vip_elite")
        await self._send("fails", order, expect=_REFUSED)
        await self._await(
            "fails",
            "logged",
            "webhook_logs: signature wrong, failed",
            lambda: _equal(shop.logged(order), (False, "failed")),
        )
        await self._await(
            "fails", "alert", "NEW arrived: bad signature", lambda: _true(sink.heard("NEW", "webhook_bad_signature"))
        )
        await self._await(
            "fails",
            "alert",
            f"NEW arrived: customer {order.customer} paid, not active",
            lambda: _true(sink.heard("NEW", "paid_not_active", order.payment)),
        )

        async def untouched() -> str:
            access = await shop.access(order)
            if access != ("inactive", "free") or len(sink.handled) != before:
                message = f"a webhook with a wrong signature had an effect: {'/'.join(access)}, or it was passed on"
                raise Failed(message)
            return f"customer {order.customer} is inactive/free, the handler got nothing"

        await self._steps.run("fails", "no effect", untouched)
        await self._check("fails", [str(order.payment)])

        async def late() -> str:
            await shop.activate(order)
            return f"the application activates customer {order.customer}, late"

        await self._steps.run("fails", "activation", late)
        await self._await(
            "fails",
            "alert",
            "RESOLVED arrived",
            lambda: _true(sink.heard("RESOLVED", "paid_not_active", order.payment)),
        )

    async def _pay(self, variant: str, name: str, plan: str) -> Order:
        made: list[Order] = []

        async def pay() -> str:
            order = await self._cast.shop.order(name, plan)
            made.append(order)
            await self._cast.shop.pay(order)
            access = "/".join(await self._cast.shop.access(order))
            return f"customer {order.customer} ({access}) pays {order.amount} USD for {plan}"

        await self._steps.run(variant, "payment", pay)
        return made[0]

    async def _send(self, variant: str, order: Order, *, expect: int) -> bytes:
        right = expect == _ACCEPTED
        sent: list[bytes] = []

        async def send() -> str:
            secret = None if right else self._cast.wrong_secret
            status, body = await self._cast.sender.send(order, secret=secret)
            sent.append(body)
            said = f"signature {'valid' if right else 'wrong'}, answered {status}"
            if status != expect:
                message = f"{said}, expected {expect}"
                raise Failed(message)
            return said

        await self._steps.run(variant, "webhook", send)
        return sent[0]

    async def _await(self, variant: str, name: str, what: str, holds: Callable[[], Awaitable[str]]) -> None:
        """Wait until `holds` returns "", otherwise what it is instead."""

        async def wait() -> str:
            instead = "nothing"
            with anyio.move_on_after(self._cast.patience.total_seconds()):
                while instead := await holds():
                    if not self._cast.daemon_lives():
                        message = f"the daemon ended; expected: {what}"
                        raise Failed(message)
                    await anyio.sleep(_LOOK)
                return what
            message = f"not within {self._cast.patience.seconds} s: {what} (seen: {instead})"
            raise Failed(message)

        await self._steps.run(variant, name, wait)

    async def _check(self, variant: str, payments: list[str]) -> None:
        """Ask `paidwatch check` which payments are gaps; what is about no payment row does not count here."""

        async def check() -> str:
            ended = await self._cast.check()
            found = _gaps(ended.output)
            own = [str(gap.get("payment_id")) for gap in found or [] if gap.get("payment_id")]
            if found is None or own != payments or ended.code != (1 if found else 0):
                message = f"`paidwatch check` ended with {ended.code}, gaps {own}, expected {payments}: {ended.errors}"
                raise Failed(message)
            return (
                f"paidwatch check: {len(own)} {'gap' if len(own) == 1 else 'gaps'} of payments, exit code {ended.code}"
            )

        await self._steps.run(variant, "check", check)


async def _true(said: bool) -> str:  # noqa: FBT001  the caller's whole sentence
    return "" if said else "nothing"


async def _equal(asked: Awaitable[object], expected: object) -> str:
    found = await asked
    return "" if found == expected else str(found)


def _gaps(output: str) -> list[dict[str, Any]] | None:
    """Return the gaps of `check --json`, None if it said no such thing."""
    try:
        said: Any = json.loads(output)
    except ValueError:
        return None
    return cast("list[dict[str, Any]]", said["gaps"]) if isinstance(said, dict) and "gaps" in said else None
