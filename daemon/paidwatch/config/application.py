"""The application's schema as data: where payments, users, plans, events and webhook logs are, and in which words.

The defaults are the tables of a FastAPI and SQLAlchemy shop with the schema `public`. An optional column that the
table does not have may be named all the same: the installation looks, and `doctor` says what is not watched.
"""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from paidwatch.config.section import Section
from paidwatch.config.values import Column, Count, Currency, OptionalColumn, OptionalTable, SomeWords, Table, Words
from paidwatch.config.wrong import Wrong

_AUTO: Final = ("completed", "finished", "paid")


def _without_missing(columns: dict[str, str]) -> dict[str, str]:
    return {currency: column for currency, column in columns.items() if column}


Amounts = Annotated[dict[Currency, OptionalColumn], AfterValidator(_without_missing)]
"""The column of each currency; one that is "" is left out."""


def _default_auto(validated: dict[str, Any]) -> tuple[str, ...]:
    """Return those of the usual words that the owner counts as paid."""
    return tuple(word for word in _AUTO if word in validated.get("paid", ()))


def _refuse_shared(words: tuple[str, ...], info: ValidationInfo, *earlier: str) -> tuple[str, ...]:
    """Raise Wrong if a word stands in an earlier list of the same section as well."""
    for name in earlier:
        for word in words:
            if word in info.data.get(name, ()):
                what = f'and {name} both name "{word}"'
                raise Wrong(what, "keep it in one of them, and write out the other list without it", other=name)
    return words


