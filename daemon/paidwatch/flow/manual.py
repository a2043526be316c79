"""Manual: a person asks for an activation. The same guards, the same strategy, another actor in the ledger.

Mode, caps and corroboration are the machine's reins and not asked of a person; every other guard is, and can be
overridden only by its name and with a reason, which the ledger and the audit keep.
"""

from dataclasses import dataclass

from paidwatch.core.guards import Actor, Guard
from paidwatch.core.model import Subject
from paidwatch.errors import Refused
from paidwatch.flow.call import Call
from paidwatch.flow.grant import Ended, Prospect, Result, consider, grant
from paidwatch.flow.policy import Policy
from paidwatch.ports import Application, Clock
from paidwatch.store import ledger, manual, subjects
from paidwatch.store.ledger import Claim
from paidwatch.store.manual import Owned
from paidwatch.store.pool import Database, Session

_WHO = "See who paid and is not active: paidwatch check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for, in the words of the one who asked."""

    user_id: str
    payment_id: str | None
    """A row's key, or the provider's id of money that only signed webhooks tell of; None: the newest paid row."""
    plan_id: str | None
    """None: what the payment bought; another plan is refused."""
    actor: str
    """`cli:NAME`."""
    reason: str
    forced: frozenset[Guard] = frozenset()
    """Guards that are overridden."""


class Manual:
    """Looks first, then acts."""

    def __init__(self, *, database: Database, policy: Policy, application: Application | None, clock: Clock) -> None:
        """Bind the database, the owner's choices, and the application's endpoint where the strategy is http."""
        self._database = database
        self._policy = policy
        self._application = application
        self._clock = clock

    async def look(self, wish: Wish) -> Prospect:
        """Say what would come of it; nothing is written. Raises Refused where it is not clear what is meant."""

        async def body(session: Session) -> Prospect:
            async with manual.rolled_back(session):
                user_id, subject = await self._meant(session, wish)
                return await self._consider(session, wish, user_id, subject)

        return await self._database.read(body)

    async def carry_out(self, wish: Wish) -> tuple[int, Ended]:
        """Claim and grant; return the activation's number and how it ended.

        By the strategy sql that is one transaction; by http the application is asked in between. Raises Refused where
        somebody was faster, and DatabaseError: then nothing was written, or, after a request, the daemon finds out.
        """
        if self._policy.strategy != "http":
            return await self._database.write(lambda session: self._grant(session, wish))
        call = Call(database=self._database, policy=lambda: self._policy, application=lambda: self._application)

        async def claim(session: Session) -> int:
            return (await self._claim(session, wish)).activation_id

        return await call.by_hand(claim, clock=self._clock)

    async def _grant(self, session: Session, wish: Wish) -> tuple[int, Ended]:
        claim = await self._claim(session, wish)
        ended = await grant(session, claim, self._policy)
        if ended.result is Result.DONE:
            await session.rows("ring_outbox")
        return claim.activation_id, ended

    async def _consider(self, session: Session, wish: Wish, user_id: str, subject: Subject) -> Prospect:
        return await consider(
            session, self._policy, subject=subject, user_id=user_id, actor=Actor.MANUAL, forced=wish.forced
        )

    async def _claim(self, session: Session, wish: Wish) -> Claim:
        """Take the locks of an activation and write the ledger's row. Raises Refused where somebody was faster."""
        user_id, subject = await self._meant(session, wish)
        await subjects.lock(session, subject)
        found = await self._consider(session, wish, user_id, subject)
        number = await ledger.claim(
            session,
            subject=subject,
            user_id=user_id,
            actor=wish.actor,
            reason=wish.reason,
            guards=found.guards,
            strategy=self._policy.strategy,
            forced=wish.forced,
        )
        if number is None:
            who = await manual.current_claim(session, subject)
            message = f"payment {subject} is taken: {who or 'somebody is activating it'}"
            raise Refused(message, remedy=f"See what happened: paidwatch user {user_id}")
        return Claim(
            activation_id=number,
            subject=subject,
            user_id=user_id,
            actor=wish.actor,
            reason=wish.reason,
            attempts=0,
            strategy=self._policy.strategy,
            forced=wish.forced,
        )

    async def _meant(self, session: Session, wish: Wish) -> tuple[str, Subject]:
        """Return the key of the user, and the payment that is meant: by its row, or by what webhooks name it."""
        user_id = await manual.user_key(session, wish.user_id)
        if user_id is None:
            message = f"there is no user {wish.user_id}"
            raise Refused(message, remedy=_WHO)
        found = await self._named(session, user_id, wish.payment_id or await manual.newest_payment(session, user_id))
        if found.user_id != user_id:
            message = f"payment {found.subject} is not a payment of user {user_id}"
            raise Refused(message, remedy=f"See the user's payments: paidwatch user {user_id}")
        if wish.plan_id is not None and wish.plan_id != found.plan_id:
            message = f"payment {found.subject} bought {found.plan_id or 'no plan'}, not {wish.plan_id}"
            raise Refused(message, remedy="One payment buys what it bought: leave --plan out.")
        return user_id, found.subject

    @staticmethod
    async def _named(session: Session, user_id: str, name: str | None) -> Owned:
        """Return what a person names: a row by its key, or else money of this user that only webhooks tell of.

        Who names nothing, of a user without a paid row, means what stands as a gap.
        """
        found = None if name is None else await manual.owned(session, name)
        told = await manual.told(session, user_id, name)
        if told and found is not None and found.user_id != user_id:
            # A provider's id may look like the key of somebody else's payment.
            found = None
        if found is not None:
            return found
        if len(told) == 1:
            return told[0]
        if told:
            several = "; ".join(str(one.subject) for one in told)
            raise Refused(f"several payments may be meant: {several}", remedy="Name one by its id: --payment ID")
        if name is not None:
            message, remedy = f"there is no payment {name}", f"See the user's payments: paidwatch user {user_id}"
            raise Refused(message, remedy=remedy)
        exists = await manual.user_exists(session, user_id)
        raise Refused(f"user {user_id} has no paid payment" if exists else f"there is no user {user_id}", remedy=_WHO)
