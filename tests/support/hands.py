"""What a person does by the commands, without a process for each: the same flow on the same database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
from click.testing import CliRunner, Result

from paidwatch.cli.root import main
from paidwatch.clock import SystemClock
from paidwatch.config import Settings, load
from paidwatch.core.guards import Guard
from paidwatch.errors import Refused
from paidwatch.flow.double import Double, Swept
from paidwatch.flow.grant import Ended
from paidwatch.flow.grant import Result as Granted
from paidwatch.flow.manual import Manual, Wish
from paidwatch.flow.policy import Policy
from paidwatch.flow.tend import Person
from paidwatch.flow.undo import Takeback, Undo, Undone
from paidwatch.log import Log
from paidwatch.store.pool import Database as Pool
from paidwatch.store.statements import Statements
from paidwatch.wiring import policy_of, target_of
from tests.support.postgres import Database
from tests.support.shop import add_payment, add_user, complete, now, update

ANN = Person(name="ann", reason="ticket 18")


@dataclass(slots=True, kw_only=True)
class Hands:
    """Acts for people on one database."""

    pool: Pool
    policy: Policy
    settings: Settings

    async def activate(
        self, user: Any, *, payment: Any = None, forced: frozenset[Guard] = frozenset(), reason: str = ""
    ) -> tuple[int, Ended]:
        """Activate one user, as `paidwatch activate` does after its look."""
        wish = Wish(
            user_id=str(user),
            payment_id=None if payment is None else str(payment),
            plan_id=None,
            actor="cli:ann",
            reason=reason,
            forced=forced,
        )
        manual = Manual(database=self.pool, policy=self.policy, application=None, clock=SystemClock())
        found = await manual.look(wish)
        if not found.allowed:
            raise Refused(" ".join(found.refusals))
        return await manual.carry_out(wish)

    async def granted(self, db: Database, **user: Any) -> tuple[Any, Any, int]:
        """Add a user whose payment was missed, and activate it; return user, payment and the activation's number."""
        person, payment = await missed(db, **user)
        number, ended = await self.activate(person)
        assert ended.result is Granted.DONE, ended
        return person, payment, number

    async def look(self, number: int) -> Takeback:
        return await Undo(database=self.pool, policy=self.policy).look(number)

    async def undo(self, number: int, person: Person = ANN) -> Undone:
        return await Undo(database=self.pool, policy=self.policy).carry_out(number, person)

    async def double(self, **policy: Any) -> Swept:
        chosen = replace(self.policy, **policy)
        return await Double(database=self.pool, policy=lambda: chosen, log=Log()).run()


@asynccontextmanager
async def hands_on(config: Path) -> AsyncIterator[Hands]:
    """Yield hands that work by this configuration."""
    settings = await anyio.to_thread.run_sync(lambda: load(config, {}, needs_database=True))
    statements = await anyio.to_thread.run_sync(Statements.load)
    target = replace(target_of(settings), connect_timeout=timedelta(seconds=20))
    async with Pool(target, statements, size=3) as pool:
        yield Hands(pool=pool, policy=policy_of(settings), settings=settings)


async def command(config: Path, *arguments: str, expect: int = 0) -> Result:
    """Run one command in this process, by a thread with a loop of its own."""
    runner = CliRunner()
    done = await anyio.to_thread.run_sync(lambda: runner.invoke(main, [*arguments, "--config", str(config)]))
    assert done.exit_code == expect, f"{arguments}: {done.exit_code}\n{done.output}"
    return done


async def missed(db: Database, **user: Any) -> tuple[Any, Any]:
    """Add a user who paid an hour ago and was not activated."""
    person = await add_user(db, **user)
    payment = await add_payment(db, person)
    await complete(db, payment)
    await update(db, "payments", payment, {"completed_at": await now(db) - timedelta(hours=1)})
    await db.execute("UPDATE paidwatch.inbox SET at = at - interval '1 hour'")
    return person, payment
