"""Approve: supervised mode's link. Made when a message is sent; looked at as often as one likes; it acts once.

A link stands for a person's yes and for nothing else: mode, caps and breaker, which rein in the machine, are not asked,
and every other guard is, corroboration too, because whoever can open a message has seen no money. What it does is one
transaction: nobody else decides about the payment meanwhile, the link is remembered as used, the alert must still be
open, the guards are asked with the user's row locked, and the grant is written by flow.grant, or claimed for the daemon
that asks the application over HTTP.
"""

from collections.abc import Callable
from datetime import datetime

from paidwatch.core.approval import Acted, Approved, End, Offer, Over, Result, Seen, Unknown
from paidwatch.core.grant import GRANTABLE, Grant, plan_grant
from paidwatch.core.guards import Actor, Mode, Reason
from paidwatch.core.link import Permit, Refusal, authentic, digest, sign, verify
from paidwatch.core.model import Facts, Gap, Subject
from paidwatch.core.said import person
from paidwatch.core.story import State, Story
from paidwatch.core.text import money, stamp
from paidwatch.core.verdict import judge
from paidwatch.flow.claim import guard
from paidwatch.flow.grant import Prospect, consider, grant, refused
from paidwatch.flow.grant import Result as Granted
from paidwatch.flow.policy import Policy
from paidwatch.log import Log
from paidwatch.ops.metrics import ActivationResult, Metrics
from paidwatch.store import ledger, links, manual, subjects, watches
from paidwatch.store.ledger import Claim
from paidwatch.store.links import Standing
from paidwatch.store.pool import Database, Session

_NOTHING_OWED = "Not activated: nothing is owed any more."
_HOW = {
    "sql": "paidwatch writes it into the application's tables.",
    "http": "paidwatch asks the application to do it, and looks whether it did.",
}


def link_for(story: Story, policy: Policy, *, channel: str, installation_id: str, now: datetime) -> str:
    """Return the address by which the readers of `channel` may approve; empty where nothing is proposed to them."""
    if policy.mode is not Mode.SUPERVISED or not policy.link_key or not policy.public_url:
        return ""
    if not story.proposed or story.state is State.RESOLVED or story.payment_id is None:
        return ""
    permit = Permit(
        payment_id=story.payment_id,
        alert_id=int(story.alert_id),
        actor=f"{Actor.LINK}:{channel}",
        expires_at=now + policy.link_ttl,
        revision=story.revision,
    )
    return f"{policy.public_url.rstrip('/')}/act/{sign(permit, policy.link_key, installation_id)}"


