"""The sentences of a message: one place where every kind of gap and every way it can end is put into words."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from paidwatch.core.model import GapKind, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """One kind of gap, in words."""

    brief: str
    """The end of a subject."""
    now: str
    """While it lasts."""
    then: str
    """After it is over."""
    many: str
    """The end of an incident's subject: `512 payments: paid, not active`."""
    many_now: str
    """While an incident lasts."""
    many_then: str
    """After an incident is over."""


_GRACE: Final = "The payment is complete, the grace period is over, and"
_ENDED: Final = "The payment was complete, the grace period was over, and"

_MANY: Final = "The payments are complete, their grace period is over, and"
_MANY_ENDED: Final = "The payments were complete, their grace period was over, and"

_WRONG: Final = MappingProxyType(
    {
        GapKind.PAID_NOT_ACTIVE: Wrong(
            brief="not active",
            now=f"{_GRACE} the user is not active.",
            then=f"{_ENDED} the user was not active.",
            many="paid, not active",
            many_now=f"{_MANY} the users are not active.",
            many_then=f"{_MANY_ENDED} the users were not active.",
        ),
        GapKind.TIER_MISMATCH: Wrong(
            brief="on a lower tier",
            now=f"{_GRACE} the user has a lower tier than was paid for.",
            then=f"{_ENDED} the user had a lower tier than was paid for.",
            many="paid, on a lower tier",
            many_now=f"{_MANY} the users have a lower tier than was paid for.",
            many_then=f"{_MANY_ENDED} the users had a lower tier than was paid for.",
        ),
        GapKind.RENEWAL_NOT_APPLIED: Wrong(
            brief="renewal not applied",
            now=f"{_GRACE} the subscription has not been extended.",
            then=f"{_ENDED} the subscription had not been extended.",
            many="paid, renewal not applied",
            many_now=f"{_MANY} the subscriptions have not been extended.",
            many_then=f"{_MANY_ENDED} the subscriptions had not been extended.",
        ),
        GapKind.PAID_BUT_REVOKED: Wrong(
            brief="access revoked",
            now=f"{_GRACE} the user's access is revoked.",
            then=f"{_ENDED} the user's access was revoked.",
            many="paid, access revoked",
            many_now=f"{_MANY} the users' access is revoked.",
            many_then=f"{_MANY_ENDED} the users' access was revoked.",
        ),
        GapKind.ACTIVATION_FAILED: Wrong(
            brief="activation failed",
            now="The payment is complete, and the application reported that it could not activate the user.",
            then="The payment was complete, and the application had reported that it could not activate the user.",
            many="paid, activation failed",
            many_now="The payments are complete, and the application reported that it could not activate users.",
            many_then="The payments were complete, and the application had reported that it could not activate users.",
        ),
        GapKind.AMOUNT_MISMATCH: Wrong(
            brief="less than the price",
            now=f"{_GRACE} the user was not given what was ordered: less was paid than the plan costs.",
            then=f"{_ENDED} the user was not given what was ordered: less was paid than the plan costs.",
            many="less than the price",
            many_now=f"{_MANY} the users were not given what was ordered: less was paid than the plans cost.",
            many_then=f"{_MANY_ENDED} the users were not given what was ordered: less was paid than the plans cost.",
        ),
        GapKind.REVERSED_BUT_ACTIVE: Wrong(
            brief="still has access",
            now="The payment was reversed, and the user still has the access it bought.",
            then="The payment was reversed, and the user still had the access it bought.",
            many="reversed, users still have access",
            many_now="The payments were reversed, and the users still have the access they bought.",
            many_then="The payments were reversed, and the users still had the access they bought.",
        ),
        GapKind.USER_MISSING_OR_DISABLED: Wrong(
            brief="user missing or disabled",
            now=f"{_GRACE} there is no such user, or the user is disabled.",
            then=f"{_ENDED} there was no such user, or the user was disabled.",
            many="paid, user missing or disabled",
            many_now=f"{_MANY} there are no such users, or they are disabled.",
            many_then=f"{_MANY_ENDED} there were no such users, or they were disabled.",
        ),
    }
)


def wrong(kind: GapKind) -> Wrong:
    """Return the words for one kind of gap."""
    return _WRONG[kind]


_ENDINGS: Final = MappingProxyType(
    {
        Outcome.FIXED: "paidwatch activated the user.",
        Outcome.ACTIVATED: "The user now has what was paid for.",
        Outcome.SUPERSEDED: "A newer payment of the user buys at least as much.",
        Outcome.REVERSED: "The payment was reversed, so nothing is owed any more.",
        Outcome.LEFT: "The payment is not marked as paid any more.",
        Outcome.GONE: "The payment's row was deleted.",
        Outcome.ADMIN: "The user is an administrator, who has access whatever was paid.",
        Outcome.NOTHING_PAID: "No money is at stake: the plan is free, or nothing was paid.",
        Outcome.ENDED: "The user was activated, and an administrator ended it on purpose.",
        Outcome.DISMISSED: "A person dismissed it as no gap.",
        Outcome.EXPIRED: "Nobody closed it for so long that paidwatch follows it no further.",
        Outcome.BASELINE: "It is history from before paidwatch was installed and is followed no further.",
    }
)


def ending(kind: GapKind | None, outcome: Outcome | None) -> str:
    """Return the sentence that says how a story ended."""
    if outcome is None:
        return "It is over."
    if kind is GapKind.REVERSED_BUT_ACTIVE and outcome is Outcome.REVERSED:
        return "Nothing of the access is left to take back."
    return _ENDINGS[outcome]


def end_label(outcome: Outcome | None) -> str:
    """Return the label of the moment at which a story ended."""
    match outcome:
        case Outcome.EXPIRED:
            return "Expired"
        case Outcome.DISMISSED:
            return "Ended"
        case _:
            return "Closed"