class Payments(Section):
    """The table of payments: its columns, and what its status words mean."""

    table: Table = "public.payment_transactions"
    """Table of payments."""
    id: Column = "id"
    """Primary key."""
    user: Column = "user_id"
    """Key of the user who pays."""
    plan: OptionalColumn = "plan_id"
    """Key of the plan that is bought."""
    amounts: Amounts = Field(default={"USD": "amount_usd", "USDT": "amount_usdt"})
    """Column of the amount in each currency; the first that is filled counts."""
    method: OptionalColumn = "payment_method"
    """Payment method or provider; `[grace.by_method]` refers to its values."""
    reference: OptionalColumn = "transaction_id"
    """The provider's id of the payment."""
    status: Column = "status"
    """Status word."""
    created_at: OptionalColumn = "created_at"
    """When the row was made."""
    completed_at: OptionalColumn = "completed_at"
    """When the payment ended, well or badly. Counts for payments that became paid while no trigger was there; for all
    others the moment counts at which the row became paid, also where it was imported with an older time.
    """
    updated_at: OptionalColumn = "updated_at"
    """When the row was last changed."""
    paid: SomeWords = ("completed", "confirmed", "finished", "paid")
    """Status words that mean paid."""
    auto: Words = Field(default_factory=_default_auto)
    """Status words that may be activated automatically; all of them in `paid`."""
    pending: Words = ("pending", "waiting", "confirming", "sending", "partially_paid")
    """Status words that mean not paid yet."""
    failed: Words = ("failed", "expired", "cancelled", "canceled", "rejected")
    """Status words that mean never paid."""
    reversed: Words = ("refunded", "reversed", "chargeback", "charged_back", "disputed")
    """Status words that mean the money went back."""

    @field_validator("auto")
    @classmethod
    def _auto_is_paid(cls, words: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for word in words:
            if "paid" in info.data and word not in info.data["paid"]:
                what = f'names "{word}", which payments.paid does not'
                raise Wrong(what, "only a paid payment may be activated: add the word to paid, or leave it out of auto")
        return words

    @field_validator("pending", "failed", "reversed")
    @classmethod
    def _one_meaning(cls, words: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return _refuse_shared(words, info, "paid", "pending", "failed")


class Users(Section):
    """The table of users: only what decides about access. Passwords and tokens are never read."""

    table: Table = "public.users"
    """Table of users."""
    id: Column = "id"
    """Primary key."""
    label: OptionalColumn = "email"
    """What people call the user by; masked before it leaves in a chat message."""
    name: OptionalColumn = "username"
    """A second name."""
    enabled: OptionalColumn = "is_active"
    """False is a ban."""
    admin: OptionalColumn = "is_admin"
    """True is an administrator, who is never alerted about."""
    status: OptionalColumn = "subscription_status"
    """Subscription status word."""
    tier: OptionalColumn = "subscription_tier"
    """Plan that is granted, in the words of `plans.order`."""
    plan: OptionalColumn = "plan_id"
    """Key of the plan that is granted."""
    paid_until: OptionalColumn = "payment_due_date"
    """End of access; NULL is for ever."""
    also_paid_until: tuple[Column, ...] = ("subscription_renewal_date", "current_period_end")
    """Columns that an activation sets to the same moment."""
    revoked_at: OptionalColumn = "access_revoked_at"
    """When access was taken away."""
    last_paid_at: OptionalColumn = "last_payment_date"
    """When the user last paid; an activation sets it."""
    touched_at: OptionalColumn = "subscription_updated_at"
    """When the subscription last changed; an activation sets it."""
    active: SomeWords = ("active",)
    """Status words that mean active."""


class Plans(Section):
    """The table of plans, and their order from free to the best."""

    table: OptionalTable = "public.subscription_plans"
    """Table of plans; "" where there is none."""
    id: Column = "id"
    """Primary key."""
    name: OptionalColumn = "name"
    """What people call the plan."""
    prices: Amounts = Field(default={"USD": "price_usd", "USDT": "price_usdt"})
    """Column of the price in each currency."""
    days: OptionalColumn = "duration_days"
    """Days of access that one payment buys."""
    order: Words = ("free", "professional", "vip_elite")
    """Tiers from the lowest to the highest."""
    free: Words = ("free", "free_trial")
    """Plans that cost nothing: never alerted about."""
    default_days: Count = Field(default=30, ge=1, le=36500)
    """Days where the plan does not say."""
    enabled: OptionalColumn = "is_active"
    """False is a plan that is no longer sold."""


class Events(Section):
    """The table of subscription events: evidence that an activation happened, failed or was undone."""

    table: OptionalTable = "public.subscription_events"
    """Table of events; "" where there is none."""
    id: Column = "id"
    """Primary key."""
    user: Column = "user_id"
    """Key of the user."""
    type: Column = "event_type"
    """Event word."""
    data: OptionalColumn = "event_data"
    """JSON that may name the payment."""
    external_id: OptionalColumn = "stripe_event_id"
    """Unique id of the event outside the application; an activation writes `paidwatch:<payment id>` there."""
    processed: OptionalColumn = "processed"
    """True once the application has handled the event."""
    created_at: OptionalColumn = "created_at"
    """When the event happened."""
    activated: Words = ("activated", "manual_activation", "payment_completed", "access_restored")
    """Event words that prove an activation."""
    failed: Words = ("activation_failed",)
    """Event words by which the application says that an activation failed."""
    deliberate: Words = ("status_update", "cancelled", "access_revoked")
    """Event words of an administrator's deliberate act."""
    write: str = "activated"
    """Event word that paidwatch writes when it activates; one of `activated`."""

    @field_validator("failed", "deliberate")
    @classmethod
    def _one_meaning(cls, words: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return _refuse_shared(words, info, "activated", "failed")

    @field_validator("write")
    @classmethod
    def _is_evidence(cls, word: str, info: ValidationInfo) -> str:
        if "activated" in info.data and word not in info.data["activated"]:
            what = "is not one of events.activated"
            raise Wrong(what, "paidwatch must recognise its own event: use one of those words, or add this one")
        return word


class Webhooks(Section):
    """The table in which the application logs the webhooks it received: a second source of truth about money."""

    table: OptionalTable = "public.webhook_logs"
    """Table of webhook logs; "" where there is none."""
    id: Column = "id"
    """Primary key."""
    method: OptionalColumn = "payment_method"
    """Payment method or provider."""
    payment: OptionalColumn = "payment_id"
    """The provider's id of the payment."""
    user: OptionalColumn = "user_id"
    """Key of the user."""
    status: OptionalColumn = "processing_status"
    """What became of the webhook."""
    data: OptionalColumn = "webhook_data"
    """What the provider sent, as JSON: read as that provider's webhooks are; only what is signed and says paid confirms
    a payment."""
    error: OptionalColumn = "error_message"
    """Why it failed."""
    valid: OptionalColumn = "signature_valid"
    """False is a bad signature."""
    created_at: OptionalColumn = "created_at"
    """When it arrived."""
    failed: Words = ("failed",)
    """Status words that mean it was not handled."""
