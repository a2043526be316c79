"""Links by which a person approves one activation: made when a message is sent, proven by their signature alone.

A link lets its holder ask for one thing, once, until it expires; nothing is stored when it is made, so it works after
a restart, and whoever changes the key kills every link made with the old one. Its form is `PAYLOAD.SIGNATURE`, both in
base64url without padding. The payload is a JSON list that names the installation, the payment, the alert, the action,
the actor, the expiry in Unix seconds and the revision of the story. The signature is HMAC-SHA256 over the payload as
it is spelled: a token has one spelling, so its digest stands for it.
"""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

ACTIVATE: Final = "activate"
"""The one action there is."""
SHORTEST_KEY: Final = 32
"""Characters of a key; a shorter one signs nothing and opens nothing."""

_LONGEST: Final = 4096
"""Characters of a token that is looked at."""
_VERSION: Final = 1
_PURPOSE: Final = b"paidwatch link\n"
"""Signed before the payload, so that no other signature made with the same key is one of a link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """What a link allows, and until when."""

    payment_id: str
    alert_id: int
    action: str = ACTIVATE
    actor: str
    """Who will have done it: `link:CHANNEL`."""
    expires_at: datetime
    """Aware; seconds are what is signed."""
    revision: int = 0
    """Of the story that the message told: a later message holds another link, also where the earlier one was used."""


class Refusal(StrEnum):
    """Why a token is no permit; constant words."""

    MALFORMED = "it is no link"
    FORGED = "it was not signed with this key"
    FOREIGN = "it was made by another installation"
    EXPIRED = "it has expired"


def sign(permit: Permit, key: str, installation_id: str) -> str:
    """Return the token of a permit: the same for the same permit. Raises ValueError where the key is too short."""
    if len(key) < SHORTEST_KEY:
        message = f"the key of links has fewer than {SHORTEST_KEY} characters"
        raise ValueError(message)
    spelled = [
        _VERSION,
        installation_id,
        permit.payment_id,
        permit.alert_id,
        permit.action,
        permit.actor,
        int(permit.expires_at.timestamp()),
        permit.revision,
    ]
    payload = _encode(json.dumps(spelled, separators=(",", ":")).encode())
    return f"{payload}.{_signature(payload, key)}"


def verify(token: str, key: str, installation_id: str, now: datetime) -> Permit | Refusal:
    """Return what a token allows at `now`, or why nothing; a token with any character changed is refused."""
    found = _read(token, key)
    if isinstance(found, Refusal):
        return found
    made_by, permit = found
    if not hmac.compare_digest(made_by.encode(), installation_id.encode()):
        return Refusal.FOREIGN
    return permit if now < permit.expires_at else Refusal.EXPIRED


def authentic(token: str, key: str) -> Permit | Refusal:
    """Return what a token was made to allow if it was made with this key; installation and expiry are not looked at."""
    found = _read(token, key)
    return found if isinstance(found, Refusal) else found[1]


def digest(token: str) -> str:
    """Return what is kept of a used token: enough to know it again, not enough to use it."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _read(token: str, key: str) -> tuple[str, Permit] | Refusal:
    """Return the installation and the permit in a token, once its signature is proven."""
    if len(token) > _LONGEST:
        return Refusal.MALFORMED
    payload, dot, given = token.partition(".")
    expected = _signature(payload, key)
    right = hmac.compare_digest(given.encode(errors="replace"), expected.encode())
    if not dot:
        return Refusal.MALFORMED
    if not right or len(key) < SHORTEST_KEY:
        return Refusal.FORGED
    try:
        return _permit(json.loads(_decode(payload)))
    except (ValueError, OverflowError, OSError):
        return Refusal.MALFORMED


def _permit(spelled: object) -> tuple[str, Permit] | Refusal:
    """Return what a signed list says; one of a later version says nothing to this one."""
    match spelled:
        case [1, str(installation), str(payment), int(alert), str(action), str(actor), int(expires), int(revision)]:
            permit = Permit(
                payment_id=payment,
                alert_id=alert,
                action=action,
                actor=actor,
                expires_at=datetime.fromtimestamp(expires, UTC),
                revision=revision,
            )
            return (installation, permit) if action == ACTIVATE else Refusal.MALFORMED
        case _:
            return Refusal.MALFORMED


def _signature(payload: str, key: str) -> str:
    signed = _PURPOSE + payload.encode(errors="replace")
    return _encode(hmac.digest(key.encode(errors="replace"), signed, hashlib.sha256))


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
