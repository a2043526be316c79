"""What became of a request to the application: do its tables show the activation, and what follows from that?

The answer to a request is a hint; the tables are the truth (domain.md §4, I5). So before anything is asked again the
tables are read, and success means that they show it: the user's access covers what was paid for. Whose work that is
tells the mark: every request carries it in its reason, and the application writes the reason into its event.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from paidwatch.core.access import shortfalls
from paidwatch.core.model import Facts, Rules

READS: Final = 4
"""So often the tables are read between a request and the moment when it may be made again."""
SHORTEST_STEP: Final = timedelta(seconds=1)
LONGEST_REASON: Final = 200
"""Characters of a person's reason that are sent along."""
_MARK: Final = 8
_DOUBLINGS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One event of the user that carries the request's mark."""

    event_id: str | None
    failed: bool
    """The application says in it that it failed."""


class Shown(StrEnum):
    """What the tables say about one request."""

    ACTIVATED = "activated"
    """The user has what was paid for, and nothing speaks against the request as the cause."""
    BY_OTHERS = "by others"
    """The user has what was paid for, and the request is not the cause."""
    RECORDED = "recorded"
    """An event carries the mark, and the user does not have what was paid for."""
    NOTHING = "nothing"


class Reach(StrEnum):
    """How far a request came, as its answer tells."""

    ACCEPTED = "accepted"
    """A success."""
    REFUSED = "refused"
    """The application will never do it: any 4xx that does not pass by itself, and a redirect."""
    LATER = "later"
    """The application asks to be asked again: 408, 425, 429."""
    NOWHERE = "nowhere"
    """There was no connection, so nothing was asked."""
    UNKNOWN = "unknown"
    """A 5xx, no answer, or a crash before one: it may have been done, and it may still be done."""


class Next(StrEnum):
    """What to do with a request under way."""

    DONE = "done"
    YIELD = "yield"
    """Somebody else did it: nothing is left to do."""
    READ = "read the tables again"
    ASK = "ask again, if the guards still hold"
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Where a request stands."""

    calls: int
    """How often the application was asked, this time included."""
    answer: str | None
    """A status code, or a word of `outbound.Problem`; None: none is known."""
    again_at: datetime
    """It is not asked again before this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What was so when the request was planned, and so cannot come from it."""

    covered: bool
    """The user had what was paid for; a person asked for it all the same."""
    activated_at: datetime | None
    """An event of the application named the payment."""
    paid_until: datetime | None
    """Planned; None is for ever."""


def before(facts: Facts, rules: Rules, paid_until: datetime | None) -> Before:
    """Return what is so before the first request that is to give access until `paid_until`."""
    return Before(covered=not shortfalls(facts, rules), activated_at=facts.evidence.activated_at, paid_until=paid_until)


def mark(installation_id: str, activation_id: int) -> str:
    """Return what names one activation of one installation within a text: `[paidwatch:1f2e3d4c:7]`."""
    return f"[paidwatch:{installation_id.replace('-', '')[:_MARK]}:{activation_id}]"


def reason_of(words: str, marked: str) -> str:
    """Return the reason that is sent: a person's words, or why the machine acts, and the mark."""
    printable = "".join(char if char.isprintable() else " " for char in words)
    said = " ".join(printable.split())[:LONGEST_REASON].strip() or "paid, and not activated"
    return f"{said} {marked}"


def reach(answer: str | None) -> Reach:
    """Return how far the request came whose answer is this."""
    match answer:
        case "connect" | "connect_timeout" | "tls":
            return Reach.NOWHERE
        case "408" | "425" | "429":
            return Reach.LATER
        case str() if answer.isdecimal() and len(answer) == 3:  # noqa: PLR2004
            return _REACHES.get(answer[0], Reach.UNKNOWN)
        case _:
            return Reach.UNKNOWN


_REACHES: Final = {"2": Reach.ACCEPTED, "3": Reach.REFUSED, "4": Reach.REFUSED}


