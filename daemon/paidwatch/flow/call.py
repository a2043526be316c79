"""Call: one activation over HTTP, step by step; the ledger says which step comes next, whoever takes it.

    claimed ──► plan: guards asked again under the user's lock, plan stored ──► calling ──► request, outside of any
                                                                       ▲                    transaction
                       asked again, if the tables show nothing,        │                          │
                       the pause is over and the guards still hold ────┴──── read back ◄──────────┘
                                                                                │
                                      done · refused (the application did it itself, a guard says no) · failed

Crash points: before the plan is stored nothing was asked; after it the tables are read before anything is asked again,
so a request that was answered, or was not, or is still at work, is found out about and not repeated.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never

import anyio

from paidwatch.core.grant import Grant, in_words
from paidwatch.core.readback import (
    Asked,
    Next,
    before,
    follow,
    mark,
    next_read,
    read_back,
    reason_of,
    wait_between,
    why_given_up,
)
from paidwatch.flow.grant import Ended, Prospect, Result, agreed, ask_again, fixed, refused
from paidwatch.flow.policy import Policy
from paidwatch.ports import Application, Ask, Clock, Reply
from paidwatch.store import calls, ledger, subjects
from paidwatch.store.calls import Plan, Taken
from paidwatch.store.ledger import Claim
from paidwatch.store.pool import Database, Session

SLACK: Final = timedelta(seconds=5)
"""What an answer may take beyond its limit until it is written down."""
LONGEST_WISH: Final = timedelta(hours=1)
"""A Retry-After beyond this is taken for a mistake."""
DAY: Final = timedelta(days=1)
PATIENCE: Final = timedelta(minutes=1)
"""How long a person waits for the end."""
UNCLEAR: Final = "The application was asked, and its tables do not show the activation yet; the daemon follows it up."
NOBODY: Final = "Not activated: no endpoint of the application is configured any more."
BY_OTHERS: Final = "Not activated by paidwatch: the application activated it itself meanwhile."


@dataclass(frozen=True, slots=True, kw_only=True)
class Speak:
    """The plan is committed: ask the application now."""

    application: Application
    activation_id: int
    call: int
    ask: Ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Nothing to do before `until`, by the database's clock as `now` is."""

    now: datetime
    until: datetime
    asked: Asked


Step = Speak | Rest | Ended


