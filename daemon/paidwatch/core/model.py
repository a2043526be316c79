"""The words of the field: what is known about a payment, and what can be concluded from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from paidwatch.core.answer import Answer


class Phase(StrEnum):
    """Where a payment stands, whatever words the application uses for it."""

    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"
    REVERSED = "reversed"
    UNKNOWN = "unknown"
    """A word the configuration does not know: never paid."""


class GapKind(StrEnum):
    """How what was paid for and what was granted differ."""

    PAID_NOT_ACTIVE = "paid_not_active"
    TIER_MISMATCH = "tier_mismatch"
    RENEWAL_NOT_APPLIED = "renewal_not_applied"
    PAID_BUT_REVOKED = "paid_but_revoked"
    ACTIVATION_FAILED = "activation_failed"
    AMOUNT_MISMATCH = "amount_mismatch"
    REVERSED_BUT_ACTIVE = "reversed_but_active"
    USER_MISSING_OR_DISABLED = "user_missing_or_disabled"
    ORPHAN_WEBHOOK = "orphan_webhook"
    """A signed webhook says paid, and there is neither a payment row nor an activation."""
    PROVIDER_PAID_DB_PENDING = "provider_paid_db_pending"
    """A signed webhook says paid, and the payment's row does not."""
    UNDERPAID = "underpaid"
    """A signed webhook says that less arrived than was asked for, or than the plan costs."""
    WEBHOOK_FAILED = "webhook_failed"
    WEBHOOK_BAD_SIGNATURE = "webhook_bad_signature"
    PROVIDER_SILENT = "provider_silent"
    """Payments are created, and no webhook has come for far longer than usual."""


