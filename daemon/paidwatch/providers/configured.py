"""A webhook read as the configuration says: ways to its fields, and what its status words mean."""

from collections.abc import Mapping
from decimal import Decimal

from paidwatch.core.webhook import Status
from paidwatch.providers.parsing import amount, at_path, currency, identifier, word
from paidwatch.providers.settings import Fields


def status_of(payload: object, fields: Fields) -> tuple[Status, str]:
    """Return the canonical status and the provider's own word; a number or a truth value counts as its JSON text."""
    found = at_path(payload, fields.status) if fields.status else None
    said = str(found).lower() if isinstance(found, bool) else word(found) or identifier(found) or ""
    return fields.words.get(said, Status.UNKNOWN), said


def text_at(payload: object, path: str) -> str | None:
    """Return the id at `path`; None where there is none, or no way to it."""
    return identifier(at_path(payload, path)) if path else None


def metadata_of(payload: object, fields: Fields) -> Mapping[str, object]:
    """Return user and plan under the names that an application would give them."""
    ways = {"user_id": fields.user, "plan_id": fields.plan}
    return {name: at_path(payload, path) for name, path in ways.items() if path}


def price_of(payload: object, fields: Fields) -> tuple[Decimal | None, str | None]:
    """Return amount and currency."""
    number = amount(at_path(payload, fields.amount)) if fields.amount else None
    return number, currency(at_path(payload, fields.currency)) if fields.currency else None
