"""What an attentive person would say about a payment, from nothing but a diary of what happened in the shop.

Deliberately built unlike the code under test: no rows and no evidence, but a list of happenings in the order in which
they were done, read anew for every question; numbers instead of words; and instead of a chain of rules a collection of
everything that speaks for silence and everything that speaks for an alarm, weighed at the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

DAYS = {"free_trial": 7, "professional": 30, "vip_elite": 30}
WORTH = {"free_trial": 0, "professional": 1, "vip_elite": 2}
PER_DAY = 24 * 60
GRACE = 10


@dataclass(frozen=True)
class Entry:
    minute: int
    what: str
    user: int
    payment: int = 0
    plan: str = ""
    share: float = 1.0
    """Of the price that was paid."""


@dataclass
class Access:
    """One user, as far as the diary tells."""

    exists: bool = True
    welcome: bool = True
    boss: bool = False
    shown_active: bool = False
    worth: int = 0
    until: float = inf
    shut_at: int | None = None
    changed: float = -inf


@dataclass
class Money:
    """One payment, as far as the diary tells."""

    order: Entry
    word: str = "open"
    paid: int = 0
    grace: int = 0
    returned: bool = False
    changed: float = -inf
    given: list[int] = field(default_factory=list[int])
    """When access was given for this very payment, or seen to be as paid."""
    by_us: bool = False
    told_failed: list[int] = field(default_factory=list[int])
    given_since: list[int] = field(default_factory=list[int])


@dataclass
class Diary:
    entries: list[Entry] = field(default_factory=list[Entry])

    def note(self, entry: Entry) -> None:
        self.entries.append(entry)

    def access(self, user: int) -> Access:
        state = Access()
        for entry in self.entries:
            if entry.user != user or not state.exists:
                continue
            match entry.what:
                case "signed up for ever":
                    state.shown_active, state.worth = True, 1
                    continue
                case "promoted":
                    state.boss = True
                case "demoted":
                    state.boss = False
                case "activated" | "activated without event" | "fixed":
                    start: float = entry.minute
                    if entry.what == "fixed" and state.worth == WORTH[entry.plan] and state.shut_at is None:
                        endless = state.until == inf and not state.shown_active
                        start = start if endless else max(start, state.until)
                    state.shown_active, state.worth, state.shut_at = True, WORTH[entry.plan], None
                    state.until = start + 30 * PER_DAY
                case "overwritten":
                    state.shown_active, state.worth = False, 0
                case "shown inactive":
                    state.shown_active = False
                case "cancelled":
                    state.shown_active, state.worth, state.shut_at = False, 0, entry.minute
                case "period cut":
                    state.until = entry.minute
                case "lapsed":
                    state.shut_at = entry.minute
                case "banned":
                    state.welcome = False
                case "unbanned":
                    state.welcome = True
                case "user deleted":
                    state.exists = False
                case _:
                    continue
            state.changed = max(state.changed, entry.minute)
        return state

    def money(self, payment: int) -> Money:
        order = next(e for e in self.entries if e.payment == payment and e.what == "ordered")
        state = Money(order=order)
        for entry in self.entries:
            if entry.payment == payment:
                self._follow(state, entry)
        state.given_since = [
            e.minute for e in self._of(order.user) if e.what in {"activated", "fixed"} and e.minute >= state.paid - 5
        ]
        return state

    @staticmethod
    def _follow(state: Money, entry: Entry) -> None:
        match entry.what:
            case "paid":
                if state.word != "paid" and not state.returned:
                    state.paid, state.grace = entry.minute, entry.minute + GRACE
                state.word = "paid"
            case "fell back":
                state.word = "open"
            case "returned":
                if not state.paid:
                    state.paid = entry.minute
                state.word, state.returned, state.grace = "returned", True, entry.minute + GRACE
            case "payment deleted":
                state.word = "deleted"
            case "activated" | "seen as paid":
                state.given.append(entry.minute)
            case "fixed":
                state.given.append(entry.minute)
                state.by_us = True
            case "told failed":
                state.told_failed.append(entry.minute)
            case _:
                pass
        if entry.what in {"ordered", "paid", "fell back", "returned"}:
            state.changed = max(state.changed, entry.minute)

    def _of(self, user: int) -> Iterator[Entry]:
        return (entry for entry in self.entries if entry.user == user)

    def others(self, payment: int) -> Iterator[Money]:
        """Return the other payments of the same user whose money is there to stay."""
        mine = self.money(payment)
        for entry in self._of(mine.order.user):
            if entry.what == "ordered" and entry.payment != payment:
                other = self.money(entry.payment)
                if other.word == "paid" and not other.returned:
                    yield other

    def says(self, payment: int, now: int) -> str:
        """Weigh everything that is known about a payment at minute `now`."""
        money = self.money(payment)
        access = self.access(money.order.user)
        worth = WORTH[money.order.plan]
        end = money.paid + DAYS[money.order.plan] * PER_DAY
        if money.word == "deleted":
            return "settled: gone"
        if money.returned:
            return self._of_returned(payment, now)
        if money.word != "paid":
            return "settled: left"

        lacks = [
            name
            for name, lacking in (
                ("user", not access.exists or not access.welcome),
                ("open door", access.shut_at is not None),
                ("active", not access.shown_active),
                ("worth", access.worth < worth),
                ("time", access.until < end - PER_DAY),
            )
            if lacking
        ]
        quiet = self._reasons_for_silence(payment, now, lacks)
        for outcome in ("admin", "nothing_paid", "fixed", "activated", "ended", "superseded"):
            if outcome in quiet:
                return f"settled: {outcome}"
        given = max([*money.given, *money.given_since], default=-inf)
        if money.told_failed and max(money.told_failed) >= money.paid - 5 and given < max(money.told_failed):
            return "gap: activation_failed"
        if now < money.grace:
            return "waiting"
        if lacks[0] != "user" and money.order.share < 0.99:
            return "gap: amount_mismatch"
        return (
            "gap: "
            + {
                "user": "user_missing_or_disabled",
                "open door": "paid_but_revoked",
                "active": "paid_not_active",
                "worth": "tier_mismatch",
                "time": "renewal_not_applied",
            }[lacks[0]]
        )

    def _of_returned(self, payment: int, now: int) -> str:
        money = self.money(payment)
        access = self.access(money.order.user)
        worth = WORTH[money.order.plan]
        covered = any(
            WORTH[other.order.plan] >= worth and other.paid + DAYS[other.order.plan] * PER_DAY > now
            for other in self.others(payment)
        )
        inside = access.exists and access.welcome and access.shut_at is None and access.shown_active
        if now < money.grace:
            return "waiting"
        if worth == 0 or money.order.share == 0 or access.boss or not money.given or covered:
            return "settled: reversed"
        kept = inside and access.worth >= worth and access.until > now
        return "gap: reversed_but_active" if kept else "settled: reversed"

    def _reasons_for_silence(self, payment: int, now: int, lacks: list[str]) -> set[str]:
        money = self.money(payment)
        access = self.access(money.order.user)
        end = money.paid + DAYS[money.order.plan] * PER_DAY
        quiet: set[str] = set()
        if access.exists and access.boss:
            quiet.add("admin")
        if WORTH[money.order.plan] == 0 or money.order.share == 0:
            quiet.add("nothing_paid")
        ran_its_time = bool(money.given) and max(money.changed, access.changed) >= end - PER_DAY
        shut_in_time = access.exists and access.shut_at is not None and access.shut_at >= access.until
        lapsed = shut_in_time and set(lacks) <= {"open door", "active"}
        if not lacks or (now >= end and (ran_its_time or lapsed)):
            quiet.add("fixed" if money.by_us else "activated")
        acts = [e.minute for e in self._of(money.order.user) if e.what in {"cancelled", "admin noted"}]
        if money.given and max([act for act in acts if act >= money.paid], default=-inf) > max(money.given):
            quiet.add("ended")
        if any(
            (other.paid, other.order.payment) > (money.paid, payment)
            and WORTH[other.order.plan] >= WORTH[money.order.plan]
            for other in self.others(payment)
        ):
            quiet.add("superseded")
        return quiet
