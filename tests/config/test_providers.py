"""[providers.NAME]: what is refused, with its place, and what the inside is made of."""

from datetime import timedelta
from pathlib import Path

import pytest

from paidwatch.config import ConfigProblems, Settings, load
from paidwatch.config.providers import ASKABLE, TYPES
from paidwatch.core.orders import DEFAULT_PATTERN
from paidwatch.core.webhook import Signature, Status
from paidwatch.outbound import open_session
from paidwatch.providers import Kind
from paidwatch.providers.apis import ASKABLE as KINDS
from paidwatch.wiring.gateway import apis_of, providers_of
from tests.providers.signers import KEY, NOW, OTHER_KEY, SIGNERS, public_pem


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "paidwatch.toml"
    file.write_text(text)
    return load(file, {"database.dsn": "postgresql://x"}, environ={})


def problem(tmp_path: Path, text: str) -> tuple[int, str, str, str]:
    """Line, key, sentence and remedy of the one thing that is wrong."""
    with pytest.raises(ConfigProblems) as caught:
        read(tmp_path, text)
    (only,) = caught.value.problems
    assert "canary" not in str(caught.value)
    return only.origin.line or 0, only.key, only.what, only.remedy


def test_every_type_there_is_can_be_configured() -> None:
    assert set(TYPES) == {kind.value for kind in Kind}


@pytest.fixture
def with_keys(tmp_path: Path) -> Settings:
    text = "".join(f'[providers.{kind}]\napi_key = "canary"\n' for kind in sorted(ASKABLE))
    return read(tmp_path, f'{text}[providers.mute]\ntype = "stripe"\nmethods = ["card"]\n')


async def test_the_types_that_take_a_key_are_those_that_can_be_asked(with_keys: Settings) -> None:
    async with open_session() as session:
        apis = apis_of(with_keys, session)
    assert set(apis) == ASKABLE == {kind.value for kind in KINDS}
    assert {method for api in apis.values() for method in api.methods} == ASKABLE


def test_the_name_is_the_type_unless_one_is_written(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        f"""
[providers.nowpayments]
secret = "{KEY}"
[providers.coinbase-business]
[providers.polar]
type = "standard_webhooks"
secret = "{KEY}"
old_secrets = ["{OTHER_KEY}"]
[providers.cards]
type = "stripe"
methods = ["Card", "stripe"]
order_pattern = '(\\w+)-(\\w+)-(\\d+)'
forward_headers = ["X-Request-Id"]
""",
    )
    ours = providers_of(settings)
    assert {name: provider.kind for name, provider in ours.items()} == {
        "nowpayments": "nowpayments",
        "coinbase-business": "coinbase_business",
        "polar": "standard_webhooks",
        "cards": "stripe",
    }
    assert ours["cards"].methods == {"card", "stripe"}
    assert ours["nowpayments"].methods == {"nowpayments"}
    assert ours["cards"].kept_headers == {"stripe-signature", "x-request-id"}
    assert ours["cards"].verify({}, b"", NOW) is Signature.NO_SECRET
    for key in (KEY, OTHER_KEY):
        assert ours["polar"].verify(SIGNERS[Kind.STANDARD_WEBHOOKS](key, b"{}", NOW), b"{}", NOW) is Signature.VALID
    nowpayments = settings.providers["nowpayments"]
    assert (nowpayments.order_pattern, nowpayments.forward_give_up) == (DEFAULT_PATTERN, timedelta(days=3))
    order = {"data": {"object": {"client_reference_id": "7-pro-1773480413"}}}
    assert ours["cards"].read(order).plan_id == "pro"


def test_a_generic_provider_is_what_is_written(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        """
[providers.shop]
type = "generic"
secret = "canary"
signature = { header = "X-Sig", prefix = "sha512=", digest = "hmac-sha512", encoding = "base64" }
[providers.shop.fields]
status = "data.0.state"
reference = "id"
paid = ["ok"]
failed = ["no", "never"]
""",
    )
    assert "canary" not in settings.shown()
    (ours,) = providers_of(settings).values()
    assert ours.kept_headers == {"x-sig"}
    reading = ours.read({"id": "1", "data": [{"state": "never"}]})
    assert (reading.status, reading.reference) == (Status.FAILED, "1")
    assert ours.read({"data": [{"state": "ok"}]}).status is Status.PAID
    assert ours.verify({"x-sig": "sha512=AAAA"}, b"", NOW) is Signature.MALFORMED


def test_binance_pay_has_a_certificate(tmp_path: Path) -> None:
    pem = public_pem("a") + public_pem("b")
    (ours,) = providers_of(read(tmp_path, f'[providers.binance_pay]\ncertificate = """\n{pem}"""')).values()
    for key in ("a", "b"):
        assert ours.verify(SIGNERS[Kind.BINANCE_PAY](key, b"{}", NOW), b"{}", NOW) is Signature.VALID
    assert ours.verify(SIGNERS[Kind.BINANCE_PAY]("c", b"{}", NOW), b"{}", NOW) is Signature.WRONG


