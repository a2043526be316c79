"""Listening: one connection for LISTEN, one for the locks; proven before anything relies on them."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg

from paidwatch.errors import DatabaseError, Unfit, Unreachable
from paidwatch.flow.signal import Signal
from paidwatch.store.connect import Connection, Target, connect, milliseconds, translated

if TYPE_CHECKING:
    from datetime import timedelta

    from paidwatch.store.statements import Statements

CHANNEL = "paidwatch"
OUTBOX = "outbox"
"""What a command says that queued something to deliver; every other message is a ring of the doorbell."""
MUFFLED = 0.5
"""How full the queue of notifications is when triggers stop ringing (sql/triggers.sql): a full one fails commits."""
_PROOF = 10.0
"""Seconds that a message to oneself may take."""
_ANSWER = 30.0
"""Seconds that the server may take to say that a wait for a lock is over, beyond the wait itself."""

_GOODBYE = 3.0
"""Seconds that the server may take to end a session that we leave."""


class Ears:
    """The connection that LISTENs. It rings `signal`, and `lost` once the server is gone."""

    def __init__(self, target: Target, statements: "Statements", signal: Signal) -> None:
        """Remember where to listen and whom to tell."""
        self._target = target
        self._statements = statements
        self._signal = signal
        self._nonces: dict[str, anyio.Event] = {}
        self._connection: Connection | None = None
        self.lost = anyio.Event()
        self.on_ring: Callable[[], None] | None = None
        self.on_outbox: Callable[[], None] | None = None

    async def open(self) -> None:
        """Connect, LISTEN, and prove it by a message to oneself from the query path.

        asyncpg may drop a notification that arrives in the same read as LISTEN's reply, so nothing may rely on the
        subscription before the proof. While the server's queue of notifications is full nobody can ring, we ourselves
        no more than the triggers: there is nothing to prove then, and intake looks by itself. Raises Unfit behind a
        pooler in transaction mode, and DatabaseError.
        """
        connection = await connect(self._target, purpose="listen")
        self._connection = connection
        connection.add_termination_listener(self._ended)
        with translated():
            await connection.add_listener(CHANNEL, self._heard)
            await self._prove(connection)

    async def _prove(self, connection: Connection) -> None:
        pooled = Unfit(
            "notifications do not arrive: the connection goes through a pooler in transaction or statement mode",
            remedy="Point [database] dsn at PostgreSQL itself, or use session pooling for paidwatch.",
        )
        if not await connection.fetchval(self._statements["listening"]):
            raise pooled
        try:
            heard = await self.hears(lambda nonce: connection.execute(self._statements["self_test"], nonce))
        except asyncpg.ProgramLimitExceededError:  # too many notifications in the queue
            return
        if not heard:
            raise pooled

    async def hears(self, send: Callable[[str], Awaitable[object]], *, within: float = _PROOF) -> bool:
        """Have a nonce sent by the statement `self_test`, wherever `send` runs it; False if it does not come back.

        It wakes nobody. Raises what `send` raises; `within` is in seconds and begins when `send` is done.
        """
        nonce = token_hex(8)
        arrived = self._nonces[nonce] = anyio.Event()
        try:
            await send(nonce)
            with anyio.move_on_after(within):
                await arrived.wait()
        finally:
            del self._nonces[nonce]
        return arrived.is_set()

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:  # noqa: ANN401  asyncpg's callback
        nonce = self._nonces.get(str(payload))
        if nonce is not None:
            nonce.set()
            return
        if payload == OUTBOX:
            if self.on_outbox is not None:
                self.on_outbox()
            return
        self._signal.ring()
        if self.on_ring is not None:
            self.on_ring()

    def _ended(self, _connection: Any) -> None:  # noqa: ANN401  asyncpg's callback
        self.lost.set()

    def close(self) -> None:
        """Drop the connection; never waits."""
        if self._connection is not None:
            self._connection.terminate()


class Locks:
    """The session that holds the bell and leadership; another one, because who waits for a lock hears nothing."""

    def __init__(self, target: Target, statements: "Statements") -> None:
        """Remember where to connect."""
        self._target = target
        self._statements = statements
        self._connection: Connection | None = None
        self._wait = 0.0
        self.lost = anyio.Event()

    async def open(self, wait: "timedelta") -> None:
        """Connect; no wait for a lock takes longer than `wait`."""
        self._wait = wait.total_seconds()
        settings = {"lock_timeout": str(milliseconds(wait)), "statement_timeout": "0"}
        self._connection = await connect(self._target, purpose="locks", settings=settings)
        self._connection.add_termination_listener(lambda _connection: self.lost.set())

    async def lead(self) -> bool:
        """Ask for leadership once; False if another daemon still has it when the wait is over."""
        return await self._take("lead")

    async def patience(self, wait: "timedelta") -> None:
        """Change how long a wait for a lock may take."""
        self._wait = wait.total_seconds()
        with translated():
            await self._open().execute("SELECT set_config('lock_timeout', $1, false)", str(milliseconds(wait)))

    async def hold_bell(self) -> bool:
        """Ask for the bell once; True when writers ring from now on."""
        return await self._take("hold_bell")

    async def release_bell(self) -> None:
        """Let writers share the bell: we are awake."""
        with translated():
            await self._open().execute(self._statements["release_bell"])

    async def muffled(self) -> bool:
        """Say whether triggers do not ring now, because the server's queue of notifications is filling up."""
        with translated():
            used: float = await self._open().fetchval(self._statements["notification_queue"])
        return used >= MUFFLED

    async def leave(self) -> None:
        """Give the locks back and end the session, also one whose wait for a lock was cancelled here.

        A server that waits for a lock does not notice that its client is gone; asyncpg tells it before it closes. A
        server that does not answer within `_GOODBYE` is left to find out by itself.
        """
        if self._connection is not None:
            with suppress(DatabaseError), translated():
                await self._connection.close(timeout=_GOODBYE)

    def close(self) -> None:
        """Drop the connection, and with it every lock; never waits."""
        if self._connection is not None:
            self._connection.terminate()

    async def _take(self, name: str) -> bool:
        with translated():
            try:
                # The connection's own limit for statements may be shorter than the wait; the server ends the wait.
                await self._open().execute(self._statements[name], timeout=self._wait + _ANSWER)
            except asyncpg.LockNotAvailableError:
                return False
        return True

    def _open(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            message = "the connection that holds the locks is gone"
            raise Unreachable(message, remedy="It is opened again by itself.")
        return self._connection
