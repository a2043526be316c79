"""One term: connect, prove the listening, lead (or wait to), catch up, serve until the connection is lost or we stop.

Workers ⊃ sources. On a stop the sources (intake, reconciliation) end first; the workers finish what is under way.
Any loss of a connection ends the term; the next one begins from the database's state, and there is no other.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta

import aiohttp
import anyio
from anyio.abc import TaskGroup

from paidwatch.errors import Unfit, Unreachable
from paidwatch.flow.activate import Activate
from paidwatch.flow.alarm import Alarm
from paidwatch.flow.audit import Audit
from paidwatch.flow.claim import Claimant
from paidwatch.flow.decide import Decide
from paidwatch.flow.deliver import Deliver
from paidwatch.flow.digest import Digest
from paidwatch.flow.intake import Intake, Rhythm
from paidwatch.flow.listen import Ears, Locks
from paidwatch.flow.policy import Policy
from paidwatch.flow.pulse import Pulse
from paidwatch.flow.reconcile import Reconcile
from paidwatch.flow.signal import Signal
from paidwatch.flow.sweep import Sweep
from paidwatch.log import Log
from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status
from paidwatch.ports import Clock, Transport
from paidwatch.store import installation
from paidwatch.store.connect import Connection, Target, connect
from paidwatch.store.inbox import SESSION, Drained, Inbox
from paidwatch.store.installation import Installed, Server
from paidwatch.store.pool import BY_KEY, Database, Session
from paidwatch.store.statements import Statements

FIRST_TRY = timedelta(seconds=1)
"""The first request for leadership waits this long; then we are a standby."""
LOOK = timedelta(seconds=2)
"""How often intake looks by itself where writers may not ring."""
DRAIN_LIMIT = timedelta(minutes=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What every term is made of; built once by the application."""

    target: Target
    statements: Statements
    mapping: dict[str, object]
    policy: Callable[[], Policy]
    transports: Callable[[], Sequence[Transport]]
    http: aiohttp.ClientSession
    clock: Clock
    status: Status
    metrics: Metrics
    log: Log
    linger: timedelta
    bell_slice: timedelta
    leader_wait: timedelta
    drain: timedelta
    """How long workers may take to finish when we stop."""
    on_ready: Callable[[], None]
    """Listening is proven and caught up, or we are a standby in waiting."""


class Fence:
    """Remembers which cluster was served: a fenced-off old primary that still answers must not be served again."""

    def __init__(self) -> None:
        """Start without a memory."""
        self._known: Server | None = None

    def check(self, found: Server) -> None:
        """Raise Unfit for a standby, another cluster, or a timeline that is behind the one served before."""
        if found.standby:
            message = "the server is a standby (read-only)"
            raise Unfit(message, remedy="Name all hosts in [database] dsn and add ?target_session_attrs=read-write.")
        known = self._known
        if known is not None and known.system_identifier != found.system_identifier:
            message = "the server that answers belongs to another cluster than before"
            raise Unfit(message, remedy="If that is meant, restart paidwatch; if not, correct the address.")
        if known is not None and found.timeline < known.timeline:
            message = "the server that answers is an old primary: its timeline is behind the one served before"
            raise Unfit(message, remedy="Take the old primary away, or correct the order of hosts in [database] dsn.")
        self._known = found


class Gate:
    """Lets the connections of one term in: they all lead to one server, and the fence lets it be served.

    With several hosts in the address every connection looks for its host anew, and finds an old primary that came back
    meanwhile; work on two servers at once would be told and booked on either.
    """

    def __init__(self, fence: Fence, statements: Statements) -> None:
        """Start open to any server; the first connection decides."""
        self._fence = fence
        self._statements = statements
        self._served: tuple[str, str] | None = None

    async def greet(self, connection: Connection) -> None:
        """Look at a new connection's server. Raises Unfit and DatabaseError."""
        found = await installation.server(Session(connection, self._statements))
        self._fence.check(found)
        this = (found.system_identifier, found.timeline)
        if self._served not in (None, this):
            message = "a new connection leads to another server than the ones before"
            raise Unfit(message, remedy="It is tried again by itself; see that only one of the hosts takes writes.")
        self._served = this