def read_back(facts: Facts, traces: tuple[Trace, ...], rules: Rules, asked: Asked, start: Before) -> Shown:
    """Return what the tables show of a request."""
    ours = any(not trace.failed for trace in traces)
    if not _as_wanted(facts, rules, start):
        # Who had everything before shows nothing by having it still; then the mark alone counts.
        return Shown.NOTHING if not ours else Shown.ACTIVATED if start.covered else Shown.RECORDED
    if ours:
        return Shown.ACTIVATED
    # The application's own activation names the payment; our request, made of templates, leaves the mark instead.
    if facts.evidence.activated_at != start.activated_at:
        return Shown.BY_OTHERS
    # Where it was asked before, that request may be the cause, whatever became of this one.
    match reach(asked.answer) if asked.calls <= 1 else Reach.UNKNOWN:
        case Reach.NOWHERE | Reach.REFUSED | Reach.LATER:
            return Shown.BY_OTHERS
        case Reach.ACCEPTED | Reach.UNKNOWN:
            return Shown.ACTIVATED
        case _ as unreachable:
            assert_never(unreachable)


def _as_wanted(facts: Facts, rules: Rules, start: Before) -> bool:
    """Say whether the user has what was paid for and, if that was so before, the period that was planned on top."""
    user = facts.subscriber
    if user is None or shortfalls(facts, rules):
        return False
    if not start.covered:
        return True
    if start.paid_until is None or user.paid_until is None or not user.paid_until_watched:
        return False
    return user.paid_until >= start.paid_until - rules.period_slack


def follow(shown: Shown, asked: Asked, *, most_calls: int, now: datetime) -> Next:
    """Return what to do now; what was recorded or accepted is never asked for again, whatever else the tables show."""
    match shown:
        case Shown.ACTIVATED:
            return Next.DONE
        case Shown.BY_OTHERS:
            return Next.YIELD
        case Shown.RECORDED | Shown.NOTHING:
            pass
        case _ as unreachable:
            assert_never(unreachable)
    reached, nothing = reach(asked.answer), shown is Shown.NOTHING
    if nothing and reached is Reach.REFUSED:
        return Next.GIVE_UP
    if now < asked.again_at:
        return Next.READ
    return Next.ASK if nothing and reached is not Reach.ACCEPTED and asked.calls < most_calls else Next.GIVE_UP


def why_given_up(shown: Shown, asked: Asked) -> str:
    """Say why there is no activation after all; constant words, a count and the answer's code."""
    if shown is Shown.RECORDED:
        return "the application recorded the activation, and the user still does not have what was paid for"
    match reach(asked.answer):
        case Reach.ACCEPTED:
            return f"the application answered {asked.answer}, and its tables do not show the activation"
        case Reach.REFUSED:
            return f"the application answered {asked.answer}, which is final"
        case Reach.LATER | Reach.NOWHERE | Reach.UNKNOWN:
            times = "once" if asked.calls == 1 else f"{asked.calls} times"
            return f"the application was asked {times}, last with {spoken(asked.answer)}, and its tables show nothing"
        case _ as unreachable:
            assert_never(unreachable)


def spoken(answer: str | None) -> str:
    """Say an answer in words."""
    match answer:
        case None:
            return "no known answer"
        case str() if answer.isdecimal():
            return f"answer {answer}"
        case _:
            return f"no answer ({answer.replace('_', ' ')})"


def wait_between(calls: int, *, timeout: timedelta, retry_after: timedelta) -> timedelta:
    """Return how long after the start of the `calls`-th request the next one may be made: it doubles every time.

    It is counted from where the answer is waited for no longer, so that a request which the application finishes late
    has all of the pause to show in the tables.
    """
    return timeout + retry_after * (1 << min(max(calls, 1) - 1, _DOUBLINGS))


def next_read(asked: Asked, *, now: datetime, retry_after: timedelta) -> datetime:
    """Return when to read the tables again: a few times, the last of them when it may be asked again."""
    if now >= asked.again_at:
        return now
    step = max(retry_after / READS, (asked.again_at - now) / READS / 2, SHORTEST_STEP)
    return min(now + step, asked.again_at)
