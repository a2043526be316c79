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
        GapKind.ORPHAN_WEBHOOK: Wrong(
            brief="no payment row, not activated",
            now="A signed webhook says that this was paid, and there is neither a payment row nor an activation.",
            then="A signed webhook said that this was paid, and there was neither a payment row nor an activation.",
            many="paid by webhook, no payment row",
            many_now="Signed webhooks say that these were paid, and there are neither payment rows nor activations.",
            many_then="Signed webhooks said that these were paid, and there were neither payment rows nor activations.",
        ),
        GapKind.PROVIDER_PAID_DB_PENDING: Wrong(
            brief="paid at the provider, not in the database",
            now="A signed webhook says that this was paid, and the payment's row does not.",
            then="A signed webhook said that this was paid, and the payment's row did not.",
            many="paid at the provider, not in the database",
            many_now="Signed webhooks say that these were paid, and the payments' rows do not.",
            many_then="Signed webhooks said that these were paid, and the payments' rows did not.",
        ),
        GapKind.UNDERPAID: Wrong(
            brief="too little was paid",
            now="A signed webhook says that money arrived, and it is less than was asked for: nothing is granted.",
            then="A signed webhook said that money arrived, and it was less than was asked for.",
            many="too little was paid",
            many_now="Signed webhooks say that money arrived, and it is less than was asked for.",
            many_then="Signed webhooks said that money arrived, and it was less than was asked for.",
        ),
        GapKind.WEBHOOK_FAILED: Wrong(
            brief="not handled by the application",
            now="A webhook arrived, the application could not handle it, and no later one was handled.",
            then="A webhook had arrived, and the application could not handle it.",
            many="webhooks not handled by the application",
            many_now="Webhooks arrived, and the application could not handle them.",
            many_then="Webhooks had arrived, and the application could not handle them.",
        ),
        GapKind.WEBHOOK_BAD_SIGNATURE: Wrong(
            brief="bad signatures",
            now="Webhooks arrive whose signature is wrong, so nothing in them is believed: the secret differs from the"
            " provider's, or somebody else sends them.",
            then="Webhooks arrived whose signature was wrong, so nothing in them was believed.",
            many="webhooks with bad signatures",
            many_now="Webhooks arrive whose signature is wrong, so nothing in them is believed.",
            many_then="Webhooks arrived whose signature was wrong, and nothing in them was believed.",
        ),
        GapKind.PROVIDER_SILENT: Wrong(
            brief="no webhooks arrive",
            now="Payments are being created, and no valid webhook has come for far longer than is usual.",
            then="Payments were being created, and no valid webhook came for far longer than is usual.",
            many="no webhooks arrive",
            many_now="Payments are being created, and no valid webhooks have come for far longer than is usual.",
            many_then="Payments were being created, and no valid webhooks came for far longer than is usual.",
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
        Outcome.FOLLOWED: "The payment has a row that says so now, and is watched by itself.",
        Outcome.CLEARED: "It has stopped.",
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
