"""Rein: a person stops automatic activation by hand, and lets it go on; the breaker is what keeps it."""

from paidwatch.core.routing import About
from paidwatch.core.story import BREAKER
from paidwatch.core.text import stamp
from paidwatch.errors import Refused
from paidwatch.flow.policy import Policy
from paidwatch.flow.tend import Person
from paidwatch.store import breaker
from paidwatch.store.breaker import Standing
from paidwatch.store.pool import Database, Session

_SEE = "See how it stands: paidwatch activation status"


class Rein:
    """Pauses and resumes, each in one transaction that audits it and tells the channels."""

    def __init__(self, *, database: Database, policy: Policy) -> None:
        """Bind the database and the owner's choices."""
        self._database = database
        self._policy = policy

    async def pause(self, person: Person) -> None:
        """Stop the machine until somebody resumes. Raises Refused where it is stopped already, and DatabaseError."""

        async def body(session: Session) -> None:
            routing = self._policy.routing
            about = About(kind=BREAKER, severity=routing.severity(BREAKER), method=None, amount=None)
            reason = person.reason or "a person paused it"
            if not await breaker.pause(
                session, person.actor, reason, channels=routing.channels(about), severity=about.severity
            ):
                found = await breaker.standing(session)
                since = f" since {stamp(found.opened_at)}" if found.opened_at else ""
                why = f" ({found.opened_by}: {found.reason})"
                message = f"automatic activation is stopped already{since}{why}"
                raise Refused(message, remedy=_SEE)

        await self._database.write(body)

    async def resume(self, person: Person) -> Standing:
        """Let the machine act again, and return how it stood. Raises Refused where it was not stopped."""

        async def body(session: Session) -> Standing:
            before = await breaker.resume(session, person.actor)
            if before is None:
                message = "automatic activation is not stopped"
                raise Refused(message, remedy=_SEE)
            return before

        return await self._database.write(body)