GROUPS = "write a regular expression with the groups (?P<user>…), (?P<plan>…) and (?P<time>…)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[providers.nowpaments]",
            (1, "providers.nowpaments.type", "is missing, and NAME is none of them", "did you mean nowpayments?"),
        ),
        (
            "[providers.shop]",
            (
                1,
                "providers.shop.type",
                "is missing, and NAME is none of them",
                f"write one of {', '.join(TYPES)}",
            ),
        ),
        (
            '[providers.x]\ntype = "paypal"',
            (2, "providers.x.type", f"must be one of {', '.join(TYPES)}", "write one of them, in quotes"),
        ),
        (
            '[providers.stripe]\norder_pattern = "(a"',
            (2, "providers.stripe.order_pattern", "is not a regular expression", GROUPS),
        ),
        (
            '[providers.stripe]\norder_pattern = "(a)(b)"',
            (2, "providers.stripe.order_pattern", "does not have the three groups", GROUPS),
        ),
        (
            '[providers.stripe]\norder_pattern = "(?P<user>a)(?P<plan>b)(?P<when>c)"',
            (2, "providers.stripe.order_pattern", "does not have the three groups", GROUPS),
        ),
        (
            '[providers.polar]\ntype = "standard_webhooks"\nsecret = "whsec_canary!"',
            (
                3,
                "providers.polar.secret",
                "is not a key in base64",
                "copy it from the provider's dashboard; it may follow whsec_",
            ),
        ),
        (
            '[providers.polar]\ntype = "standard_webhooks"\nold_secrets = [\n"whsec_canary!",\n]',
            (
                4,
                "providers.polar.old_secrets[0]",
                "is not a key in base64",
                "copy it from the provider's dashboard; it may follow whsec_",
            ),
        ),
        (
            '[providers.stripe]\n[providers.cards]\ntype = "stripe"\nmethods = ["Stripe"]',
            (
                4,
                "providers.cards.methods",
                'and providers.stripe both mean the payment method "Stripe"',
                "keep it in one of them",
            ),
        ),
        (
            '[providers.x]\ntype = "generic"',
            (1, "providers.x.signature.header", "is missing", "name the header with the signature"),
        ),
        (
            '[providers.x]\ntype = "generic"\n[providers.x.signature]\nheader = "a b"',
            (4, "providers.x.signature.header", "is not the name of a header", 'write it like "x-signature"'),
        ),
        (
            '[providers.stripe]\n[providers.stripe.signature]\nheader = "x"',
            (
                2,
                "providers.stripe.signature",
                "is not for stripe, whose signatures are known",
                'leave it out, or write type = "generic"',
            ),
        ),
        (
            '[providers.stripe.fields]\npaid = ["x"]',
            (
                1,
                "providers.stripe.fields",
                "is not for stripe, whose webhooks are known",
                'leave it out, or write type = "generic"',
            ),
        ),
        (
            '[providers.polar]\ntype = "standard_webhooks"\n[providers.polar.fields]\npaid = ["x"]\nreversed = ["x"]',
            (5, "providers.polar.fields.reversed", 'and paid both name "x"', "keep it in one of them"),
        ),
        (
            '[providers.polar]\ntype = "standard_webhooks"\n[providers.polar.fields]\nstatus = "a..b"',
            (
                4,
                "providers.polar.fields.status",
                "is not the way to a value",
                'write the keys with dots between them, like "data.object.id" or "items.0.id"',
            ),
        ),
        (
            '[providers.binance_pay]\napi_key = "canary"',
            (
                2,
                "providers.binance_pay.api_key",
                "is not for binance_pay, which cannot be asked about a payment",
                "leave it out",
            ),
        ),
        (
            '[providers.binance_pay]\nsecret = "canary"',
            (
                2,
                "providers.binance_pay.secret",
                "is not for binance_pay, which signs with a certificate",
                "give certificate",
            ),
        ),
        (
            '[providers.binance_pay]\ncertificate = "canary"',
            (
                2,
                "providers.binance_pay.certificate",
                "is not a certificate or public key in PEM",
                'it begins with "-----BEGIN"; give several one after the other',
            ),
        ),
        (
            '[providers.stripe]\nforward_give_up = "0s"',
            (2, "providers.stripe.forward_give_up", "is zero", "it must be longer than nothing"),
        ),
        (
            '[providers.stripe]\nforward_to = "http://shop.example.org/hook"',
            (
                2,
                "providers.stripe.forward_to",
                "would send in clear text over the internet",
                "write https instead of http",
            ),
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, expected: tuple[int, str, str, str]) -> None:
    assert problem(tmp_path, text) == expected


def test_a_certificate_belongs_to_binance_pay(tmp_path: Path) -> None:
    text = f'[providers.stripe]\ncertificate = """{public_pem("a")}"""'
    assert problem(tmp_path, text)[1:3] == (
        "providers.stripe.certificate",
        "is not for stripe, which signs with a secret",
    )