class Term:
    """One try to serve; ends by a DatabaseError, or when `stopping` is set and the work is finished."""

    def __init__(self, means: Means, fence: Fence, stopping: anyio.Event, reloaded: Signal) -> None:
        """Bind the means; nothing is opened yet."""
        self._means = means
        self._fence = fence
        self._stopping = stopping
        self._reloaded = reloaded
        self._signal = Signal()
        self._deliverers: dict[str, Deliver] = {}

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
                await ears.open()
                await self._verify(database)
                await locks.open(FIRST_TRY)
                async with anyio.create_task_group() as guards:
                    guards.start_soon(_end_when_lost, ears.lost, name="watch the listening connection")
                    guards.start_soon(_end_when_lost, locks.lost, name="watch the lock connection")
                    if await self._lead(locks, guards):
                        # While we stood by, the installation may have changed.
                        server, found = await self._verify(database)
                        reader = await connect(target, purpose="intake", settings=SESSION)
                        stack.callback(reader.terminate)
                        await self._rule(database, ears, locks, reader, server, found)
                    guards.cancel_scope.cancel()

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
        if not self._deliverers:
            scope.cancel()

    async def _rule(
        self, database: Database, ears: Ears, locks: Locks, reader: Connection, server: Server, found: Installed
    ) -> None:
        means = self._means
        alarm = self._alarm(database)

        def on_rows(_drained: Drained) -> None:
            alarm.poke.ring()

        def on_outbox() -> None:
            alarm.poke.ring()
            self._news()

        ears.on_outbox = on_outbox
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
            on_look=self._signal.ring,
            on_news=alarm.poke.ring,
            on_told=self._news,
        )
        digest = Digest(database=database, policy=means.policy, status=means.status, log=means.log, on_news=self._news)
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
        noted = await intake.drain()
        recovered = noted + await reconcile.catch_up(found)
        away = await database.write(lambda session: session.value("listening_again"))
        async with anyio.create_task_group() as workers:
            workers.start_soon(alarm.run, name="alarm")
            self._hire(workers, database)
            async with anyio.create_task_group() as sources:
                sources.start_soon(intake.run, name="intake")
                sources.start_soon(reconcile.run, name="reconcile")
                sources.start_soon(digest.run, name="digest")
                sources.start_soon(pulse.run, name="heartbeat")
                pokes = (alarm.poke, digest.poke, pulse.poke)
                sources.start_soon(self._follow_reloads, workers, database, pokes, name="reloads")
                self._announce(ears, recovered, away)
                await self._stopping.wait()
                sources.cancel_scope.cancel()
            alarm.stop()
            for deliverer in self._deliverers.values():
                deliverer.stop()
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

    def _alarm(self, database: Database) -> Alarm:
        means = self._means
        return Alarm(
            database=database,
            decide=Decide(
                database=database,
                policy=means.policy,
                claimant=Claimant(means.policy),
                metrics=means.metrics,
                log=means.log,
            ),
            sweep=Sweep(database=database, policy=means.policy, log=means.log),
            activate=Activate(database=database, policy=means.policy, metrics=means.metrics, log=means.log),
            status=means.status,
            on_news=self._news,
        )

    def _news(self) -> None:
        for deliverer in self._deliverers.values():
            deliverer.wake.ring()

    def _hire(self, workers: TaskGroup, database: Database) -> None:
        """One worker per configured channel; those of channels that are gone finish and leave."""
        means = self._means
        wanted = {transport.name: transport for transport in means.transports()}
        for name, former in list(self._deliverers.items()):
            if former.transport is not wanted.get(name):
                former.stop()
                del self._deliverers[name]
        for name, transport in wanted.items():
            if name not in self._deliverers:
                deliverer = Deliver(
                    transport=transport,
                    database=database,
                    policy=means.policy,
                    clock=means.clock,
                    status=means.status,
                    metrics=means.metrics,
                    log=means.log,
                )
                self._deliverers[name] = deliverer
                workers.start_soon(deliverer.run, name=f"deliver {name}")

    async def _follow_reloads(self, workers: TaskGroup, database: Database, pokes: Sequence[Signal]) -> None:
        while True:
            await self._reloaded.wait()
            self._hire(workers, database)
            for poke in pokes:
                poke.ring()


async def _end_when_lost(lost: anyio.Event) -> None:
    await lost.wait()
    message = "the connection to the database was lost"
    raise Unreachable(message, remedy="It is tried again by itself.")
