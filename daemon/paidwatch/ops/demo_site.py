"""The demo shop on the web: whoever runs the demo orders there, and comes back through paidwatch.

    POST /pay/COURSE  ──►  303 PAIDWATCH/payment/return?NP_id=…  ──►  303 /payment/success?session_id=…

The order is a row as the application writes it. What happens to it afterwards takes its time in a task of its own, so
that the page can be watched: paid, then what the button promised.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import count
from typing import Final, assert_never
from urllib.parse import urlencode

import anyio
from aiohttp import hdrs, web
from anyio.abc import TaskGroup, TaskStatus

from paidwatch.errors import PaidwatchError
from paidwatch.ops import demo_pages
from paidwatch.ops.demo_chat import SLACK, Chat
from paidwatch.ops.demo_pages import Course, Page
from paidwatch.ops.demo_shop import Order, Shop
from paidwatch.ops.demo_story import HANDLER_ERROR, Narrator, Voice
from paidwatch.ops.loopback import Loopback

SUCCESS: Final = "/payment/success"
"""Path of the success page."""
_MOST_AT_ONCE: Final = 20
_REMEMBERED: Final = 200
"""Visits of which the success page can say what happens."""
_PLAN: Final = "professional"


class Step(StrEnum):
    """What in a purchase takes its time."""

    PAY = "pay"
    ACTIVATE = "activate"
    HELP = "help"


_PAUSES: Final = {Step.PAY: 3.0, Step.ACTIVATE: 1.0, Step.HELP: 4.0}
"""Seconds: to find one's way on the page; less than the grace period; to read the alert."""


async def leisurely(step: Step) -> None:
    """Take the time that a person needs to follow."""
    await anyio.sleep(_PAUSES[step])


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What the shop remembers of a purchase."""

    course: Course
    way_back: str
    """Path and query by which the provider sends the customer back."""


class Site(Loopback):
    """The shop's web server. It shows its pages inside its block, and sells inside of `sells`."""

    def __init__(
        self,
        shop: Shop,
        chat: Chat,
        narrator: Narrator,
        *,
        snippet: str,
        paidwatch: str,
        patience: timedelta,
        pace: Callable[[Step], Awaitable[None]] = leisurely,
    ) -> None:
        """Bind the shop, the chat in which its people read, and who tells of it.

        `snippet` is the document's HTML, `paidwatch` the address of its pages, without a slash at the end. `patience`
        is how long what paidwatch is to do may take; `pace` takes the time before a step.
        """
        super().__init__(
            web.get("/", self._checkout),
            web.post("/pay/{course}", self._pay),
            web.get(SUCCESS, self._success),
        )
        self._shop = shop
        self._chat = chat
        self._narrator = narrator
        self._snippet = snippet
        self.paidwatch = paidwatch
        """Address of its pages."""
        self._patience = patience
        self._pace = pace
        self._numbers = count(1)
        self._visits: dict[str, Visit] = {}
        self._selling: TaskGroup | None = None
        self._under_way = 0

    @asynccontextmanager
    async def sells(self) -> AsyncGenerator[None]:
        """Sell; at the end wait for what has been begun, as far as patience goes."""
        async with anyio.create_task_group() as purchases:
            self._selling = purchases
            try:
                yield
            finally:
                self._selling = None
            if self._under_way:
                self._narrator.say(Voice.DEMO, "waiting for what visitors of the shop have begun")
            purchases.cancel_scope.deadline = anyio.current_time() + self._patience.total_seconds()

    async def _checkout(self, _request: web.Request) -> web.Response:
        return _answer(demo_pages.checkout(self.paidwatch))

    async def _success(self, request: web.Request) -> web.Response:
        """Show the same page to everybody; with an explanation to those who ordered here."""
        visit = self._visits.get(request.query.get("session_id", ""))
        if visit is None:
            return _answer(demo_pages.success(self._snippet, self.paidwatch))
        return _answer(demo_pages.success(self._snippet, self.paidwatch, visit.course, visit.way_back))

    async def _pay(self, request: web.Request) -> web.Response:
        """Take an order, send the customer on, and let things happen."""
        if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise web.HTTPForbidden
        try:
            course = Course(request.match_info["course"])
        except ValueError:
            raise web.HTTPNotFound from None
        if self._selling is None:
            return _answer(demo_pages.excuse("The shop is closed: the demo begins, or comes to its end."), 503)
        if self._under_way >= _MOST_AT_ONCE:
            return _answer(demo_pages.excuse("There are too many customers at once. Please wait a moment."), 503)
        try:
            reference: str = await self._selling.start(self._happen, course, name="purchase")
        except PaidwatchError as error:
            self._narrator.say(Voice.BAD, f"the shop cannot take an order: {error.message}")
            return _answer(demo_pages.excuse("The shop's database does not answer."), 503)
        name = "NP_id" if course is Course.RENAMED else "session_id"
        visit = Visit(course=course, way_back=f"/payment/return?{urlencode({name: reference})}")
        self._visits[reference] = visit
        if len(self._visits) > _REMEMBERED:
            del self._visits[next(iter(self._visits))]
        return web.Response(status=303, headers={hdrs.LOCATION: f"{self.paidwatch}{visit.way_back}"})

    async def _happen(self, course: Course, *, task_status: TaskStatus[str]) -> None:
        """Take the order, whose reference is what the task starts with, and play it. Raises what the order raises."""
        self._under_way += 1
        try:
            order = await self._shop.order(f"visitor{next(self._numbers)}", _PLAN)
            self._say(f"customer {order.customer} orders {order.plan} on the web")
            task_status.started(order.reference)
            try:
                await self._run(order, course)
            except PaidwatchError as error:
                self._narrator.say(Voice.BAD, f"the purchase of customer {order.customer} broke off: {error.message}")
        finally:
            self._under_way -= 1

    async def _run(self, order: Order, course: Course) -> None:
        """Play a purchase to its end, which is that paidwatch has nothing to do with it any more."""
        customer = order.customer
        await self._pace(Step.PAY)
        await self._shop.pay(order)
        match course:
            case Course.WORKS | Course.RENAMED:
                self._say(f"customer {customer} pays {order.amount}; the webhook comes")
                await self._pace(Step.ACTIVATE)
                await self._shop.activate(order)
                self._say(f"customer {customer} is active")
            case Course.BROKEN:
                await self._shop.log_webhook(order, HANDLER_ERROR)
                self._say(f"customer {customer} pays {order.amount}; the handler fails")
            case Course.SILENT:
                self._say(f"customer {customer} pays {order.amount}; the webhook never comes")
                if not await self._chat.wait_for(lambda: bool(self._chat.about(customer, SLACK)), self._patience):
                    self._narrator.say(Voice.BAD, f"nobody is told about customer {customer}")
                await self._pace(Step.HELP)
                await self._shop.activate(order)
                self._say(f"somebody helps: customer {customer} is active, late")
            case _ as unreachable:
                assert_never(unreachable)
        if await self._shop.finish([order], self._patience):
            self._narrator.say(Voice.BAD, f"paidwatch does not come to an end with customer {customer}")

    def _say(self, sentence: str) -> None:
        self._narrator.say(Voice.SHOP, sentence)


def _answer(page: Page, status: int = 200) -> web.Response:
    headers = {
        "Content-Security-Policy": page.policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        hdrs.CACHE_CONTROL: "no-store",
    }
    return web.Response(text=page.text, status=status, content_type="text/html", headers=headers)
