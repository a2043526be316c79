"""The providers' side: each signs a body as its documentation says, written apart from the code under test."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pydantic import SecretStr

from paidwatch.providers import Kind, Provider, ProviderSettings, Signing, build

NOW = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
KEY = "whsec_" + base64.b64encode(b"the key of all these tests, 32 B").decode()
OTHER_KEY = "whsec_" + base64.b64encode(b"the key of somebody else, 32 B..").decode()
Headers = dict[str, str]


def mac(digest: str, key: bytes, message: bytes) -> hmac.HMAC:
    return hmac.new(key, message, digest)


def nowpayments(key: str, body: bytes, at: datetime) -> Headers:
    text = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {"x-nowpayments-sig": mac("sha512", key.encode(), text.encode()).hexdigest()}


def stripe(key: str, body: bytes, at: datetime) -> Headers:
    stamp = str(int(at.timestamp()))
    code = mac("sha256", key.encode(), f"{stamp}.".encode() + body).hexdigest()
    return {"stripe-signature": f"t={stamp},v1={code},v0=6ffbb59b2300aae63f272406069a9788"}


def coinbase_commerce(key: str, body: bytes, at: datetime) -> Headers:
    return {"x-cc-webhook-signature": mac("sha256", key.encode(), body).hexdigest()}


def coinbase_business(key: str, body: bytes, at: datetime) -> Headers:
    stamp = str(int(at.timestamp()))
    listed = {"content-type": "application/json", "x-event-id": "evt-1", "x-event-type": "checkout.payment.success"}
    names, values = " ".join(listed), ".".join(listed.values())
    bound = mac("sha256", key.encode(), f"{stamp}.{names}.{values}.".encode() + body).hexdigest()
    return {**listed, "x-hook0-signature": f"t={stamp},v0={'0' * 64},h={names},v1={bound}"}


def standard_webhooks(key: str, body: bytes, at: datetime) -> Headers:
    stamp = str(int(at.timestamp()))
    message = f"msg_1.{stamp}.".encode() + body
    code = base64.b64encode(mac("sha256", base64.b64decode(key.removeprefix("whsec_")), message).digest()).decode()
    return {"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": f"v1,{code}"}


def generic(key: str, body: bytes, at: datetime) -> Headers:
    return {"x-signature": "sha256=" + mac("sha256", key.encode(), body).hexdigest()}


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """The key pair of `name`, made for this run."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def public_pem(name: str) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return rsa_key(name).public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def binance_pay(key: str, body: bytes, at: datetime) -> Headers:
    stamp, nonce = str(int(at.timestamp() * 1000)), "a" * 32
    text = f"{stamp}\n{nonce}\n".encode() + body + b"\n"
    code = rsa_key(key).sign(text, padding.PKCS1v15(), hashes.SHA256())
    return {
        "binancepay-timestamp": stamp,
        "binancepay-nonce": nonce,
        "binancepay-signature": base64.b64encode(code).decode(),
        "binancepay-certificate-sn": hashlib.md5(public_pem(key).encode()).hexdigest(),
    }