class Approve:
    """What the pages of links ask for."""

    def __init__(
        self, *, database: Callable[[], Database], policy: Callable[[], Policy], metrics: Metrics, log: Log
    ) -> None:
        """Bind the database of the moment, which raises DatabaseError where there is none, and the owner's choices."""
        self._database = database
        self._policy = policy
        self._metrics = metrics
        self._log = log

    async def look(self, token: str) -> Seen:
        """Say what the link would do now; nothing is written, nothing is locked. Raises DatabaseError."""
        policy = self._policy()
        permit = authentic(token, policy.link_key)
        if isinstance(permit, Refusal):
            # Without asking the database: whoever guesses costs nothing, and learns nothing from the time it takes.
            return Unknown()
        return await self._database().read(lambda session: self._look(session, policy, permit, token))

    async def act(self, token: str) -> Acted:
        """Do what the link allows, if every guard agrees. Raises DatabaseError: then it may be tried again."""
        policy = self._policy()
        permit = authentic(token, policy.link_key)
        if isinstance(permit, Refusal):
            self._log.debug("link.refused", "a link was refused", reason=permit.value)
            return Unknown()
        acted = await self._database().write(lambda session: self._act(session, policy, permit, token))
        self._report(permit, acted)
        return acted

    async def _look(self, session: Session, policy: Policy, permit: Permit, token: str) -> Seen:
        stand = await links.standing(session, digest(token))
        over = await self._over(session, policy, permit, token, stand)
        if over is not None:
            return over
        now, known = await watches.facts_of(session, [permit.payment_id], policy.graces())
        facts = known[0].facts
        found = Prospect(
            now=now,
            facts=facts,
            verdict=judge(facts, policy.rules, now),
            guards=await guard(session, known[0], policy, now, actor=Actor.LINK),
            grant=plan_grant(facts, now, active_word=policy.active_word),
            before=None,
        )
        taken = await manual.current_claim(session, Subject(payment_id=permit.payment_id))
        refusals = (f"Not activated: {taken}.",) if taken else _refusals(found)
        return _offer(permit, policy, found, refusals)

    async def _act(self, session: Session, policy: Policy, permit: Permit, token: str) -> Acted:
        stand = await links.standing(session, digest(token))
        if verify(token, policy.link_key, stand.installation_id, stand.now) is Refusal.FOREIGN:
            # Its keys may not even be of this application's type.
            return Unknown()
        # One link at a time from here on, and nobody else decides about the payment.
        await subjects.lock(session, Subject(payment_id=permit.payment_id))
        stand = await links.standing(session, digest(token))
        over = await self._over(session, policy, permit, token, stand)
        if over is not None:
            return over
        owned = await manual.owned(session, permit.payment_id)
        approved = await self._carry_out(session, policy, permit, owned.user_id if owned else None)
        if approved.result is Result.TAKEN:
            return approved
        await links.use(
            session,
            digest(token),
            payment_id=permit.payment_id,
            actor=permit.actor,
            result=approved.result.value,
            expires_at=permit.expires_at,
        )
        detail = {"alert_id": permit.alert_id, "link": digest(token), "result": approved.result.value}
        await ledger.audit(
            session,
            actor=permit.actor,
            act="approve",
            subject=Subject(payment_id=permit.payment_id),
            user_id=approved.user_id,
            detail=detail,
        )
        await session.rows("ring_outbox")
        return approved

    @staticmethod
    async def _over(
        session: Session, policy: Policy, permit: Permit, token: str, stand: Standing
    ) -> Unknown | Over | None:
        """Return why the link does nothing any more; None: it does."""
        verified = verify(token, policy.link_key, stand.installation_id, stand.now)
        if isinstance(verified, Refusal) and verified is not Refusal.EXPIRED:
            return Unknown()
        end, at, result = None, None, ""
        if stand.used_at is not None:
            end, at, result = End.USED, stand.used_at, stand.result
        elif not await links.is_open(session, permit.alert_id, permit.payment_id):
            end = End.RESOLVED
        elif isinstance(verified, Refusal):
            end, at = End.EXPIRED, permit.expires_at
        elif policy.mode is not Mode.SUPERVISED:
            end = End.OFF
        if end is None:
            return None
        owned = await manual.owned(session, permit.payment_id)
        user_id = owned.user_id if owned else None
        return Over(end=end, payment_id=permit.payment_id, user_id=user_id, at=at, result=result)

    async def _carry_out(self, session: Session, policy: Policy, permit: Permit, user_id: str | None) -> Approved:
        """Claim, and grant or refuse; what it comes to stands in the ledger either way."""
        payment_id, subject = permit.payment_id, Subject(payment_id=permit.payment_id)
        if user_id is None:
            why = f"Not activated: {Reason.NO_USER.value}."
            return Approved(result=Result.REFUSED, payment_id=payment_id, user_id=None, notes=(why,))
        found = await consider(session, policy, subject=subject, user_id=user_id, actor=Actor.LINK)
        reason = f"approved by link, alert {permit.alert_id}"
        number = await ledger.claim(
            session,
            subject=subject,
            user_id=user_id,
            actor=permit.actor,
            reason=reason,
            guards=found.guards,
            strategy=policy.strategy,
        )
        if number is None:
            taken = await manual.current_claim(session, subject)
            notes = (f"Not activated: {taken or Result.TAKEN.value}.",)
            return Approved(result=Result.TAKEN, payment_id=payment_id, user_id=user_id, notes=notes)
        claim = Claim(
            activation_id=number,
            subject=subject,
            user_id=user_id,
            actor=permit.actor,
            reason=reason,
            attempts=0,
            strategy=policy.strategy,
        )
        if refusals := _refusals(found):
            await ledger.finish(session, number, state="refused", guards=found.guards, before=found.before)
            ended = await refused(session, claim, found, refusals)
        elif policy.strategy == "http":
            # flow.calls takes it from here: no transaction spans a request.
            return Approved(
                result=Result.STARTED, payment_id=payment_id, user_id=user_id, notes=(), guards=found.guards
            )
        else:
            ended = await grant(session, claim, policy)
        return Approved(
            result=Result.DONE if ended.result is Granted.DONE else Result.REFUSED,
            payment_id=payment_id,
            user_id=user_id,
            notes=ended.notes,
            guards=ended.guards,
        )

    def _report(self, permit: Permit, acted: Acted) -> None:
        """Say what came of it; never the link."""
        match acted:
            case Unknown():
                self._log.debug("link.refused", "a link was refused", reason=Refusal.FOREIGN.value)
            case Over():
                self._log.info(
                    "link.refused",
                    "a link was refused",
                    reason=acted.end.value,
                    payment=permit.payment_id,
                    actor=permit.actor,
                )
            case Approved(result=Result.DONE):
                self._metrics.activation(ActivationResult.DONE)
                self._log.warning(
                    "activation.done",
                    "a subscription was activated",
                    payment=permit.payment_id,
                    user=acted.user_id,
                    actor=permit.actor,
                )
            case Approved(result=Result.STARTED):
                self._log.info(
                    "link.accepted",
                    "an activation was approved",
                    payment=permit.payment_id,
                    user=acted.user_id,
                    actor=permit.actor,
                )
            case Approved():
                self._metrics.activation(ActivationResult.REFUSED)
                self._log.warning(
                    "activation.refused",
                    "an activation was refused",
                    payment=permit.payment_id,
                    why=" ".join(acted.notes),
                    actor=permit.actor,
                )