class Call:
    """Takes activations over HTTP from step to step."""

    def __init__(
        self,
        *,
        database: Database,
        policy: Callable[[], Policy],
        application: Callable[[], Application | None],
        on_failed: Callable[[Session], Awaitable[None]] | None = None,
    ) -> None:
        """Bind what it works with; `on_failed` follows a failure, in its transaction."""
        self._database = database
        self._policy = policy
        self._application = application
        self._on_failed = on_failed

    @property
    def longest(self) -> timedelta:
        """Return the longest that one request may take."""
        application = self._application()
        return SLACK if application is None else application.timeout + SLACK

    async def advance(self, activation_id: int) -> Rest | Ended:
        """Take one activation as far as it goes without waiting. Raises DatabaseError."""
        step = await self._database.write(lambda session: self.decide(session, activation_id))
        while isinstance(step, Speak):
            step = await self.speak(step)
        return step

    async def by_hand(
        self, claim: Callable[[Session], Awaitable[int]], *, clock: Clock, patience: timedelta = PATIENCE
    ) -> tuple[int, Ended]:
        """Claim with `claim`, plan in the same transaction, and see it through; return the number and how it ended.

        What is not known after `patience` the daemon finds out: UNDER_WAY. Raises what `claim` raises, and
        DatabaseError; before the first request nothing is left behind then.
        """

        async def begin(session: Session) -> tuple[int, Step]:
            number = await claim(session)
            return number, await self.decide(session, number)

        given_up_at = clock.monotonic() + patience
        number, step = await self._database.write(begin)
        while not isinstance(step, Ended):
            if isinstance(step, Speak):
                step = await self.speak(step)
                continue
            wait = max(step.until - step.now, timedelta())
            if clock.monotonic() + wait > given_up_at:
                step = Ended(result=Result.UNDER_WAY, guards=(), notes=(UNCLEAR,))
                break
            await clock.sleep(wait)
            step = await self._database.write(lambda session: self.decide(session, number))
        if step.result is Result.GONE:
            step = await self._database.read(lambda session: _as_others_ended_it(session, number)) or step
        await self._database.write(lambda session: session.rows("ring_outbox"))
        return number, step

    async def speak(self, step: Speak) -> Step:
        """Ask the application, outside of any transaction, and write down what came of it. Raises DatabaseError."""
        # Whoever was held up until others may ask as well (a stopped process, a slow commit) asks no more.
        reply = Reply(code="connect_timeout", said="it was too late to ask", reached=False)
        if await self._database.read(lambda session: calls.fresh(session, step.activation_id, step.call, SLACK)):
            reply = Reply(code="timeout", said="there was no answer in time")
            with anyio.move_on_after((step.application.timeout + SLACK).total_seconds()):
                reply = await step.application.activate(step.ask)
        return await self._database.write(lambda session: self._answered(session, step, reply))

    async def decide(self, session: Session, activation_id: int) -> Step:
        """Decide the next step in the caller's transaction: plan what was claimed, read back what was asked for."""
        taken = await calls.take(session, activation_id)
        if taken is None:
            return Ended(result=Result.GONE, guards=())
        if taken.asked is None or taken.plan is None:
            return await self._plan(session, taken)
        return await self._read_back(session, taken, taken.asked, taken.plan)

    async def _plan(self, session: Session, taken: Taken) -> Step:
        """Ask the guards with the user's row locked, and keep what will be asked for."""
        claim, application = taken.claim, self._application()
        found = await ask_again(session, claim, self._policy())
        grant = agreed(claim, found)
        if grant is None or application is None:
            await ledger.finish(session, claim.activation_id, state="refused", guards=found.guards, before=found.before)
            return await refused(session, claim, found, () if grant is None else (NOBODY,))
        marked = mark(taken.installation_id, claim.activation_id)
        plan = Plan(
            ask=_ask(claim, found, grant, marked),
            granted=in_words(grant),
            start=before(found.facts, self._policy().rules, _paid_until(grant)),
            before=found.before,
        )
        number = await calls.plan(
            session,
            claim.activation_id,
            plan,
            grant,
            guards=found.guards,
            answered=application.timeout + SLACK,
            again=wait_between(1, timeout=application.timeout, retry_after=application.retry_after),
        )
        return self._speak(claim, number, plan, application)

    async def _answered(self, session: Session, step: Speak, reply: Reply) -> Step:
        """Keep the answer, and read back at once whatever it was."""
        taken = await calls.take(session, step.activation_id)
        wish = min(reply.retry_after or timedelta(), LONGEST_WISH)
        asked = await calls.note_answer(session, step.activation_id, step.call, reply.code, wish)
        if taken is None or taken.plan is None or asked is None:
            return Ended(result=Result.GONE, guards=())
        return await self._read_back(session, taken, asked, taken.plan)

    async def _read_back(self, session: Session, taken: Taken, asked: Asked, plan: Plan) -> Step:
        """Read the tables with the user's row locked, and go on from what they show."""
        claim, policy, application = taken.claim, self._policy(), self._application()
        found = await ask_again(session, claim, policy)
        traces = await calls.traces(session, claim.user_id, mark(taken.installation_id, claim.activation_id))
        shown = read_back(found.facts, traces, policy.rules, asked, plan.start)
        most = 0 if application is None else application.most_calls
        match follow(shown, asked, most_calls=most, now=found.now):
            case Next.DONE:
                event = next((trace.event_id for trace in traces if not trace.failed), None)
                return await self._done(session, claim, asked, plan, found, event)
            case Next.YIELD:
                await calls.end(session, claim.activation_id, asked.calls, state="refused", error=BY_OTHERS)
                return await refused(session, claim, found, (BY_OTHERS,))
            case Next.READ:
                pause = SLACK if application is None else application.retry_after
                until = next_read(asked, now=found.now, retry_after=pause)
                await calls.read_later(session, claim.activation_id, asked.calls, until)
                return Rest(now=found.now, until=until, asked=asked)
            case Next.ASK if application is not None:
                return await self._ask_again(session, claim, asked, plan, found, application)
            case Next.ASK | Next.GIVE_UP:
                return await self._give_up(session, claim, asked, plan, found, why_given_up(shown, asked))
            case _ as unreachable:
                assert_never(unreachable)

    async def _ask_again(
        self, session: Session, claim: Claim, asked: Asked, plan: Plan, found: Prospect, application: Application
    ) -> Step:
        """The tables show nothing and the pause is over: once more, if the guards still hold."""
        if agreed(claim, found) is None:
            await calls.end(session, claim.activation_id, asked.calls, state="refused", guards=found.guards)
            return await refused(session, claim, found)
        number = await calls.again(
            session,
            claim.activation_id,
            asked.calls,
            guards=found.guards,
            answered=application.timeout + SLACK,
            again=wait_between(asked.calls + 1, timeout=application.timeout, retry_after=application.retry_after),
        )
        return self._speak(claim, number, plan, application)

    @staticmethod
    def _speak(claim: Claim, number: int | None, plan: Plan, application: Application) -> Step:
        if number is None:
            return Ended(result=Result.GONE, guards=())
        return Speak(application=application, activation_id=claim.activation_id, call=number, ask=plan.ask)

    async def _done(
        self, session: Session, claim: Claim, asked: Asked, plan: Plan, found: Prospect, event_id: str | None
    ) -> Ended:
        """The tables show it: `found.before` is how the user is now, the plan's is how it was."""
        policy = self._policy()
        note = f"Activated by the application on paidwatch's request ({claim.actor}): {_has(found, plan)}."
        done = Ended(
            result=Result.DONE,
            guards=found.guards,
            notes=(note, *_beyond(found, plan, policy.rules.period_slack)),
            before=plan.before,
            after=found.before,
            event_id=event_id,
            about=str(claim.subject),
        )
        await calls.end(session, claim.activation_id, asked.calls, state="done", after=done.after, event_id=event_id)
        await fixed(session, claim, policy, found.now, done, _for_the_audit(asked, plan))
        return done

    async def _give_up(
        self, session: Session, claim: Claim, asked: Asked, plan: Plan, found: Prospect, why: str
    ) -> Ended:
        """For a person: nothing is asked again by the machine."""
        notes = (f"Activation over HTTP failed: {why}.",)
        await calls.end(session, claim.activation_id, asked.calls, state="failed", after=found.before, error=why)
        await ledger.audit(
            session,
            actor=claim.actor,
            act="activation_failed",
            subject=claim.subject,
            user_id=claim.user_id,
            detail={"activation_id": claim.activation_id, "why": why, "after": found.before}
            | _for_the_audit(asked, plan),
        )
        await subjects.note_refusal(session, claim.subject, notes)
        if self._on_failed is not None:
            await self._on_failed(session)
        await session.rows("tell_feed")
        return Ended(
            result=Result.FAILED,
            guards=found.guards,
            notes=notes,
            before=plan.before,
            after=found.before,
            about=str(claim.subject),
        )


