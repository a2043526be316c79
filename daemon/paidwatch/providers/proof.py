"""What the signatures of several providers have in common. No comparison ends early, and none raises."""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import SecretStr

from paidwatch.core.webhook import Signature

TOLERANCE: Final = timedelta(seconds=300)
"""How far a signature's time may be from ours, either way."""

_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})+", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def keys_of(secrets: Iterable[SecretStr]) -> tuple[bytes, ...]:
    """Return the keys, without the blanks that files and dashboards leave around them; empty ones are none."""
    texts = (secret.get_secret_value().strip() for secret in secrets)
    return tuple(raw(text) for text in texts if text)


def from_hex(text: str, size: int) -> bytes | None:
    """Return the `size` bytes that `text` writes in hexadecimal digits; None if it does not."""
    return bytes.fromhex(text) if len(text) == 2 * size and _HEX.fullmatch(text) else None


def from_base64(text: str) -> bytes | None:
    """Return the bytes that `text` writes in base64 with its padding; None if it does not."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        return None


def matches(keys: Sequence[bytes], message: bytes, given: Sequence[bytes], digest: str) -> bool:
    """Return whether one of the `given` codes is that of `message` by one of the keys; every pair is compared."""
    found = False
    for key in keys:
        made = hmac.digest(key, message, digest)
        for code in given:
            found |= hmac.compare_digest(made, code)
    return found


def judge(*, right: bool, at: datetime | None, now: datetime) -> Signature:
    """Return what a signature with a time is worth: a wrong one is wrong, whatever its time."""
    if not right:
        return Signature.WRONG
    return Signature.VALID if at is not None and abs(now - at) <= TOLERANCE else Signature.STALE


def seconds(text: str) -> datetime | None:
    """Return the moment of a Unix time in seconds; None if it is none."""
    return _EPOCH + timedelta(seconds=int(text)) if _SECONDS.fullmatch(text) and int(text) < 2**36 else None


def raw(text: str) -> bytes:
    """Return the bytes that a header had: those that are not UTF-8 came as halves of characters."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