SIGNERS: Mapping[Kind, Callable[[str, bytes, datetime], Headers]] = {
    Kind.NOWPAYMENTS: nowpayments,
    Kind.STRIPE: stripe,
    Kind.COINBASE_COMMERCE: coinbase_commerce,
    Kind.COINBASE_BUSINESS: coinbase_business,
    Kind.STANDARD_WEBHOOKS: standard_webhooks,
    Kind.BINANCE_PAY: binance_pay,
    Kind.GENERIC: generic,
}
SIGNATURE_HEADER: Mapping[Kind, str] = {
    Kind.NOWPAYMENTS: "x-nowpayments-sig",
    Kind.STRIPE: "stripe-signature",
    Kind.COINBASE_COMMERCE: "x-cc-webhook-signature",
    Kind.COINBASE_BUSINESS: "x-hook0-signature",
    Kind.STANDARD_WEBHOOKS: "webhook-signature",
    Kind.BINANCE_PAY: "binancepay-signature",
    Kind.GENERIC: "x-signature",
}
TIMED = (Kind.STRIPE, Kind.COINBASE_BUSINESS, Kind.STANDARD_WEBHOOKS)
"""Those whose signatures grow old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """A body that says paid, and the word in it that does."""

    body: bytes
    word: bytes


ORDER = "winu_sub_7_vip_elite_1773480413"
PAID: Mapping[Kind, Paid] = {
    Kind.NOWPAYMENTS: Paid(
        body=(
            b'{"payment_id":5524759814,"payment_status":"finished","price_amount":29.99,"price_currency":"usd",'
            b'"order_id":"%s","parent_payment_id":null,"fee":{"currency":"btc","depositFee":0.1}}' % ORDER.encode()
        ),
        word=b"finished",
    ),
    Kind.STRIPE: Paid(
        body=(
            b'{"id":"evt_1","type":"checkout.session.completed","created":1773480413,"data":{"object":{"id":"cs_1",'
            b'"payment_intent":"pi_1","payment_status":"paid","amount_total":2999,"currency":"usd",'
            b'"client_reference_id":"%s"}}}' % ORDER.encode()
        ),
        word=b'"paid"',
    ),
    Kind.COINBASE_COMMERCE: Paid(
        body=(
            b'{"id":1,"event":{"id":"24934862","type":"charge:confirmed","created_at":"2026-03-14T09:26:53Z",'
            b'"data":{"id":"charge-1","code":"66BEOV2A","pricing":{"local":{"amount":"29.99","currency":"USD"}},'
            b'"metadata":{"order_id":"%s"},"timeline":[{"status":"NEW"},{"status":"COMPLETED"}]}}}' % ORDER.encode()
        ),
        word=b"charge:confirmed",
    ),
    Kind.COINBASE_BUSINESS: Paid(
        body=(
            b'{"id":"checkout-1","eventType":"checkout.payment.success","status":"COMPLETED","amount":"29.99",'
            b'"currency":"USDC","metadata":{"orderId":"%s"},"updatedAt":"2026-03-14T09:26:53Z"}' % ORDER.encode()
        ),
        word=b"checkout.payment.success",
    ),
    Kind.STANDARD_WEBHOOKS: Paid(
        body=(
            b'{"type":"payment.succeeded","timestamp":"2026-03-14T09:26:53Z","data":{"payment_id":"pay_1",'
            b'"total_amount":2999,"currency":"USD","metadata":{"order_id":"%s"}}}' % ORDER.encode()
        ),
        word=b"payment.succeeded",
    ),
    Kind.BINANCE_PAY: Paid(
        body=(
            b'{"bizType":"PAY","bizId":29383937493038367292,"bizIdStr":"29383937493038367292",'
            b'"bizStatus":"PAY_SUCCESS","data":"{\\"merchantTradeNo\\":\\"%s\\",\\"totalFee\\":29.99,'
            b'\\"currency\\":\\"USDT\\",\\"transactTime\\":1773480413000}"}' % ORDER.encode()
        ),
        word=b"PAY_SUCCESS",
    ),
}


def provider(kind: Kind, *keys: str, name: str = "") -> Provider:
    """A provider with these keys, the newest first."""
    settings = ProviderSettings(
        kind=kind,
        secrets=tuple(map(SecretStr, keys)) if kind is not Kind.BINANCE_PAY else (),
        certificate="\n".join(map(public_pem, keys)) if kind is Kind.BINANCE_PAY else "",
        signing=Signing(header="x-signature", prefix="sha256=") if kind is Kind.GENERIC else Signing(),
    )
    return build(name or kind.value, settings)


def body_of(kind: Kind) -> bytes:
    return PAID[kind].body if kind in PAID else b'{"id":"g-1","status":"done"}'
