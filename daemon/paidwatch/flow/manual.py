"""Manual: a person asks for an activation. The same guards, the same transaction, another actor in the ledger.

Mode, caps and corroboration are the machine's reins and not asked of a person; every other guard is.
"""

from dataclasses import dataclass

from paidwatch.core.guards import Actor
from paidwatch.errors import Refused
from paidwatch.flow.grant import Ended, Prospect, Result, consider, grant
from paidwatch.flow.policy import Policy
from paidwatch.store import ledger, manual
from paidwatch.store.ledger import Claim
from paidwatch.store.pool import Database, Session

_WHO = "See who paid and is not active: paidwatch check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for, in the words of the one who asked."""

    user_id: str
    payment_id: str | None
    """None: the user's newest paid payment."""
    plan_id: str | None
    """None: what the payment bought; another plan is refused."""
    actor: str
    """`cli:NAME`."""
    reason: str


class Manual:
    """Looks first, then acts."""

    def __init__(self, *, database: Database, policy: Policy) -> None:
        """Bind the database and the owner's choices."""
        self._database = database
        self._policy = policy

    async def look(self, wish: Wish) -> Prospect:
        """Say what would come of it; nothing is written. Raises Refused where it is not clear what is meant."""

        async def body(session: Session) -> Prospect:
            async with manual.rolled_back(session):
                user_id, payment_id = await self._meant(session, wish)
                return await consider(session, self._policy, payment_id=payment_id, user_id=user_id, actor=Actor.MANUAL)

        return await self._database.read(body)

    async def carry_out(self, wish: Wish) -> tuple[int, Ended]:
        """Claim and grant in one transaction; return the activation's number and how it ended.

        Raises Refused where somebody was faster, and DatabaseError: then nothing was written.
        """
        return await self._database.write(lambda session: self._grant(session, wish))

    async def _grant(self, session: Session, wish: Wish) -> tuple[int, Ended]:
        user_id, payment_id = await self._meant(session, wish)
        await manual.lock(session, payment_id)
        found = await consider(session, self._policy, payment_id=payment_id, user_id=user_id, actor=Actor.MANUAL)
        number = await ledger.claim(
            session,
            payment_id=payment_id,
            user_id=user_id,
            actor=wish.actor,
            reason=wish.reason,
            guards=found.guards,
        )
        if number is None:
            who = await manual.current_claim(session, payment_id)
            message = f"payment {payment_id} is taken: {who or 'somebody is activating it'}"
            raise Refused(message, remedy=f"See what happened: paidwatch user {user_id}")
        claim = Claim(
            activation_id=number,
            payment_id=payment_id,
            user_id=user_id,
            actor=wish.actor,
            reason=wish.reason,
            attempts=0,
        )
        ended = await grant(session, claim, self._policy)
        if ended.result is Result.DONE:
            await session.rows("ring_outbox")
        return number, ended

    async def _meant(self, session: Session, wish: Wish) -> tuple[str, str]:
        """Return the keys of the user and of the payment that are meant."""
        user_id = await manual.user_key(session, wish.user_id)
        if user_id is None:
            message = f"there is no user {wish.user_id}"
            raise Refused(message, remedy=_WHO)
        payment_id = wish.payment_id or await manual.newest_payment(session, user_id)
        if payment_id is None:
            exists = await manual.user_exists(session, user_id)
            message = f"user {user_id} has no paid payment" if exists else f"there is no user {user_id}"
            raise Refused(message, remedy=_WHO)
        found = await manual.owned(session, payment_id)
        if found is None:
            message = f"there is no payment {payment_id}"
            raise Refused(message, remedy=f"See the user's payments: paidwatch user {user_id}")
        if found.user_id != user_id:
            message = f"payment {found.payment_id} is not a payment of user {user_id}"
            raise Refused(message, remedy=f"See the user's payments: paidwatch user {user_id}")
        if wish.plan_id is not None and wish.plan_id != found.plan_id:
            message = f"payment {found.payment_id} bought {found.plan_id or 'no plan'}, not {wish.plan_id}"
            raise Refused(message, remedy="One payment buys what it bought: leave --plan out.")
        return user_id, found.payment_id
