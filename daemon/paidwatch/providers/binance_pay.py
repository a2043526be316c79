"""Binance Pay: order notifications, signed with the provider's RSA key over time, nonce and body.

The provider names no age at which a notification is too old, so a repeat is recognised as a duplicate, not by its time.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from paidwatch.core.webhook import Reading, Signature, Status
from paidwatch.errors import ConfigError
from paidwatch.providers.base import UNKNOWN_WORD, Webhooks
from paidwatch.providers.parsing import Unreadable, amount, currency, identifier, moment, parse, table, word
from paidwatch.providers.proof import from_base64, raw
from paidwatch.providers.settings import ProviderSettings

TIMESTAMP: Final = "binancepay-timestamp"
NONCE: Final = "binancepay-nonce"
SIGNATURE: Final = "binancepay-signature"
CERTIFICATE: Final = "binancepay-certificate-sn"
SMALLEST_KEY: Final = 2048
"""Bits."""
PARTLY_REFUNDED: Final = "part of it was paid back"
UNREADABLE_DATA: Final = "its data cannot be read"

_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)
_PLAIN: Final = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]{1,16}", re.ASCII)
STATUSES: Final[Mapping[tuple[str, str], Status]] = {
    ("PAY", "PAY_SUCCESS"): Status.PAID,
    ("PAY", "PAY_CLOSED"): Status.FAILED,
    ("PAY_REFUND", "REFUND_SUCCESS"): Status.REVERSED,
}
_NO_MONEY: Final = frozenset({("PAY_REFUND", "REFUND_REJECTED")})


class BinancePay(Webhooks):
    """`data` is a text that is JSON again."""

    signature_headers = frozenset({TIMESTAMP, NONCE, SIGNATURE, CERTIFICATE})

    def __init__(self, name: str, settings: ProviderSettings) -> None:
        """Load the public keys; raises ConfigError for one that is none."""
        super().__init__(name, settings)
        self._public = keys_in(name, settings.certificate)

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Signature:  # noqa: ARG002 - see above
        """Say what the signature is worth: base64 of RSA with SHA-256 over time, nonce and body, each with LF."""
        if not self._public:
            return Signature.NO_SECRET
        header = headers.get(SIGNATURE, "").strip()
        if not header:
            return Signature.NO_HEADER
        stamp, nonce, code = headers.get(TIMESTAMP, ""), headers.get(NONCE, ""), from_base64(header)
        if code is None or not _DIGITS.fullmatch(stamp) or not _PLAIN.fullmatch(nonce):
            return Signature.MALFORMED
        text = b"".join((raw(stamp), b"\n", raw(nonce), b"\n", body, b"\n"))
        found = [_is_signed(key, code, text) for key in self._public]
        return Signature.VALID if any(found) else Signature.WRONG

    def read(self, payload: object, headers: Mapping[str, str] | None = None) -> Reading:  # noqa: ARG002 - none counts
        """Return the notification in canonical words. The merchant's number of the order is what a shop keeps."""
        outer = table(payload)
        data, problem = _data(outer.get("data"))
        kind = (word(outer.get("bizType")), word(outer.get("bizStatus")))
        status = STATUSES.get(kind, Status.UNKNOWN)
        if status is Status.REVERSED and _is_partial(data):
            status, problem = Status.UNKNOWN, problem or PARTLY_REFUNDED
        elif status is Status.UNKNOWN and kind[0].startswith("PAY") and kind not in _NO_MONEY:
            problem = problem or UNKNOWN_WORD
        trade = identifier(data.get("merchantTradeNo"))
        prepay = identifier(outer.get("bizIdStr")) or identifier(outer.get("bizId"), exact=False)
        return self._reading(
            status=status,
            said=" ".join(part for part in kind if part),
            references=(trade, prepay, identifier(data.get("transactionId"))),
            order_id=trade,
            amount=amount(data.get("totalFee")),
            currency=currency(data.get("currency")),
            at=moment(data.get("transactTime")),
            problem=problem,
        )


def keys_in(name: str, pem: str) -> tuple[RSAPublicKey, ...]:
    """Return the keys of the blocks in `pem`; raises ConfigError that names the provider."""
    return tuple(_key(name, block[1], block[0].encode()) for block in _BLOCK.finditer(pem))


def _key(name: str, label: str, block: bytes) -> RSAPublicKey:
    try:
        key = load_pem_x509_certificate(block).public_key() if label == "CERTIFICATE" else load_pem_public_key(block)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey) or key.key_size < SMALLEST_KEY:
        message = f"providers.{name}.certificate holds something that is no RSA key of at least {SMALLEST_KEY} bits"
        raise ConfigError(message, remedy="copy certPublic from the answer of Binance Pay's certificate query")
    return key


def _is_signed(key: RSAPublicKey, code: bytes, text: bytes) -> bool:
    try:
        key.verify(code, text, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


def _data(value: object) -> tuple[Mapping[str, object], str]:
    """Return what the text in `data` says; a log may hold it as an object already."""
    if not isinstance(value, str):
        return table(value), "" if isinstance(value, dict) else UNREADABLE_DATA
    try:
        parsed = parse(value.encode("utf-8"))
    except (Unreadable, UnicodeEncodeError):
        return {}, UNREADABLE_DATA
    return table(parsed), "" if isinstance(parsed, dict) else UNREADABLE_DATA


def _is_partial(data: Mapping[str, object]) -> bool:
    """Return whether a refund is known to be of less than the order."""
    total, back = amount(data.get("totalFee")), amount(table(data.get("refundInfo")).get("refundAmount"))
    return total is not None and back is not None and back < total
