"""Whose webhook it is: published vectors, and the same matrix of attempts for every provider."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from paidwatch.core.webhook import Signature
from paidwatch.errors import ConfigError
from paidwatch.providers import Kind, Provider, ProviderSettings, Signing, build
from tests.providers.signers import (
    KEY,
    NOW,
    OTHER_KEY,
    SIGNATURE_HEADER,
    SIGNERS,
    TIMED,
    body_of,
    provider,
    public_pem,
    stripe,
)

EVERY = pytest.mark.parametrize("kind", list(Kind))
LATER = datetime.fromtimestamp(1614265330, UTC)
"""The time of the published vectors."""


def keyed(kind: Kind, key: str) -> Provider:
    return build(kind.value, ProviderSettings(kind=kind, secrets=(SecretStr(key),)))


# --- Vectors


IPN = b'{"b":2,"a":{"d":4,"c":3}}'


@pytest.mark.parametrize(
    "code",
    [
        (
            "6e427f081c8b22fb49311caf2bab1bc573d5f4ecf9e98bdb37a14c268fd674a9"
            "ea7ba09178114d9be520c3bc39b442e4ca0a910b1df829078cfd5d67c9839845"
        ),
        (
            "c98abe8852c724b7f7287bf42f12699f2949c003cc78c15939e393a0ba00a394"
            "c848c25631fa02f5326682ae7c929cb4590b1504953fab11626e0ad541e18097"
        ),
    ],
    ids=["sorted at every level", "the old replacer"],
)
@pytest.mark.parametrize("key", ["test-ipn-secret", " test-ipn-secret\r\n"], ids=["plain", "to be trimmed"])
def test_nowpayments_vectors(code: str, key: str) -> None:
    ours = keyed(Kind.NOWPAYMENTS, key)
    assert ours.verify({"x-nowpayments-sig": code}, IPN, NOW) is Signature.VALID
    assert ours.verify({"x-nowpayments-sig": code}, IPN.replace(b"2", b"3"), NOW) is Signature.WRONG


def test_standard_webhooks_vector() -> None:
    ours = keyed(Kind.STANDARD_WEBHOOKS, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v2,bm9uc2Vuc2U= v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1a,more",
    }
    body = b'{"test": 2432232314}'
    assert ours.verify(headers, body, LATER) is Signature.VALID
    assert ours.verify({**headers, "webhook-id": "msg_other"}, body, LATER) is Signature.WRONG
    for version in ("v1a", "v2", "V1", ""):
        other = {**headers, "webhook-signature": f"{version},g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}
        assert ours.verify(other, body, LATER) is Signature.MALFORMED
    renamed = {name.replace("webhook", "svix"): value for name, value in headers.items()}
    assert ours.verify(renamed, body, LATER) is Signature.VALID
    mixed = {"webhook-id": "msg_other", **renamed}
    assert ours.verify(mixed, body, LATER) is Signature.VALID
    assert ours.read({}, mixed).event_id == "msg_p5jXN8AQM9LWM0D4loKWxJek", "the id that was signed"


def test_stripe_vector() -> None:
    ours = keyed(Kind.STRIPE, "whsec_test_secret")
    body = (
        b'{\n  "id": "evt_test_webhook",\n  "object": "event",\n'
        b'  "data": { "object": { "id": "rdr_123", "object": "terminal.reader" } }\n}'
    )
    code = "117f2d4aa1697fc9f837f2feca4e5e23ec790ffa7b6b669073d3677ae48c4b5f"
    assert ours.verify({"stripe-signature": f"t=1614265330,v1={code}"}, body, LATER) is Signature.VALID
    several = f"t=1614265330,v1={'0' * 64},v1=short,v1={code},v0={'0' * 64}"
    assert ours.verify({"stripe-signature": several}, body, LATER) is Signature.VALID
    for_another_scheme = f"t=1614265330,v0={code}"
    assert ours.verify({"stripe-signature": for_another_scheme}, body, LATER) is Signature.MALFORMED
    two_times = f"t=1614265330,t=1614265331,v1={code}"
    assert ours.verify({"stripe-signature": two_times}, body, LATER) is Signature.MALFORMED


def test_coinbase_business_takes_either_of_its_two_codes() -> None:
    ours = keyed(Kind.COINBASE_BUSINESS, "test-secret")
    stamp, body = int(NOW.timestamp()), b'{"id":"c"}'
    plain = stripe("test-secret", body, NOW)["stripe-signature"].split("v1=")[1].split(",")[0]
    header = f"t={stamp},v0={plain},h=content-type x-event-id,v1={'0' * 64}"
    headers = {"x-hook0-signature": header, "content-type": "application/json", "x-event-id": "e"}
    assert ours.verify(headers, body, NOW) is Signature.VALID
    assert ours.verify({"x-hook0-signature": f"t={stamp},v1={plain},h="}, body, NOW) is Signature.WRONG
    assert ours.verify({"x-hook0-signature": f"t={stamp},v0={plain},v0={plain}"}, body, NOW) is Signature.MALFORMED


def test_coinbase_business_binds_the_listed_headers() -> None:
    headers = SIGNERS[Kind.COINBASE_BUSINESS](KEY, b"{}", NOW)
    ours = provider(Kind.COINBASE_BUSINESS, KEY)
    assert ours.verify(headers, b"{}", NOW) is Signature.VALID
    assert ours.verify({**headers, "x-event-id": "evt-2"}, b"{}", NOW) is Signature.WRONG
    assert ours.kept_headers >= {"x-event-id", "x-event-type", "content-type"}, "or nobody can verify it again"


# --- The same for every provider


@EVERY
def test_a_genuine_one_is_valid(kind: Kind) -> None:
    headers = SIGNERS[kind](KEY, body_of(kind), NOW)
    assert provider(kind, KEY).verify(headers, body_of(kind), NOW) is Signature.VALID


@EVERY
def test_every_header_that_is_needed_is_kept(kind: Kind) -> None:
    ours = provider(kind, KEY)
    headers = SIGNERS[kind](KEY, body_of(kind), NOW)
    kept = {name: value for name, value in headers.items() if name in ours.kept_headers}
    assert ours.verify(kept, body_of(kind), NOW) is Signature.VALID
    assert all(name == name.lower() for name in ours.kept_headers)


@EVERY
def test_without_a_secret_nothing_is_valid(kind: Kind) -> None:
    headers = SIGNERS[kind](KEY, body_of(kind), NOW)
    for keys in ((), ("",), (" \n",)) if kind is not Kind.BINANCE_PAY else ((),):
        assert provider(kind, *keys).verify(headers, body_of(kind), NOW) is Signature.NO_SECRET
        assert provider(kind, *keys).verify({}, body_of(kind), NOW) is Signature.NO_SECRET


@EVERY
def test_without_a_signature_nothing_is_valid(kind: Kind) -> None:
    headers = SIGNERS[kind](KEY, body_of(kind), NOW)
    for blank in ("", "  "):
        unsigned = {**headers, SIGNATURE_HEADER[kind]: blank}
        assert provider(kind, KEY).verify(unsigned, body_of(kind), NOW) is Signature.NO_HEADER
    assert provider(kind, KEY).verify({}, body_of(kind), NOW) is Signature.NO_HEADER


@EVERY
def test_the_key_of_somebody_else_is_wrong(kind: Kind) -> None:
    headers = SIGNERS[kind](OTHER_KEY, body_of(kind), NOW)
    assert provider(kind, KEY).verify(headers, body_of(kind), NOW) is Signature.WRONG


@EVERY
def test_old_keys_are_accepted_as_long_as_they_are_configured(kind: Kind) -> None:
    headers = SIGNERS[kind](OTHER_KEY, body_of(kind), NOW)
    assert provider(kind, KEY, OTHER_KEY).verify(headers, body_of(kind), NOW) is Signature.VALID
    assert provider(kind, OTHER_KEY, KEY).verify(headers, body_of(kind), NOW) is Signature.VALID


@EVERY
def test_another_body_is_wrong(kind: Kind) -> None:
    headers = SIGNERS[kind](KEY, body_of(kind), NOW)
    for body in (body_of(kind) + b" x", body_of(kind)[:-1], b"", body_of(kind).replace(b":", b": 1", 1)):
        assert provider(kind, KEY).verify(headers, body, NOW) is Signature.WRONG


@EVERY
@pytest.mark.parametrize(
    "text",
    [
        "x",
        "0",
        "zz" * 64,
        "f" * 127,
        "f" * 129,
        "é" * 64,
        "\udce9" * 128,
        "t=1",
        "v1,",
        "v1=",
        ",",
        "=",
        "null",
        "\u0661" * 64,
    ],
)
def test_what_is_no_signature_has_a_name(kind: Kind, text: str) -> None:
    headers = {**SIGNERS[kind](KEY, body_of(kind), NOW), SIGNATURE_HEADER[kind]: text}
    assert provider(kind, KEY).verify(headers, body_of(kind), NOW) in {Signature.MALFORMED, Signature.WRONG}


@pytest.mark.parametrize("kind", TIMED)
@pytest.mark.parametrize("seconds", [-301, -300, 0, 300, 301])
def test_a_signature_counts_for_five_minutes_either_way(kind: Kind, seconds: int) -> None:
    headers = SIGNERS[kind](KEY, body_of(kind), NOW + timedelta(seconds=seconds))
    expected = Signature.VALID if abs(seconds) <= 300 else Signature.STALE
    assert provider(kind, KEY).verify(headers, body_of(kind), NOW) is expected
    assert provider(kind, OTHER_KEY).verify(headers, body_of(kind), NOW) is Signature.WRONG


@pytest.mark.parametrize("kind", TIMED)
@pytest.mark.parametrize("stamp", ["", "-1", "1e9", "99999999999999999999", "\u0661", " 1 2", "1773480413.0", "0x1"])
def test_a_time_that_is_none_is_malformed(kind: Kind, stamp: str) -> None:
    headers = SIGNERS[kind](KEY, body_of(kind), NOW)
    stamped = {name: value.replace(str(int(NOW.timestamp())), stamp) for name, value in headers.items()}
    assert provider(kind, KEY).verify(stamped, body_of(kind), NOW) is Signature.MALFORMED


@pytest.mark.parametrize("kind", sorted({*Kind} - {Kind.BINANCE_PAY, Kind.STANDARD_WEBHOOKS}))
def test_capital_digits_are_the_same_digits(kind: Kind) -> None:
    headers = SIGNERS[kind](KEY, body_of(kind), NOW)
    name = SIGNATURE_HEADER[kind]
    marker = {Kind.STRIPE: "v1=", Kind.COINBASE_BUSINESS: "v1=", Kind.GENERIC: "sha256="}.get(kind, "")
    before, code = headers[name].rsplit(marker, 1) if marker else ("", headers[name])
    capital = {**headers, name: before + marker + code.split(",")[0].upper()}
    assert provider(kind, KEY).verify(capital, body_of(kind), NOW) is Signature.VALID


@EVERY
def test_no_key_is_shown(kind: Kind) -> None:
    settings = ProviderSettings(kind=kind, secrets=(SecretStr(KEY),))
    assert KEY not in f"{settings!r} {settings} {build('x', settings)!r}"


@pytest.mark.parametrize(
    ("digest", "base64", "code"),
    [
        ("sha512", False, "a7b3ec2d70a1b9ea0eb1bd1cd5ea3ef5"),
        ("sha384", True, "AAAA"),
    ],
)
def test_a_generic_signature_of_another_size_is_malformed(digest: str, *, base64: bool, code: str) -> None:
    signing = Signing(header="x-sig", digest=digest, base64=base64)
    settings = ProviderSettings(kind=Kind.GENERIC, secrets=(SecretStr("k"),), signing=signing)
    assert build("g", settings).verify({"x-sig": code}, b"{}", NOW) is Signature.MALFORMED


def test_a_key_in_no_base64_is_no_key() -> None:
    headers = SIGNERS[Kind.STANDARD_WEBHOOKS](KEY, b"{}", NOW)
    for key in ("whsec_", "whsec_é", "whsec_!!!!"):
        assert keyed(Kind.STANDARD_WEBHOOKS, key).verify(headers, b"{}", NOW) is Signature.NO_SECRET


def test_a_certificate_that_is_none_is_named() -> None:
    broken = public_pem("a").replace("MII", "NII", 1)
    with pytest.raises(ConfigError, match=r"providers\.shop\.certificate"):
        build("shop", ProviderSettings(kind=Kind.BINANCE_PAY, certificate=broken))
