"""What happens in the demo's shop, and what paidwatch must have said about it: each round proves the whole way.

1. Customers whom the shop activates at once, and nobody hears of.
2. A webhook that never comes: NEW after the grace period; the shop activates late, and NEW becomes RESOLVED.
3. A signed webhook whose handler fails: paidwatch activates by itself, FIXED.
4. A refund within the grace period: silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from itertools import count
from typing import Protocol

import anyio

from paidwatch.ops.demo_chat import DISCORD, SLACK, Chat, Shown
from paidwatch.ops.demo_shop import Order, Shop

CHANNELS = (SLACK, DISCORD)
_BREATH = 0.7
"""Seconds between two scenes, so that a person can read."""
HANDLER_ERROR = "TypeError: unsupported plan"


class Voice(StrEnum):
    """Who speaks in the narration."""

    DEMO = "demo"
    SHOP = "shop"
    PAIDWATCH = "paidwatch"
    GOOD = "good"
    BAD = "bad"


class Narrator(Protocol):
    """Shows people what happens."""

    def say(self, voice: Voice, text: str) -> None:
        """Say one sentence."""
        ...

    def show(self, shown: Shown) -> None:
        """Show a message as it stands in the chat."""
        ...


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was played and what went wrong."""

    rounds: int = 0
    refunded: int = 0
    failures: list[str] = field(default_factory=list[str])


class Story:
    """Plays rounds in the shop and compares what was said with what is to be said."""

    def __init__(self, shop: Shop, chat: Chat, narrator: Narrator, *, patience: timedelta) -> None:
        """Bind the shop and the chat; `patience` is how long an expected message may take, the grace included."""
        self._shop = shop
        self._chat = chat
        self._narrator = narrator
        self._patience = patience
        self._numbers = count(1)
        self._refunded: list[Order] = []
        self.tally = Tally()

    async def play_round(self) -> None:
        """Play every kind of customer once; what does not come as promised is added to the tally's failures."""
        self.tally.rounds += 1
        silent = [await self._ordinary("professional"), await self._ordinary("vip_elite")]
        late = await self._paid("vip_elite", "the webhook never comes")
        broken = await self._paid("professional", "the handler fails")
        await self._shop.log_webhook(broken, HANDLER_ERROR)
        refunded = await self._paid("professional", "a mistake")
        await anyio.sleep(_BREATH)
        await self._shop.refund(refunded)
        self._narrator.say(Voice.SHOP, f"the payment of customer {refunded.customer} is refunded")
        self.tally.refunded += 1
        silent += [await self._ordinary("professional"), refunded]
        self._narrator.say(
            Voice.DEMO, f"customers {late.customer} and {broken.customer} have nothing; the grace period runs"
        )
        await self._expect(late, ["NEW"])
        await self._expect(broken, ["FIXED"])
        await self._expect_access(broken)
        await anyio.sleep(_BREATH)
        await self._shop.activate(late)
        self._narrator.say(Voice.SHOP, f"somebody helps: customer {late.customer} is active, late")
        await self._expect(late, ["NEW", "RESOLVED"])
        await self._expect_end([*silent, late, broken])
        for order in silent:
            self._expect_silence(order)

    async def _ordinary(self, plan: str) -> Order:
        order = await self._paid(plan, "the webhook comes")
        await anyio.sleep(_BREATH / 2)
        await self._shop.activate(order)
        self._narrator.say(Voice.SHOP, f"customer {order.customer} is active")
        return order

    async def _paid(self, plan: str, what: str) -> Order:
        order = await self._shop.order(f"customer{next(self._numbers)}", plan)
        await self._shop.pay(order)
        self._narrator.say(Voice.SHOP, f"customer {order.customer} pays {order.amount} ({plan}); {what}")
        return order

    async def _expect(self, order: Order, words: Sequence[str]) -> None:
        """Wait until every channel has said exactly these words about a customer."""

        def said(channel: str) -> list[str]:
            return [shown.word for shown in self._chat.about(order.customer, channel)]

        def all_said() -> bool:
            return all(len(said(channel)) >= len(words) for channel in CHANNELS)

        await self._chat.wait_for(all_said, self._patience)
        for channel in CHANNELS:
            if said(channel) != list(words):
                told = " ".join(said(channel)) or "nothing"
                self._fail(f"{channel} said {told} about customer {order.customer}, expected {' '.join(words)}")
        edits = [shown.edited for shown in self._chat.about(order.customer, DISCORD)]
        if edits and edits != [False] + [True] * (len(edits) - 1):
            self._fail(f"the message about customer {order.customer} was not edited in {DISCORD}")

    async def _expect_access(self, order: Order) -> None:
        status, tier = await self._shop.access(order)
        if (status, tier) != ("active", order.plan):
            self._fail(f"customer {order.customer} is {status}/{tier}, expected active/{order.plan}")

    async def _expect_end(self, orders: Sequence[Order]) -> None:
        """Wait until paidwatch follows none of the payments any more."""
        if left := await self._shop.finish(orders, self._patience):
            self._fail(f"paidwatch still follows {left} payments that have come to their end")

    def _expect_silence(self, order: Order) -> None:
        for channel in CHANNELS:
            for shown in self._chat.about(order.customer, channel):
                self._fail(f"{channel} said {shown.word} about customer {order.customer}, expected silence")

    def _fail(self, what: str) -> None:
        self.tally.failures.append(what)
        self._narrator.say(Voice.BAD, what)