def _refusals(found: Prospect) -> tuple[str, ...]:
    """Return why this is not done now: what a guard says, nothing to write, or nothing that is owed."""
    if not found.allowed:
        return found.refusals
    owed = isinstance(found.verdict, Gap) and found.verdict.kind in GRANTABLE
    return () if owed else (_NOTHING_OWED,)


def _offer(permit: Permit, policy: Policy, found: Prospect, refusals: tuple[str, ...]) -> Offer:
    facts = found.facts
    user_id = facts.subscriber.id if facts.subscriber else (facts.payment.user_id if facts.payment else None)
    return Offer(
        alert_id=permit.alert_id,
        payment_id=permit.payment_id,
        user_id=user_id,
        who=person(user_id, facts.subscriber.label if facts.subscriber else None),
        facts=_known(facts),
        written=() if isinstance(found.grant, Reason) else _written(found.grant),
        how=_HOW.get(policy.strategy, ""),
        guards=found.guards,
        refusals=refusals,
        expires_at=permit.expires_at,
    )


def _known(facts: Facts) -> tuple[tuple[str, str], ...]:
    """Return what is known of the payment, and what the user has now."""
    said: list[tuple[str, str | None]] = []
    if facts.payment is not None:
        paid = facts.payment
        said += [
            ("Plan", paid.plan_id),
            ("Amount", money(paid.amount, paid.currency)),
            ("Method", paid.method),
            ("Provider id", paid.reference),
            ("Status", paid.status),
        ]
    said.append(("Paid", stamp(facts.paid_at)))
    if facts.subscriber is not None:
        user = facts.subscriber
        until = stamp(user.paid_until) if user.paid_until else "not set"
        said += [
            ("User's status now", user.status),
            ("User's tier now", user.tier or "none"),
            ("Paid until now", until if user.paid_until_watched else None),
        ]
    return tuple((label, value) for label, value in said if value)


def _written(planned: Grant) -> tuple[tuple[str, str], ...]:
    """Return what would be written of the user."""
    until = planned.user["paid_until"]
    said = [
        ("Status", planned.user["status"]),
        ("Tier", planned.user["tier"]),
        ("Paid until", stamp(until) if isinstance(until, datetime) else "for ever"),
        ("Event", planned.event_type),
    ]
    return tuple((label, str(value)) for label, value in said if value is not None)
