"""One term: connect, prove the listening, lead (or wait to), catch up, serve until the connection is lost or we stop.

Workers ⊃ sources. On a stop the sources (intake, reconciliation) end first; the workers finish what is under way.
Any loss of a connection ends the term; the next one begins from the database's state, and there is no other.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import anyio
from anyio.abc import TaskGroup

from paidwatch.errors import Unreachable
from paidwatch.flow.audit import Audit
from paidwatch.flow.crew import Crew
from paidwatch.flow.digest import Digest
from paidwatch.flow.fence import Fence, Gate
from paidwatch.flow.intake import Intake, Rhythm
from paidwatch.flow.listen import Ears, Locks
from paidwatch.flow.means import Means
from paidwatch.flow.pulse import Pulse
from paidwatch.flow.reconcile import Reconcile
from paidwatch.flow.signal import Signal
from paidwatch.store import breaker, forwards, installation
from paidwatch.store.connect import Connection, connect
from paidwatch.store.inbox import SESSION, Drained, Inbox
from paidwatch.store.installation import Installed, Server
from paidwatch.store.pool import BY_KEY, Database

FIRST_TRY = timedelta(seconds=1)
"""The first request for leadership waits this long; then we are a standby."""
LOOK = timedelta(seconds=2)
"""How often intake looks by itself where writers may not ring."""
DRAIN_LIMIT = timedelta(minutes=3)


class Term:
    """One try to serve; ends by a DatabaseError, or when `stopping` is set and the work is finished."""

    def __init__(self, means: Means, fence: Fence, stopping: anyio.Event, reloaded: Signal) -> None:
        """Bind the means; nothing is opened yet."""
        self._means = means
        self._fence = fence
        self._stopping = stopping
        self._reloaded = reloaded
        self._signal = Signal()
        self._crew: Crew | None = None
        self._outbox = Signal()

    async def serve(self) -> None:
        """Run the term. Raises DatabaseError when the connection cannot be had or is lost."""
        means = self._means
        gate = Gate(self._fence, means.statements)
        target = replace(means.target, greet=gate.greet)
        with ExitStack() as stack:
            ears = Ears(target, means.statements, self._signal)
            locks = Locks(target, means.statements)
            stack.callback(ears.close)
            stack.callback(locks.close)
            async with Database(target, means.statements, size=6, settings=BY_KEY) as database:
                ears.on_outbox = self._hear_outbox
                await ears.open()
                await self._verify(database)
                stack.callback(means.metrics.breaker, stopped=None)
                await self._show_breaker(database)
                stack.callback(means.lend, None)
                means.lend(database)
                await locks.open(FIRST_TRY)
                async with anyio.create_task_group() as guards:
                    guards.start_soon(_end_when_lost, ears.lost, name="watch the listening connection")
                    guards.start_soon(_end_when_lost, locks.lost, name="watch the lock connection")
                    guards.start_soon(self._follow_breaker, database, name="follow the breaker")
                    if await self._lead(locks, guards):
                        # While we stood by, the installation may have changed.
                        server, found = await self._verify(database)
                        reader = await connect(target, purpose="intake", settings=SESSION)
                        stack.callback(reader.terminate)
                        await self._rule(database, ears, locks, reader, server, found)
                    guards.cancel_scope.cancel()
                # Only where we stop: after a failure a polite goodbye would delay the next term.
                await locks.leave()

    async def _verify(self, database: Database) -> tuple[Server, Installed]:
        server = await database.read(installation.server)
        self._fence.check(server)
        found = await database.read(lambda session: installation.installed(session, self._means.mapping))
        installation.refuse_unfit(found)
        faults = await database.read(lambda session: installation.trigger_faults(session, found))
        if faults:
            self._means.status.trouble("triggers", f"{'; '.join(faults)}: run paidwatch install")
            self._means.log.error(
                "triggers.faulty", "triggers are not as installed; only reconciliation sees payments", faults=faults
            )
        else:
            self._means.status.beat("triggers")
        return server, found

    def _hear_outbox(self) -> None:
        """Somebody queued something to be told, or changed what the machine may do."""
        self._outbox.ring()
        if self._crew is not None:
            self._crew.look()

    async def _show_breaker(self, database: Database) -> None:
        standing = await database.read(breaker.standing)
        self._means.metrics.breaker(stopped=standing.opened_at is not None)

    async def _follow_breaker(self, database: Database) -> None:
        """Keep the metric right, also while another daemon leads; whoever moves the breaker rings for the outbox."""
        while True:
            await self._outbox.wait()
            await self._show_breaker(database)

    async def _lead(self, locks: Locks, guards: TaskGroup) -> bool:
        """Wait for leadership; False if we are to stop before."""
        means = self._means
        if not await locks.lead():
            means.status.standby()
            means.log.info("lead.waiting", "another daemon leads; standing by")
            means.on_ready()
            await locks.patience(means.leader_wait)
            guards.start_soon(self._leave_when_stopping, guards.cancel_scope, name="leave the queue")
            while not await locks.lead():
                pass
        await locks.patience(means.bell_slice)
        return not self._stopping.is_set()

    async def _leave_when_stopping(self, scope: anyio.CancelScope) -> None:
        await self._stopping.wait()
        if self._crew is None:
            scope.cancel()

    async def _rule(
        self, database: Database, ears: Ears, locks: Locks, reader: Connection, server: Server, found: Installed
    ) -> None:
        means = self._means
        crew = self._crew = Crew(means, database)

        def on_rows(_drained: Drained) -> None:
            crew.alarm.poke.ring()

        def on_look() -> None:
            self._signal.ring()
            means.receive.look()

        looks = server.two_phase and found.two_phase != "never"
        intake = Intake(
            inbox=Inbox(reader, means.statements),
            locks=locks,
            signal=self._signal,
            policy=means.policy,
            rhythm=Rhythm(linger=means.linger, drain_limit=DRAIN_LIMIT, look=LOOK if looks else None),
            status=means.status,
            metrics=means.metrics,
            on_rows=on_rows,
        )
        reconcile = Reconcile(
            database=database,
            policy=means.policy,
            status=means.status,
            log=means.log,
            audit=Audit(database=database, policy=means.policy, metrics=means.metrics, log=means.log),
            on_look=on_look,
            on_news=crew.alarm.poke.ring,
            on_told=crew.news,
            detect=crew.detect,
        )
        digest = Digest(database=database, policy=means.policy, status=means.status, log=means.log, on_news=crew.news)
        pulse = Pulse(
            database=database,
            ears=ears,
            session=means.http,
            policy=means.policy,
            status=means.status,
            clock=means.clock,
            log=means.log,
        )
        await database.write(lambda session: session.rows("release_leases"))
        await database.write(forwards.release)
        means.receive.look(twice=True)
        noted = await intake.drain()
        recovered = noted + await reconcile.catch_up(found)
        away = await database.write(lambda session: session.value("listening_again"))
        async with anyio.create_task_group() as workers:
            crew.start(workers)
            async with anyio.create_task_group() as sources:
                sources.start_soon(intake.run, name="intake")
                sources.start_soon(reconcile.run, name="reconcile")
                sources.start_soon(digest.run, name="digest")
                sources.start_soon(pulse.run, name="heartbeat")
                sources.start_soon(self._follow_reloads, workers, crew, (digest.poke, pulse.poke), name="reloads")
                self._announce(ears, recovered, away)
                await self._stopping.wait()
                sources.cancel_scope.cancel()
            crew.stop()
            workers.cancel_scope.deadline = anyio.current_time() + means.drain.total_seconds()
        await database.write(lambda session: session.rows("no_longer_listening"))

    def _announce(self, ears: Ears, recovered: int, away: timedelta | None) -> None:
        means = self._means
        blind = means.status.leading(recovered)
        if blind is not None:
            means.metrics.reconnected()
            away = blind.length
        if away is None:
            means.log.info("listen.ready", "listening, and caught up", recovered=recovered)
        else:
            seconds = round(away.total_seconds(), 1)
            means.log.warning(
                "listen.ready", "listening again, and caught up", blind_seconds=seconds, recovered=recovered, lost=0
            )
        means.on_ready()
        ears.on_ring = means.metrics.rang

    async def _follow_reloads(self, workers: TaskGroup, crew: Crew, pokes: Sequence[Signal]) -> None:
        while True:
            await self._reloaded.wait()
            crew.hire(workers)
            crew.look()
            for poke in pokes:
                poke.ring()


async def _end_when_lost(lost: anyio.Event) -> None:
    await lost.wait()
    message = "the connection to the database was lost"
    raise Unreachable(message, remedy="It is tried again by itself.")