def _ask(claim: Claim, found: Prospect, grant: Grant, marked: str) -> Ask:
    payment, key = found.facts.payment, claim.subject.payment_id or claim.subject.reference or ""
    return Ask(
        activation_id=claim.activation_id,
        user_id=grant.user_id,
        plan_id=str(grant.user["plan_id"]),
        days=_days(found, grant),
        reason=reason_of(claim.reason, marked),
        payment_id=key,
        reference=(payment.reference if payment is not None else None) or key,
    )


def _days(found: Prospect, grant: Grant) -> int:
    """Return the days from now to the planned paid-until, to the nearest; of a plan that is for ever, its duration.

    An application that counts from now so arrives at domain.md's I4, what is left of the current period included.
    """
    until = _paid_until(grant)
    plan = found.facts.plan
    span = until - found.now if until is not None else plan.duration if plan is not None else timedelta()
    return max(round(span / DAY), 1)


def _paid_until(grant: Grant) -> datetime | None:
    until = grant.user["paid_until"]
    return until if isinstance(until, datetime) else None


def _has(found: Prospect, plan: Plan) -> str:
    """Say what the user has now: `professional until 2026-12-23 12:54 UTC`."""
    user = found.facts.subscriber
    if user is None or user.tier is None or not user.paid_until_watched:
        return plan.granted
    return f"{user.tier} {f'until {user.paid_until:%Y-%m-%d %H:%M} UTC' if user.paid_until else 'for ever'}"


def _beyond(found: Prospect, plan: Plan, slack: timedelta) -> tuple[str, ...]:
    """Say so if the application gave clearly more than was planned: its endpoint may count the days from elsewhere."""
    user = found.facts.subscriber
    has = None if user is None else user.paid_until
    planned = plan.start.paid_until
    if user is None or not user.paid_until_watched or planned is None:
        return ()
    if has is not None and has <= planned + max(slack, DAY):
        return ()
    return (f"That is more than was paid for, which is {plan.granted}: check {{days}} in [activation.http] body.",)


def _for_the_audit(asked: Asked, plan: Plan) -> dict[str, object]:
    return {"strategy": "http", "calls": asked.calls, "answer": asked.answer, "planned": plan.granted}


async def _as_others_ended_it(session: Session, activation_id: int) -> Ended | None:
    """Return the end that another worker wrote; None: there is none."""
    found = await calls.ending(session, activation_id)
    match found:
        case ("done", _):
            return Ended(result=Result.DONE, guards=(), notes=("Activated by the application on paidwatch's request.",))
        case ("refused" | "failed" as state, why):
            result = Result.REFUSED if state == "refused" else Result.FAILED
            return Ended(result=result, guards=(), notes=(why or "Not activated.",))
        case _:
            return None
