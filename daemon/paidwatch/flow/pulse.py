"""Pulse: the heartbeat that goes out while the whole pipe works, so that somebody else notices when it stops.

One beat: 1. the daemon leads and no worker is stuck; 2. a notification sent from the query path comes back on the
listening connection; 3. nothing that is due lies in the outbox for long; 4. at least one channel is not broken; then
the configured address is called. Silence is the message: whoever expects the beats tells people when they stay away.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, assert_never

import aiohttp
from yarl import URL

from paidwatch import __version__
from paidwatch.channels.http import Exchange, Limits, refuse
from paidwatch.core.text import span
from paidwatch.errors import DatabaseError, DeliveryError, Fault
from paidwatch.flow.listen import Ears
from paidwatch.flow.policy import Policy
from paidwatch.flow.signal import Signal
from paidwatch.log import Log
from paidwatch.ops.status import Role, Status
from paidwatch.ports import Clock
from paidwatch.store.digest import Outbox, pulse_state
from paidwatch.store.pool import Database, Session

LIMITS: Final = Limits(total=timedelta(seconds=5), connect=timedelta(seconds=5))
OLDEST: Final = timedelta(minutes=10)
"""What is due to be sent for longer than this says that nobody is being told."""
_CANARY: Final = 10.0
"""Seconds in which the canary has to come back; less where the beats are more frequent."""


class Reason(StrEnum):
    """Why there is no beat."""

    NOT_LEADING = "this daemon does not lead"
    STUCK = "a worker is stuck"
    DATABASE = "the database could not be asked"
    DEAF = "a notification did not come back on the listening connection"
    OUTBOX = "a message is due and unsent for more than ten minutes"
    NO_CHANNEL = "no channel works"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The beat was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """Something of the pipe does not work, so there was no beat."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The pipe works, and the beat was not taken; the words are constant and hold no address."""

    code: str
    error: str


Beat = Sent | Withheld | Failed


class Pulse:
    """The heartbeat of one term; silent, and nothing asked of the server, where no address is configured."""

    def __init__(
        self,
        *,
        database: Database,
        ears: Ears,
        session: aiohttp.ClientSession,
        policy: Callable[[], Policy],
        status: Status,
        clock: Clock,
        log: Log,
    ) -> None:
        """Bind the pipe that is watched, and the session that the beats are sent with; it belongs to the caller."""
        self._database = database
        self._ears = ears
        self._session = session
        self._policy = policy
        self._status = status
        self._clock = clock
        self._log = log
        self._logged: tuple[type[Beat], str] | None = None
        self.poke = Signal()
        """To be rung when the configuration has changed."""

    async def run(self) -> None:
        """Beat at the configured interval until cancelled; a failure of any kind waits for the next beat."""
        while True:
            every = self._policy().heartbeat_every if self._policy().heartbeat_url else None
            if every is not None:
                started = self._clock.monotonic()
                await self.beat()
                every -= self._clock.monotonic() - started
            await self.poke.wait(every)

    async def beat(self) -> Beat | None:
        """Look at the pipe and send one beat if it works; None where no address is configured."""
        policy = self._policy()
        if not policy.heartbeat_url:
            return None
        withheld = await self._fault(policy)
        beat = withheld or await self._send(policy.heartbeat_url)
        self._tell(beat)
        return beat

    async def _fault(self, policy: Policy) -> Withheld | None:
        """Return what of the pipe does not work; the cheapest question comes first."""
        if self._status.role is not Role.LEADER:
            return Withheld(reason=Reason.NOT_LEADING, detail=self._status.role.value)
        stuck = self._status.alive()
        if stuck is not None:
            return Withheld(reason=Reason.STUCK, detail=stuck)
        try:
            if not await self._ears.hears(self._canary, within=min(_CANARY, policy.heartbeat_every.total_seconds())):
                return Withheld(reason=Reason.DEAF)
            outbox = await self._database.read(lambda session: pulse_state(session, policy.channels))
        except DatabaseError as error:
            return Withheld(reason=Reason.DATABASE, detail=error.message)
        return _fault_of(outbox)

    async def _canary(self, nonce: str) -> None:
        async def send(session: Session) -> None:
            await session.rows("self_test", nonce)

        await self._database.read(send)

    async def _send(self, address: str) -> Sent | Failed:
        try:
            url = URL(address, encoded=True)
        except ValueError:  # the configuration was checked; its text is in the exception, and secret
            return Failed(code="address", error="the address is not an http or https address")
        now = self._clock.now()
        body = json.dumps({"program": "paidwatch", "version": __version__, "at": now.isoformat(), "state": "working"})
        try:
            answer = await Exchange(self._session, LIMITS).request("POST", url, body=body.encode())
        except DeliveryError as error:
            return Failed(code=error.code, error=error.message)
        if 200 <= answer.status < 300:  # noqa: PLR2004
            return Sent()
        refusal = refuse("the receiver of the heartbeat", answer, now=now, fault=Fault.TRANSIENT)
        return Failed(code=refusal.code, error=refusal.message)

    def _tell(self, beat: Beat) -> None:
        """Write one line when something changed."""
        match beat:
            case Sent():
                if self._is_news(beat, ""):
                    self._log.info("heartbeat.sent", "the whole pipe works, and the heartbeat goes out")
            case Withheld():
                if self._is_news(beat, beat.reason):
                    self._log.error(
                        "heartbeat.withheld",
                        "the pipe does not work as a whole: no heartbeat goes out",
                        reason=beat.reason.value,
                        detail=beat.detail or None,
                    )
            case Failed():
                if self._is_news(beat, beat.code):
                    self._log.warning(
                        "heartbeat.failed",
                        "the heartbeat was not taken; the next one comes at its time",
                        code=beat.code,
                        error=beat.error,
                    )
            case _ as unreachable:
                assert_never(unreachable)

    def _is_news(self, beat: Beat, why: str) -> bool:
        known, self._logged = self._logged, (type(beat), why)
        return self._logged != known


def _fault_of(outbox: Outbox) -> Withheld | None:
    if not outbox.living:
        return Withheld(reason=Reason.NO_CHANNEL)
    if outbox.oldest is not None and outbox.oldest >= OLDEST:
        return Withheld(reason=Reason.OUTBOX, detail=f"for {span(outbox.oldest)}")
    return None