class Outcome(StrEnum):
    """Why a watch was closed."""

    ACTIVATED = "activated"
    FIXED = "fixed"
    """Activated by paidwatch, automatically or on command."""
    SUPERSEDED = "superseded"
    """A newer payment of the same user buys at least as much."""
    REVERSED = "reversed"
    LEFT = "left"
    """The payment is no longer paid, without being reversed."""
    GONE = "gone"
    """The payment row was deleted."""
    ADMIN = "admin"
    """Administrators are never alerted about."""
    NOTHING_PAID = "nothing_paid"
    """A free plan, or no amount: no money is at stake."""
    ENDED = "ended"
    """Activated for this payment, then ended deliberately by an administrator."""
    DISMISSED = "dismissed"
    """A person said that it is no gap."""
    EXPIRED = "expired"
    """Open for longer than `[alerts] expire`: nobody closed it, and it is followed no further."""
    FOLLOWED = "followed"
    """A story of a webhook: the payment has a row that says so now, and is watched by itself."""
    CLEARED = "cleared"
    """A story of webhooks: what was wrong with them has stopped."""
    BASELINE = "baseline"
    """History of the first run: told in one digest, never followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an activation is for: one row of the payment table, or money that only signed webhooks tell of.

    Either `payment_id` is given, or `method` (in small letters) and `reference`, the provider's id.
    """

    payment_id: str | None = None
    method: str | None = None
    reference: str | None = None

    @classmethod
    def of_story(cls, key: tuple[str, str]) -> "Subject":
        """Return what the story of webhooks under this method and reference is about."""
        method, reference = key
        return cls(method=method, reference=reference)

    @property
    def story(self) -> tuple[str, str]:
        """Return method and reference of the story of webhooks that tells of it."""
        return self.method or "", self.reference or ""

    def __str__(self) -> str:
        """Return it for people and logs: the row's key, or method and reference."""
        return self.payment_id if self.payment_id is not None else f"{self.method} {self.reference}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One row of the application's payment table, in canonical words. Keys are text whatever their SQL type."""

    id: str
    user_id: str | None
    plan_id: str | None
    amount: Decimal | None
    currency: str | None
    method: str | None
    reference: str | None
    """The provider's id: `transaction_id`."""
    status: str | None
    """The application's own word."""
    phase: Phase
    created_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """One user: only what decides about access. Never a password hash, never a token."""

    id: str
    label: str | None
    """E-mail or name, for people; masked before it leaves in a chat message."""
    enabled: bool
    """False is a ban."""
    admin: bool
    status: str | None
    status_active: bool | None
    """None where the application has no such column; the condition is then not looked at."""
    tier: str | None
    tier_rank: int | None
    """0 is free; None is a word that `[plans] order` does not name, or no column."""
    tier_watched: bool
    """False where the application has no tier column."""
    paid_until: datetime | None
    """None is for ever, where `paid_until_watched`."""
    paid_until_watched: bool
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was bought."""

    id: str
    price: Decimal | None
    """In the payment's currency; None is unknown."""
    rank: int | None
    duration: timedelta
    name: str | None = None
    """For people, and for the application's own event; the id stands in where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What else the database says about this payment; times are the rows' own, None is absent."""

    reversed_at: datetime | None = None
    """A reversal was seen for this payment, in any order of arrival."""
    settled_at: datetime | None = None
    """This payment's watch was once closed as activated or fixed."""
    activated_at: datetime | None = None
    """An activation event that names this payment."""
    granted_at: datetime | None = None
    """Any activation event of the user since paid - 5 minutes, whichever payment it names."""
    failed_at: datetime | None = None
    """The application reported `activation_failed` for this payment, or for the user since it was paid."""
    failed_reason: str | None = None
    acted_at: datetime | None = None
    """A deliberate act of an administrator on the user since it was paid."""
    act: str | None = None
    ledger_at: datetime | None = None
    """paidwatch itself granted this payment."""
    undone_at: datetime | None = None
    """A person undid paidwatch's activation of this payment: as deliberate as an administrator's act."""
    newer_payment_id: str | None = None
    """The user's newest paid payment that became paid after this one."""
    newer_rank: int | None = None
    newer_plan_id: str | None = None
    other_paid: bool = False
    """Another payment of the user, paid and not reversed, with an open period and at least this one's rank."""
    webhook_at: datetime | None = None
    webhook_status: str | None = None
    webhook_error: str | None = None
    webhook_valid: bool | None = None
    webhook_paid: bool | None = None
    """A signed webhook names this payment and says that the money is final; none says that it went back."""
    webhook_paid_at: datetime | None = None
    """When the first of those came."""
    webhook_moving_at: datetime | None = None
    """When the last signed one came that says the money is still awaited or moving."""
    webhook_short_at: datetime | None = None
    """When the last signed one came that says too little arrived."""
    webhook_reversed_at: datetime | None = None
    """When the last signed one came that says the money went back."""
    webhooks_watched: bool = False
    answer: Answer | None = None
    """What the payment provider said when it was asked about this payment's reference; None: there is no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything a verdict is made from, read in one statement on the primary."""

    payment_id: str
    """Empty where there is no row."""
    payment: Payment | None
    """None: the row was deleted. Where there never was one (`told`), it is what signed webhooks say."""
    subscriber: Subscriber | None
    """None: there is no such user."""
    plan: Plan | None
    """None: no such plan."""
    paid_at: datetime
    """When it became paid, or reversed, as seen by the trigger."""
    grace_until: datetime
    touched_at: datetime | None
    """The last time anything about the user or the payment changed, as seen by a trigger."""
    evidence: Evidence
    told: tuple[str, str] | None = None
    """Method and the provider's id of money that only signed webhooks tell of; None: there is, or was, a row."""

    @property
    def subject(self) -> Subject:
        """Return what an activation of it is filed under."""
        return Subject(payment_id=self.payment_id) if self.told is None else Subject.of_story(self.told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The owner's choices that a verdict depends on."""

    period_slack: timedelta = timedelta(hours=24)
    """How far paid-until may fall short of paid_at + duration: months, time zones and rounding."""
    amount_tolerance: Decimal = Decimal("0.01")
    """Share of the price that an amount may fall short of it (1 % for fees and rounding)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """No conclusion before `until`."""

    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Nothing is owed; the watch closes."""

    outcome: Outcome
    at: datetime
    """When that became true, as far as known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Somebody must act."""

    kind: GapKind
    cause: str
    """A named cause, as far as the evidence goes; see `core.cause`."""
    detail: str = ""
    """The application's own words for it, untrusted."""


Verdict = Waiting | Settled | Gap


class Word(StrEnum):
    """The first word of a message's title."""

    NEW = "NEW"
    STILL = "STILL"
    ESCALATED = "ESCALATED"
    FIXED = "FIXED"
    RESOLVED = "RESOLVED"
    DIGEST = "DIGEST"
    TEST = "TEST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One labelled fact of a message; a datetime is shown in the reader's own zone where the service can."""

    label: str
    value: str | datetime
    short: bool = True
    """May stand beside another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is to be said about one alert, before any channel's markup. All text in it is plain and untrusted."""

    word: Word
    kind: str
    """A GapKind, or one of the other kinds in `core.story`."""
    alert_id: str
    subject: str
    """Stable over the whole story, without the word: `user 7 paid 14.99 USD (professional), not active`."""
    summary: str
    """One or two sentences: what happened, as far as known."""
    lines: tuple[Line, ...]
    command: str
    """The exact next command, empty when nothing is left to do."""
    open: bool
    """False once resolved: channels colour by it."""
    at: datetime
    """The moment this text describes."""
    link: str = field(default="", repr=False)
    """Address of the page on which a person may approve what is proposed; a credential, empty where nothing is."""
    extra: Mapping[str, str] = field(default_factory=dict[str, str])
    """Machine-readable facts for the generic webhook: payment_id, user_id, plan_id, amount, currency, …"""
