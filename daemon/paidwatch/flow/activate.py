"""Activate: what the machine claimed is granted by flow.grant, tried again where the database refused, or given up.

Crash points: before the transaction commits nothing happened and the claim is due again; after it everything did.
"""

from collections.abc import Callable

from paidwatch.core.timing import retry_delay
from paidwatch.errors import DatabaseError
from paidwatch.flow import breaker
from paidwatch.flow.grant import Result, grant
from paidwatch.flow.policy import Policy
from paidwatch.log import Log
from paidwatch.ops.metrics import ActivationResult, Metrics
from paidwatch.store import ledger
from paidwatch.store.ledger import Claim
from paidwatch.store.pool import Database, Session
from paidwatch.store.subjects import note_refusal

BATCH = 20
TRIES = 5


class Activate:
    """Grants claims."""

    def __init__(self, *, database: Database, policy: Callable[[], Policy], metrics: Metrics, log: Log) -> None:
        """Bind the database and the owner's choices."""
        self._database = database
        self._policy = policy
        self._metrics = metrics
        self._log = log

    async def run_due(self) -> int:
        """Grant the claims that are due; return how many were handled. Raises DatabaseError."""
        due = await self._database.read(lambda session: ledger.claimed(session, BATCH))
        for claim in due:
            await self._handle(claim)
        return len(due)

    async def _handle(self, claim: Claim) -> None:
        try:
            ended = await self._database.write(lambda session: grant(session, claim, self._policy()))
        except DatabaseError as error:
            # A row that the application keeps locked, a trigger of its own that refuses: this claim's trouble alone.
            # Where the database is gone, writing this down fails as well and ends the term.
            await self._failed(claim, error.message)
            return
        match ended.result:
            case Result.DONE:
                self._metrics.activation(ActivationResult.DONE)
                self._log.warning(
                    "activation.done", "a subscription was activated", payment=str(claim.subject), user=claim.user_id
                )
            case Result.REFUSED:
                self._metrics.activation(ActivationResult.REFUSED)
                self._log.warning(
                    "activation.refused",
                    "an activation was refused",
                    payment=str(claim.subject),
                    why=" ".join(ended.notes),
                )
            case Result.GONE | Result.FAILED | Result.UNDER_WAY:
                pass  # somebody else ended it; the two others are of the strategy http (flow.call)

    async def _failed(self, claim: Claim, error: str) -> None:
        """The database refused to write: again later, then for a person."""
        if claim.attempts + 1 < TRIES:
            wait = retry_delay(claim.attempts + 1, roll=1.0)
            await self._database.write(lambda session: ledger.retry(session, claim.activation_id, wait, error))
        else:
            opened = await self._database.write(lambda session: self._give_up(session, claim, error))
            if opened is not None:
                breaker.say(self._log, opened)
        self._metrics.activation(ActivationResult.FAILED)
        self._log.error(
            "activation.failed", "an activation could not be written", payment=str(claim.subject), error=error
        )

    async def _give_up(self, session: Session, claim: Claim, error: str) -> str | None:
        """End the claim as failed; return why the breaker was opened over it, if it was."""
        await ledger.finish(session, claim.activation_id, state="failed", guards=(), error=error)
        await note_refusal(session, claim.subject, [f"Activation failed {TRIES} times: {error}"])
        return await breaker.check(session, self._policy())
