"""Any provider that signs the body with a shared secret: header, digest, fields and words are configuration."""

import hashlib
from collections.abc import Mapping
from datetime import datetime

from paidwatch.core.webhook import Reading, Signature, Status
from paidwatch.providers.base import UNKNOWN_WORD, Webhooks, refuse
from paidwatch.providers.configured import metadata_of, price_of, status_of, text_at
from paidwatch.providers.proof import from_base64, from_hex, matches
from paidwatch.providers.settings import ProviderSettings


class Generic(Webhooks):
    """Nothing is known beforehand, so a word that the configuration does not call paid is not."""

    def __init__(self, name: str, settings: ProviderSettings) -> None:
        """Keep how it signs and where it says what."""
        super().__init__(name, settings, frozenset({settings.signing.header} - {""}))
        self._signing = settings.signing
        self._fields = settings.fields
        self._size = hashlib.new(settings.signing.digest).digest_size

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Signature:  # noqa: ARG002 - no time in it
        """Say what the signature is worth: an HMAC over the body."""
        header = headers.get(self._signing.header, "").strip() if self._signing.header else ""
        if refused := refuse(self._keys, header):
            return refused
        if not header.startswith(self._signing.prefix):
            return Signature.MALFORMED
        text = header.removeprefix(self._signing.prefix)
        code = from_base64(text) if self._signing.base64 else from_hex(text, self._size)
        if code is None or len(code) != self._size:
            return Signature.MALFORMED
        found = matches(self._keys, body, (code,), self._signing.digest)
        return Signature.VALID if found else Signature.WRONG

    def read(self, payload: object, headers: Mapping[str, str] | None = None) -> Reading:  # noqa: ARG002 - none counts
        """Return what stands at the configured places."""
        fields = self._fields
        status, said = status_of(payload, fields)
        number, code = price_of(payload, fields)
        return self._reading(
            status=status,
            said=said,
            references=(text_at(payload, fields.reference),),
            event_id=text_at(payload, fields.event),
            order_id=text_at(payload, fields.order),
            metadata=metadata_of(payload, fields),
            amount=number,
            currency=code,
            problem=UNKNOWN_WORD if status is Status.UNKNOWN else "",
        )
