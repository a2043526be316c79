"""The demo's application: the sample shop, played by its own SQL (`sql/sample/play.sql`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import anyio
from anyio import to_thread

from paidwatch.errors import Unreachable
from paidwatch.ops.shop import shop_sql
from paidwatch.store.connect import Connection, Target, connect, translated
from paidwatch.store.statements import blocks, sql_folder

DATABASE = "shop"
_LIMIT = timedelta(seconds=20)
_LOOK = 0.1
"""Seconds between two looks at what paidwatch has not come to an end with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One customer on the way to pay."""

    customer: int
    payment: int
    plan: str
    amount: Decimal

    @property
    def reference(self) -> str:
        """The provider's id of the payment."""
        return _reference(self.customer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What became of everything that was paid."""

    payments: int
    activated: int
    """By the shop, in time or late."""
    fixed: int
    """By paidwatch."""
    reversed: int
    open: int
    median: timedelta | None
    """From paid to activated by the shop."""


class Shop:
    """The application's connection to its own database; nothing in it knows of paidwatch."""

    def __init__(self, database: str) -> None:
        """Take the address of the shop's database, in which its tables are."""
        self._database = database
        self._statements: Mapping[str, str] = {}
        self._connection: Connection | None = None
        self._one_at_a_time = anyio.Lock()

    async def __aenter__(self) -> Self:
        """Open it. Raises DatabaseError."""
        self._statements = await to_thread.run_sync(_statements)
        self._connection = await connect(_target(self._database), purpose="demo shop")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave; the server is thrown away anyway."""
        if self._connection is not None:
            self._connection.terminate()

    async def order(self, name: str, plan: str) -> Order:
        """A new customer chooses a plan and is sent to the payment provider."""
        customer = (await self._row("register", name))["id"]
        made = await self._row("order", customer, plan, _reference(customer))
        return Order(customer=customer, payment=made["id"], plan=plan, amount=made["amount_usd"])

    async def pay(self, order: Order) -> None:
        """The money is there."""
        await self._run("pay", order.payment)

    async def refund(self, order: Order) -> None:
        """The money goes back."""
        await self._run("refund", order.payment)

    async def log_webhook(self, order: Order, error: str) -> None:
        """The provider's signed message arrives, and its handler fails with `error`."""
        await self._run("log_webhook", order.payment, error)

    async def logged(self, order: Order) -> tuple[bool | None, str] | None:
        """Return whether the signature of the payment's newest webhook was right, and what became of it; or None."""
        row = await self._row("logged", order.reference)
        return None if row["status"] is None else (row["valid"], row["status"])

    async def activate(self, order: Order) -> None:
        """The customer gets what was paid for."""
        await self._run("activate", order.payment)

    async def access(self, order: Order) -> tuple[str, str]:
        """Return the customer's status and tier."""
        row = await self._row("access", order.customer)
        return row["status"], row["tier"]

    async def unfinished(self, orders: Sequence[Order]) -> int:
        """Return how many of these paid payments paidwatch has not come to an end with."""
        found: int = (await self._row("unfinished", [str(order.payment) for order in orders]))["open"]
        return found

    async def finish(self, orders: Sequence[Order], limit: timedelta) -> int:
        """Wait until paidwatch has come to an end with these paid payments; return with how many not within `limit`."""
        with anyio.move_on_after(limit.total_seconds()):
            while await self.unfinished(orders):  # noqa: ASYNC110  the end is to be seen in the database only
                await anyio.sleep(_LOOK)
        return await self.unfinished(orders)

    async def figures(self) -> Figures:
        """Count what became of everything that was paid."""
        row = await self._row("figures")
        return Figures(
            payments=row["payments"],
            activated=row["activated"],
            fixed=row["fixed"],
            reversed=row["reversed"],
            open=row["open"],
            median=row["median"],
        )

    async def _row(self, name: str, *arguments: object) -> Any:  # noqa: ANN401  the caller knows the columns
        connection = self._open()
        with translated():
            async with self._one_at_a_time:
                row = await connection.fetchrow(self._statements[name], *arguments)
        if row is None:
            message = f"the shop's statement {name} returned nothing"
            raise LookupError(message)
        return row

    async def _run(self, name: str, *arguments: object) -> None:
        connection = self._open()
        with translated():
            async with self._one_at_a_time:
                await connection.execute(self._statements[name], *arguments)

    def _open(self) -> Connection:
        if self._connection is None:
            message = "the shop is closed"
            raise Unreachable(message)
        return self._connection


def _reference(customer: int) -> str:
    """Return an id as NOWPayments gives them: ten digits, so that it speaks for itself."""
    return str(5_745_459_000 + customer)


def _statements() -> Mapping[str, str]:
    return dict(blocks((sql_folder() / "sample/play.sql").read_text(encoding="utf-8")))


async def build(database: str, *, server: str | None = None) -> None:
    """Create the shop's tables, and its database before if the `server`'s first one is named. Raises DatabaseError."""
    if server is not None:
        await _execute(server, f"CREATE DATABASE {DATABASE}")
    await _execute(database, await to_thread.run_sync(shop_sql))


async def _execute(dsn: str, script: str) -> None:
    connection = await connect(_target(dsn), purpose="demo shop")
    try:
        with translated():
            await connection.execute(script)
    finally:
        connection.terminate()


def _target(dsn: str) -> Target:
    return Target(dsn=dsn, connect_timeout=_LIMIT, statement_timeout=_LIMIT)
